//! The content of an upload, decoded and hashed as it flows: no more than one block of it is ever held.
//!
//! Takes the symbols of a JSON string (its escapes already resolved) in pieces of any size: padded standard Base64
//! without line breaks, or the same in a data URI (`data:image/png;base64,…`), as the API does.

use base64::{
    DecodeSliceError, Engine,
    engine::{Simd, general_purpose::PAD},
};
use sha2::{Digest, Sha256 as Hasher};

use crate::{
    entry::Sha256,
    file_format::{FileType, FormatWalk},
};

/// Symbols decoded in one go; a multiple of four. Large enough that calls cost nothing, small enough for a cache.
const BLOCK: usize = 32 * 1024;

/// The longest beginning of a data URI that is read, in bytes; real ones have some 30.
const LONGEST_PREFIX: usize = 256;

/// What is known of some content once it has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentSummary {
    pub sha256: Sha256,
    pub bytes: u64,
    /// One of the image types that the API takes; `None` for anything else.
    pub image_format: Option<&'static str>,
}

/// Reads content piece by piece.
pub(super) struct DataReader {
    engine: Simd,
    prefix: Prefix,
    /// Fewer than four symbols that wait for the rest of their group.
    held: Vec<u8>,
    decoded: Vec<u8>,
    padded: bool,
    hasher: Hasher,
    bytes: u64,
    inspection: FormatWalk,
    /// The first thing that was wrong; everything after it is ignored.
    wrong: Option<&'static str>,
}

enum Prefix {
    /// Too little has been received to know whether this is a data URI.
    Unknown(Vec<u8>),
    /// A data URI whose comma has not come yet.
    Uri(Vec<u8>),
    /// What comes is Base64.
    Over,
}

impl DataReader {
    pub(super) fn new() -> Self {
        Self {
            engine: Simd::standard(PAD),
            prefix: Prefix::Unknown(Vec::new()),
            held: Vec::with_capacity(4),
            decoded: vec![0; BLOCK],
            padded: false,
            hasher: Hasher::new(),
            bytes: 0,
            inspection: FormatWalk::default(),
            wrong: None,
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && self.wrong.is_none() {
            match &mut self.prefix {
                Prefix::Over => return self.symbols(piece),
                Prefix::Unknown(seen) => {
                    let (next, rest) = piece.split_at(1);
                    seen.extend_from_slice(next);
                    piece = rest;
                    if !b"data:".starts_with(seen) {
                        let seen = std::mem::take(seen);
                        self.prefix = Prefix::Over;
                        self.symbols(&seen);
                    } else if seen.len() == b"data:".len() {
                        self.prefix = Prefix::Uri(Vec::new());
                    }
                }
                Prefix::Uri(seen) => {
                    let (next, rest) = piece.split_at(1);
                    piece = rest;
                    if next != b"," {
                        seen.extend_from_slice(next);
                        if seen.len() > LONGEST_PREFIX {
                            self.wrong = Some("the data URI has no comma");
                        }
                    } else if seen.ends_with(b";base64") {
                        self.prefix = Prefix::Over;
                    } else {
                        self.wrong = Some("the data URI is not Base64");
                    }
                }
            }
        }
    }

    fn symbols(&mut self, mut piece: &[u8]) {
        if !self.held.is_empty() {
            let (fill, rest) = piece.split_at(piece.len().min(4 - self.held.len()));
            self.held.extend_from_slice(fill);
            piece = rest;
            if self.held.len() < 4 {
                return;
            }
            let group = std::mem::take(&mut self.held);
            self.decode(&group);
        }
        let (whole, rest) = piece.split_at(piece.len() - piece.len() % 4);
        for block in whole.chunks(BLOCK) {
            self.decode(block);
        }
        self.held.extend_from_slice(rest);
    }

    /// Decodes complete groups of four.
    fn decode(&mut self, block: &[u8]) {
        if self.wrong.is_some() {
            return;
        }
        if self.padded {
            self.wrong = Some("symbols follow the padding");
            return;
        }
        let count = match self.engine.decode_slice(block, &mut self.decoded) {
            Ok(count) => count,
            Err(DecodeSliceError::DecodeError(_) | DecodeSliceError::OutputSliceTooSmall) => {
                self.wrong = Some("it is not padded standard Base64 without line breaks");
                return;
            }
        };
        let decoded = self.decoded.get(..count).unwrap_or_default();
        self.padded = block.ends_with(b"=");
        self.hasher.update(decoded);
        self.bytes = self.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.inspection.feed(decoded);
    }

    /// Returns what was received.
    ///
    /// # Errors
    ///
    /// What was wrong with it, as a lower-case fragment.
    pub(super) fn finish(mut self) -> Result<ContentSummary, &'static str> {
        match std::mem::replace(&mut self.prefix, Prefix::Over) {
            Prefix::Over => {}
            Prefix::Unknown(seen) => self.symbols(&seen),
            Prefix::Uri(_) => self.wrong = Some("the data URI has no comma"),
        }
        if !self.held.is_empty() {
            self.wrong = self.wrong.or(Some("its Base64 is cut off or lacks its padding"));
        }
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => Ok(ContentSummary {
                sha256: Sha256(self.hasher.finalize().into()),
                bytes: self.bytes,
                image_format: self.inspection.file_type().map(api_name),
            }),
        }
    }
}

