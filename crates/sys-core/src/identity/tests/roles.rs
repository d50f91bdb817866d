//! Roles: who gives them, who loses them.

use super::bed::{Bed, NOW, conflicts};
use crate::{
    identity::{
        InvitationKey, Scope,
        sessions::Device,
        wire::{Binding, Invitation, OneTimeToken, Principal, Session},
    },
    refusal::{Code, Reason},
};
use sys_contract::model::Role;
use sys_policy::BindingScope;

#[tokio::test]
async fn fault_2_nobody_gives_a_role_to_himself() {
    let bed = Bed::new().await;
    let (admin, user) = (bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    let project = Scope::Project(org, bed.project());
    bed.join(&admin, &user, Scope::Org(org), Role::User).await;
    for scope in [Scope::Org(org), project] {
        for role in [Role::Guest, Role::User, Role::Admin, Role::Superadmin] {
            for who in [&admin, &user] {
                let account = who.account;
                let refusal = bed.act(who, async |turn| turn.assign_role(account, scope, role, None).await).await;
                assert_eq!(refusal.unwrap_err().code, Code::PermissionDenied, "{role:?} at {scope:?}");
            }
        }
    }
    assert_eq!(bed.bindings(&user).await.unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_makes_a_superadmin() {
    let bed = Bed::new().await;
    let (root, admin, user) = (bed.superadmin().await, bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    bed.join(&admin, &user, Scope::Org(org), Role::User).await;
    for who in [&root, &admin, &user] {
        for scope in [Scope::Org(org), Scope::Project(org, bed.project())] {
            let (account, email) = (user.account, user.email.clone());
            let given = bed.act(who, async |turn| turn.assign_role(account, scope, Role::Superadmin, None).await).await;
            assert_eq!(given.unwrap_err().code, Code::PermissionDenied);
            let invited = bed.act(who, async |turn| turn.invite(&email, scope, Role::Superadmin).await).await;
            assert_eq!(invited.unwrap_err().code, Code::PermissionDenied);
        }
    }
}

#[tokio::test]
async fn a_project_admin_reaches_no_further_than_his_project() {
    let bed = Bed::new().await;
    let (admin, lead, user) = (bed.person("admin").await, bed.person("lead").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    let (own, other) = (Scope::Project(org, bed.project()), Scope::Project(org, bed.project()));
    bed.join(&admin, &lead, own, Role::Admin).await;
    bed.join(&admin, &user, other, Role::User).await;
    let (account, boss, email) = (user.account, admin.account, user.email.clone());
    bed.act(&lead, async |turn| turn.assign_role(account, own, Role::Guest, None).await).await.unwrap();
    for scope in [Scope::Org(org), other] {
        let email = email.clone();
        let given = bed.act(&lead, async |turn| turn.assign_role(account, scope, Role::Guest, None).await).await;
        assert_eq!(given.unwrap_err().code, Code::PermissionDenied, "{scope:?}");
        let invited = bed.act(&lead, async |turn| turn.invite(&email, scope, Role::Guest).await).await;
        assert_eq!(invited.unwrap_err().code, Code::PermissionDenied, "{scope:?}");
        let revoked = bed.act(&lead, async |turn| turn.revoke_role(boss, scope).await).await;
        assert_eq!(revoked.unwrap_err().code, Code::PermissionDenied, "{scope:?}");
    }
    let removed = bed.act(&lead, async |turn| turn.remove_member(account, org).await).await;
    assert_eq!(removed.unwrap_err().code, Code::PermissionDenied);
}

#[tokio::test]
async fn an_account_that_is_not_in_the_org_gets_no_role_without_its_consent() {
    let bed = Bed::new().await;
    let (admin, stranger) = (bed.person("admin").await, bed.person("stranger").await);
    let org = bed.org(&admin).await;
    let account = stranger.account;
    let given = bed.act(&admin, async |turn| turn.assign_role(account, Scope::Org(org), Role::User, None).await).await;
    assert_eq!(given.unwrap_err().code, Code::NotFound);
    assert!(bed.bindings(&stranger).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_last_admin_of_an_org_stays() {
    let bed = Bed::new().await;
    let (one, two, three) = (bed.person("one").await, bed.person("two").await, bed.person("three").await);
    let org = bed.org(&one).await;
    let scope = Scope::Org(org);
    bed.join(&one, &two, scope, Role::User).await;
    let (first, second, third) = (one.account, two.account, three.account);
    let last = |refusal: crate::refusal::Refusal| assert_eq!(refusal.reason, Reason::LastAdmin);
    last(bed.act(&one, async |turn| turn.revoke_role(first, scope).await).await.unwrap_err());
    last(bed.act(&one, async |turn| turn.remove_member(first, org).await).await.unwrap_err());
    last(bed.act(&one, async |turn| turn.remove_account(first).await).await.unwrap_err());
    // One whose role ends is none who stays.
    bed.act(&one, async |turn| turn.assign_role(second, scope, Role::Admin, Some(NOW + 60)).await).await.unwrap();
    last(bed.act(&one, async |turn| turn.revoke_role(first, scope).await).await.unwrap_err());
    last(bed.act(&two, async |turn| turn.assign_role(first, scope, Role::User, None).await).await.unwrap_err());
    last(
        bed.act(&two, async |turn| turn.assign_role(first, scope, Role::Admin, Some(NOW + 60)).await)
            .await
            .unwrap_err(),
    );
    last(bed.act(&two, async |turn| turn.set_suspended(first, org, true).await).await.unwrap_err());
    // Nor is one who cannot log in.
    bed.join(&one, &three, scope, Role::Admin).await;
    bed.act_at(None, NOW, async |turn| {
        let mut principal = turn.known_principal(third).await?;
        principal.row.disabled = true;
        turn.replace(&principal).await
    })
    .await
    .unwrap();
    last(bed.act(&one, async |turn| turn.remove_member(first, org).await).await.unwrap_err());
    // With another, he may go.
    bed.act(&one, async |turn| turn.assign_role(second, scope, Role::Admin, None).await).await.unwrap();
    bed.act(&one, async |turn| turn.remove_member(first, org).await).await.unwrap();
    last(bed.act(&two, async |turn| turn.remove_member(second, org).await).await.unwrap_err());
}

#[tokio::test]
async fn of_two_admins_who_leave_at_once_one_stays() {
    let bed = Bed::new().await;
    let (one, two) = (bed.person("one").await, bed.person("two").await);
    let org = bed.org(&one).await;
    bed.join(&one, &two, Scope::Org(org), Role::Admin).await;
    let (first, second) = (one.account, two.account);
    let (left, done) = bed.begin(Some(&one), NOW, async |turn| turn.remove_member(first, org).await).await;
    done.unwrap();
    let (right, done) = bed.begin(Some(&two), NOW, async |turn| turn.remove_member(second, org).await).await;
    done.unwrap();
    assert!(!conflicts(left).await);
    assert!(conflicts(right).await, "both have left");
}

#[tokio::test]
async fn of_two_admins_who_demote_each_other_at_once_one_stays() {
    let bed = Bed::new().await;
    let (one, two) = (bed.person("one").await, bed.person("two").await);
    let org = bed.org(&one).await;
    let scope = Scope::Org(org);
    bed.join(&one, &two, scope, Role::Admin).await;
    let (first, second) = (one.account, two.account);
    let (left, done) =
        bed.begin(Some(&one), NOW, async |turn| turn.assign_role(second, scope, Role::User, None).await).await;
    done.unwrap();
    let (right, done) =
        bed.begin(Some(&two), NOW, async |turn| turn.assign_role(first, scope, Role::User, None).await).await;
    done.unwrap();
    assert!(!conflicts(left).await);
    assert!(conflicts(right).await, "both are demoted");
}

#[tokio::test]
async fn a_superadmin_holds_no_role_in_an_org_and_gives_none() {
    let bed = Bed::new().await;
    let (root, admin, user) = (bed.superadmin().await, bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    let scope = Scope::Org(org);
    bed.join(&admin, &user, scope, Role::User).await;
    let (account, email) = (user.account, user.email.clone());
    let given = bed.act(&root, async |turn| turn.assign_role(account, scope, Role::Guest, None).await).await;
    assert_eq!(given.unwrap_err().code, Code::PermissionDenied);
    let invited = bed.act(&root, async |turn| turn.invite(&email, scope, Role::Admin).await).await;
    assert_eq!(invited.unwrap_err().code, Code::PermissionDenied, "the org has an admin");
    let to_root = root.email.clone();
    let invited = bed.act(&admin, async |turn| turn.invite(&to_root, scope, Role::Guest).await).await.unwrap();
    let key = InvitationKey::Id(invited.open.id);
    assert_eq!(bed.act(&root, async |turn| turn.accept(&key).await).await.unwrap_err().reason, Reason::SuperadminInOrg);
    let open = Scope::Project(org, bed.project());
    let joined = bed.act(&root, async |turn| turn.join_open_project(open).await).await;
    assert_eq!(joined.unwrap_err().reason, Reason::SuperadminInOrg);
}

#[tokio::test]
async fn a_superadmin_invites_the_first_admin_of_an_org_and_nobody_else() {
    let bed = Bed::new().await;
    let (root, one, two) = (bed.superadmin().await, bed.person("one").await, bed.person("two").await);
    let org = sys_contract::id::OrgId::from_record(bed.id());
    let scope = Scope::Org(org);
    let (first, second) = (one.email.clone(), two.email.clone());
    for role in [Role::Guest, Role::User] {
        let first = first.clone();
        let refused = bed.act(&root, async |turn| turn.invite(&first, scope, role).await).await;
        assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    }
    let key = async |email: crate::identity::Email| {
        let invited = bed.act(&root, async |turn| turn.invite(&email, scope, Role::Admin).await).await.unwrap();
        InvitationKey::Id(invited.open.id)
    };
    let (to_first, to_second) = (key(first).await, key(second).await);
    bed.act(&one, async |turn| turn.accept(&to_first).await).await.unwrap();
    let late = bed.act(&two, async |turn| turn.accept(&to_second).await).await;
    assert_eq!(late.unwrap_err().code, Code::NotFound, "the org has an admin by now");
}

#[tokio::test]
async fn an_invitation_is_for_the_owner_of_its_address_or_the_holder_of_its_token() {
    let bed = Bed::new().await;
    let (admin, one, two) = (bed.person("admin").await, bed.person("one").await, bed.person("two").await);
    let scope = Scope::Org(bed.org(&admin).await);
    let email = one.email.clone();
    let invited = bed.act(&admin, async |turn| turn.invite(&email, scope, Role::User).await).await.unwrap();
    let by_id = InvitationKey::Id(invited.open.id);
    let refused = bed.act(&two, async |turn| turn.accept(&by_id).await).await;
    assert_eq!(refused.unwrap_err().code, Code::NotFound);
    for text in ["", "AAAA", &"A".repeat(43)] {
        let wrong = InvitationKey::Token(text.to_owned());
        assert_eq!(bed.act(&two, async |turn| turn.accept(&wrong).await).await.unwrap_err().code, Code::NotFound);
    }
    let by_token = InvitationKey::Token(invited.token.text().to_string());
    let late = bed.act_at(Some(&two), invited.open.expires_unix_s, async |turn| turn.accept(&by_token).await).await;
    assert_eq!(late.unwrap_err().code, Code::NotFound);
    assert_eq!(bed.act(&two, async |turn| turn.accept(&by_token).await).await.unwrap().role, Role::User);
    assert_eq!(
        bed.act(&one, async |turn| turn.accept(&by_id).await).await.unwrap_err().code,
        Code::NotFound,
        "used up"
    );
}

#[tokio::test]
async fn an_org_that_makes_an_account_for_anothers_address_does_not_get_what_others_send_there() {
    let bed = Bed::new().await;
    let (admin, eve) = (bed.person("admin").await, bed.person("eve").await);
    let (org, hers) = (bed.org(&admin).await, bed.org(&eve).await);
    let puppet = bed.person_managed_by("victim", Some(hers)).await;
    let email = puppet.email.clone();
    let invited = bed.act(&admin, async |turn| turn.invite(&email, Scope::Org(org), Role::Admin).await).await.unwrap();
    let by_id = InvitationKey::Id(invited.open.id);
    assert_eq!(bed.act(&puppet, async |turn| turn.accept(&by_id).await).await.unwrap_err().code, Code::NotFound);
    assert!(bed.act(&puppet, async |turn| turn.my_invitations().await).await.unwrap().is_empty());
    // Its own org's are for it; the other's take the mail.
    bed.join(&eve, &puppet, Scope::Org(hers), Role::User).await;
    let by_token = InvitationKey::Token(invited.token.text().to_string());
    bed.act(&puppet, async |turn| turn.accept(&by_token).await).await.unwrap();
}

#[tokio::test]
async fn an_invitation_is_worth_nothing_once_its_sender_could_not_send_it() {
    let bed = Bed::new().await;
    let (admin, second, friend) = (bed.person("admin").await, bed.person("second").await, bed.person("friend").await);
    let org = bed.org(&admin).await;
    let scope = Scope::Org(org);
    bed.join(&admin, &second, scope, Role::Admin).await;
    let email = friend.email.clone();
    let invited = bed.act(&second, async |turn| turn.invite(&email, scope, Role::Admin).await).await.unwrap();
    let account = second.account;
    bed.act(&admin, async |turn| turn.assign_role(account, scope, Role::User, None).await).await.unwrap();
    let key = InvitationKey::Token(invited.token.text().to_string());
    assert_eq!(bed.act(&friend, async |turn| turn.accept(&key).await).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn who_is_suspended_or_sent_away_does_not_come_back_by_an_older_invitation() {
    let bed = Bed::new().await;
    let (admin, user) = (bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    bed.join(&admin, &user, Scope::Org(org), Role::User).await;
    let (account, email, project) = (user.account, user.email.clone(), Scope::Project(org, bed.project()));
    let invited = bed.act(&admin, async |turn| turn.invite(&email, project, Role::Admin).await).await.unwrap();
    let key = InvitationKey::Token(invited.token.text().to_string());
    bed.act(&admin, async |turn| turn.set_suspended(account, org, true).await).await.unwrap();
    assert!(bed.bindings(&user).await.unwrap().is_empty());
    assert_eq!(bed.act(&user, async |turn| turn.accept(&key).await).await.unwrap_err().reason, Reason::MemberSuspended);
    let joined = bed.act(&user, async |turn| turn.join_open_project(project).await).await;
    assert_eq!(joined.unwrap_err().reason, Reason::MemberSuspended);
    bed.act(&admin, async |turn| turn.remove_member(account, org).await).await.unwrap();
    assert_eq!(bed.act(&user, async |turn| turn.accept(&key).await).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn an_older_invitation_takes_nothing_away() {
    let bed = Bed::new().await;
    let (admin, user) = (bed.person("admin").await, bed.person("user").await);
    let scope = Scope::Org(bed.org(&admin).await);
    let email = user.email.clone();
    let invited = bed.act(&admin, async |turn| turn.invite(&email, scope, Role::Guest).await).await.unwrap();
    let key = InvitationKey::Token(invited.token.text().to_string());
    // A newer one takes the older's place.
    bed.join(&admin, &user, scope, Role::User).await;
    assert_eq!(bed.act(&user, async |turn| turn.accept(&key).await).await.unwrap_err().code, Code::NotFound);
    let email = user.email.clone();
    let invited = bed.act(&admin, async |turn| turn.invite(&email, scope, Role::Guest).await).await.unwrap();
    let key = InvitationKey::Token(invited.token.text().to_string());
    assert_eq!(bed.act(&user, async |turn| turn.accept(&key).await).await.unwrap().role, Role::User);
}

#[tokio::test]
async fn fault_12_each_role_counts_not_the_first_alone() {
    let bed = Bed::new().await;
    let (admin, user) = (bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    let scopes: Vec<Scope> = (0..5).map(|_| Scope::Project(org, bed.project())).collect();
    for (scope, role) in scopes.iter().zip([Role::Guest, Role::User, Role::Guest, Role::Admin, Role::User]) {
        bed.join(&admin, &user, *scope, role).await;
    }
    let held = bed.bindings(&user).await.unwrap();
    assert_eq!(held.len(), 5);
    let fourth = scopes[3].project().unwrap();
    let is_fourth = |scope: BindingScope| scope == BindingScope::Project(org.tag(), fourth);
    assert!(held.iter().any(|binding| is_fourth(binding.scope) && binding.role == Role::Admin));
    // The fourth is what lets him invite there, and only there.
    let email = crate::identity::Email::assume_canonical("new@example.org");
    for (number, scope) in scopes.into_iter().enumerate() {
        let invited = bed.act(&user, async |turn| turn.invite(&email, scope, Role::Guest).await).await;
        assert_eq!(invited.is_ok(), number == 3, "{number}");
    }
}

#[tokio::test]
async fn fault_13_who_is_disabled_has_nothing_from_his_next_request_on() {
    let bed = Bed::new().await;
    let admin = bed.person("admin").await;
    let org = bed.org(&admin).await;
    let user = bed.person_managed_by("user", Some(org)).await;
    bed.join(&admin, &user, Scope::Org(org), Role::Admin).await;
    let (account, before) = (user.account, bed.epoch(&user).await);
    bed.act(&admin, async |turn| turn.set_disabled(account, true).await).await.unwrap();
    assert_ne!(bed.epoch(&user).await, before, "what is cached of him is void");
    assert_eq!(bed.bindings(&user).await.unwrap_err().code, Code::Unauthenticated, "his session is gone");
    // Even with a session he would hold nothing.
    let session = bed
        .act_at(None, NOW, async |turn| turn.open_session(&bed.identity, account, Device::default()).await)
        .await
        .unwrap();
    let again = super::bed::Person { session: session.session, ..user.clone() };
    assert!(bed.bindings(&again).await.unwrap().is_empty());
    bed.act(&admin, async |turn| turn.set_disabled(account, false).await).await.unwrap();
    assert_eq!(bed.bindings(&again).await.unwrap().len(), 1, "what he held is as it was");
}

#[tokio::test]
async fn an_account_is_disabled_by_a_superadmin_or_an_admin_of_the_org_that_made_it() {
    let bed = Bed::new().await;
    let (root, admin, other) = (bed.superadmin().await, bed.person("admin").await, bed.person("other").await);
    let (org, _) = (bed.org(&admin).await, bed.org(&other).await);
    let (managed, free) = (bed.person_managed_by("managed", Some(org)).await, bed.person("free").await);
    bed.join(&admin, &free, Scope::Org(org), Role::User).await;
    let check = async |who: &super::bed::Person, whom: &super::bed::Person, expect: bool| {
        let account = whom.account;
        let done = bed.act(who, async |turn| turn.set_disabled(account, true).await).await;
        assert_eq!(done.is_ok(), expect, "{:?} by {:?}", whom.email.as_str(), who.email.as_str());
        if done.is_ok() {
            bed.act(who, async |turn| turn.set_disabled(account, false).await).await.unwrap();
        }
    };
    check(&admin, &free, false).await;
    check(&other, &managed, false).await;
    check(&free, &managed, false).await;
    check(&managed, &managed, false).await;
    check(&root, &root, false).await;
    check(&admin, &root, false).await;
    check(&admin, &managed, true).await;
    check(&root, &free, true).await;
}

#[tokio::test]
async fn fault_24_a_deleted_account_leaves_no_orphans() {
    let bed = Bed::new().await;
    let (admin, user) = (bed.person("admin").await, bed.person("user").await);
    let org = bed.org(&admin).await;
    bed.join(&admin, &user, Scope::Org(org), Role::Admin).await;
    let (account, email) = (user.account, user.email.clone());
    let project = Scope::Project(org, bed.project());
    bed.act(&admin, async |turn| turn.invite(&email, project, Role::User).await).await.unwrap();
    let to = crate::identity::Email::assume_canonical("new@example.org");
    bed.act(&user, async |turn| turn.invite(&to, project, Role::User).await).await.unwrap();
    bed.act_at(None, NOW, async |turn| turn.issue(account, crate::identity::wire::Purpose::Reset, 60, None).await)
        .await
        .unwrap();
    let removed = bed.act(&admin, async |turn| turn.remove_account(account).await).await;
    assert_eq!(removed.unwrap_err().code, Code::PermissionDenied, "it belongs to its person");
    bed.act(&user, async |turn| turn.remove_account(account).await).await.unwrap();
    let id = account.to_string();
    assert!(bed.all::<Principal>().await.iter().all(|row| row.email != email.as_str()));
    assert!(bed.all::<Session>().await.iter().all(|row| row.account_id != id));
    assert!(bed.all::<Binding>().await.iter().all(|row| row.account_id != id));
    assert!(bed.all::<OneTimeToken>().await.iter().all(|row| row.account_id != id));
    assert!(bed.all::<Invitation>().await.is_empty());
    assert_eq!(bed.bindings(&user).await.unwrap_err().code, Code::Unauthenticated);
}
