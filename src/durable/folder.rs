//! An opened folder into which files are put, so that nobody can put another one under its path.
//!
//! The path with which a folder is opened comes from the configuration and is trusted; everything below it is not,
//! because `done` and `receipts` are usually in a folder that a partner may write to. Below it no link is followed.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RenameFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{Access, because, names};
use crate::killpoint;

const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// No access for other users: the folder holds identity documents.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);

/// How often another name is chosen when somebody else takes the free one that was found.
const TRIES: u32 = 16;

/// A folder that files are put into.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that exists.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OPEN_FOLDER, Mode::empty()).map_err(because("open the folder", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a folder, made with its parents where it is missing, each for owner and group only (0750).
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_for(path, Access::of_mode(0))
    }

    /// The same, with those that are made given to the group that is to read what is put into them.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn create_for(path: &Path, access: Access) -> io::Result<Self> {
        match rustix::fs::open(path, OPEN_FOLDER, Mode::empty()) {
            Ok(fd) => return Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(because("open the folder", path)(error)),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(because("make the folder", path)(Errno::INVAL));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = Self::create_for(parent, access)?;
        match rustix::fs::mkdirat(&parent.fd, name, FOLDER_MODE) {
            Ok(()) => {
                let made = Self::open(path)?;
                access.give(&made.fd, FOLDER_MODE.as_raw_mode()).map_err(because("make the folder", path))?;
                parent.sync()?;
                Ok(made)
            }
            Err(Errno::EXIST) => Self::open(path),
            Err(error) => Err(because("make the folder", path)(error)),
        }
    }

    /// The folder at `relative` below this one, made where it is missing; no link is followed. Empty is this folder.
    ///
    /// # Errors
    ///
    /// With operation and path; `InvalidInput` where `relative` has a `..` or is absolute.
    pub fn child(&self, relative: &str) -> io::Result<Self> {
        self.child_for(relative, Access::of_mode(0))
    }

    /// The same, with those that are made given to the group that is to read what is put into them.
    ///
    /// # Errors
    ///
    /// As [`Self::child`].
    pub fn child_for(&self, relative: &str, access: Access) -> io::Result<Self> {
        let mut folder =
            Self { fd: self.fd.try_clone().map_err(because("open the folder", &self.path))?, path: self.path.clone() };
        if relative.starts_with('/') || relative.split('/').any(|component| component == "..") {
            return Err(because("make the folder", &self.path.join(relative))(Errno::INVAL));
        }
        for name in relative.split('/').filter(|name| !name.is_empty() && *name != ".") {
            let path = folder.path.join(name);
            let made = match rustix::fs::mkdirat(&folder.fd, name, FOLDER_MODE) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(because("make the folder", &path)(error)),
            };
            let fd = rustix::fs::openat(&folder.fd, name, OPEN_FOLDER | OFlags::NOFOLLOW, Mode::empty())
                .map_err(because("open the folder, without following a link,", &path))?;
            if made {
                access.give(&fd, FOLDER_MODE.as_raw_mode()).map_err(because("make the folder", &path))?;
                folder.sync()?;
            }
            folder = Self { fd, path };
        }
        Ok(folder)
    }

    /// A folder that is open already; `path` is for messages.
    pub(crate) const fn of(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// The path with which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings the names in it to disk.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.fd) {
            // Some network file systems know no fsync of a folder; there is nothing better to do on them.
            Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(because("sync the folder", &self.path)(error)),
        }
    }

    /// Writes the file `name` under a temporary name, syncs and renames it, and returns its path.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` where the name is taken; that file stays as it is. Any other failure names operation and path, and
    /// leaves no temporary file behind.
    pub fn publish(
        &self,
        name: &str,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.publish_as("publish", name, access, write)
    }

    /// As [`Self::publish`], of a kind of file that has its own places in [`killpoint`].
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub(crate) fn publish_as(
        &self,
        kind: &str,
        name: &str,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.publish_before(kind, name, access, write)?;
        self.sync()?;
        killpoint::after(kind, "sync");
        Ok(self.path.join(name))
    }

    /// As [`Self::publish_as`], of a file after which another one is published in the folder: its name is on disk once that
    /// one's is.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub(crate) fn publish_before(
        &self,
        kind: &str,
        name: &str,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        killpoint::before(kind, "write");
        let draft = self.draft(name, access, write)?;
        killpoint::after(kind, "write");
        self.rename_draft(draft, name)?;
        killpoint::after(kind, "rename");
        Ok(())
    }

    /// As [`Self::publish`], for what is no receipt: it has no places of its own in [`killpoint`].
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub(crate) fn publish_quietly(
        &self,
        name: &str,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.give_name(self.draft(name, access, write)?, name)
    }

    /// The same, of a file that `write` fills by its path; it is empty by then.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`], and those of `write`.
    pub(crate) fn publish_by_path<E: From<io::Error>>(
        &self,
        name: &str,
        access: Access,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let draft = self.draft(name, access, |_| Ok(()))?;
        let path = self.path.join(&draft.name);
        write(&path)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(because("sync", &path))?;
        Ok(self.give_name(draft, name)?)
    }

    fn give_name(&self, draft: Draft<'_>, name: &str) -> io::Result<()> {
        self.rename_draft(draft, name)?;
        self.sync()
    }

    /// Gives a draft this name, where it is free.
    pub(super) fn rename_draft(&self, draft: Draft<'_>, name: &str) -> io::Result<()> {
        rename_without_replacing(self.as_fd(), &draft.name, self.as_fd(), name)
            .map_err(because("publish", &self.path.join(name)))?;
        draft.keep();
        Ok(())
    }

    /// Removes what [`Self::publish`] of this name left under temporary names when its process was killed.
    ///
    /// The caller must ensure that nobody else publishes this name at the same time.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn sweep(&self, name: &str) -> io::Result<()> {
        let listing = rustix::fs::Dir::read_from(&self.fd).map_err(because("read the folder", &self.path))?;
        let (start, end) = draft_name_around(name);
        for entry in listing {
            let entry = entry.map_err(because("read the folder", &self.path))?;
            let Ok(found) = entry.file_name().to_str() else { continue };
            let middle = found.strip_prefix(start.as_str()).and_then(|rest| rest.strip_suffix(end));
            if middle.is_some_and(|middle| Uuid::try_parse(middle).is_ok()) {
                match rustix::fs::unlinkat(&self.fd, found, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(because("remove", &self.path.join(found))(error)),
                }
            }
        }
        Ok(())
    }

    /// Gives `rename` free names that are like `name` until it takes one, and returns the path that it took.
    pub(crate) fn take(&self, name: &str, mut rename: impl FnMut(&str) -> Result<(), Errno>) -> Result<PathBuf, Errno> {
        let mut free = name.to_owned();
        for _ in 0..TRIES {
            match rename(&free) {
                Ok(()) => return Ok(self.path.join(free)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let Some(n) = names::free_number(|n| self.taken(&names::numbered(name, n)))? else { break };
            free = names::numbered(name, n);
        }
        Err(Errno::EXIST)
    }

    fn taken(&self, name: &str) -> Result<bool, Errno> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes and syncs a file under a hidden name, which goes away with the value unless it is kept.
    pub(crate) fn draft(
        &self,
        name: &str,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Draft<'_>> {
        self.write_draft(hidden_name(name, Uuid::new_v4()), access, true, write)
    }

    /// The same with a hidden name that the caller chooses, in the place of what a process left there that was killed.
    pub(crate) fn draft_as(
        &self,
        name: &str,
        middle: Uuid,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Draft<'_>> {
        self.draft_in_place(name, middle, access, true, write)
    }

    /// The same, without waiting for the disk.
    pub(super) fn unsynced_draft(
        &self,
        name: &str,
        middle: Uuid,
        access: Access,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Draft<'_>> {
        self.draft_in_place(name, middle, access, false, write)
    }

    fn draft_in_place(
        &self,
        name: &str,
        middle: Uuid,
        access: Access,
        is_synced: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Draft<'_>> {
        let draft_name = hidden_name(name, middle);
        match rustix::fs::unlinkat(&self.fd, draft_name.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(because("remove", &self.path.join(&draft_name))(error)),
        }
        self.write_draft(draft_name, access, is_synced, write)
    }

    fn write_draft(
        &self,
        draft_name: String,
        access: Access,
        is_synced: bool,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Draft<'_>> {
        let path = self.path.join(&draft_name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, draft_name.as_str(), flags, Mode::from_raw_mode(access.mode & 0o777))
            .map_err(because("create", &path))?;
        let draft = Draft { folder: self, name: draft_name, kept: false };
        access.give(&fd, access.mode).map_err(because("create", &path))?;
        let mut to = BufWriter::with_capacity(64 * 1024, File::from(fd));
        write(&mut to).and_then(|()| to.flush()).map_err(because("write", &path))?;
        if is_synced {
            to.get_ref().sync_all().map_err(because("sync", &path))?;
        }
        Ok(draft)
    }
}

pub(super) fn hidden_name(name: &str, middle: Uuid) -> String {
    let (start, end) = draft_name_around(name);
    format!("{start}{}{end}", middle.simple())
}

/// What surrounds the middle of a temporary name.
fn draft_name_around(name: &str) -> (String, &'static str) {
    let end = ".tmp";
    let room = "0".repeat(uuid::fmt::Simple::LENGTH + 1) + end;
    let start = names::fit(&format!(".{name}"), &room);
    (start.strip_suffix(&room).unwrap_or(&start).to_owned() + ".", end)
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file under a temporary name, removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    folder: &'a Folder,
    pub(crate) name: String,
    kept: bool,
}

impl Draft<'_> {
    /// Records that the file has got its name and is to stay.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // The error that brought us here is the one to report; a leftover is hidden and harmless.
            rustix::fs::unlinkat(&self.folder.fd, self.name.as_str(), AtFlags::empty()).ok();
        }
    }
}

