//! What a person does to the queue: pause, resume, retry, cancel, release.
//!
//! These run in the person's own process, beside a daemon that may be at work on the same jobs, so each names the
//! state that it starts from.

use rusqlite::{Connection, params};

pub use super::command_outcome::CommandOutcome;
use super::{
    Queue, QueueError, accounts,
    acts::{self, Caller},
    attempt::{self, Attempt},
    command_outcome::{moving, state_of, unknown},
    content::ContentDigests,
    equals,
    identity::{self, Owner},
    transition::{self, Change, Expected},
    trials, verified,
};
use crate::{
    clock::Timestamp,
    job::{Creation, JobEvent, JobState},
};

/// Why sending is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An operator asked for it.
    Operator,
    /// The API refuses the key.
    KeyRefused,
    /// A chargeable or check limit is spent.
    QuotaSpent,
    /// Nothing but failures.
    Outage,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Operator, Self::KeyRefused, Self::QuotaSpent, Self::Outage];

    /// The word in the queue and in reports.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::KeyRefused => "key_refused",
            Self::QuotaSpent => "quota_spent",
            Self::Outage => "outage",
        }
    }

    #[must_use]
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }
}

/// One thing that is stopped.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pause {
    /// Empty for everything, `drop:NAME`, or `account:BASE_URL`.
    pub scope: String,
    /// Why.
    pub cause: Cause,
    /// The API's own words, where it is the cause; what a person noted, where one is.
    pub detail: Option<String>,
    /// The person who asked for it.
    pub by: Option<String>,
    /// Since when; RFC 3339 in JSON.
    #[serde(serialize_with = "super::rows::moment")]
    pub since: Timestamp,
}

/// Everything that is stopped at present.
pub(super) fn pauses(connection: &Connection) -> Result<Vec<Pause>, QueueError> {
    let mut statement =
        connection.prepare_cached("SELECT scope, cause, detail, since, by_whom FROM pause ORDER BY since, scope")?;
    let mut rows = statement.query([])?;
    let mut pauses = Vec::new();
    while let Some(row) = rows.next()? {
        let cause: String = row.get(1)?;
        pauses.push(Pause {
            scope: row.get(0)?,
            cause: Cause::parse(&cause).ok_or_else(|| super::rows::unreadable("a pause's cause", &cause))?,
            detail: row.get(2)?,
            since: Timestamp(row.get(3)?),
            by: row.get(4)?,
        });
    }
    Ok(pauses)
}

/// How a person settles a held job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// It was created, under this ID.
    AsCreated(String),
    /// It was not created: send it again.
    SendAgain,
}

/// A person's command for jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobCommand {
    /// Sends a job on again that failed, was cancelled, or waits for its next try.
    Retry,
    /// Stops a job; one that is running is stopped before its next call.
    Cancel,
    /// Settles a held job.
    Release(Release),
    /// Sends a document again that the last `verify` found missing, once a read-back agrees.
    SendMissing,
    /// A document that the last `verify` found missing was removed on purpose.
    AcceptMissing,
}

impl JobCommand {
    /// The word in the record of what people did.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Release(_) => "release",
            Self::SendMissing => "retry --missing",
            Self::AcceptMissing => "verify --accept-missing",
        }
    }
}

impl Queue {
    /// Stops sending; a pause that is already in force keeps its time.
    #[cfg(test)]
    pub(crate) fn pause(
        &self,
        scope: &str,
        cause: Cause,
        detail: Option<String>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        let scope = scope.to_owned();
        self.run_blocking("pause", move |connection| pause(connection, &scope, cause, detail.as_deref(), now))
    }

    /// Stops sending, as a person asks. What was noted of a pause that is in force stays, unless there is another note.
    pub(crate) fn pause_by(
        &self,
        scope: &str,
        note: Option<String>,
        by: Caller,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        let scope = scope.to_owned();
        self.run_blocking("pause", move |connection| {
            acts::begin(connection, "pause", &by, now)?;
            connection.execute(
                "INSERT INTO pause (scope, cause, detail, since, by_whom) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET detail = coalesce(excluded.detail, detail),
                    by_whom = CASE WHEN excluded.detail IS NULL THEN coalesce(by_whom, excluded.by_whom)
                                   ELSE excluded.by_whom END",
                params![scope, Cause::Operator.as_str(), note, now.0, by.who],
            )?;
            Ok(())
        })
    }

