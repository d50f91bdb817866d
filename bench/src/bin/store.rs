//! The record layer on the embedded engine: sealed point gets with their row rule, durable inserts, and pages that other
//! projects' rows do not slow down.
//!
//! The peer of each is the layer below: the raw engine with the same bytes, in the same run.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, Value};
use std::{path::Path, sync::Arc, time::Instant};
use sys_bench::{Spread, contract, machine, notes_contract, own_cpu, sync_ms};
use sys_contract::{
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    model::{Contract, Role},
};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_policy::{Binding, BindingScope, Caller, Now, Rules, Standing};
use sys_store::{
    ListRequest, Store, Table,
    engine::{
        AnyEngine, Engine, KeyRange, Order, Txn, Write,
        redb::{RedbEngine, RedbOptions},
    },
};
use tokio::task::JoinSet;

const ROUNDS: usize = 7;
const WRITERS: u64 = 64;
const NOW: Now = Now { unix_s: 1_800_000_000, nanos: 0 };

/// The directory that notes are placed in: orgs and projects, as sys-account declares them.
const DIRECTORY: &str = r#"
syntax = "proto3";
package sys.bench.v1;
import "sys/policy/v1/policy.proto";
message Org {
  option (sys.policy.v1.record) = {table: "orgs" home: GLOBAL scope: {org: "id"}};
  option (sys.policy.v1.allow) = {verbs: [GET] member: true};
  string id = 1 [(sys.policy.v1.field) = {output_only: true}];
}
message Project {
  option (sys.policy.v1.record) = {table: "projects" home: GLOBAL scope: {org: "org_id" project: "id"}};
  option (sys.policy.v1.allow) = {verbs: [GET] role: GUEST at: PROJECT};
  string id = 1 [(sys.policy.v1.field) = {output_only: true}];
  string org_id = 2 [(sys.policy.v1.field) = {immutable: true}];
}
"#;

/// A note without words to search.
const PLAIN: &str = r#"
syntax = "proto3";
package plain.v1;
import "sys/policy/v1/policy.proto";
message Plain {
  option (sys.policy.v1.record) = {table: "plain" scope: {org: "org_id" project: "project_id" owner: "author_id"}};
  option (sys.policy.v1.allow) = {verbs: [GET, CREATE] role: USER at: PROJECT};
  string id = 1 [(sys.policy.v1.field) = {output_only: true}];
  string org_id = 2 [(sys.policy.v1.field) = {immutable: true}];
  string project_id = 3 [(sys.policy.v1.field) = {immutable: true}];
  string author_id = 4 [(sys.policy.v1.field) = {output_only: true}];
  string title = 5;
  bool published = 6 [(sys.policy.v1.field) = {index: EQUAL}];
}
"#;

struct World {
    store: Store,
    engine: RedbEngine,
    notes: Arc<Table>,
    plain: Arc<Table>,
    projects: Arc<Table>,
    org: OrgId,
    caller: Arc<Caller>,
    project: ProjectId,
}

