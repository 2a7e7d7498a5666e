//! The only thread that writes to the database, with group commit: many commands share one commit, and each is answered
//! only after it.
//!
//! # Invariants
//!
//! - A command is answered after the commit that holds it succeeded, never before.
//! - A command that fails undoes its own changes only; the other commands of the same commit are kept.
//! - A commit that fails because the disk is full, read-only or broken is rolled back and tried again with the same
//!   commands: the callers wait, so all work stops by itself, no answer of the API is lost, and work continues when
//!   there is room. `Writer::trouble` reports this meanwhile.
//!
//! Not here: what the commands do. They are closures that may run more than once, so they change nothing but the
//! database.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{QueueError, lineage::count_commit, sidecar::marks::CommitMark};
use crate::killpoint;

/// Commands in one commit at most. Beyond some hundreds the cost of a commit's sync is spread thin enough, and a
/// longer commit only makes its first caller wait.
const GROUP: usize = 256;

/// Commands that may wait before a caller must. Each waiting caller is one job, so more than this never wait anyway.
const WAITING: usize = 4096;

/// The interval between two tries of a commit that the disk refused.
const STUCK_RETRY: Duration = Duration::from_secs(1);

/// Sends commands to the writer's thread. Cheap to clone; the thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct Writer {
    commands: mpsc::SyncSender<Box<dyn WriteCommand>>,
    shared: Arc<WriterStatus>,
}

struct WriterStatus {
    trouble: Mutex<Option<String>>,
    give_up: AtomicBool,
    /// Where commits are counted, once this process works on the database.
    mark: OnceLock<CommitMark>,
}

impl WriterStatus {
    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// What to do when the disk refuses a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStuck {
    /// Try again for as long as it takes: for workers, whose results must not be lost.
    Wait,
    /// Return the error to the caller: for commands that a person waits for.
    Fail,
}

