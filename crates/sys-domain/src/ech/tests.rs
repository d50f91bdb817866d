//! The schedule in a world that keeps what the vault keeps, forgets what a process forgets, and has caches.

use super::*;
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

struct World {
    now: i64,
    /// The vault.
    keys: Vec<Key>,
    schedule: Schedule,
    /// The process.
    done: Done,
    /// The last moment at which a key stood in a record that was served.
    served: BTreeMap<String, i64>,
    made: u32,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let public_names = names.iter().map(|name| (*name).to_owned()).collect();
        let schedule = Schedule { public_names, rotate_every_s: DAY_S, asked_unix_s: None };
        let (keys, done, served) = (Vec::new(), Done::default(), BTreeMap::new());
        Self { now: 1_800_000_000, keys, schedule, done, served, made: 0 }
    }

    /// One step; whether there was one.
    fn step(&mut self) -> bool {
        let Some(step) = next(&self.keys, &self.schedule, &self.done, self.now) else { return false };
        let now = self.now;
        match step {
            Step::Accept => self.done.accepted = self.keys.iter().map(|key| key.id.clone()).collect(),
            Step::Make { public_name } => {
                self.made += 1;
                let id = format!("key {:06}", self.made);
                self.keys.push(Key { id, public_name, made_unix_s: now, published: false, retired_unix_s: None });
            }
            Step::Publish { id } => self.key(&id).published = true,
            Step::Show(ids) => {
                // What was served until this moment may be in a cache.
                self.note_served();
                self.done.shown = ids;
            }
            Step::Retire { id } => self.key(&id).retired_unix_s = Some(now),
            Step::Drop { id } => self.keys.retain(|key| key.id != id),
        }
        self.note_served();
        self.check();
        true
    }

    fn key(&mut self, id: &str) -> &mut Key {
        self.keys.iter_mut().find(|key| key.id == id).expect("a step names a key that is kept")
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("it does not settle: {:?}", next(&self.keys, &self.schedule, &self.done, self.now));
    }

    fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        self.note_served();
        self.check();
    }

    /// The process dies: what it showed is not shown any more, and nobody is listened to.
    fn restart(&mut self) {
        self.note_served();
        self.done = Done::default();
    }

    fn note_served(&mut self) {
        for id in &self.done.shown {
            self.served.insert(id.clone(), self.now);
        }
    }

    /// What clients may have is accepted, by a process that has begun to listen.
    fn check(&self) {
        if self.done.accepted.is_empty() {
            assert!(self.done.shown.is_empty(), "shown before anything is accepted");
            return;
        }
        for (id, served) in &self.served {
            let in_a_cache = self.now - served <= 2 * i64::from(RECORD_TTL_S);
            assert!(!in_a_cache || self.done.accepted.contains(id), "{id} may be in a cache and is not accepted");
        }
        for name in &self.schedule.public_names {
            let live = self.keys.iter().filter(|key| key.public_name == *name).count();
            assert!(live <= MAX_LIVE, "{live} keys of {name}");
        }
    }
}

#[test]
fn a_first_start_accepts_before_it_publishes() {
    let mut world = World::new(&["public.example"]);
    let mut steps = Vec::new();
    while let Some(step) = next(&world.keys, &world.schedule, &world.done, world.now) {
        steps.push(match step {
            Step::Accept => "accept",
            Step::Make { .. } => "make",
            Step::Publish { .. } => "publish",
            Step::Show(_) => "show",
            Step::Retire { .. } => "retire",
            Step::Drop { .. } => "drop",
        });
        world.step();
    }
    assert_eq!(steps, ["make", "accept", "publish", "show"]);
}

#[test]
fn a_rotation_keeps_the_old_key_for_as_long_as_caches_may() {
    let mut world = World::new(&["public.example"]);
    world.settle();
    world.wait(DAY_S - 1);
    world.settle();
    assert_eq!(world.keys.len(), 1, "too soon");
    world.wait(1);
    world.settle();
    assert_eq!(world.done.shown.len(), 1);
    assert_eq!(world.done.accepted.len(), 2);
    let old = world.keys.iter().find(|key| key.retired_unix_s.is_some()).expect("it is retired").id.clone();
    assert!(!world.done.shown.contains(&old));
    world.wait(HOLD_S - 1);
    world.settle();
    assert!(world.done.accepted.contains(&old), "too soon");
    world.wait(1);
    world.settle();
    assert_eq!(world.done.accepted, world.done.shown);
}

