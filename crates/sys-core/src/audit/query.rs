//! Entries that somebody looks for: by account, method, time and outcome, newest or oldest first, page by page.
//!
//! A log has no index: it is walked. A page ends when it is full or a bound of entries was walked over, and its token says
//! where the next one begins; a page may be empty and have a token all the same (AIP-158). Between two times only that part of
//! the log is walked, which is found by halving, since entries lie nearly in the order of their times.

use super::{
    AuditError, AuditLogs, Log,
    nodes::{self, hash_of},
};
use crate::refusal::Refusal;
use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use std::ops::Range;
use sys_audit::{Hash, Leaf};
use sys_contract::id::{AccountId, OrgTag};
use sys_store::{ErasableEntry, LogKind, Open};

/// Entries that one page walks over: some 20 ms of work.
const MAX_WALKED: u64 = 4_096;
/// Entries read at a time.
const CHUNK: u64 = 256;
/// How far an entry may stand from where its time would have it: the longest that a call and its commit take, in seconds.
const DISORDER_S: i64 = 120;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was let through.
    Allowed,
    /// It was refused.
    Refused,
}

/// What somebody looks for. What is absent or empty holds for all entries.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Who called.
    pub account: Option<AccountId>,
    /// A method's path, or what it begins with.
    pub method: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it was refused.
    pub reason: String,
    /// From this second on.
    pub from_unix_s: Option<i64>,
    /// Before this second.
    pub until_unix_s: Option<i64>,
    /// Instead of newest first.
    pub oldest_first: bool,
    /// How many at most.
    pub page_size: usize,
    /// From the page before.
    pub page_token: String,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
    /// What it says; none once it was erased.
    pub leaf: Option<Leaf>,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What was found.
    pub entries: Vec<Entry>,
    /// Where the next page begins; empty at the end of the log.
    pub next_page_token: String,
}

impl Query {
    fn is_met_by(&self, leaf: Option<&Leaf>) -> bool {
        let Some(leaf) = leaf else {
            // Nobody knows any more what it said.
            return !self.asks_for_content();
        };
        self.account.is_none_or(|account| leaf.account_id == account.to_string())
            && leaf.method.starts_with(&self.method)
            && self.outcome.is_none_or(|outcome| leaf.is_ok() == (outcome == Outcome::Allowed))
            && (self.reason.is_empty() || leaf.outcome == self.reason)
            && self.from_unix_s.is_none_or(|from| leaf.unix_s >= from)
            && self.until_unix_s.is_none_or(|until| leaf.unix_s < until)
    }

    fn asks_for_content(&self) -> bool {
        let Self { account, method, outcome, reason, from_unix_s, until_unix_s, .. } = self;
        let texts = !method.is_empty() || !reason.is_empty();
        texts || account.is_some() || outcome.is_some() || from_unix_s.is_some() || until_unix_s.is_some()
    }
}

impl AuditLogs {
    /// The entries that somebody looks for, a page of them.
    pub async fn entries(&self, log: Log, query: &Query) -> Result<Page, Refusal> {
        let position = position(&query.page_token)?;
        let mut open = self.begin().await?;
        let walk = self::walk(&mut open, log.tag(), query, position).await?;
        let (mut entries, mut rest) = (Vec::new(), walk);
        let mut walked = 0;
        while !rest.is_empty() && walked < MAX_WALKED {
            let chunk = next_chunk(&mut rest, query.oldest_first);
            walked += chunk.end.saturating_sub(chunk.start);
            let mut found = nodes::entries(&mut open, log.tag(), chunk).await?;
            if !query.oldest_first {
                found.reverse();
            }
            for entry in found {
                let number = entry.number;
                let entry = read(log.tag(), entry)?;
                if query.is_met_by(entry.leaf.as_ref()) {
                    entries.push(entry);
                }
                if entries.len() >= query.page_size {
                    let behind =
                        if query.oldest_first { number.saturating_add(1)..rest.end } else { rest.start..number };
                    return Ok(Page { entries, next_page_token: token(&behind, query.oldest_first) });
                }
            }
        }
        Ok(Page { entries, next_page_token: token(&rest, query.oldest_first) })
    }
}

/// The part of the log that is to be walked.
async fn walk(open: &mut Open, org: OrgTag, query: &Query, position: Option<u64>) -> Result<Range<u64>, AuditError> {
    let size = open.next_number(LogKind::Audit, org).await?;
    let mut walk = 0..size;
    if let Some(from) = query.from_unix_s {
        walk.start = first_since(open, org, size, from.saturating_sub(DISORDER_S)).await?;
    }
    if let Some(until) = query.until_unix_s {
        walk.end = first_since(open, org, size, until.saturating_add(DISORDER_S)).await?;
    }
    match position {
        Some(position) if query.oldest_first => walk.start = walk.start.max(position),
        Some(position) => walk.end = walk.end.min(position),
        None => {}
    }
    Ok(walk)
}

/// The first entry from that second on, were they all in the order of their times. Erased ones are older than any other.
async fn first_since(open: &mut Open, org: OrgTag, size: u64, unix_s: i64) -> Result<u64, AuditError> {
    let mut within = 0..size;
    while !within.is_empty() {
        let middle = within.start.midpoint(within.end);
        let found = nodes::entries(open, org, middle..middle.saturating_add(1)).await?;
        let is_since = found.into_iter().next().map(|entry| read(org, entry)).transpose()?;
        let is_since = is_since.and_then(|entry| entry.leaf).is_some_and(|leaf| leaf.unix_s >= unix_s);
        if is_since {
            within.end = middle;
        } else {
            within.start = middle.saturating_add(1);
        }
    }
    Ok(within.start)
}

fn next_chunk(rest: &mut Range<u64>, oldest_first: bool) -> Range<u64> {
    if oldest_first {
        let end = rest.start.saturating_add(CHUNK).min(rest.end);
        std::mem::replace(&mut rest.start, end)..end
    } else {
        let start = rest.end.saturating_sub(CHUNK).max(rest.start);
        start..std::mem::replace(&mut rest.end, start)
    }
}

fn read(org: OrgTag, entry: ErasableEntry) -> Result<Entry, AuditError> {
    let hash = hash_of(org, &entry)?;
    let leaf = entry.content.map(|content| Leaf::decode(content.as_slice())).transpose();
    let leaf = leaf.map_err(|_| AuditError::damaged(org, "an entry cannot be read"))?;
    Ok(Entry { number: entry.number, hash, leaf })
}

/// Where the next page begins, if there is one. It says nothing that its caller has not seen.
pub(crate) fn token(rest: &Range<u64>, oldest_first: bool) -> String {
    if rest.is_empty() {
        return String::new();
    }
    BASE64URL_NOPAD.encode(&(if oldest_first { rest.start } else { rest.end }).to_be_bytes())
}

pub(crate) fn position(page_token: &str) -> Result<Option<u64>, Refusal> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let bytes = BASE64URL_NOPAD.decode(page_token.as_bytes()).ok();
    let number = bytes.and_then(|bytes| bytes.as_slice().try_into().ok()).map(u64::from_be_bytes);
    number.map(Some).ok_or_else(|| Refusal::invalid("page_token", "no page has this token: begin with the first page"))
}
