//! The list of sessions, ending them, and showing one's password again.

use super::harness::{PASSWORD, Person, Server, id_of, person, refused};
use serde_json::{Value, json};
use sys_core::identity::limits::MAX_SESSIONS_PER_ACCOUNT;

/// Longer than a shown password counts as shown lately.
const LONG_S: i64 = 601;

async fn log_in(server: &Server, email: &str, device: &str) -> Person {
    let request = json!({"email": email, "password": PASSWORD, "deviceName": device});
    person(email, &server.call(None, "AuthService/Login", request).await.unwrap())
}

async fn refreshed(server: &Server, who: &Person) -> Person {
    let pair = server.call(None, "AuthService/Refresh", json!({"refreshToken": who.refresh})).await.unwrap();
    person(&who.email, &pair)
}

/// Somebody who is logged in for longer than his password counts as shown lately.
async fn stale(server: &Server, who: &Person) -> Person {
    server.wait_s(LONG_S);
    refreshed(server, who).await
}

async fn sessions(server: &Server, who: &Person) -> Vec<Value> {
    let listed = server.call(Some(who), "SessionService/ListSessions", json!({})).await.unwrap();
    listed["sessions"].as_array().cloned().unwrap_or_default()
}

async fn is_in(server: &Server, who: &Person) -> bool {
    server.call(Some(who), "AuthService/WhoAmI", json!({})).await.is_ok()
}

#[tokio::test]
async fn somebody_sees_where_he_is_logged_in_by_device_country_and_time_and_no_address() {
    let mut server = Server::new().await;
    let email = server.person("ada").await.email;
    server.come_from([198, 51, 100, 7]);
    let abroad = log_in(&server, &email, "Telephone").await;
    let listed = sessions(&server, &abroad).await;
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0]["deviceName"], &listed[0]["country"]), (&json!("Telephone"), &json!("CH")), "newest first");
    assert_eq!((&listed[0]["current"], &listed[1]["current"]), (&json!(true), &json!(null)));
    assert_eq!(listed[1].get("country"), None, "the table does not know");
    for field in ["createdAt", "lastUsedAt", "expiresAt"] {
        assert!(listed[0][field].is_string(), "{field}");
    }
    assert!(!json!(listed).to_string().contains("198.51"));
    // Back home it is seen from there.
    server.come_from([127, 0, 0, 1]);
    server.wait_s(60);
    let home = refreshed(&server, &abroad).await;
    let later = sessions(&server, &home).await;
    assert_eq!(later[0].get("country"), None);
    assert!(later[0]["lastUsedAt"].as_str() > listed[0]["lastUsedAt"].as_str());
    assert_eq!(later[1]["lastUsedAt"], listed[1]["lastUsedAt"], "another session's use is its own");
}

#[tokio::test]
async fn a_session_is_ended_by_its_owner_and_by_nobody_else() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let lost = log_in(&server, &ada.email, "Lost").await;
    let id = |sessions: &[Value], device: &str| {
        sessions.iter().find(|row| row["deviceName"] == device).map(id_of).expect("a session")
    };
    let lost_id = id(&sessions(&server, &ada).await, "Lost");
    let revoke =
        async |who: &Person, id: &str| server.call(Some(who), "SessionService/RevokeSession", json!({"id": id})).await;
    refused(revoke(&bob, &lost_id).await, "not_found");
    refused(revoke(&ada, "session_x").await, "invalid_argument");
    assert!(is_in(&server, &lost).await);
    revoke(&ada, &lost_id).await.unwrap();
    assert!(!is_in(&server, &lost).await && is_in(&server, &ada).await);
    let again = server.call(None, "AuthService/Refresh", json!({"refreshToken": lost.refresh})).await;
    refused(again, "unauthenticated");
    refused(revoke(&ada, &lost_id).await, "not_found");
    // One's own, as by logging out.
    let own = sessions(&server, &ada).await.iter().find(|row| row["current"] == true).map(id_of).unwrap();
    revoke(&ada, &own).await.unwrap();
    assert!(!is_in(&server, &ada).await);
}

#[tokio::test]
async fn all_sessions_end_at_once_by_who_shows_his_password() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let others = [log_in(&server, &ada.email, "a").await, log_in(&server, &ada.email, "b").await];
    let bob = server.person("bob").await;
    let thief = stale(&server, &ada).await;
    let revoke = async |who: &Person, keep: bool| {
        server.call(Some(who), "SessionService/RevokeAllSessions", json!({"keepCurrent": keep})).await
    };
    refused(revoke(&thief, false).await, "permission_denied");
    let guess = server.call(Some(&thief), "AuthService/StepUp", json!({"password": "a long guess"})).await;
    refused(guess, "permission_denied");
    refused(revoke(&thief, false).await, "permission_denied");
    let owner = thief;
    let shown = server.call(Some(&owner), "AuthService/StepUp", json!({"password": PASSWORD})).await.unwrap();
    assert!(shown["freshUntil"].is_string());
    revoke(&owner, true).await.unwrap();
    assert!(is_in(&server, &owner).await);
    for other in &others {
        let again = server.call(None, "AuthService/Refresh", json!({"refreshToken": other.refresh})).await;
        refused(again, "unauthenticated");
    }
    let another = log_in(&server, &ada.email, "c").await;
    revoke(&owner, false).await.unwrap();
    assert!(!is_in(&server, &owner).await && !is_in(&server, &another).await);
    assert!(is_in(&server, &refreshed(&server, &bob).await).await, "nobody else's");
}

