//! Accounts: becoming somebody, proving it, and no longer being him. Nothing tells strangers who has an account.

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use sys_core::{identity::limits, throttle::Rates};
use sys_tests::{Client, Options, PASSWORD, Person, TestServer, World};

const REGISTER: &str = "sys.account.v1.AuthService/Register";
const VERIFY: &str = "sys.account.v1.AuthService/VerifyEmail";
const LOGIN: &str = "sys.account.v1.AuthService/Login";
const REFRESH: &str = "sys.account.v1.AuthService/Refresh";
const LOGOUT: &str = "sys.account.v1.AuthService/Logout";
const FORGOT: &str = "sys.account.v1.AuthService/ForgotPassword";
const RESET: &str = "sys.account.v1.AuthService/ResetPassword";
const SETUP: &str = "sys.account.v1.AuthService/Setup";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const CREATE_ACCOUNT: &str = "sys.account.v1.AccountService/CreateAccount";
const UPDATE_ACCOUNT: &str = "sys.account.v1.AccountService/UpdateAccount";
const GET_ACCOUNT: &str = "sys.account.v1.AccountService/GetAccount";
const DISABLE: &str = "sys.account.v1.AccountService/DisableAccount";
const ENABLE: &str = "sys.account.v1.AccountService/EnableAccount";
const INVITE: &str = "sys.account.v1.MembershipService/Invite";

const NEW_PASSWORD: &str = "another long passphrase";

/// The whole answer, as a stranger who compares bytes sees it.
async fn raw(client: &Client, path: &str, body: &Value) -> (u16, Bytes) {
    client.post(path, "application/json", Bytes::from(body.to_string())).await
}

fn login(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password})
}

async fn alive(person: &Person) -> bool {
    person.call(WHO_AM_I, json!({})).await.is_ok()
}

async fn refresh(server: &TestServer, token: &str) -> sys_tests::Answer {
    server.call(REFRESH, json!({"refreshToken": token})).await
}

#[tokio::test]
async fn no_answer_tells_whether_an_address_has_an_account() {
    let (server, world) = World::start().await;
    server.register("waiting@example.org").await;
    let (known, waiting, unknown) = (world.stranger.email.as_str(), "waiting@example.org", "unknown@example.org");
    let nobody = server.client();
    for (path, body) in [
        (FORGOT, json!({})),
        (REGISTER, json!({"password": NEW_PASSWORD, "displayName": "Somebody"})),
        (LOGIN, json!({"password": "not the password"})),
    ] {
        let mut answers = Vec::new();
        // An address without an account first: registering gives it one.
        for email in [unknown, waiting, known] {
            let mut body = body.clone();
            body["email"] = json!(email);
            answers.push(raw(&nobody, path, &body).await);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}: {answers:?}");
    }
    // An invitation answers with what was asked and a new id, whoever the address belongs to.
    let mut invitations = Vec::new();
    for email in [unknown, waiting, known] {
        let body = json!({"orgId": world.north.id, "email": email, "role": "GUEST"});
        let mut invitation = world.north.admin.call(INVITE, body).await.ok();
        assert_eq!(invitation["email"], email);
        for own in ["id", "email", "createdAt", "expiresAt"] {
            assert!(invitation.as_object_mut().unwrap().remove(own).is_some(), "{own}");
        }
        invitations.push(invitation);
    }
    assert!(invitations.iter().all(|invitation| *invitation == invitations[0]), "{invitations:?}");
    // The owner of the mailbox is told what strangers are not.
    let told = [
        (known, "Choose a new password"),
        (known, "You have an account already"),
        (unknown, "No password to choose"),
        (unknown, "Prove your address"),
        (waiting, "Prove your address"),
    ];
    for (email, subject) in told {
        server.mailbox().arrived(email, subject, 1).await;
    }
    assert!(server.call(LOGIN, login(known, PASSWORD)).await.is_ok(), "registering again changed nothing");
    server.stop().await;
}

