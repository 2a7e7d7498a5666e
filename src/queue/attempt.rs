//! One try of a job that a worker holds: its small steps, and the one way in which it ends.
//!
//! Every operation is one durable step, on disk when it returns, so that a process may be killed between any two.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, clocks,
    equals::{self, RefusedContent},
    rows,
    transition::{self, Change, Expected, one_job},
};
use crate::{
    clock::{self, Timestamp},
    job::{Creation, WaitReason},
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
    /// The outcome, in one word.
    pub outcome: &'static str,
    /// The API's or the network's own words, where they are worth keeping.
    pub detail: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many bytes of the body went out.
    pub sent_bytes: u64,
    /// The ID that the answer had, also beside an error; kept where the call is not known to have worked.
    pub remote_id: Option<String>,
    /// Of a list that proves an absence: by what.
    pub proof: Option<AbsenceProof>,
}

/// By what a list proves that a document is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsenceProof {
    /// It was asked for at least this long after the end of the call.
    pub bound: Duration,
    /// The ID of the document that had to be shown, there or in the list of another profile, and was.
    pub witness: String,
}

impl Attempt {
    /// What a person said, which is kept among the calls.
    pub(super) const fn by_a_person(operation: &'static str, at: Timestamp) -> Self {
        Self {
            at,
            operation,
            position: None,
            outcome: "done",
            detail: None,
            took_ms: 0,
            sent_bytes: 0,
            remote_id: None,
            proof: None,
        }
    }
}

/// What the recording of an upload's ID found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// All uploads have their IDs; of a document, the intent to create it is on disk as well.
    pub complete: bool,
    /// A person asked to cancel the job.
    pub cancel_asked: bool,
}

/// How a try ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The API has what the job was for; the job has ended well.
    Created {
        /// The ID of the document or file.
        remote_id: String,
    },
    /// It continues later.
    PutOff(PutOff),
    /// A stop or a pause, not a failed try: the job is as ready as before.
    GiveBack {
        /// How far the document has come.
        creation: Creation,
    },
    /// The API refused it, or its tries are used up.
    Refused {
        /// Why.
        reason: String,
        /// In full, for the receipt.
        problems: Vec<Problem>,
    },
    /// A person asked to cancel it.
    Cancelled,
    /// A person must decide.
    Held {
        /// Why.
        reason: String,
        /// How far the document has come.
        creation: Creation,
    },
}

/// Why a job is put off, and what is known by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff {
    /// What it waits for.
    pub waits: WaitReason,
    /// The same for a person, with the API's own words where there are any.
    pub reason: String,
    /// Until when.
    pub due: Timestamp,
    /// Failed tries so far.
    pub attempts: u32,
    /// How long they took, with the waits between them, in milliseconds.
    pub tried_ms: u64,
    /// The same of waiting for a file.
    pub file_ms: u64,
    /// How far the document has come.
    pub creation: Creation,
    /// When the call that may have created the document ended, if there was one.
    pub sent_at: Option<i64>,
    /// The clock offset in force when `sent_at` was taken; see [`clock::moved_ms`].
    pub clock_ms: i64,
}

/// What a try leaves to be recorded, however it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The positions of uploads whose answers were lost.
    pub lost: Vec<u32>,
    /// The calls that were made.
    pub attempts: Vec<Attempt>,
    /// What the API refused for good, whoever asks for it.
    pub refused: Option<RefusedContent>,
}

impl End {
    /// The name of its commit in [`killpoint`](crate::killpoint).
    const fn step(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::PutOff(_) => "put_off",
            Self::GiveBack { .. } => "give_back",
            Self::Refused { .. } => "refuse",
            Self::Cancelled => "cancelled",
            Self::Held { .. } => "hold",
        }
    }

    /// What it means for the job's row. `moved_ms` is by how much the clock had been moved when the try ended.
    fn change(&self, moved_ms: i64) -> Change<'_> {
        match self {
            Self::Created { remote_id } => Change::Created { remote_id },
            Self::PutOff(put_off) => {
                // The clock may have been moved since, by a command before this one on the same thread: that one moved
                // what is recorded, and only here is it certain whether it did.
                let moved = clock::moved_ms();
                Change::PutOff {
                    waits: put_off.waits,
                    reason: &put_off.reason,
                    due: put_off.due.0.saturating_add(moved - moved_ms),
                    attempts: put_off.attempts,
                    tried_ms: put_off.tried_ms,
                    file_ms: put_off.file_ms,
                    creation: put_off.creation,
                    // Recorded is when it was meant to be sent; that may have been long before.
                    sent_at: put_off.sent_at.map(|at| at.saturating_add(moved - put_off.clock_ms)),
                }
            }
            Self::GiveBack { creation } => Change::GaveBack { creation: *creation },
            Self::Refused { reason, problems } => Change::Refused { reason, problems },
            Self::Cancelled => Change::Cancelled,
            Self::Held { reason, creation } => Change::Held { reason, creation: Some(*creation) },
        }
    }
}

