//! What a call came to.

use data_encoding::BASE64_NOPAD;
use prost::Message;
use serde_json::Value;

/// An answer, good or bad, as a Connect client sees it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

impl Answer {
    /// Whether the call went well.
    pub fn is_ok(&self) -> bool {
        self.status == 200
    }

    /// The body of a call that went well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "refused: {} {}", self.status, self.body);
        self.body
    }

    /// A text at the top of the body of a call that went well.
    #[track_caller]
    pub fn text(self, field: &str) -> String {
        let body = self.ok();
        body[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {body}")).to_owned()
    }

    /// The Connect code, such as `not_found`; `ok` where the call went well.
    pub fn code(&self) -> &str {
        if self.is_ok() { "ok" } else { self.body["code"].as_str().unwrap_or("none") }
    }

    /// The reason of the refusal; empty where there is none.
    pub fn reason(&self) -> String {
        self.detail::<ErrorInfo>("google.rpc.ErrorInfo").map(|info| info.reason).unwrap_or_default()
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        let info = self.detail::<ErrorInfo>("google.rpc.ErrorInfo");
        info.and_then(|info| info.metadata.get("help").cloned()).unwrap_or_default()
    }

    /// How many seconds to wait before the next try, rounded up.
    pub fn retry_after_s(&self) -> Option<u64> {
        let delay = self.detail::<RetryInfo>("google.rpc.RetryInfo")?.retry_delay?;
        u64::try_from(delay.seconds).ok().map(|seconds| seconds + u64::from(delay.nanos > 0))
    }

    /// The fields at fault.
    pub fn fields(&self) -> Vec<String> {
        let bad = self.detail::<BadRequest>("google.rpc.BadRequest");
        bad.map(|bad| bad.field_violations.into_iter().map(|v| v.field).collect()).unwrap_or_default()
    }

    /// Fails unless the call was refused with this code.
    #[track_caller]
    pub fn refused(&self, code: &str) -> &Self {
        assert_eq!(self.code(), code, "{} {}", self.status, self.body);
        self
    }

    fn detail<M: Message + Default>(&self, name: &str) -> Option<M> {
        let details = self.body["details"].as_array()?;
        let detail = details.iter().find(|detail| detail["type"] == name)?;
        M::decode(BASE64_NOPAD.decode(detail["value"].as_str()?.as_bytes()).ok()?.as_slice()).ok()
    }
}
