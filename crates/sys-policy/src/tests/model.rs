//! The naive oracle: the rules of DESIGN section 4 once more, over plain values, without descriptors, closures or indexes.

use super::fixture::{account, json, message, org, org_id, project};
use crate::{Binding, BindingScope, Caller, Now, Standing};
use proptest::prelude::*;
use prost_reflect::DynamicMessage;
use sys_contract::{
    id::{AccountId, SessionId},
    model::{Contract, Grant, Home, Level, Role, Verb},
    problem::Place,
};

/// A record in plain values. Scopes are small numbers; 0 is none.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) org: u8,
    pub(super) project: u8,
    pub(super) owner: u8,
    pub(super) title: &'static str,
    pub(super) flag: bool,
    pub(super) state: i32,
    pub(super) count: i32,
    pub(super) nick: Option<&'static str>,
    pub(super) due_s: Option<i64>,
    pub(super) helper: u8,
}

/// A condition that can be written in CEL, on `this` or on `next`.
#[derive(Debug, Clone)]
pub(super) enum Cond {
    Flag,
    TitleIs(&'static str),
    TitleStarts(&'static str),
    StateIs(i32),
    CountAbove(i32),
    CountIn(Vec<i32>),
    NickIs(&'static str),
    HasNick,
    HasDue,
    DueLater(i64),
    HelperIsCaller,
    CallerIsSuperadmin,
    /// The change leaves `count` as it is: names `next`.
    CountStays,
    Not(Box<Cond>),
    And(Box<Cond>, Box<Cond>),
    Or(Box<Cond>, Box<Cond>),
}

#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) number: u8,
    pub(super) standing: Standing,
    pub(super) bindings: Vec<(Role, Where, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Where {
    System,
    Org(u8),
    Project(u8, u8),
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) grant: Grant,
    pub(super) when: Option<Cond>,
}

/// `caller` in conditions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    account: u8,
    superadmin: bool,
}

/// The oracle: whether a grant holds. `next` is the result of an UPDATE.
pub(super) fn holds(rule: &Rule, home: Home, who: &Who, thing: &Thing, next: Option<&Thing>, now: &Now) -> bool {
    let verified = who.standing == Standing::Verified;
    let live = |role: Role, scopes: &[Where]| {
        who.bindings.iter().any(|(held, scope, expires)| {
            let well_formed = (*held == Role::Superadmin) == (*scope == Where::System);
            let fresh = expires.is_none_or(|expires| expires as i64 > now.unix_s);
            well_formed && fresh && *held >= role && scopes.contains(scope)
        })
    };
    let projects: Vec<Where> = (0..9).map(|project| Where::Project(thing.org, project)).collect();
    let anywhere = |org| live(Role::Guest, &[&[Where::Org(org)], projects.as_slice()].concat());
    let grant = &rule.grant;
    let role = match grant.role {
        None => true,
        Some((role, Level::System)) => live(role, &[Where::System]),
        Some((role, Level::Org)) => thing.org != 0 && live(role, &[Where::Org(thing.org)]),
        Some((role, Level::Project)) => {
            let project =
                if thing.project == 0 { Where::Org(thing.org) } else { Where::Project(thing.org, thing.project) };
            thing.org != 0 && live(role, &[Where::Org(thing.org), project])
        }
    };
    let member = !grant.member || (thing.org != 0 && anywhere(thing.org));
    let owner = !grant.owner
        || (thing.owner != 0 && thing.owner == who.number && (home == Home::Global || anywhere(thing.org)));
    let named = grant.role.is_some() || grant.member || grant.owner || grant.signed_in;
    let standing = if named { verified } else { grant.public };
    let caller = if verified { who.number } else { 0 };
    let caller = Seen { account: caller, superadmin: verified && live(Role::Superadmin, &[Where::System]) };
    let when = match (&rule.when, next) {
        (None, _) => true,
        (Some(when), None) => eval(when, thing, None, caller, &[], now) == Some(true),
        (Some(when), Some(next)) => {
            eval(when, thing, Some(next), caller, &[], now) == Some(true)
                && (names_next(when) || eval(when, next, None, caller, &[], now) == Some(true))
        }
    };
    standing && role && member && owner && grant.permission.is_none() && when
}

/// Three-valued: an unset or hidden field makes a leaf unknown.
pub(super) fn eval(
    c: &Cond,
    this: &Thing,
    next: Option<&Thing>,
    caller: Seen,
    hidden: &[&str],
    now: &Now,
) -> Option<bool> {
    let go = |c: &Cond| eval(c, this, next, caller, hidden, now);
    let seen = |field: &str, value: bool| (!hidden.contains(&field)).then_some(value);
    match c {
        Cond::Flag => seen("flag", this.flag),
        Cond::TitleIs(text) => seen("title", this.title == *text),
        Cond::TitleStarts(text) => seen("title", this.title.starts_with(text)),
        Cond::StateIs(state) => seen("state", this.state == *state),
        Cond::CountAbove(count) => seen("count", this.count > *count),
        Cond::CountIn(counts) => seen("count", counts.contains(&this.count)),
        Cond::NickIs(text) => this.nick.and_then(|nick| seen("nick", nick == *text)),
        Cond::HasNick => seen("nick", this.nick.is_some()),
        Cond::HasDue => seen("due", this.due_s.is_some()),
        Cond::DueLater(by) => {
            this.due_s.and_then(|due| seen("due", (MIDNIGHT_S + due, 0) > (now.unix_s + by, now.nanos)))
        }
        Cond::HelperIsCaller => seen("helper_id", this.helper == caller.account),
        Cond::CallerIsSuperadmin => Some(caller.superadmin),
        Cond::CountStays => next.map(|next| this.count == next.count),
        Cond::Not(a) => go(a).map(|a| !a),
        Cond::And(a, b) => match (go(a), go(b)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (a, b) => Some(a? && b?),
        },
        Cond::Or(a, b) => match (go(a), go(b)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (a, b) => Some(a? || b?),
        },
    }
}

pub(super) fn names_next(c: &Cond) -> bool {
    match c {
        Cond::CountStays => true,
        Cond::Not(a) => names_next(a),
        Cond::And(a, b) | Cond::Or(a, b) => names_next(a) || names_next(b),
        _ => false,
    }
}

/// The condition in CEL; `this` is `this.` in rules and nothing in filters. In rules a leaf brings its guard along, which
/// makes it false instead of unknown where the field is unset.
pub(super) fn cel(c: &Cond, this: &str) -> String {
    let guarded = |field: &str, test: String| {
        if this.is_empty() { test } else { format!("(has({this}{field}) && {test})") }
    };
    match c {
        Cond::Flag => format!("{this}flag"),
        Cond::TitleIs(text) => format!("{this}title == {text:?}"),
        Cond::TitleStarts(text) => format!("{this}title.startsWith({text:?})"),
        Cond::StateIs(state) => {
            format!("{this}state == State.{}", ["STATE_UNSPECIFIED", "OPEN", "DONE"][*state as usize])
        }
        Cond::CountAbove(count) => format!("{this}count > {count}"),
        Cond::CountIn(counts) => format!("{this}count in {counts:?}"),
        Cond::NickIs(text) => guarded("nick", format!("{this}nick == {text:?}")),
        Cond::HasNick => format!("has({this}nick)"),
        Cond::HasDue => format!("has({this}due)"),
        Cond::DueLater(by) => guarded("due", format!("{this}due > now + duration(\"{by}s\")")),
        Cond::HelperIsCaller => format!("{this}helper_id == caller.account_id"),
        Cond::CallerIsSuperadmin => "caller.superadmin".to_owned(),
        Cond::CountStays => "this.count == next.count".to_owned(),
        Cond::Not(a) => format!("!({})", cel(a, this)),
        Cond::And(a, b) => format!("({} && {})", cel(a, this), cel(b, this)),
        Cond::Or(a, b) => format!("({} || {})", cel(a, this), cel(b, this)),
    }
}

/// What the guard does, in the oracle: a negation over a guarded leaf sees false, not unknown.
pub(super) fn with_guards(c: &Cond) -> Cond {
    let go = |c: &Cond| Box::new(with_guards(c));
    match c {
        Cond::NickIs(_) => Cond::And(Box::new(Cond::HasNick), Box::new(c.clone())),
        Cond::DueLater(_) => Cond::And(Box::new(Cond::HasDue), Box::new(c.clone())),
        Cond::Not(a) => Cond::Not(go(a)),
        Cond::And(a, b) => Cond::And(go(a), go(b)),
        Cond::Or(a, b) => Cond::Or(go(a), go(b)),
        other => other.clone(),
    }
}

impl Thing {
    pub(super) fn message(&self, contract: &Contract) -> DynamicMessage {
        let mut fields = serde_json::json!({
            "title": self.title, "flag": self.flag, "state": self.state, "count": self.count,
        });
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                fields[name] = value.into();
            }
        };
        set("orgId", (self.org != 0).then(|| org_id(self.org).to_string()));
        set("projectId", (self.project != 0).then(|| project(self.project).to_string()));
        set("ownerId", (self.owner != 0).then(|| account(self.owner).to_string()));
        set("helperId", (self.helper != 0).then(|| account(self.helper).to_string()));
        set("nick", self.nick.map(str::to_owned));
        set("due", self.due_s.map(|due| format!("2026-11-22T{:02}:00:00Z", due / 3600)));
        json(&message(contract, "Thing"), &fields.to_string())
    }
}

