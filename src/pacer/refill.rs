//! How fast the bucket of a limit fills, from what the answers say.
//!
//! Two sources, and the better one counts: each call that is taken out of a bucket moves the moment when it is full by
//! the time that one call takes to come back; and what remains grows between two answers. The API rounds the moment up
//! to whole seconds (sandbox; the guide shows whole numbers), so every estimate is kept on the slow side.

use std::time::Duration;

/// What was seen of a bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Refill {
    /// The fullest that the bucket was seen.
    reference: Option<Seen>,
    /// From the moment when it is full, in calls a second, and how many calls that rests on.
    by_reset: Option<(f64, f64)>,
    /// From what remained, in calls a second.
    by_growth: Option<f64>,
    /// Where the measurement of the growth began: what remained, when, and the calls counted since.
    growth_from: Option<(f64, Duration, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    remaining: f64,
    reset: f64,
}

/// The growth is measured anew after so long, and counts from so many calls on.
const GROWTH_SPAN: Duration = Duration::from_secs(5);
const GROWTH_CALLS: f64 = 8.0;

impl Refill {
    /// Calls a second; nothing where it is not known.
    pub(super) fn rate(&self) -> Option<f64> {
        match (self.by_reset, self.by_growth) {
            (Some((reset, _)), Some(growth)) => Some(reset.max(growth)),
            (reset, growth) => reset.map(|(rate, _)| rate).or(growth),
        }
    }

    /// A call was counted.
    pub(super) fn counted(&mut self) {
        if let Some((_, _, calls)) = &mut self.growth_from {
            *calls += 1.0;
        }
    }

    /// An answer said what remains, and how long until the bucket is full.
    pub(super) fn told(&mut self, remaining: f64, reset: Option<Duration>, now: Duration) {
        self.measure_growth(remaining, now);
        let Some(reset) = reset.map(|reset| reset.as_secs_f64()) else { return };
        let Some(full) = self.reference.filter(|full| remaining < full.remaining) else {
            self.reference = Some(Seen { remaining, reset });
            return;
        };
        let (taken, later) = (full.remaining - remaining, reset - full.reset);
        if later <= -1.0 {
            // A bucket that drips is never full sooner with fewer calls left, so that this is none.
            return;
        }
        let rate =
            if later >= 1.0 { (taken / (later + 1.0)).max(taken / reset.max(1.0)) } else { taken / reset.max(1.0) };
        // Where the moment did not move, that is the least that the rate can be, which says nothing against a higher one.
        let says_little = later < 1.0 && self.by_reset.is_some_and(|(before, _)| rate < before);
        if !says_little && self.by_reset.is_none_or(|(_, weight)| taken >= weight / 2.0) {
            let weight = self.by_reset.map_or(taken, |(_, weight)| taken.max(weight * 0.99));
            self.by_reset = Some((rate, weight));
        }
    }

    /// A call was turned away, and the next fits after so long: what was seen before does not hold any more.
    pub(super) fn refused(&mut self, asked: Option<Duration>, reset: Option<Duration>) {
        let fullest = self.reference.take().map(|full| full.remaining + 1.0);
        self.growth_from = None;
        // The rate stands until something better is seen, which little is enough for.
        // What grew may have been a lump, as it is where a window slides.
        let rate = self.by_reset.map(|(rate, _)| rate).or(self.by_growth);
        self.by_reset = rate.map(|rate| (rate, 1.0));
        self.by_growth = None;
        let asked = asked.map(|asked| asked.as_secs_f64()).filter(|asked| *asked > 0.0);
        if let Some(asked) = asked
            && self.rate().is_none()
        {
            // The wait is rounded up to whole seconds, which hides a fast refill; all that there was until it is full
            // again tells more, unless that is so soon that it is rounded as much.
            let reset = reset.map(|reset| reset.as_secs_f64()).filter(|reset| *reset >= 2.0);
            let whole = fullest.zip(reset).map_or(0.0, |(fullest, reset)| fullest / reset);
            self.by_reset = Some(((1.0 / asked).max(whole), 1.0));
        }
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
            // A bucket that was full meanwhile let some go by, so that less than before is believed slowly.
            let rate = self
                .by_growth
                .map_or(found, |before| if found > before { found } else { before * 0.98 + found * 0.02 });
            self.by_growth = Some(rate);
        }
        if span >= GROWTH_SPAN && (grown >= GROWTH_CALLS || span >= GROWTH_SPAN * 12) {
            self.growth_from = Some((remaining, now, 0.0));
        }
    }
}
