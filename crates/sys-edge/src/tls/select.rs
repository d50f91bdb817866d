//! Which identity is shown to whom.

use super::Identity;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// What stands in the ALPN extension of a client hello, as far as it matters here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) http2: bool,
    pub(super) http11: bool,
    /// `acme-tls/1` and nothing else (RFC 8737 section 3).
    pub(super) only_challenge: bool,
}

/// HTTP/2 (RFC 9113).
pub(super) const HTTP2: &[u8] = b"h2";
/// HTTP/1.1.
pub(super) const HTTP11: &[u8] = b"http/1.1";
/// DNS over TLS (RFC 7858).
pub(super) const DOT: &[u8] = b"dot";
/// The validation of a name by a certificate authority (RFC 8737).
pub(super) const CHALLENGE: &[u8] = b"acme-tls/1";

impl Offered {
    /// Reads the list of names, each behind its length in one byte.
    pub(super) fn read(list: &[u8]) -> Self {
        let mut offered = Self::default();
        let mut count = 0_usize;
        for name in protocols(list) {
            count += 1;
            offered.http2 |= name == HTTP2;
            offered.http11 |= name == HTTP11;
            offered.only_challenge = count == 1 && name == CHALLENGE;
        }
        offered
    }

    /// Whether this is a native client: it speaks HTTP/2 and nothing else. Browsers offer HTTP/1.1 as well, so none of them ever asks its
    /// user for a certificate.
    pub(super) fn is_native(self) -> bool {
        self.http2 && !self.http11
    }
}

/// The names of a list; what is cut short at the end is left out.
pub(super) fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        list = rest;
        Some(name)
    })
}

/// All identities of a listener.
#[derive(Debug, Default)]
pub(super) struct Shown {
    by_name: HashMap<String, Identity>,
    /// By what stands behind the `*.`.
    by_parent: HashMap<String, Identity>,
    by_address: HashMap<IpAddr, Identity>,
    /// To who names nothing: the first one for an address, else the first.
    unnamed: Option<Identity>,
}

impl Shown {
    /// Where several are good for one name, the first one is taken.
    pub(super) fn new(identities: &[Identity]) -> Self {
        let mut shown = Self::default();
        for identity in identities {
            for name in identity.names() {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut shown.by_parent, parent),
                    None => (&mut shown.by_name, name.as_str()),
                };
                names.entry(name.to_owned()).or_insert_with(|| identity.clone());
            }
            for address in identity.addresses() {
                shown.by_address.entry(address.to_canonical()).or_insert_with(|| identity.clone());
            }
        }
        let for_address = identities.iter().find(|identity| !identity.addresses().is_empty());
        shown.unnamed = for_address.or(identities.first()).cloned();
        shown
    }

    /// The identity for the name that is asked for, or for our end of the connection where none is. There is none for a foreign name:
    /// which names are served here is nothing that a stranger finds out by asking for others.
    pub(super) fn pick(&self, name: Option<&str>, local: IpAddr) -> Option<&Identity> {
        let Some(name) = name.map(normal) else {
            return self.by_address.get(&local.to_canonical()).or(self.unnamed.as_ref());
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            return self.by_address.get(&address.to_canonical());
        }
        self.by_name.get(&name).or_else(|| self.by_parent.get(name.split_once('.')?.1))
    }
}

/// A name as it is compared.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// What a certificate authority asks for when it validates this: a name as it is, an address as its name in the reverse zone
/// (RFC 8738 section 6).
pub(super) fn validated_name(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => reverse_v6(address),
        Err(_) => normal(name),
    }
}

fn reverse_v6(address: Ipv6Addr) -> String {
    let digits = address.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
    digits.chain(["ip6.arpa".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn identity(names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        Identity::from_pem(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap()
    }

    fn check(shown: &Shown, name: Option<&str>, local: IpAddr, expect: Option<&str>) {
        let first = shown.pick(name, local).map(|identity| identity.names()[0].as_str());
        assert_eq!(first, expect, "{name:?} at {local}");
    }

    #[test]
    fn a_name_gets_the_certificate_that_is_good_for_it_and_a_foreign_name_gets_none() {
        let shown = Shown::new(
            &["example.org", "*.example.org", "mail.example.org", "2001:db8::1", "example.org"]
                .map(|name| identity(&[name])),
        );
        for (name, expect) in [
            ("example.org", Some("example.org")),
            ("EXAMPLE.org.", Some("example.org")),
            ("mail.example.org", Some("mail.example.org")),
            ("www.example.org", Some("*.example.org")),
            ("a.www.example.org", None),
            ("*.example.org", Some("*.example.org")),
            ("example.com", None),
            ("org", None),
            ("", None),
            (".", None),
            ("2001:db8::1", Some("2001:db8::1")),
            ("192.0.2.1", None),
        ] {
            check(&shown, Some(name), LOCAL, expect);
        }
    }

    #[test]
    fn who_names_nothing_gets_the_certificate_of_the_address_and_behind_a_router_one_of_an_address() {
        let named = identity(&["example.org"]);
        let addressed = identity(&["192.0.2.1"]);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let shown = Shown::new(&[named.clone(), identity(&["192.0.2.7"]), addressed]);
        check(&shown, None, mapped, Some("192.0.2.1"));
        check(&shown, None, LOCAL, Some("192.0.2.7"));
        check(&Shown::new(&[named]), None, LOCAL, Some("example.org"));
        check(&Shown::default(), None, LOCAL, None);
    }

    #[test]
    fn an_address_is_validated_under_its_name_in_the_reverse_zone() {
        assert_eq!(validated_name("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        let expect = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(validated_name("2001:db8::1"), expect);
        assert_eq!(validated_name("Example.org"), "example.org");
    }

    #[test]
    fn what_is_offered_is_read_and_what_is_cut_short_left_out() {
        let check = |list: &[u8], expect: (bool, bool, bool)| {
            let offered = Offered::read(list);
            assert_eq!((offered.http2, offered.http11, offered.only_challenge), expect, "{list:?}");
        };
        check(b"\x02h2\x08http/1.1", (true, true, false));
        check(b"\x02h2", (true, false, false));
        check(b"\x0aacme-tls/1", (false, false, true));
        check(b"\x0aacme-tls/1\x02h2", (true, false, false));
        check(b"\x02h2\x0aacme-tls/1", (true, false, false));
        check(b"\x02h2\x08http", (true, false, false));
        check(b"\x00", (false, false, false));
        check(b"", (false, false, false));
    }
}
