//! The list of failed entries beside a receipt: the sender's rows, which become a manifest once they are mended.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Builder, Format, Site, entry, image, profile, read_receipt, sha256};

const HEADER: [&str; 8] =
    ["profile_id", "reference", "category", "document_type", "path", "image_type", "sha256", "note"];

/// The records of a CSV list.
fn records(path: &Path, separator: u8) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(separator).from_path(path).unwrap();
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn csv(rows: &[Vec<String>], separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with_drop(lines: &str) -> Site {
    Builder { drop: lines.to_owned(), ..Builder::default() }.build()
}

#[test]
fn what_failed_is_mended_and_dropped_again() {
    let site = with_drop("receipt_mode = '0604'");
    let row = |number: u32, reference: &str, path: &str, note: &str| {
        let cells = [&profile(number), reference, "PROOF_OF_IDENTITY", "PASSPORT", path, "FRONT", "", note];
        cells.map(str::to_owned).to_vec()
    };
    let mut rows = vec![
        HEADER.map(str::to_owned).to_vec(),
        row(1, "good", "good.png", "stays; as it is"),
        row(2, "bad", "bad-front.png", " \"kept\", 1"),
        row(3, "also good", "also.png", ""),
        row(2, "bad", "bad-back.png", "=1+1"),
        row(4, "refused", "refused.png", ""),
    ];
    rows[4][5] = "REAR".to_owned();
    for (number, name) in (1..).zip(["good", "bad-front", "also", "bad-back", "refused"]) {
        site.put(&format!("{name}.png"), image(Format::Png, number));
    }
    site.put("b.manifest.csv", csv(&rows, b';'));
    let refused = format!("create_document=status-before:400/201,profile={}", profile(4));
    site.faults(&[&refused]);
    site.run_once().expect(1);

    assert_eq!(site.receipt("b.manifest.csv")["counts"]["created"], 2);
    let path = site.in_drop("receipts/b.failed.manifest.csv");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604, "as receipts");
    let mut listed = records(&path, b';');
    let added = ["code", "reason", "cure"].map(str::to_owned);
    assert_eq!(listed[0], [&rows[0][..], &added].concat());
    assert_eq!(listed.len(), 4, "{listed:#?}");
    for (listed, at) in listed[1..3].iter().zip([2, 4]) {
        assert_eq!(listed[..8], rows[at]);
        assert!(listed[9].contains("REAR") && !listed[10].is_empty(), "{listed:?}");
    }
    assert_eq!(listed[3][6], sha256(&image(Format::Png, 5)), "the digest is filled in");
    assert_eq!((&listed[3][..6], &listed[3][8]), (&rows[5][..6], &"failed".to_owned()));

    // Nobody takes it for a manifest where it is.
    site.run_once().expect(0);
    site.run(&["check", "drop"]).expect(2);
    listed[2][5] = "BACK".to_owned();
    for (number, name) in [(2, "bad-front"), (4, "bad-back"), (5, "refused")] {
        site.put(&format!("{name}.png"), image(Format::Png, number));
    }
    site.put("b.failed.manifest.csv", csv(&listed, b';'));
    site.faults(&[]);
    site.run_once().expect(0);
    assert_eq!(site.receipt("b.failed.manifest.csv")["counts"]["created"], 2);
    let summary = site.summary();
    assert_eq!((summary.documents, summary.doubled), (4, 0), "{summary}");
    assert_eq!(site.left(), Vec::<String>::new());
    assert_eq!(
        site.files().iter().filter(|file| file.contains(".failed.") && file.starts_with("receipts/")).count(),
        2
    );
}

