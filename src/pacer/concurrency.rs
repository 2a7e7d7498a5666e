//! How many calls may be in flight at once: an AIMD limit (additive increase, multiplicative decrease) below the configured
//! maximum.
//!
//! Each call is one sample, never a chain of tries. Durations are compared within a class of body sizes, so that large
//! bodies do not look slow. Slowness counts only where throughput does not grow with it, so that a distant API or a full
//! link is not taken for an overloaded one.
//!
//! Invariant: the limit is between one and the configured maximum.

use std::time::Duration;

/// What a call says about load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSignal {
    /// It was answered.
    Ok,
    /// Refused by a limit.
    Refused,
    /// A 5xx answer, a reset, a stall, or no answer.
    Overloaded,
    /// It says nothing, for example because its file could not be read.
    None,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What it says about load.
    pub signal: LoadSignal,
    /// When it was sent.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// Size of the body.
    pub bytes: u64,
}

/// The AIMD limit on calls in flight.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    max: usize,
    limit: f64,
    /// The last decrease; calls that began before it say nothing new.
    decreased_at: Option<Duration>,
    /// The limit at which calls failed last, until it has been exceeded without a failure.
    failed_at: Option<f64>,
    /// The shortest duration in each class of sizes, in seconds.
    best: [Option<f64>; CLASSES],
    refused: u32,
    window: SampleWindow,
    /// Throughput of the previous window, in bytes a second.
    last_throughput: Option<f64>,
}

/// Sums over about one limit's worth of calls.
#[derive(Debug, Clone, Copy, Default)]
struct SampleWindow {
    began: Duration,
    calls: f64,
    slow: f64,
    bytes: f64,
}

/// Size classes from 64 KiB to beyond 16 MiB, each four times the one before.
const CLASSES: usize = 6;

/// What a decrease leaves of the limit: after an overload, and after a slow window. When an overload
/// left 0.7, a link on which one call in 500 is reset lost an eighth of its throughput.
const DECREASE_RATIO: f64 = 0.9;
const SLOW_DECREASE_RATIO: f64 = 0.85;

/// By how much each success raises the limit from this share of where calls failed last: where an API allows ten calls at
/// once, each try of an eleventh costs a decrease. Below it is one for each round of successes.
const CAREFUL_STEP: f64 = 1.0 / 64.0;
const CAREFUL_FROM: f64 = 0.85;

/// A call is slow if it takes this many times the best duration, and this many seconds longer; less is noise.
const SLOW_FACTOR: f64 = 4.0;
const SLOW_SECONDS: f64 = 0.25;

/// Bytes that a call is worth beside its body, so that small calls count as throughput too.
const CALL_BYTES: f64 = 16_384.0;

/// This many refusals within a window count as an overload.
const REFUSAL_BURST: u32 = 4;

