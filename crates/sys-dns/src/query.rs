//! A DNS question as it comes in: read within bounds, in one pass, without an allocation.
//!
//! What is let through is what an authoritative server answers: one question of class IN, at most an OPT behind it, and
//! nothing else. All other messages are told apart here, into those that are answered without a look at any zone
//! ([`Short`]) and those that are not answered at all. What must never happen here: following a compression pointer, since a
//! question that stands first has nothing to point to, or reading past what a count promises. Written after RFC 1035 section 4,
//! RFC 6891 (EDNS), RFC 7828 (keepalive), RFC 7873 (cookies), RFC 8467 (padding) and RFC 9619 (one question).

use crate::query::reader::Reader;

mod reader;
#[cfg(test)]
mod tests;

/// A longer message holds no question of ours: a header, the longest question and an OPT with a cookie and padding are far below.
pub const MOST_QUERY_BYTES: usize = 4_096;
/// The longest name in wire form, with the root's zero (RFC 1035 section 2.3.4).
pub const MOST_NAME_BYTES: usize = 255;
/// What fits through any path without fragments, and what our OPT says that we take (DNS flag day 2020).
pub const MOST_UDP_BYTES: u16 = 1_232;
/// What a client takes that does not say how much.
pub const LEAST_UDP_BYTES: u16 = 512;
/// A header without anything behind it.
pub const HEADER_BYTES: usize = 12;
/// An OPT without options.
pub const OPT_BYTES: usize = 11;

const MOST_LABEL_BYTES: u8 = 63;
const KIND_OPT: u16 = 41;
/// Stands in denials alone; who asks for it is told so by an error (RFC 9824).
const KIND_NXNAME: u16 = 128;
/// Types that are not in a zone but ask for something to be done (RFC 6895 section 3.1); ANY, behind them, is answered.
const META_KINDS: std::ops::RangeInclusive<u16> = 128..=254;
const CLASS_IN: u16 = 1;
const OPTION_COOKIE: u16 = 10;
const OPTION_KEEPALIVE: u16 = 11;
const OPTION_PADDING: u16 = 12;

/// How an answer ends (RFC 1035 section 4.1.1, RFC 6891, RFC 7873).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// The question was answered, with nothing perhaps.
    NoError = 0,
    /// The message is not one.
    FormErr = 1,
    /// It could not be answered.
    ServFail = 2,
    /// The name does not exist.
    NxDomain = 3,
    /// That is not done here.
    NotImp = 4,
    /// Not for this name or class.
    Refused = 5,
    /// A version of EDNS that is not known here. Needs an OPT.
    BadVers = 16,
}

/// A question that a zone can answer.
#[derive(Clone)]
pub struct Query<'a> {
    /// Of the message, to be said again.
    pub id: u16,
    /// RD, to be said again. Nothing is recursed here.
    pub recursion_desired: bool,
    /// CD, to be said again (RFC 4035 section 3.1.6).
    pub checking_disabled: bool,
    /// Name, type and class as they were sent, in their case, which the sender may look at again.
    pub question: &'a [u8],
    /// The type that is asked for, ANY (255) too. No other meta type gets here.
    pub kind: u16,
    /// What the OPT says, where there is one.
    pub edns: Option<Edns<'a>>,
    name: Name,
}

/// What the OPT of a question says (RFC 6891). Options that are not known here are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns<'a> {
    /// The longest answer that the sender takes by UDP, at least [`LEAST_UDP_BYTES`].
    pub payload_bytes: u16,
    /// DO: signatures are wanted.
    pub dnssec_ok: bool,
    /// The first cookie.
    pub cookie: Option<Cookie<'a>>,
    /// Whether the sender pads, so that an answer is to be padded too (RFC 8467 section 4).
    pub is_padded: bool,
    /// Whether the sender asks how long his connection may stay idle (RFC 7828).
    pub asks_keepalive: bool,
}

/// A cookie in a question (RFC 7873).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// The sender's own part.
    pub client: [u8; 8],
    /// What he was given by a server, 8 to 32 bytes; empty where he was not yet.
    pub server: &'a [u8],
}

/// Why a message is no [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<'a> {
    /// Shorter than a header, or an answer itself: who answers those is led in circles.
    Silence,
    /// Answered without a look at any zone.
    Short(Short<'a>),
}

