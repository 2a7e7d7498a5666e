//! What senders do who have a name of its own for each file, and how any sender puts one.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
};

use rustix::fs::{CWD, RenameFlags, rename, renameat_with};
use serde_json::Value;

use super::{
    asked::{Asked, Manifest},
    day::Day,
    history::named,
    world::World,
};
use crate::support::{image, read_receipt, sha256};

/// How a sender puts a file where one may lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    RenameOver,
    InPlace,
    DeleteBefore,
}

/// What senders do.
impl Day {
    pub(super) fn drop_manifest(&mut self) {
        let mut entries: Vec<Asked> = (0..=self.dice.below(4)).map(|_| self.entry()).collect();
        let ending = self.dice.pick(&["json", "jsonl", "csv"]);
        if ending == "csv" {
            // Rows of one reference are one document.
            let mut references = BTreeSet::new();
            entries.retain(|entry| entry.reference.as_ref().is_none_or(|known| references.insert(known.clone())));
        }
        let folder = self.dice.pick(&["", "", "partner/"]);
        let manifest = Manifest::new(format!("{folder}{}.manifest.{ending}", self.manifests.len()), entries);
        let mut files = Vec::new();
        for (file, _, scan) in named(&manifest) {
            if self.dice.one_in(12) {
                self.late.push((file, scan.content.clone()));
            } else if !self.touched.contains_key(&file) {
                files.push((file, scan.content.clone(), How::RenameOver));
            }
        }
        let first = self.dice.one_in(2);
        self.drop_all(manifest, &files, first);
    }

    /// Drops a manifest before or after its files.
    pub(super) fn drop_all(&mut self, manifest: Manifest, files: &[(String, Vec<u8>, How)], first: bool) {
        let words = format!("dropped {} with {} entries", manifest.path, manifest.entries.len());
        let again = first.then(|| manifest.clone());
        if let Some(manifest) = again {
            self.put_manifest(manifest);
        }
        for (file, content, how) in files {
            self.put_as(file, content, *how);
        }
        if !first {
            self.put_manifest(manifest);
        }
        self.note(words);
    }

    /// A new entry, or one that was asked for before, or another one under the same reference.
    fn entry(&mut self) -> Asked {
        let known: Vec<&Asked> = self
            .manifests
            .iter()
            .filter(|manifest| !manifest.superseded)
            .flat_map(|manifest| &manifest.entries)
            .filter(|entry| entry.flaw.is_none())
            // In CSV it would get a reference, and be another entry.
            .filter(|entry| entry.reference.is_some() || entry.scans.len() == 1)
            .collect();
        if !known.is_empty() && self.dice.one_in(6) {
            return self.dice.pick(&known).clone();
        }
        let documents: Vec<&Asked> = known.iter().copied().filter(|entry| entry.category.is_some()).collect();
        if self.policy.world == World::Equal && !documents.is_empty() && self.dice.one_in(3) {
            let equal = self.dice.pick(&documents).clone();
            self.entries += 1;
            return self.equal_entry(&equal, self.entries);
        }
        let reference = known.iter().rev().find_map(|entry| entry.reference.clone());
        self.entries += 1;
        let mut entry = Asked::new(&mut self.dice, self.entries);
        if reference.is_some() && self.dice.one_in(15) {
            entry.reference = reference;
        }
        entry
    }

    /// Puts a manifest and its marker, and keeps it in mind.
    pub(super) fn put_manifest(&mut self, manifest: Manifest) {
        self.history.manifest_is_put();
        self.write(&manifest.path, manifest.text.as_bytes());
        if self.policy.marker {
            self.write(&format!("{}.done", manifest.path), b"");
        }
        self.manifests.push(manifest);
    }

    /// Writes what is no image as careful senders do.
    pub(super) fn write(&self, path: &str, content: &[u8]) {
        let temporary = format!("{path}.tmp");
        self.site.put(&temporary, content);
        // A folder that was emptied by the worker may go before the file is in it under its own name.
        rename(self.site.in_drop(&temporary), self.site.in_drop(path)).unwrap();
    }

    pub(super) fn bring_late(&mut self) {
        for (file, content) in std::mem::take(&mut self.late) {
            self.put(&file, &content);
        }
    }

    /// One that is in the drop, perhaps admitted already, with its index among all.
    pub(super) fn some_manifest(&mut self) -> Option<usize> {
        let lying: Vec<usize> = (0..self.manifests.len())
            .filter(|at| {
                let manifest = &self.manifests[*at];
                !manifest.superseded && self.site.in_drop(&manifest.path).exists()
            })
            .collect();
        if lying.is_empty() { None } else { Some(self.dice.pick(&lying)) }
    }

    /// Puts another manifest in the place of one.
    pub(super) fn edit(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        self.manifests[at].superseded = true;
        let path = self.manifests[at].path.clone();
        self.entries += 1;
        let entries = vec![Asked::new(&mut self.dice, self.entries)];
        let manifest = Manifest::new(path, entries);
        let files: Vec<_> = named(&manifest).map(|(file, _, scan)| (file, scan.content.clone())).collect();
        for (file, content) in files {
            self.put(&file, &content);
        }
        self.note(format!("writes {} anew", manifest.path));
        self.put_manifest(manifest);
        self.history.manifest_is_gone(at);
    }

