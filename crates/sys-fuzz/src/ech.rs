//! Lists of ECH configurations, which come from the DNS.

use boring::ssl::{Ssl, SslContext, SslMethod};
use std::{net::IpAddr, slice, sync::LazyLock};
use sys_edge::ech::{EchError, MOST_CONFIGS, parse_list};

/// A client of the library that reads such lists in earnest.
static CLIENT: LazyLock<SslContext> =
    LazyLock::new(|| SslContext::builder(SslMethod::tls()).expect("a context").build());

/// Any bytes.
pub(crate) fn list(bytes: &[u8]) {
    config_list(bytes);
}

/// A list; whether there is anything in it for us. What is read of it stands in it as it would be written, is read again as the same, and shows a host name. Where we
/// read it, BoringSSL reads it too; where we alone refuse it, we are stricter on purpose.
pub(crate) fn config_list(bytes: &[u8]) -> bool {
    let is_read = Ssl::new(&CLIENT).expect("a client").set_ech_config_list(bytes).is_ok();
    let configs = match parse_list(bytes) {
        Ok(configs) => configs,
        Err(EchError::Malformed(reason)) => {
            let is_stricter = ["one extension twice", "more configurations than anybody needs"].contains(&reason);
            assert!(!is_read || is_stricter, "BoringSSL reads what we do not: {reason}");
            return false;
        }
        Err(other) => panic!("a list that is read makes no such error: {other}"),
    };
    assert!(is_read, "we read what BoringSSL does not: {configs:?}");
    assert!(configs.len() <= MOST_CONFIGS);
    for config in &configs {
        let written = config.to_bytes();
        assert!(bytes.windows(written.len()).any(|part| part == written), "not written as it was read: {config:?}");
        let length = u16::try_from(written.len()).expect("it was in a list");
        let again = parse_list(&[&length.to_be_bytes()[..], &written].concat());
        assert_eq!(again.ok().as_deref(), Some(slice::from_ref(config)));
        let name = &config.public_name;
        assert!(name.is_ascii() && name.parse::<IpAddr>().is_err() && !name.ends_with('.'), "{name:?}");
    }
    !configs.is_empty()
}
