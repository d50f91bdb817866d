//! All calls of all callers, made for real, and what each came to.

use super::{
    callers::{Kind, State},
    ground::{Ground, json_of},
    oracle::{Facts, Token},
    places::{OrgAxis, OwnerAxis},
    plans::{Case, Form, Plan, Subject},
    requests::{Ask, ask},
    stage::Stage,
    wire::{Answer, Line, Protocol},
};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use sys_contract::model::{Level, Record, Verb};
use sys_policy::FRESH_PROOF_S;

/// Callers that are at work at the same time.
const AT_ONCE: usize = 4;

/// A call that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) plan: usize,
    pub(crate) kind: Kind,
    pub(crate) case: String,
    pub(crate) form: Form,
    pub(crate) facts: Facts,
    pub(crate) ask: Ask,
    /// `ok`, `ok, shown`, or code and reason.
    pub(crate) outcome: String,
    pub(crate) told: String,
    /// The records that the answer shows.
    pub(crate) shown: Vec<Shown>,
    /// What is not in the store as it should be after this.
    pub(crate) broken: Option<String>,
}

/// A record in an answer.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) record: String,
    /// The fields that are set.
    pub(crate) fields: BTreeSet<u32>,
    /// The record as it is stored.
    pub(crate) stored: DynamicMessage,
}

/// Makes all calls of these plans, as all these callers.
pub(crate) async fn attack(ground: &Arc<Ground>, plans: &'static [Plan<'static>], kinds: Vec<Kind>) -> Vec<Made> {
    let (kinds, next) = (Arc::new(kinds), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (ground, kinds, next) = (ground.clone(), kinds.clone(), next.clone());
            tokio::spawn(async move {
                let mut line = Line::open(ground.addr).await;
                let mut made = Vec::new();
                while let Some(kind) = kinds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    as_one(&ground, &mut line, plans, *kind, &mut made).await;
                }
                made
            })
        })
        .collect();
    let mut made = Vec::new();
    for worker in workers {
        made.extend(worker.await.expect("no caller panics"));
    }
    made
}

async fn as_one(ground: &Ground, line: &mut Line, plans: &'static [Plan<'static>], kind: Kind, made: &mut Vec<Made>) {
    // By the org that manages the caller's account.
    let mut stages: BTreeMap<OrgAxis, Stage> = BTreeMap::new();
    for (number, plan) in plans.iter().enumerate() {
        let before = made.len();
        for case in plan.cases(kind) {
            let managed = managed_by(plan, &case);
            let stage = match stages.entry(managed) {
                Entry::Occupied(stage) => stage.into_mut(),
                Entry::Vacant(none) => none.insert(Stage::build(ground, kind, managed).await),
            };
            let Some(ask) = ask(ground, stage, plan, &case).await else { continue };
            let call = call(ground, line, stage, (number, plan), &case, ask, made.len()).await;
            let may_have_changed = call.outcome.starts_with("ok")
                && !matches!(plan.verb(), Some(Verb::Get | Verb::List | Verb::Count | Verb::Watch));
            made.push(call);
            match plan.subject.record().filter(|_| plan.method.serve.is_some()) {
                // A served method changes the record that it is about, and nothing else.
                Some(record) if may_have_changed => stage.forget(record),
                None if may_have_changed => drop(stages.remove(&managed)),
                _ => {}
            }
            if !kind.state.is_identified() {
                break;
            }
        }
        assert!(made.len() > before, "{}: no request obeys its rules", plan.method.path);
    }
}

/// The org that manages the caller's account, where it is that account that the call is about.
fn managed_by(plan: &Plan<'_>, case: &Case) -> OrgAxis {
    let is_account = |record: &Record| record.owner.as_ref() == Some(&record.id);
    match plan.subject.record() {
        Some(record) if is_account(record) && case.spot.owner == OwnerAxis::Caller => case.spot.org,
        _ => OrgAxis::None,
    }
}

