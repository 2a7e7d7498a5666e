//! The CSV manifest: one image or file a row, and rows of one reference are one document.
//!
//! Rows of a reference may be anywhere in the file, so all rows are first put into a scratch store and then read back
//! group by group. So what makes the manifest unusable is noticed before the first entry is handed over. How rows
//! become an entry is in `group`.

use std::{
    cell::{Cell, RefCell},
    io::{BufRead, BufReader, Read, Seek},
};

use crate::{problem::Problem, warning_kind::WarningKind};

use super::{
    ManifestBounds, ReadError, Scratch, Sink, Text, divide_or_raise,
    findings::{Findings, quote},
    format::not_utf8,
    meter::{Meter, Metered},
    no_entries, read_failure, too_many_entries,
};

mod failed;
mod group;
mod header;
mod line_starts;
mod row;
mod staging;
mod unpadded;

pub(super) use self::failed::write_failed;
use self::{
    group::Group,
    header::{CsvHeader, Separator},
    line_starts::{LineStarts, LineTracker},
    row::{Row, RowFault},
    staging::Staging,
    unpadded::Unpadded,
};

/// What the CSV reader takes from the input at once, in bytes; the bound on a row is as exact as this.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads a CSV manifest and hands out its entries, in the order of their first rows.
pub(super) fn read<R: Read + Seek>(
    text: &mut Text<R>,
    limits: &ManifestBounds,
    scratch: &mut dyn Scratch,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let separator = header::separator(&first_line(text.rewind()?)?);
    let mut staging = Staging::new(scratch);
    let warnings = stage(text.rewind()?, separator, limits, &mut staging)?;
    if staging.groups() == 0 {
        return Err(ReadError::unusable(no_entries()));
    }
    let (refused, warnings) = limits.refused.divide(warnings);
    if !refused.is_empty() {
        return Err(ReadError::Unusable(refused));
    }
    sink.summary.warnings.extend(warnings);
    let mut index = 0_u64;
    let has_references = staging.has_references();
    let mut give = |group: Group| {
        let reading = group.close(index, has_references, limits);
        index = index.saturating_add(1);
        if sink.give(reading).is_break() { Err(ReadError::Stopped) } else { Ok(()) }
    };
    let mut open: Option<Group> = None;
    staging.each_row(&mut |first, row| {
        match &mut open {
            Some(group) if group.first_line() == first => group.add(row, limits),
            _ => {
                let next = Group::open(row, limits);
                if let Some(group) = open.replace(next) {
                    give(group)?;
                }
            }
        }
        Ok(())
    })?;
    open.map_or(Ok(()), give)
}

/// The beginning of the text, up to the end of its first line that is not blank.
fn first_line<R: Read>(input: R) -> Result<Vec<u8>, ReadError> {
    let mut reader = BufReader::new(input).take(u64::try_from(BUFFER_BYTES).unwrap_or(u64::MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(ReadError::Io)?;
        if read == 0 || !line.trim_ascii().is_empty() {
            return Ok(line);
        }
    }
}

/// Puts every row into the store; gives warnings about the list itself.
fn stage<R: Read>(
    input: R,
    separator: Separator,
    limits: &ManifestBounds,
    staging: &mut Staging<'_>,
) -> Result<Vec<Problem>, ReadError> {
    // A row that may be cut if it is the last one.
    let mut short: Option<Row> = None;
    let (mut rows, mut empty_rows) = (0_u64, 0_u64);
    let add = |staging: &mut Staging<'_>, row: &Row| {
        staging.add(row)?;
        if staging.groups() > limits.max_entries {
            return Err(ReadError::unusable(too_many_entries(limits)));
        }
        Ok(())
    };
    let walked = each_record(input, separator, limits, &mut |header, record, line| {
        if let Some(mut row) = short.take() {
            row.allow_last_cell_missing(&header.columns);
            add(staging, &row)?;
        }
        rows = rows.saturating_add(1);
        if rows > limits.max_rows {
            let reason = format!("the manifest has more than {} rows", limits.max_rows);
            return Err(ReadError::unusable(Problem::error(reason, divide_or_raise("max_rows"))));
        }
        if is_empty(record) {
            empty_rows = empty_rows.saturating_add(1);
            return Ok(());
        }
        let row = Row::read(record, &header.columns, line);
        if matches!(row.fault, Some(RowFault::Cells { .. })) {
            short = Some(row);
            Ok(())
        } else {
            add(staging, &row)
        }
    })?;
    if let Some(mut row) = short {
        if walked.ends_with_line_end {
            row.allow_last_cell_missing(&walked.header.columns);
        }
        add(staging, &row)?;
    }
    let mut warnings = walked.warnings;
    if empty_rows > 0 {
        let reason = format!("{empty_rows} rows have only empty cells and were passed over");
        warnings.push(Problem::warning(reason, "remove them"));
    }
    if walked.padding > 0 {
        let bytes = walked.padding;
        let reason =
            format!("the list ends with {bytes} bytes that are no text (zero bytes, or 0x1A); they were passed over");
        let cure = "see whether its last rows are complete";
        warnings.push(Problem::warning_of(WarningKind::ListPadding, reason, cure));
    }
    warnings.extend(at_row_limit(rows.saturating_add(1)));
    Ok(warnings)
}

