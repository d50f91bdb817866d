//! From arguments to an exit code.

use crate::{
    audit_commands,
    built_in::{self, Glance, SERVER_VARIABLE},
    check,
    command_tree::{Pages, Tree, Verb},
    complete,
    exit::Exit,
    explain,
    failure::Failure,
    manual,
    output::{self, Format},
    progress,
    secret::{Secrets, Terminal},
    server_commands, session_commands, streams, trace,
};
use clap::{ArgMatches, Command};
use prost_reflect::{DynamicMessage, Value};
use std::{env, ffi::OsString, path::PathBuf, time::Duration};
use sys_client::{Client, Endpoint, SessionStore};
use sys_contract::names;
use tokio::time::timeout;

/// Pages of one list: with the least page size that anybody sets, still 10,000 records.
const MAX_PAGES: usize = 10_000;
/// Somebody waits for a completion with a finger on the key.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the program with these arguments, its own name first.
pub(crate) async fn run(arguments: Vec<OsString>) -> Exit {
    let words = arguments.get(1..).unwrap_or_default();
    if words.first().is_some_and(|word| word == complete::COMMAND) {
        return completed(words.get(1..).unwrap_or_default()).await;
    }
    let glance = Glance::over(words);
    let command = glance.command.as_deref().filter(|command| *command != "help");
    let version = command.is_none() && words.iter().any(|word| word == "--version" || word == "-V");
    if command == Some("man") {
        return manual_page(&glance, &arguments).await;
    }
    let next = glance.next.as_deref().unwrap_or_default();
    let is_built_in = |command: &str| {
        built_in::NAMES.contains(&command) || command == built_in::AUDIT && built_in::AUDIT_VERBS.contains(&next)
    };
    if version || command.is_some_and(is_built_in) {
        return parsed(built_in::command(), &Tree::default(), &arguments, None).await;
    }
    let (tree, client) = match (Asked::ask(&glance).await, command) {
        (Ok(asked), command) => match command.and_then(|noun| asked.unknown(noun, glance.next.as_deref())) {
            Some(failure) => return ended(Err(failure), None),
            None => (asked.tree, Some(asked.client)),
        },
        // Help without a server is better than none.
        (Err(failure), None) => {
            output::note(&format!("The commands of a server are missing below: {failure}.\n"));
            (Tree::default(), None)
        }
        (Err(failure), Some(_)) => return ended(Err(failure), None),
    };
    parsed(tree.command(built_in::command()), &tree, &arguments, client).await
}

/// Parses the whole command line and does what it says.
async fn parsed(command: Command, tree: &Tree, arguments: &[OsString], client: Option<Client>) -> Exit {
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return unparsed(&error),
    };
    let Some((noun, matches)) = matches.subcommand() else { return Exit::Usage };
    let (Some(client), Some((name, matches))) = (client, matches.subcommand()) else {
        return ended(built_in_command(noun, matches).await, None);
    };
    match tree.verb(noun, name) {
        Some(verb) => ended(called(verb, matches, &client).await, Some(verb)),
        None => ended(built_in_command(noun, matches).await, None),
    }
}

/// Manual pages are of the built-in commands, and of the server's where one is known.
async fn manual_page(glance: &Glance, arguments: &[OsString]) -> Exit {
    let asked = timeout(COMPLETION_TIMEOUT, Asked::ask_unseen(glance)).await.ok().and_then(Result::ok);
    let root = asked.map(|asked| asked.tree).unwrap_or_default().command(built_in::command());
    let matches = match root.clone().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return unparsed(&error),
    };
    let Some((_, matches)) = matches.subcommand() else { return Exit::Usage };
    let written = match matches.get_one::<PathBuf>("dir") {
        Some(dir) => manual::pages(root, dir),
        None => {
            let words: Vec<String> = matches.get_many("command").into_iter().flatten().cloned().collect();
            manual::page(root, &words).and_then(|page| Ok(output::print(&page)?))
        }
    };
    ended(written, None)
}

/// Help goes to standard output and mistakes to standard error; if nobody reads, nobody is told.
fn unparsed(error: &clap::Error) -> Exit {
    let _ = error.print();
    if error.exit_code() == 0 { Exit::Ok } else { Exit::Usage }
}

/// Says what went wrong, if something did.
fn ended(result: Result<(), Failure>, verb: Option<&Verb>) -> Exit {
    match result {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            output::note(&failure.report(verb));
            failure.exit()
        }
    }
}

