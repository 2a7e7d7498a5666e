//! Rows in a temporary database on disk, from where they come back with those of one reference together.
//!
//! *Durability*: none, and none is wanted: the file has no name, only this process can reach it, and it is gone when the
//! reading ends in whatever way. `SQLITE_TMPDIR` or `TMPDIR` says where it lies. Memory stays within the page cache that
//! is set here.

use std::io;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::ReadError,
    row::{Fault, Row},
};

/// The database, with one transaction that never needs to end.
#[derive(Debug)]
pub(super) struct Staging {
    database: Connection,
    groups: u64,
    /// The reference of the row before, and the first line of its group: rows mostly come in order.
    last: Option<(String, i64)>,
}

impl Staging {
    /// Makes an empty one.
    pub(super) fn open() -> Result<Self, ReadError> {
        // An empty name asks SQLite for a temporary file, which is private and deleted on closing.
        let database = Connection::open("").map_err(failed)?;
        // `first_line` is the line of the group's first row: it names the group, and gives the groups' order.
        database
            .execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;
                 PRAGMA cache_size = -8192;
                 CREATE TABLE first_seen (reference TEXT PRIMARY KEY, first_line INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE staged (
                     first_line INTEGER NOT NULL, line INTEGER NOT NULL,
                     profile_id TEXT, reference TEXT, category TEXT, document_type TEXT, path TEXT, image_type TEXT,
                     sha256 TEXT, bytes TEXT, name TEXT, replaces TEXT, cells INTEGER, expected_cells INTEGER,
                     not_utf8 INTEGER NOT NULL,
                     PRIMARY KEY (first_line, line)
                 ) WITHOUT ROWID;
                 BEGIN;",
            )
            .map_err(failed)?;
        database.set_prepared_statement_cache_capacity(8);
        Ok(Self { database, groups: 0, last: None })
    }

    /// How many groups there are: references, and rows without one.
    pub(super) fn groups(&self) -> u64 {
        self.groups
    }

    /// Adds a row; rows come with ascending lines.
    pub(super) fn add(&mut self, row: &Row) -> Result<(), ReadError> {
        let line = i64::try_from(row.line).unwrap_or(i64::MAX);
        let first_line = match &row.reference {
            None => self.begin_group(line),
            Some(reference) => match &self.last {
                Some((last, first_line)) if last == reference => *first_line,
                _ => {
                    let first_line = self.first_line_of(reference, line)?;
                    self.last = Some((reference.clone(), first_line));
                    first_line
                }
            },
        };
        let (cells, expected_cells) = match row.fault {
            Some(Fault::Cells { found, expected }) => (i64::try_from(found).ok(), i64::try_from(expected).ok()),
            Some(Fault::Encoding) | None => (None, None),
        };
        let not_utf8 = row.fault == Some(Fault::Encoding);
        let mut insert = self
            .database
            .prepare_cached("INSERT INTO staged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .map_err(failed)?;
        insert
            .execute(params![
                first_line,
                line,
                row.profile_id,
                row.reference,
                row.category,
                row.document_type,
                row.path,
                row.image_type,
                row.sha256,
                row.bytes,
                row.name,
                row.replace,
                cells,
                expected_cells,
                not_utf8,
            ])
            .map_err(failed)?;
        Ok(())
    }

    fn begin_group(&mut self, line: i64) -> i64 {
        self.groups = self.groups.saturating_add(1);
        line
    }

    fn first_line_of(&mut self, reference: &str, line: i64) -> Result<i64, ReadError> {
        let known = self
            .database
            .prepare_cached("SELECT first_line FROM first_seen WHERE reference = ?")
            .and_then(|mut select| select.query_row([reference], |found| found.get(0)).optional())
            .map_err(failed)?;
        if let Some(first_line) = known {
            return Ok(first_line);
        }
        self.database
            .prepare_cached("INSERT INTO first_seen VALUES (?, ?)")
            .and_then(|mut insert| insert.execute(params![reference, line]))
            .map_err(failed)?;
        Ok(self.begin_group(line))
    }

    /// Hands back every row with the first line of its group: group after group, and in each by line.
    pub(super) fn each_row(&self, visit: &mut dyn FnMut(u64, Row) -> Result<(), ReadError>) -> Result<(), ReadError> {
        let mut select = self.database.prepare("SELECT * FROM staged ORDER BY first_line, line").map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(found) = rows.next().map_err(failed)? {
            let (first_line, row) = unpack(found).map_err(failed)?;
            visit(first_line, row)?;
        }
        Ok(())
    }
}

fn unpack(found: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, Row)> {
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let cells: Option<i64> = found.get("cells")?;
    let expected: Option<i64> = found.get("expected_cells")?;
    let fault = match (cells, expected) {
        (Some(found), Some(expected)) => Some(Fault::Cells { found: unsigned(found), expected: unsigned(expected) }),
        _ => found.get::<_, bool>("not_utf8")?.then_some(Fault::Encoding),
    };
    let row = Row {
        line: unsigned(found.get("line")?),
        profile_id: found.get("profile_id")?,
        reference: found.get("reference")?,
        category: found.get("category")?,
        document_type: found.get("document_type")?,
        path: found.get("path")?,
        image_type: found.get("image_type")?,
        sha256: found.get("sha256")?,
        bytes: found.get("bytes")?,
        name: found.get("name")?,
        replace: found.get("replaces")?,
        fault,
    };
    Ok((unsigned(found.get("first_line")?), row))
}

/// The database is ours, so its failures are those of the disk under it.
fn failed(error: rusqlite::Error) -> ReadError {
    ReadError::Io(io::Error::other(format!("the temporary database for the rows of a CSV manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_by_group_and_unchanged() {
        let mut staging = Staging::open().unwrap();
        let row = |line, reference: Option<&str>| Row {
            line,
            reference: reference.map(str::to_owned),
            path: Some(format!("{line}\0ä.png")),
            ..Row::default()
        };
        let mut faulty = row(6, Some("a"));
        faulty.fault = Some(Fault::Cells { found: 3, expected: 9 });
        let mut latin = row(7, None);
        latin.fault = Some(Fault::Encoding);
        let rows = [row(2, Some("a")), row(3, None), row(4, Some("b")), row(5, Some("a")), faulty, latin];
        for row in &rows {
            staging.add(row).unwrap();
        }
        assert_eq!(staging.groups(), 4);
        let mut back = Vec::new();
        staging
            .each_row(&mut |first, row| {
                back.push((first, row));
                Ok(())
            })
            .unwrap();
        let order: Vec<_> = back.iter().map(|(first, row)| (*first, row.line)).collect();
        assert_eq!(order, [(2, 2), (2, 5), (2, 6), (3, 3), (4, 4), (7, 7)]);
        back.sort_by_key(|(_, row)| row.line);
        assert_eq!(back.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), rows);
    }
}
