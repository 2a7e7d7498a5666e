//! The largest image: exactly so many bytes are taken, one more is refused before anything is sent.

use passfort_ingest::sandbox::{ApiCall, Options};

use crate::support::{Builder, Format, Site, entry, image, padded, sha256};

const LIMIT: usize = 300_000;

fn site() -> Site {
    Builder {
        sandbox: Options { max_image_bytes: LIMIT as u64, ..Options::default() },
        api: format!("max_image_bytes = {LIMIT}"),
        ..Builder::default()
    }
    .build()
}

#[test]
fn exactly_the_limit_is_taken_and_one_byte_more_is_refused() {
    let site = site();
    let exact = padded(1, LIMIT);
    site.put("exact.pdf", &exact);
    site.put("over.pdf", padded(2, LIMIT + 1));
    site.put_documents("a.manifest.json", &[entry("exact", 1, "exact.pdf"), entry("over", 2, "over.pdf")]);
    site.run_once().expect(1);

    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
    assert_eq!(receipt["entries"][0]["images"][0]["bytes"], LIMIT);
    let error = &receipt["entries"][1]["errors"][0];
    assert_eq!(error["path"], "over.pdf", "{receipt}");
    let reason = error["reason"].as_str().unwrap().replace([',', '_', ' '], "");
    assert!(reason.contains("300000") || reason.contains("300001"), "the limit or the size is named: {receipt}");
    assert!(error["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{receipt}");
    let calls = site.calls(ApiCall::UploadImage);
    assert_eq!(calls.len(), 1, "what is too large is not even sent");
    assert_eq!(calls[0].sha256.clone(), Some(sha256(&exact)));
}

#[test]
fn the_limit_holds_for_files_too() {
    let site = site();
    site.put("over.pdf", padded(1, LIMIT + 1));
    let manifest = serde_json::json!({
        "version": 1, "files": [{ "profile_id": crate::support::profile(1), "path": "over.pdf" }],
    });
    site.put("a.manifest.json", manifest.to_string());
    site.run_once().expect(1);
    assert!(site.ledger().is_empty());
    assert_eq!(site.receipt("a.manifest.json")["entries"][0]["errors"][0]["path"], "over.pdf");
}

#[test]
fn a_413_while_the_body_still_goes_out_is_a_refusal() {
    let site = Site::with_faults(&["upload_image=early:413,nth=1"]);
    // More than sockets swallow, so that the answer comes in the middle of the body.
    site.put("large.pdf", padded(1, 12_000_000));
    site.put_documents("a.manifest.json", &[entry("large", 1, "large.pdf")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["entries"][0]["status"], "failed", "{receipt}");
    assert!(receipt["entries"][0]["errors"][0]["reason"].to_string().contains("refused"), "{receipt}");
    assert_eq!(site.calls(ApiCall::UploadImage).len(), 1, "it is not sent again and again");

    site.put("small.png", image(Format::Png, 2));
    site.put_documents("b.manifest.json", &[entry("small", 1, "small.png")]);
    site.run_once().expect(0);
}

#[test]
fn images_larger_than_the_memory_for_bodies_go_one_by_one() {
    let site = Builder { more: "[workers]\nmemory_limit = '1MiB'".to_owned(), ..Builder::default() }.build();
    let documents = [1, 2, 3].map(|number| {
        let name = format!("{number}.pdf");
        site.put(&name, padded(number, 3_000_000));
        entry(&name, number, &name)
    });
    site.put_documents("a.manifest.json", &documents);
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
}

/// The receipt did not name the status, on which the comment at `max_image_bytes` tells people to act.
#[test]
fn a_413_is_named_in_the_receipt() {
    let site = Site::with_faults(&["upload_image=early:413,nth=1"]);
    site.put("large.pdf", padded(1, 1_000_000));
    site.put_documents("a.manifest.json", &[entry("large", 1, "large.pdf")]);
    site.run_once().expect(1);
    let receipt = site.receipt("a.manifest.json");
    assert!(receipt["entries"][0]["errors"].to_string().contains("413"), "{receipt}");
}
