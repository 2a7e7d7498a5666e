//! Turns a manifest into a batch of jobs. Admission is idempotent: an entry's identity decides whether it becomes a
//! job, a duplicate, or an error.
//!
//! A small manifest is one transaction. A large one comes in parts, each a transaction, and the batch remembers how far
//! it came, so that a crash in the middle neither loses nor duplicates an entry.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Queue, QueueError,
    batch::{self, GoneEntries, Plan},
    causes,
    content::{ContentDigests, ContentRule},
    counters::{self, DropCounter},
    created_before::{self, KnownContent, declared},
    identity::{DedupDecision, conflict, decide, key_of, own_entry, owner_of_entry, owner_within},
    layouts,
    rows::{drop_id, json, signed, text},
    similar, stages, warnings,
};
use crate::{
    cause::CauseStatus,
    clock::Timestamp,
    entry::{Content, Entry, EntryKind, EntrySource, Sha256},
    extracted_data::ExtractedData,
    file_identity::{self, FileIdentity},
    job::{Declared, JobState, WaitReason},
    problem::Problem,
    relative_path::path_key,
    warning::EntryWarning,
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
    /// What the file was where its manifest names it, where that is known; `ctime_ns` is 0 where that is not enough to detect
    /// a change later.
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
    /// It was created before, and its files are not all there: what it declares decides whether it asks for the same.
    Known {
        /// The entry.
        entry: Entry,
        /// Its files that are there, in the order of [`Entry::sources`].
        files: Vec<Option<CheckedFile>>,
    },
    /// It was created before, its files are there, and nothing of it has changed since.
    Unchanged {
        /// The entry.
        entry: Entry,
        /// The job that created it.
        job_id: i64,
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
    /// How many entries the manifest has, where that is known.
    entries: Option<u64>,
    /// Warnings about it and its entries, to be kept with the next part.
    warnings: Arc<Vec<EntryWarning>>,
    /// How many warnings there were.
    warned: u64,
    /// The records of an archive that its entries were made of, likewise.
    sources: Arc<Vec<(u64, EntrySource)>>,
    /// What is gone from the list since it was last taken in.
    gone: Option<GoneEntries>,
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

    /// How many entries the manifest has, where it was read to its end before.
    pub(crate) const fn entries(&self) -> Option<u64> {
        self.entries
    }

    /// Notes that, before the first part.
    pub(crate) const fn has_entries(&mut self, entries: u64) {
        self.entries = Some(entries);
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

    /// Notes warnings, which the next part keeps.
    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = EntryWarning>) {
        let kept = Arc::make_mut(&mut self.warnings);
        let before = kept.len();
        kept.extend(warnings);
        self.warned += (kept.len() - before) as u64;
    }

    /// How many warnings were noted.
    pub(crate) fn warned(&self) -> u64 {
        self.warned
    }

    /// Notes the records of an archive that entries were made of, which the next part keeps.
    pub(crate) fn come_from(&mut self, sources: impl IntoIterator<Item = (u64, EntrySource)>) {
        Arc::make_mut(&mut self.sources).extend(sources);
    }

    /// Notes what is gone from the list since it was last taken in.
    pub(crate) fn without(&mut self, gone: Option<GoneEntries>) {
        self.gone = gone;
    }

    /// Admits the next entries; the first part creates the batch.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub fn admit_part(&mut self, part: Vec<Admission>, now: Timestamp) -> Result<(), QueueError> {
        let (plan, begun, warnings) = (Arc::clone(&self.plan), self.begun, Arc::clone(&self.warnings));
        let (sources, entries) = (Arc::clone(&self.sources), self.entries);
        let begun = self.queue.run_blocking("admit_part", move |connection| {
            let (batch_id, admitted) = match begun {
                Some(begun) => begun,
                None => (batch::begin(connection, &plan, now)?, 0),
            };
            if let Some(entries) = entries.filter(|_| admitted == 0) {
                batch::note_entries(connection, batch_id, entries)?;
            }
            take_in(connection, batch_id, &part, &warnings, plan.held_back, now)?;
            layouts::keep_sources(connection, batch_id, &sources)?;
            Ok((batch_id, admitted + part.len() as u64))
        })?;
        self.begun = Some(begun);
        self.warnings = Arc::default();
        self.sources = Arc::default();
        Ok(())
    }

    /// Ends the admission: all of the manifest's entries are in, or `problems` says why none is. Returns the batch.
    ///
    /// # Errors
    ///
    /// Those of the database; [`QueueError::Gone`] where no part is in.
    pub fn seal(self, problems: Option<Vec<Problem>>, now: Timestamp) -> Result<i64, QueueError> {
        let batch_id = self.batch_id().ok_or(QueueError::Gone { what: "batch", id: 0 })?;
        let gone = self.gone;
        self.queue.run_blocking("seal", move |connection| {
            if let Some(gone) = &gone {
                batch::note_gone(connection, batch_id, gone)?;
            }
            batch::seal(connection, batch_id, problems.as_deref(), now)
        })?;
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
        let (plan, warnings, sources) = (self.plan, self.warnings, self.sources);
        self.queue.run_blocking("admit_whole", move |connection| {
            let batch_id = batch::begin(connection, &plan, now)?;
            take_in(connection, batch_id, &entries, &warnings, plan.held_back, now)?;
            layouts::keep_sources(connection, batch_id, &sources)?;
            batch::seal(connection, batch_id, problems.as_deref(), now)?;
            Ok(batch_id)
        })
    }
}

