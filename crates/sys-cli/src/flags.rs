//! The flags of a method, from the fields of its request.
//!
//! A field becomes a flag of its name, a nested one `--a.b`. A request that carries a record (Create, Update) shows the
//! record's fields as its own, without those that the server sets. `id` stands without a flag, since every such command
//! has one. Passwords and one-time tokens have no flag that takes a value: what stands on a command line, others can read.

use crate::{options::Options, plain, value::Shape};
use clap::{
    Arg, ArgAction,
    builder::{PossibleValuesParser, TypedValueParser, ValueParser},
};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};
use std::collections::BTreeSet;
use sys_contract::comment_of;

/// Flags of one command; what a request nests beyond that is given as JSON.
pub(crate) const MAX_FLAGS: usize = 256;
/// Messages inside messages that get flags of their own; a deeper one is given as JSON.
const MAX_DEPTH: usize = 4;

/// Names that commands use for themselves.
const RESERVED: [&str; 6] = ["server", "output", "help", "all", "clear", "watch"];

/// One flag, and the field that it fills.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// Its name without dashes; also its id in the command.
    pub(crate) long: String,
    /// The fields that lead from the request to the one that it fills.
    pub(crate) path: Vec<FieldDescriptor>,
    /// How its text is read.
    pub(crate) shape: Shape,
    /// May be given more than once: repeated fields and maps.
    pub(crate) repeated: bool,
    /// How it is given.
    pub(crate) given: Given,
    /// Part of the example in the command's help.
    pub(crate) typical: bool,
    /// The flag that may be given in its place: of an id and a one-time token, either says what is meant.
    pub(crate) instead: Option<&'static str>,
    help: String,
}

/// How a value gets into a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// `--name VALUE`.
    Flag,
    /// Without a name.
    Position,
    /// From standard input or a prompt: a secret.
    Aside,
}

/// The flags of a request, and the parts of it that commands treat by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Flags {
    pub(crate) all: Vec<Flag>,
    /// The record that the request carries, where its fields are flags of the command's own.
    pub(crate) item: Option<FieldDescriptor>,
    /// The mask that an update fills from the flags that were given.
    pub(crate) mask: Option<FieldDescriptor>,
}

impl Flags {
    /// The flags of a method's request.
    pub(crate) fn of(method: &MethodDescriptor, options: &Options) -> Self {
        if method.is_client_streaming() {
            // Its requests are lines of standard input.
            return Self { all: Vec::new(), item: None, mask: None };
        }
        let request = method.input();
        let item = item_of(method, options);
        let mask = item.as_ref().and_then(|_| request.get_field_by_name("update_mask")).filter(is_mask);
        let updates = mask.is_some();
        let has = |name, such: fn(&FieldDescriptor) -> bool| request.get_field_by_name(name).is_some_and(|f| such(&f));
        let either = item.is_none() && has("id", is_id) && has("token", is_secret);
        let mut maker = Maker { options, all: Vec::new(), taken: BTreeSet::new(), item: item.clone(), updates, either };
        if let Some(item) = &item {
            maker.item(item);
        }
        for field in request.fields().filter(|field| Some(field) != item.as_ref() && Some(field) != mask.as_ref()) {
            maker.field(&field, &[], 0);
        }
        Self { all: maker.all, item, mask }
    }

    /// The flag that fills the field with this path in the request, such as `note.title` or `tags[1]`.
    pub(crate) fn at(&self, path: &str) -> Option<&Flag> {
        let path: String =
            path.split('.').map(|part| part.split('[').next().unwrap_or(part)).collect::<Vec<_>>().join(".");
        self.all.iter().find(|flag| path_text(&flag.path) == path)
    }
}

/// `note.title`.
pub(crate) fn path_text(path: &[FieldDescriptor]) -> String {
    path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
}

impl Flag {
    /// How people write it: `--title`, or `ID`.
    pub(crate) fn shown(&self) -> String {
        match self.given {
            Given::Flag => format!("--{}", self.long),
            Given::Position => self.placeholder(),
            Given::Aside => format!("--{}", self.aside()),
        }
    }

