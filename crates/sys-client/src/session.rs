//! A login that lasts: who is logged in where, with which tokens. Where it is kept is decided in
//! [`session_store`](crate::session_store).

use crate::{Endpoint, Fingerprint};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// An access token that ends sooner is refreshed before it is used: longer than a call takes.
pub const REFRESH_BEFORE_END_S: i64 = 30;
/// The format that is written. Read before anything else of the text.
pub(crate) const FORMAT: u32 = 1;

/// A secret of the session. Wiped from memory where it ends; has no readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Its text, for the wire and the place where the session is kept alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Who is logged in where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The server; its tokens go nowhere else.
    pub server: Endpoint,
    /// The account.
    pub account_id: String,
    /// The session's id on the server.
    pub session_id: String,
    /// Goes with each call.
    pub access_token: Token,
    /// When it ends, in Unix seconds by the server's clock.
    pub access_expires_unix_s: i64,
    /// Good for one refresh.
    pub refresh_token: Token,
    /// The device key whose certificate the tokens are bound to, if they are.
    pub device: Option<Fingerprint>,
}

impl Session {
    /// Whether the access token is to be refreshed before it is used.
    pub fn is_stale(&self, now_unix_s: i64) -> bool {
        self.access_expires_unix_s.saturating_sub(now_unix_s) < REFRESH_BEFORE_END_S
    }

    /// From the text of a session that was kept.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let server = stored.server.parse().ok().filter(|_| stored.format == FORMAT)?;
        Some(Self {
            server,
            account_id: stored.account_id,
            session_id: stored.session_id,
            access_token: Token(stored.access_token),
            access_expires_unix_s: stored.access_expires_unix_s,
            refresh_token: Token(stored.refresh_token),
            device: stored.device.map(|device| device.parse()).transpose().ok()?,
        })
    }

    /// The text of it that is kept.
    pub(crate) fn to_text(&self) -> Option<Zeroizing<String>> {
        let stored = Stored {
            format: FORMAT,
            server: self.server.to_string(),
            account_id: self.account_id.clone(),
            session_id: self.session_id.clone(),
            access_token: self.access_token.0.clone(),
            access_expires_unix_s: self.access_expires_unix_s,
            refresh_token: self.refresh_token.0.clone(),
            device: self.device.map(|device| device.to_string()),
        };
        serde_json::to_string_pretty(&stored).ok().map(Zeroizing::new)
    }
}

/// The session as it is kept, in a file or in the keychain.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    server: String,
    account_id: String,
    session_id: String,
    access_token: Zeroizing<String>,
    access_expires_unix_s: i64,
    refresh_token: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_before_it_ends() {
        let session = Session {
            server: "http://127.0.0.1:8443".parse().expect("an endpoint"),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
            access_token: Token::new("access"),
            access_expires_unix_s: 1_000,
            refresh_token: Token::new("refresh"),
            device: None,
        };
        assert!(!session.is_stale(1_000 - REFRESH_BEFORE_END_S));
        assert!(session.is_stale(1_000 - REFRESH_BEFORE_END_S + 1));
        assert!(session.is_stale(i64::MAX));
        assert!(!session.is_stale(i64::MIN), "a clock far behind must not overflow");
    }
}