    pub(super) fn rename(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        let manifest = &mut self.manifests[at];
        let renamed = manifest.path.replace(".manifest.", "-renamed.manifest.");
        // It may have been archived in this instant.
        if rename(self.site.in_drop(&manifest.path), self.site.in_drop(&renamed)).is_ok() {
            let was = std::mem::replace(&mut manifest.path, renamed);
            let manifest = manifest.clone();
            let marker = |path: &str| self.site.in_drop(&format!("{path}.done"));
            if self.policy.marker && rename(marker(&was), marker(&manifest.path)).is_err() {
                self.write(&format!("{}.done", manifest.path), b"");
            }
            self.note(format!("renamed {was} to {}", manifest.path));
        }
    }

    /// Replaces an image by another one.
    pub(super) fn touch(&mut self) {
        let Some(at) = self.some_manifest() else { return };
        let manifest = &self.manifests[at];
        let scan = &self.manifests[at].entries[0].scans[0];
        let file = manifest.file(&scan.path);
        if !self.site.in_drop(&file).exists() {
            return;
        }
        let other = image(scan.format, 1_000_000 + u32::try_from(self.touched.len()).unwrap());
        let digests = [sha256(&scan.content), sha256(&other)];
        self.put(&file, &other);
        self.note(format!("replaced {file}"));
        self.touched.entry(file).or_default().extend(digests);
    }
}

/// How files are put, so that it is known what was destroyed by that.
impl Day {
    /// Puts an image or a file as careful senders do.
    pub(super) fn put(&mut self, path: &str, content: &[u8]) {
        self.put_as(path, content, How::RenameOver);
    }

    pub(super) fn put_as(&mut self, path: &str, content: &[u8], how: How) {
        self.look_for_manifests();
        if let How::DeleteBefore = how {
            self.delete(path);
        }
        let at = self.history.moment();
        let over = match how {
            How::RenameOver | How::DeleteBefore => self.rename_over(path, content),
            How::InPlace => self.write_in_place(path, content),
        };
        let over = over.map(|content| sha256(&content));
        self.history.put(path, sha256(content), over.as_deref(), at);
        self.look_for_manifests();
        let lying = |at: &usize| self.policy.after_success != "keep" && !self.history.stays[*at].is_over();
        let lying = (0..self.manifests.len()).filter(lying).collect();
        self.history.lie_beside(lying);
    }

    /// Deletes what lies there.
    pub(super) fn delete(&mut self, path: &str) {
        let away = self.site.at("away");
        if rename(self.site.in_drop(path), &away).is_ok() {
            let content = fs::read(&away).unwrap();
            self.history.deleted(path, Some(&sha256(&content)));
            fs::remove_file(&away).unwrap();
        }
    }

    /// Returns what was there.
    fn rename_over(&self, path: &str, content: &[u8]) -> Option<Vec<u8>> {
        let (temporary, place) = (self.site.in_drop(&format!("{path}.tmp")), self.site.in_drop(path));
        let rename = |flags| renameat_with(CWD, &temporary, CWD, &place, flags);
        loop {
            // A folder that was emptied by the worker may go before the file is in it under its own name.
            self.site.put(&format!("{path}.tmp"), content);
            if rename(RenameFlags::EXCHANGE).is_ok() {
                let over = fs::read(&temporary).unwrap();
                fs::remove_file(&temporary).unwrap();
                return Some(over);
            }
            if rename(RenameFlags::NOREPLACE).is_ok() {
                return None;
            }
        }
    }

    /// Returns what was there.
    fn write_in_place(&self, path: &str, content: &[u8]) -> Option<Vec<u8>> {
        let place = self.site.in_drop(path);
        loop {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            if let Ok(mut file) = OpenOptions::new().read(true).write(true).open(&place) {
                let mut over = Vec::new();
                file.read_to_end(&mut over).unwrap();
                file.set_len(0).unwrap();
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(content).unwrap();
                return Some(over);
            }
            if let Ok(mut file) = OpenOptions::new().write(true).create_new(true).open(&place) {
                file.write_all(content).unwrap();
                return None;
            }
        }
    }

    /// Notices which manifests have been taken, as far as a sender can see that.
    pub(super) fn look_for_manifests(&mut self) {
        let keeps = self.policy.after_success == "keep";
        let receipts = if keeps { self.receipts() } else { Vec::new() };
        for (at, manifest) in self.manifests.iter().enumerate() {
            let is_taken = if keeps {
                let digest = sha256(manifest.text.as_bytes());
                receipts.iter().any(|receipt| {
                    receipt["manifest"] == manifest.path.as_str() && receipt["manifest_sha256"] == digest.as_str()
                })
            } else {
                !self.site.in_drop(&manifest.path).exists()
            };
            if is_taken {
                self.history.manifest_is_gone(at);
            }
        }
    }

    pub(super) fn receipts(&self) -> Vec<Value> {
        let files = self.site.files();
        let receipts = files.iter().filter(|file| file.starts_with("receipts/") && file.contains(".receipt."));
        let is_whole = |file: &&String| file.ends_with(".json") || file.ends_with(".jsonl");
        receipts.filter(is_whole).map(|file| read_receipt(&self.site.in_drop(file))).collect()
    }
}
