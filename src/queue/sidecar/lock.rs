//! One process works on a database at a time.
//!
//! The lock is the kernel's, on the database's own inode, so that it ends with the process however that ends, and hard
//! links, symbolic links, bind mounts and removed files lead to the same one. A second worker once began beside the first
//! after a cleaner had removed the file that was locked then.
//!
//! It is an open file description lock on a byte far behind the content, which SQLite's own locks do not touch. Those are
//! POSIX locks: a process loses all that it has on a file when it closes *any* descriptor of that file. So the descriptors
//! that are opened here are never closed; there is one for each database.
//!
//! The file beside the database only says who has the lock. It is locked too, as earlier releases do, which know no other lock.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use super::beside;
use crate::{
    clock::Timestamp,
    queue::{QueueError, make_file, schema},
};

/// The byte that is locked. No database is so long.
const LOCKED_BYTE: i64 = 1 << 62;

/// The byte that is locked while an import reads its manifests.
const IMPORT_BYTE: i64 = LOCKED_BYTE + 1;

/// A database's descriptor, which stays open until the process ends.
#[derive(Debug)]
struct DatabaseFile {
    device: u64,
    inode: u64,
    is_writable: bool,
    file: File,
    /// Whether this process has the lock.
    is_held: AtomicBool,
    /// Imports of this process that read their manifests.
    imports: AtomicU32,
}

static DESCRIPTORS: Mutex<Vec<&'static DatabaseFile>> = Mutex::new(Vec::new());

/// What is locked of a database.
fn region(kind: libc::c_int) -> libc::flock {
    let short = |word: libc::c_int| libc::c_short::try_from(word).unwrap_or(libc::c_short::MAX);
    libc::flock { l_type: short(kind), l_whence: short(libc::SEEK_SET), l_start: LOCKED_BYTE, l_len: 1, l_pid: 0 }
}

impl DatabaseFile {
    fn of(database: &Path, for_writing: bool) -> io::Result<&'static Self> {
        let mut known = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
        let found = database.metadata()?;
        let is_it = |it: &&&'static Self| {
            (it.device, it.inode) == (found.dev(), found.ino()) && (it.is_writable || !for_writing)
        };
        if let Some(descriptor) = known.iter().find(is_it) {
            return Ok(descriptor);
        }
        let file = OpenOptions::new().read(true).write(for_writing).open(database)?;
        let opened = file.metadata()?;
        let made: &'static Self = Box::leak(Box::new(Self {
            device: opened.dev(),
            inode: opened.ino(),
            is_writable: for_writing,
            file,
            is_held: AtomicBool::new(false),
            imports: AtomicU32::new(0),
        }));
        known.push(made);
        Ok(made)
    }

    fn try_lock(&self) -> io::Result<bool> {
        if self.is_held.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&region(libc::F_WRLCK))) {
            Ok(_) => Ok(true),
            Err(error) => {
                self.is_held.store(false, Ordering::Release);
                if matches!(error, Errno::EAGAIN | Errno::EACCES) { Ok(false) } else { Err(error.into()) }
            }
        }
    }

    fn unlock(&self) {
        if let Err(error) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&region(libc::F_UNLCK))) {
            tracing::warn!(%error, "the database's lock cannot be given back before this process ends");
            return;
        }
        self.is_held.store(false, Ordering::Release);
    }

    /// Whether it is the file under this path.
    fn is_at(&self, database: &Path) -> bool {
        database.metadata().is_ok_and(|found| (self.device, self.inode) == (found.dev(), found.ino()))
    }

    /// Whether this process or another one has the lock.
    fn is_locked(&self) -> bool {
        self.is_held.load(Ordering::Acquire) || self.is_locked_elsewhere(LOCKED_BYTE)
    }

    /// Whether another process has locked this byte.
    fn is_locked_elsewhere(&self, byte: i64) -> bool {
        let mut found = region(libc::F_WRLCK);
        found.l_start = byte;
        let asked = fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut found));
        asked.is_ok() && i32::from(found.l_type) != libc::F_UNLCK
    }
}

