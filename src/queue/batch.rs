//! The life cycle of a batch: admitting, open, ended, its receipt published, its files archived, closed.
//!
//! Each step is recorded when it is done, and the receipt's name before it is written, so that a crash between any two
//! of them is finished at the next start and done once.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params, params_from_iter, types::Value};

use super::{
    Queue, QueueError,
    accounts::NAMED,
    causes,
    counters::{self, DropCounter},
    files::{self, MovedFile},
    layouts::{self, LayoutUse},
    lock::OpenImport,
    rows::{self, text},
    taking, transition, warnings,
};
use crate::{
    clock::Timestamp, entry::Sha256, job::FileLocation, policy::AfterSuccess, problem::Problem, receipt::BatchStatus,
    warning::Warning,
};

/// Where a batch's files are and what happens to them: fixed at admission, so that a process with another configuration
/// finalizes it in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPolicy {
    /// The drop's folder.
    pub root: PathBuf,
    /// The folder that images are opened in; the same as `root` unless an import says otherwise.
    pub image_root: PathBuf,
    /// Where the manifest's paths start, relative to `image_root`; empty for the root itself.
    pub image_folder: String,
    /// Where the receipt goes.
    pub receipts_dir: PathBuf,
    /// The receipt's permissions.
    pub receipt_mode: u32,
    /// The group that the receipt is for, where it is for another one than the process's.
    pub receipt_group: Option<String>,
    /// Where files go when all is well; `None` leaves them.
    pub done_dir: Option<PathBuf>,
    /// Where files go when something is not well; `None` leaves them.
    pub failed_dir: Option<PathBuf>,
    /// What happens to the files when all is well.
    pub after_success: AfterSuccess,
    /// What is added to the manifest's name to name its done marker, where the drop has one.
    pub marker: Option<String>,
    /// Whether people find texts beside the receipt: in a drop.
    pub texts: bool,
}

/// The columns of [`BatchPolicy`], in the order of [`BatchPolicy::read`] and [`BatchPolicy::values`].
const POLICY: &str = "root, image_root, image_folder, receipts_dir, receipt_mode, receipt_group, done_dir, failed_dir, \
                      after_success, marker, texts";

impl BatchPolicy {
    fn read(row: &Row<'_>, first: usize) -> Result<Self, QueueError> {
        let path = |column: usize| row.get::<_, String>(first + column).map(PathBuf::from);
        let folder =
            |column: usize| Ok::<_, QueueError>(row.get::<_, Option<String>>(first + column)?.map(PathBuf::from));
        let after: String = row.get(first + 8)?;
        Ok(Self {
            root: path(0)?,
            image_root: path(1)?,
            image_folder: row.get(first + 2)?,
            receipts_dir: path(3)?,
            receipt_mode: row.get(first + 4)?,
            receipt_group: row.get(first + 5)?,
            done_dir: folder(6)?,
            failed_dir: folder(7)?,
            after_success: AfterSuccess::parse(&after).ok_or_else(|| rows::unreadable("after_success", &after))?,
            marker: row.get(first + 9)?,
            texts: row.get(first + 10)?,
        })
    }

    fn values(&self) -> [Value; 11] {
        let folder = |folder: &Option<PathBuf>| folder.as_deref().map(text).into();
        [
            text(&self.root).into(),
            text(&self.image_root).into(),
            self.image_folder.clone().into(),
            text(&self.receipts_dir).into(),
            self.receipt_mode.into(),
            self.receipt_group.clone().into(),
            folder(&self.done_dir),
            folder(&self.failed_dir),
            self.after_success.as_str().to_owned().into(),
            self.marker.clone().into(),
            self.texts.into(),
        ]
    }
}

/// A manifest that is to be admitted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The drop's name.
    pub drop: String,
    /// The manifest's path, relative to the policy's root.
    pub manifest: String,
    /// The manifest's digest.
    pub manifest_sha256: Sha256,
    /// The identity of its file, as text: see `crate::file_identity`.
    pub manifest_file: String,
    /// What happens to its files.
    pub policy: BatchPolicy,
    /// Under which number it was taken, where it was.
    pub taken: Option<TakenAs>,
    /// The layout that its entries were made by, where it was an archive's own list.
    pub layout: Option<LayoutUse>,
    /// Its jobs wait until their stage begins, see `stages`.
    pub held_back: bool,
}

/// Entries that a list had when it was last taken in, and does not have any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GoneEntries {
    pub(crate) count: u64,
    /// The jobs that created the first of them.
    pub(crate) first: Vec<i64>,
}

