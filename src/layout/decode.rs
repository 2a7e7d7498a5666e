//! Bytes of a list as text: by its mark, by the layout's `encoding`, or as UTF-8.

use std::io::{Read, Seek, SeekFrom};

use encoding_rs::{CoderResult, Decoder, DecoderResult, Encoding, UTF_8};

use super::finding::LayoutError;

/// How much is decoded at once, in bytes.
const PIECE: u64 = 64 * 1024;

/// Names of encodings that a cure may offer.
const OFFERED: [&str; 6] = ["windows-1252", "windows-1250", "windows-1251", "utf-16le", "iso-8859-15", "shift_jis"];

/// The encoding of this name.
///
/// # Errors
///
/// What to write instead.
pub(super) fn encoding_of(name: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(name.trim().as_bytes()).ok_or_else(|| {
        let near = crate::nearest::nearest(name, OFFERED).unwrap_or("windows-1252");
        format!("there is no encoding {name:?}; did you mean {near:?}?")
    })
}

/// Reads a list as text, piece by piece.
pub(super) struct TextReader<'a, R> {
    what: &'a str,
    input: R,
    decoder: Decoder,
    bytes: Vec<u8>,
    /// What of `bytes` is not decoded yet.
    left: usize,
    /// How many bytes came before those.
    decoded: u64,
    at_end: bool,
    line: u64,
    given: bool,
    /// What is wrong after the text that was given: what a reader makes of that comes first, in whatever pieces it came.
    fault: Option<LayoutError>,
}

impl<'a, R: Read + Seek> TextReader<'a, R> {
    /// Begins at its start. A byte order mark decides; else `given`, else UTF-8.
    pub(super) fn new(what: &'a str, mut input: R, given: Option<&'static Encoding>) -> Result<Self, LayoutError> {
        let mut head = Vec::new();
        input.by_ref().take(4).read_to_end(&mut head).map_err(LayoutError::io(what))?;
        if head.starts_with(b"PK\x03\x04") {
            let cure = "read it with xlsx = \"…\" instead of csv";
            return Err(LayoutError::wrong(what, "it is a spreadsheet or a ZIP archive, not text", cure));
        }
        input.rewind().map_err(LayoutError::io(what))?;
        let marked = Encoding::for_bom(&head).map(|(encoding, _)| encoding);
        let zeros = head.len() == 4 && (head.get(1) == Some(&0) || head.first() == Some(&0));
        if marked.is_none() && given.is_none() && zeros {
            let likely = if head.get(1) == Some(&0) { "utf-16le" } else { "utf-16be" };
            return Err(refused(what, "it is no UTF-8 text", likely));
        }
        let decoder = marked.or(given).unwrap_or(UTF_8).new_decoder_with_bom_removal();
        let given = given.is_some();
        let (bytes, left, decoded) = (Vec::new(), 0, 0);
        Ok(Self { what, input, decoder, bytes, left, decoded, at_end: false, line: 1, given, fault: None })
    }

    /// Appends the next piece of text; says whether there was one.
    pub(super) fn read(&mut self, text: &mut String) -> Result<bool, LayoutError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.at_end {
            return Ok(false);
        }
        let before = text.len();
        let kept = self.bytes.len().saturating_sub(self.left);
        self.bytes.drain(..kept);
        let mut piece = self.input.by_ref().take(PIECE);
        self.at_end = piece.read_to_end(&mut self.bytes).map_err(LayoutError::io(self.what))? == 0;
        let mut from = 0;
        loop {
            let rest = self.bytes.get(from..).unwrap_or_default();
            text.reserve(rest.len().saturating_mul(3).saturating_add(16));
            let (result, used) = self.decoder.decode_to_string_without_replacement(rest, text, self.at_end);
            from += used;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    let lines = text.get(before..).unwrap_or_default().bytes().filter(|byte| *byte == b'\n').count();
                    let line = self.line + lines as u64;
                    let fault = self.fault(line, self.decoded + from as u64)?;
                    if text.len() == before {
                        return Err(fault);
                    }
                    self.fault = Some(fault);
                    return Ok(true);
                }
            }
        }
        self.left = self.bytes.len().saturating_sub(from);
        self.decoded += from as u64;
        self.line += text.get(before..).unwrap_or_default().bytes().filter(|byte| *byte == b'\n').count() as u64;
        Ok(!self.at_end || text.len() > before)
    }

    /// What is wrong with the bytes before this place.
    fn fault(&mut self, line: u64, at: u64) -> Result<LayoutError, LayoutError> {
        if self.given {
            let reason = format!("line {line} is not {} text", self.decoder.encoding().name());
            return Ok(LayoutError::wrong(self.what, reason, "correct `encoding` in the layout"));
        }
        let mut around = Vec::new();
        self.input
            .seek(SeekFrom::Start(at.saturating_sub(64)))
            .and_then(|_| self.input.by_ref().take(4096).read_to_end(&mut around))
            .map_err(LayoutError::io(self.what))?;
        Ok(refused(self.what, &format!("line {line} is not UTF-8 text"), guess(&around)))
    }
}

fn refused(what: &str, reason: &str, likely: &str) -> LayoutError {
    LayoutError::wrong(what, reason, format!("if it is what it looks like, add to the layout: encoding = \"{likely}\""))
}

/// The likeliest encoding of text that is not UTF-8. Encodings of single bytes cannot be recognised with certainty.
pub(super) fn guess(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\xFF\xFE")
        || bytes.iter().skip(1).step_by(2).take(64).filter(|byte| **byte == 0).count() > 16
    {
        return "utf-16le";
    }
    let high = bytes.iter().filter(|byte| **byte >= 0x80).count();
    let pairs = bytes.windows(2).filter(|pair| pair.iter().all(|byte| *byte >= 0xC0)).count();
    if high > 8 && pairs * 2 > high {
        return "windows-1251";
    }
    // Letters of central Europe that windows-1252 has signs for.
    let central =
        bytes.iter().filter(|byte| matches!(byte, 0x9C | 0x9F | 0xB3 | 0xB9 | 0xEA | 0xE6 | 0xBF | 0xB6)).count();
    let western = bytes
        .iter()
        .filter(|byte| matches!(byte, 0xE4 | 0xF6 | 0xFC | 0xDF | 0xC4 | 0xD6 | 0xDC | 0xE9 | 0xE8))
        .count();
    if central > western.saturating_mul(2) { "windows-1250" } else { "windows-1252" }
}

/// Decodes a small text at once.
pub(super) fn decode(bytes: &[u8], encoding: &'static Encoding) -> Option<String> {
    let mut decoder = encoding.new_decoder_with_bom_removal();
    let mut text = String::with_capacity(decoder.max_utf8_buffer_length(bytes.len())?);
    let (result, _, replaced) = decoder.decode_to_string(bytes, &mut text, true);
    (result == CoderResult::InputEmpty && !replaced).then_some(text)
}
