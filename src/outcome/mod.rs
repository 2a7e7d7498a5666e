//! Classifies the result of one call to the API: the one place that decides whether it worked, and what may be done
//! next.
//!
//! Pure: an [`Exchange`] goes in, an [`Outcome`] comes out; nothing is sent, stored or counted here. Invariants: a
//! creating call gets [`Outcome::TryAgain`] only where it is certain that nothing was created; [`Outcome::Lost`] only
//! of a creating call; and a list that is not understood is never taken for an empty one.

mod documents;
mod errors;
mod reply;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use documents::{DocumentList, ListDoubt, StandingDocument, id_digest, normal_id};
use errors::{ApiError, Class, Parsed};

use crate::{
    clock::Timestamp,
    exchange::{Answer, Ending, Exchange, Fault},
    operation::Operation,
};

/// What a call that worked gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The image's id.
    Image {
        /// As the API gave it.
        id: String,
    },
    /// The file's id.
    File {
        /// As the API gave it.
        id: String,
    },
    /// The document's id.
    Document {
        /// As the API gave it.
        id: String,
    },
    /// The profile's documents.
    Documents(DocumentList),
    /// The ids of the profile's images.
    Images(Vec<String>),
    /// Whose key it is.
    Whoami {
        /// The account's name.
        auditee: Option<String>,
        /// The name of its institution.
        institution: Option<String>,
        /// The ID of its institution.
        institution_id: Option<String>,
    },
}

/// Why a call did not work, in the API's words where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The code of the error in the answer's body, where there is one.
    pub code: Option<i64>,
    /// At most 300 characters, without control characters, and without anything that looks like a file's content.
    pub message: String,
}

/// What keeps an account from sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PauseCause {
    /// The API does not take the key.
    KeyRefused,
    /// The account's limit of chargeable things or checks is reached.
    QuotaSpent,
}

/// The classified result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It worked.
    Done(Reply),
    /// It will never work for this entry.
    Refused(Reason),
    /// Too many calls; this never counts as an attempt.
    Throttled {
        /// How long the API asks to wait; zero where the moment has passed.
        wait: Option<Duration>,
        /// The API's reason.
        reason: Reason,
    },
    /// Nothing works for this account now; no entry fails for it.
    Paused {
        /// What is the matter.
        cause: PauseCause,
        /// The API's reason.
        reason: Reason,
    },
    /// It did not work, and certainly nothing was created.
    TryAgain(Reason),
    /// A refusal without the API's own error body: a gateway may have said it, so it says nothing about the entry, nor
    /// whether anything was created.
    Unattributed(Reason),
    /// It may have worked: read back, or send again and count what may be left over.
    Lost(Reason),
    /// The file is not the one that was checked; nothing was created.
    SourceChanged(Reason),
    /// The file cannot be read; nothing was created.
    SourceUnreadable(Reason),
}

impl Outcome {
    /// The word in metrics and in the queue.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Refused(_) => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Paused { .. } => "paused",
            Self::TryAgain(_) => "try_again",
            Self::Unattributed(_) => "unattributed",
            Self::Lost(_) => "lost",
            Self::SourceChanged(_) => "source_changed",
            Self::SourceUnreadable(_) => "source_unreadable",
        }
    }

    /// Why it did not work, where it did not.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Done(_) => None,
            Self::Refused(reason)
            | Self::Throttled { reason, .. }
            | Self::Paused { reason, .. }
            | Self::TryAgain(reason)
            | Self::Unattributed(reason)
            | Self::Lost(reason)
            | Self::SourceChanged(reason)
            | Self::SourceUnreadable(reason) => Some(reason),
        }
    }
}

/// Classifies the result of a call. `now` is what dates in the answer's headers are compared with.
#[must_use]
pub fn outcome(exchange: &Exchange, now: Timestamp) -> Outcome {
    match &exchange.result {
        Ok(answer) => answered(exchange, answer, now),
        Err(fault) => failed(exchange, fault),
    }
}

/// A call without an answer.
fn failed(exchange: &Exchange, fault: &Fault) -> Outcome {
    let reason = Reason { status: None, code: None, message: errors::bounded(&fault.to_string()) };
    match fault {
        Fault::SourceChanged => Outcome::SourceChanged(reason),
        Fault::SourceUnreadable(_) => Outcome::SourceUnreadable(reason),
        fault if fault.certainly_not_sent() => Outcome::TryAgain(reason),
        _ => unanswered(exchange, reason),
    }
}

/// A call of which it is not known what the server made of it.
fn unanswered(exchange: &Exchange, reason: Reason) -> Outcome {
    // Without its last frame a body is broken JSON, of which nothing can be created.
    if exchange.operation.is_creating() && exchange.handed_over {
        Outcome::Lost(reason)
    } else {
        Outcome::TryAgain(reason)
    }
}

/// The status of an answer that is a part of the whole (RFC 9110, section 15.3.7).
const PARTIAL_CONTENT: u16 = 206;

