//! What a leaf says of the connection that its call came on.

use data_encoding::HEXLOWER;

/// Bytes of a certificate's hash that a leaf names it by: enough to tell those of one account apart.
pub const FINGERPRINT_BYTES: usize = 8;

/// A connection over TLS. Versions and groups have their numbers in the registries of IANA ("TLS SupportedVersions" and "TLS
/// Supported Groups").
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Connection {
    /// Such as 0x0304, which is TLS 1.3.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The group that the key was agreed in, such as 0x11ec, which is X25519MLKEM768.
    #[prost(uint32, tag = "2")]
    pub group: u32,
    /// The client's hello was encrypted, and could be opened.
    #[prost(bool, tag = "3")]
    pub ech_accepted: bool,
    /// The first [`FINGERPRINT_BYTES`] of the SHA-256 of the certificate that the client has shown, whose key it has; empty if
    /// it has shown none.
    #[prost(bytes = "vec", tag = "4")]
    pub certificate: Vec<u8>,
}

impl Connection {
    /// The version as people call it.
    pub fn version_name(&self) -> String {
        match self.version {
            0x0304 => "TLS 1.3".to_owned(),
            other => format!("{other:#06x}"),
        }
    }

    /// The group as the registry calls it.
    pub fn group_name(&self) -> String {
        match self.group {
            0x0017 => "secp256r1".to_owned(),
            0x0018 => "secp384r1".to_owned(),
            0x0019 => "secp521r1".to_owned(),
            0x001d => "x25519".to_owned(),
            0x11eb => "SecP256r1MLKEM768".to_owned(),
            0x11ec => "X25519MLKEM768".to_owned(),
            other => format!("{other:#06x}"),
        }
    }

    /// What names the certificate, in hexadecimal; empty if there was none.
    pub fn certificate_name(&self) -> String {
        HEXLOWER.encode(&self.certificate)
    }
}

/// What the key of a device has to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum DeviceKey {
    /// Nothing: the session is bound to none, or there is no session.
    None = 0,
    /// The session is bound to one, and the connection has shown it.
    Shown = 1,
    /// The session is bound to one, and the connection has not shown it: the token has been copied, or the device has lost its
    /// key.
    NotShown = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_groups_have_the_names_of_their_registries() {
        let names = |version, group| {
            let connection = Connection { version, group, ..Connection::default() };
            (connection.version_name(), connection.group_name())
        };
        assert_eq!(names(0x0304, 0x11ec), ("TLS 1.3".to_owned(), "X25519MLKEM768".to_owned()));
        assert_eq!(names(0x0303, 0x001d), ("0x0303".to_owned(), "x25519".to_owned()));
        assert_eq!(names(0, 0xffff), ("0x0000".to_owned(), "0xffff".to_owned()));
    }
}
