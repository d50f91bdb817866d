//! Running other programs: what is run and why is said first, and how long it took afterwards.
//!
//! Progress goes to standard error, so that standard output holds what a command was asked for.

use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Announces a step: its name and what it is for.
pub(crate) fn announce(name: &str, why: &str) {
    eprintln!("\n==> {name}: {why}");
}

/// Says something within a step.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}

/// Runs a program to its end; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    note(&format!("$ {}", shown(command)));
    let status = command.stdin(Stdio::null()).status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a program and returns what it prints to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print text", shown(command)))
}

/// Runs a program, shows what it prints to standard output line by line, and hands each line to `see` as well. Whether it
/// succeeded is the result.
pub(crate) fn watch(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    note(&format!("$ {}", shown(command)));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| cannot_start(command))?;
    let lines = child.stdout.take().context("the program's output is not connected")?;
    for line in BufReader::new(lines).split(b'\n') {
        let line = line.context("reading the program's output")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        see(&line);
    }
    Ok(child.wait().context("waiting for the program")?.success())
}

/// A duration as people say it.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// Runs a step and says how long it took.
pub(crate) fn timed<T>(name: &str, why: &str, step: impl FnOnce() -> T) -> (T, Duration) {
    announce(name, why);
    let start = Instant::now();
    let result = step();
    (result, start.elapsed())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("`{}` cannot be started", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(human(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(human(Duration::from_secs(605)), "10 min 05 s");
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        assert!(run(&mut Command::new("true")).is_ok());
        assert!(run(&mut Command::new("false")).is_err());
        assert!(run(&mut Command::new("no-such-program-here")).is_err());
        let mut seen = Vec::new();
        let ok =
            watch(Command::new("sh").args(["-c", "echo one; echo two; exit 3"]), |line| seen.push(line.to_owned()));
        assert!(matches!(ok, Ok(false)));
        assert_eq!(seen, ["one", "two"]);
    }
}
