//! Watches a drop folder for changes, to trigger a scan.
//!
//! Events are hints only: they get lost when a folder is new, when the kernel's queue overflows, when the folder is
//! created again, and always when another machine writes. So no path is taken from one, and the caller also polls. The
//! callback runs on the thread that reads the events and must never wait.

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{
    Config, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
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
        source: notify::Error,
    },
    /// The system gives this user no further watch, and each folder takes one.
    #[error(
        "'{}' has more folders than may be watched; raise the sysctl fs.inotify.max_user_watches, or set watch = \"poll\"",
        path.display()
    )]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be watched for another reason.
    #[error("cannot watch '{}': {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: notify::Error,
    },
}

/// Watches folders and gives a hint when something happens in one. Dropping it ends the watch.
pub struct Watcher {
    inner: INotifyWatcher,
    /// Whether any event came since the folder was watched.
    heard: Arc<AtomicBool>,
    /// Whether events were lost since the folder was watched.
    missed: Arc<AtomicBool>,
    /// From the path that was asked for to the one without links that is watched.
    watched: HashMap<PathBuf, PathBuf>,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Watcher {
    /// Starts a watcher that watches nothing yet.
    ///
    /// `hint` is called on the watcher's thread, perhaps thousands of times a second: it must be cheap and never wait.
    /// `tokio::sync::Notify::notify_one` is fine.
    ///
    /// # Errors
    ///
    /// [`WatchError::Start`].
    pub fn start(hint: Arc<dyn Fn() + Send + Sync>) -> Result<Self, WatchError> {
        let (heard, missed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (hears, misses) = (Arc::clone(&heard), Arc::clone(&missed));
        let handler = move |event: notify::Result<Event>| {
            hears.store(true, Ordering::Relaxed);
            let worth = match &event {
                // A scan opens folders, so that it may itself make a full queue overflow: reported once until that is
                // over.
                Ok(event) if event.need_rescan() => !misses.swap(true, Ordering::Relaxed),
                Ok(event) => is_worth_a_look(event),
                Err(_) => !misses.swap(true, Ordering::Relaxed),
            };
            if worth {
                hint();
            }
        };
        // A partner may make a link to "/", and watching that would take every watch the system has.
        let inner = INotifyWatcher::new(handler, Config::default().with_follow_symlinks(false))
            .map_err(|source| WatchError::Start { source })?;
        Ok(Self { inner, heard, missed, watched: HashMap::new() })
    }

    /// Watches a folder, and with `recursive` those in it. Called again, it replaces the watch, which is needed once
    /// the folder itself was replaced (see [`Root::still_there`](super::beneath::Root::still_there)): the old watch
    /// gets no events then.
    ///
    /// # Errors
    ///
    /// The folder may be watched in part; it has to be polled.
    pub fn watch(&mut self, path: &Path, recursive: bool) -> Result<(), WatchError> {
        self.unwatch(path);
        self.heard.store(false, Ordering::Relaxed);
        let real = path
            .canonicalize()
            .map_err(|error| WatchError::Watch { path: path.to_owned(), source: notify::Error::io(error) })?;
        self.watched.insert(path.to_owned(), real.clone());
        self.missed.store(false, Ordering::Relaxed);
        self.inner.watch(&real, mode(recursive)).map_err(|source| failed(path, source))
    }

    /// Whether events were lost since a folder was last watched: the kernel's queue was full, or a new folder could not be
    /// watched. Folders that came meanwhile may be unwatched then.
    #[must_use]
    pub fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }

    /// Watches folders that came into a watched folder unnoticed. Existing watches are kept, since the end of many
    /// watches would fill the kernel's queue again.
    ///
    /// # Errors
    ///
    /// As [`Self::watch`].
    pub fn watch_the_rest(&mut self, path: &Path, recursive: bool) -> Result<(), WatchError> {
        let Some(real) = self.watched.get(path).cloned() else { return Ok(()) };
        self.missed.store(false, Ordering::Relaxed);
        match self.inner.watch(&real, mode(recursive)) {
            // A folder disappeared while it was being watched, and those after it may be unwatched: to be tried again.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {
                self.missed.store(true, Ordering::Relaxed);
                Ok(())
            }
            watched => watched.map_err(|source| failed(path, source)),
        }
    }

    /// Whether any event came since a folder was last watched.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Causes an event: opens the folder. Takes no right but to read it, and changes nothing.
    pub fn try_out(&self, path: &Path) {
        std::fs::read_dir(path).ok();
    }

