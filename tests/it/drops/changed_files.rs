//! Files change or disappear, and folders are missing or blocked by a file, while the worker runs.

use std::fs;

use passfort_ingest::sandbox::ApiCall;
use serde_json::Value;

use crate::support::{Builder, Daemon, Finished, Format, Site, entry, image, padded, promise, rename, sha256};

/// A drop whose files stay where they are, and what it has taken in while it was paused.
fn taken_in_place(entries: &[Value]) -> (Site, Daemon) {
    Site::taken_in_by("after_success = 'keep'", entries)
}

fn two_entries() -> [Value; 2] {
    [entry("0", 0, "0.png"), entry("1", 1, "1.png")]
}

/// Retries a job of a settled manifest, once its files are put away.
#[track_caller]
fn retry(site: &Site, daemon: &mut Daemon, arguments: &[&str]) -> Finished {
    let mut finished = None;
    daemon.wait_until("its files are put away", || {
        let said = site.run(&[&["retry"], arguments].concat());
        let moving = said.stdout.contains("being moved away");
        finished = Some(said);
        !moving
    });
    finished.unwrap()
}

/// What a receipt says of an entry that failed.
#[track_caller]
fn error(receipt: &Value, index: usize) -> &Value {
    assert_eq!(receipt["entries"][index]["status"], "failed", "{receipt}");
    &receipt["entries"][index]["errors"][0]
}

/// Y's picture, dropped under the name of X's, was sent as X's, and both receipts said that all was well.
#[test]
fn a_file_that_has_changed_is_not_sent_and_the_others_are() {
    promise!("A file that has changed since its manifest was taken in is not sent: its entry fails.");
    let (site, mut daemon) = taken_in_place(&two_entries());
    site.put("0.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    let error = error(&receipt, 0);
    assert_eq!((&error["code"], &error["path"]), (&"file-changed".into(), &"0.png".into()), "{receipt}");
    assert!(error["cure"].as_str().unwrap().contains("retry 1 --take-changed"), "{receipt}");
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 1))]);
}

#[test]
fn a_change_that_keeps_the_size_is_noticed_before_the_end_is_sent() {
    let content = padded(1, 300_000);
    let mut other = content.clone();
    other[200_000] ^= 1;
    let site = Builder { drop: "after_success = 'keep'".to_owned(), ..Builder::default() }.build();
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    site.put("a.png", &content);
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.run(&["jobs"]).stdout.contains("a.manifest.json"));
    site.put("a.png", &other);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(error(&site.receipt("a.manifest.json"), 0)["code"], "file-changed");
    assert!(site.calls(ApiCall::UploadImage).iter().all(|call| !call.committed));
}

#[test]
fn a_retry_sends_only_what_was_taken_in() {
    let (site, mut daemon) = taken_in_place(&two_entries());
    site.put("0.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    let first = site.receipt_paths("a.manifest.json");
    retry(&site, &mut daemon, &["1"]).expect(0);
    daemon.wait_until("it is settled again", || site.receipt_paths("a.manifest.json").len() == 2);
    assert_eq!(error(&site.newer_receipt("a.manifest.json", &first), 0)["code"], "file-changed");
    let known = site.receipt_paths("a.manifest.json");
    site.put("0.png", image(Format::Png, 0));
    retry(&site, &mut daemon, &["1"]).expect(0);
    daemon.wait_until("it is settled well", || site.receipt_paths("a.manifest.json").len() == 3);
    daemon.terminate().expect(0);
    let receipt = site.newer_receipt("a.manifest.json", &known);
    assert_eq!(receipt["status"], "done", "{receipt}");
    assert!(receipt["entries"][0]["images"][0].get("changed_from").is_none(), "{receipt}");
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn a_person_who_has_seen_the_digests_may_have_the_other_content_sent() {
    let (site, mut daemon) = taken_in_place(&two_entries());
    let (was, is) = (sha256(&image(Format::Png, 0)), sha256(&image(Format::Png, 77)));
    site.put("0.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    let first = site.receipt_paths("a.manifest.json");
    for arguments in [&["retry", "--take-changed", "--all"][..], &["retry", "--take-changed", "--state", "failed"]] {
        site.run(arguments).expect(2);
    }
    let said = retry(&site, &mut daemon, &["1", "--take-changed"]).expect(0).stdout;
    let (shown, done) = said.split_once('\n').unwrap();
    assert!(shown.contains(&was) && shown.contains(&is) && done.contains("queued again"), "{said}");
    daemon.wait_until("it is settled again", || site.receipt_paths("a.manifest.json").len() == 2);
    daemon.terminate().expect(0);
    let receipt = site.newer_receipt("a.manifest.json", &first);
    let image = &receipt["entries"][0]["images"][0];
    assert_eq!((&image["sha256"], &image["changed_from"]), (&is.into(), &was.into()), "{receipt}");
    assert_eq!(receipt["status"], "done", "{receipt}");
}

#[test]
fn what_is_declared_or_no_image_or_named_by_another_manifest_is_never_taken_for_it() {
    let mut entries = two_entries();
    entries[1]["images"][0]["sha256"] = sha256(&image(Format::Png, 1)).into();
    let (site, mut daemon) = taken_in_place(&entries);
    for name in ["0.png", "1.png"] {
        site.put(name, image(Format::Png, 77));
    }
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    let refused = |job: &str, daemon: &mut Daemon| retry(&site, daemon, &[job, "--take-changed"]).expect(1).stdout;
    let said = refused("2", &mut daemon);
    assert!(said.contains("declared") && said.contains("job 2"), "{said}");
    site.put("0.png", "a letter");
    let said = refused("1", &mut daemon);
    assert!(said.contains("content"), "{said}");
    // The name is used again, for somebody else.
    site.put("0.png", image(Format::Png, 78));
    site.put_documents("b.manifest.json", &[entry("2", 2, "0.png")]);
    daemon.wait_until("the other is settled", || site.is_settled("b.manifest.json"));
    let said = refused("1", &mut daemon);
    assert!(said.contains("b.manifest.json named the same file"), "{said}");
    daemon.terminate().expect(0);
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 78))]);
}

