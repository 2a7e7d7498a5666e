//! The circuit breaker of an account: whether calls may go out, and when to stop them.
//!
//! Values and decisions only. A trip is reported to the caller, which records the pause in the queue and then opens the
//! breaker with [`Breaker::on_pause`]; [`Breaker::on_resume`] makes it half-open, however the pause ended.
//!
//! ```text
//! Closed ──pause──▶ Open ──resume──▶ HalfOpen ──success──▶ Closed
//!                    ▲                   │
//!                    └───────pause───────┘
//! ```

use std::time::Duration;

use crate::queue::control::Cause;

/// Failures in a row that trip a closed breaker.
const FAILURES_TO_TRIP: u32 = 10;

/// The pause after a failed trial call, first and at most; it doubles with each (exponential backoff).
const FIRST_REST: Duration = Duration::from_secs(2);
const MAX_REST: Duration = Duration::from_secs(60);

/// The state of an account's circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Calls go out.
    Closed {
        /// Calls in a row that failed because the API did not work.
        failures: u32,
    },
    /// No call goes out.
    Open {
        cause: Cause,
        /// How long to leave the API alone before anything is tried.
        rest: Duration,
    },
    /// Half-open: trial calls are sent one at a time, until one succeeds.
    HalfOpen { rest: Duration },
}

