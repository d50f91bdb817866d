//! The page at `/`: what is protected on the very connection that it comes over, in plain words.
//!
//! It is for people who know none of the words of the trade, so it says first what follows for them, and then the terms for those who
//! want to check. It says what is, never what is hoped for: a name that could be read is said to be readable. No script,
//! nothing loaded from elsewhere, and nothing in it that a request says.

use crate::{
    answers,
    tls::{Ech, Facts, Group},
};
use boring::{base64::encode_block, sha::sha256};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use std::{fmt::Write, sync::LazyLock};

/// The page's own policy: the style that stands in it, by its hash, and nothing else.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let style = encode_block(&sha256(STYLE.as_bytes()));
    let rest = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    HeaderValue::try_from(format!("default-src 'none'; style-src 'sha256-{style}'; {rest}")).ok()
});
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.1rem/1.6 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}\
h1{line-height:1.2}\
li{margin:.8rem 0}\
dt{font-weight:600}\
dd{margin:0 0 .6rem}";

/// One thing that is protected, or is not.
struct Told {
    is_safe: bool,
    /// What follows for who reads it.
    plain: &'static str,
}

/// The page for a connection with these facts; without TLS there are none.
pub(crate) fn answer(tls: Option<&Facts>) -> Response<Full<Bytes>> {
    let mut response = answers::page(page(tls));
    if let Some(policy) = &*POLICY {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

fn page(tls: Option<&Facts>) -> String {
    let told = match tls {
        Some(facts) => vec![content(), recording(facts.group), name(facts.ech)],
        None => vec![Told {
            is_safe: false,
            plain: "This connection is not encrypted. That is fine on this computer alone, and nowhere else.",
        }],
    };
    let is_safe = told.iter().all(|told| told.is_safe);
    let title = if is_safe { "This connection is protected" } else { "What is protected on this connection" };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<ul>\n"
    );
    for Told { is_safe, plain } in told {
        let mark = if is_safe { "Protected" } else { "Not protected" };
        // Writing into a string does not fail.
        let _ = writeln!(page, "<li><strong>{mark}:</strong> {plain}</li>");
    }
    page.push_str("</ul>\n");
    if let Some(facts) = tls {
        page.push_str(&terms(facts));
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn content() -> Told {
    Told {
        is_safe: true,
        plain: "Nobody between you and this server can read or change what you send and receive: not your network, not your \
                internet provider.",
    }
}

fn recording(group: Group) -> Told {
    match group {
        Group::X25519MlKem768 => Told {
            is_safe: true,
            plain: "Whoever records this connection today cannot open it later, not even with a quantum computer, as far as is \
                    known.",
        },
        Group::X25519 | Group::Secp256r1 => Told {
            is_safe: false,
            plain: "Whoever records this connection today might open it once there are large quantum computers. A newer \
                    browser protects you from that.",
        },
    }
}

fn name(ech: Ech) -> Told {
    match ech {
        Ech::Accepted => Told {
            is_safe: true,
            plain: "Your network cannot see which name you asked for on this connection. It sees the address of this server, and \
                    a name that stands for all who come here.",
        },
        Ech::Refused | Ech::NotOffered => Told {
            is_safe: false,
            plain: "Your network could see the name of this website on this connection. A browser that asks for names over \
                    encrypted DNS (\u{201c}secure DNS\u{201d} in its settings) can hide it.",
        },
    }
}

/// The same for those who know the terms.
fn terms(facts: &Facts) -> String {
    let ech = match facts.ech {
        Ech::Accepted => "accepted",
        Ech::Refused => "offered, but not under a key of this server",
        Ech::NotOffered => "not offered",
    };
    format!(
        "<h2>In technical terms</h2>\n<dl>\n<dt>Encryption</dt>\n<dd>{}</dd>\n<dt>Key agreement</dt>\n<dd>{}</dd>\n\
         <dt>Encrypted Client Hello (ECH)</dt>\n<dd>{ech}</dd>\n</dl>\n",
        facts.version, facts.group
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Protocol, Version};

    const SEEN: &str = "Your network could see the name";
    const HIDDEN: &str = "Your network cannot see which name you asked for";

    fn facts(group: Group, ech: Ech) -> Facts {
        Facts { version: Version::Tls13, group, ech, protocol: Protocol::Http2, client_certificate: None }
    }

    #[test]
    fn it_says_that_a_name_is_hidden_only_where_it_was() {
        for (ech, is_hidden, term) in [
            (Ech::Accepted, true, "<dd>accepted</dd>"),
            (Ech::Refused, false, "<dd>offered, but not"),
            (Ech::NotOffered, false, "<dd>not offered</dd>"),
        ] {
            let page = page(Some(&facts(Group::X25519MlKem768, ech)));
            assert_eq!((page.contains(HIDDEN), page.contains(SEEN)), (is_hidden, !is_hidden), "{ech:?}");
            assert!(page.contains(term) && page.contains("<dd>TLSv1.3</dd>"), "{page}");
            assert_eq!(page.contains("<h1>This connection is protected</h1>"), is_hidden);
        }
    }

    #[test]
    fn it_says_that_quantum_computers_do_not_help_only_where_they_do_not() {
        for (group, is_safe) in [(Group::X25519MlKem768, true), (Group::X25519, false), (Group::Secp256r1, false)] {
            let page = page(Some(&facts(group, Ech::Accepted)));
            assert_eq!(page.contains("not even with a quantum computer"), is_safe);
            assert!(page.contains(&format!("<dd>{group}</dd>")));
            assert_eq!(page.contains("<strong>Not protected:</strong>"), !is_safe);
        }
    }

    #[test]
    fn without_tls_it_promises_nothing() {
        let page = page(None);
        assert!(page.contains("is not encrypted") && !page.contains("<strong>Protected"), "{page}");
        assert!(!page.contains(HIDDEN) && !page.contains("technical terms"));
    }

    #[test]
    fn every_element_is_closed_in_its_order() {
        for tls in [None, Some(facts(Group::X25519, Ech::Refused))] {
            let (page, mut open) = (page(tls.as_ref()), Vec::new());
            for tag in page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
                let name = tag.split(' ').next().unwrap();
                match name.strip_prefix('/') {
                    Some(name) => assert_eq!(open.pop(), Some(name), "{page}"),
                    None if matches!(name, "!DOCTYPE" | "meta") => {}
                    None => open.push(name),
                }
            }
            assert!(open.is_empty(), "{open:?}");
        }
    }
}
