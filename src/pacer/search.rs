//! The search for a rate that no answer reports: below one that was refused, above one that passed.
//!
//! What flowed in between two refusals is the rate only where nothing was left unused in between. A bucket that holds a
//! single call overflows at every call that comes a little late, so the rate is found by bisection: each refusal says
//! that it was too high, each run of calls that passed that it was not.

/// A rate this close below a refused one is near enough.
const NEAR: f64 = 1.02;

/// The largest step up, and the one beside a rate that was refused.
const STEP: f64 = 0.25;
const SMALL_STEP: f64 = 0.01;

/// Bounds of a rate, in calls a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Search {
    /// The highest rate at which a run of calls passed.
    passed: Option<f64>,
    /// The rate at which a call was last refused.
    refused: Option<f64>,
}

impl Search {
    /// A call was refused at `rate`, where one is known, and calls flowed in at `flowed_in` since the refusal before.
    /// Returns the rate to continue with: at least `least_share` of the one before.
    pub(super) fn refused(&mut self, rate: Option<f64>, flowed_in: f64, least_share: f64) -> f64 {
        let Some(rate) = rate else { return flowed_in };
        // A rate that passed only while a saved-up burst lasted does not count any more.
        self.passed = self.passed.filter(|passed| *passed < rate * 0.995);
        self.refused = Some(rate);
        self.passed.unwrap_or(0.0).max(flowed_in).clamp(rate * least_share, rate * 0.98)
    }

    /// A run of calls passed at `rate`; returns what to try next.
    pub(super) fn passed(&mut self, rate: f64) -> f64 {
        self.passed = Some(self.passed.map_or(rate, |passed| passed.max(rate)));
        match self.refused {
            Some(refused) if rate > refused => {
                // The limit was raised, or the refusal had another reason.
                self.refused = None;
                rate * (1.0 + SMALL_STEP)
            }
            Some(_) if self.is_near(rate) => rate * (1.0 + SMALL_STEP),
            Some(refused) => (rate * (1.0 + STEP)).min(f64::midpoint(rate, refused)),
            None => rate * (1.0 + STEP),
        }
    }

    /// Whether `rate` is just below one that was refused.
    pub(super) fn is_near(&self, rate: f64) -> bool {
        self.refused.is_some_and(|refused| rate * NEAR >= refused)
    }
}
