//! Whether a file is complete, by its structure, checked while it is read.
//!
//! An interrupted transfer leaves a file that looks finished from outside. Each accepted type has an end that can be
//! found by following its parts, so what cameras and scanners add after that end does no harm, and the end mark of a
//! small preview inside a picture does not pass for that of the picture. Nothing is decoded.

use std::io;

use memchr::{memchr, memmem};

use super::file_type::FileType;

/// Follows a file from its first byte, piece by piece.
#[derive(Debug)]
pub struct StructureWalk(Kind);

#[derive(Debug)]
enum Kind {
    Jpeg(Jpeg),
    Png(Png),
    Gif(Gif),
    Pdf(Pdf),
    /// Its parts may be anywhere, so they are followed once the file has been read: see [`tiff`](super::tiff).
    Tiff,
    /// Nothing is known of its structure.
    Other,
}

impl StructureWalk {
    /// Begins with a file of this type.
    #[must_use]
    pub fn new(file_type: Option<FileType>) -> Self {
        Self(match file_type {
            Some(FileType::Jpeg) => Kind::Jpeg(Jpeg::Skip { left: 2, then_scan: false }),
            Some(FileType::Png) => Kind::Png(Png::Skip { left: 8, last: false }),
            Some(FileType::Gif) => Kind::Gif(Gif::default()),
            Some(FileType::Pdf) => Kind::Pdf(Pdf::default()),
            Some(FileType::Tiff) => Kind::Tiff,
            None => Kind::Other,
        })
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Kind::Jpeg(jpeg) => jpeg.feed(piece),
            Kind::Png(png) => png.feed(piece),
            Kind::Gif(gif) => gif.feed(piece),
            Kind::Pdf(pdf) => pdf.feed(piece),
            Kind::Tiff | Kind::Other => {}
        }
    }

    /// What is missing, once all of a file of `len` bytes was fed; for TIFF, `read` fills a buffer from a place in it.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn missing(
        &self,
        len: u64,
        read: &mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<Option<&'static str>> {
        let (ended, why) = match &self.0 {
            Kind::Jpeg(jpeg) => (matches!(jpeg, Jpeg::End), "the JPEG has no end mark"),
            Kind::Png(png) => (matches!(png, Png::End), "the PNG has no end chunk"),
            Kind::Gif(gif) => (gif.ended(), "the GIF has no end mark"),
            Kind::Pdf(pdf) => return Ok(pdf.missing(len)),
            Kind::Tiff => return super::tiff::missing(len, read),
            Kind::Other => (true, ""),
        };
        Ok((!ended).then_some(why))
    }
}

/// A JPEG is markers with segments, and after a start of scan coded data up to the next marker.
#[derive(Debug)]
enum Jpeg {
    Skip {
        left: usize,
        then_scan: bool,
    },
    /// The next byte begins a marker.
    Between,
    /// After the 0xFF of a marker.
    Marker {
        in_scan: bool,
    },
    /// In the length of a segment.
    Length {
        scan: bool,
        high: Option<u8>,
    },
    Scan,
    End,
}

impl Jpeg {
    fn feed(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            let used = match self {
                Self::End => return,
                Self::Skip { left, then_scan } => {
                    let now = (*left).min(piece.len());
                    *left -= now;
                    if *left == 0 {
                        *self = if *then_scan { Self::Scan } else { Self::Between };
                    }
                    now
                }
                Self::Between | Self::Scan => {
                    let in_scan = matches!(self, Self::Scan);
                    match memchr(0xFF, piece) {
                        None => return,
                        Some(at) => {
                            *self = Self::Marker { in_scan };
                            at + 1
                        }
                    }
                }
                Self::Marker { in_scan } => {
                    let in_scan = *in_scan;
                    *self = match byte {
                        // Any number of fill bytes may precede a marker.
                        0xFF => Self::Marker { in_scan },
                        0xD9 => Self::End,
                        // A stuffed byte, a restart, or one of the markers that have no segment.
                        0x00 | 0x01 | 0xD0..=0xD8 if in_scan => Self::Scan,
                        0x00 | 0x01 | 0xD0..=0xD8 => Self::Between,
                        code => Self::Length { scan: code == 0xDA, high: None },
                    };
                    1
                }
                Self::Length { scan, high: None } => {
                    *self = Self::Length { scan: *scan, high: Some(byte) };
                    1
                }
                Self::Length { scan, high: Some(high) } => {
                    let left = usize::from(u16::from_be_bytes([*high, byte])).saturating_sub(2);
                    let then_scan = *scan;
                    *self = match (left, then_scan) {
                        (0, true) => Self::Scan,
                        (0, false) => Self::Between,
                        _ => Self::Skip { left, then_scan },
                    };
                    1
                }
            };
            piece = if used == 1 { rest } else { piece.get(used..).unwrap_or_default() };
        }
    }
}

/// A PNG is chunks: length, name, content, check.
#[derive(Debug)]
enum Png {
    Skip { left: u64, last: bool },
    Head { bytes: [u8; 8], filled: usize },
    End,
}

