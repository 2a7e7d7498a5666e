//! Commands that read and change the queue, beside a daemon and without one.

use passfort_ingest::sandbox::ApiCall;
use serde_json::{Value, json};

use crate::support::{Builder, Daemon, Format, Site, entry, image, profile, wait_until};

/// The number that commands take.
fn number(job: &Value) -> String {
    job["id"].to_string()
}

/// A daemon that has taken the manifest in while it is paused.
fn paused_with(site: &Site, documents: u32) -> Daemon {
    site.run(&["run", "--once"]).expect(0);
    site.run(&["pause"]).expect(0);
    site.put_batch("batch.manifest.json", documents);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.jobs("queued,waiting").len() == documents as usize);
    daemon
}

#[test]
fn a_pause_holds_across_restarts_until_it_is_resumed() {
    let site = Site::new();
    let daemon = paused_with(&site, 3);
    assert!(site.run(&["status"]).expect(0).stdout.to_lowercase().contains("pause"));
    daemon.terminate().expect(0);
    site.run(&["run", "--once"]).expect(3);
    let mut daemon = site.daemon();
    assert!(site.calls(ApiCall::UploadImage).is_empty(), "nothing was sent");

    site.run(&["resume"]).expect(0);
    daemon.wait_until("it goes on", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 3);
    daemon.terminate().expect(0);
}

#[test]
fn one_drop_can_be_paused_alone() {
    let builder = Builder::default();
    let site = Builder { more: "[[drop]]\nname = 'other'\npath = 'OTHER'\nsettle = '50ms'".to_owned(), ..builder };
    let site = site.build();
    std::fs::create_dir(site.at("other")).unwrap();
    let config = std::fs::read_to_string(site.at("config.toml")).unwrap();
    site.write("config.toml", config.replace("OTHER", site.at("other").to_str().unwrap()));
    site.run_once().expect(0);
    site.run(&["pause", "--drop", "partner"]).expect(0);
    site.put_batch("batch.manifest.json", 2);
    site.write("other/x.png", image(Format::Png, 90));
    let manifest = json!({ "version": 1, "documents": [entry("x", 90, "x.png")] });
    site.write("other/x.manifest.json", manifest.to_string());

    let mut daemon = site.daemon();
    daemon.wait_until("the other drop's work", || site.at("other/receipts/x.manifest.json.receipt.json").exists());
    daemon.wait_until("it is taken in", || site.jobs("queued,waiting").len() == 2);
    assert!(
        site.ledger().iter().all(|call| call.profile.as_ref().is_none_or(|of| *of == profile(90))),
        "the paused one sends nothing"
    );
    site.run(&["resume", "--drop", "partner"]).expect(0);
    daemon.wait_until("it goes on", || site.left().is_empty());
    daemon.terminate().expect(0);
    site.run(&["pause", "--drop", "nobody"]).expect(2);
}

#[test]
fn a_cancelled_job_is_not_sent_and_its_receipt_says_so() {
    let site = Site::new();
    let mut daemon = paused_with(&site, 3);
    let number = site.jobs("queued,waiting").iter().find(|job| job["reference"] == "document-1").map(number).unwrap();
    site.run(&["cancel", &number]).expect(0);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.left().is_empty());
    daemon.terminate().expect(0);
    let receipt = site.receipt("batch.manifest.json");
    assert_eq!(receipt["counts"]["cancelled"], 1, "{receipt}");
    assert_eq!(receipt["counts"]["created"], 2, "{receipt}");
    assert_eq!(receipt["entries"][1]["status"], "cancelled");
    assert_eq!(receipt["status"], "partial");
    assert!(site.ledger().iter().all(|call| call.profile != Some(profile(1))), "nothing of it is sent");
}

#[test]
fn all_that_is_left_of_a_manifest_can_be_cancelled_without_a_daemon() {
    let site = Site::new();
    paused_with(&site, 3).terminate().expect(0);
    site.run(&["cancel", "--manifest", "batch.manifest.json"]).expect(0);
    site.run(&["resume"]).expect(0);
    site.run_once();
    let receipt = site.receipt("batch.manifest.json");
    assert_eq!((&receipt["counts"]["cancelled"], &receipt["status"]), (&json!(3), &json!("failed")));
    assert!(site.calls(ApiCall::UploadImage).is_empty());
    assert_eq!(site.left(), Vec::<String>::new());
}

