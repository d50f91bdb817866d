//! The keys of a tablespace: one set for each live generation, ready for use.
//!
//! All that happens to a record's bytes happens through these functions; the keys behind them never leave. Writes use
//! [`SpaceKeys::newest`], reads the generation that stands in the header, UNIQUE checks and token reads all that are live.

use crate::{
    aead::{AeadKey, NONCE_BYTES, OpenError},
    derivation::{DATA, ETAG, INDEX, PAGE_TOKEN, Root},
    parts,
    secret::Secret,
};
use aws_lc_rs::hmac;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use sys_contract::id::OrgTag;

/// How many messages one generation may seal before the next one must take over. Among 2^32 random nonces of 96 bits one
/// repeats with a probability of about 2^-33 (NIST SP 800-38D, section 8.3, sets the same bound for the same reason), and
/// a repeated nonce shows no more than the equality of two messages.
pub const MESSAGE_BOUND: u64 = 1 << 32;
/// Bytes of an index token and of an etag: two values share one by chance only after about 2^64 of them.
pub const TOKEN_BYTES: usize = 16;

/// The number of a tablespace key, from 1. It stands in every record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u32);

impl Generation {
    /// That of a tablespace's first key.
    pub const FIRST: Self = Self(1);
}

/// A tablespace: what a module keeps for an org, or for no org.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId {
    /// The module's number in the store's catalog.
    pub module: u16,
    /// The org, or [`OrgTag::GLOBAL`].
    pub org: OrgTag,
}

/// The keys of one tablespace at one moment: a rotation makes a new value and leaves this one as it is.
#[derive(Debug)]
pub struct SpaceKeys {
    /// INVARIANT: the generations before `newest`, oldest first, then `newest`: never empty, numbers ascend.
    live: Vec<GenerationKeys>,
}

impl SpaceKeys {
    /// The generations in ascending order; `None` if there are none.
    pub(crate) fn new(live: Vec<GenerationKeys>) -> Option<Self> {
        (!live.is_empty()).then_some(Self { live })
    }

    /// The generation that writes use.
    pub fn newest(&self) -> &GenerationKeys {
        #[allow(clippy::expect_used, reason = "INVARIANT: at `live`")]
        self.live.last().expect("a tablespace has a generation")
    }

    /// The generation with this number, if it is live.
    pub fn generation(&self, generation: Generation) -> Option<&GenerationKeys> {
        let at = self.live.binary_search_by_key(&generation, GenerationKeys::generation).ok()?;
        self.live.get(at)
    }

    /// All live generations, oldest first.
    pub fn live(&self) -> &[GenerationKeys] {
        &self.live
    }
}

/// The keys below one tablespace key.
pub struct GenerationKeys {
    generation: Generation,
    root: Root,
    data: AeadKey,
    page_token: AeadKey,
    index: hmac::Key,
    etag: hmac::Key,
    /// Shared by all values of the same generation in this process.
    messages: Arc<AtomicU64>,
}

impl GenerationKeys {
    pub(crate) fn new(generation: Generation, root: Root, messages: Arc<AtomicU64>) -> Self {
        Self {
            generation,
            data: root.aead_key(DATA),
            page_token: root.aead_key(PAGE_TOKEN),
            index: root.mac_key(INDEX),
            etag: root.mac_key(ETAG),
            root,
            messages,
        }
    }

    /// The number that goes into the header.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Seals a record's bytes: ciphertext and tag, [`TAG_BYTES`](crate::TAG_BYTES) longer. `AES-256-GCM-SIV(key =
    /// HKDF(tablespace key, "sys/data/v1"), nonce, aad)`. The nonce must be random; `aad` must name all that gives the
    /// record its place (see [`length_prefixed`](crate::length_prefixed)).
    pub fn seal(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], plaintext: Vec<u8>) -> Vec<u8> {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.data.seal(aad, nonce, plaintext)
    }

    /// Opens what [`GenerationKeys::seal`] sealed with the same `aad` and nonce.
    pub fn open(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.data.open(aad, nonce, sealed)
    }

    /// How many records and page tokens this process has sealed under this generation since it started: a lower bound for
    /// the generation, to be compared with [`MESSAGE_BOUND`] after what is stored already is added.
    pub fn sealed_messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// The token of a value in an index: the first 16 bytes of `HMAC-SHA256(HKDF(tablespace key, "sys/index/v1"), length
    /// of index | index | value)`. Equal values have equal tokens within one index, and tokens of two indexes tell nothing
    /// about each other.
    pub fn token(&self, index: &[u8], value: &[u8]) -> [u8; TOKEN_BYTES] {
        let mut mac = hmac::Context::with_key(&self.index);
        mac.update(&parts::length(index));
        mac.update(index);
        mac.update(value);
        truncated(&mac.sign())
    }

    /// Seals a page token under a key of its own: what a record's key sealed never opens as one. As for
    /// [`GenerationKeys::seal`], the nonce must be random.
    pub fn seal_page_token(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], plaintext: Vec<u8>) -> Vec<u8> {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.page_token.seal(aad, nonce, plaintext)
    }

    /// Opens what [`GenerationKeys::seal_page_token`] sealed with the same `aad` and nonce.
    pub fn open_page_token(&self, aad: &[u8], nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.page_token.open(aad, nonce, sealed)
    }

    /// The etag of what a caller sees of a record: the first 16 bytes of `HMAC-SHA256(HKDF(tablespace key, "sys/etag/v1"),
    /// view)`. Keyed, so that nobody can test guesses about a view against it.
    pub fn etag(&self, view: &[u8]) -> [u8; TOKEN_BYTES] {
        truncated(&hmac::sign(&self.etag, view))
    }

    /// A secret for a purpose of the caller's: `HKDF(tablespace key, "sys/purpose/v1/" + purpose)`. One purpose, one use.
    pub fn derive(&self, purpose: &str) -> Secret<32> {
        self.root.secret(purpose)
    }
}

