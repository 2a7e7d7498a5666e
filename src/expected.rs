//! Whether what is expected of a drop has come, and is delivered, or will be in time: `expect` and `delivered_by`.
//!
//! Pure: the moments come from the drop's schedules, what came from the queue, and the end of the work from the estimate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// The moments of a schedule around a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moments {
    /// The last but one that is over.
    pub before: Option<Timestamp>,
    /// The last that is over.
    pub last: Option<Timestamp>,
    pub next: Option<Timestamp>,
}

/// What came into a drop, and how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the newest manifest came.
    pub newest: Option<Timestamp>,
    /// When the oldest manifest came that is not settled.
    pub oldest_open: Option<Timestamp>,
    /// When everything of the drop will be done; `None` where that is not known, or work is stopped.
    pub done: Option<Timestamp>,
}

/// How a drop is doing against what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// Nothing is due yet.
    Coming,
    /// What came is being delivered, and is expected to be in time.
    UnderWay,
    /// Nothing came by its moment, or what came is not delivered by its moment.
    Late,
    /// Nothing came, and the moment by which it was to be delivered is over as well.
    Missing,
    /// What came will not be delivered in time, as far as can be known.
    WillBeLate,
    /// What came is delivered.
    Delivered,
}

impl DeliveryState {
    /// Every state.
    #[cfg(test)]
    pub const ALL: [Self; 6] =
        [Self::Coming, Self::UnderWay, Self::Late, Self::Missing, Self::WillBeLate, Self::Delivered];

    /// For people.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Coming => "coming",
            Self::UnderWay => "under way",
            Self::Late => "late",
            Self::Missing => "missing",
            Self::WillBeLate => "will be late",
            Self::Delivered => "delivered",
        }
    }

    /// Whether the moment by which something was to be is over.
    #[must_use]
    pub const fn is_late(self) -> bool {
        matches!(self, Self::Late | Self::Missing)
    }
}

/// How a drop is doing against what is expected of it, with the moments that decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    pub state: DeliveryState,
    /// Since when.
    pub since: Timestamp,
    /// The moment that decides it: by when something was, or is, to have come or to be delivered.
    pub due: Option<Timestamp>,
    /// When the work of the drop will be done, where that is known.
    pub done: Option<Timestamp>,
}

/// An estimate may err by this part of the time that is left.
const DOUBT: i64 = 10;

/// A warning is taken back only once the estimate may err by this part, so that it does not come and go.
const RELIEF: i64 = 5;

/// Where the end cannot be known, the warning comes this long before the deadline.
const WARNING: Duration = Duration::from_secs(2 * 3600);

/// Within this time after something came, an unknown end says nothing: no rate is measured yet.
const UNMEASURED: Duration = Duration::from_secs(600);

