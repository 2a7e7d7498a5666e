//! Exponential backoff: the delay before a failed call is retried, and when to give up. The only user of the `backoff`
//! crate.
//!
//! The queue stores the schedule (attempt number, due time); this module only turns an attempt number into a delay.
//! `backoff` applies its jitter after its cap, which turns a cap of 15 minutes into up to 22. Its jitter is therefore off;
//! the caller draws [`crate::jitter`], which applies below the cap.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

/// The backoff of failed calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The delay after the first failure.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
    /// Total time for tries and the delays between them.
    pub give_up_after: Duration,
}

/// Growth from one delay to the next.
const MULTIPLIER: f64 = 2.0;

impl RetryPolicy {
    /// The delay before the try that follows `attempts` failed ones, or `None` once `give_up_after` is used up.
    ///
    /// `jitter` places the delay between half of the exponential step and all of it. `at_least` is the wait that the API
    /// asked for; one beyond `max` is the account's to keep, until a call works.
    #[must_use]
    pub fn delay(&self, attempts: u32, tried: Duration, at_least: Option<Duration>, jitter: f64) -> Option<Duration> {
        if tried >= self.give_up_after {
            return None;
        }
        let step = self.step(attempts);
        let delay = step.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        Some(delay.max(at_least.filter(|asked| *asked <= self.max).unwrap_or_default()))
    }

    fn step(&self, attempts: u32) -> Duration {
        // 2^40 times anything is beyond every cap; the exponent is bounded so that the float stays finite.
        let doublings = i32::try_from(attempts.saturating_sub(1).min(40)).unwrap_or(40);
        let reached = self.initial.as_secs_f64() * MULTIPLIER.powi(doublings);
        let mut schedule = ExponentialBackoff {
            current_interval: Duration::try_from_secs_f64(reached).unwrap_or(self.max).min(self.max),
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: MULTIPLIER,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        schedule.next_backoff().unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(900),
        give_up_after: Duration::from_secs(259_200),
    };

    #[test]
    fn delays_double_up_to_the_cap() {
        let full = |attempts| POLICY.delay(attempts, Duration::ZERO, None, 1.0).unwrap().as_secs();
        assert_eq!([1, 2, 3, 4, 10, 11, 1000].map(full), [1, 2, 4, 8, 512, 900, 900]);
    }

    #[test]
    fn the_apis_own_wait_is_a_floor_up_to_the_cap() {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        assert_eq!(POLICY.delay(1, Duration::ZERO, Some(minute), 0.3), Some(minute));
        assert_eq!(POLICY.delay(1, Duration::ZERO, Some(day), 1.0), Some(POLICY.initial));
    }

    #[test]
    fn it_ends_when_the_time_is_used_up() {
        assert_eq!(POLICY.delay(3, POLICY.give_up_after, None, 0.5), None);
        assert!(POLICY.delay(3, POLICY.give_up_after - Duration::from_millis(1), None, 0.5).is_some());
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_never_over_the_cap_and_never_shrinks_by_more_than_the_jitter(
            attempts in 0_u32.., jitter in 0.0_f64..1.0, initial in 1_u64..100_000, max in 1_u64..100_000_000,
        ) {
            let initial = Duration::from_millis(initial);
            let policy = RetryPolicy { initial, max: initial.max(Duration::from_millis(max)), ..POLICY };
            let delay = policy.delay(attempts, Duration::ZERO, None, jitter).unwrap();
            prop_assert!(delay <= policy.max);
            prop_assert!(delay * 2 >= initial);
            let next = policy.delay(attempts.saturating_add(1), Duration::ZERO, None, jitter).unwrap();
            prop_assert!(next >= delay);
        }
    }
}
