//! A real organisation, brought in from the earlier system's file: its people log in, do what they may, and are refused what
//! they may not, with two other tenants beside them. The file is not part of the project; where it is not there, these tests
//! say so and do nothing. Its passwords are read when the tests run, and printed nowhere.

use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use sys_tests::{Options, Person, TestServer, World, accept_only_invitation, workspace};

const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const GET_ACCOUNT: &str = "sys.account.v1.AccountService/GetAccount";
const DISABLE: &str = "sys.account.v1.AccountService/DisableAccount";
const LIST_ORGS: &str = "sys.account.v1.OrgService/ListOrgs";
const LIST_PROJECTS: &str = "sys.account.v1.ProjectService/ListProjects";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";
const ASSIGN: &str = "sys.account.v1.MembershipService/AssignRole";
const MEMBERS: &str = "sys.account.v1.MembershipService/ListMemberships";
const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
const GET_NOTE: &str = "notes.v1.NoteService/GetNote";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";

/// Roles as the file numbers them.
const USER: i64 = 2;
const ADMIN: i64 = 3;
/// The project that all its accounts are in, and its org.
const PROJECT: &str = "sys_account_project_3";
const ORG: &str = "sys_account_org_0";
/// Who made what, and is invited for it.
const CREATORS: [(&str, usize); 3] =
    [("contact@amplify-cms.org", 2), ("ops@amplify-cms.org", 3), ("dev@amplify-cms.org", 4)];

/// The file, if it is there.
fn file() -> Option<PathBuf> {
    let path = workspace().join("../shared/org-y/bootstrap.yaml");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("not tested: there is no file at {}", path.display());
    None
}

/// A server with the world of all tests, into which the organisation was imported.
async fn imported() -> Option<(TestServer, World)> {
    let bootstrap = Some(file()?);
    Some(World::start_with(Options { bootstrap, ..Options::default() }).await)
}

/// The accounts of the file with this role, logged in with the passwords of the file: the first so many.
async fn people(server: &TestServer, role: i64, count: usize) -> Vec<Person> {
    let text = fs::read_to_string(file().expect("it was there before")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).expect("the file is YAML");
    let accounts = file["regular_users"]["main_bootstrap_regular_users"].as_array().expect("accounts");
    let accounts = accounts.iter().map(|user| &user["newaccounts"]);
    let mut people = Vec::new();
    for account in accounts.filter(|account| account["new_user_roles"][0]["role"] == role).take(count) {
        let email = account["email"].as_str().expect("an address");
        let login = json!({"email": email, "password": account["password"]});
        let answer = server.call("sys.account.v1.AuthService/Login", login).await;
        assert!(answer.is_ok(), "{email} does not get in: {}", answer.code());
        people.push(server.person(email, &answer.body));
    }
    assert_eq!(people.len(), count);
    people
}

fn named<'a>(page: &'a Value, items: &str, name: &str) -> &'a Value {
    let found = page[items].as_array().and_then(|items| items.iter().find(|item| item["name"] == name));
    found.unwrap_or_else(|| panic!("no {name} among the {items}"))
}

