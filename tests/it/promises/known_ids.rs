//! An ID is on disk before it is used, so that what has one is never sent again.

use passfort_ingest::sandbox::ApiCall;
use serde_json::json;

use crate::support::{Format, Site, entry, image, promise};

/// Drops a document of two images.
fn drop_document(site: &Site) {
    site.put("front.png", image(Format::Png, 1));
    site.put("back.png", image(Format::Png, 2));
    let mut document = entry("a", 1, "front.png");
    document["images"] = json!([{ "path": "front.png", "image_type": "FRONT" }, { "path": "back.png" }]);
    site.put_documents("a.manifest.json", &[document]);
}

/// The IDs that the API gave to the images, in the order of the calls.
fn given(site: &Site) -> Vec<String> {
    site.calls(ApiCall::UploadImage).into_iter().filter_map(|call| call.id).collect()
}

#[test]
fn the_ids_of_images_survive_a_kill_before_their_document_is_sent() {
    promise!("Every ID that the API returns is on disk before the next step relies on it.");
    promise!("An image or a file whose ID is known is never sent again.");
    let site = Site::new();
    drop_document(&site);
    site.run_once_killed_at("before.call.create_document");
    let mut ids = given(&site);
    assert_eq!(ids.len(), 2);
    site.run_once().expect(0);
    assert_eq!(given(&site), ids, "none is sent again");
    let mut used: Vec<String> = site.documents()[0].images.iter().map(|image| image.id.clone()).collect();
    ids.sort();
    used.sort();
    assert_eq!(used, ids);
}

#[test]
fn the_id_of_a_document_survives_a_kill_before_its_receipt_is_written() {
    promise!("Every ID that the API returns is on disk before the next step relies on it.");
    let site = Site::new();
    drop_document(&site);
    site.run_once_killed_at("before.publish.write");
    let calls = site.ledger().len();
    site.run_once().expect(0);
    assert_eq!(site.ledger().len(), calls, "nothing is asked or sent");
    assert_eq!(site.receipt("a.manifest.json")["entries"][0]["document_id"], site.documents()[0].id.as_str());
}

#[test]
fn images_are_not_sent_again_by_a_retry_of_their_refused_document() {
    promise!("An image or a file whose ID is known is never sent again.");
    let site = Site::with_faults(&["create_document=status-before:422,nth=1"]);
    drop_document(&site);
    site.run_once().expect(1);
    let ids = given(&site);
    site.run(&["retry", "--all"]).expect(0);
    site.run_once().expect(0);
    assert_eq!(given(&site), ids);
    assert_eq!(site.summary().documents, 1);
}
