//! The heads of audit logs that were seen, kept beside the session: what shows that a log was cut or rewritten.
//!
//! The first head of a log is believed, with its key; each later one must go on from it. One that does not is never kept in its
//! place, unless its user says so, who has found out why; then the old one is set aside and stays in the file, since it is signed
//! and proves what the server said. Logging out does not touch the file.

use crate::{
    Client, Endpoint, SessionError, SessionStore,
    audit::{AuditError, Log},
    audit_text,
    own_file::replace,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};
use sys_audit::{Distrust, SignedHead};

/// The file's name in the directory of the session.
const FILE: &str = "audit-heads.json";
/// A head takes 500 bytes; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The format that is written.
const FORMAT: u32 = 1;

/// What became of a log since its head was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No head of it was kept before.
    First(SignedHead),
    /// It goes on from the head that was kept.
    GoesOn {
        /// The head that was kept.
        kept: SignedHead,
        /// The head that is kept now.
        head: SignedHead,
    },
    /// It does not, and its user said that it is to be believed all the same.
    Anew {
        /// Why it would not be believed.
        distrust: Distrust,
        /// The head that is kept now.
        head: SignedHead,
    },
}

impl Seen {
    /// The head that was kept before, if the log goes on from it.
    pub fn kept(&self) -> Option<&SignedHead> {
        match self {
            Self::GoesOn { kept, .. } => Some(kept),
            Self::First(_) | Self::Anew { .. } => None,
        }
    }

    /// The head that is kept now.
    pub fn head(&self) -> &SignedHead {
        match self {
            Self::First(head) | Self::GoesOn { head, .. } | Self::Anew { head, .. } => head,
        }
    }
}

/// Why a head was not kept.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The log could not be read, or is not what it was.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] SessionError),
    /// It holds no heads of this version.
    #[error("{} does not hold kept heads of audit logs in this version's form; move it elsewhere and log in again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl From<Distrust> for HeadsError {
    fn from(distrust: Distrust) -> Self {
        Self::Audit(distrust.into())
    }
}

/// The heads that are kept.
#[derive(Debug, Clone)]
pub struct KeptHeads(SessionStore);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    format: u32,
    heads: Vec<StoredHead>,
    /// Heads that were given up on their user's word.
    set_aside: Vec<StoredHead>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredHead {
    server: String,
    head: Json,
}

impl KeptHeads {
    /// Beside the session in this directory.
    pub fn new(sessions: SessionStore) -> Self {
        Self(sessions)
    }

    /// The head of a log that is kept, if there is one.
    pub fn of(&self, server: &Endpoint, log_id: &str) -> Result<Option<SignedHead>, HeadsError> {
        self.find(&self.load()?, server, log_id)
    }

    /// Asks for the head of a log, holds it against the one that is kept, and keeps it. `anew` keeps it whatever it is, as long
    /// as it is one.
    pub async fn check(&self, client: &Client, log: &Log, anew: bool) -> Result<Seen, HeadsError> {
        let kept = self.of(client.endpoint(), log.id())?;
        let head = client.audit_head(log).await?;
        let seen = match kept {
            None => Seen::First(head),
            Some(kept) => match goes_on(client, log, &kept, &head).await {
                Ok(()) => Seen::GoesOn { kept, head },
                Err(AuditError::Distrust(distrust)) if anew => Seen::Anew { distrust, head },
                Err(error) => return Err(error.into()),
            },
        };
        self.keep(client.endpoint(), &seen).await?;
        Ok(seen)
    }

    /// Keeps what was seen, unless another program has kept a later head meanwhile.
    async fn keep(&self, server: &Endpoint, seen: &Seen) -> Result<(), HeadsError> {
        let _lock = self.0.lock().await?;
        let mut stored = self.load()?;
        let head = seen.head();
        let is_of_log = |stored: &StoredHead| {
            stored.server == server.as_str()
                && stored.head.get("log_id").and_then(Json::as_str) == Some(&head.head.log_id)
        };
        let before = self.find(&stored, server, &head.head.log_id)?;
        match (seen, &before) {
            (Seen::Anew { .. }, _) => {
                stored.set_aside.extend(stored.heads.iter().filter(|head| is_of_log(head)).cloned())
            }
            (_, Some(before)) if before.head.size >= head.head.size => return Ok(()),
            _ => {}
        }
        stored.heads.retain(|head| !is_of_log(head));
        stored.heads.push(StoredHead { server: server.to_string(), head: audit_text::of_head(head) });
        stored.format = FORMAT;
        let path = self.0.file(FILE);
        let text = serde_json::to_string_pretty(&stored).map_err(|_| HeadsError::Malformed { path: path.clone() })?;
        replace(&path, &self.0.file("audit-heads.json.new"), text.as_bytes())
            .map_err(|source| SessionError::File { path, source })?;
        Ok(())
    }

    fn find(&self, stored: &Stored, server: &Endpoint, log_id: &str) -> Result<Option<SignedHead>, HeadsError> {
        for kept in stored.heads.iter().filter(|kept| kept.server == server.as_str()) {
            let head = audit_text::to_head(&kept.head);
            let head = head.ok_or_else(|| HeadsError::Malformed { path: self.0.file(FILE) })?;
            if head.head.log_id == log_id {
                // A head that is not signed as it says was changed here, or never was one.
                head.verify(log_id)?;
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    fn load(&self) -> Result<Stored, HeadsError> {
        let path = self.0.file(FILE);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
            Err(source) => return Err(SessionError::File { path, source }.into()),
        }
        Stored::from_text(&text).ok_or(HeadsError::Malformed { path })
    }
}

impl Stored {
    fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|stored: &Self| stored.format == FORMAT)
    }
}

/// What a file's text holds, as it is written.
pub(crate) fn rewritten(text: &str) -> Option<String> {
    serde_json::to_string_pretty(&Stored::from_text(text)?).ok()
}

/// Asks the server to prove that a head goes on from a kept one, where that takes a proof.
async fn goes_on(client: &Client, log: &Log, kept: &SignedHead, head: &SignedHead) -> Result<(), AuditError> {
    let proof = match head.needs_proof(kept)? {
        true => client.audit_consistency(log, kept.head.size, head.head.size).await?,
        false => Vec::new(),
    };
    Ok(head.goes_on_from(kept, &proof)?)
}
