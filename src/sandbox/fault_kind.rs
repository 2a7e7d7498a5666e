//! What goes wrong with a call, as rules write it: `status-before:503`, `lost`, `length:+7`.
//!
//! Words and values only: when a fault happens is decided in [`faults`](super::faults), and what it does to a
//! connection in [`serve`](super::serve) and [`wire`](super::wire).

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{
    list_fault::ListFault,
    syntax::{RuleError, duration_text, number, parse_duration, positive, unknown_word},
};

/// A status that a gateway answers with, and the API's own error code where the body is to have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultStatus {
    /// From 200 to 599.
    pub status: u16,
    /// Without it, a 5xx says nothing that the API's table of codes knows.
    pub code: Option<u16>,
}

/// When a call is done that has been answered before, and with which status it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateDeed {
    /// After so long.
    pub after: Duration,
    /// Without it, the connection is closed; without a code, a gateway answers.
    pub status: Option<FaultStatus>,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// Reads the request, does nothing, answers the status.
    StatusBefore(FaultStatus),
    /// Answers the status before the body is read; nothing is done.
    Early(FaultStatus),
    /// Does the call, then answers the status.
    StatusAfter(FaultStatus),
    /// Does the call, then closes the connection without an answer.
    Lost,
    /// Reads this many bytes of the body, then resets the connection; nothing is done.
    ResetBody(u64),
    /// Does the call, then closes in the middle of the answer's body.
    Cut,
    /// Does the call, then answers with broken JSON.
    Garbled,
    /// Does the call, then waits before it answers as usual.
    Slow(Duration),
    /// Reads the body at this many bytes a second, then continues as usual.
    SlowBody(u64),
    /// Reads the request, does nothing, never answers.
    Hang,
    /// Does the call, never answers.
    HangAfter,
    /// Answers 429 with the API's own headers, for this many seconds; nothing is done.
    Throttle(u64),
    /// Answers 429 with `Retry-After` only, for this many seconds; nothing is done.
    ThrottleRetryAfter(u64),
    /// Answers 200 with this error code in its body; nothing is done.
    Errors200(u16),
    /// Answers 502 with a page of HTML; nothing is done.
    Html,
    /// Does the call, then answers 200 with a page of HTML.
    Html200,
    /// Answers the status with an empty body; nothing is done.
    Bare(u16),
    /// Does the call, then answers the status with an empty body.
    BareAfter(u16),
    /// Answers the status with the address of another path; nothing is done.
    Redirect(u16),
    /// Does the call, then answers the status with the address of another path.
    RedirectAfter(u16),
    /// Does the call; an interim answer with this status goes ahead of the usual one.
    Interim(u16),
    /// Does the call, then closes in the middle of the answer's first line.
    CutStatus,
    /// Does the call, then closes in the middle of the answer's headers.
    CutHead,
    /// Does the call, then resets the connection without an answer.
    ResetAfter,
    /// Does the call, then sends the usual answer twice, one right behind the other.
    Twice,
    /// Does the call, then answers with a `Content-Length` that is wrong by this many bytes.
    Length(i64),
    /// Closes the connection, or answers the status, at once; does the call so much later, when its client has gone.
    Late(LateDeed),
    /// Never answers; does the call so much later.
    LateHang(Duration),
    /// Does the call, then answers 200 with this error code in its body, and without an id.
    Errors200After(u16),
    /// Does the call, then answers the status with the usual record and an error code beside its id.
    ErrorsId(FaultStatus),
    /// Answers the status with a gateway's page of HTML; nothing is done.
    Gateway(u16),
    /// Answers the status with JSON that has none of the API's `errors`; nothing is done.
    GatewayJson(u16),
    /// Answers 503 with a page of HTML and `Retry-After`, for this many seconds; nothing is done.
    Maintenance(u64),
    /// Answers 401, and quotes the key that came; nothing is done.
    QuoteKey,
    /// Answers 400, and quotes a person's name and date of birth; nothing is done.
    QuotePerson,
    /// Lists documents as they were so long ago.
    Stale(Duration),
    /// Lists documents in a way of its own.
    List(ListFault),
    /// Does the call; so many interim answers with status 103 go ahead of the usual one.
    InterimFlood(u64),
    /// Does the call, then answers as usual, at this many bytes a second.
    Drip(u64),
}

/// What the sandbox answers with where a redirect is asked for: no call of the API.
pub(super) const ELSEWHERE: &str = "/elsewhere";

