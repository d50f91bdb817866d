//! What went wrong with a call: the server's refusal with its typed details (AIP-193), or no answer at all.

use crate::{Endpoint, TlsError};
use prost::Message;
use std::{error::Error, fmt};
use sys_contract::rpc::{BadRequest, ERROR_DOMAIN, ErrorInfo, HELP_KEY, Status};
use tonic::Code;

pub use sys_contract::rpc::FieldViolation;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered, and the answer is no.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// No server answered.
    #[error("no server answers at {endpoint}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: Endpoint,
        /// Why there was no answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No connection over TLS that could be trusted, so nothing was sent.
    #[error("no safe connection to {endpoint}")]
    Tls {
        /// The server.
        endpoint: Endpoint,
        /// Why there is none.
        source: Box<TlsError>,
    },
    /// The server took longer than [`crate::channel::CALL_TIMEOUT`].
    #[error("the server at {endpoint} did not answer in time")]
    TimedOut {
        /// The server.
        endpoint: Endpoint,
    },
    /// The answer is not what its descriptor says.
    #[error("the server's answer to {path} cannot be read")]
    Malformed {
        /// The method.
        path: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl CallError {
    /// The gRPC code that stands for this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refused) => refused.code,
            Self::Unreachable { .. } => Code::Unavailable,
            // Trying again does not help, so it is not unavailable.
            Self::Tls { .. } => Code::FailedPrecondition,
            Self::TimedOut { .. } => Code::DeadlineExceeded,
            Self::Malformed { .. } => Code::Internal,
        }
    }

    pub(crate) fn of_tls(endpoint: &Endpoint, error: TlsError) -> Self {
        let endpoint = endpoint.clone();
        match error {
            TlsError::Network(source) => Self::Unreachable { endpoint, source: source.into() },
            source => Self::Tls { endpoint, source: Box::new(source) },
        }
    }

    /// From what tonic says: its own failures have a source, the server's words have none.
    pub(crate) fn from_status(status: tonic::Status, endpoint: &Endpoint) -> Self {
        if let Some(tls) = TlsError::at_the_root_of(&status) {
            return Self::of_tls(endpoint, tls.clone());
        }
        if status.source().is_some() {
            return Self::Unreachable { endpoint: endpoint.clone(), source: Box::new(status) };
        }
        Self::Refused(Box::new(Refused::new(status.code(), status.message(), status.details())))
    }
}

/// A refusal as the server words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// `ErrorInfo.reason`: stable and in capitals, for programs.
    pub reason: Option<String>,
    /// For people, in one sentence.
    pub message: String,
    /// The request's fields at fault.
    pub fields: Vec<FieldViolation>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Refused {
    /// From a gRPC status; `details` holds a `google.rpc.Status`. Details that cannot be read are left out: code and
    /// message stand by themselves.
    pub fn new(code: Code, message: &str, details: &[u8]) -> Self {
        let details = Status::decode(details).unwrap_or_default();
        let ours = details.detail::<ErrorInfo>().filter(|info| info.domain == ERROR_DOMAIN);
        let mut info = ours.unwrap_or_default();
        Self {
            code,
            reason: Some(info.reason).filter(|reason| !reason.is_empty()),
            message: message.to_owned(),
            fields: details.detail::<BadRequest>().unwrap_or_default().field_violations,
            help: info.metadata.remove(HELP_KEY),
        }
    }
}

/// `message (CODE / REASON)`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = code_name(self.code);
        let message = if self.message.is_empty() { self.code.description() } else { &self.message };
        // A reason that says no more than the code is said once.
        match self.reason.as_deref().filter(|reason| *reason != code) {
            Some(reason) => write!(f, "{message} ({code} / {reason})"),
            None => write!(f, "{message} ({code})"),
        }
    }
}

/// The code as the gRPC specification writes it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_contract::rpc::Detail;

    fn any<D: Detail>(message: &D) -> prost_types::Any {
        prost_types::Any { type_url: format!("type.googleapis.com/{}", D::NAME), value: message.encode_to_vec() }
    }

    #[test]
    fn reason_fields_and_help_come_out_of_the_details() {
        let info = ErrorInfo {
            reason: "METHOD_REFUSED".into(),
            domain: ERROR_DOMAIN.into(),
            metadata: [(HELP_KEY.into(), "ask an admin".into())].into(),
        };
        let wrong = FieldViolation { field: "note.title".into(), description: "is empty".into() };
        let details = Status {
            code: 7,
            message: String::new(),
            details: vec![
                any(&info),
                any(&BadRequest { field_violations: vec![wrong] }),
                prost_types::Any { type_url: "type.googleapis.com/google.rpc.Other".into(), ..any(&info) },
            ],
        };
        let refused = Refused::new(Code::PermissionDenied, "permission denied", &details.encode_to_vec());
        assert_eq!(refused.to_string(), "permission denied (PERMISSION_DENIED / METHOD_REFUSED)");
        let plain = Refused { code: Code::NotFound, reason: Some("NOT_FOUND".into()), ..refused.clone() };
        assert_eq!(plain.to_string(), "permission denied (NOT_FOUND)");
        assert_eq!(refused.help.as_deref(), Some("ask an admin"));
        assert_eq!(refused.fields, [FieldViolation { field: "note.title".into(), description: "is empty".into() }]);
    }

    #[test]
    fn details_of_others_and_garbage_leave_code_and_message() {
        let foreign = ErrorInfo { reason: "X".into(), domain: "example.org".into(), ..ErrorInfo::default() };
        let foreign = Status { details: vec![any(&foreign)], ..Status::default() };
        for details in [foreign.encode_to_vec(), vec![0xff; 40], Vec::new()] {
            let refused = Refused::new(Code::NotFound, "", &details);
            assert_eq!(refused.to_string(), format!("{} (NOT_FOUND)", Code::NotFound.description()));
        }
    }
}
