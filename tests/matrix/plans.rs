//! What a method is asked in the matrix, and about what: derived from its descriptors and its contract.
//!
//! A plan says on which record a method works, which axes that record and the request have, and which cases follow. There is
//! no list of methods here: what cannot be derived stands in [`super::meanings`], by the meaning of fields.

use super::{
    callers::{Kind, State},
    fillings::{is_placing, obeys},
    meanings::{self, Meaning},
    places::{Axes, Filling, OrgAxis, OwnerAxis, ProjectAxis, Spot},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind as FieldKind, Value};
use std::collections::{BTreeMap, BTreeSet};
use sys_contract::model::{Contract, Field, Grant, Home, Method, Record, Shape, Validated, Verb};

/// What a method is asked.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) contract: &'a Contract,
    pub(crate) method: &'a Method,
    pub(crate) subject: Subject<'a>,
    pub(crate) axes: Axes,
    /// The fields of the request that a condition looks at, with all values that they take.
    varied: Vec<(FieldDescriptor, Vec<Choice>)>,
    /// What is written, of a method that writes fields.
    changes: Vec<Option<FieldDescriptor>>,
    /// The fields of a handler's request beside the id of its target, with what they mean.
    pub(crate) own_fields: Vec<(FieldDescriptor, Meaning)>,
    /// Whether the request can be wrong by itself.
    pub(crate) malformed: Option<Vec<FieldDescriptor>>,
}

/// The record that a call is about.
#[derive(Debug, Clone)]
pub(crate) enum Subject<'a> {
    /// None that the contract speaks of.
    None,
    /// One whose id stands there in the request.
    ById(&'a Record, Vec<FieldDescriptor>),
    /// One that is to be made, from the message there.
    New(&'a Record, FieldDescriptor),
    /// One that is looked for: in the field with items of an answer, or the one that counts them.
    Listed(&'a Record, FieldDescriptor),
}

/// How a call is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Form {
    Good,
    /// With an id that is none, or a text that is too long.
    Malformed,
    /// About a record that is not there.
    Absent,
}

/// What stands in a field that a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Choice {
    LeftOut,
    Given,
    /// A value of an enum.
    Number(i32),
}

/// One case: what a method is asked by each kind of caller.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) spot: Spot,
    pub(crate) form: Form,
    /// The field that is written.
    pub(crate) changed: Option<FieldDescriptor>,
    pub(crate) choices: BTreeMap<u32, Choice>,
}

impl<'a> Subject<'a> {
    pub(crate) fn record(&self) -> Option<&'a Record> {
        match self {
            Self::None => None,
            Self::ById(record, _) | Self::New(record, _) | Self::Listed(record, _) => Some(record),
        }
    }

    fn of(contract: &'a Contract, method: &Method) -> Self {
        if let Some(serve) = &method.serve {
            let record = &contract.records[serve.record];
            return match &serve.shape {
                Shape::Get { id } | Shape::Delete { id, .. } => Self::ById(record, vec![id.clone()]),
                Shape::Update { item, .. } => Self::ById(record, vec![item.clone(), record.id.clone()]),
                Shape::Create { item } => Self::New(record, item.clone()),
                Shape::List { items, .. } => Self::Listed(record, items.clone()),
                Shape::Count { count, .. } => Self::Listed(record, count.clone()),
                // What is there is told first, so that the first message says whether it is seen.
                Shape::Watch { item, .. } => Self::Listed(record, item.clone()),
            };
        }
        if let Some(target) = &method.target {
            return Self::ById(&contract.records[target.record], target.id.clone());
        }
        // A list of a handler's own can be asked for one record, as served ones can.
        let looks = method.descriptor.input().fields().any(|field| meanings::looks_for(&field));
        let answer = method.descriptor.output();
        let items = answer.fields().filter(FieldDescriptor::is_list);
        let mut listed = items.filter_map(|field| {
            let kind = field.kind();
            let record = contract.records.iter().find(|record| Some(&record.message) == kind.as_message())?;
            Some(Self::Listed(record, field))
        });
        let listed = listed.next().filter(|_| looks);
        listed.unwrap_or(Self::None)
    }
}

