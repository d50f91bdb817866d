//! Encrypted client hellos: sealed for a key of ours, a stale one, none (GREASE), and not at all.

use crate::{
    clients::{Client, get_on, tls_error},
    server::{INNER, NEVER, PUBLIC, Server},
};
use rustls::{
    Error, PeerIncompatible,
    client::{EchGreaseConfig, EchMode, EchStatus},
    crypto::{aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128, hpke::Hpke},
    internal::msgs::codec::Codec,
};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use sys_edge::{
    Limits,
    ech::{EchKey, config_list, parse_list},
    tls::{Tls, TlsError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// The list that the server sent to who sealed for a key that it does not have.
fn retry_configs(error: &io::Error) -> Vec<u8> {
    let Some(Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(Some(configs)))) =
        tls_error(error)
    else {
        panic!("{error}");
    };
    let configs: Vec<u8> = configs.iter().flat_map(Codec::get_encoding).collect();
    let length = u16::try_from(configs.len()).expect("a list");
    [&length.to_be_bytes()[..], &configs].concat()
}

async fn refused(client: &Client, server: &Server) -> Vec<u8> {
    retry_configs(&client.connect(server.addr, INNER).await.expect_err("the key is stale"))
}

#[tokio::test]
async fn a_client_hello_that_is_sealed_for_our_key_is_opened() {
    let server = Server::start(Limits::default()).await;
    let key = EchKey::generate(1, PUBLIC).unwrap();
    server.tls.set_ech(std::slice::from_ref(&key)).unwrap();
    let client = server.client().hiding(&config_list(&[&key]));
    for alpn in [&["h2"][..], &["http/1.1"]] {
        let stream = client.clone().speaking(alpn).connect(server.addr, INNER).await.unwrap();
        assert!(matches!(stream.get_ref().1.ech_status(), EchStatus::Accepted));
        let answer = get_on(stream, INNER, "/").await.unwrap();
        assert!(answer.contains("group=X25519MLKEM768 ech=Accepted "), "{answer}");
    }
    // With a round trip more, in which all is sealed again.
    let [hybrid, x25519, _] = crate::clients::GROUPS;
    let answer = client.with_groups(&[x25519, hybrid]).get(server.addr, INNER, "/").await.unwrap();
    assert!(answer.contains("group=X25519MLKEM768 ech=Accepted "), "{answer}");
}

#[tokio::test]
async fn who_has_a_stale_key_is_given_the_new_one_which_then_works() {
    let server = Server::start(Limits::default()).await;
    let [stale, old, new] = [1, 2, 1].map(|id| EchKey::generate(id, PUBLIC).unwrap());
    let with = |key: &EchKey| server.client().hiding(&config_list(&[key]));
    server.tls.set_ech(&[old]).unwrap();
    let list = refused(&with(&stale), &server).await;
    let first = parse_list(&list).unwrap();
    assert_eq!((first.len(), first[0].config_id), (1, 2));
    let client = server.client().hiding(&list);
    assert!(client.get(server.addr, INNER, "/").await.unwrap().contains("ech=Accepted "));
    // The new one comes beside the old one, which clients still have from the DNS.
    let new_client = with(&new);
    let old = EchKey::from_parts(first[0].to_bytes(), Default::default());
    assert!(old.is_err(), "no key without its private half");
    let old = EchKey::generate(3, PUBLIC).unwrap();
    let old_client = with(&old);
    server.tls.set_ech(&[new, old]).unwrap();
    for client in [&new_client, &old_client] {
        assert!(client.get(server.addr, INNER, "/").await.unwrap().contains("ech=Accepted "));
    }
    let list = refused(&with(&stale), &server).await;
    assert_eq!(parse_list(&list).unwrap().len(), 1, "the first alone is told");
    assert!(server.client().hiding(&list).get(server.addr, INNER, "/").await.unwrap().contains("ech=Accepted "));
    // And goes when it is forgotten.
    server.tls.set_ech(&[EchKey::generate(9, PUBLIC).unwrap()]).unwrap();
    let list = refused(&old_client, &server).await;
    assert_eq!(parse_list(&list).unwrap()[0].config_id, 9);
}

#[tokio::test]
async fn who_pretends_is_served_as_who_offers_nothing() {
    let server = Server::start(Limits::default()).await;
    let suite = DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (placeholder, _) = suite.generate_key_pair().unwrap();
    let mut grease = server.client();
    grease.ech = Some(EchMode::Grease(EchGreaseConfig::new(suite, placeholder)));
    for has_keys in [false, true] {
        if has_keys {
            server.tls.set_ech(&[EchKey::generate(1, PUBLIC).unwrap()]).unwrap();
        }
        let answer = grease.get(server.addr, INNER, "/").await.unwrap();
        assert!(answer.contains("ech=Refused "), "{answer}");
        let answer = server.client().get(server.addr, INNER, "/").await.unwrap();
        assert!(answer.contains("ech=NotOffered "), "{answer}");
    }
}

/// A socket whose bytes in both directions are kept.
struct Tapped(TcpStream, Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        self.1.lock().expect("no panic").extend(&buffer.filled()[before..]);
        read
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.1.lock().expect("no panic").extend(&bytes[..written]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tokio::test]
async fn the_name_that_is_hidden_does_not_cross_the_wire() {
    let server = Server::start(Limits::default()).await;
    let [key, stale] = [1, 2].map(|id| EchKey::generate(id, PUBLIC).unwrap());
    server.tls.set_ech(std::slice::from_ref(&key)).unwrap();
    let crosses = async |client: Client, name: &str| {
        let bytes = Arc::default();
        let stream = Tapped(TcpStream::connect(server.addr).await.unwrap(), Arc::clone(&bytes));
        let _ = timeout(NEVER, client.connect_on(stream, INNER)).await.unwrap();
        let bytes = bytes.lock().unwrap();
        bytes.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name.as_bytes()))
    };
    for key in [&key, &stale] {
        let client = server.client().hiding(&config_list(&[key]));
        assert!(!crosses(client.clone(), INNER).await);
        assert!(crosses(client, PUBLIC).await, "the public name stands in its place");
    }
    // The control: it would be seen.
    assert!(crosses(server.client(), INNER).await);
}

#[test]
fn keys_that_could_not_be_told_apart_or_are_too_many_or_none_are_refused() {
    let tls = Tls::new().unwrap();
    let keys = |ids: std::ops::Range<u8>| ids.map(|id| EchKey::generate(id, PUBLIC).unwrap()).collect::<Vec<_>>();
    assert!(matches!(tls.set_ech(&[]), Err(TlsError::NoEchKey)));
    assert!(matches!(tls.set_ech(&keys(0..17)), Err(TlsError::TooManyEchKeys { most: 16 })));
    let twice: Vec<_> = keys(3..4).into_iter().chain(keys(3..4)).collect();
    assert!(matches!(tls.set_ech(&twice), Err(TlsError::SameEchId { config_id: 3 })));
    tls.set_ech(&keys(0..16)).unwrap();
}
