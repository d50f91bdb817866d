//! Pages: tokens that open for one caller and one list, bounds, orders, and orgs that do not exist.

use crate::harness::*;
use prost_reflect::{Value, prost::Message};
use std::sync::Arc;
use sys_contract::{
    id::{OrgId, OrgTag, RecordId},
    model::{Role, Verb},
};
use sys_policy::Caller;
use sys_store::{ListRequest, MAX_PAGE_BYTES, Table, check::CheckOptions};

async fn set_up(count: i32) -> (World, Arc<Table>, Caller, ListRequest) {
    let world = World::new(Kind::Memory).await;
    let table = world.tasks().await;
    let user = caller(1, vec![world.at_org(Role::User, 0), world.at_org(Role::User, 1)]);
    for weight in 0..count {
        let fields = [("weight", Value::I32(weight % 3)), ("code", text(&format!("c{weight}")))];
        world.create(&table, &user, world.task(&table, 0, &fields)).await.unwrap();
        world.create(&table, &user, world.task(&table, 2, &fields)).await.unwrap();
    }
    let request = ListRequest { org_id: world.org_text(0), page_size: 2, ..ListRequest::default() };
    (world, table, user, request)
}

#[tokio::test]
async fn a_page_token_opens_for_its_caller_and_list_alone() {
    let (world, table, user, request) = set_up(4).await;
    let token = world.list(&table, &user, &request).await.unwrap().next_page_token;
    let with = |token: &str, request: &ListRequest| ListRequest { page_token: token.to_owned(), ..request.clone() };
    world.list(&table, &user, &with(&token, &request)).await.expect("its own list");
    world
        .list(&table, &user, &ListRequest { page_size: 3, ..with(&token, &request) })
        .await
        .expect("another page size");

    let others = [
        ListRequest { org_id: world.org_text(1), ..request.clone() },
        ListRequest { project_id: world.project_text(0), ..request.clone() },
        ListRequest { filter: "weight == 1".to_owned(), ..request.clone() },
        ListRequest { search: "plan".to_owned(), ..request.clone() },
        ListRequest { order_by: "id desc".to_owned(), ..request.clone() },
        ListRequest { order_by: "weight".to_owned(), ..request.clone() },
    ];
    for other in &others {
        assert_eq!(refusal(world.list(&table, &user, &with(&token, other)).await), "page token", "{other:?}");
        let token = world.list(&table, &user, other).await.unwrap().next_page_token;
        if !token.is_empty() {
            assert_eq!(refusal(world.list(&table, &user, &with(&token, &request)).await), "page token", "{other:?}");
        }
    }
    let colleague = caller(2, vec![world.at_org(Role::User, 0)]);
    for other in [&colleague, &Caller::anonymous()] {
        assert_eq!(refusal(world.list(&table, other, &with(&token, &request)).await), "page token");
    }
    let notes = world.notes().await;
    let one = message(&notes, &[("org_id", text(&world.org_text(0))), ("project_id", text(&world.project_text(0)))]);
    world.create(&notes, &user, one).await.unwrap();
    assert_eq!(refusal(world.list(&notes, &user, &with(&token, &request)).await), "page token");
}

#[tokio::test]
async fn a_page_ends_where_it_grows_too_large_and_by_what_its_caller_sees_alone() {
    const MILLION: usize = 1_000_000;
    let world = World::new(Kind::Memory).await;
    let notes = world.notes().await;
    let (author, admin) =
        (caller(1, vec![world.at_project(Role::User, 0)]), caller(2, vec![world.at_project(Role::Admin, 0)]));
    let records = async || {
        let report = world.store.check(CheckOptions::default(), &mut |_| {}).await.unwrap();
        assert!(report.found.is_empty(), "{:?}", report.found);
        report.seen.records
    };
    let before = records().await;
    for number in 0..9_usize {
        let size = if number < 8 { MILLION } else { 10 };
        let (org, project) = world.projects[0];
        let fields = [
            ("org_id", text(&org.to_string())),
            ("project_id", text(&project.to_string())),
            ("title", text(&format!("{}", 9 - number))),
            ("draft", text(&"d".repeat(size))),
        ];
        world.create(&notes, &author, message(&notes, &fields)).await.unwrap();
    }
    let all = ListRequest { org_id: world.org_text(0), page_size: 1_000, ..ListRequest::default() };
    let pages = async |caller: &Caller, order_by: &str| {
        let mut request = ListRequest { order_by: order_by.to_owned(), ..all.clone() };
        let (mut pages, mut titles) = (Vec::new(), String::new());
        loop {
            let page = world.list(&notes, caller, &request).await.unwrap();
            let bytes: usize = page.views.iter().map(|view| view.message().encoded_len() + 8).sum();
            assert!(bytes <= MAX_PAGE_BYTES, "{bytes}");
            page.views.iter().for_each(|view| titles.push_str(&field_text(view.message(), "title")));
            pages.push(page.views.len());
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return (pages, titles);
            }
        }
    };
    // Ids of one millisecond stand in no order of ours, so that the small record may be on either page.
    let (by_id, titles) = pages(&author, "").await;
    assert!(by_id == [4, 5] || by_id == [5, 4], "{by_id:?}");
    let mut sorted: Vec<char> = titles.chars().collect();
    sorted.sort_unstable();
    assert_eq!(String::from_iter(sorted), "123456789");
    let (backwards, reversed) = pages(&author, "id desc").await;
    assert!(backwards == [4, 5] || backwards == [5, 4], "{backwards:?}");
    assert_eq!(reversed, titles.chars().rev().collect::<String>());
    assert_eq!(pages(&author, "title").await, (vec![5, 4], "123456789".to_owned()));
    assert_eq!(pages(&author, "title desc").await, (vec![4, 5], "987654321".to_owned()));
    // The drafts are their author's: whoever does not see them does not see how long they are.
    assert_eq!(pages(&admin, "title").await.0, [9]);
    assert_eq!(pages(&admin, "").await.0, [9]);
    // Who walks through all of it comes to the end, too, though one read of the engine takes two or three of them.
    assert_eq!(records().await, before + 9);
}

