//! Where a session is kept: in the system's keychain, or in a file that only its user can read.
//!
//! The directory holds `session.json`, which is either the session itself or says that it is in the keychain; then no token is
//! in it. The file is replaced as a whole (a new one is written and renamed over it). Whoever changes the session, wherever it is,
//! holds the lock beside it, so that two programs that refresh at once do not trade the same refresh token: the server
//! would take the second for a thief and end the session. The key that the session is bound to lies in the same place, but apart: a
//! copy of `session.json` alone is worth nothing.

use crate::{
    DeviceKey, Endpoint, Session,
    keychain::{Keychain, KeychainError},
    own_file,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io,
    path::PathBuf,
};
use zeroize::Zeroizing;

/// The variable that names the directory of the session file, before all others.
pub const CONFIG_DIR_VARIABLE: &str = "SYS_CONFIG_DIR";
/// A session is under 4 KiB; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 64 * 1_024;
/// The format of a file that says that the session is in the keychain. A program that knows whole sessions alone
/// refuses it instead of taking it for a session.
const POINTER_FORMAT: u32 = 2;
/// The file's name.
const FILE: &str = "session.json";
/// What is being written in its place.
const NEW_FILE: &str = "session.json.new";
/// The file of the key that the session is bound to.
const DEVICE_FILE: &str = "device-key.json";
/// What is being written in its place.
const NEW_DEVICE_FILE: &str = "device-key.json.new";
/// How the entries of the keychain are called where their user sees them. They name no server and no person.
const LABEL: &str = "sys: session";
const DEVICE_LABEL: &str = "sys: device key";

/// Where a session is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the system's keychain.
    Keychain,
    /// In this file.
    File(PathBuf),
}

impl Place {
    /// What programs call it, and `sys login --store`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keychain => "keychain",
            Self::File(_) => "file",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keychain => f.write_str("the system's keychain"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

/// Where whoever logs in wants his session to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// In the keychain where one can be used, else in a file.
    Best,
    /// In the keychain, or not at all.
    Keychain,
    /// In a file.
    File,
}

/// What `session.json` says where the session is in the keychain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    format: u32,
    kept_in: String,
    server: String,
    session_id: String,
}

/// What stands in `session.json`.
#[derive(Debug)]
enum Kept {
    Here(Session),
    InKeychain { server: Endpoint, session_id: String },
}

/// Where the session is kept.
#[derive(Debug, Clone)]
pub struct SessionStore {
    directory: PathBuf,
    keychain: Option<Keychain>,
}

