//! Numbers that only rise, for monitoring: what came, and how it ended.

use rusqlite::{Connection, params};

use super::QueueError;
use crate::receipt::BatchStatus;

/// What is counted of a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropCounter {
    /// Entries that were not good enough to become jobs.
    Invalid,
    /// Entries that are there already, and became no job.
    Unchanged,
    /// Receipts with this status.
    Manifests(BatchStatus),
}

impl DropCounter {
    const ALL: [Self; 6] = [
        Self::Invalid,
        Self::Unchanged,
        Self::Manifests(BatchStatus::Done),
        Self::Manifests(BatchStatus::Partial),
        Self::Manifests(BatchStatus::Failed),
        Self::Manifests(BatchStatus::Rejected),
    ];

    /// The word in the queue.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unchanged => "unchanged",
            Self::Manifests(BatchStatus::Done) => "manifests done",
            Self::Manifests(BatchStatus::Partial) => "manifests partial",
            Self::Manifests(BatchStatus::Failed) => "manifests failed",
            Self::Manifests(BatchStatus::Rejected) => "manifests rejected",
        }
    }
}

pub(super) fn count(connection: &Connection, drop_id: i64, what: DropCounter, by: i64) -> Result<(), QueueError> {
    if by > 0 {
        connection
            .prepare_cached(
                "INSERT INTO counter VALUES (?1, ?2, ?3)
                     ON CONFLICT (drop_id, name) DO UPDATE SET value = value + excluded.value",
            )?
            .execute(params![drop_id, what.as_str(), by])?;
    }
    Ok(())
}

/// All of them, by drop.
pub(super) fn read(connection: &Connection) -> Result<Vec<(String, DropCounter, u64)>, QueueError> {
    let mut select = connection.prepare_cached(
        "SELECT drop_folder.name, counter.name, value FROM counter JOIN drop_folder ON drop_folder.id = drop_id",
    )?;
    let mut rows = select.query([])?;
    let mut counters = Vec::new();
    while let Some(row) = rows.next()? {
        let word: String = row.get(1)?;
        let value = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
        if let Some(what) = DropCounter::ALL.into_iter().find(|what| what.as_str() == word) {
            counters.push((row.get(0)?, what, value));
        }
    }
    Ok(counters)
}
