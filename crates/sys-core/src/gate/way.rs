//! How a request came in: from where, over what, and with the key of a device or without.
//!
//! A session that was begun over a connection with a client certificate is bound to it (RFC 8705): its tokens are good on
//! connections with that certificate and on no others, so that a copied token is good for nothing. What must never happen here: a
//! caller who comes out of memory or the store without being held against the connection of his request. That is why
//! [`Identified`](super::Identified), which everything behind needs, is made of a [`Way`] that [`Way::shows`] has let through.

use super::front::Source;
use crate::{
    audit::{Connection, DeviceKey, FINGERPRINT_BYTES, Leaf},
    token::CertificateHash,
};
use http::Extensions;
use std::net::IpAddr;

/// What is known of the TLS connection that a request came on. The assembly puts it into the request's extensions; a request
/// that came in plain, from this machine, has none. Nothing in the request itself is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// The version of TLS by its number, such as 0x0304.
    pub version: u16,
    /// The group that the key was agreed in, by its number in the registry of IANA.
    pub group: u16,
    /// The client's hello was encrypted, and could be opened.
    pub ech_accepted: bool,
    /// The certificate that the client has shown, and proven in the handshake to have the key of. Who signed it does not matter.
    pub client_certificate: Option<CertificateHash>,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// Where it came from; nothing keeps it.
    pub(crate) source: Option<IpAddr>,
    pub(crate) transport: Option<Transport>,
    device_key: DeviceKey,
}

/// The connection has not shown the certificate that the session is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotShown(pub(crate) Way);

impl Way {
    /// As the listener has noted it.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        let source = extensions.get::<Source>().map(|source| source.0);
        Self { source, transport: extensions.get().copied(), device_key: DeviceKey::None }
    }

    /// The certificate that the client has shown.
    pub(crate) fn certificate(&self) -> Option<CertificateHash> {
        self.transport.and_then(|transport| transport.client_certificate)
    }

    /// The way of a caller whose session is bound to this, or to nothing.
    pub(crate) fn shows(self, bound_to: Option<CertificateHash>) -> Result<Self, NotShown> {
        match bound_to {
            None => Ok(Self { device_key: DeviceKey::None, ..self }),
            Some(bound_to) if self.certificate() == Some(bound_to) => Ok(Self { device_key: DeviceKey::Shown, ..self }),
            Some(_) => Err(NotShown(Self { device_key: DeviceKey::NotShown, ..self })),
        }
    }

    /// Has a leaf say it. No address stands in a leaf.
    pub(crate) fn tell(&self, leaf: Leaf) -> Leaf {
        let connection = self.transport.map(|transport| Connection {
            version: transport.version.into(),
            group: transport.group.into(),
            ech_accepted: transport.ech_accepted,
            certificate: transport
                .client_certificate
                .map_or_else(Vec::new, |certificate| certificate.0.iter().take(FINGERPRINT_BYTES).copied().collect()),
        });
        Leaf { connection, device_key: self.device_key.into(), ..leaf }
    }
}
