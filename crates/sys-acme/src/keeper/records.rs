//! What is written down of one certificate: the certificate itself, and how the tries went.
//!
//! The certificate is text in which its key lies as it is, so that reading it makes no copies that stay in memory.

use crate::{
    certificate::{Certificate, Issued},
    failure::Failure,
    kept::{self, Kept, KeptError},
    name::Wanted,
    plan::State,
    status::FailureReport,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const CERTIFICATE_FORMAT: &str = "sys-acme certificate 1";
pub(super) const ATTEMPTS_FORMAT: u8 = 1;
/// What a chain begins with: the key stands before it.
const CHAIN_BEGINS: &str = "-----BEGIN CERTIFICATE-----";

/// How the tries went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempts {
    pub(super) format: u8,
    /// Who was asked. Of another nothing is known yet.
    pub(super) origin: String,
    /// Drawn for this certificate.
    pub(super) random: u64,
    pub(super) state: State,
    pub(super) report: Option<FailureReport>,
}

/// A certificate that was kept.
pub(super) struct KeptCertificate {
    pub(super) issued: Issued,
    pub(super) origin: String,
}

/// Where things about one certificate are kept.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) certificate: String,
    pub(super) attempts: String,
}

impl Places {
    pub(super) fn of(wanted: &Wanted) -> Self {
        let names = wanted.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self { certificate: kept::place("certificate", &names), attempts: kept::place("attempts", &names) }
    }
}

/// The certificate that is kept: `Err` inside if there is one that is of no use.
pub(super) async fn read_certificate(
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
pub(super) async fn write_certificate(
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
