//! The reader and writer of ECH configurations (RFC 9849 section 4). Its bytes come from the DNS, so from anybody.

use super::{EchError, MOST_CONFIGS, VERSION, is_public_name};

/// Bytes of a list at most: its length stands in two.
const MOST_BYTES: usize = u16::MAX as usize + 2;
/// Bytes of a configuration of our own at most: [`MOST_CONFIGS`] of them fit into a list, and the largest that is made here has
/// 313.
const MOST_CONFIG_BYTES: usize = 2_048;
/// An extension that has this bit set is to be understood, or the configuration left alone.
const MANDATORY: u16 = 0x8000;

/// A configuration of the version that we know.
// INVARIANT: each part fits behind its length, since it was read from behind one, or made in `EchKey::generate`. So nobody else
// can put one together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EchConfig {
    /// What tells the keys of one server apart.
    pub config_id: u8,
    /// Of the HPKE registry.
    pub kem: u16,
    /// In the form that the KEM has.
    pub public_key: Vec<u8>,
    /// What a client may seal with.
    pub suites: Vec<Suite>,
    /// Names up to this length are padded to it.
    pub maximum_name_length: u8,
    /// The name that stands in the clear.
    pub public_name: String,
    /// Extensions by type, none of which must be understood. None are defined so far.
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// How a client hello is sealed, by numbers of the HPKE registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    /// Key derivation.
    pub kdf: u16,
    /// Sealing.
    pub aead: u16,
}

impl EchConfig {
    /// As it stands in a list.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut contents = vec![self.config_id];
        contents.extend(self.kem.to_be_bytes());
        put_prefixed(&mut contents, &self.public_key);
        let suites: Vec<u8> = self
            .suites
            .iter()
            .flat_map(|suite| [suite.kdf.to_be_bytes(), suite.aead.to_be_bytes()])
            .flatten()
            .collect();
        put_prefixed(&mut contents, &suites);
        let name = self.public_name.as_bytes();
        contents.extend([self.maximum_name_length, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        contents.extend(name.iter().take(usize::from(u8::MAX)));
        let mut extensions = Vec::new();
        for (kind, data) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            put_prefixed(&mut extensions, data);
        }
        put_prefixed(&mut contents, &extensions);
        let mut config = VERSION.to_be_bytes().to_vec();
        put_prefixed(&mut config, &contents);
        config
    }
}

/// The configurations of a list that can be used, in its order: those of another version, with a name that is none, or with an
/// extension that would have to be understood are left out, as the RFC wants it.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<EchConfig>, EchError> {
    if bytes.len() > MOST_BYTES {
        return Err(EchError::Malformed("longer than a list can be"));
    }
    let mut reader = Reader(bytes);
    let mut list = Reader(reader.prefixed()?);
    reader.end()?;
    if list.is_empty() {
        return Err(EchError::Malformed("an empty list"));
    }
    let (mut configs, mut count) = (Vec::new(), 0);
    while !list.is_empty() {
        count += 1;
        if count > MOST_CONFIGS {
            return Err(EchError::Malformed("more configurations than anybody needs"));
        }
        configs.extend(config(&mut list)?);
    }
    Ok(configs)
}

/// The one configuration that these bytes are, so short that a list has room for it.
pub(super) fn one(bytes: &[u8]) -> Result<EchConfig, EchError> {
    if bytes.len() > MOST_CONFIG_BYTES {
        return Err(EchError::Malformed("longer than one of our own"));
    }
    let mut reader = Reader(bytes);
    let config = config(&mut reader)?.ok_or(EchError::Malformed("not of a kind that can be used"))?;
    reader.end()?;
    Ok(config)
}

/// Writes bytes behind their length in two bytes, which they fit behind by the invariant of [`EchConfig`].
pub(super) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

