//! The CSV manifest: one image or file a row, and rows of one reference are one document.
//!
//! Rows of a reference may be anywhere in the file, so all rows are first put into a scratch store and then read back
//! group by group. So what makes the manifest unusable is noticed before the first entry is handed over. How rows
//! become an entry is in `group`.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read, Seek},
};

use crate::problem::Problem;

use super::{
    ManifestBounds, ReadError, Scratch, Sink, Text, divide_or_raise,
    findings::{Findings, quote},
    format::not_utf8,
    meter::{Meter, Metered},
    no_entries, read_failure, too_many_entries,
};

mod group;
mod header;
mod line_starts;
mod row;
mod staging;

use self::{
    group::Group,
    header::CsvHeader,
    line_starts::{LineStarts, LineTracker},
    row::Row,
    staging::Staging,
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
    let delimiter = header::delimiter(&first_line(text.rewind()?)?);
    let mut staging = Staging::new(scratch);
    let empty_rows = stage(text.rewind()?, delimiter, limits, &mut staging)?;
    if staging.groups() == 0 {
        return Err(ReadError::unusable(no_entries()));
    }
    if empty_rows > 0 {
        let reason = format!("{empty_rows} rows have only empty cells and were passed over");
        sink.summary.warnings.push(Problem::warning(reason, "remove them"));
    }
    let mut index = 0_u64;
    let mut give = |group: Group| {
        let reading = group.close(index, limits);
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

/// Puts every row into the store; gives the number of rows that are empty.
fn stage<R: Read>(
    input: R,
    delimiter: u8,
    limits: &ManifestBounds,
    staging: &mut Staging<'_>,
) -> Result<u64, ReadError> {
    let meter = Meter::new(limits.max_bytes);
    let starts = RefCell::new(LineStarts::default());
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(LineTracker::new(Metered::new(input, &meter), &starts));
    let mut record = ::csv::ByteRecord::new();
    let mut header: Option<CsvHeader> = None;
    let (mut rows, mut empty_rows) = (0_u64, 0_u64);
    loop {
        let at = reader.position().byte();
        // A row is read from the buffer and beyond, so up to one buffer more than its own size may be counted for it.
        meter.begin(limits.max_line_bytes.saturating_add(BUFFER_BYTES));
        let outcome = reader.read_byte_record(&mut record);
        let line = starts.borrow_mut().first_from(at);
        let more = outcome.map_err(|error| match error.into_kind() {
            ::csv::ErrorKind::Io(error) => read_failure(error, &meter, limits, || too_long(line, limits)),
            _ => ReadError::unusable(Problem::error(format!("the row at line {line} is not CSV"), "mend the row")),
        })?;
        if !more {
            break;
        }
        if record.as_slice().len() > limits.max_line_bytes {
            return Err(ReadError::unusable(too_long(line, limits)));
        }
        let Some(header) = &header else {
            header = Some(CsvHeader::read(&record)?);
            continue;
        };
        rows = rows.saturating_add(1);
        if rows > limits.max_rows {
            let reason = format!("the manifest has more than {} rows", limits.max_rows);
            return Err(ReadError::unusable(Problem::error(reason, divide_or_raise("max_rows"))));
        }
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            empty_rows = empty_rows.saturating_add(1);
            continue;
        }
        staging.add(&Row::read(&record, header, line))?;
        if staging.groups() > limits.max_entries {
            return Err(ReadError::unusable(too_many_entries(limits)));
        }
    }
    if header.is_none() {
        let cure = format!("write a header row, for example {}", header::EXAMPLE);
        return Err(ReadError::unusable(Problem::error("the manifest is empty", cure)));
    }
    Ok(empty_rows)
}

fn too_long(line: u64, limits: &ManifestBounds) -> Problem {
    let reason = format!("the row at line {line} is longer than {} bytes", limits.max_line_bytes);
    Problem::error(reason, "see whether a quote in it is not closed, else raise max_line_bytes of the drop")
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