impl World {
    async fn open(dir: &Path, cache_bytes: usize) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let keys = dir.join("keys.sys");
        let unsealer = Unsealer::DangerKeyFile(dir.join("master.key"));
        let keyring = if keys.exists() {
            Keyring::open(&keys, &unsealer, entropy.clone())
        } else {
            Keyring::create(&keys, &unsealer, entropy.clone())
        };
        let options = RedbOptions { cache_bytes, ..RedbOptions::default() };
        let engine = RedbEngine::open(&dir.join("store.redb"), options).expect("the engine opens");
        let store = Store::open(AnyEngine::Redb(engine.clone()), keyring.expect("keys"), entropy)
            .await
            .expect("the store opens");
        let built_in = sys_contract::load::load(
            "sys-bench",
            sys_contract::load::Origin::BuiltIn,
            &[sys_contract::load::SourceFile { path: "sys/bench/v1/bench.proto".into(), text: DIRECTORY.into() }],
        );
        let directory = load(&store, Arc::new(built_in.expect("the directory loads"))).await;
        let [orgs, projects] =
            ["sys.bench.v1.Org", "sys.bench.v1.Project"].map(|name| directory.by_name(name).expect("a table").clone());
        store.set_directory(orgs.clone(), projects.clone()).expect("a directory");
        let notes = load(&store, notes_contract()).await.table(0).expect("notes").clone();
        let plain =
            load(&store, contract("plain", "plain/v1/plain.proto", PLAIN)).await.table(0).expect("plain").clone();
        // The same org and project at each opening.
        let org = OrgId::from_record(fixed(1));
        let project = ProjectId::from_record(fixed(2));
        let mut open = store.begin(NOW).await.expect("begin");
        if open.danger_unruled(&orgs).get(org.record()).await.expect("get").is_none() {
            open.danger_unruled(&orgs).create_as(org.record(), orgs.empty_record()).await.expect("an org");
            let mut record = projects.empty_record();
            record.set_field_by_name("org_id", Value::String(org.to_string()));
            open.danger_unruled(&projects).create_as(project.record(), record).await.expect("a project");
            open.commit().await.expect("commit");
        }
        let binding =
            Binding { role: Role::User, scope: BindingScope::Project(org.tag(), project), expires_unix_s: None };
        let account = AccountId::from_record(fixed(3));
        let caller = Caller::new(account, SessionId::from_record(fixed(4)), Standing::Verified, vec![binding]);
        Self { store, engine, notes, plain, projects, org, caller: Arc::new(caller), project }
    }

    fn record(&self, table: &Table, project: ProjectId, n: u64) -> DynamicMessage {
        let mut record = table.empty_record();
        record.set_field_by_name("org_id", Value::String(self.org.to_string()));
        record.set_field_by_name("project_id", Value::String(project.to_string()));
        record.set_field_by_name("author_id", Value::String(AccountId::from_record(fixed(3)).to_string()));
        record.set_field_by_name("title", Value::String(format!("Minutes of meeting {n}")));
        record.set_field_by_name("published", Value::Bool(n % 2 == 0));
        record
    }

    /// Stores records without asking the rules, many in a transaction.
    async fn fill(&self, table: &Arc<Table>, project: ProjectId, count: u64) -> Vec<RecordId> {
        let mut ids = Vec::new();
        let mut n = 0;
        while n < count {
            let mut open = self.store.begin(NOW).await.expect("begin");
            for _ in 0..400.min(count - n) {
                let stored = open.danger_unruled(table).create(self.record(table, project, n)).await.expect("create");
                ids.push(stored.id());
                n += 1;
            }
            open.commit().await.expect("commit");
        }
        ids
    }

    async fn other_project(&self, n: u64) -> ProjectId {
        let id = fixed(1_000_000 + n);
        let mut open = self.store.begin(NOW).await.expect("begin");
        let mut record = self.projects.empty_record();
        record.set_field_by_name("org_id", Value::String(self.org.to_string()));
        open.danger_unruled(&self.projects).create_as(id, record).await.expect("a project");
        open.commit().await.expect("commit");
        ProjectId::from_record(id)
    }
}

async fn load(store: &Store, contract: Arc<Contract>) -> Arc<sys_store::Tables> {
    let rules = Arc::new(Rules::compile(&contract).expect("the rules compile"));
    store.load(contract, rules).await.expect("the contract loads")
}

fn fixed(n: u64) -> RecordId {
    let mut random = [7; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000 + n, random)
}

/// A cheap stream of numbers that looks random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound as u64).expect("fits")
    }
}

/// The keys in the engine that hold records of the org: of the layout's length, and of the kind of records.
async fn record_keys(world: &World) -> Vec<Bytes> {
    const RECORD_KEY_BYTES: usize = 27;
    const KIND_AT: usize = 10;
    let mut keys = Vec::new();
    let mut range = KeyRange::prefix(world.org.tag().as_bytes());
    loop {
        let mut txn = world.engine.begin().await.expect("begin");
        let rows = txn.range(range.clone(), Order::Asc, 4_000).await.expect("range").rows;
        let Some((last, _)) = rows.last() else { return keys };
        range.start = sys_store::engine::key_after(last);
        keys.extend(
            rows.into_iter().map(|(key, _)| key).filter(|key| key.len() == RECORD_KEY_BYTES && key[KIND_AT] == 1),
        );
    }
}

