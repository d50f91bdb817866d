//! What a list is asked for besides its filter: the scope, the order, the size of its page.

use crate::{
    input::{parts, text},
    things::THINGS,
};
use sys_contract::id::{OrgId, OrgTag};
use sys_store::{ListRequest, fuzzing::asked};

/// The fields of a thing that hold one value with an order.
const SORTABLE: [&str; 19] = [
    "id",
    "org_id",
    "project_id",
    "owner_id",
    "title",
    "flag",
    "state",
    "count",
    "size",
    "ratio",
    "blob",
    "due",
    "ttl",
    "nick",
    "left",
    "right",
    "small",
    "fixed",
    "secret",
];
const MAX_FIELDS: usize = 3;
const MAX_PAGE: i32 = 1_000;

/// An order, an org, a project and a page's size. They are read as somebody else reads them, or refused with the field at fault; and what
/// was understood, said in plain words, is understood the same.
pub(crate) fn request(bytes: &[u8]) {
    let [order_by, org_id, project_id, size] = parts(bytes);
    let (Some(order_by), Some(org_id), Some(project_id)) = (text(order_by), text(org_id), text(project_id)) else {
        return;
    };
    let page_size = i32::from_be_bytes(size.first_chunk().copied().unwrap_or_default());
    let request = ListRequest {
        org_id: org_id.to_owned(),
        project_id: project_id.to_owned(),
        order_by: order_by.to_owned(),
        page_size,
        ..ListRequest::default()
    };
    let read = asked(&THINGS.table, &request);
    let order = order(order_by);
    let home = org_id.parse::<OrgId>().ok().map(|org| org.tag()).filter(|home| *home != OrgTag::GLOBAL);
    let is_project = project_id.is_empty() || project_id.parse::<sys_contract::id::ProjectId>().is_ok();
    let is_size = (0..=MAX_PAGE).contains(&page_size);
    let expected = order.filter(|_| is_project && is_size).zip(home);
    match (read, expected) {
        (Ok(read), Some((order, home))) => {
            let size = if page_size == 0 { 50 } else { usize::try_from(page_size).expect("it is not negative") };
            assert_eq!((&read.order, read.home, read.page_size), (&order, home, size), "`{order_by}`");
            let plain = order.iter().map(|(field, down)| format!("{field}{}", if *down { " desc" } else { "" }));
            let order_by = plain.collect::<Vec<_>>().join(",");
            let again = asked(&THINGS.table, &ListRequest { order_by, ..request }).expect("read before");
            assert_eq!(again, read, "plain words say something else");
        }
        (Err(refused), None) => assert!(!refused.to_string().is_empty()),
        (read, expected) => panic!("`{order_by}` in `{org_id}`, `{project_id}`: {read:?} is not {expected:?}"),
    }
}

/// AIP-132: fields with commas between them, each with its direction behind it. Ids are unique: behind one nothing matters.
fn order(text: &str) -> Option<Vec<(String, bool)>> {
    let words: Vec<Vec<&str>> = text.split(',').map(|part| part.split_whitespace().collect()).collect();
    if words.iter().all(Vec::is_empty) && words.len() == 1 {
        return Some(vec![("id".to_owned(), false)]);
    }
    let fields = words.iter().map(|words| match words.as_slice() {
        [field] | [field, "asc"] if SORTABLE.contains(field) => Some(((*field).to_owned(), false)),
        [field, "desc"] if SORTABLE.contains(field) => Some(((*field).to_owned(), true)),
        _ => None,
    });
    let mut fields: Vec<(String, bool)> = fields.collect::<Option<_>>()?;
    if fields.len() > MAX_FIELDS {
        return None;
    }
    if fields[0].0 == "id" {
        fields.truncate(1);
    }
    Some(fields)
}
