//! Lists in the order of ORDERED indexes, and counts: what a naive sort of what the caller sees gives, page by page, whatever
//! others write between the pages.

use crate::harness::*;
use proptest::{collection::vec, prelude::*, sample::select};
use prost_reflect::{DynamicMessage, FieldDescriptor, Value};
use std::{cmp::Ordering, sync::Arc};
use sys_contract::{
    id::RecordId,
    model::{Role, Verb},
};
use sys_policy::Caller;
use sys_store::{
    ListRequest, LoadError, MAX_SORTED, SystemKind, Table,
    check::CheckOptions,
    engine::{Engine, KeyRange, MAX_RANGE_ROWS, Order, Txn},
};

const EVENTS: &str = include_str!("contracts/events.proto");

impl World {
    async fn events(&self) -> Arc<Table> {
        let tables = load(&self.store, compile("mod-events", "events/v1/events.proto", EVENTS)).await.unwrap();
        tables.by_name("events.v1.Event").unwrap().clone()
    }
}

/// What a field is ordered by. Unset comes first.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Key {
    Unset,
    Whole(i128),
    Fraction(f64),
    Text(String),
}

fn key_of(message: &DynamicMessage, name: &str) -> Key {
    let field = message.get_field_by_name(name);
    let descriptor = prost_reflect::ReflectMessage::descriptor(message).get_field_by_name(name).unwrap();
    if descriptor.supports_presence() && !message.has_field(&descriptor) {
        return Key::Unset;
    }
    match field.unwrap().as_ref() {
        Value::Bool(value) => Key::Whole(i128::from(*value)),
        Value::I32(value) | Value::EnumNumber(value) => Key::Whole(i128::from(*value)),
        Value::I64(value) => Key::Whole(i128::from(*value)),
        Value::U64(value) => Key::Whole(i128::from(*value)),
        Value::F64(value) => Key::Fraction(*value),
        Value::String(value) => Key::Text(value.clone()),
        Value::Message(time) => {
            let seconds = field_number(time, "seconds");
            Key::Whole(seconds * 1_000_000_000 + field_number(time, "nanos"))
        }
        other => panic!("{other:?}"),
    }
}

fn field_number(message: &DynamicMessage, name: &str) -> i128 {
    match field(message, name) {
        Value::I64(value) => value.into(),
        Value::I32(value) => value.into(),
        other => panic!("{other:?}"),
    }
}

fn time(field: &FieldDescriptor, nanos: i64) -> Value {
    let mut time = DynamicMessage::new(field.kind().as_message().unwrap().clone());
    time.set_field_by_name("seconds", Value::I64(nanos.div_euclid(2)));
    time.set_field_by_name("nanos", Value::I32(i32::try_from(nanos.rem_euclid(2)).unwrap() * 500_000_000));
    Value::Message(time)
}

/// A filter with its meaning.
type Meaning = fn(&DynamicMessage) -> bool;
const FILTERS: [(&str, Meaning); 18] = [
    ("", |_| true),
    ("weight >= 0", |e| key_of(e, "weight") >= Key::Whole(0)),
    ("weight > -1 && weight <= 1", |e| (0..=1).map(Key::Whole).any(|key| key_of(e, "weight") == key)),
    ("1 > weight", |e| key_of(e, "weight") < Key::Whole(1)),
    ("weight == 1", |e| key_of(e, "weight") == Key::Whole(1)),
    ("!(weight < 1)", |e| key_of(e, "weight") >= Key::Whole(1)),
    ("weight < 1 || weight > 1", |e| key_of(e, "weight") != Key::Whole(1)),
    ("weight > 5000000000", |_| false),
    ("weight > 1 && weight < 0", |_| false),
    ("rank < 1", |e| key_of(e, "rank") != Key::Unset && key_of(e, "rank") < Key::Whole(1)),
    ("size >= 1u", |e| key_of(e, "size") >= Key::Whole(1)),
    ("ratio >= 0.0", |e| key_of(e, "ratio") >= Key::Fraction(0.0)),
    ("ratio < 0.0 && kind == \"x\"", |e| key_of(e, "ratio") < Key::Fraction(0.0) && field_text(e, "kind") == "x"),
    ("due <= now", |e| {
        key_of(e, "due") != Key::Unset && key_of(e, "due") <= Key::Whole(i128::from(NOW.unix_s) * 1_000_000_000)
    }),
    ("due > now - duration(\"1s\")", |e| key_of(e, "due") > Key::Whole(i128::from(NOW.unix_s - 1) * 1_000_000_000)),
    ("took < duration(\"0.5s\")", |e| key_of(e, "took") != Key::Unset && key_of(e, "took") < Key::Whole(500_000_000)),
    ("code >= \"a\" && kind == \"x\"", |e| key_of(e, "code") >= Key::Text("a".into()) && field_text(e, "kind") == "x"),
    ("kind == \"x\" && open", |e| field_text(e, "kind") == "x" && field(e, "open") == Value::Bool(true)),
];

