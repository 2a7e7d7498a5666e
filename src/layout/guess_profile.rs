//! Where the profiles of a list are: in a column of UUIDs, or in another table of the archive, by a key.

use std::collections::HashSet;

use super::{
    sample::{ListSample, SampleKind},
    text::{fold, pad, quoted},
};
use crate::entry::ProfileId;

/// Where profiles come from.
#[derive(Debug, Clone)]
pub(super) struct ProfileGuess {
    pub(super) template: String,
    pub(super) lookup: Option<LookupGuess>,
    pub(super) reason: String,
}

#[derive(Debug, Clone)]
pub(super) struct LookupGuess {
    pub(super) sample: usize,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) pad: Option<usize>,
}

/// Where the profiles are: in a column of UUIDs, or in another table of the archive.
pub(super) fn profile(
    samples: &[ListSample],
    own: Option<usize>,
    names: &[String],
    values: &dyn Fn(usize) -> Vec<String>,
) -> Option<ProfileGuess> {
    for (at, name) in names.iter().enumerate() {
        if mostly_profiles(&values(at)) {
            let reason = format!("profile_id: {} has UUIDs", quoted(name));
            return Some(ProfileGuess { template: format!("{{{name}}}"), lookup: None, reason });
        }
    }
    let mut best: Option<(f64, ProfileGuess)> = None;
    for (number, sample) in samples.iter().enumerate().filter(|(number, _)| Some(*number) != own) {
        if !matches!(sample.kind, SampleKind::Table { .. }) {
            continue;
        }
        let column = |at: usize| sample.column(at);
        let Some(value) = (0..sample.names.len()).find(|at| mostly_profiles(&column(*at))) else { continue };
        for key in (0..sample.names.len()).filter(|key| *key != value) {
            let keys: HashSet<String> = column(key).iter().map(|key| fold(key)).collect();
            let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
            let padded: HashSet<String> = keys.iter().map(|key| pad(key, width)).collect();
            for (at, name) in names.iter().enumerate() {
                let wanted: HashSet<String> = values(at).iter().map(|value| fold(value)).collect();
                if wanted.is_empty() {
                    continue;
                }
                let share = |found: usize| found as f64 / wanted.len() as f64;
                let plain = wanted.iter().filter(|value| keys.contains(*value)).count();
                let with_pad = wanted.iter().filter(|value| padded.contains(&pad(value, width))).count();
                let found = plain.max(with_pad);
                if share(found) >= 0.4 && best.as_ref().is_none_or(|(before, _)| share(found) > *before) {
                    let pads = with_pad > plain;
                    let reason = format!(
                        "profile_id: {} of {} values of {} are in {} ({}){}",
                        found,
                        wanted.len(),
                        quoted(name),
                        sample.shown(),
                        quoted(&sample.names.get(key).cloned().unwrap_or_default()),
                        if pads { format!("; {plain} without pad = {width}") } else { String::new() },
                    );
                    let lookup = LookupGuess {
                        sample: number,
                        key: sample.names.get(key).cloned().unwrap_or_default(),
                        value: sample.names.get(value).cloned().unwrap_or_default(),
                        pad: pads.then_some(width),
                    };
                    let template = format!("{{{name} | lookup profiles}}");
                    best = Some((share(found), ProfileGuess { template, lookup: Some(lookup), reason }));
                }
            }
        }
    }
    best.map(|(_, guess)| guess)
}

fn mostly_profiles(values: &[String]) -> bool {
    let trim = |value: &String| value.trim().trim_matches(['{', '}']).to_owned();
    let found = values.iter().filter(|value| ProfileId::parse(&trim(value)).is_some()).count();
    found > 0 && found * 10 >= values.len() * 7
}