/// The batch of this manifest whose admission a crash interrupted, if there is one.
fn half_taken(connection: &Connection, plan: &Plan) -> Result<Option<(i64, u64, Option<u64>)>, QueueError> {
    let taken = plan.taken.as_ref().map(|taken| taken.batch_id);
    Ok(connection
        .prepare_cached(
            "SELECT batch.id, admitted, entries FROM batch JOIN drop_folder ON drop_folder.id = drop_id
              WHERE name = ?1 AND manifest = ?2 AND manifest_sha256 = ?3 AND root = ?4 AND state = 'admitting'
                AND (work_root IS NULL OR batch.id = ?5)
                AND (SELECT entries_sha256 FROM batch_layout WHERE batch_id = batch.id) IS ?6",
        )?
        .query_row(
            params![
                plan.drop,
                plan.manifest,
                plan.manifest_sha256.0,
                text(&plan.policy.root),
                taken,
                plan.layout.as_ref().map(|layout| layout.entries_sha256.0)
            ],
            |row| {
                let entries = row.get::<_, Option<i64>>(2)?.and_then(|entries| entries.try_into().ok());
                Ok((row.get(0)?, row.get::<_, i64>(1)?.try_into().unwrap_or(0), entries))
            },
        )
        .optional()?)
}

/// Takes entries into a batch, in order.
fn take_in(
    connection: &Connection,
    batch_id: i64,
    admissions: &[Admission],
    warnings: &[EntryWarning],
    held_back: bool,
    now: Timestamp,
) -> Result<(), QueueError> {
    let (drop_id, image_root, image_folder, stays) = connection
        .prepare_cached(
            "SELECT drop_id, image_root, image_folder, after_success = 'keep' AND work_root IS NULL
               FROM batch WHERE id = ?1 AND state = 'admitting'",
        )?
        .query_row([batch_id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?)))
        .optional()?
        .ok_or(QueueError::Gone { what: "batch", id: batch_id })?;
    let (image_root, image_folder) = (Path::new(&image_root), image_folder.as_str());
    let place = BatchContext { batch_id, drop_id, image_root, image_folder, stays, held_back };
    warnings::keep(connection, batch_id, drop_id, warnings)?;
    let (mut open, mut invalid) = (0_i64, 0_i64);
    let mut unchanged = UnchangedRuns::default();
    let may_mend = causes::is_any_open(connection)?;
    for admission in admissions {
        match admission {
            Admission::Invalid { index, kind, reference, profile_id, problems, paths } => {
                let (cause, identity) = causes::of_invalid(connection, reference.as_deref(), problems)?;
                connection
                    .prepare_cached(
                        "INSERT INTO invalid_entry (batch_id, entry_index, kind, reference, profile_id, problems, paths,
                                                    identity, cause)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute(params![
                        batch_id,
                        signed(*index),
                        kind.as_str(),
                        reference,
                        profile_id,
                        json(problems),
                        serde_json::to_string(paths).unwrap_or_else(|_| "[]".to_owned()),
                        identity,
                        cause
                    ])?;
                invalid += 1;
                for path in paths {
                    let key = path_key(place.image_root, place.image_folder, path);
                    connection
                        .prepare_cached("INSERT OR IGNORE INTO invalid_path VALUES (?1, ?2)")?
                        .execute([key, batch_id])?;
                }
            }
            Admission::Unchanged { entry, job_id } => {
                unchanged.add(entry.index, *job_id);
                if let Some(reference) = entry.reference.as_deref().filter(|_| may_mend) {
                    causes::mend_invalid(connection, (drop_id, batch_id), reference)?;
                }
            }
            Admission::Take { entry, files } => open += i64::from(insert(connection, &place, entry, files, now)?),
            Admission::Known { entry, files } => insert_known(connection, &place, entry, files, now)?,
        }
    }
    let unchanged = unchanged.keep(connection, batch_id)?;
    counters::count(connection, drop_id, DropCounter::Invalid, invalid)?;
    counters::count(connection, drop_id, DropCounter::Unchanged, unchanged)?;
    let changed = connection
        .prepare_cached(
            "UPDATE batch SET admitted = admitted + ?2, open_jobs = open_jobs + ?3, unchanged = unchanged + ?4 WHERE id = ?1",
        )?
        .execute(params![batch_id, signed(admissions.len() as u64), open, unchanged])?;
    if changed == 1 { Ok(()) } else { Err(QueueError::Gone { what: "batch", id: batch_id }) }
}

