//! Replaces what was checked of a running job's file that has changed since.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError,
    admission::CheckedFile,
    identity::{EntryContent, Owner, digest_of, key_of, own, owner},
    rows,
    transition::one_job,
};
use crate::entry::EntryKind;

impl Queue {
    /// Records the new content of files of a running job. Returns `false`, and changes nothing, where that would make
    /// the job an entry that exists already, or where other jobs wait for the entry that it was.
    pub(crate) async fn recheck(&self, job_id: i64, files: Vec<(u32, CheckedFile)>) -> Result<bool, QueueError> {
        let holder = self.holder();
        self.run("recheck", move |connection| {
            // Rolled back where the job may not take the new content.
            connection.execute_batch("SAVEPOINT recheck")?;
            let taken = take(connection, job_id, &holder, &files)?;
            connection.execute_batch(if taken { "RELEASE recheck" } else { "ROLLBACK TO recheck; RELEASE recheck" })?;
            Ok(taken)
        })
        .await
    }
}

fn take(connection: &Connection, job_id: i64, holder: &str, files: &[(u32, CheckedFile)]) -> Result<bool, QueueError> {
    let waited_for: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM job WHERE state = 'waiting' AND waits = 'twin' AND twin_of = ?1)",
        )?
        .query_row([job_id], |row| row.get(0))?;
    if waited_for {
        return Ok(false);
    }
    for (position, file) in files {
        let changed = connection
            .prepare_cached(
                "UPDATE upload SET bytes = ?3, sha256 = ?4, checksum = ?5, seen = ?6
                  WHERE job_id = ?1 AND position = ?2 AND remote_id IS NULL",
            )?
            .execute(params![
                job_id,
                position,
                rows::signed(file.bytes),
                file.sha256.0,
                file.checksum.cast_signed(),
                file.seen.map(|identity| identity.in_full()),
            ])?;
        if changed != 1 {
            return Err(QueueError::Gone { what: "upload of job", id: job_id });
        }
    }
    let (drop_id, reference, old_key, replaces): (i64, Option<String>, Vec<u8>, Option<i64>) = connection
        .prepare_cached(
            "SELECT drop_id, reference, identity, twin_of FROM job
              WHERE id = ?1 AND state = 'running' AND holder = ?2 AND creation = 'none'",
        )?
        .query_row(params![job_id, holder], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?
        .ok_or(QueueError::Gone { what: "job", id: job_id })?;
    let content = content(connection, job_id)?;
    // One that was to replace another entry may have become that one again.
    let exists: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND state = 'done' AND content = ?2)")?
        .query_row(params![replaces, content], |row| row.get(0))?;
    if exists {
        return Ok(false);
    }
    let key = key_of(reference.as_deref(), &content);
    if key.as_slice() != old_key {
        if owner(connection, drop_id, &key, &content)? != Owner::Nobody {
            return Ok(false);
        }
        connection
            .prepare_cached("DELETE FROM identity WHERE drop_id = ?1 AND key = ?2 AND job_id = ?3")?
            .execute(params![drop_id, old_key, job_id])?;
        own(connection, drop_id, &key, job_id)?;
    }
    let changed = connection
        .prepare_cached(
            "UPDATE job SET content = ?2, identity = ?3 WHERE id = ?1 AND state = 'running' AND holder = ?4",
        )?
        .execute(params![job_id, content, key, holder])?;
    one_job(changed, job_id)?;
    Ok(true)
}

/// The digest of what a job asks for, by its files as recorded.
fn content(connection: &Connection, job_id: i64) -> Result<[u8; 32], QueueError> {
    let (profile, kind, category, document_type, name): (String, String, String, String, Option<String>) = connection
        .prepare_cached("SELECT profile_id, kind, category, document_type, name FROM job WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    let asked = match rows::kind(&kind)? {
        EntryKind::Document => EntryContent::Document { category: &category, document_type: &document_type },
        EntryKind::File => EntryContent::File { name: name.as_deref() },
    };
    let uploads = rows::uploads(connection, job_id)?;
    Ok(digest_of(&profile, &asked, uploads.iter().map(|upload| upload.sha256)))
}
