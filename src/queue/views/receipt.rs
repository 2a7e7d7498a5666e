//! What a batch's receipt says: how each of its entries ended.

use rusqlite::{Connection, params};

use crate::{
    job::JobState,
    queue::{QueueError, Reader, layouts, rows, warnings},
    receipt::{Counts, EntryResult, EntryStatus},
};

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

    /// The last entry of a batch of which it is known how it ended.
    pub(crate) fn last_entry(&self, batch_id: i64) -> Result<Option<u64>, QueueError> {
        let sql = "SELECT max(coalesce((SELECT max(entry_index) FROM job WHERE batch_id = ?1), -1),
                              coalesce((SELECT max(entry_index) FROM invalid_entry WHERE batch_id = ?1), -1))";
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
    loop {
        match (job.take(), bad.take()) {
            (None, None) => return Ok(()),
            (Some(row), other) if other.as_ref().is_none_or(|other| row.index <= other.index) => {
                each(row)?;
                job = next(&mut jobs, connection)?;
                bad = other;
            }
            (other, Some(row)) => {
                each(row)?;
                bad = next(&mut invalid, connection)?;
                job = other;
            }
            (Some(_), None) => unreachable!("a job's row alone is always taken by the first arm"),
        }
    }
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
    Ok(counts)
}
