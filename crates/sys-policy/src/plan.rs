//! What a list walks through: index ranges that hold every record the caller may read, and little else.
//!
//! A plan proposes; the opened record decides, through `allows(GET)`. Must never happen here: a branch for a scope that the
//! caller does not hold (the work would tell of rows he cannot see), or a test that leaves out a record he may read.

use crate::{
    caller::{BindingScope, Caller},
    cel::time::Now,
    grant::Who,
};
use prost_reflect::Value;
use std::{collections::BTreeMap, ops::Bound};
use sys_contract::{
    id::{AccountId, OrgTag, ProjectId},
    model::{Home, Level, Role},
};

/// The union of its branches: each proposes ids in id order. No branch, no record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// No branch is contained in another.
    pub branches: Vec<Branch>,
}

/// A range, thinned out by token tests that all must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The scope range that drives it. Token ranges are intersected inside; only inside [`Span::Whole`] may one drive.
    pub span: Span,
    /// What the records in question have in indexes.
    pub tokens: Vec<TokenTest>,
    /// The caller may read every record of the span: its grant has no condition and nothing else to be met. Only then may
    /// a token of the caller's own filter drive a walk through [`Span::Whole`]; else the work would tell of hidden rows.
    pub covers_span: bool,
}

/// A scope range of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// All records of the table in the tablespace in question.
    Whole,
    /// The records of one org; in GLOBAL tables only.
    Org(OrgTag),
    /// The records of one project.
    Project(ProjectId),
    /// The records of one owner.
    Owner(AccountId),
}

/// A test on one indexed field: the field has one of these tokens. Never proposed for a field's default value, so that it
/// does not matter whether an index holds rows for those.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenTest {
    /// The field's number.
    pub field: u32,
    /// One of them; never empty.
    pub any_of: Vec<TokenValue>,
}

/// What is looked up in an index.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenValue {
    /// In an EQUAL or UNIQUE index: the field's value, in the field's own kind.
    Exact(Value),
    /// In a SEARCH index: the beginning of a normalised word, 2 to 8 letters.
    WordPrefix(String),
}

/// A test on one field with an ORDERED index: its value lies between these.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeTest {
    /// The field's number.
    pub field: u32,
    /// From where.
    pub lower: Bound<OrderedValue>,
    /// To where.
    pub upper: Bound<OrderedValue>,
}

/// A value that has an order. Those of one field are all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum OrderedValue {
    /// `false` is first.
    Bool(bool),
    /// Of any width.
    Int(i64),
    /// Of any width.
    Uint(u64),
    /// Of any width. `-0.0` is `0.0`.
    Double(f64),
    /// Ordered by its bytes.
    Text(Vec<u8>),
    /// Ordered by its bytes.
    Bytes(Vec<u8>),
    /// By time.
    Timestamp(Now),
    /// In nanoseconds.
    Duration(i128),
    /// By number.
    Enum(i32),
}

impl Plan {
    /// Whether the caller may read every record of the table in the tablespace in question, by one grant. Only then may what
    /// he asks for decide what is walked: there is nothing that the walk could tell of.
    pub fn covers_all(&self) -> bool {
        self.branches.iter().any(|branch| branch.span == Span::Whole && branch.covers_span && branch.tokens.is_empty())
    }

    /// The union of these branches, without those that others contain.
    pub(crate) fn of(branches: impl IntoIterator<Item = Branch>) -> Self {
        let mut by_span: BTreeMap<Span, Vec<Branch>> = BTreeMap::new();
        for branch in branches {
            let same_span = by_span.entry(branch.span).or_default();
            if !same_span.iter().any(|other| other.contains(&branch)) {
                same_span.retain(|other| !branch.contains(other));
                same_span.push(branch);
            }
        }
        let whole = by_span.remove(&Span::Whole).unwrap_or_default();
        let parts = by_span.into_values().flatten().filter(|part| !whole.iter().any(|whole| whole.contains(part)));
        let parts: Vec<Branch> = parts.collect();
        Self { branches: whole.into_iter().chain(parts).collect() }
    }
}

