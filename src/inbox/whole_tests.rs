//! Complete files of each type, and the same ones truncated.

use super::{super::file_type::samples::*, *};

fn missing_in_pieces(content: &[u8], size: usize) -> Option<&'static str> {
    let mut walk = StructureWalk::new(FileType::of(content));
    content.chunks(size.max(1)).for_each(|piece| walk.feed(piece));
    let mut read = |buffer: &mut [u8], at: u64| {
        let rest = content.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        Ok(filled)
    };
    walk.missing(content.len() as u64, &mut read).unwrap()
}

/// Must not depend on how the file is divided into pieces.
#[track_caller]
fn missing(content: &[u8]) -> Option<&'static str> {
    let answers = [1, 2, 7, 64 * 1024].map(|size| missing_in_pieces(content, size));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0]
}

/// A picture with a preview inside it, in a segment, as cameras make them.
fn jpeg_with_preview() -> Vec<u8> {
    let preview = [JPEG, &[0x11; 300], &[0xFF, 0xD9]].concat();
    let length = u16::try_from(preview.len() + 2).unwrap().to_be_bytes();
    let mut picture = b"\xFF\xD8\xFF\xE1".to_vec();
    picture.extend(length);
    picture.extend(&preview);
    // A second scan, restarts, stuffed and fill bytes, as a progressive picture has them.
    picture.extend(b"\xFF\xDA\0\x04\x01\x01\x22\xFF\0\x33\xFF\xD0\x44\xFF\xFF\xC4\0\x03\x09\xFF\xDA\0\x04\x02\x02");
    picture.extend([0x55; 500]);
    picture.extend(b"\xFF\xD9");
    picture
}

/// Two pages with a strip each, before and after their directories.
fn tiff_of_two_pages() -> Vec<u8> {
    let mut file = b"II*\0\x10\0\0\0strip-1!".to_vec();
    let directory = |file: &mut Vec<u8>, strip: u32, length: u32, next: u32| {
        file.extend(2_u16.to_le_bytes());
        for (tag, value) in [(273_u16, strip), (279, length)] {
            file.extend(tag.to_le_bytes());
            file.extend(4_u16.to_le_bytes());
            file.extend(1_u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file.extend(next.to_le_bytes());
    };
    directory(&mut file, 8, 8, 46);
    assert_eq!(file.len(), 46);
    directory(&mut file, 76, 100, 0);
    assert_eq!(file.len(), 76);
    file.extend([7; 100]);
    file
}

/// With a table of colours, two images, a comment, and small blocks.
fn gif_of_two_images() -> Vec<u8> {
    let mut file = b"GIF89a\x02\0\x02\0\x91\0\0".to_vec();
    file.extend([0x3B; 12]);
    file.extend(b"\x21\xFE\x03a;b\0");
    for _ in 0..2 {
        file.extend(b"\x2C\0\0\0\0\x02\0\x02\0\x80\x01\x02\x03\x04\x05\x06\x02\x03\x44\x3B\x3B\x01\x3B\0");
    }
    file.push(0x3B);
    file
}

fn pdf_with_an_addition() -> Vec<u8> {
    [PDF, b"3 0 obj<</Type/Page>>endobj\nstartxref\n9\n%%EOF\n"].concat()
}

fn samples() -> Vec<Vec<u8>> {
    let mut samples: Vec<Vec<u8>> = [JPEG, PNG, GIF, PDF, TIFF, TIFF_BIG_ENDIAN, BIG_TIFF].map(<[u8]>::to_vec).into();
    samples.extend([jpeg_with_preview(), tiff_of_two_pages(), gif_of_two_images()]);
    samples
}

#[test]
fn complete_files_are_complete() {
    for content in samples().into_iter().chain([pdf_with_an_addition()]) {
        assert_eq!(missing(&content), None, "{content:?}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_truncated() {
    for content in samples() {
        let kind = FileType::of(&content).unwrap();
        let needed = match kind {
            // The line's end after the mark.
            FileType::Pdf => content.len() - 1,
            // The sample has a few bytes after its last directory.
            FileType::Tiff if content == BIG_TIFF => 32,
            FileType::Gif | FileType::Jpeg | FileType::Png | FileType::Tiff => content.len(),
        };
        for len in 12..needed {
            assert!(missing(&content[..len]).is_some(), "{kind:?} of {} cut to {len}", content.len());
        }
    }
}

#[test]
fn an_addition_to_a_pdf_that_broke_off_is_noticed() {
    let whole = pdf_with_an_addition();
    for len in PDF.len() + 8..whole.len() - 1 {
        assert!(missing(&whole[..len]).is_some(), "cut to {len}");
    }
}

#[test]
fn a_pdf_that_says_its_length_must_have_it() {
    let pdf = |declared: usize| format!("%PDF-1.4\n1 0 obj<</Linearized 1/L {declared}/O 3>>endobj\n%%EOF\n");
    let len = pdf(10).len();
    assert_eq!(missing(pdf(len).as_bytes()), None);
    assert_eq!(missing(pdf(len + 1).as_bytes()), Some("the PDF is shorter than it says itself"));
}

#[test]
fn what_devices_add_after_the_end_is_tolerated() {
    for content in samples() {
        for more in [&[0; 100_000][..], &[b'x'; 100_000], b"Image_UTC_Data1234SEFT", &[0xFF; 9000]] {
            assert_eq!(missing_in_pieces(&[&content, more].concat(), 4096), None, "{content:?}");
        }
    }
}

#[test]
fn a_transfer_that_ends_in_zeros_is_truncated() {
    for content in samples() {
        if FileType::of(&content) != Some(FileType::Tiff) {
            let hollow = [&content[..content.len() - 8], &[0; 100_000]].concat();
            assert!(missing_in_pieces(&hollow, 4096).is_some(), "{content:?}");
        }
    }
}

#[test]
fn a_tiff_with_its_directory_elsewhere_is_truncated() {
    for at in [0, 7, 27, u32::MAX] {
        let mut content = TIFF.to_vec();
        content[4..8].copy_from_slice(&at.to_le_bytes());
        assert!(missing(&content).is_some(), "{at}");
    }
    let mut content = BIG_TIFF.to_vec();
    content[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(missing(&content).is_some());
}

#[test]
fn a_tiff_with_cycles_or_a_false_size_ends_the_check() {
    let mut circle = tiff_of_two_pages();
    circle[72..76].copy_from_slice(&16_u32.to_le_bytes());
    assert_eq!(missing_in_pieces(&circle, 4096), None);
    let mut vast = tiff_of_two_pages();
    vast[22..26].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(missing(&vast).is_some());
}
