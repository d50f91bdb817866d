//! The second step: names, types and options resolved, by protox's parser and prost-reflect's pool.
//!
//! Both are written by others and read what anybody uploads, so that each call of them is [`caught`]: a panic of theirs
//! refuses the contract and harms nobody else. Their errors become problems with a place and a remedy.

use super::{
    SourceFile,
    places::{self, Places},
    refusals::Refusals,
    sources::Parsed,
};
use crate::{names, options, problem::Problems};
use miette::Diagnostic;
use prost_reflect::{DescriptorError, DescriptorPool};
use prost_types::FileDescriptorProto;
use protox::file::{File, FileResolver, GoogleFileResolver};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Placing an error takes a walk through its file: where there are more, only the first has a place.
const MAX_PLACED: usize = 500;

const VALIDATE_PATH: &str = "buf/validate/validate.proto";

/// Field number of `FileDescriptorProto.dependency`.
const DEPENDENCY: i32 = 3;

/// Files that know each other.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) pool: DescriptorPool,
    /// The module's own files, by path.
    pub(super) files: Vec<String>,
    pub(super) places: Places,
}

/// Whether an import of this path is answered by the server itself.
pub(super) fn is_embedded(path: &str) -> bool {
    path == options::POLICY_PATH || path == VALIDATE_PATH || GoogleFileResolver::new().open_file(path).is_ok()
}

/// Resolves the names and options of the files and of what they import.
pub(super) fn link(files: Vec<Parsed>) -> Result<Compiled, Problems> {
    let mut refusals = Refusals::default();
    let files: BTreeMap<String, Parsed> =
        files.into_iter().map(|file| (file.descriptor.name().to_owned(), file)).collect();
    for file in files.values() {
        check_imports(file, &files, &mut refusals);
    }
    let order = in_order_of_imports(&files, &mut refusals);
    refusals.none()?;

    let mut pool = DescriptorPool::new();
    let mut places = Places::default();
    let mut failed = BTreeSet::new();
    for path in order {
        let Some(file) = files.get(path) else { continue };
        let imports = &file.descriptor.dependency;
        if imports.iter().any(|import| failed.contains(import)) || refusals.is_full() {
            failed.insert(path.to_owned());
            continue;
        }
        for import in imports.iter().filter(|import| !files.contains_key(*import)) {
            add_embedded(&mut pool, import, &mut refusals);
        }
        match caught(|| pool.add_file_descriptor_proto(file.descriptor.clone())) {
            Ok(Ok(())) => {
                let linked = pool.get_file_by_name(path);
                linked.iter().for_each(|linked| places.insert(linked.file_descriptor_proto(), &file.text));
            }
            Ok(Err(error)) => {
                let known = KnownNames::at(&file.descriptor, &pool);
                explain_link(error, file, &known, &mut refusals);
                failed.insert(path.to_owned());
            }
            Err(crashed) => {
                // The pool may be half changed: nothing more is read with it.
                refusals.add(&places::whole_file(path), crashed.what(), crashed.instead());
                break;
            }
        }
    }
    refusals.none()?;
    Ok(Compiled { pool, files: files.into_keys().collect(), places })
}

fn check_imports(file: &Parsed, files: &BTreeMap<String, Parsed>, refusals: &mut Refusals) {
    let mut seen = BTreeSet::new();
    for (index, import) in (0_i32..).zip(&file.descriptor.dependency) {
        let place = || file.place(&[DEPENDENCY, index]);
        if !seen.insert(import) {
            refusals.add(&place(), format!("`{import}` is imported twice"), "import it once");
        } else if !files.contains_key(import) && !is_embedded(import) {
            let ours = [options::POLICY_PATH, VALIDATE_PATH];
            let known = files.keys().map(String::as_str).chain(ours);
            let nearest = if refusals.is_full() { None } else { names::nearest(import, known) };
            let instead = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!(
                    "bring the file; only google/protobuf/*, {VALIDATE_PATH} and {} are always there",
                    options::POLICY_PATH
                ),
            };
            refusals.add(&place(), format!("there is no file `{import}` to import"), instead);
        }
    }
}

