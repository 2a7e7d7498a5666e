//! Files that are named by manifests which are in a drop and not yet in the queue, and whose they are.
//!
//! A file that two manifests name must not be archived with the first while the second is still being examined. Files
//! of manifests in the queue are found by their rows; those of the others are noted here, in memory, before they are
//! looked for. The archiving of a manifest announces which files it is about to move, and an examination that names one
//! of them waits until that is over. So each file is either known to be named, and stays, or is gone before it is
//! looked for.
//!
//! Nothing is known of a drop before its first scan, so nothing of it is archived before that.

mod names;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use names::DropNames;
pub use names::{Before, FileSight, FirstSeen, InUse, InUseReason};

use crate::claims::NameClaim;

/// At most this many files of one manifest are noted, some 70 bytes each; a larger one is only known to be there.
const MOST: usize = 7 << 16;

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
    drops: HashMap<String, DropNames>,
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
    /// An import has not read all of its manifests.
    Importing,
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
        if let Some(names) = state.drops.get_mut(drop) {
            names.retain(waits);
        }
    }

    /// Begins to read a manifest's names; what an earlier reading of it noted is replaced.
    pub(crate) fn read<'a>(&'a self, drop: &'a str, manifest: &str, seen: FirstSeen) -> NameReading<'a> {
        let mut state = self.state();
        let number = state.drops.entry(drop.to_owned()).or_default().begin(manifest, seen);
        NameReading { awaited: self, drop, number }
    }

    /// Forgets a manifest that does not count any more.
    pub(crate) fn forget(&self, drop: &str, manifest: &str) {
        if let Some(names) = self.state().drops.get_mut(drop) {
            names.forget(manifest, false);
        }
    }

    /// Every file of a drop that manifests wait for; `None` where they are too many, or the drop was not scanned yet.
    pub(crate) fn keys(&self, drop: &str) -> Option<HashSet<i64>> {
        let state = self.state();
        if state.unknown.contains(drop) {
            return None;
        }
        state.drops.get(drop).map_or_else(|| Some(HashSet::new()), DropNames::keys)
    }

    /// Forgets a manifest that is in the queue now, with the files that were its own: what comes under their names is for
    /// others.
    pub(crate) fn taken(&self, drop: &str, manifest: &str) {
        if let Some(names) = self.state().drops.get_mut(drop) {
            names.forget(manifest, true);
        }
    }

    /// Notes that a manifest could not be taken, and its files were moved to and fro.
    pub(crate) fn put_back(&self, drop: &str, manifest: &str) {
        if let Some(names) = self.state().drops.get_mut(drop) {
            names.put_back(manifest);
        }
    }

    /// The files of a waiting manifest that are there and serve another one, up to `most`, and how many they are.
    pub(crate) fn in_use(&self, drop: &str, manifest: &str, most: usize) -> (Vec<InUse>, u64) {
        self.state().drops.get(drop).map(|names| names.in_use(manifest, most)).unwrap_or_default()
    }

    /// Whether a file that a manifest takes serves another one too that waits.
    pub(crate) fn is_shared(&self, drop: &str, manifest: &str, key: i64) -> bool {
        self.state().drops.get(drop).is_some_and(|names| names.is_shared(manifest, key))
    }

    /// Whose claim to a file comes before this one, of an entry of a waiting manifest.
    pub(crate) fn owner(&self, drop: &str, manifest: &str, key: i64, claim: NameClaim) -> Option<InUse> {
        let state = self.state();
        let names = state.drops.get(drop)?;
        names.ownership(names.number(manifest)?, key, Some(claim))
    }

    /// Whether a file is in the state in which it was last seen, as far as it is noted.
    pub(crate) fn is_as_seen(&self, drop: &str, key: i64, sight: FileSight) -> bool {
        self.state().drops.get(drop).is_none_or(|names| names.is_as_seen(key, sight))
    }

    /// Whether another waiting manifest wants this file.
    pub(crate) fn is_contested(&self, drop: &str, manifest: &str, key: i64) -> bool {
        self.state().drops.get(drop).is_some_and(|names| names.is_contested(manifest, key))
    }

    /// The files of a drop, relative to it, that waiting manifests for several profiles want.
    pub(crate) fn contested(&self, drop: &str) -> Vec<(i64, String)> {
        self.state().drops.get(drop).map(DropNames::contested).unwrap_or_default()
    }

    /// Notes what a scan saw under a name while it read none of the manifests that want it.
    pub(crate) fn saw(&self, drop: &str, key: i64, sight: FileSight, scan: u64) {
        if let Some(names) = self.state().drops.get_mut(drop) {
            names.looked(key, sight, scan);
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
        if let Some(names) = state.drops.get(drop) {
            if let Some(manifest) = names.large() {
                return Err(NotNow::Large(manifest.to_owned()));
            }
            named.extend(keys.iter().filter(|key| names.is_named(**key)));
        }
        let keys: Vec<i64> = keys.iter().copied().filter(|key| !named.contains(key)).collect();
        state.moving.extend(&keys);
        Ok(Moving { awaited: Arc::clone(self), keys, named })
    }
}

