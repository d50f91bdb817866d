//! The oracle: what each call must come to, read from the contract by DESIGN's words and by nothing of the server.
//!
//! It knows the caller by what the stage gave him, and the record as it was stored; roles, places and grants are compared as
//! texts, one after the other, and conditions go to the CEL interpreter. What a handler decides by itself it does not know: then
//! the outcome stands in the golden file alone, and must not be one that the gate gives.

use super::{
    conditions::{Seen, holds as condition_holds},
    plans::{Form, Plan, Subject, is_ruled},
    requests::Ask,
    tally::Tally,
};
use prost_reflect::{DynamicMessage, FieldDescriptor};
use std::collections::BTreeSet;
use sys_contract::model::{Contract, Field, Grant, Home, Level, Method, Record, Role, Verb};
use sys_policy::Now;

const TOKEN_REFUSED: &str = "unauthenticated TOKEN_REFUSED";
const UNAUTHENTICATED: &str = "unauthenticated UNAUTHENTICATED";
const METHOD_REFUSED: &str = "permission_denied METHOD_REFUSED";
const STEP_UP_REQUIRED: &str = "permission_denied STEP_UP_REQUIRED";
const INVALID_ARGUMENT: &str = "invalid_argument INVALID_ARGUMENT";
const NOT_FOUND: &str = "not_found NOT_FOUND";
const RECORD_REFUSED: &str = "permission_denied RECORD_REFUSED";
const FIELD_REFUSED: &str = "permission_denied FIELD_REFUSED";

/// What is true of a caller, as the stage made him.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) token: Token,
    /// Empty for nobody.
    pub(crate) account: String,
    /// In good standing.
    pub(crate) verified: bool,
    /// Showed his password lately.
    pub(crate) proven: bool,
    /// What he holds and what counts: role, org, project; both are empty for the server.
    pub(crate) holds: Vec<(Role, String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    None,
    Good,
    Bad,
}

/// What a call must come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Exactly(&'static str),
    /// The gate lets it through to a handler, whose outcome it is.
    UpToHandler,
}

impl Facts {
    pub(crate) fn is_superadmin(&self) -> bool {
        self.verified && self.holds.iter().any(|(role, org, _)| *role == Role::Superadmin && org.is_empty())
    }

    /// Whether this role, or one above it, is held at the org, or at this project of it.
    fn holds_at(&self, role: Role, org: &str, project: Option<&str>) -> bool {
        !org.is_empty()
            && self.holds.iter().any(|(held, at_org, at_project)| {
                *held >= role && at_org == org && (at_project.is_empty() || Some(at_project.as_str()) == project)
            })
    }

    fn is_member(&self, org: &str) -> bool {
        !org.is_empty() && self.holds.iter().any(|(_, at_org, _)| at_org == org)
    }
}

/// One reading of one contract.
pub(crate) struct Oracle<'a> {
    pub(crate) contract: &'a Contract,
    pub(crate) now: Now,
    /// Counts what each rule came to, where somebody wants to know.
    pub(crate) tally: Option<&'a Tally>,
}

/// What a rule is asked about.
#[derive(Clone, Copy)]
struct Matter<'a> {
    package: &'a str,
    record: Option<&'a Record>,
    this: Option<&'a DynamicMessage>,
    next: Option<&'a DynamicMessage>,
    request: Option<&'a DynamicMessage>,
    facts: &'a Facts,
}

