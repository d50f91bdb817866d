//! Answers to whole messages over a signed zone, as transports send them.

use super::*;
use crate::{
    answer::{Answers, SignedZone},
    dnssec::{SigningKey, SigningKeys},
    query::MOST_UDP_BYTES,
    zone::tests::zone,
};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::rdata::opt::{EdnsCode, EdnsOption},
};
use std::sync::atomic::{AtomicI64, Ordering};

/// A signed zone with something long in it.
pub(crate) const LINES: &str = "@ A 192.0.2.1
    @ AAAA 2001:db8::1
    @ MX 10 mail.example.org.
    @ TXT \"v=spf1 mx -all\"
    @ CAA 0 issue \"ca.example\"
    @ HTTPS 1 . alpn=h2,http/1.1 ipv4hint=192.0.2.1
    www CNAME example.org.
    mail A 192.0.2.2
    _dns SRV 0 0 853 ns1.example.org.
    *.wild A 192.0.2.3
    long TXT \"0longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"1longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"2longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"3longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"4longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"5longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\" \"6longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong\"";
pub(crate) const NOW: i64 = 1_795_000_000;

/// Who answers from that zone, and the clock.
pub(crate) fn responder(answers_per_s: Option<u16>) -> (Responder, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(NOW));
    let read = now.clone();
    let clock: Clock = Arc::new(move || read.load(Ordering::Relaxed));
    let answers = Answers::new(clock.clone());
    let zone = zone(LINES).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let keys = SigningKeys::single(Arc::new(SigningKey::generate().unwrap()));
    answers.serve(vec![SignedZone { zone, keys }]);
    let rules = Rules { answers_per_s, ..Rules::default() };
    (Responder::new(answers, rules, clock, [[1; 16], [2; 16]]), now)
}

/// A question with the parts of an OPT: payload, DO, options.
pub(crate) fn question(name: &str, kind: u16, edns: Option<(u16, bool, &[u8])>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[&[0][..], &kind.to_be_bytes(), &[0, 1]].concat());
    if let Some((payload, dnssec_ok, options)) = edns {
        message.extend_from_slice(
            &[&[0, 0, 41][..], &payload.to_be_bytes(), &[0, 0, u8::from(dnssec_ok) << 7, 0]].concat(),
        );
        message.extend_from_slice(&u16::try_from(options.len()).unwrap().to_be_bytes());
        message.extend_from_slice(options);
    }
    message
}

/// An option as it stands in an OPT.
pub(crate) fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn via(transport: Transport) -> Via {
    Via { transport, source: "192.0.2.77".parse().unwrap() }
}

fn ask(responder: &Responder, message: &[u8], transport: Transport) -> Vec<u8> {
    let mut out = Vec::new();
    responder.answer(message, via(transport), &mut out).expect("an answer");
    out
}

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"))
}

/// The value of an option of an answer.
fn told(answer: &[u8], code: EdnsCode) -> Option<Vec<u8>> {
    match read(answer).edns?.option(code)? {
        EdnsOption::Unknown(_, value) => Some(value.clone()),
        other => Some(Vec::<u8>::try_from(other).unwrap()),
    }
}

#[test]
fn whatever_is_asked_an_unproven_source_is_sent_no_more_than_the_factor_and_no_more_than_it_takes() {
    let (responder, _) = responder(None);
    let names =
        ["", "org", "example.org", "www.example.org", "mail.example.org", "a.wild.example.org", "long.example.org"];
    let more =
        ["ns1.example.org", "_dns.example.org", "nothing.example.org", "a.b.c.nothing.example.org", "example.com"];
    let (mut most, mut complete, mut cut) = (0.0_f64, 0, 0);
    for name in names.into_iter().chain(more) {
        for kind in (0..=300).chain([32_768, 65_535]) {
            for edns in [None, Some((512, false)), Some((1_232, true)), Some((4_096, true)), Some((65_535, true))] {
                let cookie = option(10, &[5; 8]);
                for options in [&[][..], &cookie] {
                    let message = question(name, kind, edns.map(|(payload, dnssec_ok)| (payload, dnssec_ok, options)));
                    let answer = ask(&responder, &message, Transport::Udp);
                    let takes = edns.map_or(512, |(payload, _)| payload.min(MOST_UDP_BYTES));
                    assert!(answer.len() <= usize::from(takes), "{name} {kind}: {} bytes", answer.len());
                    assert!(answer.len() <= MOST_FACTOR * message.len(), "{name} {kind}: {} bytes", answer.len());
                    most = most.max(answer.len() as f64 / message.len() as f64);
                    if read(&answer).metadata.truncation { cut += 1 } else { complete += 1 }
                }
            }
        }
    }
    // Both happen, or this test would say nothing.
    assert!(most > 5.0 && cut > 0 && complete > cut, "{most} {cut} {complete}");
}

