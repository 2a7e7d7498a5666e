//! Shared by the commands that read the queue: exit codes, tables, CSV, JSON, and the escaping of hostile names.
//!
//! Data goes to standard output, everything else to standard error. Commands write through an [`Output`], so that tests
//! see what people see. A reader that closes the pipe has seen enough: that ends a command quietly and well.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::config::Config;
pub use crate::printable::escape;

/// How a command ended. Where several apply, the largest is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// All is well.
    Well = 0,
    /// Something was refused or failed, or nothing is known.
    Refused = 1,
    /// Usage or configuration is wrong; nothing was done.
    Usage = 2,
    /// Stopped with work left: run again to continue.
    WorkLeft = 3,
    /// The API refuses the key, or cannot be reached.
    Unreachable = 4,
}

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The context of every command that reads the queue.
#[derive(Debug, Clone)]
pub struct QueueContext {
    /// The queue's database.
    pub database: PathBuf,
    /// The configuration, where there is one that can be read.
    pub config: Option<Config>,
}

/// Where a command writes to.
pub struct Output<'a> {
    /// Data.
    pub out: &'a mut dyn Write,
    /// Remarks for the person at the terminal.
    pub err: &'a mut dyn Write,
    /// Whether data goes to a terminal, where long cells are cut instead of running over the edge.
    pub terminal: bool,
}

impl Output<'_> {
    /// Writes something that is not data to standard error. A closed standard error is no failure.
    pub fn remark(&mut self, text: &str) {
        writeln!(self.err, "{text}").ok();
    }

    /// Reports why nothing was done.
    pub fn refuse_usage(&mut self, text: &str) -> Exit {
        self.remark(&format!("error: {text}"));
        Exit::Usage
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.out, value)?;
        writeln!(self.out)
    }
}

/// Whether a stream is a terminal on which lines can be redrawn; one of the kind `dumb` is not.
pub fn is_terminal(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

/// Runs a command on the process's own streams.
///
/// # Errors
///
/// The command's own, and those of writing, except for a reader that closed the pipe.
pub fn on_streams(command: impl FnOnce(&mut Output<'_>) -> anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    let terminal = is_terminal(&io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr();
    let done = command(&mut Output { out: &mut out, err: &mut err, terminal })
        .and_then(|exit| out.flush().map(|()| exit).map_err(Into::into));
    // What a reader no longer wants must not be tried again when the buffer is dropped.
    drop(out.into_parts());
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Well),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The columns that text for people fits into.
const COLUMNS: usize = 80;

/// Writes text that is escaped in lines of 80 columns, the first after this beginning and the others below its end.
///
/// # Errors
///
/// Those of writing.
pub(super) fn wrapped(out: &mut dyn Write, begin: &str, text: &str) -> io::Result<()> {
    let (text, indent) = (escape(text.trim_end()), begin.chars().count());
    let width = COLUMNS.saturating_sub(indent).max(1);
    let mut line = String::new();
    let mut begin = begin.to_owned();
    let mut write = |line: &mut String| {
        let written = writeln!(out, "{begin}{line}");
        begin = " ".repeat(indent);
        line.clear();
        written
    };
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > width {
            write(&mut line)?;
        } else if used > 0 {
            line.push(' ');
        }
        // A path or an ID may be longer than a line.
        while line.chars().count() + word.len() > width {
            let rest = word.split_off(width - line.chars().count());
            line.extend(word);
            write(&mut line)?;
            word = rest;
        }
        line.extend(word);
    }
    if line.is_empty() { Ok(()) } else { write(&mut line) }
}

/// A table without lines: a header and rows, of which only the last column may be long.
pub struct Rows {
    table: Table,
    cut: bool,
    right: Vec<usize>,
}

/// The longest cell on a terminal, in characters.
const LONGEST_CELL: usize = 72;

/// The longest cell anywhere: a column's width is counted in 16 bits, and a hostile name would make every line as long.
const LONGEST_AT_ALL: usize = 2_000;

impl Rows {
    /// An empty table; columns whose headers are in `right` hold numbers.
    #[must_use]
    pub fn new(header: &[&str], right: &[&str], terminal: bool) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header.iter().copied());
        let right = header.iter().enumerate().filter(|(_, name)| right.contains(name)).map(|(at, _)| at).collect();
        Self { table, cut: terminal, right }
    }

    /// Adds a row; every cell is escaped, and cut on a terminal.
    pub fn add(&mut self, cells: impl IntoIterator<Item = String>) {
        let cut = self.cut;
        self.table.add_row(
            cells.into_iter().map(|cell| shorten(&escape(&cell), if cut { LONGEST_CELL } else { LONGEST_AT_ALL })),
        );
    }

    /// Writes it, without blanks at the ends of lines.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        for at in self.right {
            if let Some(column) = self.table.column_mut(at) {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
        let text = self.table.to_string();
        text.lines().try_for_each(|line| writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(line).trim_end()))
    }
}

