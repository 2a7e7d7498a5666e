//! Tests of JSON manifests.

use std::{cell::Cell, collections::BTreeMap};

use super::super::{
    Format, Reading,
    tests::{Generated, entries, invalid, read_all, read_within, unusable, unusable_within},
};
use super::*;
use crate::entry::{Content, ImageType};

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";
const JSON: Format = Format::Json;

/// The example that the documentation gives to senders, with a digest where it has an ellipsis.
const EXAMPLE: &str = r#"{
  "version": 1,
  "profile_id": "a2c4393a-e219-67a4-5ab4-2186952e9038",
  "documents": [
    {
      "reference": "customer-17/passport",
      "category": "PROOF_OF_IDENTITY",
      "document_type": "PASSPORT",
      "images": [
        { "path": "17/front.jpg", "image_type": "FRONT", "sha256": "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff" },
        { "path": "17/face.png", "image_type": "FACE" }
      ]
    }
  ],
  "files": [ { "reference": "customer-17/pep", "path": "17/pep.pdf", "name": "PEP Declaration Form.pdf" } ]
}"#;

fn file(path: &str) -> String {
    format!(r#"{{"profile_id": "{PROFILE}", "path": "{path}"}}"#)
}

fn document(path: &str) -> String {
    format!(
        r#"{{"profile_id": "{PROFILE}", "category": "SUPPORTING", "document_type": "TAX", "images": [{{"path": "{path}"}}]}}"#
    )
}

#[test]
fn the_documented_example_is_read() {
    let entries = entries(JSON, EXAMPLE);
    assert_eq!(entries.len(), 2);
    let passport = &entries[0];
    assert_eq!((passport.index, passport.reference.as_deref()), (0, Some("customer-17/passport")));
    assert_eq!(passport.profile_id.as_str(), PROFILE);
    let Content::Document { category, document_type, extracted_data: None, images } = &passport.content else {
        panic!("{passport:?}")
    };
    assert_eq!((category.as_str(), document_type.as_str()), ("PROOF_OF_IDENTITY", "PASSPORT"));
    let reported: Vec<_> = images.iter().map(|image| (image.source.path.as_str(), image.image_type)).collect();
    assert_eq!(reported, [("17/front.jpg", Some(ImageType::Front)), ("17/face.png", Some(ImageType::Face))]);
    assert!(images[0].source.declared_sha256.is_some() && images[1].source.declared_sha256.is_none());
    let Content::File { name, source } = &entries[1].content else { panic!() };
    assert_eq!((name.as_deref(), source.path.as_str()), (Some("PEP Declaration Form.pdf"), "17/pep.pdf"));
    assert_eq!(entries[1].index, 1);
}

#[test]
fn entries_know_their_lines() {
    let (readings, _) = read_all(JSON, format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n"))).unwrap();
    let lines: Vec<_> = readings
        .iter()
        .map(|reading| match reading {
            Reading::Entry { line, .. } | Reading::Invalid { line, .. } => *line,
        })
        .collect();
    assert_eq!(lines, [Some(5), Some(15)]);
}

#[test]
fn keys_at_the_top_may_come_in_any_order() {
    let text = format!(
        r#"{{"files": [{{"path": "f0"}}, {{"path": "f1", "profile_id": "{}"}}], "documents": [{}, {}],
            "profile_id": "{}", "version": 1}}"#,
        PROFILE.replace('a', "b"),
        document("d0"),
        document("d1"),
        PROFILE.to_uppercase(),
    );
    let reported: Vec<_> = entries(JSON, text)
        .iter()
        .map(|entry| {
            (entry.index, entry.sources().next().unwrap().path.to_string(), entry.profile_id.as_str() == PROFILE)
        })
        .collect();
    let expected = [(0, "d0", true), (1, "d1", true), (2, "f0", true), (3, "f1", false)];
    assert_eq!(reported, expected.map(|(index, path, top)| (index, path.to_owned(), top)));
}

