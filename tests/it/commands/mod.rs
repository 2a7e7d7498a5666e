//! What each command prints, writes and ends with.

mod beside_a_daemon;
mod check;
mod demo;
mod http;
mod import;
mod queue_control;
mod readme;
mod run_once;
mod snapshots;
mod verify;
