//! What each fuzz target asserts. Every parser of bytes from outside has one; `fuzz/README.md` lists them.
//!
//! A target is a plain function of bytes that panics when a promise is broken. libFuzzer calls it in `fuzz/`, and
//! `tests/corpus.rs` calls it with every file of the corpus, on the stable toolchain, as a part of `cargo xtask test`. What
//! must never happen here: a target that depends on the clock, on random numbers or on the call before, since what it
//! finds could not be shown again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target is test code: a broken promise is a panic"
)]

mod audit;
mod bootstrap;
mod client;
mod condition;
mod contract;
mod dns_messages;
mod ech;
mod encoded;
mod files;
mod filter;
mod frames;
mod http;
mod identity;
mod input;
mod key_file;
mod lines;
mod list;
mod message;
mod proxy;
mod store;
#[cfg(test)]
mod tests;
mod things;
mod token;
mod trace;
mod update;
mod zone;

/// One parser, or a few that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, of its corpus folder too.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All targets, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "access_token", run: token::access_token },
    Target { name: "account_line", run: lines::account },
    Target { name: "audit_entry", run: audit::entry_text },
    Target { name: "audit_head", run: audit::head_text },
    Target { name: "audit_page_token", run: audit::page_token },
    Target { name: "audit_proof", run: audit::proof },
    Target { name: "bootstrap", run: bootstrap::file },
    Target { name: "catalog_row", run: store::catalog_row },
    Target { name: "configuration", run: files::configuration },
    Target { name: "contract", run: contract::file },
    Target { name: "countries", run: lines::countries },
    Target { name: "descriptors", run: client::descriptors },
    Target { name: "dns_query", run: dns_messages::query },
    Target { name: "doh_request", run: dns_messages::request },
    Target { name: "ech_config_list", run: ech::list },
    Target { name: "email", run: identity::email },
    Target { name: "encoded_record", run: encoded::record },
    Target { name: "filter", run: filter::text },
    Target { name: "filter_meaning", run: filter::meaning },
    Target { name: "frames", run: frames::body },
    Target { name: "http_head", run: http::head },
    Target { name: "https_record", run: client::https_record },
    Target { name: "import_line", run: lines::record },
    Target { name: "kept_heads", run: client::kept_heads },
    Target { name: "key_file", run: key_file::file },
    Target { name: "list_request", run: list::request },
    Target { name: "message_json", run: message::json },
    Target { name: "message_protobuf", run: message::protobuf },
    Target { name: "page_token", run: store::page_token },
    Target { name: "picture", run: files::picture },
    Target { name: "proxy_header", run: proxy::header },
    Target { name: "record_id", run: identity::record_id },
    Target { name: "reflection", run: message::reflection },
    Target { name: "refresh_token", run: token::refresh_token },
    Target { name: "refusal_details", run: client::refusal_details },
    Target { name: "request_form", run: http::form },
    Target { name: "resolver_answer", run: sys_domain::fuzzing::resolver_answer },
    Target { name: "resume_token", run: store::resume_token },
    Target { name: "rule", run: contract::rule },
    Target { name: "servers_file", run: client::servers_file },
    Target { name: "session_file", run: client::session_file },
    Target { name: "stored_key", run: store::key },
    Target { name: "stored_value", run: store::value },
    Target { name: "trace_context", run: trace::context },
    Target { name: "update_mask", run: update::mask },
    Target { name: "validation_rule", run: contract::validation_rule },
    Target { name: "write_ahead_log", run: store::log },
    Target { name: "zone_input", run: zone::input },
];

/// The target with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
