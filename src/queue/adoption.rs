//! Rebuilds from receipts what a lost or restored queue does not know, and holds what it cannot know.
//!
//! While an adoption is under way nothing may be sent: it is noted in the database, and a worker refuses to start.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    AsyncReader, Queue, QueueError, Reader,
    accounts::IS_OURS,
    batch::{self, BatchPolicy, Plan},
    content::ContentRule,
    control,
    identity::{key_of, own},
    rows::{self, signed, text},
    similar,
    transition::{self, Change, Expected},
};
use crate::{
    clock::Timestamp,
    entry::{EntryKind, ImageType, ProfileId, Sha256},
    job::{Creation, JobEvent, JobState},
    outcome::normal_id,
    relative_path::path_key,
};

/// A receipt of ours.
#[derive(Debug, Clone)]
pub struct ReceiptOrigin {
    /// The drop's name.
    pub drop: String,
    /// The manifest's path.
    pub manifest: String,
    /// The manifest's digest.
    pub manifest_sha256: Sha256,
    /// When the manifest was taken in.
    pub received_at: Timestamp,
    /// When its last entry ended.
    pub finished_at: Timestamp,
    /// The receipt, relative to the folder of receipts.
    pub receipt: String,
    /// How many entries the manifest had.
    pub entries: u64,
    /// What the drop does with files.
    pub policy: BatchPolicy,
}

/// An entry that a receipt of ours calls created, or there before.
#[derive(Debug, Clone)]
pub struct ReceiptedEntry {
    /// Its place in the manifest.
    pub index: u64,
    /// What it is.
    pub kind: EntryKind,
    /// The sender's own key.
    pub reference: Option<String>,
    /// The profile it is on.
    pub profile_id: ProfileId,
    /// Of a document.
    pub category: String,
    /// Of a document.
    pub document_type: String,
    /// Of a file.
    pub name: Option<String>,
    /// The version of the content rule, and the digest by it.
    pub content: (i64, Sha256),
    /// Its ID.
    pub remote_id: String,
    /// Its images, or its one file.
    pub uploads: Vec<ReceiptedUpload>,
}

/// An image, or the one file, of such an entry.
#[derive(Debug, Clone)]
pub struct ReceiptedUpload {
    /// As the manifest writes it.
    pub path: String,
    /// Which side it shows.
    pub image_type: Option<ImageType>,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Its ID.
    pub remote_id: Option<String>,
}

/// What became of the entries of receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct AdoptionCounts {
    /// Created entries that the queue did not know.
    pub adopted: u64,
    /// Those that it knew.
    pub known: u64,
    /// Jobs that the queue took for not created.
    pub corrected: u64,
}

impl AdoptionCounts {
    /// Adds others to these.
    pub const fn add(&mut self, other: Self) {
        self.adopted += other.adopted;
        self.known += other.known;
        self.corrected += other.corrected;
    }
}

/// A job of which it is not known whether it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubtfulJob {
    /// Its number.
    pub id: i64,
    /// The drop's name.
    pub drop: String,
    /// What it is.
    pub kind: EntryKind,
    /// The sender's own key.
    pub reference: Option<String>,
    /// Of a document.
    pub category: String,
    /// Of a document.
    pub document_type: String,
    /// The IDs of its images, in order, as far as they are known.
    pub images: Vec<Option<String>>,
}

/// What a reading decided about a doubtful job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoubtSettlement {
    /// It was not created: it is queued.
    Free,
    /// It was created under this ID.
    Created(String),
    /// A person must decide, for this reason.
    Held(String),
}

/// Why a job is held until its profile was read.
const NOT_READ: &str = "the database was lost or restored, and its profile was not read yet: run `adopt`";

impl Queue {
    /// Notes that an adoption is under way.
    pub(crate) fn begin_adoption(&self) -> Result<(), QueueError> {
        self.run_blocking("begin_adoption", |connection| {
            connection.execute("INSERT OR IGNORE INTO setting VALUES ('adoption', 'under way')", [])?;
            Ok(())
        })
    }

    /// Whether an adoption was begun and everything that is doubtful is not held yet.
    pub(crate) async fn is_adoption_unfinished(&self) -> Result<bool, QueueError> {
        self.run("is_adoption_unfinished", |connection| {
            let sql = "SELECT EXISTS (SELECT 1 FROM setting WHERE name = 'adoption')";
            Ok(connection.query_row(sql, [], |row| row.get(0))?)
        })
        .await
    }