impl SessionStore {
    /// In this directory, which is made where it is not there. Without a keychain.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), keychain: None }
    }

    /// In the directory that the environment names: `SYS_CONFIG_DIR`, else `sys` in `XDG_CONFIG_HOME` (XDG Base Directory
    /// Specification), else in `~/.config`; and in the keychain that it names ([`Keychain::from_environment`]).
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SessionError> {
        // The specification has relative paths ignored.
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let named = variable(CONFIG_DIR_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let directory = named
            .or_else(|| path("XDG_CONFIG_HOME").map(|path| path.join("sys")))
            .or_else(|| path("HOME").map(|path| path.join(".config/sys")))
            .ok_or(SessionError::NoHome)?;
        Ok(Self { directory, keychain: Keychain::from_environment(variable) })
    }

    /// The same, but nobody is asked to unlock the keychain.
    #[must_use]
    pub fn without_prompts(self) -> Self {
        Self { keychain: self.keychain.map(Keychain::without_prompts), ..self }
    }

    /// Where a session will be kept; and why not in the keychain, where that was wished for if possible. The keychain is open
    /// then, so that nobody logs in and finds that there is no place for his session.
    pub async fn choose(&self, wish: Wish) -> Result<(Place, Option<KeychainError>), SessionError> {
        let file = || Place::File(self.file(FILE));
        if wish == Wish::File {
            return Ok((file(), None));
        }
        let open = match &self.keychain {
            Some(keychain) => keychain.open().await,
            None => Err(KeychainError::NoBus),
        };
        match open {
            Ok(()) => Ok((Place::Keychain, None)),
            Err(why) if wish == Wish::Best => Ok((file(), Some(why))),
            Err(why) => Err(why.into()),
        }
    }

    /// The server of the session, if somebody is logged in. The keychain is not asked.
    pub fn server(&self) -> Result<Option<Endpoint>, SessionError> {
        Ok(self.kept()?.map(|kept| match kept {
            Kept::Here(session) => session.server,
            Kept::InKeychain { server, .. } => server,
        }))
    }

    /// Where the session is kept, if somebody is logged in. The keychain is not asked.
    pub fn place(&self) -> Result<Option<Place>, SessionError> {
        Ok(self.kept()?.map(|kept| match kept {
            Kept::Here(_) => Place::File(self.file(FILE)),
            Kept::InKeychain { .. } => Place::Keychain,
        }))
    }

    /// The session, if somebody is logged in. A file that others can read is refused: its tokens are no secrets any more.
    pub async fn load(&self) -> Result<Option<Session>, SessionError> {
        match self.load_now().await {
            // Another program is logging in: the keychain has its session already, the file not yet.
            Err(SessionError::Keychain(KeychainError::Lost)) => self.lock().await?.load().await,
            loaded => loaded,
        }
    }

    async fn load_now(&self) -> Result<Option<Session>, SessionError> {
        let (server, session_id) = match self.kept()? {
            None => return Ok(None),
            Some(Kept::Here(session)) => return Ok(Some(session)),
            Some(Kept::InKeychain { server, session_id }) => (server, session_id),
        };
        let secret = self.keychain()?.read(&self.name()?).await?;
        let text = secret.as_ref().and_then(|secret| std::str::from_utf8(secret).ok());
        let session = text.and_then(Session::from_text);
        // An entry of another login is not believed: its tokens are of another server, or of another person.
        let session = session.filter(|session| session.server == server && session.session_id == session_id);
        session.map(Some).ok_or_else(|| KeychainError::Lost.into())
    }

    /// The key that a session is bound to; none where it is bound to none, or where its key is not here any more.
    pub async fn device_key(&self, session: &Session) -> Result<Option<DeviceKey>, SessionError> {
        let Some(bound_to) = session.device else { return Ok(None) };
        let text = match self.place()? {
            None => None,
            Some(Place::File(_)) => own_file::read(&self.file(DEVICE_FILE), MAX_FILE_BYTES)?,
            Some(Place::Keychain) => {
                let secret = self.keychain()?.read(&self.device_name()?).await?;
                secret.and_then(|secret| std::str::from_utf8(&secret).ok().map(|text| Zeroizing::new(text.to_owned())))
            }
        };
        // One of another login is of another certificate.
        Ok(text.and_then(|text| DeviceKey::from_text(&text)).filter(|key| key.fingerprint() == bound_to))
    }

    /// Waits for the right to change the session.
    pub async fn lock(&self) -> Result<SessionLock<'_>, SessionError> {
        let held = own_file::lock(&self.file("session.lock")).await?;
        self.sweep()?;
        Ok(SessionLock { store: self, _held: held })
    }

    /// Removes what was being written by a program that was killed: it holds tokens, too. Whoever has the lock is the only writer.
    fn sweep(&self) -> Result<(), SessionError> {
        self.remove_file(NEW_FILE)?;
        self.remove_file(NEW_DEVICE_FILE)
    }

    fn remove_file(&self, name: &str) -> Result<(), SessionError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SessionError::File { path, source }),
            _ => Ok(()),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the file says.
    fn kept(&self) -> Result<Option<Kept>, SessionError> {
        let path = self.file(FILE);
        let Some(text) = own_file::read(&path, MAX_FILE_BYTES)? else { return Ok(None) };
        let kept = Session::from_text(&text).map(Kept::Here).or_else(|| Kept::pointer(&text));
        kept.map(Some).ok_or(SessionError::Malformed { path })
    }

    fn keychain(&self) -> Result<&Keychain, SessionError> {
        self.keychain.as_ref().ok_or_else(|| KeychainError::NoBus.into())
    }

    /// How the session is called in the keychain: by its directory, so that each has its own.
    fn name(&self) -> Result<String, SessionError> {
        let path = &self.directory;
        let whole = fs::canonicalize(path).map_err(|source| SessionError::File { path: path.clone(), source })?;
        let name = whole.into_os_string().into_string();
        name.map_err(|_| SessionError::File { path: path.clone(), source: io::ErrorKind::InvalidFilename.into() })
    }

    /// How the key of its device is called there.
    fn device_name(&self) -> Result<String, SessionError> {
        Ok(self.name()? + "#device-key")
    }

    fn write(&self, name: &str, new: &str, text: &[u8]) -> Result<(), SessionError> {
        let path = self.file(name);
        own_file::replace(&path, &self.file(new), text).map_err(|source| SessionError::File { path, source })
    }
}

impl Kept {
    fn pointer(text: &str) -> Option<Self> {
        let pointer: Pointer = serde_json::from_str(text).ok()?;
        let is_ours = pointer.format == POINTER_FORMAT && pointer.kept_in == Place::Keychain.name();
        let server = pointer.server.parse().ok().filter(|_| is_ours)?;
        Some(Self::InKeychain { server, session_id: pointer.session_id })
    }
}

/// The server of a session that a file says is kept in the keychain.
pub(crate) fn pointer(text: &str) -> Option<Endpoint> {
    match Kept::pointer(text)? {
        Kept::InKeychain { server, .. } => Some(server),
        Kept::Here(_) => None,
    }
}

