//! Which format a manifest has.
//!
//! The file's name decides, because a sender chooses it; only without a known ending do the first bytes. What no
//! manifest can be, as a spreadsheet or UTF-16 text, is reported here with its cure, before a parser fails on it.

use std::{
    fmt::Display,
    io::{Read, Seek, SeekFrom},
};

use serde_json::Value;

use crate::problem::Problem;

use super::{ReadError, findings::quote};

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
    /// What a layout made of an archive: one entry a line, or why there is none, with where it comes from. Only this
    /// program writes it.
    Staged,
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

/// Where the text begins: after its byte order mark, of which a file that was joined or saved twice has several.
pub(super) fn start_of_text<R: Read + Seek>(input: &mut R) -> Result<u64, ReadError> {
    let mut start = 0_u64;
    let head = loop {
        input.seek(SeekFrom::Start(start)).map_err(ReadError::Io)?;
        let mut head = Vec::with_capacity(8);
        Read::by_ref(input).take(8).read_to_end(&mut head).map_err(ReadError::Io)?;
        if !head.starts_with(BYTE_ORDER_MARK) {
            break head;
        }
        start = start.saturating_add(3);
    };
    let what = match head.as_slice() {
        // Text of our formats begins with characters of ASCII, which have a zero byte in UTF-16.
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [1..=0xFF, 0, 1..=0xFF, 0, ..] | [0, 1..=0xFF, 0, 1..=0xFF, ..] => {
            "UTF-16 text"
        }
        [b'P', b'K', 3, 4, ..] | [0xD0, 0xCF, 0x11, 0xE0, ..] => "a spreadsheet or a ZIP archive",
        [0x1F, 0x8B, ..] => "compressed",
        _ => return Ok(start),
    };
    Err(ReadError::unusable(Problem::error(format!("the manifest is {what}"), SAVE_AS_UTF8)))
}

const SAVE_AS_UTF8: &str = "save it as UTF-8; in a spreadsheet, choose \"CSV UTF-8\"";

/// The problem with text that is not UTF-8; `bytes` are shown as they read in Windows-1252, the usual other encoding.
pub(super) fn not_utf8(what: impl Display, bytes: &[u8]) -> Problem {
    let wrong = str::from_utf8(bytes).err().map_or(0, |error| error.valid_up_to());
    let around = bytes.get(wrong.saturating_sub(20)..bytes.len().min(wrong.saturating_add(20))).unwrap_or_default();
    let read = windows_1252(around).map(|text| format!(": as Windows-1252 it reads {}", quote(&text)));
    Problem::error(format!("{what} is not UTF-8 text{}", read.unwrap_or_default()), SAVE_AS_UTF8)
}

/// Text in Windows-1252, unless it has one of the five bytes that mean nothing there.
pub(super) fn windows_1252(bytes: &[u8]) -> Option<String> {
    const FROM_80: [u16; 32] = [
        0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D,
        0, 0, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,
        0x017E, 0x0178,
    ];
    let read = |byte: &u8| match byte {
        0x80..0xA0 => {
            let code = FROM_80.get(usize::from(byte.wrapping_sub(0x80))).copied().filter(|code| *code > 0)?;
            char::from_u32(u32::from(code))
        }
        other => Some(char::from(*other)),
    };
    bytes.iter().map(read).collect()
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
        for head in [
            &b"\xFF\xFEp\0a\0"[..],
            b"\xFE\xFF\0p",
            b"p\0a\0t\0",
            b"\0p\0a\0t",
            b"{\0\n\0",
            b"PK\x03\x04xx",
            b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1",
            b"\x1F\x8B\x08",
        ] {
            let Err(ReadError::Unusable(problems)) = start_of_text(&mut io::Cursor::new(head)) else { panic!() };
            assert!(problems[0].cure.contains("UTF-8"));
        }
        assert_eq!(start_of_text(&mut io::Cursor::new(b"\xEF\xBB\xBF{")).unwrap(), 3);
        assert_eq!(start_of_text(&mut io::Cursor::new("\u{feff}\u{feff}p")).unwrap(), 6);
        assert_eq!(start_of_text(&mut io::Cursor::new(b"")).unwrap(), 0);
    }

    #[test]
    fn text_of_western_windows_is_shown_as_it_was_meant() {
        assert_eq!(
            windows_1252(b"M\xFCller \x80 \x93a\x94").as_deref(),
            Some("M\u{fc}ller \u{20ac} \u{201c}a\u{201d}")
        );
        assert_eq!(windows_1252(b"\x81"), None);
        let problem = not_utf8("the row", b"M\xFCller.png");
        assert_eq!(problem.reason, "the row is not UTF-8 text: as Windows-1252 it reads \"M\u{fc}ller.png\"");
    }
}