impl Oracle<'_> {
    /// What a call must come to.
    pub(crate) fn expects(&self, plan: &Plan<'_>, facts: &Facts, form: Form, ask: &Ask) -> Expected {
        let method = self.method(plan);
        match facts.token {
            Token::Bad => return Expected::Exactly(TOKEN_REFUSED),
            Token::None if !self.could(plan, method, facts) => return Expected::Exactly(UNAUTHENTICATED),
            Token::Good if !self.could(plan, method, facts) => return Expected::Exactly(METHOD_REFUSED),
            Token::None | Token::Good => {}
        }
        let unless = method.step_up.as_ref().map(|step_up| step_up.unless.as_deref());
        if unless == Some(None) && !facts.proven {
            return Expected::Exactly(STEP_UP_REQUIRED);
        }
        // A text is held against its rules before the request counts for anything; an id is read where its record is.
        if form == Form::Malformed && !matches!(plan.subject, Subject::ById(..)) {
            return Expected::Exactly(INVALID_ARGUMENT);
        }
        let matter = Matter {
            package: method.descriptor.parent_service().package_name(),
            record: self.record(plan),
            this: ask.stored.as_ref(),
            next: None,
            request: Some(&ask.message),
            facts,
        };
        if let Some(Some(text)) = unless {
            let spared = self.condition(text, Matter { this: None, ..matter });
            if !spared && !facts.proven {
                return Expected::Exactly(STEP_UP_REQUIRED);
            }
        }
        if form == Form::Malformed {
            return Expected::Exactly(INVALID_ARGUMENT);
        }
        match plan.verb() {
            Some(verb) => Expected::Exactly(self.served(verb, plan, facts, ask)),
            None => self.handled(method, plan, matter),
        }
    }

    /// The fields of a record that a caller reads; `None` if he may not read the record.
    pub(crate) fn reads(&self, record: &Record, facts: &Facts, stored: &DynamicMessage) -> Option<BTreeSet<u32>> {
        let matter = self.matter(record, facts, stored);
        if !self.any(&record.allow, Verb::Get, matter) {
            return None;
        }
        let shown = record.fields.iter().filter(|field| self.may_read(field, matter));
        Some(shown.map(|field| field.descriptor.number()).collect())
    }

    fn served(&self, verb: Verb, plan: &Plan<'_>, facts: &Facts, ask: &Ask) -> &'static str {
        let record = self.record(plan).expect("a served method has a record");
        if verb == Verb::Create {
            return self.created(record, facts, ask.next.as_ref().expect("it is to be made"));
        }
        let Some(stored) = &ask.stored else { return NOT_FOUND };
        let matter = self.matter(record, facts, stored);
        let seen = self.any(&record.allow, Verb::Get, matter);
        match verb {
            Verb::List | Verb::Count | Verb::Watch => {
                if seen && asks_there(plan, record, stored, &ask.message) {
                    "ok, shown"
                } else {
                    "ok, not shown"
                }
            }
            _ if !seen => NOT_FOUND,
            Verb::Get => "ok",
            Verb::Delete if self.any(&record.allow, Verb::Delete, matter) => "ok",
            Verb::Create | Verb::Delete => RECORD_REFUSED,
            Verb::Update => self.updated(record, matter, ask.next.as_ref().expect("it is to be changed")),
        }
    }

    fn created(&self, record: &Record, facts: &Facts, next: &DynamicMessage) -> &'static str {
        let matter = self.matter(record, facts, next);
        if !self.any(&record.allow, Verb::Create, matter) {
            return RECORD_REFUSED;
        }
        let given = record.fields.iter().filter(|field| is_ruled(field) && next.has_field(&field.descriptor));
        let mut refused = given.filter(|field| !(self.may_read(field, matter) && self.may_write(field, matter)));
        if refused.next().is_some() { FIELD_REFUSED } else { "ok" }
    }

    /// One grant holds on the stored record and, unless its condition speaks of `next`, on the result; but first nobody
    /// writes a field that he may not.
    fn updated(&self, record: &Record, matter: Matter<'_>, next: &DynamicMessage) -> &'static str {
        let grants = || record.allow.iter().filter(|grant| grant.verbs.contains(&Verb::Update));
        let speaks_of_next = |grant: &Grant| grant.when.as_ref().is_some_and(|when| when.contains("next."));
        let possible = |grant: &&Grant| {
            let who = Grant { when: None, ..(*grant).clone() };
            if speaks_of_next(grant) { self.who(&who, matter) } else { self.holds(grant, matter) }
        };
        if !grants().any(|grant| possible(&grant)) {
            return RECORD_REFUSED;
        }
        let this = matter.this.expect("it is stored");
        let changed =
            record.fields.iter().filter(|field| this.get_field(&field.descriptor) != next.get_field(&field.descriptor));
        for field in changed {
            if !(self.may_read(field, matter) && self.may_write(field, matter)) {
                return FIELD_REFUSED;
            }
        }
        let allows = |grant: &Grant| {
            let before = self.holds(grant, Matter { next: Some(next), ..matter });
            before && (speaks_of_next(grant) || self.holds(grant, Matter { this: Some(next), ..matter }))
        };
        let allowed: Vec<bool> = grants().map(allows).collect();
        self.note_alone(grants().zip(&allowed));
        if allowed.contains(&true) { "ok" } else { RECORD_REFUSED }
    }

    fn handled(&self, method: &Method, plan: &Plan<'_>, matter: Matter<'_>) -> Expected {
        let target = method.target.is_some();
        if target && matter.this.is_none() {
            return Expected::Exactly(NOT_FOUND);
        }
        // A list of a handler's own is not judged on what is looked for in it.
        let matter = if target { matter } else { Matter { this: None, record: None, ..matter } };
        if self.none_or_any(&method.allow, matter) && !method.allow.is_empty() {
            return Expected::UpToHandler;
        }
        if !target {
            return Expected::Exactly(METHOD_REFUSED);
        }
        let record = self.record(plan).expect("a target is a record");
        let seen = self.any(&record.allow, Verb::Get, Matter { request: None, ..matter });
        Expected::Exactly(if seen { RECORD_REFUSED } else { NOT_FOUND })
    }

    /// Whether some record could be there on which some grant holds: asked before anything of the request is looked at.
    fn could(&self, plan: &Plan<'_>, method: &Method, facts: &Facts) -> bool {
        let record = self.record(plan);
        let home = match (&method.serve, &method.target) {
            (None, None) => None,
            _ => record.map(|record| record.home),
        };
        let could = |grant: &Grant| {
            let bound = facts.holds.iter().any(|(_, org, _)| !org.is_empty());
            let role = grant.role.is_none_or(|(role, level)| match level {
                Level::System => facts.is_superadmin(),
                Level::Org => facts
                    .holds
                    .iter()
                    .any(|(held, org, project)| *held >= role && !org.is_empty() && project.is_empty()),
                Level::Project => facts.holds.iter().any(|(held, org, _)| *held >= role && !org.is_empty()),
            });
            let could = standing(grant, facts)
                && role
                && (!grant.member || bound)
                && (!grant.owner || home == Some(Home::Global) || bound);
            if let (false, Some(tally)) = (could, self.tally) {
                tally.judged(grant, false, None);
            }
            could
        };
        match plan.verb() {
            Some(verb) => {
                let allow = &record.expect("a served method has a record").allow;
                let open = allow.iter().filter(|grant| grant.verbs.contains(&verb.granted_as()));
                open.map(could).collect::<Vec<bool>>().contains(&true)
            }
            None => method.allow.iter().map(could).collect::<Vec<bool>>().contains(&true),
        }
    }

    fn may_read(&self, field: &Field, matter: Matter<'_>) -> bool {
        self.none_or_any(&field.read, matter)
    }

    fn may_write(&self, field: &Field, matter: Matter<'_>) -> bool {
        self.none_or_any(&field.write, matter)
    }

    fn none_or_any(&self, grants: &[Grant], matter: Matter<'_>) -> bool {
        let held: Vec<bool> = grants.iter().map(|grant| self.holds(grant, matter)).collect();
        self.note_alone(grants.iter().zip(&held));
        grants.is_empty() || held.contains(&true)
    }

    fn any(&self, grants: &[Grant], verb: Verb, matter: Matter<'_>) -> bool {
        let open: Vec<&Grant> = grants.iter().filter(|grant| grant.verbs.contains(&verb)).collect();
        let held: Vec<bool> = open.iter().map(|grant| self.holds(grant, matter)).collect();
        self.note_alone(open.iter().copied().zip(&held));
        held.contains(&true)
    }

    fn note_alone<'g>(&self, held: impl Iterator<Item = (&'g Grant, &'g bool)>) {
        let Some(tally) = self.tally else { return };
        let mut holding = held.filter(|(_, held)| **held).map(|(grant, _)| grant);
        if let (Some(grant), None) = (holding.next(), holding.next()) {
            tally.alone(grant);
        }
    }

    /// Whether a grant holds: all that is set in it.
    fn holds(&self, grant: &Grant, matter: Matter<'_>) -> bool {
        let who = self.who(grant, matter);
        let when = grant.when.as_ref().map(|when| self.condition(when, matter));
        if let Some(tally) = self.tally {
            tally.judged(grant, who, when);
        }
        who && when.unwrap_or(true)
    }

    fn who(&self, grant: &Grant, matter: Matter<'_>) -> bool {
        let text = |field: Option<&FieldDescriptor>| {
            let value = field.and_then(|field| Some(matter.this?.get_field(field).as_str()?.to_owned()));
            value.unwrap_or_default()
        };
        let record = matter.record;
        let org = text(record.and_then(|record| record.org.as_ref()));
        let project = text(record.and_then(|record| record.project.as_ref()));
        let owner = text(record.and_then(|record| record.owner.as_ref()));
        let facts = matter.facts;
        let role = grant.role.is_none_or(|(role, level)| match level {
            Level::System => facts.is_superadmin(),
            Level::Org => facts.holds_at(role, &org, None),
            Level::Project => facts.holds_at(role, &org, Some(project.as_str()).filter(|project| !project.is_empty())),
        });
        let at_home_global = record.is_some_and(|record| record.home == Home::Global);
        standing(grant, facts)
            && role
            && (!grant.member || facts.is_member(&org))
            && (!grant.owner
                || !owner.is_empty() && owner == facts.account && (at_home_global || facts.is_member(&org)))
    }

    fn condition(&self, text: &str, matter: Matter<'_>) -> bool {
        let Matter { this, next, request, facts, package, .. } = matter;
        let seen = Seen { this, next, request, caller: facts, now: self.now };
        let holds = condition_holds(text, &self.contract.pool, package, &seen);
        if let Some(tally) = self.tally {
            tally.condition(text, holds);
        }
        holds
    }

    fn matter<'m>(&self, record: &'m Record, facts: &'m Facts, this: &'m DynamicMessage) -> Matter<'m> {
        Matter {
            package: record.message.package_name(),
            record: Some(record),
            this: Some(this),
            next: None,
            request: None,
            facts,
        }
    }

    /// The method as this contract has it: it may not be the one that the server has loaded.
    fn method(&self, plan: &Plan<'_>) -> &Method {
        let mut methods = self.contract.services.iter().flat_map(|service| &service.methods);
        methods.find(|method| method.path == plan.method.path).expect("a method of this contract")
    }

    fn record(&self, plan: &Plan<'_>) -> Option<&Record> {
        let name = plan.subject.record()?.message.full_name().to_owned();
        self.contract.records.iter().find(|record| record.message.full_name() == name)
    }
}

/// Accounts count in good standing only; with `public` alone anybody does. No role has permissions yet, so that nobody has any.
fn standing(grant: &Grant, facts: &Facts) -> bool {
    let named = grant.role.is_some() || grant.member || grant.owner || grant.signed_in;
    grant.permission.is_none() && if named { facts.verified } else { grant.public }
}

/// Whether a list asks for the org and project in which the record lies.
fn asks_there(plan: &Plan<'_>, record: &Record, stored: &DynamicMessage, request: &DynamicMessage) -> bool {
    if !matches!(plan.subject, Subject::Listed(..)) {
        return true;
    }
    let asked = |name: &str| request.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned));
    let lies = |field: &Option<FieldDescriptor>| {
        field.as_ref().and_then(|field| stored.get_field(field).as_str().map(str::to_owned)).unwrap_or_default()
    };
    [("org_id", lies(&record.org)), ("project_id", lies(&record.project))]
        .into_iter()
        .all(|(name, lies)| asked(name).is_none_or(|asked| asked.is_empty() || asked == lies))
}
