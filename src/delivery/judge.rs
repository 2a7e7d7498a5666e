//! What a call that did not work, or a file that is not as it was checked, means for its job: pure, with time and
//! randomness as arguments.

use std::time::Duration;

use super::files::CHANGED;
use crate::{
    absence::AbsenceBounds,
    clock::Timestamp,
    entry::EntryKind,
    exchange::Exchange,
    inbox::beneath::Refusal,
    job::{Creation, Job, Upload, WaitReason},
    outcome::{Outcome, PauseCause, Reason, answered_id},
    problem::Problem,
    queue::{attempt::Attempt, equals::RefusedContent, in_doubt::Slot},
    verdict::{RetryBounds, Trial, Verdict, forbidden, judge, wait_for_file},
};

/// A call that did not work, with what it means.
pub(super) struct Failed {
    pub(super) verdict: Verdict,
    pub(super) attempt: Option<Attempt>,
    pub(super) lost: Option<u32>,
    /// Of an upload whose answer was lost: its slot in the log of uploads in doubt.
    pub(super) in_doubt: Option<Slot>,
    /// What the API refused for good, whoever asks for it.
    pub(super) refused: Option<RefusedContent>,
}

impl Failed {
    /// A call of which no more is known.
    pub(super) const fn of(verdict: Verdict, attempt: Attempt) -> Self {
        Self { verdict, attempt: Some(attempt), lost: None, in_doubt: None, refused: None }
    }

    /// Adds to the problem, if it is one, which of the job's files it is about.
    pub(super) fn about(mut self, upload: &Upload, kind: EntryKind) -> Self {
        self.name(upload, kind);
        self
    }

    /// The same in place.
    pub(super) fn name(&mut self, upload: &Upload, kind: EntryKind) {
        if let Verdict::Refuse { problem, .. } = &mut self.verdict {
            problem.path.get_or_insert_with(|| upload.path.clone());
            problem.field.get_or_insert_with(|| match kind {
                EntryKind::Document => format!("images[{}].path", upload.position),
                EntryKind::File => "path".to_owned(),
            });
        }
    }
}

/// Judges by the settings of the process and of each job.
pub(super) struct Judge {
    bounds: RetryBounds,
}

impl Judge {
    pub(super) const fn new(bounds: RetryBounds) -> Self {
        Self { bounds }
    }

    /// The longest that a job waits before it looks again.
    pub(super) const fn longest_wait(&self) -> Duration {
        self.bounds.retry.max
    }

    fn bounds(&self, job: &Job) -> RetryBounds {
        // A file that was taken is there, or its folder is gone as a whole and may come back at any time.
        let file = if job.work.is_some() { Duration::MAX } else { job.file_patience };
        RetryBounds { file, ..self.bounds }
    }

    /// A call that did not work.
    pub(super) fn call(
        &self,
        job: &Job,
        outcome: &Outcome,
        exchange: &Exchange,
        attempt: Attempt,
        now: Timestamp,
        jitter: f64,
    ) -> Failed {
        let asked = exchange.limits().and_then(|limits| limits.wait_after_failure(now));
        let operation = exchange.operation;
        let verdict = judge(operation, outcome, trial_of(job), exchange.took, asked, &self.bounds(job), jitter);
        let verdict = verdict.unwrap_or_else(|| {
            let reason = format!("{}: the answer is not one to this call", operation.as_str());
            Verdict::Hold { reason }
        });
        let refused = match outcome {
            Outcome::Refused(reason) if operation.is_creating() => {
                let images = attempt.position.filter(|_| is_about_bytes(reason));
                Some(RefusedContent { images: images.into_iter().collect() })
            }
            _ => None,
        };
        Failed {
            verdict,
            attempt: Some(attempt),
            lost: matches!(outcome, Outcome::Lost(_)).then_some(0),
            in_doubt: None,
            refused,
        }
    }

