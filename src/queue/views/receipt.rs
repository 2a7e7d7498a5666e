//! What a batch's receipt says: how each of its entries ended.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    job::{JobState, Upload},
    problem::Problem,
    queue::{QueueError, Reader, layouts, rows, warnings},
    receipt::{Counts, EntryResult, EntryStatus},
};

/// An entry that did not make it, or that a person must decide.
#[derive(Debug, Clone)]
pub struct UnwellEntry {
    /// Its job, if it had one.
    pub job: Option<i64>,
    /// Its place in the manifest.
    pub index: u64,
    pub reference: Option<String>,
    /// The state of its job.
    pub state: Option<JobState>,
    pub problems: Vec<Problem>,
    pub reason: Option<String>,
}

impl Reader {
    /// Calls `each` with every entry of a batch in the manifest's order; memory stays flat.
    pub(crate) fn entries<E: From<QueueError>>(
        &self,
        batch_id: i64,
        each: impl FnMut(EntryResult) -> Result<(), E>,
    ) -> Result<(), E> {
        self.snapshot(|connection| entries(connection, batch_id, each))
    }

    /// Up to `most` entries of a batch that did not make it, in the manifest's order, from this one on.
    pub(crate) fn failed_entries(&self, batch_id: i64, from: u64, most: u32) -> Result<Vec<EntryResult>, QueueError> {
        self.snapshot(|connection| failed_entries(connection, batch_id, from, most))
    }

    /// Calls `each` with every entry of a batch that did not make it, or that a person must decide.
    pub(crate) fn unwell_entries(&self, batch_id: i64, mut each: impl FnMut(UnwellEntry)) -> Result<(), QueueError> {
        self.snapshot(|connection| {
            for sql in [
                "SELECT id, entry_index, reference, state, problems, reason FROM job
                  WHERE batch_id = ?1 AND state IN ('failed', 'held', 'cancelled') ORDER BY entry_index",
                "SELECT NULL, entry_index, reference, NULL, problems, NULL FROM invalid_entry
                  WHERE batch_id = ?1 ORDER BY entry_index",
            ] {
                let mut select = connection.prepare_cached(sql)?;
                let mut rows = select.query([batch_id])?;
                while let Some(row) = rows.next()? {
                    let problems: Option<String> = row.get(4)?;
                    each(UnwellEntry {
                        job: row.get(0)?,
                        index: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
                        reference: row.get(2)?,
                        state: row.get::<_, Option<String>>(3)?.and_then(|word| JobState::parse(&word)),
                        problems: problems.map(|text| rows::problems(&text)).unwrap_or_default(),
                        reason: row.get(5)?,
                    });
                }
            }
            Ok(())
        })
    }

    /// The last entry of a batch of which it is known how it ended.
    pub(crate) fn last_entry(&self, batch_id: i64) -> Result<Option<u64>, QueueError> {
        let sql = "SELECT max(coalesce((SELECT max(entry_index) FROM job WHERE batch_id = ?1), -1),
                              coalesce((SELECT max(entry_index) FROM invalid_entry WHERE batch_id = ?1), -1),
                              coalesce((SELECT max(entry_index + entries - 1) FROM unchanged_entry WHERE batch_id = ?1), -1))";
        let last: i64 = self.connection.prepare_cached(sql)?.query_row([batch_id], |row| row.get(0))?;
        Ok(last.try_into().ok())
    }

    /// How the entries of a batch ended; those that have not count as failed.
    pub(crate) fn counts(&self, batch_id: i64) -> Result<Counts, QueueError> {
        self.snapshot(|connection| counts(connection, batch_id))
    }
}

/// The columns that [`next`] reads.
const OF_JOB: &str = "id, entry_index, kind, reference, profile_id, state, remote_id, problems, reason, nullif(category, ''), \
                      nullif(document_type, ''), content_rule || ':' || lower(hex(content)), name";

/// The same of an entry that never became a job.
const OF_INVALID: &str =
    "NULL, entry_index, kind, reference, profile_id, NULL, NULL, problems, NULL, NULL, NULL, NULL, NULL";

