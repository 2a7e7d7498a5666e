//! Rows of lists: CSV with any delimiter and encoding, and sheets of workbooks.

use std::io::{Read, Seek};

use encoding_rs::Encoding;

use super::{decode::TextReader, finding::LayoutError, workbook};

/// The longest row, in bytes; a quote that is never closed ends here.
const MAX_ROW: usize = 1 << 20;

/// How a list is read.
#[derive(Debug, Clone)]
pub(super) struct TableForm {
    pub(super) sheet: Option<Sheet>,
    pub(super) delimiter: Option<char>,
    pub(super) encoding: Option<&'static Encoding>,
    /// The row of the names; 0: there is none.
    pub(super) header: Option<u64>,
}

/// That a list is a workbook, and which of its sheets.
#[derive(Debug, Clone)]
pub(super) struct Sheet(pub(super) Option<String>);

/// The rows of a list, as they come.
pub(super) trait TableRows {
    /// The names of the columns; comes first. At row 0 there are none, and these are the numbers of the first row's cells.
    fn header(&mut self, names: Vec<String>, row: u64) -> Result<(), LayoutError>;
    /// A row that is not blank.
    fn row(&mut self, number: u64, cells: Vec<String>) -> Result<(), LayoutError>;
    /// A row that is no row; and whether it takes all that follows with it.
    fn bad(&mut self, number: u64, reason: String, to_the_end: bool) -> Result<(), LayoutError>;
    /// The last row, counted as a spreadsheet does.
    fn end(&mut self, _: u64) -> Result<(), LayoutError> {
        Ok(())
    }
}

/// Reads a list to its end.
pub(super) fn read(
    what: &str,
    input: impl Read + Seek,
    form: &TableForm,
    rows: &mut dyn TableRows,
) -> Result<(), LayoutError> {
    let mut headed = Headed { what, header: form.header, seen: false, width: 0, last: 0, rows };
    match &form.sheet {
        Some(Sheet(sheet)) => {
            workbook::read(what, input, sheet.as_deref(), &mut |number, cells| {
                headed.last = number - 1;
                headed.row(number, cells)
            })?;
        }
        None => csv(what, input, form, &mut headed)?,
    }
    if headed.seen || form.header == Some(0) {
        return headed.rows.end(headed.last);
    }
    let reason = match form.header {
        Some(row) => format!("it has no row {row}, which should have the names of the columns"),
        None => "it is empty".to_owned(),
    };
    Err(LayoutError::wrong(what, reason, "name another file, sheet or `header` row in the layout"))
}

/// Finds the header, and hands on what comes after it.
struct Headed<'a> {
    what: &'a str,
    header: Option<u64>,
    seen: bool,
    width: usize,
    /// The last row, counted as a spreadsheet does: with line ends in cells, lines are more.
    last: u64,
    rows: &'a mut dyn TableRows,
}

impl Headed<'_> {
    fn row(&mut self, number: u64, mut cells: Vec<String>) -> Result<(), LayoutError> {
        self.last += 1;
        for cell in &mut cells {
            let trimmed = cell.trim();
            if trimmed.len() != cell.len() {
                *cell = trimmed.to_owned();
            }
        }
        while cells.last().is_some_and(String::is_empty) {
            cells.pop();
        }
        if !self.seen {
            match self.header {
                Some(wanted) if number < wanted => return Ok(()),
                Some(wanted @ 1..) if number > wanted => {
                    let reason = format!("row {wanted}, which should have the names of the columns, is blank");
                    return Err(LayoutError::wrong(self.what, reason, "correct `header` in the layout"));
                }
                None | Some(0) if cells.is_empty() => return Ok(()),
                _ => {}
            }
            self.seen = true;
            if self.header != Some(0) {
                self.width = cells.len();
                return self.rows.header(cells, number);
            }
            // Later rows may have more.
            self.width = usize::MAX;
            self.rows.header(numbered(cells.len()), 0)?;
        }
        if cells.is_empty() {
            return Ok(());
        }
        if cells.len() > self.width {
            let reason = format!("the row has {} cells, and the header {}", cells.len(), self.width);
            return self.rows.bad(number, reason, false);
        }
        self.rows.row(number, cells)
    }
}

/// The names of columns without a header: their numbers, from 1.
pub(super) fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| number.to_string()).collect()
}

