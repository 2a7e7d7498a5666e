//! Accounts that are stopped by a refused key, a spent quota or an outage, and the work that continues beside them.

use serde_json::Value;

use passfort_ingest::sandbox::ApiCall;

use crate::support::{Builder, Format, Site, entry, image, profile};

/// What is stopped; the queue must be there.
fn pauses(site: &Site) -> Vec<Value> {
    site.status()["queue"]["pauses"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_profile_that_the_key_may_not_write_to_stops_no_other() {
    let site = Builder { retry: "give_up_after = '2s'".to_owned(), ..Builder::default() }.build();
    site.faults(&[&format!("upload_image=status-before:403,profile={}", profile(1))]);
    site.put_batch("batch.manifest.json", 6);
    let finished = site.run_once().expect(1);
    let receipt = site.receipt("batch.manifest.json");
    assert_eq!(receipt["counts"]["created"], 5, "{receipt}");
    let error = &receipt["entries"][1]["errors"][0];
    assert!(error["reason"].as_str().unwrap().contains(&profile(1)), "it names the profile: {error}");
    assert!(error["cure"].as_str().unwrap().contains("access"), "{error}");
    assert!(!finished.stderr.contains("sending is stopped"), "{}", finished.stderr);
    let tries = site.calls(ApiCall::UploadImage).iter().filter(|call| call.status == Some(403)).count();
    assert!((2..12).contains(&tries), "it was tried again, and later each time: {tries}");
}

#[test]
fn a_key_that_is_refused_stops_everything_after_one_answer() {
    let site = Builder { more: "[workers]\nmax_in_flight = 2".to_owned(), ..Builder::default() }.build();
    site.put_batch("batch.manifest.json", 40);
    // However long it takes to find out whether it is the key or the profile, nothing goes out meanwhile.
    site.faults(&["whoami=slow:700ms", "upload_image=slow:10ms"]);
    let mut daemon = site.daemon();
    daemon.wait_until("some documents", || site.summary().documents >= 3);
    site.sandbox().set_keys(vec!["new".to_owned()]);
    daemon.wait_until("it is stopped", || !pauses(&site).is_empty());
    let refused = || site.ledger().iter().filter(|call| !call.key_ok && call.operation != ApiCall::Whoami).count();
    assert!((1..=2).contains(&refused()), "only what was under way: {}", refused());
    site.sandbox().set_keys(vec!["test".to_owned()]);
    daemon.wait_until("it goes on by itself", || site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 40);
    assert_eq!(site.summary().doubled, 0);
}

#[test]
fn drops_with_the_same_key_are_one_account() {
    let site = Site::new();
    let key = format!("api_key_file = '{}'", site.at("partner.key").display());
    site.configure_drop(&key);
    site.another_drop("other", &key);
    site.write("partner.key", "refused");
    std::fs::set_permissions(site.at("partner.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    site.put_batch("batch.manifest.json", 1);
    site.write("other/0.png", image(Format::Png, 70));
    site.write(
        "other/a.manifest.json",
        serde_json::json!({"version": 1, "documents": [entry("a", 70, "0.png")]}).to_string(),
    );
    let mut daemon = site.daemon();
    daemon.wait_until("it has tried", || !site.ledger().is_empty());
    daemon.wait_until("it is stopped", || !pauses(&site).is_empty());
    let probes = || site.calls(ApiCall::Whoami).len();
    daemon.wait_until("it was asked about twice", || probes() >= 2);
    let stopped = pauses(&site);
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert!(stopped[0]["scope"].as_str().unwrap().contains("partner.key"), "{stopped:?}");
    let uploads = site.calls(ApiCall::UploadImage).len();
    assert!(uploads <= 2, "{uploads}");
    daemon.terminate().expect(0);
    assert_eq!(pauses(&site), stopped, "a pause outlives the process");
}

#[test]
fn after_a_spent_quota_one_call_goes_first() {
    let site = Site::with_faults(&["upload_image=errors200:104"]);
    site.put_batch("batch.manifest.json", 40);
    let mut daemon = site.daemon();
    let mut uploads = 0;
    let calls = || site.calls(ApiCall::UploadImage).len();
    for round in 0..3 {
        daemon.wait_until("it is stopped", || calls() > uploads && !pauses(&site).is_empty());
        let before = std::mem::replace(&mut uploads, calls());
        let stopped = pauses(&site);
        assert_eq!(stopped[0]["cause"], "quota_spent", "{stopped:?}");
        if round > 0 {
            assert_eq!(uploads, before + 1, "in round {round}");
        }
        if round == 2 {
            site.faults(&[]);
        }
        site.run(&["resume"]).expect(0);
    }
    daemon.wait_until("it goes on", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 40);
    daemon.terminate().expect(0);
}

#[test]
fn a_spent_quota_leaves_work_for_the_next_run_and_is_not_taken_for_a_refused_key() {
    let site = Site::with_faults(&["upload_image=errors200:104"]);
    site.put_batch("batch.manifest.json", 3);
    site.wait_until_settled();
    let finished =
        site.run(&["run", "--once", "--give-up-after", "1s"]).expect(3).says("a limit of the account is spent");
    assert!(!finished.said().contains("refuses the key"), "{}", finished.said());
    assert!(!site.is_settled("batch.manifest.json"), "no entry fails for it");
    let stopped = pauses(&site);
    assert_eq!(stopped[0]["cause"], "quota_spent", "a pause outlives the process: {stopped:?}");

    // The next night the time that passed in between counts.
    site.faults(&[]);
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    database.execute("UPDATE pause SET since = since - 86400000", []).unwrap();
    drop(database);
    site.run_once().expect(0);
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 3);
}

#[test]
fn an_outage_is_tried_with_one_call_at_a_time() {
    let site = Site::with_faults(&["upload_image=status-before:503"]);
    site.put_batch("batch.manifest.json", 60);
    let mut daemon = site.daemon();
    daemon.wait_until("it has tried", || !site.ledger().is_empty());
    daemon.wait_until("it is stopped", || pauses(&site).iter().any(|pause| pause["cause"] == "outage"));
    let (calls, probes) = (|| site.calls(ApiCall::UploadImage).len(), || site.calls(ApiCall::Whoami).len());
    let before = calls();
    // The API says whose key it is, and that is all that works.
    daemon.wait_until("it was asked about three times", || probes() >= 3);
    assert!(calls() <= before + 3, "{} calls went out to an API that does not work", calls() - before);
    site.faults(&[]);
    daemon.wait_until("it goes on", || site.left().is_empty());
    assert_eq!(site.receipt("batch.manifest.json")["counts"]["created"], 60);
    daemon.terminate().expect(0);
}
