//! What a person's command came to for one job, and what all such commands look at first.

use rusqlite::{Connection, OptionalExtension};

use super::{QueueError, rows};
use crate::job::JobState;

/// The result of a command for one job.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CommandOutcome {
    /// The job.
    pub job: i64,
    /// Whether it was done.
    pub done: bool,
    /// What was done, or why not.
    pub message: String,
}

pub(super) fn state_of(connection: &Connection, job_id: i64) -> Result<Option<JobState>, QueueError> {
    let word: Option<String> = connection
        .prepare_cached("SELECT state FROM job WHERE id = ?1")?
        .query_row([job_id], |row| row.get(0))
        .optional()?;
    word.map(|word| JobState::parse(&word).ok_or_else(|| rows::unreadable("a job's state", &word))).transpose()
}

pub(super) fn unknown(job_id: i64) -> CommandOutcome {
    CommandOutcome { job: job_id, done: false, message: "there is no such job".into() }
}

/// The answer where a job cannot be sent on yet: where its files will be is known only once all of them are there.
pub(super) fn moving(connection: &Connection, job_id: i64) -> Result<Option<CommandOutcome>, QueueError> {
    let moving: bool = connection
        .prepare_cached(
            "SELECT batch.state = 'published' FROM batch JOIN job ON batch.id = job.batch_id WHERE job.id = ?1",
        )?
        .query_row([job_id], |row| row.get(0))?;
    let message = "cannot be changed now: its manifest's files are being moved away; try again when they are";
    Ok(moving.then(|| CommandOutcome { job: job_id, done: false, message: message.into() }))
}
