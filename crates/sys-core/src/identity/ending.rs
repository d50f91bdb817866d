//! The end of all sessions, one-time tokens and invitations, for the operator who has put an older store back: what was ended since it
//! was copied stands there as if it were good.
//!
//! No request leads here; whoever can do this can write the data files, too. What must never happen here: a session that outlives
//! it, or a transaction that grows with the number of accounts.

use super::{
    Identity,
    rows::account_id,
    turn::Turn,
    wire::{Invitation, OneTimeToken, Session},
};
use crate::refusal::Refusal;
use std::sync::Arc;
use sys_keys::Entropy;
use sys_policy::Caller;
use sys_store::Open;

/// Sessions, tokens, and invitations, of one transaction: its audit leaf names them all.
const AT_ONCE: usize = 500;

/// How much was ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Sessions, also such as had run out by themselves.
    pub sessions: usize,
    /// Tokens of mails, and that of the first setup.
    pub tokens: usize,
    /// Invitations: those that were withdrawn or accepted since stand there again, and the token in their mail is as good as a name.
    pub invitations: usize,
}

impl Identity {
    /// Ends the oldest sessions, tokens and invitations that there are, in a transaction of the server itself. None are left where it says that
    /// it ended none.
    pub(crate) async fn danger_end_oldest(&self, open: &mut Open, entropy: &dyn Entropy) -> Result<Ended, Refusal> {
        let mut turn = Turn::new(open, &self.0.tables, Arc::new(Caller::anonymous()), entropy);
        let (sessions, tokens) = (turn.first::<Session>(AT_ONCE).await?, turn.first::<OneTimeToken>(AT_ONCE).await?);
        let invitations = turn.first::<Invitation>(AT_ONCE).await?;
        let ended = Ended { sessions: sessions.len(), tokens: tokens.len(), invitations: invitations.len() };
        for session in sessions {
            turn.changes(account_id(&session.row.account_id)?);
            turn.remove::<Session>(session.id).await?;
        }
        for token in tokens {
            turn.remove::<OneTimeToken>(token.id).await?;
        }
        for invitation in invitations {
            turn.remove::<Invitation>(invitation.id).await?;
        }
        turn.end_as_server().await?;
        Ok(ended)
    }
}
