//! Why a try failed, and what to do: one variant for each cause, each with words for the operator.

use crate::{challenge::ChallengeKind, directory::Notes, http::HttpError, kept::KeptError, plan::Pace};
use instant_acme::{Error, OrderStatus, Problem};

/// Foreign text that is shown, at most.
const MAX_DETAIL: usize = 400;
/// What the types of RFC 8555 section 6.7 begin with.
const ACME_ERROR: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate this time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the ACME directory cannot be used: {0}")]
    Http(#[from] HttpError),
    #[error("the ACME directory answered what nobody understands: {what}")]
    Garbage { what: String },
    #[error("the ACME directory has a fault of its own: {detail}")]
    Internal { detail: String },
    #[error("the ACME directory asks to wait: {detail}")]
    RateLimited { detail: String },
    #[error("the ACME directory refused: {detail} ({kind})")]
    Refused { kind: String, detail: String },
    #[error("the CA gives no certificate for these names: {detail}")]
    Names { detail: String },
    #[error("the CA may not give certificates for this domain: {detail}")]
    Caa { detail: String },
    #[error("the CA could not verify {name} by {kind}: {detail}")]
    Validation { name: String, kind: ChallengeKind, detail: String },
    #[error("the CA offers no allowed way to prove {name}; it offers {offered}")]
    NoChallenge { name: String, offered: String },
    #[error("the challenge for {name} could not be shown: {reason}")]
    NotShown { name: String, reason: String },
    #[error("the order stayed {status} for longer than anybody should wait")]
    Stuck { status: &'static str },
    #[error("the ACME directory has no profile {asked:?}; it has {offered}")]
    Profile { asked: String, offered: String },
    #[error("the CA gives accounts only to its customers (external account binding)")]
    ExternalAccount,
    #[error("the ACME account is not there any more")]
    AccountGone,
    #[error("the certificate that came does not fit: {what}")]
    Unfit { what: &'static str },
    #[error("this machine's clock differs from the directory's by {}", duration(*by_s))]
    Clock { by_s: u64 },
    #[error("it cannot be kept: {reason}")]
    Kept { reason: String },
    #[error("no key could be made")]
    KeyNotMade,
    #[error("the server was stopped in the middle of an order")]
    Interrupted,
    #[error("the local CA cannot give it: {reason}")]
    LocalCa { reason: String },
}

impl Failure {
    /// From the library's error; `notes` are those of its answers.
    pub(crate) fn from_acme(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::from_problem(&problem),
            Error::Other(other) => match other.downcast::<HttpError>() {
                Ok(http) => Self::Http(*http),
                Err(other) => Self::Garbage { what: bounded(&other.to_string()) },
            },
            // The text of a JSON error quotes what it stumbles over.
            Error::Json(_) => Self::Garbage { what: "JSON with something missing, or none".to_owned() },
            other => Self::Garbage { what: bounded(&other.to_string()) },
        }
    }

    /// From a problem document.
    pub(crate) fn from_problem(problem: &Problem) -> Self {
        let detail = detail(problem);
        match kind(problem) {
            "rateLimited" => Self::RateLimited { detail },
            "serverInternal" | "badNonce" => Self::Internal { detail },
            "accountDoesNotExist" => Self::AccountGone,
            "externalAccountRequired" => Self::ExternalAccount,
            "rejectedIdentifier" | "unsupportedIdentifier" => Self::Names { detail },
            "caa" => Self::Caa { detail },
            other => Self::Refused { kind: bounded(other), detail },
        }
    }

    /// From the problem of a challenge.
    pub(crate) fn from_challenge(name: &str, kind_of: ChallengeKind, problem: Option<&Problem>) -> Self {
        // It is the directory that says which one failed.
        let name = bounded(name);
        match problem {
            Some(problem) if kind(problem) == "caa" => Self::Caa { detail: detail(problem) },
            Some(problem) if kind(problem) == "rateLimited" => Self::RateLimited { detail: detail(problem) },
            Some(problem) => Self::Validation { name, kind: kind_of, detail: detail(problem) },
            None => Self::Validation { name, kind: kind_of, detail: "it gave no reason".to_owned() },
        }
    }

    /// What the operator can do.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Http(HttpError::NotTrusted { .. }) => {
                "Check this machine's clock, that nothing intercepts its TLS connections, and, for a private directory, its root certificate"
            }
            Self::Http(HttpError::NoDirectory { .. } | HttpError::NotHttps) | Self::Garbage { .. } => {
                "Check the URL of the directory. If it is right, the directory has a fault: it is asked again by itself"
            }
            Self::Http(_) => {
                "Check that this machine reaches the internet on port 443, and that it resolves names. It is tried again by itself"
            }
            Self::Internal { .. } => "Nothing: it is tried again by itself. If it lasts, look at the status page of the CA",
            Self::RateLimited { .. } => "Nothing: it waits as it was told. Asking again earlier makes it later",
            Self::Refused { .. } => "Read what the directory says, change the settings accordingly, then renew by hand",
            Self::Names { .. } => "Check that each name is a public one of yours and spelt right. Addresses may need another profile",
            Self::Caa { .. } => "Add a CAA record that names the CA, or remove the one that forbids it",
            Self::Validation { kind, .. } => kind.remedy(),
            Self::NoChallenge { .. } => {
                "Allow another kind of challenge. Wildcards need dns-01, so that the domain's zone has to be served here; addresses need tls-alpn-01 or http-01"
            }
            Self::NotShown { .. } => "Repair what the reason names. It is tried again by itself",
            Self::Stuck { .. } => "Nothing: a new order is made by itself. If it lasts, look at the status page of the CA",
            Self::Profile { .. } => "Choose one of the profiles that the directory has, or none",
            Self::ExternalAccount => "Take the key id and the key from the CA's web site into the settings",
            Self::AccountGone => "Nothing: a new account is made by itself",
            Self::Unfit { .. } => "Nothing, once: another is ordered by itself. If it lasts, the directory has a fault",
            Self::Clock { .. } => "Set this machine's clock, best by a time service (NTP), then renew by hand",
            Self::Kept { .. } => "Look whether the server is unsealed and the disk has room. It is tried again by itself",
            Self::KeyNotMade => "Look at this machine's log: it has no random numbers to give",
            Self::Interrupted => "Nothing: it is tried again by itself",
            Self::LocalCa { .. } => "Make a new local CA for these names, and let clients trust it anew",
        }
        .to_owned()
    }

    /// How soon to try again.
    pub(crate) fn pace(&self) -> Pace {
        match self {
            Self::Http(HttpError::NotTrusted { .. } | HttpError::NoDirectory { .. } | HttpError::NotHttps) => {
                Pace::ByHand
            }
            Self::Http(_) | Self::Internal { .. } | Self::AccountGone | Self::Kept { .. } | Self::KeyNotMade => {
                Pace::Soon
            }
            Self::NotShown { .. } | Self::Interrupted => Pace::Soon,
            Self::Validation { .. } | Self::Caa { .. } => Pace::Validation,
            Self::Garbage { .. } | Self::Stuck { .. } | Self::Unfit { .. } => Pace::Directory,
            Self::RateLimited { .. } => Pace::Directory,
            Self::Refused { .. } | Self::Names { .. } | Self::NoChallenge { .. } | Self::Profile { .. } => Pace::ByHand,
            Self::ExternalAccount | Self::Clock { .. } | Self::LocalCa { .. } => Pace::ByHand,
        }
    }
}

