//! `cargo xtask crash`: the fault rounds and the kills in numbers for which an ordinary test run has no time.
//!
//! The rounds themselves are tests of sys-store and of `tests/`; here is only how many of them run.

use crate::{root, step, tools};
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
cargo xtask crash [--rounds N] [--from SEED] [--kill N]

Runs the store on a simulated disk that loses power, fills up, fails, takes no more writes or flips bits, and kills real
servers while people write to them. Nothing acknowledged may be lost, and indexes must agree with records. With neither
--rounds nor --kill it runs both, 2,000 rounds of each kind and 200 kills.

  --rounds N    rounds of each kind on the simulated disk; the same seed gives the same round
  --from SEED   the seed of the first round (0 if nothing is said): with --rounds 1, one that failed
  --kill N      kills of a server, and as many of a process that writes to the store alone";

const ROUNDS: u64 = 2_000;
const KILLS: u64 = 200;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    rounds: Option<u64>,
    from: Option<u64>,
    kills: Option<u64>,
}

/// `cargo xtask crash`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let wanted = Wanted::read(arguments)?;
    tools::for_build()?;
    if let Some(rounds) = wanted.rounds {
        let name = format!("{rounds} rounds of each kind");
        let (done, took) = step::timed(&name, "a disk that fails, seeded", || {
            let mut cargo = test("sys-store", &["--lib", "faults"]);
            cargo.env("SYS_FAULT_ROUNDS", rounds.to_string());
            step::run(cargo.env("SYS_FAULT_FROM", wanted.from.unwrap_or(0).to_string()))
        });
        done?;
        step::note(&step::human(took));
    }
    if let Some(kills) = wanted.kills {
        for (package, target) in [("sys-store", "crash"), ("sys-tests", "promises")] {
            let (done, took) = step::timed(&format!("{kills} kills, {package}"), "kill -9 while it writes", || {
                let filter = if target == "promises" { "kills" } else { "an_acknowledged_commit" };
                step::run(test(package, &["--test", target, filter]).env("SYS_KILL_ROUNDS", kills.to_string()))
            });
            done?;
            step::note(&step::human(took));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn test(package: &str, what: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--package", package]).args(what).args(["--", "--nocapture"]).current_dir(root());
    cargo
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let place = match argument.as_str() {
                "--rounds" => &mut wanted.rounds,
                "--from" => &mut wanted.from,
                "--kill" => &mut wanted.kills,
                other => bail!("`{other}` is not understood: --help says what is"),
            };
            let number = rest.next().with_context(|| format!("{argument} needs a number"))?;
            *place = Some(number.parse().with_context(|| format!("{argument} needs a number, not `{number}`"))?);
        }
        if wanted.from.is_some() && wanted.rounds.is_none() {
            bail!("--from says with which seed --rounds begins: name both");
        }
        if wanted.rounds.is_none() && wanted.kills.is_none() {
            (wanted.rounds, wanted.kills) = (Some(ROUNDS), Some(KILLS));
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused() {
        let read = |text: &str| Wanted::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).ok();
        let wanted = |rounds, from, kills| Some(Wanted { rounds, from, kills });
        assert_eq!(read(""), wanted(Some(ROUNDS), None, Some(KILLS)));
        assert_eq!(read("--rounds 5 --from 7"), wanted(Some(5), Some(7), None));
        assert_eq!(read("--kill 3"), wanted(None, None, Some(3)));
        for wrong in ["--rounds", "--rounds x", "--from 3", "--kill -1", "5", "--kills 5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
