//! Some inputs of the corpus are there because they are read: where they are refused, their targets show nothing any more.

use crate::{ech, input, message, things::THINGS, token};
use std::{fs, path::Path};
use sys_account::bootstrap::accounts::account_of;
use sys_client::fuzzing::{kept_heads, kept_servers, pointer, told_keys};
use sys_contract::{Origin, SourceFile, load};
use sys_core::{
    countries::Countries,
    fuzzing::{audit_page_token, import_line},
};

fn corpus(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)).expect(name)
}

fn text(name: &str) -> String {
    let [text] = input::parts::<1>(&corpus(name)).map(<[u8]>::to_vec);
    String::from_utf8(text).expect(name)
}

/// The first part of an input, as a text.
fn first(name: &str) -> String {
    let bytes = corpus(name);
    let [first, _] = input::parts(&bytes);
    String::from_utf8(first.to_vec()).expect(name)
}

#[test]
fn contracts_of_the_corpus_load() {
    let bytes = corpus("contract/whole");
    let [.., whole] = input::parts::<3>(&bytes);
    let file = SourceFile {
        path: "notes/v1/notes.proto".to_owned(),
        text: String::from_utf8(whole.to_vec()).expect("a text"),
    };
    assert!(load("mod-a", Origin::Uploaded, &[file]).is_ok());
}

#[test]
fn messages_of_the_corpus_are_read() {
    for name in ["create", "unknown", "update", "list", "measure"] {
        assert!(message::is_read(&corpus(&format!("message_protobuf/{name}")), false), "{name}");
    }
    for name in ["create", "update", "list", "measure", "empty"] {
        assert!(message::is_read(&corpus(&format!("message_json/{name}")), true), "{name}");
    }
    assert!(!message::is_read(&corpus("message_protobuf/nested"), false), "too deep");
}

#[test]
fn conditions_of_the_corpus_are_read() {
    for number in 0..=9 {
        let text = first(&format!("filter/filter_{number:02}"));
        assert!(THINGS.record().filter(&text).is_ok(), "{text}");
    }
    for number in 0..=10 {
        let text = first(&format!("rule/rule_{number:02}"));
        assert!(crate::contract::with_rule(&text).is_some(), "{text}");
    }
}

#[test]
fn tokens_and_files_of_the_corpus_are_read() {
    assert!(token::is_good(&corpus("access_token/as_we_sign")));
    assert!(!token::is_good(&corpus("access_token/audiences")));
    assert!(!token::is_good(&corpus("access_token/over")));
    assert!(sys_account::bootstrap::file::read(&text("bootstrap/small")).is_ok());
    assert!(sys_client::fuzzing::session(&text("session_file/session")).is_some());
    assert!(sys_client::fuzzing::session(&text("session_file/outside")).is_none());
    assert!(sys_store::fuzzing::catalog_loaded(&corpus("catalog_row/things"), &THINGS.contract).is_some());
    assert!(sys_store::fuzzing::kept_contract(&corpus("catalog_row/shape")).is_some());
    let pools = sys_client::fuzzing::descriptors(corpus("descriptors/note").into()).expect("a description");
    assert_eq!(pools.first().map(|pool| pool.services().count()), Some(1));
}

#[test]
fn lines_of_the_corpus_are_read() {
    for name in ["alone", "managed"] {
        assert!(account_of(&text(&format!("account_line/{name}"))).is_ok(), "{name}");
    }
    assert!(account_of(&text("account_line/roles_of_nobody")).is_err());
    let record = |name: &str| import_line(&THINGS.validation, &THINGS.table, &text(&format!("import_line/{name}")));
    for name in ["thing", "least"] {
        assert!(record(name).is_ok(), "{name}: {}", record(name).unwrap_err());
    }
    assert!(record("too_long").is_err());
    assert!(Countries::parse(&text("countries/table")).is_ok());
    assert!(kept_heads(&text("kept_heads/one")).is_some());
    assert!(kept_servers(&text("servers_file/two")).is_some_and(|written| written.contains("AEX+DQBB")));
    assert!(kept_servers(&text("servers_file/other_format")).is_none());
    let told = |name: &str| told_keys(&corpus(&format!("https_record/{name}")), "example.org.");
    assert!(matches!((told("keys"), told("no_name"), told("question")), (Some(Some(_)), Some(None), None)));
    assert!(pointer(&text("session_file/in_the_keychain")).is_some());
    assert!(audit_page_token(&text("audit_page_token/first")).is_some());
}

#[test]
fn lists_of_ech_configurations_in_the_corpus_are_read() {
    for name in ["one", "two", "newer_version", "extension", "mandatory_extension", "sixteen", "another_kem"] {
        assert!(ech::config_list(&corpus(&format!("ech_config_list/{name}"))), "{name}");
    }
}
