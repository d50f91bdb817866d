//! Invitations and roles, through the gate.

use super::harness::{Server, refused};
use serde_json::json;

#[tokio::test]
async fn fault_2_a_member_cannot_make_himself_more_than_he_is() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    server.join(&ada, &bob, &org, "", "USER").await;
    for role in ["ADMIN", "USER"] {
        let assign = json!({"orgId": org, "accountId": bob.account, "role": role});
        refused(server.call(Some(&bob), "MembershipService/AssignRole", assign.clone()).await, "permission_denied");
    }
    let assign = json!({"orgId": org, "accountId": bob.account, "role": "SUPERADMIN"});
    refused(server.call(Some(&bob), "MembershipService/AssignRole", assign.clone()).await, "invalid_argument");
    refused(server.call(Some(&ada), "MembershipService/AssignRole", assign).await, "invalid_argument");
    let own = json!({"orgId": org, "accountId": ada.account, "role": "ADMIN"});
    refused(server.call(Some(&ada), "MembershipService/AssignRole", own).await, "permission_denied");
}

#[tokio::test]
async fn a_role_acts_on_the_next_request_and_so_does_its_end() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    server.join(&ada, &bob, &org, "", "USER").await;
    let project = json!({"orgId": org, "name": "Lights"});
    refused(server.call(Some(&bob), "ProjectService/CreateProject", project.clone()).await, "permission_denied");
    let assign = json!({"orgId": org, "accountId": bob.account, "role": "ADMIN"});
    server.call(Some(&ada), "MembershipService/AssignRole", assign).await.unwrap();
    server.call(Some(&bob), "ProjectService/CreateProject", project).await.unwrap();
    let suspend = json!({"orgId": org, "accountId": bob.account});
    server.call(Some(&ada), "MembershipService/SuspendMembership", suspend.clone()).await.unwrap();
    refused(server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
    server.call(Some(&ada), "MembershipService/ResumeMembership", suspend.clone()).await.unwrap();
    server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await.unwrap();
    server.call(Some(&ada), "MembershipService/RemoveMembership", suspend).await.unwrap();
    refused(server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
    let leave = json!({"orgId": org, "accountId": ada.account});
    let last = server.call(Some(&ada), "MembershipService/RemoveMembership", leave).await;
    refused(last, "failed_precondition");
}

#[tokio::test]
async fn a_role_with_an_end_ends() {
    let server = Server::new().await;
    let (ada, bob) = (server.person("ada").await, server.person("bob").await);
    let org = server.org(&ada, "Harbour").await;
    server.join(&ada, &bob, &org, "", "USER").await;
    let in_a_minute = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let seconds = in_a_minute.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let expires = prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap(), nanos: 0 }.to_string();
    let assign = json!({"orgId": org, "accountId": bob.account, "role": "ADMIN", "expiresAt": expires});
    server.call(Some(&ada), "MembershipService/AssignRole", assign).await.unwrap();
    server.call(Some(&bob), "MembershipService/ListMemberships", json!({"orgId": org})).await.unwrap();
    server.wait_s(61);
    refused(server.call(Some(&bob), "OrgService/GetOrg", json!({"id": org})).await, "not_found");
}

#[tokio::test]
async fn an_admin_sees_who_is_in_the_org_page_by_page_and_others_see_themselves() {
    let server = Server::new().await;
    let ada = server.person("ada").await;
    let org = server.org(&ada, "Harbour").await;
    let project = server.project(&ada, &org, "Lights", false).await;
    let mut everybody = vec!["ada".to_owned()];
    for name in ["bob", "carol", "dan"] {
        let person = server.person(name).await;
        server.join(&ada, &person, &org, &project, "USER").await;
        everybody.push(name.to_owned());
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = json!({"orgId": org, "pageSize": 2, "pageToken": token});
        let page = server.call(Some(&ada), "MembershipService/ListMemberships", request).await.unwrap();
        let rows = page["memberships"].as_array().cloned().unwrap_or_default();
        seen.extend(rows.iter().map(|row| row["displayName"].as_str().unwrap().to_owned()));
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, everybody);
    let in_project = json!({"orgId": org, "projectId": project});
    let page = server.call(Some(&ada), "MembershipService/ListMemberships", in_project.clone()).await.unwrap();
    assert_eq!(page["memberships"].as_array().unwrap().len(), 3);
    let bob = server.log_in("bob@example.org", super::harness::PASSWORD).await.unwrap();
    refused(server.call(Some(&bob), "MembershipService/ListMemberships", in_project).await, "permission_denied");
    let own = server.call(Some(&bob), "MembershipService/ListRoles", json!({"orgId": org})).await.unwrap();
    assert_eq!(own["roles"][0]["role"], "USER");
    let others = json!({"orgId": org, "accountId": ada.account});
    refused(server.call(Some(&bob), "MembershipService/ListRoles", others).await, "permission_denied");
    let garbage = json!({"orgId": org, "pageToken": "page_x"});
    refused(server.call(Some(&ada), "MembershipService/ListMemberships", garbage).await, "invalid_argument");
}

