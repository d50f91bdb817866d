//! How much there may be of everything that Identity keeps, and how long.

/// Roles that one account holds, in all orgs together: each is loaded with the caller.
pub const MAX_BINDINGS_PER_ACCOUNT: usize = 1_000;
/// Sessions of one account. One more login ends the oldest.
pub const MAX_SESSIONS_PER_ACCOUNT: usize = 50;
/// Open invitations of one org.
pub const MAX_INVITATIONS_PER_ORG: usize = 1_000;
/// Open invitations to one address that are listed and kept.
pub const MAX_INVITATIONS_PER_EMAIL: usize = 200;
/// Tokens of one account and purpose that are alive at once. Beyond it no mail is sent, so that nobody's mailbox is flooded
/// and no token that is on its way is made void by strangers who ask for another.
pub const MAX_LIVE_TOKENS: usize = 5;
/// Rows that one call removes. A transaction holds all of them in memory.
pub(super) const MAX_ROWS_AT_ONCE: usize = 10_000;
/// Admins of an org that are looked at to find one who stays.
pub(super) const MAX_HEADS_LOOKED_AT: usize = 1_000;

/// A session that is not refreshed for so long ends, in seconds: 30 days.
pub const SESSION_IDLE_S: i64 = 30 * DAY_S;
/// A session ends after so long whatever happens, in seconds: 180 days.
pub const SESSION_LIFE_S: i64 = 180 * DAY_S;
/// How long an address can be proven, in seconds. The mail to a new account is good as long.
pub const VERIFY_TOKEN_S: i64 = DAY_S;
/// How long a registration stands whose address nobody proves, in seconds: 7 days.
pub const UNPROVEN_S: i64 = 7 * DAY_S;
/// How long a forgotten password can be replaced, in seconds.
pub const RESET_TOKEN_S: i64 = 3_600;
/// How long a new address can be confirmed, in seconds.
pub const CHANGE_EMAIL_TOKEN_S: i64 = 3_600;
/// How long the setup token is good, in seconds.
pub const SETUP_TOKEN_S: i64 = 1_800;
/// How long an invitation stands, in seconds: 14 days.
pub const INVITATION_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 86_400;
