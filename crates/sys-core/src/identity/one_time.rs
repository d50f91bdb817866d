//! One-time tokens: 256 random bits in a mail or on the operator's terminal, stored as their hash, good once and for a time.
//!
//! What must never happen here: a look-up by anything but the hash of a whole token, or a token that is used and stays.

use super::{
    Email,
    limits::MAX_LIVE_TOKENS,
    rows::Kept,
    turn::{Turn, token_refused},
    wire::{OneTimeToken, Purpose},
};
use crate::{
    password::StoredPassword,
    refusal::Refusal,
    token::{TOKEN_SECRET_BYTES, TokenSecret},
};
use aws_lc_rs::digest::{SHA256, digest};
use std::ops::DerefMut;
use sys_contract::id::{AccountId, OrgTag, RecordId};
use sys_store::Open;

/// Tokens of one account that are looked at: all purposes at their bound, and some that have expired.
pub(super) const MAX_TOKENS_LOOKED_AT: usize = 64;

/// Of so many calls that may leave a token of nobody, one clears away old ones: of twice as many as there were calls.
const CALLS_FOR_A_CLEARING: u8 = 8;
const CLEARED_AT_ONCE: usize = 16;

/// What somebody chose who registered. It is nobody's until the address is proven with the token that it is kept beside.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    pub(super) password: &'a StoredPassword,
    pub(super) display_name: &'a str,
}

/// What stands in the place of an account for an address that has none. No account has this id: it was made in 1970.
fn stand_in(email: &Email) -> AccountId {
    let hash = digest(&SHA256, email.as_str().as_bytes());
    let mut random = [0; 10];
    random.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    AccountId::from_record(RecordId::new(OrgTag::GLOBAL, 0, random))
}

impl<O: DerefMut<Target = Open> + Send> Turn<'_, O> {
    /// Makes a token for an account, or none if it has enough of the kind that are good. Clears away those that are not.
    pub(super) async fn issue(
        &mut self,
        account: AccountId,
        purpose: Purpose,
        life_s: i64,
        chosen: Option<Chosen<'_>>,
    ) -> Result<Option<TokenSecret>, Refusal> {
        let mut alive = 0;
        for kept in self.find(OneTimeToken::ACCOUNT, &account.to_string(), MAX_TOKENS_LOOKED_AT).await? {
            if kept.row.expires_unix_s <= self.now_unix_s {
                self.remove::<OneTimeToken>(kept.id).await?;
            } else if kept.row.purpose() == purpose {
                alive += 1;
            }
        }
        if alive >= MAX_LIVE_TOKENS {
            return Ok(None);
        }
        let row = OneTimeToken {
            purpose: purpose.into(),
            account_id: account.to_string(),
            password_phc: chosen.map(|chosen| chosen.password.phc().to_owned()).unwrap_or_default(),
            display_name: chosen.map(|chosen| chosen.display_name.to_owned()).unwrap_or_default(),
            expires_unix_s: self.now_unix_s.saturating_add(life_s),
            ..OneTimeToken::default()
        };
        self.store_token(row).await.map(Some)
    }

    /// Does for an address that is given no token what [`Turn::issue`] does for one that is: as many rows, up to the same
    /// bound, of a token that nobody has. How long an answer takes does not tell the two apart.
    pub(super) async fn issue_to_nobody(&mut self, email: &Email, life_s: i64) -> Result<(), Refusal> {
        self.issue(stand_in(email), Purpose::Nothing, life_s, None).await.map(drop)
    }

    /// Clears away tokens of nobody that have expired, by one call in some and whatever it is about: by every call would have
    /// them all wait for each other, and by those that make such tokens would tell which these are.
    pub(super) async fn clear_nobodys_tokens(&mut self) -> Result<(), Refusal> {
        let [drawn] = self.random::<1>();
        if drawn % CALLS_FOR_A_CLEARING != 0 {
            return Ok(());
        }
        for kept in self.find(OneTimeToken::PURPOSE, Purpose::Nothing, CLEARED_AT_ONCE).await? {
            if kept.row.expires_unix_s <= self.now_unix_s {
                self.remove::<OneTimeToken>(kept.id).await?;
            }
        }
        Ok(())
    }

    /// Makes the setup token in place of all older ones.
    pub(super) async fn issue_setup(&mut self, life_s: i64) -> Result<TokenSecret, Refusal> {
        self.remove_all(OneTimeToken::PURPOSE, Purpose::Setup).await?;
        let expires_unix_s = self.now_unix_s.saturating_add(life_s);
        self.store_token(OneTimeToken { purpose: Purpose::Setup.into(), expires_unix_s, ..OneTimeToken::default() })
            .await
    }

    /// Stores a token under a new secret, which nobody can read again.
    pub(super) async fn store_token(&mut self, mut row: OneTimeToken) -> Result<TokenSecret, Refusal> {
        let secret = TokenSecret::new(self.random::<TOKEN_SECRET_BYTES>());
        row.token_hash = secret.hash().to_vec();
        self.insert(self.new_id(), &row).await?;
        Ok(secret)
    }

    /// The token with this text, if it is good for this purpose. It is not used up yet.
    pub(super) async fn find_token(&mut self, text: &str, purpose: Purpose) -> Result<Kept<OneTimeToken>, Refusal> {
        let secret = TokenSecret::parse(text).map_err(|_| token_refused())?;
        let found = self.find_one(OneTimeToken::TOKEN_HASH, secret.hash()).await?;
        let now = self.now_unix_s;
        found.filter(|kept| kept.row.purpose() == purpose && kept.row.expires_unix_s > now).ok_or_else(token_refused)
    }

    /// Makes all tokens of an account void.
    pub(super) async fn remove_tokens(&mut self, account: AccountId) -> Result<(), Refusal> {
        self.remove_all(OneTimeToken::ACCOUNT, &account.to_string()).await?;
        Ok(())
    }
}
