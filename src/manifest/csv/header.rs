//! The header row: which column is which, and what separates them.

use ::csv::ByteRecord;

use crate::{
    entry::ProfileId,
    nearest::{likeness, nearest},
    problem::Problem,
    warning_kind::WarningKind,
};

use super::{
    super::{ReadError, fields::missing, findings::name, object::FAILURE_FIELDS},
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

/// What is in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnUse {
    Known(Column),
    /// It has a name that means nothing here, and is passed over.
    Unknown,
    /// It has no name, so nothing may be in it.
    Nameless,
}

/// The columns in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CsvHeader(pub(super) Vec<ColumnUse>);

impl CsvHeader {
    /// Reads the header row, which is at this line; also gives warnings.
    pub(super) fn read(record: &ByteRecord, line: u64) -> Result<(Self, Vec<Problem>), ReadError> {
        let mut findings = Findings::default();
        let mut columns = Vec::new();
        let (mut nameless, mut is_near) = (Vec::new(), false);
        for (at, cell) in (1_u64..).zip(record) {
            let Ok(text) = str::from_utf8(cell) else {
                findings.add(not_utf8(format_args!("the header of column {at}"), cell));
                continue;
            };
            let cell = text.trim();
            let plain = cell.to_lowercase();
            columns.push(match Column::ALL.into_iter().find(|column| column.name() == plain) {
                None if cell.is_empty() => {
                    nameless.push(at);
                    ColumnUse::Nameless
                }
                None => {
                    let near = resembled(cell);
                    is_near |= near.is_some();
                    if !FAILURE_FIELDS.contains(&plain.as_str()) {
                        findings.add(unknown(cell, near));
                    }
                    ColumnUse::Unknown
                }
                Some(column) => {
                    if columns.contains(&ColumnUse::Known(column)) {
                        let reason = format!("the column {} appears more than once", column.name());
                        findings.add(Problem::error(reason, "keep one of them").field(column.name()));
                    }
                    ColumnUse::Known(column)
                }
            });
        }
        let is_known = |column: &ColumnUse| matches!(column, ColumnUse::Known(_));
        if !columns.iter().any(is_known) && !is_near && !findings.is_fatal() {
            return Err(ReadError::unusable(no_header(record, line)));
        }
        for column in [Column::Path, Column::ProfileId] {
            if !columns.contains(&ColumnUse::Known(column)) {
                let cure = format!("add the column; a header row is, for example, {EXAMPLE}");
                findings.add(missing(column.name(), cure));
            }
        }
        if let (Some(first), count) = (nameless.first(), nameless.len()) {
            let reason = match count {
                1 => format!("column {first} has no name and is passed over"),
                _ => format!("{count} columns have no name and are passed over, the first is column {first}"),
            };
            let cure = "remove them, or leave them empty in every row";
            findings.add(Problem::warning_of(WarningKind::UnknownColumn, reason, cure));
        }
        let fatal = findings.is_fatal();
        let problems = findings.into_problems();
        if fatal { Err(ReadError::Unusable(problems)) } else { Ok((Self(columns), problems)) }
    }

    /// The name that the header gives the column at this place, for people; the first is 1.
    pub(super) fn name_of(column: ColumnUse, at: usize) -> String {
        match column {
            ColumnUse::Known(column) => column.name().to_owned(),
            ColumnUse::Unknown | ColumnUse::Nameless => at.to_string(),
        }
    }
}

/// The problem with a first row in which no column is known.
fn no_header(record: &ByteRecord, line: u64) -> Problem {
    let cells = || record.iter().filter_map(|cell| str::from_utf8(cell).ok()).map(str::trim);
    let cure = format!("write a header row as the first line, for example {EXAMPLE}");
    if cells().any(|cell| ProfileId::parse(cell).is_some()) {
        return Problem::error(format!("the header row is missing: line {line} has values"), cure);
    }
    let named: Vec<_> = cells().filter(|cell| !cell.is_empty()).take(4).map(quote).collect();
    Problem::error(format!("no column is known of the header row at line {line}: {}", named.join(", ")), cure)
}

/// The known column that this one is so like that it was probably meant; what is in it would be missed.
fn resembled(cell: &str) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' ', '.'], "");
    let wanted = plain(cell);
    let names = Column::ALL.map(Column::name);
    let is_near = |name: &&str| likeness(&wanted, &plain(name), SLIP).is_some();
    // `doc_type`, `sha`, `ref`; and `type`, which two columns end with.
    let parts = |text: &str| text.to_lowercase().split(['-', '_', ' ', '.']).map(str::to_owned).collect::<Vec<_>>();
    let is_short = |name: &&str| {
        let (short, long) = (parts(cell), parts(name));
        short.len() <= long.len()
            && short.iter().zip(&long).all(|(short, long)| short.len() >= 3 && long.starts_with(short.as_str()))
    };
    let is_end = |name: &&str| wanted.len() >= 4 && name.ends_with(&format!("_{wanted}"));
    if wanted.chars().count() > 64 {
        return None;
    }
    names
        .into_iter()
        .find(is_near)
        .or_else(|| names.into_iter().find(is_short))
        .or_else(|| names.into_iter().find(is_end))
}

/// How like a name a slip of it is; `date` and `document_name` are less like `name` and `document_type`.
const SLIP: f64 = 0.77;

