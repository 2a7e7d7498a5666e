//! A temporary database without a name, for what does not fit into memory.
//!
//! *Durability*: none, by intention: only this process can reach the file, and it is gone when the value is dropped or
//! the process ends. `SQLITE_TMPDIR` or `TMPDIR` says where it is made. Memory stays within the page cache that is set
//! here.

use std::{cell::OnceCell, io};

use rusqlite::{Connection, OptionalExtension};

use crate::manifest::{Scratch, Visit};

/// An ordered map on disk, which is made at its first use.
#[derive(Debug, Default)]
pub struct TemporaryStore {
    database: OnceCell<Connection>,
}

impl TemporaryStore {
    fn database(&self) -> rusqlite::Result<&Connection> {
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let database = make()?;
        Ok(self.database.get_or_init(|| database))
    }
}

/// With one transaction that never needs to end.
fn make() -> rusqlite::Result<Connection> {
    // An empty name asks SQLite for a temporary file, which is private and deleted on closing.
    let database = Connection::open("")?;
    database.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -8192;
         CREATE TABLE entry (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
         BEGIN;",
    )?;
    database.set_prepared_statement_cache_capacity(8);
    Ok(database)
}

impl Scratch for TemporaryStore {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let get = || {
            let mut select = self.database()?.prepare_cached("SELECT value FROM entry WHERE key = ?1")?;
            select.query_row([key], |row| row.get(0)).optional()
        };
        get().map_err(failed)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let put = || {
            let sql = "INSERT INTO entry VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
            self.database()?.prepare_cached(sql)?.execute([key, value])
        };
        put().map(drop).map_err(failed)
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> io::Result<()> {
        let mut scan = || {
            let sql = "SELECT key, value FROM entry WHERE key >= ?1 ORDER BY key";
            let mut select = self.database()?.prepare_cached(sql)?;
            let mut rows = select.query([from])?;
            while let Some(row) = rows.next()? {
                if visit(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        scan().map_err(failed)
    }
}

/// The database is ours, so its failures are those of the disk under it.
fn failed(error: rusqlite::Error) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn values_are_replaced_and_come_back_in_the_order_of_their_keys() {
        let mut store = TemporaryStore::default();
        assert_eq!(store.get(b"a").unwrap(), None);
        for (key, value) in [(&b"b\0x"[..], "1"), (b"a", "2"), (b"b", "3"), (b"\xff", "4"), (b"a", "5"), (b"", "6")] {
            store.put(key, value.as_bytes()).unwrap();
        }
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"5");
        let from = |first: &[u8], most: usize| {
            let mut values = String::new();
            let visit = &mut |_: &[u8], value: &[u8]| {
                values.push_str(std::str::from_utf8(value).unwrap());
                if values.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            store.scan(first, visit).unwrap();
            values
        };
        assert_eq!(from(b"", 9), "65314");
        assert_eq!(from(b"b", 9), "314");
        assert_eq!(from(b"", 2), "65");
    }
}
