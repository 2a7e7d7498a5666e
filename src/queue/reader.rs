//! A read-only handle on the database. Everything that is read outside of the queue is read by its methods, most of which
//! are in [`views`](super::views).

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;

use super::{QueueError, schema};

/// A database that is open for reading only, while another process writes to it.
///
/// Each method is one query. Between two of them no transaction is open, so that the write-ahead log can be
/// checkpointed however long the reader lives.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Opens a database that exists.
    ///
    /// # Errors
    ///
    /// [`QueueError::Absent`] where there is none yet; also where it is not ours, of another release, or damaged.
    pub fn open(path: &Path) -> Result<Self, QueueError> {
        Ok(Self { connection: schema::open_for_reading(path)? })
    }

    /// Lets several statements see the database at one moment. A call within another one joins it.
    pub(super) fn snapshot<T, E: From<QueueError>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.connection.is_autocommit() {
            return query(&self.connection);
        }
        let moment = self.connection.unchecked_transaction().map_err(QueueError::from)?;
        let answer = query(&moment)?;
        moment.finish().map_err(QueueError::from)?;
        Ok(answer)
    }

    /// For callers on an async runtime.
    #[must_use]
    pub fn into_async(self) -> AsyncReader {
        AsyncReader(Arc::new(Mutex::new(self)))
    }
}

/// A [`Reader`] whose queries run on threads that may block.
#[derive(Debug, Clone)]
pub struct AsyncReader(Arc<Mutex<Reader>>);

impl AsyncReader {
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let reader = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || {
            // A query that panicked has changed nothing.
            query(&reader.lock().unwrap_or_else(PoisonError::into_inner))
        });
        asked.await.unwrap_or(Err(QueueError::Closed))
    }
}
