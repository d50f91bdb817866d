//! The system's keychain: a Secret Service on the session bus (freedesktop.org's Secret Service API, as GNOME Keyring, KWallet
//! and KeePassXC speak it). What is kept there is sealed on disk by the user's own password.
//!
//! Secrets go over the bus encrypted (the API's `dh-ietf1024-sha256-aes128-cbc-pkcs7`), and only over a UNIX socket: the bus
//! itself is not authenticated. What must never happen here: a secret in an attribute, a label or an error, all of which lie or
//! go in the clear. What is kept there and when is decided in [`session_store`](crate::session_store).

use rustix::process::geteuid;
use secret_service::{Collection, EncryptionType, Error, Item, SecretService};
use std::{collections::HashMap, ffi::OsString, path::Path, time::Duration};
use tokio::time::timeout;
use zbus::connection::Builder;
use zeroize::Zeroizing;

/// Wait for an answer of the keychain in which nobody has to do anything. A service that the bus starts first takes a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for its user to unlock it: time to find a password and to type it.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// What kind of bytes secrets are.
const CONTENT_TYPE: &str = "application/json";
/// The errors with which a bus says that nobody has the name that is called.
const NOBODY: [&str; 3] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
];
/// The error with which a Secret Service says that a thing is locked.
const IS_LOCKED: &str = "org.freedesktop.Secret.Error.IsLocked";

/// The way to a keychain.
#[derive(Debug, Clone)]
pub struct Keychain {
    /// The session bus' address.
    bus: String,
    /// Whether its user may be asked to unlock it.
    prompts: bool,
}

impl Keychain {
    /// Behind the bus at this address, such as `unix:path=/run/user/1000/bus`. One that is no UNIX socket is none: a bus of
    /// another machine is not to be told tokens.
    pub fn at(bus: impl Into<String>) -> Option<Self> {
        let bus = bus.into();
        let is_local = bus.split(';').all(|address| address.starts_with("unix:"));
        is_local.then_some(Self { bus, prompts: true })
    }

    /// Behind the session bus that the environment names: `DBUS_SESSION_BUS_ADDRESS`, else `bus` in `XDG_RUNTIME_DIR`, where it is
    /// there. Nothing is looked for elsewhere, so that a program without an environment touches nobody's keychain.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        if let Some(address) = variable("DBUS_SESSION_BUS_ADDRESS").filter(|address| !address.is_empty()) {
            return Self::at(address.into_string().ok()?);
        }
        let socket = Path::new(&variable("XDG_RUNTIME_DIR")?).join("bus");
        let path = socket.to_str().filter(|_| socket.is_absolute() && socket.exists())?;
        Self::at(format!("unix:path={}", escaped(path)))
    }

    /// The same, but a locked one stays locked: for programs that nobody looks at.
    pub(crate) fn without_prompts(self) -> Self {
        Self { prompts: false, ..self }
    }

    /// Whether something can be kept there: it answers, and is unlocked, if need be by its user.
    pub(crate) async fn open(&self) -> Result<(), KeychainError> {
        let service = self.connect().await?;
        self.collection(&service).await.map(drop)
    }

    /// The secret that is kept under a name.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, KeychainError> {
        let service = self.connect().await?;
        let Some(item) = self.items(&service, name).await?.into_iter().next() else { return Ok(None) };
        self.unlock(item.is_locked(), item.unlock()).await?;
        answered(item.get_secret()).await.map(|secret| Some(Zeroizing::new(secret)))
    }

    /// Keeps a secret under a name, in place of what is there. Whoever reads at the same time sees the old or the new one. The label
    /// is what its user sees; it lies in the clear.
    pub(crate) async fn write(&self, name: &str, label: &str, secret: &[u8]) -> Result<(), KeychainError> {
        let service = self.connect().await?;
        // One entry is changed and not made anew: while one is replaced by another, a reader could find none.
        if let Some(item) = self.items(&service, name).await?.into_iter().next() {
            self.unlock(item.is_locked(), item.unlock()).await?;
            return answered(item.set_secret(secret, CONTENT_TYPE)).await;
        }
        let collection = self.collection(&service).await?;
        let made = collection.create_item(label, attributes(name), secret, true, CONTENT_TYPE);
        answered(made).await.map(drop)
    }

    /// Forgets what is kept under a name, if something is.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), KeychainError> {
        let service = self.connect().await?;
        for item in self.items(&service, name).await? {
            self.unlock(item.is_locked(), item.unlock()).await?;
            answered(item.delete()).await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<SecretService<'static>, KeychainError> {
        answered(async {
            let bus = Builder::address(self.bus.as_str())?.build().await?;
            // An address that was left behind, or came from somebody else's environment, may lead to another user's bus.
            if bus.peer_creds().await.map_err(zbus::Error::from)?.unix_user_id() != Some(geteuid().as_raw()) {
                return Err(zbus::Error::Failure("the bus is another user's".to_owned()).into());
            }
            SecretService::connect_with_existing(EncryptionType::Dh, bus).await
        })
        .await
        .map_err(|error| match error {
            // Whatever it is that does not answer there, it is no keychain.
            KeychainError::Failed(source) => KeychainError::NoService(source),
            error => error,
        })
    }

    /// What is kept under a name, locked or not, whatever collection its user has moved it to.
    async fn items<'a>(&self, service: &'a SecretService<'_>, name: &str) -> Result<Vec<Item<'a>>, KeychainError> {
        let found = answered(service.search_items(attributes(name))).await?;
        Ok(found.unlocked.into_iter().chain(found.locked).collect())
    }

    /// Where new things are kept, unlocked.
    async fn collection<'a>(&self, service: &'a SecretService<'_>) -> Result<Collection<'a>, KeychainError> {
        let collection = answered(service.get_default_collection()).await?;
        self.unlock(collection.is_locked(), collection.unlock()).await?;
        Ok(collection)
    }

    async fn unlock(
        &self,
        is_locked: impl Future<Output = Result<bool, Error>>,
        unlock: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), KeychainError> {
        match answered(is_locked).await? {
            false => Ok(()),
            true if self.prompts => {
                timeout(PROMPT_TIMEOUT, unlock).await.map_err(|_| KeychainError::Locked)?.map_err(KeychainError::from)
            }
            true => Err(KeychainError::Locked),
        }
    }
}

