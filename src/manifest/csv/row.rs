//! One row as text, before its cells are checked.

use ::csv::ByteRecord;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

use super::{
    super::findings::quote,
    header::{Column, ColumnUse, CsvHeader},
    not_utf8,
};

/// What is kept of a cell that is not UTF-8, in bytes.
const KEPT_BYTES: usize = 400;

/// So many zero bytes in a row are a part of a file that was never written, and no slip.
const HOLE_BYTES: usize = 8;

/// The cells of a row; an empty cell counts as not given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    pub(super) profile_id: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) category: Option<String>,
    pub(super) document_type: Option<String>,
    pub(super) path: Option<String>,
    pub(super) image_type: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) bytes: Option<String>,
    pub(super) name: Option<String>,
    pub(super) replace: Option<String>,
    /// Why its cells cannot be trusted; its reference still shows which document is incomplete without it.
    pub(super) fault: Option<RowFault>,
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RowFault {
    /// It has not as many cells as the header.
    Cells {
        /// How many it has.
        found: u64,
        /// How many the header has.
        expected: u64,
    },
    /// A cell is not UTF-8.
    Encoding {
        /// The column's name, or its number.
        column: String,
        /// The cell, or its beginning.
        bytes: Vec<u8>,
    },
    /// There is something in a column without a name.
    Nameless {
        /// The column's number, from 1.
        column: u64,
        /// What is there.
        text: String,
    },
    /// It has zero bytes: parts of the file were never written, or it is no text.
    ZeroBytes,
}

impl RowFault {
    /// The problem to report to the sender.
    pub(super) fn problem(&self, line: u64) -> Problem {
        let quoting = "put values with a separator or a quote in them into double quotes";
        match self {
            Self::Cells { found, expected } => {
                let reason = format!("the row at line {line} has {found} cells, but the header has {expected}");
                Problem::error(reason, quoting)
            }
            Self::Encoding { column, bytes } => {
                not_utf8(format_args!("column {column} of the row at line {line}"), bytes)
            }
            Self::Nameless { column, text } => {
                let reason =
                    format!("the row at line {line} has {} in column {column}, which has no name", quote(text));
                Problem::error(reason, format!("give the column a name in the header, or {quoting}"))
            }
            Self::ZeroBytes => {
                let reason = format!("the row at line {line} has zero bytes, so a part of the list was never written");
                Problem::error(reason, "export the list again as CSV UTF-8, and send it again")
            }
        }
    }
}

impl Row {
    /// Sorts the cells of a record by their columns. White space around a cell is dropped, except in `path` and `name`,
    /// where it may be meant.
    pub(super) fn read(record: &ByteRecord, header: &CsvHeader, line: u64) -> Self {
        let mut row = Self { line, ..Self::default() };
        let blank = |cell: &[u8]| cell.trim_ascii().is_empty();
        for (at, (column, bytes)) in (1..).zip(header.0.iter().zip(record)) {
            let Ok(cell) = str::from_utf8(bytes) else {
                if *column != ColumnUse::Unknown {
                    let bytes = bytes.get(..KEPT_BYTES).unwrap_or(bytes).to_owned();
                    row.fault = Some(RowFault::Encoding { column: CsvHeader::name_of(*column, at), bytes });
                }
                continue;
            };
            match column {
                ColumnUse::Known(column) => {
                    let cell = if matches!(column, Column::Path | Column::Name) { cell } else { cell.trim() };
                    if !cell.is_empty() {
                        *row.cell(*column) = Some(cell.to_owned());
                    }
                }
                ColumnUse::Nameless if !blank(bytes) && row.fault.is_none() => {
                    let (column, text) = (u64::try_from(at).unwrap_or(u64::MAX), cell.chars().take(100).collect());
                    row.fault = Some(RowFault::Nameless { column, text });
                }
                ColumnUse::Nameless | ColumnUse::Unknown => {}
            }
        }
        // Spreadsheets write separators behind the last column where cells have been in use once.
        let found = record.iter().rposition(|cell| !blank(cell)).map_or(0, |last| last.saturating_add(1));
        let expected = header.0.len();
        if record.len() < expected || found > expected {
            let count = |cells| u64::try_from(cells).unwrap_or(u64::MAX);
            row.fault = Some(RowFault::Cells { found: count(record.len()), expected: count(expected) });
        }
        if memchr::memmem::find(record.as_slice(), &[0; HOLE_BYTES]).is_some() {
            row.fault = Some(RowFault::ZeroBytes);
        }
        row
    }

    /// Takes a row whose last cell is missing for one whose last cell is empty, as spreadsheets write it. Only where that
    /// cell says nothing of what the row is; the caller knows that the row was not cut.
    pub(super) fn allow_last_cell_missing(&mut self, header: &CsvHeader) {
        let may_be_missing = !matches!(
            header.0.last(),
            Some(ColumnUse::Known(
                Column::ProfileId | Column::Reference | Column::Category | Column::DocumentType | Column::Path
            ))
        );
        if let Some(RowFault::Cells { found, expected }) = self.fault
            && found.checked_add(1) == Some(expected)
            && may_be_missing
        {
            self.fault = None;
        }
    }

