//! The commands that are there before any server is asked, and the flags that all commands have.

use crate::{exit, output::Format, secret::SecretError};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::{ffi::OsString, net::IpAddr};
use sys_client::{Fingerprint, Told, Wish, ech::ConfigList};

/// The variable that names the server where no flag does.
pub(crate) const SERVER_VARIABLE: &str = "SYS_SERVER";

/// Commands that need no descriptors.
pub(crate) const NAMES: [&str; 10] =
    ["check", "completion", "explain", "login", "logout", "man", "setup", "status", "trust", "whoami"];

/// The noun of the audit log. The server has commands for it, too.
pub(crate) const AUDIT: &str = "audit";
/// Its commands that are always there.
pub(crate) const AUDIT_VERBS: [&str; 3] = ["export", "tail", "verify"];

/// Over the flags that all commands have.
const GLOBAL_HEADING: &str = "Options of all commands";

const ABOUT: &str = "Talks to a sys server";
const LONG_ABOUT: &str = "\
Talks to a sys server. Besides the commands that are always there, its commands are those that the server lets you \
call: `sys NOUN VERB`, such as `sys org list`. They appear once a server is known: log in, or name one with --server.

Whoever traces what he does sets TRACEPARENT, as for other programs (W3C Trace Context), and TRACESTATE: calls then say that they \
belong to his trace.";

/// The program without any server's commands.
pub(crate) fn command() -> Command {
    Command::new("sys")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(exit::HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args([server(), output()])
        .subcommands([
            login(),
            setup(),
            logout(),
            whoami(),
            status(),
            trust(),
            audit(),
            check(),
            completion(),
            explain(),
            man(),
        ])
}

fn server() -> Arg {
    Arg::new("server")
        .long("server")
        .global(true)
        .help_heading(GLOBAL_HEADING)
        .value_name("URL")
        .help("The server; else the variable SYS_SERVER, else the one that you are logged in to")
}

fn output() -> Arg {
    Arg::new("output")
        .long("output")
        .global(true)
        .help_heading(GLOBAL_HEADING)
        .value_name("FORMAT")
        .value_parser(Format::NAMES)
        .help("How answers are shown; a table on a terminal and json otherwise")
}

fn login() -> Command {
    Command::new("login")
        .about("Logs in and keeps the session")
        .args([email(), device_name(), store(), authority(), address()])
        .args(secret("password", "Your password"))
        .arg(
            Arg::new("trust-audit-anew")
                .long("trust-audit-anew")
                .action(ArgAction::SetTrue)
                .help("Believes the audit logs as they are now, although they are not what they were; the kept heads are set aside"),
        )
        .after_help("Examples:\n  sys login --server https://example.org --email me@example.org")
}

fn setup() -> Command {
    Command::new("setup")
        .about("Makes the first superadmin with the one-time token that the server printed, and logs in")
        .args(secret("token", "The one-time token"))
        .args([email(), device_name(), store(), authority(), address()])
        .arg(Arg::new("display-name").long("display-name").value_name("TEXT").help("How others see you"))
        .args(secret("password", "The password to set"))
        .after_help("Examples:\n  sys setup --server https://example.org --email me@example.org")
}

fn audit() -> Command {
    let org = || {
        let help = "The org whose log is meant; else that of the server";
        Arg::new("org-id").long("org-id").value_name("ORG_ID").help(help)
    };
    let seconds = |name| Arg::new(name).long(name).value_parser(clap::value_parser!(u64));
    let path =
        || Arg::new("file").long("file").value_name("FILE").value_parser(clap::value_parser!(std::path::PathBuf));
    Command::new(AUDIT)
        .about("Reads the audit logs and checks them")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("tail")
                .about("Shows the last entries of a log, then each that comes, until it is interrupted")
                .arg(org())
                .arg(seconds("lines").value_name("COUNT").default_value("10").help("How many entries to begin with"))
                .arg(
                    seconds("interval")
                        .value_name("SECONDS")
                        .default_value("5")
                        .value_parser(clap::value_parser!(u64).range(1..=3_600))
                        .help("How often to look; each look is an entry of the log itself, which is not shown"),
                )
                .after_help("Examples:\n  sys audit tail --org-id ORG_ID"),
        )
        .subcommand(
            Command::new("verify")
                .about("Reads a whole log and checks it against its signed head and the head that is kept here")
                .arg(org())
                .arg(
                    path()
                        .conflicts_with("org-id")
                        .help("Checks this file, which `sys audit export` wrote, without a server"),
                )
                .after_help("Examples:\n  sys audit verify --org-id ORG_ID\n  sys audit verify --file audit.jsonl"),
        )
        .subcommand(
            Command::new("export")
                .about("Writes a whole log with its signed head as lines of JSON")
                .arg(org())
                .arg(path().required(true).help("Where to; a file that is there is replaced"))
                .after_help("Examples:\n  sys audit export --org-id ORG_ID --file audit.jsonl"),
        )
}

fn logout() -> Command {
    Command::new("logout").about("Ends the session")
}

