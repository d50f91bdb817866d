//! What is wrong with a data directory that no server uses: its files, its key file, and all that is in its store.
//!
//! The store itself is judged by `sys_store::check`; here are the files around it, and the words for the operator. What must
//! never happen here: a file or key that is made (a directory without one is not a data directory), a value of a record
//! in the output, a record that is written.

mod files;
mod output;

pub use files::FileFinding;
pub use output::{Output, render};

use crate::{
    assemble::{has_rows, lock_store, refuse_lost},
    data_dir::DataDir,
};
use anyhow::Context;
use std::{path::Path, sync::Arc};
use sys_keys::{Entropy, Keyring, SystemEntropy, Unsealer};
use sys_store::{
    Store,
    check::{CheckOptions, Mode, Report, Seen},
    engine::{AnyEngine, redb::RedbOptions},
};

/// What was found out about a data directory.
#[derive(Debug)]
pub struct Diagnosis {
    /// What is to be said of its files.
    pub files: Vec<FileFinding>,
    /// By what the master key can be opened.
    pub sealers: Vec<String>,
    /// What was found in the store.
    pub found: Report,
    /// What was still found after a repair, where one was asked for.
    pub left: Option<Report>,
}

impl Diagnosis {
    /// Whether nothing is wrong, or nothing any more.
    pub fn is_clean(&self) -> bool {
        !self.files.iter().any(|finding| finding.is_problem) && self.left.as_ref().unwrap_or(&self.found).is_clean()
    }
}

/// What the doctor is to do.
#[derive(Debug, Clone, Copy)]
pub struct Orders {
    /// Makes indexes agree with their records.
    pub repair: bool,
    /// Opens a store whose log is lost or damaged without the commits that cannot be read from it.
    pub give_up_log: bool,
    /// How many places of each fault are named.
    pub named: usize,
}

/// Looks at a data directory, and with `repair` makes its indexes agree with its records. Fails if it cannot be opened: then
/// nothing can be said of what is in it.
pub async fn examine(
    data_dir: &Path,
    unsealer: Unsealer,
    orders: Orders,
    progress: &mut (dyn FnMut(&Seen) + Send),
) -> anyhow::Result<Diagnosis> {
    let Orders { repair, give_up_log, named } = orders;
    let dir = DataDir::unchecked(data_dir.to_owned());
    let mut files = files::look(&dir)?;
    // The lock is taken first, so that nothing changes under what follows.
    let engine = lock_store(&dir, RedbOptions { verify: true, give_up_log, ..RedbOptions::default() }).await?;
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let (keys, for_keys) = (dir.keys(), entropy.clone());
    let keyring = tokio::task::spawn_blocking(move || {
        Keyring::open(&keys, &unsealer, for_keys).with_context(|| format!("{} does not open", keys.display()))
    });
    let keyring = keyring.await??;
    if !has_rows(&engine).await? {
        refuse_lost(&dir, &keyring)?;
    }
    files.extend(files::of_keys(&dir, &keyring));
    let sealers = keyring.sealers();
    let store = Store::open_to_check(AnyEngine::Redb(engine), keyring, entropy);
    let mode = if repair { Mode::RepairIndexes } else { Mode::Look };
    let found = store.check(CheckOptions { mode, named }, progress).await?;
    let left = if repair { Some(store.check(CheckOptions { mode: Mode::Look, named }, progress).await?) } else { None };
    Ok(Diagnosis { files, sealers, found, left })
}
