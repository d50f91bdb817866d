//! `cargo xtask demo --edge`: a domain typed in, and all that follows from it, on a machine with only loopback.
//!
//! The certificate authority is Pebble, which validates for real: it asks our own name server, as Let's Encrypt would. The
//! browser is Chromium, which looks names up by our own DNS over HTTPS, and hides the one that it asks for (ECH).
//!
//! What must never happen here: a program that outlives the demo, whatever ended it.

mod browser;
mod programs;

use super::{Options, prepare, reset};
use crate::{root, step, target_dir, tools};
use anyhow::{Context, Result, bail};
use programs::{Running, bound, last_lines, until};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

/// The domain that is typed in, and the name that an observer of the wire sees instead of it.
const DOMAIN: &str = "org.example";
const COVER: &str = "cover.example";
const SUPERADMIN: &str = "you@org.example";
/// Nobody but the demo's user reads these.
#[cfg(unix)]
const PRIVATE_FILE: u32 = 0o600;
#[cfg(unix)]
const PRIVATE_PROGRAM: u32 = 0o700;

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

/// The server, and what it said until it was ready.
struct Server {
    process: Running,
    said: Vec<String>,
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
    step::announce("data", "a directory that only you can read; what the programs say goes into *.log there");
    prepare(&options.data_dir)?;
    let stage = Stage { dir: options.data_dir.clone(), programs: target_dir()?.join("debug"), ports: Ports::free()? };
    step::announce("authority", "Pebble, which asks our own name server for the proof, as Let's Encrypt would");
    let _pebble = stage.pebble()?;
    step::announce("server", &format!("the domain {DOMAIN} is typed in; everything else follows from it"));
    let mut server = stage.server()?;
    stage.log_in(&server)?;
    step::announce("certificates", "from the authority, and the key that hides names (ECH)");
    stage.until_said("tls", |status| status.get("state").and_then(Value::as_str) == Some("GREEN"))?;
    step::announce(
        "zone",
        "signed, and at ATTENTION, since the world cannot find it here: under REGISTRAR stands what you would enter there",
    );
    stage.until_said("dns", is_signed)?;
    step::announce("browser", "Chromium, through our own DNS over HTTPS, to a name that is not on the wire");
    let page = stage.browse()?;
    for line in &page {
        step::note(&format!("  | {line}"));
    }
    step::note(&format!("a picture of it: {}", stage.path("page.png").display()));
    if !page.iter().any(|line| line.contains("cannot see which name")) {
        bail!("Chromium did not use ECH: the page above says how it came instead");
    }
    if once {
        step::announce("done", "all of it worked");
        step::note("without --once the server goes on, for you to try: `cargo xtask demo --edge`");
        return Ok(ExitCode::SUCCESS);
    }
    step::announce("ready", "try in another terminal (Ctrl-C here stops everything):");
    let (sys, password) = (stage.sys_for_people()?, stage.path("password"));
    let set =
        format!("dns set --name www.{DOMAIN} --type A --data 192.0.2.7 --password-stdin < {}", password.display());
    for command in ["tls status", "dns list", &set, "tls rotate-ech-key"] {
        step::note(&format!("{} {command}", sys.display()));
    }
    let status = server.process.wait().context("waiting for the server")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a status of the zones says that there are keys, and that they sign.
fn is_signed(status: &Value) -> bool {
    let keys = status.get("keys").and_then(Value::as_array);
    let signs = |key: &Value| key.get("state").and_then(Value::as_str) == Some("signs");
    keys.is_some_and(|keys| !keys.is_empty() && keys.iter().all(signs))
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

    /// Pebble, with a certificate for its own directory that is made here and now.
    fn pebble(&self) -> Result<Running> {
        let (chain, key) = (self.path("pebble.pem"), self.path("pebble.key"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
        openssl.args(["-subj", "/CN=pebble", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
        // It vouches for nobody but itself, or clients would not take it for a server's.
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&chain).stderr(Stdio::null());
        if !openssl.status().context("starting openssl")?.success() {
            bail!("openssl made no certificate for Pebble's directory");
        }
        let Ports { https, plain, dns, directory, management } = self.ports;
        let settings = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": chain, "privateKey": key, "httpPort": plain, "tlsPort": https, "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let file = self.path("pebble.json");
        fs::write(&file, settings.to_string()).context("pebble.json")?;
        let log = self.path("pebble.log");
        let output = File::create(&log).context("pebble.log")?;
        let mut pebble = bound("pebble");
        pebble.arg("-config").arg(file).args(["-dnsserver", &format!("127.0.0.1:{dns}")]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0").env("PEBBLE_WFE_NONCEREJECT", "5");
        pebble.stdout(output.try_clone()?).stderr(output);
        let running = Running::start(&mut pebble, &log)?;
        until("Pebble listens", || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, directory)).ok().map(drop)))?;
        step::note(&format!("its directory is https://127.0.0.1:{directory}/dir"));
        Ok(running)
    }

    fn server(&self) -> Result<Server> {
        let Ports { https, plain, dns, directory, .. } = self.ports;
        let program = self.programs.join("sys-server");
        let mut server = bound(&program);
        server.args(["run", "--domain", DOMAIN, "--domain", COVER, "--ech-public-name", COVER]);
        server.args(["--acme-email", SUPERADMIN, "--acme-directory", &format!("https://127.0.0.1:{directory}/dir")]);
        server.arg("--acme-root-file").arg(self.path("pebble.pem")).arg("--local-ca");
        server.args(["--listen", &format!("127.0.0.1:{https}"), "--plain-listen", &format!("127.0.0.1:{plain}")]);
        server.args(["--dns-listen", &format!("127.0.0.1:{dns}"), "--public-address", "127.0.0.1"]);
        server.arg("--data-dir").arg(self.path("data"));
        server.arg("--danger-key-file").arg(self.path("danger-master.key"));
        step::note(&format!("$ sys-server run --domain {DOMAIN} --domain {COVER} --ech-public-name {COVER} \\"));
        step::note(&format!("    --acme-email {SUPERADMIN} ...   (and where everything stands on this machine)"));
        let log = self.path("server.log");
        server.stdout(Stdio::piped()).stderr(File::create(&log).context("server.log")?);
        let mut process = Running::start(&mut server, &log)?;
        let stdout = process.stdout().context("the server's output is not connected")?;
        let mut said = Vec::new();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("reading the server's output")?;
            let is_ready = line.starts_with("ready ");
            if is_ready {
                step::note(&line);
            }
            said.push(line);
            if is_ready {
                return Ok(Server { process, said });
            }
        }
        for line in last_lines(&log, |_| true) {
            step::note(&line);
        }
        bail!("the server ended before it was ready")
    }

    /// Makes the superadmin by the command that the server printed, with a password that is drawn; or logs him in again, with
    /// that password: the server stands on another port each time.
    fn log_in(&self, server: &Server) -> Result<()> {
        let command = |verb: &str| server.said.iter().find_map(|line| Some(line.split_once(verb)?.1));
        let token = server.said.iter().find_map(|line| line.strip_prefix("it asks for this token: "));
        let kept = self.path("password");
        let (verb, command, input) = match (command(" setup "), command(" login "), token) {
            (Some(setup), _, Some(token)) => {
                let password = step::output(Command::new("openssl").args(["rand", "-base64", "24"]))?;
                fs::write(&kept, &password).context("the password")?;
                #[cfg(unix)]
                fs::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(PRIVATE_FILE))
                    .context("the password")?;
                (["setup", "--token-stdin"].as_slice(), setup, format!("{token}\n{password}"))
            }
            (_, Some(login), _) => {
                let password = fs::read_to_string(&kept).context("the superadmin's password, of an earlier run")?;
                (["login"].as_slice(), login, password)
            }
            _ => bail!("the server did not say how to log in"),
        };
        let email = |word| if ["you@example.org", "EMAIL"].contains(&word) { SUPERADMIN } else { word };
        let mut sys = self.sys(verb);
        sys.args(command.split_whitespace().map(email)).arg("--password-stdin").stdin(Stdio::piped());
        sys.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = sys.spawn().context("starting sys")?;
        let mut stdin = child.stdin.take().context("sys has no input")?;
        write!(stdin, "{input}").context("telling sys the password")?;
        drop(stdin);
        let ended = child.wait_with_output().context("waiting for sys")?;
        if !ended.status.success() {
            bail!("`sys {}` failed: {}", verb.join(" "), String::from_utf8_lossy(&ended.stderr).trim());
        }
        step::note(&format!("the superadmin is {SUPERADMIN}; his password stands in {}", kept.display()));
        Ok(())
    }

