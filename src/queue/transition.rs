//! Changes of a job's state: no other code writes `job.state` of a job that exists.
//!
//! # Invariants
//!
//! - The next state comes from [`JobState::after`], for one job ([`apply`]) and for many ([`all`]).
//! - A change names the state that it starts from and, of a running job, the holder, and changes exactly one row; else it
//!   is refused with [`QueueError::Gone`].
//! - A job is running if and only if it has a holder.
//! - What follows from a change is part of its transaction: the batch's count of open jobs and its end, the jobs that
//!   wait for this one, the identity that a failed replacement gives back.
//!
//! The database refuses the same by a trigger; see `guard`.

use rusqlite::{Connection, ToSql, params, params_from_iter};

use super::{QueueError, causes, rows, similar, trials};
use crate::{
    cause::CauseStatus,
    clock::Timestamp,
    job::{Creation, JobEvent, JobState, WaitReason},
    problem::Problem,
};

/// The job that a change is for, and what its row must say for the change to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    job_id: i64,
    state: JobState,
    holder: Option<&'a str>,
}

impl<'a> Expected<'a> {
    /// A job that nobody holds.
    pub(super) const fn in_state(job_id: i64, state: JobState) -> Self {
        Self { job_id, state, holder: None }
    }

    /// A running job of this holder.
    pub(super) const fn running(job_id: i64, holder: &'a str) -> Self {
        Self { job_id, state: JobState::Running, holder: Some(holder) }
    }
}

/// What happens to a job, with the columns that change along with its state.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Created {
        remote_id: &'a str,
    },
    PutOff {
        waits: WaitReason,
        reason: &'a str,
        due: i64,
        attempts: u32,
        tried_ms: u64,
        file_ms: u64,
        creation: Creation,
        /// `None` keeps what is recorded.
        sent_at: Option<i64>,
    },
    GaveBack {
        creation: Creation,
    },
    Refused {
        reason: &'a str,
        problems: &'a [Problem],
    },
    EqualRefused {
        reason: &'a str,
        problems: &'a [Problem],
    },
    Held {
        reason: &'a str,
        /// `None` where its worker died: what it had begun may have been created.
        creation: Option<Creation>,
    },
    Cancelled,
    Retried {
        /// A person says that the document was not created.
        is_absent: bool,
    },
    /// The document that it created is gone, and is to be created again once a read-back agrees.
    Missed,
    TwinCreated {
        remote_id: &'a str,
    },
    /// The job that it waited for failed or was cancelled, so it takes that one's place.
    Promoted {
        in_place_of: i64,
    },
}

impl Change<'_> {
    const fn event(&self) -> JobEvent {
        match self {
            Self::Created { .. } => JobEvent::Created,
            Self::PutOff { .. } => JobEvent::PutOff,
            Self::GaveBack { .. } => JobEvent::GaveBack,
            Self::Refused { .. } => JobEvent::Refused,
            Self::EqualRefused { .. } => JobEvent::EqualRefused,
            Self::Held { .. } => JobEvent::Held,
            Self::Cancelled => JobEvent::Cancelled,
            Self::Retried { .. } => JobEvent::Retried,
            Self::Missed => JobEvent::Missed,
            Self::TwinCreated { .. } => JobEvent::TwinCreated,
            Self::Promoted { .. } => JobEvent::Due,
        }
    }

    const fn remote_id(&self) -> Option<&str> {
        match self {
            Self::Created { remote_id } | Self::TwinCreated { remote_id } => Some(remote_id),
            _ => None,
        }
    }
}

/// One change of one job; the first four parameters are the same for all.
macro_rules! update {
    ($columns:literal) => {
        concat!(
            "UPDATE job SET state = ?2, holder = NULL, ",
            $columns,
            " WHERE id = ?1 AND state = ?3 AND holder IS ?4"
        )
    };
}

const CREATED: &str =
    update!("waits = NULL, reason = NULL, due_at = NULL, creation = 'none', remote_id = ?5, ended_at = ?6");

const PUT_OFF: &str = update!(
    "waits = ?5, reason = ?6, due_at = ?7, attempts = ?8, tried_ms = ?9, file_ms = ?10, creation = ?11, \
     sent_at = coalesce(?12, sent_at)"
);

const GAVE_BACK: &str = update!("creation = ?5");

/// An intent that was not carried out is discarded, so that a retry is a new creation.
const ENDED_WITHOUT: &str = update!(
    "waits = NULL, reason = ?5, due_at = NULL, problems = ?6, ended_at = ?7, cause = ?8, cancel_asked = 0, \
     creation = CASE creation WHEN 'intended' THEN 'none' ELSE creation END"
);

/// Of an intent, all that is known is that its call has ended by now.
const HELD: &str = update!(
    "waits = NULL, due_at = NULL, reason = ?5, creation = coalesce(?6, CASE creation WHEN 'none' THEN 'none' ELSE 'unknown' END), \
     sent_at = CASE creation WHEN 'intended' THEN ?7 ELSE sent_at END"
);

