//! Which waiting manifests of a drop name which files, and what the scans saw of those.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::MOST;
use crate::{
    claims::{Contender, FileArrival, NameClaim, Ownership, whose},
    clock::Timestamp,
    file_identity::FileIdentity,
};

/// When a manifest was first seen, by which those that name the same file take turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirstSeen {
    /// When a scan first found it.
    pub at: Timestamp,
    /// When it was written, by its sender.
    pub mtime_ns: i64,
    /// The scan that found it; 0 for one that an earlier process saw.
    pub scan: u64,
    /// When it was put there, by the file system (ctime).
    pub put_ns: i64,
}

/// What was seen under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSight {
    /// A hash of what distinguishes it from another file, or from another content; never 0.
    identity: u64,
    /// When it last changed, also in other ways.
    ctime_ns: i64,
    /// Whether somebody has it open for writing.
    pub open: bool,
    /// Whether it has not changed for the settle time.
    pub quiet: bool,
}

impl FileSight {
    /// `numbers_last`: whether the file system keeps a file's number.
    pub(crate) fn of(identity: &FileIdentity, numbers_last: bool) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let number = if numbers_last { identity.ino } else { 0 };
        for part in [number, identity.bytes, identity.mtime_ns.cast_unsigned()] {
            hash.update(&part.to_le_bytes());
        }
        Self { identity: hash.digest().max(1), ctime_ns: identity.ctime_ns, open: false, quiet: false }
    }
}

/// What an earlier process knew of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing, or that it was not there.
    Absent,
    /// It was there when that process last looked.
    There {
        /// When that was; `None` where the file system has a clock of its own, or nobody knew whose it was.
        looked_ns: Option<i64>,
    },
    /// It had replaced another one by then, while manifests for several profiles waited.
    Replaced {
        /// As in [`Before::There`].
        looked_ns: Option<i64>,
    },
}

#[derive(Debug, Default)]
pub(super) struct DropNames {
    numbers: HashMap<String, u32>,
    manifests: HashMap<u32, NamedManifest>,
    /// Those that name too many files to note them. They are asked for with each file, however many manifests there are.
    large: BTreeSet<u32>,
    paths: HashMap<i64, NamedPath>,
    /// Those that several manifests name: few, and asked for with each event.
    shared: BTreeSet<i64>,
    last: u32,
}

#[derive(Debug)]
struct NamedManifest {
    name: String,
    seen: FirstSeen,
    /// The files that it names, or nothing where they are too many.
    keys: Option<Vec<i64>>,
    /// How often its names were read; what an earlier reading said does not count.
    reading: u32,
}

impl NamedManifest {
    fn order(&self) -> (FirstSeen, &str) {
        (self.seen, &self.name)
    }
}

#[derive(Debug)]
struct NamedPath {
    sight: u64,
    ctime_ns: i64,
    /// The scan that saw another file in its place; 0 for none.
    replaced: u64,
    /// A file was there, since a manifest waits or since the name was last taken.
    had: bool,
    /// It was open for writing.
    open: bool,
    unwatched: bool,
    seen_once: bool,
    /// It was moved to and fro, which changes its change time.
    put_back: bool,
    taken: Option<Box<TakenName>>,
    /// It was replaced while this manifest and another one waited for it, and this one is gone.
    disputed: Option<Box<str>>,
    users: Users,
}

/// A file that a manifest took, as long as it is still there.
#[derive(Debug)]
struct TakenName {
    by: String,
    claim: NameClaim,
}

#[derive(Debug)]
enum Users {
    One(User),
    /// With the path, for messages.
    Several(Box<(String, Vec<User>)>),
}

#[derive(Debug, Clone, Copy)]
struct User {
    manifest: u32,
    reading: u32,
    claim: Option<NameClaim>,
    /// What it asks for exists, so that it needs no file.
    idle: bool,
}

impl Users {
    fn all(&self) -> &[User] {
        match self {
            Self::One(user) => std::slice::from_ref(user),
            Self::Several(several) => &several.1,
        }
    }

    /// The path, where there is, or was, more than one user.
    fn path(&self) -> &str {
        match self {
            Self::One(_) => "",
            Self::Several(several) => &several.0,
        }
    }

