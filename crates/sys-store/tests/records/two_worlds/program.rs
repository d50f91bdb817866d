//! What happens in the two worlds: random calls of one caller, and random deeds of others.

use crate::harness::*;
use proptest::{collection::vec, prelude::*, sample::select};
use prost_reflect::{DynamicMessage, Kind, Value};
use sys_contract::model::{Role, Verb};
use sys_policy::Standing;

/// Records that the two sides know each other by; a step names one of the first so many.
pub(super) const SLOTS: usize = 8;
/// Accounts: the caller is the first.
pub(super) const PEOPLE: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) observer: Observer,
    /// Made before the first step: on the left in this order, on the right in the opposite one.
    pub(super) before: Vec<(usize, usize, Vec<Set>)>,
    pub(super) steps: Vec<Step>,
}

/// Whose answers are compared.
#[derive(Debug, Clone)]
pub(super) struct Observer {
    /// None if he has no account.
    pub(super) standing: Option<Standing>,
    /// Roles at orgs (0 and 1) and projects (2 to 4).
    pub(super) bindings: Vec<(Role, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The caller asks; both sides answer.
    Ask(Ask),
    /// Others do the same on both sides.
    Both(Deed),
    /// Others do it on one side, if the caller cannot see it.
    Only(Side, Deed),
}

/// What somebody with every right does.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Create { owner: usize, project: usize, sets: Vec<Set> },
    Update { slot: usize, sets: Vec<Set> },
    Delete { slot: usize },
}

#[derive(Debug, Clone)]
pub(super) enum Ask {
    Get {
        slot: usize,
    },
    Permit {
        verb: Verb,
        slot: usize,
    },
    Create {
        org: usize,
        project: usize,
        sets: Vec<Set>,
    },
    Update {
        slot: usize,
        mask: Vec<&'static str>,
        sets: Vec<Set>,
        etag: Etag,
    },
    Delete {
        slot: usize,
        etag: Etag,
    },
    Count(Query),
    /// All pages from the first to the last.
    Pages(Query),
    /// The first page alone; its token is kept.
    First(Query),
    /// A page from the kept token, with this query or the one that the token was given for.
    Next(Option<Query>),
    /// Begins to watch; what is told is part of the answer, as it is to the next two.
    Watch(Query),
    /// Hears what is new.
    Follow,
    /// Goes on from the last token that was told, with this query or the one that it was given for.
    Resume(Option<Query>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Etag {
    None,
    /// One of those that the caller was shown.
    Seen(usize),
    Wrong,
}

#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) org: usize,
    pub(super) project: Option<usize>,
    pub(super) filter: String,
    pub(super) search: &'static str,
    pub(super) order_by: &'static str,
    pub(super) page_size: i32,
}

/// A value for a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Set {
    Text(&'static str, &'static str),
    Flag(&'static str, bool),
    Number(&'static str, i32),
    Due(i64),
    Town(&'static str),
}

impl Ask {
    /// Whether something may be otherwise afterwards.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Update { .. } | Self::Delete { .. })
    }
}

impl Set {
    pub(super) fn apply(self, to: &mut DynamicMessage) {
        match self {
            Self::Text(field, value) => to.set_field_by_name(field, text(value)),
            Self::Flag(field, value) => to.set_field_by_name(field, Value::Bool(value)),
            Self::Number(field, value) => to.set_field_by_name(field, Value::I32(value)),
            Self::Due(seconds) => {
                let mut due = inner(to, "due_time");
                due.set_field_by_name("seconds", Value::I64(NOW.unix_s + seconds));
                to.set_field_by_name("due_time", Value::Message(due));
            }
            Self::Town(town) => {
                let mut place = inner(to, "place");
                place.set_field_by_name("town", text(town));
                to.set_field_by_name("place", Value::Message(place));
            }
        }
    }
}

fn inner(message: &DynamicMessage, field: &str) -> DynamicMessage {
    use prost_reflect::ReflectMessage;
    match message.descriptor().get_field_by_name(field).unwrap().kind() {
        Kind::Message(inner) => DynamicMessage::new(inner),
        kind => panic!("{kind:?}"),
    }
}

pub(super) fn program() -> impl Strategy<Value = Program> {
    let made = (0..PEOPLE, project(), sets());
    (observer(), vec(made, 0..5), vec(step(), 4..60)).prop_map(|(observer, before, steps)| Program {
        observer,
        before,
        steps,
    })
}

fn observer() -> impl Strategy<Value = Observer> {
    let standing = prop_oneof![
        14 => Just(Some(Standing::Verified)),
        1 => Just(Some(Standing::Disabled)),
        1 => Just(None),
    ];
    let role = select([Role::Guest, Role::User, Role::User, Role::Admin].as_slice());
    // Mostly the project in which most happens; who sees a whole org has less that is hidden from him.
    let place = prop_oneof![1 => 0..2_usize, 3 => Just(2), 1 => 3..5_usize];
    (standing, vec((role, place), 0..3)).prop_map(|(standing, bindings)| Observer { standing, bindings })
}

fn project() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 1..3_usize]
}

