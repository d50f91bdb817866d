//! A record's data as people type it, and back: the presentation format of RFC 1035 section 5.1, of RFC 8659 for CAA and of
//! RFC 9460 for HTTPS and SVCB, in one line without comments or parentheses.
//!
//! More is read than is written: a TXT without quotes is taken as it stands and cut into strings, names may lack the dot at
//! their end. What is written is read as the same. What must never happen here: a value that is bent to fit.

use super::{
    data::{Data, Kind, MAX_DATA_BYTES, MAX_STRING_BYTES},
    service::{KEYS, Parameter, Service},
};
use crate::name::{Name, NameError, unescape};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE, HEXUPPER};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Octets of a text: each of the data may be written as `\DDD`.
const MAX_TEXT_BYTES: usize = 4 * MAX_DATA_BYTES;

/// Why a text is no record data, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DataError {
    /// More than any record holds.
    #[error("the text is longer than {MAX_TEXT_BYTES} octets: no record holds so much")]
    TooLong,
    /// Something that has to stand there does not.
    #[error("{what} is missing: write it as in {}", kind.example())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// What was read.
        kind: Kind,
    },
    /// A number that is none or too large.
    #[error("{what} is no number from 0 to {most}: write it as in {}", kind.example())]
    Number {
        /// What was looked for.
        what: &'static str,
        /// The largest one.
        most: u16,
        /// What was read.
        kind: Kind,
    },
    /// No IP address of the kind's version.
    #[error("that is no address for {kind}: write it as in {}", kind.example())]
    Address {
        /// A or AAAA.
        kind: Kind,
    },
    /// A name inside the data that is none.
    #[error("{0}")]
    Name(#[from] NameError),
    /// More text than the kind has.
    #[error("more stands there than a record of this kind holds: write it as in {}", kind.example())]
    Trailing {
        /// What was read.
        kind: Kind,
    },
    /// A quote that is not closed, or in the middle of a word.
    #[error(
        r#"a quote is not closed, or stands inside of a word: write "..." around the whole, and \" for a quote in it"#
    )]
    Quote,
    /// A backslash without a character or three digits up to 255 behind it.
    #[error(r"a backslash needs a character or three digits up to 255 behind it: write \\ for the backslash itself")]
    Escape,
    /// A quoted string with more octets than one string has.
    #[error(
        "a quoted string is longer than {MAX_STRING_BYTES} octets: write it without quotes, or as several quoted strings"
    )]
    StringTooLong,
    /// Text that has to be letters and digits of ASCII.
    #[error("{what} is not printable ASCII: write it as in {}", kind.example())]
    NotAscii {
        /// What was looked for.
        what: &'static str,
        /// What was read.
        kind: Kind,
    },
    /// No hexadecimal digits.
    #[error("the digest is not in hexadecimal digits: copy it whole, as in {}", Kind::Ds.example())]
    Digest,
    /// A parameter of HTTPS or SVCB that has no such name.
    #[error(
        "`{key}` is no parameter: there are mandatory, alpn, no-default-alpn, port, ipv4hint, ech, ipv6hint, dohpath, and keyNNN by number"
    )]
    Key {
        /// What stands there.
        key: String,
    },
    /// A parameter's value that is none.
    #[error("`{key}` has a value that cannot be read: {help}")]
    Value {
        /// The parameter.
        key: String,
        /// What to write.
        help: &'static str,
    },
}

impl Kind {
    /// How data of this kind is written.
    pub fn example(self) -> &'static str {
        match self {
            Self::A => "192.0.2.1",
            Self::Aaaa => "2001:db8::1",
            Self::Cname => "www.example.org.",
            Self::Mx => "10 mail.example.org.",
            Self::Txt => "\"v=spf1 mx -all\"",
            Self::Srv => "0 5 5269 xmpp.example.org.",
            Self::Caa => "0 issue \"letsencrypt.org\"",
            Self::Https => "1 . alpn=h2,http/1.1",
            Self::Svcb => "1 dns.example.org. alpn=dot",
            Self::Ns => "ns1.example.org.",
            Self::Ds => "12345 13 2 (64 hexadecimal digits)",
        }
    }
}

