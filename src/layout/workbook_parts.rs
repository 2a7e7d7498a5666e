//! The parts of an Excel workbook, unpacked and checked before the library that reads cells sees them.
//!
//! That library keeps strings, styles and names in memory, reserves as much as a workbook announces, and calculates with
//! every reference without a bound. A few kilobytes that unpack to gigabytes, or announce that many strings, would end the
//! process. So the XML parts are unpacked into a temporary file, within bounds, and nothing else is read.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write as _},
};

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{finding::LayoutError, temporary::temporary, text::quoted};

/// The largest workbook, in bytes; and what may be read to find its parts, which are kept in memory.
const MAX_PACKED: u64 = 512 << 20;
const MAX_DIRECTORY: u64 = 32 << 20;

/// More parts than this, no program writes.
const MAX_PARTS: usize = 65_535;

/// The size of all XML parts, unpacked.
const MAX_UNPACKED: u64 = 1 << 30;

/// What is kept in memory: the bytes of strings, styles and names, with so many more for each.
const MAX_KEPT: u64 = 256 << 20;
const ITEM_BYTES: u64 = 64;

/// The longest cell, string, tag or text, in bytes of XML. A cell has at most 32,767 characters.
const MAX_PIECE: u64 = 4 << 20;

/// The deepest element.
const MAX_DEPTH: u64 = 64;

/// Elements of which something is kept in memory.
const KEPT: [&str; 11] =
    ["mergeCell", "si", "sheet", "definedName", "Relationship", "numFmt", "font", "fill", "border", "xf", "clrScheme"];

/// The XML parts of a workbook, checked, as a ZIP archive that is not compressed.
pub(super) fn unpack(what: &str, input: impl Read + Seek) -> Result<File, LayoutError> {
    let mut parts = copy(what, input)?;
    let mut kept = 0;
    for at in 0..parts.len() {
        let part = parts.by_index(at).map_err(|error| broken(what, error))?;
        let name = quoted(&part.name().map_err(|error| broken(what, error))?);
        let check = PartCheck { what, name, bytes: part.size(), kept: &mut kept, longest: 0, depth: 0, span: None };
        check.read(BufReader::new(part))?;
    }
    let mut file = parts.into_inner();
    file.rewind().map_err(LayoutError::io(what))?;
    Ok(file)
}

fn broken(what: &str, error: impl std::fmt::Display) -> LayoutError {
    let cure = "save it as .xlsx with a spreadsheet program, or as CSV";
    LayoutError::wrong(what, format!("it is no Excel workbook: {error}"), cure)
}

fn too_large(what: &str, reason: impl Into<String>) -> LayoutError {
    LayoutError::wrong(what, reason, "save the sheet as CSV, and read it with csv = \"…\"")
}

/// Reads no more than a budget.
struct Budgeted<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Budgeted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| io::Error::other("more has to be read than it can need"))?);
        Ok(read)
    }
}

impl<R: Seek> Seek for Budgeted<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Copies the XML parts, whatever they say of their size.
fn copy(what: &str, mut input: impl Read + Seek) -> Result<ZipArchive<File>, LayoutError> {
    let bytes = input.seek(SeekFrom::End(0)).map_err(LayoutError::io(what))?;
    if bytes > MAX_PACKED {
        return Err(too_large(what, format!("the workbook is larger than {} MiB", MAX_PACKED >> 20)));
    }
    let mut head = [0; 4];
    input.rewind().map_err(LayoutError::io(what))?;
    if input.read_exact(&mut head).is_ok() && head == *b"\xD0\xCF\x11\xE0" {
        let cure = "save it as .xlsx without a password";
        return Err(LayoutError::wrong(what, "it is encrypted, or a workbook of before 2007", cure));
    }
    let left = Cell::new(MAX_DIRECTORY);
    let mut packed =
        ZipArchive::new(BufReader::new(Budgeted { inner: input, left: &left })).map_err(|error| broken(what, error))?;
    if packed.len() > MAX_PARTS {
        return Err(too_large(what, format!("the workbook has more than {MAX_PARTS} parts")));
    }
    // Each byte once, and what a buffer reads too much of each part.
    left.set(bytes + packed.len() as u64 * (16 << 10));
    let mut copy = ZipWriter::new(temporary().map_err(LayoutError::io("the temporary file"))?);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut room = MAX_UNPACKED;
    let unpacks = || too_large(what, format!("the workbook unpacks to more than {} MiB", MAX_UNPACKED >> 20));
    let mut chunk = vec![0; 64 << 10];
    for at in 0..packed.len() {
        let entry = packed.by_index_data(at).map_err(|error| broken(what, error))?;
        let name = entry.name().map_err(|error| broken(what, error))?.into_owned();
        let lower = name.to_ascii_lowercase();
        if !lower.ends_with(".xml") && !lower.ends_with(".rels") {
            continue;
        }
        if entry.size() > room {
            return Err(unpacks());
        }
        let mut part = packed.by_index(at).map_err(|error| broken(what, error))?;
        copy.start_file(name, options).map_err(|error| broken(what, error))?;
        loop {
            let read = part.read(&mut chunk).map_err(|error| broken(what, error))?;
            if read == 0 {
                break;
            }
            room = room.checked_sub(read as u64).ok_or_else(unpacks)?;
            copy.write_all(chunk.get(..read).unwrap_or_default())?;
        }
    }
    copy.finish_into_readable().map_err(|error| LayoutError::from(io::Error::other(error)))
}

