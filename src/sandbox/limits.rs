//! Rate limits as the API has them: GCRA with bursts, reported in `X-RateLimit-…` headers; and as gateways have them:
//! fixed or sliding windows, and answers that report less.
//!
//! A bucket is kept as the moment at which it will be full again, as GCRA does, in nanoseconds since the sandbox began:
//! nothing rounds, nothing ticks. A refused call takes nothing from any bucket or window.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use super::{
    operation::ApiCall,
    syntax::{RuleError, positive, unknown_word},
};
use crate::clock::Timestamp;

/// How calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitShape {
    /// A bucket that fills steadily.
    #[default]
    Drip,
    /// `count` calls in each fixed window of `seconds`, counted from when the sandbox began.
    Window,
    /// `count` calls within any span of `seconds`.
    Sliding,
}

/// What the headers of limited answers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitSays {
    /// What the API's own do.
    #[default]
    Everything,
    /// `Retry-After`, where a call is refused.
    RetryAfter,
    /// Nothing at all.
    Nothing,
}

/// One limit, written `OPERATION=COUNT/SECONDS[,burst=N][,shape=S][,says=S]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// The call that it is about; `None` is one bucket for all of them.
    pub operation: Option<ApiCall>,
    /// The number of calls …
    pub count: u64,
    /// … in this many seconds.
    pub seconds: u64,
    /// How many calls may come at once after a rest; the count, where it is not given.
    pub burst: u64,
    /// How they are counted; a window knows no burst.
    pub shape: LimitShape,
    /// What answers report about it.
    pub says: LimitSays,
}

impl LimitShape {
    const KNOWN: [(&str, Self); 3] = [("drip", Self::Drip), ("window", Self::Window), ("sliding", Self::Sliding)];
}

impl LimitSays {
    const KNOWN: [(&str, Self); 3] =
        [("everything", Self::Everything), ("retry-after", Self::RetryAfter), ("nothing", Self::Nothing)];
}

/// The value of a word.
fn one_of<T: Copy>(what: &str, word: &str, known: &[(&str, T)]) -> Result<T, RuleError> {
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| unknown_word(what, word, known.iter().map(|(name, _)| *name)))
}

/// The word for a value.
fn word_of<T: Copy + PartialEq>(value: T, known: &[(&'static str, T)]) -> &'static str {
    known.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| *name)
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
                "a limit is written OPERATION=COUNT/SECONDS[,burst=N][,shape=S][,says=S], e.g. \
                 create_document=10000/3600"
                    .to_owned(),
            )
        };
        let (operation, rest) = text.split_once('=').ok_or_else(form)?;
        let operation = ApiCall::parse_pattern(operation.trim())?;
        let mut parts = rest.split(',').map(str::trim);
        let (count, seconds) = parts.next().and_then(|rate| rate.split_once('/')).ok_or_else(form)?;
        let count = positive("a limit's count", count)?;
        let seconds = positive("a limit's seconds", seconds)?;
        let (mut burst, mut shape, mut says) = (count, LimitShape::Drip, LimitSays::Everything);
        for part in parts {
            match part.split_once('=').unwrap_or((part, "")) {
                ("burst", value) => burst = positive("burst", value)?,
                ("shape", value) => shape = one_of("shape", value, &LimitShape::KNOWN)?,
                ("says", value) => says = one_of("kind of answer", value, &LimitSays::KNOWN)?,
                (word, _) => return Err(unknown_word("condition", word, ["burst", "shape", "says"])),
            }
        }
        if shape != LimitShape::Drip && burst != count {
            return Err(RuleError("a burst is of a bucket that drips: leave it out where there is a shape".to_owned()));
        }
        if [count, seconds, burst].into_iter().any(|value| value > MOST) {
            return Err(RuleError(format!("a limit's numbers go up to {MOST}")));
        }
        Ok(Self { operation, count, seconds, burst, shape, says })
    }
}

