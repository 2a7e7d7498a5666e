//! What a call that did not work, or a file that is not as it was checked, means for its job: pure, with time and
//! randomness as arguments.

use std::time::Duration;

use super::files::{CHANGED, Recheck};
use crate::{
    clock::Timestamp,
    entry::EntryKind,
    exchange::Exchange,
    inbox::beneath::Refusal,
    job::{Creation, Job, Upload, WaitReason},
    outcome::{Outcome, PauseCause, StandingDocument},
    problem::Problem,
    queue::{admission::CheckedFile, attempt::Attempt, in_doubt::Slot},
    verdict::{RetryBounds, Trial, Verdict, forbidden, judge, wait_for_file},
};

/// How often a file that somebody has open for writing is checked.
const WRITER_INTERVAL: Duration = Duration::from_secs(2);

/// Delay before a job continues whose files were checked again.
const RECHECKED_DELAY: Duration = Duration::from_millis(50);

/// A call that did not work, with what it means.
pub(super) struct Failed {
    pub(super) verdict: Verdict,
    pub(super) attempt: Option<Attempt>,
    pub(super) lost: Option<u32>,
    /// Of an upload whose answer was lost: its slot in the log of uploads in doubt.
    pub(super) in_doubt: Option<Slot>,
}

impl Failed {
    /// Adds to the problem, if it is one, which of the job's files it is about.
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

/// A file that was checked again, and the call that found that it must be, if it was a call.
pub(super) struct Rechecked {
    pub(super) position: u32,
    pub(super) file: CheckedFile,
    pub(super) failed: Failed,
}

/// Judges by the settings of the process and of each job.
pub(super) struct Judge {
    bounds: RetryBounds,
}

impl Judge {
    pub(super) const fn new(bounds: RetryBounds) -> Self {
        Self { bounds }
    }

    fn bounds(&self, job: &Job) -> RetryBounds {
        RetryBounds { file: job.file_patience, ..self.bounds }
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
        Failed {
            verdict,
            attempt: Some(attempt),
            lost: matches!(outcome, Outcome::Lost(_)).then_some(0),
            in_doubt: None,
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

    /// A file that could not be opened.
    pub(super) fn unopened(&self, refusal: &Refusal, job: &Job, upload: &Upload, jitter: f64) -> Failed {
        let problem = refusal.problem(&upload.path);
        match refusal {
            Refusal::Unsafe(_) => refused(problem, None, job, upload),
            Refusal::Missing | Refusal::Io(_) => self.wait_for(problem, None, job, upload, jitter),
        }
    }

    /// A file that was not as it was checked, and was checked again.
    pub(super) fn rechecked(
        &self,
        found: Recheck,
        job: &Job,
        upload: &Upload,
        attempt: Option<Attempt>,
        jitter: f64,
    ) -> Result<Rechecked, Box<Failed>> {
        let waits = |delay: Duration, reason: String, attempt| {
            let verdict = Verdict::Wait { waits: WaitReason::File, delay, reason, trial: trial_of(job) };
            Failed { verdict, attempt, lost: None, in_doubt: None }
        };
        let failed = match found {
            Recheck::NotYet(problem) => self.wait_for(problem, attempt, job, upload, jitter),
            // However long that takes: a file that is sent while somebody still writes to it is of no use to either
            // side.
            Recheck::BeingWritten => {
                let reason = format!("{}: the file is still open for writing", upload.path);
                waits(WRITER_INTERVAL, reason, attempt)
            }
            Recheck::Bad(problem) => {
                let reason = format!("{CHANGED}, and now: {}", problem.reason);
                refused(Problem { reason, ..problem }, attempt, job, upload)
            }
            Recheck::Good(_) if trial_of(job).file >= job.file_patience => {
                let problem = Problem::error("the file keeps changing", "drop it once it is as it shall be, and retry");
                refused(problem, attempt, job, upload)
            }
            Recheck::Good(file) => {
                let reason = format!(
                    "{}: the file has changed since its manifest was taken in, and was checked again",
                    upload.path
                );
                let failed = waits(RECHECKED_DELAY, reason, attempt);
                return Ok(Rechecked { position: upload.position, file, failed });
            }
        };
        Err(Box::new(failed))
    }

    /// Waits for a file until its time is over.
    fn wait_for(&self, problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload, jitter: f64) -> Failed {
        let reason = format!("{}: {}", upload.path, problem.reason);
        match wait_for_file(&reason, trial_of(job), Duration::ZERO, &self.bounds(job), jitter) {
            Some(verdict) => Failed { verdict, attempt, lost: None, in_doubt: None },
            None => {
                let reason = format!("waited for in vain; the last: {}", problem.reason);
                refused(Problem { reason, ..problem }, attempt, job, upload)
            }
        }
    }

    /// What the list of a profile's documents says of the job's, whose answer was lost. `asked` is when the list was asked
    /// for, and `moved_ms` by how much the clock had been moved by then.
    pub(super) fn read_back<'a>(
        &self,
        documents: &'a [StandingDocument],
        job: &Job,
        (asked, moved_ms): (Timestamp, i64),
        took: Duration,
        jitter: f64,
    ) -> ReadBack<'a> {
        if let Some(id) = find(documents, &job.image_ids().unwrap_or_default()) {
            return ReadBack::Created(id);
        }
        let sent = job.sent_at.map_or(asked, Timestamp);
        let absent_after = self.bounds.certainly_absent_after(job.loss_answered);
        // Where the clock was moved meanwhile, the queue knows the time of sending by the new one: it is asked for next time.
        let waited = if moved_ms == job.clock_ms { asked.since(sent) } else { Duration::ZERO };
        if waited >= absent_after {
            return ReadBack::Absent;
        }
        let trial = trial_of(job);
        let attempts = trial.attempts.saturating_add(1);
        let delay = self.bounds.retry.delay(attempts, Duration::ZERO, None, jitter).unwrap_or(absent_after);
        let delay = delay.min(absent_after.saturating_sub(waited)).max(Duration::from_millis(50));
        let tried = trial.tried.saturating_add(took).saturating_add(delay);
        let reason = "the answer to its creation was lost, and it is not among the profile's documents yet".to_owned();
        ReadBack::NotYet(Verdict::Wait {
            waits: WaitReason::ReadBack,
            delay,
            reason,
            trial: Trial { attempts, tried, ..trial },
        })
    }
}

/// The result of reading back a document whose answer was lost.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ReadBack<'a> {
    /// It exists, under this ID.
    Created(&'a str),
    /// It certainly does not exist.
    Absent,
    /// It may still appear.
    NotYet(Verdict),
}

fn refused(problem: Problem, attempt: Option<Attempt>, job: &Job, upload: &Upload) -> Failed {
    let verdict = Verdict::Refuse { reason: format!("{}: {}", upload.path, problem.reason), problem };
    Failed { verdict, attempt, lost: None, in_doubt: None }.about(upload, job.kind)
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

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
