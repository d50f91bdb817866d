//! What is wrong with a bootstrap file: on which line, under which key, and what to write instead.
//!
//! What must never happen here: a value of a password in a text, or an unescaped value of the file, which ends up on
//! somebody's terminal.

use crate::{email::EmailError, image::ImageError};
use std::fmt;

/// Longest piece of the file that a problem repeats, in characters.
const MAX_QUOTED_CHARS: usize = 60;

/// What stands for the path of keys where a problem is the whole file's.
pub(super) const FILE: &str = "file";

/// One reason why a file is not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {path}: {cause}")]
pub struct FileProblem {
    /// The line, counted from 1.
    pub line: usize,
    /// The path of keys that leads there, such as `orgs.main_bootstrap_orgs[].org.name`.
    pub path: String,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The text is no YAML.
    #[error("not YAML: {0}")]
    NotYaml(String),
    /// The file is larger than it may be.
    #[error("the file has {size_bytes} bytes, more than {max_bytes}: split it by org")]
    TooLarge {
        /// How large it is.
        size_bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
    /// More lists and mappings inside each other than any such file has.
    #[error("nested more than {max_depth} deep")]
    TooDeep {
        /// How deep it may be.
        max_depth: usize,
    },
    /// More values than any such file has.
    #[error("more than {max_values} values: split the file by org")]
    TooManyValues {
        /// How many there may be.
        max_values: usize,
    },
    /// An alias, which would let a small file stand for a huge one.
    #[error("anchors and aliases are not read: write the value out")]
    Alias,
    /// A second document in the same file.
    #[error("a second document begins: one file holds one document")]
    SecondDocument,
    /// The same key twice in one mapping.
    #[error("the key stands twice, first on line {first_line}: remove one")]
    DuplicateKey {
        /// Where it stands first.
        first_line: usize,
    },
    /// A text where a list should be, and the like.
    #[error("{found} stands where {expected} should")]
    WrongType {
        /// What should stand there.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A key that must be there is not, or has no value.
    #[error("missing: write {expected}")]
    Missing {
        /// What should stand there.
        expected: &'static str,
    },
    /// A name that is empty, too long or holds control characters.
    #[error("not a name: write 1 to {max_chars} characters in one line")]
    Name {
        /// How long it may be.
        max_chars: usize,
    },
    /// Not an e-mail address.
    #[error(transparent)]
    Email(EmailError),
    /// A password that nobody may have.
    #[error("{0}")]
    Password(String),
    /// Not base64.
    #[error("not base64: write the picture's bytes in the standard alphabet, with or without padding")]
    Base64,
    /// Not a picture that is taken.
    #[error(transparent)]
    Image(ImageError),
    /// Not a role's number.
    #[error("no role has the number {found}: write 1 (GUEST), 2 (USER) or 3 (ADMIN)")]
    UnknownRole {
        /// What stands there.
        found: Quoted,
    },
    /// SUPERADMIN, which is bound at SYSTEM alone.
    #[error(
        "4 (SUPERADMIN) is no role in an org or project: write 3 (ADMIN); the server's setup command makes a superadmin"
    )]
    Superadmin,
    /// An org that the file does not hold.
    #[error("no org of this file is named {name}")]
    UnknownOrg {
        /// The name.
        name: Quoted,
    },
    /// A project that the file does not hold.
    #[error("no project of this file is named {name}")]
    UnknownProject {
        /// The name.
        name: Quoted,
    },
    /// A role that names an org and a project of another one.
    #[error("the project belongs to the org {org}: write that one or leave the org out")]
    OtherOrg {
        /// The project's org.
        org: Quoted,
    },
    /// A role that says neither where nor in which project.
    #[error("a role needs a project_name or an org_name")]
    NoScope,
    /// The same name, address or scope twice.
    #[error("{value} stands twice, first on line {first_line}")]
    Duplicate {
        /// What stands twice.
        value: Quoted,
        /// Where it stands first.
        first_line: usize,
    },
    /// So many problems that the rest is left out.
    #[error("more than {max_problems} problems: the rest is not shown")]
    TooManyProblems {
        /// How many are shown.
        max_problems: usize,
    },
}

/// A piece of the file that is safe to print: escaped and cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Of this text.
    pub fn of(text: &str) -> Self {
        let mut shown: String = text.chars().take(MAX_QUOTED_CHARS).flat_map(char::escape_debug).collect();
        if text.chars().nth(MAX_QUOTED_CHARS).is_some() {
            shown.push('…');
        }
        Self(shown)
    }

    /// Without the quotes around it, as a step of a path.
    pub(super) fn bare(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
