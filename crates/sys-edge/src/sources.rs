//! How many connections each source has open.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The connections of a listener by source. As large as the number of connections at most.
#[derive(Debug, Default)]
pub(crate) struct Sources(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place among those of its source, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// Counts one more connection from this address, unless its source has so many.
    pub(crate) fn count(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Counted> {
        let source = source_of(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_insert(0);
        if *count >= most {
            // Where no connection is let in at all, the entry is new.
            open.retain(|_, count| *count > 0);
            return None;
        }
        *count += 1;
        Some(Counted { sources: Arc::clone(self), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one customer is given.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_connections_and_no_more_and_leaves_nothing_behind() {
        let sources = Arc::new(Sources::default());
        let count = |address: &str| sources.count(address.parse().expect("an address"), 2);
        let (first, second) = (count("2001:db8::1"), count("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(count("2001:db8::3").is_none());
        assert!(count("2001:db8:0:1::1").is_some() && count("192.0.2.1").is_some());
        drop(first);
        assert!(count("2001:db8::3").is_some());
        drop(second);
        assert!(sources.0.lock().expect("no panic").is_empty());
    }
}
