//! ProjectService, as far as it has logic: projects made, deleted and joined.

use crate::{
    module::AccountModule,
    org::open_org,
    request,
    wire::{Binding, CreateProjectRequest, DeleteProjectRequest, JoinProjectRequest, Project},
};
use std::sync::Arc;
use sys_contract::id::{OrgId, OrgTag, ProjectId};
use sys_core::{call::Call, module::Registry, refusal::Refusal};

pub(crate) fn register(registry: &mut Registry<'_, AccountModule>) {
    registry.unary("sys.account.v1.ProjectService/CreateProject", create);
    registry.unary("sys.account.v1.ProjectService/DeleteProject", delete);
    registry.unary("sys.account.v1.ProjectService/JoinProject", join);
}

async fn create(_: Arc<AccountModule>, call: Call, request: CreateProjectRequest) -> Result<Project, Refusal> {
    open_org(&call, request::id(&request.org_id, "org_id")?).await?;
    let record = Project {
        org_id: request.org_id,
        name: request.name,
        description: request.description,
        logo: request.logo,
        open: request.open,
        created_at: Some(request::timestamp(call.now().unix_s)),
        ..Project::default()
    };
    call.elevated()?.create_as(call.new_id(OrgTag::GLOBAL), &record).await
}

async fn delete(module: Arc<AccountModule>, call: Call, request: DeleteProjectRequest) -> Result<(), Refusal> {
    let (id, project, org) = seen_project(&call, &request.id).await?;
    request::same_etag(&request.etag, &project.etag)?;
    module.identity.drop_project(&call, org, id).await?;
    call.elevated()?.delete::<Project>(id.record(), None).await
}

/// That the project is open is the method's own rule, judged on the stored record in this transaction.
async fn join(module: Arc<AccountModule>, call: Call, request: JoinProjectRequest) -> Result<Binding, Refusal> {
    let (id, _, org) = seen_project(&call, &request.id).await?;
    let held = module.identity.join_open_project(&call, org, id).await?;
    Ok(request::binding(&held))
}

/// A project that the caller may see, and its org.
async fn seen_project(call: &Call, id: &str) -> Result<(ProjectId, Project, OrgId), Refusal> {
    let id: ProjectId = request::id(id, "id")?;
    let project = call.records().get::<Project>(id.record()).await?.ok_or_else(Refusal::not_found)?;
    let org = project.org_id.parse().map_err(Refusal::internal)?;
    Ok((id, project, org))
}
