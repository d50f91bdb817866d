//! The two stores, and how steps are taken on them.

use super::{
    base::Base,
    program::{Ask, Deed, Etag, Observer, PEOPLE, Program, Query, SLOTS, Set, Side},
    seen::seen,
};
use crate::harness::*;
use data_encoding::HEXLOWER;
use prost::Message;
use prost_reflect::DynamicMessage;
use std::sync::{Arc, Mutex};
use sys_contract::{
    id::{OrgId, RecordId},
    model::{Role, Verb},
};
use sys_keys::{Entropy, deterministic::SeededEntropy};
use sys_policy::Caller;
use sys_store::{
    ListRequest, Moment, Open, Page, Refused, Table, View, Watch, WatchEvent, WatchRequest, Written, engine::Changes,
};

/// Pages that a list may have: more than there are records.
const MAX_PAGES: usize = 200;

/// What the comparison is made to see although the observer does not: for the controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spy {
    None,
    /// The calls are made by an admin of both orgs.
    Insider,
    /// Each record that is shown comes with the number of its commit.
    Versions,
    /// Who watches is told of each record that is gone, whether he saw it or not.
    Gone,
    /// Who watches is told that something was committed, whatever it was.
    Woken,
}

/// Both stores.
pub(super) struct Pair {
    sides: [Store; 2],
    observer: Observer,
    /// The record of each slot: there on both sides, on one, or on none any more.
    slots: Vec<RecordId>,
    /// The etags that the observer was shown.
    etags: Vec<String>,
}

/// One of them.
struct Store {
    world: World,
    entropy: Arc<StepEntropy>,
    table: Arc<Table>,
    caller: Caller,
    spy: Spy,
    /// The last list that was begun, with the token that it goes on from.
    kept: Option<(Query, String)>,
    watching: Option<Watching>,
}

/// What the observer watches.
struct Watching {
    query: Query,
    watch: Watch,
    /// The last token that was told.
    token: String,
    calls: Changes,
}

/// Randomness that begins anew with each step: what a step draws does not hang on the steps before.
struct StepEntropy(Mutex<SeededEntropy>);

impl StepEntropy {
    fn begin(&self, step: u64) {
        *self.0.lock().unwrap() = SeededEntropy::danger_from_seed(step);
    }
}

impl Entropy for StepEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap().fill(buffer);
    }
}

impl Pair {
    pub(super) async fn new(kind: Kind, spy: Spy, program: &Program) -> Self {
        let sides = [Store::new(kind, spy, &program.observer).await, Store::new(kind, spy, &program.observer).await];
        let observer = program.observer.clone();
        let mut pair = Self { sides, observer, slots: Vec::new(), etags: Vec::new() };
        let mut made: Vec<_> = program.before.iter().enumerate().collect();
        for (number, (_, project, _)) in &made {
            let org = pair.sides[0].world.projects[*project].0.tag();
            let spread = u8::try_from(number * 97 % 251).unwrap();
            pair.slots.push(RecordId::new(org, 1_700_000_000_000, [spread; 10]));
        }
        for (side, store) in pair.sides.iter().enumerate() {
            if side == 1 {
                made.reverse();
            }
            for (number, (owner, project, sets)) in &made {
                let paper = store.paper(*owner, *project, sets, &format!("before {number}"));
                store.make(pair.slots[*number], paper).await;
            }
        }
        pair
    }

    /// The answers of both sides.
    pub(super) async fn ask(&mut self, step: usize, ask: &Ask) -> (Vec<String>, Vec<String>) {
        let mut both = Vec::new();
        let mut made = None;
        let mut etags = Vec::new();
        for store in &mut self.sides {
            store.entropy.begin(1_000 + step as u64);
            let mut answer = Answer::default();
            store.ask(ask, &self.slots, &self.etags, &mut answer).await;
            both.push(answer.lines);
            (made, etags) = (answer.made.or(made), answer.etags);
        }
        self.slots.extend(made.filter(|_| self.slots.len() < SLOTS));
        self.etags.extend(etags);
        let right = both.pop().unwrap();
        (both.pop().unwrap(), right)
    }

