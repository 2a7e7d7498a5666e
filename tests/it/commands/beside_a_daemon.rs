//! A daemon and commands beside it, and a key that is refused in the middle of the work.

use std::{fs, time::Duration};

use passfort_ingest::sandbox::{ApiCall, Options};

use crate::support::{Builder, Format, Site, entry, image, read_receipt};

fn slow(latency_ms: u64) -> Site {
    let sandbox = Options { latency: Duration::from_millis(latency_ms), ..Options::default() };
    Builder { sandbox, more: "[workers]\nmax_in_flight = 2".to_owned(), ..Builder::default() }.build()
}

#[test]
fn a_second_daemon_reports_the_first_and_does_nothing() {
    let site = Site::new();
    let mut first = site.daemon();
    site.put_batch("batch.manifest.json", 1);
    first.wait_until("it works", || site.left().is_empty());

    let second = site.run(&["run"]).expect(2);
    assert!(second.took < Duration::from_secs(15), "it took {:?} to say so", second.took);
    let said = second.stderr.to_lowercase();
    assert!(["already", "another", "running"].iter().any(|word| said.contains(word)), "{said}");
    site.run(&["run", "--once"]).expect(2);

    assert!(first.is_alive(), "the first goes on");
    first.terminate().expect(0);
}

#[test]
fn an_import_for_a_drop_that_the_daemon_does_not_know_says_so_and_queues_nothing() {
    let site = slow(5);
    let mut daemon = site.daemon();
    site.put_batch("batch.manifest.json", 1);
    daemon.wait_until("it works", || site.left().is_empty());
    site.write("in/x.png", image(Format::Png, 70));
    let manifest = serde_json::json!({ "version": 1, "documents": [entry("x", 70, "x.png")] });
    site.write("in/x.manifest.json", manifest.to_string());
    site.run(&["import", "in", "--drop", "migration"]).expect(2).says("migration");
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 1);
    site.run(&["import", "in", "--drop", "migration"]).expect(0);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn an_import_beside_a_daemon_queues_and_follows() {
    let site = slow(5);
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || site.at("state/queue.db").exists());
    site.write("in/x.png", image(Format::Png, 70));
    let manifest = serde_json::json!({ "version": 1, "documents": [entry("x", 70, "x.png")] });
    site.write("in/x.manifest.json", manifest.to_string());
    site.put_batch("batch.manifest.json", 5);

    site.run(&["import", "in"]).expect(0);
    let receipt = read_receipt(&site.at("in/receipts/x.manifest.json.receipt.json"));
    assert_eq!(receipt["status"], "done", "{receipt}");
    assert!(site.at("in/x.manifest.json").exists(), "nothing is moved unasked");

    daemon.wait_until("its own work", || site.left().is_empty());
    daemon.terminate().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (6, 0));
}

#[test]
fn an_import_of_what_the_daemon_refuses_says_so_by_its_code() {
    let site = Site::new();
    let mut daemon = site.daemon();
    daemon.wait_until("it is at work", || site.at("state/queue.db").exists());
    site.write("in/x.png", "no image at all");
    let manifest = serde_json::json!({ "version": 1, "documents": [entry("x", 70, "x.png")] });
    site.write("in/x.manifest.json", manifest.to_string());
    site.run(&["import", "in"]).expect(1);
    daemon.terminate().expect(0);
}

#[test]
fn a_key_that_is_refused_in_the_middle_pauses_and_fails_nothing() {
    let site = slow(5);
    site.put_batch("batch.manifest.json", 20);
    let mut daemon = site.daemon();
    daemon.wait_until("some documents", || site.summary().documents >= 3);
    site.sandbox().set_keys(vec!["new".to_owned()]);
    let refused = || site.ledger().iter().filter(|call| !call.key_ok).count();
    daemon.wait_until("the key is refused", || refused() >= 1);
    let documents = site.summary().documents;
    // It asks again whether the key works, with the harmless call.
    let probes = || site.ledger().iter().filter(|call| !call.key_ok && call.operation.as_str() == "whoami").count();
    daemon.wait_until("it probes", || probes() >= 1);
    assert!(refused() - probes() <= 4, "it does not try the rest with a key that is refused");
    assert!(!site.is_settled("batch.manifest.json"), "nothing fails for a key");
    assert!(documents < 20);

    site.sandbox().set_keys(vec!["test".to_owned()]);
    daemon.wait_until("it goes on by itself", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 20);
    daemon.terminate().expect(0);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.images, summary.doubled), (20, 20, 0));
}

#[test]
fn asked_to_stop_it_waits_for_what_is_under_way() {
    let site = slow(300);
    site.put_batch("batch.manifest.json", 10);
    let mut daemon = site.daemon();
    daemon.wait_until("a call is under way", || !site.ledger().is_empty());
    daemon.terminate().expect(0);
    let ledger = site.ledger();
    assert!(ledger.iter().all(|call| call.answered), "no answer was missed: {ledger:#?}");
    assert!(ledger.len() < 20, "it did not do everything first");

    site.run_once().expect(0);
    assert_eq!(site.summary().images, 10, "what was sent is not sent again");
}

#[test]
fn a_daemon_whose_api_is_away_waits_and_continues() {
    let mut site = Site::new();
    site.stop_api();
    site.put_batch("batch.manifest.json", 3);
    let mut daemon = site.daemon();
    daemon.wait_until("it has tried", || fs::metadata(site.at("state/queue.db")).is_ok_and(|db| db.len() > 0));
    site.start_api();
    daemon.wait_until("it goes on by itself", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 3);
    daemon.terminate().expect(0);
}

#[test]
fn a_daemon_whose_api_has_fallen_silent_stops_when_it_is_asked_to() {
    let mut site = Builder { api: "response_timeout = '1h'".to_owned(), ..Builder::default() }.build();
    site.use_key("wrong-key-7f3a");
    site.faults(&["whoami=hang"]);
    site.put_batch("batch.manifest.json", 1);
    let mut daemon = site.daemon();
    daemon.wait_until("it asks whether the key works", || !site.calls(ApiCall::Whoami).is_empty());
    daemon.terminate().expect(0);
}