/// Rows that share the widths of their columns.
const TABLE: usize = 500;

/// A list of any length as tables, which are written as they are full, so that memory stays flat.
pub(super) struct PagedTable<'a> {
    header: &'a [&'a str],
    right: &'a [&'a str],
    terminal: bool,
    rows: Rows,
    in_table: usize,
    /// What is listed, of which each may have several rows.
    listed: u64,
}

impl<'a> PagedTable<'a> {
    /// An empty list; columns whose headers are in `right` hold numbers.
    pub(super) fn new(header: &'a [&'a str], right: &'a [&'a str], terminal: bool) -> Self {
        Self { header, right, terminal, rows: Rows::new(header, right, terminal), in_table: 0, listed: 0 }
    }

    /// Adds one more, with its rows.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(super) fn add<R: IntoIterator<Item = String>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if self.in_table >= TABLE {
            std::mem::replace(&mut self.rows, Rows::new(self.header, self.right, self.terminal)).write(out)?;
            self.in_table = 0;
        }
        self.listed += 1;
        for row in rows {
            self.in_table += 1;
            self.rows.add(row);
        }
        Ok(())
    }

    /// Writes what is left, or remarks that there is `nothing`; and where the limit was reached, that there may be more.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub(super) fn end(self, limit: Option<u32>, nothing: &str, output: &mut Output<'_>) -> io::Result<()> {
        let listed = self.listed;
        if listed > 0 {
            self.rows.write(output.out)?;
        } else {
            output.remark(nothing);
        }
        if limit.is_some_and(|limit| u64::from(limit) == listed) {
            output.remark(&format!("the newest {listed} are listed; --limit 0 lists all"));
        }
        Ok(())
    }
}

/// The first characters of a text, with `…` where something is left out.
#[must_use]
pub fn shorten(text: &str, characters: usize) -> String {
    if text.chars().nth(characters).is_none() {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// The same for a text of several lines that are meant.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// A row of CSV at a time, guarded against cells that a spreadsheet would take for formulas.
pub struct Csv<'a> {
    writer: csv::Writer<&'a mut dyn Write>,
}

impl<'a> Csv<'a> {
    /// Begins with the header.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn new(out: &'a mut dyn Write, header: &[&str]) -> io::Result<Self> {
        let mut csv = Self::without_header(out);
        csv.writer.write_record(header).map_err(csv_error)?;
        Ok(csv)
    }

    /// Continues below a header that was written before.
    pub fn without_header(out: &'a mut dyn Write) -> Self {
        Self { writer: csv::Writer::from_writer(out) }
    }

    /// Writes a row.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn row<'c>(&mut self, cells: impl IntoIterator<Item = Cow<'c, str>>) -> io::Result<()> {
        let cells: Vec<Cow<'_, str>> = cells.into_iter().map(guard).collect();
        self.writer.write_record(cells.iter().map(|cell| cell.as_bytes())).map_err(csv_error)
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn end(mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Puts an apostrophe before what a spreadsheet would run.
fn guard(cell: Cow<'_, str>) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { Cow::Owned(format!("'{cell}")) } else { cell }
}

/// The cause itself, because a broken pipe must be known as one.
fn csv_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("cannot write CSV: {other:?}")),
    }
}

