//! Who calls, and what there is to call for.

use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};
use sys_contract::{
    id::{AccountId, OrgId, ProjectId, SessionId},
    model::{Contract, Role},
};
use sys_core::token::ACCESS_TOKEN_S;
use sys_policy::{Binding, BindingScope, Caller, Standing};
use sys_tests::{Client, Options, Org, PASSWORD, Person, Snapshot, TestServer, World, accept_only_invitation};

const INVITE: &str = "sys.account.v1.MembershipService/Invite";

/// Somebody who calls. Each holds one role in the own org and nothing else, or nothing.
pub(super) struct Who {
    pub(super) name: &'static str,
    pub(super) client: Client,
    /// As the rules see him; nobody if his token is no longer good.
    pub(super) caller: Option<Caller>,
    /// For a pair of tokens, where it is his own session that he refreshes.
    pub(super) refresh_token: String,
    /// His session; somebody else's where he has none.
    pub(super) session_id: String,
}

/// What lies in one org.
pub(super) struct Place {
    pub(super) org: String,
    pub(super) project: String,
    /// A project that anybody may join.
    pub(super) open_project: String,
    /// Unpublished; its author is `account`.
    pub(super) note: String,
    /// An account that the org manages, USER of the project. In the own org it is the caller `owner`.
    pub(super) account: String,
    /// An invitation for each caller: its id, and the token that was mailed.
    pub(super) invitations: BTreeMap<&'static str, (String, String)>,
    /// The records above as they are stored, by id.
    pub(super) records: BTreeMap<String, DynamicMessage>,
}

/// A world at rest, from which any number of servers starts.
pub(super) struct Setting {
    snapshot: Snapshot,
    pub(super) people: Vec<Who>,
    pub(super) own: Place,
    pub(super) other: Place,
    /// Proves the address of somebody who has registered.
    pub(super) verify_token: String,
    /// Chooses a new password for somebody who has forgotten his.
    pub(super) reset_token: String,
    fresh: AtomicUsize,
}

impl Setting {
    pub(super) async fn build(contracts: &[Contract]) -> Self {
        let (server, world) = World::start().await;
        let (north, south) = (&world.north, &world.south);
        let owner = managed(&server, north, "owner.north@example.org", "USER", &north.projects[0]).await;
        let others = managed(&server, south, "owner.south@example.org", "USER", &south.projects[0]).await;
        let people = people(&server, &world, &owner).await;
        let names: Vec<&'static str> = people.iter().map(|who| who.name).collect();
        let own = place(&server, north, &owner, &names, contracts).await;
        let other = place(&server, south, &others, &names, contracts).await;
        let verify_token = server.registered("waiting@example.org").await;
        let forgot = json!({"email": world.stranger.email});
        server.call("sys.account.v1.AuthService/ForgotPassword", forgot).await.ok();
        let reset_token = server.mailbox().token(&world.stranger.email, "new password").await;
        let snapshot = Snapshot::of(server).await;
        Self { snapshot, people, own, other, verify_token, reset_token, fresh: AtomicUsize::new(0) }
    }

    /// A server on a copy of its own.
    pub(super) async fn serve(&self) -> TestServer {
        self.snapshot.start_with(Options::default()).await
    }

    /// A name that nothing has yet.
    pub(super) fn fresh(&self) -> String {
        format!("fresh-{}", self.fresh.fetch_add(1, Ordering::Relaxed))
    }
}

async fn people(server: &TestServer, world: &World, owner: &Person) -> Vec<Who> {
    let north = &world.north;
    let org = north.id.parse::<OrgId>().unwrap().tag();
    let project = |number: usize| BindingScope::Project(org, north.projects[number].parse::<ProjectId>().unwrap());
    let (first, second, whole) = (project(0), project(1), BindingScope::Org(org));
    // A session of the stranger's that he does not call with: it is refreshed by who has none.
    let spare = server.log_in(&world.stranger.email).await;
    let disabled = managed(server, north, "disabled.north@example.org", "ADMIN", "").await;
    let body = json!({"id": disabled.account_id});
    north.admin.call("sys.account.v1.AccountService/DisableAccount", body).await.ok();
    let revoked = server.log_in(&north.admin.email).await;
    revoked.call("sys.account.v1.AuthService/Logout", json!({})).await.ok();
    let unproven = managed(server, north, "unproven.north@example.org", "ADMIN", "").await;
    server.advance_s(-2 * ACCESS_TOKEN_S);
    let expired = server.log_in(&north.admin.email).await;
    let unproven = server.log_in(&unproven.email).await;
    server.advance_s(2 * ACCESS_TOKEN_S);
    // Alive, with a password that was shown too long ago.
    let refresh = json!({"refreshToken": unproven.refresh_token});
    let unproven =
        server.person(&unproven.email, &server.call("sys.account.v1.AuthService/Refresh", refresh).await.ok());
    let now = server.now_unix_s();
    let alive = |name, person: &Person, holds| {
        let who = alive(name, person, holds);
        Who { caller: who.caller.map(|caller| caller.proven_at(now)), ..who }
    };
    vec![
        Who { caller: Some(Caller::anonymous()), client: server.client(), ..dead("anonymous", &spare) },
        dead("disabled", &disabled),
        dead("revoked", &revoked),
        dead("expired", &expired),
        alive("stranger", &world.stranger, None),
        alive("guest@org", &north.guest, Some((Role::Guest, whole))),
        alive("user@org", &north.user, Some((Role::User, whole))),
        alive("admin@org", &north.admin, Some((Role::Admin, whole))),
        self::alive("admin@org-unproven", &unproven, Some((Role::Admin, whole))),
        alive("guest@project", &north.project_guest, Some((Role::Guest, first))),
        alive("user@project", &north.project_user, Some((Role::User, first))),
        alive("admin@project", &north.project_admin, Some((Role::Admin, first))),
        alive("user@other-project", &north.other_project_user, Some((Role::User, second))),
        alive("owner", owner, Some((Role::User, first))),
        alive("superadmin", &world.superadmin, Some((Role::Superadmin, BindingScope::System))),
    ]
}

