//! Reads what an answer's headers say about limits.
//!
//! Headers are hostile: what is not understood counts as absent.

use reqwest::header::HeaderMap;

use crate::{
    clock::Timestamp,
    exchange::{LimitHeaders, RetryAfter},
};

/// Reads an answer's headers; where one is there twice, the first counts.
#[must_use]
pub fn read(headers: &HeaderMap) -> LimitHeaders {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    LimitHeaders {
        remaining: text("x-ratelimit-remaining").and_then(count),
        retry_secs: text("x-ratelimit-retry-secs").and_then(seconds),
        retry_after: text("retry-after")
            .and_then(|text| seconds(text).map(RetryAfter::Secs).or_else(|| date(text).map(RetryAfter::At))),
        reset_secs: text("x-ratelimit-reset-secs").and_then(seconds),
        reset: text("x-ratelimit-reset").and_then(date),
    }
}

/// A finite number of seconds; a negative one means that the moment has passed.
fn seconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

fn count(text: &str) -> Option<u64> {
    let whole = text.split('.').next().unwrap_or(text);
    match whole.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(|_| 0),
        None => whole.parse().ok(),
    }
}

/// A date as RFC 2822 or RFC 9110 writes it.
fn date(text: &str) -> Option<Timestamp> {
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(Timestamp(moment.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-11-22T20:15:00Z.
    const NOW: Timestamp = Timestamp(1_795_378_500_000);

    #[test]
    fn a_failure_does_not_wait_until_the_bucket_is_full() {
        let limited = read(&[("x-ratelimit-remaining", "9000"), ("x-ratelimit-reset-secs", "360")]);
        assert_eq!(limited.wait_after_failure(NOW), None);
        assert_eq!(limited.wait(NOW), Some(Duration::from_secs(360)));
        let busy = read(&[("retry-after", "30"), ("x-ratelimit-reset-secs", "360")]);
        assert_eq!(busy.wait_after_failure(NOW), Some(Duration::from_secs(30)));
    }

    fn read(headers: &[(&'static str, &str)]) -> LimitHeaders {
        let headers = headers.iter().map(|(name, value)| {
            (reqwest::header::HeaderName::from_static(name), reqwest::header::HeaderValue::from_str(value).unwrap())
        });
        super::read(&headers.collect())
    }

    fn wait_ms(headers: &[(&'static str, &str)]) -> Option<u128> {
        read(headers).wait(NOW).map(|wait| wait.as_millis())
    }

    #[test]
    fn the_most_exact_header_counts() {
        let all = [
            ("x-ratelimit-retry-secs", "1"),
            ("retry-after", "2"),
            ("x-ratelimit-reset-secs", "3"),
            ("x-ratelimit-reset", "Sun, 22 Nov 2026 20:15:04 +0000"),
        ];
        assert_eq!(NOW.to_string(), "2026-11-22T20:15:00Z");
        for (skipped, expected) in [(0, 1000), (1, 2000), (2, 3000), (3, 4000)] {
            assert_eq!(wait_ms(&all[skipped..]), Some(expected));
        }
        assert_eq!(wait_ms(&[]), None);
    }

    #[test]
    fn numbers_may_be_odd() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1.5", Some(1500)),
            (" 7 ", Some(7000)),
            ("-3", Some(0)),
            ("-0.5", Some(0)),
            ("1e300", Some(86_400_000)),
            ("999999999999999999999999", Some(86_400_000)),
            ("inf", None),
            ("NaN", None),
            ("", None),
            ("soon", None),
            ("1, 2", None),
        ] {
            assert_eq!(wait_ms(&[("x-ratelimit-retry-secs", text)]), expected, "{text:?}");
            assert_eq!(wait_ms(&[("retry-after", text)]), expected, "{text:?}");
        }
    }

    #[test]
    fn a_header_that_is_nonsense_gives_way_to_the_next() {
        assert_eq!(wait_ms(&[("x-ratelimit-retry-secs", "soon"), ("retry-after", "9")]), Some(9000));
        assert_eq!(wait_ms(&[("retry-after", "tomorrow"), ("x-ratelimit-reset-secs", "9")]), Some(9000));
    }

    #[test]
    fn dates_are_read_in_either_zone_form_and_the_past_means_now() {
        for (text, expected) in [
            ("Sun, 22 Nov 2026 20:16:00 GMT", Some(60_000)),
            ("Sun, 22 Nov 2026 21:16:00 +0100", Some(60_000)),
            ("22 Nov 2026 20:16:00 +0000", Some(60_000)),
            ("Mon, 22 Nov 2026 20:16:00 GMT", Some(60_000)),
            ("Sun, 22 Nov 2020 20:16:00 GMT", Some(0)),
            ("Sun, 22 Nov 2099 20:16:00 GMT", Some(86_400_000)),
            ("Sun, 99 Nov 2026 20:16:00 GMT", None),
        ] {
            assert_eq!(wait_ms(&[("retry-after", text)]), expected, "{text:?}");
            assert_eq!(wait_ms(&[("x-ratelimit-reset", text)]), expected, "{text:?}");
        }
    }

    #[test]
    fn what_remains_is_a_count() {
        for (text, expected) in [("12", Some(12)), ("0", Some(0)), ("-1", Some(0)), ("12.0", Some(12)), ("many", None)]
        {
            assert_eq!(read(&[("x-ratelimit-remaining", text)]).remaining, expected, "{text:?}");
        }
    }
}
