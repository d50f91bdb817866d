//! Lists: exactly what a get would show one by one, in order, in pages.
//!
//! An index proposes, the opened record decides: each candidate is opened, judged by the same rule as a get, redacted, and
//! only then held against the filter and put in order. So nothing that the caller may not read moves the answer. A page is
//! full, the end, or an error: how long it takes to fill it does not shorten it.

use crate::{
    candidates::{Candidates, Ground},
    confined::Confined,
    cursor::{Candidate, beginning, behind},
    engine::Order,
    key::record_id,
    page::{self, Binding, Position},
    refused::{Refused, StoreError},
    sort::{Sort, SortKey},
    table::Table,
    view::View,
};
use prost_reflect::FieldDescriptor;
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::{
    id::{IdError, OrgId, OrgTag, ProjectId},
    model::{Home, Verb},
};
use sys_keys::SpaceKeys;
use sys_policy::{Caller, Filter};

/// Records of a page where the request does not say.
const DEFAULT_PAGE_SIZE: usize = 50;
/// Most records of a page.
pub const MAX_PAGE_SIZE: usize = 1_000;
/// Most visible records that are put in order in memory; each page of such a list goes through all of them.
pub const MAX_SORTED: usize = 10_000;

/// A list as it is asked for, in the words of the request (AIP-132, AIP-158).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// The org; needed for records at home in one.
    pub org_id: String,
    /// Only the records of this project.
    pub project_id: String,
    /// A condition in the CEL subset.
    pub filter: String,
    /// Up to three fields; by default `id`.
    pub order_by: String,
    /// 0 for 50; at most 1,000.
    pub page_size: i32,
    /// Empty for the first page, then what the last page gave.
    pub page_token: String,
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What the caller sees.
    pub views: Vec<View>,
    /// Where it goes on; empty at the end. A page that is full always has one, and the next may then be empty.
    pub next_page_token: String,
}

/// A list request that can be served.
struct Query<'a> {
    binding: Binding<'a>,
    filter: Option<Filter>,
    sort: Sort,
    page_size: usize,
}

impl<'a> Query<'a> {
    fn parse(table: &Table, caller: &Caller, request: &'a ListRequest) -> Result<Self, Refused> {
        let org = parse_org(table, &request.org_id)?;
        let project = parse_project(table, &request.project_id)?;
        let filter = match request.filter.trim() {
            "" => None,
            text => Some(table.rules.filter(text).map_err(|error| Refused::invalid("filter", error.to_string()))?),
        };
        let page_size = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) if size <= MAX_PAGE_SIZE => size,
            _ => return Err(Refused::invalid("page_size", format!("it is from 0 to {MAX_PAGE_SIZE}"))),
        };
        let (filter_text, order_by) = (request.filter.as_str(), request.order_by.as_str());
        let binding = Binding { account: caller.account(), org, project, filter: filter_text, order_by };
        Ok(Self { binding, filter, sort: Sort::parse(table, order_by)?, page_size })
    }

    /// The tablespace in which the records are.
    fn home(&self) -> OrgTag {
        self.binding.org.unwrap_or(OrgTag::GLOBAL)
    }
}

fn parse_org(table: &Table, text: &str) -> Result<Option<OrgTag>, Refused> {
    let invalid = |what: String| Refused::invalid("org_id", what);
    if text.is_empty() && table.record.home == Home::Org {
        return Err(invalid("it is empty: name the org whose records to list".to_owned()));
    }
    if text.is_empty() {
        return Ok(None);
    }
    if table.record.org.is_none() {
        return Err(invalid("records of this type belong to no org".to_owned()));
    }
    let org: OrgId = text.parse().map_err(|error: IdError| invalid(error.to_string()))?;
    // The tag that stands for no org is nobody's way into the global tablespace.
    if org.tag().is_global() { Err(invalid("there is no such org".to_owned())) } else { Ok(Some(org.tag())) }
}

fn parse_project(table: &Table, text: &str) -> Result<Option<ProjectId>, Refused> {
    let invalid = |what: String| Refused::invalid("project_id", what);
    if text.is_empty() {
        return Ok(None);
    }
    if table.record.project.is_none() {
        return Err(invalid("records of this type belong to no project".to_owned()));
    }
    text.parse().map(Some).map_err(|error: IdError| invalid(error.to_string()))
}

