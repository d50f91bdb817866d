//! Orgs and who is in them: nobody is bound without his word, no org loses its last admin, and who runs the server has no
//! door to what is in it.

use data_encoding::BASE64;
use serde_json::{Value, json};
use sys_core::identity::limits;
use sys_tests::{Answer, Options, Person, TestServer, World, accept_only_invitation};

const CREATE_ORG: &str = "sys.account.v1.OrgService/CreateOrg";
const GET_ORG: &str = "sys.account.v1.OrgService/GetOrg";
const LIST_ORGS: &str = "sys.account.v1.OrgService/ListOrgs";
const LIST_OTHER_ORGS: &str = "sys.account.v1.OrgService/ListOtherOrgs";
const UPDATE_ORG: &str = "sys.account.v1.OrgService/UpdateOrg";
const DELETE_ORG: &str = "sys.account.v1.OrgService/DeleteOrg";
const CREATE_PROJECT: &str = "sys.account.v1.ProjectService/CreateProject";
const GET_PROJECT: &str = "sys.account.v1.ProjectService/GetProject";
const LIST_PROJECTS: &str = "sys.account.v1.ProjectService/ListProjects";
const JOIN: &str = "sys.account.v1.ProjectService/JoinProject";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";
const ACCEPT: &str = "sys.account.v1.MembershipService/AcceptInvitation";
const DECLINE: &str = "sys.account.v1.MembershipService/DeclineInvitation";
const WITHDRAW: &str = "sys.account.v1.MembershipService/WithdrawInvitation";
const MY_INVITATIONS: &str = "sys.account.v1.MembershipService/ListMyInvitations";
const INVITATIONS: &str = "sys.account.v1.MembershipService/ListInvitations";
const MEMBERS: &str = "sys.account.v1.MembershipService/ListMemberships";
const SUSPEND: &str = "sys.account.v1.MembershipService/SuspendMembership";
const RESUME: &str = "sys.account.v1.MembershipService/ResumeMembership";
const REMOVE: &str = "sys.account.v1.MembershipService/RemoveMembership";
const ASSIGN: &str = "sys.account.v1.MembershipService/AssignRole";
const REVOKE: &str = "sys.account.v1.MembershipService/RevokeRole";
const ROLES: &str = "sys.account.v1.MembershipService/ListRoles";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const CREATE_NOTE: &str = "notes.v1.NoteService/CreateNote";
const GET_NOTE: &str = "notes.v1.NoteService/GetNote";
const LIST_NOTES: &str = "notes.v1.NoteService/ListNotes";

/// Orgs of which two admins remove each other at the same time.
const DUELS: usize = 8;

/// What somebody holds, as he sees it himself.
async fn held(person: &Person) -> Vec<Value> {
    let me = person.call(WHO_AM_I, json!({})).await.ok();
    me["bindings"].as_array().cloned().unwrap_or_default()
}

/// Invites the owner of an address into the whole org; gives back the token from the mail.
async fn invited(server: &TestServer, by: &Person, org: &str, email: &str, role: &str) -> String {
    let seen = server.mailbox().count(email, "invited");
    by.call(INVITE, json!({"orgId": org, "email": email, "role": role})).await.ok();
    server.mailbox().token_after(email, "invited", seen).await
}

#[track_caller]
fn hidden(answer: &Answer) {
    assert!(["not_found", "permission_denied"].contains(&answer.code()), "{answer:?}");
}

#[tokio::test]
async fn a_superadmin_makes_an_org_for_somebody_else_and_is_not_in_it() {
    let (server, world) = World::start().await;
    let root = &world.superadmin;
    let nobody = root.call(CREATE_ORG, json!({"name": "nobody's"})).await;
    assert_eq!(nobody.refused("invalid_argument").fields(), ["admin_email"]);
    for (body, invited) in [
        (json!({"name": "a", "contact": "contact@example.org"}), "contact@example.org"),
        (
            json!({"name": "b", "contact": "other@example.org", "adminEmail": "chosen@example.org"}),
            "chosen@example.org",
        ),
    ] {
        let org = root.call(CREATE_ORG, body).await.text("id");
        assert_eq!(held(root).await, [json!({"role": "SUPERADMIN"})]);
        hidden(&root.call(MEMBERS, json!({"orgId": org})).await);
        let admin = server.verified(invited).await;
        assert!(held(&admin).await.is_empty(), "not before he accepts");
        accept_only_invitation(&admin).await;
        assert_eq!(held(&admin).await, [json!({"role": "ADMIN", "orgId": org})]);
    }
    assert_eq!(server.mailbox().count("other@example.org", "invited"), 0);
    let closed = world.stranger.call(CREATE_ORG, json!({"name": "mine"})).await;
    assert_eq!(closed.refused("permission_denied").reason(), "ORGS_NOT_OPEN");
    server.stop().await;
}

