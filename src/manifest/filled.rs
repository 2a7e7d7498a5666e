//! Reads that are always as long as asked for.
//!
//! A parser that skips a mark at the start of its first piece, or counts what it reads ahead, gives another result for
//! other pieces. Above this reader, all pieces of one input are the same, however its bytes arrive.

use std::io::{self, Read, Seek, SeekFrom};

/// A reader that gives fewer bytes than asked for only at the end, or before an error.
#[derive(Debug)]
pub(super) struct FilledReader<R>(pub(super) R);

impl<R: Read> Read for FilledReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read(rest) {
                Ok(0) => break,
                Ok(read) => filled = filled.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It comes again at the next read, after what was read before it.
                Err(error) if filled == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(filled)
    }
}

impl<R: Seek> Seek for FilledReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}
