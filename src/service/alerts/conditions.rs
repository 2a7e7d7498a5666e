//! What is the case, of all that can be announced: from the numbers of the queue, without I/O.

use std::collections::BTreeMap;

use crate::{
    alert::{AlertCondition, AlertKind},
    cause::CauseStatus,
    clock::Timestamp,
    expected::{DeliveryReport, DeliveryState},
    job::JobState,
    queue::{
        announced::ExpectedDrops,
        control::{Cause, Pause},
        views::{
            causes::CauseRow,
            overview::{QueueTroubles, Tally},
        },
    },
};

/// Everything that is decided by.
pub(super) struct QueueFindings<'a> {
    pub(super) troubles: &'a QueueTroubles,
    pub(super) expected: &'a ExpectedDrops,
    /// Of open failures.
    pub(super) causes: &'a [CauseRow],
    /// Why the database cannot be written, if so.
    pub(super) trouble: Option<String>,
    /// Drops whose receipts another queue writes.
    pub(super) foreign: &'a [String],
    pub(super) now: Timestamp,
}

/// Everything that is the case.
pub(super) fn conditions(seen: &QueueFindings<'_>) -> Vec<AlertCondition> {
    let mut all: Vec<AlertCondition> = seen.foreign.iter().map(|drop| foreign(drop, seen.now)).collect();
    all.extend(seen.trouble.iter().map(|why| AlertCondition {
        summary: "the database cannot be written, so all work waits".into(),
        cure: "make room on its disk, or mend it; work continues by itself".into(),
        details: vec![why.clone()],
        ..of(AlertKind::Ground, "database", "", seen.now)
    }));
    all.extend(seen.troubles.drops.iter().flat_map(|drop| of_drop(drop, seen.now)));
    all.extend(refused(seen.causes));
    if !seen.troubles.troubled.is_empty() {
        let count = count(seen.troubles.troubled.len());
        all.push(AlertCondition {
            count,
            summary: format!("{count} folders or manifests cannot be read or settled"),
            cure: "passfort-ingest status says which and why".into(),
            details: seen.troubles.troubled.iter().map(|(what, why)| format!("{what}: {why}")).collect(),
            ..of(AlertKind::Ground, "trouble", "", seen.now)
        });
    }
    all.extend(seen.troubles.pauses.iter().map(pause));
    all.extend(doubled(seen.troubles));
    all.extend(seen.expected.iter().filter_map(|(drop, expected)| late(drop, &expected.report)));
    all
}

