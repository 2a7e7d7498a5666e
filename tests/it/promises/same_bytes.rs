//! What was checked is what is sent. Files that change in between: `drops/changed_files.rs`.

use passfort_ingest::sandbox::ApiCall;

use crate::support::{Builder, Format, Site, entry, image, padded, promise, sha256};

#[test]
fn the_bytes_of_each_type_and_size_arrive_as_they_were_dropped() {
    promise!("The bytes that were checked are the bytes that are sent.");
    let site = Site::new();
    let mut contents: Vec<Vec<u8>> =
        [Format::Png, Format::Jpeg, Format::Gif, Format::Pdf, Format::Tiff].map(|format| image(format, 1)).into();
    // Around the sizes of buffers, and those that Base64 pads.
    contents.extend([65_535, 65_536, 65_537, 1_000_003].map(|bytes| padded(2, bytes)));
    let documents: Vec<_> = (0..)
        .zip(&contents)
        .map(|(number, content)| {
            let name = format!("{number}.scan");
            site.put(&name, content);
            entry(&name, number, &name)
        })
        .collect();
    site.put_documents("a.manifest.json", &documents);
    site.run_once().expect(0);

    let mut dropped: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
    dropped.sort();
    assert_eq!(site.image_digests(), dropped);
    let receipt = site.receipt("a.manifest.json");
    for (entry, content) in receipt["entries"].as_array().unwrap().iter().zip(&contents) {
        assert_eq!(entry["images"][0]["sha256"], sha256(content), "{entry}");
    }
}

#[test]
fn an_image_that_changes_while_it_is_sent_is_never_used() {
    promise!("The bytes that were checked are the bytes that are sent.");
    let site = Builder { drop: "after_success = 'keep'".to_owned(), ..Builder::default() }.build();
    // Large and slow enough for a swap in the middle of sending.
    site.faults(&["upload_image=slow-body:8000000"]);
    let (one, other) = (padded(10, 3_000_000), padded(11, 3_000_000));
    site.put("0.png", &one);
    site.put_documents("a.manifest.json", &[entry("0", 0, "0.png")]);
    let mut daemon = site.daemon();
    daemon.wait_until("it is being sent", || !site.ledger().is_empty());
    // Swapped again and again, by content of the same length.
    let mut swaps = 0;
    daemon.wait_until("it is settled", || {
        site.put("0.png", if swaps % 2 == 0 { &other } else { &one });
        swaps += 1;
        site.is_settled("a.manifest.json")
    });
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    for call in site.calls(ApiCall::UploadImage).into_iter().filter(|call| call.committed) {
        assert_eq!(call.sha256.unwrap(), sha256(&one), "another content was taken by the API");
    }
    if receipt["status"] != "done" {
        assert_eq!(receipt["entries"][0]["errors"][0]["code"], "file-changed", "{receipt}");
        assert_eq!(site.summary().documents, 0);
    }
}
