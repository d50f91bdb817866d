//! Records on a failing disk: what was acknowledged is there in full and opens, nothing else is there, and indexes agree with
//! records, whatever the disk did. The same for plain rows is in `engine/tests/faults.rs`.
//!
//! What came of a round is read three ways: record by record, through an index, and by [`Store::check`], which computes all rows anew.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use crate::{
    Find, Store, StoreError, Table, Tables,
    check::CheckOptions,
    engine::{
        AnyEngine, CommitError,
        fault::{Disk, Plan, Plugged, Random, replay, seeds},
        redb::RedbOptions,
    },
};
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use std::{collections::BTreeMap, sync::Arc};
use sys_contract::{
    Origin, SourceFile,
    id::{AccountId, OrgTag, RecordId},
};
use sys_keys::{Keyring, Unsealer, deterministic::SeededEntropy};
use sys_policy::{Now, Rules};
use tempfile::TempDir;
use tokio::sync::OnceCell;

const DIRECTORY: &str = include_str!("../tests/records/contracts/directory.proto");
const PAPERS: &str = include_str!("../tests/records/contracts/papers.proto");
const NOW: Now = Now { unix_s: 1_790_000_000, nanos: 0 };
/// Small, so that pages are read back from the disk, too.
const OPTIONS: RedbOptions = RedbOptions { cache_bytes: 1 << 20, verify: false, log_bytes: 0, give_up_log: false };
/// Rounds of an ordinary run.
const ROUNDS: u64 = 80;
/// Transactions that are under way at the same time.
const WRITERS: usize = 4;
const WORDS: [&str; 6] = ["plan", "planet", "beta", "gold", "silver", "open"];

/// Where all rounds begin: a store with both contracts, an org and two projects.
struct Image {
    bytes: Vec<u8>,
    keyring: Keyring,
    directory: Arc<Tables>,
    papers: Arc<Table>,
    org: RecordId,
    projects: Vec<RecordId>,
    _files: TempDir,
}

