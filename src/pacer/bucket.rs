//! A token bucket, which enforces the configured limits or a measured rate.
//!
//! Limits that the API reports are followed by [`super::reported`] instead.

use std::time::Duration;

/// A token bucket that may be overdrawn: a call that overdraws it waits until the balance is back at zero.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBucket {
    /// Tokens a second.
    rate: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

impl TokenBucket {
    /// A full bucket. Rate and burst are raised to the least that still lets tokens through.
    #[must_use]
    pub fn new(rate: f64, burst: f64) -> Self {
        let burst = burst.max(1.0);
        Self { rate: rate.max(1e-6), burst, level: burst, at: Duration::ZERO }
    }

    /// How long to wait before `tokens` taken now may be used.
    ///
    /// A take larger than the bucket's capacity passes when the bucket is full, and is paid off afterwards.
    #[must_use]
    pub fn wait(&self, tokens: f64, now: Duration) -> Duration {
        let short = tokens.min(self.burst) - self.level_at(now);
        if short <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((short / self.rate).min(1e9)) }
    }

    /// Takes tokens whether they are there or not; a negative number puts them back.
    pub fn take(&mut self, tokens: f64, now: Duration) {
        self.level = self.level_at(now) - tokens;
        self.at = self.at.max(now);
    }

    /// Tokens in the bucket; negative where it is overdrawn.
    #[must_use]
    pub fn level_at(&self, now: Duration) -> f64 {
        (self.level + now.saturating_sub(self.at).as_secs_f64() * self.rate).min(self.burst)
    }

    /// Tokens a second.
    #[must_use]
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// The most tokens that it holds.
    pub(super) const fn burst(&self) -> f64 {
        self.burst
    }

    /// Makes `origin` the new zero of time, so that takes recorded up to then are before the clock's start.
    pub fn rebase(&mut self, origin: Duration) {
        self.take(0.0, origin);
        self.at = Duration::ZERO;
    }

    /// Changes the rate from now on. Calls that wait already keep their times, so that no later call comes between them.
    pub fn set_rate(&mut self, rate: f64, now: Duration) {
        self.take(0.0, now);
        let rate = rate.max(1e-6);
        if self.level < 0.0 {
            self.level *= rate / self.rate;
        }
        self.rate = rate;
    }
}
