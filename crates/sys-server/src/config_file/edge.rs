//! The settings of the edge: names, certificates, the zone, what HTTP says.

use schemars::JsonSchema;
use serde::Deserialize;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};
use sys_dns::name::Name;
use sys_edge::{ProxySources, hygiene::Origins};

/// Where certificates come from, and how names are hidden. With any of `acme`, `files` and `local_ca` the server speaks TLS 1.3
/// and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificates by ACME, renewed by themselves.
    pub acme: Option<Acme>,
    /// Certificates that somebody else renews. Looked at again every minute, and at SIGHUP.
    pub files: Vec<CertificateFiles>,
    /// A certificate authority of the server's own, which `sys trust` trusts. For demos and for machines without a domain.
    pub local_ca: Option<bool>,
    /// The names that observers see instead of yours (RFC 9849 `public_name`), and whoever connects by address alone; the first domain by
    /// default. Each leads here. To hide the domains themselves, name one of another domain that tells nothing.
    pub ech_public_names: Vec<HostName>,
    /// Hours after which the key of encrypted client hellos is replaced.
    pub ech_rotation_hours: Option<NonZeroU32>,
}

/// Certificates by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// Where the authority writes to when something is wrong with a certificate.
    pub email: String,
    /// The authority's directory; Let's Encrypt's by default.
    #[serde(default)]
    pub directory: Option<String>,
    /// The certificate that the directory's own is signed with, in PEM, where that is a private one.
    #[serde(default)]
    pub root_file: Option<PathBuf>,
    /// The kind of certificate, where the authority has several.
    #[serde(default)]
    pub profile: Option<String>,
    /// What an authority that wants to know its customers has given out (RFC 8555 section 7.3.4).
    #[serde(default)]
    pub external_account: Option<ExternalAccount>,
}

/// The key of an account with an authority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// Its name.
    pub key_id: String,
    /// The file that holds it, in base64url.
    pub key_file: PathBuf,
}

/// A certificate in files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its root, in PEM, its own first.
    pub chain: PathBuf,
    /// Its private key, in PEM; mode 0600.
    pub key: PathBuf,
}

/// The zones of the domains, which the server answers for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Where questions are answered, over UDP and TCP, such as `192.0.2.1:53`.
    pub listen: Vec<Address>,
    /// Where they are answered over TLS, such as `192.0.2.1:853`.
    pub tls_listen: Option<Address>,
    /// The names of the zones' servers; by default `ns1` and `ns2` in each domain, which are this server.
    pub name_servers: Vec<HostName>,
    /// The resolver that is asked what the world sees of the zones, such as `192.0.2.53:53`; without one that is not checked.
    pub resolver: Option<Address>,
    /// Other authorities that may issue certificates for the domains, such as `digicert.com` (RFC 8659).
    pub certificate_authorities: Vec<HostName>,
}

/// What answers over HTTP say beside what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// For how many seconds browsers come back with TLS alone (RFC 6797); 0 says nothing of it. A year by default.
    pub hsts_seconds: Option<u32>,
    /// Says the same of all hosts below yours, also of those that other servers answer for.
    pub hsts_subdomains: Option<bool>,
    /// Asks browsers to ship the domain in their lists of those that are reached over TLS alone. Hard to take back.
    pub hsts_preload: Option<bool>,
    /// The websites whose pages may call the server, such as `https://app.example.org`.
    pub cors_origins: Vec<Origin>,
    /// Whom to tell of a hole (RFC 9116).
    pub security_txt: Option<SecurityTxt>,
}

/// Whom to tell of a hole, at `/.well-known/security.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityTxt {
    /// Where to write to, such as `mailto:security@example.org`.
    pub contacts: Vec<String>,
    /// Until when that is right, such as `2027-12-31T00:00:00Z`: less than a year ahead.
    pub expires: String,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Address(pub SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unlike = |_| "not an address: write ADDRESS:PORT or \"[ADDRESS]:PORT\"; names are not looked up".to_owned();
        text.parse().map(Self).map_err(unlike)
    }
}

/// A network whose proxies are believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Network(pub String);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        ProxySources::parse([&text]).map_err(|error| error.to_string())?;
        Ok(Self(text))
    }
}

/// A website whose pages may call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Origin(pub String);

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Origins::parse([&text]).map_err(|error| error.to_string())?;
        Ok(Self(text))
    }
}

/// A name of a host or a domain, in full. What is wrong with several of them together is found when all settings are there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct HostName(pub String);

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Name::parse_in_full(&text).map_err(|error| error.to_string())?;
        Ok(Self(text))
    }
}

/// An address without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Host(pub IpAddr);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "not an address: write one such as 192.0.2.1 or \"2001:db8::1\"".to_owned())
    }
}