impl Png {
    fn feed(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            match self {
                Self::End => return,
                Self::Skip { left, last } => {
                    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                    *left -= now as u64;
                    if *left == 0 {
                        *self = if *last { Self::End } else { Self::Head { bytes: [0; 8], filled: 0 } };
                    }
                    piece = piece.get(now..).unwrap_or_default();
                }
                Self::Head { bytes, filled } => {
                    if let Some(place) = bytes.get_mut(*filled) {
                        *place = byte;
                    }
                    *filled += 1;
                    if *filled == 8 {
                        let [a, b, c, d, name @ ..] = *bytes;
                        let left = u64::from(u32::from_be_bytes([a, b, c, d])) + 4;
                        *self = Self::Skip { left, last: &name == b"IEND" };
                    }
                    piece = rest;
                }
            }
        }
    }
}

/// A GIF is a head, perhaps with a table of colours, then blocks that are divided into small ones.
#[derive(Debug, Default)]
struct Gif {
    at: GifAt,
    /// The last byte that is not zero, for a file whose blocks make no sense.
    last: u8,
}

#[derive(Debug, Default, Clone, Copy)]
enum GifAt {
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

impl Gif {
    fn ended(&self) -> bool {
        match self.at {
            GifAt::End => true,
            GifAt::Lost => self.last == 0x3B,
            _ => false,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((&byte, more)) = rest.split_first() {
            let mut used = 1;
            self.at = match self.at {
                GifAt::End => return,
                GifAt::Lost => {
                    if let Some(last) = rest.iter().rev().find(|byte| **byte != 0) {
                        self.last = *last;
                    }
                    return;
                }
                // Six bytes of signature and seven of the screen, whose fifth has the flags.
                GifAt::Start => GifAt::Head { left: 12, flags_at: 3, image: false },
                GifAt::Head { left, flags_at, image } => {
                    let table = if left == flags_at && byte & 0x80 != 0 { 3 << ((byte & 7) + 1) } else { 0 };
                    match (left, table) {
                        // What is between the flags and the end of the header is skipped with the table.
                        (_, table) if table > 0 => GifAt::Table { left: table + left - 1, image },
                        (1, _) => GifAt::after_table(image),
                        _ => GifAt::Head { left: left - 1, flags_at, image },
                    }
                }
                GifAt::Table { left, image } => {
                    used = left.min(rest.len());
                    if used == left { GifAt::after_table(image) } else { GifAt::Table { left: left - used, image } }
                }
                GifAt::Block => match byte {
                    0x3B => GifAt::End,
                    0x21 => GifAt::Skip { left: 1 },
                    0x2C => GifAt::Head { left: 9, flags_at: 1, image: true },
                    0x00 => GifAt::Block,
                    _ => {
                        self.last = byte;
                        GifAt::Lost
                    }
                },
                GifAt::Skip { left } => {
                    used = left.min(rest.len());
                    if used == left { GifAt::SubBlock } else { GifAt::Skip { left: left - used } }
                }
                GifAt::SubBlock if byte == 0 => GifAt::Block,
                GifAt::SubBlock => GifAt::Skip { left: usize::from(byte) },
            };
            rest = if used == 1 { more } else { rest.get(used..).unwrap_or_default() };
        }
    }
}

impl GifAt {
    const fn after_table(image: bool) -> Self {
        // An image begins with one byte about its coding.
        if image { Self::Skip { left: 1 } } else { Self::Block }
    }
}

/// A PDF ends with a mark; each later addition brings objects and a mark of its own.
#[derive(Debug, Default)]
struct Pdf {
    /// The last bytes, since a match may span two pieces.
    carried: Vec<u8>,
    ended: bool,
    head: Vec<u8>,
}

const PDF_END: &[u8] = b"%%EOF";
const PDF_OBJECT: &[u8] = b" obj";

impl Pdf {
    fn feed(&mut self, piece: &[u8]) {
        if self.head.len() < 2048 {
            self.head.extend(piece.iter().take(2048 - self.head.len()));
        }
        let keep = PDF_END.len() - 1;
        let mut edge = std::mem::take(&mut self.carried);
        edge.extend(piece.iter().take(keep));
        self.look(&edge);
        self.look(piece);
        self.carried = match piece.len().checked_sub(keep) {
            Some(from) => piece.get(from..).unwrap_or_default().to_vec(),
            None => edge.get(edge.len().saturating_sub(keep)..).unwrap_or_default().to_vec(),
        };
    }

    fn look(&mut self, within: &[u8]) {
        let end = memmem::rfind(within, PDF_END);
        let object = memmem::rfind(within, PDF_OBJECT);
        if end.is_some() || object.is_some() {
            self.ended = end > object;
        }
    }

    fn missing(&self, len: u64) -> Option<&'static str> {
        if !self.ended {
            return Some("the PDF has no end mark");
        }
        // A file that is made for reading from a network says its length at its beginning.
        self.declared_length()
            .is_some_and(|declared| declared > len)
            .then_some("the PDF is shorter than it says itself")
    }

    fn declared_length(&self) -> Option<u64> {
        let from = memmem::find(&self.head, b"/Linearized")?;
        let dictionary = self.head.get(from..)?;
        let dictionary = dictionary.get(..memmem::find(dictionary, b">>")?)?;
        let value = dictionary.get(memmem::find(dictionary, b"/L ")? + 3..)?;
        let digits: Vec<u8> = value.iter().copied().take_while(u8::is_ascii_digit).collect();
        std::str::from_utf8(&digits).ok()?.parse().ok()
    }
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
