//! The audit logs of a server, as somebody reads them who doubts it.
//!
//! A head is verified as it comes in; what it is worth beside earlier ones is decided in [`crate::heads`]. The messages are
//! those of `sys.account.v1.AuditService`, with field numbers as published there; a request to the server's own log is that to
//! an org's without the org.

use crate::{CallError, Client, ClientError};
use prost::Message;
use std::fmt;
use sys_audit::{
    Checker, Distrust, EntryFault, Hash, SignedHead,
    head::{Head, SYSTEM_LOG},
};

/// Entries that one call brings.
pub const LEAVES_AT_ONCE: u64 = 1_000;

/// A log: an org's, or that of the server itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// What concerns no org.
    System,
    /// The org with this id.
    Org(String),
}

impl Log {
    /// What it is called in its heads.
    pub fn id(&self) -> &str {
        match self {
            Self::System => SYSTEM_LOG,
            Self::Org(id) => id,
        }
    }

    fn org_id(&self) -> String {
        match self {
            Self::System => String::new(),
            Self::Org(id) => id.clone(),
        }
    }

    /// The method with this verb on this kind of log.
    fn path(&self, verb: &str, noun: &str) -> String {
        let system = if matches!(self, Self::System) { "System" } else { "" };
        format!("sys.account.v1.AuditService/{verb}{system}Audit{noun}")
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the server"),
            Self::Org(id) => f.write_str(id),
        }
    }
}

/// Why a log could not be read, or is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The log is not what it says, or not what it was.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// An entry is not what was hashed, or not where it was.
    #[error("the audit log of {log} was tampered with: {fault}")]
    Entry {
        /// The log.
        log: String,
        /// What is wrong.
        fault: EntryFault,
    },
    /// The answer is none.
    #[error("the server's answer about the audit log of {log} cannot be understood")]
    Malformed {
        /// The log.
        log: String,
    },
}

/// An entry in the bytes that are hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLeaf {
    /// Its number in the log.
    pub number: u64,
    /// Its hash, as the server says.
    pub hash: Hash,
    /// What it says; none once it was erased.
    pub leaf: Option<Vec<u8>>,
}

impl Client {
    /// The log as it is now, with a signature that is verified.
    pub async fn audit_head(&self, log: &Log) -> Result<SignedHead, AuditError> {
        let answer: AuditHead = self.ask(log, "Get", "Head", &OfLog { org_id: log.org_id() }).await?;
        let malformed = || AuditError::Malformed { log: log.to_string() };
        let signed = SignedHead {
            head: Head {
                log_id: answer.log_id,
                size: answer.tree_size,
                root: Hash::from_slice(&answer.root_hash).ok_or_else(malformed)?,
                unix_s: answer.time.unwrap_or_default().seconds,
            },
            public_key: answer.public_key.try_into().map_err(|_| malformed())?,
            signature: answer.signature,
        };
        signed.verify(log.id())?;
        Ok(signed)
    }

    /// The proof that the log of one size is the beginning of that of another, not verified yet.
    pub async fn audit_consistency(&self, log: &Log, first: u64, second: u64) -> Result<Vec<Hash>, AuditError> {
        let request = Consistency { org_id: log.org_id(), first_size: first, second_size: second };
        let answer: Path = self.ask(log, "Get", "Consistency", &request).await?;
        let hashes: Option<Vec<Hash>> = answer.path.iter().map(|hash| Hash::from_slice(hash)).collect();
        hashes.ok_or_else(|| AuditError::Malformed { log: log.to_string() })
    }

    /// Entries from a number on, as many as one call brings and at most so many; none behind the end.
    pub async fn audit_leaves(&self, log: &Log, first: u64, at_most: u64) -> Result<Vec<RawLeaf>, AuditError> {
        let count = i32::try_from(at_most.min(LEAVES_AT_ONCE)).unwrap_or(i32::MAX);
        let request = Leaves { org_id: log.org_id(), first_number: first, count };
        let answer: LeavesAnswer = self.ask(log, "Read", "Leaves", &request).await?;
        let read = |raw: AuditLeaf| {
            let hash = Hash::from_slice(&raw.leaf_hash)?;
            Some(RawLeaf { number: raw.number, hash, leaf: Some(raw.leaf).filter(|leaf| !leaf.is_empty()) })
        };
        let leaves: Option<Vec<RawLeaf>> = answer.leaves.into_iter().map(read).collect();
        leaves.ok_or_else(|| AuditError::Malformed { log: log.to_string() })
    }

