//! Registration, login, refresh, passwords, setup.

use super::harness::{PASSWORD, Server, person, refused};
use serde_json::json;

#[tokio::test]
async fn somebody_registers_proves_the_address_logs_in_and_out() {
    let server = Server::new().await;
    let email = server.register("ada").await;
    for password in [PASSWORD, "wrong password"] {
        assert_eq!(server.log_in(&email, password).await.unwrap_err().0, "unauthenticated", "not proven yet");
    }
    let token = server.token_for(&email).await;
    let wrong =
        server.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": "another password"})).await;
    refused(wrong, "unauthenticated");
    server.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": PASSWORD})).await.unwrap();
    let again = server.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": PASSWORD})).await;
    refused(again, "unauthenticated");
    let ada = server.log_in(" ADA@EXAMPLE.ORG ", PASSWORD).await.unwrap();
    let who = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!((who["email"].as_str(), who["displayName"].as_str()), (Some("ada@example.org"), Some("ada")));
    assert_eq!(who["accountId"].as_str(), Some(ada.account.as_str()));
    assert_eq!(who["verified"], true);
    server.call(Some(&ada), "AuthService/Logout", json!({})).await.unwrap();
    refused(server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    refused(server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await, "unauthenticated");
}

#[tokio::test]
async fn what_a_stranger_sees_does_not_tell_whether_an_address_has_an_account() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let register = async |email: &str| {
        server
            .call(None, "AuthService/Register", json!({"email": email, "password": PASSWORD, "displayName": "x"}))
            .await
    };
    assert_eq!(register(&ada.email).await, register("new@example.org").await);
    let forgot = async |email: &str| server.call(None, "AuthService/ForgotPassword", json!({"email": email})).await;
    assert_eq!(forgot(&ada.email).await, forgot("nobody@example.org").await);
    let wrong = async |email: &str| server.log_in(email, "wrong password").await.unwrap_err();
    assert_eq!(wrong(&ada.email).await, wrong("nobody@example.org").await);
    assert_eq!(wrong("new@example.org").await, wrong("nobody@example.org").await, "not proven yet");
    let org = server.org(&ada, "Harbour").await;
    let invite = async |email: &str| {
        let request = json!({"orgId": org, "email": email, "role": "USER"});
        let mut answer = server.call(Some(&ada), "MembershipService/Invite", request).await.unwrap();
        ["id", "email", "createdAt", "expiresAt"].iter().for_each(|field| answer[field] = json!(null));
        answer
    };
    assert_eq!(invite("root@example.org").await, invite("nobody@example.org").await);
    // Each got one mail.
    assert_eq!(server.mails_to("nobody@example.org", 2).await, 2);
    assert_eq!(server.mails_to("new@example.org", 1).await, 1);
}

