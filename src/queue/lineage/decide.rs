//! Whether a database is the one that was worked with last, from what it says and what the marks outside of it say.

use std::{fmt, path::PathBuf};

use crate::clock::Timestamp;

/// What was found in a mark's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenMark<T> {
    /// Nothing.
    Missing,
    /// It is empty or torn, as a power cut leaves it.
    Blank,
    /// Others than the worker's user could have written it; the reason and the cure.
    Untrusted(String),
    /// What it says.
    Found(T),
}

/// The mark beside a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkBeside {
    /// The number of the latest start.
    pub start: i64,
    /// The commits that were made by then; `None` where that part is torn. It is never synced.
    pub commits: Option<i64>,
    /// A number of the database's file that no copy has; `None` on file systems that keep none.
    pub file: Option<u64>,
}

/// What a database says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Whether the mark beside it was ever written.
    pub is_marked: bool,
    /// Whether the start that the mark beside it names is one of its own.
    pub knows_start: bool,
    /// The commits that workers made.
    pub commits: i64,
    /// The number of its file; `None` as in [`MarkBeside`].
    pub file: Option<u64>,
    /// When it was made as a backup, where no worker was allowed to use it since.
    pub backup_of: Option<Timestamp>,
}

/// Why a database must not be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineageFault {
    /// It is a copy that `backup` made.
    Backup(Timestamp),
    /// No worker has used it, and another one was here.
    New,
    /// No worker has used it, and these receipts are another queue's.
    Lost(PathBuf),
    /// A start was made of which it knows nothing.
    UnknownStart,
    /// So many commits are missing.
    Older(i64),
    /// It is not the file that the mark beside it was written for, or there is no mark.
    Copied,
    /// The mark beside it proves nothing.
    Untrusted(String),
}

impl fmt::Display for LineageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backup(taken) => write!(f, "it is a backup of {taken}, and knows nothing of what was done since"),
            Self::New => f.write_str("it is new, and another database was used at this path"),
            Self::Lost(folder) => {
                write!(f, "it is new, and another database put its receipts into {}", folder.display())
            }
            Self::UnknownStart => {
                f.write_str("it is older than what was done here, or another one: it does not know the latest start")
            }
            Self::Older(commits) => write!(f, "it is older than what was done with it: {commits} commits are missing"),
            Self::Copied => {
                f.write_str("it was copied or moved, or the file beside it whose name ends in .lineage was removed")
            }
            Self::Untrusted(reason) => f.write_str(reason),
        }
    }
}

/// Whether a database may be worked with. `foreign`: a receipts folder of this worker whose mark names a start that the
/// database does not know.
///
/// # Errors
///
/// Why not.
pub fn decide(
    database: &DatabaseFacts,
    beside: &SeenMark<MarkBeside>,
    foreign: Option<PathBuf>,
) -> Result<(), LineageFault> {
    if let Some(taken) = database.backup_of {
        return Err(LineageFault::Backup(taken));
    }
    match (database.is_marked, beside) {
        // A new one, or one of a release that knew no marks. A first start may have been cut off before it was noted that
        // the mark beside was written.
        (false, SeenMark::Found(_)) if !database.knows_start => Err(LineageFault::New),
        (false, _) => foreign.map_or(Ok(()), |folder| Err(LineageFault::Lost(folder))),
        (true, SeenMark::Missing) => Err(LineageFault::Copied),
        (true, SeenMark::Untrusted(reason)) => Err(LineageFault::Untrusted(reason.clone())),
        (true, SeenMark::Blank) => Ok(()),
        (true, SeenMark::Found(_)) if !database.knows_start => Err(LineageFault::UnknownStart),
        (true, SeenMark::Found(mark)) => {
            let missing = mark.commits.map_or(0, |commits| commits.saturating_sub(database.commits));
            if missing > 0 {
                return Err(LineageFault::Older(missing));
            }
            let moved = mark.file.zip(database.file).is_some_and(|(then, now)| then != now);
            if moved { Err(LineageFault::Copied) } else { Ok(()) }
        }
    }
}

/// What to do about the mark in a receipts folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptsMark {
    /// It names the latest start.
    Good,
    /// It is missing, proves nothing, or names an earlier start: it is written.
    Write,
    /// It names a start that the database does not know: what was done then may be missing in the database.
    Foreign,
}