/// A batch whose files were moved into the work folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenAs {
    /// Its number.
    pub batch_id: i64,
    /// Its work folder.
    pub work: FileLocation,
}

/// A batch whose jobs have all ended, with what finalizing it takes.
#[derive(Debug, Clone)]
pub struct EndedBatch {
    /// Its number.
    pub id: i64,
    /// The drop's name.
    pub drop: String,
    /// The manifest's path relative to the policy's root.
    pub manifest: String,
    /// The manifest's digest.
    pub manifest_sha256: Sha256,
    /// The identity of the manifest's file.
    pub manifest_file: String,
    /// What happens to its files.
    pub policy: BatchPolicy,
    /// Why the manifest itself is unusable, if it is.
    pub problems: Option<Vec<Problem>>,
    /// When it was admitted.
    pub received_at: Timestamp,
    /// When its last job ended.
    pub finished_at: Timestamp,
    /// The receipt's name, once it is chosen.
    pub receipt: Option<String>,
    /// Whether the receipt is published.
    pub published: bool,
    /// Where the manifest is, if it was archived and its batch opened again.
    pub moved_to: Option<FileLocation>,
    /// Its work folder, where its files were taken there.
    pub work: Option<FileLocation>,
    /// The account that its drop is worked on with, where the API has named it.
    pub account: Option<String>,
    /// The layout that its entries were made by.
    pub layout: Option<(String, Sha256)>,
    /// What is probably not meant about the manifest itself.
    pub warnings: Vec<Warning>,
}

impl EndedBatch {
    /// A path split into a folder that is trusted and the path below it, in which senders may have put links.
    #[must_use]
    pub(crate) fn place_of(&self, path: &Path) -> Option<FileLocation> {
        let BatchPolicy { root, image_root, done_dir, failed_dir, .. } = &self.policy;
        let folders = [Some(root), Some(image_root), done_dir.as_ref(), failed_dir.as_ref()];
        let (root, beneath) =
            folders.into_iter().flatten().find_map(|root| Some((root, path.strip_prefix(root).ok()?)))?;
        Some(FileLocation { root: root.to_str()?.to_owned(), path: beneath.to_str()?.to_owned() })
    }
}

const ENDED: &str = "batch.id, drop_folder.name, manifest, manifest_sha256, manifest_file, problems, received_at, \
                     finished_at, receipt, state, lies_root, lies_path, work_root, work_path";

fn ended(connection: &Connection, row: &Row<'_>) -> Result<EndedBatch, QueueError> {
    let problems: Option<String> = row.get(5)?;
    Ok(EndedBatch {
        id: row.get(0)?,
        drop: row.get(1)?,
        manifest: row.get(2)?,
        manifest_sha256: rows::digest(&row.get::<_, Vec<u8>>(3)?)?,
        manifest_file: row.get(4)?,
        problems: problems.map(|text| rows::problems(&text)),
        received_at: Timestamp(row.get(6)?),
        finished_at: Timestamp(row.get::<_, Option<i64>>(7)?.unwrap_or_default()),
        receipt: row.get(8)?,
        published: row.get::<_, String>(9)? == "published",
        moved_to: rows::place(row, 10)?,
        work: rows::place(row, 12)?,
        account: row.get(14)?,
        layout: layouts::of_batch(connection, row.get(0)?)?,
        warnings: warnings::of_manifest(connection, row.get(0)?)?,
        policy: BatchPolicy::read(row, 15)?,
    })
}

/// Forgets the receipt that `adopt` found for a batch, see [`Reader::receipt_after_copy`](super::Reader::receipt_after_copy).
pub(super) fn forget_receipt(connection: &Connection, batch_id: i64) -> Result<(), QueueError> {
    connection.prepare_cached("DELETE FROM setting WHERE name = 'receipt_of_' || ?1")?.execute([batch_id])?;
    Ok(())
}

