//! Updates: what a mask may name, what is never touched, etags, and the order in which refusals come.

use crate::harness::*;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use std::sync::Arc;
use sys_contract::{
    id::RecordId,
    model::{Role, Verb},
};
use sys_policy::Caller;
use sys_store::{Change, Refused, StoreError, Table, Written};

struct Set {
    world: World,
    table: Arc<Table>,
    owner: Caller,
    other: Caller,
    guest: Caller,
    stranger: Caller,
    task: RecordId,
}

async fn set_up() -> Set {
    let world = World::new(Kind::Memory).await;
    let table = world.tasks().await;
    let owner = caller(1, vec![world.at_project(Role::User, 0)]);
    let other = caller(2, vec![world.at_project(Role::User, 0)]);
    let guest = caller(3, vec![world.at_project(Role::Guest, 0)]);
    let stranger = caller(4, vec![world.at_project(Role::Admin, 1)]);
    let fields = [
        ("kind", text("bug")),
        ("weight", Value::I32(3)),
        ("secret", text("s")),
        ("verdict", text("good")),
        ("hidden_text", text("h")),
        ("place", Value::Message(place(&table, "Main", "Bern"))),
    ];
    let task = world.create(&table, &owner, world.task(&table, 0, &fields)).await.unwrap().view.id();
    Set { world, table, owner, other, guest, stranger, task }
}

fn place(table: &Table, street: &str, town: &str) -> DynamicMessage {
    let field = table.record().message.get_field_by_name("place").unwrap();
    let mut place = DynamicMessage::new(field.kind().as_message().unwrap().clone());
    place.set_field_by_name("street", text(street));
    place.set_field_by_name("town", text(town));
    place
}

impl Set {
    async fn update(&self, caller: &Caller, mask: &[&str], fields: &[(&str, Value)]) -> Result<Written, Refused> {
        self.world.update(&self.table, caller, self.task, mask, message(&self.table, fields), None).await
    }

    async fn now(&self) -> DynamicMessage {
        self.world.get(&self.table, &self.owner, self.task).await.unwrap().into_message()
    }
}

#[tokio::test]
async fn a_mask_names_fields_that_exist_and_are_the_callers_to_set() {
    let set = set_up().await;
    let nothing: &[(&str, Value)] = &[];
    for path in ["nonsense", "place.nonsense", "weight.x", "labels.x", "tags.x", "", "id", "etag", "owner_id", "place."]
    {
        assert_eq!(refusal(set.update(&set.owner, &[path], nothing).await), "invalid update_mask", "{path}");
    }
    // The request alone is wrong, so it says so to everybody, whatever else he may not do.
    assert_eq!(refusal(set.update(&set.stranger, &["nonsense"], nothing).await), "invalid update_mask");
    assert_eq!(refusal(set.update(&set.stranger, &["weight"], nothing).await), "not found");
    assert_eq!(refusal(set.update(&set.guest, &["weight"], nothing).await), "denied");
}

#[tokio::test]
async fn only_what_the_mask_names_is_changed() {
    let set = set_up().await;
    let before = set.now().await;
    let given =
        [("weight", Value::I32(9)), ("code", text("c")), ("place", Value::Message(place(&set.table, "Side", "Biel")))];
    let written = set.update(&set.owner, &["weight", "place.town"], &given).await.unwrap();
    assert_eq!(written.fields, ["weight", "place"]);
    let after = set.now().await;
    assert_eq!(field(&after, "weight"), Value::I32(9));
    assert_eq!(field_text(&after, "code"), "");
    assert_eq!(field(&after, "place"), Value::Message(place(&set.table, "Main", "Biel")));
    assert_eq!(field(&after, "secret"), field(&before, "secret"));

    // Without a mask: what is set, and an absent `false` or 0 is not.
    let given = [("weight", Value::I32(0)), ("code", text("d"))];
    assert_eq!(set.update(&set.owner, &[], &given).await.unwrap().fields, ["code"]);
    assert_eq!(set.update(&set.owner, &["weight"], &given).await.unwrap().fields, ["weight"]);
    assert_eq!(set.update(&set.owner, &["weight"], &given).await.unwrap().fields, Vec::<String>::new());
}

