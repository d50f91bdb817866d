//! How TLS is spoken here, the same on all connections.

use super::{TlsError, handshake};
use boring::ssl::{
    SslAcceptor, SslAcceptorBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslSignatureAlgorithm, SslVersion,
};

/// The groups that keys are agreed on, the best first. Whoever knows the first gets it, even if it costs him another round trip.
const GROUPS: &str = "X25519MLKEM768:X25519:P-256";

/// What clients sign with to prove the key of their certificate. All of them are verified in about the same time; an RSA key can be
/// made so large that it is not.
const CLIENT_SIGNATURES: [SslSignatureAlgorithm; 3] = [
    SslSignatureAlgorithm::ECDSA_SECP256R1_SHA256,
    SslSignatureAlgorithm::ED25519,
    SslSignatureAlgorithm::ECDSA_SECP384R1_SHA384,
];

/// A context with all settings and no certificate.
///
/// Nothing is resumed: no tickets, no cache. So there is no ticket key that opens recorded connections, every connection proves both of its
/// ends anew, and a certificate that was taken away is not shown by an old session. That costs a client that comes back a
/// signature and an agreement more. There is no early data either, which could be replayed.
pub(super) fn builder() -> Result<SslAcceptorBuilder, TlsError> {
    // Mozilla's settings, and from them only what TLS 1.3 has. The ciphers of TLS 1.3 are fixed: AES-GCM and ChaCha20-Poly1305.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(TlsError::Library)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3)).map_err(TlsError::Library)?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_3)).map_err(TlsError::Library)?;
    builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::NO_TICKET);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_curves_list(GROUPS).map_err(TlsError::Library)?;
    builder.set_verify_algorithm_prefs(&CLIENT_SIGNATURES).map_err(TlsError::Library)?;
    // Of the context that a connection has in the end, which is that of its identity.
    builder.set_alpn_select_callback(handshake::select_protocol);
    Ok(builder)
}
