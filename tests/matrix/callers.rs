//! Who calls: each role, where it may be held, in each state that an account, its bindings and its token can be in.

use std::fmt;
use sys_contract::model::{Level, Role};

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// The one binding that the account has, if any: at the own org, its first project, or the server.
    pub(crate) held: Option<(Role, Level)>,
    pub(crate) state: State,
}

/// What is the matter with a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum State {
    /// No token.
    Anonymous,
    /// Nothing: a verified account, a live session, a password shown just now.
    Verified,
    /// The password was shown too long ago.
    Unproven,
    /// The binding has been suspended.
    Suspended,
    /// The binding has expired.
    Lapsed,
    /// The address is not proven; the session is live all the same.
    Unverified,
    /// The account is disabled; its session was not ended, as if by a fault.
    Disabled,
    /// The session has been ended.
    Revoked,
    /// The token has expired.
    Expired,
    /// The token was signed by another server.
    Foreign,
}

impl State {
    pub(crate) const ALL: [Self; 10] = [
        Self::Anonymous,
        Self::Verified,
        Self::Unproven,
        Self::Suspended,
        Self::Lapsed,
        Self::Unverified,
        Self::Disabled,
        Self::Revoked,
        Self::Expired,
        Self::Foreign,
    ];

    /// Whether the token, if there is one, is one of this server's that still counts.
    pub(crate) fn is_identified(self) -> bool {
        !matches!(self, Self::Revoked | Self::Expired | Self::Foreign)
    }

    /// Whether the account is in good standing.
    pub(crate) fn is_verified(self) -> bool {
        matches!(self, Self::Verified | Self::Unproven | Self::Suspended | Self::Lapsed)
    }

    /// Whether what the account holds counts.
    pub(crate) fn counts_bindings(self) -> bool {
        matches!(self, Self::Verified | Self::Unproven)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Verified => "verified",
            Self::Unproven => "unproven",
            Self::Suspended => "suspended",
            Self::Lapsed => "lapsed",
            Self::Unverified => "unverified",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Foreign => "foreign",
        }
    }
}

impl Kind {
    /// The binding, where it counts.
    pub(crate) fn counting(self) -> Option<(Role, Level)> {
        self.held.filter(|_| self.state.counts_bindings())
    }
}

/// What one may hold: nothing, or a role at a level where it can be held.
pub(crate) fn holdings() -> Vec<Option<(Role, Level)>> {
    let mut all = vec![None];
    for level in [Level::Project, Level::Org] {
        all.extend([Role::Guest, Role::User, Role::Admin].map(|role| Some((role, level))));
    }
    all.push(Some((Role::Superadmin, Level::System)));
    all
}

/// All kinds of callers. Where nothing is held, nothing can be suspended or expire.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind { held: None, state: State::Anonymous }];
    for held in holdings() {
        let states = State::ALL.into_iter().filter(|state| match state {
            State::Anonymous => false,
            State::Suspended | State::Lapsed => held.is_some(),
            _ => true,
        });
        kinds.extend(states.map(|state| Kind { held, state }));
    }
    kinds
}

/// What somebody holds, in a word.
pub(crate) fn holding_name(held: Option<(Role, Level)>) -> &'static str {
    match held {
        None => "nobody",
        Some((Role::Guest, Level::Project)) => "guest@project",
        Some((Role::User, Level::Project)) => "user@project",
        Some((Role::Admin, Level::Project)) => "admin@project",
        Some((Role::Guest, _)) => "guest@org",
        Some((Role::User, _)) => "user@org",
        Some((Role::Admin, _)) => "admin@org",
        Some((Role::Superadmin, _)) => "superadmin",
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", holding_name(self.held), self.state.name())
    }
}
