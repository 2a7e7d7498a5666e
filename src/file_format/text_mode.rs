//! Signs of a transfer that took a binary file for text: each LF has a CR before it, or every CR is gone.

use memchr::memchr_iter;

use super::Flaw;

/// So many LF among binary bytes, each after a CR, are no chance: that is one in 256 for each.
const ENOUGH_PAIRS: u32 = 4;

/// Each value but one occurs so often, and that one never.
const ENOUGH_OF_EACH: u32 = 8;

#[derive(Debug)]
pub(super) struct TextMode {
    /// The last two bytes.
    before: [u8; 2],
    /// An LF after a CR and a binary byte waits for what follows it.
    pending: bool,
    pairs: u32,
    /// An LF without a CR was seen.
    alone: bool,
    /// How often each byte value occurs, until the first CR.
    counts: Option<Box<[u32; 256]>>,
}

impl Default for TextMode {
    fn default() -> Self {
        Self { before: [0; 2], pending: false, pairs: 0, alone: false, counts: Some(Box::new([0; 256])) }
    }
}

impl TextMode {
    pub fn feed(&mut self, piece: &[u8]) {
        let Some(first) = piece.first() else { return };
        if std::mem::take(&mut self.pending) && is_binary(*first) {
            self.pairs += 1;
        }
        if !self.alone {
            self.line_ends(piece);
        }
        if let Some(counts) = &mut self.counts {
            for byte in piece {
                if let Some(count) = counts.get_mut(usize::from(*byte)) {
                    *count = count.saturating_add(1);
                }
                if *byte == b'\r' {
                    self.counts = None;
                    break;
                }
            }
        }
        self.before = match *piece {
            [.., a, b] => [a, b],
            [b] => [self.before[1], b],
            [] => self.before,
        };
    }

    fn line_ends(&mut self, piece: &[u8]) {
        let byte = |at: usize, back: usize| match at.checked_sub(back) {
            Some(at) => piece.get(at).copied().unwrap_or_default(),
            None => self.before.get(2 + at - back).copied().unwrap_or_default(),
        };
        for at in memchr_iter(b'\n', piece) {
            if byte(at, 1) != b'\r' {
                self.alone = true;
                return;
            }
            // Text in the file, as in its metadata, may end its lines so.
            if is_binary(byte(at, 2)) {
                match piece.get(at + 1) {
                    Some(next) => self.pairs += u32::from(is_binary(*next)),
                    None => self.pending = true,
                }
            }
        }
    }

    pub fn flaw(&self) -> Option<Flaw> {
        if !self.alone && self.pairs >= ENOUGH_PAIRS {
            return Some(Flaw::Damaged("each LF has a CR before it, as a transfer in text mode leaves a binary file"));
        }
        let counts = self.counts.as_ref()?;
        let others = counts.iter().enumerate().filter(|(byte, _)| *byte != usize::from(b'\r'));
        others.map(|(_, count)| *count).all(|count| count >= ENOUGH_OF_EACH).then_some(Flaw::Damaged(
            "it has not one CR among all other byte values, as a transfer in text mode leaves a binary file",
        ))
    }
}

const fn is_binary(byte: u8) -> bool {
    byte >= 0x7F || (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(content: &[u8]) -> Option<Flaw> {
        let of = |size: usize| {
            let mut found = TextMode::default();
            content.chunks(size).for_each(|piece| found.feed(piece));
            found.flaw()
        };
        assert_eq!(of(1), of(content.len()));
        assert_eq!(of(3), of(content.len()));
        of(content.len())
    }

    /// Bytes as compressed data has them.
    fn noise(count: u32) -> Vec<u8> {
        (0..count)
            .map(|at| at.wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(0x9E37_79B1).to_be_bytes()[0])
            .collect()
    }

    #[test]
    fn both_ways_of_a_text_mode_are_noticed_and_binary_files_and_text_are_not() {
        let binary = noise(20_000);
        assert_eq!(flaw(&binary), None);
        let with_cr: Vec<u8> =
            binary.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect();
        assert!(matches!(flaw(&with_cr), Some(Flaw::Damaged(why)) if why.contains("each LF")));
        let without_cr: Vec<u8> = binary.iter().copied().filter(|byte| *byte != b'\r').collect();
        assert!(matches!(flaw(&without_cr), Some(Flaw::Damaged(why)) if why.contains("not one CR")));
        let text = b"%PDF-1.4\r\n%\xE2\xE3\xCF\xD3\r\n1 0 obj\r\nstream\r\n\xFF\r\nendstream\r\n".repeat(20);
        assert_eq!(flaw(&text), None);
        assert_eq!(flaw(&b"<</Length 3>>\n".repeat(2000)), None);
    }
}
