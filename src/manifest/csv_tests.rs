//! Tests of CSV manifests.

use std::{cell::Cell, collections::BTreeMap, io::Cursor, ops::ControlFlow};

use super::super::{
    Format, Reading,
    tests::{Generated, entries, invalid, read_all, read_within, unusable, unusable_within},
};
use super::*;
use crate::{
    entry::{Content, Entry, EntryKind, ImageType},
    warning::RefusedWarnings,
};

const PROFILE: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";
const CSV: Format = Format::Csv;
const HEADER: &str = "profile_id,reference,category,document_type,path,image_type,sha256,bytes,name";

/// A manifest of these rows, in which `P` is replaced by the profile, and `IDP` by the category and type of a passport.
fn csv(rows: &[&str]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let row = row.replace(",IDP,", ",PROOF_OF_IDENTITY,PASSPORT,");
            row.strip_prefix("P,").map_or(row.clone(), |rest| format!("{PROFILE},{rest}"))
        })
        .collect();
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

fn paths(entry: &Entry) -> Vec<&str> {
    entry.sources().map(|source| source.path.as_str()).collect()
}

fn line_of(reading: &Reading) -> u64 {
    match reading {
        Reading::Entry { line, .. } | Reading::Invalid { line, .. } => line.unwrap(),
    }
}

#[test]
fn rows_of_one_reference_are_one_document_and_others_are_files() {
    let digest = "AB".repeat(32);
    let text = csv(&[
        &format!("P,r1,IDP,17/front.jpg,FRONT,{digest},81234,"),
        "P,r1,IDP,17/back.jpg,,,,",
        "P,r2,,,17/pep.pdf,,,5120,PEP Declaration Form.pdf",
    ]);
    let entries = entries(CSV, text);
    assert_eq!(entries.len(), 2);
    let Content::Document { category, document_type, images, .. } = &entries[0].content else { panic!() };
    assert_eq!((category.as_str(), document_type.as_str()), ("PROOF_OF_IDENTITY", "PASSPORT"));
    assert_eq!(paths(&entries[0]), ["17/front.jpg", "17/back.jpg"]);
    assert_eq!((images[0].image_type, images[1].image_type), (Some(ImageType::Front), None));
    assert_eq!(images[0].source.declared_bytes, Some(81234));
    assert_eq!(images[0].source.declared_sha256.unwrap().to_string(), digest.to_lowercase());
    let Content::File { name, source } = &entries[1].content else { panic!() };
    assert_eq!((name.as_deref(), source.declared_bytes), (Some("PEP Declaration Form.pdf"), Some(5120)));
    assert_eq!(entries[1].reference.as_deref(), Some("r2"));
}

#[test]
fn byte_order_marks_line_ends_delimiters_and_column_orders_make_no_difference() {
    for delimiter in [",", ";", "\t"] {
        for end in ["\n", "\r\n", "\r"] {
            for mark in ["", "\u{feff}"] {
                let rows = [
                    vec!["PATH", " Profile_Id ", "document_type", "reference", "category", "replace"],
                    vec!["a.png", PROFILE, "TAX", "r", "SUPPORTING", "TRUE"],
                    vec!["\"b,;\t.png\"", PROFILE, "TAX", "r", "SUPPORTING", "true"],
                    vec!["f.pdf", PROFILE, "", "", "", ""],
                ];
                let text: Vec<_> = rows.iter().map(|row| row.join(delimiter)).collect();
                let text = format!("{mark}{}", text.join(end));
                let reported = read_all(CSV, &text).unwrap().0;
                assert_eq!(reported.len(), 2, "{text:?}");
                // A tab in a path is refused, so the second row is tried without it where it does not matter here.
                assert!(invalid(&reported[0]).contains("control character"), "{text:?}");
                assert_eq!((line_of(&reported[0]), line_of(&reported[1])), (2, 4), "{text:?}");
                let good = entries(CSV, text.replace("\"b,;\t.png\"", "\"b,;.png\""));
                assert_eq!(paths(&good[0]), ["a.png", "b,;.png"]);
                assert!(good[0].replace && !good[1].replace);
            }
        }
    }
}

