//! How they are asked: by dnsperf over UDP, TCP and TLS, by h2load over HTTPS.
//!
//! Both have the same number of connections and of questions under way, and go through the same questions in turn.

use crate::{CALM_PER_S, CALM_S, LASTS_S, RECORDS, servers::Server};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use sys_bench::process::{LOAD_CORE, pinned};

const CONNECTIONS: u32 = 8;
/// On all connections together.
const UNDER_WAY: u32 = 200;
const QUESTIONS: &str = "questions";
/// The body of a POST: the first of the questions.
const BODY: &str = "question";

/// A way to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire {
    /// dnsperf with these flags.
    Udp(&'static [&'static str]),
    Tcp,
    Tls,
    /// h2load with all questions in turn.
    HttpsGet,
    /// h2load with one question, since it knows one body.
    HttpsPost,
}

/// What 99 of 100 questions wait at most, and what half of them do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    pub(crate) p99_ms: f64,
    pub(crate) median_ms: f64,
}

/// Writes the questions for both programs.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    fs::write(
        dir.join(QUESTIONS),
        RECORDS.iter().map(|(name, kind, _)| format!("{name} {kind}\n")).collect::<String>(),
    )?;
    fs::write(dir.join(BODY), message(RECORDS[0].0, RECORDS[0].1)?)?;
    Ok(())
}

impl Wire {
    /// Whether every question is answered with a record, asked one by one. What is fast and wrong is not compared.
    pub(crate) fn check(self, server: Server, dir: &Path) -> Result<()> {
        let answers = |curl: &mut Command| -> Result<()> {
            let output = curl.args(["--silent", "--fail", "--insecure", "--http2"]).output().context("curl")?;
            let (flags, records) = (output.stdout.get(3), output.stdout.get(7));
            ensure!(
                flags.is_some_and(|flags| flags & 15 == 0) && records.is_some_and(|count| *count > 0),
                "{} answers {:?}",
                server.name(),
                output.stdout
            );
            Ok(())
        };
        match self {
            Self::HttpsGet => targets(server)?.iter().try_for_each(|target| answers(Command::new("curl").arg(target))),
            Self::HttpsPost => answers(
                Command::new("curl")
                    .args(["--header", "content-type: application/dns-message", "--data-binary"])
                    .args([format!("@{}", dir.join(BODY).display()), address(server)]),
            ),
            // dnsperf says what it was answered each time.
            Self::Udp(_) | Self::Tcp | Self::Tls => Ok(()),
        }
    }

    /// How many questions are answered in [`LASTS_S`], as many as can be.
    pub(crate) fn answers(self, server: Server, dir: &Path) -> Result<f64> {
        let (mut load, said) = (self.load(server, dir, LASTS_S)?, dir.join("said"));
        run(&mut load, &said)?;
        let said = fs::read_to_string(said)?;
        if self.is_https() {
            // Each client hangs up at the end, with what is under way.
            let codes = figure(&said, "status codes:")?;
            ensure!(codes.ends_with("0 3xx, 0 4xx, 0 5xx"), "{} answers {codes}", server.name());
            return number(codes);
        }
        // What is not answered as it should be does not count as fast.
        let codes = figure(&said, "Response codes:")?;
        ensure!(codes.starts_with("NOERROR") && codes.ends_with("(100.00%)"), "{} answers {codes}", server.name());
        number(figure(&said, "Queries completed:")?)
    }

    /// How long questions wait where there are [`CALM_PER_S`].
    pub(crate) fn waits(self, server: Server, dir: &Path) -> Result<Waits> {
        let (mut load, said) = (self.load(server, dir, CALM_S)?, dir.join("said"));
        let mut waits: Vec<f64> = if self.is_https() {
            let log = dir.join("log");
            // It adds to what it finds.
            let _ = fs::remove_file(&log);
            load.arg(format!("--rps={}", CALM_PER_S / CONNECTIONS)).arg(format!("--log-file={}", log.display()));
            run(&mut load, &said)?;
            let log = fs::read_to_string(log)?;
            log.lines().filter_map(|line| Some(line.split('\t').nth(2)?.parse::<f64>().ok()? / 1e3)).collect()
        } else {
            run(load.args(["-v", "-Q", &CALM_PER_S.to_string()]), &said)?;
            let said = fs::read_to_string(said)?;
            let seconds =
                said.lines().filter_map(|line| line.strip_prefix("> ")?.rsplit(' ').next()?.parse::<f64>().ok());
            seconds.map(|seconds| seconds * 1e3).collect()
        };
        // Fewer than this were not at that pace.
        let least = (CALM_PER_S * CALM_S) as usize * 9 / 10;
        ensure!(waits.len() >= least, "{} answered {} questions, not {least}", server.name(), waits.len());
        waits.sort_by(f64::total_cmp);
        Ok(Waits { p99_ms: waits[waits.len() * 99 / 100], median_ms: waits[waits.len() / 2] })
    }

