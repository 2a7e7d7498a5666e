//! What is known of the API's limit on one kind of call, and when the next call fits.
//!
//! [`Knowledge`] is a state machine: answers that report the limit are followed ([`Reported`]); where they report
//! nothing, or reports turn out wrong, the rate is measured between refusals ([`Measured`]). A wait that the API asks for
//! (`Retry-After`) holds in every state.

use std::time::Duration;

use super::{
    fixed_window::WindowFacts,
    measured::Measured,
    reported::{LimitReport, Observation, Reported},
};

/// The least wait after a refusal: some answers ask for zero and refuse the next call all the same.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// The wait after a refusal that asks for none, first and at most.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const MAX_DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The published buckets are refilled within an hour: after that long one call tries, whatever a refusal asked for.
const LONGEST_REFUSAL: Duration = Duration::from_secs(3600);

/// Before the first answer, only this many calls go out, until this long after the first.
const FIRST_CALLS: u32 = 2;
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// After this many calls without a refusal, reports that were wrong before are trusted again.
const CALLS_TO_TRUST_AGAIN: u64 = 10_000;

/// When the next call fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// After this wait; the call is counted ahead of later ones.
    After(Duration),
    /// Unknown: ask again after the next answer, or after this wait.
    AskAgain(Duration),
}

/// A reserved place for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    reserved_at: Duration,
}

/// The limit on one kind of call.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota {
    knowledge: Knowledge,
    in_flight: u32,
    /// Tickets given out so far.
    tickets: u64,
    /// The API asked that no call go out before.
    not_before: Duration,
    /// The same of a call that failed for another reason than a limit; any call that works ends this.
    failed_until: Duration,
    refused_at: Option<Duration>,
    /// Refusals since a call last passed.
    refused_in_a_row: u32,
}

/// What is known of a limit.
#[derive(Debug, Clone)]
pub(super) enum Knowledge {
    /// No answer yet.
    Unknown { first_sent: Option<Duration> },
    /// Answers report no limit, and none was met.
    Unlimited,
    /// Answers report the limit.
    Reported(Reported),
    /// Calls are refused by a limit that no answer reports, or that is not what they report.
    Measured(Measured),
}

impl Default for Knowledge {
    fn default() -> Self {
        Self::Unknown { first_sent: None }
    }
}

impl Knowledge {
    /// A call went out.
    pub(super) fn on_sent(self, now: Duration) -> Self {
        match self {
            Self::Unknown { first_sent } => Self::Unknown { first_sent: first_sent.or(Some(now)) },
            Self::Measured(mut measured) => {
                measured.take(1.0, now);
                Self::Measured(measured)
            }
            known => known,
        }
    }

    /// A call was counted and passed.
    pub(super) fn on_passed(self, seen: &Observation, now: Duration) -> Self {
        match self {
            Self::Unknown { .. } | Self::Unlimited => Reported::new(seen, now).map_or(Self::Unlimited, Self::Reported),
            Self::Reported(mut reported) => {
                reported.on_passed(seen, now);
                Self::Reported(reported)
            }
            Self::Measured(mut measured) => {
                measured.on_passed(now);
                let again = measured.passed_since_refusal() > CALLS_TO_TRUST_AGAIN;
                match Reported::new(seen, now).filter(|_| again) {
                    Some(reported) => Self::Reported(reported),
                    None => Self::Measured(measured),
                }
            }
        }
    }

    /// A call was refused; nothing goes out for `wait`.
    pub(super) fn on_refused(self, seen: &Observation, refusal: RefusedCall, now: Duration) -> Self {
        match self {
            Self::Unknown { .. } | Self::Unlimited => match Reported::new(seen, now) {
                Some(mut reported) => {
                    reported.on_refused(seen, refusal.retry_after, now);
                    Self::Reported(reported)
                }
                None => Self::Measured(Measured::new(now, 0, refusal.wait, now)),
            },
            Self::Reported(mut reported) => {
                reported.on_refused(seen, refusal.retry_after, now);
                match reported.disproved(refusal.wait, now) {
                    Some(measured) => Self::Measured(measured),
                    None => Self::Reported(reported),
                }
            }
            Self::Measured(mut measured) => {
                measured.on_refused(refusal.wait, now);
                Self::Measured(measured)
            }
        }
    }

