//! Names as people type them, as they stand on the wire, and in their order.

use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn a_name_is_read_as_people_type_it() {
    let check = |text: &str, expect: Result<&str, NameError>| {
        assert_eq!(Name::parse(text).map(|name| name.to_string()), expect.map(str::to_owned), "{text}");
    };
    check("www.example.org", Ok("www.example.org."));
    check(" WWW.Example.ORG. ", Ok("www.example.org."));
    check(".", Ok("."));
    check("*.example.org", Ok("*.example.org."));
    check("_443._https.example.org", Ok("_443._https.example.org."));
    check("bücher.example", Ok("xn--bcher-kva.example."));
    check("*.bücher。example", Ok("*.xn--bcher-kva.example."));
    check(r"a\.b.example.org", Ok(r"a\.b.example.org."));
    check(r"a\032b\255.example.org", Ok(r"a\032b\255.example.org."));
    check("", Err(NameError::Empty));
    check("a..b", Err(NameError::EmptyLabel));
    check(".a", Err(NameError::EmptyLabel));
    check("a b.example", Err(NameError::Character));
    check(r"a\25.example", Err(NameError::Escape));
    check(r"a\256.example", Err(NameError::Escape));
    check(r"a\", Err(NameError::Escape));
    check("192.0.2.1", Err(NameError::Address));
    check("192.0.2.1.", Err(NameError::Address));
    check("2001:db8::1", Err(NameError::Address));
    check("＼046.example", Err(NameError::International));
    check(&format!("{}.org", "a".repeat(64)), Err(NameError::LabelTooLong));
    check(&format!("{}a", "abcdefg.".repeat(32)), Err(NameError::TooLong));
}

#[test]
fn a_host_has_no_dot_at_its_end() {
    for (text, expect) in [("WWW.Example.ORG", "www.example.org"), ("a.", "a"), (".", "")] {
        assert_eq!(name(text).host(), expect);
    }
}

#[test]
fn a_name_of_a_zone_may_be_written_short() {
    let apex = name("example.org");
    let check = |text: &str, expect: &str| assert_eq!(Name::parse_below(text, &apex).unwrap().to_string(), expect);
    check("@", "example.org.");
    check("", "example.org.");
    check("www", "www.example.org.");
    check("a.b", "a.b.example.org.");
    check("www.example.org", "www.example.org.");
    check("www.example.com.", "www.example.com.");
    check("notexample.org", "notexample.org.example.org.");
    check(r"dot\.", r"dot\..example.org.");
    assert_eq!(Name::parse_in_full("mail"), Err(NameError::NotInFull));
    assert!(Name::parse_in_full("mail.").is_ok());
}

#[test]
fn within_is_a_matter_of_labels() {
    assert!(name("a.example.org").is_within(&name("example.org")));
    assert!(name("example.org").is_within(&name("example.org")));
    assert!(name("example.org").is_within(&Name::root()));
    assert!(!name("badexample.org").is_within(&name("example.org")));
    // The octets of a label that look like the end of a name do not make it one.
    assert!(!name(r"x\003org").is_within(&name("org")));
}

#[test]
fn names_stand_in_canonical_order() {
    // The example of RFC 4034 section 6.1.
    let order = [
        "example",
        "a.example",
        "yljkjljk.a.example",
        "z.a.example",
        "zabc.a.example",
        "z.example",
        r"\001.z.example",
        "*.z.example",
        r"\200.z.example",
    ];
    assert!(order.map(name).is_sorted());
}

#[test]
fn nothing_lies_between_a_name_and_its_successor() {
    assert_eq!(name("a.example").successor().to_string(), r"\000.a.example.");
    // A name of 254 octets has no room for a label below it, but for an octet at its first one.
    let tail = format!("{0}.{0}.{0}", "b".repeat(62));
    assert_eq!(name(&format!("{}.{tail}", "a".repeat(62))).wire().len(), 253);
    let full = name(&format!("{}.{tail}", "a".repeat(63)));
    assert_eq!(full.wire().len(), 254);
    assert_eq!(full.successor(), name(&format!("{}b.{tail}", "a".repeat(62))));
    let full = name(&format!(r"{}\255.{tail}", "@".repeat(62)));
    assert_eq!(full.successor(), name(&format!("{}[.{tail}", "@".repeat(61))));
}

/// Names of any octets, some as long as a name can be.
fn names() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..6)
        .prop_map(|labels| labels.iter().fold(Name::root(), |name, label| name.child(label).unwrap_or(name)))
}

proptest! {
    #[test]
    fn a_name_is_read_as_it_is_written(name in names()) {
        prop_assert_eq!(Name::parse(&name.to_string()).unwrap(), name.clone());
        prop_assert_eq!(Name::from_wire(name.wire()).unwrap(), name);
    }

    #[test]
    fn a_successor_comes_behind(name in names(), other in names()) {
        let successor = name.successor();
        // Of the last name of all the first one is the successor, as in every chain of NSEC.
        prop_assert!(successor > name || successor == Name::root());
        prop_assert!(!(name < other && other < successor), "{} < {} < {}", name, other, successor);
    }

    #[test]
    fn within_is_what_the_labels_say(name in names(), up in 0_usize..7, other in names()) {
        let ancestors: Vec<_> = name.ancestors().collect();
        if let Some(ancestor) = ancestors.get(up) {
            prop_assert!(name.is_within(ancestor));
        }
        prop_assert_eq!(name.is_within(&other), ancestors.contains(&other));
    }
}