const RETRIED: &str = update!(
    "waits = NULL, reason = NULL, due_at = NULL, problems = NULL, attempts = 0, tried_ms = 0, file_ms = 0, \
     cancel_asked = 0, ended_at = NULL, creation = CASE WHEN ?5 THEN 'none' ELSE creation END, \
     sent_at = CASE WHEN ?5 THEN NULL ELSE sent_at END, \
     answered_id = CASE WHEN ?5 THEN NULL ELSE answered_id END, doubts = 0, unseen_at = NULL"
);

/// It may exist for all that is known, so it is read back first; its call ended when the job did, at the latest.
const MISSED: &str = update!(
    "attempts = 0, tried_ms = 0, file_ms = 0, cancel_asked = 0, remote_id = NULL, creation = 'unknown', \
     answered_id = NULL, doubts = 0, unseen_at = NULL, sent_at = ended_at, ended_at = NULL"
);

/// The words are those of an entry that comes when the twin has ended.
const TWIN_CREATED: &str = update!(
    "waits = NULL, remote_id = ?5, ended_at = ?6, \
     reason = CASE (SELECT batch_id FROM job AS twin WHERE twin.id = job.twin_of) \
                   WHEN batch_id THEN 'created by job ' ELSE 'created before by job ' END || twin_of"
);

const PROMOTED: &str =
    update!("waits = NULL, reason = NULL, twin_of = (SELECT twin_of FROM job AS other WHERE other.id = ?5)");

/// What is recorded as the reason of a cancelled job.
const CANCELLED: &str = "cancelled by a person";

/// Makes one change to one job, with all that follows from it, and returns the job's new state.
pub(super) fn apply(
    connection: &Connection,
    expected: Expected<'_>,
    change: &Change<'_>,
    now: Timestamp,
) -> Result<JobState, QueueError> {
    let Expected { job_id, state: from, holder } = expected;
    let to = from.after(change.event())?;
    let write = |sql: &str, columns: &[&dyn ToSql]| -> Result<usize, QueueError> {
        let fixed: [&dyn ToSql; 4] = [&job_id, &to.as_str(), &from.as_str(), &holder];
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(fixed.into_iter().chain(columns.iter().copied())))?)
    };
    let changed = match change {
        Change::Created { remote_id } => write(CREATED, &[remote_id, &now.0]),
        Change::PutOff { waits, reason, due, attempts, tried_ms, file_ms, creation, sent_at } => write(
            PUT_OFF,
            &[
                &waits.as_str(),
                reason,
                due,
                attempts,
                &rows::signed(*tried_ms),
                &rows::signed(*file_ms),
                &creation.as_str(),
                sent_at,
            ],
        ),
        Change::GaveBack { creation } => write(GAVE_BACK, &[&creation.as_str()]),
        Change::Refused { reason, problems } | Change::EqualRefused { reason, problems } => {
            let cause = causes::of(connection, CauseStatus::Failed, problems)?;
            write(ENDED_WITHOUT, &[reason, &rows::json(problems), &now.0, &cause])
        }
        Change::Cancelled => write(ENDED_WITHOUT, &[&CANCELLED, &rows::json(&[]), &now.0, &None::<i64>]),
        Change::Held { reason, creation } => write(HELD, &[reason, &creation.map(Creation::as_str), &now.0]),
        Change::Retried { is_absent } => write(RETRIED, &[is_absent]),
        Change::Missed => write(MISSED, &[]),
        Change::TwinCreated { remote_id } => write(TWIN_CREATED, &[remote_id, &now.0]),
        Change::Promoted { in_place_of } => write(PROMOTED, &[in_place_of]),
    }?;
    one_job(changed, job_id)?;
    if to.has_ended() {
        job_ended(connection, job_id, change.remote_id(), now)?;
        trials::job_ended(connection, job_id, to, now)?;
    } else if from.has_ended() {
        reopen(connection, job_id)?;
    }
    if matches!(change, Change::PutOff { .. } | Change::GaveBack { .. }) {
        cancel_if_asked(connection, job_id, to, now)?;
    }
    Ok(to)
}

/// The statement that makes one change to all jobs in a state that match. The states are literals, so that SQLite can use
/// the partial indexes. Where the jobs become running, the first parameter is their holder.
pub(super) fn all(from: JobState, event: JobEvent, columns: &str, matching: &str) -> Result<String, QueueError> {
    let to = from.after(event)?;
    let holder = if to == JobState::Running { "?1" } else { "NULL" };
    Ok(format!("UPDATE job SET state = '{to}', holder = {holder}, {columns} WHERE state = '{from}' AND {matching}"))
}

/// That an update changed the one job that it was for.
pub(super) fn one_job(changed: usize, id: i64) -> Result<(), QueueError> {
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "job", id }) }
}

/// Ends a job that a person asked to cancel while a worker had it, now that the worker has released it. A document that
/// may have been created is read back first.
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
        apply(connection, Expected::in_state(job_id, state), &Change::Cancelled, now)?;
    }
    Ok(())
}

