//! The process ends at any moment, by `kill -9` or by a signal, and continues at the next start.

mod kill_points;
mod sigkill;
