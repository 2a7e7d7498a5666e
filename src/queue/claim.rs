//! Which jobs a worker takes: those that are due, those that are ready, and those that an earlier process left running.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::{
    Queue, QueueError,
    attempt::count_lost,
    doubt, equals, rows,
    sidecar::in_doubt::{InDoubtEntry, Recovered},
    spare_images, transition,
    trial_steps::{self, TrialTurn},
};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    job::{Job, JobEvent, JobState},
};

/// That another one than `?1` holds a running job. Its first half is that of the index over running and held jobs, without
/// which each recovery would read all jobs that ever were.
const OF_OTHERS: &str = "state IN ('running', 'held') AND holder <> ?1";

/// What a worker could do now, or soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// All drops by number and name, and whether they have jobs ready.
    pub drops: Vec<(i64, String, bool)>,
    /// When the next waiting job is due.
    pub next_due: Option<Timestamp>,
    /// What is left to be done for trials.
    pub trials: TrialTurn,
}

/// What was taken back from earlier holders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveredJobs {
    /// Jobs that continue, or wait for a read-back.
    pub jobs: usize,
    /// Images that the API may have received, and whose answers were not recorded.
    pub images: usize,
    /// Files likewise.
    pub files: usize,
}

impl Queue {
    /// Takes up to `limit` ready jobs of a drop, oldest first. From here on their uploads may be in flight. The first claim
    /// begins a start: see [`lineage`](super::lineage).
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn claim(&self, drop_id: i64, limit: usize) -> Result<Vec<Job>, QueueError> {
        self.begin_start().await?;
        let holder = self.holder();
        self.run("claim", move |connection| claim(connection, &holder, drop_id, limit)).await
    }

    /// Makes ready what has waited long enough and what follows a trial, and says which drops have something ready and when the next is due.
    pub(crate) async fn ready(&self, now: Timestamp) -> Result<Ready, QueueError> {
        self.run("ready", move |connection| {
            let due = transition::all(
                JobState::Waiting,
                JobEvent::Due,
                "waits = NULL, reason = NULL, due_at = NULL",
                "due_at IS NOT NULL AND due_at <= ?1",
            )?;
            connection.prepare_cached(&due)?.execute([now.0])?;
            let trials = trial_steps::advance(connection, now)?;
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
            Ok(Ready { drops, next_due: next.map(Timestamp), trials })
        })
        .await
    }

    /// Holds the files that an earlier holder may have sent when it was killed: the API cannot be asked whether it has
    /// them. For operators who prefer to decide rather than risk a second file; called before [`Queue::recover`].
    pub(crate) async fn hold_files(&self, left: Arc<Recovered>) -> Result<usize, QueueError> {
        let holder = self.holder();
        self.run("hold_files", move |connection| {
            let lost = lost(connection, &holder, &left, EntryKind::File)?;
            count(connection, &lost)?;
            let hold = transition::all(
                JobState::Running,
                JobEvent::Held,
                "reason = 'stopped while the file was under way, and the API cannot be asked whether it exists: look \
                           at the profile, then use release'",
                "id = ?1 AND holder <> ?2",
            )?;
            for upload in &lost {
                let changed = connection.execute(&hold, params![upload.job_id, holder])?;
                transition::one_job(changed, upload.job_id)?;
            }
            Ok(lost.len())
        })
        .await
    }