/// The reading of one manifest's names.
pub struct NameReading<'a> {
    awaited: &'a Awaited,
    drop: &'a str,
    number: u32,
}

impl NameReading<'_> {
    fn with<T: Default>(&self, change: impl FnOnce(&mut DropNames) -> T) -> T {
        self.awaited.state().drops.get_mut(self.drop).map(change).unwrap_or_default()
    }

    /// Notes that the manifest names a file, before that is looked for; waits where it is being moved at this moment.
    /// Returns whether another manifest names it too.
    pub(crate) fn name(&self, key: i64, path: &str) -> bool {
        let mut state = self.awaited.state();
        while state.moving.contains(&key) {
            state = self.awaited.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.drops.get_mut(self.drop).is_some_and(|names| names.name(self.number, key, path))
    }

    /// Notes that an entry of the manifest wants the file.
    pub(crate) fn claim(&self, key: i64, claim: NameClaim) {
        self.with(|names| names.claim(self.number, key, claim));
    }

    /// Notes that an entry of the manifest does not need the file.
    pub(crate) fn idle(&self, key: i64) {
        self.with(|names| names.idle(self.number, key));
    }

    /// Notes what a scan saw under the name.
    pub(crate) fn saw(&self, key: i64, sight: Option<FileSight>, before: Before, scan: u64) {
        self.with(|names| names.saw(key, sight, before, scan));
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

    fn name(awaited: &Awaited, manifest: &str, key: i64) {
        awaited.read("a", manifest, FirstSeen::default()).name(key, "a.png");
    }

    #[test]
    fn a_file_that_a_waiting_manifest_names_stays() {
        let awaited = Arc::new(Awaited::default());
        name(&awaited, "m.json", 1);
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
        assert_eq!(awaited.keys("a"), None);
        name(&awaited, "m.json", 1);
        awaited.looked("a", |manifest| manifest == "m.json");
        assert!(awaited.about_to_move("a", &[1]).unwrap().is_named(1));
        assert_eq!(awaited.keys("a"), Some(HashSet::from([1])));
        awaited.looked("a", |_| false);
        assert!(!awaited.about_to_move("a", &[1]).unwrap().is_named(1));
    }

    #[test]
    fn naming_a_file_that_is_being_moved_waits_until_it_has_moved() {
        let awaited = Arc::new(Awaited::default());
        let moving = awaited.about_to_move("a", &[1]).unwrap();
        let (theirs, (say, heard)) = (Arc::clone(&awaited), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            name(&theirs, "other.json", 2);
            say.send("another").unwrap();
            name(&theirs, "m.json", 1);
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
        let reading = awaited.read("a", "m.csv", FirstSeen::default());
        (0..=i64::try_from(MOST).unwrap()).for_each(|key| assert!(!reading.name(key, "a.png")));
        assert_eq!(awaited.about_to_move("a", &[-1]).unwrap_err(), NotNow::Large("m.csv".into()));
        let later = FirstSeen { at: crate::clock::Timestamp(1), ..FirstSeen::default() };
        awaited.read("a", "n.csv", later).name(-1, "b.png");
        let owner = awaited.owner("a", "n.csv", -1, NameClaim::of("p", false));
        assert!(owner.is_some_and(|owner| owner.why == InUseReason::Large && owner.by == "m.csv"));
        assert_eq!(
            awaited.owner("a", "n.csv", -1, NameClaim::of("p", true)),
            None,
            "a declared file needs no such rule"
        );
        assert_eq!(awaited.owner("a", "m.csv", -1, NameClaim::of("p", false)), None);
    }
}
