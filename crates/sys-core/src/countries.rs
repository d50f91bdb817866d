//! The country that a source is in, from a table that the operator brings.
//!
//! A session shows its owner the country that it was last used from, so that he knows a stranger's. The address itself is
//! looked up and forgotten: what must never happen here is that it goes anywhere else.

use std::{fmt, net::IpAddr};

/// Ranges in one table. Those that are handed out for the whole of the internet have some 700,000.
const MAX_RANGES: usize = 4_000_000;
/// What tables write where no country is known.
const UNKNOWN: [&str; 3] = ["", "-", "ZZ"];

/// A country, by its two letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Country([u8; 2]);

impl Country {
    fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no table of countries. The first line is 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CountriesError {
    /// A line is not what it should be.
    #[error("line {line}: write it as FIRST-ADDRESS,LAST-ADDRESS,COUNTRY, such as 192.0.2.0,192.0.2.255,DE")]
    Line {
        /// Which.
        line: usize,
    },
    /// A range ends before it begins, or goes from one kind of address to the other.
    #[error("line {line}: the range does not end behind its beginning")]
    Backwards {
        /// Which.
        line: usize,
    },
    /// Two ranges share an address.
    #[error("the range that begins at {first} overlaps the one before it: leave one of them out")]
    Overlap {
        /// Where the second of them begins.
        first: IpAddr,
    },
    /// More than a table may have.
    #[error("the table has more than {MAX_RANGES} ranges: take a coarser one")]
    TooLong,
}

/// A table of countries. The empty one knows none.
#[derive(Default)]
pub struct Countries {
    v4: Vec<Range<u32>>,
    v6: Vec<Range<u128>>,
}

struct Range<A> {
    first: A,
    last: A,
    country: Country,
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Countries").field("ranges", &(self.v4.len() + self.v6.len())).finish()
    }
}

impl Countries {
    /// Reads lines of `first address,last address,country`, as tables of this kind are handed out: in any order, with or
    /// without quotes. Empty lines and those that begin with `#` are passed over, and so are ranges of no known country.
    pub fn parse(text: &str) -> Result<Self, CountriesError> {
        let mut table = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                table.add(line, text)?;
            }
            if table.v4.len() + table.v6.len() > MAX_RANGES {
                return Err(CountriesError::TooLong);
            }
        }
        sort(&mut table.v4).map_err(|first| CountriesError::Overlap { first: IpAddr::V4(first.into()) })?;
        sort(&mut table.v6).map_err(|first| CountriesError::Overlap { first: IpAddr::V6(first.into()) })?;
        Ok(table)
    }

    /// The country of a source, if both are known.
    pub fn of(&self, source: Option<IpAddr>) -> Option<Country> {
        match source?.to_canonical() {
            IpAddr::V4(address) => find(&self.v4, address.into()),
            IpAddr::V6(address) => find(&self.v6, address.into()),
        }
    }

    fn add(&mut self, line: usize, text: &str) -> Result<(), CountriesError> {
        let wrong = || CountriesError::Line { line };
        let mut columns = text.split(',').map(|column| column.trim().trim_matches('"'));
        let mut column = || columns.next().ok_or_else(wrong);
        let (first, last, country) = (column()?, column()?, column()?);
        if columns.next().is_some() {
            return Err(wrong());
        }
        let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if UNKNOWN.contains(&country) {
            return Ok(());
        }
        let country = Country::parse(country).ok_or_else(wrong)?;
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                self.v4.push(Range { first: first.into(), last: last.into(), country });
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                self.v6.push(Range { first: first.into(), last: last.into(), country });
            }
            _ => return Err(CountriesError::Backwards { line }),
        }
        Ok(())
    }
}

/// Sorts ranges; where two overlap, the beginning of the later one.
fn sort<A: Copy + Ord>(ranges: &mut [Range<A>]) -> Result<(), A> {
    ranges.sort_unstable_by_key(|range| range.first);
    let overlap = ranges.iter().zip(ranges.iter().skip(1)).find(|(before, after)| before.last >= after.first);
    overlap.map_or(Ok(()), |(_, after)| Err(after.first))
}

fn find<A: Copy + Ord>(ranges: &[Range<A>], address: A) -> Option<Country> {
    let behind = ranges.partition_point(|range| range.first <= address);
    let range = ranges.get(behind.checked_sub(1)?)?;
    (address <= range.last).then_some(range.country)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# First, last, country.
198.51.100.0,198.51.100.255,FR

\"192.0.2.0\",\"192.0.2.127\",\"DE\"
192.0.2.128, 192.0.2.128, CH
203.0.113.0,203.0.113.255,ZZ
2001:db8::,2001:db8::ffff,JP
";

    #[test]
    fn a_source_is_in_the_country_of_its_range() {
        let table = Countries::parse(TABLE).unwrap();
        let check = |address: &str, expect: Option<&str>| {
            let found = table.of(Some(address.parse().unwrap()));
            assert_eq!(found.map(|country| country.to_string()).as_deref(), expect, "{address}");
        };
        check("192.0.2.0", Some("DE"));
        check("192.0.2.127", Some("DE"));
        check("192.0.2.128", Some("CH"));
        check("192.0.2.129", None);
        check("192.0.1.255", None);
        check("198.51.100.255", Some("FR"));
        check("198.51.101.0", None);
        check("203.0.113.7", None);
        check("::ffff:192.0.2.1", Some("DE"));
        check("2001:db8::1:0", None);
        check("2001:db8::ffff", Some("JP"));
        check("0.0.0.0", None);
        check("ffff::", None);
        assert_eq!(table.of(None), None);
        assert_eq!(Countries::default().of(Some([192, 0, 2, 1].into())), None);
    }

    #[test]
    fn a_table_that_cannot_be_meant_is_refused_with_its_line() {
        let check = |text: &str, expect: CountriesError| {
            assert_eq!(Countries::parse(text).map(drop), Err(expect), "{text}");
        };
        for text in ["192.0.2.0,192.0.2.1", "a,b,DE", "192.0.2.0,192.0.2.1,de", "192.0.2.0,192.0.2.1,DE,x", "x"] {
            check(text, CountriesError::Line { line: 1 });
        }
        check("\n192.0.2.1,192.0.2.0,DE", CountriesError::Backwards { line: 2 });
        check("192.0.2.1,2001:db8::,DE", CountriesError::Backwards { line: 1 });
        let overlap = "192.0.2.0,192.0.2.9,DE\n192.0.2.9,192.0.2.10,FR";
        check(overlap, CountriesError::Overlap { first: [192, 0, 2, 9].into() });
    }
}
