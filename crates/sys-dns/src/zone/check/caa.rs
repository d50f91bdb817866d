//! The properties of CAA records (RFC 8659 section 4, RFC 9495): a certificate authority that cannot read one refuses, and one
//! that is misspelt allows everything.

use crate::{name::Name, zone::ZoneError};

const CRITICAL: u8 = 128;
const MAX_TAG_BYTES: usize = 15;

pub(super) fn check(name: &Name, flags: u8, tag: &str, value: &str, faults: &mut Vec<ZoneError>) {
    if flags & !CRITICAL != 0 {
        faults.push(ZoneError::CaaFlags { name: name.clone(), flags });
    }
    let is_tag = (1..=MAX_TAG_BYTES).contains(&tag.len())
        && tag.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_tag {
        faults.push(ZoneError::CaaTag { name: name.clone(), tag: tag.to_owned() });
    }
    if let Some(help) = value_fault(tag, value) {
        let (tag, value) = (tag.to_owned(), value.to_owned());
        faults.push(ZoneError::CaaValue { name: name.clone(), tag, value, help });
    }
}

/// What to write instead, if the value cannot stand behind the tag.
fn value_fault(tag: &str, value: &str) -> Option<&'static str> {
    match tag {
        "issue" | "issuewild" | "issuemail" if !is_issuer(value) => Some(
            "the authority's domain, perhaps with parameters behind it, as in letsencrypt.org; validationmethods=dns-01, or ; for none",
        ),
        "iodef" if !["mailto:", "https://", "http://"].iter().any(|scheme| value.starts_with(scheme)) => {
            Some("where reports go to, as in mailto:security@example.org")
        }
        _ => None,
    }
}

/// `[domain] *(";" tag=value)`, blanks around each part (RFC 8659 section 4.2).
fn is_issuer(value: &str) -> bool {
    let mut parts = value.split(';').map(str::trim);
    let domain = parts.next().unwrap_or_default();
    let is_domain = domain.is_empty() || domain.split('.').all(is_label);
    // `;` alone leaves an empty part behind it.
    is_domain && parts.all(|part| part.is_empty() || is_parameter(part))
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_letter)
}

fn is_parameter(part: &str) -> bool {
    let Some((tag, value)) = part.split_once('=') else { return false };
    let (tag, value) = (tag.trim(), value.trim());
    is_label(tag) && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';')
}