#[tokio::test]
async fn fault_5_an_empty_token_takes_over_no_account() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    for token in ["", " ", "AAAA", &"A".repeat(43)] {
        let verify = server.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": PASSWORD})).await;
        assert!(verify.is_err(), "{token:?}");
        let reset = json!({"token": token, "newPassword": "another password"});
        assert!(server.call(None, "AuthService/ResetPassword", reset).await.is_err(), "{token:?}");
        let setup = json!({"token": token, "email": "eve@example.org", "password": PASSWORD});
        assert!(server.call(None, "AuthService/Setup", setup).await.is_err(), "{token:?}");
        assert!(server.call(None, "AuthService/Refresh", json!({"refreshToken": token})).await.is_err(), "{token:?}");
        let accept = json!({"token": token});
        assert!(server.call(Some(&ada), "MembershipService/AcceptInvitation", accept).await.is_err(), "{token:?}");
    }
    assert!(server.log_in(&ada.email, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_and_all_sessions_end() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    let token = server.token_for(&ada.email).await;
    let reset = json!({"token": token, "newPassword": "another password"});
    refused(
        server.call(None, "AuthService/ResetPassword", json!({"token": token, "newPassword": "short"})).await,
        "invalid_argument",
    );
    server.call(None, "AuthService/ResetPassword", reset.clone()).await.unwrap();
    refused(server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    refused(server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await, "unauthenticated");
    refused(server.call(None, "AuthService/ResetPassword", reset).await, "unauthenticated");
    assert!(server.log_in(&ada.email, PASSWORD).await.is_err());
    server.log_in(&ada.email, "another password").await.unwrap();
    // A token that waits too long is none.
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    assert_eq!(server.mails_to(&ada.email, 2).await, 2, "that the password was changed, and the new token");
    let token = server.token_for(&ada.email).await;
    server.wait_s(3_600);
    refused(
        server.call(None, "AuthService/ResetPassword", json!({"token": token, "newPassword": PASSWORD})).await,
        "unauthenticated",
    );
}

#[tokio::test]
async fn fault_1_an_access_token_ends_after_ten_minutes_and_is_refreshed() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    server.wait_s(590);
    server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    server.wait_s(10);
    refused(server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    let pair = server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await.unwrap();
    let again = person(&ada.email, &pair);
    server.call(Some(&again), "AuthService/WhoAmI", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_replayed_refresh_token_ends_the_session_though_the_call_is_refused() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let pair = server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await.unwrap();
    let newest = person(&ada.email, &pair);
    server.call(Some(&newest), "AuthService/WhoAmI", json!({})).await.unwrap();
    refused(server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await, "unauthenticated");
    refused(server.call(Some(&newest), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    refused(server.call(None, "AuthService/Refresh", json!({"refreshToken": newest.refresh})).await, "unauthenticated");
}

#[tokio::test]
async fn the_first_superadmin_is_made_once_and_has_no_default_password() {
    let server = Server::new().await;
    let token = server.setup_token().await.unwrap();
    let request = json!({"token": token, "email": "root@example.org", "password": PASSWORD});
    let late = server.setup_token().await.unwrap();
    refused(server.call(None, "AuthService/Setup", request).await, "unauthenticated");
    let request = json!({"token": late, "email": "root@example.org", "password": PASSWORD});
    let pair = server.call(None, "AuthService/Setup", request.clone()).await.unwrap();
    let root = person("root@example.org", &pair);
    let who = server.call(Some(&root), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!(who["bindings"], json!([{"role": "SUPERADMIN"}]));
    refused(server.call(None, "AuthService/Setup", request).await, "unauthenticated");
    assert!(server.setup_token().await.is_none());
    assert!(server.log_in("root@example.org", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn fault_4_no_answer_holds_a_password_hash() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let org = server.org(&ada, "Harbour").await;
    for (method, request) in [
        ("AccountService/GetAccount", json!({"id": ada.account})),
        ("AccountService/ListAccounts", json!({})),
        ("AccountService/SearchAccounts", json!({"query": "ada"})),
        ("AuthService/WhoAmI", json!({})),
        ("MembershipService/ListMemberships", json!({"orgId": org})),
    ] {
        let text = server.call(Some(&ada), method, request).await.unwrap().to_string();
        assert!(text.contains(&ada.account), "{method}: {text}");
        assert!(!text.contains("argon2") && !text.to_lowercase().contains("password"), "{method}: {text}");
    }
}

#[tokio::test]
async fn an_account_is_its_persons_own() {
    let server = Server::new().await;
    let (ada, eve) = (server.person("ada").await, server.person("eve").await);
    let get = json!({"id": ada.account});
    refused(server.call(Some(&eve), "AccountService/GetAccount", get.clone()).await, "not_found");
    // She could not disable any account at all; one of her own she could delete, so that this is about which it is.
    for (method, code) in [
        ("DeleteAccount", "not_found"),
        ("DisableAccount", "permission_denied"),
        ("EnableAccount", "permission_denied"),
    ] {
        refused(server.call(Some(&eve), &format!("AccountService/{method}"), get.clone()).await, code);
    }
    let rename = |name: &str| json!({"account": {"id": ada.account, "displayName": name}, "updateMask": "displayName"});
    refused(server.call(Some(&eve), "AccountService/UpdateAccount", rename("x")).await, "not_found");
    server.call(Some(&ada), "AccountService/UpdateAccount", rename("Ada Byron")).await.unwrap();
    let found = server.call(Some(&ada), "AccountService/SearchAccounts", json!({"query": "Ada B"})).await.unwrap();
    assert_eq!(found["accounts"][0]["displayName"], "Ada Byron");
    let found = server.call(Some(&eve), "AccountService/SearchAccounts", json!({"query": "Ada"})).await.unwrap();
    assert_eq!(found["accounts"].as_array().map_or(0, Vec::len), 0);
    server.call(Some(&ada), "AccountService/DeleteAccount", get).await.unwrap();
    refused(server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    assert!(server.log_in(&ada.email, PASSWORD).await.is_err());
}

#[tokio::test]
async fn fault_25_an_update_changes_what_its_mask_names_and_never_the_standing() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    for (mask, field) in [("disabled", json!(true)), ("verified", json!(false)), ("email", json!("eve@example.org"))] {
        let mut account = json!({"id": ada.account});
        account[mask] = field;
        let update = json!({"account": account, "updateMask": mask});
        let _ = server.call(Some(&ada), "AccountService/UpdateAccount", update).await;
        let now = server.call(Some(&ada), "AccountService/GetAccount", json!({"id": ada.account})).await.unwrap();
        assert_eq!((now["verified"].as_bool(), now["disabled"].as_bool()), (Some(true), None), "{mask}");
        assert_eq!(now["email"], "ada@example.org");
    }
    server.log_in(&ada.email, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn an_avatar_is_a_picture_of_bounded_size() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let update = async |bytes: Vec<u8>| {
        let avatar = data_encoding::BASE64.encode(&bytes);
        let request = json!({"account": {"id": ada.account, "avatar": avatar}, "updateMask": "avatar"});
        server.call(Some(&ada), "AccountService/UpdateAccount", request).await
    };
    let picture = |begin: &[u8], size: usize| {
        let mut bytes = begin.to_vec();
        bytes.resize(size, 0xa5);
        bytes
    };
    let (png, jpeg): (&[u8], &[u8]) = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0");
    for good in [picture(png, 100), picture(jpeg, 256 * 1024), picture(png, 256 * 1024), Vec::new()] {
        update(good.clone()).await.unwrap();
        let stored = server.call(Some(&ada), "AccountService/GetAccount", json!({"id": ada.account})).await.unwrap();
        let stored = data_encoding::BASE64.decode(stored["avatar"].as_str().unwrap_or_default().as_bytes()).unwrap();
        assert!(stored == good, "fault 19 and 20: changed, and not one byte else");
    }
    refused(update(picture(png, 256 * 1024 + 1)).await, "invalid_argument");
    for bad in [b"<svg onload=alert(1)>".to_vec(), b"GIF89a".to_vec(), vec![0]] {
        refused(update(bad).await, "invalid_argument");
    }
}

#[tokio::test]
async fn who_registers_anothers_address_does_not_choose_the_name_that_others_see() {
    let server = Server::new().await;
    let strangers = json!({"email": "ada@example.org", "password": "of a stranger", "displayName": "Rude"});
    server.call(None, "AuthService/Register", strangers.clone()).await.unwrap();
    server.token_for("ada@example.org").await;
    let email = server.register("ada").await;
    let token = server.token_for(&email).await;
    server.call(None, "AuthService/Register", strangers).await.unwrap();
    server.call(None, "AuthService/VerifyEmail", json!({"token": token, "password": PASSWORD})).await.unwrap();
    let ada = server.log_in(&email, PASSWORD).await.unwrap();
    let who = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!(who["displayName"], "ada");
}
