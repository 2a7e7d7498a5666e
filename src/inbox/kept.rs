//! What is kept of a file's identity, to tell later whether it is still that file in that state.
//!
//! The device's number is written down for whoever looks into the queue, and never compared: Btrfs, network mounts and FUSE
//! get another one at each mount, and after each start of the machine.

use super::beneath::Identity;

/// A file's identity as the queue keeps it.
#[must_use]
pub fn write(identity: &Identity) -> String {
    format!("{}:{}:{}:{}", identity.dev, identity.ino, identity.bytes, identity.mtime_ns)
}

/// Reads what [`write()`] wrote; what that leaves out is zero and is not compared.
#[must_use]
pub fn read(kept: &str) -> Option<Identity> {
    let mut parts = kept.split(':');
    let identity = Identity {
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

/// A file as it is now, to be compared with what was kept of one: see
/// [`Root::present`](super::beneath::Root::present).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    identity: Identity,
    /// Whether its file system keeps a file's number.
    numbers_last: bool,
}

impl Present {
    pub(super) const fn new(identity: Identity, numbers_last: bool) -> Self {
        Self { identity, numbers_last }
    }

    /// What is to be kept of it.
    #[must_use]
    pub fn to_keep(&self) -> String {
        write(&self.identity)
    }

    /// Whether it is, as far as can be told, the file that this was kept of, in the same state.
    ///
    /// Where numbers do not last, another file of the same size and time passes for it.
    #[must_use]
    pub fn is_kept_as(&self, kept: &str) -> bool {
        read(kept).is_some_and(|then| self.is_as(&then))
    }

    /// The same for whoever can look at the content otherwise: where the number is another one, nothing is taken for sure.
    #[must_use]
    pub fn is_surely_kept_as(&self, kept: &str) -> bool {
        Self { numbers_last: true, ..*self }.is_kept_as(kept)
    }

    pub(super) const fn is_as(&self, then: &Identity) -> bool {
        let now = &self.identity;
        (then.ino == now.ino || !self.numbers_last) && then.bytes == now.bytes && then.mtime_ns == now.mtime_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Identity = Identity { dev: 1, ino: 2, bytes: 3, mtime_ns: -4, ctime_ns: 0, links: 0, uid: 0 };

    #[test]
    fn an_identity_reads_back() {
        assert_eq!(read(&write(&FILE)), Some(FILE));
        assert_eq!(read("1:2:3"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_file_is_told_by_all_but_its_device() {
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
