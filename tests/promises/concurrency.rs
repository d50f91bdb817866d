//! Many callers at once: nothing is lost, nobody wins twice, and a revocation acts on the next request.

use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use sys_tests::{Client, World, eventually};
use tokio::task::JoinSet;

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const ASSIGN: &str = "sys.account.v1.MembershipService/AssignRole";
const REVOKE: &str = "sys.account.v1.MembershipService/RevokeRole";

/// Calls at the same time in one round.
const AT_ONCE: usize = 32;
/// Rounds of granting and revoking.
const REVOCATIONS: usize = 50;

fn note(world: &World, title: &str) -> Value {
    json!({"note": {"orgId": world.north.id, "projectId": world.north.projects[0], "title": title}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_among_parallel_writes() {
    let (server, world) = World::start().await;
    let author = &world.north.project_user;
    let mut creating = JoinSet::new();
    for number in 0..AT_ONCE {
        let (client, body) = (author.client.clone(), note(&world, &format!("parallel {number:02}")));
        creating.spawn(async move { client.call(CREATE, body).await.text("id") });
    }
    let created: BTreeSet<String> = creating.join_all().await.into_iter().collect();
    assert_eq!(created.len(), AT_ONCE, "each has an id of its own");
    let page = author.call(LIST, json!({"orgId": world.north.id, "pageSize": 100})).await.ok();
    let listed = page["notes"].as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap().to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), created);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_changes_to_what_was_seen_one_is_made() {
    let (server, world) = World::start().await;
    let author = &world.north.project_user;
    let created = author.call(CREATE, note(&world, "seen by all")).await.ok();
    let mut updating = JoinSet::new();
    for number in 0..AT_ONCE {
        let client = author.client.clone();
        let next = json!({"id": created["id"], "etag": created["etag"], "title": format!("changed by {number}")});
        let body = json!({"note": next, "updateMask": "title"});
        updating.spawn(async move { client.call(UPDATE, body).await });
    }
    let (won, lost): (Vec<_>, Vec<_>) = updating.join_all().await.into_iter().partition(|answer| answer.is_ok());
    assert_eq!((won.len(), lost.len()), (1, AT_ONCE - 1));
    for answer in &lost {
        answer.refused("aborted");
    }
    let stored = author.call(GET, json!({"id": created["id"]})).await.ok();
    assert_eq!((&stored["title"], &stored["etag"]), (&won[0].body["title"], &won[0].body["etag"]));
    server.stop().await;
}

/// What the callers see of the rounds of granting and revoking.
#[derive(Default)]
struct Rounds {
    /// Even while the role may be held, odd from the answer to its revocation until it is given again.
    number: AtomicUsize,
    /// Calls that were let in.
    let_in: AtomicUsize,
    over: AtomicBool,
}

impl Rounds {
    fn next(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
    }

    /// Calls without a pause; gives back how many calls were let in that began and ended within one revocation.
    async fn keep_calling(&self, client: Client, path: &str, body: Value) -> usize {
        let mut wrong = 0;
        while !self.over.load(Ordering::SeqCst) {
            let began = self.number.load(Ordering::SeqCst);
            let ok = client.call(path, body.clone()).await.is_ok();
            let revoked_throughout = began % 2 == 1 && self.number.load(Ordering::SeqCst) == began;
            wrong += usize::from(ok && revoked_throughout);
            self.let_in.fetch_add(usize::from(ok), Ordering::SeqCst);
        }
        wrong
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_that_begins_after_a_revocation_was_answered_is_let_in() {
    let (server, world) = World::start().await;
    let (north, person) = (&world.north, &world.north.project_user);
    // He stays a member through the second project, so that the role can be given to him again.
    let (first, second) = (&north.projects[0], &north.projects[1]);
    let in_second = json!({"orgId": north.id, "projectId": second, "accountId": person.account_id, "role": "GUEST"});
    north.admin.call(ASSIGN, in_second).await.ok();
    let secret = north.admin.call(CREATE, note(&world, "not for those who left")).await.text("id");
    let role = json!({"orgId": north.id, "projectId": first, "accountId": person.account_id});
    let given = json!({"orgId": north.id, "projectId": first, "accountId": person.account_id, "role": "USER"});
    let calls = [(GET, json!({"id": secret})), (CREATE, note(&world, "while it lasts"))];

    let rounds = Arc::new(Rounds::default());
    let mut calling = JoinSet::new();
    for (path, body) in calls.clone() {
        let (rounds, client) = (rounds.clone(), person.client.clone());
        calling.spawn(async move { rounds.keep_calling(client, path, body).await });
    }
    for round in 0..REVOCATIONS {
        north.admin.call(REVOKE, role.clone()).await.ok();
        rounds.next();
        for (path, body) in &calls {
            let answer = person.call(path, body.clone()).await;
            assert!(!answer.is_ok(), "round {round}: {path} {answer:?}");
        }
        rounds.next();
        north.admin.call(ASSIGN, given.clone()).await.ok();
        let before = rounds.let_in.load(Ordering::SeqCst);
        eventually("a call that is let in again", async || {
            (rounds.let_in.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
    }
    rounds.over.store(true, Ordering::SeqCst);
    assert_eq!(calling.join_all().await, [0, 0], "calls let in while the role was gone");
    server.stop().await;
}
