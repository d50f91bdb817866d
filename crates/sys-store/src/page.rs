//! Page tokens: where a list goes on, sealed for one caller and one query.
//!
//! What is sealed names a record and the values that it was ordered by; so a token is opaque, and opens only together with
//! the caller, org, project, filter, search and order that it was made for. It goes on behind that place even if the record
//! there is gone.

use crate::{
    canonical::push_sized,
    engine::CommitVersion,
    header::{Format, Header, Place},
    refused::Refused,
};
use data_encoding::BASE64URL_NOPAD;
use sys_contract::id::{AccountId, OrgTag, ProjectId};
use sys_keys::{Entropy, NONCE_BYTES, SpaceKeys, length_prefixed};
use uuid::Uuid;

/// Longest page token in bytes: the values of an order are bounded, and so is a token.
const MAX_TOKEN_BYTES: usize = 4_096;

/// The last record of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// Its id.
    pub(crate) uuid: Uuid,
    /// What it is ordered by, apart from the id.
    pub(crate) values: Vec<Vec<u8>>,
}

/// What a page token belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) account: Option<AccountId>,
    pub(crate) org: Option<OrgTag>,
    pub(crate) project: Option<ProjectId>,
    pub(crate) filter: &'a str,
    pub(crate) search: &'a str,
    pub(crate) order_by: &'a str,
}

impl Binding<'_> {
    fn bytes(&self) -> Vec<u8> {
        length_prefixed(&[
            self.account.map(|id| id.to_string()).unwrap_or_default().as_bytes(),
            self.org.as_ref().map_or(&[][..], |org| org.as_bytes()),
            self.project.map(|id| id.to_string()).unwrap_or_default().as_bytes(),
            self.filter.as_bytes(),
            self.order_by.as_bytes(),
            self.search.as_bytes(),
        ])
    }
}

/// The token of a position.
pub(crate) fn seal(
    keys: &SpaceKeys,
    place: Place<'_>,
    binding: &Binding<'_>,
    position: &Position,
    entropy: &dyn Entropy,
) -> String {
    seal_token(keys, place, binding, position.to_bytes(), entropy)
}

/// A token for one purpose, that of its place, and one caller and query.
pub(crate) fn seal_token(
    keys: &SpaceKeys,
    place: Place<'_>,
    binding: &Binding<'_>,
    plaintext: Vec<u8>,
    entropy: &dyn Entropy,
) -> String {
    let newest = keys.newest();
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    let header =
        Header { format: Format::V1, generation: newest.generation(), version: CommitVersion::default(), nonce };
    let data = Place { key: &binding.bytes(), ..place }.additional_data(header.format, header.generation);
    let sealed = newest.seal_page_token(&data, nonce, plaintext);
    BASE64URL_NOPAD.encode(&header.before(&sealed))
}

/// The position of a token, if it is one of this binding.
pub(crate) fn open(
    keys: &SpaceKeys,
    place: Place<'_>,
    binding: &Binding<'_>,
    token: &str,
) -> Result<Position, Refused> {
    let bytes = open_token(keys, place, binding, token).ok_or(Refused::PageToken)?;
    Position::from_bytes(&bytes).ok_or(Refused::PageToken)
}

/// What was sealed in a token, if it is one of this place and binding.
pub(crate) fn open_token(keys: &SpaceKeys, place: Place<'_>, binding: &Binding<'_>, token: &str) -> Option<Vec<u8>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let (header, sealed) = Header::split(&bytes).ok()?;
    // Nothing seals this part of the header, so that it has one value only.
    if header.version != CommitVersion::default() {
        return None;
    }
    let generation = keys.generation(header.generation)?;
    let data = Place { key: &binding.bytes(), ..place }.additional_data(header.format, header.generation);
    generation.open_page_token(&data, header.nonce, sealed).ok()
}

impl Position {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.uuid.as_bytes().to_vec();
        self.values.iter().for_each(|value| push_sized(&mut bytes, value));
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (uuid, mut rest) = bytes.split_first_chunk()?;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk()?;
            let (value, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            values.push(value.to_vec());
            rest = behind;
        }
        Some(Self { uuid: Uuid::from_bytes(*uuid), values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_read_back(uuid: [u8; 16], values: Vec<Vec<u8>>) {
            let position = Position { uuid: Uuid::from_bytes(uuid), values };
            prop_assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }

        #[test]
        fn no_bytes_are_too_odd_to_be_refused(bytes: Vec<u8>) {
            if let Some(position) = Position::from_bytes(&bytes) {
                prop_assert_eq!(position.to_bytes(), bytes);
            }
        }
    }
}