impl Confined<'_> {
    /// A page of the records that the caller may see.
    pub async fn list(&mut self, request: &ListRequest) -> Result<Page, Refused> {
        let query = Query::parse(self.table, self.caller, request)?;
        self.open.check_current(self.table).await?;
        let at = self.table.at(query.home());
        let token = Some(request.page_token.as_str()).filter(|token| !token.is_empty());
        let Some(keys) = self.open.keys(at.space)? else {
            // Nothing was ever written there; whether there is such an org does not show.
            return if token.is_some() { Err(Refused::PageToken) } else { Ok(Page::default()) };
        };
        let place = self.table.page_place(at.space.org);
        let after = match token {
            Some(token) => Some(page::open(&keys, place, &query.binding, token)?),
            None => None,
        };
        let order = match query.sort {
            Sort::ById(order) => order,
            Sort::ByFields(_) => Order::Asc,
        };
        let rules = self.table.rules.clone();
        let plan = rules.plan(self.caller, query.binding.org, query.binding.project, self.open.now());
        let tests = query.filter.as_ref().map(Filter::token_tests).unwrap_or_default();
        let candidates = Ground { table: self.table, at, keys: &keys, order }.candidates(&plan, &tests);
        let (views, last) = match &query.sort {
            Sort::ById(order) => self.page_by_id(&query, candidates, *order, after).await?,
            Sort::ByFields(fields) => self.page_by_fields(&query, candidates, fields, after).await?,
        };
        let last = last.filter(|_| views.len() == query.page_size);
        let entropy = self.open.store.entropy().clone();
        let seal = |last| page::seal(&keys, place, &query.binding, &last, entropy.as_ref());
        let views = self.with_etags(views, &keys);
        Ok(Page { views, next_page_token: last.map(seal).unwrap_or_default() })
    }

    /// Walks until the page is full.
    async fn page_by_id(
        &mut self,
        query: &Query<'_>,
        mut candidates: Candidates,
        order: Order,
        after: Option<Position>,
    ) -> Result<(Vec<View>, Option<Position>), Refused> {
        let mut views = Vec::new();
        let mut last = None;
        let mut from = match after {
            Some(after) => behind(order, after.uuid),
            None => Some(beginning(order)),
        };
        while let Some(place) = from.filter(|_| views.len() < query.page_size) {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            let uuid = candidate.uuid;
            from = behind(order, uuid);
            if let Some(view) = self.judge(query, candidate).await? {
                views.push(view);
                last = Some(Position { uuid, values: Vec::new() });
            }
        }
        Ok((views, last))
    }

    /// Walks through everything and keeps the first page of what comes behind the last one.
    async fn page_by_fields(
        &mut self,
        query: &Query<'_>,
        mut candidates: Candidates,
        fields: &[(FieldDescriptor, Order)],
        after: Option<Position>,
    ) -> Result<(Vec<View>, Option<Position>), Refused> {
        let after = after.map(|after| SortKey::from_parts(fields, after.values, after.uuid));
        let mut first: BTreeMap<SortKey, View> = BTreeMap::new();
        let mut visible = 0_usize;
        let mut from = Some(beginning(Order::Asc));
        while let Some(place) = from {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            from = behind(Order::Asc, candidate.uuid);
            let Some(view) = self.judge(query, candidate).await? else { continue };
            visible += 1;
            if visible > MAX_SORTED {
                let what = format!("more than {MAX_SORTED} records match: narrow the filter, or order by `id`");
                return Err(Refused::invalid("order_by", what));
            }
            let key = SortKey::of(fields, &view);
            if after.as_ref().is_none_or(|after| key > *after) {
                first.insert(key, view);
            }
            if first.len() > query.page_size {
                first.pop_last();
            }
        }
        let last = first
            .last_key_value()
            .map(|(key, _)| Position { uuid: key.uuid(), values: key.bytes().map(<[u8]>::to_vec).collect() });
        Ok((first.into_values().collect(), last))
    }

    /// What the caller sees of a candidate, if it belongs to the answer.
    async fn judge(&mut self, query: &Query<'_>, candidate: Candidate) -> Result<Option<View>, Refused> {
        let id = record_id(self.table.at(query.home()).space, candidate.uuid);
        let stored = match candidate.stored {
            Some(sealed) => self.open.open_record(self.table, id, sealed)?,
            None => {
                let dangling = || StoreError::Dangling { table: self.table.record.table.clone(), id };
                self.open.record(self.table, id).await?.ok_or_else(dangling)?
            }
        };
        let Binding { org, project, .. } = query.binding;
        if !self.table.rules.is_within(stored.placement(), org, project) || self.allows(Verb::Get, &stored).is_none() {
            return Ok(None);
        }
        let hidden = self.hidden(&stored);
        let view = View::redacted(self.table, stored, &hidden);
        let matches = |filter: &Filter| filter.matches(view.message(), &hidden, self.open.now());
        Ok(query.filter.as_ref().is_none_or(matches).then_some(view))
    }

    fn with_etags(&self, views: Vec<View>, keys: &Arc<SpaceKeys>) -> Vec<View> {
        views.into_iter().map(|view| view.with_etag(self.table, keys)).collect()
    }
}
