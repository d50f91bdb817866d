//! Domains of mail in which orgs make accounts: each is one open org's alone, and free again once that is closed.
//!
//! An org vouches for the addresses in its domains: two that had the same would each vouch for people of the other. What must
//! never happen here: an answer that tells which org has a domain.

use super::{Identity, limits::MAX_ROWS_AT_ONCE, scope::is_superadmin, turn::Turn, wire::AccountDomain};
use crate::{
    call::Call,
    import::Brought,
    refusal::{Reason, Refusal},
};
use std::{collections::BTreeSet, ops::DerefMut};
use sys_contract::id::OrgId;
use sys_store::Open;

impl Identity {
    /// Gives an org these domains, in their canonical form, in place of those that it has.
    pub async fn take_domains(&self, call: &Call, org: OrgId, domains: &[String]) -> Result<(), Refusal> {
        if !is_superadmin(call.caller(), call.now().unix_s) {
            return Err(Refusal::method_refused());
        }
        let mut turn = self.turn(call).await?;
        let done = turn.take_domains(org, domains).await;
        turn.end(call, done).await
    }

    /// Adds to what a line of a bulk import brings that this org has a domain. The same line gives the same row.
    pub fn danger_bring_domain(&self, brought: &mut Brought, org: OrgId, domain: &str) -> Result<(), Refusal> {
        let row = AccountDomain { id: String::new(), domain: domain.to_owned(), org_id: org.to_string() };
        let id = super::import::derived_id(org.record(), &format!("domain {domain} {org}"));
        brought.push(self.incoming(id, &row)?);
        Ok(())
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    async fn take_domains(&mut self, org: OrgId, domains: &[String]) -> Result<(), Refusal> {
        let org_id = org.to_string();
        let mut wanted: BTreeSet<&str> = domains.iter().map(String::as_str).collect();
        for kept in self.find(AccountDomain::ORG, &org_id, MAX_ROWS_AT_ONCE).await? {
            if !wanted.remove(kept.row.domain.as_str()) {
                self.remove::<AccountDomain>(kept.id).await?;
            }
        }
        for domain in wanted {
            if self.find_one(AccountDomain::DOMAIN, domain).await?.is_some() {
                return Err(Refusal::new(Reason::DomainTaken, "one of the domains is another org's")
                    .help("leave it out, or take it from that org first"));
            }
            let row = AccountDomain { id: String::new(), domain: domain.to_owned(), org_id: org_id.clone() };
            self.insert(self.new_id(), &row).await?;
        }
        Ok(())
    }
}
