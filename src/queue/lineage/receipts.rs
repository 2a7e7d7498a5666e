//! Receipts in a folder: which files are ours, and whether any of them names something that was created.

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags};

use crate::receipt::{
    self,
    read::{self, ReadHeader},
};

/// Files that are looked at before a database is taken for the first one here.
const MOST_READ: usize = 10_000;

/// Lists the files in a folder, and below it, that have a receipt's name. No link is followed.
///
/// # Errors
///
/// Where the folder or one below it cannot be read.
pub fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() && receipt::is_named_so(&entry.file_name().to_string_lossy()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Opens a receipt that this user wrote and no other may write; nothing where it is another's.
///
/// # Errors
///
/// Where it cannot be opened.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    Ok((metadata.is_file() && is_ours).then_some(file))
}

/// The header of a receipt.
///
/// # Errors
///
/// Where it cannot be read, or is no receipt.
pub fn header(receipt: File) -> io::Result<ReadHeader> {
    let mut header = None;
    let read = read::read(BufReader::new(receipt), &mut |found, _| {
        header = Some(found.clone());
        // The rest is not wanted.
        Err(io::ErrorKind::Interrupted.into())
    });
    header.ok_or_else(|| read.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
}

/// Whether some receipt of ours in a folder names something that was created. Where the folder cannot be read, or has more
/// receipts than are looked at, it counts as one that has none.
pub(super) fn name_created(folder: &Path) -> bool {
    let mut files = Vec::new();
    list(folder, &mut files).ok();
    let header = |path: &PathBuf| header(open(path).ok()??).ok();
    files.iter().take(MOST_READ).filter_map(header).any(|header| header.counts.created + header.counts.duplicate > 0)
}
