//! Manifests on their way from a drop into the work folder: what is to be moved is on disk before the first rename, so that
//! a crash between any two is finished or undone at the next start.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Queue, QueueError, Reader,
    rows::{self, drop_id},
};
use crate::{
    entry::Sha256,
    file_identity::{self, FileIdentity},
    job::FileLocation,
    problem::Problem,
};

/// How far a taking has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakingState {
    /// Its files are being listed; nothing has been moved.
    Planned,
    /// Its files are being moved into the work folder.
    Moving,
    /// They are being put back.
    Undoing,
    /// All are in the work folder, and its entries are being admitted.
    Taken,
}

impl TakingState {
    const WORDS: [(&'static str, Self); 4] =
        [("planned", Self::Planned), ("moving", Self::Moving), ("undoing", Self::Undoing), ("taken", Self::Taken)];

    fn parse(word: &str) -> Result<Self, QueueError> {
        let known = Self::WORDS.into_iter().find(|(known, _)| *known == word);
        known.map(|(_, state)| state).ok_or_else(|| rows::unreadable("the state of a taking", word))
    }

    fn as_str(self) -> &'static str {
        Self::WORDS.into_iter().find(|(_, state)| *state == self).map_or("", |(word, _)| word)
    }
}

/// A file that is to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenFile {
    /// Its path in the drop, and below the batch's work folder.
    pub path: String,
    /// What it was when it was checked.
    pub identity: FileIdentity,
    /// The checksum of its content; `None` of a file that is refused, and of the manifest.
    pub checksum: Option<u64>,
    /// Whether it is copied, since another manifest needs it in the drop.
    pub copied: bool,
}

/// A manifest that is being taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Taking {
    /// The number of the batch that becomes of it.
    pub batch_id: i64,
    /// The drop's name.
    pub drop: String,
    /// The manifest itself.
    pub manifest: TakenFile,
    /// Its digest.
    pub manifest_sha256: Sha256,
    /// Its done marker.
    pub marker: Option<TakenFile>,
    /// The drop's folder.
    pub root: String,
    /// The batch's work folder.
    pub work: FileLocation,
    /// Why the manifest is refused as a whole.
    pub problems: Option<Vec<Problem>>,
    /// How far it has come.
    pub state: TakingState,
}

/// The number of the next batch: batches and takings share a sequence.
pub(super) fn next_batch_id(connection: &Connection) -> Result<i64, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT 1 + max((SELECT coalesce(max(id), 0) FROM batch), (SELECT coalesce(max(batch_id), 0) FROM taking))",
        )?
        .query_row([], |row| row.get(0))?)
}

/// Forgets a taking with its files.
pub(super) fn forget(connection: &Connection, batch_id: i64) -> Result<(), QueueError> {
    connection.prepare_cached("DELETE FROM taking WHERE batch_id = ?1")?.execute([batch_id])?;
    Ok(())
}

fn insert(connection: &Connection, taking: &Taking) -> Result<(), QueueError> {
    let drop_id = drop_id(connection, &taking.drop)?;
    connection.prepare_cached("INSERT INTO taking VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        taking.batch_id,
        drop_id,
        taking.manifest.path,
        taking.manifest.identity.in_full(),
        taking.manifest_sha256.0,
        taking.marker.as_ref().map(|marker| &marker.path),
        taking.marker.as_ref().map(|marker| marker.identity.in_full()),
        taking.root,
        taking.work.root,
        taking.work.path,
        taking.problems.as_deref().map(rows::json),
        taking.state.as_str(),
    ])?;
    Ok(())
}

fn add_files(connection: &Connection, batch_id: i64, files: &[TakenFile]) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached("INSERT OR IGNORE INTO taking_file VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for TakenFile { path, identity, checksum, copied } in files {
        let checksum = checksum.map(u64::cast_signed);
        statement.execute(params![batch_id, path, identity.in_full(), checksum, copied])?;
    }
    Ok(())
}

fn taken_file(path: String, file: &str, checksum: Option<i64>, copied: bool) -> Result<TakenFile, QueueError> {
    let identity = file_identity::read_in_full(file).ok_or_else(|| rows::unreadable("a file's identity", file))?;
    Ok(TakenFile { path, identity, checksum: checksum.map(i64::cast_unsigned), copied })
}

const TAKING: &str = "batch_id, drop_folder.name, manifest, manifest_file, manifest_sha256, marker, marker_file, root,
                      work_root, work_path, problems, state";

fn taking(row: &Row<'_>) -> Result<Taking, QueueError> {
    let (marker, marker_file): (Option<String>, Option<String>) = (row.get(5)?, row.get(6)?);
    let problems: Option<String> = row.get(10)?;
    Ok(Taking {
        batch_id: row.get(0)?,
        drop: row.get(1)?,
        manifest: taken_file(row.get(2)?, &row.get::<_, String>(3)?, None, false)?,
        manifest_sha256: rows::digest(&row.get::<_, Vec<u8>>(4)?)?,
        marker: marker.zip(marker_file).map(|(path, file)| taken_file(path, &file, None, false)).transpose()?,
        root: row.get(7)?,
        work: FileLocation { root: row.get(8)?, path: row.get(9)? },
        problems: problems.map(|text| rows::problems(&text)),
        state: TakingState::parse(&row.get::<_, String>(11)?)?,
    })
}