fn step() -> impl Strategy<Value = Step> {
    let side = select([Side::Left, Side::Right].as_slice());
    prop_oneof![
        5 => ask().prop_map(Step::Ask),
        1 => deed().prop_map(Step::Both),
        4 => (side, deed()).prop_map(|(side, deed)| Step::Only(side, deed)),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..PEOPLE, project(), sets()).prop_map(|(owner, project, sets)| Deed::Create { owner, project, sets }),
        // What most hides on a record that is seen.
        3 => (0..SLOTS, vec(hidden_set(), 1..3)).prop_map(|(slot, sets)| Deed::Update { slot, sets }),
        1 => (0..SLOTS, sets()).prop_map(|(slot, sets)| Deed::Update { slot, sets }),
        1 => (0..SLOTS).prop_map(|slot| Deed::Delete { slot }),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let verb = select([Verb::Get, Verb::Update, Verb::Delete].as_slice());
    let mask = select(vec![
        vec!["*"],
        vec![],
        vec![],
        vec![],
        vec!["title"],
        vec!["shared", "rank"],
        vec!["published", "text"],
        vec!["text"],
        vec!["hidden_text"],
        vec!["secret"],
        vec!["remark", "title"],
        vec!["note"],
        vec!["verdict"],
        vec!["nick", "slug"],
        vec!["place.town", "due_time"],
        vec!["project_id"],
        vec!["owner_id"],
        vec!["grade"],
        vec!["no_such_field"],
    ]);
    prop_oneof![
        2 => (0..SLOTS).prop_map(|slot| Ask::Get { slot }),
        1 => (verb, 0..SLOTS).prop_map(|(verb, slot)| Ask::Permit { verb, slot }),
        2 => (prop_oneof![9 => Just(None), 1 => (0..2_usize).prop_map(Some)], project(), sets()).prop_map(
            |(org, project, sets)| Ask::Create { org: org.unwrap_or(project / 2), project, sets }),
        // A request that names something hidden is refused whatever else it says, so that most name nothing of it.
        4 => (0..SLOTS, mask, prop_oneof![3 => vec(open_set(), 1..4), 1 => sets()], etag()).prop_map(
            |(slot, mask, sets, etag)| Ask::Update { slot, mask, sets, etag }),
        1 => (0..SLOTS, etag()).prop_map(|(slot, etag)| Ask::Delete { slot, etag }),
        4 => query().prop_map(Ask::Pages),
        1 => query().prop_map(Ask::Count),
        2 => query().prop_map(Ask::First),
        2 => prop_oneof![3 => Just(None), 1 => query().prop_map(Some)].prop_map(Ask::Next),
        2 => query().prop_map(Ask::Watch),
        6 => Just(Ask::Follow),
        1 => prop_oneof![5 => Just(None), 1 => query().prop_map(Some)].prop_map(Ask::Resume),
    ]
}

fn etag() -> impl Strategy<Value = Etag> {
    prop_oneof![5 => Just(Etag::None), 3 => any::<u8>().prop_map(|n| Etag::Seen(n.into())), 1 => Just(Etag::Wrong)]
}

