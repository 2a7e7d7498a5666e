//! A JPEG is markers with segments, and after a start of scan coded data up to the next marker.

use memchr::memchr;

use super::{Flaw, zeros::ZeroRuns};

/// The shortest run of zero bytes in coded data that is no part of a picture, unless the scan says otherwise.
const HOLE: u64 = 8 * 1024;

/// Where a file system or a transfer begins and ends a hole.
const BLOCK: u64 = 512;

#[derive(Debug)]
pub(super) struct JpegWalk {
    state: JpegState,
    /// The place of the next byte.
    at: u64,
    frame: Option<Frame>,
    /// The first code of each Huffman table, by class (DC, AC) and number.
    first_codes: [[Option<FirstCode>; 4]; 2],
    zeros: ZeroRuns,
    /// What zero bytes mean in the scan that is under way.
    blank: Option<Blank>,
    scans: u64,
    has_hole: bool,
}

#[derive(Debug)]
enum JpegState {
    Skip {
        left: usize,
    },
    /// The next byte begins a marker.
    Between,
    /// After the 0xFF of a marker.
    Marker {
        in_scan: bool,
    },
    /// In the length of a segment.
    Length {
        code: u8,
        high: Option<u8>,
    },
    /// In a segment that has to be understood.
    Segment {
        code: u8,
        left: usize,
        content: Vec<u8>,
    },
    Scan,
    End,
}

/// What a frame's header says.
#[derive(Debug)]
struct Frame {
    code: u8,
    height: u64,
    width: u64,
    components: Vec<Component>,
}

#[derive(Debug, Clone, Copy)]
struct Component {
    id: u8,
    /// Blocks in each unit that components are interleaved by.
    blocks: u64,
    across: u64,
    down: u64,
}

/// The code of nothing but zero bits: its length, and the symbol that it encodes.
#[derive(Debug, Clone, Copy)]
struct FirstCode {
    bits: u64,
    symbol: u8,
}

/// Zero bits that stand for a blank part of a picture: these bits for these blocks, and so many blocks there are.
#[derive(Debug, Clone, Copy)]
struct Blank {
    bits: u64,
    blocks: u64,
    of: u64,
}

impl Default for JpegWalk {
    fn default() -> Self {
        Self {
            state: JpegState::Skip { left: 2 },
            at: 0,
            frame: None,
            first_codes: [[None; 4]; 2],
            zeros: ZeroRuns::of_at_least(HOLE),
            blank: None,
            scans: 0,
            has_hole: false,
        }
    }
}

