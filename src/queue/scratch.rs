//! A temporary database without a name, for what does not fit into memory.
//!
//! *Durability*: none, by intention: only this process can reach the file, and it is gone when the value is dropped or
//! the process ends. `SQLITE_TMPDIR` or `TMPDIR` says where it is made. Memory stays within the page cache that is set
//! here, and what is kept before there is a database: most lists are small, and making one takes longer than reading them.

use std::{cell::OnceCell, collections::BTreeMap, io};

use rusqlite::{Connection, OptionalExtension};

use crate::manifest::{Scratch, Visit};

/// So much is kept in memory, in bytes of keys and values, before it goes to disk.
const KEPT_BYTES: usize = 1 << 20;

/// What an entry in memory takes besides its key and value, about.
const ENTRY_BYTES: usize = 64;

/// An ordered map in memory while it is small, and then on disk.
#[derive(Debug, Default)]
pub struct TemporaryStore {
    /// Empty once there is a database.
    few: BTreeMap<Vec<u8>, Vec<u8>>,
    few_bytes: usize,
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

    fn insert(&self, key: &[u8], value: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO entry VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.database()?.prepare_cached(sql)?.execute([key, value]).map(drop)
    }

    /// Moves what is in memory to disk.
    fn spill(&mut self) -> rusqlite::Result<()> {
        for (key, value) in &self.few {
            self.insert(key, value)?;
        }
        self.few.clear();
        Ok(())
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
        if self.database.get().is_none() {
            return Ok(self.few.get(key).cloned());
        }
        let get = || {
            let mut select = self.database()?.prepare_cached("SELECT value FROM entry WHERE key = ?1")?;
            select.query_row([key], |row| row.get(0)).optional()
        };
        get().map_err(failed)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.database.get().is_none() {
            // Replaced values count again: that only moves it to disk a little earlier.
            self.few_bytes =
                self.few_bytes.saturating_add(key.len()).saturating_add(value.len()).saturating_add(ENTRY_BYTES);
            self.few.insert(key.to_owned(), value.to_owned());
            return if self.few_bytes > KEPT_BYTES { self.spill().map_err(failed) } else { Ok(()) };
        }
        self.insert(key, value).map_err(failed)
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> io::Result<()> {
        if self.database.get().is_none() {
            // Ends early where `visit` breaks, which is no error.
            let _ = self.few.range(from.to_owned()..).try_for_each(|(key, value)| visit(key, value));
            return Ok(());
        }
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
        values_come_back(TemporaryStore::default());
    }

    #[test]
    fn what_is_on_disk_is_as_it_was_in_memory() {
        let mut store = TemporaryStore::default();
        // Beyond all that is looked for.
        store.put(b"\xff\xff", &vec![0; KEPT_BYTES]).unwrap();
        assert!(store.database.get().is_some() && store.few.is_empty());
        store = TemporaryStore::default();
        store.database().unwrap();
        values_come_back(store);
        let mut store = TemporaryStore::default();
        let mut expected = BTreeMap::new();
        for number in 0..40_000_u32 {
            let (key, value) = (number.wrapping_mul(2_654_435_761).to_be_bytes(), number.to_be_bytes());
            store.put(&key, &value).unwrap();
            expected.insert(key.to_vec(), value.to_vec());
        }
        assert!(store.database.get().is_some());
        let mut found = BTreeMap::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            found.insert(key.to_owned(), value.to_owned());
            ControlFlow::Continue(())
        };
        store.scan(b"", visit).unwrap();
        assert_eq!(found, expected);
    }

    fn values_come_back(mut store: TemporaryStore) {
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