#[tokio::test]
async fn a_star_replaces_what_the_caller_may_write_and_leaves_the_rest() {
    let set = set_up().await;
    set.update(&set.other, &["*"], &[("code", text("new"))]).await.unwrap();
    let after = set.now().await;
    assert_eq!(field(&after, "weight"), Value::I32(0));
    assert!(!after.has_field_by_name("place"));
    for (name, kept) in [("kind", "bug"), ("secret", "s"), ("verdict", "good"), ("hidden_text", "h"), ("code", "new")] {
        assert_eq!(field_text(&after, name), kept, "{name}");
    }
    assert_eq!(field_text(&after, "owner_id"), account(1).to_string());
    assert_eq!(field_text(&after, "project_id"), set.world.project_text(0));
}

#[tokio::test]
async fn immutable_and_scope_fields_do_not_change() {
    let set = set_up().await;
    for (name, value) in [("kind", text("idea")), ("project_id", text(&set.world.project_text(1)))] {
        for mask in [vec![name], vec!["*"], vec![]] {
            let refused = refusal(set.update(&set.owner, &mask, &[(name, value.clone())]).await);
            assert_eq!(refused, format!("invalid {name}"), "{mask:?}");
        }
    }
    set.update(&set.owner, &["kind"], &[("kind", text("bug"))]).await.expect("the value that it has");
    // What only the server sets is ignored unless the mask names it.
    set.update(&set.owner, &[], &[("owner_id", text("x")), ("id", text("y")), ("weight", Value::I32(1))])
        .await
        .unwrap();
    assert_eq!(field_text(&set.now().await, "owner_id"), account(1).to_string());
}

#[tokio::test]
async fn what_the_caller_cannot_read_he_cannot_write_or_guess() {
    let set = set_up().await;
    // Whether the guess is right makes no difference.
    for guess in ["s", "t", ""] {
        for mask in [vec!["secret"], vec!["weight", "secret"]] {
            assert_eq!(refusal(set.update(&set.other, &mask, &[("secret", text(guess))]).await), "denied secret");
        }
    }
    for mask in [vec![], vec!["*"]] {
        assert_eq!(refusal(set.update(&set.other, &mask, &[("secret", text("s"))]).await), "denied secret");
    }
    // Nor by setting its sibling in a oneof, which would clear it; nor does it show whether there is something to clear.
    for set_by_owner in ["hidden_text", "text", ""] {
        let given: Vec<_> = Some((set_by_owner, text("h"))).into_iter().filter(|(name, _)| !name.is_empty()).collect();
        set.update(&set.owner, &["text", "hidden_text"], &given).await.expect("the owner may");
        for mask in [vec!["text"], vec![]] {
            let refused = refusal(set.update(&set.other, &mask, &[("text", text("t"))]).await);
            assert_eq!(refused, "denied hidden_text", "{mask:?} over `{set_by_owner}`");
        }
    }
}

#[tokio::test]
async fn a_field_with_a_write_rule_is_read_only_for_others() {
    let set = set_up().await;
    assert_eq!(refusal(set.update(&set.other, &["verdict"], &[("verdict", text("bad"))]).await), "denied verdict");
    set.update(&set.other, &["verdict"], &[("verdict", text("good"))]).await.expect("no change");
    let new = set.world.task(&set.table, 0, &[("verdict", text("mine"))]);
    set.world.create(&set.table, &set.other, new).await.expect("the owner of what he makes");
    assert_eq!(refusal(set.update(&set.other, &["*"], &[("verdict", text("bad"))]).await), "denied verdict");
}

