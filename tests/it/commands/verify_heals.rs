//! `verify` sees what is not as it was created, and `retry --missing` heals it.

use std::time::Duration;

use passfort_ingest::sandbox::{ApiCall, Options};
use serde_json::{Value, json};

use crate::support::{Builder, Finished, Site, profile};

/// The findings, and the sum.
fn read(finished: &Finished) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sum = lines.pop().expect("the sum comes last");
    (lines, sum["sum"].clone())
}

fn verify(site: &Site, code: i32, more: &[&str]) -> (Vec<Value>, Value) {
    read(&site.run(&[&["verify", "--json"], more].concat()).expect(code))
}

/// A site with some documents, each on a profile of its own.
fn created(documents: u32) -> Site {
    let site = Site::new();
    site.put_batch("batch.manifest.json", documents);
    site.run_once().expect(0);
    site
}

/// Removes the document of a profile, as in the portal, and returns its ID.
fn remove(site: &Site, number: u32) -> String {
    let id = document(site, number).expect("it is there");
    assert!(site.sandbox().remove_document(&id));
    id
}

/// The one document of a profile.
fn document(site: &Site, number: u32) -> Option<String> {
    let mut of_profile = site.documents().into_iter().filter(|document| document.profile == profile(number));
    let first = of_profile.next().map(|document| document.id);
    assert!(of_profile.next().is_none(), "profile {number} has several");
    first
}

