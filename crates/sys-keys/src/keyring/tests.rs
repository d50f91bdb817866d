//! What the keyring promises, on real files.

use super::*;
use crate::{
    deterministic::SeededEntropy,
    secret::SecretBytes,
    space::{GenerationKeys, TOKEN_BYTES},
};
use std::{fs, os::unix::fs::PermissionsExt, thread};
use sys_contract::id::OrgTag;
use tempfile::TempDir;

const NONCE: [u8; 12] = [7; 12];

/// A folder with a key file in it and the dangerous sealer, which costs no time.
struct House {
    folder: TempDir,
    entropy: Arc<Recorder>,
}

/// Remembers all that it gave.
struct Recorder {
    source: SeededEntropy,
    drawn: Mutex<Vec<Vec<u8>>>,
}

impl Entropy for Recorder {
    fn fill(&self, buffer: &mut [u8]) {
        self.source.fill(buffer);
        self.drawn.lock().unwrap().push(buffer.to_vec());
    }
}

impl House {
    fn new() -> Self {
        let entropy = Recorder { source: SeededEntropy::danger_from_seed(1), drawn: Mutex::default() };
        Self { folder: tempfile::tempdir().unwrap(), entropy: Arc::new(entropy) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn danger(&self) -> Unsealer {
        Unsealer::DangerKeyFile(self.folder.path().join("danger"))
    }

    fn create(&self) -> Keyring {
        self.create_with(&self.danger())
    }

    fn create_with(&self, unsealer: &Unsealer) -> Keyring {
        Keyring::create(&self.path(), unsealer, self.entropy.clone()).unwrap()
    }

    fn open(&self) -> Result<Keyring, KeyError> {
        self.open_with(&self.danger())
    }

    fn open_with(&self, unsealer: &Unsealer) -> Result<Keyring, KeyError> {
        Keyring::open(&self.path(), unsealer, self.entropy.clone())
    }
}

fn passphrase(text: &str) -> Unsealer {
    Unsealer::Passphrase(SecretBytes::from(text.to_owned()))
}

fn space(number: u8) -> SpaceId {
    SpaceId { module: 2, org: OrgTag::from_bytes([0, 0, 0, 0, 1, number]) }
}

/// Differs for each tablespace key.
fn fingerprint(keys: &GenerationKeys) -> [u8; TOKEN_BYTES] {
    keys.token(b"fingerprint", b"")
}

/// The fingerprints of all live generations.
fn live(keyring: &Keyring, space: SpaceId) -> Option<Vec<(u32, [u8; TOKEN_BYTES])>> {
    let keys = keyring.space(space).unwrap()?;
    Some(keys.live().iter().map(|keys| (keys.generation().0, fingerprint(keys))).collect())
}

#[test]
fn what_was_sealed_opens_after_a_restart() {
    let house = House::new();
    let keyring = house.create();
    let keys = keyring.space_or_create(space(1)).unwrap();
    assert_eq!(keys.newest().generation(), Generation::FIRST);
    let sealed = keys.newest().seal(b"aad", NONCE, b"text".to_vec());
    drop((keys, keyring));

    let keyring = house.open().unwrap();
    let keys = keyring.space(space(1)).unwrap().unwrap();
    assert_eq!(keys.generation(Generation::FIRST).unwrap().open(b"aad", NONCE, &sealed), Ok(b"text".to_vec()));
    assert!(keyring.space(space(2)).unwrap().is_none());
    assert_eq!(fingerprint(keyring.space_or_create(space(1)).unwrap().newest()), fingerprint(keys.newest()));
}

#[test]
fn no_two_tablespaces_share_a_key() {
    let keyring = House::new().create();
    let other_module = SpaceId { module: 3, ..space(1) };
    let spaces = [space(1), space(2), other_module, SpaceId { module: 2, org: OrgTag::GLOBAL }];
    let mut seen: Vec<_> =
        spaces.iter().map(|space| fingerprint(keyring.space_or_create(*space).unwrap().newest())).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), spaces.len());
}

#[test]
fn keys_that_are_made_together_last_like_others_and_replace_none() {
    let house = House::new();
    let keyring = house.create();
    keyring.space_or_create(space(2)).unwrap();
    let second = live(&keyring, space(2));
    let many: Vec<SpaceId> = (1..=3).map(space).chain([space(1)]).collect();
    keyring.create_spaces(many.clone()).unwrap();
    assert_eq!(live(&keyring, space(2)), second, "it had a key");
    let made: Vec<_> = (1..=3).map(|n| live(&keyring, space(n))).collect();
    drop(keyring);
    let keyring = house.open().unwrap();
    assert_eq!((1..=3).map(|n| live(&keyring, space(n))).collect::<Vec<_>>(), made);
    assert_eq!(keyring.spaces().len(), 3);
}

