//! The machine's time zone, in which sending windows are, and moments as people read them.

use jiff::{Zoned, tz::TimeZone};

use crate::clock::Timestamp;

/// A moment in the machine's zone.
#[must_use]
pub fn local(moment: Timestamp) -> Zoned {
    Zoned::new(jiff::Timestamp::from_millisecond(moment.0).unwrap_or_default(), TimeZone::system())
}

/// The zone's name, such as `Europe/London`, or its offset where it has none.
#[must_use]
pub fn name() -> String {
    let zone = TimeZone::system();
    zone.iana_name().map_or_else(|| zone.to_offset(jiff::Timestamp::UNIX_EPOCH).to_string(), str::to_owned)
}

/// The day of a moment in the machine's zone.
#[must_use]
pub fn date(moment: Timestamp) -> String {
    local(moment).date().to_string()
}

/// A moment as a person near to it says it: `14:02`, `Sat 02:58`, or `2026-11-03 06:10`.
#[must_use]
pub fn in_words(moment: Timestamp, now: Timestamp) -> String {
    let (moment, now) = (local(moment), local(now));
    let days = now.date().until(moment.date()).map_or(i32::MAX, |span| span.get_days());
    let form = match days {
        0 => "%H:%M",
        -6..=6 => "%a %H:%M",
        _ => "%Y-%m-%d %H:%M",
    };
    moment.strftime(form).to_string()
}