#[tokio::test]
async fn a_grant_that_names_next_allows_just_that_change() {
    let set = set_up().await;
    let state = |number| [("state", Value::EnumNumber(number))];
    assert_eq!(refusal(set.update(&set.guest, &["state"], &state(1)).await), "denied");
    set.update(&set.guest, &["state"], &state(2)).await.expect("closes it");
}

#[tokio::test]
async fn fields_unknown_to_this_server_survive_in_the_record_and_are_not_shown() {
    let set = set_up().await;
    let mut newer = set.now().await;
    newer.clear_field_by_name("etag");
    // Field 900, a string, as a newer version of the contract might have it; once in a message inside, too.
    let unknown = b"\xa2\x38\x05newer";
    let mut bytes = newer.encode_to_vec();
    bytes.extend_from_slice(unknown);
    bytes.extend_from_slice(b"\x72\x08");
    bytes.extend_from_slice(unknown);
    let newer = DynamicMessage::decode(set.table.record().message.clone(), bytes.as_slice()).unwrap();
    assert_eq!(newer.unknown_fields().count(), 1);
    let mut open = set.world.begin().await;
    open.danger_unruled(&set.table).update(set.task, newer).await.unwrap();
    open.commit().await.unwrap();

    let has_unknown = |message: &DynamicMessage| message.encode_to_vec().windows(8).any(|part| part == unknown);
    let written = set.update(&set.owner, &["weight"], &[("weight", Value::I32(5))]).await.unwrap();
    assert!(!has_unknown(written.view.message()));
    assert!(!has_unknown(&set.now().await));
    let stored = set.world.begin().await.danger_unruled(&set.table).get(set.task).await.unwrap().unwrap();
    let both = stored.message().encode_to_vec();
    assert_eq!(both.windows(8).filter(|part| part == unknown).count(), 2);

    // From a request they are dropped.
    let mut new = set.world.task(&set.table, 0, &[]);
    new = DynamicMessage::decode(new.descriptor_of(), [new.encode_to_vec(), unknown.to_vec()].concat().as_slice())
        .unwrap();
    let id = set.world.create(&set.table, &set.owner, new).await.unwrap().view.id();
    let stored = set.world.begin().await.danger_unruled(&set.table).get(id).await.unwrap().unwrap();
    assert!(!has_unknown(stored.message()));
}

trait DescriptorOf {
    fn descriptor_of(&self) -> prost_reflect::MessageDescriptor;
}

impl DescriptorOf for DynamicMessage {
    fn descriptor_of(&self) -> prost_reflect::MessageDescriptor {
        prost_reflect::ReflectMessage::descriptor(self)
    }
}

#[tokio::test]
async fn an_etag_is_of_the_callers_view_and_refuses_when_that_has_changed() {
    let set = set_up().await;
    let etag = async |caller| field_text(set.world.get(&set.table, caller, set.task).await.unwrap().message(), "etag");
    let weight = |weight| message(&set.table, &[("weight", Value::I32(weight))]);
    let update = async |caller, weight, etag: &str| {
        set.world.update(&set.table, caller, set.task, &["weight"], weight, Some(etag)).await
    };
    let (of_owner, of_other) = (etag(&set.owner).await, etag(&set.other).await);
    assert_ne!(of_owner, of_other, "they see different things");
    assert_eq!(refusal(update(&set.owner, weight(4), &of_other).await), "etag");

    // What changes only for the owner does not show to the other, not even in the etag.
    set.update(&set.owner, &["secret"], &[("secret", text("s2"))]).await.unwrap();
    assert_eq!(etag(&set.other).await, of_other);
    assert_ne!(etag(&set.owner).await, of_owner);
    let written = update(&set.other, weight(4), &of_other).await.unwrap();
    assert_eq!(field_text(written.view.message(), "etag"), etag(&set.other).await);
    assert_eq!(refusal(update(&set.other, weight(5), &of_other).await), "etag");

    let delete = async |caller, etag: &str| {
        let mut open = set.world.begin().await;
        let mut confined = open.confined(&set.table, caller);
        let permit = confined.permit(Verb::Delete, set.task).await?;
        confined.delete(permit, Some(etag)).await?;
        open.commit().await.unwrap();
        Ok::<_, Refused>(())
    };
    assert_eq!(refusal(delete(&set.other, &of_other).await), "etag");
    let etag_now = etag(&set.other).await;
    delete(&set.other, &etag_now).await.unwrap();
    assert!(set.world.get(&set.table, &set.owner, set.task).await.is_none());
}

