//! One job from a worker's hands to its end: uploads, the document, a read-back where an answer was lost.
//!
//! The only loop between the model and the world: [`Job::next`] says what comes next, the account makes the call,
//! [`outcome`] says what became of it, [`judge`](crate::verdict::judge) what that means, and the queue records it before anything else is done.
//!
//! # Durability
//!
//! The ID of an upload is on disk before the document that needs it is sent; the intent to create a document is on disk
//! before it is sent; a document whose answer was lost is read back before it is sent again.
//!
//! # Stopping
//!
//! A job is given back between two calls. A call that is under way is waited for; whoever drops the future instead
//! leaves the job as `running`, and [`Queue::recover`] treats it as a crash would be.

mod changed;
mod files;
mod judged;
pub mod profiles;
mod read_back;
mod roots;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use self::{
    files::{CHANGED, Files},
    judged::{Failed, attempt_of},
    profiles::{Profiles, Turn},
};
use crate::{
    account::{Account, CallSlot, SendBlocked},
    api::{DocumentRequest, Upload as Sending},
    clock::Clock,
    entry::EntryKind,
    exchange::Exchange,
    inbox::beneath::Refusal,
    job::{Creation, Job, Next, Upload},
    log_throttle::LogThrottle,
    operation::Operation,
    outcome::{Outcome, PauseCause, Reply, outcome},
    queue::{
        Queue, QueueError,
        admission::CheckedFile,
        attempt::{End, Evidence},
        control::Cause,
        in_doubt::{Entry, InDoubtLog, Slot},
    },
    telemetry::{InFlightGuard, Telemetry},
    verdict::{Patience, text},
};

/// What all jobs share.
pub struct Delivery {
    queue: Queue,
    in_doubt: InDoubtLog,
    patience: Patience,
    files: Files,
    /// For files that cannot be read.
    log_throttle: Mutex<LogThrottle<&'static str>>,
    /// Whose turn it is on each profile.
    pub profiles: Profiles,
    /// No job begins another call after this.
    stop: CancellationToken,
    /// A person paused everything.
    pub paused: AtomicBool,
    /// The drops that a person paused.
    paused_drops: Mutex<HashSet<i64>>,
    /// What is counted.
    pub telemetry: Arc<Telemetry>,
    /// Where the times come from that are written down.
    pub clock: Clock,
}

/// A file that was checked again, and the call that found that it must be, if it was a call.
struct Rechecked {
    position: u32,
    file: CheckedFile,
    failed: Failed,
}

/// What became of one upload.
enum Uploaded {
    Stored {
        position: u32,
        remote_id: String,
        complete: bool,
        cancel_asked: bool,
    },
    /// Of a file: the job has ended.
    Ended,
    Failed(Box<Failed>),
    /// Nothing was sent of it, or not its end: the file has changed, and this is what it is now.
    Changed(Box<Rechecked>),
    Blocked(SendBlocked),
    Stopped,
}

impl Delivery {
    /// What all jobs of a process share.
    #[must_use]
    pub fn new(
        queue: Queue,
        in_doubt: InDoubtLog,
        patience: Patience,
        max_image_bytes: u64,
        stop: CancellationToken,
        telemetry: Arc<Telemetry>,
        clock: Clock,
    ) -> Self {
        let files = Files::new(queue.seed(), max_image_bytes);
        Self {
            queue,
            in_doubt,
            patience,
            files,
            log_throttle: Mutex::default(),
            profiles: Profiles::default(),
            stop,
            paused: AtomicBool::new(false),
            paused_drops: Mutex::default(),
            telemetry,
            clock,
        }
    }

    /// Notes which drops a person paused, by number.
    pub fn pause_drops(&self, drops: HashSet<i64>) {
        *self.paused_drops.lock().unwrap_or_else(PoisonError::into_inner) = drops;
    }

    /// Whether no more calls may be begun for this job.
    fn is_stopped(&self, job: &Job) -> bool {
        self.stop.is_cancelled()
            || self.paused.load(Ordering::Relaxed)
            || self.paused_drops.lock().unwrap_or_else(PoisonError::into_inner).contains(&job.drop_id)
    }

