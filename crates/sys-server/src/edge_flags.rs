//! The flags of the edge, and what they mean together with the configuration file.

use crate::options::address;
use anyhow::{Context, bail};
use clap::Args;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroU16,
    path::{Path, PathBuf},
};
use sys_domain::{AcmeSettings, CertificateFiles, EchSettings, ExternalAccount, Settings, ZoneSettings};
use sys_edge::{
    ProxySources,
    hygiene::{Hsts, Hygiene, Origins, SecurityTxt},
};
use sys_server::{
    EdgeConfig, Sockets,
    config_file::{self, Address, ConfigFile, HostName},
};

/// The largest file of a key or a certificate that is read.
const MAX_PEM_BYTES: u64 = 256 << 10;
const HOUR_S: i64 = 3_600;
/// How long browsers come back with TLS alone where nobody says: a year.
const HSTS_S: u64 = 31_536_000;

/// How the server is reached from elsewhere.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How it is reached")]
pub(crate) struct EdgeFlags {
    /// A domain that the server is reached by. May be given again.
    #[arg(long = "domain", value_name = "NAME")]
    pub(crate) domains: Vec<String>,

    /// A further name that it is reached by, within a domain. May be given again.
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,

    /// The port that clients reach it on; by default the one that is listened on.
    #[arg(long, value_name = "PORT")]
    pub(crate) https_port: Option<NonZeroU16>,

    /// Gets certificates by ACME, from Let's Encrypt, which writes to this address when something is wrong with one.
    #[arg(long, value_name = "EMAIL")]
    pub(crate) acme_email: Option<String>,

    /// The directory of another authority.
    #[arg(long, value_name = "URL")]
    pub(crate) acme_directory: Option<String>,

    /// The certificate that the directory's own is signed with, in PEM, where that is a private one.
    #[arg(long, value_name = "FILE")]
    pub(crate) acme_root_file: Option<PathBuf>,

    /// Takes this certificate chain, in PEM, which somebody else renews.
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    pub(crate) tls_chain_file: Option<PathBuf>,

    /// The private key of --tls-chain-file, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_chain_file")]
    pub(crate) tls_key_file: Option<PathBuf>,

    /// Makes a certificate authority of the server's own, which `sys trust` trusts. For demos and for machines without a domain.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) local_ca: Option<bool>,

    /// An address that the domains lead to; by default the one that is listened on. May be given again.
    #[arg(long = "public-address", value_name = "IP")]
    pub(crate) public_addresses: Vec<IpAddr>,

    /// The name that observers see instead of the others, and whoever connects by address alone; it leads here, too. Default: the first
    /// domain. To hide that as well, name one of another domain that tells nothing. May be given again.
    #[arg(long = "ech-public-name", value_name = "NAME")]
    pub(crate) ech_public_names: Vec<String>,

    /// Sends plain HTTP on to TLS from this address, such as 0.0.0.0:80.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) plain_listen: Option<SocketAddr>,

    /// Answers for the zones of the domains on this address, over UDP and TCP, such as 192.0.2.1:53. May be given again.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) dns_listen: Vec<SocketAddr>,

    /// Answers for the zones over TLS, such as 192.0.2.1:853.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) dns_tls_listen: Option<SocketAddr>,

    /// Asks this resolver what the world sees of the zones, such as 192.0.2.53:53.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub(crate) dns_resolver: Option<SocketAddr>,

    /// Takes what a proxy in this network says of who is behind it (PROXY protocol v2), such as 192.0.2.0/24. May be given again.
    #[arg(long = "proxy", value_name = "NETWORK")]
    pub(crate) proxies: Vec<String>,
}