/// The next configuration, if it can be used.
fn config(list: &mut Reader<'_>) -> Result<Option<EchConfig>, EchError> {
    let version = list.number()?;
    let mut contents = Reader(list.prefixed()?);
    if version != VERSION {
        return Ok(None);
    }
    let config_id = contents.byte()?;
    let kem = contents.number()?;
    let public_key = contents.prefixed()?.to_vec();
    let mut listed = Reader(contents.prefixed()?);
    let mut suites = Vec::new();
    while !listed.is_empty() {
        suites.push(Suite { kdf: listed.number()?, aead: listed.number()? });
    }
    let maximum_name_length = contents.byte()?;
    let name_length = contents.byte()?;
    let name = contents.take(usize::from(name_length))?;
    let extended = contents.prefixed()?;
    contents.end()?;
    if public_key.is_empty() || suites.is_empty() || name.is_empty() {
        return Err(EchError::Malformed("without key, suite or public name"));
    }
    let Some(public_name) = std::str::from_utf8(name).ok().filter(|name| is_public_name(name)) else { return Ok(None) };
    let extensions = extensions(extended)?;
    if extensions.iter().any(|(kind, _)| kind & MANDATORY != 0) {
        return Ok(None);
    }
    let public_name = public_name.to_owned();
    Ok(Some(EchConfig { config_id, kem, public_key, suites, maximum_name_length, public_name, extensions }))
}

fn extensions(listed: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, EchError> {
    let mut listed = Reader(listed);
    let mut extensions: Vec<(u16, Vec<u8>)> = Vec::new();
    while !listed.is_empty() {
        let (kind, data) = (listed.number()?, listed.prefixed()?.to_vec());
        extensions.push((kind, data));
    }
    let mut kinds: Vec<u16> = extensions.iter().map(|(kind, _)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() != extensions.len() {
        return Err(EchError::Malformed("one extension twice"));
    }
    Ok(extensions)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn end(&self) -> Result<(), EchError> {
        if self.is_empty() { Ok(()) } else { Err(EchError::Malformed("something stands behind the end")) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], EchError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EchError::Malformed("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, EchError> {
        let (byte, rest) = self.0.split_first().ok_or(EchError::Malformed("cut short"))?;
        self.0 = rest;
        Ok(*byte)
    }

    fn number(&mut self) -> Result<u16, EchError> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], EchError> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EchConfig {
        EchConfig {
            config_id: 3,
            kem: 0x20,
            public_key: vec![9; 32],
            suites: vec![Suite { kdf: 1, aead: 1 }, Suite { kdf: 1, aead: 3 }],
            maximum_name_length: 64,
            public_name: "ech.example.org".to_owned(),
            extensions: vec![(1, b"x".to_vec())],
        }
    }

    fn list(configs: &[&[u8]]) -> Vec<u8> {
        let mut list = Vec::new();
        put_prefixed(&mut list, &configs.concat());
        list
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_the_rest_is_read() {
        let good = sample().to_bytes();
        let newer = [&[0xfe, 0x0e, 0, 3][..], b"new"].concat();
        let mandatory = EchConfig { extensions: vec![(0x8001, Vec::new())], ..sample() }.to_bytes();
        let address = EchConfig { public_name: "192.0.2.1".to_owned(), ..sample() }.to_bytes();
        let read = parse_list(&list(&[&newer, &mandatory, &good, &address])).unwrap();
        assert_eq!(read, [sample()]);
        assert_eq!(parse_list(&list(&[&newer])).unwrap(), []);
    }

    #[test]
    fn a_list_that_is_cut_or_longer_than_it_says_is_refused() {
        let good = list(&[&sample().to_bytes(), &sample().to_bytes()]);
        assert_eq!(parse_list(&good).unwrap().len(), 2);
        for length in 0..good.len() {
            assert!(parse_list(&good[..length]).is_err(), "{length}");
        }
        assert!(parse_list(&[&good[..], b"x"].concat()).is_err());
        assert!(parse_list(&[0, 0]).is_err());
        assert!(parse_list(&vec![0; MOST_BYTES + 1]).is_err());
    }

    #[test]
    fn no_more_is_read_than_anybody_needs() {
        let newer: &[u8] = &[0xfe, 0x0e, 0, 0];
        assert!(parse_list(&list(&vec![newer; MOST_CONFIGS])).is_ok());
        assert!(parse_list(&list(&vec![newer; MOST_CONFIGS + 1])).is_err());
    }

    #[test]
    fn a_configuration_without_its_parts_is_refused() {
        let broken = [
            EchConfig { public_key: Vec::new(), ..sample() },
            EchConfig { suites: Vec::new(), ..sample() },
            EchConfig { public_name: String::new(), ..sample() },
            EchConfig { extensions: vec![(1, Vec::new()), (1, Vec::new())], ..sample() },
        ];
        for config in broken {
            assert!(parse_list(&list(&[&config.to_bytes()])).is_err(), "{config:?}");
        }
    }
}
