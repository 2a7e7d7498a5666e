//! Identifies a file and its state, and what is recorded of that to recognise it later.
//!
//! The device's number is recorded for people who read the queue, and never compared: Btrfs, network mounts and FUSE
//! assign another one at each mount and after each start of the machine.

/// Which file it was and in which state, as the kernel reports it of its descriptor.
///
/// Two equal identities mean the same unchanged file. A rename or a new link changes `ctime_ns` and `links` only; see
/// [`FileIdentity::same_content`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    /// The size in bytes.
    pub bytes: u64,
    /// When the content last changed, in nanoseconds since 1970, as its owner may set it.
    pub mtime_ns: i64,
    /// When content or inode last changed, in nanoseconds since 1970, as the kernel saw it.
    pub ctime_ns: i64,
    /// How many names it has.
    pub links: u64,
    pub uid: u32,
}

impl FileIdentity {
    /// Everything that shows whether it changed, as text.
    #[must_use]
    pub fn in_full(&self) -> String {
        format!("{}:{}:{}:{}:{}", self.dev, self.ino, self.bytes, self.mtime_ns, self.ctime_ns)
    }

    /// Whether both are the same file with, as far as can be known, the same content, within one mount and one opening;
    /// see [`Root::is_as_it_was`](crate::inbox::beneath::Root::is_as_it_was).
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.same_file(other) && self.bytes == other.bytes && self.mtime_ns == other.mtime_ns
    }

    /// Whether it is an earlier one in the same state, by the change time too, which no program can set.
    #[must_use]
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        self.ino == earlier.ino
            && (self.bytes, self.mtime_ns, self.ctime_ns) == (earlier.bytes, earlier.mtime_ns, earlier.ctime_ns)
    }

    /// Whether both are the same file, in whatever state.
    #[must_use]
    pub fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

/// What is recorded of a checked file: [`FileIdentity::in_full`], or without the change time where that is 0 because a later
/// change could have had the same.
#[must_use]
pub fn write_checked(identity: &FileIdentity) -> String {
    if identity.ctime_ns == 0 { write(identity) } else { identity.in_full() }
}

/// Reads what [`write_checked`] wrote.
#[must_use]
pub fn read_checked(kept: &str) -> Option<FileIdentity> {
    read_in_full(kept).or_else(|| read(kept))
}

/// A file's identity as the queue keeps it.
#[must_use]
pub fn write(identity: &FileIdentity) -> String {
    format!("{}:{}:{}:{}", identity.dev, identity.ino, identity.bytes, identity.mtime_ns)
}

/// Reads what [`write()`] wrote; what that leaves out is zero and is not compared.
#[must_use]
pub fn read(kept: &str) -> Option<FileIdentity> {
    let mut parts = kept.split(':');
    let identity = FileIdentity {
        dev: parts.next()?.parse().ok()?,
        ino: parts.next()?.parse().ok()?,
        bytes: parts.next()?.parse().ok()?,
        mtime_ns: parts.next()?.parse().ok()?,
        ctime_ns: 0,
        links: 0,
        uid: 0,
    };
    parts.next().is_none().then_some(identity)
}

/// Reads what [`FileIdentity::in_full`] wrote.
#[must_use]
pub fn read_in_full(kept: &str) -> Option<FileIdentity> {
    let (most, ctime_ns) = kept.rsplit_once(':')?;
    Some(FileIdentity { ctime_ns: ctime_ns.parse().ok()?, ..read(most)? })
}

/// A file as it is now, to be compared with a recorded one: see
/// [`Root::present`](crate::inbox::beneath::Root::present).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    identity: FileIdentity,
    /// Whether its file system keeps a file's number.
    numbers_last: bool,
}

impl Present {
    pub(crate) const fn new(identity: FileIdentity, numbers_last: bool) -> Self {
        Self { identity, numbers_last }
    }

    /// What is to be kept of it.
    #[must_use]
    pub fn to_keep(self) -> String {
        write(&self.identity)
    }

    /// Whether it is, as far as is known, the file that this was kept of, in the same state.
    ///
    /// Where numbers do not last, another file of the same size and time passes for it.
    #[must_use]
    pub fn is_kept_as(&self, kept: &str) -> bool {
        read(kept).is_some_and(|then| self.is_as(&then))
    }

    /// The same for callers that can compare the content instead: a different number is never taken for the same file.
    #[must_use]
    pub fn is_surely_kept_as(&self, kept: &str) -> bool {
        Self { numbers_last: true, ..*self }.is_kept_as(kept)
    }

    pub(crate) const fn is_as(&self, then: &FileIdentity) -> bool {
        let now = &self.identity;
        (then.ino == now.ino || !self.numbers_last) && then.bytes == now.bytes && then.mtime_ns == now.mtime_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileIdentity = FileIdentity { dev: 1, ino: 2, bytes: 3, mtime_ns: -4, ctime_ns: 0, links: 0, uid: 0 };

    #[test]
    fn an_identity_reads_back() {
        assert_eq!(read(&write(&FILE)), Some(FILE));
        assert_eq!(read_in_full(&FILE.in_full()), Some(FILE));
        assert_eq!(read_in_full(&write(&FILE)), None);
        assert_eq!(read("1:2:3"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_file_is_identified_by_all_but_its_device() {
        let present = Present::new(FILE, true);
        assert_eq!(present.to_keep(), "1:2:3:-4");
        for (kept, same) in [
            ("1:2:3:-4", true),
            ("9:2:3:-4", true),
            ("1:9:3:-4", false),
            ("1:2:9:-4", false),
            ("1:2:3:4", false),
            ("1:2:3", false),
            ("2:3:-4", false),
            ("", false),
        ] {
            assert_eq!(present.is_kept_as(kept), same, "{kept}");
            assert_eq!(present.is_surely_kept_as(kept), same, "{kept}");
        }
    }

    #[test]
    fn a_number_that_does_not_last_is_not_compared_but_is_not_sure_either() {
        let present = Present::new(FILE, false);
        for (kept, same, surely) in
            [("9:2:3:-4", true, true), ("9:9:3:-4", true, false), ("1:2:9:-4", false, false), ("1:2:3:4", false, false)]
        {
            assert_eq!((present.is_kept_as(kept), present.is_surely_kept_as(kept)), (same, surely), "{kept}");
        }
    }
}
