//! What a caller sees when a call fails: a code, a stable reason, the field at fault, and what to do.
//!
//! Never here: internals, the chain of causes (that is logged once, at the gate), or whether a hidden thing exists.
//! The shape on the wire is that of AIP-193: `google.rpc.ErrorInfo`, `BadRequest` and `RetryInfo`.

mod reason;

pub use reason::Reason;
pub use sys_contract::rpc::FieldViolation;

use std::{fmt, time::Duration};
use sys_store::{
    Refused, StoreError,
    engine::{CommitError, EngineError},
};

/// The codes that the gate answers with, as gRPC names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong by itself.
    InvalidArgument,
    /// Absent, or hidden from this caller: the two answer alike.
    NotFound,
    /// Something with this name stands there already.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// Nobody is logged in, or no longer.
    Unauthenticated,
    /// Too much or too often.
    ResourceExhausted,
    /// The state of things does not allow it now.
    FailedPrecondition,
    /// Lost against other writers; try again.
    Aborted,
    /// No such method.
    Unimplemented,
    /// Our fault.
    Internal,
    /// Not now; try again later.
    Unavailable,
    /// Out of time.
    DeadlineExceeded,
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code, which is that of the reason.
    pub code: Code,
    /// For programs.
    pub reason: Reason,
    /// For people, in one sentence.
    pub message: String,
    /// The fields at fault.
    pub fields: Vec<FieldViolation>,
    /// What to do about it.
    pub help: Option<String>,
    /// When it makes sense to try again.
    retry_after: Option<Duration>,
    /// The writes of the call are kept all the same: a replayed refresh token ends its session though the call fails.
    keeps_writes: bool,
}