/// Entries that are unchanged, in runs of consecutive places and jobs: first place, first job, how many.
#[derive(Default)]
struct UnchangedRuns(Vec<(u64, i64, i64)>);

impl UnchangedRuns {
    fn add(&mut self, index: u64, job_id: i64) {
        match self.0.last_mut() {
            Some((first, of, entries))
                if first.checked_add_signed(*entries) == Some(index) && *of + *entries == job_id =>
            {
                *entries += 1;
            }
            _ => self.0.push((index, job_id, 1)),
        }
    }

    /// Returns how many there are.
    fn keep(self, connection: &Connection, batch_id: i64) -> Result<i64, QueueError> {
        let mut insert = connection.prepare_cached("INSERT INTO unchanged_entry VALUES (?1, ?2, ?3, ?4)")?;
        let mut all = 0;
        for (index, job_id, entries) in self.0 {
            insert.execute(params![batch_id, signed(index), job_id, entries])?;
            all += entries;
        }
        Ok(all)
    }
}

struct BatchContext<'a> {
    batch_id: i64,
    drop_id: i64,
    image_root: &'a Path,
    image_folder: &'a str,
    /// Its files stay where they are.
    stays: bool,
    /// Its jobs wait until their stage begins.
    held_back: bool,
}

/// How the job of an entry begins, or ends at once.
struct FirstState<'a> {
    key: &'a [u8],
    content: (&'a [u8], ContentRule),
    state: JobState,
    waits: Option<WaitReason>,
    reason: Option<String>,
    remote_id: Option<&'a str>,
    twin_of: Option<i64>,
    problem: Option<&'a Problem>,
}