impl<'a> Plan<'a> {
    pub(crate) fn of(contract: &'a Contract, method: &'a Method) -> Self {
        let subject = Subject::of(contract, method);
        let conditions = Conditions::of(method, subject.record());
        let own_fields = own_fields(method);
        Self {
            axes: axes(method, &subject, &conditions, &own_fields),
            varied: varied(contract, method, &conditions),
            changes: changes(method, &subject, &conditions),
            malformed: malformed(method, &subject),
            own_fields,
            contract,
            method,
            subject,
        }
    }

    /// The verb of a served method.
    pub(crate) fn verb(&self) -> Option<Verb> {
        self.method.serve.as_ref().map(|serve| serve.verb)
    }

    /// Whether a message of an answer says whether what is looked for is seen. A watch begins with a word of its own.
    pub(crate) fn is_enough(&self, message: &DynamicMessage) -> bool {
        let Some(Shape::Watch { event, item, .. }) = self.method.serve.as_ref().map(|serve| &serve.shape) else {
            return true;
        };
        let current = event.kind().as_enum().and_then(|events| events.get_value_by_name("CURRENT"));
        let current = current.map(|current| Value::EnumNumber(current.number()));
        message.has_field(item) || Some(message.get_field(event).into_owned()) == current
    }

    /// The cases that a kind of caller makes.
    pub(crate) fn cases(&self, kind: Kind) -> Vec<Case> {
        let at_first = |form| {
            let (spot, changed) = (self.axes.first(), self.changes[0].clone());
            let case = move |choices| Case { spot, form, changed: changed.clone(), choices };
            self.choices().into_iter().map(case)
        };
        if !kind.state.is_identified() {
            // Whom the token does not name is refused before anything of the request is looked at.
            return at_first(Form::Good).collect();
        }
        let mut cases = Vec::new();
        for spot in self.axes.spots() {
            if kind.state == State::Anonymous && spot.owner == OwnerAxis::Caller && self.axes.owner.len() > 1 {
                continue;
            }
            for changed in &self.changes {
                let case = |choices| Case { spot, form: Form::Good, changed: changed.clone(), choices };
                cases.extend(self.choices().into_iter().map(case));
            }
        }
        if self.malformed.is_some() {
            cases.extend(at_first(Form::Malformed));
        }
        if matches!(self.subject, Subject::ById(..)) {
            cases.extend(at_first(Form::Absent));
        }
        cases
    }

    /// All ways to choose from what varies.
    fn choices(&self) -> Vec<BTreeMap<u32, Choice>> {
        let mut all = vec![BTreeMap::new()];
        for (field, choices) in &self.varied {
            let with = |chosen: &BTreeMap<u32, Choice>, choice: &Choice| {
                let mut chosen = chosen.clone();
                chosen.insert(field.number(), *choice);
                chosen
            };
            all = all.iter().flat_map(|chosen| choices.iter().map(move |choice| with(chosen, choice))).collect();
        }
        all
    }

    /// What is asked, in the words of the report, beside the place.
    pub(crate) fn name(&self, case: &Case) -> String {
        let mut words = Vec::new();
        match case.form {
            Form::Good => {}
            Form::Malformed => return "malformed".to_owned(),
            Form::Absent => return "absent".to_owned(),
        }
        let place = self.axes.name(case.spot);
        words.extend(Some(place).filter(|place| !place.is_empty()));
        if self.changes.len() > 1 {
            words.extend(case.changed.as_ref().map(|field| format!("+{}", field.name())));
        }
        for (field, _) in &self.varied {
            match case.choices[&field.number()] {
                Choice::LeftOut => words.push(format!("-{}", field.name())),
                Choice::Given => words.push(format!("+{}", field.name())),
                Choice::Number(number) => {
                    let name = field.kind().as_enum().and_then(|values| values.get_value(number));
                    words.push(name.map_or_else(|| number.to_string(), |value| value.name().to_owned()));
                }
            }
        }
        words.join(" ")
    }
}

