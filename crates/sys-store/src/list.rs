//! Lists: exactly what a get would show one by one, in order, in pages.
//!
//! An index proposes, the opened record decides: each candidate is opened, judged by the same rule as a get, redacted, and
//! only then held against the filter and put in order. So nothing that the caller may not read moves the answer. A page is
//! full, the end, or an error: how long it takes to fill it does not shorten it.

use crate::{
    by_index::{IndexWalk, ids_within, index_of},
    candidates::{Candidates, Ground, Probe},
    confined::Confined,
    cursor::{Candidate, beginning, behind},
    engine::Order,
    key::{TableSpace, record_id},
    page::{self, Binding, Position},
    records::Stored,
    refused::{Refused, StoreError},
    sort::{Sort, SortKey},
    table::Table,
    view::View,
    walked::{MAX_PAGE_BYTES, Walked, size_bytes},
};
use prost_reflect::FieldDescriptor;
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::{
    id::{AccountId, IdError, OrgId, OrgTag, ProjectId},
    model::{Home, Verb},
};
use sys_keys::SpaceKeys;
use sys_policy::{Caller, Filter, Plan, Search};

/// Records of a page where the request does not say.
const DEFAULT_PAGE_SIZE: usize = 50;
/// Most records of a page.
pub const MAX_PAGE_SIZE: usize = 1_000;
/// Most visible records that are put in order in memory; each page of such a list goes through all of them.
pub const MAX_SORTED: usize = 10_000;

/// Highest number that a count gives. It opens each record that it counts, some 10 us each, so that this is a second of a
/// processor. The bound is on what the caller sees: what is hidden from him does not move it.
pub const MAX_COUNTED: u64 = 100_000;

/// A list as it is asked for, in the words of the request (AIP-132, AIP-158).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// The org; needed for records at home in one.
    pub org_id: String,
    /// Only the records of this project.
    pub project_id: String,
    /// A condition in the CEL subset.
    pub filter: String,
    /// Words, each of which begins a word in a field with a SEARCH index; empty for all records.
    pub search: String,
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
    /// Where it goes on; empty at the end. A page that is full always has one, and the next may then be empty. It is full, too,
    /// where the next record would bring it above [`MAX_PAGE_BYTES`].
    pub next_page_token: String,
}

/// A list request that can be served.
pub(crate) struct Query<'a> {
    binding: Binding<'a>,
    filter: Option<Arc<Filter>>,
    search: Option<Search>,
    sort: Sort,
    pub(crate) page_size: usize,
    /// What is walked must hold each record that may come to match in time, not those alone that match now.
    lasting: bool,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(table: &Table, caller: &Caller, request: &'a ListRequest) -> Result<Self, Refused> {
        let org = parse_org(table, &request.org_id)?;
        let project = parse_project(table, &request.project_id)?;
        let filter = match request.filter.trim() {
            "" => None,
            text => {
                let filter = table.rules.filter(text).map_err(|error| Refused::invalid("filter", error.to_string()))?;
                Some(Arc::new(filter))
            }
        };
        let search = match request.search.as_str() {
            "" => None,
            // The methods that search call it `query`.
            text => Some(table.rules.search(text).map_err(|error| Refused::invalid("query", error.to_string()))?),
        };
        let page_size = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) if size <= MAX_PAGE_SIZE => size,
            _ => return Err(Refused::invalid("page_size", format!("it is from 0 to {MAX_PAGE_SIZE}"))),
        };
        let order_by = request.order_by.as_str();
        let (filter_text, searched) = (request.filter.as_str(), request.search.as_str());
        let account = caller.account();
        let binding = Binding { account, org, project, filter: filter_text, search: searched, order_by };
        Ok(Self { binding, filter, search, sort: Sort::parse(table, order_by)?, page_size, lasting: false })
    }

    pub(crate) fn binding(&self) -> &Binding<'a> {
        &self.binding
    }

    pub(crate) fn sort(&self) -> &Sort {
        &self.sort
    }

    pub(crate) fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    /// What the filter and the search say of indexes: a record that belongs to the answer has a row under one of each.
    fn probes(&self, ground: &Ground<'_>) -> Vec<Probe> {
        let of_filter = self.filter().map(Filter::token_tests).unwrap_or_default();
        let of_search = self.search.as_ref().map(Search::token_tests).unwrap_or_default();
        let of_filter = of_filter.iter().filter_map(|test| ground.prefixes(test));
        of_filter.chain(of_search.iter().filter_map(|any| ground.any_prefixes(any))).collect()
    }

    /// The tablespace in which the records are.
    pub(crate) fn home(&self) -> OrgTag {
        self.binding.org.unwrap_or(OrgTag::GLOBAL)
    }
}

