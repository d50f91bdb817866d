//! How often an operation goes to the engine. Each look-up more makes a call dearer, the more so the larger the store is: from some
//! millions of rows on most of them read a page from the disk.

use crate::harness::*;
use sys_contract::{id::RecordId, model::Role};
use sys_policy::Caller;
use sys_store::ListRequest;

/// Keys and ranges read by what has ended so far.
fn reads(world: &World) -> (u64, u64) {
    let stats = world.store.engine_stats().unwrap().expect("an engine that counts");
    (stats.keys_read, stats.ranges_read)
}

/// Keys and ranges that this reads.
async fn counted<T>(world: &World, read: impl Future<Output = T>) -> (u64, u64) {
    let before = reads(world);
    read.await;
    let after = reads(world);
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn a_call_reads_its_records_and_little_beside() {
    let world = World::new(Kind::Redb).await;
    let notes = world.notes().await;
    let (org, project) = world.projects[0];
    let writer = caller(1, vec![world.at_project(Role::User, 0)]);
    let admin = caller(2, vec![world.at_org(Role::Admin, 0)]);
    let mut first: Option<RecordId> = None;
    for number in 0..60 {
        let title = if number < 4 { "Lamps" } else { "Harbour" };
        let fields =
            [("org_id", text(&org.to_string())), ("project_id", text(&project.to_string())), ("title", text(title))];
        let made = world.create(&notes, &writer, message(&notes, &fields)).await.unwrap();
        first.get_or_insert(made.view.id());
    }
    let first = first.expect("one was made");
    assert_eq!(counted(&world, world.get(&notes, &writer, first)).await, (1, 0), "its record");

    let list = async |caller: &Caller, in_project: bool, search: &str| {
        let project_id = if in_project { world.project_text(0) } else { String::new() };
        let search = search.to_owned();
        let request = ListRequest { org_id: world.org_text(0), project_id, search, ..ListRequest::default() };
        counted(&world, world.list(&notes, caller, &request)).await
    };
    // One key of each is the module's row of the catalog.
    assert_eq!(list(&writer, true, "").await, (1 + 50, 1), "one range of the project, and each record");
    assert_eq!(list(&admin, false, "").await, (1, 3), "the records themselves, one behind the other");
    assert_eq!(
        list(&writer, true, "lam").await,
        (1 + 60 + 4, 1),
        "each of his project is asked whether it has the word"
    );
    assert_eq!(list(&admin, false, "lam").await, (1 + 4, 1), "who sees all is led by the word");
}
