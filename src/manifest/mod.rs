//! Manifests: bytes into entries, or everything that is wrong with them.
//!
//! Reads the three formats, JSON, JSON Lines and CSV, and checks the form of what they ask for. Whether the files exist,
//! whether a reference was seen before, and whether a drop may write to a profile is not known here.
//!
//! Invariants: entries are handed over one at a time and memory does not grow with their number; nothing in a manifest
//! makes the reader panic, hang, or buffer more than one entry; an unusable manifest hands out no entry at all, unless
//! it is changed while it is read.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
};

use crate::{
    entry::{Entry, EntryKind, EntrySource, ProfileId},
    problem::Problem,
    warning::RefusedWarnings,
};

mod csv;
mod failure;
mod fields;
mod filled;
mod findings;
mod format;
mod json;
pub mod known;
mod lines;
mod meter;
pub mod near_name;
mod object;
mod schema;
mod scratch;
pub mod staged;
mod value;

pub(crate) use self::{csv::at_row_limit, fields::ABSOLUTE_PATH};
pub use self::{
    failure::EntryFailure,
    format::Format,
    schema::schema,
    scratch::{Scratch, Visit},
};

use self::{
    filled::FilledReader,
    meter::{Meter, Tripped},
};

/// How much of a manifest is read at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBounds {
    /// The size of the manifest, in bytes.
    pub max_bytes: u64,
    /// One line of JSON Lines, or one row of CSV, in bytes.
    pub max_line_bytes: usize,
    /// One entry of a JSON manifest, in bytes.
    pub max_entry_bytes: usize,
    /// The number of entries.
    pub max_entries: u64,
    /// The number of rows of CSV, of which one entry may have very many.
    pub max_rows: u64,
    /// The number of images of one document.
    pub max_images: usize,
    /// How deep the lists and objects of one entry may be nested, the entry itself included.
    pub max_nesting: usize,
    /// The path of a file, from the folder that all paths are within, in bytes.
    pub max_path_bytes: usize,
    /// What of `max_path_bytes` is taken by the manifest's own folder; see [`ManifestBounds::within`].
    pub folder_bytes: usize,
    /// Which warnings about the manifest itself refuse it as a whole.
    pub refused: RefusedWarnings,
}

impl ManifestBounds {
    /// The least `max_nesting` of use: an image is in a list that is in its document.
    pub const LEAST_NESTING: usize = 3;
    /// The largest `max_nesting`: below what `serde_json` reads, in which the manifest itself takes two levels more.
    pub const MOST_NESTING: usize = 120;

    /// The same for a manifest in this folder, from which its paths start.
    #[must_use]
    pub fn within(&self, folder: &str) -> Self {
        let slash = usize::from(!folder.is_empty());
        Self { folder_bytes: folder.len().saturating_add(slash), ..self.clone() }
    }
}

impl Default for ManifestBounds {
    fn default() -> Self {
        // Far above any batch that makes sense at 10,000 documents an hour, and low enough to be read in minutes.
        Self {
            max_bytes: 1_000_000_000,
            max_line_bytes: 1 << 20,
            max_entry_bytes: 1 << 20,
            max_entries: 10_000_000,
            max_rows: 20_000_000,
            max_images: 1_000,
            max_nesting: 32,
            max_path_bytes: 1024,
            folder_bytes: 0,
            refused: RefusedWarnings::default(),
        }
    }
}

/// What one place of a manifest came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A well-formed entry.
    Entry {
        /// What it asks for.
        entry: Entry,
        /// Warnings, which do not refuse the entry.
        warnings: Vec<Problem>,
        /// The line on which it begins, from 1.
        line: Option<u64>,
        /// The record of an archive that a layout made it of.
        source: Option<EntrySource>,
    },
    /// An entry that cannot be taken; the others continue.
    Invalid {
        /// Its place among the entries, from 0.
        index: u64,
        /// The line on which it begins, from 1.
        line: Option<u64>,
        /// What it is, as far as that is readable; `file` where it is not.
        kind: EntryKind,
        /// The sender's key, if it is well formed.
        reference: Option<String>,
        /// The profile that it is for, in lower case, if that is well formed.
        profile_id: Option<String>,
        /// The files that it names, as far as that is readable.
        paths: Vec<String>,
        /// What is wrong: at least one error, perhaps warnings too.
        problems: Vec<Problem>,
        /// The record of an archive that a layout made it of.
        source: Option<EntrySource>,
    },
}

