//! The files that batches name: where each is now, and who else names it.

use rusqlite::{Connection, params};

use super::{Queue, QueueError, Reader, rows};
use crate::job::FileLocation;

/// A file that a batch names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// As the manifest writes it.
    pub path: String,
    /// What it was when it was checked; `None` of an entry that never became a job.
    pub checked: Option<Fingerprint>,
    /// Where it is, if it was moved and its batch opened again.
    pub moved_to: Option<FileLocation>,
}

/// What a file was when it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its size.
    pub bytes: u64,
    /// Its checksum.
    pub checksum: u64,
    /// Its identity, where it is enough to detect a change.
    pub seen: Option<String>,
}

/// A file that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedFile {
    /// Where it was named to be: see `relative_path::path_key`.
    pub key: i64,
    /// Its size when it was checked.
    pub bytes: u64,
    /// Its checksum when it was checked.
    pub checksum: u64,
    /// Where it was, if not where it was named to be.
    pub from: Option<FileLocation>,
    /// Where it is now.
    pub to: FileLocation,
}

/// Entries whose files are read at once.
const ENTRIES: u32 = 256;

impl Reader {
    /// Calls `each` with every file that a batch names, some at a time; memory stays flat, and nothing is kept open
    /// meanwhile. A file that several entries name may come several times.
    pub(crate) fn files<E: From<QueueError>>(
        &self,
        batch_id: i64,
        mut each: impl FnMut(Vec<NamedFile>) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = &self.connection;
        let of_jobs = "SELECT path, bytes, checksum, seen, lies_root, lies_path FROM job JOIN upload ON job_id = id
                        WHERE batch_id = ?1 AND entry_index > ?2 AND entry_index <= ?3";
        let of_invalid = "SELECT value, NULL, NULL, NULL, NULL, NULL FROM invalid_entry, json_each(paths)
                           WHERE batch_id = ?1 AND entry_index > ?2 AND entry_index <= ?3";
        for (table, sql) in [("job", of_jobs), ("invalid_entry", of_invalid)] {
            let mut after = -1;
            while let Some(last) = last_of_next(connection, table, batch_id, after)? {
                each(named_files(connection, sql, (batch_id, after, last))?)?;
                after = last;
            }
        }
        Ok(())
    }

    /// Whether this file, which is where it was named to be or at `moved_to`, is named by a batch other than `batch_id` that
    /// is not closed.
    pub(crate) fn is_still_named(
        &self,
        batch_id: i64,
        path_key: i64,
        moved_to: Option<&FileLocation>,
    ) -> Result<bool, QueueError> {
        let (root, path) = parts(moved_to);
        Ok(self
            .connection
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM upload JOIN job ON job.id = upload.job_id
                                  JOIN batch ON batch.id = job.batch_id
                                 WHERE upload.path_key = ?1 AND upload.lies_root IS ?3 AND upload.lies_path IS ?4
                                   AND batch.id <> ?2 AND batch.state <> 'closed')
                     OR (?3 IS NULL
                         AND EXISTS (SELECT 1 FROM invalid_path JOIN batch ON batch.id = invalid_path.batch_id
                                      WHERE path_key = ?1 AND batch.id <> ?2 AND batch.state <> 'closed'))",
            )?
            .query_row(params![path_key, batch_id, root, path], |row| row.get(0))?)
    }
}

/// The index of the last of the next entries after `after`.
fn last_of_next(connection: &Connection, table: &str, batch_id: i64, after: i64) -> Result<Option<i64>, QueueError> {
    let sql = format!(
        "SELECT max(entry_index) FROM (SELECT entry_index FROM {table}
          WHERE batch_id = ?1 AND entry_index > ?2 ORDER BY entry_index LIMIT ?3)"
    );
    Ok(connection.prepare_cached(&sql)?.query_row(params![batch_id, after, ENTRIES], |row| row.get(0))?)
}

fn named_files(connection: &Connection, sql: &str, range: (i64, i64, i64)) -> Result<Vec<NamedFile>, QueueError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(range)?;
    let mut files = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes: Option<i64> = row.get(1)?;
        let checksum: Option<i64> = row.get(2)?;
        let checked = bytes.and_then(|bytes| bytes.try_into().ok()).zip(checksum.map(i64::cast_unsigned));
        let seen = row.get(3)?;
        let checked = checked.map(|(bytes, checksum)| Fingerprint { bytes, checksum, seen });
        files.push(NamedFile { path: row.get(0)?, checked, moved_to: rows::place(row, 4)? });
    }
    Ok(files)
}

impl Queue {
    /// Records where files are now.
    pub(crate) fn files_moved(&self, moved: Vec<MovedFile>) -> Result<(), QueueError> {
        self.run_blocking("files_moved", move |connection| record_moves(connection, &moved))
    }
}

/// Records where files are now, for every batch that names them.
pub(super) fn record_moves(connection: &Connection, moved: &[MovedFile]) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached(
        "UPDATE upload SET lies_root = ?1, lies_path = ?2
          WHERE path_key = ?3 AND bytes = ?4 AND checksum = ?5 AND lies_root IS ?6 AND lies_path IS ?7",
    )?;
    for MovedFile { key, bytes, checksum, from, to } in moved {
        let (root, path) = parts(from.as_ref());
        let bytes = rows::signed(*bytes);
        statement.execute(params![to.root, to.path, key, bytes, checksum.cast_signed(), root, path])?;
    }
    Ok(())
}

pub(super) fn parts(place: Option<&FileLocation>) -> (Option<&str>, Option<&str>) {
    place.map(|place| (place.root.as_str(), place.path.as_str())).unzip()
}
