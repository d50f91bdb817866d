//! The records that a list looks at: a plan turned into key ranges, walked in id order.
//!
//! Candidates are a union of branches; a branch walks its *driver* and thins it out. What drives decides what the work
//! follows, and so what a stopwatch could tell: a scope range drives wherever the caller holds no more than a scope, and
//! its candidates are then looked up one by one in the token indexes. Only where a branch is the whole table may tokens
//! drive, and a token of the caller's own filter only where the rule leaves nothing in the table hidden from him.
//! An index proposes; what is opened decides, in [`crate::list`].

use crate::{
    cursor::{AnyOf, Candidate, Cursor, behind, is_before},
    engine::{EngineError, Order},
    key::{ScopeKind, TableSpace, join, org_scope},
    open::Open,
    rows::token_of_test,
    table::Table,
};
use bytes::Bytes;
use sys_keys::SpaceKeys;
use sys_policy::{Branch, Plan, Span, TokenTest};
use uuid::Uuid;

/// Most ranges that one token test may look into. A test with more values is left to the opened record.
const MAX_RANGES_PER_TEST: usize = 32;

/// All candidates of a list, each once.
#[derive(Debug)]
pub(crate) struct Candidates {
    branches: Vec<Walk>,
    order: Order,
}

/// A branch, and where it stands.
#[derive(Debug)]
struct Walk {
    /// Walked together: an id counts where all of them meet.
    drivers: Vec<Driver>,
    /// An id counts only if each of these holds it.
    probes: Vec<Probe>,
    state: State,
}

/// A stream of ids.
#[derive(Debug)]
enum Driver {
    /// Out of ranges in id order.
    Ranges(AnyOf),
    /// In hand, from the lowest up: a few out of a range in another order.
    Listed(Vec<Uuid>, Order),
}

/// A token test that is asked for single ids: the prefixes of rows of which one must be there.
pub(crate) type Probe = Vec<Bytes>;

#[derive(Debug)]
enum State {
    NotBegun,
    At(Candidate),
    Ended,
}

/// Where ids of a table are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) table: &'a Table,
    pub(crate) at: TableSpace,
    pub(crate) keys: &'a SpaceKeys,
    pub(crate) order: Order,
}

impl Ground<'_> {
    /// What a plan proposes, thinned out by what the caller asks for. `listed` are ids that hold each record which passes the
    /// filter; they drive only where [`Plan::covers_all`].
    pub(crate) fn candidates(&self, plan: &Plan, asked: Vec<Probe>, listed: Option<Vec<Uuid>>) -> Candidates {
        let mut branches: Vec<Walk> = plan.branches.iter().map(|branch| self.walk(branch, &asked)).collect();
        if let Some(listed) = listed.filter(|_| plan.covers_all()) {
            let probes = asked;
            branches = vec![Walk { drivers: vec![Driver::Listed(listed, self.order)], probes, state: State::NotBegun }];
        }
        Candidates { branches, order: self.order }
    }

    /// The ids that a span and all of the tests hold, whatever it takes to find them: for those who see everything.
    pub(crate) fn meeting(&self, span: Span, tests: &[TokenTest]) -> Candidates {
        let mut drivers: Vec<Driver> = self.span(span).into_iter().collect();
        drivers.extend(tests.iter().filter_map(|test| self.prefixes(test)).map(|prefixes| self.any_of(prefixes)));
        if drivers.is_empty() {
            drivers.push(self.whole());
        }
        let branches = vec![Walk { drivers, probes: Vec::new(), state: State::NotBegun }];
        Candidates { branches, order: self.order }
    }

    fn walk(&self, branch: &Branch, asked: &[Probe]) -> Walk {
        let of_rule: Vec<Probe> = branch.tokens.iter().filter_map(|test| self.prefixes(test)).collect();
        let asked = asked.to_vec();
        let (drivers, probes) = match self.span(branch.span) {
            Some(span) => (vec![span], [of_rule, asked].concat()),
            None if !of_rule.is_empty() => (self.all_of(of_rule), asked),
            None if branch.covers_span && !asked.is_empty() => (self.all_of(asked), Vec::new()),
            None => (vec![self.whole()], asked),
        };
        Walk { drivers, probes, state: State::NotBegun }
    }

    /// A scope's range; none if it is the whole table.
    fn span(&self, span: Span) -> Option<Driver> {
        let (kind, scope) = match span {
            Span::Whole => return None,
            Span::Org(org) => (ScopeKind::Org, org_scope(org)),
            Span::Project(project) => (ScopeKind::Project, project.uuid().into_bytes()),
            Span::Owner(owner) => (ScopeKind::Owner, owner.uuid().into_bytes()),
        };
        let generations = self.keys.live().iter();
        Some(self.any_of(generations.map(|keys| self.at.scope(kind, keys.generation(), &scope)).collect()))
    }

    fn whole(&self) -> Driver {
        let cursors = vec![Cursor::over_records(self.at.records(), self.order)];
        Driver::Ranges(AnyOf { cursors, order: self.order })
    }

    fn all_of(&self, tests: Vec<Probe>) -> Vec<Driver> {
        tests.into_iter().map(|prefixes| self.any_of(prefixes)).collect()
    }

    fn any_of(&self, prefixes: Vec<Bytes>) -> Driver {
        let cursors = prefixes.into_iter().map(|prefix| Cursor::over_rows(prefix, self.order)).collect();
        Driver::Ranges(AnyOf { cursors, order: self.order })
    }

    /// What the rows of a test begin with, under each live generation. None if no index answers the test for all its values.
    pub(crate) fn prefixes(&self, test: &TokenTest) -> Option<Probe> {
        let index = self.table.index_of(test.field)?;
        let mut prefixes = Vec::new();
        for keys in self.keys.live() {
            for value in &test.any_of {
                let token = token_of_test(self.at, index, keys, value)?;
                prefixes.push(self.at.token(index.number, keys.generation(), &token));
            }
        }
        (prefixes.len() <= MAX_RANGES_PER_TEST).then_some(prefixes)
    }

    /// The same where one of several tests is enough.
    pub(crate) fn any_prefixes(&self, tests: &[TokenTest]) -> Option<Probe> {
        let of_each = tests.iter().map(|test| self.prefixes(test)).collect::<Option<Vec<Probe>>>()?;
        Some(of_each.concat())
    }
}

