//! Who there is on both sides: orgs with their projects, an admin for each org, a writer and a guest for each project.

use std::fmt::Write as _;

/// Orgs.
pub const ORGS: usize = 8;
/// Projects of each.
pub const PROJECTS_PER_ORG: usize = 4;
/// Projects of all, and so many writers and guests.
pub const PROJECTS: usize = ORGS * PROJECTS_PER_ORG;
/// The password of all. Of nobody, and good on loopback alone.
pub const PASSWORD: &str = "a passphrase of nobody";

/// Somebody, by the number of what he works in.
#[derive(Debug, Clone, Copy)]
pub enum Person {
    /// ADMIN of an org.
    Admin(usize),
    /// USER of a project.
    Writer(usize),
    /// GUEST of a project.
    Guest(usize),
}

impl Person {
    /// All there are: first the admins, then the writers, then the guests.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ORGS).map(Self::Admin).chain((0..PROJECTS).map(Self::Writer)).chain((0..PROJECTS).map(Self::Guest))
    }

    /// His number in this order.
    pub fn index(self) -> usize {
        match self {
            Self::Admin(org) => org,
            Self::Writer(project) => ORGS + project,
            Self::Guest(project) => ORGS + PROJECTS + project,
        }
    }

    /// His address.
    pub fn email(self) -> String {
        match self {
            Self::Admin(org) => format!("admin-{org}@example.org"),
            Self::Writer(project) => format!("writer-{project}@example.org"),
            Self::Guest(project) => format!("guest-{project}@example.org"),
        }
    }

    /// The org.
    pub fn org(self) -> usize {
        match self {
            Self::Admin(org) => org,
            Self::Writer(project) | Self::Guest(project) => project / PROJECTS_PER_ORG,
        }
    }

    /// The project, and the role there or in the org.
    pub fn holds(self) -> (Option<usize>, i16) {
        match self {
            Self::Admin(_) => (None, 3),
            Self::Writer(project) => (Some(project), 2),
            Self::Guest(project) => (Some(project), 1),
        }
    }
}

/// All of them as a file that our server imports.
pub fn organisation() -> String {
    let mut yaml = "orgs:\n  main_bootstrap_orgs:\n".to_owned();
    for org in 0..ORGS {
        let _ = writeln!(
            yaml,
            "    - org: {{name: Org {org}, contact: office@example.org, creator_id: admin-{org}@example.org}}"
        );
    }
    yaml.push_str("projects:\n  main_bootstrap_projects:\n");
    for project in 0..PROJECTS {
        let org = project / PROJECTS_PER_ORG;
        let named = format!("name: Project {project}, org_name: Org {org}, creator_id: admin-{org}@example.org");
        let _ = writeln!(yaml, "    - project: {{{named}}}");
    }
    yaml.push_str("regular_users:\n  main_bootstrap_regular_users:\n");
    for person in Person::all() {
        let (project, role) = person.holds();
        let place =
            project.map_or_else(|| format!("org_name: Org {}", person.org()), |n| format!("project_name: Project {n}"));
        let _ = writeln!(
            yaml,
            "    - newaccounts: {{email: {}, password: {PASSWORD}, new_user_roles: [{{role: {role}, {place}}}]}}",
            person.email()
        );
    }
    yaml
}
