//! The who-can-do-what matrix: one fact a line, in a stable order, so that a change of rules is reviewed as a diff of it.
//!
//! Each line is made from the compiled rules, conditions included: what is printed is what decides. What has no line is
//! refused, and a verb that nobody may use says so.

use crate::{
    grant::{CompiledGrant, Who},
    method::{MethodRules, StepUp},
    rules::{RecordRules, Rules},
};
use std::collections::BTreeSet;
use std::fmt::Write;
use sys_contract::model::{Access, Contract, Field, Flow, Home, Level, Method, Record, Role, Verb};

/// The matrix of these contracts: each record and each method, and who may do what.
pub fn matrix(contracts: &[(&Contract, &Rules)]) -> String {
    let mut page = Page { text: String::new() };
    for (contract, rules) in contracts {
        page.heading(&format!("module {}", contract.module));
        for (index, record) in contract.records.iter().enumerate() {
            page.record(record, rules.record(index));
        }
        for method in contract.services.iter().flat_map(|service| &service.methods) {
            if let Some(rules) = rules.method(&method.path) {
                page.method(contract, method, rules);
            }
        }
    }
    page.text
}

struct Page {
    text: String,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.line(&format!("{gap}{text}"));
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    /// A fact. The columns are wide enough for all roles and most fields, and the same everywhere, so that a longer name
    /// moves no other line.
    fn fact(&mut self, what: &str, who: &str, how: &str) {
        self.line(&format!("  {what:<24} {who:<16} {how}"));
    }

    fn record(&mut self, record: &Record, rules: &RecordRules) {
        self.heading(&format!("record {}", record.message.full_name()));
        let home = if record.home == Home::Org { "ORG" } else { "GLOBAL" };
        self.fact("table", &record.table, &format!("home {home}"));
        for (part, field) in [("org", &record.org), ("project", &record.project), ("owner", &record.owner)] {
            if let Some(field) = field {
                self.fact("scope", part, field.name());
            }
        }
        for verb in [Verb::Get, Verb::Create, Verb::Update, Verb::Delete] {
            self.facts(verb_name(verb), rules.grants().iter().filter(|grant| grant.opens(verb)));
        }
        for field in &record.fields {
            self.field(field, rules);
        }
    }

    fn field(&mut self, field: &Field, rules: &RecordRules) {
        let name = field.descriptor.name();
        let ruled = rules.field_rules().iter().find(|rules| rules.number == field.descriptor.number());
        if let Some(ruled) = ruled.filter(|ruled| !ruled.read.is_empty()) {
            self.facts(&format!("field {name} read"), ruled.read.iter());
        }
        if field.output_only {
            self.fact(&format!("field {name} write"), "nobody", "the server sets it");
        } else if let Some(ruled) = ruled.filter(|ruled| !ruled.write.is_empty()) {
            self.facts(&format!("field {name} write"), ruled.write.iter());
        } else if ruled.is_some() {
            self.fact(&format!("field {name} write"), "its readers", "yes");
        }
        if field.immutable && !field.output_only {
            self.fact(&format!("field {name} write"), "nobody", "after CREATE");
        }
    }

    fn method(&mut self, contract: &Contract, method: &Method, rules: &MethodRules) {
        self.heading(&format!("method {}", method.path));
        let name_of = |record: usize| contract.records.get(record).map_or("", |record| record.message.full_name());
        if method.flow != Flow::Unary {
            self.fact("flow", method.flow.name(), "");
        }
        if let Some(serve) = &method.serve {
            self.fact("serves", verb_name(serve.verb), name_of(serve.record));
        } else {
            self.fact("handler", "", "");
        }
        if let Some(target) = &method.target {
            let path: Vec<_> = target.id.iter().map(|field| field.name().to_owned()).collect();
            self.fact("target", &path.join("."), name_of(target.record));
        }
        for (kind, accesses) in [("reach", &method.reach), ("elevate", &method.elevate)] {
            let of = |access: &Access| (name_of(access.record).to_owned(), access.verb);
            for (record, verb) in accesses.iter().map(of).collect::<BTreeSet<_>>() {
                self.fact(kind, verb_name(verb), &record);
            }
        }
        if method.audit_full {
            self.fact("audit", "FULL", "");
        }
        if method.sign_in {
            self.fact("audit", "sign-in", "");
        }
        if let Some(rate) = method.rate {
            self.fact("rate", &format!("{}/min", rate.per_minute), &format!("{} at once", rate.burst));
        }
        match rules.step_up() {
            StepUp::None => {}
            StepUp::All => self.fact("step-up", "always", ""),
            StepUp::Unless(condition) => self.fact("step-up", "unless", &condition.ir.to_string()),
        }
        match rules.served() {
            Some((record, verb)) => self.facts("call", record.grants().iter().filter(|grant| grant.opens(verb))),
            None => self.facts("call", rules.grants().iter()),
        }
    }