/// What finds an entry again. It lies in the clear.
fn attributes(name: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "sys"), ("directory", name)])
}

async fn answered<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, KeychainError> {
    timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| KeychainError::Silent)?.map_err(KeychainError::from)
}

/// A path as a value in a bus address: all but a few signs are written by their number (D-Bus Specification, "Server Addresses").
fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.\\".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

/// Why the keychain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// There is no session bus, so there is none.
    #[error("there is no session bus here, and so no keychain")]
    NoBus,
    /// The bus is not there, or nobody on it is a keychain.
    #[error("no keychain answers on the session bus")]
    NoService(#[source] Box<Error>),
    /// It did not answer in time.
    #[error("the keychain does not answer")]
    Silent,
    /// It has no collection for new things.
    #[error("the keychain has no collection that is its default")]
    NoCollection,
    /// It is locked, and nobody unlocked it.
    #[error("the keychain is locked")]
    Locked,
    /// It does not hold what was put there.
    #[error("the keychain does not hold your session any more")]
    Lost,
    /// It refused otherwise.
    #[error("the keychain failed")]
    Failed(#[source] Box<Error>),
}

impl From<Error> for KeychainError {
    fn from(error: Error) -> Self {
        let name = match &error {
            Error::Zbus(zbus::Error::MethodError(name, ..)) => name.as_str(),
            _ => "",
        };
        match error {
            Error::Locked | Error::Prompt | Error::PromptDisconnected => Self::Locked,
            Error::NoResult => Self::NoCollection,
            _ if name == IS_LOCKED => Self::Locked,
            Error::Unavailable => Self::NoService(error.into()),
            _ if NOBODY.contains(&name) => Self::NoService(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_looked_for_where_the_environment_says_and_nowhere_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = directory.path().join("a b");
        std::fs::create_dir(&runtime).expect("a directory");
        let check = |variables: &[(&str, &str)], expect: Option<&str>| {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            let found = Keychain::from_environment(variable).map(|keychain| keychain.bus);
            assert_eq!(found.as_deref(), expect, "{variables:?}");
        };
        let runtime = runtime.to_str().expect("UTF-8");
        check(&[], None);
        check(&[("XDG_RUNTIME_DIR", runtime)], None);
        std::fs::write(Path::new(runtime).join("bus"), "").expect("a file");
        let expect = format!("unix:path={}/bus", runtime.replace(' ', "%20"));
        check(&[("XDG_RUNTIME_DIR", runtime)], Some(&expect));
        check(&[("XDG_RUNTIME_DIR", runtime), ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/a")], Some("unix:path=/a"));
        check(&[("DBUS_SESSION_BUS_ADDRESS", "")], None);
        check(&[("XDG_RUNTIME_DIR", "")], None);
    }

    #[test]
    fn a_bus_of_another_machine_is_none() {
        for address in ["tcp:host=192.0.2.1,port=1", "unix:path=/a;tcp:host=192.0.2.1", "unixexec:path=/bin/sh", ""] {
            assert!(Keychain::at(address).is_none(), "{address}");
        }
    }
}
