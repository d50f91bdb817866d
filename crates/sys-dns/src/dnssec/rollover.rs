//! How one signing key follows another, while every resolver goes on validating whatever it has kept.
//!
//! ```text
//! Steady(key) --start--> Publishing --the DNSKEY set that lacks the next key is kept by nobody--> Asking
//!   Asking (CDS and the status name the next key) --the parent shows the next key's DS and not the old one's--> Retiring
//!   Retiring (the next key signs) --the old DS and the old signatures are kept by nobody--> Steady(next)
//! ```
//! From the first step to the last both keys stand in the DNSKEY set and both sign it: a double signature for the entry, a
//! pre-published key for the data (RFC 6781 section 4.1.3, RFC 7583). The parent alone ends the waiting: as long as the old DS is shown, the
//! old key stays, and if it is shown again the waiting begins anew. What must never happen here: a step by the clock alone that needs the parent, or by the parent alone that needs
//! the clock.

use super::{KeyError, SigningKey, SigningKeys};
use crate::{
    name::Name,
    zone::{Data, MAX_TTL_S},
};
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroizing;

/// How long the DNSKEY, CDS and CDNSKEY sets may be kept by resolvers.
pub(crate) const KEY_TTL_S: u32 = 3_600;
/// Between the moment that a step is decided at and the one when every server answers accordingly, with room for clocks.
const PROPAGATION_S: i64 = 3_600;
/// How long a DS set is taken to be kept at least, whatever its TTL was when it was looked up: that may have been what was left of it.
const LEAST_PARENT_TTL_S: u32 = 86_400;
/// And at most: resolvers keep nothing for longer than a week (RFC 8767 section 4).
const MOST_PARENT_TTL_S: u32 = 7 * 86_400;
/// First byte of the kept form.
const FORMAT: u8 = 1;

/// Why no rollover begins, or none can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RolloverError {
    /// One is under way.
    #[error("a key rollover is under way: `sys dns status` tells what it waits for")]
    UnderWay,
    /// The two keys would have one tag, and a validator would have to try both.
    #[error("the new key has the tag of the old one, which happens once in 65,536 times: begin the rollover again")]
    SameTag,
    /// The kept bytes are of no form that is known.
    #[error(
        "the kept signing keys are of a form that this version does not know: start the version that wrote them, or restore a backup"
    )]
    Format,
    /// A key in them cannot be used.
    #[error("{0}")]
    Key(#[from] KeyError),
}

/// The DS set that the zone above shows. Where it could not be looked up no step is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParentDs {
    /// Its records, all of them [`Data::Ds`].
    pub records: Vec<Data>,
    /// How long they may be kept, in seconds.
    pub ttl_s: u32,
}

impl ParentDs {
    /// Whether it leads to `next` and no more to `old`.
    fn shows_alone(&self, apex: &Name, next: &SigningKey, old: &SigningKey) -> bool {
        self.records.contains(&next.ds(apex)) && !self.records.contains(&old.ds(apex))
    }
}

/// Where a zone stands between two keys. Kept after each step, before the step is acted on.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the states are told at the top of the module; times are in seconds of UNIX time")]
pub enum Rollover {
    Steady { key: Arc<SigningKey> },
    Publishing { key: Arc<SigningKey>, next: Arc<SigningKey>, since_unix_s: i64 },
    Asking { key: Arc<SigningKey>, next: Arc<SigningKey> },
    Retiring { key: Arc<SigningKey>, next: Arc<SigningKey>, until_unix_s: i64 },
}

/// What the DS set of the zone above makes of the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// No DS: the zone is signed and nobody validates it. Enter the DS record at the registrar.
    Unsigned,
    /// A DS leads to a key that signs, and there is no other.
    Secure,
    /// A DS leads to a key that signs; others lead nowhere, or not to the wanted key yet.
    SecureWithOthers,
    /// There are DS records and none leads to a key: validating resolvers refuse the zone. Enter the wanted one at once.
    Broken,
}

impl Rollover {
    /// Begins with one key.
    pub fn begin(key: SigningKey) -> Self {
        Self::Steady { key: Arc::new(key) }
    }

    /// Begins to replace the key.
    pub fn start(&self, next: SigningKey, now_unix_s: i64) -> Result<Self, RolloverError> {
        match self {
            Self::Steady { key } if key.key_tag() == next.key_tag() => Err(RolloverError::SameTag),
            Self::Steady { key } => {
                Ok(Self::Publishing { key: key.clone(), next: Arc::new(next), since_unix_s: now_unix_s })
            }
            _ => Err(RolloverError::UnderWay),
        }
    }