    /// Takes over entries of one receipt, in one transaction. Idempotent.
    pub(crate) fn adopt_receipt(
        &self,
        origin: ReceiptOrigin,
        entries: Vec<ReceiptedEntry>,
        now: Timestamp,
    ) -> Result<AdoptionCounts, QueueError> {
        self.run_blocking("adopt_receipt", move |connection| {
            let mut receipt = AdoptedReceipt { connection, origin: &origin, batch: None, now };
            let mut counts = AdoptionCounts::default();
            entries.iter().try_for_each(|entry| receipt.adopt(entry, &mut counts))?;
            receipt.name_for_unsettled()?;
            Ok(counts)
        })
    }

    /// Holds every job that has not ended, since it may have been created, and ends the adoption: from then on a worker may
    /// start. Jobs that wait for another one of the same identity end with that one.
    pub(crate) fn hold_doubtful(&self) -> Result<(), QueueError> {
        self.run_blocking("hold_doubtful", |connection| {
            let ready = "state = 'queued' OR (state = 'waiting' AND waits <> 'twin')";
            connection.execute(&format!("INSERT OR IGNORE INTO doubtful_job SELECT id FROM job WHERE {ready}"), [])?;
            for (from, matching) in [(JobState::Queued, "true"), (JobState::Waiting, "waits <> 'twin'")] {
                let sql = transition::all(from, JobEvent::Held, "waits = NULL, due_at = NULL, reason = ?1", matching)?;
                connection.execute(&sql, [NOT_READ])?;
            }
            connection.execute("DELETE FROM setting WHERE name = 'adoption'", [])?;
            Ok(())
        })
    }

    /// Carries out what readings decided.
    pub(crate) async fn settle_doubt(
        &self,
        decided: Vec<(i64, DoubtSettlement)>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        self.run("settle_doubt", move |connection| {
            for (job_id, settlement) in &decided {
                settle(connection, *job_id, settlement, now)?;
            }
            Ok(())
        })
        .await
    }

    /// Closes a batch that was settled, by this receipt, after the database had been copied.
    pub(crate) fn close_as_receipted(&self, batch_id: i64, receipt: String) -> Result<(), QueueError> {
        self.run_blocking("close_as_receipted", move |connection| {
            let sql =
                "UPDATE batch SET state = 'closed', receipt = ?2, trouble = NULL, work_root = NULL, work_path = NULL
                        WHERE id = ?1 AND state IN ('ended', 'published')";
            connection.prepare_cached(sql)?.execute(params![batch_id, receipt])?;
            batch::forget_receipt(connection, batch_id)
        })
    }

    /// Takes a new start number: whatever this database was copied from is another one from now on.
    pub(crate) fn take_new_start_number(&self) -> Result<(), QueueError> {
        self.run_blocking("take_new_start_number", |connection| {
            connection
                .execute("UPDATE setting SET value = lower(hex(randomblob(4))) WHERE name = 'start_number'", [])?;
            Ok(())
        })
    }
}

fn settle(
    connection: &Connection,
    job_id: i64,
    settlement: &DoubtSettlement,
    now: Timestamp,
) -> Result<(), QueueError> {
    match settlement {
        DoubtSettlement::Free => {
            control::retry(connection, job_id, JobState::Held, true, now)?;
        }
        DoubtSettlement::Created(remote_id) => {
            let change = Change::Created { remote_id };
            transition::apply(connection, Expected::in_state(job_id, JobState::Held), &change, now)?;
        }
        DoubtSettlement::Held(reason) => {
            let sql = "UPDATE job SET reason = ?2 WHERE id = ?1 AND state = 'held'";
            return transition::one_job(connection.prepare_cached(sql)?.execute(params![job_id, reason])?, job_id);
        }
    }
    connection.prepare_cached("DELETE FROM doubtful_job WHERE job_id = ?1")?.execute([job_id])?;
    Ok(())
}

/// A receipt whose entries are taken over.
struct AdoptedReceipt<'a> {
    connection: &'a Connection,
    origin: &'a ReceiptOrigin,
    batch: Option<i64>,
    now: Timestamp,
}