impl Reading {
    /// Its place among the entries, from 0.
    #[must_use]
    pub const fn index(&self) -> u64 {
        match self {
            Self::Entry { entry, .. } => entry.index,
            Self::Invalid { index, .. } => *index,
        }
    }

    /// Adds warnings.
    pub(crate) fn warn(&mut self, more: impl IntoIterator<Item = Problem>) {
        match self {
            Self::Entry { warnings: problems, .. } | Self::Invalid { problems, .. } => problems.extend(more),
        }
    }
}

/// Why a manifest could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The manifest itself is wrong: its sender must correct it.
    #[error("the manifest cannot be used: {}", first_reason(.0))]
    Unusable(Vec<Problem>),
    /// The text ends before the manifest does: the rest may still arrive; otherwise it is unusable.
    #[error("the manifest is truncated: {}", first_reason(.0))]
    Cut(Vec<Problem>),
    /// The manifest, or the temporary file for its rows, could not be read or written: trying again may help.
    #[error("the manifest cannot be read")]
    Io(#[source] io::Error),
    /// The one who takes the entries wanted no more.
    #[error("the reading was stopped")]
    Stopped,
}

impl ReadError {
    fn unusable(problem: Problem) -> Self {
        Self::Unusable(vec![problem])
    }
}

fn first_reason(problems: &[Problem]) -> &str {
    problems.first().map_or("no reason is known", |problem| problem.reason.as_str())
}

/// A manifest that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManifestSummary {
    /// How many entries it has, with the invalid ones.
    pub entries: u64,
    /// How many of them are invalid.
    pub invalid: u64,
    /// Warnings about the manifest itself; a few at most.
    pub warnings: Vec<Problem>,
    /// Whether the last line is truncated, so that more may arrive.
    pub cut: bool,
}

/// Reads a manifest from its beginning, and hands its entries to `each` in the order of their index.
///
/// The input is read several times; `scratch` is empty, and takes the rows of CSV meanwhile. `each` stops the reading by
/// breaking.
///
/// # Errors
///
/// [`ReadError::Unusable`] says what the sender must correct, [`ReadError::Cut`] and [`ReadError::Io`] may be
/// temporary, [`ReadError::Stopped`] is what `each` asked for. After any of them, entries that were handed over must be
/// discarded.
pub fn read<R: Read + Seek>(
    input: R,
    format: Format,
    limits: &ManifestBounds,
    scratch: &mut dyn Scratch,
    each: &mut dyn FnMut(Reading) -> ControlFlow<()>,
) -> Result<ManifestSummary, ReadError> {
    let mut input = FilledReader(input);
    let start = format::start_of_text(&mut input)?;
    let mut text = Text { input, start };
    let mut sink = Sink { each, summary: ManifestSummary::default() };
    let read = match format {
        Format::Json => json::read(&mut text, limits, &mut sink),
        Format::JsonLines => lines::read(&mut text, limits, false, &mut sink),
        Format::Staged => lines::read(&mut text, limits, true, &mut sink),
        Format::Csv => csv::read(&mut text, limits, scratch, &mut sink),
    };
    match read {
        Ok(()) => Ok(sink.summary),
        // Some programs make a file first and fill it later.
        Err(ReadError::Unusable(problems)) if text.is_empty()? => Err(ReadError::Cut(problems)),
        Err(error) => Err(error),
    }
}

/// Takes an entry as it is written: its index, its text unless that is too large to be held, and the profile of an entry that
/// names none.
type VisitRaw<'a> = dyn FnMut(u64, Option<&[u8]>, Option<&ProfileId>) -> io::Result<()> + 'a;

/// An entry that is larger than this is not held to be written again, in bytes.
const LARGEST_AGAIN: usize = 16 << 20;

