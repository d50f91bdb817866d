//! A real certificate authority that asks our own zone: Pebble, with our server as its DNS.

use super::{Bed, Status, drives_served, settings};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};
use sys_acme::ChallengeKind;
use sys_core::clock::Clock;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

/// Longer than anything here takes, also on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pebble, killed when it is dropped.
struct Pebble {
    _child: Child,
    _directory: tempfile::TempDir,
    root_pem: String,
    port: u16,
}

impl Pebble {
    async fn start(dns: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let (chain, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&chain, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        let (port, management) = (free_port().await, free_port().await);
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": chain, "privateKey": key, "httpPort": free_port().await, "tlsPort": free_port().await,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let path = directory.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let child = Command::new("pebble")
            .args(["-strict", "-dnsserver", &dns.to_string(), "-config"])
            .arg(path)
            // Each proof is verified, each time.
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("pebble listens");
        Self { _child: child, _directory: directory, root_pem: cert.pem(), port }
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_wildcard_is_proven_in_our_own_zone_and_kept_over_a_restart() {
    // An authority looks at the clock.
    let bed = Bed::with(Clock::System, Arc::default()).await;
    let root = bed.superadmin().await;
    let (drives, dns) = drives_served(&bed).await;
    let pebble = Pebble::start(dns).await;
    let mut settings = settings();
    settings.local_ca = false;
    settings.acme = Some(sys_acme::Settings {
        directory: format!("https://localhost:{}/dir", pebble.port),
        email: Some("admin@example.org".to_owned()),
        root_pem: Some(pebble.root_pem.clone()),
        kinds: vec![ChallengeKind::Dns01],
        ..sys_acme::Settings::lets_encrypt(Vec::new())
    });
    let domain = bed.domain_with(settings.clone(), drives).await;
    let green = |status: &Status| status["state"] == "GREEN";
    let status = bed.tls_status(&root, PATIENCE, green).await;
    assert_eq!(status["certificates"][0]["names"], json!(["example.org", "*.example.org"]), "{status}");
    assert_eq!(status["certificates"][0]["source"], "acme");
    bed.call(Some(root.as_str()), "sys.domain.v1.TlsService/Revoke", json!({"name": "example.org"})).await.unwrap();
    for _ in 0..2_000 {
        if bed.monitor.vault().load(crate::vault::WISH).await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another takes its place; nothing is told to have failed.
    let status = bed.tls_status(&root, PATIENCE, green).await;
    assert_eq!(status["certificates"].as_array().unwrap().len(), 1, "{status}");
    domain.stop().await;
    // Nobody to ask any more: what is kept is shown.
    drop(pebble);
    let bed_drives = bed.drives();
    let vault = bed.monitor.vault().clone();
    let again = crate::Domain::start(settings, vault, bed_drives, bed.clock.clone(), bed.entropy.clone());
    again.await.unwrap().stop().await;
}