/// A cell, or something that is kept, with all that is in it.
struct Span {
    depth: u64,
    from: u64,
    is_kept: bool,
}

/// Reads a part as the library will.
struct PartCheck<'a> {
    what: &'a str,
    name: String,
    bytes: u64,
    kept: &'a mut u64,
    /// The longest of what is kept of this part.
    longest: u64,
    depth: u64,
    span: Option<Span>,
}

impl PartCheck<'_> {
    fn read(mut self, part: impl BufRead) -> Result<(), LayoutError> {
        let mut reader = Reader::from_reader(part.take(0));
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        // Without it, the end of an element would depend on who reads it.
        config.check_end_names = true;
        let mut buffer = Vec::new();
        loop {
            let before = reader.buffer_position();
            buffer.clear();
            reader.get_mut().set_limit(MAX_PIECE);
            let event = reader.read_event_into(&mut buffer);
            let after = reader.buffer_position();
            let begun = self.span.as_ref().map_or(before, |span| span.from);
            if reader.get_ref().limit() == 0 || after - begun > MAX_PIECE {
                let reason = format!("{} has a cell, text or tag of more than {} MiB", self.name, MAX_PIECE >> 20);
                return Err(too_large(self.what, reason));
            }
            match event.map_err(|error| self.wrong(&format!("is not well-formed XML: {error}")))? {
                Event::Start(start) => self.start(&start, before)?,
                Event::End(_) => self.end(after),
                Event::Eof => return Ok(()),
                _ => {}
            }
            if *self.kept > MAX_KEPT {
                let reason = format!("its strings, styles and names take more than {} MiB", MAX_KEPT >> 20);
                return Err(too_large(self.what, reason));
            }
        }
    }

    fn wrong(&self, reason: &str) -> LayoutError {
        let cure = "save the workbook again with a spreadsheet program";
        LayoutError::wrong(self.what, format!("{} {reason}", self.name), cure)
    }

    fn start(&mut self, start: &BytesStart<'_>, from: u64) -> Result<(), LayoutError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong(&format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        let name = start.local_name();
        let name = name.as_ref();
        let is_kept = KEPT.contains(&name);
        if is_kept {
            // Each format of a cell has copies of its font and of the others.
            *self.kept += ITEM_BYTES + if name == "xf" { self.longest } else { 0 };
        }
        match &mut self.span {
            Some(span) => span.is_kept |= is_kept,
            None if is_kept || name == "c" => self.span = Some(Span { depth: self.depth, from, is_kept }),
            None => {}
        }
        if !matches!(name, "c" | "row" | "dimension" | "mergeCell" | "sst") {
            return Ok(());
        }
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.wrong(&format!("is not well-formed XML: {error}")))?;
            let value = attribute.value.as_ref();
            match (name, attribute.key.as_ref()) {
                ("c" | "row", "r") if reference(value).is_none() => {
                    return Err(self.wrong(&format!("has a cell {}, which no sheet has", quoted(value))));
                }
                ("dimension" | "mergeCell", "ref") if !is_area(value) => {
                    return Err(self.wrong(&format!("has an area {}, which no sheet has", quoted(value))));
                }
                // The shortest one is `<si/>`.
                ("sst", "uniqueCount") if value.parse().is_ok_and(|count: u64| count > self.bytes / 5) => {
                    return Err(self.wrong(&format!("announces {value} strings, which its size cannot hold")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, at: u64) {
        if let Some(span) = self.span.take_if(|span| span.depth == self.depth)
            && span.is_kept
        {
            let bytes = at - span.from;
            *self.kept += bytes;
            self.longest = self.longest.max(bytes);
        }
        self.depth = self.depth.saturating_sub(1);
    }
}

/// The row and the column of a reference as `B7`, from 1, and 0 where it names none. `None` where it is none, or far
/// outside every sheet: the library calculates with it in 32 bits.
fn reference(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let letters = text.strip_suffix(digits)?;
    if letters.len() > 3 || digits.len() > 7 {
        return None;
    }
    let column =
        letters.bytes().fold(0, |column, letter| column * 26 + u32::from(letter.to_ascii_uppercase() - b'A' + 1));
    let row = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some((row, column))
}

/// Whether a text is one reference, or two in their order.
fn is_area(text: &str) -> bool {
    let ends: Option<Vec<_>> = text.split(':').map(reference).collect();
    match ends.as_deref() {
        Some([_]) => true,
        Some([from, to]) => from.0 <= to.0 && from.1 <= to.1,
        _ => false,
    }
}
