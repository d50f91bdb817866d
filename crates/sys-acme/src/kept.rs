//! What outlives the process: the account, certificates with their keys, and how the last tries went.
//!
//! Whoever implements [`Kept`] seals it. Everything is small JSON with a format number, below 64 KiB; bytes that cannot be read are
//! damage that is reported, never taken for "nothing there".

use data_encoding::HEXLOWER;
use serde::{Serialize, de::DeserializeOwned};
use std::{future::Future, pin::Pin};
use zeroize::Zeroizing;

/// A future of a trait object.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A value larger than this is not put: whoever keeps them has a bound, too.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Where things are kept, sealed.
pub trait Kept: Send + Sync + 'static {
    /// What was put under this name last.
    fn get<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<Option<Zeroizing<Vec<u8>>>, KeptError>>;

    /// The names under which something is kept.
    fn names(&self) -> Boxed<'_, Result<Vec<String>, KeptError>>;

    /// Keeps it in place of what was there. When this comes back, it outlives a power cut.
    fn put<'a>(&'a self, name: &'a str, bytes: Zeroizing<Vec<u8>>) -> Boxed<'a, Result<(), KeptError>>;

    /// Forgets it; nothing there is no error.
    fn remove<'a>(&'a self, name: &'a str) -> Boxed<'a, Result<(), KeptError>>;
}

/// Why something could not be kept or read, in words for the operator.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct KeptError(pub String);

/// What is kept under this name, if anything is.
pub(crate) async fn read<T: DeserializeOwned>(kept: &dyn Kept, name: &str) -> Result<Option<T>, KeptError> {
    let Some(bytes) = kept.get(name).await? else { return Ok(None) };
    // The reason is left out: serde quotes what it stumbles over.
    serde_json::from_slice(&bytes).map(Some).map_err(|_| KeptError(format!("what is kept as {name} cannot be read")))
}

/// Keeps a value under this name.
pub(crate) async fn write<T: Serialize>(kept: &dyn Kept, name: &str, value: &T) -> Result<(), KeptError> {
    // All room at once, so that no half of a key stays behind in memory that was outgrown.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE_BYTES));
    serde_json::to_writer(&mut *bytes, value).map_err(|_| KeptError(format!("{name} cannot be written down")))?;
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(KeptError(format!("{name} is larger than {MAX_VALUE_BYTES} bytes")));
    }
    kept.put(name, bytes).await
}

/// The name under which a thing is kept that has these parts: `prefix-` and a hash, since names of domains may be long.
pub(crate) fn place(prefix: &str, parts: &[&str]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
        context.update(b"\n");
    }
    let hash = HEXLOWER.encode(context.finish().as_ref());
    format!("{prefix}-{}", hash.get(..32).unwrap_or(&hash))
}