async fn built_in_command(name: &str, matches: &ArgMatches) -> Result<(), Failure> {
    match name {
        "check" => {
            let files = |name| matches.get_many::<PathBuf>(name).into_iter().flatten().cloned().collect();
            let accept_weaker = matches.get_flag("accept-weaker");
            let check = check::Check { files: files("file"), against: files("against"), accept_weaker };
            Ok(output::print(&check::matrix(&check)?)?)
        }
        "explain" => {
            let reason = matches.get_one::<String>("reason").map(String::as_str);
            Ok(output::print(&explain::explain(reason)?)?)
        }
        "completion" => {
            let shell = matches.get_one::<String>("shell").map(String::as_str).unwrap_or_default();
            Ok(output::print(complete::script(shell))?)
        }
        built_in::AUDIT => match matches.subcommand() {
            Some((verb, matches)) => audit_command(verb, matches).await,
            None => Err(Failure::Usage(
                "no command of `sys audit` is named".to_owned(),
                "see `sys audit --help`".to_owned(),
            )),
        },
        "trust" => trust_command(matches).await,
        _ => {
            let sessions = SessionStore::from_environment(|name| env::var_os(name))?;
            let server = server(matches.get_one::<String>("server").cloned(), &sessions)?;
            match name {
                "login" => session_commands::login(matches, &server, sessions, &mut Terminal).await,
                "setup" => session_commands::setup(matches, &server, sessions, &mut Terminal).await,
                "logout" => session_commands::logout(&server, sessions).await,
                "status" => server_commands::status(&server, sessions, format(matches)).await,
                _ => session_commands::whoami(&server, sessions, format(matches)).await,
            }
        }
    }
}

async fn trust_command(matches: &ArgMatches) -> Result<(), Failure> {
    let sessions = SessionStore::from_environment(|name| env::var_os(name))?;
    match matches.subcommand() {
        Some(("list", matches)) => server_commands::list(sessions, format(matches)),
        Some((_, matches)) => {
            let url = matches.get_one::<String>("url").map(String::as_str).unwrap_or_default();
            server_commands::remove(&url.parse()?, sessions).await
        }
        None => {
            let named = matches.get_one::<String>("url").or_else(|| matches.get_one("server"));
            let server = server(named.cloned(), &sessions)?;
            server_commands::trust(matches, &server, sessions).await
        }
    }
}

async fn audit_command(verb: &str, matches: &ArgMatches) -> Result<(), Failure> {
    let sessions = SessionStore::from_environment(|name| env::var_os(name))?;
    let file = matches.try_get_one::<PathBuf>("file").ok().flatten();
    if let (true, Some(path)) = (verb == "verify", file) {
        return audit_commands::verify_file(path, sessions, format(matches));
    }
    let server = server(matches.get_one::<String>("server").cloned(), &sessions)?;
    match verb {
        "tail" => audit_commands::tail(matches, &server, sessions, format(matches)).await,
        "export" => audit_commands::export(matches, &server, sessions).await,
        _ => audit_commands::verify(matches, &server, sessions, format(matches)).await,
    }
}

/// Calls the method behind a verb and shows its answer.
async fn called(verb: &Verb, matches: &ArgMatches, client: &Client) -> Result<(), Failure> {
    if verb.is_to_watch(matches) || verb.streams() {
        return streams::run(verb, matches, client, format(matches)).await;
    }
    let mut request = verb.request(matches, &mut Terminal)?;
    let mut answer = match client.call(&verb.method, &request).await {
        Err(error) if error.asks_for_password() => {
            let password = Terminal.read("password", verb.password_from_stdin(matches))?;
            // Without anybody to ask, the server's refusal says what to do.
            client.step_up(&password.ok_or(error)?).await?;
            client.call(&verb.method, &request).await?
        }
        answered => answered?,
    };
    let Some(pages) = &verb.pages else { return Ok(output::message(&answer, format(matches))?) };
    if matches.get_flag("all") {
        add_pages(&mut answer, &mut request, verb, pages, client).await?;
    }
    output::message(&answer, format(matches))?;
    let next = pages.next(&answer);
    if !next.is_empty() && format(matches) == Format::Table {
        output::note(&format!("there is more: --all, or --page-token {next}"));
    }
    Ok(())
}

