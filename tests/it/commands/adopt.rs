//! `adopt`: a database that was lost, or restored from an earlier time, and what it must not do again.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Builder, Finished, Format, Site, entry, image};

/// Removes the database with all files beside it.
fn lose_the_database(site: &Site) {
    fs::remove_dir_all(site.at("state")).unwrap();
    fs::create_dir(site.at("state")).unwrap();
}

/// The sum that `adopt --json` ends with, and the lines before it.
fn adopted(finished: &Finished) -> (Value, Vec<Value>) {
    let mut lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines.pop().unwrap()["sum"].clone(), lines)
}

/// A worker that was killed when the first of its documents had been created and its ID was on disk.
fn killed_after_the_first(site: &Site) {
    site.put_batch("a.manifest.json", 3);
    site.run_once_killed_at("after.commit.created");
}

#[test]
fn what_was_created_before_the_database_was_lost_ends_as_duplicate() {
    let site = Site::new();
    site.put_batch("a.manifest.json", 3);
    site.put("f.pdf", image(Format::Pdf, 9));
    site.put(
        "b.manifest.json",
        json!({"version": 1, "documents": [], "files": [
            {"reference": "file", "profile_id": crate::support::profile(9), "path": "f.pdf"}
        ]})
        .to_string(),
    );
    site.run_once().expect(0);
    let receipt = site.receipt("a.manifest.json");
    lose_the_database(&site);

    let (sum, held) = adopted(&site.run(&["adopt", "--json"]).expect(0));
    assert_eq!((&sum["receipts"]["adopted"], &sum["held"], held.len()), (&json!(4), &json!(0), 0), "{sum}");
    // Once is as good as twice.
    let (sum, _) = adopted(&site.run(&["adopt", "--json"]).expect(0));
    assert_eq!((&sum["receipts"]["adopted"], &sum["receipts"]["known"]), (&json!(0), &json!(4)), "{sum}");

    site.put_batch("again.manifest.json", 3);
    site.put("f.pdf", image(Format::Pdf, 9));
    site.put(
        "g.manifest.json",
        json!({"version": 1, "documents": [], "files": [
            {"reference": "file", "profile_id": crate::support::profile(9), "path": "f.pdf"}
        ]})
        .to_string(),
    );
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 3);
    let again = site.receipt("again.manifest.json");
    for number in 0..3 {
        assert_eq!(again["entries"][number]["status"], "duplicate");
        assert_eq!(again["entries"][number]["document_id"], receipt["entries"][number]["document_id"]);
    }
    assert_eq!(site.receipt("g.manifest.json")["entries"][0]["status"], "duplicate");
    site.run(&["verify"]).expect(0);
}

#[test]
fn receipts_make_a_restored_copy_know_what_was_done_after_it() {
    let site = Site::new();
    site.put_batch("a.manifest.json", 1);
    site.run_once().expect(0);
    let copies: Vec<_> = ["queue.db", "queue.db-wal"]
        .into_iter()
        .filter_map(|name| Some((name, fs::read(site.at("state").join(name)).ok()?)))
        .collect();
    site.put("x.png", image(Format::Png, 77));
    site.put_documents("b.manifest.json", &[entry("x", 7, "x.png")]);
    site.run_once().expect(0);
    lose_the_database(&site);
    for (name, copy) in copies {
        site.write(&format!("state/{name}"), copy);
    }

    let (sum, _) = adopted(&site.run(&["adopt", "--json"]).expect(0));
    assert_eq!((&sum["receipts"]["adopted"], &sum["receipts"]["known"]), (&json!(1), &json!(1)), "{sum}");
    site.put("x.png", image(Format::Png, 77));
    site.put_documents("c.manifest.json", &[entry("x", 7, "x.png")]);
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 2);
    assert_eq!(site.receipt("c.manifest.json")["entries"][0]["status"], "duplicate");
}

#[test]
fn a_batch_that_was_settled_after_the_copy_is_settled_in_it_too_without_another_receipt() {
    let site = Site::new();
    killed_after_the_first(&site);
    fs::create_dir(site.at("copy")).unwrap();
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(site.at("state").join(name), site.at("copy").join(name)).unwrap();
    }
    site.run_once().expect(0);
    let receipt = site.receipt("a.manifest.json");
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        fs::remove_file(site.at("state").join(name)).ok();
    }
    for name in ["queue.db", "queue.db-wal"] {
        fs::copy(site.at("copy").join(name), site.at("state").join(name)).unwrap();
    }
    site.run_once().expect(2);

    site.run(&["adopt"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 3);
    assert_eq!(site.receipt("a.manifest.json"), receipt);
    assert_eq!(site.receipt_paths("a.manifest.json").len(), 1);
}

