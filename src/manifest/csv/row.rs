//! One row as text, before its cells are checked.

use ::csv::ByteRecord;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

use super::{
    header::{Column, CsvHeader},
    not_utf8,
};

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
    Encoding,
}

impl RowFault {
    /// The problem to report to the sender.
    pub(super) fn problem(&self, line: u64) -> Problem {
        match self {
            Self::Cells { found, expected } => {
                let reason = format!("the row at line {line} has {found} cells, but the header has {expected}");
                Problem::error(reason, "put values with a separator or a quote in them into double quotes")
            }
            Self::Encoding => not_utf8(format_args!("the row at line {line}")),
        }
    }
}

impl Row {
    /// Sorts the cells of a record by their columns. White space around a cell is dropped, except in `path` and `name`,
    /// where it may be meant.
    pub(super) fn read(record: &ByteRecord, header: &CsvHeader, line: u64) -> Self {
        let mut row = Self { line, ..Self::default() };
        for (column, cell) in header.0.iter().zip(record) {
            let Ok(cell) = str::from_utf8(cell) else {
                row.fault = Some(RowFault::Encoding);
                continue;
            };
            let cell = if matches!(column, Column::Path | Column::Name) { cell } else { cell.trim() };
            if !cell.is_empty() {
                *row.cell(*column) = Some(cell.to_owned());
            }
        }
        if record.len() != header.0.len() {
            let count = |cells| u64::try_from(cells).unwrap_or(u64::MAX);
            row.fault = Some(RowFault::Cells { found: count(record.len()), expected: count(header.0.len()) });
        }
        row
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

    #[test]
    fn cells_find_their_columns_and_empty_ones_are_not_given() {
        let header = CsvHeader(vec![Column::Path, Column::ProfileId, Column::Name]);
        let row = Row::read(&ByteRecord::from(vec![" a.png", " p ", ""]), &header, 4);
        assert_eq!((row.path.as_deref(), row.profile_id.as_deref(), row.name), (Some(" a.png"), Some("p"), None));
        assert_eq!((row.line, row.fault), (4, None));
    }

    #[test]
    fn a_row_of_another_shape_or_encoding_keeps_its_reference() {
        let header = CsvHeader(vec![Column::Reference, Column::Path]);
        let short = Row::read(&ByteRecord::from(vec!["r"]), &header, 4);
        assert_eq!(short.reference.as_deref(), Some("r"));
        assert!(short.fault.unwrap().problem(4).reason.contains("line 4 has 1 cells, but the header has 2"));
        let latin = Row::read(&ByteRecord::from(vec![&b"r"[..], b"M\xFCller.png"]), &header, 5);
        assert_eq!(latin.reference.as_deref(), Some("r"));
        let problem = latin.fault.unwrap().problem(5);
        assert!(problem.reason.contains("line 5 is not UTF-8") && problem.cure.contains("UTF-8"));
    }
}
