//! `cargo xtask`: the one entry for people and for CI.
//!
//! What lives here: the order of the steps, what each is for, and the installing of what they need. What must never happen
//! here: something that the product does itself (that belongs into `sys-server` or `sys`), or a write outside `target/`,
//! the paths that git ignores, and the files that a command says it writes.

mod bench;
mod boringssl;
mod buf;
mod check;
mod crash;
mod demo;
mod fuzz;
mod layers;
mod organisation;
mod package;
mod step;
mod tools;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

const HELP: &str = "\
cargo xtask COMMAND

  demo            start a server with an organisation in it and say what to try
  test            everything that must pass: lint, all tests, the peers
  lint            format, layers, clippy, dependencies, protos
  prepare         make plain `cargo build` possible: what it needs, and BoringSSL
  layers          which crate may use which
  bench           measure and rewrite the tables in docs/benchmarks.md
  crash           failing disks and killed servers, in large numbers
  fuzz            look for inputs that break a promise
  package         the Debian package
  generate-demo   write demo/bootstrap.yaml, the demo's invented organisation
  help            this text

`cargo xtask COMMAND --help` says more. What a command needs and the machine lacks is installed on Debian and Ubuntu;
elsewhere the command says what to install.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        let _ = say(HELP);
        return Ok(ExitCode::FAILURE);
    };
    // Behind `--` stand the server's arguments, its own `--help` among them.
    let asks_for_help = rest.iter().take_while(|argument| *argument != "--").any(|a| a == "--help" || a == "-h");
    let command: fn(&[String]) -> Result<ExitCode> = match (command.as_str(), asks_for_help) {
        ("help" | "--help" | "-h", _) => |_| Ok(say(HELP)),
        ("demo", true) => |_| Ok(say(demo::HELP)),
        ("test", true) => |_| Ok(say(check::TEST_HELP)),
        ("lint", true) => |_| Ok(say(check::LINT_HELP)),
        ("prepare", true) => |_| Ok(say(tools::HELP)),
        ("layers", true) => |_| Ok(say(layers::HELP)),
        ("bench", true) => |_| Ok(say(bench::HELP)),
        ("crash", true) => |_| Ok(say(crash::HELP)),
        ("fuzz", true) => |_| Ok(say(fuzz::HELP)),
        ("package", true) => |_| Ok(say(package::HELP)),
        ("generate-demo", true) => |_| Ok(say(organisation::HELP)),
        ("demo", false) => demo::run,
        ("test", false) => check::test,
        ("lint", false) => check::lint,
        ("prepare", false) => tools::prepare,
        ("layers", false) => layers::run,
        ("bench", false) => bench::run,
        ("crash", false) => crash::run,
        ("fuzz", false) => fuzz::run,
        ("package", false) => package::run,
        ("generate-demo", false) => organisation::run,
        (other, _) => bail!("there is no command `{other}`; `cargo xtask help` lists them"),
    };
    command(rest)
}

#[allow(clippy::print_stdout, reason = "what a command is asked for goes to standard output")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

/// The root of the workspace. Asked of cargo at run time: a work tree that was moved keeps its built xtask.
fn root() -> PathBuf {
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or(xtask.clone(), PathBuf::from)
}

/// Where cargo puts what it builds.
fn target_dir() -> Result<PathBuf> {
    let mut metadata = Command::new("cargo");
    metadata.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root());
    let metadata: Value = serde_json::from_str(&step::output(&mut metadata)?)?;
    let target = metadata.get("target_directory").and_then(Value::as_str).context("cargo names no target directory")?;
    Ok(target.into())
}

/// Refuses arguments of a command that takes none.
fn no_arguments(arguments: &[String]) -> Result<()> {
    if let Some(argument) = arguments.first() {
        bail!("`{argument}` is not understood: this command takes no arguments");
    }
    Ok(())
}
