//! A document whose answer was lost is sent again only where its absence is proven; every odd list, late deed and
//! half-hearted error leaves one document, found or held.

use passfort_ingest::sandbox::{ApiCall, ImageIds, Options};
use serde_json::Value;

use crate::support::{Builder, Format, Site, entry, image};

/// One whose doubts come to an end soon.
fn site() -> Site {
    Builder { retry: "max = '300ms'".to_owned(), api: "response_timeout = '500ms'".to_owned(), ..Builder::default() }
        .build()
}

/// Drops a document of one image, of its own, for this customer.
fn drop_document(site: &Site, reference: &str, customer: u32) {
    let number = 1000 + reference.bytes().fold(customer * 31, |sum, byte| sum * 7 % 5003 + u32::from(byte));
    site.put(&format!("{reference}.png"), image(Format::Png, number));
    site.put_documents(
        &format!("{reference}.manifest.json"),
        &[entry(reference, customer, &format!("{reference}.png"))],
    );
}

/// A rule about the profile of this customer.
fn rule(operation: &str, fault: &str, customer: u32) -> String {
    format!("{operation}={fault},profile={}", crate::support::profile(customer))
}

fn creations(site: &Site) -> usize {
    site.calls(ApiCall::CreateDocument).len()
}

fn assert_none_doubled(site: &Site) {
    let summary = site.summary();
    assert_eq!((summary.doubled, summary.doubled_ids), (0, 0), "{summary}");
}

#[test]
fn an_odd_list_proves_nothing_and_what_it_shows_is_found() {
    let odd = [
        "page-next",
        "page-total",
        "page-link",
        "page-count",
        "empty",
        "null",
        "renamed",
        "wrapped",
        "no-images",
        "image-more",
        "image-less",
        "unreadable",
        "foreign",
    ];
    let spelled = ["image-id", "urn", "no-dashes", "upper-case"];
    let site = site();
    let customers = || (0_u32..).zip(odd.iter().chain(&spelled));
    for (customer, _) in customers() {
        drop_document(&site, &format!("first-{customer}"), customer);
    }
    site.run_once().expect(0);
    let before = creations(&site);

    let rules: Vec<String> = customers()
        .flat_map(|(customer, shape)| {
            [
                rule("create_document", "lost,nth=1", customer),
                rule("read_documents", &format!("list:{shape}"), customer),
            ]
        })
        .collect();
    site.faults(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for (customer, _) in customers() {
        drop_document(&site, &format!("second-{customer}"), customer);
    }
    site.run_once().expect(3);
    assert_none_doubled(&site);
    assert_eq!(creations(&site) - before, odd.len() + spelled.len(), "nothing is sent again on such a list");
    let held = site.jobs("held");
    for (customer, shape) in customers() {
        let reference = format!("second-{customer}");
        let job = held.iter().find(|job| job["reference"] == reference.as_str());
        if spelled.contains(shape) {
            assert!(job.is_none(), "{shape}: {job:?}");
        }
        if let Some(job) = job {
            assert!(job["reason"].as_str().unwrap().contains("release"), "{shape}: the cure is said: {job}");
        }
    }
    for shape in ["empty", "null", "renamed", "wrapped", "no-images", "image-less", "foreign"] {
        let customer = customers().find(|(_, other)| **other == shape).unwrap().0;
        assert!(
            held.iter().any(|job| job["reference"] == format!("second-{customer}").as_str()),
            "{shape} is doubtful"
        );
    }

    // Once the list is as it should be, each of them is found.
    site.faults(&[]);
    site.run(&["retry", "--state", "held"]).expect(0);
    site.run_once().expect(0);
    assert_none_doubled(&site);
    assert_eq!(creations(&site) - before, odd.len() + spelled.len());
}

#[test]
fn what_is_carried_out_late_within_the_bound_is_found() {
    let site = site();
    site.faults(&[
        &rule("create_document", "late:1200ms,nth=1", 1),
        &rule("create_document", "late:1200ms/503,nth=1", 2),
        &rule("create_document", "errors200-after:301,nth=1", 3),
        &rule("create_document", "errors200-after:999,nth=1", 4),
        &rule("create_document", "errors-id:400/201,nth=1", 5),
        &rule("create_document", "errors-id:200/201,nth=1", 6),
    ]);
    for customer in 1..=6 {
        drop_document(&site, &format!("late-{customer}"), customer);
    }
    site.run_once().expect(0);
    assert_none_doubled(&site);
    assert_eq!((site.summary().documents, creations(&site)), (6, 6));
}

#[test]
fn a_document_that_no_other_speaks_for_is_held_until_one_is_there() {
    let site = site();
    site.faults(&["create_document=hang,nth=1"]);
    drop_document(&site, "alone", 1);
    site.run_once().expect(3);
    let held = site.jobs("held");
    let reason = held[0]["reason"].as_str().unwrap();
    assert!(reason.contains("no document of this account") && reason.contains("retry"), "{reason}");
    assert_eq!(creations(&site), 1);

    drop_document(&site, "another", 2);
    site.run_once().expect(3);
    site.run(&["retry", "--state", "held"]).expect(0);
    site.run_once().expect(0);
    assert_eq!((site.summary().documents, creations(&site)), (2, 3));
    assert_none_doubled(&site);
}

#[test]
fn a_held_document_that_is_cancelled_and_dropped_again_is_looked_for_first() {
    let site = site();
    drop_document(&site, "first", 1);
    site.run_once().expect(0);
    site.faults(&["create_document=lost,nth=1", "read_documents=list:wrapped"]);
    drop_document(&site, "doubt", 1);
    site.run_once().expect(3);
    site.run(&["cancel", "--state", "held"]).expect(0);
    site.run_once().expect(1);
    site.faults(&[]);
    let known = site.receipt_paths("doubt.manifest.json");
    drop_document(&site, "doubt", 1);
    site.run_once().expect(0);
    let receipt: Value = site.newer_receipt("doubt.manifest.json", &known);
    assert_eq!(receipt["entries"][0]["status"], "created", "{receipt}");
    assert_eq!((site.summary().documents, creations(&site)), (2, 2));
    assert_none_doubled(&site);
}

#[test]
fn another_entrys_document_is_not_adopted_where_images_share_an_id() {
    let sandbox = Options { image_ids: ImageIds::ByContent, ..Options::default() };
    let site = Builder {
        sandbox,
        retry: "max = '300ms'".to_owned(),
        api: "response_timeout = '500ms'".to_owned(),
        ..Builder::default()
    }
    .build();
    let drop_equal = |reference: &str| {
        site.put(&format!("{reference}.png"), image(Format::Png, 1));
        site.put_documents(&format!("{reference}.manifest.json"), &[entry(reference, 1, &format!("{reference}.png"))]);
    };
    drop_equal("one");
    site.run_once().expect(0);
    site.faults(&["create_document=hang,nth=1"]);
    drop_equal("two");
    site.run_once().expect(0);
    let id = |manifest: &str| site.receipt(manifest)["entries"][0]["document_id"].clone();
    assert_ne!(id("one.manifest.json"), id("two.manifest.json"), "each has its own");
    assert_eq!((site.summary().documents, creations(&site)), (2, 3));
}
