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
