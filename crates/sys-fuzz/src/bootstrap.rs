//! The bootstrap file of the earlier system.

use crate::input::text;
use std::collections::BTreeSet;
use sys_account::bootstrap::file::{BootstrapFile, read};

/// A file is read whole, with each name once and each reference to something in it, or it is told line by line why not.
pub(crate) fn file(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let read_once = read(text);
    match &read_once {
        Ok(file) => is_whole(file),
        Err(problems) => {
            // YAML counts a lone carriage return, too.
            let lines = text.matches(['\n', '\r']).count() + 1;
            assert!(!problems.is_empty(), "a refusal says nothing");
            assert!(problems.iter().is_sorted_by_key(|problem| problem.line), "{problems:?}");
            for problem in problems {
                assert!((1..=lines).contains(&problem.line), "line {} of {lines}", problem.line);
                let shown = problem.to_string();
                assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?} reaches a terminal");
            }
        }
    }
    assert_eq!(format!("{:?}", read(text)), format!("{read_once:?}"), "a file is read in one way");
}

fn is_whole(file: &BootstrapFile) {
    let orgs = unique(file.orgs.iter().map(|org| org.name.value.as_str()).collect(), "an org");
    let projects = unique(file.projects.iter().map(|project| project.name.value.as_str()).collect(), "a project");
    unique(file.users.iter().map(|user| user.email.value.as_str()).collect(), "an account");
    for project in &file.projects {
        assert!(orgs.contains(project.org_name.value.as_str()), "a project of no org: {project:?}");
    }
    for binding in file.users.iter().flat_map(|user| &user.bindings) {
        assert!(orgs.contains(binding.org_name.as_str()), "a role in no org: {binding:?}");
        assert!(binding.project_name.as_deref().is_none_or(|name| projects.contains(name)), "{binding:?}");
    }
}

/// The names as a set, if none of them stands twice.
fn unique<'a>(names: Vec<&'a str>, what: &str) -> BTreeSet<&'a str> {
    let set: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(set.len(), names.len(), "{what} twice: {names:?}");
    set
}
