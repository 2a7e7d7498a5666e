//! Tests of `why` on a real queue and a real drop.

use std::fs;

use super::*;
use crate::{
    cli::output::tests::capture,
    entry::EntryKind,
    manifest_wait::ManifestWait,
    queue::{
        admission::Admission,
        arrivals::Arrival,
        test_support::{self, DROP, NOW, Site, document, take},
    },
};

fn ask(site: &Site, path: &str) -> (Exit, String, String) {
    let args = WhyArgs { path: path.into(), json: false };
    // As from another folder, so that nothing is found by where the tests run.
    let absolute = Path::new("/elsewhere").join(path);
    capture(|output| why(&args, &absolute, &site.context(), NOW, output))
}

fn arrival(manifest: &str, missing: &[&str]) -> Arrival {
    Arrival {
        advice: ManifestWait::Behind.for_sender(),
        drop: DROP.into(),
        manifest: manifest.into(),
        file: test_support::a_file(),
        reason: "a file is missing".into(),
        seen: NOW,
        missing: missing.iter().map(|&path| path.into()).collect(),
        looked: NOW,
        in_use: Vec::new(),
        replaced: Vec::new(),
        patience: None,
    }
}

#[test]
fn a_waiting_manifest_and_the_file_it_waits_for_are_found() {
    let site = Site::new();
    site.queue.note_arrival(arrival("sub/late.manifest.json", &["17/front.jpg"]), NOW).unwrap();
    site.queue.note_arrival(arrival("other.manifest.json", &["x.png"]), NOW).unwrap();
    let whole = site.drop_path().join("sub/late.manifest.json").display().to_string();
    for path in ["late.manifest.json", "sub/late.manifest.json", whole.as_str()] {
        let (exit, out, err) = ask(&site, path);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 1), "{path}: {out}");
        assert!(out.contains("is not taken in yet") && out.contains("missing are: 17/front.jpg"), "{out}");
        assert!(err.contains("nobody works on the queue"), "{err}");
    }
    let (_, out, _) = ask(&site, "front.jpg");
    assert!(out.starts_with("sub/late.manifest.json in drop partner-a waits for it"), "{out}");
    let whole = site.drop_path().join("sub/17/front.jpg").display().to_string();
    assert!(ask(&site, &whole).1.contains("waits for it"));
    for elsewhere in ["/other/sub/late.manifest.json", "/other/17/front.jpg"] {
        assert_eq!(ask(&site, elsewhere).0, Exit::Refused, "{elsewhere}");
    }
}

#[test]
fn the_numbers_of_the_log_are_understood() {
    let site = Site::new();
    site.admit("a.manifest.json", &["one"]);
    site.queue.note_arrival(arrival("late.manifest.json", &["front.jpg"]), NOW).unwrap();
    let number = site.queue.arrival_number(DROP, "late.manifest.json");
    assert!(ask(&site, &number.to_string()).1.starts_with("late.manifest.json in drop"));
    assert!(ask(&site, &format!("arrival={number}")).1.contains("front.jpg"));
    assert_eq!(ask(&site, &format!("batch={number}")).0, Exit::Refused);
    let (_, both, _) = ask(&site, "1");
    assert!(both.starts_with("batch 1: a.manifest.json") && both.contains("\njob 1, entry 0"), "{both}");
    assert_eq!(ask(&site, "job=1").1.lines().count(), 1);
}

#[test]
fn a_file_is_found_by_its_place_by_its_path_and_by_its_name() {
    let site = Site::new();
    site.admit("sub/a.manifest.json", &["one", "two"]);
    site.create(site.job("one"), "doc-1");
    let whole = site.drop_path().join("sub/img/one.png").display().to_string();
    for path in [whole.as_str(), "img/one.png", "one.png", "./img/one.png"] {
        let (exit, out, _) = ask(&site, path);
        assert_eq!((exit, out.lines().count()), (Exit::Well, 1), "{path}: {out}");
        assert!(out.contains("belongs to job 1") && out.contains("created as doc-1"), "{out}");
    }
}

