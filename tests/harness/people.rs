//! People, and a small world for them: two orgs with two projects each and somebody in every role.

use crate::{Answer, Client, Options, Snapshot, TestServer};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// The subject of the mail with which an address is proven.
const VERIFY: &str = "Prove your address";

/// The password of everybody in a test's world. The store that it opens lives as long as the test.
pub const PASSWORD: &str = "a long enough passphrase";

/// The domain in which the first org of a test's world may make accounts. Each other org has one below it: a domain is one org's.
pub const MANAGED_DOMAIN: &str = "managed.example.org";

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// The address.
    pub email: String,
    /// The account.
    pub account_id: String,
    /// The session of the login.
    pub session_id: String,
    /// The refresh token of the login.
    pub refresh_token: String,
    /// A client with the access token of the login.
    pub client: Client,
}

/// An org and its people. Each role is held by somebody who holds nothing else.
#[derive(Debug, Clone)]
pub struct Org {
    /// The org.
    pub id: String,
    /// Two projects.
    pub projects: [String; 2],
    /// ADMIN of the org.
    pub admin: Person,
    /// USER of the org.
    pub user: Person,
    /// GUEST of the org.
    pub guest: Person,
    /// ADMIN of the first project.
    pub project_admin: Person,
    /// USER of the first project.
    pub project_user: Person,
    /// GUEST of the first project.
    pub project_guest: Person,
    /// USER of the second project.
    pub other_project_user: Person,
}

/// Two orgs beside each other, and people without one.
#[derive(Debug, Clone)]
pub struct World {
    /// Runs the server.
    pub superadmin: Person,
    /// An org.
    pub north: Org,
    /// Another tenant.
    pub south: Org,
    /// Verified, but in no org.
    pub stranger: Person,
}

impl TestServer {
    /// Calls a method as nobody.
    pub async fn call(&self, path: &str, body: Value) -> Answer {
        self.client().call(path, body).await
    }

    /// Logs in.
    pub async fn log_in(&self, email: &str) -> Person {
        let body = json!({"email": email, "password": PASSWORD, "deviceName": "test"});
        let pair = self.call("sys.account.v1.AuthService/Login", body).await.ok();
        self.person(email, &pair)
    }

    /// Makes the first superadmin with the setup token.
    pub async fn superadmin(&self) -> Person {
        let token = self.setup_token.clone().expect("no superadmin yet");
        let email = "root@example.org";
        let body = json!({"token": token, "email": email, "password": PASSWORD});
        let pair = self.call("sys.account.v1.AuthService/Setup", body).await.ok();
        self.person(email, &pair)
    }

    /// Registers an account without proving its address.
    pub async fn register(&self, email: &str) {
        let body = json!({"email": email, "password": PASSWORD, "displayName": "Somebody"});
        self.call("sys.account.v1.AuthService/Register", body).await.ok();
    }

    /// Registers an account; gives back the token that was mailed to prove its address.
    pub async fn registered(&self, email: &str) -> String {
        let seen = self.mailbox().count(email, VERIFY);
        self.register(email).await;
        self.mailbox().token_after(email, VERIFY, seen).await
    }

    /// Registers an account, proves its address with the token from the mail, and logs in.
    pub async fn verified(&self, email: &str) -> Person {
        let token = self.registered(email).await;
        let body = json!({"token": token, "password": PASSWORD});
        self.call("sys.account.v1.AuthService/VerifyEmail", body).await.ok();
        self.log_in(email).await
    }

    /// Who is logged in with this pair of tokens.
    pub fn person(&self, email: &str, pair: &Value) -> Person {
        let text = |field: &str| pair[field].as_str().expect("a token pair").to_owned();
        Person {
            email: email.to_owned(),
            account_id: text("accountId"),
            session_id: text("sessionId"),
            refresh_token: text("refreshToken"),
            client: self.client().with_token(&text("accessToken")),
        }
    }
}

impl Person {
    /// Calls a method as this person.
    pub async fn call(&self, path: &str, body: Value) -> Answer {
        self.client.call(path, body).await
    }
}

