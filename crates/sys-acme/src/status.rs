//! How it stands with a certificate, in words for the operator.

/// One certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Its names.
    pub names: Vec<String>,
    /// How it stands.
    pub state: CertificateState,
    /// Until when the one in use is valid, if there is one.
    pub valid_until_unix_s: Option<i64>,
    /// What went wrong since it was last renewed.
    pub last_failure: Option<FailureReport>,
    /// Why nothing would be ordered if somebody asked for a renewal before then.
    pub too_early: Option<TooEarly>,
    /// Somebody had the one in use declared void: it is shown until another comes.
    pub is_void: bool,
    /// A certificate that the CA has yet to declare void: the one in use, or the one before it.
    pub revoking: Option<Revoking>,
}

impl CertificateStatus {
    /// Of one of which nothing more is known.
    pub fn new(names: Vec<String>, state: CertificateState) -> Self {
        Self {
            names,
            state,
            valid_until_unix_s: None,
            last_failure: None,
            too_early: None,
            is_void: false,
            revoking: None,
        }
    }
}

/// A certificate that the CA has not declared void yet. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoking {
    /// When the CA is asked again.
    pub next_try_unix_s: i64,
    /// What failed, if it was asked.
    pub failure: Option<FailureReport>,
}

/// Why nothing is ordered by hand, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooEarly {
    /// Why.
    pub why: TooEarlyWhy,
    /// Until then, in seconds since 1970.
    pub until_unix_s: i64,
}

/// Why nothing is ordered by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooEarlyWhy {
    /// It has just come.
    #[error("the certificate is less than an hour old")]
    New,
    /// The directory said when it may be asked again.
    #[error("the directory asked to wait")]
    Told,
    /// No more proofs may fail in this hour.
    #[error("the authority could not verify the names too often in this hour")]
    Proofs,
}

/// How it stands with a certificate. Times are in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateState {
    /// All is well.
    Good {
        /// Its end.
        until_unix_s: i64,
        /// When it will be renewed.
        renews_at_unix_s: i64,
    },
    /// One is being ordered.
    Ordering,
    /// It could not be renewed yet. The old one is valid still.
    Waiting {
        /// When it is tried again.
        next_try_unix_s: i64,
        /// What failed.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// There is none that is valid.
    Failed {
        /// When it is tried again.
        next_try_unix_s: i64,
        /// What failed.
        why: String,
        /// What to do.
        remedy: String,
    },
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FailureReport {
    /// When.
    pub at_unix_s: i64,
    /// What failed.
    pub why: String,
    /// What to do.
    pub remedy: String,
}