fn query() -> impl Strategy<Value = Query> {
    let order = select(vec![
        "",
        "id desc",
        "title",
        "title desc, rank",
        "secret",
        "secret desc, title",
        "remark, note desc",
        "due_time",
        "due_time desc",
        "text desc",
        "hidden_text",
        "published, shared desc, rank",
        "place",
        "nonsense",
    ]);
    let size = prop_oneof![6 => 1..5_i32, 1 => Just(0), 1 => Just(1_000), 1 => Just(-1)];
    let project = prop_oneof![2 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    // Mostly none; beginnings of words of titles and of what is hidden, and too little to search for.
    let search = prop_oneof![4 => Just(""), 1 => select(vec!["pl", "PLAN", "a b", "b pla", "hid", "x"])];
    (0..2_usize, project, filter(), search, order, size).prop_map(
        |(org, project, filter, search, order_by, page_size)| Query {
            org,
            project,
            filter,
            search,
            order_by,
            page_size,
        },
    )
}

/// A filter over all fields, hidden ones too. Some are wrong: what a refusal says must not differ either.
fn filter() -> impl Strategy<Value = String> {
    let leaf = select(vec![
        "shared",
        "published",
        "shared == false",
        "title.startsWith(\"plan\")",
        "title.contains(\"b\")",
        "title == \"plan b\"",
        "rank > 1",
        "rank in [1, 2]",
        "grade > 1",
        "due_time < now",
        "due_time >= now && secret != \"gold\"",
        "has(due_time)",
        "nick != \"mine\"",
        "slug.startsWith(\"o\")",
        "secret == \"gold\"",
        "secret != \"gold\"",
        "secret.startsWith(\"go\")",
        "has(secret)",
        "remark == \"open\"",
        "remark in [\"open\", \"closed\"]",
        "remark != \"closed\"",
        "note == \"n\"",
        "has(note)",
        "verdict == \"good\"",
        "text == \"t\"",
        "hidden_text != \"t\"",
        "has(hidden_text)",
        "place.town == \"x\"",
        "id != \"\"",
        "nonsense == 1",
        "secret == 3",
    ])
    .prop_map(str::to_owned);
    let filter = leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    });
    prop_oneof![1 => Just(String::new()), 4 => filter]
}

fn sets() -> impl Strategy<Value = Vec<Set>> {
    vec(prop_oneof![3 => open_set(), 2 => hidden_set()], 0..6)
}

fn open_set() -> impl Strategy<Value = Set> {
    let texts = |field: &'static str, values: Vec<&'static str>| select(values).prop_map(move |v| Set::Text(field, v));
    prop_oneof![
        3 => texts("title", vec!["plan", "plan b", "planet of the apes", "beta", ""]),
        3 => select(vec![true, true, false]).prop_map(|v| Set::Flag("shared", v)),
        1 => any::<bool>().prop_map(|v| Set::Flag("published", v)),
        2 => (0..4).prop_map(|v| Set::Number("rank", v)),
        1 => (0..4).prop_map(|v| Set::Number("grade", v)),
        1 => (-2..2_i64).prop_map(Set::Due),
        1 => texts("nick", vec!["mine", "yours", ""]),
        1 => texts("slug", vec!["mine", "yours", ""]),
        1 => texts("verdict", vec!["good", "bad"]),
        2 => texts("text", vec!["t", "u"]),
        1 => select(vec!["x", ""]).prop_map(Set::Town),
        1 => texts("project_id", vec!["project_nonsense"]),
    ]
}

fn hidden_set() -> impl Strategy<Value = Set> {
    let texts = |field: &'static str, values: Vec<&'static str>| select(values).prop_map(move |v| Set::Text(field, v));
    prop_oneof![
        3 => texts("secret", vec!["gold", "god", "silver", ""]),
        2 => texts("remark", vec!["open", "closed", ""]),
        2 => texts("note", vec!["n", "m", ""]),
        2 => texts("hidden_text", vec!["t", "v"]),
    ]
}
