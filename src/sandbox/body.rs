//! Reads a request's JSON as it flows, in constant memory.
//!
//! The string under the top-level key `data` goes to a [`DataReader`] and is never kept; everything else is kept, up to
//! [`MOST_KEPT_BYTES`], and read by serde at the end, with an empty string in the content's place. So this file only
//! has to know where strings begin and end; serde decides whether all of it is well-formed.

use serde_json::{Map, Value, value::RawValue};

use super::data::{ContentSummary, DataReader};

/// How much of a body, apart from the content, is kept.
pub(super) const MOST_KEPT_BYTES: usize = 1024 * 1024;

/// A body that was read to its end.
#[derive(Debug)]
pub(super) struct Body {
    /// Every field but the content.
    pub fields: Map<String, Value>,
    /// The text of the field `extracted_data`, whose numbers a parsed value would round.
    pub extracted_data: Option<Box<str>>,
    /// The string under `data`, or what is wrong with it.
    pub data: Option<Result<ContentSummary, &'static str>>,
}

/// What is kept as it came.
#[derive(serde::Deserialize)]
struct RawFields<'a> {
    #[serde(borrow)]
    extracted_data: Option<&'a RawValue>,
}

/// Takes a body piece by piece.
pub(super) struct BodyReader {
    kept: Vec<u8>,
    scan: ScanState,
    depth: usize,
    /// Whether the next string at depth 1 is a key.
    key_is_next: bool,
    /// Whether the next value, or the one that is being read, is under the top-level key `data`.
    under_data: bool,
    data: Option<DataReader>,
    wrong: Option<&'static str>,
}

enum ScanState {
    /// Outside of strings.
    Between,
    /// In a string that is kept; `key_at` is where it begins, if it is a top-level key.
    Text { escaped: bool, key_at: Option<usize> },
    /// In the content.
    Content(Escape),
}

#[derive(Clone, Copy)]
enum Escape {
    None,
    Begun,
    Unicode { digits: u8, value: u32 },
}

impl BodyReader {
    pub(super) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            scan: ScanState::Between,
            depth: 0,
            key_is_next: false,
            under_data: false,
            data: None,
            wrong: None,
        }
    }

    /// Takes the next piece; after something wrong, pieces are ignored.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        while let (Some((&byte, rest)), None) = (piece.split_first(), self.wrong) {
            match self.scan {
                ScanState::Content(Escape::None) => {
                    let run = plain_run(piece);
                    let (plain, after) = piece.split_at(run);
                    self.content(plain);
                    piece = after;
                    if let Some((&special, after)) = after.split_first() {
                        piece = after;
                        if special == b'"' {
                            self.keep(b'"');
                            self.scan = ScanState::Between;
                            self.under_data = false;
                        } else {
                            self.scan = ScanState::Content(Escape::Begun);
                        }
                    }
                }
                ScanState::Content(escape) => {
                    self.escape(escape, byte);
                    piece = rest;
                }
                ScanState::Text { escaped, key_at } => {
                    self.keep(byte);
                    self.text(byte, escaped, key_at);
                    piece = rest;
                }
                ScanState::Between => {
                    self.keep(byte);
                    self.between(byte);
                    piece = rest;
                }
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.kept.len() >= MOST_KEPT_BYTES {
            self.wrong = Some("the body is larger than 1 MiB without its data");
            self.kept = Vec::new();
        } else {
            self.kept.push(byte);
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.key_is_next = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 1 => {
                self.key_is_next = true;
                self.under_data = false;
            }
            b':' if self.depth == 1 => self.key_is_next = false,
            b'"' if self.depth == 1 && self.key_is_next => {
                self.scan = ScanState::Text { escaped: false, key_at: Some(self.kept.len().saturating_sub(1)) };
            }
            b'"' if self.depth == 1 && self.under_data => {
                if self.data.is_some() {
                    self.wrong = Some("the field 'data' appears twice");
                }
                self.data = Some(DataReader::new());
                self.scan = ScanState::Content(Escape::None);
            }
            b'"' => self.scan = ScanState::Text { escaped: false, key_at: None },
            _ => {}
        }
    }

    fn text(&mut self, byte: u8, escaped: bool, key_at: Option<usize>) {
        match byte {
            _ if escaped => self.scan = ScanState::Text { escaped: false, key_at },
            b'\\' => self.scan = ScanState::Text { escaped: true, key_at },
            b'"' => {
                self.scan = ScanState::Between;
                if let Some(key) = key_at.and_then(|at| self.kept.get(at..)) {
                    // A key may be written with escapes, so serde reads it.
                    self.under_data = serde_json::from_slice::<String>(key).is_ok_and(|key| key == "data");
                }
            }
            _ => {}
        }
    }

    fn content(&mut self, piece: &[u8]) {
        if let Some(data) = &mut self.data {
            data.push(piece);
        }
    }

    fn escape(&mut self, escape: Escape, byte: u8) {
        let value = match (escape, byte) {
            (Escape::Unicode { digits, value }, _) => {
                let Some(digit) = char::from(byte).to_digit(16) else { return self.malformed() };
                let value = value * 16 + digit;
                if digits < 3 {
                    self.scan = ScanState::Content(Escape::Unicode { digits: digits + 1, value });
                    return;
                }
                // No symbol beyond ASCII is Base64; a NUL replaces all of them.
                u8::try_from(value).ok().filter(u8::is_ascii).unwrap_or(0)
            }
            (_, b'u') => {
                self.scan = ScanState::Content(Escape::Unicode { digits: 0, value: 0 });
                return;
            }
            (_, b'"' | b'\\' | b'/') => byte,
            (_, b'n') => b'\n',
            (_, b'r') => b'\r',
            (_, b't') => b'\t',
            (_, b'b') => 8,
            (_, b'f') => 12,
            _ => return self.malformed(),
        };
        self.scan = ScanState::Content(Escape::None);
        self.content(&[value]);
    }

    fn malformed(&mut self) {
        self.wrong = Some(MALFORMED);
    }

    /// Returns what was received.
    ///
    /// # Errors
    ///
    /// What was wrong with the JSON, as a lower-case fragment; wrong content is reported in [`Body::data`].
    pub(super) fn finish(self) -> Result<Body, &'static str> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        match serde_json::from_slice(&self.kept) {
            Ok(Value::Object(mut fields)) => {
                if self.data.is_some() {
                    fields.remove("data");
                }
                let raw: RawFields<'_> = serde_json::from_slice(&self.kept).map_err(|_| MALFORMED)?;
                let extracted_data = raw.extracted_data.map(|raw| raw.get().into());
                Ok(Body { fields, extracted_data, data: self.data.map(DataReader::finish) })
            }
            Ok(_) => Err("the body is not a JSON object"),
            Err(_) => Err(MALFORMED),
        }
    }
}

