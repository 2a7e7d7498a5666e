//! Medians, percentiles, and what a figure is worth: pure functions, tried by [`crate::selftest`].

use std::{fmt, time::Duration};

/// Beyond this, somebody else's work is part of every figure (the same runs then differed by a factor of up to two).
pub const BUSY_PERCENT: f64 = 8.0;

/// Beyond this the disk is so slow that it, and not the worker, is measured.
pub const SLOW_SYNC: Duration = Duration::from_millis(1);

/// The value that `share` (0 to 1) of the values do not exceed; 0 of no values.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The share is between 0 and 1, so the rank is between 0 and the length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the length")]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The middle value, or the mean of the two middle ones; 0 of no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => upper,
        length => f64::midpoint(upper, sorted.get(length / 2 - 1).copied().unwrap_or(upper)),
    }
}

/// Whether a figure may reach or miss its goal at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It counts.
    Verdict,
    /// Too little was done for it.
    Quick,
    /// The disk was too slow.
    SlowDisk,
}

impl Worth {
    /// What a run on this disk is worth.
    pub fn of(quick: bool, sync_p50: Duration) -> Self {
        match (quick, sync_p50 > SLOW_SYNC) {
            (_, true) => Self::SlowDisk,
            (true, false) => Self::Quick,
            (false, false) => Self::Verdict,
        }
    }
}

/// What is wished of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Goal {
    /// Whether a figure meets its target, or why that cannot be decided.
    pub fn verdict(self, figure: f64, worth: Worth) -> &'static str {
        let reached = match self {
            Self::AtLeast(goal) => figure >= goal,
            Self::AtMost(goal) => figure <= goal,
        };
        match worth {
            Worth::SlowDisk => "no verdict: fdatasync p50 is above 1 ms",
            Worth::Quick => "no verdict: a quick run",
            Worth::Verdict if reached => "reached",
            Worth::Verdict => "missed",
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "≥ {goal}"),
            Self::AtMost(goal) => write!(f, "≤ {goal}"),
        }
    }
}
