//! What must hold for every input, whoever wrote it: each function takes any bytes and panics where something does not.
//!
//! The fuzz targets call these with bytes that a fuzzer makes up; `tests/it/drops/fuzz_corpus.rs` calls them with all
//! that was kept in `corpus/`, so that `cargo test` notices when an old finding comes back.

#![allow(dead_code, reason = "each target uses one of them")]

use std::{
    io::{self, Cursor, Read, Seek, SeekFrom, Write as _},
    ops::ControlFlow,
    time::Duration,
};

use passfort_ingest::{
    api::limits,
    clock::Timestamp,
    entry::{ProfileId, RelativePath, Sha256},
    exchange::{Answer, Ending, Exchange, Fault, LONGEST_WAIT, LimitHeaders, PageHeaders},
    file_format::{FormatWalk, Inspected},
    layout::WordsLayout,
    manifest::{self, Format, ManifestBounds, ReadError, Reading},
    operation::Operation,
    outcome::{Outcome, Reply, outcome},
    queue::scratch::TemporaryStore,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// What must hold for these bytes.
pub type Check = fn(&[u8]);

/// All target names, with their checks.
pub const CHECKS: [(&str, Check); 8] = [
    ("manifest_json", manifest_json),
    ("manifest_lines", manifest_lines),
    ("manifest_csv", manifest_csv),
    ("api_answer", api_answer),
    ("names", names),
    ("image", image),
    ("layouts", layouts),
    ("workbooks", workbooks),
];

/// A JSON manifest.
pub fn manifest_json(data: &[u8]) {
    manifest(data, Format::Json);
}

/// A JSON Lines manifest.
pub fn manifest_lines(data: &[u8]) {
    manifest(data, Format::JsonLines);
}

/// A CSV manifest.
pub fn manifest_csv(data: &[u8]) {
    manifest(data, Format::Csv);
}

/// So small that a fuzzer reaches them.
fn bounds() -> ManifestBounds {
    ManifestBounds {
        max_bytes: 8192,
        max_line_bytes: 512,
        max_entry_bytes: 512,
        max_entries: 16,
        max_rows: 24,
        max_images: 4,
        max_nesting: 6,
        max_path_bytes: 64,
        folder_bytes: 8,
        ..ManifestBounds::default()
    }
}

fn manifest(data: &[u8], format: Format) {
    let whole = readings(Cursor::new(data), format, &bounds());
    let dribbled = readings(Dribble(Cursor::new(data)), format, &bounds());
    assert_eq!(whole, dribbled, "what comes of a manifest depends on how its bytes arrive");
}

/// What a manifest comes to, in words.
fn readings(input: impl Read + Seek, format: Format, limits: &ManifestBounds) -> (Vec<String>, String) {
    let mut given = Vec::new();
    let result = manifest::read(input, format, limits, &mut TemporaryStore::default(), &mut |reading| {
        let index = match &reading {
            Reading::Entry { entry, .. } => {
                assert!(entry.sources().count() <= limits.max_images, "more images than are allowed");
                for source in entry.sources() {
                    name(source.path.as_str());
                    let bytes = source.path.as_str().len() + limits.folder_bytes;
                    assert!(bytes <= limits.max_path_bytes, "a longer path than is allowed");
                }
                entry.index
            }
            Reading::Invalid { index, problems, .. } => {
                assert!(problems.iter().any(|problem| problem.is_error()), "invalid for no reason");
                *index
            }
        };
        assert_eq!(index, given.len() as u64, "entries are counted from 0, and none is left out");
        given.push(format!("{reading:?}"));
        ControlFlow::Continue(())
    });
    let end = match result {
        Ok(summary) => {
            assert_eq!(summary.entries, given.len() as u64);
            assert!(summary.entries <= limits.max_entries && summary.invalid <= summary.entries);
            format!("{summary:?}")
        }
        // A manifest that ends in the middle is either cut or still under way.
        Err(ReadError::Cut(problems) | ReadError::Unusable(problems)) => {
            assert!(!problems.is_empty(), "unusable for no reason");
            assert!(given.is_empty(), "an unusable manifest has no entries");
            format!("{problems:?}")
        }
        Err(ReadError::Io(error)) => panic!("memory cannot be read: {error}"),
        Err(ReadError::Stopped) => panic!("nobody stopped it"),
    };
    (given, end)
}

/// Gives one to three bytes at a time, as a slow pipe does.
struct Dribble<'a>(Cursor<&'a [u8]>);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.0.position() % 3).unwrap_or_default() + 1;
        let room = buffer.len().min(wanted);
        self.0.read(&mut buffer[..room])
    }
}