/// A message that is answered without a look at any zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short<'a> {
    /// Of the message.
    pub id: u16,
    /// What it is answered with. [`Code::NoError`] for who asks for nothing but a cookie (RFC 7873 section 5.4).
    pub code: Code,
    /// Its OPT, where it was read.
    pub edns: Option<Edns<'a>>,
    opcode: u8,
    recursion_desired: bool,
    checking_disabled: bool,
    question: &'a [u8],
}

/// Reads one message. Its length is bounded by whoever received it.
pub fn parse(message: &[u8]) -> Result<Query<'_>, Refused<'_>> {
    let Some((&[id_high, id_low, flags, more_flags, ref counts @ ..], rest)) =
        message.split_first_chunk::<HEADER_BYTES>()
    else {
        return Err(Refused::Silence);
    };
    if flags & 0x80 != 0 {
        return Err(Refused::Silence);
    }
    let mut short = Short {
        id: u16::from_be_bytes([id_high, id_low]),
        code: Code::FormErr,
        edns: None,
        opcode: (flags >> 3) & 0x0f,
        recursion_desired: flags & 0x01 != 0,
        checking_disabled: more_flags & 0x10 != 0,
        question: &[],
    };
    if short.opcode != 0 {
        return Err(short.with(Code::NotImp));
    }
    let mut reader = Reader(rest);
    let [questions, answers, authorities, additionals] = reader::counts(*counts);
    if questions > 1 || answers != 0 {
        return Err(short.with(Code::FormErr));
    }
    let question = if questions == 1 {
        let read = Question::read(&mut reader, rest).ok_or_else(|| short.with(Code::FormErr))?;
        short.question = read.bytes;
        // Before the records are looked at: an IXFR has one, which says where its sender stands.
        read.refusal().map_or(Ok(()), |code| Err(short.with(code)))?;
        Some(read)
    } else {
        None
    };
    // Whoever signs a message (TSIG, SIG(0)) uses a key that nobody here has given him: to us it is no message (RFC 8945 section 5.4.3 expects so).
    if authorities != 0 || additionals > 1 {
        return Err(short.with(Code::FormErr));
    }
    if additionals == 1 {
        let opt = Opt::read(&mut reader).ok_or_else(|| short.with(Code::FormErr))?;
        short.edns = Some(opt.edns);
        if opt.version != 0 {
            return Err(short.with(if reader.is_empty() { Code::BadVers } else { Code::FormErr }));
        }
    }
    if !reader.is_empty() {
        return Err(short.with(Code::FormErr));
    }
    let Some(question) = question else {
        let asks_for_a_cookie = short.edns.is_some_and(|edns| edns.cookie.is_some());
        return Err(short.with(if asks_for_a_cookie { Code::NoError } else { Code::FormErr }));
    };
    if question.class != CLASS_IN {
        return Err(short.with(Code::Refused));
    }
    Ok(Query {
        id: short.id,
        recursion_desired: short.recursion_desired,
        checking_disabled: short.checking_disabled,
        question: question.bytes,
        kind: question.kind,
        edns: short.edns,
        name: question.name,
    })
}

impl<'a> Query<'a> {
    /// The name in wire form and lower case, with the root's zero.
    pub fn name(&self) -> &[u8] {
        self.name.bytes.get(..usize::from(self.name.length)).unwrap_or_default()
    }

    /// Whether signatures are to stand in the answer.
    pub fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The longest answer that the sender takes by UDP.
    pub fn most_udp_bytes(&self) -> u16 {
        self.edns.map_or(LEAST_UDP_BYTES, |edns| edns.payload_bytes.min(MOST_UDP_BYTES))
    }

    /// Writes an answer without records behind what `out` holds: header, question, and an OPT where one was sent.
    pub fn write_empty(&self, code: Code, authoritative: bool, truncated: bool, out: &mut Vec<u8>) {
        let short = self.short(code);
        short.write_head(authoritative, truncated, out);
    }

    /// What this question is answered with where no zone is asked.
    pub(crate) fn short(&self, code: Code) -> Short<'a> {
        Short {
            id: self.id,
            code,
            edns: self.edns,
            opcode: 0,
            recursion_desired: self.recursion_desired,
            checking_disabled: self.checking_disabled,
            question: self.question,
        }
    }
}

