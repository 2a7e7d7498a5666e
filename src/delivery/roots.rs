//! The opened folders that images are in, and how files in them are opened while all calls share one thread.
//!
//! On a local disk a file is found in microseconds, so it is opened in place. A network mount may not answer for minutes,
//! so whatever is there, or took long before, is opened on a thread that may block. A folder that does not answer
//! holds a few such threads and nobody else.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};

use crate::inbox::{
    beneath::{OpenedFile, Refusal, Root},
    watch::{EventSupport, delivers_events},
};

/// For this long an opened folder is reused without checking that its path still leads to it.
const ROOT_TTL: Duration = Duration::from_secs(1);

/// A file that took this long to open shows that its folder is slow.
const SLOW: Duration = Duration::from_millis(50);

/// Threads that one folder may hold. Files are opened one after the other anyway, as calls end.
const MAX_THREADS: usize = 4;

/// A folder that does not answer for this long counts as unavailable, and nobody else waits for it until it answers;
/// its jobs wait like those whose file is missing.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a file below a folder, and returns whether the folder is one where that is always fast. Blocks.
type Open = dyn Fn(&Roots, &Path, &str) -> (Result<OpenedFile, Refusal>, bool) + Send + Sync;

/// The opened folders. No lock is held while a file system is asked.
pub(super) struct Roots {
    folders: Mutex<HashMap<PathBuf, ImageFolder>>,
    open: Box<Open>,
    patience: Duration,
}

/// What is known of a folder.
struct ImageFolder {
    root: Option<(Arc<Root>, Instant)>,
    quick: bool,
    turns: Arc<Semaphore>,
    /// Threads that wait for it.
    held: usize,
    /// One of them has waited for too long.
    away: bool,
}

impl Default for Roots {
    fn default() -> Self {
        Self { folders: Mutex::default(), open: Box::new(open), patience: OPEN_TIMEOUT }
    }
}

impl Roots {
    fn folders(&self) -> MutexGuard<'_, HashMap<PathBuf, ImageFolder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, folder: &Path, change: impl FnOnce(&mut ImageFolder) -> T) -> T {
        let mut folders = self.folders();
        if let Some(place) = folders.get_mut(folder) {
            return change(place);
        }
        // Nothing is known of it yet, so it may be slow.
        let place = ImageFolder {
            root: None,
            quick: false,
            turns: Arc::new(Semaphore::new(MAX_THREADS)),
            held: 0,
            away: false,
        };
        change(folders.entry(folder.to_owned()).or_insert(place))
    }

    /// Opens a file below a folder, and never delays other jobs for longer than a local disk takes.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; a folder that does not answer in time is an error of the system.
    pub(super) async fn open(self: &Arc<Self>, folder: &Path, path: &str) -> Result<OpenedFile, Refusal> {
        if self.change(folder, |place| place.quick) {
            let began = Instant::now();
            let (opened, quick) = (self.open)(self, folder, path);
            if !quick || began.elapsed() > SLOW {
                self.change(folder, |place| place.quick = false);
            }
            return opened;
        }
        let away = || {
            let reason = format!("{} does not answer", folder.display());
            Err(Refusal::Io(io::Error::new(io::ErrorKind::TimedOut, reason)))
        };
        let turns = self.change(folder, |place| (!place.away).then(|| Arc::clone(&place.turns)));
        let Some(turns) = turns else { return away() };
        let Ok(Ok(turn)) = timeout(self.patience, turns.acquire_owned()).await else { return away() };
        let (roots, place, path) = (Arc::clone(self), folder.to_owned(), path.to_owned());
        self.change(folder, |place| place.held += 1);
        let opening = tokio::task::spawn_blocking(move || {
            // Given back when the system answers, even if nobody waits for that any more.
            let _turn = turn;
            let began = Instant::now();
            let (opened, quick) = (roots.open)(&roots, &place, &path);
            roots.change(&place, |place| {
                place.quick = quick && began.elapsed() <= SLOW;
                place.held -= 1;
                place.away &= place.held > 0;
            });
            opened
        });
        match timeout(self.patience, opening).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(defect)) => Err(Refusal::Io(io::Error::other(defect))),
            Err(_) => {
                self.change(folder, |place| place.away = place.held > 0);
                away()
            }
        }
    }

    /// The folder, opened again where its path now leads elsewhere. Blocks.
    fn root(&self, folder: &Path) -> io::Result<Arc<Root>> {
        let known = self.change(folder, |place| place.root.clone());
        let root = match known {
            Some((root, looked)) if looked.elapsed() < ROOT_TTL => return Ok(root),
            Some((root, _)) if root.still_there()? => root,
            _ => Arc::new(Root::open(folder)?),
        };
        self.change(folder, |place| place.root = Some((Arc::clone(&root), Instant::now())));
        Ok(root)
    }
}

