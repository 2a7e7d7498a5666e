//! The archive: moves the files of ended batches into the done and failed folders, or removes them.
//!
//! Nothing is overwritten, neither in the drop nor in the archive: a taken name gets a number, and a file that is not
//! the one that was checked stays where it is. No link is followed below the drop or the target. Every call is
//! idempotent and can be repeated after a crash; the caller has the receipt on disk already.
//!
//! *Durability.* A move has reached the disk when the call returns, unless asked otherwise. Across file systems the copy
//! is on disk before the original goes; a crash in between leaves both, never neither.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Stat, Timespec, Timestamps},
    io::Errno,
};
use uuid::Uuid;

use super::{
    beneath::{Refusal, Root},
    mount,
};
use crate::{
    durable::{Access, Folder, because, rename_without_replacing},
    entry::RelativePath,
    file_identity::{self, FileIdentity},
    relative_path,
};

/// The permission bits of a copy: owner and group may read it, as with everything that is archived.
const COPY_MODE: u32 = 0o640;

/// Why a file could not be archived. It stays where it was.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The path is not one that may be touched.
    #[error("'{path}' is left alone: {reason}")]
    Unsafe {
        /// Relative to the drop, or to the target.
        path: String,
        /// A lower-case fragment.
        reason: &'static str,
    },
    /// The system refused; the error says operation and path. Trying again later may help.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where a file is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Archived {
    /// Here.
    Moved {
        /// Its new path, with the number that was added to it, if any.
        to: PathBuf,
    },
    /// It is not where it was expected: an earlier call moved it, or its sender took it back.
    Missing,
    /// Another file is under its name now, and was left there.
    Replaced,
}

/// The result of removing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It was not there.
    Missing,
    /// Another file is under its name now, and was left there.
    Replaced,
}

/// Renames within two folders, or fails with `XDEV`. Tests give another one.
type Rename<'a> = &'a dyn Fn(BorrowedFd<'_>, &str, BorrowedFd<'_>, &str) -> Result<(), Errno>;

/// Moves the file `relative` of a drop to `target_dir/target_relative`, or to its next free number: `x.1.pdf`.
///
/// Folders are made as needed, for owner and group only; no link is followed below the root or `home`, the drop. With `expected`, only that very file is moved, in the state in
/// which it was checked.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn put(
    root: &Root,
    relative: &str,
    expected: Option<&FileIdentity>,
    home: &Root,
    target_dir: &Path,
    target_relative: &str,
) -> Result<Archived, ArchiveError> {
    let archive = Archive { root, home, rename: &rename_without_replacing, sync: true };
    archive.put(relative, expected, &mut LastTarget::default(), target_dir, target_relative)
}

/// The folder that the last file was put into, open: most files go where the one before went.
#[derive(Default)]
pub struct LastTarget(Option<Folder>);

impl LastTarget {
    fn is(&self, path: &Path) -> bool {
        self.0.as_ref().is_some_and(|folder| folder.path() == path)
    }
}

/// Like [`put`], but the move may be lost in a crash until `durable::sync_dir` was called for
/// the folder that it was moved to and for the one that it came from: for settling many files at once.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn put_unsynced(
    root: &Root,
    relative: &str,
    expected: Option<&FileIdentity>,
    home: &Root,
    last: &mut LastTarget,
    target_dir: &Path,
    target_relative: &str,
) -> Result<Archived, ArchiveError> {
    let archive = Archive { root, home, rename: &rename_without_replacing, sync: false };
    archive.put(relative, expected, last, target_dir, target_relative)
}

/// The folder `path`, made where it is missing. The part of it that is in the drop is followed without links, because
/// partners may write there; so this is also the way to the folder of a receipt. What is made is given to the group of
/// `access`.
///
/// # Errors
///
/// With operation and path.
pub fn folder_for(root: &Root, path: &Path, access: Access) -> io::Result<Folder> {
    match path.strip_prefix(root.path()) {
        Ok(below) => {
            let below = below.to_str().ok_or_else(|| because("make the folder", path)(Errno::ILSEQ))?;
            Folder::open(root.path())?.child_for(below, access)
        }
        Err(_) => {
            mount::all_still_mounted(path).map_err(because("make the folder", path))?;
            Folder::create_for(path, access)
        }
    }
}

