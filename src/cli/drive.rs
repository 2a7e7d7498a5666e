//! The end of a command that works until nothing is left: `run --once` and `import`.
//!
//! [`StopCondition`] decides when to end and why, from observations alone; the commands make the observations, and
//! [`conclude`] has the message and the exit code for each end.

use std::time::{Duration, Instant};

use super::{act, output::Exit};
use crate::queue::{QueueError, Reader, control::Cause, views::progress::Left};
use crate::{clock::Timestamp, config::Config, dispatch::is_open};

/// How long a receipt or a move that fails is tried again before it is left for the next run.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);

/// What is left of the work that a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    Nothing,
    /// Only jobs that a person must decide.
    OnlyHeld,
    Work,
}

/// The state of the work at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkSnapshot {
    pub(super) remaining: Remaining,
    /// More may come: manifests are still being admitted.
    pub(super) arriving: bool,
    /// The work of this process; `None` while another process does it, which then decides when to give up.
    pub(super) own: Option<OwnWork>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnWork {
    pub(super) left: Left,
    /// Whether the sending windows allow calls.
    pub(super) window_open: bool,
    /// How long no call has worked.
    pub(super) without_success_for: Duration,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum RunStep {
    Wait,
    End(StopReason),
}

/// Why a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    Complete,
    OnlyHeld,
    /// A person paused all that is left.
    Paused,
    /// Receipts or files cannot be written.
    Unsettled,
    /// The database cannot be used.
    Unusable,
    /// No call has worked for too long, and nothing else is to be done.
    NoProgress,
}

/// Decides when a command ends.
#[derive(Debug)]
pub(super) struct StopCondition {
    give_up_after: Duration,
    idle_since: Instant,
    unsettled_since: Option<Instant>,
    unusable_since: Option<Instant>,
    paused_since: Option<Instant>,
}

impl StopCondition {
    pub(super) const fn new(give_up_after: Duration, now: Instant) -> Self {
        Self { give_up_after, idle_since: now, unsettled_since: None, unusable_since: None, paused_since: None }
    }

    /// What to do after an observation; `None` where the database could not be used to make it. Such a database is waited
    /// for as long as for the API.
    pub(super) fn next(&mut self, observed: Option<&WorkSnapshot>, now: Instant) -> RunStep {
        let Some(observed) = observed else {
            let since = *self.unusable_since.get_or_insert(now);
            // Nothing could be sent meanwhile, so the API has its full time once the database is back.
            self.idle_since = now;
            return if now.duration_since(since) >= self.give_up_after {
                RunStep::End(StopReason::Unusable)
            } else {
                RunStep::Wait
            };
        };
        self.unusable_since = None;
        match observed.remaining {
            Remaining::Nothing if !observed.arriving => return RunStep::End(StopReason::Complete),
            Remaining::OnlyHeld if !observed.arriving => return RunStep::End(StopReason::OnlyHeld),
            Remaining::Nothing | Remaining::OnlyHeld | Remaining::Work => {}
        }
        let Some(OwnWork { left, window_open, without_success_for }) = observed.own else {
            self.idle_since = now;
            return RunStep::Wait;
        };
        if left.paused && left.under_way == 0 {
            // What still arrives is taken first, but a folder that does not answer, or a file that keeps changing, may
            // keep it waiting for ever.
            let since = *self.paused_since.get_or_insert(now);
            if !observed.arriving || now.duration_since(since) >= self.give_up_after {
                return RunStep::End(StopReason::Paused);
            }
        } else {
            self.paused_since = None;
        }
        if !observed.arriving && left.to_do == 0 && left.to_settle > 0 && left.troubled == left.to_settle {
            let since = *self.unsettled_since.get_or_insert(now);
            if now.duration_since(since) >= SETTLE_TIMEOUT {
                return RunStep::End(StopReason::Unsettled);
            }
        } else {
            self.unsettled_since = None;
        }
        // The API can hold up only what is still to be sent.
        let may_progress = left.to_do == 0 || left.under_way > 0 || left.waits_for_quota > 0 || !window_open;
        if observed.arriving || may_progress {
            self.idle_since = now;
        }
        if now.duration_since(self.idle_since).min(without_success_for) >= self.give_up_after {
            return RunStep::End(StopReason::NoProgress);
        }
        RunStep::Wait
    }
}

/// What is left, with the readings that are due of documents that were sent a second time. Those that are not due are left
/// for a later run.
pub(super) fn with_due_rechecks(
    mut left: Left,
    reader: &Reader,
    drops: &[&str],
    config: &Config,
    now: Timestamp,
) -> Result<Left, QueueError> {
    if left.paused || !is_open(&config.limits.windows, now) {
        return Ok(left);
    }
    let pauses = reader.pauses()?;
    let is_paused = |drop: &str| pauses.iter().any(|pause| pause.scope.strip_prefix("drop:") == Some(drop));
    let drops: Vec<&str> = drops.iter().copied().filter(|drop| !is_paused(drop)).collect();
    let rechecks = reader.rechecks_left(&drops, config.retry.recheck_after, now)?;
    left.to_do += i64::try_from(rechecks.due).unwrap_or(i64::MAX);
    Ok(left)
}

