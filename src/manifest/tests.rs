//! Tests of all formats together, and helpers for the tests of each.

use std::{collections::BTreeMap, io::Cursor};

use proptest::prelude::*;

use super::*;
use crate::warning_kind::WarningKind;

const FORMATS: [Format; 3] = [Format::Json, Format::JsonLines, Format::Csv];

/// Reads a manifest and keeps all that it gives.
pub(super) fn read_all(format: Format, text: impl AsRef<[u8]>) -> Result<(Vec<Reading>, ManifestSummary), ReadError> {
    read_within(format, text, &ManifestBounds::default())
}

pub(super) fn read_within(
    format: Format,
    text: impl AsRef<[u8]>,
    limits: &ManifestBounds,
) -> Result<(Vec<Reading>, ManifestSummary), ReadError> {
    let mut readings = Vec::new();
    let summary = read(Cursor::new(text), format, limits, &mut BTreeMap::new(), &mut |reading| {
        readings.push(reading);
        ControlFlow::Continue(())
    })?;
    Ok((readings, summary))
}

/// The entries of a manifest without a single problem, but that only some of them have references.
#[track_caller]
pub(super) fn entries(format: Format, text: impl AsRef<[u8]>) -> Vec<Entry> {
    let (readings, summary) = read_all(format, text).unwrap();
    assert_eq!(summary, ManifestSummary { entries: readings.len() as u64, ..ManifestSummary::default() });
    readings
        .into_iter()
        .map(|reading| match reading {
            Reading::Entry { entry, warnings, line: Some(_), .. }
                if warnings.iter().all(|warning| warning.kind == Some(WarningKind::MissingReference)) =>
            {
                entry
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

/// What is wrong with a manifest of which no entry must be handed out.
#[track_caller]
pub(super) fn unusable(format: Format, text: impl AsRef<[u8]>) -> String {
    unusable_within(format, text, &ManifestBounds::default())
}

#[track_caller]
pub(super) fn unusable_within(format: Format, text: impl AsRef<[u8]>, limits: &ManifestBounds) -> String {
    let mut given = 0;
    let outcome = read(Cursor::new(text), format, limits, &mut BTreeMap::new(), &mut |_| {
        given += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(given, 0, "entries of an unusable manifest were handed out");
    match outcome {
        Err(ReadError::Unusable(problems) | ReadError::Cut(problems)) => all_text(&problems),
        other => panic!("{other:?}"),
    }
}

/// The reasons and cures of an invalid entry.
#[track_caller]
pub(super) fn invalid(reading: &Reading) -> String {
    match reading {
        Reading::Invalid { problems, .. } => all_text(problems),
        Reading::Entry { .. } => panic!("{reading:?}"),
    }
}

fn all_text(problems: &[Problem]) -> String {
    assert!(problems.iter().any(Problem::is_error));
    let lines: Vec<_> =
        problems.iter().map(|problem| format!("{:?}: {} | {}", problem.field, problem.reason, problem.cure)).collect();
    lines.join("\n")
}

/// A manifest of any size that is made while it is read, and knows how much of it was read.
pub(super) struct Generated<'a> {
    head: &'a str,
    item: &'a dyn Fn(u64) -> String,
    count: u64,
    tail: &'a str,
    next: u64,
    chunk: Cursor<Vec<u8>>,
    pub(super) read: &'a std::cell::Cell<u64>,
}

impl<'a> Generated<'a> {
    pub(super) fn new(
        head: &'a str,
        item: &'a dyn Fn(u64) -> String,
        count: u64,
        tail: &'a str,
        read: &'a std::cell::Cell<u64>,
    ) -> Self {
        Self { head, item, count, tail, next: 0, chunk: Cursor::new(head.as_bytes().to_vec()), read }
    }
}

impl Read for Generated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.chunk.read(buffer)?;
            if read > 0 || self.next > self.count {
                self.read.set(self.read.get() + read as u64);
                return Ok(read);
            }
            let chunk = if self.next == self.count { self.tail.to_owned() } else { (self.item)(self.next) };
            self.chunk = Cursor::new(chunk.into_bytes());
            self.next += 1;
        }
    }
}

impl Seek for Generated<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert_eq!(to, SeekFrom::Start(0));
        self.next = 0;
        self.chunk = Cursor::new(self.head.as_bytes().to_vec());
        self.read.set(0);
        Ok(0)
    }
}

#[test]
fn an_empty_manifest_is_unusable_in_every_format() {
    for format in FORMATS {
        for text in ["", " \r\n\n", "\u{feff}"] {
            unusable(format, text);
        }
    }
}

#[test]
fn utf16_and_spreadsheets_are_refused_with_how_to_save_them() {
    for format in FORMATS {
        assert!(unusable(format, b"\xFF\xFEp\0").contains("UTF-16"));
        assert!(unusable(format, b"PK\x03\x04\x14").contains("spreadsheet"));
    }
}

