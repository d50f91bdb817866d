//! The task that keeps everything consistent: reads what is kept, does what is due, one step after the other, and serves what comes
//! of it.
//!
//! A round does nothing that is not decided by a pure function of what is kept, what this process has done, and the time
//! ([`ech::next`](crate::ech::next), [`own`](crate::own), `Rollover::step` of sys-dns). Everything that is decided is kept before
//! it is acted on, so that whoever is cut off between two steps goes on with the next. What must never happen here: waiting for
//! something outside, since proofs of certificate authorities wait for the next round.

mod beside;
mod state;
mod zones;

use crate::{
    certificates::{Certificates, Files},
    challenges::Wall,
    ech,
    facts::{EchFacts, Facts, Fetcher, Ordered, Trouble, ZoneFacts, ordered},
    registrar,
    settings::Plan,
    vault::{self, KeptKey},
    wishes::Wish,
};
use beside::Beside;
use state::State;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use sys_acme::{AskError, TooEarlyWhy};
use sys_core::{Entropy, clock::Clock, refusal::Refusal, vault::Vault};
use sys_dns::{answer::Answers, dnssec::SigningKey, zone::Name};
use sys_edge::{
    ech::EchKey,
    tls::{Tls, TlsError},
};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};
use zones::Zones;

/// Steps of one round: all keys of all public names, made, published and retired, and the keys of all zones. More is a mistake of
/// ours, and the next round goes on.
const MAX_STEPS: usize = 256;
/// How often the files are looked at, and everything else, too: nothing depends on being woken.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// After a round that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Why a round stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    /// The vault.
    #[error("what is kept cannot be read or written: {0}")]
    Vault(#[from] Refusal),
    /// The listener does not take the keys.
    #[error("the listener does not take the ECH keys: {0}")]
    Tls(#[from] TlsError),
    /// No key could be made.
    #[error("no ECH key could be made: {0}")]
    Ech(#[from] sys_edge::ech::EchError),
    /// No key could be made or read.
    #[error("no key that signs a zone could be made: {0}")]
    Dnssec(#[from] sys_dns::dnssec::KeyError),
    /// It goes on and on.
    #[error("a round has more than {MAX_STEPS} steps: it goes on in the next")]
    Endless,
}

/// What the keeper drives.
#[derive(Debug, Clone)]
pub(crate) struct Driven {
    pub(crate) tls: Tls,
    pub(crate) answers: Answers,
    pub(crate) certificates: Certificates,
    pub(crate) wall: Wall,
}

/// The task's state.
pub(crate) struct Keeper {
    pub(crate) plan: Arc<Plan>,
    pub(crate) vault: Vault,
    pub(crate) driven: Driven,
    pub(crate) clock: Clock,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) bell: Arc<Notify>,
    /// Those who fetch certificates; none before the first round is over.
    pub(crate) fetchers: Vec<Fetcher>,
    pub(crate) facts: watch::Sender<Arc<Facts>>,
    files: Files,
    done: ech::Done,
    zones: Zones,
    beside: Arc<Beside>,
    workers: JoinSet<()>,
}

impl Keeper {
    pub(crate) fn new(
        plan: Arc<Plan>,
        vault: Vault,
        driven: Driven,
        clock: Clock,
        entropy: Arc<dyn Entropy>,
        bell: Arc<Notify>,
    ) -> Self {
        let files = Files::new(&plan.files);
        Self {
            plan,
            vault,
            driven,
            clock,
            entropy,
            bell,
            fetchers: Vec::new(),
            facts: watch::Sender::new(Arc::default()),
            files,
            done: ech::Done::default(),
            zones: Zones::default(),
            beside: Arc::default(),
            workers: JoinSet::new(),
        }
    }

    /// Rounds until it is told to stop.
    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        // Subscribed before the first look, so that nothing is missed in between.
        let mut changes = self.vault.changes();
        loop {
            let sleep = match self.round().await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(%error, "the domain is not kept up");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                _ = &mut stop => break,
                () = changes.next() => {}
                () = self.bell.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
            while self.workers.try_join_next().is_some() {}
        }
        self.workers.shutdown().await;
    }

    /// Does all that is due, and says when to come again.
    pub(crate) async fn round(&mut self) -> Result<Duration, RoundError> {
        self.files.look(&self.driven.certificates).await;
        let result = self.steps().await;
        let now = self.clock.now().unix_s;
        match &result {
            Ok(state) => self.tell(state, now),
            Err(error) => {
                let trouble = Trouble {
                    about: "the server".to_owned(),
                    problem: error.to_string(),
                    remedy: "tell the operator; the log of the server says more".to_owned(),
                    is_broken: true,
                };
                self.facts.send_modify(|facts| Arc::make_mut(facts).troubles = vec![trouble]);
            }
        }
        let state = result?;
        self.look_around(&state, now);
        let due = ech::due(&abouts(&state), &self.schedule(&state), now);
        let sleep_s = due.map(|due| due.saturating_sub(now)).and_then(|sleep| u64::try_from(sleep).ok());
        Ok(sleep_s.map_or(LONGEST_SLEEP, |sleep| Duration::from_secs(sleep.max(1)).min(LONGEST_SLEEP)))
    }

    /// Steps until there is none left; what is kept then.
    async fn steps(&mut self) -> Result<State, RoundError> {
        for _ in 0..MAX_STEPS {
            let state = State::load(&self.vault, &self.plan).await?;
            let now = self.clock.now().unix_s;
            if self.tend_signing_keys(&state, now).await? || self.grant(&state, now).await? {
                continue;
            }
            match ech::next(&abouts(&state), &self.schedule(&state), &self.done, now) {
                Some(step) => self.ech_step(&state, step, now).await?,
                None => {
                    let shown = self.done.shown.clone();
                    self.publish(&state, &shown, now).await?;
                    return Ok(state);
                }
            }
        }
        Err(RoundError::Endless)
    }

    async fn ech_step(&mut self, state: &State, step: ech::Step, now: i64) -> Result<(), RoundError> {
        let about = |id: &str| state.ech.iter().find(|kept| kept.about.id == id);
        match step {
            ech::Step::Accept => self.accept(state, now)?,
            ech::Step::Show(ids) => {
                self.publish(state, &ids, now).await?;
                self.done.shown = ids;
            }
            ech::Step::Make { public_name } => {
                let taken: Vec<u8> = state.ech.iter().map(|kept| kept.key.config_id()).collect();
                let key = EchKey::generate(self.free_id(&taken), &public_name)?;
                self.vault.change("make-ech-key", vec![KeptKey::new(key, now).put()]).await?;
            }
            ech::Step::Publish { id } => {
                if let Some(kept) = about(&id) {
                    self.vault.change("publish-ech-key", vec![kept.with(|about| about.published = true)]).await?;
                }
            }
            ech::Step::Retire { id } => {
                if let Some(kept) = about(&id) {
                    let retired = kept.with(|about| about.retired_unix_s = Some(now));
                    self.vault.change("retire-ech-key", vec![retired]).await?;
                }
            }
            ech::Step::Drop { id } => self.vault.change("drop-ech-key", vec![vault::remove(vault::ECH, &id)]).await?,
        }
        Ok(())
    }

    /// Has the listener accept all keys that are kept. The first is the one that clients with a stale key are told: one that is
    /// published, where there is one.
    fn accept(&mut self, state: &State, now: i64) -> Result<(), RoundError> {
        let abouts = abouts(state);
        let schedule = self.schedule(state);
        let offered = ech::offered(&abouts, &schedule, now);
        let first = schedule.public_names.iter().find_map(|name| offered.get(name.as_str())).map(|key| key.id.as_str());
        let mut keys: Vec<&KeptKey> = state.ech.iter().collect();
        keys.sort_by_key(|kept| (Some(kept.about.id.as_str()) != first, -kept.about.made_unix_s));
        let ids = keys.iter().map(|kept| kept.about.id.clone()).collect();
        let keys = keys.into_iter().map(KeptKey::copy).collect::<Result<Vec<_>, _>>()?;
        // A listener that has had keys keeps the last ones: it cannot be without.
        if !keys.is_empty() {
            self.driven.tls.set_ech(&keys)?;
        }
        self.done.accepted = ids;
        Ok(())
    }

    /// A number for a key that no other has.
    fn free_id(&self, taken: &[u8]) -> u8 {
        let mut random = [0];
        self.entropy.fill(&mut random);
        let [first] = random;
        (0..=u8::MAX).map(|more| first.wrapping_add(more)).find(|id| !taken.contains(id)).unwrap_or(first)
    }

    fn schedule(&self, state: &State) -> ech::Schedule {
        let names = self.plan.public_names.iter().filter(|_| self.plan.serves_zones);
        ech::Schedule {
            public_names: names.map(Name::host).collect(),
            rotate_every_s: self.plan.rotate_every_s,
            asked_unix_s: state.ech_asked(),
        }
    }

    /// Makes keys for zones that have none, and takes the next step of rollovers. Whether anything was kept.
    async fn tend_signing_keys(&mut self, state: &State, now: i64) -> Result<bool, RoundError> {
        let mut changes = Vec::new();
        for domain in self.plan.domains.iter().filter(|_| self.plan.serves_zones) {
            let apex = &domain.apex;
            let next = match state.rollovers.get(apex) {
                None if state.locked.contains(apex) => None,
                None => Some(sys_dns::dnssec::Rollover::begin(SigningKey::generate()?)),
                Some(rollover) => {
                    let seen = self.beside.seen();
                    let parent = seen.get(apex).and_then(|seen| seen.fresh_ds(now));
                    rollover.step(apex, now, parent)
                }
            };
            if let Some(next) = next {
                changes.push(vault::put(vault::DNSSEC, &apex.to_string(), next.to_bytes()?));
            }
        }
        let is_change = !changes.is_empty();
        if is_change {
            self.vault.change("tend-signing-keys", changes).await?;
        }
        Ok(is_change)
    }

    /// Does what people have asked for. Whether anything was kept.
    async fn grant(&mut self, state: &State, now: i64) -> Result<bool, RoundError> {
        for (wish, _) in &state.wishes {
            let fulfilled = vault::remove(vault::WISH, &wish.place());
            match wish {
                Wish::RotateEch => {
                    if ech::is_answered(&abouts(state), &self.schedule(state), now) {
                        self.vault.change("rotate-ech-keys", vec![fulfilled]).await?;
                        return Ok(true);
                    }
                }
                Wish::RollKey(apex) => {
                    let mut changes = vec![fulfilled];
                    if let Some(rollover) = state.rollovers.get(apex) {
                        match rollover.start(SigningKey::generate()?, now) {
                            Ok(next) => changes.push(vault::put(vault::DNSSEC, &apex.to_string(), next.to_bytes()?)),
                            Err(error) => self.beside.refuse(&wish.place(), error, now),
                        }
                    }
                    self.vault.change("roll-signing-key", changes).await?;
                    return Ok(true);
                }
                Wish::Renew(_) | Wish::Revoke(_) => self.ask_fetchers(wish, now),
            }
        }
        Ok(false)
    }

    /// Hands a wish to those who fetch certificates, beside the rounds: its order may need proofs in the zone.
    fn ask_fetchers(&mut self, wish: &Wish, now: i64) {
        if self.fetchers.is_empty() {
            return;
        }
        let Some(under_way) = self.beside.begin(wish.place(), now) else { return };
        let (wish, fetchers, beside) = (wish.clone(), self.fetchers.clone(), self.beside.clone());
        let (vault, clock) = (self.vault.clone(), self.clock.clone());
        self.workers.spawn(async move {
            let mut result = Ok(());
            for Fetcher { keeper: fetcher, .. } in fetchers {
                result = match &wish {
                    Wish::Revoke(name) => fetcher.revoke(name).await,
                    Wish::Renew(name) => fetcher.renew_now(name).await,
                    Wish::RotateEch | Wish::RollKey(_) => Ok(()),
                };
                if !matches!(result, Err(AskError::Unknown { .. })) {
                    break;
                }
            }
            // Who is busy is asked again in the next round, for which nobody rings: it would be the next moment, until the order ends.
            if !matches!(result, Err(AskError::Busy)) {
                // What is too new has come since somebody asked: nobody is let ask before.
                let is_done =
                    |error: &AskError| matches!(error, AskError::TooEarly(early) if early.why == TooEarlyWhy::New);
                if let Some(error) = result.err().filter(|error| !is_done(error)) {
                    beside.refuse(&wish.place(), &error, clock.now().unix_s);
                }
                // The commit wakes the keeper. Where there is none, because the disk is full, say, ringing would be no use either.
                let fulfilled = vec![vault::remove(vault::WISH, &wish.place())];
                if let Err(error) = vault.change("ask-for-certificate", fulfilled).await {
                    tracing::error!(%error, "a wish that is fulfilled is kept still");
                }
            }
            drop(under_way);
        });
    }

    /// Looks at what the world sees of the zones, beside the rounds.
    fn look_around(&mut self, state: &State, now: i64) {
        let Some(resolver) = self.plan.resolver.filter(|_| self.plan.serves_zones) else { return };
        let seen = self.beside.seen();
        for domain in &self.plan.domains {
            let last = seen.get(&domain.apex);
            let rollover = state.rollovers.get(&domain.apex);
            let entries = registrar::entries(&self.plan, domain, rollover, last);
            if !registrar::is_due(&entries, rollover, last, now) {
                continue;
            }
            let Some(under_way) = self.beside.begin(format!("look {}", domain.apex), now) else { continue };
            let (plan, domain, beside) = (self.plan.clone(), domain.clone(), self.beside.clone());
            let (entropy, bell) = (self.entropy.clone(), self.bell.clone());
            self.workers.spawn(async move {
                let looked = registrar::look(resolver, &plan, &domain, entropy.as_ref(), now).await;
                beside.saw(domain.apex.clone(), looked);
                drop(under_way);
                bell.notify_one();
            });
        }
    }

    /// What the world shows, without a look at it.
    #[cfg(test)]
    pub(crate) fn saw(&self, seen: registrar::Seen) {
        for domain in &self.plan.domains {
            self.beside.saw(domain.apex.clone(), seen.clone());
        }
    }

    /// Waits for those who work beside the rounds.
    #[cfg(test)]
    pub(crate) async fn workers_are_done(&mut self) {
        while self.workers.join_next().await.is_some() {}
    }

    async fn publish(&mut self, state: &State, shown: &BTreeSet<String>, now: i64) -> Result<(), RoundError> {
        let moment = crate::own::Moment { ech: ech_lists(&self.plan, state, shown), proofs: self.driven.wall.wanted() };
        if self.plan.serves_zones {
            self.zones.publish(&self.plan, &self.vault, &self.driven.answers, state, &moment, now).await?;
            self.driven.wall.are_served(moment.proofs.clone());
        }
        self.facts.send_if_modified(|facts| {
            let is_new = facts.moment != moment;
            if is_new {
                Arc::make_mut(facts).moment = moment;
            }
            is_new
        });
        Ok(())
    }

    /// Leaves behind how everything stands.
    fn tell(&self, state: &State, now: i64) {
        let seen = self.beside.seen();
        let mut troubles: Vec<Trouble> = state.troubles.clone();
        troubles.extend(self.files.troubles().cloned());
        troubles.extend(self.zones.troubles().cloned());
        troubles.extend(self.beside.refused(now));
        let schedule = self.schedule(state);
        let key = |kept: &KeptKey| EchFacts {
            about: kept.about.clone(),
            config_id: kept.key.config_id(),
            is_shown: self.done.shown.contains(&kept.about.id),
            changes_unix_s: match kept.about.retired_unix_s {
                Some(retired) => retired.saturating_add(ech::HOLD_S),
                None => ech::rotation(&kept.about, &schedule),
            },
        };
        let zone = |apex: &Name, facts: &ZoneFacts| {
            let (rollover, seen) = (state.rollovers.get(apex).cloned(), seen.get(apex).cloned());
            (apex.clone(), ZoneFacts { rollover, seen, ..facts.clone() })
        };
        let facts = Facts {
            moment: self.facts.borrow().moment.clone(),
            zones: self.zones.facts().map(|(apex, facts)| zone(apex, facts)).collect(),
            ordered: self.ordered(),
            shown: self.driven.certificates.shown(),
            ech: state.ech.iter().map(key).collect(),
            troubles,
            now_unix_s: now,
        };
        self.facts.send_replace(Arc::new(facts));
    }

    fn ordered(&self) -> Vec<Ordered> {
        self.fetchers.iter().flat_map(|fetcher| ordered(fetcher.source, &fetcher.keeper)).collect()
    }
}

/// The lists of ECH configurations that records say: for each public name one that begins with it.
fn ech_lists(plan: &Plan, state: &State, shown: &BTreeSet<String>) -> Vec<Vec<u8>> {
    let names: Vec<String> = plan.public_names.iter().map(Name::host).collect();
    let key =
        |name: &String| state.ech.iter().find(|kept| shown.contains(&kept.about.id) && kept.about.public_name == *name);
    let mut keys: Vec<&EchKey> = names.iter().filter_map(key).map(|kept| &kept.key).collect();
    let lists = (0..keys.len()).map(|_| {
        let list = sys_edge::ech::config_list(&keys);
        keys.rotate_left(1);
        list
    });
    lists.collect()
}

fn abouts(state: &State) -> Vec<ech::Key> {
    state.ech.iter().map(|kept| kept.about.clone()).collect()
}
