//! Rate limits as the API has them: GCRA with bursts, told in `X-RateLimit-…` headers.
//!
//! A bucket is kept as the moment at which it will be full again, as GCRA does, in whole nanoseconds since the sandbox
//! began: nothing rounds, nothing ticks. A call that is turned away takes nothing from any bucket.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    operation::Operation,
    syntax::{RuleError, positive, unknown_word},
};
use crate::clock::Timestamp;

/// One limit, written `OPERATION=COUNT/SECONDS[,burst=N]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// The call that it is about; `None` is one bucket for all of them.
    pub operation: Option<Operation>,
    /// So many calls …
    pub count: u64,
    /// … in so many seconds.
    pub seconds: u64,
    /// How many calls may come at once after a rest; the count, where it is not given.
    pub burst: u64,
}

impl LimitRule {
    /// How long until one more call fits, once the bucket is empty.
    fn interval_ns(&self) -> u128 {
        (u128::from(self.seconds) * 1_000_000_000 / u128::from(self.count.max(1))).max(1)
    }
}

/// No limit needs more, and the sums stay far from overflow.
const MOST: u64 = 1_000_000_000;

impl FromStr for LimitRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let form = || {
            RuleError(
                "a limit is written OPERATION=COUNT/SECONDS[,burst=N], e.g. create_document=10000/3600".to_owned(),
            )
        };
        let (operation, rest) = text.split_once('=').ok_or_else(form)?;
        let operation = Operation::parse_pattern(operation.trim())?;
        let mut parts = rest.split(',').map(str::trim);
        let (count, seconds) = parts.next().and_then(|rate| rate.split_once('/')).ok_or_else(form)?;
        let count = positive("a limit's count", count)?;
        let seconds = positive("a limit's seconds", seconds)?;
        let mut burst = count;
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("burst", value) => burst = positive("burst", value)?,
                (word, _) => return Err(unknown_word("condition", word, ["burst"])),
            }
        }
        if [count, seconds, burst].into_iter().any(|value| value > MOST) {
            return Err(RuleError(format!("a limit's numbers go up to {MOST}")));
        }
        Ok(Self { operation, count, seconds, burst })
    }
}

impl fmt::Display for LimitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", Operation::pattern_text(self.operation), self.count, self.seconds)?;
        if self.burst == self.count { Ok(()) } else { write!(f, ",burst={}", self.burst) }
    }
}

/// What the headers of a limited answer say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Calls that fit right now, after this one.
    pub remaining: u64,
    /// Until the bucket is full.
    pub reset: Duration,
    /// Until one call fits; only where this one did not.
    pub retry: Option<Duration>,
}

impl Allowance {
    /// What a 429 says that lasts so many seconds.
    pub(super) const fn refused_for(seconds: u64) -> Self {
        let wait = Duration::from_secs(seconds);
        Self { remaining: 0, reset: wait, retry: Some(wait) }
    }

    /// The header fields, in whole seconds rounded up, so that whoever waits for them waits long enough.
    pub(super) fn headers(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let reset = ceil_seconds(self.reset);
        let full_at = now.after(Duration::from_secs(reset));
        let mut headers = vec![
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-reset-secs", reset.to_string()),
            ("x-ratelimit-reset", rfc_2822(full_at)),
        ];
        headers.extend(self.retry.map(|wait| ("x-ratelimit-retry-secs", ceil_seconds(wait).to_string())));
        headers
    }
}

fn ceil_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

fn rfc_2822(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .ok()
        .and_then(|at| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_string(&at).ok())
        .unwrap_or_default()
}

/// The limits in force, with their buckets.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Each with when it is full again, in nanoseconds since the sandbox began.
    buckets: Vec<(LimitRule, u128)>,
}

impl Limits {
    pub(super) fn new(rules: Vec<LimitRule>) -> Self {
        Self { buckets: rules.into_iter().map(|rule| (rule, 0)).collect() }
    }