#[tokio::test]
async fn an_invitation_waits_until_it_is_accepted_declined_or_withdrawn() {
    let server = Server::new().await;
    let (ada, bob, eve) = (server.person("ada").await, server.person("bob").await, server.person("eve").await);
    let org = server.org(&ada, "Harbour").await;
    let project = server.project(&ada, &org, "Lights", false).await;
    let invite = async || {
        let request = json!({"orgId": org, "projectId": project, "email": "Bob@Example.org", "role": "USER"});
        let invited = server.call(Some(&ada), "MembershipService/Invite", request).await.unwrap();
        assert_eq!(invited["email"], "bob@example.org");
        json!({"id": invited["id"]})
    };
    let waiting = async || server.call(Some(&bob), "MembershipService/ListMyInvitations", json!({})).await.unwrap();
    let first = invite().await;
    assert_eq!(waiting().await["invitations"][0]["projectName"], "Lights");
    assert_eq!(waiting().await["invitations"][0]["orgName"], "Harbour");
    refused(server.call(Some(&eve), "MembershipService/AcceptInvitation", first.clone()).await, "not_found");
    refused(server.call(Some(&eve), "MembershipService/DeclineInvitation", first.clone()).await, "not_found");
    server.call(Some(&bob), "MembershipService/DeclineInvitation", first).await.unwrap();
    let second = invite().await;
    let listed = server.call(Some(&ada), "MembershipService/ListInvitations", json!({"orgId": org})).await.unwrap();
    assert_eq!(listed["invitations"].as_array().unwrap().len(), 1);
    let withdraw = json!({"orgId": org, "id": second["id"]});
    refused(
        server.call(Some(&bob), "MembershipService/WithdrawInvitation", withdraw.clone()).await,
        "permission_denied",
    );
    server.call(Some(&ada), "MembershipService/WithdrawInvitation", withdraw).await.unwrap();
    refused(server.call(Some(&bob), "MembershipService/AcceptInvitation", second).await, "not_found");
    let third = invite().await;
    let both = json!({"id": third["id"], "token": "x"});
    refused(server.call(Some(&bob), "MembershipService/AcceptInvitation", both).await, "invalid_argument");
    refused(server.call(Some(&bob), "MembershipService/AcceptInvitation", json!({})).await, "invalid_argument");
    server.call(Some(&bob), "MembershipService/AcceptInvitation", third).await.unwrap();
    assert!(waiting().await["invitations"].is_null());
}

#[tokio::test]
async fn fault_3_admins_manage_the_accounts_that_their_org_made_and_no_others() {
    let server = Server::new().await;
    let (ada, bob, eve) = (server.person("ada").await, server.person("bob").await, server.person("eve").await);
    let org = server.org(&ada, "Harbour").await;
    server.join(&ada, &bob, &org, "", "ADMIN").await;
    server.org(&eve, "Other").await;
    let root = server.superadmin().await;
    let domains = json!({"id": org, "domains": ["Example.ORG"]});
    refused(server.call(Some(&ada), "OrgService/SetAccountDomains", domains.clone()).await, "permission_denied");
    server.call(Some(&root), "OrgService/SetAccountDomains", domains).await.unwrap();
    let request = json!({"email": "carol@example.org", "displayName": "Carol", "managedByOrgId": org});
    refused(server.call(Some(&eve), "AccountService/CreateAccount", request.clone()).await, "not_found");
    let unmanaged = json!({"email": "x@example.org", "displayName": "X"});
    refused(server.call(Some(&ada), "AccountService/CreateAccount", unmanaged).await, "permission_denied");
    let made = server.call(Some(&ada), "AccountService/CreateAccount", request).await.unwrap();
    assert_eq!((made["verified"].as_bool(), made["managedByOrgId"].as_str()), (Some(true), Some(org.as_str())));
    let token = server.token_for("carol@example.org").await;
    let reset = json!({"token": token, "newPassword": super::harness::PASSWORD});
    server.call(None, "AuthService/ResetPassword", reset).await.unwrap();
    let carol = server.log_in("carol@example.org", super::harness::PASSWORD).await.unwrap();
    let id = json!({"id": carol.account});
    refused(server.call(Some(&eve), "AccountService/DisableAccount", id.clone()).await, "not_found");
    refused(server.call(Some(&ada), "AccountService/DisableAccount", json!({"id": bob.account})).await, "not_found");
    let done = server.call(Some(&bob), "AccountService/DisableAccount", id.clone()).await.unwrap();
    assert_eq!(done["disabled"], true);
    refused(server.call(Some(&carol), "AuthService/WhoAmI", json!({})).await, "unauthenticated");
    assert!(server.log_in("carol@example.org", super::harness::PASSWORD).await.is_err());
    server.call(Some(&ada), "AccountService/EnableAccount", id.clone()).await.unwrap();
    server.log_in("carol@example.org", super::harness::PASSWORD).await.unwrap();
    server.call(Some(&ada), "AccountService/DeleteAccount", id.clone()).await.unwrap();
    refused(server.call(Some(&ada), "AccountService/GetAccount", id).await, "not_found");
}