const ORDERS: [&str; 16] = [
    "",
    "id desc",
    "weight",
    "weight desc",
    "rank",
    "rank desc",
    "size desc",
    "ratio",
    "ratio desc",
    "open desc",
    "state",
    "due",
    "took desc",
    "code",
    "code desc",
    "weight desc, code",
];

/// The values that an event gets, few of each, so that many are alike.
#[derive(Debug, Clone)]
struct Fields {
    weight: i32,
    rank: Option<i64>,
    size: u64,
    ratio: f64,
    open: bool,
    state: i32,
    due: Option<i64>,
    took: Option<i64>,
    code: &'static str,
    kind: &'static str,
}

fn fields() -> impl Strategy<Value = Fields> {
    let numbers = (
        select([i32::MIN, -1, 0, 1, 2, i32::MAX].as_slice()),
        select(vec![None, Some(i64::MIN), Some(-1), Some(0), Some(1)]),
        select(vec![0, 1, 2, u64::MAX]),
        select(vec![f64::NEG_INFINITY, -1.5, -0.0, 0.0, 0.25, f64::MAX]),
    );
    let half_seconds = |around: i64| select(vec![None, Some(around - 1), Some(around), Some(around + 1)]);
    let texts = (select(["", "a", "a\0", "ab", "ä"].as_slice()), select(["x", "y"].as_slice()));
    let others = (any::<bool>(), 0..3_i32, half_seconds(NOW.unix_s * 2), half_seconds(0), texts);
    (numbers, others).prop_map(|((weight, rank, size, ratio), (open, state, due, took, (code, kind)))| Fields {
        weight,
        rank,
        size,
        ratio,
        open,
        state,
        due,
        took,
        code,
        kind,
    })
}

#[derive(Debug, Clone)]
enum Op {
    Create(usize, Fields),
    Update(usize, Fields),
    Delete(usize),
    /// By whom, of which project, filter, order, page size, and what others do between the pages.
    List(usize, Option<usize>, usize, usize, i32, Vec<Op>),
}

fn write() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3_usize, fields()).prop_map(|(project, fields)| Op::Create(project, fields)),
        2 => (0..30_usize, fields()).prop_map(|(event, fields)| Op::Update(event, fields)),
        1 => (0..30_usize).prop_map(Op::Delete),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let project = prop_oneof![3 => Just(None), 1 => (0..2_usize).prop_map(Some)];
    let list = (0..4_usize, project, 0..FILTERS.len(), 0..ORDERS.len(), 1..7_i32, vec(write(), 0..4));
    prop_oneof![
        1 => write(),
        1 => list.prop_map(|(who, project, filter, order, size, between)| {
            Op::List(who, project, filter, order, size, between)
        }),
    ]
}

struct Oracle {
    world: World,
    table: Arc<Table>,
    /// Sees all of org A; one project of it; what is open in it; nothing.
    readers: [Caller; 4],
    events: Vec<(RecordId, DynamicMessage)>,
}

