//! A bucket of tokens that fills at a steady rate: how the configured limits are kept.
//!
//! Not for the API's own limits, whose state the API tells: see [`super::quota`].

use std::time::Duration;

/// A bucket that fills at a steady rate and may be overdrawn: whoever overdraws it waits until it is even again.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Tokens a second.
    rate: f64,
    /// The most that it holds.
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full bucket. A rate or burst of nothing is taken as the smallest that still moves.
    #[must_use]
    pub fn new(rate: f64, burst: f64) -> Self {
        let burst = burst.max(1.0);
        Self { rate: rate.max(1e-6), burst, level: burst, at: Duration::ZERO }
    }

    /// How long whoever takes so many tokens now waits before using them.
    ///
    /// A single take larger than the whole bucket is let through when the bucket is full, and paid off after.
    #[must_use]
    pub fn wait(&self, tokens: f64, now: Duration) -> Duration {
        let short = tokens.min(self.burst) - self.level_at(now);
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((short / self.rate).min(1e9)) }
    }

    /// Takes tokens, whether they are there or not.
    pub fn take(&mut self, tokens: f64, now: Duration) {
        self.level = self.level_at(now) - tokens;
        self.at = self.at.max(now);
    }

    /// How many tokens there are; fewer than none where it is overdrawn.
    #[must_use]
    pub fn level_at(&self, now: Duration) -> f64 {
        (self.level + now.saturating_sub(self.at).as_secs_f64() * self.rate).min(self.burst)
    }

    /// Tokens a second.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes all that was done with it for done before the clock began: it was full so long ago.
    pub fn began_before(&mut self, ago: Duration) {
        self.take(0.0, ago);
        self.at = Duration::ZERO;
    }

    /// Changes the rate from now on. Those who wait already keep their times, so that nobody new comes between them.
    pub fn set_rate(&mut self, rate: f64, now: Duration) {
        self.take(0.0, now);
        let rate = rate.max(1e-6);
        if self.level < 0.0 {
            self.level *= rate / self.rate;
        }
        self.rate = rate;
    }
}
