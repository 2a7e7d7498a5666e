//! A call whose answer is lost: whether it took effect is found out where the API can be asked; else it is counted.

use std::time::Duration;

use passfort_ingest::sandbox::{ApiCall, Options};
use serde_json::json;

use crate::support::{Builder, Format, Site, counted_leftovers, entry, image, leftovers, profile, promise};

/// Drops a document of one image.
fn drop_document(site: &Site) {
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("a", 1, "a.png")]);
}

/// Drops a file.
fn drop_file(site: &Site) {
    site.put("a.pdf", image(Format::Pdf, 1));
    let files = json!([{ "reference": "f", "profile_id": profile(1), "path": "a.pdf" }]);
    site.put("a.manifest.json", json!({ "version": 1, "files": files }).to_string());
}

fn sent(site: &Site, operation: ApiCall) -> usize {
    site.calls(operation).len()
}

#[test]
fn a_document_that_was_sent_just_before_a_kill_is_read_back() {
    promise!("The intent to create a document is on disk before the document is sent.");
    let site = Site::new();
    drop_document(&site);
    site.run_once_killed_at("after.call.create_document");
    assert_eq!((sent(&site, ApiCall::CreateDocument), sent(&site, ApiCall::ReadDocuments)), (1, 0));
    site.run_once().expect(0);
    assert_eq!((sent(&site, ApiCall::CreateDocument), sent(&site, ApiCall::ReadDocuments)), (1, 1));
    assert_eq!(site.receipt("a.manifest.json")["entries"][0]["document_id"], site.documents()[0].id.as_str());
}

#[test]
fn the_document_with_exactly_our_images_is_ours() {
    promise!(
        "If the answer to the creation of a document is lost, the documents of its profile are read back, and the one that has exactly our image IDs is ours."
    );
    let site = Site::new();
    // Another document of the same category and type is on the profile already.
    site.put("b.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[entry("b", 1, "b.png")]);
    site.run_once().expect(0);
    let before = site.documents()[0].id.clone();

    site.faults(&["create_document=lost,nth=1"]);
    drop_document(&site);
    site.run_once().expect(0);
    let id = site.receipt("a.manifest.json")["entries"][0]["document_id"].as_str().unwrap().to_owned();
    assert_ne!(id, before);
    assert!(site.documents().iter().any(|document| document.id == id));
    assert_eq!((site.summary().documents, sent(&site, ApiCall::CreateDocument)), (2, 2));
}

#[test]
fn a_document_that_appears_late_in_the_list_is_not_sent_again() {
    promise!(
        "A document whose answer was lost is sent again only if it is missing from a list that was asked for later than `[api] request_lives` and `list_lag` together after the end of its call, and that shows all that must be there."
    );
    // Later than the first lists, and before `absent_after`, which is two seconds here.
    let sandbox = Options { visible_after: Duration::from_millis(1500), ..Options::default() };
    let site = Builder { sandbox, retry: "max = '300ms'".to_owned(), ..Builder::default() }.build();
    site.faults(&["create_document=lost,nth=1"]);
    drop_document(&site);
    site.run_once().expect(0);
    assert!(sent(&site, ApiCall::ReadDocuments) > 1, "it is not in the first list");
    assert_eq!(sent(&site, ApiCall::CreateDocument), 1);
}

#[test]
fn a_document_that_never_appears_in_the_list_is_sent_again() {
    promise!(
        "A document whose answer was lost is sent again only if it is missing from a list that was asked for later than `[api] request_lives` and `list_lag` together after the end of its call, and that shows all that must be there."
    );
    let site = Builder { api: "response_timeout = '500ms'".to_owned(), ..Builder::default() }.build();
    // Its list shows that lists are complete.
    site.put("other.png", image(Format::Png, 2));
    site.put_documents("other.manifest.json", &[entry("other", 2, "other.png")]);
    site.run_once().expect(0);
    site.faults(&["create_document=hang,nth=1"]);
    drop_document(&site);
    site.run_once().expect(0);
    let calls = site.ledger();
    let last = |operation| calls.iter().rfind(|call| call.operation == operation).unwrap().seq;
    assert!(last(ApiCall::ReadDocuments) < last(ApiCall::CreateDocument), "it was looked for before");
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn a_document_that_cannot_be_read_back_is_held() {
    promise!("If reading back cannot settle whether a document exists, its job is `held` until a person decides.");
    let site = Site::with_faults(&["create_document=lost,nth=1", "read_documents=status-before:404"]);
    drop_document(&site);
    site.run_once().expect(3);
    let held = site.jobs("held");
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(sent(&site, ApiCall::CreateDocument), 1, "it is not sent again unasked");
    assert!(!site.is_settled("a.manifest.json"));

    let (number, id) = (held[0]["id"].to_string(), site.documents()[0].id.clone());
    site.run(&["release", &number, "--as-created", &id]).expect(0);
    site.run_once().expect(0);
    assert_eq!(site.receipt("a.manifest.json")["entries"][0]["document_id"], id.as_str());
    assert_eq!(sent(&site, ApiCall::CreateDocument), 1);
}

#[test]
fn an_image_is_sent_again_and_its_copy_is_counted() {
    promise!("An image whose answer was lost is sent again, and the copy that it may leave behind is counted.");
    let site = Site::with_faults(&["upload_image=lost,nth=1"]);
    drop_document(&site);
    site.run_once().expect(0);
    assert_eq!(sent(&site, ApiCall::UploadImage), 2);
    assert_eq!(site.documents()[0].images.len(), 1);
    assert_eq!((counted_leftovers(&site), leftovers(&site)), (1, 1));
}

#[test]
fn a_file_is_sent_again_and_its_copy_is_counted() {
    promise!(
        "A file whose answer was lost is sent again and counted, or it is held where `[retry] lost_file = \"hold\"`."
    );
    let site = Site::with_faults(&["upload_file=lost,nth=1"]);
    drop_file(&site);
    site.run_once().expect(0);
    assert_eq!(sent(&site, ApiCall::UploadFile), 2);
    assert_eq!((counted_leftovers(&site), leftovers(&site)), (1, 1));
}

#[test]
fn a_file_is_held_where_asked() {
    promise!(
        "A file whose answer was lost is sent again and counted, or it is held where `[retry] lost_file = \"hold\"`."
    );
    let site = Builder { retry: "lost_file = 'hold'".to_owned(), ..Builder::default() }.build();
    site.faults(&["upload_file=lost,nth=1"]);
    drop_file(&site);
    site.run_once().expect(3);
    assert_eq!(sent(&site, ApiCall::UploadFile), 1, "it is not sent again unasked");
    assert!(!site.is_settled("a.manifest.json"));
    let left = site.left();
    assert!(left.len() == 2 && left.iter().all(|path| path.starts_with(".passfort-ingest/")), "{left:?}");
}
