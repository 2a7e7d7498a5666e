//! What a scan of a drop is about to check, and what it leaves until another manifest is settled. The queue does not know of
//! these yet, and their senders are not to be left without an answer while a large manifest is checked.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    clock::Timestamp,
    manifest_wait::{ManifestWait, ScanWait},
};

/// The manifests of one drop that are in line.
#[derive(Debug, Default)]
pub struct ScanLine(Mutex<BTreeMap<String, InLine>>);

#[derive(Debug, Clone, Copy)]
struct InLine {
    /// Whether it waits for the manifest that it replaced.
    is_behind: bool,
    /// When it was first seen.
    seen: Timestamp,
    /// Since when it is in line.
    from: Instant,
}

impl ScanLine {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, InLine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these are to be checked, and no others.
    pub(super) fn checks(&self, manifests: impl Iterator<Item = (String, Timestamp)>, now: Instant) {
        let mut line = self.lock();
        let before: BTreeMap<_, _> = std::mem::take(&mut *line);
        line.extend(before.iter().filter(|(_, one)| one.is_behind).map(|(manifest, one)| (manifest.clone(), *one)));
        for (manifest, seen) in manifests {
            let from = match before.get(&manifest) {
                // It is looked at every second, and is behind until that finds something else.
                Some(one) if one.is_behind => continue,
                Some(one) => one.from,
                None => now,
            };
            line.insert(manifest, InLine { is_behind: false, seen, from });
        }
    }

    /// A manifest was checked; it may have to wait for the one that it replaced.
    pub(super) fn checked(&self, manifest: &str, behind_since: Option<Timestamp>, now: Instant) {
        let mut line = self.lock();
        match behind_since {
            None => {
                line.remove(manifest);
            }
            Some(seen) if line.get(manifest).is_none_or(|one| !one.is_behind || one.seen != seen) => {
                line.insert(manifest.to_owned(), InLine { is_behind: true, seen, from: now });
            }
            Some(_) => {}
        }
    }

    /// Those that have been in line for at least this time.
    pub fn waits(&self, at_least: Duration, now: Instant) -> Vec<ScanWait> {
        let line = self.lock();
        let waits = line.iter().filter(|(_, one)| now.saturating_duration_since(one.from) >= at_least);
        waits
            .map(|(manifest, one)| ScanWait {
                manifest: manifest.clone(),
                wait: if one.is_behind { ManifestWait::Behind } else { ManifestWait::Checking },
                since: one.seen,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_line_for_a_while_waits_and_who_is_checked_does_not() {
        let (line, begin) = (ScanLine::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let second = Duration::from_secs(1);
        let waits = |now| -> Vec<(String, ManifestWait)> {
            line.waits(second, now).into_iter().map(|wait| (wait.manifest, wait.wait)).collect()
        };
        let checking = |name: &str| (name.to_owned(), ManifestWait::Checking);
        let behind = |name: &str| (name.to_owned(), ManifestWait::Behind);
        let both = || ["a", "b"].into_iter().map(|name| (name.to_owned(), Timestamp(7)));
        line.checks(both(), at(0));
        assert_eq!(waits(at(0)), []);
        assert_eq!(waits(at(1)), [checking("a"), checking("b")]);
        line.checked("a", None, at(1));
        assert_eq!(waits(at(1)), [checking("b")]);
        line.checked("b", Some(Timestamp(7)), at(1));
        assert_eq!(waits(at(1)), [], "another reason, another time");
        line.checks([("b".to_owned(), Timestamp(7)), ("c".to_owned(), Timestamp(8))].into_iter(), at(2));
        line.checked("b", Some(Timestamp(7)), at(2));
        assert_eq!(waits(at(2)), [behind("b")]);
        assert_eq!(waits(at(3)), [behind("b"), checking("c")]);
        // A scan that was stopped on the way begins again.
        line.checks([("c".to_owned(), Timestamp(8))].into_iter(), at(4));
        line.checked("b", None, at(4));
        assert_eq!(waits(at(4)), [checking("c")]);
        line.checks(std::iter::empty(), at(5));
        assert_eq!(waits(at(9)), []);
    }
}
