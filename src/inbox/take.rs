//! Moves the files of a manifest from a drop into the work folder, and back where that does not succeed.
//!
//! Nothing is overwritten and no link is followed, on either side. What arrived is compared with what was checked. Each
//! call can be repeated after a crash. Files come sorted by path, so that each folder is opened once.
//!
//! *Durability.* Moves have reached the disk when [`FileMover::sync`] returns: the folders that files came into are synced
//! before those that they left.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::beneath::{Refusal, Root};
use crate::{
    durable::{Access, Folder, because, rename_without_replacing},
    file_identity::FileIdentity,
    killpoint, relative_path,
};

const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// For owner and group, as every folder that is made.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);

/// As every copy of a sender's file.
const COPY_MODE: u32 = 0o640;

/// A file that is to be moved: its path on both sides, what it was when it was checked, and its checksum with the seed
/// where that is known.
#[derive(Debug, Clone, Copy)]
pub struct FileToMove<'a> {
    /// Below the drop, and below the work folder.
    pub path: &'a str,
    /// What it was when it was checked.
    pub identity: &'a FileIdentity,
    /// Of its content, where that is known.
    pub checksum: Option<u64>,
    /// It is copied: another manifest needs it where it is.
    pub copied: bool,
}

/// Why a file could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It is gone.
    #[error("it went away while its manifest was taken")]
    Missing,
    /// It is not what was checked.
    #[error("it changed while its manifest was taken")]
    Changed,
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What became of a file that was to be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// It is in the drop.
    Done,
    /// It is not in the work folder: it was not moved.
    NotThere,
    /// Another file has its name in the drop, so it stays in the work folder.
    NameInUse,
}

/// Moves files between a drop and the work folder of one batch.
pub struct FileMover<'a> {
    drop: &'a Root,
    seed: u64,
    from: FolderChain,
    to: FolderChain,
    /// The batch's folder, as a path for messages.
    work: PathBuf,
}

impl<'a> FileMover<'a> {
    /// With the work folder `path` of `root`, which exists.
    ///
    /// # Errors
    ///
    /// Where the work folder cannot be opened.
    pub fn new(drop: &'a Root, (root, path): (&Root, &str), seed: u64) -> io::Result<Self> {
        let work = root.path().join(path);
        let mut chain = FolderChain::new(root.as_fd().try_clone_to_owned()?, root.path().to_owned());
        chain.enter(path, false).map_err(because("open the work folder", &work))?;
        let opened = chain.last().try_clone_to_owned()?;
        Ok(Self {
            drop,
            seed,
            from: FolderChain::new(drop.as_fd().try_clone_to_owned()?, drop.path().to_owned()),
            to: FolderChain::new(opened, work.clone()),
            work,
        })
    }

    /// Moves a file into the work folder. With `again` it may be there already.
    ///
    /// # Errors
    ///
    /// [`NotTaken`]; after [`NotTaken::Changed`] another file may have been moved, which is to be put back too.
    pub fn take(&mut self, file: FileToMove<'_>, again: bool) -> Result<(), NotTaken> {
        let (folder, name) = relative_path::split(file.path);
        let work = self.work.join(file.path);
        self.to.enter(folder, true).map_err(because("make the folder of", &work))?;
        if again && let Some(found) = stat(self.to.last(), name).map_err(because("look at", &work))? {
            self.arrived(file, &found)?;
            return Ok(self.forget_second_name(file, &found)?);
        }
        let path = self.drop.path().join(file.path);
        match self.from.enter(folder, false) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(NotTaken::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(NotTaken::Changed),
            Err(error) => return Err(because("open the folder of", &path)(error).into()),
        }
        let Some(found) = stat(self.from.last(), name).map_err(because("look at", &path))? else {
            return Err(NotTaken::Missing);
        };
        if !self.is_unchanged(file.identity, &found) {
            return Err(NotTaken::Changed);
        }
        killpoint::before("take", "file");
        if file.copied {
            self.copy(file, &work, again)?;
        } else {
            match rename_without_replacing(self.from.last(), name, self.to.last(), name) {
                Ok(()) => {}
                Err(Errno::NOENT) => return Err(NotTaken::Missing),
                Err(error) => return Err(because("move into the work folder", &path)(error).into()),
            }
        }
        killpoint::after("take", "file");
        match stat(self.to.last(), name).map_err(because("look at", &work))? {
            Some(found) => self.arrived(file, &found),
            None => Err(NotTaken::Missing),
        }
    }

