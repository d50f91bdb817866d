//! The SHA-256 of a certificate, by which people and tokens name it.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER_PERMISSIVE;
use std::{fmt, str::FromStr};

/// What stands before the digits.
const PREFIX: &str = "sha256:";

/// SHA-256 of a certificate in DER, as `x5t#S256` has it (RFC 8705 section 3.1). Written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        // INVARIANT: SHA-256 has 32 bytes, so all of them are copied.
        bytes.iter_mut().zip(digest(&SHA256, certificate).as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Also with a colon between each two digits, as `openssl x509 -fingerprint` writes it.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let malformed = || FingerprintError { text: text.to_owned() };
        let digits = text.trim().strip_prefix(PREFIX).ok_or_else(malformed)?.replace(':', "");
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| malformed())?;
        bytes.try_into().map(Self).map_err(|_| malformed())
    }
}

/// A text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no fingerprint of a certificate: write sha256: and 64 hexadecimal digits, as the server printed it"
)]
pub struct FingerprintError {
    /// What was given.
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of nothing (FIPS 180-4).
    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let of_nothing = Fingerprint::of(&[]);
        assert_eq!(of_nothing.to_string(), EMPTY);
        let digits = EMPTY.trim_start_matches(PREFIX).to_uppercase();
        let pairs: Vec<String> = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
        for text in [EMPTY.to_owned(), format!("{PREFIX}{digits}"), format!(" {PREFIX}{}\n", pairs.join(":"))] {
            assert_eq!(text.parse::<Fingerprint>().expect("a fingerprint"), of_nothing, "{text}");
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let digits = EMPTY.trim_start_matches(PREFIX);
        for text in ["", PREFIX, digits, &EMPTY[..EMPTY.len() - 1], &format!("{EMPTY}00"), &EMPTY.replace('e', "g")] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
