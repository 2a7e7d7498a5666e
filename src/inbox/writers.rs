//! Who has files open for writing, as far as the system lets this process know.
//!
//! First the kernel is asked for a lease, which covers all processes of this machine; see [`lease`]. It gives no answer
//! about files of other owners without the capability, nor about those of a network share. For these, and for the name
//! of a writer that the kernel only reports to exist, `/proc` is read: it shows the open files of this user's
//! processes, to root those of all, and none where it is hidden. For writers that neither shows there are the settle
//! time (debounce) and done markers; a writer that is known is always waited for.
//!
//! No link in it is followed before it is known to lead to the file in question, since one may lead to a lost mount.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::lease::{self, LeaseState};
use crate::file_identity::FileIdentity;

/// The writer's name where the kernel reports one, and `/proc` does not show it.
const OUT_OF_SIGHT: &str = "a process that this user cannot see";

/// Finds out who has files open for writing.
#[derive(Debug)]
pub struct Writers {
    /// What `/proc` showed last. Most files do not need it.
    shown: Option<Shown>,
    /// For how long that is used.
    lasts: Duration,
}

impl Writers {
    /// Reads nothing yet. `/proc` is read at most once per `lasts`, since that takes a walk through all processes.
    #[must_use]
    pub const fn new(lasts: Duration) -> Self {
        Self { shown: None, lasts }
    }

    /// Who has this file open for writing, for people: a process's name and number, where those are known.
    #[must_use]
    pub fn of(&mut self, file: &File, identity: &FileIdentity) -> Option<String> {
        match lease::ask(file) {
            LeaseState::NoWriter => None,
            LeaseState::Writer => Some(self.shown(identity).unwrap_or_else(|| OUT_OF_SIGHT.to_owned())),
            LeaseState::Unknown => self.shown(identity),
        }
    }

    fn shown(&mut self, identity: &FileIdentity) -> Option<String> {
        let lasts = self.lasts;
        self.shown.take_if(|shown| shown.at.elapsed() >= lasts);
        self.shown.get_or_insert_with(Shown::look).of(identity)
    }
}

/// What was open for writing at a moment, as far as `/proc` shows it.
#[derive(Debug)]
struct Shown {
    /// By the file's number, which several file systems may share.
    open: HashMap<u64, Vec<Descriptor>>,
    /// When it was read.
    at: Instant,
}

#[derive(Debug)]
struct Descriptor {
    pid: u32,
    link: PathBuf,
}

impl Shown {
    /// Reads it. Where there is no `/proc`, nobody writes as far as is known.
    fn look() -> Self {
        let mut open: HashMap<u64, Vec<Descriptor>> = HashMap::new();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            for (ino, link) in descriptors(pid) {
                open.entry(ino).or_default().push(Descriptor { pid, link });
            }
        }
        Self { open, at: Instant::now() }
    }

    /// Who has this file open for writing, for people: a process's name and number.
    fn of(&self, file: &FileIdentity) -> Option<String> {
        let descriptor = self.open.get(&file.ino)?.iter().find(|descriptor| {
            // Same number: only now it is worth asking whether it is the same file.
            rustix::fs::stat(&descriptor.link).is_ok_and(|stat| FileIdentity::of(&stat).same_file(file))
        })?;
        let name = fs::read_to_string(format!("/proc/{}/comm", descriptor.pid)).unwrap_or_default();
        let name = name.trim_end().escape_debug().to_string();
        Some(if name.is_empty() {
            format!("process {}", descriptor.pid)
        } else {
            format!("{name} (process {})", descriptor.pid)
        })
    }
}

/// The files that a process has open for writing, by their numbers. A process that is gone, or that this one may not
/// inspect, has none.
fn descriptors(pid: u32) -> impl Iterator<Item = (u64, PathBuf)> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(move |entry| {
        let link = entry.path();
        // Sockets, pipes and the like have no path; devices and the system's own files are in no drop.
        let path = fs::read_link(&link).ok()?;
        if !path.is_absolute() || ["/dev", "/proc", "/sys"].iter().any(|system| path.starts_with(system)) {
            return None;
        }
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().to_str()?)).ok()?;
        let (ino, writes) = read_info(&info)?;
        writes.then_some((ino, link))
    })
}

/// The file's number, and whether it is open for writing.
fn read_info(info: &str) -> Option<(u64, bool)> {
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = u32::from_str_radix(value("flags:")?, 8).ok()?;
    Some((value("ino:")?.parse().ok()?, flags & 0o3 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::beneath::Root;

    #[test]
    fn a_writer_is_known_and_a_reader_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.png");
        let file = File::create(&path).unwrap();
        let identity = Root::open(place.path()).unwrap().open_file("a.png").unwrap().identity;
        let who = Shown::look().of(&identity).unwrap();
        assert!(who.contains(&std::process::id().to_string()), "{who}");
        drop(file);
        let _reader = File::open(&path).unwrap();
        assert_eq!(Shown::look().of(&identity), None);
    }

    #[test]
    fn a_writer_is_named_where_it_is_shown_and_detected_where_it_is_not() {
        let place = tempfile::tempdir().unwrap();
        let _writer = File::create(place.path().join("a.png")).unwrap();
        let opened = Root::open(place.path()).unwrap().open_file("a.png").unwrap();
        let mut writers = Writers::new(Duration::from_secs(3600));
        let who = writers.of(&opened.file, &opened.identity).unwrap();
        assert!(who.contains(&std::process::id().to_string()), "{who}");
        // As where `/proc` hides it.
        writers.shown = Some(Shown { open: HashMap::new(), at: Instant::now() });
        assert_eq!(writers.of(&opened.file, &opened.identity).as_deref(), Some(OUT_OF_SIGHT));
    }

    #[test]
    fn what_the_kernel_says_of_a_descriptor_is_read() {
        let info = |flags: &str| format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t30\nino:\t4711\n");
        assert_eq!(read_info(&info("0100000")), Some((4711, false)));
        assert_eq!(read_info(&info("0100001")), Some((4711, true)));
        assert_eq!(read_info(&info("0100002")), Some((4711, true)));
        assert_eq!(read_info("pos:\t0\nflags:\t01\n"), None);
    }
}