/// The header row, as it was read and as it is written.
struct HeaderRow {
    columns: CsvHeader,
    record: ::csv::ByteRecord,
}

/// What is known of a list once all of its records were read.
struct WalkedList {
    header: HeaderRow,
    /// About its header.
    warnings: Vec<Problem>,
    /// How many bytes it ends with that are no text.
    padding: u64,
    ends_with_line_end: bool,
}

/// Hands each record after the header to `visit`, the empty ones too, with the line on which it begins.
fn each_record<R: Read>(
    input: R,
    separator: Separator,
    limits: &ManifestBounds,
    visit: &mut dyn FnMut(&HeaderRow, &::csv::ByteRecord, u64) -> Result<(), ReadError>,
) -> Result<WalkedList, ReadError> {
    let (whole, meter) = (Meter::new(limits.max_bytes), Meter::new(u64::MAX));
    let starts = RefCell::new(LineStarts::default());
    let padding = Cell::new(0);
    let unpadded = Unpadded::new(Metered::new(input, &whole), &padding);
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator.byte)
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(LineTracker::new(Metered::new(unpadded, &meter), &starts));
    let mut record = ::csv::ByteRecord::new();
    let mut before_header = separator.is_declared;
    let mut header: Option<HeaderRow> = None;
    let mut warnings = Vec::new();
    loop {
        let at = reader.position().byte();
        // A row is read from the buffer and beyond, so up to one buffer more than its own size may be counted for it.
        meter.begin(limits.max_line_bytes.saturating_add(BUFFER_BYTES));
        let outcome = reader.read_byte_record(&mut record);
        let line = starts.borrow_mut().first_from(at);
        let more = outcome.map_err(|error| match error.into_kind() {
            ::csv::ErrorKind::Io(error) => {
                let meter = if whole.tripped().is_some() { &whole } else { &meter };
                read_failure(error, meter, limits, || too_long(line, limits))
            }
            _ => ReadError::unusable(Problem::error(format!("the row at line {line} is not CSV"), "mend the row")),
        })?;
        if !more {
            break;
        }
        if record.as_slice().len() > limits.max_line_bytes {
            return Err(ReadError::unusable(too_long(line, limits)));
        }
        if std::mem::take(&mut before_header) {
            continue;
        }
        match &header {
            Some(header) => visit(header, &record, line)?,
            None if is_empty(&record) => {}
            None => {
                let (columns, found) = CsvHeader::read(&record, line)?;
                header = Some(HeaderRow { columns, record: record.clone() });
                warnings.extend(found);
            }
        }
    }
    let Some(header) = header else {
        let cure = format!("write a header row, for example {}", header::EXAMPLE);
        return Err(ReadError::unusable(Problem::error("the manifest is empty", cure)));
    };
    let ends_with_line_end = starts.borrow().ends_with_line_end();
    Ok(WalkedList { header, warnings, padding: padding.get(), ends_with_line_end })
}

fn is_empty(record: &::csv::ByteRecord) -> bool {
    record.iter().all(|cell| cell.trim_ascii().is_empty())
}

/// How many rows a sheet has, the header among them: what is more is cut off without a word.
const SHEET_ROWS: [u64; 2] = [65_536, 1_048_576];

/// The warning about a list that ends exactly where a spreadsheet does; `row` is its last one.
pub(crate) fn at_row_limit(row: u64) -> Option<Problem> {
    if !SHEET_ROWS.contains(&row) {
        return None;
    }
    let reason = format!("the list ends exactly where a spreadsheet does, at row {row}");
    let cure =
        "see whether rows were cut off when it was opened or saved; if so, export it again without a spreadsheet";
    Some(Problem::warning_of(WarningKind::RowLimit, reason, cure))
}

fn too_long(line: u64, limits: &ManifestBounds) -> Problem {
    let reason = format!("the row at line {line} is longer than {} bytes", limits.max_line_bytes);
    Problem::error(reason, "see whether a quote in it is not closed, else raise max_line_bytes of the drop")
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
