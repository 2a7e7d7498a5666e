//! The JSON Lines manifest: one entry a line.
//!
//! A line that is wrong spoils no other. Blank lines count for nothing. A first pass finds what makes the manifest
//! unusable; it only searches for line ends. No line is buffered beyond its limit.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read, Seek},
};

use crate::{entry::EntryKind, problem::Problem};

use super::{
    ManifestBounds, ReadError, Reading, Sink, Text, VisitRaw,
    findings::{Findings, Label},
    format::not_utf8,
    json::syntax_reason,
    meter::{Meter, Metered},
    no_entries,
    object::{self, Place},
    read_failure,
    staged::{StagedInvalid, StagedLine},
    too_many_entries,
    value::{ParsedValue, cure},
};

/// Reads a JSON Lines manifest and hands out its entries.
pub(super) fn read<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    staged: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let has_references = check(text.rewind()?, limits, staged)?;
    let mut index = 0_u64;
    each_line(text.rewind()?, limits, &mut |line| {
        let (reading, cut) = if staged {
            (staged_entry(&line, index, has_references, limits), false)
        } else {
            entry(&line, index, has_references, limits)
        };
        sink.summary.cut = cut;
        index = index.saturating_add(1);
        if sink.give(reading).is_break() { Err(ReadError::Stopped) } else { Ok(()) }
    })
}

/// Hands out the lines as they are written, with the index of their entries; nothing of one that is longer than is held.
pub(super) fn each_raw<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    visit: &mut VisitRaw<'_>,
) -> Result<(), ReadError> {
    check(text.rewind()?, limits, false)?;
    let mut index = 0_u64;
    each_line(text.rewind()?, limits, &mut |line| {
        visit(index, Some(line.bytes).filter(|_| !line.too_long), None).map_err(ReadError::Io)?;
        index = index.saturating_add(1);
        Ok(())
    })
}

/// Finds what makes the manifest unusable; says whether any entry has a reference.
fn check<R: Read>(input: R, limits: &ManifestBounds, staged: bool) -> Result<bool, ReadError> {
    let mut count = 0_u64;
    let mut has_references = false;
    each_line(input, limits, &mut |line| {
        count = count.saturating_add(1);
        if count > limits.max_entries {
            return Err(ReadError::unusable(too_many_entries(limits)));
        }
        if count == 1 && !line.too_long && matches!(line.bytes, b"{" | b"[") {
            let reason = format!("the entry on line {} spans several lines", line.number);
            let cure = "write one entry a line, or, if the file is one JSON object, let its name end with .json";
            return Err(ReadError::unusable(Problem::error(reason, cure)));
        }
        has_references = has_references || has_reference(&line, staged);
        Ok(())
    })?;
    if count == 0 { Err(ReadError::unusable(no_entries())) } else { Ok(has_references) }
}

/// Whether the entry on this line has a reference; only the first one of a manifest is looked for, so few lines are parsed.
fn has_reference(line: &TextLine<'_>, staged: bool) -> bool {
    #[derive(serde::Deserialize)]
    struct Reference<'a> {
        #[serde(borrow)]
        reference: Option<Cow<'a, str>>,
    }
    if line.too_long || memchr::memmem::find(line.bytes, b"reference").is_none() {
        return false;
    }
    let bytes = match serde_json::from_slice::<StagedLine<'_>>(line.bytes) {
        Ok(StagedLine { entry: Some(entry), .. }) if staged => entry.get().as_bytes(),
        _ => line.bytes,
    };
    serde_json::from_slice::<Reference<'_>>(bytes).is_ok_and(|read| read.reference.is_some())
}