/// Removes the file `relative` of a drop. With `expected`, only that very file, in the state in which it was checked.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn remove(root: &Root, relative: &str, expected: Option<&FileIdentity>) -> Result<Removal, ArchiveError> {
    let Some(source) = SourceFile::find(root, relative)? else { return Ok(Removal::Missing) };
    if expected.is_some_and(|expected| !root.is_as_it_was(expected, &source.identity)) {
        return Ok(Removal::Replaced);
    }
    source.unlink()?;
    source.sync()?;
    Ok(Removal::Removed)
}

/// Removes the folder `relative` of a drop if nothing is in it, then likewise those above it, but never the drop itself
/// and never `floor`. Returns how many went.
///
/// # Errors
///
/// See [`ArchiveError`]; a folder that is not empty is no error.
pub fn prune_empty(root: &Root, relative: &str, floor: &str) -> Result<u32, ArchiveError> {
    let mut path = relative.to_owned();
    let mut gone = 0;
    while !path.is_empty() && path != floor {
        let (parent, name) = match root.open_parent(&path) {
            Ok(found) => found,
            Err(Refusal::Missing) => return Ok(gone),
            Err(refusal) => return Err(refused(refusal, root, &path)),
        };
        match rustix::fs::unlinkat(&parent, name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) => gone += 1,
            Err(Errno::NOENT) => {}
            // In use, not empty, or no folder at all: it stays.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY | Errno::NOTDIR) => return Ok(gone),
            Err(error) => return Err(because("remove the folder", &root.path().join(&path))(error).into()),
        }
        path = relative_path::parent(&path).to_owned();
    }
    Ok(gone)
}

struct Archive<'a> {
    root: &'a Root,
    /// The drop, where that is not the root.
    home: &'a Root,
    rename: Rename<'a>,
    sync: bool,
}

