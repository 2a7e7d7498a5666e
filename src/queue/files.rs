//! The files that batches name: where each is now, and who else names it.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use xxhash_rust::xxh3::Xxh3;

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

/// Files that are remembered while those of a batch are read, in some 2 MB.
const REMEMBERED: usize = 1 << 16;

/// The files of a batch that came already. What is done with a file costs a look at every entry that names it; done for each
/// of those entries, that was a square: 100,000 entries of 100 images were settled for hours.
#[derive(Default)]
struct SeenFiles(HashSet<u128>);

impl SeenFiles {
    /// Whether a file comes for the first time, as far as is remembered.
    fn is_new(&mut self, file: &NamedFile) -> bool {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let mut hash = Xxh3::new();
        let mut field = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        field(&file.path);
        if let Some(place) = &file.moved_to {
            field(&place.root);
            field(&place.path);
        }
        // Two entries may have seen different files under one path.
        if let Some(Fingerprint { bytes, checksum, .. }) = file.checked {
            hash.update(&bytes.to_le_bytes());
            hash.update(&checksum.to_le_bytes());
        }
        self.0.insert(hash.digest128())
    }
}

impl Reader {
    /// Calls `each` with every file that a batch names, some at a time; memory stays flat, and nothing is kept open
    /// meanwhile. A file that several entries name comes once, where the batch has not very many files.
    pub(crate) fn files<E: From<QueueError>>(
        &self,
        batch_id: i64,
        mut each: impl FnMut(Vec<NamedFile>) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = &self.connection;
        let mut seen = SeenFiles::default();
        let of_jobs = "SELECT path, bytes, checksum, seen, lies_root, lies_path FROM job JOIN upload ON job_id = id
                        WHERE batch_id = ?1 AND entry_index > ?2 AND entry_index <= ?3";
        let of_invalid = "SELECT value, NULL, NULL, NULL, NULL, NULL FROM invalid_entry, json_each(paths)
                           WHERE batch_id = ?1 AND entry_index > ?2 AND entry_index <= ?3";
        for (table, sql) in [("job", of_jobs), ("invalid_entry", of_invalid)] {
            let mut after = -1;
            while let Some(last) = last_of_next(connection, table, batch_id, after)? {
                let mut files = named_files(connection, sql, (batch_id, after, last))?;
                files.retain(|file| seen.is_new(file));
                if !files.is_empty() {
                    each(files)?;
                }
                after = last;
            }
        }
        Ok(())
    }

    /// Whether this file, which is where it was named to be or at `moved_to`, is named by a batch other than `batch_id` that
    /// is not closed. What is in a work folder belongs to one batch.
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
                                   AND batch.id <> ?2 AND batch.state <> 'closed'
                                   AND (?3 IS NOT NULL OR batch.work_path IS NULL))
                     OR (?3 IS NULL
                         AND EXISTS (SELECT 1 FROM invalid_path JOIN batch ON batch.id = invalid_path.batch_id
                                      WHERE path_key = ?1 AND batch.id <> ?2 AND batch.state <> 'closed'
                                        AND batch.work_path IS NULL))",
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
    /// Records where files of a batch are now.
    pub(crate) fn files_moved(&self, batch_id: i64, moved: Vec<MovedFile>) -> Result<(), QueueError> {
        self.run_blocking("files_moved", move |connection| record_moves(connection, batch_id, &moved))
    }
}

/// Records where files of a batch are now, for every batch that names them in the same place.
pub(super) fn record_moves(connection: &Connection, batch_id: i64, moved: &[MovedFile]) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached(
        "UPDATE upload SET lies_root = ?1, lies_path = ?2
          WHERE path_key = ?3 AND bytes = ?4 AND checksum = ?5 AND lies_root IS ?6 AND lies_path IS ?7
            AND (lies_root IS NOT NULL
                 OR (SELECT work_path FROM batch JOIN job ON job.batch_id = batch.id WHERE job.id = job_id)
                    IS (SELECT work_path FROM batch WHERE id = ?8))",
    )?;
    for MovedFile { key, bytes, checksum, from, to } in moved {
        let (root, path) = parts(from.as_ref());
        let bytes = rows::signed(*bytes);
        statement.execute(params![to.root, to.path, key, bytes, checksum.cast_signed(), root, path, batch_id])?;
    }
    Ok(())
}

pub(super) fn parts(place: Option<&FileLocation>) -> (Option<&str>, Option<&str>) {
    place.map(|place| (place.root.as_str(), place.path.as_str())).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize) -> NamedFile {
        let checked = Fingerprint { bytes: 7, checksum: 8, seen: None };
        NamedFile { path: format!("{number}.png"), checked: Some(checked), moved_to: None }
    }

    #[test]
    fn a_file_that_many_entries_name_comes_once_and_memory_stays_flat() {
        let mut seen = SeenFiles::default();
        assert_eq!((0..10_000).filter(|entry| seen.is_new(&file(entry % 10))).count(), 10);
        assert!((0..REMEMBERED * 3).filter(|number| seen.is_new(&file(*number))).count() > REMEMBERED * 2);
        assert!(seen.0.len() <= REMEMBERED);
    }

    #[test]
    fn what_differs_in_content_or_place_is_another_file() {
        let other = |change: fn(&mut NamedFile)| {
            let mut other = file(1);
            change(&mut other);
            other
        };
        let files = [
            file(1),
            other(|file| file.path = "2.png".into()),
            other(|file| file.checked = None),
            other(|file| file.checked = Some(Fingerprint { bytes: 7, checksum: 9, seen: None })),
            other(|file| file.moved_to = Some(FileLocation { root: "/done".into(), path: "1.png".into() })),
            other(|file| file.moved_to = Some(FileLocation { root: "/done".into(), path: "2.png".into() })),
        ];
        let mut seen = SeenFiles::default();
        assert!(files.iter().all(|file| seen.is_new(file)));
        assert!(!files.iter().any(|file| seen.is_new(file)));
    }
}
