//! What an operator decides, as text; and the same checked, as everything else here takes it.

use crate::DomainError;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};
use sys_dns::name::{Name, NameError};

/// Names that the server's own CA signs for besides: for who works on this machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Domains of one server. Each has a zone, keys and certificates of its own.
const MAX_DOMAINS: usize = 20;
/// Hosts and public names: each is in certificates and in records.
const MAX_HOSTS: usize = 50;
/// Public names: each has keys of its own, and all of them fit into one record.
pub const MAX_PUBLIC_NAMES: usize = 4;
/// A key that is published for less than this would be superseded while caches still have it.
pub const MIN_ROTATION_S: i64 = 2 * crate::ech::HOLD_S;
/// How long an ECH key is published where nothing else is said: a day.
pub const DEFAULT_ROTATION_S: i64 = 86_400;

/// What an operator decides about the domains of a server. The default has no domain.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The domains, such as `example.org`. The server answers at each by itself, and the first gives the defaults.
    pub domains: Vec<String>,
    /// Further names that the server answers at, within the domains: `www.example.org`.
    pub hosts: Vec<String>,
    /// The port that clients reach it on.
    pub https_port: u16,
    /// The addresses that clients reach it on.
    pub addresses: Vec<IpAddr>,
    /// How the zones of the domains are served; nothing if other name servers have them.
    pub zone: Option<ZoneSettings>,
    /// Where certificates are asked for, without the names, which follow from the domains.
    pub acme: Option<sys_acme::Settings>,
    /// Certificates that the operator brings. They come before all others.
    pub files: Vec<CertificateFiles>,
    /// Whether a CA of the server's own signs for the names that no file is for.
    pub local_ca: bool,
    /// How the names that clients ask for are hidden.
    pub ech: EchSettings,
}

/// How zones are served.
#[derive(Debug, Clone, Default)]
pub struct ZoneSettings {
    /// The name servers; by default `ns1` and `ns2` in each domain, which are this server.
    pub name_servers: Vec<String>,
    /// A resolver to ask what the world sees of the domains; without one it is not checked.
    pub resolver: Option<SocketAddr>,
    /// Domains of CAs that may issue for the domains besides (RFC 8659): those by which files come.
    pub certificate_authorities: Vec<String>,
}

/// A certificate in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its root, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// How the names that clients ask for are hidden.
#[derive(Debug, Clone)]
pub struct EchSettings {
    /// The names that stand in the clear instead; by default the first domain itself. A certificate is fetched for each.
    pub public_names: Vec<String>,
    /// How long a key is published, in seconds.
    pub rotate_every_s: i64,
}

impl Default for EchSettings {
    fn default() -> Self {
        Self { public_names: Vec::new(), rotate_every_s: DEFAULT_ROTATION_S }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            hosts: Vec::new(),
            https_port: 443,
            addresses: Vec::new(),
            zone: None,
            acme: None,
            files: Vec::new(),
            local_ca: false,
            ech: EchSettings::default(),
        }
    }
}

impl Settings {
    /// Whether a server would start with these, as far as they say it themselves: no file is read, and nobody is asked.
    pub fn check(&self) -> Result<(), DomainError> {
        if let Some(acme) = &self.acme {
            acme.check()?;
        }
        Ok(Plan::of(self).map(drop)?)
    }
}

/// What is wrong with the settings, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A text that is no name.
    #[error("`{name}` is no name of a host: {problem}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        problem: NameError,
    },
    /// Two domains that are one, or one within the other.
    #[error("{0} is within another of the domains: give the outer one, and hosts for what is inside")]
    Nested(Name),
    /// A host elsewhere.
    #[error("{0} is in none of the domains: add its domain, or leave it out")]
    Elsewhere(Name),
    /// A name that no host can have.
    #[error("{0} cannot be the name of a host: its parts are letters, digits and hyphens, and there are two at least")]
    NotAHost(Name),
    /// More than there is room for.
    #[error("there are more than {most} {what}: take some out")]
    TooMany {
        /// What.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// A zone without addresses.
    #[error("nobody could find the server: give the addresses that it is reached on with --public-address")]
    NoAddress,
    /// A rotation faster than caches forget.
    #[error(
        "ECH keys cannot be replaced more often than every {MIN_ROTATION_S} seconds: caches keep the old ones for so long"
    )]
    Rotation,
    /// A CA's domain that is none.
    #[error("`{0}` is no domain of a certificate authority: write one such as letsencrypt.org")]
    Authority(String),
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) domains: Vec<DomainPlan>,
    pub(crate) https_port: u16,
    pub(crate) ipv4: Vec<Ipv4Addr>,
    pub(crate) ipv6: Vec<Ipv6Addr>,
    pub(crate) serves_zones: bool,
    pub(crate) resolver: Option<SocketAddr>,
    /// Each with an ECH key, in the order in which they were given.
    pub(crate) public_names: Vec<Name>,
    pub(crate) rotate_every_s: i64,
    /// Who may issue certificates for the domains; anybody if there is none.
    pub(crate) authorities: Vec<String>,
    pub(crate) files: Vec<CertificateFiles>,
    pub(crate) local_ca: bool,
}