/// Reads the pages behind the first and puts all records into one answer.
async fn add_pages(
    answer: &mut DynamicMessage,
    request: &mut DynamicMessage,
    verb: &Verb,
    pages: &Pages,
    client: &Client,
) -> Result<(), Failure> {
    let count = |page: &DynamicMessage| page.get_field(&pages.items).as_list().map_or(0, <[Value]>::len);
    let records = progress::Records::begin();
    records.came(count(answer));
    let mut next = pages.next(answer);
    for _ in 1..MAX_PAGES {
        if next.is_empty() {
            answer.clear_field(&pages.next_page_token);
            return Ok(());
        }
        request.set_field(&pages.page_token, Value::String(next.clone()));
        let page = client.call(&verb.method, request).await?;
        records.came(count(&page));
        let after = pages.next(&page);
        if after == next {
            return Err(Failure::EndlessPages);
        }
        next = after;
        if let (Some(all), Value::List(more)) =
            (answer.get_field_mut(&pages.items).as_list_mut(), page.get_field(&pages.items).into_owned())
        {
            all.extend(more);
        }
    }
    Err(Failure::EndlessPages)
}

fn format(matches: &ArgMatches) -> Format {
    Format::named(matches.get_one::<String>("output").map(String::as_str))
}

/// The server that is meant: the flag, the variable, or the one that somebody is logged in to.
fn server(flag: Option<String>, sessions: &SessionStore) -> Result<Endpoint, Failure> {
    let named = flag.or_else(|| env::var(SERVER_VARIABLE).ok().filter(|url| !url.is_empty()));
    if let Some(url) = named {
        return Ok(url.parse()?);
    }
    sessions.server()?.ok_or_else(|| {
        let help =
            "name it with --server URL or the variable SYS_SERVER, or log in: sys login --server URL --email EMAIL";
        Failure::Usage("no server is known".to_owned(), help.to_owned())
    })
}

/// A server that told its commands.
struct Asked {
    client: Client,
    tree: Tree,
    logged_in: bool,
}

impl Asked {
    async fn ask(glance: &Glance) -> Result<Self, Failure> {
        Self::ask_with(glance, SessionStore::from_environment(|name| env::var_os(name))?).await
    }

    /// The same for somebody who did not ask for anything yet: nobody is to unlock his keychain for a completion.
    async fn ask_unseen(glance: &Glance) -> Result<Self, Failure> {
        Self::ask_with(glance, SessionStore::from_environment(|name| env::var_os(name))?.without_prompts()).await
    }

    async fn ask_with(glance: &Glance, sessions: SessionStore) -> Result<Self, Failure> {
        let server = server(glance.server.clone(), &sessions)?;
        let client = Client::connect(&server, sessions).await?.within(trace::of_environment());
        let tree = Tree::of(&client.descriptors().await?);
        let logged_in = client.session().await?.is_some();
        Ok(Self { client, tree, logged_in })
    }

    /// Why a noun or a verb of it is none here, if it is none, and what may have been meant. A method that the caller may
    /// not call looks like one that is not there: that is what the server says, too.
    fn unknown(&self, noun: &str, verb: Option<&str>) -> Option<Failure> {
        let (name, meant) = match (self.tree.nouns.get(noun), verb) {
            (None, _) => {
                let nouns = self.tree.nouns.keys().map(String::as_str);
                (noun.to_owned(), names::nearest(noun, nouns.chain(built_in::NAMES)))
            }
            (Some(known), Some(verb)) if !known.verbs.contains_key(verb) => {
                (format!("{noun} {verb}"), names::nearest(verb, known.verbs.keys().map(String::as_str)))
            }
            (Some(_), _) => return None,
        };
        let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        let depends = "which commands there are depends on who is logged in";
        let help = if self.logged_in {
            format!("{depends}: `sys help` lists yours, `sys whoami` shows your roles")
        } else {
            format!("{depends}, and nobody is: sys login --server {} --email EMAIL", self.client.endpoint())
        };
        Some(Failure::Usage(format!("there is no command `{name}` here"), meant + &help))
    }
}

/// Answers a shell's completion script. Whatever goes wrong, the command line is not the place to say so.
async fn completed(words: &[OsString]) -> Exit {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let glance = Glance::over(&words.iter().map(OsString::from).collect::<Vec<_>>());
    let known = glance.command.as_deref().is_some_and(|command| built_in::NAMES.contains(&command));
    let asked = if known {
        None
    } else {
        timeout(COMPLETION_TIMEOUT, Asked::ask_unseen(&glance)).await.ok().and_then(Result::ok)
    };
    let tree = asked.map(|asked| asked.tree).unwrap_or_default();
    let candidates = complete::candidates(&tree.command(built_in::command()), &words);
    let _ = output::print(&candidates.join("\n"));
    Exit::Ok
}
