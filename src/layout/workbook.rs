//! Sheets of Excel workbooks as rows.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    iter::Peekable,
    vec::IntoIter,
};

use calamine::{CellErrorType, DataRef, Dimensions, Reader as _, Xlsx};

use super::{
    finding::LayoutError,
    text::{quoted, some_of},
    workbook_parts::unpack,
};
use crate::nearest::nearest;

/// The columns of a sheet; a list without names may have as many.
pub(super) const MAX_COLUMNS: usize = 16_384;

/// So many merged cells are followed at once; a list has a few columns of them.
const MOST_MERGED: usize = 64;

/// Whole numbers from here on have lost digits: a spreadsheet keeps them as floating-point numbers.
const FIRST_INEXACT: f64 = 9_007_199_254_740_992.0;

/// The longest row, in bytes: a long text may be in each of its cells, and takes little space in a workbook.
const MAX_ROW: usize = 1 << 20;

/// Opens a workbook, within bounds.
pub(super) fn open(what: &str, input: impl Read + Seek) -> Result<Xlsx<BufReader<File>>, LayoutError> {
    Xlsx::new(BufReader::new(unpack(what, input)?)).map_err(|error| {
        let cure = "save it as .xlsx with a spreadsheet program, or as CSV";
        LayoutError::wrong(what, format!("it is no Excel workbook: {error}"), cure)
    })
}

/// Hands on the rows of a sheet, with their numbers. Only the streaming reader of cells is used: the others reserve memory
/// for the whole area that a sheet claims.
pub(super) fn read(
    what: &str,
    input: impl Read + Seek,
    sheet: Option<&str>,
    each: &mut dyn FnMut(u64, Vec<String>) -> Result<(), LayoutError>,
) -> Result<(), LayoutError> {
    let mut workbook = open(what, input)?;
    let names = workbook.sheet_names();
    let sheet = match sheet {
        None => names.first().cloned().unwrap_or_default(),
        Some(wanted) => names.iter().find(|name| name.as_str() == wanted).cloned().ok_or_else(|| {
            let near = nearest(wanted, names.iter().map(String::as_str));
            let hint = near.map_or_else(
                || format!("its sheets are {}", some_of(&names)),
                |near| format!("did you mean {}?", quoted(near)),
            );
            LayoutError::wrong(what, format!("it has no sheet {}", quoted(wanted)), hint)
        })?,
    };
    let broken = |error: calamine::XlsxError| {
        LayoutError::wrong(what, format!("the sheet {sheet:?} cannot be read: {error}"), "save the workbook again")
    };
    let mut merged = MergedDown::of(workbook.merge_cells_by_sheet_name(&sheet).map_err(broken)?);
    let each = &mut |number, mut cells| {
        merged.fill(number, &mut cells);
        each(number, cells)
    };
    let mut reader = workbook.worksheet_cells_reader(&sheet).map_err(broken)?;
    let (mut number, mut cells, mut bytes) = (0_u64, Vec::new(), 0);
    while let Some(cell) = reader.next_cell().map_err(broken)? {
        let (row, column) = cell.get_position();
        let (row, column) = (u64::from(row) + 1, column as usize);
        if row != number {
            if number > 0 {
                each(number, std::mem::take(&mut cells))?;
            }
            (number, bytes) = (row, 0);
        }
        if column >= MAX_COLUMNS {
            continue;
        }
        let text = text_of(cell.get_value());
        bytes += text.len();
        if bytes > MAX_ROW {
            let reason = format!("row {number} of the sheet {sheet:?} is longer than {MAX_ROW} bytes");
            return Err(LayoutError::wrong(what, reason, "name the sheet with the list as `sheet` in the layout"));
        }
        if !text.is_empty() {
            if cells.len() <= column {
                cells.resize(column + 1, String::new());
            }
            if let Some(place) = cells.get_mut(column) {
                *place = text;
            }
        }
    }
    if number > 0 { each(number, cells) } else { Ok(()) }
}

/// Cells that are merged down over several rows: a person sees their value in each of these.
struct MergedDown {
    /// Column, first row and last row, by first row.
    areas: Peekable<IntoIter<(usize, u64, u64)>>,
    /// Column, last row and value of those that are under way.
    open: Vec<(usize, u64, String)>,
}

impl MergedDown {
    fn of(merged: Vec<Dimensions>) -> Self {
        let mut areas: Vec<_> = merged
            .into_iter()
            .filter(|area| area.end.0 > area.start.0)
            .map(|area| (area.start.1 as usize, u64::from(area.start.0) + 1, u64::from(area.end.0) + 1))
            .collect();
        areas.sort_unstable_by_key(|(_, first, _)| *first);
        Self { areas: areas.into_iter().peekable(), open: Vec::new() }
    }

