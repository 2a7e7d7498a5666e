//! What senders do whose scanner knows a few names only: they overwrite, rename over, delete, share and repeat.

use std::time::{Duration, Instant};

use super::{
    asked::{Asked, Manifest, PROFILES, REFUSED},
    day::Day,
    history::named,
    senders::How,
};
use crate::support::{Format, image};

/// The names that the scanner gives.
const NAMES: [&str; 4] = ["front.png", "back.png", "in/front.png", "in/back.png"];

const FOLDERS: [&str; 3] = ["", "", "partner/"];

/// Far longer than the worker takes to look at everything.
const LOOK: Duration = Duration::from_secs(4);

impl Day {
    /// One of the things that such a sender does.
    pub(super) fn reuse(&mut self) {
        match self.dice.below(14) {
            0..=4 => self.scan(),
            5..=7 => self.replace(),
            8 => self.delete_one(),
            9 => self.share(),
            10 => self.cumulate(),
            11..=12 => {
                self.scan();
                self.kill_soon();
            }
            _ => self.wait_until_all_is_seen(),
        }
    }

    /// A picture that is like no other.
    pub(super) fn picture(&mut self) -> Vec<u8> {
        self.pictures += 1;
        image(Format::Png, 2_000_000 + self.pictures)
    }

    fn how(&mut self) -> How {
        self.dice.pick(&[How::RenameOver, How::InPlace, How::DeleteBefore])
    }

    /// Customers whose pictures get these names, in one manifest.
    fn scan(&mut self) {
        let folder = self.dice.pick(&FOLDERS);
        let profile = if self.dice.one_in(12) { REFUSED } else { self.dice.below(REFUSED) };
        let declares = self.dice.one_in(4);
        let mut names = NAMES.to_vec();
        let mut entries: Vec<Asked> =
            (0..=self.dice.below(2)).map(|_| self.scanned(profile, &mut names, declares)).collect();
        if self.dice.one_in(8) {
            // The same pictures for somebody else, in the same manifest.
            let mut other = entries[0].clone();
            self.entries += 1;
            other.reference = Some(format!("entry-{}", self.entries));
            other.profile = (profile + 1) % PROFILES;
            entries.push(other);
        }
        let ending = self.dice.pick(&["json", "jsonl", "csv"]);
        let manifest = Manifest::new(format!("{folder}{}.manifest.{ending}", self.manifests.len()), entries);
        self.look_for_manifests();
        let is_careful = self.dice.one_in(2);
        if is_careful && named(&manifest).any(|(path, ..)| self.is_named(&path)) {
            return;
        }
        let files: Vec<_> = named(&manifest).map(|(file, _, scan)| (file, scan.content.clone())).collect();
        let is_late = self.dice.one_in(5);
        let mut here: Vec<(String, Vec<u8>, How)> = Vec::new();
        for (file, content) in files {
            if is_late {
                self.late.push((file, content));
            } else if !here.iter().any(|(known, ..)| *known == file) {
                let how = self.how();
                here.push((file, content, how));
            }
        }
        let first = self.dice.one_in(2);
        self.drop_all(manifest, &here, first);
    }

    /// A document of one or two of these names, which are then not given to another one.
    fn scanned(&mut self, profile: u32, names: &mut Vec<&str>, declares: bool) -> Asked {
        let count = self.dice.below(2) + 1;
        let own: Vec<&str> =
            (0..count).map(|_| names.remove(self.dice.below(u32::try_from(names.len()).unwrap()) as usize)).collect();
        self.entries += 1;
        Asked::scanned(&mut self.dice, self.entries, profile, &own, declares)
    }

    /// Whether a manifest names this path that is still there, as far as anybody can see.
    fn is_named(&self, path: &str) -> bool {
        let lying = (0..self.manifests.len()).filter(|at| !self.history.stays[*at].is_over());
        lying.into_iter().any(|at| named(&self.manifests[at]).any(|(named, ..)| named == path))
    }

    fn path(&mut self) -> String {
        format!("{}{}", self.dice.pick(&FOLDERS), self.dice.pick(&NAMES))
    }

    fn replace(&mut self) {
        let (path, how, content) = (self.path(), self.how(), self.picture());
        self.put_as(&path, &content, how);
        self.note(format!("put {path} anew: {how:?}"));
    }

    fn delete_one(&mut self) {
        let path = self.path();
        self.delete(&path);
        self.note(format!("deleted {path}"));
    }

    /// Another manifest for the same customer and of the same pictures.
    fn share(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        let manifest = &self.manifests[at];
        let Some(mut entry) = manifest.entries.iter().find(|entry| entry.reuses()).cloned() else { return };
        let folder = manifest.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        self.entries += 1;
        entry.reference = Some(format!("entry-{}", self.entries));
        entry.category = Some("PROOF_OF_ADDRESS");
        let manifest = Manifest::new(format!("{folder}{}.manifest.jsonl", self.manifests.len()), vec![entry]);
        self.drop_all(manifest, &[], true);
    }

    /// A list of all that was there before and of something new, whose files alone come with it.
    fn cumulate(&mut self) {
        let Some(last) = self.manifests.iter().rfind(|manifest| !manifest.superseded) else { return };
        let folder = last.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let known = last.entries.iter().filter(|entry| entry.reference.is_some() && entry.flaw.is_none());
        let mut entries: Vec<Asked> = known.cloned().collect();
        self.entries += 1;
        let new = Asked::new(&mut self.dice, self.entries);
        entries.push(new.clone());
        let manifest = Manifest::new(format!("{folder}{}.manifest.json", self.manifests.len()), entries);
        let files: Vec<_> =
            new.scans.iter().map(|scan| (manifest.file(&scan.path), scan.content.clone(), How::RenameOver)).collect();
        let first = self.dice.one_in(2);
        self.drop_all(manifest, &files, first);
    }

    /// Waits until the worker has looked at everything that lies there, if it works: the second of two manifests that it
    /// refuses is seen in a later look than the first.
    fn wait_until_all_is_seen(&mut self) {
        for _ in 0..2 {
            self.pictures += 1;
            let probe = format!("probe-{}.manifest.json", self.pictures);
            self.write(&probe, b"{}");
            if self.policy.marker {
                self.write(&format!("{probe}.done"), b"");
            }
            let began = Instant::now();
            while !self.site.is_settled(&probe) {
                if !self.works() || began.elapsed() > LOOK {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.look_for_manifests();
        // A manifest that waits is looked at again within seconds only; what it still lacks by then was not seen.
        let status = self.site.status();
        let mut unseen = std::collections::BTreeSet::new();
        for arrival in status["waiting_manifests"].as_array().into_iter().flatten() {
            let folder = arrival["manifest"].as_str().unwrap().rsplit_once('/').map_or("", |(folder, _)| folder);
            for missing in arrival["missing"].as_array().into_iter().flatten() {
                unseen.insert(format!("{folder}/{}", missing.as_str().unwrap()).trim_start_matches('/').to_owned());
            }
        }
        self.history.all_is_seen(&unseen);
        self.note("all is seen");
    }
}
