//! The lineage of a database: whether it is the one that was worked with last.
//!
//! Each start of a worker that takes manifests or claims jobs draws a number. It is in the database and in a mark beside it
//! before the first file is moved, and in the folders that receipts are written to before the first call. From then on the
//! mark beside also counts the commits. A database that does not know a mark's start, or lacks commits, is older than what
//! was done with it, or another one: sending from it would create again what it has forgotten, and what it does not know to
//! be taken would never be sent. So nothing is sent until a person has seen to it ([`Queue::new_start_number`]).

pub mod decide;
pub mod receipts;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::OnceCell;

use self::decide::{DatabaseFacts, MarkBeside, ReceiptsMark, SeenMark, decide, decide_receipts};
use super::{Queue, QueueError, Reader, sidecar::marks};
use crate::{clock::Timestamp, durable::Folder};

/// The starts that are known: those of ten weeks where a timer starts one each minute. The mark of an older one, in a
/// folder that was out of reach since, is taken for another queue's.
const MOST_STARTS: i64 = 100_000;

/// How long the first claim waits for receipts folders that do not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The interval between two tries to write the mark beside the database.
const RETRY: Duration = Duration::from_secs(1);

/// A folder that receipts of an account are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Only marks of this account count.
    pub account: String,
}

impl MarkedFolder {
    /// The start that its mark names. Blocks.
    ///
    /// # Errors
    ///
    /// Where the folder is missing or cannot be read.
    pub(crate) fn read(&self) -> io::Result<SeenMark<i64>> {
        marks::read_in_receipts(&Folder::open(&self.path)?, &self.account)
    }
}

/// What an opened queue has to do for its lineage before it takes or claims.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// The number of this start, once it is drawn.
    drawn: Mutex<Option<i64>>,
    begun: OnceCell<()>,
    receipts: Mutex<Vec<MarkedFolder>>,
}

impl Queue {
    /// Refuses a database that must not be worked with, and notes that for `status`. Returns those of the folders whose
    /// marks name a start that it does not know: what belongs to them must not be sent. The others get the mark of this
    /// start. Blocks.
    ///
    /// # Errors
    ///
    /// [`QueueError::Lineage`]; where the mark cannot be read; those of the database.
    pub(crate) fn check_lineage(
        &self,
        receipts: &[(MarkedFolder, SeenMark<i64>)],
    ) -> Result<Vec<MarkedFolder>, QueueError> {
        let beside = self.mark_beside()?;
        let (foreign, ours): (Vec<_>, Vec<_>) = receipts.iter().partition(|(_, seen)| match seen {
            SeenMark::Found(start) => !self.knows_start(*start).unwrap_or(true),
            _ => false,
        });
        let start = if let SeenMark::Found(mark) = &beside { Some(mark.start) } else { None };
        let file = marks::file_number(&self.path).map_err(self.mark_failed("look at"))?;
        let facts = self.run_blocking("look", move |connection| facts(connection, start, file))?;
        let is_new = self.run_blocking("look", is_new)?;
        // Where the marks are lost too.
        let left_behind = || receipts.iter().find(|(folder, _)| is_new && receipts::name_created(&folder.path));
        let another = foreign.first().copied().or_else(left_behind).map(|(folder, _)| folder.path.clone());
        let decided = decide(&facts, &beside, another);
        let refused = decided.as_ref().err().map(ToString::to_string);
        self.run_blocking("note_lineage", move |connection| note(connection, refused.as_deref()))?;
        decided.map_err(|fault| QueueError::Lineage { path: self.path.clone(), fault })?;
        ours.into_iter().for_each(|(folder, _)| self.remember(folder));
        Ok(foreign.into_iter().map(|(folder, _)| folder.clone()).collect())
    }

    /// Writes the mark of the latest start into a folder that receipts are written to, now or before the first claim.
    /// Returns why the folder must not be used, if so. Blocks.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read or written; those of the database.
    pub(crate) fn mark_receipts(&self, folder: &Folder, account: &str) -> Result<Option<String>, QueueError> {
        let failed = |action| move |source| QueueError::Io { action, path: folder.path().to_owned(), source };
        let seen = marks::read_in_receipts(folder, account).map_err(failed("read the mark in"))?;
        let known = if let SeenMark::Found(start) = seen { self.knows_start(start)? } else { false };
        let latest = self.run_blocking("look", latest)?;
        match (decide_receipts(&seen, latest.unwrap_or_default(), known), latest) {
            (ReceiptsMark::Foreign, _) => {
                return Ok(Some(
                    "another queue, or a newer copy of this one, writes its receipts there: what it sent may not be known \
                     here"
                        .to_owned(),
                ));
            }
            (ReceiptsMark::Write, Some(latest)) => {
                marks::write_in_receipts(folder, account, latest).map_err(failed("write the mark in"))?;
            }
            _ => {}
        }
        let folder = MarkedFolder { path: folder.path().to_owned(), account: account.to_owned() };
        self.remember(&folder);
        Ok(None)
    }

