//! A map that is in memory while it is small, and continues in a temporary database.

use std::{collections::HashMap, io};

use serde::{Serialize, de::DeserializeOwned};

use crate::{manifest::Scratch, queue::scratch::TemporaryStore};

/// Entries in memory, until there are many.
pub(super) const KEPT: usize = 10_000;

/// Values by key; a value that was set is replaced, and none is removed.
#[derive(Debug)]
pub(super) struct SpillMap<V> {
    few: HashMap<Vec<u8>, V>,
    many: TemporaryStore,
}

impl<V> Default for SpillMap<V> {
    fn default() -> Self {
        Self { few: HashMap::new(), many: TemporaryStore::default() }
    }
}

impl<V: Clone + Serialize + DeserializeOwned> SpillMap<V> {
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<V>> {
        match self.few.get(key) {
            Some(found) => Ok(Some(found.clone())),
            None if self.few.len() < KEPT => Ok(None),
            None => Ok(self.many.get(key)?.and_then(|found| serde_json::from_slice(&found).ok())),
        }
    }

    pub(super) fn set(&mut self, key: &[u8], value: V) -> io::Result<()> {
        if self.few.len() < KEPT || self.few.contains_key(key) {
            self.few.insert(key.to_vec(), value);
            return Ok(());
        }
        self.many.put(key, &serde_json::to_vec(&value)?)
    }
}
