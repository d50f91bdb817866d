//! Certificates that are kept and that nobody wants under these names any more.
//!
//! They are forgotten with their keys when they are over, and in any case after a day. What is wanted follows from settings, which somebody may
//! have broken for an hour: a domain that comes back on the same day finds its certificate. The day is one in which this process runs: whoever is
//! started anew each hour forgets what is over and nothing else. Where the names of a certificate were changed, the one from before stands in
//! until the new one has come, and is not forgotten before. What must never happen here: anything forgotten that is wanted, or an account.

use crate::{
    certificate::Certificate,
    clock::AcmeClock,
    keeper::records::{self, Places},
    kept::{Kept, KeptError},
    name::Wanted,
};
use std::{sync::Arc, time::Duration};

const LOOKS_APART: Duration = Duration::from_secs(3_600);
/// After so many looks nothing is waited for any more.
const LOOKS: usize = 24;

/// Forgets what is not wanted; ends when there is nothing of that kind left.
pub async fn forget_unwanted(kept: Arc<dyn Kept>, wanted: &[Wanted], clock: Arc<dyn AcmeClock>) {
    let mut looks = 0_usize;
    loop {
        match look(&*kept, wanted, clock.now_unix_s(), looks >= LOOKS).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "certificates that nobody wants cannot be looked through"),
        }
        clock.sleep(LOOKS_APART).await;
        looks = looks.saturating_add(1);
    }
}

/// The certificates that stand in for those that are wanted and have not come: good still, and with a name of theirs.
pub(crate) async fn stand_ins(kept: &dyn Kept, wanted: &[Wanted], now: i64) -> Result<Vec<Certificate>, KeptError> {
    let (unwanted, missing) = sorted(kept, wanted).await?;
    let mut found = Vec::new();
    if missing.is_empty() {
        return Ok(found);
    }
    for name in unwanted {
        let Some(bytes) = kept.get(&name).await? else { continue };
        let about = records::about(&bytes);
        if !about.stands_in(&missing) || about.is_over(now) {
            continue;
        }
        let attempts = kept.get(&Places::attempts_beside(&name)).await?;
        if !attempts.is_some_and(|bytes| records::about(&bytes).is_void) {
            found.extend(records::any_certificate(&bytes));
        }
    }
    Ok(found)
}

/// Forgets what may be forgotten now; says how much is left that is not wanted.
async fn look(kept: &dyn Kept, wanted: &[Wanted], now: i64, all: bool) -> Result<usize, KeptError> {
    let (unwanted, missing) = sorted(kept, wanted).await?;
    let mut left = 0;
    for name in unwanted {
        let Some(bytes) = kept.get(&name).await? else { continue };
        let about = records::about(&bytes);
        // Also one that is over: the clock that says so may be wrong, and nothing else is there.
        if about.stands_in(&missing) || !(all || about.is_over(now)) {
            left += 1;
            continue;
        }
        kept.remove(&name).await?;
        if about.is_revoking {
            tracing::warn!(
                "a certificate was to be declared void, and is wanted no more: nobody asks its authority any longer"
            );
        }
        if !about.names.is_empty() {
            tracing::info!(names = ?about.names, "a certificate that nobody wants was forgotten, with its key");
        }
    }
    Ok(left)
}

/// The places that are of nothing wanted; and what is wanted and has no certificate.
async fn sorted<'a>(kept: &dyn Kept, wanted: &'a [Wanted]) -> Result<(Vec<String>, Vec<&'a Wanted>), KeptError> {
    let places: Vec<Places> = wanted.iter().map(Places::of).collect();
    let mut names = kept.names().await?;
    let has = |places: &Places| names.contains(&places.certificate);
    let missing = wanted.iter().zip(&places).filter(|(_, places)| !has(places)).map(|(wanted, _)| wanted).collect();
    let is_wanted = |name: &String| places.iter().any(|places| places.certificate == *name || places.attempts == *name);
    names.retain(|name| Places::is_one(name) && !is_wanted(name));
    Ok((names, missing))
}