#[tokio::test]
async fn where_the_server_allows_it_who_makes_an_org_is_its_first_admin() {
    let (server, world) = World::start_with(Options { allow_org_create: true, ..Options::default() }).await;
    let founder = &world.stranger;
    let other = founder.call(CREATE_ORG, json!({"name": "mine", "adminEmail": "other@example.org"})).await;
    assert_eq!(other.refused("invalid_argument").fields(), ["admin_email"]);
    let org = founder.call(CREATE_ORG, json!({"name": "mine"})).await.text("id");
    assert_eq!(held(founder).await, [json!({"role": "ADMIN", "orgId": org})]);
    founder.call(CREATE_PROJECT, json!({"orgId": org, "name": "first"})).await.ok();
    server.call(CREATE_ORG, json!({"name": "nobody's"})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn an_invitation_binds_nobody_but_who_accepts_it() {
    let (server, world) = World::start().await;
    let (north, guest) = (&world.north, &world.stranger);
    let thief = &world.south.user;
    let token = invited(&server, &north.admin, &north.id, &guest.email, "USER").await;
    let mine = guest.call(MY_INVITATIONS, json!({})).await.ok();
    let invitation = &mine["invitations"][0];
    assert_eq!((&invitation["orgName"], &invitation["role"]), (&json!("north"), &json!("USER")));
    assert!(held(guest).await.is_empty());
    hidden(&guest.call(GET_ORG, json!({"id": north.id})).await);
    // Its id is good for the invited address alone, and a wrong token for nothing.
    let by_id = json!({"id": invitation["id"]});
    thief.call(ACCEPT, by_id.clone()).await.refused("not_found");
    thief.call(DECLINE, by_id.clone()).await.refused("not_found");
    thief.call(ACCEPT, json!({"token": "A".repeat(43)})).await.refused("not_found");
    guest.call(ACCEPT, json!({"id": invitation["id"], "token": token})).await.refused("invalid_argument");
    server.call(ACCEPT, json!({"token": token})).await.refused("unauthenticated");
    assert!(thief.call(MY_INVITATIONS, json!({})).await.ok().get("invitations").is_none());

    guest.call(ACCEPT, by_id.clone()).await.ok();
    assert_eq!(held(guest).await, [json!({"role": "USER", "orgId": north.id})]);
    guest.call(ACCEPT, by_id).await.refused("not_found");
    thief.call(ACCEPT, json!({"token": token})).await.refused("not_found");
    // Whoever was given the token may use it, once.
    let token = invited(&server, &north.admin, &north.id, "role@example.org", "GUEST").await;
    world.south.guest.call(ACCEPT, json!({"token": token})).await.ok();
    hidden(&thief.call(ACCEPT, json!({"token": token})).await);
    server.stop().await;
}

#[tokio::test]
async fn an_invitation_that_is_no_longer_meant_is_worth_nothing() {
    let (server, world) = World::start().await;
    let (north, guest) = (&world.north, &world.stranger);
    let invite = async || invited(&server, &north.admin, &north.id, &guest.email, "USER").await;
    let refused = async |token: &str| guest.call(ACCEPT, json!({"token": token})).await.refused("not_found").clone();

    let declined = invite().await;
    guest.call(DECLINE, json!({"token": declined})).await.ok();
    refused(&declined).await;
    let withdrawn = invite().await;
    let open = north.admin.call(INVITATIONS, json!({"orgId": north.id})).await.ok();
    let of_guest = |open: &Value| {
        let all = open["invitations"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["email"] == guest.email.as_str()).collect::<Vec<_>>()
    };
    let [one] = &of_guest(&open)[..] else { panic!("{open}") };
    let withdraw = json!({"orgId": north.id, "id": one["id"]});
    hidden(&north.user.call(WITHDRAW, withdraw.clone()).await);
    hidden(&world.south.admin.call(WITHDRAW, withdraw.clone()).await);
    north.admin.call(WITHDRAW, withdraw).await.ok();
    refused(&withdrawn).await;
    // A new one takes the place of an older one.
    let (older, newer) = (invite().await, invite().await);
    refused(&older).await;
    assert_eq!(of_guest(&north.admin.call(INVITATIONS, json!({"orgId": north.id})).await.ok()).len(), 1);
    guest.call(ACCEPT, json!({"token": newer})).await.ok();

    // It is the word of who gave it, and worth nothing once he could no longer give it.
    let body = json!({"orgId": north.id, "accountId": guest.account_id, "role": "ADMIN"});
    north.admin.call(ASSIGN, body).await.ok();
    let theirs = invited(&server, guest, &north.id, &world.south.user.email, "ADMIN").await;
    north.admin.call(REVOKE, json!({"orgId": north.id, "accountId": guest.account_id})).await.ok();
    world.south.user.call(ACCEPT, json!({"token": theirs})).await.refused("not_found");

    let late = invite().await;
    server.advance_s(limits::INVITATION_S + 1);
    let guest = server.log_in(&guest.email).await;
    guest.call(ACCEPT, json!({"token": late})).await.refused("not_found");
    server.stop().await;
}

#[tokio::test]
async fn the_last_admin_of_an_org_stays() {
    let (server, world) = World::start().await;
    let (north, admin) = (&world.north, &world.north.admin);
    let last = json!({"orgId": north.id, "accountId": admin.account_id});
    let stays = async |by: &Person, path: &str, body: &Value| {
        let answer = by.call(path, body.clone()).await;
        assert_eq!(answer.refused("failed_precondition").reason(), "LAST_ADMIN", "{path}");
    };
    stays(admin, REMOVE, &last).await;
    stays(admin, REVOKE, &last).await;
    stays(admin, "sys.account.v1.AccountService/DeleteAccount", &json!({"id": admin.account_id})).await;
    assert!(!admin.call(SUSPEND, last.clone()).await.is_ok());
    // An admin for a time is not one who stays.
    let mut deputy = json!({"orgId": north.id, "accountId": north.user.account_id, "role": "ADMIN"});
    deputy["expiresAt"] = json!("2999-01-01T00:00:00Z");
    admin.call(ASSIGN, deputy.clone()).await.ok();
    stays(admin, REMOVE, &last).await;
    for path in [REMOVE, REVOKE, SUSPEND] {
        stays(&north.user, path, &last).await;
    }
    let mut lower = last.clone();
    lower["role"] = json!("USER");
    stays(&north.user, ASSIGN, &lower).await;

    deputy.as_object_mut().unwrap().remove("expiresAt");
    admin.call(ASSIGN, deputy).await.ok();
    admin.call(REMOVE, last).await.ok();
    assert!(held(admin).await.is_empty());
    let new_last = json!({"orgId": north.id, "accountId": north.user.account_id});
    stays(&north.user, REMOVE, &new_last).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_admins_who_remove_each_other_at_once_one_stays() {
    let (server, world) = World::start_with(Options { allow_org_create: true, ..Options::default() }).await;
    let (one, other) = (&world.stranger, &world.south.user);
    for path in [REMOVE, REVOKE].iter().cycle().take(DUELS) {
        let org = one.call(CREATE_ORG, json!({"name": "ours"})).await.text("id");
        let token = invited(&server, one, &org, &other.email, "ADMIN").await;
        other.call(ACCEPT, json!({"token": token})).await.ok();
        let of = |person: &Person| json!({"orgId": org, "accountId": person.account_id});
        let (first, second) = tokio::join!(one.call(path, of(other)), other.call(path, of(one)));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let (winner, loser) = if first.is_ok() { (one, other) } else { (other, one) };
        winner.call(MEMBERS, json!({"orgId": org})).await.ok();
        hidden(&loser.call(MEMBERS, json!({"orgId": org})).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_is_suspended_holds_nothing_until_he_is_let_back_in() {
    let (server, world) = World::start().await;
    let (north, member) = (&world.north, &world.north.project_user);
    let of_member = json!({"orgId": north.id, "accountId": member.account_id});
    let note = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "x"}});
    for other in [&north.user, &north.project_admin, &world.south.admin, &world.superadmin, &world.stranger] {
        for path in [SUSPEND, RESUME, REMOVE] {
            hidden(&other.call(path, of_member.clone()).await);
        }
    }
    member.call(CREATE_NOTE, note.clone()).await.ok();
    north.admin.call(SUSPEND, of_member.clone()).await.ok();
    hidden(&member.call(CREATE_NOTE, note.clone()).await);
    assert!(held(member).await.is_empty());
    // Neither an invitation nor an open project nor another role is a way round it.
    let token = invited(&server, &north.admin, &north.id, &member.email, "ADMIN").await;
    let reason = member.call(ACCEPT, json!({"token": token})).await.refused("failed_precondition").reason();
    assert_eq!(reason, "MEMBER_SUSPENDED");
    let open = json!({"orgId": north.id, "name": "open", "open": true});
    let open = north.admin.call(CREATE_PROJECT, open).await.text("id");
    member.call(JOIN, json!({"id": open})).await.refused("failed_precondition");
    let mut assign = of_member.clone();
    assign["role"] = json!("USER");
    north.admin.call(ASSIGN, assign).await.refused("failed_precondition");
    let listed = north.admin.call(ROLES, of_member.clone()).await.ok();
    assert_eq!(listed["roles"][0]["suspended"], true);

    north.admin.call(RESUME, of_member.clone()).await.ok();
    member.call(CREATE_NOTE, note.clone()).await.ok();
    north.admin.call(REMOVE, of_member.clone()).await.ok();
    hidden(&member.call(CREATE_NOTE, note).await);
    north.admin.call(REMOVE, of_member).await.refused("not_found");
    member.call(ACCEPT, json!({"token": token})).await.refused("not_found");
    // Anybody may leave.
    let leave = json!({"orgId": north.id, "accountId": north.guest.account_id});
    north.guest.call(REMOVE, leave).await.ok();
    assert!(held(&north.guest).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_admin_of_a_project_administers_that_project_and_nothing_else() {
    let (server, world) = World::start().await;
    let (north, admin) = (&world.north, &world.north.project_admin);
    let [first, second] = &north.projects;
    let role = |project: &str, person: &Person, role: &str| json!({"orgId": north.id, "projectId": project, "accountId": person.account_id, "role": role});
    admin.call(ASSIGN, role(first, &north.project_guest, "USER")).await.ok();
    admin.call(ASSIGN, role(first, &north.other_project_user, "GUEST")).await.ok();
    for project in [second.as_str(), ""] {
        hidden(&admin.call(ASSIGN, role(project, &north.project_guest, "GUEST")).await);
        let revoke = json!({"orgId": north.id, "projectId": project, "accountId": north.other_project_user.account_id});
        hidden(&admin.call(REVOKE, revoke).await);
    }
    admin.call(ASSIGN, role(first, &world.stranger, "GUEST")).await.refused("not_found");
    let invite =
        |project: &str| json!({"orgId": north.id, "projectId": project, "email": "a@example.org", "role": "ADMIN"});
    admin.call(INVITE, invite(first)).await.ok();
    hidden(&admin.call(INVITE, invite(second)).await);
    hidden(&admin.call(INVITE, invite("")).await);
    hidden(&admin.call(INVITE, invite(&world.south.projects[0])).await);
    let members = |project: &str| json!({"orgId": north.id, "projectId": project});
    let seen = admin.call(MEMBERS, members(first)).await.ok();
    assert_eq!(seen["memberships"].as_array().unwrap().len(), 4, "{seen}");
    hidden(&admin.call(MEMBERS, members(second)).await);
    hidden(&admin.call(MEMBERS, members("")).await);
    // His own role he may give back, but not change.
    hidden(&admin.call(ASSIGN, role(first, admin, "USER")).await);
    server.stop().await;
}

#[tokio::test]
async fn an_open_project_is_joined_as_user_and_a_closed_one_not_at_all() {
    let (server, world) = World::start().await;
    let (north, joiner) = (&world.north, &world.stranger);
    let open = json!({"orgId": north.id, "name": "open", "open": true});
    let open = north.admin.call(CREATE_PROJECT, open).await.text("id");
    joiner.call(JOIN, json!({"id": north.projects[0]})).await.refused("not_found");
    north.user.call(JOIN, json!({"id": north.projects[0]})).await.refused("permission_denied");
    server.call(JOIN, json!({"id": open})).await.refused("unauthenticated");
    let seen = joiner.call(LIST_PROJECTS, json!({"orgId": north.id})).await.ok();
    assert_eq!(seen["projects"].as_array().unwrap().iter().map(|p| &p["name"]).collect::<Vec<_>>(), ["open"]);
    joiner.call(JOIN, json!({"id": open})).await.ok();
    assert_eq!(held(joiner).await, [json!({"role": "USER", "orgId": north.id, "projectId": open})]);
    joiner.call(JOIN, json!({"id": open})).await.refused("already_exists");
    let in_first = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "x"}});
    hidden(&joiner.call(CREATE_NOTE, in_first).await);
    hidden(&joiner.call(GET_PROJECT, json!({"id": north.projects[0]})).await);
    server.stop().await;
}

#[tokio::test]
async fn an_org_is_found_by_strangers_only_if_it_wants_to_be() {
    let (server, world) = World::start().await;
    let (north, south) = (&world.north, &world.south);
    let names = async |person: &Person, path: &str| {
        let page = person.call(path, json!({})).await.ok();
        let orgs = page["orgs"].as_array().cloned().unwrap_or_default();
        orgs.iter().map(|org| org["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(names(&world.stranger, LIST_OTHER_ORGS).await.is_empty());
    hidden(&world.stranger.call(GET_ORG, json!({"id": north.id})).await);
    let listed = json!({"id": north.id, "listed": true, "contact": "office@example.org"});
    north.admin.call(UPDATE_ORG, json!({"org": listed, "updateMask": "listed,contact"})).await.ok();
    assert_eq!(names(&world.stranger, LIST_OTHER_ORGS).await, ["north"]);
    assert_eq!(names(&south.admin, LIST_OTHER_ORGS).await, ["north"]);
    assert_eq!(names(&south.admin, LIST_ORGS).await, ["north", "south"]);
    assert!(names(&north.guest, LIST_OTHER_ORGS).await.is_empty(), "his own is no other");
    // Found is not entered: what is for members stays with them.
    let seen = world.stranger.call(GET_ORG, json!({"id": north.id})).await.ok();
    assert!(seen.get("contact").is_none(), "{seen}");
    assert_eq!(north.guest.call(GET_ORG, json!({"id": north.id})).await.text("contact"), "office@example.org");
    let by_contact = json!({"filter": "contact == \"office@example.org\""});
    let page = world.stranger.call(LIST_ORGS, by_contact).await.ok();
    assert!(page.get("orgs").is_none(), "a filter shows what is hidden: {page}");
    for path in [MEMBERS, INVITATIONS, ROLES] {
        hidden(&world.stranger.call(path, json!({"orgId": north.id})).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_logo_is_a_picture_of_bounded_size_or_is_refused() {
    let (server, world) = World::start().await;
    let (north, root) = (&world.north, &world.superadmin);
    let mut too_large = b"\x89PNG\r\n\x1a\n".to_vec();
    too_large.resize(256 * 1024 + 1, 0);
    let good = BASE64.encode(b"\xff\xd8\xff\xe0 a picture");
    for bad in [&b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"[..], b"%PDF-1.7", &too_large] {
        let bad = BASE64.encode(bad);
        let org = root.call(CREATE_ORG, json!({"name": "x", "contact": "x@example.org", "logo": bad})).await;
        assert_eq!(org.refused("invalid_argument").fields(), ["logo"]);
        let change = json!({"org": {"id": north.id, "logo": bad}, "updateMask": "logo"});
        assert_eq!(north.admin.call(UPDATE_ORG, change).await.refused("invalid_argument").fields(), ["org.logo"]);
        let project = json!({"orgId": north.id, "name": "x", "logo": bad});
        assert_eq!(north.admin.call(CREATE_PROJECT, project).await.refused("invalid_argument").fields(), ["logo"]);
    }
    // Fault 19: a logo can be changed, and comes back as it went in.
    for logo in [good.as_str(), ""] {
        let change = json!({"org": {"id": north.id, "logo": logo}, "updateMask": "logo"});
        north.admin.call(UPDATE_ORG, change).await.ok();
        let seen = north.guest.call(GET_ORG, json!({"id": north.id})).await.ok();
        assert_eq!(seen["logo"].as_str().unwrap_or_default(), logo);
    }
    server.stop().await;
}

#[tokio::test]
async fn who_runs_the_server_has_no_door_to_what_is_in_an_org() {
    let (server, world) = World::start().await;
    let (north, root) = (&world.north, &world.superadmin);
    let note = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "ours", "published": true}});
    let note = north.project_user.call(CREATE_NOTE, note).await.text("id");
    hidden(&root.call(GET_NOTE, json!({"id": note})).await);
    hidden(&root.call(LIST_NOTES, json!({"orgId": north.id})).await);
    for path in [MEMBERS, INVITATIONS, ROLES] {
        hidden(&root.call(path, json!({"orgId": north.id})).await);
    }
    // He cannot make himself one of them, by no way that leads there.
    let me = json!({"orgId": north.id, "accountId": root.account_id, "role": "ADMIN"});
    hidden(&root.call(ASSIGN, me.clone()).await);
    assert!(!north.admin.call(ASSIGN, me).await.is_ok());
    for role in ["ADMIN", "USER"] {
        hidden(&root.call(INVITE, json!({"orgId": north.id, "email": root.email, "role": role})).await);
    }
    let token = invited(&server, &north.admin, &north.id, &root.email, "USER").await;
    let refused = root.call(ACCEPT, json!({"token": token})).await;
    assert_eq!(refused.refused("permission_denied").reason(), "SUPERADMIN_IN_ORG");
    let own = root.call(CREATE_ORG, json!({"name": "mine", "adminEmail": root.email})).await.ok();
    let refused = root.call(MY_INVITATIONS, json!({})).await.ok();
    for invitation in refused["invitations"].as_array().unwrap() {
        root.call(ACCEPT, json!({"id": invitation["id"]})).await.refused("permission_denied");
    }
    hidden(&root.call(LIST_NOTES, json!({"orgId": own["id"]})).await);
    let open = json!({"orgId": north.id, "name": "open", "open": true});
    let open = north.admin.call(CREATE_PROJECT, open).await.text("id");
    root.call(JOIN, json!({"id": open})).await.refused("permission_denied");
    assert_eq!(held(root).await, [json!({"role": "SUPERADMIN"})]);
    server.stop().await;
}

#[tokio::test]
async fn one_tenant_sees_nothing_of_another() {
    let (server, world) = World::start().await;
    let (north, south) = (&world.north, &world.south);
    let note = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "ours", "published": true}});
    let note = north.project_user.call(CREATE_NOTE, note).await.text("id");
    for person in south.people().into_iter().chain([&world.stranger]) {
        hidden(&person.call(GET_NOTE, json!({"id": note})).await);
        hidden(&person.call(GET_ORG, json!({"id": north.id})).await);
        hidden(&person.call(GET_PROJECT, json!({"id": north.projects[0]})).await);
        for path in [MEMBERS, INVITATIONS, ROLES] {
            hidden(&person.call(path, json!({"orgId": north.id})).await);
        }
        let everything = [
            person.call(LIST_NOTES, json!({"orgId": north.id})).await,
            person.call(LIST_PROJECTS, json!({})).await,
            person.call(LIST_PROJECTS, json!({"orgId": north.id})).await,
            person.call(LIST_ORGS, json!({})).await,
            person.call(LIST_OTHER_ORGS, json!({})).await,
            person.call("sys.account.v1.AccountService/ListAccounts", json!({})).await,
            person.call("sys.account.v1.AccountService/SearchAccounts", json!({"query": north.user.email})).await,
        ];
        let secrets = [&note, &north.id, &north.projects[0], &north.user.account_id];
        for answer in everything {
            let text = answer.body.to_string();
            assert!(!secrets.iter().any(|secret| text.contains(*secret)), "{} sees {text}", person.email);
        }
        // A page of the others' list does not open it either.
        let one = json!({"orgId": north.id, "pageSize": 1, "pageToken": "AAAA"});
        assert!(!person.call(LIST_NOTES, one).await.is_ok());
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_reaches_what_is_in_an_org_that_was_closed() {
    let (server, world) = World::start().await;
    let north = &world.north;
    let note = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "ours", "published": true}});
    let id = north.project_user.call(CREATE_NOTE, note.clone()).await.text("id");
    let token = invited(&server, &north.admin, &north.id, &world.stranger.email, "ADMIN").await;
    for other in [&north.user, &north.project_admin, &world.south.admin] {
        hidden(&other.call(DELETE_ORG, json!({"id": north.id})).await);
    }
    north.admin.call(DELETE_ORG, json!({"id": north.id, "etag": "stale"})).await.refused("aborted");
    north.admin.call(DELETE_ORG, json!({"id": north.id})).await.ok();
    for person in north.people() {
        assert!(held(person).await.is_empty());
        hidden(&person.call(GET_NOTE, json!({"id": id})).await);
        hidden(&person.call(CREATE_NOTE, note.clone()).await);
    }
    hidden(&world.stranger.call(ACCEPT, json!({"token": token})).await);
    hidden(&world.superadmin.call(GET_PROJECT, json!({"id": north.projects[0]})).await);
    let again = json!({"orgId": north.id, "email": "x@example.org", "role": "ADMIN"});
    world.superadmin.call(INVITE, again).await.refused("failed_precondition");
    world.south.admin.call(LIST_NOTES, json!({"orgId": world.south.id})).await.ok();
    server.stop().await;
}
