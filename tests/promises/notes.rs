//! The example module: a contract without a line of code.

use serde_json::{Value, json};
use sys_tests::{Person, World};

const CREATE: &str = "notes.v1.NoteService/CreateNote";
const GET: &str = "notes.v1.NoteService/GetNote";
const LIST: &str = "notes.v1.NoteService/ListNotes";
const COUNT: &str = "notes.v1.NoteService/CountNotes";
const UPDATE: &str = "notes.v1.NoteService/UpdateNote";
const DELETE: &str = "notes.v1.NoteService/DeleteNote";

async fn create(by: &Person, org: &str, project: &str, title: &str) -> Value {
    let note = json!({"orgId": org, "projectId": project, "title": title, "draft": "for my eyes only"});
    by.call(CREATE, json!({"note": note})).await.ok()
}

async fn titles(by: &Person, query: Value) -> Vec<String> {
    let page = by.call(LIST, query).await.ok();
    let notes = page["notes"].as_array().cloned().unwrap_or_default();
    notes.iter().map(|note| note["title"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_note_is_seen_and_changed_by_those_whom_its_rules_name() {
    let (server, World { north, south, superadmin, stranger }) = World::start().await;
    let author = &north.project_user;
    let note = create(author, &north.id, &north.projects[0], "Plan of the harbour").await;
    let id = note["id"].as_str().unwrap();
    assert_eq!(note["authorId"], author.account_id.as_str());
    assert_eq!(note["draft"], "for my eyes only");

    let readers = [author, &north.project_admin, &north.user, &north.admin];
    for reader in readers {
        let seen = reader.call(GET, json!({"id": id})).await.ok();
        assert_eq!(seen["title"], "Plan of the harbour");
        assert_eq!(seen.get("draft").is_some(), reader.account_id == author.account_id, "the draft is its author's");
    }
    let strangers = [
        &north.guest,
        &north.project_guest,
        &north.other_project_user,
        &south.admin,
        &south.user,
        &superadmin,
        &stranger,
    ];
    for other in strangers {
        let hidden = other.call(GET, json!({"id": id})).await;
        let list = other.call(LIST, json!({"orgId": north.id})).await;
        assert!(!hidden.is_ok(), "{} reads {hidden:?}", other.email);
        assert!(!list.is_ok() || list.body.get("notes").is_none(), "{} lists {list:?}", other.email);
    }
    north.guest.call(GET, json!({"id": id})).await.refused("not_found");
    north
        .user
        .call(UPDATE, json!({"note": {"id": id, "title": "Mine"}, "updateMask": "title"}))
        .await
        .refused("permission_denied");
    north
        .guest
        .call(UPDATE, json!({"note": {"id": id, "title": "Mine"}, "updateMask": "title"}))
        .await
        .refused("not_found");

    let change = json!({"note": {"id": id, "published": true, "etag": note["etag"]}, "updateMask": "published"});
    let published = author.call(UPDATE, change.clone()).await.ok();
    assert_eq!((&published["published"], &published["title"]), (&json!(true), &json!("Plan of the harbour")));
    author.call(UPDATE, change).await.refused("aborted");
    for member in [&north.guest, &north.project_guest, &north.other_project_user] {
        let seen = member.call(GET, json!({"id": id})).await.ok();
        assert!(seen.get("draft").is_none());
        assert_eq!(titles(member, json!({"orgId": north.id})).await, ["Plan of the harbour"]);
    }
    south.admin.call(GET, json!({"id": id})).await.refused("not_found");

    north.project_user.call(DELETE, json!({"id": id, "etag": "stale"})).await.refused("aborted");
    north.guest.call(DELETE, json!({"id": id})).await.refused("permission_denied");
    north.project_admin.call(DELETE, json!({"id": id})).await.ok();
    author.call(GET, json!({"id": id})).await.refused("not_found");
    server.stop().await;
}

#[tokio::test]
async fn a_list_shows_what_a_get_allows_page_by_page_and_filter_by_filter() {
    let (server, World { north, .. }) = World::start().await;
    let (author, project) = (&north.project_user, &north.projects[0]);
    for n in 0..12 {
        create(author, &north.id, project, &format!("Plan number {n:02}")).await;
    }
    create(&north.other_project_user, &north.id, &north.projects[1], "Plan of others").await;
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let query = json!({"orgId": north.id, "projectId": project, "pageSize": 5, "pageToken": token});
        let page = author.call(LIST, query).await.ok();
        let notes = page["notes"].as_array().cloned().unwrap_or_default();
        assert!(notes.len() == 5 || page.get("nextPageToken").is_none(), "a page is full or the last");
        seen.extend(notes.iter().map(|note| note["title"].as_str().unwrap().to_owned()));
        match page["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    let expected: Vec<String> = (0..12).map(|n| format!("Plan number {n:02}")).collect();
    assert_eq!(seen, expected);
    // Fault 17: descending pages lose no row.
    let down = titles(author, json!({"orgId": north.id, "orderBy": "id desc", "pageSize": 20})).await;
    assert_eq!(down, expected.iter().rev().cloned().collect::<Vec<_>>());
    let found = json!({"orgId": north.id, "filter": "title.startsWith(\"Plan number 1\")"});
    assert_eq!(titles(author, found).await, ["Plan number 10", "Plan number 11"]);
    assert!(titles(author, json!({"orgId": north.id, "filter": "published"})).await.is_empty());
    assert_eq!(titles(&north.admin, json!({"orgId": north.id, "pageSize": 100})).await.len(), 13);

    // A filter on what is hidden matches nothing, neither way.
    for filter in ["draft == \"for my eyes only\"", "draft != \"something\"", "!(draft == \"something\")"] {
        let mine = titles(author, json!({"orgId": north.id, "filter": filter, "pageSize": 50})).await;
        let others = titles(&north.admin, json!({"orgId": north.id, "filter": filter, "pageSize": 50})).await;
        assert_eq!((mine.len(), others.len()), (12, 0), "{filter}");
    }
    // A token belongs to one caller and one query.
    let first = author.call(LIST, json!({"orgId": north.id, "pageSize": 5})).await.text("nextPageToken");
    north
        .admin
        .call(LIST, json!({"orgId": north.id, "pageSize": 5, "pageToken": first}))
        .await
        .refused("invalid_argument");
    let other_query = json!({"orgId": north.id, "filter": "published", "pageSize": 5, "pageToken": first});
    author.call(LIST, other_query).await.refused("invalid_argument");
    server.stop().await;
}

#[tokio::test]
async fn a_note_stands_in_a_project_of_its_org_or_nowhere() {
    let (server, World { north, south, .. }) = World::start().await;
    let foreign = json!({"note": {"orgId": north.id, "projectId": south.projects[0], "title": "x"}});
    let answer = north.admin.call(CREATE, foreign).await;
    assert!(!answer.is_ok(), "a project of another org: {answer:?}");
    let other = json!({"note": {"orgId": north.id, "projectId": north.projects[1], "title": "x"}});
    assert!(!north.project_user.call(CREATE, other).await.is_ok(), "a project that he is not in");
    for field in ["orgId", "projectId"] {
        let note = create(&north.project_user, &north.id, &north.projects[0], "x").await;
        let moved = json!({"note": {"id": note["id"], field: south.id}, "updateMask": field});
        north.project_user.call(UPDATE, moved).await.refused("invalid_argument");
    }
    let forged = json!({"note": {"orgId": north.id, "projectId": north.projects[0], "title": "x", "authorId": north.admin.account_id}});
    let note = north.project_user.call(CREATE, forged).await.ok();
    assert_eq!(
        note["authorId"],
        north.project_user.account_id.as_str(),
        "the author is the caller, whatever the request says"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_count_is_the_length_of_the_list_for_everybody_and_every_filter() {
    let (server, World { north, south, superadmin, stranger }) = World::start().await;
    for (number, author) in [&north.project_user, &north.user, &north.project_user].into_iter().enumerate() {
        let note = create(author, &north.id, &north.projects[number % 2], "Plan").await;
        if number == 1 {
            let published = json!({"note": {"id": note["id"], "published": true}, "updateMask": "published"});
            author.call(UPDATE, published).await.ok();
        }
    }
    let filters = ["", "published", "title == \"Plan\"", "draft != \"\"", "title == \"None such\""];
    let mut counts = Vec::new();
    for reader in north.people().into_iter().chain(south.people()).chain([&superadmin, &stranger]) {
        for (filter, project) in filters.iter().flat_map(|filter| [(filter, ""), (filter, &*north.projects[0])]) {
            let query = json!({"orgId": north.id, "projectId": project, "filter": filter});
            let counted = reader.call(COUNT, query.clone()).await;
            let list = reader.call(LIST, query).await;
            if !list.is_ok() {
                assert_eq!((counted.code(), counted.reason()), (list.code(), list.reason()), "{}", reader.email);
                continue;
            }
            let counted = counted.ok()["count"].as_str().map_or(0, |count| count.parse().unwrap());
            assert_eq!(counted, list.body["notes"].as_array().map_or(0, Vec::len), "{} {filter}", reader.email);
            counts.push(counted);
        }
    }
    assert!([0, 1, 2, 3].iter().all(|number| counts.contains(number)), "{counts:?}");
    north.user.call(COUNT, json!({"orgId": north.id, "filter": "titel == \"\""})).await.refused("invalid_argument");
    north.user.call(COUNT, json!({})).await.refused("invalid_argument");
    server.stop().await;
}