    /// `--title TEXT`, as in an example.
    pub(crate) fn example(&self) -> String {
        match (self.given, &self.shape) {
            (Given::Flag, Shape::Bool) if !self.repeated => self.shown(),
            (Given::Flag, _) => format!("{} {}", self.shown(), self.placeholder()),
            (Given::Position | Given::Aside, _) => self.shown(),
        }
    }

    /// The flag that says a secret comes on standard input.
    pub(crate) fn aside(&self) -> String {
        format!("{}-stdin", self.long)
    }

    /// This flag for the command line parser.
    pub(crate) fn arg(&self) -> Arg {
        let help = if self.repeated { format!("{} (may be repeated)", self.help) } else { self.help.clone() };
        let arg = Arg::new(self.long.clone()).help(help.trim().to_owned());
        match self.given {
            Given::Position => {
                let arg = arg.required(self.instead.is_none()).value_name(self.placeholder());
                arg.action(ArgAction::Set).value_parser(self.parser())
            }
            Given::Aside => arg
                .long(self.aside())
                .action(ArgAction::SetTrue)
                .help(format!("{} (a line of standard input; else you are asked)", self.help).trim().to_owned()),
            Given::Flag if matches!(self.shape, Shape::Bool) && !self.repeated => arg
                .long(self.long.clone())
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name(self.placeholder())
                .value_parser(self.parser()),
            Given::Flag => arg
                .long(self.long.clone())
                .value_name(self.placeholder())
                .ignore_case(self.shape.possible().is_some())
                .allow_negative_numbers(true)
                .allow_hyphen_values(self.is_handed_out())
                .action(if self.repeated { ArgAction::Append } else { ArgAction::Set })
                .value_parser(self.parser()),
        }
    }

    /// Tokens of lists and etags come from the server in base64url: one in 64 begins with a dash, and is no flag by that.
    fn is_handed_out(&self) -> bool {
        self.long.ends_with("token") || self.long.ends_with("etag")
    }

    fn placeholder(&self) -> String {
        let name = self.path.last().map(FieldDescriptor::name).unwrap_or_default();
        let is_id = name == "id" || name.ends_with("_id");
        if is_id && matches!(self.shape, Shape::Text) { name.to_uppercase() } else { self.shape.placeholder() }
    }

    fn parser(&self) -> ValueParser {
        let shape = self.shape.clone();
        match shape.possible() {
            Some(names) => PossibleValuesParser::new(names).try_map(move |text: String| shape.read(&text)).into(),
            None => {
                ValueParser::from(move |text: &str| -> Result<Value, crate::value::ValueError> { shape.read(text) })
            }
        }
    }
}

/// The record that a request carries: its one message field, if that is a record, what the method gives back, or what a
/// method called Create or Update takes.
fn item_of(method: &MethodDescriptor, options: &Options) -> Option<FieldDescriptor> {
    let request = method.input();
    let mut messages = request.fields().filter_map(|field| Some((message_of(&field)?, field)));
    let (message, field) = messages.next()?;
    let only = messages.next().is_none();
    let writes = method.name().starts_with("Create") || method.name().starts_with("Update");
    (only && (writes || message == method.output() || options.is_record(&message))).then_some(field)
}

/// The type of a field that holds one message with fields of its own.
fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match (field.kind(), Shape::of(field)) {
        (Kind::Message(message), Shape::Json(_)) if !field.is_list() && !is_free(&message) => Some(message),
        _ => None,
    }
}

/// Messages whose content no descriptor lists: they are JSON whatever their depth.
fn is_free(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.")
}

fn is_mask(field: &FieldDescriptor) -> bool {
    matches!(Shape::of(field), Shape::Mask(_)) && !field.is_list()
}

