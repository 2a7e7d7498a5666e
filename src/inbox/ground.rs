//! The ground of a drop: whether files can be taken and put away, found out by doing it before anything is sent.
//!
//! Permissions, mounts and the service's sandbox each can forbid it, and no look at modes or device numbers foresees them
//! all: two bind mounts of one file system refuse a rename. So the folders are tried by real calls ([`try_ground`]); only
//! of files that senders put below them is it inferred whether they can be moved ([`lets_go`]).

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access as Right, AtFlags},
    io::Errno,
};

use super::{
    archive,
    beneath::{Refusal, Root},
};
use crate::{
    durable::{Access, Folder},
    relative_path,
};

/// The bit of a folder in which only the owner of a file, or of the folder, may move the file.
const STICKY: u32 = 0o1000;

/// Something about a folder that keeps files from being taken or put away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroundFault {
    /// Which folder.
    pub folder: PathBuf,
    /// What is wrong, a lower-case fragment.
    pub reason: String,
    /// What to do about it, a lower-case fragment.
    pub cure: String,
}

impl fmt::Display for GroundFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.folder.display(), self.reason, self.cure)
    }
}

/// The folders that a drop, or an import, needs. Those that are missing are made.
#[derive(Debug, Clone)]
pub struct GroundNeeds {
    /// The folder that manifests are in.
    pub root: PathBuf,
    /// Where receipts are written.
    pub receipts: PathBuf,
    /// Who may read receipts.
    pub access: Access,
    /// Where files are taken to, before they are sent; `None` where they stay where they are.
    pub work: Option<PathBuf>,
    /// Where they are put in the end.
    pub archive: Vec<PathBuf>,
}

/// Tries the folders by creating, renaming, syncing and removing a file; returns what is wrong.
#[must_use]
pub fn try_ground(needs: &GroundNeeds) -> Vec<GroundFault> {
    let root = match Root::open(&needs.root) {
        Ok(root) => root,
        Err(error) => return vec![fault(&needs.root, &error)],
    };
    let mut faults = Vec::new();
    let mut note = |path: &Path, tried: io::Result<()>| {
        if let Err(error) = tried {
            faults.push(fault(path, &error));
        }
    };
    let open = |path: &Path, access| archive::folder_for(&root, path, access);
    note(&needs.receipts, open(&needs.receipts, needs.access).and_then(|folder| folder.probe_into(&folder)));
    let plain = Access::of_mode(0);
    if let Some(work) = &needs.work {
        let tried = Folder::open(&needs.root).and_then(|drop| drop.probe_into(&open(work, plain)?));
        note(work, tried);
    }
    for path in &needs.archive {
        // A file is copied where the archive is on another file system.
        note(path, open(path, plain).and_then(|folder| folder.probe_into(&folder)));
    }
    faults
}

/// The folder that receipts are written to, made where it is missing.
///
/// # Errors
///
/// With operation and path.
pub fn receipts_folder(needs: &GroundNeeds) -> io::Result<Folder> {
    archive::folder_for(&Root::open(&needs.root)?, &needs.receipts, needs.access)
}

/// The fault of a drop whose path is a link: who may replace the link decides what is read.
#[must_use]
pub fn is_link(path: &Path) -> Option<GroundFault> {
    let target = path.read_link().ok()?;
    let target = path.canonicalize().unwrap_or(target);
    Some(GroundFault {
        folder: path.to_owned(),
        reason: "the drop's folder is a symbolic link, which can be made to lead elsewhere".to_owned(),
        cure: format!("set path = {:?}", target.display().to_string()),
    })
}

/// The fault of a work folder that is gone, or empty as a mount point is whose mount is gone, while files that were taken
/// are to be in it.
#[must_use]
pub fn lost_work(work: &Path) -> GroundFault {
    GroundFault {
        folder: work.to_owned(),
        reason: "it is gone or empty, though manifests that were taken are to be in it".to_owned(),
        cure: "put it back, or mount what belongs there; where it is lost for good, `cancel` the jobs that wait for it"
            .to_owned(),
    }
}

/// Whether nothing is in a folder, or there is none.
#[must_use]
pub fn is_void(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The folders among these that are one and the same, by a link or a bind mount; missing ones are passed over.
#[must_use]
pub fn same_folder<'a>(folders: &[&'a Path]) -> Option<(&'a Path, &'a Path)> {
    let mut seen = HashMap::new();
    folders.iter().find_map(|folder| {
        let stat = rustix::fs::stat(*folder).ok()?;
        seen.insert((stat.st_dev, stat.st_ino), *folder).map(|other| (other, *folder))
    })
}

