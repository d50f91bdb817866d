//! The vault against a model, on both engines: from inside calls through the gate, and as the server itself.

use super::*;
use crate::{
    audit::Leaf,
    gate::Source,
    module::{Handlers, Module},
    monitor::{Monitor, Settings},
    throttle::Rates,
};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use prost::Message;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};
use sys_contract::{
    load::{Origin, SourceFile, load},
    model::Contract,
};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_store::{
    LogKind,
    engine::{
        AnyEngine, Order,
        memory::MemoryEngine,
        redb::{RedbEngine, RedbOptions},
    },
};
use tokio::time::timeout;
use tower::ServiceExt;

/// Longer than anything here takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(30);
const KINDS: [&str; 3] = ["ech-key", "zone", "zone-2"];

const CONTRACT: &str = r#"
    syntax = "proto3";
    package sys.keep.v1;
    import "sys/policy/v1/policy.proto";
    service KeepService {
      rpc Keep(KeepRequest) returns (KeepResponse) { option (sys.policy.v1.method_allow) = {public: true}; }
    }
    message KeepRequest { string kind = 1; string name = 2; string deed = 3; string value = 4; }
    message KeepResponse { string before = 1; repeated string names = 2; }
"#;

#[derive(Clone, PartialEq, Message)]
struct KeepRequest {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    /// put, remove, fail (which puts, and is refused then), add (one to a number), or nothing.
    #[prost(string, tag = "3")]
    deed: String,
    #[prost(string, tag = "4")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct KeepResponse {
    #[prost(string, tag = "1")]
    before: String,
    /// Of the kind, after it.
    #[prost(string, repeated, tag = "2")]
    names: Vec<String>,
}

struct Keeping {
    contract: Arc<Contract>,
    vault: Vault,
}

impl Module for Keeping {
    fn contract(&self) -> Arc<Contract> {
        self.contract.clone()
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        let vault = self.vault.clone();
        handlers.unary("sys.keep.v1.KeepService/Keep", move |call, request| keep(vault.clone(), call, request));
    }
}

async fn keep(vault: Vault, call: Call, request: KeepRequest) -> Result<KeepResponse, Refusal> {
    let KeepRequest { kind, name, deed, value } = &request;
    let before = vault.get(&call, kind, name).await?.map(|value| String::from_utf8(value.to_vec()).unwrap());
    match deed.as_str() {
        "put" | "fail" => vault.put(&call, kind, name, value.as_bytes()).await?,
        "add" => {
            let number = before.as_deref().map_or(0, |text| text.parse::<u64>().unwrap());
            vault.put(&call, kind, name, (number + 1).to_string().as_bytes()).await?;
        }
        "remove" => assert_eq!(vault.remove(&call, kind, name).await?, before.is_some()),
        _ => {}
    }
    let names = vault.items(&call, kind).await?.into_iter().map(|item| item.name).collect();
    if deed == "fail" {
        return Err(Refusal::permission_denied());
    }
    Ok(KeepResponse { before: before.unwrap_or_default(), names })
}

struct Bed {
    monitor: Arc<Monitor>,
    vault: Vault,
    files: tempfile::TempDir,
}

impl Bed {
    async fn new(engine: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let engine = match engine {
            "memory" => AnyEngine::Memory(MemoryEngine::new()),
            _ => AnyEngine::Redb(RedbEngine::open(&files.path().join("data"), RedbOptions::default()).unwrap()),
        };
        let store = Store::open(engine, keyring, entropy).await.unwrap();
        let (issuer, rates, countries) = ("http://127.0.0.1".to_owned(), Rates::default(), Arc::default());
        let settings = Settings { issuer, rates, clock: Clock::System, countries };
        let monitor = Monitor::start(store, settings).await.unwrap();
        let vault = monitor.vault().clone();
        let source = SourceFile { path: "sys/keep/v1/keep.proto".to_owned(), text: CONTRACT.to_owned() };
        let contract = Arc::new(load("keep", Origin::BuiltIn, &[source]).unwrap());
        monitor.host().load(Arc::new(Keeping { contract, vault: vault.clone() })).await.unwrap();
        Self { monitor: Arc::new(monitor), vault, files }
    }

