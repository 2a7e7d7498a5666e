//! How far the work is, for commands that wait for its end.

use rusqlite::Connection;

use super::receipt;
use crate::{
    job::JobState,
    problem::Problem,
    queue::{QueueError, Reader, control, rows, trials},
    receipt::Counts,
};

/// What is left to do for some drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// Jobs that have not ended and are not held.
    pub to_do: i64,
    /// Of these, jobs that a worker has.
    pub under_way: i64,
    /// In how many of the drops jobs wait for a quota.
    pub waits_for_quota: i64,
    /// Jobs that wait for a person, and those that wait for them.
    pub held: i64,
    /// Batches whose jobs have ended and whose receipt or files are not done.
    pub to_settle: i64,
    /// Of these, batches whose finalizing failed when it was last tried.
    pub troubled: i64,
    /// Batches whose admission is not complete.
    pub half_taken: i64,
    /// Whether a person paused everything, or each of these drops that has something to do.
    pub paused: bool,
}

/// What of a drop may be sent, is being sent, and was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendingState {
    pub queued: u64,
    pub running: u64,
    pub created: u64,
}

impl Reader {
    /// What of a drop may be sent, is being sent, and was created. Costs the same however many jobs there are.
    pub(crate) fn sending_state(&self, drop: &str) -> Result<SendingState, QueueError> {
        let mut select = self.connection.prepare_cached(
            "SELECT state, jobs FROM tally JOIN drop_folder ON id = drop_id
              WHERE name = ?1 AND state IN ('queued', 'running', 'done')",
        )?;
        let mut rows = select.query([drop])?;
        let mut sending = SendingState::default();
        while let Some(row) = rows.next()? {
            let jobs = row.get::<_, i64>(1)?.try_into().unwrap_or(0);
            match JobState::parse(&row.get::<_, String>(0)?) {
                Some(JobState::Queued) => sending.queued = jobs,
                Some(JobState::Running) => sending.running = jobs,
                _ => sending.created = jobs,
            }
        }
        Ok(sending)
    }

    /// What is left to do for these drops.
    pub(crate) fn left(&self, drops: &[&str]) -> Result<Left, QueueError> {
        self.snapshot(|connection| left(connection, drops))
    }

    /// Whether everything of these drops that has not ended, and that nobody holds or has paused, waits for a file.
    pub(crate) fn only_files_are_awaited(&self, drops: &[&str]) -> Result<bool, QueueError> {
        self.snapshot(|connection| only_files_are_awaited(connection, drops))
    }

    pub(crate) fn batch_progress(&self, id: i64) -> Result<BatchProgress, QueueError> {
        batch_progress(&self.connection, id)
    }

    /// How many jobs of each batch only a person can bring on: held ones, and those that wait for one.
    pub(crate) fn held_by_batch(&self) -> Result<Vec<(i64, u64)>, QueueError> {
        held_by_batch(&self.connection)
    }

    /// How a batch ended. Reads all of its rows.
    pub(crate) fn batch_end(&self, id: i64) -> Result<BatchEnd, QueueError> {
        self.snapshot(|connection| batch_end(connection, id))
    }
}

fn only_files_are_awaited(connection: &Connection, drops: &[&str]) -> Result<bool, QueueError> {
    let pauses = control::pauses(connection)?;
    let mut awaited = false;
    for drop in drops.iter().filter(|drop| !is_paused(&pauses, &format!("drop:{drop}"))) {
        let has = |condition: &str| {
            connection
                .prepare_cached(&format!(
                    "SELECT EXISTS (SELECT 1 FROM job JOIN drop_folder ON drop_folder.id = job.drop_id
                                     WHERE drop_folder.name = ?1 AND state = 'waiting' AND {condition})"
                ))?
                .query_row([drop], |row| row.get::<_, bool>(0))
        };
        let to_be_sent: bool = connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM tally JOIN drop_folder ON id = drop_id
                                 WHERE name = ?1 AND state IN ('queued', 'running') AND jobs > 0)",
            )?
            .query_row([drop], |row| row.get(0))?;
        if to_be_sent || has("waits NOT IN ('file', 'twin')")? {
            return Ok(false);
        }
        awaited |= has("waits = 'file'")?;
    }
    Ok(awaited)
}

/// Whether a person paused what the scope names.
fn is_paused(pauses: &[control::Pause], scope: &str) -> bool {
    pauses.iter().any(|pause| pause.cause == control::Cause::Operator && pause.scope == scope)
}

