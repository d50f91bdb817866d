//! Traces, sent to a collector: OTLP, as protobuf over HTTP, under the names of OpenTelemetry's conventions.
//!
//! What the gate has recorded ([`sys_core::trace`]) is taken out of its queue, written down ([`spans`]), and posted ([`client`]) by one task
//! ([`exporter`]). What must never happen here: anybody who waits for a collector. One that is down, slow or talks nonsense costs the traces that
//! it does not take, which are counted, and a warning in the log. Nor may anything go to another machine in plain.

mod client;
mod exporter;
mod messages;
mod settings;
mod spans;

pub use exporter::{Exporter, Switch};
pub use settings::{Endpoint, EndpointError, Headers, HeadersError, Roots, RootsError, Settings};