impl From<KeptError> for Failure {
    fn from(error: KeptError) -> Self {
        Self::Kept { reason: bounded(&error.0) }
    }
}

/// How long the directory asked to wait, if the failure is one of which it says so.
pub(crate) fn retry_after_s(failure: &Failure, notes: &Notes) -> Option<u64> {
    match failure {
        Failure::RateLimited { .. } | Failure::Internal { .. } | Failure::Http(HttpError::Status { .. }) => {
            notes.retry_after_s()
        }
        _ => None,
    }
}

/// The name of a status as the RFC writes it.
pub(crate) fn status_name(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "pending",
        OrderStatus::Ready => "ready",
        OrderStatus::Processing => "processing",
        OrderStatus::Valid => "valid",
        OrderStatus::Invalid => "invalid",
    }
}

/// Text from outside as it may be shown: one line, no control characters, not long.
pub(crate) fn bounded(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_DETAIL).collect()
}

/// The last part of a problem's type.
pub(crate) fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or("unknown");
    kind.strip_prefix(ACME_ERROR).unwrap_or(kind)
}

/// What a problem says, with the first of what its parts say.
fn detail(problem: &Problem) -> String {
    let own = problem.detail.as_deref().unwrap_or("no reason given");
    match problem.subproblems.first() {
        Some(part) => bounded(&format!("{own}; {part}")),
        None => bounded(own),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_on_its_line() {
        let text = bounded(&format!("a\nb\u{1b}[31m{}", "x".repeat(1_000)));
        assert!(!text.contains(char::is_control) && text.chars().count() == MAX_DETAIL, "{text}");
    }

    #[test]
    fn the_name_that_failed_is_foreign_text_too() {
        let name = format!("a\u{1b}]0;b\u{7}{}", "x".repeat(100_000));
        let told = Failure::from_challenge(&name, ChallengeKind::Dns01, None).to_string();
        assert!(!told.contains(char::is_control) && told.len() < 2 * MAX_DETAIL, "{told}");
    }

    #[test]
    fn problems_are_told_apart() {
        let problem = |kind: &str| -> Problem {
            serde_json::from_value(serde_json::json!({"type": format!("{ACME_ERROR}{kind}"), "detail": "d"})).unwrap()
        };
        let detail = || "d".to_owned();
        assert_eq!(Failure::from_problem(&problem("rateLimited")), Failure::RateLimited { detail: detail() });
        assert_eq!(Failure::from_problem(&problem("caa")), Failure::Caa { detail: detail() });
        assert_eq!(Failure::from_problem(&problem("accountDoesNotExist")), Failure::AccountGone);
        let refused = Failure::Refused { kind: "malformed".to_owned(), detail: detail() };
        assert_eq!(Failure::from_problem(&problem("malformed")), refused);
    }
}
