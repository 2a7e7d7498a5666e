//! The end of a batch: when its last job has ended, its receipt is published, its files are moved, and it is closed.
//!
//! Each of the three is recorded when it is done, and the receipt's name before it is written, so that a crash
//! between any two of them is finished at the next start and done once.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{Queue, QueueError, rows};
use crate::{clock::Timestamp, config::AfterSuccess, entry::Sha256, job::Place, problem::Problem};

/// A batch whose jobs have all ended, as whoever settles it needs it.
#[derive(Debug, Clone)]
pub struct EndedBatch {
    /// Its number.
    pub id: i64,
    /// The drop's name.
    pub drop: String,
    /// The manifest's path relative to `root`.
    pub manifest: String,
    /// The manifest's digest.
    pub manifest_sha256: Sha256,
    /// The identity of the manifest's file.
    pub manifest_file: String,
    /// The drop's folder.
    pub root: PathBuf,
    /// Beneath which images lie.
    pub image_root: PathBuf,
    /// Where the manifest's paths start.
    pub image_folder: String,
    /// Where the receipt goes.
    pub receipts_dir: PathBuf,
    /// Its permissions.
    pub receipt_mode: u32,
    /// Where files go when all is well.
    pub done_dir: Option<PathBuf>,
    /// Where files go when something is not.
    pub failed_dir: Option<PathBuf>,
    /// What becomes of the files when all is well.
    pub after_success: AfterSuccess,
    /// What is added to the manifest's name to name its done marker, where the drop has one.
    pub marker: Option<String>,
    /// Why the manifest itself is unusable, if it is.
    pub problems: Option<Vec<Problem>>,
    /// When it was taken in.
    pub received_at: Timestamp,
    /// When its last job ended.
    pub finished_at: Timestamp,
    /// The receipt's name, once it is chosen.
    pub receipt: Option<String>,
    /// Whether the receipt is published.
    pub published: bool,
    /// The group that the receipt is for.
    pub receipt_group: Option<String>,
    /// Where the manifest lies, if it was put away and its batch opened again.
    pub lies: Option<Place>,
}

impl EndedBatch {
    /// A path as the folder that is trusted and what lies beneath it, where strangers may have put links.
    #[must_use]
    pub fn place_of(&self, path: &Path) -> Option<Place> {
        let folders = [Some(&self.root), Some(&self.image_root), self.done_dir.as_ref(), self.failed_dir.as_ref()];
        let (root, beneath) =
            folders.into_iter().flatten().find_map(|root| Some((root, path.strip_prefix(root).ok()?)))?;
        Some(Place { root: root.to_str()?.to_owned(), path: beneath.to_str()?.to_owned() })
    }
}

/// A file that was put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where it was named to be: see [`path_key`](super::identity::path_key).
    pub key: i64,
    /// Its size when it was checked.
    pub bytes: u64,
    /// Its checksum when it was checked.
    pub checksum: u64,
    /// Where it lay, if not where it was named to be.
    pub from: Option<Place>,
    /// Where it lies now.
    pub to: Place,
}

const ENDED: &str = "batch.id, drop_folder.name, manifest, manifest_sha256, manifest_file, root, image_root,
                     image_folder, receipts_dir, receipt_mode, done_dir, failed_dir, after_success, problems,
                     received_at, finished_at, receipt, state, marker, receipt_group,
                     lies_root, lies_path";

fn ended(row: &rusqlite::Row<'_>) -> Result<EndedBatch, QueueError> {
    let after: String = row.get(12)?;
    let problems: Option<String> = row.get(13)?;
    let path = |column: usize| row.get::<_, String>(column).map(PathBuf::from);
    Ok(EndedBatch {
        id: row.get(0)?,
        drop: row.get(1)?,
        manifest: row.get(2)?,
        manifest_sha256: rows::digest(&row.get::<_, Vec<u8>>(3)?)?,
        manifest_file: row.get(4)?,
        root: path(5)?,
        image_root: path(6)?,
        image_folder: row.get(7)?,
        receipts_dir: path(8)?,
        receipt_mode: row.get(9)?,
        done_dir: row.get::<_, Option<String>>(10)?.map(PathBuf::from),
        failed_dir: row.get::<_, Option<String>>(11)?.map(PathBuf::from),
        after_success: AfterSuccess::parse(&after).ok_or_else(|| rows::unreadable("after_success", &after))?,
        problems: problems.map(|text| rows::problems(&text)),
        received_at: Timestamp(row.get(14)?),
        finished_at: Timestamp(row.get::<_, Option<i64>>(15)?.unwrap_or_default()),
        receipt: row.get(16)?,
        published: row.get::<_, String>(17)? == "published",
        marker: row.get(18)?,
        receipt_group: row.get(19)?,
        lies: rows::place(row, 20)?,
    })
}

