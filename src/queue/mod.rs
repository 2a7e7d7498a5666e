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

pub mod accounts;
pub(crate) mod acts;
pub mod admission;
pub mod adoption;
#[cfg(test)]
mod again_tests;
pub(crate) mod announced;
pub mod arrivals;
pub mod attempt;
pub mod awaited;
pub(crate) mod backup;
pub mod batch;
pub(crate) mod causes;
pub mod claim;
pub mod clocks;
mod command_outcome;
pub(crate) mod content;
pub mod control;
pub(crate) mod counters;
pub mod created_before;
pub(crate) mod doubt;
pub mod drop_state;
pub(crate) mod equals;
mod error;
pub mod files;
mod guard;
pub mod identity;
pub(crate) mod known_rows;
pub(crate) mod layouts;
#[cfg(test)]
mod life_tests;
pub mod lineage;
pub(crate) mod pace;
pub(crate) mod partner_notes;
pub mod purge;
mod reader;
pub mod recheck;
mod rows;
pub(crate) mod samples;
mod schema;
pub mod scratch;
pub mod sidecar;
pub(crate) mod similar;
mod spare_images;
pub(crate) mod stages;
pub(crate) mod take_changed;
pub mod taken_before;
pub mod taking;
#[cfg(test)]
pub(crate) mod test_support;
mod transition;
pub(crate) mod trial_steps;
pub(crate) mod trials;
pub mod verified;
pub(crate) mod views;
mod warnings;
pub mod writer;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;
use rustix::{
    fs::{Access, AtFlags, CWD},
    io::Errno,
};

use awaited::Awaited;
pub use error::{DatabaseFault, QueueError};
use lineage::Lineage;
pub use reader::{AsyncReader, Reader};
use schema::Upgrade;
pub use sidecar::{in_doubt, lock, wake};
pub use writer::WhenStuck;
use writer::Writer;

use crate::durable::{Folder, file_system::FileSystem};

/// Makes the database's folder where it is missing, and brings its name to disk: a power loss must not take away the
/// folder of what was promised.
fn make_folder_of(database: &Path) -> Result<(), QueueError> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let made = Folder::create(folder).map(drop);
    made.map_err(|source| QueueError::Io { action: "make the folder", path: folder.to_owned(), source })
}

/// Makes the folder and an empty file that only the owner writes and the group may read: it names customers.
///
/// A file that exists is not opened: with any of its descriptors that is closed, SQLite's locks on it would be gone.
fn make_file(path: &Path) -> Result<(), QueueError> {
    make_folder_of(path)?;
    let made = OpenOptions::new().create_new(true).append(true).mode(0o640).open(path).map(drop);
    let usable = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match path.metadata() {
            Ok(found) if found.is_dir() => Err(Errno::ISDIR.into()),
            Ok(_) => rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS)
                .map_err(io::Error::from),
            // A link to a file that is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().create(true).append(true).mode(0o640).open(path).map(drop)
            }
            Err(error) => Err(error),
        },
        made => made,
    };
    usable.map_err(|source| QueueError::Io { action: "open", path: path.to_owned(), source })
}

/// Refuses a database on a file system that other machines may have mounted too.
///
/// # Errors
///
/// [`QueueError::Shared`].
pub(crate) fn refuse_network_file_system(database: &Path) -> Result<(), QueueError> {
    let found = database.ancestors().find_map(|place| FileSystem::at(place).ok());
    match found.and_then(FileSystem::shared_name) {
        Some(name) => Err(QueueError::Shared { path: database.to_owned(), name }),
        None => Ok(()),
    }
}

/// A database that is open for writing, from any thread.
#[derive(Clone)]
pub struct Queue {
    writer: Writer,
    path: PathBuf,
    seed: u64,
    holder: Arc<str>,
    start_number: Arc<str>,
    awaited: Arc<Awaited>,
    lineage: Arc<Lineage>,
}

impl Queue {
    /// Opens the database, making it or bringing it up to date where needed. For the process that has its lock.
    ///
    /// # Errors
    ///
    /// Where it is not ours, newer, damaged, or cannot be written.
    pub fn open(path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        let (connection, seed) = schema::open_for_writing(path, Upgrade::Allowed)?;
        schema::record_name(&connection, path)?;
        Self::of(connection, seed, path, when_stuck)
    }

    /// Opens the database beside a process that may work on it, and never brings it up to date.
    ///
    /// # Errors
    ///
    /// As [`Queue::open`], [`QueueError::Older`], and [`QueueError::OtherName`].
    pub(crate) fn open_beside(path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        lock::refuse_other_name(path)?;
        let (connection, seed) = schema::open_for_writing(path, Upgrade::Refused)?;
        Self::of(connection, seed, path, when_stuck)
    }

    fn of(connection: Connection, seed: u64, path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        let holder: String = connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
        let start_number = schema::start_number(&connection)?.into();
        Ok(Self {
            writer: Writer::start(connection, when_stuck)?,
            path: path.to_owned(),
            seed,
            holder: holder.into(),
            start_number,
            awaited: Arc::default(),
            lineage: Arc::default(),
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

    /// A number that tells this database from one that was made before or after it at the same path.
    #[must_use]
    pub fn start_number(&self) -> &str {
        &self.start_number
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
        // would take quadratic time. That it is on disk can only be said outside of a transaction.
        let pragmas = "PRAGMA cache_size = -1048576; COMMIT; PRAGMA temp_store = 1; BEGIN IMMEDIATE";
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
