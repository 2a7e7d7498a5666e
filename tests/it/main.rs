//! Black-box tests: the real program, real files, and real sockets, against the stand-in for the API.
//!
//! They assert what a user would notice, as the interface promises it: receipts, where files end up, exit codes, and
//! what the API was sent. They know nothing of how the program works inside; its unit tests do.
//!
//! Each test has its own folders, database, stand-in, and processes, so that they run side by side. Nothing waits for
//! a fixed time: a condition is polled, and a deadline fails the test.

// The modules are marked as tests so that the lints for tests hold for their helpers too.
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod check;
#[cfg(test)]
mod clock_jumps;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod complete;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damaged;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod duplicates;
#[cfg(test)]
mod fair;
#[cfg(test)]
mod fault_table;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod import;
#[cfg(test)]
mod inotify;
#[cfg(test)]
mod kill_points;
#[cfg(test)]
mod limit;
#[cfg(test)]
mod mended;
#[cfg(test)]
mod model;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod noticed;
#[cfg(test)]
mod once;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod path;
#[cfg(test)]
mod pausing;
#[cfg(test)]
mod put_away;
#[cfg(test)]
mod race;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod sftp;
#[cfg(test)]
mod side_by_side;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls_faults;
#[cfg(test)]
mod verify;
