//! Sessions that are bound to the key of a device: how they come to it, and what a copy of their tokens is good for.

use super::harness::{Connection, PASSWORD, Person, Server, person, refused};
use serde_json::{Value, json};

const OWN: Connection = Connection::Certificate(1);
const ELSEWHERE: [Connection; 3] = [Connection::Plain, Connection::Tls, Connection::Certificate(2)];

async fn refresh(server: &Server, over: Connection, who: &Person) -> Result<Person, (String, String)> {
    server.come_over(over);
    let pair = server.call(None, "AuthService/Refresh", json!({"refreshToken": who.refresh})).await?;
    Ok(person(&who.email, &pair))
}

async fn is_in(server: &Server, over: Connection, who: &Person) -> bool {
    server.come_over(over);
    server.call(Some(who), "AuthService/WhoAmI", json!({})).await.is_ok()
}

/// Somebody whose session is bound.
async fn bound(server: &Server, name: &str) -> Person {
    let email = server.person(name).await.email;
    server.come_over(OWN);
    server.log_in(&email, PASSWORD).await.unwrap()
}

/// The methods that hand out tokens, by their contract: each binds, or goes on with what is bound.
fn methods_that_hand_out_tokens() -> Vec<String> {
    let contract = sys_account::module::contract().unwrap();
    let hands_out =
        |method: &&sys_contract::model::Method| method.descriptor.output().get_field_by_name("access_token").is_some();
    let methods = contract.services.iter().flat_map(|service| &service.methods).filter(hands_out);
    methods.map(|method| method.descriptor.name().to_owned()).collect()
}

#[tokio::test]
async fn every_way_to_begin_a_session_binds_it() {
    assert_eq!(methods_that_hand_out_tokens(), ["Login", "Refresh", "Setup"], "a new one needs its line here");
    let server = Server::new().await;
    server.come_over(OWN);
    let root = server.superadmin().await;
    let ada = bound(&server, "ada").await;
    let refreshed = refresh(&server, OWN, &ada).await.unwrap();
    for who in [&root, &refreshed] {
        assert!(is_in(&server, OWN, who).await);
        for over in ELSEWHERE {
            assert!(!is_in(&server, over, who).await, "{over:?}");
        }
        server.come_over(OWN);
        let listed = server.call(Some(who), "SessionService/ListSessions", json!({})).await.unwrap();
        assert_eq!(listed["sessions"][0]["boundToDevice"], true, "the newest");
    }
}

#[tokio::test]
async fn a_copied_refresh_token_is_good_for_nothing_and_does_not_log_its_owner_out() {
    let server = Server::new().await;
    let first = bound(&server, "ada").await;
    let second = refresh(&server, OWN, &first).await.unwrap();
    for over in ELSEWHERE {
        for copied in [&first, &second] {
            refused(refresh(&server, over, copied).await.map(|_| Value::Null), "unauthenticated");
        }
    }
    let third = refresh(&server, OWN, &second).await.expect("the owner is still logged in");
    assert!(is_in(&server, OWN, &third).await);
    // With the key it is as ever: an old token was used twice, by whoever has the device.
    refused(refresh(&server, OWN, &second).await.map(|_| Value::Null), "unauthenticated");
    assert!(!is_in(&server, OWN, &third).await);
}

#[tokio::test]
async fn who_knocks_with_a_copied_refresh_token_does_not_slow_its_owner_down() {
    let server = Server::throttled(3).await;
    let ada = bound(&server, "ada").await;
    let knock = async || refresh(&server, Connection::Certificate(2), &ada).await.unwrap_err().0;
    let knocks = [knock().await, knock().await, knock().await, knock().await];
    assert_eq!(knocks, ["unauthenticated", "unauthenticated", "unauthenticated", "resource_exhausted"]);
    refresh(&server, OWN, &ada).await.unwrap();
}

#[tokio::test]
async fn a_session_is_bound_by_a_login_alone() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    // Whoever shows a certificate later binds nothing: it may be a thief's.
    let later = refresh(&server, OWN, &ada).await.unwrap();
    for over in ELSEWHERE {
        assert!(is_in(&server, over, &later).await, "{over:?}");
    }
    let step_up = server.call(Some(&later), "AuthService/StepUp", json!({"password": PASSWORD})).await;
    step_up.unwrap();
    assert!(is_in(&server, Connection::Plain, &later).await);
    // Another login is another session, of another key if it shows one; the first goes on.
    let first = bound(&server, "bob").await;
    server.come_over(Connection::Certificate(2));
    let second = server.log_in(&first.email, PASSWORD).await.unwrap();
    assert!(is_in(&server, OWN, &first).await && !is_in(&server, OWN, &second).await);
    assert!(is_in(&server, Connection::Certificate(2), &second).await);
}

#[tokio::test]
async fn the_audit_log_shows_connections_and_tokens_that_came_without_their_key() {
    let server = Server::new().await;
    server.come_over(OWN);
    let root = server.superadmin().await;
    let ada = bound(&server, "ada").await;
    refresh(&server, Connection::Certificate(2), &ada).await.unwrap_err();
    let newer = refresh(&server, OWN, &ada).await.unwrap();
    assert!(!is_in(&server, Connection::Plain, &newer).await);
    server.come_over(OWN);
    let entries = async || {
        let listed = server.call(Some(&root), "AuditService/ListSystemAudit", json!({"oldestFirst": true})).await;
        listed.unwrap()["entries"].as_array().unwrap().clone()
    };
    let path = |entry: &Value| entry["method"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut listed = entries().await;
    while !listed.iter().any(|entry| path(entry) == "WhoAmI") {
        // Refusals are stored within a second.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        listed = entries().await;
    }
    let of = |method: &str| -> Vec<&Value> { listed.iter().filter(|entry| path(entry) == method).collect() };
    let own = json!({"tlsVersion": "TLS 1.3", "tlsGroup": "X25519MLKEM768", "echAccepted": true, "certificate": "01".repeat(8)});
    let refreshed = of("Refresh");
    let (good, bad): (Vec<_>, Vec<_>) = refreshed.into_iter().partition(|entry| entry["outcome"] == "OK");
    assert_eq!((&good[0]["connection"], &good[0]["deviceKey"]), (&own, &json!("AUDIT_DEVICE_KEY_SHOWN")));
    assert_eq!(bad[0]["connection"]["certificate"], "02".repeat(8));
    assert_eq!(bad[0]["deviceKey"], "AUDIT_DEVICE_KEY_NOT_SHOWN");
    let account = ada.account.split_once('_').unwrap().1;
    assert!(bad[0]["recordIds"].to_string().contains(account), "whose token it was: {}", bad[0]);
    let stolen = of("WhoAmI");
    assert_eq!((&stolen[0]["accountId"], stolen[0].get("connection")), (&json!(ada.account), None));
    assert_eq!((&stolen[0]["outcome"], &stolen[0]["deviceKey"]), (&json!("TOKEN_REFUSED"), &bad[0]["deviceKey"]));
    assert_eq!(of("Register")[0].get("deviceKey"), None);
}
