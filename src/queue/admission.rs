//! Turns a manifest into a batch of jobs. Admission is idempotent: an entry's identity decides whether it becomes a
//! job, a duplicate, or an error.
//!
//! A small manifest is one transaction. A large one comes in parts, each a transaction, and the batch remembers how far
//! it came, so that a crash in the middle neither loses nor duplicates an entry.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError,
    batch::{self, Plan},
    identity::{DedupDecision, content_of, decide, key_of, own, owner},
    rows::{drop_id, json, signed, text},
};
use crate::{
    clock::Timestamp,
    entry::{Content, Entry, EntryKind, Sha256},
    file_identity::FileIdentity,
    job::{Declared, JobState},
    problem::Problem,
    relative_path::path_key,
};

/// What was found out about one file of an entry.
#[derive(Debug, Clone, Copy)]
pub struct CheckedFile {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Its XXH3 checksum with the queue's seed.
    pub checksum: u64,
    /// The file's identity, where it is enough to detect a change later.
    pub seen: Option<FileIdentity>,
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
        /// Document or file, as far as can be read.
        kind: EntryKind,
        /// Its reference, where that is readable.
        reference: Option<String>,
        /// Its profile, where that is readable.
        profile_id: Option<String>,
        /// Everything that is wrong.
        problems: Vec<Problem>,
        /// The files that it names, as far as that is readable, so that they are archived with the others.
        paths: Vec<String>,
    },
}

/// A manifest on its way into the queue, at once or in parts; see [`Queue::admission`].
pub struct BatchAdmission {
    queue: Queue,
    plan: Arc<Plan>,
    /// Its number, and how many of its entries are in, once the first part is.
    begun: Option<(i64, u64)>,
}

impl BatchAdmission {
    /// What is admitted, and how.
    #[must_use]
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The batch, where a part is in.
    #[must_use]
    pub fn batch_id(&self) -> Option<i64> {
        self.begun.map(|(batch_id, _)| batch_id)
    }

    /// How many of the manifest's entries are in.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.begun.map_or(0, |(_, admitted)| admitted)
    }

    /// Whether any of its entries has become a job.
    pub(crate) fn has_jobs(&self) -> Result<bool, QueueError> {
        let Some(batch_id) = self.batch_id() else { return Ok(false) };
        self.queue.run_blocking("has_jobs", move |connection| {
            Ok(connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE batch_id = ?1)")?
                .query_row([batch_id], |row| row.get(0))?)
        })
    }

    /// Admits the next entries; the first part creates the batch.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn admit_part(&mut self, part: Vec<Admission>, now: Timestamp) -> Result<(), QueueError> {
        let (plan, begun) = (Arc::clone(&self.plan), self.begun);
        let begun = self.queue.run_blocking("admit_part", move |connection| {
            let (batch_id, admitted) = match begun {
                Some(begun) => begun,
                None => (batch::begin(connection, &plan, now)?, 0),
            };
            take_in(connection, batch_id, &part, now)?;
            Ok((batch_id, admitted + part.len() as u64))
        })?;
        self.begun = Some(begun);
        Ok(())
    }

    /// Ends the admission: all of the manifest's entries are in, or `problems` says why none is. Returns the batch.
    ///
    /// # Errors
    ///
    /// Those of the database; [`QueueError::Gone`] where no part is in.
    pub fn seal(self, problems: Option<Vec<Problem>>, now: Timestamp) -> Result<i64, QueueError> {
        let batch_id = self.batch_id().ok_or(QueueError::Gone { what: "batch", id: 0 })?;
        self.queue
            .run_blocking("seal", move |connection| batch::seal(connection, batch_id, problems.as_deref(), now))?;
        Ok(batch_id)
    }

    /// Admits a complete manifest of which nothing is in yet, and seals it, in one transaction. Returns the batch.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn admit_whole(
        self,
        entries: Vec<Admission>,
        problems: Option<Vec<Problem>>,
        now: Timestamp,
    ) -> Result<i64, QueueError> {
        let plan = self.plan;
        self.queue.run_blocking("admit_whole", move |connection| {
            let batch_id = batch::begin(connection, &plan, now)?;
            take_in(connection, batch_id, &entries, now)?;
            batch::seal(connection, batch_id, problems.as_deref(), now)?;
            Ok(batch_id)
        })
    }
}

