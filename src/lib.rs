//! Uploads scanned documents from drop folders to customer profiles in PassFort, each exactly once: intake is
//! idempotent, and a document whose answer was lost is read back before it is sent again.

// Public is what the tests, benchmarks and fuzz targets use; nobody publishes this crate.

pub mod absence;
pub(crate) mod account;
pub(crate) mod alert;
pub mod api;
pub(crate) mod cause;
pub(crate) mod claims;
pub mod cli;
pub mod clock;
pub(crate) mod closing;
pub(crate) mod config;
pub(crate) mod delivery;
pub(crate) mod demo;
pub(crate) mod dispatch;
pub(crate) mod doubt;
pub(crate) mod durable;
pub mod entry;
pub(crate) mod estimate;
pub mod exchange;
pub(crate) mod expected;
pub mod extracted_data;
pub mod file_format;
pub(crate) mod file_identity;
pub(crate) mod finish;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod http;
pub mod inbox;
pub(crate) mod intake;
pub(crate) mod jitter;
pub(crate) mod job;
pub mod killpoint;
pub mod layout;
pub(crate) mod log_throttle;
pub(crate) mod lookalike;
pub mod manifest;
pub(crate) mod manifest_wait;
pub(crate) mod near_path;
pub(crate) mod nearest;
pub(crate) mod notes;
pub mod operation;
pub mod outcome;
pub(crate) mod pacer;
pub(crate) mod partner_text;
pub mod policy;
pub(crate) mod printable;
pub(crate) mod problem;
pub mod queue;
pub(crate) mod reason;
pub(crate) mod receipt;
pub(crate) mod relative_path;
pub(crate) mod retry;
pub mod sandbox;
pub(crate) mod sender_cure;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod status_views;
pub(crate) mod telemetry;
pub(crate) mod verdict;
pub(crate) mod verify;
pub(crate) mod waits;
pub(crate) mod warning;
pub(crate) mod warning_kind;
pub(crate) mod zone;

pub use pacer::concurrency;

#[cfg(test)]
mod exactly_once_tests;
