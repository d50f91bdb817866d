//! The tree against the vectors of the certificate-transparency project, and against the recursive definitions of RFC 6962
//! section 2.1, word by word.

use super::*;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

/// The leaves of the reference vectors, in hex.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

/// The roots of the trees of the first one to eight of them.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn vectors() -> Vec<Vec<u8>> {
    LEAVES.iter().map(|leaf| HEXLOWER.decode(leaf.as_bytes()).unwrap()).collect()
}

fn some(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().to_vec()).collect()
}

/// MTH of RFC 6962 section 2.1.
fn mth(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => leaf_hash(leaf),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of section 2.1.1.
fn path(m: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, beside) = if m < k { (path(m, left), mth(right)) } else { (path(m - k, right), mth(left)) };
    path.push(beside);
    path
}

/// SUBPROOF of section 2.1.2.
fn subproof(m: usize, leaves: &[Vec<u8>], known: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if known { Vec::new() } else { vec![mth(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, beside) =
        if m <= k { (subproof(m, left, known), mth(right)) } else { (subproof(m - k, right, false), mth(left)) };
    proof.push(beside);
    proof
}

/// The largest power of two smaller than n.
fn split(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

fn hashed(leaves: &[Vec<u8>], ranges: Vec<Range<u64>>) -> Vec<Hash> {
    let number = |number: u64| usize::try_from(number).unwrap();
    let run = |range: Range<u64>| {
        let mut run = Run::default();
        leaves[number(range.start)..number(range.end)].iter().for_each(|leaf| run.push_leaf(leaf_hash(leaf)));
        run.root()
    };
    ranges.into_iter().map(run).collect()
}

#[test]
fn the_roots_are_those_of_the_reference_vectors() {
    assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let mut run = Run::default();
    for (leaf, root) in vectors().iter().zip(ROOTS) {
        run.push_leaf(leaf_hash(leaf));
        assert_eq!(run.root().to_string(), root);
    }
}

#[test]
fn the_proofs_are_those_of_the_reference_vectors() {
    let leaves = vectors();
    let hex = |hashes: Vec<Hash>| hashes.iter().map(Hash::to_string).collect::<Vec<_>>();
    let check = |ranges: Option<Vec<Range<u64>>>, expect: &[&str]| {
        assert_eq!(hex(hashed(&leaves, ranges.unwrap())), expect);
    };
    check(inclusion(0, 1), &[]);
    check(
        inclusion(5, 8),
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
    check(inclusion(2, 3), &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]);
    check(
        consistency(6, 8),
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
    check(consistency(1, 1), &[]);
}

#[test]
fn each_proof_of_small_trees_is_that_of_the_definition_and_holds() {
    let leaves = some(70);
    for size in 1..=leaves.len() {
        let (tree, wide) = (&leaves[..size], size as u64);
        let root = mth(tree);
        for (leaf, bytes) in tree.iter().enumerate() {
            let proof = hashed(tree, inclusion(leaf as u64, wide).unwrap());
            assert_eq!(proof, path(leaf, tree), "leaf {leaf} of {size}");
            let hash = leaf_hash(bytes);
            assert_eq!(root_of_inclusion(leaf as u64, wide, &hash, &proof), Some(root), "leaf {leaf} of {size}");
        }
        for first in 1..=size {
            let proof = hashed(tree, consistency(first as u64, wide).unwrap());
            assert_eq!(proof, subproof(first, tree, true), "{first} in {size}");
            assert!(is_consistent((first as u64, &mth(&leaves[..first])), (wide, &root), &proof), "{first} in {size}");
        }
        assert!(is_consistent((0, &empty_root()), (wide, &root), &hashed(tree, consistency(0, wide).unwrap())));
        assert_eq!((inclusion(wide, wide), consistency(wide + 1, wide)), (None, None));
    }
}

proptest! {
    /// A run of whole subtrees of any heights is the run of their leaves.
    #[test]
    fn subtrees_stand_for_their_leaves(size in 1_usize..600, height in 0_u32..6) {
        let leaves = some(size);
        let (mut run, width) = (Run::default(), 1 << height);
        for block in leaves.chunks(width) {
            if block.len() == width {
                run.push(height, mth(block));
            } else {
                block.iter().for_each(|leaf| run.push_leaf(leaf_hash(leaf)));
            }
        }
        prop_assert_eq!(run.root(), mth(&leaves));
    }

    /// A proof with anything changed, left out or added holds for nothing.
    #[test]
    fn no_other_proof_holds(size in 2_usize..130, leaf in 0_usize..130, first in 1_usize..130, at in 0_usize..10, how in 0..4) {
        let leaves = some(size);
        let (leaf, first, wide) = (leaf % size, first % size, size as u64);
        let root = mth(&leaves);
        let spoilt = |proof: &[Hash]| {
            let mut spoilt = proof.to_vec();
            match how {
                0 => drop(spoilt.pop()),
                1 => spoilt.push(root),
                2 if !spoilt.is_empty() => {
                    let at = at % spoilt.len();
                    spoilt[at].0[at] ^= 1;
                }
                _ => spoilt.reverse(),
            }
            (spoilt != proof).then_some(spoilt)
        };
        let proof = path(leaf, &leaves);
        if let Some(spoilt) = spoilt(&proof) {
            prop_assert_ne!(root_of_inclusion(leaf as u64, wide, &leaf_hash(&leaves[leaf]), &spoilt), Some(root));
        }
        prop_assert_ne!(root_of_inclusion(leaf as u64, wide, &leaf_hash(b"another"), &proof), Some(root));
        let before = (first as u64, &mth(&leaves[..first]));
        let proof = if first == 0 { Vec::new() } else { subproof(first, &leaves, true) };
        if let Some(spoilt) = spoilt(&proof) {
            prop_assert!(!is_consistent(before, (wide, &root), &spoilt));
        }
        if first > 0 {
            prop_assert!(!is_consistent((before.0, &leaf_hash(b"another")), (wide, &root), &proof));
            prop_assert!(!is_consistent(before, (wide, &leaf_hash(b"another")), &proof));
        }
    }

    /// Whatever is asked of the verifiers and planners, they answer.
    #[test]
    fn no_numbers_make_it_fail(a in any::<u64>(), b in any::<u64>(), hashes in 0_usize..70) {
        let path = vec![leaf_hash(b""); hashes];
        let _ = (inclusion(a, b), consistency(a, b), root_of_inclusion(a, b, &leaf_hash(b""), &path));
        let _ = is_consistent((a, &empty_root()), (b, &empty_root()), &path);
        prop_assert!(inclusion(a, b).is_none_or(|path| path.len() <= 64));
        prop_assert!(consistency(a, b).is_none_or(|path| path.len() <= 65));
    }
}
