//! A login that lasts: tokens in a file that only its user can read.
//!
//! The file is replaced as a whole (a new one is written and renamed over it), by whoever holds the lock beside it, so that
//! two programs that refresh at once do not trade the same refresh token: the server would take the second for a thief
//! and end the session.

use crate::Endpoint;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// The variable that names the directory of the session file, before all others.
pub const CONFIG_DIR_VARIABLE: &str = "SYS_CONFIG_DIR";
/// An access token that ends sooner is refreshed before it is used: longer than a call takes.
pub const REFRESH_BEFORE_END_S: i64 = 30;
/// Wait for another program's refresh. Above [`crate::channel::CONNECT_TIMEOUT`], which it may spend.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two looks at the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// A session is under 4 KiB; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 64 * 1_024;
/// The format that is written. Read before anything else of the file.
const FORMAT: u32 = 1;

/// A secret of the session. Wiped from memory where it ends; has no readable `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Its text, for the wire and the session file alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Who is logged in where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The server; its tokens go nowhere else.
    pub server: Endpoint,
    /// The account.
    pub account_id: String,
    /// The session's id on the server.
    pub session_id: String,
    /// Goes with each call.
    pub access_token: Token,
    /// When it ends, in Unix seconds by the server's clock.
    pub access_expires_unix_s: i64,
    /// Good for one refresh.
    pub refresh_token: Token,
}

impl Session {
    /// Whether the access token is to be refreshed before it is used.
    pub fn is_stale(&self, now_unix_s: i64) -> bool {
        self.access_expires_unix_s.saturating_sub(now_unix_s) < REFRESH_BEFORE_END_S
    }

    /// From the text of a session file.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let server = stored.server.parse().ok().filter(|_| stored.format == FORMAT)?;
        Some(Self {
            server,
            account_id: stored.account_id,
            session_id: stored.session_id,
            access_token: Token(stored.access_token),
            access_expires_unix_s: stored.access_expires_unix_s,
            refresh_token: Token(stored.refresh_token),
        })
    }

    /// The text of its session file.
    pub(crate) fn to_text(&self) -> Option<Zeroizing<String>> {
        let stored = Stored {
            format: FORMAT,
            server: self.server.to_string(),
            account_id: self.account_id.clone(),
            session_id: self.session_id.clone(),
            access_token: self.access_token.0.clone(),
            access_expires_unix_s: self.access_expires_unix_s,
            refresh_token: self.refresh_token.0.clone(),
        };
        serde_json::to_string_pretty(&stored).ok().map(Zeroizing::new)
    }
}

/// The session file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    server: String,
    account_id: String,
    session_id: String,
    access_token: Zeroizing<String>,
    access_expires_unix_s: i64,
    refresh_token: Zeroizing<String>,
}

/// The directory that holds the session file.
#[derive(Debug, Clone)]
pub struct SessionStore {
    directory: PathBuf,
}

impl SessionStore {
    /// In this directory, which is made where it is not there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// In the directory that the environment names: `SYS_CONFIG_DIR`, else `sys` in `XDG_CONFIG_HOME` (XDG Base Directory
    /// Specification), else in `~/.config`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SessionError> {
        // The specification has relative paths ignored.
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let named = variable(CONFIG_DIR_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        named
            .or_else(|| path("XDG_CONFIG_HOME").map(|path| path.join("sys")))
            .or_else(|| path("HOME").map(|path| path.join(".config/sys")))
            .map(Self::new)
            .ok_or(SessionError::NoHome)
    }