#[test]
fn a_file_that_was_moved_is_found_where_it_went() {
    let site = Site::new();
    let batch = site.admit("a.manifest.json", &["one"]);
    site.create(site.job("one"), "doc-1");
    let archive = site.drop_path().join("done/2026-11-22");
    site.queue.name_receipt(batch, "a.manifest.json.receipt.json".into()).unwrap();
    site.queue.receipt_published(batch, crate::receipt::BatchStatus::Done).unwrap();
    site.queue.batch_closed(batch, Some(archive.display().to_string()), None, Vec::new()).unwrap();
    let (_, out, _) = ask(&site, &archive.join("img/one.png").display().to_string());
    assert!(out.contains("belongs to job 1"), "{out}");
    let receipt = site.drop_path().join("receipts/a.manifest.json.receipt.json");
    for path in [archive.join("a.manifest.json"), receipt, "a.manifest.json".into()] {
        let (_, out, _) = ask(&site, &path.display().to_string());
        assert!(out.contains("its entries: 1 done; it is settled; receipt: "), "{}: {out}", path.display());
        assert!(out.contains("done/2026-11-22"), "{out}");
    }
}

#[test]
fn a_refused_entry_is_named_for_its_file() {
    let site = Site::new();
    let invalid = Admission::Invalid {
        paths: Vec::new(),
        index: 1,
        kind: EntryKind::Document,
        reference: None,
        profile_id: None,
        problems: vec![Problem::error("the file is a link", "copy the file itself").path("17/\"bäck\".png")],
    };
    let batch = site.admit_entries("a.manifest.json", vec![take(document(0, "one"), 1), invalid]);
    let (exit, out, _) = ask(&site, "\"bäck\".png");
    assert_eq!(exit, Exit::Well);
    assert!(out.contains("entry 1 of a.manifest.json") && out.contains("the file is a link"), "{out}");
    assert_eq!(ask(&site, "ck\".png").0, Exit::Refused);
    site.queue.batch_trouble(batch, "no room for the receipt".into()).unwrap();
    assert!(ask(&site, "a.manifest.json").1.contains("cannot be settled: no room for the receipt"));
}

#[test]
fn what_is_only_on_disk_is_explained() {
    let site = Site::new();
    let drop = site.drop_path();
    fs::create_dir_all(drop.join("done")).unwrap();
    for name in ["new.manifest.json", "plain.png", "x_manifest.json", "x.part", "done/old.png"] {
        fs::write(drop.join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("plain.png", drop.join("link.png")).unwrap();
    for (name, said) in [
        ("new.manifest.json", "a manifest that is not taken in yet"),
        ("plain.png", "no manifest that was taken in names it"),
        ("x_manifest.json", "it looks like a manifest and is none"),
        ("x.part", "its name is ignored"),
        ("done/old.png", "the drop's own folders"),
        ("link.png", "no plain file"),
    ] {
        for path in [name.to_owned(), drop.join(name).display().to_string()] {
            let (exit, out, _) = ask(&site, &path);
            assert_eq!(exit, Exit::Well, "{path}");
            assert!(out.contains(said), "{path}: {out}");
        }
    }
}

#[test]
fn what_nobody_knows_gets_advice() {
    let site = Site::new();
    let (exit, out, err) = ask(&site, "no\u{1b}where.png");
    assert_eq!((exit, out.as_str()), (Exit::Refused, ""));
    assert!(err.contains("nothing is known of no\\u{1b}where.png") && err.contains("(partner-a)"), "{err}");
    assert_eq!(ask(&site, "").0, Exit::Usage);
    assert_eq!(ask(&site, "../queue.db").0, Exit::Refused);
    let args = WhyArgs { path: "x".into(), json: true };
    let (_, out, _) = capture(|output| why(&args, Path::new("/x"), &site.context(), NOW, output));
    let seen: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((seen["known"].as_bool(), seen["findings"].as_array().map(Vec::len)), (Some(false), Some(0)));
}
