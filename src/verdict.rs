//! What a call that did not work means for its job: try again, wait, read back, refuse, or stop the account.
//!
//! Pure: what happened, how long it has been tried, and a random number go in; a [`Verdict`] comes out.

use std::time::Duration;

use crate::{
    job::WaitReason,
    operation::Operation,
    outcome::{Outcome, PauseCause, Reason},
    pacer::SHORTEST_WAIT,
    policy::LostFile,
    problem::Problem,
    retry::RetryPolicy,
};

/// How long a worker keeps trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBounds {
    /// With failed calls.
    pub retry: RetryPolicy,
    /// How long after it was sent a document whose answer was lost may still appear. The API itself gives a request up
    /// after 60 s (help).
    pub absent_after: Duration,
    /// What to do with a file whose answer was lost.
    pub lost_file: LostFile,
    /// With a file that is not there, or still changes, although it was when its manifest was admitted.
    pub file: Duration,
}

impl RetryBounds {
    /// How long after sending a document that is not there is certainly absent. Where some answer came, the API was
    /// done with the request, and only the delay until a document becomes visible remains.
    #[must_use]
    pub fn certainly_absent_after(&self, answered: bool) -> Duration {
        if answered { self.absent_after / 6 } else { self.absent_after }
    }
}

/// How often, and for how long, a job has been tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trial {
    /// Failed tries.
    pub attempts: u32,
    /// The time they took, with the waits between them.
    pub tried: Duration,
    /// For how long it has waited for a file, without anything else in between.
    pub file: Duration,
}

/// What to do with a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It never works.
    Refuse {
        reason: String,
        /// In full, for the receipt.
        problem: Problem,
    },
    /// Later.
    Wait {
        waits: WaitReason,
        delay: Duration,
        /// Why, for a person.
        reason: String,
        /// The tries by then.
        trial: Trial,
    },
    /// Nothing of this account can be sent; the job itself is unchanged.
    PauseAccount {
        /// The cause.
        cause: PauseCause,
        /// The API's reason.
        reason: String,
    },
    /// A person must decide.
    Hold { reason: String },
}

impl Verdict {
    /// How much a verdict outweighs others of the same job: what ends it first, then what stops everything.
    const fn weight(&self) -> u8 {
        match self {
            Self::Wait { waits: WaitReason::Quota, .. } => 1,
            Self::Wait { .. } => 2,
            Self::PauseAccount { .. } => 3,
            Self::Hold { .. } => 4,
            Self::Refuse { .. } => 5,
        }
    }

    /// The weightier of two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }
}

