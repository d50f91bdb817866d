//! `cargo xtask demo --edge`: a domain typed in, and all that follows from it, on a machine with only loopback.
//!
//! The certificate authority is Pebble, which validates for real: it asks our own name server, as Let's Encrypt would. The
//! browser is Chromium, which looks names up by our own DNS over HTTPS, and hides the one that it asks for (ECH).

use super::{Options, prepare, reset};
use crate::{root, step, tools};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The domain that is typed in, and the name that an observer of the wire sees instead of it.
const DOMAIN: &str = "org.example";
const COVER: &str = "cover.example";
const SUPERADMIN: &str = "you@org.example";
/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// A program that ends with the demo.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Free ports, for everybody who takes part.
struct Ports {
    https: u16,
    plain: u16,
    dns: u16,
    directory: u16,
    management: u16,
}

/// What stands where.
struct Stage {
    dir: PathBuf,
    programs: PathBuf,
    ports: Ports,
}

/// Runs the demo. With `once` it ends by itself, and fails if anything of it did not work.
pub(super) fn run(options: &Options, once: bool) -> Result<ExitCode> {
    if options.reset {
        step::announce("reset", "the demo starts over");
        reset(&options.data_dir)?;
    }
    step::announce("machine", "a certificate authority, and a browser to look with");
    tools::for_build()?;
    tools::edge_demo()?;
    step::announce("build", "the server and `sys`, its command line (the first time takes minutes)");
    step::run(Command::new("cargo").args(["build", "-p", "sys-server", "-p", "sys-cli"]).current_dir(root()))?;
    step::announce("data", "a directory that only you can read");
    prepare(&options.data_dir)?;
    let stage =
        Stage { dir: options.data_dir.clone(), programs: super::target_dir()?.join("debug"), ports: Ports::free()? };
    step::announce("authority", "Pebble, which asks our own name server for the proof, as Let's Encrypt would");
    let _pebble = stage.pebble()?;
    step::announce("server", &format!("the domain {DOMAIN} is typed in; everything else follows from it"));
    let server = stage.server()?;
    stage.set_up(&server)?;
    step::announce("status", "until the certificates are there, the zone is signed and the ECH key is published");
    stage.until_said("tls", "GREEN")?;
    // Nobody in the world knows of this zone, so that its status stays short of green.
    stage.until_said("dns", "none under way")?;
    step::announce("browser", "Chromium, through our own DNS over HTTPS, to a name that is not on the wire");
    let page = stage.browse()?;
    step::note(&format!("the page says: {page}"));
    step::note(&format!("a picture of it is in {}", stage.dir.join("page.png").display()));
    if !page.contains("cannot see") {
        bail!("Chromium did not use ECH");
    }
    if once {
        return Ok(ExitCode::SUCCESS);
    }
    let sys = stage.shown("sys");
    step::announce(
        "ready",
        &format!("try in another terminal: {sys} dns list; {sys} tls status; Ctrl-C stops everything"),
    );
    let mut server = server;
    let status = server.process.0.wait().context("waiting for the server")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The server, and what it said when it was ready.
struct Server {
    process: Running,
    said: Vec<String>,
}

impl Ports {
    fn free() -> Result<Self> {
        // All at once, so that no two are the same.
        let sockets: Vec<_> = (0..5).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
        let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
        match ports[..] {
            [https, plain, dns, directory, management] => Ok(Self { https, plain, dns, directory, management }),
            _ => bail!("no free ports"),
        }
    }
}

impl Stage {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn shown(&self, program: &str) -> String {
        self.programs.join(program).display().to_string()
    }

    /// Pebble, with a certificate for its own directory that is made here and now.
    fn pebble(&self) -> Result<Running> {
        let (chain, key) = (self.path("pebble.pem"), self.path("pebble.key"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
        openssl.args(["-subj", "/CN=pebble", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&chain).stderr(Stdio::null());
        step::run(&mut openssl)?;
        let Ports { https, plain, dns, directory, management } = self.ports;
        let settings = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": chain, "privateKey": key, "httpPort": plain, "tlsPort": https, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = self.path("pebble.json");
        fs::write(&file, settings.to_string()).context("pebble.json")?;
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(file).args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_WFE_NONCEREJECT", "5");
        let log = fs::File::create(self.path("pebble.log")).context("pebble.log")?;
        pebble.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let running = Running(pebble.spawn().context("starting pebble")?);
        until("Pebble listens", || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, directory)).ok().map(drop)))?;
        Ok(running)
    }

    fn server(&self) -> Result<Server> {
        let Ports { https, plain, dns, directory, .. } = self.ports;
        let mut server = Command::new(self.programs.join("sys-server"));
        server.arg("run").arg("--data-dir").arg(self.path("data"));
        server.arg("--danger-key-file").arg(self.path("danger-master.key"));
        server.args(["--listen", &format!("127.0.0.1:{https}"), "--plain-listen", &format!("127.0.0.1:{plain}")]);
        server.args(["--dns-listen", &format!("127.0.0.1:{dns}"), "--public-address", "127.0.0.1"]);
        server.args(["--domain", DOMAIN, "--domain", COVER, "--ech-public-name", COVER]);
        server.args(["--acme-email", SUPERADMIN, "--acme-directory", &format!("https://127.0.0.1:{directory}/dir")]);
        server.arg("--acme-root-file").arg(self.path("pebble.pem")).arg("--local-ca");
        step::note(&format!("$ {server:?}"));
        server.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Running(server.spawn().context("starting the server")?);
        let stdout = process.0.stdout.take().context("the server's output is not connected")?;
        let mut said = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("reading the server's output")?;
            let is_ready = line.starts_with("ready ");
            said.push(line);
            if is_ready {
                return Ok(Server { process, said });
            }
        }
        bail!("the server ended before it was ready")
    }

    /// Makes the superadmin by the command that the server printed, with a password that is drawn.
    fn set_up(&self, server: &Server) -> Result<()> {
        let command = server.said.iter().find_map(|line| line.split_once(" setup ")).map(|(_, rest)| rest);
        let token = server.said.iter().find_map(|line| line.strip_prefix("it asks for this token: "));
        let (Some(command), Some(token)) = (command, token) else {
            step::note("there is a superadmin already, of an earlier run");
            return Ok(());
        };
        let password = step::output(Command::new("openssl").args(["rand", "-base64", "24"]))?;
        let kept = self.path("password");
        fs::write(&kept, &password).context("the password")?;
        let arguments =
            command.split_whitespace().map(|word| if word == "you@example.org" { SUPERADMIN } else { word });
        let mut setup = self.sys(["setup"]);
        setup.args(arguments).args(["--token-stdin", "--password-stdin"]).stdin(Stdio::piped());
        step::note(&format!("$ {setup:?}"));
        let mut child = setup.spawn().context("starting sys")?;
        let mut stdin = child.stdin.take().context("sys has no input")?;
        write!(stdin, "{token}\n{password}").context("telling sys the token")?;
        drop(stdin);
        if !child.wait().context("waiting for sys")?.success() {
            bail!("`sys setup` failed");
        }
        step::note(&format!("the superadmin is {SUPERADMIN}, his password stands in {}", kept.display()));
        Ok(())
    }

    /// `sys` with a home of its own.
    fn sys<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut sys = Command::new(self.programs.join("sys"));
        sys.args(arguments).env("XDG_CONFIG_HOME", self.path("config")).env("SYS_KEYCHAIN", "off").stdin(Stdio::null());
        sys
    }

    /// Waits until a status says this, and shows it.
    fn until_said(&self, of: &str, word: &str) -> Result<()> {
        let mut last = String::new();
        let said = until(&format!("`sys {of} status` says {word}"), || {
            last = step::output(&mut self.sys([of, "status", "--output", "table"]))?;
            Ok(last.contains(word).then_some(()))
        });
        for line in last.lines() {
            step::note(line);
        }
        said
    }

    /// What the page says of the connection, as Chromium shows it.
    fn browse(&self) -> Result<String> {
        let (home, profile) = (self.path("home"), self.path("chromium"));
        for stale in [&home, &profile] {
            if stale.exists() {
                fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
            }
        }
        self.trust_pebble(&home)?;
        fs::create_dir_all(&profile).context("a profile")?;
        let Ports { https, .. } = self.ports;
        // The resolver has a name of our domain, so that its certificate is checked; this one name is given its address beforehand.
        let resolver = format!("dns.{DOMAIN}");
        let secure = json!({"dns_over_https": {
            "mode": "secure", "templates": format!("https://{resolver}:{https}/dns-query{{?dns}}"),
        }});
        fs::write(profile.join("Local State"), secure.to_string()).context("the profile's settings")?;
        let url = format!("https://{DOMAIN}:{https}/");
        let chromium = |what: String| {
            let mut chromium = Command::new("chromium");
            chromium.args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-sync",
            ]);
            chromium.args(["--disable-background-networking", "--disable-component-update", "--window-size=900,700"]);
            chromium.arg(format!("--user-data-dir={}", profile.display()));
            chromium.arg(format!("--host-resolver-rules=MAP {resolver} 127.0.0.1"));
            chromium.arg(what).arg(&url).env("HOME", &home).stderr(Stdio::null());
            chromium
        };
        step::run(&mut chromium(format!("--screenshot={}", self.path("page.png").display())))?;
        let page = step::output(&mut chromium("--dump-dom".to_owned()))?;
        let text: Vec<&str> = page.split('<').filter_map(|piece| Some(piece.split_once('>')?.1.trim())).collect();
        Ok(text.into_iter().filter(|piece| piece.contains(' ')).collect::<Vec<_>>().join(" "))
    }

    /// Lets the browser trust certificates of Pebble, in a home of its own.
    fn trust_pebble(&self, home: &Path) -> Result<()> {
        let store = home.join(".local/share/pki/nssdb");
        fs::create_dir_all(&store).context("a home")?;
        let database = format!("sql:{}", store.display());
        let root = self.path("pebble-root.pem");
        let url = format!("https://127.0.0.1:{}/roots/0", self.ports.management);
        let fetch = ["--silent", "--show-error", "--fail", "--cacert"];
        step::run(Command::new("curl").args(fetch).arg(self.path("pebble.pem")).arg("--output").arg(&root).arg(url))?;
        step::run(Command::new("certutil").args(["-N", "--empty-password", "-d", &database]))?;
        step::run(Command::new("certutil").args(["-A", "-n", "pebble", "-t", "C,,", "-d", &database, "-i"]).arg(&root))
    }
}

/// Waits until there is something, for a bounded time.
fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        thread::sleep(PAUSE);
    }
    bail!("{} passed before {what}", step::human(PATIENCE))
}
