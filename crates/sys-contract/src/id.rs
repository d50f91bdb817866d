//! Ids: 6 bytes of org tag and a UUIDv7, in text `note_` + base32.
//!
//! An id says by itself in which org's tablespace its record lives, so that the gate never looks elsewhere for it.
//! Nothing here reads a clock or a random source: both are arguments. The text form is canonical: one id, one text.

use data_encoding::{Encoding, Specification};
use std::{fmt, str::FromStr, sync::LazyLock};
use uuid::Uuid;

/// Bytes of an [`OrgTag`].
pub const ORG_TAG_BYTES: usize = 6;
/// Bytes of a [`RecordId`]: the org tag and a UUID.
pub const RECORD_ID_BYTES: usize = ORG_TAG_BYTES + 16;
/// Characters of a record id's base32 part: 22 bytes, 5 bits a character.
const BASE32_CHARS: usize = 36;

/// RFC 4648 base32hex in lower case without padding: keeps the order of the bytes, and refuses trailing bits, so that no
/// id has two texts.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
    #[allow(clippy::expect_used, reason = "INVARIANT: 32 distinct ASCII symbols are a valid base32 alphabet")]
    specification.encoding().expect("base32hex is a valid specification")
});

/// Names an org in keys and ids. Random and unique; [`OrgTag::GLOBAL`] is no org.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgTag([u8; ORG_TAG_BYTES]);

impl OrgTag {
    /// The tag of records that belong to no org.
    pub const GLOBAL: Self = Self([0; ORG_TAG_BYTES]);

    /// The tag with these bytes.
    pub const fn from_bytes(bytes: [u8; ORG_TAG_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they stand in keys.
    pub const fn as_bytes(&self) -> &[u8; ORG_TAG_BYTES] {
        &self.0
    }

    /// Whether this is the tag of no org.
    pub fn is_global(&self) -> bool {
        *self == Self::GLOBAL
    }

    /// The tag of the org whose record has this id: the last 6 bytes of its UUIDv7, which are random. An org is created
    /// only if no other org has its tag, and never with [`OrgTag::GLOBAL`].
    pub fn of_org(org: RecordId) -> Self {
        let [.., a, b, c, d, e, f] = *org.uuid.as_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Debug for OrgTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_global() { f.write_str("GLOBAL") } else { f.write_str(&BASE32.encode(&self.0)) }
    }
}

/// The id of a record of any type: where it lives and which it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// The org whose tablespace holds the record.
    pub org: OrgTag,
    /// Unique by itself, ordered by the time of creation.
    pub uuid: Uuid,
}

impl RecordId {
    /// A new id, from the time in Unix milliseconds and 10 random bytes (RFC 9562 section 5.7).
    pub fn new(org: OrgTag, unix_ms: u64, random: [u8; 10]) -> Self {
        Self { org, uuid: uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid() }
    }

    /// The id with these bytes.
    pub fn from_bytes(bytes: [u8; RECORD_ID_BYTES]) -> Self {
        let [a, b, c, d, e, f, uuid @ ..] = bytes;
        Self { org: OrgTag([a, b, c, d, e, f]), uuid: Uuid::from_bytes(uuid) }
    }

    /// Its bytes: org tag, then UUID.
    pub fn to_bytes(self) -> [u8; RECORD_ID_BYTES] {
        let [a, b, c, d, e, f] = self.org.0;
        let u = self.uuid.into_bytes();
        let mut bytes = [0; RECORD_ID_BYTES];
        for (to, from) in bytes.iter_mut().zip([a, b, c, d, e, f].into_iter().chain(u)) {
            *to = from;
        }
        bytes
    }

    /// The text form, such as `note_05g…`, for a record type with this prefix.
    pub fn text(&self, prefix: &str) -> String {
        let mut text = String::with_capacity(prefix.len() + 1 + BASE32_CHARS);
        text.push_str(prefix);
        text.push('_');
        BASE32.encode_append(&self.to_bytes(), &mut text);
        text
    }

    /// Reads the text form of an id of a record type with this prefix.
    pub fn parse(text: &str, prefix: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
        let Some(rest) = rest else { return Err(IdError::Prefix { expected: prefix.to_owned() }) };
        if rest.len() != BASE32_CHARS {
            return Err(IdError::Encoding { expected: prefix.to_owned() });
        }
        // INVARIANT: BASE32_CHARS characters decode to RECORD_ID_BYTES bytes, so that the lengths match.
        let mut bytes = [0; RECORD_ID_BYTES];
        match BASE32.decode_mut(rest.as_bytes(), &mut bytes) {
            Ok(_) => Ok(Self::from_bytes(bytes)),
            Err(_) => Err(IdError::Encoding { expected: prefix.to_owned() }),
        }
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.org, self.uuid)
    }
}

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It does not begin with the type's prefix.
    #[error("not an id of this kind: it begins with `{expected}_`")]
    Prefix {
        /// The prefix that was expected.
        expected: String,
    },
    /// What follows the prefix is not the base32 of an id.
    #[error("not an id: after `{expected}_` stand 36 characters 0-9 and a-v")]
    Encoding {
        /// The prefix that was expected.
        expected: String,
    },
}

/// Makes an id type of its own for a record type, so that ids of different kinds cannot be mixed up.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(RecordId);

        impl $name {
            /// What stands before `_` in the text form.
            pub const PREFIX: &'static str = $prefix;

            /// The id of the record with this id, which is of this type.
            pub const fn from_record(id: RecordId) -> Self {
                Self(id)
            }

            /// The id without its type.
            pub const fn record(&self) -> RecordId {
                self.0
            }

            /// The part that is unique by itself.
            pub const fn uuid(&self) -> Uuid {
                self.0.uuid
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.text(Self::PREFIX))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                RecordId::parse(text, Self::PREFIX).map(Self)
            }
        }
    };
}

id_type!(
    /// An account: a person who can log in.
    AccountId,
    "account"
);
id_type!(
    /// An org's record in the global directory; [`OrgId::tag`] names its tablespaces.
    OrgId,
    "org"
);
id_type!(
    /// A project's record in the global directory.
    ProjectId,
    "project"
);
id_type!(
    /// A session: one login on one device.
    SessionId,
    "session"
);

impl OrgId {
    /// The tag under which the org's records live.
    pub fn tag(&self) -> OrgTag {
        OrgTag::of_org(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_id() -> impl Strategy<Value = RecordId> {
        any::<[u8; RECORD_ID_BYTES]>().prop_map(RecordId::from_bytes)
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(id in any_id()) {
            prop_assert_eq!(RecordId::parse(&id.text("note"), "note"), Ok(id));
            prop_assert_eq!(RecordId::from_bytes(id.to_bytes()), id);
        }

        #[test]
        fn text_keeps_the_order_of_ids(a in any_id(), b in any_id()) {
            prop_assert_eq!(a.cmp(&b), a.text("n").cmp(&b.text("n")));
        }

        #[test]
        fn one_id_has_one_text(text in "note_[0-9a-vA-Z=]{35,37}") {
            if let Ok(id) = RecordId::parse(&text, "note") {
                prop_assert_eq!(id.text("note"), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let id = RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [7; 10]);
        assert_eq!(id.uuid.get_version_num(), 7);
        assert!(id.text("account").parse::<AccountId>().is_ok());
        assert!(matches!(id.text("org").parse::<AccountId>(), Err(IdError::Prefix { .. })));
        assert!(matches!("account_".parse::<AccountId>(), Err(IdError::Encoding { .. })));
    }
}
