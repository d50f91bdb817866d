//! Compact denial of existence (RFC 9824): one NSEC at the name that was asked for, whose next name follows at once, lists the kinds
//! that are there. Of a name that does not exist it lists NXNAME.

use crate::name::Name;
use std::collections::BTreeSet;

/// The kind of signatures.
pub(crate) const RRSIG: u16 = 46;
/// The kind of denials.
pub(crate) const NSEC: u16 = 47;
/// Stands in a denial alone: the name does not exist.
pub(crate) const NXNAME: u16 = 128;

/// The data of the NSEC at `name`, where these kinds are, RRSIG and NSEC besides.
pub(crate) fn denial(name: &Name, kinds: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let kinds: BTreeSet<u16> = kinds.into_iter().chain([RRSIG, NSEC]).collect();
    let mut data = name.successor().wire().to_vec();
    // Blocks of 256 kinds, each with as many octets as its last kind needs (RFC 4034 section 4.1.2).
    let mut blocks: Vec<(u8, Vec<u8>)> = Vec::new();
    for kind in kinds {
        let [block, within] = kind.to_be_bytes();
        if blocks.last().is_none_or(|(last, _)| *last != block) {
            blocks.push((block, Vec::new()));
        }
        let octet = usize::from(within / 8);
        if let Some((_, bits)) = blocks.last_mut() {
            bits.resize(octet.saturating_add(1), 0);
            if let Some(bits) = bits.last_mut() {
                *bits |= 0x80 >> (within % 8);
            }
        }
    }
    for (block, bits) in blocks {
        // At most 32, for 256 kinds.
        data.extend_from_slice(&[block, u8::try_from(bits.len()).unwrap_or(32)]);
        data.extend_from_slice(&bits);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        dnssec::rdata::DNSSECRData,
        rr::{RData, RecordType},
        serialize::binary::{BinDecoder, Restrict},
    };

    #[test]
    fn another_reader_finds_the_kinds() {
        let data = denial(&Name::parse("a.example.org").unwrap(), [1, 28, 257, 65, NXNAME, u16::MAX]);
        let length = Restrict::new(u16::try_from(data.len()).unwrap());
        let read = RData::read(&mut BinDecoder::new(&data), RecordType::NSEC, length).unwrap();
        let RData::DNSSEC(DNSSECRData::NSEC(read)) = read else { panic!("{read:?}") };
        assert_eq!(read.next_domain_name().to_string(), "\\000.a.example.org.");
        let mut kinds: Vec<u16> = read.type_bit_maps().map(u16::from).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [1, 28, 46, 47, 65, 128, 257, u16::MAX]);
    }
}