fn failed_entries(
    connection: &Connection,
    batch_id: i64,
    from: u64,
    most: u32,
) -> Result<Vec<EntryResult>, QueueError> {
    let mut found = Vec::new();
    for (columns, table, wanted) in
        [(OF_JOB, "job", "state NOT IN ('done', 'duplicate')"), (OF_INVALID, "invalid_entry", "true")]
    {
        let sql = format!(
            "SELECT {columns} FROM {table} WHERE batch_id = ?1 AND entry_index >= ?2 AND {wanted}
              ORDER BY entry_index LIMIT ?3"
        );
        let mut select = connection.prepare_cached(&sql)?;
        let mut rows = select.query(params![batch_id, rows::signed(from), most])?;
        while let Some(entry) = next(&mut rows, connection)? {
            found.push(entry);
        }
    }
    found.sort_by_key(|entry| entry.index);
    found.truncate(most.try_into().unwrap_or(usize::MAX));
    Ok(found)
}

fn entries<E: From<QueueError>>(
    connection: &Connection,
    batch_id: i64,
    mut each: impl FnMut(EntryResult) -> Result<(), E>,
) -> Result<(), E> {
    // Both lists are sorted by the entry's index, so that one pass merges them.
    let mut jobs = connection
        .prepare_cached(&format!("SELECT {OF_JOB} FROM job WHERE batch_id = ?1 ORDER BY entry_index"))
        .map_err(QueueError::from)?;
    let mut invalid = connection
        .prepare_cached(&format!("SELECT {OF_INVALID} FROM invalid_entry WHERE batch_id = ?1 ORDER BY entry_index"))
        .map_err(QueueError::from)?;
    let mut jobs = jobs.query([batch_id]).map_err(QueueError::from)?;
    let mut invalid = invalid.query([batch_id]).map_err(QueueError::from)?;
    let warned = warnings::has_of_entries(connection, batch_id)?;
    let by_layout = layouts::of_batch(connection, batch_id)?.is_some();
    let mut each = |mut entry: EntryResult| {
        if warned {
            entry.warnings = warnings::of_entry(connection, batch_id, entry.index)?;
        }
        if by_layout {
            entry.source = layouts::source_of(connection, batch_id, rows::signed(entry.index))?;
        }
        each(entry)
    };
    let mut job = next(&mut jobs, connection)?;
    let mut bad = next(&mut invalid, connection)?;
    let mut unchanged = UnchangedEntries::of(connection, batch_id)?;
    let mut same = unchanged.next()?;
    loop {
        let index = |entry: &Option<EntryResult>| entry.as_ref().map_or(u64::MAX, |entry| entry.index);
        let first = index(&job).min(index(&bad)).min(index(&same));
        if index(&job) == first && job.is_some() {
            job.take().map_or(Ok(()), &mut each)?;
            job = next(&mut jobs, connection)?;
        } else if index(&bad) == first && bad.is_some() {
            bad.take().map_or(Ok(()), &mut each)?;
            bad = next(&mut invalid, connection)?;
        } else if same.is_some() {
            same.take().map_or(Ok(()), &mut each)?;
            same = unchanged.next()?;
        } else {
            return Ok(());
        }
    }
}

/// The entries of a batch of which nothing has changed since they were created, in order.
struct UnchangedEntries<'a> {
    connection: &'a Connection,
    batch_id: i64,
    /// What was read ahead.
    page: VecDeque<EntryResult>,
    /// The run that is being read: its first place, its first job, and how many of it there are and were read.
    run: (i64, i64, i64, i64),
}

/// Jobs that are read at once.
const PAGE: i64 = 256;

impl<'a> UnchangedEntries<'a> {
    fn of(connection: &'a Connection, batch_id: i64) -> Result<Self, QueueError> {
        Ok(Self { connection, batch_id, page: VecDeque::new(), run: (-1, 0, 0, 0) })
    }