fn whoami() -> Command {
    Command::new("whoami").about("Shows who is logged in, and with which roles")
}

fn status() -> Command {
    Command::new("status")
        .about("Shows how the connection to the server is protected")
        .after_help("Examples:\n  sys status\n  sys status --server https://example.org --output json")
}

fn trust() -> Command {
    let url = || Arg::new("url").value_name("URL");
    Command::new("trust")
        .about("Says whom to believe that a server is the right one, and how to reach it")
        .long_about(
            "Says whom to believe that a server is the right one, and how to reach it. A certificate of a public authority needs no word \
             of yours. For one of a private authority, give the fingerprint of the authority's own certificate, as the server \
             prints it at its start: it is asked for over TLS, believed if its fingerprint is that one, and then for this server \
             alone. There is no way to connect without a check.",
        )
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .args([url().help("The server; else the one of --server"), authority(), address()])
        .arg(
            Arg::new("ech")
                .long("ech")
                .value_name("WHEN")
                .value_parser(["preferred", "required"])
                .help("Whether the server's name is hidden from the network where that is possible, or else no connection is made"),
        )
        .arg(
            Arg::new("ech-config")
                .long("ech-config")
                .value_name("BASE64")
                .value_parser(clap::value_parser!(ConfigList))
                .help("The server's ECH keys, so that not even the first connection shows its name: `ech` of its HTTPS record"),
        )
        .subcommand(Command::new("list").about("Lists the servers that something is kept of"))
        .subcommand(
            Command::new("remove")
                .about("Forgets a server: its private authorities, its address and its ECH keys")
                .arg(url().required(true).help("The server"))
                .after_help("Examples:\n  sys trust remove https://example.org"),
        )
        .after_help(
            "Examples:\n  sys trust https://example.org --ca sha256:HEX\n  sys trust https://example.org --ech required\n  sys trust list",
        )
}

fn check() -> Command {
    let file = |name| Arg::new(name).value_name("FILE").value_parser(clap::value_parser!(std::path::PathBuf));
    Command::new("check")
        .about("Checks a contract offline and shows who may do what")
        .long_about(
            "Checks .proto files as a server would when it loads them. Says what is unsafe, with file, line and what to \
             write instead; or prints the matrix of who may do what, to be reviewed when rules change. Imported files \
             are found beside the given ones. With --against, what has changed since an earlier version is judged, too: what \
             stored records would not survive, and what protects less than before.",
        )
        .arg(file("file").required(true).num_args(1..).help("A .proto file"))
        .arg(file("against").long("against").action(ArgAction::Append).help("A .proto file of the version before"))
        .arg(
            Arg::new("accept-weaker")
                .long("accept-weaker")
                .requires("against")
                .action(ArgAction::SetTrue)
                .help("What protects less than before is meant: it is shown, and refused no more"),
        )
        .after_help(
            "Examples:\n  sys check modules/mod-notes/notes/v1/notes.proto\n  sys check new/notes/v1/notes.proto --against old/notes/v1/notes.proto",
        )
}

fn completion() -> Command {
    Command::new("completion")
        .about("Prints a script that completes commands in a shell")
        .arg(Arg::new("shell").required(true).value_parser(["bash", "zsh", "fish"]).help("The shell"))
        .after_help("Examples:\n  source <(sys completion bash)")
}

fn explain() -> Command {
    Command::new("explain")
        .about("Explains a reason that a server refuses with, or lists all of them")
        .arg(Arg::new("reason").value_name("REASON").help("What stands behind the error, such as METHOD_REFUSED"))
        .after_help("Examples:\n  sys explain METHOD_REFUSED")
}

fn man() -> Command {
    Command::new("man")
        .about("Prints the manual page of a command, or writes those of all commands into a folder")
        .arg(
            Arg::new("command")
                .num_args(0..)
                .value_name("COMMAND")
                .help("The command, such as `org list`; else the program"),
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .conflicts_with("command")
                .value_parser(clap::value_parser!(std::path::PathBuf))
                .help("Writes one page for each command into this folder"),
        )
        .after_help("Examples:\n  sys man org list | man -l -\n  sys man --dir ~/.local/share/man/man1")
}

fn email() -> Arg {
    Arg::new("email").long("email").required(true).value_name("EMAIL").help("The account's e-mail address")
}

fn device_name() -> Arg {
    Arg::new("device-name")
        .long("device-name")
        .value_name("TEXT")
        .help("How the session is called in your list of sessions; else this machine's name")
}

fn store() -> Arg {
    Arg::new("store")
        .long("store")
        .value_name("PLACE")
        .value_parser(["keychain", "file"])
        .help("Where the session is kept; else in the system's keychain if one can be used, and in a file otherwise")
}

fn authority() -> Arg {
    Arg::new("ca").long("ca").value_name("sha256:HEX").value_parser(clap::value_parser!(Fingerprint)).help(
        "The fingerprint of the private authority that vouches for the server, believed for this server from now on",
    )
}

