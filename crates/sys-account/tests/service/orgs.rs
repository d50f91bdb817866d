//! Orgs and projects: made, found, changed, joined, closed.

use super::harness::{Server, id_of, refused};
use serde_json::json;
use sys_account::Settings;

#[tokio::test]
async fn where_the_server_does_not_allow_it_only_a_superadmin_makes_orgs() {
    let server = Server::with(Settings { server: "http://127.0.0.1:1".to_owned(), accounts_found_orgs: false }).await;
    let (root, ada) = (server.superadmin().await, server.person("ada").await);
    refused(server.call(Some(&ada), "OrgService/CreateOrg", json!({"name": "Harbour"})).await, "permission_denied");
    refused(server.call(Some(&root), "OrgService/CreateOrg", json!({"name": "Harbour"})).await, "invalid_argument");
    let request = json!({"name": "Harbour", "contact": "office@example.org", "adminEmail": ada.email});
    let org = id_of(&server.call(Some(&root), "OrgService/CreateOrg", request).await.unwrap());
    let token = server.token_for(&ada.email).await;
    let held = server.call(Some(&ada), "MembershipService/AcceptInvitation", json!({"token": token})).await.unwrap();
    assert_eq!(held, json!({"role": "ADMIN", "orgId": org}));
    // From here on the org is its own.
    let invite = json!({"orgId": org, "email": "eve@example.org", "role": "ADMIN"});
    refused(server.call(Some(&root), "MembershipService/Invite", invite).await, "permission_denied");
    refused(
        server.call(Some(&root), "MembershipService/ListMemberships", json!({"orgId": org})).await,
        "permission_denied",
    );
    let request = json!({"name": "Lights", "orgId": org});
    refused(server.call(Some(&root), "ProjectService/CreateProject", request.clone()).await, "permission_denied");
    server.call(Some(&ada), "ProjectService/CreateProject", request).await.unwrap();
}

#[tokio::test]
async fn an_org_is_seen_by_its_people_and_by_strangers_if_it_shows_itself() {
    let server = Server::new().await;
    let (ada, eve) = (server.person("ada").await, server.person("eve").await);
    let request = json!({"name": "Harbour", "contact": "office@example.org"});
    let org = id_of(&server.call(Some(&ada), "OrgService/CreateOrg", request).await.unwrap());
    let get = json!({"id": org});
    assert_eq!(
        server.call(Some(&ada), "OrgService/GetOrg", get.clone()).await.unwrap()["contact"],
        "office@example.org"
    );
    refused(server.call(Some(&eve), "OrgService/GetOrg", get.clone()).await, "not_found");
    for (method, request) in [
        ("MembershipService/ListMemberships", json!({"orgId": org})),
        ("MembershipService/Invite", json!({"orgId": org, "email": "x@example.org", "role": "USER"})),
        ("MembershipService/AssignRole", json!({"orgId": org, "accountId": eve.account, "role": "ADMIN"})),
        ("ProjectService/CreateProject", json!({"orgId": org, "name": "x"})),
        ("OrgService/DeleteOrg", json!({"id": org})),
    ] {
        let answer = server.call(Some(&eve), method, request).await;
        assert!(
            matches!(&answer, Err((code, _)) if code == "not_found" || code == "permission_denied"),
            "{method} {answer:?}"
        );
    }
    let others =
        async |who| server.call(Some(who), "OrgService/ListOtherOrgs", json!({})).await.unwrap()["orgs"].clone();
    assert!(others(&eve).await.is_null());
    let list = json!({"org": {"id": org, "listed": true}, "updateMask": "listed"});
    server.call(Some(&ada), "OrgService/UpdateOrg", list).await.unwrap();
    let seen = server.call(Some(&eve), "OrgService/GetOrg", get).await.unwrap();
    assert_eq!((seen["name"].as_str(), seen["contact"].as_str()), (Some("Harbour"), None));
    assert_eq!(others(&eve).await[0]["id"], org);
    assert!(others(&ada).await.is_null(), "she is in it");
    refused(
        server.call(Some(&eve), "MembershipService/ListMemberships", json!({"orgId": org})).await,
        "permission_denied",
    );
}

