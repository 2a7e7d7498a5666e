//! Recognises a limit that counts in fixed windows, e.g. so many calls in each hour of the clock, by its reports.
//!
//! The API documents none, but a gateway may have them. Only the estimate of the end uses this: between two windows nothing
//! flows in, which a rate cannot say. Calls are paced by what remains.

use std::time::Duration;

/// Reports round the end of a window up to whole seconds.
const SLACK: Duration = Duration::from_millis(1500);

/// So long, and over so many calls, the end of a window must not move: that of a GCRA bucket moves with each call, or what
/// remains grows.
const STILL_FOR: Duration = Duration::from_secs(5);
const STILL_CALLS: f64 = 3.0;

/// How long windows are, until two of them have been seen.
const USUAL: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(86_400)];

/// What is known of a limit's windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WindowFacts {
    /// Calls in each.
    pub(super) count: f64,
    /// Calls left in this one.
    pub(super) left: f64,
    pub(super) ends_in: Duration,
    pub(super) every: Duration,
    /// Whether one was seen from its beginning; else they may be larger.
    pub(super) is_whole: bool,
}

/// The window of the latest reports.
#[derive(Debug, Clone, Copy)]
struct ReportedWindow {
    /// What remained by its first report, and when that was.
    first: f64,
    since: Duration,
    ends: Duration,
    remaining: f64,
}

/// Follows the reports on one limit.
#[derive(Debug, Clone, Default)]
pub(super) struct FixedWindow {
    window: Option<ReportedWindow>,
    is_fixed: bool,
    /// The most calls that remained in this window and the one before.
    counts: [f64; 2],
    /// The longest time to the end of a window.
    longest: Duration,
    /// The shortest time between the ends of two.
    apart: Option<Duration>,
}

impl FixedWindow {
    /// An answer, the newest so far, reported the calls that remain and the time until all are there again.
    pub(super) fn on_report(&mut self, remaining: f64, reset: Duration, now: Duration) {
        let ends = now.saturating_add(reset);
        self.longest = self.longest.max(reset);
        match &mut self.window {
            Some(window) if ends.abs_diff(window.ends) <= SLACK => {
                window.remaining = remaining;
                let is_still = now.saturating_sub(window.since) >= STILL_FOR;
                self.is_fixed |= is_still && window.first - remaining >= STILL_CALLS;
                self.counts[0] = self.counts[0].max(remaining + 1.0);
            }
            before => {
                let over = before.filter(|window| now + SLACK >= window.ends && ends > window.ends);
                match over {
                    Some(over) if self.is_fixed => {
                        let apart = ends.saturating_sub(over.ends);
                        self.apart = Some(self.apart.map_or(apart, |before| before.min(apart)));
                    }
                    _ => (self.is_fixed, self.apart, self.longest) = (false, None, reset),
                }
                self.counts = [remaining + 1.0, self.counts[0]];
                *before = Some(ReportedWindow { first: remaining, since: now, ends, remaining });
            }
        }
    }

    /// What is known of the windows; nothing where they are not fixed.
    pub(super) fn known(&self, now: Duration) -> Option<WindowFacts> {
        let window = self.window.filter(|_| self.is_fixed)?;
        let usual = || USUAL.into_iter().find(|usual| self.longest <= *usual + SLACK).unwrap_or(self.longest);
        // While nothing was sent, windows went by unseen.
        let every = self.apart.filter(|apart| *apart <= self.longest * 3 / 2).unwrap_or_else(usual);
        let count = if self.apart.is_some() { self.counts[0].max(self.counts[1]) } else { self.counts[0] };
        let (left, ends_in) = match now.checked_sub(window.ends) {
            None => (window.remaining, window.ends - now),
            Some(over) => {
                let into = Duration::from_secs_f64(over.as_secs_f64() % every.as_secs_f64());
                (count, every.saturating_sub(into))
            }
        };
        Some(WindowFacts { count, left, ends_in, every, is_whole: self.apart.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECS: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn windows_are_known_by_an_end_that_stays() {
        let mut limit = FixedWindow::default();
        // From twenty minutes past, of 500 an hour.
        for call in 0..20 {
            limit.on_report(499.0 - call as f64, SECS(2400 - call), SECS(call));
        }
        let known = limit.known(SECS(400)).unwrap();
        assert_eq!((known.count, known.left, known.is_whole), (500.0, 480.0, false));
        assert_eq!((known.ends_in, known.every), (SECS(2000), SECS(3600)));
        // The next two begin, with another process's calls in between.
        limit.on_report(499.0, SECS(3600), SECS(2400));
        limit.on_report(400.0, SECS(3595), SECS(6005));
        let known = limit.known(SECS(6006)).unwrap();
        assert_eq!((known.count, known.left, known.every), (500.0, 400.0, SECS(3600)));
        let later = limit.known(SECS(9600 + 3600 + 60)).unwrap();
        assert_eq!((later.left, later.ends_in), (500.0, SECS(3540)));
    }

    #[test]
    fn a_bucket_is_no_window() {
        let mut limit = FixedWindow::default();
        // Five a second flow in, and two are taken: the bucket fills up.
        for second in 0..60_u64 {
            let used = 100.0 - 3.0 * second as f64;
            limit.on_report(500.0 - used.max(0.0), Duration::from_secs_f64((used / 5.0).max(0.0).ceil()), SECS(second));
        }
        assert_eq!(limit.known(SECS(60)), None);
        // One call in twelve seconds, as fast as they flow in.
        let mut limit = FixedWindow::default();
        for call in 0..60 {
            limit.on_report(3.0, SECS(84), SECS(12 * call));
        }
        assert_eq!(limit.known(SECS(720)), None);
    }
}