    /// Does something on these sides, unless the observer would see both sides differ. Whether it was done.
    pub(super) async fn deed(&mut self, step: usize, on: &[Side], deed: &Deed) -> bool {
        let stores: Vec<&Store> = self.sides.iter().collect();
        let done_on = |side: usize| on.iter().any(|on| *on as usize == side);
        let slot = match deed {
            Deed::Create { .. } => None,
            Deed::Update { slot, .. } | Deed::Delete { slot } => match self.slots.get(*slot) {
                Some(id) => Some(*id),
                None => return false,
            },
        };
        let mut next = Vec::new();
        for (side, store) in stores.iter().enumerate() {
            let stored = match slot {
                Some(id) => store.stored(id).await,
                None => None,
            };
            next.push(if done_on(side) { store.after(step, deed, stored) } else { stored });
        }
        let views: Vec<_> = (stores.iter().zip(&next))
            .map(|(store, paper)| paper.as_ref().and_then(|paper| seen(&store.world, &self.observer, paper)))
            .collect();
        if views[0] != views[1] || (slot.is_none() && self.slots.len() >= SLOTS) {
            return false;
        }
        let mut made = None;
        for (side, (store, next)) in stores.iter().zip(next).enumerate() {
            if done_on(side) {
                store.entropy.begin(1_000 + step as u64);
                made = store.put(slot, next).await.or(made);
            }
        }
        self.slots.extend(made);
        true
    }

    /// What the observer sees on both sides, read past the code under test.
    pub(super) async fn seen(&self) -> (Vec<Option<DynamicMessage>>, Vec<Option<DynamicMessage>>) {
        let mut both = [Vec::new(), Vec::new()];
        for (store, views) in self.sides.iter().zip(&mut both) {
            for id in &self.slots {
                views.push(store.stored(*id).await.and_then(|paper| seen(&store.world, &self.observer, &paper)));
            }
        }
        both.into()
    }
}

/// What a call comes to.
#[derive(Default)]
struct Answer {
    lines: Vec<String>,
    etags: Vec<String>,
    made: Option<RecordId>,
}

impl Store {
    async fn new(kind: Kind, spy: Spy, observer: &Observer) -> Self {
        let entropy = Arc::new(StepEntropy(Mutex::new(SeededEntropy::danger_from_seed(0))));
        let (world, table) = Base::of(kind).await.fork(entropy.clone()).await;
        let bindings = observer.bindings.iter().map(|(role, place)| match place {
            0 | 1 => world.at_org(*role, *place),
            place => world.at_project(*role, place - 2),
        });
        let caller = match (spy, observer.standing) {
            (Spy::Insider, _) => caller(1, vec![world.at_org(Role::Admin, 0), world.at_org(Role::Admin, 1)]),
            (_, Some(standing)) => caller_in(standing, 1, bindings.collect()),
            (_, None) => Caller::anonymous(),
        };
        let store = Self { world, entropy, table, caller, spy, kept: None, watching: None };
        // Where the observer may see something, the keys must not tell the sides apart.
        for project in [0, 2] {
            let org = store.world.projects[project].0;
            if observer.bindings.iter().any(|(_, place)| store.org_of_place(*place) == org) {
                store.entropy.begin(1 + project as u64);
                let id = RecordId::new(org.tag(), 1, [0; 10]);
                store.make(id, store.paper(0, project, &[], "first")).await;
                store.put(Some(id), None).await;
            }
        }
        store
    }

    fn org_of_place(&self, place: usize) -> OrgId {
        if place < 2 { self.world.orgs[place] } else { self.world.projects[place - 2].0 }
    }

    /// A paper of somebody, with values of their own where values must be.
    fn paper(&self, owner: usize, project: usize, sets: &[Set], name: &str) -> DynamicMessage {
        assert!(owner < PEOPLE);
        let mut paper = self.world.task(&self.table, project, &[]);
        sets.iter().for_each(|set| set.apply(&mut paper));
        let owner = account(u8::try_from(owner + 1).unwrap()).to_string();
        let project = self.world.project_text(project);
        let slug = format!("o {name}");
        for (field, value) in [("owner_id", &owner), ("project_id", &project), ("nick", &slug), ("slug", &slug)] {
            paper.set_field_by_name(field, text(value));
        }
        paper
    }

    /// A stored paper after a deed; none if it is gone then, or was never there.
    fn after(&self, step: usize, deed: &Deed, stored: Option<DynamicMessage>) -> Option<DynamicMessage> {
        match deed {
            Deed::Create { owner, project, sets } => Some(self.paper(*owner, *project, sets, &format!("step {step}"))),
            Deed::Update { sets, .. } => stored.map(|mut paper| {
                // Values that must be unique, and the scope, stay.
                let keeps = |set: &&Set| matches!(set, Set::Text("nick" | "slug" | "project_id", _));
                sets.iter().filter(|set| !keeps(set)).for_each(|set| set.apply(&mut paper));
                paper
            }),
            Deed::Delete { .. } => None,
        }
    }

    async fn begin(&self) -> Open {
        self.world.begin().await
    }

    async fn stored(&self, id: RecordId) -> Option<DynamicMessage> {
        let stored = self.begin().await.danger_unruled(&self.table).get(id).await.unwrap();
        stored.map(sys_store::Stored::into_message)
    }