    /// Takes back the pauses of these scopes and causes, as a person asks; returns whether there was one.
    pub(crate) fn resume_by(
        &self,
        pauses: Vec<(String, Cause)>,
        by: Caller,
        now: Timestamp,
    ) -> Result<bool, QueueError> {
        self.run_blocking("resume", move |connection| {
            acts::begin(connection, "resume", &by, now)?;
            let mut lifted = false;
            for (scope, cause) in &pauses {
                lifted |= resume(connection, scope, *cause)?;
            }
            Ok(lifted)
        })
    }

    /// The same, without blocking the runtime.
    pub(crate) async fn pause_account(
        &self,
        scope: String,
        cause: Cause,
        detail: Option<String>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("pause_account", move |connection| pause(connection, &scope, cause, detail.as_deref(), now)).await
    }

    /// Takes back a pause of this cause; returns whether there was one.
    #[cfg(test)]
    pub(crate) fn resume(&self, scope: &str, cause: Cause) -> Result<bool, QueueError> {
        let scope = scope.to_owned();
        self.run_blocking("resume", move |connection| resume(connection, &scope, cause))
    }

    /// The same, without blocking the runtime.
    pub(crate) async fn resume_account(&self, scope: String, cause: Cause) -> Result<bool, QueueError> {
        self.run("resume_account", move |connection| resume(connection, &scope, cause)).await
    }

    /// Everything that is stopped at present.
    pub(crate) async fn pauses(&self) -> Result<Vec<Pause>, QueueError> {
        self.run("pauses", pauses).await
    }

    /// Carries a command out for several jobs in one commit, in their order, as part of what a person does. A job for which it
    /// makes no sense is an answer, not an error.
    ///
    /// # Errors
    ///
    /// Those of the database: then nothing was done to any of them.
    pub(crate) fn command_by(
        &self,
        act: Option<i64>,
        job_ids: Vec<i64>,
        command: JobCommand,
        now: Timestamp,
    ) -> Result<Vec<CommandOutcome>, QueueError> {
        self.run_blocking("wish", move |connection| {
            let one = |id: &i64| match &command {
                JobCommand::Retry => retry_one(connection, *id, now),
                JobCommand::Cancel => cancel_one(connection, *id, now),
                JobCommand::Release(release) => release_one(connection, *id, release, now),
                JobCommand::SendMissing => verified::send_one(connection, *id, now),
                JobCommand::AcceptMissing => verified::accept_one(connection, *id, now),
            };
            let outcomes: Vec<CommandOutcome> = job_ids.iter().map(one).collect::<Result<_, QueueError>>()?;
            if let Some(act) = act {
                let done = outcomes.iter().filter(|outcome| outcome.done);
                acts::note_jobs(connection, act, done.map(|outcome| outcome.job))?;
            }
            Ok(outcomes)
        })
    }
}

pub(super) fn retry_one(connection: &Connection, job_id: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
    let Some(state) = state_of(connection, job_id)? else { return Ok(unknown(job_id)) };
    if state.after(JobEvent::Retried).is_err() {
        return Ok(CommandOutcome { job: job_id, done: false, message: format!("is {state}: nothing to retry") });
    }
    retry(connection, job_id, state, false, now)
}

fn cancel_one(connection: &Connection, job_id: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
    let Some(state) = state_of(connection, job_id)? else { return Ok(unknown(job_id)) };
    if state == JobState::Failed
        && let Some(cause) = trials::leave(connection, job_id)?
    {
        let message = format!("no longer waits for the trial of cause {cause}: it stays failed");
        return Ok(CommandOutcome { job: job_id, done: true, message });
    }
    if state.after(JobEvent::Cancelled).is_err() {
        return Ok(CommandOutcome { job: job_id, done: false, message: format!("is {state}: nothing to cancel") });
    }
    let creation = creation_of(connection, job_id)?;
    if state == JobState::Running {
        let changed =
            connection.execute("UPDATE job SET cancel_asked = 1 WHERE id = ?1 AND state = 'running'", [job_id])?;
        transition::one_job(changed, job_id)?;
        return Ok(CommandOutcome {
            job: job_id,
            done: true,
            message: "is under way: stopped before its next call, unless its document is being created".into(),
        });
    }
    if creation != Creation::None && state != JobState::Held {
        return Ok(CommandOutcome {
            job: job_id,
            done: false,
            message: "may have been created: it is read back first; try again after that".into(),
        });
    }
    transition::apply(connection, Expected::in_state(job_id, state), &Change::Cancelled, now)?;
    Ok(CommandOutcome { job: job_id, done: true, message: "cancelled".into() })
}

