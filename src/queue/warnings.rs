//! The warnings about manifests and their entries: kept when a manifest is taken, for `show`, receipts, and numbers.

use rusqlite::{Connection, params};

use super::{QueueError, rows::signed};
use crate::{
    warning::{EntryWarning, Warning},
    warning_kind::WarningKind,
};

/// In place of an entry's index: the warning is about the manifest itself.
const OF_MANIFEST: i64 = -1;

/// Keeps warnings about a batch and its entries.
pub(super) fn keep(
    connection: &Connection,
    batch_id: i64,
    drop_id: i64,
    warnings: &[EntryWarning],
) -> Result<(), QueueError> {
    for EntryWarning { index, warning } in warnings {
        let index = index.map_or(OF_MANIFEST, signed);
        // They come once more where the admission was interrupted after its last part.
        if index == OF_MANIFEST && of(connection, batch_id, index)?.contains(warning) {
            continue;
        }
        connection
            .prepare_cached(
                "INSERT INTO entry_warning
                 SELECT ?1, ?2, coalesce(max(position) + 1, 0), ?3, ?4, ?5, ?6, ?7 FROM entry_warning
                  WHERE batch_id = ?1 AND entry_index = ?2",
            )?
            .execute(params![
                batch_id,
                index,
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
    of(connection, batch_id, signed(index))
}

/// The warnings about a manifest itself.
pub(super) fn of_manifest(connection: &Connection, batch_id: i64) -> Result<Vec<Warning>, QueueError> {
    of(connection, batch_id, OF_MANIFEST)
}

/// Whether there are warnings about entries of a batch.
pub(super) fn has_of_entries(connection: &Connection, batch_id: i64) -> Result<bool, QueueError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM entry_warning WHERE batch_id = ?1 AND entry_index > ?2)";
    Ok(connection.prepare_cached(sql)?.query_row([batch_id, OF_MANIFEST], |row| row.get(0))?)
}

fn of(connection: &Connection, batch_id: i64, index: i64) -> Result<Vec<Warning>, QueueError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, field, path, reason, cure FROM entry_warning
          WHERE batch_id = ?1 AND entry_index = ?2 ORDER BY position",
    )?;
    let mut rows = statement.query([batch_id, index])?;
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