impl Writer {
    /// Starts the thread on a connection that nobody else uses.
    ///
    /// # Errors
    ///
    /// Where the thread cannot be started.
    pub(crate) fn start(connection: Connection, when_stuck: WhenStuck) -> Result<Self, QueueError> {
        let (commands, inbox) = mpsc::sync_channel(WAITING);
        let shared = Arc::new(WriterStatus {
            trouble: Mutex::new(None),
            give_up: AtomicBool::new(when_stuck == WhenStuck::Fail),
            mark: OnceLock::new(),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || serve(&connection, &inbox, &theirs))
            .map_err(|source| QueueError::Thread { source })?;
        Ok(Self { commands, shared })
    }

    /// Runs a command on the writer's thread and waits for the commit that holds it. `step` is its name in
    /// [`killpoint`].
    ///
    /// Dropping the future does not take the command back.
    ///
    /// # Errors
    ///
    /// The command's own error, or that of the commit where this writer is to fail.
    pub(crate) async fn run<T, F>(&self, step: &'static str, command: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // A full inbox would block the runtime's thread; the number of in-flight jobs keeps it from filling.
        self.send(Box::new(QueuedCommand { step, command, result: None, reply: Some(reply), changes: false }))?;
        answer.await.unwrap_or(Err(QueueError::Closed))
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    ///
    /// As [`Writer::run`].
    pub(crate) fn run_blocking<T, F>(&self, step: &'static str, command: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, QueueError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(QueuedCommand { step, command, result: None, reply: Some(reply), changes: false }))?;
        answer.blocking_recv().unwrap_or(Err(QueueError::Closed))
    }

    /// Why commits fail at present, if they do.
    #[must_use]
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on a commit that the disk refuses is an error, so that a stop need not wait for room.
    pub(crate) fn give_up_when_stuck(&self) {
        self.shared.give_up.store(true, Ordering::Relaxed);
    }

    /// Reports a failure beside the database that is waited for as that of a commit is; returns whether it is an error
    /// instead.
    pub(crate) fn wait_in_vain(&self, trouble: &str) -> bool {
        let mut known = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(trouble.to_owned()).is_none() {
            tracing::error!(
                error = trouble,
                "the mark beside the database cannot be written: all work waits until it can"
            );
        }
        self.shared.give_up.load(Ordering::Relaxed)
    }

    /// From now on each commit is counted in the database, and noted here before its commands are answered.
    pub(crate) fn count_commits(&self, mark: CommitMark) {
        if self.shared.mark.set(mark).is_err() {
            tracing::debug!("commits are counted already");
        }
    }

    fn send(&self, command: Box<dyn WriteCommand>) -> Result<(), QueueError> {
        self.commands.send(command).map_err(|_| QueueError::Closed)
    }
}

trait WriteCommand: Send {
    /// Does the work. With `alone`, an error that is not the disk's undoes this command only and is kept for its
    /// answer; without, any error is returned, and the complete group has to be undone.
    fn attempt(&mut self, connection: &Connection, alone: bool) -> Result<(), QueueError>;
    /// The name of the step in [`killpoint`], where the command changed anything.
    fn step(&self) -> Option<&'static str>;
    /// Answers; `failure` is why the commit failed, if it did.
    fn answer(self: Box<Self>, failure: Option<&QueueError>);
}

struct QueuedCommand<T, F> {
    step: &'static str,
    command: F,
    result: Option<Result<T, QueueError>>,
    reply: Option<oneshot::Sender<Result<T, QueueError>>>,
    changes: bool,
}

impl<T: Send, F: FnMut(&Connection) -> Result<T, QueueError> + Send> WriteCommand for QueuedCommand<T, F> {
    fn attempt(&mut self, connection: &Connection, alone: bool) -> Result<(), QueueError> {
        let before = connection.total_changes();
        if !alone {
            self.result = Some(Ok((self.command)(connection)?));
            self.changes = connection.total_changes() != before;
            return Ok(());
        }
        execute(connection, "SAVEPOINT command")?;
        match (self.command)(connection) {
            Err(error) if error.is_disk_trouble() => return Err(error),
            Err(error) => {
                execute(connection, "ROLLBACK TO command")?;
                self.changes = false;
                self.result = Some(Err(error));
            }
            Ok(value) => {
                self.changes = connection.total_changes() != before;
                self.result = Some(Ok(value));
            }
        }
        execute(connection, "RELEASE command")
    }

    fn step(&self) -> Option<&'static str> {
        self.changes.then_some(self.step)
    }

    fn answer(mut self: Box<Self>, failure: Option<&QueueError>) {
        let result = match failure {
            Some(failure) => Err(failure.again()),
            None => self.result.take().unwrap_or(Err(QueueError::Closed)),
        };
        if let Some(reply) = self.reply.take() {
            // A caller that no longer listens has stopped; its command is committed all the same.
            drop(reply.send(result));
        }
    }
}

// Not in the method above, which is compiled once for each kind of command.
fn execute(connection: &Connection, sql: &str) -> Result<(), QueueError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn serve(connection: &Connection, inbox: &mpsc::Receiver<Box<dyn WriteCommand>>, shared: &WriterStatus) {
    while let Ok(first) = inbox.recv() {
        let mut group = vec![first];
        group.extend(inbox.try_iter().take(GROUP - 1));
        let failure = loop {
            match commit(connection, &mut group, shared.mark.get()) {
                Ok(()) => {
                    shared.set_trouble(None);
                    break None;
                }
                Err(error) => {
                    undo(connection);
                    if !error.is_disk_trouble() || shared.give_up.load(Ordering::Relaxed) {
                        break Some(error);
                    }
                    if shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                        tracing::error!(%error, "the database cannot be written: all work waits until it can");
                    }
                    shared.set_trouble(Some(error.to_string()));
                    thread::sleep(STUCK_RETRY);
                }
            }
        };
        for command in group {
            command.answer(failure.as_ref());
        }
    }
}

