//! What the operator wants: which directory, which account, which certificates.

use crate::{ChallengeKind, name::Wanted};
use ::http::Uri;
use data_encoding::BASE64URL_NOPAD;
use std::{collections::BTreeMap, fmt};
use zeroize::Zeroizing;

/// Let's Encrypt, production.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Certificates that one keeper looks after; each has a task of its own.
const MAX_CERTIFICATES: usize = 100;

/// What is asked of which directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL of the directory.
    pub directory: String,
    /// Where the CA may write to. Most write to nobody any more.
    pub email: Option<String>,
    /// The account at the CA that ours is bound to (RFC 8555 section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// The root certificates of a private directory, PEM. Without it, the roots that browsers trust.
    pub root_pem: Option<String>,
    /// The profile to ask for; `None` leaves it to the directory.
    pub profile: Option<String>,
    /// How names may be proven. The first that fits is taken, after a failure the next.
    pub kinds: Vec<ChallengeKind>,
    /// The certificates.
    pub wanted: Vec<Wanted>,
}

impl Settings {
    /// Let's Encrypt, with all kinds of proof.
    pub fn lets_encrypt(wanted: Vec<Wanted>) -> Self {
        Self {
            directory: LETS_ENCRYPT.to_owned(),
            email: None,
            external_account: None,
            root_pem: None,
            profile: None,
            kinds: vec![ChallengeKind::Dns01, ChallengeKind::TlsAlpn01, ChallengeKind::Http01],
            wanted,
        }
    }

    /// Whether a keeper would start with these; nobody is asked.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.contact()?;
        self.directory_uri()?;
        apart(&self.wanted)
    }

    /// The contact as the account has it.
    pub(crate) fn contact(&self) -> Result<Option<String>, SettingsError> {
        let Some(email) = &self.email else { return Ok(None) };
        // RFC 8555 section 7.3: no header fields and one address only. What else is wrong, the CA says.
        let is_address = email.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'));
        let is_plain = email.bytes().all(|byte| byte.is_ascii_graphic() && !b",?<>\"".contains(&byte));
        if is_address && is_plain { Ok(Some(format!("mailto:{email}"))) } else { Err(SettingsError::Email) }
    }

    /// The directory's URL, which has to be one that is sealed on the way.
    pub(crate) fn directory_uri(&self) -> Result<Uri, SettingsError> {
        let uri = self.directory.parse::<Uri>().map_err(|_| SettingsError::Directory)?;
        let is_https = uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty());
        if is_https { Ok(uri) } else { Err(SettingsError::Directory) }
    }
}

/// Refuses two certificates that share a name: each would use up what the directory allows the other.
pub(crate) fn apart(wanted: &[Wanted]) -> Result<(), SettingsError> {
    if wanted.len() > MAX_CERTIFICATES {
        return Err(SettingsError::TooManyCertificates { limit: MAX_CERTIFICATES });
    }
    let mut owners = BTreeMap::new();
    for (index, one) in wanted.iter().enumerate() {
        for name in one.iter() {
            if owners.insert(name.base(), index).is_some_and(|other| other != index) {
                return Err(SettingsError::Shared { name: name.base() });
            }
        }
    }
    Ok(())
}

/// An account at the CA, made there beforehand.
#[derive(Clone)]
pub struct ExternalAccount {
    pub(crate) key_id: String,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl ExternalAccount {
    /// From what the CA shows: the key's id, and the key in base64url.
    pub fn parse(key_id: &str, key: &str) -> Result<Self, SettingsError> {
        let key = BASE64URL_NOPAD.decode(key.trim().trim_end_matches('=').as_bytes());
        let key = Zeroizing::new(key.map_err(|_| SettingsError::ExternalAccount)?);
        if key_id.trim().is_empty() || key.is_empty() {
            return Err(SettingsError::ExternalAccount);
        }
        Ok(Self { key_id: key_id.trim().to_owned(), key })
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A name that no certificate can be for.
    #[error("{name:?} cannot stand in a certificate: {problem}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate for nobody.
    #[error("a certificate needs a name: give one, such as example.org")]
    NoNames,
    /// More names than a certificate has room for.
    #[error("a certificate has {limit} names at most: make two of it")]
    TooManyNames {
        /// How many.
        limit: usize,
    },
    /// More certificates than one keeper looks after.
    #[error("{limit} certificates are kept at most: put several names into one")]
    TooManyCertificates {
        /// How many.
        limit: usize,
    },
    /// One name in two certificates.
    #[error("{name} is in two certificates: put it, and its wildcard, into one")]
    Shared {
        /// The name.
        name: String,
    },
    /// Not the URL of a directory.
    #[error("the ACME directory is a URL that begins with https://, such as {LETS_ENCRYPT}")]
    Directory,
    /// Root certificates that cannot be read.
    #[error(
        "the root certificate of the ACME directory cannot be read: it is PEM, \"-----BEGIN CERTIFICATE-----\" first"
    )]
    Root,
    /// An address that nobody can be written to at.
    #[error("the address for the ACME account is one e-mail address, such as admin@example.org")]
    Email,
    /// Half an external account.
    #[error("an external account has a key id and a key in base64url: copy both from where the CA shows them")]
    ExternalAccount,
    /// No way to prove anything.
    #[error("no kind of challenge is allowed: allow dns-01, tls-alpn-01 or http-01")]
    NoKinds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_share_no_name() {
        let one = Wanted::parse(&["example.org", "*.example.org"]).unwrap();
        let other = Wanted::parse(&["example.com"]).unwrap();
        let third = Wanted::parse(&["*.example.com"]).unwrap();
        assert_eq!(apart(&[one.clone(), other.clone()]), Ok(()));
        assert_eq!(apart(&[one, other, third]), Err(SettingsError::Shared { name: "example.com".to_owned() }));
    }

    #[test]
    fn a_directory_is_sealed_on_the_way() {
        let with = |directory: &str| Settings { directory: directory.to_owned(), ..Settings::lets_encrypt(Vec::new()) };
        assert!(with(LETS_ENCRYPT).directory_uri().is_ok());
        for wrong in ["", "http://example.org/dir", "/dir", "https://", "ftp://example.org", "https://exa mple.org/"] {
            assert!(with(wrong).directory_uri().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let account = ExternalAccount::parse("kid-1", "c2VjcmV0LXNlY3JldA").unwrap();
        let settings = Settings { external_account: Some(account), ..Settings::lets_encrypt(Vec::new()) };
        let shown = format!("{settings:?}");
        assert!(shown.contains("kid-1") && !shown.contains("115") && !shown.contains("c2VjcmV0"), "{shown}");
        assert!(ExternalAccount::parse("kid-1", "not base64!").is_err());
    }

    #[test]
    fn an_address_is_one_address() {
        let with = |email: &str| Settings { email: Some(email.to_owned()), ..Settings::lets_encrypt(Vec::new()) };
        assert_eq!(with("admin@example.org").contact(), Ok(Some("mailto:admin@example.org".to_owned())));
        for wrong in ["", "admin", "@example.org", "a@b.org,c@d.org", "a@b.org?subject=x", "a b@c.org"] {
            assert_eq!(with(wrong).contact(), Err(SettingsError::Email), "{wrong}");
        }
    }
}
