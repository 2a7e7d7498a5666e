//! Ends a try that did not complete the job: it is recorded, put off, given back, held or refused.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use super::{
    Delivery,
    judge::{Failed, trial_of},
};
use crate::{
    account::{Account, SendBlocked},
    clock::Timestamp,
    jitter::jitter,
    job::{Creation, Job, WaitReason},
    operation::Operation,
    outcome::PauseCause,
    queue::{
        QueueError,
        attempt::{Attempt, End, Evidence, PutOff},
        control::Cause,
        in_doubt::Slot,
    },
    verdict::{AccountEvidence, Trial, Unattributed, Verdict},
};

impl Delivery {
    /// Carries out the most severe of several verdicts.
    pub(super) async fn act(&self, account: &Account, job: &Job, mut failed: Vec<Failed>) -> Result<(), QueueError> {
        if job.creation != Creation::Unknown {
            for failure in &mut failed {
                self.end_if_refused_for_good(account, job, failure).await?;
            }
        }
        let in_doubt: Vec<Slot> = failed.iter_mut().filter_map(|failure| failure.in_doubt.take()).collect();
        self.record(account, job, failed).await?;
        in_doubt.into_iter().for_each(Slot::settle);
        Ok(())
    }

    /// Refuses an entry of which one request was refused again and again without the API's own words, while the account
    /// works. A document of which it is not known whether it exists is read back first.
    async fn end_if_refused_for_good(
        &self,
        account: &Account,
        job: &Job,
        failure: &mut Failed,
    ) -> Result<(), QueueError> {
        let Some(attempt) = failure.attempt.as_ref().filter(|attempt| attempt.outcome == UNATTRIBUTED) else {
            return Ok(());
        };
        let now = self.clock.now();
        let call = (attempt.operation, attempt.position);
        let (times, since) = self.queue.in_a_row(job.id, call, UNATTRIBUTED, job.attempts).await?;
        let refusals = Unattributed {
            times: times.saturating_add(1),
            lasting: since.map_or(Duration::ZERO, |since| now.since(since)),
        };
        if self.is_final(account, job, refusals).await {
            failure.verdict = refusals.refuse(attempt.operation, attempt.detail.as_deref().unwrap_or_default());
            if let Some(upload) = job.uploads.iter().find(|upload| Some(upload.position) == attempt.position) {
                failure.name(upload, job.kind);
            }
        }
        Ok(())
    }

    /// The same of the creation of a document that was read back and is certainly absent.
    pub(super) async fn refused_creation(&self, account: &Account, job: &Job) -> Result<Option<Verdict>, QueueError> {
        let call = Operation::CreateDocument.as_str();
        let (times, since) = self.queue.in_a_row(job.id, (call, None), UNATTRIBUTED, job.attempts).await?;
        let lasting = since.map_or(Duration::ZERO, |since| self.clock.now().since(since));
        let refusals = Unattributed { times, lasting };
        let is_final = self.is_final(account, job, refusals).await;
        Ok(is_final.then(|| refusals.refuse(call, "the document does not exist")))
    }

    async fn is_final(&self, account: &Account, job: &Job, refusals: Unattributed) -> bool {
        let others_work = account.others_work(&job.profile_id, refusals.lasting);
        let evidence = AccountEvidence { others_work, key_works: false };
        if refusals.is_final(evidence) {
            return true;
        }
        refusals.is_long()
            && refusals.is_final(AccountEvidence { key_works: self.ask_for_key(account).await, ..evidence })
    }

