//! The values of a PDF's syntax, as far as its encryption needs them.

use std::str::FromStr;

/// Deeper nesting is not followed.
const MAX_DEPTH: u32 = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PdfValue {
    Number(i64),
    Name(Vec<u8>),
    Text(Vec<u8>),
    Reference(u64, u64),
    Array(Vec<Self>),
    Dictionary(PdfDictionary),
    /// A word, or a number with a point.
    Word(Vec<u8>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PdfDictionary(Vec<(Vec<u8>, PdfValue)>);

impl PdfDictionary {
    /// Reads the one that a text begins with.
    pub fn read(text: &[u8]) -> Option<Self> {
        match (Lexer { text }).value(0) {
            Some(PdfValue::Dictionary(dictionary)) => Some(dictionary),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&PdfValue> {
        self.0.iter().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value)
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(|value| if let PdfValue::Number(number) = value { Some(*number) } else { None })
    }

    pub fn text(&self, key: &str) -> Option<&[u8]> {
        self.get(key).and_then(|value| if let PdfValue::Text(text) = value { Some(text.as_slice()) } else { None })
    }

    pub fn dictionary(&self, key: &str) -> Option<&Self> {
        self.get(key).and_then(|value| if let PdfValue::Dictionary(inner) = value { Some(inner) } else { None })
    }

    pub fn is_name(&self, key: &str, name: &str) -> bool {
        matches!(self.get(key), Some(PdfValue::Name(found)) if found == name.as_bytes())
    }

    pub fn is_false(&self, key: &str) -> bool {
        matches!(self.get(key), Some(PdfValue::Word(word)) if word == b"false")
    }
}

struct Lexer<'a> {
    text: &'a [u8],
}

impl<'a> Lexer<'a> {
    fn value(&mut self, depth: u32) -> Option<PdfValue> {
        self.skip_blanks();
        match *self.text {
            _ if depth > MAX_DEPTH => None,
            [b'<', b'<', ..] => {
                self.skip(2);
                self.dictionary(depth)
            }
            [b'<', ..] => {
                self.skip(1);
                let text = self.until(b'>');
                self.skip(1);
                Some(PdfValue::Text(hexadecimal(text)))
            }
            [b'(', ..] => self.literal(),
            [b'[', ..] => {
                self.skip(1);
                let mut values = Vec::new();
                loop {
                    self.skip_blanks();
                    if self.text.first() == Some(&b']') {
                        self.skip(1);
                        return Some(PdfValue::Array(values));
                    }
                    values.push(self.value(depth + 1)?);
                }
            }
            [b'/', ..] => {
                self.skip(1);
                Some(PdfValue::Name(self.word().to_vec()))
            }
            _ => self.number_or_word(),
        }
    }

    fn dictionary(&mut self, depth: u32) -> Option<PdfValue> {
        let mut entries = Vec::new();
        loop {
            self.skip_blanks();
            match *self.text {
                [b'>', b'>', ..] => {
                    self.skip(2);
                    return Some(PdfValue::Dictionary(PdfDictionary(entries)));
                }
                [b'/', ..] => {
                    self.skip(1);
                    let key = self.word().to_vec();
                    entries.push((key, self.value(depth + 1)?));
                }
                _ => return None,
            }
        }
    }

    /// Text in parentheses, which may be nested.
    fn literal(&mut self) -> Option<PdfValue> {
        let mut text = Vec::new();
        let mut open = 0;
        loop {
            let byte = self.next()?;
            match byte {
                b'(' => open += 1,
                b')' => open -= 1,
                _ => {}
            }
            match byte {
                b'(' if open == 1 => {}
                b')' if open == 0 => return Some(PdfValue::Text(text)),
                b'\\' => match self.next()? {
                    b'n' => text.push(b'\n'),
                    b'r' => text.push(b'\r'),
                    b't' => text.push(b'\t'),
                    b'b' => text.push(8),
                    b'f' => text.push(12),
                    b'\n' => {}
                    b'\r' => self.skip(usize::from(self.text.first() == Some(&b'\n'))),
                    digit @ b'0'..=b'7' => {
                        let mut code = u32::from(digit - b'0');
                        for _ in 0..2 {
                            let Some(more @ b'0'..=b'7') = self.text.first() else { break };
                            code = code * 8 + u32::from(more - b'0');
                            self.skip(1);
                        }
                        text.push(code.to_le_bytes()[0]);
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
    }

    fn number_or_word(&mut self) -> Option<PdfValue> {
        let word = self.word();
        if word.is_empty() {
            return None;
        }
        let Some(number) = parse(word) else { return Some(PdfValue::Word(word.to_vec())) };
        // Two numbers and an R are a reference.
        let mut ahead = Self { text: self.text };
        ahead.skip_blanks();
        let generation = parse(ahead.word());
        ahead.skip_blanks();
        if let (Ok(object), Some(generation), b"R") = (u64::try_from(number), generation, ahead.word()) {
            self.text = self.text.get(self.text.len() - ahead.text.len()..)?;
            return Some(PdfValue::Reference(object, generation));
        }
        Some(PdfValue::Number(number))
    }

    fn word(&mut self) -> &'a [u8] {
        let is_end = |byte: &u8| is_blank(*byte) || b"<>[](){}/%".contains(byte);
        let length = self.text.iter().position(is_end).unwrap_or(self.text.len());
        self.take(length)
    }

    fn until(&mut self, end: u8) -> &'a [u8] {
        let length = self.text.iter().position(|byte| *byte == end).unwrap_or(self.text.len());
        self.take(length)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.text.split_at(length);
        self.text = rest;
        taken
    }

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.text.split_first()?;
        self.text = rest;
        Some(*byte)
    }

    fn skip(&mut self, count: usize) {
        self.text = self.text.get(count..).unwrap_or_default();
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.text.first() {
                Some(byte) if is_blank(*byte) => self.skip(1),
                Some(b'%') => {
                    let length = self.text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.skip(length.unwrap_or(self.text.len()));
                }
                _ => return,
            }
        }
    }
}

const fn is_blank(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace()
}

fn parse<N: FromStr>(word: &[u8]) -> Option<N> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn hexadecimal(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        text.iter().filter_map(|byte| char::from(*byte).to_digit(16)?.to_le_bytes().first().copied()).collect();
    let digit = |pair: &[u8], at: usize| pair.get(at).copied().unwrap_or_default();
    digits.chunks(2).map(|pair| (digit(pair, 0) << 4) | digit(pair, 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encryption_needs_is_read() {
        let text = b"<</Filter/Standard /P -1028/ID[<4a4>(a\\(b\\051\\\r\n(c))]/Encrypt 5 0 R\n/CF<</Length 16>>/M false % x\n>>trailer";
        let read = PdfDictionary::read(text).unwrap();
        assert!(read.is_name("Filter", "Standard") && read.is_false("M"));
        assert_eq!(read.number("P"), Some(-1028));
        let texts = vec![PdfValue::Text(b"J\x40".to_vec()), PdfValue::Text(b"a(b)(c)".to_vec())];
        assert_eq!(read.get("ID"), Some(&PdfValue::Array(texts)));
        assert_eq!(read.get("Encrypt"), Some(&PdfValue::Reference(5, 0)));
        assert_eq!(read.dictionary("CF").unwrap().number("Length"), Some(16));
        for broken in [&b"<</A"[..], b"<</A 1", b"<</A (", b"<<1>>", b"12", b"", b"<</A>>"] {
            assert_eq!(PdfDictionary::read(broken), None, "{broken:?}");
        }
        assert_eq!(PdfDictionary::read(&b"<</A".repeat(100_000)), None);
        assert_eq!(PdfDictionary::read(&[&b"<</A "[..], &b"[".repeat(100_000)].concat()), None);
    }
}
