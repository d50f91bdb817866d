//! Small pictures: a pattern in two colours, the same left and right, as a PNG file.
//!
//! PNG (RFC 2083) with a palette of two and one bit a pixel; the zlib stream (RFC 1950) holds one stored block (RFC 1951
//! section 3.2.4), so that no compressor is needed.

use super::random::Random;
use data_encoding::BASE64_NOPAD;

/// Squares of the pattern along a side.
const SQUARES: usize = 8;

/// A picture of this side length (a multiple of eight below 256) in base64 without padding, as the earlier system writes.
pub(super) fn base64(side_pixels: usize, random: &mut Random) -> String {
    BASE64_NOPAD.encode(&png(side_pixels, random))
}

fn png(side_pixels: usize, random: &mut Random) -> Vec<u8> {
    let side = u32::try_from(side_pixels).unwrap_or(u32::MAX).to_be_bytes();
    let colours: Vec<u8> = [random.next(), random.next() | 0x80_8080].iter().flat_map(|n| n.to_le_bytes()).collect();
    let palette: Vec<u8> = colours.chunks(8).flat_map(|colour| colour.iter().copied().take(3)).collect();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    // Bit depth 1, colour type 3 (palette), deflate, no filter, not interlaced.
    chunk(&mut file, b"IHDR", &[&side[..], &side[..], &[1, 3, 0, 0, 0]].concat());
    chunk(&mut file, b"PLTE", &palette);
    chunk(&mut file, b"IDAT", &zlib_stored(&scanlines(side_pixels, random)));
    chunk(&mut file, b"IEND", &[]);
    file
}

/// The pixels, each line behind its filter byte.
fn scanlines(side_pixels: usize, random: &mut Random) -> Vec<u8> {
    let pixels_per_square = side_pixels / SQUARES;
    let mut lines = Vec::new();
    for _ in 0..SQUARES {
        let half = random.next();
        // Square 0 is the left-most; its twin on the right is SQUARES - 1.
        let is_set = |square: usize| half >> square.min(SQUARES - 1 - square) & 1 == 1;
        let bit = |pixel: usize| is_set(pixel / pixels_per_square);
        let line = (0..side_pixels / 8).map(|byte| (0..8).fold(0, |bits, at| bits << 1 | u8::from(bit(byte * 8 + at))));
        let line: Vec<u8> = std::iter::once(0).chain(line).collect();
        lines.extend(line.repeat(pixels_per_square));
    }
    lines
}

/// Length, type, data and checksum.
fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc32(&[&kind[..], data].concat()).to_be_bytes());
}

fn zlib_stored(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    // Window of 32 KiB, no dictionary; then the one and last block, stored.
    let mut stream = vec![0x78, 0x01, 0x01];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(data);
    stream.extend(adler32(data).to_be_bytes());
    stream
}

/// RFC 2083 section 15, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// RFC 1950 section 8.2.
fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_everybody_else() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_picture_is_a_png_file_with_all_its_pixels() {
        let file = png(32, &mut Random::from_seed(1));
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x20\0\0\0\x20\x01\x03"));
        // The end of every PNG file, checksum included.
        assert!(file.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
        let pixels = scanlines(32, &mut Random::from_seed(1));
        assert_eq!(pixels.len(), 32 * (1 + 32 / 8));
        assert!(
            pixels
                .chunks(5)
                .all(|line| line[0] == 0 && line[1] == line[4].reverse_bits() && line[2] == line[3].reverse_bits())
        );
    }
}
