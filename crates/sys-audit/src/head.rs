//! A tree head: what a server signs of a log at one moment, and what a later head owes to an earlier one.
//!
//! Signed is, with Ed25519 (RFC 8032), `label | length of the log's id (u16) | id | size (u64) | root 32 | Unix seconds (i64)`,
//! numbers big endian. The label tells these signatures from all others, so that the key signs nothing else by mistake. The key
//! is named by its RFC 7638 thumbprint, as the keys of access tokens are.

use crate::tree::{HASH_BYTES, Hash, is_consistent};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use data_encoding::BASE64URL_NOPAD;
use std::fmt;

/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// What the log of the server itself is called; that of an org has the org's id.
pub const SYSTEM_LOG: &str = "system";
const LABEL: &[u8] = b"sys audit tree head v1\n";

/// A log as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which log: an org's id, or [`SYSTEM_LOG`].
    pub log_id: String,
    /// How many entries it had.
    pub size: u64,
    /// The root of the tree over their hashes.
    pub root: Hash,
    /// When, in Unix seconds by the server's clock.
    pub unix_s: i64,
}

/// A head with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// By which key.
    pub public_key: [u8; PUBLIC_KEY_BYTES],
    /// The signature.
    pub signature: Vec<u8>,
}

/// Why a head is not to be trusted, by itself or against one that was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The signature is not one of this key over this head.
    #[error("the head of the audit log of {log_id} is not signed by the key that it names")]
    Forged {
        /// The log.
        log_id: String,
    },
    /// It is the head of another log.
    #[error("asked for the audit log of {expected}, the server showed that of {found}")]
    OtherLog {
        /// The log that was asked for.
        expected: String,
        /// The log that it is of.
        found: String,
    },
    /// Another key signed the head that was kept.
    #[error("the audit log of {log_id} is signed by key {found} now; the head kept here is signed by {kept}")]
    OtherKey {
        /// The log.
        log_id: String,
        /// The key that is known.
        kept: String,
        /// The key that signs now.
        found: String,
    },
    /// The log has lost entries.
    #[error("the audit log of {log_id} was cut: it had {kept} entries, and has {found} now")]
    Cut {
        /// The log.
        log_id: String,
        /// Entries in the head that was kept.
        kept: u64,
        /// Entries now.
        found: u64,
    },
    /// The log does not go on from what it was.
    #[error("the audit log of {log_id} was rewritten: its first {kept} entries are not those that it had")]
    Fork {
        /// The log.
        log_id: String,
        /// Entries in the head that was kept.
        kept: u64,
    },
}

/// A seed of which no key pair can be made. No seed of 32 bytes is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key that signs heads of audit logs cannot be made")]
pub struct KeyRefused;

impl Head {
    fn signed_bytes(&self) -> Vec<u8> {
        let id = self.log_id.as_bytes();
        // An id that is too long for its length gives a signature that no verifier finds good.
        let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(LABEL.len() + 2 + id.len() + 8 + HASH_BYTES + 8);
        bytes.extend_from_slice(LABEL);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(id);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(&self.root.0);
        bytes.extend_from_slice(&self.unix_s.to_be_bytes());
        bytes
    }
}

impl SignedHead {
    /// The name of the key that signed it.
    pub fn key_id(&self) -> String {
        key_id(&self.public_key)
    }

    /// Whether this is a head of that log, signed by the key that it names. Whether the key is the right one, a kept head says.
    pub fn verify(&self, log_id: &str) -> Result<(), Distrust> {
        let found = &self.head.log_id;
        if found != log_id {
            return Err(Distrust::OtherLog { expected: log_id.to_owned(), found: found.clone() });
        }
        UnparsedPublicKey::new(&ED25519, self.public_key)
            .verify(&self.head.signed_bytes(), &self.signature)
            .map_err(|_| Distrust::Forged { log_id: found.clone() })
    }

    /// Whether a proof is needed that this head goes on from one that was kept, which it does not if that fails. Both are
    /// verified already.
    pub fn needs_proof(&self, kept: &Self) -> Result<bool, Distrust> {
        let log_id = self.head.log_id.clone();
        if self.public_key != kept.public_key {
            return Err(Distrust::OtherKey { log_id, kept: kept.key_id(), found: self.key_id() });
        }
        if self.head.size < kept.head.size {
            return Err(Distrust::Cut { log_id, kept: kept.head.size, found: self.head.size });
        }
        Ok(self.head.size > kept.head.size && kept.head.size > 0)
    }

