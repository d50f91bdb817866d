//! Names that a certificate can be for.

use crate::settings::SettingsError;
use instant_acme::Identifier;
use std::{collections::BTreeSet, fmt, net::IpAddr};

/// Names in one certificate: Let's Encrypt's bound, and a chain with more would grow past what is kept.
const MAX_NAMES: usize = 100;
/// RFC 1035 section 2.3.4, without the root's dot.
const MAX_NAME_LENGTH: usize = 253;
const MAX_LABEL_LENGTH: usize = 63;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    /// A host.
    Dns(String),
    /// All names one label below this one.
    Wildcard(String),
    /// An address.
    Ip(IpAddr),
}

impl Name {
    /// From text: `example.org`, `*.example.org`, `192.0.2.1`, `2001:db8::1`.
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        let refuse = |problem| SettingsError::Name { name: text.chars().take(MAX_NAME_LENGTH).collect(), problem };
        if let Ok(address) = text.parse::<IpAddr>() {
            let nobody = address.is_unspecified() || address.is_multicast();
            return if nobody { Err(refuse("it is not the address of one machine")) } else { Ok(Self::Ip(address)) };
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (base, is_wildcard) = match lower.strip_prefix("*.") {
            Some(base) => (base, true),
            None => (lower.as_str(), false),
        };
        if base.len() > MAX_NAME_LENGTH {
            return Err(refuse("it is longer than 253 letters"));
        }
        if !base.is_ascii() {
            return Err(refuse("write it in its ASCII form, which begins with xn--"));
        }
        if !base.split('.').all(is_label) {
            return Err(refuse("its parts are letters, digits and hyphens, 63 at most, with dots between them"));
        }
        if base.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(refuse("it is neither an address nor a name: its last part is a number"));
        }
        Ok(if is_wildcard { Self::Wildcard(base.to_owned()) } else { Self::Dns(base.to_owned()) })
    }

    /// As it stands in an order.
    pub(crate) fn identifier(&self) -> Identifier {
        match self {
            Self::Ip(address) => Identifier::Ip(*address),
            Self::Dns(_) | Self::Wildcard(_) => Identifier::Dns(self.to_string()),
        }
    }

    /// What directories count failures by: a wildcard is proven at the name that it stands below.
    pub(crate) fn base(&self) -> String {
        match self {
            Self::Dns(base) | Self::Wildcard(base) => base.clone(),
            Self::Ip(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(base) => f.write_str(base),
            Self::Wildcard(base) => write!(f, "*.{base}"),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

fn is_label(label: &str) -> bool {
    // Underscores are no part of host names, and no CA signs them.
    (1..=MAX_LABEL_LENGTH).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A certificate that is wanted: its names, in one order, each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    names: BTreeSet<Name>,
}

impl Wanted {
    /// From names (`example.org`), wildcards (`*.example.org`) and addresses.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, SettingsError> {
        let names = names.iter().map(|name| Name::parse(name.as_ref())).collect::<Result<BTreeSet<_>, _>>()?;
        match names.len() {
            0 => Err(SettingsError::NoNames),
            1..=MAX_NAMES => Ok(Self { names }),
            _ => Err(SettingsError::TooManyNames { limit: MAX_NAMES }),
        }
    }

    /// Its names as text.
    pub fn names(&self) -> Vec<String> {
        self.names.iter().map(Name::to_string).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.names.iter()
    }

    /// How many proofs of one name an order needs at most: two where a name and its wildcard are wanted.
    pub(crate) fn proofs_of_one_name(&self) -> usize {
        let both = |name: &Name| matches!(name, Name::Wildcard(base) if self.names.contains(&Name::Dns(base.clone())));
        if self.names.iter().any(both) { 2 } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_in_one_form() {
        for (text, expect) in [
            ("Example.ORG", "example.org"),
            ("example.org.", "example.org"),
            ("*.example.org", "*.example.org"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), expect);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "*",
            "*.*.example.org",
            "a.*.org",
            "-a.org",
            "a-.org",
            "a_b.org",
            "a b.org",
            "bücher.example",
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        for text in ["300.1.2.3", "1.2.3", "0.0.0.0", "::", "224.0.0.1", "a.org/b", "a.org:80", "a.org\n"] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert!(Name::parse(&"a".repeat(64)).is_err());
        assert!(Name::parse(&"a.".repeat(128)).is_err());
    }

    #[test]
    fn a_wanted_has_each_name_once() {
        let wanted = Wanted::parse(&["b.example.org", "a.example.org", "A.example.org."]).unwrap();
        assert_eq!(wanted.names(), ["a.example.org", "b.example.org"]);
        assert!(Wanted::parse::<&str>(&[]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_reads_as_itself(text in "\\PC{0,80}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(&name.to_string()).unwrap(), name);
            }
        }
    }
}