async fn call(
    ground: &Ground,
    line: &mut Line,
    stage: &Stage,
    (number, plan): (usize, &Plan<'_>),
    case: &Case,
    ask: Ask,
    serial: usize,
) -> Made {
    let protocol = Protocol::of(plan.method.flow, number + serial);
    let bytes = ask.message.encode_to_vec();
    let decode = |bytes: Bytes| {
        DynamicMessage::decode(plan.method.descriptor.output(), bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", plan.method.path))
    };
    let is_enough = |message: &Bytes| plan.is_enough(&decode(message.clone()));
    let answer = line.call(&plan.method.path, protocol, stage.token.as_deref(), &bytes, &is_enough).await;
    let Answer { outcome, told, message } = answer;
    let message = message.map(decode);
    let mut records = Vec::new();
    message.iter().for_each(|message| records_in(ground, message, &mut records));
    let mut shown = Vec::new();
    for (record, view) in &records {
        shown.extend(shown_of(ground, record, view).await);
    }
    let outcome = match (&plan.subject, &message) {
        (Subject::Listed(_, field), Some(message)) if outcome == "ok" => {
            let is_there = match &*message.get_field(field) {
                Value::I64(count) => *count > 0,
                _ => records.iter().any(|(record, view)| Some(id_in(record, view)) == wanted(ground, plan, &ask)),
            };
            if is_there { "ok, shown".to_owned() } else { "ok, not shown".to_owned() }
        }
        _ => outcome,
    };
    let broken = broken(ground, plan, &ask, &outcome, message.as_ref()).await;
    let facts = facts(stage);
    let (kind, form, name) = (stage.kind, case.form, plan.name(case));
    Made { plan: number, kind, case: name, form, facts, ask, outcome, told, shown, broken }
}

/// The id that a list was asked for.
fn wanted(ground: &Ground, plan: &Plan<'_>, ask: &Ask) -> Option<String> {
    plan.subject.record().zip(ask.id).map(|(record, id)| ground.table_of(record).id_text(id))
}

fn id_in(record: &Record, view: &DynamicMessage) -> String {
    view.get_field(&record.id).as_str().unwrap_or_default().to_owned()
}

/// What the stage made true of its caller.
pub(crate) fn facts(stage: &Stage) -> Facts {
    let state = stage.kind.state;
    let own = stage.own.org.to_string();
    let holds = stage.kind.counting().map(|(role, level)| match level {
        Level::System => (role, String::new(), String::new()),
        Level::Org => (role, own.clone(), String::new()),
        Level::Project => (role, own.clone(), stage.own.projects[0].to_string()),
    });
    // As old as a proof may be: the stages make it an hour.
    const { assert!(FRESH_PROOF_S < 3_600) };
    Facts {
        token: match state {
            State::Anonymous => Token::None,
            _ if state.is_identified() => Token::Good,
            _ => Token::Bad,
        },
        account: stage.caller.as_ref().map(|caller| caller.account.to_string()).unwrap_or_default(),
        verified: state.is_verified(),
        proven: state != State::Unproven && state != State::Anonymous,
        holds: holds.into_iter().collect(),
    }
}

/// The records that stand anywhere in a message.
fn records_in<'g>(ground: &'g Ground, message: &DynamicMessage, found: &mut Vec<(&'g Record, DynamicMessage)>) {
    let descriptor = message.descriptor();
    let mut records = ground.contracts().flat_map(|contract| &contract.records);
    if let Some(record) = records.find(|record| record.message == descriptor) {
        found.push((record, message.clone()));
        return;
    }
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => records_in(ground, inner, found),
            Value::List(values) => {
                values.iter().filter_map(Value::as_message).for_each(|inner| records_in(ground, inner, found))
            }
            _ => {}
        }
    }
}

async fn shown_of(ground: &Ground, record: &Record, view: &DynamicMessage) -> Option<Shown> {
    let table = ground.table_of(record);
    let id = table.parse_id(&id_in(record, view)).expect("a record in an answer has its id");
    // What the call itself removed can no longer be judged.
    let stored = ground.stored(table, id).await?;
    let fields = view.fields().map(|(field, _)| field.number()).collect();
    Some(Shown { record: record.message.full_name().to_owned(), fields, stored })
}

/// What a call left in the store that it should not have, or did not: nothing changes by what was refused, and what was
/// allowed has happened.
async fn broken(
    ground: &Ground,
    plan: &Plan<'_>,
    ask: &Ask,
    outcome: &str,
    answer: Option<&DynamicMessage>,
) -> Option<String> {
    let record = plan.subject.record()?;
    let table = ground.table_of(record);
    let is_ok = outcome.starts_with("ok");
    if let (Subject::New(..), true, Some(answer)) = (&plan.subject, is_ok, answer) {
        let id = table.parse_id(&id_in(record, answer)).expect("what was made has an id");
        let made = ground.stored(table, id).await;
        let owner = |message: &DynamicMessage| record.owner.as_ref().map(|owner| message.get_field(owner).into_owned());
        let wanted = ask.next.as_ref().expect("it was to be made");
        return match made {
            None => Some("it was not made".to_owned()),
            Some(made) if owner(&made) != owner(wanted) => Some(format!("it is another's: {}", json_of(&made))),
            Some(_) => None,
        };
    }
    let stored = ground.stored(table, ask.id?).await;
    match (plan.verb(), is_ok) {
        (_, false) | (Some(Verb::Get | Verb::List | Verb::Count | Verb::Watch), _) if stored != ask.stored => {
            Some("the record is not as it was".to_owned())
        }
        (Some(Verb::Delete), true) if stored.is_some() => Some("it is still there".to_owned()),
        (Some(Verb::Update), true) if !is_same(&stored, &ask.next) => Some("it is not as it was to become".to_owned()),
        _ => None,
    }
}

/// Whether two records say the same: a value that is the default is as good as none.
fn is_same(one: &Option<DynamicMessage>, other: &Option<DynamicMessage>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    one.descriptor().fields().all(|field| {
        one.has_field(&field) == other.has_field(&field) && one.get_field(&field) == other.get_field(&field)
    })
}
