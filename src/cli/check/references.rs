//! Which references, and which contents without one, were seen in the manifests that are checked together.
//!
//! Decides as admission does ([`crate::queue::identity::decide`]), but knows only what is checked now. Kept in a
//! temporary store on disk, so that memory stays bounded.

use std::{io, path::PathBuf};

use sha2::Digest as _;

use crate::{
    entry::Entry,
    manifest::Scratch,
    problem::Problem,
    queue::{admission::CheckedFile, content::ContentDigests, scratch::TemporaryStore},
};

/// What an entry lays claim to.
#[derive(Debug, Clone)]
pub(super) struct ReferenceClaim {
    key: [u8; 32],
    /// What it asks for, as far as that is known.
    content: Option<[u8; 32]>,
    /// Whether it has a reference, so that another content under it is a contradiction.
    named: bool,
    replace: bool,
}

impl ReferenceClaim {
    /// That of an entry that is good by itself.
    pub(super) fn good(entry: &Entry, files: &[CheckedFile]) -> Self {
        let content = *ContentDigests::of_entry(entry, files.iter().map(|file| file.sha256)).current();
        let (key, named) = match &entry.reference {
            Some(reference) => (key(reference), true),
            None => (content, false),
        };
        Self { key, content: Some(content), named, replace: entry.replace }
    }

    /// That of an entry that is bad for another reason.
    pub(super) fn bad(reference: &str) -> Self {
        Self { key: key(reference), content: None, named: true, replace: false }
    }
}

fn key(reference: &str) -> [u8; 32] {
    // The prefix keeps a reference from ever having the key of a content.
    sha2::Sha256::new().chain_update(b"reference\0").chain_update(reference).finalize().into()
}

/// Which entry of the manifests that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryPosition {
    /// The manifest's number among those that are checked.
    pub(super) manifest: usize,
    /// The entry's place in it.
    pub(super) index: u64,
}

/// An entry with the same claim that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Earlier {
    place: EntryPosition,
    /// Whether it asks for the same; `None` where one of the two is bad, so that this is not known.
    same: Option<bool>,
}

impl Earlier {
    /// What to say about the later entry; `path` gives a manifest's path by its number.
    pub(super) fn problem(
        self,
        claim: &ReferenceClaim,
        here: EntryPosition,
        path: &dyn Fn(usize) -> PathBuf,
    ) -> Problem {
        let mut other = format!("index {}", self.place.index);
        if self.place.manifest != here.manifest {
            other.push_str(&format!(" of {}", path(self.place.manifest).display()));
        }
        match (self.same, claim.named) {
            (Some(false), _) => Problem::error(
                format!("{other} has the same reference with other content"),
                "give this entry a reference of its own, or say \"replace\": true to create it as well",
            )
            .field("reference"),
            (Some(true), true) => Problem::warning(
                format!("{other} has the same reference and the same content: this one will end as its duplicate"),
                "nothing need be done, or remove one of the two",
            )
            .field("reference"),
            (Some(true), false) => Problem::warning(
                format!("{other} asks for the very same: this one will end as its duplicate"),
                "remove one of the two, or give each a reference if both are wanted",
            ),
            (None, _) => Problem::warning(
                format!("{other} has the same reference, and one of the two is bad"),
                "mend that one, then check again: with other content, the later one is refused",
            )
            .field("reference"),
        }
    }
}

/// All claims so far.
#[derive(Debug, Default)]
pub(super) struct References {
    store: TemporaryStore,
}

impl References {
    /// Claims an identity; returns the earlier entry with the same one, if that is to be reported.
    pub(super) fn claim(&mut self, claim: &ReferenceClaim, here: EntryPosition) -> io::Result<Option<Earlier>> {
        let earlier = match self.store.get(&claim.key)? {
            Some(known) => {
                let (place, theirs) = unpack(&known).ok_or(io::ErrorKind::InvalidData)?;
                Some(Earlier { place, same: theirs.zip(claim.content).map(|(theirs, ours)| theirs == ours) })
            }
            None => None,
        };
        let replaces = claim.replace && earlier.is_some_and(|earlier| earlier.same != Some(true));
        if earlier.is_none() || replaces {
            self.store.put(&claim.key, &pack(here, claim.content))?;
        }
        Ok(earlier.filter(|_| !replaces))
    }
}

fn pack(place: EntryPosition, content: Option<[u8; 32]>) -> Vec<u8> {
    let manifest = u64::try_from(place.manifest).unwrap_or(u64::MAX);
    [&manifest.to_be_bytes()[..], &place.index.to_be_bytes(), content.as_ref().map_or(&[], |content| content)].concat()
}

fn unpack(packed: &[u8]) -> Option<(EntryPosition, Option<[u8; 32]>)> {
    let (manifest, rest) = packed.split_first_chunk()?;
    let (index, content) = rest.split_first_chunk()?;
    let manifest = usize::try_from(u64::from_be_bytes(*manifest)).ok()?;
    Some((EntryPosition { manifest, index: u64::from_be_bytes(*index) }, content.try_into().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(reference: &str, content: Option<u8>, replace: bool) -> ReferenceClaim {
        ReferenceClaim { content: content.map(|byte| [byte; 32]), replace, ..ReferenceClaim::bad(reference) }
    }

    fn said(
        references: &mut References,
        claim: &ReferenceClaim,
        manifest: usize,
        index: u64,
    ) -> Option<(bool, String)> {
        let here = EntryPosition { manifest, index };
        let earlier = references.claim(claim, here).unwrap()?;
        let problem = earlier.problem(claim, here, &|number| PathBuf::from(format!("/m/{number}.json")));
        Some((problem.is_error(), problem.reason))
    }

    #[test]
    fn the_same_reference_with_other_content_is_an_error() {
        let mut references = References::default();
        assert_eq!(said(&mut references, &claim("a", Some(1), false), 0, 0), None);
        assert_eq!(said(&mut references, &claim("b", Some(1), false), 0, 1), None);
        let (error, reason) = said(&mut references, &claim("a", Some(2), false), 0, 2).unwrap();
        assert!(error && reason.starts_with("index 0 has the same reference with other content"), "{reason}");
        let (error, reason) = said(&mut references, &claim("a", Some(1), false), 1, 5).unwrap();
        assert!(!error && reason.starts_with("index 0 of /m/0.json has the same reference and"), "{reason}");
    }

    #[test]
    fn an_entry_that_replaces_takes_the_place_of_the_other() {
        let mut references = References::default();
        assert_eq!(said(&mut references, &claim("a", Some(1), false), 0, 0), None);
        assert_eq!(said(&mut references, &claim("a", Some(2), true), 0, 1), None);
        let (error, reason) = said(&mut references, &claim("a", Some(1), false), 0, 2).unwrap();
        assert!(error && reason.starts_with("index 1 "), "{reason}");
        let (error, _) = said(&mut references, &claim("a", Some(2), true), 0, 3).unwrap();
        assert!(!error);
    }

    #[test]
    fn a_bad_entry_with_the_same_reference_is_only_a_warning() {
        let mut references = References::default();
        assert_eq!(said(&mut references, &claim("a", None, false), 0, 0), None);
        let (error, reason) = said(&mut references, &claim("a", Some(2), false), 0, 1).unwrap();
        assert!(!error && reason.contains("one of the two is bad"), "{reason}");
    }
}
