//! What a call that did not work means for its job: try again, wait, read back, refuse, or stop the account.
//!
//! Pure: what happened, how long it has been tried, and a random number go in; a [`Verdict`] comes out.

use std::time::Duration;

use crate::{
    absence::AbsenceBounds,
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
    /// When a document whose answer was lost is certainly absent.
    pub absence: AbsenceBounds,
    /// What to do with a file whose answer was lost.
    pub lost_file: LostFile,
    /// With a file that cannot be read, although it could when its manifest was admitted.
    pub file: Duration,
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
        // A limit uses up no try. It holds for the account; a job looks again after `max` at the latest.
        Outcome::Throttled { wait, reason } => Verdict::Wait {
            waits: WaitReason::Quota,
            delay: wait
                .map(|wait| wait.min(bounds.retry.max).max(SHORTEST_WAIT))
                .unwrap_or_else(|| bounds.retry.delay(1, Duration::ZERO, None, jitter).unwrap_or(bounds.retry.max)),
            reason: text(operation, reason),
            trial,
        },
        Outcome::Paused { cause, reason } => Verdict::PauseAccount { cause: *cause, reason: text(operation, reason) },
        Outcome::TryAgain(reason) => again(reason, WaitReason::Retry),
        // The gateway may have handed the request on all the same, so a document is read back.
        Outcome::Unattributed(reason) if operation == Operation::CreateDocument => {
            match again(reason, WaitReason::ReadBack) {
                Verdict::Refuse { reason, .. } => Verdict::Hold { reason },
                verdict => verdict,
            }
        }
        Outcome::Unattributed(reason) => again(reason, WaitReason::Retry),
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
                "the file has changed since its manifest was taken in",
                "put the file back as it was and use retry, or drop the entry again",
            )
            .code("file-changed"),
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

/// How often in a row the same request of a job was refused without the API's own error body, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unattributed {
    /// With the last one.
    pub times: u32,
    /// From the first to the last.
    pub lasting: Duration,
}

/// What the account did since the first of these refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AccountEvidence {
    /// Calls of other profiles worked, and none was refused in this way: it is about this profile.
    pub others_work: bool,
    /// `whoami` works now.
    pub key_works: bool,
}

impl Unattributed {
    /// Fewer may be a deploy's.
    const TIMES: u32 = 5;
    /// How long they must last, by what else is known.
    const WHILE_OTHERS_WORK: Duration = Duration::from_secs(15);
    const WHILE_KEY_WORKS: Duration = Duration::from_secs(600);

    /// Whether it would matter that `whoami` works.
    #[must_use]
    pub fn is_long(self) -> bool {
        self.times >= Self::TIMES && self.lasting >= Self::WHILE_KEY_WORKS
    }

    /// Whether they are taken for the API's refusal of this entry.
    #[must_use]
    pub fn is_final(self, evidence: AccountEvidence) -> bool {
        let others = evidence.others_work && self.lasting >= Self::WHILE_OTHERS_WORK;
        self.times >= Self::TIMES && (others || evidence.key_works && self.is_long())
    }

