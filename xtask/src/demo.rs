//! The demo: one server on loopback with an organisation in it.
//!
//! Prepares the machine and a data directory, builds, and then becomes the server: on Unix this process is replaced by it,
//! so that Ctrl-C, signals and the exit code are the server's own. What it prints of the import, the setup command and
//! the `ready` line comes from the server.

mod edge;

use crate::{root, step, target_dir, tools};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf, absolute},
    process::{Command, ExitCode},
};

pub(crate) const HELP: &str = "\
cargo xtask demo [--data-dir DIR] [--port N] [--bootstrap FILE] [--reset] [-- SERVER ARGUMENTS]
cargo xtask demo --edge [--once] [--data-dir DIR] [--reset]

Installs what is missing, builds, and starts one server on loopback with an embedded sealed store and the module
mod-notes. The first start imports an organisation; later starts find it there and import nothing twice. Ctrl-C stops it.

  --data-dir DIR     where the data lives (default: .demo in the work tree)
  --port N           the port on 127.0.0.1 (default: 8443)
  --bootstrap FILE   the organisation to import (default: demo/bootstrap.yaml)
  --reset            delete the demo's data first; a directory that the demo did not make is never deleted
  -- ARGUMENTS       handed to the server as they are

With --edge the server has a domain: a certificate authority on this machine (Pebble) issues for it, its zone is signed, and
Chromium loads a page of it through our DNS over HTTPS, with the name encrypted. Data lies in .demo-edge by default.

  --once             ends when all of that was seen, or fails

The key that opens the demo's data lies beside it in danger-master.key: fine for a demo, dangerous for anything else.";

/// The file by which the demo knows a directory that it made.
const MARKER: &str = ".made-by-cargo-xtask-demo";
const DEFAULT_PORT: u16 = 8443;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    data_dir: PathBuf,
    port: u16,
    bootstrap: PathBuf,
    reset: bool,
    edge: bool,
    once: bool,
    server_arguments: Vec<String>,
}

/// `cargo xtask demo`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = parse(arguments)?;
    if options.edge {
        return edge::run(&options, options.once);
    }
    // Before the long build, so that a mistyped name costs seconds.
    let bootstrap = fs::canonicalize(&options.bootstrap)
        .with_context(|| format!("the organisation to import: {}", options.bootstrap.display()))?;
    if options.reset {
        step::announce("reset", "the demo starts over");
        reset(&options.data_dir)?;
    }
    step::announce("data", "a directory that only you can read");
    prepare(&options.data_dir)?;
    step::announce("build", "the server and `sys`, its command line (the first time takes minutes)");
    tools::for_build()?;
    step::run(Command::new("cargo").args(["build", "-p", "sys-server", "-p", "sys-cli"]).current_dir(root()))?;
    step::announce("start", "the server takes over from here; Ctrl-C stops it");
    become_server(server(&options, &bootstrap)?)
}

fn parse(arguments: &[String]) -> Result<Options> {
    let is_edge = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--edge");
    let mut options = Options {
        data_dir: root().join(if is_edge { ".demo-edge" } else { ".demo" }),
        port: DEFAULT_PORT,
        bootstrap: root().join("demo/bootstrap.yaml"),
        reset: false,
        edge: is_edge,
        once: false,
        server_arguments: Vec::new(),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, glued) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let mut value =
            || glued.clone().or_else(|| arguments.next().cloned()).with_context(|| format!("{name} needs a value"));
        match name {
            "--data-dir" => options.data_dir = absolute(value()?).context("--data-dir")?,
            "--port" => options.port = value()?.parse().context("--port is a number up to 65535")?,
            "--bootstrap" => options.bootstrap = absolute(value()?).context("--bootstrap")?,
            "--reset" if glued.is_none() => options.reset = true,
            "--edge" if glued.is_none() => {}
            "--once" if glued.is_none() && is_edge => options.once = true,
            "--" => options.server_arguments.extend(arguments.by_ref().cloned()),
            _ => bail!("`{argument}` is not understood: --help says what is"),
        }
    }
    Ok(options)
}

/// Makes the data directory, or takes one that an earlier run made. A directory with other things in it is left alone.
fn prepare(data_dir: &Path) -> Result<()> {
    let marker = data_dir.join(MARKER);
    match fs::symlink_metadata(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
        }
        Err(error) => return Err(error).with_context(|| format!("looking at {}", data_dir.display())),
        Ok(_) if marker.is_file() => {}
        Ok(metadata) => {
            let empty = metadata.is_dir() && fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                bail!("{} is not the demo's: name an empty or new directory with --data-dir", data_dir.display());
            }
        }
    }
    #[cfg(unix)]
    fs::set_permissions(data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .context("closing the data directory")?;
    fs::write(&marker, "`cargo xtask demo --reset` deletes this directory.\n").context("marking the data directory")?;
    step::note(&data_dir.display().to_string());
    Ok(())
}

