//! Values that only protobuf can say: a time beyond the year 9999, a number of nanoseconds that is a second and more, the path of a mask
//! with a capital letter. Once such a value is stored, nobody who reads JSON gets an answer with its record in it.

use crate::wire;
use connectrpc::CodecFormat;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// The package of the types that JSON has forms of their own for.
const WELL_KNOWN: &str = "google.protobuf";
/// From the year 1 to the end of the year 9999 (google/protobuf/timestamp.proto).
const TIMES_S: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// 10,000 years and some (google/protobuf/duration.proto).
const LONGEST_S: i64 = 315_576_000_000;
const MOST_NANOS: i32 = 999_999_999;

/// The path of the first value that JSON cannot say.
pub(super) fn unsayable(message: &DynamicMessage) -> Option<String> {
    message.fields().find_map(|(field, value)| {
        let found = match value {
            Value::Message(inner) => unsayable_in(inner),
            Value::List(items) => items.iter().filter_map(Value::as_message).find_map(unsayable_in),
            Value::Map(entries) => entries.values().filter_map(Value::as_message).find_map(unsayable_in),
            _ => None,
        };
        found.map(|inner| if inner.is_empty() { field.name().to_owned() } else { format!("{}.{inner}", field.name()) })
    })
}

fn unsayable_in(message: &DynamicMessage) -> Option<String> {
    let descriptor = message.descriptor();
    if descriptor.package_name() != WELL_KNOWN {
        return unsayable(message);
    }
    let is_sayable = match descriptor.name() {
        "Timestamp" => {
            parts(message).is_some_and(|(s, nanos)| TIMES_S.contains(&s) && (0..=MOST_NANOS).contains(&nanos))
        }
        "Duration" => parts(message).is_some_and(|(s, nanos)| {
            let is_one_way = s == 0 || nanos == 0 || (s < 0) == (nanos < 0);
            (-LONGEST_S..=LONGEST_S).contains(&s) && (-MOST_NANOS..=MOST_NANOS).contains(&nanos) && is_one_way
        }),
        _ => wire::encode(message, CodecFormat::Json).is_ok(),
    };
    (!is_sayable).then(String::new)
}

fn parts(message: &DynamicMessage) -> Option<(i64, i32)> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    Some((seconds, message.get_field_by_name("nanos")?.as_i32()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_contract::{Origin, SourceFile};

    const CONTRACT: &str = r#"
syntax = "proto3";
package times.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
message Inner { google.protobuf.Timestamp at = 1; }
message Request {
  google.protobuf.Timestamp at = 1; repeated google.protobuf.Duration lasts = 2; map<string, Inner> inners = 3;
  google.protobuf.FieldMask mask = 4; google.protobuf.Value value = 5; google.protobuf.Any any = 6; Inner inner = 7;
}
"#;

    #[test]
    fn what_json_cannot_say_is_found_and_nothing_else() {
        let file = SourceFile { path: "times/v1/times.proto".to_owned(), text: CONTRACT.to_owned() };
        let contract = sys_contract::load("mod-times", Origin::Uploaded, &[file]).unwrap();
        let of = |name: &str| DynamicMessage::new(contract.pool.get_message_by_name(name).unwrap());
        let time = |kind: &str, seconds: i64, nanos: i32| {
            let mut time = of(&format!("google.protobuf.{kind}"));
            time.set_field_by_name("seconds", Value::I64(seconds));
            time.set_field_by_name("nanos", Value::I32(nanos));
            Value::Message(time)
        };
        let check = |field: &str, value: Value, expect: Option<&str>| {
            let mut request = of("times.v1.Request");
            request.set_field_by_name(field, value);
            assert_eq!(unsayable(&request).as_deref(), expect, "{request}");
        };
        for (seconds, nanos) in [(0, 0), (-62_135_596_800, 0), (253_402_300_799, 999_999_999)] {
            check("at", time("Timestamp", seconds, nanos), None);
        }
        for (seconds, nanos) in [(-62_135_596_801, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
            check("at", time("Timestamp", seconds, nanos), Some("at"));
        }
        let lasts = |seconds, nanos| Value::List(vec![time("Duration", 1, 1), time("Duration", seconds, nanos)]);
        for (seconds, nanos) in [(-5, -5), (0, -999_999_999), (315_576_000_000, 1)] {
            check("lasts", lasts(seconds, nanos), None);
        }
        for (seconds, nanos) in [(-5, 5), (5, -5), (i64::MAX, 0), (i64::MIN, 0), (0, i32::MIN)] {
            check("lasts", lasts(seconds, nanos), Some("lasts"));
        }
        let mut inner = of("times.v1.Inner");
        inner.set_field_by_name("at", time("Timestamp", 0, -1));
        check("inner", Value::Message(inner), Some("inner.at"));
        let mask = |path: &str| {
            let mut mask = of("google.protobuf.FieldMask");
            mask.set_field_by_name("paths", Value::List(vec![Value::String(path.to_owned())]));
            Value::Message(mask)
        };
        check("mask", mask("a_b.c"), None);
        check("mask", mask("aB"), Some("mask"));
        check("value", Value::Message(of("google.protobuf.Value")), None);
        let mut any = of("google.protobuf.Any");
        any.set_field_by_name("type_url", Value::String("type.example.org/unknown".to_owned()));
        check("any", Value::Message(any), Some("any"));
    }
}