#[tokio::test]
async fn no_changed_page_token_opens() {
    let (world, table, user, request) = set_up(4).await;
    let token = world.list(&table, &user, &request).await.unwrap().next_page_token;
    let mut forged = vec!["x".to_owned(), "a".repeat(10_000), "ä".to_owned(), token.clone() + "A"];
    for at in 0..token.len() {
        forged.push(token[..at].to_owned());
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        forged.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    for token in forged.into_iter().filter(|token| !token.is_empty()) {
        let request = ListRequest { page_token: token.clone(), ..request.clone() };
        match world.list(&table, &user, &request).await {
            Ok(_) => panic!("{token} opens"),
            Err(error) => assert_eq!(kind(&error), "page token"),
        }
    }
}

#[tokio::test]
async fn a_list_goes_on_behind_a_record_that_is_gone() {
    for order_by in ["", "id desc", "weight", "weight desc, code"] {
        let (world, table, user, request) = set_up(7).await;
        let request = ListRequest { order_by: order_by.to_owned(), ..request };
        let all = world.list(&table, &user, &ListRequest { page_size: 100, ..request.clone() }).await.unwrap();
        assert!(all.next_page_token.is_empty());
        let ids: Vec<_> = all.views.iter().map(sys_store::View::id).collect();
        assert_eq!(ids.len(), 7);
        let first = world.list(&table, &user, &request).await.unwrap();
        let mut open = world.begin().await;
        let mut confined = open.confined(&table, &user);
        let permit = confined.permit(Verb::Delete, ids[1]).await.unwrap();
        confined.delete(permit, None).await.unwrap();
        open.commit().await.unwrap();
        let next = ListRequest { page_token: first.next_page_token, ..request.clone() };
        let next = world.list(&table, &user, &next).await.unwrap();
        let next: Vec<_> = next.views.iter().map(sys_store::View::id).collect();
        assert_eq!(next, ids[2..4], "{order_by}");
    }
}

#[tokio::test]
async fn a_request_out_of_bounds_is_refused_with_its_field() {
    let (world, table, user, request) = set_up(1).await;
    let check = async |request: ListRequest, expect: &str| {
        assert_eq!(refusal(world.list(&table, &user, &request).await), expect, "{request:?}");
    };
    let base = || request.clone();
    check(ListRequest { page_size: -1, ..base() }, "invalid page_size").await;
    check(ListRequest { page_size: 1_001, ..base() }, "invalid page_size").await;
    check(ListRequest { page_size: i32::MIN, ..base() }, "invalid page_size").await;
    check(ListRequest { org_id: String::new(), ..base() }, "invalid org_id").await;
    check(ListRequest { org_id: "org_1".to_owned(), ..base() }, "invalid org_id").await;
    check(ListRequest { org_id: world.project_text(0), ..base() }, "invalid org_id").await;
    let no_org = OrgId::from_record(RecordId::from_bytes([0; 22]));
    check(ListRequest { org_id: no_org.to_string(), ..base() }, "invalid org_id").await;
    check(ListRequest { project_id: "x".to_owned(), ..base() }, "invalid project_id").await;
    for filter in ["nonsense == 1", "weight ==", "weight == \"1\"", &"(".repeat(2_000)] {
        check(ListRequest { filter: filter.to_owned(), ..base() }, "invalid filter").await;
    }
    for order in
        ["nonsense", "weight down", "weight,", ",", "tags", "labels", "place", "id,code,weight,kind", "code asc asc"]
    {
        check(ListRequest { order_by: order.to_owned(), ..base() }, "invalid order_by").await;
    }
    let orgs = world.directory.table(0).unwrap();
    let request = ListRequest { project_id: world.project_text(0), ..ListRequest::default() };
    assert_eq!(refusal(world.list(orgs, &user, &request).await), "invalid project_id");
}

#[tokio::test]
async fn an_org_that_does_not_exist_looks_like_one_in_which_the_caller_holds_nothing() {
    let (world, table, user, request) = set_up(1).await;
    let nowhere = OrgId::from_record(RecordId::new(OrgTag::GLOBAL, 1, [7; 10]));
    let request = ListRequest { org_id: nowhere.to_string(), ..request };
    let page = world.list(&table, &user, &request).await.unwrap();
    assert!(page.views.is_empty() && page.next_page_token.is_empty());
    let stranger = caller(9, Vec::new());
    let page =
        world.list(&table, &stranger, &ListRequest { org_id: world.org_text(0), ..request.clone() }).await.unwrap();
    assert!(page.views.is_empty() && page.next_page_token.is_empty());
    // Looking made no keys, and a record cannot be made there either, even by who holds a binding for it.
    let space = sys_keys::SpaceId { module: 2, org: nowhere.tag() };
    assert!(world.store.keyring().space(space).unwrap().is_none());
    let binding = sys_policy::Binding {
        role: Role::Admin,
        scope: sys_policy::BindingScope::Org(nowhere.tag()),
        expires_unix_s: None,
    };
    let new = message(&table, &[("org_id", text(&nowhere.to_string())), ("project_id", text(&world.project_text(0)))]);
    assert_eq!(refusal(world.create(&table, &caller(8, vec![binding]), new).await), "invalid org_id");
    assert!(world.store.keyring().space(space).unwrap().is_none());
}

#[tokio::test]
async fn orders_follow_values_and_unset_comes_first() {
    let (world, table, user, request) = set_up(0).await;
    let time = |seconds: i64, nanos: i32| {
        let field = table.record().message.get_field_by_name("due_time").unwrap();
        let mut time = prost_reflect::DynamicMessage::new(field.kind().as_message().unwrap().clone());
        time.set_field_by_name("seconds", Value::I64(seconds));
        time.set_field_by_name("nanos", Value::I32(nanos));
        Value::Message(time)
    };
    let rows: [(&str, Vec<(&str, Value)>); 5] = [
        ("a", vec![("weight", Value::I32(-5)), ("priority", Value::I32(0)), ("due_time", time(5, 1))]),
        ("b", vec![("weight", Value::I32(100)), ("due_time", time(-5, 0))]),
        ("c", vec![("weight", Value::I32(i32::MIN)), ("priority", Value::I32(-1))]),
        ("d", vec![("priority", Value::I32(7)), ("due_time", time(5, 0))]),
        ("e", vec![("weight", Value::I32(i32::MAX)), ("priority", Value::I32(7)), ("due_time", time(0, 0))]),
    ];
    for (code, mut fields) in rows {
        fields.push(("code", text(code)));
        world.create(&table, &user, world.task(&table, 0, &fields)).await.unwrap();
    }
    let check = async |order: &str, expect: &str| {
        let request = ListRequest { order_by: order.to_owned(), page_size: 10, ..request.clone() };
        let page = world.list(&table, &user, &request).await.unwrap();
        let codes: String = page.views.iter().map(|view| field_text(view.message(), "code")).collect();
        assert_eq!(codes, expect, "{order}");
    };
    check("weight", "cadbe").await;
    check("weight desc", "ebdac").await;
    check("priority, code desc", "bcaed").await;
    check("due_time, code", "cbeda").await;
    check("priority desc, code", "deacb").await;
}

#[tokio::test]
async fn a_record_has_one_id() {
    let (world, table, user, request) = set_up(1).await;
    let orgs = world.directory.table(0).unwrap();
    let org = world.orgs[0].record();
    assert!(world.get(orgs, &user, org).await.is_some());
    assert!(world.get(orgs, &user, RecordId { org: world.orgs[0].tag(), ..org }).await.is_none());
    let task = world.list(&table, &user, &request).await.unwrap().views[0].id();
    for org in [OrgTag::GLOBAL, world.orgs[1].tag()] {
        assert!(world.get(&table, &user, RecordId { org, ..task }).await.is_none());
    }
}