#[test]
fn what_usually_is_asked_with_signatures_fits_into_the_factor() {
    let (responder, _) = responder(None);
    for (name, kind) in [
        ("example.org", 1),
        ("example.org", 28),
        ("example.org", 65),
        ("mail.example.org", 1),
        ("example.org", 48),
        ("no.example.org", 1),
    ] {
        let message = question(name, kind, Some((1_232, true, &[])));
        let answer = ask(&responder, &message, Transport::Udp);
        assert!(!read(&answer).metadata.truncation, "{name} {kind}: {} bytes asked", message.len());
    }
}

#[test]
fn a_long_answer_comes_to_who_has_proven_himself_and_by_streams() {
    let (responder, now) = responder(None);
    let client = option(10, &[5; 8]);
    let first = ask(&responder, &question("long.example.org", 16, Some((4_096, true, &client))), Transport::Udp);
    assert!(read(&first).metadata.truncation && read(&first).answers.is_empty());
    let cookie = told(&first, EdnsCode::Cookie).expect("a cookie");
    assert_eq!((cookie.len(), &cookie[..8]), (24, &[5; 8][..]));
    let with_cookie = question("long.example.org", 16, Some((4_096, true, &option(10, &cookie))));
    let second = ask(&responder, &with_cookie, Transport::Udp);
    assert!(
        !read(&second).metadata.truncation && second.len() > 600 && second.len() <= 1_232,
        "{} bytes",
        second.len()
    );
    assert!(told(&second, EdnsCode::Cookie).is_some());
    let by_stream = ask(&responder, &question("long.example.org", 16, None), Transport::Tcp);
    assert!(!read(&by_stream).metadata.truncation && by_stream.len() > 512);
    // Two hours later it proves nothing.
    now.fetch_add(7_200, Ordering::Relaxed);
    assert!(read(&ask(&responder, &with_cookie, Transport::Udp)).metadata.truncation);
}

#[test]
fn a_flood_from_one_network_is_sent_to_tcp_and_who_has_a_cookie_is_not() {
    let (responder, now) = responder(Some(3));
    let plain = question("example.org", 1, Some((1_232, false, &option(10, &[5; 8]))));
    let answers: Vec<Vec<u8>> = (0..5).map(|_| ask(&responder, &plain, Transport::Udp)).collect();
    let limited: Vec<bool> = answers.iter().map(|answer| read(answer).metadata.truncation).collect();
    assert_eq!(limited, [false, false, false, true, true]);
    // With a cookie in it, so that he can show it at once.
    let cookie = told(&answers[4], EdnsCode::Cookie).expect("a cookie");
    assert!(read(&answers[4]).answers.is_empty() && answers[4].len() <= plain.len() + 16);
    let proven = question("example.org", 1, Some((1_232, false, &option(10, &cookie))));
    let is_whole = |message: &[u8], transport| !read(&ask(&responder, message, transport)).metadata.truncation;
    assert!((0..9).all(|_| is_whole(&proven, Transport::Udp)));
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https] {
        assert!((0..9).all(|_| is_whole(&plain, transport)));
    }
    // Names that are not there are counted apart; errors too, and those are met with silence.
    assert!(is_whole(&question("no.example.org", 1, None), Transport::Udp));
    let malformed = [&plain[..], &[0]].concat();
    let told_so =
        (0..5).filter(|_| responder.answer(&malformed, via(Transport::Udp), &mut Vec::new()).is_some()).count();
    assert_eq!(told_so, 3);
    now.fetch_add(1, Ordering::Relaxed);
    assert!(is_whole(&plain, Transport::Udp));
}

