//! Which certificate is shown to whom, and what happens when it is swapped.

use crate::{
    clients::{Client, get_on, tls_error},
    server::{Authority, INNER, NEVER, PUBLIC, Server},
};
use rustls::{AlertDescription, Error};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use sys_edge::{
    Limits,
    tls::{Identity, Tls, TlsError},
};
use tokio::{io::AsyncReadExt, time::timeout};

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match tls_error(error) {
        Some(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_a_foreign_name_gets_none() {
    let server = Server::start(Limits::default()).await;
    let shown = ["*.example.org", INNER, "127.0.0.1"].map(|name| server.authority.identity(&[name]));
    server.tls.show(shown.to_vec());
    let client = server.client();
    // The client checks that the certificate is good for what it has asked for.
    for name in [INNER, "WWW.example.org", "127.0.0.1"] {
        client.get(server.addr, name, "/").await.unwrap();
    }
    for name in ["example.org", "a.b.example.org", "example.com"] {
        let refused = client.connect(server.addr, name).await.unwrap_err();
        assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName), "{name}: {refused}");
    }
    server.tls.show(Vec::new());
    for name in [INNER, "127.0.0.1"] {
        let refused = client.connect(server.addr, name).await.unwrap_err();
        assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName), "{name}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_ech_keys_are_swapped_under_load_and_no_request_fails() {
    let server = Server::start(Limits::default()).await;
    let swapping = Arc::new(AtomicBool::new(true));
    let served = Arc::new(AtomicUsize::new(0));
    // One connection that is there from the beginning to the end.
    let lasting = server.client().speaking(&["http/1.1"]).connect(server.addr, INNER).await.unwrap();
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, addr) = (server.client(), server.addr);
            let (swapping, served) = (Arc::clone(&swapping), Arc::clone(&served));
            tokio::spawn(async move {
                while swapping.load(Ordering::SeqCst) {
                    let answer = client.get(addr, INNER, "/").await.expect("no request fails");
                    assert!(answer.contains("tls=TLSv1.3"), "{answer}");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..50_u8 {
        let before = served.load(Ordering::SeqCst);
        let identities = [PUBLIC, INNER, "127.0.0.1"].map(|name| server.authority.identity(&[name]));
        server.tls.show(identities.to_vec());
        server.tls.set_ech(&[sys_edge::ech::EchKey::generate(round, PUBLIC).unwrap()]).unwrap();
        timeout(NEVER, async {
            while served.load(Ordering::SeqCst) < before + 4 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("requests go on");
    }
    swapping.store(false, Ordering::SeqCst);
    for task in load {
        task.await.expect("no request failed");
    }
    let answer = get_on(lasting, INNER, "/").await.unwrap();
    assert!(answer.ends_with("number=1"), "{answer}");
}

#[tokio::test]
async fn the_certificate_that_is_shown_is_the_one_that_was_given_last() {
    let server = Server::start(Limits::default()).await;
    let newer = Authority::new();
    server.client().get(server.addr, INNER, "/").await.unwrap();
    server.tls.show(vec![newer.identity(&[INNER])]);
    Client::trusting(newer.roots()).get(server.addr, INNER, "/").await.unwrap();
    let refused = server.client().connect(server.addr, INNER).await.unwrap_err();
    assert!(matches!(tls_error(&refused), Some(Error::InvalidCertificate(_))), "{refused}");
}

#[tokio::test]
async fn a_challenge_is_shown_to_who_validates_as_long_as_it_stands_and_nothing_is_served_there() {
    let server = Server::start(Limits::default()).await;
    let (validated, address) = ("new.example.org", "192.0.2.1");
    let reverse = "1.2.0.192.in-addr.arpa";
    let authority = Client::trusting(server.authority.roots()).speaking(&["acme-tls/1"]);
    let refused = authority.connect(server.addr, INNER).await.unwrap_err();
    assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName), "a name that is served, and no challenge");
    server.tls.answer_alpn_challenge("New.example.org", Some(server.authority.identity(&[validated])));
    // The names stand in the certificate so that this client believes it; an authority looks at what it has asked for alone.
    server.tls.answer_alpn_challenge(address, Some(server.authority.identity(&[address, reverse])));
    for name in [validated, reverse] {
        let mut stream = authority.connect(server.addr, name).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        let mut rest = Vec::new();
        timeout(NEVER, stream.read_to_end(&mut rest)).await.unwrap().expect("it closes in order");
        assert!(rest.is_empty());
    }
    // Who comes for anything else is not shown the challenge.
    for alpn in [&["h2"][..], &["http/1.1"], &["acme-tls/1", "h2"], &[]] {
        let refused = server.client().speaking(alpn).connect(server.addr, validated).await.unwrap_err();
        assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName), "{alpn:?}");
    }
    server.tls.answer_alpn_challenge(validated, None);
    let refused = authority.connect(server.addr, validated).await.unwrap_err();
    assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName));
    assert_eq!(server.requests(), 0);
    server.serves().await;
}

#[tokio::test]
async fn without_an_identity_every_handshake_is_refused() {
    let server = Server::start(Limits::default()).await;
    server.tls.show(Vec::new());
    let refused = server.client().connect(server.addr, INNER).await.unwrap_err();
    assert_eq!(alert(&refused), Some(AlertDescription::UnrecognisedName));
}

#[test]
fn a_chain_and_a_key_that_do_not_belong_together_are_refused_with_what_to_do() {
    let authority = Authority::new();
    let (chain, key) = authority.pem(&["*.Example.org", "192.0.2.1", "2001:db8::1"]);
    let (other_chain, other_key) = authority.pem(&["example.org"]);
    let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(identity.names(), ["*.example.org", "192.0.2.1", "2001:db8::1"]);
    assert!(identity.not_after_unix_s() > 4_000_000_000, "the year 4096 of rcgen: {}", identity.not_after_unix_s());
    assert!(!format!("{identity:?}").contains("PRIVATE"));
    let nameless = authority.pem(&[]);
    let refused = |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(refused(&chain, &other_key), TlsError::KeyDoesNotFit(_)));
    assert!(matches!(refused(&[other_chain.as_str(), &chain].concat(), &key), TlsError::KeyDoesNotFit(_)));
    assert!(matches!(refused("", &key), TlsError::NoCertificate));
    assert!(matches!(refused(&key, &key), TlsError::NoCertificate));
    assert!(matches!(refused(&chain, ""), TlsError::Key(_)));
    assert!(matches!(refused(&chain, &chain), TlsError::Key(_)));
    assert!(matches!(refused(&chain.replace("MI", "XX"), &key), TlsError::Chain(_)));
    assert!(matches!(refused(&nameless.0, &nameless.1), TlsError::NoName));
    assert!(matches!(refused(&chain.repeat(11), &key), TlsError::LongChain { most: 10 }));
    assert!(Tls::new().is_ok());
}
