//! Doors for the fuzz targets (`crates/sys-fuzz`) to what is private here.

use crate::{
    Endpoint, Session, descriptors,
    ech::{self, Answer},
    heads, servers, session_store,
};
use bytes::Bytes;
use hickory_proto::rr::Name;
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

/// What is kept of servers, read and written anew.
pub fn kept_servers(text: &str) -> Option<String> {
    servers::to_text(&servers::from_text(text)?)
}

/// The ECH keys in a server's answer about its own name, in base64, where it is one; none where it tells none.
pub fn told_keys(answer: &[u8], name: &str) -> Option<Option<String>> {
    match ech::answered(answer, &Name::from_ascii(name).ok()?) {
        Answer::Keys(list) => Some(Some(list.to_string())),
        Answer::NoKeys => Some(None),
        Answer::Nothing => None,
    }
}
