//! `backup`: a consistent copy of the queue.

use std::path::PathBuf;

use super::output::{self, Exit, QueueContext, escape};
use crate::{clock::Timestamp, queue::backup::backup};

/// Write a consistent copy of the queue to a new file, also beside a working daemon.
///
/// No worker begins with the copy before `adopt` has found out what was created since: see "Backup and restore" in the
/// README.
#[derive(Debug, clap::Args)]
#[command(after_help = "E.g. each night:\n  passfort-ingest backup /var/backups/queue-$(date +%F).db")]
pub struct BackupArgs {
    /// The new file; one that is there is left as it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// Where there is no queue, the file is there already or cannot be written; those of the database.
pub fn run(args: &BackupArgs, context: &QueueContext) -> anyhow::Result<Exit> {
    let now = Timestamp::now();
    backup(&context.database, &args.file, now)?;
    output::on_streams(|output| {
        writeln!(output.out, "{} has the queue as it was at {now}", escape(&args.file.display().to_string()))?;
        Ok(Exit::Well)
    })
}
