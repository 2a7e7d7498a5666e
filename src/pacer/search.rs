//! The search for a rate that nobody tells: below one that was refused, above one that was let through.
//!
//! What flowed in between two refusals is the rate only where nothing was left unused meanwhile. A bucket that holds a
//! single call runs over at every call that comes a little late, so that there it is found by halving: each refusal
//! says that the rate was too high, each run of calls that passed that it was not.

/// Near enough to a rate that was refused.
const NEAR: f64 = 1.02;

/// Bounds of a rate, in calls a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// The highest rate at which a run of calls passed.
    passed: Option<f64>,
    /// The rate at which a call was last refused.
    refused: Option<f64>,
    /// By how much it grows where nothing is known to be too high.
    step: f64,
}

/// It grows by so much at most, and by so little at first where a rate that was refused has come to pass.
const STEP: f64 = 0.25;
const FIRST_STEP: f64 = 0.01;

impl Default for Search {
    fn default() -> Self {
        Self { passed: None, refused: None, step: STEP }
    }
}

impl Search {
    /// A call was refused at this rate, if there was one, and so much flowed in since the refusal before; returns how
    /// fast to go on.
    pub(super) fn refused(&mut self, rate: Option<f64>, flowed_in: f64) -> f64 {
        let Some(rate) = rate else { return flowed_in };
        // A rate that passed for a while because much had been saved up does not any more.
        self.passed = self.passed.filter(|passed| *passed < rate * 0.995);
        self.refused = Some(rate);
        self.passed.map_or(flowed_in, |passed| passed.max(flowed_in)).min(rate * 0.98)
    }

    /// A run of calls passed at this rate; returns what to try next.
    pub(super) fn passed(&mut self, rate: f64) -> f64 {
        self.passed = Some(self.passed.map_or(rate, |passed| passed.max(rate)));
        match self.refused {
            Some(refused) if rate > refused => {
                // It has become more than it was, or the refusal had another reason.
                self.refused = None;
                self.step = FIRST_STEP;
                rate * (1.0 + FIRST_STEP)
            }
            Some(_) if self.is_near(rate) => rate * (1.0 + FIRST_STEP),
            Some(refused) => (rate * (1.0 + STEP)).min(f64::midpoint(rate, refused)),
            None => {
                self.step = (self.step * 2.0).min(STEP);
                rate * (1.0 + self.step)
            }
        }
    }

    /// Whether there is a rate that was refused, and this one lies close below it.
    pub(super) fn is_near(&self, rate: f64) -> bool {
        self.refused.is_some_and(|refused| rate * NEAR >= refused)
    }
}