impl JpegWalk {
    /// One that is inside another file, at this place.
    pub fn beginning_at(at: u64) -> Self {
        Self { at, ..Self::default() }
    }

    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            let used = match &mut self.state {
                JpegState::End => return,
                JpegState::Skip { left } => {
                    let now = (*left).min(piece.len());
                    *left -= now;
                    if *left == 0 {
                        self.state = JpegState::Between;
                    }
                    now
                }
                JpegState::Between | JpegState::Scan => {
                    let in_scan = matches!(self.state, JpegState::Scan);
                    let found = memchr(0xFF, piece);
                    if in_scan {
                        self.zeros.feed(piece.get(..found.unwrap_or(piece.len())).unwrap_or_default(), self.at);
                        self.judge_zeros();
                    }
                    if found.is_some() {
                        self.state = JpegState::Marker { in_scan };
                    }
                    found.map_or(piece.len(), |at| at + 1)
                }
                JpegState::Marker { in_scan } => {
                    let in_scan = *in_scan;
                    match byte {
                        // Any number of fill bytes may precede a marker.
                        0xFF => {}
                        0xD9 => {
                            self.state = JpegState::End;
                            self.end_of_zeros();
                        }
                        // A stuffed byte, a restart, or one of the markers that have no segment.
                        0x00 | 0x01 | 0xD0..=0xD8 if in_scan => self.state = JpegState::Scan,
                        0x00 | 0x01 | 0xD0..=0xD8 => self.state = JpegState::Between,
                        code => self.state = JpegState::Length { code, high: None },
                    }
                    1
                }
                JpegState::Length { high: high @ None, .. } => {
                    *high = Some(byte);
                    1
                }
                JpegState::Length { code, high: Some(high) } => {
                    let code = *code;
                    let left = usize::from(u16::from_be_bytes([*high, byte])).saturating_sub(2);
                    self.state = match (left, code) {
                        (0, 0xDA) => self.scan(&[]),
                        (0, _) => JpegState::Between,
                        // Huffman tables, frames, and starts of scans.
                        (_, 0xC0..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xDA) => {
                            JpegState::Segment { code, left, content: Vec::new() }
                        }
                        _ => JpegState::Skip { left },
                    };
                    1
                }
                JpegState::Segment { code, left, content } => {
                    let now = (*left).min(piece.len());
                    content.extend(piece.iter().take(now));
                    *left -= now;
                    if *left == 0 {
                        let (code, content) = (*code, std::mem::take(content));
                        self.state = self.segment(code, &content);
                    }
                    now
                }
            };
            self.at += used as u64;
            piece = if used == 1 { rest } else { piece.get(used..).unwrap_or_default() };
        }
    }

    fn segment(&mut self, code: u8, content: &[u8]) -> JpegState {
        match code {
            0xC4 => self.huffman(content),
            0xDA => return self.scan(content),
            _ => self.frame = Frame::read(code, content).or(self.frame.take()),
        }
        JpegState::Between
    }

    fn huffman(&mut self, mut content: &[u8]) {
        while let Some((class_and_number, rest)) = content.split_first() {
            let Some((counts, symbols)) = rest.split_at_checked(16) else { return };
            let length = counts.iter().position(|count| *count > 0);
            let first = length
                .zip(symbols.first())
                .map(|(length, symbol)| FirstCode { bits: length as u64 + 1, symbol: *symbol });
            let tables = self.first_codes.get_mut(usize::from(class_and_number >> 4));
            if let Some(table) = tables.and_then(|tables| tables.get_mut(usize::from(class_and_number & 15))) {
                *table = first;
            }
            let count = counts.iter().map(|count| usize::from(*count)).sum();
            content = symbols.get(count..).unwrap_or_default();
        }
    }

    /// A scan begins.
    fn scan(&mut self, header: &[u8]) -> JpegState {
        self.end_of_zeros();
        self.scans += 1;
        self.blank = self.blank_in(header);
        JpegState::Scan
    }

    /// What zero bits mean in a scan with this header, if they may be a part of a picture.
    fn blank_in(&self, header: &[u8]) -> Option<Blank> {
        let frame = self.frame.as_ref()?;
        let (count, rest) = header.split_first()?;
        let (selected, rest) = rest.split_at_checked(usize::from(*count) * 2)?;
        let &[from, to, approximation, ..] = rest else { return None };
        // Arithmetic coding has no such runs.
        if frame.code > 0xC7 {
            return None;
        }
        let is_refined = approximation >> 4 > 0;
        let code = |class: usize, number: u8| self.first_codes.get(class)?.get(usize::from(number)).copied().flatten();
        let (mut bits, mut blocks, mut of) = (0, 0, 0);
        for pair in selected.chunks_exact(2) {
            let &[id, tables] = pair else { return None };
            let component = frame.components.iter().find(|component| component.id == id)?;
            let (mut own_bits, mut own_blocks) = (0, 1);
            let is_lossless = matches!(frame.code, 0xC3 | 0xC7);
            if from == 0 && is_refined {
                own_bits = 1;
            } else if from == 0 || is_lossless {
                own_bits = code(0, tables >> 4).filter(|first| first.symbol == 0)?.bits;
            }
            if to > 0 && !is_lossless {
                // The end of this block, or of a power of two of them; its exponent's bits follow.
                let end = code(1, tables & 15).filter(|first| first.symbol & 15 == 0 && first.symbol < 0xF0)?;
                let exponent = u64::from(end.symbol >> 4);
                own_bits += end.bits + exponent;
                own_blocks = 1 << exponent;
            }
            bits += own_bits * component.blocks;
            blocks += own_blocks * component.blocks;
            of += frame.blocks_of(component, is_lossless);
        }
        Some(Blank { bits, blocks, of })
    }

    fn end_of_zeros(&mut self) {
        self.zeros.end();
        self.judge_zeros();
    }

    /// Decides whether runs of zeros that have ended are holes.
    fn judge_zeros(&mut self) {
        for (start, end) in self.zeros.found.drain(..) {
            let bits = (end - start).saturating_mul(8);
            let is_possible = self.blank.is_some_and(|Blank { bits: each, blocks, of }| {
                bits.saturating_mul(blocks) <= of.saturating_mul(each)
                    && !(start.is_multiple_of(BLOCK) && end.is_multiple_of(BLOCK))
            });
            self.has_hole |= !is_possible;
        }
    }

    /// Whether a hole has been met.
    pub const fn has_hole(&self) -> bool {
        self.has_hole
    }

    pub fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        if !matches!(self.state, JpegState::End) {
            flaws.push(Flaw::Truncated("the JPEG has no end mark"));
        } else if self.scans == 0 {
            flaws.push(Flaw::Empty("the JPEG has no picture in it"));
        } else if self.frame.is_none() {
            flaws.push(Flaw::Damaged("the JPEG does not say how large its picture is"));
        }
        if self.has_hole {
            flaws.push(Flaw::Damaged("8 KiB or more of zero bytes are inside the JPEG's coded data"));
        }
        flaws
    }
}

impl Frame {
    fn read(code: u8, content: &[u8]) -> Option<Self> {
        let &[_, a, b, c, d, count, ref rest @ ..] = content else { return None };
        let components = rest.chunks_exact(3).take(usize::from(count)).filter_map(|piece| {
            let &[id, sampling, _] = piece else { return None };
            let (across, down) = (u64::from(sampling >> 4).max(1), u64::from(sampling & 15).max(1));
            Some(Component { id, blocks: across * down, across, down })
        });
        // The height may follow later.
        let height = match u16::from_be_bytes([a, b]) {
            0 => u64::from(u16::MAX),
            height => u64::from(height),
        };
        Some(Self { code, height, width: u64::from(u16::from_be_bytes([c, d])), components: components.collect() })
    }

    /// The blocks of a component, or its samples where they are coded one by one.
    fn blocks_of(&self, component: &Component, is_lossless: bool) -> u64 {
        let size = if is_lossless { 1 } else { 8 };
        let most = |of: fn(&Component) -> u64| self.components.iter().map(of).max().unwrap_or(1);
        let across = self.width.div_ceil(size * most(|component| component.across)) * component.across;
        let down = self.height.div_ceil(size * most(|component| component.down)) * component.down;
        across * down
    }
}