const MALFORMED: &str = "the body is not well-formed JSON";

/// How many bytes pass before a quotation mark or a backslash.
fn plain_run(piece: &[u8]) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    // Near ones are searched first, so that content full of escapes does not search each block many times over.
    let (near, far) = piece.split_at(piece.len().min(64));
    if let Some(at) = near.iter().position(is_special) {
        return at;
    }
    // `contains` is a fast search even where this crate is built without optimisation; most blocks have neither.
    let mut run = near.len();
    for block in far.chunks(4096) {
        if block.contains(&b'"') || block.contains(&b'\\') {
            return run + block.iter().position(is_special).unwrap_or(block.len());
        }
        run += block.len();
    }
    run
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn read(text: &str, piece: usize) -> Result<Body, &'static str> {
        let mut reader = BodyReader::new();
        text.as_bytes().chunks(piece).for_each(|piece| reader.push(piece));
        reader.finish()
    }

    fn content_bytes(text: &str) -> Vec<Result<u64, &'static str>> {
        [1, 3, 4096].map(|piece| read(text, piece).unwrap().data.unwrap().map(|content| content.bytes)).to_vec()
    }

    #[test]
    fn fields_may_be_in_any_order() {
        for text in [
            r#"{"data":"QUJD","image_type":"FRONT"}"#,
            r#" { "image_type" : "FRONT" , "data" : "QUJD" } "#,
            r#"{"d\u0061ta":"QUJD","image_type":"FRONT"}"#,
        ] {
            for piece in [1, 2, 7, 4096] {
                let body = read(text, piece).unwrap();
                assert_eq!(Value::Object(body.fields), serde_json::json!({"image_type": "FRONT"}));
                assert_eq!(body.data.unwrap().unwrap().bytes, 3);
            }
        }
    }

    #[test]
    fn escapes_in_the_content_are_read() {
        // "?>?" and "ûï¾" in Base64 have the symbols '/' and '+'.
        assert_eq!(content_bytes(r#"{"data":"Pz4\/"}"#), [Ok(3); 3]);
        assert_eq!(content_bytes(r#"{"data":"\u002b\u002B\/\/"}"#), [Ok(3); 3]);
        for text in [r#"{"data":"QUJD\nQUJD"}"#, r#"{"data":"QUJ\u0144"}"#, r#"{"data":"QU\"D"}"#] {
            assert!(content_bytes(text).iter().all(Result::is_err), "{text}");
        }
    }

    #[test]
    fn only_the_top_level_field_is_the_content() {
        let body = read(r#"{"images":[{"data":"no"},"data"],"x":{"data":"no"},"y":"data","data":"QUJD"}"#, 1).unwrap();
        assert_eq!(body.fields["images"][0]["data"], "no");
        assert_eq!(body.fields["x"]["data"], "no");
        assert_eq!(body.data.unwrap().unwrap().bytes, 3);
        let body = read(r#"{"data":["QUJD"]}"#, 1).unwrap();
        assert!(body.data.is_none() && body.fields.contains_key("data"));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for text in [
            "",
            "{",
            r#"{"data":"QUJD""#,
            r#"{"data":"QUJD"#,
            r#"{"data":"QUJD"}x"#,
            r#"{"data":"QU\xJD"}"#,
            r#"{"data":"QU\u00zz"}"#,
            r#"{"data":"QUJD","data":"QUJD"}"#,
            r#"["data","QUJD"]"#,
            "}}}}",
            &"[".repeat(100_000),
        ] {
            for piece in [1, 4096] {
                assert!(read(text, piece).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn memory_stays_bounded_however_much_comes() {
        let mut reader = BodyReader::new();
        reader.push(br#"{"x":""#);
        for _ in 0..40 {
            reader.push(&[b'x'; 65536]);
            assert!(reader.kept.capacity() <= 2 * MOST_KEPT_BYTES);
        }
        assert!(reader.finish().unwrap_err().contains("1 MiB"));
    }

    #[test]
    fn large_content_passes_without_being_kept() {
        // Some pieces have escapes far from their beginning, and right behind each other.
        let block = STANDARD.encode([255; 48 * 1024]).replacen("////", "\\/\\///", 1);
        let block = format!("{}{block}", "A".repeat(4 * 5000));
        let mut reader = BodyReader::new();
        reader.push(br#"{"image_type":"BACK","data":""#);
        for _ in 0..100 {
            reader.push(block.as_bytes());
            assert!(reader.kept.len() < 100);
        }
        reader.push(br#""}"#);
        assert_eq!(reader.finish().unwrap().data.unwrap().unwrap().bytes, 100 * (48 * 1024 + 3 * 5000));
    }
}
