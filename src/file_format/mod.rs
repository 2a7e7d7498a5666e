//! What a file is by its content, and whether it is whole: the one set of rules for `check`, drops and the sandbox.
//!
//! An interrupted transfer leaves a file that looks finished from outside. Each accepted type is followed part by part,
//! so what devices add behind the end does no harm, and the end mark of a small preview inside a picture does not pass
//! for that of the picture. The measure is what common viewers open. Nothing is decoded: memory is bounded, and a file is
//! read once, with a few places of it a second time.

mod content;
mod file_type;
mod gif;
mod jpeg;
mod pdf;
mod pdf_password;
mod pdf_protection;
mod pdf_value;
mod png;
mod text_mode;
mod tiff;
mod zeros;

use std::io;

use self::{content::ContentReader, gif::GifWalk, jpeg::JpegWalk, pdf::PdfWalk, png::PngWalk, text_mode::TextMode};
pub use self::{
    content::ReadAt,
    file_type::{FileType, HEAD_BYTES, looks_like, may_begin, promises_something_else},
};

/// Something that is wrong inside a file of an accepted type, as a lower-case fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its end is missing.
    Truncated(&'static str),
    /// It has no picture or page.
    Empty(&'static str),
    /// It may open, but something in it is lost.
    Damaged(&'static str),
    /// It opens for some people only.
    Protected(&'static str),
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The type, where it is an accepted one.
    pub file_type: Option<FileType>,
    /// What is wrong with it.
    pub flaws: Vec<Flaw>,
}

/// Follows a file from its first byte, piece by piece.
#[derive(Debug, Default)]
pub struct FormatWalk {
    /// The first bytes, until there are enough to know the type.
    head: Vec<u8>,
    walk: Option<Walk>,
    text_mode: TextMode,
}

#[derive(Debug)]
enum Walk {
    Jpeg(Box<JpegWalk>),
    Png(PngWalk),
    Gif(GifWalk),
    Pdf(Box<PdfWalk>),
    /// Its parts may be anywhere, so they are followed once the file has been read.
    Tiff,
    /// Nothing is known of its structure.
    Other,
}

impl FormatWalk {
    /// The first bytes; all that are needed to say what an unaccepted file looks like.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        let (first, rest) = piece.split_at(wanted);
        self.head.extend_from_slice(first);
        if self.walk.is_none() && self.head.len() >= HEAD_BYTES {
            self.start();
        }
        if self.walk.is_some() {
            self.follow(rest);
        }
    }

    fn start(&mut self) {
        self.walk = Some(match FileType::of(&self.head) {
            Some(FileType::Jpeg) => Walk::Jpeg(Box::default()),
            Some(FileType::Png) => Walk::Png(PngWalk::default()),
            Some(FileType::Gif) => Walk::Gif(GifWalk::default()),
            Some(FileType::Pdf) => Walk::Pdf(Box::new(PdfWalk::new(&self.head))),
            Some(FileType::Tiff) => Walk::Tiff,
            None => Walk::Other,
        });
        let head = std::mem::take(&mut self.head);
        self.follow(&head);
        self.head = head;
    }

    fn follow(&mut self, piece: &[u8]) {
        match &mut self.walk {
            Some(Walk::Jpeg(jpeg)) => jpeg.feed(piece),
            // Its first bytes show a transfer in text mode, and make another type of it.
            Some(Walk::Png(png)) => return png.feed(piece),
            Some(Walk::Gif(gif)) => gif.feed(piece),
            Some(Walk::Pdf(pdf)) => pdf.feed(piece),
            Some(Walk::Tiff) => {}
            Some(Walk::Other) | None => return,
        }
        self.text_mode.feed(piece);
    }

    /// The type by what was fed, without a second look at the file.
    #[must_use]
    pub fn file_type(&mut self) -> Option<FileType> {
        if self.walk.is_none() {
            self.start();
        }
        match &self.walk {
            Some(Walk::Pdf(pdf)) if pdf.is_disguise() => None,
            _ => FileType::of(&self.head),
        }
    }

    /// What came of it, once all of a file of `len` bytes was fed; `read` fills a buffer from a place in it.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn finish(mut self, len: u64, read: ReadAt<'_>) -> io::Result<Inspected> {
        let mut file_type = self.file_type();
        let mut content = ContentReader::new(len, read);
        let mut flaws = match self.walk {
            _ if file_type.is_none() => Vec::new(),
            Some(Walk::Jpeg(jpeg)) => jpeg.flaws(),
            Some(Walk::Png(png)) => png.flaws(),
            Some(Walk::Gif(gif)) => gif.flaws(),
            Some(Walk::Pdf(pdf)) => match pdf.flaws(&mut content)? {
                Some(flaws) => flaws,
                None => {
                    file_type = None;
                    Vec::new()
                }
            },
            Some(Walk::Tiff) => tiff::flaws(&mut content)?.into_iter().collect(),
            Some(Walk::Other) | None => Vec::new(),
        };
        if file_type.is_some() {
            flaws.extend(self.text_mode.flaw());
        }
        Ok(Inspected { file_type, flaws })
    }
}

#[cfg(test)]
pub(crate) use self::file_type::samples;

#[cfg(test)]
mod tests;
