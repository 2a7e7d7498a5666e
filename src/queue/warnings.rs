//! The warnings about entries: kept when their manifest is taken, for `show`, receipts, and numbers.

use rusqlite::{Connection, params};

use super::{QueueError, rows::signed};
use crate::{
    warning::{EntryWarning, Warning},
    warning_kind::WarningKind,
};

/// Keeps warnings about entries of a batch.
pub(super) fn keep(
    connection: &Connection,
    batch_id: i64,
    drop_id: i64,
    warnings: &[EntryWarning],
) -> Result<(), QueueError> {
    for EntryWarning { index, warning } in warnings {
        connection
            .prepare_cached(
                "INSERT INTO entry_warning
                 SELECT ?1, ?2, coalesce(max(position) + 1, 0), ?3, ?4, ?5, ?6, ?7 FROM entry_warning
                  WHERE batch_id = ?1 AND entry_index = ?2",
            )?
            .execute(params![
                batch_id,
                signed(*index),
                warning.kind.as_str(),
                warning.field,
                warning.path,
                warning.reason,
                warning.cure,
            ])?;
        connection
            .prepare_cached(
                "INSERT INTO warning_tally VALUES (?1, ?2, 1)
                     ON CONFLICT (drop_id, kind) DO UPDATE SET warnings = warnings + 1",
            )?
            .execute(params![drop_id, warning.kind.as_str()])?;
    }
    Ok(())
}

/// The warnings about an entry, in the order in which they were found.
pub(super) fn of_entry(connection: &Connection, batch_id: i64, index: u64) -> Result<Vec<Warning>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, field, path, reason, cure FROM entry_warning
          WHERE batch_id = ?1 AND entry_index = ?2 ORDER BY position",
    )?;
    let mut rows = statement.query(params![batch_id, signed(index)])?;
    let mut warnings = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let kind = WarningKind::parse(&name).ok_or_else(|| super::rows::unreadable("a kind of warning", &name))?;
        warnings.push(Warning { kind, field: row.get(1)?, path: row.get(2)?, reason: row.get(3)?, cure: row.get(4)? });
    }
    Ok(warnings)
}

/// How many warnings there were, by drop and kind.
pub(super) fn tally(connection: &Connection) -> Result<Vec<(String, String, u64)>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT name, kind, warnings FROM warning_tally JOIN drop_folder ON drop_folder.id = drop_id
              ORDER BY name, kind",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.try_into().unwrap_or(0))))?
        .collect::<Result<_, _>>()?)
}
