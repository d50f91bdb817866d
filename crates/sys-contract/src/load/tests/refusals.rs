//! Every refusal, as an edit of a contract that loads. The golden file shows what an author reads.

use super::*;

/// What must not load, the text to replace in the example, and by what. An empty text to replace is the end of the file.
/// Behind this message a second service may stand.
const GET_REQUEST: &str = "message GetNoteRequest { string id = 1; }";

/// A second service, with a count of this name, request and answer.
macro_rules! counting {
    ($name:literal, $request:literal, $answer:literal) => {
        concat!(
            "message GetNoteRequest { string id = 1; }\nservice TallyService { rpc ",
            $name,
            "(CountRequest) returns (CountResponse) { option (sys.policy.v1.method) = { serve: COUNT }; } }\n",
            "message CountRequest { ",
            $request,
            " }\nmessage CountResponse { ",
            $answer,
            " }"
        )
    };
}

/// A second service, with a watch of these messages that is written so.
macro_rules! watching {
    ($answers:literal, $request:literal, $answer:literal) => {
        concat!(
            "message GetNoteRequest { string id = 1; }\nservice NewsService { rpc WatchNotes(WatchRequest) returns (",
            $answers,
            "WatchResponse) { option (sys.policy.v1.method) = { serve: WATCH }; } }\n",
            "message WatchRequest { ",
            $request,
            " }\nmessage WatchResponse { ",
            $answer,
            " }"
        )
    };
}

