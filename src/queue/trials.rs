//! A retry of many jobs that failed for one cause: a few are sent first, and the others follow when those have ended well.
//!
//! The others stay failed meanwhile, so that nothing of them has to be undone. All of it is rows: who asked, which jobs are
//! meant, and how far it is. A worker sends the others on, some in each turn, and continues after a restart.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::{QueueError, Reader, rows};
use crate::{clock::Timestamp, job::JobState};

/// Jobs that are sent first.
pub(crate) const FIRST: usize = 5;

/// Whether the jobs of a trial wait for its end.
pub(super) const IS_OPEN: &str = "(trial.state IN ('gathering', 'running') OR trial.state = 'ending' AND is_good = 1)";

/// How far a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialState {
    /// The first are under way.
    Running,
    /// They have ended well, and the others are sent.
    Worked,
    /// They have not, and the others stay failed.
    Failed,
}

/// The last retry of a cause that was tried with a few jobs first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseTrial {
    pub state: TrialState,
    #[serde(serialize_with = "rows::moment")]
    pub at: Timestamp,
    /// Who asked for it.
    pub by: Option<String>,
    /// How many were sent first.
    pub sent: i64,
    pub worked: i64,
    pub failed: i64,
    /// How many wait for them, or stayed failed.
    pub others: i64,
}

impl CauseTrial {
    /// In words for people, with numbers only.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { state, sent, worked, failed, others, .. } = self;
        match state {
            TrialState::Running => format!("{worked} of {sent} have ended well; {others} wait for these"),
            TrialState::Worked => format!("{worked} of {sent} have ended well; {others} follow"),
            TrialState::Failed if *failed == 0 => format!("{sent} were stopped, so {others} others were not sent"),
            TrialState::Failed => format!("{failed} of {sent} failed again, so {others} others were not sent"),
        }
    }
}

impl Reader {
    /// The failed jobs that wait for the trial of a cause.
    pub(crate) fn waiting_for_trial(&self, cause: i64) -> Result<Vec<i64>, QueueError> {
        let sql = format!(
            "SELECT job_id FROM trial JOIN trial_job ON trial_id = trial.id
              WHERE cause_id = ?1 AND is_first = 0 AND {IS_OPEN} ORDER BY job_id"
        );
        let mut select = self.connection.prepare_cached(&sql)?;
        Ok(select.query_map([cause], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

/// Notes that a job has ended, where it is one of the first of a trial.
pub(super) fn job_ended(
    connection: &Connection,
    job_id: i64,
    state: JobState,
    now: Timestamp,
) -> Result<(), QueueError> {
    let trial: Option<i64> = connection
        .prepare_cached("SELECT trial_id FROM trial_job WHERE job_id = ?1 AND is_first = 1")?
        .query_row([job_id], |row| row.get(0))
        .optional()?;
    let Some(trial) = trial else { return Ok(()) };
    connection.prepare_cached("DELETE FROM trial_job WHERE job_id = ?1")?.execute([job_id])?;
    let (worked, failed) = match state {
        JobState::Done | JobState::Duplicate => (1, 0),
        JobState::Failed => (0, 1),
        _ => (0, 0),
    };
    connection
        .prepare_cached("UPDATE trial SET worked = worked + ?2, failed = failed + ?3 WHERE id = ?1")?
        .execute(params![trial, worked, failed])?;
    // One failure decides; else the last end does. Where a person stopped all of them, nothing has worked.
    connection
        .prepare_cached(
            "UPDATE trial SET state = 'ending', is_good = failed = 0 AND worked > 0, ended_at = ?2
              WHERE id = ?1 AND state = 'running'
                AND (failed > 0 OR NOT EXISTS (SELECT 1 FROM trial_job WHERE trial_id = ?1 AND is_first = 1))",
        )?
        .execute(params![trial, now.0])?;
    Ok(())
}

/// Whether a trial ends, so that a worker has something to do.
pub(super) fn is_any_ending(connection: &Connection) -> Result<bool, QueueError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM trial WHERE state = 'ending' AND state <> 'ended')";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Takes a failed job out of the trial that it waits for; returns the trial's cause.
pub(super) fn leave(connection: &Connection, job_id: i64) -> Result<Option<i64>, QueueError> {
    let Some(cause) = awaited_by(connection, job_id)? else { return Ok(None) };
    connection
        .prepare_cached(
            "UPDATE trial SET others = others - 1 WHERE id = (SELECT trial_id FROM trial_job WHERE job_id = ?1)",
        )?
        .execute([job_id])?;
    connection.prepare_cached("DELETE FROM trial_job WHERE job_id = ?1")?.execute([job_id])?;
    Ok(Some(cause))
}

/// The cause for whose trial a failed job waits.
pub(super) fn awaited_by(connection: &Connection, job_id: i64) -> Result<Option<i64>, QueueError> {
    let sql = format!(
        "SELECT cause_id FROM trial_job JOIN trial ON trial.id = trial_id
          WHERE job_id = ?1 AND is_first = 0 AND {IS_OPEN}"
    );
    Ok(connection.prepare_cached(&sql)?.query_row([job_id], |row| row.get(0)).optional()?)
}

/// The last trial of a cause; none where it worked and is over.
pub(super) fn last_of(connection: &Connection, cause: i64) -> Result<Option<CauseTrial>, QueueError> {
    let found = connection
        .prepare_cached(
            "SELECT trial.state, is_good, trial.at, who, sent, worked, failed, others
               FROM trial LEFT JOIN act ON act.id = act_id
              WHERE cause_id = ?1 AND trial.state <> 'gathering' ORDER BY trial.id DESC LIMIT 1",
        )?
        .query_row([cause], |row| {
            let (state, is_good): (String, bool) = (row.get(0)?, row.get(1)?);
            let state = match (state.as_str(), is_good) {
                ("running", _) => Some(TrialState::Running),
                ("ending", true) => Some(TrialState::Worked),
                (_, true) => None,
                (_, false) => Some(TrialState::Failed),
            };
            Ok(state.map(|state| {
                Ok::<_, rusqlite::Error>(CauseTrial {
                    state,
                    at: Timestamp(row.get(2)?),
                    by: row.get(3)?,
                    sent: row.get(4)?,
                    worked: row.get(5)?,
                    failed: row.get(6)?,
                    others: row.get(7)?,
                })
            }))
        })
        .optional()?;
    Ok(found.flatten().transpose()?)
}