/// One domain.
#[derive(Debug, Clone)]
pub(crate) struct DomainPlan {
    pub(crate) apex: Name,
    /// The names that the server answers at: the domain first.
    pub(crate) hosts: Vec<Name>,
    /// The public names within the domain.
    pub(crate) public_names: Vec<Name>,
    pub(crate) name_servers: Vec<Name>,
}

impl Plan {
    /// The plan that these settings come to; `None` if there is nothing to keep: no domain, and no certificate for addresses.
    pub(crate) fn of(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let apexes = names(&settings.domains, "domains", MAX_DOMAINS)?;
        let has_certificates = settings.acme.is_some() || settings.local_ca || !settings.files.is_empty();
        if apexes.is_empty() && !has_certificates {
            return Ok(None);
        }
        for (index, apex) in apexes.iter().enumerate() {
            let is_within = |(at, other): (usize, &Name)| at != index && apex.is_within(other);
            if apexes.iter().enumerate().any(is_within) {
                return Err(SettingsError::Nested(apex.clone()));
            }
        }
        let hosts = names(&settings.hosts, "hosts", MAX_HOSTS)?;
        if let Some(elsewhere) = hosts.iter().find(|host| !apexes.iter().any(|apex| host.is_within(apex))) {
            return Err(SettingsError::Elsewhere(elsewhere.clone()));
        }
        let mut public_names = names(&settings.ech.public_names, "public names", MAX_PUBLIC_NAMES)?;
        if public_names.is_empty() {
            public_names.extend(apexes.first().cloned());
        }
        if settings.ech.rotate_every_s < MIN_ROTATION_S {
            return Err(SettingsError::Rotation);
        }
        let serves_zones = settings.zone.is_some() && !apexes.is_empty();
        if serves_zones && settings.addresses.is_empty() {
            return Err(SettingsError::NoAddress);
        }
        let zone = settings.zone.clone().unwrap_or_default();
        let name_servers = names(&zone.name_servers, "name servers", MAX_HOSTS)?;
        let domains = apexes.iter().map(|apex| DomainPlan::of(apex, &hosts, &public_names, &name_servers)).collect();
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for address in settings.addresses.iter().collect::<BTreeSet<_>>() {
            match address {
                IpAddr::V4(address) => ipv4.push(*address),
                IpAddr::V6(address) => ipv6.push(*address),
            }
        }
        Ok(Some(Self {
            domains,
            https_port: settings.https_port,
            ipv4,
            ipv6,
            serves_zones,
            resolver: zone.resolver,
            public_names,
            rotate_every_s: settings.ech.rotate_every_s,
            authorities: authorities(settings, &zone)?,
            files: settings.files.clone(),
            local_ca: settings.local_ca,
        }))
    }

    /// The domain that a name is in.
    pub(crate) fn domain_of(&self, name: &Name) -> Option<&DomainPlan> {
        self.domains.iter().find(|domain| name.is_within(&domain.apex))
    }

