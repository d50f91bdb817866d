//! Messages as their bytes: read, cut and added to without being decoded.
//!
//! Bytes are taken for a message only where they are exactly what encoding it gives back: known fields alone, in the order of
//! their numbers, each value in its one encoding, no default that is left out, and no map, whose entries have no order. Then
//! a field is a range of bytes, unset is absent, and two messages are equal where their bytes are. [`Shape::read`] refuses
//! all else, and whoever asked decodes. What must never happen here: bytes that pass and that a decoder reads otherwise.

mod cut;
#[cfg(test)]
mod tests;

pub use cut::push_message;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::{collections::HashMap, fmt};

/// Deeper than messages are meant to nest, and less than the hundred at which decoders give up.
const MAX_DEPTH: usize = 64;
/// A varint's longest form: 64 bits, 7 a byte.
const MAX_VARINT_BYTES: usize = 10;
/// Members of so many oneofs of one message are told apart.
const MAX_ONEOFS: usize = 64;

/// What the bytes of a message type look like, with those of the types inside it. Made once for each type.
pub struct Shape {
    /// INVARIANT: the type itself first; each [`FieldKind::Message`] names one of these.
    messages: Vec<Vec<FieldShape>>,
}

/// A field, in a list by number.
struct FieldShape {
    number: u32,
    kind: FieldKind,
    count: Count,
}

/// How often a field stands in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Once, and not at all while it has its default.
    UnlessDefault,
    /// Once where it is set; at most one of a oneof is.
    IfSet { oneof: Option<usize> },
    /// Once for each value.
    Each,
    /// Once for all values.
    Packed,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// A bool.
    Bool,
    /// An enum's number.
    Enum,
    /// A varint of 32 bits, negative ones in ten bytes.
    Int32,
    /// A varint of 64 bits.
    Int64,
    /// A varint of 32 bits.
    Uint32,
    /// A varint of 64 bits.
    Uint64,
    /// A zigzag varint of 32 bits.
    Sint32,
    /// A zigzag varint of 64 bits.
    Sint64,
    /// Four bytes.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// Four bytes with a sign.
    Sfixed32,
    /// Eight bytes with a sign.
    Sfixed64,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// UTF-8.
    String,
    /// Any bytes.
    Bytes,
    /// A message: its number in the [`Shape`] that this is part of.
    Message(usize),
    /// A map, or a group: never taken as bytes.
    Opaque,
}

/// A message's bytes, as [`Shape::read`] let them pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'a>(&'a [u8]);

/// The same, owned.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedBuf {
    /// INVARIANT: what encoding a message gives.
    bytes: Vec<u8>,
}

/// A value as it stands in the bytes, before its type is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireValue<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64([u8; 8]),
    /// Wire type 2.
    Sized(&'a [u8]),
    /// Wire type 5.
    Fixed32([u8; 4]),
}

/// A value in hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plain<'a> {
    /// A bool.
    Bool(bool),
    /// A whole number with a sign.
    Int(i64),
    /// One without.
    Uint(u64),
    /// A fraction.
    Double(f64),
    /// A text.
    Str(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An enum's number.
    Enum(i32),
    /// A message.
    Message(Encoded<'a>),
}

/// A field in front of some bytes, and what stands behind it.
struct Next<'a> {
    number: u32,
    value: WireValue<'a>,
    rest: &'a [u8],
}

impl Shape {
    /// The shape of a message type.
    pub fn of(message: &MessageDescriptor) -> Self {
        let mut numbers = HashMap::from([(message.full_name().to_owned(), 0)]);
        let mut types = vec![message.clone()];
        let mut messages = Vec::new();
        // The list grows as types are found inside types, and ends when none is new.
        while let Some(message) = types.get(messages.len()).cloned() {
            let mut number_of = |inner: MessageDescriptor| {
                *numbers.entry(inner.full_name().to_owned()).or_insert_with(|| {
                    types.push(inner);
                    types.len() - 1
                })
            };
            let mut fields: Vec<_> = message.fields().map(|field| FieldShape::of(&field, &mut number_of)).collect();
            fields.sort_by_key(|field| field.number);
            messages.push(fields);
        }
        Self { messages }
    }

