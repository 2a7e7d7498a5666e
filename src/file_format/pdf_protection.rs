//! Finds a PDF's encryption: its newest trailer names it, and it is never compressed itself.

use std::io;

use memchr::memmem::{self, Finder};

use super::{
    Flaw,
    content::ContentReader,
    pdf_password::asks_for_password,
    pdf_value::{PdfDictionary, PdfValue},
};

/// How much of a dictionary is read.
const DICTIONARY: usize = 16 * 1024;

/// How a PDF is protected, whose table of objects is at `xref`, and which mentions encryption at `last`.
pub(super) fn protection(content: &mut ContentReader<'_>, xref: Option<u64>, last: u64) -> io::Result<Option<Flaw>> {
    let trailer = match xref {
        Some(place) => trailer_at(content, place)?,
        // Viewers search for it then; it is a trailer that names the catalogue too.
        None => trailer_around(content, last)?,
    };
    let Some(trailer) = trailer else { return Ok(None) };
    let indirect;
    let encryption = match trailer.get("Encrypt") {
        Some(PdfValue::Dictionary(encryption)) => encryption,
        Some(PdfValue::Reference(object, generation)) => {
            indirect = object_of(content, &format!("{object} {generation} obj"))?;
            let Some(encryption) = &indirect else { return Ok(None) };
            encryption
        }
        _ => return Ok(None),
    };
    let id = match trailer.get("ID") {
        Some(PdfValue::Array(ids)) => ids.first(),
        _ => None,
    };
    let id = if let Some(PdfValue::Text(id)) = id { id.as_slice() } else { &[] };
    if !encryption.is_name("Filter", "Standard") {
        return Ok(Some(Flaw::Protected("the PDF opens only with a certificate or another program")));
    }
    let asks = asks_for_password(encryption, id).unwrap_or(true);
    Ok(asks.then_some(Flaw::Protected("the PDF asks for a password")))
}

/// The dictionary that belongs to the table of objects at this place.
fn trailer_at(content: &mut ContentReader<'_>, place: u64) -> io::Result<Option<PdfDictionary>> {
    let text = content.bytes(place, DICTIONARY)?;
    if !text.trim_ascii_start().starts_with(b"xref") {
        return Ok(memmem::find(&text, b"<<").and_then(|at| PdfDictionary::read(text.get(at..)?)));
    }
    let mut found = None;
    let word = b"trailer";
    content.pieces((place, u64::MAX), word.len() - 1, &mut |piece, at| {
        found = memmem::find(piece, word).map(|within| at + within as u64);
        found.is_some()
    })?;
    let Some(place) = found else { return Ok(None) };
    let text = content.bytes(place + word.len() as u64, DICTIONARY)?;
    Ok(PdfDictionary::read(&text))
}

/// The trailer, or the object that is one, which has this place inside it.
fn trailer_around(content: &mut ContentReader<'_>, place: u64) -> io::Result<Option<PdfDictionary>> {
    let from = place.saturating_sub(DICTIONARY as u64);
    let text = content.bytes(from, 2 * DICTIONARY)?;
    let before = text.get(..usize::try_from(place - from).unwrap_or_default()).unwrap_or_default();
    let begins = memmem::rfind(before, b"trailer").max(memmem::rfind(before, b"obj"));
    let begins = begins.and_then(|begins| Some(begins + memmem::find(before.get(begins..)?, b"<<")?));
    let trailer = begins.and_then(|begins| PdfDictionary::read(text.get(begins..)?));
    Ok(trailer.filter(|trailer| trailer.get("Root").is_some()))
}

/// The last object of this number that describes an encryption. Its place is in a table that may be compressed, so that it
/// is searched for.
fn object_of(content: &mut ContentReader<'_>, words: &str) -> io::Result<Option<PdfDictionary>> {
    let finder = Finder::new(words.as_bytes());
    let mut places = Vec::new();
    content.pieces((0, u64::MAX), words.len(), &mut |piece, at| {
        let found = finder.find_iter(piece).filter(|at| {
            let before = at.checked_sub(1).and_then(|before| piece.get(before));
            before.is_none_or(|byte| !byte.is_ascii_digit())
        });
        places.extend(found.map(|within| at + within as u64));
        places.len() > 100
    })?;
    for place in places.into_iter().rev() {
        let text = content.bytes(place + words.len() as u64, DICTIONARY)?;
        let read = memmem::find(&text, b"<<").and_then(|at| PdfDictionary::read(text.get(at..)?));
        if let Some(found) = read.filter(|found| found.get("Filter").is_some() && found.get("V").is_some()) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
