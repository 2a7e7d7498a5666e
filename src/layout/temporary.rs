//! Temporary files without a name, where SQLite's are too.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{Mode, OFlags};

/// Distinguishes the files of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that is gone when it is closed.
pub(super) fn temporary() -> io::Result<File> {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["/var/tmp", "/tmp"].iter().map(PathBuf::from);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in named.chain(usual) {
        match in_folder(&folder) {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn in_folder(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file.into()),
        // Not every file system has files without names.
        Err(_) => {
            let path = folder.join(format!(
                "passfort-ingest-{}-{}.layout",
                std::process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ));
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
    }
}
