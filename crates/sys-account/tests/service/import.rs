//! The import of a file at the first run.

use super::harness::{Server, id_of, refused};
use serde_json::json;

const FILE: &str = "
orgs:
  main_bootstrap_orgs:
    - org: {name: Harbour, contact: office@example.org, creator_id: ines@example.org}
    - org: {name: Quarry, contact: office@example.net, creator_id: ines@example.org}
projects:
  main_bootstrap_projects:
    - project: {name: Lights, creator_id: ines@example.org, org_name: Harbour}
      projectdetails: {sys_account_org_ref_name: Quarry}
    - project: {name: Stones, creator_id: olaf@example.org, org_name: Quarry}
regular_users:
  main_bootstrap_regular_users:
    - newaccounts:
        email: ada@example.org
        password: long and secret
        new_user_roles: [{role: 3, project_name: Lights}]
    - newaccounts:
        email: bob@example.org
        new_user_roles: [{role: 2, project_name: Lights}, {role: 1, project_name: Stones}]
";

fn counts(imported: &sys_account::bootstrap::Imported) -> (usize, usize, usize, usize, usize) {
    (imported.orgs, imported.projects, imported.accounts, imported.bindings, imported.invitations)
}

#[tokio::test]
async fn a_file_comes_in_once() {
    let server = Server::new().await;
    let first = server.import(FILE).await;
    assert_eq!(counts(&first), (2, 2, 2, 3, 4));
    assert_eq!((first.mismatches.len(), first.drawn_passwords.len()), (1, 1));
    assert!(first.skipped.iter().any(|line| line.contains("projectdetails")), "{:?}", first.skipped);
    let again = server.import(FILE).await;
    assert_eq!(counts(&again), (0, 0, 0, 0, 0));
    assert_eq!((again.already_there, again.drawn_passwords.len()), (13, 0));
    let ada = server.log_in("ada@example.org", "long and secret").await.unwrap();
    let me = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert_eq!(me["verified"], true);
    assert_eq!(me["bindings"].as_array().unwrap().len(), 1);
    let (email, drawn) = &first.drawn_passwords[0];
    assert_eq!(email, "bob@example.org");
    server.log_in(email, drawn).await.unwrap();
}

#[tokio::test]
async fn who_made_an_org_or_project_is_invited_as_its_admin() {
    let server = Server::new().await;
    server.import(FILE).await;
    assert_eq!(server.mails_to("ines@example.org", 3).await, 3);
    assert_eq!(server.mails_to("olaf@example.org", 1).await, 1);
    let ines = server.person("ines").await;
    let waiting = server.call(Some(&ines), "MembershipService/ListMyInvitations", json!({})).await.unwrap();
    let waiting = waiting["invitations"].as_array().unwrap().clone();
    assert_eq!(waiting.len(), 3);
    for invitation in waiting {
        let accept = json!({"id": invitation["id"]});
        server.call(Some(&ines), "MembershipService/AcceptInvitation", accept).await.unwrap();
    }
    let accounts = server.call(Some(&ines), "AccountService/ListAccounts", json!({})).await.unwrap();
    assert_eq!(accounts["accounts"].as_array().unwrap().len(), 3, "her own, and the two that Harbour manages");
}

#[tokio::test]
async fn what_people_took_away_since_does_not_come_back_with_the_next_start() {
    let server = Server::new().await;
    server.import(FILE).await;
    let ines = server.person("ines").await;
    let waiting = server.call(Some(&ines), "MembershipService/ListMyInvitations", json!({})).await.unwrap();
    for invitation in waiting["invitations"].as_array().unwrap() {
        server.call(Some(&ines), "MembershipService/AcceptInvitation", json!({"id": invitation["id"]})).await.unwrap();
    }
    let ada = server.log_in("ada@example.org", "long and secret").await.unwrap();
    let orgs = server.call(Some(&ines), "OrgService/ListOrgs", json!({})).await.unwrap();
    let org = |name: &str| id_of(orgs["orgs"].as_array().unwrap().iter().find(|org| org["name"] == name).unwrap());
    let remove = json!({"orgId": org("Harbour"), "accountId": ada.account});
    server.call(Some(&ines), "MembershipService/RemoveMembership", remove).await.unwrap();
    server.call(Some(&ines), "OrgService/DeleteOrg", json!({"id": org("Quarry")})).await.unwrap();
    let again = server.import(FILE).await;
    assert_eq!(counts(&again), (0, 0, 0, 0, 0));
    assert!(again.skipped.iter().any(|line| line.contains("Quarry")), "{:?}", again.skipped);
    let me = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert!(me["bindings"].is_null());
}

#[tokio::test]
async fn an_account_that_was_there_before_is_invited_and_not_taken() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let imported = server.import(FILE).await;
    assert_eq!(counts(&imported), (2, 2, 1, 2, 5));
    let me = server.call(Some(&ada), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert!(me["bindings"].is_null());
    assert!(server.log_in("ada@example.org", "long and secret").await.is_err(), "her password is her own");
}

#[tokio::test]
async fn a_password_that_stood_in_a_file_is_good_on_this_machine_alone() {
    let mut server = Server::new().await;
    let imported = server.import(FILE).await;
    server.come_from([192, 0, 2, 1]);
    let refusal = server.log_in("ada@example.org", "long and secret").await.unwrap_err();
    assert_eq!(
        refusal,
        server.log_in("ada@example.org", "another password").await.unwrap_err(),
        "and nothing says why"
    );
    let (email, drawn) = &imported.drawn_passwords[0];
    server.log_in(email, drawn).await.unwrap();
    refused(server.call(None, "AuthService/WhoAmI", json!({})).await, "unauthenticated");
}

#[tokio::test]
async fn the_real_organisation_comes_in_with_the_expected_counts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/org-y/bootstrap.yaml");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: the real organisation's file is not here");
        return;
    };
    let server = Server::new().await;
    let imported = server.import(&text).await;
    assert_eq!(counts(&imported), (3, 6, 20, 20, 9));
    assert_eq!(imported.mismatches.len(), 6);
    assert_eq!(counts(&server.import(&text).await), (0, 0, 0, 0, 0));
}
