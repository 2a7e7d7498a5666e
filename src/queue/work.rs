//! What a worker does with jobs: takes them, records each step, and lets go of them.
//!
//! Every function here is one durable step, on disk when it returns, so that a process may be killed between any two.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Queue, QueueError, admit, rows, settle};
use crate::{
    clock::{self, Timestamp},
    job::{Creation, Job, JobEvent, JobState, Waits},
    problem::Problem,
};

/// One call to the API, as it is kept for `show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// Which call.
    pub operation: &'static str,
    /// Of an upload: which.
    pub position: Option<u32>,
    /// How it came out, in one word.
    pub outcome: &'static str,
    /// What the API or the network said, where that is worth keeping.
    pub detail: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many bytes of the body went out.
    pub sent_bytes: u64,
}

/// What the recording of an upload's ID found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// All uploads have their IDs; of a document, the intent to create it is on disk as well.
    pub complete: bool,
    /// A person asked to cancel the job.
    pub cancel_asked: bool,
}

/// What a worker could do now, or soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// All drops by number and name, and whether they have jobs ready.
    pub drops: Vec<(i64, String, bool)>,
    /// When the next waiting job is due.
    pub next_due: Option<Timestamp>,
}

/// Why a job is put off, and what is known by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff {
    /// What it waits for.
    pub waits: Waits,
    /// The same for a person, with the API's own words where there are any.
    pub reason: String,
    /// Until when.
    pub due: Timestamp,
    /// Failed tries so far.
    pub attempts: u32,
    /// How long they took, with the waits between them, in milliseconds.
    pub tried_ms: u64,
    /// How far the document has come.
    pub creation: Creation,
    /// The same of waiting for a file.
    pub file_ms: u64,
    /// When the document was sent, if it was, …
    pub sent_at: Option<i64>,
    /// … by a clock that had been moved by so much.
    pub clock_ms: i64,
    /// Whether some answer came, so that the API is done with the request.
    pub loss_answered: bool,
    /// Uploads whose answers were lost.
    pub lost: Vec<u32>,
}

/// Takes ready jobs, with their uploads and the place of their files.
fn claim(connection: &Connection, drop_id: i64, limit: usize) -> Result<Vec<Job>, QueueError> {
    let mut claimed = Vec::new();
    {
        let sql = format!(
            "UPDATE job SET state = 'running', reason = NULL, due_at = NULL
              WHERE id IN (SELECT id FROM job WHERE state = 'queued' AND drop_id = ?1 ORDER BY id LIMIT ?2)
             RETURNING {}",
            rows::JOB
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![drop_id, admit::signed(limit as u64)])?;
        while let Some(row) = found.next()? {
            claimed.push(rows::job(row)?);
        }
    }
    for job in &mut claimed {
        job.uploads = rows::uploads(connection, job.id)?;
        (job.image_root, job.image_folder) = connection
            .prepare_cached("SELECT image_root, image_folder FROM batch WHERE id = ?1")?
            .query_row([job.batch_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    }
    claimed.sort_by_key(|job| job.id);
    Ok(claimed)
}

fn note(connection: &Connection, job_id: i64, attempt: &Attempt) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "INSERT INTO attempt (job_id, at, operation, position, outcome, detail, took_ms, sent_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            job_id,
            attempt.at.0,
            attempt.operation,
            attempt.position,
            attempt.outcome,
            attempt.detail,
            admit::signed(attempt.took_ms),
            admit::signed(attempt.sent_bytes),
        ])?;
    Ok(())
}

fn one(changed: usize, id: i64) -> Result<(), QueueError> {
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "job", id }) }
}

