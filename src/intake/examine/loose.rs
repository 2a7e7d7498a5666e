//! The files of a list whose layout says that letter case and Unicode normal form do not count in paths.

use super::near_name;
use crate::{
    entry::{EntryKind, RelativePath},
    inbox::{
        beneath::{Refusal, Root},
        near::NearNames,
    },
    manifest::Reading,
    near_path::{is_loosely, taken_by_near},
    relative_path::join,
};

/// Where the paths of such a list start from.
#[derive(Debug)]
pub(super) struct LooseFolder {
    pub(super) root: Root,
    pub(super) folder: String,
}

/// Finds files by such paths, for one reading of the list.
pub(super) struct LooseNames<'a> {
    place: &'a LooseFolder,
    near: NearNames<'a>,
}

impl LooseFolder {
    pub(super) fn names(&self) -> LooseNames<'_> {
        LooseNames { place: self, near: NearNames::below(&self.root) }
    }
}

impl LooseNames<'_> {
    /// Gives the files of an entry their names on disk, and warns of each that is written in another way.
    pub(super) fn resolve(&self, reading: &mut Reading) {
        let Reading::Entry { entry, warnings, .. } = reading else { return };
        let kind = entry.kind();
        for (position, source) in entry.sources_mut().enumerate() {
            let written = source.path.as_str();
            let path = join(&self.place.folder, written);
            if !matches!(self.place.root.open_file(&path), Err(Refusal::Missing)) {
                continue;
            }
            let there = near_name(&self.near, &path, written).filter(|there| is_loosely(there, written));
            let Some(there) = there.and_then(|there| RelativePath::parse(&there).ok()) else { continue };
            let field = match kind {
                EntryKind::Document => format!("images[{position}].path"),
                EntryKind::File => "path".to_owned(),
            };
            warnings.push(taken_by_near(written, there.as_str(), &field));
            source.path = there;
        }
    }
}
