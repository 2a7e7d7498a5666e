//! Nothing refused is silent: what failed is grouped by its cause, a person says that they know, and many are sent again by
//! a few first.

use std::fs;

use passfort_ingest::sandbox::ApiCall;
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, metrics, profile, value};

const NO_PROFILE: [&str; 20] = [
    "There is no such profile",
    "there is no such profile",
    "THERE IS NO SUCH PROFILE",
    "There is no such profile.",
    "there is no such profile!",
    "There is no such profile: a2c4393a-e219-67a4-5ab4-2186952e9038",
    "There is no such profile: A2C4393A-E219-67A4-5AB4-2186952E9038.",
    "There is no such profile (a2c4393a-e219-67a4-5ab4-2186952e9038)",
    "There is no such profile \"Erika Mustermann\"",
    "There is no such profile 'Max Mustermann'",
    "There is no such profile `17`",
    "There is no such profile 4711",
    "There is no such profile #4,711",
    "There is no such profile, 17",
    "[17] There is no such profile",
    "There is no such profile (17/front.jpg)",
    "There is no such profile: front.JPG",
    "There is no such profile; customer17@example.com",
    "There is no such profile /4.0/profiles/17",
    "  There  is no such   profile",
];

fn causes(site: &Site) -> Vec<Value> {
    site.json(&["causes", "--json"]).as_array().unwrap().clone()
}

/// A site of which so many documents were refused for one cause, and whose API would take them now.
fn refused(documents: u32) -> Site {
    let site = Site::with_faults(&["create_document=status-before:404/201"]);
    site.put_batch("batch.manifest.json", documents);
    site.run_once().expect(1);
    site.faults(&[]);
    site
}

fn count(site: &Site, state: &str) -> usize {
    site.jobs(state).len()
}

#[test]
fn twenty_phrasings_of_one_refusal_are_one_cause_until_a_person_knows() {
    let site = Site::new();
    let words = |number: usize| {
        let message = NO_PROFILE[number % NO_PROFILE.len()];
        (404, json!({ "errors": [{ "code": 201, "message": message, "source": "API" }] }))
    };
    site.use_api_at(site.answer_in_turn(words));
    site.put_batch("batch.manifest.json", 20);
    site.run_once().expect(1);

    let found = causes(&site);
    assert_eq!(found.len(), 1, "{found:#?}");
    let cause = &found[0];
    assert_eq!((&cause["cause"], &cause["open"], &cause["status"]), (&json!(1), &json!(20), &json!("failed")));
    assert_eq!((&cause["code"], &cause["unseen"]), (&json!("HTTP 404, code 201"), &json!(true)));
    assert_eq!(cause["drops"][0]["drop"], "partner");
    assert!(cause["title"].as_str().unwrap().to_lowercase().contains("there is no such profile"), "{cause}");
    assert_eq!(site.json(&["jobs", "--json", "--cause", "1"]).as_array().unwrap().len(), 20);

    // People see it, and monitoring does, without the API's words.
    let text = site.run(&["causes"]).expect(0).stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("passfort-ingest retry --cause 1") && text.contains("20 entries failed"), "{text}");
    site.run(&["causes", "--csv"]).expect(0).says("HTTP 404, code 201");
    site.run(&["status"]).expect(0).says("passfort-ingest causes").says("20 entries failed, cause 1");
    let check = site.run(&["status", "--check"]).expect(1).says("cause 1 (HTTP 404, code 201)");
    assert!(!check.said().to_lowercase().contains("such profile"), "{}", check.said());

    let said = site.run(&["seen", "1"]).expect(0).stdout;
    let who = said.trim().strip_prefix("cause 1: seen by ").unwrap().to_owned();
    site.run(&["status", "--check"]).expect(0);
    assert_eq!((&causes(&site)[0]["seen_by"], &causes(&site)[0]["unseen"]), (&json!(who), &json!(false)));
    let acts = site.json(&["acts", "--json"]);
    assert_eq!((&acts[0]["who"], &acts[0]["what"]), (&json!(who), &json!("seen")));
    assert!(acts[0]["words"].as_str().unwrap().ends_with("seen 1"), "{acts}");
}