/// The job that has an identity.
struct IdentityOwner {
    job_id: i64,
    state: JobState,
    asks_for_same: bool,
}

impl AdoptedReceipt<'_> {
    fn adopt(&mut self, entry: &ReceiptedEntry, counts: &mut AdoptionCounts) -> Result<(), QueueError> {
        let rule = ContentRule::of(entry.content.0)?;
        let drop_id = rows::drop_id(self.connection, &self.origin.drop)?;
        let key = key_of(entry.reference.as_deref(), &entry.content.1.0);
        let owner = self.owner(drop_id, &key, rule, &entry.content.1)?;
        if let Some(job_id) = self.known(drop_id, entry)? {
            if owner.is_none() {
                own(self.connection, drop_id, &key, job_id)?;
            }
            counts.known += 1;
            return Ok(());
        }
        match owner {
            Some(IdentityOwner { job_id, state, asks_for_same: true }) if !is_created(state) => {
                self.correct(job_id, state, entry)?;
                counts.corrected += 1;
            }
            _ => {
                let job_id = self.insert(drop_id, &key, rule, entry)?;
                own(self.connection, drop_id, &key, job_id)?;
                counts.adopted += 1;
            }
        }
        Ok(())
    }

    /// Notes of a batch that is not settled here that it was settled, by this receipt, after the database had been copied.
    fn name_for_unsettled(&self) -> Result<(), QueueError> {
        let ReceiptOrigin { drop, manifest, manifest_sha256, received_at, receipt, .. } = self.origin;
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO setting
                 SELECT 'receipt_of_' || batch.id, ?5 FROM batch JOIN drop_folder ON drop_folder.id = drop_id
                  WHERE name = ?1 AND manifest = ?2 AND manifest_sha256 = ?3 AND received_at / 1000 = ?4 / 1000
                    AND state <> 'closed'",
            )?
            .execute(params![drop, manifest, manifest_sha256.0, received_at.0, receipt])?;
        Ok(())
    }

    /// The job that is known to have created it.
    fn known(&self, drop_id: i64, entry: &ReceiptedEntry) -> Result<Option<i64>, QueueError> {
        let sql = "SELECT id, remote_id FROM job INDEXED BY job_of_profile
                    WHERE profile_id = ?1 AND drop_id = ?2 AND remote_id IS NOT NULL AND state IN ('done', 'duplicate')
                    ORDER BY state = 'done' DESC, id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![entry.profile_id.as_str(), drop_id])?;
        let id = normal_id(&entry.remote_id);
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str().is_ok_and(|known| normal_id(known) == id) {
                return Ok(Some(row.get(0)?));
            }
        }
        Ok(None)
    }

    fn owner(
        &self,
        drop_id: i64,
        key: &[u8],
        rule: ContentRule,
        content: &Sha256,
    ) -> Result<Option<IdentityOwner>, QueueError> {
        let found: Option<(i64, String, Vec<u8>, i64)> = self
            .connection
            .prepare_cached(
                "SELECT job.id, state, content, content_rule FROM identity JOIN job ON job.id = job_id
                  WHERE identity.drop_id = ?1 AND key = ?2",
            )?
            .query_row(params![drop_id, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?;
        let Some((job_id, state, theirs, their_rule)) = found else { return Ok(None) };
        Ok(Some(IdentityOwner {
            job_id,
            state: JobState::parse(&state).ok_or_else(|| rows::unreadable("a job's state", &state))?,
            asks_for_same: their_rule == rule.number() && theirs == content.0,
        }))
    }

    /// The queue was restored from a time at which this job had not been created, or had failed.
    fn correct(&self, job_id: i64, state: JobState, entry: &ReceiptedEntry) -> Result<(), QueueError> {
        let apply = |state, change: &Change<'_>| {
            transition::apply(self.connection, Expected::in_state(job_id, state), change, self.now)
        };
        let mut state = state;
        if state.has_ended() {
            state = apply(state, &Change::Retried { is_absent: true })?;
        }
        if state != JobState::Held {
            state =
                apply(state, &Change::Held { reason: "a receipt calls it created", creation: Some(Creation::None) })?;
        }
        for (position, upload) in entry.uploads.iter().enumerate().filter(|(_, upload)| upload.remote_id.is_some()) {
            let sql = "UPDATE upload SET remote_id = ?3 WHERE job_id = ?1 AND position = ?2";
            let position = signed(position as u64);
            self.connection.prepare_cached(sql)?.execute(params![job_id, position, upload.remote_id])?;
        }
        apply(state, &Change::Created { remote_id: &entry.remote_id })?;
        self.connection.prepare_cached("DELETE FROM doubtful_job WHERE job_id = ?1")?.execute([job_id])?;
        Ok(())
    }

    fn insert(
        &mut self,
        drop_id: i64,
        key: &[u8],
        rule: ContentRule,
        entry: &ReceiptedEntry,
    ) -> Result<i64, QueueError> {
        let batch_id = self.batch(drop_id)?;
        self.connection
            .prepare_cached(
                "INSERT INTO job (batch_id, drop_id, entry_index, kind, profile_id, reference, category, document_type,
                                  name, identity, content, content_rule, state, remote_id, created_at, ended_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'done', ?13, ?14, ?15)",
            )?
            .execute(params![
                batch_id,
                drop_id,
                signed(entry.index),
                entry.kind.as_str(),
                entry.profile_id.as_str(),
                entry.reference,
                entry.category,
                entry.document_type,
                entry.name,
                key,
                entry.content.1.0,
                rule.number(),
                entry.remote_id,
                self.origin.received_at.0,
                self.origin.finished_at.0,
            ])?;
        let job_id = self.connection.last_insert_rowid();
        let policy = &self.origin.policy;
        for (position, upload) in entry.uploads.iter().enumerate() {
            self.connection
                .prepare_cached(
                    "INSERT INTO upload (job_id, position, path, path_key, image_type, bytes, sha256, checksum, remote_id)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8)",
                )?
                .execute(params![
                    job_id,
                    signed(position as u64),
                    upload.path,
                    path_key(&policy.image_root, &policy.image_folder, &upload.path),
                    upload.image_type.map(ImageType::as_str),
                    signed(upload.bytes),
                    upload.sha256.0,
                    upload.remote_id,
                ])?;
        }
        let files = entry.uploads.iter().map(|upload| upload.sha256);
        let profile = entry.profile_id.as_str();
        similar::add_taken(self.connection, (drop_id, job_id), profile, entry.reference.as_deref(), files)?;
        Ok(job_id)
    }

    /// The batch of the receipt, made where it is not known. It is settled.
    fn batch(&mut self, drop_id: i64) -> Result<i64, QueueError> {
        if let Some(batch_id) = self.batch {
            return Ok(batch_id);
        }
        let ReceiptOrigin { drop, manifest, manifest_sha256, received_at, finished_at, receipt, entries, policy } =
            self.origin;
        let found: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM batch WHERE drop_id = ?1 AND manifest = ?2 AND manifest_sha256 = ?3
                    AND received_at / 1000 = ?4 / 1000 AND receipt = ?5 AND state = 'closed'",
            )?
            .query_row(params![drop_id, manifest, manifest_sha256.0, received_at.0, receipt], |row| row.get(0))
            .optional()?;
        let batch_id = match found {
            Some(batch_id) => batch_id,
            None => {
                let plan = Plan {
                    drop: drop.clone(),
                    manifest: manifest.clone(),
                    manifest_sha256: *manifest_sha256,
                    // No file is this one: what lies in the drop under its name is taken in again, as duplicates.
                    manifest_file: String::new(),
                    policy: policy.clone(),
                    taken: None,
                    layout: None,
                    held_back: false,
                };
                let batch_id = batch::begin(self.connection, &plan, *received_at)?;
                self.connection
                    .prepare_cached(
                        "UPDATE batch SET state = 'closed', finished_at = ?2, receipt = ?3, admitted = ?4 WHERE id = ?1",
                    )?
                    .execute(params![batch_id, finished_at.0, receipt, signed(*entries)])?;
                batch_id
            }
        };
        self.batch = Some(batch_id);
        Ok(batch_id)
    }
}

