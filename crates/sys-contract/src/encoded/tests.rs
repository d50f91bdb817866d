//! What is read as bytes is what decoding and encoding give back, and cutting and setting is what they would do.

use super::*;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};
use protox::file::{File, FileResolver};
use std::sync::LazyLock;

const EACH_KIND: &str = r#"
syntax = "proto3";
package test.v1;
enum State { STATE_UNSPECIFIED = 0; OPEN = 1; }
message Inner { string name = 1; optional int64 size = 2; Inner deep = 3; map<string, string> labels = 4; repeated Inner all = 5; }
message Each {
  string text = 1; bool flag = 2; State state = 3; int32 int32 = 4; int64 int64 = 5; uint32 uint32 = 6; uint64 uint64 = 7;
  sint32 sint32 = 8; sint64 sint64 = 9; fixed32 fixed32 = 10; fixed64 fixed64 = 11; sfixed32 sfixed32 = 12;
  sfixed64 sfixed64 = 13; float float = 14; double double = 15; bytes bytes = 16; Inner inner = 17;
  optional string nick = 18; optional double ratio = 19; oneof choice { string left = 20; int64 right = 21; Inner other = 22; }
  repeated string tags = 23; repeated int32 counts = 24; repeated sint64 loose = 25 [packed = false];
  repeated double doubles = 26; repeated Inner inners = 27; map<string, int32> labels = 28; repeated State states = 29;
  repeated bool flags = 30; repeated fixed32 words = 31; string etag = 200;
}
"#;

static EACH: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let mut compiler = protox::Compiler::with_file_resolver(OneFile);
    let pool: DescriptorPool = compiler.open_file("each.proto").unwrap().descriptor_pool();
    pool.get_message_by_name("test.v1.Each").unwrap()
});
static SHAPE: LazyLock<Shape> = LazyLock::new(|| Shape::of(&EACH));

struct OneFile;

impl FileResolver for OneFile {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        File::from_source(name, EACH_KIND)
    }
}

/// Fields as an encoder writes them, and as it would not.
fn any_field(depth: u32) -> BoxedStrategy<Vec<u8>> {
    let number = prop_oneof![9 => 1_u32..33, 1 => Just(200), 1 => 33_u32..40];
    let tag = |number: u32, wire: u32| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut bytes);
        bytes
    };
    let whole = prop_oneof![
        4 => 0_u64..4,
        1 => Just(u64::MAX), 1 => Just(1 << 31), 1 => Just(u64::from(u32::MAX)), 1 => Just((-3_i64).cast_unsigned()), 1 => any::<u64>()
    ];
    let written = |value: u64, longer: bool| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value, &mut bytes);
        if longer && bytes.len() < MAX_VARINT_BYTES {
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
        }
        bytes
    };
    let sized = |bytes: Vec<u8>| {
        let mut sized = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut sized);
        [sized, bytes].concat()
    };
    let value = prop_oneof![
        4 => (whole.clone(), prop::bool::weighted(0.05)).prop_map(move |(value, longer)| (0, written(value, longer))),
        1 => prop_oneof![Just([0; 8]), Just((-0.0_f64).to_le_bytes()), any::<[u8; 8]>()].prop_map(|bytes| (1, bytes.to_vec())),
        1 => prop_oneof![Just([0; 4]), Just((-0.0_f32).to_le_bytes()), any::<[u8; 4]>()].prop_map(|bytes| (5, bytes.to_vec())),
        3 => "[a-zé]{0,3}".prop_map(move |text| (2, sized(text.into_bytes()))),
        1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(move |bytes| (2, sized(bytes))),
        1 => prop::collection::vec(whole, 0..3).prop_map(move |values| {
            (2, sized(values.into_iter().flat_map(|value| written(value, false)).collect()))
        }),
    ];
    let flat = (number.clone(), value).prop_map(move |(number, (wire, value))| [tag(number, wire), value].concat());
    if depth == 0 {
        return flat.boxed();
    }
    let nested = prop::collection::vec(any_field(depth - 1), 0..3).prop_map(move |fields| sized(fields.concat()));
    let nested = (prop_oneof![number, Just(17), Just(27)], nested);
    prop_oneof![3 => flat, 1 => nested.prop_map(move |(number, value)| [tag(number, 2), value].concat())].boxed()
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(any_field(2), 0..5);
    (fields, prop::bool::weighted(0.8), prop::bool::weighted(0.05)).prop_map(|(mut fields, sorted, cut)| {
        if sorted {
            fields.sort_by_key(|field| Next::of(field).map(|next| next.number));
        }
        let mut bytes = fields.concat();
        if cut {
            bytes.pop();
        }
        bytes
    })
}

/// What a decoder and an encoder make of bytes, without the fields that they do not know. None where they are no message.
fn normal(bytes: &[u8]) -> Option<DynamicMessage> {
    let mut message = DynamicMessage::decode(EACH.clone(), bytes).ok()?;
    crate::unknown::drop_unknown(&mut message);
    Some(message)
}

fn holds_map(message: &DynamicMessage) -> bool {
    message.fields().any(|(_, value)| match value {
        Value::Map(_) => true,
        Value::Message(inner) => holds_map(inner),
        Value::List(values) => values.iter().filter_map(Value::as_message).any(holds_map),
        _ => false,
    })
}

