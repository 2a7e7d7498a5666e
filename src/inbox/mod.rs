//! The drop folder: what is in it, read below its root only.
//!
//! All files here are untrusted. Nothing follows a link, waits for a FIFO, or trusts a name; what a file is gets
//! decided on its opened descriptor, so that it cannot become another one in between.

pub mod beneath;

pub mod archive;
pub mod examine;
pub mod ground;
pub mod hints;
pub mod known_folders;
pub mod lease;
mod mount;
pub mod near;
pub mod scan;
pub mod scan_rules;
pub mod take;
pub mod watch;
pub mod writers;
