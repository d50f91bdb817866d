//! Accounts made for others, shut out, let back in, and deleted.
//!
//! An account belongs to its person. Only the org that made one, and manages it, may do more to it than take away what it
//! gave; a superadmin may shut an account out and nothing else.

use super::{
    Email, Identity,
    limits::VERIFY_TOKEN_S,
    rows::{Kept, SYSTEM},
    scope::{Scope, administers, is_superadmin},
    turn::Turn,
    unproven::Holder,
    wire::{Binding, Invitation, Principal, Purpose},
};
use crate::{
    call::Call,
    password::{Password, StoredPassword},
    refusal::{Reason, Refusal},
    token::TokenSecret,
};
use std::ops::DerefMut;
use sys_contract::id::{AccountId, OrgId};
use sys_store::Open;

/// An account that was made for somebody.
#[derive(Debug)]
pub struct Created {
    /// The account; its record is for the account module to make.
    pub account: AccountId,
    /// Whether the org that manages it vouches for the address.
    pub verified: bool,
    /// For the mail by which its person chooses a password, where none was given.
    pub token: Option<TokenSecret>,
    /// An account that made way, since nobody had proven its address; its record is for the account module to delete.
    pub made_way: Option<AccountId>,
}

impl Identity {
    /// Makes an account for somebody: as an admin of the org that will manage it, or as superadmin one that belongs to its
    /// person, who then chooses the password himself.
    pub async fn create_account(
        &self,
        call: &Call,
        email: &Email,
        managed_by: Option<OrgId>,
        password: Option<Password>,
    ) -> Result<Created, Refusal> {
        let now_unix_s = call.now().unix_s;
        match managed_by {
            Some(org) => {
                administers(call.caller(), &Scope::Org(org), now_unix_s)?;
            }
            None if !is_superadmin(call.caller(), now_unix_s) => return Err(Refusal::method_refused()),
            None if password.is_some() => {
                return Err(Refusal::invalid(
                    "password",
                    "an account that no org manages gets its password from its person",
                ));
            }
            None => {}
        }
        let password = match password {
            Some(password) => Some(self.0.passwords.hash(password).await?),
            None => None,
        };
        let mut turn = self.turn(call).await?;
        let done = turn.create_account(email, managed_by, password).await;
        turn.end(call, done).await
    }

    /// Shuts an account out: it holds nothing from its next request on, and its sessions and tokens are gone.
    pub async fn disable(&self, call: &Call, account: AccountId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.set_disabled(account, true).await;
        turn.end(call, done).await
    }

    /// Lets a disabled account log in again. What it held is as it was.
    pub async fn enable(&self, call: &Call, account: AccountId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.set_disabled(account, false).await;
        turn.end(call, done).await
    }

    /// Deletes an account with all that hangs on it: one's own, or as an admin one that the org manages.
    pub async fn remove(&self, call: &Call, account: AccountId) -> Result<(), Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.remove_account(account).await;
        turn.end(call, done).await
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    async fn create_account(
        &mut self,
        email: &Email,
        managed_by: Option<OrgId>,
        password: Option<StoredPassword>,
    ) -> Result<Created, Refusal> {
        let holder = self.holder(email).await?;
        if holder == Holder::Account {
            return Err(Refusal::new(Reason::EmailTaken, "the address has an account")
                .help("invite its owner into the org instead"));
        }
        let made_way = self.make_way(holder).await?;
        let verified = managed_by.is_some();
        let row = Principal {
            email: email.as_str().to_owned(),
            password_phc: password.as_ref().map(|password| password.phc().to_owned()).unwrap_or_default(),
            verified,
            managed_by_org_id: managed_by.map(|org| org.to_string()).unwrap_or_default(),
            ..Principal::default()
        };
        let account = self.add_principal(row).await?;
        let token = match password {
            Some(_) => None,
            None => self.issue(account, Purpose::Reset, VERIFY_TOKEN_S, None).await?,
        };
        Ok(Created { account, verified, token, made_way })
    }

    pub(super) async fn set_disabled(&mut self, account: AccountId, disabled: bool) -> Result<(), Refusal> {
        let mut principal = self.known_principal(account).await?;
        if !is_superadmin(&self.caller, self.now_unix_s) {
            self.require_manager(&principal)?;
        }
        if self.account()? == account {
            return Err(Refusal::new(Reason::OwnAccount, "you may not do this to your own account")
                .help("ask another admin, or delete the account"));
        }
        principal.row.disabled = disabled;
        if disabled {
            // It keeps its address for good: else whoever is shut out would register it again.
            principal.row.unproven = false;
        }
        self.replace(&principal).await?;
        if disabled {
            self.remove_tokens(account).await?;
            self.end_sessions(account).await?;
        }
        self.changes(account);
        Ok(())
    }

    pub(super) async fn remove_account(&mut self, account: AccountId) -> Result<(), Refusal> {
        let principal = self.known_principal(account).await?;
        if self.account()? != account {
            self.require_manager(&principal)?;
        }
        for (kept, held) in self.bindings_of(account).await? {
            if held.stays() && !kept.row.heads.is_empty() {
                self.require_other_head(&kept.row.heads, account).await?;
            }
            self.remove::<Binding>(kept.id).await?;
        }
        self.remove_all(Invitation::EMAIL, &principal.row.email).await?;
        self.remove_all(Invitation::INVITED_BY, &account.to_string()).await?;
        self.remove_tokens(account).await?;
        self.end_sessions(account).await?;
        self.remove::<Principal>(principal.id).await
    }

    /// Refuses whoever is not an admin of the org that manages an account.
    fn require_manager(&self, principal: &Kept<Principal>) -> Result<(), Refusal> {
        let managed_by = &principal.row.managed_by_org_id;
        if managed_by.is_empty() {
            return Err(Refusal::permission_denied().help("the account belongs to its person, not to an org"));
        }
        let org = managed_by.parse().map_err(Refusal::internal)?;
        administers(&self.caller, &Scope::Org(org), self.now_unix_s).map(|_| ())
    }

    /// Refuses to let go of the last admin of an org, or the last superadmin: somebody other than `account` must hold the
    /// place, not for a time only, with an account that can log in. All that this looks at is part of what the transaction
    /// has read, so that of two admins who remove each other at once one conflicts.
    pub(super) async fn require_other_head(&mut self, heads: &str, account: AccountId) -> Result<(), Refusal> {
        for kept in self.find(Binding::HEADS, heads, super::limits::MAX_HEADS_LOOKED_AT).await? {
            let held = kept.row.held()?;
            if held.account == account || !held.stays() {
                continue;
            }
            let principal = self.principal(held.account).await?;
            if principal.is_some_and(|principal| principal.row.verified && !principal.row.disabled) {
                return Ok(());
            }
        }
        if heads == SYSTEM {
            return Err(Refusal::new(Reason::LastSuperadmin, "the last superadmin stays"));
        }
        Err(Refusal::new(Reason::LastAdmin, "the last admin of an org stays")
            .help("make somebody else an admin first, without an end, or close the org"))
    }
}
