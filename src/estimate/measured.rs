//! How fast calls were made while any was under way, and so how fast the work goes where no limit slows it down.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Constraint, Throttle, WorkLeft};

/// A shorter time without a call is part of the work: results are written in it.
const LONGEST_GAP: Duration = Duration::from_millis(250);

/// The latest work counts: after twice this many busy seconds, the sums are halved.
const HORIZON: f64 = 600.0;

/// Fewer calls say more about chance than about speed.
const FEWEST_CALLS: f64 = 8.0;

/// Sums over the calls that did their work, of their time and their bodies' size, and how long any call was under way.
///
/// Waits for windows, limits, pauses and outages are not in it, so it holds after each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSpeed {
    calls: f64,
    /// Of bodies, in megabytes.
    size: f64,
    /// In seconds.
    took: f64,
    size_squared: f64,
    size_took: f64,
    busy: f64,
    /// Calls that a limit held back.
    #[serde(default)]
    held_back: f64,
}

impl MeasuredSpeed {
    /// How many seconds a call takes, and how many more for each megabyte.
    fn cost(&self) -> (f64, f64) {
        let (mean_size, mean_took) = (self.size / self.calls, self.took / self.calls);
        let variance = self.size_squared / self.calls - mean_size * mean_size;
        let covariance = self.size_took / self.calls - mean_size * mean_took;
        let a_megabyte = if variance > mean_size * mean_size * 1e-3 { (covariance / variance).max(0.0) } else { 0.0 };
        let a_call = mean_took - a_megabyte * mean_size;
        if a_call > 0.0 { (a_call, a_megabyte) } else { (0.0, mean_took / mean_size) }
    }

    /// The speed, for this work; `None` where too little was measured, or a limit, which is known, decided on it.
    pub(super) fn throttle(&self, work: &WorkLeft) -> Option<Throttle> {
        let is_limited = self.held_back > self.calls / 2.0;
        if is_limited || self.calls < FEWEST_CALLS || self.busy <= 0.0 || self.took <= 0.0 {
            return None;
        }
        let (a_call, a_megabyte) = self.cost();
        let amount = a_call * work.requests() + a_megabyte * work.bytes / 1e6;
        Some(Throttle::speed(Constraint::MeasuredRate, amount, self.took / self.busy))
    }
}

/// Measures the calls of an account. `now` is the time since any fixed moment.
#[derive(Debug, Clone, Default)]
pub struct SpeedMeter {
    measured: MeasuredSpeed,
    in_flight: u32,
    at: Option<Duration>,
}

impl SpeedMeter {
    /// Goes on from what an earlier process measured.
    #[must_use]
    pub fn continuing(measured: MeasuredSpeed) -> Self {
        Self { measured, ..Self::default() }
    }

    /// What was measured so far.
    #[must_use]
    pub const fn measured(&self) -> MeasuredSpeed {
        self.measured
    }

    fn pass(&mut self, now: Duration) {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        let busy = if self.in_flight > 0 { passed } else { passed.min(LONGEST_GAP) };
        self.measured.busy += busy.as_secs_f64();
        self.at = Some(now);
    }

    /// A call goes out; a limit may have held it back before.
    pub fn on_sent(&mut self, now: Duration, held_back: bool) {
        self.pass(now);
        self.measured.held_back += f64::from(u8::from(held_back));
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A call has ended; one that did its work says how long it took, and how large its body was.
    pub fn on_ended(&mut self, now: Duration, done: Option<(Duration, u64)>) {
        self.pass(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some((took, bytes)) = done else { return };
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^52 bytes")]
        let (size, took) = (bytes as f64 / 1e6, took.as_secs_f64());
        let sums = &mut self.measured;
        sums.calls += 1.0;
        sums.size += size;
        sums.took += took;
        sums.size_squared += size * size;
        sums.size_took += size * took;
        if sums.busy > 2.0 * HORIZON {
            for sum in [
                &mut sums.calls,
                &mut sums.size,
                &mut sums.took,
                &mut sums.size_squared,
                &mut sums.size_took,
                &mut sums.busy,
                &mut sums.held_back,
            ] {
                *sum /= 2.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_between_calls_are_no_part_of_the_speed() {
        let mut meter = SpeedMeter::default();
        for hour in 0..20 {
            let sent = 3600 * hour * SECOND;
            meter.on_sent(sent, false);
            meter.on_sent(sent, false);
            meter.on_ended(sent + SECOND, Some((SECOND, 0)));
            meter.on_ended(sent + SECOND, Some((SECOND, 0)));
        }
        let work = WorkLeft { files: 100.0, ..WorkLeft::default() };
        let throttle = meter.measured().throttle(&work).unwrap();
        // Two at once, a second each, and a quarter of a second for what is done between them.
        let seconds = throttle.amount / throttle.rate;
        assert!((seconds - 50.0 * 1.25).abs() < 2.0, "{seconds}");
    }

    #[test]
    fn large_bodies_are_known_to_take_longer_before_most_of_them_are_sent() {
        let mut meter = SpeedMeter::default();
        let mut now = Duration::ZERO;
        for number in 0..100_u32 {
            let megabytes = if number % 10 == 0 { 10 } else { 0 };
            let took = Duration::from_millis(100) + SECOND * megabytes / 2;
            meter.on_sent(now, false);
            now += took;
            meter.on_ended(now, Some((took, u64::from(megabytes) * 1_000_000)));
        }
        let work = WorkLeft { files: 10.0, bytes: 100e6, ..WorkLeft::default() };
        let throttle = meter.measured().throttle(&work).unwrap();
        let seconds = throttle.amount / throttle.rate;
        assert!((seconds - 51.0).abs() < 1.0, "{seconds}");
    }
}