/// The module's files, imported before importing; files in a circle are refused.
fn in_order_of_imports<'a>(files: &'a BTreeMap<String, Parsed>, refusals: &mut Refusals) -> Vec<&'a str> {
    let mut order: Vec<&str> = Vec::new();
    let mut waiting: BTreeMap<&str, &Parsed> = files.iter().map(|(path, file)| (path.as_str(), file)).collect();
    loop {
        let free =
            |file: &Parsed| !file.descriptor.dependency.iter().any(|import| waiting.contains_key(import.as_str()));
        let ready: Vec<&str> = waiting.iter().filter(|(_, file)| free(file)).map(|(path, _)| *path).collect();
        if ready.is_empty() {
            break;
        }
        waiting.retain(|path, _| !ready.contains(path));
        order.extend(ready);
    }
    for file in waiting.values() {
        let imports = (0_i32..).zip(&file.descriptor.dependency);
        for (index, import) in imports.filter(|(_, import)| waiting.contains_key(import.as_str())) {
            let what = format!("importing `{import}` leads in a circle");
            refusals.add(&file.place(&[DEPENDENCY, index]), what, "move what both files need into a third");
        }
    }
    order
}

/// Adds one of the server's own files and what it imports.
fn add_embedded(pool: &mut DescriptorPool, path: &str, refusals: &mut Refusals) {
    if pool.get_file_by_name(path).is_some() {
        return;
    }
    let Some(file) = embedded(path) else {
        refusals.add(
            &places::whole_file(path),
            "this embedded file cannot be read",
            "report this to the server's makers",
        );
        return;
    };
    for import in &file.file_descriptor_proto().dependency {
        add_embedded(pool, import, refusals);
    }
    let added = match path {
        // As bytes it keeps the options that stand in it.
        VALIDATE_PATH => validate_bytes().map(|bytes| pool.decode_file_descriptor_proto(bytes.as_slice())),
        _ => Some(pool.add_file_descriptor_proto(file.into())),
    };
    if let Some(Err(error)) = added {
        refusals.add(&places::whole_file(path), error.to_string(), "report this to the server's makers");
    }
}

fn embedded(path: &str) -> Option<File> {
    match path {
        options::POLICY_PATH => File::from_source(path, options::POLICY_TEXT).ok(),
        VALIDATE_PATH => File::decode_file_descriptor_proto(validate_bytes()?.as_slice()).ok(),
        _ => GoogleFileResolver::new().open_file(path).ok(),
    }
}

fn validate_bytes() -> Option<Vec<u8>> {
    let file = prost_protovalidate_types::DESCRIPTOR_POOL.get_file_by_name(VALIDATE_PATH)?;
    Some(file.encode_to_vec())
}

/// A compiler that panicked.
#[derive(Debug)]
pub(super) struct Crashed;

impl Crashed {
    pub(super) fn what(&self) -> &'static str {
        "the compiler broke down on this file"
    }

    pub(super) fn instead(&self) -> &'static str {
        "write it in plain proto3, and report this file to the server's makers"
    }
}

/// Runs foreign code; its panic is an answer like any other. What it was changing must not be used afterwards.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Crashed> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Crashed)
}

fn one_byte_letters(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect()
}

/// Adds what a file's names and options are refused for.
fn explain_link(error: DescriptorError, file: &Parsed, known: &KnownNames, refusals: &mut Refusals) {
    let path = file.descriptor.name();
    let more = error.related().map_or(0, Iterator::count);
    if more > MAX_PLACED {
        let span = [error.line(), error.column()].map(|at| i32::try_from(at.unwrap_or_default()).unwrap_or_default());
        let place = places::at_span(path, &file.text, &span).unwrap_or_else(|| places::whole_file(path));
        let what = error.to_string();
        refusals.add(&place, what.as_str(), remedy(&what, None, known));
        refusals.drop_more(more);
        return;
    }
    // With one byte for each letter, the offsets that come back are those of the text.
    let error = error.with_source_code(&one_byte_letters(&file.text));
    explain(&error, &SourceFile { path: path.to_owned(), text: file.text.clone() }, known, refusals);
}

/// Adds a compiler's error and all that are related to it.
pub(super) fn explain(error: &dyn Diagnostic, source: &SourceFile, known: &KnownNames, refusals: &mut Refusals) {
    explain_one(error, source, known, refusals);
    for related in error.related().into_iter().flatten() {
        explain_one(related, source, known, refusals);
    }
}

