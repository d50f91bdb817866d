//! Access and refresh tokens.

use crate::input::{edited, parts, text};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use std::sync::LazyLock;
use sys_contract::id::{AccountId, OrgTag, RecordId, SessionId};
use sys_core::token::{AccessTokens, Claims, RefreshToken, RefreshTokens, TokenSecret};
use sys_keys::Secret;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "http://127.0.0.1:8443";
/// Of nobody's key: it stands here.
const SEED: [u8; 32] = [1; 32];

static ACCESS: LazyLock<AccessTokens> = LazyLock::new(|| AccessTokens::new(&seed(SEED), ISSUER).expect("a key"));
/// Nothing is signed with these. A fuzzer sees what is compared, and sends what the target itself has signed.
static UNUSED_ACCESS: LazyLock<AccessTokens> =
    LazyLock::new(|| AccessTokens::new(&seed([2; 32]), ISSUER).expect("a key"));
static UNUSED_REFRESH: LazyLock<RefreshTokens> = LazyLock::new(|| RefreshTokens::new(&seed([2; 32])));
static PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a key"));
static REFRESH: LazyLock<RefreshTokens> = LazyLock::new(|| RefreshTokens::new(&seed(SEED)));

fn seed(seed: [u8; 32]) -> Secret<32> {
    Secret::filled(|bytes| bytes.copy_from_slice(&seed))
}

/// Any text is refused, and so is a token of ours with any change; one that was truly signed with our key is good only if it
/// says what we would have said.
pub(crate) fn access_token(bytes: &[u8]) {
    let [header, claims, edits] = parts(bytes);
    if let Some(text) = text(bytes) {
        assert!(UNUSED_ACCESS.verify(text, NOW).is_err(), "a stranger's text is a token: {text}");
    }
    let token = signed(header, claims);
    if let Ok(read) = ACCESS.verify(&token, NOW) {
        assert!(is_ours(header), "the header is not ours: {header:?}");
        says(claims, &read);
        assert!(ACCESS.verify(&token, read.expires_unix_s).is_err(), "a token outlives its end");
    }
    let good = ACCESS.sign(account(), session(), None, NOW + 86_400, NOW, [7; 16]).text;
    let changed = edited(good.as_bytes(), edits);
    let Some(changed) = text(&changed) else { return };
    assert_eq!(ACCESS.verify(changed, NOW).is_ok(), changed == good, "a changed token is good: {changed}");
}

/// A token that says this, under our key.
fn signed(header: &[u8], claims: &[u8]) -> String {
    let body = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
    let signature = PAIR.sign(body.as_bytes());
    format!("{body}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
}

/// Whether an input is what we would have signed.
#[cfg(test)]
pub(crate) fn is_good(bytes: &[u8]) -> bool {
    let [header, claims, _] = parts(bytes);
    ACCESS.verify(&signed(header, claims), NOW).is_ok()
}

fn is_ours(header: &[u8]) -> bool {
    let Ok(header) = serde_json::from_slice::<Value>(header) else { return false };
    header["alg"] == "EdDSA"
        && header["typ"] == "at+jwt"
        && ACCESS.jwks().contains(&format!("\"kid\":{}", header["kid"]))
}

/// What a good token's claims must be, read by somebody else.
fn says(claims: &[u8], read: &Claims) {
    let claims: Value = serde_json::from_slice(claims).expect("claims are JSON");
    let number = |name: &str| claims[name].as_i64().expect("a number");
    assert_eq!(
        (claims["sub"].as_str(), claims["sid"].as_str()),
        (Some(&*read.account.to_string()), Some(&*read.session.to_string()))
    );
    assert_eq!(number("exp"), read.expires_unix_s);
    let names_us =
        |claim: &Value| *claim == ISSUER || claim.as_array().is_some_and(|all| all.iter().any(|one| one == ISSUER));
    assert!(names_us(&claims["iss"]) && names_us(&claims["aud"]), "{claims}");
    assert!(number("exp") > NOW && number("iat") <= NOW + 30 && number("exp") - number("iat") <= 600, "{claims}");
}

/// A refresh token that is read has this one text; one with any change is refused.
pub(crate) fn refresh_token(bytes: &[u8]) {
    let [given, edits] = parts(bytes);
    if let Some(given) = text(given) {
        assert!(UNUSED_REFRESH.parse(given).is_err(), "a stranger's text is a token: {given}");
        if let Ok(secret) = TokenSecret::parse(given) {
            assert_eq!(secret.text().as_str(), given, "a one-time token has one text");
        }
    }
    let token = RefreshToken { session: session(), counter: 7, secret: TokenSecret::new([9; 32]) };
    let good = REFRESH.text(&token);
    let changed = edited(good.as_bytes(), edits);
    let Some(changed) = text(&changed) else { return };
    assert_eq!(REFRESH.parse(changed).is_ok(), changed == good.as_str(), "a changed token is good");
}

fn account() -> AccountId {
    AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [1; 10]))
}

fn session() -> SessionId {
    SessionId::from_record(RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [2; 10]))
}
