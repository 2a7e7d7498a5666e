//! Which file system a file is on, and what can be relied on there.
//!
//! The kernel identifies it by a number. Most are in linux/magic.h; the others are in the headers of the file systems,
//! which are named beside them.

use std::{io, os::fd::AsFd, path::Path};

use rustix::fs::StatFs;

/// How many bytes a user that is not root may still write to the file system under a path.
///
/// # Errors
///
/// The kernel's, where nothing is there or its mount is lost.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A kind of file system that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// NFS, of all versions.
    Nfs,
    /// SMB, of all versions, by either client of the kernel.
    Smb,
    /// Whatever a process serves, sshfs and virtiofs too.
    Fuse,
    /// 9p, as virtual machines and WSL share folders.
    NineP,
    /// A folder that the host of a virtual machine shares, by `vboxsf`.
    VirtualBox,
    /// Ceph, by the kernel's client.
    Ceph,
    /// AFS, by either of its clients.
    Afs,
    /// Lustre.
    Lustre,
    /// GPFS, also called Storage Scale.
    Gpfs,
    /// GFS2, on disks that machines share.
    Gfs2,
    /// OCFS2, on disks that machines share.
    Ocfs2,
    /// FAT and exFAT, as on memory cards and sticks.
    Fat,
    /// Another on a disk, or in memory, of this machine alone.
    Local,
    /// None that is known here.
    Unknown,
}

/// Whether a file system reports changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSupport {
    /// Of all of them.
    Yes,
    /// Not of those that other machines make. Holds the file system's name.
    No(&'static str),
    /// It is none that is known here.
    Unknown,
}

/// Each number with its name in the source that gives it; where none is named, that is linux/magic.h.
const NUMBERS: [(u32, FileSystem); 25] = [
    (0x0000_6969, FileSystem::Nfs),        // NFS_SUPER_MAGIC
    (0x0000_517B, FileSystem::Smb),        // SMB_SUPER_MAGIC
    (0xFF53_4D42, FileSystem::Smb),        // CIFS_SUPER_MAGIC
    (0xFE53_4D42, FileSystem::Smb),        // SMB2_SUPER_MAGIC
    (0x6573_5546, FileSystem::Fuse),       // FUSE_SUPER_MAGIC
    (0x0102_1997, FileSystem::NineP),      // V9FS_MAGIC
    (0x786F_4256, FileSystem::VirtualBox), // VBOXSF_SUPER_MAGIC, fs/vboxsf/super.c
    (0x00C3_6400, FileSystem::Ceph),       // CEPH_SUPER_MAGIC
    (0x5346_414F, FileSystem::Afs),        // AFS_SUPER_MAGIC
    (0x6B41_4653, FileSystem::Afs),        // AFS_FS_MAGIC
    (0x0BD0_0BD0, FileSystem::Lustre),     // LL_SUPER_MAGIC, lustre_user.h of Lustre
    (0x4750_4653, FileSystem::Gpfs),       // "GPFS", as coreutils' stat knows it
    (0x0116_1970, FileSystem::Gfs2),       // GFS2_MAGIC, linux/gfs2_ondisk.h
    (0x7461_636F, FileSystem::Ocfs2),      // OCFS2_SUPER_MAGIC
    (0x0000_EF53, FileSystem::Local),      // EXT4_SUPER_MAGIC, and of ext2 and ext3
    (0x5846_5342, FileSystem::Local),      // XFS_SUPER_MAGIC
    (0x9123_683E, FileSystem::Local),      // BTRFS_SUPER_MAGIC
    (0x0102_1994, FileSystem::Local),      // TMPFS_MAGIC
    (0x2FC1_2FC1, FileSystem::Local),      // ZFS_SUPER_MAGIC, sys/fs/zfs.h of OpenZFS
    (0xF2F5_2010, FileSystem::Local),      // F2FS_SUPER_MAGIC
    (0x794C_7630, FileSystem::Local),      // OVERLAYFS_SUPER_MAGIC
    (0xCA45_1A4E, FileSystem::Local),      // BCACHEFS_STATFS_MAGIC, fs/bcachefs/bcachefs_format.h
    (0x2011_BAB0, FileSystem::Fat),        // EXFAT_SUPER_MAGIC
    (0x0000_4D44, FileSystem::Fat),        // MSDOS_SUPER_MAGIC, and of vfat
    (0x7366_746E, FileSystem::Local),      // "ntfs", fs/ntfs3/super.c
];

impl FileSystem {
    /// That of an opened file or folder.
    ///
    /// # Errors
    ///
    /// The kernel's, where the mount is lost.
    pub fn of(file: &impl AsFd) -> io::Result<Self> {
        Ok(Self::of_stat(&rustix::fs::fstatfs(file)?))
    }

