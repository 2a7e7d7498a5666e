//! Delivers one claimed job: uploads, the document, a read-back where an answer was lost.
//!
//! The only loop between the model and the world: [`Job::next`] decides the next call, the account makes it,
//! [`outcome`](crate::outcome::outcome) classifies its answer, [`judge`](crate::verdict::judge) decides what follows,
//! and the queue records that before anything else is done.
//!
//! # Durability
//!
//! The ID of an upload is on disk before the document that needs it is sent; the intent to create a document is on disk
//! before it is sent; a document whose answer was lost is read back before it is sent again.
//!
//! # Stopping
//!
//! A job is given back between two calls. A call that is in flight is waited for. Dropping the future instead leaves
//! the job `running`, and `Queue::recover` treats that as a crash.

mod create;
mod end;
mod files;
mod judge;

mod learn;
pub mod profiles;
mod read_back;
mod recheck;
mod roots;
mod upload;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use self::{files::Files, judge::Judge, profiles::Profiles};
use crate::{
    account::Account,
    clock::{Clock, Timestamp},
    job::{Job, Next},
    log_throttle::LogThrottle,
    queue::{
        Queue, QueueError,
        attempt::{End, Evidence},
        equals::RefusedContent,
        in_doubt::InDoubtLog,
    },
    telemetry::Telemetry,
    verdict::RetryBounds,
};

/// What all jobs share.
pub struct Delivery {
    queue: Queue,
    in_doubt: InDoubtLog,
    judge: Judge,
    files: Files,
    /// By cause, for what may happen to very many jobs.
    log_throttle: Mutex<LogThrottle<String>>,
    /// The lock of each profile.
    pub profiles: Profiles,
    /// No job begins another call after this.
    stop: CancellationToken,
    /// A person paused everything.
    pub paused: AtomicBool,
    /// The drops that a person paused.
    paused_drops: Mutex<HashSet<i64>>,
    pub telemetry: Arc<Telemetry>,
    /// The source of recorded times.
    pub clock: Clock,
    /// When this began: times of an earlier process are not measured with.
    started: Timestamp,
}

impl Delivery {
    /// What all jobs of a process share.
    #[must_use]
    pub fn new(
        queue: Queue,
        in_doubt: InDoubtLog,
        bounds: RetryBounds,
        stop: CancellationToken,
        telemetry: Arc<Telemetry>,
        clock: Clock,
    ) -> Self {
        let files = Files::new(queue.seed());
        Self {
            queue,
            in_doubt,
            judge: Judge::new(bounds),
            files,
            log_throttle: Mutex::default(),
            profiles: Profiles::default(),
            stop,
            paused: AtomicBool::new(false),
            paused_drops: Mutex::default(),
            telemetry,
            started: clock.now(),
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
        if let Some(problem) = job.refused_before.take() {
            let end = End::Refused { reason: problem.reason.clone(), problems: vec![problem] };
            let evidence = Evidence { refused: Some(RefusedContent::default()), ..Evidence::default() };
            return self.queue.end_try(job.id, end, evidence, self.clock.now()).await;
        }
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
                // What a list proves holds only where nothing else is created on the profile meanwhile.
                Next::Create | Next::ReadBack if turn.is_none() => tokio::select! {
                    held = self.profiles.turn(job.profile_id.as_str()) => match held {
                        Ok(held) => turn = Some(held),
                        Err(wait) => return self.later(&job, wait, NOT_ITS_TURN).await,
                    },
                    () = self.stop.cancelled() => {}
                },
                Next::Create => return self.create(account, &mut job).await,
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
}

const NOT_ITS_TURN: &str =
    "documents of one profile are created one after the other, and many others of its profile come first";