fn csv(what: &str, input: impl Read + Seek, form: &TableForm, rows: &mut Headed<'_>) -> Result<(), LayoutError> {
    let mut reader = TextReader::new(what, input, form.encoding)?;
    let mut text = String::new();
    let mut more = reader.read(&mut text)?;
    while more && text.len() < MAX_ROW && !shows_delimiter(&text, rows.header) {
        more = reader.read(&mut text)?;
    }
    let mut number = 1;
    let mut delimiter = form.delimiter;
    let head = text.get(..text.floor_char_boundary(MAX_ROW)).unwrap_or_default();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    if let Some(named) = first.trim_matches('"').strip_prefix("sep=").filter(|named| named.chars().count() <= 1) {
        delimiter = delimiter.or_else(|| named.chars().next());
        number = 2;
        if rows.header == Some(1) {
            rows.header = Some(2);
        }
    } else {
        lines = head.lines();
    }
    let delimiter = delimiter.unwrap_or_else(|| {
        // Titles may come before the row that counts.
        let skipped = rows.header.unwrap_or_default().saturating_sub(number);
        let from = lines.skip(usize::try_from(skipped).unwrap_or(0));
        shown_delimiter(from.map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
    });
    if number == 2 {
        let end = text.find('\n').map_or(text.len(), |end| end + 1);
        text.drain(..end);
    }
    let mut parser = Parser { delimiter, ..Parser::new(number) };
    loop {
        for letter in text.chars() {
            parser.take(letter, rows)?;
        }
        text.clear();
        if !more {
            break;
        }
        more = reader.read(&mut text)?;
    }
    parser.end(rows)
}

/// Whether the lines that have ended show the delimiter, whatever comes after them.
fn shows_delimiter(text: &str, header: Option<u64>) -> bool {
    let ended = text.rsplit_once('\n').map_or("", |(ended, _)| ended);
    // The first may be `sep=`.
    let skipped = usize::try_from(header.unwrap_or_default()).unwrap_or(usize::MAX).max(1);
    ended.lines().skip(skipped).any(|line| !line.trim().is_empty())
}

/// The delimiter that a header shows.
pub(super) fn shown_delimiter(header: &str) -> char {
    let mut quoted = false;
    let mut counts = [(';', 0_usize), ('\t', 0), ('|', 0), (',', 0)];
    for letter in header.chars() {
        quoted ^= letter == '"';
        if let Some((_, count)) = counts.iter_mut().find(|(delimiter, _)| *delimiter == letter && !quoted) {
            *count += 1;
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0).map_or(',', |(one, _)| *one)
}

/// Takes text apart into rows, by RFC 4180, and as spreadsheets write it where it is not.
struct Parser {
    delimiter: char,
    cells: Vec<String>,
    cell: String,
    bytes: usize,
    state: CellState,
    /// The line that the row begins on, and the one that is read.
    begun: u64,
    line: u64,
    returned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellState {
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes, which ends the cell or is doubled.
    Closed,
}

impl Parser {
    const fn new(line: u64) -> Self {
        Self {
            delimiter: ',',
            cells: Vec::new(),
            cell: String::new(),
            bytes: 0,
            state: CellState::Start,
            begun: line,
            line,
            returned: false,
        }
    }

    fn take(&mut self, letter: char, rows: &mut Headed<'_>) -> Result<(), LayoutError> {
        let after_return = std::mem::replace(&mut self.returned, letter == '\r');
        if letter == '\n' && after_return && self.state != CellState::Quoted {
            return Ok(());
        }
        self.bytes += letter.len_utf8();
        match (self.state, letter) {
            (CellState::Quoted, '"') => self.state = CellState::Closed,
            (CellState::Quoted, letter) => {
                if letter == '\n' || letter == '\r' && !after_return {
                    self.line += u64::from(letter == '\n');
                }
                if self.bytes > MAX_ROW {
                    return self.too_long(rows);
                }
                self.cell.push(letter);
            }
            (CellState::Closed, '"') => {
                self.cell.push('"');
                self.state = CellState::Quoted;
            }
            (_, '\n' | '\r') => return self.row(rows),
            (_, letter) if letter == self.delimiter => {
                self.cells.push(std::mem::take(&mut self.cell));
                self.state = CellState::Start;
            }
            (CellState::Start, '"') if self.cell.trim().is_empty() => {
                self.cell.clear();
                self.state = CellState::Quoted;
            }
            (CellState::Start, ' ') => self.cell.push(' '),
            (CellState::Closed, ' ') => {}
            (_, letter) => {
                if self.bytes > MAX_ROW {
                    return self.too_long(rows);
                }
                self.state = CellState::Plain;
                self.cell.push(letter);
            }
        }
        Ok(())
    }

    fn row(&mut self, rows: &mut Headed<'_>) -> Result<(), LayoutError> {
        self.cells.push(std::mem::take(&mut self.cell));
        let (cells, number) = (std::mem::take(&mut self.cells), self.begun);
        self.line += 1;
        (self.begun, self.bytes, self.state) = (self.line, 0, CellState::Start);
        rows.row(number, cells)
    }

    fn too_long(&mut self, rows: &Headed<'_>) -> Result<(), LayoutError> {
        let reason = format!("the row that begins on line {} is longer than {MAX_ROW} bytes", self.begun);
        Err(LayoutError::wrong(rows.what, reason, "look for a quote that is not closed"))
    }

    fn end(&mut self, rows: &mut Headed<'_>) -> Result<(), LayoutError> {
        if self.state == CellState::Quoted {
            return rows.rows.bad(self.begun, "a quote is not closed".to_owned(), true);
        }
        if self.cells.is_empty() && self.cell.is_empty() { Ok(()) } else { self.row(rows) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl TableRows for Seen {
        fn header(&mut self, names: Vec<String>, row: u64) -> Result<(), LayoutError> {
            self.0.push(format!("h{row} {}", names.join("/")));
            Ok(())
        }
        fn row(&mut self, number: u64, cells: Vec<String>) -> Result<(), LayoutError> {
            self.0.push(format!("{number} {}", cells.join("/")));
            Ok(())
        }
        fn bad(&mut self, number: u64, reason: String, _: bool) -> Result<(), LayoutError> {
            self.0.push(format!("{number} bad: {reason}"));
            Ok(())
        }
    }

    fn rows_of(bytes: &[u8], header: Option<u64>) -> Result<Vec<String>, LayoutError> {
        let form = TableForm { sheet: None, delimiter: None, encoding: None, header };
        let mut seen = Seen::default();
        read("list", Cursor::new(bytes), &form, &mut seen)?;
        Ok(seen.0)
    }

    #[test]
    fn rows_are_counted_in_lines_of_the_file() {
        let text = b"sep=;\r\nA;B\r\n\r\n1;\"two\r\nlines; \"\"x\"\"\"\r\n;;\r\n2;b;;\r\n3;b;c\r\n4;\"b";
        let wanted = ["h2 A/B", "4 1/two\r\nlines; \"x\"", "7 2/b", "8 bad: the row has 3 cells, and the header 2"];
        let seen = rows_of(text, None).unwrap();
        assert_eq!(seen[..4], wanted);
        assert_eq!(seen[4], "9 bad: a quote is not closed");
    }

    /// Gives one byte at a time.
    struct Slow<'a>(Cursor<&'a [u8]>);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let room = buffer.len().min(1);
            self.0.read(&mut buffer[..room])
        }
    }

    impl Seek for Slow<'_> {
        fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    /// A header after the first piece of a list was not seen, and its delimiter was a comma.
    #[test]
    fn what_a_list_is_does_not_depend_on_the_pieces_that_it_comes_in() {
        for (bytes, header) in [
            (&b"A title\n\nName;B\n1;2,5\n"[..], Some(3)),
            (b"\n\n\nName;B\n1;2,5", None),
            (b"sep=;\nName;B\r\n1;2,5", Some(1)),
            (b"sep=;", Some(1)),
            (b"Name;B\r1;2,5\r", None),
            (b"Stra\xDFe;B\n1;2\n", None),
            (b"A;B\n1;2\n\xD0\xD1\xD2 \xD0\xD1\xD2 \xD0\xD1\xD2\n", None),
        ] {
            let read = |input: &mut dyn ReadSeek| {
                let form = TableForm { sheet: None, delimiter: None, encoding: None, header };
                let mut seen = Seen::default();
                let result = read("list", input, &form, &mut seen);
                (seen.0, result.map_err(|error| error.to_string()))
            };
            let whole = read(&mut Cursor::new(bytes));
            assert_eq!(whole, read(&mut Slow(Cursor::new(bytes))), "{}", String::from_utf8_lossy(bytes));
        }
        let titles = format!("{}Name;B\n1;2,5\n", "A title\n".repeat(20_000));
        assert_eq!(rows_of(titles.as_bytes(), Some(20_001)).unwrap(), ["h20001 Name/B", "20002 1/2,5"]);
    }

    trait ReadSeek: Read + Seek {}
    impl<T: Read + Seek> ReadSeek for T {}

    #[test]
    fn the_header_may_be_elsewhere_or_missing() {
        assert_eq!(rows_of(b"A title\n\na|b\n1|2\n", Some(3)).unwrap(), ["h3 a/b", "4 1/2"]);
        assert_eq!(rows_of(b"1\t2,5\n", Some(0)).unwrap(), ["h0 1/2", "1 1/2,5"]);
        assert!(rows_of(b"", None).is_err());
        assert!(rows_of(b"a,b\n", Some(4)).is_err());
    }

    #[test]
    fn other_encodings_are_refused_with_the_likely_one() {
        let refusal = rows_of(b"Stra\xDFe;B\n1;2\n", None).unwrap_err().to_string();
        assert!(refusal.contains("line 1") && refusal.contains("encoding = \"windows-1252\""), "{refusal}");
        assert_eq!(rows_of(b"\xFF\xFEa\0,\0b\0\n\x001\0,\x002\0", None).unwrap(), ["h1 a/b", "2 1/2"]);
    }
}
