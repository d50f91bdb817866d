//! What an operator does to a data directory that no server uses, beside looking at it ([`doctor`](crate::doctor)) and bringing
//! records in ([`import`](crate::import)): the end of all sessions, and another passphrase.
//!
//! What must never happen here: a directory, store or key file that is made, since whoever mistypes a name would be told that all
//! went well.

use crate::{
    assemble::{lock_store, store_over},
    data_dir::DataDir,
};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use sys_core::{
    clock::Clock,
    identity::Ended,
    monitor::{Monitor, Settings},
    throttle::Rates,
};
use sys_keys::{KeyError, Keyring, SystemEntropy, Unsealer};
use sys_store::engine::redb::RedbOptions;

/// Ends all sessions, makes all one-time tokens void and withdraws all invitations. May be cut off and run again.
pub async fn end_sessions(data_dir: &Path, unsealer: Unsealer) -> anyhow::Result<Ended> {
    let dir = DataDir::of_a_server(data_dir)?;
    let store = store_over(lock_store(&dir, RedbOptions::default()).await?, &dir, unsealer).await?;
    let settings = Settings {
        // No token is made.
        issuer: "http://localhost".to_owned(),
        rates: Rates::default(),
        clock: Clock::System,
        countries: Arc::default(),
    };
    let monitor = Monitor::start(store, settings).await?;
    let ended = monitor.danger_end_sessions().await;
    monitor.stop().await;
    Ok(ended?)
}

/// Puts `new` in the place of `old`, by which the key file opens; the key file.
pub async fn change_passphrase(data_dir: &Path, old: Unsealer, new: Unsealer) -> anyhow::Result<PathBuf> {
    let dir = DataDir::of_a_server(data_dir)?;
    // Held until the end: a server that made keys meanwhile would lose them.
    let locked = lock_store(&dir, RedbOptions::default()).await?;
    let keys = dir.keys();
    let changed = tokio::task::spawn_blocking(move || {
        match Keyring::replace_sealer(&keys, &old, &new, &SystemEntropy::new()) {
            Ok(()) => Ok(keys),
            // It says itself that something was changed.
            Err(unsettled @ KeyError::Unsettled { .. }) => Err(unsettled.into()),
            Err(other) => Err(other).context(format!("the passphrase of {} is not changed", keys.display())),
        }
    });
    let changed = changed.await?;
    drop(locked);
    changed
}