    fn next(&mut self) -> Result<Option<EntryResult>, QueueError> {
        while self.page.is_empty() {
            let (index, job_id, entries, read) = self.run;
            if read >= entries {
                let next_run = self
                    .connection
                    .prepare_cached(
                        "SELECT entry_index, job_id, entries FROM unchanged_entry
                          WHERE batch_id = ?1 AND entry_index > ?2 ORDER BY entry_index LIMIT 1",
                    )?
                    .query_row(params![self.batch_id, index], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, 0)))
                    .optional()?;
                let Some(next_run) = next_run else { return Ok(None) };
                self.run = next_run;
                continue;
            }
            let from = job_id + read;
            let to = from + PAGE.min(entries - read);
            let mut select = self.connection.prepare_cached(
                "SELECT id, kind, reference, profile_id, remote_id, nullif(category, ''), nullif(document_type, ''), name,
                        content_rule || ':' || lower(hex(content))
                   FROM job WHERE id >= ?1 AND id < ?2 ORDER BY id",
            )?;
            let mut rows = select.query([from, to])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                self.page.push_back(EntryResult {
                    index: (index + id - job_id).try_into().unwrap_or(0),
                    kind: rows::kind(&row.get::<_, String>(1)?)?,
                    reference: row.get(2)?,
                    profile_id: row.get(3)?,
                    category: row.get(5)?,
                    document_type: row.get(6)?,
                    content: row.get(8)?,
                    name: row.get(7)?,
                    state: Some(JobState::Duplicate),
                    remote_id: row.get(4)?,
                    problems: Vec::new(),
                    warnings: Vec::new(),
                    reason: Some(format!("created before by job {id}")),
                    source: None,
                    uploads: rows::uploads(self.connection, id)?.into_iter().map(not_sent_again).collect(),
                });
            }
            self.run.3 = to - job_id;
        }
        Ok(self.page.pop_front())
    }
}

/// A file of an entry that exists, as the entry names it.
fn not_sent_again(upload: Upload) -> Upload {
    Upload { remote_id: None, changed_from: None, ..upload }
}

fn next(rows: &mut rusqlite::Rows<'_>, connection: &Connection) -> Result<Option<EntryResult>, QueueError> {
    let Some(row) = rows.next()? else { return Ok(None) };
    let job_id: Option<i64> = row.get(0)?;
    let state: Option<String> = row.get(5)?;
    let problems: Option<String> = row.get(7)?;
    Ok(Some(EntryResult {
        index: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
        kind: rows::kind(&row.get::<_, String>(2)?)?,
        reference: row.get(3)?,
        profile_id: row.get(4)?,
        category: row.get(9)?,
        document_type: row.get(10)?,
        content: row.get(11)?,
        name: row.get(12)?,
        state: state
            .map(|word| JobState::parse(&word).ok_or_else(|| rows::unreadable("a job's state", &word)))
            .transpose()?,
        remote_id: row.get(6)?,
        problems: problems.map(|text| rows::problems(&text)).unwrap_or_default(),
        warnings: Vec::new(),
        reason: row.get(8)?,
        source: None,
        uploads: job_id.map(|id| rows::uploads(connection, id)).transpose()?.unwrap_or_default(),
    }))
}

pub(super) fn counts(connection: &Connection, batch_id: i64) -> Result<Counts, QueueError> {
    let mut counts = Counts::default();
    let mut statement =
        connection.prepare_cached("SELECT state, count(*) FROM job WHERE batch_id = ?1 GROUP BY state")?;
    let mut rows = statement.query([batch_id])?;
    while let Some(row) = rows.next()? {
        let word: String = row.get(0)?;
        let state = JobState::parse(&word).ok_or_else(|| rows::unreadable("a job's state", &word))?;
        counts.add(EntryStatus::of(Some(state)), row.get::<_, i64>(1)?.try_into().unwrap_or(0));
    }
    let invalid: i64 = connection
        .prepare_cached("SELECT count(*) FROM invalid_entry WHERE batch_id = ?1")?
        .query_row([batch_id], |row| row.get(0))?;
    counts.add(EntryStatus::Invalid, invalid.try_into().unwrap_or(0));
    let unchanged: i64 = connection
        .prepare_cached("SELECT unchanged FROM batch WHERE id = ?1")?
        .query_row([batch_id], |row| row.get(0))?;
    counts.add(EntryStatus::Duplicate, unchanged.try_into().unwrap_or(0));
    Ok(counts)
}
