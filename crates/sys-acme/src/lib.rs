//! Certificates by ACME (RFC 8555): orders, challenges, renewals.
//!
//! What must never happen here: a private key in a log line, or any knowledge of records, callers or listeners: who asks for
//! certificates says where keys are kept and how a challenge is shown.
