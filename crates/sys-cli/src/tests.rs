//! What the commands look like, send and show, from the contracts that a server would serve. The contracts take the way
//! of the wire: loaded, encoded, decoded.

mod commands;
mod requests;
mod shown;
mod wide;

use crate::{
    built_in,
    command_tree::Tree,
    request::RequestError,
    secret::{SecretError, Secrets},
};
use clap::Command;
use prost_reflect::{DescriptorPool, SerializeOptions};
use serde_json::Value as Json;
use sys_contract::{
    Origin, SourceFile,
    model::{Contract, Method},
};
use zeroize::Zeroizing;

/// The example of the design.
fn notes() -> Tree {
    let text = include_str!("../../../modules/mod-notes/notes/v1/notes.proto");
    Tree::of(&[served("mod-notes", "notes/v1/notes.proto", text)])
}

/// A contract as a client gets it who may call everything.
fn served(module: &str, path: &str, text: &str) -> DescriptorPool {
    let source = SourceFile { path: path.to_owned(), text: text.to_owned() };
    let contract =
        sys_contract::load(module, Origin::Uploaded, &[source]).unwrap_or_else(|problems| panic!("{problems}"));
    received(&contract, |_| true)
}

/// The descriptors of the methods that `may_call` picks, as they come over the wire.
fn received(contract: &Contract, may_call: impl Fn(&Method) -> bool) -> DescriptorPool {
    let set = contract.select(may_call).expect("a method that may be called");
    sys_client::descriptors::pool(&set).expect("a pool")
}

fn command(tree: &Tree) -> Command {
    tree.command(built_in::command())
}

/// Secrets in the order in which they are asked for; none is left to be typed.
#[derive(Default)]
struct Lines(Vec<&'static str>);

impl Secrets for Lines {
    fn read(&mut self, name: &str, from_stdin: bool) -> Result<Option<Zeroizing<String>>, SecretError> {
        match (from_stdin, self.0.is_empty()) {
            (false, _) => Ok(None),
            (true, true) => Err(SecretError::NoLine { name: name.to_owned() }),
            (true, false) => Ok(Some(Zeroizing::new(self.0.remove(0).to_owned()))),
        }
    }
}

/// What a command line sends, as JSON without default values; or what is said against it.
fn sent(tree: &Tree, words: &[&str]) -> Result<Json, String> {
    sent_with(tree, words, &mut Lines::default())
}

fn sent_with(tree: &Tree, words: &[&str], secrets: &mut Lines) -> Result<Json, String> {
    let words = std::iter::once("sys").chain(words.iter().copied());
    let matches = command(tree).try_get_matches_from(words).map_err(|error| error.to_string())?;
    let (noun, matches) = matches.subcommand().expect("a noun");
    let (verb, matches) = matches.subcommand().expect("a verb");
    let verb = tree.verb(noun, verb).expect("a verb of the tree");
    let request = verb.request(matches, secrets).map_err(|error: RequestError| error.to_string())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    // JSON has no form for some requests, such as a mask with a path that is no name.
    request.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| error.to_string())
}
