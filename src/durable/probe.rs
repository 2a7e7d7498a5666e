//! Tries whether files can be put into a folder, by the calls with which they are.

use std::{io, os::fd::AsFd as _};

use rustix::{fs::AtFlags, io::Errno};

use super::{Access, Folder, because, folder::rename_without_replacing};

/// What the files are called that are made for a try. They are hidden, and gone when it is over.
const PROBE: &str = "passfort-ingest-probe";

/// What they are called once they were moved.
const MOVED: &str = "passfort-ingest-moved";

/// How often a try is made again whose file another process took for one that a crash left.
const TRIES: u32 = 3;

impl Folder {
    /// Creates a file here, moves it into `target`, which may be the same folder, removes it there, and syncs both.
    ///
    /// # Errors
    ///
    /// What failed, with operation and path.
    pub(crate) fn probe_into(&self, target: &Self) -> io::Result<()> {
        // What a crash left of an earlier try.
        self.sweep(PROBE)?;
        target.sweep(MOVED)?;
        for _ in 1..TRIES {
            match self.try_once(target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                tried => return tried,
            }
        }
        self.try_once(target)
    }

    fn try_once(&self, target: &Self) -> io::Result<()> {
        let draft = self.draft(PROBE, Access::of_mode(0o600), |out| out.write_all(b"a try of passfort-ingest\n"))?;
        let moved = draft.name.replacen(PROBE, MOVED, 1);
        rename_without_replacing(self.as_fd(), &draft.name, target.as_fd(), &moved)
            .map_err(because("move a file into", target.path()))?;
        draft.keep();
        match rustix::fs::unlinkat(target, moved.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(because("remove a file from", target.path())(error)),
        }
        target.sync()?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_try_leaves_nothing_behind_not_even_after_a_crash() {
        let place = tempfile::tempdir().unwrap();
        let (one, two) = (place.path().join("one"), place.path().join("two"));
        let (from, to) = (Folder::create(&one).unwrap(), Folder::create(&two).unwrap());
        let number = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        fs::write(one.join(format!(".{PROBE}.{number}.tmp")), "").unwrap();
        fs::write(two.join(format!(".{MOVED}.{number}.tmp")), "").unwrap();
        from.probe_into(&to).unwrap();
        from.probe_into(&from).unwrap();
        assert_eq!(fs::read_dir(&one).unwrap().count() + fs::read_dir(&two).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_on_another_file_system_is_told_from_one_that_cannot_be_written() {
        let (place, Ok(other)) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm")) else { return };
        let (here, there) = (Folder::open(place.path()).unwrap(), Folder::open(other.path()).unwrap());
        assert_eq!(here.probe_into(&there).unwrap_err().kind(), io::ErrorKind::CrossesDevices);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        fs::remove_dir(place.path()).unwrap();
        assert_eq!(here.probe_into(&here).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
