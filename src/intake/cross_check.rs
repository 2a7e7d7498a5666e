//! Compares the entries of a manifest with one another, and with what was taken before: an image that goes to two profiles,
//! and references that look the same.
//!
//! What a person would see in a list of all entries, one entry does not show. Memory does not grow with the entries.

use std::io;

use serde::{Deserialize, Serialize};

use super::spill_map::SpillMap;
use crate::{
    entry::{Entry, EntryKind},
    lookalike::{fold, spelt},
    problem::Problem,
    queue::{Queue, QueueError, Reader, admission::CheckedFile},
    warning_kind::WarningKind,
};

/// Why entries cannot be compared now.
#[derive(Debug, thiserror::Error)]
pub enum CrossCheckError {
    /// The temporary store fails.
    #[error("the temporary database for the comparison of entries: {0}")]
    Io(#[from] io::Error),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// What is remembered of an image or of the form of a reference: who has it first, and who else.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SeenBefore {
    first: SeenEntry,
    other: Option<SeenEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenEntry {
    /// The number of the manifest among those that are compared, and the entry's place in it.
    manifest: usize,
    index: u64,
    /// The profile of an image, or the spelling of a reference.
    subject: String,
    /// Of an image: where the manifest names it.
    place: Option<(String, String)>,
}

/// The entries that were seen, and the queue.
pub(crate) struct CrossCheck {
    seen: SpillMap<SeenBefore>,
    /// The queue, and the drop of the manifest.
    taken: Option<(Reader, String)>,
    /// The manifests that are compared.
    manifests: Vec<String>,
}

impl CrossCheck {
    /// For manifests that are compared with one another alone; see [`CrossCheck::next_manifest`].
    pub(crate) fn without_queue() -> Self {
        Self { seen: SpillMap::default(), taken: None, manifests: Vec::new() }
    }

    /// For one manifest of a drop.
    pub(crate) fn with_queue(queue: &Queue, drop: &str) -> Result<Self, QueueError> {
        let taken = Some((Reader::open(queue.path())?, drop.to_owned()));
        Ok(Self { taken, manifests: vec![String::new()], ..Self::without_queue() })
    }

    /// What follows is in this manifest.
    pub(crate) fn next_manifest(&mut self, name: String) {
        self.manifests.push(name);
    }

    /// Remembers an entry. Returns warnings about earlier ones of the same manifest that had nobody to be compared with.
    pub(crate) fn remember(
        &mut self,
        entry: &Entry,
        files: &[CheckedFile],
    ) -> Result<Vec<(u64, Problem)>, CrossCheckError> {
        let manifest = self.manifests.len().saturating_sub(1);
        let holder =
            |subject: &str, place| SeenEntry { manifest, index: entry.index, subject: subject.to_owned(), place };
        let mut earlier = Vec::new();
        for (position, (source, file)) in entry.sources().zip(files).enumerate() {
            let place = Some((image_field(entry, position), source.path.to_string()));
            let holder = holder(entry.profile_id.as_str(), place);
            if let Some(first) = self.put(&image_key(file), &holder)? {
                let (field, path) = first.place.unwrap_or_default();
                earlier.push((first.index, shared(&self.place_of(&holder)).field(field).path(path)));
            }
        }
        if let Some(reference) = &entry.reference {
            let holder = holder(reference, None);
            if let Some(first) = self.put(&reference_key(reference), &holder)? {
                earlier.push((first.index, lookalike(&first.subject, reference, &self.place_of(&holder))));
            }
        }
        Ok(earlier)
    }

    /// The warnings about an entry, by what is remembered and what was taken.
    pub(crate) fn warnings(&self, entry: &Entry, files: &[CheckedFile]) -> Result<Vec<Problem>, CrossCheckError> {
        let digests: Vec<_> = files.iter().map(|file| file.sha256).collect();
        let similar = match &self.taken {
            Some((reader, drop)) => reader.similar(drop, entry, &digests)?,
            None => crate::queue::similar::Similar::default(),
        };
        let mut warnings = Vec::new();
        for (position, (source, file)) in entry.sources().zip(files).enumerate() {
            let here = self.other(&image_key(file), entry.profile_id.as_str())?.map(|other| self.place_of(&other));
            let before = || similar.images.get(position).copied().flatten().map(|job| format!("job {job}"));
            if let Some(place) = here.or_else(before) {
                warnings.push(shared(&place).field(image_field(entry, position)).path(source.path.as_str()));
            }
        }
        if let Some(reference) = &entry.reference {
            let here = self.other(&reference_key(reference), reference)?;
            let here = here.map(|other| (self.place_of(&other), other.subject));
            let before = || similar.reference.clone().map(|(job, other)| (format!("job {job}"), other));
            if let Some((place, other)) = here.or_else(before) {
                warnings.push(lookalike(reference, &other, &place));
            }
        }
        Ok(warnings)
    }

    /// Adds a holder; gives the first one where this is its first other one, in the same manifest.
    fn put(&mut self, key: &[u8], holder: &SeenEntry) -> Result<Option<SeenEntry>, CrossCheckError> {
        let Some(mut seen) = self.seen.get(key)? else {
            self.seen.set(key, SeenBefore { first: holder.clone(), other: None })?;
            return Ok(None);
        };
        if seen.first.subject == holder.subject || seen.other.is_some() {
            return Ok(None);
        }
        seen.other = Some(holder.clone());
        let first = seen.first.clone();
        self.seen.set(key, seen)?;
        Ok(Some(first).filter(|first| first.manifest == holder.manifest))
    }

    fn other(&self, key: &[u8], subject: &str) -> Result<Option<SeenEntry>, CrossCheckError> {
        let seen = self.seen.get(key)?;
        let holders = seen.into_iter().flat_map(|seen| [Some(seen.first), seen.other]).flatten();
        Ok(holders.into_iter().find(|holder| holder.subject != subject))
    }

    fn place_of(&self, holder: &SeenEntry) -> String {
        match self.manifests.get(holder.manifest) {
            Some(name) if holder.manifest.saturating_add(1) < self.manifests.len() => {
                format!("index {} of {name}", holder.index)
            }
            _ => format!("index {}", holder.index),
        }
    }
}

/// The manifest's field that names a file of an entry.
fn image_field(entry: &Entry, position: usize) -> String {
    match entry.kind() {
        EntryKind::Document => format!("images[{position}].path"),
        EntryKind::File => "path".to_owned(),
    }
}

fn image_key(file: &CheckedFile) -> Vec<u8> {
    [&b"i"[..], &file.sha256.0].concat()
}

fn reference_key(reference: &str) -> Vec<u8> {
    [b"r", fold(reference).as_bytes()].concat()
}

/// Says nothing about the other profile: it may be that of another sender.
fn shared(place: &str) -> Problem {
    let cure = "see which of the two profiles the file belongs to, and send it to that one alone";
    Problem::warning_of(WarningKind::SharedImage, format!("{place} has the same bytes for another profile"), cure)
}

fn lookalike(reference: &str, other: &str, place: &str) -> Problem {
    let reason = format!("the reference {} looks like {}, that of {place}", spelt(reference), spelt(other));
    let cure = "spell one entry's reference in one way; if these are two, let them differ in more than that";
    Problem::warning_of(WarningKind::LookalikeReference, reason, cure).field("reference")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{ProfileId, Sha256},
        intake::spill_map::KEPT,
        queue::test_support::document,
    };

    #[test]
    fn entries_beyond_those_in_memory_are_compared_too() {
        let mut cross = CrossCheck::without_queue();
        cross.next_manifest("a".to_owned());
        let entry = |index: u64, profile: char| {
            let mut entry = document(index, &format!("r{index}"));
            entry.profile_id = ProfileId::parse(&format!("{profile}2c4393a-e219-67a4-5ab4-2186952e9038")).unwrap();
            entry
        };
        let file = |number: u64| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            [CheckedFile { bytes: 1, sha256: Sha256(digest), checksum: 0, seen: None }]
        };
        let many = KEPT as u64 + 10;
        for index in 0..many {
            assert!(cross.remember(&entry(index, 'a'), &file(index)).unwrap().is_empty());
        }
        for (index, earlier) in [(many, 3), (many + 1, many - 1)] {
            let found = cross.remember(&entry(index, 'b'), &file(earlier)).unwrap();
            assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [earlier]);
            assert_eq!(cross.warnings(&entry(earlier, 'a'), &file(earlier)).unwrap().len(), 1);
            assert_eq!(cross.warnings(&entry(index, 'b'), &file(earlier)).unwrap().len(), 1);
            // A third one says nothing new of the first.
            assert!(cross.remember(&entry(index + 5, 'c'), &file(earlier)).unwrap().is_empty());
        }
        assert!(cross.warnings(&entry(5, 'a'), &file(5)).unwrap().is_empty());
    }
}
