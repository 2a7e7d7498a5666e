//! The command line: one file a command.

pub mod config_show;
pub mod sandbox;
