//! Small texts of ours that change and go away, in folders that others write to as well.
//!
//! A file that is not ours is neither replaced nor removed; whose it is is known by its last line. Nothing is synced: after a
//! power loss such a text may be empty or gone, and is written again.

use std::{
    fs::File,
    io::{self, Read},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

use super::{Access, Folder, because, numbered};

/// A text of ours is smaller than this.
const MOST_BYTES: u64 = 1 << 20;

/// So many names are tried where others have them.
const NAMES: u32 = 8;

/// A text that ends with a line by which it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnText<'a> {
    pub(crate) text: &'a str,
    /// The line, with its end.
    pub(crate) own_line: &'a str,
}

impl Folder {
    /// The name under which a text can be put: this one, or one with a number where another's file has it.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` where all are taken; else with operation and path.
    pub(crate) fn name_for_own(&self, name: &str, own_line: &str) -> io::Result<String> {
        for number in 0..NAMES {
            let candidate = numbered(name, number);
            if !matches!(self.whose(&candidate, own_line)?, NameOwner::Another) {
                return Ok(candidate);
            }
        }
        Err(because("find a free name like", &self.path().join(name))(Errno::EXIST))
    }

    /// Puts a text under this name, in the place of one of ours.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` where another's file has the name; else with operation and path.
    pub(crate) fn put_own(&self, name: &str, access: Access, own: OwnText<'_>) -> io::Result<()> {
        // By a name that does not change, so that a kill leaves one at most.
        let draft = self.unsynced_draft(name, Uuid::nil(), access, |out| out.write_all(own.text.as_bytes()))?;
        self.remove_own(name, own.own_line)?;
        self.rename_draft(draft, name)
    }

    /// Removes the text of this name where it is ours; nothing else.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub(crate) fn remove_own(&self, name: &str, own_line: &str) -> io::Result<()> {
        if !matches!(self.whose(name, own_line)?, NameOwner::Ours) {
            return Ok(());
        }
        self.unlink(name)
    }

    /// Removes what a kill left of the text of this name.
    ///
    /// # Errors
    ///
    /// With operation and path.
    pub(crate) fn remove_own_draft(&self, name: &str) -> io::Result<()> {
        self.unlink(&super::folder::hidden_name(name, Uuid::nil()))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(because("remove", &self.path().join(name))(error)),
        }
    }

    fn whose(&self, name: &str, own_line: &str) -> io::Result<NameOwner> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(self, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(NameOwner::Nobody),
            // A link, or what we may not read: none of ours.
            Err(Errno::LOOP | Errno::ACCESS | Errno::PERM | Errno::NXIO) => return Ok(NameOwner::Another),
            Err(error) => return Err(because("open", &self.path().join(name))(error)),
        };
        let read = || -> io::Result<bool> {
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.len() >= MOST_BYTES {
                return Ok(false);
            }
            let mut content = Vec::new();
            (&file).take(MOST_BYTES).read_to_end(&mut content)?;
            // Of a file that was not synced a power loss may leave the length alone.
            Ok(content.iter().all(|byte| *byte == 0) || content.ends_with(own_line.as_bytes()))
        };
        let ours = read().map_err(because("read", &self.path().join(name)))?;
        Ok(if ours { NameOwner::Ours } else { NameOwner::Another })
    }
}

enum NameOwner {
    Nobody,
    Ours,
    Another,
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;

    const LINE: &str = "This is ours.\n";

    fn put(folder: &Folder, name: &str, text: &str) -> io::Result<()> {
        let text = format!("{text}\n{LINE}");
        folder.put_own(name, Access::of_mode(0o640), OwnText { text: &text, own_line: LINE })
    }

    fn names(at: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(at).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_text_of_ours_is_replaced_and_removed_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        put(&folder, "a.txt", "one").unwrap();
        put(&folder, "a.txt", "two").unwrap();
        assert_eq!(fs::read_to_string(place.path().join("a.txt")).unwrap(), format!("two\n{LINE}"));
        assert_eq!(folder.name_for_own("a.txt", LINE).unwrap(), "a.txt");
        // What a kill left of another try.
        fs::write(place.path().join(super::super::folder::hidden_name("a.txt", Uuid::nil())), "tw").unwrap();
        put(&folder, "a.txt", "three").unwrap();
        assert_eq!(names(place.path()), ["a.txt"]);
        folder.remove_own("a.txt", LINE).unwrap();
        folder.remove_own("a.txt", LINE).unwrap();
        assert_eq!(names(place.path()), Vec::<String>::new());
        fs::write(place.path().join(super::super::folder::hidden_name("a.txt", Uuid::nil())), "tw").unwrap();
        folder.remove_own_draft("a.txt").unwrap();
        assert_eq!(names(place.path()), Vec::<String>::new());
        // As a power loss may leave it.
        fs::write(place.path().join("a.txt"), [0; 10]).unwrap();
        put(&folder, "a.txt", "four").unwrap();
    }

    #[test]
    fn what_is_not_ours_keeps_its_name_and_its_content() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = Folder::open(place.path()).unwrap();
        let target = outside.path().join("target");
        fs::write(&target, format!("theirs\n{LINE}")).unwrap();
        fs::write(place.path().join("a.txt"), format!("{LINE}and more")).unwrap();
        fs::create_dir(place.path().join("a.1.txt")).unwrap();
        symlink(&target, place.path().join("a.2.txt")).unwrap();
        rustix::fs::mkfifoat(&folder, "a.3.txt", Mode::from_raw_mode(0o600)).unwrap();
        for name in ["a.txt", "a.1.txt", "a.2.txt", "a.3.txt"] {
            let refused = put(&folder, name, "ours").unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{refused}");
            folder.remove_own(name, LINE).unwrap();
        }
        assert_eq!(names(place.path()), ["a.1.txt", "a.2.txt", "a.3.txt", "a.txt"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), format!("theirs\n{LINE}"));
        assert_eq!(folder.name_for_own("a.txt", LINE).unwrap(), "a.4.txt");
    }
}