const fn is_created(state: JobState) -> bool {
    matches!(state, JobState::Done | JobState::Duplicate)
}

impl Reader {
    /// The receipt of a batch that was settled after the database had been copied, as `adopt` found it.
    pub(crate) fn receipt_after_copy(&self, batch_id: i64) -> Result<Option<String>, QueueError> {
        let sql = "SELECT value FROM setting WHERE name = 'receipt_of_' || ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([batch_id], |row| row.get(0)).optional()?)
    }

    /// The next profiles after this one that have doubtful jobs.
    pub(crate) fn doubtful_profiles(&self, after: &str, most: u32) -> Result<Vec<String>, QueueError> {
        let sql = "SELECT DISTINCT profile_id FROM doubtful_job JOIN job ON job.id = job_id
                    WHERE state = 'held' AND profile_id > ?1 ORDER BY profile_id LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_map(params![after, most], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The doubtful jobs of a profile.
    pub(crate) fn doubtful_jobs(&self, profile: &str) -> Result<Vec<DoubtfulJob>, QueueError> {
        let sql = "SELECT job.id, drop_folder.name, kind, reference, category, document_type
                     FROM doubtful_job JOIN job ON job.id = job_id JOIN drop_folder ON drop_folder.id = job.drop_id
                    WHERE state = 'held' AND profile_id = ?1 ORDER BY job.id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query([profile])?;
        let mut jobs = Vec::new();
        while let Some(row) = found.next()? {
            let id: i64 = row.get(0)?;
            let uploads = rows::uploads(&self.connection, id)?;
            jobs.push(DoubtfulJob {
                id,
                drop: row.get(1)?,
                kind: rows::kind(&row.get::<_, String>(2)?)?,
                reference: row.get(3)?,
                category: row.get(4)?,
                document_type: row.get(5)?,
                images: uploads.into_iter().map(|upload| upload.remote_id).collect(),
            });
        }
        Ok(jobs)
    }

    /// The newest document of each drop, with its profile and its ID.
    pub(crate) fn newest_documents(&self) -> Result<Vec<(String, String, String)>, QueueError> {
        let sql = format!(
            "SELECT drop_folder.name, newest.profile_id, newest.remote_id FROM drop_folder JOIN job AS newest
                 ON newest.id = (SELECT max(id) FROM job WHERE job.drop_id = drop_folder.id AND job.state = 'done'
                                    AND job.kind = 'document' AND {IS_OURS})
              ORDER BY newest.id DESC"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Whether all entries of this manifest were created, and it is settled.
    pub(crate) fn is_well_settled(
        &self,
        drop: &str,
        manifest: &str,
        manifest_sha256: Sha256,
    ) -> Result<bool, QueueError> {
        let sql = "SELECT EXISTS (
                       SELECT 1 FROM batch JOIN drop_folder ON drop_folder.id = drop_id
                        WHERE name = ?1 AND manifest = ?2 AND manifest_sha256 = ?3 AND state = 'closed'
                          AND admitted = (SELECT count(*) FROM job
                                           WHERE batch_id = batch.id AND job.state IN ('done', 'duplicate')))";
        Ok(self.connection.query_row(sql, params![drop, manifest, manifest_sha256.0], |row| row.get(0))?)
    }

    /// Whether a batch or a taking has this folder; see [`Reader::work_folders`].
    pub(crate) fn has_work_folder(&self, work_root: &std::path::Path, work_path: &str) -> Result<bool, QueueError> {
        Ok(self.work_folders(&text(work_root))?.iter().any(|known| known == work_path))
    }
}

impl AsyncReader {
    /// The doubtful jobs of a profile.
    pub(crate) async fn doubtful_jobs(&self, profile: &str) -> Result<Vec<DoubtfulJob>, QueueError> {
        let profile = profile.to_owned();
        self.ask(move |reader| reader.doubtful_jobs(&profile)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::test_support::{DROP, NOW, Site};

    const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";

    /// What the receipt of the site's job says of it.
    fn receipted(site: &Site, job: i64, remote_id: &str) -> ReceiptedEntry {
        let row = |column: &str| site.value(&format!("SELECT {column} FROM job WHERE id = {job}"));
        ReceiptedEntry {
            index: 0,
            kind: EntryKind::Document,
            reference: Some(row("reference")),
            profile_id: ProfileId::parse(PROFILE).unwrap(),
            category: row("category"),
            document_type: row("document_type"),
            name: None,
            content: (2, Sha256::parse(&row("hex(content)")).unwrap()),
            remote_id: remote_id.into(),
            uploads: vec![ReceiptedUpload {
                path: "img/one.png".into(),
                image_type: None,
                bytes: 81_234,
                sha256: Sha256([0; 32]),
                remote_id: Some(format!("image-of-{remote_id}")),
            }],
        }
    }

    fn origin(site: &Site, manifest: &str) -> ReceiptOrigin {
        let plan = site.plan(manifest);
        ReceiptOrigin {
            drop: DROP.into(),
            manifest: manifest.into(),
            manifest_sha256: plan.manifest_sha256,
            received_at: Timestamp(NOW.0 / 1000 * 1000),
            finished_at: NOW,
            receipt: format!("{manifest}.receipt.json"),
            entries: 1,
            policy: plan.policy,
        }
    }

    fn adopt(site: &Site, manifest: &str, entry: &ReceiptedEntry) -> AdoptionCounts {
        site.queue.adopt_receipt(origin(site, manifest), vec![entry.clone()], NOW).unwrap()
    }

    #[test]
    fn what_receipts_name_is_a_duplicate_in_a_new_queue_and_is_adopted_once() {
        let old = Site::new();
        old.admit("a.manifest.json", &["one"]);
        let entry = receipted(&old, 1, "d1");
        let site = Site::new();
        assert_eq!(adopt(&site, "a.manifest.json", &entry), AdoptionCounts { adopted: 1, ..Default::default() });
        assert_eq!(adopt(&site, "a.manifest.json", &entry), AdoptionCounts { known: 1, ..Default::default() });
        assert!(site.reader().is_well_settled(DROP, "a.manifest.json", Sha256([7; 32])).unwrap());
        site.admit("b.manifest.json", &["one"]);
        assert_eq!(site.state(2), JobState::Duplicate);
        assert_eq!(site.value("SELECT remote_id FROM job WHERE id = 2"), "d1");
        assert_eq!(site.value("SELECT remote_id FROM upload WHERE job_id = 1"), "image-of-d1");
    }

    #[test]
    fn jobs_that_a_receipt_calls_created_are_never_called_failed() {
        let site = Site::new();
        site.admit("a.manifest.json", &["queued", "failed", "held"]);
        let job = |reference: &str| site.job(reference);
        site.fail(job("failed"), "HTTP 403");
        site.hold(job("held"), Creation::Unknown);
        for reference in ["queued", "failed", "held"] {
            let entry = receipted(&site, job(reference), reference);
            let counts = AdoptionCounts { corrected: 1, ..Default::default() };
            assert_eq!(adopt(&site, "a.manifest.json", &entry), counts, "{reference}");
            assert_eq!(site.state(job(reference)), JobState::Done, "{reference}");
        }
        assert_eq!(site.batch_state(1), "ended");
    }

    #[test]
    fn everything_that_has_not_ended_is_held_until_it_is_decided() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two", "three"]);
        site.admit("b.manifest.json", &["one"]);
        let (one, two, three) = (site.job("one") - 3, site.job("two"), site.job("three"));
        site.put_off(two, crate::job::WaitReason::ReadBack, Creation::Unknown, NOW);
        site.queue.begin_adoption().unwrap();
        assert!(site.wait(site.queue.is_adoption_unfinished()).unwrap());
        site.queue.hold_doubtful().unwrap();
        assert!(!site.wait(site.queue.is_adoption_unfinished()).unwrap());
        assert_eq!([one, two, three].map(|job| site.state(job)), [JobState::Held; 3]);
        assert_eq!(site.reader().doubtful_profiles("", 9).unwrap(), [PROFILE]);
        assert_eq!(site.reader().doubtful_jobs(PROFILE).unwrap().len(), 3);
        let decided = vec![
            (one, DoubtSettlement::Created("d1".into())),
            (two, DoubtSettlement::Free),
            (three, DoubtSettlement::Held("d3 fits".into())),
        ];
        site.wait(site.queue.settle_doubt(decided, NOW)).unwrap();
        assert_eq!([one, two, three].map(|job| site.state(job)), [JobState::Done, JobState::Queued, JobState::Held]);
        // The twin of the first ended with it.
        assert_eq!(site.state(site.job("one")), JobState::Duplicate);
        assert_eq!(site.value(&format!("SELECT creation FROM job WHERE id = {two}")), "none");
        let left: Vec<i64> = site.reader().doubtful_jobs(PROFILE).unwrap().iter().map(|job| job.id).collect();
        assert_eq!(left, [three]);
    }
}
