//! The record sets that people entered: from their requests, into the vault and back.

use crate::settings::{DomainPlan, Plan};
use prost::Message;
use sys_core::refusal::FieldViolation;
use sys_dns::zone::{Data, Kind, MAX_TTL_S, MIN_TTL_S, Name, RecordSet};

/// The number of the form that sets are kept in.
const FORMAT: u32 = 1;
/// How long others may keep records where nothing is said: an hour.
const DEFAULT_TTL_S: u32 = 3_600;

/// A set as it is kept: in words, so that it is read again whatever becomes of the types.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(uint32, tag = "4")]
    ttl_s: u32,
    #[prost(string, repeated, tag = "5")]
    data: Vec<String>,
}

/// What a set is kept under.
pub(crate) fn place(name: &Name, kind: Kind) -> String {
    format!("{name} {kind}")
}

/// A set, for the vault.
pub(crate) fn encode(set: &RecordSet) -> Vec<u8> {
    let kind = set.kind().map(|kind| kind.to_string()).unwrap_or_default();
    let data = set.data.iter().map(Data::to_string).collect();
    Kept { format: FORMAT, name: set.name.to_string(), kind, ttl_s: set.ttl_s, data }.encode_to_vec()
}

/// A set from the vault; `None` of what cannot be read.
pub(crate) fn decode(bytes: &[u8]) -> Option<RecordSet> {
    let kept = Kept::decode(bytes).ok().filter(|kept| kept.format == FORMAT)?;
    let (name, kind) = (Name::parse(&kept.name).ok()?, Kind::parse(&kept.kind)?);
    let data = kept.data.iter().map(|text| Data::parse(kind, text).ok()).collect::<Option<Vec<_>>>()?;
    Some(RecordSet { name, ttl_s: kept.ttl_s, data })
}

/// The name in a request, and the domain that it is in.
pub(crate) fn name<'a>(plan: &'a Plan, text: &str) -> Result<(&'a DomainPlan, Name), FieldViolation> {
    let wrong = |description: String| FieldViolation { field: "name".to_owned(), description };
    let whole = Name::parse(text).ok();
    if let Some(name) = whole
        && let Some(domain) = plan.domain_of(&name)
    {
        return Ok((domain, name));
    }
    let domains: Vec<String> = plan.domains.iter().map(|domain| domain.apex.to_string()).collect();
    let [domain] = plan.domains.as_slice() else {
        return Err(wrong(format!("write the whole name, which ends with one of {}", domains.join(", "))));
    };
    let name = Name::parse_below(text, &domain.apex).map_err(|error| wrong(error.to_string()))?;
    if !name.is_within(&domain.apex) {
        return Err(wrong(format!("{name} is not in {}, the domain of this server", domain.apex)));
    }
    Ok((domain, name))
}

/// The type in a request.
pub(crate) fn kind(text: &str) -> Result<Kind, FieldViolation> {
    let known = || Kind::ALL.map(|(_, name, _)| name).join(", ");
    let by_server = ["SOA", "DNSKEY", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "CDS", "CDNSKEY"];
    Kind::parse(text).ok_or_else(|| FieldViolation {
        field: "type".to_owned(),
        description: match by_server.iter().any(|kind| kind.eq_ignore_ascii_case(text)) {
            true => format!("the server keeps {} records by itself", text.to_ascii_uppercase()),
            false => format!("write one of {}", known()),
        },
    })
}

/// The set that a request asks for, or each thing that is wrong with it by itself.
pub(crate) fn set(name: Name, kind: Kind, ttl_s: u32, data: &[String]) -> Result<RecordSet, Vec<FieldViolation>> {
    let mut wrong = Vec::new();
    let ttl_s = if ttl_s == 0 { DEFAULT_TTL_S } else { ttl_s };
    if !(MIN_TTL_S..=MAX_TTL_S).contains(&ttl_s) {
        let description = format!("write 0, or a number of seconds from {MIN_TTL_S} to {MAX_TTL_S}");
        wrong.push(FieldViolation { field: "ttl_s".to_owned(), description });
    }
    let mut parsed = Vec::new();
    for (at, text) in data.iter().enumerate() {
        match Data::parse(kind, text) {
            Ok(data) => parsed.push(data),
            Err(error) => {
                wrong.push(FieldViolation { field: format!("data[{at}]"), description: error.to_string() });
            }
        }
    }
    if wrong.is_empty() { Ok(RecordSet { name, ttl_s, data: parsed }) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn plan(domains: &[&str]) -> Plan {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        Plan::of(&Settings { domains, ..Settings::default() }).unwrap().unwrap()
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let cases = [
            (Kind::A, "192.0.2.1"),
            (Kind::Mx, "10 mail.example.org."),
            (Kind::Txt, r#""v=spf1 mx -all" "and \"more\"""#),
            (Kind::Caa, r#"0 issue "ca.example""#),
            (Kind::Srv, "0 5 5269 xmpp.example.org."),
            (Kind::Https, "1 . alpn=h2,http/1.1"),
        ];
        for (kind, text) in cases {
            let name = Name::parse("a.example.org").unwrap();
            let set = set(name, kind, 0, &[text.to_owned()]).unwrap();
            assert_eq!(decode(&encode(&set)).as_ref(), Some(&set), "{text}");
            assert_eq!(set.ttl_s, DEFAULT_TTL_S);
        }
        assert_eq!(decode(b"\xff"), None);
        assert_eq!(decode(b""), None);
    }

    #[test]
    fn a_name_is_short_where_there_is_one_domain_and_whole_where_there_are_two() {
        let one = plan(&["example.org"]);
        let read = |plan: &Plan, text: &str| name(plan, text).map(|(_, name)| name.to_string());
        for (text, expect) in [
            ("@", "example.org."),
            ("www", "www.example.org."),
            ("WWW.example.org", "www.example.org."),
            ("a.b", "a.b.example.org."),
            ("*", "*.example.org."),
        ] {
            assert_eq!(read(&one, text).as_deref(), Ok(expect));
        }
        assert!(read(&one, "www.example.com.").unwrap_err().description.contains("is not in example.org."));
        let two = plan(&["example.org", "example.com"]);
        assert_eq!(read(&two, "www.example.com").as_deref(), Ok("www.example.com."));
        assert!(read(&two, "www").unwrap_err().description.contains("example.org., example.com."));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let name = Name::parse("a.example.org").unwrap();
        let texts = ["192.0.2.1", "not an address", "2001:db8::1"].map(str::to_owned);
        let wrong = set(name, Kind::A, 5, &texts).unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
        assert_eq!(fields, ["ttl_s", "data[1]", "data[2]"]);
        assert!(kind("dnskey").unwrap_err().description.contains("by itself"));
        assert!(kind("WRONG").unwrap_err().description.contains("CNAME"));
        assert_eq!(kind("mx").unwrap(), Kind::Mx);
    }
}
