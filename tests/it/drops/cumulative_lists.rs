//! Lists that grow by the day: what was created before needs no file, and is not waited for.

use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, sha256};

const MANIFEST: &str = "all.manifest.json";

/// A document of one image, all of whose names follow from the day.
fn day(number: u32) -> Value {
    entry(&format!("day{number}"), number, &format!("day{number}.png"))
}

/// A site on whose first day the first row was created.
fn on_the_second_day(drop: &str) -> (Site, Value) {
    let site = Builder { drop: drop.to_owned(), ..Builder::default() }.build();
    site.put("day1.png", image(Format::Png, 1));
    site.put_documents(MANIFEST, &[day(1)]);
    site.run_once().expect(0);
    let id = site.receipt(MANIFEST)["entries"][0]["document_id"].clone();
    site.put("day2.png", image(Format::Png, 2));
    (site, id)
}

/// The receipt of the second day's list.
fn second(site: &Site, documents: &[Value], code: i32) -> Value {
    let known = site.receipt_paths(MANIFEST);
    site.put_documents(MANIFEST, documents);
    site.run_once().expect(code);
    site.newer_receipt(MANIFEST, &known)
}

#[test]
fn yesterdays_rows_are_duplicates_without_their_files() {
    for drop in ["", "after_success = 'delete'"] {
        let (site, id) = on_the_second_day(drop);
        let receipt = second(&site, &[day(1), day(2)], 0);
        assert_eq!(receipt["status"], "done", "{receipt}");
        let row = &receipt["entries"][0];
        assert_eq!((&row["status"], &row["document_id"]), (&json!("duplicate"), &id));
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.starts_with("created before by job 1; its file is now "), "{reason}");
        assert!(reason.contains(if drop.is_empty() { "/done/" } else { "deleted" }), "{reason}");
        assert_eq!(receipt["entries"][1]["status"], "created");
        assert_eq!(site.summary().documents, 2);
        assert_eq!(site.left(), Vec::<String>::new());
    }
}

/// A random day refused such a row: a kill came after the taking, then its file.
#[test]
fn a_file_that_comes_after_its_old_row_was_taken_changes_nothing() {
    let (site, id) = on_the_second_day("");
    let known = site.receipt_paths(MANIFEST);
    site.put_documents(MANIFEST, &[day(1), day(2)]);
    site.run_once_killed_at("after.take.sync");
    site.put("day1.png", image(Format::Png, 1));
    site.run_once().expect(0);
    let row = &site.newer_receipt(MANIFEST, &known)["entries"][0];
    assert_eq!((&row["status"], &row["document_id"]), (&json!("duplicate"), &id));
}

#[test]
fn what_a_row_declares_decides_where_its_file_is_not_there() {
    let digest = |number| sha256(&image(Format::Png, number));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut row = day(1);
        change(&mut row);
        row
    };
    let cases = [
        ("another path", with(&|row| row["images"][0]["path"] = json!("old/day1.png")), None),
        ("its digest", with(&|row| row["images"][0]["sha256"] = json!(digest(1))), None),
        ("another digest", with(&|row| row["images"][0]["sha256"] = json!(digest(3))), Some("sha256")),
        ("another size", with(&|row| row["images"][0]["bytes"] = json!(7)), Some("bytes")),
        ("another profile", with(&|row| row["profile_id"] = day(9)["profile_id"].clone()), Some("profile_id")),
        ("another type", with(&|row| row["document_type"] = json!("VISA")), Some("document_type")),
        ("another side", with(&|row| row["images"][0]["image_type"] = json!("BACK")), Some("image_type")),
        ("more data", with(&|row| row["extracted_data"] = json!({ "number": "1" })), Some("extracted_data")),
        (
            "one more image",
            with(&|row| row["images"] = json!([{ "path": "day1.png", "image_type": "FRONT" }, { "path": "b.png" }])),
            Some("images"),
        ),
    ];
    let (site, id) = on_the_second_day("");
    for (what, row, differs) in cases {
        let receipt = second(&site, &[row], i32::from(differs.is_some()));
        let row = &receipt["entries"][0];
        match differs {
            None => assert_eq!((&row["status"], &row["document_id"]), (&json!("duplicate"), &id), "{what}: {receipt}"),
            Some(field) => {
                assert_eq!(row["status"], "failed", "{what}: {receipt}");
                let reason = row["errors"][0]["reason"].as_str().unwrap();
                assert!(reason.contains("job 1") && reason.contains(field), "{what}: {reason}");
            }
        }
    }
    assert_eq!(site.summary().documents, 1);
}

#[test]
fn a_row_that_replaces_waits_for_its_file() {
    let (site, _) = on_the_second_day("");
    let mut row = day(1);
    (row["replace"], row["document_type"]) = (json!(true), json!("VISA"));
    site.put_documents(MANIFEST, &[row]);
    site.run_once().expect(3);
    site.put("day1.png", image(Format::Png, 1));
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 2);
}

#[test]
fn where_the_file_is_there_its_content_decides_and_it_is_put_away() {
    for (number, status) in [(1, "duplicate"), (7, "failed")] {
        let (site, _) = on_the_second_day("");
        site.put("day1.png", image(Format::Png, number));
        let receipt = second(&site, &[day(1), day(2)], i32::from(number != 1));
        assert_eq!(receipt["entries"][0]["status"], status, "{receipt}");
        assert_eq!(receipt["entries"][1]["status"], "created");
        assert_eq!(site.left(), Vec::<String>::new());
    }
}

#[test]
fn an_old_row_leaves_a_file_to_the_manifest_that_needs_it() {
    let site = Site::new();
    site.put("front.png", image(Format::Png, 1));
    site.put_documents(MANIFEST, &[entry("day1", 1, "front.png")]);
    site.run_once().expect(0);
    // The list is there first, and its old row names what the next customer's picture is called.
    site.put_documents(MANIFEST, &[entry("day1", 1, "front.png"), day(2)]);
    site.run_once().expect(3);
    site.put("front.png", image(Format::Png, 5));
    site.put_documents("next.manifest.json", &[entry("next", 5, "front.png")]);
    site.run_once().expect(3);
    assert_eq!(site.receipt("next.manifest.json")["status"], "done");
    site.put("day2.png", image(Format::Png, 2));
    site.run_once().expect(0);
    assert_eq!(site.summary().documents, 3);
}

#[test]
fn an_import_does_the_same() {
    let site = Site::new();
    let import = |documents: &[Value]| {
        site.write("in/all.manifest.json", json!({ "version": 1, "documents": documents }).to_string());
        site.run(&["import", site.at("in").to_str().unwrap()])
    };
    site.write("in/day1.png", image(Format::Png, 1));
    import(&[day(1)]).expect(0);
    std::fs::remove_file(site.at("in/day1.png")).unwrap();
    site.write("in/day2.png", image(Format::Png, 2));
    import(&[day(1), day(2)]).expect(0);
    assert_eq!(site.summary().documents, 2);
    import(&[day(1), day(2), day(3)]).expect(1);
}
