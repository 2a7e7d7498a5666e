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
    // Its list shows that lists are complete.
    site.put("other.png", image(Format::Png, 9));
    site.put_documents("other.manifest.json", &[entry("other", 9, "other.png")]);
    site.run_once().expect(0);
    drop_document(&site);
    site.run_once_killed_at("before.call.create_document");
    let all = given(&site);
    let mut ids = all[1..].to_vec();
    assert_eq!(ids.len(), 2);
    site.run_once().expect(0);
    assert_eq!(given(&site), all, "none is sent again");
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

/// The same images were sent again with the corrected manifest, and those of the refused one were left over.
#[test]
fn images_of_a_refused_document_are_used_by_a_later_manifest_and_by_one_document_only() {
    promise!("An image or a file whose ID is known is never sent again.");
    let site = Site::with_faults(&["create_document=status-before:422,nth=1"]);
    drop_document(&site);
    site.run_once().expect(1);
    let ids = given(&site);
    assert_eq!(ids.len(), 2);

    // Corrected, under a reference of its own: the first entry could be sent as well.
    for (name, number) in [("front.png", 1), ("back.png", 2)] {
        site.put(name, image(Format::Png, number));
    }
    let mut document = entry("b", 1, "front.png");
    document["document_type"] = "DRIVING_LICENCE".into();
    document["images"] = json!([{ "path": "front.png", "image_type": "FRONT" }, { "path": "back.png" }]);
    site.put_documents("b.manifest.json", &[document]);
    site.run_once().expect(0);
    assert_eq!(given(&site), ids, "none is sent again");
    let used = |receipt: serde_json::Value| {
        let images = receipt["entries"][0]["images"].as_array().unwrap().clone();
        images.into_iter().map(|image| image["image_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let second = used(site.receipt("b.manifest.json"));
    assert_eq!(second.iter().collect::<std::collections::BTreeSet<_>>(), ids.iter().collect());

    // The IDs belong to that document: the first entry's retry sends its images.
    let known = site.receipt_paths("a.manifest.json");
    site.run(&["retry", "1"]).expect(0);
    site.run_once().expect(0);
    let first = used(site.newer_receipt("a.manifest.json", &known));
    assert!(first.iter().all(|id| !ids.contains(id)), "{first:?} and {ids:?}");
    assert_eq!((given(&site).len(), site.summary().documents), (4, 2));
}

#[test]
fn images_of_another_type_or_profile_and_those_of_a_document_in_doubt_are_sent() {
    let site = Site::with_faults(&["create_document=status-before:422,nth=1"]);
    drop_document(&site);
    site.run_once().expect(1);
    let sent = given(&site).len();
    for (number, profile, image_type) in [(1, 2, Some("FRONT")), (2, 1, Some("BACK")), (3, 1, None)] {
        let name = format!("{number}.png");
        site.put(&name, image(Format::Png, 1));
        let mut document = entry(&name, profile, &name);
        document["images"][0]["image_type"] = image_type.into();
        if image_type.is_none() {
            document["images"][0].as_object_mut().unwrap().remove("image_type");
        }
        site.put_documents(&format!("{number}.manifest.json"), &[document]);
    }
    site.run_once().expect(0);
    assert_eq!(given(&site).len(), sent + 3);
}
