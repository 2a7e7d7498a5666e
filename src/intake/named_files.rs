//! Whose a file is that manifests name which are read one after the other, and of which none waits: those of one `import`
//! or `check`.

use std::{cell::RefCell, collections::HashSet, io};

use serde::{Deserialize, Serialize};

use super::{
    context::{EntryContext, FileRight, WantedFile, named_earlier},
    spill_map::SpillMap,
};
use crate::{
    claims::NameClaim,
    file_identity::FileIdentity,
    inbox::beneath::Root,
    problem::Problem,
    queue::{QueueError, created_before::CreatedEntry},
    relative_path::path_key,
};

/// An entry that a file serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ServedEntry {
    /// The number of its manifest, in the order in which they are read.
    manifest: usize,
    /// A hash of its profile.
    profile: u64,
}

/// Who a file serves. More need not be known: who asks is of one profile, and stands in the last manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ServedEntries {
    first: ServedEntry,
    /// The first one of another profile.
    other: Option<ServedEntry>,
    /// The first manifest that does not declare the file's digest.
    undeclared: Option<usize>,
}

/// The files of all manifests that were read so far, by path. Memory does not grow with them.
#[derive(Debug)]
pub(crate) struct NamedFiles {
    served: RefCell<SpillMap<ServedEntries>>,
    /// The manifests, as messages name them.
    manifests: Vec<String>,
    /// Those that are refused as a whole, and so take no files.
    without_files: HashSet<usize>,
    /// How many manifests there are in all.
    total: usize,
}

impl NamedFiles {
    /// For so many manifests.
    pub(crate) fn of(total: usize) -> Self {
        Self { served: RefCell::default(), manifests: Vec::new(), without_files: HashSet::new(), total }
    }

    /// What follows is in this manifest.
    pub(crate) fn begin(&mut self, manifest: String) {
        self.manifests.push(manifest);
    }

    /// The manifest is refused as a whole: its files stay for others.
    pub(crate) fn takes_no_files(&mut self) {
        self.without_files.insert(self.current());
    }

    fn current(&self) -> usize {
        self.manifests.len().saturating_sub(1)
    }

    fn served(&self, key: &[u8]) -> Result<Option<ServedEntries>, QueueError> {
        let Some(served) = self.served.borrow().get(key).map_err(failed)? else { return Ok(None) };
        let counts = |manifest: &usize| !self.without_files.contains(manifest);
        let mut left = [Some(served.first), served.other].into_iter().flatten().filter(|entry| counts(&entry.manifest));
        let Some(first) = left.next() else { return Ok(None) };
        Ok(Some(ServedEntries { first, other: left.next(), undeclared: served.undeclared.filter(counts) }))
    }

    /// Which manifest's the file is, where it is not the current one's.
    fn owner(&self, file: &WantedFile<'_>, images: &Root) -> Result<Option<&str>, QueueError> {
        let Some(served) = self.served(&key(file, images))? else { return Ok(None) };
        let declared = served.undeclared.is_none_or(|manifest| manifest == self.current());
        let stands_against = |entry: &ServedEntry| {
            let claim = NameClaim { profile: Some(entry.profile), declared };
            entry.manifest != self.current() && file.claim.excludes(&claim)
        };
        let owner = [Some(served.first), served.other].into_iter().flatten().find(stands_against);
        Ok(owner.and_then(|entry| self.manifests.get(entry.manifest)).map(String::as_str))
    }

    /// Notes that the file serves an entry of the current manifest.
    fn note(&self, file: &WantedFile<'_>, images: &Root) -> Result<(), QueueError> {
        let (key, manifest) = (key(file, images), self.current());
        let Some(profile) = file.claim.profile.filter(|_| self.manifests.len() < self.total) else { return Ok(()) };
        let entry = ServedEntry { manifest, profile };
        let known = self.served(&key)?;
        let mut served = known.unwrap_or(ServedEntries { first: entry, other: None, undeclared: None });
        if served.first.profile != profile {
            served.other.get_or_insert(entry);
        }
        if !file.claim.declared {
            served.undeclared.get_or_insert(manifest);
        }
        if known == Some(served) {
            return Ok(());
        }
        self.served.borrow_mut().set(&key, served).map_err(failed)
    }
}

