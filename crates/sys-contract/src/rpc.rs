//! How a refusal looks on the wire (AIP-193): the messages of `google.rpc` that server and clients exchange, with the numbers
//! that Google published, and the words of ours in them.

use prost::Message;
use std::collections::BTreeMap;

/// The domain of our reasons.
pub const ERROR_DOMAIN: &str = "sys";
/// The entry of [`ErrorInfo::metadata`] that says what to do.
pub const HELP_KEY: &str = "help";

/// A message that stands among the details of a status.
pub trait Detail: Message + Default {
    /// Its full name.
    const NAME: &'static str;
}

/// `google.rpc.Status`: what gRPC sends in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Each a [`Detail`], packed.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

impl Status {
    /// The first detail of a kind; one that does not decode is not there.
    pub fn detail<D: Detail>(&self) -> Option<D> {
        let named = |any: &&prost_types::Any| any.type_url.rsplit('/').next() == Some(D::NAME);
        self.details.iter().find(named).and_then(|any| D::decode(&*any.value).ok())
    }
}

/// `google.rpc.ErrorInfo`: why, for programs.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// Stable, in capitals.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// Whose reason it is: [`ERROR_DOMAIN`] for ours.
    #[prost(string, tag = "2")]
    pub domain: String,
    /// More about it: [`HELP_KEY`].
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

impl Detail for ErrorInfo {
    const NAME: &'static str = "google.rpc.ErrorInfo";
}

/// `google.rpc.BadRequest`: what is wrong with the request's fields.
#[derive(Clone, PartialEq, Message)]
pub struct BadRequest {
    /// One for each field.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FieldViolation {
    /// The field's path in the request, such as `note.title`.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What is wrong with it.
    #[prost(string, tag = "2")]
    pub description: String,
}

impl Detail for BadRequest {
    const NAME: &'static str = "google.rpc.BadRequest";
}

/// `google.rpc.RetryInfo`: when to try again.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// Not before this has passed.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<prost_types::Duration>,
}

impl Detail for RetryInfo {
    const NAME: &'static str = "google.rpc.RetryInfo";
}
