//! Whether each picture is on a profile that it was meant for, and every file in its one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;

use super::{
    asked::{Asked, Scan},
    day::Day,
    history::named,
};
use crate::support::sha256;

/// An image or file that was sent, as its receipt says.
pub(super) struct Sent<'a> {
    /// The manifest's index.
    pub(super) manifest: usize,
    pub(super) asked: &'a Asked,
    pub(super) scan: &'a Scan,
    /// What stands at the API.
    pub(super) sha256: String,
}

impl Sent<'_> {
    fn story(&self, day: &Day) -> String {
        let manifest = &day.manifests[self.manifest];
        let path = manifest.file(&self.scan.path);
        let (profile, reference) = (self.asked.profile, &self.asked.reference);
        let story = day.history.story(self.manifest, &path);
        format!("\n{}, {reference:?} for {profile}, {path}: {story}", manifest.path)
    }
}

/// Each picture is on a profile whose manifest named it.
pub(super) fn assert_meant(day: &Day, sent: &[Sent<'_>]) {
    for one in sent {
        let objection = day.history.objection(&day.manifests, one.manifest, one.asked, one.scan, &one.sha256);
        if let Some(objection) = objection {
            let manifest = &day.manifests[one.manifest].path;
            panic!("{manifest} sent what it did not mean, {}: {objection}\n{}", one.sha256, day.diary.join("\n"));
        }
    }
    assert_one_owner(day, sent);
}

/// What was put once is on one profile, unless one manifest asks for several, or all declare it.
fn assert_one_owner(day: &Day, sent: &[Sent<'_>]) {
    let mut by_content: BTreeMap<&str, Vec<&Sent<'_>>> = BTreeMap::new();
    for one in sent {
        by_content.entry(&one.sha256).or_default().push(one);
    }
    for (content, owners) in by_content.into_iter().filter(|(content, _)| day.history.puts_of(content) == 1) {
        for (at, one) in owners.iter().enumerate() {
            let others = owners[at + 1..].iter().filter(|other| {
                one.manifest != other.manifest
                    && one.asked.profile != other.asked.profile
                    && !(one.scan.declares && other.scan.declares)
            });
            let others: Vec<&Sent<'_>> = others.copied().collect();
            if !others.is_empty() {
                let owners: String = [&[*one], &others[..]].concat().iter().map(|one| one.story(day)).collect();
                panic!("one file for several customers, {content}: {owners}\n{}", day.diary.join("\n"));
            }
        }
    }
}

/// Every file that was put, and not destroyed by its sender, is in exactly one place; what several manifests name may be
/// there once for each.
pub(super) fn assert_each_in_one_place(day: &Day, receipts: &[(PathBuf, Value)]) {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in day.site.files() {
        places.entry(sha256(&fs::read(day.site.in_drop(&file)).unwrap())).or_default().push(file);
    }
    let is_done = |at: &usize| {
        let manifest = &day.manifests[*at];
        let digest = sha256(manifest.text.as_bytes());
        let mut receipts = receipts.iter().filter(|(_, receipt)| receipt["manifest_sha256"] == digest.as_str());
        receipts.any(|(_, receipt)| receipt["status"] == "done")
    };
    for (content, (remaining, paths)) in day.history.remaining() {
        let found = places.get(content).map_or(&[][..], Vec::as_slice);
        let naming: BTreeSet<usize> = (0..day.manifests.len())
            .filter(|at| named(&day.manifests[*at]).any(|(path, ..)| paths.contains(&path.as_str())))
            .collect();
        let what = || format!("{content}, put to {paths:?}, is at {found:?}\n{}", day.diary.join("\n"));
        let may_be_deleted = day.policy.after_success == "delete" && naming.iter().any(is_done);
        assert!(remaining == 0 || !found.is_empty() || may_be_deleted, "a file is lost: {}", what());
        let most = if naming.len() < 2 { remaining } else { remaining + naming.len() - 1 };
        assert!(found.len() <= most, "a file was doubled, {most} expected: {}", what());
        let in_hand: Vec<_> = found.iter().filter(|place| place.starts_with(".passfort-ingest/")).collect();
        assert!(in_hand.is_empty(), "all is settled, and a file is not put away: {}", what());
    }
}
