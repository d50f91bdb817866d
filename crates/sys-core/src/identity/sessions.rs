//! Sessions: one login on one device, kept alive by refresh tokens that are each good once.

use super::{
    Identity,
    limits::{MAX_ROWS_AT_ONCE, MAX_SESSIONS_PER_ACCOUNT, SESSION_IDLE_S, SESSION_LIFE_S},
    rows::{Kept, account_id},
    sign_in::SignedIn,
    turn::{Turn, token_refused},
    wire::Session,
};
use crate::{
    call::Call,
    countries::Country,
    refusal::Refusal,
    token::{CertificateHash, RefreshToken, TOKEN_SECRET_BYTES, TokenSecret},
};
use std::ops::DerefMut;
use sys_contract::id::{AccountId, SessionId};
use sys_store::Open;

/// Where a session is begun.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Device<'a> {
    /// What its person calls it.
    pub(super) name: &'a str,
    pub(super) country: Option<Country>,
    /// The certificate of its connection, to which the session is bound from its first token on.
    pub(super) certificate: Option<CertificateHash>,
}

/// A session as its account sees it. No token, and no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSeen {
    /// The session.
    pub id: SessionId,
    /// What its person called the device that it was begun on.
    pub device_name: String,
    /// Where it was last used from: two letters (ISO 3166-1), empty where that is not known.
    pub country: String,
    /// When it was begun.
    pub created_unix_s: i64,
    /// When it was last begun, refreshed or proven again: at most ten minutes before its last call.
    pub last_used_unix_s: i64,
    /// When it ends by itself, unless it is used before.
    pub expires_unix_s: i64,
    /// Its tokens are good with the key of its device alone.
    pub is_bound: bool,
}

impl From<Kept<Session>> for SessionSeen {
    fn from(kept: Kept<Session>) -> Self {
        let is_bound = !kept.row.certificate_hash.is_empty();
        let Session { device_name, country, created_unix_s, last_used_unix_s, expires_unix_s, .. } = kept.row;
        let id = SessionId::from_record(kept.id);
        Self { id, device_name, country, created_unix_s, last_used_unix_s, expires_unix_s, is_bound }
    }
}

