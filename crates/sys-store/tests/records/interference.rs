//! Nothing that a caller may not read moves any answer: two stores that differ only in that answer alike.

use crate::harness::*;
use prost_reflect::Value;
use std::sync::Arc;
use sys_contract::{
    id::RecordId,
    model::{Role, Verb},
};
use sys_policy::Caller;
use sys_store::{ListRequest, Table, engine::CommitError};

/// Filter, search and order.
const REQUESTS: [(&str, &str, &str); 11] = [
    ("", "", ""),
    ("", "", "id desc"),
    ("", "", "title"),
    ("", "", "draft desc"),
    ("published", "", ""),
    ("title.startsWith(\"plan of\")", "", ""),
    ("title.startsWith(\"plan of\") && published", "", "title desc"),
    ("draft == \"hidden\"", "", ""),
    ("draft != \"hidden\"", "", ""),
    ("", "pl day", ""),
    ("published", "of pla", "title desc"),
];

struct Set {
    world: World,
    table: Arc<Table>,
    /// Sees project 0, and what the whole org sees.
    user: Caller,
    /// Sees all of org A.
    author: Caller,
    ids: Vec<RecordId>,
}

async fn set_up() -> Set {
    let world = World::new(Kind::Memory).await;
    let table = world.notes().await;
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let author = caller(2, vec![world.at_org(Role::User, 0)]);
    let mut ids = Vec::new();
    for number in 0..9 {
        let title = format!("plan of day {number}");
        let fields = [("title", text(&title)), ("published", Value::Bool(number % 2 == 0)), ("draft", text("d"))];
        let project = usize::from(number % 3 == 0);
        ids.push(world.create(&table, &author, world.task(&table, project, &fields)).await.unwrap().view.id());
    }
    Set { world, table, user, author, ids }
}

