//! What the subset takes, refuses and means, as tables.

use super::{
    Profile, Scope, check,
    error::CelError,
    eval::{Env, compile},
    ir::CallerField,
    time::Now,
    tokens::proposals,
    turns,
};
use crate::{
    Content, FieldSet,
    tests::fixture::{ANY_GRANT, NOW, at_org, caller, encoded, json, message, things},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::LazyLock};
use sys_contract::model::{Contract, Role};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| things(ANY_GRANT));

fn rule(text: &str) -> Result<super::Ir, CelError> {
    let (this, request) = (message(&CONTRACT, "Thing"), message(&CONTRACT, "ActRequest"));
    let profile = Profile::Rule { this: Some(&this), next: true, request: Some(&request) };
    check(text, Scope { pool: &CONTRACT.pool, package: "test.v1", profile })
}

fn filter(text: &str) -> Result<super::Ir, CelError> {
    let record = message(&CONTRACT, "Thing");
    check(text, Scope { pool: &CONTRACT.pool, package: "test.v1", profile: Profile::Filter { record: &record } })
}

/// Evaluates a rule with these as `this` and `next`.
fn holds(text: &str, this: &str, next: &str) -> bool {
    let thing = message(&CONTRACT, "Thing");
    let (this, next) = (json(&thing, this), json(&thing, next));
    let request = json(&message(&CONTRACT, "ActRequest"), r#"{"id": "x", "reason": "because"}"#);
    let caller = caller(1, vec![at_org(Role::User, 1)]);
    let env = Env {
        this: Some((&this).into()),
        next: Some(&next),
        request: Some(&request),
        caller: Some(&caller),
        now: NOW,
        hidden: None,
    };
    alike(&rule(text).unwrap_or_else(|error| panic!("{text}: {error}; {}", error.instead())), &env)
}

fn matches(text: &str, this: &str, hidden: &[u32]) -> bool {
    let this = json(&message(&CONTRACT, "Thing"), this);
    let hidden: FieldSet = hidden.iter().copied().collect();
    let env =
        Env { this: Some((&this).into()), next: None, request: None, caller: None, now: NOW, hidden: Some(&hidden) };
    alike(&filter(text).unwrap_or_else(|error| panic!("{text}: {error}; {}", error.instead())), &env)
}

/// What a condition says of a message, which is what it says of its bytes.
fn alike(ir: &super::Ir, env: &Env<'_>) -> bool {
    let (test, this) = (compile(ir), env.this.unwrap());
    let Content::Message(message) = this else { panic!("a message") };
    let holds = test(env);
    if let Some(bytes) = encoded(message) {
        assert_eq!(test(&Env { this: Some(bytes.encoded().into()), ..*env }), holds, "{ir} on bytes");
    } else {
        assert!(message.has_field_by_name("labels"), "{message} is not taken as bytes");
    }
    holds
}

const FULL: &str = r#"{
    "title": "Plan B", "flag": true, "state": "OPEN", "count": -3, "size": "7", "ratio": 0.5, "blob": "/w==",
    "due": "2026-11-22T14:00:01Z", "ttl": "3600s", "nick": "", "inner": {"name": "in", "size": "0", "kind": "BIG"},
    "tags": ["a", "b"], "right": "5", "states": ["DONE"], "small": 0.25
}"#;

