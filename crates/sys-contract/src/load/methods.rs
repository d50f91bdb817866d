//! Services and their methods: served ones, and those whose gate stands in front of a handler.

use super::{
    Reader,
    grants::{self, Ground, On},
    is_sys,
    records::{self, Known, Records},
    shapes,
};
use crate::{
    model::{Access, Flow, Grant, Home, Method, Rate, Serve, Service, StepUp, Target, Verb},
    names::{self, RESERVED_NOUNS},
    options::{self, path},
    problem::Place,
};
use prost_reflect::{FieldDescriptor, Kind, MethodDescriptor, ServiceDescriptor};
use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
};

/// A request's bound where the contract sets none: 64 KiB.
pub const DEFAULT_REQUEST_BYTES: u32 = 64 * 1024;
/// The highest that a contract may set: 16 MiB. Unpacked, a message may be 30 times as large.
pub const MAX_REQUEST_BYTES: u32 = 16 * 1024 * 1024;
/// A call's time where the contract sets none: 10 s.
pub const DEFAULT_DEADLINE_MS: u32 = 10_000;
/// The highest that a contract may set: 60 s. A call holds a snapshot of the store for so long.
pub const MAX_DEADLINE_MS: u32 = 60_000;
/// The highest rate that a contract may set: a thousand calls a second, which is as good as none.
pub const MAX_CALLS_PER_MINUTE: u32 = 60_000;

/// Reads all services of the module's files.
pub(super) fn read(reader: &mut Reader, records: &Records) -> Vec<Service> {
    let mut nouns: HashMap<String, String> = HashMap::new();
    let mut services = Vec::new();
    for file in reader.compiled.files.clone() {
        let Some(file) = reader.compiled.pool.get_file_by_name(&file) else { continue };
        for descriptor in file.services() {
            let service = read_service(reader, records, &descriptor);
            check_noun(reader, &mut nouns, &service);
            services.push(service);
        }
    }
    services
}

fn check_noun(reader: &mut Reader, nouns: &mut HashMap<String, String>, service: &Service) {
    let noun = service.noun.clone();
    if RESERVED_NOUNS.contains(&noun.as_str()) {
        let what = format!("`{noun}` is a command of the CLI itself");
        reader.refuse(&service.place, what, "give the service another name");
    } else if let Some(first) = nouns.get(&noun) {
        let what = format!("`{}` and `{first}` are both called `{noun}`", service.full_name);
        reader.refuse(&service.place, what, "give one of them another name");
    } else {
        nouns.insert(noun, service.full_name.clone());
    }
}

fn read_service(reader: &mut Reader, records: &Records, descriptor: &ServiceDescriptor) -> Service {
    let file = descriptor.parent_file();
    let place = reader.place(file.name(), descriptor.path());
    let policy = reader.options.service(descriptor);
    let policy = reader.decoded(policy, &place).unwrap_or_default();
    let option_place =
        reader.place(file.name(), &[descriptor.path(), &[path::SERVICE_OPTIONS, path::SERVICE]].concat());
    let bounds = Bounds {
        request_bytes: bounded(reader, &option_place, REQUEST_BYTES, policy.max_request_bytes, DEFAULT_REQUEST_BYTES),
        deadline_ms: bounded(reader, &option_place, DEADLINE_MS, policy.deadline_ms, DEFAULT_DEADLINE_MS),
    };
    let noun = names::noun(descriptor.name());
    let mut verbs = HashSet::new();
    let mut methods = Vec::new();
    for method in descriptor.methods() {
        let place = reader.place(file.name(), method.path());
        let method = Reading { reader, records, method: &method, place }.read(&noun, &bounds);
        if !verbs.insert(method.verb_name.clone()) {
            let what = format!("two methods of `{}` are called `{}`", descriptor.name(), method.verb_name);
            reader.refuse(&method.place, what, "give one of them another name");
        }
        methods.push(method);
    }
    Service {
        full_name: descriptor.full_name().to_owned(),
        noun,
        comment: reader.compiled.places.comment(file.name(), descriptor.path()),
        methods,
        place,
    }
}

struct Bounds {
    request_bytes: u32,
    deadline_ms: u32,
}

const REQUEST_BYTES: (&str, u32) = ("max_request_bytes", MAX_REQUEST_BYTES);
const DEADLINE_MS: (&str, u32) = ("deadline_ms", MAX_DEADLINE_MS);

