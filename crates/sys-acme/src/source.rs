//! Who issues certificates: an ACME directory, or the local CA.

use crate::{
    account::Accounts,
    certificate::{self, Issued},
    challenge::{ChallengeKind, Challenges},
    clock::AcmeClock,
    directory::Notes,
    failure::{self, Failure},
    local_ca::LocalCa,
    name::Wanted,
    order::Try,
    plan::Window,
    settings::{Settings, SettingsError},
};
use data_encoding::BASE64;
use instant_acme::{CertificateIdentifier, Error, RevocationReason, RevocationRequest};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use tokio::sync::watch;

/// Who issues.
pub(crate) enum Source {
    Acme(Acme),
    Local(LocalCa),
}

/// A directory, and how names are proven to it.
pub(crate) struct Acme {
    accounts: Accounts,
    origin: String,
    profile: Option<String>,
    kinds: Vec<ChallengeKind>,
    challenges: Arc<dyn Challenges>,
}

/// What is asked for.
pub(crate) struct Request<'a> {
    pub(crate) wanted: &'a Wanted,
    /// The chain that it takes the place of, from the same source.
    pub(crate) old: Option<&'a str>,
    /// How many tries failed before.
    pub(crate) turn: usize,
    pub(crate) clock: &'a dyn AcmeClock,
    /// Turns true when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// A failure, with how long the directory asked to wait.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) retry_after_s: Option<u64>,
}

impl Acme {
    pub(crate) fn new(
        settings: &Settings,
        accounts: Accounts,
        challenges: Arc<dyn Challenges>,
    ) -> Result<Self, SettingsError> {
        if settings.kinds.is_empty() {
            return Err(SettingsError::NoKinds);
        }
        let origin = format!("{} {}", settings.directory, settings.profile.as_deref().unwrap_or_default());
        let (profile, kinds) = (settings.profile.clone(), settings.kinds.clone());
        Ok(Self { accounts, origin, profile, kinds, challenges })
    }

    async fn issue(&self, request: &Request<'_>, notes: &Notes) -> Result<Issued, Failure> {
        let opened = self.accounts.open(notes).await?;
        let one = Try {
            wanted: request.wanted,
            kinds: &self.kinds,
            profile: self.profile.as_deref(),
            replaces: request.old.and_then(|chain| identifier(chain).ok()),
            turn: request.turn,
            challenges: &*self.challenges,
            clock: request.clock,
            stop: request.stop.clone(),
        };
        let issued = one.run(&opened).await;
        if matches!(issued, Err(Failure::AccountGone)) {
            self.accounts.forget().await?;
        }
        issued
    }

    async fn revoke(&self, leaf: &CertificateDer<'_>, notes: &Notes) -> Result<(), Failure> {
        let opened = self.accounts.open(notes).await?;
        let reason = Some(RevocationReason::KeyCompromise);
        match opened.account.revoke(&RevocationRequest { certificate: leaf, reason }).await {
            // What was asked for is so.
            Err(Error::Api(problem)) if failure::kind(&problem) == "alreadyRevoked" => Ok(()),
            Err(Error::Api(problem)) if failure::kind(&problem) == "accountDoesNotExist" => {
                self.accounts.forget().await?;
                Err(Failure::AccountGone)
            }
            revoked => revoked.map_err(Failure::from_acme),
        }
    }
}

impl Source {
    /// What a certificate has to be from, to be one that is wanted.
    pub(crate) fn origin(&self) -> &str {
        match self {
            Self::Acme(acme) => &acme.origin,
            Self::Local(ca) => ca.origin(),
        }
    }

    pub(crate) fn has_windows(&self) -> bool {
        matches!(self, Self::Acme(_))
    }

    /// A new certificate.
    pub(crate) async fn issue(&self, request: &Request<'_>) -> Result<Issued, Failed> {
        match self {
            Self::Local(ca) => {
                let issued = ca.issue(request.wanted, request.clock.now_unix_s());
                issued.map_err(|failure| Failed { failure, retry_after_s: None })
            }
            Self::Acme(acme) => {
                let notes = Notes::default();
                acme.issue(request, &notes).await.map_err(|failure| {
                    let retry_after_s = failure::retry_after_s(&failure, &notes);
                    Failed { failure, retry_after_s }
                })
            }
        }
    }

    /// When the directory would have it renewed, and when to ask again. `None`: it has no opinion.
    pub(crate) async fn window(&self, chain_pem: &str) -> Result<(Option<Window>, Option<u64>), Failure> {
        let Self::Acme(acme) = self else { return Ok((None, None)) };
        let identifier = identifier(chain_pem)?;
        let notes = Notes::default();
        let opened = acme.accounts.open(&notes).await?;
        match opened.account.renewal_info(&identifier).await {
            Ok((info, _)) => {
                let (start, end) =
                    (info.suggested_window.start.unix_timestamp(), info.suggested_window.end.unix_timestamp());
                Ok((Some(Window { start, end }), notes.retry_after_s()))
            }
            Err(Error::Unsupported(_)) => Ok((None, None)),
            Err(error) => Err(Failure::from_acme(error)),
        }
    }

    /// Whether anybody would hear of it.
    pub(crate) fn can_revoke(&self) -> Result<&Acme, Failure> {
        match self {
            Self::Acme(acme) => Ok(acme),
            Self::Local(_) => Err(Failure::LocalCa { reason: "nobody asks a local CA what it revoked".to_owned() }),
        }
    }

    /// Tells the world that somebody may have the key of a certificate: DER, in base64.
    pub(crate) async fn revoke(&self, leaf: &str) -> Result<(), Failed> {
        let notes = Notes::default();
        let revoked = async {
            let acme = self.can_revoke()?;
            let leaf = BASE64.decode(leaf.as_bytes()).map_err(|_| Failure::Unfit { what: "it cannot be read" })?;
            acme.revoke(&leaf.into(), &notes).await
        };
        revoked.await.map_err(|failure| {
            let retry_after_s = failure::retry_after_s(&failure, &notes);
            Failed { failure, retry_after_s }
        })
    }
}

/// How directories call a certificate (RFC 9773 section 4.1).
fn identifier(chain_pem: &str) -> Result<CertificateIdentifier<'static>, Failure> {
    let leaf = certificate::leaf(chain_pem)?;
    CertificateIdentifier::try_from(&leaf)
        .map(CertificateIdentifier::into_owned)
        .map_err(|_| Failure::Unfit { what: "it does not name its CA's key" })
}
