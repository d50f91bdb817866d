//! Proving who one is: registration, login, forgotten passwords, the first superadmin.
//!
//! Whether an address has an account shows nowhere: every way through costs one password hash or the rows of one token, and
//! ends in the same answer. What is left is an account's own rows, which a first registration writes beside its hash of some
//! 17 ms. A password is verified before anything else is said of its account.

use super::{
    Email, Identity,
    limits::{RESET_TOKEN_S, SETUP_TOKEN_S, VERIFY_TOKEN_S},
    one_time::Chosen,
    rows::{Kept, SYSTEM, account_id},
    scope::Held,
    sessions::Device,
    turn::Turn,
    unproven::Holder,
    wire::{Binding, OneTimeToken, Principal, Purpose},
};
use crate::{
    call::Call,
    password::{Asks, Password, StoredPassword},
    refusal::{Reason, Refusal},
    token::{SignedToken, TokenSecret},
};
use std::{fmt, ops::DerefMut, sync::Arc};
use sys_contract::{
    id::{AccountId, SessionId},
    model::Role,
};
use sys_keys::Entropy;
use sys_policy::Caller;
use sys_store::Open;
use zeroize::Zeroizing;

/// Somebody who has logged in, with what his client gets.
#[derive(Clone)]
pub struct SignedIn {
    /// Who.
    pub account: AccountId,
    /// His session.
    pub session: SessionId,
    /// For the next minutes.
    pub access: SignedToken,
    /// For the next pair.
    pub refresh: Zeroizing<String>,
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn")
            .field("account", &self.account)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What became of a registration. The caller of the method learns none of it; the owner of the address does, by mail.
#[derive(Debug)]
pub enum Registered {
    /// A new account that waits for its address to be proven.
    New {
        /// The account; its record is for the account module to make.
        account: AccountId,
        /// For the mail.
        token: TokenSecret,
        /// The older registration of the address that had ended; its record is for the account module to delete.
        made_way: Option<AccountId>,
    },
    /// An account that waits already. Without a token, enough of them are on their way.
    Waiting {
        /// For the mail.
        token: Option<TokenSecret>,
    },
    /// The address has an account.
    Taken,
}

/// A password that was chosen in place of a forgotten one.
#[derive(Debug)]
pub struct Reset {
    /// Whose.
    pub account: AccountId,
    /// Its address.
    pub email: Email,
    /// Whether nobody had proven the address before: what else was said at its registration, anybody may have said.
    pub was_unproven: bool,
}

/// What an account knows of itself.
#[derive(Debug, Clone)]
pub struct Who {
    /// Its address.
    pub email: Email,
    /// Whether the address is proven.
    pub verified: bool,
    /// All that it holds now.
    pub held: Vec<Held>,
}

impl Identity {
    /// Registers an account for an address, unless it has one. Password and name count once the address is proven: of several who
    /// registered it, those of the one who has the mailbox.
    pub async fn register(
        &self,
        call: &Call,
        email: &Email,
        password: Password,
        display_name: &str,
    ) -> Result<Registered, Refusal> {
        let password = self.0.passwords.hash(password).await?;
        let mut turn = self.turn(call).await?;
        let done = turn.register(email, Chosen { password: &password, display_name }).await;
        turn.end(call, done).await
    }

    /// Proves an address: the token shows the mailbox, the password that it was the same person who registered.
    /// Returns the account, and the name that was chosen with this token's registration.
    pub async fn verify_email(
        &self,
        call: &Call,
        token: &str,
        password: Password,
    ) -> Result<(AccountId, String), Refusal> {
        let mut turn = self.turn(call).await?;
        let found = turn.find_token(token, Purpose::Verify).await;
        let found = turn.end(call, found).await?;
        throttle_token(call, &found)?;
        let stored = StoredPassword::from_phc(found.row.password_phc.clone());
        if !self.0.passwords.verify(password, Some(stored), Asks::Stranger).await? {
            return Err(wrong_password_of_registration());
        }
        let mut turn = self.turn(call).await?;
        let done = turn.prove(&found).await;
        turn.end(call, done).await
    }

    /// Logs in. The refusal is the same for an unknown address, a wrong password, a disabled account, and a password that is
    /// good on this machine alone; only who knows the password learns that the address is still to be proven.
    pub async fn log_in(
        &self,
        call: &Call,
        email: &Email,
        password: Password,
        device_name: &str,
    ) -> Result<SignedIn, Refusal> {
        let attempt = call.guess(email.as_str())?;
        let mut turn = self.turn(call).await?;
        let found = turn.find_one(Principal::EMAIL, email.as_str()).await;
        // Not held while the password is hashed.
        let found = turn.end(call, found).await?;
        if let Some(principal) = &found {
            // The audit leaf names the account that somebody knocks at, let in or not.
            call.note(|subject| subject.records.push(principal.id));
        }
        let stored = found.as_ref().map(|kept| kept.row.password_phc.clone()).filter(|phc| !phc.is_empty());
        let asks = if attempt.is_known { Asks::Known } else { Asks::Stranger };
        let right = self.0.passwords.verify(password, stored.map(StoredPassword::from_phc), asks).await;
        let right = right.inspect_err(|_| call.not_guessed(&attempt))?;
        let Some(principal) = found.filter(|_| right) else { return Err(login_refused()) };
        let loopback_only = principal.row.loopback_only_password && !call.source_is_loopback();
        // Anybody may register another's address with a password of his own: another answer for an address that waits for its
        // proof would tell him whether it had an account before.
        if principal.row.disabled || !principal.row.verified || loopback_only {
            return Err(login_refused());
        }
        call.guessed_right(&attempt);
        let mut turn = self.turn(call).await?;
        let device = self.device(call, device_name);
        let done = turn.open_session(self, AccountId::from_record(principal.id), device).await;
        turn.end(call, done).await
    }