    async fn record(&self, account: &Account, job: &Job, failed: Vec<Failed>) -> Result<(), QueueError> {
        let refused = failed.iter().filter_map(|failure| failure.refused.clone()).reduce(|mut one, other| {
            one.images.extend(other.images);
            one
        });
        let lost: Vec<u32> = failed.iter().filter_map(|failure| failure.lost).collect();
        let (verdicts, attempts): (Vec<_>, Vec<_>) =
            failed.into_iter().map(|failure| (failure.verdict, failure.attempt)).unzip();
        let attempts: Vec<Attempt> = attempts.into_iter().flatten().collect();
        let Some(verdict) = verdicts.into_iter().reduce(Verdict::or) else { return Ok(()) };
        let verdict = match verdict {
            Verdict::PauseAccount { cause: PauseCause::KeyRefused, reason } => {
                let stopped = account.paused() == Some(Cause::KeyRefused);
                self.judge.refused_key(job, reason, &attempts, stopped, jitter())
            }
            other => other,
        };
        self.telemetry.judged(&verdict, &attempts);
        match &verdict {
            Verdict::Refuse { reason, problem } => {
                let (answer, code) = (numbers(&attempts), problem.code.as_deref());
                match self.first_of_cause("refused", answer, code) {
                    Some(others) => tracing::warn!(job = job.id, answer, code, others, reason, "{REFUSED}"),
                    None => tracing::debug!(job = job.id, answer, code, reason, "{REFUSED}"),
                }
            }
            Verdict::Hold { reason } => {
                let answer = numbers(&attempts);
                match self.first_of_cause("held", answer, None) {
                    Some(others) => tracing::error!(job = job.id, answer, others, reason, "{HELD}"),
                    None => tracing::debug!(job = job.id, answer, reason, "{HELD}"),
                }
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
        self.queue.end_try(job.id, end, Evidence { lost, attempts, refused }, now).await?;
        match pause {
            Some((cause, reason)) => self.pause(account, cause, &reason).await,
            None => Ok(()),
        }
    }

    /// Whether this end of a job is to be logged: the first of its cause, and then one at growing intervals, with how
    /// many others there were since. One wrong profile of a list of 300,000 entries wrote as many lines.
    fn first_of_cause(&self, end: &str, answer: Option<&str>, code: Option<&str>) -> Option<Others> {
        let cause = format!("{end}, {}, {}", answer.unwrap_or_default(), code.unwrap_or_default());
        let mut log_throttle = self.log_throttle.lock().unwrap_or_else(PoisonError::into_inner);
        log_throttle.due(cause, "", Instant::now()).map(|others| (others > 0).then_some(others))
    }

    /// Logs that a file cannot be read; throttled, since a lost mount affects all of them.
    fn say_of_files(&self, job: &Job, reason: &str) {
        let mut log_throttle = self.log_throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if log_throttle.is_due("files".to_owned(), "", Instant::now()) {
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
        // The account may work again sooner than the limit says.
        let (now, wait) = (self.clock.now(), wait.min(self.judge.longest_wait()));
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

/// Jobs of one cause that ended without a line of their own.
type Others = Option<u64>;

const REFUSED: &str = "refused: see `show`, and `jobs --state failed` for all";

const HELD: &str = "held until a person decides: see `show` and `release`, and `jobs --state held` for all";

/// The latest answer's numbers, as `HTTP 422, code 201`: the log has no words of the API's.
fn numbers(attempts: &[Attempt]) -> Option<&str> {
    let detail = attempts.last()?.detail.as_deref()?;
    detail.split_once(": ").map(|(numbers, _)| numbers).filter(|numbers| numbers.starts_with("HTTP "))
}

/// The outcome of a call that was refused without the API's own error body, as attempts record it.
const UNATTRIBUTED: &str = "unattributed";

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
    }
}

/// The creation state of a job that is put off between two calls: an intent that was not carried out is discarded.
const fn unsent(job: &Job) -> Creation {
    match job.creation {
        Creation::None | Creation::Intended => Creation::None,
        Creation::Unknown => Creation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::judge::tests::job, problem::Problem};

    const NOW: Timestamp = Timestamp(5_000_000);

    #[test]
    fn each_verdict_ends_the_try_in_one_way() {
        use Creation::{Intended, None as Not, Unknown};
        let reason = || "HTTP 503".to_owned();
        let problem = Problem::error("no such category", "ask the sender");
        for (creation, given_back) in [(Not, Not), (Intended, Not), (Unknown, Unknown)] {
            let job = job(|job| job.creation = creation);
            let end = |verdict| end_of(verdict, &job, NOW);

            let refused = end(Verdict::Refuse { reason: reason(), problem: problem.clone() });
            assert_eq!(refused, (End::Refused { reason: reason(), problems: vec![problem.clone()] }, None));
            assert_eq!(end(Verdict::Hold { reason: reason() }), (End::Held { reason: reason(), creation }, None));
            for (cause, pause) in
                [(PauseCause::KeyRefused, Cause::KeyRefused), (PauseCause::QuotaSpent, Cause::QuotaSpent)]
            {
                let paused = end(Verdict::PauseAccount { cause, reason: reason() });
                assert_eq!(paused, (End::GiveBack { creation: given_back }, Some((pause, reason()))));
            }
            let trial = Trial { attempts: 3, tried: Duration::from_secs(7), file: Duration::from_secs(1) };
            let waits = WaitReason::Retry;
            let (put_off, pause) = end(Verdict::Wait { waits, delay: Duration::from_secs(2), reason: reason(), trial });
            let End::PutOff(put_off) = put_off else { panic!("{put_off:?}") };
            assert_eq!((put_off.due, put_off.creation, pause), (Timestamp(NOW.0 + 2_000), creation, None));
            assert_eq!((put_off.attempts, put_off.tried_ms, put_off.file_ms), (3, 7_000, 1_000));
            assert_eq!((put_off.sent_at, put_off.clock_ms), (job.sent_at, job.clock_ms));
        }
    }
}
