//! Questions byte by byte: what is read, what is refused with which code, and what is met with silence.

use super::*;
use hickory_proto::op::Message;
use proptest::prelude::*;

/// `www.example.org`, A, IN.
const QUESTION: &[u8] = b"\x03wWw\x07example\x03org\0\0\x01\0\x01";
const ID: [u8; 2] = [0xab, 0xcd];

fn head(flags: [u8; 2], counts: [u8; 4]) -> Vec<u8> {
    let [questions, answers, authorities, additionals] = counts;
    let mut message = [ID, flags].concat();
    message.extend_from_slice(&[0, questions, 0, answers, 0, authorities, 0, additionals]);
    message
}

fn asked(rest: &[&[u8]], additionals: u8) -> Vec<u8> {
    [head([1, 0], [1, 0, 0, additionals]), rest.concat()].concat()
}

/// An OPT that takes 4096 bytes, with DO, of this version and with these options.
fn opt(version: u8, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).expect("few options").to_be_bytes();
    [&[0, 0, 41, 0x10, 0, 0, version, 0x80, 0][..], &length, options].concat()
}

fn code_of(message: &[u8]) -> Option<Code> {
    match parse(message) {
        Ok(query) => panic!("{query:?} was let in: {message:02x?}"),
        Err(Refused::Silence) => None,
        Err(Refused::Short(short)) => Some(short.code),
    }
}

#[test]
fn a_question_is_read_with_its_name_in_lower_case_and_its_bytes_as_they_were() {
    let cookie = [&[0, 10, 0, 16][..], &[7; 8], &[9; 8]].concat();
    let options = [&cookie[..], &[0, 12, 0, 2, 0, 0], &[0, 11, 0, 0], &[0, 3, 0, 0], &[0xff, 0xfe, 0, 1, 5]].concat();
    let message = asked(&[QUESTION, &opt(0, &options)], 1);
    let query = parse(&message).expect("a question");
    assert_eq!((query.id, query.kind, query.recursion_desired), (0xabcd, 1, true));
    assert_eq!((query.name(), query.question), (&b"\x03www\x07example\x03org\0"[..], QUESTION));
    let edns = query.edns.expect("an OPT");
    assert_eq!(edns.cookie, Some(Cookie { client: [7; 8], server: &[9; 8] }));
    assert!(edns.dnssec_ok && edns.is_padded && edns.asks_keepalive);
    assert_eq!((edns.payload_bytes, query.most_udp_bytes()), (4_096, MOST_UDP_BYTES));
}

#[test]
fn a_question_without_an_opt_takes_512_bytes_and_a_smaller_size_is_taken_for_as_much() {
    let bare = asked(&[QUESTION], 0);
    assert_eq!(parse(&bare).expect("a question").most_udp_bytes(), 512);
    let mut small = opt(0, &[]);
    small[3..5].copy_from_slice(&[0, 1]);
    assert_eq!(parse(&asked(&[QUESTION, &small], 1)).expect("a question").most_udp_bytes(), 512);
}

#[test]
fn what_is_shorter_than_a_header_or_an_answer_is_met_with_silence() {
    let whole = asked(&[QUESTION], 0);
    for length in 0..HEADER_BYTES {
        assert_eq!(code_of(&whole[..length]), None, "{length} bytes");
    }
    for flags in [0x80, 0x84, 0xff] {
        let answer = [head([flags, 0], [1, 0, 0, 0]), QUESTION.to_vec()].concat();
        assert_eq!(code_of(&answer), None, "{flags:02x}");
    }
}

#[test]
fn a_message_cut_anywhere_is_malformed() {
    let whole = asked(&[QUESTION, &opt(0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])], 1);
    parse(&whole).expect("a question");
    for length in HEADER_BYTES..whole.len() {
        assert_eq!(code_of(&whole[..length]), Some(Code::FormErr), "{length} bytes");
    }
}