#[test]
fn entries_of_json_are_as_they_were_written() {
    let site = with_drop("incomplete_after = '1s'");
    let good = image(Format::Png, 1);
    site.put("1.png", &good);
    site.put("2.png", image(Format::Png, 2));
    let text = format!(
        r#"{{ "version": 1, "profile_id": "{}", "files": [{{"path": "1.png"}}, {{"path": "2.png", "nmae": 1.50}}],
             "documents": [{{"category": "SUPPORTING", "document_type": "TAX", "images": [{{"path": "3.png"}}],
             "extracted_data": {{"n": 1.10}}}}] }}"#,
        profile(1)
    );
    site.put("a.manifest.json", &text);
    site.faults(&["upload_file=status-before:422"]);
    site.run_until_given_up().expect(1);
    let listed = fs::read_to_string(site.in_drop("receipts/a.failed.manifest.jsonl")).unwrap();
    let begins = [
        format!(
            r#"{{"profile_id":"{}","category":"SUPPORTING","document_type":"TAX","images":[{{"path":"3.png"}}],"extracted_data":{{"n":1.10}},"code":"#,
            profile(1)
        ),
        format!(r#"{{"profile_id":"{}","path":"1.png","sha256":"{}","code":"#, profile(1), sha256(&good)),
        format!(r#"{{"profile_id":"{}","path":"2.png","nmae":1.50,"code":"#, profile(1)),
    ];
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(&begin), "{line}\n{begin}");
    }
    // As it is, it is a manifest, of which the entry of an unknown field is still wrong.
    site.put("1.png", &good);
    site.put("3.png", image(Format::Png, 3));
    site.put("a.failed.manifest.jsonl", &listed);
    site.faults(&[]);
    site.run_once().expect(1);
    let counts = &site.receipt("a.failed.manifest.jsonl")["counts"];
    assert_eq!((&counts["created"], &counts["invalid"]), (&json!(2), &json!(1)), "{counts}");
}

#[test]
fn a_manifest_that_is_refused_as_a_whole_is_listed_where_it_can_be_read() {
    let lines = |bad: usize| {
        let good = entry("good", 1, "good.png").to_string();
        std::iter::once(good).chain(std::iter::repeat_n("{}".to_owned(), bad)).collect::<Vec<_>>().join("\n")
    };
    let list = |site: &Site| json_lines(&site.in_drop("receipts/a.failed.manifest.jsonl"));
    // All or nothing.
    let site = with_drop("on_invalid = 'reject'");
    site.put("good.png", image(Format::Png, 1));
    site.put("a.manifest.jsonl", lines(1));
    site.run_once().expect(1);
    let listed = list(&site);
    assert_eq!((listed.len(), &listed[0]["reference"]), (2, &json!("good")), "{listed:#?}");
    assert!(listed.iter().all(|entry| entry["code"].is_string() && entry["reason"].is_string()), "{listed:#?}");
    assert_eq!(site.left(), ["good.png"]);
    // Its files are there still, so without the bad entry it is created.
    site.put("again.manifest.jsonl", listed[0].to_string());
    site.run_once().expect(0);

    // Too many are bad: the rest was not read.
    let site = with_drop("max_invalid = 3");
    site.put("good.png", image(Format::Png, 1));
    site.put("a.manifest.jsonl", lines(1000));
    site.run_once().expect(1);
    let listed = list(&site);
    assert_eq!(listed.len(), 1001);
    assert!(listed.iter().all(|entry| entry["code"] == "too-many-invalid"), "{listed:#?}");
    assert_eq!(listed.iter().filter(|entry| entry.get("reason").is_some()).count(), 1, "the first has the words");

    // What is no manifest has no rows.
    let site = Site::new();
    site.put("a.manifest.json", "{\"version\": 1, \"documents\": [}");
    site.put("b.manifest.csv", "nothing,here\n1,2\n");
    site.run_once().expect(1);
    assert_eq!(site.receipt("b.manifest.csv")["status"], "rejected");
    assert!(!site.files().iter().any(|file| file.contains(".failed.")), "{:?}", site.files());
}

