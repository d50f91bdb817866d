//! Random programs of writes, changes of rights and time that passes, with watchers that begin, follow, stop and go on:
//! what they were told, applied to an empty map, is what a list shows now.

use super::bed::{Bed, Fields, Watcher};
use crate::harness::*;
use proptest::{collection::vec, prelude::*, sample::select};
use sys_contract::{id::RecordId, model::Role};
use sys_policy::{Binding, Caller};
use sys_store::WatchRequest;

const PEOPLE: usize = 3;
const WATCHERS: usize = 3;
const FILTERS: [&str; 9] = [
    "",
    "",
    "open",
    "title == \"plan\"",
    "opens < now",
    "opens >= now && open",
    "closes <= now + duration(\"20s\") || title == \"plan\"",
    "secret == \"s\"",
    "!(answer == \"yes\")",
];

#[derive(Debug, Clone)]
enum Op {
    Write(Vec<Deed>),
    Pass(i64),
    Rights(usize, Vec<(Role, usize, Option<i64>)>),
    Begin {
        watcher: usize,
        caller: usize,
        org: usize,
        project: Option<usize>,
        filter: usize,
    },
    Follow(usize),
    /// Loses what came since the last token, and goes on from it.
    Resume(usize),
    Prune,
    /// The server; who watched goes on from his token. Nothing where the engine is in memory.
    Restart,
}

#[derive(Debug, Clone)]
enum Deed {
    Create(u8, usize, Fields),
    Update(usize, Fields),
    Delete(usize),
}

fn fields() -> impl Strategy<Value = Fields> {
    let some = |values: &'static [&'static str]| proptest::option::of(select(values));
    let time = || proptest::option::weighted(0.3, -50..150_i64);
    (some(&["plan", "other", ""]), any::<Option<bool>>(), time(), time(), some(&["s", "t"]), some(&["yes", "no"]))
        .prop_map(|(title, open, opens, closes, secret, answer)| Fields { title, open, opens, closes, secret, answer })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (1..=3_u8, 0..3_usize, fields()).prop_map(|(owner, project, fields)| Deed::Create(owner, project, fields)),
        4 => (0..12_usize, fields()).prop_map(|(slot, fields)| Deed::Update(slot, fields)),
        1 => (0..12_usize).prop_map(Deed::Delete),
    ]
}

fn bindings() -> impl Strategy<Value = Vec<(Role, usize, Option<i64>)>> {
    let role = select([Role::Guest, Role::User, Role::Admin].as_slice());
    vec((role, 0..5_usize, proptest::option::weighted(0.3, 0..100_i64)), 0..3)
}

fn op() -> impl Strategy<Value = Op> {
    let project = proptest::option::weighted(0.2, 0..3_usize);
    prop_oneof![
        6 => vec(deed(), 1..4).prop_map(Op::Write),
        3 => prop_oneof![4 => 1..30_i64, 1 => Just(2_000), 1 => Just(5_000)].prop_map(Op::Pass),
        1 => (0..PEOPLE, bindings()).prop_map(|(caller, bindings)| Op::Rights(caller, bindings)),
        2 => (0..WATCHERS, 0..PEOPLE, 0..2_usize, project, 0..FILTERS.len()).prop_map(
            |(watcher, caller, org, project, filter)| Op::Begin { watcher, caller, org, project, filter }),
        6 => (0..WATCHERS).prop_map(Op::Follow),
        2 => (0..WATCHERS).prop_map(Op::Resume),
        1 => Just(Op::Prune),
        1 => Just(Op::Restart),
    ]
}

/// A watcher, whose he is, and whether anything has happened since he was last told.
struct Seat {
    caller: usize,
    watcher: Watcher,
    is_quiet: bool,
}

struct Run {
    kind: Kind,
    bed: Bed,
    callers: Vec<Caller>,
    slots: Vec<Option<RecordId>>,
    seats: Vec<Option<Seat>>,
}

impl Run {
    async fn new(kind: Kind, rights: &[Vec<(Role, usize, Option<i64>)>]) -> Self {
        let bed = Bed::new(kind).await;
        let callers = (0..).zip(rights).map(|(number, rights)| Self::caller(&bed, number, rights)).collect();
        Self { kind, bed, callers, slots: Vec::new(), seats: (0..WATCHERS).map(|_| None).collect() }
    }

    fn caller(bed: &Bed, number: usize, rights: &[(Role, usize, Option<i64>)]) -> Caller {
        let bindings = rights.iter().map(|(role, place, expires)| {
            let binding = match place {
                0 | 1 => bed.world.at_org(*role, *place),
                place => bed.world.at_project(*role, place - 2),
            };
            let expires = expires.map(|seconds| u64::try_from(bed.now.unix_s + seconds).unwrap());
            Binding { expires_unix_s: expires, ..binding }
        });
        caller(u8::try_from(number + 1).unwrap(), bindings.collect())
    }

