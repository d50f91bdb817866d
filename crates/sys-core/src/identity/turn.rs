//! One turn at the rows of Identity: an open transaction, who acts, and when.
//!
//! Everything that Identity does runs through a [`Turn`], so that what a change means for others (their epoch moves, and
//! their cached callers are forgotten) is noted in one place. What must never happen here: a write that changes what an
//! account may do without a call of [`Turn::changes`].

use super::{
    limits::{MAX_BINDINGS_PER_ACCOUNT, MAX_ROWS_AT_ONCE},
    rows::{By, Kept, Row, Wanted},
    scope::Held,
    wire::{Binding, Principal},
};
use crate::{
    call::Call,
    epoch,
    refusal::{Reason, Refusal},
};
use std::{collections::BTreeSet, ops::DerefMut, sync::Arc};
use sys_contract::id::{AccountId, OrgTag, RecordId};
use sys_keys::Entropy;
use sys_policy::Caller;
use sys_store::{Find, Open, Stored, Table, Tables};

/// A turn. `O` is the open transaction, or the guard by which a call lends its own.
pub(super) struct Turn<'a, O> {
    open: O,
    tables: &'a Tables,
    pub(super) caller: Arc<Caller>,
    pub(super) now_unix_s: i64,
    entropy: &'a dyn Entropy,
    changed: BTreeSet<AccountId>,
}

impl<'a, O: DerefMut<Target = Open> + Send> Turn<'a, O> {
    pub(super) fn new(open: O, tables: &'a Tables, caller: Arc<Caller>, entropy: &'a dyn Entropy) -> Self {
        let now_unix_s = open.now().unix_s;
        Self { open, tables, caller, now_unix_s, entropy, changed: BTreeSet::new() }
    }

    /// Ends the turn of a call, and tells it whose identities have changed; also where it was refused, since some refusals
    /// keep their writes.
    pub(super) async fn end<T>(self, call: &Call, done: Result<T, Refusal>) -> Result<T, Refusal> {
        let Self { open, changed, .. } = self;
        // The call's own lock: it cannot be told anything while it is held.
        drop(open);
        for account in changed {
            call.identity_changes(account).await;
        }
        done
    }

    /// Ends a turn of the server itself, which no gate follows.
    pub(super) async fn end_as_server(mut self) -> Result<(), Refusal> {
        for account in std::mem::take(&mut self.changed) {
            epoch::advance(&mut self.open, account).await?;
        }
        Ok(())
    }

    /// Notes that this account's sessions, bindings or standing change.
    pub(super) fn changes(&mut self, account: AccountId) {
        self.changed.insert(account);
    }

    /// The account that acts.
    pub(super) fn account(&self) -> Result<AccountId, Refusal> {
        self.caller.account().ok_or_else(Refusal::unauthenticated)
    }

    pub(super) fn open(&mut self) -> &mut Open {
        &mut self.open
    }

