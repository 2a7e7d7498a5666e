//! `status` for people: the verdict, what is the matter, the drops, and what else there is to know, in 80 columns.

use std::collections::BTreeMap;

use super::super::output::{Output, Rows, escape, shorten};
use crate::{
    clock::Timestamp,
    health::{HealthLevel, Incident},
    job::JobState,
    queue::trials::TrialState,
    reason::in_words,
    status::{Daemon, QueueStatus},
    zone,
};

/// As wide as every terminal is.
const WIDTH: usize = 80;

/// The longest name of a drop in the table.
const LONGEST_NAME: usize = 24;

/// Where the texts of the last part begin.
const FACTS: usize = 18;

pub(super) fn write(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    let verdict = &seen.health.verdict;
    let sentence = format!("{}. {}", verdict.headline, verdict.detail);
    wrapped(&sign(verdict.level), &sentence, "  ", verdict.level, output)?;
    writeln!(output.out)?;
    for incident in &seen.health.incidents {
        block(incident, seen.at, output)?;
    }
    if !seen.health.incidents.is_empty() {
        writeln!(output.out)?;
    }
    table(seen, output)?;
    writeln!(output.out)?;
    facts(seen, output)
}

fn sign(level: HealthLevel) -> String {
    format!("{} ", level.sign())
}

/// One thing that is the matter, with what a person can do.
fn block(incident: &Incident, now: Timestamp, output: &mut Output<'_>) -> anyhow::Result<()> {
    let since = incident.since.map(|at| format!(", since {} ({})", zone::in_words(at, now), in_words(now.since(at))));
    let until = incident.until.filter(|until| *until > now);
    let until = until.map(|at| format!(", until {} (in {})", zone::in_words(at, now), in_words(at.since(now))));
    let heading = format!(
        "{}: {}{}{}",
        incident.kind.heading(),
        incident.title,
        since.unwrap_or_default(),
        until.unwrap_or_default()
    );
    wrapped(&sign(incident.level), &heading, "  ", incident.level, output)?;
    for says in &incident.says {
        // Whole where a program reads it, which may search for it.
        match output.terminal {
            true => wrapped("    ", says, "      ", HealthLevel::Well, output)?,
            false => writeln!(output.out, "    {}", escape(says))?,
        }
    }
    // What is as planned needs nothing; only what is the matter has its cure.
    if incident.level > HealthLevel::Wait || incident.kind.stands_still() {
        wrapped("    → ", &incident.cure, "      ", HealthLevel::Well, output)?;
        for command in &incident.commands {
            writeln!(output.out, "      {}", escape(command))?;
        }
    }
    Ok(())
}

/// Writes a text after what the first line begins with, in lines that fit, broken between words; coloured on a terminal where
/// a person is needed.
fn wrapped(first: &str, text: &str, indent: &str, level: HealthLevel, output: &mut Output<'_>) -> anyhow::Result<()> {
    let text = escape(text);
    let mut line = first.to_owned();
    let mut is_empty = true;
    let colour = match level {
        HealthLevel::Stopped if output.terminal => "\x1b[1;31m",
        HealthLevel::Person if output.terminal => "\x1b[1;33m",
        _ => "",
    };
    let reset = if colour.is_empty() { "" } else { "\x1b[0m" };
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(output.out, "{colour}{line}{reset}")?;
            indent.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(output.out, "{colour}{line}{reset}")?;
    Ok(())
}

