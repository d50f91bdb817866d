//! What is kept of servers that are reached over TLS: which private authorities their user trusts for each, how its name is hidden
//! (ECH), and where it is if not where DNS says. All of it lies in one file beside the session; it holds no secret, but whoever could write
//! it could choose whom tokens go to, so it is read as carefully as the session is.
//!
//! What must never happen here: an authority that is trusted for one server taken for another.

use crate::{Endpoint, Fingerprint, SessionError, SessionStore, ech::ConfigList, own_file};
use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, path::PathBuf};

/// The file's name in the directory of the session.
const FILE: &str = "servers.json";
/// What is being written in its place.
const NEW_FILE: &str = "servers.json.new";
/// Held by whoever changes it. Not the lock of the session, which is held over calls that may have to change this file.
const LOCK: &str = "servers.lock";
/// The format that is written.
const FORMAT: u32 = 1;
/// Servers that are kept; nobody knows more.
const MAX_SERVERS: usize = 1_024;
/// Private authorities of one server: an old and a new one, twice over.
const MAX_AUTHORITIES: usize = 4;
/// An entry takes 2 KiB; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownServer {
    /// The server.
    pub endpoint: Endpoint,
    /// Private authorities that may vouch for it, besides the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Where it is, instead of where DNS says.
    pub address: Option<IpAddr>,
    /// How its name is hidden.
    pub ech: KnownEch,
}

/// How a server's name is hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownEch {
    /// Whether no connection is to be made that shows the name.
    pub required: bool,
    /// The newest keys of the server.
    pub configs: Option<ConfigList>,
    /// When the server was last asked for them, in Unix seconds.
    pub asked_unix_s: i64,
}

impl KnownServer {
    /// A server of which nothing is known.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, authorities: Vec::new(), address: None, ech: KnownEch::default() }
    }

    /// The fingerprints of the private authorities.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.authorities.iter().map(|authority| Fingerprint::of(authority))
    }

    /// Trusts another authority; the oldest goes where there are too many.
    pub(crate) fn trust(&mut self, authority: CertificateDer<'static>) {
        self.authorities.retain(|known| *known != authority);
        self.authorities.push(authority);
        let over = self.authorities.len().saturating_sub(MAX_AUTHORITIES);
        self.authorities.drain(..over);
    }
}

/// What its user says of a server. It holds from the connection on that it is said for, and is kept when that has led to the server.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// A private authority, which the server is to show in its chain. It alone may vouch for the server on this connection, and it
    /// may besides the others from then on.
    pub authority: Option<Fingerprint>,
    /// Where the server is.
    pub address: Option<IpAddr>,
    /// Whether its name may never be shown.
    pub ech_required: Option<bool>,
    /// Its keys.
    pub ech_configs: Option<ConfigList>,
}

impl Told {
    /// All but the authority, which is kept when the server has shown it.
    pub(crate) fn say(&self, known: &mut KnownServer) {
        known.address = self.address.or(known.address);
        known.ech.required = self.ech_required.unwrap_or(known.ech.required);
        if let Some(configs) = &self.ech_configs {
            known.ech.configs = Some(configs.clone());
        }
    }
}

/// The servers that are known.
#[derive(Debug, Clone)]
pub struct KnownServers(SessionStore);

impl KnownServers {
    /// Beside the session in this directory.
    pub fn new(sessions: SessionStore) -> Self {
        Self(sessions)
    }

    /// All of them.
    pub fn list(&self) -> Result<Vec<KnownServer>, SessionError> {
        let path = self.path();
        let Some(text) = own_file::read(&path, MAX_FILE_BYTES)? else { return Ok(Vec::new()) };
        from_text(&text).ok_or(SessionError::MalformedServers { path })
    }

    /// What is known of a server.
    pub fn of(&self, endpoint: &Endpoint) -> Result<KnownServer, SessionError> {
        let known = self.list()?.into_iter().find(|known| known.endpoint == *endpoint);
        Ok(known.unwrap_or_else(|| KnownServer::new(endpoint.clone())))
    }

    /// Changes what is known of a server.
    pub async fn change(
        &self,
        endpoint: &Endpoint,
        change: impl FnOnce(&mut KnownServer),
    ) -> Result<KnownServer, SessionError> {
        let _held = own_file::lock(&self.0.file(LOCK)).await?;
        let mut known = self.of(endpoint)?;
        let before = known.clone();
        change(&mut known);
        if known == before {
            return Ok(known);
        }
        let mut all = self.list()?;
        all.retain(|other| other.endpoint != *endpoint);
        all.push(known.clone());
        let over = all.len().saturating_sub(MAX_SERVERS);
        // The one that was left alone for longest.
        all.drain(..over);
        self.write(&all)?;
        Ok(known)
    }

    /// Forgets a server; says whether it was known.
    pub async fn remove(&self, endpoint: &Endpoint) -> Result<bool, SessionError> {
        let _held = own_file::lock(&self.0.file(LOCK)).await?;
        let mut all = self.list()?;
        let before = all.len();
        all.retain(|known| known.endpoint != *endpoint);
        if all.len() == before {
            return Ok(false);
        }
        self.write(&all)?;
        Ok(true)
    }

