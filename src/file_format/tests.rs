//! Complete files of each type, and the same ones truncated.

use super::{samples::*, *};

fn inspected_in_pieces(content: &[u8], size: usize) -> Inspected {
    let mut inspection = FormatWalk::default();
    content.chunks(size.max(1)).for_each(|piece| inspection.feed(piece));
    let mut read = |buffer: &mut [u8], at: u64| {
        let rest = usize::try_from(at).ok().and_then(|at| content.get(at..)).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        Ok(filled)
    };
    inspection.finish(content.len() as u64, &mut read).unwrap()
}

/// Must not depend on how the file is divided into pieces.
#[track_caller]
fn inspected(content: &[u8]) -> Inspected {
    let [one, two, seven, large] = [1, 2, 7, 64 * 1024].map(|size| inspected_in_pieces(content, size));
    assert!(one == two && two == seven && seven == large, "{one:?} {two:?} {seven:?} {large:?}");
    large
}

fn truncated(inspected: Inspected) -> Option<&'static str> {
    inspected.flaws.into_iter().find_map(|flaw| if let Flaw::Truncated(why) = flaw { Some(why) } else { None })
}

#[track_caller]
fn missing(content: &[u8]) -> Option<&'static str> {
    truncated(inspected(content))
}

fn missing_in_pieces(content: &[u8], size: usize) -> Option<&'static str> {
    truncated(inspected_in_pieces(content, size))
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
            FileType::Gif | FileType::Jpeg | FileType::Png | FileType::Tiff => content.len(),
        };
        for len in (12..needed).filter(|len| kind != FileType::Png || *len != content.len() - 12) {
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
    // Each of its directories would check a list as large as the file.
    let mut shared = b"II*\0\x08\0\0\0\x01\0\x11\x01\x04\0\0\0\x04\0\x40\0\0\0\x08\0\0\0".to_vec();
    shared.resize(2 << 20, 0);
    assert_eq!(missing_in_pieces(&shared, 65_536), None);
    let mut vast = tiff_of_two_pages();
    vast[22..26].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(missing(&vast).is_some());
}

/// A PDF as programs write it, with these bytes before it and behind it.
fn pdf(before: &str, objects: &[&str], end: &str) -> Vec<u8> {
    let mut file = format!("{before}%PDF-1.4\n");
    let mut places = String::new();
    for object in objects {
        places += &format!("{:010} 00000 n \n", file.len() - before.len());
        file += object;
        file += "\nendobj\n";
    }
    let xref = file.len() - before.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n{places}", objects.len() + 1);
    file += &format!("trailer <</Root 1 0 R>>\nstartxref\n{xref}{end}");
    file.into_bytes()
}

const PAGES: [&str; 2] = ["1 0 obj <</Pages 2 0 R>>", "2 0 obj <</Kids []>>"];

fn of(file_type: FileType, flaws: &[Flaw]) -> Inspected {
    Inspected { file_type: Some(file_type), flaws: flaws.to_vec() }
}

/// Each is what a scanner, a print spooler or a web server makes of it, and opens everywhere.
#[test]
fn a_pdf_is_whole_where_its_table_of_objects_is() {
    let printer = "\x1B%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE=PDF\r\n";
    let mail = "Received: from scanner\n\n";
    let warning = "<br />\n<b>Warning</b>: session\n";
    for before in ["", printer, mail, warning] {
        for end in [
            "\n%%EOF\n",
            "",
            "\n",
            "\n%EOF\n",
            "\n%%EO",
            "\n%%EOF\n\x1B%-12345X@PJL EOJ\r\n",
            "\n%%EOF\n<html>var x = new obj; a = 1 obj </html>",
            "\n<html>1 obj</html>",
        ] {
            assert_eq!(inspected(&pdf(before, &PAGES, end)), of(FileType::Pdf, &[]), "{before:?} {end:?}");
        }
    }
    let stream = pdf("", &PAGES, "").len();
    let xref = b"9 0 obj <</Type /XRef /Length 1>>\nstream\n.\nendstream\nendobj\nstartxref\n";
    let cut = [&pdf("", &PAGES, ""), &b"\n"[..], xref].concat();
    assert_eq!(missing(&cut), Some("the PDF has no end mark"));
    assert_eq!(missing(&[cut, (stream + 1).to_string().into_bytes()].concat()), None);
}

