//! Another address for an account, and the domains in which orgs make accounts.

use super::harness::{PASSWORD, Person, Server, refused, token_in};
use serde_json::{Value, json};

async fn ask(server: &Server, who: &Person, new: &str) -> super::harness::Answer {
    server.call(Some(who), "AuthService/ChangeEmail", json!({"newEmail": new})).await
}

async fn confirm(server: &Server, who: &Person, token: &str) -> super::harness::Answer {
    server.call(Some(who), "AuthService/ConfirmEmail", json!({"token": token})).await
}

#[tokio::test]
async fn an_address_is_changed_once_the_new_one_is_confirmed() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let elsewhere = server.log_in(&ada.email, PASSWORD).await.unwrap();
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    let reset = server.token_for(&ada.email).await;
    ask(&server, &ada, " Ada@New.Example.ORG ").await.unwrap();
    let token = server.token_for("ada@new.example.org").await;
    assert_eq!(server.mail_to(&ada.email).await.subject, "Another address was asked for");
    assert!(!server.mail_to(&ada.email).await.text.contains(&token));
    server.log_in(&ada.email, PASSWORD).await.unwrap();
    assert!(server.log_in("ada@new.example.org", PASSWORD).await.is_err(), "nothing is changed yet");

    confirm(&server, &ada, &token).await.unwrap();
    let who = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!((&who["email"], &who["verified"]), (&json!("ada@new.example.org"), &json!(true)));
    let record = server.call(Some(&ada), "AccountService/GetAccount", json!({"id": ada.account})).await.unwrap();
    assert_eq!(record["email"], "ada@new.example.org");
    refused(server.call(Some(&elsewhere), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    assert_eq!(server.log_in("ada@new.example.org", PASSWORD).await.unwrap().account, ada.account);
    assert!(server.log_in(&ada.email, PASSWORD).await.is_err());
    refused(confirm(&server, &ada, &token).await, "unauthenticated");
    // What is on its way to the old mailbox is void, and nothing more goes there.
    let with = json!({"token": reset, "newPassword": "another password"});
    refused(server.call(None, "AuthService/ResetPassword", with).await, "unauthenticated");
    assert_eq!(server.mail_to(&ada.email).await.subject, "Your address was changed");
    server.call(None, "AuthService/ForgotPassword", json!({"email": ada.email})).await.unwrap();
    assert_eq!(server.mails_to(&ada.email, 3).await, 3);
    assert_eq!(server.mail_to(&ada.email).await.subject, "No password to choose");
    // The old address is free again.
    let other = server.person("ada").await;
    assert_ne!(other.account, ada.account);
}

#[tokio::test]
async fn whoever_asks_does_not_learn_whether_an_address_has_an_account() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let free = ask(&server, &ada, "free@example.org").await;
    assert_eq!((&free, free.is_ok()), (&ask(&server, &ada, &bob.email).await, true));
    assert_eq!(ask(&server, &ada, &ada.email).await, free, "his own is taken, too");
    assert!(token_in(&server.mail_to("free@example.org").await.text).is_some());
    let told = server.mail_to(&bob.email).await;
    assert!(told.subject.contains("has an account already") && token_in(&told.text).is_none(), "{}", told.text);
    assert_eq!(server.mails_to(&ada.email, 4).await, 4, "three notices, and the answer to asking for his own");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_account_for_an_hour_and_the_newest_alone() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    ask(&server, &ada, "mistyped@example.org").await.unwrap();
    let older = server.token_for("mistyped@example.org").await;
    // Who reads the mail there can do nothing with it, without an account or with one.
    let nobody = server.call(None, "AuthService/ConfirmEmail", json!({"token": older})).await;
    refused(nobody, "unauthenticated");
    refused(confirm(&server, &bob, &older).await, "unauthenticated");
    for purpose in ["AuthService/ResetPassword", "AuthService/VerifyEmail"] {
        let with = json!({"token": older, "newPassword": "another password", "password": PASSWORD});
        let with: Value = match purpose {
            "AuthService/ResetPassword" => json!({"token": with["token"], "newPassword": with["newPassword"]}),
            _ => json!({"token": with["token"], "password": with["password"]}),
        };
        refused(server.call(None, purpose, with).await, "unauthenticated");
    }
    ask(&server, &ada, "right@example.org").await.unwrap();
    let newer = server.token_for("right@example.org").await;
    refused(confirm(&server, &ada, &older).await, "unauthenticated");
    server.wait_s(3_600);
    let again = server.log_in(&ada.email, PASSWORD).await.unwrap();
    refused(confirm(&server, &again, &newer).await, "unauthenticated");
    assert_eq!(server.log_in(&ada.email, PASSWORD).await.unwrap().account, ada.account);
}

