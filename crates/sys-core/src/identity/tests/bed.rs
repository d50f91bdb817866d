//! A store in memory with sys-core's contract, and people in it.

use crate::{
    epoch,
    identity::{Email, Identity, rows::Row, scope::Scope, sessions::Device, turn::Turn, wire::Principal},
    password::Passwords,
    refusal::Refusal,
    token::{AccessTokens, Claims, RefreshTokens},
};
use std::{ops::AsyncFnOnce, sync::Arc};
use sys_contract::{
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    load::{Origin, SourceFile, load},
    model::Role,
};
use sys_keys::{Entropy, Keyring, Secret, SystemEntropy, Unsealer};
use sys_policy::{Caller, Now, Rules};
use sys_store::{
    Find, Open, Store, Tables,
    engine::{AnyEngine, CommitError, memory::MemoryEngine},
};

pub(super) const NOW: i64 = 1_800_000_000;

/// A turn of these tests.
pub(super) type TestTurn<'a> = Turn<'a, &'a mut Open>;

pub(super) struct Bed {
    pub(super) store: Store,
    pub(super) tables: Arc<Tables>,
    pub(super) identity: Identity,
    entropy: Arc<dyn Entropy>,
    _files: tempfile::TempDir,
}

/// Somebody with an account and a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) account: AccountId,
    pub(super) session: SessionId,
    pub(super) email: Email,
}

