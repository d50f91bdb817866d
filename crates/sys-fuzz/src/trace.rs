//! What a caller says of the trace that he is in.

use crate::input::{parts, text};
use sys_contract::trace_context::TraceContext;

/// A `traceparent`, and two lines of `tracestate`. Read as another reader of the standard does; what is read is written as the same, in
/// bounds, and in its alphabet.
pub(crate) fn context(bytes: &[u8]) {
    let [parent, first, second] = parts::<3>(bytes);
    let (Some(parent), Some(first), Some(second)) = (text(parent), text(first), text(second)) else { return };
    let read = TraceContext::parse(parent);
    assert_eq!(
        read.as_ref().map(|read| (read.trace_id, read.span_id, read.is_sampled)),
        expected(parent),
        "{parent:?}"
    );
    let Some(read) = read else { return };
    let written = read.to_string();
    assert_eq!(TraceContext::parse(&written).as_ref(), Some(&read), "{written}");
    assert_eq!(written.len(), 55);
    if parent.starts_with("00-") {
        assert_eq!(written[..53], parent[..53]);
    }
    let noted = read.clone().with_state([first, second].into_iter());
    assert!(noted.state.len() <= 512 && noted.state.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{noted:?}");
    assert!(noted.state.split(',').count() <= 32 && (noted.state.is_empty() || noted.state.contains('=')), "{noted:?}");
    let again = read.clone().with_state([noted.state.as_str()].into_iter());
    assert_eq!(again, noted, "what was kept is kept again");
    assert_eq!(TraceContext { state: String::new(), ..noted }, read);
}

type Ids = ([u8; 16], [u8; 8], bool);

/// What the standard says of this text (W3C Trace Context, section 3.2).
fn expected(parent: &str) -> Option<Ids> {
    let fields: Vec<&str> = parent.splitn(5, '-').collect();
    let (version, trace, span, flags) = match fields.as_slice() {
        [version, trace, span, flags] => (*version, *trace, *span, *flags),
        // Later versions may say more.
        [version, trace, span, flags, _] if *version != "00" => (*version, *trace, *span, *flags),
        _ => return None,
    };
    let is_hex = |field: &str, digits: usize| {
        field.len() == digits && field.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit))
    };
    if ![(version, 2), (trace, 32), (span, 16), (flags, 2)].iter().all(|(field, digits)| is_hex(field, *digits)) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (version != "ff" && trace != 0 && span != 0).then(|| (trace.to_be_bytes(), span.to_be_bytes(), flags % 2 == 1))
}
