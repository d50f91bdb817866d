//! One sealer in place of another: the key file is written anew, with all its keys as they are.
//!
//! What must never happen here: a file that takes the place of another before it was seen to open, or a frame of the old file that
//! is lost or not authenticated.

use super::{Keyring, unseal};
use crate::{
    entropy::Entropy,
    error::KeyError,
    key_file::{self, Layout, Payload},
    private_file,
    sealer::Unsealer,
};
use std::{iter, path::Path};

impl Keyring {
    /// Seals the master key with `new` in place of whatever `old` opens; other sealers stay. On disk when this returns, and not
    /// done where it fails, save with [`KeyError::Unsettled`]. Copies of the file from before still open by `old`, to the same keys. No server may be using the
    /// file. Blocks for some seconds.
    pub fn replace_sealer(path: &Path, old: &Unsealer, new: &Unsealer, entropy: &dyn Entropy) -> Result<(), KeyError> {
        let content = |source| KeyError::Content { path: path.to_owned(), source };
        let (_, bytes) = key_file::read(path)?;
        let layout = Layout::read(&bytes).map_err(content)?;
        let (master, ..) = unseal(&layout, old, content)?;
        let mut sealed = Some(Payload::Sealer(new.seal(&master, layout.id, entropy)?));
        let mut payloads = Vec::with_capacity(layout.frames.len());
        for frame in &layout.frames {
            payloads.extend(match Payload::read(frame).map_err(content)? {
                // Of several that it opens none stays.
                Payload::Sealer(sealer) if old.unseal(iter::once(&sealer), layout.id).is_ok() => sealed.take(),
                other => Some(other),
            });
        }
        let (bytes, _) = key_file::new(layout.id, master.frames(), &payloads);
        unseal(&Layout::read(&bytes).map_err(content)?, new, content)?;
        private_file::replace(path, &bytes)
    }
}
