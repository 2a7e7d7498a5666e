//! Finds what is the matter, from what was read of a queue.

use super::{
    facts::HealthFacts,
    incident::{Incident, IncidentKind},
};
use crate::{
    clock::Timestamp,
    estimate::Constraint,
    finish::limit_in_words,
    job::{JobState, WaitReason},
    printable::grouped,
    queue::{
        control::{Cause, Pause},
        drop_state::UnclaimedFiles,
        verified::DoubledDocument,
        views::{
            causes::CauseRow,
            overview::{ArrivalRow, Tally},
            waiting::{HeldJob, UnsettledBatch, WaitingJobs},
        },
    },
    waits::scope_in_words,
    zone,
};

/// More of a kind become one that lists them.
const SINGLY: usize = 5;

/// So many are listed of what became one.
const LISTED: usize = 20;

/// Everything that is the matter, the worst first.
pub(super) fn of(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let found = [
        worker(facts),
        pauses(facts),
        drops(facts),
        unsettled(facts),
        held(facts),
        facts.causes.iter().filter(|cause| cause.is_unseen).map(failed).collect(),
        documents(facts),
        deliveries(facts),
        sending(facts),
        facts.queue.waits.iter().map(waiting).collect(),
        not_taken(facts),
    ];
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    found.sort_by_key(|incident| (std::cmp::Reverse(incident.level), incident.kind, incident.since));
    fold(found)
}

/// Makes one of many of a kind.
fn fold(found: Vec<Incident>) -> Vec<Incident> {
    let mut folded: Vec<Incident> = Vec::new();
    for of_kind in found.chunk_by(|one, other| one.kind == other.kind) {
        let Some(first) = of_kind.first().filter(|_| of_kind.len() > SINGLY) else {
            folded.extend_from_slice(of_kind);
            continue;
        };
        let one = |incident: &Incident| {
            let says = incident.says.first().map(|says| format!(": {says}")).unwrap_or_default();
            format!("{}{says}", incident.scope)
        };
        let mut says: Vec<_> = of_kind.iter().take(LISTED).map(one).collect();
        if of_kind.len() > LISTED {
            says.push(format!("and {} more", of_kind.len() - LISTED));
        }
        folded.push(Incident {
            title: format!("{}, and of {} more", first.title, of_kind.len() - 1),
            scope: format!("{} in all", of_kind.len()),
            waiting: of_kind.iter().map(|incident| incident.waiting).sum(),
            says,
            ..first.clone()
        });
    }
    folded
}

/// An incident with nothing but its title, its scope and its cure.
fn incident(kind: IncidentKind, title: impl Into<String>, scope: impl Into<String>, cure: &str) -> Incident {
    Incident {
        kind,
        level: kind.level(),
        title: title.into(),
        scope: scope.into(),
        since: None,
        until: None,
        waiting: None,
        says: Vec::new(),
        cure: cure.to_owned(),
        commands: Vec::new(),
        by_itself: None,
        jobs: Vec::new(),
    }
}

const ALL: &str = "everything";

fn commands<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

fn worker(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let mut found = Vec::new();
    if let Some(holder) = facts.worker
        && let Some(trouble) = &holder.trouble
    {
        let title = "the database cannot be written, so all work waits";
        found.push(Incident {
            since: holder.since,
            waiting: Some(facts.open()),
            says: vec![trouble.clone()],
            commands: vec![format!("df -h {}", facts.folder)],
            by_itself: Some("work continues once it can be written".to_owned()),
            ..incident(IncidentKind::Stuck, title, ALL, "make room on its disk, or mend it")
        });
    }
    if let Some(refused) = facts.refused {
        found.push(Incident {
            waiting: Some(facts.open()),
            says: vec![refused.to_owned()],
            commands: commands(["passfort-ingest adopt"]),
            ..incident(
                IncidentKind::Refused,
                "nothing is sent, the last start refused this database",
                ALL,
                "adopt what was created, or start with the database that was worked with last",
            )
        });
    }
    // A manifest that only held jobs keep open waits for a person, and not for a worker.
    let batches = if facts.jobs(JobState::Held) > 0 { facts.waiting_manifests() } else { facts.manifests() };
    if facts.worker.is_none() && facts.open() + batches > 0 {
        found.push(Incident {
            since: facts.worked_at,
            waiting: Some(facts.open()),
            commands: commands(["systemctl start passfort-ingest", "passfort-ingest run"]),
            ..incident(
                IncidentKind::NoWorker,
                "nobody works on the queue, and work is left",
                ALL,
                "start it with `run`",
            )
        });
    }
    found
}

fn pauses(facts: &HealthFacts<'_>) -> Vec<Incident> {
    facts.queue.pauses.iter().map(|pause| paused(pause, facts)).collect()
}

