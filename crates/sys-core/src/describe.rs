//! What a caller may call, described: the descriptors that clients derive everything from, gRPC reflection, and health.
//!
//! All of it is answered inside the gate. What a caller may not call is left out, so that neither service shows more than
//! calling would.

mod reflection;
mod shown;

pub(crate) use reflection::{QUESTION_BYTES, answer, answer_question};
pub(crate) use shown::{Kept, Shown};

use bytes::Bytes;
use prost::Message;

/// The path of the health check that orchestrators know.
pub(crate) const HEALTH_CHECK: &str = "grpc.health.v1.Health/Check";
/// Bytes of a health request: the name of a service, which is not looked at.
pub(crate) const HEALTH_REQUEST_BYTES: usize = 1024;

/// Whether this is the path of reflection or health, which belong to no module.
pub(crate) fn serves(path: &str) -> bool {
    path == HEALTH_CHECK || is_reflection(path)
}

/// Whether this is the path of a reflection stream.
pub(crate) fn is_reflection(path: &str) -> bool {
    path == reflection::V1 || path == reflection::V1_ALPHA
}

/// grpc.health.v1.HealthCheckResponse.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The answer of a server that takes calls, in protobuf or JSON.
pub(crate) fn healthy(json: bool) -> Bytes {
    const SERVING: i32 = 1;
    if json {
        return Bytes::from_static(br#"{"status":"SERVING"}"#);
    }
    HealthCheckResponse { status: SERVING }.encode_to_vec().into()
}
