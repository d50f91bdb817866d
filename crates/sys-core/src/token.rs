//! Tokens: what a client holds, and how the server knows them again.
//!
//! - *Access token*: an EdDSA JWT (RFC 9068 `at+jwt`), 10 minutes, naming account and session. No roles stand in it.
//! - *Refresh token*: session | counter | 32 random bytes | MAC. The MAC tells a genuine old token from noise, so that a
//!   replay ends the session while a stranger who guesses cannot. The server stores SHA-256 of the random part.
//! - *One-time token*: 32 random bytes, stored as SHA-256.
//!
//! Pure: time and randomness are arguments.

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::fmt;
use sys_contract::id::{AccountId, RECORD_ID_BYTES, RecordId, SessionId};
use sys_keys::Secret;
use zeroize::Zeroizing;

/// How long an access token is good, in seconds.
pub const ACCESS_TOKEN_S: i64 = 600;
/// How far a clock may be off before a token counts as issued in the future, in seconds.
const CLOCK_SKEW_S: i64 = 30;
/// The longest access token looked at, in bytes; ours have about 400.
const MAX_ACCESS_TOKEN_BYTES: usize = 2048;
/// Random bytes of refresh and one-time tokens.
pub const TOKEN_SECRET_BYTES: usize = 32;
const REFRESH_MAC_BYTES: usize = 16;
const REFRESH_BYTES: usize = RECORD_ID_BYTES + 4 + TOKEN_SECRET_BYTES + REFRESH_MAC_BYTES;
/// RFC 9068 section 2.1.
const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The token is not ours, or no longer: nothing more is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct TokenRefused;

/// A seed of which no key pair can be made. No seed of 32 bytes is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token-signing key cannot be made")]
pub struct KeyRefused;

/// SHA-256 of the DER form of a certificate (RFC 8705 section 3.1), whose key a client has proven to have in the handshake of a
/// connection.
#[derive(Clone, Copy)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// As `cnf` names it in a token.
    pub(crate) fn thumbprint(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }
}

/// In constant time: somebody might look for a certificate by what he is refused with.
impl PartialEq for CertificateHash {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for CertificateHash {}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateHash(..)")
    }
}

/// What an access token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The account that logged in.
    pub account: AccountId,
    /// The session that it logged in with.
    pub session: SessionId,
    /// When it was issued, in Unix seconds.
    pub issued_unix_s: i64,
    /// Unix seconds after which it is no longer good.
    pub expires_unix_s: i64,
}

