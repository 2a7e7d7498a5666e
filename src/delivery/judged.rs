//! What did not work, and what it means for the job: recorded, put off, given back, or ended.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use tokio::time::Instant as Moment;

use super::Delivery;
use crate::{
    account::{Account, SendBlocked},
    clock::Timestamp,
    entry::EntryKind,
    exchange::Exchange,
    jitter::jitter,
    job::{Creation, Job, Upload, WaitReason},
    outcome::{Outcome, PauseCause, outcome},
    queue::{
        QueueError,
        attempt::{Attempt, End, Evidence, PutOff},
        control::Cause,
        in_doubt::Slot,
    },
    verdict::{Patience, Trial, Verdict, forbidden, judge},
};

/// A call that did not work, with what it means.
pub(super) struct Failed {
    pub(super) verdict: Verdict,
    pub(super) attempt: Option<Attempt>,
    pub(super) lost: Option<u32>,
    /// Of an upload whose answer was lost: where that is written down until the database has it.
    pub(super) in_doubt: Option<Slot>,
}

impl Failed {
    /// Says in the problem, if it is one, which of the job's files it is about.
    pub(super) fn about(mut self, upload: &Upload, kind: EntryKind) -> Self {
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

impl Delivery {
    pub(super) fn failed(&self, job: &Job, outcome: &Outcome, exchange: &Exchange, attempt: Attempt) -> Failed {
        let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(self.clock.now()));
        let operation = exchange.operation;
        let patience = Patience { file: job.file_patience, ..self.patience };
        let verdict = judge(operation, outcome, trial_of(job), exchange.took, asked, &patience, jitter());
        let verdict = verdict.unwrap_or_else(|| {
            let reason = format!("{}: the answer is not one to this call", operation.as_str());
            Verdict::Hold { reason }
        });
        Failed {
            verdict,
            attempt: Some(attempt),
            lost: matches!(outcome, Outcome::Lost(_)).then_some(0),
            in_doubt: None,
        }
    }

    pub(super) async fn pause(&self, account: &Account, cause: Cause, detail: &str) -> Result<(), QueueError> {
        if account.stop(cause) {
            tracing::error!(account = account.scope, cause = cause.as_str(), detail, "sending is stopped");
            let (scope, detail) = (account.scope.clone(), Some(detail.to_owned()));
            self.queue.pause_account(scope, cause, detail, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Tells a key that is refused from one that is refused for a profile only: the latter stops nobody else.
    fn whose_refusal(&self, account: &Account, job: &Job, said: String, attempts: &[Attempt]) -> Verdict {
        let refused = attempts.iter().filter(|attempt| attempt.outcome == "paused");
        let took = Duration::from_millis(refused.map(|attempt| attempt.took_ms).max().unwrap_or(0));
        // That was found out when the answer came.
        if account.paused() == Some(Cause::KeyRefused) {
            return Verdict::PauseAccount { cause: PauseCause::KeyRefused, reason: said };
        }
        let profile = job.profile_id.as_str();
        match forbidden(profile, &said, trial_of(job), took, &self.patience, jitter()) {
            // Whether its document stands is still not known.
            Verdict::Wait { delay, reason, trial, .. } if job.creation == Creation::Unknown => {
                Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial }
            }
            Verdict::Refuse { reason, .. } if job.creation == Creation::Unknown => Verdict::Hold { reason },
            other => other,
        }
    }

    /// Whether the key works although a call has just been refused for it.
    pub(super) async fn key_works(&self, account: &Account) -> bool {
        account.key_works_since(Moment::now(), || self.ask_for_key(account)).await
    }

    async fn ask_for_key(&self, account: &Account) -> bool {
        let exchange = account.client.whoami().await;
        let answer = outcome(&exchange, self.clock.now());
        self.telemetry.called(&exchange, &answer);
        matches!(answer, Outcome::Done(_))
    }

    /// Does what the weightiest of several verdicts says.
    pub(super) async fn act(&self, account: &Account, job: &Job, mut failed: Vec<Failed>) -> Result<(), QueueError> {
        let in_doubt: Vec<Slot> = failed.iter_mut().filter_map(|failure| failure.in_doubt.take()).collect();
        self.record(account, job, failed).await?;
        in_doubt.into_iter().for_each(Slot::settle);
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
                self.whose_refusal(account, job, reason, &attempts)
            }
            other => other,
        };
        self.telemetry.judged(&verdict, &attempts);
        match &verdict {
            Verdict::Refuse { reason, .. } => tracing::warn!(job = job.id, reason, "refused"),
            Verdict::Hold { reason } => {
                tracing::error!(job = job.id, reason, "held until a person decides: see `show` and `release`");
            }
            Verdict::PauseAccount { .. } => {}
            Verdict::Wait { waits, delay, reason, .. } => {
                tracing::debug!(job = job.id, waits = waits.as_str(), delay_ms = delay.as_millis(), reason, "put off");
                if *waits == WaitReason::File {
                    self.say_of_files(job, reason);
                }
            }
        }
        let now = self.clock.now();
        let (end, pause) = end_of(verdict, job, now);
        self.queue.end_try(job.id, end, Evidence { lost, attempts }, now).await?;
        match pause {
            Some((cause, reason)) => self.pause(account, cause, &reason).await,
            None => Ok(()),
        }
    }

    /// Says that a file cannot be read: not of each, since a lost mount takes all of them away.
    fn say_of_files(&self, job: &Job, reason: &str) {
        let mut log_throttle = self.log_throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if log_throttle.is_due("files", "", Instant::now()) {
            tracing::warn!(
                job = job.id,
                reason,
                "a file cannot be read; its job waits, see `jobs --state waiting` for all"
            );
        }
    }

    pub(super) async fn not_now(&self, job: &Job, why: SendBlocked) -> Result<(), QueueError> {
        match why {
            SendBlocked::Paused(_) => self.give_back(job).await,
            SendBlocked::Later(wait) => self.later(job, wait, NO_ROOM).await,
        }
    }

    /// Puts a job off between two calls.
    pub(super) async fn later(&self, job: &Job, wait: Duration, reason: &str) -> Result<(), QueueError> {
        let now = self.clock.now();
        let put_off = PutOff {
            creation: unsent(job),
            ..put_off(job, WaitReason::Quota, reason.to_owned(), now.after(wait), trial_of(job))
        };
        self.queue.end_try(job.id, End::PutOff(put_off), Evidence::default(), now).await
    }

    /// Gives a job back between two calls.
    pub(super) async fn give_back(&self, job: &Job) -> Result<(), QueueError> {
        let end = End::GiveBack { creation: unsent(job) };
        self.queue.end_try(job.id, end, Evidence::default(), self.clock.now()).await
    }

    /// Ends a job that a person asked to cancel.
    pub(super) async fn cancel(&self, job: &Job) -> Result<(), QueueError> {
        self.queue.end_try(job.id, End::Cancelled, Evidence::default(), self.clock.now()).await
    }
}

const NO_ROOM: &str = "a limit of the API or of the configuration leaves no room before then";

/// How a verdict ends the try, and for what the account is paused, if it is.
fn end_of(verdict: Verdict, job: &Job, now: Timestamp) -> (End, Option<(Cause, String)>) {
    match verdict {
        Verdict::Refuse { reason, problem } => (End::Refused { reason, problems: vec![problem] }, None),
        Verdict::Hold { reason } => (End::Held { reason, creation: job.creation }, None),
        Verdict::PauseAccount { cause, reason } => {
            let cause = match cause {
                PauseCause::KeyRefused => Cause::KeyRefused,
                PauseCause::QuotaSpent => Cause::QuotaSpent,
            };
            (End::GiveBack { creation: unsent(job) }, Some((cause, reason)))
        }
        Verdict::Wait { waits, delay, reason, trial } => {
            (End::PutOff(put_off(job, waits, reason, now.after(delay), trial)), None)
        }
    }
}

fn put_off(job: &Job, waits: WaitReason, reason: String, due: Timestamp, trial: Trial) -> PutOff {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    PutOff {
        waits,
        reason,
        due,
        attempts: trial.attempts,
        tried_ms: ms(trial.tried),
        file_ms: ms(trial.file),
        creation: job.creation,
        sent_at: job.sent_at,
        clock_ms: job.clock_ms,
        loss_answered: job.loss_answered,
    }
}

/// What is known of the creation of a job that is put down between two calls: an intent that was not carried out is none.
const fn unsent(job: &Job) -> Creation {
    match job.creation {
        Creation::None | Creation::Intended => Creation::None,
        Creation::Unknown => Creation::Unknown,
    }
}

pub(super) const fn trial_of(job: &Job) -> Trial {
    Trial {
        attempts: job.attempts,
        tried: Duration::from_millis(job.tried_ms),
        file: Duration::from_millis(job.file_ms),
    }
}

pub(super) fn attempt_of(exchange: &Exchange, outcome: &Outcome, position: Option<u32>) -> Attempt {
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