fn paused(pause: &Pause, facts: &HealthFacts<'_>) -> Incident {
    let scope = scope_in_words(&pause.scope).into_owned();
    let resume = match pause.scope.strip_prefix("drop:") {
        Some(drop) => format!("passfort-ingest resume --drop {drop}"),
        None => "passfort-ingest resume".to_owned(),
    };
    let by = pause.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
    let of = |kind, title: String, cure: &str| incident(kind, title, scope.clone(), cure);
    let made = match pause.cause {
        Cause::Operator => Incident {
            commands: vec![resume],
            ..of(
                IncidentKind::Paused,
                format!("{scope} is paused by a person{by}"),
                "resume it when it may be sent again",
            )
        },
        Cause::KeyRefused => Incident {
            commands: commands(["systemctl reload passfort-ingest"]),
            by_itself: Some("a good key in the same file is used within seconds; no job fails for it".to_owned()),
            ..of(
                IncidentKind::KeyRefused,
                format!("{scope} is stopped, because the API refuses the key"),
                "put a good key in its place",
            )
        },
        Cause::QuotaSpent => Incident {
            commands: vec![resume],
            by_itself: Some("it is tried again every ten minutes, and at once after `resume`".to_owned()),
            ..of(
                IncidentKind::QuotaSpent,
                format!("{scope} is stopped, because a limit of the account is spent"),
                "wait until it is renewed, or have it raised",
            )
        },
        Cause::Outage => Incident {
            commands: commands(["passfort-ingest doctor"]),
            by_itself: Some("it is tried again, at growing intervals, and at once after `resume`".to_owned()),
            ..of(
                IncidentKind::Outage,
                format!("{scope} is stopped, because nothing but failures came back"),
                "see whether the API works and can be reached",
            )
        },
    };
    Incident {
        since: Some(pause.since),
        waiting: facts.open_in(&pause.scope),
        says: noted(pause).into_iter().collect(),
        ..made
    }
}

/// What the API said, or whoever paused it noted.
fn noted(pause: &Pause) -> Option<String> {
    let detail = pause.detail.as_ref()?;
    Some(pause.by.as_ref().map_or_else(|| detail.clone(), |by| format!("{by}: {detail}")))
}

fn drops(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let mut found = Vec::new();
    for drop in &facts.queue.drops {
        let scope = format!("drop {}", drop.drop);
        if let Some(fault) = &drop.ground {
            found.push(Incident {
                since: drop.ground_since,
                waiting: Some(drop.open_jobs() + drop.waiting_manifests.unsigned_abs()),
                says: vec![fault.clone()],
                commands: commands(["passfort-ingest doctor"]),
                by_itself: Some("it is tried again, at growing intervals".to_owned()),
                ..incident(
                    IncidentKind::BadGround,
                    format!("nothing of {scope} is taken in"),
                    scope.clone(),
                    "do what the line says",
                )
            });
        }
        if let Some(unclaimed) = drop.unclaimed.as_ref().filter(|unclaimed| unclaimed.files > 0) {
            found.push(self::unclaimed(unclaimed, &scope));
        }
    }
    for drop in &facts.queue.unreadable {
        let scope = format!("drop {}", drop.drop);
        found.push(Incident {
            since: drop.since,
            says: vec![drop.trouble.clone()],
            commands: commands(["passfort-ingest doctor"]),
            by_itself: Some("it is tried again every few seconds".to_owned()),
            ..incident(
                IncidentKind::Unreadable,
                format!("the folder of {scope} cannot be read in full"),
                scope,
                "mount it again, or mend it",
            )
        });
    }
    found
}

fn unclaimed(unclaimed: &UnclaimedFiles, scope: &str) -> Incident {
    const SHOWN: usize = 3;
    let shown = |paths: &[String]| paths.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let UnclaimedFiles { files, oldest, examples, like_manifests, manifest_examples } = unclaimed;
    let mut says = Vec::new();
    if *like_manifests > 0 {
        says.push(format!("{like_manifests} look like manifests, rename them: {}", shown(manifest_examples)));
    }
    if !examples.is_empty() {
        says.push(format!("e.g. {}", shown(examples)));
    }
    let noun = if *files == 1 { "file that no manifest names" } else { "files that no manifest names" };
    Incident {
        since: oldest.as_deref().and_then(Timestamp::parse),
        waiting: Some(*files),
        says,
        ..incident(IncidentKind::Unclaimed, format!("{scope} has {} {noun}", grouped(*files)), scope, "ask the partner")
    }
}

