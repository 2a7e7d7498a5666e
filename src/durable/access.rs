//! Who may read a file that is written: its permissions, and the group that it is given to.

use std::{io, os::fd::AsFd};

use nix::unistd::Group;
use rustix::fs::{Gid, Mode};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Its permission bits. Where a group is named they hold as they are, else the process's umask takes its share.
    pub mode: u32,
    /// The group that it is given to, and folders that are made for it; `None` leaves that to the system.
    pub group: Option<Gid>,
}

impl Access {
    /// These permissions, for the group that the system chooses.
    #[must_use]
    pub const fn of_mode(mode: u32) -> Self {
        Self { mode, group: None }
    }

    /// Gives a file, or a folder that was made, to the group.
    pub(super) fn give(self, file: &impl AsFd, mode: u32) -> io::Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        rustix::fs::fchown(file, None, Some(group)).map_err(|error| {
            let error = io::Error::from(error);
            let cure = "let the service's user be a member of the group `receipt_group`";
            io::Error::new(error.kind(), format!("it cannot be given to group {}: {error}; {cure}", group.as_raw()))
        })?;
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o777))?)
    }
}

/// Why a group's name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is no such group.
    #[error("there is no group {name:?}: make it, or correct `receipt_group`")]
    Unknown { name: String },
    /// The system could not look it up.
    #[error("the group {name:?} cannot be looked up: {source}")]
    Failed { name: String, source: io::Error },
}

/// The number of the group with this name.
///
/// # Errors
///
/// Where there is none, or the system cannot say.
pub fn group_of(name: &str) -> Result<Gid, GroupError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Gid::from_raw(group.gid.as_raw())),
        Ok(None) => Err(GroupError::Unknown { name: name.to_owned() }),
        Err(error) => Err(GroupError::Failed { name: name.to_owned(), source: error.into() }),
    }
}

/// Whether this process may give files to a group: it is a member, or root.
#[must_use]
pub fn may_give_to(group: Gid) -> bool {
    rustix::process::geteuid().is_root()
        || rustix::process::getegid() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.contains(&group))
}
