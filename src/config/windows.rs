//! The hours in which sending is allowed, such as `Mon-Fri 20:00-06:00`.
//!
//! Pure functions over local civil time: which zone that is, and what time it is, the caller says. A window that goes
//! over midnight belongs to the day on which it starts, so `Fri 22:00-04:00` ends on Saturday morning. Where a clock
//! change skips or repeats an hour, what the clock on the wall shows is what counts.

use std::fmt;

use jiff::{Span, ToSpan as _, Zoned, civil};

/// How to write a window, for messages.
pub(super) const WINDOW_CURE: &str =
    "write e.g. \"Mon-Fri 20:00-06:00\", \"Sat-Sun\", \"22:00-04:00\" or \"Mon,Wed 08:00-12:00\"";

/// The days as they are written, Monday first.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// How far [`Window::next_change`] looks: two weeks and a day, so that a window which a clock change swallows is found
/// again a week later.
const HORIZON_DAYS: i32 = 15;

/// Minutes of a day.
pub(super) const DAY: u16 = 24 * 60;

/// A stretch of the week in which sending is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// On which days it starts, Monday first.
    days: [bool; 7],
    /// When it starts, in minutes after midnight.
    start: u16,
    /// When it ends, in minutes after midnight, exclusive; at or before `start`, it ends on the next day.
    end: u16,
}

impl Window {
    /// Reads a window: days, a stretch of the day, or both.
    ///
    /// # Errors
    ///
    /// The reason as a lower-case fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (first, second) = (words.next(), words.next());
        if words.next().is_some() {
            return Err("it has more than days and a stretch of the day".to_owned());
        }
        let is_time = |word: &str| word.starts_with(|letter: char| letter.is_ascii_digit());
        match (first, second) {
            (None, _) => Err("the window is empty".to_owned()),
            (Some(times), None) if is_time(times) => Self::from_parts([true; 7], times),
            (Some(days), None) => Ok(Self { days: parse_days(days)?, start: 0, end: DAY }),
            (Some(days), Some(times)) => Self::from_parts(parse_days(days)?, times),
        }
    }

    fn from_parts(days: [bool; 7], times: &str) -> Result<Self, String> {
        let (start, end) = times.split_once('-').ok_or_else(|| "its times are not written as start-end".to_owned())?;
        let (start, end) = (parse_time(start)?, parse_time(end)?);
        if start == DAY {
            return Err("a window cannot start at 24:00".to_owned());
        }
        if start == end {
            return Err("it starts and ends at the same time; the whole day is 00:00-24:00".to_owned());
        }
        Ok(Self { days, start, end })
    }

    /// Whether sending is allowed at this local time; without any window it always is.
    #[must_use]
    pub fn contains(windows: &[Self], local: civil::DateTime) -> bool {
        windows.is_empty() || windows.iter().any(|window| window.holds(local))
    }

    fn holds(&self, local: civil::DateTime) -> bool {
        let minute = minute_of_day(local);
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let yesterday = (today + 6) % 7;
        let on = |day: usize| self.days.get(day).copied().unwrap_or(false);
        if self.end > self.start {
            on(today) && (self.start..self.end).contains(&minute)
        } else {
            (on(today) && minute >= self.start) || (on(yesterday) && minute < self.end)
        }
    }

    /// The next moment at which [`Window::contains`] changes its answer, in the zone of `now`; `None` where it never
    /// does, or not within two weeks.
    #[must_use]
    pub fn next_change(windows: &[Self], now: &Zoned) -> Option<Zoned> {
        let open = Self::contains(windows, now.datetime());
        let zone = now.time_zone();
        let mut candidates: Vec<jiff::Timestamp> = Vec::new();
        // The answer is a function of the wall clock: it can only change where a window begins or ends, or where the
        // clock itself jumps.
        for day in -1..=HORIZON_DAYS {
            let Ok(date) = now.date().checked_add(Span::new().days(day)) else { continue };
            for minutes in windows.iter().flat_map(|window| [window.start, window.end]) {
                let midnight = date.to_datetime(civil::Time::midnight());
                let Ok(boundary) = midnight.checked_add(i64::from(minutes).minutes()) else { continue };
                let ambiguous = zone.to_ambiguous_timestamp(boundary);
                candidates.extend([ambiguous.earlier(), ambiguous.later()].into_iter().flatten());
            }
        }
        if !windows.is_empty() {
            candidates.extend(zone.following(now.timestamp()).take(4).map(|jump| jump.timestamp()));
        }
        candidates.retain(|candidate| *candidate > now.timestamp());
        candidates.sort_unstable();
        candidates
            .into_iter()
            .map(|candidate| candidate.to_zoned(zone.clone()))
            .find(|candidate| Self::contains(windows, candidate.datetime()) != open)
    }
}