/// Decides how a drop is doing that was in the `former` state. Moments before `watched_since` do not count: nobody expected
/// anything then.
#[must_use]
pub fn judge(
    expect: Moments,
    delivered_by: Moments,
    progress: Progress,
    watched_since: Timestamp,
    former: Option<DeliveryState>,
    now: Timestamp,
) -> DeliveryReport {
    let counts = |moment: &Timestamp| *moment >= watched_since;
    let deadline = delivered_by.last.filter(counts);
    let report = |state, since, due| DeliveryReport { state, since, due, done: progress.done };
    if let (Some(open), Some(deadline)) = (progress.oldest_open, deadline)
        && open <= deadline
    {
        return report(DeliveryState::Late, deadline, Some(deadline));
    }
    let came_after =
        |moment: Option<Timestamp>| progress.newest.is_some_and(|newest| moment.is_none_or(|moment| newest > moment));
    let between = |one: Option<Timestamp>, other: Option<Timestamp>| {
        one.zip(other).map(|(one, other)| Timestamp(i64::midpoint(one.0, other.0)))
    };
    // What came in the first half of the time between two moments came late for the earlier one.
    if let Some(last) = expect.last.filter(counts)
        && !came_after(between(expect.before, expect.last))
    {
        return match deadline.filter(|deadline| *deadline > last) {
            Some(deadline) => report(DeliveryState::Missing, deadline, Some(deadline)),
            None => report(DeliveryState::Late, last, Some(last)),
        };
    }
    if let Some(open) = progress.oldest_open {
        let doubt = if former == Some(DeliveryState::WillBeLate) { RELIEF } else { DOUBT };
        let will_be_late = delivered_by.next.is_some_and(|deadline| match progress.done {
            Some(done) => done.0 + (done.0 - now.0).max(0) / doubt > deadline.0,
            None => deadline.since(now) <= WARNING && now.since(open) >= UNMEASURED,
        });
        let state = if will_be_late { DeliveryState::WillBeLate } else { DeliveryState::UnderWay };
        return report(state, open, delivered_by.next);
    }
    // What came for the last moment counts for half of the time to the next one; what came early for all of it.
    let half = between(expect.last, expect.next);
    let came_for_next = half.is_some() && came_after(half);
    match progress.newest {
        Some(newest) if came_for_next || half.is_some_and(|half| now < half) => {
            report(DeliveryState::Delivered, newest, None)
        }
        _ => report(DeliveryState::Coming, half.unwrap_or(watched_since).max(watched_since), expect.next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn hour(hours: f64) -> Timestamp {
        #[expect(clippy::cast_possible_truncation, reason = "a few days in milliseconds")]
        Timestamp((hours * HOUR as f64) as i64)
    }

    /// Expected at 6 of each day and to be delivered by 8; the first day is 0, and `now` is in hours.
    fn at(now: f64, newest: Option<f64>, oldest_open: Option<f64>, done: Option<f64>) -> DeliveryState {
        let daily = |of_day: f64| {
            let past = ((now - of_day) / 24.0).floor();
            let moment = |day: f64| Some(hour(day * 24.0 + of_day)).filter(|_| day >= 0.0);
            Moments { before: moment(past - 1.0), last: moment(past), next: moment(past + 1.0) }
        };
        let progress = Progress { newest: newest.map(hour), oldest_open: oldest_open.map(hour), done: done.map(hour) };
        judge(daily(6.0), daily(8.0), progress, Timestamp(0), None, hour(now)).state
    }

    #[test]
    fn a_day_goes_from_coming_to_delivered_or_is_late() {
        use DeliveryState::{Coming, Delivered, Late, Missing, UnderWay, WillBeLate};
        for (now, newest, open, done, expected) in [
            (5.0, None, None, None, Coming),
            (6.0, None, None, None, Late),
            (7.9, None, None, None, Late),
            (8.0, None, None, None, Missing),
            (9.0, Some(8.5), None, None, Delivered),
            (5.0, Some(4.0), Some(4.0), Some(5.5), UnderWay),
            (5.0, Some(4.0), Some(4.0), Some(7.9), WillBeLate),
            (5.0, Some(4.0), Some(4.0), Some(7.5), UnderWay),
            (5.0, Some(4.0), Some(4.0), None, UnderWay),
            (6.1, Some(4.0), Some(4.0), None, WillBeLate),
            (6.1, Some(6.05), Some(6.05), None, UnderWay),
            (8.1, Some(4.0), Some(4.0), Some(8.2), Late),
            (8.1, Some(4.0), None, None, Delivered),
            (8.1, Some(8.05), Some(8.05), Some(9.0), UnderWay),
            (20.0, Some(4.0), None, None, Coming),
            (20.0, Some(19.0), None, None, Delivered),
            (29.0, Some(4.0), None, None, Coming),
            (30.0, Some(4.0), None, None, Late),
            (30.0, Some(7.0), None, None, Late),
            (30.0, Some(19.0), None, None, Delivered),
        ] {
            assert_eq!(at(now, newest, open, done), expected, "at {now}: {newest:?} {open:?} {done:?}");
        }
    }

    #[test]
    fn a_warning_is_taken_back_only_with_a_margin() {
        let by = Moments { next: Some(hour(20.0)), ..Moments::default() };
        let judged = |former, done: f64| {
            let progress = Progress { newest: Some(hour(9.0)), oldest_open: Some(hour(9.0)), done: Some(hour(done)) };
            judge(Moments::default(), by, progress, Timestamp(0), former, hour(10.0)).state
        };
        assert_eq!(judged(None, 18.5), DeliveryState::UnderWay);
        assert_eq!(judged(Some(DeliveryState::WillBeLate), 18.5), DeliveryState::WillBeLate);
        assert_eq!(judged(Some(DeliveryState::WillBeLate), 18.0), DeliveryState::UnderWay);
    }

    #[test]
    fn what_was_due_before_anybody_expected_it_is_not_late() {
        let expect = Moments { before: Some(hour(6.0)), last: Some(hour(30.0)), next: Some(hour(54.0)) };
        let judged = |since| judge(expect, Moments::default(), Progress::default(), since, None, hour(31.0)).state;
        assert_eq!(judged(hour(30.5)), DeliveryState::Coming);
        assert_eq!(judged(hour(29.0)), DeliveryState::Late);
    }

    #[test]
    fn without_a_schedule_for_the_arrival_the_deadline_alone_counts() {
        let by = Moments { before: None, last: Some(hour(8.0)), next: Some(hour(32.0)) };
        let judged = |open: Option<f64>, done: Option<f64>| {
            let progress = Progress { newest: open.map(hour), oldest_open: open.map(hour), done: done.map(hour) };
            judge(Moments::default(), by, progress, Timestamp(0), None, hour(20.0)).state
        };
        assert_eq!(judged(None, None), DeliveryState::Coming);
        assert_eq!(judged(Some(7.0), Some(21.0)), DeliveryState::Late);
        assert_eq!(judged(Some(19.0), Some(21.0)), DeliveryState::UnderWay);
        assert_eq!(judged(Some(19.0), Some(33.0)), DeliveryState::WillBeLate);
    }
}
