//! Metrics for Prometheus, on a port of their own that other machines do not reach.
//!
//! What must never happen here: an answer on the port that serves calls, or a label with a value of a caller's. What the
//! gate and the store count comes from sys-core; the process and its files are looked at here, when somebody asks.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use std::{convert::Infallible, fmt, fs, net::SocketAddr, path::PathBuf, sync::Arc};
use sys_core::metrics::Observer;
use sys_edge::{Bind, Limits};

/// Where metrics are answered.
const PATH: &str = "/metrics";
/// OpenMetrics 1.0, which Prometheus asks for.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections of those who collect. There is one of them, and perhaps a person with curl.
const CONNECTIONS: usize = 8;
/// Clock ticks in a second, as Linux tells them to processes on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// The listener's bounds.
pub(crate) fn bind(addr: SocketAddr) -> Bind {
    let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
    Bind { limits, ..Bind::at(addr) }
}

/// What metrics are made from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) observer: Observer,
    /// Files of the data directory, with the label of each.
    pub(crate) files: Arc<[(&'static str, PathBuf)]>,
}

/// Answers a request.
pub(crate) async fn answer<B>(source: Source, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n"));
    }
    if request.method() != Method::GET {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n"));
    }
    let observed = match source.observer.look().await {
        Ok(observed) => observed,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the metrics of the store cannot be read");
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read; the log says why\n"));
        }
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(observed));
    registry.register_collector(Box::new(Process(source.files)));
    let mut body = String::new();
    if text::encode(&mut body, &registry).is_err() {
        return Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"));
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The process, under the names that all of Prometheus's clients use, and the files of the data directory.
#[derive(Debug)]
struct Process(Arc<[(&'static str, PathBuf)]>);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<u64>| match value {
            Some(value) => encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value),
            None => Ok(()),
        };
        gauge("process_resident_memory_bytes", "Resident memory of the process", resident_bytes())?;
        gauge("process_open_fds", "Open file descriptors", open_files())?;
        if let Some(seconds) = cpu_seconds() {
            let help = "Time that the process has spent on a processor";
            let mut cpu = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            cpu.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        }
        let help = "Size of a file in the data directory";
        let mut sizes = encoder.encode_descriptor("sys_file_bytes", help, None, MetricType::Gauge)?;
        for (name, path) in self.0.iter() {
            if let Ok(metadata) = fs::metadata(path) {
                sizes.encode_family(&[("file", *name)])?.encode_gauge(&metadata.len())?;
            }
        }
        Ok(())
    }
}

/// proc(5): `VmRSS` in kB.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn open_files() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// proc(5): `utime` and `stime`, the 14th and 15th fields of `stat`; the second is a name that may hold anything but `)`.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<f64>> =
        behind_name.split_whitespace().skip(11).take(2).map(|field| field.parse().ok()).collect();
    Some(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_what_linux_tells() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(open_files().is_some_and(|files| files >= 3));
        assert!(cpu_seconds().is_some_and(|seconds| seconds < 3_600.0));
    }
}
