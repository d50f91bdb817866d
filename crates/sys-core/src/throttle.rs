//! Buckets: how often a source, an account or a caller of a method may knock, and how passwords may be guessed.
//!
//! Each key has a token bucket (GCRA, by `governor`) in a table of bounded size ([`bounded`]): a million sources take no more
//! memory than sixty thousand. What guesses at passwords come to stands in [`guesses`]. What must never happen here: a
//! bucket that strangers share with whom they are to be kept from.

mod bounded;
mod guesses;

pub use guesses::Attempt;

use crate::refusal::{Code, Reason, Refusal, whole_seconds};
use bounded::Bounded;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    nanos::Nanos,
};
use guesses::{Guesses, key_of};
use std::{fmt, hash::Hash, net::IpAddr, num::NonZeroU32, time::Duration};
use sys_contract::{
    id::{AccountId, OrgTag},
    model,
};
use sys_net::Network;

/// Sets of eight buckets in a table: with all of them in use it takes about 2 MB.
const SETS: usize = 8_192;
/// The same for the callers of one method.
const METHOD_SETS: usize = 1_024;

/// Refusals of one kind and one caller that get a leaf of their own in an audit log: this many at once, and then one a second. A log
/// is for good, so that without it whoever may not call at all could fill the disk of those who may.
const LEAVES_AT_ONCE: NonZeroU32 = count(300);
/// The same of all together who have no account, of whom there may be as many as there are addresses: at once, and a second.
const NOBODYS_LEAVES_AT_ONCE: NonZeroU32 = count(2_048);
const NOBODYS_LEAVES_PER_SECOND: NonZeroU32 = count(20);

/// Calls in a second, and how many may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Refilled in a second.
    pub per_second: NonZeroU32,
    /// Taken at once.
    pub burst: NonZeroU32,
}

/// The rates of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// For a source: see [`Network`].
    pub source: Rate,
    /// For an account.
    pub account: Rate,
    /// Sign-ins, registrations and mails from one source in a minute, at one address.
    pub sign_in_per_minute: NonZeroU32,
    /// Nothing else counts: neither the rates that contracts declare for their methods nor the waits after wrong passwords.
    /// For a load of one's own, in tests and measurements.
    pub danger_nothing_else: bool,
}

const fn count(number: u32) -> NonZeroU32 {
    let Some(number) = NonZeroU32::new(number) else {
        // Evaluated at compile time: a zero does not build.
        #[allow(clippy::panic, reason = "INVARIANT: a constant, checked by the compiler")]
        {
            panic!("a rate is above zero")
        }
    };
    number
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            source: Rate { per_second: count(500), burst: count(2_000) },
            account: Rate { per_second: count(200), burst: count(1_000) },
            sign_in_per_minute: count(10),
            danger_nothing_else: false,
        }
    }
}

/// The buckets of a server.
pub struct Throttle {
    sources: Buckets<Network>,
    accounts: Buckets<AccountId>,
    sign_ins: Buckets<[u8; 16]>,
    leaves: Buckets<(CallerKey, OrgTag, Kind)>,
    nobodys_leaves: Buckets<Kind>,
    guesses: Guesses,
    nothing_else: bool,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle").finish_non_exhaustive()
    }
}

/// The buckets of a method whose contract declares a rate, by caller.
pub(crate) struct MethodRate(Buckets<CallerKey>);

impl fmt::Debug for MethodRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MethodRate")
    }
}

/// Whom a method's rate, the leaves of refusals and what is kept for callers count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum CallerKey {
    Account(AccountId),
    /// Whoever calls from there without an account.
    Source(Option<Network>),
}

/// Kinds of refusals. Each has leaves of its own, so that nobody hides one kind behind another: what he probes behind calls
/// that come too often, or a token that was revoked behind calls without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Too much or too often.
    TooMuch,
    /// A token that is not valid.
    Token,
    /// What the caller has no right to, or does not see.
    Right,
}

