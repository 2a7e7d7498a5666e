//! What stops or slows down an account: a refused key, a spent limit, and too many calls. No entry fails for it.

use std::collections::BTreeMap;

use passfort_ingest::sandbox::{ApiCall, FaultRule};
use serde_json::{Value, json};

use super::{check_uploads, drop_entry, is_of};
use crate::support::{Builder, Site, profile};

const REFUSED_KEYS: [&str; 9] = [
    "status-before:401",
    "status-before:403",
    "bare:401",
    "bare:403",
    "errors200:203",
    "errors200:204",
    "status-before:400/203",
    "status-before:500/204",
    "status-before:401/201",
];

const SPENT_LIMITS: [&str; 3] = ["errors200:104", "status-before:400/107", "status-before:503/104"];

const TOO_MANY: [&str; 5] =
    ["throttle:1", "throttle-retry-after:1", "status-before:429", "bare:429", "status-before:429/201"];

/// Drops an entry for each fault, which it meets on its first call of this operation, and as many that meet none.
fn site(operation: ApiCall, faults: &[&str], more: &[&str]) -> Site {
    let site = Builder { more: "[workers]\nmax_in_flight = 1".to_owned(), ..Builder::default() }.build();
    let rule = |number: u32, operation: &str, fault: &str| -> FaultRule {
        format!("{operation}={fault},nth=1,profile={}", profile(number)).parse().unwrap()
    };
    let mut rules: Vec<FaultRule> = more.iter().map(|rule| rule.parse().unwrap()).collect();
    for (number, fault) in (0..).step_by(2).zip(faults) {
        if operation == ApiCall::ReadDocuments {
            rules.push(rule(number, "create_document", "lost"));
        }
        rules.push(rule(number, operation.as_str(), fault));
    }
    site.sandbox().set_faults(rules);
    let count = u32::try_from(faults.len()).unwrap() * 2;
    let entries: Vec<Value> = (0..count).map(|number| drop_entry(&site, operation, number)).collect();
    let kind = if operation == ApiCall::UploadFile { "files" } else { "documents" };
    site.put("all.manifest.json", json!({ "version": 1, kind: entries }).to_string());
    site
}

/// Every fault happened, every entry was created once, and nothing that has an ID was sent again.
#[track_caller]
fn assert_all_created(site: &Site, operation: ApiCall, faults: &[&str]) {
    let ledger = site.ledger();
    for fault in faults {
        assert!(ledger.iter().any(|call| is_of(call, fault)), "{operation}={fault} never happened");
    }
    let receipt = site.receipt("all.manifest.json");
    assert_eq!(receipt["counts"]["created"], receipt["counts"]["entries"], "{operation}: {receipt}");
    let summary = site.summary();
    let created = if operation == ApiCall::UploadFile { summary.files } else { summary.documents };
    assert_eq!(receipt["counts"]["created"], created, "{operation}: {summary}");
    assert_eq!((summary.orphans, summary.doubled, summary.doubled_ids), (0, 0, 0), "{operation}: {summary}");
    let mut profiles: BTreeMap<_, Vec<_>> = BTreeMap::new();
    ledger.into_iter().for_each(|call| profiles.entry(call.profile.clone()).or_default().push(call));
    for calls in profiles.values() {
        check_uploads(calls).unwrap();
    }
}

fn a_refused_key(operation: ApiCall) {
    // The key itself is refused once; later it works, so that it is refused for the profile only.
    let site = site(operation, &REFUSED_KEYS, &["whoami=status-before:401,nth=1"]);
    let finished = site.run_once().expect(0);
    assert_all_created(&site, operation, &REFUSED_KEYS);
    let stopped = |line: &str| line.contains("sending is stopped") && line.contains("key_refused");
    assert!(finished.stderr.lines().any(stopped), "{}", finished.stderr);
    // While it is stopped, only the key is asked about; a call may have been under way.
    let ledger = site.ledger();
    let refused = ledger.iter().position(|call| call.operation == ApiCall::Whoami).unwrap();
    assert_eq!(ledger[refused].status, Some(401));
    let others = ledger[refused + 1..].iter().take_while(|call| call.operation != ApiCall::Whoami).count();
    assert!(others <= 2, "{operation}: {others} calls went out while the key was refused");
}

fn a_spent_limit(operation: ApiCall) {
    let site = site(operation, &SPENT_LIMITS, &[]);
    site.wait_until_settled();
    let mut stops = 0;
    loop {
        let finished = site.run(&["run", "--once", "--give-up-after", "1s"]);
        if finished.code == Some(0) {
            break;
        }
        stops += 1;
        assert!(stops <= SPENT_LIMITS.len(), "{operation}: it stops again and again");
        finished.expect(3).says("a limit of the account is spent");
        assert!(!site.is_settled("all.manifest.json"), "{operation}: no entry fails for it");
        let ledger = site.ledger();
        let spent = ledger.iter().rposition(|call| SPENT_LIMITS.iter().any(|fault| is_of(call, fault)));
        // One may have been under way, and one goes out where the stop was not yet on disk.
        assert!(ledger.len() - 1 - spent.unwrap() <= 2, "{operation}: calls went out to a spent limit");
        site.run(&["resume"]).expect(0);
    }
    assert!(stops > 0, "{operation}: it was never stopped");
    assert_all_created(&site, operation, &SPENT_LIMITS);
}

fn too_many_calls(operation: ApiCall) {
    // Each by itself: of several that come close together, a rate is learnt that is far below what a test has time for.
    for fault in TOO_MANY {
        let site = site(operation, &[fault], &[]);
        site.run_once().expect(0);
        assert_all_created(&site, operation, &[fault]);
    }
}

/// They wait for seconds and do little, so that they run side by side.
fn for_each_operation(test: fn(ApiCall)) {
    let operations = [ApiCall::UploadImage, ApiCall::UploadFile, ApiCall::CreateDocument, ApiCall::ReadDocuments];
    std::thread::scope(|scope| {
        for operation in operations {
            scope.spawn(move || test(operation));
        }
    });
}

#[test]
fn a_refused_key_stops_the_account() {
    for_each_operation(a_refused_key);
}

#[test]
fn a_spent_limit_stops_the_account() {
    for_each_operation(a_spent_limit);
}

#[test]
fn too_many_calls_slow_the_account_down() {
    for_each_operation(too_many_calls);
}
