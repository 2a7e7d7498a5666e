//! Manifests of each format: what is dropped is created, the receipt says so, and the files are archived.

use passfort_ingest::sandbox::ApiCall;
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile, sha256};

#[test]
fn a_json_manifest_becomes_what_its_receipt_says() {
    let site = Site::new();
    let (front, face, pep) = (image(Format::Jpeg, 1), image(Format::Png, 2), image(Format::Pdf, 3));
    site.put("17/front.jpg", &front);
    site.put("17/face.png", &face);
    site.put("17/pep.pdf", &pep);
    let manifest = json!({
        "version": 1,
        "profile_id": profile(17),
        "documents": [{
            "reference": "customer-17/passport",
            "category": "PROOF_OF_IDENTITY",
            "document_type": "PASSPORT",
            "images": [
                { "path": "17/front.jpg", "image_type": "FRONT", "sha256": sha256(&front), "bytes": front.len() },
                { "path": "17/face.png", "image_type": "FACE" },
            ],
        }],
        "files": [{ "reference": "customer-17/pep", "path": "17/pep.pdf", "name": "PEP Declaration Form.pdf" }],
    })
    .to_string();
    site.put("batch-7.manifest.json", &manifest);

    site.run_once().expect(0);

    let documents = site.documents();
    assert_eq!(documents.len(), 1);
    let document = &documents[0];
    assert_eq!(document.profile, profile(17));
    assert_eq!((document.category.as_str(), document.document_type.as_str()), ("PROOF_OF_IDENTITY", "PASSPORT"));
    let sent: Vec<(String, u64)> = document.images.iter().map(|image| (image.sha256.clone(), image.bytes)).collect();
    assert_eq!(sent, [(sha256(&front), front.len() as u64), (sha256(&face), face.len() as u64)]);
    let file = &site.calls(ApiCall::UploadFile)[0];
    assert_eq!(file.name.as_deref(), Some("PEP Declaration Form.pdf"));

    let mut receipt = site.receipt("batch-7.manifest.json");
    for field in ["received_at", "finished_at"] {
        let at = receipt[field].take();
        let shape: String = at.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "9999-99-99T99:99:99Z", "{field}");
    }
    let image_receipt = |at: usize, path: &str, image_type: &str, content: &[u8]| {
        json!({
            "path": path, "image_type": image_type, "image_id": document.images[at].id,
            "sha256": sha256(content), "bytes": content.len(),
        })
    };
    let expected = json!({
        "version": 1,
        "manifest": "batch-7.manifest.json",
        "manifest_sha256": sha256(manifest.as_bytes()),
        "drop": "partner",
        "status": "done",
        "received_at": null,
        "finished_at": null,
        "counts": { "entries": 2, "created": 2, "duplicate": 0, "failed": 0, "cancelled": 0, "invalid": 0 },
        "entries": [
            {
                "index": 0, "kind": "document", "reference": "customer-17/passport", "profile_id": profile(17),
                "status": "created", "document_id": document.id,
                "images": [
                    image_receipt(0, "17/front.jpg", "FRONT", &front), image_receipt(1, "17/face.png", "FACE", &face),
                ],
            },
            {
                "index": 1, "kind": "file", "reference": "customer-17/pep", "profile_id": profile(17),
                "status": "created", "file_id": file.id, "path": "17/pep.pdf", "sha256": sha256(&pep),
                "bytes": pep.len(),
            },
        ],
    });
    assert_promised(&receipt, &expected, "receipt");

    assert_eq!(
        site.moved_to("done"),
        ["17/face.png", "17/front.jpg", "17/pep.pdf", "batch-7.manifest.json"],
        "the files are put away"
    );
    assert_eq!(site.left(), Vec::<String>::new());
}

/// Every promised field stands there with its value; further fields may.
fn assert_promised(found: &Value, promised: &Value, at: &str) {
    match promised {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_promised(&found[name], value, &format!("{at}.{name}"));
            }
        }
        Value::Array(items) => {
            assert_eq!(found.as_array().map(Vec::len), Some(items.len()), "{at}");
            for (index, item) in items.iter().enumerate() {
                assert_promised(&found[index], item, &format!("{at}[{index}]"));
            }
        }
        _ => assert_eq!(found, promised, "{at}"),
    }
}