fn unsettled(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let one = |batch: &UnsettledBatch| Incident {
        since: batch.since,
        says: vec![format!("{}: {}", batch.manifest, batch.trouble)],
        commands: vec![format!("passfort-ingest show batch {}", batch.batch)],
        by_itself: Some("it is tried again".to_owned()),
        ..incident(
            IncidentKind::Unsettled,
            format!("the receipt of batch {} cannot be written, or its files not be put away", batch.batch),
            format!("batch {} of drop {}", batch.batch, batch.drop),
            "mend its folders",
        )
    };
    facts.queue.unsettled.iter().map(one).collect()
}

fn held(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let held = facts.jobs(JobState::Held);
    if held == 0 {
        return Vec::new();
    }
    let title = match held {
        1 => "1 job is held, and waits for a person".to_owned(),
        more => format!("{} jobs are held, and wait for a person", grouped(more)),
    };
    let example = facts.queue.held.first().map_or_else(|| "JOB".to_owned(), |job| job.job.to_string());
    let one = |job: &HeldJob| {
        let reason = job.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("job {} of drop {}{reason}", job.job, job.drop)
    };
    vec![Incident {
        since: facts.queue.held.iter().filter_map(|job| job.since).min(),
        waiting: Some(held),
        says: facts.queue.held.iter().take(3).map(one).collect(),
        commands: vec![
            "passfort-ingest jobs --state held".to_owned(),
            format!("passfort-ingest release {example} --as-created ID"),
            format!("passfort-ingest release {example} --send-again"),
        ],
        by_itself: Some("everything else continues".to_owned()),
        jobs: facts.queue.held.iter().map(|job| job.job).collect(),
        ..incident(IncidentKind::Held, title, "jobs", "look at the profile: was it created? then release the job")
    }]
}

/// A cause of failures that nobody has said to know of. Its title is in numbers only, so that monitoring may keep it.
fn failed(cause: &CauseRow) -> Incident {
    let code = cause.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let drops: Vec<_> = cause.drops.iter().map(|of| of.drop.as_str()).collect();
    let all = std::iter::once("passfort-ingest causes".to_owned()).chain(cause.commands.iter().cloned());
    Incident {
        since: Some(cause.first),
        waiting: Some(cause.open.unsigned_abs()),
        says: vec![cause.title.clone()],
        commands: all.collect(),
        by_itself: Some("the rest continues; it is over once its entries are created".to_owned()),
        jobs: cause.examples.iter().filter_map(|example| example.job).collect(),
        ..incident(
            IncidentKind::Failed,
            format!("{}, cause {}{code}", cause.counted(), cause.cause),
            drops.join(", "),
            &cause.cure,
        )
    }
}

/// What is the matter with documents that were created, or with the bound on lost answers.
fn documents(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let queue = facts.queue;
    let mut found = Vec::new();
    for bound in &queue.broken_bounds {
        found.push(Incident {
            since: Some(bound.since),
            ..incident(IncidentKind::LateAnswers, bound.what.clone(), ALL, bound.cure)
        });
    }
    if let Some(first) = queue.doubled.first() {
        let title = match queue.doubled.len() {
            1 => "a document is there more than once".to_owned(),
            more => format!("{more} documents are there more than once"),
        };
        let one = |doubled: &DoubledDocument| format!("job {}: {}", doubled.job, doubled.document_ids.join(", "));
        found.push(Incident {
            since: queue.doubled.iter().map(|doubled| doubled.found_at).min(),
            waiting: Some(queue.doubled.len() as u64),
            says: queue.doubled.iter().take(LISTED).map(one).collect(),
            commands: vec![format!("passfort-ingest show {}", first.job), "passfort-ingest verify".to_owned()],
            jobs: queue.doubled.iter().map(|doubled| doubled.job).collect(),
            ..incident(IncidentKind::Doubled, title, "documents", "remove all but one in the portal, then run `verify`")
        });
    }
    if let Some(verified) = queue.verified.as_ref().filter(|verified| verified.amiss > 0) {
        found.push(Incident {
            since: Timestamp::parse(&verified.at),
            waiting: Some(verified.amiss),
            commands: commands(["passfort-ingest verify", "passfort-ingest retry --missing"]),
            ..incident(
                IncidentKind::Amiss,
                format!("{} documents were missing, changed or doubled at the last `verify`", grouped(verified.amiss)),
                "documents",
                "see which, and send again what is missing",
            )
        });
    }
    found
}

