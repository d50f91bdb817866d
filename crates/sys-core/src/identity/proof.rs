//! Showing one's password again: to prove that it is still oneself, and to choose another.
//!
//! A token may be stolen; a password is asked for again before what must not be done with a token alone (`step_up` in the
//! contract of a method). What must never happen here: a session that counts as proven without the password of its account.

use super::{
    Identity,
    rows::Kept,
    sessions::text_of,
    turn::Turn,
    wire::{Principal, Session},
};
use crate::{
    call::Call,
    countries::Country,
    identity::Email,
    password::{Asks, Password, StoredPassword},
    refusal::{Reason, Refusal},
};
use std::ops::DerefMut;
use sys_contract::id::AccountId;
use sys_policy::FRESH_PROOF_S;
use sys_store::Open;

impl Identity {
    /// Proves that the caller is still he who logged in. Returns when the proof is old, in Unix seconds.
    pub async fn step_up(&self, call: &Call, password: Password) -> Result<i64, Refusal> {
        let principal = self.shown(call, password).await?;
        let country = self.0.countries.of(call.source());
        let mut turn = self.turn(call).await?;
        let done = turn.prove_session(AccountId::from_record(principal.id), country).await;
        turn.end(call, done).await
    }

    /// Chooses another password, as somebody who knows the present one. All other sessions of the account end, and so do the
    /// tokens that are on their way to its mailbox.
    pub async fn change_password(&self, call: &Call, present: Password, next: Password) -> Result<Email, Refusal> {
        let principal = self.shown(call, present).await?;
        let next = self.0.passwords.hash(next).await?;
        let country = self.0.countries.of(call.source());
        let mut turn = self.turn(call).await?;
        let done = turn.change_password(principal, &next, country).await;
        turn.end(call, done).await
    }

    /// The caller's principal, if this is its password. Guesses count with those at login: a stolen token does not give more
    /// of them. The principal is read in the call's transaction, so that a password that is changed meanwhile conflicts.
    async fn shown(&self, call: &Call, password: Password) -> Result<Kept<Principal>, Refusal> {
        let mut turn = self.turn(call).await?;
        let found = turn.own_principal().await;
        // Not held while the password is hashed.
        let principal = turn.end(call, found).await?;
        call.throttle_sign_in(&principal.row.email)?;
        let attempt = call.guess(&principal.row.email)?;
        let stored = Some(principal.row.password_phc.clone()).filter(|phc| !phc.is_empty());
        let right = self.0.passwords.verify(password, stored.map(StoredPassword::from_phc), Asks::Known).await;
        let right = right.inspect_err(|_| call.not_guessed(&attempt))?;
        if !right || (principal.row.loopback_only_password && !call.source_is_loopback()) {
            return Err(Refusal::new(Reason::PasswordRefused, "the password is wrong")
                .help("ask for a new password if you forgot yours: `sys auth forgot-password`"));
        }
        call.guessed_right(&attempt);
        Ok(principal)
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    async fn own_principal(&mut self) -> Result<Kept<Principal>, Refusal> {
        let account = self.account()?;
        self.principal(account).await?.ok_or_else(Refusal::token_refused)
    }

    /// Notes that the password was shown in the caller's session, now.
    pub(super) async fn prove_session(&mut self, account: AccountId, country: Option<Country>) -> Result<i64, Refusal> {
        let id = self.caller.session().ok_or_else(Refusal::unauthenticated)?.record();
        let row = self.get::<Session>(id).await?.ok_or_else(Refusal::token_refused)?;
        let now = self.now_unix_s;
        let row = Session { proven_unix_s: now, last_used_unix_s: now, country: text_of(country), ..row };
        self.replace(&Kept { id, row }).await?;
        // Who is cached has not shown it.
        self.changes(account);
        Ok(now.saturating_add(FRESH_PROOF_S))
    }

    pub(super) async fn change_password(
        &mut self,
        mut principal: Kept<Principal>,
        next: &StoredPassword,
        country: Option<Country>,
    ) -> Result<Email, Refusal> {
        let account = AccountId::from_record(principal.id);
        let session = self.caller.session().ok_or_else(Refusal::unauthenticated)?;
        next.phc().clone_into(&mut principal.row.password_phc);
        principal.row.loopback_only_password = false;
        self.replace(&principal).await?;
        self.remove_tokens(account).await?;
        self.end_other_sessions(account, session).await?;
        self.prove_session(account, country).await?;
        Ok(Email::assume_canonical(principal.row.email))
    }
}
