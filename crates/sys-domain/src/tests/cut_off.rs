//! Whoever is cut off at any step goes on as if he had not been: keys of ECH, and a signing key on its whole way to the next.

use super::{Bed, name, settings};
use crate::{keeper::Keeper, registrar::Seen, settings::Settings, vault};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use sys_dns::{
    answer::Answers,
    dnssec::{ParentDs, Rollover},
    respond::{Responder, Rules, Transport, Via},
    zone::Data,
};

const HOUR_S: i64 = 3_600;

/// Begins a round and ends the process when the round has come to a halt so many times; whether the round was over before.
async fn cut_off(keeper: &mut Keeper, halts: usize) -> bool {
    let mut round = pin!(keeper.round());
    for _ in 0..halts {
        let polled = round.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if matches!(polled, Poll::Ready(_)) {
            return true;
        }
        // Others do their part meanwhile.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

/// What must hold of a process that has done its round.
async fn check(bed: &Bed, keeper: &Keeper, serials: &mut Vec<u32>) {
    let facts = keeper.facts.borrow().clone();
    assert!(facts.troubles.is_empty(), "{:?}", facts.troubles);
    let published: Vec<_> = facts.ech.iter().filter(|key| key.is_shown).collect();
    assert_eq!(published.len(), 1, "one public name has one published key");
    let own = name("example.org");
    assert!(facts.zones.contains_key(&own));
    assert!(facts.zones[&own].rollover.is_some());
    serials.push(facts.zones[&own].serial);
    assert!(serials.is_sorted_by(|a, b| a < b), "{serials:?}");
    let kept = bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
    assert_eq!(kept.len(), 1);
}

/// The key that signs, as it is kept.
async fn signing_key(bed: &Bed) -> Option<u16> {
    let kept = bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
    kept.first().map(|item| Rollover::from_bytes(&item.value).unwrap().keys().signer().key_tag())
}

#[tokio::test]
async fn whoever_is_cut_off_at_any_step_goes_on_at_the_next_start() {
    let mut settings = settings();
    settings.local_ca = false;
    // By so many times that the round comes to a halt before it is cut off; and whether keys are due.
    for is_due in [false, true] {
        let bed = Bed::on_disk().await;
        let mut serials = Vec::new();
        if is_due {
            let mut keeper = bed.keeper(&settings);
            keeper.round().await.unwrap();
            check(&bed, &keeper, &mut serials).await;
        }
        for halts in 0..40 {
            if is_due {
                bed.wait_s(86_400);
            }
            let key = signing_key(&bed).await;
            cut_off(&mut bed.keeper(&settings), halts).await;
            let mut keeper = bed.keeper(&settings);
            keeper.round().await.unwrap();
            check(&bed, &keeper, &mut serials).await;
            if let Some(key) = key {
                assert_eq!(signing_key(&bed).await, Some(key), "a key that others know is never replaced unasked");
            }
            let due = bed.monitor.vault().load(vault::ECH).await.unwrap().len();
            assert!(due <= crate::ech::MAX_LIVE, "{due} keys after {halts} halts");
        }
    }
}

/// Numbers from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What resolvers may hold from one moment: the parent's DS set, our DNSKEY set, and by which key data is signed. By their tags.
struct Said {
    at: i64,
    ds: BTreeSet<u16>,
    keys: BTreeSet<u16>,
    signer: BTreeSet<u16>,
}

/// Whether a resolver that holds any three of them, each for as long as it may be kept, validates.
fn every_resolver_validates(said: &[Said], now: i64) -> bool {
    let kept = |ttl_s: i64| said.iter().filter(move |said| now - said.at <= ttl_s);
    kept(24 * HOUR_S).all(|parent| {
        kept(HOUR_S).all(|keys| {
            !keys.keys.is_disjoint(&parent.ds) && kept(24 * HOUR_S).all(|data| data.signer.is_subset(&keys.keys))
        })
    })
}

/// The tags of the keys that are served, and of those that sign the addresses; nothing where nothing is served.
fn served(bed: &Bed, answers: &Answers) -> Option<(BTreeSet<u16>, BTreeSet<u16>)> {
    let clock = bed.clock.clone();
    let rules = Rules { answers_per_s: None, ..Rules::default() };
    let responder = Responder::new(answers.clone(), rules, Arc::new(move || clock.now().unix_s), [[1; 16], [2; 16]]);
    let records = |kind: u16| {
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        question.extend_from_slice(name("example.org").wire());
        question.extend(kind.to_be_bytes());
        // With EDNS, and signatures.
        question.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 0]);
        let mut out = Vec::new();
        responder.answer(&question, Via { transport: Transport::Https, source: [127, 0, 0, 1].into() }, &mut out);
        answer(&out)
    };
    let keys: BTreeSet<u16> = records(48).iter().filter(|(kind, _)| *kind == 48).map(|(_, data)| tag(data)).collect();
    let signatures = records(1).into_iter().filter(|(kind, _)| *kind == 46);
    let signers = signatures.map(|(_, data)| u16::from_be_bytes([data[16], data[17]])).collect();
    (!keys.is_empty()).then_some((keys, signers))
}

