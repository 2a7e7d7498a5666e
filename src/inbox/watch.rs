//! Watches the folders of a drop by inotify.
//!
//! Events are hints only: they get lost when the kernel's queue overflows, and always when another machine writes. So
//! nothing is believed that one says, and the caller also reads the whole drop now and then.
//!
//! A folder is watched before it is read, so that whatever comes into it is either found by that reading or reported.
//! Reading is not reported, so that a scan causes no events.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    mem::MaybeUninit,
    ops::Bound,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::{
    beneath::Root,
    hints::{FolderChange, FolderEvent},
};
pub use crate::durable::file_system::EventSupport;
use crate::durable::file_system::FileSystem;

/// Why a folder cannot be watched. It can still be polled.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system gives this user no further watcher.
    #[error(
        "no watcher for folders: {source}; raise the sysctl fs.inotify.max_user_instances, or set watch = \"poll\""
    )]
    Start {
        /// The system's error.
        source: io::Error,
    },
    /// The system gives this user no further watch, and each folder takes one.
    #[error(
        "'{}' has more folders than may be watched; raise the sysctl fs.inotify.max_user_watches, or set watch = \"poll\"",
        path.display()
    )]
    TooMany {
        /// The drop.
        path: PathBuf,
    },
    /// The folder cannot be watched for another reason.
    #[error("cannot watch '{}': {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What is reported of a folder. Its reading is not, so that a scan causes no events.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// What is reported of the drop itself.
const OF_ROOT: WatchFlags = CHANGES.union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);

/// How much of the kernel's queue is read at once.
const BUFFER: usize = 1 << 16;

/// Watches one drop.
#[derive(Debug)]
pub struct Watcher {
    inotify: OwnedFd,
    /// Wakes the reader, so that it ends.
    end: OwnedFd,
    root: PathBuf,
    /// Which folder the drop was: another one may come into its place.
    place: (u64, u64),
    folders: Mutex<WatchedFolders>,
    /// Whether any event came.
    heard: AtomicBool,
    /// Whether events were lost since [`Self::take_missed`].
    missed: AtomicBool,
}

/// Which watch is which folder's, both ways.
#[derive(Debug, Default)]
struct WatchedFolders {
    paths: HashMap<i32, String>,
    watches: BTreeMap<String, i32>,
    /// Why a folder could not be watched since the last [`Watcher::take_failure`].
    failure: Option<WatchError>,
}

impl WatchedFolders {
    fn insert(&mut self, watch: i32, path: &str) {
        // A folder that was moved keeps its watch.
        if let Some(former) = self.paths.get(&watch).filter(|former| *former != path) {
            self.watches.remove(former);
        }
        if let Some(former) = self.watches.insert(path.to_owned(), watch).filter(|former| *former != watch) {
            self.paths.remove(&former);
        }
        self.paths.insert(watch, path.to_owned());
    }

    fn remove(&mut self, watch: i32) {
        if let Some(path) = self.paths.remove(&watch) {
            self.watches.remove(&path);
        }
    }

    /// A folder and those below it.
    fn below(&self, path: &str) -> Vec<i32> {
        let prefix = format!("{path}/");
        let below = self.watches.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        let below = below.take_while(|(other, _)| other.starts_with(&prefix)).map(|(_, watch)| *watch);
        self.watches.get(path).copied().into_iter().chain(below).collect()
    }
}

