//! What an answer's headers say about limits, and how long they ask to wait.
//!
//! It keeps what was said and decides nothing about when to send. Headers are hostile: what is not understood counts
//! as absent, and no wait is longer than [`LONGEST_WAIT`].

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::clock::Timestamp;

/// The longest wait that a header can ask for: the published buckets are refilled within an hour, so more is a mistake.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A `Retry-After` header, which has two forms (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryAfter {
    /// So many seconds.
    Secs(f64),
    /// At this moment.
    At(Timestamp),
}

/// The headers about limits, as far as they are understood (guide: the section on rate limits).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LimitHeaders {
    /// `X-RateLimit-Remaining`: how many calls fit now.
    pub remaining: Option<u64>,
    /// `X-RateLimit-Retry-Secs`: seconds until one more call fits.
    pub retry_secs: Option<f64>,
    /// `Retry-After`: not mentioned by the guide, but a gateway may send it.
    pub retry_after: Option<RetryAfter>,
    /// `X-RateLimit-Reset-Secs`: seconds until the bucket is full.
    pub reset_secs: Option<f64>,
    /// `X-RateLimit-Reset`: when the bucket is full.
    pub reset: Option<Timestamp>,
}

impl LimitHeaders {
    /// Reads an answer's headers; where one is there twice, the first counts.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        Self {
            remaining: text("x-ratelimit-remaining").and_then(count),
            retry_secs: text("x-ratelimit-retry-secs").and_then(seconds),
            retry_after: text("retry-after")
                .and_then(|text| seconds(text).map(RetryAfter::Secs).or_else(|| date(text).map(RetryAfter::At))),
            reset_secs: text("x-ratelimit-reset-secs").and_then(seconds),
            reset: text("x-ratelimit-reset").and_then(date),
        }
    }

    /// How long the headers ask to wait, by the first that says it, from the most exact to the least.
    ///
    /// Zero where the moment has passed, so whoever waits needs a floor of their own.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let retry_after = || match self.retry_after? {
            RetryAfter::Secs(seconds) => Some(span(seconds)),
            RetryAfter::At(moment) => Some(moment.since(now)),
        };
        let wait = self
            .retry_secs
            .map(span)
            .or_else(retry_after)
            .or_else(|| self.reset_secs.map(span))
            .or_else(|| self.reset.map(|moment| moment.since(now)));
        wait.map(|wait| wait.min(LONGEST_WAIT))
    }

    /// How long until the bucket is full.
    #[must_use]
    pub fn full_in(&self, now: Timestamp) -> Option<Duration> {
        let full = self.reset_secs.map(span).or_else(|| self.reset.map(|moment| moment.since(now)));
        full.map(|full| full.min(LONGEST_WAIT))
    }
}

impl LimitHeaders {
    /// The same for a call that failed for another reason than a limit: only what tells when one more call fits counts.
    /// When the bucket is full again stands on every answer of a limited call, and is no reason to wait.
    #[must_use]
    pub fn wait_after_failure(&self, now: Timestamp) -> Option<Duration> {
        Self { reset_secs: None, reset: None, ..*self }.wait(now)
    }
}

/// A finite number of seconds; a negative one means that the moment has passed.
fn seconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

fn span(seconds: f64) -> Duration {
    // Clamped first, because a conversion from any float may fail.
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64())).unwrap_or(LONGEST_WAIT)
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
        LimitHeaders::read(&headers.collect())
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