    /// Calls the module, each time from another source, which may call as often as it likes.
    async fn call(&self, kind: &str, name: &str, deed: &str, value: &str) -> Result<KeepResponse, String> {
        let request = KeepRequest {
            kind: kind.to_owned(),
            name: name.to_owned(),
            deed: deed.to_owned(),
            value: value.to_owned(),
        };
        let source: [u8; 4] = {
            let mut random = [127; 4];
            self.vault.0.store.entropy().fill(&mut random[1..]);
            random
        };
        let request = Request::post("/sys.keep.v1.KeepService/Keep")
            .header(header::CONTENT_TYPE, "application/proto")
            .extension(Source(IpAddr::from(source)))
            .body(Full::<Bytes>::from(request.encode_to_vec()))
            .unwrap();
        let response = self.monitor.front().oneshot(request).await.unwrap();
        let is_ok = response.status().is_success();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if is_ok { Ok(KeepResponse::decode(body).unwrap()) } else { Err(String::from_utf8(body.to_vec()).unwrap()) }
    }

    /// All that is kept of the kinds of these tests, as the server itself finds it.
    async fn all(&self) -> BTreeMap<(String, String), String> {
        let mut all = BTreeMap::new();
        for kind in KINDS {
            let items = self.vault.load(kind).await.unwrap();
            assert!(items.is_sorted_by(|one, other| one.name < other.name), "sorted, each name once");
            for item in items {
                assert_eq!(item.kind, kind);
                all.insert((item.kind, item.name), String::from_utf8(item.value.to_vec()).unwrap());
            }
        }
        all
    }

    async fn leaves(&self) -> Vec<Leaf> {
        let mut open = self.vault.0.store.begin(Clock::System.now()).await.unwrap();
        let entries = open.erasable_entries(LogKind::Audit, OrgTag::GLOBAL, 0..u64::MAX, Order::Asc, 10_000).await;
        let content = |entry: &sys_store::ErasableEntry| Leaf::decode(entry.content.as_ref().unwrap().as_slice());
        entries.unwrap().iter().map(|entry| content(entry).unwrap()).collect()
    }
}

fn put(kind: &str, name: &str, value: impl Into<Vec<u8>>) -> Change {
    Change::Put(Item { kind: kind.to_owned(), name: name.to_owned(), value: Zeroizing::new(value.into()) })
}

fn remove(kind: &str, name: &str) -> Change {
    Change::Remove { kind: kind.to_owned(), name: name.to_owned() }
}

