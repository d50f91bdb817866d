//! Files that an operator brings, line by line: records and accounts to import, and the table of countries.

use crate::{
    input::text,
    things::{THINGS, same, shown},
};
use std::{collections::BTreeMap, net::IpAddr};
use sys_account::{bootstrap::accounts::account_of, email::CanonicalEmail};
use sys_contract::id::OrgId;
use sys_core::{
    countries::Countries,
    fuzzing::{encode, import_line, is_valid},
};

/// A record in JSON is valid and has the id that stands in it, and is read again as it is written.
pub(crate) fn record(bytes: &[u8]) {
    let Some(line) = text(bytes) else { return };
    let read = |line: &str| import_line(&THINGS.validation, &THINGS.table, line);
    match read(line) {
        Ok((id, thing)) => {
            assert!(is_valid(&THINGS.validation, &thing), "{}", shown(&thing));
            assert_eq!(id.uuid.get_version_num(), 7);
            let stands = thing.get_field_by_name("id");
            assert_eq!(stands.as_ref().and_then(|id| id.as_str()), Some(id.text("thing").as_str()));
            let Some(json) = encode(&thing, true) else { return };
            // Of a time outside of the years 1 to 9999 no JSON is made that is read again.
            let Ok((same_id, again)) = read(text(&json).expect("JSON is text")) else { return };
            assert_eq!(same_id, id);
            let mask = |_: &prost_reflect::MessageDescriptor| false;
            assert!(same(&again, &thing, &mask), "{} {}", shown(&thing), shown(&again));
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

/// An account has an id, a canonical address, and a proof of it where an org manages it; what is wrong is said without a value of it.
pub(crate) fn account(bytes: &[u8]) {
    let Some(line) = text(bytes) else { return };
    match account_of(line) {
        Ok(account) => {
            let email = CanonicalEmail::parse(&account.email).expect("it was read");
            assert_eq!(email.as_str(), account.email);
            let is_managed = !account.managed_by_org_id.is_empty();
            assert!(!is_managed || (account.verified && account.managed_by_org_id.parse::<OrgId>().is_ok()));
            assert!(account.created_at.is_some_and(|at| at.seconds >= 0));
        }
        Err(refused) => {
            let said = format!("{refused} {:?} {:?}", refused.help, refused.fields);
            for value in values(line) {
                assert!(!said.contains(&value), "{said} holds {value}");
            }
        }
    }
}

/// The texts of a line that nobody but its account should see, as far as no remedy says the same.
fn values(line: &str) -> Vec<String> {
    let read: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(line).ok();
    let value = |field: &str| read.as_ref().and_then(|read| read.get(field)?.as_str().map(str::to_owned));
    let is_somebodys = |value: &String| value.len() > 12 && value.contains('@');
    ["email", "display_name"].into_iter().filter_map(value).filter(is_somebodys).collect()
}

/// The country of an address is that of the one line that holds it. Lines that hold one address together, and those that are none, are refused.
pub(crate) fn countries(bytes: &[u8]) {
    let Some(table) = text(bytes) else { return };
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let ranges: Option<Vec<(IpAddr, IpAddr, String)>> = lines.map(range).collect();
    // Of lines without a country the addresses are read, and the range is not.
    let ranges = ranges.map(|ranges| ranges.into_iter().filter(|(_, _, country)| !country.is_empty()).collect());
    let ranges: Option<Vec<_>> = ranges.filter(|ranges: &Vec<(IpAddr, IpAddr, String)>| are_apart(ranges));
    let read = Countries::parse(table);
    let (Ok(read), Some(ranges)) = (&read, &ranges) else {
        return assert!(read.is_err() && ranges.is_none(), "{read:?} is not {ranges:?}");
    };
    for address in ranges.iter().flat_map(|(first, last, _)| [*first, *last]).flat_map(around) {
        let expected = ranges.iter().find(|(first, last, _)| holds((*first, *last), address.to_canonical()));
        let found = read.of(Some(address)).map(|country| country.to_string());
        assert_eq!(found.as_ref(), expected.map(|(_, _, country)| country), "{address}");
    }
}

/// A line's range and country; no country where none is known.
fn range(line: &str) -> Option<(IpAddr, IpAddr, String)> {
    let columns: Vec<&str> = line.split(',').map(|column| column.trim().trim_matches('"')).collect();
    let [first, last, country] = columns.as_slice() else { return None };
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    match *country {
        "" | "-" | "ZZ" => Some((first, last, String::new())),
        _ if country.len() != 2 || !country.bytes().all(|letter| letter.is_ascii_uppercase()) => None,
        _ if first.is_ipv4() != last.is_ipv4() || first > last => None,
        country => Some((first, last, country.to_owned())),
    }
}

fn are_apart(ranges: &[(IpAddr, IpAddr, String)]) -> bool {
    let others = |at: usize| ranges.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, range)| range);
    ranges.iter().enumerate().all(|(at, (first, ..))| !others(at).any(|(a, b, _)| holds((*a, *b), *first)))
}

fn holds((first, last): (IpAddr, IpAddr), address: IpAddr) -> bool {
    first.is_ipv4() == address.is_ipv4() && first <= address && address <= last
}

/// An address and its neighbours, and the same within the other kind of addresses.
fn around(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let number = u32::from(address);
            let near = [number.wrapping_sub(1), number, number.wrapping_add(1)].map(std::net::Ipv4Addr::from);
            near.into_iter().flat_map(|near| [IpAddr::V4(near), IpAddr::V6(near.to_ipv6_mapped())]).collect()
        }
        IpAddr::V6(address) => {
            let number = u128::from(address);
            [number.wrapping_sub(1), number, number.wrapping_add(1)].map(|near| IpAddr::V6(near.into())).to_vec()
        }
    }
}