    /// Takes bytes for a message, if they are just what encoding it gives. Else they come back.
    pub fn read(&self, bytes: Vec<u8>) -> Result<EncodedBuf, Vec<u8>> {
        if self.is_exact(0, &bytes, 0) { Ok(EncodedBuf { bytes }) } else { Err(bytes) }
    }

    fn is_exact(&self, message: usize, bytes: &[u8], depth: usize) -> bool {
        self.messages.get(message).is_some_and(|fields| self.are_exact(fields, bytes, depth).is_some())
    }

    fn are_exact(&self, fields: &[FieldShape], bytes: &[u8], depth: usize) -> Option<()> {
        let (mut fields, mut rest) = (fields.iter(), bytes);
        let mut last: Option<&FieldShape> = None;
        let mut set_oneofs = 0_u64;
        while !rest.is_empty() {
            let next = Next::of(rest)?;
            rest = next.rest;
            let field = match last.filter(|last| last.number == next.number) {
                Some(last) if last.count == Count::Each => last,
                Some(_) => return None,
                None => fields.find(|field| field.number >= next.number).filter(|field| field.number == next.number)?,
            };
            let is_exact = match field.count {
                Count::UnlessDefault => {
                    !field.kind.is_default(next.value) && self.is_exact_value(field.kind, next.value, depth)
                }
                Count::IfSet { oneof } => {
                    let bit = oneof.map_or(Some(0), |oneof| (oneof < MAX_ONEOFS).then(|| 1 << oneof))?;
                    let is_first = set_oneofs & bit == 0;
                    set_oneofs |= bit;
                    is_first && self.is_exact_value(field.kind, next.value, depth)
                }
                Count::Each => self.is_exact_value(field.kind, next.value, depth),
                Count::Packed => self.is_exact_list(field.kind, next.value),
            };
            if !is_exact {
                return None;
            }
            last = Some(field);
        }
        Some(())
    }

    /// Whether a value is written as an encoder writes it.
    fn is_exact_value(&self, kind: FieldKind, value: WireValue<'_>, depth: usize) -> bool {
        match (kind, value) {
            (FieldKind::Bool, WireValue::Varint(value)) => value <= 1,
            (FieldKind::Int32 | FieldKind::Enum, WireValue::Varint(value)) => {
                i32::try_from(value.cast_signed()).is_ok()
            }
            (FieldKind::Uint32 | FieldKind::Sint32, WireValue::Varint(value)) => u32::try_from(value).is_ok(),
            (FieldKind::Int64 | FieldKind::Uint64 | FieldKind::Sint64, WireValue::Varint(_))
            | (FieldKind::Fixed32 | FieldKind::Sfixed32 | FieldKind::Float, WireValue::Fixed32(_))
            | (FieldKind::Fixed64 | FieldKind::Sfixed64 | FieldKind::Double, WireValue::Fixed64(_))
            | (FieldKind::Bytes, WireValue::Sized(_)) => true,
            (FieldKind::String, WireValue::Sized(text)) => std::str::from_utf8(text).is_ok(),
            (FieldKind::Message(number), WireValue::Sized(bytes)) => {
                depth < MAX_DEPTH && self.is_exact(number, bytes, depth + 1)
            }
            _ => false,
        }
    }

    fn is_exact_list(&self, kind: FieldKind, value: WireValue<'_>) -> bool {
        let WireValue::Sized(mut rest) = value else { return false };
        // An empty list is not written.
        let is_set = !rest.is_empty();
        while !rest.is_empty() {
            match kind.first_of(rest) {
                Some((value, behind)) if self.is_exact_value(kind, value, MAX_DEPTH) => rest = behind,
                _ => return false,
            }
        }
        is_set
    }
}

impl FieldShape {
    fn of(field: &FieldDescriptor, number_of: &mut impl FnMut(MessageDescriptor) -> usize) -> Self {
        let kind = match FieldKind::of(field) {
            FieldKind::Message(_) => field
                .kind()
                .as_message()
                .map_or(FieldKind::Opaque, |inner| FieldKind::Message(number_of(inner.clone()))),
            kind => kind,
        };
        let oneof = |field: &FieldDescriptor| {
            let oneof = field.containing_oneof()?;
            field.parent_message().oneofs().position(|other| other == oneof)
        };
        let count = match () {
            () if field.is_list() && field.is_packed() => Count::Packed,
            () if field.is_list() => Count::Each,
            () if field.supports_presence() => Count::IfSet { oneof: oneof(field) },
            () => Count::UnlessDefault,
        };
        Self { number: field.number(), kind, count }
    }
}

