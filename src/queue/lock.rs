//! One process works on a database at a time.
//!
//! The lock is the kernel's, on a file beside the database, so that it ends with the process however that ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::QueueError;

/// The right to work on a database; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who works on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process number, where its file says.
    pub pid: Option<u32>,
    /// Its command: `run` or `import`.
    pub command: String,
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn open(path: &Path) -> Result<File, QueueError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
        .map_err(|source| QueueError::Io { action: "open", path: path.to_owned(), source })
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    ///
    /// Where the file beside the database cannot be made.
    pub fn take(database: &Path, command: &str) -> Result<Result<Self, Holder>, QueueError> {
        if let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| QueueError::Io {
                action: "make the folder",
                path: folder.to_owned(),
                source,
            })?;
        }
        let path = beside(database);
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => return Err(QueueError::Io { action: "lock", path, source }),
        }
        // The text is for people and may be cut by a full disk; the lock itself is not.
        let told = file.set_len(0).and_then(|()| writeln!(file, "{} {command}", std::process::id()));
        if let Err(error) = told {
            tracing::warn!(%error, "cannot write who holds the lock");
        }
        Ok(Ok(Self { _file: file }))
    }

    /// Who works on the database at present, if anybody.
    #[must_use]
    pub fn holder(database: &Path) -> Option<Holder> {
        let mut file = File::open(beside(database)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
            _ => None,
        }
    }
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    if read.is_err() {
        text.clear();
    }
    let mut words = text.split_whitespace();
    Holder {
        pid: words.next().and_then(|word| word.parse().ok()),
        command: words.next().unwrap_or("another process").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is_and_gets_it_after() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = Lock::take(&database, "run").unwrap().unwrap();
        let holder = Lock::take(&database, "import").unwrap().unwrap_err();
        assert_eq!(holder, Holder { pid: Some(std::process::id()), command: "run".into() });
        assert_eq!(Lock::holder(&database), Some(holder));
        drop(first);
        assert_eq!(Lock::holder(&database), None);
        assert!(Lock::take(&database, "import").unwrap().is_ok());
    }
}
