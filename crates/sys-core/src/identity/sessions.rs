//! Sessions: one login on one device, kept alive by refresh tokens that are each good once.

use super::{
    Identity,
    limits::{MAX_SESSIONS_PER_ACCOUNT, SESSION_IDLE_S, SESSION_LIFE_S},
    rows::{Kept, account_id},
    sign_in::SignedIn,
    turn::{Turn, token_refused},
    wire::Session,
};
use crate::{
    call::Call,
    refusal::Refusal,
    token::{RefreshToken, TOKEN_SECRET_BYTES, TokenSecret},
};
use std::ops::DerefMut;
use sys_contract::id::{AccountId, SessionId};
use sys_store::Open;

impl Identity {
    /// Exchanges a refresh token for the next pair. A genuine token that is not the newest was copied: the session ends, and
    /// that is kept although the call is refused.
    pub async fn refresh(&self, call: &Call, token: &str) -> Result<SignedIn, Refusal> {
        let token = self.0.refresh.parse(token).map_err(|_| token_refused())?;
        let mut turn = self.turn(call).await?;
        let done = turn.refresh_session(self, &token).await;
        if let Ok(signed_in) = &done {
            call.note(|subject| subject.records.push(signed_in.account.record()));
        }
        turn.end(call, done).await
    }

    /// Ends the caller's session.
    pub async fn log_out(&self, call: &Call) -> Result<(), Refusal> {
        let session = call.caller().session().ok_or_else(Refusal::unauthenticated)?;
        let mut turn = self.turn(call).await?;
        let done = turn.end_session(session).await;
        turn.end(call, done).await
    }

    /// The pair of tokens for a session.
    fn signed_in(&self, account: AccountId, token: &RefreshToken, now_unix_s: i64, random: [u8; 16]) -> SignedIn {
        SignedIn {
            account,
            session: token.session,
            access: self.0.access.sign(account, token.session, now_unix_s, random),
            refresh: self.0.refresh.text(token),
        }
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    /// Opens a session, and ends the oldest where there are too many.
    pub(super) async fn open_session(
        &mut self,
        identity: &Identity,
        account: AccountId,
        device_name: &str,
    ) -> Result<SignedIn, Refusal> {
        let mut alive = Vec::new();
        for kept in self.find(Session::ACCOUNT, &account.to_string(), MAX_SESSIONS_PER_ACCOUNT + 1).await? {
            if kept.row.expires_unix_s <= self.now_unix_s {
                self.remove::<Session>(kept.id).await?;
            } else {
                alive.push(kept);
            }
        }
        // By id, which is by time of login.
        let too_many = (alive.len() + 1).saturating_sub(MAX_SESSIONS_PER_ACCOUNT);
        for oldest in alive.iter().take(too_many) {
            self.remove::<Session>(oldest.id).await?;
            self.changes(account);
        }
        let token = RefreshToken {
            session: SessionId::from_record(self.new_id()),
            counter: 1,
            secret: TokenSecret::new(self.random::<TOKEN_SECRET_BYTES>()),
        };
        let row = Session {
            id: String::new(),
            account_id: account.to_string(),
            refresh_counter: token.counter,
            refresh_hash: token.secret.hash().to_vec(),
            device_name: device_name.to_owned(),
            created_unix_s: self.now_unix_s,
            last_used_unix_s: self.now_unix_s,
            expires_unix_s: self.now_unix_s.saturating_add(SESSION_IDLE_S),
        };
        self.insert(token.session.record(), &row).await?;
        Ok(identity.signed_in(account, &token, self.now_unix_s, self.random()))
    }

    pub(super) async fn refresh_session(
        &mut self,
        identity: &Identity,
        shown: &RefreshToken,
    ) -> Result<SignedIn, Refusal> {
        let id = shown.session.record();
        let Some(row) = self.get::<Session>(id).await? else { return Err(token_refused()) };
        let account = account_id(&row.account_id)?;
        let newest = shown.counter == row.refresh_counter && shown.secret.hash().as_slice() == row.refresh_hash;
        if !newest {
            self.end_session(shown.session).await?;
            return Err(token_refused().help("the session was ended; log in again").keep_writes());
        }
        let principal = self.principal(account).await?.ok_or_else(token_refused)?;
        if row.expires_unix_s <= self.now_unix_s || principal.row.disabled || !principal.row.verified {
            return Err(token_refused().help("log in again"));
        }
        let next = RefreshToken {
            session: shown.session,
            counter: shown.counter.saturating_add(1),
            secret: TokenSecret::new(self.random::<TOKEN_SECRET_BYTES>()),
        };
        let idle = self.now_unix_s.saturating_add(SESSION_IDLE_S);
        let row = Session {
            refresh_counter: next.counter,
            refresh_hash: next.secret.hash().to_vec(),
            last_used_unix_s: self.now_unix_s,
            expires_unix_s: idle.min(row.created_unix_s.saturating_add(SESSION_LIFE_S)),
            ..row
        };
        self.replace(&Kept { id, row }).await?;
        Ok(identity.signed_in(account, &next, self.now_unix_s, self.random()))
    }

    /// Ends one session.
    pub(super) async fn end_session(&mut self, session: SessionId) -> Result<(), Refusal> {
        if let Some(row) = self.get::<Session>(session.record()).await? {
            self.remove::<Session>(session.record()).await?;
            let account = account_id(&row.account_id)?;
            self.changes(account);
        }
        Ok(())
    }

    /// Ends all sessions of an account.
    pub(super) async fn end_sessions(&mut self, account: AccountId) -> Result<(), Refusal> {
        self.remove_all(Session::ACCOUNT, &account.to_string()).await?;
        self.changes(account);
        Ok(())
    }
}