#[test]
fn a_passphrase_opens_and_a_wrong_one_is_told_nothing() {
    let house = House::new();
    let keyring = house.create_with(&passphrase("correct horse"));
    keyring.space_or_create(space(1)).unwrap();
    let before = live(&keyring, space(1));
    assert_eq!(live(&house.open_with(&passphrase("correct horse")).unwrap(), space(1)), before);
    for wrong in ["correct horsf", "", "correct horse "] {
        let error = house.open_with(&passphrase(wrong)).unwrap_err();
        assert!(matches!(error, KeyError::Unseal), "{wrong:?}: {error}");
    }
    assert!(matches!(house.open(), Err(KeyError::NoSealer { name: "danger-key-file", .. })));
}

#[test]
fn each_of_two_sealers_opens_the_same_keys() {
    let house = House::new();
    let keyring = house.create();
    keyring.add_sealer(&passphrase("correct horse")).unwrap();
    keyring.space_or_create(space(1)).unwrap();
    assert_eq!(keyring.sealers(), ["danger-key-file", "passphrase"]);
    let before = live(&keyring, space(1));
    for unsealer in [house.danger(), passphrase("correct horse")] {
        let keyring = house.open_with(&unsealer).unwrap();
        assert_eq!(live(&keyring, space(1)), before);
        assert_eq!(keyring.sealers(), ["danger-key-file", "passphrase"]);
    }
}

#[test]
fn another_passphrase_opens_the_same_keys_and_the_one_before_opens_nothing() {
    let house = House::new();
    let (old, new) = (passphrase("correct horse"), passphrase("battery staple"));
    let keyring = house.create_with(&old);
    keyring.add_sealer(&house.danger()).unwrap();
    let later = SealerFrame { name: "tpm2".to_owned(), body: vec![1; 1500] };
    keyring.file().append(&Payload::Sealer(later)).unwrap();
    keyring.space_or_create(space(1)).unwrap();
    keyring.rotate(space(1)).unwrap();
    let before = live(&keyring, space(1));
    drop(keyring);

    let replace = |old: &Unsealer, new: &Unsealer| Keyring::replace_sealer(&house.path(), old, new, &*house.entropy);
    let whole = fs::read(house.path()).unwrap();
    assert!(matches!(replace(&new, &old), Err(KeyError::Unseal)));
    assert!(matches!(replace(&old, &passphrase("short")), Err(KeyError::WeakPassphrase { .. })));
    assert_eq!(fs::read(house.path()).unwrap(), whole, "what is refused changes nothing");

    replace(&old, &new).unwrap();
    assert!(matches!(house.open_with(&old), Err(KeyError::Unseal)));
    for unsealer in [&new, &house.danger()] {
        assert_eq!(live(&house.open_with(unsealer).unwrap(), space(1)), before);
    }
    // The file goes on as any other.
    let keyring = house.open_with(&new).unwrap();
    keyring.space_or_create(space(2)).unwrap();
    let reopened = house.open_with(&new).unwrap();
    assert_eq!(live(&reopened, space(2)), live(&keyring, space(2)));
    assert_eq!(reopened.sealers(), ["passphrase", "danger-key-file", "tpm2"]);
}

#[test]
fn a_sealer_of_a_later_version_is_kept_and_skipped() {
    let house = House::new();
    let keyring = house.create();
    let later = SealerFrame { name: "tpm2".to_owned(), body: vec![1; 1500] };
    keyring.file().append(&Payload::Sealer(later)).unwrap();
    let keyring = house.open().unwrap();
    keyring.space_or_create(space(1)).unwrap();
    assert_eq!(house.open().unwrap().sealers(), ["danger-key-file", "tpm2"]);
}

#[test]
fn there_is_an_end_to_sealers_and_generations() {
    let house = House::new();
    let keyring = house.create();
    for _ in 1..SEALERS_MAX {
        keyring.add_sealer(&house.danger()).unwrap();
    }
    assert!(matches!(keyring.add_sealer(&house.danger()), Err(KeyError::TooManySealers { .. })));
    assert!(matches!(keyring.rotate(space(1)), Err(KeyError::NoSuchSpace { .. })));
    keyring.space_or_create(space(1)).unwrap();
    for _ in 1..LIVE_GENERATIONS_MAX {
        keyring.rotate(space(1)).unwrap();
    }
    assert!(matches!(keyring.rotate(space(1)), Err(KeyError::TooManyGenerations { .. })));
    assert_eq!(live(&house.open().unwrap(), space(1)).unwrap().len(), LIVE_GENERATIONS_MAX);
}

