//! Asks the kernel whether somebody has a file open for writing.
//!
//! The kernel grants a read lease only on a file that nobody has open for writing. So one is requested and released at
//! once: that detects a writer in any process of this machine, whichever user runs it and whether or not `/proc` shows
//! it. A lease is granted on the process's own files, and on all files to a process with `CAP_LEASE`. Every other
//! answer means that nothing is known, and least of all that nobody writes.
//!
//! Not for keeping others from writing: somebody who opens the file in the instant in which the lease is held waits for
//! that instant, and notices nothing.
//!
//! The one file with `unsafe` in it, since no crate offers leases without.

use std::{fs::File, io, os::fd::AsRawFd};

use crate::durable::file_system::FileSystem;

/// The kernel's answer about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Nobody on this machine has it open for writing.
    NoWriter,
    /// Somebody has.
    Writer,
    /// Not known.
    Unknown,
}

/// Sets the signal that is sent when somebody opens a leased file; the same number on all architectures that Rust
/// builds for. `libc` lacks it.
const F_SETSIG: libc::c_int = 10;

/// Whether somebody has this file open for writing, which must be opened for reading only.
#[must_use]
pub fn ask(file: &File) -> LeaseState {
    // When somebody opens the file for writing while the lease is held, its holder gets a signal. By default that is
    // SIGIO, which ends a process that does not expect it; SIGURG passes unnoticed.
    if control(file, LeaseCommand::Signal).is_err() {
        return LeaseState::Unknown;
    }
    let asked = control(file, LeaseCommand::Take);
    if asked.is_ok() {
        // Should that fail, the lease ends with the descriptor.
        control(file, LeaseCommand::GiveBack).ok();
    }
    judge(asked, || is_remote(file))
}

fn judge(asked: io::Result<()>, is_remote: impl FnOnce() -> bool) -> LeaseState {
    match asked {
        Ok(()) => LeaseState::NoWriter,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_remote() => LeaseState::Writer,
        Err(_) => LeaseState::Unknown,
    }
}

fn is_remote(file: &File) -> bool {
    FileSystem::of(file).map_or(true, FileSystem::may_refuse_leases_without_a_writer)
}

/// What is asked of a descriptor.
#[derive(Debug, Clone, Copy)]
enum LeaseCommand {
    Signal,
    Take,
    GiveBack,
}

#[expect(unsafe_code, reason = "no crate offers leases without")]
fn control(file: &File, command: LeaseCommand) -> io::Result<()> {
    let (command, argument) = match command {
        LeaseCommand::Signal => (F_SETSIG, libc::SIGURG),
        LeaseCommand::Take => (libc::F_SETLEASE, libc::F_RDLCK),
        LeaseCommand::GiveBack => (libc::F_SETLEASE, libc::F_UNLCK),
    };
    // SAFETY: the descriptor stays open as long as `file` is borrowed, and these commands take a number, so that the kernel
    // neither reads nor writes any memory of ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    /// Asks until the answer is this one: a process that another test starts has a copy of every descriptor for a moment.
    #[track_caller]
    fn in_the_end(file: &File, wanted: LeaseState) {
        let came = (0..1_000_000).any(|_| {
            thread::yield_now();
            ask(file) == wanted
        });
        assert!(came, "{:?} and not {wanted:?}", ask(file));
    }

    #[test]
    fn a_writer_is_detected_and_a_reader_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.png");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(ask(&file), LeaseState::Writer);
        drop(writer);
        let reader = File::open(&path).unwrap();
        in_the_end(&file, LeaseState::NoWriter);
        in_the_end(&reader, LeaseState::NoWriter);
        let both = File::options().read(true).write(true).open(&path).unwrap();
        assert_eq!(ask(&file), LeaseState::Writer);
        drop(both);
        // The lease was given back each time: nobody waits who opens the file for writing.
        drop(File::options().append(true).open(&path).unwrap());
        in_the_end(&file, LeaseState::NoWriter);
    }

    #[test]
    fn a_writer_of_a_foreign_file_is_detected_with_the_capability_only() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.png");
        let writer = File::create(&path).unwrap();
        // A process that may not give files away is not root, and then root's files are foreign.
        let given = std::os::unix::fs::chown(&path, Some(12345), None).is_ok();
        let stranger = if given { path } else { "/etc/passwd".into() };
        let file = File::open(&stranger).unwrap();
        if given && capabilities(None).unwrap().effective.contains(CapabilitySet::LEASE) {
            assert_eq!(ask(&file), LeaseState::Writer);
        }
        // Of this one thread.
        let without = thread::spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::LEASE);
            set_capabilities(None, sets).unwrap();
            ask(&file)
        });
        assert_eq!(without.join().unwrap(), LeaseState::Unknown);
        drop(writer);
    }

    #[test]
    fn what_has_no_leases_gives_no_answer() {
        assert_eq!(ask(&File::open("/dev/null").unwrap()), LeaseState::Unknown);
    }

    #[test]
    fn a_server_that_promised_nothing_is_no_writer() {
        let refused = || Err(io::Error::from(io::ErrorKind::WouldBlock));
        assert_eq!(judge(refused(), || false), LeaseState::Writer);
        assert_eq!(judge(refused(), || true), LeaseState::Unknown);
        assert_eq!(judge(Err(io::ErrorKind::PermissionDenied.into()), || false), LeaseState::Unknown);
        assert_eq!(judge(Err(io::ErrorKind::InvalidInput.into()), || false), LeaseState::Unknown);
        assert!(!is_remote(&File::open(std::env::current_exe().unwrap()).unwrap()));
    }
}