/// How long to wait, as people and `retry-after` (RFC 9110 section 10.2.3) are told it: whole seconds, and not too few.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl Refusal {
    /// A refusal for this reason. A new one is a line in the table of [`Reason`] and a page in `docs/errors`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason,
            message: message.into(),
            fields: Vec::new(),
            help: None,
            retry_after: None,
            keeps_writes: false,
        }
    }

    /// Absent or hidden.
    pub fn not_found() -> Self {
        Self::new(Reason::NotFound, "no such record, or none that you may see")
    }

    /// The caller sees the record but may not do this to it.
    pub fn permission_denied() -> Self {
        Self::new(Reason::RecordRefused, "you may not do this to this record")
            .help("ask an admin of the org or project for a role that may; `sys whoami` shows yours")
    }

    /// No grant of the method can hold for this caller.
    pub fn method_refused() -> Self {
        Self::new(Reason::MethodRefused, "you may not call this method")
            .help("`sys help` lists what you may call; `sys whoami` shows your roles")
    }

    /// Nobody is logged in.
    pub fn unauthenticated() -> Self {
        Self::new(Reason::Unauthenticated, "log in first").help("run `sys login`")
    }

    /// The access token is forged, expired, revoked or of another server: the caller learns no more than that.
    pub fn token_refused() -> Self {
        Self::new(Reason::TokenRefused, "the access token is not valid, or no longer")
            .help("refresh the session, or log in again")
    }

    /// The method wants a password that was shown lately: a token alone may be stolen.
    pub fn step_up_required() -> Self {
        Self::new(Reason::StepUpRequired, "show your password again to do this").help(
            "call sys.account.v1.AuthService/StepUp with your password, then repeat the call; `sys` asks you on a terminal, \
             or takes it with --password-stdin",
        )
    }

    /// One field of the request is wrong.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        let mut refusal = Self::new(Reason::InvalidArgument, format!("{field}: {description}"));
        refusal.fields.push(FieldViolation { field, description });
        refusal
    }

    /// Fields of the request are wrong.
    pub(crate) fn invalid_fields(fields: Vec<FieldViolation>) -> Self {
        // Without a field it is about the request as a whole.
        let summary = fields.iter().map(|f| match f.field.as_str() {
            "" => f.description.clone(),
            field => format!("{field}: {}", f.description),
        });
        let mut refusal = Self::new(Reason::InvalidArgument, summary.collect::<Vec<_>>().join("; "));
        refusal.fields = fields;
        refusal
    }

    /// Our fault. The cause goes to the log, not to the caller.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "a call failed inside the server");
        Self::of_server()
    }

    /// Our fault, whose cause is in the log already.
    fn of_server() -> Self {
        Self::new(Reason::Internal, "the server failed; nothing was changed")
            .help("try again; if it stays, tell the operator the time of the call")
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says how long to wait before the next try.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// How long to wait before the next try, where waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Keeps the writes of the call although it is refused.
    #[must_use]
    pub fn keep_writes(mut self) -> Self {
        self.keeps_writes = true;
        self
    }

    /// Whether the writes of the call are kept.
    pub fn keeps_writes(&self) -> bool {
        self.keeps_writes
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Names the request field that the fields at fault stand in: `title` becomes `note.title`.
    #[must_use]
    pub(crate) fn within(mut self, parent: &str) -> Self {
        for violation in &mut self.fields {
            violation.field = match violation.field.as_str() {
                "" => parent.to_owned(),
                field => format!("{parent}.{field}"),
            };
        }
        if self.code == Code::InvalidArgument && !self.fields.is_empty() {
            return Self { help: self.help, ..Self::invalid_fields(self.fields) };
        }
        self
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound => Self::not_found(),
            Refused::Denied { field: None } => Self::permission_denied(),
            Refused::Denied { field: Some(field) } => {
                let mut refusal = Self::new(Reason::FieldRefused, format!("you may not write `{field}`"));
                refusal.fields.push(FieldViolation { field, description: "not yours to write".to_owned() });
                refusal.help("leave the field out")
            }
            Refused::Invalid { field, what } => Self::invalid(field, what),
            Refused::EtagMismatch => Self::new(Reason::EtagMismatch, "the record was changed meanwhile")
                .help("read it again, then repeat the change with its new etag"),
            Refused::Taken { field } => {
                let mut refusal = Self::new(Reason::Taken, format!("another record has this `{field}`"));
                refusal.fields.push(FieldViolation { field, description: "taken".to_owned() });
                refusal
            }
            Refused::PageToken => Self::invalid("page_token", "not a token of this list")
                .help("begin again with the first page: tokens belong to one caller and one query"),
            Refused::ResumeToken => Self::invalid("resume_token", "not a token of this watch")
                .help("begin anew without one: tokens belong to one caller and one request"),
            Refused::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Superseded { .. } => {
                Self::new(Reason::ModuleReloaded, "the module was loaded anew meanwhile").help("try again")
            }
            StoreError::Engine(EngineError::Full | EngineError::Failed { .. } | EngineError::Closed) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store takes no writes");
                Self::new(Reason::StoreUnavailable, "the server cannot store anything at the moment")
                    .help("tell the operator; nothing was changed")
            }
            StoreError::Engine(EngineError::SnapshotTooOld) => {
                Self::new(Reason::TooSlow, "the call took longer than a transaction may").help("try again")
            }
            StoreError::Engine(error @ EngineError::TooLarge { .. }) => {
                Self::new(Reason::TooLarge, "the call reads or writes more than one call may")
                    .help(format!("ask for less at once: {error}"))
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
                Self::of_server()
            }
        }
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => {
                Self::new(Reason::Conflict, "another call changed the same records").help("try again")
            }
            CommitError::Unknown(cause) => {
                tracing::error!(
                    error = &cause as &dyn std::error::Error,
                    "it is not known whether a call was committed"
                );
                Self::new(Reason::CommitUnknown, "it is not known whether the change was stored")
                    .help("look whether it is there before you try again")
            }
            CommitError::Engine(error) => StoreError::from(error).into(),
        }
    }
}
