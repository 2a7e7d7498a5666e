//! The uploads of a job: what is missing is sent concurrently.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;

use super::{
    Delivery,
    files::CHANGED,
    judge::{Failed, attempt_of},
    profiles::Turn,
};
use crate::{
    account::{Account, SendBlocked},
    api::UploadSource,
    entry::EntryKind,
    jitter::jitter,
    job::{Creation, Job, Upload},
    operation::Operation,
    outcome::{Outcome, Reply, outcome},
    queue::{
        QueueError,
        in_doubt::{InDoubtEntry, Slot},
    },
    relative_path,
};

/// The result of one upload.
pub(super) enum Uploaded {
    Stored {
        position: u32,
        remote_id: String,
        complete: bool,
        cancel_asked: bool,
    },
    /// Of a file: the job has ended.
    Ended,
    Failed(Box<Failed>),
    Blocked(SendBlocked),
    Stopped,
}

/// Shared by the concurrent uploads of one job.
struct Last<'a> {
    left: AtomicUsize,
    turn: Mutex<Option<Turn<'a>>>,
}

impl Delivery {
    /// Sends the missing uploads concurrently; returns whether the job continues.
    pub(super) async fn upload_all<'a>(
        &'a self,
        account: &Account,
        job: &mut Job,
        positions: &[u32],
        turn: &mut Option<Turn<'a>>,
    ) -> Result<bool, QueueError> {
        // The upload that gets the last ID also records the intent to create the document, if it may be created at
        // once.
        let last = Last { left: AtomicUsize::new(positions.len()), turn: Mutex::new(None) };
        let missing = job.uploads.iter().filter(|upload| upload.remote_id.is_none());
        let uploads = missing.map(|upload| self.upload(account, job, upload, &last));
        let results = join_all(uploads).await;
        *turn = last.turn.into_inner().unwrap_or_else(PoisonError::into_inner);

        let (mut failed, mut not_now) = (Vec::new(), None);
        let (mut stopped, mut cancelled, mut complete) = (false, false, false);
        for result in results {
            match result? {
                Uploaded::Stored { position, remote_id, complete: all, cancel_asked } => {
                    if let Some(upload) = job.uploads.iter_mut().find(|upload| upload.position == position) {
                        upload.remote_id = Some(remote_id);
                    }
                    complete |= all;
                    cancelled |= cancel_asked;
                }
                Uploaded::Ended => return Ok(false),
                Uploaded::Failed(failure) => failed.push(*failure),
                Uploaded::Blocked(why) => not_now = Some(why),
                Uploaded::Stopped => stopped = true,
            }
        }
        if complete && turn.is_some() {
            job.creation = Creation::Intended;
            (job.sent_at, job.clock_ms) = (Some(self.clock.now().0), self.clock.moved_ms());
        }
        if !failed.is_empty() {
            self.act(account, job, failed).await?;
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
        let in_doubt =
            self.in_doubt.slot(InDoubtEntry { job_id: job.id, position: upload.position, lost: upload.lost });
        let sending = match self.files.open(job, upload).await {
            Ok(sending) => UploadSource { before_last: Some(Box::new(in_doubt.mark_sent())), ..sending },
            Err(refusal) => {
                in_doubt.discard();
                // Not while it keeps a place from other calls.
                drop(slot);
                return Ok(Uploaded::Failed(Box::new(self.judge.unopened(&refusal, job, upload, jitter()))));
            }
        };
        let exchange = match operation {
            Operation::UploadFile => {
                // Without a name, the portal shows "Untitled", without a type.
                let name = job.name.as_deref().unwrap_or_else(|| relative_path::name(&upload.path));
                account.client.upload_file(&job.profile_id, Some(name), sending).await
            }
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
        self.learn(account, slot, &exchange, &outcome, &job.profile_id).await?;
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
            Outcome::SourceChanged(_) => {
                Ok(Uploaded::Failed(Box::new(self.judge.changed(CHANGED, Some(attempt), job, upload))))
            }
            other => {
                let mut failed = self.judge.call(job, other, &exchange, attempt, now, jitter());
                failed.lost = failed.lost.map(|_| upload.position);
                failed.in_doubt = in_doubt;
                Ok(Uploaded::Failed(Box::new(failed.about(upload, job.kind))))
            }
        }
    }
}