/// A condition about one thing, without words.
fn of(kind: AlertKind, code: &'static str, scope: &str, since: Timestamp) -> AlertCondition {
    AlertCondition {
        kind,
        scope: scope.to_owned(),
        code,
        since,
        count: 1,
        summary: String::new(),
        cure: String::new(),
        details: Vec::new(),
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn foreign(drop: &str, now: Timestamp) -> AlertCondition {
    AlertCondition {
        summary: format!("drop {drop}: another queue writes its receipts, so nothing of it is sent"),
        cure: "stop the other worker, or run passfort-ingest adopt".into(),
        ..of(AlertKind::Restored, "another-queue", drop, now)
    }
}

/// The database is not the one that was worked with last.
pub(super) fn restored(why: &str, now: Timestamp) -> AlertCondition {
    AlertCondition {
        summary: "the database is not the one that was worked with last, so nothing is sent".into(),
        cure: "passfort-ingest adopt".into(),
        details: vec![why.to_owned()],
        ..of(AlertKind::Restored, "database-restored", "", now)
    }
}

fn of_drop(tally: &Tally, now: Timestamp) -> Vec<AlertCondition> {
    let drop = &tally.drop;
    let mut all = Vec::new();
    if let Some(fault) = &tally.ground {
        all.push(AlertCondition {
            summary: format!("drop {drop}: its folders cannot be used, so nothing of it is taken in"),
            cure: "passfort-ingest doctor says what is wrong".into(),
            details: vec![fault.clone()],
            ..of(AlertKind::Ground, "folders", drop, tally.ground_since.unwrap_or(now))
        });
    }
    let held = tally.jobs_in(JobState::Held);
    if held > 0 {
        let what = if held == 1 { "job is held" } else { "jobs are held" };
        all.push(AlertCondition {
            count: held,
            summary: format!("drop {drop}: {held} {what}"),
            cure: "passfort-ingest jobs --state held; then release".into(),
            ..of(AlertKind::Held, JobState::Held.as_str(), drop, now)
        });
    }
    all
}

/// What was refused and nobody has said `seen` of, by drop. The causes' titles quote the API, so they are details.
fn refused(causes: &[CauseRow]) -> Vec<AlertCondition> {
    let mut all: BTreeMap<(CauseStatus, &str), (AlertCondition, Vec<String>)> = BTreeMap::new();
    for cause in causes.iter().filter(|cause| cause.is_unseen) {
        let kind = match cause.status {
            CauseStatus::Failed | CauseStatus::Invalid => AlertKind::Failed,
            CauseStatus::Rejected => AlertKind::Rejected,
        };
        let number = format!("cause {}", cause.cause);
        let named = cause.code.as_ref().map_or_else(|| number.clone(), |code| format!("{number}: {code}"));
        for drop in &cause.drops {
            let first = || {
                (AlertCondition { count: 0, ..of(kind, cause.status.as_str(), &drop.drop, cause.first) }, Vec::new())
            };
            let (condition, codes) = all.entry((cause.status, drop.drop.as_str())).or_insert_with(first);
            condition.count = condition.count.saturating_add(u64::try_from(drop.open).unwrap_or(0));
            condition.since = condition.since.min(cause.first);
            condition.details.push(format!("{number}: {}", cause.title));
            codes.push(named.clone());
        }
    }
    let words = |((status, drop), (condition, codes)): ((CauseStatus, &str), (AlertCondition, Vec<String>))| {
        let count = condition.count;
        let what = match (status, count) {
            (CauseStatus::Failed, 1) => "entry failed",
            (CauseStatus::Failed, _) => "entries failed",
            (CauseStatus::Invalid, 1) => "entry is invalid",
            (CauseStatus::Invalid, _) => "entries are invalid",
            (CauseStatus::Rejected, 1) => "manifest is rejected",
            (CauseStatus::Rejected, _) => "manifests are rejected",
        };
        let more = if codes.len() > NAMED_CAUSES { ", and more" } else { "" };
        let named = codes.into_iter().take(NAMED_CAUSES).collect::<Vec<_>>().join(", ");
        AlertCondition {
            summary: format!("drop {drop}: {count} {what} ({named}{more})"),
            cure: "passfort-ingest causes; then retry --cause N, or seen N".into(),
            ..condition
        }
    };
    all.into_iter().map(words).collect()
}

/// Causes that are named.
const NAMED_CAUSES: usize = 5;

fn pause(pause: &Pause) -> AlertCondition {
    let (code, why, cure) = match pause.cause {
        Cause::Operator => ("operator", "paused by a person", "passfort-ingest resume"),
        Cause::KeyRefused => ("key-refused", "the API refuses the key", "put a good key in place; it is used at once"),
        Cause::QuotaSpent => ("quota-spent", "the API's quota is spent", "wait until it is renewed, or have it raised"),
        Cause::Outage => ("outage", "the API does not work, or cannot be reached", "see whether the API works"),
    };
    let scope = pause.scope.strip_prefix("drop:").unwrap_or(&pause.scope);
    let about = if scope.is_empty() { String::new() } else { format!("{scope}: ") };
    AlertCondition {
        summary: format!("{about}nothing is sent: {why}"),
        cure: cure.into(),
        details: pause.detail.iter().cloned().collect(),
        ..of(AlertKind::Paused, code, scope, pause.since)
    }
}

fn doubled(troubles: &QueueTroubles) -> Option<AlertCondition> {
    let first = troubles.doubled.last()?;
    let count = count(troubles.doubled.len());
    let noun = if count == 1 { "document exists" } else { "documents exist" };
    let jobs: Vec<_> = troubles.doubled.iter().map(|doubled| doubled.job.to_string()).collect();
    Some(AlertCondition {
        count,
        summary: format!("{count} {noun} more than once: jobs {}", jobs.join(", ")),
        cure: "remove all but one of each in the portal, then run passfort-ingest verify".into(),
        details: troubles.doubled.iter().map(|doubled| doubled.document_ids.join(", ")).collect(),
        ..of(AlertKind::Doubled, "doubled", "", first.found_at)
    })
}

fn late(drop: &str, report: &DeliveryReport) -> Option<AlertCondition> {
    let due = report.due.map(|due| format!(" by {due}")).unwrap_or_default();
    let (kind, code, what, cure) = match report.state {
        DeliveryState::Missing => (AlertKind::Late, "missing", format!("nothing came, to be delivered{due}"), PARTNER),
        // What came is delivered late, or it did not come.
        DeliveryState::Late => (AlertKind::Late, "late", format!("what was expected{due} is late"), PARTNER),
        DeliveryState::WillBeLate => (
            AlertKind::WillBeLate,
            "will-be-late",
            format!("what came will not be delivered{due}"),
            "passfort-ingest status says what limits it",
        ),
        DeliveryState::Coming | DeliveryState::UnderWay | DeliveryState::Delivered => return None,
    };
    Some(AlertCondition {
        summary: format!("drop {drop}: {what}"),
        cure: cure.into(),
        ..of(kind, code, drop, report.since)
    })
}

const PARTNER: &str = "passfort-ingest status says what waits; if nothing does, ask the sender";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        problem::Problem,
        queue::{
            acts::Caller,
            announced::ExpectedDrop,
            test_support::{NOW, Site},
        },
    };

    fn seen_by(site: &Site, expected: &ExpectedDrops) -> Vec<(AlertKind, &'static str, String, u64)> {
        let (troubles, causes) = (site.reader().troubles().unwrap(), site.reader().causes(9).unwrap());
        let seen =
            QueueFindings { troubles: &troubles, expected, causes: &causes, trouble: None, foreign: &[], now: NOW };
        conditions(&seen).into_iter().map(|one| (one.kind, one.code, one.scope, one.count)).collect()
    }

    #[test]
    fn each_kind_comes_from_what_the_queue_says() {
        let site = Site::new();
        let none = ExpectedDrops::new();
        assert_eq!(seen_by(&site, &none), []);
        site.admit("a.manifest.json", &["failed", "held", "more"]);
        site.fail(site.job("failed"), "HTTP 403: no");
        site.hold(site.job("held"), crate::job::Creation::Unknown);
        let drop = || crate::queue::test_support::DROP.to_owned();
        site.queue.note_ground(&drop(), Some("read-only".into()), NOW).unwrap();
        site.queue.pause("", Cause::Outage, Some("the words of the API".into()), NOW).unwrap();
        let report = DeliveryReport { state: DeliveryState::WillBeLate, since: NOW, due: Some(NOW), done: None };
        let late = ExpectedDrop { schedules: String::new(), watched_since: NOW, report };
        assert_eq!(
            seen_by(&site, &ExpectedDrops::from([(drop(), late)])),
            [
                (AlertKind::Ground, "folders", drop(), 1),
                (AlertKind::Held, "held", drop(), 1),
                (AlertKind::Failed, "failed", drop(), 1),
                (AlertKind::Paused, "outage", String::new(), 1),
                (AlertKind::WillBeLate, "will-be-late", drop(), 1),
            ]
        );
    }

    #[test]
    fn what_was_refused_is_announced_until_it_is_seen_without_the_apis_words() {
        let site = Site::new();
        site.admit("a.manifest.json", &["one", "two"]);
        for job in ["one", "two"] {
            site.fail(site.job(job), "the API refused it (code 201): create_document: HTTP 404: no profile of Anna");
        }
        let problems = Some(vec![Problem::error("it is no JSON of Anna", "write JSON").code("not-json")]);
        site.begin("b.manifest.json").admit_whole(Vec::new(), problems, NOW).unwrap();
        let found = refused(&site.reader().causes(9).unwrap());
        let said: Vec<_> = found.iter().map(|one| (one.kind, one.count, one.summary.as_str())).collect();
        assert_eq!(
            said,
            [
                (AlertKind::Failed, 2, "drop partner-a: 2 entries failed (cause 1: HTTP 404, code 201)"),
                (AlertKind::Rejected, 1, "drop partner-a: 1 manifest is rejected (cause 2: not-json)"),
            ]
        );
        assert!(found[0].details[0].contains("Anna"), "only for receivers that ask for details");
        let by = Caller { who: "ops1".into(), words: "seen 1 2".into() };
        site.queue.mark_seen(vec![1, 2], by, NOW).unwrap();
        assert_eq!(refused(&site.reader().causes(9).unwrap()), []);
    }

    #[test]
    fn every_state_that_is_late_is_announced_and_no_other() {
        let late = |state| late("a", &DeliveryReport { state, since: NOW, due: None, done: None }).map(|one| one.code);
        let codes: Vec<_> = DeliveryState::ALL.into_iter().map(late).collect();
        assert_eq!(codes, [None, None, Some("late"), Some("missing"), Some("will-be-late"), None]);
    }
}
