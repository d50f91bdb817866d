//! Every file of the corpus, and a few thousand changes of them, through the target that they are of.
//!
//! What a fuzz run has found stands in the corpus, so that this test is where each find is kept. The changes are made from a
//! seed: a failure names the file and the round, and comes again.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken expectation fails the test"
)]

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};
use sys_fuzz::{TARGETS, Target};

/// Bytes of the whole corpus: more belongs on the machine that fuzzes.
const MAX_CORPUS_BYTES: u64 = 2 * 1024 * 1024;
/// Changed inputs for each target: some seconds in all, in a build without optimisation. The variable asks for more.
const CHANGED_INPUTS: usize = 400;
const CHANGED_INPUTS_VARIABLE: &str = "SYS_FUZZ_INPUTS";
/// Longest input that is changed.
const MAX_CHANGED_BYTES: usize = 2048;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The inputs of a target, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

/// Runs targets and remembers the inputs that they fail on, so that one run names all of them.
#[derive(Default)]
struct Runs {
    failed: Vec<String>,
}

impl Runs {
    fn run(&mut self, target: &Target, name: &str, input: &[u8]) {
        if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
            self.failed.push(format!("{} fails on {name}: \"{}\"", target.name, input.escape_ascii()));
        }
    }

    fn end(self) {
        assert!(self.failed.is_empty(), "{}", self.failed.join("\n"));
    }
}

#[test]
fn no_target_fails_on_its_corpus() {
    let mut runs = Runs::default();
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() > 1, "{} has no corpus", target.name);
        inputs.iter().for_each(|(name, input)| runs.run(target, name, input));
        runs.run(target, "nothing", b"");
    }
    runs.end();
}

#[test]
fn no_target_fails_on_a_changed_input() {
    let asked = env::var(CHANGED_INPUTS_VARIABLE).map(|number| number.parse().expect("a number"));
    let mut runs = Runs::default();
    for target in TARGETS {
        let inputs: Vec<_> = corpus(target).into_iter().filter(|(_, input)| input.len() <= MAX_CHANGED_BYTES).collect();
        let mut random = Random(0x5eed);
        for round in 0..asked.clone().unwrap_or(CHANGED_INPUTS) {
            let (name, input) = &inputs[round % inputs.len()];
            let (_, other) = &inputs[random.below(inputs.len())];
            runs.run(target, &format!("{name}, changed in round {round}"), &changed(input, other, &mut random));
        }
    }
    runs.end();
}

/// A few bytes of `input` flipped, cut out, doubled, or taken from another input.
fn changed(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(16)).min(bytes.len());
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            3 => {
                let from = random.below(other.len() + 1);
                bytes.splice(at..end, other[from..(from + 24).min(other.len())].iter().copied());
            }
            _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
        }
    }
    bytes
}

/// xorshift64 (Marsaglia 2003): the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }
}

#[test]
fn the_corpus_is_small_and_every_target_is_listed() {
    let readme = fs::read_to_string(fuzz().join("README.md")).unwrap();
    let mut bytes = 0;
    for target in TARGETS {
        assert!(readme.contains(&format!("| `{}` |", target.name)), "{} is not in fuzz/README.md", target.name);
        bytes += corpus(target).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "the corpus has {bytes} bytes: minimise it, as fuzz/README.md says");
    for entry in fs::read_dir(fuzz().join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(sys_fuzz::target(&name).is_some(), "fuzz/corpus/{name} is of no target");
    }
    assert!(TARGETS.is_sorted_by_key(|target| target.name));
}
