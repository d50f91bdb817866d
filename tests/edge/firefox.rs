//! Firefox, headless, with a home and a profile of its own, driven through Marionette, the protocol that it brings.

use crate::{
    page,
    stage::{self, Running, Stage},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long its start may take, and each command then.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

struct Firefox {
    home: TempDir,
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Firefox {
    /// One that believes the authorities of these servers.
    async fn new(trusted: &[&Running]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for (number, server) in trusted.iter().enumerate() {
            stage::trust(&home.path().join("profile"), server, &format!("authority {number}")).await;
        }
        Self { home }
    }

    /// What a page shows. With a resolver all names come from there and from nowhere else; without one each is this machine's.
    async fn load(&self, url: &str, resolver: Option<&str>) -> String {
        let (home, url, resolver) = (self.home.path().to_owned(), url.to_owned(), resolver.map(str::to_owned));
        tokio::task::spawn_blocking(move || load(&home, &url, resolver.as_deref())).await.unwrap()
    }
}

fn load(home: &Path, url: &str, resolver: Option<&str>) -> String {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let profile = home.join("profile");
    fs::write(profile.join("user.js"), preferences(port, resolver)).unwrap();
    let mut firefox = Command::new("firefox-esr");
    firefox.args(["--headless", "--no-remote", "--marionette", "--profile"]).arg(&profile).env("HOME", home);
    firefox.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _firefox = Process(firefox.spawn().expect("firefox-esr is there"));
    let mut marionette = Marionette::connect(port);
    marionette.command("WebDriver:NewSession", json!({}));
    marionette.command("WebDriver:Navigate", json!({"url": url}));
    let script = json!({"script": "return document.body.innerText", "args": []});
    let page = marionette.command("WebDriver:ExecuteScript", script);
    let page = page["value"].as_str().expect("text").to_owned();
    assert!(page::says_hidden(&page).is_some(), "another page: {page}");
    page
}

/// Names by this resolver and by nothing else (`trr.mode` 3), at the address of this machine, on ports as RFC 9460 has them, or without
/// any (5); and no look at the world.
fn preferences(marionette: u16, resolver: Option<&str>) -> String {
    let names = match resolver {
        Some(resolver) => vec![
            ("network.trr.mode", json!(3)),
            ("network.trr.uri", json!(resolver)),
            ("network.trr.custom_uri", json!(resolver)),
            ("network.trr.bootstrapAddr", json!("127.0.0.1")),
            ("network.trr.confirmationNS", json!("skip")),
            ("network.trr.allow-rfc1918", json!(true)),
        ],
        None => vec![("network.trr.mode", json!(5)), ("network.dns.forceResolve", json!("127.0.0.1"))],
    };
    let settings = [
        ("marionette.port", json!(marionette)),
        ("network.dns.echconfig.enabled", json!(true)),
        ("network.dns.native_https_query", json!(false)),
        ("network.dns.port_prefixed_qname_https_rr", json!(true)),
        ("network.http.http3.enable", json!(false)),
        ("network.captive-portal-service.enabled", json!(false)),
        ("network.connectivity-service.enabled", json!(false)),
        ("app.update.enabled", json!(false)),
        ("datareporting.policy.dataSubmissionEnabled", json!(false)),
        ("browser.shell.checkDefaultBrowser", json!(false)),
        ("browser.startup.page", json!(0)),
    ];
    names.iter().chain(&settings).map(|(name, value)| format!("user_pref({}, {value});\n", json!(name))).collect()
}

/// The protocol: a length, a colon and JSON: `[0, id, command, parameters]`, and `[1, id, error, result]` back.
struct Marionette {
    stream: BufReader<TcpStream>,
    id: u32,
}

impl Marionette {
    fn connect(port: u16) -> Self {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut marionette = Self { stream: BufReader::new(stream), id: 0 };
                // It says first who it is.
                marionette.read();
                return marionette;
            }
            assert!(begun.elapsed() < PATIENCE, "firefox did not start");
            thread::sleep(PAUSE);
        }
    }

    fn command(&mut self, name: &str, parameters: Value) -> Value {
        self.id += 1;
        let message = json!([0, self.id, name, parameters]).to_string();
        write!(self.stream.get_mut(), "{}:{message}", message.len()).unwrap();
        let answer = self.read();
        assert_eq!((&answer[0], &answer[1]), (&json!(1), &json!(self.id)), "{answer}");
        assert!(answer[2].is_null(), "{name}: {}", answer[2]);
        answer[3].clone()
    }

    fn read(&mut self) -> Value {
        let mut length = Vec::new();
        self.stream.read_until(b':', &mut length).unwrap();
        let length: usize = String::from_utf8(length).unwrap().trim_end_matches(':').parse().unwrap();
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).unwrap();
        serde_json::from_slice(&message).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs firefox-esr and certutil: cargo xtask test runs it"]
async fn firefox_hides_the_name() {
    let stage = Stage::set().await;
    let page = Firefox::new(&[&stage.server]).await.load(&stage.url(), Some(&stage.resolver())).await;
    stage.assert_hidden(&page);
}

/// It asks nobody for keys then: neither the zone nor, with `native_https_query` off, the system.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs firefox-esr and certutil: cargo xtask test runs it"]
async fn firefox_without_secure_dns_shows_the_name_and_the_page_says_so() {
    let stage = Stage::set().await;
    let page = Firefox::new(&[&stage.server]).await.load(&stage.url(), None).await;
    stage.assert_seen(&page);
}

/// As with Chromium: the zone that is asked is that of another server with the same names.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs firefox-esr and certutil: cargo xtask test runs it"]
async fn firefox_with_a_stale_key_takes_the_new_one_and_hides_the_name() {
    let stage = Stage::set().await;
    let stale = stage::start(stage.port).await;
    assert_ne!(stage.server.keys, stale.keys);
    let firefox = Firefox::new(&[&stage.server, &stale]).await;
    let page = firefox.load(&stage.url(), Some(&stage::resolver(stale.addr.port()))).await;
    stage.assert_hidden(&page);
}
