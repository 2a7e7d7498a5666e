//! One job from a worker's hands to its end: uploads, the document, a read-back where an answer was lost.
//!
//! The only loop between the model and the world: [`Job::next`] says what comes next, the account makes the call,
//! [`outcome`] says what became of it, [`judge`] what that means, and the queue records it before anything else is done.
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

pub mod profiles;
mod roots;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::time::Instant as Moment;
use tokio_util::sync::CancellationToken;

use self::{
    profiles::{Profiles, Turn},
    roots::Roots,
};
use crate::{
    account::{Account, NotNow, Slot},
    api::{DocumentRequest, Exchange, Upload as Sending},
    clock::Timestamp,
    entry::EntryKind,
    inbox::beneath::Refusal,
    inbox::file_type::FileType,
    job::{Creation, Job, Next, Upload, Waits},
    outcome::{Operation, Outcome, PauseCause, Reason, Reply, StandingDocument, outcome},
    queue::{
        Queue, QueueError,
        control::Cause,
        handed_over::{HandedOver, Place, Try},
        work::{Attempt, PutOff},
    },
    seldom::Seldom,
    telemetry::{Flight, Telemetry},
    verdict::{Patience, Trial, Verdict, forbidden, judge, text},
};

/// What all jobs share.
pub struct Delivery {
    queue: Queue,
    handed_over: HandedOver,
    patience: Patience,
    roots: Arc<Roots>,
    /// What was said of files that cannot be read.
    said: Mutex<Seldom<&'static str>>,
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
}

/// The folder that a file lies beneath, and the way to it.
fn place_of(job: &Job, upload: &Upload) -> (PathBuf, String) {
    match &upload.lies {
        Some(place) => (PathBuf::from(&place.root), place.path.clone()),
        None => (PathBuf::from(&job.image_root), join(&job.image_folder, &upload.path)),
    }
}

/// A call that did not work, with what it means.
struct Failed {
    verdict: Verdict,
    attempt: Option<Attempt>,
    lost: Option<u32>,
    /// Of an upload whose answer was lost: where that is written down until the database has it.
    place: Option<Place>,
}

impl Failed {
    /// Says in the problem, if it is one, which of the job's files it is about.
    fn about(mut self, upload: &Upload, kind: EntryKind) -> Self {
        if let Verdict::Refuse { problem, .. } = &mut self.verdict {
            problem.path.get_or_insert_with(|| upload.path.clone());
            problem.field.get_or_insert_with(|| match kind {
                EntryKind::Document => format!("images[{}].path", upload.position),
                EntryKind::File => "path".to_owned(),
            });
        }
        self
    }
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
    NotNow(NotNow),
    Stopped,
}

