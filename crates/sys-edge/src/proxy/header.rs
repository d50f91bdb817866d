//! The bytes of a PROXY header, version 2 (HAProxy's `proxy-protocol.txt`, section 2.2). Pure: bytes in, meaning out.
//!
//! ```text
//! 12 signature | 1 version and command | 1 family and protocol | 2 length of the rest, big-endian
//! addresses (12 for IPv4, 36 for IPv6, none for UNSPEC) | fields: 1 type, 2 length, value
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Signature, version, family and length.
pub(crate) const HEAD_BYTES: usize = 16;
/// The longest header that is read. The specification asks for 536; proxies that add fields of their own, a client certificate
/// among them, need some thousand.
pub(crate) const MAX_BYTES: usize = 4_096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The type of the field with a checksum over the whole header (`PP2_TYPE_CRC32C`).
const CRC32C: u8 = 0x03;

/// Whose connection a header says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// That of somebody else, passed on.
    Ends {
        /// Who connected to the proxy.
        source: SocketAddr,
        /// What he connected to.
        destination: SocketAddr,
    },
    /// The proxy's own, or one whose ends it does not know: the connection is what it is.
    Connection,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It begins as no header does.
    #[error(
        "there is no PROXY header, version 2; make the proxy send one (HAProxy: send-proxy-v2), or take its network off the list"
    )]
    Signature,
    /// Version 1, which is text.
    #[error("the proxy sends version 1 of the PROXY protocol; make it send version 2 (HAProxy: send-proxy-v2)")]
    Version1,
    /// A version that is not 2, or a command that is none.
    #[error("the PROXY header has version and command {0:#04x}, which are none of version 2")]
    Command(u8),
    /// Something else than TCP over IP.
    #[error("the PROXY header is about a connection that is not TCP over IPv4 or IPv6 ({0:#04x})")]
    Family(u8),
    /// Longer than is read.
    #[error("the PROXY header says that it has {0} bytes, and {MAX_BYTES} are read at most; send fewer fields")]
    TooLong(usize),
    /// It ends before what it says it holds.
    #[error("the PROXY header is too short for what it says it holds")]
    Short,
    /// More than one checksum, or one of another length.
    #[error("the PROXY header has a checksum of a wrong form")]
    ChecksumForm,
    /// The checksum is another one.
    #[error("the PROXY header's checksum does not fit it: it was changed on its way")]
    Checksum,
}