#[test]
fn rows_of_a_reference_may_be_anywhere() {
    let text = csv(&[
        "P,a,IDP,a1,,,,",
        "P,b,IDP,b1,,,,",
        "P,,,,f1,,,,",
        "P,a,IDP,a2,,,,",
        "P,c,,,c1,,,,",
        "P,b,IDP,b2,,,,",
        "P,a,IDP,a3,,,,",
        "P,,IDP,d1,,,,",
        "P,,IDP,e1,,,,",
    ]);
    let entries = entries(CSV, text);
    let reported: Vec<_> = entries.iter().map(|entry| (entry.index, paths(entry).join(" "))).collect();
    let expected = ["a1 a2 a3", "b1 b2", "f1", "c1", "d1", "e1"];
    assert_eq!(reported, (0..).zip(expected.map(str::to_owned)).collect::<Vec<_>>());
}

#[test]
fn rows_of_a_reference_that_disagree_are_refused_with_their_lines() {
    let other = PROFILE.replace('a', "b");
    let text = csv(&[
        "P,a,IDP,a1,,,,",
        "P,x,,,x1,,,,",
        &format!("{other},a,IDP,a2,,,,"),
        "P,a,PROOF_OF_IDENTITY,VISARD,a3,,,,",
        "P,a,,,a4,,,,",
    ]);
    let (readings, summary) = read_all(CSV, text).unwrap();
    assert_eq!((summary.entries, summary.invalid), (2, 1));
    let reported = invalid(&readings[0]);
    for part in [
        format!("line 4: profile_id has \"{other}\" here, but \"{PROFILE}\" at line 2 of the same reference"),
        "line 5: document_type has \"VISARD\" here, but \"PASSPORT\" at line 2".to_owned(),
        "line 6: category has nothing here, but \"PROOF_OF_IDENTITY\" at line 2".to_owned(),
    ] {
        assert!(reported.contains(&part), "{part} in {reported}");
    }
    assert!(matches!(&readings[0], Reading::Invalid { reference: Some(reference), .. } if reference == "a"));
}

#[test]
fn profiles_that_differ_in_letter_case_only_agree() {
    let text = csv(&["P,a,IDP,a1,,,,", &format!("{},a,IDP,a2,,,,", PROFILE.to_uppercase())]);
    assert_eq!(entries(CSV, text).len(), 1);
}

#[test]
fn several_files_of_one_reference_are_refused() {
    let reported = read_all(CSV, csv(&["P,a,,,a1,,,,", "P,a,,,a2,,,,"])).unwrap().0;
    assert_eq!(reported.len(), 1);
    assert!(invalid(&reported[0]).contains("line 3: a file with the same reference is at line 2 already"));
}

#[test]
fn a_document_with_an_unreadable_row_is_not_made_from_the_others() {
    let mut text = csv(&["P,a,IDP,a1,,,,", "P,a,IDP,a2", "P,b,IDP,b1,,,,", "P,c,,,c1,,,,"]).into_bytes();
    text.extend(format!("{PROFILE},b,PROOF_OF_IDENTITY,PASSPORT,M").into_bytes());
    text.extend(b"\xFCller.png,,,,\nx\n");
    let (readings, summary) = read_all(CSV, text).unwrap();
    assert_eq!((summary.entries, summary.invalid), (4, 3));
    assert!(invalid(&readings[0]).contains("the row at line 3 has 5 cells, but the header has 9"));
    assert!(invalid(&readings[1]).contains("the row at line 6 is not UTF-8"));
    assert!(matches!(readings[1], Reading::Invalid { kind: EntryKind::Document, .. }));
    assert!(matches!(readings[2], Reading::Entry { .. }));
    assert!(invalid(&readings[3]).contains("the row at line 7 has 1 cells"));
}

