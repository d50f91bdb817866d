//! The rules of a contract, compiled once: every decision on a record is made here.
//!
//! A decision is a loop over the grants of one record type, which are few and stand in the order of the contract; it takes
//! no lock, allocates nothing and compares no text for roles. Must never happen here: a decision from anything but the
//! caller, the record, its placement and the time of the call.

use crate::{
    caller::Caller,
    cel::{
        error::CelError,
        eval::Env,
        time::Now,
        tokens::{Indexes, Proposal, proposals},
        turns,
    },
    content::Content,
    fields::FieldSet,
    filter::Filter,
    grant::{CompiledGrant, Condition, GrantNo, Subject, compile_all},
    method::MethodRules,
    placement::{Placement, PlacementError, ScopeFields},
    plan::{Branch, Plan, TokenTest, TokenValue, Wanted, spans},
    search::{Search, SearchError},
    validations,
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::{
    id::{OrgTag, ProjectId},
    model::{Contract, Home, Index, Record, Verb},
    problem::{Problem, Problems},
};

/// The rules of one contract.
#[derive(Debug)]
pub struct Rules {
    records: Vec<Arc<RecordRules>>,
    methods: BTreeMap<String, Arc<MethodRules>>,
}

/// The rules of one record type.
#[derive(Debug)]
pub struct RecordRules {
    message: MessageDescriptor,
    pool: DescriptorPool,
    scope: ScopeFields,
    grants: Vec<CompiledGrant>,
    /// What each grant says about indexes, in the order of `grants`.
    proposals: Vec<Vec<Proposal>>,
    /// The fields that have rules of their own.
    fields: Vec<FieldRules>,
    /// The indexed fields that a filter may use: those without read rules.
    filter_indexes: Indexes,
}

/// The rules of one field.
#[derive(Debug)]
pub(crate) struct FieldRules {
    pub(crate) number: u32,
    pub(crate) read: Vec<CompiledGrant>,
    pub(crate) write: Vec<CompiledGrant>,
}

impl Rules {
    /// Compiles all rules of a contract, or says everything that is wrong with them.
    pub fn compile(contract: &Contract) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let records: Vec<_> =
            contract.records.iter().map(|record| Arc::new(compile_record(contract, record, &mut problems))).collect();
        let mut methods = BTreeMap::new();
        for method in contract.services.iter().flat_map(|service| &service.methods) {
            let rules = MethodRules::compile(contract, method, &records, &mut problems);
            methods.insert(method.path.clone(), Arc::new(rules));
        }
        validations::check(contract, &mut problems);
        if problems.is_empty() {
            return Ok(Self { records, methods });
        }
        problems.sort();
        problems.dedup();
        Err(Problems(problems))
    }

    /// The rules of the record with this index in [`Contract::records`].
    ///
    /// # Panics
    /// If the contract that the rules were compiled from has no such record.
    pub fn record(&self, index: usize) -> &Arc<RecordRules> {
        #[allow(clippy::indexing_slicing, reason = "indices of records are made by the contract's loader alone")]
        &self.records[index]
    }

    /// The rules of a method, by its path without the leading slash.
    pub fn method(&self, path: &str) -> Option<&Arc<MethodRules>> {
        self.methods.get(path)
    }
}

