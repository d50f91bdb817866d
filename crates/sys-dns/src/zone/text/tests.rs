//! Data as people type it, read and written.

use super::*;
use proptest::prelude::*;

fn parse(kind: Kind, text: &str) -> Result<Data, DataError> {
    Data::parse(kind, text)
}

#[test]
fn data_is_read_as_people_type_it_and_written_in_one_way() {
    let check = |kind: Kind, text: &str, expect: &str| {
        assert_eq!(parse(kind, text).map(|data| data.to_string()), Ok(expect.to_owned()), "{text}");
    };
    check(Kind::A, " 192.0.2.1 ", "192.0.2.1");
    check(Kind::Aaaa, "2001:DB8:0::1", "2001:db8::1");
    check(Kind::Mx, "10\tMail.example.org", "10 mail.example.org.");
    check(Kind::Mx, "0 .", "0 .");
    check(Kind::Cname, "bücher.example", "xn--bcher-kva.example.");
    check(Kind::Txt, "v=spf1 mx -all", "\"v=spf1 mx -all\"");
    check(Kind::Txt, r#""a b"  "c\"\\\255""#, r#""a b" "c\"\\\255""#);
    check(Kind::Txt, "\"\"", "\"\"");
    check(Kind::Txt, "ä", r#""\195\164""#);
    let long = "x".repeat(600);
    check(Kind::Txt, &long, &format!("\"{}\" \"{}\" \"{}\"", &long[..255], &long[..255], &long[..90]));
    check(Kind::Srv, "0 5 5269 xmpp.example.org", "0 5 5269 xmpp.example.org.");
    check(Kind::Caa, "0 ISSUE letsencrypt.org", "0 issue \"letsencrypt.org\"");
    check(Kind::Caa, "128 issue \"ca.example; a=b\"", "128 issue \"ca.example; a=b\"");
    check(Kind::Https, "1 . port=8443 alpn=\"h2,http/1.1\"", "1 . alpn=\"h2,http/1.1\" port=8443");
    check(Kind::Https, "0 www.example.org", "0 www.example.org.");
    check(
        Kind::Https,
        "1 . mandatory=port,alpn alpn=h2 port=1 no-default-alpn",
        "1 . mandatory=alpn,port alpn=\"h2\" no-default-alpn port=1",
    );
    check(
        Kind::Https,
        "1 . ech=AAEB ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=::1",
        "1 . ipv4hint=192.0.2.1,192.0.2.2 ech=AAEB ipv6hint=::1",
    );
    check(
        Kind::Svcb,
        "1 dns.example. alpn=h2 dohpath=/dns-query{?dns}",
        "1 dns.example. alpn=\"h2\" dohpath=\"/dns-query{?dns}\"",
    );
    check(Kind::Svcb, r#"1 a.example. alpn="f\\\\oo\\,bar,h2""#, r#"1 a.example. alpn="f\\\\oo\\,bar,h2""#);
    check(Kind::Svcb, r"1 a.example. key667=hello\210qoo", r#"1 a.example. key667="hello\210qoo""#);
    check(
        Kind::Ds,
        "60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118",
        "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
    );
}

#[test]
fn what_is_no_data_is_told_with_a_remedy() {
    let check = |kind: Kind, text: &str, expect: &str| {
        let said = parse(kind, text).expect_err(text).to_string();
        assert!(said.contains(expect), "{text}: {said}");
        assert!(said.contains(':'), "{said} says what to do");
    };
    check(Kind::A, "2001:db8::1", "no address for A");
    check(Kind::A, "", "192.0.2.1");
    check(Kind::A, "192.0.2.1 192.0.2.2", "more stands there");
    check(Kind::Mx, "mail.example.org", "no number from 0 to 65535");
    check(Kind::Mx, "+1 mail.example.org", "no number");
    check(Kind::Mx, "10", "the name is missing");
    check(Kind::Mx, "10 192.0.2.1", "an address stands where a name must");
    check(Kind::Cname, "mail", "in full");
    check(Kind::Txt, "a \"b\"", "quote");
    check(Kind::Txt, "\"a\"b", "quote");
    check(Kind::Txt, "\"a", "quote");
    check(Kind::Txt, r#""\25""#, "backslash");
    check(Kind::Txt, &format!("\"{}\"", "x".repeat(256)), "255");
    check(Kind::Caa, "256 issue x", "from 0 to 255");
    check(Kind::Caa, "0 issue \"\u{e4}\"", "ASCII");
    check(Kind::Https, "1 . colour=red", "`colour` is no parameter");
    check(Kind::Https, "1 . port=h2", "port=8443");
    check(Kind::Https, "1 . ech=!", "base64");
    check(Kind::Ds, "1 13 2 xyz", "hexadecimal");
    check(Kind::Txt, &"x".repeat(20_000), "longer");
}

/// The examples of RFC 9460 appendix D, in wire form.
#[test]
fn services_have_the_octets_of_the_rfc() {
    let check = |text: &str, expect: &str| {
        let data = parse(Kind::Svcb, text).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&data.wire()), expect.replace(' ', ""), "{text}");
    };
    check("0 foo.example.com.", "0000 03666f6f076578616d706c6503636f6d00");
    check("1 .", "0001 00");
    check("16 foo.example.com. port=53", "0010 03666f6f076578616d706c6503636f6d00 0003 0002 0035");
    check("1 foo.example.com. key667=hello", "0001 03666f6f076578616d706c6503636f6d00 029b 0005 68656c6c6f");
    check(
        "1 foo.example.com. ipv6hint=\"2001:db8::1,2001:db8::53:1\"",
        "0001 03666f6f076578616d706c6503636f6d00 0006 0020 20010db8000000000000000000000001 20010db8000000000000000000530001",
    );
    check(
        "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
        "0010 03666f6f076578616d706c65036f726700 0000 0004 0001 0004 0001 0009 02683205 68332d3139 0004 0004 c0000201",
    );
    check(
        r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
        "0010 03666f6f076578616d706c65036f726700 0001 000c 08665c6f6f2c626172 026832",
    );
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 2..5)
        .prop_map(|labels| labels.iter().fold(Name::root(), |name, label| name.child(label).unwrap()))
}

fn any_service() -> impl Strategy<Value = Service> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 1..most);
    let parameters = (
        prop::option::of(prop::collection::btree_set(1_u16..2000, 1..4)),
        prop::option::of(prop::collection::vec(bytes(9), 1..4)),
        any::<bool>(),
        prop::option::of(any::<u16>()),
        prop::option::of(prop::collection::vec(any::<std::net::Ipv4Addr>(), 1..3)),
        prop::option::of(bytes(30)),
        prop::option::of(prop::collection::vec(any::<std::net::Ipv6Addr>(), 1..3)),
        prop::option::of("[ -~]{1,20}"),
        prop::option::of((8_u16..=65_534, prop::collection::vec(any::<u8>(), 0..9))),
    );
    (any::<u16>(), any_name(), parameters).prop_map(|(priority, target, of)| {
        let (mandatory, alpn, no_default, port, hint4, ech, hint6, dohpath, other) = of;
        let parameters = [
            mandatory.map(|keys| Parameter::Mandatory(keys.into_iter().collect())),
            alpn.map(Parameter::Alpn),
            no_default.then_some(Parameter::NoDefaultAlpn),
            port.map(Parameter::Port),
            hint4.map(Parameter::Ipv4Hint),
            ech.map(Parameter::Ech),
            hint6.map(Parameter::Ipv6Hint),
            dohpath.map(Parameter::DohPath),
            other.map(|(key, value)| Parameter::Other { key, value }),
        ];
        Service { priority, target, parameters: parameters.into_iter().flatten().collect() }
    })
}

