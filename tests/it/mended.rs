//! Faults that were found and mended, each with the test that showed it.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_json::Value;

use crate::support::{Builder, Format, Site, entry, image, padded};

/// Drops a manifest with one bad entry beside a good one, and takes it in.
#[track_caller]
fn settles_beside(site: &Site, path: &str) {
    site.put("good.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("bad", 2, path), entry("good", 1, "good.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    assert_eq!(receipt["entries"][0]["errors"][0]["path"], path, "{receipt}");
    assert!(site.moved_to("failed").contains(&"a.manifest.json".to_owned()), "{:?}", site.files());
}

#[test]
fn a_link_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    symlink("/etc/passwd", site.in_drop("link.png")).unwrap();
    settles_beside(&site, "link.png");
    assert!(fs::read("/etc/passwd").is_ok());
}

#[test]
fn a_file_behind_a_linked_folder_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    site.write("outside/secret.png", image(Format::Png, 99));
    symlink(site.at("outside"), site.in_drop("folder")).unwrap();
    settles_beside(&site, "folder/secret.png");
    assert!(site.at("outside/secret.png").exists());
}

#[test]
fn a_pipe_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    assert!(Command::new("mkfifo").arg(site.in_drop("pipe.png")).status().unwrap().success());
    settles_beside(&site, "pipe.png");
}

#[test]
fn a_folder_as_an_image_does_not_keep_its_manifest_from_being_settled() {
    let site = Site::new();
    site.put("folder/inner.png", image(Format::Png, 98));
    settles_beside(&site, "folder");
}

#[test]
fn a_marker_is_put_away_with_its_manifest() {
    let site = Builder { drop: "done_marker = '.done'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.put("a.manifest.json.done", "");
    site.run_once().expect(0);
    assert_eq!(site.left(), Vec::<String>::new());

    // Else the next manifest of this name counts before its sender says so.
    site.put("a.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("b", 1, "a.png")]);
    site.run_once();
    assert_eq!(site.summary().documents, 1, "it has no marker of its own");
}

#[test]
fn a_marker_that_came_with_the_next_manifest_of_the_name_stays_with_it() {
    let site = Builder { drop: "done_marker = '.done'".to_owned(), ..Builder::default() }.build();
    let drop_one = |reference: &str, number| {
        let file = format!("{reference}.png");
        site.put(&file, image(Format::Png, number));
        site.put_documents("a.manifest.json", &[entry(reference, 1, &file)]);
        site.put("a.manifest.json.done", "");
    };
    site.run_once().expect(0);
    site.run(&["pause"]).expect(0);
    drop_one("first", 1);
    let mut daemon = site.daemon();
    daemon.wait_until("it is taken in", || site.run(&["jobs"]).stdout.contains("first"));
    fs::remove_file(site.in_drop("a.manifest.json.done")).unwrap();
    drop_one("second", 2);
    site.run(&["resume"]).expect(0);
    daemon.wait_until("the first is settled", || site.is_settled("a.manifest.json"));
    // Else the second waits for a marker that its sender has set.
    daemon.wait_until("both are settled", || site.receipt_paths("a.manifest.json").len() == 2);
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn a_413_is_named_in_the_receipt() {
    // The configuration's comment on max_image_bytes tells people to act on exactly this status.
    let site = Site::with_faults(&["upload_image=early:413,nth=1"]);
    site.put("large.pdf", padded(1, 1_000_000));
    site.put_documents("a.manifest.json", &[entry("large", 1, "large.pdf")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert!(receipt["entries"][0]["errors"].to_string().contains("413"), "{receipt}");
}

#[test]
fn work_that_is_left_is_explained() {
    for (name, content) in [("missing.png", None), ("cut.pdf", Some(b"%PDF-1.4\n% cut in the middle".to_vec()))] {
        let site = Site::new();
        if let Some(content) = content {
            site.put(name, content);
        }
        site.put_documents("a.manifest.json", &[entry("a", 1, name)]);
        site.run_once().expect(3).says(name);
    }
}

#[test]
fn a_line_that_cannot_be_read_is_named_by_its_number() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let lines = [entry("a", 1, "a.png").to_string(), String::new(), "{ not json".to_owned()];
    site.put("x.manifest.jsonl", lines.join("\n"));
    site.run_once().expect(1);
    let receipt = site.receipt("x.manifest.jsonl");
    let bad: &Value = &receipt["entries"][1];
    assert!(bad.to_string().contains("line 3"), "the empty line makes it the third, not the second: {receipt}");
}
/// A job waits for a file that went away after it was taken in; the time for that is up.
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

#[test]
fn a_receipt_that_a_kill_left_unfinished_goes_away_though_its_manifest_was_opened_again() {
    let site = Site::with_faults(&["upload_image=status-before:422"]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    site.wait_until_settled();
    let mut command = site.command(&["run", "--once"]);
    command.env(passfort_ingest::killpoint::VARIABLE, "after.publish.write");
    assert_eq!(crate::support::Daemon::start(command, &site.at("log")).finish().code, None, "it was killed");
    let unfinished = || site.files().into_iter().filter(|file| file.ends_with(".tmp")).count();
    assert_eq!(unfinished(), 1);
    site.faults(&[]);
    site.run(&["retry", "--all"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
    assert_eq!(unfinished(), 0, "{:?}", site.files());
}

#[test]
fn a_file_that_comes_back_slowly_is_waited_for_until_it_lies_still() {
    let site = Builder { retry: "max = '100ms'".to_owned(), ..Builder::default() }.build();
    let config = fs::read_to_string(site.at("config.toml")).unwrap();
    site.write("config.toml", config.replace("settle = '50ms'", "settle = '1s'"));
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
