//! A map that goes to a temporary file once it is large.

use std::{collections::HashMap, io};

use crate::{manifest::Scratch as _, queue::scratch::TemporaryStore};

/// So many entries stay in memory.
const KEPT: usize = 50_000;

/// A map from bytes to bytes.
#[derive(Debug, Default)]
pub(super) struct SpilledMap {
    kept: HashMap<Vec<u8>, Vec<u8>>,
    spilled: TemporaryStore,
    is_spilled: bool,
}

impl SpilledMap {
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self.kept.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None if self.is_spilled => self.spilled.get(key),
            None => Ok(None),
        }
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.kept.len() < KEPT || self.kept.contains_key(key) {
            self.kept.insert(key.to_owned(), value.to_owned());
            return Ok(());
        }
        self.is_spilled = true;
        self.spilled.put(key, value)
    }
}

/// A set of texts, of which only digests are kept.
#[derive(Debug, Default)]
pub(super) struct TextSet(SpilledMap);

impl TextSet {
    /// Adds a text.
    pub(super) fn insert(&mut self, text: &str) -> io::Result<()> {
        self.0.put(&digest(text.as_bytes()), b"")
    }

    pub(super) fn contains(&self, text: &str) -> io::Result<bool> {
        Ok(self.0.get(&digest(text.as_bytes()))?.is_some())
    }
}

/// A digest for comparing within one run.
pub(super) fn digest(bytes: &[u8]) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(bytes).to_be_bytes()
}
