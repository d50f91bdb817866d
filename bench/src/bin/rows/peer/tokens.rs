//! Access tokens of the thin server: EdDSA JWTs, verified once and then known by their hash until they end.

use anyhow::{Context, Result};
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

/// How long an access token is good, in seconds, as ours.
const GOOD_S: u64 = 600;
/// Tokens that are remembered. Beyond it all are forgotten, and verified once more.
const MAX_KNOWN: usize = 100_000;

/// Who calls, with which session.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Caller {
    #[serde(rename = "sub")]
    pub account: Uuid,
    #[serde(rename = "sid")]
    pub session: Uuid,
    exp: u64,
}

/// Signs and verifies.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    known: Mutex<HashMap<[u8; 32], Caller>>,
}

impl Tokens {
    /// With a key of their own.
    pub fn new() -> Result<Self> {
        let pair = Ed25519KeyPair::generate()?;
        Ok(Self {
            encoding: EncodingKey::from_ed_der(pair.to_pkcs8()?.as_ref()),
            decoding: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            validation: Validation::new(Algorithm::EdDSA),
            known: Mutex::default(),
        })
    }

    /// A token for this session.
    pub fn sign(&self, account: Uuid, session: Uuid) -> Result<String> {
        let caller = Caller { account, session, exp: now_s() + GOOD_S };
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &caller, &self.encoding).context("signing a token")
    }

    /// Who holds this token.
    pub fn verify(&self, token: &str) -> Option<Caller> {
        let key: [u8; 32] = digest(&SHA256, token.as_bytes()).as_ref().try_into().ok()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let caller = match known {
            Some(caller) => caller,
            None => {
                let caller = jsonwebtoken::decode::<Caller>(token, &self.decoding, &self.validation).ok()?.claims;
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                known.insert(key, caller);
                caller
            }
        };
        (caller.exp > now_s()).then_some(caller)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