impl Kind {
    fn of(refusal: &Refusal) -> Self {
        match (refusal.code, refusal.reason) {
            (Code::ResourceExhausted, _) => Self::TooMuch,
            (_, Reason::TokenRefused) => Self::Token,
            _ => Self::Right,
        }
    }
}

impl CallerKey {
    pub(crate) fn of(account: Option<AccountId>, source: Option<IpAddr>) -> Self {
        account.map_or_else(|| Self::Source(source.map(Network::of)), Self::Account)
    }
}

impl MethodRate {
    /// Full buckets for a declared rate.
    pub(crate) fn new(rate: model::Rate) -> Self {
        Self(Buckets::new(Quota::per_minute(rate.per_minute).allow_burst(rate.burst), METHOD_SETS))
    }
}

impl Throttle {
    /// Full buckets for these rates.
    pub fn new(rates: Rates) -> Self {
        let quota = |rate: Rate| Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            sources: Buckets::new(quota(rates.source), SETS),
            accounts: Buckets::new(quota(rates.account), SETS),
            sign_ins: Buckets::new(Quota::per_minute(rates.sign_in_per_minute), SETS),
            leaves: Buckets::new(Quota::per_second(NonZeroU32::MIN).allow_burst(LEAVES_AT_ONCE), SETS),
            nobodys_leaves: Buckets::new(
                Quota::per_second(NOBODYS_LEAVES_PER_SECOND).allow_burst(NOBODYS_LEAVES_AT_ONCE),
                1,
            ),
            guesses: Guesses::new(),
            nothing_else: rates.danger_nothing_else,
        }
    }

    /// Whether its rates are all that counts.
    pub(crate) fn counts_nothing_else(&self) -> bool {
        self.nothing_else
    }

    /// Takes one from the source's bucket.
    pub fn source(&self, source: IpAddr) -> Result<(), Refusal> {
        let taken = self.sources.take(&Network::of(source));
        taken.map_err(|wait| waiting(Reason::SourceThrottled, "too many calls", wait))
    }

    /// Takes one from the account's bucket.
    pub fn account(&self, account: AccountId) -> Result<(), Refusal> {
        self.accounts.take(&account).map_err(|wait| waiting(Reason::AccountThrottled, "too many calls", wait))
    }

    /// Takes one from the caller's bucket of a method: his account's, or his source's where he has none.
    pub(crate) fn method(
        &self,
        rate: &MethodRate,
        account: Option<AccountId>,
        source: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        if self.nothing_else {
            return Ok(());
        }
        rate.0
            .take(&CallerKey::of(account, source))
            .map_err(|wait| waiting(Reason::MethodThrottled, "too many calls of this method", wait))
    }

    /// Whether a refusal of this caller gets a leaf of its own in this log. One that does not is counted.
    pub(crate) fn leaf(
        &self,
        log: OrgTag,
        account: Option<AccountId>,
        source: Option<IpAddr>,
        refusal: &Refusal,
    ) -> bool {
        let kind = Kind::of(refusal);
        self.nothing_else
            || (self.leaves.take(&(CallerKey::of(account, source), log, kind)).is_ok()
                && (account.is_some() || self.nobodys_leaves.take(&kind).is_ok()))
    }

    /// Takes one from the bucket of this source's calls of this method with this subject: what names an account in the
    /// request, whether it exists or not.
    pub(crate) fn sign_in(&self, method: &str, subject: &str, source: Option<IpAddr>) -> Result<(), Refusal> {
        let key = key_of(&format!("{method}\0{subject}"), source.map(Network::of));
        let taken = self.sign_ins.take(&key);
        taken.map_err(|wait| waiting(Reason::SignInThrottled, "too many calls for this address", wait))
    }

    /// Lets in a guess at the password of what `subject` names, or says how long to wait. It counts as wrong until
    /// [`Throttle::guessed_right`].
    pub(crate) fn guess(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) -> Result<Attempt, Refusal> {
        if self.nothing_else {
            return Ok(Attempt::uncounted());
        }
        self.guesses.attempt(subject, source, now_unix_ms)
    }

    /// The guess was right.
    pub(crate) fn guessed_right(&self, attempt: &Attempt, now_unix_ms: u64) {
        self.guesses.succeeded(attempt, now_unix_ms);
    }

    /// There was no guess after all.
    pub(crate) fn not_guessed(&self, attempt: &Attempt) {
        self.guesses.undone(attempt);
    }

    /// Whom `subject` names has proven himself from this source by his mailbox.
    pub(crate) fn proven(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) {
        self.guesses.proven(subject, source, now_unix_ms);
    }

    /// A session of whom `subject` names lives on at this source.
    pub(crate) fn visited(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) {
        self.guesses.visited(subject, source, now_unix_ms);
    }
}