/// Renames a file where the new name is free, atomically wherever the file system can do it.
///
/// # Errors
///
/// `EXIST` where the name is taken, `XDEV` across file systems.
pub(crate) fn rename_without_replacing(
    from: BorrowedFd<'_>,
    old: &str,
    to: BorrowedFd<'_>,
    new: &str,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // NFS and older FUSE file systems know no such flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => rename_by_link(from, old, to, new),
        done => done,
    }
}

/// A hard link fails where the name is taken, so it serves where the flag is missing.
fn rename_by_link(from: BorrowedFd<'_>, old: &str, to: BorrowedFd<'_>, new: &str) -> Result<(), Errno> {
    match rustix::fs::linkat(from, old, to, new, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(from, old, AtFlags::empty()),
        // CIFS has neither. The window between check and rename is ours alone: nobody else names files here.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {
            match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(from, old, to, new),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_by_link_replaces_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        std::fs::write(place.path().join("a"), "a").unwrap();
        std::fs::write(place.path().join("b"), "b").unwrap();
        assert_eq!(rename_by_link(folder.as_fd(), "a", folder.as_fd(), "b"), Err(Errno::EXIST));
        rename_by_link(folder.as_fd(), "a", folder.as_fd(), "c").unwrap();
        assert_eq!(std::fs::read(place.path().join("b")).unwrap(), b"b");
        assert_eq!(std::fs::read(place.path().join("c")).unwrap(), b"a");
        assert!(!place.path().join("a").exists());
    }

    #[test]
    fn only_what_a_kill_left_of_this_very_name_is_swept_away() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in ["r.json", &"ü".repeat(127)] {
            // What a killed process leaves is a draft that nobody dropped.
            std::mem::forget(folder.draft(name, Access::of_mode(0o640), |_| Ok(())).unwrap());
            std::mem::forget(folder.draft(&format!("x{name}"), Access::of_mode(0o640), |_| Ok(())).unwrap());
        }
        for other in [".r.json.notes.tmp", "r.json", ".r.json.tmp"] {
            std::fs::write(place.path().join(other), "").unwrap();
        }
        folder.sweep("r.json").unwrap();
        folder.sweep(&"ü".repeat(127)).unwrap();
        let mut left: Vec<String> =
            std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left.len(), 5, "{left:#?}");
        assert!(left.iter().filter(|name| name.ends_with(".tmp")).all(|n| n.starts_with(".x") || n.len() < 20));
    }

    #[test]
    fn a_name_that_is_taken_meanwhile_is_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let mut asked = Vec::new();
        let path = folder.take("r.json", |free| {
            asked.push(free.to_owned());
            if asked.len() == 1 {
                std::fs::write(place.path().join(free), "somebody else's").unwrap();
                return Err(Errno::EXIST);
            }
            Ok(())
        });
        assert_eq!(path.unwrap(), place.path().join("r.1.json"));
        assert_eq!(asked, ["r.json", "r.1.json"]);
    }
}
