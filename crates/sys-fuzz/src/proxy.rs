//! The header that a proxy says before all else whose connection it passes on.

use std::net::{IpAddr, SocketAddr};
use sys_edge::fuzzing::proxy_header;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header that is read, with its head.
const MOST_BYTES: usize = 4_096;

/// The first byte says how the rest becomes a header: as it is, with signature and length before it, or also with the right checksum
/// where there is a place for one. Read as another reader of the specification does, or refused by both.
pub(crate) fn header(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let mut header = rest.to_vec();
    if how & 1 == 1 && rest.len() >= 2 {
        let length = u16::try_from(rest.len() - 2).unwrap_or(u16::MAX).to_be_bytes();
        header = [SIGNATURE, &rest[..2], &length, &rest[2..]].concat();
    }
    if how & 2 == 2
        && let Some(Ok(fields)) = fields(&header)
        && let Some(place) =
            fields.iter().find(|(kind, _, length)| *kind == 3 && *length == 4).map(|(_, place, _)| *place)
    {
        header[place..place + 4].fill(0);
        let checksum = crc32c(&header).to_be_bytes();
        header[place..place + 4].copy_from_slice(&checksum);
    }
    let read = proxy_header(&header);
    assert_eq!(read, expected(&header), "{}", header.escape_ascii());
    if read.is_some() {
        assert_eq!(proxy_header(&[&header, b"x".as_slice()].concat()), None, "a header ends where it says");
        assert_eq!(proxy_header(&header[..header.len() - 1]), None, "and not before");
    }
}

/// What the specification says of these bytes, if they are a header.
fn expected(header: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let command = *header.get(12)?;
    let is_whole = header.len() >= 16
        && header.len() <= MOST_BYTES
        && header.starts_with(SIGNATURE)
        && usize::from(header[14]) * 256 + usize::from(header[15]) == header.len() - 16;
    match command {
        0x20 if is_whole => return Some(None),
        0x21 if is_whole => {}
        _ => return None,
    }
    let fields = fields(header)?.ok()?;
    let checksums: Vec<_> = fields.iter().filter(|(kind, ..)| *kind == 3).collect();
    match checksums.as_slice() {
        [] => {}
        [(_, place, 4)] => {
            let mut zeroed = header.to_vec();
            zeroed[*place..place + 4].fill(0);
            if crc32c(&zeroed).to_be_bytes() != header[*place..place + 4] {
                return None;
            }
        }
        [..] => return None,
    }
    let port = |place: usize| u16::from(header[place]) * 256 + u16::from(header[place + 1]);
    let address = |place: usize| match header[13] {
        0x11 => IpAddr::from(<[u8; 4]>::try_from(&header[place..place + 4]).expect("four bytes")),
        _ => IpAddr::from(<[u8; 16]>::try_from(&header[place..place + 16]).expect("sixteen bytes")),
    };
    Some(match header[13] {
        0x11 => Some((SocketAddr::new(address(16), port(24)), SocketAddr::new(address(20), port(26)))),
        0x21 => Some((SocketAddr::new(address(16), port(48)), SocketAddr::new(address(32), port(50)))),
        _ => None,
    })
}

/// The type of a field, and where its value is and how long.
type Field = (u8, usize, usize);

/// The fields behind the addresses; an error where one is cut short.
fn fields(header: &[u8]) -> Option<Result<Vec<Field>, ()>> {
    let mut place = match *header.get(13)? {
        0x00 => 16,
        0x11 => 16 + 12,
        0x21 => 16 + 36,
        _ => return None,
    };
    let mut found = Vec::new();
    if place > header.len() {
        return Some(Err(()));
    }
    while place < header.len() {
        if place + 3 > header.len() {
            return Some(Err(()));
        }
        let length = usize::from(header[place + 1]) * 256 + usize::from(header[place + 2]);
        found.push((header[place], place + 3, length));
        place += 3 + length;
        if place > header.len() {
            return Some(Err(()));
        }
    }
    Some(Ok(found))
}

/// Castagnoli's CRC as a long division of polynomials, bits in the order in which they are sent.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut rest: u32 = 0xffff_ffff;
    for bit in bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1)) {
        let is_odd = (rest >> 31) ^ u32::from(bit) == 1;
        rest = if is_odd { (rest << 1) ^ 0x1edc_6f41 } else { rest << 1 };
    }
    (!rest).reverse_bits()
}
