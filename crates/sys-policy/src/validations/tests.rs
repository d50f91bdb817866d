//! What a contract may not say in its validation rules, and that the longest it may say does no harm.

use crate::Rules;
use prost_reflect::DynamicMessage;
use std::fmt::Write;
use sys_contract::{Origin, SourceFile, model::Contract};

const HEAD: &str = r#"syntax = "proto3";
package test.v1;
import "buf/validate/validate.proto";
"#;

fn contract(body: &str) -> Contract {
    let file = SourceFile { path: "test/v1/test.proto".to_owned(), text: format!("{HEAD}{body}\n") };
    sys_contract::load("mod-test", Origin::Uploaded, &[file]).expect("a contract")
}

/// A message with a rule on itself.
fn on_message(expression: &str) -> String {
    let expression = expression.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "message Ask {{\n  option (buf.validate.message).cel = {{ id: \"it\" expression: \"{expression}\" }};\n  {}\n}}",
        "string text = 1;
  repeated string free = 2;
  repeated string few = 3 [(buf.validate.field).repeated.max_items = 10];
  map<string, string> pairs = 4 [(buf.validate.field).map.max_pairs = 10];
  Ask inner = 5;
  repeated string many = 6 [(buf.validate.field).repeated.max_items = 1001];
  repeated string unheeded = 7 [(buf.validate.field) = { repeated: { max_items: 10 } ignore: IGNORE_ALWAYS }];
  repeated Ask asks = 8 [(buf.validate.field).repeated.max_items = 10];"
    )
}

/// A rule wherever one can stand, each of them wrong.
const EVERYWHERE: &str = r#"message Ask {
  option (buf.validate.message).cel = { id: "a" expression: "first(" };
  option (buf.validate.message).cel = { id: "b" expression: "second(" };
  option (buf.validate.message).cel_expression = "third(";
  string plain = 1 [(buf.validate.field).cel = { id: "c" expression: "this(" }];
  string bare = 2 [(buf.validate.field).cel_expression = "bare("];
  repeated string items = 3 [(buf.validate.field).repeated.items.cel = { id: "d" expression: "items(" }];
  map<string, Ask> pairs = 4 [
    (buf.validate.field).map.keys.cel_expression = "keys(",
    (buf.validate.field).map.values.cel = { id: "e" expression: "values[" }
  ];
  oneof one { string of = 5 [(buf.validate.field).cel = { id: "f" expression: "of(" }]; }
  message Inner {
    repeated string deep = 1 [(buf.validate.field).repeated.items.cel_expression = "deep("];
    string without = 2 [(buf.validate.field).cel = { id: "g" }];
  }
}"#;

const REFUSED: &[(&str, &str)] = &[
    ("a map", "{'a': 1} == {}"),
    ("a message", "buf.validate.Rule{id: 'a'}.id == ''"),
    ("a comment", "true // ((("),
    ("no sentence", "this.text =="),
    ("a loop over any number of items", "this.free.all(x, x != '')"),
    ("a loop over too many items", "this.many.all(x, x != '')"),
    ("a bound that nobody heeds", "this.unheeded.all(x, x != '')"),
    ("a loop over an inner message's list", "this.inner.inner.free.exists(x, x == '')"),
    ("a loop over each item's list", "this.asks.all(x, x.few.all(y, y != ''))"),
    ("a loop in a loop's filter", "this.few.filter(x, this.few.exists(y, y == x)).size() == 1"),
    ("a look-up in any number of items, in a loop", "this.few.all(x, x in this.free)"),
    ("a loop over what is no field", "dyn(this).all(x, x != '')"),
    ("a loop over what is made of a field", "[this.free][0].all(x, x != '')"),
    ("a loop over a field of an item", "this.asks[0].few.all(x, x != '')"),
    ("a loop over a field that is not there", "this.none.all(x, x != '')"),
    ("a loop over rules", "rules.few.all(x, x != '')"),
    ("a loop over a test", "has(this.few).all(x, x != '')"),
];