    async fn make(&self, id: RecordId, paper: DynamicMessage) {
        let mut open = self.begin().await;
        open.danger_unruled(&self.table).create_as(id, paper).await.unwrap();
        open.commit().await.unwrap();
    }

    /// Makes a paper, changes it or takes it away; gives the id of a new one.
    async fn put(&self, slot: Option<RecordId>, next: Option<DynamicMessage>) -> Option<RecordId> {
        let mut open = self.begin().await;
        let mut unruled = open.danger_unruled(&self.table);
        let made = match (slot, next) {
            (None, Some(paper)) => Some(unruled.create(paper).await.unwrap().id()),
            (Some(id), Some(paper)) => {
                unruled.update(id, paper).await.unwrap();
                None
            }
            (Some(id), None) => {
                unruled.delete(id).await.unwrap();
                None
            }
            (None, None) => None,
        };
        open.commit().await.unwrap();
        made
    }

    async fn ask(&mut self, ask: &Ask, slots: &[RecordId], etags: &[String], answer: &mut Answer) {
        // A slot that nobody has filled is an id that nobody has.
        let nobody = RecordId::new(self.world.orgs[0].tag(), 1, [255; 10]);
        let id = |slot: &usize| slots.get(*slot).copied().unwrap_or(nobody);
        let etag = |etag: &Etag| match etag {
            Etag::None => None,
            Etag::Seen(number) => etags.get(number % etags.len().max(1)).cloned(),
            Etag::Wrong => Some("d3Jvbmc".to_owned()),
        };
        let mut open = self.begin().await;
        match ask {
            Ask::Watch(query) => self.watch(query, String::new(), slots, answer).await,
            Ask::Follow => self.follow(slots, answer).await,
            Ask::Resume(other) => {
                let Some(Watching { query, token, .. }) = self.watching.take() else { return };
                self.watch(other.as_ref().unwrap_or(&query), token, slots, answer).await;
            }
            Ask::Get { slot } => {
                let view = open.confined(&self.table, &self.caller).find(id(slot)).await;
                self.note_result(answer, &view.map(Option::into_iter).map(Vec::from_iter)).await;
            }
            Ask::Permit { verb, slot } => {
                let permit = open.confined(&self.table, &self.caller).permit(*verb, id(slot)).await;
                answer.lines.push(permit.map_or_else(|error| refused(&error), |permit| format!("{:?}", permit.id())));
            }
            Ask::Create { org, project, sets } => {
                let mut new = self.world.task(&self.table, *project, &[]);
                new.set_field_by_name("org_id", text(&self.world.org_text(*org)));
                sets.iter().for_each(|set| set.apply(&mut new));
                let written = open.confined(&self.table, &self.caller).create(new).await;
                answer.made = written.as_ref().ok().map(|written| written.view.id());
                self.note_written(answer, open, written).await;
            }
            Ask::Update { slot, mask, sets, etag: with } => {
                let mut new = message(&self.table, &[]);
                sets.iter().for_each(|set| set.apply(&mut new));
                let confined = &mut open.confined(&self.table, &self.caller);
                let written = update_in(confined, id(slot), mask, new, etag(with).as_deref()).await;
                self.note_written(answer, open, written).await;
            }
            Ask::Delete { slot, etag: with } => {
                let mut confined = open.confined(&self.table, &self.caller);
                let deleted = match confined.permit(Verb::Delete, id(slot)).await {
                    Ok(permit) => confined.delete(permit, etag(with).as_deref()).await,
                    Err(error) => Err(error),
                };
                answer.lines.push(deleted.map_or_else(|error| refused(&error), |()| "deleted".to_owned()));
                open.commit().await.unwrap();
            }
            Ask::Count(query) => {
                let request = self.request(query, String::new());
                let count = open.confined(&self.table, &self.caller).count(&request).await;
                answer.lines.push(count.map_or_else(|error| refused(&error), |count| format!("{count} match")));
            }
            Ask::Pages(query) => {
                let mut token = String::new();
                for _ in 0..MAX_PAGES {
                    let Some(next) = self.page(&mut open, query, token, answer).await else { return };
                    token = next;
                }
                panic!("a list without an end");
            }
            Ask::First(query) => {
                let next = self.page(&mut open, query, String::new(), answer).await;
                self.kept = next.map(|next| (query.clone(), next));
            }
            Ask::Next(other) => {
                let Some((query, token)) = self.kept.take() else { return };
                let next = self.page(&mut open, other.as_ref().unwrap_or(&query), token, answer).await;
                self.kept = next.map(|next| (query, next));
            }
        }
    }