#[test]
fn a_network_that_makes_up_names_uses_up_its_own_signatures_and_those_of_no_other() {
    let (responder, now) = responder(Some(3));
    let code = |name: &str, source: &str, transport| {
        let message = question(name, 1, Some((1_232, true, &[])));
        let mut out = Vec::new();
        let via = Via { transport, source: source.parse().unwrap() };
        responder.answer(&message, via, &mut out).expect("an answer");
        let metadata = read(&out).metadata;
        (metadata.response_code, metadata.truncation)
    };
    let (whole, failed) = ((ResponseCode::NoError, false), (ResponseCode::ServFail, false));
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https] {
        for (at, expect) in [whole, whole, whole, failed, failed].into_iter().enumerate() {
            let of_a_wildcard = format!("{transport:?}{at}.wild.example.org");
            assert_eq!(code(&of_a_wildcard, "192.0.2.77", transport), expect, "{of_a_wildcard}");
        }
        assert_eq!(code("example.org", "192.0.2.77", transport), whole, "what stands there needs none");
        assert_eq!(code(&format!("{transport:?}.wild.example.org"), "198.51.100.1", transport), whole);
        now.fetch_add(1, Ordering::Relaxed);
    }
    // A datagram may be anybody's: it takes nothing from the streams of whom it names.
    for at in 0..5 {
        code(&format!("udp{at}.wild.example.org"), "192.0.2.77", Transport::Udp);
    }
    assert_eq!(code("x.wild.example.org", "192.0.2.77", Transport::Tcp), whole);
}

#[test]
fn answers_on_encrypted_wires_are_padded_to_one_of_few_lengths_and_others_never() {
    let (responder, _) = responder(None);
    for name in ["example.org", "long.example.org", "no.example.org"] {
        for options in [vec![], option(12, &[0; 70]), option(10, &[5; 8])] {
            let message = question(name, 16, Some((1_232, true, &options)));
            for transport in [Transport::Tls, Transport::Https] {
                let answer = ask(&responder, &message, transport);
                assert_eq!(answer.len() % 468, 0, "{name}");
                assert!(told(&answer, EdnsCode::Padding).is_some_and(|padding| padding.iter().all(|byte| *byte == 0)));
            }
            for transport in [Transport::Udp, Transport::Tcp] {
                assert!(told(&ask(&responder, &message, transport), EdnsCode::Padding).is_none());
            }
        }
        // Who does not know EDNS does not know padding.
        assert!(read(&ask(&responder, &question(name, 16, None), Transport::Tls)).edns.is_none());
    }
}

#[test]
fn who_asks_how_long_his_stream_may_be_idle_is_told_on_streams_alone() {
    let (responder, _) = responder(None);
    let message = question("example.org", 1, Some((1_232, false, &option(11, &[]))));
    for (transport, expected) in [
        (Transport::Udp, None),
        (Transport::Https, None),
        (Transport::Tcp, Some(vec![0, 100])),
        (Transport::Tls, Some(vec![0, 100])),
    ] {
        assert_eq!(told(&ask(&responder, &message, transport), EdnsCode::from(11)), expected, "{transport:?}");
    }
}

#[test]
fn a_cookie_alone_is_given_and_an_answer_is_never_answered() {
    let (responder, _) = responder(None);
    let mut message = question("", 1, Some((1_232, false, &option(10, &[5; 8]))));
    message.drain(12..17);
    message[5] = 0;
    let answer = ask(&responder, &message, Transport::Udp);
    assert_eq!(told(&answer, EdnsCode::Cookie).map(|cookie| cookie.len()), Some(24));
    assert_eq!(read(&answer).metadata.response_code, ResponseCode::NoError);
    assert_eq!(responder.answer(&answer, via(Transport::Udp), &mut Vec::new()), None);
}