#[test]
fn who_asks_gets_new_keys_of_every_name_once() {
    let mut world = World::new(&["a.example", "b.example"]);
    world.settle();
    let first = world.done.shown.clone();
    world.wait(60);
    world.schedule.asked_unix_s = Some(world.now);
    assert!(!is_answered(&world.keys, &world.schedule, world.now));
    world.settle();
    assert!(is_answered(&world.keys, &world.schedule, world.now));
    assert!(first.is_disjoint(&world.done.shown));
    assert_eq!(world.keys.len(), 4);
}

#[test]
fn asked_again_and_again_it_never_keeps_more_than_its_bound() {
    let mut world = World::new(&["public.example"]);
    for _ in 0..10 {
        world.wait(1);
        world.schedule.asked_unix_s = Some(world.now);
        world.settle();
    }
    assert_eq!(world.keys.len(), MAX_LIVE);
    world.wait(HOLD_S);
    world.settle();
    assert!(is_answered(&world.keys, &world.schedule, world.now), "what waited for room is done once there is some");
}

#[test]
fn a_public_name_that_is_given_up_is_accepted_until_its_record_is_forgotten() {
    let mut world = World::new(&["old.example"]);
    world.settle();
    world.schedule.public_names = vec!["new.example".to_owned()];
    world.settle();
    assert_eq!(world.done.accepted.len(), 2);
    world.wait(HOLD_S);
    world.settle();
    assert_eq!(world.keys.len(), 1);
    assert_eq!(world.keys[0].public_name, "new.example");
}

#[test]
fn a_clock_that_was_ahead_neither_stops_rotation_nor_drops_what_is_in_use() {
    let mut world = World::new(&["public.example"]);
    world.now += 10 * 365 * DAY_S;
    world.settle();
    world.wait(DAY_S);
    world.settle();
    let served: Vec<String> = world.done.shown.iter().cloned().collect();
    // The clock is put right; what was served a moment ago is in caches.
    world.now -= 10 * 365 * DAY_S;
    world.served.clear();
    world.settle();
    assert!(served.iter().all(|id| world.done.accepted.contains(id)));
    let shown = world.keys.iter().find(|key| world.done.shown.contains(&key.id)).expect("one is shown");
    assert!(shown.made_unix_s <= world.now);
    world.wait(HOLD_S);
    world.settle();
    assert_eq!(world.keys.len(), 1, "{:?}", world.keys);
}

#[derive(Debug, Clone)]
enum Event {
    Step,
    Settle,
    Wait(i64),
    Restart,
    Ask,
    Names(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Step),
        2 => Just(Event::Settle),
        4 => prop_oneof![0..10_i64, 0..HOLD_S, 0..2 * DAY_S].prop_map(Event::Wait),
        1 => Just(Event::Restart),
        1 => Just(Event::Ask),
        1 => (0..4_u8).prop_map(Event::Names),
    ]
}

proptest! {
    #[test]
    fn what_is_published_is_accepted_whenever_it_is_cut_off(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new(&["a.example"]);
        for event in events {
            match event {
                Event::Step => drop(world.step()),
                Event::Settle => world.settle(),
                Event::Wait(seconds) => world.wait(seconds),
                Event::Restart => world.restart(),
                Event::Ask => world.schedule.asked_unix_s = Some(world.now),
                Event::Names(which) => {
                    let all = ["a.example", "b.example"];
                    let names = all.iter().enumerate().filter(|(bit, _)| which & (1 << bit) != 0);
                    world.schedule.public_names = names.map(|(_, name)| (*name).to_owned()).collect();
                }
            }
        }
        // Whatever happened, it comes to rest with one fresh key for each name, and nothing is left behind.
        world.settle();
        world.wait(HOLD_S);
        world.settle();
        world.wait(HOLD_S);
        world.settle();
        prop_assert_eq!(world.done.shown.len(), world.schedule.public_names.len());
        prop_assert!(is_answered(&world.keys, &world.schedule, world.now));
        for key in world.keys.iter().filter(|key| world.done.shown.contains(&key.id)) {
            prop_assert!(world.now < rotation(key, &world.schedule));
        }
        prop_assert!(due(&world.keys, &world.schedule, world.now).is_none_or(|due| due > world.now));
    }
}