/// Microseconds of the processor for a sealed get with its row rule, and for the raw engine's get of a record's key.
async fn point_gets(world: &World, ids: &[RecordId], gets: u64) -> (Spread, Spread) {
    let keys = record_keys(world).await;
    assert!(keys.len() >= ids.len());
    let (mut sealed, mut raw) = (Vec::new(), Vec::new());
    let mut numbers = Numbers(1);
    for round in 0..=ROUNDS {
        let begun = own_cpu();
        for _ in 0..gets {
            let id = ids[numbers.below(ids.len())];
            let mut open = world.store.begin(NOW).await.expect("begin");
            assert!(open.confined(&world.plain, &world.caller).find(id).await.expect("find").is_some());
        }
        let ours = (own_cpu() - begun).as_secs_f64() * 1e6 / gets as f64;
        let begun = own_cpu();
        for _ in 0..gets {
            let mut txn = world.engine.begin().await.expect("begin");
            assert!(txn.get(&keys[numbers.below(keys.len())]).await.expect("get").is_some());
        }
        let theirs = (own_cpu() - begun).as_secs_f64() * 1e6 / gets as f64;
        // The first round warms the cache.
        if round > 0 {
            sealed.push(ours);
            raw.push(theirs);
        }
    }
    (Spread::of(sealed), Spread::of(raw))
}

/// Durable inserts a second by 64 writers, through the rules.
async fn inserts(world: &Arc<World>, table: &Arc<Table>, each: u64) -> f64 {
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (world, table) = (world.clone(), table.clone());
        writers.spawn(async move {
            for n in 0..each {
                let record = world.record(&table, world.project, writer * each + n);
                let mut open = world.store.begin(NOW).await.expect("begin");
                open.confined(&table, &world.caller).create(record).await.expect("create");
                open.commit().await.expect("commit");
            }
        });
    }
    while writers.join_next().await.is_some() {}
    (WRITERS * each) as f64 / begun.elapsed().as_secs_f64()
}

