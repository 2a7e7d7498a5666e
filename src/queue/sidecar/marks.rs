//! Marks of the latest start: beside the database, and in the folders that receipts are written to.
//!
//! A mark counts only if it is this user's, and nobody else may write to it or has another name for it. The start in it is
//! synced; the number of commits beside the database is overwritten in place after each commit and never synced: it has to
//! outlive the process, not the machine, and after a power cut an older number proves nothing, which is safe.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxFlags},
    io::Errno,
};
use xxhash_rust::xxh3::xxh3_64;

use super::beside;
use crate::{
    durable::{Access, Folder, file_system::FileSystem},
    killpoint,
    queue::lineage::decide::{MarkBeside, SeenMark},
};

/// How the name of the mark beside a database ends.
pub(super) const ENDING: &str = ".lineage";

/// What the names of marks in receipts folders begin with; the account follows.
const IN_RECEIPTS: &str = ".passfort-ingest-start-";

/// The first line of each mark.
const HEAD: &str = "passfort-ingest start 1\n";

/// Who may read a mark.
const ACCESS: Access = Access::of_mode(0o640);

/// Longer than any mark.
const READ_BYTES: u64 = 1024;

/// The line that counts, which is overwritten alone. Its check is of the start too, so that no line of an earlier start
/// is taken for one of this.
fn commits_line(start: i64, commits: i64) -> String {
    let check = xxh3_64([start.to_le_bytes(), commits.to_le_bytes()].as_flattened());
    format!("commits {commits:020} {check:016x}\n")
}

/// What is before that line; always of the same length.
fn before_commits(start: i64, file: Option<u64>) -> String {
    format!("{HEAD}{start:016x}\nfile {:020}\n", file.unwrap_or_default())
}

fn text_beside(mark: &MarkBeside) -> String {
    before_commits(mark.start, mark.file) + &commits_line(mark.start, mark.commits.unwrap_or_default())
}

fn start_in(text: &str) -> Option<(i64, &str)> {
    let (number, rest) = text.strip_prefix(HEAD)?.split_once('\n')?;
    (number.len() == 16).then_some(())?;
    Some((i64::from_str_radix(number, 16).ok()?, rest))
}

fn parse_beside(text: &str) -> Option<MarkBeside> {
    let (start, rest) = start_in(text)?;
    let (file, rest) = rest.strip_prefix("file ")?.split_once('\n')?;
    let file = file.parse().ok()?;
    let commits = rest.split(' ').nth(1).and_then(|number| number.parse().ok());
    let commits = commits.filter(|commits| commits_line(start, *commits) == rest);
    Some(MarkBeside { start, commits, file: (file != 0).then_some(file) })
}

/// What speaks against a mark's file, and the cure.
fn distrust(stat: &Stat) -> Option<String> {
    let us = rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        Some("it is no regular file: remove it".to_owned())
    } else if stat.st_uid != us {
        Some(format!("it belongs to user {}, not to the worker's, {us}: chown it", stat.st_uid))
    } else if stat.st_mode & 0o022 != 0 {
        Some(format!("others may write to it (mode {:04o}): chmod go-w", stat.st_mode & 0o7777))
    } else if stat.st_nlink > 1 {
        Some("it has another name, a hard link: remove that".to_owned())
    } else {
        None
    }
}

fn open(folder: &Folder, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty()).map(File::from)?)
}

fn read<T>(folder: &Folder, name: &str, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<SeenMark<T>> {
    let untrusted = |reason: &str| SeenMark::Untrusted(format!("{}: {reason}", folder.path().join(name).display()));
    let file = match open(folder, name, OFlags::RDONLY) {
        Ok(file) => file,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => Ok(SeenMark::Missing),
                Some(Errno::LOOP) => Ok(untrusted("it is a symbolic link: remove it")),
                Some(Errno::ACCESS) => Ok(untrusted("the worker's user may not read it: chown it")),
                _ => Err(error),
            };
        }
    };
    if let Some(reason) = distrust(&rustix::fs::fstat(&file)?) {
        return Ok(untrusted(&reason));
    }
    let mut bytes = Vec::new();
    file.take(READ_BYTES).read_to_end(&mut bytes)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(parse).map_or(SeenMark::Blank, SeenMark::Found))
}

/// Writes a mark over the one that is there, synced.
fn write(folder: &Folder, name: &str, text: &str) -> io::Result<File> {
    killpoint::before("mark", "write");
    if let Ok(file) = open(folder, name, OFlags::RDWR)
        && distrust(&rustix::fs::fstat(&file)?).is_none()
    {
        // It has this length already, or is empty; a cut within it is noticed by its check or its words.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
        file.sync_data()?;
        killpoint::after("mark", "write");
        return Ok(file);
    }
    folder.sweep(name)?;
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    folder.publish_quietly(name, ACCESS, |out| out.write_all(text.as_bytes()))?;
    killpoint::after("mark", "write");
    open(folder, name, OFlags::RDWR)
}

fn place_beside(database: &Path) -> io::Result<(Folder, String)> {
    let path = beside(database, ENDING);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::ILSEQ)?;
    Ok((Folder::open(parent)?, name.to_owned()))
}

