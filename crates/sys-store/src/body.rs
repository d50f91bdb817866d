//! A record's message: as its bytes for as long as they will do, decoded when somebody asks for it.
//!
//! Rules, filters, etags and answers take the bytes; writes, orders and handlers the message. Both say the same: a body is
//! bytes only where these are exactly what encoding the message gives ([`sys_contract::encoded`]). What must never happen
//! here: a field that is cut out of one form and left in the other.

use crate::{canonical::message_bytes, table::Table};
use prost::{DecodeError, Message as _};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value};
use std::{borrow::Cow, sync::OnceLock};
use sys_contract::{
    encoded::EncodedBuf,
    unknown::{drop_unknown, drop_unknown_at_top},
};
use sys_policy::{Content, FieldSet};

/// The message of one record, or one caller's part of it.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// As bytes.
    Encoded(Encoded),
    /// With a map or with unknown fields in it, or not yet encoded.
    Message(DynamicMessage),
}

/// Bytes, and the message that they are once somebody asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    bytes: EncodedBuf,
    of: MessageDescriptor,
    message: OnceLock<DynamicMessage>,
}

impl Body {
    /// Takes stored bytes.
    pub(crate) fn read(table: &Table, bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let of = table.record.message.clone();
        match table.shape.read(bytes) {
            Ok(bytes) => Ok(Self::Encoded(Encoded { bytes, of, message: OnceLock::new() })),
            Err(bytes) => DynamicMessage::decode(of, bytes.as_slice()).map(Self::Message),
        }
    }

    /// What rules and filters are asked about.
    pub(crate) fn content(&self) -> Content<'_> {
        match self {
            Self::Encoded(encoded) => encoded.bytes.encoded().into(),
            Self::Message(message) => message.into(),
        }
    }

    pub(crate) fn message(&self) -> &DynamicMessage {
        match self {
            Self::Encoded(encoded) => encoded.message.get_or_init(|| encoded.decode()),
            Self::Message(message) => message,
        }
    }

    pub(crate) fn into_message(self) -> DynamicMessage {
        match self {
            Self::Encoded(mut encoded) => encoded.message.take().unwrap_or_else(|| encoded.decode()),
            Self::Message(message) => message,
        }
    }

    /// As it is sent.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Encoded(encoded) => encoded.bytes.into_bytes(),
            Self::Message(message) => message.encode_to_vec(),
        }
    }

    /// How long it is as it is sent.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Encoded(encoded) => encoded.bytes.encoded().bytes().len(),
            Self::Message(message) => message.encoded_len(),
        }
    }

    /// Equal for equal messages, whatever they were made from, and for no others.
    pub(crate) fn canonical(&self, table: &Table) -> Cow<'_, [u8]> {
        match self {
            Self::Encoded(encoded) => encoded.bytes.encoded().bytes().into(),
            Self::Message(message) => message_bytes(message, &table.fields).into(),
        }
    }

    /// Sets a field of type string.
    pub(crate) fn set_text(&mut self, field: &FieldDescriptor, text: &str) {
        match self {
            Self::Encoded(encoded) => {
                encoded.bytes.set_text(field.number(), text);
                encoded.message = OnceLock::new();
            }
            Self::Message(message) => message.set_field(field, Value::String(text.to_owned())),
        }
    }

    /// Takes out what is hidden and what the type does not know. What is left is bytes, unless it holds a map.
    pub(crate) fn redacted(self, table: &Table, hidden: &FieldSet) -> Self {
        match self {
            Self::Encoded(encoded) if hidden.is_empty() => Self::Encoded(encoded),
            Self::Encoded(mut encoded) => {
                encoded.bytes.cut(|field| hidden.contains(field));
                Self::Encoded(Encoded { message: OnceLock::new(), ..encoded })
            }
            Self::Message(mut message) => {
                if table.nests {
                    drop_unknown(&mut message);
                } else {
                    drop_unknown_at_top(&mut message);
                }
                hidden.iter().for_each(|field| message.clear_field_by_number(field));
                match table.shape.read(message.encode_to_vec()) {
                    Ok(bytes) => {
                        let of = table.record.message.clone();
                        Self::Encoded(Encoded { bytes, of, message: message.into() })
                    }
                    Err(_) => Self::Message(message),
                }
            }
        }
    }
}

