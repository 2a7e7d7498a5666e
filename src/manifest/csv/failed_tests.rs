//! Tests of the rows of failed entries.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::super::{Format, Reading, read, write_failed};
use super::*;

const ID: &str = "a2c4393a-e219-67a4-5ab4-2186952e9038";

/// The list of those entries that `failure_of` names.
fn failed_of(text: &[u8], mut failure_of: impl FnMut(u64) -> Option<EntryFailure>) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    let input = io::Cursor::new(text);
    write_failed(input, Format::Csv, &mut BTreeMap::new(), &mut |index| Ok(failure_of(index)), &mut out)?;
    Ok(out)
}

fn because(sha256: &[&str]) -> EntryFailure {
    let sha256 = sha256.iter().map(|digest| (*digest).to_owned()).collect();
    EntryFailure { code: "c".into(), reason: "r, s".into(), cure: "do \"it\"".into(), sha256 }
}

const WHY: &str = "c,\"r, s\",\"do \"\"it\"\"\"";

#[track_caller]
fn assert_failed(text: &str, failed: &[(u64, &[&str])], expected: &str) {
    let of = |index| failed.iter().find(|(wanted, _)| *wanted == index).map(|(_, sha256)| because(sha256));
    let list = failed_of(text.as_bytes(), of).unwrap();
    assert_eq!(String::from_utf8(list).unwrap(), expected.replace("WHY", WHY));
}

#[test]
fn all_rows_of_an_entry_that_failed_are_there_as_they_were() {
    assert_failed(
        "Path, PROFILE_ID ,reference,note\n a.png,P,\"x,1\",\"=1\"\n\nb.png,p,,\nc.png,P,\"x,1\",n\nd.png,P,y,\n",
        &[(0, &["00", "01"])],
        "Path, PROFILE_ID ,reference,note,sha256,code,reason,cure\n a.png,P,\"x,1\",=1,00,WHY\nc.png,P,\"x,1\",n,01,WHY\n",
    );
}

#[test]
fn digests_fill_empty_cells_and_what_failed_before_gets_its_new_reason() {
    assert_failed(
        "profile_id,path,SHA256,code,reason,cure\np,a, ,old,old,old\np,b,FF,,,\n",
        &[(0, &["00"]), (1, &["01"])],
        "profile_id,path,SHA256,code,reason,cure\np,a,00,WHY\np,b,FF,WHY\n",
    );
    // A column of the sender's own.
    assert_failed(
        "profile_id,path,code\np,a,DE\n",
        &[(0, &[])],
        "profile_id,path,code,sha256,code,reason,cure\np,a,DE,,WHY\n",
    );
}

#[test]
fn rows_of_another_shape_stay_refused() {
    let text = "profile_id,path,name\np,a\np,b,,,x,\np,c,,,\n";
    assert_failed(
        text,
        &[(0, &[]), (1, &[]), (2, &[])],
        "profile_id,path,name,sha256,code,reason,cure\np,a,,,WHY\np,b,,,WHY,,x\np,c,,,WHY\n",
    );
    let list = failed_of(text.as_bytes(), |_| Some(because(&[]))).unwrap();
    let mut faults = Vec::new();
    let mut each = |reading| {
        faults.push(matches!(&reading, Reading::Invalid { problems, .. } if problems[0].reason.contains("cells")));
        std::ops::ControlFlow::Continue(())
    };
    read(io::Cursor::new(list), Format::Csv, &ManifestBounds::default(), &mut BTreeMap::new(), &mut each).unwrap();
    assert_eq!(faults, [false, true, false]);
}

#[test]
fn the_list_keeps_its_separator_and_becomes_utf_8() {
    for separator in [";", "\t", "|"] {
        let list = |text: &str| text.replace('~', separator);
        let failed =
            failed_of(list("\u{feff}profile_id~path~\"n,o,t,e\"\np~M~a,b\n").as_bytes(), |_| Some(because(&[])));
        let expected = "\u{feff}\"profile_id\"~\"path\"~\"n,o,t,e\"~\"sha256\"~\"code\"~\"reason\"~\"cure\"\n\"p\"~\"M\"~\"a,b\"~\"\"~\"c\"~\"r, s\"~\"do \"\"it\"\"\"\n";
        assert_eq!(String::from_utf8(failed.unwrap()).unwrap(), list(expected));
    }
    let failed = failed_of(b"sep=;\nprofile_id;path\np;M\xFCller.png\n", |_| Some(EntryFailure::default())).unwrap();
    assert_eq!(
        String::from_utf8(failed).unwrap(),
        "sep=;\nprofile_id;path;sha256;code;reason;cure\np;Müller.png;;;;\n"
    );
}