/// The fault of a folder that somebody else than this user and root can replace by another one.
#[must_use]
pub fn exposed_parent(path: &Path) -> Option<GroundFault> {
    let parent = path.parent()?;
    let (above, own) = (rustix::fs::stat(parent).ok()?, rustix::fs::stat(path).ok()?);
    let us = rustix::process::geteuid().as_raw();
    is_exposed((above.st_mode, above.st_uid), own.st_uid, us).then(|| GroundFault {
        folder: parent.to_owned(),
        reason: "others may write to the folder above the drop, so they can put another folder in its place".to_owned(),
        cure: "let root own it, writable for nobody else (chown root, chmod go-w)".to_owned(),
    })
}

/// Whether others than us and root may rename what is in a folder with this mode and owner.
const fn is_exposed((mode, owner): (u32, u32), inner_owner: u32, us: u32) -> bool {
    let trusted = owner == 0 || owner == us;
    let sticky = mode & STICKY != 0 && (inner_owner == 0 || inner_owner == us);
    !trusted || (mode & 0o022 != 0 && !sticky)
}

/// Whether the folders of these files, below the root, let this process move them away: see [`FolderRights`].
///
/// # Errors
///
/// The first folder that does not.
pub fn lets_go<'a>(root: &Root, files: impl IntoIterator<Item = &'a str>) -> Result<(), GroundFault> {
    let mut rights = FolderRights::new(root);
    files.into_iter().try_for_each(|file| rights.let_go(file))
}

/// Whether folders let this process move their files away, each folder looked at once. Only a real rename is certain;
/// this finds what partners' permissions forbid, before anything is moved.
#[derive(Debug)]
pub struct FolderRights<'r> {
    root: &'r Root,
    own: u32,
    /// The owner of each folder that has the sticky bit.
    sticky: HashMap<String, Option<u32>>,
}

impl<'r> FolderRights<'r> {
    /// Of the folders below this one.
    #[must_use]
    pub fn new(root: &'r Root) -> Self {
        Self { root, own: rustix::process::geteuid().as_raw(), sticky: HashMap::new() }
    }