    /// When the next call fits, beside this many in flight.
    fn fit(&self, in_flight: u32, now: Duration) -> Fit {
        match self {
            Self::Unknown { first_sent } => {
                let caution_ends = first_sent.unwrap_or(now).saturating_add(FIRST_ANSWER_TIMEOUT);
                if in_flight >= FIRST_CALLS && now < caution_ends {
                    Fit::AskAgain(caution_ends.saturating_sub(now))
                } else {
                    Fit::After(Duration::ZERO)
                }
            }
            Self::Unlimited => Fit::After(Duration::ZERO),
            Self::Reported(reported) => match reported.wait(in_flight, now) {
                Some(wait) => Fit::After(wait),
                // The refill rate is unknown. One call tries after a while; its answer, or its refusal, says more.
                None if in_flight == 0 => {
                    Fit::After(reported.full_in(now).map_or(DEFAULT_WAIT, |full| full.min(DEFAULT_WAIT)))
                }
                None => Fit::AskAgain(DEFAULT_WAIT),
            },
            Self::Measured(measured) if in_flight >= measured.max_in_flight() => Fit::AskAgain(DEFAULT_WAIT),
            Self::Measured(measured) => {
                Fit::After(measured.bucket().map_or(Duration::ZERO, |bucket| bucket.wait(1.0, now)))
            }
        }
    }
}

/// What is known of a limit, for an estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum KnownQuota {
    NotYet,
    Unlimited,
    /// Calls a second, the most at once, and those that fit now.
    Limit {
        rate: f64,
        burst: f64,
        level: f64,
    },
    Windows(WindowFacts),
}

/// What matters of a refusal beside its report.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedCall {
    pub(super) retry_after: Option<Duration>,
    pub(super) wait: Duration,
}

impl Quota {
    /// How much of the wait that the API asked for is left.
    pub(super) fn retry_after(&self, now: Duration) -> Duration {
        self.not_before.max(self.failed_until).saturating_sub(now)
    }

    /// A call failed, though not by the limit, and its answer asks to wait.
    pub(super) fn on_failed(&mut self, wait: Duration, now: Duration) {
        self.failed_until = self.failed_until.max(now.saturating_add(wait));
    }

    /// A call worked, whatever others were asked to wait for.
    pub(super) const fn on_worked(&mut self) {
        self.failed_until = Duration::ZERO;
    }

    /// Whether a reserved call may still go out after its wait.
    pub(super) fn is_valid(&self, ticket: Ticket, now: Duration) -> bool {
        // Calls that waited for an older rate would go out together with those that wait for the new one.
        let rate_changed = self.measured_bucket().is_some() && self.refused_at >= Some(ticket.reserved_at);
        self.retry_after(now).is_zero() && !rate_changed
    }

    /// When the next call fits.
    pub(super) fn fit(&self, now: Duration) -> Fit {
        match self.knowledge.fit(self.in_flight, now) {
            Fit::After(wait) => Fit::After(wait.max(self.retry_after(now))),
            ask_again @ Fit::AskAgain(_) => ask_again,
        }
    }

    /// How many more calls fit within `within`; `None` where no limit is known.
    pub(super) fn room(&self, within: Duration, now: Duration) -> Option<f64> {
        let Some(left) = within.checked_sub(self.retry_after(now)) else { return Some(0.0) };
        match &self.knowledge {
            Knowledge::Unknown { .. } | Knowledge::Unlimited => None,
            Knowledge::Reported(reported) => Some(reported.room(self.in_flight, left, now)),
            Knowledge::Measured(measured) => {
                measured.bucket().map(|bucket| bucket.level_at(now) + bucket.rate() * left.as_secs_f64())
            }
        }
    }

    /// Calls a second, where that is known.
    pub(super) fn rate(&self) -> Option<f64> {
        match &self.knowledge {
            Knowledge::Unknown { .. } | Knowledge::Unlimited => None,
            Knowledge::Reported(reported) => reported.rate(),
            Knowledge::Measured(measured) => measured.bucket().map(|bucket| bucket.rate()),
        }
    }