impl Watcher {
    /// Watches the drop itself; the folders in it are watched as they are read.
    ///
    /// # Errors
    ///
    /// [`WatchError`].
    pub fn start(root: &Root) -> Result<Self, WatchError> {
        let started = || {
            let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            Ok((inotify, eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
        };
        let (inotify, end) = started().map_err(|error: Errno| WatchError::Start { source: error.into() })?;
        let watcher = Self {
            inotify,
            end,
            root: root.path().to_owned(),
            place: (root.identity().dev, root.identity().ino),
            folders: Mutex::default(),
            heard: AtomicBool::new(false),
            missed: AtomicBool::new(false),
        };
        // Opened once while that is reported: whether events come at all cannot be asked, and this takes no right but to
        // read, and changes nothing.
        watcher.add(root.as_fd(), "", OF_ROOT | WatchFlags::OPEN)?;
        std::fs::read_dir(root.path()).ok();
        watcher.add(root.as_fd(), "", OF_ROOT)?;
        Ok(watcher)
    }

    /// Whether it watches the folder that this is.
    #[must_use]
    pub fn is_of(&self, root: &Root) -> bool {
        self.place == (root.identity().dev, root.identity().ino)
    }

    fn folders(&self) -> MutexGuard<'_, WatchedFolders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, folder: BorrowedFd<'_>, path: &str, flags: WatchFlags) -> Result<(), WatchError> {
        // Held meanwhile, so that whoever reads an event of it finds its path.
        let mut folders = self.folders();
        let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let added = match inotify::add_watch(&self.inotify, opened.as_str(), flags) {
            // Without /proc. Where another folder has come under the path, that is reported, and read again.
            Err(Errno::NOENT | Errno::ACCESS) => {
                inotify::add_watch(&self.inotify, self.root.join(path), flags | WatchFlags::DONT_FOLLOW)
            }
            added => added,
        };
        match added {
            Ok(watch) => {
                folders.insert(watch, path);
                Ok(())
            }
            // It is gone, and its own folder reports that.
            Err(Errno::NOENT | Errno::NOTDIR) if !path.is_empty() => Ok(()),
            Err(Errno::NOSPC) => Err(WatchError::TooMany { path: self.root.clone() }),
            Err(error) => Err(WatchError::Watch { path: self.root.join(path), source: error.into() }),
        }
    }

    /// Watches an opened folder below the drop, or knows it under its new path; called before it is read.
    pub fn watch(&self, folder: BorrowedFd<'_>, path: &str) {
        if let Err(error) = self.add(folder, path, CHANGES) {
            self.folders().failure.get_or_insert(error);
        }
    }

    /// Whether a folder is watched under this path.
    #[must_use]
    pub fn knows(&self, path: &str) -> bool {
        self.folders().watches.contains_key(path)
    }

    /// Watches a folder that is no longer under this path, and those below it, no more.
    pub fn forget(&self, path: &str) {
        let mut folders = self.folders();
        for watch in folders.below(path) {
            folders.remove(watch);
            // That of a folder that is gone is gone too.
            inotify::remove_watch(&self.inotify, watch).ok();
        }
    }

    /// Why a folder could not be watched since this was last asked.
    #[must_use]
    pub fn take_failure(&self) -> Option<WatchError> {
        self.folders().failure.take()
    }

    /// Whether events were lost since this was last asked.
    #[must_use]
    pub fn take_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Whether any event came.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Ends [`Self::read`].
    pub fn end(&self) {
        rustix::io::write(&self.end, &1_u64.to_ne_bytes()).ok();
    }

    /// Hands on each event until the end. `each` must be cheap and never wait.
    ///
    /// # Errors
    ///
    /// The kernel's; no events are heard from then on.
    pub fn read(&self, each: &mut dyn FnMut(&FolderEvent<'_>)) -> io::Result<()> {
        let read = self.read_on(each);
        if read.is_err() {
            self.heard.store(false, Ordering::Relaxed);
        }
        read
    }

    fn read_on(&self, each: &mut dyn FnMut(&FolderEvent<'_>)) -> io::Result<()> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let mut polled = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
            match poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            if polled[1].revents().contains(PollFlags::IN) {
                return Ok(());
            }
            loop {
                match reader.next() {
                    Ok(event) => self.hand_on(&event, each),
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn hand_on(&self, event: &inotify::Event<'_>, each: &mut dyn FnMut(&FolderEvent<'_>)) {
        self.heard.store(true, Ordering::Relaxed);
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.missed.store(true, Ordering::Relaxed);
            each(&FolderEvent { folder: "", name: None, is_folder: false, change: FolderChange::Lost });
            return;
        }
        let mut folders = self.folders();
        if let Some(change) = change(flags)
            && let Some(folder) = folders.paths.get(&event.wd())
        {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            each(&FolderEvent { folder, name, is_folder: flags.contains(ReadFlags::ISDIR), change });
        }
        if flags.contains(ReadFlags::IGNORED) {
            folders.remove(event.wd());
        }
    }
}

/// What an event is about; `None` for the reading of a folder, and the end of a watch.
fn change(flags: ReadFlags) -> Option<FolderChange> {
    let kinds = [
        (ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT, FolderChange::Gone),
        (ReadFlags::CREATE | ReadFlags::MOVED_TO, FolderChange::Came),
        (ReadFlags::DELETE | ReadFlags::MOVED_FROM, FolderChange::Went),
        (ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE | ReadFlags::ATTRIB, FolderChange::Changed),
    ];
    kinds.into_iter().find(|(kind, _)| flags.intersects(*kind)).map(|(_, change)| change)
}

/// Whether the file system of a folder reports changes.
///
/// # Errors
///
/// The kernel's, where there is no such folder or its mount is lost.
pub fn delivers_events(path: &Path) -> io::Result<EventSupport> {
    Ok(FileSystem::at(path)?.delivers_events())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Arc,
            mpsc::{Receiver, channel},
        },
        thread,
        time::Duration,
    };

    use super::*;

    /// Generous, because it only ever passes in full when the test fails.
    const LONG: Duration = Duration::from_secs(30);

    #[expect(clippy::disallowed_methods, reason = "a partner's rename")]
    fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// The folder, the name in it, and what happened to it.
    type Seen = (String, String, FolderChange);

    fn watched(folder: &Path) -> (Arc<Watcher>, Receiver<Seen>) {
        let watcher = Arc::new(Watcher::start(&Root::open(folder).unwrap()).unwrap());
        let (send, receive) = channel();
        let reading = Arc::clone(&watcher);
        thread::spawn(move || {
            reading.read(&mut |event| {
                let name = String::from_utf8_lossy(event.name.unwrap_or_default()).into_owned();
                send.send((event.folder.to_owned(), name, event.change)).ok();
            })
        });
        (watcher, receive)
    }

    fn seen(folder: &str, name: &str, change: FolderChange) -> Seen {
        (folder.to_owned(), name.to_owned(), change)
    }

    #[test]
    fn a_new_file_is_reported_with_its_folder_and_name() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir_in(place.path().parent().unwrap()).unwrap();
        fs::create_dir(place.path().join("in")).unwrap();
        fs::write(outside.path().join("b"), "{}").unwrap();
        let (watcher, events) = watched(place.path());
        watcher.watch(fs::File::open(place.path().join("in")).unwrap().as_fd(), "in");
        fs::write(place.path().join("a"), "{}").unwrap();
        assert_eq!(events.recv_timeout(LONG).unwrap(), seen("", "a", FolderChange::Came));
        fs::hard_link(outside.path().join("b"), place.path().join("in/b")).unwrap();
        let came = std::iter::from_fn(|| events.recv_timeout(LONG).ok()).find(|event| event.0 == "in");
        assert_eq!(came, Some(seen("in", "b", FolderChange::Came)));
        watcher.end();
    }

    #[test]
    fn reading_is_heard_once_at_the_start_and_never_reported() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a"), "{}").unwrap();
        let (watcher, events) = watched(place.path());
        let began = std::time::Instant::now();
        while !watcher.has_heard() {
            assert!(began.elapsed() < LONG);
            thread::yield_now();
        }
        fs::read_dir(place.path()).unwrap().for_each(|entry| drop(fs::read(entry.unwrap().path()).unwrap()));
        rename(place.path().join("a"), place.path().join("b")).unwrap();
        assert_eq!(events.recv_timeout(LONG).unwrap(), seen("", "a", FolderChange::Went));
        assert_eq!(events.recv_timeout(LONG).unwrap(), seen("", "b", FolderChange::Came));
        watcher.end();
    }

