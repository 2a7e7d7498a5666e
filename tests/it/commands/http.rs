//! The page and the numbers of a running daemon: `[http]`.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use passfort_ingest::sandbox::Options;
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, get, image, metrics, profile, promise, sum, value};

/// Every name that the interface promises.
const NAMES: [&str; 15] = [
    "jobs{",
    "jobs_ended_total{",
    "requests_total{",
    "request_seconds_bucket{",
    "request_bytes_total ",
    "in_flight ",
    "in_flight_limit ",
    "retries_total{",
    "oldest_waiting_seconds ",
    "rate_limit_remaining{",
    "lost_answers_total{",
    "leftover_images_total ",
    "scan_seconds ",
    "last_drop_event_seconds ",
    "paused{",
];

fn builder() -> Builder {
    Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }
}

/// Drops documents of one image each, one file, and an entry that cannot be sent; returns how many jobs they make.
fn drop_some(site: &Site) {
    let documents: Vec<Value> = (0..6)
        .map(|number| {
            let name = format!("secret-name-{number}.png");
            site.put(&name, image(Format::Png, number));
            entry(&format!("secret-reference-{number}"), number, &name)
        })
        .collect();
    site.put("f.pdf", image(Format::Pdf, 50));
    let files = json!([{ "reference": "secret-file", "profile_id": profile(9), "path": "f.pdf" }]);
    let manifest = json!({ "version": 1, "documents": documents, "files": files });
    site.put("batch.manifest.json", manifest.to_string());
}

#[test]
fn the_numbers_are_all_there_agree_with_the_api_and_name_nobody() {
    promise!("The log, the metrics and `config show` contain no key and no image content.");
    promise!(
        "By default, the log contains no profile, no reference, no name of a file and no words of the API, and the metrics contain no name but that of the drop."
    );
    let site = builder().build();
    site.sandbox().set_limits(vec!["any=1000/1,burst=1000".parse().unwrap()]);
    site.faults(&["upload_image=lost,nth=2", "create_document=lost,nth=3", "upload_file=throttle:1,nth=1"]);
    drop_some(&site);
    let (mut daemon, page) = site.daemon_with_page();
    daemon.wait_until("everything is settled", || site.left().is_empty());

    let numbers = metrics(page);
    for name in NAMES {
        let there = numbers.lines().any(|line| line.starts_with(&format!("passfort_ingest_{name}")));
        assert!(there, "no {name} in\n{numbers}");
    }
    assert!(numbers.contains("# TYPE passfort_ingest_request_bytes_total counter\n"), "{numbers}");

    let ledger = site.ledger();
    for operation in ["upload_image", "upload_file", "create_document", "read_documents"] {
        let calls = ledger.iter().filter(|call| call.operation.as_str() == operation).count();
        let counted = sum(&numbers, "requests_total", &format!("operation=\"{operation}\""));
        assert_eq!(counted, calls as f64, "{operation}\n{numbers}");
        assert_eq!(value(&numbers, &format!("request_seconds_count{{operation=\"{operation}\"}}")), calls as f64);
    }
    let bytes: u64 = ledger.iter().map(|call| call.request_bytes).sum();
    assert_eq!(value(&numbers, "request_bytes_total"), bytes as f64);
    assert_eq!(value(&numbers, "jobs_ended_total{drop=\"partner\",outcome=\"done\"}"), 7.0);
    assert_eq!(value(&numbers, "jobs{drop=\"partner\",state=\"done\"}"), 7.0);
    assert_eq!(value(&numbers, "lost_answers_total{operation=\"upload_image\",settled=\"sent_again\"}"), 1.0);
    assert_eq!(value(&numbers, "lost_answers_total{operation=\"create_document\",settled=\"adopted\"}"), 1.0);
    assert_eq!(value(&numbers, "leftover_images_total"), site.summary().orphans as f64);
    assert_eq!(value(&numbers, "retries_total{operation=\"upload_file\",reason=\"throttled\"}"), 1.0);
    assert_eq!(value(&numbers, "oldest_waiting_seconds"), 0.0);
    assert_eq!(value(&numbers, "in_flight"), 0.0);
    assert!(value(&numbers, "in_flight_limit") >= 1.0);
    for secret in ["secret", ".png", "a2c4393a", "manifest.json", "apikey"] {
        assert!(!numbers.contains(secret), "{secret} in\n{numbers}");
    }
    daemon.terminate().expect(0);
}

#[test]
fn the_page_shows_what_status_shows() {
    let site = builder().build();
    drop_some(&site);
    site.put("late.manifest.json", json!({ "version": 1, "documents": [entry("x", 8, "missing.png")] }).to_string());
    let (mut daemon, page) = site.daemon_with_page();
    daemon.wait_until("everything else is settled", || site.left() == ["late.manifest.json"]);
    site.run(&["pause", "--drop", "partner"]).expect(0);

    let read = || {
        let shown: Value = serde_json::from_str(&get(page, "/status.json").1).unwrap();
        (shown, site.status())
    };
    daemon.wait_until("the two are of the same moment, and equal", || {
        let (mut shown, mut reported) = read();
        assert_eq!(shown["totals"]["done"], 7, "{shown}");
        assert_eq!(shown["paused"], true, "{shown}");
        assert_eq!(shown["daemon"]["command"], "run", "{shown}");
        for moving in ["now", "rate_per_minute", "eta_seconds"] {
            let (one, other) =
                (shown.as_object_mut().unwrap().remove(moving), reported.as_object_mut().unwrap().remove(moving));
            assert_eq!(one.is_some(), other.is_some(), "{moving}");
        }
        shown == reported && shown["waiting_manifests"][0]["manifest"] == "late.manifest.json"
    });
    assert!(get(page, "/").1.contains("<title>passfort-ingest</title>"));
    daemon.terminate().expect(0);
}