impl Oracle {
    async fn new(kind: Kind) -> Self {
        let world = World::new(kind).await;
        let table = world.events().await;
        let readers = [
            caller(1, vec![world.at_org(Role::User, 0)]),
            caller(2, vec![world.at_project(Role::User, 1)]),
            caller(3, vec![world.at_org(Role::Guest, 0)]),
            caller(4, vec![world.at_org(Role::Admin, 1)]),
        ];
        Self { world, table, readers, events: Vec::new() }
    }

    fn message(&self, fields: &Fields) -> DynamicMessage {
        let descriptor = |name| self.table.record().message.get_field_by_name(name).unwrap();
        let mut message = message(
            &self.table,
            &[
                ("weight", Value::I32(fields.weight)),
                ("size", Value::U64(fields.size)),
                ("ratio", Value::F64(fields.ratio)),
                ("open", Value::Bool(fields.open)),
                ("state", Value::EnumNumber(fields.state)),
                ("code", text(fields.code)),
                ("kind", text(fields.kind)),
                ("secret", text(fields.code)),
            ],
        );
        if let Some(rank) = fields.rank {
            message.set_field_by_name("rank", Value::I64(rank));
        }
        for (name, time_of) in [("due", fields.due), ("took", fields.took)] {
            if let Some(nanos) = time_of {
                message.set_field_by_name(name, time(&descriptor(name), nanos));
            }
        }
        message
    }

    async fn write(&mut self, op: Op) {
        let mut open = self.world.begin().await;
        match op {
            Op::Create(project, fields) => {
                let mut next = self.message(&fields);
                let (org, project) = self.world.projects[project];
                next.set_field_by_name("org_id", text(&org.to_string()));
                next.set_field_by_name("project_id", text(&project.to_string()));
                let stored = open.danger_unruled(&self.table).create(next).await.unwrap();
                self.events.push((stored.id(), stored.into_message()));
            }
            Op::Update(at, fields) => {
                let Some((id, event)) = self.events.get(at).cloned() else { return };
                let mut next = self.message(&fields);
                let (org, project) = (field(&event, "org_id"), field(&event, "project_id"));
                next.set_field_by_name("org_id", org);
                next.set_field_by_name("project_id", project);
                let stored = open.danger_unruled(&self.table).update(id, next).await.unwrap();
                self.events[at].1 = stored.into_message();
            }
            Op::Delete(at) => {
                if at >= self.events.len() {
                    return;
                }
                let (id, _) = self.events.remove(at);
                assert!(open.danger_unruled(&self.table).delete(id).await.unwrap());
            }
            Op::List(..) => unreachable!("no write"),
        }
        open.commit().await.unwrap();
    }

    /// What the caller sees and asks for, in order.
    fn expected(&self, reader: &Caller, project: Option<&str>, filter: Meaning, order: &str) -> Vec<DynamicMessage> {
        let rules = self.table.rules();
        let mut seen: Vec<DynamicMessage> = Vec::new();
        for (_, event) in &self.events {
            let placement = rules.placement(event).unwrap();
            let placed = placement.org == Some(self.world.orgs[0].tag())
                && project.is_none_or(|project| field_text(event, "project_id") == project);
            if placed && rules.allows(Verb::Get, reader, event, &placement, &NOW).is_some() && filter(event) {
                seen.push(event.clone());
            }
        }
        seen.sort_by(|a, b| compare(a, b, order));
        seen
    }

