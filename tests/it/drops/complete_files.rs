//! A file is taken only once it is complete: not while somebody writes to it, and not while its end is missing.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile, sha256};

const FORMATS: [(Format, &str); 5] = [
    (Format::Jpeg, "a.jpg"),
    (Format::Png, "a.png"),
    (Format::Gif, "a.gif"),
    (Format::Pdf, "a.pdf"),
    (Format::Tiff, "a.tiff"),
];

/// What `why` says of a path.
fn why(site: &Site, path: &str) -> String {
    site.run(&["why", path]).stdout
}

/// What the status lists as waiting.
fn waiting(site: &Site) -> Value {
    site.status()["waiting_manifests"].clone()
}

#[test]
fn a_truncated_image_is_held_back_and_taken_when_it_is_complete() {
    for (format, name) in FORMATS {
        let site = Site::new();
        let mut whole = image(format, 1);
        if let Format::Tiff = format {
            // Behind its one pixel, which nothing points to.
            whole.truncate(111);
        }
        // The line's end after the mark of a PDF is no loss.
        for percent in [1, 30, 60, 90, 98] {
            site.put(name, &whole[..whole.len() * percent / 100]);
            site.put_documents("a.manifest.json", &[entry("a", 1, name)]);
            site.run_once().expect(3);
            let said = why(&site, "a.manifest.json");
            assert!(said.contains(name), "{percent} % of {name}: {said}");
            assert!(said.contains("truncated") || percent == 1, "{percent} % of {name}: {said}");
            assert!(waiting(&site).to_string().contains(name), "{percent} % of {name}");
            assert_eq!(site.left().len(), 2, "{percent} % of {name} stays: {:?}", site.left());
        }
        assert!(site.ledger().is_empty(), "nothing of it was sent");
        site.put(name, &whole);
        site.run_once().expect(0);
        assert_eq!(site.receipt("a.manifest.json")["status"], "done", "{name}");
    }
}

#[test]
fn what_differs_from_its_declaration_is_held_back_and_taken_when_it_is_as_declared() {
    let whole = image(Format::Png, 1);
    let other = image(Format::Png, 2);
    let longer = [whole.as_slice(), b"more"].concat();
    for (field, value, wrong) in [
        ("bytes", json!(whole.len()), &whole[..whole.len() - 1]),
        ("bytes", json!(whole.len()), &longer),
        ("sha256", json!(sha256(&whole)), &other),
    ] {
        let site = Site::new();
        let mut declared = entry("a", 1, "a.png");
        declared["images"][0][field] = value;
        site.put("a.png", wrong);
        site.put_documents("a.manifest.json", &[declared]);
        site.run_once().expect(3);
        assert!(why(&site, "a.manifest.json").contains("declared"), "{field}");
        site.put("a.png", &whole);
        site.run_once().expect(0);
    }
}

