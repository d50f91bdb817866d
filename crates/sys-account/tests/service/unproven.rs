//! Registrations whose address nobody has proven.

use super::harness::{PASSWORD, Person, Server, refused};
use serde_json::{Value, json};

const DAY_S: i64 = 86_400;
const WEEK_S: i64 = 7 * DAY_S;

async fn register_some(server: &Server, name: &str) {
    // One registration in eight clears away: of a hundred none does once in a million runs.
    for number in 0..100 {
        let email = format!("{name}{number}@example.net");
        let new = json!({"email": email, "password": PASSWORD, "displayName": name});
        server.call(None, "AuthService/Register", new).await.unwrap();
    }
}

/// The accounts that a superadmin finds by this address.
async fn found(server: &Server, email: &str) -> Vec<Value> {
    let root = server.log_in("root@example.org", PASSWORD).await.unwrap();
    let found = server.call(Some(&root), "AccountService/SearchAccounts", json!({"query": email})).await.unwrap();
    found["accounts"].as_array().cloned().unwrap_or_default()
}

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
    let before = server.mails_to(email, 0).await;
    server.call(None, "AuthService/Register", register).await.unwrap();
    assert_eq!(server.mails_to(email, before + 1).await, before + 1);
    let bob = server.person("bob").await;
    ask_address(&server, &bob, email).await;
    // The newest is then the one that is asked about.
    assert_eq!(server.mails_to(email, before + 2).await, before + 2);
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
async fn a_registration_that_nobody_proves_is_cleared_away_a_day_after_its_week() {
    let server = Server::new().await;
    let root = server.superadmin().await;
    let (late, bob) = (server.register("late").await, server.person("bob").await);
    let by_root = json!({"email": "made@example.org", "displayName": "Made"});
    server.call(Some(&root), "AccountService/CreateAccount", by_root).await.unwrap();
    server.wait_s(WEEK_S + DAY_S - 60);
    register_some(&server, "early").await;
    let left = async |email: &str| !found(&server, email).await.is_empty();
    assert!(left(&late).await);
    server.wait_s(60);
    register_some(&server, "new").await;
    assert!(!left(&late).await);
    assert!(left(&bob.email).await && left("made@example.org").await && left("early0@example.net").await);
    // The address is free, for whoever can read its mail.
    assert_eq!(server.person("late").await.email, late);
}

#[tokio::test]
async fn the_last_mail_to_a_registration_is_good_for_its_whole_day() {
    let server = Server::new().await;
    server.superadmin().await;
    let late = server.register("late").await;
    server.token_for(&late).await;
    server.wait_s(WEEK_S - 60);
    server.register("late").await;
    let token = server.token_for(&late).await;
    server.wait_s(DAY_S - 60);
    register_some(&server, "new").await;
    let prove = json!({"token": token, "password": PASSWORD});
    server.call(None, "AuthService/VerifyEmail", prove).await.unwrap();
    server.log_in(&late, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn after_its_week_a_registration_counts_for_nothing_and_is_made_anew() {
    let server = Server::new().await;
    server.superadmin().await;
    let rude = json!({"email": "late@example.org", "password": "of a stranger", "displayName": "Rude"});
    server.call(None, "AuthService/Register", rude).await.unwrap();
    server.token_for("late@example.org").await;
    let before = found(&server, "late@example.org").await;
    server.wait_s(WEEK_S);
    server.call(None, "AuthService/ForgotPassword", json!({"email": "late@example.org"})).await.unwrap();
    assert_eq!(server.mails_to("late@example.org", 1).await, 1);
    assert_eq!(server.mail_to("late@example.org").await.subject, "No password to choose");
    server.register("late").await;
    assert_eq!(server.mails_to("late@example.org", 2).await, 2);
    let prove = json!({"token": server.token_for("late@example.org").await, "password": PASSWORD});
    server.call(None, "AuthService/VerifyEmail", prove).await.unwrap();
    let now = found(&server, "late@example.org").await;
    assert_eq!((before.len(), now.len()), (1, 1));
    assert_ne!(before[0]["id"], now[0]["id"]);
    assert_eq!(now[0]["displayName"], "late");
}

#[tokio::test]
async fn a_registration_that_was_shut_out_keeps_its_address() {
    let server = Server::new().await;
    let root = server.superadmin().await;
    let rude = server.register("rude").await;
    server.token_for(&rude).await;
    let id = found(&server, &rude).await[0]["id"].clone();
    server.call(Some(&root), "AccountService/DisableAccount", json!({"id": id})).await.unwrap();
    server.wait_s(WEEK_S + DAY_S);
    register_some(&server, "new").await;
    assert_eq!(found(&server, &rude).await[0]["id"], id);
    server.register("rude").await;
    assert!(server.mail_to(&rude).await.text.contains("has an account already"));
}

#[tokio::test]
async fn who_proves_an_address_by_a_new_password_is_not_called_as_a_stranger_said() {
    let server = Server::new().await;
    server.superadmin().await;
    let email = "ada@example.org";
    let rude = json!({"email": email, "password": "of a stranger", "displayName": "Rude"});
    server.call(None, "AuthService/Register", rude).await.unwrap();
    server.token_for(email).await;
    let reset = async |password: &str, mails: usize| {
        server.call(None, "AuthService/ForgotPassword", json!({"email": email})).await.unwrap();
        assert_eq!(server.mails_to(email, mails).await, mails);
        let reset = json!({"token": server.token_for(email).await, "newPassword": password});
        server.call(None, "AuthService/ResetPassword", reset).await.unwrap();
        // That of the token was taken away, and one says that the password was changed.
        assert_eq!(server.mails_to(email, mails).await, mails);
        server.log_in(email, password).await.unwrap()
    };
    let ada = reset(PASSWORD, 1).await;
    let own = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert!(own["displayName"].is_null(), "{own}");
    assert_eq!(own["verified"], true);
    // A name of her own stays.
    let named = json!({"account": {"id": ada.account, "displayName": "Ada"}, "updateMask": "displayName"});
    server.call(Some(&ada), "AccountService/UpdateAccount", named).await.unwrap();
    let ada = reset("another long password", 2).await;
    let own = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!(own["displayName"], "Ada");
}
