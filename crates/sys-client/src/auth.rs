//! The messages of `sys.account.v1.AuthService` that a session needs, with field numbers as published there.
//!
//! A client of a server must be able to log in before it has any descriptor, so these stand in code. Those that hold a
//! secret have no `Debug` form of their fields.

use crate::{Endpoint, Fingerprint, Session, Token};
use prost::Message;
use std::fmt;

/// Logs in with a password.
pub const LOGIN: &str = "sys.account.v1.AuthService/Login";
/// Trades a refresh token for new tokens; the old one dies.
pub const REFRESH: &str = "sys.account.v1.AuthService/Refresh";
/// Ends the caller's session.
pub const LOGOUT: &str = "sys.account.v1.AuthService/Logout";
/// Makes the first superadmin with a one-time token.
pub const SETUP: &str = "sys.account.v1.AuthService/Setup";
/// Shows the password again.
pub const STEP_UP: &str = "sys.account.v1.AuthService/StepUp";
/// Says who the caller is.
pub const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";

/// sys.account.v1.LoginRequest.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct LoginRequest {
    /// The account's e-mail address.
    #[prost(string, tag = "1")]
    pub email: String,
    /// Its password.
    #[prost(string, tag = "2")]
    pub password: String,
    /// How the session is called in the account's list of sessions.
    #[prost(string, tag = "3")]
    pub device_name: String,
}

/// sys.account.v1.SetupRequest.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct SetupRequest {
    /// The one-time token that the server printed at its first start.
    #[prost(string, tag = "1")]
    pub token: String,
    /// The e-mail address of the new account.
    #[prost(string, tag = "2")]
    pub email: String,
    /// Its password.
    #[prost(string, tag = "3")]
    pub password: String,
    /// Its name.
    #[prost(string, tag = "4")]
    pub display_name: String,
    /// How the session is called.
    #[prost(string, tag = "5")]
    pub device_name: String,
}

/// sys.account.v1.RefreshRequest.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct RefreshRequest {
    /// The newest refresh token of the session.
    #[prost(string, tag = "1")]
    pub refresh_token: String,
}

/// sys.account.v1.StepUpRequest.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StepUpRequest {
    /// The account's password.
    #[prost(string, tag = "1")]
    pub password: String,
}

/// sys.account.v1.TokenPair.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct TokenPair {
    /// Goes with each call.
    #[prost(string, tag = "1")]
    pub access_token: String,
    /// Good for one refresh.
    #[prost(string, tag = "2")]
    pub refresh_token: String,
    /// When the access token ends.
    #[prost(message, optional, tag = "3")]
    pub access_expires_at: Option<prost_types::Timestamp>,
    /// The account.
    #[prost(string, tag = "4")]
    pub account_id: String,
    /// The session.
    #[prost(string, tag = "5")]
    pub session_id: String,
}

impl TokenPair {
    /// The session that these tokens are of, bound to this device key.
    pub fn into_session(self, server: &Endpoint, device: Option<Fingerprint>) -> Session {
        Session {
            server: server.clone(),
            account_id: self.account_id,
            session_id: self.session_id,
            access_token: Token::new(self.access_token),
            // Without a time the token counts as expired: it is refreshed before its first use, which is always right.
            access_expires_unix_s: self.access_expires_at.map_or(0, |at| at.seconds),
            refresh_token: Token::new(self.refresh_token),
            device,
        }
    }
}

macro_rules! hidden {
    ($($message:ident),*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )*};
}

hidden!(LoginRequest, SetupRequest, RefreshRequest, StepUpRequest, TokenPair);

/// sys.account.v1.WhoAmIResponse.
#[derive(Clone, PartialEq, Message)]
pub struct WhoAmI {
    /// The account.
    #[prost(string, tag = "1")]
    pub account_id: String,
    /// Its e-mail address.
    #[prost(string, tag = "2")]
    pub email: String,
    /// Its name.
    #[prost(string, tag = "3")]
    pub display_name: String,
    /// The address is proven.
    #[prost(bool, tag = "4")]
    pub verified: bool,
    /// Which roles it holds, and where.
    #[prost(message, repeated, tag = "5")]
    pub bindings: Vec<Binding>,
    /// The session.
    #[prost(string, tag = "6")]
    pub session_id: String,
}

/// sys.account.v1.WhoAmIResponse.Binding.
#[derive(Clone, PartialEq, Message)]
pub struct Binding {
    /// GUEST to SUPERADMIN.
    #[prost(string, tag = "1")]
    pub role: String,
    /// The org; empty for SUPERADMIN, who has no binding in one.
    #[prost(string, tag = "2")]
    pub org_id: String,
    /// The project; empty for a role in the whole org.
    #[prost(string, tag = "3")]
    pub project_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_shows_in_debug_forms() {
        let secret = "s3cret";
        let login = LoginRequest { email: "a@example.org".into(), password: secret.into(), device_name: String::new() };
        let pair = TokenPair { access_token: secret.into(), refresh_token: secret.into(), ..TokenPair::default() };
        let endpoint: Endpoint = "http://localhost".parse().expect("an endpoint");
        let shown = format!("{login:?} {pair:?} {:?}", pair.clone().into_session(&endpoint, None));
        assert!(!shown.contains(secret), "{shown}");
    }
}
