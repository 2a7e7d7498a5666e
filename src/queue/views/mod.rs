//! Read-only views of the queue: each is a method of [`Reader`](super::Reader).

pub mod causes;
pub mod created;
pub mod crosswalk;
mod filter;
mod history;
pub mod jobs;
pub mod lists;
pub mod numbers;
pub mod overview;
pub mod progress;
pub mod receipt;
pub mod search;
mod similar;
pub mod trace;
pub mod waiting;
pub mod work_left;

pub use filter::Filter;
