//! `sys check`: a contract judged offline, exactly as a server judges it when it loads.

use crate::{failure::Failure, output, plain};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use sys_contract::{
    Origin, SourceFile, breaking_changes,
    load::{MAX_FILE_BYTES, MAX_FILES},
    model::Contract,
    problem::Problems,
    weakened,
};
use sys_policy::Rules;

/// What is asked of a check.
#[derive(Debug, Default)]
pub(crate) struct Check {
    /// The contract's files.
    pub(crate) files: Vec<PathBuf>,
    /// Those of its version before, if it is held against one.
    pub(crate) against: Vec<PathBuf>,
    /// What protects less than before is meant.
    pub(crate) accept_weaker: bool,
}

/// Loads the files and what they import beside them; the matrix of who may do what.
pub(crate) fn matrix(check: &Check) -> Result<String, Failure> {
    let contract = contract(&check.files)?;
    if !check.against.is_empty() {
        let before = self::contract(&check.against)?;
        let mut problems = breaking_changes(&before, &contract);
        let weaker = weakened(&before, &contract);
        if check.accept_weaker {
            weaker.iter().for_each(|problem| output::note(&format!("accepted: {}", plain::line(&problem.what))));
        } else {
            problems.extend(weaker);
        }
        if !problems.is_empty() {
            problems.sort();
            return Err(Problems(problems).into());
        }
    }
    let rules = Rules::compile(&contract)?;
    Ok(sys_policy::matrix(&[(&contract, &rules)]))
}

fn contract(files: &[PathBuf]) -> Result<Contract, Failure> {
    let sources = Sources::read(files)?;
    // The project's own contracts live under `sys/`; everybody else's are judged as a server judges an upload.
    let ours = sources.files.keys().any(|path| path.starts_with("sys/"));
    let origin = if ours { Origin::BuiltIn } else { Origin::Uploaded };
    let files: Vec<SourceFile> = sources.files.into_iter().map(|(path, text)| SourceFile { path, text }).collect();
    Ok(sys_contract::load(&sources.module, origin, &files)?)
}

/// The texts of a contract, by the path that imports know them under.
struct Sources {
    module: String,
    files: BTreeMap<String, String>,
}

impl Sources {
    fn read(given: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Self { module: "contract".to_owned(), files: BTreeMap::new() };
        let mut roots: Vec<PathBuf> = Vec::new();
        for path in given {
            let text = read(path)?;
            let (root, inside) = placed(path, &text);
            if let Some(name) = root.canonicalize().ok().as_deref().and_then(Path::file_name) {
                sources.module = name.to_string_lossy().into_owned();
            }
            sources.files.insert(inside, text);
            roots.push(root);
        }
        sources.add_imports(&roots)?;
        Ok(sources)
    }

    /// Adds what the files import, where it lies in one of the roots. What does not is for the loader to judge.
    fn add_imports(&mut self, roots: &[PathBuf]) -> Result<(), Failure> {
        let mut open: Vec<String> = self.files.values().flat_map(|text| imports(text)).collect();
        while let Some(import) = open.pop() {
            let found = roots.iter().map(|root| root.join(&import)).find(|path| path.is_file());
            let Some(path) = found.filter(|_| is_inside(&import) && !self.files.contains_key(&import)) else {
                continue;
            };
            if is_embedded(&import) || self.files.len() > MAX_FILES {
                continue;
            }
            let text = read(&path)?;
            open.extend(imports(&text));
            self.files.insert(import, text);
        }
        Ok(())
    }
}

/// One byte more than a contract may have, so that the loader sees that it is too long.
fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    read.map_err(|source| Failure::File { path: path.display().to_string(), source })?;
    Ok(text)
}

/// Where a file's imports begin, and its own path from there: folder = package.
fn placed(path: &Path, text: &str) -> (PathBuf, String) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let package: PathBuf = package(text).split('.').collect();
    let depth = package.components().count();
    // `.` and a relative folder may lie anywhere inside a package's folders.
    let whole = if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.canonicalize();
    let folder = whole.unwrap_or_else(|_| folder.to_path_buf());
    if depth > 0 && folder.ends_with(&package) {
        let root = folder.ancestors().nth(depth).unwrap_or(&folder).to_path_buf();
        let inside = package.join(&name).to_string_lossy().replace('\\', "/");
        return (root, inside);
    }
    (folder, name)
}