/// The same number of rows, as plain bytes, in one transaction each: what the raw engine does in the same commits.
async fn raw_inserts(world: &World, rows: u64, each: u64, salt: u64) -> f64 {
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let engine = world.engine.clone();
        writers.spawn(async move {
            for n in 0..each {
                let mut numbers = Numbers(salt ^ (writer * each + n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let writes = (0..rows)
                    .map(|row| {
                        let mut key = vec![0xee; 8];
                        key.extend_from_slice(&row.to_be_bytes());
                        (0..4).for_each(|_| {
                            key.extend_from_slice(&(numbers.below(usize::MAX >> 1) as u64).to_be_bytes())
                        });
                        let value = vec![7; if row == 0 { 300 } else { 0 }];
                        Write::Put { key: key.into(), value: value.into(), stamp: None }
                    })
                    .collect();
                engine.begin().await.expect("begin").commit(writes).await.expect("commit");
            }
        });
    }
    while writers.join_next().await.is_some() {}
    (WRITERS * each) as f64 / begun.elapsed().as_secs_f64()
}

/// Rows that one insert writes, counted in the engine.
async fn rows_per_insert(world: &World, table: &Arc<Table>) -> u64 {
    let count = async || {
        let mut total = 0_u64;
        let mut txn = world.engine.begin().await.expect("begin");
        let mut range = KeyRange::all();
        loop {
            let read = txn.range(range.clone(), Order::Asc, 4_000).await.expect("range");
            total += read.rows.len() as u64;
            match read.rows.last() {
                Some((key, _)) if !read.is_end => range.start = sys_store::engine::key_after(key),
                _ => return total,
            }
        }
    };
    let before = count().await;
    let mut open = world.store.begin(NOW).await.expect("begin");
    let record = world.record(table, world.project, 12_345);
    open.confined(table, &world.caller).create(record).await.expect("create");
    open.commit().await.expect("commit");
    count().await - before
}

/// Microseconds of the processor for a page of 50 notes of a project.
async fn pages(world: &World, project: impl Fn(u64) -> (ProjectId, Arc<Caller>), count: u64) -> Spread {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS as u64 {
        let begun = own_cpu();
        for n in 0..count {
            let (project, caller) = project(round * count + n);
            let request = ListRequest {
                org_id: world.org.to_string(),
                project_id: project.to_string(),
                page_size: 50,
                ..ListRequest::default()
            };
            let mut open = world.store.begin(NOW).await.expect("begin");
            let page = open.confined(&world.plain, &caller).list(&request).await.expect("list");
            assert_eq!(page.views.len(), 50);
        }
        if round > 0 {
            rounds.push((own_cpu() - begun).as_secs_f64() * 1e6 / count as f64);
        }
    }
    Spread::of(rounds)
}

#[tokio::main]
async fn main() {
    println!("Median (min–max) of {ROUNDS} rounds, {}. CPU is this process's, user and system.\n", machine());
    println!("| what | sys-store | raw engine | ratio | goal |\n|---|---|---|---|---|");
    let dir = tempfile::tempdir_in(".").expect("a directory on this disk");

    let world = World::open(dir.path(), 1 << 30).await;
    let ids = world.fill(&world.plain, world.project, 200_000).await;
    eprintln!("200,000 records stored");
    let (ours, raw) = point_gets(&world, &ids, 20_000).await;
    let row = |name: &str, ours: Spread, raw: Spread, goal: &str| {
        println!("| {name} | {} us | {} us | {:.2} × | {goal} |", ours.show(2), raw.show(2), ours.median / raw.median);
    };
    row("sealed get with row rule, warm", ours, raw, "3 us CPU");
    drop(world);
    let bytes = sys_bench::size(&dir.path().join("store.redb"));
    let world = World::open(dir.path(), usize::try_from(bytes / 3).expect("fits")).await;
    let (ours, raw) = point_gets(&world, &ids, 20_000).await;
    row("sealed get with row rule, cache a third of the data", ours, raw, "6 us CPU");

    let sync = sync_ms(dir.path());
    let world = Arc::new(World::open(&fresh(dir.path(), "inserts"), 1 << 28).await);
    for (name, table, each, goal) in [
        ("plain record", world.plain.clone(), 300, "5,000/s"),
        ("note with SEARCH", world.notes.clone(), 60, "1,000/s"),
    ] {
        let rows = rows_per_insert(&world, &table).await;
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for round in 0..3 {
            ours.push(inserts(&world, &table, each).await);
            raw.push(raw_inserts(&world, rows, each, round + 1).await);
        }
        let (ours, raw) = (Spread::of(ours), Spread::of(raw));
        println!(
            "| durable insert, {WRITERS} writers, {name}: {rows} rows a write, a sync takes {} ms | {} /s | {} /s | {:.2} × | {goal} |",
            sync.show(2),
            ours.show(0),
            raw.show(0),
            ours.median / raw.median
        );
    }
    drop(world);

    let world = World::open(&fresh(dir.path(), "pages"), 1 << 30).await;
    world.fill(&world.plain, world.project, 200).await;
    let mine = |world: &World| {
        let own = (world.project, world.caller.clone());
        move |_| own.clone()
    };
    let mut others = Vec::new();
    let grow = async |others: &mut Vec<ProjectId>, to: u64| {
        while (others.len() as u64) * 100 < to {
            let project = world.other_project(others.len() as u64).await;
            world.fill(&world.plain, project, 100).await;
            others.push(project);
        }
    };
    grow(&mut others, 10_000).await;
    let few = pages(&world, mine(&world), 2_000).await;
    let anywhere = |world: &World, others: &[ProjectId]| {
        let (others, org) = (others.to_vec(), world.org);
        move |n: u64| {
            let project = others[Numbers(n).below(others.len())];
            let binding =
                Binding { role: Role::User, scope: BindingScope::Project(org.tag(), project), expires_unix_s: None };
            let caller = Caller::new(
                AccountId::from_record(fixed(3)),
                SessionId::from_record(fixed(4)),
                Standing::Verified,
                vec![binding],
            );
            (project, Arc::new(caller))
        }
    };
    let few_anywhere = pages(&world, anywhere(&world, &others), 500).await;
    grow(&mut others, 1_000_000).await;
    eprintln!("1,000,000 records stored");
    let many = pages(&world, mine(&world), 2_000).await;
    let many_anywhere = pages(&world, anywhere(&world, &others), 500).await;
    println!(
        "\n| a page of 50 visible rows, us CPU | others' rows 10,000 | 1,000,000 | ratio | goal |\n|---|---|---|---|---|"
    );
    println!("| of the same project | {} | {} | {:.2} | 1.1 |", few.show(0), many.show(0), many.median / few.median);
    println!(
        "| of a random project | {} | {} | {:.2} | 2 |",
        few_anywhere.show(0),
        many_anywhere.show(0),
        many_anywhere.median / few_anywhere.median
    );
}

fn fresh(dir: &Path, name: &str) -> std::path::PathBuf {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).expect("a directory");
    dir
}
