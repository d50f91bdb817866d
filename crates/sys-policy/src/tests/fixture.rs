//! Contracts, callers and records for tests.

use crate::{Binding, BindingScope, Caller, Now, Standing};

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value, prost::Message};
use sys_contract::{
    Origin, SourceFile,
    encoded::{EncodedBuf, Shape},
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    model::{Contract, Role},
};

pub(crate) const NOW: Now = Now { unix_s: 1_795_356_000, nanos: 500_000_000 };

/// A package with one record, `Thing`, that has a field of each kind. `options` are the record's grants.
pub(crate) fn thing_proto(options: &str) -> String {
    format!(
        r#"
syntax = "proto3";
package test.v1;
import "google/protobuf/duration.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "sys/policy/v1/policy.proto";

enum State {{ STATE_UNSPECIFIED = 0; OPEN = 1; DONE = 2; }}
message Inner {{
  enum Kind {{ KIND_UNSPECIFIED = 0; BIG = 1; }}
  string name = 1;
  optional int64 size = 2;
  Inner deep = 3;
  google.protobuf.Timestamp at = 4;
  Kind kind = 5;
}}
message Thing {{
  option (sys.policy.v1.record) = {{ table: "things" scope: {{ org: "org_id" project: "project_id" owner: "owner_id" }} }};
  {options}
  string id = 1 [(sys.policy.v1.field) = {{ output_only: true }}];
  string org_id = 2 [(sys.policy.v1.field) = {{ immutable: true }}];
  string project_id = 3 [(sys.policy.v1.field) = {{ immutable: true }}];
  string owner_id = 4 [(sys.policy.v1.field) = {{ output_only: true }}];
  string title = 5 [(sys.policy.v1.field) = {{ index: SEARCH }}];
  bool flag = 6 [(sys.policy.v1.field) = {{ index: EQUAL }}];
  State state = 7 [(sys.policy.v1.field) = {{ index: EQUAL }}];
  int32 count = 8 [(sys.policy.v1.field) = {{ index: EQUAL }}];
  uint64 size = 9;
  double ratio = 10;
  bytes blob = 11;
  google.protobuf.Timestamp due = 12;
  google.protobuf.Duration ttl = 13;
  optional string nick = 14 [(sys.policy.v1.field) = {{ index: EQUAL }}];
  Inner inner = 15;
  repeated string tags = 16;
  map<string, string> labels = 17;
  oneof choice {{ string left = 18; int64 right = 19; }}
  repeated State states = 20;
  float small = 21;
  google.protobuf.StringValue wrapped = 22;
  string helper_id = 23 [(sys.policy.v1.field) = {{ index: EQUAL }}];
  string secret = 100 [(sys.policy.v1.field) = {{ index: EQUAL read: {{ owner: true }} }}];
  string memo = 101 [(sys.policy.v1.field) = {{ read: {{ member: true when: "this.flag" }} write: {{ role: ADMIN at: PROJECT }} }}];
}}
message ActRequest {{ string id = 1; string reason = 2; optional string note = 3; Inner inner = 4; }}
"#
    )
}

/// A grant that all tests which do not look at grants may use.
pub(crate) const ANY_GRANT: &str = "option (sys.policy.v1.allow) = { verbs: [GET] role: USER at: PROJECT };";

/// Loads a contract of one file.
pub(crate) fn load(path: &str, text: String, origin: Origin) -> Contract {
    let source = SourceFile { path: path.to_owned(), text };
    sys_contract::load("mod-test", origin, &[source]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The contract with `Thing`.
pub(crate) fn things(options: &str) -> Contract {
    load("test/v1/thing.proto", thing_proto(options), Origin::Uploaded)
}

/// The bytes of a message without maps.
pub(crate) fn encoded(message: &DynamicMessage) -> Option<EncodedBuf> {
    Shape::of(&message.descriptor()).read(message.encode_to_vec()).ok()
}

pub(crate) fn message(contract: &Contract, name: &str) -> MessageDescriptor {
    contract.pool.get_message_by_name(&format!("test.v1.{name}")).expect("a message of the fixture")
}

/// A message from its JSON form.
pub(crate) fn json(of: &MessageDescriptor, text: &str) -> DynamicMessage {
    let mut reader = serde_json::Deserializer::from_str(text);
    DynamicMessage::deserialize(of.clone(), &mut reader).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn id(org: OrgTag, number: u8) -> RecordId {
    RecordId::new(org, 1_700_000_000_000, [number; 10])
}

pub(crate) fn org_id(number: u8) -> OrgId {
    OrgId::from_record(id(OrgTag::GLOBAL, number))
}

pub(crate) fn org(number: u8) -> OrgTag {
    org_id(number).tag()
}

pub(crate) fn project(number: u8) -> ProjectId {
    ProjectId::from_record(id(OrgTag::GLOBAL, number))
}

pub(crate) fn account(number: u8) -> AccountId {
    AccountId::from_record(id(OrgTag::GLOBAL, number))
}

pub(crate) fn at_org(role: Role, of: u8) -> Binding {
    Binding { role, scope: BindingScope::Org(org(of)), expires_unix_s: None }
}

pub(crate) fn at_project(role: Role, of: u8, in_project: u8) -> Binding {
    Binding { role, scope: BindingScope::Project(org(of), project(in_project)), expires_unix_s: None }
}

/// A verified account with these bindings.
pub(crate) fn caller(number: u8, bindings: Vec<Binding>) -> Caller {
    Caller::new(account(number), SessionId::from_record(id(OrgTag::GLOBAL, number)), Standing::Verified, bindings)
}

/// A `Thing` or anything else with its scope fields, placed there.
pub(crate) fn placed(of: &MessageDescriptor, in_org: u8, in_project: u8, owner: u8) -> DynamicMessage {
    let mut record = DynamicMessage::new(of.clone());
    for (name, value) in [
        ("org_id", org_id(in_org).to_string()),
        ("project_id", project(in_project).to_string()),
        ("owner_id", account(owner).to_string()),
    ] {
        record.set_field_by_name(name, Value::String(value));
    }
    record
}
