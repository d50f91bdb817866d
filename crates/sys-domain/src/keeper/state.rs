//! What the vault holds of ours, read.

use crate::{entered, facts::Trouble, settings::Plan, vault, vault::KeptKey, wishes::Wish};
use std::collections::BTreeMap;
use sys_core::{refusal::Refusal, vault::Vault};
use sys_dns::{
    dnssec::Rollover,
    zone::{Name, RecordSet},
};

/// All of it at one moment.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) entered: Vec<RecordSet>,
    pub(crate) ech: Vec<KeptKey>,
    pub(crate) rollovers: BTreeMap<Name, Rollover>,
    /// Zones whose keys are there and cannot be read: others must not take their place.
    pub(crate) locked: Vec<Name>,
    pub(crate) serials: BTreeMap<Name, u32>,
    pub(crate) wishes: Vec<(Wish, i64)>,
    /// What cannot be read.
    pub(crate) troubles: Vec<Trouble>,
}

impl State {
    pub(crate) async fn load(vault: &Vault, plan: &Plan) -> Result<Self, Refusal> {
        let mut state = Self::default();
        for item in vault.load(vault::ZONE).await? {
            match entered::decode(&item.value) {
                Some(set) => state.entered.push(set),
                None => state.trouble("zone", &item.name, "it is not served", "enter it anew with `sys dns set`"),
            }
        }
        for item in vault.load(vault::ECH).await? {
            match KeptKey::read(&item) {
                Ok(key) => state.ech.push(key),
                // Clients that have it are told of the others by retry configurations.
                Err(error) => state.trouble("ECH key", &item.name, &error.to_string(), "nothing: it is replaced"),
            }
        }
        for item in vault.load(vault::DNSSEC).await? {
            let Some(apex) = domain(plan, &item.name) else { continue };
            match Rollover::from_bytes(&item.value) {
                Ok(rollover) => drop(state.rollovers.insert(apex, rollover)),
                Err(error) => {
                    state.trouble("signing keys", &item.name, &error.to_string(), "restore a backup that has them");
                    state.locked.push(apex);
                }
            }
        }
        for item in vault.load(vault::SERIAL).await? {
            let Some(apex) = domain(plan, &item.name) else { continue };
            // One that cannot be read is as good as none: the time is newer than what it was.
            if let Ok(serial) = vault::read_serial(&item.value) {
                state.serials.insert(apex, serial);
            }
        }
        let wishes = vault.load(vault::WISH).await?;
        state.wishes = wishes.iter().filter_map(|item| Wish::read(&item.name, &item.value)).collect();
        Ok(state)
    }

    fn trouble(&mut self, what: &str, name: &str, problem: &str, remedy: &str) {
        self.troubles.push(Trouble {
            about: format!("{what} {name}"),
            problem: format!("what is kept cannot be read: {problem}"),
            remedy: remedy.to_owned(),
            is_broken: true,
        });
    }

    /// When somebody asked for new ECH keys, if it is not done yet.
    pub(crate) fn ech_asked(&self) -> Option<i64> {
        self.wishes.iter().find(|(wish, _)| *wish == Wish::RotateEch).map(|(_, asked)| *asked)
    }
}

/// The domain of the plan that an item is of; those of domains that were given up stay where they are.
fn domain(plan: &Plan, name: &str) -> Option<Name> {
    let name = Name::parse(name).ok()?;
    plan.domains.iter().find(|domain| domain.apex == name).map(|domain| domain.apex.clone())
}