    #[test]
    fn a_folder_that_was_created_again_is_another_one() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("in");
        fs::create_dir(&folder).unwrap();
        let (watcher, events) = watched(&folder);
        assert!(watcher.is_of(&Root::open(&folder).unwrap()));
        rename(&folder, place.path().join("away")).unwrap();
        assert_eq!(events.recv_timeout(LONG).unwrap(), seen("", "", FolderChange::Gone));
        fs::create_dir(&folder).unwrap();
        assert!(!watcher.is_of(&Root::open(&folder).unwrap()));
        watcher.end();
        assert!(events.recv_timeout(LONG).is_err(), "the reading ends");
    }

    #[test]
    fn which_events_report_what() {
        for (flags, expected) in [
            (ReadFlags::CREATE | ReadFlags::ISDIR, Some(FolderChange::Came)),
            (ReadFlags::MOVED_TO, Some(FolderChange::Came)),
            (ReadFlags::MOVED_FROM, Some(FolderChange::Went)),
            (ReadFlags::CLOSE_WRITE, Some(FolderChange::Changed)),
            (ReadFlags::ATTRIB | ReadFlags::ISDIR, Some(FolderChange::Changed)),
            (ReadFlags::UNMOUNT, Some(FolderChange::Gone)),
            (ReadFlags::OPEN | ReadFlags::ISDIR, None),
            (ReadFlags::IGNORED, None),
        ] {
            assert_eq!(change(flags), expected, "{flags:?}");
        }
    }

    #[test]
    fn a_folder_is_asked_for_its_file_system() {
        assert_eq!(delivers_events(Path::new("/dev/shm")).unwrap(), EventSupport::Yes);
        assert!(delivers_events(Path::new("/no/such/folder")).is_err());
    }
}