#[test]
fn a_failure_is_open_until_a_later_manifest_creates_its_entry() {
    let site = refused(2);
    assert_eq!(causes(&site)[0]["open"], 2);
    // The partner drops one of them again, under another manifest's name.
    site.put("0.png", image(Format::Png, 0));
    site.put_documents("again.manifest.json", &[entry("document-0", 0, "0.png")]);
    site.run_once().expect(0);
    assert_eq!(causes(&site)[0]["open"], 1);
    assert_eq!(causes(&site)[0]["examples"][0]["reference"], "document-1");
    site.run(&["retry", "--cause", "1"]).expect(0);
    // The other one stays failed in the receipt of its manifest.
    site.run_once().expect(1);
    assert_eq!(causes(&site), Vec::<Value>::new());
    site.run(&["causes"]).expect(0).says("nothing that was refused is open");
    site.run(&["status", "--check"]).expect(0);
}

#[test]
fn a_retry_of_many_sends_five_first_and_continues_after_a_kill_in_between() {
    let site = refused(12);
    let said = site.run(&["retry", "--cause", "1"]).expect(0).stdout;
    assert!(said.contains("cause 1: 7 others follow once these 5 have ended well"), "{said}");
    assert_eq!((count(&site, "queued"), count(&site, "failed")), (5, 7));
    let waiting = site.jobs("failed")[0]["id"].to_string();
    site.run(&["show", &waiting]).expect(0).says("waits for the trial of cause 1").says("retry --cause 1");
    site.run(&["status"]).expect(0).says("0 of 5 have ended well; 7 wait for these");

    // The five have ended well, and the process ends before the others are sent on.
    site.run_once_killed_at("before.commit.ready");
    assert_eq!((count(&site, "done"), count(&site, "failed")), (5, 7));
    site.run_once().expect(0);
    assert_eq!((count(&site, "done"), count(&site, "failed")), (12, 0));
    assert_eq!((site.summary().documents, site.summary().images), (12, 12), "nothing is sent twice");
    assert_eq!(causes(&site), Vec::<Value>::new());
    let acts = site.json(&["show", &waiting, "--json"])["acts"].clone();
    assert_eq!(acts.as_array().unwrap().len(), 1, "{acts}");
    assert!(acts[0]["words"].as_str().unwrap().ends_with("retry --cause 1"), "{acts}");
    site.run(&["show", "batch", "1"]).expect(0).says("for 12 of its jobs");
}

#[test]
fn where_the_first_fail_again_the_others_stay_failed_and_causes_says_so() {
    let site = refused(12);
    site.faults(&["create_document=status-before:404/201"]);
    let sent = site.calls(ApiCall::CreateDocument).len();
    site.run(&["retry", "--state", "failed"]).expect(0).says("cause 1: 7 others follow once these 5");
    site.run_once().expect(1);
    assert_eq!(count(&site, "failed"), 12);
    assert_eq!(site.calls(ApiCall::CreateDocument).len() - sent, 5, "no more are sent");
    site.run(&["causes"]).expect(0).says("5 of 5 failed again, so 7 others were not");
    let trial = &causes(&site)[0]["trial"];
    assert_eq!((&trial["state"], &trial["others"]), (&json!("failed"), &json!(7)));
    // A person may know better.
    site.faults(&[]);
    site.run(&["retry", "--cause", "1", "--at-once"]).expect(0);
    assert_eq!(count(&site, "queued"), 12);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 12);
}

#[test]
fn what_waits_for_a_trial_can_be_cancelled_by_its_cause() {
    let site = refused(8);
    site.run(&["retry", "--cause", "1"]).expect(0);
    let said = site.run(&["cancel", "--cause", "1"]).expect(0).stdout;
    assert_eq!(said.matches(" cancelled").count(), 5, "{said}");
    assert_eq!(said.matches("no longer waits for the trial of cause 1").count(), 3, "{said}");
    site.run_once();
    assert_eq!((count(&site, "cancelled"), count(&site, "failed")), (5, 3));
    assert_eq!(site.summary().documents, 0);
}

