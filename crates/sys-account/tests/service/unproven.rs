//! Registrations whose address nobody has proven.

use super::harness::{PASSWORD, Person, Server, refused};
use serde_json::{Value, json};

const WEEK_S: i64 = 7 * 86_400;

async fn ask_address(server: &Server, who: &Person, new: &str) -> Value {
    server.call(Some(who), "AuthService/ChangeEmail", json!({"newEmail": new})).await.unwrap()
}

/// The addresses of all accounts that have a record.
async fn accounts(server: &Server, root: &Person) -> Vec<String> {
    let list = server.call(Some(root), "AccountService/ListAccounts", json!({})).await.unwrap();
    let mut emails: Vec<String> =
        list["accounts"].as_array().unwrap().iter().map(|one| one["email"].as_str().unwrap().to_owned()).collect();
    emails.sort_unstable();
    emails
}

#[tokio::test]
async fn a_registration_makes_way_for_who_proves_the_address() {
    let server = Server::new().await;
    let (root, ada) = (server.superadmin().await, server.person("ada").await);
    let squatted = server.register("squatted").await;
    let older = server.token_for(&squatted).await;
    ask_address(&server, &ada, &squatted).await;
    let told = server.mail_to(&squatted).await;
    assert_eq!(told.subject, "Confirm your new address", "the mailbox is told nothing of the stranger");
    let token = server.token_for(&squatted).await;
    assert_eq!(accounts(&server, &root).await.len(), 3);
    server.call(Some(&ada), "AuthService/ConfirmEmail", json!({"token": token})).await.unwrap();
    assert_eq!(accounts(&server, &root).await, ["root@example.org", &*squatted]);
    assert_eq!(server.log_in(&squatted, PASSWORD).await.unwrap().account, ada.account);
    // Nothing of the registration is left to be used.
    let prove = json!({"token": older, "password": PASSWORD});
    refused(server.call(None, "AuthService/VerifyEmail", prove).await, "unauthenticated");
    server.register("squatted").await;
    assert!(server.mail_to(&squatted).await.text.contains("has an account already"));
}

#[tokio::test]
async fn a_registration_does_not_keep_an_org_from_making_an_account() {
    let server = Server::new().await;
    let (root, ada) = (server.superadmin().await, server.person("ada").await);
    let org = server.org(&ada, "Harbour").await;
    let domains = json!({"id": org, "domains": ["harbour.example.org"]});
    server.call(Some(&root), "OrgService/SetAccountDomains", domains).await.unwrap();
    let email = "carol@harbour.example.org";
    let register = json!({"email": email, "password": "of a stranger", "displayName": "Rude"});
    server.call(None, "AuthService/Register", register.clone()).await.unwrap();
    let strangers = server.token_for(email).await;
    let create = json!({"email": email, "displayName": "Carol", "managedByOrgId": org, "password": PASSWORD});
    let made = server.call(Some(&ada), "AccountService/CreateAccount", create.clone()).await.unwrap();
    assert_eq!(made["displayName"], "Carol");
    refused(server.call(Some(&ada), "AccountService/CreateAccount", create).await, "already_exists");
    let prove = json!({"token": strangers, "password": "of a stranger"});
    refused(server.call(None, "AuthService/VerifyEmail", prove).await, "unauthenticated");
    assert_eq!(server.log_in(email, PASSWORD).await.unwrap().account, made["id"]);
    // An account that has proven its address, or was made for somebody, does not make way.
    let shut = json!({"id": server.log_in(email, PASSWORD).await.unwrap().account});
    server.call(Some(&root), "AccountService/DisableAccount", shut).await.unwrap();
    server.call(None, "AuthService/Register", register).await.unwrap();
    let bob = server.person("bob").await;
    ask_address(&server, &bob, email).await;
    assert!(!server.mail_to(email).await.text.contains("confirm-email"));
}

#[tokio::test]
async fn a_registration_does_not_keep_the_first_superadmin_from_his_address() {
    let server = Server::new().await;
    server.register("root").await;
    let root = server.superadmin().await;
    assert_eq!(accounts(&server, &root).await, ["root@example.org"]);
}

#[tokio::test]
async fn a_registration_that_nobody_proves_is_gone_after_a_week() {
    let server = Server::new().await;
    let root = server.superadmin().await;
    let (late, bob) = (server.register("late").await, server.person("bob").await);
    let by_root = json!({"email": "made@example.org", "displayName": "Made"});
    server.call(Some(&root), "AccountService/CreateAccount", by_root).await.unwrap();
    server.wait_s(WEEK_S - 60);
    let register_some = async |name: &str| {
        // One registration in eight clears away: of a hundred none does once in a million runs.
        for number in 0..100 {
            let email = format!("{name}{number}@example.net");
            let new = json!({"email": email, "password": PASSWORD, "displayName": name});
            server.call(None, "AuthService/Register", new).await.unwrap();
        }
    };
    register_some("early").await;
    let root = server.log_in(&root.email, PASSWORD).await.unwrap();
    let left = async |email: &str| {
        let query = json!({"query": email});
        let found = server.call(Some(&root), "AccountService/SearchAccounts", query).await.unwrap();
        found["accounts"].as_array().is_some_and(|found| !found.is_empty())
    };
    assert!(left(&late).await);
    server.wait_s(60);
    register_some("new").await;
    assert!(!left(&late).await);
    assert!(left(&bob.email).await && left("made@example.org").await && left("early0@example.net").await);
    // The address is free, for whoever can read its mail.
    assert_eq!(server.person("late").await.email, late);
}