    fn of(&mut self, manifest: u32) -> Option<&mut User> {
        let users = match self {
            Self::One(user) => std::slice::from_mut(user),
            Self::Several(several) => several.1.as_mut_slice(),
        };
        users.iter_mut().find(|user| user.manifest == manifest)
    }

    fn add(&mut self, user: User, path: &str) {
        match self {
            Self::One(first) => *self = Self::Several(Box::new((path.to_owned(), vec![*first, user]))),
            Self::Several(several) => several.1.push(user),
        }
    }
}

/// Another manifest's claim comes before that of one that names a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// The file, relative to the drop.
    pub path: String,
    /// The other manifest.
    pub by: String,
    /// Why that one comes first.
    pub why: InUseReason,
}

/// Why another manifest's claim to a file comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUseReason {
    /// It was seen first.
    Earlier,
    /// The file was replaced, and it is not known for whom.
    Replaced,
    /// It may have been replaced.
    Unclear,
    /// It took the file.
    Taken,
    /// It names too many files to know whether this is one of them.
    Large,
}

impl DropNames {
    /// A manifest's number, where it is known.
    pub(super) fn number(&self, manifest: &str) -> Option<u32> {
        self.numbers.get(manifest).copied()
    }

    pub(super) fn begin(&mut self, manifest: &str, seen: FirstSeen) -> u32 {
        let number = match self.number(manifest) {
            Some(number) => number,
            None => {
                self.last = self.last.wrapping_add(1);
                self.numbers.insert(manifest.to_owned(), self.last);
                self.last
            }
        };
        let named = self.manifests.entry(number).or_insert_with(|| NamedManifest {
            name: manifest.to_owned(),
            seen,
            keys: Some(Vec::new()),
            reading: 0,
        });
        named.seen = seen;
        named.reading = named.reading.wrapping_add(1);
        number
    }

    /// Notes that a manifest names a file; returns whether another one does too.
    pub(super) fn name(&mut self, number: u32, key: i64, path: &str) -> bool {
        let Some(manifest) = self.manifests.get_mut(&number) else { return false };
        let Some(keys) = &mut manifest.keys else { return self.paths.contains_key(&key) };
        let user = User { manifest: number, reading: manifest.reading, claim: None, idle: false };
        let users = match self.paths.get_mut(&key) {
            None => {
                if keys.len() >= MOST {
                    let keys = std::mem::take(keys);
                    manifest.keys = None;
                    self.large.insert(number);
                    keys.into_iter().for_each(|key| self.leave(number, key));
                    return false;
                }
                keys.push(key);
                self.paths.insert(key, NamedPath::new(user));
                return false;
            }
            Some(path_named) => &mut path_named.users,
        };
        match users.of(number) {
            Some(known) if known.reading == user.reading => known.idle = false,
            Some(known) => *known = user,
            None => {
                keys.push(key);
                users.add(user, path);
                self.shared.insert(key);
            }
        }
        users.all().len() > 1
    }

    /// Notes that an entry of the manifest wants the file.
    pub(super) fn claim(&mut self, number: u32, key: i64, claim: NameClaim) {
        let user = self.paths.get_mut(&key).and_then(|path| path.users.of(number));
        if let Some(user) = user {
            user.claim = Some(user.claim.map_or(claim, |known| known.and(claim)));
        }
    }

    /// Notes that an entry of the manifest does not need the file.
    pub(super) fn idle(&mut self, number: u32, key: i64) {
        if let Some(user) = self.paths.get_mut(&key).and_then(|path| path.users.of(number)) {
            user.idle = true;
        }
    }