    async fn list(&mut self, op: Op) {
        let Op::List(who, project, filter, order, size, mut between) = op else { unreachable!("a list") };
        let reader = self.readers[who].clone();
        let project = project.map(|project| self.world.project_text(project));
        let ((filter, meaning), order) = (FILTERS[filter], ORDERS[order]);
        let mut request = ListRequest {
            org_id: self.world.org_text(0),
            project_id: project.clone().unwrap_or_default(),
            filter: filter.to_owned(),
            order_by: order.to_owned(),
            page_size: size,
            ..ListRequest::default()
        };
        let mut last: Option<DynamicMessage> = None;
        loop {
            let mut expected = self.expected(&reader, project.as_deref(), meaning, order);
            let mut open = self.world.begin().await;
            let count = open.confined(&self.table, &reader).count(&request).await.unwrap();
            assert_eq!(count, u64::try_from(expected.len()).unwrap(), "{filter}");
            expected.retain(|event| last.as_ref().is_none_or(|last| compare(event, last, order) == Ordering::Greater));
            expected.truncate(usize::try_from(size).unwrap());
            let page = open.confined(&self.table, &reader).list(&request).await.unwrap();
            let ids = |events: &[DynamicMessage]| events.iter().map(|e| field_text(e, "id")).collect::<Vec<_>>();
            let views: Vec<_> = page.views.iter().map(|view| view.message().clone()).collect();
            assert_eq!(ids(&views), ids(&expected), "{filter} by {order}");
            assert_eq!(page.next_page_token.is_empty(), views.len() < usize::try_from(size).unwrap());
            if page.next_page_token.is_empty() {
                return;
            }
            request.page_token = page.next_page_token;
            // As it was on its page: what is written now does not move where the list goes on.
            last = expected.pop();
            if let Some(write) = between.pop() {
                self.write(write).await;
            }
        }
    }

    async fn run(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::List(..) => self.list(op).await,
                write => self.write(write).await,
            }
        }
        let report = self.world.store.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
        assert!(report.found.is_empty(), "{:?}", report.found);
    }
}

/// The order of two events: by the fields, then by id in the direction of the last.
fn compare(a: &DynamicMessage, b: &DynamicMessage, order: &str) -> Ordering {
    let by_id = || field_text(a, "id").cmp(&field_text(b, "id"));
    let (mut result, mut down) = (Ordering::Equal, false);
    for part in order.split(", ").filter(|part| !part.is_empty()) {
        down = part.ends_with(" desc");
        let name = part.trim_end_matches(" desc");
        let order = if name == "id" { by_id() } else { key_of(a, name).partial_cmp(&key_of(b, name)).unwrap() };
        result = result.then(if down { order.reverse() } else { order });
    }
    result.then_with(|| if down { by_id().reverse() } else { by_id() })
}