    /// Who may do it by these grants; a way in without condition leaves out the others of the same person.
    fn facts<'a>(&mut self, what: &str, grants: impl Iterator<Item = &'a CompiledGrant>) {
        let facts: BTreeSet<(Person, How)> = grants.flat_map(people).collect();
        if facts.is_empty() {
            self.fact(what, "nobody", "");
        }
        for (person, how) in &facts {
            if *how == How::default() || !facts.contains(&(person.clone(), How::default())) {
                self.fact(what, &person.to_string(), &how.to_string());
            }
        }
    }
}

/// Somebody who may be meant by a grant, in the order of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Person {
    Anybody,
    SignedIn,
    Member,
    AtProject(Role),
    AtOrg(Role),
    Owner,
    Permission(String),
    Superadmin,
}

/// What else must hold for him. None of it, and he just may.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct How {
    and: Vec<Person>,
    when: Option<String>,
}

/// Everybody whom a grant means: roles above the one that it names, and roles at the org for one at its project.
fn people(grant: &CompiledGrant) -> Vec<(Person, How)> {
    let (first, and) = parts(&grant.who);
    let when = grant.when.as_ref().map(|when| when.ir.to_string());
    first.into_iter().map(|person| (person, How { and: and.clone(), when: when.clone() })).collect()
}

/// Those named first, and what else they must be.
fn parts(who: &Who) -> (Vec<Person>, Vec<Person>) {
    let mut parts = Vec::new();
    if let Some((role, level)) = who.role {
        let roles = || [Role::Guest, Role::User, Role::Admin].into_iter().filter(move |held| *held >= role);
        parts.push(match level {
            Level::System => vec![Person::Superadmin],
            Level::Org => roles().map(Person::AtOrg).collect(),
            Level::Project => roles().map(Person::AtProject).chain(roles().map(Person::AtOrg)).collect(),
        });
    }
    if who.owner {
        parts.push(vec![Person::Owner]);
    }
    if who.member {
        parts.push(vec![Person::Member]);
    }
    if let Some(permission) = &who.permission {
        parts.push(vec![Person::Permission(permission.clone())]);
    }
    // Whoever is more than that is that, too.
    if parts.is_empty() && who.signed_in {
        parts.push(vec![Person::SignedIn]);
    }
    if parts.is_empty() && who.public {
        parts.push(vec![Person::Anybody]);
    }
    let mut parts = parts.into_iter();
    (parts.next().unwrap_or_default(), parts.flatten().collect())
}

impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anybody => f.write_str("anonymous"),
            Self::SignedIn => f.write_str("signed in"),
            Self::Member => f.write_str("member"),
            Self::AtProject(role) => write!(f, "{} at PROJECT", role_name(*role)),
            Self::AtOrg(role) => write!(f, "{} at ORG", role_name(*role)),
            Self::Owner => f.write_str("owner"),
            Self::Permission(name) => write!(f, "permission {name}"),
            Self::Superadmin => f.write_str("SUPERADMIN"),
        }
    }
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for person in &self.and {
            write!(text, ", if {person}")?;
        }
        if let Some(when) = &self.when {
            write!(text, ", when {when}")?;
        }
        f.write_str(if text.is_empty() { "yes" } else { text.trim_start_matches(", ") })
    }
}

/// A role as it is written in contracts.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Guest => "GUEST",
        Role::User => "USER",
        Role::Admin => "ADMIN",
        Role::Superadmin => "SUPERADMIN",
    }
}

/// A verb as it is written in contracts.
fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Count => "COUNT",
        Verb::Watch => "WATCH",
        Verb::Create => "CREATE",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
    }
}