impl Claims {
    /// Whether it has been issued, and has not ended. Asked at each use, since the clock goes on, and may be set back.
    pub fn are_good_at(&self, now_unix_s: i64) -> bool {
        self.issued_unix_s <= now_unix_s.saturating_add(CLOCK_SKEW_S) && now_unix_s < self.expires_unix_s
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    jti: String,
    /// For others who take our tokens. The gate asks the session itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

/// RFC 8705 section 3.1.
#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// Signs and verifies access tokens. The key hangs below the system tablespace.
pub struct AccessTokens {
    issuer: String,
    kid: String,
    public: [u8; 32],
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("issuer", &self.issuer).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// The key pair grown from this seed (RFC 8032 section 5.1.5), for tokens of this issuer.
    pub fn new(seed: &Secret<32>, issuer: &str) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| KeyRefused)?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        // RFC 7638: the thumbprint of the public key names it.
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL_NOPAD.encode(&public));
        let kid = BASE64URL_NOPAD.encode(digest(&SHA256, jwk.as_bytes()).as_ref());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The library would read the machine's clock; ours is an argument.
        validation.validate_exp = false;
        let pkcs8 = pair.to_pkcs8().map_err(|_| KeyRefused)?;
        Ok(Self {
            issuer: issuer.to_owned(),
            kid,
            public,
            encoding: EncodingKey::from_ed_der(pkcs8.as_ref()),
            decoding: DecodingKey::from_ed_der(&public),
            validation,
        })
    }

    /// A token for this session, good from now on, but never longer than the session. `bound_to` is the certificate that the
    /// session is bound to.
    pub fn sign(
        &self,
        account: AccountId,
        session: SessionId,
        bound_to: Option<CertificateHash>,
        session_ends_unix_s: i64,
        now_unix_s: i64,
        random: [u8; 16],
    ) -> SignedToken {
        let expires_unix_s = now_unix_s.saturating_add(ACCESS_TOKEN_S).min(session_ends_unix_s);
        let wire = Wire {
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
            sub: account.to_string(),
            sid: session.to_string(),
            iat: now_unix_s,
            exp: expires_unix_s,
            jti: BASE64URL_NOPAD.encode(&random),
            cnf: bound_to.map(|bound_to| Confirmation { certificate: bound_to.thumbprint() }),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = Some(self.kid.clone());
        // INVARIANT: the key was made in `new` and the claims are plain strings and numbers, so that signing cannot fail;
        // were it to, the empty token is refused everywhere.
        let text = jsonwebtoken::encode(&header, &wire, &self.encoding).unwrap_or_default();
        SignedToken { text, expires_unix_s }
    }

    /// What the token says, if it is ours and still good.
    pub fn verify(&self, token: &str, now_unix_s: i64) -> Result<Claims, TokenRefused> {
        if token.len() > MAX_ACCESS_TOKEN_BYTES {
            return Err(TokenRefused);
        }
        let decoded =
            jsonwebtoken::decode::<Wire>(token, &self.decoding, &self.validation).map_err(|_| TokenRefused)?;
        let ours = decoded.header.typ.as_deref() == Some(ACCESS_TOKEN_TYPE)
            && decoded.header.kid.as_deref() == Some(self.kid.as_str());
        let wire = decoded.claims;
        let claims = Claims {
            account: wire.sub.parse().map_err(|_| TokenRefused)?,
            session: wire.sid.parse().map_err(|_| TokenRefused)?,
            issued_unix_s: wire.iat,
            expires_unix_s: wire.exp,
        };
        let lasts_as_ours = wire.exp.saturating_sub(wire.iat) <= ACCESS_TOKEN_S;
        if ours && lasts_as_ours && claims.are_good_at(now_unix_s) { Ok(claims) } else { Err(TokenRefused) }
    }

    /// The public key as a JSON Web Key Set (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> String {
        let x = BASE64URL_NOPAD.encode(&self.public);
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"{}","x":"{x}"}}]}}"#,
            self.kid
        )
    }
}

/// An access token and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedToken {
    /// The compact JWT.
    pub text: String,
    /// Unix seconds after which it is no longer good.
    pub expires_unix_s: i64,
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken").field("expires_unix_s", &self.expires_unix_s).finish_non_exhaustive()
    }
}

/// Random bytes that only the client keeps: the server stores their hash.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; TOKEN_SECRET_BYTES]>);

impl TokenSecret {
    /// A secret of these random bytes.
    pub fn new(random: [u8; TOKEN_SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// SHA-256 of it, as stored. The secret has 256 bits, so that the hash needs neither salt nor stretching.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.0.as_ref()).as_ref());
        hash
    }

    /// The text that a person or client is given.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64URL_NOPAD.encode(self.0.as_ref()))
    }

    /// Reads the text. The empty text, like any other wrong one, is no secret.
    pub fn parse(text: &str) -> Result<Self, TokenRefused> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenRefused)?);
        let bytes: [u8; TOKEN_SECRET_BYTES] = bytes.as_slice().try_into().map_err(|_| TokenRefused)?;
        Ok(Self::new(bytes))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// A refresh token, taken apart.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    /// The session that it renews.
    pub session: SessionId,
    /// Counts the renewals: each token is good once.
    pub counter: u32,
    /// What the server stores the hash of.
    pub secret: TokenSecret,
}

/// Writes and reads refresh tokens.
pub struct RefreshTokens(hmac::Key);

impl fmt::Debug for RefreshTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshTokens(..)")
    }
}

