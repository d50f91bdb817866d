//! Chromium, which looks at a page of the server as a member's browser would: names come from our DNS over HTTPS alone, and
//! certificates count as everywhere.
//!
//! What must never happen here: a certificate that is believed unchecked. Pebble's roots are put into a certificate store of
//! this browser's own, in a home of its own, and so nothing of the machine is touched.

use super::{COVER, DOMAIN, Stage, last_lines};
use crate::step;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// How long Chromium may take: a page takes seconds.
const TIME_LIMIT: &str = "60";

/// What every headless start says: no window, no sandbox (root has none, and the page is our own), and nobody else to talk to.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--window-size=900,700",
];

impl Stage {
    /// What the page says of the connection, as Chromium shows it, line by line; a picture of it lies in `page.png` then.
    pub(super) fn browse(&self) -> Result<Vec<String>> {
        let (home, profile) = (self.path("home"), self.path("chromium"));
        for stale in [&home, &profile] {
            if stale.exists() {
                fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
            }
        }
        self.trust_pebble(&home)?;
        fs::create_dir_all(&profile).context("a profile")?;
        let https = self.ports.https;
        // The resolver is asked by the name that everybody may see. Its address is given: no DNS of this machine knows it.
        let resolver = format!("https://{COVER}:{https}/dns-query{{?dns}}");
        let secure = json!({"dns_over_https": {"mode": "secure", "templates": resolver}});
        fs::write(profile.join("Local State"), secure.to_string()).context("the profile's settings")?;
        let url = format!("https://{DOMAIN}:{https}/");
        step::note(&format!("$ chromium {url}   (names by {resolver} and by nothing else)"));

        let log = self.path("chromium.log");
        let mut chromium = Command::new("timeout");
        chromium.args([TIME_LIMIT, "chromium"]).args(FLAGS);
        chromium.arg(format!("--user-data-dir={}", profile.display()));
        chromium.arg(format!("--host-resolver-rules=MAP {COVER} 127.0.0.1"));
        chromium.arg(format!("--screenshot={}", self.path("page.png").display())).arg("--dump-dom").arg(&url);
        // A session bus is for desktops: what is missing without one is told in the log.
        chromium.env("HOME", &home).stdin(Stdio::null()).stderr(File::create(&log).context("chromium.log")?);
        let begun = Instant::now();
        let shown = chromium.output().context("starting chromium")?;
        let lines = text(&String::from_utf8_lossy(&shown.stdout));
        if !shown.status.success() || lines.is_empty() {
            for line in last_lines(&log, |line| !line.contains("dbus")) {
                step::note(&format!("chromium: {line}"));
            }
            bail!("Chromium showed no page ({}); all that it said stands in {}", shown.status, log.display());
        }
        step::note(&format!("loaded in {}, and the page says:", step::human(begun.elapsed())));
        Ok(lines)
    }

    /// Lets the browser believe what Pebble signs. Each start of Pebble has another root, and the server keeps its certificates: so
    /// the roots of earlier runs count, too.
    fn trust_pebble(&self, home: &Path) -> Result<()> {
        let roots = self.path("roots");
        fs::create_dir_all(&roots).context("the roots")?;
        let url = format!("https://127.0.0.1:{}/roots/0", self.ports.management);
        let mut fetch = Command::new("curl");
        fetch.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(self.path("pebble.pem")).arg(url);
        let root = step::output(&mut fetch)?;
        let number = fs::read_dir(&roots).context("the roots")?.count();
        fs::write(roots.join(format!("{number}.pem")), root).context("Pebble's root")?;

        let store = home.join(".pki/nssdb");
        fs::create_dir_all(&store).context("a home")?;
        let database = format!("sql:{}", store.display());
        step::output(Command::new("certutil").args(["-N", "--empty-password", "-d", &database]))?;
        for root in fs::read_dir(&roots).context("the roots")? {
            let root = root.context("the roots")?;
            let name = root.file_name();
            let mut trust = Command::new("certutil");
            // `C`: an authority for servers, and for nothing else.
            trust.args(["-A", "-t", "C,,", "-d", &database, "-n"]).arg(name).arg("-i").arg(root.path());
            step::output(&mut trust)?;
        }
        Ok(())
    }
}

/// The text of a page's body, one line for each block.
fn text(page: &str) -> Vec<String> {
    let body = page.split_once("<body>").map_or("", |(_, body)| body);
    let ended = ["</h1>", "</h2>", "</li>", "</dd>"].iter().fold(body.to_owned(), |body, end| body.replace(end, "\n"));
    let blocks = ended.replace("</dt>\n", "</dt>").replace("</dt>", ": ");
    let lines = blocks.split('\n').map(|block| {
        let pieces = block.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
        pieces.collect::<String>().trim().to_owned()
    });
    lines.filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_people_read_it() {
        let page = "<html><head><title>No</title></head><body>\n<h1>Safe</h1><ul>\n<li><b>Yes:</b> it is.</li></ul>\
                    <dl><dt>Key</dt>\n<dd>X25519</dd></dl></body></html>\n";
        assert_eq!(text(page), ["Safe", "Yes: it is.", "Key: X25519"]);
        assert!(text("").is_empty());
    }
}
