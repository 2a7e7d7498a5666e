//! Whether sending is allowed at this time of day, by the machine's time zone.

use std::time::Duration;

use jiff::Zoned;

use crate::{clock::Timestamp, config::Window, zone::local};

/// Whether sending is allowed.
#[must_use]
pub fn is_open(windows: &[Window], now: Timestamp) -> bool {
    // Without windows nobody needs the time zones, whose reading takes longer than all else at the start.
    windows.is_empty() || Window::contains(windows, local(now).datetime())
}

/// When it changes next whether sending is allowed; `None` where it does not.
#[must_use]
pub fn changes_after(windows: &[Window], moment: Timestamp) -> Option<Timestamp> {
    if windows.is_empty() {
        return None;
    }
    Window::next_change(windows, &local(moment)).map(|change| Timestamp(change.timestamp().as_millisecond()))
}

/// How long until sending is allowed, where it is not allowed now.
pub(super) fn opens_in(windows: &[Window], now: Timestamp) -> Option<Duration> {
    if windows.is_empty() { None } else { opens_in_zone(windows, &local(now)) }
}

fn opens_in_zone(windows: &[Window], now: &Zoned) -> Option<Duration> {
    if Window::contains(windows, now.datetime()) {
        return None;
    }
    let Some(opens) = Window::next_change(windows, now) else { return Some(Duration::MAX) };
    let wait_ms = opens.timestamp().as_millisecond().saturating_sub(now.timestamp().as_millisecond());
    Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_until_the_next_window_opens() {
        let windows = [Window::parse("Mon-Fri 20:00-06:00").unwrap()];
        for (now, minutes) in [
            ("2026-11-23T19:30:00+01:00[Europe/Berlin]", Some(30)),
            ("2026-11-23T20:00:00+01:00[Europe/Berlin]", None),
            ("2026-11-24T05:59:59+01:00[Europe/Berlin]", None),
            ("2026-11-28T06:00:00+01:00[Europe/Berlin]", Some((2 * 24 + 14) * 60)),
        ] {
            let wait = opens_in_zone(&windows, &now.parse().unwrap());
            assert_eq!(wait, minutes.map(|minutes| Duration::from_secs(minutes * 60)), "{now}");
        }
        assert_eq!(opens_in(&[], Timestamp(0)), None);
    }
}
