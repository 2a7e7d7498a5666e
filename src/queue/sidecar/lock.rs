//! One process works on a database at a time.
//!
//! The lock is the kernel's, on a file beside the database, so that it ends with the process however that ends.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::queue::{QueueError, make_folder_of};

/// The right to work on a database; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    written: RefCell<Option<String>>,
}

/// Room in the file for the text of [`Lock::note`], allocated with the lock, so that it can be written on a full disk.
const ROOM_BYTES: usize = 500;

/// Who works on a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process number, where its file says.
    pub pid: Option<u32>,
    /// Its command: `run` or `import`.
    pub command: String,
    /// Why it cannot write to the database at present, if it cannot.
    pub trouble: Option<String>,
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
    pub(crate) fn take(database: &Path, command: &str) -> Result<Result<Self, Holder>, QueueError> {
        make_folder_of(database)?;
        let path = beside(database);
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(read_holder(&mut file))),
            Err(TryLockError::Error(source)) => return Err(QueueError::Io { action: "lock", path, source }),
        }
        // The text is for people and may be cut by a full disk; the lock itself is not.
        let written = file.set_len(0).and_then(|()| file.write_all(&page(command, "")));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write who holds the lock");
        }
        Ok(Ok(Self { file, written: RefCell::new(None) }))
    }

    /// Writes to the lock's file why the database cannot be written, which the database itself could not record; `None`
    /// once it can. Costs nothing where nothing has changed.
    pub(crate) fn note(&self, command: &str, trouble: Option<String>) {
        if *self.written.borrow() == trouble {
            return;
        }
        if let Err(error) = self.file.write_all_at(&page(command, trouble.as_deref().unwrap_or_default()), 0) {
            tracing::debug!(%error, "cannot write why the database cannot be written");
        }
        self.written.replace(trouble);
    }

    /// The process that works on the database at present, if any.
    #[must_use]
    pub(crate) fn holder(database: &Path) -> Option<Holder> {
        let mut file = File::open(beside(database)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
            _ => None,
        }
    }
}

/// What the file says: who has the lock, on a line of its own, and what is the matter; always of the same length.
fn page(command: &str, trouble: &str) -> Vec<u8> {
    let mut page =
        format!("{} {command}\n{}\n", std::process::id(), trouble.replace(char::is_control, " ")).into_bytes();
    page.resize(ROOM_BYTES, b' ');
    page
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let mut bytes = Vec::new();
    if file.rewind().and_then(|()| file.take(ROOM_BYTES as u64).read_to_end(&mut bytes)).is_ok() {
        // A long text may have been cut within a letter.
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    Holder {
        pid: words.next().and_then(|word| word.parse().ok()),
        command: words.next().unwrap_or("another process").to_owned(),
        trouble: lines.next().map(str::trim).filter(|trouble| !trouble.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_learns_who_holds_the_lock_and_gets_it_after() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = Lock::take(&database, "run").unwrap().unwrap();
        let holder = Lock::take(&database, "import").unwrap().unwrap_err();
        assert_eq!(holder, Holder { pid: Some(std::process::id()), command: "run".into(), trouble: None });
        assert_eq!(Lock::holder(&database), Some(holder.clone()));

        let trouble = || Lock::holder(&database).unwrap().trouble;
        first.note("run", Some("the disk\nis full".into()));
        assert_eq!(trouble().as_deref(), Some("the disk is full"));
        first.note("run", Some("ü".repeat(600)));
        assert!(trouble().is_some_and(|said| said.starts_with("üü")));
        first.note("run", None);
        assert_eq!(Lock::holder(&database), Some(holder));
        drop(first);
        assert_eq!(Lock::holder(&database), None);
        assert!(Lock::take(&database, "import").unwrap().is_ok());
    }
}
