//! Random callers do random things to the notes of DESIGN 3, several to a transaction, some of them rolled back; a list of
//! messages and the rules' own decisions say what must come of it.

use crate::harness::*;
use proptest::{collection::vec, prelude::*, sample::select};
use prost_reflect::{DynamicMessage, Value};
use std::sync::Arc;
use sys_contract::{
    id::RecordId,
    model::{Role, Verb},
};
use sys_policy::{Binding, Caller, FieldSet, Standing};
use sys_store::{ListRequest, Open, Refused, Table};

const CALLERS: usize = 5;
const TITLES: [&str; 7] = ["plan", "Plan B", "planet of the apes", "beta: the plan", "Über-Plan", "alpha", "al"];

/// What a list may ask for, and what it means for the fields that the caller sees.
type Meaning = fn(&Seen) -> bool;
const FILTERS: [(&str, Meaning); 10] = [
    ("", |_| true),
    ("published", |seen| seen.published),
    ("published == false", |seen| !seen.published),
    ("title.startsWith(\"plan\")", |seen| seen.title.starts_with("plan")),
    ("title.startsWith(\"plan of\")", |seen| seen.title.starts_with("plan of")),
    ("title == \"Plan B\"", |seen| seen.title == "Plan B"),
    ("published && title.startsWith(\"Plan B\")", |seen| seen.published && seen.title.starts_with("Plan B")),
    ("title in [\"al\", \"alpha\"] || published", |seen| ["al", "alpha"].contains(&&*seen.title) || seen.published),
    ("draft == \"d1\"", |seen| seen.draft.as_deref() == Some("d1")),
    ("draft != \"d1\"", |seen| seen.draft.as_deref().is_some_and(|draft| draft != "d1")),
];

struct Seen {
    title: String,
    published: bool,
    /// None if it is hidden.
    draft: Option<String>,
}

#[derive(Debug, Clone)]
enum Op {
    Create {
        caller: usize,
        org: usize,
        project: Option<usize>,
        title: &'static str,
        published: bool,
        draft: &'static str,
    },
    Update {
        caller: usize,
        note: usize,
        mask: Vec<&'static str>,
        title: &'static str,
        published: bool,
        draft: &'static str,
    },
    Delete {
        caller: usize,
        note: usize,
    },
    Get {
        caller: usize,
        note: usize,
    },
    List {
        caller: usize,
        org: usize,
        project: Option<usize>,
        filter: usize,
        order: &'static str,
        size: i32,
    },
    Commit,
    Rollback,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..CALLERS;
    let (title, draft) = (select(TITLES.as_slice()), select(["", "d1", "d2"].as_slice()));
    let mask = select(vec![
        vec!["title"],
        vec!["published"],
        vec!["title", "published"],
        vec!["draft"],
        vec!["*"],
        vec![],
        vec!["project_id"],
    ]);
    let order = select(vec!["", "id desc", "title", "title desc, published", "draft"]);
    let project = prop_oneof![5 => (0..3_usize).prop_map(Some), 1 => Just(None)];
    let matching = (0..2_usize, project.clone(), any::<bool>()).prop_map(|(org, project, odd)| match project {
        // Nearly always a project of the org.
        Some(project) if !odd || project % 3 != 0 => (usize::from(project == 2), Some(project)),
        project => (org, project),
    });
    prop_oneof![
        8 => (who.clone(), matching, title.clone(), any::<bool>(), draft.clone()).prop_map(
            |(caller, (org, project), title, published, draft)| Op::Create { caller, org, project, title, published, draft }),
        3 => (who.clone(), 0..20_usize, mask, title, any::<bool>(), draft).prop_map(
            |(caller, note, mask, title, published, draft)| Op::Update { caller, note, mask, title, published, draft }),
        1 => (who.clone(), 0..20_usize).prop_map(|(caller, note)| Op::Delete { caller, note }),
        2 => (who.clone(), 0..20_usize).prop_map(|(caller, note)| Op::Get { caller, note }),
        8 => (who, 0..2_usize, prop_oneof![2 => Just(None), 1 => (0..3_usize).prop_map(Some)], 0..FILTERS.len(), order, 1..6_i32)
            .prop_map(|(caller, org, project, filter, order, size)| Op::List { caller, org, project, filter, order, size }),
        2 => Just(Op::Commit),
        1 => Just(Op::Rollback),
    ]
}

