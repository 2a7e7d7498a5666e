//! Opens files below a folder, and only there.
//!
//! A path from a manifest is untrusted: no `..`, no symbolic link anywhere in it, no device, FIFO or socket, and no
//! hard link to somebody else's file gets past [`Root::open_file`], and none of them can make it hang. The kernel
//! checks the path while it walks it (`openat2`), so there is no gap between check and use; kernels and container
//! filters without that call get a walk by components, which gives the same answers.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::mount;
use crate::{
    durable::file_system::FileSystem,
    entry::RelativePath,
    file_identity::{FileIdentity, Present},
    problem::Problem,
    relative_path,
};

/// How often an interrupted or disturbed opening is tried again; the kernel asks for it when a rename runs meanwhile.
const TRIES: u32 = 8;

/// Without `NONBLOCK`, opening a FIFO waits for its writer for ever.
const OPEN_FILE: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::NOCTTY);
const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

const SYMBOLIC_LINK: &str = "a part of the path is a symbolic link";
const LEADS_OUTSIDE: &str = "the path leads out of the folder";
const NO_REGULAR_FILE: &str = "the path names no regular file but a folder, FIFO, socket or device";
const SOMEBODY_ELSES: &str = "the file is a hard link to a file of another owner";

impl FileIdentity {
    pub(crate) fn of(stat: &Stat) -> Self {
        let nanoseconds = |seconds: i64, rest: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(rest.try_into().unwrap_or(0))
        };
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            bytes: stat.st_size.try_into().unwrap_or(0),
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            #[cfg_attr(
                target_arch = "x86_64",
                expect(clippy::useless_conversion, reason = "the field has 32 bits on other processors")
            )]
            links: stat.st_nlink.into(),
            uid: stat.st_uid,
        }
    }

    /// The identity that an opened file has now.
    ///
    /// # Errors
    ///
    /// The kernel's, where the file system has gone.
    pub fn now(file: &impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

/// A file that was opened, and what it was then.
#[derive(Debug)]
pub struct OpenedFile {
    /// The descriptor: all that follows is read from it, never from the path again.
    pub file: File,
    /// Taken from the descriptor at opening.
    pub identity: FileIdentity,
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing is there, yet.
    #[error("there is no such file")]
    Missing,
    /// Something is there that must not be read.
    #[error("{0}")]
    Unsafe(&'static str),
    /// The system could not say.
    #[error("the file cannot be opened: {0}")]
    Io(#[source] io::Error),
}

impl Refusal {
    /// The same, for the sender of the manifest that names `path`.
    #[must_use]
    pub fn problem(&self, path: &str) -> Problem {
        let cure = match self {
            Self::Missing => "send the file, or correct its path in the manifest",
            Self::Unsafe(_) => "put the file itself into the drop folder, and name it by its plain relative path",
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "let the service's user read the file and enter its folder"
            }
            Self::Io(_) => "look at the folder's disk or mount, then try again",
        };
        Problem::error(self.to_string(), cure).path(path)
    }
}

/// An opened folder, below which files are opened.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    identity: FileIdentity,
    numbers_last: bool,
}

impl Root {
    /// Opens a folder. Its own path is the operator's and may have links in it.
    ///
    /// # Errors
    ///
    /// The kernel's: it is not there, is no folder, or may not be read; or what was mounted there is gone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OPEN_FOLDER.difference(OFlags::NOFOLLOW), Mode::empty())?;
        mount::still_mounted(&fd, path)?;
        let identity = FileIdentity::now(&fd)?;
        let numbers_last = FileSystem::of(&fd)?.keeps_numbers();
        Ok(Self { fd, path: path.to_owned(), identity, numbers_last })
    }

    /// The path with which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder was when it was opened.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Whether the path still leads to this folder: it may have been mounted over, unmounted, or created again.
    ///
    /// # Errors
    ///
    /// Where the system cannot say, as on a lost network mount.
    pub fn still_there(&self) -> io::Result<bool> {
        match rustix::fs::stat(&self.path) {
            Ok(stat) => Ok(FileIdentity::of(&stat).same_file(&self.identity)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the file seen under a path, perhaps by an earlier process, is the one under it now, as far as can be
    /// known.
    ///
    /// The device's number is not compared, since it lasts no longer than the mount or the machine's uptime.
    #[must_use]
    pub fn is_as_it_was(&self, then: &FileIdentity, now: &FileIdentity) -> bool {
        self.present(*now).is_as(then)
    }

    /// Whether a file below it keeps its number.
    #[must_use]
    pub const fn keeps_numbers(&self) -> bool {
        self.numbers_last
    }

    /// The present identity of a file below it, to compare with a recorded one.
    #[must_use]
    pub const fn present(&self, now: FileIdentity) -> Present {
        Present::new(now, self.numbers_last)
    }

    /// Opens a regular file for reading, without ever waiting for one.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]; every refusal is the file's, not the root's.
    pub fn open_file(&self, relative: &str) -> Result<OpenedFile, Refusal> {
        let path = checked(relative)?;
        self.admit(self.descend(path.as_str(), OPEN_FILE)?)
    }

    /// What a regular file is now, without opening it; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Where its folder cannot be entered.
    pub(crate) fn identity_of(&self, relative: &str) -> Result<Option<FileIdentity>, Refusal> {
        let stat = match self.open_parent(relative) {
            Ok((folder, name)) => rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW),
            Err(Refusal::Missing) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        match stat {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(FileIdentity::of(&stat)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }

    /// The names in a folder below it that are UTF-8; empty for the root itself.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read, or has more names than `most`.
    pub(crate) fn names_in(&self, folder: &str, most: usize) -> Result<Vec<String>, Refusal> {
        let failed = |error: Errno| Refusal::Io(error.into());
        let fd = match folder {
            "" => rustix::fs::openat(&self.fd, ".", OPEN_FOLDER, Mode::empty()).map_err(failed)?,
            folder => self.descend(checked(folder)?.as_str(), OPEN_FOLDER)?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(failed)? {
            if names.len() >= most {
                return Err(Refusal::Io(io::ErrorKind::FileTooLarge.into()));
            }
            let entry = entry.map_err(failed)?;
            names
                .extend(entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned));
        }
        Ok(names)
    }

    /// Opens the folder that holds the file `relative`; gives the file's name too.
    pub(crate) fn open_parent(&self, relative: &str) -> Result<(OwnedFd, String), Refusal> {
        let path = checked(relative)?;
        match path.as_str().rsplit_once('/') {
            Some((parent, name)) => Ok((self.descend(parent, OPEN_FOLDER)?, name.to_owned())),
            None => Ok((self.fd.try_clone().map_err(Refusal::Io)?, path.as_str().to_owned())),
        }
    }

    /// Follows `path` with the kernel's check, or without it where the kernel has none.
    fn descend(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Refusal> {
        match self.descend_checked(path, flags) {
            // For a link where a folder is wanted, the kernel reports only that it is no folder; the walk can
            // distinguish them.
            Err(Errno::NOSYS | Errno::PERM | Errno::NOTDIR) => self.walk(path, flags),
            opened => opened,
        }
        .map_err(refused)
    }

    fn descend_checked(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        patiently(|| rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve))
    }

    /// The same by components, each opened in the one before it, none of them a link.
    fn walk(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (parents, name) = relative_path::split(path);
        let mut folder = None::<OwnedFd>;
        for component in parents.split('/').filter(|component| !component.is_empty()) {
            let within = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            // Entering a folder takes less than reading it, and the kernel's own check asks for no more either.
            folder = Some(enter(within, component, OPEN_FOLDER | OFlags::PATH)?);
        }
        enter(folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd), name, flags)
    }

    /// Accepts only regular files that belong here.
    fn admit(&self, fd: OwnedFd) -> Result<OpenedFile, Refusal> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refusal::Io(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Refusal::Unsafe(NO_REGULAR_FILE));
        }
        let identity = FileIdentity::of(&stat);
        let own = rustix::process::geteuid().as_raw();
        if is_somebody_elses(&identity, self.identity.uid, own) {
            return Err(Refusal::Unsafe(SOMEBODY_ELSES));
        }
        Ok(OpenedFile { file: File::from(fd), identity })
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A hard link needs no right to read its file on systems without `fs.protected_hardlinks`, so it could expose a file
/// from elsewhere, since the worker may read more than the link's creator. A file that the worker's user owns is
/// accepted, but not where that is root, whose files are the system's.
fn is_somebody_elses(file: &FileIdentity, folder_owner: u32, own: u32) -> bool {
    file.links > 1 && file.uid != folder_owner && (file.uid != own || own == 0)
}

fn checked(relative: &str) -> Result<RelativePath, Refusal> {
    RelativePath::parse(relative).map_err(Refusal::Unsafe)
}

/// Opens one component. Kernels say `NOTDIR` for a link where a folder is wanted; here it is `LOOP`, as for a file.
fn enter(within: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    match patiently(|| rustix::fs::openat(within, name, flags, Mode::empty())) {
        Err(Errno::NOTDIR) => {
            let stat = rustix::fs::statat(within, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            Err(if is_link { Errno::LOOP } else { Errno::NOTDIR })
        }
        entered => entered,
    }
}

fn patiently<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    call()
}

fn refused(error: Errno) -> Refusal {
    match error {
        // A file where a folder should be: the wanted file is not there.
        Errno::NOENT | Errno::NOTDIR => Refusal::Missing,
        Errno::LOOP => Refusal::Unsafe(SYMBOLIC_LINK),
        Errno::XDEV => Refusal::Unsafe(LEADS_OUTSIDE),
        // What a socket, and a device without a driver, answer.
        Errno::NXIO | Errno::NODEV => Refusal::Unsafe(NO_REGULAR_FILE),
        error => Refusal::Io(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use rustix::fs::{CWD, FileType};
    use tempfile::TempDir;

    use super::*;

    struct Place {
        drop: TempDir,
        root: Root,
    }

    impl Place {
        fn new() -> Self {
            let drop = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(drop.path().join("a/b")).unwrap();
            std::fs::write(drop.path().join("a/b/front.jpg"), "front").unwrap();
            let root = Root::open(drop.path()).unwrap();
            Self { drop, root }
        }

        fn at(&self, relative: &str) -> PathBuf {
            self.drop.path().join(relative)
        }

        /// What both ways answer; they must agree.
        fn open(&self, relative: &str) -> Result<OpenedFile, Refusal> {
            let quick = self.root.open_file(relative);
            let walked = checked(relative)
                .and_then(|path| self.root.walk(path.as_str(), OPEN_FILE).map_err(refused))
                .and_then(|fd| self.root.admit(fd));
            match (&quick, &walked) {
                (Ok(quick), Ok(walked)) => assert_eq!(quick.identity, walked.identity),
                (Err(quick), Err(walked)) => assert_eq!(quick.to_string(), walked.to_string()),
                (quick, walked) => panic!("{relative}: {quick:?} but {walked:?}"),
            }
            quick
        }

        fn refusal(&self, relative: &str) -> String {
            self.open(relative).unwrap_err().to_string()
        }
    }

    #[test]
    fn a_file_is_opened_with_its_identity() {
        let place = Place::new();
        let mut opened = place.open("./a//b/front.jpg").unwrap();
        let mut text = String::new();
        opened.file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "front");
        assert_eq!((opened.identity.bytes, opened.identity.links), (5, 1));
    }

    #[test]
    fn the_kernels_own_check_is_tried_first() {
        let place = Place::new();
        symlink("a", place.at("link")).unwrap();
        match place.root.descend_checked("link/b/front.jpg", OPEN_FILE) {
            Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_there_is_missing() {
        let place = Place::new();
        for path in ["none.jpg", "a/none.jpg", "none/front.jpg", "a/b/front.jpg/more"] {
            assert!(matches!(place.open(path), Err(Refusal::Missing)), "{path}");
        }
    }

    #[test]
    fn no_path_leads_out() {
        let place = Place::new();
        for path in ["../x", "a/../../x", "/etc/passwd", "", ".", "a/", "a\0b", "a\nb"] {
            assert!(matches!(place.open(path), Err(Refusal::Unsafe(_))), "{path:?}");
        }
        assert_eq!(place.refusal("a/../a/b/front.jpg"), "the path has a '..' component");
    }

    #[test]
    fn the_way_out_is_closed_even_without_the_check_of_form() {
        let place = Place::new();
        let quick = place.root.descend_checked("../x", OPEN_FILE);
        assert!(matches!(quick, Err(Errno::XDEV | Errno::NOSYS | Errno::PERM)), "{quick:?}");
    }

    #[test]
    fn no_link_is_followed() {
        let place = Place::new();
        symlink("/etc/passwd", place.at("file")).unwrap();
        symlink("/etc", place.at("folder")).unwrap();
        symlink("b", place.at("a/inner")).unwrap();
        symlink("nowhere", place.at("dangling")).unwrap();
        symlink("loop", place.at("loop")).unwrap();
        symlink("/proc/self/root", place.at("magic")).unwrap();
        symlink("/proc/self/fd/0", place.at("descriptor")).unwrap();
        for path in [
            "file",
            "folder/passwd",
            "a/inner/front.jpg",
            "dangling",
            "loop",
            "loop/x",
            "magic/etc/passwd",
            "descriptor",
        ] {
            assert_eq!(place.refusal(path), SYMBOLIC_LINK, "{path}");
        }
    }

    #[test]
    fn a_magic_link_below_the_root_is_refused() {
        let proc = Root::open(Path::new("/proc/self")).unwrap();
        for path in ["root/etc/passwd", "cwd/Cargo.toml", "exe", "fd/0"] {
            assert!(matches!(proc.open_file(path), Err(Refusal::Unsafe(SYMBOLIC_LINK))), "{path}");
            let walked = proc.walk(path, OPEN_FILE).map_err(refused);
            assert!(matches!(walked, Err(Refusal::Unsafe(SYMBOLIC_LINK))), "{path}");
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let place = Place::new();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, place.at("fifo"), FileType::Fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(place.at("socket")).unwrap();
        for path in ["fifo", "socket", "a/b"] {
            assert_eq!(place.refusal(path), NO_REGULAR_FILE, "{path}");
        }
        // Making a device takes a right that most test runs lack.
        let null = rustix::fs::makedev(1, 3);
        if rustix::fs::mknodat(CWD, place.at("device"), FileType::CharacterDevice, mode, null).is_ok() {
            let refusal = place.refusal("device");
            assert!(refusal == NO_REGULAR_FILE || refusal.contains("ermission"), "{refusal}");
        }
        let devices = Root::open(Path::new("/dev")).unwrap();
        assert!(matches!(devices.open_file("null"), Err(Refusal::Unsafe(NO_REGULAR_FILE))));
    }

    #[test]
    fn a_hard_link_to_a_strangers_file_is_refused() {
        let place = Place::new();
        std::fs::hard_link(place.at("a/b/front.jpg"), place.at("again.jpg")).unwrap();
        let ours = place.open("again.jpg").unwrap().identity;
        assert_eq!(ours.links, 2);
        let (owner, own, stranger) = (1000, 1001, 0);
        let linked = FileIdentity { uid: stranger, ..ours };
        assert!(is_somebody_elses(&linked, owner, own));
        assert!(!is_somebody_elses(&FileIdentity { links: 1, ..linked }, owner, own));
        assert!(!is_somebody_elses(&FileIdentity { uid: owner, ..linked }, owner, own));
        assert!(!is_somebody_elses(&FileIdentity { uid: own, ..linked }, owner, own));
        assert!(is_somebody_elses(&linked, owner, 0), "of root, for a service that runs as root");
        // Where the test may change owners, the complete path is tried.
        if std::os::unix::fs::chown(place.at("again.jpg"), Some(12345), None).is_ok() {
            assert_eq!(place.refusal("again.jpg"), SOMEBODY_ELSES);
        }
    }

    #[test]
    fn a_folder_that_was_created_again_is_another_one() {
        let place = Place::new();
        let root = Root::open(&place.at("a")).unwrap();
        assert!(root.still_there().unwrap());
        std::fs::remove_dir_all(place.at("a")).unwrap();
        assert!(!root.still_there().unwrap());
        std::fs::create_dir(place.at("a")).unwrap();
        assert!(!root.still_there().unwrap());
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let place = Place::new();
        let problem = place.open("none.jpg").unwrap_err().problem("none.jpg");
        assert!(problem.is_error());
        assert_eq!(problem.path.as_deref(), Some("none.jpg"));
        assert!(problem.cure.contains("send the file"), "{}", problem.cure);
    }

    #[test]
    fn times_beyond_all_reason_do_not_overflow() {
        let place = Place::new();
        let file = File::open(place.at("a/b/front.jpg")).unwrap();
        let far = rustix::fs::Timespec { tv_sec: i64::MAX / 2, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: far, last_modification: far };
        // File systems clamp or refuse such a time; the reading must succeed either way.
        rustix::fs::futimens(&file, &times).ok();
        let mut stat = rustix::fs::fstat(&file).unwrap();
        stat.st_mtime = i64::MAX;
        assert_eq!(FileIdentity::of(&stat).mtime_ns, i64::MAX);
        assert!(FileIdentity::now(&file).unwrap().mtime_ns > 0);
    }

    #[test]
    fn a_disturbed_call_is_tried_again_but_not_for_ever() {
        let mut calls = 0;
        let done = patiently(|| {
            calls += 1;
            if calls < 3 { Err(Errno::AGAIN) } else { Ok(calls) }
        });
        assert_eq!(done, Ok(3));
        assert_eq!(patiently(|| Err::<(), _>(Errno::AGAIN)), Err(Errno::AGAIN));
    }
}
