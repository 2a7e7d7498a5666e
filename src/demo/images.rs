//! Little images of all five types that the API accepts (guide: GIF, JPG, PNG, PDF, and TIFF), valid in every viewer.
//!
//! Written by hand, so that the program carries no image library for them. Nothing here is meant for images of any
//! other size: they are all [`WIDTH`] by [`HEIGHT`] pixels, and show a card with a photo on it.

/// The width of every image, in pixels; a multiple of 8, because a JPEG is made of such blocks.
pub const WIDTH: u32 = 64;

/// The height of every image, in pixels; a multiple of 8 too.
pub const HEIGHT: u32 = 40;

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

const PAPER: Colour = [0xF4, 0xF0, 0xE4];
const INK: Colour = [0x30, 0x34, 0x40];

/// What part of the card a pixel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Paper,
    Band,
    Ink,
}

impl Part {
    const fn at(x: u32, y: u32) -> Self {
        match (x, y) {
            (0 | 63, _) | (_, 0 | 39) => Self::Ink,
            (_, 1..=8) => Self::Band,
            // A head and shoulders.
            (10..=17, 14..=21) | (7..=20, 25..=34) => Self::Ink,
            // Lines of writing.
            (28..=56, 15 | 16 | 21 | 22) | (28..=46, 27 | 28) => Self::Ink,
            _ => Self::Paper,
        }
    }

    const fn colour(self, band: Colour) -> Colour {
        match self {
            Self::Paper => PAPER,
            Self::Band => band,
            Self::Ink => INK,
        }
    }
}

fn parts() -> impl Iterator<Item = Part> {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| Part::at(x, y)))
}

/// A PNG of 8 bits a channel, with the band in this colour.
#[must_use]
pub fn png(band: Colour) -> Vec<u8> {
    let mut rows = Vec::new();
    for (at, part) in parts().enumerate() {
        if at % WIDTH as usize == 0 {
            // Each row begins with its filter: none.
            rows.push(0);
        }
        rows.extend(part.colour(band));
    }
    let mut header = [WIDTH.to_be_bytes(), HEIGHT.to_be_bytes()].concat();
    // 8 bits, RGB, the only compression, the only filter method, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1A\n".to_vec();
    for (name, data) in [(b"IHDR", header), (b"IDAT", zlib(&rows)), (b"IEND", Vec::new())] {
        let named = [&name[..], &data].concat();
        file.extend(u32_of(data.len()).to_be_bytes());
        file.extend(&named);
        file.extend(crc32(&named).to_be_bytes());
    }
    file
}

/// A zlib stream of stored blocks: nothing is compressed, so nothing need be.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let (mut low, mut high) = (1_u32, 0_u32);
    for byte in data {
        low = (low + u32::from(*byte)) % 65_521;
        high = (high + low) % 65_521;
    }
    stream.extend((high << 16 | low).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in data {
        rest ^= u32::from(*byte);
        for _ in 0..8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0xEDB8_8320 } else { rest >> 1 };
        }
    }
    !rest
}

/// A GIF 89a of three colours.
#[must_use]
pub fn gif(band: Colour) -> Vec<u8> {
    let mut file = b"GIF89a".to_vec();
    file.extend(size_le());
    // A global table of 128 colours, the first of which is the background.
    file.extend([0xF6, 0, 0]);
    for colour in [PAPER, band, INK] {
        file.extend(colour);
    }
    file.extend([0; 3 * 125]);
    file.extend([b',', 0, 0, 0, 0]);
    file.extend(size_le());
    // No table of its own, not interlaced; codes of 7 bits and one more for what is learnt.
    file.extend([0, 7]);
    const CLEAR: u8 = 128;
    const END: u8 = 129;
    // Codes grow to 9 bits once 126 have been learnt. Clearing what is learnt before that keeps each code one byte.
    let pixels: Vec<u8> = parts().map(|part| part as u8).collect();
    let mut codes = Vec::new();
    for run in pixels.chunks(100) {
        codes.push(CLEAR);
        codes.extend(run);
    }
    codes.push(END);
    for block in codes.chunks(255) {
        file.push(u8::try_from(block.len()).unwrap_or(u8::MAX));
        file.extend(block);
    }
    file.extend([0, b';']);
    file
}

