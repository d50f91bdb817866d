//! Answers as tables for people.
//!
//! A list is a row for each record, with its id first and whole, then what tells people most, cut to the width of the
//! terminal. A single record is a line for each field, and below them a table for each list of messages in it.

use crate::{output, plain};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use serde_json::Value as Json;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns between two cells.
const GAP: usize = 2;
/// A column is not made narrower than this; rather the last one is left out.
const NARROWEST: usize = 8;
/// Rows of a list are judged by their first cells of this width; longer ones are cut.
const WIDEST: usize = 60;

/// The answer as a table of at most `width` columns.
pub(crate) fn of(message: &DynamicMessage, width: Option<usize>) -> String {
    match list_of(&message.descriptor()) {
        Some((field, item)) => {
            let rows = message.get_field(&field);
            let rows: Vec<&DynamicMessage> =
                rows.as_list().unwrap_or_default().iter().filter_map(Value::as_message).collect();
            let count = message.fields().filter(|(other, _)| *other != field).filter_map(|(other, value)| {
                let counts = !matches!(other.kind(), Kind::Message(_)) && other.name() != "next_page_token";
                counts.then(|| format!("{}: {}", title(&other), cell(value, &other)))
            });
            let rows = list(&columns(&item), &rows, width);
            [rows].into_iter().chain(count).collect::<Vec<_>>().join("\n")
        }
        None => record(message, width),
    }
}

/// The repeated message field of a list's answer: one that comes in pages, or one that holds nothing else.
fn list_of(message: &MessageDescriptor) -> Option<(FieldDescriptor, MessageDescriptor)> {
    if message.get_field_by_name("next_page_token").is_none() && message.fields().len() != 1 {
        return None;
    }
    message.fields().filter(|field| field.is_list()).find_map(|field| match field.kind() {
        Kind::Message(item) => Some((field, item)),
        _ => None,
    })
}

/// The columns of a list: `id`, then what is no id, then the ids of others, which say least to people.
fn columns(item: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let shown = |field: &FieldDescriptor| !field.is_list() && !field.is_map() && !is_message(field) && is_told(field);
    let mut columns: Vec<FieldDescriptor> = item.fields().filter(shown).collect();
    columns.sort_by_key(|field| match field.name() {
        "id" => 0,
        name if name.ends_with("_id") => 2,
        _ => 1,
    });
    columns
}

/// Whether a field holds messages with fields of their own.
fn is_message(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if !message.full_name().starts_with("google.protobuf."))
}

/// Whether a field's value tells people anything.
fn is_told(field: &FieldDescriptor) -> bool {
    !matches!(field.kind(), Kind::Bytes) && field.name() != "etag"
}

