//! E-mail addresses in one canonical form, so that one person has one account.
//!
//! Every address that enters the account module goes through [`CanonicalEmail::parse`]; two addresses are the same exactly
//! if their canonical texts are. What must never happen here: a look-up or a guess about a provider's own rules, such as
//! dots or `+tags` that some ignore, for elsewhere they tell two people apart.

use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// Longest address in bytes: RFC 5321 section 4.5.3.1.3 gives a path 256, two of which are its angle brackets.
pub const MAX_EMAIL_BYTES: usize = 254;
/// Longest local part in bytes (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// What RFC 5322 section 3.2.3 allows in an atom beside letters and digits.
const ATOM_MARKS: &str = "!#$%&'*+-/=?^_`{|}~";

/// An address that mail can be sent to: no white space around it, the local part in NFC and lower case, the domain in its
/// ASCII form (UTS 46) and lower case. It is about a person, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalEmail(String);

impl CanonicalEmail {
    /// Reads an address as a person types it. Quoted local parts, comments, address literals and domains without a dot are
    /// refused: nobody here has an address like that, and each is a second spelling.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = text.trim();
        if text.len() > MAX_EMAIL_BYTES {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError::NoAt)?;
        let email = format!("{}@{}", canonical_local(local)?, canonical_domain(domain)?);
        // Both halves may have grown: the domain into punycode, the local part by case mapping.
        if email.len() > MAX_EMAIL_BYTES {
            return Err(EmailError::TooLong);
        }
        Ok(Self(email))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A domain of mail as it stands behind the `@` of canonical addresses.
pub fn canonical_mail_domain(text: &str) -> Result<String, EmailError> {
    canonical_domain(text.trim())
}

/// Whether a canonical address is in one of these canonical domains, and not in one below it.
pub fn is_in_domain(email: &str, domains: &[String]) -> bool {
    email.rsplit_once('@').is_some_and(|(_, domain)| domains.iter().any(|one| one == domain))
}

impl fmt::Display for CanonicalEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CanonicalEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CanonicalEmail(..)")
    }
}

/// Why a text is no address. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// No `@`.
    #[error("not an e-mail address: write it as name@example.org")]
    NoAt,
    /// What stands before the last `@`.
    #[error(
        "not an e-mail address: before the @ stand 1 to 64 letters, digits or {ATOM_MARKS} with single dots between"
    )]
    Local,
    /// What stands after the last `@`.
    #[error("not an e-mail address: after the @ stands a domain name such as example.org")]
    Domain,
    /// Longer than [`MAX_EMAIL_BYTES`].
    #[error("not an e-mail address: it has more than {MAX_EMAIL_BYTES} bytes")]
    TooLong,
}

/// A dot-atom (RFC 5322 section 3.2.3), with letters and digits of any script (RFC 6532).
fn canonical_local(local: &str) -> Result<String, EmailError> {
    let folded = local.nfc().collect::<String>().to_lowercase().nfc().collect::<String>();
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(|c| c.is_alphanumeric() || ATOM_MARKS.contains(c));
    if folded.len() > MAX_LOCAL_BYTES || !folded.split('.').all(is_atom) {
        return Err(EmailError::Local);
    }
    Ok(folded)
}

/// Two labels or more, the last not a number, which would make it an IPv4 address.
fn canonical_domain(domain: &str) -> Result<String, EmailError> {
    let domain = idna::domain_to_ascii_strict(domain).map_err(|_| EmailError::Domain)?;
    let (_, top) = domain.rsplit_once('.').ok_or(EmailError::Domain)?;
    if top.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EmailError::Domain);
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: Result<&str, EmailError>) {
        assert_eq!(
            CanonicalEmail::parse(text).as_ref().map(CanonicalEmail::as_str),
            expect.as_ref().copied(),
            "{text:?}"
        );
    }

    #[test]
    fn one_person_has_one_form() {
        check("ada@example.org", Ok("ada@example.org"));
        check("  Ada.Byron+Lists@EXAMPLE.org\n", Ok("ada.byron+lists@example.org"));
        check("Zoe\u{308}@example.org", Ok("zo\u{eb}@example.org"));
        check("ZO\u{cb}@example.org", Ok("zo\u{eb}@example.org"));
        check("ada@B\u{fc}cher.example", Ok("ada@xn--bcher-kva.example"));
        check("ada@XN--BCHER-KVA.example", Ok("ada@xn--bcher-kva.example"));
        check("ada@example\u{3002}org", Ok("ada@example.org"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use EmailError::{Domain, Local, NoAt, TooLong};
        check("", Err(NoAt));
        check("example.org", Err(NoAt));
        check("@example.org", Err(Local));
        for local in ["a..b", ".a", "a.", "a b", "\"a b\"", "a@b", "a\u{0}", "a\u{202e}b", "a,b", "a\r\nBcc: c", "(x)a"]
        {
            check(&format!("{local}@example.org"), Err(Local));
        }
        check(&format!("{}@example.org", "a".repeat(65)), Err(Local));
        for domain in [
            "",
            "example",
            "example.org.",
            "-a.org",
            "a-.org",
            "a..org",
            "a_b.org",
            "[127.0.0.1]",
            "127.0.0.1",
            "a b.org",
        ] {
            check(&format!("ada@{domain}"), Err(Domain));
        }
        check(&format!("ada@{}.org", "a".repeat(64)), Err(Domain));
        check(&format!("ada@{}org", "abcdefgh.".repeat(30)), Err(TooLong));
    }

    #[test]
    fn an_address_is_in_its_own_domain_and_no_other() {
        let domains = ["example.org", "B\u{fc}cher.example"].map(|text| canonical_mail_domain(text).unwrap());
        for email in ["ada@EXAMPLE.org", "ada@b\u{fc}cher.example"] {
            assert!(is_in_domain(CanonicalEmail::parse(email).unwrap().as_str(), &domains), "{email}");
        }
        for email in ["ada@mail.example.org", "ada@xexample.org", "ada@example.org.example", "example.org@example.com"]
        {
            assert!(!is_in_domain(CanonicalEmail::parse(email).unwrap().as_str(), &domains), "{email}");
        }
        assert!(!is_in_domain("ada@example.org", &[]));
        assert_eq!(canonical_mail_domain("a@example.org"), Err(EmailError::Domain));
    }

    #[test]
    fn debug_does_not_show_the_address() {
        let email = CanonicalEmail::parse("ada@example.org").unwrap();
        assert!(!format!("{email:?}").contains("ada"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(text in ".{0,20}@.{0,20}(\\.org)?") {
            if let Ok(email) = CanonicalEmail::parse(&text) {
                prop_assert_eq!(CanonicalEmail::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn any_letters_are_their_own_canonical_form_once_canonical(local in "\\p{L}{1,8}", domain in "\\p{L}{1,8}") {
            if let Ok(email) = CanonicalEmail::parse(&format!("{local}@{domain}.org")) {
                prop_assert_eq!(CanonicalEmail::parse(email.as_str()), Ok(email));
            }
        }

        #[test]
        fn case_never_makes_a_second_person(local in "[a-zA-Z0-9]{1,12}", domain in "[a-zA-Z]{1,12}") {
            let text = format!("{local}@{domain}.org");
            prop_assert_eq!(CanonicalEmail::parse(&text.to_uppercase()), CanonicalEmail::parse(&text));
        }
    }
}