const UPLOADED: &[(&str, &str, &str)] = &[
    ("syntax error", "message GetNoteRequest {", "mesage GetNoteRequest {"),
    (
        "end of file inside a message",
        "message PublishNoteRequest { string id = 1; }",
        "message PublishNoteRequest { string id = 1;",
    ),
    ("unknown type", "CreateNoteRequest { Note note", "CreateNoteRequest { Nte note"),
    ("missing import", "google/protobuf/empty.proto", "google/protobuf/emty.proto"),
    ("missing import, near one of ours", "sys/policy/v1/policy.proto", "sys/policy/v1/polcy.proto"),
    ("an import twice", "import \"buf/validate/validate.proto\";", "import \"sys/policy/v1/policy.proto\";"),
    ("unknown option", "option (sys.policy.v1.record)", "option (sys.policy.v1.recrd)"),
    ("unknown field of an option", "{ serve: GET }", "{ srve: GET }"),
    ("unknown value of an option", "role: USER", "role: USR"),
    ("option of another type", "{ verbs: [UPDATE, DELETE] owner: true }", "{ verbs: [UPDATE, DELETE] owner: 7 }"),
    ("two fields of one number", "string draft = 7", "string draft = 6"),
    ("two fields of one name", "string draft = 7", "string title = 7"),
    ("proto2", "syntax = \"proto3\";", "syntax = \"proto2\";"),
    ("no syntax", "syntax = \"proto3\";", ""),
    ("an edition", "syntax = \"proto3\";", "edition = \"2023\";"),
    ("unknown syntax", "\"proto3\"", "\"proto4\""),
    ("our package", "package notes.v1;", "package sys.notes.v1;"),
    ("our package's root", "package notes.v1;", "package buf;"),
    ("no package", "package notes.v1;", ""),
    ("a public import", "import \"google/protobuf/empty.proto\"", "import public \"google/protobuf/empty.proto\""),
    (
        "own options",
        "",
        "import \"google/protobuf/descriptor.proto\"; extend google.protobuf.MessageOptions { string mine = 50505; }",
    ),
    (
        "own options inside a message",
        "",
        "import \"google/protobuf/descriptor.proto\"; message A { message B { extend google.protobuf.MethodOptions { string mine = 50503; } } }",
    ),
    ("a method without rule", "{ option (sys.policy.v1.method) = { serve: GET }; }", ";"),
    ("a handler's method without grant", "    option (sys.policy.v1.method_allow) = { owner: true };\n", ""),
    ("a stream of requests that is served", "GetNote(GetNoteRequest)", "GetNote(stream GetNoteRequest)"),
    ("a list that is a stream", "returns (ListNotesResponse)", "returns (stream ListNotesResponse)"),
    (
        "a sign-in that is a stream",
        "rpc PublishNote(PublishNoteRequest) returns (Note) {\n    option (sys.policy.v1.method) = {",
        "rpc PublishNote(stream PublishNoteRequest) returns (Note) {\n    option (sys.policy.v1.method) = { sign_in: true",
    ),
    ("a verb that no grant opens", "{ verbs: [GET, CREATE] role", "{ verbs: [GET] role"),
    (
        "a grant on a served method",
        "{ serve: GET };",
        "{ serve: GET }; option (sys.policy.v1.method_allow) = { owner: true };",
    ),
    ("a target on a served method", "{ serve: GET };", "{ serve: GET target: { record: \"Note\" id: \"id\" } };"),
    ("an unknown verb to serve", "{ serve: GET }", "{ serve: 17 }"),
    ("a body too large", "{ serve: GET }", "{ serve: GET max_request_bytes: 16777217 }"),
    (
        "a deadline too late",
        "service NoteService {",
        "service NoteService { option (sys.policy.v1.service) = { deadline_ms: 60001 };",
    ),
    ("a rate of nothing", "{ serve: GET }", "{ serve: GET rate: { burst: 5 } }"),
    ("a rate beyond all callers", "{ serve: GET }", "{ serve: GET rate: { per_minute: 60 burst: 60001 } }"),
    ("an unknown record as target", "record: \"Note\" id", "record: \"Noet\" id"),
    ("an unknown field as id of the target", "id: \"id\" }", "id: \"note.id\" }"),
    ("a target that is no string", "PublishNoteRequest { string id", "PublishNoteRequest { bytes id"),
    ("no target for owner", "target: { record: \"Note\" id: \"id\" } ", ""),
    (
        "a fresh password of anybody",
        "target: { record: \"Note\" id: \"id\" } audit: FULL };\n    option (sys.policy.v1.method_allow) = { owner: true };",
        "step_up: {} };\n    option (sys.policy.v1.method_allow) = { public: true };",
    ),
    ("a fresh password that is no message", "audit: FULL", "step_up: true"),
    ("reach of an unknown record", "audit: FULL", "reach: [\"Nota.GET\"]"),
    ("reach of an unknown verb", "audit: FULL", "reach: [\"Note.UPDAT\"]"),
    ("reach of WATCH", "audit: FULL", "reach: [\"Note.WATCH\"]"),
    ("reach of COUNT", "audit: FULL", "reach: [\"Note.COUNT\"]"),
    ("reach of LIST", "audit: FULL", "reach: [\"Note.LIST\"]"),
    ("elevate without verb", "audit: FULL", "elevate: [\"Note\"]"),
    ("two methods of one verb", "rpc PublishNote(", "rpc GetNotes("),
    ("a reserved noun", "service NoteService", "service LoginService"),
    (
        "two services of one noun",
        "",
        "service Note_Service { rpc Ping(GetNoteRequest) returns (GetNoteRequest) { option (sys.policy.v1.method_allow) = { public: true }; } }",
    ),
    ("a grant that names nobody", "{ verbs: [UPDATE, DELETE] owner: true }", "{ verbs: [UPDATE, DELETE] }"),
    (
        "a condition that names nobody",
        "{ verbs: [UPDATE, DELETE] owner: true }",
        "{ verbs: [UPDATE, DELETE] when: \"true\" }",
    ),
    ("a grant of no verb", "{ verbs: [DELETE] role: ADMIN at: PROJECT }", "{ role: ADMIN at: PROJECT }"),
    ("a grant of WATCH", "{ verbs: [DELETE] role: ADMIN", "{ verbs: [WATCH] role: ADMIN"),
    ("a grant of COUNT", "{ verbs: [DELETE] role: ADMIN", "{ verbs: [COUNT] role: ADMIN"),
    ("a grant of LIST", "{ verbs: [DELETE] role: ADMIN", "{ verbs: [LIST] role: ADMIN"),
    ("a grant of an unknown verb", "{ verbs: [DELETE] role: ADMIN", "{ verbs: [VERB_UNSPECIFIED] role: ADMIN"),
    ("verbs on a method", "method_allow) = { owner: true }", "method_allow) = { verbs: [GET] owner: true }"),
    ("verbs on a field", "read: { owner: true }", "read: { verbs: [GET] owner: true }"),
    ("a role without level", "role: ADMIN at: PROJECT", "role: ADMIN"),
    ("a level without role", "role: ADMIN at: PROJECT", "at: PROJECT"),
    ("a role at OWNER", "role: ADMIN at: PROJECT", "role: ADMIN at: OWNER"),
    ("an unknown role", "role: ADMIN at: PROJECT", "role: 9 at: PROJECT"),
    ("an unknown level", "role: ADMIN at: PROJECT", "role: ADMIN at: 9"),
    ("a role at SYSTEM", "role: ADMIN at: PROJECT", "role: ADMIN at: SYSTEM"),
    ("SUPERADMIN in a module", "role: ADMIN at: PROJECT", "role: SUPERADMIN at: SYSTEM"),
    ("home GLOBAL in a module", "table: \"notes\" scope", "table: \"notes\" home: GLOBAL scope"),
    ("an unknown home", "table: \"notes\" scope", "table: \"notes\" home: 5 scope"),
    ("strangers without a reason", "{ verbs: [GET] member: true when", "{ verbs: [GET] signed_in: true when"),
    ("the public without a reason", "method_allow) = { owner: true }", "method_allow) = { public: true }"),
    (
        "the public behind the module's own rights",
        "target: { record: \"Note\" id: \"id\" } audit: FULL };\n    option (sys.policy.v1.method_allow) = { owner: true };",
        "elevate: [\"Note.GET\"] };\n    option (sys.policy.v1.method_allow) = { public: true };",
    ),
    (
        "a project that the record does not have",
        "org: \"org_id\" project: \"project_id\" owner",
        "org: \"org_id\" owner",
    ),
    ("an owner that the record does not have", " owner: \"author_id\" } };", " } };"),
    (
        "no org",
        "scope: { org: \"org_id\" project: \"project_id\" owner: \"author_id\" }",
        "scope: { owner: \"author_id\" }",
    ),
    ("an unknown scope field", "org: \"org_id\"", "org: \"orgid\""),
    ("one field for two scopes", "owner: \"author_id\" }", "owner: \"project_id\" }"),
    ("id as scope", "owner: \"author_id\" }", "owner: \"id\" }"),
    (
        "a mutable scope field",
        "string project_id = 3 [(sys.policy.v1.field) = { immutable: true }];",
        "string project_id = 3;",
    ),
    ("a scope field with presence", "string project_id = 3", "optional string project_id = 3"),
    ("a scope field that is no string", "string project_id = 3", "bytes project_id = 3"),
    ("no id", "string id = 1         [(sys.policy.v1.field) = { output_only: true }];", ""),
    ("an id that is no string", "string id = 1         [", "int64 id = 1 ["),
    (
        "an id that anybody sets",
        "string id = 1         [(sys.policy.v1.field) = { output_only: true }];",
        "string id = 1;",
    ),
    (
        "an etag that anybody sets",
        "string etag = 8       [(sys.policy.v1.field) = { output_only: true }];",
        "string etag = 8;",
    ),
    ("an etag that is no string", "string etag = 8       [", "bytes etag = 8 ["),
    (
        "a record without rule",
        "",
        "message Bare { option (sys.policy.v1.record) = { table: \"bare\" scope: { org: \"org_id\" } };\n string id = 1 [(sys.policy.v1.field) = { output_only: true }]; string org_id = 2 [(sys.policy.v1.field) = { immutable: true }]; }",
    ),
    (
        "two records of one table",
        "",
        "message Other { option (sys.policy.v1.record) = { table: \"notes\" scope: { org: \"org_id\" } }; option (sys.policy.v1.allow) = { verbs: [GET] member: true };\n string id = 1 [(sys.policy.v1.field) = { output_only: true }]; string org_id = 2 [(sys.policy.v1.field) = { immutable: true }]; }",
    ),
    ("a record in a record", "bool published = 6 ", "map<string, CreateNoteRequest> held = 9; bool published = 6 "),
    ("no table", "table: \"notes\" ", ""),
    ("a table of a strange name", "table: \"notes\"", "table: \"Notes/../x\""),
    (
        "a record with the ids of ours",
        "",
        "message Account { option (sys.policy.v1.record) = { table: \"accounts\" scope: { org: \"org_id\" } }; option (sys.policy.v1.allow) = { verbs: [GET] member: true };\n string id = 1 [(sys.policy.v1.field) = { output_only: true }]; string org_id = 2 [(sys.policy.v1.field) = { immutable: true }]; }",
    ),
    (
        "a record inside a message",
        "",
        "message Outer { message Inner { option (sys.policy.v1.record) = { table: \"inner\" }; } }",
    ),
    (
        "a grant on no record",
        "message GetNoteRequest {",
        "message GetNoteRequest { option (sys.policy.v1.allow) = { verbs: [GET] public: true };",
    ),
    (
        "a rule on a field of no record",
        "message GetNoteRequest { string id = 1;",
        "message GetNoteRequest { string id = 1 [(sys.policy.v1.field) = { output_only: true }];",
    ),
    (
        "a predefined rule on a field",
        "string filter = 3;",
        "string filter = 3 [(buf.validate.predefined).cel = { id: \"a\" expression: \"((((\" }];",
    ),
    ("ORDERED on a personal field", "{ index: SEARCH }", "{ index: ORDERED }"),
    ("ORDERED on what is called personal", "{ index: EQUAL }", "{ index: ORDERED personal: true }"),
    (
        "ORDERED on a hidden field",
        "{ read: { owner: true } }",
        "{ read: { owner: true } index: ORDERED personal: false }",
    ),
    (
        "ORDERED on bytes",
        "bool published = 6    [(sys.policy.v1.field) = { index: EQUAL }",
        "bytes published = 6 [(sys.policy.v1.field) = { index: ORDERED visible: true }",
    ),
    ("visible without ORDERED", "{ index: EQUAL }", "{ index: EQUAL visible: true }"),
    ("whole without SEARCH", "{ index: EQUAL }", "{ index: EQUAL whole: true }"),
    ("an unknown index", "{ index: EQUAL }", "{ index: 12 }"),
    (
        "SEARCH on a bool",
        "bool published = 6    [(sys.policy.v1.field) = { index: EQUAL }]",
        "bool published = 6 [(sys.policy.v1.field) = { index: SEARCH }]",
    ),
    ("EQUAL on a list", "bool published = 6 ", "repeated bool published = 6 "),
    ("EQUAL on a double", "bool published = 6 ", "double published = 6 "),
    ("EQUAL on a message", "bool published = 6 ", "GetNoteRequest published = 6 "),
    (
        "an index on etag",
        "string etag = 8       [(sys.policy.v1.field) = { output_only: true }]",
        "string etag = 8 [(sys.policy.v1.field) = { output_only: true index: EQUAL }]",
    ),
    ("unique in the system", "{ index: SEARCH }", "{ index: UNIQUE within: SYSTEM reveals: \"x\" }"),
    (
        "unique within what is not there",
        "project: \"project_id\" owner: \"author_id\" } };\n  option (sys.policy.v1.allow) = { verbs: [GET, CREATE] role: USER at: PROJECT };\n  option (sys.policy.v1.allow) = { verbs: [UPDATE, DELETE] owner: true };\n  option (sys.policy.v1.allow) = { verbs: [DELETE] role: ADMIN at: PROJECT };\n  option (sys.policy.v1.allow) = { verbs: [GET] member: true when: \"this.published\" };  // anybody of the record's org",
        "owner: \"author_id\" } };\n  option (sys.policy.v1.allow) = { verbs: [GET, CREATE, UPDATE, DELETE] member: true };\n string slug = 9 [(sys.policy.v1.field) = { index: UNIQUE within: PROJECT }];",
    ),
    ("within without UNIQUE", "{ index: EQUAL }", "{ index: EQUAL within: ORG }"),
    (
        "a write rule on what the server sets",
        "string author_id = 4  [(sys.policy.v1.field) = { output_only: true }]",
        "string author_id = 4 [(sys.policy.v1.field) = { output_only: true write: { owner: true } }]",
    ),
    (
        "a hidden id",
        "string id = 1         [(sys.policy.v1.field) = { output_only: true }]",
        "string id = 1 [(sys.policy.v1.field) = { output_only: true read: { owner: true } }]",
    ),
    (
        "GET of no record",
        "rpc GetNote(GetNoteRequest) returns (Note) ",
        "rpc GetNote(GetNoteRequest) returns (GetNoteRequest) ",
    ),
    ("GET without id", "message GetNoteRequest { string id = 1; }", "message GetNoteRequest { string name = 1; }"),
    ("GET by a number", "message GetNoteRequest { string id = 1; }", "message GetNoteRequest { int64 id = 1; }"),
    (
        "GET with more than the id",
        "message GetNoteRequest { string id = 1; }",
        "message GetNoteRequest { string id = 1; bool all = 2; }",
    ),
    ("LIST without page token", "int32 page_size = 5; string page_token = 6; }", "int32 page_size = 5; }"),
    ("LIST with a strange page size", "int32 page_size = 5;", "uint64 page_size = 5;"),
    ("LIST that names no org", "message ListNotesRequest { string org_id = 1; ", "message ListNotesRequest { "),
    ("LIST with an unknown field", "string filter = 3;", "string filter = 3; bool show_deleted = 9;"),
    (
        "LIST without next page",
        "message ListNotesResponse { repeated Note notes = 1; string next_page_token = 2; }",
        "message ListNotesResponse { repeated Note notes = 1; }",
    ),
    ("LIST with a count", "string next_page_token = 2; }", "string next_page_token = 2; int32 total_size = 3; }"),
    ("COUNT of nothing", GET_REQUEST, counting!("CountThings", "string org_id = 1;", "int64 count = 1;")),
    ("COUNT of one", GET_REQUEST, counting!("CountNote", "string org_id = 1;", "int64 count = 1;")),
    ("COUNT that names no org", GET_REQUEST, counting!("CountNotes", "string filter = 1;", "int64 count = 1;")),
    (
        "COUNT with pages",
        GET_REQUEST,
        counting!("CountNotes", "string org_id = 1; int32 page_size = 2;", "int64 count = 1;"),
    ),
    ("COUNT that is no number", GET_REQUEST, counting!("CountNotes", "string org_id = 1;", "string count = 1;")),
    (
        "COUNT with records",
        GET_REQUEST,
        counting!("CountNotes", "string org_id = 1;", "int64 count = 1; repeated Note notes = 2;"),
    ),
    (
        "WATCH that answers once",
        GET_REQUEST,
        watching!(
            "",
            "string org_id = 1; string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH of nothing",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; string resume_token = 4;"
        ),
    ),
    (
        "WATCH of a list",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; repeated Note notes = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH with an event of its own",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "string event = 1; string id = 2; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH without event",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "string id = 2; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH that does not say what is gone",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH that cannot be taken up again",
        GET_REQUEST,
        watching!("stream ", "string org_id = 1;", "sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3;"),
    ),
    (
        "WATCH that names no org",
        GET_REQUEST,
        watching!(
            "stream ",
            "string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH in an order",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2; string order_by = 3;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3; string resume_token = 4;"
        ),
    ),
    (
        "WATCH with commit numbers",
        GET_REQUEST,
        watching!(
            "stream ",
            "string org_id = 1; string resume_token = 2;",
            "sys.policy.v1.WatchEvent event = 1; string id = 2; Note note = 3; string resume_token = 4; int64 version = 5;"
        ),
    ),
    ("LIST of two records", "repeated Note notes = 1;", "repeated Note notes = 1; repeated Note more = 3;"),
    (
        "CREATE of nothing",
        "message CreateNoteRequest { Note note = 1; }",
        "message CreateNoteRequest { string title = 1; }",
    ),
    (
        "CREATE with more than the record",
        "message CreateNoteRequest { Note note = 1; }",
        "message CreateNoteRequest { Note note = 1; string id = 2; }",
    ),
    (
        "CREATE where nobody says in which org",
        "string org_id = 2     [(sys.policy.v1.field) = { immutable: true }]",
        "string org_id = 2 [(sys.policy.v1.field) = { output_only: true }]",
    ),
    ("UPDATE without mask", "google.protobuf.FieldMask update_mask = 2;", ""),
    ("UPDATE with a strange mask", "google.protobuf.FieldMask update_mask = 2;", "string update_mask = 2;"),
    ("DELETE that answers", "returns (google.protobuf.Empty)", "returns (Note)"),
    ("DELETE of no record", "rpc DeleteNote(", "rpc DeleteNotee("),
    ("DELETE without id", "message DeleteNoteRequest { string id = 1; ", "message DeleteNoteRequest { "),
];