impl FieldKind {
    /// How a field's value is written, or each of its values. The number of a message is 0 here: no shape is at hand.
    pub fn of(field: &FieldDescriptor) -> Self {
        if field.is_map() || field.is_group() {
            return Self::Opaque;
        }
        match field.kind() {
            Kind::Bool => Self::Bool,
            Kind::Enum(_) => Self::Enum,
            Kind::Int32 => Self::Int32,
            Kind::Int64 => Self::Int64,
            Kind::Uint32 => Self::Uint32,
            Kind::Uint64 => Self::Uint64,
            Kind::Sint32 => Self::Sint32,
            Kind::Sint64 => Self::Sint64,
            Kind::Fixed32 => Self::Fixed32,
            Kind::Fixed64 => Self::Fixed64,
            Kind::Sfixed32 => Self::Sfixed32,
            Kind::Sfixed64 => Self::Sfixed64,
            Kind::Float => Self::Float,
            Kind::Double => Self::Double,
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Message(_) => Self::Message(0),
        }
    }

    /// What is left out where a field has no presence. Both zeros of a fraction are.
    fn is_default(self, value: WireValue<'_>) -> bool {
        match value {
            WireValue::Varint(value) => value == 0,
            WireValue::Fixed32(bytes) if self == Self::Float => f32::from_le_bytes(bytes) == 0.0,
            WireValue::Fixed64(bytes) if self == Self::Double => f64::from_le_bytes(bytes) == 0.0,
            WireValue::Fixed32(bytes) => bytes == [0; 4],
            WireValue::Fixed64(bytes) => bytes == [0; 8],
            WireValue::Sized(bytes) => bytes.is_empty(),
        }
    }

    /// The first value of a packed list.
    fn first_of(self, bytes: &[u8]) -> Option<(WireValue<'_>, &[u8])> {
        match self {
            Self::Fixed32 | Self::Sfixed32 | Self::Float => {
                bytes.split_first_chunk().map(|(value, rest)| (WireValue::Fixed32(*value), rest))
            }
            Self::Fixed64 | Self::Sfixed64 | Self::Double => {
                bytes.split_first_chunk().map(|(value, rest)| (WireValue::Fixed64(*value), rest))
            }
            Self::String | Self::Bytes | Self::Message(_) | Self::Opaque => None,
            _ => varint(bytes).map(|(value, rest)| (WireValue::Varint(value), rest)),
        }
    }

