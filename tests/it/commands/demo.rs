//! The demo: what a newcomer runs first, with no configuration, no key, and no network.

use std::process::Command;

use crate::support::{Daemon, Finished, Site, read_receipt};

/// Runs the program as a newcomer would, in an empty place; temporary folders go below the site's.
fn newcomer(site: &Site, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passfort-ingest"));
    command.env_clear().env("TMPDIR", site.at("")).current_dir(site.at("state")).args(arguments);
    Daemon::start(command, &site.at("log")).finish()
}

#[test]
fn it_works_and_keeps_what_one_may_want_to_look_at() {
    let site = Site::new();
    let kept = site.at("kept");
    let finished = newcomer(&site, &["demo", "--keep", kept.to_str().unwrap()]).expect(0);
    assert!(finished.stdout.contains("0 doubled"), "{}", finished.stdout);

    let receipts: Vec<_> = std::fs::read_dir(kept.join("drop/receipts"))
        .unwrap()
        .map(|entry| read_receipt(&entry.unwrap().path()))
        .collect();
    assert!(receipts.len() >= 3);
    let mut created = 0;
    for receipt in &receipts {
        for entry in receipt["entries"].as_array().unwrap() {
            let id = entry["document_id"].as_str().or(entry["file_id"].as_str());
            assert_eq!(entry["status"] == "created", id.is_some(), "{entry}");
            if let Some(id) = id {
                created += 1;
                assert!(finished.stdout.contains(id), "the demo shows what its receipts say: {entry}");
            }
        }
    }
    assert!(created >= 5);
    assert!(receipts.iter().any(|receipt| receipt["status"] == "partial"), "one is wrong on purpose");
}

#[test]
fn it_needs_nothing_and_writes_nowhere_else() {
    let site = Site::new();
    newcomer(&site, &["demo"]).expect(0);
    assert_eq!(std::fs::read_dir(site.at("state")).unwrap().count(), 0, "the current folder is left as it was");
    assert!(site.ledger().is_empty());
}

#[test]
fn it_does_not_write_into_a_folder_that_is_in_use() {
    let site = Site::new();
    site.write("mine/precious.txt", "mine");
    newcomer(&site, &["demo", "--keep", site.at("mine").to_str().unwrap()]).expect(2);
    assert_eq!(std::fs::read_dir(site.at("mine")).unwrap().count(), 1);
}