#[test]
fn every_refusal_names_place_fault_and_remedy() {
    let mut golden = String::new();
    let deep = format!("{}true{}", "(".repeat(17), ")".repeat(17));
    let long = format!("this.text != '{}'", "x".repeat(1024));
    let wide = format!("this.text in [{}'']", "'',".repeat(126));
    let texts = REFUSED.iter().map(|(title, text)| (*title, on_message(text)));
    let built = [
        ("deep", on_message(&deep)),
        ("long", on_message(&long)),
        ("wide", on_message(&wide)),
        ("a rule everywhere", EVERYWHERE.to_owned()),
        (
            "a loop over a field's own list",
            "message Ask { repeated string free = 1 [(buf.validate.field).cel = { id: \"a\" expression: \"this.all(x, x != '')\" }]; }".to_owned(),
        ),
        (
            "a loop over a field's own pairs",
            "message Ask { map<string, string> free = 1 [(buf.validate.field).cel_expression = \"this.all(x, x != '')\"]; }".to_owned(),
        ),
    ];
    for (title, body) in texts.chain(built) {
        let Err(problems) = Rules::compile(&contract(&body)) else { panic!("{title}: loads") };
        writeln!(golden, "## {title}\n{problems}\n").unwrap();
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn bounded_loops_and_all_other_sentences_load() {
    for text in [
        "this.few.all(x, x != '' && x in this.few && x in ['a', this.text])",
        "this.few.filter(x, x != '').map(x, x + '!').exists(x, x == '!')",
        "['a', 'b'].exists_one(x, x == this.text)",
        "this.pairs.all(key, this.pairs[key] != '')",
        "this.inner.inner.few.all(x, x.size() > 2)",
        "this.text in this.free",
        "this.text.matches(r'^[a-z]{2}\\d+$') ? '' : 'two letters and digits'",
    ] {
        let loaded = Rules::compile(&contract(&on_message(text)));
        assert!(loaded.is_ok(), "{text}: {}", loaded.unwrap_err());
    }
    let own = "message Ask { repeated string few = 1 [(buf.validate.field) = { repeated: { max_items: 10 } cel: { id: \"a\" expression: \"this.all(x, x != '')\" } }]; }";
    assert!(Rules::compile(&contract(own)).is_ok());
}

/// What is let through is parsed, compiled and run by the library, on a quarter of the stack that a worker thread has.
#[test]
fn nothing_that_loads_brings_the_library_down() {
    let nested = |open: &str, close: &str, depth: usize| format!("{}true{}", open.repeat(depth), close.repeat(depth));
    let chain = |first: &str, part: &str, count: usize| format!("{first}{}", part.repeat(count));
    let texts: [&dyn Fn(usize) -> String; 11] = [
        &|n| nested("(", ")", n),
        &|n| nested("[", "]", n),
        &|n| nested("dyn(", ")", n),
        &|n| chain("true", "?true:true", n),
        &|n| chain("1", "+1", n),
        &|n| chain("1", "==1", n),
        &|n| chain("true", "&&true", n),
        &|n| chain("this", ".inner", n),
        &|n| chain("this", "[0]", n),
        &|n| chain("!true", "||!true", n),
        &|n| chain("[1]", ".map(x, x)", n),
    ];
    let loads = |text: &String| Rules::compile(&contract(&on_message(text))).is_ok();
    std::thread::scope(|scope| {
        for text in texts {
            let scanned = |text: &String| crate::cel::scan_validation(text).is_ok();
            let longest_scanned = (1..600).map(text).take_while(scanned).last().expect("a text");
            let longest_loaded = (1..20).map(text).take_while(loads).last().expect("a text");
            let small = std::thread::Builder::new().stack_size(512 * 1024);
            let run = small.spawn_scoped(scope, move || {
                let _ = crate::cel::parse_validation(&longest_scanned);
                let contract = contract(&on_message(&longest_loaded));
                let ask = contract.pool.get_message_by_name("test.v1.Ask").expect("a message");
                // Whether it holds is no matter.
                let _ = prost_protovalidate::Validator::new().validate(&DynamicMessage::new(ask));
            });
            run.expect("a thread").join().expect("no panic and no overflow");
        }
    });
}
