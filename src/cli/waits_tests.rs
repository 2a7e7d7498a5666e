//! Whatever keeps a job, a manifest, a drop or an account from continuing is named by `status`, `jobs`, `show`, `why` and JSON,
//! with since when and, where it is known, until when. Over every reason that the code has.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use super::{
    jobs::{self, JobsArgs},
    output::tests::capture,
    show::{self, ShowArgs},
    status::{self as status_command, StatusArgs},
    why::{self, WhyArgs},
};
use crate::{
    cli::output::Exit,
    clock::Timestamp,
    estimate::{AccountPace, Constraint, Counted, Pace, PacedLimit},
    health::IncidentKind,
    job::{Creation, WaitReason},
    queue::{
        control::Cause,
        lock::Lock,
        test_support::{DROP, NOW, Site},
    },
    status,
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: JobsArgs,
}

/// What is said where, about the job of the document `one`.
struct Said {
    status: String,
    json: serde_json::Value,
    of_job: [(&'static str, String); 4],
}

fn said(site: &Site, job: i64) -> Said {
    let _lock = Lock::take(site.queue.path(), "run").unwrap().unwrap();
    let context = site.context();
    let run =
        |command: &dyn Fn(&mut super::output::Output<'_>) -> anyhow::Result<Exit>| capture(|output| command(output)).1;
    let of_jobs = |words: &[&str]| {
        let args = Cli::parse_from([&["jobs"], words].concat()).args;
        run(&|output| jobs::list(&args, &context, NOW, output))
    };
    let path = "img/one.png".to_owned();
    let absolute = PathBuf::from("/nowhere/img/one.png");
    let seen = status::read(site.queue.path(), NOW).unwrap();
    let args = StatusArgs { watch: false, json: false, check: false };
    Said {
        status: run(&|output| {
            status_command::write(&args, site.queue.path(), seen.as_ref(), output)?;
            Ok(Exit::Well)
        }),
        json: serde_json::to_value(&seen).unwrap(),
        of_job: [
            ("jobs", of_jobs(&[])),
            ("jobs --json", of_jobs(&["--json"])),
            (
                "show",
                run(&|output| show::show(&ShowArgs { job: vec![job.to_string()], json: false }, &context, NOW, output)),
            ),
            (
                "why",
                run(&|output| why::why(&WhyArgs { path: path.clone(), json: false }, &absolute, &context, NOW, output)),
            ),
        ],
    }
}

/// Checks that a reason is named everywhere: in `status` and its JSON by the kind, of the job by these words.
fn named(site: &Site, job: i64, kind: IncidentKind, words: &str, is_known_until: bool) {
    let Said { status, json, of_job } = said(site, job);
    assert!(status.contains(kind.heading()), "{kind:?} is not in\n{status}");
    let incidents = json["incidents"].as_array().unwrap();
    let incident = incidents.iter().find(|incident| incident["kind"] == kind.as_str());
    let incident = incident.unwrap_or_else(|| panic!("{kind:?} is not in {json:#}"));
    assert!(incident["since"].is_string(), "{incident:#}");
    assert_eq!(incident["until"].is_string(), is_known_until, "{incident:#}");
    for (command, said) in of_job {
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{kind:?}: {words:?} is not in what `{command}` says:\n{said}");
        assert!(said.contains("since 2026-"), "{kind:?}: `{command}` does not say since when:\n{said}");
    }
}

fn site() -> Site {
    let site = Site::new();
    site.admit("a.manifest.json", &["one", "two"]);
    site
}

fn later(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

#[test]
fn every_wait_of_a_job() {
    for waits in WaitReason::ALL {
        let (kind, words) = match waits {
            WaitReason::Retry => (IncidentKind::Retry, "waiting for a retry: due in 14 s"),
            WaitReason::Quota => (IncidentKind::ApiQuota, "waiting for a quota: due in 14 s"),
            WaitReason::File => (IncidentKind::FileGone, "waiting for a file: looked at again, due in 14 s"),
            WaitReason::ReadBack => (IncidentKind::ReadBack, "waiting to ask the API"),
            WaitReason::Twin => (IncidentKind::Twin, "waiting for job"),
        };
        let site = site();
        if waits == WaitReason::Twin {
            site.admit("again.manifest.json", &["one"]);
            named(&site, 3, kind, words, false);
            continue;
        }
        site.put_off(1, waits, Creation::None, later(14));
        named(&site, 1, kind, words, true);
    }
}

#[test]
fn every_cause_of_a_pause() {
    for cause in Cause::ALL {
        let (kind, words) = match cause {
            Cause::Operator => (IncidentKind::Paused, "paused by a person"),
            Cause::KeyRefused => (IncidentKind::KeyRefused, "the API refuses the key"),
            Cause::QuotaSpent => (IncidentKind::QuotaSpent, "a limit of the account is spent"),
            Cause::Outage => (IncidentKind::Outage, "nothing but failures came back"),
        };
        for scope in ["", "drop:partner-a", "account:https://api"] {
            let site = site();
            note_pace(&site, &[], Vec::new());
            site.queue.pause(scope, cause, None, NOW).unwrap();
            named(&site, 1, kind, words, false);
        }
    }
}

fn note_pace(site: &Site, windows: &[&str], limits: Vec<PacedLimit>) {
    let account = AccountPace {
        scope: "account:https://api".to_owned(),
        drops: vec![DROP.to_owned()],
        limits,
        ..AccountPace::default()
    };
    let windows = windows.iter().map(ToString::to_string).collect();
    site.wait(site.queue.note_pace(&Pace { at: NOW.0, windows, accounts: vec![account] })).unwrap();
}

#[test]
fn every_limit_that_has_jobs_wait() {
    let limits = [
        Constraint::DocumentsPerHour,
        Constraint::RequestsPerSecond,
        Constraint::BytesPerSecond,
        Constraint::Link,
        Constraint::CallTime,
        Constraint::Windows,
        Constraint::ApiQuota,
        Constraint::MeasuredRate,
        Constraint::Retry,
    ];
    for constraint in limits {
        let kind = match constraint {
            Constraint::DocumentsPerHour => IncidentKind::LimitReached,
            Constraint::ApiQuota => IncidentKind::ApiQuota,
            // Shapes that pass in fractions of a second, or no limits of the worker; windows and retries are above and below.
            Constraint::RequestsPerSecond
            | Constraint::BytesPerSecond
            | Constraint::Link
            | Constraint::CallTime
            | Constraint::Windows
            | Constraint::MeasuredRate
            | Constraint::Retry => continue,
        };
        let site = site();
        let counted = Counted::Documents;
        note_pace(
            &site,
            &[],
            vec![PacedLimit { constraint, counted, rate: 0.01, burst: 5.0, level: 0.5, window: None }],
        );
        named(&site, 1, kind, "is used up, for", true);
        let limited = said(&site, 1).json;
        assert!(limited["reached_limits"][0]["until"].is_string(), "{limited:#}");
    }
}

#[test]
fn a_closed_window() {
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let mut closed = 0;
    for day in days {
        let site = site();
        note_pace(&site, &[day], Vec::new());
        if said(&site, 1).json["closed_window"].is_null() {
            continue;
        }
        closed += 1;
        named(&site, 1, IncidentKind::WindowClosed, "outside limits.windows, for", true);
        let json = said(&site, 1).json;
        assert_eq!(json["verdict"]["level"], "wait", "{json:#}");
    }
    assert_eq!(closed, 6);
}

#[test]
fn a_held_job() {
    let site = site();
    site.hold(1, Creation::Unknown);
    named(&site, 1, IncidentKind::Held, "held until a person decides", false);
}
