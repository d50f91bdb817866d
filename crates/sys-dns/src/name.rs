//! A domain name: at most 255 octets of labels, in lower case, from text as people type it and back.
//!
//! Upper and lower case are one (RFC 4343), so names are kept in lower case: their wire form is the canonical one of RFC 4034
//! section 6.2, two names are equal if their octets are, and the order of names is the canonical one of section 6.1. How a
//! question was spelt is kept by the question. Letters beyond ASCII become A-labels (UTS 46). What must never happen here: a
//! name that is longer than a message can say.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use std::{
    cmp::Ordering,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};
use thiserror::Error;

/// Octets of a name on the wire, with the root's (RFC 1035 section 2.3.4).
pub const MAX_NAME_BYTES: usize = 255;
/// Octets of one label.
pub const MAX_LABEL_BYTES: usize = 63;
/// Labels of a name of single letters, and the root's.
const MAX_LABELS: usize = 128;
/// Characters of a name's text: each octet may be written as `\DDD`.
const MAX_TEXT_BYTES: usize = 4 * MAX_NAME_BYTES;
/// Printable characters that mean something in the text of a zone, so that a backslash stands before them.
const SPECIAL: &[u8] = b"\"().;@$\\";

/// Why a text is no name, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing stands there.
    #[error("a name is missing: write one such as www.example.org.")]
    Empty,
    /// Two dots follow each other, or one begins the name.
    #[error("two dots have nothing between them: write each label once, as in www.example.org.")]
    EmptyLabel,
    /// A label has more than 63 octets.
    #[error("a part between two dots is longer than {MAX_LABEL_BYTES} octets: shorten it")]
    LabelTooLong,
    /// The name has more than 255 octets.
    #[error("the name is longer than {MAX_NAME_BYTES} octets: shorten it")]
    TooLong,
    /// A backslash without a character or three digits up to 255 behind it.
    #[error(r"a backslash needs a character or three digits up to 255 behind it: write \\ for the backslash itself")]
    Escape,
    /// A blank, control character or quote that is not escaped.
    #[error(r"blanks, quotes and control characters are no part of a name: write \032 if a blank is really meant")]
    Character,
    /// What IDNA does not allow in a name.
    #[error(
        "the letters beyond ASCII do not make an international name: write the A-labels (xn--...) that were registered"
    )]
    International,
    /// An IP address where a name must stand.
    #[error(
        "an address stands where a name must: give the address a name with an A or AAAA record, and write that name"
    )]
    Address,
    /// A name without dots, in a place where it must be whole.
    #[error("the name has no dot: write it in full, as in mail.example.org.")]
    NotInFull,
}

/// A domain name, absolute, in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// INVARIANT: labels with their lengths in front, each of 1 to 63 octets, then the root's zero: at most 255 octets, without
    /// upper case.
    wire: Box<[u8]>,
}

impl Name {
    /// The name of no labels.
    pub fn root() -> Self {
        Self { wire: Box::new([0]) }
    }

