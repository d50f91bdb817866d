//! The request of a case: a message that obeys its validation rules, with ids from the stage in it.

use super::{
    fillings::{filled, violations},
    ground::{Ground, json_of},
    meanings::Desk,
    places::OwnerAxis,
    plans::{Case, Choice, Form, Plan, Subject, is_ruled},
    stage::Stage,
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use sys_contract::{
    id::RecordId,
    model::{Record, Shape},
};

/// No id, and longer than any text may be.
const MALFORMED_CHARS: usize = 2_000;

/// A request, and what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) message: DynamicMessage,
    pub(crate) id: Option<RecordId>,
    /// The record as it is stored when the call is made.
    pub(crate) stored: Option<DynamicMessage>,
    /// The record as it is to become, of a call that makes or changes one.
    pub(crate) next: Option<DynamicMessage>,
}

/// Writes the request of a case; `None` if there is no such request that obeys the rules, as where it chose two of which one
/// must be left out.
pub(crate) async fn ask(ground: &Ground, stage: &mut Stage, plan: &Plan<'_>, case: &Case) -> Option<Ask> {
    let mut ask =
        Ask { message: DynamicMessage::new(plan.method.descriptor.input()), id: None, stored: None, next: None };
    match &plan.subject {
        Subject::None => {}
        Subject::ById(record, path) => {
            about_one(ground, stage, case, record, &mut ask).await;
            let text = ground.table_of(record).id_text(ask.id.expect("it is about one"));
            if let Some(Shape::Update { item, mask }) = plan.method.serve.as_ref().map(|serve| &serve.shape) {
                change_one(ground, stage, case, record, (item, mask), &mut ask);
            }
            set_at(&mut ask.message, path, Value::String(text));
        }
        Subject::New(record, item) => {
            let new = new_record(ground, stage, case, record);
            let mut next = new.clone();
            let caller = stage.caller.as_ref().filter(|_| stage.kind.state.is_verified());
            if let (Some(owner), Some(caller)) = (&record.owner, caller) {
                next.set_field(owner, Value::String(caller.account.to_string()));
            }
            ask.message.set_field(item, Value::Message(new));
            ask.next = Some(next);
        }
        Subject::Listed(record, _) => {
            about_one(ground, stage, case, record, &mut ask).await;
            narrow(ground, stage, plan, case, &mut ask);
        }
    }
    let wanted = match &plan.subject {
        Subject::Listed(record, _) => ask.id.map(|id| (ground.table_of(record).id_text(id), *record)),
        _ => None,
    };
    let mut desk = Desk { ground, stage, spot: case.spot, wanted, invitation: None };
    for (field, meaning) in &plan.own_fields {
        if let Some(value) = desk.value(field, *meaning).await {
            ask.message.set_field(field, value);
        }
    }
    choose(&mut ask.message, case);
    if case.form == Form::Malformed {
        let path = plan.malformed.as_ref().expect("a case of a plan");
        set_at(&mut ask.message, path, Value::String("x".repeat(MALFORMED_CHARS)));
        return Some(ask);
    }
    is_valid(&ask.message, plan).then_some(ask)
}

/// The record that a call is about, laid out in the stage.
async fn about_one(ground: &Ground, stage: &mut Stage, case: &Case, record: &Record, ask: &mut Ask) {
    if case.form == Form::Absent {
        ask.id = Some(stage.absent(ground, record, case.spot));
        return;
    }
    let id = stage.record(ground, record, case.spot).await;
    ask.id = Some(id);
    ask.stored = ground.stored(ground.table_of(record), id).await;
}

/// Changes one field of it, to the value that it has in the other filling.
fn change_one(
    ground: &Ground,
    stage: &Stage,
    case: &Case,
    record: &Record,
    (item, mask): (&FieldDescriptor, &FieldDescriptor),
    ask: &mut Ask,
) {
    let field = case.changed.as_ref().expect("an update changes a field");
    let other = filled(ground, record, case.spot.filling.opposite(), &stage.named());
    let value = other.get_field(field).into_owned();
    let mut new = DynamicMessage::new(record.message.clone());
    new.set_field(field, value.clone());
    ask.message.set_field(item, Value::Message(new));
    ask.message.set_field(mask, Value::Message(mask_of(mask, field)));
    ask.next = ask.stored.clone().map(|mut next| {
        next.set_field(field, value);
        next
    });
}