impl Seek for Dribble<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// Paths, profile ids and digests, as they stand in a manifest.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(path) = RelativePath::parse(&text) {
        name(path.as_str());
    }
    if let Some(id) = ProfileId::parse(&text) {
        assert!(id.as_str().bytes().all(|byte| byte.is_ascii_digit() || byte == b'-' || (b'a'..=b'f').contains(&byte)));
        assert_eq!(id.as_str().len(), 36);
    }
    if let Some(digest) = Sha256::parse(&text) {
        assert!(digest.to_string().eq_ignore_ascii_case(&text));
    }
}

fn name(path: &str) {
    assert!(!path.is_empty() && path.len() <= RelativePath::MAX_BYTES);
    assert!(!path.starts_with('/') && !path.chars().any(char::is_control), "{path:?}");
    assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
}

/// An answer of the API: what was asked, how far the request went and the headers are taken from the first bytes.
pub fn api_answer(data: &[u8]) {
    let Some((&[what, high, low, how], rest)) = data.split_first_chunk::<4>() else { return };
    let operations = [
        Operation::UploadImage,
        Operation::UploadFile,
        Operation::CreateDocument,
        Operation::ReadDocuments,
        Operation::ListImages,
        Operation::Whoami,
    ];
    let operation = operations[usize::from(what) % operations.len()];
    let status = 100 + u16::from_be_bytes([high, low]) % 500;
    let ending =
        [Ending::Whole, Ending::Whole, Ending::Cut, Ending::Silent, Ending::TooLarge][usize::from(how >> 4) % 5];
    let (headers, body) = match how & 1 {
        0 => (&rest[..0], rest),
        _ => rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(0)),
    };
    let limits = limit_headers(headers);
    let now = Timestamp(1_800_000_000_000);
    if let Some(wait) = limits.wait(now) {
        assert!(wait <= LONGEST_WAIT, "{wait:?}");
    }
    let handed_over = how & 2 == 0;
    let result = match how & 12 {
        12 => Err(Fault::Reset(String::from_utf8_lossy(body).into_owned())),
        _ => Ok(Answer {
            status,
            limits,
            pages: PageHeaders::default(),
            body: body.to_vec(),
            omitted: Vec::new(),
            ending,
        }),
    };
    let exchange = Exchange {
        operation,
        result,
        sent_bytes: 1,
        handed_over,
        started: now,
        took: Duration::from_millis(1),
        answered_after: None,
    };
    let judged = outcome(&exchange, now);
    if let Some(reason) = judged.reason() {
        assert!(reason.message.chars().count() <= 300, "{}", reason.message);
        assert!(!reason.message.chars().any(char::is_control), "{:?}", reason.message);
    }
    match &judged {
        Outcome::Done(reply) => {
            assert!(exchange.status().is_some_and(|status| (200..300).contains(&status)), "{judged:?}");
            assert_eq!(ending, Ending::Whole, "half an answer is none");
            assert!(handed_over || !operation.is_creating(), "nothing can come of half a request");
            if let Reply::Image { id } | Reply::File { id } | Reply::Document { id } = reply {
                assert!(!id.is_empty());
            }
        }
        Outcome::Lost(_) => assert!(operation.is_creating(), "reading loses nothing: {judged:?}"),
        Outcome::Refused(_) => assert!(exchange.status().is_some(), "a broken connection refuses nothing"),
        _ => {}
    }
}

