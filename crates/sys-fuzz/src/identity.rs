//! What names somebody or something: addresses and ids.

use crate::input::text;
use sys_account::email::CanonicalEmail;
use sys_contract::id::{AccountId, RecordId};

/// An address has one canonical form, which is read as itself, and which no case and no blanks around it change.
pub(crate) fn email(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(email) = CanonicalEmail::parse(text) else { return };
    let again = CanonicalEmail::parse(email.as_str()).map(|email| email.as_str().to_owned());
    assert_eq!(again.as_deref(), Ok(email.as_str()), "the canonical form of {text:?} is not its own");
    assert!(email.as_str().len() <= 254 && email.as_str().matches('@').count() == 1, "{email}");
    assert!(!email.as_str().chars().any(|c| c.is_whitespace() || c.is_control()), "{text:?}");
    let shouted = CanonicalEmail::parse(&format!(" {}\n", email.as_str().to_ascii_uppercase()));
    assert_eq!(shouted.as_ref().map(CanonicalEmail::as_str), Ok(email.as_str()), "its case makes another of {text:?}");
}

/// An id has one text, and each text that is one is read as the id that it is the text of.
pub(crate) fn record_id(bytes: &[u8]) {
    if let Some(id) = bytes.first_chunk().map(|bytes| RecordId::from_bytes(*bytes)) {
        assert_eq!(RecordId::parse(&id.text("note"), "note"), Ok(id));
    }
    let Some(text) = text(bytes) else { return };
    if let Ok(id) = RecordId::parse(text, "note") {
        assert_eq!(id.text("note"), text);
    }
    if let Ok(account) = text.parse::<AccountId>() {
        assert_eq!(account.to_string(), text);
    }
}
