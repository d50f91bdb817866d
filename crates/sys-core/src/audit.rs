//! The audit log: one leaf for each write, sign-in event and refusal, in the log of the org that it concerns or in the
//! system's.
//!
//! A leaf names ids, grants and reasons, never values. Leaves of a write are stored in its transaction, which costs no sync of
//! its own; leaves of refusals are collected and stored within a second ([`refusals`]). An entry is the leaf behind its hash,
//! SHA-256(0x00 | leaf) as in RFC 6962 section 2.1; the leaf is salted and sealed under keys of its org, so that it can go while
//! the hash stays, and the hash says nothing of it.
//!
//! Over the hashes of each log stands a Merkle tree. It is computed afterwards, never in the way of a write: [`nodes`] keeps
//! the whole subtrees, and [`logs`] signs heads, makes proofs and reads. [`keeper`] does in the background what would otherwise
//! wait for a reader, and lets go of what the retention is over. What needs no store is in the crate sys-audit. What must never
//! happen here: a head that takes back what an earlier one said, and a leaf that is changed in another way than by erasing it.

mod keeper;
mod logs;
mod nodes;
pub(crate) mod query;
mod refusals;
#[cfg(test)]
mod tests;

pub use logs::{AuditError, AuditLogs, Log, MAX_LEAVES, RawLeaf};
pub use query::{Entry, Outcome, Page, Query};
pub(crate) use sys_audit::connection::FINGERPRINT_BYTES;
pub use sys_audit::{Connection, DeviceKey, Hash, Leaf, SignedHead};

pub(crate) use keeper::Keeper;
pub(crate) use refusals::{Refusals, Writing};

use prost::Message;
use sys_audit::{
    leaf::{OK, SALT_BYTES},
    tree::leaf_hash,
};
use sys_contract::id::{AccountId, OrgTag};
use sys_keys::Entropy;
use sys_policy::{Caller, Now};
use sys_store::{LogKind, Open, StoreError};

/// A leaf of this call that went well so far.
pub(crate) fn leaf_of(method: &str, caller: &Caller, now: &Now) -> Leaf {
    Leaf {
        unix_s: now.unix_s,
        nanos: now.nanos,
        method: method.to_owned(),
        account_id: caller.account().as_ref().map(AccountId::to_string).unwrap_or_default(),
        session_id: caller.session().map(|session| session.to_string()).unwrap_or_default(),
        outcome: OK.to_owned(),
        ..Leaf::default()
    }
}

/// Adds a leaf to the log of an org, or to the system's for [`OrgTag::GLOBAL`]. It is numbered by the commit.
pub(crate) async fn append(
    open: &mut Open,
    org: OrgTag,
    mut leaf: Leaf,
    entropy: &dyn Entropy,
) -> Result<(), StoreError> {
    leaf.salt = vec![0; SALT_BYTES];
    entropy.fill(&mut leaf.salt);
    let leaf = leaf.encode_to_vec();
    open.append_erasable(LogKind::Audit, org, &leaf_hash(&leaf).0, leaf).await
}
