//! The organisation's own zone on the wire: what is in it, signed as it is asked for, and answered within bounds.
//!
//! What must never happen here: any knowledge of records, callers or rules, or an answer that is larger than what was asked with
//! allows.
