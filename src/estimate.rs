//! When work will be done under limits, sending windows, quotas and measured rates, and which of them binds.
//!
//! The one estimator, for plans, `status`, the page and imports: pure, and time is an argument. A limit is a token bucket,
//! or counts in fixed windows; it fills while sending is not allowed, and lets work pass only while it is. The work is done when the slowest of
//! them has let all of it pass, and that one binds.

mod measured;

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

pub use self::measured::{MeasuredSpeed, SpeedMeter};

/// What may bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// `limits.documents_per_hour`.
    DocumentsPerHour,
    /// `limits.requests_per_second`.
    RequestsPerSecond,
    /// `limits.bytes_per_second`.
    BytesPerSecond,
    /// The speed of the link.
    Link,
    /// How long a call takes, with as many calls at once as are allowed.
    CallTime,
    /// The sending windows: most of the time is spent in waiting for one.
    Windows,
    /// What the API's own answers report of its limits.
    ApiQuota,
    /// The speed of this run.
    MeasuredRate,
    /// A retry that is due later than everything else.
    Retry,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WorkLeft {
    /// To be created, when their images are there.
    pub documents: f64,
    /// To be uploaded.
    pub images: f64,
    /// To be uploaded.
    pub files: f64,
    /// Of the requests' bodies.
    pub bytes: f64,
}

impl WorkLeft {
    /// Calls to the API.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.documents + self.images + self.files
    }

    /// Adds so many times other work.
    #[must_use]
    pub fn plus(self, other: &Self, times: f64) -> Self {
        Self {
            documents: other.documents.mul_add(times, self.documents),
            images: other.images.mul_add(times, self.images),
            files: other.files.mul_add(times, self.files),
            bytes: other.bytes.mul_add(times, self.bytes),
        }
    }

    fn of(&self, counted: Counted) -> f64 {
        match counted {
            Counted::Documents => self.documents,
            Counted::Images => self.images,
            Counted::Files => self.files,
            Counted::Requests => self.requests(),
            Counted::Bytes => self.bytes,
        }
    }
}

/// What of the work a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    Documents,
    Images,
    Files,
    Requests,
    Bytes,
}

/// A limit as a worker keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PacedLimit {
    pub constraint: Constraint,
    pub counted: Counted,
    /// What passes in a second.
    pub rate: f64,
    /// What may pass at once after a rest.
    pub burst: f64,
    /// What may pass at once now.
    pub level: f64,
    /// Where it counts in fixed windows: nothing flows in within one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<LimitWindow>,
}

/// When a limit that counts in fixed windows begins its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitWindow {
    /// How long this window lasts, in milliseconds.
    pub ends_in: i64,
    /// How long each lasts, in milliseconds.
    pub every: i64,
}

impl LimitWindow {
    /// The window so many milliseconds later, and whether that is another one.
    fn after(self, later: i64) -> (Self, bool) {
        let left = self.ends_in - later;
        if left > 0 {
            return (Self { ends_in: left, ..self }, false);
        }
        let every = self.every.max(1);
        (Self { ends_in: every - left.saturating_neg().rem_euclid(every), ..self }, true)
    }
}

impl PacedLimit {
    /// The limit so many milliseconds later, without a call in between.
    fn after(self, later: i64) -> Self {
        match self.window.map(|window| window.after(later)) {
            Some((window, is_new)) => {
                Self { window: Some(window), level: if is_new { self.burst } else { self.level }, ..self }
            }
            None => Self { level: self.rate.mul_add(seconds(later), self.level).min(self.burst), ..self },
        }
    }
}

/// How fast an account may send, and does: what a worker records of it for others to estimate by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountPace {
    /// Under which it is paused.
    pub scope: String,
    pub drops: Vec<String>,
    pub limits: Vec<PacedLimit>,
    pub measured: MeasuredSpeed,
    /// Since when limits leave no room for the next call, in milliseconds since 1970.
    #[serde(default)]
    pub reached: Vec<(Constraint, Counted, i64)>,
    /// Calls in flight, and how many may be.
    #[serde(default)]
    pub in_flight: (usize, usize),
    /// When the API answered last, in milliseconds since 1970.
    #[serde(default)]
    pub answered_at: Option<i64>,
}