#[test]
fn every_accepted_type_is_taken() {
    let site = Site::new();
    let formats = [
        (Format::Png, "a.png", "PNG"),
        (Format::Jpeg, "b.jpg", "JPG"),
        (Format::Gif, "c.gif", "GIF"),
        (Format::Pdf, "d.pdf", "PDF"),
        (Format::Tiff, "e.tiff", "TIFF"),
    ];
    let mut images = Vec::new();
    for (number, (format, name, _)) in (0..).zip(formats) {
        site.put(name, image(format, number));
        images.push(json!({ "path": name }));
    }
    let mut document = entry("all", 1, "a.png");
    document["images"] = json!(images);
    site.put_documents("all.manifest.json", &[document]);

    site.run_once().expect(0);

    let mut sent: Vec<String> = site.calls(ApiCall::UploadImage).into_iter().filter_map(|call| call.format).collect();
    sent.sort();
    let mut expected = formats.map(|(_, _, word)| word);
    expected.sort_unstable();
    assert_eq!(sent, expected);
    let in_order: Vec<String> = site.documents()[0].images.iter().map(|image| image.sha256.clone()).collect();
    let named: Vec<String> = (0..).zip(formats).map(|(number, (format, ..))| sha256(&image(format, number))).collect();
    assert_eq!(in_order, named, "the document has its images in the manifest's order");
}

#[test]
fn json_lines_are_taken_one_entry_a_line() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    let file = json!({ "reference": "f", "profile_id": profile(2), "path": "b.png", "name": "b" });
    site.put("lines.manifest.jsonl", format!("{}\n{file}\n", entry("d", 1, "a.png")));

    site.run_once().expect(0);

    let receipt = site.receipt("lines.manifest.jsonl");
    assert_eq!(receipt["counts"]["created"], 2);
    assert_eq!(receipt["entries"][0]["kind"], "document");
    assert_eq!(receipt["entries"][1]["kind"], "file");
    let summary = site.summary();
    assert_eq!((summary.documents, summary.images, summary.files), (1, 1, 1));
}

#[test]
fn csv_is_taken_with_each_separator_and_with_or_without_a_mark() {
    for (separator, mark) in [(',', ""), (';', "\u{FEFF}"), ('\t', "")] {
        let site = Site::new();
        for (number, name) in (1..).zip(["front.png", "back.png", "form.png"]) {
            site.put(name, image(Format::Png, number));
        }
        // The columns stand in another order than in the documentation, and some are left out.
        let rows = [
            "path,profile_id,reference,category,document_type,image_type,name".to_owned(),
            format!("front.png,{},d,PROOF_OF_IDENTITY,STATE_ID,FRONT,", profile(1)),
            format!("back.png,{},d,PROOF_OF_IDENTITY,STATE_ID,BACK,", profile(1)),
            format!("form.png,{},f,,,,A form.png", profile(2)),
        ];
        let csv = rows.join("\n").replace(',', &separator.to_string());
        site.put("rows.manifest.csv", format!("{mark}{csv}\n"));

        site.run_once().expect(0);

        let receipt = site.receipt("rows.manifest.csv");
        assert_eq!(receipt["status"], "done", "{separator:?}: {receipt}");
        assert_eq!(receipt["counts"]["entries"], 2, "rows of one reference make one document: {receipt}");
        let documents = site.documents();
        let types: Vec<_> =
            documents[0].images.iter().map(|image| image.image_type.map(|word| word.as_str())).collect();
        assert_eq!(types, [Some("FRONT"), Some("BACK")], "in the order of the rows");
        let file = &site.calls(ApiCall::UploadFile)[0];
        assert_eq!((file.name.as_deref(), file.profile.clone()), (Some("A form.png"), Some(profile(2))));
    }
}

#[test]
fn the_profile_of_an_entry_wins_over_that_of_the_manifest_in_any_case_of_letters() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    site.put("b.png", image(Format::Png, 2));
    let mut above = entry("above", 0, "a.png");
    above.as_object_mut().unwrap().remove("profile_id");
    let own = entry("own", 2, "b.png");
    let manifest = json!({ "version": 1, "profile_id": profile(0xAB).to_uppercase(), "documents": [above, own] });
    site.put("p.manifest.json", manifest.to_string());

    site.run_once().expect(0);

    let mut profiles: Vec<String> = site.documents().into_iter().map(|document| document.profile).collect();
    profiles.sort();
    assert_eq!(profiles, [profile(2), profile(0xAB)]);
}