#[test]
fn a_pdf_whose_end_is_missing_is_truncated() {
    for end in ["0", "\n3 0 obj <<", "\n%%EOF\n3 0 obj <</Kids"] {
        assert_eq!(missing(&pdf("", &PAGES, end)), Some("the PDF has no end mark"), "{end:?}");
    }
    let whole = pdf("", &PAGES, "");
    assert!((20..whole.len()).all(|len| inspected_in_pieces(&whole[..len], 4096).flaws.len() == 1));
}

#[test]
fn what_only_mentions_pdf_is_none() {
    for content in [
        &b"<!DOCTYPE html><html>Log in to download %PDF-1.4 document.</html>\n%%EOF"[..],
        b"<?xml version='1.0'?><a>%PDF-1.4</a> 1 0 obj %%EOF",
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0%PDF-1.4\n1 0 obj\n<<>>\nendobj\n%%EOF",
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0\0\0\0%PDF-1.4 1 0 obj\n<<>>\nendobj\n%%EOF",
        b"{\\rtf1 %PDF-1.4 1 0 obj %%EOF}",
    ] {
        assert_eq!(inspected(content), Inspected { file_type: None, flaws: Vec::new() }, "{content:?}");
    }
    let nothing = of(FileType::Pdf, &[Flaw::Empty("the PDF has no object in it")]);
    assert_eq!(inspected(b"%PDF-1.4\nhello\n%%EOF\n"), nothing);
}

/// Bytes as compressed data has them; without 0xFF, which begins a marker.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0].min(0xFE)
    };
    (0..count).map(|_| next()).collect()
}

const BROKEN_PDF: Flaw = Flaw::Damaged("16 KiB or more of zero bytes are inside the PDF");

#[test]
fn zeros_in_compressed_data_of_a_pdf_are_a_hole_and_in_other_data_they_are_not() {
    let with = |dictionary: &str, hole: usize| {
        let mut file = format!("%PDF-1.4\n1 0 obj <</Pages 2 0 R {dictionary}>>\nstream\n").into_bytes();
        file.extend([noise(9000), vec![0; hole], noise(9000)].concat());
        file.extend(b"\nendstream\nendobj\n%%EOF\n");
        inspected(&file)
    };
    assert_eq!(with("/Filter /FlateDecode", 16_384), of(FileType::Pdf, &[BROKEN_PDF]));
    assert_eq!(with("/Filter [/FlateDecode]", 100_000), of(FileType::Pdf, &[BROKEN_PDF]));
    assert_eq!(with("/Filter /FlateDecode", 16_000), of(FileType::Pdf, &[]));
    assert_eq!(with("", 100_000), of(FileType::Pdf, &[]));
    let between =
        [&b"%PDF-1.4\n1 0 obj <<>>\nstream\nendstream endobj"[..], &[0; 20_000], b"2 0 obj <<>> endobj\n%%EOF"]
            .concat();
    assert_eq!(inspected(&between), of(FileType::Pdf, &[BROKEN_PDF]));
    let padded = [&pdf("", &PAGES, "\n%%EOF\n")[..], &[0; 40_000], b"@PJL EOJ"].concat();
    assert_eq!(inspected(&padded), of(FileType::Pdf, &[]));
}

/// A grey JPEG of this size in blocks, whose tables begin with these symbols, each of one bit.
fn jpeg(code: u8, (across, down): (u16, u16), symbols: [u8; 2], scan: [u8; 3], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0xFF, 0xD8, 0xFF, code, 0, 11, 8];
    file.extend((down * 8).to_be_bytes());
    file.extend((across * 8).to_be_bytes());
    file.extend([1, 1, 0x11, 0]);
    for (class, symbol) in [0, 0x10].into_iter().zip(symbols) {
        file.extend([0xFF, 0xC4, 0, 20, class, 1]);
        file.extend([0; 15]);
        file.push(symbol);
    }
    file.extend([0xFF, 0xDA, 0, 8, 1, 1, 0]);
    file.extend(scan);
    file.extend(data);
    file.extend([0xFF, 0xD9]);
    file
}