/// The text behind `package`. A rough reading is enough: the loader reads the file properly and says what is wrong.
fn package(text: &str) -> &str {
    let found = text.lines().find_map(|line| line.trim().strip_prefix("package ")?.split(';').next());
    found.unwrap_or_default().trim()
}

fn imports(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let rest = line.trim().strip_prefix("import ")?.trim_start();
        let rest = rest.strip_prefix("public ").unwrap_or(rest).trim_start();
        rest.split(['"', '\'']).nth(1).map(str::to_owned)
    };
    text.lines().filter_map(named).collect()
}

/// An import names a file below a root and none elsewhere.
fn is_inside(import: &str) -> bool {
    Path::new(import).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Files that come with every server, so that a copy beside a contract is no part of it.
fn is_embedded(import: &str) -> bool {
    import == "sys/policy/v1/policy.proto" || import.starts_with("buf/") || import.starts_with("google/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        directory
    }

    /// A check of these files alone.
    fn of(files: &[PathBuf]) -> Check {
        Check { files: files.to_vec(), ..Check::default() }
    }

    #[test]
    fn a_file_is_known_by_its_package_and_brings_what_it_imports() {
        let directory = tree(&[
            (
                "mod-a/a/v1/a.proto",
                "syntax = \"proto3\";\npackage a.v1;\nimport \"a/v1/b.proto\";\nimport \"../../x.proto\";",
            ),
            (
                "mod-a/a/v1/b.proto",
                "package a.v1;\nimport public \"a/v1/c.proto\";\nimport \"buf/validate/validate.proto\";",
            ),
            ("mod-a/a/v1/c.proto", "package a.v1;\nimport \"a/v1/a.proto\";"),
            ("mod-a/buf/validate/validate.proto", "package buf.validate;"),
            ("x.proto", ""),
        ]);
        let sources = Sources::read(&[directory.path().join("mod-a/a/v1/a.proto")]).expect("read");
        assert_eq!(sources.module, "mod-a");
        let paths: Vec<&String> = sources.files.keys().collect();
        assert_eq!(paths, ["a/v1/a.proto", "a/v1/b.proto", "a/v1/c.proto"]);
    }

    #[test]
    fn a_file_outside_its_package_folder_keeps_its_name() {
        let directory = tree(&[("loose.proto", "package a.v1;"), ("none.proto", "")]);
        for name in ["loose.proto", "none.proto"] {
            let sources = Sources::read(&[directory.path().join(name)]).expect("read");
            assert_eq!(sources.files.keys().collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let Err(failure) = matrix(&of(&["no/such.proto".into()])) else { panic!("there is no such file") };
        assert!(failure.report(None).starts_with("error: cannot read no/such.proto: "), "{}", failure.report(None));
    }

    #[test]
    fn the_notes_contract_passes_and_one_without_rules_is_invalid() {
        let notes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../modules/mod-notes/notes/v1/notes.proto");
        let shown = matrix(&of(&[notes])).expect("the example of the design is sound");
        assert!(shown.contains("notes.v1.NoteService/UpdateNote"), "{shown}");
        let bare = "syntax = \"proto3\";\npackage a.v1;\nimport \"google/protobuf/empty.proto\";\n\
                    service AService { rpc Ping(google.protobuf.Empty) returns (google.protobuf.Empty); }";
        let directory = tree(&[("a/v1/a.proto", bare)]);
        let Err(failure) = matrix(&of(&[directory.path().join("a/v1/a.proto")])) else {
            panic!("a method without a rule passed")
        };
        assert_eq!(failure.exit(), crate::exit::Exit::Invalid);
        assert!(failure.report(None).contains("a/v1/a.proto:4:"), "{}", failure.report(None));
    }
}
