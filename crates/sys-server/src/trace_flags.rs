//! The flags of traces, and what they mean together with the configuration file.

use crate::edge_flags::text_of;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use sys_core::trace::Sampling;
use sys_otlp::{Endpoint, Headers, Roots, Settings};
use sys_server::config_file::{self, Ratio};

/// What the server is called where nobody says.
const SERVICE: &str = "sys-server";

/// Traces of calls.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Traces")]
pub(crate) struct TraceFlags {
    /// Sends traces of calls to this collector (OTLP over HTTP), such as https://collector.example:4318 or http://127.0.0.1:4318. Off by
    /// default.
    #[arg(long, value_name = "URL")]
    pub(crate) traces_endpoint: Option<Endpoint>,

    /// The certificate that the collector's own is signed with, in PEM, where that is a private one.
    #[arg(long, value_name = "FILE")]
    pub(crate) traces_root_file: Option<PathBuf>,

    /// Sends the headers in this file along, such as `authorization: Bearer KEY`, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) traces_headers_file: Option<PathBuf>,

    /// Records this part of calls, from 0 to 1. Default: 1.
    #[arg(long, value_name = "RATIO")]
    pub(crate) traces_sample_ratio: Option<Ratio>,
}

impl TraceFlags {
    /// How traces are sent, if they are.
    pub(crate) fn settings(&self, file: &config_file::Traces) -> anyhow::Result<Option<Settings>> {
        let of_file = || file.endpoint.as_ref().map(|url| url.0.clone());
        let Some(endpoint) = self.traces_endpoint.clone().or_else(of_file) else { return Ok(None) };
        let root = self.traces_root_file.as_ref().or(file.root_file.as_ref());
        let roots = match root {
            Some(file) => Roots::of(Some(&text_of(file)?)).with_context(|| file.display().to_string())?,
            None => Roots::of(None)?,
        };
        let headers = match self.traces_headers_file.as_ref().or(file.headers_file.as_ref()) {
            Some(file) => {
                let text = zeroize::Zeroizing::new(text_of(file)?);
                text.parse().with_context(|| file.display().to_string())?
            }
            None => Headers::default(),
        };
        let ratio = self.traces_sample_ratio.or(file.sample_ratio).unwrap_or(Ratio::WHOLE);
        Ok(Some(Settings {
            endpoint,
            roots,
            headers,
            service: file.service_name.clone().unwrap_or_else(|| SERVICE.to_owned()),
            sampling: Sampling {
                per_million: ratio.per_million,
                follows_callers: file.follow_callers.unwrap_or_default(),
            },
        }))
    }
}
