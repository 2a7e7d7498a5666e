//! What `demo` shows: a small drop with real images, what happens to it, and the result.
//!
//! Everything here is made up and deterministic. What runs on it is the real service against the sandbox: this module
//! neither sends nor queues anything.

pub mod folder;
pub mod live;
pub mod report;
