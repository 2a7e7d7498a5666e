//! How much the jobs that are not ended still ask of the API, as an estimate needs it.

use rusqlite::Connection;

use crate::{
    clock::Timestamp,
    entry::EntryKind,
    estimate::WorkLeft,
    job::JobState,
    queue::{QueueError, Reader},
};

/// So many jobs of each state are looked at; where there are more, they stand for all.
const LOOKED_AT: i64 = 500;

/// What is left of a drop.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DropWork {
    /// Jobs that can go on by themselves.
    pub jobs: u64,
    pub work: WorkLeft,
    /// When the last of those that wait is due.
    pub last_due: Option<Timestamp>,
}

impl Reader {
    /// What is left of a drop. Costs the same however much that is.
    pub(crate) fn work_left(&self, drop: &str) -> Result<DropWork, QueueError> {
        self.snapshot(|connection| work_left(connection, drop))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs are far below 2^52")]
fn work_left(connection: &Connection, drop: &str) -> Result<DropWork, QueueError> {
    let mut left = DropWork::default();
    for state in [JobState::Queued, JobState::Running, JobState::Waiting] {
        let jobs: i64 = connection
            .prepare_cached(
                "SELECT coalesce(sum(jobs), 0) FROM tally
                  WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND state = ?2",
            )?
            .query_row((drop, state.as_str()), |row| row.get(0))?;
        if jobs <= 0 {
            continue;
        }
        let sample = sample(connection, drop, state, jobs)?;
        let mut of_sample = WorkLeft::default();
        for id in &sample {
            of_sample = of_sample.plus(&of_job(connection, *id)?, 1.0);
        }
        left.jobs += jobs.unsigned_abs();
        if !sample.is_empty() {
            left.work = left.work.plus(&of_sample, jobs as f64 / sample.len() as f64);
        }
    }
    left.last_due = connection
        .prepare_cached(
            "SELECT max(due_at) FROM job WHERE state = 'waiting' AND due_at IS NOT NULL
                AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1)",
        )?
        .query_row([drop], |row| row.get::<_, Option<i64>>(0))?
        .map(Timestamp);
    Ok(left)
}

/// Some of the jobs in a state: all of few, and every so many-th of the ready ones.
fn sample(connection: &Connection, drop: &str, state: JobState, jobs: i64) -> Result<Vec<i64>, QueueError> {
    let first = |sql: &str| -> Result<Vec<i64>, QueueError> {
        let rows = connection
            .prepare_cached(sql)?
            .query_map((drop, LOOKED_AT), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(rows)
    };
    match state {
        JobState::Running => first(
            "SELECT id FROM job WHERE state = 'running'
                AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1) LIMIT ?2",
        ),
        JobState::Waiting => first(
            "SELECT id FROM job WHERE state = 'waiting' AND due_at IS NOT NULL
                AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1) LIMIT ?2",
        ),
        _ if jobs <= LOOKED_AT => first(
            "SELECT id FROM job WHERE state = 'queued'
                AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1) LIMIT ?2",
        ),
        _ => {
            let (least, most): (i64, i64) = connection
                .prepare_cached(
                    "SELECT (SELECT min(id) FROM job WHERE state = 'queued' AND drop_id = drop_folder.id),
                            (SELECT max(id) FROM job WHERE state = 'queued' AND drop_id = drop_folder.id)
                       FROM drop_folder WHERE name = ?1",
                )?
                .query_row([drop], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut next = connection.prepare_cached(
                "SELECT min(id) FROM job WHERE state = 'queued' AND id >= ?2
                    AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1)",
            )?;
            (0..LOOKED_AT)
                .map(|number| {
                    let from = least + (most - least) * number / LOOKED_AT;
                    Ok(next.query_row((drop, from), |row| row.get(0))?)
                })
                .collect()
        }
    }
}

/// What a job still asks of the API.
fn of_job(connection: &Connection, id: i64) -> Result<WorkLeft, QueueError> {
    let (kind, uploads, bytes): (String, f64, f64) = connection
        .prepare_cached(
            "SELECT kind, (SELECT CAST(count(*) AS REAL) FROM upload WHERE job_id = job.id AND remote_id IS NULL),
                    (SELECT coalesce(sum(bytes / 3.0 * 4.0), 0.0) FROM upload WHERE job_id = job.id AND remote_id IS NULL)
               FROM job WHERE id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(if kind == EntryKind::Document.as_str() {
        WorkLeft { documents: 1.0, images: uploads, bytes, ..WorkLeft::default() }
    } else {
        WorkLeft { files: uploads, bytes, ..WorkLeft::default() }
    })
}
