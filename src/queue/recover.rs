//! What a process that was killed left behind, put back into order before anything is sent.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    Queue, QueueError,
    handed_over::{Left, Try},
    work::{cancel_if_asked, count_lost},
};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    job::{JobEvent, JobState},
};

/// What was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that go on, or wait for a read-back.
    pub jobs: usize,
    /// Images that the API may have received, and whose answers were not recorded.
    pub images: usize,
    /// Files likewise.
    pub files: usize,
}

/// The uploads of running jobs that the API may have received, and whose IDs are not known.
fn lost(connection: &Connection, left: &Left, kind: EntryKind) -> Result<Vec<Try>, QueueError> {
    let mut statement = connection.prepare(
        "SELECT job_id, position, lost FROM job JOIN upload ON job_id = id
          WHERE state = 'running' AND kind = ?1 AND upload.remote_id IS NULL",
    )?;
    let row = |row: &rusqlite::Row<'_>| Ok(Try { job_id: row.get(0)?, position: row.get(1)?, lost: row.get(2)? });
    let mut found: Vec<Try> = statement.query_map([kind.as_str()], row)?.collect::<Result<_, _>>()?;
    found.retain(|upload| left.may_have(upload));
    Ok(found)
}

fn count(connection: &Connection, lost: &[Try]) -> Result<(), QueueError> {
    lost.iter().try_for_each(|upload| count_lost(connection, upload.job_id, &[upload.position]))
}

impl Queue {
    /// Holds the files that a process may have sent when it was killed: whether they stand cannot be asked. For those who
    /// would rather decide than have a file twice; called before [`Queue::recover`].
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn hold_files(&self, left: Arc<Left>) -> Result<usize, QueueError> {
        let to = JobState::Running.after(JobEvent::Held)?;
        self.run("hold_files", move |connection| {
            let lost = lost(connection, &left, EntryKind::File)?;
            count(connection, &lost)?;
            for upload in &lost {
                connection.execute(
                    "UPDATE job SET state = ?1, reason = 'stopped while the file was under way, and the API cannot be \
                                    asked whether it stands: look at the profile, then use release'
                      WHERE id = ?2 AND state = 'running'",
                    (to.as_str(), upload.job_id),
                )?;
            }
            Ok(lost.len())
        })
        .await
    }

    /// Takes back the jobs that a process held when it was killed: whoever was about to create its document is asked
    /// after first, and uploads without an ID that were handed over may have been received all the same. When an
    /// intended document went out is not known, only that it was before `now`, so it may appear for as long as if it had
    /// been sent now.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn recover(&self, left: Arc<Left>, now: Timestamp) -> Result<Recovered, QueueError> {
        self.run("recover", move |connection| {
            let images = lost(connection, &left, EntryKind::Document)?;
            let files = lost(connection, &left, EntryKind::File)?;
            count(connection, &images)?;
            count(connection, &files)?;
            let unknown = connection.execute(
                "UPDATE job SET state = 'waiting', waits = 'read_back', due_at = ?1, creation = 'unknown',
                                loss_answered = 0, reason = 'stopped while the document was being created',
                                sent_at = CASE creation WHEN 'intended' THEN ?1 ELSE sent_at END
                  WHERE state = 'running' AND creation <> 'none'",
                [now.0],
            )?;
            let cancelled: Vec<i64> = connection
                .prepare("SELECT id FROM job WHERE state = 'running' AND cancel_asked")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let others = connection.execute("UPDATE job SET state = 'queued' WHERE state = 'running'", [])?;
            for job_id in cancelled {
                cancel_if_asked(connection, job_id, JobState::Queued, now)?;
            }
            Ok(Recovered { jobs: unknown + others, images: images.len(), files: files.len() })
        })
        .await
    }
}
