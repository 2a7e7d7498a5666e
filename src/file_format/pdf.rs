//! A PDF ends with `startxref`, the place of its table of objects, and a mark; each later addition brings objects, and
//! all of these again. Viewers do without the mark where the place is right.

use std::{io, sync::LazyLock};

use memchr::memmem::{self, Finder};

use super::{
    Flaw,
    content::ContentReader,
    file_type::{looks_like, pdf_begins},
    jpeg::JpegWalk,
    pdf_protection::protection,
    zeros::ZeroRuns,
};

/// The shortest run of zero bytes that is a hole.
const HOLE: u64 = 16 * 1024;

/// How much of two pieces is looked at together.
const EDGE: usize = 40;

/// How far before the word `obj` its numbers may begin: no further than two pieces always show, or what is found would
/// depend on where the pieces end.
const NUMBERS: usize = EDGE - 4;

/// How much of a stream's dictionary is read.
const DICTIONARY: usize = 4096;

static END: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("%%EOF"));
static OBJECT: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("obj"));
static START_XREF: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("startxref"));
static ENCRYPT: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("/Encrypt"));
static STREAM: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("stream"));

#[derive(Debug)]
pub(super) struct PdfWalk {
    /// Where it begins, which its own offsets are counted from.
    begins: u64,
    /// A text of another type is before it.
    after_text: bool,
    /// The first bytes.
    head: Vec<u8>,
    /// The last bytes, since a match may span two pieces.
    carried: Vec<u8>,
    /// The place of the next byte.
    at: u64,
    /// Where the last of each is.
    end: Option<u64>,
    object: Option<u64>,
    start_xref: Option<u64>,
    encrypt: Option<u64>,
    zeros: ZeroRuns,
}

impl PdfWalk {
    pub fn new(head: &[u8]) -> Self {
        let begins = pdf_begins(head).unwrap_or_default();
        let before = head.get(..begins).unwrap_or_default();
        Self {
            begins: begins as u64,
            after_text: begins > 0 && matches!(looks_like(before), Some("a web page" | "an XML text")),
            head: Vec::new(),
            carried: Vec::new(),
            at: 0,
            end: None,
            object: None,
            start_xref: None,
            encrypt: None,
            zeros: ZeroRuns::of_at_least(HOLE),
        }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        if self.head.len() < 2048 {
            self.head.extend(piece.iter().take(2048 - self.head.len()));
        }
        let mut edge = std::mem::take(&mut self.carried);
        let edge_at = self.at - edge.len() as u64;
        edge.extend(piece.iter().take(EDGE));
        self.look(&edge, edge_at);
        self.look(piece, self.at);
        self.zeros.feed(piece, self.at);
        self.at += piece.len() as u64;
        let last = if piece.len() < EDGE { &edge } else { piece };
        self.carried = last.get(last.len().saturating_sub(EDGE)..).unwrap_or_default().to_vec();
    }

    fn look(&mut self, within: &[u8], at: u64) {
        let place = |found: usize| at + found as u64;
        self.end = self.end.max(END.find_iter(within).last().map(place));
        self.start_xref = self.start_xref.max(START_XREF.find_iter(within).last().map(place));
        self.encrypt = self.encrypt.max(ENCRYPT.find_iter(within).last().map(place));
        let objects = OBJECT.find_iter(within).filter(|found| is_object(within, *found));
        self.object = self.object.max(objects.last().map(place));
    }

    /// Whether it is a text that mentions PDF.
    pub const fn is_disguise(&self) -> bool {
        self.after_text && self.object.is_none()
    }

    /// What is wrong with it; nothing where it is none.
    pub fn flaws(&self, content: &mut ContentReader<'_>) -> io::Result<Option<Vec<Flaw>>> {
        let xref = self.xref(content)?;
        if self.after_text && (xref.is_none() || self.object.is_none()) {
            return Ok(None);
        }
        let mut flaws = Vec::new();
        // An object behind the end belongs to an addition that broke off.
        if !(self.end > self.object || xref.is_some() && self.start_xref > self.object) {
            flaws.push(Flaw::Truncated("the PDF has no end mark"));
        } else if self.object.is_none() {
            flaws.push(Flaw::Empty("the PDF has no object in it"));
        } else if xref.is_none() && self.declared_length().is_some_and(|declared| declared > content.len) {
            // A file that is made for reading from a network says its length at its beginning.
            flaws.push(Flaw::Truncated("the PDF is shorter than it says itself"));
        }
        if self.has_hole(content)? {
            flaws.push(Flaw::Damaged("16 KiB or more of zero bytes are inside the PDF"));
        }
        if let Some(last) = self.encrypt {
            flaws.extend(protection(content, xref, last)?);
        }
        Ok(Some(flaws))
    }