    /// The value, as a decoder reads it.
    #[allow(clippy::cast_possible_truncation, reason = "as decoders do; what was cut off would not have passed")]
    pub fn plain(self, value: WireValue<'_>) -> Option<Plain<'_>> {
        Some(match (self, value) {
            (Self::Bool, WireValue::Varint(value)) => Plain::Bool(value != 0),
            (Self::Enum, WireValue::Varint(value)) => Plain::Enum(value as i32),
            (Self::Int32, WireValue::Varint(value)) => Plain::Int((value as i32).into()),
            (Self::Int64, WireValue::Varint(value)) => Plain::Int(value.cast_signed()),
            (Self::Uint32 | Self::Uint64, WireValue::Varint(value)) => Plain::Uint(value),
            (Self::Sint32 | Self::Sint64, WireValue::Varint(value)) => {
                Plain::Int((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
            }
            (Self::Fixed32, WireValue::Fixed32(bytes)) => Plain::Uint(u32::from_le_bytes(bytes).into()),
            (Self::Fixed64, WireValue::Fixed64(bytes)) => Plain::Uint(u64::from_le_bytes(bytes)),
            (Self::Sfixed32, WireValue::Fixed32(bytes)) => Plain::Int(i32::from_le_bytes(bytes).into()),
            (Self::Sfixed64, WireValue::Fixed64(bytes)) => Plain::Int(i64::from_le_bytes(bytes)),
            (Self::Float, WireValue::Fixed32(bytes)) => Plain::Double(f32::from_le_bytes(bytes).into()),
            (Self::Double, WireValue::Fixed64(bytes)) => Plain::Double(f64::from_le_bytes(bytes)),
            (Self::String, WireValue::Sized(bytes)) => Plain::Str(std::str::from_utf8(bytes).ok()?),
            (Self::Bytes, WireValue::Sized(bytes)) => Plain::Bytes(bytes),
            (Self::Message(_), WireValue::Sized(bytes)) => Plain::Message(Encoded(bytes)),
            _ => return None,
        })
    }
}

impl<'a> Encoded<'a> {
    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value of a field that stands there once at most; none where it is unset.
    pub fn field(self, number: u32) -> Option<WireValue<'a>> {
        self.fields().find(|next| next.number >= number).filter(|next| next.number == number).map(|next| next.value)
    }

    /// The texts of some fields, found in one pass; empty where one is unset, or where no field is asked for.
    pub fn texts<const N: usize>(self, numbers: [Option<u32>; N]) -> [&'a str; N] {
        let mut texts = [""; N];
        let last = numbers.iter().flatten().max().copied().unwrap_or_default();
        for next in self.fields().take_while(|next| next.number <= last) {
            let asked = texts.iter_mut().zip(&numbers).filter(|(_, number)| **number == Some(next.number));
            if let WireValue::Sized(bytes) = next.value {
                asked.for_each(|(text, _)| *text = std::str::from_utf8(bytes).unwrap_or_default());
            }
        }
        texts
    }

    /// The values of a list.
    pub fn list(self, number: u32, kind: FieldKind) -> impl Iterator<Item = Plain<'a>> {
        let values = self.fields().filter(move |next| next.number == number).map(|next| next.value);
        values.flat_map(move |value| Values { kind, value: Some(value) })
    }

    fn fields(self) -> impl Iterator<Item = Next<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let next = Next::of(rest)?;
            rest = next.rest;
            Some(next)
        })
    }
}

/// The values of one occurrence of a list: one, or as many as are packed in it.
struct Values<'a> {
    kind: FieldKind,
    value: Option<WireValue<'a>>,
}

impl<'a> Iterator for Values<'a> {
    type Item = Plain<'a>;

    fn next(&mut self) -> Option<Plain<'a>> {
        let value = self.value.take()?;
        let is_packed = !matches!(self.kind, FieldKind::String | FieldKind::Bytes | FieldKind::Message(_));
        let WireValue::Sized(bytes) = value else { return self.kind.plain(value) };
        if !is_packed {
            return self.kind.plain(value);
        }
        let (first, rest) = self.kind.first_of(bytes)?;
        self.value = Some(WireValue::Sized(rest));
        self.kind.plain(first)
    }
}

impl EncodedBuf {
    /// The message.
    pub fn encoded(&self) -> Encoded<'_> {
        Encoded(&self.bytes)
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> Next<'a> {
    #[inline]
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (tag, rest) = varint(bytes)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let (value, rest) = match tag & 7 {
            0 => varint(rest).map(|(value, rest)| (WireValue::Varint(value), rest)),
            1 => rest.split_first_chunk().map(|(value, rest)| (WireValue::Fixed64(*value), rest)),
            2 => {
                let (length, rest) = varint(rest)?;
                rest.split_at_checked(usize::try_from(length).ok()?)
                    .map(|(value, rest)| (WireValue::Sized(value), rest))
            }
            5 => rest.split_first_chunk().map(|(value, rest)| (WireValue::Fixed32(*value), rest)),
            _ => None,
        }?;
        Some(Self { number, value, rest })
    }
}

/// The number in front, if it is written as short as it can be.
#[inline]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // Nearly all: tags and lengths of short fields.
    if let [byte @ ..0x80, rest @ ..] = bytes {
        return Some((u64::from(*byte), rest));
    }
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(MAX_VARINT_BYTES) {
        let bits = u64::from(byte & 0x7f);
        // Of the tenth byte one bit is left.
        if at == MAX_VARINT_BYTES - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return (*byte != 0).then(|| (value, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    None
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shape").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({} bytes)", self.0.len())
    }
}

impl fmt::Debug for EncodedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.encoded(), f)
    }
}
