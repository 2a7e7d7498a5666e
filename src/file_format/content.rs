//! Places of a file that has been read once, read again.

use std::io;

/// Fills a buffer from a place in the file, as far as the file goes, and says how much of it.
pub type ReadAt<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>;

/// How much is read at once where something is searched for.
const PIECE: usize = 64 * 1024;

pub(super) struct ContentReader<'a> {
    pub len: u64,
    read: ReadAt<'a>,
}

impl<'a> ContentReader<'a> {
    pub fn new(len: u64, read: ReadAt<'a>) -> Self {
        Self { len, read }
    }

    /// Whether all of the buffer could be filled.
    pub fn fill(&mut self, bytes: &mut [u8], at: u64) -> io::Result<bool> {
        if at.saturating_add(bytes.len() as u64) > self.len {
            return Ok(false);
        }
        Ok((self.read)(bytes, at)? == bytes.len())
    }

    /// At most `count` bytes from this place.
    pub fn bytes(&mut self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; count.min(left)];
        let filled = (self.read)(&mut bytes, at)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Reads from one place to another, piece by piece, until `each` has seen enough. A piece begins with the last
    /// `overlap` bytes of the one before it; `each` gets its place too.
    pub fn pieces(
        &mut self,
        (from, to): (u64, u64),
        overlap: usize,
        each: &mut dyn FnMut(&[u8], u64) -> bool,
    ) -> io::Result<()> {
        let mut at = from;
        loop {
            let count = usize::try_from(to.saturating_sub(at)).unwrap_or(usize::MAX).min(PIECE);
            let piece = self.bytes(at, count)?;
            let next = at.saturating_add(piece.len() as u64);
            if piece.is_empty() || each(&piece, at) || next >= to.min(self.len) || piece.len() <= overlap {
                return Ok(());
            }
            at = next - overlap as u64;
        }
    }
}