    fn fill(&mut self, number: u64, cells: &mut Vec<String>) {
        self.open.retain(|(_, last, _)| *last >= number);
        // A row of nothing else is blank.
        if cells.iter().any(|cell| !cell.is_empty()) {
            for (column, _, text) in &self.open {
                if cells.len() <= *column {
                    cells.resize(column + 1, String::new());
                }
                if let Some(cell) = cells.get_mut(*column).filter(|cell| cell.is_empty()) {
                    cell.clone_from(text);
                }
            }
        }
        while let Some((column, first, last)) = self.areas.next_if(|(_, first, _)| *first <= number) {
            let text = cells.get(column).filter(|text| !text.is_empty() && first == number);
            if let Some(text) = text.filter(|_| self.open.len() < MOST_MERGED) {
                self.open.push((column, last, text.clone()));
            }
        }
    }
}

/// A cell as text: numbers as they are, dates as ISO.
fn text_of(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Int(number) => number.to_string(),
        // As a spreadsheet shows it, so that it is not taken for the number that it was.
        DataRef::Float(number) if number.abs() >= FIRST_INEXACT => format!("{number:E}").replace('E', "E+"),
        DataRef::Float(number) => number.to_string(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(flag) => flag.to_string(),
        DataRef::DateTime(moment) if moment.is_duration() => moment.as_f64().to_string(),
        DataRef::DateTime(moment) => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            match (hour, minute, second) {
                (0, 0, 0) => date,
                _ => format!("{date}T{hour:02}:{minute:02}:{second:02}"),
            }
        }
        DataRef::Error(error) => match error {
            CellErrorType::NA => "#N/A".to_owned(),
            other => other.to_string(),
        },
        DataRef::Empty => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const PACKAGE: &str = r#"<Relationships><Relationship Id="a" Type="t/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#;
    const BOOK: &str = r#"<workbook><sheets><sheet name="One" r:id="b"/></sheets></workbook>"#;
    const RELATIONS: &str =
        r#"<Relationships><Relationship Id="b" Type="t/worksheet" Target="one.xml"/></Relationships>"#;
    const STYLES: &str = r#"<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>"#;

    /// A workbook of these strings and cells.
    fn workbook(strings: &str, sheet: &str) -> Vec<u8> {
        let sheet = format!("<worksheet>{sheet}</worksheet>");
        packed(&[
            ("_rels/.rels", PACKAGE),
            ("xl/workbook.xml", BOOK),
            ("xl/_rels/workbook.xml.rels", RELATIONS),
            ("xl/styles.xml", STYLES),
            ("xl/sharedStrings.xml", strings),
            ("xl/one.xml", &sheet),
        ])
    }

    fn packed(parts: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in parts {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn rows(bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut rows = Vec::new();
        let each = &mut |number, cells: Vec<String>| {
            rows.push(format!("{number} {}", cells.join("/")));
            Ok(())
        };
        read("list.xlsx", Cursor::new(bytes), None, each).map_err(|error| error.to_string())?;
        Ok(rows)
    }

    fn refusal(bytes: &[u8], reason: &str, cure: &str) {
        let said = rows(bytes).expect_err(reason);
        assert!(said.starts_with("list.xlsx: ") && said.contains(reason) && said.contains(cure), "{reason}: {said}");
    }

    const ONE_CELL: &str = r#"<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row></sheetData>"#;
    const STRINGS: &str = "<sst><si><t>a</t></si></sst>";

    #[test]
    fn cells_are_texts_numbers_and_dates() {
        let sheet = r#"<dimension ref="A1:XFD1048576"/><sheetData>
            <row r="2"><c r="A2" t="s"><v>1</v></c><c r="C2"><v>0012.50</v></c><c r="D2" s="1"><v>45000</v></c></row>
            <row r="1048576"><c r="B1048576" t="inlineStr"><is><t>x</t></is></c><c t="b"><v>1</v></c></row></sheetData>"#;
        let strings = r#"<sst count="9" uniqueCount="2"><si/><si><r><t>&lt;a</t></r><r><t>b</t></r></si></sst>"#;
        assert_eq!(rows(&workbook(strings, sheet)).unwrap(), ["2 <ab//12.5/2023-03-15", "1048576 /x/true"]);
    }

    /// A customer's number that was merged over the rows of all his documents was empty in all but the first.
    #[test]
    fn what_is_merged_down_is_in_each_row_and_digits_that_are_lost_are_not_made_up() {
        let sheet = r#"<sheetData>
            <row r="1"><c r="A1"><v>1e17</v></c><c r="B1"><v>9007199254740991</v></c></row>
            <row r="2"><c r="A2"><v>17</v></c><c r="B2" t="s"><v>0</v></c></row>
            <row r="3"><c r="A3"/><c r="B3" t="s"><v>0</v></c></row><row r="4"><c r="A4"/></row>
            <row r="5"><c r="B5" t="s"><v>0</v></c></row><row r="6"><c r="B6" t="s"><v>0</v></c></row></sheetData>
            <mergeCells><mergeCell ref="A2:A5"/><mergeCell ref="A1:B1"/></mergeCells>"#;
        let wanted = ["1 1E+17/9007199254740991", "2 17/a", "3 17/a", "4 ", "5 17/a", "6 /a"];
        assert_eq!(rows(&workbook(STRINGS, sheet)).unwrap(), wanted);
        refusal(&workbook(STRINGS, "<mergeCells><mergeCell ref='A2:A1'/></mergeCells>"), "has an area", "again");
    }

    #[test]
    fn what_takes_gigabytes_of_memory_is_refused() {
        let csv = "save the sheet as CSV";
        let long = "x".repeat(5 << 20);
        for (strings, sheet) in [
            (format!("<sst><si><t>{long}</t></si></sst>"), ONE_CELL.to_owned()),
            // Many small pieces that are one cell, or one string.
            (format!("<sst><si><t>{}</t></si></sst>", "x&amp;".repeat(1 << 20)), ONE_CELL.to_owned()),
            (
                STRINGS.into(),
                format!("<sheetData><row><c t='str'><v>{}</v></c></row></sheetData>", "<!---->&amp;".repeat(500_000)),
            ),
            (STRINGS.into(), format!("<sheetData {long}='1'/>")),
        ] {
            refusal(&workbook(&strings, &sheet), "more than 4 MiB", csv);
        }
        // Two megabytes of strings, and half a million formats with the name of one font.
        let font = "f".repeat(1 << 20);
        let styles = format!(
            "<styleSheet><fonts><font><name val='{font}'/></font></fonts><cellXfs>{}</cellXfs></styleSheet>",
            "<xf fontId='0'/>".repeat(1000)
        );
        let parts = [("_rels/.rels", PACKAGE), ("xl/workbook.xml", BOOK), ("xl/styles.xml", &styles)];
        refusal(&packed(&parts), "take more than 256 MiB", csv);
        let strings = format!("<sst>{}</sst>", "<si/>".repeat(4_000_000));
        refusal(&workbook(&strings, ONE_CELL), "take more than 256 MiB", csv);
        // A long string in each cell of a row.
        let text = "y".repeat(1 << 16);
        let row = "<c t='s'><v>0</v></c>".repeat(17);
        let sheet = format!("<sheetData><row r='7'>{row}</row></sheetData>");
        let strings = format!("<sst><si><t>{text}</t></si></sst>");
        refusal(&workbook(&strings, &sheet), "row 7 of the sheet \"One\" is longer than 1048576 bytes", "sheet");
    }

    #[test]
    fn what_unpacks_to_more_than_a_gibibyte_is_refused() {
        let mut bomb = workbook(STRINGS, ONE_CELL);
        // What the directory says of the last part: its size, unpacked.
        let entry = bomb.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        bomb[entry + 24..entry + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        refusal(&bomb, "unpacks to more than 1024 MiB", "save the sheet as CSV");
        // One that says less of itself than it is.
        let mut liar = workbook(STRINGS, &format!("{ONE_CELL}{}", " ".repeat(1 << 20)));
        let entry = liar.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
        liar[entry + 24..entry + 28].copy_from_slice(&100_u32.to_le_bytes());
        refusal(&liar, "it is no Excel workbook", "save it as .xlsx");
    }

    #[test]
    fn what_a_workbook_announces_is_not_believed() {
        let again = "save the workbook again";
        for count in ["1000000000000", "18446744073709551615"] {
            let strings = format!("<sst uniqueCount='{count}'><si><t>a</t></si></sst>");
            refusal(
                &workbook(&strings, ONE_CELL),
                &format!("\"xl/sharedStrings.xml\" announces {count} strings"),
                again,
            );
        }
        // Not even an overflow: these would be other cells.
        for sheet in [
            "<sheetData><row r='4294967297'><c><v>1</v></c></row></sheetData>",
            "<sheetData><row><c r='A4294967297'><v>1</v></c></row></sheetData>",
            "<sheetData><row><c r='MWLQKWVA1'><v>1</v></c></row></sheetData>",
            "<dimension ref='B2:A1'/><sheetData/>",
            "<dimension ref='A1:A99999999999'/><sheetData/>",
        ] {
            refusal(&workbook(STRINGS, sheet), "which no sheet has", again);
        }
        let deep = "<a>".repeat(100);
        refusal(&workbook(STRINGS, &deep), "nested deeper than 64 levels", again);
    }

    #[test]
    fn what_is_no_workbook_is_named() {
        refusal(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1 and more", "it is encrypted", "without a password");
        refusal(b"", "it is no Excel workbook", "save it as .xlsx");
        refusal(b"a;b\n", "it is no Excel workbook", "save it as .xlsx");
        refusal(&packed(&[("a.txt", "b")]), "it is no Excel workbook", "save it as .xlsx");
        refusal(&workbook(STRINGS, "<sheetData></worksheet>"), "is not well-formed XML", "save the workbook again");
    }
}