    /// `sys` with a home of its own.
    fn sys<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut sys = Command::new(self.programs.join("sys"));
        sys.args(arguments).env("XDG_CONFIG_HOME", self.path("config")).env("SYS_KEYCHAIN", "off").stdin(Stdio::null());
        sys
    }

    /// The same as a program that is short to type.
    fn sys_for_people(&self) -> Result<PathBuf> {
        let (file, quoted) = (self.path("sys"), |path: PathBuf| path.display().to_string().replace('\'', r"'\''"));
        let (config, sys) = (quoted(self.path("config")), quoted(self.programs.join("sys")));
        fs::write(&file, format!("#!/bin/sh\nXDG_CONFIG_HOME='{config}' SYS_KEYCHAIN=off exec '{sys}' \"$@\"\n"))?;
        #[cfg(unix)]
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(PRIVATE_PROGRAM))?;
        Ok(file)
    }

    /// Waits until a status is good, and shows it.
    fn until_said(&self, of: &str, is_good: impl Fn(&Value) -> bool) -> Result<()> {
        step::note(&format!("$ sys {of} status"));
        let said = until(&format!("`sys {of} status` was good"), || {
            let status = step::output(&mut self.sys([of, "status", "--output", "json"]))?;
            Ok(is_good(&serde_json::from_str(&status).context("the status")?).then_some(()))
        });
        for line in step::output(&mut self.sys([of, "status", "--output", "table"]))?.lines() {
            step::note(line);
        }
        said
    }
}
