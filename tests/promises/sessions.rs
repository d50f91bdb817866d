//! Where somebody is logged in, how that ends, and what a token alone is not enough for.

use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use sys_core::{
    identity::limits,
    throttle::{Rate, Rates},
    token::ACCESS_TOKEN_S,
};
use sys_policy::FRESH_PROOF_S;
use sys_tests::{Options, PASSWORD, Person, TestServer, World};

const LIST: &str = "sys.account.v1.SessionService/ListSessions";
const REVOKE: &str = "sys.account.v1.SessionService/RevokeSession";
const REVOKE_ALL: &str = "sys.account.v1.SessionService/RevokeAllSessions";
const STEP_UP: &str = "sys.account.v1.AuthService/StepUp";
const CHANGE_PASSWORD: &str = "sys.account.v1.AuthService/ChangePassword";
const REFRESH: &str = "sys.account.v1.AuthService/Refresh";
const RESET: &str = "sys.account.v1.AuthService/ResetPassword";
const WHO_AM_I: &str = "sys.account.v1.AuthService/WhoAmI";
const DELETE_ORG: &str = "sys.account.v1.OrgService/DeleteOrg";

async fn refreshed(server: &TestServer, person: &Person) -> Person {
    let pair = server.call(REFRESH, json!({"refreshToken": person.refresh_token})).await.ok();
    server.person(&person.email, &pair)
}