fn run(kind: Kind, ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { Oracle::new(kind).await.run(ops).await });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn lists_and_counts_are_what_a_sort_of_what_is_seen_gives(first in vec(write(), 5..30), ops in vec(op(), 10..40)) {
        run(Kind::Memory, [first, ops].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn so_they_are_on_redb(first in vec(write(), 5..30), ops in vec(op(), 10..40)) {
        run(Kind::Redb, [first, ops].concat());
    }
}

/// An event of a project with a weight.
async fn weigh(world: &World, table: &Arc<Table>, project: usize, weight: i32, open: bool) -> RecordId {
    let event = world.task(table, project, &[("weight", Value::I32(weight)), ("open", Value::Bool(open))]);
    let mut txn = world.begin().await;
    let id = txn.danger_unruled(table).create(event).await.unwrap().id();
    txn.commit().await.unwrap();
    id
}

/// What drives is shown by what conflicts with it.
#[tokio::test]
async fn an_index_is_walked_in_its_order_only_by_who_sees_everything() {
    let world = World::new(Kind::Memory).await;
    let table = world.events().await;
    for weight in 0..20 {
        weigh(&world, &table, 0, weight, true).await;
    }
    let walks = async |caller: &Caller, order_by: &str, filter: &str, project: usize, weight: i32| {
        let mut open = world.begin().await;
        let (order_by, filter) = (order_by.to_owned(), filter.to_owned());
        let request =
            ListRequest { org_id: world.org_text(0), order_by, filter, page_size: 2, ..ListRequest::default() };
        assert_eq!(open.confined(&table, caller).list(&request).await.unwrap().views.len(), 2);
        open.put_row(SystemKind::Progress, b"anything", Vec::new()).await.unwrap();
        weigh(&world, &table, project, weight, false).await;
        open.commit().await.is_err()
    };
    let all = caller(1, vec![world.at_org(Role::User, 0)]);
    // It reads some rows ahead: what lies beyond them is not looked at.
    assert!(!walks(&all, "weight", "", 1, 1_000).await);
    assert!(walks(&all, "weight", "", 1, -1).await);
    assert!(!walks(&all, "weight desc", "", 1, -1_000).await);
    assert!(walks(&all, "weight desc", "", 1, 2_000).await);
    // A range of the filter ends the walk, whatever the order.
    assert!(!walks(&all, "weight", "weight < 3", 1, 3).await);
    assert!(!walks(&all, "", "weight > 5 && weight < 8", 1, 8).await);
    assert!(walks(&all, "", "weight > 5 && weight < 8", 1, 7).await);
    assert!(!walks(&all, "kind, code", "weight > 5 && weight < 8", 1, 100).await);
    // Who holds a project is led by it, and passes no event of another; neither do filters lead him elsewhere.
    let some = caller(2, vec![world.at_project(Role::User, 0)]);
    for (order_by, filter) in [("weight", ""), ("weight desc", ""), ("", "weight >= 0"), ("weight", "weight > 1")] {
        assert!(!walks(&some, order_by, filter, 1, 1).await, "{order_by} {filter}");
    }
    assert!(walks(&some, "weight", "", 0, 50_000).await, "put in order in memory");
}

#[tokio::test]
async fn beyond_what_is_put_in_order_in_memory_an_index_or_a_narrower_filter_is_needed() {
    let world = World::new(Kind::Memory).await;
    let table = world.events().await;
    let count = i32::try_from(MAX_SORTED).unwrap() + 1;
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut open = world.begin().await;
        for number in chunk {
            let fields = [("weight", Value::I32(-number)), ("code", text("c")), ("kind", text("x"))];
            open.danger_unruled(&table).create(world.task(&table, 0, &fields)).await.unwrap();
        }
        open.commit().await.unwrap();
    }
    let all = caller(1, vec![world.at_org(Role::User, 0)]);
    let some = caller(2, vec![world.at_project(Role::User, 0)]);
    let list = async |caller: &Caller, order_by: &str, filter: &str| {
        let (order_by, filter) = (order_by.to_owned(), filter.to_owned());
        let request =
            ListRequest { org_id: world.org_text(0), order_by, filter, page_size: 3, ..ListRequest::default() };
        let page = world.list(&table, caller, &request).await?;
        Ok(page.views.iter().map(|view| key_of(view.message(), "weight")).collect::<Vec<_>>())
    };
    let lowest: Vec<_> = (0..3).map(|number| Key::Whole(i128::from(number + 1 - count))).collect();
    assert_eq!(list(&all, "weight", "").await.unwrap(), lowest);
    // The filter's own index is tried first; it leads to too many.
    assert_eq!(list(&all, "weight", "kind == \"x\"").await.unwrap(), lowest);
    for (caller, order_by) in [(&all, "code, weight"), (&all, "kind"), (&some, "weight"), (&some, "code")] {
        assert_eq!(refusal(list(caller, order_by, "").await), "invalid order_by", "{order_by}");
    }
    // What nobody but others may see does not count: one less, and it is put in order.
    assert_eq!(list(&some, "weight", "weight < 0").await.unwrap(), lowest);
    assert_eq!(list(&some, "", "").await.unwrap().len(), 3);
    for caller in [&all, &some] {
        let request = ListRequest { org_id: world.org_text(0), ..ListRequest::default() };
        let counted = world.begin().await.confined(&table, caller).count(&request).await.unwrap();
        assert_eq!(counted, u64::try_from(count).unwrap());
    }
}

