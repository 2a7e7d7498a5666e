//! What purging the done folders needs to know.

use rusqlite::{OptionalExtension, params};

use super::{Queue, QueueError, Reader, rows};
use crate::{clock::Timestamp, entry::Sha256, job::FileLocation};

/// A closed batch whose files were moved away and not purged.
#[derive(Debug, Clone)]
pub struct Purgeable {
    /// Its number.
    pub id: i64,
    /// Its manifest's path within the drop.
    pub manifest: String,
    /// Its manifest's digest.
    pub manifest_sha256: Sha256,
    /// Where its manifest is now.
    pub manifest_moved_to: Option<FileLocation>,
    /// What its done marker's name ends in, where it had one.
    pub marker: Option<String>,
    /// The dated folder that its files were moved into.
    pub archive: String,
    /// The folder of what is done.
    pub done_dir: String,
    /// The folder that its images were in.
    pub image_root: String,
    /// Where its manifest's paths start.
    pub image_folder: String,
    /// Whether the manifest itself could not be used.
    pub unusable: bool,
}

impl Reader {
    /// The next batch after number `after` that ended before this moment, of those whose files may be purged.
    pub(crate) fn next_purgeable(
        &self,
        drop: &str,
        before: Timestamp,
        after: i64,
    ) -> Result<Option<Purgeable>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, manifest, manifest_sha256, lies_root, lies_path, marker, shelf, done_dir, image_root, image_folder,
                    problems IS NOT NULL
               FROM batch INDEXED BY batch_unpurged
              WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1) AND finished_at < ?2 AND id > ?3
                AND state = 'closed' AND shelf IS NOT NULL AND purged_at IS NULL AND done_dir IS NOT NULL
              ORDER BY id LIMIT 1",
        )?;
        let mut found = statement.query(params![drop, before.0, after])?;
        let Some(row) = found.next()? else { return Ok(None) };
        Ok(Some(Purgeable {
            id: row.get(0)?,
            manifest: row.get(1)?,
            manifest_sha256: rows::digest(&row.get::<_, Vec<u8>>(2)?)?,
            manifest_moved_to: rows::place(row, 3)?,
            marker: row.get(5)?,
            archive: row.get(6)?,
            done_dir: row.get(7)?,
            image_root: row.get(8)?,
            image_folder: row.get(9)?,
            unusable: row.get(10)?,
        }))
    }

    /// Whether another batch has this file too, and is not purged yet.
    pub(crate) fn is_unpurged_elsewhere(
        &self,
        batch_id: i64,
        path_key: i64,
        place: &FileLocation,
    ) -> Result<bool, QueueError> {
        let needed = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM upload JOIN job ON job.id = upload.job_id JOIN batch ON batch.id = job.batch_id
                  WHERE upload.path_key = ?1 AND upload.lies_root = ?2 AND upload.lies_path = ?3
                    AND batch.id <> ?4 AND batch.purged_at IS NULL LIMIT 1",
            )?
            .query_row(params![path_key, place.root, place.path, batch_id], |_| Ok(()))
            .optional()?;
        Ok(needed.is_some())
    }
}

impl Queue {
    /// Notes that nothing of a batch is left in the done folder; returns `false` where a person's retry has opened it again
    /// meanwhile.
    pub(crate) fn purged(&self, batch_id: i64, now: Timestamp) -> Result<bool, QueueError> {
        self.run_blocking("purged", move |connection| {
            let changed = connection
                .prepare_cached("UPDATE batch SET purged_at = ?2 WHERE id = ?1 AND state = 'closed'")?
                .execute(params![batch_id, now.0])?;
            Ok(changed == 1)
        })
    }
}