/// For each caller: standing, and roles at orgs (0 and 1) and projects (2 to 4).
fn bindings() -> impl Strategy<Value = Vec<Vec<(Role, usize)>>> {
    let role = select([Role::Guest, Role::User, Role::User, Role::Admin].as_slice());
    vec(vec((role, 0..5_usize), 0..3), CALLERS)
}

/// The notes of DESIGN 3, and grants that no index answers alone: what they let through, opened records decide.
fn contract() -> String {
    let first_field = "  string id = 1 [";
    let grants = r#"
  option (sys.policy.v1.allow) = { verbs: [GET] owner: true };
  option (sys.policy.v1.allow) = {
    verbs: [GET]
    role: GUEST
    at: PROJECT
    when: "this.title.startsWith(\"plan\") && this.draft != \"d1\""
  };
  option (sys.policy.v1.allow) = { verbs: [GET] role: ADMIN at: ORG when: "this.draft == \"d2\"" };
"#;
    assert_eq!(NOTES.matches(first_field).count(), 1);
    NOTES.replace(first_field, &format!("{grants}{first_field}"))
}

struct Oracle {
    world: World,
    table: Arc<Table>,
    callers: Vec<Caller>,
    /// Each note with all its fields, `id` set.
    notes: Vec<(RecordId, DynamicMessage)>,
    committed: Vec<(RecordId, DynamicMessage)>,
}

impl Oracle {
    async fn new(kind: Kind, bindings: &[Vec<(Role, usize)>]) -> Self {
        let world = World::new(kind).await;
        let contract = compile("mod-notes", "notes/v1/notes.proto", &contract());
        let table = load(&world.store, contract).await.unwrap().table(0).unwrap().clone();
        let binding = |(role, place): &(Role, usize)| -> Binding {
            if *place < 2 { world.at_org(*role, *place) } else { world.at_project(*role, place - 2) }
        };
        let mut callers = vec![Caller::anonymous()];
        for (number, bindings) in (1..).zip(bindings.iter().skip(1)) {
            let standing = if number == 4 { Standing::Disabled } else { Standing::Verified };
            callers.push(caller_in(standing, number, bindings.iter().map(binding).collect()));
        }
        Self { world, table, callers, notes: Vec::new(), committed: Vec::new() }
    }

    /// What a get must show.
    fn view(&self, caller: &Caller, note: &DynamicMessage) -> Option<(DynamicMessage, FieldSet)> {
        let rules = self.table.rules();
        let placement = rules.placement(note).unwrap();
        rules.allows(Verb::Get, caller, note, &placement, &NOW)?;
        let hidden = rules.hidden_fields(caller, note, &placement, &NOW);
        let mut view = note.clone();
        hidden.iter().for_each(|number| view.clear_field_by_number(number));
        Some((view, hidden))
    }

    fn note(&self, note: usize) -> (RecordId, Option<DynamicMessage>) {
        match self.notes.get(note) {
            Some((id, note)) => (*id, Some(note.clone())),
            None => (RecordId::new(self.world.orgs[note % 2].tag(), 1, [9; 10]), None),
        }
    }

    /// What an update must come to.
    fn updated(&self, caller: &Caller, note: Option<&DynamicMessage>, mask: &[&str], new: &DynamicMessage) -> Expect {
        let rules = self.table.rules();
        let Some(note) = note else { return Err("not found") };
        let Some((_, hidden)) = self.view(caller, note) else { return Err("not found") };
        let placement = rules.placement(note).unwrap();
        if !rules.could_update(caller, note, &placement, &NOW) {
            return Err("denied");
        }
        let mut next = note.clone();
        for field in self.table.record().message.fields() {
            let named = match mask {
                [] => new.has_field(&field),
                ["*"] => new.has_field(&field) || ["title", "published", "draft"].contains(&field.name()),
                mask => mask.contains(&field.name()),
            };
            if !named || (mask == ["*"] && hidden.contains(field.number()) && !new.has_field(&field)) {
                continue;
            }
            if hidden.contains(field.number()) {
                return Err("denied");
            }
            next.set_field(&field, new.get_field(&field).into_owned());
        }
        if field(&next, "project_id") != field(note, "project_id") {
            return Err("invalid");
        }
        rules.allows_update(caller, note, &next, &placement, &NOW).map(|_| next).ok_or("denied")
    }