fn left(connection: &Connection, drops: &[&str]) -> Result<Left, QueueError> {
    let mut left = Left::default();
    let (mut unpaused, mut movable) = (0, 0);
    let pauses = control::pauses(connection)?;
    let paused = |scope: &str| is_paused(&pauses, scope);
    for drop in drops {
        let jobs = connection
            .prepare_cached(
                "SELECT state, jobs FROM tally JOIN drop_folder ON id = drop_id WHERE name = ?1 AND jobs > 0",
            )?
            .query_map([drop], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let before = left.to_do;
        for (word, count) in jobs {
            match JobState::parse(&word) {
                Some(JobState::Queued | JobState::Waiting) => left.to_do += count,
                Some(JobState::Running) => {
                    left.to_do += count;
                    left.under_way += count;
                }
                Some(JobState::Held) => left.held += count,
                _ => {}
            }
        }
        let count = |sql: &str| connection.prepare_cached(sql)?.query_row([drop], |row| row.get::<_, i64>(0));
        left.to_settle += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state IN ('ended', 'published')",
        )?;
        left.troubled += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state IN ('ended', 'published') AND batch.trouble IS NOT NULL",
        )?;
        left.half_taken += count(
            "SELECT count(*) FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND state = 'admitting'",
        )?;
        // A job of a drop that nobody works on waits for ever.
        left.waits_for_quota += count(
            "SELECT EXISTS (SELECT 1 FROM job INDEXED BY job_due JOIN drop_folder ON drop_folder.id = job.drop_id
                             WHERE drop_folder.name = ?1 AND state = 'waiting' AND due_at IS NOT NULL
                               AND waits = 'quota')",
        )?;
        if left.held > 0 {
            let twins = count(
                "SELECT count(*) FROM job JOIN drop_folder ON drop_folder.id = job.drop_id JOIN job AS twin
                    ON twin.twin_of = job.id AND twin.state = 'waiting' AND twin.waits = 'twin'
                  WHERE drop_folder.name = ?1 AND job.state IN ('running', 'held') AND job.state = 'held'",
            )?;
            left.held += twins;
            left.to_do -= twins;
        }
        if !paused(&format!("drop:{drop}")) {
            unpaused += 1;
            movable += left.to_do - before;
        }
    }
    if trials::is_any_ending(connection)? {
        left.to_do += 1;
        movable += 1;
    }
    left.paused = paused("") || unpaused == 0 || (left.to_do > 0 && movable == 0);
    Ok(left)
}

/// How far one batch is; costs the same however large it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchProgress {
    /// Whether it is finalized: its receipt is published and its files are archived.
    pub closed: bool,
    /// Entries that are in the queue.
    pub admitted: u64,
    /// Of these, entries whose jobs have not ended.
    pub under_way: u64,
}

fn batch_progress(connection: &Connection, id: i64) -> Result<BatchProgress, QueueError> {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(connection
        .prepare_cached("SELECT state = 'closed', admitted, open_jobs FROM batch WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(BatchProgress { closed: row.get(0)?, admitted: number(row.get(1)?), under_way: number(row.get(2)?) })
        })?)
}

fn held_by_batch(connection: &Connection) -> Result<Vec<(i64, u64)>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT batch_id, count(*) FROM (
                SELECT batch_id FROM job WHERE state IN ('running', 'held') AND state = 'held'
                UNION ALL
                SELECT twin.batch_id FROM job JOIN job AS twin
                    ON twin.twin_of = job.id AND twin.state = 'waiting' AND twin.waits = 'twin'
                 WHERE job.state IN ('running', 'held') AND job.state = 'held')
             GROUP BY batch_id",
        )?
        .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
        .collect::<Result<_, _>>()?)
}

/// How a batch ended: its counts, why its manifest is unusable, and where its receipt is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEnd {
    /// How its entries ended; those that have not count as failed.
    pub counts: Counts,
    /// Why its manifest is unusable, if it is.
    pub problems: Option<Vec<Problem>>,
    /// Of the duplicates, entries of which nothing has changed since they were created.
    pub unchanged: u64,
    /// Entries that its list had when it was last taken in, where it was; and the jobs of the first of them.
    pub gone: Option<(u64, Vec<i64>)>,
    /// Its receipt, once it is written.
    pub receipt: Option<std::path::PathBuf>,
}

fn batch_end(connection: &Connection, id: i64) -> Result<BatchEnd, QueueError> {
    let (state, folder, receipt, problems): (String, String, Option<String>, Option<String>) = connection
        .prepare_cached("SELECT state, receipts_dir, receipt, problems FROM batch WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let (unchanged, gone, gone_jobs): (i64, Option<i64>, Option<String>) = connection
        .prepare_cached("SELECT unchanged, gone, gone_jobs FROM batch WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let gone_jobs = gone_jobs.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let written = matches!(state.as_str(), "published" | "closed");
    Ok(BatchEnd {
        counts: receipt::counts(connection, id)?,
        problems: problems.map(|text| rows::problems(&text)),
        unchanged: unchanged.try_into().unwrap_or(0),
        gone: gone.map(|gone| (gone.try_into().unwrap_or(0), gone_jobs)),
        receipt: receipt.filter(|_| written).map(|receipt| std::path::Path::new(&folder).join(receipt)),
    })
}
