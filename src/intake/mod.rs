//! From a manifest in a folder to a batch in the queue.
//!
//! [`examine`] reads a manifest and every file that it names, and reports all that is wrong; it touches neither queue
//! nor network, so that `check` uses the same code. [`admit`] puts what it found into the queue. [`watch`] finds
//! manifests in drops and calls both.
//!
//! Everything here blocks, and runs on threads of its own.

pub mod admit;
pub(crate) mod bad_entries;
pub mod context;
pub(crate) mod cross_check;
pub mod examine;
pub(crate) mod ground;
pub(crate) mod import_context;
pub mod lists;
pub(crate) mod named_files;
pub mod orphans;
pub mod scan_line;
mod spill_map;
mod step;
#[cfg(test)]
mod step_tests;
pub(crate) mod stillness;
pub(crate) mod survey;
pub mod take;
mod unclaimed;
mod unnameable;
pub mod watch;
#[cfg(test)]
mod watch_tests;
