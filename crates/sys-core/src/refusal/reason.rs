//! The reasons of refusals, all of them: programs match on their names, and people find a page for each in `docs/errors`.
//!
//! A reason has one name and one code, for ever. A new one takes a line in the table below and a page named after it; a test
//! holds the two against each other. A reason never tells whether a hidden thing exists.

use super::Code;
use std::fmt;

/// Writes the enum, its names and its codes from one table.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $code:ident;)+) => {
        /// Why a call was refused, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason that a server may give.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Stable and in capitals, such as `NOT_FOUND`; the name of its page in `docs/errors`, too.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The code that it is answered with.
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),+ }
            }
        }
    };
}

reasons! {
    /// The account calls more often than it may.
    AccountThrottled = "ACCOUNT_THROTTLED", ResourceExhausted;
    /// Entries of the audit log are missing, or are not those that were signed.
    AuditLogDamaged = "AUDIT_LOG_DAMAGED", Internal;
    /// A handler went on after its call had ended.
    CallOver = "CALL_OVER", Aborted;
    /// It is not known whether the change was stored.
    CommitUnknown = "COMMIT_UNKNOWN", Unavailable;
    /// Lost against other writers too often.
    Conflict = "CONFLICT", Aborted;
    /// The call took longer than its method may.
    Deadline = "DEADLINE", DeadlineExceeded;
    /// A domain of mail is another org's.
    DomainTaken = "DOMAIN_TAKEN", AlreadyExists;
    /// The address has an account.
    EmailTaken = "EMAIL_TAKEN", AlreadyExists;
    /// The record is not what it was when it was read.
    EtagMismatch = "ETAG_MISMATCH", Aborted;
    /// A field that the caller may not write.
    FieldRefused = "FIELD_REFUSED", PermissionDenied;
    /// The server failed.
    Internal = "INTERNAL", Internal;
    /// The request was not sent by POST.
    HttpMethod = "HTTP_METHOD", Unimplemented;
    /// A field of the request is wrong by itself.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// The org would be left without an admin.
    LastAdmin = "LAST_ADMIN", FailedPrecondition;
    /// The server would be left without a superadmin.
    LastSuperadmin = "LAST_SUPERADMIN", FailedPrecondition;
    /// The address or the password is wrong.
    LoginRefused = "LOGIN_REFUSED", Unauthenticated;
    /// The body is not the method's message.
    Malformed = "MALFORMED", InvalidArgument;
    /// The account is in the project already.
    MemberAlready = "MEMBER_ALREADY", AlreadyExists;
    /// The membership is suspended.
    MemberSuspended = "MEMBER_SUSPENDED", FailedPrecondition;
    /// The request's content type is none that is spoken here.
    MediaType = "MEDIA_TYPE", Unimplemented;
    /// No grant of the method can hold for the caller.
    MethodRefused = "METHOD_REFUSED", PermissionDenied;
    /// The caller calls this method more often than its contract allows.
    MethodThrottled = "METHOD_THROTTLED", ResourceExhausted;
    /// The module was loaded anew during the call.
    ModuleReloaded = "MODULE_RELOADED", Aborted;
    /// Only an admin of the scope may do this.
    NotAnAdmin = "NOT_AN_ADMIN", PermissionDenied;
    /// The server was started without what this needs.
    NotConfigured = "NOT_CONFIGURED", FailedPrecondition;
    /// Absent or hidden.
    NotFound = "NOT_FOUND", NotFound;
    /// No such method, or not in this form.
    NoSuchMethod = "NO_SUCH_METHOD", Unimplemented;
    /// Only superadmins make orgs on this server.
    OrgsNotOpen = "ORGS_NOT_OPEN", PermissionDenied;
    /// The org is closed.
    OrgClosed = "ORG_CLOSED", FailedPrecondition;
    /// The org has members, so its first admin cannot be appointed.
    OrgHasMembers = "ORG_HAS_MEMBERS", FailedPrecondition;
    /// The server has more to do than it can.
    Overloaded = "OVERLOADED", Unavailable;
    /// Nobody does this to his own account.
    OwnAccount = "OWN_ACCOUNT", PermissionDenied;
    /// Nobody suspends himself.
    OwnMembership = "OWN_MEMBERSHIP", PermissionDenied;
    /// The password is not the account's.
    PasswordRefused = "PASSWORD_REFUSED", PermissionDenied;
    /// Too many passwords are being hashed.
    PasswordPoolFull = "PASSWORD_POOL_FULL", ResourceExhausted;
    /// The caller sees the record but may not do this to it.
    RecordRefused = "RECORD_REFUSED", PermissionDenied;
    /// The request's compression is none that is understood here.
    RequestEncoding = "REQUEST_ENCODING", Unimplemented;
    /// The request is longer than its method takes.
    RequestTooLarge = "REQUEST_TOO_LARGE", ResourceExhausted;
    /// The role is above the caller's own.
    RoleAboveOwn = "ROLE_ABOVE_OWN", PermissionDenied;
    /// Nobody gives a role to himself.
    SelfAssign = "SELF_ASSIGN", PermissionDenied;
    /// The server is about to stop.
    ServerStopping = "SERVER_STOPPING", Unavailable;
    /// Too many sign-ins at one account from one source.
    SignInThrottled = "SIGN_IN_THROTTLED", ResourceExhausted;
    /// The source calls more often than it may.
    SourceThrottled = "SOURCE_THROTTLED", ResourceExhausted;
    /// The method wants a password that was shown lately.
    StepUpRequired = "STEP_UP_REQUIRED", PermissionDenied;
    /// The store takes no writes.
    StoreUnavailable = "STORE_UNAVAILABLE", Unavailable;
    /// Nothing came on a stream for too long.
    StreamIdle = "STREAM_IDLE", DeadlineExceeded;
    /// The stream has lasted as long as a stream may.
    StreamOver = "STREAM_OVER", Unavailable;
    /// The answers on a stream were not taken.
    StreamUnread = "STREAM_UNREAD", Aborted;
    /// A superadmin holds no role in an org.
    SuperadminInOrg = "SUPERADMIN_IN_ORG", PermissionDenied;
    /// Another record has this value of a unique field.
    Taken = "TAKEN", AlreadyExists;
    /// A token is not valid, or no longer.
    TokenRefused = "TOKEN_REFUSED", Unauthenticated;
    /// The call reads or writes more than one call may.
    TooLarge = "TOO_LARGE", ResourceExhausted;
    /// What is asked for was done lately, or may not be done yet.
    TooEarly = "TOO_EARLY", FailedPrecondition;
    /// There is more to remove than one call removes.
    TooMany = "TOO_MANY", FailedPrecondition;
    /// Too many invitations wait.
    TooManyInvitations = "TOO_MANY_INVITATIONS", ResourceExhausted;
    /// The account holds too many roles.
    TooManyRoles = "TOO_MANY_ROLES", ResourceExhausted;
    /// Too many streams are open.
    TooManyStreams = "TOO_MANY_STREAMS", ResourceExhausted;
    /// The call took longer than a transaction may.
    TooSlow = "TOO_SLOW", Aborted;
    /// Nobody is logged in.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_reason_has_a_page_and_every_page_a_reason() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let index = fs::read_to_string(dir.join("README.md")).unwrap();
        let mut expected = BTreeSet::from(["README.md".to_owned()]);
        for reason in Reason::ALL {
            let file = format!("{reason}.md");
            let page = fs::read_to_string(dir.join(&file)).unwrap_or_else(|_| panic!("docs/errors/{file} is missing"));
            let code = format!("{:?}", connectrpc::ErrorCode::from(reason.code()));
            assert!(
                page.starts_with(&format!("# {reason}\n\nCode: `{}`\n", screaming(&code))),
                "{file}: heading and code"
            );
            for part in ["**What happened.** ", "**What to do.** "] {
                assert!(page.contains(part), "{file} lacks {part}");
            }
            let line = format!("| [{reason}]({file}) | `{}` |\n", screaming(&code));
            assert!(index.contains(&line), "README.md lacks the line {line}");
            expected.insert(file);
        }
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(entries.collect::<BTreeSet<_>>(), expected, "a page without a reason");
        assert_eq!(index.matches("| [").count(), Reason::ALL.len(), "README.md lists a reason that is none");
    }

    #[test]
    fn no_two_reasons_have_one_name_and_all_are_in_capitals() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{name}");
        }
    }

    /// `NotFound` as gRPC writes it: `NOT_FOUND`.
    fn screaming(camel: &str) -> String {
        let word = |c: char| if c.is_ascii_uppercase() { format!("_{c}") } else { c.to_ascii_uppercase().to_string() };
        camel.chars().map(word).collect::<String>().trim_start_matches('_').to_owned()
    }
}