/// Says which documents a later run looks at once more, and when.
pub(super) fn say_rechecks(reader: &Reader, drops: &[&str], config: &Config) -> Result<(), QueueError> {
    let left = reader.rechecks_left(drops, config.retry.recheck_after, Timestamp::now())?;
    if let Some(next) = left.next {
        let documents = left.documents;
        tracing::info!(documents, due = %next, "were sent a second time: the next run after `due` reads their profiles again");
    }
    Ok(())
}

/// Separates a database that cannot be used at present, with the reason, from errors that waiting does not cure.
pub(super) fn usable<T>(
    read: Result<T, QueueError>,
    write_trouble: Option<String>,
) -> Result<Result<T, String>, QueueError> {
    match (read, write_trouble) {
        (Ok(_), Some(trouble)) => Ok(Err(trouble)),
        (Ok(read), None) => Ok(Ok(read)),
        (Err(error), _) if error.is_disk_trouble() => Ok(Err(error.to_string())),
        (Err(error), _) => Err(error),
    }
}

/// Reports why a command ends; returns its exit code.
pub(super) fn conclude(
    end: StopReason,
    unusable: Option<String>,
    reader: &Reader,
    drops: &[&str],
) -> anyhow::Result<Exit> {
    match end {
        StopReason::Complete => return Ok(Exit::Well),
        StopReason::OnlyHeld => {
            tracing::warn!("what is left is held until a person decides: see `jobs --state held` and `release`");
        }
        StopReason::Paused => tracing::warn!("sending is paused by a person: run again after `resume`"),
        StopReason::Unsettled => {
            tracing::error!("receipts or files cannot be written: see `status`; run again when they can");
        }
        StopReason::Unusable => {
            let why = unusable.unwrap_or_default();
            tracing::error!(why, "the database could not be used for too long: run again when it can");
        }
        StopReason::NoProgress => return give_up(reader, drops),
    }
    Ok(Exit::WorkLeft)
}

