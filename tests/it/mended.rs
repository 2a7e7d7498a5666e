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
