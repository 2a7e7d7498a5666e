//! What the queue says to whoever reads it: each view is a method of [`Reader`](super::Reader).

pub mod created;
pub mod crosswalk;
mod filter;
pub mod jobs;
pub mod numbers;
pub mod overview;
pub mod progress;
pub mod receipt;
pub mod trace;

pub use filter::Filter;