#[test]
fn a_job_that_failed_is_sent_by_a_retry_once_the_cause_is_gone() {
    let site = Site::with_faults(&[&format!("create_document=status-before:400/201,profile={}", profile(1))]);
    site.put_batch("batch.manifest.json", 3);
    site.run_once().expect(1);
    let known = site.receipt_paths("batch.manifest.json");
    assert_eq!(site.jobs("failed").len(), 1);

    site.faults(&[]);
    site.run(&["retry", "--state", "failed"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
    assert_eq!(site.summary().images, 3, "its image has an ID already");
    assert_eq!(site.jobs("done").len(), 3);
    let receipt = site.newer_receipt("batch.manifest.json", &known);
    assert_eq!(receipt["entries"][1]["status"], "created", "{receipt}");
}

#[test]
fn a_job_whose_image_was_refused_is_retried_with_the_archived_file() {
    let site = Site::with_faults(&["upload_image=status-before:400/201"]);
    site.put_batch("batch.manifest.json", 1);
    site.run_once().expect(1);
    assert!(site.moved_to("failed").contains(&"0.png".to_owned()));
    site.faults(&[]);
    site.run(&["retry", "--all"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_waiting_job_is_retried_at_once_beside_the_daemon() {
    let site = Site::new();
    let config = std::fs::read_to_string(site.at("config.toml")).unwrap();
    site.write("config.toml", config.replace("initial = '50ms'", "initial = '10m'"));
    site.run_once().expect(0);
    site.faults(&["upload_image=status-before:503"]);
    site.put_batch("batch.manifest.json", 1);
    let mut daemon = site.daemon();
    daemon.wait_until("it waits", || site.jobs("waiting").len() == 1);
    site.faults(&[]);
    site.run(&["retry", "--state", "waiting"]).expect(0);
    daemon.wait_until("it does not wait on", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["status"], "done");
    daemon.terminate().expect(0);
}

#[test]
fn a_held_file_is_released_either_way() {
    for (answer, uploads) in [("--send-again", 2), ("--as-created", 1)] {
        let site = Builder { retry: "lost_file = 'hold'".to_owned(), ..Builder::default() }.build();
        site.faults(&["upload_file=lost,nth=1"]);
        site.put("a.pdf", image(Format::Pdf, 1));
        let files = json!([{ "reference": "f", "profile_id": profile(1), "path": "a.pdf" }]);
        site.put("f.manifest.json", json!({ "version": 1, "files": files }).to_string());
        site.run_once().expect(3);
        let held = site.jobs("held");
        assert_eq!(held.len(), 1);
        let number = number(&held[0]);
        let id = site.calls(ApiCall::UploadFile)[0].id.clone().unwrap();
        if answer == "--as-created" {
            site.run(&["release", &number, answer, &id]).expect(0);
        } else {
            site.run(&["release", &number, answer]).expect(0);
        }
        site.run_once().expect(0);
        assert_eq!(site.calls(ApiCall::UploadFile).len(), uploads, "{answer}");
        let receipt = site.receipt("f.manifest.json");
        assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
        if answer == "--as-created" {
            assert_eq!(receipt["entries"][0]["file_id"], id.as_str());
        }
    }
}

#[test]
fn what_was_done_can_be_looked_up() {
    let site = Site::with_faults(&[&format!("create_document=errors200:201,profile={}", profile(1))]);
    site.put_batch("batch.manifest.json", 3);
    site.run_once().expect(1);
    let receipt = site.receipt("batch.manifest.json");
    let created = receipt["entries"][0]["document_id"].as_str().unwrap();

    let csv = site.run(&["export"]).expect(0).stdout;
    assert!(csv.contains(created) && csv.contains("document-0"), "{csv}");
    assert_eq!(csv.lines().count(), 4, "a header and an image a line: {csv}");
    let lines = site.run(&["export", "--format", "jsonl"]).expect(0).stdout;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");

    assert_eq!(site.jobs("done").len(), 2);
    assert_eq!(site.json(&["jobs", "--json", "--reference", "document-1"]).as_array().unwrap().len(), 1);
    assert_eq!(site.json(&["jobs", "--json", "--profile", &profile(2).to_uppercase()]).as_array().unwrap().len(), 1);
    site.run(&["jobs", "--state", "finished"]).expect(2);
    let failed = &site.jobs("failed")[0];
    let number = number(failed);
    site.run(&["show", &number]).expect(0).says("201").says("document-1");
    site.run(&["show", "999999"]).expect(2);
}

#[test]
fn why_explains_what_is_settled() {
    let site = Site::with_faults(&["create_document=errors200:201"]);
    site.put("1.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "1.png")]);
    site.run_once().expect(1);
    site.run(&["why", "1.png"]).says("201");
    site.run(&["why", "a.manifest.json"]).says("receipt");
}

#[test]
fn why_explains_what_a_manifest_waits_for() {
    let site = Site::new();
    site.put_documents("a.manifest.json", &[entry("a", 1, "missing.png")]);
    site.run_once().expect(3);
    let manifest = site.in_drop("a.manifest.json");
    site.run(&["why", manifest.to_str().unwrap()]).says("missing.png");
    site.run(&["why", "missing.png"]).says("a.manifest.json");
}

#[test]
fn the_status_shows_whether_a_daemon_is_alive() {
    let site = Site::new();
    site.run_once().expect(0);
    let without = site.run(&["status"]).expect(0).stdout;
    let mut daemon = site.daemon();
    daemon.wait_until("the status has changed", || {
        let with = site.run(&["status"]).stdout;
        with != without && !with.is_empty()
    });
    daemon.kill();
    wait_until("the dead one is noticed", || site.run(&["status"]).stdout == without);
}
