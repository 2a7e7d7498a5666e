//! A GIF is a head, perhaps with a table of colours, then blocks that are divided into small ones.

use super::Flaw;

#[derive(Debug, Default)]
pub(super) struct GifWalk {
    at: GifState,
    /// The last byte that is not zero, for a file whose blocks make no sense.
    last: u8,
    /// A picture was seen.
    picture: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum GifState {
    #[default]
    Start,
    /// This many bytes of a header are left; one of them, counted from the end, says whether a colour table follows.
    Head {
        left: usize,
        flags_at: usize,
        image: bool,
    },
    Table {
        left: usize,
        image: bool,
    },
    Block,
    Skip {
        left: usize,
    },
    SubBlock,
    Lost,
    End,
}

impl GifWalk {
    pub fn flaws(&self) -> Vec<Flaw> {
        let ended = match self.at {
            GifState::End => true,
            GifState::Lost => self.last == 0x3B,
            _ => false,
        };
        match (ended, self.picture) {
            (true, true) => Vec::new(),
            (true, false) => vec![Flaw::Empty("the GIF has no picture in it")],
            (false, _) => vec![Flaw::Truncated("the GIF has no end mark")],
        }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((&byte, more)) = rest.split_first() {
            let mut used = 1;
            self.at = match self.at {
                GifState::End => return,
                GifState::Lost => {
                    if let Some(last) = rest.iter().rev().find(|byte| **byte != 0) {
                        self.last = *last;
                    }
                    return;
                }
                // Six bytes of signature and seven of the screen, whose fifth has the flags.
                GifState::Start => GifState::Head { left: 12, flags_at: 3, image: false },
                GifState::Head { left, flags_at, image } => {
                    let table = if left == flags_at && byte & 0x80 != 0 { 3 << ((byte & 7) + 1) } else { 0 };
                    match (left, table) {
                        // What is between the flags and the end of the header is skipped with the table.
                        (_, table) if table > 0 => GifState::Table { left: table + left - 1, image },
                        (1, _) => GifState::after_table(image),
                        _ => GifState::Head { left: left - 1, flags_at, image },
                    }
                }
                GifState::Table { left, image } => {
                    used = left.min(rest.len());
                    if used == left {
                        GifState::after_table(image)
                    } else {
                        GifState::Table { left: left - used, image }
                    }
                }
                GifState::Block => match byte {
                    0x3B => GifState::End,
                    0x21 => GifState::Skip { left: 1 },
                    0x2C => {
                        self.picture = true;
                        GifState::Head { left: 9, flags_at: 1, image: true }
                    }
                    0x00 => GifState::Block,
                    _ => {
                        self.last = byte;
                        GifState::Lost
                    }
                },
                GifState::Skip { left } => {
                    used = left.min(rest.len());
                    if used == left { GifState::SubBlock } else { GifState::Skip { left: left - used } }
                }
                GifState::SubBlock if byte == 0 => GifState::Block,
                GifState::SubBlock => GifState::Skip { left: usize::from(byte) },
            };
            rest = if used == 1 { more } else { rest.get(used..).unwrap_or_default() };
        }
    }
}

impl GifState {
    const fn after_table(image: bool) -> Self {
        // An image begins with one byte about its coding.
        if image { Self::Skip { left: 1 } } else { Self::Block }
    }
}