impl FaultKind {
    pub(super) const KNOWN: [&str; 39] = [
        "status-before:CODE",
        "early:CODE",
        "status-after:CODE",
        "lost",
        "reset-body:BYTES",
        "cut",
        "garbled",
        "slow:DURATION",
        "slow-body:BYTES_PER_SECOND",
        "hang",
        "hang-after",
        "throttle:SECONDS",
        "throttle-retry-after:SECONDS",
        "errors200:CODE",
        "html",
        "html200",
        "bare:CODE",
        "bare-after:CODE",
        "redirect:CODE",
        "redirect-after:CODE",
        "interim:CODE",
        "cut-status",
        "cut-head",
        "reset-after",
        "twice",
        "length:DIFFERENCE",
        "late:DURATION",
        "late-hang:DURATION",
        "errors200-after:CODE",
        "errors-id:CODE",
        "gateway:CODE",
        "gateway-json:CODE",
        "maintenance:SECONDS",
        "quote-key",
        "quote-person",
        "stale:DURATION",
        "list:SHAPE",
        "interim-flood:COUNT",
        "drip:BYTES_PER_SECOND",
    ];

    /// Whether the call takes effect in spite of the fault.
    #[must_use]
    pub const fn commits(&self) -> bool {
        match self {
            Self::StatusAfter(_)
            | Self::Lost
            | Self::Cut
            | Self::Garbled
            | Self::Slow(_)
            | Self::SlowBody(_)
            | Self::HangAfter
            | Self::Html200
            | Self::BareAfter(_)
            | Self::RedirectAfter(_)
            | Self::Interim(_)
            | Self::CutStatus
            | Self::CutHead
            | Self::ResetAfter
            | Self::Twice
            | Self::Length(_)
            | Self::Late(_)
            | Self::LateHang(_)
            | Self::Errors200After(_)
            | Self::ErrorsId(_)
            | Self::Stale(_)
            | Self::List(_)
            | Self::InterimFlood(_)
            | Self::Drip(_) => true,
            Self::StatusBefore(_)
            | Self::Early(_)
            | Self::ResetBody(_)
            | Self::Hang
            | Self::Throttle(_)
            | Self::ThrottleRetryAfter(_)
            | Self::Errors200(_)
            | Self::Html
            | Self::Bare(_)
            | Self::Redirect(_)
            | Self::Gateway(_)
            | Self::GatewayJson(_)
            | Self::Maintenance(_)
            | Self::QuoteKey
            | Self::QuotePerson => false,
        }
    }

    /// Whether the client gets the complete usual answer, perhaps late, or with something added.
    #[must_use]
    pub const fn answers_completely(&self) -> bool {
        matches!(
            self,
            Self::Slow(_) | Self::SlowBody(_) | Self::Interim(_) | Self::Twice | Self::InterimFlood(_) | Self::Drip(_)
        )
    }
}

