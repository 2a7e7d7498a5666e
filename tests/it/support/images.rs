//! Little images that are valid and all different: the same number gives the same bytes.

/// The types that the API takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
    Gif,
    Pdf,
    Tiff,
}

/// A valid file of one pixel or page; `number` makes it unlike any other.
pub(crate) fn image(format: Format, number: u32) -> Vec<u8> {
    match format {
        Format::Png => png(number),
        Format::Jpeg => jpeg(number),
        Format::Gif => gif(number),
        Format::Pdf => pdf(number),
        Format::Tiff => tiff(number),
    }
}

/// A PDF of exactly `bytes` bytes, padded by its comment; `number` makes it unique.
pub(crate) fn padded(number: u32, bytes: usize) -> Vec<u8> {
    let bare = pdf(number);
    assert!(bare.len() < bytes, "a PDF has more than {bytes} bytes anyway");
    let (head, rest) = bare.split_at(b"%PDF-1.4\n%".len());
    [head, &vec![b'.'; bytes - bare.len()], rest].concat()
}

fn png(number: u32) -> Vec<u8> {
    let mut content = b"\x89PNG\r\n\x1A\n".to_vec();
    let mut chunk = |name: &[u8; 4], data: &[u8]| {
        let mut body = name.to_vec();
        body.extend_from_slice(data);
        content.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        content.extend_from_slice(&body);
        content.extend_from_slice(&crc32(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
    // One row: its filter and one pixel, stored without compression.
    let [_, red, green, blue] = number.to_be_bytes();
    let row = [0, red, green, blue];
    let mut pixels = vec![0x78, 0x01, 0x01, 4, 0, 0xFB, 0xFF];
    pixels.extend_from_slice(&row);
    pixels.extend_from_slice(&adler32(&row).to_be_bytes());
    chunk(b"IDAT", &pixels);
    chunk(b"tEXt", format!("Comment\0image {number}").as_bytes());
    chunk(b"IEND", &[]);
    content
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

fn adler32(data: &[u8]) -> u32 {
    let (low, high) = data.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}

fn jpeg(number: u32) -> Vec<u8> {
    let mut content = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec();
    let comment = format!("image {number}");
    content.extend_from_slice(b"\xFF\xFE");
    content.extend_from_slice(&u16::try_from(comment.len() + 2).unwrap().to_be_bytes());
    content.extend_from_slice(comment.as_bytes());
    content.extend_from_slice(b"\xFF\xDB\0\x43\0");
    content.extend_from_slice(&[1; 64]);
    content.extend_from_slice(b"\xFF\xC0\0\x0B\x08\0\x01\0\x01\x01\x01\x11\0");
    content.extend_from_slice(b"\xFF\xC4\0\x14\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    content.extend_from_slice(b"\xFF\xC4\0\x14\x10\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    content.extend_from_slice(b"\xFF\xDA\0\x08\x01\x01\0\0\x3F\0\x3F\xFF\xD9");
    content
}

fn gif(number: u32) -> Vec<u8> {
    let mut content = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF".to_vec();
    let comment = format!("image {number}");
    content.extend_from_slice(&[0x21, 0xFE, u8::try_from(comment.len()).unwrap()]);
    content.extend_from_slice(comment.as_bytes());
    content.push(0);
    content.extend_from_slice(b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;");
    content
}

fn pdf(number: u32) -> Vec<u8> {
    format!(
        "%PDF-1.4\n% image {number}\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 \
         obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 \
         9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )
    .into_bytes()
}

fn tiff(number: u32) -> Vec<u8> {
    let mut content = b"II*\0\x08\0\0\0".to_vec();
    // Width, height, bits, compression, colours, the offset of the one strip, its rows and bytes; then the pixel.
    let entries: [(u16, u32); 8] = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 110), (278, 1), (279, 1)];
    content.extend_from_slice(&8_u16.to_le_bytes());
    for (tag, value) in entries {
        content.extend_from_slice(&tag.to_le_bytes());
        content.extend_from_slice(&4_u16.to_le_bytes());
        content.extend_from_slice(&1_u32.to_le_bytes());
        content.extend_from_slice(&value.to_le_bytes());
    }
    content.extend_from_slice(&0_u32.to_le_bytes());
    content.push(0x7F);
    content.extend_from_slice(format!("image {number}").as_bytes());
    content
}
