use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    queue::{
        control::{Cause, Pause},
        lock::Holder,
        test_support::{DROP, NOW, Site},
        views::overview::{Overview, Tally},
    },
    waits::{ClosedWindow, SendingWaits},
};

/// What a new queue is, with one drop.
fn overview() -> Overview {
    let mut overview = Site::new().reader().overview(NOW).unwrap();
    overview.drops = vec![Tally { drop: DROP.to_owned(), ..Tally::default() }];
    overview
}

fn holder(trouble: Option<&str>) -> Holder {
    Holder { pid: Some(1), command: "run".to_owned(), trouble: trouble.map(str::to_owned), since: Some(NOW) }
}

fn with_jobs(jobs: &[(&str, i64)]) -> Overview {
    let mut overview = overview();
    overview.drops[0].jobs = jobs.iter().map(|(state, jobs)| ((*state).to_owned(), *jobs)).collect::<BTreeMap<_, _>>();
    overview
}

fn judged(queue: &Overview, worker: Option<&Holder>, sending: &SendingWaits) -> Health {
    let worked_at = Some(NOW);
    assess(&HealthFacts {
        now: NOW.after(Duration::from_secs(60)),
        folder: "/var/lib/x",
        worker,
        refused: None,
        queue,
        arrivals: &[],
        sending,
        causes: &[],
        expected: &BTreeMap::new(),
        receivers: &[],
        finish: None,
        worked_at,
    })
}

fn pause(scope: &str, cause: Cause) -> Pause {
    Pause { scope: scope.to_owned(), cause, detail: Some("their words".to_owned()), by: None, since: NOW }
}

#[test]
fn the_verdict_is_the_worst_and_a_wait_counts_only_where_all_waits() {
    use HealthLevel::{Person, Stopped, Wait, Well};
    let well = holder(None);
    let closed = ClosedWindow { since: Some(NOW), until: Some(NOW.after(Duration::from_secs(3600))) };
    let open = SendingWaits::default();
    let outside = SendingWaits { closed: Some(closed), ..SendingWaits::default() };
    let queued = [("queued", 1_906), ("done", 5)];
    type Row<'a> = (&'a str, Overview, Option<&'a Holder>, &'a SendingWaits, HealthLevel, &'a str);
    let table: [Row<'_>; 8] = [
        ("idle", overview(), Some(&well), &open, Well, "All is well"),
        ("nobody works, and nothing is left", overview(), None, &open, Well, "All is well"),
        ("busy", with_jobs(&queued), Some(&well), &open, Well, "On course: 1,906 to send"),
        ("nobody works", with_jobs(&queued), None, &open, Stopped, "Nobody works on the queue, and work is left"),
        (
            "window",
            with_jobs(&queued),
            Some(&well),
            &outside,
            Wait,
            "As planned, nothing is sent outside limits.windows",
        ),
        ("window, and nothing to send", overview(), Some(&well), &outside, Well, "All is well"),
        (
            "held",
            with_jobs(&[("held", 3), ("queued", 4)]),
            Some(&well),
            &open,
            Person,
            "3 jobs are held, and wait for a person",
        ),
        (
            "held, the rest waits",
            with_jobs(&[("held", 3), ("queued", 4)]),
            Some(&well),
            &outside,
            Person,
            "3 jobs are held",
        ),
    ];
    for (name, queue, worker, sending, level, headline) in table {
        let Health { verdict, .. } = judged(&queue, worker, sending);
        assert_eq!(verdict.level, level, "{name}: {verdict:?}");
        assert!(verdict.headline.starts_with(headline), "{name}: {verdict:?}");
        assert!(verdict.detail.ends_with('.'), "{name}: {verdict:?}");
    }
}

#[test]
fn a_stop_that_nobody_meant_says_how_many_wait_and_what_happens_by_itself() {
    let stuck = holder(Some("No space left on device"));
    let Health { verdict, incidents } =
        judged(&with_jobs(&[("queued", 1_906)]), Some(&stuck), &SendingWaits::default());
    assert_eq!(verdict.headline, "The database cannot be written, so all work waits");
    assert_eq!((verdict.level, verdict.since), (HealthLevel::Stopped, Some(NOW)));
    let first = &incidents[0];
    assert_eq!((first.kind, first.waiting), (IncidentKind::Stuck, Some(1_906)));
    assert_eq!(first.says, ["No space left on device"]);
    assert_eq!(first.commands, ["df -h /var/lib/x"]);
    assert!(first.by_itself.is_some());
}

#[test]
fn a_pause_of_one_drop_leaves_the_verdict_to_the_others() {
    let mut queue = with_jobs(&[("queued", 4)]);
    queue.drops.push(Tally {
        drop: "b".to_owned(),
        jobs: BTreeMap::from([("queued".to_owned(), 9)]),
        ..Tally::default()
    });
    queue.pauses = vec![pause("drop:b", Cause::Operator)];
    let sending = SendingWaits { pauses: queue.pauses.clone(), ..SendingWaits::default() };
    let well = holder(None);
    let Health { verdict, incidents } = judged(&queue, Some(&well), &sending);
    assert_eq!(verdict.level, HealthLevel::Well);
    assert!(verdict.detail.contains("Drop b is paused by a person"), "{verdict:?}");
    assert_eq!((incidents[0].kind, incidents[0].waiting), (IncidentKind::Paused, Some(9)));
    assert_eq!(incidents[0].commands, ["passfort-ingest resume --drop b"]);
}

#[test]
fn many_of_a_kind_become_one_that_lists_them() {
    let mut queue = overview();
    queue.drops = (0..8)
        .map(|number| Tally { drop: format!("p{number}"), ground: Some("gone".to_owned()), ..Tally::default() })
        .collect();
    let well = holder(None);
    let incidents = judged(&queue, Some(&well), &SendingWaits::default()).incidents;
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0].says.len(), 8);
    assert_eq!(incidents[0].says[7], "drop p7: gone");
}

#[test]
fn kinds_are_listed_the_worst_first_and_have_words_of_their_own() {
    let levels: Vec<_> = IncidentKind::ALL.map(IncidentKind::level).to_vec();
    assert!(levels.is_sorted_by(|one, next| one >= next), "{levels:?}");
    let words: std::collections::BTreeSet<_> = IncidentKind::ALL.map(IncidentKind::as_str).into();
    let headings: std::collections::BTreeSet<_> = IncidentKind::ALL.map(IncidentKind::heading).into();
    assert_eq!((words.len(), headings.len()), (IncidentKind::ALL.len(), IncidentKind::ALL.len()));
}
