use std::collections::BTreeMap;

use super::*;
use crate::{
    exchange::{Answer, Ending, LimitHeaders, PageHeaders},
    job::WaitReason,
    outcome::Reason,
    queue::drop_state::UnclaimedFiles,
    verdict::Trial,
};

const NOW: Timestamp = Timestamp(1_795_378_500_000);

fn reason() -> Reason {
    Reason { status: None, code: None, message: "broke".into() }
}

fn exchange(operation: Operation, took_ms: u64, remaining: Option<u64>) -> Exchange {
    let limits = LimitHeaders { remaining, ..LimitHeaders::default() };
    Exchange {
        operation,
        result: Ok(Answer {
            status: 200,
            limits,
            pages: PageHeaders::default(),
            body: Vec::new(),
            omitted: Vec::new(),
            ending: Ending::Whole,
        }),
        sent_bytes: 1000,
        handed_over: true,
        started: NOW,
        took: Duration::from_millis(took_ms),
        answered_after: None,
    }
}

fn attempt(operation: Operation, outcome: &'static str) -> Attempt {
    Attempt {
        at: NOW,
        operation: operation.as_str(),
        position: None,
        outcome,
        detail: None,
        took_ms: 1,
        sent_bytes: 1,
        remote_id: None,
        proof: None,
    }
}

fn wait() -> Verdict {
    let trial = Trial { attempts: 1, ..Trial::default() };
    Verdict::Wait { waits: WaitReason::Retry, delay: Duration::ZERO, reason: String::new(), trial }
}

fn hold() -> Verdict {
    Verdict::Hold { reason: String::new() }
}

fn numbers(done: i64, failed: i64) -> Numbers {
    let jobs = BTreeMap::from([("done".to_owned(), done), ("failed".to_owned(), failed), ("held".to_owned(), 2)]);
    let tally = Tally { drop: "partner".into(), jobs, ..Tally::default() };
    Numbers { drops: vec![tally], ..Numbers::default() }
}

/// The value of a series, by its name and labels as written, without the prefix.
fn value(telemetry: &Telemetry, numbers: &Numbers, series: &str) -> Option<f64> {
    let now = GaugeValues {
        at: NOW,
        scan: Duration::from_millis(250),
        last_drop_event: Duration::from_secs(40),
        ready: vec![("partner".into(), true), ("other".into(), false)],
        done: None,
        expected: vec![("partner".into(), DeliveryState::Late), ("other".into(), DeliveryState::WillBeLate)],
        window_open: true,
        hourly_limit_remaining: Some(12.0),
        incidents: vec![IncidentCount { kind: "paused", level: "wait", count: 2, since: Some(NOW), until: None }],
    };
    let text = telemetry.text(numbers, &now).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("passfort_ingest_{series} ")))?;
    line.parse().ok()
}

#[test]
fn counters_are_described_by_their_own_names() {
    let text = Telemetry::new().text(&Numbers::default(), &GaugeValues::default()).unwrap();
    for line in [
        "# HELP passfort_ingest_request_bytes_total Bytes of request bodies handed over.",
        "# TYPE passfort_ingest_request_bytes_total counter",
        "# TYPE passfort_ingest_build_info gauge",
        "# TYPE passfort_ingest_in_flight gauge",
        "# TYPE passfort_ingest_request_seconds histogram",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("# EOF"), "{text}");
}

#[test]
fn calls_are_counted_by_operation_and_outcome() {
    let telemetry = Telemetry::new();
    let none = Numbers::default();
    let upload = exchange(Operation::UploadImage, 30, Some(17));
    telemetry.called(&upload, &Outcome::Lost(reason()));
    telemetry.called(&upload, &Outcome::Lost(reason()));
    telemetry.called(&exchange(Operation::Whoami, 3000, None), &Outcome::TryAgain(reason()));
    let value = |series: &str| value(&telemetry, &none, series);
    assert_eq!(value("requests_total{operation=\"upload_image\",outcome=\"lost\"}"), Some(2.0));
    assert_eq!(value("requests_total{operation=\"whoami\",outcome=\"try_again\"}"), Some(1.0));
    assert_eq!(value("requests_total{operation=\"upload_file\",outcome=\"done\"}"), Some(0.0));
    assert_eq!(value("request_bytes_total"), Some(3000.0));
    assert_eq!(value("request_seconds_count{operation=\"upload_image\"}"), Some(2.0));
    assert_eq!(value("request_seconds_bucket{le=\"0.05\",operation=\"upload_image\"}"), Some(2.0));
    assert_eq!(value("request_seconds_bucket{le=\"2.5\",operation=\"whoami\"}"), Some(0.0));
    assert_eq!(value("rate_limit_remaining{operation=\"upload_image\"}"), Some(17.0));
    assert_eq!(value("rate_limit_remaining{operation=\"whoami\"}"), None);
}

#[test]
fn a_call_is_under_way_until_it_is_over() {
    let telemetry = Telemetry::new();
    telemetry.limit_in_flight(16);
    let none = Numbers::default();
    let calls = [telemetry.begin_call(), telemetry.begin_call()];
    assert_eq!(value(&telemetry, &none, "in_flight"), Some(2.0));
    drop(calls);
    assert_eq!(value(&telemetry, &none, "in_flight"), Some(0.0));
    assert_eq!(value(&telemetry, &none, "in_flight_limit"), Some(16.0));
}