#[test]
fn a_manifest_beyond_the_size_limit_is_unusable_in_every_format() {
    let profile = "a2c4393a-e219-67a4-5ab4-2186952e9038";
    let texts = [
        format!(r#"{{"version": 1, "files": [{{"profile_id": "{profile}", "path": "a"}}]}}"#),
        format!(r#"{{"profile_id": "{profile}", "path": "a"}}"#),
        format!("profile_id,path\n{profile},a\n"),
    ];
    for (format, text) in FORMATS.into_iter().zip(texts) {
        let size = text.len() as u64;
        let limits = |max_bytes| ManifestBounds { max_bytes, ..ManifestBounds::default() };
        assert_eq!(read_within(format, &text, &limits(size)).unwrap().1.entries, 1, "{format:?}");
        assert!(unusable_within(format, &text, &limits(size - 1)).contains("larger than"), "{format:?}");
    }
}

#[test]
fn a_reader_that_fails_is_not_the_senders_fault() {
    struct Broken(u32);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("lost mount"));
            }
            self.0 -= 1;
            buffer[0] = b' ';
            Ok(1)
        }
    }
    impl Seek for Broken {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    for format in FORMATS {
        for good in [0, 10] {
            let outcome = read(Broken(good), format, &ManifestBounds::default(), &mut BTreeMap::new(), &mut |_| {
                ControlFlow::Continue(())
            });
            assert!(matches!(outcome, Err(ReadError::Io(_))), "{format:?} {outcome:?}");
        }
    }
}

/// Gives its bytes in pieces of these sizes, again and again.
struct Pieces<'a>(Cursor<&'a [u8]>, &'a [usize], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 += 1;
        let size = self.1[self.2 % self.1.len()].min(buffer.len());
        self.0.read(&mut buffer[..size])
    }
}

impl Seek for Pieces<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// All that comes of a manifest, in words.
fn words_of(input: impl Read + Seek, format: Format) -> String {
    let limits = ManifestBounds { max_line_bytes: 100, ..ManifestBounds::default() };
    let mut readings = Vec::new();
    let end = read(input, format, &limits, &mut BTreeMap::new(), &mut |reading| {
        readings.push(reading);
        ControlFlow::Continue(())
    });
    format!("{readings:?} {end:?}")
}

/// Found by fuzzing: of two byte order marks, the second stayed where the bytes came in small pieces.
#[test]
fn doubled_byte_order_marks_are_dropped_however_they_arrive() {
    let profile = "a2c4393a-e219-67a4-5ab4-2186952e9038";
    for marks in 1..4 {
        let text = format!("{}profile_id,path\n{profile},a\n", "\u{feff}".repeat(marks));
        assert_eq!(entries(Format::Csv, &text).len(), 1);
        let line = format!("{}{{\"profile_id\":\"{profile}\",\"path\":\"a\"}}\n", "\u{feff}".repeat(marks));
        assert_eq!(entries(Format::JsonLines, line).len(), 1);
    }
}

proptest! {
    #[test]
    fn what_comes_of_a_manifest_does_not_depend_on_how_its_bytes_arrive(
        text in r#"(\u{feff}){0,3}(sep=;\r?\n)?((profile_id|path|comment|,|;|\||"|\r|\n|\x00|\x1A|[ab]|\{"path":"a"\}|é| ){0,40}|[ab,"]{0,300})(\x00{0,20})"#,
        sizes in proptest::collection::vec(1_usize..9, 1..5),
    ) {
        for format in FORMATS {
            let whole = words_of(Cursor::new(text.as_bytes()), format);
            let pieces = words_of(Pieces(Cursor::new(text.as_bytes()), &sizes, 0), format);
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused_in_any_format(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in FORMATS {
            check_invariants(format, &bytes)?;
        }
    }

    #[test]
    fn manifest_like_text_is_read_or_refused_in_any_format(
        text in r#"(\{"version":1,"(files|documents)":\[)?(\{"path":"[a/.]{0,3}"\},?|[\[\]{}",:;\\\t\n\ra0é]|profile_id,path\n|\n[ab],,"?|reference;path;profile_id\r\n){0,30}(\]\})?"#
    ) {
        for format in FORMATS {
            check_invariants(format, text.as_bytes())?;
        }
    }
}

/// What holds whatever is read: indices without gaps, and problems wherever something is refused.
fn check_invariants(format: Format, bytes: &[u8]) -> Result<(), TestCaseError> {
    match read_all(format, bytes) {
        Ok((readings, summary)) => {
            prop_assert!(!readings.is_empty());
            prop_assert_eq!(summary.entries, readings.len() as u64);
            let mut bad = 0;
            for (at, reading) in (0..).zip(&readings) {
                let index = match reading {
                    Reading::Entry { entry, .. } => entry.index,
                    Reading::Invalid { index, problems, .. } => {
                        bad += 1;
                        prop_assert!(problems.iter().any(Problem::is_error));
                        *index
                    }
                };
                prop_assert_eq!(index, at);
            }
            prop_assert_eq!(summary.invalid, bad);
        }
        Err(ReadError::Unusable(problems) | ReadError::Cut(problems)) => {
            prop_assert!(problems.iter().any(Problem::is_error))
        }
        Err(other) => prop_assert!(false, "{:?}", other),
    }
    Ok(())
}