impl Archive<'_> {
    fn put(
        &self,
        relative: &str,
        expected: Option<&FileIdentity>,
        last: &mut LastTarget,
        target_dir: &Path,
        target_relative: &str,
    ) -> Result<Archived, ArchiveError> {
        let Some(source) = SourceFile::find(self.root, relative)? else { return Ok(Archived::Missing) };
        let settled = *expected.unwrap_or(&source.identity);
        if !self.root.is_as_it_was(&settled, &source.identity) {
            return Ok(Archived::Replaced);
        }
        let to = RelativePath::parse(target_relative)
            .map_err(|reason| ArchiveError::Unsafe { path: target_relative.to_owned(), reason })?;
        let (folders, name) = relative_path::split(to.as_str());
        let folder = if folders.is_empty() { target_dir.to_owned() } else { target_dir.join(folders) };
        let is_open = last.is(&folder);
        if !is_open {
            let trusted = if target_dir.starts_with(self.root.path()) { self.root } else { self.home };
            last.0 = Some(folder_for(trusted, target_dir, Access::of_mode(0))?.child(folders)?);
        }
        let Some(target) = &last.0 else { return Err(because("open the folder", &folder)(Errno::NOENT).into()) };

        let mut taken = String::new();
        let renamed = target.take(name, |free| {
            free.clone_into(&mut taken);
            (self.rename)(source.folder.as_fd(), &source.name, target.as_fd(), free)
        });
        let to = match renamed {
            Ok(to) => {
                if !self.is_settled(target, &taken, &settled)? {
                    return self.take_back(&source, target, &taken);
                }
                to
            }
            Err(Errno::XDEV) => match self.copy(&source, relative, &settled, target, name)? {
                Some(to) => to,
                None => return Ok(Archived::Replaced),
            },
            // The folder may have been removed since it was opened.
            Err(Errno::NOENT) if is_open => {
                last.0 = None;
                return self.put(relative, expected, last, target_dir, target_relative);
            }
            Err(Errno::NOENT) => return Ok(Archived::Missing),
            Err(error) => return Err(because("move away", &source.path)(error).into()),
        };
        if self.sync {
            target.sync()?;
            source.sync()?;
        }
        Ok(Archived::Moved { to })
    }

    /// Whether what was moved is what was checked before: a new file may have come under the name in between.
    fn is_settled(&self, target: &Folder, name: &str, settled: &FileIdentity) -> io::Result<bool> {
        let stat = rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(because("look at", &target.path().join(name)))?;
        Ok(self.root.is_as_it_was(settled, &FileIdentity::of(&stat)))
    }

    /// Puts a file that came meanwhile back under its name.
    fn take_back(&self, source: &SourceFile, target: &Folder, name: &str) -> Result<Archived, ArchiveError> {
        rename_without_replacing(target.as_fd(), name, source.folder.as_fd(), &source.name)
            .map_err(because("move back", &target.path().join(name)))?;
        Ok(Archived::Replaced)
    }

    /// Copies across file systems, then removes the original. `None` where the original is another file by now.
    fn copy(
        &self,
        source: &SourceFile,
        relative: &str,
        settled: &FileIdentity,
        target: &Folder,
        name: &str,
    ) -> Result<Option<PathBuf>, ArchiveError> {
        let opened = match self.root.open_file(relative) {
            Ok(opened) if self.root.is_as_it_was(settled, &opened.identity) => opened,
            Ok(_) | Err(Refusal::Missing) => return Ok(None),
            Err(refusal) => return Err(refused(refusal, self.root, relative)),
        };
        let path = target.path().join(name);
        // The same hidden name at each try: a process that was killed while it copied left a part under it.
        let draft = target.draft_as(name, hidden_name_for(settled), Access::of_mode(COPY_MODE), |to| {
            let copied = io::copy(&mut &opened.file, to)?;
            if copied == settled.bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })?;
        let now = FileIdentity::now(&opened.file).map_err(because("look at", &source.path))?;
        if !opened.identity.same_content(&now) {
            return Ok(None);
        }
        self.date(target, &draft.name, &source.stat).map_err(because("date", &path))?;
        let to = target
            .take(name, |free| rename_without_replacing(target.as_fd(), &draft.name, target.as_fd(), free))
            .map_err(because("put away", &path))?;
        draft.keep();
        // The copy must have its name on disk before the original loses its own, whatever the caller batches.
        target.sync()?;
        match rustix::fs::statat(&source.folder, source.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if self.root.is_as_it_was(settled, &FileIdentity::of(&stat)) => source.unlink()?,
            // A new file came under the name after the copy was made; it is left for the next manifest.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(because("look at", &source.path)(error).into()),
        }
        Ok(Some(to))
    }

    /// Gives a copy the date of its original.
    fn date(&self, target: &Folder, name: &str, original: &Stat) -> Result<(), Errno> {
        let time = |tv_sec, nanoseconds: u64| Timespec { tv_sec, tv_nsec: nanoseconds.try_into().unwrap_or(0) };
        let times = Timestamps {
            last_access: time(original.st_atime, original.st_atime_nsec),
            last_modification: time(original.st_mtime, original.st_mtime_nsec),
        };
        rustix::fs::utimensat(target, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Distinguishes the copies of files that are put away under the same name.
fn hidden_name_for(file: &FileIdentity) -> Uuid {
    Uuid::from_u128(xxhash_rust::xxh3::xxh3_128(file_identity::write(file).as_bytes()))
}

/// A file in a drop, found by its name in its opened folder.
struct SourceFile {
    folder: OwnedFd,
    name: String,
    path: PathBuf,
    stat: Stat,
    identity: FileIdentity,
}

impl SourceFile {
    fn find(root: &Root, relative: &str) -> Result<Option<Self>, ArchiveError> {
        let path = root.path().join(relative);
        let (folder, name) = match root.open_parent(relative) {
            Ok(found) => found,
            Err(Refusal::Missing) => return Ok(None),
            Err(refusal) => return Err(refused(refusal, root, relative)),
        };
        match rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(because("look at", &path)(error).into()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                Err(ArchiveError::Unsafe { path: relative.to_owned(), reason: "it is no regular file" })
            }
            Ok(stat) => Ok(Some(Self { folder, name, path, stat, identity: FileIdentity::of(&stat) })),
        }
    }

    fn unlink(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(because("remove", &self.path)(error)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.folder) {
            // As in a target folder, some network file systems cannot.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(because("sync the folder of", &self.path)(error)),
        }
    }
}

fn refused(refusal: Refusal, root: &Root, relative: &str) -> ArchiveError {
    match refusal {
        Refusal::Unsafe(reason) => ArchiveError::Unsafe { path: relative.to_owned(), reason },
        Refusal::Missing => because("open", &root.path().join(relative))(Errno::NOENT).into(),
        Refusal::Io(error) => because("open", &root.path().join(relative))(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink};

    use tempfile::TempDir;

    use super::*;

    struct Place {
        drop: TempDir,
        root: Root,
    }

    impl Place {
        fn with(files: &[&str]) -> Self {
            let drop = tempfile::tempdir().unwrap();
            for file in files {
                let path = drop.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let root = Root::open(drop.path()).unwrap();
            Self { drop, root }
        }

        fn at(&self, relative: &str) -> PathBuf {
            self.drop.path().join(relative)
        }

        fn read(&self, relative: &str) -> String {
            fs::read_to_string(self.at(relative)).unwrap()
        }

        fn identity(&self, relative: &str) -> FileIdentity {
            self.root.open_file(relative).unwrap().identity
        }

        fn put(&self, relative: &str, expected: Option<&FileIdentity>) -> Result<Archived, ArchiveError> {
            put(&self.root, relative, expected, &self.root, &self.at("done"), &format!("2026-11-22/{relative}"))
        }

        fn archive_by(&self, relative: &str, target: &Path, rename: Rename<'_>) -> Result<Archived, ArchiveError> {
            let expected = self.identity(relative);
            Archive { root: &self.root, home: &self.root, rename, sync: true }.put(
                relative,
                Some(&expected),
                &mut LastTarget::default(),
                target,
                relative,
            )
        }

        fn moved(&self, relative: &str) -> Result<Archived, ArchiveError> {
            Ok(Archived::Moved { to: self.at(relative) })
        }
    }

    fn same(one: Result<Archived, ArchiveError>, other: Result<Archived, ArchiveError>) {
        assert_eq!(one.unwrap(), other.unwrap());
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_settled_file_moves_and_the_second_call_finds_it_gone() {
        let place = Place::with(&["17/front.jpg"]);
        let expected = place.identity("17/front.jpg");
        same(place.put("17/front.jpg", Some(&expected)), place.moved("done/2026-11-22/17/front.jpg"));
        assert_eq!(place.read("done/2026-11-22/17/front.jpg"), "17/front.jpg");
        assert!(!place.at("17/front.jpg").exists());
        same(place.put("17/front.jpg", Some(&expected)), Ok(Archived::Missing));
    }

    #[test]
    fn a_folder_that_is_removed_between_two_files_is_made_again() {
        let place = Place::with(&["a.jpg", "b.jpg"]);
        let (root, done, mut last) = (&place.root, place.at("done"), LastTarget::default());
        let mut put = |name: &str| put_unsynced(root, name, None, root, &mut last, &done, name);
        same(put("a.jpg"), Ok(Archived::Moved { to: done.join("a.jpg") }));
        fs::remove_dir_all(&done).unwrap();
        same(put("b.jpg"), Ok(Archived::Moved { to: done.join("b.jpg") }));
        same(put("b.jpg"), Ok(Archived::Missing));
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let place = Place::with(&["a.manifest.json", "done/2026-11-22/a.manifest.json"]);
        same(place.put("a.manifest.json", None), place.moved("done/2026-11-22/a.manifest.1.json"));
        assert_eq!(place.read("done/2026-11-22/a.manifest.json"), "done/2026-11-22/a.manifest.json");
        fs::write(place.at("a.manifest.json"), "third").unwrap();
        same(place.put("a.manifest.json", None), place.moved("done/2026-11-22/a.manifest.2.json"));
    }

    #[test]
    fn another_file_under_the_name_stays() {
        let place = Place::with(&["a.jpg"]);
        let expected = place.identity("a.jpg");
        fs::write(place.at("new"), "another one").unwrap();
        fs::remove_file(place.at("a.jpg")).unwrap();
        fs::hard_link(place.at("new"), place.at("a.jpg")).unwrap();
        same(place.put("a.jpg", Some(&expected)), Ok(Archived::Replaced));
        assert_eq!(remove(&place.root, "a.jpg", Some(&expected)).unwrap(), Removal::Replaced);
        assert_eq!(place.read("a.jpg"), "another one");
    }

    #[test]
    fn a_file_that_was_written_to_since_stays() {
        let place = Place::with(&["a.jpg"]);
        let expected = place.identity("a.jpg");
        fs::File::options().append(true).open(place.at("a.jpg")).unwrap().write_all(b"more").unwrap();
        same(place.put("a.jpg", Some(&expected)), Ok(Archived::Replaced));
        assert_eq!(place.read("a.jpg"), "a.jpgmore");
    }

    #[test]
    fn a_file_that_comes_at_the_last_moment_is_put_back() {
        let place = Place::with(&["a.jpg"]);
        let late = |from: BorrowedFd<'_>, old: &str, to: BorrowedFd<'_>, new: &str| {
            fs::remove_file(place.at("a.jpg")).unwrap();
            fs::write(place.at("a.jpg"), "the late one").unwrap();
            rename_without_replacing(from, old, to, new)
        };
        same(place.archive_by("a.jpg", &place.at("done"), &late), Ok(Archived::Replaced));
        assert_eq!(place.read("a.jpg"), "the late one");
        assert!(names(&place.at("done")).is_empty());
    }

    fn across(_: BorrowedFd<'_>, _: &str, _: BorrowedFd<'_>, _: &str) -> Result<(), Errno> {
        Err(Errno::XDEV)
    }

    #[test]
    fn across_file_systems_a_file_is_copied_completely_with_its_date() {
        let place = Place::with(&["a.jpg", "done/a.jpg"]);
        let dated = fs::metadata(place.at("a.jpg")).unwrap().modified().unwrap();
        same(place.archive_by("a.jpg", &place.at("done"), &across), place.moved("done/a.1.jpg"));
        assert_eq!(place.read("done/a.1.jpg"), "a.jpg");
        assert_eq!(fs::metadata(place.at("done/a.1.jpg")).unwrap().modified().unwrap(), dated);
        assert!(!place.at("a.jpg").exists());
        assert_eq!(names(&place.at("done")), ["a.1.jpg", "a.jpg"]);
    }

    #[test]
    fn what_a_killed_process_had_copied_is_written_over() {
        let place = Place::with(&["a.jpg", "done/other"]);
        let target = folder_for(&place.root, &place.at("done"), Access::of_mode(0)).unwrap();
        let hidden = hidden_name_for(&place.identity("a.jpg"));
        target.draft_as("a.jpg", hidden, Access::of_mode(COPY_MODE), |to| to.write_all(b"a part")).unwrap().keep();
        assert_eq!(names(&place.at("done")).len(), 2);
        same(place.archive_by("a.jpg", &place.at("done"), &across), place.moved("done/a.jpg"));
        assert_eq!(names(&place.at("done")), ["a.jpg", "other"]);
        assert_eq!(place.read("done/a.jpg"), "a.jpg");
    }

    #[test]
    fn across_real_file_systems_too_where_there_are_two() {
        let place = Place::with(&["a.jpg"]);
        let Ok(shared) = tempfile::tempdir_in("/dev/shm") else { return };
        let target = shared.path().join("done");
        let result = put(&place.root, "a.jpg", None, &place.root, &target, "2026-11-22/a.jpg");
        same(result, Ok(Archived::Moved { to: target.join("2026-11-22/a.jpg") }));
        assert_eq!(names(&target.join("2026-11-22")), ["a.jpg"]);
        assert_eq!(fs::read(target.join("2026-11-22/a.jpg")).unwrap(), b"a.jpg");
        assert!(!place.at("a.jpg").exists());
    }

    #[test]
    fn a_file_that_changes_before_its_copy_stays_and_leaves_no_copy() {
        let place = Place::with(&["a.jpg"]);
        let late = |_: BorrowedFd<'_>, _: &str, _: BorrowedFd<'_>, _: &str| {
            fs::write(place.at("a.jpg"), "the late one").unwrap();
            Err(Errno::XDEV)
        };
        same(place.archive_by("a.jpg", &place.at("done"), &late), Ok(Archived::Replaced));
        assert_eq!(place.read("a.jpg"), "the late one");
        assert!(names(&place.at("done")).is_empty());
    }

    #[test]
    fn a_full_disk_is_reported_and_the_file_stays() {
        let place = Place::with(&["a.jpg"]);
        let full = |_: BorrowedFd<'_>, _: &str, _: BorrowedFd<'_>, _: &str| Err(Errno::NOSPC);
        let error = place.archive_by("a.jpg", &place.at("done"), &full).unwrap_err();
        assert!(matches!(&error, ArchiveError::Io(io) if io.kind() == io::ErrorKind::StorageFull), "{error:?}");
        assert!(error.to_string().contains("a.jpg"), "{error}");
        assert_eq!(place.read("a.jpg"), "a.jpg");
    }

    #[test]
    fn links_lead_neither_out_of_the_drop_nor_out_of_the_target() {
        let place = Place::with(&["a.jpg", "in/b.jpg"]);
        let outside = Place::with(&["c.jpg"]);
        symlink(outside.drop.path(), place.at("out")).unwrap();
        symlink(outside.at("c.jpg"), place.at("link.jpg")).unwrap();
        symlink(outside.drop.path(), place.at("done")).unwrap();
        for path in ["out/c.jpg", "link.jpg", "../x", "in"] {
            let result = put(&place.root, path, None, &place.root, &place.at("kept"), "x.jpg");
            assert!(matches!(result, Err(ArchiveError::Unsafe { .. })), "{path}: {result:?}");
            let result = remove(&place.root, path, None);
            assert!(matches!(result, Err(ArchiveError::Unsafe { .. })), "{path}: {result:?}");
        }
        assert!(place.put("a.jpg", None).is_err());
        assert!(put(&place.root, "a.jpg", None, &place.root, &place.at("kept"), "../a.jpg").is_err());
        assert_eq!(names(outside.drop.path()), ["c.jpg"]);
        assert_eq!(place.read("a.jpg"), "a.jpg");
    }

    #[test]
    fn a_file_is_removed_once() {
        let place = Place::with(&["17/a.jpg"]);
        let expected = place.identity("17/a.jpg");
        assert_eq!(remove(&place.root, "17/a.jpg", Some(&expected)).unwrap(), Removal::Removed);
        assert_eq!(remove(&place.root, "17/a.jpg", Some(&expected)).unwrap(), Removal::Missing);
        assert_eq!(remove(&place.root, "none/a.jpg", None).unwrap(), Removal::Missing);
    }

    #[test]
    fn only_empty_folders_are_pruned_and_never_the_drop() {
        let place = Place::with(&["a/b/c/x.jpg", "a/y.jpg"]);
        assert_eq!(prune_empty(&place.root, "a/b/c", "").unwrap(), 0);
        remove(&place.root, "a/b/c/x.jpg", None).unwrap();
        assert_eq!(prune_empty(&place.root, "a/b/c", "").unwrap(), 2);
        assert_eq!(names(&place.at("a")), ["y.jpg"]);
        remove(&place.root, "a/y.jpg", None).unwrap();
        assert_eq!(prune_empty(&place.root, "a", "").unwrap(), 1);
        assert!(place.root.still_there().unwrap());
        assert_eq!(prune_empty(&place.root, "a", "").unwrap(), 0);
    }
}