/// One JSON array, one element per line, that is never held in memory.
pub struct JsonArray<'a> {
    out: &'a mut dyn Write,
    any: bool,
}

impl<'a> JsonArray<'a> {
    /// Begins the array.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, any: false }
    }

    /// Writes an element.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn add(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.out.write_all(if self.any { b",\n" } else { b"[\n" })?;
        self.any = true;
        serde_json::to_writer(&mut *self.out, value).map_err(Into::into)
    }

    /// Ends the array.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn end(self) -> io::Result<()> {
        self.out.write_all(if self.any { b"\n]\n" } else { b"[]\n" })
    }
}

/// A value that is not there is an empty cell.
#[must_use]
pub fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A number with what is counted.
pub(super) fn plural(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a command and returns its exit, data and remarks.
    pub fn capture(command: impl FnOnce(&mut Output<'_>) -> anyhow::Result<Exit>) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = command(&mut Output { out: &mut out, err: &mut err, terminal: false }).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    /// Refuses every byte, as a pipe does whose reader is gone.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn the_largest_exit_counts_and_has_its_promised_number() {
        assert_eq!(Exit::Refused.max(Exit::WorkLeft), Exit::WorkLeft);
        let all = [Exit::Well, Exit::Refused, Exit::Usage, Exit::WorkLeft, Exit::Unreachable];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn hostile_names_cannot_act_on_a_terminal() {
        assert_eq!(escape("\u{1b}[2J\u{9b}31m\r\n"), "\\u{1b}[2J\\u{9b}31m\\r\\n");
        assert_eq!(escape("invoice\u{202e}gpj.exe"), "invoice\\u{202e}gpj.exe");
        assert_eq!(escape("zero\u{200b}width\u{feff}"), "zero\\u{200b}width\\u{feff}");
        assert!(matches!(escape("Zürich/日本.png"), Cow::Borrowed("Zürich/日本.png")));
    }

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_guarded() {
        let mut out = Vec::new();
        let mut csv = Csv::new(&mut out, &["a", "b"]).unwrap();
        csv.row(["=1+1", "plain"].map(Cow::Borrowed)).unwrap();
        csv.row(["@x", "a\"b,c"].map(Cow::Borrowed)).unwrap();
        csv.row(["\tx", "-1"].map(Cow::Borrowed)).unwrap();
        csv.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a,b\n'=1+1,plain\n'@x,\"a\"\"b,c\"\n'\tx,'-1\n");
    }

    #[test]
    fn a_closed_pipe_is_known_through_every_writer() {
        let mut gone = Gone;
        let mut csv = Csv::new(&mut gone, &["a"]).unwrap();
        csv.row([Cow::Borrowed("x")]).unwrap();
        assert!(is_broken_pipe(&csv.end().unwrap_err().into()));
        let error = JsonArray::new(&mut Gone).add(&1).unwrap_err();
        assert!(is_broken_pipe(&anyhow::Error::from(error).context("cannot list the jobs")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("broken pipe")));
    }

    #[test]
    fn an_array_is_json_at_every_length() {
        for length in 0..3 {
            let mut out = Vec::new();
            let mut array = JsonArray::new(&mut out);
            (0..length).for_each(|number| array.add(&number).unwrap());
            array.end().unwrap();
            let read: Vec<i32> = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, (0..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn long_cells_are_cut_on_a_terminal_only() {
        let long = "x".repeat(200);
        for (terminal, length) in [(true, LONGEST_CELL), (false, 200)] {
            let mut rows = Rows::new(&["a", "b"], &["b"], terminal);
            rows.add([long.clone(), "7".into()]);
            let mut out = Vec::new();
            rows.write(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.lines().count(), 2, "{text}");
            assert_eq!(text.lines().last().unwrap().split(' ').next().unwrap().chars().count(), length);
        }
    }
}