#[test]
fn an_entry_that_becomes_one_that_exists_is_not_created_twice() {
    let mut entries = [entry("0", 1, "0.png"), entry("1", 1, "1.png")];
    for entry in &mut entries {
        // Without a reference, an entry is what it is made of.
        entry.as_object_mut().unwrap().remove("reference");
    }
    let (site, mut daemon) = taken_in_place(&entries);
    site.put("0.png", image(Format::Png, 1));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    let said = retry(&site, &mut daemon, &["1", "--take-changed"]).expect(1).stdout;
    assert!(said.contains("nothing to retry"), "{said}");
    daemon.terminate().expect(0);
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 1))]);
}

/// The second of two equal entries is sent from its own file.
#[test]
fn an_equal_entry_whose_own_file_is_as_it_was_takes_the_place_of_one_whose_file_has_changed() {
    let mut same = entry("0", 0, "1.png");
    same["reference"] = "0".into();
    let (site, mut daemon) = taken_in_place(&[entry("0", 0, "0.png"), same]);
    site.put("0.png", image(Format::Png, 77));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(error(&receipt, 0)["code"], "file-changed");
    assert_eq!(receipt["entries"][1]["status"], "created", "{receipt}");
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 0))]);
}

#[test]
fn a_file_that_is_gone_fails_its_entry_and_keeps_nobody_else() {
    let (site, mut daemon) = taken_in_place(&two_entries());
    fs::remove_file(site.in_drop("0.png")).unwrap();
    site.run(&["resume"]).expect(0);
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    let error = error(&receipt, 0);
    assert_eq!((&error["code"], &error["path"]), (&"file-changed".into(), &"0.png".into()), "{receipt}");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
}

#[test]
fn files_of_a_folder_that_is_away_are_waited_for() {
    let (site, mut daemon) = taken_in_place(&two_entries());
    rename(&site.at("drop"), &site.at("away"));
    site.run(&["resume"]).expect(0);
    daemon.wait_until("both wait", || site.jobs("waiting").len() == 2);
    // As where a mount point is whose mount is gone.
    fs::create_dir(site.at("drop")).unwrap();
    daemon.wait_until("both wait for the mount", || {
        let jobs = site.jobs("waiting");
        jobs.len() == 2 && jobs.iter().all(|job| job["reason"].as_str().unwrap_or_default().contains("is empty"))
    });
    fs::remove_dir(site.at("drop")).unwrap();
    rename(&site.at("away"), &site.at("drop"));
    daemon.wait_until("it is settled", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
}

#[test]
fn a_manifest_that_goes_after_it_was_taken_in_is_settled_all_the_same() {
    let (site, mut daemon) = Site::taken_in();
    let left = site.left();
    let manifest = left.iter().find(|file| file.ends_with("a.manifest.json")).unwrap();
    fs::remove_file(site.in_drop(manifest)).unwrap();
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
    let left = site.left();
    assert!(["a.manifest.json", "a.png"].iter().all(|name| left.iter().any(|file| file.ends_with(name))), "{left:?}");

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
