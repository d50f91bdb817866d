//! Passwords: Argon2id on a bounded pool, so that a flood of logins cannot take all memory or all threads.
//!
//! Stored: the PHC string `$argon2id$v=19$m=19456,t=2,p=1$salt$hash` (OWASP's second choice of parameters: 19 MiB, two
//! passes). Checking an unknown account costs the same as checking a known one.

use crate::refusal::{Reason, Refusal};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use std::{fmt, sync::Arc, time::Duration};
use sys_keys::Entropy;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Hashes computed at the same time. Each takes 19 MiB and a core.
const CONCURRENT_HASHES: usize = 2;
/// Callers who may wait for a hash; the next one is told to come back.
const WAITING_HASHES: usize = 64;
/// Of these, places that strangers leave free for those who are known.
const KEPT_FOR_KNOWN: usize = 16;
/// When it makes sense to come back: all that wait are through by then.
const COME_BACK: Duration = Duration::from_secs(2);
/// Shortest password taken (NIST SP 800-63B section 3.1.1.2: 15, or 8 with a second factor; ours get one later).
pub const MIN_PASSWORD_CHARS: usize = 10;
/// Longest password taken: beyond it, hashing the input itself becomes the work.
pub const MAX_PASSWORD_BYTES: usize = 1024;
const SALT_BYTES: usize = 16;

/// A password as typed. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the password for checking it against a stored one: nothing is said about its form.
    pub fn to_check(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes a new password. `field` is the request field that is named when it is refused.
    pub fn to_set(text: String, field: &str) -> Result<Self, Refusal> {
        let password = Self(Zeroizing::new(text));
        if password.0.chars().count() < MIN_PASSWORD_CHARS {
            return Err(Refusal::invalid(field, format!("a password has at least {MIN_PASSWORD_CHARS} characters")));
        }
        if password.0.len() > MAX_PASSWORD_BYTES {
            return Err(Refusal::invalid(field, format!("a password has at most {MAX_PASSWORD_BYTES} bytes")));
        }
        Ok(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A hashed password, as stored. Never leaves the server: no message that a client receives has a field for it.
#[derive(Clone)]
pub struct StoredPassword(Zeroizing<String>);

impl StoredPassword {
    /// The PHC string read from a sealed record.
    pub(crate) fn from_phc(phc: String) -> Self {
        Self(Zeroizing::new(phc))
    }

    /// The PHC string for a sealed record.
    pub(crate) fn phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPassword(..)")
    }
}

/// Who asks for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Anybody. Many of them at once leave room for the others.
    Stranger,
    /// Somebody who is logged in, or was lately from where he calls.
    Known,
}

/// Hashes and checks passwords.
#[derive(Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("running", &self.running.available_permits()).finish_non_exhaustive()
    }
}

impl Passwords {
    /// A pool that draws its salts from `entropy`.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            running: Arc::new(Semaphore::new(CONCURRENT_HASHES)),
            admitted: Arc::new(Semaphore::new(CONCURRENT_HASHES + WAITING_HASHES)),
            entropy,
        }
    }

    /// Hashes a new password.
    pub async fn hash(&self, password: Password) -> Result<StoredPassword, Refusal> {
        let mut salt = [0; SALT_BYTES];
        self.entropy.fill(&mut salt);
        self.run(Asks::Stranger, move || hash(&password, &salt)).await?
    }

    /// Whether this is the password of the account. `None` stands for an account that does not exist or has no password:
    /// the answer is no, after the same work.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<StoredPassword>,
        asks: Asks,
    ) -> Result<bool, Refusal> {
        let holds: Result<bool, Refusal> = self
            .run(asks, move || match stored {
                Some(stored) => {
                    let parsed = PasswordHash::new(stored.phc()).map_err(Refusal::internal)?;
                    Ok(Argon2::default().verify_password(password.0.as_bytes(), &parsed).is_ok())
                }
                // The salt is of no account, so that it need not be random.
                None => hash(&password, &[0; SALT_BYTES]).map(|_| false),
            })
            .await?;
        holds
    }

    /// Runs `work` in its turn. Who goes away while he waits is not waited for: the work begins only with its turn.
    async fn run<T: Send + 'static>(
        &self,
        asks: Asks,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let full = || {
            Refusal::new(Reason::PasswordPoolFull, "too many logins at the moment")
                .help("try again in a few seconds")
                .wait(COME_BACK)
        };
        if asks == Asks::Stranger && self.admitted.available_permits() <= KEPT_FOR_KNOWN {
            return Err(full());
        }
        let Ok(_admitted) = self.admitted.clone().try_acquire_owned() else { return Err(full()) };
        let running = self.running.clone().acquire_owned().await.map_err(Refusal::internal)?;
        let work = move || {
            let _running = running;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(Refusal::internal)
    }
}

fn hash(password: &Password, salt: &[u8]) -> Result<StoredPassword, Refusal> {
    let hashed = Argon2::default().hash_password_with_salt(password.0.as_bytes(), salt).map_err(Refusal::internal)?;
    Ok(StoredPassword(Zeroizing::new(hashed.to_string())))
}
