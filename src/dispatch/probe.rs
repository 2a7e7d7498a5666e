//! Probes a stopped account, whose circuit breaker is open: when to try it again, and how.

use std::time::Duration;

use tokio::time::Instant;

use crate::queue::control::Cause;

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// No call says whether a spent quota was renewed without using it, so after this long one job tries.
const QUOTA_REST: Duration = Duration::from_secs(600);

/// What is known of the call that asks the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeAnswer {
    Pending,
    Works,
    Fails,
}

/// What comes next for a stopped account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum ProbeStep {
    /// Nothing before this moment.
    WaitUntil(Instant),
    /// Make a call that creates nothing, and report its answer to the next call of [`Probe::next`].
    Ask,
    /// The call is in flight, and its end is an event of its own.
    WaitForAnswer,
    /// Let the account send again.
    Resume,
}

/// The probing of one account, from its stop until it works again.
#[derive(Debug)]
pub(super) struct Probe {
    cause: Cause,
    at: Instant,
    wait: Duration,
    longest: Duration,
    asking: bool,
}

impl Probe {
    /// Begins with an account that was stopped for this cause `stopped_for` ago, and must be left alone for `rest`.
    /// Time that passed in an earlier process counts, so that a nightly run does not always end before the first try.
    pub(super) fn new(cause: Cause, rest: Duration, stopped_for: Duration, now: Instant) -> Self {
        let first = if cause == Cause::QuotaSpent { QUOTA_REST } else { FIRST.max(rest) };
        Self {
            cause,
            at: now + first.saturating_sub(stopped_for),
            wait: first,
            longest: LONGEST.max(first),
            asking: false,
        }
    }

    pub(super) const fn cause(&self) -> Cause {
        self.cause
    }

    /// What to do now; `answer` is that of the call which the last [`ProbeStep::Ask`] began.
    pub(super) fn next(&mut self, answer: ProbeAnswer, now: Instant) -> ProbeStep {
        if self.asking {
            match answer {
                ProbeAnswer::Pending => return ProbeStep::WaitForAnswer,
                ProbeAnswer::Works => return ProbeStep::Resume,
                ProbeAnswer::Fails => {
                    self.asking = false;
                    self.wait = (self.wait * 2).min(self.longest);
                    self.at = now + self.wait;
                }
            }
        }
        if now < self.at {
            return ProbeStep::WaitUntil(self.at);
        }
        if self.cause == Cause::QuotaSpent {
            return ProbeStep::Resume;
        }
        self.asking = true;
        ProbeStep::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_probe_comes_after_the_rest_less_what_has_passed_already() {
        let now = Instant::now();
        for (cause, rest, stopped_for, expected) in [
            (Cause::Outage, 0, 0, 2),
            (Cause::KeyRefused, 0, 0, 2),
            (Cause::KeyRefused, 0, 1, 1),
            (Cause::Outage, 30, 0, 30),
            (Cause::Outage, 30, 12, 18),
            (Cause::QuotaSpent, 0, 0, 600),
            (Cause::QuotaSpent, 0, 500, 100),
        ] {
            let mut probe = Probe::new(cause, seconds(rest), seconds(stopped_for), now);
            let what = format!("{cause:?}, rest {rest} s, stopped for {stopped_for} s");
            let step = probe.next(ProbeAnswer::Pending, now);
            assert_eq!(step, ProbeStep::WaitUntil(now + seconds(expected)), "{what}");
            let due = probe.next(ProbeAnswer::Pending, now + seconds(expected));
            assert_eq!(due, if cause == Cause::QuotaSpent { ProbeStep::Resume } else { ProbeStep::Ask }, "{what}");
        }
        assert_eq!(
            Probe::new(Cause::Outage, seconds(0), seconds(86_400), now).next(ProbeAnswer::Pending, now),
            ProbeStep::Ask
        );
    }

    #[test]
    fn a_probe_that_fails_is_repeated_after_twice_as_long_up_to_a_minute() {
        let mut now = Instant::now();
        let mut probe = Probe::new(Cause::Outage, Duration::ZERO, Duration::ZERO, now);
        now += seconds(2);
        for wait in [4, 8, 16, 32, 60, 60] {
            assert_eq!(probe.next(ProbeAnswer::Pending, now), ProbeStep::Ask);
            assert_eq!(probe.next(ProbeAnswer::Pending, now + seconds(1)), ProbeStep::WaitForAnswer);
            now += seconds(10);
            assert_eq!(probe.next(ProbeAnswer::Fails, now), ProbeStep::WaitUntil(now + seconds(wait)));
            assert_eq!(
                probe.next(ProbeAnswer::Pending, now),
                ProbeStep::WaitUntil(now + seconds(wait)),
                "one failure is one"
            );
            now += seconds(wait);
        }
        assert_eq!(probe.next(ProbeAnswer::Pending, now), ProbeStep::Ask);
        assert_eq!(probe.next(ProbeAnswer::Works, now), ProbeStep::Resume);
    }

    #[test]
    fn an_account_that_wants_a_longer_rest_gets_it_each_time() {
        let now = Instant::now();
        let mut probe = Probe::new(Cause::Outage, seconds(90), seconds(90), now);
        assert_eq!(probe.next(ProbeAnswer::Pending, now), ProbeStep::Ask);
        assert_eq!(probe.next(ProbeAnswer::Fails, now), ProbeStep::WaitUntil(now + seconds(90)));
    }
}
