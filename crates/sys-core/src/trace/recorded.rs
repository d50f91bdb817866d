//! What a trace says.

use crate::{gate::Transport, refusal::Reason};
use http::{HeaderMap, Version, header};
use sys_contract::trace_context::TraceContext;

/// A trace that has ended, as far as it went through this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Whose trace it is: the caller's, where there is a parent.
    pub trace_id: [u8; 16],
    /// Of the span that all steps are within.
    pub span_id: [u8; 8],
    /// The span that called.
    pub parent: Option<TraceContext>,
    /// The span that called, by the word of somebody who is not believed; without what he says that others noted.
    pub link: Option<TraceContext>,
    /// When it began.
    pub began_unix_ns: u64,
    /// How long it took.
    pub took_ns: u64,
    /// What it is about.
    pub subject: Subject,
    /// In the order in which they began.
    pub steps: Vec<Step>,
    /// Steps that there was no room for.
    pub left_out: u32,
}

impl Trace {
    /// How many spans it is sent as.
    pub fn spans(&self) -> usize {
        self.steps.len().saturating_add(1)
    }
}

/// What a trace is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A call.
    Call(CallFacts),
    /// Something that the server does by itself.
    Work {
        /// What.
        name: &'static str,
        /// What went wrong, in a word.
        problem: Option<&'static str>,
    },
}

/// What a call was and came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts {
    /// `package.Service/Method`; nothing if there is none of that name.
    pub method: Option<String>,
    /// It came in one of gRPC's forms, else in Connect's.
    pub is_grpc: bool,
    /// The version of HTTP.
    pub version: Version,
    /// What is known of its TLS connection.
    pub transport: Option<Transport>,
    /// What it came to: a name of gRPC's codes.
    pub code: &'static str,
    /// Why it was refused.
    pub reason: Option<Reason>,
}

impl CallFacts {
    /// Of a call that has no answer yet.
    pub(super) fn of(method: Option<&str>, version: Version, headers: &HeaderMap) -> Self {
        let form = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |form| form.as_bytes());
        Self {
            method: method.map(str::to_owned),
            is_grpc: form.starts_with(b"application/grpc"),
            version,
            transport: None,
            code: "CANCELLED",
            reason: None,
        }
    }
}

/// A part of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// The step that it is a part of, by its place among all steps.
    pub within: Option<usize>,
    /// When it began, from the beginning of the trace.
    pub from_ns: u64,
    /// When it ended.
    pub to_ns: u64,
}