    fn is_https(self) -> bool {
        matches!(self, Self::HttpsGet | Self::HttpsPost)
    }

    fn load(self, server: Server, dir: &Path, lasts_s: u32) -> Result<Command> {
        let mut command = pinned(LOAD_CORE);
        let (port, flags): (_, &[&str]) = match self {
            Self::Udp(flags) => (server.port(), flags),
            Self::Tcp => (server.port(), &["-m", "tcp"]),
            Self::Tls => (server.tls_port(), &["-m", "dot"]),
            Self::HttpsGet | Self::HttpsPost => return self.h2load(command, server, dir, lasts_s),
        };
        command.args(["dnsperf", "-s", "127.0.0.1", "-p", &port.to_string(), "-l", &lasts_s.to_string()]).args(flags);
        command.args(["-c", &CONNECTIONS.to_string(), "-q", &UNDER_WAY.to_string(), "-d"]).arg(dir.join(QUESTIONS));
        Ok(command)
    }

    fn h2load(self, mut command: Command, server: Server, dir: &Path, lasts_s: u32) -> Result<Command> {
        command.args(["h2load", "-t", "1", "-D", &lasts_s.to_string(), "-c", &CONNECTIONS.to_string()]);
        command.args(["-m", &(UNDER_WAY / CONNECTIONS).to_string()]);
        match self {
            Self::HttpsPost => {
                command.args(["-H", "content-type: application/dns-message", "-d"]).arg(dir.join(BODY));
                command.arg(address(server));
            }
            _ => {
                let file: PathBuf = dir.join(format!("targets-{}", server.name()));
                fs::write(&file, targets(server)?.join("\n") + "\n")?;
                command.arg("-i").arg(file);
            }
        }
        Ok(command)
    }
}

/// Has it say what it says into a file, so that nobody has to read along while it measures.
fn run(load: &mut Command, said: &Path) -> Result<()> {
    let status = load.stdout(fs::File::create(said)?).stderr(Stdio::null()).status().context("dnsperf or h2load")?;
    ensure!(status.success(), "{load:?}: {status}");
    Ok(())
}

fn figure<'a>(said: &'a str, what: &str) -> Result<&'a str> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(what));
    line.map(str::trim).with_context(|| format!("`{what}` in {said}"))
}

fn number(text: &str) -> Result<f64> {
    text.split(' ').next().unwrap_or_default().parse().context("a number of answers")
}

fn address(server: Server) -> String {
    format!("https://127.0.0.1:{}/dns-query", server.https_port())
}

/// One for each question (RFC 8484 section 4.1).
fn targets(server: Server) -> Result<Vec<String>> {
    let target = |(name, kind, _): &(&str, &str, &str)| {
        Ok(format!("{}?dns={}", address(server), base64url(&message(name, kind)?)))
    };
    RECORDS.iter().map(target).collect()
}

/// A question as dnsperf asks it: without EDNS, with recursion desired, and with the id that caches want (RFC 8484 section 4.1).
fn message(name: &str, kind: &str) -> Result<Vec<u8>> {
    let kind: u16 = match kind {
        "A" => 1,
        "NS" => 2,
        "MX" => 15,
        "TXT" => 16,
        "AAAA" => 28,
        other => bail!("no number for {other}"),
    };
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len())?);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    Ok(message)
}

/// RFC 4648 section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digits = (0..=three.len()).map(|at| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]));
        text.extend(digits);
    }
    text
}