#[test]
fn zeros_in_a_jpeg_are_a_hole_unless_they_are_a_blank_part_of_it() {
    let hole = Flaw::Damaged("8 KiB or more of zero bytes are inside the JPEG's coded data");
    let (whole, scan) = ([0, 63, 0], |zeros: usize| [noise(3001), vec![0; zeros], noise(3000)].concat());
    let large = (1000, 1000);
    for (wanted, file) in [
        (true, jpeg(0xC0, large, [0, 1], whole, &scan(8192))),
        (true, jpeg(0xC0, large, [3, 0], whole, &scan(8192))),
        (false, jpeg(0xC0, large, [0, 1], whole, &scan(8000))),
        // A blank page: two bits a block.
        (false, jpeg(0xC0, large, [0, 0], whole, &scan(100_000))),
        (true, jpeg(0xC0, (100, 100), [0, 0], whole, &scan(8192))),
        // The first bits of a progressive picture, the following ones, and the end of many blocks.
        (false, jpeg(0xC2, large, [0, 1], [0, 0, 0], &scan(100_000))),
        (false, jpeg(0xC2, large, [1, 1], [0, 0, 0x10], &scan(100_000))),
        (true, jpeg(0xC2, large, [0, 0x70], [1, 63, 0], &scan(100_000))),
        (false, jpeg(0xC2, large, [0, 0], [1, 63, 0], &scan(100_000))),
        // Just before the end.
        (true, jpeg(0xC0, large, [0, 1], whole, &[noise(10), vec![0; 9000]].concat())),
    ] {
        let flaws = if wanted { vec![hole] } else { Vec::new() };
        assert_eq!(inspected(&file), of(FileType::Jpeg, &flaws), "{:?}", &file[..80]);
    }
    // Where it begins and ends with blocks of the disk, it is one.
    let mut file = jpeg(0xC0, large, [0, 0], whole, &scan(100_000));
    let from = 4096;
    file[from - 1] = 1;
    file.truncate(from + 32_768);
    file[3000..from].fill(7);
    file.extend([1, 0xFF, 0xD9]);
    assert_eq!(inspected(&file), of(FileType::Jpeg, &[hole]));
}

#[test]
fn a_file_without_a_picture_is_empty() {
    let tables_only = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xFF\xD9";
    assert_eq!(inspected(tables_only), of(FileType::Jpeg, &[Flaw::Empty("the JPEG has no picture in it")]));
    let png = [&PNG[..33], &PNG[55..]].concat();
    assert_eq!(inspected(&png), of(FileType::Png, &[Flaw::Empty("the PNG has no picture in it")]));
    assert_eq!(
        inspected(b"GIF89a\x01\0\x01\0\0\0\0;"),
        of(FileType::Gif, &[Flaw::Empty("the GIF has no picture in it")])
    );
    let tiff = b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0";
    assert_eq!(inspected(tiff), of(FileType::Tiff, &[Flaw::Empty("the TIFF has no picture in it")]));
}

#[test]
fn checksums_of_the_critical_chunks_of_a_png_count_and_others_do_not() {
    let damaged = of(FileType::Png, &[Flaw::Damaged("a part of the PNG differs from its checksum (CRC)")]);
    for at in [20, 30, 43, 52] {
        let mut file = PNG.to_vec();
        file[at] ^= 1;
        assert_eq!(inspected(&file), damaged, "{at}");
    }
    let text = [&PNG[..33], b"\0\0\0\x03tEXta\0b\0\0\0\0", &PNG[33..]].concat();
    assert_eq!(inspected(&text), of(FileType::Png, &[]));
    assert_eq!(inspected(&PNG[..PNG.len() - 12]), of(FileType::Png, &[]), "it lacks nothing but its end chunk");
    let animated = [&PNG[..33], b"\0\0\0\0acTL\0\0\0\0", &PNG[33..PNG.len() - 12]].concat();
    assert_eq!(missing(&animated), Some("the PNG has no end chunk"), "more pictures may follow");
}