impl Queue {
    /// Ends a try of a job that this process holds, and records what it left.
    ///
    /// # Errors
    ///
    /// [`QueueError::Gone`] where this process does not hold the job, else those of the database.
    pub async fn end_try(&self, job_id: i64, end: End, evidence: Evidence, now: Timestamp) -> Result<(), QueueError> {
        let (holder, moved_ms) = (self.holder(), clock::moved_ms());
        self.run(end.step(), move |connection| {
            count_lost(connection, job_id, &evidence.lost)?;
            evidence.attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))?;
            if let (End::Refused { problems, .. }, Some(refused)) = (&end, &evidence.refused) {
                equals::note_images(connection, job_id, &refused.images)?;
                equals::end_equals(connection, job_id, problems, now)?;
            }
            transition::apply(connection, Expected::running(job_id, &holder), &end.change(moved_ms), now)?;
            Ok(())
        })
        .await
    }

    /// How often in a row, up to the latest try, a call of a job ended with this outcome, `most` at most, and when that
    /// began, by the clock as it is now.
    pub(crate) async fn in_a_row(
        &self,
        job_id: i64,
        (operation, position): (&'static str, Option<u32>),
        outcome: &'static str,
        most: u32,
    ) -> Result<(u32, Option<Timestamp>), QueueError> {
        self.run("in_a_row", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, at, outcome FROM attempt WHERE job_id = ?1 AND operation = ?2 AND position IS ?3
                  ORDER BY id DESC LIMIT ?4",
            )?;
            let mut rows = statement.query(params![job_id, operation, position, most])?;
            let (mut times, mut oldest) = (0, None);
            while let Some(row) = rows.next()? {
                if row.get::<_, String>(2)? != outcome {
                    break;
                }
                (times, oldest) = (times + 1, Some((row.get(0)?, row.get(1)?)));
            }
            Ok((times, oldest.map(|(id, at)| clocks::by_clock_now(connection, id, at)).transpose()?))
        })
        .await
    }

    /// Records the ID of an upload. With the last of a document's, and where `intend_too` says that the document may be
    /// sent at once, the intent to create it is recorded in the same commit.
    pub(crate) async fn upload_stored(
        &self,
        job_id: i64,
        position: u32,
        remote_id: String,
        intend_too: bool,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<Stored, QueueError> {
        let holder = self.holder();
        self.run("upload_stored", move |connection| {
            store_id(connection, job_id, position, &remote_id)?;
            note(connection, job_id, &attempt)?;
            let missing: bool = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM upload WHERE job_id = ?1 AND remote_id IS NULL)")?
                .query_row([job_id], |row| row.get(0))?;
            let cancel_asked = is_cancel_asked(connection, job_id, &holder)?;
            if intend_too && !missing && !cancel_asked {
                intend(connection, job_id, &holder, now)?;
            }
            Ok(Stored { complete: !missing, cancel_asked })
        })
        .await
    }

    /// Records the intent to create a document. Returns whether a person asked to cancel instead.
    pub(crate) async fn intend(&self, job_id: i64, now: Timestamp) -> Result<bool, QueueError> {
        let holder = self.holder();
        self.run("intend", move |connection| {
            let cancel_asked = is_cancel_asked(connection, job_id, &holder)?;
            if !cancel_asked {
                intend(connection, job_id, &holder, now)?;
            }
            Ok(cancel_asked)
        })
        .await
    }

    /// Records the ID of a file; its job has ended well.
    pub(crate) async fn file_created(
        &self,
        job_id: i64,
        position: u32,
        remote_id: String,
        attempt: Attempt,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        let holder = self.holder();
        self.run("file_created", move |connection| {
            store_id(connection, job_id, position, &remote_id)?;
            note(connection, job_id, &attempt)?;
            let created = Change::Created { remote_id: &remote_id };
            transition::apply(connection, Expected::running(job_id, &holder), &created, now)?;
            Ok(())
        })
        .await
    }

    /// Records that a document whose answer was lost was certainly not created, so that it may be sent again.
    pub(crate) async fn absent(&self, job_id: i64, attempts: Vec<Attempt>) -> Result<(), QueueError> {
        let holder = self.holder();
        self.run("absent", move |connection| {
            let changed = connection
                .prepare_cached(
                    "UPDATE job SET creation = 'none', sent_at = NULL, doubts = 0, unseen_at = NULL
                      WHERE id = ?1 AND state = 'running' AND holder = ?2",
                )?
                .execute(params![job_id, holder])?;
            one_job(changed, job_id)?;
            attempts.iter().try_for_each(|attempt| note(connection, job_id, attempt))
        })
        .await
    }

    /// Holds a job whose worker died of a defect: an operator decides, since it would only die again. One whose try had
    /// ended by then stays as it is.
    pub(crate) async fn abandoned(&self, job_id: i64, now: Timestamp) -> Result<(), QueueError> {
        let holder = self.holder();
        self.run("abandoned", move |connection| {
            let held: bool = connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND state = 'running' AND holder = ?2)",
                params![job_id, holder],
                |row| row.get(0),
            )?;
            if held {
                let reason = format!("its worker died of a defect; see the log of {now}");
                let change = Change::Held { reason: &reason, creation: None };
                transition::apply(connection, Expected::running(job_id, &holder), &change, now)?;
            }
            Ok(())
        })
        .await
    }
}