impl Delivery {
    /// What all jobs of a process share.
    #[must_use]
    pub fn new(
        queue: Queue,
        handed_over: HandedOver,
        patience: Patience,
        stop: CancellationToken,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            queue,
            handed_over,
            patience,
            roots: Arc::default(),
            said: Mutex::default(),
            profiles: Profiles::default(),
            stop,
            paused: AtomicBool::new(false),
            paused_drops: Mutex::default(),
            telemetry,
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
                return self.give_back(&job, Vec::new(), Vec::new()).await;
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
                    return self.queue.created(job.id, remote_id, None, Timestamp::now()).await;
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

        let (mut failed, mut not_now, mut stopped, mut cancelled, mut complete) =
            (Vec::new(), None, false, false, false);
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
                Uploaded::NotNow(why) => not_now = Some(why),
                Uploaded::Stopped => stopped = true,
            }
        }
        if complete && turn.is_some() {
            job.creation = Creation::Intended;
            job.sent_at = Some(Timestamp::now().0);
        }
        if !failed.is_empty() {
            self.act(account, job, failed).await?;
            return Ok(false);
        }
        if cancelled {
            self.queue.cancelled(job.id, Vec::new(), Timestamp::now()).await?;
            return Ok(false);
        }
        if let Some(why) = not_now {
            self.not_now(job, why).await?;
            return Ok(false);
        }
        if stopped {
            self.give_back(job, Vec::new(), Vec::new()).await?;
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
            Ok(slot) => (slot, self.telemetry.flight()),
            Err(why) => return Ok(Uploaded::NotNow(why)),
        };
        if self.is_stopped(job) {
            return Ok(Uploaded::Stopped);
        }
        let place = self.handed_over.place(Try { job_id: job.id, position: upload.position, lost: upload.lost });
        let sending = match self.open(job, upload).await {
            Ok(sending) => Sending { before_last: Some(Box::new(place.pen())), ..sending },
            Err(refusal) => {
                place.take_back();
                let failed = self.unopened(refusal, operation, job, upload).await;
                return Ok(Uploaded::Failed(Box::new(failed.about(upload, job.kind))));
            }
        };
        let exchange = match operation {
            Operation::UploadFile => account.client.upload_file(&job.profile_id, job.name.as_deref(), sending).await,
            _ => account.client.upload_image(&job.profile_id, upload.image_type, sending).await,
        };
        let now = Timestamp::now();
        let outcome = match outcome(&exchange, now) {
            Outcome::SourceChanged(reason) => self.changed(job, upload, reason).await,
            other => other,
        };
        let place = match &outcome {
            Outcome::Done(_) | Outcome::Lost(_) => Some(place),
            // Every other outcome says that nothing was created.
            _ => {
                place.take_back();
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
                place.into_iter().for_each(Place::recorded);
                Ok(Uploaded::Stored {
                    position: upload.position,
                    remote_id: id,
                    complete: stored.complete,
                    cancel_asked: stored.cancel_asked,
                })
            }
            Outcome::Done(Reply::File { id }) => {
                self.queue.file_created(job.id, upload.position, id.clone(), attempt, now).await?;
                place.into_iter().for_each(Place::recorded);
                Ok(Uploaded::Ended)
            }
            other => {
                let mut failed = self.failed(job, other, &exchange, attempt);
                failed.lost = failed.lost.map(|_| upload.position);
                failed.place = place;
                Ok(Uploaded::Failed(Box::new(failed.about(upload, job.kind))))
            }
        }
    }

    fn failed(&self, job: &Job, outcome: &Outcome, exchange: &Exchange, attempt: Attempt) -> Failed {
        let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(Timestamp::now()));
        let operation = exchange.operation;
        let patience = Patience { file: job.file_patience, ..self.patience };
        let verdict = judge(operation, outcome, trial_of(job), exchange.took, asked, &patience, jitter());
        let verdict = verdict.unwrap_or_else(|| {
            let reason = format!("{}: the answer is not one to this call", operation.as_str());
            Verdict::Hold { reason }
        });
        Failed { verdict, attempt: Some(attempt), lost: matches!(outcome, Outcome::Lost(_)).then_some(0), place: None }
    }

    /// What it means that a file could not be opened as it was checked.
    async fn unopened(&self, refusal: Refusal, operation: Operation, job: &Job, upload: &Upload) -> Failed {
        let reason = |message: String| Reason { status: None, code: None, message };
        let outcome = match refusal {
            Refusal::Unsafe(CHANGED) => self.changed(job, upload, reason(CHANGED.to_owned())).await,
            Refusal::Unsafe(why) => {
                let problem = Refusal::Unsafe(why).problem(&upload.path);
                let verdict = Verdict::Refuse { reason: format!("{}: {why}", upload.path), problem };
                return Failed { verdict, attempt: None, lost: None, place: None };
            }
            Refusal::Missing => {
                Outcome::SourceUnreadable(reason(format!("{}: the file is no longer there", upload.path)))
            }
            Refusal::Io(error) => Outcome::SourceUnreadable(reason(format!("{}: {error}", upload.path))),
        };
        let patience = Patience { file: job.file_patience, ..self.patience };
        let verdict = judge(operation, &outcome, trial_of(job), Duration::ZERO, None, &patience, jitter());
        let verdict = verdict.unwrap_or_else(|| Verdict::Hold { reason: "the file cannot be opened".to_owned() });
        Failed { verdict, attempt: None, lost: None, place: None }
    }

    /// A file that is not as it was checked: its sender may be writing it again, which ends by itself; only one that
    /// lies still is really another one.
    async fn changed(&self, job: &Job, upload: &Upload, reason: Reason) -> Outcome {
        let (root, path) = place_of(job, upload);
        let now = self.roots.open(&root, &path).await;
        let lies_still = now.as_ref().is_ok_and(|now| {
            let last_change = Timestamp(now.identity.ctime_ns.div_euclid(1_000_000));
            Timestamp::now().since(last_change) >= STILL_BEING_WRITTEN
        });
        if lies_still {
            return Outcome::SourceChanged(reason);
        }
        let message = format!("{}: the file is being written again", upload.path);
        Outcome::SourceUnreadable(Reason { message, ..reason })
    }

    /// Opens an image beneath its folder.
    async fn open(&self, job: &Job, upload: &Upload) -> Result<Sending, Refusal> {
        let (root, path) = place_of(job, upload);
        let opened = self.roots.open(&root, &path).await?;
        if opened.identity.bytes != upload.bytes {
            return Err(Refusal::Unsafe(CHANGED));
        }
        Ok(Sending {
            file: opened.file,
            bytes: upload.bytes,
            checksum: upload.checksum,
            before_last: None,
            seed: self.queue.seed(),
            media_type: FileType::promised_by(&upload.path).map_or("application/octet-stream", FileType::media_type),
        })
    }

    async fn create(&self, account: &Account, job: &mut Job) -> Result<(), QueueError> {
        let slot = match account.slot(Operation::CreateDocument, 0).await {
            Ok(slot) => (slot, self.telemetry.flight()),
            Err(why) => return self.not_now(job, why).await,
        };
        if self.is_stopped(job) {
            return self.give_back(job, Vec::new(), Vec::new()).await;
        }
        if job.creation == Creation::None {
            let now = Timestamp::now();
            if self.queue.intend(job.id, now).await? {
                return self.queue.cancelled(job.id, Vec::new(), now).await;
            }
            job.creation = Creation::Intended;
            job.sent_at = Some(now.0);
        }
        let request = DocumentRequest {
            category: job.category.clone(),
            document_type: job.document_type.clone(),
            image_ids: job.image_ids().unwrap_or_default(),
            extracted_data: job.extracted_data.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        };
        // The intent may be older by however long the job waited for its turn; the time in which a lost document may
        // still appear begins here.
        job.sent_at = Some(Timestamp::now().0);
        let exchange = account.client.create_document(&job.profile_id, &request).await;
        let now = Timestamp::now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome).await?;
        let attempt = attempt_of(&exchange, &outcome, None);
        if let Outcome::Done(Reply::Document { id }) = &outcome {
            return self.queue.created(job.id, id.clone(), Some(attempt), now).await;
        }
        if let Outcome::Lost(_) = &outcome {
            job.creation = Creation::Unknown;
            // A gateway that gave up tells nothing of what is going on behind it, and any 5xx may come from one, unless it
            // has an error of the API's own.
            let said = outcome.reason().is_some_and(|reason| reason.code.is_some());
            job.loss_answered = said || exchange.status().is_some_and(|status| status < 500);
        } else {
            // Every other outcome says that nothing was created.
            job.creation = Creation::None;
        }
        let mut failed = self.failed(job, &outcome, &exchange, attempt);
        failed.lost = None;
        self.act(account, job, vec![failed]).await
    }

    /// Asks whether the document stands; returns whether the job goes on, which it does only if it certainly does not.
    async fn read_back(&self, account: &Account, job: &mut Job) -> Result<bool, QueueError> {
        let slot = match account.slot(Operation::ReadDocuments, 0).await {
            Ok(slot) => (slot, self.telemetry.flight()),
            Err(why) => {
                self.not_now(job, why).await?;
                return Ok(false);
            }
        };
        let asked = Timestamp::now();
        let exchange = account.client.read_documents(&job.profile_id).await;
        let now = Timestamp::now();
        let outcome = outcome(&exchange, now);
        self.learn(account, slot, &exchange, &outcome).await?;
        let mut attempt = attempt_of(&exchange, &outcome, None);
        let trial = trial_of(job);
        let Outcome::Done(Reply::Documents(documents)) = &outcome else {
            let mut failed = self.failed(job, &outcome, &exchange, attempt);
            failed.lost = None;
            // Refused or used up: whether the document stands is still not known, so only a person can settle it.
            failed.verdict = match failed.verdict {
                Verdict::Refuse { reason, .. } => {
                    Verdict::Hold { reason: format!("cannot find out whether the document stands: {reason}") }
                }
                Verdict::Wait { waits: Waits::Retry, delay, reason, trial } => {
                    Verdict::Wait { waits: Waits::ReadBack, delay, reason, trial }
                }
                other => other,
            };
            self.act(account, job, vec![failed]).await?;
            return Ok(false);
        };
        let ours = job.image_ids().unwrap_or_default();
        if let Some(id) = find(documents, &ours) {
            attempt.outcome = "adopted";
            self.telemetry.read_back(true);
            self.queue.created(job.id, id.to_owned(), Some(attempt), now).await?;
            return Ok(false);
        }
        let sent = job.sent_at.map_or(asked, Timestamp);
        let patience = self.patience.certainly_absent_after(job.loss_answered);
        let waited = asked.since(sent);
        attempt.outcome = "absent";
        if waited >= patience {
            self.telemetry.read_back(false);
            job.creation = Creation::None;
            self.queue.absent(job.id, attempt).await?;
            return Ok(true);
        }
        let attempts = trial.attempts.saturating_add(1);
        let delay = self.patience.retry.delay(attempts, Duration::ZERO, None, jitter()).unwrap_or(patience);
        let delay = delay.min(patience.saturating_sub(waited)).max(Duration::from_millis(50));
        let tried = trial.tried.saturating_add(exchange.took).saturating_add(delay);
        let reason = "the answer to its creation was lost, and it is not among the profile's documents yet".to_owned();
        let trial = Trial { attempts, tried };
        let failed = Failed {
            verdict: Verdict::Wait { waits: Waits::ReadBack, delay, reason, trial },
            attempt: Some(attempt),
            lost: None,
            place: None,
        };
        self.act(account, job, vec![failed]).await?;
        Ok(false)
    }

    async fn learn(
        &self,
        account: &Account,
        (slot, flight): (Slot<'_>, Flight),
        exchange: &Exchange,
        outcome: &Outcome,
    ) -> Result<(), QueueError> {
        self.telemetry.called(exchange, outcome);
        drop(flight);
        let cause = account.learn(slot, exchange, outcome);
        self.telemetry.limit_in_flight(account.in_flight_limit());
        let Some(cause) = cause else { return Ok(()) };
        let last = match outcome {
            Outcome::TryAgain(reason) | Outcome::Lost(reason) => text(exchange.operation, reason),
            _ => String::new(),
        };
        self.pause(account, cause, &format!("one call after the other failed, the last: {last}")).await
    }

    async fn pause(&self, account: &Account, cause: Cause, detail: &str) -> Result<(), QueueError> {
        if account.stop(cause) {
            tracing::error!(account = account.scope, cause = cause.as_str(), detail, "sending is stopped");
            let (scope, detail) = (account.scope.clone(), Some(detail.to_owned()));
            self.queue.pause_account(scope, cause, detail, Timestamp::now()).await?;
        }
        Ok(())
    }

    /// Tells a key that is refused from one that is refused for a profile only: the latter stops nobody else.
    async fn whose_refusal(&self, account: &Account, job: &Job, said: String, attempts: &[Attempt]) -> Verdict {
        let refused = attempts.iter().filter(|attempt| attempt.outcome == "paused");
        let took = Duration::from_millis(refused.map(|attempt| attempt.took_ms).max().unwrap_or(0));
        let began = Moment::now().checked_sub(took).unwrap_or_else(Moment::now);
        if !account.key_works_since(began, || self.ask_for_key(account)).await {
            return Verdict::PauseAccount { cause: PauseCause::KeyRefused, reason: said };
        }
        let profile = job.profile_id.as_str();
        match forbidden(profile, &said, trial_of(job), took, &self.patience, jitter()) {
            // Whether its document stands is still not known.
            Verdict::Wait { delay, reason, trial, .. } if job.creation == Creation::Unknown => {
                Verdict::Wait { waits: Waits::ReadBack, delay, reason, trial }
            }
            Verdict::Refuse { reason, .. } if job.creation == Creation::Unknown => Verdict::Hold { reason },
            other => other,
        }
    }

    async fn ask_for_key(&self, account: &Account) -> bool {
        let exchange = account.client.whoami().await;
        let answer = outcome(&exchange, Timestamp::now());
        self.telemetry.called(&exchange, &answer);
        matches!(answer, Outcome::Done(_))
    }

    /// Does what the weightiest of several verdicts says.
    async fn act(&self, account: &Account, job: &Job, mut failed: Vec<Failed>) -> Result<(), QueueError> {
        let places: Vec<Place> = failed.iter_mut().filter_map(|failure| failure.place.take()).collect();
        self.record(account, job, failed).await?;
        places.into_iter().for_each(Place::recorded);
        Ok(())
    }

    async fn record(&self, account: &Account, job: &Job, failed: Vec<Failed>) -> Result<(), QueueError> {
        let lost: Vec<u32> = failed.iter().filter_map(|failure| failure.lost).collect();
        let (verdicts, attempts): (Vec<_>, Vec<_>) =
            failed.into_iter().map(|failure| (failure.verdict, failure.attempt)).unzip();
        let attempts: Vec<Attempt> = attempts.into_iter().flatten().collect();
        let Some(verdict) = verdicts.into_iter().reduce(Verdict::or) else { return Ok(()) };
        let verdict = match verdict {
            Verdict::PauseAccount { cause: PauseCause::KeyRefused, reason } => {
                self.whose_refusal(account, job, reason, &attempts).await
            }
            other => other,
        };
        self.telemetry.judged(&verdict, &attempts);
        match verdict {
            Verdict::Refuse { reason, problem } => {
                tracing::warn!(job = job.id, reason, "refused");
                self.queue.refuse(job.id, reason, vec![problem], lost, attempts, Timestamp::now()).await
            }
            Verdict::Hold { reason } => {
                tracing::error!(job = job.id, reason, "held until a person decides: see `show` and `release`");
                self.queue.hold(job.id, reason, job.creation, lost, attempts).await
            }
            Verdict::PauseAccount { cause, reason } => {
                let cause = match cause {
                    PauseCause::KeyRefused => Cause::KeyRefused,
                    PauseCause::QuotaSpent => Cause::QuotaSpent,
                };
                self.give_back(job, lost, attempts).await?;
                self.pause(account, cause, &reason).await
            }
            Verdict::Wait { waits, delay, reason, trial } => {
                tracing::debug!(job = job.id, waits = waits.as_str(), delay_ms = delay.as_millis(), reason, "put off");
                if waits == Waits::File {
                    self.say_of_files(job, &reason);
                }
                let put_off = PutOff {
                    waits,
                    reason,
                    due: Timestamp::now().after(delay),
                    attempts: trial.attempts,
                    tried_ms: u64::try_from(trial.tried.as_millis()).unwrap_or(u64::MAX),
                    creation: job.creation,
                    sent_at: job.sent_at,
                    loss_answered: job.loss_answered,
                    lost,
                };
                self.queue.put_off(job.id, put_off, attempts).await
            }
        }
    }

    /// Says that a file cannot be read: not of each, since a lost mount takes all of them away.
    fn say_of_files(&self, job: &Job, reason: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_due("files", "", Instant::now()) {
            tracing::warn!(
                job = job.id,
                reason,
                "a file cannot be read; its job waits, see `jobs --state waiting` for all"
            );
        }
    }

    async fn not_now(&self, job: &Job, why: NotNow) -> Result<(), QueueError> {
        match why {
            NotNow::Paused(_) => self.give_back(job, Vec::new(), Vec::new()).await,
            NotNow::Later(wait) => self.later(job, wait, NO_ROOM).await,
        }
    }

    /// Puts a job off between two calls.
    async fn later(&self, job: &Job, wait: Duration, reason: &str) -> Result<(), QueueError> {
        let put_off = PutOff {
            waits: Waits::Quota,
            reason: reason.to_owned(),
            due: Timestamp::now().after(wait),
            attempts: job.attempts,
            tried_ms: job.tried_ms,
            creation: unsent(job),
            sent_at: job.sent_at,
            loss_answered: job.loss_answered,
            lost: Vec::new(),
        };
        self.queue.put_off(job.id, put_off, Vec::new()).await
    }

    async fn give_back(&self, job: &Job, lost: Vec<u32>, attempts: Vec<Attempt>) -> Result<(), QueueError> {
        self.queue.give_back(job.id, unsent(job), lost, attempts).await
    }
}