/// An uncompressed picture of 50 by 40 grey pixels: strips of so many rows, with these declared lengths.
fn tiff(rows: u32, declared: &[u32], pixels: usize) -> Vec<u8> {
    let count = u32::try_from(declared.len()).unwrap();
    let mut file = b"II*\0\x08\0\0\0\x08\0".to_vec();
    let lists = 8 + 2 + 8 * 12 + 4;
    let data = lists + count * 8;
    let starts: Vec<u32> = (0..count).map(|part| data + part * 16 * 50).collect();
    let place = |list: u32, first: u32| if count == 1 { first } else { lists + list * count * 4 };
    for (tag, count, value) in [
        (256_u16, 1, 50),
        (257, 1, 40),
        (258, 1, 8),
        (259, 1, 1),
        (273, count, place(0, starts[0])),
        (277, 1, 1),
        (278, 1, rows),
        (279, count, place(1, declared[0])),
    ] {
        file.extend(tag.to_le_bytes());
        file.extend(4_u16.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    starts.iter().chain(declared).for_each(|number| file.extend(number.to_le_bytes()));
    file.extend(vec![7; pixels]);
    file
}

#[test]
fn the_measures_of_an_uncompressed_tiff_count_where_its_lengths_make_no_sense() {
    for (rows, declared, pixels, whole) in [
        (40, &[2000][..], 2000, true),
        (40, &[u32::MAX], 2000, true),
        (40, &[2050], 2000, true),
        (40, &[0], 2000, true),
        (40, &[0], 500, false),
        (40, &[2000], 1999, false),
        (40, &[u32::MAX], 1999, false),
        (u32::MAX, &[0], 2000, true),
        // The last of three strips has eight rows.
        (16, &[800, 800, 800], 2000, true),
        (16, &[800, 800, 400], 2000, true),
        (16, &[0, 0, 0], 2000, true),
        (16, &[0, 0, 0], 1999, false),
    ] {
        let file = tiff(rows, declared, pixels);
        assert_eq!(missing(&file).is_none(), whole, "{rows} rows, {declared:?}, {pixels} pixels");
    }
}

/// qpdf's encryption with a user's password, and with one of the owner alone.
const ASKS: &str = "<</Filter/Standard/V 1/R 2/P -12/O<853fee3f6550fc3bc212797eaed99cc9be53347583a738e25fdfb1242bf93366>\
    /U<d233a934f8a794e352f70550015850f781b97a386736c78724ffbb51bebc0b59>>>";
const FREE: &str = "<</Filter/Standard/V 1/R 2/P -12/O<d8a81f2f756b03f0e776376607dc67c098531ac3e51f6e5cf0fc1473b1ce0975>\
    /U<5fcef3dc7b5c6f0be57878ae43f171252ad7c082c319c0fe00dd79061e924a64>>>";

#[test]
fn a_protected_pdf_is_noticed_wherever_its_encryption_is() {
    let id = "/ID[<31415926535897932384626433832795>]";
    let asks = [Flaw::Protected("the PDF asks for a password")];
    let other = [Flaw::Protected("the PDF opens only with a certificate or another program")];
    let certificate = "<</Filter/Adobe.PubSec/V 4>>";
    for (encryption, wanted) in [(ASKS, &asks[..]), (FREE, &[]), (certificate, &other), ("<</Length 3>>", &[])] {
        let is_encryption = encryption.contains("Filter");
        let start = format!(
            "%PDF-1.5\n1 0 obj <</EncryptMetadata true>>\nendobj\n15 0 obj {certificate}\nendobj\n5 0 obj {encryption}\nendobj\n"
        );
        let place = start.len();
        for (name, end) in [
            (
                "a trailer",
                format!(
                    "xref\n0 1\n0000000000 65535 f \ntrailer <</Root 1 0 R/Encrypt 5 0 R{id}>>\nstartxref\n{place}\n%%EOF"
                ),
            ),
            (
                "a stream",
                format!(
                    "9 0 obj <</Type/XRef/Root 1 0 R/Encrypt 5 0 R{id}>>\nstream\n\nendstream\nendobj\nstartxref\n{place}\n%%EOF"
                ),
            ),
            ("a wrong place", format!("trailer <</Root 1 0 R{id}/Encrypt 5 0 R>>\nstartxref\n1\n%%EOF")),
            ("no place", format!("trailer\n<</Root 1 0 R{id}/Encrypt 5 0 R>>\n%%EOF")),
            ("a trailer itself", format!("trailer <</Root 1 0 R{id}/Encrypt {encryption}>>\n%%EOF")),
        ] {
            if name != "a trailer itself" || is_encryption {
                let found = inspected((start.clone() + &end).as_bytes());
                assert_eq!(found, of(FileType::Pdf, wanted), "{encryption} by {name}");
            }
        }
        // A page that mentions it, or an older version that was protected.
        let open = format!("xref\n0 1\n0000000000 65535 f \ntrailer <</Root 1 0 R>>\nstartxref\n{place}\n%%EOF");
        let content = format!("{start}{open}\n(trailer <</Encrypt 5 0 R>>)\n%%EOF");
        assert_eq!(inspected(content.as_bytes()), of(FileType::Pdf, &[]), "{encryption}");
    }
}