impl std::fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who asked what is nobody's business, so nothing of the name stands here.
        f.debug_struct("Query").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<'a> Short<'a> {
    /// Writes the answer behind what `out` holds.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_head(false, false, out);
    }

    fn with(self, code: Code) -> Refused<'a> {
        Refused::Short(Self { code, ..self })
    }

    fn write_head(&self, authoritative: bool, truncated: bool, out: &mut Vec<u8>) {
        let code = self.code as u8;
        let flags = 0x80
            | (self.opcode << 3)
            | (u8::from(authoritative) << 2)
            | (u8::from(truncated) << 1)
            | u8::from(self.recursion_desired);
        let more_flags = (u8::from(self.checking_disabled) << 4) | (code & 0x0f);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&[flags, more_flags]);
        let (has_question, has_opt) = (u8::from(!self.question.is_empty()), u8::from(self.edns.is_some()));
        out.extend_from_slice(&[0, has_question, 0, 0, 0, 0, 0, has_opt]);
        out.extend_from_slice(self.question);
        if let Some(edns) = self.edns {
            write_opt(code >> 4, edns.dnssec_ok, out);
        }
    }
}

/// Writes an OPT without options: the root's name, what we take, the upper bits of the code, version 0, DO as it was asked.
pub fn write_opt(upper_code: u8, dnssec_ok: bool, out: &mut Vec<u8>) {
    let [kind_high, kind_low] = KIND_OPT.to_be_bytes();
    let [size_high, size_low] = MOST_UDP_BYTES.to_be_bytes();
    out.extend_from_slice(&[0, kind_high, kind_low, size_high, size_low]);
    out.extend_from_slice(&[upper_code, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
}

/// A name in lower case. In place, so that no question costs an allocation.
#[derive(Clone)]
struct Name {
    bytes: [u8; MOST_NAME_BYTES],
    length: u8,
}

struct Question<'a> {
    bytes: &'a [u8],
    name: Name,
    kind: u16,
    class: u16,
}

impl<'a> Question<'a> {
    /// Reads the question at the beginning of `all`, where `reader` stands.
    fn read(reader: &mut Reader<'a>, all: &'a [u8]) -> Option<Self> {
        loop {
            match reader.byte()? {
                0 => break,
                // The two upper bits tell a pointer or a kind of label that never came to be.
                length @ 1..=MOST_LABEL_BYTES => reader.take(usize::from(length))?,
                _ => return None,
            };
        }
        let name_length = all.len() - reader.0.len();
        let (kind, class) = (reader.number()?, reader.number()?);
        let mut name = Name { bytes: [0; MOST_NAME_BYTES], length: u8::try_from(name_length).ok()? };
        name.bytes.get_mut(..name_length)?.copy_from_slice(all.get(..name_length)?);
        // Lengths are at most 63, below the letters, so that they stay as they are.
        name.bytes.make_ascii_lowercase();
        Some(Self { bytes: all.get(..name_length + 4)?, name, kind, class })
    }

    /// Why nobody here answers a question of its type.
    fn refusal(&self) -> Option<Code> {
        match self.kind {
            KIND_OPT | KIND_NXNAME => Some(Code::FormErr),
            kind if META_KINDS.contains(&kind) => Some(Code::NotImp),
            _ => None,
        }
    }
}

struct Opt<'a> {
    version: u8,
    edns: Edns<'a>,
}

impl<'a> Opt<'a> {
    fn read(reader: &mut Reader<'a>) -> Option<Self> {
        if reader.byte()? != 0 || reader.number()? != KIND_OPT {
            return None;
        }
        let payload_bytes = reader.number()?.max(LEAST_UDP_BYTES);
        let (_upper_code, version, flags) = (reader.byte()?, reader.byte()?, reader.number()?);
        let length = reader.number()?;
        let mut options = Reader(reader.take(usize::from(length))?);
        let dnssec_ok = flags & 0x8000 != 0;
        let mut edns = Edns { payload_bytes, dnssec_ok, cookie: None, is_padded: false, asks_keepalive: false };
        // What stands in another version is not known.
        while version == 0 && !options.is_empty() {
            let (option, length) = (options.number()?, options.number()?);
            let value = options.take(usize::from(length))?;
            match option {
                OPTION_COOKIE if edns.cookie.is_none() => edns.cookie = Some(Cookie::read(value)?),
                OPTION_PADDING => edns.is_padded = true,
                OPTION_KEEPALIVE if value.is_empty() => edns.asks_keepalive = true,
                OPTION_KEEPALIVE => return None,
                _ => {}
            }
        }
        Some(Self { version, edns })
    }
}

impl<'a> Cookie<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let (client, server) = value.split_first_chunk()?;
        matches!(server.len(), 0 | 8..=32).then_some(Self { client: *client, server })
    }
}