const NO_ROOM: &str = "a limit of the API or of the configuration leaves no room before then";

const NOT_ITS_TURN: &str =
    "documents of one profile are created one after the other, and many others of its profile come first";

/// What is known of the creation of a job that is put down between two calls: an intent that was not carried out is none.
const fn unsent(job: &Job) -> Creation {
    match job.creation {
        Creation::None | Creation::Intended => Creation::None,
        Creation::Unknown => Creation::Unknown,
    }
}

/// Shared by the uploads of one job that run side by side.
struct Last<'a> {
    left: AtomicUsize,
    turn: Mutex<Option<Turn<'a>>>,
}

const CHANGED: &str = "the file is not the one that was checked when its manifest was taken in";

/// A file whose last change is younger than this may still be written to: long enough for a sender that pauses, short
/// enough for a person who waits for the refusal of a file that was replaced.
const STILL_BEING_WRITTEN: Duration = Duration::from_secs(5);

/// A folder and a path below it, where either may be empty.
#[must_use]
pub fn join(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}

/// The document that has exactly these images, in any order and letter case.
fn find<'a>(documents: &'a [StandingDocument], images: &[String]) -> Option<&'a str> {
    let sorted = |ids: &[String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let ours = sorted(images);
    documents.iter().find(|document| sorted(&document.image_ids) == ours).map(|document| document.id.as_str())
}