/// Commits a group. Errors of single commands are rare, so it is tried without a savepoint for each first; where one
/// fails, the group is undone and run again, each command on its own.
fn commit(
    connection: &Connection,
    group: &mut [Box<dyn WriteCommand>],
    mark: Option<&CommitMark>,
) -> Result<(), QueueError> {
    match commit_once(connection, group, mark, false) {
        Err(error) if !error.is_disk_trouble() => {
            undo(connection);
            commit_once(connection, group, mark, true)
        }
        done => done,
    }
}

fn commit_once(
    connection: &Connection,
    group: &mut [Box<dyn WriteCommand>],
    mark: Option<&CommitMark>,
    alone: bool,
) -> Result<(), QueueError> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for command in group.iter_mut() {
        command.attempt(connection, alone)?;
    }
    let counted = match mark.filter(|_| group.iter().any(|command| command.step().is_some())) {
        Some(mark) => Some((mark, count_commit(connection)?)),
        None => None,
    };
    reach(group, killpoint::before);
    connection.prepare_cached("COMMIT")?.execute([])?;
    reach(group, killpoint::after);
    if let Some((mark, commits)) = counted {
        mark.note(commits);
    }
    Ok(())
}

fn reach(group: &[Box<dyn WriteCommand>], place: fn(&str, &str)) {
    if killpoint::armed() {
        group.iter().filter_map(|command| command.step()).for_each(|step| place("commit", step));
    }
}

fn undo(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "a failed commit could not be undone at once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t(x INTEGER UNIQUE) STRICT").unwrap();
        Writer::start(connection, WhenStuck::Fail).unwrap()
    }

    fn insert(writer: &Writer, x: i64) -> Result<(), QueueError> {
        writer.run_blocking("insert", move |connection| {
            connection.execute("INSERT INTO t VALUES(?1)", [x])?;
            Ok(())
        })
    }

    fn count(writer: &Writer) -> i64 {
        writer
            .run_blocking("count", |connection| {
                Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
            })
            .unwrap()
    }

    #[test]
    fn a_failing_command_undoes_only_itself() {
        let writer = writer();
        insert(&writer, 1).unwrap();
        let failed = writer.run_blocking("insert", |connection| -> Result<(), QueueError> {
            connection.execute("INSERT INTO t VALUES(2)", [])?;
            connection.execute("INSERT INTO t VALUES(1)", [])?;
            Ok(())
        });
        assert!(failed.is_err());
        insert(&writer, 3).unwrap();
        assert_eq!(count(&writer), 2);
    }

    #[tokio::test]
    async fn commands_of_many_callers_share_commits_and_all_are_kept() {
        let writer = writer();
        let calls: Vec<_> = (0..500)
            .map(|x| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    writer
                        .run("insert", move |connection| {
                            connection.execute("INSERT INTO t VALUES(?1)", [x])?;
                            Ok(())
                        })
                        .await
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let total =
            writer.run("count", |c| Ok(c.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)).await;
        assert_eq!(total.unwrap(), 500);
    }

    #[test]
    fn a_full_disk_makes_callers_wait_and_work_continues_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("q.db")).unwrap();
        connection.execute_batch("CREATE TABLE t(x INTEGER UNIQUE, y BLOB) STRICT; PRAGMA max_page_count=8").unwrap();
        let writer = Writer::start(connection, WhenStuck::Wait).unwrap();
        let theirs = writer.clone();
        let (started, wait) = mpsc::channel();
        let waiting = thread::spawn(move || {
            let mut tries = 0;
            let done = theirs.run_blocking("insert", move |connection| {
                tries += 1;
                if tries == 2 {
                    // Somebody makes room between the first try and the second.
                    started.send(()).ok();
                    connection.pragma_update(None, "max_page_count", 1000)?;
                }
                connection.execute("INSERT INTO t VALUES(7, zeroblob(100000))", [])?;
                Ok(tries)
            });
            done.unwrap()
        });
        wait.recv().unwrap();
        assert_eq!(waiting.join().unwrap(), 2);
        assert_eq!(count(&writer), 1);
        assert_eq!(writer.trouble(), None);
    }
}
