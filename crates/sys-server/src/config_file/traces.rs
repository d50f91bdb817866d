//! The settings of traces: where they go, and which calls are recorded.

use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;
use sys_otlp::Endpoint;

/// Traces of calls, sent to a collector that speaks OTLP over HTTP. Off without `endpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// The collector, such as `https://collector.example:4318`; `/v1/traces` is added. Plain `http://` for this machine alone.
    pub endpoint: Option<CollectorUrl>,
    /// The certificate that the collector's own is signed with, in PEM, where that is a private one.
    pub root_file: Option<PathBuf>,
    /// A file of headers that the collector wants with each message, such as `authorization: Bearer KEY`, one a line; mode 0600.
    pub headers_file: Option<PathBuf>,
    /// The part of calls that is recorded, from 0 to 1; 1 by default.
    pub sample_ratio: Option<Ratio>,
    /// Callers who are signed in and send `traceparent` say by its flag whether their calls are recorded. By default they say only which trace
    /// a call belongs to.
    pub follow_callers: Option<bool>,
    /// What the server is called among others (`service.name`); `sys-server` by default.
    pub service_name: Option<String>,
}

/// The URL of a collector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct CollectorUrl(pub Endpoint);

impl TryFrom<String> for CollectorUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: sys_otlp::EndpointError| error.to_string())
    }
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "f64")]
#[schemars(with = "f64")]
pub struct Ratio {
    /// In millionths.
    pub per_million: u32,
}

impl Ratio {
    /// All of it.
    pub const WHOLE: Self = Self { per_million: 1_000_000 };
}

impl TryFrom<f64> for Ratio {
    type Error = String;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and a million")]
    fn try_from(ratio: f64) -> Result<Self, String> {
        match ratio {
            0.0..=1.0 => Ok(Self { per_million: (ratio * 1_000_000.0).round() as u32 }),
            _ => Err("write a number from 0 to 1, such as 0.1 for every tenth call".to_owned()),
        }
    }
}

impl std::str::FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What is no number is refused like one that is too large.
        Self::try_from(text.parse().unwrap_or(f64::NAN))
    }
}