fn address() -> Arg {
    Arg::new("at")
        .long("at")
        .value_name("ADDRESS")
        .value_parser(clap::value_parser!(IpAddr))
        .help("The server's address, from now on, instead of what DNS says; its certificate must be for its name all the same")
}

/// What is said of the server.
pub(crate) fn told(matches: &ArgMatches) -> Told {
    // Not all commands have all of these.
    let ech_required = matches.try_get_one::<String>("ech").ok().flatten().map(|when| when == "required");
    Told {
        authority: matches.get_one("ca").copied(),
        address: matches.get_one("at").copied(),
        ech_required,
        ech_configs: matches.try_get_one("ech-config").ok().flatten().cloned(),
    }
}

/// Where the session is to be kept.
pub(crate) fn wish(matches: &ArgMatches) -> Wish {
    match matches.get_one::<String>("store").map(String::as_str) {
        Some("keychain") => Wish::Keychain,
        Some(_) => Wish::File,
        None => Wish::Best,
    }
}

/// Where a secret comes from; and the flag that many expect, there to be refused with the reason.
fn secret(name: &'static str, help: &'static str) -> [Arg; 2] {
    let stdin = format!("{name}-stdin");
    [
        Arg::new(stdin.clone())
            .long(stdin)
            .action(ArgAction::SetTrue)
            .help(format!("{help} comes as a line of standard input; else you are asked")),
        // One token in 64 begins with a dash.
        Arg::new(name)
            .long(name)
            .hide(true)
            .num_args(0..=1)
            .allow_hyphen_values(name == "token")
            .default_missing_value(""),
    ]
}

/// Refuses these secrets on the command line.
pub(crate) fn none_in_arguments(matches: &ArgMatches, secrets: &[&'static str]) -> Result<(), SecretError> {
    match secrets.iter().find(|name| matches.contains_id(name)) {
        Some(name) => Err(SecretError::OnCommandLine { name }),
        None => Ok(()),
    }
}

/// What stands on a command line before it can be parsed, since its commands are not known yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The value of `--server`.
    pub(crate) server: Option<String>,
    /// The first word that is no flag.
    pub(crate) command: Option<String>,
    /// The next word that is no flag: the verb, since a noun has no flags of its own.
    pub(crate) next: Option<String>,
}

impl Glance {
    /// Looks over the arguments after the program's name. What is no UTF-8 is left for the parser to refuse.
    pub(crate) fn over(arguments: &[OsString]) -> Self {
        let mut glance = Self::default();
        let mut words = arguments.iter().map(|word| word.to_str().unwrap_or_default());
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("--server", url)) => glance.server = Some(url.to_owned()),
                _ if word == "--server" => glance.server = words.next().map(str::to_owned),
                _ if word == "--output" => drop(words.next()),
                _ if word == "--" => break,
                _ if word.starts_with('-') => {}
                _ if glance.command.is_none() => glance.command = Some(word.to_owned()),
                _ if glance.next.is_none() => glance.next = Some(word.to_owned()),
                _ => {}
            }
        }
        glance
    }
}

/// How this machine is called, for the list of sessions.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "sys".to_owned() } else { format!("sys on {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, server: Option<&str>, command: &[&str]) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let word = |index: usize| command.get(index).map(|word| (*word).to_owned());
        let expect = Glance { server: server.map(str::to_owned), command: word(0), next: word(1) };
        assert_eq!(Glance::over(&words), expect, "{line}");
    }

    #[test]
    fn the_server_and_the_command_are_found_wherever_they_stand() {
        check("", None, &[]);
        check("org list", None, &["org", "list"]);
        check("org list --server http://a", Some("http://a"), &["org", "list"]);
        check("org --server http://a list x", Some("http://a"), &["org", "list"]);
        check("--server=http://a --output json org", Some("http://a"), &["org"]);
        check("--output=json --server", None, &[]);
        check("--help", None, &[]);
        check("-- org", None, &[]);
    }

    #[test]
    fn the_command_line_is_consistent_and_names_every_built_in_command() {
        let command = command();
        command.clone().debug_assert();
        let mut names: Vec<&str> =
            command.get_subcommands().map(Command::get_name).filter(|name| *name != AUDIT).collect();
        names.sort_unstable();
        assert_eq!(names, NAMES);
        for name in NAMES {
            assert!(sys_contract::names::RESERVED_NOUNS.contains(&name), "{name} could be a noun");
        }
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused() {
        let check = |line: &str, expect: Option<&str>| {
            let words = format!("sys setup --email a@example.org {line}");
            let matches = command().try_get_matches_from(words.split_whitespace()).expect("parsed");
            let (_, setup) = matches.subcommand().expect("setup");
            let refused = none_in_arguments(setup, &["token", "password"]).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref().and_then(|error| error.split(' ').nth(1)), expect, "{line}");
        };
        check("", None);
        check("--token-stdin --password-stdin", None);
        for line in ["--password secret", "--password=secret", "--password"] {
            check(line, Some("password"));
        }
        for line in ["--token once", "--token=once", "--token -aLf", "--token"] {
            check(line, Some("token"));
        }
    }
}