impl Data {
    /// Reads the data of one record.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, DataError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(DataError::TooLong);
        }
        let mut words = Words { kind, rest: text.trim() };
        let data = match kind {
            Kind::A => Self::A(words.address()?),
            Kind::Aaaa => Self::Aaaa(words.address()?),
            Kind::Cname => Self::Cname(words.name()?),
            Kind::Ns => Self::Ns(words.name()?),
            Kind::Mx => Self::Mx { preference: words.number("the preference")?, exchange: words.name()? },
            Kind::Txt => Self::Txt(words.strings()?),
            Kind::Srv => Self::Srv {
                priority: words.number("the priority")?,
                weight: words.number("the weight")?,
                port: words.number("the port")?,
                target: words.name()?,
            },
            Kind::Caa => words.caa()?,
            Kind::Https => Self::Https(words.service()?),
            Kind::Svcb => Self::Svcb(words.service()?),
            Kind::Ds => words.ds()?,
        };
        if words.rest.is_empty() { Ok(data) } else { Err(DataError::Trailing { kind }) }
    }
}

/// A line, word by word.
struct Words<'a> {
    kind: Kind,
    /// Begins with no blank.
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn word(&mut self, what: &'static str) -> Result<&'a str, DataError> {
        let (word, rest) = self.rest.split_once(|letter: char| letter.is_ascii_whitespace()).unwrap_or((self.rest, ""));
        self.rest = rest.trim_start();
        if word.is_empty() { Err(DataError::Missing { what, kind: self.kind }) } else { Ok(word) }
    }

    fn address<T: FromStr>(&mut self) -> Result<T, DataError> {
        self.word("the address")?.parse().map_err(|_| DataError::Address { kind: self.kind })
    }

    fn name(&mut self) -> Result<Name, DataError> {
        Ok(Name::parse_in_full(self.word("the name")?)?)
    }

    fn number(&mut self, what: &'static str) -> Result<u16, DataError> {
        let word = self.word(what)?;
        digits(word).ok_or(DataError::Number { what, most: u16::MAX, kind: self.kind })
    }

    fn octet(&mut self, what: &'static str) -> Result<u8, DataError> {
        let wrong = DataError::Number { what, most: u8::MAX.into(), kind: self.kind };
        u8::try_from(
            self.number(what)
                .map_err(|error| if matches!(error, DataError::Number { .. }) { wrong.clone() } else { error })?,
        )
        .map_err(|_| wrong)
    }

    /// A character string: in quotes with blanks, or a word. Escapes are read.
    fn string(&mut self) -> Result<Vec<u8>, DataError> {
        let is_quoted = self.rest.starts_with('"');
        let mut string = Vec::new();
        let mut bytes = self.rest.bytes();
        let mut is_closed = false;
        if is_quoted {
            bytes.next();
        }
        let mut at = bytes.clone();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' if is_quoted => is_closed = true,
                b'"' => return Err(DataError::Quote),
                b'\\' => string.push(unescape(&mut bytes).ok_or(DataError::Escape)?),
                byte if byte.is_ascii_whitespace() && !is_quoted => break,
                byte => string.push(byte),
            }
            at = bytes.clone();
            if is_closed {
                break;
            }
        }
        if is_quoted && !is_closed {
            return Err(DataError::Quote);
        }
        // The cursor stands behind an ASCII character or a whole word, so this is a boundary of characters.
        let rest = self.rest.get(self.rest.len().saturating_sub(at.len())..).unwrap_or_default();
        if is_quoted && rest.starts_with(|letter: char| !letter.is_ascii_whitespace()) {
            return Err(DataError::Quote);
        }
        self.rest = rest.trim_start();
        Ok(string)
    }

    /// The strings of a TXT: quoted ones as they are, a text without quotes cut at 255 octets.
    fn strings(&mut self) -> Result<Vec<Vec<u8>>, DataError> {
        if self.rest.is_empty() {
            return Err(DataError::Missing { what: "the text", kind: self.kind });
        }
        if !self.rest.starts_with('"') {
            if self.rest.contains('"') {
                return Err(DataError::Quote);
            }
            let whole = std::mem::take(&mut self.rest).as_bytes();
            return Ok(whole.chunks(MAX_STRING_BYTES).map(<[u8]>::to_vec).collect());
        }
        let mut strings = Vec::new();
        while !self.rest.is_empty() {
            if !self.rest.starts_with('"') {
                return Err(DataError::Quote);
            }
            let string = self.string()?;
            if string.len() > MAX_STRING_BYTES {
                return Err(DataError::StringTooLong);
            }
            strings.push(string);
        }
        Ok(strings)
    }

    /// Text of printable ASCII.
    fn ascii(&self, what: &'static str, bytes: Vec<u8>) -> Result<String, DataError> {
        let is_printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
        let wrong = DataError::NotAscii { what, kind: self.kind };
        if is_printable { String::from_utf8(bytes).map_err(|_| wrong) } else { Err(wrong) }
    }

    fn caa(&mut self) -> Result<Data, DataError> {
        let flags = self.octet("the flags")?;
        let tag = self.word("the tag")?.to_ascii_lowercase();
        let tag = self.ascii("the tag", tag.into_bytes())?;
        if self.rest.is_empty() {
            return Err(DataError::Missing { what: "the value", kind: self.kind });
        }
        let value = self.string()?;
        Ok(Data::Caa { flags, tag, value: self.ascii("the value", value)? })
    }

    fn ds(&mut self) -> Result<Data, DataError> {
        let key_tag = self.number("the key tag")?;
        let (algorithm, digest_type) = (self.octet("the algorithm")?, self.octet("the digest type")?);
        // Registries show long digests in groups.
        let digits: String = std::mem::take(&mut self.rest).split_ascii_whitespace().collect();
        if digits.is_empty() {
            return Err(DataError::Missing { what: "the digest", kind: self.kind });
        }
        let digest = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| DataError::Digest)?;
        Ok(Data::Ds { key_tag, algorithm, digest_type, digest })
    }

    fn service(&mut self) -> Result<Service, DataError> {
        let (priority, target) = (self.number("the priority")?, self.name()?);
        let mut parameters = Vec::new();
        while !self.rest.is_empty() {
            parameters.push(self.parameter()?);
        }
        // People need not know the numbers. What stands twice stays so, for the zone's checks to tell.
        parameters.sort_by_key(Parameter::key);
        Ok(Service { priority, target, parameters })
    }

    fn parameter(&mut self) -> Result<Parameter, DataError> {
        let end =
            self.rest.find(|letter: char| letter == '=' || letter.is_ascii_whitespace()).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        let number = key_number(key).ok_or_else(|| DataError::Key { key: shown(key) })?;
        let value = match rest.strip_prefix('=') {
            Some(value) => {
                self.rest = value;
                self.string()?
            }
            None => {
                self.rest = rest.trim_start();
                Vec::new()
            }
        };
        parameter_of(number, value).map_err(|help| DataError::Value { key: shown(key), help })
    }
}