impl Queue {
    /// Records a taking with files of it, before anything is moved. Its number is chosen here, and `work` is completed with
    /// the name of the batch's folder: a random one, so that what is under it at the next start is this taking's. Once a
    /// stranger's folder had the name, and a kill before another one was recorded made its files the batch's.
    /// The first one begins a start: see [`lineage`](super::lineage).
    pub(crate) fn begin_taking(&self, mut taking: Taking, files: Vec<TakenFile>) -> Result<Taking, QueueError> {
        self.draw_start()?;
        let folder = taking.work.path.clone();
        let start_number = self.start_number().to_owned();
        self.run_blocking("begin_taking", move |connection| {
            taking.batch_id = next_batch_id(connection)?;
            let random: String = connection.query_row("SELECT lower(hex(randomblob(4)))", [], |row| row.get(0))?;
            let name = format!("{start_number}-{}-{random}", taking.batch_id);
            taking.work.path = crate::relative_path::join(&folder, &name);
            insert(connection, &taking)?;
            add_files(connection, taking.batch_id, &files)?;
            Ok(taking.clone())
        })
    }

    /// Records as a taking what is in the work folder already and no batch knows.
    pub(crate) fn record_taken(&self, mut taking: Taking) -> Result<(), QueueError> {
        self.run_blocking("record_taken", move |connection| {
            taking.batch_id = next_batch_id(connection)?;
            insert(connection, &taking)
        })
    }

    /// Records more files of a taking whose files are being listed.
    pub(crate) fn add_to_taking(&self, batch_id: i64, files: Vec<TakenFile>) -> Result<(), QueueError> {
        self.run_blocking("add_to_taking", move |connection| add_files(connection, batch_id, &files))
    }

    /// Records that a taking has come further.
    pub(crate) fn taking_is(&self, batch_id: i64, state: TakingState) -> Result<(), QueueError> {
        self.run_blocking("taking_is", move |connection| {
            let sql = "UPDATE taking SET state = ?2 WHERE batch_id = ?1";
            let changed = connection.prepare_cached(sql)?.execute(params![batch_id, state.as_str()])?;
            if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "taking", id: batch_id }) }
        })
    }

    /// Records why a manifest is refused as a whole; its files are not moved.
    pub(crate) fn refuse_taking(&self, batch_id: i64, problems: Vec<Problem>) -> Result<(), QueueError> {
        self.run_blocking("refuse_taking", move |connection| {
            connection.execute("DELETE FROM taking_file WHERE batch_id = ?1", [batch_id])?;
            let sql = "UPDATE taking SET problems = ?2 WHERE batch_id = ?1";
            let changed = connection.prepare_cached(sql)?.execute(params![batch_id, rows::json(&problems)])?;
            if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "taking", id: batch_id }) }
        })
    }

    /// Forgets a taking: everything is in the drop again.
    pub(crate) fn taking_undone(&self, batch_id: i64) -> Result<(), QueueError> {
        self.run_blocking("taking_undone", move |connection| forget(connection, batch_id))
    }
}

impl Reader {
    /// The drops with takings that are under way.
    pub(crate) fn drops_with_takings(&self) -> Result<Vec<String>, QueueError> {
        let sql = "SELECT name FROM drop_folder WHERE id IN (SELECT drop_id FROM taking) ORDER BY name";
        let mut statement = self.connection.prepare_cached(sql)?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// The takings of a drop that are under way, oldest first.
    pub(crate) fn takings(&self, drop: &str) -> Result<Vec<Taking>, QueueError> {
        let sql = format!(
            "SELECT {TAKING} FROM taking JOIN drop_folder ON drop_folder.id = taking.drop_id
              WHERE drop_folder.name = ?1 ORDER BY batch_id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query([drop])?;
        let mut takings = Vec::new();
        while let Some(row) = found.next()? {
            takings.push(taking(row)?);
        }
        Ok(takings)
    }

    /// The next files of a taking after `after`, by path.
    pub(crate) fn taking_files(&self, batch_id: i64, after: &str, limit: u32) -> Result<Vec<TakenFile>, QueueError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT path, file, checksum, copied FROM taking_file WHERE batch_id = ?1 AND path > ?2 ORDER BY path LIMIT ?3",
        )?;
        let mut found = statement.query(params![batch_id, after, limit])?;
        let mut files = Vec::new();
        while let Some(row) = found.next()? {
            files.push(taken_file(row.get(0)?, &row.get::<_, String>(1)?, row.get(2)?, row.get(3)?)?);
        }
        Ok(files)
    }

    /// What a file was that stayed in the drop while a copy of it was taken.
    pub(crate) fn copied_from(&self, batch_id: i64, path: &str) -> Result<Option<FileIdentity>, QueueError> {
        let sql = "SELECT file FROM taking_file WHERE batch_id = ?1 AND path = ?2 AND copied";
        let file: Option<String> =
            self.connection.prepare_cached(sql)?.query_row(params![batch_id, path], |row| row.get(0)).optional()?;
        Ok(file.as_deref().and_then(file_identity::read_in_full))
    }

    /// Whether any batch that is not settled uses its files where its manifest names them.
    pub(crate) fn uses_files_in_place(&self) -> Result<bool, QueueError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM batch WHERE state <> 'closed' AND work_root IS NULL)";
        Ok(self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// Whether such a batch names this file.
    pub(crate) fn is_needed_in_place(&self, path_key: i64) -> Result<bool, QueueError> {
        self.is_still_named(0, path_key, None)
    }

    /// The names of the work folders below `work_root` and `folder` that are in use.
    pub(crate) fn work_folders(&self, work_root: &str) -> Result<Vec<String>, QueueError> {
        let sql =
            "SELECT work_path FROM batch WHERE work_root = ?1 UNION SELECT work_path FROM taking WHERE work_root = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let paths = statement.query_map([work_root], |row| row.get(0))?;
        Ok(paths.collect::<Result<_, _>>()?)
    }
}
