//! Who may log in, who is logged in, and who may do what: principals, sessions, bindings, invitations, one-time tokens.
//!
//! [`Identity`] is the one handle on all of it, with the rules inside. It is given at assembly to one module, sys-account, and
//! cannot be reached from a [`Call`]; each of its methods acts in the transaction of the call that it is given, so that what
//! it decides on cannot change before the commit. The gate uses [`Identity::load_caller`].
//!
//! What must never happen here: a role given by somebody who does not administer its scope, or to himself, or above his own;
//! a binding for another's account that its owner did not accept; an org that loses its last admin; an answer that tells
//! whether an address has an account; a password or token in clear outside the types that wipe them.
//!
//! The parts: [`scope`] (the assignment rules, pure), [`sign_in`], [`sessions`] and [`proof`] (proving who one is, and that
//! one is still it), [`one_time`] (tokens), [`standing`] (disable, enable, delete), [`unproven`] (registrations that nobody proves), [`members`] and [`invitations`] (bindings), [`domains`] (of an org's mail), [`import`] and [`ending`] (the
//! ways of the server's operator, at the first run and after an older store was put back). The rows are written and read through [`turn`].

mod address;
mod domains;
mod ending;
mod import;
mod invitations;
pub mod limits;
mod members;
mod one_time;
mod proof;
mod rows;
mod scope;
mod sessions;
mod sign_in;
mod standing;
#[cfg(test)]
mod tests;
mod turn;
mod unproven;
pub mod wire;

pub use address::{AddressAsked, AddressChanged};
pub use ending::Ended;
pub use import::{Importer, NewAccount};
pub use invitations::{InvitationId, InvitationKey, Invited, Open as OpenInvitation};
pub use members::Membership;
pub(crate) use members::take_org_tag;
pub use rows::{named as role_named, number_of as role_number};
pub use scope::{Held, Scope};
pub use sessions::SessionSeen;
pub use sign_in::{Registered, Reset, SignedIn, Who};
pub use standing::Created;

use crate::{
    call::Call,
    countries::Countries,
    password::Passwords,
    refusal::Refusal,
    token::{AccessTokens, CertificateHash, Claims, RefreshTokens},
};
use std::{fmt, ops::DerefMut, sync::Arc};
use sys_policy::{Caller, Standing};
use sys_store::{Open, Tables};
use turn::Turn;

/// An e-mail address in its one canonical form, which only the account module knows how to make.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Email(String);

impl Email {
    /// Takes a text for canonical. Two texts are two people from here on.
    pub fn assume_canonical(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

/// The handle on who may do what. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    tables: Arc<Tables>,
    passwords: Passwords,
    access: Arc<AccessTokens>,
    refresh: RefreshTokens,
    countries: Arc<Countries>,
}

/// A caller as the store has him at a moment.
#[derive(Debug, Clone)]
pub(crate) struct LoadedCaller {
    pub(crate) caller: Caller,
    /// When his session ends by itself, in Unix seconds.
    pub(crate) session_ends_unix_s: i64,
    /// The certificate over whose connections alone its tokens are good.
    pub(crate) bound_to: Option<CertificateHash>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Over the tables of sys-core's own contract.
    pub(crate) fn new(
        tables: &Arc<Tables>,
        passwords: Passwords,
        access: Arc<AccessTokens>,
        refresh: RefreshTokens,
        countries: Arc<Countries>,
    ) -> Self {
        Self(Arc::new(Parts { tables: tables.clone(), passwords, access, refresh, countries }))
    }

    /// Who stands behind a token that was verified: nobody if the session has ended. A caller who is disabled or has not
    /// proven his address holds nothing; nor does anybody through a binding that is suspended.
    pub(crate) async fn load_caller(&self, open: &mut Open, claims: &Claims) -> Result<Option<LoadedCaller>, Refusal> {
        let mut turn = Turn::new(open, &self.0.tables, Arc::new(Caller::anonymous()), &NoEntropy);
        let Some(session) = turn.get::<wire::Session>(claims.session.record()).await? else { return Ok(None) };
        if session.account_id != claims.account.to_string() || session.expires_unix_s <= turn.now_unix_s {
            return Ok(None);
        }
        let Some(principal) = turn.principal(claims.account).await? else { return Ok(None) };
        let standing = match &principal.row {
            row if row.disabled => Standing::Disabled,
            row if !row.verified => Standing::Unverified,
            _ => Standing::Verified,
        };
        let bindings = if standing == Standing::Verified {
            let held = turn.bindings_of(claims.account).await?;
            held.iter().filter(|(_, held)| !held.suspended).map(|(_, held)| held.for_rules()).collect()
        } else {
            Vec::new()
        };
        let caller = Caller::new(claims.account, claims.session, standing, bindings).proven_at(session.proven_unix_s);
        Ok(Some(LoadedCaller { caller, session_ends_unix_s: session.expires_unix_s, bound_to: session.bound_to()? }))
    }

    /// Begins a turn in the transaction of a call.
    async fn turn<'a>(
        &'a self,
        call: &'a Call,
    ) -> Result<Turn<'a, impl DerefMut<Target = Open> + Send + use<'a>>, Refusal> {
        let open = call.open().await?;
        Ok(Turn::new(open, &self.0.tables, call.caller().clone(), call.entropy()))
    }
}

/// For turns that only read.
struct NoEntropy;

impl sys_keys::Entropy for NoEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        debug_assert!(false, "a turn that only reads draws {} random bytes", buffer.len());
    }
}