impl EdgeFlags {
    /// The edge that was asked for, on a server that listens here, with ports that are bound already.
    pub(crate) fn config(self, file: &ConfigFile, listen: SocketAddr, sockets: Sockets) -> anyhow::Result<EdgeConfig> {
        let acme = self.acme(file.tls.acme.as_ref())?;
        let either = |flags: Vec<String>, file: &[HostName]| if flags.is_empty() { texts(file) } else { flags };
        let mut dns_listen = self.dns_listen;
        if dns_listen.is_empty() {
            dns_listen = file.dns.listen.iter().map(|address| address.0).collect();
        }
        let dns_tls_listen = self.dns_tls_listen.or(file.dns.tls_listen.map(|address| address.0));
        let zone = ZoneSettings {
            name_servers: texts(&file.dns.name_servers),
            resolver: self.dns_resolver.or(file.dns.resolver.map(|address| address.0)),
            certificate_authorities: texts(&file.dns.certificate_authorities),
        };
        let mut addresses = self.public_addresses;
        if addresses.is_empty() {
            addresses = file.public_addresses.iter().map(|host| host.0).collect();
        }
        if addresses.is_empty() {
            addresses = seen_from_elsewhere(listen.ip()).into_iter().collect();
        }
        let mut files: Vec<_> = self.tls_chain_file.zip(self.tls_key_file).into_iter().collect();
        if files.is_empty() {
            files = file.tls.files.iter().map(|files| (files.chain.clone(), files.key.clone())).collect();
        }
        let ech = EchSettings::default();
        let rotation = file.tls.ech_rotation_hours.map(|hours| i64::from(hours.get()).saturating_mul(HOUR_S));
        let proxies = match self.proxies.is_empty() {
            true => file.proxies.iter().map(|network| network.0.clone()).collect(),
            false => self.proxies,
        };
        let has_dns = !dns_listen.is_empty() || dns_tls_listen.is_some() || sockets.has_dns();
        Ok(EdgeConfig {
            domain: Settings {
                domains: either(self.domains, &file.domains),
                hosts: either(self.hosts, &file.hosts),
                https_port: listen.port(),
                addresses,
                zone: has_dns.then_some(zone),
                acme,
                files: files.into_iter().map(|(chain, key)| CertificateFiles { chain, key }).collect(),
                local_ca: self.local_ca.or(file.tls.local_ca).unwrap_or_default(),
                ech: EchSettings {
                    public_names: either(self.ech_public_names, &file.tls.ech_public_names),
                    rotate_every_s: rotation.unwrap_or(ech.rotate_every_s),
                },
            },
            https_port: self.https_port.or(file.https_port).map(NonZeroU16::get),
            plain_listen: self.plain_listen.or(file.plain_listen.map(|Address(address)| address)),
            dns_listen,
            dns_tls_listen,
            proxies: ProxySources::parse(proxies)?,
            hygiene: hygiene(&file.http)?,
            sockets,
        })
    }

    /// The flags win, one by one; with none of them and nothing in the file, ACME is not used.
    fn acme(&self, file: Option<&config_file::Acme>) -> anyhow::Result<Option<AcmeSettings>> {
        let Some(email) = self.acme_email.clone().or_else(|| file.map(|file| file.email.clone())) else {
            if self.acme_directory.is_some() || self.acme_root_file.is_some() {
                bail!(
                    "a directory of certificates is named, and nobody whom it could write to: add --acme-email EMAIL"
                );
            }
            return Ok(None);
        };
        let directory = self.acme_directory.clone().or_else(|| file.and_then(|file| file.directory.clone()));
        let root = self.acme_root_file.as_ref().or_else(|| file.and_then(|file| file.root_file.as_ref()));
        let external = file.and_then(|file| file.external_account.as_ref());
        let of_default = AcmeSettings::lets_encrypt(Vec::new());
        Ok(Some(AcmeSettings {
            directory: directory.unwrap_or(of_default.directory),
            email: Some(email),
            external_account: external.map(external_account).transpose()?,
            root_pem: root.map(|root| text_of(root)).transpose()?,
            profile: file.and_then(|file| file.profile.clone()),
            ..AcmeSettings::lets_encrypt(Vec::new())
        }))
    }
}

fn texts(names: &[HostName]) -> Vec<String> {
    names.iter().map(|name| name.0.clone()).collect()
}

fn external_account(of: &config_file::ExternalAccount) -> anyhow::Result<ExternalAccount> {
    let key = zeroize::Zeroizing::new(text_of(&of.key_file)?);
    Ok(ExternalAccount::parse(&of.key_id, &key)?)
}

pub(crate) fn text_of(file: &Path) -> anyhow::Result<String> {
    let about = || format!("{} cannot be read", file.display());
    if fs::metadata(file).with_context(about)?.len() > MAX_PEM_BYTES {
        anyhow::bail!("{}: it has more than {MAX_PEM_BYTES} bytes", about());
    }
    fs::read_to_string(file).with_context(about)
}

fn hygiene(file: &config_file::Http) -> anyhow::Result<Hygiene> {
    let security = file.security_txt.as_ref();
    Ok(Hygiene {
        hsts: hsts(file),
        cors_origins: Origins::parse(file.cors_origins.iter().map(|origin| &origin.0))?,
        security_txt: security.map(|file| SecurityTxt::new(&file.contacts, &file.expires)).transpose()?,
    })
}

fn hsts(file: &config_file::Http) -> Hsts {
    if file.hsts_preload.unwrap_or_default() {
        return Hsts::Preload;
    }
    let max_age_s = file.hsts_seconds.map_or(HSTS_S, u64::from);
    match file.hsts_subdomains.unwrap_or_default() {
        _ if max_age_s == 0 => Hsts::Off,
        true => Hsts::WithSubdomains { max_age_s },
        false => Hsts::Host { max_age_s },
    }
}

/// The address by which others reach this one: itself, or where any address is listened on, the one that leads to the internet if
/// it is one of those that lead back.
fn seen_from_elsewhere(listen: IpAddr) -> Option<IpAddr> {
    if !listen.is_unspecified() {
        return Some(listen);
    }
    // To connect a UDP socket sends nothing: it asks for a route to an address that nobody has (RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_private() && !address.is_loopback() && !address.is_link_local() => {
            Some(address.into())
        }
        _ => None,
    }
}