/// The world that all tests begin with: dozens of passwords are hashed to build it, so that it is built once.
static BUILT: OnceCell<(Snapshot, World)> = OnceCell::const_new();

impl World {
    /// An ordinary server with a world of its own.
    pub async fn start() -> (TestServer, Self) {
        Self::start_with(Options::default()).await
    }

    /// A server that differs, with a world of its own.
    pub async fn start_with(options: Options) -> (TestServer, Self) {
        let (snapshot, world) = BUILT
            .get_or_init(async || {
                let server = TestServer::start().await;
                let world = Self::build(&server).await;
                (Snapshot::of(server).await, world)
            })
            .await;
        let server = snapshot.start_with(options).await;
        let world = world.at(&server);
        (server, world)
    }

    /// The same people at a server that has a copy of their data.
    #[must_use]
    pub fn at(&self, server: &TestServer) -> Self {
        let mut world = self.clone();
        let Self { superadmin, north, south, stranger } = &mut world;
        for person in north.people_mut().into_iter().chain(south.people_mut()).chain([superadmin, stranger]) {
            person.client = person.client.at(server.addr);
        }
        world
    }

    /// Fills a fresh server.
    async fn build(server: &TestServer) -> Self {
        let superadmin = server.superadmin().await;
        let north = Org::build(server, &superadmin, "north").await;
        let south = Org::build(server, &superadmin, "south").await;
        let stranger = server.verified("stranger@example.org").await;
        Self { superadmin, north, south, stranger }
    }
}

impl Org {
    /// The people of the org.
    pub fn people(&self) -> [&Person; 7] {
        [
            &self.admin,
            &self.user,
            &self.guest,
            &self.project_admin,
            &self.project_user,
            &self.project_guest,
            &self.other_project_user,
        ]
    }

    fn people_mut(&mut self) -> [&mut Person; 7] {
        [
            &mut self.admin,
            &mut self.user,
            &mut self.guest,
            &mut self.project_admin,
            &mut self.project_user,
            &mut self.project_guest,
            &mut self.other_project_user,
        ]
    }

    async fn build(server: &TestServer, superadmin: &Person, name: &str) -> Self {
        let admin = server.verified(&format!("admin.{name}@example.org")).await;
        let body = json!({"name": name, "adminEmail": admin.email});
        let id = superadmin.call("sys.account.v1.OrgService/CreateOrg", body).await.text("id");
        let domain = if name == "north" { MANAGED_DOMAIN.to_owned() } else { format!("{name}.{MANAGED_DOMAIN}") };
        let body = json!({"id": id, "domains": [domain]});
        superadmin.call("sys.account.v1.OrgService/SetAccountDomains", body).await.ok();
        accept_only_invitation(&admin).await;
        let mut projects = Vec::new();
        for project in ["first", "second"] {
            let body = json!({"orgId": id, "name": project});
            projects.push(admin.call("sys.account.v1.ProjectService/CreateProject", body).await.text("id"));
        }
        let projects: [String; 2] = projects.try_into().expect("two were made");
        let join = async |who: &str, role: &str, project: &str| {
            let person = server.verified(&format!("{who}.{name}@example.org")).await;
            let body = json!({"orgId": id, "projectId": project, "email": person.email, "role": role});
            admin.call("sys.account.v1.MembershipService/Invite", body).await.ok();
            accept_only_invitation(&person).await;
            person
        };
        Self {
            user: join("user", "USER", "").await,
            guest: join("guest", "GUEST", "").await,
            project_admin: join("padmin", "ADMIN", &projects[0]).await,
            project_user: join("puser", "USER", &projects[0]).await,
            project_guest: join("pguest", "GUEST", &projects[0]).await,
            other_project_user: join("other", "USER", &projects[1]).await,
            id,
            projects,
            admin,
        }
    }
}

/// Accepts the one invitation that somebody has.
pub async fn accept_only_invitation(person: &Person) {
    let body = person.call("sys.account.v1.MembershipService/ListMyInvitations", json!({})).await.ok();
    let invitation = body["invitations"][0]["id"].as_str().expect("an invitation").to_owned();
    person.call("sys.account.v1.MembershipService/AcceptInvitation", json!({"id": invitation})).await.ok();
}
