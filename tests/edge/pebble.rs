//! Pebble, the test authority of Let's Encrypt, which asks a name server that it is told of.

use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};
use sys_tests::eventually;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Pebble, which ends with the test.
pub(crate) struct Pebble {
    process: Child,
    dir: TempDir,
    pub(crate) directory: String,
    /// The certificate of its directory, which vouches for itself.
    pub(crate) own_pem: String,
    management: u16,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pebble {
    pub(crate) async fn start(names: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let [certificate, key, settings] = ["own.pem", "own.key", "settings.json"].map(|name| dir.path().join(name));
        fs::write(&certificate, own.cert.pem()).unwrap();
        fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let [port, management, plain, tls] = free_ports();
        let about = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate, "privateKey": key, "httpPort": plain, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(&settings, about.to_string()).unwrap();
        let mut pebble = Command::new("pebble");
        pebble.args(["-strict", "-dnsserver", &names.to_string(), "-config"]).arg(settings);
        // Each proof is verified, each time; and nonces are refused now and then, as on bad days.
        pebble.env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "5");
        pebble.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = pebble.spawn().expect("pebble is there");
        eventually("Pebble", async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok().map(drop)).await;
        let directory = format!("https://127.0.0.1:{port}/dir");
        Self { process, dir, directory, own_pem: own.cert.pem(), management }
    }

    /// Whether it holds the certificate with this serial number for good or void.
    pub(crate) fn status(&self, serial_hex: &str) -> String {
        let url = format!("https://127.0.0.1:{}/cert-status-by-serial/{serial_hex}", self.management);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--cacert"]).arg(self.dir.path().join("own.pem")).arg(url);
        let said = curl.output().expect("curl is there");
        assert!(said.status.success(), "Pebble knows no certificate {serial_hex}");
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        said["Status"].as_str().expect("a status").to_owned()
    }
}

/// Ports that were free a moment ago, no two the same.
pub(crate) fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let sockets = [(); COUNT].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