impl fmt::Display for Window {
    /// Writes it so that [`Window::parse`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(days) = days_in_words(self.days) {
            f.write_str(&days)?;
            if (self.start, self.end) == (0, DAY) {
                return Ok(());
            }
            f.write_str(" ")?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", clock(self.start), clock(self.end))
    }
}

fn minute_of_day(local: civil::DateTime) -> u16 {
    u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
}

/// The days as [`parse_days`] reads them; `None` where it is every day.
pub(super) fn days_in_words(days: [bool; 7]) -> Option<String> {
    let names: Vec<&str> = DAYS.iter().zip(days).filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    (names.len() < DAYS.len()).then(|| names.join(","))
}

/// Reads `20:00`; `24:00` is the end of the day.
pub(super) fn parse_time(text: &str) -> Result<u16, String> {
    let wrong = || "a time of day is not written as HH:MM".to_owned();
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        (lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    let hours = digits(hours, 1..=2).ok_or_else(wrong)?;
    let minutes = digits(minutes, 2..=2).ok_or_else(wrong)?;
    if minutes > 59 || hours * 60 + minutes > DAY {
        return Err("a time of day is beyond 24:00 or has more than 59 minutes".to_owned());
    }
    Ok(hours * 60 + minutes)
}

/// Reads `Mon-Fri`, `Mon,Wed`, `Fri-Mon` (over the weekend) and mixtures of them.
pub(super) fn parse_days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_day(first)?, parse_day(last)?);
        let length = (last + 7 - first) % 7;
        for day in first..=first + length {
            if let Some(on) = days.get_mut(day % 7) {
                *on = true;
            }
        }
    }
    Ok(days)
}

