//! Numbers that look random and are the same for the same seed.

/// The generator that is called `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of their own for each of these numbers.
    pub fn new(seed: u64, stream: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ stream.rotate_left(24) ^ number.rotate_left(48));
        dice.next();
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
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