#[test]
fn what_never_became_a_job_is_named_everywhere_until_it_comes_again() {
    let site = Builder { more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    let mut bad = entry("secret-bad", 2, "missing.txt/../b.png");
    bad["profile_id"] = json!("secret-no-uuid");
    site.put_documents("some.manifest.json", &[entry("good", 1, "a.png"), bad]);
    site.put("wreck.manifest.json", "{ \"version\": 7, \"documents\": [] }");
    let (mut daemon, address) = site.daemon_with_page();
    let is_open = |status: &str| causes(&site).iter().any(|cause| cause["status"] == status);
    daemon.wait_until("both are refused", || is_open("invalid") && is_open("rejected"));
    daemon.wait_until("they are settled", || site.left().is_empty());

    site.run(&["status"]).expect(0).says("1 manifest is rejected").says("1 entry is invalid");
    site.run(&["status", "--check"]).expect(1).says("1 manifest is rejected").says("1 entry is invalid");
    site.run(&["batches"]).expect(0).says("rejected");
    let listed = site.json(&["jobs", "--invalid", "--json"]);
    let kinds: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["manifest", "document"], "{listed}");
    assert_eq!((&listed[0]["manifest"], &listed[0]["index"]), (&json!("wreck.manifest.json"), &Value::Null));
    let rejected = causes(&site).iter().find(|cause| cause["status"] == "rejected").unwrap()["cause"].to_string();
    let listed = site.json(&["jobs", "--invalid", "--json", "--cause", &rejected]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let numbers = metrics(address);
    assert_eq!(value(&numbers, "manifests_total{drop=\"partner\",status=\"rejected\"}"), 1.0, "{numbers}");
    assert_eq!(value(&numbers, "manifests_total{drop=\"partner\",status=\"partial\"}"), 1.0);
    assert_eq!(value(&numbers, "entries_total{drop=\"partner\",outcome=\"invalid\"}"), 1.0);
    assert_eq!(value(&numbers, "entries_total{drop=\"partner\",outcome=\"created\"}"), 1.0);
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("causes") && line.contains("unusable=true")).unwrap_or(&log);
    assert!(line.contains("cause=") && line.contains("WARN"), "{log}");
    assert!(!log.contains("secret") && !log.contains("wreck"), "{log}");
    assert!(!numbers.contains("secret") && !numbers.contains("wreck"), "{numbers}");

    // The one comes under its reference, the other under its name.
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("mended.manifest.json", &[entry("secret-bad", 2, "b.png")]);
    site.put("c.png", image(Format::Png, 3));
    site.put_documents("wreck.manifest.json", &[entry("third", 3, "c.png")]);
    daemon.wait_until("both are mended", || causes(&site).is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 3);
    site.run(&["status", "--check"]).expect(0);
}

#[test]
fn a_cause_that_there_is_not_is_a_slip_of_the_person() {
    let site = refused(1);
    for command in [
        &["seen", "99"][..],
        &["jobs", "--cause", "99"],
        &["jobs", "--invalid", "--cause", "99"],
        &["retry", "--cause", "99"],
        &["cancel", "--cause", "99"],
    ] {
        site.run(command).expect(2).says("there is no cause 99");
    }
    assert_eq!((count(&site, "failed"), site.json(&["acts", "--json"])), (1, json!([])));
}

#[test]
fn who_did_what_is_kept_and_a_pause_says_why() {
    let site = Site::new();
    site.run_once().expect(0);
    let mut pause = site.command(&["pause", "--note", "the scanner is being serviced"]);
    pause.env("SUDO_USER", "ops1");
    site.finish(pause).expect(0).says("(ops1: the scanner is being serviced)");
    let status = site.run(&["status"]).expect(0).says("ops1: the scanner is being serviced").stdout;
    assert!(status.contains("PAUSED: everything is paused by a person (ops1"), "{status}");
    assert_eq!(site.status()["queue"]["pauses"][0]["by"], "ops1");
    site.put_batch("batch.manifest.json", 1);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || count(&site, "queued") == 1);
    daemon.terminate().expect(0);
    let mut cancel = site.command(&["cancel", "--all"]);
    cancel.env("SUDO_USER", "ops2");
    site.finish(cancel).expect(0);
    site.run(&["show", "1"]).expect(0).says("by a person").says("ops2").says("cancel --all");
    site.run(&["resume"]).expect(0);
    let acts = site.json(&["acts", "--json"]);
    let did: Vec<&str> = acts.as_array().unwrap().iter().map(|act| act["what"].as_str().unwrap()).collect();
    assert_eq!(did, ["resume", "cancel", "pause"]);
    assert_eq!((&acts[1]["who"], &acts[1]["jobs"]), (&json!("ops2"), &json!(1)));
    site.run(&["acts", "--csv", "--limit", "1"]).expect(0).says("resume");
    let log = fs::read_dir(site.at("log")).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    assert!(log.filter(|text| text.contains("level")).all(|text| !text.contains(&profile(0))));
}
