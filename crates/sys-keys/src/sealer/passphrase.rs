//! The passphrase sealer.
//!
//! ```text
//! body         memory KiB 4 | passes 4 | lanes 4 | salt 16 | wrapped master key 92
//! sealing key  Argon2id(passphrase, salt, parameters), 32 bytes (RFC 9106)
//! ```
//!
//! The parameters stand in the file, so that later versions can raise them; they are bounded when read, so that a file
//! cannot ask for a machine's whole memory.

use super::{master_aad, unwrap_master, wrap_master};
use crate::{
    derivation::KEY_BYTES,
    entropy::Entropy,
    error::KeyError,
    hierarchy::MasterKey,
    key_file::FileId,
    parts::take,
    secret::{Secret, SecretBytes},
};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

pub(super) const NAME: &str = "passphrase";

/// The shortest passphrase. No length makes a passphrase good; this refuses the empty one and the slip of a key.
const PASSPHRASE_BYTES_MIN: usize = 8;
const SALT_BYTES: usize = 16;
/// Cost parameters and salt.
const PARAMETERS_BYTES: usize = 12 + SALT_BYTES;

/// What stretching a passphrase costs whoever tries one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The second choice of RFC 9106, section 4, with one lane, because the lanes would run one after the other here.
const COST: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
/// The most that a file may ask for: memory that any server has, and less than a minute of work.
const COST_MAX: Cost = Cost { memory_kib: 1024 * 1024, passes: 16, lanes: 16 };