    /// The addresses that the server is reached on, as text.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let v4 = self.ipv4.iter().map(ToString::to_string);
        v4.chain(self.ipv6.iter().map(ToString::to_string)).collect()
    }

    /// The certificates that a public authority is asked for: those of the domains; without a domain one for the addresses.
    pub(crate) fn public_certificates(&self) -> Vec<Vec<String>> {
        let mut certificates = self.certificates();
        if certificates.is_empty() && !self.addresses().is_empty() {
            certificates.push(self.addresses());
        }
        certificates
    }

    /// The certificates of the server's own CA: those of the domains, and one for all addresses and this machine. That one names no
    /// domain, since whoever comes by an address alone gets to see it.
    pub(crate) fn local_certificates(&self) -> Vec<Vec<String>> {
        let mut certificates = self.certificates();
        certificates.push(self.addresses().into_iter().chain(LOCAL.map(str::to_owned)).collect());
        certificates
    }

    /// The certificates that are wanted: one for each domain with all below it where that can be proven, and one for each
    /// public name elsewhere.
    fn certificates(&self) -> Vec<Vec<String>> {
        let mut certificates: Vec<Vec<String>> = Vec::new();
        for domain in &self.domains {
            let mut wanted: BTreeSet<String> =
                domain.hosts.iter().chain(&domain.public_names).map(Name::host).collect();
            if self.serves_zones {
                // One label below the domain is said by the wildcard.
                wanted.retain(|name| !is_child(name, &domain.apex.host()));
                wanted.insert(format!("*.{}", domain.apex.host()));
            }
            certificates.push(wanted.into_iter().collect());
        }
        let elsewhere = self.public_names.iter().filter(|name| self.domain_of(name).is_none());
        certificates.extend(elsewhere.map(|name| vec![name.host()]));
        certificates
    }
}

impl DomainPlan {
    fn of(apex: &Name, hosts: &[Name], public_names: &[Name], name_servers: &[Name]) -> Self {
        let within = |names: &[Name]| names.iter().filter(|name| name.is_within(apex)).cloned().collect::<Vec<_>>();
        let mut own_hosts = vec![apex.clone()];
        own_hosts.extend(within(hosts).into_iter().filter(|host| host != apex));
        let mut name_servers = name_servers.to_vec();
        if name_servers.is_empty() {
            // Registrars ask for two.
            name_servers = [&b"ns1"[..], b"ns2"].iter().filter_map(|label| apex.child(label)).collect();
        }
        Self { apex: apex.clone(), hosts: own_hosts, public_names: within(public_names), name_servers }
    }
}

/// Whether a name is one label below another.
fn is_child(name: &str, apex: &str) -> bool {
    name.split_once('.').is_some_and(|(_, parent)| parent == apex)
}