fn dead(name: &'static str, person: &Person) -> Who {
    let (client, refresh_token) = (person.client.clone(), person.refresh_token.clone());
    Who { name, client, caller: None, refresh_token, session_id: person.session_id.clone() }
}

fn alive(name: &'static str, person: &Person, holds: Option<(Role, BindingScope)>) -> Who {
    let account: AccountId = person.account_id.parse().unwrap();
    let session = SessionId::from_record(account.record());
    let bindings = holds.map(|(role, scope)| Binding { role, scope, expires_unix_s: None }).into_iter().collect();
    let caller = Caller::new(account, session, Standing::Verified, bindings);
    Who { caller: Some(caller), ..dead(name, person) }
}

/// A new account that the org manages, with this role there.
async fn managed(server: &TestServer, org: &Org, email: &str, role: &str, project: &str) -> Person {
    let body = json!({"email": email, "displayName": "Managed", "managedByOrgId": org.id, "password": PASSWORD});
    org.admin.call("sys.account.v1.AccountService/CreateAccount", body).await.ok();
    let person = server.log_in(email).await;
    let body = json!({"orgId": org.id, "projectId": project, "email": email, "role": role});
    org.admin.call(INVITE, body).await.ok();
    accept_only_invitation(&person).await;
    person
}

async fn place(
    server: &TestServer,
    org: &Org,
    owner: &Person,
    names: &[&'static str],
    contracts: &[Contract],
) -> Place {
    let project = org.projects[0].clone();
    let open = json!({"orgId": org.id, "name": "open to all", "open": true});
    let open_project = org.admin.call("sys.account.v1.ProjectService/CreateProject", open).await.text("id");
    let note = json!({"orgId": org.id, "projectId": project, "title": "a plan", "draft": "still thinking"});
    let note = owner.call("notes.v1.NoteService/CreateNote", json!({"note": note})).await.text("id");
    let mut invitations = BTreeMap::new();
    for name in names {
        let email =
            format!("invited.by.token.{}.{}@example.org", name.replace('@', "."), org.admin.email.replace('@', "."));
        let body = json!({"orgId": org.id, "projectId": project, "email": email, "role": "GUEST"});
        let id = org.admin.call(INVITE, body).await.text("id");
        invitations.insert(*name, (id, server.mailbox().token(&email, "invited").await));
    }
    let mut records = BTreeMap::new();
    for (by, kind, method, id) in [
        (&org.admin, "sys.account.v1.Org", "sys.account.v1.OrgService/GetOrg", &org.id),
        (&org.admin, "sys.account.v1.Project", "sys.account.v1.ProjectService/GetProject", &project),
        (&org.admin, "sys.account.v1.Project", "sys.account.v1.ProjectService/GetProject", &open_project),
        (owner, "sys.account.v1.Account", "sys.account.v1.AccountService/GetAccount", &owner.account_id),
        (owner, "notes.v1.Note", "notes.v1.NoteService/GetNote", &note),
    ] {
        let seen = by.call(method, json!({"id": id})).await.ok();
        records.insert(id.clone(), stored(contracts, kind, seen));
    }
    let account = owner.account_id.clone();
    Place { org: org.id.clone(), project, open_project, note, account, invitations, records }
}

/// A record as the rules take it, from the view of somebody who sees all of it.
fn stored(contracts: &[Contract], kind: &str, seen: Value) -> DynamicMessage {
    let mut records = contracts.iter().flat_map(|contract| &contract.records);
    let record = records.find(|record| record.message.full_name() == kind).expect("a record of a contract");
    DynamicMessage::deserialize(record.message.clone(), seen).expect("a record in JSON")
}