impl RefreshTokens {
    /// Under this key.
    pub fn new(key: &Secret<32>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// base64url(session 22 | counter 4 | secret 32 | first 16 bytes of HMAC-SHA256 over the rest).
    pub fn text(&self, token: &RefreshToken) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(REFRESH_BYTES));
        bytes.extend_from_slice(&token.session.record().to_bytes());
        bytes.extend_from_slice(&token.counter.to_be_bytes());
        bytes.extend_from_slice(token.secret.0.as_ref());
        let mac = hmac::sign(&self.0, &bytes);
        bytes.extend(mac.as_ref().iter().take(REFRESH_MAC_BYTES));
        Zeroizing::new(BASE64URL_NOPAD.encode(&bytes))
    }

    /// Takes apart a token that this server wrote, however old it is.
    pub fn parse(&self, text: &str) -> Result<RefreshToken, TokenRefused> {
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenRefused)?);
        let (body, mac) = bytes.split_at_checked(REFRESH_BYTES - REFRESH_MAC_BYTES).ok_or(TokenRefused)?;
        let expected = hmac::sign(&self.0, body);
        let expected = expected.as_ref().get(..REFRESH_MAC_BYTES).ok_or(TokenRefused)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(expected, mac).map_err(|_| TokenRefused)?;
        let (session, rest) = body.split_first_chunk::<RECORD_ID_BYTES>().ok_or(TokenRefused)?;
        let (counter, secret) = rest.split_first_chunk::<4>().ok_or(TokenRefused)?;
        let secret = secret.try_into().map_err(|_| TokenRefused)?;
        Ok(RefreshToken {
            session: SessionId::from_record(RecordId::from_bytes(*session)),
            counter: u32::from_be_bytes(*counter),
            secret: TokenSecret::new(secret),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_contract::id::OrgTag;

    const NOW: i64 = 1_800_000_000;

    fn secret(byte: u8) -> Secret<32> {
        Secret::filled(|bytes| bytes.fill(byte))
    }

    fn tokens(seed: u8) -> AccessTokens {
        AccessTokens::new(&secret(seed), "http://127.0.0.1:8443").unwrap()
    }

    fn ids() -> (AccountId, SessionId) {
        let id = |n| RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [n; 10]);
        (AccountId::from_record(id(1)), SessionId::from_record(id(2)))
    }

    fn signed(by: &AccessTokens) -> String {
        let (account, session) = ids();
        by.sign(account, session, None, i64::MAX, NOW, [0; 16]).text
    }

    /// The token with another header or other claims, signed anew by `sign`.
    fn resigned(token: &str, header: &str, claims: Option<&str>, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let claims = claims
            .map_or_else(|| token.split('.').nth(1).unwrap().to_owned(), |c| BASE64URL_NOPAD.encode(c.as_bytes()));
        let body = format!("{}.{claims}", BASE64URL_NOPAD.encode(header.as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&sign(body.as_bytes()));
        format!("{body}.{signature}")
    }

    #[test]
    fn a_token_says_who_logged_in() {
        let tokens = tokens(1);
        let claims = tokens.verify(&signed(&tokens), NOW + 1).unwrap();
        assert_eq!((claims.account, claims.session), ids());
        assert_eq!(claims.expires_unix_s, NOW + ACCESS_TOKEN_S);
    }

    #[test]
    fn a_token_of_a_bound_session_names_the_certificate_as_rfc_8705_does_and_no_other_does() {
        let tokens = tokens(1);
        let claims_of = |bound_to| {
            let token = tokens.sign(ids().0, ids().1, bound_to, i64::MAX, NOW, [0; 16]).text;
            assert!(tokens.verify(&token, NOW).is_ok());
            let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
            serde_json::from_slice::<serde_json::Value>(&claims).unwrap()
        };
        let claims = claims_of(Some(CertificateHash([0xfb; 32])));
        let thumbprint = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";
        assert_eq!(claims["cnf"], serde_json::json!({ "x5t#S256": thumbprint }));
        assert_eq!(claims_of(None).get("cnf"), None);
    }

    #[test]
    fn fault_1_a_token_ends_after_ten_minutes_in_seconds() {
        let tokens = tokens(1);
        assert!(tokens.verify(&signed(&tokens), NOW + 599).is_ok());
        assert_eq!(tokens.verify(&signed(&tokens), NOW + 600), Err(TokenRefused));
        assert_eq!(tokens.verify(&signed(&tokens), NOW - 3600), Err(TokenRefused), "issued in the future");
    }

    #[test]
    fn a_token_ends_with_its_session() {
        let tokens = tokens(1);
        let (account, session) = ids();
        let signed = tokens.sign(account, session, None, NOW + 5, NOW, [0; 16]);
        assert_eq!(signed.expires_unix_s, NOW + 5);
        assert!(tokens.verify(&signed.text, NOW + 4).is_ok());
        assert_eq!(tokens.verify(&signed.text, NOW + 5), Err(TokenRefused));
    }

    #[test]
    fn a_token_of_another_server_or_key_is_refused() {
        assert_eq!(tokens(1).verify(&signed(&tokens(2)), NOW), Err(TokenRefused));
        let other = AccessTokens::new(&secret(1), "http://127.0.0.1:9999").unwrap();
        assert_eq!(tokens(1).verify(&signed(&other), NOW), Err(TokenRefused));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let tokens = tokens(1);
        let token = signed(&tokens);
        let kid = &tokens.kid;
        let none = resigned(&token, &format!(r#"{{"alg":"none","typ":"at+jwt","kid":"{kid}"}}"#), None, |_| Vec::new());
        assert_eq!(tokens.verify(&none, NOW), Err(TokenRefused), "alg none");
        let hmac_header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
        let with_public_key = resigned(&token, &hmac_header, None, |body| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &tokens.public), body).as_ref().to_vec()
        });
        assert_eq!(tokens.verify(&with_public_key, NOW), Err(TokenRefused), "HMAC with the public key");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let ours = |body: &[u8]| pair.sign(body).as_ref().to_vec();
        let good = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
        assert!(tokens.verify(&resigned(&token, &good, None, ours), NOW).is_ok(), "the helper signs as we do");
        for header in [
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":"other"}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned(),
        ] {
            assert_eq!(tokens.verify(&resigned(&token, &header, None, ours), NOW), Err(TokenRefused), "{header}");
        }
        let long = format!(
            r#"{{"iss":"{0}","aud":"{0}","sub":"{1}","sid":"{2}","iat":{NOW},"exp":{3},"jti":""}}"#,
            tokens.issuer,
            ids().0,
            ids().1,
            NOW + 86_400
        );
        assert_eq!(
            tokens.verify(&resigned(&token, &good, Some(&long), ours), NOW),
            Err(TokenRefused),
            "too long a life"
        );
        for garbage in ["", ".", "..", "a.b.c", "\u{0}", &"x".repeat(10_000)] {
            assert_eq!(tokens.verify(garbage, NOW), Err(TokenRefused));
        }
    }

    #[test]
    fn a_refresh_token_is_known_again_and_a_changed_one_is_not() {
        let tokens = RefreshTokens::new(&secret(3));
        let token = RefreshToken { session: ids().1, counter: 7, secret: TokenSecret::new([9; 32]) };
        let text = tokens.text(&token);
        let read = tokens.parse(&text).unwrap();
        assert_eq!((read.session, read.counter, read.secret.hash()), (token.session, 7, token.secret.hash()));
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(tokens.parse(std::str::from_utf8(&changed).unwrap()).is_err(), "changed at {at}");
        }
        assert!(RefreshTokens::new(&secret(4)).parse(&text).is_err());
        assert!(tokens.parse("").is_err());
    }

    #[test]
    fn fault_5_an_empty_token_is_no_token() {
        assert!(TokenSecret::parse("").is_err());
        assert!(TokenSecret::parse(&"A".repeat(42)).is_err());
        assert!(TokenSecret::parse(&TokenSecret::new([0; 32]).text()).is_ok());
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = RefreshToken { session: ids().1, counter: 7, secret: TokenSecret::new([9; 32]) };
        assert!(format!("{token:?}").contains("TokenSecret(..)"));
        assert!(!format!("{:?}", tokens(1).sign(ids().0, ids().1, None, i64::MAX, NOW, [0; 16])).contains("ey"));
    }
}