#[tokio::test]
async fn the_organisation_comes_in_whole_and_once() {
    let Some((server, world)) = imported().await else { return };
    let done = server.imported.as_ref().unwrap();
    assert_eq!((done.orgs, done.projects, done.accounts), (3, 6, 20));
    assert_eq!((done.bindings, done.invitations, done.already_there), (20, 9, 0));
    assert_eq!(done.mismatches.len(), 6, "{:?}", done.mismatches);
    let first = &done.mismatches[0];
    assert!(
        ["sys_account_project_0", "sys_account_org_2", "sys_account_org_1"].iter().all(|n| first.contains(n)),
        "{first}"
    );
    for part in ["projectdetails", "surveyschema", "surveyvalue"] {
        assert!(done.skipped.iter().any(|line| line.contains(part) && line.contains("campaign")), "{:?}", done.skipped);
    }
    assert!(done.drawn_passwords.is_empty(), "the file brings them all");
    let orgs = world.superadmin.call(LIST_ORGS, json!({})).await.ok();
    assert_eq!(orgs["orgs"].as_array().unwrap().len(), 3 + 2);
    assert!(!named(&orgs, "orgs", ORG)["logo"].as_str().unwrap().is_empty());
    for (creator, invitations) in CREATORS {
        server.mailbox().arrived(creator, "You are invited", invitations).await;
        assert_eq!(server.mailbox().count(creator, "You are invited"), invitations, "{creator}");
    }

    // Importing again makes nothing, whatever became of it meanwhile.
    let people = people(&server, ADMIN, 1).await;
    people[0].call("sys.account.v1.AccountService/DeleteAccount", json!({"id": people[0].account_id})).await.ok();
    let kept = server.stop().await.unwrap();
    let again = Options { data_dir: Some(kept.path().join("data")), bootstrap: file(), ..Options::default() };
    let server = TestServer::start_with(again).await;
    let done = server.imported.as_ref().unwrap();
    assert_eq!((done.orgs, done.projects, done.accounts, done.bindings, done.invitations), (0, 0, 0, 0, 0));
    assert_eq!(done.already_there, 3 + 6 + 20 + 20 + 9);
    let orgs = world.at(&server).superadmin.call(LIST_ORGS, json!({})).await.ok();
    assert_eq!(orgs["orgs"].as_array().unwrap().len(), 3 + 2);
    server.stop().await;
}

#[tokio::test]
async fn its_people_log_in_and_do_what_they_may() {
    let Some((server, world)) = imported().await else { return };
    let users = people(&server, USER, 2).await;
    let admins = people(&server, ADMIN, 1).await;
    let (user, colleague, admin) = (&users[0], &users[1], &admins[0]);
    let projects = user.call(LIST_PROJECTS, json!({})).await.ok();
    assert_eq!(projects["projects"].as_array().unwrap().len(), 1, "his own, of six");
    let project = named(&projects, "projects", PROJECT);
    assert!(!project["logo"].as_str().unwrap().is_empty());
    let held = user.call(WHO_AM_I, json!({})).await.ok();
    let expected = json!([{"role": "USER", "orgId": project["orgId"], "projectId": project["id"]}]);
    assert_eq!((&held["bindings"], &held["verified"]), (&expected, &json!(true)));
    let account = user.call(GET_ACCOUNT, json!({"id": user.account_id})).await.ok();
    assert_eq!(account["managedByOrgId"], project["orgId"]);
    assert!(!account["avatar"].as_str().unwrap().is_empty());

    let note = json!({"orgId": project["orgId"], "projectId": project["id"], "title": "Our plan", "draft": "hush"});
    let note = user.call(CREATE_NOTE, json!({"note": note})).await.ok();
    let this = json!({"id": note["id"]});
    for other in [colleague, admin] {
        let seen = other.call(GET_NOTE, this.clone()).await.ok();
        assert_eq!((&seen["title"], seen.get("draft")), (&json!("Our plan"), None));
    }
    let change = json!({"note": {"id": note["id"], "title": "Mine"}, "updateMask": "title"});
    admin.call("notes.v1.NoteService/UpdateNote", change).await.refused("permission_denied");

    // The admin of the project invites and assigns there; a user does not, and neither of them in the org.
    let invite = |project: &Value, email: &str| json!({"orgId": held["bindings"][0]["orgId"], "projectId": project, "email": email, "role": "USER"});
    admin.call(INVITE, invite(&project["id"], &world.stranger.email)).await.ok();
    user.call(INVITE, invite(&project["id"], "x@example.org")).await.refused("permission_denied");
    admin.call(INVITE, invite(&json!(""), "x@example.org")).await.refused("permission_denied");
    accept_only_invitation(&world.stranger).await;
    world.stranger.call(GET_NOTE, this.clone()).await.ok();
    let role = |role: &str| json!({"orgId": project["orgId"], "projectId": project["id"], "accountId": colleague.account_id, "role": role});
    admin.call(ASSIGN, role("GUEST")).await.ok();
    colleague.call(GET_NOTE, this).await.refused("not_found");
    user.call(ASSIGN, role("ADMIN")).await.refused("permission_denied");
    admin.call(DISABLE, json!({"id": user.account_id})).await.refused("permission_denied");
    server.stop().await;
}