#[test]
fn the_rules_for_cells_hold() {
    for (row, words) in [
        (",r,,,a,,,,", "profile_id is missing"),
        ("x,r,,,a,,,,", "\"x\" is not a UUID"),
        ("P,r,,,,,,,", "path is missing"),
        ("P,r,,,../a,,,,", "'..'"),
        ("P,r,,,a,,zz,,", "not a SHA-256"),
        ("P,r,,,a,,,-1,", "\"-1\" is not a number of bytes"),
        ("P,r,,,a,,,+1,", "\"+1\" is not a number of bytes"),
        ("P,r,,,a,,,99999999999999999999,", "is not a number of bytes"),
        ("P,r,,,a,,,,b/c", "has a slash"),
        ("P,r,,PASSPORT,a,,,,", "a file has no document_type"),
        ("P,r,,,a,FRONT,,,", "a file has no image_type"),
        ("P,r,SUPPORTING,,a,,,,", "document_type is missing"),
        ("P,r,supporting,TAX,a,,,,", "write SUPPORTING"),
        ("P,r,SUPPORTING,TAX,a,front,,,", "write FRONT"),
        ("P,r,,,a,,,,\"x\ny\"", "control character"),
        ("P,\"r\0\",,,a,,,,", "control character"),
    ] {
        let (readings, summary) = read_all(CSV, csv(&[row, "P,good,,,a,,,,"])).unwrap();
        assert_eq!((summary.entries, summary.invalid), (2, 1), "{row}");
        let reported = invalid(&readings[0]);
        assert!(reported.contains(words), "{words} in {reported}");
    }
    let text = format!("profile_id,path,replace\n{PROFILE},a,yes\n");
    assert!(invalid(&read_all(CSV, text).unwrap().0[0]).contains("\"yes\" is neither true nor false"));
}

#[test]
fn warnings_do_not_stop_a_document() {
    let text = csv(&["P,r,SUPORTING,TAX,a,,,,n", "P,r,SUPORTING,TAX,a,,,,"]);
    let (readings, _) = read_all(CSV, text).unwrap();
    let Reading::Entry { warnings, .. } = &readings[0] else { panic!("{readings:?}") };
    let reported: Vec<_> = warnings.iter().map(|warning| warning.field.as_deref().unwrap()).collect();
    assert_eq!(reported, ["category", "name", "images[1].path"]);
}

#[test]
fn line_breaks_in_quotes_and_blank_lines_do_not_shift_the_lines_that_are_named() {
    let text = csv(&["", "P,r,,,a,,,,\"x\n\ny\"", "", "x", "P,r2,,,b,,,,n"]).replace('\n', "\r\n");
    let (readings, _) = read_all(CSV, text).unwrap();
    let lines: Vec<_> = readings.iter().map(line_of).collect();
    assert_eq!(lines, [3, 7, 8]);
}

#[test]
fn rows_of_empty_cells_are_passed_over_with_a_warning() {
    let (readings, summary) = read_all(CSV, csv(&["P,r,,,a,,,,", ",,,,,,,,", " , ,,,,,,,"])).unwrap();
    assert_eq!(readings.len(), 1);
    assert_eq!(summary.warnings[0].reason, "2 rows have only empty cells and were passed over");
}

#[test]
fn an_unusable_header_gives_no_entry() {
    for (header, words) in [
        ("profil_id,path", "if profile_id is meant"),
        ("profile_id,reference", "path is missing"),
        ("path", "profile_id is missing"),
        ("profile_id,path,path", "appears more than once"),
    ] {
        let reported = unusable(CSV, format!("{header}\n{PROFILE},a\n"));
        assert!(reported.contains(words), "{words} in {reported}");
    }
    assert!(unusable(CSV, HEADER).contains("has no entries"));
    assert!(unusable(CSV, format!("{HEADER}\n,,,,,,,,\n")).contains("has no entries"));
}