    pub(super) fn entropy(&self) -> &'a dyn Entropy {
        self.entropy
    }

    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// A new id in the global tablespace, where all of this lives.
    pub(super) fn new_id(&self) -> RecordId {
        RecordId::new(OrgTag::GLOBAL, crate::clock::unix_ms(self.open.now()), self.random())
    }

    pub(super) async fn get<M: Row>(&mut self, id: RecordId) -> Result<Option<M>, Refusal> {
        let table = self.table::<M>()?;
        let found = self.open.danger_unruled(&table).get(id).await?;
        found.map(|stored| typed(&stored)).transpose()
    }

    /// The rows that a field finds, in the order of their making.
    pub(super) async fn find<M: Row>(
        &mut self,
        by: By<M>,
        wanted: impl Wanted,
        limit: usize,
    ) -> Result<Vec<Kept<M>>, Refusal> {
        self.find_after(by, wanted, None, limit).await
    }

    /// The same, behind a row.
    pub(super) async fn find_after<M: Row>(
        &mut self,
        by: By<M>,
        wanted: impl Wanted,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<Kept<M>>, Refusal> {
        let mut find = Find::all(OrgTag::GLOBAL).with(by.0, wanted.value()).first(limit);
        find.after = after;
        self.found(&find).await
    }

    /// The first rows of a kind, whatever is in them.
    pub(super) async fn first<M: Row>(&mut self, limit: usize) -> Result<Vec<Kept<M>>, Refusal> {
        self.found(&Find::all(OrgTag::GLOBAL).first(limit)).await
    }

    async fn found<M: Row>(&mut self, find: &Find) -> Result<Vec<Kept<M>>, Refusal> {
        let table = self.table::<M>()?;
        let found = self.open.danger_unruled(&table).find(find).await?;
        found.iter().map(|stored| Ok(Kept { id: stored.id(), row: typed(stored)? })).collect()
    }

    /// The rows that two fields find together. Takes no longer than the rarer of the two has rows, however many the other has.
    pub(super) async fn find_both<M: Row>(
        &mut self,
        (one, wanted): (By<M>, impl Wanted),
        (other, also_wanted): (By<M>, impl Wanted),
        limit: usize,
    ) -> Result<Vec<Kept<M>>, Refusal> {
        let find = Find::all(OrgTag::GLOBAL).with(one.0, wanted.value()).with(other.0, also_wanted.value());
        self.found(&find.first(limit)).await
    }

    /// The first row that a field finds: the only one where it is UNIQUE.
    pub(super) async fn find_one<M: Row>(
        &mut self,
        by: By<M>,
        wanted: impl Wanted,
    ) -> Result<Option<Kept<M>>, Refusal> {
        Ok(self.find(by, wanted, 1).await?.pop())
    }

    pub(super) async fn insert<M: Row>(&mut self, id: RecordId, row: &M) -> Result<(), Refusal> {
        let table = self.table::<M>()?;
        let mut new = table.empty_record();
        new.transcode_from(row).map_err(Refusal::internal)?;
        self.open.danger_unruled(&table).create_as(id, new).await?;
        Ok(())
    }

    pub(super) async fn replace<M: Row>(&mut self, kept: &Kept<M>) -> Result<(), Refusal> {
        let table = self.table::<M>()?;
        let mut next = table.empty_record();
        next.transcode_from(&kept.row).map_err(Refusal::internal)?;
        self.open.danger_unruled(&table).update(kept.id, next).await?;
        Ok(())
    }

    pub(super) async fn remove<M: Row>(&mut self, id: RecordId) -> Result<(), Refusal> {
        let table = self.table::<M>()?;
        self.open.danger_unruled(&table).delete(id).await?;
        Ok(())
    }

    /// Removes each row that a field finds, and returns them. More than can be removed at once is refused.
    pub(super) async fn remove_all<M: Row>(&mut self, by: By<M>, wanted: impl Wanted) -> Result<Vec<Kept<M>>, Refusal> {
        let found = self.find(by, wanted, MAX_ROWS_AT_ONCE + 1).await?;
        if found.len() > MAX_ROWS_AT_ONCE {
            return Err(Refusal::new(Reason::TooMany, "there is more to remove than one call can")
                .help("remove members, invitations or projects first"));
        }
        for kept in &found {
            self.remove::<M>(kept.id).await?;
        }
        Ok(found)
    }

    /// The principal of an account.
    pub(super) async fn principal(&mut self, account: AccountId) -> Result<Option<Kept<Principal>>, Refusal> {
        let id = account.record();
        Ok(self.get::<Principal>(id).await?.map(|row| Kept { id, row }))
    }

    /// The principal of an account that somebody may act on: one that is not there is not found.
    pub(super) async fn known_principal(&mut self, account: AccountId) -> Result<Kept<Principal>, Refusal> {
        self.principal(account).await?.ok_or_else(Refusal::not_found)
    }

    /// All that an account holds, whether it counts or not.
    pub(super) async fn bindings_of(&mut self, account: AccountId) -> Result<Vec<(Kept<Binding>, Held)>, Refusal> {
        let rows = self.find(Binding::ACCOUNT, &account.to_string(), MAX_BINDINGS_PER_ACCOUNT).await?;
        rows.into_iter().map(|kept| kept.row.held().map(|held| (kept, held))).collect()
    }

    fn table<M: Row>(&self) -> Result<Arc<Table>, Refusal> {
        let table = self.tables.by_name(&M::full_name());
        table.cloned().ok_or_else(|| Refusal::internal("a row of Identity has no table"))
    }
}

fn typed<M: Row>(stored: &Stored) -> Result<M, Refusal> {
    stored.message().transcode_to().map_err(Refusal::internal)
}

/// A token, link or session that is not good, or no longer: nothing more is said.
pub(super) fn token_refused() -> Refusal {
    Refusal::new(Reason::TokenRefused, "the token is not valid, or no longer").help("ask for a new one")
}
