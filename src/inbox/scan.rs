//! Scans a drop folder for manifests.
//!
//! The scan is the truth about what is in a drop; events only say where to look. It opens each folder within the one
//! above it and follows no link, so it cannot be led out or in circles. Its memory does not grow with the number of files:
//! one folder a level is open, manifests are handed on one by one, and what is wrong is listed up to a limit. Whether a
//! manifest has settled is not decided here.

use std::{
    cell::OnceCell,
    collections::HashSet,
    ffi::{CStr, CString},
    fs::File,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    beneath::Root,
    hints::Hints,
    known_folders::KnownFolders,
    scan_rules::{ScanRules, matches},
};
use crate::{
    entry::RelativePath,
    file_identity::FileIdentity,
    printable::{escape, is_hidden},
    problem::Problem,
    receipt::{self, failed},
    relative_path::{self, join},
};

/// How many problems are listed; further ones are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// A manifest in the drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundManifest {
    /// Its path, relative to the drop; [`Root::open_file`] accepts it.
    pub path: String,
    /// What it was when it was seen. Compare this between scans to know whether it has settled.
    pub identity: FileIdentity,
}

/// A regular file in the drop that is neither ignored nor a manifest that can be read.
#[derive(Debug, Clone, Copy)]
pub struct OtherFile<'a> {
    /// Its path, relative to the drop; escaped where it is unnameable.
    pub path: &'a str,
    /// Why a file with a manifest's name is none: its path cannot be written into a manifest, a receipt or a log.
    pub unnameable: Option<&'static str>,
    folder: BorrowedFd<'a>,
    name: &'a CStr,
}

impl OtherFile<'_> {
    /// The last part of its path.
    #[must_use]
    pub fn name(&self) -> &str {
        relative_path::name(self.path)
    }

    /// What it is now; `None` where it is gone.
    #[must_use]
    pub fn identity(&self) -> Option<FileIdentity> {
        let stat = rustix::fs::statat(self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileIdentity::of(&stat))
    }

    /// Opens it, which an unnameable file cannot be by its path; `None` where it is gone, or no regular file any more.
    #[must_use]
    pub fn open(&self) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(rustix::fs::openat(self.folder, self.name, flags, Mode::empty()).ok()?);
        file.metadata().ok()?.is_file().then_some(file)
    }
}

/// What a scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// How many manifests were handed on.
    pub manifests: u64,
    /// How many folders were read, the root among them.
    pub folders: u64,
    /// How many files and folders were read.
    pub entries: u64,
    /// How many names are not UTF-8, and so cannot be a manifest's.
    pub not_utf8: u64,
    /// What is wrong, up to a limit; the scan continued after each.
    pub problems: Vec<Problem>,
    /// How many more problems there were.
    pub unlisted_problems: u64,
    /// Whether everything was seen: nobody ended the scan early, and every folder could be read. Only then is a
    /// manifest that was not found gone.
    pub complete: bool,
}

impl ScanReport {
    fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.unlisted_problems += 1;
        }
    }
}

/// Hands every manifest of a drop to `each`, until that breaks off.
///
/// # Errors
///
/// Where the root itself cannot be read, or is no longer what its path leads to; all else is in the report.
pub fn scan(
    root: &Root,
    rules: &ScanRules,
    each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
) -> io::Result<ScanReport> {
    scan_all(root, rules, each, &mut |_| {})
}

