//! The text without what fills up its last block.
//!
//! Programs of fixed blocks, and files whose space is reserved ahead, end in zero bytes; text of DOS ends in 0x1A.

use std::{
    cell::Cell,
    io::{self, Read},
};

use super::BUFFER_BYTES;

/// With more changes between the two filling bytes it is no padding; so little is kept in memory.
const MOST_RUNS: usize = 8;

/// A reader that keeps padding back until it knows whether text follows it.
///
/// Zero bytes count only after the end of a line: elsewhere they are in the place of text that is missing.
#[derive(Debug)]
pub(super) struct Unpadded<'a, R> {
    inner: R,
    /// How many bytes of padding the text ends with, once it has been read.
    padding: &'a Cell<u64>,
    /// What is kept back, as bytes and how often each comes.
    kept: Vec<(u8, u64)>,
    /// Text follows what was kept back, so that it is given.
    is_text: bool,
    piece: Vec<u8>,
    /// Up to where the piece is text, and up to where it has been given.
    text: usize,
    given: usize,
    after_line_end: bool,
}

impl<'a, R: Read> Unpadded<'a, R> {
    pub(super) fn new(inner: R, padding: &'a Cell<u64>) -> Self {
        let (kept, piece) = (Vec::new(), Vec::new());
        Self { inner, padding, kept, is_text: false, piece, text: 0, given: 0, after_line_end: true }
    }

    /// Reads the next piece, and finds where its text ends; says whether there is one.
    fn refill(&mut self) -> io::Result<bool> {
        (self.text, self.given) = (0, 0);
        self.piece.clear();
        let mut next = self.inner.by_ref().take(BUFFER_BYTES as u64);
        let read = next.read_to_end(&mut self.piece).inspect_err(|_| self.piece.clear())?;
        if read == 0 {
            return Ok(false);
        }
        let is_padding = |byte: &u8| matches!(byte, 0 | 0x1A);
        self.text = self.piece.iter().rposition(|byte| !is_padding(byte)).map_or(0, |last| last.saturating_add(1));
        if let Some(last) = self.text.checked_sub(1).and_then(|last| self.piece.get(last)) {
            self.after_line_end = matches!(last, b'\n' | b'\r');
            self.is_text = true;
        }
        let tail = self.piece.get(self.text..).unwrap_or_default();
        let follows_padding = self.text == 0 && !self.kept.is_empty();
        let is_hole = tail.first() == Some(&0) && !self.after_line_end && !follows_padding;
        let before = if self.text == 0 { self.kept.len() } else { 0 };
        if is_hole || before.saturating_add(runs(tail).take(MOST_RUNS).count()) >= MOST_RUNS {
            (self.text, self.is_text, self.after_line_end) = (read, true, false);
        }
        if self.text == 0 {
            self.keep_tail();
        }
        Ok(true)
    }

    fn keep_tail(&mut self) {
        for (byte, count) in runs(self.piece.get(self.text..).unwrap_or_default()) {
            match self.kept.last_mut() {
                Some((last, kept)) if *last == byte => *kept = kept.saturating_add(count),
                _ => self.kept.push((byte, count)),
            }
        }
        self.piece.clear();
    }
}

/// Equal bytes in a row, with their number.
fn runs(bytes: &[u8]) -> impl Iterator<Item = (u8, u64)> {
    let run = |run: &[u8]| Some((*run.first()?, u64::try_from(run.len()).unwrap_or(u64::MAX)));
    bytes.chunk_by(|one, other| one == other).filter_map(run)
}

impl<R: Read> Read for Unpadded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_text
                && let Some((byte, count)) = self.kept.first_mut()
            {
                let most = usize::try_from(*count).unwrap_or(usize::MAX).min(buffer.len());
                buffer.get_mut(..most).unwrap_or_default().fill(*byte);
                *count = count.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
                if *count == 0 {
                    self.kept.remove(0);
                }
                return Ok(most);
            }
            self.is_text = false;
            let mut text = self.piece.get(self.given..self.text).unwrap_or_default();
            if !text.is_empty() {
                let read = text.read(buffer)?;
                self.given = self.given.saturating_add(read);
                return Ok(read);
            }
            self.keep_tail();
            if !self.refill()? {
                self.padding.set(self.kept.iter().map(|(_, count)| count).sum());
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<u8>, u64) {
        let padding = Cell::new(0);
        let mut text = Vec::new();
        Unpadded::new(bytes, &padding).read_to_end(&mut text).unwrap();
        (text, padding.get())
    }

    #[test]
    fn only_what_fills_up_the_end_is_dropped() {
        for (bytes, text, padding) in [
            (&b"a,b\n\0\0\0"[..], &b"a,b\n"[..], 3),
            (b"a,b\r\n\x1A", b"a,b\r\n", 1),
            (b"a,b\x1A", b"a,b", 1),
            (b"a,b\x1A\0\0", b"a,b", 3),
            (b"a,b\n", b"a,b\n", 0),
            // A hole, not padding: the text before it was not written to its end.
            (b"a,b\0\0", b"a,b\0\0", 0),
            (b"a\n\0\0b\n\0", b"a\n\0\0b\n", 1),
            (b"a\x1Ab", b"a\x1Ab", 0),
            (b"", b"", 0),
            (b"\0\0", b"", 2),
        ] {
            assert_eq!(read(bytes), (text.to_vec(), padding), "{bytes:?}");
        }
    }

    #[test]
    fn padding_larger_than_any_buffer_is_counted_and_not_kept() {
        let text = [b"a\n".to_vec(), vec![0; 3 * BUFFER_BYTES]].concat();
        assert_eq!(read(&text), (b"a\n".to_vec(), 3 * BUFFER_BYTES as u64));
        let hole = [text, b"b\n".to_vec()].concat();
        assert_eq!(read(&hole), (hole.clone(), 0));
        let alternating = [0, 0x1A].repeat(BUFFER_BYTES);
        assert_eq!(read(&alternating), (alternating.clone(), 0));
    }

    proptest! {
        #[test]
        fn nothing_else_is_lost(bytes in proptest::collection::vec(prop_oneof![Just(0), Just(0x1A), Just(b'\n'), Just(b'a')], 0..40)) {
            let (text, padding) = read(&bytes);
            prop_assert_eq!(text.len() as u64 + padding, bytes.len() as u64);
            prop_assert!(bytes.starts_with(&text));
        }
    }
}