impl RecordRules {
    /// Where a record stands, from its own scope fields.
    pub fn placement<'a>(&self, record: impl Into<Content<'a>>) -> Result<Placement, PlacementError> {
        self.scope.placement(record.into())
    }

    /// Whether any grant might hold for the caller on some record: before a record, or even the request, is at hand.
    pub fn could(&self, caller: &Caller, verb: Verb, now: &Now) -> bool {
        self.grants.iter().any(|grant| grant.opens(verb) && grant.who.could(caller, Some(self.scope.home), now))
    }

    /// The first grant by which the caller may GET (or LIST), CREATE or DELETE the record: on CREATE as it would be
    /// stored, else as it is stored. Whether he may UPDATE it cannot be said without the result: that is none here, see
    /// [`Self::allows_update`].
    pub fn allows<'a>(
        &self,
        verb: Verb,
        caller: &'a Caller,
        record: impl Into<Content<'a>>,
        placement: &Placement,
        now: &Now,
    ) -> Option<GrantNo> {
        if verb == Verb::Update {
            return None;
        }
        let env = env(caller, record.into(), now);
        let mut grants = self.grants.iter().filter(|grant| grant.opens(verb));
        grants.find(|grant| grant.holds(caller, Some(placement), &env)).map(|grant| grant.no)
    }

    /// The first grant by which the caller may change `stored` into `next`: it holds on both, save where its `when` names
    /// `next` and so judges the change itself. `placement` is that of the stored record; scope fields do not change.
    pub fn allows_update(
        &self,
        caller: &Caller,
        stored: &DynamicMessage,
        next: &DynamicMessage,
        placement: &Placement,
        now: &Now,
    ) -> Option<GrantNo> {
        let before = Env { next: Some(next), ..env(caller, stored.into(), now) };
        let after = env(caller, next.into(), now);
        let mut grants = self.grants.iter().filter(|grant| grant.opens(Verb::Update));
        let holds = |grant: &&CompiledGrant| {
            grant.holds(caller, Some(placement), &before)
                && grant.when.as_ref().is_none_or(|when| when.names_next || when.holds(&after))
        };
        grants.find(holds).map(|grant| grant.no)
    }

    /// Whether some change of the record might be allowed: a grant holds on it as it is stored, or asks in its `when` for
    /// something of `next`, which is answered by [`Self::allows_update`] alone.
    pub fn could_update<'a>(
        &self,
        caller: &'a Caller,
        stored: impl Into<Content<'a>>,
        placement: &Placement,
        now: &Now,
    ) -> bool {
        let env = env(caller, stored.into(), now);
        let mut grants = self.grants.iter().filter(|grant| grant.opens(Verb::Update));
        grants.any(|grant| {
            grant.who.holds(caller, Some(placement), now)
                && grant.when.as_ref().is_none_or(|when| when.names_next || when.holds(&env))
        })
    }

    /// The ranges that hold every record which the caller may GET, of the org and project if they are given. A list of
    /// records at home in an org names one: without it there is nothing to walk. The opened record is judged by
    /// [`Self::allows`] and [`Self::is_within`].
    pub fn plan(&self, caller: &Caller, org: Option<OrgTag>, project: Option<ProjectId>, now: &Now) -> Plan {
        let wanted = Wanted { home: self.scope.home, org, project };
        if wanted.home == Home::Org && org.is_none() {
            return Plan::default();
        }
        let grants = self.grants.iter().zip(&self.proposals).filter(|(grant, _)| grant.opens(Verb::Get));
        Plan::of(grants.flat_map(|(grant, proposals)| {
            let tokens: Vec<_> = proposals.iter().filter_map(|proposal| token_test(proposal, caller)).collect();
            let covers_span = grant.covers_its_span();
            let branch = move |span| Branch { span, tokens: tokens.clone(), covers_span };
            spans(&grant.who, caller, &wanted, now).into_iter().map(branch)
        }))
    }

    /// Whether a record belongs to the org and project that a list asks for.
    pub fn is_within(&self, placement: &Placement, org: Option<OrgTag>, project: Option<ProjectId>) -> bool {
        (org.is_none() || placement.org == org) && (project.is_none() || placement.project == project)
    }

    /// Whether some field has rules of its own; if none has, nothing is ever hidden or unwritable.
    pub fn has_field_rules(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The fields that the caller may not read on this record, among those who may read the record.
    pub fn hidden_fields<'a>(
        &self,
        caller: &'a Caller,
        record: impl Into<Content<'a>>,
        placement: &Placement,
        now: &Now,
    ) -> FieldSet {
        let env = env(caller, record.into(), now);
        let hidden = |field: &&FieldRules| !any_holds(&field.read, caller, placement, &env);
        self.fields.iter().filter(hidden).map(|field| field.number).collect()
    }

    /// The fields that the caller may not write on this record: those that he may not read, and those that he may only read.
    pub fn unwritable_fields<'a>(
        &self,
        caller: &'a Caller,
        record: impl Into<Content<'a>>,
        placement: &Placement,
        now: &Now,
    ) -> FieldSet {
        let env = env(caller, record.into(), now);
        let unwritable = |field: &&FieldRules| {
            !any_holds(&field.read, caller, placement, &env) || !any_holds(&field.write, caller, placement, &env)
        };
        self.fields.iter().filter(unwritable).map(|field| field.number).collect()
    }

    /// Whether time alone can change who may GET a record, or which of its fields he may read. That a binding expires is
    /// not part of it: see [`Caller::next_expiry`].
    pub fn names_now(&self) -> bool {
        self.conditions_of_get().any(|when| turns::names_now(&when.ir))
    }

    /// The first moment after `now` at which a condition on this record may hold or cease to; none if time changes nothing.
    pub fn next_turn(&self, caller: &Caller, record: &DynamicMessage, now: &Now) -> Option<Now> {
        let env = env(caller, record.into(), now);
        self.conditions_of_get().filter_map(|when| turns::next_turn(&when.ir, &env)).min()
    }

    /// All conditions that who may see what of a record hangs on.
    fn conditions_of_get(&self) -> impl Iterator<Item = &Condition> {
        let of_fields = self.fields.iter().flat_map(|field| &field.read);
        let grants = self.grants.iter().filter(|grant| grant.opens(Verb::Get)).chain(of_fields);
        grants.filter_map(|grant| grant.when.as_ref())
    }

    /// Reads a list filter, typed against the record. An empty text is a filter that all pass.
    pub fn filter(&self, text: &str) -> Result<Filter, CelError> {
        Filter::read(text, &self.message, &self.pool, &self.filter_indexes)
    }

    /// Reads a text to search for.
    pub fn search(&self, text: &str) -> Result<Search, SearchError> {
        Search::read(text, &self.message, &self.filter_indexes)
    }

    /// Whether an index on this field may decide what a list walks: nobody who reads the record has it hidden from him.
    pub fn may_order_by(&self, field: u32) -> bool {
        self.filter_indexes.contains_key(&field)
    }

    pub(crate) fn home(&self) -> Home {
        self.scope.home
    }

    pub(crate) fn grants(&self) -> &[CompiledGrant] {
        &self.grants
    }

    pub(crate) fn field_rules(&self) -> &[FieldRules] {
        &self.fields
    }
}

