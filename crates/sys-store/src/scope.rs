//! That a new record's org and project exist: looked up in the directory, in the transaction that makes the record, so that
//! neither can go away meanwhile.

use crate::{
    open::Open,
    refused::{Refused, StoreError},
    table::Table,
};
use prost_reflect::{DynamicMessage, FieldDescriptor};
use sys_contract::id::{OrgId, OrgTag, ProjectId};
use sys_policy::Placement;

impl Open {
    /// Refuses a new record in an org that does not exist, or in a project that is not the org's. The two read alike, so that
    /// nobody finds out about other orgs' projects.
    pub(crate) async fn check_scope(
        &mut self,
        table: &Table,
        new: &DynamicMessage,
        placement: &Placement,
    ) -> Result<(), Refused> {
        // A record may be its own scope: an org's record is in the org that it makes.
        let given = |field: &Option<FieldDescriptor>| {
            let field = field.as_ref().filter(|field| **field != table.record.id && new.has_field(field))?;
            let text = new.get_field(field).as_str().unwrap_or_default().to_owned();
            Some((field.name().to_owned(), text))
        };
        if let Some((field, text)) = given(&table.record.org) {
            let org: OrgId = text.parse().map_err(|_| Refused::invalid(&field, "it is no org"))?;
            if !self.has_org(org).await? {
                return Err(Refused::invalid(field, "there is no such org"));
            }
        }
        if let Some((field, text)) = given(&table.record.project) {
            let project: ProjectId = text.parse().map_err(|_| Refused::invalid(&field, "it is no project"))?;
            if !self.has_project(placement.org, project).await? {
                return Err(Refused::invalid(field, "the org has no such project"));
            }
        }
        Ok(())
    }

    /// Whether the directory holds an org.
    pub(crate) async fn has_org(&mut self, org: OrgId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        Ok(self.record(&store.directory()?.orgs, org.record()).await?.is_some())
    }

    /// Whether the directory holds a project, and as this org's.
    pub(crate) async fn has_project(&mut self, org: Option<OrgTag>, project: ProjectId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        let project = self.record(&store.directory()?.projects, project.record()).await?;
        Ok(project.is_some_and(|project| project.placement().org == org))
    }
}
