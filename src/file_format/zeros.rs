//! Long runs of zero bytes, as a transfer leaves them that reserves a file's place first and loses a part of it.

/// No more runs than these are kept.
const MAX_KEPT: usize = 16;

#[derive(Debug)]
pub(super) struct ZeroRuns {
    /// The shortest run that counts.
    min: u64,
    /// The place of the next byte.
    at: u64,
    /// The zero bytes just before it.
    run: u64,
    /// Where runs that have ended were: their beginning and the place behind them.
    pub found: Vec<(u64, u64)>,
}

impl ZeroRuns {
    pub const fn of_at_least(min: u64) -> Self {
        Self { min, at: 0, run: 0, found: Vec::new() }
    }

    /// Takes the next piece, which is at this place of the file.
    pub fn feed(&mut self, piece: &[u8], at: u64) {
        if at != self.at {
            self.end();
            self.at = at;
        }
        let leading = piece.iter().take_while(|byte| **byte == 0).count();
        self.run += leading as u64;
        self.at += leading as u64;
        if leading == piece.len() {
            return;
        }
        self.end();
        self.at = at + piece.len() as u64;
        self.run = piece.iter().rev().take_while(|byte| **byte == 0).count() as u64;
        // Every run that is long enough covers a multiple of that length.
        let stride = usize::try_from(self.min).unwrap_or(usize::MAX).max(1);
        let mut within = leading.next_multiple_of(stride);
        while let Some(byte) = piece.get(within) {
            if *byte == 0 {
                let (before, behind) = piece.split_at(within);
                let length = behind.iter().take_while(|byte| **byte == 0).count();
                let start = within - before.iter().rev().take_while(|byte| **byte == 0).count();
                if start > leading && within + length < piece.len() {
                    self.keep(at + start as u64, at + (within + length) as u64);
                }
                within += length.saturating_sub(1);
            }
            within = (within + 1).next_multiple_of(stride);
        }
    }

    /// The run ends before the next byte.
    pub fn end(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.keep(self.at - run, self.at);
    }

    fn keep(&mut self, start: u64, end: u64) {
        if end - start >= self.min && self.found.len() < MAX_KEPT {
            self.found.push((start, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_wherever_pieces_end() {
        let mut content = vec![0; 30];
        content.extend([1; 50]);
        content.extend([0; 10]);
        content.extend([1; 7]);
        content.extend([0; 25]);
        content.extend([1; 3]);
        content.extend([0; 9]);
        content.extend([1; 3]);
        content.extend([0; 100]);
        for size in 1..content.len() {
            let mut runs = ZeroRuns::of_at_least(10);
            for (number, piece) in content.chunks(size).enumerate() {
                runs.feed(piece, (number * size) as u64);
            }
            // What reaches to the end of the file is no hole.
            assert_eq!(runs.found, [(0, 30), (80, 90), (97, 122)], "pieces of {size}");
        }
    }
}
