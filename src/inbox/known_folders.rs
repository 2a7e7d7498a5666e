//! What is known of a drop's folders between two scans: which are watched, and which were empty.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use rustix::fs::AtFlags;

use super::watch::Watcher;
use crate::{clock::Timestamp, file_identity::FileIdentity};

/// A change may have the time of one that was this much earlier: file systems count in steps of up to two seconds.
const TIME_STEP: Duration = Duration::from_secs(3);

/// What is known of a drop's folders.
///
/// A partner's emptied folders stay, and become many. One that was empty, and has not changed since, is not read again:
/// whatever comes into a folder changes its change time, which nobody can set. That is believed only where the file
/// system is this machine's own, and reports changes.
#[derive(Debug, Default)]
pub struct KnownFolders {
    watcher: Option<Arc<Watcher>>,
    /// The moment at which the current scan of the whole drop began, where empty folders are believed to stay so.
    scan_began: Option<Timestamp>,
    /// Those that were empty, by their paths: a folder that was moved has to be watched under its new one.
    empty: HashMap<String, EmptyFolder>,
    /// Those that the current scan has found to be empty.
    still_empty: HashMap<String, EmptyFolder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EmptyFolder {
    dev: u64,
    ino: u64,
    ctime_ns: i64,
}

impl EmptyFolder {
    const fn of(identity: &FileIdentity) -> Self {
        Self { dev: identity.dev, ino: identity.ino, ctime_ns: identity.ctime_ns }
    }
}

impl KnownFolders {
    /// From now on this watches the drop's folders.
    pub fn watch_by(&mut self, watcher: Option<Arc<Watcher>>) {
        let same = match (&self.watcher, &watcher) {
            (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.empty.clear();
            self.watcher = watcher;
        }
    }

    /// A scan of the whole drop begins at `now`. `trusting`: whether the file system is this machine's own, and reports
    /// changes.
    pub fn begin(&mut self, now: Timestamp, trusting: bool) {
        self.scan_began = trusting.then_some(now);
        self.still_empty.clear();
        // A folder may have been moved, and is not known under its path.
        let missed = self.watcher.as_ref().is_some_and(|watcher| watcher.take_missed());
        if missed || !trusting {
            self.empty.clear();
        }
    }

    /// A scan of the whole drop is over.
    pub fn end(&mut self) {
        self.empty = std::mem::take(&mut self.still_empty);
        self.scan_began = None;
    }

    /// Whether the folder `name` in `within` was empty and still is, so that it need not be read.
    pub(super) fn is_still_empty(&mut self, path: &str, within: BorrowedFd<'_>, name: &std::ffi::CStr) -> bool {
        if self.scan_began.is_none() {
            return false;
        }
        let Some((path, known)) = self.empty.remove_entry(path) else { return false };
        let Ok(stat) = rustix::fs::statat(within, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let is_still = EmptyFolder::of(&FileIdentity::of(&stat)) == known;
        if is_still {
            self.still_empty.insert(path, known);
        }
        is_still
    }

    /// A folder was read and found empty; `identity` is from before that.
    pub(super) fn was_empty(&mut self, path: String, identity: &FileIdentity) {
        let changed = Timestamp(identity.ctime_ns.div_euclid(1_000_000));
        if self.scan_began.is_some_and(|began| began >= changed.after(TIME_STEP)) {
            self.still_empty.insert(path, EmptyFolder::of(identity));
        }
    }

    /// How many folders the last scan of the whole drop found to be empty.
    #[cfg(test)]
    pub(super) fn empty_folders(&self) -> usize {
        self.empty.len()
    }

    /// Whether a folder is watched under this path, or nothing is watched.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.watcher.as_ref().is_none_or(|watcher| watcher.knows(path))
    }

    /// A folder will be read.
    pub(super) fn enter(&self, folder: &impl AsFd, path: &str) {
        if let Some(watcher) = &self.watcher {
            watcher.watch(folder.as_fd(), path);
        }
    }

    /// There is no folder to be read under this path any more.
    pub(super) fn forget(&self, path: &str) {
        if let Some(watcher) = &self.watcher {
            watcher.forget(path);
        }
    }
}
