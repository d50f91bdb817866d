//! A rollover in a world where the parent acts when and as it likes within what it is asked for, and where resolvers keep
//! whatever was served for as long as they may.

use super::*;
use proptest::prelude::*;

/// How long the parent's DS set is kept in this world.
const DS_TTL_S: i64 = 86_400;
const HOUR_S: i64 = 3_600;

fn apex() -> Name {
    Name::parse("example.org").unwrap()
}

/// What is served in one hour: the parent's DS set, our DNSKEY set with who signs it, and who signs data. Keys by number.
#[derive(Debug, Clone, PartialEq)]
struct Served {
    ds: Vec<Data>,
    /// With the DS of each key, since that is what a resolver compares.
    dnskeys: Vec<Data>,
    signer: Data,
}

impl Served {
    fn now(state: &Rollover, ds: &[Data]) -> Self {
        let keys = state.keys();
        let dnskeys = keys.published().iter().map(|key| key.ds(&apex())).collect();
        Self { ds: ds.to_vec(), dnskeys, signer: keys.signer().ds(&apex()) }
    }
}

/// Whether a resolver that holds any three sets that were served within their times validates. All published keys sign the
/// DNSKEY set, so a DS for any of them opens it.
fn every_resolver_validates(history: &[(i64, Served)], now: i64) -> bool {
    let kept = |ttl: i64| history.iter().filter(move |(at, _)| now - at <= ttl).map(|(_, served)| served);
    kept(DS_TTL_S).all(|parent| {
        kept(KEY_TTL_S.into()).all(|keys| {
            let is_opened = parent.ds.is_empty() || keys.dnskeys.iter().any(|key| parent.ds.contains(key));
            is_opened && kept(MAX_TTL_S.into()).all(|data| keys.dnskeys.contains(&data.signer))
        })
    })
}

/// What a parent does with what it is asked for.
#[derive(Debug, Clone, Copy)]
enum Parent {
    /// As CDS says, at once.
    Follows,
    /// Adds the wanted DS beside those that it has.
    Adds,
    /// Takes out all but the wanted one, if that is there.
    Cleans,
    /// Goes back to the first one. Ours looks in the same hour: what nobody sees, nobody can wait for.
    TakesBack,
    Sleeps,
}

fn play(
    parents: &[Parent],
    is_seen: &[bool],
    mut step: impl FnMut(&Rollover, i64, Option<&ParentDs>) -> Option<Rollover>,
) -> Result<Rollover, i64> {
    let begun = Rollover::begin(SigningKey::generate().unwrap());
    let first = begun.keys().wanted().ds(&apex());
    let mut ds = vec![first.clone()];
    let mut state = begun.start(SigningKey::generate().unwrap(), 0).unwrap();
    let mut history = vec![(-HOUR_S, Served::now(&begun, &ds))];
    for (hour, (parent, is_seen)) in (0_i64..).zip(parents.iter().zip(is_seen)) {
        let now = hour * HOUR_S;
        let wanted = state.keys().wanted().ds(&apex());
        match parent {
            Parent::Follows => ds = vec![wanted],
            Parent::Adds if !ds.contains(&wanted) => ds.push(wanted),
            Parent::TakesBack if *is_seen && matches!(state, Rollover::Asking { .. } | Rollover::Retiring { .. }) => {
                ds = vec![first.clone()];
            }
            Parent::Cleans if ds.contains(&wanted) => ds = vec![wanted],
            _ => {}
        }
        let shown = ParentDs { records: ds.clone(), ttl_s: 60 };
        // The step is decided, and until it is served the sets before it are.
        history.push((now, Served::now(&state, &ds)));
        if let Some(next) = step(&state, now, is_seen.then_some(&shown)) {
            state = next;
        }
        history.push((now, Served::now(&state, &ds)));
        history.retain(|(at, _)| now - at <= 3 * i64::from(MAX_TTL_S));
        history.dedup_by(|a, b| a == b);
        if !every_resolver_validates(&history, now) {
            return Err(hour);
        }
    }
    Ok(state)
}

fn parents() -> impl Strategy<Value = Vec<Parent>> {
    let parent = prop_oneof![
        1 => Just(Parent::Follows),
        2 => Just(Parent::Adds),
        2 => Just(Parent::Cleans),
        1 => Just(Parent::TakesBack),
        24 => Just(Parent::Sleeps)
    ];
    prop::collection::vec(parent, 60..160)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_a_resolver_keeps_validates(parents in parents(), is_seen in prop::collection::vec(any::<bool>(), 160)) {
        let played = play(&parents, &is_seen, |state, now, parent| state.step(&apex(), now, parent));
        prop_assert!(played.is_ok(), "fails in hour {}", played.unwrap_err());
    }
}

#[test]
fn a_rollover_ends_with_the_next_key() {
    let played =
        play(&[Parent::Follows; 120], &[true; 120], |state, now, parent| state.step(&apex(), now, parent)).unwrap();
    assert!(matches!(played, Rollover::Steady { .. }), "{played:?}");
}

