//! The moments by which something is expected, such as `Mon-Fri 06:00 Europe/London`, and the days that are holidays.
//!
//! Pure functions over civil time in the zone that the schedule names. Where a clock change skips the time of day, the
//! moment is that much later; where it repeats it, the first one counts.

use std::{collections::BTreeSet, fmt};

use jiff::{
    ToSpan as _, civil,
    tz::{self, TimeZone},
};

use super::windows::{DAY, days_in_words, parse_days, parse_time};
use crate::{clock::Timestamp, expected::Moments};

/// How to write a schedule, for messages.
pub(super) const SCHEDULE_CURE: &str =
    "write e.g. \"Mon-Fri 06:00 Europe/London\"; without a zone, the machine's counts";

/// How many days around now are searched: further than any closure lasts.
const HORIZON_DAYS: i32 = 40;

/// A time of day on some days of the week, in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    days: [bool; 7],
    /// In minutes after midnight.
    minute: u16,
    /// As it is written; absent: the machine's.
    zone: Option<TimeZone>,
}

impl Schedule {
    /// Reads days, a time of day and a time zone, of which only the time is required.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_time = |word: &str| word.starts_with(|letter: char| letter.is_ascii_digit());
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let days = match words.first() {
            Some(word) if !is_time(word) => parse_days(words.remove(0))?,
            _ => [true; 7],
        };
        let (time, zone) = match words.as_slice() {
            [time] => (*time, None),
            [time, zone] => (*time, Some(*zone)),
            [] => return Err("it has no time of day".to_owned()),
            _ => return Err("it has more than days, a time of day and a time zone".to_owned()),
        };
        let minute = parse_time(time)?;
        if minute == DAY {
            return Err("24:00 is not a time of a day here; write 00:00 of the next".to_owned());
        }
        let zone =
            zone.map(|name| tz::db().get(name).map_err(|_| format!("there is no time zone {name:?}"))).transpose()?;
        Ok(Self { days, minute, zone })
    }

    /// When it is on this date; `None` where it is not.
    fn on(&self, date: civil::Date, zone: &TimeZone) -> Option<Timestamp> {
        let day = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        self.days.get(day).copied().filter(|on| *on)?;
        let time = date.to_datetime(civil::Time::midnight()).checked_add(i64::from(self.minute).minutes()).ok()?;
        Some(Timestamp(time.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond()))
    }

    /// The moments of all these schedules around `now`; none of them is on a holiday.
    #[must_use]
    pub fn moments(schedules: &[Self], holidays: &Holidays, now: Timestamp) -> Moments {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.0) else { return Moments::default() };
        let mut all = BTreeSet::new();
        for schedule in schedules {
            let zone = schedule.zone.clone().unwrap_or_else(TimeZone::system);
            let today = instant.to_zoned(zone.clone()).date();
            let dates = (-HORIZON_DAYS..=HORIZON_DAYS).filter_map(|days| today.checked_add(days.days()).ok());
            all.extend(dates.filter(|date| !holidays.0.contains(date)).filter_map(|date| schedule.on(date, &zone)));
        }
        let mut past = all.range(..=now).rev().copied();
        let (last, before) = (past.next(), past.next());
        Moments { before, last, next: all.range(Timestamp(now.0 + 1)..).next().copied() }
    }
}