impl Image {
    async fn get() -> &'static Self {
        static IMAGE: OnceCell<Image> = OnceCell::const_new();
        IMAGE.get_or_init(Self::new).await
    }

    async fn new() -> Self {
        let (files, disk) = (TempDir::new().unwrap(), Disk::new(0));
        let entropy = Arc::new(SeededEntropy::danger_from_seed(0));
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let engine = disk.restart(Plan::default()).open(OPTIONS).unwrap();
        let store = Store::open(AnyEngine::Redb(engine), keyring.clone(), entropy).await.unwrap();
        let directory = load(&store, "sys-directory", "sys/directory/v1/directory.proto", DIRECTORY).await;
        set_directory(&store, &directory);
        let papers = load(&store, "mod-papers", "papers/v1/papers.proto", PAPERS).await.table(0).unwrap().clone();
        let make = async |table: usize, fields: &[(&str, String)]| {
            let table = directory.table(table).unwrap();
            let mut record = table.empty_record();
            fields.iter().for_each(|(name, value)| record.set_field_by_name(name, Value::String(value.clone())));
            let mut open = store.begin(NOW).await.unwrap();
            let id = open.danger_unruled(table).create(record).await.unwrap().id();
            open.commit().await.unwrap();
            (id, table.id_text(id))
        };
        let (org, org_text) = make(0, &[("name", "A".to_owned())]).await;
        let mut projects = Vec::new();
        for name in ["1", "2"] {
            projects.push(make(1, &[("org_id", org_text.clone()), ("name", name.to_owned())]).await.0);
        }
        let mut image = Self { bytes: Vec::new(), keyring, directory, papers, org, projects, _files: files };
        // The org's own keys, before the rounds: they stand in the key file, which is not on this disk.
        let mut open = store.begin(NOW).await.unwrap();
        let first = open.danger_unruled(&image.papers).create(image.paper(&mut Random(0), 0)).await.unwrap().id();
        assert!(open.danger_unruled(&image.papers).delete(first).await.unwrap());
        open.commit().await.unwrap();
        drop(store);
        image.bytes = disk.bytes();
        image
    }

    /// The store on this disk, if it opens.
    async fn open(&self, plugged: Plugged, seed: u64) -> Result<Store, StoreError> {
        let engine = plugged.open(OPTIONS)?;
        let entropy = Arc::new(SeededEntropy::danger_from_seed(seed));
        let store = Store::open(AnyEngine::Redb(engine), self.keyring.clone(), entropy).await?;
        set_directory(&store, &self.directory);
        Ok(store)
    }

    /// A random paper. Its number makes what must be unique so.
    fn paper(&self, random: &mut Random, number: usize) -> DynamicMessage {
        let mut paper = self.papers.empty_record();
        let mut set = |name: &str, value: String| paper.set_field_by_name(name, Value::String(value));
        let text = |random: &mut Random| {
            let words = 1 + random.below(6) * random.below(6);
            (0..words).map(|_| WORDS[random.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
        };
        let project = self.projects[random.below(2)];
        let owner = RecordId::new(OrgTag::GLOBAL, 1, [1 + u8::try_from(random.below(3)).unwrap(); 10]);
        set("org_id", self.directory.table(0).unwrap().id_text(self.org));
        set("project_id", self.directory.table(1).unwrap().id_text(project));
        set("owner_id", AccountId::from_record(owner).to_string());
        set("title", text(random));
        set("secret", text(random));
        set("slug", format!("slug {number}"));
        set("text", text(random).repeat(1 + random.below(200)));
        paper.set_field_by_name("rank", Value::I32(i32::try_from(random.below(4)).unwrap()));
        paper.set_field_by_name("shared", Value::Bool(random.below(2) == 0));
        paper
    }

    fn tag(&self) -> OrgTag {
        sys_contract::id::OrgId::from_record(self.org).tag()
    }
}

async fn load(store: &Store, module: &str, path: &str, text: &str) -> Arc<Tables> {
    let origin = if module.starts_with("sys-") { Origin::BuiltIn } else { Origin::Uploaded };
    let source = SourceFile { path: path.to_owned(), text: text.to_owned() };
    let contract = sys_contract::load(module, origin, &[source]).unwrap_or_else(|problems| panic!("{problems}"));
    let rules = Rules::compile(&contract).unwrap_or_else(|problems| panic!("{problems}"));
    store.load(Arc::new(contract), Arc::new(rules)).await.unwrap()
}

fn set_directory(store: &Store, directory: &Tables) {
    let table = |number| directory.table(number).unwrap().clone();
    store.set_directory(table(0), table(1)).unwrap();
}

type Papers = BTreeMap<RecordId, Vec<u8>>;
/// What a transaction does: to each paper that it touches, what it is afterwards.
type Effect = BTreeMap<RecordId, Option<Vec<u8>>>;

/// What should be there.
#[derive(Debug, Default)]
struct History {
    papers: Papers,
    /// Those of which nobody knows whether they were committed.
    unknown: Vec<Effect>,
    acknowledged: usize,
    made: usize,
}

impl History {
    fn apply(&mut self, effect: Effect) {
        for (id, paper) in effect {
            match paper {
                Some(paper) => self.papers.insert(id, paper),
                None => self.papers.remove(&id),
            };
        }
    }
}

/// Random transactions, a few at a time, until the disk takes no more or there have been enough.
async fn work(image: &Image, store: &Store, disk: &Disk, history: &mut History, random: &mut Random) {
    for _ in 0..8 {
        let mut untouched: Vec<RecordId> = history.papers.keys().copied().collect();
        let (mut effects, mut commits) = (Vec::new(), Vec::new());
        for _ in 0..=random.below(WRITERS) {
            let Ok(mut open) = store.begin(NOW).await else { return };
            let mut effect = Effect::new();
            for _ in 0..=random.below(3) {
                history.made += 1;
                let mut paper = image.paper(random, history.made);
                let target = (!untouched.is_empty() && random.below(2) == 0)
                    .then(|| untouched.swap_remove(random.below(untouched.len())));
                let mut papers = open.danger_unruled(&image.papers);
                let written = match target {
                    None => papers.create(paper).await.map(|stored| (stored.id(), Some(stored))),
                    Some(id) if random.below(3) == 0 => papers.delete(id).await.map(|_| (id, None)).map_err(Into::into),
                    Some(id) => {
                        let Ok(Some(stored)) = papers.get(id).await else { return };
                        for name in ["project_id", "owner_id"] {
                            let kept = stored.message().get_field_by_name(name).unwrap().into_owned();
                            paper.set_field_by_name(name, kept);
                        }
                        papers.update(id, paper).await.map(|stored| (id, Some(stored)))
                    }
                };
                // The disk may fail a read, too.
                let Ok((id, stored)) = written else { return };
                effect.insert(id, stored.map(|stored| stored.message().encode_to_vec()));
            }
            effects.push(effect);
            commits.push(open.commit());
        }
        for (effect, outcome) in effects.into_iter().zip(disk.commit_together(commits).await) {
            match outcome {
                Ok(_) => {
                    history.apply(effect);
                    history.acknowledged += 1;
                }
                Err(CommitError::Unknown(_)) => history.unknown.push(effect),
                Err(CommitError::Engine(_) | CommitError::Conflict) => {}
            }
        }
    }
}

/// What is wrong with what a store holds, if anything is. Learns which of the unknown transactions were committed.
async fn verify(image: &Image, store: &Store, history: &mut History) -> Result<(), String> {
    let failed = |error: &StoreError| format!("it cannot be read: {error:?}");
    let mut open = store.begin(NOW).await.map_err(|error| failed(&error))?;
    let all = Find::all(image.tag());
    let found = open.danger_unruled(&image.papers).find(&all).await.map_err(|error| failed(&error))?;
    let found: Papers = found.into_iter().map(|stored| (stored.id(), stored.message().encode_to_vec())).collect();
    for effect in std::mem::take(&mut history.unknown) {
        let is_there = effect.iter().all(|(id, paper)| found.get(id) == paper.as_ref());
        let is_not = effect.keys().all(|id| found.get(id) == history.papers.get(id));
        match (is_there, is_not) {
            (true, _) => history.apply(effect),
            (false, true) => {}
            (false, false) => return Err("a transaction is there in part".to_owned()),
        }
    }
    if found != history.papers {
        let lost = history.papers.keys().filter(|id| !found.contains_key(id)).count();
        return Err(format!("{lost} of {} papers are lost, or others are wrong", history.papers.len()));
    }
    for (id, paper) in &found {
        let message = DynamicMessage::decode(image.papers.record().message.clone(), paper.as_slice()).unwrap();
        let slug = message.get_field_by_name("slug").unwrap().into_owned();
        let number = image.papers.record().message.get_field_by_name("slug").unwrap().number();
        let one = Find::all(image.tag()).with(number, slug);
        let by_index = open.danger_unruled(&image.papers).find(&one).await.map_err(|error| failed(&error))?;
        if by_index.iter().map(crate::Stored::id).ne([*id]) {
            return Err("an index does not lead to its paper".to_owned());
        }
    }
    drop(open);
    let report = store.check(CheckOptions::default(), &mut |_| ()).await.map_err(|error| failed(&error))?;
    let problems: Vec<_> = report.found.iter().filter(|(fault, _)| fault.is_problem()).collect();
    if !problems.is_empty() {
        return Err(format!("the check finds {problems:?}"));
    }
    let seen = usize::try_from(report.seen.records).unwrap();
    if seen < found.len() { Err("the check has not seen all papers".to_owned()) } else { Ok(()) }
}

/// Some lives of one disk; what is wrong after one of them, and how many commits were acknowledged.
async fn round(seed: u64, lying_sync: bool) -> (Result<(), String>, usize) {
    let (image, mut random, mut history) = (Image::get().await, Random(seed), History::default());
    let disk = Disk::holding(image.bytes.clone(), seed);
    let drop_all = lying_sync || random.below(3) == 0;
    for life in 0..=random.below(3) {
        let soon = random.below(4) == 0;
        let at = Some(random.below(if soon { 20 } else { 400 }) as u64);
        let plan = match random.below(if lying_sync { 5 } else { 8 }) {
            0..=4 => Plan { power_cut_at: at, ..Plan::default() },
            5 => Plan { full_from: at, ..Plan::default() },
            6 => Plan { read_only_from: at, ..Plan::default() },
            _ => Plan { error_at: at, ..Plan::default() },
        };
        let plugged = disk.restart(Plan { lying_sync, drop_all, ..plan });
        let entropy = seed.wrapping_mul(8).wrapping_add(life as u64 * 2);
        if let Ok(store) = image.open(plugged, entropy).await {
            work(image, &store, &disk, &mut history, &mut random).await;
        }
        let well = Plan { drop_all, ..Plan::default() };
        let cycle = lying_sync || disk.is_dead() || random.below(3) > 0;
        let plugged = if cycle { disk.restart(well) } else { disk.reopen(well) };
        let found = match image.open(plugged, entropy + 1).await {
            Ok(store) => verify(image, &store, &mut history).await,
            Err(error) => Err(format!("the store does not open: {error:?}")),
        };
        if found.is_err() {
            return (found, history.acknowledged);
        }
    }
    (Ok(()), history.acknowledged)
}

#[tokio::test]
async fn records_and_their_indexes_survive_whatever_the_disk_does() {
    let (mut acknowledged, mut rounds) = (0, 0);
    for seed in seeds(ROUNDS) {
        let (found, commits) = round(seed, false).await;
        assert_eq!(found, Ok(()), "{}", replay(seed));
        acknowledged += commits;
        rounds += 1;
    }
    println!("{rounds} rounds, {acknowledged} commits acknowledged");
    assert!(rounds < 50 || acknowledged > rounds * 4, "{acknowledged} commits in {rounds} rounds show nothing");
}

#[tokio::test]
async fn control_records_on_a_disk_that_lies_about_syncs_are_missed() {
    let (mut caught, mut rounds) = (0, 0);
    for seed in 0..20 {
        let (found, acknowledged) = round(seed, true).await;
        rounds += usize::from(acknowledged > 0);
        caught += usize::from(found.is_err() && acknowledged > 0);
    }
    assert!(rounds > 8, "{rounds} rounds with a commit");
    // A round that ends with as few papers as it began with has lost nothing.
    assert!(caught + 2 >= rounds, "{caught} of {rounds} rounds were found out");
}

#[tokio::test]
async fn control_a_row_that_is_missing_is_found() {
    let (image, mut random, mut history) = (Image::get().await, Random(1), History::default());
    let disk = Disk::holding(image.bytes.clone(), 1);
    let store = image.open(disk.restart(Plan::default()), 1).await.unwrap();
    work(image, &store, &disk, &mut history, &mut random).await;
    assert_eq!(verify(image, &store, &mut history).await, Ok(()));
    let mut open = store.begin(NOW).await.unwrap();
    let id = *history.papers.keys().next().unwrap();
    let stored = open.danger_unruled(&image.papers).get(id).await.unwrap().unwrap();
    let row = open.old_rows(&image.papers, &stored).unwrap().into_iter().next_back().unwrap();
    open.remove(row);
    open.commit().await.unwrap();
    assert!(verify(image, &store, &mut history).await.is_err());
}

/// Without sums of pages: the seal alone stands between a flipped bit and a wrong answer.
#[tokio::test]
async fn a_flipped_bit_in_a_record_is_an_error_and_never_another_content() {
    let (mut refused, mut same) = (0, 0);
    for seed in seeds(60) {
        let (image, mut random, mut history) = (Image::get().await, Random(seed), History::default());
        let disk = Disk::holding(image.bytes.clone(), seed);
        let store = image.open(disk.restart(Plan::default()), seed).await.unwrap();
        work(image, &store, &disk, &mut history, &mut random).await;
        let papers: Vec<RecordId> = history.papers.keys().copied().collect();
        let Some(id) = papers.get(random.below(papers.len())).copied() else { continue };
        let mut open = store.begin(NOW).await.unwrap();
        let sealed = open.danger_unruled(&image.papers).get(id).await.unwrap().unwrap().sealed().to_vec();
        drop((open, store));

        let (byte, bit) = (random.below(sealed.len()), random.below(8));
        let places = disk.places_of(&sealed);
        places.iter().for_each(|at| disk.flip(at + byte, bit));
        if places.is_empty() {
            // It is so long that it does not lie in one piece.
            continue;
        }
        let store = image.open(disk.restart(Plan::default()), seed).await.unwrap();
        for other in papers {
            let mut open = store.begin(NOW).await.unwrap();
            match open.danger_unruled(&image.papers).get(other).await {
                Ok(stored) => {
                    let content = stored.map(|stored| stored.message().encode_to_vec());
                    assert_eq!(content.as_ref(), history.papers.get(&other), "{}", replay(seed));
                    same += usize::from(other == id);
                }
                Err(error) => {
                    assert!(other == id && matches!(error, StoreError::Sealed { .. }), "{error:?}, {}", replay(seed));
                    refused += 1;
                    assert!(verify(image, &store, &mut history).await.is_err(), "{}", replay(seed));
                }
            }
        }
    }
    println!("{refused} flipped bits refused, {same} in a part of the header that says nothing of the content");
    // One seed alone may hit just that part.
    assert!(refused + same < 20 || refused > same, "{refused} refused, {same} not noticed");
}
