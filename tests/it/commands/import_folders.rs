//! Which files of a folder `import` and `check` take for manifests, and which they name and pass over.

use serde_json::json;

use crate::support::{Format, Site, entry, image};

/// A manifest of one document, whose image is `NUMBER.png` in the site's folder `in`.
fn manifest(site: &Site, number: u32) -> String {
    let name = format!("{number}.png");
    site.write(&format!("in/{name}"), image(Format::Png, number));
    json!({ "version": 1, "documents": [entry(&name, number, &name)] }).to_string()
}

/// A spreadsheet made `PART2.MANIFEST.CSV` and `part3.manifest.csv.txt`; nobody noticed that they were never sent.
#[test]
fn letter_case_does_not_count_and_nearly_right_names_are_named() {
    let site = Site::new();
    for (name, number) in [("part1.manifest.json", 1), ("PART2.MANIFEST.JSON", 2), ("part3.manifest.json.txt", 3)] {
        let text = manifest(&site, number);
        site.write(&format!("in/{name}"), text);
    }
    site.write("in/part4.csv", "profile_id,path\n");
    for command in ["check", "import"] {
        // The log of an import names no files by default.
        let finished = site.run(&["-v", command, "in"]).expect(0);
        for named in ["part3.manifest.json.txt", "part4.csv"] {
            assert!(finished.stderr.contains(named), "{command} does not name {named}:\n{}", finished.stderr);
        }
        assert!(!finished.stderr.contains("looks like a manifest, and is passed over path=PART2"));
    }
    assert_eq!(site.summary().documents, 2);
    let finished = site.run(&["import", "in"]).expect(0);
    assert!(
        finished.stderr.contains("`check` names them") && finished.stderr.contains("files=2"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_folder_with_nearly_right_names_alone_is_refused_with_them() {
    let site = Site::new();
    let text = manifest(&site, 1);
    site.write("in/batch_manifest.json", text);
    for command in ["check", "import"] {
        let finished = site.run(&[command, "in"]).expect(1);
        assert!(finished.stderr.contains("batch_manifest.json"), "{}", finished.stderr);
        assert!(finished.stderr.contains("no manifest"), "{}", finished.stderr);
    }
    site.write("empty/front.png", image(Format::Png, 1));
    site.run(&["import", "empty"]).expect(2);
    assert!(site.ledger().is_empty());
}

/// A document that was withdrawn into a NAS's recycle bin was created.
#[test]
fn recycle_bins_and_lock_files_are_not_searched() {
    let site = Site::new();
    let text = manifest(&site, 1);
    site.write("in/a.manifest.json", text);
    for name in ["#recycle/old", "@eaDir/b", "$RECYCLE.BIN/c", ".snapshot/d", "__MACOSX/e", "~$a", "lost+found/f"] {
        site.write(&format!("in/{name}.manifest.json"), "withdrawn");
    }
    for command in ["check", "import"] {
        let finished = site.run(&[command, "in"]).expect(0);
        assert!(!finished.stderr.contains("passed over"), "{}", finished.stderr);
    }
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn what_was_put_aside_is_not_searched_again() {
    let site = Site::new();
    for number in 1..=2 {
        let text = manifest(&site, number);
        site.write(&format!("in/{number}.manifest.json"), text);
        site.run(&["import", "in", "--receipts-to", "in/said", "--archive-to", "in/kept"]).expect(0);
    }
    assert_eq!(site.summary().documents, 2);
    assert_eq!(site.jobs("done,duplicate").len(), 2, "what was archived is not taken in again");
    // The folders of drops, whatever they are called.
    site.configure_drop("done_dir = 'over'\nfailed_dir = 'bad'\nreceipts_dir = 'said'\nwork_dir = 'busy'");
    for folder in ["over", "bad", "said", "busy"] {
        site.put(&format!("{folder}/x.manifest.json"), "taken before");
    }
    for command in ["check", "import"] {
        let finished = site.run(&[command, "drop"]).expect(2);
        assert!(finished.stderr.contains("no manifest"), "{}", finished.stderr);
    }
}

/// The document was created, and then its receipt could not be written, for ever.
#[test]
fn folders_that_cannot_be_used_end_it_before_the_first_call() {
    let site = Site::new();
    let text = manifest(&site, 1);
    site.write("in/a.manifest.json", text);
    site.write("in/receipts", "in the way");
    site.write("archive/failed", "in the way");
    let finished = site.run(&["import", "in"]).expect(2);
    assert!(
        finished.stderr.contains("in/receipts") && finished.stderr.contains("--receipts-to"),
        "{}",
        finished.stderr
    );
    let finished = site.run(&["import", "in", "--receipts-to", "out", "--archive-to", "archive"]).expect(2);
    assert!(
        finished.stderr.contains("archive/failed") && finished.stderr.contains("--archive-to"),
        "{}",
        finished.stderr
    );
    assert!(site.ledger().is_empty());
    site.run(&["import", "in", "--receipts-to", "out"]).expect(0);
    assert!(site.at("out/a.manifest.json.receipt.json").exists());
}

/// A second run with `--receipts-to` kept the folder of the first, which could not be written.
#[test]
fn a_run_that_goes_on_uses_the_folders_that_are_given_now() {
    let mut site = Site::new();
    let text = manifest(&site, 1);
    site.write("in/a.manifest.json", text);
    site.stop_api();
    site.run(&["import", "in", "--give-up-after", "1s"]).expect(4);
    std::fs::remove_dir_all(site.at("in/receipts")).unwrap();
    site.write("in/receipts", "in the way");
    site.start_api();
    site.run(&["import", "in"]).expect(2);
    site.run(&["import", "in", "--receipts-to", "out", "--archive-to", "kept"]).expect(0);
    assert!(site.at("out/a.manifest.json.receipt.json").exists());
    assert!(!site.at("in/a.manifest.json").exists() && site.at("kept/done").exists());
    assert_eq!(site.summary().documents, 1);
    assert_eq!(site.status()["queue"]["troubled"], serde_json::json!([]));
}