/// A key's text, cut to what fits a line: what people see is not longer because a stranger typed more.
fn shown(key: &str) -> String {
    key.chars().filter(|letter| !letter.is_control()).take(32).collect()
}

/// Digits and nothing else: no sign.
fn digits(word: &str) -> Option<u16> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) { word.parse().ok() } else { None }
}

fn key_number(key: &str) -> Option<u16> {
    let known = KEYS.iter().find(|(name, _)| *name == key).map(|(_, number)| *number);
    known.or_else(|| digits(key.strip_prefix("key")?))
}

fn parameter_of(key: u16, value: Vec<u8>) -> Result<Parameter, &'static str> {
    let text = || std::str::from_utf8(&value).map_err(|_| "write it in ASCII");
    match key {
        0 => {
            let keys: Option<Vec<u16>> = text()?.split(',').map(|key| key_number(key.trim())).collect();
            let mut keys =
                keys.ok_or("write names of parameters with commas between them, as in mandatory=alpn,port")?;
            keys.sort_unstable();
            Ok(Parameter::Mandatory(keys))
        }
        1 => {
            list(&value).map(Parameter::Alpn).ok_or("write protocols with commas between them, as in alpn=h2,http/1.1")
        }
        2 if value.is_empty() => Ok(Parameter::NoDefaultAlpn),
        2 => Err("it has none: write no-default-alpn alone"),
        3 => digits(text()?).map(Parameter::Port).ok_or("write a number up to 65535, as in port=8443"),
        4 => addresses(text()?).map(Parameter::Ipv4Hint).ok_or("write IPv4 addresses with commas between them"),
        5 => BASE64.decode(&value).map(Parameter::Ech).map_err(|_| "write the ECHConfigList in base64"),
        6 => addresses(text()?).map(Parameter::Ipv6Hint).ok_or("write IPv6 addresses with commas between them"),
        7 => Ok(Parameter::DohPath(text()?.to_owned())),
        key => Ok(Parameter::Other { key, value }),
    }
}

