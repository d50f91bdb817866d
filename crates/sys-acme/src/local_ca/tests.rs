//! What a client that trusts the local CA takes of it, and what not.

use super::*;
use crate::{
    CertificateState,
    fake::{DAY, FakeKept, START, World, pass},
    settings::Settings,
    source::Source,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{ServerName, UnixTime},
};
use std::sync::Arc;

fn wanted(names: &[&str]) -> Wanted {
    Wanted::parse(names).unwrap()
}

/// Whether a client who trusts this CA, and nothing else, takes this chain for this name.
fn is_trusted(ca: &LocalCa, chain_pem: &str, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs((START + 60).unsigned_abs()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).is_ok()
}

#[tokio::test]
async fn it_is_made_once_and_clients_who_trust_it_take_its_certificates() {
    let kept = FakeKept::default();
    let names = wanted(&[
        "org.example.org",
        "*.org.example.org",
        "localhost",
        "127.0.0.1",
        "192.168.7.7",
        "::1",
        "203.0.113.5",
    ]);
    let ca = LocalCa::open(&kept, std::slice::from_ref(&names), START).await.unwrap();
    let again = LocalCa::open(&kept, std::slice::from_ref(&names), START + 300 * DAY).await.unwrap();
    assert_eq!((ca.sha256(), ca.certificate_pem()), (again.sha256(), again.certificate_pem()));
    let issued = again.issue(&names, START).unwrap_or_else(|failure| panic!("{failure}"));
    for name in
        ["org.example.org", "www.org.example.org", "localhost", "127.0.0.1", "192.168.7.7", "::1", "203.0.113.5"]
    {
        assert!(is_trusted(&ca, &issued.certificate.chain_pem, name), "{name}");
    }
    assert!(!is_trusted(&ca, &issued.certificate.chain_pem, "example.org"));
    assert_eq!(issued.held.not_after - START, LEAF_LIFETIME_S);
}

#[tokio::test]
async fn it_cannot_speak_for_others() {
    let kept = FakeKept::default();
    let own = wanted(&["org.example.org"]);
    let ca = LocalCa::open(&kept, std::slice::from_ref(&own), START).await.unwrap();
    for other in ["example.org", "forg.example.org", "203.0.113.5", "2001:db8::1", "172.32.0.1"] {
        let other = wanted(&[other]);
        assert!(ca.issue(&other, START).is_err());
        let refused = LocalCa::open(&kept, std::slice::from_ref(&other), START).await;
        assert!(matches!(refused, Err(LocalCaError::NotPermitted { .. })));
    }
    // Whoever has its key signs what he likes; clients refuse it all the same.
    let stolen = LocalCa {
        permitted: Permitted { names: ["com".to_owned()].into(), addresses: ["203.0.113.5".parse().unwrap()].into() },
        ..ca
    };
    for name in ["example.com", "203.0.113.5"] {
        let issued = stolen.issue(&wanted(&[name]), START).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(!is_trusted(&stolen, &issued.certificate.chain_pem, name), "{name}");
    }
}

#[tokio::test]
async fn private_is_what_nobody_owns() {
    for (address, expect) in [
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("172.15.255.255", false),
        ("172.16.0.0", true),
        ("172.31.255.255", true),
        ("100.64.0.1", true),
        ("100.128.0.1", false),
        ("fd00::1", true),
        ("fe80::1", true),
        ("2001:db8::1", false),
        ("::1", true),
        ("::2", false),
    ] {
        assert_eq!(is_private(address.parse().unwrap()), expect, "{address}");
    }
}

#[tokio::test]
async fn a_damaged_one_is_not_replaced_by_itself() {
    let kept = FakeKept::default();
    let names = [wanted(&["localhost"])];
    let ca = LocalCa::open(&kept, &names, START).await.unwrap();
    let good = kept.values.lock().unwrap().get(PLACE).cloned().unwrap();
    kept.values.lock().unwrap().insert(PLACE.to_owned(), b"{}".to_vec());
    assert!(LocalCa::open(&kept, &names, START).await.is_err());
    let text = String::from_utf8(good).unwrap().replace("\"format\":1", "\"format\":2");
    kept.values.lock().unwrap().insert(PLACE.to_owned(), text.into_bytes());
    assert_eq!(LocalCa::open(&kept, &names, START).await.unwrap_err(), LocalCaError::Damaged);
    let other = LocalCa::remake(&kept, &names, START).await.unwrap();
    assert_ne!(ca.sha256(), other.sha256());
    assert!(!format!("{other:?}").contains("PRIVATE"));
}

#[tokio::test(start_paused = true)]
async fn its_certificates_are_renewed_like_others_and_another_ca_replaces_them() {
    let world = World::new();
    let settings = || World::settings(&[&["localhost", "127.0.0.1"]]);
    let open = async |settings: &Settings| LocalCa::open(&*world.kept, &settings.wanted, START).await.unwrap();
    let keeper = world.run(Source::Local(open(&settings()).await), settings()).await.unwrap();
    pass(365 * DAY).await;
    let count = world.told().len();
    assert!((6..=8).contains(&count), "{count} in a year");
    assert!(matches!(keeper.status()[0].state, CertificateState::Good { .. }));
    assert!(keeper.revoke("localhost").await.is_err());
    keeper.stop().await;

    let other = LocalCa::remake(&*world.kept, &settings().wanted, START + 365 * DAY).await.unwrap();
    let _keeper = world.run(Source::Local(other), settings()).await.unwrap();
    pass(60).await;
    assert_eq!(world.told().len(), count + 2, "the old one at the start, and one of the new CA");
}

#[tokio::test]
async fn when_it_ends_it_says_so() {
    let kept = FakeKept::default();
    let names = wanted(&["localhost"]);
    let ca = LocalCa::open(&kept, std::slice::from_ref(&names), START).await.unwrap();
    let near = ca.issue(&names, START + CA_LIFETIME_S - 30 * DAY).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(near.held.not_after, START + CA_LIFETIME_S, "no certificate outlives its CA");
    let failure = ca.issue(&names, START + CA_LIFETIME_S).err().unwrap();
    assert!(failure.to_string().contains("it ends within a day") && failure.remedy().contains("Make a new local CA"));
}