#[tokio::test]
async fn an_open_project_is_joined_as_user_and_a_closed_one_is_not_there() {
    let server = Server::new().await;
    let (ada, eve) = (server.person("ada").await, server.person("eve").await);
    let org = server.org(&ada, "Harbour").await;
    let open = server.project(&ada, &org, "Lights", true).await;
    let closed = server.project(&ada, &org, "Vault", false).await;
    refused(server.call(Some(&eve), "ProjectService/JoinProject", json!({"id": closed})).await, "not_found");
    let held = server.call(Some(&eve), "ProjectService/JoinProject", json!({"id": open})).await.unwrap();
    assert_eq!(held, json!({"role": "USER", "orgId": org, "projectId": open}));
    refused(server.call(Some(&eve), "ProjectService/JoinProject", json!({"id": open})).await, "already_exists");
    refused(server.call(Some(&eve), "ProjectService/GetProject", json!({"id": closed})).await, "not_found");
    let names = server.call(Some(&eve), "ProjectService/ListProjects", json!({"orgId": org})).await.unwrap();
    assert_eq!(names["projects"].as_array().unwrap().len(), 1);
    refused(
        server
            .call(
                Some(&eve),
                "ProjectService/UpdateProject",
                json!({"project": {"id": open, "name": "x"}, "updateMask": "name"}),
            )
            .await,
        "permission_denied",
    );
    refused(server.call(Some(&eve), "ProjectService/DeleteProject", json!({"id": open})).await, "permission_denied");
}

#[tokio::test]
async fn no_two_projects_of_an_org_have_one_name() {
    let server = Server::new().await;
    let (ada, eve) = (server.person("ada").await, server.person("eve").await);
    let (org, other) = (server.org(&ada, "Harbour").await, server.org(&eve, "Harbour").await);
    server.project(&ada, &org, "Lights", false).await;
    let again = server.call(Some(&ada), "ProjectService/CreateProject", json!({"orgId": org, "name": "Lights"})).await;
    refused(again, "already_exists");
    server.project(&eve, &other, "Lights", false).await;
}

#[tokio::test]
async fn a_closed_org_has_no_people_no_projects_and_no_way_back_in() {
    let server = Server::new().await;
    let (root, ada, bob) = (server.superadmin().await, server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    let project = server.project(&ada, &org, "Lights", true).await;
    server.join(&ada, &bob, &org, &project, "USER").await;
    let invite = json!({"orgId": org, "email": "carol@example.org", "role": "USER"});
    server.call(Some(&ada), "MembershipService/Invite", invite).await.unwrap();
    let token = server.token_for("carol@example.org").await;
    refused(server.call(Some(&bob), "OrgService/DeleteOrg", json!({"id": org})).await, "permission_denied");
    let stale = json!({"id": org, "etag": "x"});
    assert!(server.call(Some(&ada), "OrgService/DeleteOrg", stale).await.is_err());
    server.call(Some(&ada), "OrgService/DeleteOrg", json!({"id": org})).await.unwrap();
    for who in [&ada, &bob] {
        refused(server.call(Some(who), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
        refused(server.call(Some(who), "ProjectService/GetProject", json!({"id": project})).await, "not_found");
        let me = server.call(Some(who), "AuthService/WhoAmI", json!({})).await.unwrap();
        assert!(me["bindings"].is_null());
    }
    let carol = server.person("carol").await;
    refused(
        server.call(Some(&carol), "MembershipService/AcceptInvitation", json!({"token": token})).await,
        "not_found",
    );
    refused(server.call(Some(&carol), "ProjectService/JoinProject", json!({"id": project})).await, "not_found");
    assert!(server.call(Some(&root), "OrgService/GetOrg", json!({"id": org})).await.unwrap()["closedAt"].is_string());
    let back = json!({"orgId": org, "email": ada.email, "role": "ADMIN"});
    refused(server.call(Some(&root), "MembershipService/Invite", back).await, "failed_precondition");
}

#[tokio::test]
async fn a_deleted_project_takes_its_roles_with_it() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    let project = server.project(&ada, &org, "Lights", false).await;
    server.join(&ada, &bob, &org, &project, "ADMIN").await;
    refused(server.call(Some(&bob), "ProjectService/DeleteProject", json!({"id": project})).await, "permission_denied");
    server.call(Some(&ada), "ProjectService/DeleteProject", json!({"id": project})).await.unwrap();
    let me = server.call(Some(&bob), "AuthService/WhoAmI", json!({})).await.unwrap();
    assert!(me["bindings"].is_null());
    refused(server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
}

#[tokio::test]
async fn fault_17_empty_lists_are_empty_and_pages_lose_nothing() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    assert_eq!(server.call(Some(&ada), "OrgService/ListOrgs", json!({})).await.unwrap(), json!({}));
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(server.org(&ada, &format!("Org {number}")).await);
    }
    // Two that are made in one millisecond stand in either order.
    made.sort();
    for order in ["", "id", "id desc"] {
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let request = json!({"pageSize": 3, "pageToken": token, "orderBy": order});
            let page = server.call(Some(&ada), "OrgService/ListOrgs", request).await.unwrap();
            seen.extend(page["orgs"].as_array().unwrap().iter().map(id_of));
            match page["nextPageToken"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        if order == "id desc" {
            seen.reverse();
        }
        assert_eq!(seen, made, "{order}");
    }
}