#[test]
fn bad_ground_and_unclaimed_files_are_in_what_the_page_reads() {
    let shows = |what: &str, prepare: &dyn Fn(&Site), is_shown: &dyn Fn(&Value) -> bool| {
        let site = Builder { drop: "incomplete_after = '1s'".to_owned(), ..builder() }.build();
        prepare(&site);
        let (mut daemon, page) = site.daemon_with_page();
        daemon.wait_until(what, || {
            let shown: Value = serde_json::from_str(&get(page, "/status.json").1).unwrap();
            shown["queue"]["drops"].as_array().unwrap().iter().any(is_shown)
        });
        daemon.terminate().expect(0);
    };
    shows("the file is shown", &|site| site.put("nobodys.png", image(Format::Png, 1)), &|drop| {
        drop["unclaimed"]["files"] == 1 && drop["unclaimed"]["examples"][0] == "nobodys.png"
    });
    shows("the ground is shown", &|site| site.put("done", "in the way"), &|drop| {
        drop["ground"].as_str().is_some_and(|ground| ground.contains("done")) && !drop["ground_since"].is_null()
    });
}

#[test]
fn a_refused_key_is_alive_and_not_ready_and_a_pause_by_a_person_is_both() {
    let site = builder().build();
    let (mut daemon, page) = site.daemon_with_page();
    site.run(&["pause"]).expect(0);
    assert_eq!(get(page, "/healthz").0, 200);
    assert_eq!(get(page, "/readyz").0, 200);
    assert_eq!(value(&metrics(page), "paused{reason=\"operator\"}"), 1.0);
    site.run(&["resume"]).expect(0);

    site.sandbox().set_keys(vec!["new".to_owned()]);
    drop_some(&site);
    daemon.wait_until("it is not ready", || get(page, "/readyz").0 == 503);
    let (_, why) = get(page, "/readyz");
    assert!(why.contains("refuses the key"), "{why}");
    assert_eq!(get(page, "/healthz").0, 200);
    daemon.wait_until("the numbers say so", || value(&metrics(page), "paused{reason=\"key_refused\"}") == 1.0);
    assert!(value(&metrics(page), "oldest_waiting_seconds") > 0.0);

    site.sandbox().set_keys(vec!["test".to_owned()]);
    daemon.wait_until("it is ready again", || get(page, "/readyz").0 == 200);
    daemon.wait_until("everything is settled", || site.left().is_empty());
    daemon.terminate().expect(0);
}

#[test]
fn while_it_stops_it_is_alive_and_not_ready() {
    let sandbox = Options { latency: Duration::from_secs(2), ..Options::default() };
    let site = Builder { sandbox, ..builder() }.build();
    drop_some(&site);
    let (mut daemon, page) = site.daemon_with_page();
    daemon.wait_until("a call is under way", || value(&metrics(page), "in_flight") >= 1.0);
    let asked = std::thread::spawn(move || {
        // Asks until the process is gone; what it answered last, before that, is what counts.
        let mut said = Vec::new();
        while let Ok(mut stream) = TcpStream::connect(page) {
            let mut answer = String::new();
            write!(stream, "GET /readyz HTTP/1.1\r\nHost: {page}\r\n\r\n").ok();
            stream.read_to_string(&mut answer).ok();
            said.push(answer);
        }
        said
    });
    daemon.terminate().expect(0);
    let said = asked.join().unwrap();
    assert!(
        said.iter().any(|answer| answer.starts_with("HTTP/1.1 503") && answer.ends_with("stopping\n")),
        "{said:#?}"
    );
}

#[test]
fn an_address_that_is_taken_is_a_mistake_in_the_configuration() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Builder { more: format!("[http]\nlisten = '{address}'"), ..Builder::default() }.build();
    drop_some(&site);
    site.run(&["run"]).expect(2).says(&format!("cannot listen on {address}"));
    assert!(site.ledger().is_empty(), "nothing was done");
    assert!(!site.at("state/queue.db").exists(), "nothing was done");
    // A run for a timer needs no page, and may run beside whatever has the address.
    site.run_once().expect(0);
}

#[test]
fn warnings_are_counted_by_drop_and_kind() {
    let site = builder().build();
    site.put("a.png", image(Format::Png, 1));
    let mut document = entry("a", 1, "a.png");
    document["document_type"] = "PASPORT".into();
    site.put_documents("a.manifest.json", &[document]);
    let (mut daemon, page) = site.daemon_with_page();
    let series = "passfort_ingest_warnings_total{drop=\"partner\",kind=\"unknown-type\"} 1";
    daemon.wait_until("it is counted", || metrics(page).lines().any(|line| line == series));
}