#[test]
fn a_quote_that_is_not_closed_is_found() {
    let limits = ManifestBounds { max_line_bytes: 1_000, ..ManifestBounds::default() };
    let row = format!("{PROFILE},,,,a,,,,n\n");
    let swallowed = format!("{HEADER}\n{row}{PROFILE},,,,\"a,,,,n\n{}", row.repeat(5_000));
    assert!(unusable_within(CSV, &swallowed, &limits).contains("line 3 is longer than 1000 bytes"));
    assert!(unusable_within(CSV, &swallowed, &limits).contains("quote"));
    // Where so few rows are swallowed that the limit is not reached, the row that swallows them is refused.
    let few = format!("{HEADER}\n{row}{PROFILE},,,,\"a,,,,n\n{row}");
    let (readings, summary) = read_within(CSV, few, &limits).unwrap();
    assert_eq!((summary.entries, summary.invalid), (2, 1));
    assert!(invalid(&readings[1]).contains("quote"));
}

#[test]
fn a_row_of_hundreds_of_megabytes_is_not_buffered() {
    let read = Cell::new(0);
    let item = |_: u64| "x".repeat(1 << 16);
    let head = format!("{HEADER}\n\"");
    let input = Generated::new(&head, &item, 4_000, "", &read);
    let outcome = super::super::read(input, CSV, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(ReadError::Unusable(_))));
    assert!(read.get() < 2 << 20, "{} bytes were read", read.get());
}

#[test]
fn limits_on_entries_and_images_hold() {
    let text = csv(&["P,a,IDP,a1,,,,", "P,b,,,b1,,,,", "P,a,IDP,a2,,,,", "P,,,,c,,,,"]);
    let limits = |max_entries, max_images| ManifestBounds { max_entries, max_images, ..ManifestBounds::default() };
    assert_eq!(read_within(CSV, &text, &limits(3, 2)).unwrap().1.invalid, 0);
    assert!(unusable_within(CSV, &text, &limits(2, 2)).contains("more than 2 entries"));
    // The last row lacks its last cell, and was not counted.
    let short = csv(&["P,a,IDP,a1,,,,", "P,b,,,b1,,,,", "P,,,,c,,,"]);
    assert_eq!(read_within(CSV, &short, &limits(3, 2)).unwrap().1.entries, 3);
    assert!(unusable_within(CSV, &short, &limits(2, 2)).contains("more than 2 entries"));
    let (readings, summary) = read_within(CSV, &text, &limits(3, 1)).unwrap();
    assert_eq!((summary.entries, summary.invalid), (3, 1));
    assert!(invalid(&readings[0]).contains("the document has 2 images, more than 1"));
}

#[test]
fn rows_are_bounded_though_they_are_of_one_document() {
    let text = csv(&["P,a,IDP,a1,,,,", "P,a,IDP,a2,,,,", ",,,,,,,,", "P,a,IDP,a3,,,,"]);
    let limits = |max_rows| ManifestBounds { max_rows, max_entries: 1, ..ManifestBounds::default() };
    assert_eq!(read_within(CSV, &text, &limits(4)).unwrap().1.entries, 1);
    let reported = unusable_within(CSV, &text, &limits(3));
    assert!(reported.contains("more than 3 rows") && reported.contains("max_rows"), "{reported}");
}