/// The jobs by drop and state; states that no drop has are left out, so that it fits.
fn table(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    if seen.queue.drops.is_empty() {
        writeln!(output.out, "no job yet")?;
        return Ok(());
    }
    let has = |state: JobState| seen.totals.get(state.as_str()).copied().unwrap_or(0) != 0;
    let always = [JobState::Queued, JobState::Done, JobState::Failed];
    let states: Vec<_> = JobState::ALL.into_iter().filter(|state| has(*state) || always.contains(state)).collect();
    let mut header = vec!["DROP".to_owned()];
    header.extend(states.iter().map(|state| state.as_str().to_uppercase()));
    header.push("MANIFESTS".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut rows = Rows::new(&header, header.get(1..).unwrap_or_default(), output.terminal);
    let cells = |name: &str, jobs: &BTreeMap<String, i64>, manifests: i64| {
        let count = |state: &JobState| jobs.get(state.as_str()).copied().unwrap_or(0).to_string();
        let mut cells = vec![shorten(name, LONGEST_NAME)];
        cells.extend(states.iter().map(count));
        cells.push(manifests.to_string());
        cells
    };
    for drop in &seen.queue.drops {
        rows.add(cells(&drop.drop, &drop.jobs, drop.open_batches + drop.waiting_manifests));
    }
    if seen.queue.drops.len() > 1 {
        let manifests = seen.queue.drops.iter().map(|drop| drop.open_batches + drop.waiting_manifests).sum();
        rows.add(cells("all", &seen.totals, manifests));
    }
    rows.write(output.out)?;
    Ok(())
}

fn facts(seen: &QueueStatus, output: &mut Output<'_>) -> anyhow::Result<()> {
    let queue = &seen.queue;
    let ago = |moment: Timestamp| in_words(seen.at.since(moment));
    let mut facts: Vec<(&str, String)> = Vec::new();
    facts.push((
        "rate",
        seen.rate_per_minute.map_or_else(
            || "nothing created in the last 10 minutes".to_owned(),
            |rate| format!("{rate:.1} a minute over the last 10 minutes"),
        ),
    ));
    let open = |state: JobState| seen.totals.get(state.as_str()).copied().unwrap_or(0);
    if open(JobState::Queued) + open(JobState::Running) + open(JobState::Waiting) > 0 {
        let done = match seen.estimate {
            _ if seen.daemon.is_none() => "unknown: nobody works on it".to_owned(),
            _ if queue.pauses.iter().any(|pause| pause.scope.is_empty()) => "unknown: it is paused".to_owned(),
            Some(finish) => format!(
                "about {}, {}, limited by {}",
                in_words(finish.done.since(seen.at)),
                zone::in_words(finish.done, seen.at),
                finish.limit_in_words()
            ),
            None => "unknown: there is no rate yet, or all that is left is paused".to_owned(),
        };
        facts.push(("done in", done));
    }
    if let Some(oldest) = queue.oldest_waiting {
        facts.push(("oldest waiting", format!("since {oldest}, {}", ago(oldest))));
    }
    if let Some(due) = queue.next_due {
        let when = if due > seen.at { format!("in {}", in_words(due.since(seen.at))) } else { "now".to_owned() };
        facts.push(("next retry", when));
    }
    if let Some((job, text)) = &queue.last_error {
        let when = queue.last_error_at.map(|at| format!(", {} ago", ago(at))).unwrap_or_default();
        facts.push(("last error", format!("job {job}{when}: {text}")));
    }
    if let Some(since) = queue.to_recheck_since {
        let documents = queue.to_recheck;
        let text =
            format!("{documents} documents since {since}: each profile is read again `[retry] recheck_after` later");
        facts.push(("sent twice", text));
    }
    if queue.possible_leftovers > 0 {
        let seen = queue.verified.as_ref().map_or_else(
            || "`verify` finds out which are there".to_owned(),
            |verified| format!("{} were there at the `verify` of {}", verified.leftover_images, verified.at),
        );
        let count = queue.possible_leftovers;
        facts.push((
            "leftovers",
            format!("possibly {count} images whose answers were lost, and that no document uses; {seen}"),
        ));
    }
    if queue.possible_extra_files > 0 {
        let count = queue.possible_extra_files;
        facts.push(("extra files", format!("possibly {count}: the answers to their uploads were lost")));
    }
    for drop in &queue.drops {
        if let Some(watching) = drop.watching.as_ref().filter(|watching| *watching != "events") {
            facts.push(("watching", format!("{}: {watching}", drop.drop)));
        }
    }
    for cause in &seen.causes {
        if let Some(trial) = cause.trial.as_ref().filter(|trial| trial.state != TrialState::Failed) {
            facts.push(("retry", format!("cause {}: {}", cause.cause, trial.sentence())));
        }
    }
    let known = seen.causes.iter().filter(|cause| !cause.is_unseen).count();
    if known > 0 {
        facts.push(("seen", format!("{known} causes of failures: passfort-ingest causes")));
    }
    facts.push(("worker", worker(seen)));
    for (name, text) in facts {
        wrapped(&format!("{name:<FACTS$}"), &text, &" ".repeat(FACTS), HealthLevel::Well, output)?;
    }
    Ok(())
}

fn worker(seen: &QueueStatus) -> String {
    match &seen.daemon {
        Some(Daemon { pid, command, .. }) => {
            let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            format!("`{command}`{pid} works on {}", seen.database)
        }
        None => format!("nobody works on {}: start it with `run`", seen.database),
    }
}