#[tokio::test]
async fn a_token_alone_deletes_nothing_and_makes_nobody_an_admin() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    let project = server.project(&ada, &org, "Quay", false).await;
    server.join(&ada, &bob, &org, "", "USER").await;
    let thief = stale(&server, &ada).await;
    let assign = |role: &str| json!({"orgId": org, "accountId": bob.account, "role": role});
    let invite = |role: &str| json!({"orgId": org, "email": "eve@example.org", "role": role});
    let dangerous = [
        ("MembershipService/AssignRole", assign("ADMIN")),
        ("MembershipService/Invite", invite("ADMIN")),
        ("ProjectService/DeleteProject", json!({"id": project})),
        ("OrgService/DeleteOrg", json!({"id": org})),
        ("AccountService/DeleteAccount", json!({"id": ada.account})),
    ];
    for (method, request) in &dangerous {
        let refusal = server.call(Some(&thief), method, request.clone()).await;
        assert_eq!(refused(refusal, "permission_denied"), "show your password again to do this", "{method}");
    }
    // Everyday work is not held up by it.
    for (method, request) in [
        ("MembershipService/AssignRole", assign("GUEST")),
        ("MembershipService/Invite", invite("USER")),
        ("OrgService/UpdateOrg", json!({"org": {"id": org, "description": "x"}, "updateMask": "description"})),
    ] {
        server.call(Some(&thief), method, request).await.unwrap();
    }
    server.call(Some(&thief), "AuthService/StepUp", json!({"password": PASSWORD})).await.unwrap();
    for (method, request) in dangerous {
        server.call(Some(&thief), method, request).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_what_else_it_opened() {
    const NEXT: &str = "another long password";
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let other = log_in(&server, &ada.email, "other").await;
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    let token = server.token_for(&ada.email).await;
    let change = async |password: &str, next: &str| {
        let request = json!({"password": password, "newPassword": next});
        server.call(Some(&ada), "AuthService/ChangePassword", request).await
    };
    refused(change("not the password", NEXT).await, "permission_denied");
    refused(change(PASSWORD, "short").await, "invalid_argument");
    assert!(is_in(&server, &other).await, "nothing has changed");
    change(PASSWORD, NEXT).await.unwrap();
    assert!(is_in(&server, &ada).await, "this session goes on");
    assert!(!is_in(&server, &other).await);
    let reset = json!({"token": token, "newPassword": "a third long password"});
    refused(server.call(None, "AuthService/ResetPassword", reset).await, "unauthenticated");
    refused(server.log_in(&ada.email, PASSWORD).await.map(|_| json!(null)), "unauthenticated");
    server.log_in(&ada.email, NEXT).await.unwrap();
    refused(change(PASSWORD, PASSWORD).await, "permission_denied");
    assert!(server.mail_to(&ada.email).await.subject.contains("password was changed"));
}

#[tokio::test]
async fn the_list_is_bounded_by_how_many_sessions_there_may_be() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    for _ in 0..MAX_SESSIONS_PER_ACCOUNT {
        log_in(&server, &ada.email, "d").await;
    }
    let newest = log_in(&server, &ada.email, "newest").await;
    let listed = sessions(&server, &newest).await;
    assert_eq!(listed.len(), MAX_SESSIONS_PER_ACCOUNT);
    assert_eq!(listed[0]["deviceName"], "newest");
}

#[tokio::test]
async fn the_operator_ends_the_sessions_and_tokens_of_everybody_at_once() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    let token = server.token_for(&ada.email).await;
    let org = server.org(&ada, "Harbour").await;
    let invite = json!({"orgId": org, "email": bob.email, "role": "ADMIN"});
    let invited = server.call(Some(&ada), "MembershipService/Invite", invite).await.unwrap();
    let invitation = server.token_for(&bob.email).await;
    assert!(is_in(&server, &ada).await && is_in(&server, &bob).await);
    let ended = server.monitor.danger_end_sessions().await.unwrap();
    assert_eq!((ended.sessions, ended.tokens, ended.invitations), (2, 1, 1));
    // At once, although their callers are known to the server.
    assert!(!is_in(&server, &ada).await && !is_in(&server, &bob).await);
    let reset = json!({"token": token, "newPassword": "another long passphrase"});
    refused(server.call(None, "AuthService/ResetPassword", reset).await, "unauthenticated");
    let bob = log_in(&server, &bob.email, "").await;
    assert!(is_in(&server, &bob).await);
    for key in [json!({"token": invitation}), json!({"id": invited["id"]})] {
        refused(server.call(Some(&bob), "MembershipService/AcceptInvitation", key).await, "not_found");
    }
}
