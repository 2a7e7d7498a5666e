//! Detects the type of a file by its first bytes, and describes an unaccepted one.

use memchr::memmem;

/// How many of a file's first bytes the functions here need; a PDF may begin as late as there.
pub const HEAD_BYTES: usize = 1024 + 8;

/// What the API accepts (guide: GIF, JPG, PNG, PDF, and TIFF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// GIF 87a or 89a.
    Gif,
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// PDF.
    Pdf,
    /// TIFF in either byte order, and BigTIFF.
    Tiff,
}

impl FileType {
    /// For people, in lists of what is accepted.
    pub const ACCEPTED: &'static str = "GIF, JPEG, PNG, PDF, and TIFF";

    /// The type that a file's first bytes show; a text before the beginning of a PDF may still be all there is.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            // Canon's raw pictures call themselves TIFF, but no viewer for TIFF shows them.
            [b'I', b'I', b'*', 0, _, _, _, _, b'C', b'R', ..] => None,
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Some(Self::Tiff),
            _ => pdf_begins(head).map(|_| Self::Pdf),
        }
    }

    /// The type that a file's name promises, where it promises one of these.
    #[must_use]
    pub fn promised_by(path: &str) -> Option<Self> {
        match extension(path).as_str() {
            "gif" => Some(Self::Gif),
            "jpg" | "jpeg" | "jpe" | "jfif" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            "pdf" => Some(Self::Pdf),
            "tif" | "tiff" => Some(Self::Tiff),
            _ => None,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gif => "GIF",
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Pdf => "PDF",
            Self::Tiff => "TIFF",
        }
    }

    /// As in a data URI.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Gif => "image/gif",
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Pdf => "application/pdf",
            Self::Tiff => "image/tiff",
        }
    }
}

/// What Word, Excel and others began their files with until 2007.
const OLE: &[u8] = b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1";

/// Where a PDF begins: printers and mail programs put up to a kilobyte before it, and viewers skip that. An archive or an
/// office file may contain a PDF and is none.
pub(super) fn pdf_begins(head: &[u8]) -> Option<usize> {
    let at = memmem::find(head.get(..HEAD_BYTES).unwrap_or(head), b"%PDF-")?;
    let is_another = || {
        // Two letters, and so a chance, are enough for these.
        head.starts_with(OLE)
            || known_type(head).is_some_and(|known| {
                known.matcher_type() != infer::MatcherType::Text && !matches!(known.extension(), "bmp" | "exe")
            })
    };
    (at == 0 || !is_another()).then_some(at)
}

/// What the bytes before any mention of PDF are: the library calls everything a PDF that mentions it.
fn known_type(head: &[u8]) -> Option<infer::Type> {
    infer::get(head.get(..memmem::find(head, b"%PDF").unwrap_or(head.len()))?)
}

/// Whether the content is too short to have a type, and could be the beginning of one.
#[must_use]
pub fn may_begin(content: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 8] =
        [b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1A\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"MM\0+", b"%PDF-"];
    BEGINNINGS.iter().any(|beginning| beginning.len() > content.len() && beginning.starts_with(content))
}

/// Whether a name has an extension of another kind of file, which a picture under it contradicts.
#[must_use]
pub fn promises_something_else(path: &str) -> bool {
    const OTHERS: [&str; 14] =
        ["avif", "bmp", "csv", "doc", "docx", "heic", "heif", "htm", "html", "svg", "txt", "webp", "xml", "zip"];
    OTHERS.contains(&extension(path).as_str())
}

fn extension(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// What a file of an unaccepted type seems to be, with its article.
#[must_use]
pub fn looks_like(head: &[u8]) -> Option<&'static str> {
    if !head.is_empty() && head.iter().all(|byte| *byte == 0) {
        return Some("zero bytes, as a broken transfer leaves them");
    }
    if head.starts_with(b"\x89PNG\r\r\n\x1A\r\n") || head.starts_with(b"\x89PNG\n\x1A\n") {
        return Some("a PNG that a transfer in text mode has changed: send it in binary mode");
    }
    if let Some(known) = known_type(head) {
        return Some(match known.extension() {
            "heif" => "a HEIC picture",
            "webp" => "a WebP picture",
            "avif" => "an AVIF picture",
            "bmp" => "a BMP picture",
            "jp2" => "a JPEG 2000 picture",
            "jxl" => "a JPEG XL picture",
            "cr2" => "a camera's raw picture",
            "psd" => "a Photoshop picture",
            "ico" => "an icon",
            "doc" | "docx" | "odt" => "a text document",
            "xls" | "xlsx" | "ods" => "a spreadsheet",
            "ppt" | "pptx" | "odp" => "a presentation",
            "zip" | "rar" | "7z" | "tar" | "gz" | "bz2" | "xz" | "zst" | "lz" => "an archive",
            "exe" | "dll" | "elf" | "mach" | "obj" | "class" | "wasm" | "dex" => "a program",
            "mp4" | "m4v" | "mov" | "avi" | "mkv" | "webm" | "wmv" | "mpg" => "a video",
            "html" => "a web page",
            "xml" => "an XML text",
            "pem" | "der" => "a certificate or key",
            "sh" => "a script",
            _ => match known.matcher_type() {
                infer::MatcherType::App => "a program",
                infer::MatcherType::Archive => "an archive",
                infer::MatcherType::Audio => "a sound",
                infer::MatcherType::Image => "a picture of another kind",
                infer::MatcherType::Video => "a video",
                _ => "a document of another kind",
            },
        });
    }
    if head.starts_with(OLE) {
        return Some("an office document");
    }
    let text = head.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    let start: String = text.trim_start_matches('\u{FEFF}').trim_start().chars().take(9).collect();
    let start = start.to_ascii_lowercase();
    if start.starts_with("<!doctype") || start.starts_with("<html") {
        return Some("a web page");
    }
    // A cut character at the end of the head is no sign of a binary file.
    let is_text =
        text.len() + 4 > head.len() && !text.contains(|char: char| char.is_control() && !char.is_whitespace());
    (is_text && !text.is_empty()).then_some("plain text")
}

