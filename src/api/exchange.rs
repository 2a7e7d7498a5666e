//! What happened in one call: values only, nothing is judged here.
//!
//! Invariant: a [`Fault`] means that no answer's head was read; where one was, its status is in an [`Answer`], even if
//! the rest of the answer is missing.

use std::{fmt, time::Duration};

use super::limits::LimitHeaders;
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
    /// Whether the whole request was handed over, so that the server may have acted on it.
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
    /// Its body, or the start of it.
    pub body: Vec<u8>,
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
            .field("ending", &self.ending)
            .finish()
    }
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
