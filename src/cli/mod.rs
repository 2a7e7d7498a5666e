//! The command line: one file a command.

pub mod act;
pub mod config_show;
pub mod export;
pub mod filter;
pub mod jobs;
pub mod meta;
pub mod output;
pub mod sandbox;
pub mod show;
pub mod status;
pub mod why;