    /// Notes what is there.
    pub(super) fn saw(&mut self, key: i64, sight: Option<FileSight>, before: Before, scan: u64) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        path.saw(sight, scan);
        let Some(sight) = sight else { return };
        match before {
            Before::There { looked_ns: Some(looked) } if sight.ctime_ns <= looked => path.unwatched = false,
            // It came, or came again, while nobody looked.
            Before::There { looked_ns: Some(_) } | Before::Replaced { .. } if path.replaced == 0 => {
                (path.replaced, path.unwatched) = (scan, false);
            }
            Before::Absent | Before::There { .. } | Before::Replaced { .. } => {}
        }
        if let Before::Replaced { looked_ns } = before
            && looked_ns.is_none_or(|looked| sight.ctime_ns <= looked)
        {
            path.disputed.get_or_insert_with(|| "one that is gone".into());
        }
    }

    /// Notes what is there while nobody reads a manifest.
    pub(super) fn looked(&mut self, key: i64, sight: FileSight, scan: u64) {
        if let Some(path) = self.paths.get_mut(&key) {
            path.saw(Some(sight), scan);
        }
    }

    /// The files, relative to the drop, that manifests for several profiles want.
    pub(super) fn contested(&self) -> Vec<(i64, String)> {
        let shared = self.shared.iter().filter_map(|key| Some((key, self.paths.get(key)?)));
        let contested = shared.filter(|(_, path)| {
            let claims = || path.users.all().iter().filter_map(|user| user.claim);
            let profile = claims().next().and_then(|claim| claim.profile);
            let one_profile = profile.is_some() && claims().all(|claim| claim.profile == profile);
            !(one_profile || claims().all(|claim| claim.declared))
        });
        contested.map(|(key, path)| (*key, path.users.path().to_owned())).collect()
    }

    /// Forgets a manifest. `taken`: with the files that were its own, so that the next under their names are others'.
    pub(super) fn forget(&mut self, manifest: &str, taken: bool) {
        let Some(number) = self.numbers.remove(manifest) else { return };
        let keys = self.manifests.get(&number).and_then(|named| named.keys.clone()).unwrap_or_default();
        for key in keys {
            let own = taken && self.ownership(number, key, None).is_none();
            let leaves_doubt = !own && self.leaves_doubt(number, key);
            if let Some(path) = self.paths.get_mut(&key).filter(|_| leaves_doubt) {
                path.disputed = Some(manifest.into());
            }
            if let Some(path) = self.paths.get_mut(&key).filter(|path| own && path.sight != 0) {
                (path.had, path.replaced, path.unwatched, path.open) = (false, 0, false, false);
                let claim = path.users.of(number).and_then(|user| user.claim);
                path.taken = claim.map(|claim| Box::new(TakenName { by: manifest.to_owned(), claim }));
            }
            self.leave(number, key);
        }
        self.manifests.remove(&number);
        self.large.remove(&number);
    }

    /// Whether a file was, or may have been, replaced while this manifest and another one waited for it, which still does:
    /// who goes away does not make it the other's. One that had waited for too long once left its customer's picture to the other.
    fn leaves_doubt(&self, number: u32, key: i64) -> bool {
        let (Some(path), Some(manifest)) = (self.paths.get(&key), self.manifests.get(&number)) else { return false };
        let users = path.users.all();
        let Some(mine) = users.iter().find(|user| user.manifest == number).and_then(|user| user.claim) else {
            return false;
        };
        let waited = |manifest: &NamedManifest| !path.is_before(manifest);
        let mut others = users.iter().filter(|user| user.claim.is_some_and(|claim| mine.excludes(&claim)));
        path.arrival() != FileArrival::First
            && waited(manifest)
            && others.any(|user| self.manifests.get(&user.manifest).is_some_and(waited))
    }

    /// Notes that the files of a manifest were moved to and fro.
    pub(super) fn put_back(&mut self, manifest: &str) {
        let keys = self.number(manifest).and_then(|number| self.manifests.get(&number)?.keys.clone());
        for key in keys.unwrap_or_default() {
            if let Some(path) = self.paths.get_mut(&key) {
                path.put_back = true;
            }
        }
    }

    fn leave(&mut self, number: u32, key: i64) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        match &mut path.users {
            Users::One(user) => {
                if user.manifest == number {
                    self.paths.remove(&key);
                }
            }
            Users::Several(several) => {
                several.1.retain(|user| user.manifest != number);
                // With its path, if it was taken by the other: messages name it.
                if let [user] = *several.1
                    && path.taken.is_none()
                    && path.disputed.is_none()
                {
                    path.users = Users::One(user);
                }
                let left = path.users.all().len();
                if left < 2 {
                    self.shared.remove(&key);
                }
                if left == 0 {
                    self.paths.remove(&key);
                }
            }
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.numbers.keys().filter(|manifest| !keep(manifest)).cloned().collect();
        gone.iter().for_each(|manifest| self.forget(manifest, false));
    }

    /// A manifest that names too many files to note them.
    pub(super) fn large(&self) -> Option<&str> {
        self.large.first().and_then(|number| self.manifests.get(number)).map(|manifest| manifest.name.as_str())
    }

    /// Every file that is named; `None` where not all are noted.
    pub(super) fn keys(&self) -> Option<HashSet<i64>> {
        self.large().is_none().then(|| self.paths.keys().copied().collect())
    }

    /// Whether a file is to stay where it is: it serves a manifest that waits, or one that is being read.
    pub(super) fn is_named(&self, key: i64) -> bool {
        let users = self.paths.get(&key).map(|path| path.users.all()).unwrap_or_default();
        users.iter().any(|user| match user.claim {
            Some(_) => self.ownership(user.manifest, key, None).is_none(),
            None => !user.idle,
        })
    }

    /// The files of a manifest that are there and are not its own, up to `most`, and how many they are.
    pub(super) fn in_use(&self, manifest: &str, most: usize) -> (Vec<InUse>, u64) {
        let Some(number) = self.number(manifest) else { return (Vec::new(), 0) };
        let keys = self.manifests.get(&number).and_then(|named| named.keys.as_ref()).into_iter().flatten();
        let (mut first, mut count) = (Vec::new(), 0);
        for key in keys {
            if self.paths.get(key).is_none_or(|path| path.sight == 0) {
                continue;
            }
            if let Some(in_use) = self.ownership(number, *key, None) {
                count += 1;
                if first.len() < most {
                    first.push(in_use);
                }
            }
        }
        (first, count)
    }

    /// Whether another manifest wants this file.
    pub(super) fn is_contested(&self, manifest: &str, key: i64) -> bool {
        let mine = self.number(manifest);
        let wants = |user: &User| Some(user.manifest) != mine && user.claim.is_some();
        self.paths.get(&key).is_some_and(|path| path.users.all().iter().any(wants))
    }

    /// Whether the file of a manifest also serves another one that waits.
    pub(super) fn is_shared(&self, manifest: &str, key: i64) -> bool {
        // What a very large one names is not known.
        let (mut large, mut is_large) = (false, false);
        for named in self.large.iter().filter_map(|number| self.manifests.get(number)) {
            is_large |= named.name == manifest;
            large |= named.name != manifest;
        }
        if large || is_large {
            return large || self.is_contested(manifest, key);
        }
        let Some(path) = self.paths.get(&key) else { return false };
        let mine = self.number(manifest);
        let users = path.users.all();
        let claim = users.iter().find(|user| Some(user.manifest) == mine).and_then(|user| user.claim);
        // What cannot serve both does not serve the other once it is taken.
        let fits = |other: &NameClaim| claim.is_none_or(|claim| !claim.excludes(other));
        let mut others =
            users.iter().filter(|user| Some(user.manifest) != mine && user.claim.as_ref().is_some_and(fits));
        others.any(|user| self.ownership(user.manifest, key, None).is_none())
    }

    /// Whose claim to the file that is there comes before a manifest's; nobody's where it is its own. `asked` replaces the
    /// claim that is noted.
    pub(super) fn ownership(&self, number: u32, key: i64, asked: Option<NameClaim>) -> Option<InUse> {
        let manifest = self.manifests.get(&number)?;
        let path = self.paths.get(&key);
        let users = path.map(|path| path.users.all()).unwrap_or_default();
        let noted = users.iter().find(|user| user.manifest == number).and_then(|user| user.claim);
        let mine = asked.or(noted)?;
        let taken = path.and_then(|path| path.taken.as_ref().map(|taken| (path, taken)));
        if let Some((path, taken)) = taken.filter(|(_, taken)| mine.excludes(&taken.claim)) {
            let (path, by) = (path.users.path().to_owned(), taken.by.clone());
            return Some(InUse { path, by, why: InUseReason::Taken });
        }
        if mine.declared {
            return None;
        }
        let own_order = manifest.order();
        let rivals: Vec<(&NamedManifest, NameClaim)> = users
            .iter()
            .filter(|user| user.manifest != number && user.claim.is_some_and(|claim| mine.excludes(&claim)))
            .filter_map(|user| Some((self.manifests.get(&user.manifest)?, user.claim?)))
            .collect();
        if let Some(path) = path {
            let after_file = |manifest: &NamedManifest| path.is_before(manifest);
            if let Some(by) = path.disputed.as_deref().filter(|_| rivals.is_empty() && !after_file(manifest)) {
                let (path, by) = (path.users.path().to_owned(), by.to_owned());
                return Some(InUse { path, by, why: InUseReason::Replaced });
            }
            let others: Vec<Contender> = rivals
                .iter()
                .map(|(other, claim)| Contender {
                    claim: *claim,
                    earlier: other.order() < own_order,
                    after_file: after_file(other),
                })
                .collect();
            let (at, why) = match whose(mine, after_file(manifest), &others, path.arrival()) {
                Ownership::Mine => (None, InUseReason::Earlier),
                Ownership::Earlier(at) => (Some(at), InUseReason::Earlier),
                Ownership::Unclear(at) if path.replaced > 0 => (Some(at), InUseReason::Replaced),
                Ownership::Unclear(at) => (Some(at), InUseReason::Unclear),
            };
            if let Some((other, _)) = at.and_then(|at| rivals.get(at)) {
                return Some(InUse { path: path.users.path().to_owned(), by: other.name.clone(), why });
            }
        }
        let others = self.large.iter().filter(|other| **other != number);
        let large = others
            .filter_map(|other| self.manifests.get(other))
            .find(|large| large.order() < own_order || path.is_some_and(|path| path.replaced > 0))?;
        Some(InUse { path: String::new(), by: large.name.clone(), why: InUseReason::Large })
    }

    /// Whether the file is still in the state in which it was last seen; unknown names are.
    pub(super) fn is_as_seen(&self, key: i64, sight: FileSight) -> bool {
        self.paths.get(&key).is_none_or(|path| path.sight == sight.identity && path.ctime_ns == sight.ctime_ns)
    }
}

