//! Whether a server is who it says: chain, validity, name and signature, by webpki, against the public authorities and the
//! private ones of this server.
//!
//! What is added to webpki is *which* authorities count, and what is remembered of the answer; it can accept nothing that webpki refuses.

use super::{Authority, TlsError};
use crate::Fingerprint;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Who may vouch for a server.
#[derive(Debug, Clone)]
pub(crate) enum Trusted {
    /// The public authorities, and these.
    Known(Vec<CertificateDer<'static>>),
    /// The authority with this fingerprint, which the server is to show in its chain, and nobody else.
    Pinned(Fingerprint),
}

/// Checks one handshake.
#[derive(Debug)]
pub(crate) struct Verifier {
    trusted: Trusted,
    public: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    /// What came of it.
    vouched: Mutex<Option<Result<Vouched, TlsError>>>,
}

/// Who vouched for a server.
#[derive(Debug, Clone)]
pub(crate) struct Vouched {
    pub(crate) by: Authority,
    /// The authority, where it was named by its fingerprint.
    pub(crate) pinned: Option<CertificateDer<'static>>,
}

impl Verifier {
    pub(crate) fn new(trusted: Trusted, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let public = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let public = of_roots(public, &provider)?;
        Ok(Self { trusted, public, provider, vouched: Mutex::new(None) })
    }

    /// Who vouched for the server, or why nobody did, where that is more than the handshake's own error says.
    pub(crate) fn vouched(&self) -> Option<Result<Vouched, TlsError>> {
        self.vouched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_vouched(&self, vouched: Result<Vouched, TlsError>) {
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = Some(vouched);
    }

    /// Checks against one private authority alone.
    fn check_against(&self, authority: &CertificateDer<'_>, shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let verifier = of_roots(roots, &self.provider).map_err(|error| Error::General(error.to_string()))?;
        shown.check(&verifier)
    }

    fn check_pinned(&self, pin: Fingerprint, shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        let authority = shown.intermediates.iter().find(|shown| Fingerprint::of(shown) == pin);
        let Some(authority) = authority else {
            self.is_vouched(Err(TlsError::PinMismatch(pin)));
            return Err(CertificateError::ApplicationVerificationFailure.into());
        };
        let verified = self.check_against(authority, shown)?;
        let pinned = Some(authority.clone().into_owned());
        self.is_vouched(Ok(Vouched { by: Authority::Private(pin), pinned }));
        Ok(verified)
    }

    fn check_known(&self, known: &[CertificateDer<'_>], shown: &Shown<'_>) -> Result<ServerCertVerified, Error> {
        for authority in known {
            match self.check_against(authority, shown) {
                // It is another authority's.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {}
                Err(error) => return Err(error),
                Ok(verified) => {
                    let by = Authority::Private(Fingerprint::of(authority));
                    self.is_vouched(Ok(Vouched { by, pinned: None }));
                    return Ok(verified);
                }
            }
        }
        let verified = shown.check(&self.public)?;
        self.is_vouched(Ok(Vouched { by: Authority::Public, pinned: None }));
        Ok(verified)
    }
}

/// What a server showed, and what it is held against.
struct Shown<'a> {
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    server_name: &'a ServerName<'a>,
    ocsp_response: &'a [u8],
    now: UnixTime,
}

impl Shown<'_> {
    fn check(&self, verifier: &WebPkiServerVerifier) -> Result<ServerCertVerified, Error> {
        let Self { end_entity, intermediates, server_name, ocsp_response, now } = self;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, *now)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Shown { end_entity, intermediates, server_name, ocsp_response, now };
        match &self.trusted {
            Trusted::Pinned(pin) => self.check_pinned(*pin, &shown),
            Trusted::Known(known) => self.check_known(known, &shown),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.public.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

fn of_roots(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map_err(|error| TlsError::Handshake(Error::General(error.to_string())))
}