/// The same for what only our own contracts may declare.
const BUILT_IN: &[(&str, &str, &str)] = &[
    ("SUPERADMIN at ORG", "role: ADMIN at: ORG", "role: SUPERADMIN at: ORG"),
    (
        "SUPERADMIN on a record at home in an org",
        "",
        "message Part { option (sys.policy.v1.record) = { table: \"parts\" scope: { org: \"org_id\" } };\n option (sys.policy.v1.allow) = { verbs: [GET] role: SUPERADMIN at: SYSTEM };\n string id = 1 [(sys.policy.v1.field) = { output_only: true }]; string org_id = 2 [(sys.policy.v1.field) = { immutable: true }]; }",
    ),
    ("unique in the system without a reason", " reveals: \"names of orgs are public\"", ""),
    (
        "unique in an org that the record does not have",
        "home: GLOBAL scope: { org: \"id\" } };\n  option (sys.policy.v1.allow) = { verbs: [GET] signed_in: true };\n  option (sys.policy.v1.allow) = { verbs: [UPDATE] role: ADMIN at: ORG };",
        "home: GLOBAL };\n  option (sys.policy.v1.allow) = { verbs: [GET] signed_in: true };\n string code = 7 [(sys.policy.v1.field) = { index: UNIQUE within: ORG }];",
    ),
    ("a project without org", "scope: { org: \"id\" } };", "scope: { org: \"\" project: \"kind\" } };"),
    (
        "member without org",
        "scope: { org: \"id\" } };\n  option (sys.policy.v1.allow) = { verbs: [GET] signed_in: true };\n  option (sys.policy.v1.allow) = { verbs: [UPDATE] role: ADMIN at: ORG };",
        "};\n  option (sys.policy.v1.allow) = { verbs: [GET] member: true };",
    ),
    ("a permission without org", "{ role: SUPERADMIN at: SYSTEM }", "{ permission: \"org.create\" }"),
    ("a foreign package", "package sys.demo.v1;", "package google.demo.v1;"),
];

