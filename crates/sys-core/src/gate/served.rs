//! Served methods: create, get, list, count, update and delete on a record, with no line of code in the module.

use crate::{call::Call, refusal::Refusal, wire::Answer};
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::sync::Arc;
use sys_contract::{
    encoded::push_message,
    id::{OrgId, RecordId},
    model::{Serve, Shape, Verb},
};
use sys_store::{Change, Confined, ListRequest, Permit, Table, View};

/// What most records of a page take, so that its buffer rarely grows.
const USUAL_RECORD_BYTES: usize = 512;

/// Serves a call. What is not a get runs in a box of its own, so that a get, the call that all others wait behind, stays small.
pub(super) async fn serve(call: &Call, serve: &Serve, request: &DynamicMessage) -> Result<Answer, Refusal> {
    let table = call.method().module.tables.table(serve.record).ok_or_else(|| Refusal::internal("no such table"))?;
    match &serve.shape {
        Shape::Get { id } => get(call, table, id_at(request, std::slice::from_ref(id), table)?).await,
        Shape::List { items, next_page_token, .. } => {
            let asked = list_request(&serve.shape, request)?;
            Box::pin(list(call, table, &asked, (items, next_page_token))).await
        }
        Shape::Count { count, .. } => {
            let asked = list_request(&serve.shape, request)?;
            Box::pin(self::count(call, table, &asked, count)).await
        }
        Shape::Watch { .. } => Err(Refusal::internal("a watch is served as a stream")),
        Shape::Create { item } => Box::pin(create(call, table, item, request)).await,
        Shape::Update { item, mask } => Box::pin(update(call, table, (item, mask), request)).await,
        Shape::Delete { id, etag } => {
            let etag = etag.as_ref().and_then(|field| text_at(request, field));
            let id = id_at(request, std::slice::from_ref(id), table)?;
            Box::pin(delete(call, table, id, etag)).await
        }
    }
}

async fn get(call: &Call, table: &Arc<Table>, id: RecordId) -> Result<Answer, Refusal> {
    let mut open = call.open().await?;
    let mut confined = open.confined(table, call.caller());
    let permit = permit(call, &mut confined, Verb::Get, id).await?;
    Ok(shown(table, confined.get(permit).await?))
}

async fn list(
    call: &Call,
    table: &Arc<Table>,
    asked: &ListRequest,
    (items, next_page_token): (&FieldDescriptor, &FieldDescriptor),
) -> Result<Answer, Refusal> {
    note_org(call, &asked.org_id);
    let page = call.open().await?.confined(table, call.caller()).list(asked).await?;
    let mut response = Vec::with_capacity(page.views.len() * USUAL_RECORD_BYTES);
    for view in page.views {
        push_message(&mut response, items.number(), &view.into_bytes());
    }
    if !page.next_page_token.is_empty() {
        push_message(&mut response, next_page_token.number(), page.next_page_token.as_bytes());
    }
    Ok(Answer::Encoded(response, call.method().method().descriptor.output()))
}

async fn count(
    call: &Call,
    table: &Arc<Table>,
    asked: &ListRequest,
    field: &FieldDescriptor,
) -> Result<Answer, Refusal> {
    note_org(call, &asked.org_id);
    let count = call.open().await?.confined(table, call.caller()).count(asked).await?;
    let mut response = DynamicMessage::new(call.method().method().descriptor.output());
    response.set_field(field, Value::I64(i64::try_from(count).map_err(Refusal::internal)?));
    Ok(response.into())
}

async fn create(
    call: &Call,
    table: &Arc<Table>,
    item: &FieldDescriptor,
    request: &DynamicMessage,
) -> Result<Answer, Refusal> {
    let new = message_at(request, item)?;
    call.note(|subject| subject.org = table.rules().placement(&new).ok().and_then(|placement| placement.org));
    let written = call.open().await?.confined(table, call.caller()).create(new).await;
    let written = written.map_err(|refused| Refusal::from(refused).within(item.name()))?;
    call.note(|subject| subject.grant = Some(written.grant));
    Ok(shown(table, written.view))
}

