//! Whether everything that a TIFF points to is within it.
//!
//! A TIFF has no end mark: it points to its directories, each directory to the picture's strips or tiles. A truncated
//! file points past its end. Private fields are not checked. Writers are known that declare no length of a strip, or one
//! that is too large; where nothing is compressed, the picture's own measures say how many bytes there must be.

use std::io;

use super::{Flaw, content::ContentReader};

/// At most this many directories are followed; a scan has one per page.
const MAX_DIRECTORIES: usize = 10_000;

/// Entries of one directory; the format allows more in its large form, and no program writes them.
const MAX_ENTRIES: u64 = 4096;

/// The most fields, strips and tiles that are checked in all: directories of a hostile file may share large ones.
const MAX_CHECKED: u64 = 1 << 21;

/// How many numbers of a list are read at once.
const AT_ONCE: u64 = 512;

const CUT: Flaw = Flaw::Truncated("the TIFF points past its end");

/// What is wrong with a TIFF, if anything.
///
/// # Errors
///
/// Those of reading it.
pub(super) fn flaws(content: &mut ContentReader<'_>) -> io::Result<Option<Flaw>> {
    let mut tiff = Tiff { content, little: true, big: false, has_picture: false, left: MAX_CHECKED };
    let Some(mut at) = tiff.first_directory()? else { return Ok(Some(CUT)) };
    for _ in 0..MAX_DIRECTORIES {
        if at == 0 || tiff.left == 0 {
            break;
        }
        match tiff.directory(at)? {
            Some(next) => at = next,
            None => return Ok(Some(CUT)),
        }
    }
    // More than anybody scans, or directories that form a cycle: no sign of a truncation.
    Ok((!tiff.has_picture).then_some(Flaw::Empty("the TIFF has no picture in it")))
}

struct Tiff<'a, 'b> {
    content: &'a mut ContentReader<'b>,
    little: bool,
    big: bool,
    has_picture: bool,
    /// How much may still be checked.
    left: u64,
}

/// A list of numbers in the file.
#[derive(Clone, Copy)]
struct NumberList {
    at: u64,
    count: u64,
    width: u64,
}

/// What a directory says of its picture. Absent numbers are zero.
#[derive(Default)]
struct Picture {
    width: u64,
    height: u64,
    bits: Option<NumberList>,
    compression: u64,
    samples: u64,
    rows_per_strip: u64,
    is_planar: bool,
    tile_width: u64,
    tile_height: u64,
    offsets: Option<NumberList>,
    sizes: Option<NumberList>,
    /// The old form of a JPEG inside.
    jpeg: Option<NumberList>,
    jpeg_size: Option<NumberList>,
    has_more_directories: bool,
}

impl Tiff<'_, '_> {
    fn first_directory(&mut self) -> io::Result<Option<u64>> {
        let mut head = [0; 8];
        if !self.content.fill(&mut head, 0)? {
            return Ok(None);
        }
        self.little = head[0] == b'I';
        self.big = head[2] == b'+' || head[3] == b'+';
        let at = if self.big { self.number(8, 8)? } else { self.number(4, 4)? };
        Ok(at.filter(|at| *at >= 8))
    }

    /// Reads one directory; `None` where something of it is past the end, else the offset of the next.
    fn directory(&mut self, at: u64) -> io::Result<Option<u64>> {
        let (count_size, entry_size, offset_size) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let Some(count) = self.number(at, count_size)? else { return Ok(None) };
        let entries = at.saturating_add(count_size);
        let end = entries.saturating_add(count.saturating_mul(entry_size));
        if end > self.content.len {
            return Ok(None);
        }
        let mut picture = Picture::default();
        let count = self.allowed(count.min(MAX_ENTRIES));
        for index in 0..count {
            let entry = entries + index * entry_size;
            let Some(tag) = self.number(entry, 2)? else { return Ok(None) };
            let Some(kind) = self.number(entry + 2, 2)? else { return Ok(None) };
            let Some(count) = self.number(entry + 4, offset_size)? else { return Ok(None) };
            let Some(width) = width(kind) else { continue };
            let value = entry + 4 + offset_size;
            let bytes = count.saturating_mul(width);
            let place = if bytes <= offset_size { Some(value) } else { self.number(value, offset_size)? };
            let Some(place) = place else { return Ok(None) };
            if is_standard(tag) && place.saturating_add(bytes) > self.content.len {
                return Ok(None);
            }
            let list = NumberList { at: place, count, width };
            let Some(first) = self.number(place, if count == 0 { 0 } else { width })? else { continue };
            match tag {
                256 => picture.width = first,
                257 => picture.height = first,
                258 => picture.bits = Some(list),
                259 => picture.compression = first,
                273 | 324 => picture.offsets = Some(list),
                277 => picture.samples = first,
                278 => picture.rows_per_strip = first,
                279 | 325 => picture.sizes = Some(list),
                284 => picture.is_planar = first == 2,
                322 => picture.tile_width = first,
                323 => picture.tile_height = first,
                330 => picture.has_more_directories = true,
                513 => picture.jpeg = Some(list),
                514 => picture.jpeg_size = Some(list),
                _ => {}
            }
        }
        if !self.is_there(&picture)? {
            return Ok(None);
        }
        self.number(end, offset_size)
    }

