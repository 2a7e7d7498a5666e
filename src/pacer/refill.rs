//! Estimates how fast the bucket of a reported limit refills.
//!
//! Two sources, of which the higher counts: each call taken out of a GCRA bucket moves the moment when it is full by one
//! call's interval; and the remaining calls grow between two answers. The API rounds that moment up to whole seconds, so
//! every estimate is a lower one.

use std::time::Duration;

/// Observations of a bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Refill {
    /// The fullest that the bucket was seen, which later reports are compared with.
    reference: Option<Seen>,
    /// Rate from the moment when the bucket is full, in calls a second, and the number of calls that it rests on.
    by_reset: Option<(f64, f64)>,
    /// Rate from the growth of what remains.
    by_growth: Option<f64>,
    /// Whether calls were seen to move the moment when the bucket is full, as they do not where a window is fixed.
    moves: bool,
    /// Start of the growth measurement: what remained, when, and the calls counted since.
    growth_from: Option<(f64, Duration, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    remaining: f64,
    reset: f64,
}

/// Growth is measured over this span, and counts from this many calls on.
const GROWTH_SPAN: Duration = Duration::from_secs(5);
const GROWTH_CALLS: f64 = 8.0;

impl Refill {
    /// Calls a second, where that is known.
    pub(super) fn rate(&self) -> Option<f64> {
        match (self.by_reset, self.by_growth) {
            (Some((reset, _)), Some(growth)) => Some(reset.max(growth)),
            (reset, growth) => reset.map(|(rate, _)| rate).or(growth),
        }
    }

    /// The same, unless it rests on a moment that did not move.
    pub(super) fn certain_rate(&self) -> Option<f64> {
        self.rate().filter(|_| self.moves)
    }

    /// A call was counted.
    pub(super) fn on_counted(&mut self) {
        if let Some((_, _, calls)) = &mut self.growth_from {
            *calls += 1.0;
        }
    }

    /// An answer reported the remaining calls, and the time until the bucket is full.
    pub(super) fn on_report(&mut self, remaining: f64, reset: Option<Duration>, now: Duration) {
        self.measure_growth(remaining, now);
        let Some(reset) = reset.map(|reset| reset.as_secs_f64()) else { return };
        let Some(full) = self.reference.filter(|full| remaining < full.remaining) else {
            self.reference = Some(Seen { remaining, reset });
            return;
        };
        let (taken, later) = (full.remaining - remaining, reset - full.reset);
        if later <= -1.0 {
            // Full sooner although fewer calls are left: that is no GCRA bucket, so it says nothing about a rate.
            self.moves = false;
            return;
        }
        let since_full = reset.max(1.0);
        let rate = if later >= 1.0 {
            self.moves = true;
            (taken / (later + 1.0)).max(taken / since_full)
        } else {
            // The moment did not move visibly. Half a call for the one that was taken before the reference was seen.
            (taken + 0.5) / since_full
        };
        // In that case the rate is a lower bound, which does not contradict a higher one.
        let is_weaker = later < 1.0 && self.by_reset.is_some_and(|(before, _)| rate < before);
        if !is_weaker && self.by_reset.is_none_or(|(_, weight)| taken >= weight / 2.0) {
            self.by_reset = Some((rate, taken));
        }
    }

    /// A call was refused, so the observations so far do not hold any more; the next call fits after `retry_after`.
    pub(super) fn on_refused(&mut self, retry_after: Option<Duration>) {
        // The rate is kept until little evidence replaces it. Growth may have come in one step, so it counts no more.
        let rate = self.by_reset.map(|(rate, _)| rate).or(self.by_growth);
        let by_wait = || retry_after.map(|wait| 1.0 / wait.as_secs_f64()).filter(|rate| rate.is_finite());
        *self = Self { by_reset: rate.or_else(by_wait).map(|rate| (rate, 1.0)), moves: self.moves, ..Self::default() };
    }

    fn measure_growth(&mut self, remaining: f64, now: Duration) {
        let Some((from, at, calls)) = self.growth_from else {
            self.growth_from = Some((remaining, now, 0.0));
            return;
        };
        let span = now.saturating_sub(at);
        let grown = remaining - from + calls;
        if grown >= GROWTH_CALLS && span >= Duration::from_millis(200) {
            let found = (grown - 1.0) / span.as_secs_f64();
            // The bucket may have been full in between, so a lower rate is followed slowly.
            let rate = self
                .by_growth
                .map_or(found, |before| if found > before { found } else { before * 0.98 + found * 0.02 });
            self.by_growth = Some(rate);
        }
        if span >= GROWTH_SPAN {
            self.growth_from = Some((remaining, now, 0.0));
        }
    }
}