fn explain_one(error: &dyn Diagnostic, source: &SourceFile, known: &KnownNames, refusals: &mut Refusals) {
    if refusals.is_full() {
        // Still counted.
        refusals.add(&places::whole_file(&source.path), "", "");
        return;
    }
    let cause = error.diagnostic_source().map(|cause| cause.to_string());
    let mut what = cause.as_ref().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    if let [name, resolved] = *quoted(&what).collect::<Vec<_>>()
        && name == resolved
        && what.contains("resolves to")
    {
        // How a name that is nowhere is told of when its package exists.
        what = format!("name '{name}' is not defined");
    }
    let place = match statement(error) {
        Some((start, length)) => {
            // The span is that of a whole option statement; the word at fault stands somewhere in it.
            let statement = source.text.get(start..start.saturating_add(length)).unwrap_or_default();
            let word = cause.as_deref().and_then(|cause| quoted(cause).nth_back(1));
            let within = word.and_then(|word| position_of(word, statement)).unwrap_or(0);
            places::at_offset(&source.path, &source.text, start + within)
        }
        None if what.contains("end of file") => {
            places::at_offset(&source.path, &source.text, source.text.trim_end().len())
        }
        None => places::whole_file(&source.path),
    };
    let instead = remedy(&what, error.help().map(|help| help.to_string()), known);
    refusals.add(&place, what, instead);
}

/// Offset and length of what the error is about. Of two labels, the second of its kind is the one at fault.
fn statement(error: &dyn Diagnostic) -> Option<(usize, usize)> {
    let labels: Vec<_> = error.labels().into_iter().flatten().collect();
    let found = labels.iter().find(|label| label.label().is_some_and(|text| text.contains("found")));
    found.or(labels.last()).map(|label| (label.offset(), label.len()))
}

/// The words between single quotes.
fn quoted(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    let parts: Vec<&str> = text.split('\'').collect();
    parts.into_iter().enumerate().filter(|(index, _)| index % 2 == 1).map(|(_, part)| part)
}

/// Where a whole word stands in a text.
fn position_of(word: &str, text: &str) -> Option<usize> {
    let in_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(in_word) && !after.is_some_and(in_word)
    })
}

/// What to write instead, from what the compilers say. They say no more than the fault, so it is told by its words.
fn remedy(what: &str, help: Option<String>, known: &KnownNames) -> String {
    const REMEDIES: &[(&str, &str)] = &[
        ("expected ", "write what is expected here"),
        ("end of file", "close what is open"),
        ("which is not defined", "begin the name with a dot if you mean the whole of it, and import its file"),
        ("is not defined", "define it, or import the file that defines it"),
        ("is defined twice", "give one of them another name"),
        ("is already defined", "give one of them another name"),
        ("conflicts with field", "give one of them another name"),
        ("is already used", "use a number of its own"),
        ("has already been used", "use a number of its own"),
        ("reserved range", "use a number that is not reserved"),
        ("must be 0", "begin the enum with a value of number 0, such as `…_UNSPECIFIED = 0;`"),
        ("already", "set it once"),
        ("not supported", "leave it out"),
        ("not allowed", "leave it out"),
    ];
    if let Some(meant) = known.meant(what) {
        return meant;
    }
    let by_words = || REMEDIES.iter().find(|(words, _)| what.contains(words)).map(|(_, remedy)| (*remedy).to_owned());
    help.or_else(by_words).unwrap_or_else(|| "write it as the proto3 language guide says".to_owned())
}

/// The names that an author may have meant.
#[derive(Default)]
pub(super) struct KnownNames {
    pool: DescriptorPool,
    names: Vec<String>,
}

impl KnownNames {
    fn at(file: &FileDescriptorProto, pool: &DescriptorPool) -> Self {
        let own = file.message_type.iter().map(|message| message.name().to_owned());
        let enums = file.enum_type.iter().map(|values| values.name().to_owned());
        let extensions = pool.all_extensions().map(|extension| extension.full_name().to_owned());
        let imported =
            pool.all_messages().flat_map(|message| [message.name().to_owned(), message.full_name().to_owned()]);
        Self { pool: pool.clone(), names: own.chain(enums).chain(extensions).chain(imported).collect() }
    }

    /// For a name that is not there, or that a message or enum does not have: the nearest, or all that it has.
    fn meant(&self, what: &str) -> Option<String> {
        if what.ends_with("is not defined") {
            let nearest = names::nearest(quoted(what).next()?, self.names.iter().map(String::as_str))?;
            return Some(format!("did you mean `{nearest}`?"));
        }
        let mut quoted = quoted(what).rev();
        let (container, name) = (quoted.next()?, quoted.next()?);
        let has: Vec<String> = match (self.pool.get_message_by_name(container), self.pool.get_enum_by_name(container)) {
            (Some(message), _) => message.fields().map(|field| field.name().to_owned()).collect(),
            (None, Some(values)) => {
                let named = values.values().filter(|value| value.number() != 0);
                named.map(|value| value.name().to_owned()).collect()
            }
            (None, None) => return None,
        };
        let nearest = names::nearest(name, has.iter().map(String::as_str));
        Some(
            nearest
                .map_or_else(|| format!("write one of {}", has.join(", ")), |name| format!("did you mean `{name}`?")),
        )
    }
}
