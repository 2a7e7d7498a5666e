//! Why the queue cannot do something, in terms that do not depend on the database's library.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use super::lineage::decide::LineageFault;
use crate::job::IllegalTransition;

/// What kind of failure the database reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFault {
    /// The disk is full or fails, or somebody else holds the database: waiting can cure it.
    Disk,
    /// The file is damaged.
    Corrupt,
    /// The file is no database at all.
    NotADatabase,
    /// A defect, or a schema that is not ours.
    Other,
}

impl DatabaseFault {
    const fn of(code: Option<ErrorCode>) -> Self {
        match code {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Disk,
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt,
            Some(ErrorCode::NotADatabase) => Self::NotADatabase,
            _ => Self::Other,
        }
    }
}

/// Why the queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A statement failed.
    #[error("the database refused: {message}")]
    Database {
        /// In the database's words.
        message: String,
        /// What can cure it depends on this.
        fault: DatabaseFault,
    },
    /// The commit that held this command failed.
    #[error("the database could not be written: {message}")]
    Commit {
        /// In the database's words.
        message: String,
        /// What can cure it depends on this.
        fault: DatabaseFault,
    },
    /// The database's folder or file cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
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
         to the right path, or restore a backup as the README says",
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
    #[error(
        "{} was written by an older release: stop or restart the process that works on it; then `run` or `import` of this \
         release brings it up to date",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
    },
    /// SQLite says that the file is damaged.
    #[error(
        "{} is damaged, and nothing more is written to it: restore a backup as the README says (\"Backup and restore\"); \
         delete nothing",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Other machines may use the database too, which no lock here keeps away for certain.
    #[error(
        "{} is on a network file system ({name}), where a second machine may work on it at the same time: keep it on a \
         local disk, or accept that with [queue] network_file_system = true",
        path.display()
    )]
    Shared {
        /// The file.
        path: PathBuf,
        /// The file system.
        name: &'static str,
    },
    /// The database is worked on under another name, beside which its log is.
    #[error(
        "{} is another name, a hard link or a bind mount, of a database that is worked on under its own: use that path, or \
         remove the link",
        path.display()
    )]
    OtherName {
        /// The file.
        path: PathBuf,
    },
    /// What was done with the database, or with another one in its place, is more than it knows.
    #[error(
        "nothing is sent from {}: {fault}; `adopt` finds out what exists, and `adopt --nothing-was-lost` accepts it as it is: \
         see \"Backup and restore\" in the README",
        path.display()
    )]
    Lineage {
        /// The file.
        path: PathBuf,
        /// What speaks against it.
        fault: LineageFault,
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
    /// The kind of failure that the database reports; `None` for other errors.
    pub(super) const fn fault(&self) -> Option<DatabaseFault> {
        match self {
            Self::Database { fault, .. } | Self::Commit { fault, .. } => Some(*fault),
            Self::Damaged { .. } => Some(DatabaseFault::Corrupt),
            _ => None,
        }
    }

    /// Whether the disk is the cause, so that the same command may succeed later.
    #[must_use]
    pub fn is_disk_trouble(&self) -> bool {
        self.fault() == Some(DatabaseFault::Disk)
    }

    /// The same failure for another caller whose command was in the same commit.
    pub(super) fn again(&self) -> Self {
        Self::Commit { message: self.to_string(), fault: self.fault().unwrap_or(DatabaseFault::Other) }
    }

    /// Names the file where it is damaged, so that the operator knows what to restore.
    pub(super) fn about(self, path: &Path) -> Self {
        match self.fault() {
            Some(DatabaseFault::Corrupt) => Self::Damaged { path: path.to_owned() },
            _ => self,
        }
    }

    /// Whether trying again is of no use: the database is damaged, or lacks what every release has.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Closed) || self.fault().is_some_and(|fault| fault != DatabaseFault::Disk)
    }
}

impl From<rusqlite::Error> for QueueError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database { fault: DatabaseFault::of(error.sqlite_error_code()), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn each_failure_of_the_database_is_waited_out_or_final_and_damage_names_the_file() {
        let of = |code: i32| QueueError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_READONLY] {
            for error in [of(code), of(code).again()] {
                assert!(error.is_disk_trouble() && !error.is_final(), "{error:?}");
                assert!(!matches!(error.about(Path::new("/q")), QueueError::Damaged { .. }));
            }
        }
        for code in [ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB, ffi::SQLITE_CONSTRAINT_CHECK] {
            for error in [of(code), of(code).again()] {
                assert!(!error.is_disk_trouble() && error.is_final(), "{error:?}");
                let is_damaged = matches!(error.about(Path::new("/q")), QueueError::Damaged { .. });
                assert_eq!(is_damaged, code == ffi::SQLITE_CORRUPT_INDEX, "{code}");
            }
        }
        let refused = QueueError::Refused("it makes no sense".into());
        assert!(!refused.is_final() && !refused.is_disk_trouble());
        assert!(QueueError::Closed.is_final());
    }
}