    async fn run(&mut self, ops: Vec<Op>) {
        let mut open = self.world.begin().await;
        for op in ops {
            match op {
                Op::Commit => {
                    open.commit().await.unwrap();
                    self.committed = self.notes.clone();
                    open = self.world.begin().await;
                }
                Op::Rollback => {
                    self.notes = self.committed.clone();
                    open = self.world.begin().await;
                }
                op => self.step(&mut open, op).await,
            }
        }
    }

    async fn step(&mut self, open: &mut Open, op: Op) {
        match op {
            Op::Create { caller, org, project, title, published, draft } => {
                self.create(open, caller, (org, project), (title, published, draft)).await;
            }
            Op::Update { caller, note, mask, title, published, draft } => {
                let caller = self.callers[caller].clone();
                let (id, stored) = self.note(note);
                let fields = [("title", text(title)), ("published", Value::Bool(published)), ("draft", text(draft))];
                let mut new = message(&self.table, &fields);
                if mask == ["project_id"] {
                    new.set_field_by_name("project_id", text(&self.world.project_text(0)));
                }
                let expect = self.updated(&caller, stored.as_ref(), &mask, &new);
                let result = update_in(&mut open.confined(&self.table, &caller), id, &mask, new, None).await;
                self.check_written(&caller, id, result, expect);
            }
            Op::Delete { caller, note } => {
                let caller = self.callers[caller].clone();
                let (id, stored) = self.note(note);
                let rules = self.table.rules();
                let allowed = |stored: &DynamicMessage| {
                    let placement = rules.placement(stored).unwrap();
                    rules.allows(Verb::Delete, &caller, stored, &placement, &NOW).is_some()
                };
                let expect = match &stored {
                    Some(stored) if self.view(&caller, stored).is_some() => {
                        allowed(stored).then_some(()).ok_or("denied")
                    }
                    _ => Err("not found"),
                };
                let mut confined = open.confined(&self.table, &caller);
                let result = match confined.permit(Verb::Delete, id).await {
                    Ok(permit) => confined.delete(permit, None).await,
                    Err(error) => Err(error),
                };
                assert_eq!(result.map_err(|error| kind(&error)), expect.map_err(str::to_owned));
                if expect.is_ok() {
                    self.notes.retain(|(other, _)| *other != id);
                }
            }
            Op::Get { caller, note } => {
                let caller = &self.callers[caller];
                let (id, stored) = self.note(note);
                let expect = stored.and_then(|stored| self.view(caller, &stored)).map(|(view, _)| view);
                let view = open.confined(&self.table, caller).find(id).await.unwrap();
                assert_eq!(view.map(|view| shown(view.message())), expect.as_ref().map(shown));
            }
            Op::List { caller, org, project, filter, order, size } => {
                self.list(open, caller, (org, project), filter, order, size).await;
            }
            Op::Commit | Op::Rollback => unreachable!("done by the caller"),
        }
    }

    async fn create(
        &mut self,
        open: &mut Open,
        caller: usize,
        (org, project): (usize, Option<usize>),
        (title, published, draft): (&str, bool, &str),
    ) {
        let caller = self.callers[caller].clone();
        let fields = [("title", text(title)), ("published", Value::Bool(published)), ("draft", text(draft))];
        let mut new = message(&self.table, &fields);
        new.set_field_by_name("org_id", text(&self.world.org_text(org)));
        if let Some(project) = project {
            new.set_field_by_name("project_id", text(&self.world.project_text(project)));
        }
        // A request cannot choose who wrote it, or which note it is.
        new.set_field_by_name("author_id", text(&account(77).to_string()));
        new.set_field_by_name("id", text("note_nonsense"));
        let result = open.confined(&self.table, &caller).create(new.clone()).await;

        let id = result.as_ref().map_or(RecordId::new(self.world.orgs[org].tag(), 1, [8; 10]), |w| w.view.id());
        let mut next = new;
        next.set_field_by_name("id", text(&self.table.id_text(id)));
        match caller.account().filter(|_| caller.standing() == Standing::Verified) {
            Some(author) => next.set_field_by_name("author_id", text(&author.to_string())),
            None => next.clear_field_by_name("author_id"),
        }
        let rules = self.table.rules();
        let placement = rules.placement(&next).unwrap();
        let in_org = project.is_none_or(|project| self.world.projects[project].0 == self.world.orgs[org]);
        let expect = match rules.allows(Verb::Create, &caller, &next, &placement, &NOW) {
            None => Err("denied"),
            Some(_) if !draft.is_empty() && rules.hidden_fields(&caller, &next, &placement, &NOW).contains(7) => {
                Err("denied")
            }
            Some(_) if !in_org => Err("invalid"),
            Some(_) => Ok(next),
        };
        self.check_written(&caller, id, result, expect);
    }

