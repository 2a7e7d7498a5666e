//! The queue: what is to be created, how far it has come, and what became of it, in one SQLite database.
//!
//! # Invariants
//!
//! - One process works on a database ([`lock`]); any number may look, and may send commands.
//! - Every change is on disk when its call returns (`synchronous=FULL`, one writer thread, [`writer`]).
//! - A change of state names the state that it starts from and changes exactly one row, else it is refused.
//! - A job's identity has one row in `identity`; that row, not a search, is what makes a second document impossible.
//!
//! Not here: what to do next with a job ([`crate::job`]), or how.

pub mod admit;
#[cfg(test)]
mod again_tests;
mod anew;
pub mod arrivals;
pub mod awaited;
pub mod clocks;
pub mod control;
pub mod doorbell;
pub mod files;
pub mod handed_over;
pub mod identity;
#[cfg(test)]
mod life_tests;
pub mod lock;
pub mod purge;
mod reader;
pub mod recover;
mod rows;
mod schema;
pub mod settle;
#[cfg(test)]
pub(crate) mod test_support;
pub mod views;
pub mod work;
pub mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode};

use awaited::Awaited;
pub use reader::{AsyncReader, Reader};
pub use writer::WhenStuck;
use writer::Writer;

use crate::{durable::Folder, job::IllegalTransition};

/// Why the queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// SQLite refused.
    #[error("the database refused: {source}")]
    Sqlite {
        /// SQLite's own error.
        #[from]
        source: rusqlite::Error,
    },
    /// The commit that held this command failed.
    #[error("the database could not be written: {message}")]
    Commit {
        /// Why.
        message: String,
        /// Whether the disk, not the command, was the cause.
        disk: bool,
        /// Whether the database is damaged.
        damaged: bool,
    },
    /// The database's folder or file cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The writer's thread could not be started.
    #[error("cannot start the queue's writer: {source}")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
    /// The writer has stopped.
    #[error("the queue is closed")]
    Closed,
    /// The file is not one of ours.
    #[error(
        "{} is not a queue of passfort-ingest, or its beginning is damaged; it was left untouched: set [queue] database \
         to another path, or restore it from a backup",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer release made it.
    #[error(
        "{} was written by a newer release (schema {found}, this one knows {known}): install that release again; \
         the database was left untouched",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// An older release made it.
    #[error("{} was written by an older release: `run` or `import` of this one brings it up to date", path.display())]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// SQLite says that the file is damaged.
    #[error(
        "{} is damaged, and nothing more is written to it: restore it from a backup; or move it away together with its \
         -wal and -shm files, and let the receipts tell what stands before anything is dropped again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is no database yet.
    #[error("there is no queue at {} yet: `run` or `import` makes it", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A setting that durability rests on did not take.
    #[error("the database keeps {pragma} at {found} instead of {wanted}")]
    Pragma {
        /// Its name.
        pragma: &'static str,
        /// What was asked for.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// Something that cannot happen to a job in its state.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// A row that should be there is not, or another one is: somebody else was faster.
    #[error("{what} {id} is no longer as it was")]
    Gone {
        /// A job or a batch.
        what: &'static str,
        /// Its number.
        id: i64,
    },
    /// A row holds what no release writes.
    #[error("{what} in the database cannot be read: {found}")]
    Unreadable {
        /// Which column.
        what: &'static str,
        /// What it holds, shortened.
        found: String,
    },
    /// A command that makes no sense for this job or batch; the text says why.
    #[error("{0}")]
    Refused(String),
}

impl QueueError {
    /// Whether the disk is the cause, so that the same command may succeed later.
    #[must_use]
    pub fn is_disk_trouble(&self) -> bool {
        match self {
            Self::Sqlite { source } => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::PermissionDenied
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::FileLockingProtocolFailed
                )
            ),
            Self::Commit { disk, .. } => *disk,
            _ => false,
        }
    }

    /// The same failure for another caller whose command was in the same commit.
    fn again(&self) -> Self {
        Self::Commit {
            message: self.to_string(),
            disk: self.is_disk_trouble(),
            damaged: matches!(self, Self::Damaged { .. }) || self.code() == Some(ErrorCode::DatabaseCorrupt),
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite { source } => source.sqlite_error_code(),
            _ => None,
        }
    }

    /// Names the file where it is damaged, so that whoever reads of it knows what to mend.
    fn about(self, path: &Path) -> Self {
        match &self {
            Self::Commit { damaged: true, .. } => Self::Damaged { path: path.to_owned() },
            _ if self.code() == Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path: path.to_owned() },
            _ => self,
        }
    }

    /// Whether trying again is of no use: the database is damaged, or lacks what every release has.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Closed | Self::Sqlite { .. } | Self::Commit { .. })
            && !self.is_disk_trouble()
    }
}

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
    awaited: Arc<Awaited>,
}

impl Queue {
    /// Opens the database, making it or bringing it up to date where needed.
    ///
    /// # Errors
    ///
    /// Where it is not ours, newer, damaged, or cannot be written.
    pub fn open(path: &Path, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        let (connection, seed) = schema::open_for_writing(path)?;
        Ok(Self {
            writer: Writer::start(connection, when_stuck)?,
            path: path.to_owned(),
            seed,
            awaited: Arc::default(),
        })
    }

    /// Where the database lies.
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

    /// `step` names the commit in [`killpoint`](crate::killpoint).
    async fn run<T: Send + 'static>(
        &self,
        step: &'static str,
        command: impl FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.writer.run(step, command).await.map_err(|error| error.about(&self.path))
    }

    /// Runs a command from a thread that may block; several changes in one closure are one transaction.
    ///
    /// # Errors
    ///
    /// The closure's own, or the commit's.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        step: &'static str,
        command: impl FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.writer.run_blocking(step, command).map_err(|error| error.about(&self.path))
    }
}
