//! What happened in one call to the API: values only, nothing is judged here.
//!
//! Invariant: a [`Fault`] means that no answer's head was read; where one was, its status is in an [`Answer`], even if
//! the rest of the answer is missing.

use std::{fmt, time::Duration};

use crate::{clock::Timestamp, operation::Operation};

/// One call, from its start to its answer or fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// What was asked for.
    pub operation: Operation,
    /// The answer, or why there is none.
    pub result: Result<Answer, Fault>,
    /// How many bytes of the request's body were handed over.
    pub sent_bytes: u64,
    /// Whether the complete request was handed over, so that the server may have acted on it.
    pub handed_over: bool,
    /// When the call began.
    pub started: Timestamp,
    /// How long it took, to the end of the answer.
    pub took: Duration,
    /// How long after its start the answer's head arrived, if it did.
    pub answered_after: Option<Duration>,
}

impl Exchange {
    /// The headers about limits, where there is an answer.
    #[must_use]
    pub fn limits(&self) -> Option<&LimitHeaders> {
        self.result.as_ref().ok().map(|answer| &answer.limits)
    }

    /// The answer's HTTP status, where there is an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}

/// An answer, as far as it came.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What its headers say about limits.
    pub limits: LimitHeaders,
    /// What its headers say about pages.
    pub pages: PageHeaders,
    /// Its body, or the start of it.
    pub body: Vec<u8>,
    /// The digests of the IDs of documents that were left out of a list while it arrived, because they are certainly not
    /// what is looked for; see [`id_digest`](crate::outcome::id_digest).
    pub omitted: Vec<u64>,
    /// How the body ended.
    pub ending: Ending,
}

impl fmt::Debug for Answer {
    /// Leaves out the body, which may hold personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("limits", &self.limits)
            .field("body_bytes", &self.body.len())
            .field("omitted", &self.omitted.len())
            .field("ending", &self.ending)
            .finish()
    }
}

/// What an answer's headers say about pages of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PageHeaders {
    /// There is another page.
    pub has_next: bool,
    /// How many elements there are in all.
    pub total: Option<u64>,
}

/// How an answer's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With its end.
    Whole,
    /// The connection broke.
    Cut,
    /// It did not end in time.
    Silent,
    /// It is larger than an answer of its kind can be.
    TooLarge,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The host's name has no address.
    #[error("the API's host name cannot be resolved: {0}")]
    Resolve(String),
    /// No connection came about.
    #[error("no connection to the API: {0}")]
    Connect(String),
    /// No trusted connection came about.
    #[error("no trusted connection to the API: {0}; check the clock, and api.ca_file if the API has its own authority")]
    Tls(String),
    /// The connection broke before an answer.
    #[error("the connection broke: {0}")]
    Reset(String),
    /// The server stopped taking the request.
    #[error("the server took nothing for {} seconds", .0.as_secs_f32())]
    Stalled(Duration),
    /// The server took the request and did not answer.
    #[error("no answer within {} seconds", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The file is not the one that was checked.
    #[error("the file has changed since it was checked")]
    SourceChanged,
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    SourceUnreadable(String),
    /// The request could not be made.
    #[error("the request cannot be made: {0}")]
    Local(String),
}

impl Fault {
    /// Whether it is certain that no byte of the request reached the API.
    #[must_use]
    pub const fn certainly_not_sent(&self) -> bool {
        matches!(self, Self::Resolve(_) | Self::Connect(_) | Self::Tls(_) | Self::Local(_))
    }
}

/// The longest wait that a header can ask for: the published buckets are refilled within an hour, so more is a mistake.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A `Retry-After` header, which has two forms (RFC 9110, section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryAfter {
    /// In seconds.
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
    /// How long the headers ask to wait, by the most exact of them.
    ///
    /// Zero where the moment has passed, so the caller needs a minimum of its own.
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

    /// How long the headers of a call that failed for another reason than a limit ask to wait.
    ///
    /// When the bucket is full again is on every answer of a limited call, so it is no reason to wait.
    #[must_use]
    pub fn wait_after_failure(&self, now: Timestamp) -> Option<Duration> {
        Self { reset_secs: None, reset: None, ..*self }.wait(now)
    }

    /// How long until the bucket is full.
    #[must_use]
    pub fn full_in(&self, now: Timestamp) -> Option<Duration> {
        let full = self.reset_secs.map(span).or_else(|| self.reset.map(|moment| moment.since(now)));
        full.map(|full| full.min(LONGEST_WAIT))
    }
}

fn span(seconds: f64) -> Duration {
    // Clamped first, because a conversion from any float may fail.
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST_WAIT.as_secs_f64())).unwrap_or(LONGEST_WAIT)
}