async fn sessions(person: &Person) -> Vec<Value> {
    person.call(LIST, json!({})).await.ok()["sessions"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_session_is_listed_with_its_country_and_ended_by_its_owner_on_the_next_request() {
    let countries = "127.0.0.2,127.0.0.2,CH";
    let (server, world) = World::start_with(Options { countries, ..Options::default() }).await;
    let (here, other) = (&world.stranger, &world.north.user);
    let abroad = server.client().from_source(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
    let login = json!({"email": here.email, "password": PASSWORD, "deviceName": "Telephone"});
    let lost = server.person(&here.email, &abroad.call("sys.account.v1.AuthService/Login", login).await.ok());
    let listed = sessions(here).await;
    let row = listed.iter().find(|row| row["id"] == lost.session_id.as_str()).expect("the session");
    assert_eq!((&row["deviceName"], &row["country"]), (&json!("Telephone"), &json!("CH")));
    assert!(!json!(listed).to_string().contains("127.0.0"), "no address is kept");
    let revoke = json!({"id": lost.session_id});
    assert_eq!(other.call(REVOKE, revoke.clone()).await.refused("not_found").reason(), "NOT_FOUND");
    lost.call(WHO_AM_I, json!({})).await.ok();
    here.call(REVOKE, revoke).await.ok();
    lost.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.call(REFRESH, json!({"refreshToken": lost.refresh_token})).await.refused("unauthenticated");
    assert!(sessions(here).await.iter().all(|row| row["id"] != lost.session_id.as_str()));
    server.stop().await;
}

#[tokio::test]
async fn a_stolen_token_is_not_enough_for_what_cannot_be_undone() {
    let (server, world) = World::start().await;
    let admin = &world.north.admin;
    let elsewhere = server.log_in(&admin.email).await;
    server.advance_s(FRESH_PROOF_S + 1);
    let (admin, elsewhere) = (refreshed(&server, admin).await, refreshed(&server, &elsewhere).await);
    let delete = json!({"id": world.north.id});
    let refused = admin.call(DELETE_ORG, delete.clone()).await;
    assert_eq!(refused.refused("permission_denied").reason(), "STEP_UP_REQUIRED");
    assert!(refused.help().contains("StepUp"), "{}", refused.help());
    admin.call(REVOKE_ALL, json!({})).await.refused("permission_denied");
    let wrong = admin.call(STEP_UP, json!({"password": "a long enough guess"})).await;
    assert_eq!(wrong.refused("permission_denied").reason(), "PASSWORD_REFUSED");
    admin.call(DELETE_ORG, delete.clone()).await.refused("permission_denied");
    admin.call(STEP_UP, json!({"password": PASSWORD})).await.ok();
    // The proof is this session's, and old after ten minutes.
    let other = elsewhere.call(DELETE_ORG, delete.clone()).await;
    assert_eq!(other.refused("permission_denied").reason(), "STEP_UP_REQUIRED");
    server.advance_s(FRESH_PROOF_S + 1);
    let admin = refreshed(&server, &admin).await;
    admin.call(DELETE_ORG, delete.clone()).await.refused("permission_denied");
    admin.call(STEP_UP, json!({"password": PASSWORD})).await.ok();
    admin.call(DELETE_ORG, delete).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_is_told_so_and_not_asked_for_a_password() {
    let (server, world) = World::start().await;
    server.advance_s(FRESH_PROOF_S + 1);
    let stranger = refreshed(&server, &world.stranger).await;
    let refused = stranger.call(DELETE_ORG, json!({"id": world.north.id})).await;
    assert_eq!(refused.refused("permission_denied").reason(), "METHOD_REFUSED");
    server.call(DELETE_ORG, json!({"id": world.north.id})).await.refused("unauthenticated");
    server.call(STEP_UP, json!({"password": PASSWORD})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn a_password_that_is_changed_ends_all_sessions_but_its_own() {
    const NEXT: &str = "another long enough passphrase";
    let (server, world) = World::start().await;
    let (here, there) = (&world.stranger, server.log_in(&world.stranger.email).await);
    let change = |from: &str| json!({"password": from, "newPassword": NEXT});
    let wrong = here.call(CHANGE_PASSWORD, change("a long enough guess")).await;
    assert_eq!(wrong.refused("permission_denied").reason(), "PASSWORD_REFUSED");
    there.call(WHO_AM_I, json!({})).await.ok();
    here.call(CHANGE_PASSWORD, change(PASSWORD)).await.ok();
    there.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.call(REFRESH, json!({"refreshToken": there.refresh_token})).await.refused("unauthenticated");
    here.call(WHO_AM_I, json!({})).await.ok();
    refreshed(&server, here).await.call(WHO_AM_I, json!({})).await.ok();
    let login = |password: &str| json!({"email": here.email, "password": password});
    server.call("sys.account.v1.AuthService/Login", login(PASSWORD)).await.refused("unauthenticated");
    server.call("sys.account.v1.AuthService/Login", login(NEXT)).await.ok();
    server.mailbox().arrived(&here.email, "Your password was changed", 1).await;
    server.stop().await;
}

#[tokio::test]
async fn no_token_outlives_its_session() {
    let (server, world) = World::start().await;
    let begun = server.now_unix_s();
    let mut person = server.log_in(&world.stranger.email).await;
    while server.now_unix_s() - begun < limits::SESSION_LIFE_S - limits::SESSION_IDLE_S {
        server.advance_s(limits::SESSION_IDLE_S - 60);
        person = refreshed(&server, &person).await;
    }
    // Five minutes before its end, its tokens have five minutes.
    let half = ACCESS_TOKEN_S / 2;
    server.advance_s(limits::SESSION_LIFE_S - half - (server.now_unix_s() - begun));
    person = refreshed(&server, &person).await;
    person.call(WHO_AM_I, json!({})).await.ok();
    server.advance_s(half + 1);
    person.call(WHO_AM_I, json!({})).await.refused("unauthenticated");
    server.stop().await;
}

#[tokio::test]
async fn who_shows_one_token_again_and_again_is_slowed_down_and_nobody_else() {
    const PER_MINUTE: u32 = 3;
    let many = 1_000_000.try_into().unwrap();
    let open = Rate { per_second: many, burst: many };
    let rates = Rates {
        source: open,
        account: open,
        sign_in_per_minute: PER_MINUTE.try_into().unwrap(),
        danger_nothing_else: true,
    };
    let (server, world) = World::start_with(Options { rates: Some(rates), ..Options::default() }).await;
    let (first, second) = (&world.stranger, &world.north.user);
    let used = json!({"refreshToken": first.refresh_token});
    server.call(REFRESH, used.clone()).await.ok();
    for _ in 1..PER_MINUTE {
        server.call(REFRESH, used.clone()).await.refused("unauthenticated");
    }
    assert_eq!(server.call(REFRESH, used).await.refused("resource_exhausted").reason(), "SIGN_IN_THROTTLED");
    refreshed(&server, second).await.call(WHO_AM_I, json!({})).await.ok();
    // A token that is there costs a hash each time; this one's password is no good, so that it stays.
    server.call("sys.account.v1.AuthService/ForgotPassword", json!({"email": second.email})).await.ok();
    let token = server.mailbox().token(&second.email, "new password").await;
    let verify = json!({"token": server.registered("ada@example.org").await, "password": "a long enough guess"});
    for _ in 0..PER_MINUTE {
        server.call("sys.account.v1.AuthService/VerifyEmail", verify.clone()).await.refused("unauthenticated");
    }
    server.call("sys.account.v1.AuthService/VerifyEmail", verify).await.refused("resource_exhausted");
    server.call(RESET, json!({"token": token, "newPassword": "another long enough one"})).await.ok();
    server.stop().await;
}
