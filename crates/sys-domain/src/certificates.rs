//! The certificates that the listener shows: those of files first, then those that were fetched, then those of the server's own
//! CA.
//!
//! What must never happen here: a name that had a certificate and has none any more, because a file is being written or a new
//! certificate cannot be read.

use crate::{
    facts::{ShownCertificate, Source, Trouble},
    settings::CertificateFiles,
};
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use sys_acme::Certificate;
use sys_edge::tls::{Identity, Tls};
use zeroize::Zeroizing;

/// The largest file that is read: a chain or a key has some thousand bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// By source, and by what tells the certificates of one source apart.
type Held = BTreeMap<(Source, String), Identity>;

/// What is shown. Clones share it.
#[derive(Clone)]
pub(crate) struct Certificates {
    tls: Tls,
    /// The name that stands in the clear while others are hidden: whoever names nobody gets its certificate.
    first: String,
    held: Arc<Mutex<Held>>,
}

impl Certificates {
    pub(crate) fn new(tls: Tls, first: String) -> Self {
        Self { tls, first, held: Arc::default() }
    }

    /// Shows a certificate that was fetched, in place of the one for the same names.
    pub(crate) fn fetched(&self, source: Source, certificate: &Certificate) {
        match Identity::from_pem(certificate.chain_pem.as_bytes(), certificate.key_pem.as_bytes()) {
            Ok(identity) => self.put(source, certificate.names.join(" "), identity),
            Err(error) => tracing::error!(%error, "a certificate that was fetched cannot be shown"),
        }
    }

    fn put(&self, source: Source, which: String, identity: Identity) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert((source, which), identity);
        self.tls.show(in_order(&held, &self.first));
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> Vec<ShownCertificate> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = held.iter().map(|((source, which), identity)| ShownCertificate {
            // In the order in which they were wanted, where they were; so that they are found again.
            names: match source {
                Source::Files => identity.names().to_vec(),
                Source::Acme | Source::LocalCa => which.split(' ').map(str::to_owned).collect(),
            },
            source: *source,
            until_unix_s: identity.not_after_unix_s(),
        });
        shown.collect()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("first", &self.first).finish_non_exhaustive()
    }
}

/// The identities in the order in which the listener tries them: those of files, then fetched ones, then those of the server's own
/// CA, of each the one that ends last before the others; and before all of them the one for the public name.
fn in_order(held: &Held, first: &str) -> Vec<Identity> {
    let mut held: Vec<(&(Source, String), &Identity)> = held.iter().collect();
    // One may stand in for another, whose names are not quite the same.
    held.sort_by_key(|((source, _), identity)| (*source, Reverse(identity.not_after_unix_s())));
    let mut identities: Vec<&Identity> = held.into_iter().map(|(_, identity)| identity).collect();
    let is_first = |identity: &&Identity| crate::status::covers(identity.names(), first);
    if let Some(at) = identities.iter().position(is_first) {
        let identity = identities.remove(at);
        identities.insert(0, identity);
    }
    identities.into_iter().cloned().collect()
}

/// Certificates in files, which somebody else renews.
#[derive(Debug)]
pub(crate) struct Files(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    files: CertificateFiles,
    /// When the files were written last, as they were read; nothing before they were.
    written: Option<(SystemTime, SystemTime)>,
    trouble: Option<Trouble>,
}

impl Files {
    pub(crate) fn new(files: &[CertificateFiles]) -> Self {
        let watched = |files: &CertificateFiles| Watched { files: files.clone(), written: None, trouble: None };
        Self(files.iter().map(watched).collect())
    }

    /// Reads what has changed. What does not fit is told, and what was there before is shown on.
    pub(crate) async fn look(&mut self, certificates: &Certificates) {
        for watched in &mut self.0 {
            watched.look(certificates).await;
        }
    }

    pub(crate) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.0.iter().filter_map(|watched| watched.trouble.as_ref())
    }
}

impl Watched {
    async fn look(&mut self, certificates: &Certificates) {
        let which = self.files.chain.display().to_string();
        let before = self.written;
        let read = self.read(before).await;
        let problem = match read {
            Ok(None) => return,
            Ok(Some((identity, written))) => {
                certificates.put(Source::Files, which, identity);
                (self.written, self.trouble) = (Some(written), None);
                return;
            }
            Err(problem) => problem,
        };
        let trouble = Trouble {
            about: which,
            problem,
            remedy: "put the chain and its key there, in PEM: they are read again within a minute".to_owned(),
            is_broken: before.is_none(),
        };
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(about = trouble.about, problem = trouble.problem, "a certificate in files cannot be used");
            self.trouble = Some(trouble);
        }
    }

    /// The certificate, if the files are others than those that were read.
    async fn read(
        &self,
        before: Option<(SystemTime, SystemTime)>,
    ) -> Result<Option<(Identity, (SystemTime, SystemTime))>, String> {
        let CertificateFiles { chain, key } = &self.files;
        let written = (written(chain).await?, written(key).await?);
        if before == Some(written) {
            return Ok(None);
        }
        let (chain, key) = (bytes(chain).await?, bytes(key).await?);
        let identity = Identity::from_pem(&chain, &key).map_err(|error| error.to_string())?;
        Ok(Some((identity, written)))
    }
}

async fn written(path: &Path) -> Result<SystemTime, String> {
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let about = tokio::fs::metadata(path).await.map_err(cannot)?;
    if about.len() > MAX_FILE_BYTES {
        return Err(format!("{} is larger than any certificate", path.display()));
    }
    about.modified().map_err(cannot)
}

async fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let read = tokio::fs::read(path).await.map(Zeroizing::new);
    read.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests;