fn addresses<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|address| address.trim().parse().ok()).collect()
}

/// Values with commas between them, where a backslash stands before a comma or backslash that is meant (RFC 9460 appendix A.1).
fn list(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut items, mut item) = (Vec::new(), Vec::new());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => items.push(std::mem::take(&mut item)),
            b'\\' => item.push(*bytes.next()?),
            byte => item.push(*byte),
        }
    }
    items.push(item);
    Some(items)
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => address.fmt(f),
            Self::Aaaa(address) => address.fmt(f),
            Self::Cname(name) | Self::Ns(name) => name.fmt(f),
            Self::Mx { preference, exchange } => write!(f, "{preference} {exchange}"),
            Self::Txt(strings) => {
                for (at, string) in strings.iter().enumerate() {
                    let blank = if at == 0 { "" } else { " " };
                    write!(f, "{blank}{}", Quoted(string))?;
                }
                Ok(())
            }
            Self::Srv { priority, weight, port, target } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Caa { flags, tag, value } => write!(f, "{flags} {tag} {}", Quoted(value.as_bytes())),
            Self::Https(service) | Self::Svcb(service) => service.fmt(f),
            Self::Ds { key_tag, algorithm, digest_type, digest } => {
                write!(f, "{key_tag} {algorithm} {digest_type} {}", HEXUPPER.encode(digest))
            }
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.priority, self.target)?;
        self.parameters.iter().try_for_each(|parameter| write!(f, " {parameter}"))
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = Key(self.key());
        match self {
            Self::Mandatory(keys) => write!(f, "{key}={}", joined(keys.iter().map(|key| Key(*key)))),
            Self::Alpn(protocols) => {
                let escaped = |protocol: &Vec<u8>| protocol.iter().flat_map(|byte| list_escaped(*byte)).collect();
                let protocols: Vec<Vec<u8>> = protocols.iter().map(escaped).collect();
                write!(f, "{key}={}", Quoted(&protocols.join(&b',')))
            }
            Self::NoDefaultAlpn => key.fmt(f),
            Self::Port(port) => write!(f, "{key}={port}"),
            Self::Ipv4Hint(addresses) => write!(f, "{key}={}", joined(addresses)),
            Self::Ech(list) => write!(f, "{key}={}", BASE64.encode(list)),
            Self::Ipv6Hint(addresses) => write!(f, "{key}={}", joined(addresses)),
            Self::DohPath(template) => write!(f, "{key}={}", Quoted(template.as_bytes())),
            Self::Other { value, .. } => write!(f, "{key}={}", Quoted(value)),
        }
    }
}

/// The name of a parameter's key.
struct Key(u16);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KEYS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "key{}", self.0),
        }
    }
}

fn joined(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn list_escaped(byte: u8) -> impl Iterator<Item = u8> {
    matches!(byte, b',' | b'\\').then_some(b'\\').into_iter().chain([byte])
}

/// A character string in quotes.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for byte in self.0 {
            match byte {
                b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                byte => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests;
