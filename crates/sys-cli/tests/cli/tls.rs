//! A server over TLS with an authority of its own: what people do to trust it, and what they are told.

use super::{Server, Sys};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};
use sys_client::Fingerprint;
use sys_edge::{
    Bind,
    tls::{Identity, Tls},
};

/// A server with a certificate for 127.0.0.1, and the fingerprint of who has signed it.
pub(crate) fn start() -> (Server, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let chain = params.signed_by(&key, &authority).expect("a certificate").pem() + &authority.pem();
    let tls = Tls::new().expect("TLS");
    tls.show(vec![Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an identity")]);
    let bind = Bind { tls: Some(tls), ..Bind::at("127.0.0.1:0".parse().expect("an address")) };
    (Server::start_at(bind), Fingerprint::of(authority.der()).to_string())
}

#[test]
fn one_command_trusts_a_server_and_logs_in_to_it() {
    let (server, authority) = start();
    let sys = Sys::new();
    let login = ["login", "--server", &server.url, "--email", "a@example.org", "--password-stdin"];
    let refused = sys.run_with_input(&login, "right\n");
    refused.fails(9, "signed by nobody that this computer trusts");
    assert!(refused.err.contains(&format!("sys trust {} --ca", server.url)), "{refused:?}");
    let other = format!("sha256:{}", "0".repeat(64));
    let pinned = |authority: &str| [login.as_slice(), &["--ca", authority]].concat().join(" ");
    let run = |line: String| sys.run_with_input(&line.split(' ').collect::<Vec<_>>(), "right\n");
    run(pinned(&other)).fails(9, "does not show the authority");
    run(pinned("sha256:0")).fails(2, "is no fingerprint");
    assert_eq!(sys.session(), "", "somebody was logged in to a server that nobody vouched for");
    let logged_in = run(pinned(&authority));
    assert_eq!(logged_in.exit, 0, "{logged_in:?}");

    // From here on no word is needed, and the session is bound to a key that lies apart.
    let who = sys.run(&["whoami", "--output", "json"]).json();
    let device = who["device_key"].as_str().expect("bound").to_owned();
    assert!(sys.session().contains(&device));
    let key = sys.config.path().join("device-key.json");
    assert_eq!(fs::metadata(&key).expect("kept").permissions().mode() & 0o777, 0o600);
    let shown = sys.run(&["whoami", "--output", "table"]);
    assert!(shown.out.contains(&format!("bound to {device}")), "{shown:?}");
    let status = sys.run(&["status", "--output", "json"]).json();
    assert_eq!(status["tls"]["version"], json!("TLS 1.3"));
    assert_eq!(status["tls"]["group"], json!("X25519MLKEM768"));
    assert_eq!(status["tls"]["private_authority"], json!(authority));
    assert_eq!(status["tls"]["device_key"], json!(device));
    let status = sys.run(&["status", "--output", "table"]);
    for said in ["also holds against a quantum computer", &authority, &device, "an address, which the network sees"] {
        assert!(status.out.contains(said), "{status:?}");
    }

    // A lost key is a lost session, and a login is what helps.
    fs::remove_file(&key).expect("removed");
    sys.run(&["whoami"]).fails(4, "what to do: log in again with `sys login`");
    assert_eq!(run(login.join(" ")).exit, 0, "the authority is kept");
    assert_eq!(sys.run(&["logout"]).exit, 0);
    assert!(!key.exists());
}

#[test]
fn what_is_kept_of_servers_is_listed_and_forgotten() {
    let (server, authority) = start();
    let sys = Sys::new();
    let trusted = sys.run(&["trust", &server.url, "--ca", &authority]);
    assert_eq!(trusted.exit, 0, "{trusted:?}");
    assert!(trusted.err.contains("is the right one"), "{trusted:?}");
    let list = sys.run(&["trust", "list", "--output", "json"]).json();
    assert_eq!(list["servers"][0]["server"], json!(server.url));
    assert_eq!(list["servers"][0]["authorities"], json!([authority]));
    assert!(sys.run(&["trust", "list", "--output", "table"]).out.contains(&authority));
    assert_eq!(sys.run(&["status", "--server", &server.url]).exit, 0);
    assert!(sys.run(&["trust", "remove", &server.url]).err.contains("is forgotten"));
    assert!(sys.run(&["trust", "remove", &server.url]).err.contains("was not known"));
    assert_eq!(sys.run(&["trust", "list", "--output", "json"]).json(), json!({ "servers": [] }));
    sys.run(&["status", "--server", &server.url]).fails(9, "signed by nobody");
    // An address has no name to hide, so nothing can be reached that must not show one.
    sys.run(&["trust", &server.url, "--ca", &authority, "--ech", "required"]).fails(7, "no ECH key");
    sys.run(&["trust", &server.url, "--ech-config", "AAAA"]).fails(2, "no list of ECH keys");
    sys.run(&["trust", "http://127.0.0.1:1", "--ca", &authority]).fails(2, "shows no certificate");
    sys.run(&["trust"]).fails(2, "no server is known");
}

#[test]
fn a_connection_on_this_machine_in_the_clear_is_said_to_be_one() {
    let server = Server::start();
    let sys = Sys::new();
    let status = sys.run(&["status", "--server", &server.url, "--output", "table"]);
    assert!(status.out.contains("does not leave this computer"), "{status:?}");
    let login = ["login", "--server", &server.url, "--email", "a@example.org", "--password-stdin", "--at", "127.0.0.1"];
    sys.run_with_input(&login, "right\n").fails(2, "shows no certificate");
}
