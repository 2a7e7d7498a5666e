//! What the queue knows of a path, for `why`: manifests, the files that they name, and receipts.
//!
//! A file is found by the hash of its path, which has an index. Only where that finds nothing is its name compared with
//! every path there is.

use std::{collections::BTreeSet, path::Path};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::Serialize;

use crate::{
    clock::Timestamp,
    problem::Problem,
    queue::{QueueError, Reader, rows, warnings},
    relative_path,
    warning::Warning,
};

/// As many of a kind as a person reads.
const ENOUGH: u32 = 20;

/// A manifest that was admitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchRow {
    pub batch: i64,
    pub drop: String,
    pub manifest: String,
    /// `admitting`, `open`, `ended`, `published` or `closed`.
    pub state: String,
    /// Why the manifest itself is unusable.
    pub problems: Vec<Problem>,
    /// What is probably not meant about the manifest itself.
    pub warnings: Vec<Warning>,
    /// Why it cannot be finalized.
    pub trouble: Option<String>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub received_at: Option<Timestamp>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub finished_at: Option<Timestamp>,
    /// The folder that its files were moved into.
    pub moved_to: Option<String>,
    pub receipt: Option<String>,
    pub jobs: Vec<(String, i64)>,
    /// Entries that were not good enough to become jobs.
    pub invalid: i64,
    /// Entries that were created before, of which nothing has changed since.
    pub unchanged: i64,
    /// Entries that the list had when it was last taken in, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<i64>,
    /// The jobs that created the first of those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_jobs: Vec<i64>,
}

/// Which manifests `batches` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchFilter {
    pub drop: Option<String>,
    /// Taken in, or finished, since then.
    pub since: Option<Timestamp>,
    /// Only those that are not settled.
    pub unsettled: bool,
    /// The newest, at most this many.
    pub limit: Option<u32>,
}

/// An entry that was not good enough to become a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InvalidRow {
    pub drop: String,
    pub manifest: String,
    /// Its place in the manifest; none of a manifest that is rejected as a whole.
    pub index: Option<i64>,
    /// `document`, `file`, or `manifest`.
    pub kind: String,
    /// The profile, where that was readable.
    pub profile_id: Option<String>,
    /// The sender's key, where that was readable.
    pub reference: Option<String>,
    pub problems: Vec<Problem>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub received_at: Option<Timestamp>,
    #[serde(rename = "batch")]
    pub batch_id: i64,
    /// The number of its cause, while it is open.
    pub cause: Option<i64>,
}

impl Reader {
    /// The manifests whose path, or whose receipt's path, is this one or ends in it; the newest first.
    pub(crate) fn batches_at(&self, path: &str) -> Result<Vec<BatchRow>, QueueError> {
        let wanted = path.trim_start_matches('/');
        self.batches_where(
            "substr('/' || root || '/' || manifest, -length(?1) - 1) = '/' || ?1
                OR substr('/' || shelf || '/' || manifest, -length(?1) - 1) = '/' || ?1
                OR substr('/' || receipts_dir || '/' || receipt, -length(?1) - 1) = '/' || ?1",
            &wanted,
        )
    }

    /// The manifest that has this number.
    pub(crate) fn batch(&self, number: i64) -> Result<Option<BatchRow>, QueueError> {
        Ok(self.batches_where("batch.id = ?1", &number)?.pop())
    }

    /// Calls `each` with manifests, the newest first; memory stays flat.
    pub(crate) fn batches<E: From<QueueError>>(
        &self,
        filter: &BatchFilter,
        each: impl FnMut(BatchRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let settled = if filter.unsettled { "state <> 'closed'" } else { "1" };
        let condition = format!(
            "(?1 IS NULL OR drop_folder.name = ?1)
               AND max(received_at, coalesce(finished_at, 0)) >= coalesce(?2, 0) AND {settled}"
        );
        let limit = filter.limit.map_or(-1, i64::from);
        self.snapshot(|connection| {
            each_batch(connection, &condition, params![filter.drop, filter.since.map(|since| since.0), limit], each)
        })
    }

    fn batches_where(&self, condition: &str, wanted: &dyn ToSql) -> Result<Vec<BatchRow>, QueueError> {
        let mut batches = Vec::new();
        each_batch(&self.connection, condition, params![wanted, ENOUGH], |batch| {
            batches.push(batch);
            Ok::<_, QueueError>(())
        })?;
        Ok(batches)
    }

    /// The jobs that name this file, newest first; `path` is absolute. A file that was moved away is found at either place.
    pub(crate) fn jobs_at(&self, path: &Path) -> Result<Vec<i64>, QueueError> {
        let places: Vec<(String, String, Option<String>)> = self
            .connection
            .prepare_cached("SELECT DISTINCT root, image_root, shelf FROM batch")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let mut keys = BTreeSet::new();
        for (root, image_root, archive) in &places {
            for (lies_in, hashed) in
                [(Some(image_root), image_root), (archive.as_ref(), image_root), (Some(root), image_root)]
            {
                let relative = lies_in.and_then(|folder| path.strip_prefix(folder).ok()).and_then(Path::to_str);
                if let Some(relative) = relative.filter(|relative| !relative.is_empty()) {
                    keys.insert(relative_path::path_key(Path::new(hashed), "", relative));
                }
            }
        }
        let mut found = BTreeSet::new();
        for key in keys {
            let jobs = self
                .connection
                .prepare_cached("SELECT DISTINCT job_id FROM upload WHERE path_key = ?1 ORDER BY job_id DESC LIMIT ?2")?
                .query_map(params![key, ENOUGH], |row| row.get::<_, i64>(0))?
                .collect::<Result<Vec<_>, _>>()?;
            found.extend(jobs);
        }
        Ok(found.into_iter().rev().collect())
    }

    /// The jobs that name a file whose path is this one or ends in it, newest first. Reads every path that there is.
    pub(crate) fn jobs_named(&self, path: &str) -> Result<Vec<i64>, QueueError> {
        let jobs = self
            .connection
            .prepare_cached(
                "SELECT DISTINCT job_id FROM upload WHERE substr('/' || path, -length(?1) - 1) = '/' || ?1
                  ORDER BY job_id DESC LIMIT ?2",
            )?
            .query_map(params![path.trim_start_matches('/'), ENOUGH], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(jobs)
    }

    /// The refused entries in whose problems a file of this path, or one that ends in it, is named; newest first.
    pub(crate) fn invalid_entries_with(&self, path: &str) -> Result<Vec<InvalidRow>, QueueError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        // As it is written within the JSON, without its quotes.
        let written = serde_json::to_string(name).unwrap_or_default();
        let sql = format!(
            "SELECT {INVALID} WHERE instr(invalid_entry.problems, ?1) > 0
              ORDER BY invalid_entry.batch_id DESC LIMIT 1000"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([written.trim_matches('"')])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let entry = invalid_row(row)?;
            let named = |problem: &Problem| problem.path.as_deref().is_some_and(|theirs| same_end(theirs, path));
            if entry.problems.iter().any(named) {
                found.push(entry);
            }
            if found.len() == ENOUGH as usize {
                break;
            }
        }
        Ok(found)
    }

    /// Why a drop's folder could not be read at its last scan.
    pub(crate) fn drop_trouble(&self, drop: &str) -> Result<Option<String>, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT trouble FROM drop_folder WHERE name = ?1")?;
        Ok(select.query_row([drop], |row| row.get(0)).optional()?.flatten())
    }
}

