//! What is written down of one certificate: the certificate itself, and how the tries went.
//!
//! The certificate is text in which its key lies as it is, so that reading it makes no copies that stay in memory.

use crate::{
    certificate::{self, Certificate, Issued},
    failure::Failure,
    kept::{self, Kept, KeptError},
    name::Wanted,
    plan::State,
    status::FailureReport,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What the names of places begin with.
const CERTIFICATE: &str = "certificate";
const ATTEMPTS: &str = "attempts";

const CERTIFICATE_FORMAT: &str = "sys-acme certificate 1";
pub(crate) const ATTEMPTS_FORMAT: u8 = 1;
/// What a chain begins with: the key stands before it.
const CHAIN_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// How the tries went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attempts {
    pub(crate) format: u8,
    /// Who was asked. Of another nothing is known yet.
    pub(crate) origin: String,
    /// Drawn for this certificate.
    pub(crate) random: u64,
    pub(crate) state: State,
    pub(crate) report: Option<FailureReport>,
}

/// A certificate that was kept.
pub(crate) struct KeptCertificate {
    pub(crate) issued: Issued,
    pub(crate) origin: String,
}

/// Where things about one certificate are kept.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) certificate: String,
    pub(crate) attempts: String,
}

impl Places {
    pub(crate) fn of(wanted: &Wanted) -> Self {
        let names = wanted.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self { certificate: kept::place(CERTIFICATE, &names), attempts: kept::place(ATTEMPTS, &names) }
    }

    /// Where it is told how the tries for the certificate went that is kept there.
    pub(crate) fn attempts_beside(certificate: &str) -> String {
        certificate.replacen(CERTIFICATE, ATTEMPTS, 1)
    }

    /// Whether this is the name of such a place.
    pub(crate) fn is_one(name: &str) -> bool {
        name.split_once('-').is_some_and(|(prefix, _)| [CERTIFICATE, ATTEMPTS].contains(&prefix))
    }
}

/// What is kept at such a place, as far as it can be told.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// Of a certificate.
    pub(crate) names: Vec<String>,
    pub(crate) until_unix_s: Option<i64>,
    /// Whether a certificate was to be declared void.
    pub(crate) is_revoking: bool,
    /// Whether the one that is kept beside is, or was to be.
    pub(crate) is_void: bool,
}

impl About {
    /// Whether it is a certificate for a name of those.
    pub(crate) fn stands_in(&self, missing: &[&Wanted]) -> bool {
        let has_name = |wanted: &&Wanted| wanted.names().iter().any(|name| self.names.contains(name));
        missing.iter().any(has_name)
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.until_unix_s.is_some_and(|until| until <= now)
    }
}

/// What is kept there.
pub(crate) fn about(bytes: &[u8]) -> About {
    if let Ok(attempts) = serde_json::from_slice::<Attempts>(bytes) {
        let State { revocation, is_void, .. } = attempts.state;
        return About { is_revoking: revocation.is_some(), is_void, ..About::default() };
    }
    let chain = std::str::from_utf8(bytes).ok().and_then(|text| text.get(text.find(CHAIN_BEGINS)?..));
    let told = chain.and_then(|chain| certificate::told(chain).ok());
    told.map_or_else(About::default, |(names, until)| About { names, until_unix_s: Some(until), ..About::default() })
}

/// The certificate that is kept, whatever names it is for.
pub(crate) fn any_certificate(bytes: &[u8]) -> Option<Certificate> {
    let wanted = Wanted::parse(&about(bytes).names).ok()?;
    parse(bytes, &wanted)?.ok().map(|kept| kept.issued.certificate)
}

/// The certificate that is kept: `Err` inside if there is one that is of no use.
pub(crate) async fn read_certificate(
    kept: &dyn Kept,
    place: &str,
    wanted: &Wanted,
) -> Result<Option<Result<KeptCertificate, Failure>>, KeptError> {
    let Some(bytes) = kept.get(place).await? else { return Ok(None) };
    let unreadable = || Failure::Kept { reason: "the certificate that was kept cannot be read".to_owned() };
    Ok(Some(parse(&bytes, wanted).unwrap_or_else(|| Err(unreadable()))))
}

fn parse(bytes: &[u8], wanted: &Wanted) -> Option<Result<KeptCertificate, Failure>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (format, rest) = text.split_once('\n')?;
    let (origin, rest) = rest.split_once('\n')?;
    let (taken_at, rest) = rest.split_once('\n')?;
    let (key, chain) = rest.split_at_checked(rest.find(CHAIN_BEGINS)?)?;
    if format != CERTIFICATE_FORMAT {
        return None;
    }
    let issued = Issued::checked(chain.to_owned(), Zeroizing::new(key.to_owned()), wanted, taken_at.parse().ok()?);
    Some(issued.map(|issued| KeptCertificate { issued, origin: origin.to_owned() }))
}

/// Keeps a certificate.
pub(crate) async fn write_certificate(
    kept: &dyn Kept,
    place: &str,
    certificate: &Certificate,
    taken_at: i64,
    origin: &str,
) -> Result<(), KeptError> {
    let head = format!("{CERTIFICATE_FORMAT}\n{origin}\n{taken_at}\n");
    let parts = [head.as_str(), certificate.key_pem.as_str(), certificate.chain_pem.as_str()];
    let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
    }
    kept.put(place, bytes).await
}