/// Ends a running (or, for a person, held) job as created.
pub(super) fn finish(
    connection: &Connection,
    job_id: i64,
    from: JobState,
    remote_id: &str,
    now: Timestamp,
) -> Result<(), QueueError> {
    let to = from.after(JobEvent::Created)?;
    let changed = connection
        .prepare_cached(
            "UPDATE job SET state = ?3, waits = NULL, reason = NULL, due_at = NULL, creation = 'none', remote_id = ?4,
                            ended_at = ?5
              WHERE id = ?1 AND state = ?2",
        )?
        .execute(params![job_id, from.as_str(), to.as_str(), remote_id, now.0])?;
    one(changed, job_id)?;
    settle::job_ended(connection, job_id, Some(remote_id), now)
}

/// Ends a job without its document. An intent that came to nothing is forgotten, so that a retry is a creation of its own.
pub(super) fn end_without(
    connection: &Connection,
    job_id: i64,
    from: JobState,
    event: JobEvent,
    reason: &str,
    problems: &[Problem],
    now: Timestamp,
) -> Result<(), QueueError> {
    let to = from.after(event)?;
    let changed = connection
        .prepare_cached(
            "UPDATE job SET state = ?3, waits = NULL, reason = ?4, due_at = NULL, problems = ?5, ended_at = ?6,
                            cancel_asked = 0,
                            creation = CASE creation WHEN 'intended' THEN 'none' ELSE creation END
              WHERE id = ?1 AND state = ?2",
        )?
        .execute(params![job_id, from.as_str(), to.as_str(), reason, admit::json(problems), now.0])?;
    one(changed, job_id)?;
    settle::job_ended(connection, job_id, None, now)
}

/// Ends a job that a person asked to cancel while a worker had it, now that the worker lets go of it. One whose document
/// may stand is asked after first.
pub(super) fn cancel_if_asked(
    connection: &Connection,
    job_id: i64,
    state: JobState,
    now: Timestamp,
) -> Result<(), QueueError> {
    let asked: bool = connection
        .prepare_cached("SELECT cancel_asked AND creation = 'none' FROM job WHERE id = ?1")?
        .query_row([job_id], |row| row.get(0))?;
    if asked {
        end_without(connection, job_id, state, JobEvent::Cancelled, "cancelled by a person", &[], now)?;
    }
    Ok(())
}

