//! Tests of JSON Lines manifests.

use std::{cell::Cell, collections::BTreeMap, ops::ControlFlow};

use super::super::{
    Format,
    tests::{Generated, entries, invalid, read_all, read_within, unusable, unusable_within},
};
use super::*;

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";
const LINES: Format = Format::JsonLines;

fn file(path: &str) -> String {
    format!(r#"{{"profile_id": "{PROFILE}", "path": "{path}"}}"#)
}

#[test]
fn documents_and_files_are_distinguished_by_their_fields() {
    let document = format!(
        r#"{{"profile_id":"{PROFILE}","category":"PROOF_OF_IDENTITY","document_type":"PASSPORT","images":[{{"path":"a.png"}}]}}"#
    );
    let file = format!(r#"{{"profile_id":"{PROFILE}","path":"b.pdf","name":"B.pdf"}}"#);
    let text = format!("\u{feff}{document}\r\n\r\n   \n{file}");
    let kinds: Vec<_> = entries(LINES, text).iter().map(|entry| (entry.index, entry.kind())).collect();
    assert_eq!(kinds, [(0, EntryKind::Document), (1, EntryKind::File)]);
    for field in ["category", "document_type", "images"] {
        let (readings, _) = read_all(LINES, format!(r#"{{"{field}": null}}"#)).unwrap();
        assert!(matches!(readings[0], Reading::Invalid { kind: EntryKind::Document, .. }), "{field}");
    }
}

#[test]
fn a_bad_line_spoils_no_other_and_knows_its_number() {
    let mut text = format!("{}\n\n{{\"path\": \n[1]\n{} x\n", file("a"), file("b")).into_bytes();
    text.extend(b"{\"path\": \"M\xFCller\"}\n{\"images\": [}\n\"\0\"\n");
    text.extend(file("z").into_bytes());
    let (readings, summary) = read_all(LINES, text).unwrap();
    assert_eq!((summary.entries, summary.invalid), (8, 6));
    let lines: Vec<_> = readings
        .iter()
        .map(|reading| match reading {
            Reading::Entry { line, .. } => (line.unwrap(), true),
            Reading::Invalid { line, .. } => (line.unwrap(), false),
        })
        .collect();
    assert_eq!(lines, [(1, true), (3, false), (4, false), (5, false), (6, false), (7, false), (8, false), (9, true)]);
    assert!(invalid(&readings[1]).contains("not valid JSON: the text ends while parsing a value, at column"));
    assert!(invalid(&readings[2]).contains("the entry is a list"));
    assert!(invalid(&readings[3]).contains("trailing characters"));
    assert!(invalid(&readings[4]).contains("not UTF-8") && invalid(&readings[4]).contains("save"));
    assert!(matches!(readings[5], Reading::Invalid { kind: EntryKind::Document, .. }));
}

#[test]
fn hostile_lines_are_refused_each_for_itself() {
    let crowd = format!("[{}0]", "0,".repeat(60_000));
    let text = format!("{}\n{crowd}\n{}", "[".repeat(300_000), file("a"));
    let (readings, summary) = read_all(LINES, text).unwrap();
    assert_eq!((summary.entries, summary.invalid), (3, 2));
    let reported = invalid(&readings[0]);
    assert!(reported.contains("nested more than 32 levels deep") && reported.contains("max_nesting"), "{reported}");
    assert!(invalid(&readings[1]).contains("None: an entry has more than 50000 values"));
}

#[test]
fn version_is_no_field_of_a_line() {
    let text = file("a").replace('{', r#"{"version": 1, "#);
    assert!(invalid(&read_all(LINES, text).unwrap().0[0]).contains("a file has no field \"version\""));
}

#[test]
fn a_line_beyond_the_limit_is_passed_over() {
    let (short, long) = (file("a"), file("aa"));
    let limits = ManifestBounds { max_line_bytes: short.len(), ..ManifestBounds::default() };
    for end in ["\n", "\r\n"] {
        let text = format!("{short}{end}{long}{end}{short}{end}");
        let (readings, summary) = read_within(LINES, text, &limits).unwrap();
        assert_eq!((summary.entries, summary.invalid), (3, 1), "{end:?}");
        assert!(invalid(&readings[1]).contains("longer than"));
    }
}

#[test]
fn a_line_end_may_be_split_between_two_reads() {
    let mut reader = BufReader::new((&b"abc\r"[..]).chain(&b"\nabcd\r"[..]).chain(&b"\nabc\r"[..]));
    let mut line = Vec::new();
    let mut reported = Vec::new();
    while let Some((too_long, _)) = next_line(&mut reader, 3, &mut line).unwrap() {
        reported.push(too_long);
    }
    assert_eq!(reported, [false, true, false]);
}

#[test]
fn a_line_of_hundreds_of_megabytes_is_not_buffered() {
    let mut reader = BufReader::new(io::repeat(b' ').take(300 << 20).chain(&b"\nok\n"[..]));
    let mut line = Vec::new();
    assert_eq!(next_line(&mut reader, 1 << 20, &mut line).unwrap(), Some((true, true)));
    assert!(line.capacity() <= 2 << 20);
    assert_eq!(next_line(&mut reader, 1 << 20, &mut line).unwrap(), Some((false, true)));
    assert_eq!(line, b"ok");
    assert_eq!(next_line(&mut reader, 1 << 20, &mut line).unwrap(), None);
}

#[test]
fn one_object_over_several_lines_is_refused_with_the_right_extension() {
    let reported = unusable(LINES, "\n{\n  \"version\": 1\n}\n");
    assert!(reported.contains("line 2 spans") && reported.contains(".json"), "{reported}");
}

#[test]
fn more_lines_than_the_limit_are_refused_before_any_entry_goes_out() {
    let text = format!("{0}\n\n{0}\n", file("a"));
    let limits = |max_entries| ManifestBounds { max_entries, ..ManifestBounds::default() };
    assert_eq!(read_within(LINES, &text, &limits(2)).unwrap().1.entries, 2);
    assert!(unusable_within(LINES, &text, &limits(1)).contains("more than 1 entries"));
}

#[test]
fn a_million_lines_are_streamed() {
    let read = Cell::new(0);
    // Short lines, so that a build without optimisation is quick; all but the last are invalid.
    let item = |_: u64| "0\n".to_owned();
    let last = file("z");
    let input = Generated::new("", &item, 1_000_000, &last, &read);
    let mut given = 0_u64;
    let summary = super::super::read(input, LINES, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
        given += 1;
        assert!(read.get() <= given * 2 + 70_000);
        ControlFlow::Continue(())
    });
    let summary = summary.unwrap();
    assert_eq!((summary.entries, summary.invalid), (1_000_001, 1_000_000));
}

#[test]
fn the_caller_can_stop_the_reading() {
    let mut given = 0;
    let text = io::Cursor::new(format!("{0}\n{0}\n", file("a")));
    let outcome = super::super::read(text, LINES, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
        given += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(outcome, Err(ReadError::Stopped)) && given == 1);
}