    /// Reads an absolute name, with or without the dot at its end: `www.example.org.`, `bücher.example`, `a\.b.example.org`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text == "." {
            return Ok(Self::root());
        }
        if Ipv4Addr::from_str(text.trim_end_matches('.')).is_ok() || Ipv6Addr::from_str(text).is_ok() {
            return Err(NameError::Address);
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(NameError::TooLong);
        }
        if text.is_ascii() {
            return Self::parse_ascii(text);
        }
        let ascii = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::CheckFirstLast, DnsLength::Ignore)
            .map_err(|_| NameError::International)?;
        // An escape would have to be read before the letters are mapped, and a mapped letter must not become one.
        if ascii.bytes().any(|byte| SPECIAL.contains(&byte) && byte != b'.') {
            return Err(NameError::International);
        }
        Self::parse_ascii(&ascii)
    }

    /// Reads a name that stands inside a record's data: like [`Name::parse`], but one label alone is refused, since nobody can
    /// tell what it was meant to be below.
    pub fn parse_in_full(text: &str) -> Result<Self, NameError> {
        let name = Self::parse(text)?;
        if name.label_count() == 1 && !text.trim().ends_with('.') { Err(NameError::NotInFull) } else { Ok(name) }
    }

    /// Reads the name of a record of the zone `apex`: `@` and nothing are the apex, a name that ends with a dot or with the
    /// apex is absolute, any other is below the apex.
    pub fn parse_below(text: &str, apex: &Self) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() || text == "@" {
            return Ok(apex.clone());
        }
        let name = Self::parse(text)?;
        if name.is_within(apex) || (text.ends_with('.') && !text.ends_with("\\.")) {
            return Ok(name);
        }
        let (labels, _root) = name.wire.split_at(name.wire.len().saturating_sub(1));
        Self::from_wire(&[labels, &apex.wire].concat()).ok_or(NameError::TooLong)
    }

    fn parse_ascii(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len().saturating_add(2));
        let mut label = Vec::new();
        let mut bytes = text.bytes();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let mut is_open = false;
        while let Some(byte) = bytes.next() {
            match byte {
                b'.' => {
                    push_label(&mut wire, &mut label)?;
                    is_open = false;
                    continue;
                }
                b'\\' => label.push(unescape(&mut bytes).ok_or(NameError::Escape)?),
                b'"' | 0..=b' ' | 0x7f.. => return Err(NameError::Character),
                _ => label.push(byte),
            }
            is_open = true;
        }
        if is_open {
            push_label(&mut wire, &mut label)?;
        }
        wire.push(0);
        Self::from_wire(&wire).ok_or(NameError::TooLong)
    }

    /// The name with these octets, if they are one uncompressed name and nothing more. Upper case becomes lower case.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        if wire.len() > MAX_NAME_BYTES {
            return None;
        }
        let mut rest = wire;
        loop {
            let (&length, behind) = rest.split_first()?;
            let length = usize::from(length);
            if length == 0 {
                return behind.is_empty().then(|| Self { wire: wire.to_ascii_lowercase().into() });
            }
            if length > MAX_LABEL_BYTES {
                return None;
            }
            rest = behind.get(length..)?;
        }
    }

    /// The uncompressed wire form, which is the canonical one.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The labels from the left, without the root's.
    pub fn labels(&self) -> Labels<'_> {
        Labels::of(&self.wire)
    }

    /// Without an allocation, since trees of names compare all the time.
    fn labels_from_the_right(&self) -> impl Iterator<Item = &[u8]> {
        let mut starts = [0; MAX_LABELS];
        let mut labels = 0;
        for (place, start) in starts.iter_mut().zip(self.labels().starts()) {
            *place = start;
            labels += 1;
        }
        // The last one is the root's.
        let starts = starts.into_iter().take(labels).rev().skip(1);
        starts.filter_map(|start| Labels::of(self.wire.get(start..)?).next())
    }

    /// The number of labels without the root's.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name as certificates, hello messages and URLs have it: without the dot at its end.
    pub fn host(&self) -> String {
        let mut text = self.to_string();
        text.truncate(text.len().saturating_sub(1));
        text
    }

    /// The name without its leftmost label; `None` of the root.
    pub fn parent(&self) -> Option<Self> {
        let first = usize::from(*self.wire.first()?);
        if first == 0 {
            return None;
        }
        let rest = self.wire.get(first.saturating_add(1)..)?;
        Some(Self { wire: rest.into() })
    }

    /// The name itself and all above it, up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// The name with one more label at its left, if there is room.
    pub fn child(&self, label: &[u8]) -> Option<Self> {
        let length = u8::try_from(label.len()).ok().filter(|length| *length > 0)?;
        Self::from_wire(&[&[length], label, &*self.wire].concat())
    }

    /// Whether the name is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        let Some(at) = self.wire.len().checked_sub(ancestor.wire.len()) else { return false };
        // The octets must end alike and a label must begin there, not just anything that looks like one.
        self.wire.get(at..) == Some(&*ancestor.wire) && self.labels().starts().any(|start| start == at)
    }

    /// Whether the leftmost label is the asterisk (RFC 4592).
    pub fn is_wildcard(&self) -> bool {
        self.wire.starts_with(b"\x01*")
    }

    /// The successor of the name among all names that are below its parent or the name itself, in the canonical order: nothing
    /// lies between the two (RFC 4471 section 3.1.2).
    pub fn successor(&self) -> Self {
        if let Some(below) = self.child(&[0]) {
            return below;
        }
        // There is no room for a label below: the next one is beside the name, or beside one above it.
        self.ancestors().find_map(|name| name.next_beside()).unwrap_or_else(Self::root)
    }

    /// The next name with the same parent whose leftmost label is no beginning of this one's.
    fn next_beside(&self) -> Option<Self> {
        let (label, parent) = (self.labels().next()?, self.parent()?);
        let longer = [label, &[0]].concat();
        if longer.len() <= MAX_LABEL_BYTES
            && let Some(name) = parent.child(&longer)
        {
            return Some(name);
        }
        let kept = label.iter().rposition(|byte| *byte != u8::MAX)?;
        let mut next = label.get(..=kept)?.to_vec();
        // Upper case is lower case: what follows `@` is `[`.
        let last = next.last_mut()?;
        *last = if *last == b'@' { b'[' } else { last.saturating_add(1) };
        parent.child(&next)
    }
}

/// The labels of a name, from the left.
#[derive(Debug, Clone)]
pub struct Labels<'a> {
    rest: &'a [u8],
}

impl<'a> Labels<'a> {
    /// Those of a name in wire form.
    pub(crate) fn of(wire: &'a [u8]) -> Self {
        Self { rest: wire }
    }

    /// Where each label begins in the wire form of the name that it was made from, and where the root's does.
    fn starts(self) -> impl Iterator<Item = usize> {
        let whole = self.rest.len();
        let mut labels = self;
        let mut next = Some(0);
        std::iter::from_fn(move || {
            let start = next?;
            next = labels.next().map(|_| whole.saturating_sub(labels.rest.len()));
            Some(start)
        })
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, behind) = self.rest.split_first()?;
        let (label, rest) = behind.split_at_checked(usize::from(length))?;
        if label.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(label)
    }
}

fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    let length = u8::try_from(label.len()).ok().filter(|length| usize::from(*length) <= MAX_LABEL_BYTES);
    match length.ok_or(NameError::LabelTooLong)? {
        0 => Err(NameError::EmptyLabel),
        length => {
            wire.push(length);
            wire.append(label);
            Ok(())
        }
    }
}

/// What stands behind a backslash: three digits, or any other printable character for itself.
pub(crate) fn unescape(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return first.is_ascii_graphic().then_some(first);
    }
    let digits = [first, bytes.next()?, bytes.next()?];
    std::str::from_utf8(&digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// The canonical order: by labels from the right, each as octets in lower case (RFC 4034 section 6.1).
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.labels_from_the_right().cmp(other.labels_from_the_right())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.labels().next().is_none() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for byte in label {
                match byte {
                    byte if SPECIAL.contains(byte) => write!(f, "\\{}", char::from(*byte))?,
                    byte if byte.is_ascii_graphic() => write!(f, "{}", char::from(*byte))?,
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