/// What the conditions of a method's rules look at.
#[derive(Debug, Default)]
struct Conditions {
    /// Whether any looks at the record.
    of_record: bool,
    /// The fields of the request.
    of_request: BTreeSet<String>,
    /// The fields that a change is judged by.
    of_change: BTreeSet<String>,
}

impl Conditions {
    fn of(method: &Method, record: Option<&Record>) -> Self {
        let own = method.allow.iter().filter_map(|grant| grant.when.as_deref());
        let unless = method.step_up.iter().filter_map(|step_up| step_up.unless.as_deref());
        let texts: Vec<&str> = own.chain(unless).collect();
        let mut conditions = Self {
            of_record: texts.iter().any(|text| !names(text, "this.").is_empty()),
            of_request: texts.iter().flat_map(|text| names(text, "request.")).collect(),
            of_change: BTreeSet::new(),
        };
        let Some(record) = record else { return conditions };
        let rules = |field: &'_ Field| field.read.iter().chain(&field.write).cloned().collect::<Vec<Grant>>();
        let of_fields: Vec<Grant> = record.fields.iter().flat_map(rules).collect();
        for grant in record.allow.iter().chain(&of_fields) {
            let Some(when) = &grant.when else { continue };
            conditions.of_record = true;
            if grant.verbs.contains(&Verb::Update) {
                conditions.of_change.extend(names(when, "this."));
                conditions.of_change.extend(names(when, "next."));
            }
        }
        conditions
    }
}

/// The names that stand in a condition behind this root.
fn names(text: &str, root: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    text.split(root).skip(1).map(name).collect()
}

/// The fields that the contract does not say the use of: whoever adds one that nobody knows is told so.
fn own_fields(method: &Method) -> Vec<(FieldDescriptor, Meaning)> {
    if method.serve.is_some() {
        return Vec::new();
    }
    let target = method.target.as_ref().and_then(|target| target.id.first().cloned());
    let fields = method.descriptor.input();
    let fields = fields.fields().filter(|field| Some(field) != target.as_ref());
    fields.map(|field| (field.clone(), meanings::meaning(method, &field))).collect()
}

fn axes(
    method: &Method,
    subject: &Subject<'_>,
    conditions: &Conditions,
    own_fields: &[(FieldDescriptor, Meaning)],
) -> Axes {
    let mut axes = Axes::default();
    if let Some(record) = subject.record() {
        let is_new = matches!(subject, Subject::New(..));
        let is_own = |field: &Option<FieldDescriptor>| field.as_ref() == Some(&record.id);
        if record.org.is_some() {
            axes.org = vec![OrgAxis::Own, OrgAxis::Other];
            // What is at home GLOBAL and in no project may be in no org.
            if record.home == Home::Global && !is_own(&record.org) && record.project.is_none() {
                axes.org.push(OrgAxis::None);
            }
        }
        if record.project.is_some() {
            axes.project = vec![ProjectAxis::Own, ProjectAxis::Other];
            if !is_own(&record.project) {
                axes.project.push(ProjectAxis::None);
            }
        }
        if record.owner.is_some() && !is_new {
            axes.owner = vec![OwnerAxis::Caller, OwnerAxis::Another];
        }
    }
    let looks_inside = |name: &String| {
        let field = method.descriptor.input().get_field_by_name(name);
        field.is_some_and(|field| matches!(field.kind(), FieldKind::Message(_)))
    };
    if conditions.of_record || conditions.of_request.iter().any(looks_inside) {
        axes.filling = vec![Filling::Plain, Filling::Full];
    }
    own_fields.iter().for_each(|(_, meaning)| meanings::widen(*meaning, &mut axes));
    axes
}

