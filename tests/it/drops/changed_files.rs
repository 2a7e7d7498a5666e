//! Files change or disappear, and folders are missing or blocked by a file, while the worker runs.

use std::fs;

use passfort_ingest::sandbox::ApiCall;
use serde_json::Value;

use crate::support::{Builder, Format, Site, entry, image, promise, sha256};

fn sorted<const N: usize>(mut digests: [String; N]) -> [String; N] {
    digests.sort();
    digests
}

#[test]
fn a_file_that_changes_after_the_check_is_checked_again_and_never_sent_by_halves() {
    promise!(
        "A file that changes after the check is checked again before it is sent, and fails its entry if it no longer matches the `bytes` or the `sha256` that the manifest declares."
    );
    let (site, mut daemon) = Site::taken_in();
    let other = image(Format::Png, 77);
    site.put("0.png", &other);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it says so", || site.run(&["jobs", "--state", "waiting"]).stdout.contains("0.png"));
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);

    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["status"], "done", "{receipt}");
    assert_eq!(receipt["entries"][0]["images"][0]["sha256"], sha256(&other), "it tells of what was sent: {receipt}");
    assert_eq!(receipt["entries"][0]["images"][0]["bytes"], other.len(), "{receipt}");
    assert_eq!(site.image_digests(), sorted([sha256(&other), sha256(&image(Format::Png, 1))]));
    let uploads = site.calls(ApiCall::UploadImage);
    assert!(uploads.iter().all(|call| !call.committed || site.image_digests().contains(call.sha256.as_ref().unwrap())));
}

#[test]
fn a_file_that_is_not_what_its_manifest_declares_any_more_fails_its_entry() {
    promise!(
        "A file that changes after the check is checked again before it is sent, and fails its entry if it no longer matches the `bytes` or the `sha256` that the manifest declares."
    );
    let mut entries = [entry("0", 0, "0.png"), entry("1", 1, "1.png")];
    entries[0]["images"][0]["sha256"] = sha256(&image(Format::Png, 0)).into();
    entries[1]["images"][0]["bytes"] = image(Format::Png, 1).len().into();
    let (site, mut daemon) = Site::taken_in_as(&entries);
    site.put("0.png", image(Format::Png, 77));
    let mut longer = image(Format::Png, 1);
    longer.push(b'x');
    site.put("1.png", longer);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);

    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["status"], "failed", "{receipt}");
    for (entry, field) in [(0, "sha256"), (1, "bytes")] {
        let error = &receipt["entries"][entry]["errors"][0];
        assert!(error["reason"].as_str().unwrap().contains("declared"), "{receipt}");
        assert!(error["field"].as_str().unwrap().contains(field), "{receipt}");
    }
    assert_eq!(site.summary().documents, 0);
}

#[test]
fn an_entry_that_becomes_the_one_that_it_was_to_replace_is_not_created_again() {
    let mut second = entry("0", 0, "1.png");
    second["replace"] = true.into();
    let (site, mut daemon) = Site::taken_in_as(&[entry("0", 0, "0.png")]);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the first is there", || site.is_settled("a.manifest.json"));
    site.run(&["pause"]).expect(0);
    site.put("1.png", image(Format::Png, 5));
    site.put_documents("b.manifest.json", &[second]);
    let jobs = || -> Value { serde_json::from_str(&site.run(&["jobs", "--json"]).stdout).unwrap() };
    daemon.wait_until("it is taken in", || jobs().as_array().is_some_and(|jobs| jobs.len() == 2));
    site.put("1.png", image(Format::Png, 0));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the second is settled", || site.is_settled("b.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("b.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "failed", "{receipt}");
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_file_that_has_become_something_else_fails_its_entry_and_one_that_is_cut_is_waited_for() {
    let (site, mut daemon) = Site::taken_in();
    site.put("0.png", "this is a letter");
    let whole = image(Format::Png, 78);
    site.put("1.png", &whole[..whole.len() - 5]);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are seen", || {
        let said = site.run(&["jobs"]).stdout;
        said.contains("truncated") && said.contains("failed")
    });
    site.put("1.png", &whole);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert!(receipt["entries"][0]["errors"][0]["reason"].as_str().unwrap().contains("content"), "{receipt}");
    assert_eq!(receipt["entries"][1]["status"], "created", "{receipt}");
    assert_eq!(site.image_digests(), [sha256(&whole)]);
}

#[test]
fn an_entry_whose_file_becomes_that_of_another_entry_is_not_created_twice() {
    let mut entries = [entry("0", 1, "0.png"), entry("1", 1, "1.png")];
    for entry in &mut entries {
        // Without a reference, an entry is what it is made of.
        entry.as_object_mut().unwrap().remove("reference");
    }
    let (site, mut daemon) = Site::taken_in_as(&entries);
    site.put("0.png", image(Format::Png, 1));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    assert!(receipt["entries"][0]["errors"][0]["reason"].as_str().unwrap().contains("another entry"), "{receipt}");
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 1))]);
}

#[test]
fn an_entry_that_another_one_waits_for_becomes_nothing_else() {
    let mut same = entry("0", 0, "1.png");
    same["reference"] = "0".into();
    let (site, mut daemon) = Site::taken_in_as(&[entry("0", 0, "0.png"), same]);
    // A file of the same content was meant in both entries; it is changed before anything was sent.
    site.put("0.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(
        (&receipt["entries"][0]["status"], &receipt["entries"][1]["status"]),
        (&"failed".into(), &"created".into())
    );
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 0))]);
}

