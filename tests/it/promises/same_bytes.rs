//! What was checked is what is sent. Files that change in between: `drops/changed_files.rs`.

use passfort_ingest::sandbox::ApiCall;

use crate::support::{Format, Site, entry, image, padded, promise, sha256};

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
    let (site, mut daemon) = Site::taken_in();
    // Large and slow enough for a swap in the middle of sending.
    site.faults(&["upload_image=slow-body:8000000"]);
    let (one, other) = (padded(10, 3_000_000), padded(11, 3_000_000));
    site.put("0.png", &one);
    site.run(&["resume"]).expect(0);
    // Swapped again and again, by content of the same length, until both documents are there.
    let mut swaps = 0;
    daemon.wait_until("it is sent in the end", || {
        if swaps < 40 {
            site.put("0.png", if swaps % 2 == 0 { &other } else { &one });
            swaps += 1;
        }
        site.is_settled("a.manifest.json")
    });
    daemon.terminate().expect(0);
    let receipt = site.receipt("a.manifest.json");
    let named = receipt["entries"][0]["images"][0]["sha256"].as_str().unwrap().to_owned();
    assert!(named == sha256(&one) || named == sha256(&other), "{receipt}");
    assert!(site.image_digests().contains(&named), "the receipt names what is there: {receipt}");
    for call in site.calls(ApiCall::UploadImage).into_iter().filter(|call| call.committed) {
        let digest = call.sha256.unwrap();
        let whole = [&one, &other, &image(Format::Png, 0), &image(Format::Png, 1)]
            .into_iter()
            .any(|content| sha256(content) == digest);
        assert!(whole, "a mixture of two contents was taken by the API");
    }
}
