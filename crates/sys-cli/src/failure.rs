//! What went wrong, told on standard error: what, which field, what to do; and the exit code.

use crate::{
    audit_commands::AuditFailure, command_tree::Verb, exit::Exit, explain, output::OutputError, plain,
    request::RequestError, secret::SecretError,
};
use std::error::Error;
use sys_client::{
    CallError, ClientError, Code, Endpoint, EndpointError, KeychainError, Refused, SessionError, TlsError,
};
use sys_contract::problem::Problems;

/// Why the program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong; the second text says what to do.
    #[error("{0}")]
    Usage(String, String),
    /// A call did not succeed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line stands for no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A password or token could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The server's address is none.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A contract does not load.
    #[error("{0}")]
    Contract(#[from] Problems),
    /// A file of a contract cannot be read.
    #[error("cannot read {path}")]
    File { path: String, source: std::io::Error },
    /// Nothing can be written into a folder.
    #[error("cannot write into {path}")]
    Folder { path: String, source: std::io::Error },
    /// An audit log could not be read, or is not what it was.
    #[error(transparent)]
    Audit(#[from] AuditFailure),
    /// The answer cannot be shown.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The pages of a list do not end.
    #[error("the server's pages do not end")]
    EndlessPages,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Client(error.into())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Client(error.into())
    }
}

impl Failure {
    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        if let Some((_, tls)) = self.tls() {
            return if tls.is_distrust() { Exit::Distrusted } else { Exit::Unreachable };
        }
        match self {
            Self::Usage(..) | Self::Request(_) | Self::Secret(_) | Self::Endpoint(_) => Exit::Usage,
            Self::Client(error) => error.code().map_or(Exit::Other, Exit::of),
            Self::Audit(failure) if failure.is_distrust() => Exit::Distrusted,
            Self::Audit(failure) => failure.client().and_then(ClientError::code).map_or(Exit::Other, Exit::of),
            Self::Contract(_) => Exit::Invalid,
            Self::File { .. } | Self::Folder { .. } | Self::Output(_) | Self::EndlessPages => Exit::Other,
        }
    }

    /// All that is said about it. `verb` gives fields the names of their flags.
    pub(crate) fn report(&self, verb: Option<&Verb>) -> String {
        if let Self::Contract(problems) = self {
            return format!("{problems}\nerror: {} in this contract; nothing of it loads", counted(problems.0.len()));
        }
        let mut report = format!("error: {}", plain::line(&self.with_cause()));
        let fields = self.refused().map(|refused| refused.fields.as_slice()).unwrap_or_default();
        // Without a field it is about the request as a whole, and stands above.
        for field in fields.iter().filter(|field| !field.field.is_empty()) {
            let name = plain::line(&field.field);
            let flag = verb.and_then(|verb| verb.flags.at(&field.field)).map(|flag| format!("{} ", flag.shown()));
            let description = plain::line(&field.description);
            report.push_str(&format!("\n  {}({name}): {description}", flag.unwrap_or_default()));
        }
        if let Some(help) = self.help() {
            report.push_str(&format!("\nwhat to do: {}", plain::line(&help)));
        }
        if let Some(reason) = self.explained() {
            report.push_str(&format!("\nmore: sys explain {reason}"));
        }
        report
    }

    /// The error, and the cause at its root: what stands between them says nothing to people.
    fn with_cause(&self) -> String {
        let mut root = self.source();
        while let Some(deeper) = root.and_then(Error::source) {
            root = Some(deeper);
        }
        match root.map(ToString::to_string) {
            Some(cause) if !self.to_string().contains(&cause) => format!("{self}: {cause}"),
            _ => self.to_string(),
        }
    }

    /// Why there is no connection over TLS, if that is why.
    fn tls(&self) -> Option<(&Endpoint, &TlsError)> {
        let error = match self {
            Self::Client(error) => error,
            Self::Audit(failure) => failure.client()?,
            _ => return None,
        };
        match error {
            ClientError::Call(CallError::Tls { endpoint, source }) => Some((endpoint, source.as_ref())),
            _ => None,
        }
    }

    fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Client(ClientError::Call(CallError::Refused(refused)) | ClientError::SessionEnded(refused)) => {
                Some(refused)
            }
            _ => None,
        }
    }

    /// The reason, where it has a page that says more than the fields at fault do.
    fn explained(&self) -> Option<&str> {
        let refused = self.refused().filter(|refused| refused.fields.is_empty())?;
        refused.reason.as_deref().filter(|reason| explain::page(reason).is_some())
    }

    fn help(&self) -> Option<String> {
        if let Some((endpoint, tls)) = self.tls() {
            return tls_help(endpoint, tls);
        }
        if matches!(
            self,
            Self::Client(ClientError::SessionEnded(_) | ClientError::LoggedOut | ClientError::DeviceKeyLost)
        ) {
            return Some("log in again with `sys login`".to_owned());
        }
        if let Self::Audit(failure) = self
            && let Some(help) = failure.help()
        {
            return Some(help.to_owned());
        }
        if let Self::Client(ClientError::Session(SessionError::Keychain(error))) = self {
            return Some(keychain_help(error).to_owned());
        }
        if let Some(help) = self.refused().and_then(|refused| refused.help.clone()) {
            return Some(help);
        }
        let help = match self {
            Self::Usage(_, help) => help,
            Self::Request(RequestError::NothingToChange) => "`--help` lists the fields; `--clear FIELD` empties one",
            Self::Secret(SecretError::OnCommandLine { name } | SecretError::NoTerminal { name }) => {
                return Some(format!(
                    "leave it out and you are asked, or send it on standard input with --{name}-stdin"
                ));
            }
            Self::Client(ClientError::Call(CallError::Unreachable { .. })) => {
                "start the server, or name another with --server URL"
            }
            Self::Client(error) => match error.code() {
                Some(Code::Unauthenticated) => "log in with `sys login`",
                Some(Code::PermissionDenied) => "`sys whoami` shows your roles; ask an admin of the org for another",
                Some(Code::ResourceExhausted) => "wait a little and try again",
                Some(Code::Unimplemented) => "the server has no such method any more; see `sys help`",
                Some(Code::DeadlineExceeded | Code::Aborted | Code::Unavailable) => "try again",
                _ => return None,
            },
            _ => return None,
        };
        Some(help.to_owned()).filter(|help| !help.is_empty())
    }
}