#[test]
fn a_file_that_goes_after_the_check_is_waited_for_and_keeps_nobody_else() {
    let (site, mut daemon) = Site::taken_in();
    fs::remove_file(site.in_drop("0.png")).unwrap();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the other one, and the reason", || {
        site.summary().documents == 1 && site.run(&["jobs", "--state", "waiting"]).stdout.contains("0.png")
    });
    site.run(&["cancel", "--all"]).expect(0);
    daemon.wait_until("it is settled", || site.left().is_empty());
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!((&receipt["counts"]["created"], &receipt["counts"]["cancelled"]), (&1.into(), &1.into()));
}

#[test]
fn a_manifest_that_goes_after_it_was_taken_in_is_settled_all_the_same() {
    let (site, mut daemon) = Site::taken_in();
    fs::remove_file(site.in_drop("a.manifest.json")).unwrap();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json") && site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["counts"]["created"], 2);
}

#[test]
fn another_manifest_of_the_same_name_that_comes_in_between_is_not_lost() {
    let (site, mut daemon) = Site::taken_in();
    site.put("2.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("2", 2, "2.png")]);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both are settled", || {
        site.receipt_paths("a.manifest.json").len() == 2 && site.summary().documents == 3 && site.left().is_empty()
    });
    daemon.terminate().expect(0);
}

#[test]
fn what_is_in_the_way_of_receipts_keeps_everything_where_it_is() {
    let site = Site::new();
    site.put("receipts", "a file where the folder should be");
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let finished = site.run_once();
    assert!(matches!(finished.code, Some(2 | 3)), "{finished:?}");
    assert!(finished.said().contains("receipts"), "{finished:?}");
    assert!(site.in_drop("a.manifest.json").exists() && site.in_drop("a.png").exists(), "nothing moves before");

    fs::remove_file(site.in_drop("receipts")).unwrap();
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_drop_that_vanishes_and_comes_back_stops_nothing() {
    promise!(
        "A full disk, an unreadable folder or a lost mount stops the work that needs it, loses nothing, and is reported."
    );
    let site = Site::new();
    let mut daemon = site.daemon();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    daemon.wait_until("the first", || site.left().is_empty());
    fs::remove_dir_all(site.at("drop")).unwrap();
    daemon.wait_until("it says so", || {
        let said = site.run(&["status"]).said() + &daemon_log(&site);
        said.contains("/drop")
    });
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[entry("b", 2, "b.png")]);
    daemon.wait_until("the second", || site.is_settled("b.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 2);
}

/// Everything that the site's processes wrote to standard error.
fn daemon_log(site: &Site) -> String {
    let logs = fs::read_dir(site.at("log")).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    logs.collect()
}

#[test]
fn a_manifest_that_is_still_being_written_is_not_taken_by_halves() {
    let site = Builder { drop: "ignore = ['*.part']".to_owned(), ..Builder::default() }.build();
    let mut daemon = site.daemon();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    let lines = [entry("a", 1, "a.png").to_string(), entry("b", 2, "b.png").to_string()];
    // Under the name of something that is not complete yet; then under its own.
    site.put("x.manifest.jsonl.part", format!("{}\n", lines[0]));
    site.put("y.manifest.jsonl", lines.join("\n"));
    daemon.wait_until("the whole one", || site.left() == ["x.manifest.jsonl.part"]);
    assert_eq!(site.receipt("y.manifest.jsonl")["counts"]["created"], 2);
    assert_eq!(site.calls(ApiCall::CreateDocument).len(), 2);
    daemon.terminate().expect(0);
}

#[test]
fn a_manifest_that_is_refused_for_a_missing_file_after_its_time() {
    let site = Builder { drop: "incomplete_after = '1s'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png"), entry("b", 2, "missing.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    assert_eq!(receipt["entries"][1]["errors"][0]["path"], "missing.png", "{receipt}");
}

/// Something happens to an image between its taking in and its sending: the receipt names it.
#[track_caller]
fn assert_named_where(site: &Site, happens: impl FnOnce()) {
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.run(&["jobs"]).stdout.contains("a.manifest.json"));
    happens();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    assert_eq!(site.receipt("a.manifest.json")["entries"][0]["errors"][0]["path"], "a.png");
    daemon.terminate().expect(0);
}

/// The receipt said that a file was missing, and not which.
#[test]
fn a_file_that_goes_and_stays_away_fails_its_entry_after_its_time() {
    let builder = Builder {
        drop: "incomplete_after = '1s'".to_owned(),
        retry: "max = '500ms'\ngive_up_after = '1s'".to_owned(),
        ..Builder::default()
    };
    let site = builder.build();
    assert_named_where(&site, || fs::remove_file(site.in_drop("a.png")).unwrap());
}

#[test]
fn a_file_that_has_become_no_image_is_named_in_the_receipt() {
    let site = Site::new();
    assert_named_where(&site, || site.put("a.png", "a letter"));
}

/// It was sent as soon as it could be opened again, whatever of it was there.
#[test]
fn a_file_that_comes_back_slowly_is_waited_for_until_it_no_longer_changes() {
    let site = Builder { retry: "max = '100ms'".to_owned(), ..Builder::default() }.build();
    site.edit_config("settle = '50ms'", "settle = '1s'");
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    let content = image(Format::Png, 1);
    site.put("a.png", &content);
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.run(&["jobs"]).stdout.contains("a.manifest.json"));
    fs::remove_file(site.in_drop("a.png")).unwrap();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it waits", || site.run(&["jobs", "--state", "waiting"]).stdout.contains("a.png"));
    // A sender writes a byte every few milliseconds, as a slow link does.
    let mut written = 0;
    daemon.wait_until("it is sent", || {
        written += 1;
        site.put("a.png", &content[..written]);
        written == content.len()
    });
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
    daemon.terminate().expect(0);
}
