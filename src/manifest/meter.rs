//! A reader that counts, so that hostile input is given up before it is buffered.
//!
//! It bounds the input, and, between [`Meter::begin`] and [`Meter::end`], one piece of it. It also counts lines, for
//! parsers that do not report their position. Its bounds are as exact as the reads above it are small.

use std::{
    cell::Cell,
    io::{self, Read},
};

/// What is counted, shared between the reader and the user of the parser above it.
#[derive(Debug)]
pub(super) struct Meter {
    whole_left: Cell<u64>,
    piece_left: Cell<Option<u64>>,
    before_piece: Cell<bool>,
    line: Cell<u64>,
    tripped: Cell<Option<Tripped>>,
}

/// Which bound was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tripped {
    /// The input is too large.
    Whole,
    /// One piece is too large.
    Piece,
}

impl Meter {
    /// A meter for an input of at most `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self {
            whole_left: Cell::new(most),
            piece_left: Cell::new(None),
            before_piece: Cell::new(false),
            line: Cell::new(1),
            tripped: Cell::new(None),
        }
    }

    /// A piece of at most `most` bytes begins, or has begun and only what follows counts.
    pub(super) fn begin(&self, most: usize) {
        self.piece_left.set(Some(u64::try_from(most).unwrap_or(u64::MAX)));
        self.before_piece.set(false);
    }

    /// A piece of at most `most` bytes begins after any white space.
    ///
    /// Only for readers that have taken nothing of the piece yet: white space within it would not be counted.
    pub(super) fn begin_after_space(&self, most: usize) {
        self.begin(most);
        self.before_piece.set(true);
    }

    /// The piece is over.
    pub(super) fn end(&self) {
        self.piece_left.set(None);
    }

    /// The line of the byte that was read last, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line.get()
    }

    /// The bound that was passed, if one was.
    pub(super) fn tripped(&self) -> Option<Tripped> {
        self.tripped.get()
    }

    fn count(&self, bytes: &[u8]) -> io::Result<()> {
        let size = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.line.set(self.line.get().saturating_add(u64::try_from(lines).unwrap_or(u64::MAX)));
        let Some(whole_left) = self.whole_left.get().checked_sub(size(bytes)) else {
            return self.trip(Tripped::Whole);
        };
        self.whole_left.set(whole_left);
        let mut of_piece = bytes;
        if self.before_piece.get() {
            of_piece = bytes.trim_ascii_start();
            self.before_piece.set(of_piece.is_empty());
        }
        if let Some(left) = self.piece_left.get() {
            let Some(left) = left.checked_sub(size(of_piece)) else {
                return self.trip(Tripped::Piece);
            };
            self.piece_left.set(Some(left));
        }
        Ok(())
    }

    fn trip(&self, bound: Tripped) -> io::Result<()> {
        self.tripped.set(Some(bound));
        Err(io::Error::new(io::ErrorKind::FileTooLarge, "the input is larger than the limit"))
    }
}

/// A reader with a [`Meter`].
#[derive(Debug)]
pub(super) struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter,
}

impl<'a, R> Metered<'a, R> {
    pub(super) fn new(inner: R, meter: &'a Meter) -> Self {
        Self { inner, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.count(buffer.get(..read).unwrap_or_default())?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_may_be_as_large_as_the_limit_and_no_larger() {
        for (most, expected) in [(4, None), (3, Some(Tripped::Whole))] {
            let meter = Meter::new(most);
            let outcome = Metered::new(&b"a\nb\n"[..], &meter).read_to_end(&mut Vec::new());
            assert_eq!((outcome.is_err(), meter.tripped()), (expected.is_some(), expected));
        }
    }

    #[test]
    fn a_piece_counts_from_where_it_begins() {
        let meter = Meter::new(100);
        let mut reader = Metered::new(&b"0123\n567  89"[..], &meter);
        reader.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(meter.line(), 2);
        meter.begin(2);
        reader.read_exact(&mut [0; 2]).unwrap();
        meter.end();
        reader.read_exact(&mut [0; 1]).unwrap();
        meter.begin_after_space(1);
        assert!(reader.read_exact(&mut [0; 4]).is_err());
        assert_eq!(meter.tripped(), Some(Tripped::Piece));
    }
}
