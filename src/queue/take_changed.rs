//! Accepts another content of a failed job's files, as a person asked for, and sends the job again.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, Reader, acts,
    admission::CheckedFile,
    content::ContentDigests,
    control::{self, CommandOutcome},
    identity::key_of,
    rows, similar,
};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    file_identity,
    job::{JobState, Upload},
};

/// The files of a job, and where they are.
#[derive(Debug)]
pub(crate) struct JobFiles {
    pub(crate) kind: EntryKind,
    pub(crate) state: JobState,
    pub(crate) uploads: Vec<Upload>,
    /// The folder that those are in which were not moved, and where their paths start in it.
    pub(crate) image_root: String,
    pub(crate) image_folder: String,
}

impl Reader {
    /// The files of a job; `None` where there is no such job.
    pub(crate) fn job_files(&self, job_id: i64) -> Result<Option<JobFiles>, QueueError> {
        self.snapshot(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT kind, job.state, image_root, image_folder FROM job JOIN batch ON batch.id = batch_id
                      WHERE job.id = ?1",
                )?
                .query_row([job_id], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let Some((kind, state, image_root, image_folder)) = found else { return Ok(None) };
            Ok(Some(JobFiles {
                kind: rows::kind(&kind)?,
                state: JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?,
                uploads: rows::uploads(connection, job_id)?,
                image_root,
                image_folder,
            }))
        })
    }
}

impl Queue {
    /// Records what files of a failed job are now, by position, and queues it again, as part of what a person does. Changes nothing where another
    /// manifest named one of them, or where there is nothing to retry.
    pub(crate) fn take_changed(
        &self,
        act: i64,
        job_id: i64,
        files: Vec<(u32, CheckedFile)>,
        now: Timestamp,
    ) -> Result<CommandOutcome, QueueError> {
        self.run_blocking("take_changed", move |connection| {
            connection.execute_batch("SAVEPOINT take_changed")?;
            let outcome = take(connection, job_id, &files, now)?;
            if outcome.done {
                acts::note_jobs(connection, act, [job_id])?;
            }
            let end = if outcome.done { "RELEASE" } else { "ROLLBACK TO take_changed; RELEASE" };
            connection.execute_batch(&format!("{end} take_changed"))?;
            Ok(outcome)
        })
    }
}

fn take(
    connection: &Connection,
    job_id: i64,
    files: &[(u32, CheckedFile)],
    now: Timestamp,
) -> Result<CommandOutcome, QueueError> {
    let refused = |message: String| Ok(CommandOutcome { job: job_id, done: false, message });
    let ended: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND state IN ('failed', 'cancelled'))",
        [job_id],
        |row| row.get(0),
    )?;
    if !ended {
        return refused("has not failed: nothing was changed".into());
    }
    for (position, file) in files {
        if let Some(manifest) = other_manifest(connection, job_id, *position)? {
            return refused(format!(
                "stays as it is: {manifest} named the same file, so what is there now may be meant for that one: \
                 drop the entry again under a name of its own"
            ));
        }
        let changed = connection
            .prepare_cached(
                "UPDATE upload SET changed_from = coalesce(changed_from, sha256), bytes = ?3, sha256 = ?4,
                                   checksum = ?5, seen = ?6
                  WHERE job_id = ?1 AND position = ?2 AND remote_id IS NULL",
            )?
            .execute(params![
                job_id,
                position,
                rows::signed(file.bytes),
                file.sha256.0,
                file.checksum.cast_signed(),
                file.seen.map(|identity| file_identity::write_checked(&identity)),
            ])?;
        if changed != 1 {
            return Err(QueueError::Gone { what: "upload of job", id: job_id });
        }
    }
    let (drop_id, reference, old_key): (i64, Option<String>, Vec<u8>) = connection
        .prepare_cached("SELECT drop_id, reference, identity FROM job WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let digests = ContentDigests::of_job(connection, job_id)?;
    let content = digests.by(digests.rule());
    let key = key_of(reference.as_deref(), content);
    if key.as_slice() != old_key {
        connection
            .prepare_cached("DELETE FROM identity WHERE drop_id = ?1 AND key = ?2 AND job_id = ?3")?
            .execute(params![drop_id, old_key, job_id])?;
    }
    connection
        .prepare_cached("UPDATE job SET content = ?2, identity = ?3 WHERE id = ?1")?
        .execute(params![job_id, content, key])?;
    similar::add(connection, job_id)?;
    control::retry_one(connection, job_id, now)
}

/// Another manifest that named a job's file, at any time. The same one, dropped again, is no other.
fn other_manifest(connection: &Connection, job_id: i64, position: u32) -> Result<Option<String>, QueueError> {
    Ok(connection
        .prepare_cached(
            "WITH ours AS (SELECT batch.id, batch.drop_id, manifest, manifest_sha256, path_key
                             FROM upload JOIN job ON job.id = job_id JOIN batch ON batch.id = batch_id
                            WHERE job_id = ?1 AND position = ?2),
                  others AS (SELECT job.batch_id FROM ours JOIN upload ON upload.path_key = ours.path_key
                               JOIN job ON job.id = upload.job_id
                             UNION
                             SELECT invalid_path.batch_id FROM ours JOIN invalid_path USING (path_key))
             SELECT batch.manifest FROM others JOIN batch ON batch.id = others.batch_id, ours
              WHERE batch.id <> ours.id
                AND (batch.drop_id, batch.manifest, batch.manifest_sha256)
                    IS NOT (ours.drop_id, ours.manifest, ours.manifest_sha256)
              LIMIT 1",
        )?
        .query_row(params![job_id, position], |row| row.get(0))
        .optional()?)
}