    /// Makes the folder of a file in the work folder. As with [`FileMover::sync`], [`FileMover::sync_rest`] follows: a
    /// file that is moved into a folder whose own name is not on disk is lost with it.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn make_folder(&mut self, path: &str) -> io::Result<()> {
        let (folder, _) = relative_path::split(path);
        self.to.enter_syncing(folder, true).map_err(because("make the folder of", &self.work.join(path)))
    }

    /// Removes the old name of a file that arrived and is in the drop still: not every file system moves a file from one
    /// folder to another in one step, and a power loss came in between.
    fn forget_second_name(&mut self, file: FileToMove<'_>, found: &Stat) -> io::Result<()> {
        if !file.copied && self.is_in_drop(file.path, found)? {
            let (_, name) = relative_path::split(file.path);
            rustix::fs::unlinkat(self.from.last(), name, AtFlags::empty())
                .map_err(because("remove", &self.drop.path().join(file.path)))?;
        }
        Ok(())
    }

    /// Whether the name in the drop leads to this very file.
    fn is_in_drop(&mut self, path: &str, this: &Stat) -> io::Result<bool> {
        if !self.drop.keeps_numbers() {
            return Ok(false);
        }
        let (folder, name) = relative_path::split(path);
        let found = match self.from.enter(folder, false) {
            Ok(()) => stat(self.from.last(), name),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        };
        let found = found.map_err(because("look at", &self.drop.path().join(path)))?;
        Ok(found.is_some_and(|found| (found.st_dev, found.st_ino) == (this.st_dev, this.st_ino)))
    }

    /// Whether a file in the drop is what was checked, so that moving it makes sense.
    fn is_unchanged(&self, checked: &FileIdentity, now: &Stat) -> bool {
        let identity = FileIdentity::of(now);
        FileType::from_raw_mode(now.st_mode) == FileType::RegularFile && self.drop.is_as_it_was(checked, &identity)
    }

    /// Compares what arrived with what was checked. Where a file's number says nothing, its content is read.
    fn arrived(&self, file: FileToMove<'_>, found: &Stat) -> Result<(), NotTaken> {
        let work = self.work.join(file.path);
        let same = if file.copied {
            FileIdentity::of(found).bytes == file.identity.bytes
        } else {
            self.is_unchanged(file.identity, found)
        };
        if !same {
            return Err(NotTaken::Changed);
        }
        let Some(checksum) = file.checksum.filter(|_| file.copied || !self.drop.keeps_numbers()) else { return Ok(()) };
        let (_, name) = relative_path::split(file.path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = rustix::fs::openat(self.to.last(), name, flags, Mode::empty()).map_err(because("open", &work))?;
        let read = checksum_of(&mut File::from(opened), self.seed).map_err(because("read", &work))?;
        if read == checksum { Ok(()) } else { Err(NotTaken::Changed) }
    }

    /// Copies a file that another manifest needs in the drop. A hard link would change along with a file that is
    /// overwritten in place.
    fn copy(&self, file: FileToMove<'_>, work: &Path, again: bool) -> Result<(), NotTaken> {
        let (folder, name) = relative_path::split(file.path);
        let opened = match self.drop.open_file(file.path) {
            Ok(opened) if self.drop.is_as_it_was(file.identity, &opened.identity) => opened,
            Err(Refusal::Missing) => return Err(NotTaken::Missing),
            Err(Refusal::Io(error)) => return Err(because("open", &self.drop.path().join(file.path))(error).into()),
            Ok(_) | Err(Refusal::Unsafe(_)) => return Err(NotTaken::Changed),
        };
        let target = Folder::of(self.to.last().try_clone_to_owned()?, self.work.join(folder));
        // A process that was killed while it copied left a part, and the work folder was never removed.
        if again {
            target.sweep(name)?;
        }
        let draft = target.draft(name, Access::of_mode(COPY_MODE), |to| {
            let copied = io::copy(&mut &opened.file, to)?;
            if copied == file.identity.bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })?;
        killpoint::before("take", "copy");
        rename_without_replacing(target.as_fd(), &draft.name, target.as_fd(), name)
            .map_err(because("copy into the work folder", work))?;
        draft.keep();
        Ok(())
    }

    /// Removes what a process that was killed while it copied a file has left of the copy.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn forget_draft(&mut self, path: &str) -> io::Result<()> {
        let (folder, name) = relative_path::split(path);
        match self.to.enter(folder, false) {
            Ok(()) => Folder::of(self.to.last().try_clone_to_owned()?, self.work.join(folder)).sweep(name),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(because("open the folder of", &self.work.join(path))(error)),
        }
    }

    /// Whether a file of this path is in the work folder while another has its name in the drop.
    ///
    /// # Errors
    ///
    /// Where the system cannot say.
    pub fn is_displaced(&mut self, file: FileToMove<'_>) -> io::Result<bool> {
        let (folder, name) = relative_path::split(file.path);
        if file.copied || !there(&mut self.to, folder, name).map_err(because("look at", &self.work.join(file.path)))? {
            return Ok(false);
        }
        if let Some(found) = stat(self.to.last(), name)?
            && self.is_in_drop(file.path, &found)?
        {
            return Ok(false);
        }
        let there = there(&mut self.from, folder, name);
        there.map_err(because("look at", &self.drop.path().join(file.path)))
    }

    /// Puts a file back where it was, never over another.
    ///
    /// # Errors
    ///
    /// Where the system refuses; trying again later may help.
    pub fn put_back(&mut self, file: FileToMove<'_>) -> io::Result<PutBack> {
        let (folder, name) = relative_path::split(file.path);
        let (path, work) = (self.drop.path().join(file.path), self.work.join(file.path));
        if !there(&mut self.to, folder, name).map_err(because("look at", &work))? {
            return Ok(PutBack::NotThere);
        }
        let is_there_too = match stat(self.to.last(), name)? {
            Some(_) if file.copied => there(&mut self.from, folder, name).map_err(because("look at", &path))?,
            Some(found) => self.is_in_drop(file.path, &found)?,
            None => false,
        };
        if is_there_too {
            rustix::fs::unlinkat(self.to.last(), name, AtFlags::empty()).map_err(because("remove", &work))?;
            return Ok(PutBack::Done);
        }
        self.from.enter(folder, true).map_err(because("make the folder of", &path))?;
        killpoint::before("put_back", "file");
        let moved = rename_without_replacing(self.to.last(), name, self.from.last(), name);
        killpoint::after("put_back", "file");
        match moved {
            Ok(()) => Ok(PutBack::Done),
            Err(Errno::EXIST) => Ok(PutBack::NameInUse),
            Err(Errno::NOENT) => Ok(PutBack::NotThere),
            Err(error) => Err(because("move back", &path)(error)),
        }
    }

    /// Syncs the folder of each file on one side, each once for as long as the paths are sorted.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn sync(&mut self, side: Side, path: &str) -> io::Result<()> {
        let chain = match side {
            Side::Drop => &mut self.from,
            Side::Work => &mut self.to,
        };
        let (folder, _) = relative_path::split(path);
        match chain.enter_syncing(folder, false) {
            // Gone with all that was in it.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(because("sync the folder of", &chain.path.join(path))(error)),
        }
    }

    /// Syncs what [`FileMover::sync`] has left open.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub fn sync_rest(&mut self, side: Side) -> io::Result<()> {
        let chain = match side {
            Side::Drop => &mut self.from,
            Side::Work => &mut self.to,
        };
        let synced = chain.finish();
        synced.map_err(because("sync the folder", &chain.path))
    }
}