/// The same, and shows each other file to `other`.
///
/// # Errors
///
/// As [`scan`].
pub fn scan_all(
    root: &Root,
    rules: &ScanRules,
    each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
    other: &mut dyn FnMut(OtherFile<'_>),
) -> io::Result<ScanReport> {
    scan_whole(root, rules, &mut KnownFolders::default(), each, other)
}

/// The same, with what is known of the folders from earlier scans.
///
/// # Errors
///
/// As [`scan`].
pub fn scan_whole(
    root: &Root,
    rules: &ScanRules,
    known: &mut KnownFolders,
    each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
    other: &mut dyn FnMut(OtherFile<'_>),
) -> io::Result<ScanReport> {
    let mut scan = Scan::new(root, rules, known);
    let level = Level::of_root(root)?;
    scan.report.folders = 1;
    let whole = FolderPart { depth: 1, with_folders: true };
    let _all = scan.read(level, whole, each, other)?;
    scan.end()
}

/// Looks only at the names that hints are about.
///
/// The report is of these alone: that it is complete means that no other has gone.
///
/// # Errors
///
/// As [`scan`].
pub fn scan_hinted(
    root: &Root,
    rules: &ScanRules,
    known: &mut KnownFolders,
    hints: &Hints,
    each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
    other: &mut dyn FnMut(OtherFile<'_>),
) -> io::Result<ScanReport> {
    let mut scan = Scan::new(root, rules, known);
    for (folder, hinted) in hints.folders() {
        let (level, depth) = match scan.descend(folder)? {
            Descent::To(level, depth) => (level, depth),
            // It is new under this path, so nothing in it is known.
            Descent::New(level, depth) => {
                if scan.read(level, FolderPart { depth, with_folders: true }, each, other)?.is_break() {
                    break;
                }
                continue;
            }
            Descent::Nowhere => continue,
        };
        let files = (!hinted.all_files).then_some(&hinted.files).into_iter().flatten();
        for (name, is_folder) in hinted.folders.iter().map(|name| (name, true)).chain(files.map(|name| (name, false))) {
            let Ok(raw_name) = CString::new(name.as_str()) else { continue };
            let step = scan.look(&level, depth, &raw_name, FileType::Unknown, true);
            if is_folder && !matches!(step, FolderStep::Into(_)) {
                scan.known.forget(&join(&level.path, name));
            }
            if scan.take(step, (&level, &raw_name, depth), each, other)?.is_break() {
                return scan.end();
            }
        }
        if hinted.all_files && scan.read(level, FolderPart { depth, with_folders: false }, each, other)?.is_break() {
            break;
        }
    }
    scan.end()
}

/// An opened folder on the way down.
struct Level {
    fd: OwnedFd,
    /// Relative to the root; empty for it.
    path: String,
    /// What it was before it was read.
    identity: Option<FileIdentity>,
    /// Whether there are receipts in it, once that was asked.
    has_receipts: OnceCell<bool>,
}

impl Level {
    fn open(within: BorrowedFd<'_>, name: &CStr, path: String) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(within, name, flags, Mode::empty())?;
        Ok(Self { fd, path, identity: None, has_receipts: OnceCell::new() })
    }

    /// With a descriptor of its own, so that other readers of the root do not move our place in it.
    fn of_root(root: &Root) -> Result<Self, Errno> {
        Self::open(root.as_fd(), c".", String::new())
    }

    /// Whether there are receipts in it.
    fn has_receipts(&self) -> bool {
        *self.has_receipts.get_or_init(|| {
            let Ok(names) = Dir::read_from(&self.fd) else { return false };
            names.flatten().any(|entry| entry.file_name().to_str().is_ok_and(receipt::is_named_so))
        })
    }
}

/// A folder that is being read.
struct OpenLevel {
    level: Level,
    dir: Dir,
    entries: u64,
}

/// What to do after an entry of a folder.
enum FolderStep {
    On,
    Into(Level),
    /// The path, and why it is unnameable.
    Show(String, Option<&'static str>),
    Hand(FoundManifest),
}

/// Where a path of folders leads.
enum Descent {
    /// To this folder, whose entries are so deep.
    To(Level, usize),
    /// To this one, which is on the way and was not known.
    New(Level, usize),
    /// To none that is scanned.
    Nowhere,
}

/// What is read of a folder.
#[derive(Clone, Copy)]
struct FolderPart {
    /// How deep its entries are below the root.
    depth: usize,
    with_folders: bool,
}

struct Scan<'a> {
    root: &'a Root,
    rules: &'a ScanRules,
    known: &'a mut KnownFolders,
    /// Device and inode, because one folder can have several paths.
    skip: HashSet<(u64, u64)>,
    report: ScanReport,
}

impl<'a> Scan<'a> {
    fn new(root: &'a Root, rules: &'a ScanRules, known: &'a mut KnownFolders) -> Self {
        let skip = rules
            .skip_dirs
            .iter()
            .filter_map(|path| rustix::fs::stat(path).ok())
            .map(|stat| (stat.st_dev, stat.st_ino))
            .collect();
        Self { root, rules, known, skip, report: ScanReport { complete: true, ..ScanReport::default() } }
    }

    fn end(self) -> io::Result<ScanReport> {
        // A folder that was removed while it is open reads as an empty one, and that must not pass for "nothing to do".
        if !self.root.still_there()? {
            let why = "the folder was removed, or another one is in its place";
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        Ok(self.report)
    }

    /// Reads a folder and, where that is wanted, all below it; breaks where `each` does.
    ///
    /// # Errors
    ///
    /// Where the root itself cannot be read.
    fn read(
        &mut self,
        first: Level,
        part: FolderPart,
        each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
        other: &mut dyn FnMut(OtherFile<'_>),
    ) -> io::Result<ControlFlow<()>> {
        let mut levels = Vec::new();
        self.push(&mut levels, first)?;
        while let Some(OpenLevel { dir, entries, .. }) = levels.last_mut() {
            match dir.read() {
                None => {
                    let is_empty = *entries == 0;
                    if let Some(OpenLevel { level, .. }) = levels.pop()
                        && let Some(identity) = level.identity.filter(|_| is_empty)
                    {
                        self.known.was_empty(level.path, &identity);
                    }
                }
                Some(Err(error)) => {
                    let path = levels.pop().map(|open| open.level.path).unwrap_or_default();
                    self.unreadable_below(&path, error)?;
                }
                Some(Ok(entry)) => {
                    if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                        continue;
                    }
                    *entries += 1;
                    let name = entry.file_name();
                    let depth = part.depth + levels.len() - 1;
                    let Some(OpenLevel { level, .. }) = levels.last() else { break };
                    match self.look(level, depth, name, entry.file_type(), part.with_folders) {
                        FolderStep::Into(below) => self.push(&mut levels, below)?,
                        step => {
                            if self.take(step, (level, name, depth), each, other)?.is_break() {
                                return Ok(ControlFlow::Break(()));
                            }
                        }
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn push(&mut self, levels: &mut Vec<OpenLevel>, level: Level) -> io::Result<()> {
        match Dir::read_from(&level.fd) {
            Ok(dir) => levels.push(OpenLevel { level, dir, entries: 0 }),
            Err(error) => self.unreadable_below(&level.path, error)?,
        }
        Ok(())
    }

    /// Hands on what was found under a name, and reads it where it is a folder.
    fn take(
        &mut self,
        step: FolderStep,
        (level, name, depth): (&Level, &CStr, usize),
        each: &mut dyn FnMut(FoundManifest) -> ControlFlow<()>,
        other: &mut dyn FnMut(OtherFile<'_>),
    ) -> io::Result<ControlFlow<()>> {
        match step {
            FolderStep::On => {}
            FolderStep::Show(path, unnameable) => {
                other(OtherFile { path: &path, unnameable, folder: level.fd.as_fd(), name });
            }
            FolderStep::Into(below) => {
                return self.read(below, FolderPart { depth: depth + 1, with_folders: true }, each, other);
            }
            FolderStep::Hand(found) => {
                self.report.manifests += 1;
                if each(found).is_break() {
                    self.report.complete = false;
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Opens a folder by its path, each part as a scan of the whole drop would.
    fn descend(&mut self, path: &str) -> io::Result<Descent> {
        let (mut level, mut depth) = (Level::of_root(self.root)?, 1);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Ok(raw_name) = CString::new(name) else { return Ok(Descent::Nowhere) };
            let is_known = self.known.knows(&join(&level.path, name));
            let FolderStep::Into(below) = self.look(&level, depth, &raw_name, FileType::Unknown, true) else {
                return Ok(Descent::Nowhere);
            };
            (level, depth) = (below, depth + 1);
            if !is_known {
                return Ok(Descent::New(level, depth));
            }
        }
        Ok(Descent::To(level, depth))
    }

    fn look(&mut self, level: &Level, depth: usize, raw_name: &CStr, kind: FileType, with_folders: bool) -> FolderStep {
        self.report.entries += 1;
        let Ok(name) = raw_name.to_str() else {
            self.report.not_utf8 += 1;
            let shown = join(&level.path, &raw_name.to_bytes().escape_ascii().to_string());
            self.report.add(
                Problem::warning("the name is not UTF-8, so nothing can refer to it", "send it under another name")
                    .path(escape(&shown).into_owned()),
            );
            let (lossy, path) =
                (raw_name.to_string_lossy(), join(&level.path, &path_without_hidden(raw_name.to_bytes())));
            let manifest = matches(&self.rules.manifests, &lossy, &join(&level.path, &lossy))
                && !matches(&self.rules.ignore, &lossy, &join(&level.path, &lossy));
            return if manifest && kind == FileType::RegularFile {
                FolderStep::Show(path_without_hidden(path.as_bytes()), Some("its name is not UTF-8"))
            } else {
                FolderStep::On
            };
        };
        let path = join(&level.path, name);
        if matches(&self.rules.ignore, name, &path) {
            return FolderStep::On;
        }
        // Not every file system says in a folder's listing what its entries are.
        let kind = match kind {
            FileType::Unknown => match rustix::fs::statat(&level.fd, raw_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(error) => return self.lost(&path, error),
            },
            kind => kind,
        };
        if kind == FileType::Directory {
            if self.rules.recursive && with_folders { self.enter(level, depth, raw_name, path) } else { FolderStep::On }
        } else if failed::is_named_so(name) && level.has_receipts() {
            // It belongs to one of them, until its sender has mended it and put it elsewhere.
            if kind == FileType::RegularFile { FolderStep::Show(path, None) } else { FolderStep::On }
        } else if matches(&self.rules.manifests, name, &path) {
            self.manifest(level, raw_name, path, kind)
        } else if kind == FileType::RegularFile {
            FolderStep::Show(path, None)
        } else {
            FolderStep::On
        }
    }

    fn enter(&mut self, level: &Level, depth: usize, name: &CStr, path: String) -> FolderStep {
        if self.rules.skip_dirs.contains(&self.root.path().join(&path)) {
            return FolderStep::On;
        }
        if let Some(problem) = self.beyond(depth, &path) {
            self.report.complete = false;
            self.report.add(problem.path(escape(&path).into_owned()));
            return FolderStep::On;
        }
        if self.known.is_still_empty(&path, level.fd.as_fd(), name) {
            self.report.folders += 1;
            return FolderStep::On;
        }
        let mut below = match Level::open(level.fd.as_fd(), name, path.clone()) {
            Ok(below) => below,
            Err(error) => return self.lost(&path, error),
        };
        match rustix::fs::fstat(&below.fd) {
            Ok(stat) if self.skip.contains(&(stat.st_dev, stat.st_ino)) => FolderStep::On,
            Ok(stat) => {
                self.report.folders += 1;
                self.known.enter(&below.fd, &path);
                below.identity = Some(FileIdentity::of(&stat));
                FolderStep::Into(below)
            }
            Err(error) => self.lost(&path, error),
        }
    }

    /// The problem that reports a folder that is not scanned.
    fn beyond(&self, depth: usize, path: &str) -> Option<Problem> {
        let ScanRules { max_depth, max_path_bytes, .. } = self.rules;
        if depth > *max_depth {
            let reason = format!("folders are nested deeper than {max_depth}");
            return Some(Problem::warning(reason, "send them less deeply nested, or raise max_depth of the drop"));
        }
        (path.len() > *max_path_bytes).then(|| too_long("the folder's path", *max_path_bytes))
    }

    fn manifest(&mut self, level: &Level, name: &CStr, path: String, kind: FileType) -> FolderStep {
        if kind != FileType::RegularFile {
            let what = if kind == FileType::Symlink { "a symbolic link" } else { "no regular file" };
            self.report.add(
                Problem::warning(format!("the manifest is {what}, so it is not read"), "send the file itself")
                    .path(escape(&path).into_owned()),
            );
            return FolderStep::On;
        }
        if path.len() > self.rules.max_path_bytes {
            self.report.complete = false;
            self.report
                .add(too_long("the manifest's path", self.rules.max_path_bytes).path(escape(&path).into_owned()));
            return FolderStep::On;
        }
        if let Err(reason) = RelativePath::parse(&path) {
            self.report.add(
                Problem::warning(format!("the manifest cannot be read: {reason}"), "send it under another name")
                    .path(escape(&path).into_owned()),
            );
            return FolderStep::Show(path_without_hidden(path.as_bytes()), Some(reason));
        }
        match rustix::fs::statat(&level.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It became something else meanwhile; the next scan will say what.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => FolderStep::On,
            Ok(stat) => FolderStep::Hand(FoundManifest { path, identity: FileIdentity::of(&stat) }),
            Err(error) => self.lost(&path, error),
        }
    }

    /// Something that was listed but could not be read: mostly because it is gone, which is not a problem.
    fn lost(&mut self, path: &str, error: Errno) -> FolderStep {
        if !matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            self.unreadable(path, error);
        }
        FolderStep::On
    }

    /// A folder whose reading fails; the root's own failure is the scan's.
    fn unreadable_below(&mut self, path: &str, error: Errno) -> io::Result<()> {
        if path.is_empty() {
            return Err(error.into());
        }
        self.unreadable(path, error);
        Ok(())
    }

    fn unreadable(&mut self, path: &str, error: Errno) {
        self.report.complete = false;
        self.report.add(
            Problem::warning(
                format!("it cannot be looked into: {}", io::Error::from(error)),
                "let the service's user read and enter the folder",
            )
            .path(escape(path).into_owned()),
        );
    }
}

fn too_long(what: &str, max_path_bytes: usize) -> Problem {
    let cure = "give its folders shorter names, or raise max_path_bytes of the drop";
    Problem::warning(format!("{what} is longer than {max_path_bytes} bytes, so it is not read"), cure)
}

/// A path that can be a file's on every system: what is not UTF-8 or cannot be seen is written as `%1B`.
#[must_use]
pub fn path_without_hidden(path: &[u8]) -> String {
    let percent =
        |text: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if is_hidden(char) {
                percent(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(char);
            }
        }
        percent(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hinted_tests.rs"]
mod hinted_tests;