    /// That under a path.
    ///
    /// # Errors
    ///
    /// The kernel's, where nothing is there or its mount is lost.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of_stat(&rustix::fs::statfs(path)?))
    }

    fn of_stat(stat: &StatFs) -> Self {
        // The number has 32 bits; some processors' C has a wider type for it, and a sign.
        Self::numbered(u32::try_from(i128::from(stat.f_type) & 0xFFFF_FFFF).unwrap_or_default())
    }

    fn numbered(number: u32) -> Self {
        NUMBERS.iter().find(|(known, _)| *known == number).map_or(Self::Unknown, |(_, kind)| *kind)
    }

    /// Its name, where other machines may have it mounted too, so that no lock there is certain.
    #[must_use]
    pub const fn shared_name(self) -> Option<&'static str> {
        match self.delivers_events() {
            EventSupport::No(name) => Some(name),
            EventSupport::Yes | EventSupport::Unknown => None,
        }
    }

    /// Whether it reports changes that others make: no shared file system reports those of another machine.
    #[must_use]
    pub const fn delivers_events(self) -> EventSupport {
        match self {
            Self::Nfs => EventSupport::No("NFS"),
            Self::Smb => EventSupport::No("SMB/CIFS"),
            Self::Fuse => EventSupport::No("FUSE"),
            Self::NineP => EventSupport::No("9p"),
            Self::VirtualBox => EventSupport::No("VirtualBox shared folder"),
            Self::Ceph => EventSupport::No("Ceph"),
            Self::Afs => EventSupport::No("AFS"),
            Self::Lustre => EventSupport::No("Lustre"),
            Self::Gpfs => EventSupport::No("GPFS"),
            Self::Gfs2 => EventSupport::No("GFS2"),
            Self::Ocfs2 => EventSupport::No("OCFS2"),
            Self::Fat | Self::Local => EventSupport::Yes,
            Self::Unknown => EventSupport::Unknown,
        }
    }

    /// Whether a file keeps its inode number for as long as it exists.
    ///
    /// FUSE may give out new ones whenever the kernel forgets a file, at each mount, and for each name of a file; SMB,
    /// 9p and `vboxsf` make them up where their server has none. FAT and exFAT have none on the disk, and count up in
    /// memory each time that the kernel opens a file again.
    #[must_use]
    pub const fn keeps_numbers(self) -> bool {
        !matches!(self, Self::Fuse | Self::Smb | Self::NineP | Self::VirtualBox | Self::Fat)
    }

    /// Whether a lease that is refused as if there were a writer may mean something else: that the server has granted
    /// this machine none.
    #[must_use]
    pub const fn may_refuse_leases_without_a_writer(self) -> bool {
        matches!(self, Self::Nfs | Self::Smb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_numbers() {
        for (number, kind) in [
            (0x6969, FileSystem::Nfs),
            (0x517B, FileSystem::Smb),
            (0xFF53_4D42, FileSystem::Smb),
            (0xFE53_4D42, FileSystem::Smb),
            (0x6573_5546, FileSystem::Fuse),
            (0xEF53, FileSystem::Local),
            (0x9123_683E, FileSystem::Local),
            (0x4D44, FileSystem::Fat),
            (0x2011_BAB0, FileSystem::Fat),
            (1, FileSystem::Unknown),
        ] {
            assert_eq!(FileSystem::numbered(number), kind, "{number:#x}");
        }
        assert_eq!(FileSystem::numbered(0x6969).delivers_events(), EventSupport::No("NFS"));
        assert_eq!(FileSystem::numbered(0xFE53_4D42).delivers_events(), EventSupport::No("SMB/CIFS"));
        assert_eq!(FileSystem::numbered(0xEF53).delivers_events(), EventSupport::Yes);
        assert_eq!(FileSystem::numbered(1).delivers_events(), EventSupport::Unknown);
        for (number, _) in NUMBERS {
            assert_eq!(NUMBERS.iter().filter(|(other, _)| *other == number).count(), 1, "{number:#x}");
        }
        assert_eq!(FileSystem::at(Path::new("/dev/shm")).unwrap(), FileSystem::Local);
        assert!(FileSystem::at(Path::new("/no/such/folder")).is_err());
    }

    #[test]
    fn each_kind_answers_each_question() {
        for (kind, numbers, leases) in [
            (FileSystem::Nfs, true, true),
            (FileSystem::Smb, false, true),
            (FileSystem::Fuse, false, false),
            (FileSystem::NineP, false, false),
            (FileSystem::VirtualBox, false, false),
            (FileSystem::Ceph, true, false),
            (FileSystem::Fat, false, false),
            (FileSystem::Local, true, false),
            (FileSystem::Unknown, true, false),
        ] {
            assert_eq!(kind.keeps_numbers(), numbers, "{kind:?}");
            assert_eq!(kind.may_refuse_leases_without_a_writer(), leases, "{kind:?}");
            let delivers = kind.delivers_events();
            let local = matches!(kind, FileSystem::Local | FileSystem::Fat);
            assert_eq!(delivers == EventSupport::Yes, local, "{kind:?}");
            assert_eq!(delivers == EventSupport::Unknown, kind == FileSystem::Unknown, "{kind:?}");
        }
    }
}