/// Whether one more call may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admits {
    Yes,
    /// Not while the trial call is in flight.
    AfterTrial,
    /// Not before the account is resumed.
    No(Cause),
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    /// Whether one more call may go out beside `in_flight` others.
    pub(super) const fn admits(self, in_flight: usize) -> Admits {
        match self {
            Self::Closed { .. } => Admits::Yes,
            Self::HalfOpen { .. } if in_flight == 0 => Admits::Yes,
            Self::HalfOpen { .. } => Admits::AfterTrial,
            Self::Open { cause, .. } => Admits::No(cause),
        }
    }

    /// Why it is open, if it is.
    pub(super) const fn open_cause(self) -> Option<Cause> {
        match self {
            Self::Open { cause, .. } => Some(cause),
            Self::Closed { .. } | Self::HalfOpen { .. } => None,
        }
    }

    pub(super) const fn is_half_open(self) -> bool {
        matches!(self, Self::HalfOpen { .. })
    }

    /// How long to leave the API alone before a trial.
    pub(super) const fn rest(self) -> Duration {
        match self {
            Self::Closed { .. } => Duration::ZERO,
            Self::Open { rest, .. } | Self::HalfOpen { rest } => rest,
        }
    }

    /// A call worked. One that was in flight when the breaker opened does not close it, but shows that the API works.
    pub(super) const fn on_success(self) -> Self {
        match self {
            Self::Closed { .. } | Self::HalfOpen { .. } => Self::Closed { failures: 0 },
            Self::Open { cause, .. } => Self::Open { cause, rest: Duration::ZERO },
        }
    }

    /// A call failed because the API did not work; returns the cause where the breaker trips.
    pub(super) fn on_failure(self) -> (Self, Option<Cause>) {
        match self {
            Self::Closed { failures } => {
                let failures = failures.saturating_add(1);
                (Self::Closed { failures }, (failures >= FAILURES_TO_TRIP).then_some(Cause::Outage))
            }
            Self::HalfOpen { rest } => {
                let rest = (rest * 2).clamp(FIRST_REST, MAX_REST);
                (Self::HalfOpen { rest }, Some(Cause::Outage))
            }
            Self::Open { .. } => (self, None),
        }
    }

    /// A call was refused because the account's quota is spent, which trips at once: every other call in line would get
    /// the same answer.
    pub(super) fn on_quota_spent(self) -> (Self, Option<Cause>) {
        (self, self.open_cause().is_none().then_some(Cause::QuotaSpent))
    }

    /// The account is paused.
    pub(super) const fn on_pause(self, cause: Cause) -> Self {
        Self::Open { cause, rest: self.rest() }
    }

    /// The account is resumed.
    pub(super) const fn on_resume(self) -> Self {
        Self::HalfOpen { rest: self.rest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Success,
        Failure,
        QuotaSpent,
        Pause(Cause),
        Resume,
    }

    fn on(breaker: Breaker, event: Event) -> (Breaker, Option<Cause>) {
        match event {
            Event::Success => (breaker.on_success(), None),
            Event::Failure => breaker.on_failure(),
            Event::QuotaSpent => breaker.on_quota_spent(),
            Event::Pause(cause) => (breaker.on_pause(cause), None),
            Event::Resume => (breaker.on_resume(), None),
        }
    }

    #[test]
    fn every_event_in_every_state() {
        use Cause::{KeyRefused, Operator, Outage, QuotaSpent};
        use Event::{Failure, Pause, Resume, Success};

        let closed = |failures| Breaker::Closed { failures };
        let open = |cause, rest| Breaker::Open { cause, rest: rest * SECOND };
        let half_open = |rest| Breaker::HalfOpen { rest: rest * SECOND };
        let quiet = |breaker| (breaker, None);
        let events = [Success, Failure, Event::QuotaSpent, Pause(KeyRefused), Resume];
        let table = [
            (
                closed(0),
                [
                    quiet(closed(0)),
                    quiet(closed(1)),
                    (closed(0), Some(QuotaSpent)),
                    quiet(open(KeyRefused, 0)),
                    quiet(half_open(0)),
                ],
            ),
            (
                closed(9),
                [
                    quiet(closed(0)),
                    (closed(10), Some(Outage)),
                    (closed(9), Some(QuotaSpent)),
                    quiet(open(KeyRefused, 0)),
                    quiet(half_open(0)),
                ],
            ),
            (
                open(Outage, 4),
                [
                    quiet(open(Outage, 0)),
                    quiet(open(Outage, 4)),
                    quiet(open(Outage, 4)),
                    quiet(open(KeyRefused, 4)),
                    quiet(half_open(4)),
                ],
            ),
            (
                open(Operator, 0),
                [
                    quiet(open(Operator, 0)),
                    quiet(open(Operator, 0)),
                    quiet(open(Operator, 0)),
                    quiet(open(KeyRefused, 0)),
                    quiet(half_open(0)),
                ],
            ),
            (
                half_open(0),
                [
                    quiet(closed(0)),
                    (half_open(2), Some(Outage)),
                    (half_open(0), Some(QuotaSpent)),
                    quiet(open(KeyRefused, 0)),
                    quiet(half_open(0)),
                ],
            ),
            (
                half_open(40),
                [
                    quiet(closed(0)),
                    (half_open(60), Some(Outage)),
                    (half_open(40), Some(QuotaSpent)),
                    quiet(open(KeyRefused, 40)),
                    quiet(half_open(40)),
                ],
            ),
        ];
        for (breaker, expected) in table {
            for (event, expected) in events.into_iter().zip(expected) {
                assert_eq!(on(breaker, event), expected, "{breaker:?} on {event:?}");
            }
        }
    }

    #[test]
    fn only_a_closed_breaker_admits_calls_beside_others() {
        let half_open = Breaker::HalfOpen { rest: SECOND };
        let open = Breaker::Open { cause: Cause::Outage, rest: SECOND };
        for (breaker, alone, beside) in [
            (Breaker::new(), Admits::Yes, Admits::Yes),
            (half_open, Admits::Yes, Admits::AfterTrial),
            (open, Admits::No(Cause::Outage), Admits::No(Cause::Outage)),
        ] {
            assert_eq!((breaker.admits(0), breaker.admits(1)), (alone, beside), "{breaker:?}");
        }
    }

    #[test]
    fn trials_that_fail_rest_for_longer_each_time() {
        let mut breaker = Breaker::new();
        let mut rests = Vec::new();
        for _ in 0..7 {
            breaker = breaker.on_pause(Cause::Outage).on_resume().on_failure().0;
            rests.push(breaker.rest().as_secs());
        }
        assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(breaker.on_success().on_pause(Cause::Outage).rest(), Duration::ZERO);
    }
}
