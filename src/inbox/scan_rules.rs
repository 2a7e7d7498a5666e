//! Which names in a drop are manifests, and which are passed over.

use std::path::PathBuf;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Which files of a drop are manifests, and which folders are scanned for them.
#[derive(Debug, Clone)]
pub struct ScanRules {
    /// Whether to scan subfolders.
    pub recursive: bool,
    /// The names of manifests; see [`globs`].
    pub manifests: GlobSet,
    /// The names of files and folders to ignore; see [`globs`].
    pub ignore: GlobSet,
    /// Folders to stay out of, absolute: where settled files and receipts go.
    pub skip_dirs: Vec<PathBuf>,
    /// How deep folders may be nested below the root; each costs an open folder while it is read.
    pub max_depth: usize,
    /// The longest path of a manifest, from the root on, in bytes.
    pub max_path_bytes: usize,
}

/// Patterns as the configuration means them: matched with a file's name or, where the pattern has a `/`, with its path
/// relative to the drop, without regard to the letter case. No `*` reaches over a `/`; `**` does.
///
/// # Errors
///
/// The pattern that is invalid, and why.
pub fn globs<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).case_insensitive(true).build()?);
    }
    set.build()
}

/// Whether a pattern matches this file or folder, by its name or by its path.
#[must_use]
pub fn matches(set: &GlobSet, name: &str, path: &str) -> bool {
    set.is_match(name) || set.is_match(path)
}