impl Who {
    pub(super) fn caller(&self) -> Caller {
        if self.standing == Standing::Anonymous {
            return Caller::anonymous();
        }
        let scope = |scope| match scope {
            Where::System => BindingScope::System,
            Where::Org(of) => BindingScope::Org(org(of)),
            Where::Project(of, in_project) => BindingScope::Project(org(of), project(in_project)),
        };
        let bindings = self.bindings.iter();
        let bindings = bindings.map(|(role, at, expires_unix_s)| Binding {
            role: *role,
            scope: scope(*at),
            expires_unix_s: *expires_unix_s,
        });
        let id: AccountId = account(self.number);
        Caller::new(id, SessionId::from_record(id.record()), self.standing, bindings.collect())
    }
}

/// Eight in the morning of 2026-11-22; `due` of things is a time of that day.
pub(super) const NOW: Now = Now { unix_s: MIDNIGHT_S + 8 * 3600, nanos: 0 };
const MIDNIGHT_S: i64 = 1_795_305_600;

pub(super) fn any_thing() -> impl Strategy<Value = Thing> {
    let titles = prop::sample::select(vec!["", "Plan", "plan b", "Plant", "other plan", "pl"]);
    let nicks = prop::option::of(prop::sample::select(vec!["", "x", "y"]));
    let due = prop::option::of((0_i64..24).prop_map(|hour| hour * 3600));
    ((1_u8..3, 0_u8..4, 0_u8..4), titles, any::<bool>(), 0..4, -1..3, nicks, due, 0_u8..4).prop_map(
        |((org, project, owner), title, flag, state, count, nick, due_s, helper)| Thing {
            org,
            project,
            owner,
            title,
            flag,
            state,
            count,
            nick,
            due_s,
            helper,
        },
    )
}