/// What is expected of drops, and receivers of alerts that take none.
fn deliveries(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let mut found = Vec::new();
    for (drop, expected) in facts.expected {
        let report = &expected.report;
        let (kind, cure) = if report.state.is_late() {
            (IncidentKind::LateDelivery, "ask the sender, where nothing waits here")
        } else {
            (IncidentKind::Expected, "nothing; or see what limits the work, where it will be late")
        };
        let done = report.done.map(|done| format!(", done about {}", zone::in_words(done, facts.now)));
        let title =
            format!("what is expected of drop {drop} is {}{}", report.state.in_words(), done.unwrap_or_default());
        let scope = format!("drop {drop}");
        found.push(Incident { since: Some(report.since), until: report.due, ..incident(kind, title, scope, cure) });
    }
    for receiver in facts.receivers {
        let Some((since, reason)) = &receiver.failing else { continue };
        found.push(Incident {
            since: Some(*since),
            says: vec![reason.clone()],
            by_itself: Some("what is due is sent again".to_owned()),
            ..incident(
                IncidentKind::AlertsFail,
                format!("{} takes none", receiver.receiver),
                "alerts",
                "mend the command or the address",
            )
        });
    }
    found
}

/// What keeps queued jobs from being sent, and nobody stopped.
fn sending(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let queued = facts.jobs(JobState::Queued);
    if queued == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Some(closed) = &facts.sending.closed {
        found.push(Incident {
            since: closed.since,
            until: closed.until,
            waiting: Some(facts.open()),
            by_itself: Some("sending begins with the next window".to_owned()),
            ..incident(
                IncidentKind::WindowClosed,
                "as planned, nothing is sent outside limits.windows",
                ALL,
                "nothing; or change [limits] windows",
            )
        });
    }
    for limit in &facts.sending.limits {
        let (kind, cure) = match limit.limit {
            Constraint::ApiQuota => (IncidentKind::ApiQuota, "nothing; or have the API's limit raised"),
            _ => (IncidentKind::LimitReached, "nothing; or raise it under [limits]"),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, for people")]
        let per_hour = grouped(limit.per_hour.round().max(0.0) as u64);
        let waits: u64 =
            facts.queue.drops.iter().filter(|drop| limit.drops.contains(&drop.drop)).map(Tally::open_jobs).sum();
        if waits > 0 {
            found.push(Incident {
                since: limit.since,
                until: limit.until,
                waiting: Some(waits),
                by_itself: Some("sending continues as it allows".to_owned()),
                ..incident(
                    kind,
                    format!("{} is used up for now: {per_hour} an hour", limit_in_words(limit.limit)),
                    scope_in_words(&limit.scope).into_owned(),
                    cure,
                )
            });
        }
    }
    found
}

fn waiting(waits: &WaitingJobs) -> Incident {
    let more = if waits.or_more { "more than " } else { "" };
    let count = format!("{more}{}", grouped(waits.jobs.unsigned_abs()));
    let (verb, jobs) = if waits.jobs == 1 { ("waits", "job") } else { ("wait", "jobs") };
    let of = |kind, what: &str, cure: &str| incident(kind, format!("{count} {jobs} {verb} {what}"), "jobs", cure);
    let made = match waits.waits {
        WaitReason::Retry => of(IncidentKind::Retry, "for the next try", "nothing; `retry` tries at once"),
        WaitReason::Quota if waits.is_held_back => {
            of(IncidentKind::HeldBack, "for the import's limit, or its next stage", "nothing")
        }
        WaitReason::Quota => of(IncidentKind::ApiQuota, "for the API's limit", "nothing; or have it raised"),
        WaitReason::File => of(
            IncidentKind::FileGone,
            "for a file that is not as it was",
            "put the file back, or mount its folder again",
        ),
        WaitReason::ReadBack => {
            of(IncidentKind::ReadBack, "to be read back, because an answer was lost", "nothing; nothing is sent twice")
        }
        WaitReason::Twin => of(IncidentKind::Twin, "for another job that asks for the same", "nothing"),
    };
    Incident {
        since: waits.since,
        until: waits.until,
        waiting: Some(waits.jobs.unsigned_abs()),
        commands: commands(["passfort-ingest jobs --state waiting"]),
        ..made
    }
}

fn not_taken(facts: &HealthFacts<'_>) -> Vec<Incident> {
    let waiting: u64 = facts.queue.drops.iter().map(|drop| drop.waiting_manifests.unsigned_abs()).sum();
    if waiting == 0 {
        return Vec::new();
    }
    let title = match waiting {
        1 => "1 manifest is not taken in yet".to_owned(),
        more => format!("{} manifests are not taken in yet", grouped(more)),
    };
    let one = |row: &ArrivalRow| format!("{}: {}: {}", row.drop, row.manifest, row.reason);
    vec![Incident {
        since: facts.arrivals.iter().filter_map(|row| row.first_seen).min(),
        until: facts.arrivals.iter().filter_map(|row| row.gives_up_at).min(),
        waiting: Some(waiting),
        says: facts.arrivals.iter().map(one).collect(),
        commands: commands(["passfort-ingest why PATH"]),
        by_itself: Some(
            "each is taken in when its files are there, or after `incomplete_after` without them".to_owned(),
        ),
        ..incident(IncidentKind::NotTaken, title, "drops", "ask the sender for what is missing")
    }]
}
