//! Logs over a store in memory, and a hand in its engine.

use super::super::{AuditLogs, Entry, Outcome, Query, append, logs::Log};
use super::Asked;
use crate::clock::Clock;
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;
use sys_audit::Leaf;
use sys_contract::id::{AccountId, OrgId, OrgTag, RecordId};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_policy::Now;
use sys_store::{
    Store, SystemKind,
    engine::{AnyEngine, Engine, KeyRange, Order, Txn, Write, memory::MemoryEngine},
};

pub(super) const DAY_S: i64 = 86_400;
/// About the time of these tests: the logs' own clock is the machine's.
pub(super) const NOW: i64 = 1_700_000_000;
/// Entries of one transaction in these tests.
const BATCH: usize = 4_000;

pub(super) struct Bed {
    pub(super) logs: AuditLogs,
    pub(super) store: Store,
    engine: MemoryEngine,
    keyring: Keyring,
    files: Arc<tempfile::TempDir>,
}

pub(super) fn org(number: u8) -> OrgId {
    OrgId::from_record(RecordId::new(OrgTag::GLOBAL, 1, [number; 10]))
}

pub(super) fn account(number: u8) -> AccountId {
    AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 2, [number; 10]))
}

impl Bed {
    pub(super) async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy).unwrap();
        let bed = Self::over(MemoryEngine::new(), keyring, Arc::new(files)).await;
        std::fs::copy(bed.files.path().join("keys"), bed.files.path().join("before")).unwrap();
        bed
    }

    async fn over(engine: MemoryEngine, keyring: Keyring, files: Arc<tempfile::TempDir>) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let store = Store::open(AnyEngine::Memory(engine.clone()), keyring.clone(), entropy).await.unwrap();
        let clock = Clock::Shifted(Arc::new((NOW - Clock::System.now().unix_s).into()));
        let logs = AuditLogs::open(store.clone(), clock).await.unwrap();
        Self { logs, store, engine, keyring, files }
    }

    /// The same store under a new process.
    pub(super) async fn restarted(&self) -> Self {
        Self::over(self.engine.clone(), self.keyring.clone(), self.files.clone()).await
    }

    /// Adds entries that say little.
    pub(super) async fn append(&self, org: OrgTag, count: u64) {
        self.append_at(org, count, NOW).await;
    }

    pub(super) async fn append_at(&self, org: OrgTag, count: u64, unix_s: i64) {
        let leaf = Leaf { unix_s, method: "a.v1.A/One".to_owned(), outcome: "OK".to_owned(), ..Leaf::default() };
        self.append_all(org, (0..count).map(|_| leaf.clone())).await;
    }

    async fn append_all(&self, org: OrgTag, leaves: impl Iterator<Item = Leaf>) {
        let mut leaves = leaves.peekable();
        while leaves.peek().is_some() {
            let mut open = self.store.begin(Now { unix_s: NOW, nanos: 0 }).await.unwrap();
            for leaf in leaves.by_ref().take(BATCH) {
                append(&mut open, org, leaf, self.store.entropy().as_ref()).await.unwrap();
            }
            open.commit().await.unwrap();
        }
    }

    /// Entries of all kinds, nearly in the order of their times.
    pub(super) async fn with_many_kinds() -> Self {
        let bed = Self::new().await;
        let leaf = |number: i64| Leaf {
            unix_s: NOW + number + [0, 90, -25][usize::try_from(number % 3).unwrap()],
            method: ["a.v1.A/One", "a.v1.A/Two", "b.v1.B/Two"][usize::try_from(number / 7 % 3).unwrap()].to_owned(),
            account_id: match number / 5 % 4 {
                3 => String::new(),
                number => account(u8::try_from(number).unwrap()).to_string(),
            },
            outcome: ["OK", "OK", "NOT_FOUND", "METHOD_REFUSED"][usize::try_from(number % 4).unwrap()].to_owned(),
            ..Leaf::default()
        };
        bed.append_all(org(1).tag(), (0..6_000).map(leaf)).await;
        bed.append(org(2).tag(), 10).await;
        bed
    }

    /// What a query finds page by page, and what a look at each entry does.
    pub(super) async fn ask(&self, asked: &Asked) -> (Vec<u64>, Vec<u64>) {
        let (log, filter) = (Log::Org(org(1)), asked.clone());
        let found = self.find(log, |query| {
            query.account = filter.account.map(account);
            query.method = filter.method.to_owned();
            query.outcome = filter.allowed.map(|ok| if ok { Outcome::Allowed } else { Outcome::Refused });
            query.reason = filter.reason.to_owned();
            (query.from_unix_s, query.until_unix_s) = (Some(filter.times.start), Some(filter.times.end));
            (query.oldest_first, query.page_size) = (filter.oldest_first, filter.page_size);
        });
        let mut raw = Vec::new();
        while raw.len() < 6_000 {
            raw.extend(self.logs.leaves(log, raw.len() as u64, u64::MAX).await.unwrap());
        }
        let mut expect: Vec<u64> = raw
            .iter()
            .filter(|raw| {
                let leaf = Leaf::decode(raw.leaf.as_deref().unwrap()).unwrap();
                asked.account.is_none_or(|number| leaf.account_id == account(number).to_string())
                    && leaf.method.starts_with(asked.method)
                    && asked.allowed.is_none_or(|ok| ok == (leaf.outcome == "OK"))
                    && (asked.reason.is_empty() || asked.reason == leaf.outcome)
                    && asked.times.contains(&leaf.unix_s)
            })
            .map(|raw| raw.number)
            .collect();
        if !asked.oldest_first {
            expect.reverse();
        }
        (found.await.into_iter().map(|entry| entry.number).collect(), expect)
    }

    /// All entries that a query finds.
    pub(super) async fn find(&self, log: Log, ask: impl FnOnce(&mut Query)) -> Vec<Entry> {
        let mut query = Query { page_size: 100, ..Query::default() };
        ask(&mut query);
        let mut found = Vec::new();
        loop {
            let page = self.logs.entries(log, &query).await.unwrap();
            assert!(page.entries.len() <= query.page_size);
            found.extend(page.entries);
            if page.next_page_token.is_empty() {
                return found;
            }
            assert_ne!(page.next_page_token, query.page_token, "it goes on");
            query.page_token = page.next_page_token;
        }
    }

    /// Removes the last entries.
    pub(super) async fn cut(&self, org: OrgTag, count: u64) {
        let rows = self.rows(&log_prefix(org)).await;
        let keep = rows.len() - usize::try_from(count).unwrap();
        self.write(rows[keep..].iter().map(|(key, _)| Write::Delete { key: key.clone() }).collect()).await;
    }

    pub(super) async fn remove(&self, org: OrgTag, number: u64) {
        self.write(vec![Write::Delete { key: entry_key(org, number) }]).await;
    }

    /// Lets two entries change places.
    pub(super) async fn swap(&self, org: OrgTag, one: u64, other: u64) {
        let put = async |from, to| put(entry_key(org, to), self.value(&entry_key(org, from)).await);
        self.write(vec![put(one, other).await, put(other, one).await]).await;
    }

    /// Puts an entry of one log into the place of one of another.
    pub(super) async fn copy(&self, from: (OrgTag, u64), to: (OrgTag, u64)) {
        let value = self.value(&entry_key(from.0, from.1)).await;
        self.write(vec![put(entry_key(to.0, to.1), value)]).await;
    }

    /// Removes what the server computed of a log and remembers of it.
    pub(super) async fn forget(&self, org: OrgTag) {
        let nodes = [system_table(SystemKind::AuditNode as u16, 1), org.as_bytes().to_vec()].concat();
        let rows = self.rows(&nodes).await;
        assert!(!rows.is_empty());
        self.write(rows.into_iter().map(|(key, _)| Write::Delete { key }).collect()).await;
    }

    /// Overwrites the seed of the key that signs heads with something shorter, as only the server itself could.
    pub(super) async fn spoil_seed(&self) {
        let mut open = self.store.begin(Now { unix_s: NOW, nanos: 0 }).await.unwrap();
        open.put_row(SystemKind::Setting, b"audit head key", vec![0; 31]).await.unwrap();
        open.commit().await.unwrap();
    }

    /// The store under a key file in which only the server's own keys are left.
    pub(super) async fn shred_all_orgs(&mut self) {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let danger = Unsealer::DangerKeyFile(self.files.path().join("danger"));
        self.keyring = Keyring::open(&self.files.path().join("before"), &danger, entropy).unwrap();
        *self = self.restarted().await;
    }

    /// How many bytes an entry has in the engine.
    pub(super) async fn stored_bytes(&self, org: OrgTag, number: u64) -> usize {
        self.value(&entry_key(org, number)).await.len()
    }

    async fn rows(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.engine.begin().await.unwrap().range(KeyRange::prefix(prefix), Order::Asc, 4_096).await.unwrap().rows
    }

    async fn value(&self, key: &Bytes) -> Bytes {
        self.engine.begin().await.unwrap().get(key).await.unwrap().unwrap()
    }

    async fn write(&self, writes: Vec<Write>) {
        self.engine.begin().await.unwrap().commit(writes).await.unwrap();
    }
}

fn put(key: Bytes, value: Bytes) -> Write {
    Write::Put { key, value, stamp: None }
}

/// GLOBAL | module 0 | table | kind.
fn system_table(table: u16, kind: u8) -> Vec<u8> {
    [&[0; 8], table.to_be_bytes().as_slice(), &[kind]].concat()
}

fn log_prefix(org: OrgTag) -> Bytes {
    [system_table(sys_store::LogKind::Audit as u16, 5), org.as_bytes().to_vec()].concat().into()
}

fn entry_key(org: OrgTag, number: u64) -> Bytes {
    [log_prefix(org).as_ref(), &number.to_be_bytes()].concat().into()
}