fn bounded(reader: &mut Reader, place: &Place, (name, most): (&str, u32), written: u32, default: u32) -> u32 {
    if written > most {
        reader.refuse(
            place,
            format!("`{name}: {written}` is more than a call may ask for"),
            format!("write at most {most}"),
        );
    }
    if written == 0 { default } else { written }
}

struct Reading<'a> {
    reader: &'a mut Reader,
    records: &'a Records,
    method: &'a MethodDescriptor,
    place: Place,
}

impl Reading<'_> {
    fn read(mut self, noun: &str, bounds: &Bounds) -> Method {
        let method = self.method;
        let policy = self.reader.options.method(method);
        let policy = self.reader.decoded(policy, &self.place).unwrap_or_default();
        let flow = Flow::of(method);
        let option_place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let serve = match options::Verb::try_from(policy.serve) {
            Ok(options::Verb::Unspecified) => None,
            Ok(options::Verb::Get) => Some(Verb::Get),
            Ok(options::Verb::List) => Some(Verb::List),
            Ok(options::Verb::Create) => Some(Verb::Create),
            Ok(options::Verb::Update) => Some(Verb::Update),
            Ok(options::Verb::Delete) => Some(Verb::Delete),
            Ok(options::Verb::Count) => Some(Verb::Count),
            Ok(options::Verb::Watch) => Some(Verb::Watch),
            Err(_) => {
                self.refuse("this is no verb to serve", "write GET, LIST, COUNT, WATCH, CREATE, UPDATE or DELETE");
                None
            }
        };
        let written = self.reader.options.method_allow(method);
        let written = self.reader.decoded(written, &self.place);
        let max = bounded(self.reader, &option_place, REQUEST_BYTES, policy.max_request_bytes, bounds.request_bytes);
        let deadline = bounded(self.reader, &option_place, DEADLINE_MS, policy.deadline_ms, bounds.deadline_ms);
        self.check_stream(&policy, flow);
        let (serve, handled) = match serve {
            Some(verb) => {
                self.check_served(&policy, &written);
                (self.serve(verb), Handled::default())
            }
            None if policy.serve != 0 => (None, Handled::default()),
            None => (None, self.handled(&policy, &written)),
        };
        let step_up = self.step_up(&policy, serve.as_ref(), &handled);
        let rate = policy.rate.and_then(|rate| self.rate(rate));
        Method {
            path: format!("{}/{}", method.parent_service().full_name(), method.name()),
            verb_name: names::verb(method.name(), noun),
            descriptor: method.clone(),
            comment: self.reader.compiled.places.comment(method.parent_file().name(), method.path()),
            flow,
            serve,
            target: handled.target,
            reach: handled.reach,
            elevate: handled.elevate,
            allow: handled.allow,
            audit_full: policy.audit == i32::from(options::Audit::Full),
            sign_in: policy.sign_in,
            step_up,
            rate,
            max_request_bytes: max,
            deadline_ms: deadline,
            place: self.place,
        }
    }

    fn refuse(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.refuse(&self.place, what, instead);
    }

    fn at(&self, below: &[i32]) -> Place {
        self.reader.place(self.method.parent_file().name(), &[self.method.path(), below].concat())
    }

    /// What means nothing on a stream, or could not be kept there.
    fn check_stream(&mut self, policy: &options::MethodPolicy, flow: Flow) {
        let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let serve = options::Verb::try_from(policy.serve);
        if serve == Ok(options::Verb::Watch) && flow != Flow::ServerStream {
            let what = format!("`{}` serves WATCH and is {}", self.method.name(), flow.name());
            let instead = "write one request and `returns (stream …)`: a watch goes on telling";
            self.reader.refuse(&place, what, instead);
        }
        if flow == Flow::Unary {
            return;
        }
        if !matches!(serve, Ok(options::Verb::Unspecified | options::Verb::Watch) | Err(_)) {
            let what = format!("`{}` is a stream, which this verb does not serve", self.method.name());
            let instead = "leave `stream` out, write `serve: WATCH` on `returns (stream …)`, or write a handler";
            self.reader.refuse(&place, what, instead);
        }
        if policy.sign_in {
            let instead = "sign in by a method of one request and one answer";
            self.reader.refuse(&place, "`sign_in` on a stream: a sign-in is one event", instead);
        }
    }

    /// A served method is judged by its record's grants and touches nothing else.
    fn check_served(&mut self, policy: &options::MethodPolicy, allow: &[options::Grant]) {
        if !allow.is_empty() {
            let place = self.at(&[path::METHOD_OPTIONS, path::METHOD_ALLOW, 0]);
            let instead = "write the grant on the record: `option (sys.policy.v1.allow) = { … };`";
            self.reader.refuse(&place, "a served method is judged by its record's grants", instead);
        }
        if policy.target.is_some() || !policy.reach.is_empty() || !policy.elevate.is_empty() {
            let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
            let instead = "leave them out, or leave `serve` out and write a handler";
            self.reader.refuse(&place, "`target`, `reach` and `elevate` are for methods with a handler", instead);
        }
    }

    fn serve(&mut self, verb: Verb) -> Option<Serve> {
        let (record, shape) = shapes::read(self.reader, self.records, self.method, &self.place, verb)?;
        let served = self.records.get(record)?;
        // A record without any grant is refused where it stands, but for those that may have none.
        let stated = !served.allow.is_empty() || records::is_behind_identity(self.reader, &served.message);
        if stated && !records::opens(served, verb) {
            let (verb, name) = (grant_verb(verb), served.message.name());
            let instead = format!("add a grant with `verbs: [{verb}]` to `{name}`, or remove the method");
            self.refuse(format!("no grant of `{name}` opens {verb}, so nobody can call this"), instead);
        }
        Some(Serve { verb, record, shape })
    }

    /// A rate of nothing would close the method, which is what leaving out its grants is for.
    fn rate(&mut self, written: options::Rate) -> Option<Rate> {
        let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let Some(per_minute) = NonZeroU32::new(written.per_minute) else {
            let instead = "write how many calls one caller may make in a minute, such as `rate: {per_minute: 60}`";
            self.reader.refuse(&place, "`rate` without `per_minute` lets nobody call", instead);
            return None;
        };
        for (name, written) in [("per_minute", written.per_minute), ("burst", written.burst)] {
            if written > MAX_CALLS_PER_MINUTE {
                let what = format!("`rate`: `{name}: {written}` is more than any caller makes");
                self.reader.refuse(&place, what, format!("write at most {MAX_CALLS_PER_MINUTE}, or leave `rate` out"));
            }
        }
        Some(Rate { per_minute, burst: NonZeroU32::new(written.burst).unwrap_or(per_minute) })
    }

    /// A fresh password can be asked of an account alone.
    fn step_up(&mut self, policy: &options::MethodPolicy, serve: Option<&Serve>, handled: &Handled) -> Option<StepUp> {
        let written = policy.step_up.as_ref()?;
        let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let public = match serve.and_then(|serve| Some((self.records.get(serve.record)?, serve.verb))) {
            Some((record, verb)) => {
                record.allow.iter().any(|grant| grant.public && grant.verbs.contains(&verb.granted_as()))
            }
            None => handled.allow.iter().any(|grant| grant.public),
        };
        if public {
            let instead = "grant it to accounts (`signed_in`, `member`, `owner` or a role), or leave `step_up` out";
            self.reader.refuse(
                &place,
                "`step_up` on what anybody may call: who has no account has no password",
                instead,
            );
        }
        let unless = Some(written.unless.clone()).filter(|unless| !unless.is_empty());
        Some(StepUp { unless, place })
    }

    fn handled(&mut self, policy: &options::MethodPolicy, allow: &[options::Grant]) -> Handled {
        if allow.is_empty() {
            let instead = "write `option (sys.policy.v1.method) = { serve: … };` or \
                           `option (sys.policy.v1.method_allow) = { … };`";
            self.refuse(format!("method `{}` has no rule, so nobody can call it", self.method.name()), instead);
        }
        let target = policy.target.as_ref().map(|target| self.target(target));
        let scope = match &target {
            Some(Some(target)) => self.records.scope(target.record),
            Some(None) | None => None,
        };
        let reach = self.accesses("reach", &policy.reach);
        let elevate = self.accesses("elevate", &policy.elevate);
        let file = self.method.parent_file();
        let method = self.method;
        let in_sys = is_sys(file.package_name());
        let allow = match &target {
            // Without the record that was meant, each grant would be refused for its scope.
            Some(None) => Vec::new(),
            Some(Some(_)) | None => {
                let elevated = elevate.iter().filter_map(|access| self.records.scope(access.record));
                let in_org = scope.into_iter().chain(elevated).any(|scope| scope.home == Home::Org);
                let ground = Ground { on: On::Method, in_sys, scope, in_org };
                grants::read(self.reader, &ground, allow, |reader, index| {
                    let at = [method.path(), &[path::METHOD_OPTIONS, path::METHOD_ALLOW, index]].concat();
                    reader.place(file.name(), &at)
                })
            }
        };
        Handled { target: target.flatten(), reach, elevate, allow }
    }

    fn target(&mut self, target: &options::Target) -> Option<Target> {
        let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let record = self.record("target", &target.record, &place);
        let mut message = self.method.input();
        let mut id: Vec<FieldDescriptor> = Vec::new();
        let mut parts = target.id.split('.').peekable();
        while let Some(part) = parts.next() {
            let Some(field) = message.get_field_by_name(part) else {
                let fields: Vec<String> = message.fields().map(|field| field.name().to_owned()).collect();
                let otherwise = format!("name the field of `{}` that holds the record's id", message.name());
                let instead = self.reader.meant(part, fields.iter().map(String::as_str), &otherwise);
                let what = format!("`target.id`: `{}` has no field `{part}`", message.name());
                self.reader.refuse(&place, what, instead);
                return None;
            };
            let singular = !field.is_list() && !field.is_map();
            match (field.kind(), parts.peek().is_some()) {
                (Kind::Message(next), true) if singular => message = next,
                (Kind::String, false) if singular => {}
                _ => {
                    let what = format!("`target.id`: `{}` does not lead to one string", target.id);
                    self.reader.refuse(&place, what, "name a string field, such as `id` or `note.id`");
                    return None;
                }
            }
            id.push(field);
        }
        Some(Target { record: record?, id })
    }

    /// What `reach` or `elevate` names: "Record.VERB".
    fn accesses(&mut self, option: &str, written: &[String]) -> Vec<Access> {
        let place = self.at(&[path::METHOD_OPTIONS, path::METHOD]);
        let mut accesses = Vec::new();
        for text in written {
            let Some((record, verb)) = text.rsplit_once('.') else {
                let what = format!("`{option}`: `{text}` is not a record and a verb");
                self.reader.refuse(&place, what, "write it like `Note.UPDATE`");
                continue;
            };
            let record = self.record(option, record, &place);
            let verb = match verb {
                "GET" => Some(Verb::Get),
                "CREATE" => Some(Verb::Create),
                "UPDATE" => Some(Verb::Update),
                "DELETE" => Some(Verb::Delete),
                "LIST" | "COUNT" | "WATCH" => {
                    let what = format!("`{option}`: `{text}` names {verb}");
                    self.reader.refuse(&place, what, "write GET: lists, counts and watches show what GET allows");
                    None
                }
                _ => {
                    let verbs = ["GET", "CREATE", "UPDATE", "DELETE"];
                    let instead = self.reader.meant(verb, verbs, "write GET, CREATE, UPDATE or DELETE");
                    self.reader.refuse(&place, format!("`{option}`: `{verb}` is no verb"), instead);
                    None
                }
            };
            accesses.extend(record.zip(verb).map(|(record, verb)| Access { record, verb }));
        }
        accesses
    }

    /// The record of this name: a message of the method's own package, or a full name. Nothing if it is refused.
    fn record(&mut self, option: &str, name: &str, place: &Place) -> Option<usize> {
        let package = self.method.parent_file().package_name().to_owned();
        let known = self.records.find(&format!("{package}.{name}")).or_else(|| self.records.find(name));
        match known {
            Some(Known::At(index)) => Some(index),
            Some(Known::Refused) => None,
            None => {
                let instead = self.reader.meant(name, self.records.names(), "name a message that is a record");
                self.reader.refuse(place, format!("`{option}`: there is no record `{name}`"), instead);
                None
            }
        }
    }
}

/// What only methods with a handler have.
#[derive(Default)]
struct Handled {
    target: Option<Target>,
    reach: Vec<Access>,
    elevate: Vec<Access>,
    allow: Vec<Grant>,
}

/// The verb that a grant must open for this one, as it is written.
fn grant_verb(verb: Verb) -> &'static str {
    match verb {
        Verb::Get | Verb::List | Verb::Count | Verb::Watch => "GET",
        Verb::Create => "CREATE",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
    }
}
