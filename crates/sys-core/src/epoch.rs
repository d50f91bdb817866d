//! Epochs: a row for each account that moves with every change to its sessions, bindings or standing.
//!
//! A call reads its caller's epoch in its own transaction. A change that committed before is seen; one that commits
//! meanwhile makes the call's commit conflict. That is how a revocation acts on the next request.

use sys_contract::id::AccountId;
use sys_store::{Open, RowState, StoreError, SystemKind};

/// The state of an account at a moment: as long as its epoch is equal to this one, nothing about it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch(RowState);

/// The epoch of an account. Read by each call, and compared as it stands in the store, without being opened.
pub(crate) async fn read(open: &mut Open, account: AccountId) -> Result<Epoch, StoreError> {
    open.row_state(SystemKind::Epoch, account.uuid().as_bytes()).await.map(Epoch)
}

/// Moves it on.
pub(crate) async fn advance(open: &mut Open, account: AccountId) -> Result<(), StoreError> {
    let row = open.row(SystemKind::Epoch, account.uuid().as_bytes()).await?;
    let number = row.and_then(|row| row.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))).unwrap_or(0);
    open.put_row(SystemKind::Epoch, account.uuid().as_bytes(), number.wrapping_add(1).to_be_bytes().to_vec()).await
}
