//! What lies in a drop and belongs to nothing is counted and named: its sender believes that it was sent.

use std::fs;

use serde_json::Value;

use crate::support::{Builder, Daemon, Format, Site, image, metrics, page_in, value};

/// A drop in which files are missed after a second.
fn site(lines: &str) -> Site {
    let drop = format!("incomplete_after = '1s'\n{lines}");
    Builder { drop, more: "[http]\nlisten = '127.0.0.1:0'".to_owned(), ..Builder::default() }.build()
}

fn unclaimed(site: &Site) -> Value {
    site.status()["queue"]["drops"][0]["unclaimed"].clone()
}

fn wait_for(daemon: &mut Daemon, site: &Site, files: u64) -> Value {
    daemon.wait_until(&format!("{files} files are unclaimed"), || unclaimed(site)["files"] == files);
    unclaimed(site)
}

/// All of these were passed over without a word.
#[test]
fn nearly_right_names_and_images_of_nobody_are_named_until_they_are_gone() {
    let site = site("");
    let near = [
        "batch.manifest (1).json",
        "batch.manifest.json.txt",
        "batch_manifest.json",
        "batch.manifest - Copy.json",
        "batch.manifest.ndjson",
        "part4.csv",
    ];
    for name in near {
        site.put(name, "{}");
    }
    site.put("17/front.png", image(Format::Png, 7));
    site.put("#recycle/old.png", image(Format::Png, 8));
    site.put_batch("UPPER.MANIFEST.JSON", 2);
    let mut daemon = site.daemon();
    let found = wait_for(&mut daemon, &site, 7);
    assert_eq!(found["like_manifests"], 6, "{found}");
    assert_eq!(found["examples"], serde_json::json!(["17/front.png"]));
    let mut named: Vec<&str> = found["manifest_examples"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    named.sort_unstable();
    let mut expected = near;
    expected.sort_unstable();
    assert_eq!(named, expected);
    assert_eq!(site.summary().documents, 2, "letter case does not count");

    let log = fs::read_dir(site.at("log")).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let page = log.filter_map(|log| page_in(&log)).next().unwrap();
    assert_eq!(value(&metrics(page), "unclaimed_files{drop=\"partner\"}"), 7.0);
    let status = site.run(&["status"]).expect(0).stdout;
    assert!(status.contains("UNCLAIMED: drop partner has 7 files that no manifest names"), "{status}");
    let why = site.run(&["why", "batch_manifest.json"]).expect(0).stdout;
    assert!(why.contains("looks like a manifest"), "{why}");

    for name in near {
        fs::remove_file(site.in_drop(name)).unwrap();
    }
    wait_for(&mut daemon, &site, 1);
    fs::remove_file(site.in_drop("17/front.png")).unwrap();
    daemon.wait_until("nothing is unclaimed", || unclaimed(&site).is_null());
    daemon.terminate().expect(0);
}

/// A timer starts it, and each start scans only once where nothing comes.
#[test]
fn run_once_names_them_too() {
    let site = site("");
    site.put("batch_manifest.json", "{}");
    site.put("front.png", image(Format::Png, 7));
    crate::support::wait_until("they are old enough to be missed", || {
        site.run_once().expect(0);
        unclaimed(&site)["files"] == 2
    });
    assert_eq!(unclaimed(&site)["manifest_examples"], serde_json::json!(["batch_manifest.json"]));
}

#[test]
fn what_a_manifest_names_is_claimed_while_it_waits_and_where_it_stays() {
    let keep = site("after_success = 'keep'");
    keep.put_batch("a.manifest.json", 2);
    let waiting = site("");
    // Its ground is bad, so that its manifest waits however long.
    waiting.put("failed", "in the way");
    waiting.put_batch("a.manifest.json", 2);
    for (site, files) in [(keep, 1), (waiting, 2)] {
        site.put("18/back.png", image(Format::Png, 9));
        let mut daemon = site.daemon();
        let found = wait_for(&mut daemon, &site, files);
        assert!(found["examples"].to_string().contains("18/back.png"), "{found}");
        assert!(!found["examples"].to_string().contains("0.png"), "{found}");
        daemon.terminate().expect(0);
    }
}
