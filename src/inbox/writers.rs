//! Who has files open for writing, as far as the system lets this process know.
//!
//! The kernel's own answer would be a read lease, but a lease needs a call that no kept crate offers without `unsafe`,
//! and files of other owners need a right for it besides. So `/proc` is read: it shows the open files of this user's
//! processes, of everybody's to root, and of nobody's where it is hidden. What it does not show is left to the settle
//! time and to done markers; a writer that it shows is always waited for.
//!
//! No link in it is followed before it is known to lead to the file in question, since one may lead to a lost mount.

use std::{collections::HashMap, fs, path::PathBuf, time::Instant};

use super::beneath::Identity;

/// What was open for writing at a moment.
#[derive(Debug)]
pub struct Writers {
    /// By the file's number, which several file systems may share.
    open: HashMap<u64, Vec<Descriptor>>,
    /// When it was looked up.
    pub at: Instant,
}

#[derive(Debug)]
struct Descriptor {
    pid: u32,
    link: PathBuf,
}

impl Writers {
    /// Looks them up. Where there is no `/proc`, nobody writes as far as is known.
    #[must_use]
    pub fn look() -> Self {
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
    #[must_use]
    pub fn of(&self, file: &Identity) -> Option<String> {
        let descriptor = self.open.get(&file.ino)?.iter().find(|descriptor| {
            // Same number: only now it is worth asking whether it is the same file.
            rustix::fs::stat(&descriptor.link).is_ok_and(|stat| Identity::of(&stat).same_file(file))
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

/// The files that a process has open for writing, by their numbers. A process that is gone, or not ours to look into,
/// has none.
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
        let file = fs::File::create(&path).unwrap();
        let identity = Root::open(place.path()).unwrap().open_file("a.png").unwrap().identity;
        let who = Writers::look().of(&identity).unwrap();
        assert!(who.contains(&std::process::id().to_string()), "{who}");
        drop(file);
        let _reader = fs::File::open(&path).unwrap();
        assert_eq!(Writers::look().of(&identity), None);
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