/// The right to work on a database; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    descriptor: &'static DatabaseFile,
    file: File,
    /// The database, where it was made for the lock.
    made: Option<PathBuf>,
    /// The database, where no worker is known to have used this name of it ([`is_new_name`]).
    new_name: Option<PathBuf>,
    written: RefCell<Option<String>>,
}

/// How the name of the file beside the database ends.
const ENDING: &str = ".lock";

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
    /// Since when, or since when it works.
    pub since: Option<Timestamp>,
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
    /// Takes the lock, or says who has it. Makes an empty database where there is none.
    ///
    /// # Errors
    ///
    /// Where the database or the file beside it cannot be opened or made.
    pub(crate) fn take(database: &Path, command: &str) -> Result<Result<Self, Holder>, QueueError> {
        let is_new = !database.exists();
        make_file(database)?;
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| QueueError::Io { action, path, source }
        };
        let descriptor = DatabaseFile::of(database, true).map_err(io("open", database))?;
        if !descriptor.try_lock().map_err(io("lock", database))? {
            return Ok(Err(read_holder(database)));
        }
        if !descriptor.is_at(database) {
            // It was removed in between, by whoever had made it in vain.
            descriptor.unlock();
            return Self::take(database, command);
        }
        let new_name = is_new_name(database).then(|| database.to_owned());
        let path = beside(database, ENDING);
        let file = open(&path).inspect_err(|_| descriptor.unlock())?;
        let made = is_new.then(|| database.to_owned());
        let mut lock = Self { descriptor, file, made, new_name, written: RefCell::new(None) };
        match lock.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(read_holder(database))),
            Err(TryLockError::Error(source)) => return Err(QueueError::Io { action: "lock", path, source }),
        }
        // The text is for people and may be cut by a full disk; the lock itself is not.
        let written = lock.file.set_len(0).and_then(|()| lock.file.write_all(&page(command, "")));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write who holds the lock");
        }
        Ok(Ok(lock))
    }

    /// Refuses to work under a name that no worker has used, where the database has others. The file that the lock made
    /// beside it goes, so that the name is as new at the next start.
    ///
    /// # Errors
    ///
    /// [`QueueError::OtherName`].
    pub(crate) fn refuse_new_name(&self) -> Result<(), QueueError> {
        let Some(database) = &self.new_name else { return Ok(()) };
        std::fs::remove_file(beside(database, ENDING)).ok();
        Err(QueueError::OtherName { path: database.clone() })
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
        DatabaseFile::of(database, false).ok()?.is_locked().then(|| read_holder(database))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where nothing was done, no queue is left.
        if let Some(path) = self.made.as_ref().filter(|path| self.descriptor.is_at(path))
            && path.metadata().is_ok_and(|found| found.len() == 0)
        {
            std::fs::remove_file(path).ok();
        }
        self.descriptor.unlock();
    }
}

/// An import that has not read all of its manifests, and puts files away: while it is under way, here or in another process,
/// files of imports stay where they are, since what is read next may name them too.
#[derive(Debug)]
pub(crate) struct OpenImport(&'static DatabaseFile);

impl OpenImport {
    /// Says that an import begins to read. It ends when this is dropped, or with the process.
    ///
    /// # Errors
    ///
    /// Where the database cannot be locked.
    pub(crate) fn begin(database: &Path) -> Result<Self, QueueError> {
        let locked = DatabaseFile::of(database, false).and_then(|file| {
            let mut region = region(libc::F_RDLCK);
            region.l_start = IMPORT_BYTE;
            fcntl(&file.file, FcntlArg::F_OFD_SETLK(&region))?;
            file.imports.fetch_add(1, Ordering::AcqRel);
            Ok(Self(file))
        });
        locked.map_err(|source| QueueError::Io { action: "lock", path: database.to_owned(), source })
    }

    /// Whether there is one on this database.
    pub(crate) fn is_under_way(database: &Path) -> bool {
        DatabaseFile::of(database, false)
            .is_ok_and(|file| file.imports.load(Ordering::Acquire) > 0 || file.is_locked_elsewhere(IMPORT_BYTE))
    }
}

impl Drop for OpenImport {
    fn drop(&mut self) {
        if self.0.imports.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut region = region(libc::F_UNLCK);
            region.l_start = IMPORT_BYTE;
            if let Err(error) = fcntl(&self.0.file, FcntlArg::F_OFD_SETLK(&region)) {
                tracing::warn!(%error, "files of imports stay until this process ends");
            }
        }
    }
}

