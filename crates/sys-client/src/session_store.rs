//! Where a session is kept: in the system's keychain, or in a file that only its user can read.
//!
//! The directory holds `session.json`, which is either the session itself or says that it is in the keychain; then no token is
//! in it. The file is replaced as a whole (a new one is written and renamed over it). Whoever changes the session, wherever it is,
//! holds the lock beside it, so that two programs that refresh at once do not trade the same refresh token: the server
//! would take the second for a thief and end the session.

use crate::{
    Endpoint, Session,
    keychain::{Keychain, KeychainError},
};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// The variable that names the directory of the session file, before all others.
pub const CONFIG_DIR_VARIABLE: &str = "SYS_CONFIG_DIR";
/// Wait for another program's refresh. Above [`crate::channel::CONNECT_TIMEOUT`], which it may spend.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// A session is under 4 KiB; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 64 * 1_024;
/// The format of a file that says that the session is in the keychain. A program that knows whole sessions alone
/// refuses it instead of taking it for a session.
const POINTER_FORMAT: u32 = 2;
/// The file's name.
const FILE: &str = "session.json";
/// What is being written in its place.
const NEW_FILE: &str = "session.json.new";

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

    /// Waits for the right to change the session.
    pub async fn lock(&self) -> Result<SessionLock<'_>, SessionError> {
        let path = self.file("session.lock");
        let failed = |source| SessionError::File { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        let end = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    self.sweep()?;
                    return Ok(SessionLock { store: self, _held: file });
                }
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOCK_PAUSE).await,
                Err(TryLockError::WouldBlock) => return Err(SessionError::Busy { path }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Removes what was being written by a program that was killed: it holds tokens, too. Whoever has the lock is the only writer.
    fn sweep(&self) -> Result<(), SessionError> {
        let path = self.file(NEW_FILE);
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
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SessionError::File { path, source }),
        };
        let mut text = Zeroizing::new(String::new());
        // Another user's file would send tokens and passwords where he wants them.
        let is_own = |metadata: &fs::Metadata| metadata.uid() == geteuid().as_raw();
        let mode = file.metadata().map(|metadata| (metadata.permissions().mode(), is_own(&metadata)));
        let read = mode.and_then(|mode| file.take(MAX_FILE_BYTES).read_to_string(&mut text).map(|_| mode));
        let (mode, is_own) = read.map_err(|source| SessionError::File { path: path.clone(), source })?;
        if mode & 0o077 != 0 || !is_own {
            return Err(SessionError::Exposed { path });
        }
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

    fn write(&self, text: &[u8]) -> Result<(), SessionError> {
        let path = self.file(FILE);
        replace(&path, &self.file(NEW_FILE), text).map_err(|source| SessionError::File { path, source })
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

    /// Keeps the session of a new login at this place and nowhere else, whatever was kept before.
    pub async fn save_in(&self, place: &Place, session: &Session) -> Result<(), SessionError> {
        self.put(place, session).await?;
        if let (Place::File(_), Some(keychain)) = (place, &self.store.keychain) {
            // Whoever chose the file may have done so because the keychain is locked or broken: what is in it then stays
            // until a logout finds it open.
            let _ = keychain.clone().without_prompts().remove(&self.store.name()?).await;
        }
        Ok(())
    }

    async fn put(&self, place: &Place, session: &Session) -> Result<(), SessionError> {
        let malformed = || SessionError::Malformed { path: self.store.file(FILE) };
        let text = session.to_text().ok_or_else(malformed)?;
        if let Place::File(_) = place {
            return self.store.write(text.as_bytes());
        }
        let pointer = Pointer {
            format: POINTER_FORMAT,
            kept_in: place.name().to_owned(),
            server: session.server.to_string(),
            session_id: session.session_id.clone(),
        };
        let pointer = serde_json::to_string_pretty(&pointer).map_err(|_| malformed())?;
        // The file last: until it says so, nobody looks for the session in the keychain.
        self.store.keychain()?.write(&self.store.name()?, text.as_bytes()).await?;
        self.store.write(pointer.as_bytes())
    }

    /// Forgets the session, wherever it is. The file goes in any case: a keychain that is gone must not keep anybody logged in.
    pub async fn remove(&self) -> Result<(), SessionError> {
        let was_there = matches!(self.store.kept(), Ok(Some(Kept::InKeychain { .. })));
        let path = self.store.file(FILE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(SessionError::File { path, source });
            }
            _ => {}
        }
        let cleared = match &self.store.keychain {
            Some(keychain) => keychain.remove(&self.store.name()?).await,
            None => Err(KeychainError::NoBus),
        };
        // Without a session in it there is nothing that must go: a login that was broken off may have left something.
        if was_there { Ok(cleared?) } else { Ok(()) }
    }
}