impl AccountPace {
    /// The limits, so many milliseconds after they were recorded, without a call in between.
    #[must_use]
    pub fn limits_after(&self, later: i64) -> Vec<PacedLimit> {
        self.limits.iter().map(|limit| limit.after(later.max(0))).collect()
    }

    /// What slows this work down, so many milliseconds after this was recorded.
    #[must_use]
    pub fn throttles(&self, work: &WorkLeft, later: i64) -> Vec<Throttle> {
        let limits = self.limits_after(later).into_iter().map(
            |PacedLimit { constraint, counted, rate, burst, level, window }| Throttle {
                constraint,
                amount: work.of(counted),
                rate,
                burst,
                level,
                window,
            },
        );
        limits.chain(self.measured.throttle(work)).collect()
    }
}

/// How fast a worker may send, and does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// When this was so, in milliseconds since 1970.
    pub at: i64,
    /// `limits.windows`.
    pub windows: Vec<String>,
    pub accounts: Vec<AccountPace>,
}

impl Pace {
    /// What is left of `limits.documents_per_hour` at a moment, of the account with the least; `None` where there is no
    /// such limit.
    #[must_use]
    pub fn hourly_limit_remaining(&self, now: i64) -> Option<f64> {
        let hourly = |limit: &PacedLimit| limit.constraint == Constraint::DocumentsPerHour;
        let limits = self.accounts.iter().flat_map(|account| account.limits_after(now - self.at)).filter(hourly);
        limits.map(|limit| limit.level.max(0.0).floor()).min_by(f64::total_cmp)
    }
}

/// One limit, and how much of the work it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// Which limit.
    pub constraint: Constraint,
    /// How much is to pass.
    pub amount: f64,
    /// What passes in a second.
    pub rate: f64,
    /// What may pass at once after a rest.
    pub burst: f64,
    /// What may pass at once now; at most `burst`.
    pub level: f64,
    /// Where it counts in fixed windows; then `burst` passes in each.
    pub window: Option<LimitWindow>,
}

impl Throttle {
    /// A limit that is at rest now.
    #[must_use]
    pub const fn at_rest(constraint: Constraint, amount: f64, rate: f64, burst: f64) -> Self {
        Self { constraint, amount, rate, burst, level: burst, window: None }
    }

    /// A speed: nothing is saved up in a rest.
    #[must_use]
    pub const fn speed(constraint: Constraint, amount: f64, rate: f64) -> Self {
        Self { constraint, amount, rate, burst: 0.0, level: 0.0, window: None }
    }

    /// The same limit at another rate, with a burst in proportion.
    #[must_use]
    pub fn scaled(self, by: f64) -> Self {
        Self { rate: self.rate * by, burst: self.burst * by, level: self.level * by, ..self }
    }
}

/// When sending is allowed, as stretches of time that are found as far as they are needed.
pub struct OpenHours<'a> {
    /// Whether sending is allowed at a moment, and when that changes.
    at: &'a dyn Fn(i64) -> (bool, Option<i64>),
    stretches: RefCell<Vec<Stretch>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    opens: i64,
    /// `None`: it does not close.
    closes: Option<i64>,
}

/// So many stretches are looked through, which is years: what takes longer has no estimate.
const MOST_STRETCHES: usize = 2_000;

impl<'a> OpenHours<'a> {
    /// From this moment on, in milliseconds since 1970. `at` says of a moment whether sending is allowed, and when that
    /// changes next, if ever.
    #[must_use]
    pub fn from(start: i64, at: &'a dyn Fn(i64) -> (bool, Option<i64>)) -> Self {
        let hours = Self { at, stretches: RefCell::default() };
        if let Some(first) = hours.stretch_after(start) {
            hours.stretches.borrow_mut().push(first);
        }
        hours
    }

    fn stretch_after(&self, moment: i64) -> Option<Stretch> {
        match (self.at)(moment) {
            (true, closes) => Some(Stretch { opens: moment, closes }),
            (false, Some(opens)) => Some(Stretch { opens, closes: (self.at)(opens).1 }),
            (false, None) => None,
        }
    }

    fn get(&self, index: usize) -> Option<Stretch> {
        if index >= MOST_STRETCHES {
            return None;
        }
        let mut stretches = self.stretches.borrow_mut();
        while stretches.len() <= index {
            let next = self.stretch_after(stretches.last()?.closes?)?;
            stretches.push(next);
        }
        stretches.get(index).copied()
    }