    /// Where this call begins a session.
    fn device<'a>(&self, call: &Call, name: &'a str) -> Device<'a> {
        Device { name, country: self.0.countries.of(call.source()), certificate: call.certificate() }
    }

    /// Makes a token by which a new password can be chosen; none if the address has no account that may log in, or enough of
    /// them are on their way. Nobody but the owner of the mailbox may learn which.
    pub async fn forget_password(&self, call: &Call, email: &Email) -> Result<Option<TokenSecret>, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.forget_password(email).await;
        turn.end(call, done).await
    }

    /// Chooses a new password, which proves the address, too. All sessions and other tokens of the account end.
    pub async fn reset_password(&self, call: &Call, token: &str, password: Password) -> Result<Reset, Refusal> {
        let mut turn = self.turn(call).await?;
        let found = turn.find_token(token, Purpose::Reset).await;
        let found = turn.end(call, found).await?;
        throttle_token(call, &found)?;
        let password = self.0.passwords.hash(password).await?;
        let mut turn = self.turn(call).await?;
        let done = turn.reset_password(&found, &password).await;
        if let Ok(reset) = &done {
            call.proven_by_mail(reset.email.as_str());
        }
        turn.end(call, done).await
    }

    /// Makes the first superadmin and logs him in. Beside it: the account whose unproven registration made way.
    pub async fn set_up(
        &self,
        call: &Call,
        token: &str,
        email: &Email,
        password: Password,
        device_name: &str,
    ) -> Result<(SignedIn, Option<AccountId>), Refusal> {
        let mut turn = self.turn(call).await?;
        let found = turn.find_token(token, Purpose::Setup).await;
        let found = turn.end(call, found).await?;
        throttle_token(call, &found)?;
        let password = self.0.passwords.hash(password).await?;
        let device = self.device(call, device_name);
        let mut turn = self.turn(call).await?;
        let done = turn.set_up(self, email, &password, device).await;
        turn.end(call, done).await
    }

    /// The caller as his account sees itself.
    pub async fn who_am_i(&self, call: &Call) -> Result<Who, Refusal> {
        let mut turn = self.turn(call).await?;
        let done = turn.who_am_i().await;
        turn.end(call, done).await
    }

    /// Makes a new setup token in place of older ones, unless there is a superadmin. For the server's start: whoever reads
    /// its output becomes superadmin with it.
    pub async fn danger_new_setup_token(
        &self,
        open: &mut Open,
        entropy: &dyn Entropy,
    ) -> Result<Option<TokenSecret>, Refusal> {
        let mut turn = Turn::new(open, &self.0.tables, Arc::new(Caller::anonymous()), entropy);
        if turn.find_one(Binding::HEADS, SYSTEM).await?.is_some() {
            return Ok(None);
        }
        let token = turn.issue_setup(SETUP_TOKEN_S).await?;
        turn.end_as_server().await?;
        Ok(Some(token))
    }
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    pub(super) async fn register(&mut self, email: &Email, chosen: Chosen<'_>) -> Result<Registered, Refusal> {
        self.clear_nobodys_tokens().await?;
        let found = self.find_one(Principal::EMAIL, email.as_str()).await?;
        let (found, made_way) = self.end_unproven(found).await?;
        let Some(principal) = found else {
            let row = Principal {
                email: email.as_str().to_owned(),
                password_phc: chosen.password.phc().to_owned(),
                unproven: true,
                ..Principal::default()
            };
            let account = self.add_principal(row).await?;
            let token = self.issue(account, Purpose::Verify, VERIFY_TOKEN_S, Some(chosen)).await?;
            let token = token.ok_or_else(|| Refusal::internal("a new account has tokens"))?;
            return Ok(Registered::New { account, token, made_way });
        };
        if principal.row.verified || principal.row.disabled {
            self.issue_to_nobody(email, VERIFY_TOKEN_S).await?;
            return Ok(Registered::Taken);
        }
        let account = AccountId::from_record(principal.id);
        let token = self.issue(account, Purpose::Verify, VERIFY_TOKEN_S, Some(chosen)).await?;
        Ok(Registered::Waiting { token })
    }

    /// Stores a principal under a new id, which is the account's.
    pub(super) async fn add_principal(&mut self, row: Principal) -> Result<AccountId, Refusal> {
        let account = AccountId::from_record(self.new_id());
        self.insert(account.record(), &Principal { created_unix_s: self.now_unix_s, ..row }).await?;
        self.changes(account);
        Ok(account)
    }

    /// Uses up a token that proves an address, whose password was right.
    pub(super) async fn prove(&mut self, token: &Kept<OneTimeToken>) -> Result<(AccountId, String), Refusal> {
        let account = account_id(&token.row.account_id)?;
        let mut principal = self.principal(account).await?.ok_or_else(super::turn::token_refused)?;
        if principal.row.disabled || principal.row.verified {
            return Err(super::turn::token_refused());
        }
        principal.row.verified = true;
        principal.row.unproven = false;
        principal.row.password_phc.clone_from(&token.row.password_phc);
        self.replace(&principal).await?;
        self.remove_tokens(account).await?;
        self.changes(account);
        Ok((account, token.row.display_name.clone()))
    }

    pub(super) async fn forget_password(&mut self, email: &Email) -> Result<Option<TokenSecret>, Refusal> {
        self.clear_nobodys_tokens().await?;
        match self.find_one(Principal::EMAIL, email.as_str()).await? {
            Some(principal) if !principal.row.disabled && !self.has_ended(&principal.row) => {
                self.issue(AccountId::from_record(principal.id), Purpose::Reset, RESET_TOKEN_S, None).await
            }
            _ => self.issue_to_nobody(email, RESET_TOKEN_S).await.map(|()| None),
        }
    }

    async fn reset_password(
        &mut self,
        token: &Kept<OneTimeToken>,
        password: &StoredPassword,
    ) -> Result<Reset, Refusal> {
        let account = account_id(&token.row.account_id)?;
        let mut principal = self.principal(account).await?.ok_or_else(super::turn::token_refused)?;
        if principal.row.disabled {
            return Err(super::turn::token_refused());
        }
        password.phc().clone_into(&mut principal.row.password_phc);
        principal.row.verified = true;
        let was_unproven = std::mem::take(&mut principal.row.unproven);
        principal.row.loopback_only_password = false;
        self.replace(&principal).await?;
        self.remove_tokens(account).await?;
        self.end_sessions(account).await?;
        Ok(Reset { account, email: Email::assume_canonical(principal.row.email), was_unproven })
    }

    async fn set_up(
        &mut self,
        identity: &Identity,
        email: &Email,
        password: &StoredPassword,
        device: Device<'_>,
    ) -> Result<(SignedIn, Option<AccountId>), Refusal> {
        self.remove_all(OneTimeToken::PURPOSE, Purpose::Setup).await?;
        if self.find_one(Binding::HEADS, SYSTEM).await?.is_some() {
            return Err(super::turn::token_refused());
        }
        let holder = self.holder(email).await?;
        if holder == Holder::Account {
            // Somebody may be logged in with it, with a password that others know.
            return Err(Refusal::new(Reason::EmailTaken, "the address has an account")
                .help("a superadmin is a new account: take another address"));
        }
        let made_way = self.make_way(holder).await?;
        let row = Principal {
            email: email.as_str().to_owned(),
            password_phc: password.phc().to_owned(),
            verified: true,
            ..Principal::default()
        };
        let account = self.add_principal(row).await?;
        let held = Held {
            account,
            role: Role::Superadmin,
            scope: None,
            expires_unix_s: None,
            suspended: false,
            created_unix_s: self.now_unix_s,
        };
        self.insert(self.new_id(), &Binding::of(&held)).await?;
        Ok((self.open_session(identity, account, device).await?, made_way))
    }

    async fn who_am_i(&mut self) -> Result<Who, Refusal> {
        let account = self.account()?;
        let principal = self.principal(account).await?.ok_or_else(Refusal::token_refused)?;
        let now = self.now_unix_s;
        let held = self.bindings_of(account).await?.into_iter().map(|(_, held)| held);
        Ok(Who {
            email: Email::assume_canonical(principal.row.email),
            verified: principal.row.verified,
            held: held.filter(|held| held.counts(now)).collect(),
        })
    }
}

/// Takes one from the bucket of this token and source: each call with a token that is there costs the hash of a password. Who
/// guesses finds none, and fills no table of buckets.
fn throttle_token(call: &Call, token: &Kept<OneTimeToken>) -> Result<(), Refusal> {
    call.throttle_sign_in(&token.id.text("token"))
}

fn login_refused() -> Refusal {
    Refusal::new(Reason::LoginRefused, "the address or the password is wrong")
        .help("follow the mail that proves your address if you have just registered; else ask for a new password")
}

fn wrong_password_of_registration() -> Refusal {
    Refusal::new(Reason::TokenRefused, "the token or the password is not valid, or no longer")
        .help("use the password that you registered with, or register again")
}