#[test]
fn without_a_failure_there_is_nothing_and_without_rows_no_manifest() {
    assert_eq!(failed_of(b"profile_id,path\np,a\n", |_| None).unwrap(), b"");
    for text in [&b""[..], b"profile_id,path\n", b"a,b\n1,2\n", b"p\0a\0t\0"] {
        assert!(failed_of(text, |_| Some(because(&[]))).is_err());
    }
}

/// A list, as its rows: some with a reference, some with cells that need quotes, some of another width.
fn rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    let cell = prop_oneof![
        Just(String::new()),
        "[a-c]{1,2}",
        "[a\", ;|\t\n'=]{0,4}",
        Just(ID.to_owned()),
        Just("PASSPORT".to_owned()),
        Just("ü\u{2028}".to_owned())
    ];
    let reference = prop_oneof![Just(String::new()), "[xyz]"];
    let row = (reference, prop::collection::vec(cell, 3..8)).prop_map(|(reference, mut row)| {
        row.insert(0, reference);
        row
    });
    prop::collection::vec(row, 1..20)
}

fn csv(rows: &[Vec<String>], separator: u8) -> Vec<u8> {
    let mut writer = WriterBuilder::new().delimiter(separator).flexible(true).from_writer(Vec::new());
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.into_inner().unwrap()
}

fn records(text: &[u8], separator: u8) -> Vec<Vec<String>> {
    let mut reader =
        ::csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(false).from_reader(text);
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

proptest! {
    /// Which entries failed is as the reader counts them: the lists of two halves are together the sender's list.
    #[test]
    fn rows_that_failed_and_rows_that_did_not_are_the_list(
        mut rows in rows(), failed in prop::collection::vec(any::<bool>(), 20), separator in prop::sample::select(&SEPARATORS[..])
    ) {
        rows.retain(|row| !row.iter().all(|cell| cell.trim_ascii().is_empty()));
        prop_assume!(!rows.is_empty());
        let header = ["reference", "profile_id", "path", "category", "document_type", "bytes"].map(str::to_owned);
        let mut list = vec![header.to_vec()];
        list.extend(rows.iter().cloned());
        let text = csv(&list, separator);
        // Which entries the reader makes of it, each by its first line.
        let mut firsts = Vec::new();
        let mut each = |reading| {
            let (Reading::Entry { line, .. } | Reading::Invalid { line, .. }) = reading;
            firsts.push(line);
            std::ops::ControlFlow::Continue(())
        };
        read(io::Cursor::new(&text), Format::Csv, &ManifestBounds::default(), &mut BTreeMap::new(), &mut each).unwrap();
        let is_failed = |index: u64| failed[usize::try_from(index).unwrap()];
        let half = |which: bool| {
            let mut asked = Vec::new();
            let list = failed_of(&text, |index| {
                asked.push(index);
                (is_failed(index) == which).then(|| because(&[]))
            }).unwrap();
            (asked, records(&list, separator))
        };
        let ((asked, these), (_, those)) = (half(true), half(false));
        prop_assert_eq!(asked, (0..firsts.len() as u64).collect::<Vec<_>>());
        // Without what was added, the padding of short rows, and empty cells at the end.
        let plain = |mut row: Vec<String>, added: usize| {
            if added > 0 {
                let width = header.len();
                row.drain(width..width + added);
            }
            while row.last().is_some_and(|cell| cell.trim_ascii().is_empty()) {
                row.pop();
            }
            row
        };
        let mut found: Vec<_> =
            these.iter().skip(1).chain(those.iter().skip(1)).cloned().map(|row| plain(row, 4)).collect();
        let mut expected: Vec<_> = rows.iter().cloned().map(|row| plain(row, 0)).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
        for list in [&these, &those].into_iter().filter(|list| !list.is_empty()) {
            prop_assert_eq!(&list[0][..6], &header[..]);
            prop_assert!(list[1..].iter().all(|row| row[7..10] == ["c", "r, s", "do \"it\""]));
        }
        // Every reference is in one of them alone.
        let references = |list: &[Vec<String>]| -> std::collections::BTreeSet<String> {
            list.iter().skip(1).map(|row| row[0].clone()).filter(|reference| !reference.trim().is_empty()).collect()
        };
        prop_assert!(references(&these).is_disjoint(&references(&those)));
    }
}