    /// Takes back the jobs of earlier holders. The caller has the database's lock, so those processes have ended. A
    /// document that was about to be created is read back first, and uploads in doubt count as possible leftovers. Of
    /// calls of an earlier process it is only known that they have ended by `now`, so the time in which a document may
    /// still appear starts at `now`.
    pub(crate) async fn recover(&self, left: Arc<Recovered>, now: Timestamp) -> Result<RecoveredJobs, QueueError> {
        let holder = self.holder();
        self.run("recover", move |connection| {
            let images = lost(connection, &holder, &left, EntryKind::Document)?;
            let files = lost(connection, &holder, &left, EntryKind::File)?;
            count(connection, &images)?;
            count(connection, &files)?;
            let read_back = transition::all(
                JobState::Running,
                JobEvent::PutOff,
                "waits = 'read_back', due_at = ?2, creation = 'unknown',
                 reason = 'stopped while the document was being created'",
                &format!("{OF_OTHERS} AND creation <> 'none'"),
            )?;
            let unknown = connection.execute(&read_back, params![holder, now.0])?;
            // The clock may have been moved while nobody worked.
            connection.execute(
                "UPDATE job INDEXED BY job_in_doubt SET sent_at = ?1, unseen_at = NULL WHERE creation = 'unknown'",
                [now.0],
            )?;
            let cancelled: Vec<i64> = connection
                .prepare(&format!("SELECT id FROM job WHERE {OF_OTHERS} AND cancel_asked"))?
                .query_map([&holder], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let give_back = transition::all(JobState::Running, JobEvent::GaveBack, "reason = NULL", OF_OTHERS)?;
            let others = connection.execute(&give_back, [&holder])?;
            for job_id in cancelled {
                transition::cancel_if_asked(connection, job_id, JobState::Queued, now)?;
            }
            Ok(RecoveredJobs { jobs: unknown + others, images: images.len(), files: files.len() })
        })
        .await
    }
}

/// Takes ready jobs, with their uploads and where their files are.
fn claim(connection: &Connection, holder: &str, drop_id: i64, limit: usize) -> Result<Vec<Job>, QueueError> {
    let mut claimed = Vec::new();
    {
        let mut sql = transition::all(
            JobState::Queued,
            JobEvent::Claimed,
            "reason = NULL, due_at = NULL",
            "id IN (SELECT id FROM job WHERE state = 'queued' AND drop_id = ?2 ORDER BY id LIMIT ?3) RETURNING ",
        )?;
        sql.push_str(rows::JOB);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query(params![holder, drop_id, rows::signed(limit as u64)])?;
        while let Some(row) = found.next()? {
            claimed.push(rows::job(row)?);
        }
    }
    for job in &mut claimed {
        job.uploads = rows::uploads(connection, job.id)?;
        (job.image_root, job.image_folder, job.work) = connection
            .prepare_cached(
                "SELECT coalesce(work_root, image_root), coalesce(rtrim(work_path || '/' || image_folder, '/'), image_folder),
                        work_root, work_path
                   FROM batch WHERE id = ?1",
            )?
            .query_row([job.batch_id], |row| Ok((row.get(0)?, row.get(1)?, rows::place(row, 2)?)))?;
    }
    if equals::has_images(connection)? {
        for job in &mut claimed {
            job.refused_before = equals::refused_before(connection, job)?;
        }
    }
    for job in &mut claimed {
        doubt::take_over(connection, job)?;
        spare_images::use_for(connection, job)?;
    }
    claimed.sort_by_key(|job| job.id);
    Ok(claimed)
}

/// The uploads of other holders' running jobs that the API may have received, and whose IDs are not known.
fn lost(
    connection: &Connection,
    holder: &str,
    left: &Recovered,
    kind: EntryKind,
) -> Result<Vec<InDoubtEntry>, QueueError> {
    let mut statement = connection.prepare(&format!(
        "SELECT job_id, position, lost FROM job JOIN upload ON job_id = id
          WHERE {OF_OTHERS} AND kind = ?2 AND upload.remote_id IS NULL"
    ))?;
    let row =
        |row: &rusqlite::Row<'_>| Ok(InDoubtEntry { job_id: row.get(0)?, position: row.get(1)?, lost: row.get(2)? });
    let mut found: Vec<InDoubtEntry> = statement.query_map([holder, kind.as_str()], row)?.collect::<Result<_, _>>()?;
    found.retain(|upload| left.may_have(upload));
    Ok(found)
}

fn count(connection: &Connection, lost: &[InDoubtEntry]) -> Result<(), QueueError> {
    lost.iter().try_for_each(|upload| count_lost(connection, upload.job_id, &[upload.position]))
}
