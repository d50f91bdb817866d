//! Registrations whose address nobody has proven: they make way for whoever proves it, and end after a week. What is
//! left is good for the mails of their last day alone.
//!
//! Anybody may register anybody's address, so that such an account says nothing of whose the address is. It has never logged
//! in and holds nothing. What must never happen here: an account that makes way though somebody has proven its address, or was
//! made by an org or by the server's operator.

use super::{
    Email, Identity,
    limits::{UNPROVEN_S, VERIFY_TOKEN_S},
    rows::Kept,
    turn::Turn,
    wire::Principal,
};
use crate::{call::Call, refusal::Refusal};
use std::ops::DerefMut;
use sys_contract::id::AccountId;
use sys_store::Open;

/// Of so many registrations one clears away old ones, of twice as many as there were.
const CALLS_FOR_A_CLEARING: u8 = 8;
const CLEARED_AT_ONCE: usize = 16;

/// Who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// Somebody registered it, who need not be able to read its mail.
    Unproven(AccountId),
    Account,
}

impl Identity {
    /// Removes registrations that have ended and of which no mail is good any more, by one call in some and whatever it is about.
    /// Their records are for the account module to delete.
    pub async fn clear_unproven(&self, call: &Call) -> Result<Vec<AccountId>, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.clear_unproven().await;
        turn.end(call, done).await
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    pub(super) async fn holder(&mut self, email: &Email) -> Result<Holder, Refusal> {
        let found = self.find_one(Principal::EMAIL, email.as_str()).await?;
        Ok(match found {
            None => Holder::Nobody,
            Some(kept) if makes_way(&kept.row) => Holder::Unproven(AccountId::from_record(kept.id)),
            Some(_) => Holder::Account,
        })
    }

    /// Has an unproven registration make way, if that is what has the address: the account that is gone.
    pub(super) async fn make_way(&mut self, holder: Holder) -> Result<Option<AccountId>, Refusal> {
        let Holder::Unproven(account) = holder else { return Ok(None) };
        self.remove_unproven(account).await?;
        Ok(Some(account))
    }

    /// Removes a registration that has ended, for whoever registers its address anew: the account that is gone. What is found
    /// otherwise stays.
    pub(super) async fn end_unproven(
        &mut self,
        found: Option<Kept<Principal>>,
    ) -> Result<(Option<Kept<Principal>>, Option<AccountId>), Refusal> {
        match found {
            Some(kept) if self.has_ended(&kept.row) => {
                let account = AccountId::from_record(kept.id);
                self.remove_unproven(account).await?;
                Ok((None, Some(account)))
            }
            other => Ok((other, None)),
        }
    }

    /// Whether this is a registration that nobody has proven for a week. No mail is sent for it any more, which would be void
    /// before its time.
    pub(super) fn has_ended(&self, row: &Principal) -> bool {
        makes_way(row) && row.created_unix_s.saturating_add(UNPROVEN_S) <= self.now_unix_s
    }

    async fn clear_unproven(&mut self) -> Result<Vec<AccountId>, Refusal> {
        let mut cleared = Vec::new();
        let [drawn] = self.random::<1>();
        if drawn % CALLS_FOR_A_CLEARING != 0 {
            return Ok(cleared);
        }
        // The oldest come first.
        for kept in self.find(Principal::UNPROVEN, true, CLEARED_AT_ONCE).await? {
            // The last mail may have gone out just before the end.
            if kept.row.created_unix_s.saturating_add(UNPROVEN_S + VERIFY_TOKEN_S) > self.now_unix_s {
                break;
            }
            let account = AccountId::from_record(kept.id);
            self.remove_unproven(account).await?;
            cleared.push(account);
        }
        Ok(cleared)
    }

    /// Invitations to its address stay: they are for whoever reads the mail there.
    async fn remove_unproven(&mut self, account: AccountId) -> Result<(), Refusal> {
        self.remove_tokens(account).await?;
        self.end_sessions(account).await?;
        self.remove::<Principal>(account.record()).await
    }
}

/// Whether this is a registration that makes way. One that was shut out keeps its address: else whoever was disabled would
/// register again.
fn makes_way(row: &Principal) -> bool {
    row.unproven && !row.disabled
}