    /// A refused key: it is refused altogether, or for this profile only, which stops no other job. `stopped`: the
    /// account was found to be refused altogether when the answer came.
    pub(super) fn refused_key(
        &self,
        job: &Job,
        said: String,
        attempts: &[Attempt],
        stopped: bool,
        jitter: f64,
    ) -> Verdict {
        if stopped {
            return Verdict::PauseAccount { cause: PauseCause::KeyRefused, reason: said };
        }
        let refused = attempts.iter().filter(|attempt| attempt.outcome == "paused");
        let took = Duration::from_millis(refused.map(|attempt| attempt.took_ms).max().unwrap_or(0));
        match forbidden(job.profile_id.as_str(), &said, trial_of(job), took, &self.bounds, jitter) {
            // Whether its document was created is still not known.
            Verdict::Wait { delay, reason, trial, .. } if job.creation == Creation::Unknown => {
                Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial }
            }
            Verdict::Refuse { reason, .. } if job.creation == Creation::Unknown => Verdict::Hold { reason },
            other => other,
        }
    }

    /// A file that could not be opened: it has changed, or it cannot be read for a reason that may pass.
    pub(super) fn unopened(&self, refusal: &Refusal, job: &Job, upload: &Upload, jitter: f64) -> Failed {
        match refusal {
            Refusal::Unsafe(CHANGED) => self.changed(CHANGED, None, job, upload),
            Refusal::Unsafe(now) => self.changed(&format!("{CHANGED}, and now {now}"), None, job, upload),
            // Looked for once more: it may be on its way to the archive with another manifest, and found there.
            Refusal::Missing if job.file_ms > 0 || job.work.is_some() => {
                self.changed("the file is gone since its manifest was taken in", None, job, upload)
            }
            Refusal::Missing | Refusal::Io(_) => {
                self.wait_for(refusal.problem(&upload.path), None, job, upload, jitter)
            }
        }
    }

    /// A file that is not the one that was taken: an end, since what is there now may be meant for another entry.
    #[expect(clippy::unused_self, reason = "every verdict is the judge's")]
    pub(super) fn changed(&self, reason: &str, attempt: Option<Attempt>, job: &Job, upload: &Upload) -> Failed {
        let in_place = upload.moved_to.is_none() && job.work.is_none();
        let problem = if in_place {
            let id = job.id;
            let meant = if upload.declared.sha256 {
                "drop the entry again with its sha256".to_owned()
            } else {
                format!("`retry {id} --take-changed`")
            };
            let cure =
                format!("put the file back as it was and use `retry {id}`; or, if what is there now is meant, {meant}");
            Problem::error(reason, cure).code("file-changed")
        } else {
            // In a folder of ours, where no sender changes anything.
            Problem::error(reason, "drop the entry again, with its files").code("taken-file-changed")
        };
        refused(problem.path(&upload.path), attempt, job, upload)
    }

    /// Waits for a file until its time is over.
    fn wait_for(&self, problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload, jitter: f64) -> Failed {
        let reason = format!("{}: {}", upload.path, problem.reason);
        match wait_for_file(&reason, trial_of(job), Duration::ZERO, &self.bounds(job), jitter) {
            Some(verdict) => Failed { verdict, attempt, lost: None, in_doubt: None, refused: None },
            None => {
                let reason = format!("waited for in vain; the last: {}", problem.reason);
                refused(Problem { reason, ..problem }, attempt, job, upload)
            }
        }
    }

    /// When a document whose answer was lost is certainly absent.
    pub(super) const fn absence(&self) -> &AbsenceBounds {
        &self.bounds.absence
    }

    /// Another look at the profile's list later: once the bound has passed at the latest, of which `passed` is over, and
    /// after a doubtful one within the longest wait between two tries.
    pub(super) fn look_again(
        &self,
        job: &Job,
        doubt: Option<&str>,
        passed: Option<Duration>,
        took: Duration,
        jitter: f64,
    ) -> Verdict {
        let RetryBounds { retry, absence, .. } = &self.bounds;
        let trial = trial_of(job);
        let attempts = trial.attempts.saturating_add(1);
        let delay = retry.delay(attempts, Duration::ZERO, None, jitter).unwrap_or(retry.max).min(retry.max);
        let left = absence.absent_after.saturating_sub(passed.unwrap_or_default());
        let delay = match doubt {
            Some(_) => delay,
            None if left.is_zero() => delay.min(absence.list_lag.max(retry.initial)),
            None => delay.min(left),
        };
        let delay = delay.max(Duration::from_millis(50));
        let tried = trial.tried.saturating_add(took).saturating_add(delay);
        let reason = match doubt {
            Some(doubt) => format!("the answer to its creation was lost, and whether it exists is in doubt: {doubt}"),
            None => "the answer to its creation was lost, and it is not among the profile's documents yet".to_owned(),
        };
        Verdict::Wait { waits: WaitReason::ReadBack, delay, reason, trial: Trial { attempts, tried, ..trial } }
    }
}

fn refused(problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload) -> Failed {
    let verdict = Verdict::Refuse { reason: format!("{}: {}", upload.path, problem.reason), problem };
    Failed { verdict, attempt, lost: None, in_doubt: None, refused: None }.about(upload, job.kind)
}

/// Whether an upload would be refused on any profile: not for what it is sent to.
fn is_about_bytes(refusal: &Reason) -> bool {
    matches!(refusal.status, Some(200..=299 | 400 | 413 | 415 | 422))
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
        remote_id: answered_id(exchange),
        proof: None,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
