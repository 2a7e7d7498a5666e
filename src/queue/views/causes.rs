//! Open failures by their cause. Reads kept counts and a few examples by index, so that it costs the same however many jobs
//! there are.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::{
    cause::CauseStatus,
    clock::Timestamp,
    queue::{
        QueueError, Reader, rows,
        trials::{self, CauseTrial},
    },
};

/// Examples of a cause that are named.
const EXAMPLES: u32 = 3;

/// Failures that have a cause in common, and that nothing has mended since.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CauseRow {
    /// Its number, for `--cause`.
    pub cause: i64,
    /// What became of them.
    pub status: CauseStatus,
    /// A stable name, or the answer's numbers; nothing that a sender or the API worded.
    pub code: Option<String>,
    /// The API's words about the first of them, which may quote people, or this program's own.
    pub title: String,
    /// What mends it.
    pub cure: String,
    /// How many there are.
    pub open: i64,
    /// When the first of them was.
    #[serde(serialize_with = "rows::moment")]
    pub first: Timestamp,
    /// When the last of them was.
    #[serde(serialize_with = "rows::moment")]
    pub last: Timestamp,
    /// The same by drop, the most first.
    pub drops: Vec<CauseInDrop>,
    /// Whether no person knows of it, or it has become twice as many since.
    #[serde(rename = "unseen")]
    pub is_unseen: bool,
    /// Who said last that they know of it.
    pub seen_by: Option<String>,
    #[serde(serialize_with = "rows::optional_moment")]
    pub seen_at: Option<Timestamp>,
    /// The last retry that was tried with a few of them first, unless it worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<CauseTrial>,
    /// The newest of them.
    pub examples: Vec<CauseExample>,
    /// The commands that list them, send them again, and say that a person knows.
    pub commands: Vec<String>,
}

impl CauseRow {
    /// What has this cause, in words.
    #[must_use]
    pub fn counted(&self) -> String {
        let number = self.open;
        let one = number == 1;
        match self.status {
            CauseStatus::Failed if one => "1 entry failed".to_owned(),
            CauseStatus::Failed => format!("{number} entries failed"),
            CauseStatus::Invalid if one => "1 entry is invalid".to_owned(),
            CauseStatus::Invalid => format!("{number} entries are invalid"),
            CauseStatus::Rejected if one => "1 manifest is rejected".to_owned(),
            CauseStatus::Rejected => format!("{number} manifests are rejected"),
        }
    }
}

/// Failures of a cause in one drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseInDrop {
    pub drop: String,
    pub open: i64,
    /// When the last of them was.
    #[serde(serialize_with = "rows::moment")]
    pub last: Timestamp,
}

/// One failure of a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseExample {
    /// Of an entry that became one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<i64>,
    pub batch: i64,
    /// Its place in the manifest; a manifest that is refused as a whole has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<i64>,
    pub manifest: String,
    /// The sender's key, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Whether a cause asks for a person.
const UNSEEN: &str = "(seen_by IS NULL OR open >= 2 * seen_open)";

const COLUMNS: &str = "id, status, code, title, cure, open, first_at, last_at, seen_by, seen_at";

impl Reader {
    /// The causes of open failures: those that nobody knows of first, and of these the most frequent.
    pub(crate) fn causes(&self, limit: u32) -> Result<Vec<CauseRow>, QueueError> {
        self.snapshot(|connection| {
            let sql = format!(
                "SELECT {COLUMNS}, {UNSEEN} FROM cause WHERE open > 0 ORDER BY {UNSEEN} DESC, open DESC, id LIMIT ?1"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query([limit])?;
            let mut causes = Vec::new();
            while let Some(row) = found.next()? {
                causes.push(cause_row(connection, row)?);
            }
            Ok(causes)
        })
    }

    /// The first cause for which something of a batch was not taken, and its code.
    pub(crate) fn cause_of_batch(&self, batch_id: i64) -> Result<Option<(i64, Option<String>)>, QueueError> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, code FROM cause
              WHERE id = coalesce((SELECT cause FROM batch WHERE id = ?1),
                                  (SELECT cause FROM invalid_entry WHERE batch_id = ?1 AND cause IS NOT NULL
                                    ORDER BY entry_index LIMIT 1))",
        )?;
        Ok(select.query_row([batch_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Whether there is a cause of this number, also one without open failures.
    pub(crate) fn has_cause(&self, number: i64) -> Result<bool, QueueError> {
        let mut select = self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM cause WHERE id = ?1)")?;
        Ok(select.query_row([number], |row| row.get(0))?)
    }
}

fn cause_row(connection: &Connection, row: &Row<'_>) -> Result<CauseRow, QueueError> {
    let cause: i64 = row.get(0)?;
    let word: String = row.get(1)?;
    let status = CauseStatus::parse(&word).ok_or_else(|| rows::unreadable("a cause's status", &word))?;
    let seen_by: Option<String> = row.get(8)?;
    let seen_at = row.get::<_, Option<i64>>(9)?.filter(|_| seen_by.is_some());
    Ok(CauseRow {
        cause,
        status,
        code: row.get(2)?,
        title: row.get(3)?,
        cure: row.get(4)?,
        open: row.get(5)?,
        first: Timestamp(row.get(6)?),
        last: Timestamp(row.get(7)?),
        drops: drops(connection, cause)?,
        is_unseen: row.get(10)?,
        seen_by,
        seen_at: seen_at.map(Timestamp),
        trial: trials::last_of(connection, cause)?,
        examples: examples(connection, status, cause)?,
        commands: status.commands(cause),
    })
}

fn drops(connection: &Connection, cause: i64) -> Result<Vec<CauseInDrop>, QueueError> {
    let rows = connection
        .prepare_cached(
            "SELECT name, open, last_at FROM cause_in_drop JOIN drop_folder ON id = drop_id
              WHERE cause_id = ?1 AND open > 0 ORDER BY open DESC, name",
        )?
        .query_map([cause], |row| {
            Ok(CauseInDrop { drop: row.get(0)?, open: row.get(1)?, last: Timestamp(row.get(2)?) })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn examples(connection: &Connection, status: CauseStatus, cause: i64) -> Result<Vec<CauseExample>, QueueError> {
    let sql = match status {
        CauseStatus::Failed => {
            "SELECT job.id, batch_id, entry_index, manifest, reference FROM job JOIN batch ON batch.id = batch_id
              WHERE job.cause = ?1 AND job.cause IS NOT NULL AND job.state = 'failed' ORDER BY job.id DESC LIMIT ?2"
        }
        CauseStatus::Invalid => {
            "SELECT NULL, batch_id, entry_index, manifest, reference
               FROM invalid_entry JOIN batch ON batch.id = batch_id
              WHERE invalid_entry.cause = ?1 AND invalid_entry.cause IS NOT NULL
              ORDER BY batch_id DESC, entry_index DESC LIMIT ?2"
        }
        CauseStatus::Rejected => {
            "SELECT NULL, id, NULL, manifest, NULL FROM batch WHERE cause = ?1 AND cause IS NOT NULL
              ORDER BY id DESC LIMIT ?2"
        }
    };
    let rows = connection
        .prepare_cached(sql)?
        .query_map(params![cause, EXAMPLES], |row| {
            Ok(CauseExample {
                job: row.get(0)?,
                batch: row.get(1)?,
                index: row.get(2)?,
                manifest: row.get(3)?,
                reference: row.get(4)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}