#[tokio::test]
async fn one_address_never_has_two_accounts() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    ask(&server, &ada, "both@example.org").await.unwrap();
    let first = server.token_for("both@example.org").await;
    ask(&server, &bob, "both@example.org").await.unwrap();
    let second = server.token_for("both@example.org").await;
    confirm(&server, &bob, &second).await.unwrap();
    refused(confirm(&server, &ada, &first).await, "already_exists");
    assert_eq!(server.log_in("both@example.org", PASSWORD).await.unwrap().account, bob.account);
    server.log_in(&ada.email, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_token_alone_asks_for_no_address() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    server.wait_s(599);
    let pair = server.call(None, "AuthService/Refresh", json!({"refreshToken": ada.refresh})).await.unwrap();
    let ada = super::harness::person(&ada.email, &pair);
    server.wait_s(60);
    assert_eq!(
        refused(ask(&server, &ada, "new@example.org").await, "permission_denied"),
        "show your password again to do this"
    );
    server.call(Some(&ada), "AuthService/StepUp", json!({"password": PASSWORD})).await.unwrap();
    ask(&server, &ada, "new@example.org").await.unwrap();
}

#[tokio::test]
async fn an_org_makes_accounts_in_its_own_domains_and_keeps_them_there() {
    let server = Server::new().await;
    let (root, ada) = (server.superadmin().await, server.person("ada").await);
    let org = server.org(&ada, "Harbour").await;
    let set = async |domains: Value| {
        server.call(Some(&root), "OrgService/SetAccountDomains", json!({"id": org, "domains": domains})).await
    };
    let create = async |email: &str| {
        let request = json!({"email": email, "displayName": "X", "managedByOrgId": org, "password": PASSWORD});
        server.call(Some(&ada), "AccountService/CreateAccount", request).await
    };
    // Without a domain all addresses are refused alike: those that have an account, and those that have none.
    let none = create("carol@harbour.example.org").await;
    refused(none.clone(), "permission_denied");
    assert_eq!((create(&ada.email).await, create("root@example.org").await), (none.clone(), none.clone()));
    for wrong in [json!(["harbour"]), json!(["carol@harbour.example.org"]), json!(["127.0.0.1"])] {
        refused(set(wrong).await, "invalid_argument");
    }
    let named = set(json!(["Harbour.Example.org", "harbour.example.org.", "second.example.org"])).await;
    refused(named, "invalid_argument");
    let named = set(json!(["second.example.org", "Harbour.Example.org"])).await.unwrap();
    assert_eq!(named["accountDomains"], json!(["harbour.example.org", "second.example.org"]));
    create("carol@harbour.example.org").await.unwrap();
    refused(create("carol@harbour.example.org").await, "already_exists");
    assert_eq!(create(&ada.email).await, none);

    let carol = server.log_in("carol@harbour.example.org", PASSWORD).await.unwrap();
    refused(ask(&server, &carol, "carol@example.org").await, "permission_denied");
    refused(ask(&server, &carol, &ada.email).await, "permission_denied");
    ask(&server, &carol, "carol@second.example.org").await.unwrap();
    let token = server.token_for("carol@second.example.org").await;
    set(json!([])).await.unwrap();
    refused(confirm(&server, &carol, &token).await, "permission_denied");
    set(json!(["second.example.org"])).await.unwrap();
    confirm(&server, &carol, &token).await.unwrap();
    server.log_in("carol@second.example.org", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn nobody_who_was_sent_away_or_left_comes_back_by_an_older_invitation_to_whatever_address() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    let member = json!({"orgId": org, "accountId": bob.account});
    for (leaver, address) in [(&ada, "bob@new.example.org"), (&bob, "bob@newer.example.org")] {
        let email = server.call(Some(&bob), "AuthService/WhoAmI", json!({})).await.unwrap()["email"].clone();
        let invite = async |role| {
            let request = json!({"orgId": org, "email": email, "role": role});
            server.call(Some(&ada), "MembershipService/Invite", request).await.unwrap();
            server.token_for(email.as_str().unwrap()).await
        };
        let token = invite("USER").await;
        server.call(Some(&bob), "MembershipService/AcceptInvitation", json!({"token": token})).await.unwrap();
        let promotion = invite("ADMIN").await;
        ask(&server, &bob, address).await.unwrap();
        let confirmation = server.token_for(address).await;
        confirm(&server, &bob, &confirmation).await.unwrap();
        let latest = server
            .call(Some(&ada), "MembershipService/Invite", json!({"orgId": org, "email": address, "role": "ADMIN"}))
            .await;
        latest.unwrap();
        let latest = server.token_for(address).await;
        server.call(Some(leaver), "MembershipService/RemoveMembership", member.clone()).await.unwrap();
        for token in [promotion, latest] {
            let back = server.call(Some(&bob), "MembershipService/AcceptInvitation", json!({"token": token})).await;
            assert!(back.is_err(), "{address}");
            refused(server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
        }
    }
}

#[tokio::test]
async fn a_domain_is_one_open_orgs_alone() {
    let server = Server::new().await;
    let (root, ada, bob) = (server.superadmin().await, server.person("ada").await, server.person("bob").await);
    let (north, south) = (server.org(&ada, "North").await, server.org(&bob, "South").await);
    let set = async |org: &str, domains: Value| {
        server.call(Some(&root), "OrgService/SetAccountDomains", json!({"id": org, "domains": domains})).await
    };
    set(&north, json!(["one.example.org", "two.example.org"])).await.unwrap();
    let told = refused(set(&south, json!(["three.example.org", "Two.Example.org"])).await, "already_exists");
    assert!(!told.contains(&north) && !told.contains("North"), "{told}");
    // Nothing of a request that was refused is kept.
    set(&north, json!(["one.example.org", "three.example.org"])).await.unwrap();
    set(&south, json!(["two.example.org"])).await.unwrap();
    refused(set(&north, json!(["two.example.org"])).await, "already_exists");
    set(&north, json!(["one.example.org"])).await.unwrap();
    server.call(Some(&ada), "OrgService/DeleteOrg", json!({"id": north})).await.unwrap();
    let closed = server.call(Some(&root), "OrgService/GetOrg", json!({"id": north})).await.unwrap();
    assert!(closed["accountDomains"].is_null(), "{closed}");
    set(&south, json!(["one.example.org", "two.example.org"])).await.unwrap();
    set(&south, json!([])).await.unwrap();
    set(&server.org(&bob, "West").await, json!(["one.example.org"])).await.unwrap();
}

#[tokio::test]
async fn a_role_that_was_taken_does_not_come_back_by_an_older_invitation() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    let (one, two) = (server.project(&ada, &org, "one", false).await, server.project(&ada, &org, "two", false).await);
    server.join(&ada, &bob, &org, &one, "USER").await;
    let invite = async |project: &str, role: &str| {
        let request = json!({"orgId": org, "projectId": project, "email": bob.email, "role": role});
        let invited = server.call(Some(&ada), "MembershipService/Invite", request).await.unwrap();
        json!({"id": invited["id"]})
    };
    let accept =
        async |invited: &Value| server.call(Some(&bob), "MembershipService/AcceptInvitation", invited.clone()).await;
    let assign = async |project: &str, role: &str| {
        let request = json!({"orgId": org, "projectId": project, "accountId": bob.account, "role": role});
        server.call(Some(&ada), "MembershipService/AssignRole", request).await.unwrap();
    };
    let revoke = async |project: &str| {
        let request = json!({"orgId": org, "projectId": project, "accountId": bob.account});
        server.call(Some(&ada), "MembershipService/RevokeRole", request).await.unwrap();
    };
    // Given and taken: what was sent before to that place is void, and what was sent to another is not.
    let (older, elsewhere) = (invite(&two, "ADMIN").await, invite("", "ADMIN").await);
    assign(&two, "ADMIN").await;
    revoke(&two).await;
    refused(accept(&older).await, "not_found");
    // Made less: an older promotion does not make it more again.
    assign("", "USER").await;
    refused(accept(&elsewhere).await, "not_found");
    // With a role in the whole org goes what was sent into its projects.
    let into_two = invite(&two, "ADMIN").await;
    revoke("").await;
    refused(accept(&into_two).await, "not_found");
    // What is sent afterwards counts.
    accept(&invite(&two, "ADMIN").await).await.unwrap();
    let roles = server.call(Some(&bob), "MembershipService/ListRoles", json!({"orgId": org})).await.unwrap();
    assert_eq!(roles["roles"].as_array().map(Vec::len), Some(2));
}
