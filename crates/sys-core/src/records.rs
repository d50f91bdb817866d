//! A module's records, as its handlers see them: typed, and within what the method may touch.
//!
//! With the caller's rights a hidden record and an absent one are both `None`. With the module's own rights the record
//! rules do not apply, which is why only what the method's `elevate` lists can be reached so.

use crate::{
    call::Call,
    host::{LoadedMethod, validate_result},
    refusal::Refusal,
};
use prost::Message;
use prost_reflect::DynamicMessage;
use std::sync::Arc;
use sys_contract::{
    id::RecordId,
    model::{Access, Verb},
};
use sys_store::{Change, ListRequest, Table};

/// A message that its module's contract stores.
pub trait Record: Message + prost::Name + Default + 'static {}

impl<M: Message + prost::Name + Default + 'static> Record for M {}

/// What a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The org; needed for records at home in one.
    pub org_id: String,
    /// The project; empty for all.
    pub project_id: String,
    /// A condition in the CEL subset.
    pub filter: String,
    /// Words, each of which begins a word in a field with a SEARCH index; empty for all.
    pub search: String,
    /// At most so many; 0 means 50.
    pub page_size: i32,
    /// Where to go on.
    pub page_token: String,
}

/// A page of records.
#[derive(Debug, Clone)]
pub struct Page<M> {
    /// The records.
    pub records: Vec<M>,
    /// The token of the next page; empty after the last.
    pub next_page_token: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Callers,
    Modules,
}

/// A module's records for the time of one call.
#[derive(Debug, Clone)]
pub struct Records {
    call: Call,
    rights: Rights,
}

impl Records {
    pub(crate) fn with_callers_rights(call: Call) -> Self {
        Self { call, rights: Rights::Callers }
    }

    pub(crate) fn with_modules_rights(call: Call) -> Self {
        Self { call, rights: Rights::Modules }
    }

    /// The record, or `None` if there is none that these rights show.
    pub async fn get<M: Record>(&self, id: RecordId) -> Result<Option<M>, Refusal> {
        let table = self.table::<M>(Verb::Get)?;
        let mut open = self.call.open().await?;
        let found = match self.rights {
            Rights::Callers => {
                open.confined(&table, self.call.caller()).find(id).await?.map(|view| view.into_message())
            }
            Rights::Modules => open.danger_unruled(&table).get(id).await?.map(|stored| stored.into_message()),
        };
        found.map(typed).transpose()
    }

    /// A page of records that the caller may read. For the module's own rights there is no list: it would be one of
    /// strangers' records.
    pub async fn list<M: Record>(&self, query: Query) -> Result<Page<M>, Refusal> {
        let table = self.table::<M>(Verb::Get)?;
        if self.rights == Rights::Modules {
            return Err(Refusal::internal("a list with the module's own rights"));
        }
        let request = ListRequest {
            org_id: query.org_id,
            project_id: query.project_id,
            filter: query.filter,
            search: query.search,
            order_by: String::new(),
            page_size: query.page_size,
            page_token: query.page_token,
        };
        let mut open = self.call.open().await?;
        let page = open.confined(&table, self.call.caller()).list(&request).await?;
        let records = page.views.into_iter().map(|view| typed(view.into_message())).collect::<Result<_, _>>()?;
        Ok(Page { records, next_page_token: page.next_page_token })
    }

    /// Stores a new record under a new id.
    pub async fn create<M: Record>(&self, new: &M) -> Result<M, Refusal> {
        let table = self.table::<M>(Verb::Create)?;
        let new = dynamic(&table, new)?;
        let mut open = self.call.open().await?;
        match self.rights {
            Rights::Callers => {
                let written = open.confined(&table, self.call.caller()).create(new).await?;
                let every_field: Vec<String> = table.record().message.fields().map(|f| f.name().to_owned()).collect();
                validate_result(&mut open, self.call.method(), &table, written.view.id(), &every_field).await?;
                typed(written.view.into_message())
            }
            Rights::Modules => typed(open.danger_unruled(&table).create(new).await?.into_message()),
        }
    }