    /// The answer to a write is what a get would show; the oracle follows.
    fn check_written(
        &mut self,
        caller: &Caller,
        id: RecordId,
        result: Result<sys_store::Written, Refused>,
        expect: Expect,
    ) {
        match (result, expect) {
            (Ok(written), Ok(next)) => {
                let only_id = || message(&self.table, &[("id", text(&self.table.id_text(id)))]);
                let expect = self.view(caller, &next).map_or_else(only_id, |(view, _)| view);
                assert_eq!(shown(written.view.message()), shown(&expect));
                self.notes.retain(|(other, _)| *other != id);
                self.notes.push((id, next));
            }
            (Err(refused), Err(expect)) => {
                let kind = kind(&refused);
                assert!(kind.starts_with(expect), "{kind} and not {expect}");
            }
            (result, expect) => panic!("{result:?} and not {expect:?}"),
        }
    }

    async fn list(
        &self,
        open: &mut Open,
        caller: usize,
        (org, project): (usize, Option<usize>),
        filter: usize,
        order: &str,
        size: i32,
    ) {
        let caller = &self.callers[caller];
        let (filter, meaning) = FILTERS[filter];
        let project = project.map(|project| self.world.project_text(project));
        let org = self.world.org_text(org);
        let mut expect: Vec<DynamicMessage> = Vec::new();
        for (_, note) in &self.notes {
            let placed = field_text(note, "org_id") == org
                && project.as_ref().is_none_or(|project| field_text(note, "project_id") == *project);
            let Some((view, hidden)) = self.view(caller, note).filter(|_| placed) else { continue };
            let seen = Seen {
                title: field_text(&view, "title"),
                published: field(&view, "published") == Value::Bool(true),
                draft: (!hidden.contains(7)).then(|| field_text(&view, "draft")),
            };
            if meaning(&seen) {
                expect.push(view);
            }
        }
        let (id, title) =
            (|view: &DynamicMessage| field_text(view, "id"), |view: &DynamicMessage| field_text(view, "title"));
        expect.sort_by_key(id);
        match order {
            "id desc" => expect.reverse(),
            "title" => expect.sort_by_key(title),
            "title desc, published" => expect.sort_by(|a, b| {
                let published = |view| field(view, "published") == Value::Bool(true);
                title(b).cmp(&title(a)).then_with(|| published(a).cmp(&published(b)))
            }),
            "draft" => expect.sort_by_key(|view| field_text(view, "draft")),
            _ => {}
        }
        let request = ListRequest {
            org_id: org,
            project_id: project.unwrap_or_default(),
            filter: filter.to_owned(),
            order_by: order.to_owned(),
            page_size: size,
            ..ListRequest::default()
        };
        let expect: Vec<String> = expect.iter().map(shown).collect();
        assert_eq!(pages(open, &self.table, caller, request).await, expect, "{filter} by {order}");
    }
}

type Expect = Result<DynamicMessage, &'static str>;

/// All pages of a list; each but the last is full.
async fn pages(open: &mut Open, table: &Arc<Table>, caller: &Caller, mut request: ListRequest) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = open.confined(table, caller).list(&request).await.unwrap();
        let is_full = page.views.len() == usize::try_from(request.page_size).unwrap();
        assert_eq!(is_full, !page.next_page_token.is_empty());
        all.extend(page.views.iter().map(|view| shown(view.message())));
        if !is_full {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

/// The fields that are set, but for the etag.
fn shown(view: &DynamicMessage) -> String {
    let fields = view.fields().filter(|(field, _)| field.name() != "etag");
    fields.map(|(field, value)| format!("{}: {value}\n", field.name())).collect()
}

fn run(kind: Kind, bindings: &[Vec<(Role, usize)>], ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { Oracle::new(kind, bindings).await.run(ops).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_list_of_messages_and_the_rules_say(bindings in bindings(), ops in vec(op(), 20..80)) {
        run(Kind::Memory, &bindings, ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn so_does_it_on_redb(bindings in bindings(), ops in vec(op(), 20..80)) {
        run(Kind::Redb, &bindings, ops);
    }
}
