//! The command line: one file a command.

pub mod config_show;
pub mod filter;
pub mod jobs;
pub mod output;
pub mod sandbox;