    /// Accepts the database as it is, for a person who has seen to what it does not know: the starts that the marks name
    /// are known from now on, a new number is drawn, and it is written over all of them, so that another copy of the
    /// database is refused. The caller holds the database's lock. Blocks.
    ///
    /// # Errors
    ///
    /// Where a mark cannot be read or written; those of the database.
    pub fn new_start_number(&self, receipts: &[MarkedFolder]) -> Result<(), QueueError> {
        let beside = self.mark_beside()?;
        let mut starts = Vec::new();
        for folder in receipts {
            match folder.read() {
                Ok(SeenMark::Found(start)) => starts.push(start),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(QueueError::Io { action: "read the mark in", path: folder.path.clone(), source });
                }
            }
        }
        let mut commits = 0;
        if let SeenMark::Found(mark) = &beside {
            starts.push(mark.start);
            commits = mark.commits.unwrap_or_default();
        }
        self.run_blocking("accept_lineage", move |connection| {
            for start in &starts {
                connection.execute("INSERT OR IGNORE INTO start (number) VALUES (?1)", [start])?;
            }
            connection.execute("UPDATE commits SET count = max(count, ?1) + 1", [commits])?;
            connection.execute("DELETE FROM setting WHERE name = 'backup_taken'", [])?;
            draw(connection)
        })?;
        receipts.iter().for_each(|folder| self.remember(folder));
        let start = self.write_beside().map_err(self.mark_failed("write"))?;
        self.write_in_receipts(start);
        Ok(())
    }

    /// Draws this start's number and writes the mark beside the database, once, before anything is moved or sent. While it
    /// cannot be written, this waits as a commit does. Blocks.
    pub(super) fn draw_start(&self) -> Result<i64, QueueError> {
        let mut drawn = self.lineage.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = *drawn {
            return Ok(start);
        }
        self.run_blocking("begin_start", draw)?;
        loop {
            match self.write_beside() {
                Ok(start) => return Ok(*drawn.insert(start)),
                Err(error) if self.writer.wait_in_vain(&error.to_string()) => {
                    return Err(self.mark_failed("write")(error));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }

    /// Begins a start, and writes its marks into the receipts folders, once, before the first claim.
    pub(super) async fn begin_start(&self) -> Result<(), QueueError> {
        let begin = || async move {
            let queue = self.clone();
            let start =
                tokio::task::spawn_blocking(move || queue.draw_start()).await.map_err(|_| QueueError::Closed)??;
            if !self.receipts().is_empty() {
                let queue = self.clone();
                let receipts = tokio::task::spawn_blocking(move || queue.write_in_receipts(start));
                tokio::time::timeout(PATIENCE, receipts).await.ok();
            }
            Ok(())
        };
        self.lineage.begun.get_or_try_init(begin).await.copied()
    }

    /// Writes the latest start's mark beside the database, and counts commits there from now on.
    fn write_beside(&self) -> io::Result<i64> {
        let read =
            self.run_blocking("look", |connection| Ok((latest(connection)?.unwrap_or_default(), commits(connection)?)));
        let (start, commits) = read.map_err(io::Error::other)?;
        let mark = MarkBeside { start, commits: Some(commits), file: marks::file_number(&self.path)? };
        self.writer.count_commits(marks::write_beside(&self.path, &mark)?);
        self.run_blocking("note_lineage", |connection| {
            connection.execute("INSERT OR IGNORE INTO setting VALUES ('is_marked', '1')", [])?;
            note(connection, None)
        })
        .map_err(io::Error::other)?;
        Ok(start)
    }

    /// Writes a start's mark into the receipts folders.
    fn write_in_receipts(&self, start: i64) {
        let receipts = self.receipts().clone();
        for MarkedFolder { path, account } in receipts {
            // A drop whose folder cannot be used now has bad ground, and gets its mark when it has not.
            let written = Folder::open(&path).and_then(|folder| marks::write_in_receipts(&folder, &account, start));
            if let Err(error) = written {
                tracing::warn!(folder = %path.display(), %error, "cannot mark the receipts folder with this start");
            }
        }
    }

    /// Has the next start's mark written into a receipts folder.
    fn remember(&self, folder: &MarkedFolder) {
        let mut receipts = self.receipts();
        if !receipts.contains(folder) {
            receipts.push(folder.clone());
        }
    }

    fn receipts(&self) -> std::sync::MutexGuard<'_, Vec<MarkedFolder>> {
        self.lineage.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark_beside(&self) -> Result<SeenMark<MarkBeside>, QueueError> {
        marks::read_beside(&self.path).map_err(self.mark_failed("read"))
    }

    fn knows_start(&self, start: i64) -> Result<bool, QueueError> {
        self.run_blocking("look", move |connection| knows(connection, start))
    }

    fn mark_failed(&self, action: &'static str) -> impl Fn(io::Error) -> QueueError + use<> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lineage");
        move |source| QueueError::Io { action, path: PathBuf::from(&path), source }
    }
}

impl Reader {
    /// Why the last start refused this database, if it did.
    pub(crate) fn refused(&self) -> Result<Option<String>, QueueError> {
        setting(&self.connection, "refused")
    }
}

/// Marks a copy as a backup, with which no worker begins before a person has seen to it. For whoever made the copy.
pub(super) fn mark_as_backup(copy: &Path, now: Timestamp) -> Result<(), QueueError> {
    let connection = Connection::open(copy)?;
    connection.execute("INSERT OR REPLACE INTO setting VALUES ('backup_taken', ?1)", [now.0.to_string()])?;
    connection.close().map_err(|(_, error)| error.into())
}

fn setting(connection: &Connection, name: &str) -> Result<Option<String>, QueueError> {
    let sql = "SELECT value FROM setting WHERE name = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?)
}

fn facts(connection: &Connection, start: Option<i64>, file: Option<u64>) -> Result<DatabaseFacts, QueueError> {
    let backup = setting(connection, "backup_taken")?;
    Ok(DatabaseFacts {
        is_marked: setting(connection, "is_marked")?.is_some(),
        knows_start: start.map_or(Ok(false), |start| knows(connection, start))?,
        commits: commits(connection)?,
        file,
        backup_of: backup.map(|taken| Timestamp(taken.parse().unwrap_or_default())),
    })
}

/// Whether nothing was ever taken in, and no mark written.
fn is_new(connection: &Connection) -> Result<bool, QueueError> {
    let is_used = connection.prepare_cached("SELECT 1 FROM batch")?.exists([])?;
    Ok(!is_used && setting(connection, "is_marked")?.is_none())
}

fn knows(connection: &Connection, start: i64) -> Result<bool, QueueError> {
    Ok(connection.prepare_cached("SELECT 1 FROM start WHERE number = ?1")?.exists([start])?)
}

fn latest(connection: &Connection) -> Result<Option<i64>, QueueError> {
    let sql = "SELECT number FROM start ORDER BY ordinal DESC LIMIT 1";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?)
}

fn commits(connection: &Connection) -> Result<i64, QueueError> {
    Ok(connection.prepare_cached("SELECT count FROM commits")?.query_row([], |row| row.get(0))?)
}

/// Counts a commit of a worker.
pub(super) fn count_commit(connection: &Connection) -> Result<i64, QueueError> {
    let sql = "UPDATE commits SET count = count + 1 RETURNING count";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

fn draw(connection: &Connection) -> Result<(), QueueError> {
    connection.execute("INSERT INTO start (number) VALUES (abs(random() / 2))", [])?;
    connection.execute("DELETE FROM start WHERE ordinal <= (SELECT max(ordinal) FROM start) - ?1", [MOST_STARTS])?;
    Ok(())
}

/// Notes for `status` why the database is refused, where that has changed.
fn note(connection: &Connection, refused: Option<&str>) -> Result<(), QueueError> {
    if setting(connection, "refused")?.as_deref() == refused {
        return Ok(());
    }
    match refused {
        Some(why) => connection.execute("INSERT OR REPLACE INTO setting VALUES ('refused', ?1)", [why])?,
        None => connection.execute("DELETE FROM setting WHERE name = 'refused'", [])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{Site, execute, number};

    #[test]
    fn only_the_latest_starts_are_kept_and_an_older_one_is_not_known_any_more() {
        let site = Site::new();
        let first = site.queue.draw_start().unwrap();
        let sql = format!(
            "WITH RECURSIVE many (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM many WHERE at < {MOST_STARTS} - 1)
             INSERT INTO start (number) SELECT -at FROM many"
        );
        execute(&site.queue, &sql);
        assert!(site.queue.knows_start(first).unwrap(), "they are as many as are kept");
        let last = site.next_process().draw_start().unwrap();
        assert_eq!(number(&site.queue, "SELECT count(*) FROM start"), Some(MOST_STARTS));
        let known = [first, -1, last].map(|start| site.queue.knows_start(start).unwrap());
        assert_eq!(known, [false, true, true]);
    }
}