/// The list of an earlier import was searched for as a manifest.
#[test]
fn lists_have_the_number_of_their_receipt_and_are_not_found_in_folders_of_receipts() {
    let site = Site::new();
    for number in 1..=2 {
        site.write("in/sub/a.manifest.csv", format!("profile_id,path\n{},no.png\n", profile(number)));
        site.run(&["import", "in/sub", "--receipts-to", "in/sub/said"]).expect(1);
    }
    let names: BTreeSet<String> = fs::read_dir(site.at("in/sub/said"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let expected = [
        "a.failed.1.manifest.csv",
        "a.failed.manifest.csv",
        "a.manifest.csv.receipt.1.json",
        "a.manifest.csv.receipt.json",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    let check = || site.run(&["check", "in"]).expect(1).stdout.matches("  1 entry: ").count();
    assert_eq!(check(), 1);
    site.run(&["import", "in"]).expect(1);
    assert!(!site.at("in/receipts/sub/said").exists(), "it was taken for a manifest");
    // Where its sender puts it to be taken, it is a manifest.
    fs::copy(site.at("in/sub/said/a.failed.manifest.csv"), site.at("in/sub/a.failed.manifest.csv")).unwrap();
    assert_eq!(check(), 2);
}

/// A list as a sender writes it: whose document each row belongs to, and what is wrong with it.
#[derive(Debug, Clone)]
struct SentRow {
    /// 0 for a document of this row alone.
    group: u32,
    fault: u32,
    note: String,
}

fn sent_rows() -> impl Strategy<Value = Vec<SentRow>> {
    let row =
        (0_u32..5, 0_u32..9, "[a,; |\"'=\n]{0,5}").prop_map(|(group, fault, note)| SentRow { group, fault, note });
    prop::collection::vec(row, 2..12)
}

fn wrong(row: &mut [String], fault: u32) {
    match fault {
        0 => "../x.png".clone_into(&mut row[4]),
        1 => "nobody".clone_into(&mut row[0]),
        2 => "SIDE".clone_into(&mut row[5]),
        3 => row[6] = "00".repeat(32),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_were_created_and_rows_that_failed_are_the_list(
        sent in sent_rows(), separator in prop::sample::select(&b",;\t|"[..]), refused in 0_usize..3
    ) {
        let site = Site::new();
        let right: Vec<Vec<String>> = (10..).zip(&sent).map(|(number, row)| {
            let path = format!("{number}.png");
            site.write(&format!("in/{path}"), image(Format::Png, number));
            let (owner, reference) = match row.group {
                0 => (number, String::new()),
                group => (group, format!("group {group}")),
            };
            let cells = [&profile(owner), &reference, "PROOF_OF_IDENTITY", "PASSPORT", &path, "FRONT", "", &row.note];
            cells.map(str::to_owned).to_vec()
        }).collect();
        let mut rows = right.clone();
        rows.iter_mut().zip(&sent).for_each(|(row, sent)| wrong(row, sent.fault));
        let header = HEADER.map(str::to_owned).to_vec();
        site.write("in/b.manifest.csv", csv(&[std::slice::from_ref(&header), &rows[..]].concat(), separator));
        site.faults(&[format!("create_document=status-before:400/201,first={refused}").as_str()][..refused.min(1)]);
        site.run(&["import", "in"]);

        let receipt = read_receipt(&site.at("in/receipts/b.manifest.csv.receipt.json"));
        let entries = receipt["entries"].as_array().unwrap();
        let created: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| entry["status"] == "created")
            .flat_map(|entry| entry["images"].as_array().unwrap())
            .map(|image| image["path"].as_str().unwrap())
            .collect();
        let list = site.at("in/receipts/b.failed.manifest.csv");
        let listed = if list.exists() { records(&list, separator) } else { Vec::new() };
        let failed: Vec<usize> = (0..rows.len()).filter(|at| !created.contains(rows[*at][4].as_str())).collect();
        prop_assert_eq!(listed.len().saturating_sub(1), failed.len());
        prop_assert_eq!(list.exists(), receipt["status"] != "done");
        let mut mended = Vec::new();
        for (listed, at) in listed.iter().skip(1).zip(failed) {
            let row = &rows[at];
            prop_assert_eq!((&listed[..6], &listed[7]), (&row[..6], &row[7]));
            let digest = sha256(&image(Format::Png, 10 + u32::try_from(at).unwrap()));
            prop_assert!(listed[6] == row[6] || (row[6].is_empty() && listed[6] == digest), "{:?}", listed);
            prop_assert!(listed[8..].iter().all(|said| !said.is_empty()), "{:?}", listed);
            mended.push([&right[at][..], &listed[8..]].concat());
        }
        if !mended.is_empty() {
            site.faults(&[]);
            let text = csv(&[&listed[..1], &mended[..]].concat(), separator);
            site.write("in/b.failed.manifest.csv", text);
            site.run(&["import", "in/b.failed.manifest.csv"]).expect(0);
        }
        let documents: BTreeSet<_> = (0..).zip(&sent).map(|(at, row)| if row.group == 0 { 100 + at } else { row.group }).collect();
        let summary = site.summary();
        prop_assert_eq!((summary.documents, summary.doubled), (documents.len() as u64, 0), "{}", summary);
    }
}