impl fmt::Debug for GenerationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenerationKeys").field("generation", &self.generation.0).finish_non_exhaustive()
    }
}

fn truncated(mac: &hmac::Tag) -> [u8; TOKEN_BYTES] {
    let mut token = [0; TOKEN_BYTES];
    token.iter_mut().zip(mac.as_ref()).for_each(|(to, from)| *to = *from);
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::TAG_BYTES;
    use proptest::prelude::*;

    fn keys(byte: u8) -> GenerationKeys {
        let root = Root::new(&Secret::filled(|key| key.fill(byte)));
        GenerationKeys::new(Generation(u32::from(byte)), root, Arc::default())
    }

    proptest! {
        #[test]
        fn sealed_bytes_open_only_as_they_were_sealed(
            aad in proptest::collection::vec(any::<u8>(), 1..80),
            nonce: [u8; NONCE_BYTES],
            plaintext in proptest::collection::vec(any::<u8>(), 0..400),
            at: prop::sample::Index,
        ) {
            let keys = keys(1);
            let sealed = keys.seal(&aad, nonce, plaintext.clone());
            prop_assert_eq!(sealed.len(), plaintext.len() + TAG_BYTES);
            prop_assert_eq!(keys.open(&aad, nonce, &sealed), Ok(plaintext));

            let bit = at.index(8 * (aad.len() + NONCE_BYTES + sealed.len()));
            let (mut aad, mut nonce, mut sealed) = (aad, nonce, sealed);
            *aad.iter_mut().chain(&mut nonce).chain(&mut sealed).nth(bit / 8).unwrap() ^= 1 << (bit % 8);
            prop_assert_eq!(keys.open(&aad, nonce, &sealed), Err(OpenError));
        }

        #[test]
        fn anything_cut_short_does_not_open(length in 0_usize..60) {
            let keys = keys(1);
            let sealed = keys.seal(b"a", [0; NONCE_BYTES], vec![7; 44]);
            prop_assert_eq!(keys.open(b"a", [0; NONCE_BYTES], &sealed[..length]), Err(OpenError));
        }
    }

    #[test]
    fn one_key_does_not_open_what_another_sealed() {
        let nonce = [3; NONCE_BYTES];
        let sealed = keys(1).seal(b"a", nonce, b"text".to_vec());
        assert_eq!(keys(2).open(b"a", nonce, &sealed), Err(OpenError));
        assert_eq!(keys(1).open_page_token(b"a", nonce, &sealed), Err(OpenError));
        let token = keys(1).seal_page_token(b"a", nonce, b"text".to_vec());
        assert_eq!(keys(1).open(b"a", nonce, &token), Err(OpenError));
        assert_eq!(keys(1).open_page_token(b"a", nonce, &token), Ok(b"text".to_vec()));
    }

    #[test]
    fn tokens_tell_indexes_values_and_generations_apart() {
        let token = keys(1).token(b"title", b"plan");
        assert_eq!(token, keys(1).token(b"title", b"plan"));
        for other in [
            keys(1).token(b"title", b"plane"),
            keys(1).token(b"titlep", b"lan"),
            keys(2).token(b"title", b"plan"),
            keys(1).etag(b"plan"),
        ] {
            assert_ne!(token, other);
        }
    }

    #[test]
    fn etags_are_keyed() {
        assert_eq!(keys(1).etag(b"view"), keys(1).etag(b"view"));
        assert_ne!(keys(1).etag(b"view"), keys(1).etag(b"views"));
        assert_ne!(keys(1).etag(b"view"), keys(2).etag(b"view"));
    }

    #[test]
    fn purposes_get_secrets_of_their_own() {
        assert_eq!(keys(1).derive("audit"), keys(1).derive("audit"));
        assert_ne!(keys(1).derive("audit"), keys(1).derive("signing"));
        assert_ne!(keys(1).derive("audit"), keys(2).derive("audit"));
    }

    #[test]
    fn seals_are_counted() {
        let keys = keys(1);
        for _ in 0..3 {
            keys.seal(b"", [0; NONCE_BYTES], Vec::new());
        }
        assert_eq!(keys.sealed_messages(), 3);
    }

    #[test]
    fn a_tablespace_has_a_newest_generation_and_finds_each() {
        assert!(SpaceKeys::new(Vec::new()).is_none());
        let space = SpaceKeys::new(vec![keys(2), keys(3), keys(7)]).unwrap();
        assert_eq!(space.newest().generation(), Generation(7));
        assert_eq!(space.generation(Generation(3)).map(GenerationKeys::generation), Some(Generation(3)));
        assert!(space.generation(Generation(4)).is_none());
        assert_eq!(space.live().len(), 3);
    }

    #[test]
    fn debug_shows_the_generation_and_no_key() {
        let shown = format!("{:?}", SpaceKeys::new(vec![keys(9)]));
        assert_eq!(shown, "Some(SpaceKeys { live: [GenerationKeys { generation: 9, .. }] })");
    }
}
