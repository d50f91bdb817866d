//! What one kind of caller is shown: the descriptors of the methods that he may call, and an index over them.
//!
//! Kept for all who may call the same methods: making it takes milliseconds and some hundred kilobytes, and clients ask for
//! it at each start.

use super::reflection::Index;
use crate::refusal::Refusal;
use bytes::Bytes;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Kinds of callers that are kept. There are about as many as roles; if there are more, some are made anew.
const MAX_KEPT: usize = 32;

/// What one kind of caller is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// One FileDescriptorSet for each module.
    pub(crate) files: Vec<Bytes>,
    pub(crate) index: Index,
}

/// What is shown to whom, by which of all methods he may call.
#[derive(Default)]
pub(crate) struct Kept(Mutex<HashMap<Vec<bool>, Arc<Shown>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// What is shown to who may call these methods; made of the files if it is not kept.
    pub(crate) fn get(&self, visible: Vec<bool>, files: impl FnOnce() -> Vec<Bytes>) -> Result<Arc<Shown>, Refusal> {
        if let Some(shown) = self.locked().get(&visible) {
            return Ok(shown.clone());
        }
        let files = files();
        let shown = Arc::new(Shown { index: Index::of(&files)?, files });
        let mut kept = self.locked();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(visible, shown.clone());
        Ok(shown)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<bool>, Arc<Shown>>> {
        // A panic while the lock was held leaves whole entries.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