/// One of the two places that files are moved between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The drop.
    Drop,
    /// The batch's work folder.
    Work,
}

/// A folder and the folders on the way to the one that is used at present, each opened in the one before it.
struct FolderChain {
    path: PathBuf,
    base: OwnedFd,
    open: Vec<(String, OwnedFd)>,
    /// Whether each folder is synced when it is left.
    syncing: bool,
}

impl FolderChain {
    const fn new(base: OwnedFd, path: PathBuf) -> Self {
        Self { path, base, open: Vec::new(), syncing: false }
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.base.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// Opens the folder at `relative`, with `make` also where it is missing. No link is followed.
    fn enter(&mut self, relative: &str, make: bool) -> Result<(), Errno> {
        let names = relative.split('/').filter(|name| !name.is_empty());
        let shared = names.clone().zip(&self.open).take_while(|(name, (open, _))| name == open).count();
        while self.open.len() > shared {
            self.leave()?;
        }
        for name in names.skip(shared) {
            if make {
                match rustix::fs::mkdirat(self.last(), name, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            let fd = rustix::fs::openat(self.last(), name, OPEN_FOLDER, Mode::empty())?;
            self.open.push((name.to_owned(), fd));
        }
        Ok(())
    }

    fn enter_syncing(&mut self, relative: &str, make: bool) -> Result<(), Errno> {
        if !self.syncing {
            self.open.clear();
            self.syncing = true;
        }
        self.enter(relative, make)
    }

    fn leave(&mut self) -> Result<(), Errno> {
        match self.open.pop() {
            Some((_, folder)) if self.syncing => sync(&folder),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Errno> {
        while !self.open.is_empty() {
            self.leave()?;
        }
        self.syncing = false;
        sync(&self.base)
    }
}

fn sync(folder: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // Some network file systems know no fsync of a folder.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        synced => synced,
    }
}

fn stat(folder: BorrowedFd<'_>, name: &str) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn there(chain: &mut FolderChain, folder: &str, name: &str) -> Result<bool, Errno> {
    match chain.enter(folder, false) {
        Ok(()) => Ok(stat(chain.last(), name)?.is_some()),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum_of(file: &mut File, seed: u64) -> io::Result<u64> {
    let mut hash = xxhash_rust::xxh3::Xxh3::with_seed(seed);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.digest()),
            Ok(read) => hash.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes the work folder `name` of a batch in `work_dir`, which is made where it is missing.
///
/// # Errors
///
/// `AlreadyExists` where something is under its name; else with operation and path.
pub fn make_work_folder(drop: &Root, work_dir: &Path, name: &str) -> io::Result<()> {
    let parent = super::archive::folder_for(drop, work_dir, Access::of_mode(0))?;
    let path = work_dir.join(name);
    rustix::fs::mkdirat(parent.as_fd(), name, FOLDER_MODE).map_err(because("make the folder", &path))?;
    parent.sync()
}

/// How deep a work folder is searched; paths that are longer than a path may be are not made.
const MAX_DEPTH: usize = 2100;

/// Removes the folder `path` of `root` with all folders in it that are empty, and no file. Returns whether it is gone.
///
/// # Errors
///
/// With operation and path.
pub fn remove_empty_folders(root: &Root, path: &str) -> io::Result<bool> {
    let full = root.path().join(path);
    match root.open_parent(path) {
        Ok((parent, name)) => remove_empty(parent.as_fd(), &name, 0).map_err(because("remove the folder", &full)),
        Err(Refusal::Missing) => Ok(true),
        Err(refusal) => Err(io::Error::other(refusal)),
    }
}

fn remove_empty(parent: BorrowedFd<'_>, name: &str, depth: usize) -> Result<bool, Errno> {
    let folder = match rustix::fs::openat(parent, name, OPEN_FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut empty = depth < MAX_DEPTH;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_str();
        let Ok(name) = name else {
            empty = false;
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Unknown => stat(folder.as_fd(), name)?
                .is_some_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory),
            kind => kind == FileType::Directory,
        };
        empty &= is_folder && depth < MAX_DEPTH && remove_empty(folder.as_fd(), name, depth + 1)?;
    }
    if !empty {
        return Ok(false);
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The paths of all regular files below the folder `path` of `root`, relative to that folder.
///
/// # Errors
///
/// With operation and path.
pub fn files_below(root: &Root, path: &str) -> io::Result<Vec<String>> {
    let full = root.path().join(path);
    let mut files = Vec::new();
    let (parent, name) = match root.open_parent(path) {
        Ok(found) => found,
        Err(Refusal::Missing) => return Ok(files),
        Err(refusal) => return Err(io::Error::other(refusal)),
    };
    match rustix::fs::openat(&parent, name.as_str(), OPEN_FOLDER, Mode::empty()) {
        Ok(folder) => collect(folder.as_fd(), "", 0, &mut files).map_err(because("read the folder", &full))?,
        Err(Errno::NOENT) => {}
        Err(error) => return Err(because("open the folder", &full)(error)),
    }
    Ok(files)
}

fn collect(folder: BorrowedFd<'_>, path: &str, depth: usize, files: &mut Vec<String>) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        let Some(found) = stat(folder, name)? else { continue };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => files.push(relative_path::join(path, name)),
            FileType::Directory if depth < MAX_DEPTH => {
                let below = rustix::fs::openat(folder, name, OPEN_FOLDER, Mode::empty())?;
                collect(below.as_fd(), &relative_path::join(path, name), depth + 1, files)?;
            }
            _ => {}
        }
    }
    Ok(())
}
