//! Where sys-acme keeps what it has: in the vault.

use crate::vault;
use sys_acme::{Boxed, Kept, KeptError};
use sys_core::{refusal::Refusal, vault::Vault};
use zeroize::Zeroizing;

/// Items of one kind.
#[derive(Debug)]
pub(crate) struct InVault {
    pub(crate) vault: Vault,
    pub(crate) kind: &'static str,
}

impl Kept for InVault {
    fn names(&self) -> Boxed<'_, Result<Vec<String>, KeptError>> {
        Box::pin(async move {
            let items = self.vault.load(self.kind).await.map_err(in_words)?;
            Ok(items.into_iter().map(|item| item.name).collect())
        })
    }

    fn get<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Option<Zeroizing<Vec<u8>>>, KeptError>> {
        Box::pin(async move {
            let items = self.vault.load(self.kind).await.map_err(in_words)?;
            Ok(items.into_iter().find(|item| item.name == name).map(|item| item.value))
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Zeroizing<Vec<u8>>) -> Boxed<'a, Result<(), KeptError>> {
        let change = vault::put(self.kind, name, bytes);
        Box::pin(async move { self.vault.change("keep-certificate", vec![change]).await.map_err(in_words) })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<(), KeptError>> {
        let change = vault::remove(self.kind, name);
        Box::pin(async move { self.vault.change("forget-certificate", vec![change]).await.map_err(in_words) })
    }
}

fn in_words(refusal: Refusal) -> KeptError {
    KeptError(refusal.message)
}
