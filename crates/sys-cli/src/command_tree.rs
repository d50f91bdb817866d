//! The commands of a server: `sys <noun> <verb>` for each method that its caller may be allowed to call.
//!
//! Nothing here is known before the server is asked: nouns are services, verbs their methods, help their comments.

use crate::{
    built_in,
    flags::{Flag, Flags, Given},
    options::Options,
    plain,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, ServiceDescriptor};
use std::collections::BTreeMap;
use sys_client::{auth, descriptors::GET_DESCRIPTORS};
use sys_contract::{comment_of, names};

/// Methods with a command of their own, which keeps their tokens off the screen, or that commands call by themselves; and the
/// one that all commands come from.
const HIDDEN: [&str; 7] =
    [auth::LOGIN, auth::REFRESH, auth::LOGOUT, auth::SETUP, auth::STEP_UP, auth::WHO_AM_I, GET_DESCRIPTORS];

/// The flag of lists that shows changes.
const WATCH: &str = "watch";
/// The flag of commands that may ask for the password again.
const PASSWORD_STDIN: &str = "password-stdin";

/// The nouns of a server.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nouns: BTreeMap<String, Noun>,
}

/// A service.
#[derive(Debug)]
pub(crate) struct Noun {
    about: String,
    pub(crate) verbs: BTreeMap<String, Verb>,
}

/// A method.
#[derive(Debug)]
pub(crate) struct Verb {
    comment: String,
    pub(crate) method: MethodDescriptor,
    pub(crate) flags: Flags,
    /// Where a list has its pages.
    pub(crate) pages: Option<Pages>,
    /// What a watch of records says; of a list, the method that watches what it lists.
    pub(crate) watch: Option<Watch>,
    /// Whether the server may ask for the password again.
    steps_up: bool,
}

/// The fields by which a list is read page by page (AIP-158).
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    pub(crate) page_token: FieldDescriptor,
    pub(crate) next_page_token: FieldDescriptor,
    pub(crate) items: FieldDescriptor,
}

/// A method that tells what is new among records, and where its messages say it.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) method: MethodDescriptor,
    pub(crate) event: FieldDescriptor,
    pub(crate) id: FieldDescriptor,
    /// The record.
    pub(crate) item: FieldDescriptor,
    pub(crate) resume_token: FieldDescriptor,
    /// Where the request goes on from a token.
    pub(crate) from: FieldDescriptor,
}

impl Tree {
    /// The commands in these pools, one pool for each module. The server lets no two modules have one noun; should it
    /// happen all the same, the first keeps it, and none takes a command of the CLI's own.
    pub(crate) fn of(pools: &[DescriptorPool]) -> Self {
        let mut tree = Self::default();
        for pool in pools {
            let options = Options::of(pool);
            for service in pool.services() {
                let noun = names::noun(service.name());
                if is_word(&noun) && !names::RESERVED_NOUNS.contains(&noun.as_str()) {
                    tree.nouns.entry(noun.clone()).or_insert_with(|| Noun::of(&service, &noun, &options));
                }
            }
        }
        tree.nouns.retain(|_, noun| !noun.verbs.is_empty());
        tree
    }

    /// The command line of these commands beside the built-in ones.
    pub(crate) fn command(&self, built_in: Command) -> Command {
        self.nouns.iter().fold(built_in, |root, (name, noun)| {
            if name != built_in::AUDIT {
                return root.subcommand(noun.command(name));
            }
            // The commands of the server join those that are always there.
            root.mut_subcommand(name, |audit| {
                let verbs = noun.verbs.iter().filter(|(verb, _)| !built_in::AUDIT_VERBS.contains(&verb.as_str()));
                audit.subcommands(verbs.map(|(verb, method)| method.command(name, verb)))
            })
        })
    }

    /// The method behind `sys NOUN VERB`.
    pub(crate) fn verb(&self, noun: &str, verb: &str) -> Option<&Verb> {
        self.nouns.get(noun)?.verbs.get(verb)
    }
}

/// Names come from the server; they end up in shells.
fn is_word(name: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.chars().all(letters)
}

impl Noun {
    fn of(service: &ServiceDescriptor, noun: &str, options: &Options) -> Self {
        let mut verbs = BTreeMap::new();
        for method in service.methods() {
            let path = format!("{}/{}", service.full_name(), method.name());
            let name = names::verb(method.name(), noun);
            if is_word(&name) && name != "help" && !HIDDEN.contains(&path.as_str()) {
                verbs.entry(name).or_insert_with(|| Verb::of(&method, options));
            }
        }
        let watches: Vec<Watch> = verbs.values().filter_map(|verb| verb.watch.clone()).collect();
        for verb in verbs.values_mut().filter(|verb| verb.watch.is_none()) {
            let items = verb.pages.as_ref().map(|pages| pages.items.kind());
            verb.watch = watches.iter().find(|watch| Some(watch.item.kind()) == items).cloned();
        }
        Self { about: plain::lines(&comment_of(service)), verbs }
    }

    fn command(&self, name: &str) -> Command {
        Command::new(name.to_owned())
            .about(summary(&self.about))
            .long_about(self.about.clone())
            .subcommand_required(true)
            .arg_required_else_help(true)
            .disable_help_subcommand(true)
            .subcommands(self.verbs.iter().map(|(verb, method)| method.command(name, verb)))
    }
}

impl Verb {
    fn of(method: &MethodDescriptor, options: &Options) -> Self {
        Self {
            comment: plain::lines(&comment_of(method)),
            method: method.clone(),
            flags: Flags::of(method, options),
            pages: Pages::of(method),
            watch: Watch::of(method, options),
            steps_up: options.steps_up(method),
        }
    }