/// What a program does: one call, or several changes of the server itself at once. Kinds and names are numbers.
#[derive(Debug, Clone)]
enum Deed {
    Call { kind: usize, name: usize, deed: &'static str, value: String },
    Server(Vec<(usize, usize, Option<String>)>),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let value = || "[a-z]{0,8}";
    let of_call = prop::sample::select(vec!["put", "put", "remove", "fail", ""]);
    let call = (0..KINDS.len(), 0..4_usize, of_call, value());
    let change = (0..KINDS.len(), 0..4_usize, prop::option::of(value()));
    let deed = prop_oneof![
        call.prop_map(|(kind, name, deed, value)| Deed::Call { kind, name, deed, value }),
        prop::collection::vec(change, 0..4).prop_map(Deed::Server),
    ];
    prop::collection::vec(deed, 1..12)
}

async fn run(engine: &str, deeds: Vec<Deed>) {
    let bed = Bed::new(engine).await;
    let mut model: BTreeMap<(String, String), String> = BTreeMap::new();
    let key = |kind: usize, name: usize| (KINDS[kind].to_owned(), format!("name {name}"));
    for deed in deeds {
        match deed {
            Deed::Call { kind, name, deed, value } => {
                let key = key(kind, name);
                let answer = bed.call(&key.0, &key.1, deed, &value).await;
                if deed != "fail" {
                    assert_eq!(answer.clone().unwrap().before, model.get(&key).cloned().unwrap_or_default());
                }
                match deed {
                    "put" => drop(model.insert(key.clone(), value)),
                    "remove" => drop(model.remove(&key)),
                    _ => {}
                }
                if deed != "fail" {
                    let names = model.keys().filter(|(kind, _)| *kind == key.0).map(|(_, name)| name.clone());
                    assert_eq!(answer.unwrap().names, names.collect::<Vec<_>>(), "it sees its own writes");
                }
            }
            Deed::Server(steps) => {
                let changes = steps.iter().map(|(kind, name, value)| {
                    let (kind, name) = key(*kind, *name);
                    value.as_ref().map_or_else(|| remove(&kind, &name), |value| put(&kind, &name, value.as_bytes()))
                });
                bed.vault.change("try", changes.collect()).await.unwrap();
                for (kind, name, value) in steps {
                    match value {
                        Some(value) => drop(model.insert(key(kind, name), value)),
                        None => drop(model.remove(&key(kind, name))),
                    }
                }
            }
        }
        assert_eq!(bed.all().await, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_vault_keeps_what_a_map_would(deeds in deeds(), engine in prop::sample::select(vec!["memory", "redb"])) {
        tokio::runtime::Runtime::new().unwrap().block_on(run(engine, deeds));
    }
}

#[tokio::test]
async fn a_change_of_the_server_is_whole_or_not_at_all_and_leaves_a_leaf_without_values() {
    let bed = Bed::new("memory").await;
    let (before, version) = (bed.leaves().await.len(), bed.vault.0.store.begin(Clock::System.now()).await.unwrap());
    bed.vault.change("renew", vec![put("zone", "a", "secret one"), put("zone", "b", "two")]).await.unwrap();
    let after = bed.vault.0.store.begin(Clock::System.now()).await.unwrap();
    assert_eq!(after.snapshot_version().0 - version.snapshot_version().0, 1, "with its leaf, one commit");
    let leaves = bed.leaves().await;
    let leaf = leaves.last().unwrap();
    assert_eq!((leaves.len() - before, leaf.method.as_str(), leaf.outcome.as_str()), (1, "sys-server/renew", "OK"));
    assert_eq!((leaf.records.len(), leaf.account_id.as_str()), (2, ""));
    assert!(!format!("{leaf:?}").contains("secret"));
    let refused = bed.vault.change("renew", vec![remove("zone", "a"), put("zone", "", "x")]).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidArgument);
    assert_eq!(bed.all().await.len(), 2, "the first step was not done alone");
    bed.vault.change("nothing", vec![remove("zone", "absent")]).await.unwrap();
    assert_eq!(bed.leaves().await.len(), leaves.len(), "nothing was done, and nothing is told");
}

#[tokio::test]
async fn a_call_that_is_refused_keeps_nothing_and_one_that_is_not_names_the_item_in_its_leaf() {
    let bed = Bed::new("memory").await;
    bed.call("zone", "a", "fail", "x").await.unwrap_err();
    assert_eq!(bed.all().await.len(), 0);
    bed.call("zone", "a", "put", "x").await.unwrap();
    let leaves = bed.leaves().await;
    let leaf = leaves.iter().find(|leaf| leaf.method.ends_with("/Keep") && leaf.is_ok()).unwrap();
    assert_eq!(leaf.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_change_an_item_at_once_none_is_lost_and_it_is_there_once() {
    const EACH: u64 = 12;
    for engine in ["memory", "redb"] {
        let bed = Arc::new(Bed::new(engine).await);
        let calls = (0..3).map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move {
                let mut done = 0;
                for _ in 0..EACH {
                    // Refused at most for losing too often; then nothing was written.
                    done += u64::from(bed.call("zone", "count", "add", "").await.is_ok());
                }
                done
            })
        });
        let calls: Vec<_> = calls.collect();
        for number in 0..EACH {
            let others = vec![put("zone", "other", number.to_string()), put("ech-key", "first", "1")];
            bed.vault.change("others", others).await.unwrap();
        }
        let mut done = 0;
        for call in calls {
            done += call.await.unwrap();
        }
        assert!(done > EACH, "{done} came through");
        let all = bed.all().await;
        let of = |kind: &str, name: &str| all.get(&(kind.to_owned(), name.to_owned())).unwrap().clone();
        assert_eq!((of("zone", "count"), of("zone", "other")), (done.to_string(), (EACH - 1).to_string()));
        assert_eq!((of("ech-key", "first"), all.len()), ("1".to_owned(), 3));
    }
}

#[tokio::test]
async fn a_change_wakes_whoever_waits_and_nothing_else_does() {
    let bed = Bed::new("memory").await;
    let mut changes = bed.vault.changes();
    bed.monitor.new_setup_row().await;
    assert!(timeout(Duration::ZERO, changes.next()).await.is_err(), "that was no item");
    bed.vault.change("renew", vec![put("zone", "a", "1")]).await.unwrap();
    timeout(PATIENCE, changes.next()).await.unwrap();
    bed.call("zone", "b", "put", "x").await.unwrap();
    bed.call("zone", "b", "remove", "").await.unwrap();
    timeout(PATIENCE, changes.next()).await.unwrap();
    bed.call("zone", "b", "fail", "x").await.unwrap_err();
    bed.call("zone", "b", "", "").await.unwrap();
    assert!(timeout(Duration::ZERO, changes.next()).await.is_err(), "nothing was changed since");
}

impl Monitor {
    /// Writes something that is no item.
    async fn new_setup_row(&self) {
        let (identity, entropy) = (self.identity().clone(), self.store().entropy().clone());
        self.danger_as_server(async |open| identity.danger_new_setup_token(open, entropy.as_ref()).await)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_too_large_too_many_or_badly_named_is_refused() {
    let bed = Bed::new("memory").await;
    let refused = async |change| bed.vault.change("try", vec![change]).await.map_err(|refusal| refusal.reason);
    assert_eq!(refused(put("zone", "a", vec![7; MAX_VALUE_BYTES])).await, Ok(()));
    assert_eq!(refused(put("zone", "a", vec![7; MAX_VALUE_BYTES + 1])).await, Err(Reason::TooLarge));
    assert_eq!(refused(put("zone", &"é".repeat(MAX_NAME_BYTES / 2), "x")).await, Ok(()));
    for name in [String::new(), "a\n".to_owned(), "a\0b".to_owned(), "a".repeat(MAX_NAME_BYTES + 1)] {
        assert_eq!(refused(put("zone", &name, "x")).await, Err(Reason::InvalidArgument), "{name:?}");
        assert_eq!(refused(remove("zone", &name)).await, Err(Reason::InvalidArgument), "{name:?}");
    }
    for kind in ["", "Zone", "zone/a", "zone ", &"z".repeat(MAX_KIND_BYTES + 1)] {
        assert_eq!(refused(put(kind, "a", "x")).await, Err(Reason::Internal), "{kind:?}");
    }
    let too_many = (0..=MAX_CHANGES).map(|_| remove("zone", "a")).collect();
    assert_eq!(bed.vault.change("try", too_many).await.unwrap_err().reason, Reason::Internal);
    for first in (0..MAX_ITEMS).step_by(MAX_CHANGES) {
        let some = first..(first + MAX_CHANGES).min(MAX_ITEMS);
        bed.vault.change("fill", some.map(|n| put("ech-key", &n.to_string(), "x")).collect()).await.unwrap();
    }
    assert_eq!(refused(put("ech-key", "one more", "x")).await, Err(Reason::TooLarge));
    assert_eq!(refused(put("ech-key", "7", "y")).await, Ok(()), "in place of one that is there");
    let swap = |others: [&str; 2]| {
        let [first, second] = others;
        bed.vault.change("swap", vec![remove("ech-key", "8"), put("ech-key", first, "x"), put("ech-key", second, "x")])
    };
    assert_eq!(swap(["a", "b"]).await.map_err(|refusal| refusal.reason), Err(Reason::TooLarge));
    assert_eq!(swap(["a", "7"]).await, Ok(()), "in place of one that goes");
    assert_eq!(bed.vault.load("ech-key").await.unwrap().len(), MAX_ITEMS);
}

#[tokio::test]
async fn nothing_of_an_item_stands_in_the_files() {
    let secrets = ["zzvaluezz", "zznamezz", "zone-2"];
    let bed = Bed::new("redb").await;
    bed.vault.change("try", vec![put("zone-2", "zznamezz", "zzvaluezz")]).await.unwrap();
    bed.vault.change("try", vec![put("zone-2", "zznamezz", "zzvaluezz again")]).await.unwrap();
    assert_eq!(bed.all().await.len(), 1);
    let mut bytes_seen = 0;
    let mut folders = vec![bed.files.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            bytes_seen += bytes.len();
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "`{secret}` stands in {}", path.display());
            }
        }
    }
    assert!(bytes_seen > 10_000, "the store was looked at");
}