impl ConcurrencyLimit {
    /// Starts at the maximum.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            max,
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            limit: max as f64,
            decreased_at: None,
            failed_at: None,
            best: [None; CLASSES],
            refused: 0,
            window: SampleWindow::default(),
            last_throughput: None,
        }
    }

    /// How many calls may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between one and a usize")]
        let limit = self.limit as usize;
        limit.clamp(1, self.max)
    }

    /// Learns from a call.
    pub fn on_sample(&mut self, sample: &Sample, now: Duration) {
        match sample.signal {
            LoadSignal::None => {}
            LoadSignal::Overloaded => self.fail(sample, now),
            LoadSignal::Refused => {
                self.refused += 1;
                if self.refused >= REFUSAL_BURST {
                    self.refused = 0;
                    self.fail(sample, now);
                }
            }
            LoadSignal::Ok => {
                self.limit = (self.limit + self.step()).min(self.bound());
                self.measure(sample, now);
            }
        }
    }

    /// By how much a success raises the limit.
    fn step(&mut self) -> f64 {
        self.failed_at.take_if(|failed_at| self.limit >= *failed_at + 1.0);
        let is_careful = self.failed_at.is_some_and(|failed_at| self.limit >= failed_at * CAREFUL_FROM);
        if is_careful { CAREFUL_STEP } else { 1.0 / self.limit }
    }

    fn fail(&mut self, sample: &Sample, now: Duration) {
        let limit = self.limit;
        if self.decrease(DECREASE_RATIO, 1.0, sample, now) {
            self.failed_at = Some(limit);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    const fn bound(&self) -> f64 {
        self.max as f64
    }

    /// Decreases the limit, once for all calls that were in flight together, and not below `least`; returns whether it did.
    fn decrease(&mut self, ratio: f64, least: f64, sample: &Sample, now: Duration) -> bool {
        let is_new = self.decreased_at.is_none_or(|decreased_at| sample.began > decreased_at);
        if is_new {
            self.limit = (self.limit * ratio).max(least.min(self.limit));
            self.decreased_at = Some(now);
            self.window = SampleWindow { began: now, ..SampleWindow::default() };
        }
        is_new
    }

    fn measure(&mut self, sample: &Sample, now: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        let bytes = sample.bytes as f64;
        let class = (sample.bytes >> 16).checked_ilog2().map_or(0, |log| log as usize / 2 + 1).min(CLASSES - 1);
        let Some(best) = self.best.get_mut(class) else { return };
        let took = sample.took.as_secs_f64();
        // The best fades, so that a route that has become longer for good becomes the new measure.
        let best = *best.insert(best.map_or(took, |best| took.min(best * 1.001)));
        let is_slow = took > best * SLOW_FACTOR && took - best > SLOW_SECONDS;
        self.window.calls += 1.0;
        self.window.slow += if is_slow { 1.0 } else { 0.0 };
        self.window.bytes += bytes + CALL_BYTES;
        if self.window.calls < self.limit.max(8.0) {
            return;
        }
        let span = now.saturating_sub(self.window.began).as_secs_f64().max(1e-6);
        let (throughput, slow_share) = (self.window.bytes / span, self.window.slow / self.window.calls);
        let grows = self.last_throughput.is_none_or(|last| throughput > last * 1.1);
        self.last_throughput = Some(throughput);
        self.refused = 0;
        self.window = SampleWindow { began: now, ..SampleWindow::default() };
        if slow_share > 0.5 && !grows {
            // Not below a quarter of the maximum: a full link is not helped by sending one call at a time.
            self.decrease(SLOW_DECREASE_RATIO, (self.bound() / 4.0).max(1.0), sample, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn sample(signal: LoadSignal, began: u64, took: u64, bytes: u64) -> Sample {
        Sample { signal, began: MS(began), took: MS(took), bytes }
    }

    #[test]
    fn calls_that_fail_together_cut_once_and_successes_win_it_back() {
        let mut limit = ConcurrencyLimit::new(16);
        assert_eq!(limit.limit(), 16);
        for _ in 0..16 {
            limit.on_sample(&sample(LoadSignal::Overloaded, 0, 100, 1), MS(100));
        }
        assert_eq!(limit.limit(), 14);
        for at in [200, 400] {
            limit.on_sample(&sample(LoadSignal::Overloaded, at, 100, 1), MS(at + 100));
        }
        assert_eq!(limit.limit(), 11);
        for _ in 0..30 {
            limit.on_sample(&sample(LoadSignal::Ok, 500, 100, 1), MS(600));
        }
        assert_eq!(limit.limit(), 12);
        for _ in 0..1000 {
            limit.on_sample(&sample(LoadSignal::Ok, 300, 100, 1), MS(400));
        }
        assert_eq!(limit.limit(), 16);
    }

    #[test]
    fn one_call_is_always_allowed() {
        let mut limit = ConcurrencyLimit::new(4);
        for at in 1..100 {
            limit.on_sample(&sample(LoadSignal::Overloaded, at * 10, 5, 1), MS(at * 10 + 5));
        }
        assert_eq!(limit.limit(), 1);
    }

    #[test]
    fn an_api_that_is_far_away_is_not_overloaded() {
        let mut limit = ConcurrencyLimit::new(16);
        for at in 0..500 {
            limit.on_sample(&sample(LoadSignal::Ok, at * 1000, 900 + at % 200, 1000), MS(at * 1000 + 900));
            // Large ones take far longer; they are measured against large ones.
            limit.on_sample(&sample(LoadSignal::Ok, at * 1000, 30_000, 20_000_000), MS(at * 1000 + 950));
        }
        assert_eq!(limit.limit(), 16);
    }

    #[test]
    fn times_on_loopback_are_noise() {
        let mut limit = ConcurrencyLimit::new(16);
        for at in 0..500 {
            limit.on_sample(&sample(LoadSignal::Ok, at * 10, if at % 7 == 0 { 1 } else { 40 }, 1000), MS(at * 10));
        }
        assert_eq!(limit.limit(), 16);
    }

    #[test]
    fn a_healthy_api_gets_every_call_from_the_first_on_and_again_soon_after_a_failure() {
        let mut limit = ConcurrencyLimit::new(32);
        let mut calls = 0;
        // Seven hundred calls a second, some of them held up by a disk or a garbage collector for a moment.
        for at in 0..4000 {
            assert_eq!(limit.limit(), 32, "after {at} calls");
            let took = if at % 50 == 0 { 600 } else { 20 + at % 90 };
            limit.on_sample(&sample(LoadSignal::Ok, at * 10 / 7, took, 67_000), MS(at * 10 / 7 + took));
        }
        limit.on_sample(&sample(LoadSignal::Overloaded, 7000, 100, 67_000), MS(7100));
        while limit.limit() < 32 {
            calls += 1;
            limit.on_sample(&sample(LoadSignal::Ok, 7100, 50, 67_000), MS(7150 + calls));
        }
        assert!(calls < 300, "{calls}");
    }

    #[test]
    fn calls_that_become_slow_for_nothing_are_made_fewer() {
        let mut limit = ConcurrencyLimit::new(16);
        for at in 0..100 {
            limit.on_sample(&sample(LoadSignal::Ok, at * 10, 100, 1000), MS(at * 10));
        }
        assert_eq!(limit.limit(), 16);
        for at in 0..400 {
            limit.on_sample(&sample(LoadSignal::Ok, 1000 + at * 100, 1600, 1000), MS(2600 + at * 100));
        }
        assert!((4..16).contains(&limit.limit()), "{}", limit.limit());
    }

    #[test]
    fn an_api_that_allows_ten_calls_at_once_is_used_by_nine_to_ten() {
        let mut limit = ConcurrencyLimit::new(32);
        let (mut within, mut failed) = (0, 0);
        // Rounds of calls that begin together; the eleventh and those after it are turned away.
        for round in 0..1000 {
            let at_once = limit.limit();
            for call in 1..=at_once {
                let signal = if call > 10 { LoadSignal::Overloaded } else { LoadSignal::Ok };
                limit.on_sample(&sample(signal, round * 100 + 1, 50, 1), MS(round * 100 + 51));
            }
            if round >= 100 {
                (within, failed) = (within + at_once.min(10), failed + usize::from(at_once > 10));
            }
        }
        assert!(within >= 9 * 900 && failed <= 150, "{within} calls in 900 rounds, {failed} rounds with failures");
    }

    #[test]
    fn a_burst_of_refusals_cuts_and_single_ones_do_not() {
        let mut limit = ConcurrencyLimit::new(16);
        for at in 0..60 {
            limit.on_sample(&sample(if at % 20 == 0 { LoadSignal::Refused } else { LoadSignal::Ok }, at, 1, 1), MS(at));
        }
        assert_eq!(limit.limit(), 16);
        for _ in 0..8 {
            limit.on_sample(&sample(LoadSignal::Refused, 100, 1, 1), MS(101));
        }
        assert_eq!(limit.limit(), 14);
    }
}