    fn command(&self, noun: &str, verb: &str) -> Command {
        let mut command = Command::new(verb.to_owned())
            .about(summary(&self.comment))
            .long_about(self.comment.clone())
            .after_help(self.examples(noun, verb))
            .args(self.flags.all.iter().map(Flag::arg));
        if self.has_password_flag() {
            let help =
                "Your password, where it is asked for again, comes as a line of standard input; else you are asked";
            command = command.arg(Arg::new(PASSWORD_STDIN).long(PASSWORD_STDIN).action(ArgAction::SetTrue).help(help));
        }
        if self.flags.mask.is_some() {
            let fields: Vec<String> = self.changeable().map(|flag| flag.long.clone()).collect();
            command = command.arg(
                Arg::new("clear")
                    .long("clear")
                    .value_name("FIELD")
                    .action(ArgAction::Append)
                    .value_parser(fields)
                    .help("Empties this field (may be repeated)"),
            );
        }
        if let Some(pages) = &self.pages {
            let all = Arg::new("all").long("all").action(ArgAction::SetTrue).help("Reads all pages, not one");
            let token = self.flags.at(pages.page_token.name()).map(|flag| flag.long.clone());
            command = command.arg(if let Some(token) = token { all.conflicts_with(token) } else { all });
            if self.watch.is_some() {
                let help = "Shows what there is and then each change, a line each, until you end it with Ctrl-C";
                command = command.arg(Arg::new(WATCH).long(WATCH).action(ArgAction::SetTrue).help(help));
            }
        }
        command
    }

    /// Whether more than one message goes either way.
    pub(crate) fn streams(&self) -> bool {
        self.method.is_client_streaming() || self.method.is_server_streaming()
    }

    /// Whether changes are to be shown, and not a page of a list.
    pub(crate) fn is_to_watch(&self, matches: &ArgMatches) -> bool {
        self.watch.is_some() && (self.pages.is_none() || matches.get_flag(WATCH))
    }

    /// Whether the password that the server may ask for again is read from standard input.
    pub(crate) fn password_from_stdin(&self, matches: &ArgMatches) -> bool {
        self.has_password_flag() && matches.get_flag(PASSWORD_STDIN)
    }

    /// A request that has such a flag for a field of its own keeps it: then the password is asked for on the terminal.
    fn has_password_flag(&self) -> bool {
        self.steps_up
            && !self.flags.all.iter().any(|flag| flag.long == PASSWORD_STDIN || flag.aside() == PASSWORD_STDIN)
    }

    /// The flags that change something, so that the mask names them when they are given.
    pub(crate) fn changeable(&self) -> impl Iterator<Item = &Flag> {
        self.flags.all.iter().filter(|flag| {
            let in_item = flag.path.first() == self.flags.item.as_ref();
            let name = flag.path.last().map(FieldDescriptor::name);
            in_item && flag.given != Given::Position && !(flag.path.len() == 2 && name == Some("etag"))
        })
    }

    fn examples(&self, noun: &str, verb: &str) -> String {
        let mut words = vec![format!("  sys {noun} {verb}")];
        words.extend(self.flags.all.iter().filter(|flag| flag.typical).map(Flag::example));
        let nothing_changes = self.flags.mask.is_some() && !self.changeable().any(|flag| flag.typical);
        words.extend(self.changeable().next().filter(|_| nothing_changes).map(Flag::example));
        let plain = words.join(" ");
        if self.method.is_client_streaming() {
            return format!("Each line of standard input is a request in JSON.\n\nExamples:\n{plain} < requests.jsonl");
        }
        let all = self.pages.as_ref().map(|_| format!("{plain} --all --output json"));
        let watch = self.pages.as_ref().and(self.watch.as_ref()).map(|_| format!("{plain} --watch"));
        ["Examples:".to_owned(), plain].into_iter().chain(all).chain(watch).collect::<Vec<_>>().join("\n")
    }
}

impl Pages {
    fn of(method: &MethodDescriptor) -> Option<Self> {
        let text = |field: &FieldDescriptor| matches!(field.kind(), Kind::String) && !field.is_list();
        let page_token = method.input().get_field_by_name("page_token").filter(text)?;
        let next_page_token = method.output().get_field_by_name("next_page_token").filter(text)?;
        let items = method.output().fields().find(|field| field.is_list())?;
        Some(Self { page_token, next_page_token, items })
    }

    /// The token of the page behind this one; empty at the end.
    pub(crate) fn next(&self, page: &DynamicMessage) -> String {
        page.get_field(&self.next_page_token).as_str().map(str::to_owned).unwrap_or_default()
    }
}

impl Watch {
    fn of(method: &MethodDescriptor, options: &Options) -> Option<Self> {
        let message = method.output();
        let field = |name| message.get_field_by_name(name);
        let item = message.fields().find(|field| field.kind().as_message().is_some_and(|kind| options.is_record(kind)));
        let watch = Self {
            method: method.clone(),
            event: field("event")?,
            id: field("id")?,
            item: item?,
            resume_token: field("resume_token")?,
            from: method.input().get_field_by_name("resume_token")?,
        };
        options.watches(method).then_some(watch)
    }
}

/// The first sentence, without its stop, as summaries are written.
fn summary(comment: &str) -> String {
    let paragraph = comment.split("\n\n").next().unwrap_or_default();
    let line = plain::line(paragraph);
    let sentence = line.split(". ").next().unwrap_or_default();
    sentence.strip_suffix('.').unwrap_or(sentence).to_owned()
}