#[test]
fn a_file_that_never_becomes_complete_fails_with_that_reason_and_the_others_continue() {
    let site = Builder { drop: "incomplete_after = '1s'".to_owned(), ..Builder::default() }.build();
    let whole = image(Format::Jpeg, 1);
    site.put("cut.jpg", &whole[..whole.len() - 2]);
    site.put("good.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("cut", 1, "cut.jpg"), entry("good", 2, "good.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("the receipt", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["status"], "partial", "{receipt}");
    let error = &receipt["entries"][0]["errors"][0];
    assert!(error["reason"].as_str().is_some_and(|reason| reason.contains("truncated")), "{receipt}");
    assert_eq!(error["path"], "cut.jpg");
}

/// A larger manifest than is kept in memory is admitted from the work folder, where a file that was left is not.
#[test]
fn a_large_manifest_says_what_was_incomplete_as_a_small_one_does() {
    let mut reasons = Vec::new();
    for others in [1, 4200] {
        let site = Site::impatient();
        let whole = image(Format::Png, 1);
        site.put("cut.png", &whole[..whole.len() / 2]);
        site.put("good.png", image(Format::Png, 2));
        let mut lines = "{}\n".repeat(others);
        for (reference, path) in [("cut", "cut.png"), ("good", "good.png"), ("gone", "gone.png")] {
            lines += &format!("{}\n", entry(reference, 1, path));
        }
        site.put("a.manifest.jsonl", lines);
        let mut daemon = site.daemon();
        daemon.wait_until("it is settled", || site.is_settled("a.manifest.jsonl"));
        daemon.terminate().expect(0);
        let receipt = site.receipt("a.manifest.jsonl");
        let entries = &receipt["entries"].as_array().unwrap()[others..];
        assert_eq!(entries[1]["status"], "created", "{entries:?}");
        let reason = |at: usize| entries[at]["errors"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason(0).contains("truncated"), "{entries:?}");
        assert!(site.in_drop("cut.png").exists(), "it is left to its sender");
        reasons.push([reason(0), reason(2)].map(|reason| reason.split_once(": ").unwrap().1.to_owned()));
    }
    assert_eq!(reasons[0], reasons[1]);
}

#[test]
fn data_that_a_camera_adds_behind_a_picture_is_no_sign_of_a_cut() {
    let site = Site::new();
    for (number, (format, name)) in (0..).zip(FORMATS) {
        site.put(name, [image(format, number).as_slice(), &[0xAB; 300_000]].concat());
        site.put_documents(&format!("{name}.manifest.json"), &[entry(name, number, name)]);
    }
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 5);
}

#[test]
fn a_truncated_manifest_is_held_back_and_taken_when_it_is_complete() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let manifest = json!({ "version": 1, "documents": [entry("a", 1, "a.png")] }).to_string();
    for len in [0, 1, manifest.len() / 2, manifest.len() - 1] {
        site.put("a.manifest.json", &manifest.as_bytes()[..len]);
        site.run_once().expect(3);
        assert!(why(&site, "a.manifest.json").contains("truncated"), "cut to {len}");
    }
    site.put("a.manifest.json", &manifest);
    site.run_once().expect(0);

    site.put("b.png", image(Format::Png, 2));
    site.put("c.png", image(Format::Png, 3));
    let lines = format!("{}\n{}", entry("b", 1, "b.png"), entry("c", 2, "c.png"));
    site.put("b.manifest.jsonl", &lines.as_bytes()[..lines.len() - 10]);
    site.run_once().expect(3);
    assert_eq!(site.summary().documents, 1, "not even its first line is taken");
    site.put("b.manifest.jsonl", &lines);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn nothing_is_taken_while_somebody_has_it_open_for_writing() {
    for (open, shown) in [("a.png", "a.png"), ("a.manifest.json", "a.manifest.json")] {
        let site = Site::new();
        site.put("a.png", image(Format::Png, 1));
        site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
        let writer = OpenOptions::new().append(true).open(site.in_drop(open)).unwrap();
        // Its content is whole and lies still, as of a sender that is stuck in the middle of a larger one.
        site.run_once().expect(3);
        let said = why(&site, "a.manifest.json");
        assert!(said.contains("open for writing") && said.contains(shown), "{said}");
        assert!(said.contains(&std::process::id().to_string()), "who: {said}");
        assert!(site.ledger().is_empty());
        drop(writer);
        site.run_once().expect(0);
        assert_eq!(site.receipt("a.manifest.json")["status"], "done");
    }
}

