//! From entries to jobs: a manifest becomes a batch, and each entry's identity decides what becomes of it.
//!
//! A small manifest is one transaction. A large one comes in parts, each a transaction, and the batch remembers how
//! far it came, so that a crash in the middle neither loses nor doubles an entry.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError,
    identity::{Fate, content_of, fate, key_of, own, owner, path_key},
    transition,
};
use crate::{
    clock::Timestamp,
    config::AfterSuccess,
    entry::{Content, Entry, EntryKind, Sha256},
    inbox::beneath::Identity,
    job::{Declared, JobState},
    problem::Problem,
};

/// A manifest that is to be taken in, and how it will be settled.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The drop's name.
    pub drop: String,
    /// The manifest's path, relative to `root`.
    pub manifest: String,
    /// Its digest.
    pub manifest_sha256: Sha256,
    /// The identity of its file, as text: see [`crate::inbox::kept`].
    pub manifest_file: String,
    /// The drop's folder.
    pub root: PathBuf,
    /// The folder beneath which images are opened; the same as `root` unless an import says otherwise.
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
    /// What becomes of the files when all is well.
    pub after_success: AfterSuccess,
    /// What is added to the manifest's name to name its done marker, where the drop has one.
    pub marker: Option<String>,
}

/// What was found out about one file of an entry.
#[derive(Debug, Clone, Copy)]
pub struct CheckedFile {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Its XXH3 checksum with the queue's seed.
    pub checksum: u64,
    /// Its identity, where that alone tells later that it is unchanged.
    pub seen: Option<Identity>,
}

/// One entry of a manifest, examined.
#[derive(Debug, Clone)]
pub enum Admission {
    /// Good: it becomes a job.
    Take {
        /// The entry.
        entry: Entry,
        /// Its files, in the order of [`Entry::sources`].
        files: Vec<CheckedFile>,
    },
    /// Not good: it is only reported.
    Invalid {
        /// Its place in the manifest.
        index: u64,
        /// Document or file, as far as can be told.
        kind: EntryKind,
        /// Its reference, where that is readable.
        reference: Option<String>,
        /// Its profile, where that is readable.
        profile_id: Option<String>,
        /// Everything that is wrong.
        problems: Vec<Problem>,
        /// The files that it names, as far as that is readable, so that they are put away with the others.
        paths: Vec<String>,
    },
}

/// A batch that is being taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitting {
    /// Its number.
    pub batch_id: i64,
    /// How many of its entries are in already.
    pub admitted: u64,
}

/// The number of a drop, made at its first use.
pub(super) fn drop_id(connection: &Connection, name: &str) -> Result<i64, QueueError> {
    connection.prepare_cached("INSERT OR IGNORE INTO drop_folder (name) VALUES (?1)")?.execute([name])?;
    Ok(connection.prepare_cached("SELECT id FROM drop_folder WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}

/// Starts a batch, or finds the one that a crash left half taken in.
///
/// # Errors
///
/// Those of the database.
pub fn begin(connection: &Connection, plan: &Plan, now: Timestamp) -> Result<Admitting, QueueError> {
    if let Some(half) = half_taken(connection, plan)? {
        return Ok(half);
    }
    let drop_id = drop_id(connection, &plan.drop)?;
    connection
        .prepare_cached(
            "INSERT INTO batch (drop_id, manifest, manifest_sha256, manifest_file, root, image_root, image_folder,
                                receipts_dir, receipt_mode, done_dir, failed_dir, after_success, state, received_at,
                                marker, receipt_group)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'admitting', ?13, ?14, ?15)",
        )?
        .execute(params![
            drop_id,
            plan.manifest,
            plan.manifest_sha256.0,
            plan.manifest_file,
            text(&plan.root),
            text(&plan.image_root),
            plan.image_folder,
            text(&plan.receipts_dir),
            plan.receipt_mode,
            plan.done_dir.as_deref().map(text),
            plan.failed_dir.as_deref().map(text),
            plan.after_success.as_str(),
            now.0,
            plan.marker,
            plan.receipt_group,
        ])?;
    let batch_id = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM arrival WHERE drop_id = ?1 AND manifest = ?2")?
        .execute(params![drop_id, plan.manifest])?;
    Ok(Admitting { batch_id, admitted: 0 })
}

/// The batch of this very manifest that a crash left half taken in, if there is one.
///
/// # Errors
///
/// Those of the database.
pub fn half_taken(connection: &Connection, plan: &Plan) -> Result<Option<Admitting>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT batch.id, admitted FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND manifest = ?2 AND manifest_sha256 = ?3 AND root = ?4 AND state = 'admitting'",
        )?
        .query_row(params![plan.drop, plan.manifest, plan.manifest_sha256.0, text(&plan.root)], |row| {
            Ok(Admitting { batch_id: row.get(0)?, admitted: row.get::<_, i64>(1)?.try_into().unwrap_or(0) })
        })
        .optional()?)
}