impl NamedPath {
    const fn new(user: User) -> Self {
        Self {
            sight: 0,
            ctime_ns: 0,
            replaced: 0,
            had: false,
            open: false,
            unwatched: false,
            seen_once: false,
            put_back: false,
            taken: None,
            disputed: None,
            users: Users::One(user),
        }
    }

    /// Whether a manifest came, and was seen, after the file had been put there.
    fn is_before(&self, manifest: &NamedManifest) -> bool {
        manifest.seen.put_ns >= self.ctime_ns && (self.replaced == 0 || manifest.seen.scan >= self.replaced)
    }

    const fn arrival(&self) -> FileArrival {
        match (self.replaced > 0, self.unwatched) {
            (true, _) => FileArrival::Replaced,
            (false, true) => FileArrival::Unwatched,
            (false, false) => FileArrival::First,
        }
    }

    fn saw(&mut self, sight: Option<FileSight>, scan: u64) {
        let seen_once = std::mem::replace(&mut self.seen_once, true);
        let Some(sight) = sight else {
            (self.sight, self.taken, self.disputed) = (0, None, None);
            return;
        };
        let same_file = sight.identity == self.sight;
        if !same_file {
            self.taken = None;
        }
        // A file that was taken, and stays for others, is the same one whatever is done to it.
        let ours = same_file && (std::mem::take(&mut self.put_back) || self.taken.is_some());
        let same = ours || same_file && sight.ctime_ns == self.ctime_ns;
        if !same {
            self.disputed = None;
        }
        if !seen_once {
            self.unwatched = true;
        } else if same {
            // It came to rest while nobody else named it. Whoever is being read has named it, and claims it later.
            let alone = self.users.all().len() < 2;
            self.unwatched &= !(sight.quiet && alone);
        } else if self.had && !self.open {
            (self.replaced, self.unwatched) = (scan, false);
        }
        self.had |= !same || !seen_once;
        self.sight = sight.identity;
        self.ctime_ns = sight.ctime_ns;
        self.open = sight.open;
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
