//! Numbers that look random and are the same for the same seed.

use passfort_ingest::sandbox;

/// What an image of a disk asks of the dice.
#[derive(Debug, Clone)]
pub struct Dice(sandbox::Dice);

impl Dice {
    /// Dice of their own for each of these numbers.
    pub fn new(seed: u64, stream: u64, number: u64) -> Self {
        let mut dice = sandbox::Dice::new(seed ^ stream.rotate_left(24) ^ number.rotate_left(48));
        dice.draw();
        Self(dice)
    }

    /// A number of 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % (end.max(1) as u64)).unwrap_or_default()
    }

    /// One of these.
    pub fn one_of<const N: usize>(&mut self, all: [usize; N]) -> usize {
        let at = self.below(N);
        all.get(at).copied().unwrap_or_default()
    }

    /// True so often of a hundred.
    pub fn hits(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
