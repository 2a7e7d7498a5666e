//! Which format a manifest has.
//!
//! The file's name decides, because a sender chooses it; only without a known ending do the first bytes. What no
//! manifest can be, a spreadsheet or UTF-16 text, is reported here with its cure, before a parser fails on it.

use std::{
    fmt::Display,
    io::{Read, Seek, SeekFrom},
};

use serde_json::Value;

use crate::problem::Problem;

use super::ReadError;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One object with `documents` and `files`.
    Json,
    /// One entry a line.
    JsonLines,
    /// One image or file a row, after a header row.
    Csv,
}

impl Format {
    /// The format of a file: by the ending of its name in any letter case, otherwise by its first bytes.
    #[must_use]
    pub fn detect(name: &str, head: &[u8]) -> Self {
        let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        match ending.as_deref() {
            Some("json") => Self::Json,
            Some("jsonl" | "ndjson") => Self::JsonLines,
            Some("csv" | "tsv") => Self::Csv,
            _ => Self::of_text(head),
        }
    }

    fn of_text(head: &[u8]) -> Self {
        let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
        match text.first() {
            Some(b'{') => {
                // Only an entry of its own can be complete on the first line and lack what a manifest has at its top.
                let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                match serde_json::from_slice::<Value>(line) {
                    Ok(Value::Object(object))
                        if !["version", "documents", "files"].iter().any(|key| object.contains_key(*key)) =>
                    {
                        Self::JsonLines
                    }
                    _ => Self::Json,
                }
            }
            Some(b'[') => Self::Json,
            _ => Self::Csv,
        }
    }
}

/// Where the text begins, after a byte order mark.
pub(super) fn start_of_text<R: Read + Seek>(input: &mut R) -> Result<u64, ReadError> {
    input.seek(SeekFrom::Start(0)).map_err(ReadError::Io)?;
    let mut head = Vec::with_capacity(4);
    Read::by_ref(input).take(4).read_to_end(&mut head).map_err(ReadError::Io)?;
    let cure = "save it as UTF-8; in a spreadsheet, choose \"CSV UTF-8\"";
    if head.starts_with(b"\xFF\xFE") || head.starts_with(b"\xFE\xFF") {
        return Err(ReadError::unusable(Problem::error("the manifest is UTF-16 text", cure)));
    }
    if head.starts_with(b"PK\x03\x04") {
        return Err(ReadError::unusable(Problem::error("the manifest is a spreadsheet or a ZIP archive", cure)));
    }
    Ok(if head.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 })
}

/// The problem with text that is not UTF-8.
pub(super) fn not_utf8(what: impl Display) -> Problem {
    Problem::error(format!("{what} is not UTF-8 text"), "save the manifest as UTF-8; in a spreadsheet, \"CSV UTF-8\"")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_ending_decides_in_any_letter_case() {
        let head = b"{";
        assert_eq!(Format::detect("b.manifest.JSON", b"a,b"), Format::Json);
        assert_eq!(Format::detect("b.manifest.jsonl", head), Format::JsonLines);
        assert_eq!(Format::detect("b.NdJson", head), Format::JsonLines);
        assert_eq!(Format::detect("b.csv", head), Format::Csv);
        assert_eq!(Format::detect("b.TSV", head), Format::Csv);
    }

    #[test]
    fn without_a_known_ending_the_text_decides() {
        for (head, expected) in [
            (&b"\xEF\xBB\xBF \n{\n  \"version\": 1"[..], Format::Json),
            (b"{\"version\": 1, \"files\": []}", Format::Json),
            (b"{\"path\": \"a\"}\r\n{\"path\"", Format::JsonLines),
            (b"{\"path\": \"a", Format::Json),
            (b"[{}]", Format::Json),
            (b"profile_id,path\n", Format::Csv),
            (b"\xEF\xBB\xBFpath;profile_id", Format::Csv),
            (b"", Format::Csv),
        ] {
            assert_eq!(Format::detect("batch.txt", head), expected, "{}", String::from_utf8_lossy(head));
            assert_eq!(Format::detect("batch", head), expected);
        }
    }

    #[test]
    fn what_cannot_be_a_manifest_is_refused_with_how_to_save_it() {
        for head in [&b"\xFF\xFEp\0a\0"[..], b"\xFE\xFF\0p", b"PK\x03\x04xx"] {
            let Err(ReadError::Unusable(problems)) = start_of_text(&mut io::Cursor::new(head)) else { panic!() };
            assert!(problems[0].cure.contains("UTF-8"));
        }
        assert_eq!(start_of_text(&mut io::Cursor::new(b"\xEF\xBB\xBF{")).unwrap(), 3);
        assert_eq!(start_of_text(&mut io::Cursor::new(b"")).unwrap(), 0);
    }
}