fn unknown(cell: &str, resembled: Option<&str>) -> Problem {
    let names = Column::ALL.map(Column::name);
    let reason = format!("the column {} is not known", quote(cell));
    let problem = match resembled {
        Some(near) => Problem::error(reason, format!("if {near} is meant, write that, else give it a name of its own")),
        None => {
            let near = nearest(cell, names).map(|near| format!("; if {near} is meant, write that"));
            let known = || format!("; the known columns are {}", names.join(", "));
            let cure = format!("nothing need be done where it is for people{}", near.unwrap_or_else(known));
            Problem::warning_of(WarningKind::UnknownColumn, format!("{reason} and is passed over"), cure)
        }
    };
    problem.field(name(cell))
}

/// What separates the columns, and whether the first line only says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Separator {
    pub(super) byte: u8,
    /// The first line is `sep=;`, as spreadsheets write it and read it.
    pub(super) is_declared: bool,
}

pub(super) const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Finds the separator: the one that the first line declares, or of which it has most.
pub(super) fn separator(line: &[u8]) -> Separator {
    let declared = line.trim_ascii_start();
    let declared = declared.strip_prefix(b"\"").unwrap_or(declared);
    if let Some((key, [byte, rest @ ..])) = declared.split_at_checked(4)
        && key.eq_ignore_ascii_case(b"sep=")
        && SEPARATORS.contains(byte)
        && rest.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b'"'))
    {
        return Separator { byte: *byte, is_declared: true };
    }
    let mut quoted = false;
    let mut counts = SEPARATORS.map(|separator| (separator, 0_u32));
    for byte in line {
        quoted ^= *byte == b'"';
        for (separator, count) in &mut counts {
            if byte == separator && !quoted {
                *count = count.saturating_add(1);
            }
        }
    }
    // Of equals, max_by_key takes the last.
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    Separator { byte: most.map_or(b',', |(separator, _)| separator), is_declared: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(columns: &[ColumnUse]) -> Vec<Column> {
        let one = |column: &ColumnUse| match column {
            ColumnUse::Known(column) => *column,
            other => panic!("{other:?}"),
        };
        columns.iter().map(one).collect()
    }

    #[test]
    fn the_separator_is_what_the_first_line_declares_or_has_most_of() {
        for (line, byte, is_declared) in [
            (&b"profile_id,path"[..], b',', false),
            (b"profile_id;path;name", b';', false),
            (b"\"a,b,c,d\";path;name", b';', false),
            (b"profile_id\tpath", b'\t', false),
            (b"profile_id|path|name", b'|', false),
            (b"path", b',', false),
            (b"sep=;\r\n", b';', true),
            (b"SEP=|", b'|', true),
            (b"\"sep=\t\"\n", b'\t', true),
            (b"sep=x\n", b',', false),
            (b"sep=", b',', false),
            (b"sep=;path\n", b';', false),
        ] {
            assert_eq!(separator(line), Separator { byte, is_declared }, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn columns_come_in_any_order_and_letter_case() {
        let (header, warnings) =
            CsvHeader::read(&ByteRecord::from(vec![" Path ", "PROFILE_ID", "replace"]), 1).unwrap();
        assert_eq!(known(&header.0), [Column::Path, Column::ProfileId, Column::Replace]);
        assert_eq!(warnings, []);
    }

    #[test]
    fn every_problem_of_the_header_is_named() {
        let record = ByteRecord::from(vec![&b"profil_id"[..], b"name", b"Name", b"", b"\xFF", b"zzz"]);
        let Err(ReadError::Unusable(problems)) = CsvHeader::read(&record, 1) else { panic!() };
        let text: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.reason, problem.cure)).collect();
        let text = text.join("\n");
        for part in [
            "the column \"profil_id\" is not known: if profile_id is meant",
            "the column name appears more than once",
            "column 4 has no name",
            "the header of column 5 is not UTF-8",
            "the column \"zzz\" is not known and is passed over",
            "the known columns are profile_id, reference",
            "path is missing",
            "profile_id is missing",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_column_that_resembles_a_known_one_is_an_error_and_another_a_warning() {
        for near in [
            "profileid",
            "Profile ID",
            "refrence",
            "ref",
            "doc_type",
            "type",
            "sha",
            "sha-256",
            "SHA 256",
            "paths",
            "img_type",
            "byte",
            "catgory",
            "profile",
            "image.type",
        ] {
            assert!(resembled(near).is_some(), "{near}");
        }
        for other in [
            "comment",
            "date",
            "note",
            "Notes",
            "id",
            "no",
            "customer_name",
            "document_name",
            "document_date",
            "profile_name",
            "reference_date",
            "scanned by",
            "page",
            "status",
            "Kommentar",
            "country",
            "code",
        ] {
            assert_eq!(resembled(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_that_is_missing_is_one_error() {
        let id = "a2c4393a-e219-67a4-5ab4-2186952e9038";
        for (cells, words) in [
            (vec![id, "a", "PASSPORT", "a.png"], "the header row is missing: line 3 has values"),
            (vec!["Kunde", "Datei", ""], "no column is known of the header row at line 3: \"Kunde\", \"Datei\""),
        ] {
            let Err(ReadError::Unusable(problems)) = CsvHeader::read(&ByteRecord::from(cells), 3) else { panic!() };
            assert_eq!((problems.len(), problems[0].reason.as_str()), (1, words));
            assert!(problems[0].cure.contains(EXAMPLE), "{problems:?}");
        }
    }

    #[test]
    fn the_example_is_a_header() {
        let cells: Vec<_> = EXAMPLE.split(',').collect();
        assert_eq!(known(&CsvHeader::read(&ByteRecord::from(cells), 1).unwrap().0.0), Column::ALL[..9]);
    }
}
