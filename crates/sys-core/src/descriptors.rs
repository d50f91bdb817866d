//! sys-core's own contract: the records of [`crate::identity`] and [`crate::vault`], which no method serves, and the
//! DescriptorService.

use crate::{
    host::Host,
    identity::wire::{GetDescriptorsRequest, GetDescriptorsResponse},
    module::{Handlers, Module},
    refusal::Refusal,
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

const SOURCES: [(&str, &str); 3] = [
    ("sys/core/v1/descriptor.proto", include_str!("../../../proto/sys/core/v1/descriptor.proto")),
    ("sys/core/v1/identity.proto", include_str!("../../../proto/sys/core/v1/identity.proto")),
    ("sys/core/v1/vault.proto", include_str!("../../../proto/sys/core/v1/vault.proto")),
];

/// sys-core's own contract, compiled.
pub fn contract() -> Result<Contract, Problems> {
    let sources = SOURCES.map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    load("sys-core", Origin::BuiltIn, &sources)
}

/// The module of sys-core itself.
pub(crate) struct CoreModule {
    contract: Arc<Contract>,
    /// Weak, since the host holds the module.
    host: Weak<Host>,
}

impl fmt::Debug for CoreModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoreModule")
    }
}

impl CoreModule {
    pub(crate) fn new(host: &Arc<Host>) -> Result<Self, Problems> {
        Ok(Self { contract: Arc::new(contract()?), host: Arc::downgrade(host) })
    }
}

impl Module for CoreModule {
    fn contract(&self) -> Arc<Contract> {
        self.contract.clone()
    }

    fn register(self: Arc<Self>, handlers: &mut Handlers) {
        handlers.unary("sys.core.v1.DescriptorService/GetDescriptors", move |call, _: GetDescriptorsRequest| {
            let module = self.clone();
            async move {
                let host = module.host.upgrade().ok_or_else(|| Refusal::internal("the host is gone"))?;
                let shown = host.shown_to(call.caller(), call.now())?;
                Ok(GetDescriptorsResponse {
                    file_descriptor_sets: shown.files.iter().map(|set| set.to_vec()).collect(),
                })
            }
        });
    }
}
