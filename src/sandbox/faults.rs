//! Rules for what goes wrong, and when: `create_document=lost,p=0.2`.
//!
//! A rule counts every call of its operation (and profile), whether or not an earlier rule fired for it; of the rules
//! that fire for a call, the first one given is applied. What a fault does to a connection is not known here.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    dice::Dice,
    operation::Operation,
    syntax::{RuleError, duration_text, number, parse_duration, positive, unknown_word},
};
use crate::entry::ProfileId;

/// A status that a gateway answers with, and the API's own error code where the body is to have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultStatus {
    /// From 200 to 599.
    pub status: u16,
    /// Without it, a 5xx says nothing that the API's table of codes knows.
    pub code: Option<u16>,
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
    /// Reads so many bytes of the body, then resets the connection; nothing is done.
    ResetBody(u64),
    /// Does the call, then closes in the middle of the answer's body.
    Cut,
    /// Does the call, then answers with broken JSON.
    Garbled,
    /// Does the call, then waits before it answers as usual.
    Slow(Duration),
    /// Reads the body at so many bytes a second, then goes on as usual.
    SlowBody(u64),
    /// Reads the request, does nothing, never answers.
    Hang,
    /// Does the call, never answers.
    HangAfter,
    /// Answers 429 with the API's own headers, so many seconds; nothing is done.
    Throttle(u64),
    /// Answers 429 with `Retry-After` only, so many seconds; nothing is done.
    ThrottleRetryAfter(u64),
    /// Answers 200 with this error code in its body; nothing is done.
    Errors200(u16),
    /// Answers 502 with a page of HTML; nothing is done.
    Html,
    /// Does the call, then answers 200 with a page of HTML.
    Html200,
}

impl FaultKind {
    const KNOWN: [&str; 16] = [
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
            | Self::Html200 => true,
            Self::StatusBefore(_)
            | Self::Early(_)
            | Self::ResetBody(_)
            | Self::Hang
            | Self::Throttle(_)
            | Self::ThrottleRetryAfter(_)
            | Self::Errors200(_)
            | Self::Html => false,
        }
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
        }
    }
}

impl FromStr for FaultStatus {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (status, code) = text.split_once('/').map_or((text, None), |(status, code)| (status, Some(code)));
        let status = number("a status", status)?;
        if !(200..=599).contains(&status) {
            return Err(RuleError(format!("the status {status} is none of an answer: take one from 200 to 599")));
        }
        Ok(Self { status, code: code.map(|code| number("an error code", code)).transpose()? })
    }
}

impl fmt::Display for FaultStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        self.code.map_or(Ok(()), |code| write!(f, "/{code}"))
    }
}

/// When a fault happens: to calls for which everything that is given holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct When {
    /// Only every so many-th matching call.
    pub every: Option<u64>,
    /// Only this matching call, counted from 1.
    pub nth: Option<u64>,
    /// Only the first so many matching calls.
    pub first: Option<u64>,
    /// At most so often.
    pub times: Option<u64>,
    /// With this probability, from 0 to 1.
    pub p: Option<f64>,
    /// Only calls for this profile.
    pub profile: Option<ProfileId>,
}

/// One rule, written `OPERATION=KIND[,when…]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// The call that it is about; `None` is any.
    pub operation: Option<Operation>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// When it does.
    pub when: When,
}

impl FromStr for FaultRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (operation, rest) = text.split_once('=').ok_or_else(|| {
            RuleError("a fault is written OPERATION=KIND[,WHEN…], e.g. create_document=lost,p=0.2".to_owned())
        })?;
        let operation = Operation::parse_pattern(operation.trim())?;
        let mut parts = rest.split(',').map(str::trim);
        let kind = parts.next().unwrap_or_default().parse()?;
        let mut when = When::default();
        for part in parts {
            let (word, value) = part.split_once('=').unwrap_or((part, ""));
            match word {
                "every" => when.every = Some(positive(word, value)?),
                "nth" => when.nth = Some(positive(word, value)?),
                "first" => when.first = Some(positive(word, value)?),
                "times" => when.times = Some(positive(word, value)?),
                "p" => {
                    let p = value.parse().ok().filter(|p| (0.0..=1.0).contains(p));
                    when.p = Some(p.ok_or_else(|| RuleError("p takes a number from 0 to 1, e.g. p=0.2".to_owned()))?);
                }
                "profile" => {
                    let id = ProfileId::parse(value).ok_or_else(|| RuleError("profile takes a UUID".to_owned()))?;
                    when.profile = Some(id);
                }
                _ => return Err(unknown_word("condition", word, ["every", "nth", "first", "times", "p", "profile"])),
            }
        }
        Ok(Self { operation, kind, when })
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Operation::pattern_text(self.operation), self.kind)?;
        let When { every, nth, first, times, p, profile } = &self.when;
        for (word, value) in [("every", every), ("nth", nth), ("first", first), ("times", times)] {
            if let Some(value) = value {
                write!(f, ",{word}={value}")?;
            }
        }
        if let Some(p) = p {
            write!(f, ",p={p}")?;
        }
        if let Some(profile) = profile {
            write!(f, ",profile={profile}")?;
        }
        Ok(())
    }
}