/// Deletes a directory that the demo made, and no other.
fn reset(data_dir: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            step::note("there is nothing to delete");
            return Ok(());
        }
        found => found.with_context(|| format!("looking at {}", data_dir.display()))?,
    };
    let marked = fs::symlink_metadata(data_dir.join(MARKER)).is_ok_and(|marker| marker.is_file());
    if !metadata.is_dir() || !marked {
        bail!(
            "{} was not made by the demo, so it is not deleted: delete it by hand if that is meant",
            data_dir.display()
        );
    }
    for entry in fs::read_dir(data_dir).context("looking into the data directory")? {
        let path = entry.context("looking into the data directory")?.path();
        // The server locks the files that it works on.
        if let Ok(file) = File::open(&path)
            && let Err(TryLockError::WouldBlock) = file.try_lock()
        {
            bail!("a server is running on {}: stop it first", data_dir.display());
        }
    }
    fs::remove_dir_all(data_dir).with_context(|| format!("deleting {}", data_dir.display()))?;
    step::note(&format!("deleted {}", data_dir.display()));
    Ok(())
}

fn server(options: &Options, bootstrap: &Path) -> Result<Command> {
    let with_path = |flag: &str, path: PathBuf| [OsString::from(flag), path.into_os_string()];
    let mut server = Command::new(target_dir()?.join("debug/sys-server"));
    server.arg("run").args(["--listen", &format!("127.0.0.1:{}", options.port)]);
    server.args(with_path("--data-dir", options.data_dir.clone()));
    server.args(with_path("--danger-key-file", options.data_dir.join("danger-master.key")));
    server.args(with_path("--module", root().join("modules/mod-notes")));
    server.args(with_path("--bootstrap", bootstrap.to_owned()));
    server.args(with_path("--outbox-dir", options.data_dir.join("outbox")));
    server.args(&options.server_arguments);
    Ok(server)
}

#[cfg(unix)]
fn become_server(mut server: Command) -> Result<ExitCode> {
    Err(std::os::unix::process::CommandExt::exec(&mut server)).context("starting the server")
}

#[cfg(not(unix))]
fn become_server(mut server: Command) -> Result<ExitCode> {
    let status = server.status().context("starting the server")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test's own under the build's, gone at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn parse_words(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let given =
            parse_words("--port=9000 --data-dir /d --bootstrap /b.yaml --reset -- --log debug --reset").unwrap();
        assert_eq!((given.port, given.data_dir.as_path(), given.reset), (9000, Path::new("/d"), true));
        assert_eq!(given.bootstrap, Path::new("/b.yaml"));
        assert_eq!(given.server_arguments, ["--log", "debug", "--reset"]);
        assert_eq!(parse_words("").unwrap().port, DEFAULT_PORT);
        for wrong in ["--port", "--port 65536", "--port x", "--resett", "--reset=yes", "now"] {
            assert!(parse_words(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reset_deletes_only_what_the_demo_made() {
        let scratch = Scratch::new("reset");
        let made = scratch.0.join("made");
        prepare(&made).unwrap();
        prepare(&made).expect("a second run takes the first one's directory");
        fs::write(made.join("store"), "data").unwrap();
        reset(&made).unwrap();
        assert!(!made.exists());
        reset(&made).expect("nothing to delete is fine");

        let foreign = scratch.0.join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis"), "years of work").unwrap();
        assert!(prepare(&foreign).is_err() && reset(&foreign).is_err());
        assert!(foreign.join("thesis").exists());
    }

    #[cfg(unix)]
    #[test]
    fn reset_follows_no_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let scratch = Scratch::new("link");
        let made = scratch.0.join("made");
        prepare(&made).unwrap();
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        let link = scratch.0.join("link");
        symlink(&made, &link).unwrap();
        assert!(reset(&link).is_err());
        assert!(made.exists());

        let elsewhere = scratch.0.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(made.join(MARKER), elsewhere.join(MARKER)).unwrap();
        assert!(reset(&elsewhere).is_err());
    }

    #[test]
    fn reset_leaves_a_running_server_alone() {
        let scratch = Scratch::new("running");
        let made = scratch.0.join("made");
        prepare(&made).unwrap();
        let store = File::create(made.join("store")).unwrap();
        store.lock().unwrap();
        assert!(reset(&made).is_err());
        assert!(made.join("store").exists());
    }
}
