//! The client of the PassFort API: it sends one call and reports exactly what came back.
//!
//! It neither interprets nor retries: an [`Exchange`](crate::exchange::Exchange) is what happened on the wire, and
//! [`outcome`](crate::outcome::outcome) classifies it. Invariants: a body whose file has changed is never sent
//! completely, whether a complete body was handed over is always known, and every wait has a timeout.

pub mod body;
pub mod client;
mod fault;
mod frames;
pub mod limits;
mod own_key;
mod pages;
pub mod progress;
mod sieve;
mod source;
mod transfer;
pub(crate) mod webhook;

pub use client::{Client, ClientError, ClientSettings, DocumentRequest, LargeList, ListExchange, UploadSource};