/// Puts a document with these images onto a profile, as another program with the same key does.
fn another(site: &Site, number: u32, images: &[String]) -> String {
    let images: Vec<Value> = images.iter().map(|id| json!({ "id": id })).collect();
    let body = json!({ "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": images });
    site.post(&format!("/profiles/{}/collected_data/documents", profile(number)), &body)["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The images of a profile's one document.
fn images(site: &Site, number: u32) -> Vec<String> {
    let documents = site.documents();
    let document = documents.iter().find(|document| document.profile == profile(number)).unwrap();
    document.images.iter().map(|image| image.id.clone()).collect()
}

#[test]
fn a_missing_document_is_sent_again_once_and_only_after_a_read_back() {
    let site = created(3);
    let said = site.run(&["retry", "--missing"]).expect(0).stderr;
    assert!(said.contains("found nothing missing"), "{said}");
    let old = remove(&site, 1);
    let (findings, sum) = verify(&site, 1, &[]);
    assert_eq!((&sum["missing"], &findings[0]["id"]), (&1.into(), &old.clone().into()), "{findings:#?}");

    // It is there again by the time that it is to be sent: adopted.
    site.run(&["retry", "--missing"]).expect(0);
    let put_back = another(&site, 1, &known_images(&site, "document-1"));
    let uploads = site.calls(ApiCall::UploadImage).len();
    site.run_once().expect(0);
    assert_eq!(document(&site, 1), Some(put_back.clone()), "nothing was sent");
    assert_eq!(verify(&site, 0, &[]).1["standing"], 3);

    // Now it is gone.
    remove(&site, 1);
    verify(&site, 1, &[]);
    let said = site.run(&["retry", "--missing"]).expect(0).stdout;
    assert!(said.contains("read back, then sent if it is not there"), "{said}");
    site.run(&["retry", "--missing"]).expect(0);
    site.run_once().expect(0);
    assert!(document(&site, 1).is_some_and(|new| new != old && new != put_back));
    assert_eq!(site.calls(ApiCall::UploadImage).len(), uploads, "its images are known");
    assert_eq!(verify(&site, 0, &[]).1["standing"], 3);
    assert_eq!(site.summary().doubled, 0);
    let reads = site.calls(ApiCall::ReadDocuments).len();
    site.run(&["retry", "--missing"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.calls(ApiCall::ReadDocuments).len(), reads, "once");
}

/// The images that the queue knows of an entry.
fn known_images(site: &Site, reference: &str) -> Vec<String> {
    let lines = site.run(&["export", "--format=jsonl", "--reference", reference]).expect(0).stdout;
    let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter_map(|row| row["image_id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn of_several_missing_ones_those_that_are_named_are_sent_again() {
    let site = created(3);
    for number in 0..3 {
        remove(&site, number);
    }
    verify(&site, 1, &[]);
    site.run(&["retry", "--missing", "--reference", "document-0"]).expect(0);
    site.run(&["retry", "--missing", "2"]).expect(0);
    let said = site.run(&["retry", "--missing", "99"]).expect(1).stdout;
    assert!(said.contains("there is no such job"), "{said}");
    assert_eq!(site.jobs("queued").len(), 2);
    // A daemon or another run finds the third missing still.
    site.run(&["retry", "--missing", "--drop", "partner"]).expect(0);
    assert_eq!(site.jobs("queued").len(), 3);
}

#[test]
fn what_was_removed_on_purpose_is_accepted_and_never_sent_again() {
    let site = created(2);
    let said = site.run(&["verify", "--accept-missing", "1"]).expect(1).stdout;
    assert!(said.contains("run `verify` first"), "{said}");
    let old = remove(&site, 0);
    verify(&site, 1, &[]);
    let asked = site.ledger().len();
    site.run(&["verify", "--accept-missing", "1"]).expect(0);
    assert_eq!(site.ledger().len(), asked, "nothing is asked for it");
    let (findings, sum) = verify(&site, 0, &[]);
    assert_eq!((&sum["removed"], &sum["missing"], findings.len()), (&1.into(), &0.into(), 1), "{findings:#?}");
    assert_eq!(findings[0]["finding"], "unused_image");
    let exported = site.run(&["export", "--format=jsonl", "--reference", "document-0"]).expect(0).stdout;
    let row: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!((&row["status"], &row["document_id"]), (&"removed".into(), &old.into()));
    site.run(&["retry", "--missing"]).expect(0);
    site.run(&["retry", "--missing", "1"]).expect(1);
    site.run_once().expect(0);
    assert_eq!(document(&site, 0), None);
    assert!(site.run(&["show", "1"]).expect(0).stdout.contains("on purpose"));
}

#[test]
fn documents_that_no_job_knows_are_listed_and_those_with_the_same_images_are_a_failure() {
    let site = created(2);
    let theirs: Vec<String> = vec![site.post_image(1)];
    let unknown = another(&site, 1, &theirs);
    let (findings, sum) = verify(&site, 0, &[]);
    assert_eq!((&sum["unknown_documents"], &sum["doubled"]), (&1.into(), &0.into()), "{findings:#?}");
    assert_eq!((&findings[0]["finding"], &findings[0]["id"]), (&"unknown_document".into(), &unknown.into()));
    assert_eq!(site.status()["queue"]["doubled"], json!([]));

    let own = document(&site, 0).unwrap();
    let double = another(&site, 0, &images(&site, 0));
    let (findings, sum) = verify(&site, 1, &[]);
    assert_eq!((&sum["doubled"], &sum["missing"], &sum["standing"]), (&1.into(), &0.into(), &2.into()), "{sum}");
    let found = findings.iter().find(|finding| finding["finding"] == "doubled").unwrap();
    assert_eq!((&found["job"], &found["ids"]), (&1.into(), &json!([own, double])), "the job's own first");
    let status = site.run(&["status"]).expect(0).stdout;
    assert!(status.contains(&format!("{own}, {double}")), "{status}");
    assert!(site.run(&["show", "1"]).expect(0).stdout.contains(&double));
    let said = site.run(&["verify"]).expect(1).stdout;
    assert!(said.contains("unknown document profile") && said.contains("doubled          profile"), "{said}");

    // One of them is removed in the portal.
    assert!(site.sandbox().remove_document(&double));
    verify(&site, 0, &[]);
    assert_eq!(site.status()["queue"]["doubled"], json!([]));
    assert!(site.run(&["show", "1"]).expect(0).stdout.contains("no longer"));
}

#[test]
fn a_sample_reads_so_many_profiles_and_changes_no_other_finding() {
    let site = created(6);
    let reads = |site: &Site| site.calls(ApiCall::ReadDocuments).len();
    let before = reads(&site);
    let (_, sum) = verify(&site, 0, &["--sample", "2"]);
    assert_eq!((&sum["profiles"], reads(&site) - before), (&2.into(), 2), "{sum}");
    assert_eq!(verify(&site, 0, &["--sample", "100"]).1["profiles"], 6);
    assert_eq!(verify(&site, 0, &["--since", "1h"]).1["profiles"], 6);
    assert!(site.status()["queue"]["verified"].is_null(), "that was not all");
}

#[test]
fn a_verify_that_reached_nothing_says_so() {
    let site = Site::new();
    site.run_once().expect(0);
    let said = site.run(&["verify"]).expect(0).stderr;
    assert!(said.contains("the queue has created nothing that fits"), "{said}");
    let site = created(2);
    let said = site.run(&["verify", "--since", "2100-01-01"]).expect(0).stderr;
    assert!(said.contains("nothing was checked"), "{said}");
    site.faults(&["list_images=status-before:404"]);
    let said = site.run(&["verify"]).expect(4).stderr;
    assert!(said.contains("nothing is known of any document"), "{said}");
    assert!(site.run(&["retry", "--missing"]).expect(0).stderr.contains("nothing missing"));
}

#[test]
fn the_recorded_calls_prove_each_second_sending_or_are_refused() {
    let site = Site::new();
    site.put_batch("batch.manifest.json", 2);
    site.run_once().expect(0);
    let asked = site.ledger().len();
    let said = site.run(&["verify", "--history"]).expect(0).stdout;
    assert!(said.contains("2 documents were sent, 0 of them more than once, 0 times without"), "{said}");
    // As a worker would have recorded it that sends again at once.
    let database = rusqlite::Connection::open(site.at("state/queue.db")).unwrap();
    let again = "INSERT INTO attempt (job_id, at, operation, outcome, took_ms, sent_bytes)
                 SELECT job_id, at + took_ms + ?1, ?2, ?3, 1, 1 FROM attempt
                  WHERE job_id = 1 AND operation = 'create_document' ORDER BY id LIMIT 1";
    database.execute(again, (60_000, "create_document", "done")).unwrap();
    let said = site.run(&["verify", "--history"]).expect(1).stdout;
    assert!(said.contains("unproven  job 1") && said.contains("1 times without the proof"), "{said}");
    let (findings, sum) = read(&site.run(&["verify", "--history", "--json"]).expect(1));
    assert_eq!((&findings[0]["job"], &sum["unproven"]), (&1.into(), &1.into()));
    // With a list without it, read after the bound of two seconds, it was right.
    database.execute("DELETE FROM attempt WHERE id = (SELECT max(id) FROM attempt)", []).unwrap();
    database.execute(again, (3_000, "read_documents", "absent")).unwrap();
    database.execute(again, (60_000, "create_document", "done")).unwrap();
    let said = site.run(&["verify", "--history"]).expect(0).stdout;
    assert!(said.contains("1 of them more than once, 0 times without"), "{said}");
    assert_eq!(site.ledger().len(), asked, "nothing is asked");
}

#[test]
fn a_document_that_was_created_a_moment_ago_is_not_taken_for_missing() {
    let late = Options { visible_after: Duration::from_millis(300), ..Options::default() };
    let site = Builder { sandbox: late, ..Builder::default() }.build();
    site.put_batch("batch.manifest.json", 1);
    site.run_once().expect(0);
    another(&site, 0, &[site.post_image(0)]);
    assert_eq!(verify(&site, 0, &[]).1["standing"], 1);
}