#[tokio::test]
async fn refusals_come_in_their_order() {
    let set = set_up().await;
    set.world.create(&set.table, &set.owner, set.world.task(&set.table, 0, &[("code", text("c"))])).await.unwrap();
    let all_wrong = async |caller, mask: &[&str]| {
        let new = message(&set.table, &[("code", text("c")), ("secret", text("x"))]);
        refusal(set.world.update(&set.table, caller, set.task, mask, new, Some("wrong")).await)
    };
    assert_eq!(all_wrong(&set.stranger, &["nonsense"]).await, "invalid update_mask");
    assert_eq!(all_wrong(&set.stranger, &["code", "secret"]).await, "not found");
    assert_eq!(all_wrong(&set.other, &["code", "secret"]).await, "denied secret");
    assert_eq!(all_wrong(&set.other, &["code"]).await, "etag");
    let new = message(&set.table, &[("code", text("c"))]);
    assert_eq!(refusal(set.world.update(&set.table, &set.other, set.task, &["code"], new, None).await), "taken code");
}

#[tokio::test]
async fn a_permit_is_good_for_what_it_was_minted_for_and_nothing_else() {
    let set = set_up().await;
    let (table, task) = (&set.table, set.task);
    let change = Change::parse(table, &[], message(table, &[("weight", Value::I32(8))])).unwrap();
    let foreign = |result: Result<(), Refused>| {
        assert!(matches!(result, Err(Refused::Store(StoreError::ForeignPermit))), "{result:?}");
    };
    let (mut open, mut elsewhere) = (set.world.begin().await, set.world.begin().await);
    let mut confined = open.confined(table, &set.owner);
    // Another verb.
    let permit = confined.permit(Verb::Get, task).await.unwrap();
    foreign(confined.update(permit, &change, None).await.map(|_| ()));
    let permit = confined.permit(Verb::Update, task).await.unwrap();
    foreign(confined.delete(permit, None).await);
    // Another transaction.
    let permit = confined.permit(Verb::Update, task).await.unwrap();
    foreign(elsewhere.confined(table, &set.owner).update(permit, &change, None).await.map(|_| ()));
    // Another caller.
    let permit = confined.permit(Verb::Update, task).await.unwrap();
    foreign(open.confined(table, &set.other).update(permit, &change, None).await.map(|_| ()));
    // Another table, though it is the same module.
    let mut confined = open.confined(table, &set.owner);
    let permit = confined.permit(Verb::Update, task).await.unwrap();
    let projects = set.world.directory.table(1).unwrap();
    foreign(open.confined(projects, &set.owner).update(permit, &change, None).await.map(|_| ()));
}

#[tokio::test]
async fn a_permit_is_judged_again_if_the_record_was_written_since() {
    let set = set_up().await;
    let mut open = set.world.begin().await;
    let mut confined = open.confined(&set.table, &set.other);
    let first = confined.permit(Verb::Update, set.task).await.unwrap();
    let second = confined.permit(Verb::Update, set.task).await.unwrap();
    let third = confined.permit(Verb::Delete, set.task).await.unwrap();
    let last = confined.permit(Verb::Get, set.task).await.unwrap();
    let change = |fields: &[(&str, Value)]| Change::parse(&set.table, &[], message(&set.table, fields)).unwrap();
    confined.update(first, &change(&[("weight", Value::I32(8))]), None).await.unwrap();
    // Works on what the first one left, not on what was there when it was minted.
    let written = confined.update(second, &change(&[("code", text("c"))]), None).await.unwrap();
    assert_eq!(field(written.view.message(), "weight"), Value::I32(8));
    confined.delete(third, None).await.unwrap();
    assert_eq!(refusal(confined.get(last).await), "not found");
}