fn release_one(
    connection: &Connection,
    job_id: i64,
    release: &Release,
    now: Timestamp,
) -> Result<CommandOutcome, QueueError> {
    let Some(state) = state_of(connection, job_id)? else { return Ok(unknown(job_id)) };
    if state != JobState::Held {
        return Ok(CommandOutcome { job: job_id, done: false, message: format!("is {state}, not held") });
    }
    match release {
        Release::AsCreated(remote_id) => {
            transition::apply(connection, Expected::in_state(job_id, state), &Change::Created { remote_id }, now)?;
            connection.execute("UPDATE job SET released = 1 WHERE id = ?1", [job_id])?;
            Ok(CommandOutcome { job: job_id, done: true, message: format!("done: created as {remote_id}") })
        }
        Release::SendAgain => {
            // What the next sending rests on, for whoever reads the calls later.
            attempt::note(connection, job_id, &Attempt::by_a_person("release", now))?;
            retry(connection, job_id, state, true, now)
        }
    }
}

fn pause(
    connection: &Connection,
    scope: &str,
    cause: Cause,
    detail: Option<&str>,
    now: Timestamp,
) -> Result<(), QueueError> {
    connection.execute(
        "INSERT INTO pause (scope, cause, detail, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET detail = excluded.detail",
        params![scope, cause.as_str(), detail, now.0],
    )?;
    Ok(())
}

fn resume(connection: &Connection, scope: &str, cause: Cause) -> Result<bool, QueueError> {
    Ok(connection.execute("DELETE FROM pause WHERE scope = ?1 AND cause = ?2", params![scope, cause.as_str()])? > 0)
}

fn creation_of(connection: &Connection, job_id: i64) -> Result<Creation, QueueError> {
    let word: String = connection.query_row("SELECT creation FROM job WHERE id = ?1", [job_id], |row| row.get(0))?;
    Creation::parse(&word).ok_or_else(|| super::rows::unreadable("a job's creation", &word))
}

pub(super) fn retry(
    connection: &Connection,
    job_id: i64,
    from: JobState,
    is_absent: bool,
    now: Timestamp,
) -> Result<CommandOutcome, QueueError> {
    let (drop_id, key, replaces, reference): (i64, Vec<u8>, Option<i64>, Option<String>) = connection
        .prepare_cached("SELECT drop_id, identity, twin_of, reference FROM job WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    if from.has_ended() {
        if let Some(moving) = moving(connection, job_id)? {
            return Ok(moving);
        }
        // Meanwhile another entry may have got what this one did not.
        let content = ContentDigests::of_job(connection, job_id)?;
        let owner = match identity::owner(connection, drop_id, &key, &content)? {
            // Its content may have another key by the rule of another release.
            Owner::Nobody => identity::owner_of_entry(connection, drop_id, reference.as_deref(), &content)?,
            owner => owner,
        };
        // What was allowed to replace a job at first may replace the same one still.
        let replace = replaces.is_some() && owner.job_id() == replaces;
        match identity::decide(owner, replace) {
            identity::DedupDecision::Queue => identity::own(connection, drop_id, &key, job_id)?,
            identity::DedupDecision::Duplicate { of, .. } | identity::DedupDecision::Twin { of } => {
                let message = format!("job {of} has, or creates, the same: nothing to retry");
                return Ok(CommandOutcome { job: job_id, done: false, message });
            }
            identity::DedupDecision::Refuse(problem) => {
                return Ok(CommandOutcome {
                    job: job_id,
                    done: false,
                    message: format!("{}: {}", problem.reason, problem.cure),
                });
            }
        }
    } else if from == JobState::Waiting {
        let twin: bool = connection.query_row(
            "SELECT waits = 'twin' FROM job WHERE id = ?1 AND state = 'waiting'",
            [job_id],
            |row| row.get(0),
        )?;
        if twin {
            return Ok(CommandOutcome {
                job: job_id,
                done: false,
                message: "waits for its twin, not for a retry".into(),
            });
        }
    }
    equals::forget_images(connection, job_id)?;
    accounts::bring_home(connection, job_id)?;
    transition::apply(connection, Expected::in_state(job_id, from), &Change::Retried { is_absent }, now)?;
    Ok(CommandOutcome { job: job_id, done: true, message: "queued again".into() })
}
