//! Searches: what they find, in pages, and what they walk through.

use crate::harness::*;
use proptest::{prelude::*, sample::select};
use std::sync::Arc;
use sys_contract::model::Role;
use sys_policy::{Caller, words::normalised_words};
use sys_store::{ListRequest, Table, engine::CommitError};

const PEOPLE: &str = include_str!("contracts/people.proto");

async fn people(world: &World) -> Arc<Table> {
    let tables = load(&world.store, compile("mod-people", "people/v1/people.proto", PEOPLE)).await.unwrap();
    tables.table(0).unwrap().clone()
}

/// The addresses of those who are found, page by page.
async fn found(world: &World, table: &Arc<Table>, caller: &Caller, search: &str, filter: &str) -> Vec<String> {
    let (search, filter) = (search.to_owned(), filter.to_owned());
    let mut request = ListRequest { org_id: world.org_text(0), search, filter, page_size: 2, ..ListRequest::default() };
    let mut addresses = Vec::new();
    loop {
        let page = world.list(table, caller, &request).await.unwrap();
        addresses.extend(page.views.iter().map(|view| field_text(view.message(), "address")));
        if page.next_page_token.is_empty() {
            return addresses;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn a_search_goes_through_all_fields_that_everybody_may_read() {
    for kind in BOTH {
        let world = World::new(kind).await;
        let table = people(&world).await;
        let admin = caller(1, vec![world.at_org(Role::Admin, 0)]);
        let member = caller(2, vec![world.at_project(Role::User, 0)]);
        let all = [
            (0, "Ada Lovelace", "ada.l@example.org"),
            (1, "Augusta Ada King", "countess@example.net"),
            (0, "Charles Babbage", "adamant@example.org"),
            (0, "Lovelace, William", "w-l@mail.example.org"),
        ];
        for (project, name, address) in all {
            let fields = [("name", text(name)), ("address", text(address)), ("secret", text("zebra"))];
            world.create(&table, &admin, world.task(&table, project, &fields)).await.unwrap();
        }
        let check = async |search: &str, filter: &str, expect: &[&str]| {
            let mut of_admin = found(&world, &table, &admin, search, filter).await;
            let mut of_member = found(&world, &table, &member, search, filter).await;
            // Those of one millisecond have no order.
            of_admin.sort_unstable();
            of_member.sort_unstable();
            assert_eq!(of_admin, expect, "{kind:?} {search:?} {filter:?}");
            let his: Vec<&str> = expect.iter().copied().filter(|address| *address != "countess@example.net").collect();
            assert_eq!(of_member, his, "{kind:?} {search:?} {filter:?}");
        };
        let (ada, king, babbage, william) =
            ("ada.l@example.org", "countess@example.net", "adamant@example.org", "w-l@mail.example.org");
        check("ada", "", &[ada, babbage, king]).await;
        check("LOVE", "", &[ada, william]).await;
        check("love ada", "", &[ada]).await;
        check("ada@exam", "", &[ada, babbage, king]).await;
        check("mail.ex", "", &[william]).await;
        check("zebra", "", &[]).await;
        check("ada", "address == \"adamant@example.org\"", &[babbage]).await;
        check("", "address == \"ada.l@example.org\"", &[ada]).await;
        check("", "address in [\"countess@example.net\", \"adamant@example.org\", \"\"]", &[babbage, king]).await;
        check("", "address == \"ada.l\"", &[]).await;

        let refused = async |search: &str| {
            let request =
                ListRequest { org_id: world.org_text(0), search: search.to_owned(), ..ListRequest::default() };
            refusal(world.list(&table, &member, &request).await)
        };
        assert_eq!(refused("a b").await, "invalid query");
        assert_eq!(refused("one two three four five six seven eight nine").await, "invalid query");
    }
}

/// What is found follows the record when it changes, and a search of the whole text passes nobody who shares its words.
#[tokio::test]
async fn a_walk_passes_those_alone_who_are_found() {
    let world = World::new(Kind::Memory).await;
    let table = people(&world).await;
    let admin = caller(1, vec![world.at_org(Role::Admin, 0)]);
    let walks = async |search: &str, filter: &str, address: &str| {
        let (search, filter) = (search.to_owned(), filter.to_owned());
        let request = ListRequest { org_id: world.org_text(0), search, filter, ..ListRequest::default() };
        let mut open = world.begin().await;
        open.confined(&table, &admin).list(&request).await.unwrap();
        open.put_row(sys_store::SystemKind::Progress, b"anything", Vec::new()).await.unwrap();
        world.create(&table, &admin, world.task(&table, 0, &[("address", text(address))])).await.unwrap();
        match open.commit().await {
            Ok(_) => false,
            Err(CommitError::Conflict) => true,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(walks("exam", "", "a@example.org").await);
    assert!(!walks("exam", "", "a@test.org").await);
    assert!(walks("", "address == \"b@example.org\"", "b@example.org").await);
    assert!(!walks("", "address == \"c@example.org\"", "c@example.org.example.org").await);
    assert!(!walks("", "address == \"c@example.org\"", "example.org@c").await);
}

#[tokio::test]
async fn an_index_that_becomes_whole_is_built() {
    let world = World::new(Kind::Memory).await;
    let before = PEOPLE.replace(" whole: true", "");
    assert_ne!(before, PEOPLE);
    let tables = load(&world.store, compile("mod-people", "people/v1/people.proto", &before)).await.unwrap();
    let admin = caller(1, vec![world.at_org(Role::Admin, 0)]);
    let table = tables.table(0).unwrap().clone();
    let ada = world.task(&table, 0, &[("address", text("ada@example.org"))]);
    world.create(&table, &admin, ada).await.unwrap();
    let by_address = "address == \"ada@example.org\"";
    assert_eq!(found(&world, &table, &admin, "", by_address).await, ["ada@example.org"]);
    let table = people(&world).await;
    assert_eq!(found(&world, &table, &admin, "", by_address).await, ["ada@example.org"]);
    assert_eq!(found(&world, &table, &admin, "exa", "").await, ["ada@example.org"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Led by the index or by a scope, a search finds what looking at each record would.
    #[test]
    fn a_search_agrees_with_looking_at_each_record(
        people_of in prop::collection::vec((0..2_usize, "[ab\u{e9}]{1,3}( [ab]{1,10})?", "[ab]{1,9}[.@][ab]{0,3}"), 0..24),
        searches in prop::collection::vec(
            prop::collection::vec(select(vec!["a", "b", "ab", "ba", "aa", "aba", "\u{c9}a", "ababababa", "bb", "AB"]), 1..4), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new(Kind::Memory).await;
            let table = people(&world).await;
            let admin = caller(1, vec![world.at_org(Role::Admin, 0)]);
            let member = caller(2, vec![world.at_project(Role::User, 0)]);
            for (number, (project, name, start)) in people_of.iter().enumerate() {
                let address = format!("{start}.{number}");
                let fields = [("name", text(name)), ("address", text(&address))];
                world.create(&table, &admin, world.task(&table, *project, &fields)).await.unwrap();
            }
            for words in searches {
                let search = words.join(" ");
                if words.iter().all(|word| word.chars().count() < 2) {
                    continue;
                }
                for (caller, sees_all) in [(&admin, true), (&member, false)] {
                    let mut expect = Vec::new();
                    for (number, (project, name, start)) in people_of.iter().enumerate() {
                        let address = format!("{start}.{number}");
                        let held: Vec<String> = normalised_words(&format!("{name} {address}")).collect();
                        let begins = |word: String| held.iter().any(|held| held.starts_with(&word));
                        if (sees_all || *project == 0) && normalised_words(&search).all(begins) {
                            expect.push(address);
                        }
                    }
                    let mut got = found(&world, &table, caller, &search, "").await;
                    got.sort_unstable();
                    expect.sort_unstable();
                    assert_eq!(got, expect, "{search:?}");
                }
            }
        });
    }
}