#[tokio::test]
async fn a_write_answers_with_the_id_alone_to_who_may_not_read_the_result() {
    let text = TASKS.replace(
        "verbs: [GET, CREATE, UPDATE, DELETE] role: USER at: PROJECT",
        "verbs: [CREATE] role: USER at: PROJECT",
    );
    let text = text.replace("verbs: [GET] role: GUEST at: PROJECT", "verbs: [GET] role: ADMIN at: PROJECT");
    let world = World::new(Kind::Memory).await;
    let table = world.load_tasks(&text).await.unwrap();
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let written = world.create(&table, &user, world.task(&table, 0, &[("weight", Value::I32(1))])).await.unwrap();
    let fields: Vec<_> = written.view.message().fields().map(|(field, _)| field.name().to_owned()).collect();
    assert_eq!(fields, ["id"]);
    assert!(world.get(&table, &user, written.view.id()).await.is_none());
}

#[tokio::test]
async fn an_etag_outlives_a_rotation_of_keys() {
    let set = set_up().await;
    let etag = field_text(&set.now().await, "etag");
    set.world.store.keyring().rotate(sys_keys::SpaceId { module: 2, org: set.world.orgs[0].tag() }).unwrap();
    assert_ne!(field_text(&set.now().await, "etag"), etag);
    let weight = message(&set.table, &[("weight", Value::I32(4))]);
    set.world.update(&set.table, &set.owner, set.task, &[], weight, Some(&etag)).await.expect("the same view");
}

#[tokio::test]
async fn what_is_too_large_to_index_or_to_keep_is_refused_whole() {
    let world = World::new(Kind::Memory).await;
    let (notes, tasks) = (world.notes().await, world.tasks().await);
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let words = |count: usize| (0..count).map(|word| format!("{word:02x} ")).collect::<String>();
    for (count, fits) in [(200, true), (600, false)] {
        // Each word has one beginning of its own.
        let note = world.task(&notes, 0, &[("title", text(&words(count)))]);
        let created = world.create(&notes, &user, note).await.map(drop).map_err(|error| kind(&error));
        assert_eq!(created, if fits { Ok(()) } else { Err("invalid title".to_owned()) });
    }
    for (bytes, fits) in [(1_000_000, true), (1 << 20, false)] {
        let task = world.task(&tasks, 0, &[("kind", text(&"x".repeat(bytes)))]);
        let created = world.create(&tasks, &user, task).await.map(drop).map_err(|error| kind(&error));
        assert_eq!(created, if fits { Ok(()) } else { Err("invalid Task".to_owned()) });
    }
    for table in [&notes, &tasks] {
        let find = sys_store::Find::all(world.orgs[0].tag());
        assert_eq!(world.begin().await.danger_unruled(table).find(&find).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_field_that_its_maker_may_not_write_cannot_be_given_at_creation() {
    let rule = "verdict = 16 [(sys.policy.v1.field) = { write: { owner: true } }]";
    let text_of = TASKS.replace(rule, "verdict = 16 [(sys.policy.v1.field) = { write: { role: ADMIN at: PROJECT } }]");
    assert_ne!(text_of, TASKS);
    let world = World::new(Kind::Memory).await;
    let table = world.load_tasks(&text_of).await.unwrap();
    let user = caller(1, vec![world.at_project(Role::User, 0)]);
    let admin = caller(2, vec![world.at_project(Role::Admin, 0)]);
    let given = || world.task(&table, 0, &[("verdict", text("good"))]);
    assert_eq!(refusal(world.create(&table, &user, given()).await), "denied verdict");
    world.create(&table, &user, world.task(&table, 0, &[])).await.expect("without it");
    world.create(&table, &admin, given()).await.expect("his to write");
}