/// Reads `Mon` or `Monday` in any letter case.
fn parse_day(text: &str) -> Result<usize, String> {
    const FULL: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    DAYS.iter()
        .zip(FULL)
        .position(|(short, full)| text.eq_ignore_ascii_case(short) || text.eq_ignore_ascii_case(full))
        .ok_or_else(|| "a day is none of Mon, Tue, Wed, Thu, Fri, Sat and Sun".to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn windows(texts: &[&str]) -> Vec<Window> {
        texts.iter().map(|text| Window::parse(text).unwrap()).collect()
    }

    fn at(text: &str) -> civil::DateTime {
        text.parse().unwrap()
    }

    /// Central European time by its rule, so that the test needs no time zone database.
    fn berlin(text: &str) -> Zoned {
        at(text).to_zoned(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()).unwrap()
    }

    fn next(texts: &[&str], now: &str) -> Option<String> {
        Window::next_change(&windows(texts), &berlin(now))
            .map(|moment| moment.strftime("%Y-%m-%dT%H:%M%:z").to_string())
    }

    // 2026-11-23 is a Monday.

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_starts() {
        let nights = windows(&["Mon-Fri 20:00-06:00"]);
        assert!(!Window::contains(&nights, at("2026-11-23T05:59:59")), "Monday morning belongs to Sunday");
        assert!(!Window::contains(&nights, at("2026-11-23T19:59:59")));
        assert!(Window::contains(&nights, at("2026-11-23T20:00:00")));
        assert!(Window::contains(&nights, at("2026-11-24T00:00:00")));
        assert!(Window::contains(&nights, at("2026-11-28T05:59:59")), "Saturday morning belongs to Friday");
        assert!(!Window::contains(&nights, at("2026-11-28T06:00:00")));
        assert!(!Window::contains(&nights, at("2026-11-28T22:00:00")));
    }

    #[test]
    fn days_alone_are_complete_days_and_no_window_is_always() {
        let weekend = windows(&["Sat-Sun"]);
        assert!(!Window::contains(&weekend, at("2026-11-27T23:59:59")));
        assert!(Window::contains(&weekend, at("2026-11-28T00:00:00")));
        assert!(Window::contains(&weekend, at("2026-11-29T23:59:59")));
        assert!(!Window::contains(&weekend, at("2026-11-30T00:00:00")));
        assert!(Window::contains(&[], at("2026-11-25T12:00:00")));
    }

    #[test]
    fn lists_spans_over_the_weekend_and_every_day_are_read() {
        let mornings = windows(&["mon,WEDNESDAY 8:00-12:00"]);
        assert!(Window::contains(&mornings, at("2026-11-25T08:00:00")));
        assert!(!Window::contains(&mornings, at("2026-11-24T08:00:00")));
        let long_weekend = windows(&["Fri-Mon"]);
        assert!(Window::contains(&long_weekend, at("2026-11-30T10:00:00")));
        assert!(!Window::contains(&long_weekend, at("2026-12-01T10:00:00")));
        assert!(Window::contains(&windows(&["22:00-04:00"]), at("2026-11-25T03:59:00")));
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in
            ["", "Mo", "Mon-", "Mon 8-12", "Mon 08:00", "08:00-08:00", "24:00-06:00", "08:00-24:01", "08:60-09:00"]
        {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        for text in ["Mon Tue 08:00-09:00", "Mon, Tue", "08:00-09:00 Mon", "+8:00-09:00", "0８:00-09:00"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_is_written_so_that_it_reads_back() {
        for text in ["Mon-Fri 20:00-06:00", "Sat-Sun", "22:00-04:00", "Mon,Wed 08:00-12:00", "00:00-24:00", "Mon-Sun"] {
            let window = Window::parse(text).unwrap();
            assert_eq!(Window::parse(&window.to_string()), Ok(window), "{window}");
        }
        assert_eq!(Window::parse("Sat-Sun").unwrap().to_string(), "Sat,Sun");
    }

    #[test]
    fn the_next_change_is_the_next_opening_or_closing() {
        let both = ["Mon-Fri 20:00-06:00", "Sat-Sun"];
        assert_eq!(next(&both, "2026-11-23T10:00").as_deref(), Some("2026-11-23T20:00+01:00"));
        assert_eq!(next(&both, "2026-11-23T20:00").as_deref(), Some("2026-11-24T06:00+01:00"));
        assert_eq!(
            next(&both, "2026-11-27T21:00").as_deref(),
            Some("2026-11-30T00:00+01:00"),
            "Friday night runs on into the weekend"
        );
        assert_eq!(next(&["Mon 08:00-09:00"], "2026-11-23T09:00").as_deref(), Some("2026-11-30T08:00+01:00"));
    }

    #[test]
    fn what_never_changes_says_so() {
        assert_eq!(next(&[], "2026-11-23T10:00"), None);
        assert_eq!(next(&["Mon-Sun"], "2026-11-23T10:00"), None);
        assert_eq!(next(&["00:00-12:00", "12:00-24:00"], "2026-11-23T10:00"), None);
    }

    #[test]
    fn a_skipped_hour_opens_and_closes_where_the_clock_jumps() {
        // On 2027-03-28 the clock goes from 02:00 straight to 03:00.
        assert_eq!(next(&["02:30-05:00"], "2027-03-28T01:00").as_deref(), Some("2027-03-28T03:00+02:00"));
        assert_eq!(next(&["01:00-02:30"], "2027-03-28T01:30").as_deref(), Some("2027-03-28T03:00+02:00"));
        assert_eq!(
            next(&["Sun 02:15-02:45"], "2027-03-28T01:00").as_deref(),
            Some("2027-04-04T02:15+02:00"),
            "a window inside the skipped hour waits for the next week"
        );
    }

    #[test]
    fn a_repeated_hour_counts_both_times() {
        // On 2026-10-25 the clock goes from 03:00 back to 02:00.
        assert_eq!(next(&["01:00-02:30"], "2026-10-25T01:30").as_deref(), Some("2026-10-25T02:30+02:00"));
        let closed = berlin("2026-10-25T01:30").checked_add(75.minutes()).unwrap();
        let reopened = Window::next_change(&windows(&["01:00-02:30"]), &closed).unwrap();
        assert_eq!(reopened.strftime("%H:%M%:z").to_string(), "02:00+01:00");
    }
}
