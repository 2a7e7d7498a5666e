//! The header row: which column is which, and what separates them.

use ::csv::ByteRecord;

use crate::{nearest::nearest, problem::Problem};

use super::{
    super::{ReadError, fields::missing, findings::name},
    Findings, not_utf8, quote,
};

/// A header row as people write it.
pub(super) const EXAMPLE: &str = "profile_id,reference,category,document_type,path,image_type,sha256,bytes,name";

/// A column that a manifest may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    ProfileId,
    Reference,
    Category,
    DocumentType,
    Path,
    ImageType,
    Sha256,
    Bytes,
    Name,
    Replace,
}

impl Column {
    const ALL: [Self; 10] = [
        Self::ProfileId,
        Self::Reference,
        Self::Category,
        Self::DocumentType,
        Self::Path,
        Self::ImageType,
        Self::Sha256,
        Self::Bytes,
        Self::Name,
        Self::Replace,
    ];

    /// Its name in the header row.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ProfileId => "profile_id",
            Self::Reference => "reference",
            Self::Category => "category",
            Self::DocumentType => "document_type",
            Self::Path => "path",
            Self::ImageType => "image_type",
            Self::Sha256 => "sha256",
            Self::Bytes => "bytes",
            Self::Name => "name",
            Self::Replace => "replace",
        }
    }
}

/// The columns in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CsvHeader(pub(super) Vec<Column>);

impl CsvHeader {
    /// Reads the header row.
    pub(super) fn read(record: &ByteRecord) -> Result<Self, ReadError> {
        let mut findings = Findings::default();
        let mut columns = Vec::new();
        for (at, cell) in (1_u64..).zip(record) {
            let Ok(cell) = str::from_utf8(cell) else {
                findings.add(not_utf8(format_args!("the header of column {at}")));
                continue;
            };
            let plain = cell.trim().to_lowercase();
            match Column::ALL.into_iter().find(|column| column.name() == plain) {
                None => findings.add(unknown(cell.trim(), at)),
                Some(column) if columns.contains(&column) => {
                    let reason = format!("the column {} appears more than once", column.name());
                    findings.add(Problem::error(reason, "keep one of them").field(column.name()));
                }
                Some(column) => columns.push(column),
            }
        }
        for column in [Column::Path, Column::ProfileId] {
            if !columns.contains(&column) {
                let cure = format!("add the column; a header row is, for example, {EXAMPLE}");
                findings.add(missing(column.name(), cure));
            }
        }
        if findings.is_fatal() { Err(ReadError::Unusable(findings.into_problems())) } else { Ok(Self(columns)) }
    }
}

fn unknown(cell: &str, at: u64) -> Problem {
    if cell.is_empty() {
        let cure = "remove the column, or give it one of the known names";
        return Problem::error(format!("column {at} has no name"), cure);
    }
    let names = Column::ALL.map(Column::name);
    let cure = nearest(cell, names).map_or_else(
        || format!("remove it; the known columns are {}", names.join(", ")),
        |near| format!("if {near} is meant, write that, else remove it"),
    );
    Problem::error(format!("the column {} is not known", quote(cell)), cure).field(name(cell))
}

/// What separates the columns: the one of comma, semicolon, and tab that the header row has most of.
pub(super) fn delimiter(line: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0_u32), (b';', 0), (b'\t', 0)];
    for byte in line {
        quoted ^= *byte == b'"';
        for (delimiter, count) in &mut counts {
            if byte == delimiter && !quoted {
                *count = count.saturating_add(1);
            }
        }
    }
    // Of equals, max_by_key takes the last.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_what_the_header_has_most_of() {
        assert_eq!(delimiter(b"profile_id,path"), b',');
        assert_eq!(delimiter(b"profile_id;path;name"), b';');
        assert_eq!(delimiter(b"\"a,b,c,d\";path;name"), b';');
        assert_eq!(delimiter(b"profile_id\tpath"), b'\t');
        assert_eq!(delimiter(b"path"), b',');
    }

    #[test]
    fn columns_come_in_any_order_and_letter_case() {
        let header = CsvHeader::read(&ByteRecord::from(vec![" Path ", "PROFILE_ID", "replace"])).unwrap();
        assert_eq!(header.0, [Column::Path, Column::ProfileId, Column::Replace]);
    }

    #[test]
    fn every_problem_of_the_header_is_named() {
        let record = ByteRecord::from(vec![&b"profil_id"[..], b"name", b"Name", b"", b"\xFF", b"zzz"]);
        let Err(ReadError::Unusable(problems)) = CsvHeader::read(&record) else { panic!() };
        let text: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.reason, problem.cure)).collect();
        let text = text.join("\n");
        for part in [
            "the column \"profil_id\" is not known: if profile_id is meant",
            "the column name appears more than once",
            "column 4 has no name",
            "the header of column 5 is not UTF-8",
            "the column \"zzz\" is not known: remove it; the known columns are profile_id, reference",
            "path is missing",
            "profile_id is missing",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_example_is_a_header() {
        let cells: Vec<_> = EXAMPLE.split(',').collect();
        assert_eq!(CsvHeader::read(&ByteRecord::from(cells)).unwrap().0, Column::ALL[..9]);
    }
}