/// Refuses to write to a database beside the process that works on it, if that uses another name of it: SQLite keeps the
/// log of what is not in the database yet beside the name with which it was opened. Without a worker, a new name is refused.
///
/// # Errors
///
/// [`QueueError::OtherName`].
pub(crate) fn refuse_other_name(database: &Path) -> Result<(), QueueError> {
    let is_mounted = || {
        let stat = rustix::fs::statx(CWD, database, AtFlags::empty(), StatxFlags::empty());
        stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    };
    let Ok(found) = database.metadata() else { return Ok(()) };
    let is_elsewhere =
        || (found.nlink() > 1 || is_mounted()) && Lock::holder(database).is_some() && !is_log_in_use(database);
    if is_new_name(database) || is_elsewhere() {
        return Err(QueueError::OtherName { path: database.to_owned() });
    }
    Ok(())
}

/// Whether a database has other names, and nothing says that a worker used this one. Where the last worker was killed, its
/// newest commits are in the log beside the name that it used: a random day lost them so, and a manifest with them. The log
/// alone does not show it, since it is empty once all of it is in the database; a worker that is killed at its first start has
/// no lineage yet, and a cleaner removes the lock's file: other days' workers refused their own names so.
fn is_new_name(database: &Path) -> bool {
    // Whoever only reads leaves an empty log.
    let is_there = |end: &&str| beside(database, end).metadata().is_ok_and(|file| file.len() > 0);
    database.metadata().is_ok_and(|found| found.nlink() > 1)
        && !["-wal", super::marks::ENDING, ENDING].iter().any(is_there)
        && !schema::has_name(database)
}

/// The byte of a log's index on which each connection to it has a shared lock (`UNIX_SHM_DMS` in SQLite's `os_unix.c`).
const IN_USE_BYTE: i64 = 128;

/// Whether a process has the log open that is beside this name of a database.
fn is_log_in_use(database: &Path) -> bool {
    let Ok(index) = File::open(beside(database, "-shm")) else { return false };
    let mut found = region(libc::F_WRLCK);
    found.l_start = IN_USE_BYTE;
    // As a process that asks: locks that it has itself do not count.
    let asked = fcntl(&index, FcntlArg::F_GETLK(&mut found));
    // Closed, it would take this process's locks with it.
    std::mem::forget(index);
    asked.is_ok() && i32::from(found.l_type) != libc::F_UNLCK
}

/// What the file says: who has the lock, on a line of its own, and what is the matter; always of the same length.
fn page(command: &str, trouble: &str) -> Vec<u8> {
    let mut page =
        format!("{} {command}\n{}\n", std::process::id(), trouble.replace(char::is_control, " ")).into_bytes();
    page.resize(ROOM_BYTES, b' ');
    page
}