/// Writes a manifest again, with the entries alone that did not make it, as their sender wrote them: CSV for CSV, else JSON
/// Lines. Says how many there are.
///
/// `failure_of` says why an entry did not make it, and is asked with ascending indexes, of each entry at most once.
///
/// # Errors
///
/// [`ReadError::Unusable`] and [`ReadError::Cut`] where it is no manifest; [`ReadError::Io`] also for the output and for
/// `failure_of`. After any of them, what was written must be discarded.
pub fn write_failed<R: Read + Seek>(
    input: R,
    format: Format,
    scratch: &mut dyn Scratch,
    failure_of: &mut dyn FnMut(u64) -> io::Result<Option<EntryFailure>>,
    out: &mut dyn Write,
) -> Result<u64, ReadError> {
    let limits = ManifestBounds {
        max_bytes: u64::MAX,
        max_line_bytes: LARGEST_AGAIN,
        max_entry_bytes: LARGEST_AGAIN,
        max_entries: u64::MAX,
        max_rows: u64::MAX,
        ..ManifestBounds::default()
    };
    let mut input = FilledReader(input);
    let start = format::start_of_text(&mut input)?;
    let mut text = Text { input, start };
    let mut written = 0_u64;
    let mut one = |index: u64, entry: Option<&[u8]>, profile_id: Option<&ProfileId>| match failure_of(index)? {
        None => Ok(()),
        Some(failure) => {
            written = written.saturating_add(1);
            failure.write_line(entry, profile_id, out)
        }
    };
    match format {
        Format::Json => json::each_raw(&mut text, &limits, &mut one)?,
        Format::JsonLines => lines::each_raw(&mut text, &limits, &mut one)?,
        Format::Csv => return csv::write_failed(&mut text, &limits, scratch, failure_of, out),
        // What a layout made is nothing that its sender wrote.
        Format::Staged => {}
    }
    Ok(written)
}

/// The input without its byte order marks; every pass begins with [`Text::rewind`].
#[derive(Debug)]
struct Text<R> {
    input: FilledReader<R>,
    start: u64,
}

impl<R: Read + Seek> Text<R> {
    fn rewind(&mut self) -> Result<&mut FilledReader<R>, ReadError> {
        self.input.seek(SeekFrom::Start(self.start)).map_err(ReadError::Io)?;
        Ok(&mut self.input)
    }

    fn is_empty(&mut self) -> Result<bool, ReadError> {
        Ok(self.rewind()?.read(&mut [0]).map_err(ReadError::Io)? == 0)
    }
}

/// Counts what is handed over.
struct Sink<'a> {
    each: &'a mut dyn FnMut(Reading) -> ControlFlow<()>,
    summary: ManifestSummary,
}

impl Sink<'_> {
    fn give(&mut self, reading: Reading) -> ControlFlow<()> {
        self.summary.entries = self.summary.entries.saturating_add(1);
        if matches!(reading, Reading::Invalid { .. }) {
            self.summary.invalid = self.summary.invalid.saturating_add(1);
        }
        (self.each)(reading)
    }
}

/// A failed read: the manifest's fault where a limit was passed, otherwise the system's.
fn read_failure(
    error: io::Error,
    meter: &Meter,
    limits: &ManifestBounds,
    piece: impl FnOnce() -> Problem,
) -> ReadError {
    match meter.tripped() {
        Some(Tripped::Whole) => {
            let reason = format!("the manifest is larger than {} bytes", limits.max_bytes);
            ReadError::unusable(Problem::error(reason, divide_or_raise("max_manifest_bytes")))
        }
        Some(Tripped::Piece) => ReadError::unusable(piece()),
        None => ReadError::Io(error),
    }
}

fn no_entries() -> Problem {
    Problem::error("the manifest has no entries", "add at least one document or file, or remove the manifest")
}

fn too_many_entries(limits: &ManifestBounds) -> Problem {
    let reason = format!("the manifest has more than {} entries", limits.max_entries);
    Problem::error(reason, divide_or_raise("max_entries"))
}

fn divide_or_raise(setting: &str) -> String {
    format!("divide it into several manifests, or raise {setting} of the drop")
}

#[cfg(test)]
mod tests;