/// Calls `each` with the manifests for which the condition holds, the newest first; the last value is how many at most.
fn each_batch<E: From<QueueError>>(
    connection: &Connection,
    condition: &str,
    values: &[&dyn ToSql],
    mut each: impl FnMut(BatchRow) -> Result<(), E>,
) -> Result<(), E> {
    let sql = format!(
        "SELECT batch.id, drop_folder.name, manifest, state, problems, batch.trouble, received_at, finished_at,
                shelf, receipts_dir || '/' || receipt,
                (SELECT count(*) FROM invalid_entry WHERE batch_id = batch.id), unchanged, gone, gone_jobs
           FROM batch JOIN drop_folder ON drop_folder.id = batch.drop_id
          WHERE {condition} ORDER BY batch.id DESC LIMIT ?{}",
        values.len()
    );
    let mut select = connection.prepare_cached(&sql).map_err(QueueError::from)?;
    let mut rows = select.query(values).map_err(QueueError::from)?;
    while let Some(row) = rows.next().map_err(QueueError::from)? {
        each(batch_row(connection, row)?)?;
    }
    Ok(())
}

fn batch_row(connection: &Connection, row: &Row<'_>) -> Result<BatchRow, QueueError> {
    let batch = row.get(0)?;
    let problems: Option<String> = row.get(4)?;
    let gone_jobs: Option<String> = row.get(13)?;
    let jobs = connection
        .prepare_cached("SELECT state, count(*) FROM job WHERE batch_id = ?1 GROUP BY state ORDER BY state")?
        .query_map([batch], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(BatchRow {
        batch,
        drop: row.get(1)?,
        manifest: row.get(2)?,
        state: row.get(3)?,
        problems: problems.map(|text| rows::problems(&text)).unwrap_or_default(),
        warnings: warnings::of_manifest(connection, batch)?,
        trouble: row.get(5)?,
        received_at: Some(Timestamp(row.get(6)?)),
        finished_at: row.get::<_, Option<i64>>(7)?.map(Timestamp),
        moved_to: row.get(8)?,
        receipt: row.get(9)?,
        jobs,
        invalid: row.get(10)?,
        unchanged: row.get(11)?,
        gone: row.get(12)?,
        gone_jobs: gone_jobs.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}

/// The same columns of manifests that are rejected as a whole.
pub(super) const REJECTED: &str = "drop_folder.name, batch.manifest, NULL, 'manifest', NULL, NULL,
                                   batch.problems, received_at, batch.id, batch.cause
                                   FROM batch CROSS JOIN drop_folder ON drop_folder.id = batch.drop_id";

pub(super) const INVALID: &str = "drop_folder.name, batch.manifest, entry_index, kind, profile_id, reference,
                                  invalid_entry.problems, received_at, invalid_entry.batch_id, invalid_entry.cause
                                  FROM invalid_entry CROSS JOIN batch ON batch.id = invalid_entry.batch_id
                                  CROSS JOIN drop_folder ON drop_folder.id = batch.drop_id";

pub(super) fn invalid_row(row: &Row<'_>) -> Result<InvalidRow, rusqlite::Error> {
    let problems: String = row.get(6)?;
    Ok(InvalidRow {
        drop: row.get(0)?,
        manifest: row.get(1)?,
        index: row.get(2)?,
        kind: row.get(3)?,
        profile_id: row.get(4)?,
        reference: row.get(5)?,
        problems: rows::problems(&problems),
        received_at: Some(Timestamp(row.get(7)?)),
        batch_id: row.get(8)?,
        cause: row.get(9)?,
    })
}

/// Whether one path is the other, or the end of it after a slash.
#[must_use]
pub fn same_end(one: &str, other: &str) -> bool {
    let ends = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|rest| !short.is_empty() && (rest.is_empty() || rest.ends_with('/')))
    };
    ends(one, other) || ends(other, one)
}