    /// How long sending is allowed between the start and a moment, in milliseconds.
    #[must_use]
    pub fn open_until(&self, moment: i64) -> i64 {
        let stretches = (0..).map_while(|index| self.get(index)).take_while(|stretch| stretch.opens < moment);
        stretches.map(|stretch| stretch.closes.map_or(moment, |closes| closes.min(moment)) - stretch.opens).sum()
    }

    /// When a throttle has let everything pass; `None` where that is not known, or years ahead.
    fn passes(&self, throttle: &Throttle, start: i64) -> Option<i64> {
        if let Some(window) = throttle.window {
            return self.last_window(throttle, window, start).map(|(begins, _)| begins);
        }
        let (mut left, mut level, mut at) = (throttle.amount, throttle.level.min(throttle.burst), start);
        for index in 0.. {
            let Stretch { opens, closes } = self.get(index)?;
            level = (level + throttle.rate * seconds(opens - at)).min(throttle.burst.max(level));
            let needed = ((left - level) / throttle.rate).max(0.0);
            match closes.map(|closes| seconds(closes - opens)).filter(|open| *open < needed) {
                // A bucket that never fills, or a speed of nothing.
                _ if !needed.is_finite() => return None,
                Some(open) => {
                    left -= level + throttle.rate * open;
                    level = 0.0;
                    at = closes?;
                }
                #[expect(clippy::cast_possible_truncation, reason = "years in milliseconds are far below")]
                None => return Some(opens.saturating_add((needed * 1000.0).ceil().min(1e15) as i64)),
            }
        }
        None
    }

    /// When the last of the fixed windows begins that a throttle needs, and how much is left for it.
    fn last_window(&self, throttle: &Throttle, window: LimitWindow, start: i64) -> Option<(i64, f64)> {
        let (mut left, mut level, mut at, mut window) = (throttle.amount, throttle.level, start, window);
        for index in 0.. {
            let Stretch { opens, closes } = self.get(index)?;
            let (now, is_new) = window.after(opens.max(at) - at);
            (window, at) = (now, opens.max(at));
            level = if is_new { throttle.burst } else { level };
            if left <= level {
                return Some((at, left));
            }
            left -= level;
            #[expect(clippy::cast_possible_truncation, reason = "saturates, far beyond the most windows")]
            let needed = (left / throttle.burst).ceil() as i64;
            let done = at.checked_add(window.ends_in)?.checked_add(window.every.checked_mul(needed - 1)?)?;
            #[expect(clippy::cast_precision_loss, reason = "saturates, far beyond the most windows")]
            let last = left - (needed - 1) as f64 * throttle.burst;
            let Some(closes) = closes.filter(|closes| *closes <= done) else { return Some((done, last)) };
            // Those that begin before sending is no longer allowed.
            let begun = (closes - at - window.ends_in + window.every - 1).max(0) / window.every.max(1);
            #[expect(clippy::cast_precision_loss, reason = "years have far fewer windows than 2^52")]
            let passed = begun as f64 * throttle.burst;
            left -= passed;
            (window, at) = (window.after(closes - at).0, closes);
            // One that begins at that moment is left for later.
            level = if window.ends_in == window.every { throttle.burst } else { 0.0 };
        }
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "years in milliseconds are far below 2^52")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// When the work will be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The moment, in milliseconds since 1970.
    pub done: i64,
    /// What decides it.
    pub binds: Constraint,
    /// How long sending is not allowed until then, in milliseconds.
    pub closed: i64,
}

/// When all throttles have let the work pass; `None` where it never passes, or in years. Without throttles it is done at
/// the start, and `otherwise` is said to bind.
#[must_use]
pub fn estimate(throttles: &[Throttle], hours: &OpenHours<'_>, start: i64, otherwise: Constraint) -> Option<Estimate> {
    let first = hours.get(0)?.opens.max(start);
    let (mut done, mut binds) = (first, otherwise);
    // Of all work, in seconds, where nothing is saved up.
    let speeds = throttles.iter().filter(|throttle| throttle.burst <= 0.0);
    let at_speed = speeds.map(|throttle| throttle.amount / throttle.rate).fold(0.0, f64::max);
    for throttle in throttles.iter().filter(|throttle| throttle.amount > 0.0) {
        let passes = match throttle.window {
            None => hours.passes(throttle, start)?,
            Some(window) => {
                let (begins, left) = hours.last_window(throttle, window, start)?;
                // What is left for the last window takes its time in it.
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                let takes = (left / throttle.amount * at_speed * 1000.0).ceil() as i64;
                begins.saturating_add(takes)
            }
        };
        if passes > done {
            (done, binds) = (passes, throttle.constraint);
        }
    }
    let closed = (done - start) - hours.open_until(done);
    if closed > 0 && closed * 2 > done - start {
        binds = Constraint::Windows;
    }
    Some(Estimate { done, binds, closed })
}