impl Identity {
    /// The caller's sessions, newest first.
    pub async fn sessions(&self, call: &Call) -> Result<Vec<SessionSeen>, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.own_sessions().await;
        turn.end(call, done).await
    }

    /// Ends one of the caller's sessions. One that is another's is not there.
    pub async fn revoke_session(&self, call: &Call, session: SessionId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.revoke_session(session).await;
        turn.end(call, done).await
    }

    /// Ends all of the caller's sessions; without `keep_current`, the one of this call, too.
    pub async fn revoke_sessions(&self, call: &Call, keep_current: bool) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.revoke_sessions(keep_current).await;
        turn.end(call, done).await
    }

    /// Exchanges a refresh token for the next pair. A genuine token that is not the newest was copied: the session ends, and
    /// that is kept although the call is refused. A token of a session that is bound to another certificate than that of the
    /// connection was copied, too; but whoever has no key must not end the session of who has it.
    pub async fn refresh(&self, call: &Call, token: &str) -> Result<SignedIn, Refusal> {
        let token = self.0.refresh.parse(token).map_err(|_| token_refused())?;
        // Whoever holds a token that was good once can show it again and again. A stranger's guess costs one hash, above.
        // Beside the session its certificate: who has not got the one that it is bound to slows nobody down who has.
        let shown = call.certificate().map(|certificate| certificate.thumbprint()).unwrap_or_default();
        call.throttle_sign_in(&format!("{} {shown}", token.session))?;
        let country = self.0.countries.of(call.source());
        let mut turn = self.turn(call).await?;
        let may_hold = |row: &Session| {
            let account = account_id(&row.account_id)?;
            call.note(|subject| subject.records.push(account.record()));
            call.shows(row.bound_to()?).map_err(|_| token_refused().help("log in again"))
        };
        let done = turn.refresh_session(self, &token, country, may_hold).await;
        if let Ok(signed_in) = &done
            && let Some(principal) = turn.principal(signed_in.account).await?
        {
            call.visited(&principal.row.email);
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
    fn signed_in(
        &self,
        account: AccountId,
        token: &RefreshToken,
        bound_to: Option<CertificateHash>,
        ends_unix_s: i64,
        now_unix_s: i64,
        random: [u8; 16],
    ) -> SignedIn {
        SignedIn {
            account,
            session: token.session,
            access: self.0.access.sign(account, token.session, bound_to, ends_unix_s, now_unix_s, random),
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
        device: Device<'_>,
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
            device_name: device.name.to_owned(),
            created_unix_s: self.now_unix_s,
            last_used_unix_s: self.now_unix_s,
            expires_unix_s: self.now_unix_s.saturating_add(SESSION_IDLE_S),
            country: text_of(device.country),
            // Nobody begins a session but with a password.
            proven_unix_s: self.now_unix_s,
            certificate_hash: device.certificate.map_or_else(Vec::new, |certificate| certificate.0.to_vec()),
        };
        self.insert(token.session.record(), &row).await?;
        let (bound_to, ends_unix_s) = (device.certificate, row.expires_unix_s);
        Ok(identity.signed_in(account, &token, bound_to, ends_unix_s, self.now_unix_s, self.random()))
    }

    pub(super) async fn refresh_session(
        &mut self,
        identity: &Identity,
        shown: &RefreshToken,
        country: Option<Country>,
        may_hold: impl Fn(&Session) -> Result<(), Refusal>,
    ) -> Result<SignedIn, Refusal> {
        let id = shown.session.record();
        let Some(row) = self.get::<Session>(id).await? else { return Err(token_refused()) };
        // First of all: to who has no key, an old token is not even that.
        may_hold(&row)?;
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
            country: text_of(country),
            ..row
        };
        let (bound_to, ends_unix_s) = (row.bound_to()?, row.expires_unix_s);
        self.replace(&Kept { id, row }).await?;
        Ok(identity.signed_in(account, &next, bound_to, ends_unix_s, self.now_unix_s, self.random()))
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

    async fn own_sessions(&mut self) -> Result<Vec<SessionSeen>, Refusal> {
        let account = self.account()?;
        let found = self.find(Session::ACCOUNT, &account.to_string(), MAX_SESSIONS_PER_ACCOUNT).await?;
        let alive = found.into_iter().filter(|kept| kept.row.expires_unix_s > self.now_unix_s);
        Ok(alive.rev().map(SessionSeen::from).collect())
    }

    pub(super) async fn revoke_session(&mut self, session: SessionId) -> Result<(), Refusal> {
        let account = self.account()?;
        let row = self.get::<Session>(session.record()).await?;
        row.filter(|row| row.account_id == account.to_string()).ok_or_else(Refusal::not_found)?;
        self.end_session(session).await
    }

    pub(super) async fn revoke_sessions(&mut self, keep_current: bool) -> Result<(), Refusal> {
        let account = self.account()?;
        if !keep_current {
            return self.end_sessions(account).await;
        }
        let current = self.caller.session().ok_or_else(Refusal::unauthenticated)?;
        self.end_other_sessions(account, current).await
    }

    /// Ends all sessions of an account but one.
    pub(super) async fn end_other_sessions(&mut self, account: AccountId, kept: SessionId) -> Result<(), Refusal> {
        for other in self.find(Session::ACCOUNT, &account.to_string(), MAX_ROWS_AT_ONCE).await? {
            if other.id != kept.record() {
                self.remove::<Session>(other.id).await?;
            }
        }
        self.changes(account);
        Ok(())
    }

    /// Ends all sessions of an account.
    pub(super) async fn end_sessions(&mut self, account: AccountId) -> Result<(), Refusal> {
        self.remove_all(Session::ACCOUNT, &account.to_string()).await?;
        self.changes(account);
        Ok(())
    }
}

/// As it stands in a row.
pub(super) fn text_of(country: Option<Country>) -> String {
    country.map(|country| country.to_string()).unwrap_or_default()
}