/// Makes the job of one entry; returns whether it is still to be worked on.
fn insert(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    files: &[CheckedFile],
    now: Timestamp,
) -> Result<bool, QueueError> {
    let content = ContentDigests::of_entry(entry, files.iter().map(|file| file.sha256));
    let reference = entry.reference.as_deref();
    let key = key_of(reference, content.current());
    let owner = match entry.replace {
        false => owner_within(connection, (place.drop_id, place.batch_id), reference, &content)?,
        true => owner_of_entry(connection, place.drop_id, reference, &content)?,
    };
    // The previous owner of the identity, which gets it back if this job fails or is cancelled.
    let replaces = owner.job_id();
    let decision = decide(owner, entry.replace);
    let (state, remote_id, twin_of, problem) = match &decision {
        DedupDecision::Queue if place.held_back => (JobState::Waiting, None, replaces, None),
        DedupDecision::Queue => (JobState::Queued, None, replaces, None),
        DedupDecision::Duplicate { of, remote_id } => (JobState::Duplicate, Some(remote_id.as_str()), Some(*of), None),
        DedupDecision::Twin { of } => (JobState::Waiting, None, Some(*of), None),
        DedupDecision::Refuse(problem) => (JobState::Failed, None, None, Some(problem)),
    };
    let reason = match &decision {
        DedupDecision::Duplicate { of, .. } if is_of_batch(connection, *of, place.batch_id)? => {
            Some(format!("created by job {of}"))
        }
        DedupDecision::Duplicate { of, .. } => Some(format!("created before by job {of}")),
        DedupDecision::Twin { of } => Some(format!("job {of} creates the same")),
        DedupDecision::Refuse(problem) => Some(problem.reason.clone()),
        DedupDecision::Queue => place.held_back.then(|| stages::REASON.to_owned()),
    };
    let waits = match &decision {
        DedupDecision::Twin { .. } => Some(WaitReason::Twin),
        DedupDecision::Queue => place.held_back.then_some(WaitReason::Quota),
        DedupDecision::Duplicate { .. } | DedupDecision::Refuse(_) => None,
    };
    let content_now = (content.current().as_slice(), ContentRule::CURRENT);
    let first = FirstState { key: &key, content: content_now, state, waits, reason, remote_id, twin_of, problem };
    let job_id = insert_job(connection, place, entry, first, now)?;
    if decision == DedupDecision::Queue {
        own_entry(connection, place.drop_id, reference, &content, job_id)?;
    }
    insert_uploads(connection, place, entry, job_id, files.iter().map(Some))?;
    if let DedupDecision::Duplicate { of, .. } = &decision
        && place.stays
    {
        files_seen_again(connection, place, entry, *of, files)?;
    }
    if decision == DedupDecision::Queue {
        let files = files.iter().map(|file| file.sha256);
        similar::add_taken(connection, (place.drop_id, job_id), entry.profile_id.as_str(), reference, files)?;
    }
    Ok(!state.has_ended())
}

/// Notes what the files of an entry are now that was created before: where they were copied, or touched, they need not be
/// read again the next time.
fn files_seen_again(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    created_by: i64,
    files: &[CheckedFile],
) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached(
        "UPDATE upload SET seen = ?1 WHERE job_id = ?2 AND position = ?3 AND path_key = ?4 AND sha256 = ?5 AND seen IS NOT ?1",
    )?;
    for (position, (source, file)) in entry.sources().zip(files).enumerate() {
        let key = path_key(place.image_root, place.image_folder, source.path.as_str());
        let seen = file.seen.map(|identity| file_identity::write_checked(&identity));
        statement.execute(params![seen, created_by, signed(position as u64), key, file.sha256.0])?;
    }
    Ok(())
}

fn is_of_batch(connection: &Connection, job_id: i64, batch_id: i64) -> Result<bool, QueueError> {
    Ok(connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM job WHERE id = ?1 AND batch_id = ?2)")?
        .query_row([job_id, batch_id], |row| row.get(0))?)
}

/// Makes the job of an entry that was created before and whose files are not all there. It has ended.
fn insert_known(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    files: &[Option<CheckedFile>],
    now: Timestamp,
) -> Result<(), QueueError> {
    let reference = entry.reference.as_deref().unwrap_or_default();
    let created = created_before::created_before(connection, place.drop_id, reference)?;
    let created = created.ok_or(QueueError::Gone { what: "what was created under a reference", id: 0 })?;
    let known: Vec<KnownContent> = declared(entry)
        .into_iter()
        .zip(files)
        .map(|(declared, file)| {
            file.map_or(declared, |file| KnownContent { bytes: Some(file.bytes), sha256: Some(file.sha256) })
        })
        .collect();
    let differences = created.differences(entry, &known);
    let problem = conflict(created.job_id, &differences);
    let first = FirstState {
        key: &key_of(entry.reference.as_deref(), &[0; 32]),
        content: (&created.content, created.rule),
        state: if differences.is_empty() { JobState::Duplicate } else { JobState::Failed },
        waits: None,
        reason: Some(if differences.is_empty() { created.in_words() } else { problem.reason.clone() }),
        remote_id: differences.is_empty().then_some(created.remote_id.as_str()),
        twin_of: differences.is_empty().then_some(created.job_id),
        problem: (!differences.is_empty()).then_some(&problem),
    };
    let job_id = insert_job(connection, place, entry, first, now)?;
    insert_uploads(connection, place, entry, job_id, files.iter().map(Option::as_ref))
}