#[test]
fn after_a_rotation_writes_use_the_new_generation_and_reads_cover_the_old() {
    let house = House::new();
    let keyring = house.create();
    let before = keyring.space_or_create(space(1)).unwrap();
    let sealed = before.newest().seal(b"aad", NONCE, b"old".to_vec());
    let after = keyring.rotate(space(1)).unwrap();
    assert_eq!(before.newest().generation(), Generation(1), "keys in use stay as they are");
    assert_eq!(after.newest().generation(), Generation(2));
    assert_ne!(fingerprint(after.newest()), fingerprint(before.newest()));
    assert_eq!(keyring.space(space(1)).unwrap().unwrap().newest().generation(), Generation(2));

    let reopened = house.open().unwrap();
    assert_eq!(live(&reopened, space(1)), live(&keyring, space(1)));
    let keys = reopened.space(space(1)).unwrap().unwrap();
    assert_eq!(keys.generation(Generation(1)).unwrap().open(b"aad", NONCE, &sealed), Ok(b"old".to_vec()));
    assert!(keys.newest().open(b"aad", NONCE, &sealed).is_err());
    assert!(keys.generation(Generation(3)).is_none());
}

#[test]
fn seals_are_counted_over_a_rotation() {
    let keyring = House::new().create();
    let keys = keyring.space_or_create(space(1)).unwrap();
    keys.newest().seal(b"", NONCE, Vec::new());
    let keys = keyring.rotate(space(1)).unwrap();
    keys.newest().seal(b"", NONCE, Vec::new());
    keys.newest().seal(b"", NONCE, Vec::new());
    assert_eq!(keys.live().iter().map(GenerationKeys::sealed_messages).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_key_file_torn_at_any_byte_holds_the_keys_before_and_takes_new_ones() {
    let house = House::new();
    let keyring = house.create();
    let mut ends = vec![fs::metadata(house.path()).unwrap().len()];
    for number in 1..=3 {
        keyring.space_or_create(space(number)).unwrap();
        ends.push(fs::metadata(house.path()).unwrap().len());
    }
    let expected: Vec<_> = (1..=3).map(|number| live(&keyring, space(number))).collect();
    drop(keyring);
    let whole = fs::read(house.path()).unwrap();

    for cut in 0..=whole.len() {
        fs::write(house.path(), &whole[..cut]).unwrap();
        let keys = ends.iter().filter(|end| **end <= cut as u64).count();
        let Some(keys) = keys.checked_sub(1) else {
            // The file came to its place with its first sealer inside, so this is no crash of ours.
            assert!(house.open().is_err(), "cut at {cut}");
            continue;
        };
        let keyring = house.open().unwrap();
        for (number, expected) in (1..).zip(&expected) {
            let seen = live(&keyring, space(number));
            assert_eq!(seen, expected.clone().filter(|_| usize::from(number) <= keys), "cut at {cut}");
        }
        let new = live(&keyring, {
            keyring.space_or_create(space(9)).unwrap();
            space(9)
        });
        let reopened = house.open().unwrap();
        assert_eq!(live(&reopened, space(9)), new, "cut at {cut}");
        assert_eq!(live(&reopened, space(1)), expected[0].clone().filter(|_| keys >= 1), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_in_any_byte_of_the_key_file_is_refused() {
    let house = House::new();
    let keyring = house.create();
    keyring.space_or_create(space(1)).unwrap();
    keyring.rotate(space(1)).unwrap();
    let whole = fs::read(house.path()).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(house.path(), flipped).unwrap();
        let error = house.open().unwrap_err();
        assert!(matches!(error, KeyError::Content { .. }), "byte {byte}: {error}");
    }
    fs::write(house.path(), whole).unwrap();
    assert!(house.open().is_ok());
}

#[test]
fn a_generation_number_that_comes_again_is_refused() {
    let house = House::new();
    let keyring = house.create();
    keyring.space_or_create(space(1)).unwrap();
    let WrappedGeneration { generation, key, .. } = keyring.index().wrapped[&space(1)][0].clone();
    let again = WrappedFrame { space: space(1), generation, wrapped: key };
    keyring.file().append(&Payload::Wrapped(again)).unwrap();
    let refused = matches!(house.open(), Err(KeyError::Content { source: KeyFileError::Malformed { .. }, .. }));
    assert!(refused);
}

#[test]
fn a_wrapped_key_put_in_the_place_of_another_is_refused_even_if_the_file_is_authentic() {
    let house = House::new();
    let keyring = house.create();
    keyring.space_or_create(space(1)).unwrap();
    let WrappedGeneration { generation, key, .. } = keyring.index().wrapped[&space(1)][0].clone();
    let moved = WrappedFrame { space: space(2), generation, wrapped: key };
    keyring.file().append(&Payload::Wrapped(moved)).unwrap();
    let keyring = house.open().unwrap();
    assert!(keyring.space(space(1)).unwrap().is_some());
    let refused =
        matches!(keyring.space(space(2)), Err(KeyError::Content { source: KeyFileError::WrappedKey { .. }, .. }));
    assert!(refused);
}

#[test]
fn no_key_and_no_passphrase_stands_in_the_key_file() {
    let house = House::new();
    let keyring = house.create();
    keyring.add_sealer(&passphrase("correct horse")).unwrap();
    keyring.space_or_create(space(1)).unwrap();
    keyring.rotate(space(1)).unwrap();
    let file = fs::read(house.path()).unwrap();
    let contains = |bytes: &[u8]| file.windows(bytes.len()).any(|window| window == bytes);
    let drawn = house.entropy.drawn.lock().unwrap();
    // Master key, the dangerous sealer's key, two tablespace keys; halves of them, too.
    let keys: Vec<_> = drawn.iter().filter(|bytes| bytes.len() == 32).collect();
    assert_eq!(keys.len(), 4);
    for half in keys.iter().flat_map(|key| key.chunks(16)) {
        assert!(!contains(half));
    }
    assert!(!contains(b"correct horse"));
    // The search finds what does stand there: nonces, salt, the file's id.
    let public: Vec<_> = drawn.iter().filter(|bytes| bytes.len() < 32).collect();
    assert_eq!(public.len(), 6);
    assert!(public.iter().all(|bytes| contains(bytes)));
}

#[test]
fn key_files_are_for_their_owner_alone() {
    let house = House::new();
    house.create();
    for file in [house.path(), house.folder.path().join("danger")] {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(house.open(), Err(KeyError::Permissions { mode: 0o644, .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(house.open().is_ok());
}

#[test]
fn a_key_file_is_never_replaced() {
    let house = House::new();
    house.create().space_or_create(space(1)).unwrap();
    let before = fs::read(house.path()).unwrap();
    let again = Keyring::create(&house.path(), &house.danger(), house.entropy.clone());
    assert!(matches!(again, Err(KeyError::Exists { .. })));
    assert_eq!(fs::read(house.path()).unwrap(), before);
}

#[test]
fn a_second_process_on_the_same_file_is_noticed() {
    let house = House::new();
    let first = house.create();
    let second = house.open().unwrap();
    first.space_or_create(space(1)).unwrap();
    assert!(matches!(second.space_or_create(space(1)), Err(KeyError::ChangedUnderneath { .. })));
    assert!(second.space(space(1)).unwrap().is_none());
    first.space_or_create(space(2)).unwrap();
    assert!(house.open().is_ok());
}

#[test]
fn many_callers_at_once_get_one_key_for_each_tablespace() {
    let house = House::new();
    let keyring = house.create();
    let seen: Vec<Vec<_>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let keyring = keyring.clone();
                let seen = move |number| fingerprint(keyring.space_or_create(space(number)).unwrap().newest());
                scope.spawn(move || (0..10).map(seen).collect())
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(seen.iter().all(|one| *one == seen[0]));
    let reopened = house.open().unwrap();
    for number in 0..10 {
        assert_eq!(live(&reopened, space(number)), Some(vec![(1, seen[0][usize::from(number)])]));
    }
}

#[test]
fn opening_unwraps_nothing_and_asking_unwraps_once() {
    let house = House::new();
    let keyring = house.create();
    (0..20).for_each(|number| drop(keyring.space_or_create(space(number)).unwrap()));
    let keyring = house.open().unwrap();
    assert!(keyring.index().open.is_empty());
    let keys = keyring.space(space(3)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&keys, &keyring.space(space(3)).unwrap().unwrap()));
}

#[test]
fn debug_shows_no_secret() {
    let house = House::new();
    let keyring = house.create();
    assert!(format!("{keyring:?}").starts_with("Keyring { path: "));
    assert_eq!(format!("{:?}", passphrase("correct horse")), "Passphrase([redacted])");
    let shown = format!("{:?} {:?}", keyring.0.master, keyring.file());
    let drawn = house.entropy.drawn.lock().unwrap();
    let key = drawn.iter().find(|bytes| bytes.len() == 32).unwrap();
    assert!(shown.contains("[redacted]"));
    assert!(!shown.contains(&format!("{key:?}")));
    assert!(!shown.contains(&key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
}
