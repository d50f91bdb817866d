//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here.

use crate::{Session, descriptors};
use bytes::Bytes;
use prost_reflect::DescriptorPool;

/// A session, from the text of its file.
pub fn session(text: &str) -> Option<Session> {
    Session::from_text(text)
}

/// The text of a session's file.
pub fn session_text(session: &Session) -> Option<String> {
    session.to_text().map(|text| text.to_string())
}

/// What a server's answer says of the methods that it has.
pub fn descriptors(answer: Bytes) -> Option<Vec<DescriptorPool>> {
    descriptors::read(answer).ok()
}
