//! The manifests that a scanner knows, and when each is to be looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Instant,
};

use crate::{
    intake::step::{ManifestPhase, TrackedManifest},
    relative_path::parent,
};

/// The manifests of a drop by their paths. What is due is found without looking at the others.
#[derive(Debug, Default)]
pub(super) struct TrackedManifests {
    by_path: BTreeMap<String, TrackedManifest>,
    due: BTreeSet<(Instant, String)>,
    counts: PhaseCounts,
}

/// How many manifests are not in the queue yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PhaseCounts {
    pub(super) settling: u64,
    pub(super) behind: u64,
    /// Those that wait for files, cannot be read, or cannot be taken.
    pub(super) waiting: u64,
}

impl TrackedManifests {
    pub(super) fn get(&self, path: &str) -> Option<&TrackedManifest> {
        self.by_path.get(path)
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.by_path.contains_key(path)
    }

    pub(super) fn insert(&mut self, path: String, tracked: TrackedManifest) {
        self.remove(&path);
        if let Some(again_at) = tracked.again_at {
            self.due.insert((again_at, path.clone()));
        }
        if let Some(count) = self.count(tracked.phase) {
            *count += 1;
        }
        self.by_path.insert(path, tracked);
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<TrackedManifest> {
        let (path, tracked) = self.by_path.remove_entry(path)?;
        if let Some(again_at) = tracked.again_at {
            self.due.remove(&(again_at, path));
        }
        if let Some(count) = self.count(tracked.phase) {
            *count -= 1;
        }
        Some(tracked)
    }

    const fn count(&mut self, phase: ManifestPhase) -> Option<&mut u64> {
        match phase {
            ManifestPhase::Queued | ManifestPhase::Settled => None,
            ManifestPhase::Settling => Some(&mut self.counts.settling),
            ManifestPhase::Behind => Some(&mut self.counts.behind),
            ManifestPhase::Incomplete | ManifestPhase::Unreadable | ManifestPhase::Blocked => {
                Some(&mut self.counts.waiting)
            }
        }
    }

    /// Those that are to be looked at by now.
    pub(super) fn due(&self, now: Instant) -> Vec<String> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, path)| path.clone()).collect()
    }

    /// When the first of them is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) const fn counts(&self) -> PhaseCounts {
        self.counts
    }

    /// Every path.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.by_path.keys().map(String::as_str)
    }

    /// Those below a folder, and the one at its own path.
    pub(super) fn below(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        let below = self.by_path.range::<String, _>(from).map(|(below, _)| below.as_str());
        let own = self.by_path.get_key_value(path).map(|(own, _)| own.as_str());
        own.into_iter().chain(below.take_while(move |below| below.starts_with(&prefix)))
    }

    /// Those in a folder, without those further below.
    pub(super) fn within(&self, folder: &str) -> impl Iterator<Item = &str> {
        self.below(folder).filter(move |path| parent(path) == folder)
    }
}
