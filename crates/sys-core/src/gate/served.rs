//! Served methods: create, get, list, update and delete on a record, with no line of code in the module.

use super::Handled;
use crate::{audit::Leaf, call::Call, refusal::Refusal};
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use sys_contract::{
    id::{OrgTag, RecordId},
    model::{Serve, Shape, Verb},
};
use sys_store::{Change, ListRequest, Table};

pub(super) async fn serve(call: &Call, serve: &Serve, request: &DynamicMessage) -> Result<Handled, Refusal> {
    let method = call.method();
    let table = method.module.tables.table(serve.record).ok_or_else(|| Refusal::internal("no such table"))?;
    let output = method.method().descriptor.output();
    let mut leaf = Leaf::new(method.path(), call.caller(), call.now());
    let mut open = call.open().await?;
    let mut confined = open.confined(table, call.caller());
    let read = |response, leaf, log| Handled { response, leaf, log, writes: method.method().audit_full };
    let wrote = |response, leaf, log| Handled { response, leaf, log, writes: true };
    match &serve.shape {
        Shape::Get { id } => {
            let id = id_at(request, std::slice::from_ref(id), table)?;
            let permit = confined.permit(Verb::Get, id).await?;
            leaf.grant = Some(permit.grant().0);
            let view = confined.get(permit).await?;
            Ok(read(view.into_message(), leaf.record(id), id.org))
        }
        Shape::List { items, next_page_token, .. } => {
            let page = confined.list(&list_request(&serve.shape, request)?).await?;
            let mut response = DynamicMessage::new(output);
            let views = page.views.into_iter().map(|view| Value::Message(view.into_message())).collect();
            response.set_field(items, Value::List(views));
            response.set_field(next_page_token, Value::String(page.next_page_token));
            Ok(read(response, leaf, OrgTag::GLOBAL))
        }
        Shape::Create { item } => {
            let new = message_at(request, item)?;
            let written = confined.create(new).await.map_err(|refused| Refusal::from(refused).within(item.name()))?;
            let id = written.view.id();
            leaf.grant = Some(written.grant.0);
            Ok(wrote(written.view.into_message(), leaf.record(id), id.org))
        }
        Shape::Update { item, mask } => {
            let within = |refusal: Refusal| refusal.within(item.name());
            let new = message_at(request, item)?;
            let id = id_at(&new, std::slice::from_ref(&table.record().id), table).map_err(within)?;
            let etag = table.record().etag.as_ref().and_then(|field| text_at(&new, field));
            let change = Change::parse(table, &mask_paths(request, mask), new)?;
            let permit = confined.permit(Verb::Update, id).await?;
            let written = confined.update(permit, &change, etag.as_deref()).await.map_err(|refused| within(refused.into()))?;
            crate::host::validate_result(&mut open, method, table, id, &written.fields).await.map_err(within)?;
            leaf.grant = Some(written.grant.0);
            Ok(wrote(written.view.into_message(), leaf.record(id), id.org))
        }
        Shape::Delete { id, etag } => {
            let id = id_at(request, std::slice::from_ref(id), table)?;
            let etag = etag.as_ref().and_then(|field| text_at(request, field));
            let permit = confined.permit(Verb::Delete, id).await?;
            leaf.grant = Some(permit.grant().0);
            confined.delete(permit, etag.as_deref()).await?;
            Ok(wrote(DynamicMessage::new(output), leaf.record(id), id.org))
        }
    }
}

/// The id of a record of this table, at the end of a path of request fields. An id that cannot be is answered
/// like one that is not there would be by its field: it is wrong by itself, whoever asks.
pub(super) fn id_at(request: &DynamicMessage, path: &[FieldDescriptor], table: &Table) -> Result<RecordId, Refusal> {
    let name = || path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
    let (last, parents) = path.split_last().ok_or_else(|| Refusal::internal("an id without a path"))?;
    let mut message = request.clone();
    for parent in parents {
        message = message_at(&message, parent).map_err(|_| Refusal::invalid(name(), "is missing"))?;
    }
    let value = message.get_field(last);
    let text = value.as_str().unwrap_or_default();
    if text.is_empty() {
        return Err(Refusal::invalid(name(), "is missing"));
    }
    table.parse_id(text).map_err(|error| Refusal::invalid(name(), error.to_string()))
}

fn message_at(request: &DynamicMessage, field: &FieldDescriptor) -> Result<DynamicMessage, Refusal> {
    let value = request.get_field(field);
    match (request.has_field(field), value.as_message()) {
        (true, Some(message)) => Ok(message.clone()),
        _ => Err(Refusal::invalid(field.name(), "is missing")),
    }
}

fn text_at(request: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    request.get_field(field).as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn list_request(shape: &Shape, request: &DynamicMessage) -> Result<ListRequest, Refusal> {
    let Shape::List { org, project, filter, order_by, page_size, page_token, .. } = shape else {
        return Err(Refusal::internal("a list of another shape"));
    };
    let text = |field: &Option<FieldDescriptor>| {
        field.as_ref().and_then(|field| text_at(request, field)).unwrap_or_default()
    };
    Ok(ListRequest {
        org_id: text(org),
        project_id: text(project),
        filter: text(filter),
        order_by: text(order_by),
        page_size: request.get_field(page_size).as_i32().unwrap_or_default(),
        page_token: text_at(request, page_token).unwrap_or_default(),
    })
}

fn mask_paths(request: &DynamicMessage, mask: &FieldDescriptor) -> Vec<String> {
    let value = request.get_field(mask);
    let Some(mask) = value.as_message() else { return Vec::new() };
    let Some(paths) = mask.get_field_by_name("paths") else { return Vec::new() };
    let paths = paths.as_list().unwrap_or_default();
    paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
}