/// The records of an answer, by type.
fn answer(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let number = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let name = |mut at: usize| loop {
        match message[at] {
            0 => return at + 1,
            192.. => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let mut at = name(12) + 4;
    let records = (0..number(6)).map(|_| {
        let fields = name(at);
        let (from, length) = (fields + 10, usize::from(number(fields + 8)));
        at = from + length;
        (number(fields), message[from..at].to_vec())
    });
    records.collect()
}

/// RFC 4034 appendix B.
fn tag(dnskey: &[u8]) -> u16 {
    let sum =
        dnskey.chunks(2).fold(0_u32, |sum, two| sum + (u32::from(two[0]) << 8) + u32::from(*two.get(1).unwrap_or(&0)));
    u16::try_from((sum + (sum >> 16)) & 0xffff).unwrap()
}

/// The number of the state, as it is kept.
async fn state(bed: &Bed) -> usize {
    let kept = bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
    match Rollover::from_bytes(&kept[0].value).unwrap() {
        Rollover::Steady { .. } => 0,
        Rollover::Publishing { .. } => 1,
        Rollover::Asking { .. } => 2,
        Rollover::Retiring { .. } => 3,
    }
}

/// A world in which hours pass, with a registrar who does in his own time what the status asks him to, and sometimes takes it back.
struct World {
    bed: Bed,
    settings: Settings,
    draw: Draw,
    ds: Vec<Data>,
    said: Vec<Said>,
}

impl World {
    fn now(&self) -> i64 {
        self.bed.clock.now().unix_s
    }

    fn keeper(&self) -> Keeper {
        let keeper = self.bed.keeper(&self.settings);
        keeper.saw(Seen {
            at_unix_s: self.now(),
            servers: Ok(Vec::new()),
            ds: Ok(ParentDs { records: self.ds.clone(), ttl_s: 60 }),
            glue: BTreeMap::new(),
        });
        keeper
    }

    /// Notes what the world may keep of what a process serves.
    fn hear(&mut self, keeper: &Keeper) {
        if let Some((keys, signer)) = served(&self.bed, &keeper.driven.answers) {
            let tags = self.ds.iter().map(|ds| if let Data::Ds { key_tag, .. } = ds { *key_tag } else { 0 });
            self.said.push(Said { at: self.now(), ds: tags.collect(), keys, signer });
            let now = self.now();
            self.said.retain(|said| now - said.at <= 25 * HOUR_S);
            assert!(every_resolver_validates(&self.said, now), "a resolver refuses the zone");
        }
    }

    async fn registrar(&mut self) {
        let kept = self.bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
        let rollover = Rollover::from_bytes(&kept[0].value).unwrap();
        match (&rollover, self.draw.below(6)) {
            (Rollover::Asking { .. } | Rollover::Steady { .. }, 0 | 1) => {
                self.ds = vec![rollover.keys().wanted().ds(&name("example.org"))];
            }
            (Rollover::Retiring { key, .. }, 0) if self.draw.below(12) == 0 => {
                self.ds = vec![key.ds(&name("example.org"))];
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_signing_key_reaches_the_next_whoever_is_cut_off_wherever() {
    // Cut off in each of the states: before anything was kept, and behind a step that was.
    let (mut cut, mut moved, mut signers) = ([0; 4], [0; 4], BTreeSet::new());
    for seed in [7, 0x5eed, u64::MAX / 3] {
        let bed = Bed::on_disk().await;
        let settings = Settings { local_ca: false, ..settings() };
        let mut world = World { bed, settings, draw: Draw(seed), ds: Vec::new(), said: Vec::new() };
        let mut keeper = world.keeper();
        keeper.round().await.unwrap();
        let kept = world.bed.monitor.vault().load(vault::DNSSEC).await.unwrap();
        world.ds = vec![Rollover::from_bytes(&kept[0].value).unwrap().keys().wanted().ds(&name("example.org"))];
        for _ in 0..60 {
            let hours = if state(&world.bed).await == 3 { 1 + i64::try_from(world.draw.below(8)).unwrap() } else { 1 };
            world.bed.wait_s(hours * HOUR_S);
            // Until now it was served.
            world.hear(&keeper);
            drop(keeper);
            world.registrar().await;
            if state(&world.bed).await == 0 {
                let wish = vault::put(vault::WISH, "roll-key example.org.", vec![8, 1].into());
                world.bed.monitor.vault().change("test", vec![wish]).await.unwrap();
            }
            // One process after the other, each of which comes a little further.
            for halts in 0..=usize::try_from(world.draw.below(4)).unwrap() {
                let before = state(&world.bed).await;
                let mut keeper = world.keeper();
                let is_cut = !cut_off(&mut keeper, halts).await;
                world.hear(&keeper);
                cut[before] += usize::from(is_cut && halts > 0);
                moved[before] += usize::from(is_cut && state(&world.bed).await != before);
            }
            keeper = world.keeper();
            keeper.round().await.unwrap();
            world.hear(&keeper);
            assert!(keeper.facts.borrow().troubles.is_empty(), "{:?}", keeper.facts.borrow().troubles);
            signers.extend(signing_key(&world.bed).await);
        }
    }
    assert!(cut.iter().all(|cut| *cut > 0), "{cut:?}: some state was never cut off in");
    assert!(moved.iter().all(|moved| *moved > 0), "{moved:?}: no step was ever cut off behind what it had kept");
    assert!(signers.len() > 6, "{signers:?}: keys followed each other");
}