    async fn take(&mut self, op: &Op) {
        if !matches!(op, Op::Follow(_) | Op::Resume(_) | Op::Begin { .. } | Op::Pass(_)) {
            self.seats.iter_mut().flatten().for_each(|seat| seat.is_quiet = false);
        }
        match op {
            Op::Write(deeds) => self.write(deeds).await,
            Op::Pass(seconds) => self.pass(*seconds).await,
            Op::Rights(number, rights) => self.callers[*number] = Self::caller(&self.bed, *number, rights),
            Op::Begin { watcher, caller, org, project, filter } => {
                let project_id = project.map(|project| self.bed.world.project_text(project)).unwrap_or_default();
                let request = WatchRequest { project_id, ..self.bed.asked(*org, FILTERS[*filter]) };
                let begun = self.bed.watch(&self.callers[*caller], &request).await.unwrap();
                self.seats[*watcher] = Some(Seat { caller: *caller, watcher: begun, is_quiet: false });
            }
            Op::Follow(number) => self.follow(*number).await,
            Op::Resume(number) => {
                if let Some(Seat { caller, watcher, .. }) = self.seats[*number].take() {
                    let watcher = watcher.resume(&self.bed, &self.callers[caller]).await.unwrap();
                    self.seats[*number] = Some(Seat { caller, watcher, is_quiet: false });
                }
            }
            Op::Restart if self.kind == Kind::Redb => {
                self.bed.restart().await;
                for number in 0..WATCHERS {
                    Box::pin(self.take(&Op::Resume(number))).await;
                }
            }
            Op::Restart => {}
            Op::Prune => while self.bed.world.store.prune_changes(self.bed.now).await.unwrap().more {},
        }
    }

    async fn write(&mut self, deeds: &[Deed]) {
        let mut open = self.bed.begin().await;
        for deed in deeds {
            let mut unruled = open.danger_unruled(&self.bed.posts);
            match deed {
                Deed::Create(owner, project, fields) => {
                    let id = unruled.create(self.bed.post(*owner, *project, fields)).await.unwrap().id();
                    self.slots.push(Some(id));
                }
                Deed::Update(slot, fields) => {
                    let Some(Some(id)) = self.slots.get(*slot) else { continue };
                    let mut post = unruled.get(*id).await.unwrap().unwrap().into_message();
                    fields.set(&mut post);
                    unruled.update(*id, post).await.unwrap();
                }
                Deed::Delete(slot) => {
                    let Some(id) = self.slots.get_mut(*slot).and_then(Option::take) else { continue };
                    unruled.delete(id).await.unwrap();
                }
            }
        }
        open.commit().await.unwrap();
    }

    /// Until the time that a watch names nothing comes about by itself.
    async fn pass(&mut self, seconds: i64) {
        let until = self.bed.now.unix_s + seconds;
        for seat in self.seats.iter().flatten().filter(|seat| seat.is_quiet) {
            let present = self.bed.now;
            let wake_at = seat.watcher.wake_at.unwrap();
            self.bed.now.unix_s = until.min(wake_at.unix_s - 1).max(present.unix_s);
            let listed = self.bed.listed(&self.callers[seat.caller], &seat.watcher.request).await;
            assert_eq!(seat.watcher.shown, listed, "it should have been woken sooner");
            self.bed.now = present;
        }
        self.bed.now.unix_s = until;
        self.seats.iter_mut().flatten().for_each(|seat| seat.is_quiet = false);
    }

    async fn follow(&mut self, number: usize) {
        let Some(seat) = &mut self.seats[number] else { return };
        let caller = &self.callers[seat.caller];
        seat.watcher.follow(&self.bed, caller).await.unwrap();
        seat.is_quiet = true;
        let listed = self.bed.listed(caller, &seat.watcher.request).await;
        assert_eq!(seat.watcher.shown, listed, "what was told is what a list shows");
    }
}

fn run(kind: Kind, rights: &[Vec<(Role, usize, Option<i64>)>], ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut run = Run::new(kind, rights).await;
        for op in ops {
            run.take(op).await;
        }
        for number in 0..WATCHERS {
            run.follow(number).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_is_what_a_list_shows(rights in vec(bindings(), PEOPLE), ops in vec(op(), 1..50)) {
        run(Kind::Memory, &rights, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn so_it_is_on_redb(rights in vec(bindings(), PEOPLE), ops in vec(op(), 1..50)) {
        run(Kind::Redb, &rights, &ops);
    }
}
