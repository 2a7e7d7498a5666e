//! Where a reader puts what it must keep but cannot hold in memory.

use std::{io, ops::ControlFlow};

/// Sees a key and its value; breaks where it wants no more.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map from bytes to bytes, for millions of entries in bounded memory. It starts empty and is thrown away after
/// the reading.
pub trait Scratch {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Sets the value of a key.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Visits this key and all larger ones, in their order.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> io::Result<()>;
}

#[cfg(test)]
impl Scratch for std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> io::Result<()> {
        // Ends early where `visit` breaks, which is no error.
        let _ = self.range(from.to_owned()..).try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}