    /// Takes one call out of every bucket that it belongs to, or out of none; `None` where nothing limits it.
    ///
    /// `since_start` is measured on a clock that never goes back.
    pub(super) fn take(&mut self, operation: Operation, since_start: Duration) -> Option<Allowance> {
        let now = since_start.as_nanos();
        let about_it = |rule: &LimitRule| operation.matches(rule.operation);
        let refusal = self
            .buckets
            .iter()
            .filter(|(rule, _)| about_it(rule))
            .filter_map(|(rule, full_at)| {
                let interval = rule.interval_ns();
                let fits_at = (*full_at).max(now) + interval;
                let wait = fits_at.saturating_sub(now + interval * u128::from(rule.burst));
                (wait > 0).then(|| Allowance {
                    remaining: 0,
                    reset: nanoseconds(full_at.saturating_sub(now)),
                    retry: Some(nanoseconds(wait)),
                })
            })
            .max_by_key(|refusal| refusal.retry);
        if refusal.is_some() {
            return refusal;
        }
        let mut tightest: Option<Allowance> = None;
        for (rule, full_at) in self.buckets.iter_mut().filter(|(rule, _)| about_it(rule)) {
            let interval = rule.interval_ns();
            *full_at = (*full_at).max(now) + interval;
            let free = (interval * u128::from(rule.burst)).saturating_sub(*full_at - now);
            let left = Allowance {
                remaining: u64::try_from(free / interval).unwrap_or(u64::MAX),
                reset: nanoseconds(*full_at - now),
                retry: None,
            };
            if tightest.is_none_or(|other| left.remaining < other.remaining) {
                tightest = Some(left);
            }
        }
        tightest
    }
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_millis;

    fn limits(rules: &[&str]) -> Limits {
        Limits::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn a_burst_passes_then_calls_drip() {
        let mut limits = limits(&["create_document=2/4,burst=3"]);
        let mut take = |at| limits.take(Operation::CreateDocument, AT(at)).unwrap();
        assert_eq!([take(0).remaining, take(0).remaining, take(0).remaining], [2, 1, 0]);
        let refused = take(500);
        assert_eq!(refused.retry, Some(AT(1500)), "one call fits each two seconds");
        assert_eq!(refused.reset, AT(5500));
        assert_eq!(take(1999).retry, Some(AT(1)), "a call that was turned away took nothing");
        assert_eq!(take(2000).retry, None);
        assert!(take(2000).retry.is_some());
        assert_eq!(take(60_000).remaining, 2, "a bucket fills up to its burst and no further");
    }

    #[test]
    fn a_call_passes_every_limit_or_counts_for_none() {
        let mut limits = limits(&["any=1/100", "create_document=5/100"]);
        assert_eq!(limits.take(Operation::CreateDocument, AT(0)).unwrap().remaining, 0);
        assert!(limits.take(Operation::CreateDocument, AT(0)).unwrap().retry.is_some());
        let later = limits.take(Operation::CreateDocument, AT(100_000)).unwrap();
        assert_eq!(later.retry, None);
        assert!(limits.take(Operation::UploadImage, AT(100_000)).unwrap().retry.is_some());
    }

    #[test]
    fn what_no_rule_names_is_free() {
        assert_eq!(limits(&["create_document=1/1"]).take(Operation::UploadImage, AT(0)), None);
        assert_eq!(limits(&["any=1/1"]).take(Operation::Unknown, AT(0)), None);
    }

    #[test]
    fn headers_are_rounded_up() {
        let allowance = Allowance { remaining: 0, reset: AT(5001), retry: Some(AT(1)) };
        let headers = allowance.headers(Timestamp(1_570_111_519_000));
        let get = |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(get("x-ratelimit-remaining"), Some("0"));
        assert_eq!(get("x-ratelimit-reset-secs"), Some("6"));
        assert_eq!(get("x-ratelimit-retry-secs"), Some("1"));
        let date = get("x-ratelimit-reset").unwrap();
        assert!(date.starts_with("Thu, 3 Oct 2019 14:05:25"), "{date}");
    }

    #[test]
    fn limits_are_written_as_they_are_read() {
        for text in ["create_document=10000/3600", "any=5/1,burst=20"] {
            assert_eq!(text.parse::<LimitRule>().unwrap().to_string(), text);
        }
        for text in
            ["any", "any=5", "any=0/1", "any=5/0", "any=5/1,burst=0", "nay=5/1", "any=5/1,brust=2", "any=9999999999/1"]
        {
            assert!(text.parse::<LimitRule>().is_err(), "{text}");
        }
    }
}
