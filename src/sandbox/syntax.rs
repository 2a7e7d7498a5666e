//! The small pieces that the texts of rules are made of: durations, numbers, and words with a nearest known one.

use std::{str::FromStr, time::Duration};

use crate::nearest::nearest;

/// Why the text of a rule cannot be read, with what is known instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub(super) String);

/// Names what is known, the nearest first.
pub(super) fn unknown_word<'a>(what: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> RuleError {
    let known: Vec<&str> = known.into_iter().collect();
    let hint = nearest(word, known.iter().copied()).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default();
    RuleError(format!("unknown {what} '{}'{hint} (known: {})", short(word), known.join(", ")))
}

/// As much of a text as an error may quote.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Reads a number and names what it was for where it is none.
pub(super) fn number<T: FromStr>(what: &str, text: &str) -> Result<T, RuleError> {
    text.parse().map_err(|_| RuleError(format!("{what} takes a whole number, not '{}'", short(text))))
}

/// The same, but zero makes no sense here.
pub(super) fn positive(what: &str, text: &str) -> Result<u64, RuleError> {
    match number(what, text)? {
        0 => Err(RuleError(format!("{what} takes a number from 1, not 0"))),
        more => Ok(more),
    }
}

/// The longest wait that is accepted: longer ones are typing errors, and could not be added to a clock.
const LONGEST: Duration = Duration::from_hours(24);

/// Reads `250ms`, `2s`, `5m`, or `1h`.
///
/// # Errors
///
/// What is accepted, where the text is none of it.
pub fn parse_duration(text: &str) -> Result<Duration, RuleError> {
    let wrong = || RuleError(format!("'{}' is no duration: write e.g. 250ms, 2s, 5m, or 1h, up to 24h", short(text)));
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(digits);
    let count: u32 = count.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err(wrong()),
    };
    unit.checked_mul(count).filter(|wait| *wait <= LONGEST).ok_or_else(wrong)
}

/// Writes a duration so that [`parse_duration`] reads it.
pub(super) fn duration_text(wait: Duration) -> String {
    if wait.subsec_millis() == 0 { format!("{}s", wait.as_secs()) } else { format!("{}ms", wait.as_millis()) }
}

/// Reads one rule a line; empty lines and lines that begin with `#` count as nothing.
pub(super) fn rules<T: FromStr<Err = RuleError>>(text: &str) -> Result<Vec<T>, RuleError> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| line.parse().map_err(|RuleError(reason)| RuleError(format!("line {}: {reason}", at + 1))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_alike() {
        for (text, wait) in [("250ms", Duration::from_millis(250)), ("2s", Duration::from_secs(2))] {
            assert_eq!(parse_duration(text).unwrap(), wait);
            assert_eq!(duration_text(wait), text);
        }
        assert_eq!(parse_duration("5m").unwrap(), Duration::from_secs(300));
        assert_eq!(parse_duration("1h").unwrap(), Duration::from_secs(3600));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "2", "s", "2 s", "-1s", "25h", "99999999999s", "1.5s", "2é"] {
            assert!(parse_duration(text).unwrap_err().to_string().contains("e.g. 250ms"), "{text}");
        }
    }
}
