//! What nobody on the way sees: the name of the server.

use crate::server::{Authority, NAME, PUBLIC_NAME, Server, endpoint, here, pinned};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use sys_client::{CallError, Client, ClientError, Ech, TlsError, Told, auth, ech::ConfigList};
use sys_edge::{
    ech::{EchKey, config_list},
    tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn key(id: u8) -> EchKey {
    EchKey::generate(id, PUBLIC_NAME).expect("a key")
}

fn list(keys: &[&EchKey]) -> ConfigList {
    ConfigList::new(config_list(keys)).expect("a list")
}

fn ech(client: &Client) -> Ech {
    client.protection().expect("TLS").ech
}

fn why(result: Result<Client, ClientError>) -> TlsError {
    match result {
        Err(ClientError::Call(CallError::Tls { source, .. })) => *source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_name_is_hidden_from_the_second_connection_on() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let first = key(1);
    server.show_ech(std::slice::from_ref(&first));
    let client = server.trust(pinned(&authority)).await.expect("connected");
    assert_eq!(ech(&client), Ech::NoKey);
    assert_eq!(server.last("dns-query").ech, tls::Ech::Refused, "no key is known, and it looks as if one were");
    let asked = server.questions().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(asked, [format!("_{}._https.{NAME}.", server.addr.port())]);
    let client = server.connect().await.expect("connected");
    assert_eq!(ech(&client), Ech::Accepted);
    client.who_am_i().await.expect("served");
    assert_eq!(server.last(auth::WHO_AM_I).ech, tls::Ech::Accepted);
    assert_eq!(server.questions().len(), 1, "keys that are fresh are asked for again");
}

#[tokio::test]
async fn a_stale_key_is_replaced_in_the_handshake_and_kept() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let (old, new) = (key(1), key(2));
    server.show_ech(std::slice::from_ref(&old));
    server.log_in(pinned(&authority)).await;
    server.tls.set_ech(std::slice::from_ref(&new)).expect("keys");
    let client = server.connect().await.expect("connected");
    assert_eq!(ech(&client), Ech::Accepted);
    client.who_am_i().await.expect("served");
    let seen = server.last(auth::WHO_AM_I);
    assert_eq!(seen.ech, tls::Ech::Accepted);
    assert_eq!(seen.certificate, client.session().await.expect("readable").expect("logged in").device);
    let kept = server.servers().of(&server.endpoint).expect("kept").ech.configs;
    assert_eq!(kept, Some(list(&[&new])));
}

#[tokio::test]
async fn a_key_that_is_given_hides_the_name_from_the_first_connection_on() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let key = key(7);
    server.show_ech(std::slice::from_ref(&key));
    let told = Told { ech_configs: Some(list(&[&key])), ech_required: Some(true), ..pinned(&authority) };
    assert_eq!(ech(&server.trust(told).await.expect("connected")), Ech::Accepted);
    assert!(server.seen().iter().all(|seen| seen.ech == tls::Ech::Accepted), "{:?}", server.seen());
}

#[tokio::test]
async fn a_server_without_dns_takes_no_key_away_and_is_not_asked_each_time() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let key = key(7);
    server.show_ech(std::slice::from_ref(&key));
    server.fall_mute();
    server.trust(Told { ech_configs: Some(list(&[&key])), ..pinned(&authority) }).await.expect("connected");
    assert_eq!(ech(&server.connect().await.expect("connected")), Ech::Accepted);
    assert_eq!(server.seen().iter().filter(|seen| seen.path == "dns-query").count(), 1);
}

#[tokio::test]
async fn where_it_is_required_nothing_connects_without() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let required = Told { ech_required: Some(true), ..pinned(&authority) };
    assert!(matches!(why(server.trust(required.clone()).await), TlsError::EchUnknown));
    // A server that takes no key at all. Without a word, that is believed of it, since it has a certificate for the public name.
    let given = Told { ech_configs: Some(list(&[&key(1)])), ..required };
    assert!(matches!(why(server.trust(given.clone()).await), TlsError::EchRefused));
    assert_eq!(server.seen(), []);
    let client = server.trust(Told { ech_required: Some(false), ..given }).await.expect("connected");
    assert_eq!(ech(&client), Ech::NoKey);
    // A zone that lost its keys does not switch off what is required.
    let first = key(1);
    server.show_ech(std::slice::from_ref(&first));
    let told = Told { ech_configs: Some(list(&[&first])), ech_required: Some(true), ..Told::default() };
    server.trust(told).await.expect("connected");
    server.publish(None);
    server.servers().change(&server.endpoint, |known| known.ech.asked_unix_s = 0).await.expect("changed");
    let asked = server.questions().len();
    server.connect().await.expect("connected");
    assert_eq!(server.questions().len(), asked + 1);
    assert_eq!(ech(&server.connect().await.expect("connected")), Ech::Accepted);
}

#[tokio::test]
async fn an_impostor_cannot_make_the_client_show_the_name() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = Server::of(&ours).await;
    let key = key(1);
    server.show_ech(std::slice::from_ref(&key));
    server.trust(pinned(&ours)).await.expect("trusted");
    let impostor = Server::of(&other).await;
    let wire = Wire::to(impostor.addr).await;
    let named = endpoint(NAME, wire.addr);
    let servers = server.servers();
    let known = servers.of(&server.endpoint).expect("kept");
    let told = here(Told { ech_configs: known.ech.configs, ..pinned(&ours) });
    let error = why(Client::connect_to_trust(&named, server.store(), &told).await);
    assert!(matches!(error, TlsError::PinMismatch(_)), "{error}");
    assert!(!wire.saw(NAME), "the name went in the clear after a rejection that nobody vouched for");
    assert!(wire.saw(PUBLIC_NAME), "nothing was seen at all");
}

#[tokio::test]
async fn the_name_does_not_cross_the_wire() {
    let authority = Authority::new("ours");
    let server = Server::of(&authority).await;
    let key = key(1);
    server.show_ech(std::slice::from_ref(&key));
    let wire = Wire::to(server.addr).await;
    let through = endpoint(NAME, wire.addr);
    let told = here(Told { ech_configs: Some(list(&[&key])), ..pinned(&authority) });
    let client = Client::connect_to_trust(&through, server.store(), &told).await.expect("connected");
    client.call_bytes("a.B/C", bytes::Bytes::new()).await.expect("served");
    assert!(wire.saw(PUBLIC_NAME) && !wire.saw(NAME));
    // The control: without a key it does.
    let shown = Wire::to(server.addr).await;
    let told = here(pinned(&authority));
    Client::connect_to_trust(&endpoint(NAME, shown.addr), server.store(), &told).await.expect("connected");
    assert!(shown.saw(NAME) && !shown.saw(PUBLIC_NAME));
}

/// A wire to a server, and somebody who listens to what the client sends.
struct Wire {
    addr: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addr = listener.local_addr().expect("its address");
        let sent = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.expect("the server");
                tokio::spawn(pass(client, server, Arc::clone(&listening)));
            }
        });
        Self { addr, sent }
    }

    fn saw(&self, text: &str) -> bool {
        self.sent.lock().expect("no poison").windows(text.len()).any(|window| window == text.as_bytes())
    }
}

async fn pass(client: TcpStream, server: TcpStream, sent: Arc<Mutex<Vec<u8>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        let bytes = buffer.get(..read).expect("read");
        sent.lock().expect("no poison").extend_from_slice(bytes);
        if to_server.write_all(bytes).await.is_err() {
            break;
        }
    }
    answers.abort();
}