/// A number that a copy of a database's file does not share: of its inode, and when that was made, since file systems give
/// a number out again. `None` where they do not keep them.
pub(crate) fn file_number(database: &Path) -> io::Result<Option<u64>> {
    if !FileSystem::at(database)?.keeps_numbers() {
        return Ok(None);
    }
    let stat = rustix::fs::statx(CWD, database, AtFlags::empty(), StatxFlags::INO | StatxFlags::BTIME)?;
    let has_made = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let made = if has_made { (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec) } else { (0, 0) };
    let bytes = [stat.stx_ino.to_le_bytes(), made.0.to_le_bytes(), u64::from(made.1).to_le_bytes()];
    Ok(Some(xxh3_64(bytes.as_flattened())))
}

/// The mark beside a database.
///
/// # Errors
///
/// Where it cannot be read although it is there.
pub(crate) fn read_beside(database: &Path) -> io::Result<SeenMark<MarkBeside>> {
    let (folder, name) = place_beside(database)?;
    read(&folder, &name, parse_beside)
}

/// Writes the mark beside a database, and returns what counts in it from now on.
pub(crate) fn write_beside(database: &Path, mark: &MarkBeside) -> io::Result<CommitMark> {
    let (folder, name) = place_beside(database)?;
    let file = write(&folder, &name, &text_beside(mark))?;
    let at = before_commits(mark.start, mark.file).len() as u64;
    Ok(CommitMark { file, at, start: mark.start, has_failed: AtomicBool::new(false) })
}

fn name_for(account: &str) -> String {
    format!("{IN_RECEIPTS}{:016x}", xxh3_64(account.as_bytes()))
}

/// The start that the mark of an account names in a receipts folder.
pub(crate) fn read_in_receipts(folder: &Folder, account: &str) -> io::Result<SeenMark<i64>> {
    read(folder, &name_for(account), |text| start_in(text).map(|(start, _)| start))
}

/// Writes the mark of an account in a receipts folder.
pub(crate) fn write_in_receipts(folder: &Folder, account: &str, start: i64) -> io::Result<()> {
    write(folder, &name_for(account), &format!("{HEAD}{start:016x}\n")).map(drop)
}

/// Counts commits beside the database.
#[derive(Debug)]
pub(crate) struct CommitMark {
    file: File,
    at: u64,
    start: i64,
    has_failed: AtomicBool,
}

impl CommitMark {
    /// Notes how many commits there are. Costs a write to the page cache.
    pub(crate) fn note(&self, commits: i64) {
        killpoint::before("note", "commits");
        // An older number proves nothing, so a failure is no reason to stop.
        if let Err(error) = self.file.write_all_at(commits_line(self.start, commits).as_bytes(), self.at)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "cannot count commits beside the database: an older copy of it may not be recognised");
        }
        killpoint::after("note", "commits");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const MARK: MarkBeside = MarkBeside { start: 0x00ab_cdef, commits: Some(5), file: Some(12) };

    fn place() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("queue.db");
        fs::write(&database, "").unwrap();
        (folder, database)
    }

    #[test]
    fn what_is_written_is_read_again_and_counts_on() {
        let (_folder, database) = place();
        assert_eq!(read_beside(&database).unwrap(), SeenMark::Missing);
        let mark = write_beside(&database, &MARK).unwrap();
        assert_eq!(read_beside(&database).unwrap(), SeenMark::Found(MARK));
        mark.note(1_000_000);
        assert_eq!(read_beside(&database).unwrap(), SeenMark::Found(MarkBeside { commits: Some(1_000_000), ..MARK }));
        let next = MarkBeside { start: 9, file: None, ..MARK };
        write_beside(&database, &next).unwrap();
        assert_eq!(read_beside(&database).unwrap(), SeenMark::Found(next));
    }

    #[test]
    fn what_a_power_cut_left_is_no_evidence() {
        let (_folder, database) = place();
        write_beside(&database, &MARK).unwrap();
        let path = beside(&database, ENDING);
        let text = fs::read_to_string(&path).unwrap();
        for (left, expected) in [
            (String::new(), SeenMark::Blank),
            ("\0".repeat(text.len()), SeenMark::Blank),
            (text.replace("0000005 ", "0000007 "), SeenMark::Found(MarkBeside { commits: None, ..MARK })),
            (text.get(..70).unwrap().to_owned(), SeenMark::Found(MarkBeside { commits: None, ..MARK })),
        ] {
            fs::write(&path, left).unwrap();
            assert_eq!(read_beside(&database).unwrap(), expected);
        }
    }

    #[test]
    fn a_mark_that_others_could_have_written_does_not_count_and_is_replaced() {
        let (place, _) = place();
        let folder = Folder::open(place.path()).unwrap();
        let path = place.path().join(name_for("account:a"));
        let seen = || read_in_receipts(&folder, "account:a").unwrap();
        write_in_receipts(&folder, "account:a", 3).unwrap();
        assert_eq!(seen(), SeenMark::Found(3));
        assert_eq!(read_in_receipts(&folder, "account:b").unwrap(), SeenMark::Missing);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(seen(), SeenMark::Untrusted(reason) if reason.contains("chmod go-w")));
        write_in_receipts(&folder, "account:a", 4).unwrap();
        assert_eq!(seen(), SeenMark::Found(4));
        fs::hard_link(&path, place.path().join("other")).unwrap();
        assert!(matches!(seen(), SeenMark::Untrusted(_)));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert!(matches!(seen(), SeenMark::Untrusted(_)));
        write_in_receipts(&folder, "account:a", 5).unwrap();
        assert_eq!(seen(), SeenMark::Found(5));
    }
}
