//! What keeps the memory of this process from becoming a file: no core dump, and no swap where the system allows it.
//!
//! Called before anything secret is read: keys, passphrases and opened records lie in memory while the server runs. What must never
//! happen here: a start that goes on although the process can still be dumped.

use anyhow::{Context, ensure};
use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit},
};

/// Whether memory can be written to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// All of it stays in memory.
    Never,
    /// The limits of this process do not allow to say so.
    Possible,
}

/// Keeps this process out of core files, and its memory out of swap if it may.
///
/// A process that is not dumpable writes no core whatever limit or pattern is set, and other processes of its user can neither read
/// its memory nor trace it (`PR_SET_DUMPABLE`, prctl(2)); root can.
pub(crate) fn keep() -> anyhow::Result<Swap> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot turn core dumps off (PR_SET_DUMPABLE)")?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("cannot turn core dumps off (RLIMIT_CORE)")?;
    let dumpable = dumpable_behavior().context("cannot ask whether core dumps are off")?;
    ensure!(dumpable == DumpableBehavior::NotDumpable, "core dumps are not off although they were turned off");
    Ok(lock())
}

/// Locks all memory, now and later. Not under a limit: what is allocated beyond it would fail, and end the process. Pages are locked
/// when they are first used, so that nothing is taken that is not needed.
fn lock() -> Swap {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Swap::Possible;
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => Swap::Never,
        Err(_) => Swap::Possible,
    }
}