fn limit_headers(text: &[u8]) -> LimitHeaders {
    let names = [
        "x-ratelimit-remaining",
        "x-ratelimit-retry-secs",
        "retry-after",
        "x-ratelimit-reset-secs",
        "x-ratelimit-reset",
    ];
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in names.into_iter().zip(text.split(|byte| *byte == b'|')) {
        if let Ok(value) = reqwest::header::HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    limits::read(&headers)
}

/// A file that says that it is an image: whether its end is there does not depend on how it is read.
pub fn image(data: &[u8]) {
    let whole = inspected(data, data.len().max(1));
    // Small ones cost most; each length has its own.
    let piece = 5 + data.len() % 59;
    assert_eq!(whole, inspected(data, piece), "what is found depends on the size of the pieces");
}

fn inspected(data: &[u8], piece: usize) -> Inspected {
    let mut inspection = FormatWalk::default();
    data.chunks(piece).for_each(|piece| inspection.feed(piece));
    let read = &mut |buffer: &mut [u8], at: u64| {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
        let length = buffer.len().min(data.len() - from);
        buffer[..length].copy_from_slice(&data[from..from + length]);
        Ok(length)
    };
    inspection.finish(data.len() as u64, read).expect("memory can be read")
}

/// A layout's text, a line `%%`, and a list of any kind.
pub fn layouts(data: &[u8]) {
    let Some(at) = data.windows(4).position(|bytes| bytes == b"\n%%\n") else { return };
    let Ok(layout) = str::from_utf8(&data[..=at]) else { return };
    match WordsLayout::parse(layout) {
        Ok(layout) => list(&layout, &data[at + 4..]),
        Err(reason) => is_short(&reason),
    }
}

thread_local! {
    static OF_WORKBOOKS: WordsLayout = WordsLayout::parse(
        r#"
        version = 1
        source = { xlsx = "list.xlsx", header = 0 }
        document = { reference = "{1}", profile_id = "{2}", kind = "{3}", images = [{ path = "{4}" }] }
        kinds = { "*" = "PROOF_OF_IDENTITY/PASSPORT" }"#,
    )
    .expect("it is a layout");
}

/// An Excel workbook: the bytes of one, or the text of its parts, each after a line `%%NAME`, which are then packed.
pub fn workbooks(data: &[u8]) {
    if !data.starts_with(b"%%") {
        return OF_WORKBOOKS.with(|layout| list(layout, data));
    }
    let mut packed = ZipWriter::new(Cursor::new(Vec::new()));
    for part in String::from_utf8_lossy(data).split("%%").skip(1) {
        let (name, content) = part.split_once('\n').unwrap_or((part, ""));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        // Two parts of one name cannot be packed.
        if packed.start_file(name, options).is_ok() {
            packed.write_all(content.as_bytes()).expect("memory can be written");
        }
    }
    OF_WORKBOOKS.with(|layout| list(layout, packed.finish().expect("it can be packed").get_ref()));
}

/// What a layout makes of a list: each line is one entry of a manifest.
fn list(layout: &WordsLayout, list: &[u8]) {
    let whole = layout.read(Cursor::new(list));
    let dribbled = layout.read(Dribble(Cursor::new(list)));
    assert_eq!(whole, dribbled, "what comes of a list depends on how its bytes arrive");
    match whole {
        Ok(read) if read.lines.is_empty() => {}
        Ok(read) => {
            let manifest = read.lines.join("\n");
            let manifest = Cursor::new(manifest.as_bytes());
            let (entries, _) = readings(manifest, Format::JsonLines, &ManifestBounds::default());
            assert_eq!(entries.len(), read.lines.len(), "a line is not one entry");
        }
        Err(reason) => is_short(&reason),
    }
}

fn is_short(reason: &str) {
    assert!(!reason.is_empty() && reason.len() < 4096, "{reason}");
}
