//! Rows in a scratch store, from where they come back with those of one reference together.

use std::{io, ops::ControlFlow};

use super::{
    super::{ReadError, Scratch},
    row::Row,
};

/// Under these prefixes are the first line of each reference, and the rows by their groups' first lines and their own.
const FIRST_LINE: u8 = 0;
const ROW: u8 = 1;

pub(super) struct Staging<'a> {
    scratch: &'a mut dyn Scratch,
    groups: u64,
    /// The reference of the row before, and the first line of its group: rows mostly come in order.
    last: Option<(String, u64)>,
    has_references: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn new(scratch: &'a mut dyn Scratch) -> Self {
        Self { scratch, groups: 0, last: None, has_references: false }
    }

    /// How many groups there are: references, and rows without one.
    pub(super) fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether any row has a reference.
    pub(super) fn has_references(&self) -> bool {
        self.has_references
    }

    /// Adds a row; rows come with ascending lines.
    pub(super) fn add(&mut self, row: &Row) -> Result<(), ReadError> {
        self.has_references |= row.reference.is_some();
        let first_line = match &row.reference {
            None => self.begin_group(row.line),
            Some(reference) => match &self.last {
                Some((last, first_line)) if last == reference => *first_line,
                _ => {
                    let first_line = self.first_line_of(reference, row.line)?;
                    self.last = Some((reference.clone(), first_line));
                    first_line
                }
            },
        };
        let [first, line] = [first_line, row.line].map(u64::to_be_bytes);
        self.scratch.put(&[&[ROW][..], &first, &line].concat(), &row.pack()).map_err(failed)
    }

    fn begin_group(&mut self, line: u64) -> u64 {
        self.groups = self.groups.saturating_add(1);
        line
    }

    fn first_line_of(&mut self, reference: &str, line: u64) -> Result<u64, ReadError> {
        let key = [&[FIRST_LINE], reference.as_bytes()].concat();
        if let Some(known) = self.scratch.get(&key).map_err(failed)? {
            return known.try_into().map(u64::from_be_bytes).map_err(|_| garbled());
        }
        self.scratch.put(&key, &line.to_be_bytes()).map_err(failed)?;
        Ok(self.begin_group(line))
    }

    /// Hands back every row with the first line of its group: group after group, and in each by line.
    pub(super) fn each_row(&self, visit: &mut dyn FnMut(u64, Row) -> Result<(), ReadError>) -> Result<(), ReadError> {
        let mut ended = Ok(());
        let mut one = |key: &[u8], value: &[u8]| {
            let (_, lines) = key.split_first().ok_or_else(garbled)?;
            let (first, line) = lines.split_first_chunk().ok_or_else(garbled)?;
            let line = line.try_into().map_err(|_| garbled())?;
            let row = Row::unpack(u64::from_be_bytes(line), value).ok_or_else(garbled)?;
            visit(u64::from_be_bytes(*first), row)
        };
        let scanned = self.scratch.scan(&[ROW], &mut |key, value| {
            ended = one(key, value);
            if ended.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        scanned.map_err(failed).and(ended)
    }
}

fn garbled() -> ReadError {
    failed(io::ErrorKind::InvalidData.into())
}

/// The store is ours, so its failures are those of the disk under it.
fn failed(error: io::Error) -> ReadError {
    ReadError::Io(io::Error::other(format!("the temporary database for the rows of a CSV manifest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{super::row::RowFault, *};

    #[test]
    fn rows_come_back_by_group_and_unchanged() {
        let mut scratch = std::collections::BTreeMap::new();
        let mut staging = Staging::new(&mut scratch);
        let row = |line, reference: Option<&str>| Row {
            line,
            reference: reference.map(str::to_owned),
            path: Some(format!("{line}\0ä.png")),
            ..Row::default()
        };
        let mut faulty = row(6, Some("a"));
        faulty.fault = Some(RowFault::Cells { found: 3, expected: 9 });
        let mut latin = row(7, None);
        latin.fault = Some(RowFault::Encoding { column: "path".to_owned(), bytes: vec![0xFC] });
        let rows = [row(2, Some("a")), row(3, None), row(4, Some("b")), row(5, Some("a")), faulty, latin];
        for row in &rows {
            staging.add(row).unwrap();
        }
        assert_eq!(staging.groups(), 4);
        let mut back = Vec::new();
        staging
            .each_row(&mut |first, row| {
                back.push((first, row));
                Ok(())
            })
            .unwrap();
        let order: Vec<_> = back.iter().map(|(first, row)| (*first, row.line)).collect();
        assert_eq!(order, [(2, 2), (2, 5), (2, 6), (3, 3), (4, 4), (7, 7)]);
        back.sort_by_key(|(_, row)| row.line);
        assert_eq!(back.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), rows);
    }
}
