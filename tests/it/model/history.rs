//! Whose a file is, as far as its senders can know: what they put where and when, and when manifests lay there.
//!
//! This is the reference model of the rules for one name and several profiles. It knows nothing of the worker but what a
//! sender sees of it, so that it judges only by what is certain: where the worker's choice depends on a moment that no
//! sender knows, every choice that the rules allow is right.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::{Asked, Manifest, Scan};

/// A moment of the day; each has happened before the next.
type Moment = u64;

/// A file that was put somewhere once.
#[derive(Debug)]
struct Put {
    path: String,
    sha256: String,
    at: Moment,
    /// When another one was in its place, or it had been deleted, for certain.
    gone: Option<Moment>,
    /// When the worker had seen it, for certain.
    seen: Option<Moment>,
    /// Whether the sender destroyed it: then it is nowhere.
    destroyed: bool,
    /// The one that was destroyed by this.
    over: Option<usize>,
    /// The manifests that lay there both before and after this.
    beside: Vec<usize>,
}

/// How long a manifest lay in the drop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stay {
    put: Moment,
    /// When it had been taken or withdrawn, for certain.
    gone: Option<Moment>,
    /// When the worker had seen it, for certain.
    seen: Option<Moment>,
}

impl Stay {
    pub(super) const fn is_over(&self) -> bool {
        self.gone.is_some()
    }

    const fn overlaps(&self, other: &Self) -> bool {
        starts_before_end(self.put, other.gone) && starts_before_end(other.put, self.gone)
    }
}

const fn starts_before_end(start: Moment, end: Option<Moment>) -> bool {
    match end {
        Some(end) => start < end,
        None => true,
    }
}

/// What happened to files and manifests, in order.
#[derive(Debug)]
pub(super) struct History {
    now: Moment,
    puts: Vec<Put>,
    /// By the manifest's index.
    pub(super) stays: Vec<Stay>,
    /// Whether manifests were taken without the files that they still waited for.
    pub(super) impatient: bool,
}

/// What the senders did.
impl History {
    pub(super) const fn new() -> Self {
        Self { now: 0, puts: Vec::new(), stays: Vec::new(), impatient: false }
    }

    /// The moment before something is done.
    pub(super) const fn moment(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    /// A manifest is about to be put; it gets the next index.
    pub(super) fn manifest_is_put(&mut self) {
        let put = self.moment();
        self.stays.push(Stay { put, gone: None, seen: None });
    }

    /// A manifest is seen to be gone, taken or withdrawn.
    pub(super) fn manifest_is_gone(&mut self, manifest: usize) {
        let now = self.moment();
        self.stays[manifest].gone.get_or_insert(now);
    }

    /// A file was put, in the place of the one with the digest `over`; the sender began at the moment `at`.
    pub(super) fn put(&mut self, path: &str, sha256: String, over: Option<&str>, at: Moment) {
        let over = self.deleted(path, over);
        self.puts.push(Put {
            path: path.to_owned(),
            sha256,
            at,
            gone: None,
            seen: None,
            destroyed: false,
            over,
            beside: Vec::new(),
        });
    }

    /// These manifests still lie there after the last put.
    pub(super) fn lie_beside(&mut self, manifests: Vec<usize>) {
        if let Some(last) = self.puts.last_mut() {
            last.beside = manifests;
        }
    }

    /// Nothing is at this path any longer; what the sender destroyed there has this digest.
    pub(super) fn deleted(&mut self, path: &str, destroyed: Option<&str>) -> Option<usize> {
        let now = self.moment();
        for put in self.puts.iter_mut().filter(|put| put.path == path) {
            put.gone.get_or_insert(now);
        }
        let destroyed = destroyed?;
        let which = self.puts.iter().rposition(|put| put.path == path && put.sha256 == destroyed && !put.destroyed);
        let which = which.unwrap_or_else(|| panic!("nobody has put what lay at {path}"));
        self.puts[which].destroyed = true;
        Some(which)
    }

    /// The worker has seen all that lies there, except at these paths.
    pub(super) fn all_is_seen(&mut self, unseen: &BTreeSet<String>) {
        let now = self.moment();
        for put in self.puts.iter_mut().filter(|put| put.gone.is_none() && !unseen.contains(&put.path)) {
            put.seen.get_or_insert(now);
        }
        for stay in self.stays.iter_mut().filter(|stay| stay.gone.is_none()) {
            stay.seen.get_or_insert(now);
        }
    }
}

/// Whether an entry may ask for what was created before, which needs no file: only a reference of its own rules that out.
fn is_repeated(manifests: &[Manifest], of: usize, entry: &Asked) -> bool {
    let others = manifests.iter().enumerate().filter(|(at, _)| *at != of);
    let mut others = others.flat_map(|(_, other)| &other.entries);
    entry.reference.is_none() || others.any(|other| other.reference == entry.reference)
}

/// The path, in the drop, of each scan of a manifest's entries.
pub(super) fn named(manifest: &Manifest) -> impl Iterator<Item = (String, &Asked, &Scan)> {
    let scans = manifest.entries.iter().flat_map(|entry| entry.scans.iter().map(move |scan| (entry, scan)));
    scans.map(|(entry, scan)| (manifest.file(&scan.path), entry, scan))
}

/// What is certain of them.
impl History {
    /// Whether this content lay at the path at a moment at which the manifest may have been there too, not yet taken.
    fn lay_beside(&self, manifest: usize, path: &str, sha256: &str) -> Vec<&Put> {
        let stay = &self.stays[manifest];
        let lay = |put: &&Put| starts_before_end(put.at, stay.gone) && starts_before_end(stay.put, put.gone);
        self.puts.iter().filter(|put| put.path == path && put.sha256 == sha256).filter(lay).collect()
    }