/// What a layout's line comes to: an entry that is checked as any other, or why there is none.
fn staged_entry(line: &TextLine<'_>, index: u64, has_references: bool, limits: &ManifestBounds) -> Reading {
    let read = if line.too_long { None } else { serde_json::from_slice::<StagedLine<'_>>(line.bytes).ok() };
    match read {
        Some(StagedLine { source: own, invalid: Some(invalid), .. }) => {
            let StagedInvalid { kind, reference, profile_id, paths, problems } = invalid;
            let line = own.row;
            Reading::Invalid { index, line, kind, reference, profile_id, paths, problems, source: Some(own) }
        }
        Some(StagedLine { source: own, entry: Some(inner), warnings, .. }) => {
            let bytes = inner.get().as_bytes();
            let (mut reading, _) = entry(
                &TextLine { number: own.row.unwrap_or(line.number), bytes, ..*line },
                index,
                has_references,
                limits,
            );
            let (Reading::Entry { source, line, .. } | Reading::Invalid { source, line, .. }) = &mut reading;
            *line = own.row;
            *source = Some(own);
            reading.warn(warnings);
            reading
        }
        // Only what is too long for an entry can be no line.
        _ => entry(line, index, has_references, limits).0,
    }
}

/// What a line comes to, and whether it breaks off.
fn entry(line: &TextLine<'_>, index: u64, has_references: bool, limits: &ManifestBounds) -> (Reading, bool) {
    let (problem, cut) = if line.too_long {
        let reason = format!("the line is longer than {} bytes", limits.max_line_bytes);
        let cure = "make the entry smaller, or divide it; images are named by their paths; or raise max_line_bytes of the drop";
        (Problem::error(reason, cure), false)
    } else {
        match parse(line.bytes, limits) {
            Ok(parsed) => {
                let place = Place {
                    index,
                    line: Some(line.number),
                    kind: None,
                    profile_id: None,
                    others_have_references: has_references,
                    limits,
                };
                return (object::entry(parsed, &place), false);
            }
            Err((problem, at_end)) => (problem, at_end && !line.ended),
        }
    };
    let mut findings = Findings::default();
    findings.add(problem);
    // What cannot be parsed may still show what it was to be.
    let is_document = line.bytes.windows(8).any(|part| part == b"\"images\"");
    let kind = if is_document { EntryKind::Document } else { EntryKind::File };
    let label = Label {
        index,
        line: Some(line.number),
        kind,
        reference: None,
        profile_id: None,
        replace: false,
        others_have_references: false,
    };
    (findings.conclude(label, None), cut)
}

/// Reads a line; with the problem comes whether the text ended too early.
fn parse(line: &[u8], limits: &ManifestBounds) -> Result<ParsedValue, (Problem, bool)> {
    let text = str::from_utf8(line).map_err(|error| (not_utf8("the line", line), error.error_len().is_none()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = ParsedValue::read(&mut deserializer, limits.max_nesting);
    read.and_then(|parsed| deserializer.end().map(|()| parsed)).map_err(|error| {
        let (what, column) = (syntax_reason(&error), error.column());
        if error.is_data() {
            return (Problem::error(what, cure(&error)), false);
        }
        let reason = format!("the line is not valid JSON: {what}, at column {column}");
        (Problem::error(reason, "write one entry, complete, on each line"), error.is_eof())
    })
}

/// A line that is not blank.
struct TextLine<'a> {
    /// From 1, counting the blank ones.
    number: u64,
    /// Without white space around it; only its beginning where it is too long.
    bytes: &'a [u8],
    too_long: bool,
    /// Whether a line end follows.
    ended: bool,
}

fn each_line<R: Read>(
    input: R,
    limits: &ManifestBounds,
    visit: &mut dyn FnMut(TextLine<'_>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let meter = Meter::new(limits.max_bytes);
    let mut reader = BufReader::new(Metered::new(input, &meter));
    let failed =
        |error| read_failure(error, &meter, limits, || Problem::error("a line is too long", "make the entry smaller"));
    let mut line = Vec::new();
    let mut number = 0_u64;
    while let Some((too_long, ended)) = next_line(&mut reader, limits.max_line_bytes, &mut line).map_err(failed)? {
        number = number.saturating_add(1);
        let bytes = line.trim_ascii();
        if too_long || !bytes.is_empty() {
            visit(TextLine { number, bytes, too_long, ended })?;
        }
    }
    Ok(())
}

/// Reads the next line into `line`, at most `most` bytes of it; says whether it is longer and whether a line
/// end follows, and nothing at the end.
fn next_line(reader: &mut impl BufRead, most: usize, line: &mut Vec<u8>) -> io::Result<Option<(bool, bool)>> {
    line.clear();
    // One byte more, for the carriage return of a Windows line end, which is no part of the line.
    let capacity = most.saturating_add(1);
    let mut overflows = false;
    let mut begun = false;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let at_end = available.is_empty();
        begun |= !at_end;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        let room = capacity.saturating_sub(line.len());
        overflows |= part.len() > room;
        line.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = part.len().saturating_add(usize::from(end.is_some()));
        reader.consume(used);
        if end.is_some() || at_end {
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            return Ok(begun.then_some((overflows || text.len() > most, end.is_some())));
        }
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