/// Writes `bytes` to `new`, which only its user may read from the moment it exists, and renames it to `path`.
pub(crate) fn replace(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    // Left over by a program that died; it may have any permissions.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
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
mod tests {
    use super::*;
    use crate::Token;

    fn session(number: i64) -> Session {
        Session {
            server: "http://127.0.0.1:8443".parse().expect("an endpoint"),
            account_id: "account_1".into(),
            session_id: "session_1".into(),
            access_token: Token::new(format!("access {number}")),
            access_expires_unix_s: number,
            refresh_token: Token::new("refresh \"quoted\""),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_session_survives_in_a_file_that_only_its_user_reads() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("config/sys");
        let store = SessionStore::new(&inner);
        assert_eq!(store.load().await.expect("nothing there"), None);
        // A leftover that everybody may read must not pass its permissions on.
        fs::create_dir_all(&inner).expect("a directory");
        fs::write(inner.join("session.json.new"), "left over").expect("a file");
        let lock = store.lock().await.expect("the lock");
        lock.save(&session(1)).await.expect("saved");
        assert_eq!(mode(&inner.join("session.json")), 0o600);
        assert_eq!(mode(&inner.join("session.lock")), 0o600);
        assert_eq!(store.load().await.expect("readable"), Some(session(1)));
        lock.save(&session(2)).await.expect("replaced");
        assert_eq!(store.load().await.expect("readable"), Some(session(2)));
        assert!(!inner.join(NEW_FILE).exists());
        lock.remove().await.expect("removed");
        lock.remove().await.expect("removed twice");
        assert_eq!(store.load().await.expect("nothing there"), None);
    }

    #[tokio::test]
    async fn the_directory_is_made_for_its_user_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("sys");
        let store = SessionStore::new(&inner);
        store.lock().await.expect("the lock");
        assert_eq!(mode(&inner), 0o700);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn readers_see_whole_sessions_while_one_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SessionStore::new(directory.path());
        store.lock().await.expect("the lock").save(&session(0)).await.expect("saved");
        let reader = {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    store.load().await.expect("whole").expect("there");
                }
            })
        };
        let lock = store.lock().await.expect("the lock");
        for number in 1..100 {
            lock.save(&session(number)).await.expect("saved");
        }
        reader.await.expect("no reader saw half a session");
    }

    #[tokio::test]
    async fn only_one_program_at_a_time_changes_the_session() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SessionStore::new(directory.path());
        let first = store.lock().await.expect("the lock");
        let other = SessionStore::new(directory.path());
        let mut second = std::pin::pin!(other.lock());
        assert!(tokio::time::timeout(LOCK_PAUSE * 3, second.as_mut()).await.is_err(), "two hold the lock");
        drop(first);
        second.await.expect("the lock is free");
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_or_that_is_no_session_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SessionStore::new(directory.path());
        let path = directory.path().join("session.json");
        fs::write(&path, "{}").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions");
        assert!(matches!(store.load().await, Err(SessionError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
        assert!(matches!(store.load().await, Err(SessionError::Malformed { .. })));
    }

    #[test]
    fn the_environment_says_where_the_session_is() {
        let check = |variables: &[(&str, &str)], expect: Option<&str>| {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            let found = SessionStore::from_environment(variable).ok().map(|store| store.directory);
            assert_eq!(found.as_deref(), expect.map(Path::new), "{variables:?}");
        };
        check(&[("HOME", "/home/a")], Some("/home/a/.config/sys"));
        check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x")], Some("/x/sys"));
        check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")], Some("/home/a/.config/sys"));
        check(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x"), ("SYS_CONFIG_DIR", "here")], Some("here"));
        check(&[("SYS_CONFIG_DIR", "")], None);
    }
}
