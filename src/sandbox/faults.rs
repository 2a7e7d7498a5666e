//! Rules for what goes wrong, and when: `create_document=lost,p=0.2`.
//!
//! A rule counts every call of its operation (and profile), whether or not an earlier rule fired for it; of the rules
//! that fire for a call, the first one given is applied. What a fault does to a connection is not known here.

use std::{fmt, str::FromStr, time::Duration};

use tokio::time::Instant;

use super::{
    dice::Dice,
    fault_kind::FaultKind,
    operation::ApiCall,
    syntax::{RuleError, duration_text, parse_duration, positive, unknown_word},
};
use crate::entry::ProfileId;

/// When a fault happens: to calls for which everything that is given holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct When {
    /// Only every n-th matching call.
    pub every: Option<u64>,
    /// Only this matching call, counted from 1.
    pub nth: Option<u64>,
    /// Only the first n matching calls.
    pub first: Option<u64>,
    /// At most so often.
    pub times: Option<u64>,
    /// With this probability, from 0 to 1.
    pub p: Option<f64>,
    /// Only within so long of the first matching call.
    pub within: Option<Duration>,
    /// Only calls for this profile.
    pub profile: Option<ProfileId>,
}

/// One rule, written `OPERATION=KIND[,when…]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    /// The call that it is about; `None` is any.
    pub operation: Option<ApiCall>,
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
        let operation = ApiCall::parse_pattern(operation.trim())?;
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
                "for" => when.within = Some(parse_duration(value)?),
                "profile" => {
                    let id = ProfileId::parse(value).ok_or_else(|| RuleError("profile takes a UUID".to_owned()))?;
                    when.profile = Some(id);
                }
                _ => {
                    return Err(unknown_word(
                        "condition",
                        word,
                        ["every", "nth", "first", "times", "p", "for", "profile"],
                    ));
                }
            }
        }
        Ok(Self { operation, kind, when })
    }
}

impl fmt::Display for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", ApiCall::pattern_text(self.operation), self.kind)?;
        let When { every, nth, first, times, p, within, profile } = &self.when;
        for (word, value) in [("every", every), ("nth", nth), ("first", first), ("times", times)] {
            if let Some(value) = value {
                write!(f, ",{word}={value}")?;
            }
        }
        if let Some(p) = p {
            write!(f, ",p={p}")?;
        }
        if let Some(within) = within {
            write!(f, ",for={}", duration_text(*within))?;
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
    since: Option<Instant>,
}

impl Faults {
    pub(super) fn new(rules: Vec<FaultRule>, seed: u64) -> Self {
        let mut faults = Self { rules: Vec::new(), dice: Dice::new(seed) };
        faults.replace(rules);
        faults
    }

    /// Replaces the rules; all counts restart, the dice continue.
    pub(super) fn replace(&mut self, rules: Vec<FaultRule>) {
        self.rules = rules.into_iter().map(|rule| (rule, Count::default())).collect();
    }

    /// Counts a call and says what is to go wrong with it.
    pub(super) fn arrive(
        &mut self,
        operation: ApiCall,
        profile: Option<&ProfileId>,
        now: Instant,
    ) -> Option<FaultRule> {
        let mut chosen = None;
        for (rule, count) in &mut self.rules {
            let when = &rule.when;
            let about_it =
                operation.matches(rule.operation) && when.profile.as_ref().is_none_or(|wanted| Some(wanted) == profile);
            if !about_it {
                continue;
            }
            count.seen += 1;
            let since = *count.since.get_or_insert(now);
            let due = when.every.is_none_or(|every| count.seen % every.max(1) == 0)
                && when.nth.is_none_or(|nth| count.seen == nth)
                && when.first.is_none_or(|first| count.seen <= first)
                && when.times.is_none_or(|times| count.fired < times)
                && when.within.is_none_or(|within| now.duration_since(since) < within)
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
        let now = Instant::now();
        (0..calls).map(|_| faults.arrive(ApiCall::CreateDocument, None, now).is_some()).collect()
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
            "create_document=late:95s/504,times=2",
            "create_document=late:1s/500/501",
            "create_document=errors-id:200/301",
            "any=gateway:404,p=0.5,for=2s",
        ] {
            assert_eq!(text.parse::<FaultRule>().unwrap().to_string(), text);
        }
        for kind in FaultKind::KNOWN {
            let kind = match kind.split_once(':') {
                Some((word, "DURATION")) => format!("{word}:1s"),
                Some((word, "SHAPE")) => format!("{word}:page"),
                Some((word, "DIFFERENCE")) => format!("{word}:-1"),
                Some((word @ ("redirect" | "redirect-after"), _)) => format!("{word}:307"),
                Some((word @ "interim", _)) => format!("{word}:103"),
                Some((word, _)) => format!("{word}:404"),
                None => kind.to_owned(),
            };
            assert_eq!(kind.parse::<FaultKind>().unwrap().to_string(), kind);
        }
    }

    #[test]
    fn mistakes_are_reported_with_the_cure() {
        for (text, cure) in [
            ("create_document", "OPERATION=KIND"),
            ("create_documnet=lost", "did you mean 'create_document'"),
            ("create_document=losst", "did you mean 'lost'"),
            ("create_document=lost,tims=2", "did you mean 'times'"),
            ("create_document=early", "early:413"),
            ("create_document=early:99", "from 200 to 599"),
            ("create_document=redirect:200", "from 300 to 399"),
            ("create_document=interim:200", "from 100 to 199"),
            ("create_document=length", "length:+7"),
            ("create_document=lost:1", "takes no value"),
            ("create_document=lost,p=2", "from 0 to 1"),
            ("create_document=lost,every=0", "from 1"),
            ("create_document=lost,profile=17", "UUID"),
            ("create_document=slow:2", "e.g. 250ms"),
            ("create_document=late:95", "e.g. 250ms"),
            ("read_documents=list:pages", "did you mean 'page'"),
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
    fn a_rule_ends_so_long_after_its_first_call() {
        let mut faults = Faults::new(vec!["any=gateway:404,for=2s".parse().unwrap()], 0);
        let began = Instant::now();
        let fires: Vec<bool> = [5000, 6900, 7000, 9000]
            .map(|at| began + Duration::from_millis(at))
            .map(|now| faults.arrive(ApiCall::CreateDocument, None, now).is_some())
            .to_vec();
        assert_eq!(fires, [true, true, false, false]);
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
        let (mut faults, now) = (Faults::new(rules, 0), Instant::now());
        let kinds: Vec<_> =
            (0..3).map(|_| faults.arrive(ApiCall::CreateDocument, None, now).map(|rule| rule.kind)).collect();
        assert_eq!(kinds, [Some(FaultKind::Lost), Some(FaultKind::Cut), None]);
    }
}
