//! Redaction of what a handler answers: wherever a record stands in a response, it is cut down to what the caller may
//! read. The stored record judges, never a field of the response.

use crate::{call::Call, refusal::Refusal};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use sys_contract::model::Contract;

/// Records in one response. A method that answers more lists, and lists are cut to pages.
const MAX_RECORDS: usize = 2_000;
/// How deep records are looked for; requests and responses nest no deeper than the decoder's own limit of 100.
const MAX_DEPTH: usize = 100;

/// Cuts each record in the response down to the caller's view of it, and to its id alone where he may not read it.
pub(super) async fn redact(call: &Call, response: &mut DynamicMessage) -> Result<(), Refusal> {
    let contract = call.method().module.contract.clone();
    let mut found = Vec::new();
    collect(&contract, response, 0, &mut found)?;
    for (index, message) in found {
        let table = call.method().module.tables.table(index).ok_or_else(|| Refusal::internal("no such table"))?;
        let id_field = table.record().id.clone();
        let text = message.get_field(&id_field).as_str().unwrap_or_default().to_owned();
        let Ok(id) = table.parse_id(&text) else {
            // A record that was never stored shows nothing that anybody has kept.
            *message = DynamicMessage::new(message.descriptor());
            continue;
        };
        let mut open = call.open().await?;
        let mut confined = open.confined(table, call.caller());
        *message = match confined.find(id).await? {
            Some(view) => view.into_message(),
            None => {
                let mut id_alone = DynamicMessage::new(message.descriptor());
                id_alone.set_field(&id_field, Value::String(text));
                id_alone
            }
        };
    }
    Ok(())
}

/// The records in a message with the number of their type, outermost first; what stands inside a record is part of it.
fn collect<'a>(
    contract: &Contract,
    message: &'a mut DynamicMessage,
    depth: usize,
    found: &mut Vec<(usize, &'a mut DynamicMessage)>,
) -> Result<(), Refusal> {
    if depth > MAX_DEPTH || found.len() >= MAX_RECORDS {
        return Err(Refusal::internal("a response with too many records, or nested too deep"));
    }
    let descriptor = message.descriptor();
    if let Some(index) = contract.records.iter().position(|record| record.message == descriptor) {
        found.push((index, message));
        return Ok(());
    }
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(inner) => collect(contract, inner, depth + 1, found)?,
            Value::List(items) => {
                for inner in items.iter_mut().filter_map(Value::as_message_mut) {
                    collect(contract, inner, depth + 1, found)?;
                }
            }
            Value::Map(entries) => {
                for inner in entries.values_mut().filter_map(Value::as_message_mut) {
                    collect(contract, inner, depth + 1, found)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
