//! Reads an open file piece by piece for a body, without ever letting a slow disk hold up the runtime.
//!
//! What is in the page cache is read inline, because handing it to another thread would cost more than the read;
//! everything else is read on a blocking thread. It knows nothing of what the bytes are for. Invariant: a piece is
//! shorter than asked for only where the file ends.

use std::{
    fs::File,
    future::Future,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    fs::Advice,
    io::{Errno, ReadWriteFlags},
};
use tokio::task::JoinHandle;

use super::frames;

/// A read on a blocking thread: it takes the buffer along and brings it back, filled so far.
type Blocking = JoinHandle<(Vec<u8>, io::Result<usize>)>;

/// Reads one file from its start to its end.
#[derive(Debug)]
pub(super) struct SourceReader {
    file: Arc<File>,
    /// Where the piece that is being filled starts in the file.
    at: u64,
    buffer: Vec<u8>,
    filled: usize,
    blocking: Option<Blocking>,
    /// Whether the file system can say at once that a read would have to wait.
    inline: bool,
}

impl SourceReader {
    /// A reader of pieces of up to `piece_bytes` bytes. The file's own position is neither used nor moved.
    pub(super) fn new(file: File, piece_bytes: usize) -> Self {
        // Only a hint: doubles the kernel's read-ahead, so that few reads have to wait.
        let _unheeded = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let mut buffer = frames::inherit();
        buffer.resize(piece_bytes, 0);
        Self { file: Arc::new(file), at: 0, buffer, filled: 0, blocking: None, inline: true }
    }

    /// Where the next piece starts in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next `wanted` bytes, or fewer where the file ends before; they count as read only after [`SourceReader::advance`].
    pub(super) fn poll_piece(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<&[u8]>> {
        loop {
            if let Some(blocking) = &mut self.blocking {
                let ended = ready!(Pin::new(blocking).poll(context));
                self.blocking = None;
                let (buffer, filled) = ended.map_err(io::Error::other)?;
                self.buffer = buffer;
                self.filled = filled?;
                break;
            }
            let Some(room) = self.buffer.get_mut(self.filled..wanted).filter(|room| !room.is_empty()) else { break };
            let start = self.at.saturating_add(self.filled as u64);
            if self.inline {
                match rustix::io::preadv2(&*self.file, &mut [IoSliceMut::new(room)], start, ReadWriteFlags::NOWAIT) {
                    Ok(0) => break,
                    Ok(read) => {
                        self.filled = self.filled.saturating_add(read);
                        continue;
                    }
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => {}
                    // EOPNOTSUPP, ENOSYS or EINVAL: not on this file system or kernel. A true error shows again below.
                    Err(_) => self.inline = false,
                }
            }
            let (file, buffer, filled) = (Arc::clone(&self.file), std::mem::take(&mut self.buffer), self.filled);
            let at = self.at;
            self.blocking = Some(tokio::task::spawn_blocking(move || read_fully(&file, buffer, filled, wanted, at)));
        }
        Poll::Ready(Ok(self.buffer.get(..self.filled).unwrap_or_default()))
    }

    /// Moves past the piece, of which `bytes` bytes belong to the content.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.at = self.at.saturating_add(bytes);
        self.filled = 0;
    }

    /// A reader that always uses the blocking thread.
    #[cfg(test)]
    pub(super) fn never_inline(file: File, piece_bytes: usize) -> Self {
        let mut reader = Self::new(file, piece_bytes);
        reader.inline = false;
        reader
    }
}

impl Drop for SourceReader {
    fn drop(&mut self) {
        frames::bequeath(std::mem::take(&mut self.buffer));
    }
}

fn read_fully(
    file: &File,
    mut buffer: Vec<u8>,
    mut filled: usize,
    wanted: usize,
    at: u64,
) -> (Vec<u8>, io::Result<usize>) {
    while let Some(room) = buffer.get_mut(filled..wanted).filter(|room| !room.is_empty()) {
        match file.read_at(room, at.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (buffer, Err(error)),
        }
    }
    (buffer, Ok(filled))
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write};

    use super::*;

    async fn pieces(mut reader: SourceReader, size: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        loop {
            let piece = poll_fn(|context| reader.poll_piece(context, size).map_ok(<[u8]>::to_vec)).await.unwrap();
            let ended = piece.len() < size;
            reader.advance(piece.len() as u64);
            pieces.push(piece);
            if ended {
                return pieces;
            }
        }
    }

    #[tokio::test]
    async fn both_ways_of_reading_give_the_same_pieces() {
        let content: Vec<u8> = (0..1000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let inline = pieces(SourceReader::new(file.try_clone().unwrap(), 300), 300).await;
        let blocking = pieces(SourceReader::never_inline(file, 300), 300).await;
        assert_eq!(inline, blocking);
        assert_eq!(inline.iter().map(Vec::len).collect::<Vec<_>>(), [300, 300, 300, 100]);
        assert_eq!(inline.concat(), content);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for reader in [SourceReader::new, SourceReader::never_inline] {
            let mut reader = reader(File::open(folder.path()).unwrap(), 10);
            assert!(poll_fn(|context| reader.poll_piece(context, 10).map_ok(drop)).await.is_err());
        }
    }
}