impl FromStr for FaultKind {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (word, value) = text.split_once(':').map_or((text, None), |(word, value)| (word, Some(value)));
        let needed =
            |example: &str| value.ok_or_else(|| RuleError(format!("'{word}' needs a value, e.g. {word}:{example}")));
        let kind = match word {
            "status-before" => Self::StatusBefore(needed("503")?.parse()?),
            "early" => Self::Early(needed("413")?.parse()?),
            "status-after" => Self::StatusAfter(needed("503")?.parse()?),
            "reset-body" => return Ok(Self::ResetBody(number(word, needed("65536")?)?)),
            "slow" => Self::Slow(parse_duration(needed("2s")?)?),
            "slow-body" => Self::SlowBody(positive(word, needed("100000")?)?),
            "throttle" => Self::Throttle(number(word, needed("5")?)?),
            "throttle-retry-after" => Self::ThrottleRetryAfter(number(word, needed("5")?)?),
            "errors200" => Self::Errors200(number(word, needed("501")?)?),
            "lost" => Self::Lost,
            "cut" => Self::Cut,
            "garbled" => Self::Garbled,
            "hang" => Self::Hang,
            "hang-after" => Self::HangAfter,
            "html" => Self::Html,
            "html200" => Self::Html200,
            "bare" => Self::Bare(status(needed("204")?, 200..=599)?),
            "bare-after" => Self::BareAfter(status(needed("204")?, 200..=599)?),
            "redirect" => Self::Redirect(status(needed("307")?, 300..=399)?),
            "redirect-after" => Self::RedirectAfter(status(needed("303")?, 300..=399)?),
            "interim" => Self::Interim(status(needed("103")?, 100..=199)?),
            "cut-status" => Self::CutStatus,
            "cut-head" => Self::CutHead,
            "reset-after" => Self::ResetAfter,
            "twice" => Self::Twice,
            "length" => Self::Length(number(word, needed("+7")?)?),
            "late" => Self::Late(needed("95s")?.parse()?),
            "late-hang" => Self::LateHang(parse_duration(needed("95s")?)?),
            "errors200-after" => Self::Errors200After(number(word, needed("301")?)?),
            "errors-id" => Self::ErrorsId(needed("200/301")?.parse()?),
            "gateway" => Self::Gateway(status(needed("404")?, 200..=599)?),
            "gateway-json" => Self::GatewayJson(status(needed("404")?, 200..=599)?),
            "maintenance" => Self::Maintenance(number(word, needed("86400")?)?),
            "quote-key" => Self::QuoteKey,
            "quote-person" => Self::QuotePerson,
            "stale" => Self::Stale(parse_duration(needed("5m")?)?),
            "list" => Self::List(needed("page")?.parse()?),
            "interim-flood" => Self::InterimFlood(positive(word, needed("1000")?)?),
            "drip" => Self::Drip(positive(word, needed("1")?)?),
            _ => return Err(unknown_word("fault", word, Self::KNOWN)),
        };
        let takes_value = Self::KNOWN.iter().any(|known| known.split_once(':').is_some_and(|(known, _)| known == word));
        match value {
            Some(_) if !takes_value => Err(RuleError(format!("'{word}' takes no value: write only '{word}'"))),
            _ => Ok(kind),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatusBefore(status) => write!(f, "status-before:{status}"),
            Self::Early(status) => write!(f, "early:{status}"),
            Self::StatusAfter(status) => write!(f, "status-after:{status}"),
            Self::Lost => f.write_str("lost"),
            Self::ResetBody(bytes) => write!(f, "reset-body:{bytes}"),
            Self::Cut => f.write_str("cut"),
            Self::Garbled => f.write_str("garbled"),
            Self::Slow(wait) => write!(f, "slow:{}", duration_text(*wait)),
            Self::SlowBody(bytes) => write!(f, "slow-body:{bytes}"),
            Self::Hang => f.write_str("hang"),
            Self::HangAfter => f.write_str("hang-after"),
            Self::Throttle(seconds) => write!(f, "throttle:{seconds}"),
            Self::ThrottleRetryAfter(seconds) => write!(f, "throttle-retry-after:{seconds}"),
            Self::Errors200(code) => write!(f, "errors200:{code}"),
            Self::Html => f.write_str("html"),
            Self::Html200 => f.write_str("html200"),
            Self::Bare(status) => write!(f, "bare:{status}"),
            Self::BareAfter(status) => write!(f, "bare-after:{status}"),
            Self::Redirect(status) => write!(f, "redirect:{status}"),
            Self::RedirectAfter(status) => write!(f, "redirect-after:{status}"),
            Self::Interim(status) => write!(f, "interim:{status}"),
            Self::CutStatus => f.write_str("cut-status"),
            Self::CutHead => f.write_str("cut-head"),
            Self::ResetAfter => f.write_str("reset-after"),
            Self::Twice => f.write_str("twice"),
            Self::Length(difference) => write!(f, "length:{difference:+}"),
            Self::Late(deed) => write!(f, "late:{deed}"),
            Self::LateHang(after) => write!(f, "late-hang:{}", duration_text(*after)),
            Self::Errors200After(code) => write!(f, "errors200-after:{code}"),
            Self::ErrorsId(status) => write!(f, "errors-id:{status}"),
            Self::Gateway(status) => write!(f, "gateway:{status}"),
            Self::GatewayJson(status) => write!(f, "gateway-json:{status}"),
            Self::Maintenance(seconds) => write!(f, "maintenance:{seconds}"),
            Self::QuoteKey => f.write_str("quote-key"),
            Self::QuotePerson => f.write_str("quote-person"),
            Self::Stale(age) => write!(f, "stale:{}", duration_text(*age)),
            Self::List(shape) => write!(f, "list:{shape}"),
            Self::InterimFlood(count) => write!(f, "interim-flood:{count}"),
            Self::Drip(bytes) => write!(f, "drip:{bytes}"),
        }
    }
}

/// Reads a status out of those that make sense.
fn status(text: &str, known: RangeInclusive<u16>) -> Result<u16, RuleError> {
    let status = number("a status", text)?;
    if known.contains(&status) {
        return Ok(status);
    }
    let (from, to) = (known.start(), known.end());
    Err(RuleError(format!("the status {status} is none of an answer here: take one from {from} to {to}")))
}

impl FromStr for LateDeed {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (after, code) = text.split_once('/').map_or((text, None), |(after, code)| (after, Some(code)));
        Ok(Self { after: parse_duration(after)?, status: code.map(str::parse).transpose()? })
    }
}

impl fmt::Display for LateDeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.after))?;
        self.status.map_or(Ok(()), |status| write!(f, "/{status}"))
    }
}

impl FromStr for FaultStatus {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (digits, code) = text.split_once('/').map_or((text, None), |(status, code)| (status, Some(code)));
        let status = status(digits, 200..=599)?;
        Ok(Self { status, code: code.map(|code| number("an error code", code)).transpose()? })
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        self.code.map_or(Ok(()), |code| write!(f, "/{code}"))
    }
}