impl Queue {
    /// Up to `limit` batches that are to be settled, oldest first, after number `after`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn to_settle(&self, after: i64, limit: u32) -> Result<Vec<EndedBatch>, QueueError> {
        self.run_blocking("to_settle", move |connection| {
            let sql = format!(
                "SELECT {ENDED} FROM batch JOIN drop_folder ON drop_folder.id = batch.drop_id
                  WHERE state IN ('ended', 'published') AND state <> 'closed' AND batch.id > ?1
                  ORDER BY batch.id LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![after, limit])?;
            let mut batches = Vec::new();
            while let Some(row) = found.next()? {
                batches.push(ended(row)?);
            }
            Ok(batches)
        })
    }

    /// Notes the name that a receipt will have, before it is written.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn name_receipt(&self, batch_id: i64, name: String) -> Result<(), QueueError> {
        self.run_blocking("name_receipt", move |connection| {
            change(connection, batch_id, "UPDATE batch SET receipt = ?2 WHERE id = ?1 AND state = 'ended'", &name)
        })
    }

    /// Notes that the receipt is on disk.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn receipt_published(&self, batch_id: i64) -> Result<(), QueueError> {
        self.run_blocking("receipt_published", move |connection| {
            let sql = "UPDATE batch SET state = 'published', trouble = ?2 WHERE id = ?1 AND state = 'ended'";
            change(connection, batch_id, sql, &None::<String>)
        })
    }

    /// Notes that the files are where they belong: `shelf` is the dated folder that they were moved into, if any,
    /// `manifest` where the manifest lies in it, and `moved` are the files whose new place is not noted yet.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn batch_closed(
        &self,
        batch_id: i64,
        shelf: Option<String>,
        manifest: Option<Place>,
        moved: Vec<Moved>,
    ) -> Result<(), QueueError> {
        self.run_blocking("batch_closed", move |connection| {
            lie(connection, &moved)?;
            let (root, path) = parts(manifest.as_ref());
            let changed = connection
                .prepare_cached(
                    "UPDATE batch SET state = 'closed', trouble = NULL, shelf = ?2, lies_root = ?3, lies_path = ?4
                      WHERE id = ?1 AND state = 'published'",
                )?
                .execute(params![batch_id, shelf, root, path])?;
            if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
        })
    }

    /// Notes where files lie now.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn files_moved(&self, moved: Vec<Moved>) -> Result<(), QueueError> {
        self.run_blocking("files_moved", move |connection| lie(connection, &moved))
    }

    /// Notes what keeps a batch from being settled, for `status` and `why`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn batch_trouble(&self, batch_id: i64, trouble: String) -> Result<(), QueueError> {
        self.run_blocking("batch_trouble", move |connection| {
            let sql = "UPDATE batch SET trouble = ?2 WHERE id = ?1 AND state <> 'closed'";
            change(connection, batch_id, sql, &trouble)
        })
    }
}

/// Notes where files lie now, for every batch that names them.
fn lie(connection: &Connection, moved: &[Moved]) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached(
        "UPDATE upload SET lies_root = ?1, lies_path = ?2
          WHERE path_key = ?3 AND bytes = ?4 AND checksum = ?5 AND lies_root IS ?6 AND lies_path IS ?7",
    )?;
    for Moved { key, bytes, checksum, from, to } in moved {
        let (root, path) = parts(from.as_ref());
        let bytes = super::admit::signed(*bytes);
        statement.execute(params![to.root, to.path, key, bytes, checksum.cast_signed(), root, path])?;
    }
    Ok(())
}

pub(super) fn parts(place: Option<&Place>) -> (Option<&str>, Option<&str>) {
    place.map(|place| (place.root.as_str(), place.path.as_str())).unzip()
}

fn change(connection: &Connection, batch_id: i64, sql: &str, value: &dyn rusqlite::ToSql) -> Result<(), QueueError> {
    let changed = connection.prepare_cached(sql)?.execute(params![batch_id, value])?;
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
}