    /// The next state, if it is time; `None` otherwise.
    pub fn step(&self, apex: &Name, now_unix_s: i64, parent: Option<&ParentDs>) -> Option<Self> {
        match self {
            Self::Steady { .. } => None,
            // A moment that has not come was written down by a clock that was ahead: it is waited anew, by this one.
            Self::Publishing { key, next, since_unix_s } if *since_unix_s > now_unix_s => {
                Some(Self::Publishing { key: key.clone(), next: next.clone(), since_unix_s: now_unix_s })
            }
            Self::Retiring { key, next, until_unix_s }
                if until_unix_s.saturating_sub(now_unix_s)
                    > i64::from(MOST_PARENT_TTL_S).saturating_add(PROPAGATION_S) =>
            {
                Some(Self::Asking { key: key.clone(), next: next.clone() })
            }
            Self::Publishing { key, next, since_unix_s } => {
                let known = since_unix_s.saturating_add(i64::from(KEY_TTL_S)).saturating_add(PROPAGATION_S);
                (now_unix_s >= known).then(|| Self::Asking { key: key.clone(), next: next.clone() })
            }
            Self::Asking { key, next } => {
                let parent = parent.filter(|parent| parent.shows_alone(apex, next, key))?;
                // Neither the old DS, nor what the old key signed, may be kept by anybody when it goes.
                let kept_s = parent.ttl_s.clamp(LEAST_PARENT_TTL_S, MOST_PARENT_TTL_S).max(MAX_TTL_S);
                let until_unix_s = now_unix_s.saturating_add(kept_s.into()).saturating_add(PROPAGATION_S);
                Some(Self::Retiring { key: key.clone(), next: next.clone(), until_unix_s })
            }
            Self::Retiring { key, next, until_unix_s } => match parent? {
                // Somebody took it back: all begins anew with what the parent shows then.
                parent if !parent.shows_alone(apex, next, key) => {
                    Some(Self::Asking { key: key.clone(), next: next.clone() })
                }
                _ => (now_unix_s >= *until_unix_s).then(|| Self::Steady { key: next.clone() }),
            },
        }
    }

    /// Which keys do what now.
    pub fn keys(&self) -> SigningKeys {
        let both = |key: &Arc<SigningKey>, next: &Arc<SigningKey>| vec![key.clone(), next.clone()];
        let keys = |signer: &Arc<SigningKey>, published, wanted: &Arc<SigningKey>| SigningKeys {
            signer: signer.clone(),
            published,
            wanted: wanted.clone(),
        };
        match self {
            Self::Steady { key } => keys(key, vec![key.clone()], key),
            Self::Publishing { key, next, .. } => keys(key, both(key, next), key),
            Self::Asking { key, next } => keys(key, both(key, next), next),
            Self::Retiring { key, next, .. } => keys(next, both(key, next), next),
        }
    }

    /// What the DS set at the zone above means for who validates.
    pub fn delegation(&self, apex: &Name, parent: &ParentDs) -> Delegation {
        let keys = self.keys();
        let leads = |ds: &&Data| keys.published.iter().any(|key| key.ds(apex) == **ds);
        let wanted = keys.wanted.ds(apex);
        match parent.records.iter().filter(leads).count() {
            0 if parent.records.is_empty() => Delegation::Unsigned,
            0 => Delegation::Broken,
            1 if parent.records.as_slice() == [wanted] => Delegation::Secure,
            _ => Delegation::SecureWithOthers,
        }
    }

    /// The state with its keys, to be kept sealed: format, state, time, then each key behind its length.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (state, time, keys) = match self {
            Self::Steady { key } => (0, 0, vec![key]),
            Self::Publishing { key, next, since_unix_s } => (1, *since_unix_s, vec![key, next]),
            Self::Asking { key, next } => (2, 0, vec![key, next]),
            Self::Retiring { key, next, until_unix_s } => (3, *until_unix_s, vec![key, next]),
        };
        // Large enough from the beginning: bytes that grow leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        bytes.extend_from_slice(&[FORMAT, state]);
        bytes.extend_from_slice(&time.to_be_bytes());
        for key in keys {
            let pkcs8 = key.pkcs8()?;
            bytes.extend_from_slice(&u16::try_from(pkcs8.len()).map_err(|_| KeyError::Read)?.to_be_bytes());
            bytes.extend_from_slice(&pkcs8);
        }
        Ok(bytes)
    }

    /// Reads what [`Rollover::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RolloverError> {
        let (&[FORMAT, state], rest) = bytes.split_first_chunk().ok_or(RolloverError::Format)? else {
            return Err(RolloverError::Format);
        };
        let (time, mut rest) = rest.split_first_chunk().ok_or(RolloverError::Format)?;
        let time = i64::from_be_bytes(*time);
        let mut key = || {
            let (length, behind) = rest.split_first_chunk().ok_or(RolloverError::Format)?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (pkcs8, behind) = behind.split_at_checked(length).ok_or(RolloverError::Format)?;
            rest = behind;
            Ok::<_, RolloverError>(Arc::new(SigningKey::from_pkcs8(pkcs8)?))
        };
        let read = match state {
            0 => Self::Steady { key: key()? },
            1 => Self::Publishing { key: key()?, next: key()?, since_unix_s: time },
            2 => Self::Asking { key: key()?, next: key()? },
            3 => Self::Retiring { key: key()?, next: key()?, until_unix_s: time },
            _ => return Err(RolloverError::Format),
        };
        if rest.is_empty() { Ok(read) } else { Err(RolloverError::Format) }
    }
}

#[cfg(test)]
mod tests;
