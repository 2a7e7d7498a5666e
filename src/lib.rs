//! Takes scanned documents from drop folders and puts them, once each and provably, onto customer profiles in PassFort.

pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod durable;
pub mod entry;
pub mod inbox;
pub mod job;
pub mod manifest;
pub mod nearest;
pub mod outcome;
pub mod problem;
pub mod queue;
pub mod retry;
pub mod sandbox;