/// Whether anything of a batch has become a job.
///
/// # Errors
///
/// Those of the database.
pub fn has_jobs(connection: &Connection, batch_id: i64) -> Result<bool, QueueError> {
    Ok(connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE batch_id = ?1)")?
        .query_row([batch_id], |row| row.get(0))?)
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Takes entries into a batch, in order. Run in one transaction.
///
/// # Errors
///
/// Those of the database.
pub fn take_in(
    connection: &Connection,
    batch_id: i64,
    admissions: &[Admission],
    now: Timestamp,
) -> Result<(), QueueError> {
    let (drop_id, image_root, image_folder) = connection
        .prepare_cached("SELECT drop_id, image_root, image_folder FROM batch WHERE id = ?1 AND state = 'admitting'")?
        .query_row([batch_id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
        .optional()?
        .ok_or(QueueError::Gone { what: "batch", id: batch_id })?;
    let place = Place { batch_id, drop_id, image_root: Path::new(&image_root), image_folder: &image_folder };
    let mut open = 0_i64;
    for admission in admissions {
        match admission {
            Admission::Invalid { index, kind, reference, profile_id, problems, paths } => {
                connection.prepare_cached("INSERT INTO invalid_entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(
                    params![
                        batch_id,
                        signed(*index),
                        kind.as_str(),
                        reference,
                        profile_id,
                        json(problems),
                        serde_json::to_string(paths).unwrap_or_else(|_| "[]".to_owned())
                    ],
                )?;
                for path in paths {
                    let key = path_key(place.image_root, place.image_folder, path);
                    connection
                        .prepare_cached("INSERT OR IGNORE INTO invalid_path VALUES (?1, ?2)")?
                        .execute([key, batch_id])?;
                }
            }
            Admission::Take { entry, files } => open += i64::from(insert(connection, &place, entry, files, now)?),
        }
    }
    let changed = connection
        .prepare_cached("UPDATE batch SET admitted = admitted + ?2, open_jobs = open_jobs + ?3 WHERE id = ?1")?
        .execute(params![batch_id, signed(admissions.len() as u64), open])?;
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
}

struct Place<'a> {
    batch_id: i64,
    drop_id: i64,
    image_root: &'a Path,
    image_folder: &'a str,
}

/// Makes the job of one entry; returns whether it is still to be worked on.
fn insert(
    connection: &Connection,
    place: &Place<'_>,
    entry: &Entry,
    files: &[CheckedFile],
    now: Timestamp,
) -> Result<bool, QueueError> {
    let content = content_of(entry, files.iter().map(|file| file.sha256));
    let key = key_of(entry.reference.as_deref(), &content);
    let owner = owner(connection, place.drop_id, &key, &content)?;
    // Whom this one takes the identity from, to give it back if it comes to nothing.
    let replaces = owner.job_id();
    let fate = fate(owner, entry.replace);
    let (state, remote_id, twin_of, problems) = match &fate {
        Fate::Queue => (JobState::Queued, None, replaces, None),
        Fate::Duplicate { of, remote_id } => (JobState::Duplicate, Some(remote_id.as_str()), Some(*of), None),
        Fate::Twin { of } => (JobState::Waiting, None, Some(*of), None),
        Fate::Refuse(problem) => (JobState::Failed, None, None, Some(json(std::slice::from_ref(problem)))),
    };
    let (category, document_type, extracted_data, name) = match &entry.content {
        Content::Document { category, document_type, extracted_data, .. } => {
            let extracted = extracted_data.as_ref().map(|data| serde_json::Value::Object(data.clone()).to_string());
            (category.as_str(), document_type.as_str(), extracted, None)
        }
        Content::File { name, .. } => ("", "", None, name.as_deref()),
    };
    let reason = match &fate {
        Fate::Duplicate { of, .. } => Some(format!("created before by job {of}")),
        Fate::Twin { of } => Some(format!("job {of} creates the same")),
        Fate::Refuse(problem) => Some(problem.reason.clone()),
        Fate::Queue => None,
    };
    connection
        .prepare_cached(
            "INSERT INTO job (batch_id, drop_id, entry_index, kind, profile_id, reference, category, document_type,
                              extracted_data, name, identity, content, state, waits, reason, remote_id, twin_of,
                              problems, created_at, ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            place.batch_id,
            place.drop_id,
            signed(entry.index),
            entry.kind().as_str(),
            entry.profile_id.as_str(),
            entry.reference,
            category,
            document_type,
            extracted_data,
            name,
            key,
            content,
            state.as_str(),
            (state == JobState::Waiting).then_some("twin"),
            reason,
            remote_id,
            twin_of,
            problems,
            now.0,
            state.has_ended().then_some(now.0),
        ])?;
    let job_id = connection.last_insert_rowid();
    if fate == Fate::Queue {
        own(connection, place.drop_id, &key, job_id)?;
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO upload (job_id, position, path, path_key, image_type, bytes, sha256, checksum, seen, declared)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let types = match &entry.content {
        Content::Document { images, .. } => images.iter().map(|image| image.image_type).collect(),
        Content::File { .. } => vec![None],
    };
    for (position, ((source, file), image_type)) in entry.sources().zip(files).zip(types).enumerate() {
        statement.execute(params![
            job_id,
            signed(position as u64),
            source.path.as_str(),
            path_key(place.image_root, place.image_folder, source.path.as_str()),
            image_type.map(crate::entry::ImageType::as_str),
            signed(file.bytes),
            file.sha256.0,
            file.checksum.cast_signed(),
            file.seen.map(|identity| identity.in_full()),
            Declared { bytes: source.declared_bytes.is_some(), sha256: source.declared_sha256.is_some() }.bits(),
        ])?;
    }
    Ok(!state.has_ended())
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn json(problems: &[Problem]) -> String {
    serde_json::to_string(problems).unwrap_or_else(|_| "[]".to_owned())
}

/// Ends the taking in: all of the manifest's entries are in the batch, or `problems` says why none is.
///
/// # Errors
///
/// Those of the database.
pub fn seal(
    connection: &Connection,
    batch_id: i64,
    problems: Option<&[Problem]>,
    now: Timestamp,
) -> Result<(), QueueError> {
    let changed = connection
        .prepare_cached("UPDATE batch SET state = 'open', problems = ?2 WHERE id = ?1 AND state = 'admitting'")?
        .execute(params![batch_id, problems.map(json)])?;
    if changed != 1 {
        return Err(QueueError::Gone { what: "batch", id: batch_id });
    }
    transition::end_batch_if_empty(connection, batch_id, now)
}

impl Queue {
    /// The batches of a drop that a crash left half taken in, with their manifests.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn half_taken(&self, drop: &str) -> Result<Vec<(i64, String)>, QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("half_taken", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            Ok(connection
                .prepare_cached("SELECT id, manifest FROM batch WHERE state = 'admitting' AND drop_id = ?1")?
                .query_map([drop_id], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?)
        })
    }

    /// Ends the taking in of a batch whose manifest is gone, with a word about that in its receipt.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn end_half_taken(&self, batch_id: i64, now: Timestamp) -> Result<(), QueueError> {
        self.run_blocking("end_half_taken", move |connection| {
            let problem = Problem::error(
                "the manifest was gone, or another one was in its place, before all of its entries were taken in",
                "drop the whole manifest again: what was created is not created twice",
            );
            let at = connection
                .query_row("SELECT admitted FROM batch WHERE id = ?1", [batch_id], |row| row.get::<_, i64>(0))?;
            let rest = Admission::Invalid {
                index: at.try_into().unwrap_or(0),
                kind: EntryKind::Document,
                reference: None,
                profile_id: None,
                problems: vec![problem],
                paths: Vec::new(),
            };
            take_in(connection, batch_id, &[rest], now)?;
            seal(connection, batch_id, None, now)
        })
    }
}