    /// Reads the whole log of a head, checks it entry by entry against the head and against one that was kept, and hands each
    /// entry on once it is checked by itself. The whole is good when this returns: how many entries say nothing any more.
    pub async fn audit_walk<E: From<AuditError>>(
        &self,
        log: &Log,
        head: &SignedHead,
        kept: Option<&SignedHead>,
        mut each: impl FnMut(&RawLeaf) -> Result<(), E>,
    ) -> Result<u64, E> {
        let fault = |fault| AuditError::Entry { log: log.to_string(), fault };
        let mut checker = Checker::against(kept.map(|kept| kept.head.clone()));
        while checker.entries() < head.head.size {
            let missing = head.head.size.saturating_sub(checker.entries());
            let leaves = self.audit_leaves(log, checker.entries(), missing).await?;
            if leaves.is_empty() {
                break;
            }
            for raw in leaves {
                checker.push(raw.number, raw.hash, raw.leaf.as_deref()).map_err(fault)?;
                each(&raw)?;
            }
        }
        let erased = checker.erased();
        checker.finish(&head.head).map_err(AuditError::from)?;
        Ok(erased)
    }

    async fn ask<Answer: Message + Default>(
        &self,
        log: &Log,
        verb: &str,
        noun: &str,
        request: &impl Message,
    ) -> Result<Answer, AuditError> {
        let path = log.path(verb, noun);
        let answer = self.call_bytes(&path, request.encode_to_vec().into()).await?;
        let malformed = |error: prost::DecodeError| CallError::Malformed { path, source: error.into() };
        Ok(Answer::decode(answer).map_err(malformed).map_err(ClientError::from)?)
    }
}

/// A request about a log and nothing else.
#[derive(Clone, PartialEq, Message)]
struct OfLog {
    #[prost(string, tag = "1")]
    org_id: String,
}

/// sys.account.v1.GetAuditConsistencyRequest.
#[derive(Clone, PartialEq, Message)]
struct Consistency {
    #[prost(string, tag = "1")]
    org_id: String,
    #[prost(uint64, tag = "2")]
    first_size: u64,
    #[prost(uint64, tag = "3")]
    second_size: u64,
}

/// sys.account.v1.ReadAuditLeavesRequest.
#[derive(Clone, PartialEq, Message)]
struct Leaves {
    #[prost(string, tag = "1")]
    org_id: String,
    #[prost(uint64, tag = "2")]
    first_number: u64,
    #[prost(int32, tag = "3")]
    count: i32,
}

/// sys.account.v1.AuditHead.
#[derive(Clone, PartialEq, Message)]
struct AuditHead {
    #[prost(string, tag = "1")]
    log_id: String,
    #[prost(uint64, tag = "2")]
    tree_size: u64,
    #[prost(bytes = "vec", tag = "3")]
    root_hash: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    time: Option<prost_types::Timestamp>,
    #[prost(bytes = "vec", tag = "6")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    signature: Vec<u8>,
}

/// sys.account.v1.AuditConsistency.
#[derive(Clone, PartialEq, Message)]
struct Path {
    #[prost(bytes = "vec", repeated, tag = "1")]
    path: Vec<Vec<u8>>,
}

/// sys.account.v1.AuditLeaves.
#[derive(Clone, PartialEq, Message)]
struct LeavesAnswer {
    #[prost(message, repeated, tag = "1")]
    leaves: Vec<AuditLeaf>,
}

/// sys.account.v1.AuditLeaf.
#[derive(Clone, PartialEq, Message)]
struct AuditLeaf {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(bytes = "vec", tag = "2")]
    leaf_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    leaf: Vec<u8>,
}