/// Judges a call that did not work; `None` where it did. `asked` is the wait that the answer's headers ask for, with
/// whatever status.
#[must_use]
pub fn judge(
    operation: Operation,
    outcome: &Outcome,
    trial: Trial,
    took: Duration,
    asked: Option<Duration>,
    bounds: &RetryBounds,
    jitter: f64,
) -> Option<Verdict> {
    let again = |reason: &Reason, waits: WaitReason| {
        let tried = trial.tried.saturating_add(took);
        let attempts = trial.attempts.saturating_add(1);
        match bounds.retry.delay(attempts, tried, asked, jitter) {
            Some(delay) => Verdict::Wait {
                waits,
                delay,
                reason: text(operation, reason),
                trial: Trial { attempts, tried: tried.saturating_add(delay), file: Duration::ZERO },
            },
            None => give_up(operation, reason, attempts),
        }
    };
    Some(match outcome {
        Outcome::Done(_) => return None,
        Outcome::Refused(reason) => refuse(operation, reason),
        // A limit uses up no try.
        Outcome::Throttled { wait, reason } => Verdict::Wait {
            waits: WaitReason::Quota,
            delay: wait
                .map(|wait| wait.max(SHORTEST_WAIT))
                .unwrap_or_else(|| bounds.retry.delay(1, Duration::ZERO, None, jitter).unwrap_or(bounds.retry.max)),
            reason: text(operation, reason),
            trial,
        },
        Outcome::Paused { cause, reason } => Verdict::PauseAccount { cause: *cause, reason: text(operation, reason) },
        Outcome::TryAgain(reason) => again(reason, WaitReason::Retry),
        Outcome::Lost(reason) => match (operation, bounds.lost_file) {
            (Operation::UploadFile, LostFile::Hold) => Verdict::Hold {
                reason: format!(
                    "{}; the API cannot be asked whether the file exists: look at the profile, then use release",
                    text(operation, reason)
                ),
            },
            (Operation::CreateDocument, _) => match again(reason, WaitReason::ReadBack) {
                // Whether it exists is not known, so it can be neither sent again nor given up.
                Verdict::Refuse { reason, .. } => Verdict::Hold { reason },
                verdict => verdict,
            },
            _ => again(reason, WaitReason::Retry),
        },
        Outcome::SourceChanged(reason) => Verdict::Refuse {
            reason: text(operation, reason),
            problem: Problem::error(
                "the file is not the one that was checked when its manifest was taken in",
                "do not change files after their manifest is there; drop the manifest and its files again",
            ),
        },
        Outcome::SourceUnreadable(reason) => wait_for_file(&text(operation, reason), trial, took, bounds, jitter)
            .unwrap_or_else(|| {
                let said = format!("waited for in vain; the last: {}", text(operation, reason));
                Verdict::Refuse {
                    problem: Problem::error(
                        said.clone(),
                        "give the worker the right to read the file, or put it back, and retry",
                    ),
                    reason: said,
                }
            }),
    })
}

/// Waits for a file; `None` where that has lasted for too long. Failed calls do not count here, and this wait does not
/// count as failed calls.
#[must_use]
pub fn wait_for_file(reason: &str, trial: Trial, took: Duration, bounds: &RetryBounds, jitter: f64) -> Option<Verdict> {
    let waited = trial.file.saturating_add(took);
    // Exponential backoff, computed from the time that it has lasted.
    let step = bounds.retry.initial.as_millis().max(1);
    let waits = (waited.as_millis() / step).saturating_add(1).ilog2().saturating_add(1);
    let policy = RetryPolicy { give_up_after: bounds.file, ..bounds.retry };
    let delay = policy.delay(waits, waited, None, jitter)?;
    let trial = Trial { file: waited.saturating_add(delay), ..trial };
    Some(Verdict::Wait { waits: WaitReason::File, delay, reason: reason.to_owned(), trial })
}

fn refuse(operation: Operation, reason: &Reason) -> Verdict {
    let said = match reason.code {
        Some(code) => format!("the API refused it (code {code}): {}", text(operation, reason)),
        None => format!("the API refused it: {}", text(operation, reason)),
    };
    Verdict::Refuse {
        problem: Problem::error(said.clone(), "mend what the API names, then drop the entry again or use retry"),
        reason: said,
    }
}

/// Judges a call that was refused for the key although the key works: so it is for this profile.
#[must_use]
pub fn forbidden(
    profile: &str,
    said: &str,
    trial: Trial,
    took: Duration,
    bounds: &RetryBounds,
    jitter: f64,
) -> Verdict {
    let attempts = trial.attempts.saturating_add(1);
    let tried = trial.tried.saturating_add(took);
    let reason = format!("the key works, but is refused for the profile {profile}: {said}");
    match bounds.retry.delay(attempts, tried, None, jitter) {
        Some(delay) => Verdict::Wait {
            waits: WaitReason::Retry,
            delay,
            reason,
            trial: Trial { attempts, tried: tried.saturating_add(delay), file: Duration::ZERO },
        },
        None => Verdict::Refuse {
            problem: Problem::error(
                reason.clone(),
                "have the key given access to this profile, or mend profile_id; then use retry, or drop the entry again",
            ),
            reason: format!("given up after {attempts} tries: {reason}"),
        },
    }
}