/// A refusal that says how long to wait.
fn waiting(reason: Reason, message: &str, wait: Duration) -> Refusal {
    let seconds = whole_seconds(wait);
    let unit = if seconds == 1 { "second" } else { "seconds" };
    Refusal::new(reason, message).help(format!("wait {seconds} {unit}, then try again")).wait(wait)
}

/// One token bucket for each key.
struct Buckets<K: Hash + Eq + Clone>(RateLimiter<K, Bounded<K, Nanos>, DefaultClock>);

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(quota: Quota, sets: usize) -> Self {
        Self(RateLimiter::new(quota, Bounded::new(sets), DefaultClock::default()))
    }

    /// Takes one, or says how long it takes until there is one.
    fn take(&self, key: &K) -> Result<(), Duration> {
        self.0.check_key(key).map_err(|not_until| not_until.wait_time_from(self.0.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LOGIN: &str = "sys.account.v1.AuthService/Login";

    #[test]
    fn fault_14_a_stranger_does_not_lock_a_victim_out() {
        let throttle = Throttle::new(Rates::default());
        let [victim, stranger]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap()];
        let sign_in = |subject: &str, source| throttle.sign_in(LOGIN, subject, Some(source));
        while sign_in("a@example.org", stranger).is_ok() {}
        assert!(sign_in("a@example.org", victim).is_ok());
        assert!(sign_in("b@example.org", stranger).is_ok());
        assert!(throttle.sign_in("another", "a@example.org", Some(stranger)).is_ok());
        let refusal = sign_in("a@example.org", stranger).unwrap_err();
        assert_eq!(refusal.reason, Reason::SignInThrottled);
        assert!(refusal.retry_after().is_some_and(|wait| wait <= Duration::from_secs(6)), "{refusal:?}");
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket() {
        let source = Rate { per_second: count(1), burst: count(3) };
        let throttle = Throttle::new(Rates { source, ..Rates::default() });
        for n in 1..=3 {
            assert!(throttle.source(format!("2001:db8::{n}").parse().unwrap()).is_ok());
        }
        assert!(throttle.source("2001:db8:0:ff::4".parse().unwrap()).is_err());
        assert!(throttle.source("2001:db8:0:100::1".parse().unwrap()).is_ok());
        for host in 0..10_u32 {
            let source = format!("2001:db8::{host:x}").parse().ok();
            let slowed = throttle.sign_in(LOGIN, "a@example.org", source).is_err();
            assert!(!slowed, "{host}: ten in a minute");
        }
        let other_host = "2001:db8::ffff".parse().ok();
        assert!(
            throttle.sign_in(LOGIN, "a@example.org", other_host).is_err(),
            "a network has as many hosts as it likes"
        );
    }

    #[test]
    fn a_method_counts_accounts_and_whoever_has_none_by_his_source() {
        let rate = || MethodRate::new(model::Rate { per_minute: count(1), burst: count(1) });
        let throttle = Throttle::new(Rates::default());
        let account = |n| {
            Some(AccountId::from_record(sys_contract::id::RecordId::new(sys_contract::id::OrgTag::GLOBAL, n, [0; 10])))
        };
        let source = "192.0.2.1".parse().ok();
        let declared = rate();
        for caller in [(account(1), source), (account(2), source), (None, source), (None, "192.0.2.2".parse().ok())] {
            assert!(throttle.method(&declared, caller.0, caller.1).is_ok());
        }
        assert!(throttle.method(&declared, account(1), "192.0.2.9".parse().ok()).is_err());
        let refusal = throttle.method(&declared, None, source).unwrap_err();
        assert_eq!(refusal.reason, Reason::MethodThrottled);
        assert!(refusal.retry_after().is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(60)));
        assert!(throttle.method(&rate(), account(1), source).is_ok(), "another method has buckets of its own");
        let lifted = Throttle::new(Rates { danger_nothing_else: true, ..Rates::default() });
        assert!((0..10).all(|_| lifted.method(&declared, account(1), source).is_ok()));
    }

    #[test]
    fn refusals_of_one_caller_fill_no_log_and_leave_room_for_those_of_others() {
        let throttle = Throttle::new(Rates::default());
        let account = |n| {
            Some(AccountId::from_record(sys_contract::id::RecordId::new(sys_contract::id::OrgTag::GLOBAL, n, [0; 10])))
        };
        let source = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        // The bucket goes on filling while the test runs.
        let (system, org) = (OrgTag::GLOBAL, OrgTag::from_bytes([7; 6]));
        let leaf = |log, account, source, reason| throttle.leaf(log, account, source, &Refusal::new(reason, "no"));
        let all = |log, account, source, reason| (0..2_000).filter(|_| leaf(log, account, source, reason)).count();
        let of = |account, source| all(system, account, source, Reason::NotFound);
        assert!((300..1_000).contains(&of(account(1), source(1))));
        assert!((300..1_000).contains(&of(account(2), source(1))), "another account has leaves of its own");
        assert!((300..1_000).contains(&of(None, source(2))));
        assert!((300..1_000).contains(&of(None, source(3))), "so has another source");
        assert!((300..1_000).contains(&all(system, account(4), None, Reason::AccountThrottled)));
        assert!(leaf(system, account(4), None, Reason::NotFound), "calls too often hide nothing that he probes");
        assert!(leaf(org, account(1), None, Reason::NotFound), "nor does what he does elsewhere");
        let botnet = (100..60_000).filter(|n| leaf(system, None, source(*n), Reason::Unauthenticated)).count();
        assert!((1_000..10_000).contains(&botnet), "{botnet}: however many they are");
        assert!(leaf(system, account(3), source(100), Reason::NotFound), "who has an account does not pay for them");
        assert!(leaf(system, None, source(100), Reason::TokenRefused), "calls without a token hide none with one");
    }

    #[test]
    fn a_million_sources_share_no_bucket_and_leave_no_more_than_a_table_behind() {
        // Slow enough that no bucket is full again before the test is over.
        let buckets = Buckets::new(Quota::per_hour(count(4)), SETS);
        let offender = Network::V4([192, 0, 2, 1]);
        while buckets.take(&offender).is_ok() {}
        let before = resident_bytes();
        for n in 0..1_000_000_u32 {
            let source = Network::V4((0x0a00_0000 + n).to_be_bytes());
            assert!(buckets.take(&source).is_ok(), "a stranger pays for no other");
        }
        let grown = resident_bytes().saturating_sub(before);
        // A full table takes some 2 MB; other tests run beside this one.
        assert!(grown < 64 << 20, "{grown} bytes");
        assert!(buckets.take(&offender).is_err(), "who is in debt is not forgotten for those who are not");
    }

    /// Of this process, from Linux's accounting.
    fn resident_bytes() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
    }
}
