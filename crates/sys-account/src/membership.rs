//! MembershipService: invitations, and what people hold in an org. The rules stand in `Identity`; here requests become its
//! words, and its answers messages.

use crate::{
    mail,
    module::AccountModule,
    org::open_org,
    request,
    wire::{
        AcceptInvitationRequest, Account, AssignRoleRequest, Binding, DeclineInvitationRequest, Invitation,
        InviteRequest, ListInvitationsRequest, ListInvitationsResponse, ListMembershipsRequest,
        ListMembershipsResponse, ListMyInvitationsRequest, ListMyInvitationsResponse, ListRolesRequest,
        ListRolesResponse, Membership, Org, Project, RemoveMembershipRequest, ResumeMembershipRequest,
        RevokeRoleRequest, SuspendMembershipRequest, WithdrawInvitationRequest,
    },
};
use std::sync::Arc;
use sys_contract::id::{AccountId, OrgId, ProjectId};
use sys_core::{
    call::Call,
    identity::{self, InvitationKey, OpenInvitation, role_number},
    module::Registry,
    records::Records,
    refusal::Refusal,
};

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.MembershipService/Invite", invite);
    registry.unary("sys.account.v1.MembershipService/AcceptInvitation", accept);
    registry.unary("sys.account.v1.MembershipService/DeclineInvitation", decline);
    registry.unary("sys.account.v1.MembershipService/WithdrawInvitation", withdraw);
    registry.unary("sys.account.v1.MembershipService/ListInvitations", list_invitations);
    registry.unary("sys.account.v1.MembershipService/ListMyInvitations", list_my_invitations);
    registry.unary("sys.account.v1.MembershipService/ListMemberships", list);
    registry.unary("sys.account.v1.MembershipService/SuspendMembership", suspend);
    registry.unary("sys.account.v1.MembershipService/ResumeMembership", resume);
    registry.unary("sys.account.v1.MembershipService/RemoveMembership", remove);
    registry.unary("sys.account.v1.MembershipService/AssignRole", assign_role);
    registry.unary("sys.account.v1.MembershipService/RevokeRole", revoke_role);
    registry.unary("sys.account.v1.MembershipService/ListRoles", list_roles);
}

async fn invite(module: Arc<AccountModule>, call: Call, request: InviteRequest) -> Result<Invitation, Refusal> {
    let email = request::email(&request.email, "email")?;
    // Each call is a mail to that address.
    call.throttle_sign_in(email.as_str())?;
    let role = request::role(request.role, "role")?;
    let org = open_org(&call, request::id(&request.org_id, "org_id")?).await?;
    let scope = request::scope_of(&call, &request.org_id, &request.project_id).await?;
    let project = project_name(&call.records(), scope.project()).await?;
    let invited = module.identity.invite(&call, &email, scope, role).await?;
    let (server, role) = (&module.settings.server, role_number(role).as_str_name());
    let project_name = Some(project.as_str()).filter(|_| scope.project().is_some());
    call.after_commit(mail::invitation(&email, server, &org.name, project_name, role, &invited.token)).await?;
    Ok(invitation(&invited.open, org.name, project))
}

async fn accept(module: Arc<AccountModule>, call: Call, request: AcceptInvitationRequest) -> Result<Binding, Refusal> {
    let held = module.identity.accept(&call, &key(&request.id, request.token)?).await?;
    Ok(request::binding(&held))
}

async fn decline(module: Arc<AccountModule>, call: Call, request: DeclineInvitationRequest) -> Result<(), Refusal> {
    module.identity.decline(&call, &key(&request.id, request.token)?).await
}

async fn withdraw(module: Arc<AccountModule>, call: Call, request: WithdrawInvitationRequest) -> Result<(), Refusal> {
    let org: OrgId = request::id(&request.org_id, "org_id")?;
    module.identity.withdraw(&call, org, request::id(&request.id, "id")?).await
}

async fn list_invitations(
    module: Arc<AccountModule>,
    call: Call,
    request: ListInvitationsRequest,
) -> Result<ListInvitationsResponse, Refusal> {
    let scope = request::scope_of(&call, &request.org_id, &request.project_id).await?;
    let size = request::page_size(request.page_size);
    let after = request::position(&request.page_token)?;
    let found = module.identity.invitations(&call, scope, after, size).await?;
    let org = call.records().get::<Org>(scope.org().record()).await?.unwrap_or_default();
    let mut invitations = Vec::with_capacity(found.len());
    for open in &found {
        let project = project_name(&call.records(), open.scope.project()).await?;
        invitations.push(invitation(open, org.name.clone(), project));
    }
    let last = found.last().map(|open| open.id.record());
    Ok(ListInvitationsResponse { invitations, next_page_token: request::next_page_token(found.len(), size, last) })
}

/// Names of orgs and projects are read with the module's own rights: who is invited may know where.
async fn list_my_invitations(
    module: Arc<AccountModule>,
    call: Call,
    _: ListMyInvitationsRequest,
) -> Result<ListMyInvitationsResponse, Refusal> {
    let mut invitations = Vec::new();
    for open in module.identity.my_invitations(&call).await? {
        let org = call.elevated()?.get::<Org>(open.scope.org().record()).await?.unwrap_or_default();
        let project = project_name(&call.elevated()?, open.scope.project()).await?;
        invitations.push(invitation(&open, org.name, project));
    }
    Ok(ListMyInvitationsResponse { invitations })
}