fn any_data() -> impl Strategy<Value = Data> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(Data::A),
        any::<std::net::Ipv6Addr>().prop_map(Data::Aaaa),
        any_name().prop_map(Data::Cname),
        any_name().prop_map(Data::Ns),
        (any::<u16>(), any_name()).prop_map(|(preference, exchange)| Data::Mx { preference, exchange }),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=255), 1..4).prop_map(Data::Txt),
        (any::<[u16; 3]>(), any_name()).prop_map(|([priority, weight, port], target)| Data::Srv {
            priority,
            weight,
            port,
            target
        }),
        (any::<u8>(), "[a-z0-9]{1,15}", "[ -~]{0,40}").prop_map(|(flags, tag, value)| Data::Caa { flags, tag, value }),
        any_service().prop_map(Data::Https),
        any_service().prop_map(Data::Svcb),
        (any::<u16>(), any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 1..48))
            .prop_map(|(key_tag, algorithm, digest_type, digest)| Data::Ds { key_tag, algorithm, digest_type, digest }),
    ]
}

proptest! {
    #[test]
    fn data_is_read_as_it_is_written(data in any_data()) {
        prop_assert_eq!(parse(data.kind(), &data.to_string()), Ok(data));
    }

    #[test]
    fn whatever_is_typed_is_refused_or_written_and_read_again(kind in 0..Kind::ALL.len(), text in r#"[0-9]{0,2} ?[\PC" \\=,.]{0,40}"#) {
        let kind = Kind::ALL[kind].0;
        if let Ok(data) = parse(kind, &text) {
            prop_assert_eq!(parse(kind, &data.to_string()), Ok(data));
        }
    }
}
