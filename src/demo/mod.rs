//! What `demo` shows: a small drop with real little images, told as it is worked on, and what came of it.
//!
//! Everything here is made up and deterministic. What runs on it is the real service against the sandbox: this module
//! neither sends nor queues anything.

pub mod folder;
pub mod live;
pub mod report;
