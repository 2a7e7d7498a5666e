//! Paths below a drop as text: with single slashes, and empty for the folder itself.

use std::path::Path;

/// A folder and a path below it, where either may be empty.
#[must_use]
pub fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// The folder that a path is in.
#[must_use]
pub fn parent(path: &str) -> &str {
    split(path).0
}

/// The last part of a path.
#[must_use]
pub fn name(path: &str) -> &str {
    split(path).1
}

/// A path as its folder and its name.
#[must_use]
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A hash of a file's location, for finding other batches that name it. Collisions only keep a file a little longer.
///
/// It is the same wherever the border between `root`, `folder` and `path` is drawn, except within `root`.
#[must_use]
pub fn path_key(root: &Path, folder: &str, path: &str) -> i64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(root.as_os_str().as_encoded_bytes());
    for part in [folder, path].into_iter().flat_map(|path| path.split('/')).filter(|part| !part.is_empty()) {
        hash.update(b"/");
        hash.update(part.as_bytes());
    }
    hash.digest().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_as_it_was_taken_apart() {
        for (path, folder, last) in [("a/b/c.png", "a/b", "c.png"), ("c.png", "", "c.png"), ("", "", "")] {
            assert_eq!((parent(path), name(path)), (folder, last), "{path}");
            assert_eq!(join(folder, last), path);
        }
    }

    #[test]
    fn the_key_of_a_path_distinguishes_files_and_not_spellings() {
        let key = |folder, path| path_key(Path::new("/srv/in"), folder, path);
        assert_eq!(key("a", "b/c.png"), key("", "a/b/c.png"));
        assert_eq!(key("a/b", "c.png"), key("a//b", "c.png"));
        assert_ne!(key("a", "bc.png"), key("ab", "c.png"));
        assert_ne!(key("", "c.png"), path_key(Path::new("/srv/other"), "", "c.png"));
    }
}
