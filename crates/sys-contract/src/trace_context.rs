//! Which trace a call belongs to, as both of its ends write it: `traceparent` and `tracestate` (W3C Trace Context, level 2).
//!
//! What must never happen here: a word of a caller's that is longer than the standard allows, or in another alphabet. What does not
//! fit is as if it had not been sent, which is what the standard wants.

use std::fmt;

/// The header that names the trace and the span that called.
pub const TRACEPARENT: &str = "traceparent";
/// The header in which tracing systems leave notes for each other.
pub const TRACESTATE: &str = "tracestate";

/// `00-` 32 digits `-` 16 digits `-` 2 digits.
const TRACEPARENT_BYTES: usize = 55;
/// What a `tracestate` may take: the standard wants that much to be passed on, and more need not be.
const MAX_STATE_BYTES: usize = 512;
/// The members of one (section 3.3.1.1).
const MAX_STATE_MEMBERS: usize = 32;
/// The flag of a trace that its caller keeps.
const SAMPLED: u8 = 1;

/// The span that called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never all zeros.
    pub trace_id: [u8; 16],
    /// The span; never all zeros.
    pub span_id: [u8; 8],
    /// Whether its caller keeps the trace.
    pub is_sampled: bool,
    /// What tracing systems noted, at most 512 bytes of printable ASCII.
    pub state: String,
}

impl TraceContext {
    /// Reads a `traceparent`. Of a version that comes after 00, what is known of it.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let (known, more) = traceparent.split_at_checked(TRACEPARENT_BYTES)?;
        let mut parts = known.split('-');
        let [version] = digits(parts.next()?)?;
        let (trace_id, span_id) = (digits(parts.next()?)?, digits(parts.next()?)?);
        let [flags] = digits(parts.next()?)?;
        let is_whole = parts.next().is_none() && if version == 0 { more.is_empty() } else { is_next_part(more) };
        let is_named = trace_id != [0; 16] && span_id != [0; 8];
        let is_sampled = flags & SAMPLED == SAMPLED;
        let context = Self { trace_id, span_id, is_sampled, state: String::new() };
        (version != u8::MAX && is_whole && is_named).then_some(context)
    }

    /// With what tracing systems noted: the lines of `tracestate`, in order. Notes that are too long or not in form are left out,
    /// all of them.
    pub fn with_state<'a>(self, lines: impl Iterator<Item = &'a str>) -> Self {
        let mut state = String::new();
        for line in lines {
            if state.len() + line.len() >= MAX_STATE_BYTES {
                return self;
            }
            state.extend((!state.is_empty()).then_some(','));
            state.push_str(line);
        }
        let members = || state.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|it| !it.is_empty());
        if members().count() > MAX_STATE_MEMBERS || !members().all(is_member) {
            return self;
        }
        Self { state: members().collect::<Vec<_>>().join(","), ..self }
    }
}

/// The `traceparent` that says it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = u128::from_be_bytes(self.trace_id);
        let span = u64::from_be_bytes(self.span_id);
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.is_sampled))
    }
}

/// Two small hexadecimal digits for each byte, and nothing else.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut pairs = text.as_bytes().chunks_exact(2);
    for (byte, pair) in bytes.iter_mut().zip(pairs.by_ref()) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// What a later version has behind the flags, if anything.
fn is_next_part(more: &str) -> bool {
    more.is_empty() || more.starts_with('-')
}

/// `key=value` (section 3.3.1.3).
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let is_value = |byte: u8| (b' '..=b'~').contains(&byte) && !b",=".contains(&byte);
    begins
        && key.len() <= 256
        && key.bytes().all(is_key)
        && (1..=256).contains(&value.len())
        && value.bytes().all(is_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_standard_shows_is_read_and_written_back() {
        let context = TraceContext::parse(GIVEN).expect("the standard's own example");
        assert_eq!((context.trace_id[0], context.span_id[7], context.is_sampled), (0x4b, 0xb7, true));
        assert_eq!(context.to_string(), GIVEN);
        let unsampled = TraceContext::parse(&GIVEN.replace("-01", "-fe")).expect("flags that are not known");
        assert!(!unsampled.is_sampled);
    }

    #[test]
    fn what_is_not_in_form_is_as_if_it_had_not_been_sent() {
        for garbage in [
            String::new(),
            "00".to_owned(),
            GIVEN.to_uppercase(),
            GIVEN.replacen("00-", "ff-", 1),
            format!("{GIVEN}-"),
            format!("{GIVEN}0"),
            format!(" {GIVEN}"),
            GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GIVEN.replace('4', "g"),
            GIVEN.replace('-', "_"),
            GIVEN.replace("00f067aa0ba902b7-01", "00f067aa0ba902-0701"),
            "é".repeat(40),
            "-".repeat(55),
        ] {
            assert_eq!(TraceContext::parse(&garbage), None, "{garbage}");
        }
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        let later = GIVEN.replacen("00-", "cc-", 1);
        assert!(TraceContext::parse(&later).is_some());
        assert!(TraceContext::parse(&format!("{later}-more")).is_some());
        assert_eq!(TraceContext::parse(&format!("{later}.more")), None);
    }

    #[test]
    fn notes_are_taken_whole_and_in_bounds_or_not_at_all() {
        let state =
            |lines: &[&str]| TraceContext::parse(GIVEN).expect("a context").with_state(lines.iter().copied()).state;
        assert_eq!(
            state(&["congo=t61rcWkgMzE", " rojo=00f067aa0ba902b7 ,,"]),
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
        );
        assert_eq!(state(&["0@a-b_c*d/e=~ !"]), "0@a-b_c*d/e=~ !");
        let members: Vec<String> = (0..33).map(|n| format!("m{n}=1")).collect();
        let many = members.join(",");
        let long = format!("a={}", "x".repeat(257));
        for garbage in
            ["a", "=b", "a=", "A=b", "a=b=c", "a=\u{7f}", "a=é", "-a=b", "a=\n", many.as_str(), long.as_str()]
        {
            assert_eq!(state(&["good=1", garbage]), "", "{garbage}");
        }
        assert_eq!(
            state(&[&format!("a={}", "x".repeat(255)), &format!("b={}", "x".repeat(255))]),
            "",
            "too much together"
        );
    }
}
