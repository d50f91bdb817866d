//! Exit codes: what a script learns without reading.

use sys_client::Code;

/// How the program ended. The numbers are promised in `sys --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// None of the below: our fault, the server's, or the machine's.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The server (or `sys check`) finds what was given invalid.
    Invalid = 3,
    /// Not logged in, or not allowed.
    Refused = 4,
    /// Absent, or hidden from you.
    NotFound = 5,
    /// The state of things does not allow it: taken, changed meanwhile, or out of order.
    Conflict = 6,
    /// No server answers.
    Unreachable = 7,
    /// Too much or too often.
    RateLimited = 8,
    /// The server shows an audit log that was cut or rewritten, or cannot show that it is the right one.
    Distrusted = 9,
}

/// The part of `sys --help` about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  another error
  2  wrong usage
  3  invalid argument
  4  refused: not logged in, or not allowed
  5  not found, or hidden from you
  6  conflict: taken, changed meanwhile, or not possible now
  7  the server cannot be reached
  8  rate limited
  9  the server is not to be trusted: the audit log was tampered with, or the
     certificate is not one that counts";

impl Exit {
    /// The exit code for a gRPC code.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid,
            Code::PermissionDenied | Code::Unauthenticated => Self::Refused,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Self::Conflict,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable,
            Code::ResourceExhausted => Self::RateLimited,
            Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Self::Other,
        }
    }

    /// The number that the system gets.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scripts_tell_apart_has_codes_of_its_own() {
        let codes = [
            (Code::InvalidArgument, 3),
            (Code::PermissionDenied, 4),
            (Code::Unauthenticated, 4),
            (Code::NotFound, 5),
            (Code::AlreadyExists, 6),
            (Code::Aborted, 6),
            (Code::FailedPrecondition, 6),
            (Code::Unavailable, 7),
            (Code::DeadlineExceeded, 7),
            (Code::ResourceExhausted, 8),
            (Code::Internal, 1),
        ];
        for (code, number) in codes {
            assert_eq!(Exit::of(code).number(), number, "{code:?}");
            assert!(HELP.contains(&format!("\n  {number}  ")), "{number} is not in the help");
        }
    }
}