fn list(columns: &[FieldDescriptor], rows: &[&DynamicMessage], width: Option<usize>) -> String {
    if rows.is_empty() {
        return "nothing to show".to_owned();
    }
    let titles = columns.iter().map(title).collect();
    let shown = |row: &DynamicMessage, field: &FieldDescriptor| {
        // What is not set is empty, not the default of its type: no time is not 1970.
        let unset = field.supports_presence() && !row.has_field(field);
        if unset { String::new() } else { cell(&row.get_field(field), field) }
    };
    let cells = rows.iter().map(|row| columns.iter().map(|field| shown(row, field)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
    let natural = (0..columns.len()).map(|column| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or_default()
    });
    let widths = fitted(natural.collect(), width);
    let line = |cells: &Vec<String>| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| padded(cell, *width)).collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The widths of the columns that fit, where the first is never cut: an id is there to be copied.
fn fitted(natural: Vec<usize>, width: Option<usize>) -> Vec<usize> {
    let Some(width) = width else { return natural };
    let mut widths: Vec<usize> = natural
        .into_iter()
        .enumerate()
        .map(|(column, wide)| if column == 0 { wide } else { wide.min(WIDEST) })
        .collect();
    loop {
        let needed = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let over = needed.saturating_sub(width);
        if over == 0 || widths.len() <= 1 {
            return widths;
        }
        let widest = widths.iter_mut().skip(1).max_by_key(|wide| **wide);
        match widest {
            // One column at a time, so that all wide ones shrink alike.
            Some(wide) if *wide > NARROWEST => *wide -= 1,
            _ => drop(widths.pop()),
        }
    }
}

/// A cell of exactly this width, cut with `…` where it is wider.
fn padded(cell: &str, width: usize) -> String {
    let mut text = cell.to_owned();
    if cell.width() > width {
        let mut used = 0;
        text = cell
            .chars()
            .take_while(|letter| {
                used += letter.width().unwrap_or_default();
                used < width
            })
            .collect();
        text.push('…');
    }
    let space = width.saturating_sub(text.width());
    text + &" ".repeat(space)
}

fn record(message: &DynamicMessage, width: Option<usize>) -> String {
    let is_table = |field: &FieldDescriptor| field.is_list() && is_message(field);
    let fields: Vec<(String, String)> = message
        .descriptor()
        .fields()
        .filter(|field| !is_table(field) && (message.has_field(field) || !field.supports_presence()))
        .map(|field| (title(&field), cell(&message.get_field(&field), &field)))
        .collect();
    let widest = fields.iter().map(|(title, _)| title.width()).max().unwrap_or_default();
    let lines = fields.iter().map(|(title, cell)| format!("{}  {cell}", padded(title, widest)).trim_end().to_owned());
    let descriptor = message.descriptor();
    let tables = descriptor.fields().filter(is_table).filter_map(|field| table_in(message, &field, width));
    let lines = lines.collect::<Vec<_>>().join("\n");
    [lines].into_iter().filter(|lines| !lines.is_empty()).chain(tables).collect::<Vec<_>>().join("\n\n")
}

/// A list of messages in a record, under its name; nothing of an empty one.
fn table_in(message: &DynamicMessage, field: &FieldDescriptor, width: Option<usize>) -> Option<String> {
    let Kind::Message(item) = field.kind() else { return None };
    let rows = message.get_field(field);
    let rows: Vec<&DynamicMessage> = rows.as_list()?.iter().filter_map(Value::as_message).collect();
    // Here nobody looks for one among many: all of it is told. What is too wide for a row is a record of its own.
    let told = item.fields().filter(|field| !field.is_map() && !is_message(field) && is_told(field));
    let table = list(&told.collect::<Vec<_>>(), &rows, None);
    let fits = width.is_none_or(|width| table.lines().all(|line| line.width() <= width));
    let records = || rows.iter().map(|row| record(row, width)).collect::<Vec<_>>().join("\n\n");
    (!rows.is_empty()).then(|| format!("{}\n{}", title(field), if fits { table } else { records() }))
}

/// A message of a stream on one line: what is set in it, of at most `width` columns.
pub(crate) fn row(message: &DynamicMessage, width: Option<usize>) -> String {
    row_behind("", message, width)
}

/// The same behind a word.
pub(crate) fn row_behind(word: &str, message: &DynamicMessage, width: Option<usize>) -> String {
    let fields = columns(&message.descriptor());
    let set = fields.iter().filter(|field| message.has_field(field));
    let cells = set.map(|field| cell(&message.get_field(field), field));
    let words = [word.to_owned()].into_iter().chain(cells).filter(|cell| !cell.is_empty());
    let line = words.collect::<Vec<_>>().join(&" ".repeat(GAP));
    match width {
        Some(width) if line.width() > width => padded(&line, width),
        _ => line,
    }
}

fn title(field: &FieldDescriptor) -> String {
    plain::line(&field.name().to_uppercase().replace('_', " "))
}

/// A value in one line.
fn cell(value: &Value, field: &FieldDescriptor) -> String {
    let text = match (value, field.kind()) {
        (Value::String(text), _) => text.clone(),
        (Value::Bool(value), _) => (if *value { "yes" } else { "no" }).to_owned(),
        (Value::Bytes(bytes), _) if bytes.is_empty() => String::new(),
        (Value::Bytes(bytes), _) => format!("{} bytes", bytes.len()),
        (Value::EnumNumber(0), Kind::Enum(names)) if names.default_value().name().ends_with("UNSPECIFIED") => {
            String::new()
        }
        (Value::EnumNumber(number), Kind::Enum(names)) => {
            names.get_value(*number).map_or_else(|| number.to_string(), |value| value.name().to_owned())
        }
        (Value::Message(message), _) => json_cell(message),
        (Value::List(values), _) => values.iter().map(|value| cell(value, field)).collect::<Vec<_>>().join(", "),
        (Value::Map(entries), _) => {
            let Kind::Message(entry) = field.kind() else { return String::new() };
            let value_field = entry.map_entry_value_field();
            let mut entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}={}", key_text(key), cell(value, &value_field))).collect();
            entries.sort();
            entries.join(", ")
        }
        (Value::I32(number), _) => number.to_string(),
        (Value::I64(number), _) => number.to_string(),
        (Value::U32(number), _) => number.to_string(),
        (Value::U64(number), _) => number.to_string(),
        (Value::F32(number), _) => number.to_string(),
        (Value::F64(number), _) => number.to_string(),
        (Value::EnumNumber(number), _) => number.to_string(),
    };
    plain::line(&text)
}

/// Times and durations as their text, other messages as JSON on one line.
fn json_cell(message: &DynamicMessage) -> String {
    match output::json(message) {
        Ok(Json::String(text)) => text,
        Ok(Json::Null) | Err(_) => String::new(),
        Ok(json) => json.to_string(),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