/// Conditions; those that only rules may use are left out for filters.
pub(super) fn any_cond(in_rules: bool, next: bool) -> impl Strategy<Value = Cond> {
    let both = prop_oneof![
        Just(Cond::Flag),
        prop::sample::select(vec!["", "Plan", "pl"]).prop_map(Cond::TitleIs),
        prop::sample::select(vec!["Plan", "plan ", "pl", ""]).prop_map(Cond::TitleStarts),
        (0..3).prop_map(Cond::StateIs),
        (-1..3).prop_map(Cond::CountAbove),
        prop::collection::vec(-1..3, 0..3).prop_map(Cond::CountIn),
        prop::sample::select(vec!["", "x"]).prop_map(Cond::NickIs),
        Just(Cond::HasNick),
        Just(Cond::HasDue),
        (-5_i64..5).prop_map(|hours| Cond::DueLater(hours * 3600)),
    ];
    let more = if next { Cond::CountStays } else { Cond::HelperIsCaller };
    let weight = u32::from(in_rules);
    let leaf = prop_oneof![8 => both, 2 * weight => Just(more), weight => Just(Cond::CallerIsSuperadmin)];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| Cond::Not(Box::new(a))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Cond::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Cond::Or(Box::new(a), Box::new(b))),
        ]
    })
}

