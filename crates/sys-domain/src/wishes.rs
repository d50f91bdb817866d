//! What people ask of the keeper: left in the vault with their call, so that it is done if and only if the call was allowed, once,
//! also by a server that is stopped in between.

use prost::Message;
use sys_core::{call::Call, refusal::Refusal, vault::Vault};
use sys_dns::name::Name;

use crate::vault;

/// The number of the form that wishes are kept in.
const FORMAT: u32 = 1;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// New ECH keys.
    RotateEch,
    /// A new key that signs the zone of this domain.
    RollKey(Name),
    /// Another certificate in place of this one.
    Renew(String),
    /// The same, and that the old one is declared void.
    Revoke(String),
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(int64, tag = "2")]
    asked_unix_s: i64,
}

impl Wish {
    /// What it is kept under. Who asks twice before it is done has asked once.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::RotateEch => "rotate-ech".to_owned(),
            Self::RollKey(apex) => format!("roll-key {apex}"),
            Self::Renew(name) => format!("renew {name}"),
            Self::Revoke(name) => format!("revoke {name}"),
        }
    }

    fn at(place: &str) -> Option<Self> {
        match place.split_once(' ') {
            None if place == "rotate-ech" => Some(Self::RotateEch),
            Some(("roll-key", apex)) => Name::parse(apex).ok().map(Self::RollKey),
            Some(("renew", name)) => Some(Self::Renew(name.to_owned())),
            Some(("revoke", name)) => Some(Self::Revoke(name.to_owned())),
            _ => None,
        }
    }

    /// Leaves it with a call.
    pub(crate) async fn leave(&self, vault: &Vault, call: &Call) -> Result<(), Refusal> {
        let kept = Kept { format: FORMAT, asked_unix_s: call.now().unix_s };
        vault.put(call, vault::WISH, &self.place(), &kept.encode_to_vec()).await
    }

    /// What stands in the vault, and when it was asked for; `None` of what no server of this version has left.
    pub(crate) fn read(place: &str, bytes: &[u8]) -> Option<(Self, i64)> {
        let kept = Kept::decode(bytes).ok().filter(|kept| kept.format == FORMAT)?;
        Some((Self::at(place)?, kept.asked_unix_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wish_is_found_again() {
        let name = "*.example.org".to_owned();
        let apex = Name::parse("example.org").unwrap();
        for wish in [Wish::RotateEch, Wish::RollKey(apex), Wish::Renew(name.clone()), Wish::Revoke(name)] {
            let bytes = Kept { format: FORMAT, asked_unix_s: 7 }.encode_to_vec();
            assert_eq!(Wish::read(&wish.place(), &bytes), Some((wish.clone(), 7)));
            assert_eq!(Wish::read(&wish.place(), b"\xff"), None);
        }
        assert_eq!(Wish::read("something else", &[]), None);
    }
}