    /// The place of the table of objects, where the last `startxref` leads to one.
    fn xref(&self, content: &mut ContentReader<'_>) -> io::Result<Option<u64>> {
        let Some(at) = self.start_xref else { return Ok(None) };
        let text = content.bytes(at + START_XREF.needle().len() as u64, EDGE)?;
        let Some(offset) = number(text.trim_ascii_start()) else { return Ok(None) };
        for place in [self.begins.saturating_add(offset), offset] {
            let found = content.bytes(place, DICTIONARY)?;
            if is_xref(found.trim_ascii_start()) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn declared_length(&self) -> Option<u64> {
        let from = memmem::find(&self.head, b"/Linearized")?;
        let dictionary = self.head.get(from..)?;
        let dictionary = dictionary.get(..memmem::find(dictionary, b">>")?)?;
        number(dictionary.get(memmem::find(dictionary, b"/L ")? + 3..)?)
    }

    fn has_hole(&self, content: &mut ContentReader<'_>) -> io::Result<bool> {
        // What is behind the end of the file does not matter.
        let end = self.end.max(self.start_xref).unwrap_or_default();
        let mut holes: Vec<_> =
            self.zeros.found.iter().filter(|hole| hole.1 <= end).map(|hole| (*hole, None)).collect();
        let Some(((last, _), _)) = holes.last().copied() else { return Ok(false) };
        content.pieces((0, last), EDGE, &mut |piece, at| {
            for found in STREAM.find_iter(piece) {
                let place = at + found as u64;
                let before = piece.get(..found).unwrap_or_default();
                let begins = !before.ends_with(b"end");
                for (_, stream) in holes.iter_mut().filter(|((start, _), _)| place < *start) {
                    *stream = (*stream).max(Some((place, begins)));
                }
            }
            false
        })?;
        for ((start, end), stream) in holes {
            let is_hole = match stream {
                Some((place, true)) => is_hole_in_stream(content, place, (start, end))?,
                // Between objects.
                Some((_, false)) | None => true,
            };
            if is_hole {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether zeros are no part of a stream whose keyword is at this place: data that is not compressed may have them, as
/// has a black picture, and so may a JPEG.
fn is_hole_in_stream(content: &mut ContentReader<'_>, keyword: u64, (_, end): (u64, u64)) -> io::Result<bool> {
    let from = keyword.saturating_sub(DICTIONARY as u64);
    let before = content.bytes(from, usize::try_from(keyword - from).unwrap_or_default())?;
    let dictionary = before.get(memmem::rfind(&before, b" obj").unwrap_or_default()..).unwrap_or_default();
    let filter = memmem::find(dictionary, b"/Filter").and_then(|at| dictionary.get(at + 7..)).unwrap_or_default();
    let filter = filter.trim_ascii_start();
    if filter.is_empty() || filter.starts_with(b"null") || filter.starts_with(b"[]") {
        return Ok(false);
    }
    if !(filter.starts_with(b"/DCT") || filter.starts_with(b"[/DCT") || filter.starts_with(b"[ /DCT")) {
        return Ok(true);
    }
    let data = keyword + STREAM.needle().len() as u64;
    let data = data + if content.bytes(data, 2)? == b"\r\n" { 2 } else { 1 };
    let mut jpeg = JpegWalk::beginning_at(data);
    content.pieces((data, end.saturating_add(1)), 0, &mut |piece, _| {
        jpeg.feed(piece);
        jpeg.has_hole()
    })?;
    Ok(jpeg.has_hole())
}

/// Whether a table of objects begins here, or an object that is one.
fn is_xref(text: &[u8]) -> bool {
    let Some(object) = memmem::find(text, b"obj").filter(|at| *at < EDGE && is_object(text, *at)) else {
        return text.starts_with(b"xref");
    };
    let dictionary = text.get(object..STREAM.find(text).unwrap_or(text.len())).unwrap_or_default();
    text.starts_with(b"xref") || memmem::find(dictionary, b"/XRef").is_some()
}

/// Whether the word `obj` at this place is that of `12 0 obj`.
fn is_object(within: &[u8], at: usize) -> bool {
    // Where a piece ends with the word, it is looked at again with the next one.
    let ends = within
        .get(at + 3)
        .is_some_and(|byte| byte.is_ascii_whitespace() || b"<[(/%\0+-.".contains(byte) || byte.is_ascii_digit());
    let before = within.get(at.saturating_sub(NUMBERS)..at).unwrap_or_default();
    let number = |text: &[u8]| {
        let rest = text.trim_ascii_end();
        let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        (rest.len() < text.len() && digits > 0).then(|| rest.len() - digits)
    };
    let generation = number(before);
    ends && generation.and_then(|from| number(before.get(..from)?)).is_some()
}

/// The number that a text begins with.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}