pub(super) fn seal(
    passphrase: &SecretBytes,
    master: &MasterKey,
    file: FileId,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, KeyError> {
    seal_at_cost(COST, passphrase, master, file, entropy)
}

pub(super) fn unseal(passphrase: &SecretBytes, body: &[u8], file: FileId) -> Result<Secret<KEY_BYTES>, KeyError> {
    let (parameters, wrapped) = body.split_first_chunk::<PARAMETERS_BYTES>().ok_or(KeyError::Unseal)?;
    let sealing_key = stretch(passphrase, parameters)?;
    unwrap_master(&sealing_key, &master_aad(NAME, file), wrapped)
}

fn seal_at_cost(
    cost: Cost,
    passphrase: &SecretBytes,
    master: &MasterKey,
    file: FileId,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, KeyError> {
    if passphrase.len() < PASSPHRASE_BYTES_MIN {
        return Err(KeyError::WeakPassphrase { minimum_bytes: PASSPHRASE_BYTES_MIN });
    }
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let parameters = encode(cost, &salt);
    let sealing_key = stretch(passphrase, &parameters)?;
    let wrapped = wrap_master(&sealing_key, &master_aad(NAME, file), master, entropy);
    Ok([&parameters[..], &wrapped].concat())
}

fn encode(cost: Cost, salt: &[u8; SALT_BYTES]) -> [u8; PARAMETERS_BYTES] {
    let [memory, passes, lanes] = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_be_bytes);
    let mut parameters = [0; PARAMETERS_BYTES];
    let parts = memory.iter().chain(&passes).chain(&lanes).chain(salt);
    parameters.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    parameters
}

fn stretch(passphrase: &SecretBytes, parameters: &[u8; PARAMETERS_BYTES]) -> Result<Secret<KEY_BYTES>, KeyError> {
    let mut input = &parameters[..];
    let mut number = || take(&mut input).map(u32::from_be_bytes).unwrap_or_default();
    let cost = Cost { memory_kib: number(), passes: number(), lanes: number() };
    let Cost { memory_kib, passes, lanes } = cost;
    let out_of_bounds = || KeyError::PassphraseCost { memory_kib, passes, lanes };
    if memory_kib > COST_MAX.memory_kib || passes > COST_MAX.passes || lanes > COST_MAX.lanes {
        return Err(out_of_bounds());
    }
    let parameters = Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(|_| out_of_bounds())?;

    let mut memory = Vec::new();
    memory.try_reserve_exact(parameters.block_count()).map_err(|_| KeyError::Memory { memory_kib })?;
    memory.resize(parameters.block_count(), Block::new());
    let stretched = Secret::try_filled(|key| {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters).hash_password_into_with_memory(
            passphrase.expose(),
            input,
            key,
            &mut memory,
        )
    });
    // The memory holds what the passphrase was stretched to.
    memory.zeroize();
    stretched.map_err(|_| out_of_bounds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deterministic::SeededEntropy;

    const FILE: FileId = FileId([1; 16]);
    /// What the tests can afford.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn text(text: &str) -> SecretBytes {
        SecretBytes::from(text.to_owned())
    }

    fn sealed(cost: Cost) -> (MasterKey, Vec<u8>) {
        let entropy = SeededEntropy::danger_from_seed(1);
        let master = MasterKey::random(&entropy);
        let body = seal_at_cost(cost, &text("correct horse"), &master, FILE, &entropy).unwrap();
        (master, body)
    }

    #[test]
    fn the_passphrase_opens_at_the_cost_that_was_stored() {
        for cost in [CHEAP, Cost { memory_kib: 64, passes: 2, lanes: 4 }] {
            let (master, body) = sealed(cost);
            assert_eq!(unseal(&text("correct horse"), &body, FILE).unwrap(), *master.secret());
            assert!(matches!(unseal(&text("correct horsf"), &body, FILE), Err(KeyError::Unseal)));
        }
    }

    #[test]
    fn a_sealed_master_key_opens_in_its_own_file_only() {
        let (_, body) = sealed(CHEAP);
        assert!(matches!(unseal(&text("correct horse"), &body, FileId([2; 16])), Err(KeyError::Unseal)));
    }

    #[test]
    fn a_changed_body_does_not_open() {
        let (_, body) = sealed(CHEAP);
        let refused = |body: &[u8]| matches!(unseal(&text("correct horse"), body, FILE), Err(KeyError::Unseal));
        for bit in 8 * (PARAMETERS_BYTES - SALT_BYTES)..8 * body.len() {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&flipped), "bit {bit}");
        }
        for other in
            [Cost { memory_kib: 9, ..CHEAP }, Cost { passes: 2, ..CHEAP }, Cost { memory_kib: 16, lanes: 2, ..CHEAP }]
        {
            let salt = body[PARAMETERS_BYTES - SALT_BYTES..PARAMETERS_BYTES].try_into().unwrap();
            assert!(refused(&[&encode(other, salt)[..], &body[PARAMETERS_BYTES..]].concat()), "{other:?}");
        }
        assert!(refused(&body[..body.len() - 1]) && refused(&[&body[..], &[0]].concat()) && refused(b""));
    }

    #[test]
    fn a_file_cannot_ask_for_the_whole_machine() {
        let (_, body) = sealed(CHEAP);
        let Cost { memory_kib, passes, lanes } = COST_MAX;
        for cost in [
            Cost { memory_kib: memory_kib + 1, ..CHEAP },
            Cost { memory_kib: u32::MAX, ..CHEAP },
            Cost { passes: passes + 1, ..CHEAP },
            Cost { lanes: lanes + 1, memory_kib: 1024, ..CHEAP },
            Cost { memory_kib: 0, ..CHEAP },
            Cost { passes: 0, ..CHEAP },
            Cost { lanes: 0, ..CHEAP },
        ] {
            let hostile = [&encode(cost, &[0; SALT_BYTES])[..], &body[PARAMETERS_BYTES..]].concat();
            let refused =
                matches!(unseal(&text("correct horse"), &hostile, FILE), Err(KeyError::PassphraseCost { .. }));
            assert!(refused, "{cost:?}");
        }
    }

    #[test]
    fn the_empty_passphrase_seals_nothing() {
        let entropy = SeededEntropy::danger_from_seed(1);
        for weak in ["", "1234567"] {
            let refused = seal(&text(weak), &MasterKey::random(&entropy), FILE, &entropy);
            assert!(matches!(refused, Err(KeyError::WeakPassphrase { .. })));
        }
    }
}