impl fmt::Display for LimitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", ApiCall::pattern_text(self.operation), self.count, self.seconds)?;
        if self.burst != self.count {
            write!(f, ",burst={}", self.burst)?;
        }
        if self.shape != LimitShape::Drip {
            write!(f, ",shape={}", word_of(self.shape, &LimitShape::KNOWN))?;
        }
        if self.says != LimitSays::Everything {
            write!(f, ",says={}", word_of(self.says, &LimitSays::KNOWN))?;
        }
        Ok(())
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
    /// How much of it answers report.
    pub says: LimitSays,
}

impl Allowance {
    /// The allowance of a 429 that lasts this many seconds.
    pub(super) const fn refused_for(seconds: u64) -> Self {
        let wait = Duration::from_secs(seconds);
        Self { remaining: 0, reset: wait, retry: Some(wait), says: LimitSays::Everything }
    }

    /// The header fields, in seconds rounded up, so that a client that waits for them waits long enough.
    pub(super) fn headers(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        match self.says {
            LimitSays::Everything => {}
            LimitSays::RetryAfter => {
                return self.retry.map(|wait| ("retry-after", ceil_seconds(wait).to_string())).into_iter().collect();
            }
            LimitSays::Nothing => return Vec::new(),
        }
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

/// The limits in force, with what was taken of each.
#[derive(Debug, Default)]
pub(super) struct Limits {
    taken: Vec<(LimitRule, Taken)>,
}

/// What calls took of a limit; times are in nanoseconds since the sandbox began.
#[derive(Debug, Default)]
struct Taken {
    /// Of a bucket: when it is full again.
    full_at: u128,
    /// Of a window: when each call passed that still counts.
    passed: VecDeque<u128>,
}

impl Taken {
    /// What a call at this moment would be answered, and whether it passes. Forgets what counts no longer.
    fn look(&mut self, rule: &LimitRule, now: u128) -> Allowance {
        let allowance = |remaining: u64, reset: u128, wait: u128| Allowance {
            remaining,
            reset: nanoseconds(reset),
            retry: (wait > 0).then(|| nanoseconds(wait)),
            says: rule.says,
        };
        let span = u128::from(rule.seconds) * 1_000_000_000;
        let since = match rule.shape {
            LimitShape::Drip => {
                let interval = rule.interval_ns();
                let most = interval * u128::from(rule.burst);
                let full_at = self.full_at.max(now) + interval;
                let wait = full_at.saturating_sub(now + most);
                let reset = if wait > 0 { self.full_at } else { full_at }.saturating_sub(now);
                let free = most.saturating_sub(full_at - now) / interval;
                return allowance(u64::try_from(free).unwrap_or(u64::MAX), reset, wait);
            }
            LimitShape::Window => now - now % span,
            LimitShape::Sliding => (now + 1).saturating_sub(span),
        };
        while self.passed.front().is_some_and(|first| *first < since) {
            self.passed.pop_front();
        }
        let used = u64::try_from(self.passed.len()).unwrap_or(u64::MAX);
        let is_full = used >= rule.count;
        let ends = |from: Option<&u128>| from.map_or(0, |from| (from + span).saturating_sub(now));
        let (reset, wait) = match rule.shape {
            LimitShape::Sliding if is_full => (ends(self.passed.back()), ends(self.passed.front())),
            LimitShape::Sliding => (span, 0),
            _ => (since + span - now, since + span - now),
        };
        allowance(rule.count.saturating_sub(used + 1), reset, if is_full { wait } else { 0 })
    }

    fn take(&mut self, rule: &LimitRule, now: u128) {
        match rule.shape {
            LimitShape::Drip => self.full_at = self.full_at.max(now) + rule.interval_ns(),
            LimitShape::Window | LimitShape::Sliding => self.passed.push_back(now),
        }
    }
}

impl Limits {
    pub(super) fn new(rules: Vec<LimitRule>) -> Self {
        Self { taken: rules.into_iter().map(|rule| (rule, Taken::default())).collect() }
    }

    /// Takes one call out of every limit that it belongs to, or out of none; `None` where nothing limits it.
    ///
    /// `since_start` is measured on a clock that never goes back.
    pub(super) fn take(&mut self, operation: ApiCall, since_start: Duration) -> Option<Allowance> {
        let now = since_start.as_nanos();
        let about_it = |rule: &LimitRule| operation.matches(rule.operation);
        let looked: Vec<Allowance> = self
            .taken
            .iter_mut()
            .filter(|(rule, _)| about_it(rule))
            .map(|(rule, taken)| taken.look(rule, now))
            .collect();
        let refusal =
            looked.iter().filter(|allowance| allowance.retry.is_some()).max_by_key(|allowance| allowance.retry);
        if let Some(refusal) = refusal {
            return Some(*refusal);
        }
        self.taken.iter_mut().filter(|(rule, _)| about_it(rule)).for_each(|(rule, taken)| taken.take(rule, now));
        looked.into_iter().min_by_key(|allowance| allowance.remaining)
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
        let mut take = |at| limits.take(ApiCall::CreateDocument, AT(at)).unwrap();
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
        assert_eq!(limits.take(ApiCall::CreateDocument, AT(0)).unwrap().remaining, 0);
        assert!(limits.take(ApiCall::CreateDocument, AT(0)).unwrap().retry.is_some());
        let later = limits.take(ApiCall::CreateDocument, AT(100_000)).unwrap();
        assert_eq!(later.retry, None);
        assert!(limits.take(ApiCall::UploadImage, AT(100_000)).unwrap().retry.is_some());
    }

    #[test]
    fn what_no_rule_names_is_free() {
        assert_eq!(limits(&["create_document=1/1"]).take(ApiCall::UploadImage, AT(0)), None);
        assert_eq!(limits(&["any=1/1"]).take(ApiCall::Unknown, AT(0)), None);
    }

    #[test]
    fn a_fixed_window_restarts_and_a_sliding_one_forgets_call_by_call() {
        let mut window = limits(&["any=2/4,shape=window"]);
        let mut take = |at| window.take(ApiCall::CreateDocument, AT(at)).unwrap();
        assert_eq!([take(1000).remaining, take(3000).remaining], [1, 0]);
        assert_eq!((take(3500).retry, take(3500).reset), (Some(AT(500)), AT(500)));
        assert_eq!([take(4000).remaining, take(4000).remaining], [1, 0]);
        let mut sliding = limits(&["any=2/4,shape=sliding"]);
        let mut take = |at| sliding.take(ApiCall::CreateDocument, AT(at)).unwrap();
        assert_eq!([take(1000).remaining, take(3000).remaining], [1, 0]);
        assert_eq!((take(4500).retry, take(4500).reset), (Some(AT(500)), AT(2500)));
        assert_eq!(take(5000).retry, None);
        assert_eq!(take(5000).retry, Some(AT(2000)));
    }

    #[test]
    fn limits_report_as_much_as_they_are_set_to() {
        for (says, passed, refused) in [("retry-after", 0, 1), ("nothing", 0, 0), ("everything", 3, 4)] {
            let mut limits = limits(&[&format!("any=1/4,says={says}")]);
            let mut headers = || limits.take(ApiCall::Whoami, AT(0)).unwrap().headers(Timestamp(0)).len();
            assert_eq!((headers(), headers()), (passed, refused), "{says}");
        }
    }

    #[test]
    fn headers_are_rounded_up() {
        let allowance = Allowance { remaining: 0, reset: AT(5001), retry: Some(AT(1)), says: LimitSays::Everything };
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
        for text in [
            "create_document=10000/3600",
            "any=5/1,burst=20",
            "any=5/1,shape=sliding",
            "any=5/1,shape=window,says=retry-after",
            "any=5/1,says=nothing",
        ] {
            assert_eq!(text.parse::<LimitRule>().unwrap().to_string(), text);
        }
        for text in ["any=5/1,shape=round", "any=5/1,says=much", "any=5/1,burst=2,shape=window"] {
            assert!(text.parse::<LimitRule>().is_err(), "{text}");
        }
        for text in
            ["any", "any=5", "any=0/1", "any=5/0", "any=5/1,burst=0", "nay=5/1", "any=5/1,brust=2", "any=9999999999/1"]
        {
            assert!(text.parse::<LimitRule>().is_err(), "{text}");
        }
    }
}
