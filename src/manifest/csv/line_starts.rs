//! On which line a row begins.
//!
//! The CSV parser reports where its reading of a row began, which may be blank lines or half a line end before the row
//! itself. So the reader below it notes where non-blank lines begin. Only the lines between the parser's position and
//! the end of its buffer are kept.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Read},
};

/// The beginnings of lines that are not blank.
#[derive(Debug)]
pub(super) struct LineStarts {
    /// Offset and line, both ascending.
    starts: VecDeque<(u64, u64)>,
    offset: u64,
    line: u64,
    within: bool,
    after_return: bool,
}

impl Default for LineStarts {
    fn default() -> Self {
        Self { starts: VecDeque::new(), offset: 0, line: 1, within: false, after_return: false }
    }
}

impl LineStarts {
    /// The line, from 1, of the first text at this offset or after it; earlier lines are forgotten.
    pub(super) fn first_from(&mut self, offset: u64) -> u64 {
        while self.starts.front().is_some_and(|(start, _)| *start < offset) {
            self.starts.pop_front();
        }
        self.starts.front().map_or(self.line, |(_, line)| *line)
    }

    /// Whether the text so far ends with the end of a line.
    pub(super) const fn ends_with_line_end(&self) -> bool {
        !self.within
    }

    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => {
                    self.line = self.line.saturating_add(1);
                    self.within = false;
                }
                _ if !self.within => {
                    self.within = true;
                    self.starts.push_back((self.offset, self.line));
                }
                _ => {}
            }
            self.after_return = *byte == b'\r';
            self.offset = self.offset.saturating_add(1);
        }
    }
}

/// A reader whose lines are noted.
#[derive(Debug)]
pub(super) struct LineTracker<'a, R> {
    inner: R,
    starts: &'a RefCell<LineStarts>,
}

impl<'a, R> LineTracker<'a, R> {
    pub(super) fn new(inner: R, starts: &'a RefCell<LineStarts>) -> Self {
        Self { inner, starts }
    }
}

impl<R: Read> Read for LineTracker<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.starts.borrow_mut().pass(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_counts_once() {
        for text in ["a\n\nb\nc", "a\r\n\r\nb\r\nc", "a\r\rb\rc"] {
            let mut starts = LineStarts::default();
            for byte in text.bytes() {
                starts.pass(&[byte]);
            }
            let at = |what: char| u64::try_from(text.find(what).unwrap()).unwrap();
            assert_eq!(starts.first_from(0), 1);
            assert_eq!(starts.first_from(1), 3, "from the line end after a");
            assert_eq!(starts.first_from(at('b')), 3);
            assert_eq!(starts.first_from(at('c')), 4);
        }
    }
}
