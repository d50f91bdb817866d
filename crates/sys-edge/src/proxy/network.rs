//! The networks whose connections begin with a PROXY header.

use std::{net::IpAddr, str::FromStr, sync::Arc};

/// Networks that proxies connect from. None unless some are named; clones share them.
#[derive(Debug, Clone, Default)]
pub struct ProxySources(Arc<[Network]>);

/// Addresses that agree in their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a text names no network that a proxy could be in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxySourcesError {
    /// No address, or no number behind the slash.
    #[error(
        "{0:?} is no network: write an address (192.0.2.7), or one with the length of its prefix (10.0.0.0/8, 2001:db8::/32)"
    )]
    Text(String),
    /// More bits than an address of its kind has.
    #[error("{text:?}: the prefix of such a network has at most {most} bits")]
    Prefix {
        /// What was written.
        text: String,
        /// The bits of such an address.
        most: u8,
    },
    /// Bits behind the prefix: it is not clear what was meant.
    #[error("{text:?} has bits behind its prefix; write {network} for the network, or the address alone")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that it lies in.
        network: String,
    },
    /// Everybody could say that he is anybody.
    #[error(
        "{0:?} is every address there is: whoever connects could then claim to be anybody; name the proxies' own addresses"
    )]
    Everybody(String),
    /// An IPv4 address in IPv6's clothes.
    #[error("{0:?} is an IPv4 network written as IPv6: write it as IPv4, which is how its connections are seen")]
    Mapped(String),
}

impl ProxySources {
    /// Reads networks as they stand in a configuration.
    pub fn parse<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, ProxySourcesError> {
        networks.into_iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a connection from this address begins with a header.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        first_of(address, self.prefix) == self.first
    }
}

impl FromStr for Network {
    type Err = ProxySourcesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = || ProxySourcesError::Text(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| unreadable())?;
        if address.to_canonical() != address {
            return Err(ProxySourcesError::Mapped(text.to_owned()));
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| unreadable())?
            }
            Some(_) => return Err(unreadable()),
        };
        match prefix {
            0 => return Err(ProxySourcesError::Everybody(text.to_owned())),
            prefix if prefix > most => return Err(ProxySourcesError::Prefix { text: text.to_owned(), most }),
            _ => {}
        }
        let first = first_of(address, prefix);
        let network = Self { first, prefix };
        if first == address {
            Ok(network)
        } else {
            Err(ProxySourcesError::HostBits { text: text.to_owned(), network: format!("{first}/{prefix}") })
        }
    }
}

/// The address with nothing behind its prefix.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & !u32::MAX.checked_shr(prefix.into()).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::MAX.checked_shr(prefix.into()).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_alone() {
        let sources = ProxySources::parse(["10.1.0.0/16", "192.0.2.7", "2001:db8::/33", "2001:db8:ffff::1"]).unwrap();
        for inside in
            ["10.1.0.0", "10.1.255.255", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8:7fff::1", "2001:db8:ffff::1"]
        {
            assert!(sources.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["10.0.255.255", "10.2.0.0", "192.0.2.6", "2001:db8:8000::", "2001:db8:ffff::2", "::", "127.0.0.1"]
        {
            assert!(!sources.contain(outside.parse().unwrap()), "{outside}");
        }
        assert!(!ProxySources::default().contain("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_names_no_network_is_refused_and_says_what_to_write() {
        for (text, hint) in [
            ("", "write an address"),
            ("proxy.example.org", "write an address"),
            ("10.0.0.0/", "write an address"),
            ("10.0.0.0/+8", "write an address"),
            ("10.0.0.0/8/8", "write an address"),
            ("10.0.0.0/256", "write an address"),
            ("10.0.0.0/33", "at most 32 bits"),
            ("2001:db8::/129", "at most 128 bits"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("0.0.0.0/0", "claim to be anybody"),
            ("::/0", "claim to be anybody"),
            ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ] {
            let error = ProxySources::parse(["10.0.0.0/8", text]).unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
