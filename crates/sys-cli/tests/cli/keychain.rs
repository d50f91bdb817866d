//! The session in a keychain: GNOME Keyring, which nobody here wrote, on a session bus of the test's own. `cargo xtask test`
//! installs both and runs these tests; `cargo test` alone does not need them.

use super::{Ran, Server, Sys, tls};
use secret_service::{EncryptionType, SecretService};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Wait for the keychain to be there: it takes a tenth of a second.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A bus that starts nothing by itself, so that a keychain which was stopped stays stopped.
const BUS: &str = r#"<busconfig>
  <type>session</type>
  <listen>unix:dir=DIRECTORY</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>"#;

/// A bus and a keychain on it, in directories of their own; both end with it.
struct Desktop {
    directory: TempDir,
    address: String,
    bus: Child,
    keyring: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Desktop {
    fn start() -> Self {
        let mut desktop = Self::without_keychain();
        desktop.start_keychain();
        desktop
    }

    fn without_keychain() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8");
        let config = directory.path().join("bus.conf");
        fs::write(&config, BUS.replace("DIRECTORY", path)).expect("a file");
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed: `cargo xtask test` does that");
        let mut address = String::new();
        let output = bus.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut address).expect("its address");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { address: address.trim().to_owned(), directory, bus, keyring: None, runtime }
    }

    /// Starts GNOME Keyring with its default collection open, and waits for it.
    fn start_keychain(&mut self) {
        let mut keyring = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env_clear()
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", self.directory.path())
            .env("XDG_DATA_HOME", self.data())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("gnome-keyring-daemon is installed: `cargo xtask test` does that");
        keyring.stdin.take().expect("its input").write_all(b"a passphrase").expect("it reads");
        self.keyring = Some(keyring);
        let end = Instant::now() + START_TIMEOUT;
        while self.secrets().is_none() {
            assert!(Instant::now() < end, "the keychain did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop_keychain(&mut self) {
        let mut keyring = self.keyring.take().expect("it runs");
        keyring.kill().expect("killed");
        keyring.wait().expect("ended");
    }

    /// Whether it has ended by itself: GNOME Keyring 42 does so now and then when many ask it at once (a trap in GLib).
    fn keychain_crashed(&mut self) -> bool {
        self.keyring.as_mut().is_some_and(|keyring| keyring.try_wait().expect("its state").is_some())
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The secrets of all of `sys`'s entries, or nothing while there is no keychain.
    fn secrets(&self) -> Option<Vec<String>> {
        self.runtime.block_on(async {
            let service = self.service().await?;
            service.get_default_collection().await.ok()?;
            let items = service.search_items([("application", "sys")].into()).await.ok()?;
            let mut secrets = Vec::new();
            for item in items.unlocked {
                secrets.push(String::from_utf8(item.get_secret().await.expect("a secret")).expect("UTF-8"));
            }
            Some(secrets)
        })
    }

    fn lock(&self) {
        self.runtime.block_on(async {
            let service = self.service().await.expect("a keychain");
            let collection = service.get_default_collection().await.expect("a collection");
            collection.lock().await.expect("locked");
            assert!(collection.is_locked().await.expect("an answer"));
        });
    }

    async fn service(&self) -> Option<SecretService<'static>> {
        let bus = zbus::connection::Builder::address(self.address.as_str()).ok()?.build().await.ok()?;
        SecretService::connect_with_existing(EncryptionType::Plain, bus).await.ok()
    }

    fn command(&self, sys: &Sys, words: &[&str]) -> Command {
        let mut command = sys.command(words);
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address);
        command
    }

    fn run(&self, sys: &Sys, words: &[&str]) -> Ran {
        Ran::of(&self.command(sys, words).output().expect("the program runs"))
    }

    fn log_in(&self, sys: &Sys, server: &Server, more: &[&str]) -> Ran {
        let words = ["login", "--server", &server.url, "--email", "a@example.org", "--password-stdin"];
        let mut command = self.command(sys, &[&words[..], more].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let _ = child.stdin.take().expect("its input").write_all(b"right\n");
        Ran::of(&child.wait_with_output().expect("the program ends"))
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.keyring.iter_mut().chain([&mut self.bus]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn a_session_lies_in_the_keychain_and_no_token_in_a_file() {
    let (desktop, server, sys) = (Desktop::start(), Server::start(), Sys::new());
    let login = desktop.log_in(&sys, &server, &[]);
    assert!(login.exit == 0 && login.err.contains("the session is kept in the system's keychain"), "{login:?}");
    let secrets = desktop.secrets().expect("a keychain");
    assert!(matches!(&secrets[..], [one] if one.contains("\"access\"") && one.contains("\"refresh\"")), "{secrets:?}");
    assert_eq!(desktop.run(&sys, &["whoami"]).json()["session_kept_in"], json!("keychain"));
    let shown = desktop.run(&sys, &["whoami", "--output", "table"]);
    assert!(shown.out.contains("\nkept in  the system's keychain\n"), "{shown:?}");
    assert_eq!(desktop.run(&sys, &["note", "list", "--org-id", "org_1"]).exit, 0, "the server is known, and the token");
    for directory in [sys.config.path().to_owned(), desktop.data()] {
        assert_no_token_in(&directory);
    }
    let logout = desktop.run(&sys, &["logout"]);
    assert_eq!(logout.exit, 0, "{logout:?}");
    assert_eq!((sys.session(), desktop.secrets()), (String::new(), Some(Vec::new())));
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn a_session_moves_between_file_and_keychain_and_leaves_nothing_behind() {
    let (desktop, server, sys) = (Desktop::start(), Server::start(), Sys::new());
    let login = desktop.log_in(&sys, &server, &["--store", "file"]);
    assert!(login.err.contains("the session is kept in the file ") && !login.err.contains("since"), "{login:?}");
    assert!(sys.session().contains("\"access\"") && desktop.secrets() == Some(Vec::new()));
    assert_eq!(desktop.run(&sys, &["whoami"]).json()["session_kept_in"], json!("file"));
    desktop.log_in(&sys, &server, &["--store", "keychain"]);
    assert_no_token_in(sys.config.path());
    assert_eq!(desktop.secrets().map(|secrets| secrets.len()), Some(1));
    assert_eq!(desktop.run(&sys, &["whoami"]).exit, 0);
    desktop.log_in(&sys, &server, &["--store", "file"]);
    assert_eq!(desktop.secrets(), Some(Vec::new()), "the keychain is left behind empty");
    assert_eq!(desktop.run(&sys, &["whoami"]).json()["session_kept_in"], json!("file"));
    // Directories have a session each.
    let other = Sys::new();
    desktop.log_in(&other, &server, &[]);
    desktop.log_in(&sys, &server, &[]);
    assert_eq!(desktop.secrets().map(|secrets| secrets.len()), Some(2));
    assert_eq!(desktop.run(&other, &["logout"]).exit, 0);
    assert_eq!(desktop.run(&sys, &["whoami"]).exit, 0, "another directory's logout ends this session, too");
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn the_device_key_lies_where_the_session_does() {
    let (desktop, sys) = (Desktop::start(), Sys::new());
    let (server, authority) = tls::start();
    let file = sys.config.path().join("device-key.json");
    let log_in = |more: &[&str]| assert_eq!(desktop.log_in(&sys, &server, more).exit, 0);
    log_in(&["--ca", &authority]);
    let keys = || {
        let secrets = desktop.secrets().expect("a keychain");
        (secrets.iter().filter(|secret| secret.contains("\"key\":")).count(), secrets.len())
    };
    assert_eq!((keys(), file.exists()), ((1, 2), false));
    let device = desktop.run(&sys, &["whoami"]).json()["device_key"].clone();
    assert!(device.is_string());
    log_in(&["--store", "file"]);
    assert_eq!((keys(), file.exists()), ((0, 0), true));
    assert_ne!(desktop.run(&sys, &["whoami"]).json()["device_key"], device, "a key outlives its session");
    log_in(&["--store", "keychain"]);
    assert_eq!((keys(), file.exists()), ((1, 2), false));
    assert_eq!(desktop.run(&sys, &["logout"]).exit, 0);
    assert_eq!((keys(), file.exists()), ((0, 0), false));
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn a_keychain_that_is_locked_or_gone_says_what_to_do() {
    let (mut desktop, server, sys) = (Desktop::start(), Server::start(), Sys::new());
    assert_eq!(desktop.log_in(&sys, &server, &[]).exit, 0);
    desktop.lock();
    let locked = desktop.run(&sys, &["note", "list", "--org-id", "org_1"]);
    locked.fails(1, "error: the keychain is locked");
    locked.fails(1, "what to do: unlock it");
    desktop.run(&sys, &["logout"]).fails(1, "the keychain is locked");
    desktop.log_in(&sys, &server, &["--store", "keychain"]).fails(1, "the keychain is locked");
    let completed = desktop.run(&sys, &["__complete", "no"]);
    assert_eq!((completed.exit, completed.out.trim()), (0, ""), "a completion is not the place to say so");
    let login = desktop.log_in(&sys, &server, &[]);
    assert!(login.exit == 0 && login.err.contains("since the keychain is locked"), "{login:?}");
    assert_eq!(desktop.run(&sys, &["whoami"]).json()["session_kept_in"], json!("file"));

    desktop.stop_keychain();
    desktop.start_keychain();
    assert_eq!(desktop.run(&sys, &["logout"]).exit, 0);
    assert_eq!(desktop.secrets(), Some(Vec::new()), "a logout takes what a locked keychain held");
    assert_eq!(desktop.log_in(&sys, &server, &["--store", "keychain"]).exit, 0);
    desktop.stop_keychain();
    let gone = desktop.run(&sys, &["whoami"]);
    gone.fails(1, "error: no keychain answers on the session bus");
    gone.fails(1, "sys login --store file");
    sys.run(&["whoami"]).fails(1, "there is no session bus here");
    desktop.log_in(&sys, &server, &["--store", "keychain"]).fails(1, "no keychain answers");
    let login = desktop.log_in(&sys, &server, &[]);
    assert!(login.exit == 0 && login.err.contains("since no keychain answers on the session bus"), "{login:?}");
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn an_entry_of_another_login_is_not_believed() {
    let (desktop, server, other, sys) = (Desktop::start(), Server::start(), Server::start(), Sys::new());
    desktop.log_in(&sys, &server, &["--store", "keychain"]);
    let pointer = sys.session();
    let moved = pointer.replace(&server.url, &other.url);
    assert_ne!(moved, pointer);
    fs::write(sys.config.path().join("session.json"), moved).expect("a file");
    let refused = desktop.run(&sys, &["whoami"]);
    refused.fails(1, "the keychain does not hold your session any more");
    refused.fails(1, "what to do: log in again with `sys login`");
}

#[test]
#[ignore = "needs dbus-daemon and gnome-keyring; `cargo xtask test` installs and runs them"]
fn programs_that_refresh_at_once_lose_no_token_of_the_keychain() {
    const ATTEMPTS: usize = 4;
    let is_seen = (0..ATTEMPTS).any(|_| {
        let kept = refreshed_at_once();
        if !kept {
            eprintln!("the keychain crashed: once more, with another one");
        }
        kept
    });
    assert!(is_seen, "the keychain crashes each time");
}

/// Has programs refresh their tokens at once, and looks at what is kept then; tells if the keychain crashed under them.
fn refreshed_at_once() -> bool {
    const PROGRAMS: usize = 12;
    let (mut desktop, server, sys) = (Desktop::start(), Server::start(), Sys::new());
    server.shorten_tokens();
    assert_eq!(desktop.log_in(&sys, &server, &["--store", "keychain"]).exit, 0);
    let before = server.refreshes();
    let programs: Vec<Child> = (0..PROGRAMS)
        .map(|_| {
            let mut command = desktop.command(&sys, &["note", "list", "--org-id", "org_1"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs")
        })
        .collect();
    let ended = programs.into_iter().map(|program| program.wait_with_output().expect("the program ends"));
    let ran: Vec<Ran> = ended.map(|output| Ran::of(&output)).collect();
    if desktop.keychain_crashed() {
        return false;
    }
    for ran in ran {
        assert_eq!(ran.exit, 0, "{ran:?}");
    }
    // Each asks for its commands and for its list, with a token of its own each time.
    assert_eq!(server.refreshes() - before, 2 * PROGRAMS);
    let secrets = desktop.secrets().expect("a keychain");
    let newest = format!("\"refresh-{}\"", server.refreshes());
    assert!(matches!(&secrets[..], [one] if one.contains(&newest)), "{newest}: {secrets:?}");
    true
}

/// No file below a directory holds a token.
#[track_caller]
fn assert_no_token_in(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            assert_no_token_in(&entry);
        } else if entry.is_file() {
            let bytes = String::from_utf8_lossy(&fs::read(&entry).expect("a file")).into_owned();
            let found = ["\"access", "\"refresh"].iter().any(|token| bytes.contains(token));
            assert!(!found, "{}: {bytes}", entry.display());
        }
    }
}