#[test]
fn every_malformed_kind_is_told_so() {
    let label = |length: u8| [&[length][..], &vec![b'a'; usize::from(length)]].concat();
    let long_name = [label(63), label(63), label(63), label(62), vec![0, 0, 1, 0, 1]].concat();
    let (two, tsig) = ([opt(0, &[]), opt(0, &[])].concat(), [&[0, 0, 250, 0, 255, 0, 0, 0, 0][..], &[0, 0]].concat());
    let check = |what: &str, message: &[u8]| assert_eq!(code_of(message), Some(Code::FormErr), "{what}");
    check("no question", &head([0, 0], [0, 0, 0, 0]));
    check("no question but an OPT without a cookie", &[head([0, 0], [0, 0, 0, 1]), opt(0, &[])].concat());
    check("two questions", &[head([0, 0], [2, 0, 0, 0]), QUESTION.repeat(2)].concat());
    check("an answer in a question", &[head([0, 0], [1, 1, 0, 0]), QUESTION.to_vec()].concat());
    check("an authority in a question", &[head([0, 0], [1, 0, 1, 0]), QUESTION.to_vec()].concat());
    check("bytes behind the question", &asked(&[QUESTION, &[0]], 0));
    check("bytes behind the OPT", &asked(&[QUESTION, &opt(0, &[]), &[0]], 1));
    check("two OPTs", &asked(&[QUESTION, &two], 2));
    check("a signature of nobody known", &asked(&[QUESTION, &tsig], 1));
    check("an OPT with a name", &asked(&[QUESTION, &[1, b'a'], &opt(0, &[])], 1));
    check("an OPT as the question", &asked(&[b"\0\0\x29\0\x01"], 0));
    check("a pointer to itself", &asked(&[&[0xc0, 12, 0, 1, 0, 1]], 0));
    check("a pointer behind a label", &asked(&[&[1, b'a', 0xc0, 0, 0, 1, 0, 1]], 0));
    check("a label of a kind that never was", &asked(&[&[0x41, b'a', 0, 0, 1, 0, 1]], 0));
    check("a name of 256 bytes", &asked(&[&long_name], 0));
    check("a name without an end", &asked(&[&[1, b'a'].repeat(3)], 0));
    check("an option longer than the OPT", &asked(&[QUESTION, &opt(0, &[0, 3, 0, 1])], 1));
    check("a cut option", &asked(&[QUESTION, &opt(0, &[0, 3, 0])], 1));
    check("a keepalive with a time", &asked(&[QUESTION, &opt(0, &[0, 11, 0, 2, 0, 1])], 1));
    for length in (0..8).chain(9..16).chain(41..44) {
        let cookie = [vec![0, 10, 0, length], vec![1; usize::from(length)]].concat();
        check("a cookie of no legal length", &asked(&[QUESTION, &opt(0, &cookie)], 1));
    }
}

#[test]
fn the_longest_name_and_the_root_are_names() {
    let label = |length: u8| [&[length][..], &vec![b'A'; usize::from(length)]].concat();
    let longest = [label(63), label(63), label(63), label(61), vec![0]].concat();
    let message = asked(&[&longest, &[0, 1, 0, 1]], 0);
    assert_eq!(parse(&message).expect("a question").name(), longest.to_ascii_lowercase());
    assert_eq!(parse(&asked(&[&[0, 0, 2, 0, 1]], 0)).expect("a question").name(), &[0]);
}

#[test]
fn other_work_other_classes_and_other_versions_are_told_apart() {
    for opcode in 1..16 {
        assert_eq!(code_of(&head([opcode << 3, 0], [9, 9, 9, 9])), Some(Code::NotImp), "opcode {opcode}");
    }
    // AXFR, IXFR, TSIG, and one that nobody has defined.
    for kind in [252, 251, 250, 129] {
        let mut transfer = head([0, 0], [1, 0, 1, 0]);
        transfer.extend_from_slice(&[0, 0, kind, 0, 1]);
        assert_eq!(code_of(&transfer), Some(Code::NotImp), "type {kind}");
    }
    // NXNAME is in denials alone.
    assert_eq!(code_of(&asked(&[&[0, 0, 128, 0, 1]], 0)), Some(Code::FormErr));
    assert_eq!(code_of(&asked(&[b"\x07version\x04bind\0\0\x10\0\x03"], 0)), Some(Code::Refused));
    assert_eq!(code_of(&asked(&[QUESTION, &opt(1, &[0xff])], 1)), Some(Code::BadVers));
    let cookie = [&[0, 10, 0, 8][..], &[1; 8]].concat();
    assert_eq!(code_of(&[head([0, 0], [0, 0, 0, 1]), opt(0, &cookie)].concat()), Some(Code::NoError));
}

#[test]
fn what_is_answered_without_a_zone_is_a_message_that_others_read() {
    let check = |message: &[u8], code: u16, question: usize, has_opt: bool| {
        let Err(Refused::Short(short)) = parse(message) else { panic!("no short answer") };
        let mut out = Vec::new();
        short.write(&mut out);
        let answer = Message::from_vec(&out).expect("a message");
        assert_eq!(
            (u16::from(answer.metadata.response_code), answer.queries.len(), answer.edns.is_some()),
            (code, question, has_opt)
        );
        assert_eq!((out[..2].to_vec(), out[2] & 0x80, out[3] & 0x80), (ID.to_vec(), 0x80, 0));
    };
    check(&asked(&[QUESTION, &[0]], 0), 1, 1, false);
    check(&head([0x28, 0], [0; 4]), 4, 0, false);
    check(&asked(&[QUESTION, &opt(3, &[])], 1), 16, 1, true);
}

proptest! {
    /// What is let in, another reader of DNS reads as the same; nothing panics whatever comes.
    #[test]
    fn changed_questions_are_read_as_another_reader_does(edits in prop::collection::vec((0_usize..80, any::<u8>()), 0..4), cut in 0_usize..90) {
        let mut message = asked(&[QUESTION, &opt(0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 12, 0, 1, 0])], 1);
        for (at, byte) in edits {
            if let Some(place) = message.get_mut(at) { *place = byte; }
        }
        message.truncate(cut);
        if let Ok(query) = parse(&message) {
            let other = Message::from_vec(&message).expect("a message");
            prop_assert_eq!(other.metadata.id, query.id);
            prop_assert_eq!(u16::from(other.queries[0].query_type()), query.kind);
            prop_assert_eq!(other.edns.map(|edns| edns.flags().dnssec_ok), query.edns.map(|edns| edns.dnssec_ok));
        }
    }
}