/// Creates the batch of a manifest that is about to be admitted, and returns its number.
pub(super) fn begin(connection: &Connection, plan: &Plan, now: Timestamp) -> Result<i64, QueueError> {
    let drop_id = rows::drop_id(connection, &plan.drop)?;
    let sql = format!(
        "INSERT INTO batch (state, id, work_root, work_path, drop_id, manifest, manifest_sha256, manifest_file,
                            received_at, {POLICY})
         VALUES ('admitting', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    let batch_id = match &plan.taken {
        Some(taken) => taken.batch_id,
        None => taking::next_batch_id(connection)?,
    };
    let (work_root, work_path) = plan.taken.as_ref().map(|taken| (&taken.work.root, &taken.work.path)).unzip();
    let own: [Value; 8] = [
        batch_id.into(),
        work_root.cloned().into(),
        work_path.cloned().into(),
        drop_id.into(),
        plan.manifest.clone().into(),
        plan.manifest_sha256.0.to_vec().into(),
        plan.manifest_file.clone().into(),
        now.0.into(),
    ];
    connection.prepare_cached(&sql)?.execute(params_from_iter(own.into_iter().chain(plan.policy.values())))?;
    if let Some(layout) = &plan.layout {
        layouts::keep(connection, batch_id, layout)?;
    }
    connection
        .prepare_cached("DELETE FROM arrival WHERE drop_id = ?1 AND manifest = ?2")?
        .execute(params![drop_id, plan.manifest])?;
    Ok(batch_id)
}

/// Ends the admission: all of the manifest's entries are in the batch, or `problems` says why none is.
pub(super) fn seal(
    connection: &Connection,
    batch_id: i64,
    problems: Option<&[Problem]>,
    now: Timestamp,
) -> Result<(), QueueError> {
    let sql = "UPDATE batch SET state = 'open', problems = ?2 WHERE id = ?1 AND state = 'admitting'";
    change(connection, batch_id, sql, &problems.map(rows::json))?;
    causes::batch_sealed(connection, batch_id, problems)?;
    taking::forget(connection, batch_id)?;
    transition::end_batch_if_empty(connection, batch_id, now)
}

/// Notes how many entries a batch will have.
pub(super) fn note_entries(connection: &Connection, batch_id: i64, entries: u64) -> Result<(), QueueError> {
    let mut update = connection.prepare_cached("UPDATE batch SET entries = ?2 WHERE id = ?1")?;
    update.execute(params![batch_id, rows::signed(entries)])?;
    Ok(())
}

/// Notes what is gone from a list since it was last taken in.
pub(super) fn note_gone(connection: &Connection, batch_id: i64, gone: &GoneEntries) -> Result<(), QueueError> {
    let first = serde_json::to_string(&gone.first).unwrap_or_default();
    connection.prepare_cached("UPDATE batch SET gone = ?2, gone_jobs = ?3 WHERE id = ?1")?.execute(params![
        batch_id,
        rows::signed(gone.count),
        first
    ])?;
    Ok(())
}

impl Queue {
    /// The drops that have batches to be finalized, by number; that with the oldest first.
    pub(crate) fn drops_to_settle(&self) -> Result<Vec<i64>, QueueError> {
        self.run_blocking("drops_to_settle", move |connection| {
            Ok(connection
                .prepare_cached(
                    "SELECT drop_id FROM batch WHERE state IN ('ended', 'published') AND state <> 'closed'
                      GROUP BY drop_id ORDER BY min(id)",
                )?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        })
    }

    /// Up to `limit` batches of a drop that are to be finalized, oldest first, after number `after`.
    /// Of those of imports only what has no receipt yet, while an import reads its manifests.
    pub(crate) fn to_settle(&self, drop_id: i64, after: i64, limit: u32) -> Result<Vec<EndedBatch>, QueueError> {
        let is_importing = self.is_importing();
        self.run_blocking("to_settle", move |connection| {
            let sql = format!(
                "SELECT {ENDED}, {NAMED}, {POLICY} FROM batch JOIN drop_folder ON drop_folder.id = batch.drop_id
                  WHERE state IN ('ended', 'published') AND state <> 'closed'
                    AND batch.drop_id = ?1 AND batch.id > ?2
                    AND NOT (?4 AND state = 'published' AND after_success = 'archive' AND work_path IS NULL)
                  ORDER BY batch.id LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query(params![drop_id, after, limit, is_importing])?;
            let mut batches = Vec::new();
            while let Some(row) = found.next()? {
                batches.push(ended(connection, row)?);
            }
            Ok(batches)
        })
    }

    /// Whether an import that puts files away still reads its manifests: those of its batches stay where they are.
    pub(crate) fn is_importing(&self) -> bool {
        OpenImport::is_under_way(&self.path)
    }

    /// Batches with a receipt whose doubled documents no addendum names yet, a few at a time.
    pub(crate) fn batches_to_amend(&self) -> Result<Vec<EndedBatch>, QueueError> {
        self.run_blocking("batches_to_amend", move |connection| {
            let sql = format!(
                "SELECT {ENDED}, {NAMED}, {POLICY} FROM batch JOIN drop_folder ON drop_folder.id = batch.drop_id
                  WHERE state IN ('published', 'closed')
                    AND batch.id IN (SELECT batch_id FROM doubled_document JOIN job ON job.id = job_id
                                      WHERE addendum IS NULL)
                  ORDER BY batch.id LIMIT 100"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut found = statement.query([])?;
            let mut batches = Vec::new();
            while let Some(row) = found.next()? {
                batches.push(ended(connection, row)?);
            }
            Ok(batches)
        })
    }

    /// Notes the name that a receipt will have, before it is written.
    pub(crate) fn name_receipt(&self, batch_id: i64, name: String) -> Result<(), QueueError> {
        self.run_blocking("name_receipt", move |connection| {
            change(connection, batch_id, "UPDATE batch SET receipt = ?2 WHERE id = ?1 AND state = 'ended'", &name)
        })
    }

    /// Notes that the receipt is on disk, and counts its status.
    pub(crate) fn receipt_published(&self, batch_id: i64, status: BatchStatus) -> Result<(), QueueError> {
        self.run_blocking("receipt_published", move |connection| {
            let sql = "UPDATE batch SET state = 'published', trouble = ?2 WHERE id = ?1 AND state = 'ended'";
            change(connection, batch_id, sql, &None::<String>)?;
            let drop_id = connection
                .prepare_cached("SELECT drop_id FROM batch WHERE id = ?1")?
                .query_row([batch_id], |row| row.get(0))?;
            counters::count(connection, drop_id, DropCounter::Manifests(status), 1)
        })
    }

    /// Notes that the files are where they belong: `archive` is the dated folder that they were moved into, if any,
    /// `manifest` where the manifest is in it, and `moved` are the files whose move is not recorded yet.
    pub(crate) fn batch_closed(
        &self,
        batch_id: i64,
        archive: Option<String>,
        manifest: Option<FileLocation>,
        moved: Vec<MovedFile>,
    ) -> Result<(), QueueError> {
        self.run_blocking("batch_closed", move |connection| {
            files::record_moves(connection, batch_id, &moved)?;
            let (root, path) = files::parts(manifest.as_ref());
            let changed = connection
                .prepare_cached(
                    "UPDATE batch SET state = 'closed', trouble = NULL, shelf = ?2, lies_root = ?3, lies_path = ?4,
                                      work_root = NULL, work_path = NULL
                      WHERE id = ?1 AND state = 'published'",
                )?
                .execute(params![batch_id, archive, root, path])?;
            forget_receipt(connection, batch_id)?;
            if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
        })
    }

    /// Settles a batch into other folders from now on, and forgets what kept it from being settled. Where the receipt is
    /// published, it stays where it is, and files go on to be archived where they were.
    pub(crate) fn change_folders(&self, batch_id: i64, policy: &BatchPolicy) -> Result<(), QueueError> {
        let folder = |folder: &Option<PathBuf>| folder.as_deref().map(text);
        let (receipts, mode, group) = (text(&policy.receipts_dir), policy.receipt_mode, policy.receipt_group.clone());
        let (done, failed) = (folder(&policy.done_dir), folder(&policy.failed_dir));
        let after = policy.after_success.as_str();
        self.run_blocking("change_folders", move |connection| {
            connection
                .prepare_cached(
                    "UPDATE batch SET receipts_dir = ?2, receipt_mode = ?3, receipt_group = ?4, done_dir = ?5,
                            failed_dir = ?6, after_success = ?7, trouble = NULL
                      WHERE id = ?1 AND state IN ('admitting', 'open', 'ended')",
                )?
                .execute(params![batch_id, receipts, mode, group, done, failed, after])?;
            connection
                .prepare_cached(
                    "UPDATE batch SET done_dir = ?2, failed_dir = ?3, trouble = NULL
                      WHERE id = ?1 AND state = 'published' AND done_dir IS NOT NULL AND ?2 IS NOT NULL",
                )?
                .execute(params![batch_id, done, failed])?;
            Ok(())
        })
    }

    /// Records what keeps a batch from being finalized, for `status` and `why`.
    pub(crate) fn batch_trouble(&self, batch_id: i64, trouble: String) -> Result<(), QueueError> {
        self.run_blocking("batch_trouble", move |connection| {
            let sql = "UPDATE batch SET trouble = ?2 WHERE id = ?1 AND state <> 'closed'";
            change(connection, batch_id, sql, &trouble)
        })
    }
}

fn change(connection: &Connection, batch_id: i64, sql: &str, value: &dyn rusqlite::ToSql) -> Result<(), QueueError> {
    let changed = connection.prepare_cached(sql)?.execute(params![batch_id, value])?;
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
}