#[tokio::test]
async fn an_index_is_built_for_what_is_there_and_taken_away_again() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let indexed = "int32 weight = 5 [(sys.policy.v1.field) = { index: ORDERED }];";
        let plain = EVENTS.replace(indexed, "int32 weight = 5;").replace("index: ORDERED personal", "personal");
        assert_ne!(plain, EVENTS);
        let load = async |proto: &str| {
            let tables = load(&world.store, compile("mod-events", "events/v1/events.proto", proto)).await?;
            Ok::<_, LoadError>(tables.by_name("events.v1.Event").unwrap().clone())
        };
        let rows = async || {
            let mut txn = world.engine.begin().await.unwrap();
            let read = txn.range(KeyRange::all(), Order::Asc, MAX_RANGE_ROWS).await.unwrap();
            assert!(read.is_end);
            read.rows.iter().filter(|(key, _)| key[10] == 6).count()
        };
        let clean = async || {
            let report = world.store.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
            assert!(report.found.is_empty(), "{:?}", report.found);
        };
        let all = caller(1, vec![world.at_org(Role::User, 0)]);
        let table = load(&plain).await.unwrap();
        for weight in [3, -4, 0, 9] {
            weigh(&world, &table, 0, weight, true).await;
        }
        let before = rows().await;
        let table = load(EVENTS).await.unwrap();
        // One row for each of four events in three more indexes.
        assert_eq!(rows().await, before + 12);
        clean().await;
        let request =
            ListRequest { org_id: world.org_text(0), order_by: "weight".to_owned(), ..ListRequest::default() };
        let page = world.list(&table, &all, &request).await.unwrap();
        let weights: Vec<_> = page.views.iter().map(|view| key_of(view.message(), "weight")).collect();
        assert_eq!(weights, [-4, 0, 3, 9].map(Key::Whole));
        let table = load(&plain).await.unwrap();
        assert_eq!(rows().await, before);
        clean().await;

        // A text that an index cannot hold is refused by who writes it, or keeps the index from being built.
        let long = "x".repeat(97);
        let event = |table: &Table| world.task(table, 0, &[("code", text(&long))]);
        world.create(&table, &all, event(&table)).await.unwrap();
        let refused = load(EVENTS).await.unwrap_err();
        assert!(matches!(&refused, LoadError::NotIndexable { field, .. } if field == "code"), "{refused}");
        let page = world.list(&table, &all, &ListRequest { order_by: "code".to_owned(), ..request.clone() }).await;
        let last = page.unwrap().views.pop().unwrap();
        let mut open = world.begin().await;
        open.danger_unruled(&table).delete(last.id()).await.unwrap();
        open.commit().await.unwrap();
        let table = load(EVENTS).await.unwrap();
        assert_eq!(refusal(world.create(&table, &all, event(&table)).await), "invalid code");
        let shorter = world.task(&table, 0, &[("code", text(&long[1..]))]);
        world.create(&table, &all, shorter).await.unwrap();
        clean().await;
    }
}

#[tokio::test]
async fn what_is_hidden_moves_no_order_no_range_and_no_count() {
    let (plain, fuller) = (Oracle::new(Kind::Memory).await, Oracle::new(Kind::Memory).await);
    for world in [&plain, &fuller] {
        for weight in 0..6 {
            weigh(&world.world, &world.table, 1, weight, weight % 2 == 0).await;
        }
    }
    // One reader sees the second project; the other what is open, which these are not.
    for weight in -5..15 {
        weigh(&fuller.world, &fuller.table, 0, weight, false).await;
    }
    let answers = async |world: &Oracle, reader: usize| {
        let mut answers = Vec::new();
        for (filter, _) in FILTERS.iter().chain([&("secret != \"s\"", FILTERS[0].1)]) {
            for order_by in ORDERS.iter().chain(["secret", "secret desc"].iter()) {
                let mut request = ListRequest {
                    org_id: world.world.org_text(0),
                    filter: (*filter).to_owned(),
                    order_by: (*order_by).to_owned(),
                    page_size: 2,
                    ..ListRequest::default()
                };
                let mut open = world.world.begin().await;
                let mut confined = open.confined(&world.table, &world.readers[reader]);
                answers.push(format!("{} {filter} {order_by}", confined.count(&request).await.unwrap()));
                loop {
                    let page = confined.list(&request).await.unwrap();
                    answers.extend(page.views.iter().map(|view| view.message().to_string()));
                    answers.push(format!("token of {}", page.next_page_token.len()));
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
            }
        }
        answers
    };
    for reader in [1, 2, 3] {
        assert_eq!(answers(&plain, reader).await, answers(&fuller, reader).await, "reader {reader}");
    }
    assert_ne!(answers(&plain, 0).await, answers(&fuller, 0).await, "who sees everything sees the difference");
}