    /// The session, if somebody is logged in. A file that others can read is refused: its tokens are no secrets any more.
    pub fn load(&self) -> Result<Option<Session>, SessionError> {
        let path = self.file("session.json");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SessionError::File { path, source }),
        };
        let mut text = Zeroizing::new(String::new());
        let mode = file.metadata().map(|metadata| metadata.permissions().mode());
        let read = mode.and_then(|mode| file.take(MAX_FILE_BYTES).read_to_string(&mut text).map(|_| mode));
        let mode = read.map_err(|source| SessionError::File { path: path.clone(), source })?;
        if mode & 0o077 != 0 {
            return Err(SessionError::Exposed { path });
        }
        Session::from_text(&text).map(Some).ok_or(SessionError::Malformed { path })
    }

    /// Waits for the right to change the session file.
    pub async fn lock(&self) -> Result<SessionLock<'_>, SessionError> {
        let path = self.file("session.lock");
        let failed = |source| SessionError::File { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
        let end = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(SessionLock { store: self, _held: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(LOCK_PAUSE).await,
                Err(TryLockError::WouldBlock) => return Err(SessionError::Busy { path }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The right to change the session file, held until it is dropped.
#[derive(Debug)]
pub struct SessionLock<'a> {
    store: &'a SessionStore,
    /// The system gives the lock up when the file closes, also when the process dies.
    _held: File,
}

impl SessionLock<'_> {
    /// Replaces the session. Whoever reads at the same time sees the old one or the new one, whole.
    pub fn save(&self, session: &Session) -> Result<(), SessionError> {
        let path = self.store.file("session.json");
        let text = session.to_text().ok_or_else(|| SessionError::Malformed { path: path.clone() })?;
        replace(&path, &self.store.file("session.json.new"), text.as_bytes())
            .map_err(|source| SessionError::File { path, source })
    }

    /// Forgets the session.
    pub fn remove(&self) -> Result<(), SessionError> {
        let path = self.store.file("session.json");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(SessionError::File { path, source }),
            _ => Ok(()),
        }
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

/// Why the session file cannot be used.
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
    /// Others than its user can read it.
    #[error("{} can be read by other users, so its tokens are no secrets any more; remove it and log in again", path.display())]
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(store.load().expect("nothing there"), None);
        // A leftover that everybody may read must not pass its permissions on.
        fs::create_dir_all(&inner).expect("a directory");
        fs::write(inner.join("session.json.new"), "left over").expect("a file");
        let lock = store.lock().await.expect("the lock");
        lock.save(&session(1)).expect("saved");
        assert_eq!(mode(&inner.join("session.json")), 0o600);
        assert_eq!(mode(&inner.join("session.lock")), 0o600);
        assert_eq!(store.load().expect("readable"), Some(session(1)));
        lock.save(&session(2)).expect("replaced");
        assert_eq!(store.load().expect("readable"), Some(session(2)));
        assert!(!inner.join("session.json.new").exists());
        lock.remove().expect("removed");
        lock.remove().expect("removed twice");
        assert_eq!(store.load().expect("nothing there"), None);
    }

    #[tokio::test]
    async fn the_directory_is_made_for_its_user_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("sys");
        let store = SessionStore::new(&inner);
        store.lock().await.expect("the lock");
        assert_eq!(mode(&inner), 0o700);
    }

    #[tokio::test]
    async fn readers_see_whole_sessions_while_one_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SessionStore::new(directory.path());
        store.lock().await.expect("the lock").save(&session(0)).expect("saved");
        let reader = {
            let store = store.clone();
            std::thread::spawn(move || {
                for _ in 0..500 {
                    store.load().expect("whole").expect("there");
                }
            })
        };
        let lock = store.lock().await.expect("the lock");
        for number in 1..100 {
            lock.save(&session(number)).expect("saved");
        }
        reader.join().expect("no reader saw half a session");
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

    #[test]
    fn a_file_that_others_can_read_or_that_is_no_session_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SessionStore::new(directory.path());
        let path = directory.path().join("session.json");
        fs::write(&path, "{}").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("permissions");
        assert!(matches!(store.load(), Err(SessionError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
        assert!(matches!(store.load(), Err(SessionError::Malformed { .. })));
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

    #[test]
    fn a_token_is_refreshed_before_it_ends() {
        let session = session(1_000);
        assert!(!session.is_stale(1_000 - REFRESH_BEFORE_END_S));
        assert!(session.is_stale(1_000 - REFRESH_BEFORE_END_S + 1));
        assert!(session.is_stale(i64::MAX));
        assert!(!session.is_stale(i64::MIN), "a clock far behind must not overflow");
    }
}
