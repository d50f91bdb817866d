//! Orgs of a bulk import: one a line, in JSON, with the domains that are theirs alone.

use crate::{email::canonical_mail_domain, wire::Org};
use sys_contract::id::OrgId;
use sys_core::{host::LoadedModule, identity::Identity, import::Brought, refusal::Refusal};

/// Reads a line. `module` is the account module.
pub fn read(module: &LoadedModule, identity: &Identity, line: &str) -> Result<Brought, Refusal> {
    let (mut brought, id, org) = module.read_typed::<Org>(line)?;
    if org.closed_at.is_some() && !org.account_domains.is_empty() {
        // Closing gives them back, and another org may have them by now.
        return Err(Refusal::invalid("account_domains", "a closed org has no domains of mail: leave them out"));
    }
    for domain in &org.account_domains {
        if canonical_mail_domain(domain).as_ref() != Ok(domain) {
            let what = "write domains of mail in lower case and ASCII, such as example.org";
            return Err(Refusal::invalid("account_domains", what));
        }
        identity.danger_bring_domain(&mut brought, OrgId::from_record(id), domain)?;
    }
    Ok(brought)
}