/// The fields of a request of which each value is tried: those that conditions name, those of a rule about the whole request,
/// and what narrows a list.
fn varied(contract: &Contract, method: &Method, conditions: &Conditions) -> Vec<(FieldDescriptor, Vec<Choice>)> {
    let input = method.descriptor.input();
    let mut named = conditions.of_request.clone();
    for validation in &contract.validations {
        if matches!(&validation.this, Validated::Message(message) if *message == input) {
            named.extend(names(&validation.expression, "this."));
        }
    }
    if let Some(
        Shape::List { org, project, .. } | Shape::Count { org, project, .. } | Shape::Watch { org, project, .. },
    ) = method.serve.as_ref().map(|serve| &serve.shape)
    {
        let record = &contract.records[method.serve.as_ref().map_or(0, |serve| serve.record)];
        // A list of records at home in an org names one.
        named.extend(org.iter().filter(|_| record.home == Home::Global).map(|field| field.name().to_owned()));
        named.extend(project.iter().map(|field| field.name().to_owned()));
    }
    let fields = input.fields().filter(|field| named.contains(field.name()));
    fields
        .filter_map(|field| match field.kind() {
            FieldKind::Message(_) => None,
            FieldKind::Enum(values) => {
                let values = values.values().map(|value| value.number()).filter(|number| may_be(&field, *number));
                let values = values.map(Choice::Number).collect();
                Some((field, values))
            }
            _ => Some((field, vec![Choice::Given, Choice::LeftOut])),
        })
        .collect()
}

/// Whether a value of an enum is one that the rules of its field let through.
fn may_be(field: &FieldDescriptor, number: i32) -> bool {
    let mut message = DynamicMessage::new(field.parent_message().clone());
    message.set_field(field, Value::EnumNumber(number));
    obeys(&message, field)
}

/// What is written, one field at a time: one without rules, each that has rules, and each that a change is judged by. What is
/// made is made without the fields that have rules, and once with each of them.
fn changes(method: &Method, subject: &Subject<'_>, conditions: &Conditions) -> Vec<Option<FieldDescriptor>> {
    let Some(verb) = method.serve.as_ref().map(|serve| serve.verb) else { return vec![None] };
    let Some(record) = subject.record().filter(|_| matches!(verb, Verb::Create | Verb::Update)) else {
        return vec![None];
    };
    let writable = |field: &&Field| {
        !(field.output_only || field.immutable || is_placing(record, &field.descriptor))
            && record.etag.as_ref() != Some(&field.descriptor)
    };
    let fields: Vec<&Field> = record.fields.iter().filter(writable).collect();
    let ruled = fields.iter().filter(|field| is_ruled(field)).map(|field| Some(field.descriptor.clone()));
    if verb == Verb::Create {
        return std::iter::once(None).chain(ruled).collect();
    }
    let plain = fields.iter().find(|field| !is_ruled(field)).map(|field| field.descriptor.clone());
    let plain = plain.unwrap_or_else(|| panic!("{} has nothing to change", record.message.full_name()));
    let judged = fields.iter().filter(|field| {
        !is_ruled(field) && field.descriptor != plain && conditions.of_change.contains(field.descriptor.name())
    });
    let judged = judged.map(|field| Some(field.descriptor.clone()));
    std::iter::once(Some(plain.clone())).chain(ruled).chain(judged).collect()
}

/// Whether a field has rules of its own.
pub(crate) fn is_ruled(field: &Field) -> bool {
    !(field.read.is_empty() && field.write.is_empty())
}

/// Where a request can be wrong by itself: its id, or the first text that has a bound.
fn malformed(method: &Method, subject: &Subject<'_>) -> Option<Vec<FieldDescriptor>> {
    if let Subject::ById(_, path) = subject {
        return Some(path.clone());
    }
    let bounded = |field: &FieldDescriptor| {
        matches!(field.kind(), FieldKind::String) && !field.is_list() && field.options().extensions().any(is_rule)
    };
    let of_item = match subject {
        Subject::New(record, item) => record.message.fields().find(bounded).map(|field| vec![item.clone(), field]),
        _ => None,
    };
    of_item.or_else(|| method.descriptor.input().fields().find(bounded).map(|field| vec![field]))
}

fn is_rule((extension, _): (prost_reflect::ExtensionDescriptor, &prost_reflect::Value)) -> bool {
    extension.parent_file().package_name() == "buf.validate"
}