#[test]
fn many_scattered_rows_come_together() {
    let read = Cell::new(0);
    let head = format!("{HEADER}\n");
    // Ten thousand references, and every one has a row in each third of the file.
    let item = |at: u64| format!("{PROFILE},{},SUPPORTING,TAX,{at}.png,,,,\n", at.wrapping_mul(7_919) % 10_000);
    let input = Generated::new(&head, &item, 30_000, "", &read);
    let mut given = 0;
    super::super::read(input, CSV, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |reading| {
        let Reading::Entry { entry, .. } = reading else { panic!("{reading:?}") };
        assert_eq!(entry.index, given);
        let expected = [given, given + 10_000, given + 20_000].map(|at| format!("{at}.png"));
        assert_eq!(paths(&entry), expected);
        given += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(given, 10_000);
}

#[test]
fn the_caller_can_stop_the_reading() {
    let text = csv(&["P,a,,,a,,,,", "P,b,,,b,,,,", "P,c,,,c,,,,"]);
    for most in 1..=3 {
        let mut given = 0;
        let outcome =
            super::super::read(Cursor::new(&text), CSV, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
                given += 1;
                if given == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        assert!(matches!(outcome, Err(ReadError::Stopped)) && given == most);
    }
}

/// The entries of a list, and what is said of the list itself.
fn read_with_warnings(text: impl AsRef<[u8]>) -> (Vec<Entry>, Vec<String>) {
    let (readings, summary) = read_all(CSV, text).unwrap();
    let entries = readings.into_iter().map(|reading| match reading {
        Reading::Entry { entry, .. } => entry,
        other => panic!("{other:?}"),
    });
    (entries.collect(), summary.warnings.into_iter().map(|warning| warning.reason).collect())
}

#[test]
fn a_line_that_declares_the_separator_is_passed_over() {
    for (line, separator) in [("sep=;", ";"), ("SEP=,", ","), ("\"sep=|\"", "|"), ("sep=\t", "\t")] {
        // A header of one column with commas in it would be taken for the other separator.
        let header = ["profile_id", "path", "\"a,b;c|d\""].join(separator);
        let text = format!("\u{feff}{line}\r\n{header}\r\n{}\r\n", [PROFILE, "a.png", "x"].join(separator));
        let (readings, _) = read_all(CSV, &text).unwrap();
        assert_eq!((readings.len(), line_of(&readings[0])), (1, 3), "{text:?}");
    }
}

#[test]
fn bars_separate_columns_too() {
    let text = format!("profile_id|category|document_type|path\n{PROFILE}|SUPPORTING|TAX|a,b.png\n");
    assert_eq!(paths(&entries(CSV, text)[0]), ["a,b.png"]);
}

#[test]
fn empty_columns_and_cells_at_the_end_make_no_difference() {
    let text = format!("profile_id,path,name,,,\n{PROFILE},a,n,,,\n{PROFILE},b,n\n{PROFILE},c,n, ,,,,\n,,,,,\n");
    let (entries, warnings) = read_with_warnings(text.replace("b,n\n", "b,n,,\n"));
    assert_eq!(entries.iter().flat_map(paths).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        warnings,
        [
            "3 columns have no name and are passed over, the first is column 4",
            "1 rows have only empty cells and were passed over"
        ]
    );
    let (readings, _) = read_all(CSV, format!("profile_id,path,\n{PROFILE},a,x\n")).unwrap();
    assert!(invalid(&readings[0]).contains("the row at line 2 has \"x\" in column 3, which has no name"));
}

#[test]
fn a_last_empty_cell_may_be_missing_unless_the_list_may_be_cut() {
    let rows = format!("profile_id,path,name\n{PROFILE},a\n{PROFILE},b,n\n{PROFILE},c");
    assert_eq!(read_all(CSV, format!("{rows}\r\n")).unwrap().1.invalid, 0);
    let (readings, summary) = read_all(CSV, rows).unwrap();
    assert_eq!(summary.invalid, 1);
    assert!(invalid(&readings[2]).contains("the row at line 4 has 2 cells, but the header has 3"));
}

#[test]
fn columns_for_people_are_passed_over_and_slips_are_not() {
    let list = |column: &str| format!("profile_id,path,{column}\n{PROFILE},a,x\n");
    let (entries, warnings) = read_with_warnings(list("comment"));
    assert_eq!((entries.len(), warnings), (1, vec!["the column \"comment\" is not known and is passed over".into()]));
    for own in ["code", "Reason", "cure"] {
        assert_eq!(read_with_warnings(list(own)).1, Vec::<String>::new(), "{own}");
    }
    for slip in ["profileid", "refrence", "sha-256", "doc_type", "image type"] {
        assert!(unusable(CSV, list(slip)).contains("is not known | if "), "{slip}");
    }
    // A column that is passed over may have bytes that are no text.
    let mut bytes = list("comment").into_bytes();
    bytes.extend(format!("{PROFILE},b,\"").into_bytes());
    bytes.extend(b"M\xFCller\"\n");
    assert_eq!(read_with_warnings(bytes).0.len(), 2);
}

#[test]
fn a_list_without_a_header_has_one_error() {
    let reported = unusable(CSV, format!("{PROFILE},a,PROOF_OF_IDENTITY,PASSPORT,a.png,FRONT\n").repeat(2));
    assert!(reported.contains("the header row is missing: line 1 has values") && reported.lines().count() == 1);
}

#[test]
fn filling_bytes_at_the_end_are_passed_over_and_holes_are_not() {
    let list = csv(&["P,a,IDP,a.png,,,,"]);
    for padding in ["\0".repeat(512), "\x1A".to_owned(), format!("\x1A{}", "\0".repeat(100_000))] {
        let (entries, warnings) = read_with_warnings(format!("{list}{padding}"));
        assert_eq!(entries.len(), 1);
        assert!(warnings[0].starts_with(&format!("the list ends with {} bytes", padding.len())), "{warnings:?}");
    }
    let (readings, summary) = read_all(CSV, format!("{}{}", list.trim_end(), "\0".repeat(512))).unwrap();
    assert_eq!(summary.invalid, 1);
    assert!(invalid(&readings[0]).contains("the row at line 2 has zero bytes"), "{readings:?}");
    let (readings, _) =
        read_all(CSV, format!("{list}{}\n{}", "\0".repeat(512), list.split_once('\n').unwrap().1)).unwrap();
    assert!(invalid(&readings[1]).contains("line 3"), "{readings:?}");
}

#[test]
fn other_encodings_are_named_with_how_to_save_the_list() {
    let text = csv(&["P,a,IDP,a.png,,,,"]);
    let wide = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    for bytes in [wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
        let reported = unusable(CSV, bytes);
        assert!(reported.contains("UTF-16") && reported.contains("UTF-8") && reported.lines().count() == 1);
    }
    let mut latin = text.into_bytes();
    latin.extend(format!("{PROFILE},b,PROOF_OF_IDENTITY,PASSPORT,M").into_bytes());
    latin.extend(b"\xFCller.png,,,,\n");
    let (readings, _) = read_all(CSV, latin).unwrap();
    let wanted = "column path of the row at line 3 is not UTF-8 text: as Windows-1252 it reads \"M\u{fc}ller.png\"";
    assert!(invalid(&readings[1]).contains(wanted), "{readings:?}");
}

#[test]
fn absolute_paths_of_windows_are_refused() {
    for path in ["C:\\Scans\\17\\front.png", "d:/scans/a.png", "\\\\server\\scans\\a.png"] {
        let (readings, _) = read_all(CSV, format!("profile_id,path\n{PROFILE},{path}\n")).unwrap();
        assert!(invalid(&readings[0]).contains("the path is absolute, of Windows"), "{path}");
    }
}

#[test]
fn a_list_that_ends_where_a_spreadsheet_does_is_named() {
    let row = format!("{PROFILE},a\n");
    for (rows, expected) in [(65_534, false), (65_535, true), (65_536, false)] {
        let text = format!("profile_id,path\n{}", row.repeat(rows));
        let (_, summary) = read_all(CSV, &text).unwrap();
        let is_named = summary.warnings.iter().any(|warning| warning.kind == Some(WarningKind::RowLimit));
        assert_eq!(is_named, expected, "{rows}");
        let refused = RefusedWarnings::parse("row-limit").unwrap();
        let limits = ManifestBounds { refused, ..ManifestBounds::default() };
        assert_eq!(read_within(CSV, text, &limits).is_err(), expected, "{rows}");
    }
}
