//! Fields of records that show more than before, or that more may be written into.

use super::weaker;
use crate::{
    model::{Contract, Field, Index, Record, Within},
    problem::Problem,
};

/// What the fields of `new` protect less than those of `old`. New fields hold nothing that was protected before.
pub(super) fn weakened(old: &Contract, new: &Contract) -> Vec<Problem> {
    let before = |record: &Record| old.records.iter().find(|old| old.message.full_name() == record.message.full_name());
    let records = new.records.iter().filter_map(|record| Some((before(record)?, record)));
    records.flat_map(|(before, now)| record(before, now)).collect()
}

fn record(before: &Record, now: &Record) -> Vec<Problem> {
    let number = |field: &Field| field.descriptor.number();
    let was = |now: &Field| before.fields.iter().find(|before| number(before) == number(now));
    now.fields.iter().filter_map(|field| Some((was(field)?, field))).flat_map(|(was, is)| less(was, is)).collect()
}

fn less(before: &Field, now: &Field) -> Vec<Problem> {
    let name = now.descriptor.name();
    let set_by_server = (before.output_only && !now.output_only)
        .then(|| (format!("`{name}` was set by the server alone, and callers may set it now"), "`output_only: true`"));
    let fixed = (before.immutable && !now.immutable)
        .then(|| (format!("`{name}` was set once, and may be changed now"), "`immutable: true`"));
    let personal = (before.personal && !now.personal).then(|| {
        (format!("`{name}` said something about a person, and is treated now as if it did not"), "`personal: true`")
    });
    let found = [set_by_server, fixed, personal].into_iter().flatten();
    let found = found.chain(less_unique(name, before.index, now.index)).chain(seen_on_disk(name, before, now));
    found.map(|(what, kept)| weaker(&now.place, what, kept)).collect()
}

fn less_unique(name: &str, before: Option<Index>, now: Option<Index>) -> Option<(String, &'static str)> {
    let Some(Index::Unique { within: was }) = before else {
        return match now {
            Some(Index::Unique { within: Within::System }) => Some((
                format!("whoever sets `{name}` learns whether its value is taken anywhere, and did not before"),
                "it as it was",
            )),
            _ => None,
        };
    };
    match now {
        Some(Index::Unique { within }) if reach(within) == reach(was) => None,
        Some(Index::Unique { within }) if reach(within) > reach(was) => (within == Within::System).then(|| {
            let what = format!("whoever sets `{name}` learns now whether its value is taken anywhere");
            (what, "`within` as it was")
        }),
        Some(Index::Unique { .. }) => {
            let what = format!("a value of `{name}` stood once in a wider circle than now");
            Some((what, "`within` as it was"))
        }
        _ => {
            let what = format!("a value of `{name}` stood once, and may stand in any number of records now");
            Some((what, "`index: UNIQUE`"))
        }
    }
}

/// How far a field is unique, as a number that grows.
fn reach(within: Within) -> u8 {
    match within {
        Within::Owner => 0,
        Within::Project => 1,
        Within::Org => 2,
        Within::System => 3,
    }
}

/// What an index shows to who reads the disk: ORDERED the values, SEARCH which words are the same, every other one which values are.
fn seen_on_disk(name: &str, before: &Field, now: &Field) -> Option<(String, &'static str)> {
    match (before.index, now.index) {
        (before, Some(Index::Ordered)) if before != Some(Index::Ordered) => {
            Some((format!("the values of `{name}` were sealed, and stand readable on disk now"), "it out of ORDERED"))
        }
        (None, Some(_)) if before.personal => {
            let what = format!("which records share a value of `{name}` did not show on disk, and does now");
            Some((what, "it without an index"))
        }
        (Some(Index::Equal | Index::Unique { .. }), Some(Index::Search { .. })) if before.personal => {
            let what = format!("which records share a word of `{name}` did not show on disk, and does now");
            Some((what, "it out of SEARCH"))
        }
        _ => None,
    }
}