#[tokio::test]
async fn an_address_is_proven_by_its_mailbox_and_the_password_or_not_at_all() {
    let server = TestServer::start().await;
    let email = "ada@example.org";
    let token = server.registered(email).await;
    // Who registers another's address and logs in with the password that he chose does not learn whether it had an account.
    for password in [PASSWORD, NEW_PASSWORD] {
        let answer = server.call(LOGIN, login(email, password)).await;
        let refused = answer.refused("unauthenticated");
        assert_eq!(refused.reason(), "LOGIN_REFUSED");
        assert!(refused.help().contains("the mail that proves your address"), "{}", refused.help());
    }
    server.call(VERIFY, json!({"token": token, "password": NEW_PASSWORD})).await.refused("unauthenticated");

    // Somebody else registers the address, too: each token goes with the password of its own registration.
    let seen = server.mailbox().count(email, "Prove your address");
    let other = json!({"email": email, "password": NEW_PASSWORD, "displayName": "Eve"});
    server.call(REGISTER, other).await.ok();
    let others = server.mailbox().token_after(email, "Prove your address", seen).await;
    server.call(VERIFY, json!({"token": others, "password": PASSWORD})).await.refused("unauthenticated");
    server.call(VERIFY, json!({"token": token, "password": PASSWORD})).await.ok();
    server.call(VERIFY, json!({"token": others, "password": NEW_PASSWORD})).await.refused("unauthenticated");
    assert!(!server.call(LOGIN, login(email, NEW_PASSWORD)).await.is_ok(), "the other's password counts");
    let person = server.log_in(email).await;
    assert_eq!(person.call(WHO_AM_I, json!({})).await.ok()["verified"], true);

    let late = server.registered("late@example.org").await;
    server.advance_s(limits::VERIFY_TOKEN_S + 1);
    server.call(VERIFY, json!({"token": late, "password": PASSWORD})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn one_person_has_one_account_however_the_address_is_typed() {
    let server = TestServer::start().await;
    server.verified("ada@example.org").await;
    for typed in ["ADA@example.org", " ada@EXAMPLE.org ", "Ada@Example.Org"] {
        server.call(LOGIN, login(typed, PASSWORD)).await.ok();
        let seen = server.mailbox().count("ada@example.org", "You have an account already");
        let again = json!({"email": typed, "password": NEW_PASSWORD, "displayName": "Somebody"});
        server.call(REGISTER, again).await.ok();
        server.mailbox().arrived("ada@example.org", "You have an account already", seen + 1).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_is_shown_twice_ends_its_session_at_once() {
    let (server, world) = World::start().await;
    let (first, elsewhere) = (&world.stranger, server.log_in(&world.stranger.email).await);
    let second = server.person(&first.email, &refresh(&server, &first.refresh_token).await.ok());
    let third = server.person(&first.email, &refresh(&server, &second.refresh_token).await.ok());
    assert_ne!(second.refresh_token, third.refresh_token);
    assert!(alive(first).await && alive(&third).await, "an access token lives out its time");
    // Nobody can tell a thief from the person: both are out.
    refresh(&server, &second.refresh_token).await.refused("unauthenticated");
    for person in [first, &second, &third] {
        person.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    }
    refresh(&server, &third.refresh_token).await.refused("unauthenticated");
    assert!(alive(&elsewhere).await, "another session is another's business");
    refresh(&server, &elsewhere.refresh_token).await.ok();
    // A made-up token ends nothing.
    let last = &elsewhere.refresh_token;
    let middle = last.len() / 2;
    let flipped = if last[middle..].starts_with('A') { "B" } else { "A" };
    let forged = format!("{}{flipped}{}", &last[..middle], &last[middle + 1..]);
    refresh(&server, &forged).await.refused("unauthenticated");
    assert!(alive(&elsewhere).await);
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends() {
    let server = TestServer::start().await;
    let person = server.verified("ada@example.org").await;
    server.advance_s(limits::SESSION_IDLE_S - 60);
    let person = server.person(&person.email, &refresh(&server, &person.refresh_token).await.ok());
    server.advance_s(limits::SESSION_IDLE_S + 1);
    refresh(&server, &person.refresh_token).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn who_logs_out_is_out_with_that_session_and_no_other() {
    let (server, world) = World::start().await;
    let (here, there) = (&world.stranger, server.log_in(&world.stranger.email).await);
    here.call(LOGOUT, json!({})).await.ok();
    here.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    refresh(&server, &here.refresh_token).await.refused("unauthenticated");
    assert!(alive(&there).await);
    server.stop().await;
}

#[tokio::test]
async fn a_new_password_ends_everything_that_the_old_one_opened() {
    let (server, world) = World::start().await;
    let (email, mailbox) = (world.stranger.email.as_str(), server.mailbox());
    let elsewhere = server.log_in(email).await;
    let mut tokens = Vec::new();
    for asked in 0..2 {
        server.call(FORGOT, json!({"email": email})).await.ok();
        tokens.push(mailbox.token_after(email, "Choose a new password", asked).await);
    }
    assert!(alive(&world.stranger).await, "asking changes nothing");
    let weak = server.call(RESET, json!({"token": tokens[0], "newPassword": "short"})).await;
    assert_eq!(weak.refused("invalid_argument").fields(), ["new_password"]);
    let reset = |token: &str| json!({"token": token, "newPassword": NEW_PASSWORD});
    server.call(RESET, reset(&tokens[0])).await.ok();
    for person in [&world.stranger, &elsewhere] {
        person.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
        refresh(&server, &person.refresh_token).await.refused("unauthenticated");
    }
    server.call(LOGIN, login(email, PASSWORD)).await.refused("unauthenticated");
    server.call(LOGIN, login(email, NEW_PASSWORD)).await.ok();
    for token in &tokens {
        server.call(RESET, reset(token)).await.refused("unauthenticated");
    }
    mailbox.arrived(email, "Your password was changed", 1).await;

    server.call(FORGOT, json!({"email": email})).await.ok();
    let late = mailbox.token_after(email, "Choose a new password", tokens.len()).await;
    server.advance_s(limits::RESET_TOKEN_S + 1);
    server.call(RESET, reset(&late)).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn the_setup_token_is_good_for_half_an_hour_and_once() {
    let server = TestServer::start().await;
    let first = server.setup_token.clone().unwrap();
    server.verified("taken@example.org").await;
    let setup = |token: &str, email: &str| json!({"token": token, "email": email, "password": PASSWORD});
    let taken = server.call(SETUP, setup(&first, "taken@example.org")).await;
    assert_eq!(taken.refused("already_exists").reason(), "EMAIL_TAKEN");
    server.advance_s(limits::SETUP_TOKEN_S + 1);
    server.call(SETUP, setup(&first, "root@example.org")).await.refused("unauthenticated");

    // The operator starts the server again and gets another; the older one stays dead.
    let kept = server.stop().await.unwrap();
    let again = || Options { data_dir: Some(kept.path().join("data")), ..Options::default() };
    let server = TestServer::start_with(again()).await;
    let second = server.setup_token.clone().unwrap();
    server.call(SETUP, setup(&first, "root@example.org")).await.refused("unauthenticated");
    let root = server.superadmin().await;
    let held = root.call(WHO_AM_I, json!({})).await.ok();
    assert_eq!(held["bindings"], json!([{"role": "SUPERADMIN"}]));
    server.call(SETUP, setup(&second, "second@example.org")).await.refused("unauthenticated");
    server.stop().await;
    let server = TestServer::start_with(again()).await;
    assert_eq!(server.setup_token, None, "there is a superadmin");
    server.stop().await;
}

#[tokio::test]
async fn guessing_at_an_account_slows_the_guesser_and_nobody_else() {
    const PER_MINUTE: u32 = 3;
    let many = 1_000_000.try_into().unwrap();
    let open = sys_core::throttle::Rate { per_second: many, burst: many };
    let rates = Rates {
        source: open,
        account: open,
        sign_in_per_minute: PER_MINUTE.try_into().unwrap(),
        danger_nothing_else: true,
    };
    let (server, world) = World::start_with(Options { rates: Some(rates), ..Options::default() }).await;
    let (victim, guesser) = (world.north.user.email.as_str(), server.client());
    for _ in 0..PER_MINUTE {
        guesser.call(LOGIN, login(victim, "a guess")).await.refused("unauthenticated");
    }
    let slowed = guesser.call(LOGIN, login(victim, PASSWORD)).await;
    assert_eq!(slowed.refused("resource_exhausted").reason(), "SIGN_IN_THROTTLED");
    // An address without an account slows down alike.
    for _ in 0..PER_MINUTE {
        guesser.call(LOGIN, login("nobody@example.org", "a guess")).await.refused("unauthenticated");
    }
    guesser.call(LOGIN, login("nobody@example.org", "a guess")).await.refused("resource_exhausted");
    let home = guesser.from_source(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    home.call(LOGIN, login(victim, PASSWORD)).await.ok();
    guesser.call(LOGIN, login(&world.north.admin.email, PASSWORD)).await.ok();
    assert!(alive(&world.north.user).await, "who is logged in already notices nothing");
    server.stop().await;
}

#[tokio::test]
async fn an_account_belongs_to_its_person_and_only_its_own_org_manages_it() {
    let (server, world) = World::start().await;
    let (north, south) = (&world.north, &world.south);
    let email = "managed@managed.example.org";
    let body = json!({"email": email, "displayName": "Managed", "managedByOrgId": north.id, "password": PASSWORD});
    for other in [&north.user, &north.project_admin, &south.admin, &world.stranger, &world.superadmin] {
        let answer = other.call(CREATE_ACCOUNT, body.clone()).await;
        assert!(["permission_denied", "not_found"].contains(&answer.code()), "{}: {answer:?}", other.email);
    }
    let id = north.admin.call(CREATE_ACCOUNT, body.clone()).await.text("id");
    assert_eq!(north.admin.call(CREATE_ACCOUNT, body).await.refused("already_exists").reason(), "EMAIL_TAKEN");
    // Beyond the org's own mail nobody is told anything: an address that has an account is refused like any other.
    for elsewhere in ["nobody@example.org", &world.stranger.email, "a@deep.managed.example.org"] {
        let body = json!({"email": elsewhere, "displayName": "X", "managedByOrgId": north.id, "password": PASSWORD});
        north.admin.call(CREATE_ACCOUNT, body).await.refused("permission_denied");
    }
    let managed = server.log_in(email).await;
    let held = managed.call(WHO_AM_I, json!({})).await.ok();
    assert!(held.get("bindings").is_none(), "made for him is not accepted by him: {held}");

    for other in [&north.user, &north.project_admin, &south.admin, &world.stranger, &managed] {
        assert!(!other.call(DISABLE, json!({"id": id})).await.is_ok(), "{}", other.email);
        assert!(alive(&managed).await);
    }
    for manager in [&north.admin, &world.superadmin] {
        let managed = server.log_in(email).await;
        assert_eq!(manager.call(DISABLE, json!({"id": id})).await.ok()["disabled"], true);
        managed.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
        server.call(LOGIN, login(email, PASSWORD)).await.refused("unauthenticated");
        manager.call(ENABLE, json!({"id": id})).await.ok();
    }
    // A member whom the org does not manage: its admins send him away, and that is all.
    for member in [&north.user, &north.guest] {
        assert!(!north.admin.call(DISABLE, json!({"id": member.account_id})).await.is_ok());
        assert!(alive(member).await);
    }
    // A superadmin shuts out whom he must, and changes nothing else of anybody.
    let seen = world.superadmin.call(GET_ACCOUNT, json!({"id": north.user.account_id})).await.ok();
    assert_eq!(seen["email"], north.user.email.as_str());
    let change = json!({"account": {"id": north.user.account_id, "displayName": "x"}, "updateMask": "displayName"});
    world.superadmin.call(UPDATE_ACCOUNT, change).await.refused("permission_denied");
    let delete = "sys.account.v1.AccountService/DeleteAccount";
    assert!(!world.superadmin.call(delete, json!({"id": north.user.account_id})).await.is_ok());
    world.superadmin.call(DISABLE, json!({"id": north.user.account_id})).await.ok();
    assert!(!alive(&north.user).await);
    server.stop().await;
}

#[tokio::test]
async fn an_account_made_for_a_person_opens_with_a_password_that_he_alone_chose() {
    let (server, world) = World::start().await;
    let email = "made@example.org";
    let with_password = json!({"email": email, "displayName": "Made", "password": PASSWORD});
    let refused = world.superadmin.call(CREATE_ACCOUNT, with_password).await;
    assert_eq!(refused.refused("invalid_argument").fields(), ["password"]);
    let made = world.superadmin.call(CREATE_ACCOUNT, json!({"email": email, "displayName": "Made"})).await.ok();
    assert!(made.get("verified").is_none(), "nobody has vouched for the address");
    for guess in ["", PASSWORD] {
        assert!(!server.call(LOGIN, login(email, guess)).await.is_ok(), "an account without a password");
    }
    let token = server.mailbox().token(email, "An account was made for you").await;
    server.call(RESET, json!({"token": token, "newPassword": PASSWORD})).await.ok();
    let person = server.log_in(email).await;
    assert_eq!(person.call(GET_ACCOUNT, json!({"id": person.account_id})).await.ok()["verified"], true);
    server.stop().await;
}

#[tokio::test]
async fn an_avatar_is_a_picture_of_bounded_size_or_is_refused() {
    let (server, world) = World::start().await;
    let person = &world.stranger;
    let set = async |bytes: &[u8]| {
        let next = json!({"id": person.account_id, "avatar": BASE64.encode(bytes)});
        person.call(UPDATE_ACCOUNT, json!({"account": next, "updateMask": "avatar"})).await
    };
    let png = |size: usize| {
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        bytes.resize(size, 0);
        bytes
    };
    for bytes in [&b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"[..], b"GIF89a", &png(256 * 1024 + 1)] {
        assert_eq!(set(bytes).await.refused("invalid_argument").fields(), ["account.avatar"], "{}", bytes.len());
    }
    let largest = png(256 * 1024);
    set(&largest).await.ok();
    let seen = person.call(GET_ACCOUNT, json!({"id": person.account_id})).await.text("avatar");
    assert_eq!(BASE64.decode(seen.as_bytes()).unwrap(), largest);
    set(b"").await.ok();
    server.stop().await;
}
