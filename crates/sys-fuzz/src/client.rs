//! What the client reads: its own file, and what a server, perhaps a hostile one, answers.

use crate::input::text;
use bytes::Bytes;
use prost_reflect::DescriptorPool;
use std::net::{IpAddr, SocketAddr};
use sys_client::{Code, Refused, ech::ConfigList, fuzzing};

/// A session that is read is written as the same, and its tokens go nowhere in the clear but to this machine.
pub(crate) fn session_file(bytes: &[u8]) {
    if let Some(server) = text(bytes).and_then(fuzzing::pointer) {
        assert!(is_private(server.as_str()), "{server}");
    }
    let Some(session) = text(bytes).and_then(fuzzing::session) else { return };
    let written = fuzzing::session_text(&session).expect("a session can be written");
    assert_eq!(fuzzing::session(&written).as_ref(), Some(&session), "a session is read as it was written");
    assert!(is_private(session.server.as_str()), "{}", session.server);
    let shown = format!("{session:?}");
    for token in [&session.access_token, &session.refresh_token] {
        // Short ones stand in other words.
        assert!(token.expose().len() < 16 || !shown.contains(token.expose()) || is_elsewhere(token.expose(), &session));
    }
}

/// Whether nobody on the way reads what goes to an origin.
fn is_private(origin: &str) -> bool {
    origin.starts_with("https://") || is_loopback(origin)
}

/// Whether an origin is this machine, read by somebody else.
fn is_loopback(origin: &str) -> bool {
    let Some(authority) = origin.strip_prefix("http://").map(str::to_ascii_lowercase) else { return false };
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return address.ip().to_canonical().is_loopback();
    }
    // A port may be empty, or one that no socket has.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority.as_str(),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a token's text also stands where it is no secret.
fn is_elsewhere(token: &str, session: &sys_client::Session) -> bool {
    [session.server.as_str(), &session.account_id, &session.session_id].iter().any(|text| text.contains(token))
}

/// Heads that are read are written as the same.
pub(crate) fn kept_heads(bytes: &[u8]) {
    let Some(written) = text(bytes).and_then(fuzzing::kept_heads) else { return };
    assert_eq!(fuzzing::kept_heads(&written), Some(written), "kept heads are read as they were written");
}

/// What is kept of servers is written as the same when it is read.
pub(crate) fn servers_file(bytes: &[u8]) {
    let Some(written) = text(bytes).and_then(fuzzing::kept_servers) else { return };
    assert_eq!(fuzzing::kept_servers(&written), Some(written), "kept servers are read as they were written");
}

/// Keys that a server tells are those that stand in its answer, and can be used.
pub(crate) fn https_record(bytes: &[u8]) {
    let Some(Some(keys)) = fuzzing::told_keys(bytes, "example.org.") else { return };
    let list: ConfigList = keys.parse().expect("keys that can be used");
    assert_eq!(list.to_string(), keys, "keys are read as they were written");
}

/// The details of a refusal can be read or are left out, and are shown on one line with the code.
pub(crate) fn refusal_details(bytes: &[u8]) {
    let refused = Refused::new(Code::NotFound, "", bytes);
    assert_eq!(refused, Refused::new(Code::NotFound, "", bytes));
    let shown = refused.to_string();
    assert!(shown.contains("NOT_FOUND"), "{shown}");
}

/// What a server says of its methods is refused, or can be written again and read as the same.
pub(crate) fn descriptors(bytes: &[u8]) {
    let Some(pools) = fuzzing::descriptors(Bytes::copy_from_slice(bytes)) else { return };
    for pool in pools {
        let written = pool.encode_to_vec();
        let read = DescriptorPool::decode(written.as_slice()).expect("what we wrote can be read");
        assert_eq!(read.all_messages().count(), pool.all_messages().count());
        for message in pool.all_messages() {
            // What the CLI asks of each.
            assert!(message.fields().count() <= written.len(), "{}", message.full_name());
            let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            assert!(
                is_name(message.name()) && message.fields().all(|field| is_name(field.name())),
                "a name that is none"
            );
            let _ = message.oneofs().count();
        }
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let _ = (method.input(), method.output(), method.options());
        }
    }
}