/// The factor by which a throttle must be faster to have let everything pass by a moment, 1 or less where it has; `None`
/// where sending is not allowed before it.
#[must_use]
pub fn needed(throttle: &Throttle, hours: &OpenHours<'_>, start: i64, by: i64) -> Option<f64> {
    let in_time = |factor: f64| hours.passes(&throttle.scaled(factor), start).is_some_and(|done| done <= by);
    let (mut slow, mut fast) = (0.0, 1.0);
    while !in_time(fast) {
        (slow, fast) = (fast, fast * 2.0);
        if fast > 1e12 {
            return None;
        }
    }
    // To a thousandth, from above.
    while fast - slow > fast / 4096.0 {
        let middle = f64::midpoint(slow, fast);
        if in_time(middle) { fast = middle } else { slow = middle }
    }
    Some(fast)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn always(_: i64) -> (bool, Option<i64>) {
        (true, None)
    }

    /// Open from 20 to 24 o'clock of each day.
    fn evenings(at: i64) -> (bool, Option<i64>) {
        let (day, hour) = (at.div_euclid(24 * HOUR), at.rem_euclid(24 * HOUR));
        if hour < 20 * HOUR { (false, Some(day * 24 * HOUR + 20 * HOUR)) } else { (true, Some((day + 1) * 24 * HOUR)) }
    }

    fn documents(amount: f64, per_hour: f64) -> Throttle {
        Throttle::at_rest(Constraint::DocumentsPerHour, amount, per_hour / 3600.0, per_hour / 10.0)
    }

    fn of(throttles: &[Throttle], at: &dyn Fn(i64) -> (bool, Option<i64>), start: i64) -> Option<Estimate> {
        estimate(throttles, &OpenHours::from(start, at), start, Constraint::CallTime)
    }

    #[test]
    fn a_limit_lets_its_burst_pass_at_once_and_the_rest_at_its_rate() {
        let done = |amount| of(&[documents(amount, 1000.0)], &always, 5).unwrap().done;
        assert_eq!((done(100.0), done(1100.0), done(2100.0)), (5, 5 + HOUR, 5 + 2 * HOUR));
    }

    #[test]
    fn the_slowest_limit_binds() {
        let link = |rate| Throttle::speed(Constraint::Link, 7200.0, rate);
        let slow = of(&[documents(1100.0, 1000.0), link(1.0)], &always, 0).unwrap();
        assert_eq!((slow.done, slow.binds), (2 * HOUR, Constraint::Link));
        let fast = of(&[documents(1100.0, 1000.0), link(100.0)], &always, 0).unwrap();
        assert_eq!((fast.done, fast.binds), (HOUR, Constraint::DocumentsPerHour));
        assert_eq!(of(&[], &always, 7).unwrap().done, 7);
    }

    #[test]
    fn work_waits_for_its_windows_and_buckets_fill_meanwhile() {
        // 4 hours an evening: 100 at once, 4,000 until midnight, and the next evening the same.
        let done = |amount, start| of(&[documents(amount, 1000.0)], &evenings, start).unwrap();
        assert_eq!(done(100.0, 0).done, 20 * HOUR);
        assert_eq!(done(4100.0, 0).done, 24 * HOUR);
        assert_eq!(done(5200.0, 0).done, 45 * HOUR);
        assert_eq!((done(5200.0, 0).binds, done(5200.0, 0).closed), (Constraint::Windows, 40 * HOUR));
        assert_eq!(done(2100.0, 20 * HOUR).binds, Constraint::DocumentsPerHour);
        // A speed saves nothing up.
        let link = Throttle::speed(Constraint::Link, 5.0 * 3600.0, 1.0);
        assert_eq!(of(&[link], &evenings, 0).unwrap().done, 45 * HOUR);
    }

    #[test]
    fn in_fixed_windows_nothing_flows_in_before_the_next_one() {
        let window = |amount, level, ends_in| Throttle {
            level,
            window: Some(LimitWindow { ends_in, every: HOUR }),
            ..Throttle::at_rest(Constraint::ApiQuota, amount, 1000.0 / 3600.0, 1000.0)
        };
        let done = |amount, level, at: &dyn Fn(i64) -> _, start| {
            of(&[window(amount, level, HOUR / 2)], at, start).unwrap().done - start
        };
        assert_eq!(done(300.0, 300.0, &always, 7), 0);
        assert_eq!(done(301.0, 300.0, &always, 7), HOUR / 2);
        assert_eq!(done(1300.0, 300.0, &always, 7), HOUR / 2);
        assert_eq!(done(1301.0, 300.0, &always, 7), HOUR * 3 / 2);
        // From half past seven in the evening: 20 to 24 o'clock, and the next evening.
        let evening = 19 * HOUR + HOUR / 2;
        assert_eq!(done(1000.0, 0.0, &evenings, evening), HOUR / 2);
        assert_eq!(done(4000.0, 0.0, &evenings, evening), HOUR / 2 + 3 * HOUR);
        assert_eq!(done(4001.0, 0.0, &evenings, evening), HOUR / 2 + 24 * HOUR);
        // The last five hundred take half an hour.
        let limit = window(1800.0, 300.0, HOUR / 2);
        let speed = Throttle::speed(Constraint::MeasuredRate, 1800.0, 1000.0 / 3600.0);
        assert_eq!(of(&[limit, speed], &always, 0).unwrap().done, HOUR / 2 + HOUR + HOUR / 2);
        let later = AccountPace {
            limits: vec![PacedLimit {
                constraint: Constraint::ApiQuota,
                counted: Counted::Documents,
                rate: 0.1,
                burst: 1000.0,
                level: 300.0,
                window: Some(LimitWindow { ends_in: HOUR / 2, every: HOUR }),
            }],
            ..AccountPace::default()
        };
        let after = |later_by| {
            let limit = later.limits_after(later_by)[0];
            (limit.level, limit.window.unwrap().ends_in)
        };
        assert_eq!((after(HOUR / 4), after(HOUR)), ((300.0, HOUR / 4), (1000.0, HOUR / 2)));
    }

    #[test]
    fn what_never_passes_has_no_estimate() {
        assert_eq!(of(&[documents(1.0, 1.0)], &|_| (false, None), 0), None);
        assert_eq!(of(&[Throttle::speed(Constraint::Link, 1.0, 0.0)], &always, 0), None);
        assert_eq!(of(&[Throttle::speed(Constraint::Link, 1e12, 1.0)], &evenings, 0), None);
    }

    #[test]
    fn open_time_is_counted_up_to_a_moment() {
        let hours = OpenHours::from(0, &evenings);
        let open = |hour| hours.open_until(hour * HOUR) / HOUR;
        assert_eq!([open(0), open(20), open(22), open(30), open(45)], [0, 0, 2, 4, 5]);
    }

    proptest! {
        #[test]
        fn the_needed_limit_is_just_enough(amount in 1_u32..100_000, per_hour in 1_u32..10_000, start in 0_i64..48, by in 1_i64..200) {
            let throttle = documents(f64::from(amount), f64::from(per_hour));
            let (start, by) = (start * HOUR, (start + by) * HOUR);
            let hours = OpenHours::from(start, &evenings);
            let done = |factor| hours.passes(&throttle.scaled(factor), start).unwrap();
            match needed(&throttle, &hours, start, by) {
                Some(factor) => {
                    prop_assert!(done(factor) <= by);
                    prop_assert!(done(factor * 0.99) > by);
                }
                None => prop_assert!(hours.open_until(by) == 0),
            }
        }

        #[test]
        fn more_work_is_never_done_earlier_and_faster_limits_never_later(amount in 1_u32..100_000, more in 0_u32..1000, start in 0_i64..48) {
            let done = |amount: u32, per_hour| of(&[documents(f64::from(amount), per_hour)], &evenings, start * HOUR).unwrap().done;
            prop_assert!(done(amount, 500.0) <= done(amount + more, 500.0));
            prop_assert!(done(amount, 700.0) <= done(amount, 500.0));
        }
    }
}