impl Queue {
    /// Takes up to `limit` ready jobs of a drop, oldest first. From here on their uploads may be under way.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn claim(&self, drop_id: i64, limit: usize) -> Result<Vec<Job>, QueueError> {
        self.run("claim", move |connection| claim(connection, drop_id, limit)).await
    }

    /// Makes ready what has waited long enough, and says which drops have something ready and when the next is due.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn ready(&self, now: Timestamp) -> Result<Ready, QueueError> {
        self.run("ready", move |connection| {
            connection
                .prepare_cached(
                    "UPDATE job SET state = 'queued', waits = NULL, reason = NULL, due_at = NULL
                      WHERE state = 'waiting' AND due_at IS NOT NULL AND due_at <= ?1",
                )?
                .execute([now.0])?;
            let next: Option<i64> = connection
                .prepare_cached("SELECT min(due_at) FROM job WHERE state = 'waiting' AND due_at IS NOT NULL")?
                .query_row([], |row| row.get(0))?;
            let drops = connection
                .prepare_cached(
                    "SELECT id, name, coalesce(jobs, 0) > 0 FROM drop_folder
                       LEFT JOIN tally ON drop_id = id AND state = 'queued'",
                )?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            Ok(Ready { drops, next_due: next.map(Timestamp) })
        })
        .await
    }

    /// Records the ID of an upload. With the last of a document's, and where `intend_too` says that the document may be
    /// sent at once, the intent to create it is recorded in the same commit.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn upload_stored(
        &self,
        job_id: i64,
        position: u32,
        remote_id: String,
        intend_too: bool,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<Stored, QueueError> {
        self.run("upload_stored", move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2 AND remote_id IS NULL",
                )?
                .execute(params![job_id, position, remote_id])?;
            one(changed, job_id)?;
            note(connection, job_id, &attempt)?;
            let missing: bool = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM upload WHERE job_id = ?1 AND remote_id IS NULL)")?
                .query_row([job_id], |row| row.get(0))?;
            let cancel_asked: bool = connection
                .prepare_cached("SELECT cancel_asked FROM job WHERE id = ?1 AND state = 'running'")?
                .query_row([job_id], |row| row.get(0))
                .optional()?
                .ok_or(QueueError::Gone { what: "job", id: job_id })?;
            if intend_too && !missing && !cancel_asked {
                intend(connection, job_id, now)?;
            }
            Ok(Stored { complete: !missing, cancel_asked })
        })
        .await
    }

    /// Records the intent to create a document. Returns whether a person asked to cancel instead.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn intend(&self, job_id: i64, now: Timestamp) -> Result<bool, QueueError> {
        self.run("intend", move |connection| {
            let cancel: bool = connection
                .prepare_cached("SELECT cancel_asked FROM job WHERE id = ?1 AND state = 'running'")?
                .query_row([job_id], |row| row.get(0))
                .optional()?
                .ok_or(QueueError::Gone { what: "job", id: job_id })?;
            if !cancel {
                intend(connection, job_id, now)?;
            }
            Ok(cancel)
        })
        .await
    }

    /// Records what a job created; it has ended well.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn created(
        &self,
        job_id: i64,
        remote_id: String,
        attempt: Option<Attempt>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("created", move |connection| {
            if let Some(attempt) = &attempt {
                note(connection, job_id, attempt)?;
            }
            finish(connection, job_id, JobState::Running, &remote_id, now)
        })
        .await
    }

    /// Records the ID of a file; its job has ended well.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn file_created(
        &self,
        job_id: i64,
        position: u32,
        remote_id: String,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("file_created", move |connection| {
            connection
                .prepare_cached("UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2")?
                .execute(params![job_id, position, remote_id])?;
            note(connection, job_id, &attempt)?;
            finish(connection, job_id, JobState::Running, &remote_id, now)
        })
        .await
    }

    /// Records that a document whose answer was lost certainly does not stand, so that it may be sent again.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn absent(&self, job_id: i64, attempt: Attempt) -> Result<(), QueueError> {
        self.run("absent", move |connection| {
            let changed = connection
                .prepare_cached("UPDATE job SET creation = 'none', sent_at = NULL WHERE id = ?1 AND state = 'running'")?
                .execute([job_id])?;
            one(changed, job_id)?;
            note(connection, job_id, &attempt)
        })
        .await
    }

    /// Puts a running job off.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_off(&self, job_id: i64, put_off: PutOff, attempts: Vec<Attempt>) -> Result<(), QueueError> {
        let to = JobState::Running.after(JobEvent::PutOff)?;
        let (now, moved_ms) = (Timestamp::now(), clock::moved_ms());
        self.run("put_off", move |connection| {
            // The clock may have been moved between the worker's look at it and this.
            let due = put_off.due.0.saturating_add(clock::moved_ms() - moved_ms);
            // What stands here is when it was meant to be sent; that may have been long before.
            let sent_at = put_off.sent_at.map(|at| at.saturating_add(clock::moved_ms() - put_off.clock_ms));
            let changed = connection
                .prepare_cached(
                    "UPDATE job SET state = ?2, waits = ?3, reason = ?4, due_at = ?5, attempts = ?6, tried_ms = ?7,
                                    creation = ?8, sent_at = coalesce(?9, sent_at), loss_answered = ?10, file_ms = ?11
                      WHERE id = ?1 AND state = 'running'",
                )?
                .execute(params![
                    job_id,
                    to.as_str(),
                    put_off.waits.as_str(),
                    put_off.reason,
                    due,
                    put_off.attempts,
                    admit::signed(put_off.tried_ms),
                    put_off.creation.as_str(),
                    sent_at,
                    put_off.loss_answered,
                    admit::signed(put_off.file_ms),
                ])?;
            one(changed, job_id)?;
            count_lost(connection, job_id, &put_off.lost)?;
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))?;
            cancel_if_asked(connection, job_id, to, now)
        })
        .await
    }

    /// Gives a running job back as it is: a stop or a pause, not a failed try.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn give_back(
        &self,
        job_id: i64,
        creation: Creation,
        lost: Vec<u32>,
        attempts: Vec<Attempt>,
    ) -> Result<(), QueueError> {
        let to = JobState::Running.after(JobEvent::GaveBack)?;
        let now = Timestamp::now();
        self.run("give_back", move |connection| {
            let changed = connection
                .prepare_cached("UPDATE job SET state = ?2, creation = ?3 WHERE id = ?1 AND state = 'running'")?
                .execute(params![job_id, to.as_str(), creation.as_str()])?;
            one(changed, job_id)?;
            count_lost(connection, job_id, &lost)?;
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))?;
            cancel_if_asked(connection, job_id, to, now)
        })
        .await
    }

    /// Ends a running job that the API refused, or whose tries are used up.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn refuse(
        &self,
        job_id: i64,
        reason: String,
        problems: Vec<Problem>,
        lost: Vec<u32>,
        attempts: Vec<Attempt>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("refuse", move |connection| {
            count_lost(connection, job_id, &lost)?;
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))?;
            end_without(connection, job_id, JobState::Running, JobEvent::Refused, &reason, &problems, now)
        })
        .await
    }

    /// Ends a running job that a person asked to cancel.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn cancelled(&self, job_id: i64, attempts: Vec<Attempt>, now: Timestamp) -> Result<(), QueueError> {
        self.run("cancelled", move |connection| {
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))?;
            end_without(connection, job_id, JobState::Running, JobEvent::Cancelled, "cancelled by a person", &[], now)
        })
        .await
    }

    /// Holds a running job until a person decides.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn hold(
        &self,
        job_id: i64,
        reason: String,
        creation: Creation,
        lost: Vec<u32>,
        attempts: Vec<Attempt>,
    ) -> Result<(), QueueError> {
        let to = JobState::Running.after(JobEvent::Held)?;
        self.run("hold", move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE job SET state = ?2, reason = ?3, creation = ?4 WHERE id = ?1 AND state = 'running'",
                )?
                .execute(params![job_id, to.as_str(), reason, creation.as_str()])?;
            one(changed, job_id)?;
            count_lost(connection, job_id, &lost)?;
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))
        })
        .await
    }

    /// Takes back a job whose worker died of a defect: a person looks at it, since it would only die again.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn abandoned(&self, job_id: i64, now: Timestamp) -> Result<(), QueueError> {
        let to = JobState::Running.after(JobEvent::Held)?;
        self.run("abandoned", move |connection| {
            connection.execute(
                "UPDATE job SET state = ?2, reason = 'its worker died of a defect; see the log of ' || ?3,
                                creation = CASE creation WHEN 'none' THEN 'none' ELSE 'unknown' END
                  WHERE id = ?1 AND state = 'running'",
                params![job_id, to.as_str(), now.to_string()],
            )?;
            Ok(())
        })
        .await
    }
}

fn intend(connection: &Connection, job_id: i64, now: Timestamp) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "UPDATE job SET creation = 'intended', sent_at = ?2
              WHERE id = ?1 AND state = 'running' AND kind = 'document'",
        )?
        .execute(params![job_id, now.0])?;
    Ok(())
}

pub(super) fn count_lost(connection: &Connection, job_id: i64, lost: &[u32]) -> Result<(), QueueError> {
    let mut statement =
        connection.prepare_cached("UPDATE upload SET lost = lost + 1 WHERE job_id = ?1 AND position = ?2")?;
    lost.iter().try_for_each(|position| statement.execute(params![job_id, position]).map(drop))?;
    Ok(())
}