    /// Checks the folder of a file. A file that is not there is passed over.
    ///
    /// # Errors
    ///
    /// What forbids to move the file, with the cure.
    pub fn let_go(&mut self, file: &str) -> Result<(), GroundFault> {
        let parent = relative_path::parent(file);
        let path = if parent.is_empty() { self.root.path().to_owned() } else { self.root.path().join(parent) };
        let mut opened = None;
        let owner = match self.sticky.get(parent) {
            Some(owner) => *owner,
            None => {
                let (folder, name) = match self.root.open_parent(file) {
                    Ok(found) => found,
                    // What cannot be opened is reported where it is read.
                    Err(Refusal::Missing | Refusal::Unsafe(_)) => return Ok(()),
                    Err(Refusal::Io(error)) => return Err(fault(&path, &error)),
                };
                rustix::fs::accessat(&folder, c".", Right::WRITE_OK | Right::EXEC_OK, AtFlags::EACCESS)
                    .or_else(|error| if error == Errno::NOSYS { Ok(()) } else { Err(error) })
                    .map_err(|error| stays(&path, &error.into()))?;
                let stat = rustix::fs::fstat(&folder).map_err(|error| fault(&path, &error.into()))?;
                let owner = (stat.st_mode & STICKY != 0).then_some(stat.st_uid);
                self.sticky.insert(parent.to_owned(), owner);
                opened = Some((folder, name));
                owner
            }
        };
        let Some(folder_owner) = owner else { return Ok(()) };
        let Some((folder, name)) = opened.or_else(|| self.root.open_parent(file).ok()) else { return Ok(()) };
        match rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if !sticky_lets_go(stat.st_uid, folder_owner, self.own) => Err(GroundFault {
                folder: path,
                reason: format!("{name} has another owner, and the folder's sticky bit lets only that one move it"),
                cure: "remove the sticky bit (chmod -t), or let the service's user own the folder".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether somebody may move a file out of a folder with the sticky bit that they may write to.
const fn sticky_lets_go(file_owner: u32, folder_owner: u32, own: u32) -> bool {
    own == 0 || own == file_owner || own == folder_owner
}

/// A folder out of which nothing can be moved.
fn stays(folder: &Path, error: &io::Error) -> GroundFault {
    GroundFault { reason: format!("its files cannot be moved away: {error}"), ..fault(folder, error) }
}

fn fault(folder: &Path, error: &io::Error) -> GroundFault {
    let cure = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let the service's user write to it: by a common group and umask 007, or by a default ACL; see \"SFTP\" in the README"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "name it in ReadWritePaths= of the unit's section [Service], or mount it writable"
        }
        io::ErrorKind::CrossesDevices => {
            "keep it on the drop's file system and in the same mount: in one entry of ReadWritePaths= with the drop"
        }
        io::ErrorKind::NotFound => "make the folder, or mount what belongs there",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "put no file in the folder's place",
        _ => "look at its disk, its mount, and its permissions",
    };
    GroundFault { folder: folder.to_owned(), reason: error.to_string(), cure: cure.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn needs(root: &Path) -> GroundNeeds {
        GroundNeeds {
            root: root.to_owned(),
            receipts: root.join("receipts"),
            access: Access::of_mode(0o640),
            work: Some(root.join(".work")),
            archive: vec![root.join("done"), root.join("failed")],
        }
    }

    #[test]
    fn good_ground_is_left_as_it_was_but_for_the_folders() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(try_ground(&needs(place.path())), []);
        assert_eq!(try_ground(&needs(place.path())), []);
        for folder in [".work", "done", "failed", "receipts"] {
            assert_eq!(fs::read_dir(place.path().join(folder)).unwrap().count(), 0, "{folder}");
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4);
    }

    #[test]
    fn each_bad_folder_is_named_with_a_cure() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(place.path().join("receipts"), "a file").unwrap();
        symlink(outside.path(), place.path().join("failed")).unwrap();
        let faults = try_ground(&needs(place.path()));
        let folders: Vec<_> = faults.iter().map(|fault| fault.folder.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(folders, ["receipts", "failed"], "{faults:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let gone = try_ground(&needs(&place.path().join("none")));
        assert_eq!(gone.len(), 1);
        assert!(gone[0].to_string().contains("make the folder"), "{}", gone[0]);
    }

    #[test]
    fn a_work_folder_on_another_file_system_is_bad_ground_and_an_archive_is_not() {
        let (place, Ok(other)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm")) else { return };
        let elsewhere = vec![other.path().join("done")];
        assert_eq!(try_ground(&GroundNeeds { archive: elsewhere, ..needs(place.path()) }), []);
        let faults = try_ground(&GroundNeeds { work: Some(other.path().join("work")), ..needs(place.path()) });
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].cure.contains("ReadWritePaths"), "{}", faults[0]);
    }

    #[test]
    fn a_link_in_place_of_the_drop_is_named_with_its_target() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("real")).unwrap();
        symlink("real", place.path().join("drop")).unwrap();
        assert_eq!(is_link(&place.path().join("real")), None);
        let cure = is_link(&place.path().join("drop")).unwrap().cure;
        assert!(cure.contains(place.path().canonicalize().unwrap().join("real").to_str().unwrap()), "{cure}");
    }

    #[test]
    fn one_folder_under_two_paths_is_recognised() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("a")).unwrap();
        fs::create_dir(at("b")).unwrap();
        symlink("a", at("link")).unwrap();
        let (a, b, link, none) = (at("a"), at("b"), at("link"), at("none"));
        assert_eq!(same_folder(&[&a, &b, &none, &none]), None);
        assert_eq!(same_folder(&[&a, &b, &link]), Some((a.as_path(), link.as_path())));
    }

    #[test]
    fn a_folder_is_exposed_where_others_can_rename_it() {
        const US: u32 = 7;
        for (mode, owner, inner, exposed) in [
            (0o755, 0, 1, false),
            (0o700, US, 1, false),
            (0o755, 1, 1, true),
            (0o775, 0, 1, true),
            (0o1777, 0, 1, true),
            (0o1777, 0, US, false),
            (0o1777, 0, 0, false),
        ] {
            assert_eq!(is_exposed((mode, owner), inner, US), exposed, "{mode:o} of {owner}, {inner} inside");
        }
    }

    #[test]
    fn a_sticky_folder_lets_go_of_what_its_owner_or_the_files_asks_for() {
        const US: u32 = 7;
        for (file, folder, own, goes) in
            [(US, 1, US, true), (1, US, US, true), (1, 2, US, false), (1, 1, US, false), (1, 2, 0, true)]
        {
            assert_eq!(sticky_lets_go(file, folder, own), goes, "{file} in {folder} by {own}");
        }
    }

    #[test]
    fn files_of_open_folders_go_and_missing_ones_are_nobodys_business() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("17")).unwrap();
        fs::write(place.path().join("17/front.png"), "").unwrap();
        let root = Root::open(place.path()).unwrap();
        assert_eq!(lets_go(&root, ["a.png", "17/front.png", "17/back.png", "18/front.png"]), Ok(()));
    }
}
