//! Whether everything that a TIFF points to is within it.
//!
//! A TIFF has no end mark: it points to its directories, each directory to the picture's strips or tiles. A truncated
//! file points past its end. Private fields are not checked.

use std::io;

/// At most this many directories are followed; a scan has one per page.
const MAX_DIRECTORIES: usize = 10_000;

/// Entries of one directory; the format allows more in its large form, and no program writes them.
const MAX_ENTRIES: u64 = 4096;

/// The most strips or tiles of one picture that are checked.
const MAX_PARTS: u64 = 1 << 20;

/// How many numbers of a list are read at once.
const AT_ONCE: u64 = 512;

const CUT: &str = "the TIFF points past its end";

type ReadAt<'a> = &'a mut dyn FnMut(&mut [u8], u64) -> io::Result<usize>;

/// What a TIFF of `len` bytes points to beyond its end, if anything. `read` fills a buffer from a place in the file.
///
/// # Errors
///
/// Those of `read`.
pub(super) fn missing(len: u64, read: ReadAt<'_>) -> io::Result<Option<&'static str>> {
    let mut tiff = Tiff { len, read, little: true, big: false };
    let Some(mut at) = tiff.first_directory()? else { return Ok(Some(CUT)) };
    for _ in 0..MAX_DIRECTORIES {
        if at == 0 {
            return Ok(None);
        }
        match tiff.directory(at)? {
            Some(next) => at = next,
            None => return Ok(Some(CUT)),
        }
    }
    // More directories than anybody scans, or they form a cycle: no sign of a truncation.
    Ok(None)
}

struct Tiff<'a> {
    len: u64,
    read: ReadAt<'a>,
    little: bool,
    big: bool,
}

/// A list of numbers in the file.
#[derive(Clone, Copy)]
struct NumberList {
    at: u64,
    count: u64,
    width: u64,
}

impl Tiff<'_> {
    fn first_directory(&mut self) -> io::Result<Option<u64>> {
        let Some(head) = self.bytes::<8>(0)? else { return Ok(None) };
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
        if end > self.len {
            return Ok(None);
        }
        let (mut offsets, mut sizes) = (None, None);
        for index in 0..count.min(MAX_ENTRIES) {
            let entry = entries + index * entry_size;
            let Some(tag) = self.number(entry, 2)? else { return Ok(None) };
            let Some(kind) = self.number(entry + 2, 2)? else { return Ok(None) };
            let Some(count) = self.number(entry + 4, offset_size)? else { return Ok(None) };
            let Some(width) = width(kind) else { continue };
            let value = entry + 4 + offset_size;
            let bytes = count.saturating_mul(width);
            let place = if bytes <= offset_size { Some(value) } else { self.number(value, offset_size)? };
            let Some(place) = place else { return Ok(None) };
            if is_standard(tag) && place.saturating_add(bytes) > self.len {
                return Ok(None);
            }
            let list = NumberList { at: place, count, width };
            match tag {
                // Strips, tiles, and the old form of a JPEG inside.
                273 | 324 | 513 => offsets = Some(list),
                279 | 325 | 514 => sizes = Some(list),
                _ => {}
            }
        }
        if let Some(offsets) = offsets
            && !self.parts_are_there(offsets, sizes)?
        {
            return Ok(None);
        }
        self.number(end, offset_size)
    }

    fn parts_are_there(&mut self, offsets: NumberList, sizes: Option<NumberList>) -> io::Result<bool> {
        let count = offsets.count.min(MAX_PARTS);
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
            if starts.into_iter().zip(lengths).any(|(start, length)| start.saturating_add(length) > self.len) {
                return Ok(false);
            }
            done += now;
        }
        Ok(true)
    }

    fn numbers(&mut self, list: NumberList, from: u64, count: u64) -> io::Result<Option<Vec<u64>>> {
        let size = usize::try_from(count * list.width).unwrap_or(0);
        let mut bytes = vec![0; size];
        if !self.fill(&mut bytes, list.at.saturating_add(from * list.width))? {
            return Ok(None);
        }
        let width = usize::try_from(list.width).unwrap_or(1);
        Ok(Some(bytes.chunks_exact(width).map(|piece| self.number_of(piece)).collect()))
    }

    fn number(&mut self, at: u64, width: u64) -> io::Result<Option<u64>> {
        let mut bytes = [0; 8];
        let Some(bytes) = bytes.get_mut(..usize::try_from(width).unwrap_or(0)) else { return Ok(None) };
        Ok(self.fill(bytes, at)?.then(|| self.number_of(bytes)))
    }

    fn number_of(&self, bytes: &[u8]) -> u64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }

    fn bytes<const N: usize>(&mut self, at: u64) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        Ok(self.fill(&mut bytes, at)?.then_some(bytes))
    }

    /// Whether all of it could be filled.
    fn fill(&mut self, bytes: &mut [u8], at: u64) -> io::Result<bool> {
        if at.saturating_add(bytes.len() as u64) > self.len {
            return Ok(false);
        }
        Ok((self.read)(bytes, at)? == bytes.len())
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
