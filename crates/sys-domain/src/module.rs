//! The module put together: its contract, and a handler for each method.

use crate::{
    dns,
    facts::{Facts, Ordered, Source, Trouble, ordered},
    settings::Plan,
    tls,
};
use std::{
    fmt,
    sync::{Arc, Weak},
};
use sys_contract::{
    load::{Origin, SourceFile, load},
    model::Contract,
    problem::Problems,
};
use sys_core::{
    module::{Handlers, Module, Registry},
    refusal::{Reason, Refusal},
    vault::Vault,
};
use tokio::sync::watch;

/// The module's name.
pub const NAME: &str = "sys-domain";

const SOURCES: [(&str, &str); 3] = [
    ("sys/domain/v1/dns.proto", include_str!("../../../proto/sys/domain/v1/dns.proto")),
    ("sys/domain/v1/finding.proto", include_str!("../../../proto/sys/domain/v1/finding.proto")),
    ("sys/domain/v1/tls.proto", include_str!("../../../proto/sys/domain/v1/tls.proto")),
];

/// The contract of this module.
pub fn contract() -> Result<Contract, Problems> {
    let sources = SOURCES.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    load(NAME, Origin::BuiltIn, &sources)
}

/// The domain module.
pub struct DomainModule {
    contract: Arc<Contract>,
    kept: Option<Kept>,
}

/// What its methods work on, where the server has a domain.
pub(crate) struct Kept {
    pub(crate) plan: Arc<Plan>,
    pub(crate) vault: Vault,
    /// As the keeper last left it.
    pub(crate) facts: watch::Receiver<Arc<Facts>>,
    /// Those who fetch certificates, while the keeper has them.
    pub(crate) fetchers: Vec<(Source, Weak<sys_acme::Keeper>)>,
}

impl Kept {
    /// How everything stands at this moment: an order that has just failed is told without waiting for the next round.
    pub(crate) fn facts(&self, now_unix_s: i64) -> Facts {
        let mut facts = Facts::clone(&self.facts.borrow());
        // Who leaves them behind is gone: nothing changes any more, whatever happens.
        if self.facts.has_changed().is_err() {
            facts.troubles.push(Trouble {
                about: "the server".to_owned(),
                problem: "the domain is not kept up any more, by a fault of the server".to_owned(),
                remedy: "restart the server, and report what its log says".to_owned(),
                is_broken: true,
            });
        }
        facts.ordered = self.ordered();
        facts.now_unix_s = now_unix_s;
        facts
    }

    /// How it stands with the certificates that are fetched.
    pub(crate) fn ordered(&self) -> Vec<Ordered> {
        let there = self.fetchers.iter().filter_map(|(source, keeper)| Some((*source, keeper.upgrade()?)));
        there.flat_map(|(source, keeper)| ordered(source, &keeper)).collect()
    }
}

impl fmt::Debug for DomainModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainModule").field("has_domain", &self.kept.is_some()).finish_non_exhaustive()
    }
}

impl DomainModule {
    /// The module of a server that has no domain: it says so, and what to do.
    pub fn without_domain() -> Result<Arc<Self>, Problems> {
        Ok(Arc::new(Self { contract: Arc::new(contract()?), kept: None }))
    }

    pub(crate) fn new(kept: Kept) -> Result<Arc<Self>, Problems> {
        Ok(Arc::new(Self { contract: Arc::new(contract()?), kept: Some(kept) }))
    }

    /// What there is to work on, for a method that only looks.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// What there is to work on, for a method that cannot do without.
    pub(crate) fn needed(&self) -> Result<&Kept, Refusal> {
        self.kept().ok_or_else(|| Refusal::new(Reason::NotConfigured, NO_DOMAIN).help(NO_DOMAIN_HELP))
    }
}

/// What is said of a server without a domain.
pub(crate) const NO_DOMAIN: &str = "no domain is configured";
/// And what to do.
pub(crate) const NO_DOMAIN_HELP: &str = "start the server with --domain and the name of your domain";

impl Module for DomainModule {
    fn contract(&self) -> Arc<Contract> {
        self.contract.clone()
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        let mut registry = Registry::new(self, handlers);
        dns::register(&mut registry);
        tls::register(&mut registry);
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
                    let own = field.parent_message().package_name() == "sys.domain.v1";
                    assert!(!own || !sys_contract::comment_of(&field).is_empty(), "{}", field.full_name());
                }
            }
        }
    }

    #[test]
    fn the_commands_are_short_words() {
        let contract = contract().unwrap();
        let commands = contract.services.iter().flat_map(|service| {
            let verb = |name: &str| format!("{} {}", service.noun, sys_contract::names::verb(name, &service.noun));
            service.methods.iter().map(move |method| verb(method.descriptor.name())).collect::<Vec<_>>()
        });
        let expected = [
            "dns list",
            "dns set",
            "dns delete",
            "dns status",
            "dns roll-key",
            "tls status",
            "tls renew",
            "tls revoke",
            "tls rotate-ech-key",
        ];
        assert_eq!(commands.collect::<Vec<_>>(), expected);
    }
}