    /// Whether all parts of a picture are within the file.
    fn is_there(&mut self, picture: &Picture) -> io::Result<bool> {
        let parts = picture.offsets.filter(|offsets| offsets.count > 0);
        self.has_picture |= parts.is_some() || picture.jpeg.is_some() || picture.has_more_directories;
        let needed = match picture.compression {
            0 | 1 => self.layout(picture)?,
            _ => None,
        };
        if let Some(offsets) = parts
            && !self.parts_are_there(offsets, picture.sizes, needed)?
        {
            return Ok(false);
        }
        match picture.jpeg {
            // Where the strips of such a JPEG are all there, its other fields do not matter to viewers.
            Some(jpeg) if parts.is_none() => self.parts_are_there(jpeg, picture.jpeg_size, None),
            _ => Ok(true),
        }
    }

    /// How many bytes the parts of an uncompressed picture have, where its measures make sense.
    fn layout(&mut self, picture: &Picture) -> io::Result<Option<Layout>> {
        let samples = picture.samples.max(1);
        let mut bits = match picture.bits {
            None => samples,
            Some(list) => {
                let Some(each) = self.numbers(list, 0, list.count.min(samples).min(AT_ONCE))? else { return Ok(None) };
                match each.as_slice() {
                    [one] => one.saturating_mul(samples),
                    several => several.iter().sum(),
                }
            }
        };
        if picture.is_planar {
            bits /= samples;
        }
        let row_of = |width: u64| width.saturating_mul(bits).div_ceil(8);
        let layout = if picture.tile_width > 0 {
            Layout { rows: u64::MAX, row: row_of(picture.tile_width), rows_of_part: picture.tile_height, parts: 1 }
        } else {
            let rows_of_part = match picture.rows_per_strip {
                0 => picture.height,
                rows => rows.min(picture.height),
            };
            let parts = if rows_of_part == 0 { 0 } else { picture.height.div_ceil(rows_of_part) };
            Layout { rows: picture.height, row: row_of(picture.width), rows_of_part, parts }
        };
        Ok(Some(layout).filter(|layout| layout.row > 0 && layout.rows_of_part > 0))
    }

    fn parts_are_there(
        &mut self,
        offsets: NumberList,
        sizes: Option<NumberList>,
        layout: Option<Layout>,
    ) -> io::Result<bool> {
        let count = self.allowed(offsets.count);
        let mut done = 0;
        while done < count {
            let now = AT_ONCE.min(count - done);
            let Some(starts) = self.numbers(offsets, done, now)? else { return Ok(false) };
            let lengths = match sizes {
                Some(sizes) => self.numbers(sizes, done, now.min(sizes.count.saturating_sub(done)))?,
                None => Some(Vec::new()),
            };
            let Some(lengths) = lengths else { return Ok(false) };
            let lengths = lengths.into_iter().chain(std::iter::repeat(0));
            for (index, (start, declared)) in (done..).zip(starts.into_iter().zip(lengths)) {
                let is_within = |length: u64| start.saturating_add(length) <= self.content.len;
                let is_there = match layout.map(|layout| layout.bytes_of(index)) {
                    Some(needed) if declared == 0 || declared >= needed => is_within(needed),
                    _ => is_within(declared),
                };
                // A part without place and length was left out on purpose.
                if !is_there && (start, declared) != (0, 0) {
                    return Ok(false);
                }
            }
            done += now;
        }
        Ok(true)
    }

    fn allowed(&mut self, wanted: u64) -> u64 {
        let count = wanted.min(self.left);
        self.left -= count;
        count
    }

    fn numbers(&mut self, list: NumberList, from: u64, count: u64) -> io::Result<Option<Vec<u64>>> {
        let size = usize::try_from(count * list.width).unwrap_or(0);
        let mut bytes = vec![0; size];
        if !self.content.fill(&mut bytes, list.at.saturating_add(from * list.width))? {
            return Ok(None);
        }
        let width = usize::try_from(list.width).unwrap_or(1);
        Ok(Some(bytes.chunks_exact(width).map(|piece| self.number_of(piece)).collect()))
    }

    fn number(&mut self, at: u64, width: u64) -> io::Result<Option<u64>> {
        let mut bytes = [0; 8];
        let Some(bytes) = bytes.get_mut(..usize::try_from(width).unwrap_or(0)) else { return Ok(None) };
        Ok(self.content.fill(bytes, at)?.then(|| self.number_of(bytes)))
    }

    fn number_of(&self, bytes: &[u8]) -> u64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }
}

/// How an uncompressed picture is divided.
#[derive(Clone, Copy)]
struct Layout {
    rows: u64,
    /// Bytes of a row.
    row: u64,
    rows_of_part: u64,
    /// The parts of a plane.
    parts: u64,
}

impl Layout {
    /// The last strip of a plane may have fewer rows.
    fn bytes_of(&self, index: u64) -> u64 {
        let before = index.checked_rem(self.parts).unwrap_or(0).saturating_mul(self.rows_of_part);
        self.row.saturating_mul(self.rows_of_part.min(self.rows.saturating_sub(before)))
    }
}

/// The size of one value of a field's type, where that is known.
const fn width(kind: u64) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => return None,
    })
}

/// Fields with a public meaning: what they point to belongs to the picture.
const fn is_standard(tag: u64) -> bool {
    tag < 32_768 || matches!(tag, 33_432 | 34_665 | 34_675)
}