impl Set {
    /// All that the user can find out, save what is random: nonces.
    async fn answers(&self) -> Vec<String> {
        let mut answers = Vec::new();
        for (filter, search, order_by) in REQUESTS {
            for project_id in [String::new(), self.world.project_text(0), self.world.project_text(1)] {
                let mut request = ListRequest {
                    org_id: self.world.org_text(0),
                    project_id,
                    filter: filter.to_owned(),
                    search: search.to_owned(),
                    order_by: order_by.to_owned(),
                    page_size: 2,
                    page_token: String::new(),
                };
                loop {
                    let page = self.world.list(&self.table, &self.user, &request).await.unwrap();
                    answers.extend(page.views.iter().map(|view| view.message().to_string()));
                    answers.push(format!("token of {}", page.next_page_token.len()));
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
            }
        }
        for id in &self.ids {
            for verb in [Verb::Get, Verb::Update, Verb::Delete] {
                let mut open = self.world.begin().await;
                let permit = open.confined(&self.table, &self.user).permit(verb, *id).await;
                answers.push(permit.map_or_else(|refused| kind(&refused), |permit| format!("{:?}", permit.grant())));
            }
        }
        answers
    }
}

#[tokio::test]
async fn rows_and_fields_that_a_caller_may_not_read_do_not_move_his_answers() {
    let (plain, fuller) = (set_up().await, set_up().await);
    assert_eq!(plain.answers().await, fuller.answers().await, "the same twice");
    for number in 0..30 {
        let fields = [("title", text("plan of other people")), ("draft", text("hidden"))];
        let new = fuller.world.task(&fuller.table, 1, &fields);
        fuller.world.create(&fuller.table, &fuller.author, new).await.unwrap();
        let id = fuller.ids[number % fuller.ids.len()];
        let draft = message(&fuller.table, &[("draft", text(&format!("hidden {number}")))]);
        fuller.world.update(&fuller.table, &fuller.author, id, &["draft"], draft, None).await.unwrap();
    }
    assert_eq!(plain.answers().await, fuller.answers().await);

    // The comparison can tell: one published note, and the answers differ.
    let new = fuller.world.task(&fuller.table, 1, &[("title", text("x")), ("published", Value::Bool(true))]);
    fuller.world.create(&fuller.table, &fuller.author, new).await.unwrap();
    assert_ne!(plain.answers().await, fuller.answers().await);
}

/// A transaction conflicts with what is written into what it has read, so a conflict shows what a list walked through.
#[tokio::test]
async fn a_list_walks_through_what_its_caller_holds_and_nothing_else() {
    let set = set_up().await;
    let admin = caller(3, vec![set.world.at_org(Role::Admin, 0)]);
    let walks = async |caller: &Caller, filter: &str, project: usize, title: &str| {
        let mut open = set.world.begin().await;
        let request = ListRequest {
            org_id: set.world.org_text(0),
            filter: filter.to_owned(),
            page_size: 100,
            ..ListRequest::default()
        };
        open.confined(&set.table, caller).list(&request).await.unwrap();
        open.put_row(sys_store::SystemKind::Progress, b"anything", Vec::new()).await.unwrap();
        let new = set.world.task(&set.table, project, &[("title", text(title))]);
        set.world.create(&set.table, &set.author, new).await.unwrap();
        match open.commit().await {
            Ok(_) => false,
            Err(CommitError::Conflict) => true,
            Err(error) => panic!("{error}"),
        }
    };
    // A user of one project: no unpublished note of another project is on his way, even if it has the word that he seeks.
    for filter in ["", "title.startsWith(\"plan of\")", "published"] {
        // Ids of one millisecond are in random order: some of these lie between those that he sees.
        for _ in 0..8 {
            assert!(!walks(&set.user, filter, 1, "plan of the hidden").await, "{filter}");
        }
        assert!(walks(&set.user, filter, 0, "plan of his own").await, "{filter}");
    }
    // Whoever sees the whole org is led by the index alone.
    assert!(walks(&set.author, "title.startsWith(\"plan of\")", 1, "plan of all").await);
    assert!(!walks(&set.author, "title.startsWith(\"plan of\")", 1, "else").await);
    assert!(walks(&admin, "", 1, "else").await);
}

/// Where a condition hides rows of the range, a filter's index does not lead: the work would follow the hidden rows.
#[tokio::test]
async fn a_filter_leads_only_where_nothing_is_hidden() {
    for (condition, leads) in [("", true), (" when: \"this.weight > 3\"", false)] {
        let all = "verbs: [GET, CREATE, UPDATE, DELETE] role: USER at: PROJECT";
        let contract = TASKS.replace(all, &format!("verbs: [GET, CREATE] role: USER at: ORG{condition}"));
        assert_ne!(contract, TASKS);
        let contract = contract.replace("[GET] role: GUEST at: PROJECT", "[GET] role: ADMIN at: PROJECT");
        let world = World::new(Kind::Memory).await;
        let table = world.load_tasks(&contract).await.unwrap();
        let user = caller(1, vec![world.at_org(Role::User, 0)]);
        let task = |state| world.task(&table, 0, &[("state", Value::EnumNumber(state)), ("weight", Value::I32(5))]);
        world.create(&table, &user, task(1)).await.unwrap();

        let mut open = world.begin().await;
        let filter = "state == State.STATE_OPEN".to_owned();
        let request = ListRequest { org_id: world.org_text(0), filter, ..ListRequest::default() };
        assert_eq!(open.confined(&table, &user).list(&request).await.unwrap().views.len(), 1);
        open.put_row(sys_store::SystemKind::Progress, b"anything", Vec::new()).await.unwrap();
        world.create(&table, &user, task(2)).await.unwrap();
        assert_eq!(open.commit().await.is_ok(), leads, "{condition}");
    }
}

#[tokio::test]
async fn a_list_shows_what_gets_show_where_no_index_answers() {
    for kind in BOTH {
        let all = "verbs: [GET, CREATE, UPDATE, DELETE] role: USER at: PROJECT";
        let seen = "option (sys.policy.v1.allow) = { verbs: [GET] role: USER at: PROJECT when: \"this.weight > 3\" };";
        let contract = TASKS.replace(
            &format!("option (sys.policy.v1.allow) = {{ {all} }};"),
            &format!("{seen} option (sys.policy.v1.allow) = {{ verbs: [CREATE] role: USER at: PROJECT }};"),
        );
        assert_ne!(contract, TASKS);
        let contract = contract.replace("[GET] role: GUEST at: PROJECT", "[GET] role: ADMIN at: PROJECT");
        let world = World::new(kind).await;
        let table = world.load_tasks(&contract).await.unwrap();
        let user = caller(1, vec![world.at_project(Role::User, 0)]);
        let mut visible = Vec::new();
        for weight in 0..8 {
            let task = world.task(&table, 0, &[("weight", Value::I32(weight))]);
            let id = world.create(&table, &user, task).await.unwrap().view.id();
            if world.get(&table, &user, id).await.is_some() {
                visible.push(id);
            }
        }
        visible.sort();
        assert_eq!(visible.len(), 4);
        let request = ListRequest { org_id: world.org_text(0), ..ListRequest::default() };
        for order_by in ["id", "weight"] {
            let request = ListRequest { order_by: order_by.to_owned(), ..request.clone() };
            let page = world.list(&table, &user, &request).await.unwrap();
            let mut listed: Vec<_> = page.views.iter().map(sys_store::View::id).collect();
            listed.sort();
            assert_eq!(listed, visible);
        }
    }
}