#[test]
fn a_lost_answer_is_counted_once_when_it_is_settled() {
    let telemetry = Telemetry::new();
    let none = Numbers::default();
    let lost = |operation: &str, settled: &str| {
        value(&telemetry, &none, &format!("lost_answers_total{{operation=\"{operation}\",settled=\"{settled}\"}}"))
    };
    telemetry.judged(&wait(), &[attempt(Operation::UploadImage, "lost"), attempt(Operation::UploadImage, "done")]);
    telemetry.judged(&hold(), &[attempt(Operation::UploadFile, "lost")]);
    telemetry.judged(&wait(), &[attempt(Operation::CreateDocument, "lost")]);
    assert_eq!(lost("upload_image", "sent_again"), Some(1.0));
    assert_eq!(lost("upload_file", "held"), Some(1.0));
    assert_eq!(lost("create_document", "adopted"), Some(0.0), "it is not settled before it was read back");
    telemetry.read_back(true);
    telemetry.judged(&hold(), &[attempt(Operation::ReadDocuments, "refused")]);
    assert_eq!(lost("create_document", "adopted"), Some(1.0));
    assert_eq!(lost("create_document", "held"), Some(1.0));
    let retries = value(&telemetry, &none, "retries_total{operation=\"upload_image\",reason=\"lost\"}");
    assert_eq!(retries, Some(1.0), "what worked is not tried again");
}

#[test]
fn the_queue_is_shown_as_it_is_and_no_counter_falls() {
    let telemetry = Telemetry::new();
    let done = "jobs_ended_total{drop=\"partner\",outcome=\"failed\"}";
    assert_eq!(value(&telemetry, &numbers(5, 3), done), Some(3.0));
    // A person has one of them tried again.
    assert_eq!(value(&telemetry, &numbers(5, 2), done), Some(3.0));
    let failed = "jobs{drop=\"partner\",state=\"failed\"}";
    assert_eq!(value(&telemetry, &numbers(5, 2), failed), Some(2.0));
    assert_eq!(value(&telemetry, &numbers(5, 2), "jobs{drop=\"partner\",state=\"waiting\"}"), Some(0.0));
    assert_eq!(value(&telemetry, &Numbers::default(), failed), None, "a drop that is gone is not shown");
    assert_eq!(value(&telemetry, &Numbers::default(), "scan_seconds"), Some(0.25));
    assert_eq!(value(&telemetry, &Numbers::default(), "last_drop_event_seconds"), Some(40.0));
    for (series, expected) in [
        ("expected_late{drop=\"partner\"}", 1.0),
        ("expected_late{drop=\"other\"}", 0.0),
        ("will_be_late{drop=\"other\"}", 1.0),
        ("window_open", 1.0),
        ("hourly_limit_remaining", 12.0),
        (concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(value(&telemetry, &Numbers::default(), series), Some(expected), "{series}");
    }
    assert_eq!(value(&telemetry, &Numbers::default(), "drop_ready{drop=\"partner\"}"), Some(1.0));
    assert_eq!(value(&telemetry, &Numbers::default(), "drop_ready{drop=\"other\"}"), Some(0.0));
    let mut unclaimed = numbers(1, 0);
    unclaimed.drops[0].unclaimed = Some(UnclaimedFiles { files: 3, ..UnclaimedFiles::default() });
    assert_eq!(value(&telemetry, &unclaimed, "unclaimed_files{drop=\"partner\"}"), Some(3.0));
    assert_eq!(value(&telemetry, &unclaimed, "unclaimed_files{drop=\"other\"}"), Some(0.0));
    let waiting = Numbers { oldest_waiting: Some(Timestamp(NOW.0 - 90_000)), ..Numbers::default() };
    assert_eq!(value(&telemetry, &waiting, "oldest_waiting_seconds"), Some(90.0));
    assert_eq!(value(&telemetry, &waiting, "paused{reason=\"outage\"}"), Some(0.0));
}

#[test]
fn what_came_is_counted_by_its_end_also_what_never_became_a_job() {
    let telemetry = Telemetry::new();
    let series = |series: &str, numbers: &Numbers| value(&telemetry, numbers, series);
    let rejected = "manifests_total{drop=\"partner\",status=\"rejected\"}";
    let invalid = "entries_total{drop=\"partner\",outcome=\"invalid\"}";
    assert_eq!((series(rejected, &numbers(5, 3)), series(invalid, &numbers(5, 3))), (Some(0.0), Some(0.0)));
    let counter = |what, value| ("partner".to_owned(), what, value);
    let counters = vec![
        counter(DropCounter::Manifests(BatchStatus::Rejected), 2),
        counter(DropCounter::Invalid, 17),
        counter(DropCounter::Unchanged, 100),
        ("other".to_owned(), DropCounter::Invalid, 99),
    ];
    let counted = Numbers { counters, ..numbers(5, 3) };
    assert_eq!((series(rejected, &counted), series(invalid, &counted)), (Some(2.0), Some(17.0)));
    assert_eq!(series("entries_total{drop=\"partner\",outcome=\"duplicate\"}", &counted), Some(100.0));
    assert_eq!(series("entries_total{drop=\"partner\",outcome=\"created\"}", &counted), Some(5.0));
    assert_eq!(series("entries_total{drop=\"partner\",outcome=\"failed\"}", &counted), Some(3.0));
}

#[test]
fn a_measured_time_beyond_its_bound_is_1() {
    let telemetry = Telemetry::new();
    let [request_lives, list_lag, within] = [60, 10, 7].map(Duration::from_secs);
    let bounds = AbsenceBounds { absent_after: request_lives + list_lag, request_lives, list_lag };
    let broken = || value(&telemetry, &Numbers::default(), "bound_broken").unwrap();
    telemetry.observed(&Observed { late: request_lives, lag: within }, &bounds);
    assert_eq!(broken(), 0.0);
    telemetry.observed(&Observed { late: request_lives, lag: list_lag + within }, &bounds);
    assert_eq!(broken(), 1.0);
    assert_eq!(value(&telemetry, &Numbers::default(), "observed_list_lag_seconds"), Some(17.0));
}
