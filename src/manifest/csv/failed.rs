//! The rows of the entries that did not make it, with why, as a CSV manifest.
//!
//! The rows come in their order in the manifest. Those of one reference may be anywhere in it, so what is known of each
//! reference is kept in a scratch store.

use std::{
    borrow::Cow,
    io::{self, Read, Seek, Write},
};

use ::csv::{ByteRecord, QuoteStyle, WriterBuilder};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        EntryFailure, ManifestBounds, ReadError, Scratch, Text, format::windows_1252, no_entries,
        object::FAILURE_FIELDS,
    },
    HeaderRow, each_record, first_line,
    header::{Column, ColumnUse, SEPARATORS, Separator, separator},
    is_empty,
    row::Row,
};

/// Writes the rows of the entries that did not make it; says how many entries these are.
pub(in super::super) fn write_failed<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    scratch: &mut dyn Scratch,
    failure_of: &mut dyn FnMut(u64) -> io::Result<Option<EntryFailure>>,
    out: &mut dyn Write,
) -> Result<u64, ReadError> {
    let separator = separator(&first_line(text.rewind()?)?);
    let has_mark = text.start > 0;
    let mut groups = RowGroups { scratch, failure_of, entries: 0, failed: 0, last: None };
    let mut list: Option<FailedRows<'_>> = None;
    let mut out = Some(out);
    each_record(text.rewind()?, separator, limits, &mut |header, record, line| {
        if is_empty(record) {
            return Ok(());
        }
        let reference = Row::read(record, &header.columns, line).reference;
        let Some((failure, position)) = groups.next(reference).map_err(ReadError::Io)? else { return Ok(()) };
        if let Some(out) = out.take() {
            list = Some(FailedRows::begin(header, separator, has_mark, out).map_err(ReadError::Io)?);
        }
        list.as_mut().map_or(Ok(()), |list| list.row(record, &failure, position)).map_err(ReadError::Io)
    })?;
    if groups.entries == 0 {
        return Err(ReadError::unusable(no_entries()));
    }
    Ok(groups.failed)
}

/// What is known of the entry of a reference.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KnownGroup {
    failure: Option<EntryFailure>,
    /// How many rows of it came so far.
    rows: usize,
}

/// Which entry each row belongs to.
struct RowGroups<'a> {
    scratch: &'a mut dyn Scratch,
    failure_of: &'a mut dyn FnMut(u64) -> io::Result<Option<EntryFailure>>,
    entries: u64,
    failed: u64,
    /// The reference of the row before: rows mostly come in order.
    last: Option<(String, KnownGroup)>,
}

impl RowGroups<'_> {
    /// Why the entry of the next row failed, if it did, and which of its rows this is, from 0.
    fn next(&mut self, reference: Option<String>) -> io::Result<Option<(EntryFailure, usize)>> {
        let Some(reference) = reference else { return Ok(self.begin()?.map(|failure| (failure, 0))) };
        if self.last.as_ref().is_none_or(|(last, _)| *last != reference) {
            if let Some((last, known)) = self.last.take() {
                self.scratch.put(last.as_bytes(), &serde_json::to_vec(&known)?)?;
            }
            let known = match self.scratch.get(reference.as_bytes())? {
                Some(known) => serde_json::from_slice(&known)?,
                None => KnownGroup { failure: self.begin()?, rows: 0 },
            };
            self.last = Some((reference, known));
        }
        Ok(self.last.as_mut().and_then(|(_, known)| {
            let position = known.rows;
            known.rows = known.rows.saturating_add(1);
            Some((known.failure.clone()?, position))
        }))
    }

    fn begin(&mut self) -> io::Result<Option<EntryFailure>> {
        let failure = (self.failure_of)(self.entries)?;
        self.entries = self.entries.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(failure.is_some()));
        Ok(failure)
    }
}

/// The list that is written.
struct FailedRows<'a> {
    writer: ::csv::Writer<&'a mut dyn Write>,
    /// How many columns the sender's list has.
    width: usize,
    /// Which of them has digests; without one they get a column of their own.
    sha256: Option<usize>,
    /// The first of the three that say why, where the sender's list is one of ours that failed again.
    failure: Option<usize>,
}

impl<'a> FailedRows<'a> {
    fn begin(
        header: &HeaderRow,
        Separator { byte, is_declared }: Separator,
        has_mark: bool,
        out: &'a mut dyn Write,
    ) -> io::Result<Self> {
        if has_mark {
            out.write_all("\u{feff}".as_bytes())?;
        }
        if is_declared {
            out.write_all(&[b's', b'e', b'p', b'=', byte, b'\n'])?;
        }
        let names: Vec<_> = header.record.iter().map(|name| utf8(name).trim().to_lowercase()).collect();
        let is_sha256 = |column: &ColumnUse| *column == ColumnUse::Known(Column::Sha256);
        // A separator in a name would be counted for one of the list.
        let is_ambiguous = header.record.as_slice().iter().any(|byte| SEPARATORS.contains(byte));
        let quotes = if is_ambiguous { QuoteStyle::Always } else { QuoteStyle::Necessary };
        let mut list = Self {
            writer: WriterBuilder::new().delimiter(byte).flexible(true).quote_style(quotes).from_writer(out),
            width: header.record.len(),
            sha256: header.columns.0.iter().position(is_sha256),
            failure: names.windows(FAILURE_FIELDS.len()).position(|part| part == FAILURE_FIELDS),
        };
        let [code, reason, cure] = FAILURE_FIELDS.map(str::to_owned);
        let names = EntryFailure { code, reason, cure, sha256: vec![Column::Sha256.name().to_owned()] };
        list.row(&header.record, &names, 0)?;
        Ok(list)
    }

    /// Writes a row: the sender's cells, why its entry failed, and then what the header has no column for.
    fn row(&mut self, record: &ByteRecord, failure: &EntryFailure, position: usize) -> io::Result<()> {
        let sha256 = failure.sha256.get(position).map_or("", String::as_str);
        let failure = failure.fields();
        let mut row = ByteRecord::new();
        for at in 0..self.width {
            let cell = record.get(at).unwrap_or_default();
            let said = self.failure.and_then(|first| failure.get(at.checked_sub(first)?));
            match said {
                Some(said) => row.push_field(said.as_bytes()),
                None if self.sha256 == Some(at) && cell.trim_ascii().is_empty() => row.push_field(sha256.as_bytes()),
                None => row.push_field(utf8(cell).as_bytes()),
            }
        }
        if self.sha256.is_none() {
            row.push_field(sha256.as_bytes());
        }
        if self.failure.is_none() {
            failure.iter().for_each(|said| row.push_field(said.as_bytes()));
        }
        let used =
            record.iter().rposition(|cell| !cell.trim_ascii().is_empty()).map_or(0, |last| last.saturating_add(1));
        record.iter().take(used).skip(self.width).for_each(|cell| row.push_field(utf8(cell).as_bytes()));
        self.writer.write_byte_record(&row).map_err(io::Error::from)
    }
}

/// A cell; one in another encoding than the list's as it was most probably meant.
fn utf8(cell: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(cell) {
        Ok(cell) => cell.into(),
        Err(_) => windows_1252(cell).map_or_else(|| String::from_utf8_lossy(cell), Cow::Owned),
    }
}

#[cfg(test)]
#[path = "failed_tests.rs"]
mod tests;
