//! A small real queue in a temporary folder, for the tests of the queue and of the commands that read it.
//!
//! Its jobs move by the same functions as a worker's.

use std::path::{Path, PathBuf};

use super::{
    Queue, QueueError, Reader, WhenStuck,
    admission::{Admission, BatchAdmission, CheckedFile},
    attempt::{Attempt, End, Evidence, PutOff},
    batch::{BatchPolicy, Plan},
    control::{CommandOutcome, JobCommand, Release},
    views::{Filter, jobs::JobDetail},
};
use crate::{
    cli::output::QueueContext,
    clock::Timestamp,
    config::{Config, DropConfig},
    entry::{Content, Entry, ImageSource, ProfileId, RelativePath, Sha256, Source},
    file_identity::Present,
    inbox::beneath::Root,
    job::{Creation, Job, JobState, WaitReason},
    policy::AfterSuccess,
    problem::Problem,
};

/// 2026-11-22T20:15:04Z.
pub const NOW: Timestamp = Timestamp(1_795_378_504_000);

/// The drop that everything is admitted to.
pub const DROP: &str = "partner-a";

/// Any file, for whom it does not matter which.
pub fn a_file() -> Present {
    let root = Root::open(Path::new("/")).unwrap();
    root.present(root.identity())
}

/// One number of one row, from beside the queue.
pub fn number(queue: &Queue, sql: &str) -> Option<i64> {
    Reader::open(queue.path()).unwrap().connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Changes rows from beside the queue, as time or a mount would have; returns how many.
pub fn execute(queue: &Queue, sql: &str) -> usize {
    rusqlite::Connection::open(queue.path()).unwrap().execute(sql, []).unwrap()
}

/// Writes what only a disk with room takes, and waits for the room.
pub fn write_much(queue: &Queue, has_room: impl Fn() -> bool + Send + 'static) -> Result<(), QueueError> {
    queue.run_blocking("write_much", move |connection| {
        connection.pragma_update(None, "max_page_count", if has_room() { 1_000_000 } else { 1 })?;
        connection.execute("INSERT OR REPLACE INTO setting VALUES ('large', hex(zeroblob(500000)))", [])?;
        Ok(())
    })
}

impl Queue {
    pub(crate) fn command(
        &self,
        jobs: Vec<i64>,
        command: JobCommand,
        now: Timestamp,
    ) -> Result<Vec<CommandOutcome>, QueueError> {
        self.command_by(None, jobs, command, now)
    }

    pub(crate) fn retry(&self, job: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
        self.command_one(job, JobCommand::Retry, now)
    }

    pub(crate) fn cancel(&self, job: i64, now: Timestamp) -> Result<CommandOutcome, QueueError> {
        self.command_one(job, JobCommand::Cancel, now)
    }

    pub(crate) fn release(&self, job: i64, release: Release, now: Timestamp) -> Result<CommandOutcome, QueueError> {
        self.command_one(job, JobCommand::Release(release), now)
    }

    fn command_one(&self, job: i64, command: JobCommand, now: Timestamp) -> Result<CommandOutcome, QueueError> {
        Ok(self.command(vec![job], command, now)?.remove(0))
    }
}

/// A queue, and the drop that belongs to it.
pub struct Site {
    folder: tempfile::TempDir,
    pub queue: Queue,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue.db"), WhenStuck::Fail).unwrap();
        std::fs::create_dir(folder.path().join("drop")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { folder, queue, runtime }
    }

    pub fn drop_path(&self) -> PathBuf {
        self.folder.path().join("drop")
    }

    pub fn context(&self) -> QueueContext {
        let mut config = Config::defaults();
        config.drops.push(DropConfig::new(DROP, self.drop_path()));
        QueueContext { database: self.queue.path().to_owned(), config: Some(config) }
    }

    pub fn reader(&self) -> Reader {
        Reader::open(self.queue.path()).unwrap()
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Takes a manifest in with a document for each reference; its one image is `img/REFERENCE.png`.
    pub fn admit(&self, manifest: &str, references: &[&str]) -> i64 {
        let entries = references.iter().zip(0..).map(|(reference, at)| take(document(at, reference), 0)).collect();
        self.admit_entries(manifest, entries)
    }

    /// The same, each held back until its stage begins.
    pub fn admit_held_back(&self, manifest: &str, references: &[&str]) -> i64 {
        let entries = references.iter().zip(0..).map(|(reference, at)| take(document(at, reference), 0)).collect();
        let plan = Plan { held_back: true, ..self.plan(manifest) };
        self.queue.admission(plan).unwrap().admit_whole(entries, None, NOW).unwrap()
    }

    pub fn admit_entries(&self, manifest: &str, entries: Vec<Admission>) -> i64 {
        self.begin(manifest).admit_whole(entries, None, NOW).unwrap()
    }

    pub fn begin(&self, manifest: &str) -> BatchAdmission {
        self.queue.admission(self.plan(manifest)).unwrap()
    }

    pub fn plan(&self, manifest: &str) -> Plan {
        let root = self.drop_path();
        let image_folder = Path::new(manifest).parent().and_then(Path::to_str).unwrap_or_default().to_owned();
        Plan {
            drop: DROP.into(),
            manifest: manifest.into(),
            manifest_sha256: Sha256([7; 32]),
            manifest_file: "1:2:3".into(),
            taken: None,
            layout: None,
            held_back: false,
            policy: BatchPolicy {
                image_root: root.clone(),
                image_folder,
                receipts_dir: root.join("receipts"),
                receipt_mode: 0o640,
                receipt_group: None,
                done_dir: Some(root.join("done")),
                failed_dir: Some(root.join("failed")),
                marker: None,
                texts: true,
                after_success: AfterSuccess::Archive,
                root,
            },
        }
    }

    /// What is noted when the image `img/NAME` was moved into a folder.
    pub fn moved_to(&self, archive: &str, name: &str) -> super::files::MovedFile {
        super::files::MovedFile {
            key: crate::relative_path::path_key(&self.drop_path(), "", &format!("img/{name}")),
            bytes: 81_234,
            checksum: 0,
            from: None,
            to: crate::job::FileLocation { root: archive.into(), path: format!("img/{name}") },
        }
    }

    /// The newest job of this reference.
    pub fn job(&self, reference: &str) -> i64 {
        let filter = Filter { reference: Some(reference.into()), ..Filter::default() };
        let mut newest = None;
        self.reader()
            .jobs(&filter, |job| {
                newest = Some(job.id);
                Ok::<_, QueueError>(())
            })
            .unwrap();
        newest.unwrap()
    }

    pub fn detail(&self, job: i64) -> JobDetail {
        self.reader().job(job).unwrap().unwrap()
    }

    pub fn state(&self, job: i64) -> JobState {
        self.detail(job).job.state
    }

    /// One value of one row, as text.
    pub fn value(&self, sql: &str) -> String {
        let value: rusqlite::types::Value = self.reader().connection.query_row(sql, [], |row| row.get(0)).unwrap();
        match value {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    }

    pub fn batch_state(&self, batch: i64) -> String {
        self.value(&format!("SELECT state FROM batch WHERE id = {batch}"))
    }

    /// Everything that is recorded of a job, to see that nothing of it changed.
    pub fn everything(&self, job: i64) -> JobDetail {
        self.detail(job)
    }

    /// Claims this job alone: what is queued before it stays queued.
    pub fn claim(&self, job: i64) -> Job {
        // The others belong to another drop meanwhile.
        let set_aside = format!(
            "INSERT INTO drop_folder (id, name) VALUES (-1, 'aside');
             CREATE TEMP TABLE aside AS SELECT id, drop_id FROM job WHERE state = 'queued' AND id <> {job};
             UPDATE job SET drop_id = -1 WHERE id IN (SELECT id FROM aside)"
        );
        let put_back =
            "UPDATE job SET drop_id = (SELECT drop_id FROM aside WHERE aside.id = job.id) WHERE drop_id = -1;
             DROP TABLE aside; DELETE FROM drop_folder WHERE id = -1";
        let drop_id: i64 = self.value("SELECT id FROM drop_folder LIMIT 1").parse().unwrap();
        let beside = rusqlite::Connection::open(self.queue.path()).unwrap();
        beside.execute_batch(&format!("BEGIN; {set_aside}; COMMIT")).unwrap();
        let claimed = self.wait(self.queue.claim(drop_id, 1)).unwrap();
        beside.execute_batch(&format!("BEGIN; {put_back}; COMMIT")).unwrap();
        assert_eq!(claimed.iter().map(|claimed| claimed.id).collect::<Vec<_>>(), [job]);
        claimed.into_iter().next().unwrap()
    }

    /// What the next process finds: this one was killed.
    pub fn next_process(&self) -> Queue {
        Queue::open(self.queue.path(), WhenStuck::Fail).unwrap()
    }

    /// Ends the try of a running job.
    pub fn end_try(&self, job: i64, end: End, evidence: Evidence) -> Result<(), QueueError> {
        self.wait(self.queue.end_try(job, end, evidence, NOW))
    }

    /// Takes a queued job through its upload and its creation.
    pub fn create(&self, job: i64, remote_id: &str) {
        self.claim(job);
        let image = format!("image-of-{remote_id}");
        self.wait(self.queue.upload_stored(job, 0, image, true, attempt("upload_image", "done"), NOW)).unwrap();
        self.end_try(job, created(remote_id), evidence(&[], &[attempt("create_document", "done")])).unwrap();
    }

    /// Lets a queued job be refused.
    pub fn fail(&self, job: i64, reason: &str) {
        self.claim(job);
        let problems = vec![Problem::error(reason, "ask the sender")];
        let refused = End::Refused { reason: reason.into(), problems };
        self.end_try(job, refused, evidence(&[], &[attempt("upload_image", "refused")])).unwrap();
    }

    /// Lets a queued job wait.
    pub fn put_off(&self, job: i64, waits: WaitReason, creation: Creation, due: Timestamp) {
        self.claim(job);
        let end = End::PutOff(put_off(waits, creation, due));
        self.end_try(job, end, evidence(&[], &[attempt("upload_image", "try_again")])).unwrap();
    }

    /// Lets a queued job be held.
    pub fn hold(&self, job: i64, creation: Creation) {
        self.claim(job);
        let end = End::Held { reason: "two documents have these images".into(), creation };
        self.end_try(job, end, evidence(&[0], &[])).unwrap();
    }
}

pub fn created(remote_id: &str) -> End {
    End::Created { remote_id: remote_id.into() }
}

pub fn evidence(lost: &[u32], attempts: &[Attempt]) -> Evidence {
    Evidence { lost: lost.to_vec(), attempts: attempts.to_vec(), refused: None }
}

pub fn put_off(waits: WaitReason, creation: Creation, due: Timestamp) -> PutOff {
    PutOff {
        waits,
        reason: "HTTP 503".into(),
        due,
        attempts: 2,
        tried_ms: 5_000,
        creation,
        file_ms: 0,
        sent_at: None,
        clock_ms: 0,
    }
}

pub fn attempt(operation: &'static str, outcome: &'static str) -> Attempt {
    Attempt {
        at: NOW,
        operation,
        position: Some(0),
        outcome,
        detail: (outcome != "done").then(|| "HTTP 503".into()),
        took_ms: 12,
        sent_bytes: 345,
        remote_id: None,
        proof: None,
    }
}

pub fn document(index: u64, reference: &str) -> Entry {
    let path = RelativePath::parse(&format!("img/{}.png", reference.replace(char::is_control, "_"))).unwrap();
    Entry {
        index,
        profile_id: ProfileId::parse("a2c4393a-e219-67a4-5ab4-2186952e9038").unwrap(),
        reference: Some(reference.into()),
        replace: false,
        content: Content::Document {
            category: "PROOF_OF_IDENTITY".into(),
            document_type: "PASSPORT".into(),
            extracted_data: None,
            images: vec![ImageSource {
                source: Source { path, declared_bytes: None, declared_sha256: None },
                image_type: None,
            }],
        },
    }
}

/// An entry whose files have this content: the number is turned into their digest.
pub fn take(entry: Entry, content: u8) -> Admission {
    let files = entry
        .sources()
        .map(|_| CheckedFile { bytes: 81_234, sha256: Sha256([content; 32]), checksum: u64::from(content), seen: None })
        .collect();
    Admission::Take { entry, files }
}
