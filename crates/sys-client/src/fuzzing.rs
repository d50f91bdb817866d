//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here.

use crate::{Endpoint, Session, descriptors, heads, session_store};
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

/// The server of a session that is kept in the keychain, from the text of the file that says so.
pub fn pointer(text: &str) -> Option<Endpoint> {
    session_store::pointer(text)
}

/// Kept heads of audit logs, read and written anew.
pub fn kept_heads(text: &str) -> Option<String> {
    heads::rewritten(text)
}
