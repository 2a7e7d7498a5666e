//! How many calls may be under way at once: as many as configured, fewer where the API shows that it is overloaded.
//!
//! Each call is one sample, never a chain of tries. Times are compared within a class of body sizes only, so that large
//! bodies do not look slow; and slowness counts only where it comes with no more throughput, so that an API that is
//! merely far away, or a thin link that is filled, is not taken for an overloaded one.
//!
//! Invariant: the limit lies between one and what is configured.

use std::time::Duration;

/// How a call went, as far as load is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It was answered.
    Fine,
    /// Turned away for a limit.
    Refused,
    /// An answer of 5xx, a reset, a stall, or silence.
    Overloaded,
    /// It says nothing, e.g. because its file could not be read.
    Nothing,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// How it went.
    pub load: Load,
    /// When it was let out.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// Its body.
    pub bytes: u64,
}

/// How many calls may be under way.
#[derive(Debug, Clone)]
pub struct Flight {
    most: usize,
    limit: f64,
    /// Calls that began before this say nothing new about overload.
    cut_at: Option<Duration>,
    /// The best time seen in each class of sizes, in seconds.
    best: [Option<f64>; CLASSES],
    refused: u32,
    round: Round,
    /// What the round before moved, in bytes a second.
    before: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Round {
    began: Duration,
    calls: f64,
    slowness: f64,
    moved: f64,
}

/// Sizes from 64 KiB to beyond 16 MiB, each class four times the one before.
const CLASSES: usize = 6;

/// An overload leaves so much, and slowness so much.
const CUT: f64 = 0.7;
const SLOW_CUT: f64 = 0.85;

/// A round is slow where its calls took so many times the best, and so much longer: below, it is noise.
const SLOW: f64 = 4.0;
const NOISE: f64 = 0.25;

/// What a call costs beside its body, in bytes, so that small calls count as throughput too.
const CALL_BYTES: f64 = 16_384.0;

/// So many refusals within a round are a burst.
const BURST: u32 = 4;

impl Flight {
    /// As many as configured.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            limit: most as f64,
            cut_at: None,
            best: [None; CLASSES],
            refused: 0,
            round: Round::default(),
            before: None,
        }
    }

    /// How many calls may be under way now.
    #[must_use]
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between one and a usize")]
        let limit = self.limit as usize;
        limit.clamp(1, self.most)
    }

    /// The configured number.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// Learns from a call.
    pub fn note(&mut self, sample: &Sample, now: Duration) {
        match sample.load {
            Load::Nothing => {}
            Load::Overloaded => self.cut(CUT, 1.0, sample, now),
            Load::Refused => {
                self.refused += 1;
                if self.refused >= BURST {
                    self.refused = 0;
                    self.cut(CUT, 1.0, sample, now);
                }
            }
            Load::Fine => {
                self.limit = (self.limit + 1.0 / self.limit).min(self.bound());
                self.measure(sample, now);
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    const fn bound(&self) -> f64 {
        self.most as f64
    }

    /// Cuts the limit, once for all calls that were under way together.
    fn cut(&mut self, share: f64, least: f64, sample: &Sample, now: Duration) {
        if self.cut_at.is_none_or(|cut_at| sample.began > cut_at) {
            self.limit = (self.limit * share).max(least.min(self.limit));
            self.cut_at = Some(now);
            self.round = Round { began: now, ..Round::default() };
        }
    }

    fn measure(&mut self, sample: &Sample, now: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a body is far below 2^53 bytes")]
        let bytes = sample.bytes as f64;
        let class = (sample.bytes >> 16).checked_ilog2().map_or(0, |log| log as usize / 2 + 1).min(CLASSES - 1);
        let Some(best) = self.best.get_mut(class) else { return };
        let took = sample.took.as_secs_f64();
        // It fades, so that a route that has become longer for good is the new measure in the end.
        let best = *best.insert(best.map_or(took, |best| took.min(best * 1.001)));
        let slow = took > best * SLOW && took - best > NOISE;
        self.round.calls += 1.0;
        self.round.slowness += if slow { 1.0 } else { 0.0 };
        self.round.moved += bytes + CALL_BYTES;
        if self.round.calls < self.limit.max(8.0) {
            return;
        }
        let span = now.saturating_sub(self.round.began).as_secs_f64().max(1e-6);
        let (moved, slowness) = (self.round.moved / span, self.round.slowness / self.round.calls);
        let grows = self.before.is_none_or(|before| moved > before * 1.1);
        self.before = Some(moved);
        self.refused = 0;
        self.round = Round { began: now, ..Round::default() };
        if slowness > 0.5 && !grows {
            // Never below a quarter: a link that is full is not helped by sending one at a time.
            self.cut(SLOW_CUT, (self.bound() / 4.0).max(1.0), sample, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn sample(load: Load, began: u64, took: u64, bytes: u64) -> Sample {
        Sample { load, began: MS(began), took: MS(took), bytes }
    }

    #[test]
    fn calls_that_fail_together_cut_once_and_successes_win_it_back() {
        let mut flight = Flight::new(16);
        assert_eq!(flight.limit(), 16);
        for _ in 0..16 {
            flight.note(&sample(Load::Overloaded, 0, 100, 1), MS(100));
        }
        assert_eq!(flight.limit(), 11);
        flight.note(&sample(Load::Overloaded, 200, 100, 1), MS(300));
        assert_eq!(flight.limit(), 7);
        // One more each round of successes.
        for _ in 0..8 {
            flight.note(&sample(Load::Fine, 300, 100, 1), MS(400));
        }
        assert_eq!(flight.limit(), 8);
        for _ in 0..1000 {
            flight.note(&sample(Load::Fine, 300, 100, 1), MS(400));
        }
        assert_eq!(flight.limit(), 16);
    }

    #[test]
    fn one_call_is_always_allowed() {
        let mut flight = Flight::new(4);
        for at in 1..100 {
            flight.note(&sample(Load::Overloaded, at * 10, 5, 1), MS(at * 10 + 5));
        }
        assert_eq!(flight.limit(), 1);
    }

    #[test]
    fn an_api_that_is_far_away_is_not_overloaded() {
        let mut flight = Flight::new(16);
        for at in 0..500 {
            flight.note(&sample(Load::Fine, at * 1000, 900 + at % 200, 1000), MS(at * 1000 + 900));
            // Large ones take far longer; they are measured against large ones.
            flight.note(&sample(Load::Fine, at * 1000, 30_000, 20_000_000), MS(at * 1000 + 950));
        }
        assert_eq!(flight.limit(), 16);
    }

    #[test]
    fn times_on_loopback_are_noise() {
        let mut flight = Flight::new(16);
        for at in 0..500 {
            flight.note(&sample(Load::Fine, at * 10, if at % 7 == 0 { 1 } else { 40 }, 1000), MS(at * 10));
        }
        assert_eq!(flight.limit(), 16);
    }

    #[test]
    fn a_healthy_api_gets_every_call_from_the_first_on_and_again_soon_after_a_failure() {
        let mut flight = Flight::new(32);
        let mut calls = 0;
        // Seven hundred calls a second, some of them held up by a disk or a garbage collector for a moment.
        for at in 0..4000 {
            assert_eq!(flight.limit(), 32, "after {at} calls");
            let took = if at % 50 == 0 { 600 } else { 20 + at % 90 };
            flight.note(&sample(Load::Fine, at * 10 / 7, took, 67_000), MS(at * 10 / 7 + took));
        }
        flight.note(&sample(Load::Overloaded, 7000, 100, 67_000), MS(7100));
        while flight.limit() < 32 {
            calls += 1;
            flight.note(&sample(Load::Fine, 7100, 50, 67_000), MS(7150 + calls));
        }
        assert!(calls < 300, "{calls}");
    }

    #[test]
    fn calls_that_become_slow_for_nothing_are_made_fewer() {
        let mut flight = Flight::new(16);
        for at in 0..100 {
            flight.note(&sample(Load::Fine, at * 10, 100, 1000), MS(at * 10));
        }
        assert_eq!(flight.limit(), 16);
        for at in 0..400 {
            flight.note(&sample(Load::Fine, 1000 + at * 100, 1600, 1000), MS(2600 + at * 100));
        }
        assert!((4..16).contains(&flight.limit()), "{}", flight.limit());
    }

    #[test]
    fn a_burst_of_refusals_cuts_and_single_ones_do_not() {
        let mut flight = Flight::new(16);
        for at in 0..60 {
            flight.note(&sample(if at % 20 == 0 { Load::Refused } else { Load::Fine }, at, 1, 1), MS(at));
        }
        assert_eq!(flight.limit(), 16);
        for _ in 0..8 {
            flight.note(&sample(Load::Refused, 100, 1, 1), MS(101));
        }
        assert_eq!(flight.limit(), 11);
    }
}
