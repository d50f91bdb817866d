//! The zones as they are served: made from what is kept, and served anew when anything in them has changed.

use super::{RoundError, State};
use crate::{
    facts::{Trouble, ZoneFacts},
    own::{self, Built, Moment},
    serial,
    settings::{DomainPlan, Plan},
    vault,
};
use std::collections::BTreeMap;
use sys_core::vault::Vault;
use sys_dns::{
    answer::{Answers, SignedZone},
    dnssec::Rollover,
    zone::{Name, RecordSet, Zone},
};

/// What is served.
#[derive(Debug, Default)]
pub(super) struct Zones {
    served: BTreeMap<Name, Served>,
    troubles: Vec<Trouble>,
}

#[derive(Debug)]
struct Served {
    zone: Zone,
    rollover: Rollover,
    /// What tells one set of keys from another.
    keys: Vec<u16>,
    facts: ZoneFacts,
}

impl Zones {
    /// Serves the zones if any of them has changed. Their serials are kept before.
    pub(super) async fn publish(
        &mut self,
        plan: &Plan,
        vault: &Vault,
        answers: &Answers,
        state: &State,
        moment: &Moment,
        now: i64,
    ) -> Result<(), RoundError> {
        self.troubles.clear();
        let (mut next, mut serials) = (Vec::new(), Vec::new());
        for domain in &plan.domains {
            // Without its keys a zone that is signed would be refused: what was served before is served on.
            let Some(rollover) = state.rollovers.get(&domain.apex) else { continue };
            let Some(built) = self.build(plan, domain, state, moment) else { continue };
            let (keys, last) = (roles(rollover), self.served.get(&domain.apex));
            if last.is_some_and(|last| last.keys == keys && is_same(&last.zone, &built.zone)) {
                self.note(&domain.apex, built, rollover);
                continue;
            }
            // A serial is kept before it is served, so the one that is kept is the newest.
            let newest = state.serials.get(&domain.apex).copied().or_else(|| last.map(|last| last.zone.soa().serial));
            let serial = serial::next(newest, now);
            serials.push(vault::put_serial(&domain.apex.to_string(), serial));
            next.push((domain.apex.clone(), serial, keys, built, rollover.clone()));
        }
        if next.is_empty() {
            return Ok(());
        }
        vault.change("publish-zone", serials).await?;
        for (apex, serial, keys, built, rollover) in next {
            self.take(apex, serial, keys, built, rollover);
        }
        let zones =
            self.served.values().map(|served| SignedZone { zone: served.zone.clone(), keys: served.rollover.keys() });
        answers.serve(zones.collect());
        Ok(())
    }

    /// The zone of a domain with no serial of its own yet.
    fn build(&mut self, plan: &Plan, domain: &DomainPlan, state: &State, moment: &Moment) -> Option<Built> {
        let own = own::sets(plan, domain, moment);
        let within = state.entered.iter().filter(|set| set.name.is_within(&domain.apex));
        let entered: Vec<RecordSet> = within.cloned().collect();
        match own::build(plan, domain, &own, &entered, 0) {
            Ok(built) => Some(built),
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                self.troubles.push(Trouble {
                    about: domain.apex.to_string(),
                    problem: format!("the server's own records make no zone: {}", faults.join("; ")),
                    remedy: "correct the names and addresses in the settings of the server".to_owned(),
                    is_broken: true,
                });
                None
            }
        }
    }

    fn take(&mut self, apex: Name, serial: u32, keys: Vec<u16>, built: Built, rollover: Rollover) {
        let Built { zone, hidden, faults } = built;
        let mut soa = zone.soa().clone();
        soa.serial = serial;
        // The same sets again, of which no check can find what it did not find before.
        let Ok(zone) = Zone::build(apex.clone(), zone.sets().cloned().collect(), soa) else { return };
        let facts = ZoneFacts { serial, sets: zone.sets().count(), hidden, faults, ..ZoneFacts::default() };
        self.served.insert(apex, Served { zone, rollover, keys, facts });
    }

    /// What has changed though the zone has not: a set that was entered and is hidden changes nothing in it.
    fn note(&mut self, apex: &Name, built: Built, rollover: &Rollover) {
        if let Some(served) = self.served.get_mut(apex) {
            (served.facts.hidden, served.facts.faults) = (built.hidden, built.faults);
            served.rollover = rollover.clone();
        }
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = (&Name, &ZoneFacts)> {
        self.served.iter().map(|(apex, served)| (apex, &served.facts))
    }

    pub(super) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.troubles.iter()
    }
}

/// Which keys do what.
fn roles(rollover: &Rollover) -> Vec<u16> {
    let keys = rollover.keys();
    let published = keys.published().iter().map(|key| key.key_tag());
    [keys.signer().key_tag(), keys.wanted().key_tag()].into_iter().chain(published).collect()
}

/// Whether two zones say the same, whatever their serials.
fn is_same(one: &Zone, other: &Zone) -> bool {
    one.sets().eq(other.sets())
}