fn insert_job(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    first: FirstState<'_>,
    now: Timestamp,
) -> Result<i64, QueueError> {
    let (category, document_type, extracted_data, name) = match &entry.content {
        Content::Document { category, document_type, extracted_data, .. } => {
            (category.as_str(), document_type.as_str(), extracted_data.as_ref().map(ExtractedData::as_str), None)
        }
        Content::File { name, .. } => ("", "", None, name.as_deref()),
    };
    let failed = |problem| causes::of(connection, CauseStatus::Failed, std::slice::from_ref(problem));
    let cause = first.problem.map(failed).transpose()?;
    connection
        .prepare_cached(
            "INSERT INTO job (batch_id, drop_id, entry_index, kind, profile_id, reference, category, document_type,
                              extracted_data, name, identity, content, state, waits, reason, remote_id, twin_of,
                              problems, created_at, ended_at, content_rule, cause)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                     ?22)",
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
            first.key,
            first.content.0,
            first.state.as_str(),
            first.waits.map(WaitReason::as_str),
            first.reason,
            first.remote_id,
            first.twin_of,
            first.problem.map(|problem| json(std::slice::from_ref(problem))),
            now.0,
            first.state.has_ended().then_some(now.0),
            first.content.1.number(),
            cause,
        ])?;
    Ok(connection.last_insert_rowid())
}

/// Records the files of a job that are there.
fn insert_uploads<'a>(
    connection: &Connection,
    place: &BatchContext<'_>,
    entry: &Entry,
    job_id: i64,
    files: impl Iterator<Item = Option<&'a CheckedFile>>,
) -> Result<(), QueueError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO upload (job_id, position, path, path_key, image_type, bytes, sha256, checksum, seen, declared)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let types = match &entry.content {
        Content::Document { images, .. } => images.iter().map(|image| image.image_type).collect(),
        Content::File { .. } => vec![None],
    };
    for (position, ((source, file), image_type)) in entry.sources().zip(files).zip(types).enumerate() {
        let Some(file) = file else { continue };
        statement.execute(params![
            job_id,
            signed(position as u64),
            source.path.as_str(),
            path_key(place.image_root, place.image_folder, source.path.as_str()),
            image_type.map(crate::entry::ImageType::as_str),
            signed(file.bytes),
            file.sha256.0,
            file.checksum.cast_signed(),
            file.seen.map(|identity| file_identity::write_checked(&identity)),
            Declared { bytes: source.declared_bytes.is_some(), sha256: source.declared_sha256.is_some() }.bits(),
        ])?;
    }
    Ok(())
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
        let found = self.run_blocking("half_taken", move |connection| half_taken(connection, &theirs))?;
        let begun = found.map(|(batch_id, admitted, _)| (batch_id, admitted));
        let entries = found.and_then(|(.., entries)| entries);
        let (warnings, sources) = (Arc::default(), Arc::default());
        Ok(BatchAdmission { queue: self.clone(), plan, begun, entries, warnings, warned: 0, sources, gone: None })
    }

    /// The batches of a drop whose admission a crash interrupted, with their manifests.
    pub(crate) fn half_taken(&self, drop: &str) -> Result<Vec<(i64, String)>, QueueError> {
        let drop = drop.to_owned();
        self.run_blocking("half_taken", move |connection| {
            let drop_id = drop_id(connection, &drop)?;
            Ok(connection
                .prepare_cached(
                    "SELECT id, manifest FROM batch WHERE state = 'admitting' AND drop_id = ?1 AND work_root IS NULL",
                )?
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
            take_in(connection, batch_id, &[rest], &[], false, now)?;
            batch::seal(connection, batch_id, None, now)
        })
    }
}
