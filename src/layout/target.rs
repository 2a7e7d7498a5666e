//! An archive that a person named, and what a layout can read of it.

use std::path::PathBuf;

use super::{
    finding::LayoutError,
    plan::{ArchiveLayout, FilesOf, RecordSource},
    sources,
};

/// An archive and the layout that it is read by.
#[derive(Debug)]
pub struct ArchiveTarget {
    /// The archive's folder, without links.
    pub root: PathBuf,
    /// The list, where it was named itself, from the folder.
    pub list: Option<String>,
}

impl ArchiveTarget {
    /// The archive at a path: its folder, or its list. `root` is the folder where it is not the list's own.
    ///
    /// # Errors
    ///
    /// Where there is nothing, or the list is not in the folder.
    pub fn find(path: &std::path::Path, root: Option<&std::path::Path>) -> Result<Self, LayoutError> {
        let real = |path: &std::path::Path| path.canonicalize().map_err(LayoutError::io(path.display().to_string()));
        let found = real(path)?;
        if found.is_dir() {
            if let Some(root) = root {
                let cure = "name the list itself, or leave --root out";
                return Err(LayoutError::wrong(format!("--root {}", root.display()), "the archive is a folder", cure));
            }
            return Ok(Self { root: found, list: None });
        }
        let root = match root {
            Some(root) => real(root)?,
            None => found.parent().map(std::path::Path::to_owned).unwrap_or_default(),
        };
        let list = found.strip_prefix(&root).ok().and_then(std::path::Path::to_str).map(str::to_owned);
        let list = list.ok_or_else(|| {
            LayoutError::wrong(path.display().to_string(), "the list is not in the archive's folder", "correct --root")
        })?;
        Ok(Self { root, list: Some(list) })
    }
}

impl ArchiveLayout {
    /// Whether it reads one list.
    #[must_use]
    pub const fn has_list(&self) -> bool {
        sources::has_list(self)
    }

    /// Whether letter case and Unicode normal form do not count in paths.
    #[must_use]
    pub const fn is_loose(&self) -> bool {
        self.loose
    }

    /// Why it cannot read the lists of a drop, if so. A list has to name each of its files, since nothing else says when all
    /// of them have come.
    #[must_use]
    pub fn refusal_in_drops(&self, xlsx: bool) -> Option<(&'static str, &'static str)> {
        let one_list = "use a layout whose [source] is csv, ndjson or json; archives without a list are for `import`";
        if !sources::has_list(self) {
            return Some(("it reads no list, and nothing says when a folder is complete", one_list));
        }
        if !xlsx && matches!(&self.source, RecordSource::Table { form, .. } if form.sheet.is_some()) {
            return Some(("it reads xlsx", "set xlsx = true under [drop.layout], or have the list sent as CSV"));
        }
        let folder = self.images.iter().any(|image| matches!(image.files, FilesOf::Folder(_)));
        let cure = "have each file named in the list, as images = [{ path = \"{File}\" }]";
        folder.then_some(("it takes what is in a folder, and nothing says when that is complete", cure))
    }

    /// The files of its lookups.
    pub fn lookup_files(&self) -> impl Iterator<Item = &std::path::Path> {
        self.lookups.iter().map(|lookup| lookup.file.as_path())
    }

    /// What the archive is called in receipts: its list, or the layout where there is none.
    #[must_use]
    pub fn list_of(&self, target: &ArchiveTarget) -> Option<String> {
        if !sources::has_list(self) {
            return None;
        }
        target.list.clone().or_else(|| sources::list_name(self).map(str::to_owned))
    }
}