#[cfg(test)]
pub(crate) mod samples {
    //! The smallest complete files of each type.

    /// One pixel; the ends are right, the picture between them is not checked.
    pub(crate) const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\
        \xFF\xC0\0\x0B\x08\0\x01\0\x01\x01\x01\x11\0\xFF\xDA\0\x08\x01\x01\0\0\x3F\0\x37\xFF\xD9";
    pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3A\x7E\x9B\x55\
        \0\0\0\x0AIDAT\x78\x9C\x63\x60\0\0\0\x02\0\x01\x48\xAF\xA4\x71\0\0\0\0IEND\xAE\x42\x60\x82";
    pub(crate) const GIF: &[u8] =
        b"GIF89a\x01\0\x01\0\x80\0\0\xFF\xFF\xFF\0\0\0\x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3B";
    pub(crate) const PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
        2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";
    /// The strip of each is a part of its header.
    pub(crate) const TIFF: &[u8] = b"II*\0\x08\0\0\0\x02\0\x11\x01\x04\0\x01\0\0\0\0\0\0\0\
        \x17\x01\x04\0\x01\0\0\0\x04\0\0\0\0\0\0\0";
    pub(crate) const TIFF_BIG_ENDIAN: &[u8] = b"MM\0*\0\0\0\x08\0\x02\x01\x11\0\x04\0\0\0\x01\0\0\0\0\
        \x01\x17\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\0";
    pub(crate) const BIG_TIFF: &[u8] = b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
        \x11\x01\x10\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    pub(crate) const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\0\0\0\0\0";
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};

    const WHOLE: [(FileType, &[u8]); 7] = [
        (FileType::Jpeg, JPEG),
        (FileType::Png, PNG),
        (FileType::Gif, GIF),
        (FileType::Pdf, PDF),
        (FileType::Tiff, TIFF),
        (FileType::Tiff, TIFF_BIG_ENDIAN),
        (FileType::Tiff, BIG_TIFF),
    ];

    #[test]
    fn each_type_is_known_by_its_first_bytes() {
        for (file_type, content) in WHOLE {
            assert_eq!(FileType::of(content), Some(file_type));
        }
        let late = [&[b' '; 1000][..], PDF].concat();
        assert_eq!(FileType::of(&late), Some(FileType::Pdf));
        let too_late = [&[b' '; 1100][..], PDF].concat();
        assert_eq!(FileType::of(&too_late), None);
        for content in [&b""[..], b"\xFF\xD8", b"GIF8", b"II", HEIC, b"II*\0\x10\0\0\0CR\x02\0"] {
            assert_eq!(FileType::of(content), None, "{content:?}");
        }
    }

    #[test]
    fn what_is_not_accepted_is_named() {
        for (content, name) in [
            (HEIC, "a HEIC picture"),
            (b"RIFF\x24\0\0\0WEBPVP8 \0\0\0\0", "a WebP picture"),
            (b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "an archive"),
            (b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "a program"),
            (b"<!DOCTYPE html><title>Log in</title>", "a web page"),
            (b"\xEF\xBB\xBF<html><body>", "a web page"),
            (b"<!DOCTYPE html><html>Log in to download %PDF-1.4</html>", "a web page"),
            (b"\x89PNG\r\r\n\x1A\r\n", "a PNG that a transfer in text mode has changed: send it in binary mode"),
            ("Grüße".as_bytes(), "plain text"),
            (&[0; 64], "zero bytes, as a broken transfer leaves them"),
        ] {
            assert_eq!(looks_like(content), Some(name), "{content:?}");
        }
        assert_eq!(looks_like(b"\x01\x02\x03\x04\x05\xFE\xFD"), None);
        assert_eq!(looks_like(b"\xFE"), None);
        assert_eq!(looks_like(b""), None);
    }

    #[test]
    fn names_promise_types_in_any_letter_case() {
        assert_eq!(FileType::promised_by("a.b/FRONT.JPEG"), Some(FileType::Jpeg));
        assert_eq!(FileType::promised_by("a.png/front"), None);
        assert!(promises_something_else("x.HEIC"));
        assert!(!promises_something_else("x.dat"));
    }
}