/// Explains why no call has worked for these drops.
fn give_up(reader: &Reader, drops: &[&str]) -> anyhow::Result<Exit> {
    let mut pauses = reader.pauses()?;
    pauses.retain(|pause| pause.cause != Cause::Operator);
    for pause in &pauses {
        let (account, cause) = (pause.scope.as_str(), pause.cause.as_str());
        tracing::error!(account, cause, reason = act::describe(pause), "sending is stopped: see `status`");
    }
    if !pauses.is_empty() && pauses.iter().all(|pause| pause.cause == Cause::QuotaSpent) {
        tracing::error!(
            "a limit of the account is spent, and nothing else is to be done: run again when it is renewed"
        );
        return Ok(Exit::WorkLeft);
    }
    if pauses.is_empty() && reader.only_files_are_awaited(drops)? {
        tracing::error!(
            "only files that are away, or still change, are waited for: see `jobs --state waiting`, and run again"
        );
        return Ok(Exit::WorkLeft);
    }
    tracing::error!("the API refuses the key, or cannot be reached, and nothing else is to be done");
    Ok(Exit::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::DatabaseFault;

    const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

    fn observed(change: impl FnOnce(&mut WorkSnapshot, &mut OwnWork)) -> WorkSnapshot {
        let mut observed = WorkSnapshot { remaining: Remaining::Work, arriving: false, own: None };
        let left = Left { to_do: 1, ..Left::default() };
        let mut own = OwnWork { left, window_open: true, without_success_for: Duration::MAX };
        change(&mut observed, &mut own);
        WorkSnapshot { own: Some(own), ..observed }
    }

    /// How a command ends that observes the same for ten minutes, and after how many seconds.
    fn end(observed: Option<WorkSnapshot>) -> Option<(u64, StopReason)> {
        let began = Instant::now();
        let mut ending = StopCondition::new(GIVE_UP_AFTER, began);
        (0..600).find_map(|seconds| match ending.next(observed.as_ref(), began + Duration::from_secs(seconds)) {
            RunStep::Wait => None,
            RunStep::End(end) => Some((seconds, end)),
        })
    }

    #[test]
    fn each_state_of_the_work_has_its_end() {
        let settling = |left: &mut Left| *left = Left { to_settle: 2, troubled: 2, ..Left::default() };
        type Case = (&'static str, Option<WorkSnapshot>, Option<(u64, StopReason)>);
        let cases: &[Case] = &[
            (
                "nothing left",
                Some(observed(|it, _| it.remaining = Remaining::Nothing)),
                Some((0, StopReason::Complete)),
            ),
            ("only held", Some(observed(|it, _| it.remaining = Remaining::OnlyHeld)), Some((0, StopReason::OnlyHeld))),
            (
                "nothing left, but more may come",
                Some(observed(|it, _| (it.remaining, it.arriving) = (Remaining::Nothing, true))),
                None,
            ),
            ("paused", Some(observed(|_, own| own.left.paused = true)), Some((0, StopReason::Paused))),
            (
                "paused, with calls in flight",
                Some(observed(|_, own| (own.left.paused, own.left.under_way) = (true, 1))),
                None,
            ),
            (
                "paused, and more may come",
                Some(observed(|it, own| (own.left.paused, it.arriving) = (true, true))),
                Some((60, StopReason::Paused)),
            ),
            (
                "nothing can be settled",
                Some(observed(|_, own| settling(&mut own.left))),
                Some((15, StopReason::Unsettled)),
            ),
            (
                "something can be settled",
                Some(observed(|_, own| own.left = Left { to_settle: 2, troubled: 1, ..Left::default() })),
                None,
            ),
            ("no call works", Some(observed(|_, _| {})), Some((60, StopReason::NoProgress))),
            ("a call worked lately", Some(observed(|_, own| own.without_success_for = Duration::ZERO)), None),
            ("calls in flight", Some(observed(|_, own| own.left.under_way = 1)), None),
            ("a quota is waited for", Some(observed(|_, own| own.left.waits_for_quota = 1)), None),
            ("outside of the windows", Some(observed(|_, own| own.window_open = false)), None),
            ("manifests are taken in", Some(observed(|it, _| it.arriving = true)), None),
            (
                "another process works",
                Some(WorkSnapshot { remaining: Remaining::Work, arriving: false, own: None }),
                None,
            ),
            ("the database cannot be used", None, Some((60, StopReason::Unusable))),
        ];
        for (what, observed, expected) in cases {
            assert_eq!(end(*observed), *expected, "{what}");
        }
    }

    #[test]
    fn a_database_that_cannot_be_used_for_a_while_ends_nothing() {
        let began = Instant::now();
        let mut ending = StopCondition::new(GIVE_UP_AFTER, began);
        let working = observed(|_, own| own.left.under_way = 1);
        for round in 0..5 {
            let at = began + GIVE_UP_AFTER * round;
            assert_eq!(ending.next(None, at), RunStep::Wait);
            assert_eq!(ending.next(None, at + GIVE_UP_AFTER / 2), RunStep::Wait);
            assert_eq!(ending.next(Some(&working), at + GIVE_UP_AFTER / 4 * 3), RunStep::Wait);
        }
    }

    #[test]
    fn errors_of_the_disk_are_waited_for_and_others_are_not() {
        let full = || QueueError::Database { message: "disk full".into(), fault: DatabaseFault::Disk };
        assert_eq!(usable(Ok(1), None).unwrap(), Ok(1));
        assert_eq!(usable(Ok(1), Some("disk full".into())).unwrap(), Err("disk full".into()));
        assert!(usable(Err::<(), _>(full()), None).unwrap().is_err());
        usable(Err::<(), _>(QueueError::Closed), None).unwrap_err();
        usable(Err::<(), _>(QueueError::Closed), Some("disk full".into())).unwrap_err();
    }

    #[test]
    fn taking_over_from_another_process_restarts_the_wait_for_the_api() {
        let began = Instant::now();
        let mut ending = StopCondition::new(GIVE_UP_AFTER, began);
        let theirs = WorkSnapshot { remaining: Remaining::Work, arriving: false, own: None };
        assert_eq!(ending.next(Some(&theirs), began + GIVE_UP_AFTER * 5), RunStep::Wait);
        let ours = observed(|_, _| {});
        assert_eq!(ending.next(Some(&ours), began + GIVE_UP_AFTER * 5), RunStep::Wait);
        assert_eq!(ending.next(Some(&ours), began + GIVE_UP_AFTER * 6), RunStep::End(StopReason::NoProgress));
    }

    #[test]
    fn a_receipt_that_could_be_written_in_between_is_tried_for_the_full_time_again() {
        let began = Instant::now();
        let mut ending = StopCondition::new(GIVE_UP_AFTER, began);
        let stuck = observed(|_, own| own.left = Left { to_settle: 1, troubled: 1, ..Left::default() });
        let going = observed(|_, own| own.left = Left { to_settle: 2, troubled: 1, ..Left::default() });
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(ending.next(Some(&stuck), at(0)), RunStep::Wait);
        assert_eq!(ending.next(Some(&going), at(14)), RunStep::Wait);
        assert_eq!(ending.next(Some(&stuck), at(15)), RunStep::Wait);
        assert_eq!(ending.next(Some(&stuck), at(30)), RunStep::End(StopReason::Unsettled));
    }
}