    fn write(&self, servers: &[KnownServer]) -> Result<(), SessionError> {
        let path = self.path();
        let text = to_text(servers).ok_or_else(|| SessionError::MalformedServers { path: path.clone() })?;
        own_file::replace(&path, &self.0.file(NEW_FILE), text.as_bytes())
            .map_err(|source| SessionError::File { path, source })
    }

    fn path(&self) -> PathBuf {
        self.0.file(FILE)
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    servers: Vec<StoredServer>,
}

#[derive(Serialize, Deserialize)]
struct StoredServer {
    server: String,
    /// Certificates in DER, in base64.
    #[serde(default)]
    authorities: Vec<String>,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    ech_required: bool,
    /// An ECHConfigList in base64, as DNS has it.
    #[serde(default)]
    ech_configs: Option<String>,
    #[serde(default)]
    ech_asked_unix_s: i64,
}

pub(crate) fn from_text(text: &str) -> Option<Vec<KnownServer>> {
    let stored: Stored = serde_json::from_str(text).ok().filter(|stored: &Stored| stored.format == FORMAT)?;
    stored.servers.into_iter().map(StoredServer::known).collect()
}

pub(crate) fn to_text(servers: &[KnownServer]) -> Option<String> {
    let servers = servers.iter().map(StoredServer::of).collect();
    serde_json::to_string_pretty(&Stored { format: FORMAT, servers }).ok()
}

impl StoredServer {
    fn known(self) -> Option<KnownServer> {
        let authority = |text: String| Some(CertificateDer::from(BASE64.decode(text.as_bytes()).ok()?));
        let configs = self.ech_configs.map(|text| text.parse().ok());
        Some(KnownServer {
            endpoint: self.server.parse().ok()?,
            authorities: self.authorities.into_iter().map(authority).collect::<Option<_>>()?,
            address: self.address,
            ech: KnownEch {
                required: self.ech_required,
                // Keys that this version cannot use are as good as none.
                configs: configs.flatten(),
                asked_unix_s: self.ech_asked_unix_s,
            },
        })
    }

    fn of(known: &KnownServer) -> Self {
        Self {
            server: known.endpoint.to_string(),
            authorities: known.authorities.iter().map(|authority| BASE64.encode(authority)).collect(),
            address: known.address,
            ech_required: known.ech.required,
            ech_configs: known.ech.configs.as_ref().map(ToString::to_string),
            ech_asked_unix_s: known.ech.asked_unix_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ech::tests::list;

    fn known(origin: &str) -> KnownServer {
        KnownServer::new(origin.parse().expect("an endpoint"))
    }

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        let mut one = known("https://example.org");
        one.trust(CertificateDer::from(vec![1, 2, 3]));
        one.address = Some("2001:db8::1".parse().expect("an address"));
        one.ech = KnownEch { required: true, configs: Some(list(1)), asked_unix_s: 5 };
        let all = [one, known("https://192.0.2.1:8443")];
        assert_eq!(from_text(&to_text(&all).expect("text")).as_deref(), Some(all.as_slice()));
        for text in ["", "{}", r#"{"format":2,"servers":[]}"#, r#"{"format":1,"servers":[{"server":"example.org"}]}"#] {
            assert_eq!(from_text(text), None, "{text}");
        }
        let authority = r#"{"format":1,"servers":[{"server":"https://example.org","authorities":["!"]}]}"#;
        assert_eq!(
            from_text(authority),
            None,
            "an authority that cannot be read is no reason to trust fewer unnoticed"
        );
        let keys =
            r#"{"format":1,"servers":[{"server":"https://example.org","ech_required":true,"ech_configs":"AAAA"}]}"#;
        let read = from_text(keys).expect("servers");
        assert_eq!(read.first().map(|known| (known.ech.required, &known.ech.configs)), Some((true, &None)));
    }

    #[tokio::test]
    async fn no_more_is_kept_than_anybody_needs() {
        let directory = tempfile::tempdir().expect("a directory");
        let servers = KnownServers::new(SessionStore::new(directory.path().join("sys")));
        let endpoint = known("https://example.org").endpoint;
        for number in 0..=MAX_AUTHORITIES {
            let authority = CertificateDer::from(vec![u8::try_from(number).expect("few")]);
            servers.change(&endpoint, |known| known.trust(authority)).await.expect("kept");
        }
        let kept = servers.of(&endpoint).expect("readable").authorities;
        assert_eq!(kept.iter().map(|authority| authority.to_vec()).collect::<Vec<_>>(), [[1], [2], [3], [4]]);
        let many: Vec<KnownServer> =
            (0..MAX_SERVERS).map(|number| known(&format!("https://s{number}.example.org"))).collect();
        servers.write(&many).expect("written");
        servers.change(&endpoint, |known| known.ech.asked_unix_s = 1).await.expect("kept");
        let all = servers.list().expect("readable");
        assert_eq!((all.len(), all.last().map(|known| &known.endpoint)), (MAX_SERVERS, Some(&endpoint)));
        assert!(all.iter().all(|known| known.endpoint.as_str() != "https://s0.example.org"));
    }
}
