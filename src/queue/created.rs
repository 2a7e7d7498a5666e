//! What was put onto each profile, as far as the queue knows, for `verify`.
//!
//! One profile at a time, so that memory grows with the jobs of the largest profile only.

use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::{Deserialize, Serialize};

use super::{Queue, QueueError, look::Filter, rows};
use crate::{entry::EntryKind, job::JobState};

/// A job that has put something onto a profile, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Its number.
    pub job: i64,
    /// The drop that it came from.
    pub drop: String,
    /// The sender's key.
    pub reference: Option<String>,
    /// Whether it is about a document or a file.
    pub kind: EntryKind,
    /// Where it stands.
    pub state: JobState,
    /// The document's or file's ID, where it is known.
    pub remote_id: Option<String>,
    /// The IDs of its images that are known.
    pub images: Vec<String>,
    /// How many answers to uploads of images were lost.
    pub lost: u64,
}

/// What the queue knows of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnProfile {
    /// The profile.
    pub profile: String,
    /// In the order in which they were taken in.
    pub jobs: Vec<Ours>,
}

/// Calls `each` with every profile that a job which the filter means has put something onto, and with all jobs that have.
///
/// # Errors
///
/// Those of the database, and of `each`.
pub fn by_profile<E: From<QueueError>>(
    connection: &Connection,
    filter: &Filter,
    mut each: impl FnMut(OnProfile) -> Result<(), E>,
) -> Result<(), E> {
    let sqlite = |source| E::from(QueueError::Sqlite { source });
    let (text, values) = filter.job_conditions();
    let sql = format!(
        "SELECT job.profile_id, job.id, drop_folder.name, job.reference, job.kind, job.state, job.remote_id, ({text})
           FROM job JOIN batch ON batch.id = job.batch_id JOIN drop_folder ON drop_folder.id = job.drop_id
          WHERE job.state <> 'duplicate'
            AND (job.state = 'done'
                 OR EXISTS (SELECT 1 FROM upload WHERE job_id = job.id AND (upload.remote_id IS NOT NULL OR lost > 0)))
          ORDER BY job.profile_id, job.id"
    );
    let mut statement = connection.prepare(&sql).map_err(sqlite)?;
    let mut found = statement.query(params_from_iter(values)).map_err(sqlite)?;
    let (mut current, mut meant) = (OnProfile::default(), false);
    while let Some(row) = found.next().map_err(sqlite)? {
        let profile: String = row.get(0).map_err(sqlite)?;
        if profile != current.profile {
            let done = std::mem::replace(&mut current, OnProfile { profile, jobs: Vec::new() });
            if std::mem::take(&mut meant) {
                each(done)?;
            }
        }
        let mut ours = ours(row)?;
        if ours.kind == EntryKind::Document {
            (ours.images, ours.lost) = images(connection, ours.job)?;
        }
        meant |= row.get::<_, bool>(7).map_err(sqlite)?;
        current.jobs.push(ours);
    }
    if meant {
        each(current)?;
    }
    Ok(())
}

fn ours(row: &rusqlite::Row<'_>) -> Result<Ours, QueueError> {
    let (kind, state): (String, String) = (row.get(4)?, row.get(5)?);
    Ok(Ours {
        job: row.get(1)?,
        drop: row.get(2)?,
        reference: row.get(3)?,
        kind: rows::kind(&kind)?,
        state: JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?,
        remote_id: row.get(6)?,
        images: Vec::new(),
        lost: 0,
    })
}

/// The known IDs of a job's images, and how many answers were lost.
fn images(connection: &Connection, job: i64) -> Result<(Vec<String>, u64), QueueError> {
    let mut statement =
        connection.prepare_cached("SELECT remote_id, lost FROM upload WHERE job_id = ?1 ORDER BY position")?;
    let mut rows = statement.query([job])?;
    let (mut ids, mut lost) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        ids.extend(row.get::<_, Option<String>>(0)?);
        lost += u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
    }
    Ok((ids, lost))
}

/// What the last `verify` of everything came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When it ended, as RFC 3339.
    pub at: String,
    /// Profiles that were looked at.
    pub profiles: u64,
    /// Documents that do not stand any more as they were created.
    pub amiss: u64,
    /// Images that no document uses and no job knows of, of each profile as many at most as answers were lost there.
    pub leftover_images: u64,
}

/// Reads it; none where there has been no such `verify`, or another version wrote it.
///
/// # Errors
///
/// Those of the database.
pub fn verified(connection: &Connection) -> Result<Option<Verified>, QueueError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT value FROM setting WHERE name = 'verified'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

impl Queue {
    /// Writes down what a `verify` of everything came to.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn note_verified(&self, verified: &Verified) -> Result<(), QueueError> {
        let text = serde_json::to_string(verified).unwrap_or_default();
        self.run_blocking(move |connection| {
            connection.execute(
                "INSERT INTO setting VALUES ('verified', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [&text],
            )?;
            Ok(())
        })
    }
}
