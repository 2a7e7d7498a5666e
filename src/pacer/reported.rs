//! The limit as the answers report it: how many calls remain, and when the bucket is full again.
//!
//! The API documents its limits as GCRA (generic cell rate algorithm): a bucket of calls that refills at a steady rate.
//! Both numbers together give that rate, so calls slow down before the limit is reached.
//!
//! Invariant: while calls are in flight, one answer raises the estimate of remaining calls by at most
//! max(1, 25 % of the difference). Answers overtake each other, so a high count may be an old one.

use std::time::Duration;

use super::{
    fixed_window::{FixedWindow, WindowFacts},
    measured::Measured,
    refill::Refill,
};

/// Reports that led to this many recent refusals are not followed any longer: whatever the numbers mean, it is not GCRA.
const MAX_BROKEN_PROMISES: f64 = 4.0;

/// How many calls have to pass to outweigh one refusal.
const CALLS_PER_REFUSAL: f64 = 333.0;

/// What an answer's headers report about the limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LimitReport {
    /// Calls that fit now.
    pub remaining: Option<u64>,
    /// Time until the bucket is full.
    pub reset: Option<Duration>,
}

/// The reported state of one limit.
#[derive(Debug, Clone)]
pub(super) struct Reported {
    /// Estimate of remaining calls at `at`; calls in flight are not subtracted.
    remaining: f64,
    at: Duration,
    full_at: Option<Duration>,
    /// The most calls that fit at once, as far as reported since the last refusal.
    burst: f64,
    /// Number of the newest call whose report is included.
    newest: u64,
    refill: Refill,
    windows: FixedWindow,
    /// Refusals although the reports promised room; fades as calls pass.
    broken_promises: f64,
    /// The first refusal, and the calls that passed since.
    first_refusal: Option<(Duration, u64)>,
}

/// One answer's report, with what is needed to weigh it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    /// Number of the call, in the order in which calls were reserved.
    pub(super) number: u64,
    /// Calls still in flight.
    pub(super) in_flight: u32,
    pub(super) report: LimitReport,
}

impl Reported {
    /// Starts from a first report; `None` where it has no numbers.
    pub(super) fn new(seen: &Observation, now: Duration) -> Option<Self> {
        let remaining = seen.report.remaining.map(float)?;
        let mut refill = Refill::default();
        refill.on_report(remaining, seen.report.reset, now);
        let full_at = seen.report.reset.map(|reset| now.saturating_add(reset));
        let mut windows = FixedWindow::default();
        seen.report.reset.into_iter().for_each(|reset| windows.on_report(remaining, reset, now));
        Some(Self {
            remaining,
            at: now,
            full_at,
            burst: remaining + 1.0,
            newest: seen.number,
            refill,
            windows,
            broken_promises: 0.0,
            first_refusal: None,
        })
    }

    /// The rate measured since the first refusal, where the reports are not worth following any longer.
    pub(super) fn disproved(&self, wait: Duration, now: Duration) -> Option<Measured> {
        let (since, passed) = self.first_refusal.unwrap_or((now, 0));
        (self.broken_promises >= MAX_BROKEN_PROMISES).then(|| Measured::new(since, passed, wait, now))
    }

    /// Refill rate in calls a second, where it is known.
    pub(super) fn rate(&self) -> Option<f64> {
        self.refill.rate().filter(|rate| *rate > 0.0)
    }

    /// Refill rate in calls a second, where it is certain that there is one.
    pub(super) fn certain_rate(&self) -> Option<f64> {
        self.refill.certain_rate().filter(|rate| *rate > 0.0)
    }

    /// The fixed windows that the limit counts in, where it does, without the margin that is left unused in each.
    pub(super) fn windows(&self, now: Duration) -> Option<WindowFacts> {
        let facts = self.windows.known(now)?;
        let margin = reserve(facts.count);
        Some(WindowFacts { count: facts.count - margin, left: (facts.left - margin).max(0.0), ..facts })
    }

    /// The most calls that fit at once, as far as it is known.
    pub(super) const fn burst(&self) -> f64 {
        self.burst
    }