fn give_up(operation: Operation, reason: &Reason, attempts: u32) -> Verdict {
    let said = format!("given up after {attempts} tries; the last: {}", text(operation, reason));
    Verdict::Refuse {
        problem: Problem::error(said.clone(), "once the API works again, use retry, or drop the entry again"),
        reason: said,
    }
}

/// A reason in one line, for people.
#[must_use]
pub fn text(operation: Operation, reason: &Reason) -> String {
    let mut line = operation.as_str().to_owned();
    line.push_str(": ");
    if let Some(status) = reason.status {
        line.push_str(&format!("HTTP {status}: "));
    }
    line.push_str(&reason.message);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: RetryBounds = RetryBounds {
        retry: RetryPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(900),
            give_up_after: Duration::from_secs(3600),
        },
        absent_after: Duration::from_secs(60),
        lost_file: LostFile::Send,
        file: Duration::from_secs(86_400),
    };

    fn reason() -> Reason {
        Reason { status: Some(503), code: None, message: "busy".into() }
    }

    fn judged(operation: Operation, outcome: &Outcome, tried: Duration) -> Verdict {
        let trial = Trial { attempts: 2, tried, file: Duration::ZERO };
        judge(operation, outcome, trial, Duration::from_secs(2), None, &BOUNDS, 1.0).unwrap()
    }

    #[test]
    fn what_failed_is_tried_again_until_the_time_is_used_up() {
        let verdict = judged(Operation::UploadImage, &Outcome::TryAgain(reason()), Duration::ZERO);
        let Verdict::Wait { waits: WaitReason::Retry, delay, trial, reason: said } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(delay, Duration::from_secs(4));
        assert_eq!(trial, Trial { attempts: 3, tried: Duration::from_secs(6), file: Duration::ZERO });
        assert_eq!(said, "upload_image: HTTP 503: busy");
        let verdict = judged(Operation::UploadImage, &Outcome::TryAgain(reason()), Duration::from_secs(3600));
        assert!(matches!(verdict, Verdict::Refuse { .. }));
    }

    #[test]
    fn a_wait_that_is_asked_for_with_a_failure_is_kept() {
        let (asked, outcome) = (Some(Duration::from_secs(120)), Outcome::TryAgain(reason()));
        let operation = Operation::UploadImage;
        let verdict = judge(operation, &outcome, Trial::default(), Duration::ZERO, asked, &BOUNDS, 0.0).unwrap();
        assert!(matches!(verdict, Verdict::Wait { delay, .. } if delay == Duration::from_secs(120)), "{verdict:?}");
    }

    #[test]
    fn a_lost_document_is_read_back_and_never_given_up_as_failed() {
        let lost = Outcome::Lost(reason());
        let verdict = judged(Operation::CreateDocument, &lost, Duration::ZERO);
        assert!(matches!(verdict, Verdict::Wait { waits: WaitReason::ReadBack, .. }));
        let verdict = judged(Operation::CreateDocument, &lost, Duration::from_secs(3600));
        assert!(matches!(verdict, Verdict::Hold { .. }));
    }

    #[test]
    fn a_lost_image_is_sent_again_and_a_lost_file_as_configured() {
        let lost = Outcome::Lost(reason());
        let sent = judged(Operation::UploadImage, &lost, Duration::ZERO);
        assert!(matches!(sent, Verdict::Wait { waits: WaitReason::Retry, .. }));
        let sent = judged(Operation::UploadFile, &lost, Duration::ZERO);
        assert!(matches!(sent, Verdict::Wait { waits: WaitReason::Retry, .. }));
        let careful = RetryBounds { lost_file: LostFile::Hold, ..BOUNDS };
        let held = judge(Operation::UploadFile, &lost, Trial::default(), Duration::ZERO, None, &careful, 0.0).unwrap();
        assert!(matches!(held, Verdict::Hold { .. }));
    }

    #[test]
    fn a_file_that_is_away_is_waited_for_as_long_as_its_drop_says() {
        let away = Outcome::SourceUnreadable(reason());
        let waited = |file| {
            let trial = Trial { file, ..Trial::default() };
            judge(Operation::UploadImage, &away, trial, Duration::ZERO, None, &BOUNDS, 1.0).unwrap()
        };
        let waiting = waited(Duration::from_secs(7200));
        assert!(matches!(waiting, Verdict::Wait { waits: WaitReason::File, .. }), "{waiting:?}");
        let ended = waited(Duration::from_secs(86_400));
        assert!(matches!(ended, Verdict::Refuse { .. }), "{ended:?}");
    }

    #[test]
    fn waits_for_a_file_and_tries_with_the_api_use_up_nothing_of_each_other() {
        let away = Outcome::SourceUnreadable(reason());
        let trial = Trial { attempts: 40, tried: Duration::from_secs(200_000), file: Duration::from_secs(1) };
        let verdict = judge(Operation::UploadImage, &away, trial, Duration::ZERO, None, &BOUNDS, 1.0).unwrap();
        let Verdict::Wait { delay, trial: then, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((delay.as_secs(), then.file.as_secs()), (2, 3), "as at the beginning");
        assert_eq!((then.attempts, then.tried), (trial.attempts, trial.tried));
        let trial = Trial { file: Duration::from_secs(80_000), ..Trial::default() };
        let failed = Outcome::TryAgain(reason());
        let verdict = judge(Operation::UploadImage, &failed, trial, Duration::ZERO, None, &BOUNDS, 1.0).unwrap();
        let Verdict::Wait { delay, trial: then, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((delay.as_secs(), then.file), (1, Duration::ZERO), "the file was there");
    }

    #[test]
    fn waits_for_a_file_grow_and_are_never_longer_than_others() {
        let mut trial = Trial::default();
        let mut delays = Vec::new();
        while let Some(Verdict::Wait { delay, trial: then, .. }) =
            wait_for_file("", trial, Duration::ZERO, &BOUNDS, 1.0)
        {
            delays.push(delay.as_secs());
            trial = then;
        }
        assert_eq!(delays.iter().take(5).collect::<Vec<_>>(), [&1, &2, &4, &8, &16]);
        assert!(delays.iter().all(|delay| *delay <= 900), "{delays:?}");
        assert!(trial.file >= BOUNDS.file);
    }

    #[test]
    fn a_limit_and_a_refused_key_use_up_no_try() {
        let throttled = Outcome::Throttled { wait: Some(Duration::from_secs(40)), reason: reason() };
        let verdict = judged(Operation::CreateDocument, &throttled, Duration::from_secs(3600));
        let Verdict::Wait { waits: WaitReason::Quota, delay, trial, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((delay, trial.attempts), (Duration::from_secs(40), 2));
        let paused = Outcome::Paused { cause: PauseCause::KeyRefused, reason: reason() };
        assert!(matches!(
            judged(Operation::CreateDocument, &paused, Duration::from_secs(3600)),
            Verdict::PauseAccount { cause: PauseCause::KeyRefused, .. }
        ));
    }

    #[test]
    fn a_refusal_quotes_the_api_and_outweighs_everything_else() {
        let refused = Outcome::Refused(Reason { status: Some(400), code: Some(201), message: "bad category".into() });
        let refused = judged(Operation::CreateDocument, &refused, Duration::ZERO);
        let Verdict::Refuse { problem, .. } = &refused else { panic!("{refused:?}") };
        assert!(problem.reason.contains("bad category") && problem.reason.contains("201"), "{}", problem.reason);
        let waiting = judged(Operation::UploadImage, &Outcome::TryAgain(reason()), Duration::ZERO);
        assert_eq!(waiting.clone().or(refused.clone()), refused);
        assert_eq!(refused.clone().or(waiting), refused);
    }
}
