//! The queue: what is to be created, how far it has come, and how it ended, in one SQLite database.
//!
//! # Invariants
//!
//! - One process works on a database ([`lock`]); any number may read it and send commands.
//! - Every change is on disk when its call returns (`synchronous=FULL`, one writer thread, [`writer`]).
//! - A change of state names the state that it starts from and changes exactly one row, else it is refused (`transition`).
//! - A running job names its holder: the opened queue that claimed it.
//! - A job's identity has one row in `identity`; that row, not a search, is what makes a second document impossible.
//!
//! Not here: what to do next with a job (`crate::job`), or how.

pub mod admission;
#[cfg(test)]
mod again_tests;
pub mod arrivals;
pub mod attempt;
pub mod awaited;
pub mod batch;
pub mod claim;
pub mod clocks;
pub mod control;
mod error;
pub mod files;
mod guard;
pub mod identity;
#[cfg(test)]
mod life_tests;
pub mod purge;
mod reader;
mod recheck;
mod rows;
mod schema;
pub mod scratch;
pub mod sidecar;
#[cfg(test)]
pub(crate) mod test_support;
mod transition;
pub(crate) mod views;
pub mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;

use awaited::Awaited;
pub use error::{DatabaseFault, QueueError};
pub use reader::{AsyncReader, Reader};
use schema::Upgrade;
pub use sidecar::{in_doubt, lock, wake};
pub use writer::WhenStuck;
use writer::Writer;

use crate::durable::Folder;

/// Makes the database's folder where it is missing, and brings its name to disk: a power loss must not take away the
/// folder of what was promised.
fn make_folder_of(database: &Path) -> Result<(), QueueError> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made = Folder::create(folder).map(drop);
    made.map_err(|source| QueueError::Io { action: "make the folder", path: folder.to_owned(), source })
}

/// A database that is open for writing, from any thread.
#[derive(Clone)]
pub struct Queue {
    writer: Writer,
    path: PathBuf,
    seed: u64,
    holder: Arc<str>,
    awaited: Arc<Awaited>,
}

impl Queue {
    /// Opens the database, making it or bringing it up to date where needed. For the process that has its lock.
    ///
    /// # Errors
    ///
    /// Where it is not ours, newer, damaged, or cannot be written.
    pub fn open(path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        Self::open_with(path, when_stuck, Upgrade::Allowed)
    }

    /// Opens the database beside a process that may work on it, and never brings it up to date.
    ///
    /// # Errors
    ///
    /// As [`Queue::open`], and [`QueueError::Older`].
    pub(crate) fn open_beside(path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        Self::open_with(path, when_stuck, Upgrade::Refused)
    }

    fn open_with(path: &Path, when_stuck: WhenStuck, upgrade: Upgrade) -> Result<Self, QueueError> {
        let (connection, seed) = schema::open_for_writing(path, upgrade)?;
        let holder: String = connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
        Ok(Self {
            writer: Writer::start(connection, when_stuck)?,
            path: path.to_owned(),
            seed,
            holder: holder.into(),
            awaited: Arc::default(),
        })
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The seed of this database's checksums, drawn when it was made, so that nobody can craft a file whose content
    /// differs and whose checksum does not.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The name under which this opened queue holds the jobs that it claims; each opened queue draws its own, so that the
    /// jobs of an earlier process can be recognised.
    fn holder(&self) -> Arc<str> {
        Arc::clone(&self.holder)
    }

    /// What manifests name that are not in the queue yet.
    #[must_use]
    pub const fn awaited(&self) -> &Arc<Awaited> {
        &self.awaited
    }

    /// Why nothing can be written at present, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.writer.trouble()
    }

    /// From now on a full disk is an error instead of a wait.
    pub fn give_up_when_stuck(&self) {
        self.writer.give_up_when_stuck();
    }

    /// Gives the writer's connection the memory that filling an empty queue with very many jobs takes; for benchmarks.
    ///
    /// # Errors
    ///
    /// Where the database refuses.
    pub fn prepare_bulk_load(&self) -> Result<(), QueueError> {
        // SQLite walks a journal of statements that is in memory once for each statement, so that a large transaction
        // would take quadratic time.
        let pragmas = "PRAGMA cache_size = -1048576; PRAGMA temp_store = 1";
        self.run_blocking("prepare_bulk_load", move |connection| Ok(connection.execute_batch(pragmas)?))
    }

    /// Runs one transaction on the writer's thread; `step` names the commit in [`killpoint`](crate::killpoint).
    async fn run<T: Send + 'static>(
        &self,
        step: &'static str,
        command: impl FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.writer.run(step, command).await.map_err(|error| error.about(&self.path))
    }

    /// The same for a thread that may block.
    fn run_blocking<T: Send + 'static>(
        &self,
        step: &'static str,
        command: impl FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.writer.run_blocking(step, command).map_err(|error| error.about(&self.path))
    }
}
