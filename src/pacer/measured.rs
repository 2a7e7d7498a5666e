//! A rate measured between refusals, for APIs whose answers report no limit, or report it wrongly.
//!
//! Between two refusals the limit's bucket goes from empty to empty, so what passed in between is what flowed in. From
//! then on calls are paced at that rate, and [`Search`] raises it until calls are refused again.

use std::time::Duration;

use super::{bucket::TokenBucket, search::Search};

/// Share of a measured rate that is used.
const MEASURED_SHARE: f64 = 0.97;

/// A measurement over fewer calls continues past the next refusal.
const MIN_CALLS: u64 = 30;

/// What a refusal leaves of the rate at least. Few calls measure badly: a single one that passed between two refusals
/// once turned five calls a second into one a minute.
const MIN_SHARE: f64 = 0.5;
const MIN_SHARE_FEW: f64 = 0.9;

/// The rate is raised after this many calls and a minimum time; close below a refused rate, after many more calls, so
/// that refusals stay rare.
const RAISE_CALLS: u64 = 10;
const RAISE_CALLS_NEAR: u64 = 200;
const RAISE_INTERVAL: Duration = Duration::from_secs(5);

/// A rate that is far too low lets too few calls pass to count, so it is raised after this time regardless.
const RAISE_TIMEOUT: Duration = Duration::from_secs(120);
const RAISE_TIMEOUT_NEAR: Duration = Duration::from_secs(600);

/// The measured rate of one kind of call.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    phase: Phase,
    search: Search,
    /// Start of the measurement, and the calls that passed from then to the last refusal.
    since: (Duration, u64),
    /// Calls that passed since the last refusal.
    passed: u64,
    /// `passed` and the time when the rate was last set.
    raised: (u64, Duration),
    /// `passed` at the last refusal that followed a pass.
    last_run: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    /// No rate yet: counts calls until the next refusal, with few in flight.
    Counting { max_in_flight: u32 },
    /// Calls are paced at the measured rate.
    Paced(TokenBucket),
}

impl Measured {
    /// Starts at a refusal; nothing goes out for `wait`. `passed` calls passed since the refusal at `since`.
    pub(super) fn new(since: Duration, passed: u64, wait: Duration, now: Duration) -> Self {
        let mut measured = Self {
            phase: Phase::Counting { max_in_flight: 1 },
            search: Search::default(),
            since: (since, 0),
            passed,
            raised: (0, now),
            last_run: 0,
        };
        measured.on_refused(wait, now);
        measured
    }

    pub(super) const fn bucket(&self) -> Option<&TokenBucket> {
        match &self.phase {
            Phase::Counting { .. } => None,
            Phase::Paced(bucket) => Some(bucket),
        }
    }

    /// How many calls may be in flight.
    pub(super) const fn max_in_flight(&self) -> u32 {
        match self.phase {
            Phase::Counting { max_in_flight } => max_in_flight,
            Phase::Paced(_) => u32::MAX,
        }
    }

    /// Calls that passed since the last refusal.
    pub(super) const fn passed_since_refusal(&self) -> u64 {
        self.passed
    }

    /// Takes tokens for calls, or returns them where `calls` is negative.
    pub(super) fn take(&mut self, calls: f64, now: Duration) {
        if let Phase::Paced(bucket) = &mut self.phase {
            bucket.take(calls, now);
        }
    }

    /// A call passed.
    pub(super) fn on_passed(&mut self, now: Duration) {
        self.passed += 1;
        match &mut self.phase {
            Phase::Counting { max_in_flight } => {
                *max_in_flight = max_in_flight.saturating_add(u32::from(self.passed.is_multiple_of(8)));
            }
            Phase::Paced(bucket) => {
                let (calls, at) = self.raised;
                let rate = bucket.rate();
                let (after, timeout) = if self.search.is_near(rate) {
                    (RAISE_CALLS_NEAR, RAISE_TIMEOUT_NEAR)
                } else {
                    (RAISE_CALLS.max(self.last_run * 6 / 5), RAISE_TIMEOUT)
                };
                let tested = self.passed >= calls + after || now >= at + timeout;
                if tested && now >= at + RAISE_INTERVAL {
                    bucket.set_rate(self.search.passed(rate), now);
                    self.raised = (self.passed, now);
                }
            }
        }
    }

    /// A call was refused; nothing goes out for `wait`.
    pub(super) fn on_refused(&mut self, wait: Duration, now: Duration) {
        self.since.1 += self.passed;
        let (since, counted) = self.since;
        let span = now.saturating_sub(since).as_secs_f64();
        match &mut self.phase {
            // The bucket is as empty as at the start: count on from there.
            Phase::Counting { .. } if counted == 0 || span <= 0.0 => {}
            // Refused right after a wait: that wait was too short, which says nothing about the rate.
            Phase::Paced(bucket) if self.passed == 0 => {
                bucket.take(1.0 + bucket.rate() * wait.as_secs_f64() + bucket.level_at(now).max(0.0), now);
            }
            _ => {
                #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
                let flowed_in = counted as f64 / span * MEASURED_SHARE;
                let least_share = if counted < MIN_CALLS { MIN_SHARE_FEW } else { MIN_SHARE };
                let rate = self.search.refused(self.bucket().map(TokenBucket::rate), flowed_in, least_share);
                if counted >= MIN_CALLS {
                    self.since = (now, 0);
                }
                // Empty until the wait is over, so that the calls that waited do not all go out at its end.
                let mut bucket = TokenBucket::new(rate, 1.0);
                bucket.take(1.0 + rate * wait.as_secs_f64(), now);
                self.phase = Phase::Paced(bucket);
            }
        }
        if self.passed > 0 {
            self.last_run = self.passed;
        }
        self.passed = 0;
        self.raised = (0, now);
    }
}