/// How many bytes follow the head.
pub(crate) fn length(head: &[u8; HEAD_BYTES]) -> Result<usize, HeaderError> {
    let [signature @ .., command, _family, high, low] = head;
    if signature != SIGNATURE {
        let is_version_1 = signature.starts_with(b"PROXY ");
        return Err(if is_version_1 { HeaderError::Version1 } else { HeaderError::Signature });
    }
    if !matches!(*command, LOCAL | PROXY) {
        return Err(HeaderError::Command(*command));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if HEAD_BYTES + length > MAX_BYTES {
        return Err(HeaderError::TooLong(HEAD_BYTES + length));
    }
    Ok(length)
}

/// Reads a header that is as long as it says.
pub(crate) fn parse(header: &[u8]) -> Result<Named, HeaderError> {
    let (head, rest) = header.split_first_chunk::<HEAD_BYTES>().ok_or(HeaderError::Short)?;
    if rest.len() != length(head)? {
        return Err(HeaderError::Short);
    }
    let [.., command, family, _, _] = *head;
    // "The receiver must discard the protocol block including the family which is ignored."
    if command == LOCAL {
        return Ok(Named::Connection);
    }
    let (named, fields) = match family {
        UNSPECIFIED => (Named::Connection, rest),
        TCP_OVER_IPV4 => ipv4(rest)?,
        TCP_OVER_IPV6 => ipv6(rest)?,
        other => return Err(HeaderError::Family(other)),
    };
    let checksum = checksum(fields)?;
    if checksum.is_some_and(|checksum| !fits(header, checksum)) {
        return Err(HeaderError::Checksum);
    }
    Ok(named)
}

fn ipv4(rest: &[u8]) -> Result<(Named, &[u8]), HeaderError> {
    let (source, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
    let (destination, rest) = rest.split_first_chunk::<4>().ok_or(HeaderError::Short)?;
    ports(Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into(), rest)
}

fn ipv6(rest: &[u8]) -> Result<(Named, &[u8]), HeaderError> {
    let (source, rest) = rest.split_first_chunk::<16>().ok_or(HeaderError::Short)?;
    let (destination, rest) = rest.split_first_chunk::<16>().ok_or(HeaderError::Short)?;
    ports(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), rest)
}

fn ports(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Result<(Named, &[u8]), HeaderError> {
    let (source_port, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
    let (destination_port, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
    let source = SocketAddr::new(source, u16::from_be_bytes(*source_port));
    let destination = SocketAddr::new(destination, u16::from_be_bytes(*destination_port));
    Ok((Named::Ends { source, destination }, rest))
}

/// The checksum among the fields, which must fill what they stand in: its value, and how many bytes are behind it.
fn checksum(mut fields: &[u8]) -> Result<Option<(u32, usize)>, HeaderError> {
    let mut found = None;
    while let Some((kind, rest)) = fields.split_first() {
        let (length, rest) = rest.split_first_chunk().ok_or(HeaderError::Short)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(HeaderError::Short)?;
        if *kind == CRC32C {
            let value = value.try_into().map_err(|_| HeaderError::ChecksumForm)?;
            if found.replace((u32::from_be_bytes(value), rest.len())).is_some() {
                return Err(HeaderError::ChecksumForm);
            }
        }
        fields = rest;
    }
    Ok(found)
}

/// Whether the checksum is that of the header with zeros in its place.
fn fits(header: &[u8], (checksum, behind): (u32, usize)) -> bool {
    let place = header.len().checked_sub(behind + size_of::<u32>());
    let Some((before, from_place)) = place.and_then(|place| header.split_at_checked(place)) else { return false };
    let after = from_place.iter().skip(size_of::<u32>());
    crc32c(before.iter().chain(&[0; size_of::<u32>()]).chain(after)) == checksum
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4. Bit by bit: a header is short, and comes once a connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const REFLECTED_POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (REFLECTED_POLYNOMIAL & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &[u8] = b"\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x01\xbb";

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind], u16::try_from(value.len()).unwrap().to_be_bytes().as_slice(), value].concat()
    }

    fn ends(source: &str, destination: &str) -> Named {
        Named::Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn ipv6_rest() -> Vec<u8> {
        let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
        [address(1).as_slice(), &address(2), &[0x30, 0x39, 0x01, 0xbb]].concat()
    }

    #[test]
    fn the_ends_are_read_and_fields_are_passed_over() {
        let fields = [field(0x01, b"h2"), field(0x04, &[0; 7]), field(0xe0, b""), field(0x05, &[9; 128])].concat();
        let named = ends("192.0.2.7:12345", "198.51.100.1:443");
        assert_eq!(parse(&header(PROXY, TCP_OVER_IPV4, IPV4)), Ok(named));
        assert_eq!(parse(&header(PROXY, TCP_OVER_IPV4, &[IPV4, &fields].concat())), Ok(named));
        let named = ends("[2001:db8::1]:12345", "[2001:db8::2]:443");
        assert_eq!(parse(&header(PROXY, TCP_OVER_IPV6, &ipv6_rest())), Ok(named));
        assert_eq!(parse(&header(PROXY, TCP_OVER_IPV6, &[ipv6_rest(), fields.clone()].concat())), Ok(named));
        assert_eq!(parse(&header(PROXY, UNSPECIFIED, &fields)), Ok(Named::Connection));
        // Whatever a proxy puts behind a connection of its own.
        assert_eq!(parse(&header(LOCAL, UNSPECIFIED, b"")), Ok(Named::Connection));
        assert_eq!(parse(&header(LOCAL, 0x31, &[1; 99])), Ok(Named::Connection));
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n";
        assert_eq!(parse(v1), Err(HeaderError::Version1));
        assert_eq!(parse(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0\0\0\0"), Err(HeaderError::Signature));
        for command in [0x00, 0x10, 0x11, 0x22, 0x2f, 0x30, 0xff] {
            assert_eq!(parse(&header(command, TCP_OVER_IPV4, IPV4)), Err(HeaderError::Command(command)));
        }
        for family in [0x01, 0x10, 0x12, 0x20, 0x22, 0x31, 0x32, 0x41, 0xff] {
            let rest = [0; 216];
            assert_eq!(parse(&header(PROXY, family, &rest)), Err(HeaderError::Family(family)));
        }
        let mut long = header(PROXY, TCP_OVER_IPV4, IPV4);
        long[14..16].copy_from_slice(&4_081_u16.to_be_bytes());
        assert_eq!(length(long[..16].try_into().unwrap()), Err(HeaderError::TooLong(4_097)));
        long[14..16].copy_from_slice(&4_080_u16.to_be_bytes());
        assert_eq!(length(long[..16].try_into().unwrap()), Ok(4_080));
    }

    #[test]
    fn every_header_that_is_cut_or_says_another_length_is_refused() {
        let whole = header(PROXY, TCP_OVER_IPV4, &[IPV4, &field(0x02, b"name.example.org")].concat());
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Err(HeaderError::Short), "{cut}");
        }
        // The last field and the addresses may not reach beyond what the header says it holds, either.
        for length in 0..whole.len() - HEAD_BYTES {
            let read = parse(&header(PROXY, TCP_OVER_IPV4, &whole[HEAD_BYTES..HEAD_BYTES + length]));
            let is_between_fields = length == IPV4.len();
            assert_eq!(read.is_ok(), is_between_fields, "{length}: {read:?}");
        }
        assert_eq!(parse(&[whole.as_slice(), b"x"].concat()), Err(HeaderError::Short));
    }

    #[test]
    fn a_checksum_that_is_there_must_fit() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        let rest = [IPV4, &field(0x01, b"h2"), &field(CRC32C, &[0; 4]), &field(0x04, b"")].concat();
        let mut whole = header(PROXY, TCP_OVER_IPV4, &rest);
        let place = whole.len() - 3 - 4;
        assert_eq!(parse(&whole), Err(HeaderError::Checksum));
        let checksum = crc32c(whole.iter());
        whole[place..place + 4].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(parse(&whole), Ok(ends("192.0.2.7:12345", "198.51.100.1:443")));
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = parse(&changed);
            // What is not about somebody else, or holds no checksum any more, has nothing that fits or does not.
            let has_other_meaning = bit / 8 == 12 || (bit / 8 == place - 3);
            assert!(read.is_err() || has_other_meaning, "{bit}: {read:?}");
        }
        let twice = [IPV4, &field(CRC32C, &[0; 4]), &field(CRC32C, &[0; 4])].concat();
        for rest in [twice, [IPV4, &field(CRC32C, &[0; 3])].concat(), [IPV4, &field(CRC32C, b"")].concat()] {
            assert_eq!(parse(&header(PROXY, TCP_OVER_IPV4, &rest)), Err(HeaderError::ChecksumForm));
        }
    }
}