fn size_le() -> Vec<u8> {
    [WIDTH, HEIGHT].into_iter().flat_map(|side| u16::try_from(side).unwrap_or_default().to_le_bytes()).collect()
}

/// A baseline JPEG in greys, of blocks of 8 by 8 pixels that are of one grey each; `seed` varies them.
#[must_use]
pub fn jpeg(seed: u8) -> Vec<u8> {
    let mut file = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec();
    // One table of quantisation: 8 everywhere, so that a block's first coefficient is its grey less 128.
    file.extend([0xFF, 0xDB, 0, 67, 0]);
    file.extend([8; 64]);
    file.extend([0xFF, 0xC0, 0, 11, 8]);
    file.extend([HEIGHT, WIDTH].into_iter().flat_map(|side| u16::try_from(side).unwrap_or_default().to_be_bytes()));
    file.extend([1, 1, 0x11, 0]);
    // The standard table for first coefficients.
    file.extend([0xFF, 0xC4, 0, 31, 0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(0..12);
    // Of the others only "there are none" is ever said, so its code is the only one.
    file.extend([0xFF, 0xC4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([0xFF, 0xDA, 0, 8, 1, 1, 0x00, 0, 63, 0]);
    let mut bits = Bits::default();
    let mut last = 0_i32;
    for row in 0..HEIGHT / 8 {
        for column in 0..WIDTH / 8 {
            let face = (2..6).contains(&column) && row > 0;
            let shade = (row * 13 + column * 7 + u32::from(seed) * 5) % 32;
            let grey = if face { 190 - shade } else { 70 + shade };
            let value = i32::try_from(grey).unwrap_or_default() - 128;
            bits.first_coefficient(value - last);
            bits.push(0, 1);
            last = value;
        }
    }
    file.extend(bits.end());
    file.extend([0xFF, 0xD9]);
    file
}

/// The bits of a JPEG's scan, the highest first.
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, bits: u32) {
        for at in (0..bits).rev() {
            self.pending = self.pending << 1 | (value >> at & 1);
            self.count += 1;
            if self.count == 8 {
                let byte = u8::try_from(self.pending).unwrap_or_default();
                self.bytes.push(byte);
                if byte == 0xFF {
                    // Else it would look like a marker.
                    self.bytes.push(0);
                }
                (self.pending, self.count) = (0, 0);
            }
        }
    }

    /// The difference to the block before: how many bits it has, in the standard table's code, then those bits.
    fn first_coefficient(&mut self, difference: i32) {
        let size = i32::BITS - difference.unsigned_abs().leading_zeros();
        let (code, length) = match size {
            0 => (0b00, 2),
            1..=5 => (size + 1, 3),
            // 1110, 11110, and so on.
            6.. => ((1 << (size - 2)) - 2, size - 2),
        };
        self.push(code, length);
        let bits = if difference < 0 { difference - 1 } else { difference };
        self.push(bits.cast_unsigned() & ((1 << size) - 1), size);
    }

    fn end(mut self) -> Vec<u8> {
        while self.count != 0 {
            self.push(1, 1);
        }
        self.bytes
    }
}

/// A TIFF in little-endian order, not compressed, with the band in this colour.
#[must_use]
pub fn tiff(band: Colour) -> Vec<u8> {
    const FIELDS: u16 = 12;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const FRACTION: u16 = 5;
    // The header, the directory, what did not fit into it, the pixels.
    let beyond = 8 + 2 + 12 * u32::from(FIELDS) + 4;
    let pixels_at = beyond + 6 + 8;
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend(FIELDS.to_le_bytes());
    for (tag, kind, count, value) in [
        (256_u16, LONG, 1_u32, WIDTH),
        (257, LONG, 1, HEIGHT),
        (258, SHORT, 3, beyond),
        (259, SHORT, 1, 1),
        (262, SHORT, 1, 2),
        (273, LONG, 1, pixels_at),
        (277, SHORT, 1, 3),
        (278, LONG, 1, HEIGHT),
        (279, LONG, 1, WIDTH * HEIGHT * 3),
        (282, FRACTION, 1, beyond + 6),
        (283, FRACTION, 1, beyond + 6),
        (296, SHORT, 1, 2),
    ] {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    // 8 bits for each of three colours; 72 pixels an inch.
    file.extend([8, 0, 8, 0, 8, 0, 72, 0, 0, 0, 1, 0, 0, 0]);
    file.extend(parts().flat_map(|part| part.colour(band)));
    file
}

/// A PDF of one page that says one line; letters, digits and spaces only.
#[must_use]
pub fn pdf(line: &str) -> Vec<u8> {
    let line: String = line.chars().filter(|char| char.is_ascii_alphanumeric() || *char == ' ').collect();
    let drawing = format!("BT /F1 24 Tf 60 720 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{drawing}\nendstream", drawing.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = String::from("%PDF-1.4\n");
    let mut index = String::from("0000000000 65535 f \n");
    for (at, object) in objects.iter().enumerate() {
        index.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", at + 1));
    }
    let (index_at, size) = (file.len(), objects.len() + 1);
    file.push_str(&format!(
        "xref\n0 {size}\n{index}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{index_at}\n%%EOF\n"
    ));
    file.into_bytes()
}

fn u32_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::inbox::{file_type::FileType, whole::Walk};

    const BLUE: Colour = [0x20, 0x50, 0xA0];

    #[test]
    fn each_is_taken_for_what_it_is_and_for_whole() {
        for (image, file_type) in [
            (png(BLUE), FileType::Png),
            (gif(BLUE), FileType::Gif),
            (jpeg(1), FileType::Jpeg),
            (tiff(BLUE), FileType::Tiff),
            (pdf("A line"), FileType::Pdf),
        ] {
            assert_eq!(FileType::of(&image), Some(file_type));
            let mut walk = Walk::new(Some(file_type));
            walk.feed(&image);
            let mut read =
                |buffer: &mut [u8], at: u64| io::Read::read(&mut &image[usize::try_from(at).unwrap()..], buffer);
            assert_eq!(walk.missing(image.len() as u64, &mut read).unwrap(), None, "{file_type:?}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b"IEND"), 0xAE42_6082);
        assert_eq!(zlib(b"Wikipedia")[16..], 0x11E6_0398_u32.to_be_bytes());
    }

    #[test]
    fn coefficients_have_the_codes_of_the_standard_table() {
        for (difference, bits, length) in [(0, 0b00, 2), (-1, 0b0100, 4), (3, 0b01111, 5), (-62, 0b11_1000_0001, 10)] {
            let (mut coded, mut expected) = (Bits::default(), Bits::default());
            coded.first_coefficient(difference);
            expected.push(bits, length);
            assert_eq!(coded.end(), expected.end(), "{difference}");
        }
    }

    #[test]
    fn a_byte_that_looks_like_a_marker_is_followed_by_zero() {
        let mut bits = Bits::default();
        bits.push(0x1FF, 9);
        assert_eq!(bits.end(), [0xFF, 0, 0xFF, 0]);
    }

    #[test]
    fn the_tiff_ends_where_its_pixels_do() {
        let image = tiff(BLUE);
        assert_eq!(image.len(), 8 + 2 + 12 * 12 + 4 + 14 + 64 * 40 * 3);
        assert_eq!(image[image.len() - 3..], INK);
    }

    #[test]
    fn every_object_of_the_pdf_is_where_its_index_says() {
        let file = pdf("It's (odd) ");
        let text = std::str::from_utf8(&file).unwrap();
        for (number, line) in text.lines().skip_while(|line| *line != "xref").skip(3).take(5).enumerate() {
            let at: usize = line.split(' ').next().unwrap().parse().unwrap();
            assert!(file[at..].starts_with(format!("{} 0 obj\n", number + 1).as_bytes()), "{line}");
        }
        let at: usize = text.lines().rev().nth(1).unwrap().parse().unwrap();
        assert!(file[at..].starts_with(b"xref\n0 6\n"));
        assert!(text.contains("(Its odd ) Tj"));
    }
}