/// The batch of this manifest whose admission a crash interrupted, if there is one.
fn half_taken(connection: &Connection, plan: &Plan) -> Result<Option<(i64, u64)>, QueueError> {
    Ok(connection
        .prepare_cached(
            "SELECT batch.id, admitted FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND manifest = ?2 AND manifest_sha256 = ?3 AND root = ?4 AND state = 'admitting'",
        )?
        .query_row(params![plan.drop, plan.manifest, plan.manifest_sha256.0, text(&plan.policy.root)], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.try_into().unwrap_or(0)))
        })
        .optional()?)
}

/// Takes entries into a batch, in order.
fn take_in(connection: &Connection, batch_id: i64, admissions: &[Admission], now: Timestamp) -> Result<(), QueueError> {
    let (drop_id, image_root, image_folder) = connection
        .prepare_cached("SELECT drop_id, image_root, image_folder FROM batch WHERE id = ?1 AND state = 'admitting'")?
        .query_row([batch_id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
        .optional()?
        .ok_or(QueueError::Gone { what: "batch", id: batch_id })?;
    let place = BatchContext { batch_id, drop_id, image_root: Path::new(&image_root), image_folder: &image_folder };
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

struct BatchContext<'a> {
    batch_id: i64,
    drop_id: i64,
    image_root: &'a Path,
    image_folder: &'a str,
}

/// Makes the job of one entry; returns whether it is still to be worked on.
fn insert(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    files: &[CheckedFile],
    now: Timestamp,
) -> Result<bool, QueueError> {
    let content = content_of(entry, files.iter().map(|file| file.sha256));
    let key = key_of(entry.reference.as_deref(), &content);
    let owner = owner(connection, place.drop_id, &key, &content)?;
    // The previous owner of the identity, which gets it back if this job fails or is cancelled.
    let replaces = owner.job_id();
    let decision = decide(owner, entry.replace);
    let (state, remote_id, twin_of, problems) = match &decision {
        DedupDecision::Queue => (JobState::Queued, None, replaces, None),
        DedupDecision::Duplicate { of, remote_id } => (JobState::Duplicate, Some(remote_id.as_str()), Some(*of), None),
        DedupDecision::Twin { of } => (JobState::Waiting, None, Some(*of), None),
        DedupDecision::Refuse(problem) => (JobState::Failed, None, None, Some(json(std::slice::from_ref(problem)))),
    };
    let (category, document_type, extracted_data, name) = match &entry.content {
        Content::Document { category, document_type, extracted_data, .. } => {
            let extracted = extracted_data.as_ref().map(|data| serde_json::Value::Object(data.clone()).to_string());
            (category.as_str(), document_type.as_str(), extracted, None)
        }
        Content::File { name, .. } => ("", "", None, name.as_deref()),
    };
    let reason = match &decision {
        DedupDecision::Duplicate { of, .. } => Some(format!("created before by job {of}")),
        DedupDecision::Twin { of } => Some(format!("job {of} creates the same")),
        DedupDecision::Refuse(problem) => Some(problem.reason.clone()),
        DedupDecision::Queue => None,
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
    if decision == DedupDecision::Queue {
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

impl Queue {
    /// Starts the admission of a manifest, or resumes one that a crash interrupted. Writes nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn admission(&self, plan: Plan) -> Result<BatchAdmission, QueueError> {
        let plan = Arc::new(plan);
        let theirs = Arc::clone(&plan);
        let begun = self.run_blocking("half_taken", move |connection| half_taken(connection, &theirs))?;
        Ok(BatchAdmission { queue: self.clone(), plan, begun })
    }

    /// The batches of a drop whose admission a crash interrupted, with their manifests.
    pub(crate) fn half_taken(&self, drop: &str) -> Result<Vec<(i64, String)>, QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("half_taken", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            Ok(connection
                .prepare_cached("SELECT id, manifest FROM batch WHERE state = 'admitting' AND drop_id = ?1")?
                .query_map([drop_id], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?)
        })
    }

    /// Ends the admission of a batch whose manifest is gone; the receipt says so.
    pub(crate) fn end_half_taken(&self, batch_id: i64, now: Timestamp) -> Result<(), QueueError> {
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
            batch::seal(connection, batch_id, None, now)
        })
    }
}
