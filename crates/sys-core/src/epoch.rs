//! Epochs: a number for each account that moves with every change to its sessions, bindings or standing.
//!
//! A call reads its caller's epoch in its own transaction. A change that committed before is seen; one that commits
//! meanwhile makes the call's commit conflict. That is how a revocation acts on the next request.

use sys_contract::id::AccountId;
use sys_store::{Open, StoreError, SystemKind};

/// The epoch of an account; one that never changed is at 0.
pub(crate) async fn read(open: &mut Open, account: AccountId) -> Result<u64, StoreError> {
    let row = open.row(SystemKind::Epoch, account.uuid().as_bytes()).await?;
    Ok(row.and_then(|row| row.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))).unwrap_or(0))
}

/// Moves it on.
pub(crate) async fn advance(open: &mut Open, account: AccountId) -> Result<(), StoreError> {
    let next = read(open, account).await?.wrapping_add(1);
    open.put_row(SystemKind::Epoch, account.uuid().as_bytes(), next.to_be_bytes().to_vec()).await
}