fn open(roots: &Roots, folder: &Path, path: &str) -> (Result<OpenedFile, Refusal>, bool) {
    let known = roots.change(folder, |place| place.quick);
    // Asked once for each folder; one that turns slow later is asked again.
    let quick = known || delivers_events(folder).is_ok_and(|delivers| delivers == EventSupport::Yes);
    let look = || roots.root(folder).map_err(Refusal::Io).and_then(|root| root.open_file(path));
    let opened = match look() {
        // Another folder may be there since the path was checked.
        Err(Refusal::Missing) => {
            roots.change(folder, |place| place.root = None);
            look()
        }
        opened => opened,
    };
    let opened = match opened {
        // More likely than that all of its files were removed.
        Err(Refusal::Missing) if is_empty(folder) => Err(Refusal::Io(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} is empty, as a mount point is whose mount is gone", folder.display()),
        ))),
        opened => opened,
    };
    (opened, quick)
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, atomic::AtomicUsize, atomic::Ordering};

    use super::*;

    #[tokio::test]
    async fn a_local_folder_is_found_quick_and_its_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), "a").unwrap();
        let roots = Arc::new(Roots::default());
        for _ in 0..3 {
            assert_eq!(roots.open(folder.path(), "a.png").await.unwrap().identity.bytes, 1);
            assert!(matches!(roots.open(folder.path(), "b.png").await, Err(Refusal::Missing)));
        }
    }

    #[tokio::test]
    async fn a_folder_that_does_not_answer_holds_up_no_other() {
        let well = tempfile::tempdir().unwrap();
        std::fs::write(well.path().join("a.png"), "a").unwrap();
        let hung = Arc::new((Mutex::new(true), Condvar::new()));
        let held = Arc::new(AtomicUsize::new(0));
        let (gate, count) = (Arc::clone(&hung), Arc::clone(&held));
        let roots = Arc::new(Roots {
            open: Box::new(move |roots, folder, path| {
                if folder.ends_with("hung") {
                    count.fetch_add(1, Ordering::Relaxed);
                    let still = gate.0.lock().unwrap();
                    drop(gate.1.wait_while(still, |still| *still).unwrap());
                    return (Err(Refusal::Missing), false);
                }
                open(roots, folder, path)
            }),
            patience: Duration::from_secs(1),
            ..Roots::default()
        });
        // The first time it is not known to be quick, and a busy machine may be slow.
        while roots.open(well.path(), "a.png").await.is_err() {}
        let away: Vec<_> = (0..20)
            .map(|_| {
                let roots = Arc::clone(&roots);
                tokio::spawn(async move { roots.open(Path::new("/hung"), "a.png").await.map(drop) })
            })
            .collect();
        while held.load(Ordering::Relaxed) < MAX_THREADS {
            tokio::task::yield_now().await;
        }
        assert!(roots.open(well.path(), "a.png").await.is_ok(), "another drop goes on meanwhile");
        for opening in away {
            let refusal = opening.await.unwrap().unwrap_err();
            assert!(refusal.to_string().contains("/hung does not answer"), "{refusal}");
        }
        assert_eq!(held.load(Ordering::Relaxed), MAX_THREADS, "no more threads wait for it than may");
        assert!(roots.open(Path::new("/hung"), "a.png").await.is_err(), "it is known to be away");
        *hung.0.lock().unwrap() = false;
        hung.1.notify_all();
        while !matches!(roots.open(Path::new("/hung"), "a.png").await, Err(Refusal::Missing)) {
            tokio::task::yield_now().await;
        }
    }
}
