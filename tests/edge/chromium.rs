//! Chromium, headless, with a home and a profile of its own: nothing of the machine is asked or changed.

use crate::{
    page,
    stage::{self, COVER, Running, Stage},
};
use serde_json::json;
use std::{fs, process::Command};
use sys_tests::DOMAIN;
use tempfile::TempDir;

/// How long it may take.
const TIME_LIMIT_S: &str = "60";
const FLAGS: [&str; 8] = [
    "--headless",
    // Root has none, and all pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
];

struct Chromium {
    home: TempDir,
}

impl Chromium {
    /// One that believes the authorities of these servers.
    async fn new(trusted: &[&Running]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for (number, server) in trusted.iter().enumerate() {
            stage::trust(&home.path().join(".pki/nssdb"), server, &format!("authority {number}")).await;
        }
        Self { home }
    }

    /// What a page shows. With a resolver all names come from there and from nowhere else; its own address, and without one that of
    /// all names, is this machine's.
    async fn load(&self, url: &str, resolver: Option<&str>) -> String {
        let profile = self.home.path().join("profile");
        fs::create_dir_all(&profile).unwrap();
        let mode = if resolver.is_some() { "secure" } else { "off" };
        let templates = resolver.map(|resolver| format!("{resolver}{{?dns}}")).unwrap_or_default();
        let state = json!({"dns_over_https": {"mode": mode, "templates": templates}});
        fs::write(profile.join("Local State"), state.to_string()).unwrap();
        let known = if resolver.is_some() { COVER } else { DOMAIN };
        let mut chromium = Command::new("timeout");
        chromium.args([TIME_LIMIT_S, "chromium"]).args(FLAGS).env("HOME", self.home.path());
        chromium.arg(format!("--user-data-dir={}", profile.display()));
        chromium.arg(format!("--host-resolver-rules=MAP {known} 127.0.0.1")).args(["--dump-dom", url]);
        let shown = tokio::task::spawn_blocking(move || chromium.output().expect("chromium is there")).await.unwrap();
        let told = String::from_utf8_lossy(&shown.stderr);
        let told: Vec<_> = told.lines().filter(|line| !line.contains("dbus")).collect();
        assert!(shown.status.success(), "{}: {told:#?}", shown.status);
        let page = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(page::says_hidden(&page).is_some(), "another page: {page}, {told:#?}");
        page
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and certutil: cargo xtask test runs it"]
async fn chromium_hides_the_name() {
    let stage = Stage::set().await;
    let page = Chromium::new(&[&stage.server]).await.load(&stage.url(), Some(&stage.resolver())).await;
    stage.assert_hidden(&page);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and certutil: cargo xtask test runs it"]
async fn without_secure_dns_the_name_is_seen_and_the_page_says_so() {
    let stage = Stage::set().await;
    let page = Chromium::new(&[&stage.server]).await.load(&stage.url(), None).await;
    stage.assert_seen(&page);
}

/// The zone that the browser asks is that of another server with the same names: its ECH keys are none of this one's, as after a
/// rotation that DNS has not heard of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and certutil: cargo xtask test runs it"]
async fn chromium_with_a_stale_key_takes_the_new_one_and_hides_the_name() {
    let stage = Stage::set().await;
    let stale = stage::start(stage.port).await;
    assert_ne!(stage.server.keys, stale.keys);
    let chromium = Chromium::new(&[&stage.server, &stale]).await;
    let page = chromium.load(&stage.url(), Some(&stage::resolver(stale.addr.port()))).await;
    stage.assert_hidden(&page);
}
