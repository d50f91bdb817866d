//! `security.txt` (RFC 9116): whom to tell of a hole.

use std::fmt::Write;

/// The most that stands in one line.
const MAX_LINE_BYTES: usize = 512;
/// The most lines with contacts.
const MAX_CONTACTS: usize = 8;

/// A file that says whom to tell of a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityTxt(String);

/// Why there is no such file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityTxtError {
    /// Nobody to tell, or a crowd.
    #[error("security.txt names one to {MAX_CONTACTS} contacts, the preferred one first")]
    Contacts,
    /// No address that can be followed.
    #[error(
        "{0:?} is no contact for security.txt: write mailto:security@example.org, https://example.org/report or tel:+1-201-555-0123"
    )]
    Contact(String),
    /// No moment.
    #[error(
        "{0:?} is no date for security.txt: write when its contents are to be looked at again, such as 2027-06-30T00:00:00Z"
    )]
    Expires(String),
}

impl SecurityTxt {
    /// Of contacts, the preferred one first, and the moment from which on nobody shall trust them any more, in UTC.
    pub fn new<T: AsRef<str>>(contacts: impl IntoIterator<Item = T>, expires: &str) -> Result<Self, SecurityTxtError> {
        let (mut text, mut count) = (String::new(), 0);
        for contact in contacts {
            let contact = contact.as_ref();
            if !is_contact(contact) {
                return Err(SecurityTxtError::Contact(contact.to_owned()));
            }
            // Writing into a string does not fail.
            let _ = writeln!(text, "Contact: {contact}");
            count += 1;
        }
        if !(1..=MAX_CONTACTS).contains(&count) {
            return Err(SecurityTxtError::Contacts);
        }
        if !is_moment(expires) {
            return Err(SecurityTxtError::Expires(expires.to_owned()));
        }
        let _ = writeln!(text, "Expires: {expires}");
        Ok(Self(text))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Section 2.5.3: a URI, and on the web one of https.
fn is_contact(contact: &str) -> bool {
    let is_uri = contact.len() <= MAX_LINE_BYTES && contact.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = ["mailto:", "https://", "tel:"].iter().find_map(|scheme| contact.strip_prefix(scheme));
    is_uri && rest.is_some_and(|rest| !rest.is_empty())
}

/// Section 2.5.5 asks for RFC 3339; this is its form in UTC without fractions: 2027-06-30T00:00:00Z.
fn is_moment(text: &str) -> bool {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let has_form = text.len() == FORM.len()
        && text
            .bytes()
            .zip(FORM.bytes())
            .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form });
    let number = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let is_in = |range: std::ops::RangeInclusive<u32>, from| number(from, from + 2).is_some_and(|n| range.contains(&n));
    let days = match (number(0, 4), number(5, 7)) {
        (_, Some(4 | 6 | 9 | 11)) => 30,
        (Some(year), Some(2)) if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        (_, Some(2)) => 28,
        _ => 31,
    };
    has_form && is_in(1..=12, 5) && is_in(1..=days, 8) && is_in(0..=23, 11) && is_in(0..=59, 14) && is_in(0..=59, 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whom_to_tell_and_until_when() {
        let contacts = ["mailto:security@example.org", "https://example.org/report"];
        let file = SecurityTxt::new(contacts, "2028-02-29T23:59:59Z").unwrap();
        let expect = "Contact: mailto:security@example.org\nContact: https://example.org/report\nExpires: 2028-02-29T23:59:59Z\n";
        assert_eq!(file.text(), expect);
    }

    #[test]
    fn what_would_be_another_line_or_no_line_is_refused() {
        let good = "mailto:security@example.org";
        let moment = "2027-06-30T00:00:00Z";
        for contact in [
            "security@example.org",
            "http://example.org",
            "mailto:",
            "",
            "mailto:a@b\nExpires: x",
            "mailto:a b",
            "https://\u{e9}",
        ] {
            assert_eq!(SecurityTxt::new([contact], moment), Err(SecurityTxtError::Contact(contact.to_owned())));
        }
        assert!(SecurityTxt::new([format!("https://{}", "a".repeat(600))], moment).is_err());
        assert_eq!(SecurityTxt::new([""; 0], moment), Err(SecurityTxtError::Contacts));
        assert_eq!(SecurityTxt::new([good; 9], moment), Err(SecurityTxtError::Contacts));
        for expires in [
            "",
            "2027-06-30",
            "2027-06-31T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-06-00T00:00:00Z",
            "2027-06-30T24:00:00Z",
            "2027-06-30T00:60:00Z",
            "2027-06-30T00:00:60Z",
            "2027-06-30 00:00:00Z",
            "2027-06-30T00:00:00+00:00",
            "2027-06-30T00:00:0\u{661}Z",
        ] {
            assert_eq!(SecurityTxt::new([good], expires), Err(SecurityTxtError::Expires(expires.to_owned())));
        }
    }
}