impl fmt::Display for Schedule {
    /// Writes it so that [`Schedule::parse`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(days) = days_in_words(self.days) {
            write!(f, "{days} ")?;
        }
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)?;
        match self.zone.as_ref().and_then(TimeZone::iana_name) {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

/// The days on which nothing is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holidays(BTreeSet<civil::Date>);

impl Holidays {
    /// Reads a date a line, as `2026-12-25`. What follows a `#` is a comment.
    ///
    /// # Errors
    ///
    /// The line that is no date, with its number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut dates = BTreeSet::new();
        for (number, line) in text.lines().enumerate() {
            let date = line.split('#').next().unwrap_or_default().trim_matches(['\u{feff}', ' ', '\t', '\r']);
            if !date.is_empty() {
                let date = date
                    .parse()
                    .map_err(|_| format!("line {} is no date: write a date a line, e.g. 2026-12-25", number + 1))?;
                dates.insert(date);
            }
        }
        Ok(Self(dates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn around(texts: &[&str], holidays: &str, now: &str) -> [Option<String>; 3] {
        let schedules: Vec<_> = texts.iter().map(|text| Schedule::parse(text).unwrap()).collect();
        let Moments { before, last, next } =
            Schedule::moments(&schedules, &Holidays::parse(holidays).unwrap(), at(now));
        [before, last, next].map(|moment| moment.map(|moment| moment.to_string()))
    }

    #[test]
    fn a_schedule_is_written_so_that_it_reads_back() {
        for text in ["Mon-Fri 06:00 Europe/London", "06:00", "Sat,Sun 23:59 America/New_York", "7:30 Asia/Kolkata"] {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(Schedule::parse(&schedule.to_string()), Ok(schedule), "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for (text, reason) in [
            ("", "no time of day"),
            ("Mon-Fri", "no time of day"),
            ("Mon 24:00", "00:00"),
            ("Mon 06:00 Europe/Lundon", "Europe/Lundon"),
            ("Mon 06:00 Europe/London x", "more than"),
            ("Mon 6 Europe/London", "HH:MM"),
            ("Someday 06:00", "none of Mon"),
        ] {
            let refused = Schedule::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn moments_follow_the_zone_through_both_clock_changes() {
        // London leaves summer time on 2026-10-25 at 01:00 UTC and enters it on 2027-03-28.
        let daily = ["06:00 Europe/London"];
        let moments = |now| around(&daily, "", now).map(Option::unwrap);
        assert_eq!(
            moments("2026-10-25T05:00:00Z"),
            ["2026-10-23T05:00:00Z", "2026-10-24T05:00:00Z", "2026-10-25T06:00:00Z"]
        );
        assert_eq!(
            moments("2027-03-28T05:00:00Z"),
            ["2027-03-27T06:00:00Z", "2027-03-28T05:00:00Z", "2027-03-29T05:00:00Z"]
        );
        // 01:30 does not exist on the day of the change, and exists twice on the other.
        assert_eq!(
            around(&["01:30 Europe/London"], "", "2027-03-28T00:30:00Z")[2].as_deref(),
            Some("2027-03-28T01:30:00Z")
        );
        assert_eq!(
            around(&["01:30 Europe/London"], "", "2026-10-25T00:15:00Z")[2].as_deref(),
            Some("2026-10-25T00:30:00Z")
        );
        assert_eq!(
            around(&["01:30 Europe/London"], "", "2026-10-25T00:45:00Z")[2].as_deref(),
            Some("2026-10-26T01:30:00Z")
        );
    }

    #[test]
    fn holidays_and_weekends_are_passed_over() {
        let days = ["Mon-Fri 06:00 Europe/London"];
        let christmas = "2026-12-25 # Christmas\n\n2026-12-28\n";
        assert_eq!(
            around(&days, christmas, "2026-12-26T12:00:00Z").map(Option::unwrap),
            ["2026-12-23T06:00:00Z", "2026-12-24T06:00:00Z", "2026-12-29T06:00:00Z"]
        );
        let twice = ["Mon-Fri 06:00 Europe/London", "Mon-Fri 18:00 America/New_York"];
        assert_eq!(
            around(&twice, "", "2026-11-24T12:00:00Z").map(Option::unwrap),
            ["2026-11-23T23:00:00Z", "2026-11-24T06:00:00Z", "2026-11-24T23:00:00Z"]
        );
        assert_eq!(around(&[], "", "2026-11-24T12:00:00Z"), [None, None, None]);
    }

    #[test]
    fn a_line_that_is_no_date_is_named() {
        assert_eq!(
            Holidays::parse("2026-12-25\r\n25.12.2026\n").unwrap_err(),
            "line 2 is no date: write a date a line, e.g. 2026-12-25"
        );
        assert!(Holidays::parse("\u{feff}2026-12-25\r\n# all\n").is_ok());
    }
}
