//! Files that are named by manifests which are in a drop and not yet in the queue.
//!
//! A file that two manifests name must not be archived with the first while the second is still being examined. Files
//! of manifests in the queue are found by their rows; those of the others are noted here, in memory, before they are
//! looked for. The archiving of a manifest announces which files it is about to move, and an examination that names one
//! of them waits until that is over. So each file is either known to be named, and stays, or is gone before it is
//! looked for.
//!
//! Nothing is known of a drop before its first scan, so nothing of it is archived before that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// At most this many files of one manifest are noted, 16 bytes each; a larger one is only known to be there.
const MOST: usize = 1 << 20;

/// The files of all drops that manifests wait for.
#[derive(Debug, Default)]
pub struct Awaited {
    state: Mutex<AwaitedFiles>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct AwaitedFiles {
    /// Drops that have not been scanned yet.
    unknown: HashSet<String>,
    /// By drop and manifest: the keys of the files that it names, or nothing where they are too many.
    named: HashMap<String, HashMap<String, Option<HashSet<i64>>>>,
    /// What is about to be moved.
    moving: HashSet<i64>,
}

/// Why nothing of a drop can be archived now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotNow {
    /// It has not been scanned yet.
    Unknown,
    /// This manifest names too many files to note them one by one; it has to be admitted first.
    Large(String),
}

impl Awaited {
    fn state(&self) -> MutexGuard<'_, AwaitedFiles> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that a drop will be scanned.
    pub(crate) fn expect(&self, drop: &str) {
        self.state().unknown.insert(drop.to_owned());
    }

    /// Records that a drop was scanned; `waits` is true for the manifests that still wait there.
    pub(crate) fn looked(&self, drop: &str, waits: impl Fn(&str) -> bool) {
        let mut state = self.state();
        state.unknown.remove(drop);
        if let Some(named) = state.named.get_mut(drop) {
            named.retain(|manifest, _| waits(manifest));
        }
    }

    /// Notes that a manifest names a file. Waits where that file is being moved at this moment.
    pub(crate) fn name(&self, drop: &str, manifest: &str, key: i64) {
        let mut state = self.state();
        while state.moving.contains(&key) {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let manifests = match state.named.get_mut(drop) {
            Some(manifests) => manifests,
            None => state.named.entry(drop.to_owned()).or_default(),
        };
        let keys = match manifests.get_mut(manifest) {
            Some(keys) => keys,
            None => manifests.entry(manifest.to_owned()).or_insert_with(|| Some(HashSet::new())),
        };
        if let Some(known) = keys {
            known.insert(key);
            if known.len() > MOST {
                *keys = None;
            }
        }
    }

    /// Forgets a manifest that is in the queue now, or does not count any more.
    pub(crate) fn forget(&self, drop: &str, manifest: &str) {
        if let Some(manifests) = self.state().named.get_mut(drop) {
            manifests.remove(manifest);
        }
    }

    /// Announces that these files of a drop are about to be moved, except those that a manifest waits for.
    ///
    /// # Errors
    ///
    /// Where it is not known which files are waited for.
    pub(crate) fn about_to_move(self: &Arc<Self>, drop: &str, keys: &[i64]) -> Result<Moving, NotNow> {
        let mut state = self.state();
        if state.unknown.contains(drop) {
            return Err(NotNow::Unknown);
        }
        let mut named = HashSet::new();
        for (manifest, theirs) in state.named.get(drop).into_iter().flatten() {
            match theirs {
                None => return Err(NotNow::Large(manifest.clone())),
                Some(theirs) => named.extend(keys.iter().filter(|key| theirs.contains(key))),
            }
        }
        let keys: Vec<i64> = keys.iter().copied().filter(|key| !named.contains(key)).collect();
        state.moving.extend(&keys);
        Ok(Moving { awaited: Arc::clone(self), keys, named })
    }
}

/// Files that may be moved for as long as this guard lives.
#[derive(Debug)]
pub struct Moving {
    awaited: Arc<Awaited>,
    keys: Vec<i64>,
    named: HashSet<i64>,
}

impl Moving {
    /// Whether a manifest waits for this file, so that it stays.
    #[must_use]
    pub(crate) fn is_named(&self, key: i64) -> bool {
        self.named.contains(&key)
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let mut state = self.awaited.state();
        for key in &self.keys {
            state.moving.remove(key);
        }
        self.awaited.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_a_waiting_manifest_names_stays() {
        let awaited = Arc::new(Awaited::default());
        awaited.name("a", "m.json", 1);
        let moving = awaited.about_to_move("a", &[1, 2]).unwrap();
        assert!(moving.is_named(1) && !moving.is_named(2));
        drop(moving);
        assert!(awaited.about_to_move("b", &[1]).is_ok_and(|moving| !moving.is_named(1)));
        awaited.forget("a", "m.json");
        assert!(awaited.about_to_move("a", &[1]).is_ok_and(|moving| !moving.is_named(1)));
    }

    #[test]
    fn nothing_moves_before_the_first_look() {
        let awaited = Arc::new(Awaited::default());
        awaited.expect("a");
        assert_eq!(awaited.about_to_move("a", &[1]).unwrap_err(), NotNow::Unknown);
        awaited.name("a", "m.json", 1);
        awaited.looked("a", |manifest| manifest == "m.json");
        assert!(awaited.about_to_move("a", &[1]).unwrap().is_named(1));
        awaited.looked("a", |_| false);
        assert!(!awaited.about_to_move("a", &[1]).unwrap().is_named(1));
    }

    #[test]
    fn naming_a_file_that_is_being_moved_waits_until_it_has_moved() {
        let awaited = Arc::new(Awaited::default());
        let moving = awaited.about_to_move("a", &[1]).unwrap();
        let (theirs, (say, heard)) = (Arc::clone(&awaited), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            theirs.name("a", "other.json", 2);
            say.send("another").unwrap();
            theirs.name("a", "m.json", 1);
            say.send("this one").unwrap();
        });
        assert_eq!(heard.recv().unwrap(), "another");
        assert!(heard.try_recv().is_err());
        drop(moving);
        assert_eq!(heard.recv().unwrap(), "this one");
        thread.join().unwrap();
    }

    #[test]
    fn a_very_large_manifest_holds_up_what_might_be_its_own() {
        let awaited = Arc::new(Awaited::default());
        (0..=i64::try_from(MOST).unwrap()).for_each(|key| awaited.name("a", "m.csv", key));
        assert_eq!(awaited.about_to_move("a", &[-1]).unwrap_err(), NotNow::Large("m.csv".into()));
    }
}