fn names(texts: &[String], what: &'static str, most: usize) -> Result<Vec<Name>, SettingsError> {
    if texts.len() > most {
        return Err(SettingsError::TooMany { what, most });
    }
    let mut names: Vec<Name> = Vec::new();
    for text in texts {
        let parsed = Name::parse(text);
        let name = parsed.map_err(|problem| SettingsError::Name { name: text.clone(), problem })?;
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let is_label = |label: &[u8]| label.iter().all(is_letter) && !label.starts_with(b"-") && !label.ends_with(b"-");
        if name.label_count() < 2 || !name.labels().all(is_label) {
            return Err(SettingsError::NotAHost(name));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whom CAA records let issue: the CA behind the ACME directory, as far as it is known, and those that the operator names.
fn authorities(settings: &Settings, zone: &ZoneSettings) -> Result<Vec<String>, SettingsError> {
    let mut authorities: Vec<String> = Vec::new();
    for name in &zone.certificate_authorities {
        let parsed = Name::parse(name).map_err(|_| SettingsError::Authority(name.clone()))?;
        authorities.push(parsed.host());
    }
    let host = settings.acme.as_ref().and_then(|acme| host_of(&acme.directory));
    let known = host.and_then(|host| {
        KNOWN_AUTHORITIES.iter().find(|(domain, _)| host == *domain || is_below(&host, domain)).map(|(_, ca)| *ca)
    });
    authorities.extend(known.map(str::to_owned));
    authorities.sort();
    authorities.dedup();
    Ok(authorities)
}

/// Where the directories of public CAs are, and what stands for each in CAA records, as their practice statements say it.
const KNOWN_AUTHORITIES: [(&str, &str); 5] = [
    ("letsencrypt.org", "letsencrypt.org"),
    ("zerossl.com", "sectigo.com"),
    ("pki.goog", "pki.goog"),
    ("buypass.com", "buypass.com"),
    ("ssl.com", "ssl.com"),
];

fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.split(':').next()?.to_ascii_lowercase())
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            domains: vec!["Example.org".to_owned()],
            addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
            zone: Some(ZoneSettings::default()),
            ..Settings::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> SettingsError {
        let mut settings = settings();
        change(&mut settings);
        Plan::of(&settings).map(drop).expect_err("it is refused")
    }

    #[test]
    fn a_domain_and_nothing_else_is_enough() {
        let plan = Plan::of(&settings()).unwrap().unwrap();
        assert_eq!(plan.public_names, [Name::parse("example.org").unwrap()]);
        assert_eq!(plan.domains[0].name_servers.len(), 2);
        assert_eq!(plan.certificates(), [vec!["*.example.org".to_owned(), "example.org".to_owned()]]);
        assert!(Plan::of(&Settings::default()).unwrap().is_none());
    }

    #[test]
    fn a_certificate_for_an_address_names_no_domain() {
        let plan = Plan::of(&Settings { local_ca: true, ..settings() }).unwrap().unwrap();
        let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
        let is_domain = |name: &String| name.ends_with("example.org");
        let certificates = plan.local_certificates();
        assert!(certificates.iter().any(|names| names.iter().any(is_address)), "{certificates:?}");
        assert!(certificates.iter().any(|names| names.iter().any(is_domain)), "{certificates:?}");
        let mixed = certificates.iter().find(|names| names.iter().any(is_address) && names.iter().any(is_domain));
        assert_eq!(mixed, None);
    }

    #[test]
    fn without_a_domain_certificates_are_for_addresses() {
        let settings = Settings { domains: Vec::new(), zone: None, local_ca: true, ..settings() };
        let plan = Plan::of(&settings).unwrap().unwrap();
        assert_eq!(plan.public_certificates(), [["192.0.2.1"]]);
        assert_eq!(plan.local_certificates(), [["192.0.2.1", "localhost", "127.0.0.1", "::1"]]);
        assert!(plan.public_names.is_empty() && !plan.serves_zones);
    }

    #[test]
    fn certificates_are_for_all_that_the_server_answers_at() {
        let mut settings = settings();
        settings.hosts = ["www.example.org", "a.b.example.org"].map(str::to_owned).to_vec();
        settings.ech.public_names = ["front.example.com", "public.example.org"].map(str::to_owned).to_vec();
        let plan = Plan::of(&settings).unwrap().unwrap();
        let expected = [vec!["*.example.org", "a.b.example.org", "example.org"], vec!["front.example.com"]];
        assert_eq!(plan.certificates(), expected);
        settings.zone = None;
        let plan = Plan::of(&settings).unwrap().unwrap();
        let expected = ["a.b.example.org", "example.org", "public.example.org", "www.example.org"];
        assert_eq!(plan.certificates()[0], expected, "no wildcard without a zone to prove it in");
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        let name = |text: &str| Name::parse(text).unwrap();
        let two = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(
            refused(|settings| settings.domains = two("example.org", "sub.example.org")),
            SettingsError::Nested(name("sub.example.org"))
        );
        assert_eq!(
            refused(|settings| settings.hosts = vec!["www.example.com".to_owned()]),
            SettingsError::Elsewhere(name("www.example.com"))
        );
        for wrong in ["org", "*.example.org", "_x.example.org", "-a.example.org"] {
            assert_eq!(
                refused(|settings| settings.domains = vec![wrong.to_owned()]),
                SettingsError::NotAHost(name(wrong))
            );
        }
        assert!(matches!(refused(|settings| settings.domains = vec!["a..b".to_owned()]), SettingsError::Name { .. }));
        assert!(matches!(
            refused(|settings| settings.domains = vec!["192.0.2.1".to_owned()]),
            SettingsError::Name { .. }
        ));
        assert_eq!(refused(|settings| settings.addresses.clear()), SettingsError::NoAddress);
        assert_eq!(refused(|settings| settings.ech.rotate_every_s = 60), SettingsError::Rotation);
        let many = SettingsError::TooMany { what: "public names", most: MAX_PUBLIC_NAMES };
        let five = (0..5).map(|at| format!("p{at}.example.org")).collect();
        assert_eq!(refused(|settings| settings.ech.public_names = five), many);
    }

    #[test]
    fn the_authority_is_known_by_its_directory() {
        let with = |directory: &str| {
            let acme =
                sys_acme::Settings { directory: directory.to_owned(), ..sys_acme::Settings::lets_encrypt(Vec::new()) };
            let settings = Settings { acme: Some(acme), ..settings() };
            Plan::of(&settings).unwrap().unwrap().authorities
        };
        assert_eq!(with(sys_acme::LETS_ENCRYPT), ["letsencrypt.org"]);
        assert_eq!(with("https://dv.acme-v02.api.pki.goog/directory"), ["pki.goog"]);
        assert!(with("https://127.0.0.1:14000/dir").is_empty());
        assert!(with("https://notletsencrypt.org/dir").is_empty());
    }
}