/// What to do where a server could not show that it is the right one. None of it is a way around the check.
fn tls_help(server: &Endpoint, error: &TlsError) -> Option<String> {
    let help = match error {
        TlsError::UnknownIssuer => {
            return Some(format!(
                "if the server has a private authority, ask whoever runs it for its fingerprint and run `sys trust {server} --ca \
                 sha256:HEX`; if not, somebody else answers in its place: do not go on"
            ));
        }
        TlsError::PinMismatch(_) => {
            "compare the fingerprint with the one that the server prints at its start; if it is that one, somebody else answers in its \
             place: do not go on"
        }
        TlsError::Expired | TlsError::NotValidYet => {
            "look at the clock of this computer; if it is right, whoever runs the server has to renew the certificate"
        }
        TlsError::WrongName { .. } => "name the server as its certificate does, with --server URL",
        TlsError::UnknownName => {
            "look at the name; if it is right, the server may have no certificate for it yet: try again in a minute"
        }
        TlsError::Certificate(_) => "whoever runs the server has to replace the certificate",
        TlsError::OldVersion => {
            "nothing below TLS 1.3 is spoken here: whoever runs the server has to update it, or what stands before it"
        }
        TlsError::NotTls | TlsError::NotHttp2 => "look at the port: something other than a sys server answers there",
        TlsError::EchUnknown => {
            return Some(format!(
                "give the keys with `sys trust {server} --ech-config BASE64`, or show the name: `sys trust {server} --ech preferred`"
            ));
        }
        TlsError::EchRefused => {
            return Some(format!(
                "ask whoever runs the server why; to connect although its name is seen, run `sys trust {server} --ech preferred`"
            ));
        }
        TlsError::Handshake(_) | TlsError::Network(_) => "try again",
        TlsError::Kept(_) => return None,
    };
    Some(help.to_owned())
}

/// What to do about a keychain. A session in one that is gone for good is ended from another, with `sys session revoke`.
fn keychain_help(error: &KeychainError) -> &'static str {
    match error {
        KeychainError::NoBus | KeychainError::NoService(_) => {
            "run `sys` in your desktop's session, or start a keychain (a Secret Service such as gnome-keyring); without one, log in \
             with `sys login --store file`"
        }
        KeychainError::Locked => {
            "unlock it where your system manages passwords, and try again; or log in with `sys login --store file`"
        }
        KeychainError::NoCollection => {
            "make a default collection where your system manages passwords; or log in with `sys login --store file`"
        }
        KeychainError::Lost => "log in again with `sys login`",
        KeychainError::Silent | KeychainError::Failed(_) => "try again; or log in with `sys login --store file`",
    }
}

fn counted(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_client::FieldViolation;

    fn refused(code: Code, reason: &str, help: Option<&str>) -> Failure {
        let refused = Refused {
            code,
            reason: Some(reason.into()),
            message: "permission denied".into(),
            fields: vec![FieldViolation { field: "note.title".into(), description: "is\nempty".into() }],
            help: help.map(Into::into),
        };
        CallError::Refused(Box::new(refused)).into()
    }

    #[test]
    fn an_error_says_what_which_field_and_what_to_do() {
        let failure = refused(Code::PermissionDenied, "METHOD_REFUSED", Some("ask \u{1b}[31man admin"));
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            failure.report(None),
            "error: permission denied (PERMISSION_DENIED / METHOD_REFUSED)\n  (note.title): is empty\n\
             what to do: ask \u{fffd}[31man admin"
        );
        let Failure::Client(ClientError::Call(CallError::Refused(mut refusal))) = failure else { panic!("a refusal") };
        refusal.fields.clear();
        let page = |reason: &str| {
            let refusal = Refused { reason: Some(reason.into()), ..(*refusal).clone() };
            Failure::from(CallError::Refused(Box::new(refusal)))
                .report(None)
                .contains("\nmore: sys explain METHOD_REFUSED")
        };
        assert!(page("METHOD_REFUSED") && !page("A_MODULES_OWN"), "a reason without a page has nothing to explain");
        assert!(refused(Code::Unauthenticated, "X", None).report(None).contains("what to do: log in"));
        let whole = FieldViolation { field: String::new(), description: "say `a` or `b`".into() };
        let refusal = Refused { message: "say `a` or `b`".into(), fields: vec![whole], help: None, ..*refusal };
        let report = Failure::from(CallError::Refused(Box::new(refusal))).report(None);
        assert!(
            report.starts_with("error: say `a` or `b` (PERMISSION_DENIED / METHOD_REFUSED)\nwhat to do:"),
            "{report}"
        );
    }

    #[test]
    fn an_unreachable_server_says_where_it_was_looked_for_and_why() {
        let endpoint = "http://127.0.0.1:9".parse().expect("an endpoint");
        let source = std::io::Error::other("connection refused").into();
        let failure = Failure::from(CallError::Unreachable { endpoint, source });
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(
            failure.report(None).starts_with("error: no server answers at http://127.0.0.1:9: connection refused\n")
        );
    }
}