#[test]
fn a_bad_entry_spoils_no_other_and_is_an_entry_of_its_own() {
    let text = format!(
        r#"{{"version": 1, "documents": [5, {}], "files": [{{"path": "../x"}}, {}]}}"#,
        document("d"),
        file("f")
    );
    let (readings, summary) = read_all(JSON, text).unwrap();
    assert_eq!((summary.entries, summary.invalid), (4, 2));
    assert!(invalid(&readings[0]).contains("the entry is a number, not an object"));
    assert!(matches!(readings[0], Reading::Invalid { index: 0, kind: EntryKind::Document, .. }));
    assert!(invalid(&readings[2]).contains("'..'") && invalid(&readings[2]).contains("profile_id is missing"));
    assert!(matches!(readings[2], Reading::Invalid { index: 2, kind: EntryKind::File, .. }));
    assert!(matches!(&readings[3], Reading::Entry { entry, .. } if entry.index == 3));
}

#[test]
fn a_duplicate_field_in_an_entry_is_refused() {
    let text = format!(r#"{{"version": 1, "files": [{{"profile_id": "{PROFILE}", "path": "a", "path": "b"}}]}}"#);
    assert!(invalid(&read_all(JSON, text).unwrap().0[0]).contains("\"path\" appears more than once"));
}

#[test]
fn the_top_must_be_as_documented() {
    let entry = file("a");
    for (text, words) in [
        (format!(r#"{{"files": [{entry}]}}"#), "version is missing | write \"version\": 1"),
        (format!(r#"{{"version": 2, "files": [{entry}]}}"#), "version 2 is not known"),
        (format!(r#"{{"version": "1", "files": [{entry}]}}"#), "version is a text, not the number 1"),
        (format!(r#"{{"version": 1, "file": [{entry}]}}"#), "if files is meant"),
        (format!(r#"{{"version": 1, "zzz": 0, "files": [{entry}]}}"#), "the top of a manifest has only version"),
        (format!(r#"{{"version": 1, "profile_id": "x", "files": [{entry}]}}"#), "\"x\" is not a UUID"),
        (format!(r#"{{"version": 1, "profile_id": 3, "files": [{entry}]}}"#), "profile_id is a number"),
        (format!(r#"{{"version": 1, "files": [{entry}], "files": []}}"#), "\"files\" appears more than once"),
        (format!(r#"{{"version": 1, "version": 1, "files": [{entry}]}}"#), "\"version\" appears more than once"),
        (r#"{"version": 1, "documents": [], "files": []}"#.to_owned(), "has no entries"),
        (r#"{"version": 1}"#.to_owned(), "has no entries"),
        (r#"{"version": 1, "documents": {}}"#.to_owned(), "Some(\"documents\"): documents is not a list of entries"),
        (r#"{"version": 1, "files": "a"}"#.to_owned(), "files is not a list of entries, at line 1"),
        (format!("[{entry}]"), "the manifest is not an object"),
        ("7".to_owned(), "the manifest is not an object"),
    ] {
        let reported = unusable(JSON, &text);
        assert!(reported.contains(words), "{words} in {reported} for {text}");
    }
}

#[test]
fn what_is_no_json_is_refused_with_its_place_before_any_entry_goes_out() {
    let good = format!("{{\n\"version\": 1,\n\"files\": [{},\n{}", file("a"), file("b"));
    for (rest, words) in [
        ("", "the text ends while parsing"),
        ("] x", "line 4 column"),
        ("]} {}", "not valid JSON: trailing characters, at line 4 column"),
        (", {\"path\": \"\\ud800\"}]}", "line 4 column"),
        (", 1e999]}", "number out of range"),
    ] {
        let reported = unusable(JSON, format!("{good}{rest}"));
        assert!(reported.contains(words), "{words} in {reported}");
    }
    let mut latin = good.replace("\"b\"", "\"M?ller\"").into_bytes();
    let at = latin.iter().position(|byte| *byte == b'?').unwrap();
    latin[at] = 0xFC;
    latin.extend(b"]}");
    assert!(unusable(JSON, latin).contains("line 4 column"));
    assert!(unusable(JSON, format!("{}\n{}", file("a"), file("b"))).contains(".jsonl"));
}

#[test]
fn hostile_nesting_and_sizes_are_refused() {
    for unit in ["[", "{\"a\":"] {
        let nested = unit.repeat(300_000);
        for text in [nested.clone(), format!(r#"{{"version": 1, "x": {nested}"#)] {
            unusable(JSON, text);
        }
        let reported = unusable(JSON, format!(r#"{{"version": 1, "files": [{nested}"#));
        assert!(
            reported.contains("nested more than 32 levels deep, at line 1") && reported.contains("max_nesting"),
            "{reported}"
        );
    }
    let crowd = format!("[{}0]", "0,".repeat(60_000));
    for text in [format!(r#"{{"version": {crowd}}}"#), format!(r#"{{"files": [{crowd}]}}"#)] {
        let reported = unusable(JSON, text);
        assert!(reported.contains("None: an entry has more than 50000 values, at line 1"), "{reported}");
    }
    let huge = "x".repeat(3 << 20);
    for text in [
        format!("\"{huge}\""),
        format!(r#"{{"{huge}": 1}}"#),
        format!(r#"{{"version": "{huge}"}}"#),
        format!(r#"{{"zzz": "{huge}"}}"#),
        format!(r#"{{"files": "{huge}"}}"#),
        format!(r#"{{"version": 1, "files": [{}, {}]}}"#, file("a"), file(&huge)),
    ] {
        let reported = unusable(JSON, &text);
        assert!(reported.contains("at line 1 is larger than 1048576 bytes"), "{reported}");
    }
}

#[test]
fn an_entry_may_be_as_large_as_the_limit_and_white_space_does_not_count() {
    let entry = file("a");
    let text = format!("{{\"version\": 1, {0}\"files\":{0}[{0}{entry}{0},{0}{entry}{0}]{0}}}{0}", " ".repeat(5_000));
    let limits = |max_entry_bytes| ManifestBounds { max_entry_bytes, ..ManifestBounds::default() };
    assert_eq!(read_within(JSON, &text, &limits(entry.len())).unwrap().1.entries, 2);
    assert!(unusable_within(JSON, &text, &limits(entry.len() - 2)).contains("larger than"));
}

#[test]
fn an_entry_may_be_nested_as_deeply_as_the_limit_and_no_deeper() {
    // The entry, its data, and what is nested in that.
    let nested = |levels: usize| {
        let data = format!(r#"{{"a": {}{}}}"#, "[".repeat(levels - 2), "]".repeat(levels - 2));
        let document = document("d").replace(r#""images""#, &format!(r#""extracted_data": {data}, "images""#));
        format!(r#"{{"version": 1, "documents": [{document}]}}"#)
    };
    for most in [ManifestBounds::LEAST_NESTING, 32, ManifestBounds::MOST_NESTING] {
        let limits = ManifestBounds { max_nesting: most, ..ManifestBounds::default() };
        assert_eq!(read_within(JSON, nested(most), &limits).unwrap().1.invalid, 0);
        let reported = unusable_within(JSON, nested(most + 1), &limits);
        assert!(
            reported.contains(&format!("more than {most} levels deep")) && reported.contains("max_nesting"),
            "{reported}"
        );
    }
}

#[test]
fn more_entries_than_the_limit_are_refused_before_any_goes_out() {
    let text =
        format!(r#"{{"version": 1, "documents": [{}], "files": [{}, {}]}}"#, document("d"), file("a"), file("b"));
    let limits = |max_entries| ManifestBounds { max_entries, ..ManifestBounds::default() };
    assert_eq!(read_within(JSON, &text, &limits(3)).unwrap().1.entries, 3);
    assert!(unusable_within(JSON, &text, &limits(2)).contains("more than 2 entries"));
}

#[test]
fn entries_are_handed_out_while_the_text_is_read() {
    let read = Cell::new(0);
    let item = |_: u64| format!("{},", file("a"));
    let last = format!("{}]}}", file("z"));
    let input = Generated::new(r#"{"version": 1, "files": ["#, &item, 20_000, &last, &read);
    let size = item(0).len() as u64;
    let mut given = 0;
    let summary = super::super::read(input, JSON, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
        given += 1;
        // What was read ahead is a buffer, however long the manifest is.
        assert!(read.get() < given * size + 20_000, "{} bytes for {given} entries", read.get());
        ControlFlow::Continue(())
    });
    assert_eq!(summary.unwrap().entries, 20_001);
}

#[test]
fn the_caller_can_stop_the_reading() {
    let mut given = 0;
    let outcome = super::super::read(
        std::io::Cursor::new(EXAMPLE),
        JSON,
        &ManifestBounds::default(),
        &mut BTreeMap::new(),
        &mut |_| {
            given += 1;
            ControlFlow::Break(())
        },
    );
    assert!(matches!(outcome, Err(ReadError::Stopped)) && given == 1);
}