    /// Works on a job until it has ended, waits, or is given back.
    ///
    /// # Errors
    ///
    /// Those of the queue; the job is then as the last commit left it.
    pub async fn deliver(&self, account: &Account, mut job: Job) -> Result<(), QueueError> {
        let mut turn = None;
        loop {
            if self.is_stopped(&job) {
                return self.give_back(&job).await;
            }
            match job.next() {
                Next::Upload(positions) => {
                    if !self.upload_all(account, &mut job, &positions, &mut turn).await? {
                        return Ok(());
                    }
                }
                Next::Create => {
                    let held = match turn.take() {
                        Some(held) => held,
                        None => tokio::select! {
                            held = self.profiles.turn(job.profile_id.as_str()) => match held {
                                Ok(held) => held,
                                Err(wait) => return self.later(&job, wait, NOT_ITS_TURN).await,
                            },
                            () = self.stop.cancelled() => continue,
                        },
                    };
                    let created = self.create(account, &mut job).await;
                    drop(held);
                    return created;
                }
                Next::ReadBack => {
                    if !self.read_back(account, &mut job).await? {
                        return Ok(());
                    }
                }
                Next::Finish => {
                    let remote_id = job.uploads.first().and_then(|upload| upload.remote_id.clone());
                    let remote_id = remote_id.ok_or(QueueError::Gone { what: "job", id: job.id })?;
                    return self
                        .queue
                        .end_try(job.id, End::Created { remote_id }, Evidence::default(), self.clock.now())
                        .await;
                }
            }
        }
    }