#[test]
fn conditions_mean_what_cel_says() {
    for (text, full, empty) in [
        ("this.flag", true, false),
        ("!this.flag", false, true),
        ("this.flag == true", true, false),
        ("this.title == \"Plan B\"", true, false),
        ("this.title != 'Plan B'", false, true),
        ("this.title < \"Plan a\" && this.title >= \"Plan B\"", true, false),
        ("this.title.startsWith(\"Plan\") && this.title.endsWith(\"B\") && this.title.contains(\"n \")", true, false),
        ("\"Plan Bee\".startsWith(this.title)", true, true),
        ("this.title in [\"x\", \"Plan B\"]", true, false),
        ("!(this.title in [\"x\", \"Plan B\"])", false, true),
        ("this.title in []", false, false),
        ("this.count == -3", true, false),
        ("this.count < 9223372036854775807 && this.count > -9223372036854775808", true, true),
        ("this.count in [0, 1, -3]", true, true),
        ("this.size == 7u", true, false),
        ("this.size <= 0x6u", false, true),
        ("this.ratio > 0.25 && this.ratio < 1e3", true, false),
        ("this.small >= 0.25 && this.small <= 0.25", true, false),
        ("this.blob == b\"\\xff\"", true, false),
        ("this.blob == b''", false, true),
        ("this.state == State.OPEN", true, false),
        ("this.state != test.v1.State.OPEN", false, true),
        ("this.state in [State.STATE_UNSPECIFIED, State.DONE]", false, true),
        ("has(this.due) && this.due > now", true, false),
        ("has(this.due) && this.due < now + duration(\"1s\")", true, false),
        ("has(this.due) && this.due == timestamp(\"2026-11-22T15:00:01+01:00\")", true, false),
        ("now - duration('1h') < timestamp('2026-11-22T13:00:01Z')", true, true),
        ("has(this.ttl) && now + this.ttl > timestamp(\"2026-11-22T15:00:00Z\")", true, false),
        ("has(this.ttl) && this.ttl == duration(\"60m\")", true, false),
        ("has(this.nick)", true, false),
        ("has(this.nick) && this.nick == \"\"", true, false),
        ("!(has(this.nick) && this.nick == \"\")", false, true),
        ("has(this.nick) && (this.flag || this.nick == \"x\")", true, false),
        ("has(this.inner.size)", true, false),
        ("has(this.inner) && this.inner.name == \"in\"", true, false),
        ("has(this.inner) && this.inner.kind == Inner.Kind.BIG", true, false),
        ("has(this.inner.size) && this.inner.size == 0", true, false),
        ("has(this.inner.deep.deep)", false, false),
        ("has(this.left)", false, false),
        ("has(this.right) && this.right == 5", true, false),
        ("has(this.title)", true, false),
        ("has(this.tags)", true, false),
        ("has(this.wrapped)", false, false),
        ("\"a\" in this.tags", true, false),
        ("!(\"a\" in this.tags)", false, true),
        ("State.DONE in this.states", true, false),
        ("this.title in this.tags", false, false),
        ("caller.verified && !caller.superadmin", true, true),
        ("caller.account_id == this.helper_id", false, false),
        ("has(caller.account_id)", true, true),
        ("request.reason == \"because\"", true, true),
        ("has(request.note)", false, false),
        ("next.flag && this.flag != next.flag", false, true),
        ("this.flag || this.count == 0 && this.size == 1u", true, false),
        ("true && this.flag", true, false),
        ("false || !this.flag", false, true),
        ("this.flag && true && (false || this.state == State.OPEN)", true, false),
    ] {
        assert_eq!(holds(text, FULL, r#"{"flag": true}"#), full, "full: {text}");
        assert_eq!(holds(text, "{}", r#"{"flag": true}"#), empty, "empty: {text}");
    }
}

#[test]
fn an_unknown_enum_number_equals_no_name() {
    for (text, expect) in [
        ("this.state == State.STATE_UNSPECIFIED", false),
        ("this.state == State.OPEN || this.state == State.DONE", false),
        ("this.state in [State.STATE_UNSPECIFIED, State.OPEN, State.DONE]", false),
        ("this.state != State.OPEN", true),
        ("this.state == next.state", true),
    ] {
        assert_eq!(holds(text, r#"{"state": 77}"#, r#"{"state": 77}"#), expect, "{text}");
    }
}

#[test]
fn a_nan_meets_no_order_and_its_negation_says_so() {
    for (text, expect) in [
        ("this.ratio < 1.0", false),
        ("this.ratio >= 1.0", false),
        ("!(this.ratio < 1.0)", true),
        ("!(this.ratio >= 1.0)", true),
    ] {
        assert_eq!(holds(text, r#"{"ratio": "NaN"}"#, "{}"), expect, "{text}");
    }
}

#[test]
fn in_filters_neither_unset_nor_hidden_fields_match() {
    const FLAG: u32 = 6;
    const NICK: u32 = 14;
    const INNER: u32 = 15;
    for (text, hidden, full, empty) in [
        ("flag", &[][..], true, false),
        ("!flag", &[], false, true),
        ("!flag", &[FLAG], false, false),
        ("flag", &[FLAG], false, false),
        ("nick == \"\"", &[], true, false),
        ("nick != \"x\"", &[], true, false),
        ("!(nick == \"x\")", &[], true, false),
        ("!(nick != \"x\")", &[], false, false),
        ("nick != \"x\"", &[NICK], false, false),
        ("has(nick)", &[], true, false),
        ("!has(nick)", &[], false, true),
        ("!has(nick)", &[NICK], false, false),
        ("!(nick == \"x\" && flag)", &[], true, true),
        ("!(nick == \"x\" && flag)", &[NICK], false, true),
        ("!(nick == \"x\" || !flag)", &[], true, false),
        ("inner.name == \"in\"", &[], true, false),
        ("inner.name != \"x\"", &[], true, false),
        ("inner.name != \"x\"", &[INNER], false, false),
        ("inner.size == 0", &[], true, false),
        ("!has(inner.size)", &[], false, true),
        ("due > now", &[], true, false),
        ("!(due > now)", &[], false, false),
        ("state == State.OPEN && \"a\" in tags", &[], true, false),
        ("!(\"z\" in tags)", &[], true, true),
        ("right == 5", &[], true, false),
        ("true", &[], true, true),
    ] {
        assert_eq!(matches(text, FULL, hidden), full, "full: {text} {hidden:?}");
        assert_eq!(matches(text, "{}", hidden), empty, "empty: {text} {hidden:?}");
    }
}

#[test]
fn what_is_refused_says_why_and_what_to_write() {
    for (text, what, instead) in [
        (
            "this.publishd",
            "Thing has no `publishd`",
            "there are `id`, `org_id`, `project_id`, `owner_id`, `title`, `flag`, `state`, `count`, ...",
        ),
        ("this.titel == \"x\"", "Thing has no `titel`", "write `title`"),
        ("has(this.nik)", "Thing has no `nik`", "write `nick`"),
        ("title == \"x\"", "this condition has no `title`", "write `this.title`"),
        ("tihs.flag", "this condition has no `tihs`", "write `this`"),
        ("caller.acount_id == \"\"", "caller has no `acount_id`", "write `caller.account_id`"),
        ("this.state == State.OPN", "State has no `OPN`", "write `State.OPEN`"),
        (
            "this.state == Stat.OPEN",
            "this condition has no `Stat`",
            "there are `caller`, `now`, `this`, `next`, `request`",
        ),
        (
            "this.nick == \"x\"",
            "`this.nick` may be unset here",
            "write `has(this.nick) && ...` to the left of it, in the same conjunction",
        ),
        ("this.nick == \"x\" && has(this.nick)", "`this.nick` may be unset here", ""),
        ("!has(this.nick) || this.nick == \"x\"", "`this.nick` may be unset here", ""),
        ("!(has(this.nick)) && this.nick == \"x\"", "`this.nick` may be unset here", ""),
        ("(has(this.nick) || this.flag) && this.nick == \"x\"", "`this.nick` may be unset here", ""),
        ("has(this.inner) && this.inner.size == 1", "`this.inner.size` may be unset here", ""),
        ("this.inner.name == \"x\"", "`this.inner` may be unset here", ""),
        ("has(this.nick) && next.nick == \"x\"", "`next.nick` may be unset here", ""),
        ("now + this.ttl > now", "`this.ttl` may be unset here", ""),
        ("\"x\" == this.left", "`this.left` may be unset here", ""),
        ("this.count == 3u", "`this.count` is an int, `3u` is a uint", "write `3`"),
        ("this.size > 3", "`this.size` is a uint, `3` is an int", "write `3u`"),
        ("this.ratio < 3", "`this.ratio` is a double, `3` is an int", "write `3.0`"),
        ("this.ratio == 3.0", "`this.ratio` is a double, which has no `==`", "use `<`, `<=`, `>` or `>=`"),
        ("this.ratio in [3.0]", "`this.ratio` is a double, which has no `==`", ""),
        ("this.state == 1", "`this.state` is a State, `1` is an int", "write its name, such as `State.DONE`"),
        (
            "this.state == \"OPEN\"",
            "`this.state` is a State, `\"OPEN\"` is a string",
            "write its name, such as `State.DONE`",
        ),
        ("this.state < State.DONE", "a State has no order", "use `==`, `!=` or `in`"),
        ("this.state == Inner.Kind.BIG", "`this.state` is a State, `Inner.Kind.BIG` is a Kind", ""),
        ("this.flag < true", "a bool has no order", ""),
        ("this.title == 1", "`this.title` is a string, `1` is an int", "compare values of one type"),
        (
            "has(this.due) && this.due > \"2026-01-01\"",
            "`this.due` is a timestamp, `\"2026-01-01\"` is a string",
            "write `timestamp(\"2026-11-22T14:00:00Z\")`",
        ),
        ("this.blob == \"x\"", "`this.blob` is bytes, `\"x\"` is a string", "write `b\"...\"`"),
        ("this.title", "`this.title` is a string, not a condition", ""),
        ("this", "`this` is a message Thing, not a condition", ""),
        ("now", "`now` is a timestamp, not a condition", ""),
        ("\"x\"", "a value stands where a condition is needed", ""),
        ("1 == 1", "both sides of the comparison are fixed", "compare a field"),
        ("1 in [1]", "both sides of the comparison are fixed", ""),
        ("has(this.inner) && this.inner == this.inner", "`this.inner` is a message Inner, which has no `==`", ""),
        ("this.tags == this.tags", "`this.tags` is a list, which has no `==`", "write `value in list`"),
        ("1 in this.tags", "`this.tags` holds other values than an int: a string", ""),
        ("this.title in \"abc\"", "`\"abc\"` is no list", ""),
        ("this.title in [1]", "`this.title` is a string, `1` is an int", ""),
        ("this.title in [this.title]", "`this.title` in a list is not supported", ""),
        ("this.labels == \"x\"", "a map is not supported", ""),
        ("\"x\" in this.labels", "a map is not supported", ""),
        (
            "has(this.wrapped) && this.wrapped.value == \"x\"",
            "`.value` on google.protobuf.StringValue is not supported",
            "",
        ),
        ("has(this.due) && this.due.seconds > 1", "`.seconds` on a timestamp is not supported", ""),
        (
            "this.title.size() > 1",
            "`size()` is not supported",
            "there are startsWith, endsWith, contains, timestamp, duration, has",
        ),
        ("size(this.title) > 1", "`size()` is not supported", ""),
        ("this.title.matches(\"x\")", "`matches()` is not supported", ""),
        ("this.title.startswith(\"x\")", "`startswith()` is not supported", "write `startsWith`"),
        ("this.count.startsWith(\"x\")", "`this.count` is an int, and `startsWith` is of strings", ""),
        ("\"a\".startsWith(\"b\")", "both sides of the comparison are fixed", ""),
        (
            "this.tags.exists(t, t == \"a\")",
            "a loop over a list (`all`, `exists`, `map`, `filter`) is not supported",
            "write `value in this.list`",
        ),
        ("this.tags.all(t, t == \"a\")", "a loop over a list (`all`, `exists`, `map`, `filter`) is not supported", ""),
        ("this.tags[0] == \"a\"", "`[]` is not supported", ""),
        ("this.flag ? true : false", "`?:` is not supported", ""),
        ("this.count + 1 == 2", "arithmetic is not supported", ""),
        ("now + 1 > now", "`now` goes with a duration, not with an int", ""),
        ("duration(\"1h\") + now > now", "arithmetic is not supported", ""),
        ("now + duration(\"1h\") + duration(\"1h\") > now", "arithmetic is not supported", ""),
        ("this.title == null", "`null` is not supported", "write `has(x)` or `!has(x)`"),
        ("(this.flag && this.flag) == true", "a condition stands where a value is compared", ""),
        ("this.count < 1 == true", "a comparison stands where a value is compared", ""),
        ("-this.count == 1", "a minus before anything but a number is not supported", ""),
        ("this.count == 9223372036854775808", "it does not parse: invalid int literal", ""),
        ("timestamp(this.title) == now", "`timestamp` of anything but a text is not supported", ""),
        ("now == timestamp(\"yesterday\")", "the text is no timestamp", ""),
        ("now < now + duration(\"1 day\")", "the text is no duration", ""),
        ("has(this)", "`has()` of anything but a field is not supported", "write `has(this.field)`"),
        ("has(now.x)", "this condition has no `now`", ""),
        ("has(this.a, this.b)", "it does not parse: a `,` stands outside a list", ""),
        ("dyn(this.title) == \"x\"", "`dyn()` is not supported", ""),
        ("Thing{title: \"x\"} == this", "a map or message is not supported", ""),
        ("", "it does not parse:", ""),
        ("this.flag &&", "it does not parse:", ""),
        ("this.flag this.flag", "it does not parse:", ""),
    ] {
        let error = rule(text).expect_err(text);
        assert!(error.to_string().starts_with(what), "{text}: {error}");
        assert!(error.instead().starts_with(instead), "{text}: {}", error.instead());
    }
}

#[test]
fn a_filter_names_fields_alone() {
    for (text, what, instead) in [
        ("this.title == \"x\"", "`this` in a filter is not supported", "write the field alone: `title`"),
        (
            "caller.verified",
            "`caller` in a filter is not supported",
            "write the value itself, such as the account's id",
        ),
        ("titel == \"x\"", "Thing has no `titel`", "write `title`"),
        ("state == State.OPN", "State has no `OPN`", "write `State.OPEN`"),
        ("title = \"x\"", "a single `=` is not supported", "write `==`"),
        ("title", "`title` is a string, not a condition", ""),
        ("has(this.nick)", "`this` in a filter is not supported", "write the field alone: `nick`"),
        ("has(nik)", "Thing has no `nik`", "write `nick`"),
        ("has((inner).name)", "`has()` of anything but a field is not supported", ""),
        ("has(State.OPEN)", "`has()` of anything but a field is not supported", "write `has(this.field)`"),
        ("this", "`this` in a filter is not supported", ""),
    ] {
        let error = filter(text).expect_err(text);
        assert_eq!(error.to_string(), what, "{text}");
        assert!(error.instead().starts_with(instead), "{text}: {}", error.instead());
    }
}

#[test]
fn next_and_request_are_named_only_where_they_are() {
    let this = message(&CONTRACT, "Thing");
    let profile = Profile::Rule { this: Some(&this), next: false, request: None };
    let scope = Scope { pool: &CONTRACT.pool, package: "test.v1", profile };
    for (text, instead) in [
        ("next.flag", "only a grant of UPDATE alone may name the result of a change"),
        ("request.id == \"x\"", "only grants of a method may name its request"),
    ] {
        assert_eq!(check(text, scope).expect_err(text).instead(), instead, "{text}");
    }
}

#[test]
fn bounds_hold_for_nodes_and_depth() {
    let many = |count: usize| vec!["this.flag"; count].join(" && ");
    assert!(rule(&many(21)).is_ok());
    assert_eq!(rule(&many(22)), Err(CelError::TooLarge { max: 64 }));
    let list = |count: usize| format!("this.count in [{}]", vec!["1"; count].join(","));
    assert!(rule(&list(60)).is_ok());
    assert_eq!(rule(&list(61)), Err(CelError::TooLarge { max: 64 }));
    let negated = |count: usize| format!("{}this.flag{}", "!(".repeat(count), ")".repeat(count));
    assert!(rule(&negated(14)).is_ok());
    assert_eq!(rule(&negated(15)), Err(CelError::TooDeep { max: 16 }));
    assert_eq!(rule(&negated(17)), Err(CelError::TooDeep { max: 16 }));
}

#[test]
fn conditions_propose_only_what_every_match_has() {
    let indexes: BTreeMap<_, _> = CONTRACT.records[0]
        .fields
        .iter()
        .filter_map(|field| field.index.map(|index| (field.descriptor.number(), index)))
        .collect();
    for (text, expect) in [
        ("flag", "6: Bool(true)"),
        ("!flag", ""),
        ("flag == true && count == 4", "6: Bool(true); 8: I32(4)"),
        ("4 == count", "8: I32(4)"),
        ("count == 0", ""),
        ("count == 5000000000", ""),
        ("count in [1, 2]", "8: I32(1) I32(2)"),
        ("count in [0, 2]", ""),
        ("!(count in [1, 2])", ""),
        ("count != 4", ""),
        ("!(count != 4)", "8: I32(4)"),
        ("count > 4", ""),
        ("state == State.OPEN", "7: EnumNumber(1)"),
        ("nick == \"x\"", "14: String(\"x\")"),
        ("nick == \"\"", ""),
        ("flag || count == 4", ""),
        ("flag && (count == 4 || count == 5)", "6: Bool(true)"),
        ("title.startsWith(\"Plan b\")", "5: plan"),
        ("title.startsWith(\"pl\")", ""),
        ("!title.startsWith(\"Plan b\")", ""),
        ("title == \"Plan of organisations\"", "5: plan; 5: of; 5: organisa"),
        ("title.contains(\"plan\")", ""),
        ("\"plan\".startsWith(title)", ""),
        ("size == 7u", ""),
    ] {
        let text_of = |value: &crate::TokenValue| match value {
            crate::TokenValue::Exact(value) => format!("{value:?}"),
            crate::TokenValue::WordPrefix(word) => word.clone(),
        };
        let found: Vec<String> = proposals(&filter(text).expect(text), &indexes)
            .into_iter()
            .map(|proposal| match proposal {
                super::tokens::Proposal::Fixed(test) => {
                    format!("{}: {}", test.field, test.any_of.iter().map(text_of).collect::<Vec<_>>().join(" "))
                }
                super::tokens::Proposal::CallersAccount(field) => format!("{field}: caller"),
            })
            .collect();
        assert_eq!(found.join("; "), expect, "{text}");
    }
    let own = rule("this.helper_id == caller.account_id").map(|ir| proposals(&ir, &indexes));
    assert_eq!(own, Ok(vec![super::tokens::Proposal::CallersAccount(23)]));
}

#[test]
fn the_fields_of_caller_are_those_of_its_message() {
    let declared = CONTRACT.pool.get_message_by_name("sys.policy.v1.Caller").expect("policy.proto is imported");
    let declared: Vec<_> = declared.fields().map(|field| field.name().to_owned()).collect();
    assert_eq!(declared, CallerField::ALL.map(|(name, _)| name));
}

#[test]
fn hostile_texts_end_in_an_error_on_a_small_stack() {
    let texts = [
        "(", "!", "-", "a.", "[", "a==", "a&&", "!(", "f(", "a.f(", "a[", "now-", "a in [", ".", "{", "a?a:", "\"",
        "b'", "a<",
    ]
    .map(|part| part.repeat(1024 / part.len()))
    .into_iter()
    .chain(["()", "a==", "a.f().", "a[0]", "a+", "a||", "a,", "has(a).", "-1-", "'' in", "a in "].map(|part| {
        // As much of it as the scanner lets through.
        (1..300)
            .map(|count| part.repeat(count))
            .take_while(|text| super::scan::scan(text, super::Language::Subset).is_ok())
            .last()
            .unwrap_or_default()
    }));
    let texts: Vec<String> = texts.collect();
    LazyLock::force(&CONTRACT);
    // A quarter of what worker threads have.
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        for text in texts {
            assert!(filter(&text).is_err(), "{text}");
        }
    });
    thread.expect("a thread").join().expect("no panic and no overflow");
}

/// Sentences of the grammar, right and wrong.
fn sentence() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(vec![
        "this.flag",
        "this.title",
        "this.count",
        "this.state",
        "has(this.nick)",
        "this.nick",
        "\"x\"",
        "1",
        "2u",
        "0.5",
        "now",
        "State.OPEN",
        "true",
        "duration(\"1h\")",
        "this.tags",
        "[1]",
        "b'x'",
        "caller.account_id",
        "next.flag",
    ])
    .prop_map(str::to_owned);
    atom.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec!["&&", "||", "==", "!=", "<", "in", "+", "-", ">="]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, by, b)| format!("{a} {by} {b}")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{a}.startsWith({b})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in prop_oneof![
        "\\PC{0,60}",
        "[a-z.()!\\-'\"\\\\ \\[\\],0-9=&|<>+?:{}/\n]{0,80}",
        prop::collection::vec(prop::sample::select(vec![
            "(", ")", "[", "]", "!", "-", ".", ",", "a", "this", "has", "in", "&&", "||", "==", "<", "\"x\"", "b'x'", "1", "1u",
            "true", "null", " ", "timestamp", "+", "all", "exists", "1.", "0x", "title",
        ]), 0..60).prop_map(|parts| parts.concat()),
    ]) {
        let _ = rule(&text);
        let _ = filter(&text);
    }

    #[test]
    fn the_text_of_a_condition_means_the_same(text in sentence()) {
        if let Ok(ir) = rule(&text) {
            let again = rule(&ir.to_string());
            prop_assert_eq!(again.as_ref().map(ToString::to_string), Ok(ir.to_string()), "{}", text);
            for record in [FULL, "{}"] {
                prop_assert_eq!(holds(&text, record, "{}"), holds(&ir.to_string(), record, "{}"), "{}", text);
            }
        }
    }
}

#[test]
fn ranges_follow_from_comparisons_that_must_hold_and_from_nothing_else() {
    use super::{ranges::ranges, time::Now};
    use sys_contract::model::Index;
    let numbers = |name: &str| {
        CONTRACT.records[0].message.get_field_by_name(name).unwrap_or_else(|| panic!("no {name}")).number()
    };
    let ordered = ["count", "size", "ratio", "due", "title"].map(|name| (numbers(name), Index::Ordered));
    let indexes = ordered.into_iter().chain([(numbers("flag"), Index::Equal)]).collect();
    let check = |text: &str, expect: &[&str]| {
        let found = ranges(&filter(text).expect(text), &indexes, Now { unix_s: 100, nanos: 0 });
        let name = |number| CONTRACT.records[0].message.get_field(number).expect("a field").name().to_owned();
        let found: Vec<String> =
            found.iter().map(|range| format!("{} {:?} {:?}", name(range.field), range.lower, range.upper)).collect();
        assert_eq!(found, expect, "{text}");
    };
    check("count < 5", &["count Unbounded Excluded(Int(5))"]);
    check("5 < count", &["count Excluded(Int(5)) Unbounded"]);
    check("5 >= count && flag", &["count Unbounded Included(Int(5))"]);
    check("count >= 1 && count < 5 && count < 3", &["count Included(Int(1)) Excluded(Int(5))"]);
    check("title == \"x\"", &["title Included(Text([120])) Included(Text([120]))"]);
    check("size > 1u && ratio < 0.5", &["size Excluded(Uint(1)) Unbounded", "ratio Unbounded Excluded(Double(0.5))"]);
    check("due > now - duration(\"40s\")", &["due Excluded(Timestamp(Now { unix_s: 60, nanos: 0 })) Unbounded"]);
    for nothing in ["count < 5 || flag", "!(count < 5)", "count != 5", "flag", "count in [1, 2]", "inner.size < 5"] {
        check(nothing, &[]);
    }
}

/// Conditions on time, and the seconds from 14:00:00, half a second before `NOW`, between which each is decided otherwise: up to, or behind, that second.
const TURNS: [(&str, &[f64]); 16] = [
    ("this.flag", &[]),
    ("has(this.due) && this.due <= now", &[1.0]),
    ("has(this.due) && this.due < now", &[1.000_000_001]),
    ("has(this.due) && now > this.due", &[1.000_000_001]),
    ("has(this.due) && this.due == now", &[1.0, 1.000_000_001]),
    ("has(this.due) && now != this.due", &[1.0, 1.000_000_001]),
    ("!(has(this.due) && this.due > now)", &[1.0]),
    ("has(this.due) && this.due >= now + duration(\"2s\")", &[]),
    ("has(this.due) && this.due >= now - duration(\"2s\")", &[3.000_000_001]),
    ("has(this.ttl) && now - this.ttl > timestamp(\"2026-11-22T13:00:05Z\")", &[5.000_000_001]),
    ("now < timestamp(\"2026-11-22T14:00:00Z\")", &[]),
    ("now <= timestamp(\"2026-11-22T14:00:00.5Z\")", &[0.500_000_001]),
    ("now < now + duration(\"1s\")", &[]),
    ("has(this.ttl) && now + this.ttl < now", &[]),
    ("has(this.due) && (this.due < now || now >= timestamp(\"2026-11-22T14:00:03Z\"))", &[1.000_000_001, 3.0]),
    ("this.title == \"Plan B\" && now > timestamp(\"2026-11-22T14:00:07Z\")", &[7.000_000_001]),
];

#[test]
fn until_its_next_turn_a_condition_is_decided_as_now() {
    let this = json(&message(&CONTRACT, "Thing"), FULL);
    for (text, expected) in TURNS {
        let ir = rule(text).unwrap();
        let test = compile(&ir);
        let at = |now| Env { this: Some((&this).into()), next: None, request: None, caller: None, now, hidden: None };
        let (mut now, mut turns) = (NOW, Vec::new());
        while let Some(turn) = turns::next_turn(&ir, &at(now)) {
            let away = turn.since(now);
            for between in [0, 1, away / 2, away - 1] {
                let between = now.plus(between.clamp(0, away - 1));
                assert_eq!(test(&at(between)), test(&at(now)), "{text} at {between:?}, before {turn:?}");
            }
            turns.push(turn.since(Now { nanos: 0, ..NOW }));
            now = turn;
            assert!(turns.len() < 10, "{text}: turns without end");
        }
        for later in [1, 1_000_000_000, 100_000_000_000_000] {
            assert_eq!(test(&at(now.plus(later))), test(&at(now)), "{text}, behind its last turn");
        }
        #[allow(clippy::cast_possible_truncation, reason = "a few seconds")]
        let expected: Vec<i128> = expected.iter().map(|seconds| (seconds * 1e9).round() as i128).collect();
        assert_eq!(turns, expected, "{text}");
        assert_eq!(turns::names_now(&ir), text.contains("now"), "{text}");
    }
    // What is no comparison is asked again.
    let ir = rule("has(this.due) && now in [timestamp(\"2026-11-22T14:00:01Z\")]").unwrap();
    let env = Env { this: Some((&this).into()), next: None, request: None, caller: None, now: NOW, hidden: None };
    assert_eq!(turns::next_turn(&ir, &env), Some(NOW.plus(1_000_000_000)));
}
