//! Which layout a batch's entries were made by, and of which records of the archive.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError, Reader,
    rows::{self, signed, text},
};
use crate::entry::{EntrySource, Sha256};

/// The layout of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutUse {
    /// Its file.
    pub file: String,
    /// The file's digest.
    pub sha256: Sha256,
    /// The templates of references: by others, the same list would be created a second time.
    pub references: String,
    /// The digest of what it made of the archive, so that an interrupted admission is only continued by the same entries.
    pub entries_sha256: Sha256,
}

/// Keeps the layout of a batch that begins.
pub(super) fn keep(connection: &Connection, batch_id: i64, layout: &LayoutUse) -> Result<(), QueueError> {
    connection.prepare_cached("INSERT INTO batch_layout VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        batch_id,
        layout.file,
        layout.sha256.0,
        layout.references,
        layout.entries_sha256.0
    ])?;
    Ok(())
}

/// Keeps which records entries were made of.
pub(super) fn keep_sources(
    connection: &Connection,
    batch_id: i64,
    sources: &[(u64, EntrySource)],
) -> Result<(), QueueError> {
    for (index, source) in sources {
        connection.prepare_cached("INSERT INTO entry_source VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            batch_id,
            signed(*index),
            source.file,
            source.row.map(signed)
        ])?;
    }
    Ok(())
}

/// The file and the digest of the layout of a batch.
pub(super) fn of_batch(connection: &Connection, batch_id: i64) -> Result<Option<(String, Sha256)>, QueueError> {
    let mut select = connection.prepare_cached("SELECT file, sha256 FROM batch_layout WHERE batch_id = ?1")?;
    let found = select.query_row([batch_id], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))).optional()?;
    found.map(|(file, digest): (String, _)| Ok((file, rows::digest(&digest)?))).transpose()
}

/// The record that an entry was made of.
pub(super) fn source_of(connection: &Connection, batch_id: i64, index: i64) -> Result<Option<EntrySource>, QueueError> {
    let sql = "SELECT file, row FROM entry_source WHERE batch_id = ?1 AND entry_index = ?2";
    let source = |row: &rusqlite::Row<'_>| {
        let number: Option<i64> = row.get(1)?;
        Ok(EntrySource { file: row.get(0)?, row: number.and_then(|row| row.try_into().ok()), is_file: false })
    };
    Ok(connection.prepare_cached(sql)?.query_row(params![batch_id, index], source).optional()?)
}

/// The record that a job's entry was made of.
pub(super) fn source_of_job(connection: &Connection, job_id: i64) -> Result<Option<EntrySource>, QueueError> {
    let sql = "SELECT batch_id, entry_index FROM job WHERE id = ?1";
    let place = connection.prepare_cached(sql)?.query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    place.map_or(Ok(None), |(batch_id, index)| source_of(connection, batch_id, index))
}

impl Queue {
    /// Whether the batch was made by this layout, of the same archive.
    pub(crate) fn is_by_layout(&self, batch_id: i64, layout: &LayoutUse) -> Result<bool, QueueError> {
        let (sha256, entries) = (layout.sha256, layout.entries_sha256);
        self.run_blocking("is_by_layout", move |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM batch_layout WHERE batch_id = ?1 AND sha256 = ?2 AND entries_sha256 = ?3)";
            Ok(connection.prepare_cached(sql)?.query_row(params![batch_id, sha256.0, entries.0], |row| row.get(0))?)
        })
    }

    /// Whether something else than this was made of the list when the batch began.
    pub(crate) fn has_other_entries(&self, batch_id: i64, layout: &LayoutUse) -> Result<bool, QueueError> {
        let entries = layout.entries_sha256;
        self.run_blocking("has_other_entries", move |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM batch_layout WHERE batch_id = ?1 AND entries_sha256 <> ?2)";
            Ok(connection.prepare_cached(sql)?.query_row(params![batch_id, entries.0], |row| row.get(0))?)
        })
    }

    /// The other templates of references by which something of the same list was queued before.
    pub(crate) fn other_references(
        &self,
        drop: &str,
        (root, manifest): (&Path, &str),
        sha256: Sha256,
        references: &str,
    ) -> Result<Option<String>, QueueError> {
        let (drop, root, manifest) = (drop.to_owned(), root.to_owned(), manifest.to_owned());
        let references = references.to_owned();
        self.run_blocking("other_references", move |connection| {
            other_references(connection, &drop, (&root, &manifest), sha256, &references)
        })
    }
}

impl Reader {
    /// As [`Queue::other_references`].
    pub(crate) fn other_references(
        &self,
        drop: &str,
        place: (&Path, &str),
        sha256: Sha256,
        references: &str,
    ) -> Result<Option<String>, QueueError> {
        other_references(&self.connection, drop, place, sha256, references)
    }
}

fn other_references(
    connection: &Connection,
    drop: &str,
    (root, manifest): (&Path, &str),
    sha256: Sha256,
    references: &str,
) -> Result<Option<String>, QueueError> {
    let sql = "SELECT reference_templates FROM batch_layout JOIN batch ON batch.id = batch_id
                WHERE drop_id = (SELECT id FROM drop_folder WHERE name = ?1)
                  AND (root = ?2 AND manifest = ?3 OR manifest_sha256 = ?4)
                  AND reference_templates <> ?5
                  AND EXISTS (SELECT 1 FROM job WHERE job.batch_id = batch.id
                                 AND job.state NOT IN ('failed', 'cancelled'))
                ORDER BY batch.id DESC LIMIT 1";
    let mut select = connection.prepare_cached(sql)?;
    Ok(select.query_row(params![drop, text(root), manifest, sha256.0, references], |row| row.get(0)).optional()?)
}