impl EntryContext for NamedFiles {
    fn created(&self, _: &str) -> Result<Option<CreatedEntry>, QueueError> {
        Ok(None)
    }

    fn is_contested(&self, _: &str) -> bool {
        false
    }

    fn right_to(&self, file: &WantedFile<'_>, _: &FileIdentity, images: &Root) -> Result<FileRight, QueueError> {
        match self.taken_by_another(file, images)? {
            Some(problem) => Ok(FileRight::InUse(problem)),
            None => self.note(file, images).map(|()| FileRight::Yes),
        }
    }

    fn taken_by_another(&self, file: &WantedFile<'_>, images: &Root) -> Result<Option<Problem>, QueueError> {
        Ok(self.owner(file, images)?.map(|by| named_earlier(by.to_owned(), file)))
    }
}

fn key(file: &WantedFile<'_>, images: &Root) -> [u8; 8] {
    path_key(images.path(), "", file.path).to_be_bytes()
}

fn failed(source: io::Error) -> QueueError {
    QueueError::Io { action: "use", path: "the temporary database of file names".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries (path, profile, whether it declares the digest), and whether their manifest is refused as a whole.
    type Read<'a> = (&'a [(&'a str, &'a str, bool)], bool);

    /// Reads manifests and returns which entries get their file.
    fn who_is_served(manifests: &[Read<'_>]) -> Vec<Vec<bool>> {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let identity = FileIdentity::now(&tempfile::tempfile().unwrap()).unwrap();
        let mut names = NamedFiles::of(manifests.len());
        let mut all = Vec::new();
        for (number, (entries, is_refused)) in manifests.iter().enumerate() {
            names.begin(format!("m{number}"));
            let right = |(path, profile, declared): &(&str, &str, bool)| {
                let file = WantedFile { path, written: path, claim: NameClaim::of(profile, *declared) };
                let right = names.right_to(&file, &identity, &root).unwrap();
                // Asked again, as where a manifest is read twice.
                assert_eq!(names.right_to(&file, &identity, &root).unwrap(), right);
                let missing = names.taken_by_another(&file, &root).unwrap();
                assert_eq!(missing.is_none(), right == FileRight::Yes);
                right == FileRight::Yes
            };
            all.push(entries.iter().map(right).collect());
            if *is_refused {
                names.takes_no_files();
            }
        }
        all
    }

    #[test]
    fn a_name_serves_the_profile_that_came_first_one_manifest_and_those_who_declare() {
        let x = ("f", "x", false);
        let y = ("f", "y", false);
        let (declared_x, declared_y) = (("f", "x", true), ("f", "y", true));
        for (what, manifests, expected) in [
            (
                "another profile",
                vec![(&[x][..], false), (&[y], false), (&[x], false)],
                vec![vec![true], vec![false], vec![true]],
            ),
            ("one manifest", vec![(&[x, y][..], false), (&[x, y], false)], vec![vec![true, true], vec![false, false]]),
            ("another name", vec![(&[x][..], false), (&[("g", "y", false)], false)], vec![vec![true], vec![true]]),
            (
                "declared by one alone",
                vec![(&[x][..], false), (&[declared_y, y], false), (&[x], false)],
                vec![vec![true], vec![false, false], vec![true]],
            ),
            (
                "declared by each",
                vec![(&[declared_x][..], false), (&[declared_y], false), (&[x], false), (&[declared_x], false)],
                vec![vec![true], vec![true], vec![false], vec![true]],
            ),
            (
                "the first one takes no files",
                vec![(&[x, y][..], true), (&[y], false), (&[x], false), (&[y], false)],
                vec![vec![true, true], vec![true], vec![false], vec![true]],
            ),
            (
                "the second one takes no files",
                vec![(&[declared_x][..], false), (&[declared_y], true), (&[x], false), (&[y], false)],
                vec![vec![true], vec![true], vec![true], vec![false]],
            ),
        ] {
            assert_eq!(who_is_served(&manifests), expected, "{what}");
        }
    }
}