    /// All but the line, as bytes that [`Row::unpack`] reads.
    pub(super) fn pack(&self) -> Vec<u8> {
        let cells = [
            &self.profile_id,
            &self.reference,
            &self.category,
            &self.document_type,
            &self.path,
            &self.image_type,
            &self.sha256,
            &self.bytes,
            &self.name,
            &self.replace,
        ];
        // Text and numbers always become JSON.
        serde_json::to_vec(&(cells, &self.fault)).unwrap_or_default()
    }

    pub(super) fn unpack(line: u64, packed: &[u8]) -> Option<Self> {
        let (cells, fault): ([Option<String>; 10], _) = serde_json::from_slice(packed).ok()?;
        let [profile_id, reference, category, document_type, path, image_type, sha256, bytes, name, replace] = cells;
        Some(Self {
            line,
            profile_id,
            reference,
            category,
            document_type,
            path,
            image_type,
            sha256,
            bytes,
            name,
            replace,
            fault,
        })
    }

    fn cell(&mut self, column: Column) -> &mut Option<String> {
        match column {
            Column::ProfileId => &mut self.profile_id,
            Column::Reference => &mut self.reference,
            Column::Category => &mut self.category,
            Column::DocumentType => &mut self.document_type,
            Column::Path => &mut self.path,
            Column::ImageType => &mut self.image_type,
            Column::Sha256 => &mut self.sha256,
            Column::Bytes => &mut self.bytes,
            Column::Name => &mut self.name,
            Column::Replace => &mut self.replace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(columns: &[Column]) -> CsvHeader {
        CsvHeader(columns.iter().copied().map(ColumnUse::Known).collect())
    }

    #[test]
    fn cells_find_their_columns_and_empty_ones_are_not_given() {
        let header = header(&[Column::Path, Column::ProfileId, Column::Name]);
        let row = Row::read(&ByteRecord::from(vec![" a.png", " p ", ""]), &header, 4);
        assert_eq!((row.path.as_deref(), row.profile_id.as_deref(), row.name), (Some(" a.png"), Some("p"), None));
        assert_eq!((row.line, row.fault), (4, None));
    }

    #[test]
    fn a_row_of_another_shape_or_encoding_keeps_its_reference() {
        let header = header(&[Column::Reference, Column::Path]);
        let short = Row::read(&ByteRecord::from(vec!["r"]), &header, 4);
        assert_eq!(short.reference.as_deref(), Some("r"));
        assert!(short.fault.unwrap().problem(4).reason.contains("line 4 has 1 cells, but the header has 2"));
        let latin = Row::read(&ByteRecord::from(vec![&b"r"[..], b"M\xFCller.png"]), &header, 5);
        assert_eq!(latin.reference.as_deref(), Some("r"));
        let problem = latin.fault.unwrap().problem(5);
        let wanted = "column path of the row at line 5 is not UTF-8 text: as Windows-1252 it reads \"M\u{fc}ller.png\"";
        assert!(problem.reason == wanted && problem.cure.contains("UTF-8"), "{problem:?}");
    }

    #[test]
    fn a_cell_without_a_column_is_refused_unless_it_is_empty() {
        let mut header = header(&[Column::Reference, Column::Path]);
        assert_eq!(Row::read(&ByteRecord::from(vec!["r", "a", "", " "]), &header, 4).fault, None);
        let long = Row::read(&ByteRecord::from(vec!["r", "a", "", "x"]), &header, 4).fault.unwrap();
        assert!(long.problem(4).reason.contains("has 4 cells, but the header has 2"), "{long:?}");
        header.0.extend([ColumnUse::Nameless, ColumnUse::Unknown]);
        assert_eq!(Row::read(&ByteRecord::from(vec!["r", "a", " ", "x"]), &header, 4).fault, None);
        let fault = Row::read(&ByteRecord::from(vec!["r", "a", "x", ""]), &header, 4).fault.unwrap();
        assert_eq!(fault.problem(4).reason, "the row at line 4 has \"x\" in column 3, which has no name");
    }

    #[test]
    fn only_an_optional_last_cell_may_be_missing() {
        for (columns, cells, allowed) in [
            (&[Column::Path, Column::ImageType][..], vec!["a"], true),
            (&[Column::Path, Column::Bytes, Column::Name], vec!["a"], false),
            (&[Column::Path, Column::Category], vec!["a"], false),
            (&[Column::Path, Column::Reference], vec!["a"], false),
            (&[Column::Path, Column::Name], vec!["a", "b", "c"], false),
        ] {
            let header = header(columns);
            let mut row = Row::read(&ByteRecord::from(cells), &header, 4);
            row.allow_last_cell_missing(&header);
            assert_eq!(row.fault.is_none(), allowed, "{columns:?}");
        }
    }
}