    /// A call passed.
    pub(super) fn on_passed(&mut self, seen: &Observation, now: Duration) {
        self.broken_promises = (self.broken_promises - 1.0 / CALLS_PER_REFUSAL).max(0.0);
        if let Some((_, passed)) = &mut self.first_refusal {
            *passed += 1;
        }
        if seen.report.remaining.is_some() {
            self.refill.on_counted();
            self.on_report(seen, now);
        } else {
            self.set_remaining(self.remaining_at(now) - 1.0, now);
        }
    }

    /// A call was refused.
    pub(super) fn on_refused(&mut self, seen: &Observation, retry_after: Option<Duration>, now: Duration) {
        self.broken_promises += 1.0;
        if seen.report.remaining.is_some() {
            let seen = Observation { report: LimitReport { remaining: Some(0), ..seen.report }, ..*seen };
            self.on_report(&seen, now);
            self.refill.on_refused(retry_after);
        } else {
            self.set_remaining(0.0, now);
            self.full_at = None;
        }
        self.first_refusal.get_or_insert((now, 0));
        // The limit may have become smaller: the next reports say how many calls fit at once.
        self.burst = 1.0;
    }

    fn on_report(&mut self, seen: &Observation, now: Duration) {
        let Some(reported) = seen.report.remaining.map(float) else { return };
        let full_at = seen.report.reset.map(|reset| now.saturating_add(reset));
        let is_newest = seen.number >= self.newest;
        self.refill.on_report(reported, seen.report.reset, now);
        if let Some(reset) = seen.report.reset.filter(|_| is_newest) {
            self.windows.on_report(reported, reset, now);
        }
        let expected = self.remaining_at(now);
        let difference = reported - expected;
        let remaining = if difference <= 0.0 || (is_newest && seen.in_flight == 0) {
            reported
        } else if is_newest {
            expected + difference.min(1.0).max(difference / 4.0)
        } else {
            expected
        };
        self.set_remaining(remaining, now);
        self.full_at = if is_newest { full_at } else { self.full_at.max(full_at) };
        self.burst = self.burst.max(reported + 1.0);
        self.newest = self.newest.max(seen.number);
    }

    const fn set_remaining(&mut self, remaining: f64, now: Duration) {
        self.remaining = remaining;
        self.at = now;
    }

    /// Estimate of remaining calls; calls in flight are not subtracted.
    pub(super) fn remaining_at(&self, now: Duration) -> f64 {
        if self.full_at.is_some_and(|full| full <= now) {
            return self.burst;
        }
        let rate = self.rate().unwrap_or(0.0);
        (self.remaining + rate * now.saturating_sub(self.at).as_secs_f64()).min(self.burst)
    }

    /// Calls left unused as a margin for misjudged ones; none where the burst is so small that a margin would cost much.
    fn reserve(&self) -> f64 {
        reserve(self.burst)
    }

    /// How many more calls fit within `within`, the margin kept back.
    pub(super) fn room(&self, in_flight: u32, within: Duration, now: Duration) -> f64 {
        let full = self.full_at.is_some_and(|full| full <= now.saturating_add(within));
        let calls = self.remaining_at(now) + self.rate().unwrap_or(0.0) * within.as_secs_f64();
        (if full { calls.max(self.burst) } else { calls }) - self.reserve() - f64::from(in_flight)
    }

    /// How long until one more call fits; `None` where that is unknown.
    pub(super) fn wait(&self, in_flight: u32, now: Duration) -> Option<Duration> {
        let in_flight = f64::from(in_flight);
        let short = 1.0 + self.reserve() - (self.remaining_at(now) - in_flight);
        if short <= 0.0 {
            return Some(Duration::ZERO);
        }
        let until_full = self.full_at.map(|full| full.saturating_sub(now)).filter(|_| self.burst - in_flight >= 1.0);
        let by_rate = self.rate().map(|rate| Duration::try_from_secs_f64(short / rate).unwrap_or(Duration::MAX));
        match (by_rate, until_full) {
            (Some(by_rate), Some(until_full)) => Some(by_rate.min(until_full)),
            (by_rate, _) => by_rate,
        }
    }

    /// How long until the bucket is reported to be full.
    pub(super) fn full_in(&self, now: Duration) -> Option<Duration> {
        self.full_at.map(|full| full.saturating_sub(now))
    }
}

fn reserve(burst: f64) -> f64 {
    if burst < 3.0 { 0.0 } else { (burst / 10.0).min(3.0) }
}

#[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
const fn float(calls: u64) -> f64 {
    calls as f64
}
