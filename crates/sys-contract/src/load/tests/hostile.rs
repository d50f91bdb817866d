//! Texts that mean harm: none of them may crash, hang or pass.

use super::*;
use proptest::prelude::*;

const HEAD: &str = "syntax = \"proto3\"; package a.v1; import \"buf/validate/validate.proto\";";

/// The first problem of a contract that must not load.
fn first(files: &[SourceFile]) -> String {
    let problems = load("mod-a", Origin::Uploaded, files).unwrap_err();
    problems.0.first().map(|problem| format!("{}: {}", problem.place, problem.what)).unwrap()
}

fn one(text: &str) -> String {
    first(&[source("a/v1/a.proto", text)])
}

#[test]
fn deep_nesting_is_refused_before_a_parser_recurses() {
    let nested = |open: &str, close: &str| format!("{HEAD}{}{}", open.repeat(9_000), close.repeat(9_000));
    assert_eq!(one(&nested("message A {", "}")), "a/v1/a.proto:1:521: brackets nest deeper than 40");
    let value = |open: &str| {
        format!("{HEAD} message A {{ string a = 1 [(buf.validate.field) = {{ {} }}]; }}", open.repeat(6_000))
    };
    assert!(one(&value("repeated { items {")).contains("nest deeper"));
    assert!(one(&value("repeated < items: <")).contains("nest deeper"));
    // Brackets in strings and comments are none, and hide none.
    let hidden = format!("{HEAD} /* \" */ // '\n # '\n {}", "message A {".repeat(50));
    assert!(one(&hidden).contains("nest deeper"), "{}", one(&hidden));
    let harmless = format!(
        "{HEAD} // {{{{\n /* {{ */ message A {{ string a = 1 [(buf.validate.field).string.prefix = \"{}\"]; }}",
        "\\\"{".repeat(50)
    );
    assert!(load("mod-a", Origin::Uploaded, &[source("a/v1/a.proto", &harmless)]).is_ok());
}

#[test]
fn a_name_of_many_parts_is_refused_before_options_nest() {
    let name = "repeated.items.".repeat(2_000);
    let text = format!("{HEAD} message A {{ string a = 1 [(buf.validate.field).{name}string.min_len = 1]; }}");
    assert!(one(&text).contains("name has more than 16 parts"));
    let spread = name.replace('.', " /* . */ .\n");
    let text = format!("{HEAD} message A {{ string a = 1 [(buf.validate.field).{spread}string.min_len = 1]; }}");
    assert!(one(&text).contains("name has more than 16 parts"), "{}", one(&text));
}

#[test]
fn the_deepest_that_is_let_in_survives_its_whole_way() {
    let value = "repeated { items { ".repeat(15) + "string { min_len: 1 }" + &" } }".repeat(15);
    let text = format!("{HEAD} message A {{ repeated string a = 1 [(buf.validate.field) = {{ {value} }}]; }}");
    // Items of lists are no lists, however deep that is said.
    assert!(one(&text).ends_with("`a` has rules for `repeated`, which it is not"), "{}", one(&text));
    let nested = |depth: usize| "message A {".repeat(depth) + "string a = 1;" + &"}".repeat(depth);
    let text = format!("{HEAD} {}", nested(30));
    let contract = load("mod-a", Origin::Uploaded, &[source("a/v1/a.proto", &text)]).unwrap();
    let pool = prost_reflect::DescriptorPool::decode(contract.file_descriptor_set().as_slice()).unwrap();
    assert_eq!(pool.encode_to_vec(), contract.file_descriptor_set());
}

#[test]
fn too_much_is_refused() {
    let blank = |bytes: usize| format!("{HEAD}{}", " ".repeat(bytes));
    assert!(one(&blank(MAX_FILE_BYTES)).contains("a file has at most"));
    let files = |count: usize, bytes: usize| -> Vec<SourceFile> {
        (0..count).map(|number| source(&format!("a/v1/f{number}.proto"), &blank(bytes))).collect()
    };
    assert!(first(&files(MAX_FILES + 1, 0)).contains("a contract has at most 256"));
    assert!(first(&files(16, MAX_FILE_BYTES - 1000)).contains("a contract has at most"));
    assert!(load("mod-a", Origin::Uploaded, &files(MAX_FILES, 0)).is_ok());
    assert!(first(&[]).contains("no .proto file"));
}

#[test]
fn nobody_brings_a_file_of_ours_or_outside_of_the_module() {
    let refused = |path: &str| first(&[source(path, HEAD)]);
    for path in ["sys/notes/v1/a.proto", "buf/a.proto", "google/type/date.proto"] {
        assert!(refused(path).ends_with("files under sys/, buf/ and google/ are not a module's"), "{path}");
    }
    for path in ["sys/policy/v1/policy.proto", "buf/validate/validate.proto", "google/protobuf/any.proto"] {
        assert!(refused(path).ends_with("this file comes with the server"), "{path}");
    }
    for path in
        ["../a.proto", "/a.proto", "a/../../b.proto", "a//b.proto", "a\\b.proto", ".a.proto", "a.txt", "", "a\0.proto"]
    {
        assert!(refused(path).ends_with("this is no path of a .proto file inside a module"), "{path:?}");
    }
    let twice = [source("a/a.proto", HEAD), source("a/a.proto", HEAD)];
    assert!(first(&twice).ends_with("this path is given twice"));
    let ours = [source("sys/policy/v1/policy.proto", HEAD)];
    assert!(load("sys-core", Origin::BuiltIn, &ours).is_err());
}