/// Whether a field's value must not stand on a command line: a password, or a token that is good for whoever shows it. Those by
/// which a list or a stream goes on are good for their caller alone.
fn is_secret(field: &FieldDescriptor) -> bool {
    let name = field.name();
    let goes_on = name.ends_with("page_token") || name.ends_with("resume_token");
    let is_token = name.split('_').next_back() == Some("token") && !goes_on;
    let is_text = matches!(field.kind(), Kind::String) && !field.is_list();
    is_text && (is_token || name.split('_').any(|word| word == "password"))
}

/// Whether a field of a request is the id of what it is about.
fn is_id(field: &FieldDescriptor) -> bool {
    field.name() == "id" && matches!(field.kind(), Kind::String) && !field.is_list() && !field.supports_presence()
}

struct Maker<'a> {
    options: &'a Options,
    all: Vec<Flag>,
    taken: BTreeSet<String>,
    item: Option<FieldDescriptor>,
    updates: bool,
    /// Whether the request names what it is about by its id or by a token.
    either: bool,
}

impl Maker<'_> {
    /// The fields of the record that a request carries.
    fn item(&mut self, item: &FieldDescriptor) {
        let Some(message) = message_of(item) else { return };
        for field in message.fields() {
            let options = self.options.field(&field);
            let path = [item.clone(), field.clone()];
            match field.name() {
                "id" if self.updates => self.add(&path, Given::Position, true),
                // Not a value to be written: the version that the change is made on.
                "etag" if self.updates => self.add(&path, Given::Flag, false),
                _ if options.output_only || (self.updates && options.immutable) => {}
                _ => self.field(&field, std::slice::from_ref(item), 0),
            }
        }
    }

    /// A field of the request, or of a message in it.
    fn field(&mut self, field: &FieldDescriptor, above: &[FieldDescriptor], depth: usize) {
        let options = self.options.field(field);
        let path = [above, std::slice::from_ref(field)].concat();
        let nested = message_of(field).filter(|message| {
            let inside_itself =
                above.iter().any(|above| matches!(above.kind(), Kind::Message(above) if above == *message));
            depth < MAX_DEPTH && !inside_itself && self.all.len() < MAX_FLAGS && message.fields().len() > 0
        });
        match nested {
            Some(message) => {
                for field in message.fields().filter(|field| !self.options.field(field).output_only) {
                    self.field(&field, &path, depth + 1);
                }
            }
            None if is_secret(field) => self.add(&path, Given::Aside, self.instead(&path).is_none()),
            None if depth == 0 && above.is_empty() && is_id(field) => self.add(&path, Given::Position, true),
            None => self.add(&path, Given::Flag, options.required || options.immutable || field.name() == "org_id"),
        }
    }

    fn add(&mut self, path: &[FieldDescriptor], given: Given, typical: bool) {
        let Some(field) = path.last() else { return };
        if self.all.len() >= MAX_FLAGS {
            return;
        }
        let Some(long) = self.name(path) else { return };
        let help = plain::line(&comment_of(field));
        let repeated = field.is_list() || field.is_map();
        let (shape, instead) = (Shape::of(field), self.instead(path));
        self.all.push(Flag { long, path: path.to_vec(), shape, repeated, given, typical, instead, help });
    }

    fn instead(&self, path: &[FieldDescriptor]) -> Option<&'static str> {
        match path {
            [field] if self.either && field.name() == "id" => Some("token"),
            [field] if self.either && field.name() == "token" => Some("id"),
            _ => None,
        }
    }

    /// A name that no other flag of the command has. The record's own fields come first and lose their record's name; a
    /// field that is then in the way keeps the whole path.
    fn name(&mut self, path: &[FieldDescriptor]) -> Option<String> {
        let kebab = |path: &[FieldDescriptor]| path_text(path).replace('_', "-");
        let in_item = path.first() == self.item.as_ref();
        let short = path.get(usize::from(in_item && path.len() > 1)..).map(kebab);
        let names = [short, Some(kebab(path)), Some(format!("request.{}", kebab(path)))];
        let free = |name: &String| !RESERVED.contains(&name.as_str()) && !self.taken.contains(name);
        let name = names.into_iter().flatten().find(free)?;
        self.taken.insert(name.clone());
        Some(name)
    }
}
