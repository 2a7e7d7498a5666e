//! A PNG is chunks: length, name, content, check. Those whose name begins with a capital letter are critical.

use crc32fast::Hasher;

use super::Flaw;

#[derive(Debug)]
pub(super) struct PngWalk {
    at: PngState,
    /// How much picture data each of the last two chunks of it had.
    data: [u64; 2],
    /// A chunk of picture data was followed by a whole one of another kind.
    data_ended: bool,
    /// More pictures may follow the first.
    is_animated: bool,
    damaged: bool,
}

#[derive(Debug)]
enum PngState {
    Signature { left: usize },
    Head { bytes: [u8; 8], filled: usize },
    Data { left: u64, chunk: Chunk },
    Check { bytes: [u8; 4], filled: usize, chunk: Chunk },
    End,
}

#[derive(Debug)]
struct Chunk {
    name: [u8; 4],
    length: u64,
    /// Of a critical chunk.
    crc: Option<Hasher>,
}

impl Default for PngWalk {
    fn default() -> Self {
        Self {
            at: PngState::Signature { left: 8 },
            data: [0; 2],
            data_ended: false,
            is_animated: false,
            damaged: false,
        }
    }
}

impl PngWalk {
    pub fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let used;
            self.at = match std::mem::replace(&mut self.at, PngState::End) {
                PngState::End => return,
                PngState::Signature { left } => {
                    used = left.min(piece.len());
                    if used == left { PngState::next() } else { PngState::Signature { left: left - used } }
                }
                PngState::Head { mut bytes, filled } => {
                    used = take(&mut bytes, filled, piece);
                    match filled + used {
                        8 => PngState::chunk(bytes),
                        filled => PngState::Head { bytes, filled },
                    }
                }
                PngState::Data { left, mut chunk } => {
                    used = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                    if let Some(crc) = &mut chunk.crc {
                        crc.update(piece.get(..used).unwrap_or_default());
                    }
                    match left - used as u64 {
                        0 => PngState::Check { bytes: [0; 4], filled: 0, chunk },
                        left => PngState::Data { left, chunk },
                    }
                }
                PngState::Check { mut bytes, filled, chunk } => {
                    used = take(&mut bytes, filled, piece);
                    match filled + used {
                        4 => self.ended(chunk, u32::from_be_bytes(bytes)),
                        filled => PngState::Check { bytes, filled, chunk },
                    }
                }
            };
            piece = piece.get(used..).unwrap_or_default();
        }
    }

    fn ended(&mut self, chunk: Chunk, check: u32) -> PngState {
        self.damaged |= chunk.crc.is_some_and(|crc| crc.finalize() != check);
        match &chunk.name {
            b"IEND" => return PngState::End,
            b"acTL" => self.is_animated = true,
            b"IDAT" => self.data = [self.data[1], chunk.length],
            _ => self.data_ended = self.data[1] > 0,
        }
        PngState::next()
    }

    pub fn flaws(&self) -> Vec<Flaw> {
        let damaged = self.damaged.then_some(Flaw::Damaged("a part of the PNG differs from its checksum (CRC)"));
        let flaw = match &self.at {
            PngState::End if self.data[1] == 0 => Some(Flaw::Empty("the PNG has no picture in it")),
            PngState::End => None,
            PngState::Head { filled: 0, .. } if self.is_complete() => None,
            _ => Some(Flaw::Truncated("the PNG has no end chunk")),
        };
        flaw.into_iter().chain(damaged).collect()
    }

    /// Whether the picture is there, where the file ends between two chunks and only the end chunk is missing.
    fn is_complete(&self) -> bool {
        let [before, last] = self.data;
        // Programs that divide a picture use the same round size for all chunks of it but the last.
        let is_last = last > 0 && (self.data_ended || (last % 1024 != 0 && (before == 0 || last < before)));
        is_last && !self.is_animated && !self.damaged
    }
}

impl PngState {
    const fn next() -> Self {
        Self::Head { bytes: [0; 8], filled: 0 }
    }

    fn chunk([a, b, c, d, name @ ..]: [u8; 8]) -> Self {
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        let crc = name[0].is_ascii_uppercase().then(|| {
            let mut crc = Hasher::new();
            crc.update(&name);
            crc
        });
        let chunk = Chunk { name, length, crc };
        if length == 0 { Self::Check { bytes: [0; 4], filled: 0, chunk } } else { Self::Data { left: length, chunk } }
    }
}

/// Fills the rest of some bytes, and says how many it took.
fn take(bytes: &mut [u8], filled: usize, piece: &[u8]) -> usize {
    let room = bytes.get_mut(filled..).unwrap_or_default();
    let count = room.len().min(piece.len());
    room.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
    count
}
