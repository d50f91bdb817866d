//! Guesses at passwords: who guesses slows down, the one who is guessed at does not.
//!
//! Three things are held against a guess, all of them in memory alone and bounded (NIST SP 800-63B section 5.2.2 names the
//! means): one source at one account waits longer after each failure, up to a quarter of an hour; sources that the account was
//! never logged in from share a bucket of guesses at it, so that a thousand of them guess no faster than a few; and a source
//! from which its owner has logged in lately has no part in that bucket, so that strangers cannot shut him out. An owner
//! who is away from all such sources while strangers guess chooses a new password by mail, which makes the source one of his.
//!
//! An attempt counts as a failure until it succeeds: whoever breaks a call off has guessed all the same. Accounts that do not
//! exist are treated alike.

use super::{SETS, bounded::Bounded, waiting};
use crate::refusal::{Reason, Refusal};
use aws_lc_rs::digest::{SHA256, digest};
use std::{convert::Infallible, net::IpAddr, time::Duration};
use sys_net::Network;

/// Failures of one source at one account before it waits at all: people mistype.
const FREE_FAILURES: u32 = 4;
/// The first wait; it doubles with each failure.
const FIRST_WAIT_MS: u64 = 1_000;
/// The longest wait: 96 guesses a day.
const LONGEST_WAIT_MS: u64 = 15 * 60 * 1_000;
/// Failures are forgotten after a day without any.
const FORGET_MS: u64 = 24 * 3_600 * 1_000;
/// A source stays known to an account for so long after the last login from there.
const KNOWN_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Guesses that all sources which an account does not know have at it together: so many at once and one a minute. One
/// source that waits as it must never uses them up: it makes some twenty in the first hour and four in each later one.
const STRANGERS_AT_ONCE: u64 = 60;
const STRANGERS_INTERVAL_MS: u64 = 60 * 1_000;

/// What is known of guesses, by account and source.
#[derive(Debug)]
pub(super) struct Guesses {
    pairs: Bounded<Key, Pair>,
    /// By account: when its bucket of guesses by strangers will be full again, in Unix milliseconds.
    strangers: Bounded<Key, u64>,
}

/// A guess that was let in. What it came to is told by [`super::Throttle::guessed_right`].
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    pair: Key,
    /// Whether the account was logged in from this source lately.
    pub is_known: bool,
}

/// The hash of what it stands for: no address is kept.
type Key = [u8; 16];

/// One source at one account. Ordered by what is kept longest: sources that are known, then those with many failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    known_until_unix_ms: u64,
    failures: u32,
    last_unix_ms: u64,
}