    /// Whether another manifest that may have been there at the same time names one of its paths for another profile.
    pub(super) fn is_contended(&self, manifests: &[Manifest], which: usize) -> bool {
        named(&manifests[which]).any(|(path, entry, _)| {
            self.contenders(manifests, which, &path, entry.profile)
                .any(|other| self.stays[which].overlaps(&self.stays[other]))
        })
    }

    /// The other manifests that name this path for another profile.
    fn contenders<'a>(
        &self,
        manifests: &'a [Manifest],
        which: usize,
        path: &'a str,
        profile: u32,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let names =
            move |at: &usize| named(&manifests[*at]).any(|(named, entry, _)| named == path && entry.profile != profile);
        (0..manifests.len()).filter(move |at| *at != which).filter(names)
    }

    /// Whether something else was put, or something deleted, where one of its files had been, while it may have been there.
    pub(super) fn is_disturbed(&self, manifests: &[Manifest], which: usize) -> bool {
        let stay = &self.stays[which];
        named(&manifests[which]).any(|(path, ..)| {
            let lay = self.puts.iter().filter(|put| put.path == path);
            let mut lay = lay.filter(|put| starts_before_end(stay.put, put.gone));
            let is_followed_by_its_equal = |put: &Put, gone: Moment| {
                let next = self.puts.iter().find(|next| next.path == path && next.at > put.at);
                next.is_some_and(|next| next.at <= gone && next.sha256 == put.sha256)
            };
            lay.any(|put| {
                let gone = put.gone.filter(|gone| starts_before_end(*gone, stay.gone));
                gone.is_some_and(|gone| !is_followed_by_its_equal(put, gone))
            })
        })
    }

    /// Why it is wrong that this content was sent for a manifest's entry from this path.
    pub(super) fn objection(
        &self,
        manifests: &[Manifest],
        which: usize,
        entry: &Asked,
        scan: &Scan,
        sha256: &str,
    ) -> Option<String> {
        let path = manifests[which].file(&scan.path);
        if scan.declares && scan.sha256() != sha256 {
            return Some(format!("another digest is declared for {path}"));
        }
        let lay = self.lay_beside(which, &path, sha256);
        if lay.is_empty() {
            let story = self.story(which, &path);
            return Some(format!("it never lay at {path} while the manifest did: {story}"));
        }
        if scan.declares {
            return None;
        }
        let contenders = || self.contenders(manifests, which, &path, entry.profile);
        let waits = |other: &usize| {
            let mut entries = named(&manifests[*other]).filter(|(named, ..)| *named == path);
            entries.any(|(_, entry, _)| entry.reference.is_none() || !is_repeated(manifests, *other, entry))
        };
        if lay.iter().all(|put| contenders().filter(waits).any(|other| self.is_a_replacement_beside(put, which, other)))
        {
            return Some(format!("it replaced another one at {path} while two manifests waited for that: {lay:?}"));
        }
        let first = contenders().find(|other| !self.impatient && self.is_seen_before(manifests, *other, which, &path));
        first.map(|first| format!("{path} serves the manifest that was seen first, {}", manifests[first].path))
    }

    /// Whether both manifests had been seen beside the file that this one replaced, and were still there after that.
    fn is_a_replacement_beside(&self, put: &Put, which: usize, other: usize) -> bool {
        let before = |seen: Option<Moment>| seen.is_some_and(|seen| seen < put.at);
        let waits = |at: usize| before(self.stays[at].seen) && put.beside.contains(&at);
        put.over.is_some_and(|over| before(self.puts[over].seen)) && waits(which) && waits(other)
    }

    /// Whether the first manifest had been seen before the second came, needed a file there, and only one ever lay there
    /// since.
    fn is_seen_before(&self, manifests: &[Manifest], first: usize, second: usize, path: &str) -> bool {
        let manifest = &manifests[first];
        let mut entries = named(manifest).filter(|(named, ..)| named == path);
        let takes = entries.all(|(_, entry, scan)| !scan.declares && !is_repeated(manifests, first, entry));
        let (one, two) = (&self.stays[first], &self.stays[second]);
        let lay = self.puts.iter().filter(|put| put.path == path).filter(|put| starts_before_end(one.put, put.gone));
        let is_first = one.seen.is_some_and(|seen| seen < two.put);
        is_first && takes && !manifest.superseded && !manifest.is_flawed() && lay.count() == 1
    }
}

/// Where everything must be in the end, and what happened.
impl History {
    /// For each content: how many of what was put was not destroyed by its sender, and the paths that it was put to.
    pub(super) fn remaining(&self) -> BTreeMap<&str, (usize, Vec<&str>)> {
        let mut remaining: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
        for put in &self.puts {
            let (count, paths) = remaining.entry(&put.sha256).or_default();
            *count += usize::from(!put.destroyed);
            paths.push(&put.path);
        }
        remaining
    }

    /// What happened to a manifest and at a path.
    pub(super) fn story(&self, manifest: usize, path: &str) -> String {
        let puts: Vec<&Put> = self.puts.iter().filter(|put| put.path == path).collect();
        format!("{:?}, {puts:?}", self.stays[manifest])
    }

    /// How often a file was put under a name that another one had had before.
    pub(super) fn reuses(&self) -> usize {
        let paths: BTreeSet<&str> = self.puts.iter().map(|put| put.path.as_str()).collect();
        self.puts.len() - paths.len()
    }

    /// How many files were ever put at this path.
    pub(super) fn puts_at(&self, path: &str) -> usize {
        self.puts.iter().filter(|put| put.path == path).count()
    }

    /// How many files of this content were ever put.
    pub(super) fn puts_of(&self, sha256: &str) -> usize {
        self.puts.iter().filter(|put| put.sha256 == sha256).count()
    }
}
