//! What counts as the same content: everything that is sent, and for what an earlier release created, what that release
//! compared.

use passfort_ingest::sandbox::ApiCall;
use serde_json::{Value, json};

use crate::support::{Format, Site, entry, image, profile, promise, read_receipt};

const QUEUE: &str = include_str!("revision_3bb4540/queue.sql");
const MANIFEST: &str = include_str!("revision_3bb4540/a.manifest.json");
const FILES: [(&str, &[u8]); 3] = [
    ("front.png", include_bytes!("revision_3bb4540/front.png")),
    ("back.png", include_bytes!("revision_3bb4540/back.png")),
    ("17/PEP Declaration.pdf", include_bytes!("revision_3bb4540/pep.pdf")),
];

/// A site with the database of revision 3bb4540, which has imported `MANIFEST`, and the files that it names.
fn earlier_release() -> Site {
    let site = Site::new();
    rusqlite::Connection::open(site.at("state/queue.db")).unwrap().execute_batch(QUEUE).unwrap();
    for (path, content) in FILES {
        site.write(&format!("in/{path}"), content);
    }
    site
}

/// Imports a manifest of that site; gives the receipt's entries.
fn imported(site: &Site, name: &str, manifest: &str, code: i32) -> Vec<Value> {
    site.write(&format!("in/{name}"), manifest);
    site.run(&["import", &format!("in/{name}")]).expect(code);
    let receipt = read_receipt(&site.at(&format!("in/receipts/{name}.receipt.json")));
    receipt["entries"].as_array().unwrap().clone()
}

fn statuses(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["status"].as_str().unwrap()).collect()
}

#[test]
fn what_an_earlier_release_created_stays_a_duplicate() {
    promise!(
        "A document is created once, however often it is dropped and whatever fails: the process, the machine, the network or the API."
    );
    let site = earlier_release();
    let entries = imported(&site, "b.manifest.json", MANIFEST, 0);
    assert_eq!(statuses(&entries), ["duplicate"; 5]);
    assert_eq!(entries[0]["document_id"], "97653a07-a661-478a-bc79-adb43b66c31e");
    assert_eq!(entries[2]["file_id"], "17f29b50-4cbb-4b11-a03d-a65bb2c4c2e8");

    // That release did not compare the types of images and `extracted_data`.
    let other = MANIFEST.replace("\"FRONT\"", "\"FACE\"").replace("1.10", "2.20");
    assert_eq!(statuses(&imported(&site, "c.manifest.json", &other, 0)), ["duplicate"; 5]);
    assert!(site.ledger().iter().all(|call| call.operation == ApiCall::Whoami), "nothing was sent");

    // What it did compare makes another entry of it.
    let other = MANIFEST.replace("PASSPORT", "STATE_ID").replace("UTILITY_BILL", "TAX").replace("PEP.pdf", "X.pdf");
    let entries = imported(&site, "d.manifest.json", &other, 1);
    assert_eq!(statuses(&entries), ["failed", "created", "duplicate", "duplicate", "created"]);
    assert_eq!(statuses(&imported(&site, "e.manifest.json", &other, 1))[1], "duplicate");
}

fn with(field: &str, value: Value) -> Value {
    let mut document = entry("d", 1, "a.png");
    document[field] = value;
    document
}

#[test]
fn extracted_data_and_the_types_of_images_belong_to_the_content() {
    let site = Site::new();
    let deliver = |number: usize, document: Value| {
        let manifest = format!("{number}.manifest.json");
        site.put("a.png", image(Format::Png, 1));
        site.put_documents(&manifest, &[document]);
        site.run_once();
        let entry = site.receipt(&manifest)["entries"][0].clone();
        (entry["status"].as_str().unwrap().to_owned(), entry["errors"][0]["reason"].as_str().unwrap_or("").to_owned())
    };
    let status = |number, document| deliver(number, document).0;
    let first = with("extracted_data", json!({ "number": "X1", "of": "GB" }));
    assert_eq!(status(1, first.clone()), "created");
    assert_eq!(status(2, first.clone()), "duplicate");
    let (status_of_other, reason) = deliver(3, with("extracted_data", json!({ "number": "X2", "of": "GB" })));
    assert_eq!(status_of_other, "failed");
    assert!(reason.contains("the same reference with other content"), "{reason}");
    let mut back = first.clone();
    back["images"][0]["image_type"] = "BACK".into();
    assert_eq!(status(4, back.clone()), "failed");

    // A correction says so.
    back["replace"] = true.into();
    assert_eq!(status(5, back.clone()), "created");

    // Without a reference, another content is another entry.
    for (number, mut document, wanted) in [(6, first.clone(), "created"), (7, back, "created"), (8, first, "duplicate")]
    {
        document.as_object_mut().unwrap().remove("reference");
        document.as_object_mut().unwrap().remove("replace");
        assert_eq!(status(number, document), wanted, "{number}");
    }
    assert_eq!(site.summary().documents, 4);
}

#[test]
fn extracted_data_arrives_digit_for_digit() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let data = r#"{"number": 123456789012345678901234, "amount":1.10 ,"far": [1e300, -0.0], "A": "\u0041"}"#;
    let document = entry("d", 1, "a.png").to_string();
    let body = document.strip_suffix('}').unwrap();
    site.put("a.manifest.json", format!("{{\"version\":1,\"documents\":[{body},\"extracted_data\": {data} }}]}}"));
    site.run_once().expect(0);
    let read = site.get_text(&format!("/profiles/{}/collected_data", profile(1)));
    assert!(read.contains(data), "{read}");

    // White space and the order of fields change nothing, and how a number is written does.
    let other = r#"{ "A":"A", "far":[1e300,-0.0], "amount": 1.10, "number":123456789012345678901234}"#;
    for (name, data, status) in [("b", other.to_owned(), "duplicate"), ("c", other.replace("1.10", "1.1"), "failed")] {
        let manifest = format!("{name}.manifest.jsonl");
        site.put("a.png", image(Format::Png, 1));
        site.put(&manifest, format!("{body},\"extracted_data\":{data}}}\n"));
        site.run_once();
        assert_eq!(site.receipt(&manifest)["entries"][0]["status"], status, "{name}");
    }
}

#[test]
fn a_file_without_a_name_is_sent_under_its_own() {
    let site = Site::new();
    site.put("17/PEP Declaration.pdf", image(Format::Pdf, 1));
    let file = json!({ "profile_id": profile(1), "reference": "f", "path": "17/PEP Declaration.pdf" });
    site.put("a.manifest.jsonl", file.to_string());
    site.run_once().expect(0);
    let call = &site.calls(ApiCall::UploadFile)[0];
    assert_eq!(call.name.as_deref(), Some("PEP Declaration.pdf"));
}

#[test]
fn replace_needs_a_reference() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let mut document = with("replace", true.into());
    document.as_object_mut().unwrap().remove("reference");
    site.put_documents("a.manifest.json", &[document]);
    site.put("b.manifest.csv", format!("profile_id,path,replace\n{},a.png,true\n", profile(1)));
    site.run_once().expect(1);
    for manifest in ["a.manifest.json", "b.manifest.csv"] {
        let entry = &site.receipt(manifest)["entries"][0];
        assert_eq!((&entry["status"], &entry["errors"][0]["field"]), (&"invalid".into(), &"replace".into()), "{entry}");
    }
    assert_eq!(site.summary().images, 0);
}