/// No rule: whoever has the record.
fn any_holds(grants: &[CompiledGrant], caller: &Caller, placement: &Placement, env: &Env<'_>) -> bool {
    grants.is_empty() || grants.iter().any(|grant| grant.holds(caller, Some(placement), env))
}

fn env<'a>(caller: &'a Caller, record: Content<'a>, now: &Now) -> Env<'a> {
    Env { this: Some(record), next: None, request: None, caller: Some(caller), now: *now, hidden: None }
}

fn token_test(proposal: &Proposal, caller: &Caller) -> Option<TokenTest> {
    match proposal {
        Proposal::Fixed(test) => Some(test.clone()),
        Proposal::CallersAccount(_) if caller.account_text().is_empty() => None,
        Proposal::CallersAccount(field) => {
            let account = Value::String(caller.account_text().to_owned());
            Some(TokenTest { field: *field, any_of: vec![TokenValue::Exact(account)] })
        }
    }
}

fn compile_record(contract: &Contract, record: &Record, problems: &mut Vec<Problem>) -> RecordRules {
    let package = record.message.package_name();
    let subject = Subject { contract, package, record: Some(record), request: None };
    let grants = compile_all(&record.allow, subject, problems);
    let indexes = indexes(record, |_| true);
    let of_grant = |grant: &CompiledGrant| grant.when.as_ref().map(|when| proposals(&when.ir, &indexes));
    RecordRules {
        message: record.message.clone(),
        pool: contract.pool.clone(),
        scope: ScopeFields::of(record),
        proposals: grants.iter().map(|grant| of_grant(grant).unwrap_or_default()).collect(),
        grants,
        fields: compile_fields(record, subject, problems),
        filter_indexes: indexes_for_filters(record),
    }
}

fn compile_fields(record: &Record, subject: Subject<'_>, problems: &mut Vec<Problem>) -> Vec<FieldRules> {
    let ruled = record.fields.iter().filter(|field| !(field.read.is_empty() && field.write.is_empty()));
    ruled
        .map(|field| FieldRules {
            number: field.descriptor.number(),
            read: compile_all(&field.read, subject, problems),
            write: compile_all(&field.write, subject, problems),
        })
        .collect()
}

/// The indexed fields that pass.
fn indexes(record: &Record, passes: impl Fn(&sys_contract::model::Field) -> bool) -> Indexes {
    let fields = record.fields.iter().filter(|field| passes(field));
    fields.filter_map(|field| field.index.map(|index: Index| (field.descriptor.number(), index))).collect()
}

fn indexes_for_filters(record: &Record) -> Indexes {
    indexes(record, |field| field.read.is_empty())
}
