//! The trace that a command belongs to, where whoever starts it traces what he does: a job of a build, say.
//!
//! It is said as OpenTelemetry says it to programs, by the variables TRACEPARENT and TRACESTATE. What stands there and is no such thing is left
//! alone: it was not put there for us.

use std::env;
use sys_contract::trace_context::TraceContext;

/// What the variables say.
pub(crate) fn of_environment() -> Option<TraceContext> {
    of(|name| env::var(name).ok())
}

fn of(variable: impl Fn(&str) -> Option<String>) -> Option<TraceContext> {
    let context = TraceContext::parse(&variable("TRACEPARENT")?)?;
    Some(context.with_state(variable("TRACESTATE").as_deref().into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trace_is_left_alone() {
        const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let said =
            |parent: &str, state: &str| of(|name| Some(if name == "TRACEPARENT" { parent } else { state }.to_owned()));
        let context = said(GIVEN, "a=b").expect("a context");
        assert_eq!((context.to_string().as_str(), context.state.as_str()), (GIVEN, "a=b"));
        assert_eq!(said(GIVEN, "garbage").map(|context| context.state).as_deref(), Some(""));
        assert_eq!(said("garbage", "a=b"), None);
        assert_eq!(of(|_| None), None);
    }
}