/// The right to change the session, held until it is dropped.
#[derive(Debug)]
pub struct SessionLock<'a> {
    store: &'a SessionStore,
    /// The system gives the lock up when the file closes, also when the process dies.
    _held: File,
}

impl SessionLock<'_> {
    /// The session, as [`SessionStore::load`].
    pub async fn load(&self) -> Result<Option<Session>, SessionError> {
        self.store.load_now().await
    }

    /// Replaces the session where it is kept, in the file where there was none. Whoever reads at the same time sees the old one or
    /// the new one, whole.
    pub async fn save(&self, session: &Session) -> Result<(), SessionError> {
        let place = self.store.place()?.unwrap_or_else(|| Place::File(self.store.file(FILE)));
        self.put(&place, session).await
    }

    /// Keeps the session of a new login, with the key that it is bound to, at this place and nowhere else, whatever was kept before.
    pub async fn save_in(&self, place: &Place, session: &Session, key: Option<&DeviceKey>) -> Result<(), SessionError> {
        // The key first: a session is never there without it. Where it is the last thing done, the session of before is lost.
        if let Some(key) = key {
            self.put_key(place, key).await?;
        }
        self.put(place, session).await?;
        let is_in_keychain = *place == Place::Keychain;
        if key.is_none() || is_in_keychain {
            self.store.remove_file(DEVICE_FILE)?;
        }
        if let Some(keychain) = self.store.keychain.clone().map(Keychain::without_prompts) {
            // Whoever chose the file may have done so because the keychain is locked or broken: what is in it then stays
            // until a logout finds it open.
            if !is_in_keychain {
                let _ = keychain.remove(&self.store.name()?).await;
            }
            if key.is_none() || !is_in_keychain {
                let _ = keychain.remove(&self.store.device_name()?).await;
            }
        }
        Ok(())
    }

    async fn put_key(&self, place: &Place, key: &DeviceKey) -> Result<(), SessionError> {
        let malformed = || SessionError::Malformed { path: self.store.file(DEVICE_FILE) };
        let text = key.to_text().ok_or_else(malformed)?;
        match place {
            Place::File(_) => self.store.write(DEVICE_FILE, NEW_DEVICE_FILE, text.as_bytes()),
            Place::Keychain => {
                let keychain = self.store.keychain()?;
                Ok(keychain.write(&self.store.device_name()?, DEVICE_LABEL, text.as_bytes()).await?)
            }
        }
    }

    async fn put(&self, place: &Place, session: &Session) -> Result<(), SessionError> {
        let malformed = || SessionError::Malformed { path: self.store.file(FILE) };
        let text = session.to_text().ok_or_else(malformed)?;
        if let Place::File(_) = place {
            return self.store.write(FILE, NEW_FILE, text.as_bytes());
        }
        let pointer = Pointer {
            format: POINTER_FORMAT,
            kept_in: place.name().to_owned(),
            server: session.server.to_string(),
            session_id: session.session_id.clone(),
        };
        let pointer = serde_json::to_string_pretty(&pointer).map_err(|_| malformed())?;
        // The file last: until it says so, nobody looks for the session in the keychain.
        self.store.keychain()?.write(&self.store.name()?, LABEL, text.as_bytes()).await?;
        self.store.write(FILE, NEW_FILE, pointer.as_bytes())
    }

    /// Forgets the session, wherever it is. The file goes in any case: a keychain that is gone must not keep anybody logged in.
    pub async fn remove(&self) -> Result<(), SessionError> {
        let was_there = matches!(self.store.kept(), Ok(Some(Kept::InKeychain { .. })));
        self.store.remove_file(FILE)?;
        self.store.remove_file(DEVICE_FILE)?;
        let cleared = match &self.store.keychain {
            Some(keychain) => match keychain.remove(&self.store.name()?).await {
                Ok(()) => keychain.remove(&self.store.device_name()?).await,
                failed => failed,
            },
            None => Err(KeychainError::NoBus),
        };
        // Without a session in it there is nothing that must go: a login that was broken off may have left something.
        if was_there { Ok(cleared?) } else { Ok(()) }
    }
}

/// Why the session cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No variable says where it is.
    #[error("no directory for the session file: set HOME, XDG_CONFIG_HOME or {CONFIG_DIR_VARIABLE}")]
    NoHome,
    /// The system refused.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no session of this format.
    #[error("{} is no session file of this version; remove it and log in again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It holds no servers in this version's form.
    #[error("{} does not hold servers in this version's form; move it elsewhere, and trust them again with `sys trust`", path.display())]
    MalformedServers {
        /// The file.
        path: PathBuf,
    },
    /// Others than its user can read it, or it is another user's.
    #[error("{} is another user's, or can be read by one, so what it says is not to be trusted; remove it and log in again", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Another program holds the lock for too long.
    #[error("another program has held {} for too long", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// The keychain cannot be used.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
}

#[cfg(test)]
mod tests;
