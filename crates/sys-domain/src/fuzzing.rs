//! A door for fuzz targets: what reads bytes from outside. It opens nothing that is stored.

use sys_dns::zone::{Kind, Name};

/// Reads a resolver's answer to a question for the name servers, and for the DS records, of `example.org`.
pub fn resolver_answer(message: &[u8]) {
    let Ok(name) = Name::parse("example.org") else { return };
    let id = message.first_chunk().copied().map(u16::from_be_bytes).unwrap_or_default();
    for kind in [Kind::Ns, Kind::Ds, Kind::A] {
        // Whatever it says, it is read or refused.
        let _ = crate::ask::read(message, id, &name, kind);
    }
}