#[test]
fn imports_in_a_circle_are_refused() {
    let file =
        |name: &str, import: &str| source(&format!("a/{name}.proto"), &format!("{HEAD} import \"a/{import}.proto\";"));
    let problems = load("mod-a", Origin::Uploaded, &[file("a", "b"), file("b", "c"), file("c", "b")]).unwrap_err();
    let circle: Vec<_> = problems.0.iter().filter(|problem| problem.what.contains("circle")).collect();
    assert_eq!(circle.len(), 3, "{problems}");
    assert!(first(&[file("a", "a")]).contains("circle"));
}

#[test]
fn problems_are_bounded_and_counted() {
    let last = |text: &str| {
        let problems = load("mod-a", Origin::Uploaded, &[source("a/v1/a.proto", text)]).unwrap_err().0;
        (problems.len(), problems.last().unwrap().what.clone())
    };
    let fields: String = (1..=5000).map(|number| format!("X f{number} = {number};\n")).collect();
    let unlinked = format!("{HEAD} message A {{ {fields} }}");
    assert_eq!(last(&unlinked), (2, "4999 more problems are not shown".to_owned()));
    let methods: String = (0..1500).map(|number| format!("rpc A{number}(A) returns (A);\n")).collect();
    let unruled = format!("{HEAD} message A {{}} service AService {{ {methods} }}");
    assert_eq!(last(&unruled), (1001, "500 more problems are not shown".to_owned()));
    let imports: String = (0..1500).map(|number| format!("import \"a{number}.proto\";\n")).collect();
    assert_eq!(last(&format!("{HEAD} {imports}")), (1001, "500 more problems are not shown".to_owned()));
}

#[test]
fn columns_count_letters() {
    let text = WHOLE.replace("message GetNoteRequest {", "/* schön größer 🎈 */ mesage GetNoteRequest {");
    let problems = uploaded(&text).unwrap_err();
    assert_eq!((problems.0[0].place.line, problems.0[0].place.column), (38, 22));
    let text =
        WHOLE.replace("message CreateNoteRequest {", "/* schön größer 🎈 */ message CreateNoteRequest { Nix nix = 2;");
    let problems = uploaded(&text).unwrap_err();
    assert_eq!((problems.0[0].place.line, problems.0[0].place.column), (37, 50));
    let text = WHOLE.replace(
        "  string author_id = 4  [(sys.policy.v1.field) = { output_only: true }];",
        "/* schön */ string author_id = 4;",
    );
    let problems = uploaded(&text).unwrap_err();
    assert_eq!((problems.0[0].place.line, problems.0[0].place.column), (31, 13));
}

/// The example with pieces cut, doubled, swapped and strewn in.
fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("\"".to_owned()),
        Just("/*".to_owned()),
        Just("#".to_owned()),
        Just("<".to_owned()),
        Just("[".to_owned()),
        Just(";".to_owned()),
        Just("\\x".to_owned()),
        Just("-1".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("extend google.protobuf.FieldOptions { string x = 50506; }".to_owned()),
        Just("[google.protobuf.Any]".to_owned()),
        Just("oneof x { int32 y = 1; }".to_owned()),
        Just("map<string, Note> m = 3;".to_owned()),
        Just("reserved 1 to max;".to_owned()),
        Just("repeated".to_owned()),
        Just("stream".to_owned()),
        Just("(sys.policy.v1.record).scope.org".to_owned()),
        ".{0,8}",
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..40, piece, any::<bool>());
    proptest::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut letters: Vec<char> = WHOLE.chars().collect();
        for (at, length, piece, cut) in edits {
            let at = at.index(letters.len());
            let end = if cut { (at + length).min(letters.len()) } else { at };
            letters.splice(at..end, piece.chars());
            if letters.is_empty() {
                letters.push(' ');
            }
        }
        letters.into_iter().collect()
    })
}

/// Whole words of the example in any order: more of this parses.
fn shuffled() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = WHOLE.lines().skip(6).collect();
    proptest::collection::vec(proptest::sample::select(lines), 0..40).prop_map(|lines| {
        let head: Vec<&str> = WHOLE.lines().take(6).collect();
        [head, lines].concat().join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in prop_oneof![mutated(), shuffled(), ".*"]) {
        // A compiler's panic would be caught and told: none is known, so that one found here is a find.
        match uploaded(&text) {
            Ok(contract) => prop_assert!(contract.select(|_| true).is_some() || contract.services.iter().all(|service| service.methods.is_empty())),
            Err(problems) => {
                prop_assert!(!problems.0.is_empty());
                prop_assert!(problems.0.iter().all(|problem| !problem.instead.is_empty()));
                prop_assert!(!problems.to_string().contains("broke down"), "{}", problems);
            }
        }
    }
}
