//! A real certificate authority that asks our own zone: Pebble, with our server as its DNS.

use super::{Bed, Status, drives_served, settings};
use crate::{Settings, domain::Drives, vault};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};
use sys_acme::ChallengeKind;
use sys_core::clock::Clock;
use sys_store::engine::{AnyEngine, memory::MemoryEngine};
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
    management: u16,
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
        Self { _child: child, _directory: directory, root_pem: cert.pem(), port, management }
    }
}

impl Pebble {
    fn settings(&self) -> Settings {
        let acme = sys_acme::Settings {
            directory: format!("https://localhost:{}/dir", self.port),
            email: Some("admin@example.org".to_owned()),
            root_pem: Some(self.root_pem.clone()),
            kinds: vec![ChallengeKind::Dns01],
            ..sys_acme::Settings::lets_encrypt(Vec::new())
        };
        Settings { local_ca: false, acme: Some(acme), ..settings() }
    }

    /// Whether it holds a certificate for good or void.
    async fn status(&self, serial: &str) -> String {
        let url = format!("https://127.0.0.1:{}/cert-status-by-serial/{serial}", self.management);
        let said = Command::new("curl").args(["--silent", "--insecure", &url]).output().await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        said["Status"].as_str().unwrap().to_owned()
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
#[ignore = "needs pebble: cargo xtask test runs it"]
async fn a_wildcard_is_proven_in_our_own_zone_and_kept_over_a_restart() {
    // An authority looks at the clock.
    let bed = Bed::with(Clock::System, Arc::default(), |_| AnyEngine::Memory(MemoryEngine::new())).await;
    let root = bed.superadmin().await;
    let (drives, dns) = drives_served(&bed).await;
    let pebble = Pebble::start(dns).await;
    let settings = pebble.settings();
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

/// The serial number of the certificate that is kept, and whether one waits to be declared void.
async fn kept(bed: &Bed) -> Option<(String, bool)> {
    let items = bed.monitor.vault().load(vault::ACME).await.unwrap();
    let of = |kind: &str| items.iter().find(|item| item.name.starts_with(kind)).map(|item| item.value.clone());
    let chain = of("certificate")?;
    let chain = String::from_utf8_lossy(&chain);
    let chain = &chain[chain.find("-----BEGIN CERTIFICATE")?..];
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).unwrap();
    let serial = pem.parse_x509().unwrap().raw_serial().iter().map(|octet| format!("{octet:02x}")).collect();
    let attempts: serde_json::Value = serde_json::from_slice(&of("attempts")?).unwrap();
    Some((serial, attempts["state"]["revocation"].is_object()))
}

/// A process that lives until it is cut off: everything of it ends between two steps, and nothing is cleared up.
async fn live_for(bed: &Bed, settings: Settings, drives: Drives, life: Duration) {
    let (vault, clock, entropy) = (bed.monitor.vault().clone(), bed.clock.clone(), bed.entropy.clone());
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    process.spawn(async move {
        let domain = crate::Domain::start(settings, vault, drives, clock, entropy).await.unwrap();
        std::future::pending::<()>().await;
        drop(domain);
    });
    tokio::time::sleep(life).await;
    // Whatever is at work comes to its next halt, and no further.
    tokio::task::spawn_blocking(move || process.shutdown_timeout(PATIENCE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs pebble and curl: cargo xtask test runs it"]
async fn a_revocation_is_carried_out_by_servers_that_are_cut_off_anywhere_in_it() {
    // An order that was cut off is made anew after two minutes at most, which are skipped; an authority bears an hour.
    let now = Clock::System.now().unix_s;
    let hand = Arc::new(AtomicI64::new(now - 1_500));
    let memory = |_: &Path| AnyEngine::Memory(MemoryEngine::new());
    let bed = Bed::with(Clock::Manual(hand.clone()), hand, memory).await;
    let (drives, dns) = drives_served(&bed).await;
    let pebble = Pebble::start(dns).await;
    let process = || (pebble.settings(), Drives { answers: drives.answers.clone(), ..bed.drives() });
    let settled = async |is_so: &dyn Fn(&str, bool) -> bool| {
        let (settings, drives) = process();
        let domain = bed.started(settings, drives).await;
        let begun = tokio::time::Instant::now();
        let serial = loop {
            match kept(&bed).await {
                Some((serial, revoking)) if is_so(&serial, revoking) => break serial,
                found => assert!(begun.elapsed() < PATIENCE, "{found:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        domain.stop().await;
        serial
    };
    let mut serial = settled(&|_, _| true).await;
    for life_ms in [0, 5, 10, 20, 40, 80, 120, 160, 200, 300, 400, 600] {
        let wish = vault::put(vault::WISH, "revoke example.org", vec![8, 1].into());
        bed.monitor.vault().change("test", vec![wish]).await.unwrap();
        let (settings, drives) = process();
        live_for(&bed, settings, drives, Duration::from_millis(life_ms)).await;
        bed.wait_s(120);
        let next = settled(&|now, revoking| now != serial && !revoking).await;
        assert_eq!(pebble.status(&serial).await, "Revoked", "after {life_ms} ms");
        assert_eq!(pebble.status(&next).await, "Valid", "after {life_ms} ms");
        assert!(bed.monitor.vault().load(vault::WISH).await.unwrap().is_empty());
        serial = next;
    }
}