/// The API's word for a type (help).
const fn api_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Jpeg => "JPG",
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(text: &str, piece: usize) -> Result<ContentSummary, &'static str> {
        let mut reader = DataReader::new();
        text.as_bytes().chunks(piece).for_each(|piece| reader.push(piece));
        reader.finish()
    }

    fn digest(bytes: &[u8]) -> Sha256 {
        Sha256(Hasher::digest(bytes).into())
    }

    #[test]
    fn pieces_of_any_size_give_the_same_content() {
        for length in [1, 2, 3, 17, 1000] {
            let bytes: Vec<u8> = b"%PDF-1.7 ".iter().copied().cycle().take(length).collect();
            let text = STANDARD.encode(&bytes);
            for piece in [1, 2, 3, 5, 4096] {
                let content = read(&text, piece).unwrap();
                assert_eq!((content.bytes, content.sha256), (length as u64, digest(&bytes)), "{length} by {piece}");
                let uri = read(&format!("data:application/pdf;base64,{text}"), piece).unwrap();
                assert_eq!(uri, content);
            }
        }
    }

    #[test]
    fn what_lacks_padding_or_continues_after_it_is_wrong() {
        for piece in [1, 4, 100] {
            for text in [
                "QUJD\nQUJD",
                "QUI",
                "QUI=QUJD",
                "QUI==",
                "QR==",
                "QU_-",
                "=",
                "data:image/png,abcd",
                "data:image/png;base64",
            ] {
                assert!(read(text, piece).is_err(), "{text} by {piece}");
            }
        }
        assert!(read(&format!("data:{}", "x".repeat(10_000)), 4096).is_err());
    }

    #[test]
    fn nothing_is_empty_content() {
        assert_eq!(read("", 1).unwrap().bytes, 0);
    }

    #[test]
    fn types_are_detected_as_by_the_worker() {
        for (content, wanted) in [
            (&b"GIF89a..."[..], Some("GIF")),
            (b"\xFF\xD8\xFF\xE0", Some("JPG")),
            (b"\x89PNG\r\n\x1A\n\0\0", Some("PNG")),
            (b"%PDF-1.4", Some("PDF")),
            (b"\x1B%-12345X@PJL JOB\r\n%PDF-1.4", Some("PDF")),
            (b"<!DOCTYPE html>%PDF-1.4 mentioned", None),
            (b"II*\0", Some("TIFF")),
            (b"MM\0+", Some("TIFF")),
            (b"MZ", None),
        ] {
            assert_eq!(read(&STANDARD.encode(content), 5).unwrap().image_format, wanted);
        }
    }
}