impl Attempt {
    /// One where none are counted.
    pub(super) fn uncounted() -> Self {
        Self { pair: Key::default(), is_known: true }
    }
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self { pairs: Bounded::new(SETS), strangers: Bounded::new(SETS) }
    }

    /// Lets in a guess at what `subject` names, or says how long to wait.
    pub(super) fn attempt(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) -> Result<Attempt, Refusal> {
        let pair = key_of(subject, source.map(Network::of));
        let before = self.pairs.get(&pair).unwrap_or_default();
        // First of all, so that a source that does not wait as it must uses up nothing that it shares.
        before.may_try(now_unix_ms)?;
        let is_known = before.known_until_unix_ms > now_unix_ms;
        if !is_known {
            let everybody = key_of(subject, None);
            self.strangers.change(&everybody, |full_at| take_as_stranger(full_at, now_unix_ms))?;
        }
        // Asked again, since another guess may have come first.
        self.pairs.change(&pair, |value| {
            let value = value.unwrap_or_default();
            value.may_try(now_unix_ms)?;
            Ok::<_, Refusal>(((), value.failed(now_unix_ms)))
        })?;
        Ok(Attempt { pair, is_known })
    }

    /// The guess was right: its source has failed at nothing, and is known from now on.
    pub(super) fn succeeded(&self, attempt: &Attempt, now_unix_ms: u64) {
        let known = Pair { known_until_unix_ms: now_unix_ms.saturating_add(KNOWN_MS), ..Pair::default() };
        let Ok(()) = self.pairs.change(&attempt.pair, |_| Ok::<_, Infallible>(((), known)));
    }

    /// There was no guess after all: the password was not looked at.
    pub(super) fn undone(&self, attempt: &Attempt) {
        let Ok(()) = self.pairs.change(&attempt.pair, |value| {
            let value = value.unwrap_or_default();
            Ok::<_, Infallible>(((), Pair { failures: value.failures.saturating_sub(1), ..value }))
        });
    }

    /// The owner has proven himself from this source by his mailbox: as good as a right guess.
    pub(super) fn proven(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) {
        let pair = key_of(subject, source.map(Network::of));
        self.succeeded(&Attempt { pair, is_known: true }, now_unix_ms);
    }

    /// A session of the account lives on at this source, which stays known. It forgives no failures: the session's token may
    /// be stolen.
    pub(super) fn visited(&self, subject: &str, source: Option<IpAddr>, now_unix_ms: u64) {
        let until = now_unix_ms.saturating_add(KNOWN_MS);
        let Ok(()) = self.pairs.change(&key_of(subject, source.map(Network::of)), |value| {
            Ok::<_, Infallible>(((), Pair { known_until_unix_ms: until, ..value.unwrap_or_default() }))
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pairs.len().max(self.strangers.len())
    }
}

impl Pair {
    fn may_try(&self, now_unix_ms: u64) -> Result<(), Refusal> {
        // After a clock was put back nobody waits for it to come round again.
        let passed = now_unix_ms.checked_sub(self.last_unix_ms).unwrap_or(u64::MAX);
        match self.wait_ms().saturating_sub(passed) {
            0 => Ok(()),
            wait => Err(waiting(
                Reason::SignInThrottled,
                "too many wrong passwords from where you are",
                Duration::from_millis(wait),
            )),
        }
    }

    fn wait_ms(&self) -> u64 {
        match self.failures.checked_sub(FREE_FAILURES) {
            None | Some(0) => 0,
            Some(more) => FIRST_WAIT_MS.checked_shl(more - 1).map_or(LONGEST_WAIT_MS, |wait| wait.min(LONGEST_WAIT_MS)),
        }
    }

    fn failed(self, now_unix_ms: u64) -> Self {
        let forgotten = now_unix_ms.saturating_sub(self.last_unix_ms) >= FORGET_MS;
        let failures = if forgotten { 1 } else { self.failures.saturating_add(1) };
        Self { failures, last_unix_ms: now_unix_ms, ..self }
    }
}

/// Takes one from a bucket (GCRA): what it is full at afterwards, or how long to wait.
fn take_as_stranger(full_at: Option<u64>, now_unix_ms: u64) -> Result<((), u64), Refusal> {
    let empty_at = now_unix_ms.saturating_add(STRANGERS_AT_ONCE * STRANGERS_INTERVAL_MS);
    // Never further off than an empty bucket is, so that a clock that was put back empties none.
    let full_at = full_at.unwrap_or(0).clamp(now_unix_ms, empty_at);
    let next = full_at.saturating_add(STRANGERS_INTERVAL_MS);
    match next.saturating_sub(empty_at) {
        0 => Ok(((), next)),
        wait => {
            Err(waiting(Reason::SignInThrottled, "too many sources guess at this account", Duration::from_millis(wait))
                .help("log in from where you have logged in before, or choose a new password by mail"))
        }
    }
}

/// SHA-256(length of the subject as u64 | subject | network), the first 16 bytes.
pub(super) fn key_of(subject: &str, network: Option<Network>) -> Key {
    let mut input = subject.len().to_be_bytes().to_vec();
    input.extend_from_slice(subject.as_bytes());
    input.extend_from_slice(network.as_ref().map_or(&[], Network::octets));
    let mut key = Key::default();
    key.iter_mut().zip(digest(&SHA256, &input).as_ref()).for_each(|(to, from)| *to = *from);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const OWNER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const STRANGER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)));
    const VICTIM: &str = "a@example.org";
    /// A moment in 2027.
    const BEGUN: u64 = 1_800_000_000_000;

    fn source(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)))
    }

    fn milliseconds(wait: Duration) -> u64 {
        wait.as_millis().try_into().unwrap()
    }

    fn fail_until_slowed(guesses: &Guesses, now: u64) {
        for _ in 0..=FREE_FAILURES {
            guesses.attempt(VICTIM, STRANGER, now).unwrap();
        }
    }

    /// How long this source has to wait before it may guess.
    fn wait(guesses: &Guesses, from: Option<IpAddr>, now: u64) -> Option<Duration> {
        guesses.attempt(VICTIM, from, now).err().and_then(|refusal| refusal.retry_after())
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let guesses = Guesses::new();
        let mut now = BEGUN;
        let mut waits = Vec::new();
        for _ in 0..20 {
            if let Some(wait) = wait(&guesses, STRANGER, now) {
                waits.push(wait.as_secs());
                now += milliseconds(wait);
                assert!(guesses.attempt(VICTIM, STRANGER, now - 1).is_err());
                guesses.attempt(VICTIM, STRANGER, now).unwrap();
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900, 900]);
    }

    #[test]
    fn failures_are_forgotten_after_a_quiet_day_and_at_a_success() {
        let guesses = Guesses::new();
        fail_until_slowed(&guesses, BEGUN);
        assert!(wait(&guesses, STRANGER, BEGUN).is_some());
        let tomorrow = BEGUN + FORGET_MS;
        fail_until_slowed(&guesses, tomorrow);
        assert!(wait(&guesses, STRANGER, tomorrow).is_some());
        let right = guesses.attempt(VICTIM, STRANGER, tomorrow + 1_000).unwrap();
        guesses.succeeded(&right, tomorrow + 1_000);
        assert_eq!(wait(&guesses, STRANGER, tomorrow + 1_000), None);
    }

    #[test]
    fn what_was_no_guess_does_not_count() {
        let guesses = Guesses::new();
        for _ in 0..STRANGERS_AT_ONCE {
            guesses.undone(&guesses.attempt(VICTIM, STRANGER, BEGUN).unwrap());
        }
        fail_until_slowed(&guesses, BEGUN + STRANGERS_AT_ONCE * STRANGERS_INTERVAL_MS);
    }

    #[test]
    fn a_stranger_slows_neither_the_owner_nor_himself_elsewhere() {
        let guesses = Guesses::new();
        while guesses.attempt(VICTIM, STRANGER, BEGUN).is_ok() {}
        assert!(guesses.attempt(VICTIM, OWNER, BEGUN).is_ok());
        assert!(guesses.attempt("b@example.org", STRANGER, BEGUN).is_ok());
    }

    #[test]
    fn many_sources_guess_at_one_account_no_faster_than_a_few_and_its_owner_is_let_in() {
        let guesses = Guesses::new();
        let home = guesses.attempt(VICTIM, OWNER, BEGUN).unwrap();
        assert!(!home.is_known);
        guesses.succeeded(&home, BEGUN);
        let let_in = (0..100_000).filter(|n| guesses.attempt(VICTIM, source(*n), BEGUN).is_ok()).count();
        assert_eq!(let_in as u64, STRANGERS_AT_ONCE - 1, "the owner's first login was one, too");
        let refused = guesses.attempt(VICTIM, source(200_000), BEGUN).unwrap_err();
        assert!(refused.help.as_deref().is_some_and(|help| help.contains("by mail")), "{refused:?}");
        assert!(refused.retry_after().is_some_and(|wait| wait <= Duration::from_secs(60)));
        // The owner, where he is known, and where he proves himself by mail.
        assert!(guesses.attempt(VICTIM, OWNER, BEGUN).unwrap().is_known);
        guesses.proven(VICTIM, source(200_000), BEGUN);
        assert!(guesses.attempt(VICTIM, source(200_000), BEGUN).unwrap().is_known);
        // Nobody else's account is slower for it.
        assert!(guesses.attempt("b@example.org", source(200_001), BEGUN).is_ok());
        // A month after his last login the owner is a stranger there, too.
        assert!(!guesses.attempt(VICTIM, OWNER, BEGUN + KNOWN_MS).unwrap().is_known);
    }

    #[test]
    fn a_session_makes_its_source_known_and_forgives_nothing() {
        let guesses = Guesses::new();
        (0..10).for_each(|_| drop(guesses.attempt(VICTIM, STRANGER, BEGUN)));
        let waits = wait(&guesses, STRANGER, BEGUN);
        assert!(waits.is_some());
        guesses.visited(VICTIM, STRANGER, BEGUN);
        assert_eq!(wait(&guesses, STRANGER, BEGUN), waits);
        guesses.visited(VICTIM, source(1), BEGUN);
        assert!(guesses.attempt(VICTIM, source(1), BEGUN).unwrap().is_known);
        guesses.proven(VICTIM, STRANGER, BEGUN);
        assert_eq!(wait(&guesses, STRANGER, BEGUN), None);
    }

    #[test]
    fn a_lone_source_that_waits_as_it_must_never_uses_up_what_strangers_share() {
        let guesses = Guesses::new();
        let mut now = BEGUN;
        while now < BEGUN + 2 * 24 * 3_600 * 1_000 {
            match guesses.attempt(VICTIM, STRANGER, now) {
                Ok(_) => {}
                Err(refusal) => now += milliseconds(refusal.retry_after().unwrap()),
            }
        }
        assert!(guesses.attempt(VICTIM, source(1), now).is_ok());
        // One that does not wait uses up no more.
        for _ in 0..10_000 {
            drop(guesses.attempt(VICTIM, STRANGER, now));
        }
        assert!(guesses.attempt(VICTIM, source(2), now).is_ok());
    }

    #[test]
    fn strangers_in_any_number_leave_no_more_than_a_table_behind() {
        let guesses = Guesses::new();
        let home = guesses.attempt(VICTIM, OWNER, BEGUN).unwrap();
        guesses.succeeded(&home, BEGUN);
        for n in 0..200_000 {
            drop(guesses.attempt(&format!("{n}@example.org"), source(n), BEGUN));
        }
        assert!(guesses.len() <= 65_536, "{}", guesses.len());
        assert!(guesses.attempt(VICTIM, OWNER, BEGUN).unwrap().is_known, "who is known is not forgotten for strangers");
    }
}
