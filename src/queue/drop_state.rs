//! What the scan of a drop's folder found besides manifests, for `status` and monitoring: its ground, and files that
//! belong to nothing.

use std::path::Path;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Queue, QueueError, Reader, rows::drop_id};
use crate::{clock::Timestamp, job::FileLocation};

/// Files in a drop that no manifest names and that are no manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnclaimedFiles {
    /// How many there are.
    pub files: u64,
    /// When the oldest of them was put there, as RFC 3339.
    pub oldest: Option<String>,
    /// The paths of some of them.
    pub examples: Vec<String>,
    /// How many of them have nearly a manifest's name.
    pub like_manifests: u64,
    /// The paths of some of these.
    pub manifest_examples: Vec<String>,
}

impl Queue {
    /// Notes what is wrong with a drop's ground, or that nothing is any more.
    pub(crate) fn note_ground(&self, drop: &str, fault: Option<String>, now: Timestamp) -> Result<(), QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("note_ground", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            connection
                .prepare_cached(
                    "UPDATE drop_folder SET ground = ?2,
                         ground_since = CASE WHEN ?2 IS NULL THEN NULL ELSE coalesce(ground_since, ?3) END
                      WHERE id = ?1",
                )?
                .execute(params![drop_id, fault, now.0])?;
            Ok(())
        })
    }

    /// Notes the files of a drop that belong to nothing.
    pub(crate) fn note_unclaimed(&self, drop: &str, unclaimed: &UnclaimedFiles) -> Result<(), QueueError> {
        let drop = drop.to_owned();
        let text = (unclaimed.files > 0).then(|| serde_json::to_string(unclaimed).unwrap_or_default());
        self.run_blocking("note_unclaimed", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            connection
                .prepare_cached("UPDATE drop_folder SET unclaimed = ?2 WHERE id = ?1")?
                .execute(params![drop_id, text])?;
            Ok(())
        })
    }
}

impl Reader {
    /// Whether a batch of this drop could not be settled when that was last tried.
    pub(crate) fn has_troubled_batch(&self, drop: &str) -> Result<bool, QueueError> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT 1 FROM batch WHERE state IN ('ended', 'published') AND state <> 'closed' AND trouble IS NOT NULL
                    AND drop_id = (SELECT id FROM drop_folder WHERE name = ?1) LIMIT 1",
            )?
            .exists([drop])?)
    }

    /// Whether files of a manifest that was taken into this work folder are to be there: jobs of it have not ended. Once all
    /// have, its files are put away, and the folder may be gone before that is recorded.
    pub(crate) fn has_taken_into(&self, work: &FileLocation) -> Result<bool, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT work_path FROM batch
              WHERE state IN ('admitting', 'open') AND state <> 'closed' AND work_root = ?1",
        )?;
        let mut paths = statement.query([&work.root])?;
        while let Some(row) = paths.next()? {
            if Path::new(&row.get::<_, String>(0)?).starts_with(&work.path) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a manifest that is not settled names the file with this key where senders put it; with `ever`, whether any
    /// manifest does that was taken in.
    pub(crate) fn names_file(&self, path_key: i64, ever: bool) -> Result<bool, QueueError> {
        let uploads = "SELECT 1 FROM upload JOIN job ON job.id = job_id JOIN batch ON batch.id = batch_id
                        WHERE path_key = ?1 AND (?2 OR upload.lies_root IS NULL AND batch.state <> 'closed')";
        let refused = "SELECT 1 FROM invalid_path JOIN batch ON batch.id = batch_id
                        WHERE path_key = ?1 AND (?2 OR batch.state <> 'closed')";
        for sql in [uploads, refused] {
            if self.connection.prepare_cached(sql)?.exists(params![path_key, ever])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The files of a drop that belong to nothing, as they were noted last.
    pub(crate) fn unclaimed(&self, drop: &str) -> Result<UnclaimedFiles, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT unclaimed FROM drop_folder WHERE name = ?1")?;
        let text: Option<String> = select.query_row([drop], |row| row.get(0)).optional()?.flatten();
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// What is wrong with a drop's ground, as it was noted last.
    pub(crate) fn ground(&self, drop: &str) -> Result<Option<String>, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT ground FROM drop_folder WHERE name = ?1")?;
        Ok(select.query_row([drop], |row| row.get(0)).optional()?.flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::test_support::{DROP, NOW, Site};

    #[test]
    fn ground_keeps_the_moment_since_when_it_is_bad() {
        let site = Site::new();
        let later = NOW.after(Duration::from_secs(60));
        site.queue.note_ground(DROP, Some("read-only".into()), NOW).unwrap();
        site.queue.note_ground(DROP, Some("full".into()), later).unwrap();
        let tally = |site: &Site| site.reader().tallies().unwrap().remove(0);
        assert_eq!((tally(&site).ground.as_deref(), tally(&site).ground_since), (Some("full"), Some(NOW)));
        assert_eq!(site.reader().ground(DROP).unwrap().as_deref(), Some("full"));
        site.queue.note_ground(DROP, None, later).unwrap();
        assert_eq!((tally(&site).ground, tally(&site).ground_since), (None, None));
    }

    #[test]
    fn unclaimed_files_are_shown_as_they_were_noted() {
        let site = Site::new();
        let found = UnclaimedFiles { files: 2, examples: vec!["front.png".into()], ..UnclaimedFiles::default() };
        site.queue.note_unclaimed(DROP, &found).unwrap();
        assert_eq!(site.reader().tallies().unwrap()[0].unclaimed, Some(found));
        site.queue.note_unclaimed(DROP, &UnclaimedFiles::default()).unwrap();
        assert_eq!(site.reader().tallies().unwrap()[0].unclaimed, None);
    }

    #[test]
    fn a_batch_that_cannot_be_settled_is_known_by_its_drop() {
        let site = Site::new();
        assert!(!site.reader().has_troubled_batch(DROP).unwrap());
        let batch = site.admit("empty.manifest.json", &[]);
        site.queue.batch_trouble(batch, "read-only".into()).unwrap();
        assert!(site.reader().has_troubled_batch(DROP).unwrap());
        assert!(!site.reader().has_troubled_batch("another").unwrap());
    }
}
