//! Why a condition or filter is refused, and what to write instead.

/// Why a text is no condition of the CEL subset. Display says what is wrong, [`CelError::instead`] what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CelError {
    /// More bytes than are read.
    #[error("it is longer than {max} bytes")]
    TooLong {
        /// The bound.
        max: usize,
    },
    /// Nested too deeply.
    #[error("it is nested deeper than {max}")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// Too many parts.
    #[error("it has more than {max} parts")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// No sentence of the grammar.
    #[error("it does not parse: {what}")]
    Syntax {
        /// The first thing wrong.
        what: String,
    },
    /// CEL, but outside the subset.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was found.
        what: String,
        /// What to write.
        instead: String,
    },
    /// Names nothing.
    #[error("{of} has no `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        of: String,
        /// What to write: the nearest name, or those that there are.
        instead: String,
    },
    /// Types that do not go together.
    #[error("{what}")]
    Type {
        /// Which types, where.
        what: String,
        /// What to write.
        instead: String,
    },
    /// A field with presence is read where it may be unset.
    #[error("`{path}` may be unset here")]
    Unguarded {
        /// The field.
        path: String,
    },
}

impl CelError {
    /// What to write instead, in one sentence.
    pub fn instead(&self) -> String {
        match self {
            Self::TooLong { .. } => "shorten it, or say it in several grants".to_owned(),
            Self::TooDeep { .. } => "take away parentheses, or say it in several grants".to_owned(),
            Self::TooLarge { .. } => "say it in several grants, or leave something out".to_owned(),
            Self::Syntax { .. } => "write something like `published && title.startsWith(\"plan\")`".to_owned(),
            Self::Unsupported { instead, .. } | Self::Unknown { instead, .. } | Self::Type { instead, .. } => {
                instead.clone()
            }
            Self::Unguarded { path } => {
                format!("write `has({path}) && ...` to the left of it, in the same conjunction")
            }
        }
    }
}

pub(super) fn unsupported(what: impl Into<String>, instead: impl Into<String>) -> CelError {
    CelError::Unsupported { what: what.into(), instead: instead.into() }
}

pub(crate) fn type_error(what: impl Into<String>, instead: impl Into<String>) -> CelError {
    CelError::Type { what: what.into(), instead: instead.into() }
}