    /// What is known of the limit.
    pub(super) fn known(&self, now: Duration) -> KnownQuota {
        let limit = |rate: f64, burst, level| KnownQuota::Limit { rate, burst, level };
        match &self.knowledge {
            Knowledge::Unlimited => KnownQuota::Unlimited,
            Knowledge::Unknown { .. } => KnownQuota::NotYet,
            Knowledge::Reported(reported) if reported.windows(now).is_some() => {
                reported.windows(now).map_or(KnownQuota::NotYet, KnownQuota::Windows)
            }
            Knowledge::Reported(reported) => reported.certain_rate().map_or(KnownQuota::NotYet, |rate| {
                // Until the wait that the API asks for is over, nothing passes that flows in meanwhile.
                let level = reported.remaining_at(now) - rate * self.retry_after(now).as_secs_f64();
                limit(rate, reported.burst(), level)
            }),
            Knowledge::Measured(measured) => measured
                .bucket()
                .map_or(KnownQuota::NotYet, |bucket| limit(bucket.rate(), bucket.burst(), bucket.level_at(now))),
        }
    }

    /// Reserves a place for a call.
    pub(super) fn reserve(&mut self, now: Duration) -> Ticket {
        self.in_flight = self.in_flight.saturating_add(1);
        self.tickets += 1;
        self.update(|knowledge| knowledge.on_sent(now));
        Ticket { number: self.tickets, reserved_at: now }
    }

    /// Gives back the place of a call that was never sent.
    pub(super) fn cancel(&mut self, ticket: Ticket, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        // A bucket that was set up at a later refusal never had this call taken out of it.
        if self.refused_at.is_none_or(|refused_at| ticket.reserved_at > refused_at)
            && let Knowledge::Measured(measured) = &mut self.knowledge
        {
            measured.take(-1.0, now);
        }
    }

    /// A call was not refused by the limit; `counted` says whether the API may have counted it.
    pub(super) fn on_answer(&mut self, ticket: Ticket, report: LimitReport, counted: bool, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if counted {
            self.refused_in_a_row = 0;
            let seen = Observation { number: ticket.number, in_flight: self.in_flight, report };
            self.update(|knowledge| knowledge.on_passed(&seen, now));
        }
    }

    /// A call was refused by the limit; `retry_after` is the wait that the answer asks for.
    pub(super) fn on_refused(
        &mut self,
        ticket: Ticket,
        report: LimitReport,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        // Calls that were in flight together are refused together: they count once.
        let is_first = self.refused_at.is_none_or(|refused_at| ticket.reserved_at > refused_at);
        self.refused_in_a_row = self.refused_in_a_row.saturating_add(u32::from(is_first));
        let backoff = 2_u32.saturating_pow(self.refused_in_a_row.saturating_sub(1).min(5));
        let wait = match retry_after {
            Some(retry_after) => retry_after.min(LONGEST_REFUSAL).max(SHORTEST_WAIT * backoff),
            None => self.default_wait() * backoff,
        };
        self.not_before = self.not_before.max(now.saturating_add(wait));
        if is_first {
            let seen = Observation { number: ticket.number, in_flight: self.in_flight, report };
            let refusal = RefusedCall { retry_after, wait };
            self.update(|knowledge| knowledge.on_refused(&seen, refusal, now));
            self.refused_at = Some(now);
        }
    }

    fn update(&mut self, transition: impl FnOnce(Knowledge) -> Knowledge) {
        self.knowledge = transition(std::mem::take(&mut self.knowledge));
    }

    const fn measured_bucket(&self) -> Option<&super::TokenBucket> {
        match &self.knowledge {
            Knowledge::Measured(measured) => measured.bucket(),
            _ => None,
        }
    }

    /// The wait where a refusal asks for none: one call's worth of the measured rate.
    fn default_wait(&self) -> Duration {
        let one = self.measured_bucket().and_then(|bucket| Duration::try_from_secs_f64(1.0 / bucket.rate()).ok());
        one.map_or(DEFAULT_WAIT, |one| one.clamp(DEFAULT_WAIT, MAX_DEFAULT_WAIT))
    }
}
