//! What cannot be prevented is noticed: a document that was sent a second time is looked at once more.

use passfort_ingest::sandbox::ApiCall;
use serde_json::{Value, json};

use crate::support::{Builder, Site, profile};

/// A site on which the first answer about the document of profile 0 was lost and the document not created, so that it was
/// sent again; and the IDs of the document and of its images.
fn sent_twice() -> (Site, String, Vec<String>) {
    let site = Builder { retry: "recheck_after = '1h'".to_owned(), ..Builder::default() }.build();
    site.faults(&[&format!("create_document=status-before:503,first=1,profile={}", profile(0))]);
    site.put_batch("batch.manifest.json", 2);
    let said = site.run_once().expect(0).stderr;
    assert!(said.contains("were sent a second time") && said.contains("documents=1 due=20"), "{said}");
    let document = site.documents().into_iter().find(|document| document.profile == profile(0)).unwrap();
    (site, document.id, document.images.into_iter().map(|image| image.id).collect())
}

/// Puts a second document with the same images onto profile 0, as a request does that outlived its bound.
fn late(site: &Site, images: &[String]) -> String {
    let images: Vec<Value> = images.iter().map(|id| json!({ "id": id })).collect();
    let body = json!({ "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": images });
    let posted = site.post(&format!("/profiles/{}/collected_data/documents", profile(0)), &body);
    posted["id"].as_str().unwrap().to_owned()
}

fn addenda(site: &Site) -> Vec<String> {
    site.files().into_iter().filter(|file| file.contains(".doubled")).collect()
}

#[test]
fn a_document_that_appears_beyond_the_bound_is_reported_with_both_ids() {
    let (site, own, images) = sent_twice();
    assert_eq!(site.status()["queue"]["to_recheck"], 1);
    let status = site.run(&["status"]).expect(0).stdout;
    assert!(status.split_whitespace().collect::<Vec<_>>().join(" ").contains("is read again"), "{status}");
    let double = late(&site, &images);
    // It is not due: a later run does it.
    site.run_once().expect(0);
    assert_eq!(site.status()["queue"]["doubled"], json!([]));

    site.edit_config("recheck_after = '1h'", "recheck_after = '10ms'");
    let said = site.run_once().expect(0).stderr;
    assert!(said.contains("created more than once"), "{said}");
    let status = site.status();
    let doubled = &status["queue"]["doubled"][0];
    assert_eq!(doubled["document_ids"], json!([own, double]));
    assert_eq!(status["queue"]["to_recheck"], 0);
    assert!(site.run(&["show", &doubled["job"].to_string()]).expect(0).stdout.contains(&double));
    assert_eq!(addenda(&site), ["receipts/batch.manifest.json.doubled.json"]);
    let addendum: Value =
        serde_json::from_str(&std::fs::read_to_string(site.in_drop(&addenda(&site)[0])).unwrap()).unwrap();
    assert_eq!(addendum["receipt"], "batch.manifest.json.receipt.json");
    assert_eq!(addendum["entries"][0]["reference"], "document-0");
    assert_eq!(addendum["entries"][0]["document_ids"], json!([own, double]));

    // Once, and the same is said once.
    let reads = site.calls(ApiCall::ReadDocuments).len();
    site.run_once().expect(0);
    assert_eq!((site.calls(ApiCall::ReadDocuments).len(), addenda(&site).len()), (reads, 1));
    site.run(&["verify"]).expect(1);
    site.run_once().expect(0);
    assert_eq!(addenda(&site).len(), 1);
}

#[test]
fn a_reading_that_fails_is_done_later_and_one_that_finds_one_document_says_nothing() {
    let (site, ..) = sent_twice();
    site.edit_config("recheck_after = '1h'", "recheck_after = '10ms'");
    site.faults(&["read_documents=status-before:404"]);
    site.run_once().expect(0);
    assert_eq!(site.status()["queue"]["to_recheck"], 1, "it is not forgotten");
    assert_eq!(site.status()["queue"]["doubled"], json!([]));
}