/// A call whose answer's head came.
fn answered(exchange: &Exchange, answer: &Answer, now: Timestamp) -> Outcome {
    let operation = exchange.operation;
    let parsed = match answer.ending {
        Ending::Whole if is_success(answer.status) => match reply::read(operation, answer) {
            Parsed::Reply(Reply::Documents(mut list)) if answer.status == PARTIAL_CONTENT => {
                list.doubts.push(ListDoubt::MorePages);
                Parsed::Reply(Reply::Documents(list))
            }
            parsed => parsed,
        },
        Ending::Whole => errors::read(&answer.body),
        Ending::Cut | Ending::Silent | Ending::TooLarge => Parsed::Unreadable,
    };
    let outcome = match parsed {
        Parsed::Reply(reply) if !operation.is_creating() || exchange.handed_over => Outcome::Done(reply),
        Parsed::Reply(_) => {
            let message = "the API said that it worked before it had the whole request";
            Outcome::Lost(Reason { status: Some(answer.status), code: None, message: message.to_owned() })
        }
        Parsed::Error(error) => by_error(exchange, answer, error, now),
        Parsed::Doubtful(error) | Parsed::Foreign(error) => {
            by_status(exchange, answer, quoted(answer, error), Speaker::Anyone, now)
        }
        Parsed::Unreadable => by_status(exchange, answer, unreadable(answer), Speaker::Anyone, now),
    };
    match outcome {
        // Whatever else it says: a refusal with the ID of a document refuses nothing for certain.
        Outcome::Refused(reason)
        | Outcome::TryAgain(reason)
        | Outcome::Unattributed(reason)
        | Outcome::Paused { reason, .. }
        | Outcome::Throttled { reason, .. }
            if operation == Operation::CreateDocument && answered_id(exchange).is_some() =>
        {
            Outcome::Lost(reason)
        }
        outcome => outcome,
    }
}

/// The ID of what was created, by whatever answer to a creating call, also beside an error or where the rest is cut off.
///
/// Gateways number their errors too: of an answer that is no success, only a UUID beside `errors` counts.
#[must_use]
pub fn answered_id(exchange: &Exchange) -> Option<String> {
    let answer = exchange.result.as_ref().ok().filter(|_| exchange.operation.is_creating())?;
    let (id, has_errors) = reply::first_id(&answer.body)?;
    (is_success(answer.status) || has_errors && id.len() >= 32 && normal_id(&id).len() == 32).then_some(id)
}

/// An answer that says what went wrong: its code counts more than its status.
fn by_error(exchange: &Exchange, answer: &Answer, error: ApiError, now: Timestamp) -> Outcome {
    let class = error.class();
    let reason = quoted(answer, error);
    match (class, answer.status) {
        // Whatever else it says, no entry may fail for a key.
        (_, 401) | (Class::Key, _) => Outcome::Paused { cause: PauseCause::KeyRefused, reason },
        (Class::Quota, _) => Outcome::Paused { cause: PauseCause::QuotaSpent, reason },
        (_, 429) => throttled(answer, reason, now),
        (Class::Refused, _) => Outcome::Refused(reason),
        // Once, 15 documents came of one job whose every answer was such an error, and the document was created each time.
        (Class::Transient | Class::Unknown, 200..=299) if exchange.operation == Operation::CreateDocument => {
            Outcome::Lost(reason)
        }
        (Class::Transient, 500..) => unanswered(exchange, reason),
        (Class::Transient, _) if exchange.operation == Operation::CreateDocument => unanswered(exchange, reason),
        (Class::Transient, _) => Outcome::TryAgain(reason),
        (Class::Unknown, 200..=299) => Outcome::TryAgain(reason),
        (Class::Unknown, _) => by_status(exchange, answer, reason, Speaker::Api, now),
    }
}

/// Who an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaker {
    /// It has an error of the API's own.
    Api,
    /// The API, or a gateway in its place.
    Anyone,
}

/// An answer of which only the status says something.
fn by_status(exchange: &Exchange, answer: &Answer, mut reason: Reason, speaker: Speaker, now: Timestamp) -> Outcome {
    match answer.status {
        // Lists and probes change nothing; what was to be created may be there, whether or not the body went out.
        200..=299 if exchange.operation.is_creating() => Outcome::Lost(reason),
        200..=299 => Outcome::TryAgain(reason),
        401 | 403 => Outcome::Paused { cause: PauseCause::KeyRefused, reason },
        429 => throttled(answer, reason, now),
        300..=399 => {
            reason.message = "the API redirects elsewhere, which is not followed; check api.base_url".to_owned();
            // Some servers answer so when they have done what was asked for, and send on to what came of it.
            unanswered(exchange, reason)
        }
        407 => {
            reason.message = "the proxy asks for a password; check api.proxy".to_owned();
            Outcome::TryAgain(reason)
        }
        // An API may answer so when it gave up waiting, while what it began continues behind it.
        408 => unanswered(exchange, reason),
        425 => Outcome::TryAgain(reason),
        409 | 412 if exchange.operation == Operation::CreateDocument => Outcome::Lost(reason),
        // Whoever says so, it is about this request: it is too long, or of a type that is not taken.
        413..=415 => Outcome::Refused(reason),
        400..=499 if speaker == Speaker::Api => Outcome::Refused(reason),
        // A gateway's page during a deploy once failed every entry for good.
        400..=499 => Outcome::Unattributed(reason),
        _ => unanswered(exchange, reason),
    }
}

fn throttled(answer: &Answer, reason: Reason, now: Timestamp) -> Outcome {
    Outcome::Throttled { wait: answer.limits.wait(now), reason }
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// What the API says, or what there is to say if it only gives a code.
fn quoted(answer: &Answer, error: ApiError) -> Reason {
    let message = error.message.map_or_else(|| unreadable(answer).message, |message| errors::bounded(&message));
    Reason { status: Some(answer.status), code: error.code, message }
}

/// What to say of an answer that says nothing itself.
fn unreadable(answer: &Answer) -> Reason {
    let status = answer.status;
    let message = match answer.ending {
        Ending::Cut => format!("HTTP status {status}, and the answer was cut off"),
        Ending::Silent => format!("HTTP status {status}, and the answer did not end in time"),
        Ending::TooLarge => format!("HTTP status {status}, and the answer is too large"),
        Ending::Whole if is_success(status) => format!("HTTP status {status}, but the answer is not understood"),
        Ending::Whole => format!("HTTP status {status}"),
    };
    Reason { status: Some(status), code: None, message }
}