async fn update(
    call: &Call,
    table: &Arc<Table>,
    (item, mask): (&FieldDescriptor, &FieldDescriptor),
    request: &DynamicMessage,
) -> Result<Answer, Refusal> {
    let within = |refusal: Refusal| refusal.within(item.name());
    let new = message_at(request, item)?;
    let id = id_at(&new, std::slice::from_ref(&table.record().id), table).map_err(within)?;
    let etag = table.record().etag.as_ref().and_then(|field| text_at(&new, field));
    let change = Change::parse(table, &mask_paths(request, mask), new)?;
    let mut open = call.open().await?;
    let mut confined = open.confined(table, call.caller());
    let permit = permit(call, &mut confined, Verb::Update, id).await?;
    let written = confined.update(permit, &change, etag.as_deref()).await.map_err(|refused| within(refused.into()))?;
    crate::host::validate_result(&mut open, call.method(), table, id, &written.fields).await.map_err(within)?;
    call.note(|subject| subject.grant = Some(written.grant));
    Ok(shown(table, written.view))
}

async fn delete(call: &Call, table: &Arc<Table>, id: RecordId, etag: Option<String>) -> Result<Answer, Refusal> {
    let mut open = call.open().await?;
    let mut confined = open.confined(table, call.caller());
    let permit = permit(call, &mut confined, Verb::Delete, id).await?;
    confined.delete(permit, etag.as_deref()).await?;
    Ok(DynamicMessage::new(call.method().method().descriptor.output()).into())
}

/// A view as an answer.
fn shown(table: &Table, view: View) -> Answer {
    Answer::Encoded(view.into_bytes(), table.record().message.clone())
}

/// Notes the org that is asked about for the audit leaf, if there is one.
pub(super) fn note_org(call: &Call, org_id: &str) {
    call.note(|subject| subject.org = org_id.parse().ok().map(|org: OrgId| org.tag()));
}

/// A permit on a record. What was asked for is noted for the audit leaf, whether it is given or not.
async fn permit(call: &Call, confined: &mut Confined<'_>, verb: Verb, id: RecordId) -> Result<Permit, Refusal> {
    let _authorizing = call.step("authorize");
    call.note(|subject| subject.judged_on(id));
    let permit = confined.permit(verb, id).await?;
    call.note(|subject| {
        subject.org = permit.danger_stored().placement().org;
        subject.grant = Some(permit.grant());
    });
    Ok(permit)
}

/// The id of a record of this table, at the end of a path of request fields. An id that cannot be is answered
/// like one that is not there would be by its field: it is wrong by itself, whoever asks.
pub(super) fn id_at(request: &DynamicMessage, path: &[FieldDescriptor], table: &Table) -> Result<RecordId, Refusal> {
    let name = || path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
    let text = text_along(request, path).ok_or_else(|| Refusal::invalid(name(), "is missing"))?;
    table.parse_id(&text).map_err(|error| Refusal::invalid(name(), error.to_string()))
}

fn text_along(message: &DynamicMessage, path: &[FieldDescriptor]) -> Option<String> {
    match path {
        [] => None,
        [last] => text_at(message, last),
        [next, rest @ ..] => text_along(message.get_field(next).as_message()?, rest),
    }
}

fn message_at(request: &DynamicMessage, field: &FieldDescriptor) -> Result<DynamicMessage, Refusal> {
    let value = request.get_field(field);
    match (request.has_field(field), value.as_message()) {
        (true, Some(message)) => Ok(message.clone()),
        _ => Err(Refusal::invalid(field.name(), "is missing")),
    }
}

pub(super) fn text_at(request: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    request.get_field(field).as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list_request(shape: &Shape, request: &DynamicMessage) -> Result<ListRequest, Refusal> {
    let text =
        |field: &Option<FieldDescriptor>| field.as_ref().and_then(|field| text_at(request, field)).unwrap_or_default();
    match shape {
        Shape::List { org, project, filter, order_by, page_size, page_token, .. } => Ok(ListRequest {
            org_id: text(org),
            project_id: text(project),
            filter: text(filter),
            order_by: text(order_by),
            search: String::new(),
            page_size: request.get_field(page_size).as_i32().unwrap_or_default(),
            page_token: text_at(request, page_token).unwrap_or_default(),
        }),
        Shape::Count { org, project, filter, .. } => Ok(ListRequest {
            org_id: text(org),
            project_id: text(project),
            filter: text(filter),
            ..ListRequest::default()
        }),
        _ => Err(Refusal::internal("a list of another shape")),
    }
}

fn mask_paths(request: &DynamicMessage, mask: &FieldDescriptor) -> Vec<String> {
    let value = request.get_field(mask);
    let Some(mask) = value.as_message() else { return Vec::new() };
    let Some(paths) = mask.get_field_by_name("paths") else { return Vec::new() };
    let paths = paths.as_list().unwrap_or_default();
    paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
}