async fn list(
    module: Arc<AccountModule>,
    call: Call,
    request: ListMembershipsRequest,
) -> Result<ListMembershipsResponse, Refusal> {
    let scope = request::scope_of(&call, &request.org_id, &request.project_id).await?;
    let size = request::page_size(request.page_size);
    let after = request::position(&request.page_token)?;
    let found = module.identity.members(&call, scope, after, size).await?;
    let last = found.last().map(|member| member.position);
    let next_page_token = request::next_page_token(found.len(), size, last);
    Ok(ListMembershipsResponse { memberships: memberships(&call, &found).await?, next_page_token })
}

async fn suspend(module: Arc<AccountModule>, call: Call, request: SuspendMembershipRequest) -> Result<(), Refusal> {
    let (org, account) = member(&request.org_id, &request.account_id)?;
    module.identity.suspend_member(&call, account, org).await
}

async fn resume(module: Arc<AccountModule>, call: Call, request: ResumeMembershipRequest) -> Result<(), Refusal> {
    let (org, account) = member(&request.org_id, &request.account_id)?;
    module.identity.resume_member(&call, account, org).await
}

async fn remove(module: Arc<AccountModule>, call: Call, request: RemoveMembershipRequest) -> Result<(), Refusal> {
    let (org, account) = member(&request.org_id, &request.account_id)?;
    module.identity.remove_member(&call, account, org).await
}

async fn assign_role(module: Arc<AccountModule>, call: Call, request: AssignRoleRequest) -> Result<Binding, Refusal> {
    let (_, account) = member(&request.org_id, &request.account_id)?;
    let role = request::role(request.role, "role")?;
    let scope = request::scope_of(&call, &request.org_id, &request.project_id).await?;
    let expires = request.expires_at.map(|expires| expires.seconds);
    let held = module.identity.assign_role(&call, account, scope, role, expires).await?;
    Ok(request::binding(&held))
}

async fn revoke_role(module: Arc<AccountModule>, call: Call, request: RevokeRoleRequest) -> Result<(), Refusal> {
    let (_, account) = member(&request.org_id, &request.account_id)?;
    let scope = request::scope_of(&call, &request.org_id, &request.project_id).await?;
    module.identity.revoke_role(&call, account, scope).await
}

async fn list_roles(
    module: Arc<AccountModule>,
    call: Call,
    request: ListRolesRequest,
) -> Result<ListRolesResponse, Refusal> {
    let org: OrgId = request::id(&request.org_id, "org_id")?;
    let account = match request::optional_id(&request.account_id, "account_id")? {
        Some(account) => account,
        None => call.caller().account().ok_or_else(Refusal::unauthenticated)?,
    };
    let found = module.identity.roles_of(&call, account, org).await?;
    Ok(ListRolesResponse { roles: memberships(&call, &found).await? })
}

/// The member whom a request is about.
fn member(org_id: &str, account_id: &str) -> Result<(OrgId, AccountId), Refusal> {
    Ok((request::id(org_id, "org_id")?, request::id(account_id, "account_id")?))
}

/// The invitation that a request names; the contract sees to it that it names one.
fn key(id: &str, token: String) -> Result<InvitationKey, Refusal> {
    if id.is_empty() { Ok(InvitationKey::Token(token)) } else { Ok(InvitationKey::Id(request::id(id, "id")?)) }
}

async fn project_name(records: &Records, project: Option<ProjectId>) -> Result<String, Refusal> {
    let Some(project) = project else { return Ok(String::new()) };
    Ok(records.get::<Project>(project.record()).await?.unwrap_or_default().name)
}

fn invitation(open: &OpenInvitation, org_name: String, project_name: String) -> Invitation {
    let (org_id, project_id) = request::scope_ids(Some(&open.scope));
    Invitation {
        id: open.id.to_string(),
        email: open.email.as_str().to_owned(),
        org_id,
        org_name,
        project_id,
        project_name,
        role: role_number(open.role).into(),
        created_at: Some(request::timestamp(open.created_unix_s)),
        expires_at: Some(request::timestamp(open.expires_unix_s)),
    }
}

/// What people hold, with the names that they show to others.
async fn memberships(call: &Call, found: &[identity::Membership]) -> Result<Vec<Membership>, Refusal> {
    let mut memberships = Vec::with_capacity(found.len());
    for member in found {
        let account = call.elevated()?.get::<Account>(member.held.account.record()).await?.unwrap_or_default();
        let (org_id, project_id) = request::scope_ids(member.held.scope.as_ref());
        memberships.push(Membership {
            account_id: member.held.account.to_string(),
            display_name: account.display_name,
            email: member.email.as_str().to_owned(),
            role: role_number(member.held.role).into(),
            org_id,
            project_id,
            suspended: member.held.suspended,
            created_at: Some(request::timestamp(member.held.created_unix_s)),
            expires_at: member.held.expires_unix_s.map(request::timestamp),
        });
    }
    Ok(memberships)
}