impl Bed {
    pub(super) async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::default());
        let unsealer = Unsealer::DangerKeyFile(files.path().join("danger"));
        let keyring = Keyring::create(&files.path().join("keys"), &unsealer, entropy.clone()).unwrap();
        let store = Store::open(AnyEngine::Memory(MemoryEngine::new()), keyring, entropy.clone()).await.unwrap();
        let sources = [SourceFile {
            path: "sys/core/v1/identity.proto".to_owned(),
            text: include_str!("../../../../../proto/sys/core/v1/identity.proto").to_owned(),
        }];
        let contract = Arc::new(load("sys-core", Origin::BuiltIn, &sources).unwrap());
        let rules = Arc::new(Rules::compile(&contract).unwrap());
        let tables = store.load(contract, rules).await.unwrap();
        let access = Arc::new(AccessTokens::new(&Secret::filled(|bytes| bytes.fill(1)), "http://127.0.0.1").unwrap());
        let refresh = RefreshTokens::new(&Secret::filled(|bytes| bytes.fill(2)));
        let identity = Identity::new(&tables, Passwords::new(entropy.clone()), access, refresh, Arc::default());
        Self { store, tables, identity, entropy, _files: files }
    }

    pub(super) async fn open(&self, now_unix_s: i64) -> Open {
        self.store.begin(Now { unix_s: now_unix_s, nanos: 0 }).await.unwrap()
    }

    /// The caller that a person is, as the gate would load him.
    pub(super) async fn caller(&self, open: &mut Open, person: &Person) -> Result<Arc<Caller>, Refusal> {
        let (account, session) = (person.account, person.session);
        let claims = Claims { account, session, issued_unix_s: i64::MIN, expires_unix_s: i64::MAX };
        let loaded = self.identity.load_caller(open, &claims).await?.ok_or_else(Refusal::token_refused)?;
        Ok(Arc::new(loaded.caller))
    }

    /// Does something as a person, or as nobody, and leaves it uncommitted.
    pub(super) async fn begin<T, F>(&self, who: Option<&Person>, now_unix_s: i64, work: F) -> (Open, Result<T, Refusal>)
    where
        F: for<'t> AsyncFnOnce(&'t mut TestTurn<'_>) -> Result<T, Refusal>,
    {
        let mut open = self.open(now_unix_s).await;
        let caller = match who {
            Some(person) => self.caller(&mut open, person).await,
            None => Ok(Arc::new(Caller::anonymous())),
        };
        let done = match caller {
            Ok(caller) => {
                let mut turn = Turn::new(&mut open, &self.tables, caller, &*self.entropy);
                let done = work(&mut turn).await;
                turn.end_as_server().await.unwrap();
                done
            }
            Err(refusal) => Err(refusal),
        };
        (open, done)
    }

    /// Does something and commits it, as the gate does: refused work is rolled back, unless the refusal keeps it.
    pub(super) async fn act_at<T, F>(&self, who: Option<&Person>, now_unix_s: i64, work: F) -> Result<T, Refusal>
    where
        F: for<'t> AsyncFnOnce(&'t mut TestTurn<'_>) -> Result<T, Refusal>,
    {
        let (open, done) = self.begin(who, now_unix_s, work).await;
        if done.as_ref().err().is_none_or(Refusal::keeps_writes) {
            open.commit().await.unwrap();
        }
        done
    }

    pub(super) async fn act<T, F>(&self, who: &Person, work: F) -> Result<T, Refusal>
    where
        F: for<'t> AsyncFnOnce(&'t mut TestTurn<'_>) -> Result<T, Refusal>,
    {
        self.act_at(Some(who), NOW, work).await
    }

    /// A verified account that is logged in.
    pub(super) async fn person(&self, name: &str) -> Person {
        self.person_managed_by(name, None).await
    }

    pub(super) async fn person_managed_by(&self, name: &str, org: Option<OrgId>) -> Person {
        let email = Email::assume_canonical(format!("{name}@example.org"));
        let row = Principal {
            email: email.as_str().to_owned(),
            password_phc: "$argon2id$x".to_owned(),
            verified: true,
            managed_by_org_id: org.map(|org| org.to_string()).unwrap_or_default(),
            ..Principal::default()
        };
        let made = self.act_at(None, NOW, async |turn| {
            let account = turn.add_principal(row).await?;
            let signed_in = turn.open_session(&self.identity, account, Device { name, ..Device::default() }).await?;
            Ok((account, signed_in.session))
        });
        let (account, session) = made.await.unwrap();
        Person { account, session, email }
    }

    /// The only superadmin.
    pub(super) async fn superadmin(&self) -> Person {
        let root = self.person("root").await;
        let account = root.account;
        let made = self.act_at(None, NOW, async |turn| {
            let held = crate::identity::Held {
                account,
                role: Role::Superadmin,
                scope: None,
                expires_unix_s: None,
                suspended: false,
                created_unix_s: NOW,
            };
            turn.insert(turn.new_id(), &crate::identity::wire::Binding::of(&held)).await
        });
        made.await.unwrap();
        root
    }

    /// An org that this person has founded.
    pub(super) async fn org(&self, founder: &Person) -> OrgId {
        let org = OrgId::from_record(self.id());
        self.act(founder, async |turn| turn.found_org(org).await).await.unwrap();
        org
    }

    /// Somebody joins by an invitation.
    pub(super) async fn join(&self, admin: &Person, who: &Person, scope: Scope, role: Role) {
        let email = who.email.clone();
        let invited = self.act(admin, async |turn| turn.invite(&email, scope, role).await).await.unwrap();
        let key = crate::identity::InvitationKey::Id(invited.open.id);
        self.act(who, async |turn| turn.accept(&key).await).await.unwrap();
    }

    pub(super) fn id(&self) -> RecordId {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, random)
    }

    pub(super) fn project(&self) -> ProjectId {
        ProjectId::from_record(self.id())
    }

    /// All rows of a table.
    pub(super) async fn all<M: Row>(&self) -> Vec<M> {
        let table = self.tables.by_name(&M::full_name()).unwrap().clone();
        let mut open = self.open(NOW).await;
        let found = open.danger_unruled(&table).find(&Find::all(OrgTag::GLOBAL)).await.unwrap();
        found.iter().map(|stored| stored.message().transcode_to().unwrap()).collect()
    }

    /// What a person may do from his next request on; an error if he is not let in.
    pub(super) async fn bindings(&self, person: &Person) -> Result<Vec<sys_policy::Binding>, Refusal> {
        let mut open = self.open(NOW).await;
        Ok(self.caller(&mut open, person).await?.bindings().to_vec())
    }

    pub(super) async fn epoch(&self, person: &Person) -> epoch::Epoch {
        epoch::read(&mut self.open(NOW).await, person.account).await.unwrap()
    }
}

/// Whether a commit lost against another.
pub(super) async fn conflicts(open: Open) -> bool {
    match open.commit().await {
        Ok(_) => false,
        Err(CommitError::Conflict) => true,
        Err(error) => panic!("{error}"),
    }
}