#[test]
fn a_slow_upload_is_never_touched_early() {
    let site = Site::new();
    let mut daemon = site.daemon();
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    let whole = image(Format::Png, 1);
    let mut file = File::create(site.in_drop("a.png")).unwrap();
    for piece in whole.chunks(whole.len() / 4) {
        file.write_all(piece).unwrap();
        // Each stop is seen by the worker before the sender goes on.
        let before = fs::metadata(site.in_drop("a.png")).unwrap().len();
        daemon.wait_until("it waits", || why(&site, "a.manifest.json").contains("a.png"));
        assert_eq!(fs::metadata(site.in_drop("a.png")).unwrap().len(), before, "it lies where it was");
        assert!(site.ledger().is_empty(), "nothing was sent");
    }
    drop(file);
    daemon.wait_until("the receipt", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
}

#[test]
fn an_old_date_is_no_sign_that_a_file_is_complete() {
    let site = Site::new();
    site.edit_config("settle = '50ms'", "settle = '1h'");
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
    for name in ["a.png", "a.manifest.json"] {
        let file = File::options().write(true).open(site.in_drop(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }
    // Looked at after it, since it is younger.
    site.put_documents("b.manifest.json", &[entry("b", 2, "missing.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it has looked", || waiting(&site).to_string().contains("missing.png"));
    daemon.terminate().expect(0);
    assert_eq!(site.left(), ["a.manifest.json", "a.png", "b.manifest.json"], "nothing was taken at its start");
    assert!(why(&site, "a.manifest.json").contains("has not changed"));
}

#[test]
fn images_may_come_before_or_after_and_what_is_missing_is_reported() {
    let site = Site::new();
    let mut document = entry("a", 1, "a.png");
    document["images"] = json!([{ "path": "a.png" }, { "path": "late/b.png" }]);
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[document]);
    let mut daemon = site.daemon();
    daemon.wait_until("it says what is missing", || why(&site, "a.manifest.json").contains("late/b.png"));
    let waiting = waiting(&site);
    assert!(waiting.to_string().contains("late/b.png"), "{waiting}");
    assert!(why(&site, "late/b.png").contains("a.manifest.json"), "asked about the file itself");
    site.put("late/b.png", image(Format::Png, 2));
    daemon.wait_until("the receipt", || site.is_settled("a.manifest.json"));
    daemon.terminate().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["counts"]["created"], 1);
    assert_eq!(site.documents()[0].profile, profile(1));
}

/// Senders knew what they meant, and nothing let their pictures without an end mark pass.
#[test]
fn a_truncated_file_that_is_as_declared_is_what_is_meant() {
    let site = Site::new();
    for (format, name) in FORMATS {
        let mut cut = image(format, 1);
        cut.truncate(if let Format::Tiff = format { 110 } else { cut.len() - 7 });
        let mut declared = entry(name, 1, name);
        declared["images"][0]["sha256"] = json!(sha256(&cut));
        declared["images"][0]["bytes"] = json!(cut.len());
        site.put(name, &cut);
        site.put_documents(&format!("{name}.manifest.json"), &[declared]);
    }
    site.run_once().expect(0);
    for (_, name) in FORMATS {
        let receipt = site.receipt(&format!("{name}.manifest.json"));
        assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
        assert_eq!(receipt["entries"][0]["warnings"][0]["kind"], "damaged-image", "{receipt}");
    }
}

/// The sandbox refused what `check` had taken, a PDF that a printer's language surrounds, and took a login page for one.
#[test]
fn check_a_drop_and_the_sandbox_agree_on_what_is_a_pdf() {
    let pdf = image(Format::Pdf, 1);
    let printed =
        [b"\x1B%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE=PDF\r\n", &pdf[..], b"\x1B%-12345X@PJL EOJ\r\n"].concat();
    let page = b"<!DOCTYPE html><html>Log in to download %PDF-1.4</html>\n%%EOF".to_vec();
    let site = Site::new();
    site.put("printed.pdf", printed);
    site.put("page.pdf", page);
    site.put("nothing.pdf", "%PDF-1.4\nhello\n%%EOF\n");
    let names = ["printed.pdf", "page.pdf", "nothing.pdf"];
    site.put_documents("a.manifest.json", &names.map(|name| entry(name, 1, name)));
    let manifest = site.in_drop("a.manifest.json");
    let said = site.run(&["check", manifest.to_str().unwrap()]).expect(1).stdout;
    assert!(said.contains("looks like a web page") && said.contains("no object"), "{said}");
    assert!(!said.contains("printed.pdf"), "{said}");
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    let states: Vec<_> = receipt["entries"].as_array().unwrap().iter().map(|entry| entry["status"].clone()).collect();
    assert_eq!(states, ["created", "invalid", "invalid"], "{receipt}");
}