/// Counts down the batch's open jobs, and releases the jobs that waited for this one.
fn job_ended(connection: &Connection, job_id: i64, remote_id: Option<&str>, now: Timestamp) -> Result<(), QueueError> {
    let batch_id: i64 = connection
        .prepare_cached(
            "UPDATE batch SET open_jobs = open_jobs - 1 WHERE id = (SELECT batch_id FROM job WHERE id = ?1)
             RETURNING id",
        )?
        .query_row([job_id], |row| row.get(0))?;
    end_batch_if_empty(connection, batch_id, now)?;
    let followers: Vec<i64> = connection
        .prepare_cached("SELECT id FROM job WHERE twin_of = ?1 AND state = 'waiting' AND waits = 'twin' ORDER BY id")?
        .query_map([job_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    match (followers.first(), remote_id) {
        (None, Some(_)) => Ok(()),
        (None, None) => give_identity_back(connection, job_id),
        (Some(_), Some(remote_id)) => followers.into_iter().try_for_each(|follower| {
            let expected = Expected::in_state(follower, JobState::Waiting);
            apply(connection, expected, &Change::TwinCreated { remote_id }, now).map(drop)
        }),
        (Some(first), None) => promote(connection, job_id, *first, now),
    }
}

/// A job failed or was cancelled, so the first of those that waited for it takes its place, and the others wait for
/// that one.
fn promote(connection: &Connection, job_id: i64, first: i64, now: Timestamp) -> Result<(), QueueError> {
    let expected = Expected::in_state(first, JobState::Waiting);
    apply(connection, expected, &Change::Promoted { in_place_of: job_id }, now)?;
    connection
        .prepare_cached(
            "UPDATE identity SET job_id = ?2 WHERE drop_id = (SELECT drop_id FROM job WHERE id = ?2)
                AND key = (SELECT identity FROM job WHERE id = ?2) AND job_id = ?1",
        )?
        .execute([job_id, first])?;
    connection
        .prepare_cached(
            "UPDATE job SET twin_of = ?2, reason = 'job ' || ?2 || ' creates the same'
              WHERE twin_of = ?1 AND state = 'waiting' AND waits = 'twin'",
        )?
        .execute([job_id, first])?;
    similar::add(connection, first)
}

/// A job that was to replace another, and failed or was cancelled, gives the identity back, so that what the other
/// created is not created again.
fn give_identity_back(connection: &Connection, job_id: i64) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "UPDATE identity SET job_id = (SELECT twin_of FROM job WHERE id = ?1)
              WHERE drop_id = (SELECT drop_id FROM job WHERE id = ?1)
                AND key = (SELECT identity FROM job WHERE id = ?1) AND job_id = ?1
                AND (SELECT twin_of FROM job WHERE id = ?1) IS NOT NULL",
        )?
        .execute([job_id])?;
    Ok(())
}

/// Ends an open batch that has no open jobs.
pub(super) fn end_batch_if_empty(connection: &Connection, batch_id: i64, now: Timestamp) -> Result<(), QueueError> {
    connection
        .prepare_cached(
            "UPDATE batch SET state = 'ended', finished_at = ?2 WHERE id = ?1 AND state = 'open' AND open_jobs = 0",
        )?
        .execute(params![batch_id, now.0])?;
    Ok(())
}

/// Opens the batch of a job that is retried after its batch ended; the present path of each file is recorded. A receipt
/// that was not published keeps its name, so that what a kill left of it is found.
fn reopen(connection: &Connection, job_id: i64) -> Result<(), QueueError> {
    let changed = connection
        .prepare_cached(
            "UPDATE batch SET open_jobs = open_jobs + 1,
                              state = CASE WHEN state = 'admitting' THEN state ELSE 'open' END,
                              finished_at = NULL, receipt = CASE WHEN state = 'ended' THEN receipt END,
                              trouble = NULL, shelf = NULL
              WHERE id = (SELECT batch_id FROM job WHERE id = ?1)",
        )?
        .execute([job_id])?;
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch of job", id: job_id }) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::queue::test_support::{NOW, Site, attempt, execute};

    #[test]
    fn no_other_code_writes_the_state_of_a_job() {
        let queue = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/queue");
        let files = ["", "sidecar", "views"].into_iter().flat_map(|folder| fs::read_dir(queue.join(folder)).unwrap());
        let sources = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some());
        let mut read = 0;
        for path in sources.filter(|path| !path.ends_with("transition.rs")) {
            let text = fs::read_to_string(&path).unwrap();
            let production = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let words: Vec<&str> = production.split_whitespace().collect();
            let writes = |words: &[&str]| words[0].ends_with("UPDATE") && words[1..] == ["job", "SET", "state"];
            assert!(!words.windows(4).any(writes), "{} writes the state of a job", path.display());
            read += 1;
        }
        assert!(read > 30, "only {read} files were read");
    }

    #[test]
    fn a_job_of_another_holder_is_refused() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one"]);
        let job = site.job("one");
        site.claim(job);
        execute(&site.queue, "UPDATE job SET holder = 'somebody else'");
        let before = site.everything(job);
        let done = attempt("upload_image", "done");
        assert!(site.wait(site.queue.upload_stored(job, 0, "i".into(), true, done, NOW)).is_err());
        assert!(site.wait(site.queue.intend(job, NOW)).is_err());
        assert_eq!(site.everything(job), before);
    }
}
