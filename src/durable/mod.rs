//! Files that are written once, atomically, and are on disk when the call returns.
//!
//! A reader sees the complete file under its name or no file. An existing file is never replaced: the call fails, or
//! takes the next free number. For receipts and archived files, not for data that changes, which belongs in the
//! database.
//!
//! *Durability.* The content is synced before the name appears, and the folder after that, so a crash leaves the old
//! state, the new one, or a hidden `.….tmp` beside it, which no scan takes for a manifest.

mod access;
pub mod file_system;
mod folder;
mod names;
mod probe;
mod replaceable;

use std::{fmt, io, path::Path};

pub use self::{
    access::{Access, group_of, may_give_to},
    folder::Folder,
    names::{fit, number_of, numbered},
};
pub(crate) use self::{folder::rename_without_replacing, replaceable::OwnText};

use crate::printable::escape;

/// Brings the names in `dir` to disk.
///
/// # Errors
///
/// With operation and path.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    Folder::open(dir)?.sync()
}

/// Adds operation and path to an error and keeps its kind, by which callers distinguish a full disk from a lost mount.
pub(crate) fn because<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {operation} '{}': {error}", Printable(path)))
    }
}

/// A path that is safe to show: names in a drop are chosen by strangers.
struct Printable<'a>(&'a Path);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsFd as _, path::PathBuf};

    use super::{names::MAX_NAME_BYTES, *};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn publish(
        dir: &Path,
        name: &str,
        mode: u32,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        Folder::create(dir)?.publish(name, Access::of_mode(mode), write)
    }

    /// Gives a file this name, or the next free number of it, as archiving does.
    fn take_number(dir: &Path, name: &str, content: &str) {
        let folder = Folder::open(dir).unwrap();
        std::fs::write(dir.join("draft"), content).unwrap();
        let rename = |free: &str| rename_without_replacing(folder.as_fd(), "draft", folder.as_fd(), free);
        folder.take(name, rename).unwrap();
    }

    #[test]
    fn a_published_file_is_there_complete_and_alone() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("receipts/a");
        let path = publish(&dir, "b.receipt.json", 0o640, |to| to.write_all(b"{}")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        assert_eq!(path, dir.join("b.receipt.json"));
        assert_eq!(names(&dir), ["b.receipt.json"]);
    }

    #[test]
    fn an_existing_file_is_left_untouched() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("r.json"), "old").unwrap();
        let error = publish(place.path(), "r.json", 0o640, |to| to.write_all(b"new")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("r.json"), "{error}");
        assert_eq!(std::fs::read(place.path().join("r.json")).unwrap(), b"old");
        assert_eq!(names(place.path()), ["r.json"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let error = publish(place.path(), "r.json", 0o640, |to| {
            to.write_all(b"half of it")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        assert!(names(place.path()).is_empty());
    }

    #[test]
    fn a_number_is_added_before_the_last_extension() {
        let place = tempfile::tempdir().unwrap();
        for round in 0..40 {
            take_number(place.path(), "r.json", &round.to_string());
        }
        let names = names(place.path());
        assert_eq!(names.len(), 40);
        assert!(names.contains(&"r.1.json".to_owned()), "{names:?}");
        let mut contents: Vec<u32> = names
            .iter()
            .map(|name| std::fs::read_to_string(place.path().join(name)).unwrap().parse().unwrap())
            .collect();
        contents.sort_unstable();
        assert_eq!(contents, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_name_can_be_published_and_numbered() {
        let place = tempfile::tempdir().unwrap();
        let name = format!("{}.json", "é".repeat(125));
        assert_eq!(name.len(), MAX_NAME_BYTES);
        publish(place.path(), &name, 0o640, |_| Ok(())).unwrap();
        take_number(place.path(), &name, "");
        assert_eq!(names(place.path()).len(), 2);
    }

    #[test]
    fn a_link_is_not_followed_below_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), place.path().join("receipts")).unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let error = folder.child("receipts/a").unwrap_err();
        assert!(error.to_string().contains("receipts"), "{error}");
        assert!(folder.child("../x").is_err());
        assert!(names(elsewhere.path()).is_empty());
    }

    #[test]
    fn errors_escape_what_strangers_named() {
        let error = sync_dir(Path::new("/no/such\nfolder\u{1b}[2J")).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
    }
}
