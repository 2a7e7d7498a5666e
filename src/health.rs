//! Whether all is well: one verdict and what there is to know or to do, worst first.
//!
//! Made once, by a pure function of what was read, for `status`, `status --check`, the page and monitoring, so that none of them
//! can say something else. They only lay it out. Names and words of others are in it as they are: who shows them escapes them.

mod facts;
mod incident;
mod incidents;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::{
    facts::HealthFacts,
    incident::{HealthLevel, Incident, IncidentKind},
};
use crate::{
    clock::{Timestamp, optional_moment},
    printable::grouped,
    reason::in_words,
    zone,
};

/// The one sentence about all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HealthVerdict {
    pub level: HealthLevel,
    pub headline: String,
    pub detail: String,
    #[serde(serialize_with = "optional_moment")]
    pub since: Option<Timestamp>,
}

/// Whether all is well, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Health {
    pub verdict: HealthVerdict,
    /// The worst first.
    pub incidents: Vec<Incident>,
}

/// Judges what was read.
#[must_use]
pub fn assess(facts: &HealthFacts<'_>) -> Health {
    let incidents = incidents::of(facts);
    Health { verdict: verdict(facts, &incidents), incidents }
}

fn verdict(facts: &HealthFacts<'_>, incidents: &[Incident]) -> HealthVerdict {
    let open = facts.open();
    let worst = incidents.first().filter(|worst| worst.level > HealthLevel::Wait);
    // What waits is the verdict only where nothing else moves.
    let waits_alone = open > 0 && !facts.moves();
    let main = worst.or_else(|| incidents.first().filter(|_| waits_alone));
    let Some(main) = main else { return well(facts, incidents, open) };
    let mut detail = Vec::new();
    let kinds = incidents.iter().filter(|incident| incident.level >= main.level.max(HealthLevel::Person)).count();
    if kinds > 1 {
        detail.push(format!("{} more below", kinds - 1));
    }
    if open > 0 {
        detail.push(if facts.moves() {
            format!("{} to send, which continue", grouped(open))
        } else {
            waiting_in_words(open)
        });
        detail.extend(done_in_words(facts));
    }
    if detail.is_empty() {
        detail.push("Nothing waits to be sent".to_owned());
    }
    HealthVerdict { level: main.level, headline: headline(main), detail: sentences(&detail), since: main.since }
}

fn headline(incident: &Incident) -> String {
    capital(&incident.title)
}

fn waiting_in_words(open: u64) -> String {
    format!("{} {}, none is lost", grouped(open), if open == 1 { "waits" } else { "wait" })
}

fn done_in_words(facts: &HealthFacts<'_>) -> Option<String> {
    let finish = facts.finish?;
    let (at, left) = (zone::in_words(finish.done, facts.now), in_words(finish.done.since(facts.now)));
    Some(format!("done {at}, in {left}, limited by {}", finish.limit_in_words()))
}

fn well(facts: &HealthFacts<'_>, incidents: &[Incident], open: u64) -> HealthVerdict {
    let since = facts.queue.last_created.map(|at| in_words(facts.now.since(at)));
    let last = since.map(|since| format!("last document {since} ago"));
    let waiting: u64 = facts.queue.drops.iter().map(|drop| drop.waiting_manifests.unsigned_abs()).sum();
    let mut detail = Vec::new();
    let headline = if facts.queue.drops.is_empty() {
        detail.push("no drop has been watched yet, and nothing was imported".to_owned());
        "Nothing to do yet".to_owned()
    } else if open > 0 {
        let done = done_in_words(facts);
        detail.push(done.unwrap_or_else(|| "when it is done is not known yet".to_owned()));
        format!("On course: {} to send", grouped(open))
    } else {
        detail.extend(last);
        detail.push(match waiting {
            0 => "nothing waits".to_owned(),
            1 => "a manifest is not taken in yet".to_owned(),
            more => format!("{} manifests are not taken in yet", grouped(more)),
        });
        "All is well".to_owned()
    };
    if facts.worker.is_none() {
        detail.push("no worker runs".to_owned());
    }
    let also = incidents.iter().filter(|incident| incident.kind.stands_still()).map(|incident| incident.title.clone());
    detail.extend(also.take(2));
    HealthVerdict { level: HealthLevel::Well, headline, detail: sentences(&detail), since: None }
}

/// Fragments as sentences.
fn sentences(fragments: &[String]) -> String {
    fragments.iter().map(|fragment| format!("{}.", capital(fragment))).collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The incidents by kind and level, for monitoring: how many, and since when the first.
#[must_use]
pub fn by_kind(incidents: &[Incident]) -> BTreeMap<IncidentKind, (u64, Option<Timestamp>, Option<Timestamp>)> {
    let mut found = BTreeMap::new();
    for incident in incidents {
        let (count, since, until) = found.entry(incident.kind).or_insert((0, None, None));
        *count += 1;
        *since = [*since, incident.since].into_iter().flatten().min();
        *until = [*until, incident.until].into_iter().flatten().min();
    }
    found
}

#[cfg(test)]
mod tests;