fn read_holder(database: &Path) -> Holder {
    let mut bytes = Vec::new();
    let mut since = None;
    let read = File::open(beside(database, ENDING)).and_then(|file| {
        // It is written at the start, and when the trouble changes.
        since = file.metadata().ok().map(|metadata| Timestamp(metadata.mtime() * 1000));
        file.take(ROOM_BYTES as u64).read_to_end(&mut bytes)
    });
    // A long text may have been cut within a letter.
    let text = read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    Holder {
        pid: words.next().and_then(|word| word.parse().ok()),
        command: words.next().unwrap_or("another process").to_owned(),
        trouble: lines.next().map(str::trim).filter(|trouble| !trouble.is_empty()).map(str::to_owned),
        since,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_second_learns_who_holds_the_lock_and_gets_it_after() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = Lock::take(&database, "run").unwrap().unwrap();
        let holder = Lock::take(&database, "import").unwrap().unwrap_err();
        assert_eq!((holder.pid, holder.command.as_str()), (Some(std::process::id()), "run"));
        assert!(holder.trouble.is_none() && holder.since.is_some());
        assert_eq!(Lock::holder(&database), Some(holder.clone()));

        let trouble = || Lock::holder(&database).unwrap().trouble;
        first.note("run", Some("the disk\nis full".into()));
        assert_eq!(trouble().as_deref(), Some("the disk is full"));
        first.note("run", Some("ü".repeat(600)));
        assert!(trouble().is_some_and(|said| said.starts_with("üü")));
        first.note("run", None);
        assert_eq!(Lock::holder(&database).unwrap().trouble, None);
        drop(first);
        assert_eq!(Lock::holder(&database), None);
        assert!(Lock::take(&database, "import").unwrap().is_ok());
    }

    #[test]
    fn other_names_of_a_database_lead_to_its_lock_and_so_does_a_removed_file() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let first = Lock::take(&database, "run").unwrap().unwrap();
        let (hard, symbolic) = (folder.path().join("hard.db"), folder.path().join("symbolic.db"));
        fs::hard_link(&database, &hard).unwrap();
        std::os::unix::fs::symlink(&database, &symbolic).unwrap();
        assert_eq!(Lock::take(&symbolic, "run").unwrap().unwrap_err().pid, Some(std::process::id()));
        assert_eq!(Lock::take(&hard, "run").unwrap().unwrap_err().pid, None);
        fs::remove_file(beside(&database, ENDING)).unwrap();
        assert!(Lock::take(&database, "run").unwrap().is_err());
        assert!(matches!(refuse_other_name(&hard), Err(QueueError::OtherName { .. })));
        drop(first);
        assert!(refuse_other_name(&hard).is_ok());
        assert!(Lock::take(&hard, "run").unwrap().is_ok());
    }

    #[test]
    fn an_import_is_under_way_until_the_last_one_has_read_its_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let _lock = Lock::take(&database, "import").unwrap().unwrap();
        let is_locked = || {
            let mut found = region(libc::F_WRLCK);
            found.l_start = IMPORT_BYTE;
            // As another process asks, with a descriptor of its own.
            let file = Box::leak(Box::new(File::open(&database).unwrap()));
            fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
            (OpenImport::is_under_way(&database), i32::from(found.l_type) != libc::F_UNLCK)
        };
        assert_eq!(is_locked(), (false, false));
        let (first, second) = (OpenImport::begin(&database).unwrap(), OpenImport::begin(&database).unwrap());
        drop(first);
        assert_eq!(is_locked(), (true, true));
        drop(second);
        assert_eq!(is_locked(), (false, false));
        assert!(Lock::holder(&database).is_some());
    }

    #[test]
    fn asking_and_taking_leave_the_locks_of_sqlite_alone() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        let _lock = Lock::take(&database, "run").unwrap().unwrap();
        let open = || rusqlite::Connection::open(&database).unwrap();
        let first = open();
        first.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE t(x); BEGIN EXCLUSIVE").unwrap();
        assert!(Lock::take(&database, "import").unwrap().is_err());
        assert!(Lock::holder(&database).is_some());
        make_file(&database).unwrap();
        // Another process would find no lock of SQLite's where a descriptor had been closed.
        let mut probe = region(libc::F_WRLCK);
        (probe.l_start, probe.l_len) = (0, LOCKED_BYTE);
        let file = &DatabaseFile::of(&database, false).unwrap().file;
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe)).unwrap();
        assert_ne!(i32::from(probe.l_type), libc::F_UNLCK);
    }
}