impl Encoded {
    fn decode(&self) -> DynamicMessage {
        #[allow(clippy::expect_used, reason = "INVARIANT: EncodedBuf holds what encoding a message of this type gives")]
        DynamicMessage::decode(self.of.clone(), self.bytes.encoded().bytes()).expect("encoded bytes decode")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost_reflect::MapKey;
    use std::sync::{Arc, LazyLock};
    use sys_contract::{Origin, SourceFile};
    use sys_policy::Rules;

    const THING: &str = r#"
syntax = "proto3";
package test.v1;
import "sys/policy/v1/policy.proto";
message Inner { string name = 1; optional int64 size = 2; Inner deep = 3; map<string, string> labels = 4; }
message Thing {
  option (sys.policy.v1.record) = { table: "things" scope: { org: "org_id" } };
  option (sys.policy.v1.allow) = { verbs: [GET] role: USER at: ORG };
  bool flag = 1;
  string org_id = 2 [(sys.policy.v1.field) = { immutable: true }];
  string title = 3;
  string id = 4 [(sys.policy.v1.field) = { output_only: true }];
  sint32 count = 5;
  Inner inner = 6;
  repeated string tags = 7;
  repeated int64 numbers = 8;
  map<string, string> labels = 9;
  double ratio = 10;
  string etag = 11 [(sys.policy.v1.field) = { output_only: true }];
  oneof choice { string left = 80; Inner right = 81; }
}
"#;

    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let source = SourceFile { path: "test/v1/thing.proto".to_owned(), text: THING.to_owned() };
        let contract = sys_contract::load("mod-test", Origin::Uploaded, &[source]).unwrap();
        let rules = Rules::compile(&contract).unwrap().record(0).clone();
        let record = contract.records[0].clone();
        Table::new(("mod-test", 1), 1, record, Arc::clone(&rules), Vec::new(), (Bytes::new(), Default::default()))
    });

    fn any_inner() -> impl Strategy<Value = DynamicMessage> {
        let of = TABLE.record.message.get_field_by_name("inner").unwrap().kind().as_message().unwrap().clone();
        let leaf = ("[a-z]{0,3}", proptest::option::of(0_i64..2), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        let inner = leaf.prop_map(move |(name, size, labelled, unknown)| {
            let mut inner = DynamicMessage::new(of.clone());
            inner.set_field_by_name("name", Value::String(name));
            if let Some(size) = size {
                inner.set_field_by_name("size", Value::I64(size));
            }
            if labelled {
                inner.set_field_by_name("labels", labels());
            }
            if unknown { with_unknown(&inner) } else { inner }
        });
        inner.prop_recursive(2, 4, 1, |inner| {
            (inner.clone(), inner).prop_map(|(mut outer, deep)| {
                outer.set_field_by_name("deep", Value::Message(deep));
                outer
            })
        })
    }

    fn labels() -> Value {
        let entry = |key: &str| (MapKey::String(key.to_owned()), Value::String(String::new()));
        Value::Map(["a", "b", "c"].map(entry).into())
    }

    /// The same with a field that its type does not know.
    fn with_unknown(message: &DynamicMessage) -> DynamicMessage {
        let bytes = [message.encode_to_vec(), b"\xba\x06\x03new".to_vec()].concat();
        DynamicMessage::decode(prost_reflect::ReflectMessage::descriptor(message), bytes.as_slice()).unwrap()
    }

    /// A thing's stored bytes.
    fn any_thing() -> impl Strategy<Value = Vec<u8>> {
        let plain = (any::<bool>(), "[a-zé]{0,3}", -1_i32..2, prop_oneof![Just(0.0), Just(-0.0), any::<f64>()]);
        let lists = (prop::collection::vec("[a-z]{0,2}", 0..3), prop::collection::vec(any::<i64>(), 0..3));
        let odd = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        let inners = (proptest::option::of(any_inner()), proptest::option::of(any_inner()), any::<bool>());
        (plain, lists, odd, inners).prop_map(|((flag, title, count, ratio), lists, (labelled, unknown), inners)| {
            let mut thing = TABLE.empty_record();
            let mut set = |field: &str, value| thing.set_field_by_name(field, value);
            set("flag", Value::Bool(flag));
            set("title", Value::String(title));
            set("count", Value::I32(count));
            set("ratio", Value::F64(ratio));
            set("tags", Value::List(lists.0.into_iter().map(Value::String).collect()));
            set("numbers", Value::List(lists.1.into_iter().map(Value::I64).collect()));
            match inners {
                (_, Some(right), false) => set("right", Value::Message(right)),
                (_, _, true) => set("left", Value::String(String::new())),
                _ => {}
            }
            if let (Some(inner), ..) = inners {
                set("inner", Value::Message(inner));
            }
            if labelled {
                set("labels", labels());
            }
            if unknown { with_unknown(&thing) } else { thing }.encode_to_vec()
        })
    }

    /// What a caller is shown, made the long way.
    fn the_long_way(stored: &[u8], hidden: &FieldSet, etag: &str) -> DynamicMessage {
        let mut message = DynamicMessage::decode(TABLE.record.message.clone(), stored).unwrap();
        message.set_field(&TABLE.record.id, Value::String("thing_1".to_owned()));
        drop_unknown(&mut message);
        hidden.iter().for_each(|field| message.clear_field_by_number(field));
        message.set_field(TABLE.record.etag.as_ref().unwrap(), Value::String(etag.to_owned()));
        message
    }

    /// Whether two messages say the same. Their own `==` also sees where unknown fields were taken out.
    fn alike(a: &DynamicMessage, b: &DynamicMessage) -> bool {
        message_bytes(a, &TABLE.fields) == message_bytes(b, &TABLE.fields)
    }

    fn shown(stored: &[u8], hidden: &FieldSet) -> Body {
        let mut body = Body::read(&TABLE, stored.to_vec()).unwrap();
        body.set_text(&TABLE.record.id, "thing_1");
        body.redacted(&TABLE, hidden)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_shown_is_what_decoding_redacting_and_encoding_give(
            stored in any_thing(),
            hidden in prop::sample::subsequence(vec![1_u32, 2, 3, 5, 6, 7, 8, 9, 10, 80, 81], 0..11),
        ) {
            let hidden: FieldSet = hidden.into_iter().collect();
            let expect = the_long_way(&stored, &hidden, "an etag");
            let mut body = shown(&stored, &hidden);
            body.set_text(TABLE.record.etag.as_ref().unwrap(), "an etag");
            // Not compared by the macro: it would show types that hold themselves without end.
            prop_assert!(alike(body.message(), &expect), "{}", expect);
            prop_assert!(alike(&body.clone().into_message(), &expect), "{}", expect);
            if matches!(body, Body::Encoded(_)) {
                prop_assert_eq!(body.into_bytes(), expect.encode_to_vec());
            } else {
                prop_assert!(expect.to_string().contains("labels"), "{} is not shown as bytes", expect);
                let sent = DynamicMessage::decode(TABLE.record.message.clone(), body.into_bytes().as_slice()).unwrap();
                prop_assert!(alike(&sent, &expect), "{}", expect);
            }
        }

        #[test]
        fn what_is_hidden_moves_no_byte_and_what_is_shown_does(
            (one, other) in (any_thing(), any_thing()),
            hidden in prop::sample::subsequence(vec![1_u32, 3, 5, 6, 7, 8, 9, 10, 80, 81], 0..11),
        ) {
            let hidden: FieldSet = hidden.into_iter().collect();
            let same = alike(&the_long_way(&one, &hidden, ""), &the_long_way(&other, &hidden, ""));
            let canonical = |stored: &[u8]| shown(stored, &hidden).canonical(&TABLE).into_owned();
            prop_assert_eq!(canonical(&one) == canonical(&other), same);
        }
    }
}
