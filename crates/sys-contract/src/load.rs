//! The loader: a module's `.proto` texts in, a [`Contract`] out, or every reason why not.
//!
//! A contract loads whole or not at all, and nothing in it is open that no rule opens. It is read in three steps, each
//! of which collects all its problems before the load stops: `sources` (sizes, paths, syntax, packages), `compile`
//! (types and options, by protox and prost-reflect), and the meaning of the options (`records`, `grants`,
//! `methods`, `shapes`, `validations`). Expressions are only carried along; `sys-policy` checks them.
//!
//! What must never happen here: I/O, a panic on any input, or an option that is read over.

mod compile;
mod fields;
mod grants;
mod methods;
mod places;
mod records;
mod refusals;
mod shapes;
mod sources;
#[cfg(test)]
mod tests;
mod validations;

use crate::{
    model::Contract,
    names,
    options::Options,
    problem::{Place, Problems},
};
use compile::Compiled;
pub use methods::{
    DEFAULT_DEADLINE_MS, DEFAULT_REQUEST_BYTES, MAX_CALLS_PER_MINUTE, MAX_DEADLINE_MS, MAX_REQUEST_BYTES,
};
use prost::DecodeError;
use refusals::Refusals;
pub use validations::most_items;

/// A `.proto` file of a module, read by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path inside the module, as `import` names it: `notes/v1/notes.proto`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Where a contract comes from, and so what it may declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Part of this project: may bring files under `sys/` and packages `sys.*`.
    BuiltIn,
    /// Anybody's: `sys/`, `buf/` and `google/` are not theirs.
    Uploaded,
}

/// Most files in a contract.
pub const MAX_FILES: usize = 256;
/// Most bytes in one file: linking takes time in the square of a file's length when all of it is wrong.
pub const MAX_FILE_BYTES: usize = 128 * 1024;
/// Most bytes in all files of a contract.
pub const MAX_SOURCE_BYTES: usize = 1024 * 1024;

/// Reads a module's files into its contract. `sys/policy/v1/policy.proto`, `buf/validate/validate.proto` and
/// `google/protobuf/*` are always at hand; every other import is one of `sources`. Problems come sorted by place.
pub fn load(module: &str, origin: Origin, sources: &[SourceFile]) -> Result<Contract, Problems> {
    let files = sources::read(module, origin, sources)?;
    let compiled = compile::link(files)?;
    let mut reader = Reader {
        built_in: origin == Origin::BuiltIn,
        options: Options::of(&compiled.pool),
        compiled,
        refusals: Refusals::default(),
    };
    let records = records::read(&mut reader);
    let services = methods::read(&mut reader, &records);
    let validations = validations::read(&mut reader);
    reader.refusals.none()?;
    Ok(Contract {
        module: module.to_owned(),
        built_in: reader.built_in,
        pool: reader.compiled.pool,
        files: reader.compiled.files,
        services,
        records: records.loaded,
        validations,
    })
}

/// What the reading of options works on, and the refusals so far.
struct Reader {
    compiled: Compiled,
    options: Options,
    built_in: bool,
    refusals: Refusals,
}

impl Reader {
    fn place(&self, file: &str, path: &[i32]) -> Place {
        self.compiled.places.of(file, path)
    }

    fn refuse(&mut self, place: &Place, what: impl Into<String>, instead: impl Into<String>) {
        self.refusals.add(place, what, instead);
    }

    /// An option's value; one that does not decode is refused, never read over.
    fn decoded<T: Default>(&mut self, value: Result<T, DecodeError>, place: &Place) -> T {
        value.unwrap_or_else(|error| {
            self.refuse(
                place,
                format!("an option here cannot be read: {error}"),
                "write it as policy.proto declares it",
            );
            T::default()
        })
    }

    /// `Did you mean …?`, or what there is. No hints are sought once no more problems are kept.
    fn meant<'a>(&self, name: &str, candidates: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
        let nearest = if self.refusals.is_full() { None } else { names::nearest(name, candidates) };
        nearest.map_or_else(|| otherwise.to_owned(), |nearest| format!("did you mean `{nearest}`?"))
    }
}

/// Whether a package is the project's own.
fn is_sys(package: &str) -> bool {
    is_within(package, "sys")
}

/// Whether `package` is `root` or lies below it.
fn is_within(package: &str, root: &str) -> bool {
    package.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