    /// Begins to watch, and hears all that there is.
    async fn watch(&mut self, query: &Query, resume_token: String, slots: &[RecordId], answer: &mut Answer) {
        let ListRequest { org_id, project_id, filter, .. } = self.request(query, String::new());
        let request = WatchRequest { org_id, project_id, filter, resume_token };
        let calls = self.world.store.changes(&self.table, self.world.orgs[query.org].tag());
        self.watching = None;
        match self.begin().await.confined(&self.table, &self.caller).watch(&request).await {
            Ok(watch) => {
                let token = request.resume_token;
                self.watching = Some(Watching { query: query.clone(), watch, token, calls });
                self.follow(slots, answer).await;
            }
            Err(error) => answer.lines.push(refused(&error)),
        }
    }

    /// Hears what is new.
    async fn follow(&mut self, slots: &[RecordId], answer: &mut Answer) {
        let Some(mut watching) = self.watching.take() else { return };
        loop {
            let mut open = self.begin().await;
            let now = Moment::of(&open);
            let batch = open.confined(&self.table, &self.caller).follow(&mut watching.watch, &now).await;
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return answer.lines.push(refused(&error)),
            };
            for event in batch.events {
                match event {
                    WatchEvent::Reset => answer.lines.push("reset".to_owned()),
                    WatchEvent::Removed(id) => answer.lines.push(format!("removed {id:?}")),
                    WatchEvent::Added(view) => {
                        answer.lines.push("added".to_owned());
                        self.note_result(answer, &Ok(vec![view])).await;
                    }
                    WatchEvent::Changed(view) => {
                        answer.lines.push("changed".to_owned());
                        self.note_result(answer, &Ok(vec![view])).await;
                    }
                    WatchEvent::Current { resume_token } => {
                        answer.lines.push(format!("current, {} characters", resume_token.len()));
                        watching.token = resume_token;
                    }
                }
            }
            answer.lines.push(format!("more: {}", batch.more));
            if !batch.more {
                break;
            }
        }
        if self.spy == Spy::Gone {
            for id in slots {
                answer.lines.extend(self.stored(*id).await.is_none().then(|| format!("gone {id:?}")));
            }
        }
        if self.spy == Spy::Woken {
            let woken =
                tokio::select! { biased; () = watching.calls.next() => true, () = std::future::ready(()) => false };
            answer.lines.push(format!("woken: {woken}"));
        }
        self.watching = Some(watching);
    }

    fn request(&self, query: &Query, page_token: String) -> ListRequest {
        ListRequest {
            org_id: self.world.org_text(query.org),
            project_id: query.project.map(|project| self.world.project_text(project)).unwrap_or_default(),
            filter: query.filter.clone(),
            search: query.search.to_owned(),
            order_by: query.order_by.to_owned(),
            page_size: query.page_size,
            page_token,
        }
    }

    /// One page; gives the token of the next.
    async fn page(&self, open: &mut Open, query: &Query, token: String, answer: &mut Answer) -> Option<String> {
        let request = self.request(query, token);
        let page = open.confined(&self.table, &self.caller).list(&request).await;
        let (views, next) = match page {
            Ok(Page { views, next_page_token }) => (Ok(views), next_page_token),
            Err(error) => (Err(error), String::new()),
        };
        self.note_result(answer, &views).await;
        // Sealed with a random nonce: what it leads to is compared, and how long it is.
        answer.lines.push(format!("a token of {} characters", next.len()));
        Some(next).filter(|next| !next.is_empty())
    }

    async fn note_written(&self, answer: &mut Answer, open: Open, written: Result<Written, Refused>) {
        match written {
            Ok(Written { view, fields, .. }) => {
                open.commit().await.unwrap();
                answer.lines.push(format!("wrote {fields:?}"));
                self.note_result(answer, &Ok(vec![view])).await;
            }
            Err(error) => answer.lines.push(refused(&error)),
        }
    }

    async fn note_result(&self, answer: &mut Answer, views: &Result<Vec<View>, Refused>) {
        let views = match views {
            Ok(views) => views,
            Err(error) => return answer.lines.push(refused(error)),
        };
        answer.lines.push(format!("{} records", views.len()));
        for view in views {
            // The text for people, the bytes for the comparison.
            let bytes = HEXLOWER.encode(&view.message().encode_to_vec());
            answer.lines.push(format!("{} {bytes}", view.message()));
            answer.etags.push(field_text(view.message(), "etag"));
            if self.spy == Spy::Versions {
                let stored = self.begin().await.danger_unruled(&self.table).get(view.id()).await.unwrap();
                answer.lines.push(format!("{:?}", stored.map(|stored| stored.version())));
            }
        }
    }
}

/// All that a refusal says.
fn refused(error: &Refused) -> String {
    assert!(!matches!(error, Refused::Store(_)), "the store failed: {error} ({error:?})");
    format!("{error:?}: {error}")
}