    /// Watches a folder no longer; it need not have been watched.
    pub fn unwatch(&mut self, path: &Path) {
        if let Some(real) = self.watched.remove(path) {
            // The watch of a folder that is gone is gone too, and that is not an error to report.
            self.inner.unwatch(&real).ok();
        }
    }
}

const fn mode(recursive: bool) -> RecursiveMode {
    if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive }
}

fn failed(path: &Path, source: notify::Error) -> WatchError {
    match source.kind {
        notify::ErrorKind::MaxFilesWatch => WatchError::TooMany { path: path.to_owned() },
        _ => WatchError::Watch { path: path.to_owned(), source },
    }
}

/// Whether an event can mean that there is something new to take.
fn is_worth_a_look(event: &Event) -> bool {
    if event.need_rescan() {
        return true;
    }
    match event.kind {
        // Our own reading opens and closes files too; only the end of a writing matters.
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
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
        sync::mpsc::{Receiver, channel},
        time::Duration,
    };

    use notify::event::{CreateKind, Flag};

    use super::*;

    /// Generous, because it only ever passes in full when the test fails.
    const LONG: Duration = Duration::from_secs(30);

    fn watcher() -> (Watcher, Receiver<()>) {
        let (send, receive) = channel();
        let hint = move || {
            send.send(()).ok();
        };
        (Watcher::start(Arc::new(hint)).unwrap(), receive)
    }

    #[test]
    fn a_new_file_gives_a_hint() {
        let place = tempfile::tempdir().unwrap();
        let (mut watcher, hints) = watcher();
        watcher.watch(place.path(), true).unwrap();
        fs::write(place.path().join("a.manifest.json"), "{}").unwrap();
        hints.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn a_trial_is_heard_and_gives_no_hint() {
        let place = tempfile::tempdir().unwrap();
        let (mut watcher, hints) = watcher();
        watcher.watch(place.path(), true).unwrap();
        assert!(!watcher.has_heard());
        watcher.try_out(place.path());
        let began = std::time::Instant::now();
        while !watcher.has_heard() {
            assert!(began.elapsed() < LONG);
            std::thread::yield_now();
        }
        assert!(hints.try_recv().is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing is written for it");
    }

    #[test]
    fn a_file_that_is_moved_into_a_folder_gives_a_hint() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir_in(place.path().parent().unwrap()).unwrap();
        fs::create_dir(place.path().join("in")).unwrap();
        fs::write(outside.path().join("a"), "{}").unwrap();
        let (mut watcher, hints) = watcher();
        watcher.watch(place.path(), true).unwrap();
        fs::hard_link(outside.path().join("a"), place.path().join("in/a")).unwrap();
        hints.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn a_folder_that_was_created_again_can_be_watched_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("in");
        fs::create_dir(&folder).unwrap();
        let (mut watcher, hints) = watcher();
        watcher.watch(&folder, false).unwrap();
        fs::remove_dir(&folder).unwrap();
        hints.recv_timeout(LONG).unwrap();
        fs::create_dir(&folder).unwrap();
        watcher.watch(&folder, false).unwrap();
        // The end of the old watch gives a few more hints, so there must be more than those.
        for n in 0..50 {
            fs::write(folder.join(format!("{n}.manifest.json")), "{}").unwrap();
        }
        for _ in 0..50 {
            hints.recv_timeout(LONG).unwrap();
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_its_path() {
        let (mut watcher, _hints) = watcher();
        let error = watcher.watch(Path::new("/no/such/folder"), true).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }

    #[test]
    fn reading_is_no_news_and_the_end_of_writing_is() {
        let kinds = [
            (AccessKind::Open(AccessMode::Any), false),
            (AccessKind::Read, false),
            (AccessKind::Close(AccessMode::Read), false),
            (AccessKind::Close(AccessMode::Write), true),
        ];
        for (kind, worth) in kinds {
            assert_eq!(is_worth_a_look(&Event::new(EventKind::Access(kind))), worth, "{kind:?}");
        }
        assert!(is_worth_a_look(&Event::new(EventKind::Create(CreateKind::Folder))));
        let overflow = Event::new(EventKind::Access(AccessKind::Read)).set_flag(Flag::Rescan);
        assert!(is_worth_a_look(&overflow));
    }

    #[test]
    fn a_folder_is_asked_for_its_file_system() {
        assert_eq!(delivers_events(Path::new("/dev/shm")).unwrap(), EventSupport::Yes);
        assert!(delivers_events(Path::new("/no/such/folder")).is_err());
    }
}
