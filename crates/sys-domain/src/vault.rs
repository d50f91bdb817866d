//! Under what everything is kept in the vault of sys-core, and in which form.
//!
//! Forms begin with a number, and one that is not known is trouble that is told, never taken for nothing: a key that was made
//! anew because its old form was not read would be one that nobody expects.

use crate::ech;
use prost::Message;
use sys_core::vault::{Change, Item};
use sys_edge::ech::{EchError, EchKey};
use zeroize::{Zeroize, Zeroizing};

/// Record sets that people entered: `NAME TYPE`.
pub(crate) const ZONE: &str = "zone";
/// The last serial of a zone: its domain.
pub(crate) const SERIAL: &str = "zone-serial";
/// The keys that sign a zone: its domain.
pub(crate) const DNSSEC: &str = "dnssec";
/// ECH keys.
pub(crate) const ECH: &str = "ech";
/// What people ask of the keeper.
pub(crate) const WISH: &str = "wish";
/// Whatever sys-acme keeps: its account, certificates, how tries went.
pub(crate) const ACME: &str = "acme";
/// The same of the CA of the server's own.
pub(crate) const LOCAL_CA: &str = "local-ca";

const FORMAT: u32 = 1;

/// Why something that is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// The bytes are of no form that is known.
    #[error("it is of a form that this version does not know: start the version that wrote it, or restore a backup")]
    Form,
    /// Not a key with its configuration.
    #[error(transparent)]
    Ech(#[from] EchError),
}

#[derive(Clone, PartialEq, Message)]
struct KeptEch {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    config: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    private: Vec<u8>,
    #[prost(int64, tag = "4")]
    made_unix_s: i64,
    #[prost(bool, tag = "5")]
    published: bool,
    #[prost(int64, optional, tag = "6")]
    retired_unix_s: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptSerial {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint32, tag = "2")]
    serial: u32,
}

/// An ECH key with what is decided about it.
#[derive(Debug)]
pub(crate) struct KeptKey {
    pub(crate) key: EchKey,
    pub(crate) about: ech::Key,
}

impl KeptKey {
    /// A key that has just been made.
    pub(crate) fn new(key: EchKey, now: i64) -> Self {
        let about = ech::Key {
            // Two keys that are kept at a time have different numbers.
            id: format!("{now:012}-{:03}", key.config_id()),
            public_name: key.public_name().to_owned(),
            made_unix_s: now,
            published: false,
            retired_unix_s: None,
        };
        Self { key, about }
    }

    /// As it is kept.
    pub(crate) fn put(&self) -> Change {
        put_key(&self.key, &self.about)
    }

    /// The change that keeps it with something else decided about it.
    pub(crate) fn with(&self, decide: impl FnOnce(&mut ech::Key)) -> Change {
        let mut about = self.about.clone();
        decide(&mut about);
        put_key(&self.key, &about)
    }

    /// The key once more, for a listener to have.
    pub(crate) fn copy(&self) -> Result<EchKey, EchError> {
        EchKey::from_parts(self.key.config().to_vec(), Zeroizing::new(self.key.private().to_vec()))
    }

    /// What is kept.
    pub(crate) fn read(item: &Item) -> Result<Self, KeptError> {
        let mut kept = KeptEch::decode(item.value.as_slice()).map_err(|_| KeptError::Form)?;
        let private = Zeroizing::new(std::mem::take(&mut kept.private));
        if kept.format != FORMAT {
            return Err(KeptError::Form);
        }
        let key = EchKey::from_parts(kept.config, private)?;
        let about = ech::Key {
            id: item.name.clone(),
            public_name: key.public_name().to_owned(),
            made_unix_s: kept.made_unix_s,
            published: kept.published,
            retired_unix_s: kept.retired_unix_s,
        };
        Ok(Self { key, about })
    }
}

fn put_key(key: &EchKey, about: &ech::Key) -> Change {
    let mut kept = KeptEch {
        format: FORMAT,
        config: key.config().to_vec(),
        private: key.private().to_vec(),
        made_unix_s: about.made_unix_s,
        published: about.published,
        retired_unix_s: about.retired_unix_s,
    };
    let value = Zeroizing::new(kept.encode_to_vec());
    kept.private.zeroize();
    put(ECH, &about.id, value)
}

/// The change that keeps these bytes.
pub(crate) fn put(kind: &str, name: &str, value: Zeroizing<Vec<u8>>) -> Change {
    Change::Put(Item { kind: kind.to_owned(), name: name.to_owned(), value })
}

/// The change that lets go of something.
pub(crate) fn remove(kind: &str, name: &str) -> Change {
    Change::Remove { kind: kind.to_owned(), name: name.to_owned() }
}

/// The change that keeps the serial of a zone.
pub(crate) fn put_serial(apex: &str, serial: u32) -> Change {
    put(SERIAL, apex, Zeroizing::new(KeptSerial { format: FORMAT, serial }.encode_to_vec()))
}

/// The serial that is kept.
pub(crate) fn read_serial(bytes: &[u8]) -> Result<u32, KeptError> {
    let kept = KeptSerial::decode(bytes).ok().filter(|kept| kept.format == FORMAT);
    kept.map(|kept| kept.serial).ok_or(KeptError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_with_what_was_decided_about_it() {
        let mut key = KeptKey::new(EchKey::generate(7, "public.example").unwrap(), 1_800_000_000);
        key.about.published = true;
        key.about.retired_unix_s = Some(1_800_000_100);
        let Change::Put(item) = key.put() else { panic!("it is put") };
        let read = KeptKey::read(&item).unwrap();
        assert_eq!(read.about, key.about);
        assert_eq!((read.key.config(), read.key.private()), (key.key.config(), key.key.private()));
        let with =
            |value: Vec<u8>| Item { value: Zeroizing::new(value), kind: item.kind.clone(), name: item.name.clone() };
        assert!(matches!(KeptKey::read(&with(vec![0xff])), Err(KeptError::Form)));
        assert!(matches!(KeptKey::read(&with(vec![])), Err(KeptError::Form)));
        let shown = format!("{read:?} {item:?}");
        assert!(!shown.contains("private"), "{shown}");
    }

    #[test]
    fn a_serial_is_kept() {
        let Change::Put(item) = put_serial("example.org.", u32::MAX) else { panic!("it is put") };
        assert_eq!(read_serial(&item.value).unwrap(), u32::MAX);
        assert!(read_serial(b"").is_err());
    }
}