/// The rules in force, with how often each matched and fired.
#[derive(Debug)]
pub(super) struct Faults {
    rules: Vec<(FaultRule, Count)>,
    dice: Dice,
}

#[derive(Debug, Default)]
struct Count {
    seen: u64,
    fired: u64,
}

impl Faults {
    pub(super) fn new(rules: Vec<FaultRule>, seed: u64) -> Self {
        let mut faults = Self { rules: Vec::new(), dice: Dice::new(seed) };
        faults.replace(rules);
        faults
    }

    /// Puts these rules in the place of the old ones; all counts start anew, the dice roll on.
    pub(super) fn replace(&mut self, rules: Vec<FaultRule>) {
        self.rules = rules.into_iter().map(|rule| (rule, Count::default())).collect();
    }

    /// Counts a call and says what is to go wrong with it.
    pub(super) fn arrive(&mut self, operation: Operation, profile: Option<&ProfileId>) -> Option<FaultRule> {
        let mut chosen = None;
        for (rule, count) in &mut self.rules {
            let when = &rule.when;
            let about_it =
                operation.matches(rule.operation) && when.profile.as_ref().is_none_or(|wanted| Some(wanted) == profile);
            if !about_it {
                continue;
            }
            count.seen += 1;
            let due = when.every.is_none_or(|every| count.seen % every.max(1) == 0)
                && when.nth.is_none_or(|nth| count.seen == nth)
                && when.first.is_none_or(|first| count.seen <= first)
                && when.times.is_none_or(|times| count.fired < times)
                && chosen.is_none()
                && when.p.is_none_or(|p| self.dice.share() < p);
            if due {
                count.fired += 1;
                chosen = Some(rule.clone());
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(rules: &[&str], calls: usize) -> Vec<bool> {
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let mut faults = Faults::new(rules, 7);
        (0..calls).map(|_| faults.arrive(Operation::CreateDocument, None).is_some()).collect()
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "create_document=lost,p=0.2",
            "upload_image=status-before:503,first=3",
            "any=status-after:500/501,every=2,times=4",
            "upload_file=slow:250ms,nth=1,profile=a2c4393a-e219-67a4-5ab4-2186952e9038",
            "upload_image=reset-body:0",
            "whoami=throttle:5",
        ] {
            assert_eq!(text.parse::<FaultRule>().unwrap().to_string(), text);
        }
        for kind in FaultKind::KNOWN {
            let kind = match kind.split_once(':') {
                Some((word, "DURATION")) => format!("{word}:1s"),
                Some((word, _)) => format!("{word}:404"),
                None => kind.to_owned(),
            };
            assert_eq!(kind.parse::<FaultKind>().unwrap().to_string(), kind);
        }
    }

    #[test]
    fn slips_are_told_the_cure() {
        for (text, cure) in [
            ("create_document", "OPERATION=KIND"),
            ("create_documnet=lost", "did you mean 'create_document'"),
            ("create_document=losst", "did you mean 'lost'"),
            ("create_document=lost,tims=2", "did you mean 'times'"),
            ("create_document=early", "early:413"),
            ("create_document=early:99", "from 200 to 599"),
            ("create_document=lost:1", "takes no value"),
            ("create_document=lost,p=2", "from 0 to 1"),
            ("create_document=lost,every=0", "from 1"),
            ("create_document=lost,profile=17", "UUID"),
            ("create_document=slow:2", "e.g. 250ms"),
        ] {
            let error = text.parse::<FaultRule>().unwrap_err().to_string();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }

    #[test]
    fn conditions_pick_their_calls() {
        assert_eq!(fired(&["any=lost,every=2"], 5), [false, true, false, true, false]);
        assert_eq!(fired(&["any=lost,nth=3"], 5), [false, false, true, false, false]);
        assert_eq!(fired(&["any=lost,first=2"], 4), [true, true, false, false]);
        assert_eq!(fired(&["any=lost,every=2,times=1"], 5), [false, true, false, false, false]);
        assert_eq!(fired(&["upload_image=lost"], 2), [false, false]);
        assert_eq!(fired(&["any=lost,profile=a2c4393a-e219-67a4-5ab4-2186952e9038"], 1), [false]);
    }

    #[test]
    fn the_dice_follow_the_seed_and_the_probability() {
        let one = fired(&["any=lost,p=0.2"], 2000);
        assert_eq!(one, fired(&["any=lost,p=0.2"], 2000));
        let count = one.iter().filter(|fired| **fired).count();
        assert!((300..500).contains(&count), "{count} of 2000 at 0.2");
        assert_eq!(fired(&["any=lost,p=0"], 50), [false; 50]);
        assert_eq!(fired(&["any=lost,p=1"], 50), [true; 50]);
    }

    #[test]
    fn the_first_rule_that_fires_wins_and_all_count() {
        let rules = ["create_document=lost,nth=1", "create_document=cut,first=2"];
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let mut faults = Faults::new(rules, 0);
        let kinds: Vec<_> =
            (0..3).map(|_| faults.arrive(Operation::CreateDocument, None).map(|rule| rule.kind)).collect();
        assert_eq!(kinds, [Some(FaultKind::Lost), Some(FaultKind::Cut), None]);
    }
}