fn same(kind: FieldKind, plain: Plain<'_>, value: &Value) -> bool {
    match (plain, value) {
        (Plain::Bool(a), Value::Bool(b)) => a == *b,
        (Plain::Int(a), Value::I32(b)) => a == i64::from(*b),
        (Plain::Int(a), Value::I64(b)) => a == *b,
        (Plain::Uint(a), Value::U32(b)) => a == u64::from(*b),
        (Plain::Uint(a), Value::U64(b)) => a == *b,
        (Plain::Double(a), Value::F32(b)) => kind == FieldKind::Float && (a == f64::from(*b) || b.is_nan()),
        (Plain::Double(a), Value::F64(b)) => kind == FieldKind::Double && (a == *b || b.is_nan()),
        (Plain::Str(a), Value::String(b)) => a == b,
        (Plain::Bytes(a), Value::Bytes(b)) => a == b,
        (Plain::Enum(a), Value::EnumNumber(b)) => a == *b,
        (Plain::Message(a), Value::Message(b)) => a.bytes() == b.encode_to_vec(),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn bytes_are_taken_where_encoding_gives_them_back_and_nowhere_else(bytes in any_bytes()) {
        let normal = normal(&bytes).filter(|message| message.encode_to_vec() == bytes && !holds_map(message));
        prop_assert_eq!(SHAPE.read(bytes).is_ok(), normal.is_some());
    }

    #[test]
    fn fields_read_as_a_decoder_reads_them(bytes in any_bytes()) {
        // What a decoder made of any bytes, so that much passes.
        let Some(message) = normal(&bytes) else { return Ok(()) };
        let Ok(taken) = SHAPE.read(message.encode_to_vec()) else {
            prop_assert!(holds_map(&message));
            return Ok(());
        };
        for field in EACH.fields() {
            let (kind, value) = (FieldKind::of(&field), message.get_field(&field));
            if let Some(values) = value.as_list() {
                let list: Vec<_> = taken.encoded().list(field.number(), kind).collect();
                prop_assert_eq!(list.len(), values.len());
                prop_assert!(list.iter().zip(values).all(|(plain, value)| same(kind, *plain, value)), "{:?}", field);
                continue;
            }
            let plain = taken.encoded().field(field.number()).map(|value| kind.plain(value).unwrap());
            prop_assert_eq!(plain.is_some(), message.has_field(&field), "{:?}", field);
            prop_assert!(plain.is_none_or(|plain| same(kind, plain, &value)), "{:?}: {:?}", field, plain);
            if kind == FieldKind::String {
                prop_assert_eq!(taken.encoded().texts([None, Some(field.number())]), ["", value.as_str().unwrap()]);
            }
        }
    }

    #[test]
    fn what_is_cut_and_set_is_what_encoding_the_changed_message_gives(
        bytes in any_bytes(),
        hidden in prop::collection::btree_set(1_u32..32, 0..4),
        text in "[a-zé]{0,200}",
    ) {
        let Some(mut message) = normal(&bytes) else { return Ok(()) };
        let Ok(mut taken) = SHAPE.read(message.encode_to_vec()) else { return Ok(()) };
        hidden.iter().for_each(|number| message.clear_field_by_number(*number));
        taken.cut(|number| hidden.contains(&number));
        prop_assert_eq!(&taken.clone().into_bytes(), &message.encode_to_vec());
        for number in [1, 200] {
            message.set_field_by_number(number, Value::String(text.clone()));
            taken.set_text(number, &text);
            prop_assert_eq!(&taken.clone().into_bytes(), &message.encode_to_vec());
        }
        prop_assert!(SHAPE.read(taken.into_bytes()).is_ok());
    }
}

#[test]
fn a_message_nested_too_deep_is_not_taken() {
    let nested = |depth: usize| {
        let mut message =
            DynamicMessage::new(EACH.get_field_by_name("inner").unwrap().kind().as_message().unwrap().clone());
        for _ in 1..depth {
            let mut outer = DynamicMessage::new(message.descriptor());
            outer.set_field_by_name("deep", Value::Message(message));
            message = outer;
        }
        let mut each = DynamicMessage::new(EACH.clone());
        each.set_field_by_name("inner", Value::Message(message));
        each.encode_to_vec()
    };
    assert!(SHAPE.read(nested(MAX_DEPTH)).is_ok());
    assert!(SHAPE.read(nested(MAX_DEPTH + 1)).is_err());
    assert!(SHAPE.read(nested(MAX_DEPTH * 2)).is_err());
}

#[test]
fn a_message_is_pushed_as_an_encoder_writes_it() {
    let mut inner = DynamicMessage::new(EACH.clone());
    inner.set_field_by_number(1, Value::String("x".repeat(300)));
    let inner = inner.encode_to_vec();
    let (mut pushed, mut expect) = (Vec::new(), Vec::new());
    for number in [1, 15, 16, 3_000] {
        push_message(&mut pushed, number, &inner);
        prost::encoding::bytes::encode(number, &inner, &mut expect);
    }
    assert_eq!(pushed, expect);
}
