//! That a new record's org and project exist: looked up in the directory, in the transaction that makes the record, so that
//! neither can go away meanwhile.

use crate::{open::Open, refused::Refused, table::Table};
use prost_reflect::{DynamicMessage, FieldDescriptor};
use sys_contract::id::{OrgId, ProjectId};
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
        let store = self.store.clone();
        // A record may be its own scope: an org's record is in the org that it makes.
        let given = |field: &Option<FieldDescriptor>| {
            let field = field.as_ref().filter(|field| **field != table.record.id && new.has_field(field))?;
            let text = new.get_field(field).as_str().unwrap_or_default().to_owned();
            Some((field.name().to_owned(), text))
        };
        if let Some((field, text)) = given(&table.record.org) {
            let org: OrgId = text.parse().map_err(|_| Refused::invalid(&field, "it is no org"))?;
            if self.record(&store.directory()?.orgs, org.record()).await?.is_none() {
                return Err(Refused::invalid(field, "there is no such org"));
            }
        }
        if let Some((field, text)) = given(&table.record.project) {
            let project: ProjectId = text.parse().map_err(|_| Refused::invalid(&field, "it is no project"))?;
            let project = self.record(&store.directory()?.projects, project.record()).await?;
            if project.is_none_or(|project| project.placement().org != placement.org) {
                return Err(Refused::invalid(field, "the org has no such project"));
            }
        }
        Ok(())
    }
}
