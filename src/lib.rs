//! Takes scanned documents from drop folders and puts them, once each and provably, onto customer profiles in PassFort.

pub mod account;
pub mod api;
pub mod cli;
pub mod clock;
pub mod closing;
pub mod config;
pub mod delivery;
pub mod demo;
pub mod dispatch;
pub mod durable;
pub mod entry;
pub mod inbox;
pub mod intake;
pub mod job;
pub mod manifest;
pub mod nearest;
pub mod outcome;
pub mod pacer;
pub mod problem;
pub mod queue;
pub mod reason;
pub mod receipt;
pub mod retry;
pub mod sandbox;
pub mod service;
pub mod verdict;