/// A list is asked for one record, so that its answer shows whether that one is in it.
fn narrow(ground: &Ground, stage: &Stage, plan: &Plan<'_>, case: &Case, ask: &mut Ask) {
    let (Subject::Listed(record, _), Some(id)) = (&plan.subject, ask.id) else { return };
    let text = ground.table_of(record).id_text(id);
    let Some(
        Shape::List { org, project, filter, .. }
        | Shape::Count { org, project, filter, .. }
        | Shape::Watch { org, project, filter, .. },
    ) = plan.method.serve.as_ref().map(|serve| &serve.shape)
    else {
        return;
    };
    let values =
        [(org, stage.org(case.spot)), (project, stage.project(case.spot)), (filter, format!("id == {text:?}"))];
    for (field, value) in values {
        if let Some(field) = field {
            ask.message.set_field(field, Value::String(value));
        }
    }
}

/// A record as its maker sends it: without the fields that have rules, save the one that the case is about.
fn new_record(ground: &Ground, stage: &Stage, case: &Case, record: &Record) -> DynamicMessage {
    let mut new = filled(ground, record, case.spot.filling, &stage.named());
    for field in record.fields.iter().filter(|field| is_ruled(field)) {
        if case.changed.as_ref() != Some(&field.descriptor) {
            new.clear_field(&field.descriptor);
        }
    }
    let spot = super::places::Spot { owner: OwnerAxis::Another, ..case.spot };
    stage.set_place(record, spot, &mut new);
    // Whose it is, is not for a request to say.
    record.owner.iter().for_each(|owner| new.clear_field(owner));
    new
}

/// Puts into the fields that vary what this case chose.
fn choose(message: &mut DynamicMessage, case: &Case) {
    for (number, choice) in &case.choices {
        let field = message.descriptor_field(*number);
        match choice {
            Choice::Given => {}
            Choice::LeftOut => message.clear_field(&field),
            Choice::Number(number) => message.set_field(&field, Value::EnumNumber(*number)),
        }
    }
}

/// Whether a request obeys the rules of its own fields. What is in the message of an update is judged by the record that comes
/// out.
fn is_valid(message: &DynamicMessage, plan: &Plan<'_>) -> bool {
    let partial = match plan.method.serve.as_ref().map(|serve| &serve.shape) {
        Some(Shape::Update { item, .. }) => Some(format!("{}.", item.name())),
        _ => None,
    };
    let judged = |path: &str| partial.as_deref().is_none_or(|item| !path.starts_with(item));
    !violations(message).iter().any(|path| judged(path))
}

fn mask_of(mask: &FieldDescriptor, field: &FieldDescriptor) -> DynamicMessage {
    let Kind::Message(kind) = mask.kind() else { panic!("{} is a field mask", mask.full_name()) };
    let mut message = DynamicMessage::new(kind);
    message.set_field_by_name("paths", Value::List(vec![Value::String(field.name().to_owned())]));
    message
}

/// Sets the field at the end of a path.
fn set_at(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
    match path {
        [] => panic!("a path has a field"),
        [last] => message.set_field(last, value),
        [next, rest @ ..] => {
            let inner = message.get_field_mut(next).as_message_mut().unwrap_or_else(|| panic!("{next:?} is a message"));
            set_at(inner, rest, value);
        }
    }
}

/// Finds a field by its number.
trait FieldByNumber {
    fn descriptor_field(&self, number: u32) -> FieldDescriptor;
}

impl FieldByNumber for DynamicMessage {
    fn descriptor_field(&self, number: u32) -> FieldDescriptor {
        use prost_reflect::ReflectMessage;
        self.descriptor().get_field(number).unwrap_or_else(|| panic!("{} has no field {number}", json_of(self)))
    }
}