#[test]
fn an_image_type_that_is_not_given_is_not_sent() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let mut document = entry("d", 1, "a.png");
    document["images"] = json!([{ "path": "a.png" }]);
    site.put_documents("a.manifest.json", &[document]);

    site.run_once().expect(0);

    // The stand-in refuses anything but a known word, an empty one or null included.
    let call = &site.calls(ApiCall::UploadImage)[0];
    assert_eq!((call.image_type.clone(), call.status), (None, Some(200)));
}

#[test]
fn extracted_data_is_passed_on_and_errors_inside_it_are_data() {
    let site = Site::new();
    site.put("a.png", image(Format::Png, 1));
    let data = json!({ "number": "X1", "nested": { "errors": [{ "code": 201 }] }, "errors": ["none"] });
    let mut document = entry("d", 1, "a.png");
    document["extracted_data"] = data.clone();
    site.put_documents("a.manifest.json", &[document]);

    site.run_once().expect(0);

    let read = site.get(&format!("/profiles/{}/collected_data", profile(1)));
    assert_eq!(read["documents"][0]["extracted_data"], data);
    assert_eq!(site.receipt("a.manifest.json")["status"], "done");
}

#[test]
fn a_manifest_in_a_folder_names_files_beside_it() {
    let site = Site::new();
    site.put("in/deep/scan.png", image(Format::Png, 1));
    site.put_documents("in/deep/a.manifest.json", &[entry("d", 1, "scan.png")]);

    site.run_once().expect(0);

    assert_eq!(site.receipt("in/deep/a.manifest.json")["manifest"], "in/deep/a.manifest.json");
    assert_eq!(site.moved_to("done"), ["in/deep/a.manifest.json", "in/deep/scan.png"]);
}

#[test]
fn files_are_kept_or_deleted_as_asked() {
    for (policy, left) in [("keep", vec!["a.manifest.json", "a.png"]), ("delete", Vec::new())] {
        let site = Builder { drop: format!("after_success = '{policy}'"), ..Builder::default() }.build();
        site.put("a.png", image(Format::Png, 1));
        site.put_documents("a.manifest.json", &[entry("d", 1, "a.png")]);

        site.run_once().expect(0);
        assert_eq!(site.receipt("a.manifest.json")["status"], "done");
        assert_eq!(site.left(), left, "{policy}");

        // What is kept is not taken for new.
        site.run_once().expect(0);
        assert_eq!(site.receipt_paths("a.manifest.json").len(), 1, "{policy}");
        assert_eq!(site.summary().documents, 1, "{policy}");
    }
}

#[test]
fn a_manifest_counts_only_once_its_marker_is_there() {
    let site = Builder { drop: "done_marker = '.done'".to_owned(), ..Builder::default() }.build();
    site.put("a.png", image(Format::Png, 1));
    site.put_documents("a.manifest.json", &[entry("d", 1, "a.png")]);
    site.run_once();
    assert_eq!(site.summary().images, 0, "without its marker it is not looked at");

    site.put("a.manifest.json.done", "");
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 1);
    assert_eq!(site.moved_to("done")[..1], ["a.manifest.json"]);
}

#[test]
fn content_goes_as_a_data_uri_where_asked() {
    let site = Builder { api: "data_uri = true".to_owned(), ..Builder::default() }.build();
    let content = image(Format::Png, 1);
    site.put("a.png", &content);
    site.put_documents("a.manifest.json", &[entry("d", 1, "a.png")]);

    site.run_once().expect(0);

    let call = &site.calls(ApiCall::UploadImage)[0];
    assert_eq!(call.sha256.clone(), Some(sha256(&content)));
    let bare = content.len().div_ceil(3) * 4 + r#"{"data":"","image_type":"FRONT"}"#.len();
    assert_eq!(call.request_bytes, (bare + "data:image/png;base64,".len()) as u64);
}

#[test]
fn the_daemon_takes_what_comes_while_it_runs() {
    let site = Site::new();
    let mut daemon = site.daemon();
    for number in 0..3 {
        let (picture, manifest) = (format!("{number}.png"), format!("{number}.manifest.json"));
        site.put(&picture, image(Format::Png, number));
        site.put_documents(&manifest, &[entry(&picture, number, &picture)]);
        daemon.wait_until("the receipt", || site.is_settled(&manifest));
        assert_eq!(site.receipt(&manifest)["status"], "done");
    }
    daemon.wait_until("the files are put away", || site.left().is_empty());
    daemon.terminate().expect(0);
    assert_eq!(site.summary().documents, 3);
}
