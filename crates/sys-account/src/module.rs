//! The module put together: its contract, its settings, and a handler for each method that the contract does not serve.

use crate::{account, audit, auth, membership, org, project, session};
use std::{fmt, sync::Arc};
use sys_contract::{
    load::{Origin, SourceFile, load},
    model::Contract,
    problem::Problems,
};
use sys_core::{
    audit::AuditLogs,
    identity::Identity,
    module::{Handlers, Module, Registry},
};

/// The module's name.
pub const NAME: &str = "sys-account";

const SOURCES: [(&str, &str); 7] = [
    ("sys/account/v1/account.proto", include_str!("../../../proto/sys/account/v1/account.proto")),
    ("sys/account/v1/audit.proto", include_str!("../../../proto/sys/account/v1/audit.proto")),
    ("sys/account/v1/auth.proto", include_str!("../../../proto/sys/account/v1/auth.proto")),
    ("sys/account/v1/membership.proto", include_str!("../../../proto/sys/account/v1/membership.proto")),
    ("sys/account/v1/org.proto", include_str!("../../../proto/sys/account/v1/org.proto")),
    ("sys/account/v1/project.proto", include_str!("../../../proto/sys/account/v1/project.proto")),
    ("sys/account/v1/session.proto", include_str!("../../../proto/sys/account/v1/session.proto")),
];

/// What an operator decides about accounts.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The URL that clients reach the server by, as it stands in mails.
    pub server: String,
    /// Whether any verified account may make an org, and be its first admin.
    pub accounts_found_orgs: bool,
}

/// The account module.
pub struct AccountModule {
    contract: Arc<Contract>,
    pub(crate) identity: Identity,
    pub(crate) audit: AuditLogs,
    pub(crate) settings: Settings,
}

impl fmt::Debug for AccountModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountModule").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The contract of this module.
pub fn contract() -> Result<Contract, Problems> {
    let sources = SOURCES.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    load(NAME, Origin::BuiltIn, &sources)
}

impl AccountModule {
    /// The module over the handles that it alone is given.
    pub fn new(identity: Identity, audit: AuditLogs, settings: Settings) -> Result<Arc<Self>, Problems> {
        Ok(Arc::new(Self { contract: Arc::new(contract()?), identity, audit, settings }))
    }
}

impl Module for AccountModule {
    fn contract(&self) -> Arc<Contract> {
        self.contract.clone()
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        let mut registry = Registry::new(self, handlers);
        auth::register(&mut registry);
        account::register(&mut registry);
        audit::register(&mut registry);
        membership::register(&mut registry);
        org::register(&mut registry);
        project::register(&mut registry);
        session::register(&mut registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_policy::Rules;

    #[test]
    fn the_contract_loads_and_its_rules_compile() {
        let contract = contract().unwrap_or_else(|problems| panic!("{problems}"));
        Rules::compile(&contract).unwrap_or_else(|problems| panic!("{problems}"));
    }

    #[test]
    fn everything_that_becomes_help_is_commented() {
        let contract = contract().unwrap();
        for service in &contract.services {
            assert!(!service.comment.is_empty(), "{}", service.full_name);
            for method in &service.methods {
                assert!(!method.comment.is_empty(), "{}", method.path);
                for field in method.descriptor.input().fields().chain(method.descriptor.output().fields()) {
                    let own = field.parent_message().package_name() == "sys.account.v1";
                    assert!(!own || !sys_contract::comment_of(&field).is_empty(), "{}", field.full_name());
                }
            }
        }
    }
}