const fn trial_of(job: &Job) -> Trial {
    Trial { attempts: job.attempts, tried: Duration::from_millis(job.tried_ms) }
}

fn attempt_of(exchange: &Exchange, outcome: &Outcome, position: Option<u32>) -> Attempt {
    Attempt {
        at: exchange.started,
        operation: exchange.operation.as_str(),
        position,
        outcome: outcome.as_str(),
        detail: outcome.reason().map(|reason| match (reason.status, reason.code) {
            (Some(status), Some(code)) => format!("HTTP {status}, code {code}: {}", reason.message),
            (Some(status), None) => format!("HTTP {status}: {}", reason.message),
            (None, _) => reason.message.clone(),
        }),
        took_ms: u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX),
        sent_bytes: exchange.sent_bytes,
    }
}

/// A number in `0.0..1.0` from the system's randomness.
fn jitter() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from(u32::try_from(high >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str, images: &[&str]) -> StandingDocument {
        StandingDocument {
            id: id.into(),
            category: String::new(),
            document_type: String::new(),
            image_ids: images.iter().map(|&image| image.into()).collect(),
        }
    }

    #[test]
    fn only_a_document_with_exactly_our_images_is_ours() {
        let standing = [document("more", &["a", "b", "c"]), document("less", &["a"]), document("ours", &["B", "a"])];
        assert_eq!(find(&standing, &["a".into(), "b".into()]), Some("ours"));
        assert_eq!(find(&standing, &["a".into(), "d".into()]), None);
        assert_eq!(find(&[], &["a".into()]), None);
    }

    #[test]
    fn jitter_stays_in_its_range() {
        assert!((0..1000).map(|_| jitter()).all(|drawn| (0.0..=1.0).contains(&drawn)));
    }
}