#[tokio::test]
async fn who_made_an_org_becomes_its_admin_by_accepting() {
    let Some((server, _)) = imported().await else { return };
    let founder = server.verified("contact@amplify-cms.org").await;
    let open = founder.call("sys.account.v1.MembershipService/ListMyInvitations", json!({})).await.ok();
    let open = open["invitations"].as_array().unwrap().clone();
    assert_eq!(open.len(), 2);
    assert!(open.iter().all(|one| one["role"] == "ADMIN" && one.get("projectId").is_none()), "{open:?}");
    let ours = open.iter().find(|one| one["orgName"] == ORG).expect("the org with the people");
    founder.call(MEMBERS, json!({"orgId": ours["orgId"]})).await.refused("permission_denied");
    founder.call("sys.account.v1.MembershipService/AcceptInvitation", json!({"id": ours["id"]})).await.ok();
    let members = founder.call(MEMBERS, json!({"orgId": ours["orgId"], "pageSize": 100})).await.ok();
    assert_eq!(members["memberships"].as_array().unwrap().len(), 20 + 1);
    // The accounts are the org's, so that its admin may shut them out.
    let user = &people(&server, USER, 1).await[0];
    founder.call(DISABLE, json!({"id": user.account_id})).await.ok();
    user.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn tenants_beside_it_see_nothing_of_it_and_it_nothing_of_them() {
    let Some((server, world)) = imported().await else { return };
    let user = &people(&server, USER, 1).await[0];
    let projects = user.call(LIST_PROJECTS, json!({})).await.ok();
    let project = named(&projects, "projects", PROJECT);
    let note = json!({"orgId": project["orgId"], "projectId": project["id"], "title": "Ours", "published": true});
    let note = user.call(CREATE_NOTE, json!({"note": note})).await.ok();
    let others = world.north.people().into_iter().chain(world.south.people()).chain([&world.stranger]);
    for other in others {
        assert!(!other.call(GET_NOTE, json!({"id": note["id"]})).await.is_ok());
        assert!(!other.call(GET_ACCOUNT, json!({"id": user.account_id})).await.is_ok());
        assert!(!other.call(MEMBERS, json!({"orgId": project["orgId"]})).await.is_ok());
        let notes = other.call(LIST_NOTES, json!({"orgId": project["orgId"]})).await;
        let projects = other.call(LIST_PROJECTS, json!({"orgId": project["orgId"]})).await.ok();
        assert!(notes.body.get("notes").is_none() && projects.get("projects").is_none(), "{}", other.email);
    }
    let (org, theirs) = (&world.north.id, &world.north.projects[0]);
    let note = json!({"orgId": org, "projectId": theirs, "title": "Theirs", "published": true});
    let note = world.north.project_user.call(CREATE_NOTE, json!({"note": note})).await.ok();
    user.call(GET_NOTE, json!({"id": note["id"]})).await.refused("not_found");
    assert!(user.call(LIST_NOTES, json!({"orgId": org})).await.body.get("notes").is_none());
    let note = json!({"note": {"orgId": org, "projectId": theirs, "title": "x"}});
    user.call(CREATE_NOTE, note).await.refused("permission_denied");
    assert!(!world.superadmin.call(LIST_NOTES, json!({"orgId": project["orgId"]})).await.is_ok());
    server.stop().await;
}
