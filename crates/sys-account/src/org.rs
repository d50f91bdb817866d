//! OrgService, as far as it has logic: orgs made, found and closed.

use crate::{
    email::canonical_mail_domain,
    mail,
    module::AccountModule,
    request,
    wire::{
        CreateOrgRequest, DeleteOrgRequest, ListOtherOrgsRequest, ListOtherOrgsResponse, Org, Project,
        SetAccountDomainsRequest,
    },
};
use std::sync::Arc;
use sys_contract::{
    id::{OrgId, ProjectId},
    model::Role,
};
use sys_core::{
    call::Call,
    identity::Scope,
    module::Registry,
    records::Query,
    refusal::{Reason, Refusal},
};

/// Pages of projects that go with an org in one call.
const MAX_PROJECT_PAGES: usize = 40;

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.OrgService/CreateOrg", create);
    registry.unary("sys.account.v1.OrgService/ListOtherOrgs", list_other);
    registry.unary("sys.account.v1.OrgService/SetAccountDomains", set_account_domains);
    registry.unary("sys.account.v1.OrgService/DeleteOrg", delete);
}

async fn create(module: Arc<AccountModule>, call: Call, request: CreateOrgRequest) -> Result<Org, Refusal> {
    let superadmin = module.identity.is_superadmin(&call);
    if !superadmin && !module.settings.accounts_found_orgs {
        return Err(Refusal::new(Reason::OrgsNotOpen, "only a superadmin makes orgs on this server")
            .help("ask the operator of the server"));
    }
    if !superadmin && !request.admin_email.is_empty() {
        return Err(Refusal::invalid("admin_email", "you become the first admin yourself: leave it out"));
    }
    let contact = match request.contact.is_empty() {
        true => String::new(),
        false => request::email(&request.contact, "contact")?.as_str().to_owned(),
    };
    let org = module.identity.new_org_id(&call).await?;
    let record = Org {
        name: request.name,
        description: request.description,
        contact: contact.clone(),
        logo: request.logo,
        listed: request.listed,
        created_at: Some(request::timestamp(call.now().unix_s)),
        ..Org::default()
    };
    let stored = call.elevated()?.create_as(org.record(), &record).await?;
    if superadmin {
        let address = if request.admin_email.is_empty() { contact } else { request.admin_email };
        invite_first_admin(&module, &call, org, &record.name, &address).await?;
    } else {
        module.identity.found_org(&call, org).await?;
    }
    Ok(stored)
}

async fn invite_first_admin(
    module: &AccountModule,
    call: &Call,
    org: OrgId,
    name: &str,
    address: &str,
) -> Result<(), Refusal> {
    if address.is_empty() {
        return Err(Refusal::invalid("admin_email", "name the first admin of the org, or its contact"));
    }
    let email = request::email(address, "admin_email")?;
    let invited = module.identity.invite(call, &email, Scope::Org(org), Role::Admin).await?;
    call.after_commit(mail::invitation(&email, &module.settings.server, name, None, "ADMIN", &invited.token)).await
}

async fn list_other(
    module: Arc<AccountModule>,
    call: Call,
    request: ListOtherOrgsRequest,
) -> Result<ListOtherOrgsResponse, Refusal> {
    let query = Query {
        filter: request.filter,
        page_size: request.page_size,
        page_token: request.page_token,
        ..Query::default()
    };
    let page = call.records().list::<Org>(query).await?;
    let mut orgs = page.records;
    orgs.retain(|org| org.id.parse().is_ok_and(|id| !module.identity.is_member(&call, id)));
    Ok(ListOtherOrgsResponse { orgs, next_page_token: page.next_page_token })
}

async fn set_account_domains(
    module: Arc<AccountModule>,
    call: Call,
    request: SetAccountDomainsRequest,
) -> Result<Org, Refusal> {
    let id: OrgId = request::id(&request.id, "id")?;
    open_org(&call, id).await?;
    let canonical = |text: &String| canonical_mail_domain(text).map_err(|_| no_domain());
    let mut domains = request.domains.iter().map(canonical).collect::<Result<Vec<_>, _>>()?;
    domains.sort_unstable();
    domains.dedup();
    module.identity.take_domains(&call, id, &domains).await?;
    let named = Org { account_domains: domains, ..Org::default() };
    call.elevated()?.update(id.record(), &["account_domains"], &named, None).await
}

fn no_domain() -> Refusal {
    Refusal::invalid("domains", "name domains of mail, such as example.org")
}

async fn delete(module: Arc<AccountModule>, call: Call, request: DeleteOrgRequest) -> Result<(), Refusal> {
    let id: OrgId = request::id(&request.id, "id")?;
    let org = open_org(&call, id).await?;
    request::same_etag(&request.etag, &org.etag)?;
    delete_projects(&call, id).await?;
    module.identity.drop_org(&call, id).await?;
    let closed = Org { closed_at: Some(request::timestamp(call.now().unix_s)), ..Org::default() };
    call.elevated()?.update(id.record(), &["closed_at", "listed", "account_domains"], &closed, None).await?;
    Ok(())
}

async fn delete_projects(call: &Call, org: OrgId) -> Result<(), Refusal> {
    for _ in 0..MAX_PROJECT_PAGES {
        let query = Query { org_id: org.to_string(), ..Query::default() };
        let page = call.records().list::<Project>(query).await?;
        for project in &page.records {
            let project: ProjectId = project.id.parse().map_err(Refusal::internal)?;
            call.elevated()?.delete::<Project>(project.record(), None).await?;
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
    }
    Err(Refusal::new(Reason::TooMany, "the org has more projects than one call deletes")
        .help("delete some of them first"))
}

/// An org that the caller may see and that is not closed.
pub(crate) async fn open_org(call: &Call, id: OrgId) -> Result<Org, Refusal> {
    let org = call.records().get::<Org>(id.record()).await?.ok_or_else(Refusal::not_found)?;
    if org.closed_at.is_some() {
        return Err(Refusal::new(Reason::OrgClosed, "the org is closed"));
    }
    Ok(org)
}