#[test]
fn a_rollover_waits_for_a_parent_that_keeps_the_old_ds() {
    let played =
        play(&[Parent::Adds; 120], &[true; 120], |state, now, parent| state.step(&apex(), now, parent)).unwrap();
    assert!(matches!(played, Rollover::Asking { .. }), "{played:?}");
}

#[test]
fn a_parent_that_takes_the_change_back_is_waited_for_anew() {
    let parents = [vec![Parent::Follows; 20], vec![Parent::TakesBack], vec![Parent::Sleeps; 99]].concat();
    let played = play(&parents, &[true; 120], |state, now, parent| state.step(&apex(), now, parent)).unwrap();
    assert!(matches!(played, Rollover::Asking { .. }), "{played:?}");
}

/// The control of the property: one that does not wait is found out.
#[test]
fn a_rollover_that_does_not_wait_breaks() {
    let hasty = |state: &Rollover, _: i64, parent: Option<&ParentDs>| state.step(&apex(), i64::MAX, parent);
    assert!(play(&[Parent::Follows; 120], &[true; 120], hasty).is_err());
    let blind = |state: &Rollover, now: i64, _: Option<&ParentDs>| {
        let told = ParentDs { records: vec![state.keys().wanted().ds(&apex())], ttl_s: 60 };
        state.step(&apex(), now, Some(&told))
    };
    assert!(play(&[Parent::Sleeps; 120], &[true; 120], blind).is_err());
}

#[test]
fn the_status_tells_what_the_parent_makes_of_it() {
    let state = Rollover::begin(SigningKey::generate().unwrap());
    let ds = |state: &Rollover| state.keys().wanted().ds(&apex());
    let other = ds(&Rollover::begin(SigningKey::generate().unwrap()));
    let check = |records: &[&Data], expect| {
        let shown = ParentDs { records: records.iter().map(|ds| (*ds).clone()).collect(), ttl_s: 60 };
        assert_eq!(state.delegation(&apex(), &shown), expect);
    };
    check(&[], Delegation::Unsigned);
    check(&[&ds(&state)], Delegation::Secure);
    check(&[&other], Delegation::Broken);
    check(&[&other, &ds(&state)], Delegation::SecureWithOthers);
}

#[test]
fn a_kept_state_is_the_same_state() {
    let key = || Arc::new(SigningKey::generate().unwrap());
    let states = [
        Rollover::Steady { key: key() },
        Rollover::Publishing { key: key(), next: key(), since_unix_s: 7 },
        Rollover::Asking { key: key(), next: key() },
        Rollover::Retiring { key: key(), next: key(), until_unix_s: i64::MAX },
    ];
    for state in &states {
        let bytes = state.to_bytes().unwrap();
        assert_eq!(format!("{:?}", Rollover::from_bytes(&bytes).unwrap()), format!("{state:?}"));
        assert!(Rollover::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Rollover::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }
    assert!(matches!(states[0].start(SigningKey::generate().unwrap(), 0), Ok(Rollover::Publishing { .. })));
    assert_eq!(states[1].start(SigningKey::generate().unwrap(), 0).unwrap_err(), RolloverError::UnderWay);
    assert_eq!(Rollover::from_bytes(b"").unwrap_err(), RolloverError::Format);
}

#[test]
fn a_clock_that_was_a_year_ahead_holds_up_no_rollover_and_skips_no_wait() {
    const YEAR_S: i64 = 365 * 86_400;
    let steady = Rollover::begin(SigningKey::generate().unwrap());
    let publishing = steady.start(SigningKey::generate().unwrap(), YEAR_S).unwrap();
    let again = publishing.step(&apex(), 0, None).expect("the wait begins anew");
    assert!(matches!(again, Rollover::Publishing { since_unix_s: 0, .. }), "{again:?}");
    assert!(again.step(&apex(), HOUR_S, None).is_none(), "and is as long as any");
    let asking = again.step(&apex(), 2 * HOUR_S, None).unwrap();
    let parent = ParentDs { records: vec![asking.keys().wanted().ds(&apex())], ttl_s: u32::MAX };
    let retiring = asking.step(&apex(), YEAR_S, Some(&parent)).unwrap();
    let asked_anew = retiring.step(&apex(), 0, Some(&parent)).expect("the parent is asked anew");
    assert!(matches!(asked_anew, Rollover::Asking { .. }), "{asked_anew:?}");
    let retiring = asked_anew.step(&apex(), 0, Some(&parent)).unwrap();
    assert!(retiring.step(&apex(), 7 * 86_400, Some(&parent)).is_none());
    let ended = retiring.step(&apex(), 7 * 86_400 + HOUR_S, Some(&parent)).unwrap();
    assert!(matches!(ended, Rollover::Steady { .. }), "{ended:?}");
}
