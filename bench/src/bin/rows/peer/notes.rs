//! Notes: one statement each. Which rows there are for a caller is said in the policies of `schema.sql`.

use super::{State, parse_id, tokens::Caller};
use crate::messages::{CreateNote, GetNote, ListNotes, Note, Page};
use connectrpc::ConnectError;
use tokio_postgres::Row;
use uuid::Uuid;

const GET: &str = "SELECT id, org_id, project_id, author_id, title, published, draft, version FROM note WHERE id = $1";
const LIST_OF_PROJECT: &str = "SELECT id, org_id, project_id, author_id, title, published, draft, version FROM note \
     WHERE org_id = $1 AND project_id = $2 AND id > $3 ORDER BY id LIMIT $4";
const LIST_OF_ORG: &str = "SELECT id, org_id, project_id, author_id, title, published, draft, version FROM note \
     WHERE org_id = $1 AND id > $2 ORDER BY id LIMIT $3";
/// With its entry in the audit log, in one statement.
const CREATE: &str = "WITH noted AS (\
         INSERT INTO audit (org_id, account_id, session_id, method, record_id) VALUES ($2, $4, $8, 'CreateNote', $1)) \
     INSERT INTO note (id, org_id, project_id, author_id, title, published, draft) VALUES ($1, $2, $3, $4, $5, $6, $7)";
const DEFAULT_PAGE: i32 = 50;
const MAX_PAGE: i32 = 1_000;
/// Of a draft; the title's bound is that of the contract.
const MAX_DRAFT_BYTES: usize = 1 << 20;

impl State {
    pub(super) async fn get_note(&self, caller: &Caller, request: GetNote) -> Result<Note, ConnectError> {
        let id = parse_id(&request.id, "id")?;
        let rows = self.as_caller(caller, GET, &[&id]).await?;
        rows.first().map(|row| seen(row, caller)).ok_or_else(|| ConnectError::not_found("no such note"))
    }

    pub(super) async fn list_notes(&self, caller: &Caller, request: ListNotes) -> Result<Page, ConnectError> {
        if !request.filter.is_empty() || !request.order_by.is_empty() {
            return Err(ConnectError::unimplemented("only by id, without a filter"));
        }
        let size = match request.page_size {
            0 => DEFAULT_PAGE,
            size if (1..=MAX_PAGE).contains(&size) => size,
            _ => return Err(ConnectError::invalid_argument("page_size: from 1 to 1000")),
        };
        let org = parse_id(&request.org_id, "org_id")?;
        let after =
            if request.page_token.is_empty() { Uuid::nil() } else { parse_id(&request.page_token, "page_token")? };
        // One more than asked for tells whether there is another page.
        let limit = i64::from(size) + 1;
        let rows = if request.project_id.is_empty() {
            self.as_caller(caller, LIST_OF_ORG, &[&org, &after, &limit]).await?
        } else {
            let project = parse_id(&request.project_id, "project_id")?;
            self.as_caller(caller, LIST_OF_PROJECT, &[&org, &project, &after, &limit]).await?
        };
        let full = rows.len() as i64 == limit;
        let notes: Vec<_> = rows.iter().take(rows.len() - usize::from(full)).map(|row| seen(row, caller)).collect();
        let next_page_token = notes.last().filter(|_| full).map(|note| note.id.clone()).unwrap_or_default();
        Ok(Page { notes, next_page_token })
    }

    pub(super) async fn create_note(&self, caller: &Caller, request: CreateNote) -> Result<Note, ConnectError> {
        let note = request.note.ok_or_else(|| ConnectError::invalid_argument("note: missing"))?;
        if !(1..=200).contains(&note.title.chars().count()) {
            return Err(ConnectError::invalid_argument("title: from 1 to 200 characters"));
        }
        if note.draft.len() > MAX_DRAFT_BYTES {
            return Err(ConnectError::invalid_argument("draft: too long"));
        }
        let (id, author) = (Uuid::now_v7(), caller.account);
        let (org, project) = (parse_id(&note.org_id, "org_id")?, parse_id(&note.project_id, "project_id")?);
        let (title, published, draft) = (&note.title, note.published, &note.draft);
        self.as_caller(caller, CREATE, &[&id, &org, &project, &author, title, &published, draft, &caller.session])
            .await?;
        Ok(Note { id: id.to_string(), author_id: author.to_string(), etag: "1".to_owned(), ..note })
    }
}

/// The note as a caller sees it: its draft is its author's alone.
fn seen(row: &Row, caller: &Caller) -> Note {
    let id = |column| row.get::<_, Uuid>(column).to_string();
    let own = row.get::<_, Uuid>(3) == caller.account;
    Note {
        id: id(0),
        org_id: id(1),
        project_id: id(2),
        author_id: id(3),
        title: row.get(4),
        published: row.get(5),
        draft: if own { row.get(6) } else { String::new() },
        etag: row.get::<_, i64>(7).to_string(),
    }
}