impl Branch {
    /// Whether everything that `other` proposes is proposed here, too. Of two branches for one range that stays which the
    /// caller's grant covers.
    fn contains(&self, other: &Branch) -> bool {
        let span =
            if self.span == other.span { self.covers_span || !other.covers_span } else { self.span == Span::Whole };
        span && self.tokens.iter().all(|test| other.tokens.contains(test))
    }
}

/// What a list asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) home: Home,
    /// The one org whose records are listed; for records at home in an org it must be there.
    pub(crate) org: Option<OrgTag>,
    /// The one project.
    pub(crate) project: Option<ProjectId>,
}

/// The ranges that hold every wanted record on which `who` means the caller. Of several parts of a grant one drives, that
/// with the narrowest range; the opened record decides on the others.
pub(crate) fn spans(who: &Who, caller: &Caller, wanted: &Wanted, now: &Now) -> Vec<Span> {
    if !who.may_mean(caller) {
        return Vec::new();
    }
    let member = || orgs(caller, wanted, now);
    let role = who.role.map(|(role, level)| of_role(role, level, caller, wanted, now));
    if role.as_ref().is_some_and(Vec::is_empty) || (who.member && member().is_empty()) {
        return Vec::new();
    }
    let spans = match (who.owner, role) {
        (true, _) => match caller.verified_account() {
            Some(account) if wanted.home == Home::Global || !member().is_empty() => vec![Span::Owner(account)],
            _ => Vec::new(),
        },
        (false, Some(spans)) => spans,
        (false, None) if who.member => member(),
        (false, None) => vec![Span::Whole],
    };
    spans.into_iter().filter_map(|span| narrow(span, wanted)).collect()
}

/// The ranges of the orgs in which the caller is bound.
fn orgs(caller: &Caller, wanted: &Wanted, now: &Now) -> Vec<Span> {
    match (wanted.home, wanted.org) {
        (Home::Org, Some(org)) if caller.is_member(org, now) => vec![Span::Whole],
        (Home::Org, _) => Vec::new(),
        (Home::Global, _) => {
            let mut spans: Vec<Span> = caller.live(now).filter_map(|b| org_of(&b.scope)).map(Span::Org).collect();
            spans.dedup();
            spans
        }
    }
}

/// The ranges that a role opens.
fn of_role(role: Role, level: Level, caller: &Caller, wanted: &Wanted, now: &Now) -> Vec<Span> {
    if level == Level::System {
        return if caller.is_superadmin(now) { vec![Span::Whole] } else { Vec::new() };
    }
    let bindings = match (wanted.home, wanted.org) {
        (Home::Org, None) => return Vec::new(),
        (_, Some(org)) => caller.in_org(org),
        (Home::Global, None) => caller.bindings(),
    };
    let mut spans = Vec::new();
    let mut held_at = None;
    for binding in bindings.iter().filter(|b| b.role >= role && b.is_live(now)) {
        // An org's own bindings stand before those of its projects, which they contain.
        match binding.scope {
            BindingScope::Org(_) if wanted.home == Home::Org => return vec![Span::Whole],
            BindingScope::Org(org) => {
                held_at = Some(org);
                spans.push(Span::Org(org));
            }
            BindingScope::Project(org, project) if level == Level::Project && held_at != Some(org) => {
                spans.push(Span::Project(project));
            }
            BindingScope::Project(..) | BindingScope::System => {}
        }
    }
    spans
}

/// The part of a range that is wanted. An org's range in a GLOBAL table is kept whole for a wanted project: whether the
/// project lies in that org is not known here, and another org's project is not for the caller.
fn narrow(span: Span, wanted: &Wanted) -> Option<Span> {
    match span {
        Span::Whole => Some(match (wanted.project, wanted.home, wanted.org) {
            (Some(project), ..) => Span::Project(project),
            (None, Home::Global, Some(org)) => Span::Org(org),
            (None, ..) => Span::Whole,
        }),
        Span::Org(org) => wanted.org.is_none_or(|wanted| wanted == org).then_some(span),
        Span::Project(project) => wanted.project.is_none_or(|wanted| wanted == project).then_some(span),
        Span::Owner(_) => Some(span),
    }
}

fn org_of(scope: &BindingScope) -> Option<OrgTag> {
    match *scope {
        BindingScope::System => None,
        BindingScope::Org(org) | BindingScope::Project(org, _) => Some(org),
    }
}
