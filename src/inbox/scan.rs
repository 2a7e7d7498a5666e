//! Scans a drop folder for manifests.
//!
//! The scan is the truth about what is in a drop; events only trigger it. It opens each folder within the one above it
//! and follows no link, so it cannot be led out or in circles. Its memory does not grow with the number of files: one
//! folder a level is open, manifests are handed on one by one, and what is wrong is listed up to a limit. Whether a
//! manifest has settled is not decided here.

use std::{
    cell::OnceCell,
    collections::HashSet,
    ffi::CStr,
    fs::File,
    io,
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::beneath::Root;
use crate::{
    entry::RelativePath,
    file_identity::FileIdentity,
    printable::{escape, is_hidden},
    problem::Problem,
    receipt::{self, failed},
    relative_path::{self, join},
};

/// How many problems are listed; further ones are only counted.
const MAX_PROBLEMS: usize = 100;

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
    let skip = rules
        .skip_dirs
        .iter()
        .filter_map(|path| rustix::fs::stat(path).ok())
        .map(|stat| (stat.st_dev, stat.st_ino))
        .collect();
    let mut scan = Scan { root, rules, skip, report: ScanReport { complete: true, ..ScanReport::default() } };
    let mut levels = vec![Level::open(root.as_fd(), c".", String::new())?];
    scan.report.folders = 1;
    while let Some(level) = levels.last_mut() {
        match level.dir.read() {
            None => {
                levels.pop();
            }
            Some(Err(error)) => {
                if levels.len() == 1 {
                    return Err(error.into());
                }
                let path = levels.pop().map(|level| level.path).unwrap_or_default();
                scan.unreadable(&path, error);
            }
            Some(Ok(entry)) => {
                if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    continue;
                }
                let depth = levels.len();
                let Some(level) = levels.last() else { break };
                match scan.look(level, depth, entry.file_name(), entry.file_type()) {
                    FolderStep::On => {}
                    FolderStep::Show(path, unnameable) => {
                        let (folder, name) = (level.fd.as_fd(), entry.file_name());
                        other(OtherFile { path: &path, unnameable, folder, name });
                    }
                    FolderStep::Into(below) => levels.push(below),
                    FolderStep::Hand(found) => {
                        scan.report.manifests += 1;
                        if each(found).is_break() {
                            scan.report.complete = false;
                            break;
                        }
                    }
                }
            }
        }
    }
    // A folder that was removed while it is open reads as an empty one, and that must not pass for "nothing to do".
    if !root.still_there()? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the folder was removed, or another one is in its place"));
    }
    Ok(scan.report)
}

/// An opened folder on the way down.
struct Level {
    fd: OwnedFd,
    dir: Dir,
    /// Relative to the root; empty for it.
    path: String,
    /// Whether there are receipts in it, once that was asked.
    has_receipts: OnceCell<bool>,
}

impl Level {
    fn open(within: BorrowedFd<'_>, name: &CStr, path: String) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(within, name, flags, Mode::empty())?;
        // A descriptor of its own, so that other readers of the root do not move our place in it.
        let dir = Dir::read_from(&fd)?;
        Ok(Self { fd, dir, path, has_receipts: OnceCell::new() })
    }

    /// Whether there are receipts in it.
    fn has_receipts(&self) -> bool {
        *self.has_receipts.get_or_init(|| {
            let Ok(names) = Dir::read_from(&self.fd) else { return false };
            names.flatten().any(|entry| entry.file_name().to_str().is_ok_and(receipt::is_named_so))
        })
    }
}

/// What to do after an entry of a folder.
enum FolderStep {
    On,
    Into(Level),
    /// The path, and why it is unnameable.
    Show(String, Option<&'static str>),
    Hand(FoundManifest),
}

struct Scan<'a> {
    root: &'a Root,
    rules: &'a ScanRules,
    /// Device and inode, because one folder can have several paths.
    skip: HashSet<(u64, u64)>,
    report: ScanReport,
}

impl Scan<'_> {
    fn look(&mut self, level: &Level, depth: usize, raw_name: &CStr, kind: FileType) -> FolderStep {
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
            if self.rules.recursive { self.enter(level, depth, raw_name, path) } else { FolderStep::On }
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
        let below = match Level::open(level.fd.as_fd(), name, path.clone()) {
            Ok(below) => below,
            Err(error) => return self.lost(&path, error),
        };
        match rustix::fs::fstat(&below.fd) {
            Ok(stat) if self.skip.contains(&(stat.st_dev, stat.st_ino)) => FolderStep::On,
            Ok(_) => {
                self.report.folders += 1;
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

/// Whether a pattern matches this file or folder, by its name or by its path.
#[must_use]
pub fn matches(set: &GlobSet, name: &str, path: &str) -> bool {
    set.is_match(name) || set.is_match(path)
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
