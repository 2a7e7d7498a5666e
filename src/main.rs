//! The program `passfort-ingest`: hands the command line to the library and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    passfort_ingest::cli::main(std::env::args_os())
}
