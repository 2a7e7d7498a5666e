//! Whether a mount is still there.

use std::{
    collections::BTreeSet,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags},
    io::Errno,
};

/// Where this process has seen something mounted.
static MOUNTED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Fails where something was mounted at a folder and is no longer: the bare mount point is not the folder that is
/// meant, and what is written to it is hidden once the mount is back. The opened folder is checked, and remembered
/// under its path.
///
/// # Errors
///
/// That, or the kernel's.
pub(super) fn still_mounted(folder: &impl AsFd, path: &Path) -> io::Result<()> {
    remember(path, rustix::fs::statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()))
}

/// The same of a folder that may be missing, and of all that lead to it.
///
/// # Errors
///
/// As [`still_mounted`].
pub(super) fn all_still_mounted(path: &Path) -> io::Result<()> {
    path.ancestors()
        .filter(|folder| !folder.as_os_str().is_empty())
        .try_for_each(|folder| remember(folder, rustix::fs::statx(CWD, folder, AtFlags::empty(), StatxFlags::empty())))
}

fn remember(path: &Path, stat: rustix::io::Result<rustix::fs::Statx>) -> io::Result<()> {
    let stat = match stat {
        Ok(stat) => stat,
        // Older kernels cannot answer; a missing folder is reported when it is opened or made.
        Err(Errno::NOSYS | Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut mounted = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        if !mounted.contains(path) {
            mounted.insert(path.to_owned());
        }
    } else if mounted.contains(path) {
        let why = "what was mounted there is gone; mount it again, or restart where the bare folder is meant";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(())
}
