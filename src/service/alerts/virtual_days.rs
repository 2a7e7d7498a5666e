//! Thirty days of three partners in three time zones, over both a weekend's and a clock change's rules: when a warning comes,
//! and that none comes on a day without a reason.

use crate::{
    clock::Timestamp,
    config::{Holidays, Schedule},
    expected::{DeliveryState, Moments, Progress, judge},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    /// A number below `most`.
    fn below(&mut self, most: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).cast_signed() % most.max(1)
    }
}

/// What happens to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// By an hour and a quarter before the deadline: later, an estimate that errs may warn.
    OnTime,
    /// It is more than can be sent until the deadline.
    TooMuch,
    /// Nothing can be sent for hours around the deadline.
    Outage,
    /// It comes after its moment, and is delivered after the deadline.
    CameLate,
}

#[derive(Debug, Default)]
struct Seen {
    days: u32,
    late_days: u32,
    warned_in_time: u32,
    false_alarms: Vec<String>,
    missed: Vec<String>,
}

/// Lets a partner's month go by in steps of five minutes.
fn month(zone: &str, start: &str, holidays: &str, seed: u64, seen: &mut Seen) {
    let expect = [Schedule::parse(&format!("Mon-Fri 06:00 {zone}")).unwrap()];
    let by = [Schedule::parse(&format!("Mon-Fri 09:00 {zone}")).unwrap()];
    let holidays = Holidays::parse(holidays).unwrap();
    let start = Timestamp(start.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let mut dice = Dice(seed);
    let mut progress = Progress::default();
    let mut state = None;
    // What comes next, when it will be done, and what happens to it.
    let (mut comes, mut ends, mut deadline, mut fate) = (None, None, None::<Timestamp>, Fate::OnTime);
    let (mut warned, mut dealt) = (None::<Timestamp>, None);
    let (mut due, mut delivery) = (Moments::default(), Moments::default());
    for step in 0..30 * 24 * 12 {
        let now = Timestamp(start.0 + step * 5 * MINUTE);
        for (moments, schedule) in [(&mut due, &expect), (&mut delivery, &by)] {
            if moments.next.is_none_or(|next| next <= now) {
                *moments = Schedule::moments(schedule, &holidays, now);
            }
        }
        // Half a day before it is due, the day's delivery is decided.
        if let Some(next) = due.next.filter(|next| next.0 - now.0 <= 8 * HOUR && dealt != Some(*next)) {
            dealt = Some(next);
            fate = match dice.below(10) {
                0 => Fate::TooMuch,
                1 => Fate::Outage,
                2 => Fate::CameLate,
                _ => Fate::OnTime,
            };
            let by = next.0 + 3 * HOUR;
            let came = next.0 - 3 * HOUR + dice.below(170) * MINUTE;
            let (came, ended) = match fate {
                Fate::OnTime => (came, came + dice.below(by - 75 * MINUTE - came)),
                Fate::TooMuch | Fate::Outage => (came, by + (1 + dice.below(180)) * MINUTE),
                Fate::CameLate => (next.0 + (5 + dice.below(60)) * MINUTE, by + (1 + dice.below(60)) * MINUTE),
            };
            (comes, ends, deadline, warned) = (Some(came), Some(ended), Some(Timestamp(by)), None);
            seen.days += 1;
        }
        if let Some(came) = comes.filter(|came| *came <= now.0) {
            progress.newest = Some(Timestamp(came));
            progress.oldest_open = Some(Timestamp(came));
            comes = None;
        }
        if let Some(ended) = ends.filter(|ended| *ended <= now.0 && comes.is_none()) {
            if fate != Fate::OnTime {
                seen.late_days += 1;
                let notice = warned.zip(deadline).map_or(-1, |(warned, deadline)| deadline.0 - warned.0);
                if notice >= HOUR {
                    seen.warned_in_time += 1;
                } else {
                    seen.missed.push(format!("{zone} {ended}: {fate:?}, {} min", notice / MINUTE));
                }
            }
            (progress.oldest_open, ends) = (None, None);
        }
        // An estimate errs by up to a twentieth of what is left; in an outage there is none.
        let known = ends.filter(|_| progress.oldest_open.is_some() && fate != Fate::Outage);
        progress.done = known.map(|ended| Timestamp(ended + (ended - now.0) / 20 * (dice.below(3) - 1)));
        let judged = judge(due, delivery, progress, start, state, now).state;
        state = Some(judged);
        let alarms = judged.is_late() || judged == DeliveryState::WillBeLate;
        if alarms && fate == Fate::OnTime {
            seen.false_alarms.push(format!("{zone} {now}: {judged:?}"));
        }
        if alarms {
            warned = warned.or(Some(now));
        }
    }
}

#[test]
fn thirty_days_in_three_zones_warn_an_hour_before_and_never_without_a_reason() {
    let mut seen = Seen::default();
    // The clocks change on 2026-10-25 in London, on 2026-11-01 in New York, and never in Kolkata.
    for seed in 0..20 {
        month("Europe/London", "2026-10-08T12:00:00Z", "2026-10-13\n2026-10-26\n", seed, &mut seen);
        month("America/New_York", "2026-10-20T12:00:00Z", "2026-11-11\n", seed + 100, &mut seen);
        month("Asia/Kolkata", "2026-12-10T12:00:00Z", "2026-12-25\n2027-01-01\n", seed + 200, &mut seen);
    }
    assert_eq!(seen.false_alarms, Vec::<String>::new());
    assert!(seen.days > 1_000 && seen.late_days > 200, "{} days, {} late", seen.days, seen.late_days);
    assert!(
        seen.warned_in_time * 100 >= seen.late_days * 95,
        "warned in time on {} of {} late days: {:?}",
        seen.warned_in_time,
        seen.late_days,
        seen.missed
    );
}