fn edited(base: &str, from: &str, to: &str) -> String {
    if from.is_empty() {
        return format!("{base}{to}\n");
    }
    assert_eq!(base.matches(from).count(), 1, "the text to replace stands there once: {from}");
    base.replacen(from, to, 1)
}

/// Title, edit and problems of each case.
fn golden(base: &str, cases: &[(&str, &str, &str)], load: fn(&str) -> Result<Contract, Problems>) -> String {
    let mut golden = String::new();
    for (title, from, to) in cases {
        let text = edited(base, from, to);
        let Err(problems) = load(&text) else { panic!("{title}: loads") };
        writeln!(golden, "## {title}").unwrap();
        for problem in &problems.0 {
            let line = text.lines().nth((problem.place.line as usize).saturating_sub(1)).unwrap_or_default();
            assert!(!problem.what.is_empty() && !problem.instead.is_empty(), "{title}: {problem:?}");
            let line: String = line.trim().chars().take(100).collect();
            writeln!(golden, "    {line}\n{problem}").unwrap();
        }
        golden.push('\n');
    }
    golden
}

#[test]
fn every_refusal_names_place_fault_and_remedy() {
    insta::assert_snapshot!(golden(WHOLE, UPLOADED, uploaded));
}

#[test]
fn our_own_contracts_are_refused_alike() {
    insta::assert_snapshot!(golden(GLOBAL, BUILT_IN, built_in));
}
