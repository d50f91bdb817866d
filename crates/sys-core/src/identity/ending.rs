//! The end of all sessions, and of all one-time tokens, for the operator who has put an older store back: what was ended since it
//! was copied stands there as if it were good.
//!
//! No request leads here; whoever can do this can write the data files, too. What must never happen here: a session that outlives
//! it, or a transaction that grows with the number of accounts.

use super::{
    Identity,
    rows::account_id,
    turn::Turn,
    wire::{OneTimeToken, Session},
};
use crate::refusal::Refusal;
use std::sync::Arc;
use sys_keys::Entropy;
use sys_policy::Caller;
use sys_store::Open;

/// Sessions, and tokens, of one transaction: its audit leaf names them all.
const AT_ONCE: usize = 500;

/// How much was ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Sessions, also such as had run out by themselves.
    pub sessions: usize,
    /// Tokens of mails, and that of the first setup.
    pub tokens: usize,
}

impl Identity {
    /// Ends the oldest sessions and tokens that there are, in a transaction of the server itself. None are left where it says that
    /// it ended none.
    pub(crate) async fn danger_end_oldest(&self, open: &mut Open, entropy: &dyn Entropy) -> Result<Ended, Refusal> {
        let mut turn = Turn::new(open, &self.0.tables, Arc::new(Caller::anonymous()), entropy);
        let (sessions, tokens) = (turn.first::<Session>(AT_ONCE).await?, turn.first::<OneTimeToken>(AT_ONCE).await?);
        let ended = Ended { sessions: sessions.len(), tokens: tokens.len() };
        for session in sessions {
            turn.changes(account_id(&session.row.account_id)?);
            turn.remove::<Session>(session.id).await?;
        }
        for token in tokens {
            turn.remove::<OneTimeToken>(token.id).await?;
        }
        turn.end_as_server().await?;
        Ok(ended)
    }
}