    /// Whether this head goes on from one that was kept, by this proof.
    pub fn goes_on_from(&self, kept: &Self, proof: &[Hash]) -> Result<(), Distrust> {
        self.needs_proof(kept)?;
        let (before, now) = (&kept.head, &self.head);
        if is_consistent((before.size, &before.root), (now.size, &now.root), proof) {
            Ok(())
        } else {
            Err(Distrust::Fork { log_id: now.log_id.clone(), kept: before.size })
        }
    }
}

/// BASE64URL(SHA-256(JWK)) of the key's one canonical JSON Web Key, RFC 7638 and RFC 8037.
pub fn key_id(public_key: &[u8; PUBLIC_KEY_BYTES]) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL_NOPAD.encode(public_key));
    BASE64URL_NOPAD.encode(digest(&SHA256, jwk.as_bytes()).as_ref())
}

/// The key that signs heads, and nothing else.
pub struct HeadKey {
    pair: Ed25519KeyPair,
    public: [u8; PUBLIC_KEY_BYTES],
}

impl HeadKey {
    /// The key pair grown from this seed (RFC 8032 section 5.1.5).
    pub fn new(seed: &[u8; 32]) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyRefused)?;
        let mut public = [0; PUBLIC_KEY_BYTES];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// Signs a head.
    pub fn sign(&self, head: Head) -> SignedHead {
        let signature = self.pair.sign(&head.signed_bytes()).as_ref().to_vec();
        SignedHead { head, public_key: self.public, signature }
    }
}

impl fmt::Debug for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadKey").field("key_id", &key_id(&self.public)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Run, consistency, leaf_hash};

    fn root(leaves: std::ops::Range<u64>) -> Hash {
        let mut run = Run::default();
        leaves.for_each(|leaf| run.push_leaf(leaf_hash(&leaf.to_be_bytes())));
        run.root()
    }

    fn head(key: u8, size: u64) -> SignedHead {
        let head = Head { log_id: "org_a".to_owned(), size, root: root(0..size), unix_s: 1_800_000_000 };
        HeadKey::new(&[key; 32]).unwrap().sign(head)
    }

    fn proof(first: u64, second: u64) -> Vec<Hash> {
        consistency(first, second).unwrap().into_iter().map(root).collect()
    }

    #[test]
    fn a_head_is_that_of_its_log_and_key_and_of_nothing_else() {
        let good = head(1, 5);
        assert_eq!(good.verify("org_a"), Ok(()));
        assert!(matches!(good.verify("org_b"), Err(Distrust::OtherLog { .. })));
        let spoil: [fn(&mut SignedHead); 6] = [
            |head| head.head.size += 1,
            |head| head.head.root.0[0] ^= 1,
            |head| head.head.unix_s += 1,
            |head| head.public_key = HeadKey::new(&[2; 32]).unwrap().public,
            |head| head.signature[0] ^= 1,
            |head| head.signature.clear(),
        ];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let mut spoilt = good.clone();
            spoil(&mut spoilt);
            assert!(matches!(spoilt.verify("org_a"), Err(Distrust::Forged { .. })), "{number}");
        }
        let mut renamed = good.clone();
        renamed.head.log_id = "org_b".to_owned();
        assert!(matches!(renamed.verify("org_b"), Err(Distrust::Forged { .. })));
    }

    #[test]
    fn a_later_head_goes_on_from_an_earlier_one() {
        for (first, second) in [(0, 0), (0, 5), (1, 5), (5, 5), (4, 8), (5, 9)] {
            let (kept, now) = (head(1, first), head(1, second));
            assert_eq!(now.goes_on_from(&kept, &proof(first, second)), Ok(()), "{first} {second}");
            assert_eq!(now.needs_proof(&kept), Ok(!proof(first, second).is_empty() || 0 < first && first < second));
        }
    }

    #[test]
    fn a_cut_a_fork_and_another_key_are_told_apart() {
        let kept = head(1, 5);
        assert!(matches!(head(1, 4).goes_on_from(&kept, &[]), Err(Distrust::Cut { kept: 5, found: 4, .. })));
        assert!(matches!(head(1, 0).goes_on_from(&kept, &[]), Err(Distrust::Cut { kept: 5, found: 0, .. })));
        assert!(matches!(head(2, 5).goes_on_from(&kept, &[]), Err(Distrust::OtherKey { .. })));
        for size in [5, 9] {
            let other = Head { root: root(1..size + 1), ..head(1, size).head };
            let forked = HeadKey::new(&[1; 32]).unwrap().sign(other);
            assert_eq!(forked.verify("org_a"), Ok(()));
            assert!(matches!(forked.goes_on_from(&kept, &proof(5, size)), Err(Distrust::Fork { kept: 5, .. })));
        }
        assert!(matches!(head(1, 9).goes_on_from(&kept, &[]), Err(Distrust::Fork { .. })), "without a proof");
    }
}