/// A query that is asked again and again, by those who keep the answer: it is parsed once.
#[derive(Debug)]
pub(crate) struct Lasting {
    request: ListRequest,
    account: Option<AccountId>,
    org: Option<OrgTag>,
    project: Option<ProjectId>,
    filter: Option<Arc<Filter>>,
}

impl Lasting {
    /// Of the request, order and page do not matter.
    pub(crate) fn parse(table: &Table, caller: &Caller, request: ListRequest) -> Result<Self, Refused> {
        let Query { binding: Binding { account, org, project, .. }, filter, .. } =
            Query::parse(table, caller, &request)?;
        Ok(Self { account, org, project, filter, request })
    }

    /// Whose it is.
    pub(crate) fn account(&self) -> Option<AccountId> {
        self.account
    }

    pub(crate) fn query(&self) -> Query<'_> {
        let ListRequest { filter, search, order_by, .. } = &self.request;
        let (account, org, project) = (self.account, self.org, self.project);
        let binding = Binding { account, org, project, filter, search, order_by };
        let (sort, page_size) = (Sort::ById(Order::Asc), DEFAULT_PAGE_SIZE);
        Query { binding, filter: self.filter.clone(), search: None, sort, page_size, lasting: true }
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
        let at = self.table.at(query.home());
        let token = Some(request.page_token.as_str()).filter(|token| !token.is_empty());
        let Some(keys) = self.keys_to_list(at).await? else {
            return if token.is_some() { Err(Refused::PageToken) } else { Ok(Page::default()) };
        };
        let place = self.table.page_place(at.space.org);
        let after = match token {
            Some(token) => Some(page::open(&keys, place, &query.binding, token)?),
            None => None,
        };
        let page = match &query.sort {
            Sort::ById(order) => {
                let candidates = self.candidates(&query, &keys, *order).await?;
                self.page_by_id(&query, candidates, *order, after).await?
            }
            Sort::ByFields(fields) => self.page_in_order(&query, &keys, fields, after).await?,
        };
        let (mut views, last) = page.into_parts();
        let entropy = self.open.store.entropy().clone();
        let seal = |last| page::seal(&keys, place, &query.binding, &last, entropy.as_ref());
        views.iter_mut().for_each(|view| view.set_etag(self.table, &keys));
        Ok(Page { views, next_page_token: last.map(seal).unwrap_or_default() })
    }

    /// How many records the caller may see that match; of the request the page and the order do not matter. A number that
    /// would be above [`MAX_COUNTED`] is an error, never a guess.
    pub async fn count(&mut self, request: &ListRequest) -> Result<u64, Refused> {
        self.count_up_to(request, MAX_COUNTED).await
    }

    async fn count_up_to(&mut self, request: &ListRequest, most: u64) -> Result<u64, Refused> {
        let query = Query::parse(self.table, self.caller, request)?;
        let Some(keys) = self.keys_to_list(self.table.at(query.home())).await? else { return Ok(0) };
        let mut candidates = self.candidates(&query, &keys, Order::Asc).await?;
        let mut count = 0;
        let mut from = Some(beginning(Order::Asc));
        while let Some(place) = from {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            from = behind(Order::Asc, candidate.uuid);
            if self.judge(&query, candidate).await?.is_none() {
                continue;
            }
            if count == most {
                let what = format!("more than {most} records match: narrow the filter, or name a project");
                return Err(Refused::invalid("filter", what));
            }
            count += 1;
        }
        Ok(count)
    }

    /// The keys of the tablespace that is listed; none if nothing was ever written there, and whether there is such an org
    /// does not show.
    pub(crate) async fn keys_to_list(&mut self, at: TableSpace) -> Result<Option<Arc<SpaceKeys>>, StoreError> {
        self.open.check_current(self.table).await?;
        let keys = self.open.keys(at.space)?;
        if keys.is_none() {
            self.open.check_unwritten(at.space).await?;
        }
        Ok(keys)
    }

    fn plan(&self, query: &Query<'_>) -> Plan {
        self.table.rules.plan(self.caller, query.binding.org, query.binding.project, self.open.now())
    }

    /// What the rules and the filter propose.
    pub(crate) async fn candidates(
        &mut self,
        query: &Query<'_>,
        keys: &SpaceKeys,
        order: Order,
    ) -> Result<Candidates, StoreError> {
        let (plan, at) = (self.plan(query), self.table.at(query.home()));
        let mut listed = None;
        let is_fit = |filter: &&Filter| plan.covers_all() && !(query.lasting && filter.names_now());
        if let Some(filter) = query.filter().filter(is_fit) {
            for range in filter.range_tests(self.open.now()) {
                if listed.is_none() {
                    listed = ids_within(self.open, self.table, at, &range).await?;
                }
            }
        }
        let ground = Ground { table: self.table, at, keys, order };
        Ok(ground.candidates(&plan, query.probes(&ground), listed))
    }

    /// The index that may be walked instead of putting all records in order: where it keeps just this order, and the caller
    /// may read whatever it leads to.
    fn index_walk(
        &self,
        query: &Query<'_>,
        keys: &SpaceKeys,
        fields: &[(FieldDescriptor, Order)],
    ) -> Option<IndexWalk> {
        let [(field, order)] = fields else { return None };
        let index = index_of(self.table, field.number())?;
        if !(self.table.rules.may_order_by(field.number()) && self.plan(query).covers_all()) {
            return None;
        }
        let ground = Ground { table: self.table, at: self.table.at(query.home()), keys, order: *order };
        let ranges = query.filter.as_ref().map(|filter| filter.range_tests(self.open.now())).unwrap_or_default();
        let range = ranges.into_iter().find(|range| range.field == field.number());
        Some(IndexWalk { index: index.clone(), order: *order, range, probes: query.probes(&ground) })
    }

    /// A page in the order of fields: out of an index that keeps it, or put in order in memory. Both give the same, and one
    /// goes on where the other ended.
    async fn page_in_order(
        &mut self,
        query: &Query<'_>,
        keys: &SpaceKeys,
        fields: &[(FieldDescriptor, Order)],
        after: Option<Position>,
    ) -> Result<Walked, Refused> {
        let walk = self.index_walk(query, keys, fields);
        // Where the filter names values of other indexes, the few records that hold them are put in order sooner.
        if let Some(walk) = walk.as_ref().filter(|walk| walk.probes.is_empty()) {
            return self.page_by_index(query, walk, after).await;
        }
        let candidates = self.candidates(query, keys, Order::Asc).await?;
        if let Some(page) = self.page_by_fields(query, candidates, fields, after.clone()).await? {
            return Ok(page);
        }
        match &walk {
            Some(walk) => self.page_by_index(query, walk, after).await,
            None => {
                let what = format!("more than {MAX_SORTED} records match: narrow the filter, or order by `id`");
                Err(Refused::invalid("order_by", what))
            }
        }
    }

    /// Walks until the page is full.
    async fn page_by_id(
        &mut self,
        query: &Query<'_>,
        mut candidates: Candidates,
        order: Order,
        after: Option<Position>,
    ) -> Result<Walked, Refused> {
        let mut page = Walked::of(query.page_size);
        let mut from = match after {
            Some(after) => behind(order, after.uuid),
            None => Some(beginning(order)),
        };
        while let Some(place) = from.filter(|_| !page.is_full()) {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            let uuid = candidate.uuid;
            from = behind(order, uuid);
            if let Some(view) = self.judge(query, candidate).await? {
                page.take(view, || Position { uuid, values: Vec::new() });
            }
        }
        Ok(page)
    }

    /// Walks through everything and keeps the first page of what comes behind the last one. None if that is more than may be
    /// put in order.
    async fn page_by_fields(
        &mut self,
        query: &Query<'_>,
        mut candidates: Candidates,
        fields: &[(FieldDescriptor, Order)],
        after: Option<Position>,
    ) -> Result<Option<Walked>, Refused> {
        let after = after.map(|after| SortKey::from_parts(fields, after.values, after.uuid));
        let (mut first, mut bytes): (BTreeMap<SortKey, View>, usize) = (BTreeMap::new(), 0);
        // The first of those that are known not to be on the page: what comes behind it is not either.
        let mut beyond: Option<SortKey> = None;
        let mut visible = 0_usize;
        let mut from = Some(beginning(Order::Asc));
        while let Some(place) = from {
            let Some(candidate) = candidates.seek(self.open, place).await? else { break };
            from = behind(Order::Asc, candidate.uuid);
            let Some(view) = self.judge(query, candidate).await? else { continue };
            visible += 1;
            if visible > MAX_SORTED {
                return Ok(None);
            }
            let key = SortKey::of(fields, &view);
            let is_before = after.as_ref().is_some_and(|after| key <= *after);
            if is_before || beyond.as_ref().is_some_and(|beyond| key >= *beyond) {
                continue;
            }
            bytes += size_bytes(&view);
            first.insert(key, view);
            while first.len() > query.page_size || bytes > MAX_PAGE_BYTES && first.len() > 1 {
                let Some((key, view)) = first.pop_last() else { break };
                bytes -= size_bytes(&view);
                beyond = Some(key);
            }
        }
        let mut page = Walked::of(if beyond.is_some() { first.len() } else { query.page_size });
        for (key, view) in first {
            let values = key.bytes().map(<[u8]>::to_vec).collect();
            page.take(view, || Position { uuid: key.uuid(), values });
        }
        Ok(Some(page))
    }

    /// What the caller sees of a candidate, if it belongs to the answer.
    pub(crate) async fn judge(&mut self, query: &Query<'_>, candidate: Candidate) -> Result<Option<View>, Refused> {
        let stored = self.open_candidate(query, candidate).await?;
        Ok(self.seen(query, stored))
    }

    pub(crate) async fn open_candidate(
        &mut self,
        query: &Query<'_>,
        candidate: Candidate,
    ) -> Result<Stored, StoreError> {
        self.open.opened_candidate().await;
        let id = record_id(self.table.at(query.home()).space, candidate.uuid);
        match candidate.stored {
            Some(sealed) => self.open.open_record(self.table, id, sealed),
            None => {
                let dangling = || StoreError::Dangling { table: self.table.record.table.clone(), id };
                self.open.record(self.table, id).await?.ok_or_else(dangling)
            }
        }
    }

    /// What the caller sees of a record, if it belongs to the answer.
    pub(crate) fn seen(&self, query: &Query<'_>, stored: Stored) -> Option<View> {
        let Binding { org, project, .. } = query.binding;
        if !self.table.rules.is_within(stored.placement(), org, project) || self.allows(Verb::Get, &stored).is_none() {
            return None;
        }
        let hidden = self.hidden(&stored);
        let view = View::redacted(self.table, stored, &hidden);
        let matches = |filter: &Filter| filter.matches(view.content(), &hidden, self.open.now());
        let is_found = |search: &Search| search.matches(view.content());
        (query.filter().is_none_or(matches) && query.search.as_ref().is_none_or(is_found)).then_some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::Bed;

    #[tokio::test]
    async fn a_count_above_its_bound_is_an_error_and_hidden_records_do_not_bring_it_there() {
        let bed = Bed::new().await;
        for number in 0..6 {
            bed.note(number % 2 == 0).await;
        }
        let request = ListRequest { org_id: bed.org.to_string(), ..ListRequest::default() };
        let mut open = bed.begin().await;
        let mut confined = open.confined(&bed.notes, &bed.admin);
        assert_eq!(confined.count_up_to(&request, 6).await.unwrap(), 6);
        let refused = confined.count_up_to(&request, 5).await.unwrap_err();
        assert!(matches!(&refused, Refused::Invalid { field, .. } if field == "filter"), "{refused}");
        let published = ListRequest { filter: "published".to_owned(), ..request.clone() };
        assert_eq!(confined.count_up_to(&published, 3).await.unwrap(), 3);
        // A guest sees what is published.
        assert_eq!(open.confined(&bed.notes, &bed.guest).count_up_to(&request, 3).await.unwrap(), 3);
    }
}
