//! What was taken before and is similar to an entry.

use crate::{
    entry::{Entry, Sha256},
    queue::{
        QueueError, Reader,
        similar::{self, Similar},
    },
};

impl Reader {
    /// What was taken before and is similar to this entry; nothing where the entry itself was, since it is not sent again.
    pub(crate) fn similar(&self, drop: &str, entry: &Entry, files: &[Sha256]) -> Result<Similar, QueueError> {
        // Not at one moment: each finding stands for itself, and this is asked for every entry.
        similar::find(&self.connection, drop, entry, files)
    }
}
