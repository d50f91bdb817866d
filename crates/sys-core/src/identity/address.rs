//! Another address for an account: asked for with a fresh password, confirmed from the new mailbox, told to the old one.
//!
//! The address is what chooses a new password, so that whoever has it has the account. Therefore a token from the mail is good in
//! a session of the account alone: the owner of a mistyped address, who gets the mail, can do nothing with it. What must never
//! happen here: an answer that tells whether an address has an account to somebody who does not read its mail.

use super::{
    Email, Identity,
    limits::CHANGE_EMAIL_TOKEN_S,
    turn::{Turn, token_refused},
    unproven::Holder,
    wire::{OneTimeToken, Purpose},
};
use crate::{
    call::Call,
    refusal::{Reason, Refusal},
    token::TokenSecret,
};
use std::{collections::BTreeSet, ops::DerefMut};
use sys_contract::id::AccountId;
use sys_store::Open;

/// An address that was asked for.
#[derive(Debug)]
pub struct AddressAsked {
    /// The address that the account has.
    pub present: Email,
    /// For the mail to the new one; none if it is another account's that has proven it, which is for its mailbox alone to learn.
    pub token: Option<TokenSecret>,
}

/// An address that was changed.
#[derive(Debug)]
pub struct AddressChanged {
    /// The address that the account had.
    pub before: Email,
    /// The address that it has.
    pub now: Email,
    /// An account that made way, since nobody had proven its address; its record is for the account module to delete.
    pub made_way: Option<AccountId>,
}

impl Identity {
    /// Asks for another address for the caller's account, in place of what was asked for before.
    pub async fn ask_address(&self, call: &Call, new: &Email) -> Result<AddressAsked, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.ask_address(new).await;
        turn.end(call, done).await
    }

    /// The address that a token gives the caller's account. The token is not used up.
    pub async fn asked_address(&self, call: &Call, token: &str) -> Result<Email, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.address_token(token).await;
        turn.end(call, done).await.map(|(_, email)| email)
    }

    /// Gives the caller's account the address of a token. Its other sessions end, and all its tokens: some are on their way to the
    /// address before.
    pub async fn change_address(&self, call: &Call, token: &str) -> Result<AddressChanged, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.change_address(token).await;
        if let Ok(changed) = &done {
            call.proven_by_mail(changed.now.as_str());
        }
        turn.end(call, done).await
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    /// A free address and one that is taken cost the same: one look-up, and the rows of one token, which nobody gets for one that is
    /// taken.
    pub(super) async fn ask_address(&mut self, new: &Email) -> Result<AddressAsked, Refusal> {
        let account = self.account()?;
        let principal = self.known_principal(account).await?;
        for kept in
            self.find(OneTimeToken::ACCOUNT, &account.to_string(), super::one_time::MAX_TOKENS_LOOKED_AT).await?
        {
            if kept.row.purpose() == Purpose::ChangeEmail {
                self.remove::<OneTimeToken>(kept.id).await?;
            }
        }
        let taken = self.holder(new).await? == Holder::Account;
        let row = OneTimeToken {
            purpose: Purpose::ChangeEmail.into(),
            account_id: account.to_string(),
            new_email: new.as_str().to_owned(),
            expires_unix_s: self.now_unix_s.saturating_add(CHANGE_EMAIL_TOKEN_S),
            ..OneTimeToken::default()
        };
        let token = self.store_token(row).await?;
        let present = Email::assume_canonical(principal.row.email);
        Ok(AddressAsked { present, token: Some(token).filter(|_| !taken) })
    }

    /// The address that a token of the caller's account was mailed to.
    async fn address_token(&mut self, token: &str) -> Result<(super::rows::Kept<OneTimeToken>, Email), Refusal> {
        let account = self.account()?;
        let kept = self.find_token(token, Purpose::ChangeEmail).await?;
        if kept.row.account_id != account.to_string() {
            return Err(token_refused());
        }
        let email = Email::assume_canonical(kept.row.new_email.clone());
        Ok((kept, email))
    }

    pub(super) async fn change_address(&mut self, token: &str) -> Result<AddressChanged, Refusal> {
        let account = self.account()?;
        let session = self.caller.session().ok_or_else(Refusal::unauthenticated)?;
        let (_, now) = self.address_token(token).await?;
        let mut principal = self.known_principal(account).await?;
        let holder = self.holder(&now).await?;
        if holder == Holder::Account {
            // Told to who reads the mail there: it was free when the token was made.
            return Err(Refusal::new(Reason::EmailTaken, "the address has an account by now")
                .help("log in with that account, or ask for another address"));
        }
        let made_way = self.make_way(holder).await?;
        let before = Email::assume_canonical(std::mem::replace(&mut principal.row.email, now.as_str().to_owned()));
        self.replace(&principal).await?;
        self.remove_tokens(account).await?;
        // Whoever is sent away later is known by his new address: no invitation to the old one must be left to come back by.
        let orgs: BTreeSet<_> =
            self.bindings_of(account).await?.iter().filter_map(|(_, held)| Some(held.scope?.org())).collect();
        for org in orgs {
            self.withdraw_invitations(org, &before, |_| true).await?;
        }
        self.end_other_sessions(account, session).await?;
        Ok(AddressChanged { before, now, made_way })
    }
}
