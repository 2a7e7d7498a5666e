//! Durations and sizes as people write them: `1h30m`, `64MiB`.
//!
//! Not for dates or times of day. Every function is pure, every sum is checked, and what is written by
//! [`duration_text`] and [`size_text`] reads back as the same value.

use std::time::Duration;

/// How to write a duration, for messages.
pub(super) const DURATION_CURE: &str =
    "write e.g. \"500ms\", \"10s\", \"15m\", \"72h\", \"30d\", \"1h30m\", or a whole number of seconds";

/// How to write a size, for messages.
pub(super) const SIZE_CURE: &str = "write e.g. \"64MiB\", \"20MB\", or a whole number of bytes such as 50_000_000";

/// Units of duration in milliseconds, longest first.
const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes. The binary ones come first of each pair, so that a size is written in them where both fit.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a duration such as `10s`, `1h30m` or an integral number of seconds.
///
/// # Errors
///
/// The reason as a lower-case fragment, where the text is no duration or one beyond what can be counted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Some(seconds) = integer(text) {
        return seconds.map(Duration::from_secs);
    }
    let mut milliseconds: u64 = 0;
    let mut longest_allowed = u64::MAX;
    let mut rest = text;
    if rest.is_empty() {
        return Err("the duration is empty".to_owned());
    }
    while !rest.is_empty() {
        let (digits, after) = leading(rest, |letter| letter.is_ascii_digit() || letter == '_');
        let (unit, after) = leading(after.trim_start(), |letter| letter.is_ascii_alphabetic());
        let count = integer(digits).ok_or_else(|| "it is not a duration".to_owned())??;
        let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err("it is not a duration: the units are ms, s, m, h, d and w".to_owned());
        };
        if *factor >= longest_allowed {
            return Err("its units must become smaller from left to right".to_owned());
        }
        longest_allowed = *factor;
        milliseconds = count
            .checked_mul(*factor)
            .and_then(|part| milliseconds.checked_add(part))
            .ok_or_else(|| "it is too long to be counted".to_owned())?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Reads a size in bytes such as `64MiB`, `20MB` or `50_000_000`.
///
/// # Errors
///
/// The reason as a lower-case fragment, where the text is no size or one beyond 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = leading(text, |letter| letter.is_ascii_digit() || letter == '_');
    let count = integer(digits).ok_or_else(|| "it is not a size".to_owned())??;
    let factor = match unit.trim_start() {
        "" => 1,
        // Upper case is a common mistake that means nothing else; a small `b` could mean bits, and is refused.
        "KB" => 1_000,
        unit => SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| "it is not a size: the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB".to_owned())?,
    };
    count.checked_mul(factor).ok_or_else(|| "it is too large to be counted".to_owned())
}

/// Writes a duration so that [`parse_duration`] reads it back; fractions of a millisecond are dropped.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    // Weeks are read but not written, and days only where they come out even: "72h" and "30d" are how people say it.
    let mut text = String::new();
    let even_days = rest.is_multiple_of(86_400_000) && rest > 3 * 86_400_000;
    for (name, factor) in DURATION_UNITS {
        let skipped = name == "w" || (name == "d" && !even_days);
        if !skipped && rest >= factor {
            text.push_str(&format!("{}{name}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// Writes a size so that [`parse_size`] reads it back exactly.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    SIZE_UNITS
        .iter()
        .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor))
        .map_or_else(|| "0B".to_owned(), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Splits off the letters at the start for which `belongs` holds.
fn leading(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|letter| !belongs(letter)).unwrap_or(text.len()))
}

/// An integer with `_` between digits, as TOML writes it; `None` where it is none, an error where it is too large.
fn integer(text: &str) -> Option<Result<u64, String>> {
    let tidy = !text.is_empty() && !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    if !tidy || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        return None;
    }
    Some(text.replace('_', "").parse().map_err(|_| "the number is too large".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("10s"), Ok(10.0));
        assert_eq!(seconds("15m"), Ok(900.0));
        assert_eq!(seconds("72h"), Ok(259_200.0));
        assert_eq!(seconds("30d"), Ok(2_592_000.0));
        assert_eq!(seconds("500ms"), Ok(0.5));
        assert_eq!(seconds("1h30m"), Ok(5_400.0));
        assert_eq!(seconds(" 1h 30 m "), Ok(5_400.0));
        assert_eq!(seconds("90"), Ok(90.0));
        assert_eq!(seconds("1_000"), Ok(1_000.0));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "10x", "-1s", "1.5h", "30m1h", "1h1h", "10s!", "_1s", "ten", "10 S", "１s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["99999999999999999999", "18446744073709551615s", "18446744073709551615ms1"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_size("64MiB"), Ok(67_108_864));
        assert_eq!(parse_size("20MB"), Ok(20_000_000));
        assert_eq!(parse_size("20 MB"), Ok(20_000_000));
        assert_eq!(parse_size("50_000_000"), Ok(50_000_000));
        assert_eq!(parse_size("1kB"), Ok(1_000));
        assert_eq!(parse_size("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", "20Mb", "20M", "-1", "1.5GB", "20MB/s", "1__0", "18446744073709551616", "99999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_written_as_in_the_documentation() {
        for text in ["10s", "15m", "72h", "30d", "500ms", "1h30m", "24h", "0s", "1m1s500ms"] {
            assert_eq!(duration_text(parse_duration(text).unwrap()), text);
        }
        for text in ["64MiB", "20MB", "50MB", "1GB", "1B", "0B", "1KiB"] {
            assert_eq!(size_text(parse_size(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn written_values_read_back(milliseconds in 0..u64::MAX, bytes in 0..u64::MAX) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9_a-zA-Z .µ-]{0,40}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