    /// The verdict once that is so; `said` is what was answered last.
    #[must_use]
    pub fn refuse(self, operation: &str, said: &str) -> Verdict {
        let (times, minutes) = (self.times, self.lasting.as_secs().div_ceil(60));
        let reason = format!(
            "refused {times} times in {minutes} min without an error of the API's own, while the account works: {operation}: {said}"
        );
        Verdict::Refuse {
            problem: Problem::error(
                reason.clone(),
                "see whether the profile exists in this account, then use retry, or drop the entry again",
            )
            .code("refused-without-reason"),
            reason,
        }
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
        absence: AbsenceBounds {
            absent_after: Duration::from_secs(70),
            request_lives: Duration::from_secs(60),
            list_lag: Duration::from_secs(10),
        },
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
        let took = Duration::from_secs(6);
        let Some(Verdict::Wait { delay, trial: then, .. }) = wait_for_file("", trial, took, &BOUNDS, 1.0) else {
            panic!()
        };
        assert_eq!((delay.as_secs(), then.file.as_secs()), (8, 15), "the call that met it counts as well");
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
    fn a_refusal_that_may_be_a_gateways_is_tried_again_and_of_a_document_read_back() {
        let refused = Outcome::Unattributed(reason());
        let verdict = judged(Operation::UploadImage, &refused, Duration::ZERO);
        assert!(matches!(verdict, Verdict::Wait { waits: WaitReason::Retry, .. }), "{verdict:?}");
        let verdict = judged(Operation::CreateDocument, &refused, Duration::ZERO);
        assert!(matches!(verdict, Verdict::Wait { waits: WaitReason::ReadBack, .. }), "{verdict:?}");
        let verdict = judged(Operation::CreateDocument, &refused, Duration::from_secs(3600));
        assert!(matches!(verdict, Verdict::Hold { .. }), "{verdict:?}");
    }

    #[test]
    fn a_key_that_is_refused_for_a_profile_is_tried_as_long_as_others() {
        let ten = Duration::from_mins(10);
        let trial = Trial { attempts: 2, tried: ten, file: ten };
        let verdict = forbidden("p", "said", trial, ten, &BOUNDS, 1.0);
        let Verdict::Wait { delay, trial: then, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(then, Trial { attempts: 3, tried: ten * 2 + delay, file: Duration::ZERO });
        let late = Trial { tried: BOUNDS.retry.give_up_after - ten, ..trial };
        let verdict = forbidden("p", "said", late, ten, &BOUNDS, 1.0);
        assert!(matches!(verdict, Verdict::Refuse { .. }), "{verdict:?}");
    }

    #[test]
    fn refusals_without_the_apis_words_are_final_only_while_the_account_works() {
        let (others, key) = (true, true);
        for (times, lasting, evidence, is_final) in [
            (1, 0, (others, key), false),
            (4, 3600, (others, key), false),
            (5, 14, (others, key), false),
            (5, 15, (others, !key), true),
            (5, 599, (!others, key), false),
            (5, 600, (!others, key), true),
            (5, 600, (!others, !key), false),
            (1000, 259_200, (!others, !key), false),
        ] {
            let refusals = Unattributed { times, lasting: Duration::from_secs(lasting) };
            let evidence = AccountEvidence { others_work: evidence.0, key_works: evidence.1 };
            assert_eq!(refusals.is_final(evidence), is_final, "{refusals:?} {evidence:?}");
        }
        let ten_minutes = Unattributed { times: 7, lasting: Duration::from_secs(600) };
        let Verdict::Refuse { problem, .. } = ten_minutes.refuse("upload_image", "HTTP 404") else { panic!() };
        assert!(problem.reason.contains("7 times in 10 min") && problem.reason.contains("404"), "{}", problem.reason);
    }

    #[test]
    fn a_limit_and_a_refused_key_use_up_no_try() {
        let throttled = Outcome::Throttled { wait: Some(Duration::from_secs(40)), reason: reason() };
        let verdict = judged(Operation::CreateDocument, &throttled, Duration::from_secs(3600));
        let Verdict::Wait { waits: WaitReason::Quota, delay, trial, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!((delay, trial.attempts), (Duration::from_secs(40), 2));
        let day = Outcome::Throttled { wait: Some(Duration::from_secs(86_400)), reason: reason() };
        let verdict = judged(Operation::CreateDocument, &day, Duration::ZERO);
        assert!(matches!(verdict, Verdict::Wait { delay, .. } if delay == BOUNDS.retry.max), "{verdict:?}");
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
        let later = judged(Operation::UploadImage, &Outcome::Refused(reason()), Duration::ZERO);
        assert_eq!(refused.clone().or(later), refused, "of two refusals the first is said");
    }
}
