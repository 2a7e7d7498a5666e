//! Whatever is dropped again is created once: under the same name, another, or in two manifests at once.

use std::fs;

use passfort_ingest::sandbox::{ApiCall, Options};
use serde_json::json;

use crate::support::{Builder, Format, Site, entry, image, profile, promise};

/// Drops one document with its image, takes it in, and says the document's id.
fn first_delivery(site: &Site) -> String {
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("customer-1/passport", 1, "a.png")]);
    site.run_once().expect(0);
    site.receipt("a.manifest.json")["entries"][0]["document_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_manifest_dropped_again_creates_nothing_and_says_what_exists() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let site = Site::new();
    let id = first_delivery(&site);
    let known = site.receipt_paths("a.manifest.json");
    let first = fs::read(&known[0]).unwrap();
    let calls = site.ledger().len();

    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("customer-1/passport", 1, "a.png")]);
    site.run_once().expect(0);

    let receipt = site.newer_receipt("a.manifest.json", &known);
    assert_eq!(receipt["status"], "done");
    assert_eq!(receipt["counts"]["duplicate"], 1);
    assert_eq!(receipt["counts"]["created"], 0);
    assert_eq!(receipt["entries"][0]["status"], "duplicate");
    assert_eq!(receipt["entries"][0]["document_id"], id.as_str());
    assert_eq!(fs::read(&known[0]).unwrap(), first, "the first receipt is as it was");
    assert_eq!(site.ledger().len(), calls, "the API was not even asked");
    assert_eq!(site.left(), Vec::<String>::new());
    assert_eq!(site.moved_to("done").len(), 4, "what was put away first is not overwritten: {:?}", site.files());
}

#[test]
fn the_same_entry_under_other_names_is_a_duplicate() {
    let site = Site::new();
    let id = first_delivery(&site);

    site.put("other/scan.png", image(Format::Png, 1));
    site.put_documents("renamed.manifest.json", &[entry("customer-1/passport", 1, "other/scan.png")]);
    site.run_once().expect(0);

    let receipt = site.receipt("renamed.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "duplicate");
    assert_eq!(receipt["entries"][0]["document_id"], id.as_str());
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn without_a_reference_the_content_is_the_identity() {
    let site = Site::new();
    let mut bare = entry("", 1, "a.png");
    bare.as_object_mut().unwrap().remove("reference");
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[bare.clone()]);
    site.run_once().expect(0);

    // The same bytes and fields are the same document; other bytes or another profile are not.
    site.put("again.png", image(Format::Png, 1));
    let mut again = bare.clone();
    again["images"][0]["path"] = json!("again.png");
    site.put("unlike.png", image(Format::Png, 2));
    let mut unlike = bare.clone();
    unlike["images"][0]["path"] = json!("unlike.png");
    let mut elsewhere = again.clone();
    elsewhere["profile_id"] = json!(profile(2));
    site.put_documents("b.manifest.json", &[again, unlike, elsewhere]);
    site.run_once().expect(0);

    let receipt = site.receipt("b.manifest.json");
    let statuses: Vec<&str> = (0..3).map(|at| receipt["entries"][at]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["duplicate", "created", "created"]);
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn a_reference_with_other_content_is_refused_unless_it_replaces() {
    let site = Site::new();
    let id = first_delivery(&site);

    site.put("b.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[entry("customer-1/passport", 1, "b.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("b.manifest.json");
    assert_eq!(receipt["status"], "failed");
    let error = &receipt["entries"][0]["errors"][0];
    assert!(error["reason"].is_string() && error["cure"].to_string().contains("replace"), "{receipt}");
    assert_eq!(site.summary().documents, 1);
    assert_eq!(site.moved_to("failed"), ["b.manifest.json", "b.png"]);

    site.put("c.png", image(Format::Png, 2));
    let mut replacing = entry("customer-1/passport", 1, "c.png");
    replacing["replace"] = json!(true);
    site.put_documents("c.manifest.json", &[replacing]);
    site.run_once().expect(0);
    let receipt = site.receipt("c.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created");
    assert_ne!(receipt["entries"][0]["document_id"], id.as_str());
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn one_entry_in_two_manifests_at_once_is_created_once() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let sandbox = Options { latency: std::time::Duration::from_millis(30), ..Options::default() };
    let site = Builder { sandbox, ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    for name in ["a", "b", "c"] {
        site.put_documents(&format!("{name}.manifest.json"), &[entry("same", 1, "a.png")]);
    }
    site.run_once().expect(0);

    let receipts: Vec<_> = ["a", "b", "c"].map(|name| site.receipt(&format!("{name}.manifest.json"))).into();
    let count = |word: &str| receipts.iter().filter(|receipt| receipt["entries"][0]["status"] == word).count();
    assert_eq!((count("created"), count("duplicate")), (1, 2), "{receipts:#?}");
    let ids: std::collections::BTreeSet<String> =
        receipts.iter().map(|receipt| receipt["entries"][0]["document_id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "all name the one document");
    let summary = site.summary();
    assert_eq!((summary.documents, summary.images), (1, 1));
    assert_eq!(site.left(), Vec::<String>::new(), "the image that all name is put away in the end");
}

#[test]
fn a_reference_twice_in_one_manifest_is_named() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("a.manifest.json", &[entry("twice", 1, "a.png"), entry("twice", 1, "b.png")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    assert_eq!(receipt["entries"][1]["errors"][0]["field"], "reference", "{receipt}");
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_file_dropped_again_is_not_sent_again() {
    let site = Site::new();
    let manifest = json!({
        "version": 1, "profile_id": profile(1),
        "files": [{ "reference": "form", "path": "form.pdf", "name": "Form.pdf" }],
    });
    site.put("form.pdf", image(Format::Pdf, 1));
    site.put("a.manifest.json", manifest.to_string());
    site.run_once().expect(0);
    let id = site.receipt("a.manifest.json")["entries"][0]["file_id"].clone();

    site.put("form.pdf", image(Format::Pdf, 1));
    site.put("b.manifest.json", manifest.to_string());
    site.run_once().expect(0);
    let entry = &site.receipt("b.manifest.json")["entries"][0];
    assert_eq!((&entry["status"], &entry["file_id"]), (&json!("duplicate"), &id));
    assert_eq!(site.calls(ApiCall::UploadFile).len(), 1);
}