    /// Stores a new record under an id that [`Call::new_id`] gave, with its output-only fields as they are given. With the
    /// module's own rights only.
    pub async fn create_as<M: Record>(&self, id: RecordId, new: &M) -> Result<M, Refusal> {
        let table = self.table::<M>(Verb::Create)?;
        if self.rights == Rights::Callers {
            return Err(Refusal::internal("an id of one's own choice with the caller's rights"));
        }
        let new = dynamic(&table, new)?;
        let mut open = self.call.open().await?;
        typed(open.danger_unruled(&table).create_as(id, new).await?.into_message())
    }

    /// Changes the fields that the mask names.
    pub async fn update<M: Record>(
        &self,
        id: RecordId,
        mask: &[&str],
        new: &M,
        etag: Option<&str>,
    ) -> Result<M, Refusal> {
        let table = self.table::<M>(Verb::Update)?;
        let new = dynamic(&table, new)?;
        let mut open = self.call.open().await?;
        match self.rights {
            Rights::Callers => {
                let paths: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
                let change = Change::parse(&table, &paths, new)?;
                let mut confined = open.confined(&table, self.call.caller());
                let permit = confined.permit(Verb::Update, id).await?;
                let written = confined.update(permit, &change, etag).await?;
                validate_result(&mut open, self.call.method(), &table, id, &written.fields).await?;
                typed(written.view.into_message())
            }
            Rights::Modules => {
                let mut unruled = open.danger_unruled(&table);
                let mut next = unruled.get(id).await?.ok_or_else(Refusal::not_found)?.into_message();
                for name in mask {
                    let field = table.record().message.get_field_by_name(name);
                    let field = field.ok_or_else(|| Refusal::internal(format!("no field {name} to update")))?;
                    if new.has_field(&field) {
                        next.set_field(&field, new.get_field(&field).into_owned());
                    } else {
                        next.clear_field(&field);
                    }
                }
                typed(unruled.update(id, next).await?.into_message())
            }
        }
    }

    /// Removes a record.
    pub async fn delete<M: Record>(&self, id: RecordId, etag: Option<&str>) -> Result<(), Refusal> {
        let table = self.table::<M>(Verb::Delete)?;
        let mut open = self.call.open().await?;
        match self.rights {
            Rights::Callers => {
                let mut confined = open.confined(&table, self.call.caller());
                let permit = confined.permit(Verb::Delete, id).await?;
                Ok(confined.delete(permit, etag).await?)
            }
            Rights::Modules => {
                open.danger_unruled(&table).delete(id).await?;
                Ok(())
            }
        }
    }

    /// The table of a record type, if the method may do this to it.
    fn table<M: Record>(&self, verb: Verb) -> Result<Arc<Table>, Refusal> {
        let method = self.call.method();
        let tables = &method.module.tables;
        let name = M::full_name();
        let table =
            tables.by_name(&name).ok_or_else(|| Refusal::internal(format!("{name} is no record of the module")))?;
        if reachable(method, table, self.rights, verb) {
            Ok(table.clone())
        } else {
            Err(Refusal::internal(format!("{} lists no {name}.{verb:?} in `reach` or `elevate`", method.path())))
        }
    }
}

/// What a method may touch: its target (to read and change it), and what it lists.
fn reachable(method: &LoadedMethod, table: &Table, rights: Rights, verb: Verb) -> bool {
    let words = method.method();
    let is_table = |index: usize| {
        method.module.contract.records.get(index).is_some_and(|record| record.message == table.record().message)
    };
    let listed = |list: &[Access]| list.iter().any(|access| access.verb == verb && is_table(access.record));
    match rights {
        Rights::Callers => {
            let target = words.target.as_ref().is_some_and(|target| is_table(target.record));
            (target && matches!(verb, Verb::Get | Verb::Update)) || listed(&words.reach)
        }
        Rights::Modules => listed(&words.elevate),
    }
}

fn dynamic<M: Record>(table: &Table, message: &M) -> Result<DynamicMessage, Refusal> {
    let mut dynamic = table.empty_record();
    dynamic.transcode_from(message).map_err(Refusal::internal)?;
    Ok(dynamic)
}

fn typed<M: Record>(message: DynamicMessage) -> Result<M, Refusal> {
    message.transcode_to().map_err(Refusal::internal)
}