pub(super) fn any_who() -> impl Strategy<Value = Who> {
    let standing = prop_oneof![
        6 => Just(Standing::Verified),
        1 => Just(Standing::Anonymous),
        1 => Just(Standing::Disabled),
        1 => Just(Standing::Unverified),
    ];
    let role = prop::sample::select(vec![Role::Guest, Role::User, Role::Admin, Role::Superadmin]);
    let at = prop_oneof![
        1 => Just(Where::System),
        2 => (1_u8..3).prop_map(Where::Org),
        4 => (1_u8..3, 1_u8..4).prop_map(|(org, project)| Where::Project(org, project)),
    ];
    // A second ago, now, in a second, or never.
    let now = NOW.unix_s as u64;
    let expires = prop_oneof![3 => Just(None), 1 => (now - 1..now + 2).prop_map(Some)];
    (1_u8..4, standing, prop::collection::vec((role, at, expires), 0..5)).prop_map(|(number, standing, bindings)| Who {
        number: if standing == Standing::Anonymous { 0 } else { number },
        standing,
        bindings,
    })
}

/// Rules as the loader lets them pass, for verbs that include `verb`.
pub(super) fn any_rule(home: Home) -> impl Strategy<Value = Rule> {
    let level = if home == Home::Global {
        prop::sample::select(vec![Level::Org, Level::Project, Level::System])
    } else {
        prop::sample::select(vec![Level::Org, Level::Project])
    };
    let role = (prop::sample::select(vec![Role::Guest, Role::User, Role::Admin]), level)
        .prop_map(|(role, level)| if level == Level::System { (Role::Superadmin, level) } else { (role, level) });
    let verbs = prop::sample::subsequence(vec![Verb::Get, Verb::Create, Verb::Update, Verb::Delete], 1..=4);
    let flags = prop::collection::vec(prop::bool::weighted(0.25), 4);
    (verbs, prop::option::of(role), flags, prop::bool::weighted(0.05), any::<bool>())
        .prop_flat_map(|(verbs, role, flags, permission, conditional)| {
            let next = verbs == [Verb::Update];
            let when = any_cond(true, next).prop_map(move |when| conditional.then_some(when));
            let grant = Grant {
                verbs,
                role,
                member: flags[0],
                owner: flags[1],
                signed_in: flags[2],
                public: flags[3] || (role.is_none() && !flags[..3].contains(&true) && !permission),
                permission: permission.then(|| "thing.do".to_owned()),
                when: None,
                reveals: Some("a test".to_owned()),
                place: Place { file: "test.proto".into(), line: 1, column: 1 },
            };
            when.prop_map(move |when| {
                let text = when.as_ref().map(|when| cel(when, "this."));
                Rule { grant: Grant { when: text, ..grant.clone() }, when: when.as_ref().map(with_guards) }
            })
        })
        // What is always the same does not load; neither do conditions of more than 64 parts.
        .prop_filter("a condition that loads", |rule| rule.grant.when.as_ref().is_none_or(|text| text.len() < 200))
}