impl Candidates {
    /// The first candidate at `from` or behind it. Places must not go back from one seek to the next.
    pub(crate) async fn seek(&mut self, open: &mut Open, from: Uuid) -> Result<Option<Candidate>, EngineError> {
        let mut first: Option<Candidate> = None;
        for branch in &mut self.branches {
            let Some(candidate) = branch.seek(open, from, self.order).await? else { continue };
            if first.as_ref().is_none_or(|first| is_before(self.order, candidate.uuid, first.uuid)) {
                first = Some(candidate.clone());
            }
        }
        Ok(first)
    }
}

impl Walk {
    async fn seek(&mut self, open: &mut Open, from: Uuid, order: Order) -> Result<Option<&Candidate>, EngineError> {
        let stays = match &self.state {
            State::NotBegun => false,
            State::At(candidate) => !is_before(order, candidate.uuid, from),
            State::Ended => true,
        };
        if !stays {
            let found = self.find(open, from, order).await?;
            self.state = found.map_or(State::Ended, State::At);
        }
        match &self.state {
            State::At(candidate) => Ok(Some(candidate)),
            State::NotBegun | State::Ended => Ok(None),
        }
    }

    /// The first id at `from` or behind it that all drivers and probes hold.
    async fn find(&mut self, open: &mut Open, from: Uuid, order: Order) -> Result<Option<Candidate>, EngineError> {
        let mut from = Some(from);
        while let Some(place) = from {
            let Some(candidate) = self.meet(open, place).await? else { return Ok(None) };
            if passes(open, &self.probes, candidate.uuid).await? {
                return Ok(Some(candidate));
            }
            from = behind(order, candidate.uuid);
        }
        Ok(None)
    }

    /// The first id at `from` or behind it that all drivers hold: each is sent to where the last one stands, until a whole
    /// round moves nobody.
    async fn meet(&mut self, open: &mut Open, from: Uuid) -> Result<Option<Candidate>, EngineError> {
        let mut place = from;
        loop {
            let mut round: Option<Candidate> = None;
            let mut moved = false;
            for driver in &mut self.drivers {
                let to = round.as_ref().map_or(place, |candidate| candidate.uuid);
                let Some(candidate) = driver.seek(open, to).await? else { return Ok(None) };
                moved |= round.is_some() && candidate.uuid != to;
                round = Some(candidate);
            }
            match round {
                Some(candidate) if !moved => return Ok(Some(candidate)),
                Some(candidate) => place = candidate.uuid,
                None => return Ok(None),
            }
            // Reads do not wait, so that a long walk would never let the deadline of its call act.
            tokio::task::yield_now().await;
        }
    }
}

impl Driver {
    /// The first id at `from` or behind it.
    async fn seek(&mut self, open: &mut Open, from: Uuid) -> Result<Option<Candidate>, EngineError> {
        match self {
            Self::Ranges(ranges) => ranges.seek(open, from).await,
            Self::Listed(ids, Order::Asc) => {
                let found = ids.get(ids.partition_point(|id| *id < from)..).and_then(<[Uuid]>::first);
                Ok(found.map(|uuid| Candidate { uuid: *uuid, stored: None }))
            }
            Self::Listed(ids, Order::Desc) => {
                let found = ids.get(..ids.partition_point(|id| *id <= from)).and_then(<[Uuid]>::last);
                Ok(found.map(|uuid| Candidate { uuid: *uuid, stored: None }))
            }
        }
    }
}

/// Whether each of the probes holds an id.
pub(crate) async fn passes(open: &mut Open, probes: &[Probe], uuid: Uuid) -> Result<bool, EngineError> {
    for probe in probes {
        let mut held = false;
        for prefix in probe {
            held = held || open.value(&join(prefix.clone(), uuid.as_bytes())).await?.is_some();
        }
        if !held {
            return Ok(false);
        }
    }
    Ok(true)
}