    /// Sends what is missing, side by side; returns whether the job goes on.
    async fn upload_all<'a>(
        &'a self,
        account: &Account,
        job: &mut Job,
        positions: &[u32],
        turn: &mut Option<Turn<'a>>,
    ) -> Result<bool, QueueError> {
        // Whoever brings the last ID also records the intent to create the document, if it may be created at once.
        let last = Last { left: AtomicUsize::new(positions.len()), turn: Mutex::new(None) };
        let missing = job.uploads.iter().filter(|upload| upload.remote_id.is_none());
        let uploads = missing.map(|upload| self.upload(account, job, upload, &last));
        let results = join_all(uploads).await;
        *turn = last.turn.into_inner().unwrap_or_else(PoisonError::into_inner);

        let (mut failed, mut anew, mut not_now) = (Vec::new(), Vec::new(), None);
        let (mut stopped, mut cancelled, mut complete) = (false, false, false);
        for result in results {
            match result? {
                Uploaded::Stored { position, remote_id, complete: whole, cancel_asked } => {
                    if let Some(upload) = job.uploads.iter_mut().find(|upload| upload.position == position) {
                        upload.remote_id = Some(remote_id);
                    }
                    complete |= whole;
                    cancelled |= cancel_asked;
                }
                Uploaded::Ended => return Ok(false),
                Uploaded::Failed(failure) => failed.push(*failure),
                Uploaded::Changed(changed) => anew.push(*changed),
                Uploaded::Blocked(why) => not_now = Some(why),
                Uploaded::Stopped => stopped = true,
            }
        }
        if complete && turn.is_some() {
            job.creation = Creation::Intended;
            (job.sent_at, job.clock_ms) = (Some(self.clock.now().0), self.clock.moved_ms());
        }
        if !failed.is_empty() {
            // What has changed is found again at the next try.
            failed.extend(anew.into_iter().map(|changed| changed.failed));
            self.act(account, job, failed).await?;
            return Ok(false);
        }
        if !anew.is_empty() {
            self.take_rechecked(account, job, anew).await?;
            return Ok(false);
        }
        if cancelled {
            self.cancel(job).await?;
            return Ok(false);
        }
        if let Some(why) = not_now {
            self.not_now(job, why).await?;
            return Ok(false);
        }
        if stopped {
            self.give_back(job).await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn upload<'a>(
        &'a self,
        account: &Account,
        job: &Job,
        upload: &Upload,
        last: &Last<'a>,
    ) -> Result<Uploaded, QueueError> {
        let operation = match job.kind {
            EntryKind::Document => Operation::UploadImage,
            EntryKind::File => Operation::UploadFile,
        };
        let slot = match account.slot(operation, upload.bytes / 3 * 4).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            Err(why) => return Ok(Uploaded::Blocked(why)),
        };
        if self.is_stopped(job) {
            return Ok(Uploaded::Stopped);
        }
        let in_doubt = self.in_doubt.slot(Entry { job_id: job.id, position: upload.position, lost: upload.lost });
        let sending = match self.files.open(job, upload).await {
            Ok(sending) => Sending { before_last: Some(Box::new(in_doubt.mark_sent())), ..sending },
            Err(refusal) => {
                in_doubt.discard();
                // Not while it keeps a place from other calls.
                drop(slot);
                return Ok(match refusal {
                    Refusal::Unsafe(CHANGED) => self.changed(job, upload, None).await,
                    refusal => self.unopened(&refusal, job, upload),
                });
            }
        };
        let exchange = match operation {
            Operation::UploadFile => account.client.upload_file(&job.profile_id, job.name.as_deref(), sending).await,
            _ => account.client.upload_image(&job.profile_id, upload.image_type, sending).await,
        };
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        let in_doubt = match &outcome {
            Outcome::Done(_) | Outcome::Lost(_) => Some(in_doubt),
            // Every other outcome says that nothing was created.
            _ => {
                in_doubt.discard();
                None
            }
        };
        self.learn(account, slot, &exchange, &outcome).await?;
        let attempt = attempt_of(&exchange, &outcome, Some(upload.position));
        match &outcome {
            Outcome::Done(Reply::Image { id }) => {
                let id = id.clone();
                if last.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    let held = self.profiles.try_turn(job.profile_id.as_str());
                    *last.turn.lock().unwrap_or_else(PoisonError::into_inner) = held;
                }
                let intend = last.turn.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                let stored =
                    self.queue.upload_stored(job.id, upload.position, id.clone(), intend, attempt, now).await?;
                in_doubt.into_iter().for_each(Slot::settle);
                Ok(Uploaded::Stored {
                    position: upload.position,
                    remote_id: id,
                    complete: stored.complete,
                    cancel_asked: stored.cancel_asked,
                })
            }
            Outcome::Done(Reply::File { id }) => {
                self.queue.file_created(job.id, upload.position, id.clone(), attempt, now).await?;
                in_doubt.into_iter().for_each(Slot::settle);
                Ok(Uploaded::Ended)
            }
            Outcome::SourceChanged(_) => Ok(self.changed(job, upload, Some(attempt)).await),
            other => {
                let mut failed = self.failed(job, other, &exchange, attempt);
                failed.lost = failed.lost.map(|_| upload.position);
                failed.in_doubt = in_doubt;
                Ok(Uploaded::Failed(Box::new(failed.about(upload, job.kind))))
            }
        }
    }

    async fn create(&self, account: &Account, job: &mut Job) -> Result<(), QueueError> {
        let slot = match account.slot(Operation::CreateDocument, 0).await {
            Ok(slot) => (slot, self.telemetry.begin_call()),
            Err(why) => return self.not_now(job, why).await,
        };
        if self.is_stopped(job) {
            return self.give_back(job).await;
        }
        if job.creation == Creation::None {
            let now = self.clock.now();
            if self.queue.intend(job.id, now).await? {
                return self.cancel(job).await;
            }
            job.creation = Creation::Intended;
            (job.sent_at, job.clock_ms) = (Some(now.0), self.clock.moved_ms());
        }
        let request = DocumentRequest {
            category: job.category.clone(),
            document_type: job.document_type.clone(),
            image_ids: job.image_ids().unwrap_or_default(),
            extracted_data: job.extracted_data.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        };
        // The intent may be older by however long the job waited for its turn; the time in which a lost document may
        // still appear begins here.
        (job.sent_at, job.clock_ms) = (Some(self.clock.now().0), self.clock.moved_ms());
        let exchange = account.client.create_document(&job.profile_id, &request).await;
        let now = self.clock.now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome).await?;
        let attempt = attempt_of(&exchange, &outcome, None);
        if let Outcome::Done(Reply::Document { id }) = &outcome {
            let (created, evidence) =
                (End::Created { remote_id: id.clone() }, Evidence { attempts: vec![attempt], ..Evidence::default() });
            return self.queue.end_try(job.id, created, evidence, now).await;
        }
        if let Outcome::Lost(_) = &outcome {
            job.creation = Creation::Unknown;
            // A gateway that gave up tells nothing of what is going on behind it, and 408 or any 5xx may come from one,
            // unless it has an error of the API's own.
            let said = outcome.reason().is_some_and(|reason| reason.code.is_some());
            job.loss_answered = said || exchange.status().is_some_and(|status| status < 500 && status != 408);
        } else {
            // Every other outcome says that nothing was created.
            job.creation = Creation::None;
        }
        let mut failed = self.failed(job, &outcome, &exchange, attempt);
        failed.lost = None;
        self.act(account, job, vec![failed]).await
    }

    async fn learn(
        &self,
        account: &Account,
        (slot, in_flight): (CallSlot<'_>, InFlightGuard),
        exchange: &Exchange,
        outcome: &Outcome,
    ) -> Result<(), QueueError> {
        self.telemetry.called(exchange, outcome);
        drop(in_flight);
        let doubt = matches!(outcome, Outcome::Paused { cause: PauseCause::KeyRefused, .. }).then(|| account.doubt());
        let cause = account.learn(slot, exchange, outcome);
        self.telemetry.limit_in_flight(account.in_flight_limit());
        let said = outcome.reason().map(|reason| text(exchange.operation, reason)).unwrap_or_default();
        if doubt.is_some() && !self.key_works(account).await {
            self.pause(account, Cause::KeyRefused, &said).await?;
        }
        drop(doubt);
        let Some(cause) = cause else { return Ok(()) };
        let detail = match cause {
            Cause::QuotaSpent => said,
            _ => format!("one call after the other failed, the last: {said}"),
        };
        self.pause(account, cause, &detail).await
    }
}

/// Shared by the uploads of one job that run side by side.
struct Last<'a> {
    left: AtomicUsize,
    turn: Mutex<Option<Turn<'a>>>,
}

/// A folder and a path below it, where either may be empty.
#[must_use]
pub fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

const NOT_ITS_TURN: &str =
    "documents of one profile are created one after the other, and many others of its profile come first";