#[test]
fn what_lies_in_the_work_folder_is_taken_up_and_held_where_a_document_may_be_it() {
    let site = Builder { more: "[workers]\nmax_in_flight = 1".to_owned(), ..Builder::default() }.build();
    killed_after_the_first(&site);
    let before = site.documents();
    assert!(!before.is_empty() && before.len() < 3, "{before:?}");
    lose_the_database(&site);

    let (sum, held) = adopted(&site.run(&["adopt", "--json"]).expect(1));
    assert_eq!((&sum["taken_up"], &sum["held"]), (&json!(1), &json!(before.len())), "{sum}");
    assert_eq!(sum["free"], 3 - before.len());
    assert!(before.iter().any(|document| held[0]["fits"] == json!([document.id])), "{held:?}");
    // What is free is sent, what is held is not.
    site.run_once().expect(3);
    assert_eq!(site.documents().len(), 3);

    let (sum, _) = adopted(&site.run(&["adopt", "--take-unique", "--json"]).expect(0));
    assert_eq!(sum["created"], before.len(), "{sum}");
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 3);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!((&receipt["status"], &receipt["counts"]["created"]), (&json!("done"), &json!(3)), "{receipt}");
    site.run(&["verify"]).expect(0);
}

#[test]
fn a_moment_excludes_documents_that_are_older_and_a_person_decides_the_rest() {
    let site = Site::new();
    killed_after_the_first(&site);
    lose_the_database(&site);
    let (_, held) = adopted(&site.run(&["adopt", "--since", "2020-01-01", "--json"]).expect(1));
    let (job, id) = (held[0]["job"].to_string(), held[0]["fits"][0].as_str().unwrap().to_owned());
    for held in &held[1..] {
        let id = held["fits"][0].as_str().unwrap();
        site.run(&["release", &held["job"].to_string(), "--as-created", id]).expect(0);
    }
    site.run(&["release", &job, "--as-created", &id]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 3);
}

/// Manifests in place leave no trace of having been taken.
#[test]
fn what_lies_in_a_drop_whose_files_stay_is_doubtful_too() {
    let site = Builder { drop: "after_success = 'keep'".to_owned(), ..Builder::default() }.build();
    killed_after_the_first(&site);
    let before = site.documents().len();
    lose_the_database(&site);
    let (sum, _) = adopted(&site.run(&["adopt", "--json"]).expect(1));
    assert_eq!((&sum["taken_up"], &sum["held"]), (&json!(1), &json!(before)), "{sum}");
    adopted(&site.run(&["adopt", "--take-unique", "--json"]).expect(0));
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 3);
}

/// Each list is empty, however much was created.
#[test]
fn an_empty_list_counts_only_where_lists_show_what_is_known() {
    let site = Site::new();
    site.put("x.png", image(Format::Png, 77));
    site.put_documents("x.manifest.json", &[entry("x", 7, "x.png")]);
    site.run_once().expect(0);
    killed_after_the_first(&site);
    lose_the_database(&site);
    site.faults(&["read_documents=stale:1h"]);
    let (sum, _) = adopted(&site.run(&["adopt", "--json"]).expect(1));
    assert_eq!((&sum["held"], &sum["free"]), (&json!(3), &json!(0)), "{sum}");
    site.faults(&[]);
    adopted(&site.run(&["adopt", "--take-unique", "--json"]).expect(0));
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 4);
}

#[test]
fn a_file_that_no_receipt_names_is_held() {
    let site = Builder { retry: "lost_file = 'send'".to_owned(), ..Builder::default() }.build();
    site.put("f.pdf", image(Format::Pdf, 1));
    let files = json!([{"reference": "file", "profile_id": crate::support::profile(1), "path": "f.pdf"}]);
    site.put("a.manifest.json", json!({"version": 1, "documents": [], "files": files}).to_string());
    site.run_once_killed_at("before.commit.file_created");
    lose_the_database(&site);
    let (sum, held) = adopted(&site.run(&["adopt", "--take-unique", "--json"]).expect(1));
    assert_eq!((&sum["held"], &held[0]["kind"]), (&json!(1), &json!("file")), "{sum}");
}

#[test]
fn receipts_of_another_account_or_that_others_may_write_do_not_count() {
    let theirs = Site::new();
    theirs.put_batch("a.manifest.json", 1);
    theirs.run_once().expect(0);
    let receipts = theirs.in_drop("receipts");
    let folder = receipts.to_str().unwrap();
    // Another address is another account.
    let site = Site::new();
    let (sum, _) = adopted(&site.run(&["adopt", "--receipts", folder, "--json"]).expect(0));
    assert_eq!((&sum["receipts"]["read"], &sum["receipts"]["of_others"]), (&json!(0), &json!(1)), "{sum}");

    use std::os::unix::fs::PermissionsExt;
    let receipt = receipts.join("a.manifest.json.receipt.json");
    fs::set_permissions(&receipt, fs::Permissions::from_mode(0o666)).unwrap();
    let (sum, _) = adopted(&theirs.run(&["adopt", "--json"]).expect(0));
    assert_eq!((&sum["receipts"]["read"], &sum["receipts"]["untrusted"]), (&json!(0), &json!(1)), "{sum}");
}

#[test]
fn a_worker_does_not_start_while_an_adoption_is_unfinished() {
    let site = Site::new();
    site.put_batch("a.manifest.json", 2);
    site.run_once().expect(0);
    lose_the_database(&site);
    let mut command = site.command(&["adopt"]);
    command.env(passfort_ingest::killpoint::VARIABLE, "after.commit.adopt_receipt");
    assert_eq!(site.finish(command).code, None);
    let refused = site.run_once().expect(2);
    assert!(refused.stderr.contains("adopt"), "{}", refused.stderr);
    site.run(&["adopt"]).expect(0);
    site.put_batch("b.manifest.json", 2);
    site.run_once().expect(0);
    assert_eq!(site.documents().len(), 2);
}
