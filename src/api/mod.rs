//! The client of the PassFort API: it sends one call and says exactly what came back.
//!
//! It judges nothing and repeats nothing: an [`Exchange`](crate::exchange::Exchange) is what happened on the wire, and
//! [`outcome`](crate::outcome::outcome) says what that means. Invariants: a body whose file has changed never leaves
//! whole, whether a whole body was handed over is always known, and no wait is without an end.

pub mod body;
pub mod client;
mod fault;
mod frames;
pub mod limits;
pub mod progress;
mod source;
mod transfer;

pub use client::{Client, ClientError, ClientSettings, DocumentRequest, UploadSource};