fn is_cancel_asked(connection: &Connection, job_id: i64, holder: &str) -> Result<bool, QueueError> {
    connection
        .prepare_cached("SELECT cancel_asked FROM job WHERE id = ?1 AND state = 'running' AND holder = ?2")?
        .query_row(params![job_id, holder], |row| row.get(0))
        .optional()?
        .ok_or(QueueError::Gone { what: "job", id: job_id })
}

/// No document is sent before its intent is on disk, so a row that is not there is an error.
fn intend(connection: &Connection, job_id: i64, holder: &str, now: Timestamp) -> Result<(), QueueError> {
    let changed = connection
        .prepare_cached(
            "UPDATE job SET creation = 'intended', sent_at = ?2
              WHERE id = ?1 AND state = 'running' AND holder = ?3 AND kind = 'document'",
        )?
        .execute(params![job_id, now.0, holder])?;
    one_job(changed, job_id)
}

fn store_id(connection: &Connection, job_id: i64, position: u32, remote_id: &str) -> Result<(), QueueError> {
    let changed = connection
        .prepare_cached("UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2 AND remote_id IS NULL")?
        .execute(params![job_id, position, remote_id])?;
    one_job(changed, job_id)
}

pub(super) fn note(connection: &Connection, job_id: i64, attempt: &Attempt) -> Result<(), QueueError> {
    // The ID of a call that worked is in the row of its upload or job: kept here as well, it is a twelfth of the database.
    let remote_id = attempt.remote_id.as_ref().filter(|_| attempt.outcome != "done");
    connection
        .prepare_cached(
            "INSERT INTO attempt (job_id, at, operation, position, outcome, detail, took_ms, sent_bytes, remote_id,
                                  bound_ms, witness)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            job_id,
            attempt.at.0,
            attempt.operation,
            attempt.position,
            attempt.outcome,
            attempt.detail,
            rows::signed(attempt.took_ms),
            rows::signed(attempt.sent_bytes),
            remote_id,
            attempt
                .proof
                .as_ref()
                .map(|proof| rows::signed(u64::try_from(proof.bound.as_millis()).unwrap_or(u64::MAX))),
            attempt.proof.as_ref().map(|proof| &proof.witness),
        ])?;
    if let (Some(id), "create_document", "lost") = (&attempt.remote_id, attempt.operation, attempt.outcome) {
        connection.prepare_cached("UPDATE job SET answered_id = ?2 WHERE id = ?1")?.execute(params![job_id, id])?;
    }
    Ok(())
}

/// Counts that the answers to these uploads were lost: each may have left something at the API.
pub(super) fn count_lost(connection: &Connection, job_id: i64, lost: &[u32]) -> Result<(), QueueError> {
    let mut statement =
        connection.prepare_cached("UPDATE upload SET lost = lost + 1 WHERE job_id = ?1 AND position = ?2")?;
    for position in lost {
        one_job(statement.execute(params![job_id, position])?, job_id)?;
    }
    Ok(())
}