/// What to do about a mark in a receipts folder, given the latest start, and whether the database knows the one that is
/// named.
#[must_use]
pub fn decide_receipts(seen: &SeenMark<i64>, latest: i64, knows_start: bool) -> ReceiptsMark {
    match seen {
        SeenMark::Found(start) if *start == latest => ReceiptsMark::Good,
        SeenMark::Found(_) if !knows_start => ReceiptsMark::Foreign,
        _ => ReceiptsMark::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: MarkBeside = MarkBeside { start: 7, commits: Some(40), file: Some(3) };
    const FACTS: DatabaseFacts =
        DatabaseFacts { is_marked: true, knows_start: true, commits: 40, file: Some(3), backup_of: None };

    fn found(change: impl FnOnce(&mut MarkBeside)) -> SeenMark<MarkBeside> {
        let mut mark = MARK;
        change(&mut mark);
        SeenMark::Found(mark)
    }

    #[test]
    fn a_database_is_worked_with_only_where_nothing_was_done_that_it_does_not_know() {
        use SeenMark::{Blank, Found, Missing, Untrusted};
        let new = DatabaseFacts { is_marked: false, knows_start: false, commits: 0, ..FACTS };
        let begun = DatabaseFacts { is_marked: false, ..FACTS };
        let unknown = DatabaseFacts { knows_start: false, ..FACTS };
        let backup = DatabaseFacts { backup_of: Some(Timestamp(9)), ..FACTS };
        let receipts = || Some(PathBuf::from("/srv/receipts"));
        let lost = || Err(LineageFault::Lost("/srv/receipts".into()));
        let loose = || Untrusted("loose".to_owned());
        for (what, facts, beside, foreign, expected) in [
            ("new", new, Missing, None, Ok(())),
            ("new, a power cut", new, Blank, None, Ok(())),
            ("new, a stranger's mark", new, loose(), None, Ok(())),
            ("new, where another one was", new, Found(MARK), None, Err(LineageFault::New)),
            ("new, and receipts are another's", new, Missing, receipts(), lost()),
            ("its first start was cut off", begun, Found(MARK), None, Ok(())),
            ("as it was left", FACTS, Found(MARK), None, Ok(())),
            ("receipts of one drop are another's", FACTS, Found(MARK), receipts(), Ok(())),
            ("ahead of its mark", FACTS, found(|mark| mark.commits = Some(39)), None, Ok(())),
            ("its mark's counter is torn", FACTS, found(|mark| mark.commits = None), None, Ok(())),
            ("behind its mark", FACTS, found(|mark| mark.commits = Some(42)), None, Err(LineageFault::Older(2))),
            ("a start is missing", unknown, Found(MARK), None, Err(LineageFault::UnknownStart)),
            ("another file", FACTS, found(|mark| mark.file = Some(4)), None, Err(LineageFault::Copied)),
            ("no file numbers there", FACTS, found(|mark| mark.file = None), None, Ok(())),
            ("without its mark", FACTS, Missing, None, Err(LineageFault::Copied)),
            ("its mark is empty", FACTS, Blank, None, Ok(())),
            ("its mark is untrusted", FACTS, loose(), None, Err(LineageFault::Untrusted("loose".into()))),
            ("a backup", backup, Found(MARK), None, Err(LineageFault::Backup(Timestamp(9)))),
        ] {
            assert_eq!(decide(&facts, &beside, foreign), expected, "{what}");
        }
    }

    #[test]
    fn a_mark_in_a_receipts_folder_is_written_unless_it_is_another_databases() {
        use ReceiptsMark::{Foreign, Good, Write};
        for (seen, knows, expected) in [
            (SeenMark::Found(7), true, Good),
            (SeenMark::Found(6), true, Write),
            (SeenMark::Found(8), false, Foreign),
            (SeenMark::Missing, false, Write),
            (SeenMark::Blank, false, Write),
            (SeenMark::Untrusted(String::new()), false, Write),
        ] {
            assert_eq!(decide_receipts(&seen, 7, knows), expected, "{seen:?}");
        }
    }
}
