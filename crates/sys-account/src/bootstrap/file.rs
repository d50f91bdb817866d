//! The earlier system's bootstrap file, read: an organisation as a YAML text.
//!
//! [`read`] gives all of it or all that is wrong with it, line by line, so that nothing is imported by half. What belongs
//! to the earlier system's campaign module, and every key that nobody knows, is listed as skipped. What must never happen
//! here: I/O, or a write of any kind; the import itself stands in the account module.
//!
//! ```yaml
//! orgs:
//!   main_bootstrap_orgs:
//!     - org: {name: Harbour, contact: office@example.org, creator_id: ines@example.org, logo_upload_bytes: iVBORw0...}
//! projects:
//!   main_bootstrap_projects:
//!     - project: {name: Lights, creator_id: ines@example.org, org_name: Harbour}
//!       projectdetails: {sys_account_org_ref_name: Harbour}   # the campaign module's; read for the mismatch alone
//! regular_users:
//!   main_bootstrap_regular_users:
//!     - newaccounts:
//!         email: ada@example.org
//!         password: long and secret      # may be missing
//!         new_user_roles:
//!           - {role: 2, project_name: Lights}                 # or org_name, for a role in the whole org
//! ```

mod fields;
mod problem;
mod tree;

pub use problem::{Cause, FileProblem, Quoted};

use crate::{email::CanonicalEmail, image::Image};
use fields::{Fields, Notes};
use std::{collections::BTreeMap, fmt};
use sys_contract::model::Role;
use sys_core::password::Password;

/// Largest file in bytes: some thousands of accounts with their pictures.
pub const MAX_FILE_BYTES: usize = 32 * 1024 * 1024;
/// Keys under which the earlier system's campaign module keeps its part of a project or account.
const CAMPAIGN_KEYS: [&str; 3] = ["projectdetails", "surveyschema", "surveyvalue"];

/// Everything that the file says and the account module takes. Names and addresses are unique, and every name that
/// refers to an org or project stands in the same file.
#[derive(Debug)]
pub struct BootstrapFile {
    /// The orgs, in the file's order.
    pub orgs: Vec<BootstrapOrg>,
    /// The projects, in the file's order.
    pub projects: Vec<BootstrapProject>,
    /// The accounts, in the file's order.
    pub users: Vec<BootstrapUser>,
    /// What the file says besides and nobody takes.
    pub skipped: Vec<Skipped>,
}

/// A value and the line on which it stands, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its line.
    pub line: usize,
}

/// An org.
#[derive(Debug)]
pub struct BootstrapOrg {
    /// Its name.
    pub name: Located<String>,
    /// Where the org can be reached.
    pub contact: Located<CanonicalEmail>,
    /// Who made it. No account by that alone.
    pub creator: Located<CanonicalEmail>,
    /// Its logo.
    pub logo: Option<Located<Image>>,
}

/// A project.
#[derive(Debug)]
pub struct BootstrapProject {
    /// Its name.
    pub name: Located<String>,
    /// The org that it belongs to.
    pub org_name: Located<String>,
    /// What `sys_account_org_ref_name` of the campaign module's part says instead, where it differs from `org_name`.
    /// It decides nothing.
    pub org_ref_mismatch: Option<Located<String>>,
    /// Who made it. No account by that alone.
    pub creator: Located<CanonicalEmail>,
    /// Its logo.
    pub logo: Option<Located<Image>>,
}

/// An account.
#[derive(Debug)]
pub struct BootstrapUser {
    /// Its address.
    pub email: Located<CanonicalEmail>,
    /// Its password, where the file brings one.
    pub password: Option<Located<Password>>,
    /// The person's name.
    pub name: Option<Located<String>>,
    /// The person's picture.
    pub avatar: Option<Located<Image>>,
    /// What the account may do where: one or more, each scope once.
    pub bindings: Vec<BootstrapBinding>,
}

/// A role in an org or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapBinding {
    /// GUEST, USER or ADMIN.
    pub role: Role,
    /// The org; of a project's role the project's org.
    pub org_name: String,
    /// The project; without one the role holds in the whole org.
    pub project_name: Option<String>,
    /// Where it stands.
    pub line: usize,
}

/// Keys of one kind that nobody took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Their path, such as `projects.main_bootstrap_projects[].projectdetails`.
    pub what: String,
    /// How many there are.
    pub count: usize,
    /// Why.
    pub why: SkipReason,
    /// The line of the first one.
    pub first_line: usize,
}

/// Why keys are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The key belongs to the earlier system's campaign module.
    CampaignModule,
    /// Nobody knows the key.
    UnknownKey,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CampaignModule => "belongs to the campaign module, which is not loaded",
            Self::UnknownKey => "no part of this format",
        })
    }
}

/// Reads a bootstrap file whole, or says all that is wrong with it in the order of its lines.
pub fn read(text: &str) -> Result<BootstrapFile, Vec<FileProblem>> {
    if text.len() > MAX_FILE_BYTES {
        let cause = Cause::TooLarge { size_bytes: text.len(), max_bytes: MAX_FILE_BYTES };
        return Err(vec![FileProblem { line: 1, path: problem::FILE.to_owned(), cause }]);
    }
    let mut reader = Reader::default();
    let (mut orgs, mut projects, mut users) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(mut root) = reader.notes.root(text) {
        // In this order whatever the file's: a project names an org, and an account's role either of them.
        orgs = reader.section(&mut root, "orgs", "main_bootstrap_orgs", Reader::org);
        projects = reader.section(&mut root, "projects", "main_bootstrap_projects", Reader::project);
        users = reader.section(&mut root, "regular_users", "main_bootstrap_regular_users", Reader::user);
        reader.notes.skip_rest(root);
    }
    let skipped = reader.notes.finish()?;
    Ok(BootstrapFile { orgs, projects, users, skipped })
}

/// What is known so far. Names of things that have a fault elsewhere are known, too, so that one fault is told once.
#[derive(Default)]
struct Reader {
    notes: Notes,
    /// The names of orgs and their lines.
    orgs: BTreeMap<String, usize>,
    /// The names of projects and their lines.
    projects: BTreeMap<String, usize>,
    /// The names of the projects whose org is known, and that org's.
    project_orgs: BTreeMap<String, String>,
    /// The addresses of accounts and their lines.
    emails: BTreeMap<CanonicalEmail, usize>,
}

impl Reader {
    /// The items of one of the three lists.
    fn section<T>(
        &mut self,
        root: &mut Fields,
        section: &str,
        list: &str,
        read_item: impl Fn(&mut Self, &mut Fields) -> Option<T>,
    ) -> Vec<T> {
        let Some(mut fields) = root.mapping(section, &mut self.notes) else { return Vec::new() };
        let (items, path) = fields.list(list, &mut self.notes).unwrap_or_default();
        self.notes.skip_rest(fields);
        let mut read = Vec::new();
        for item in items {
            let Some(mut fields) = self.notes.mapping(item, &path) else { continue };
            read.extend(read_item(self, &mut fields));
            self.notes.skip_rest(fields);
        }
        read
    }

    fn org(&mut self, item: &mut Fields) -> Option<BootstrapOrg> {
        let mut fields = item.mapping("org", &mut self.notes)?;
        let notes = &mut self.notes;
        let name = fields.name("name", notes);
        let contact = fields.email("contact", notes);
        let creator = fields.email("creator_id", notes);
        let logo = fields.optional_image("logo_upload_bytes", notes);
        if let Some(Located { value, line }) = &name {
            notes.once(&mut self.orgs, value.clone(), *line, || (fields.path_of("name"), Quoted::of(value)));
        }
        notes.skip_rest(fields);
        Some(BootstrapOrg { name: name?, contact: contact?, creator: creator?, logo })
    }

    fn project(&mut self, item: &mut Fields) -> Option<BootstrapProject> {
        // Read where it stands: the rest of the campaign module's part is reported as skipped with it.
        let org_ref = item.peek_text(&["projectdetails", "sys_account_org_ref_name"]);
        let mut fields = item.mapping("project", &mut self.notes)?;
        let notes = &mut self.notes;
        let name = fields.name("name", notes);
        let creator = fields.email("creator_id", notes);
        let logo = fields.optional_image("logo_upload_bytes", notes);
        let org_name = fields.name("org_name", notes).filter(|org| {
            let known = self.orgs.contains_key(&org.value);
            if !known {
                notes.add(org.line, fields.path_of("org_name"), Cause::UnknownOrg { name: Quoted::of(&org.value) });
            }
            known
        });
        if let Some(Located { value, line }) = &name {
            // Two orgs may each have a project of this name, but a role names its project by this name alone.
            if notes.once(&mut self.projects, value.clone(), *line, || (fields.path_of("name"), Quoted::of(value))) {
                self.project_orgs.extend(org_name.iter().map(|org| (value.clone(), org.value.clone())));
            }
        }
        notes.skip_rest(fields);
        let org_name = org_name?;
        let org_ref_mismatch = org_ref.filter(|org_ref| org_ref.value != org_name.value);
        Some(BootstrapProject { name: name?, org_name, org_ref_mismatch, creator: creator?, logo })
    }

    fn user(&mut self, item: &mut Fields) -> Option<BootstrapUser> {
        let mut fields = item.mapping("newaccounts", &mut self.notes)?;
        let notes = &mut self.notes;
        let email = fields.email("email", notes);
        let password = fields.optional_password("password", notes);
        let name = fields.optional_name("name", notes);
        let avatar = fields.optional_image("avatar_upload_bytes", notes);
        if let Some(Located { value, line }) = &email {
            let at = || (fields.path_of("email"), Quoted::of(value.as_str()));
            notes.once(&mut self.emails, value.clone(), *line, at);
        }
        let bindings = self.bindings(&mut fields);
        self.notes.skip_rest(fields);
        Some(BootstrapUser { email: email?, password, name, avatar, bindings })
    }

    /// The roles of an account: at least one, for every imported account is managed by the org that it came with.
    fn bindings(&mut self, fields: &mut Fields) -> Vec<BootstrapBinding> {
        let line = fields.line_of("new_user_roles");
        let Some((items, path)) = fields.list("new_user_roles", &mut self.notes) else { return Vec::new() };
        if items.is_empty() {
            self.notes.add(line, fields.path_of("new_user_roles"), Cause::Missing { expected: "at least one role" });
        }
        let mut scopes = BTreeMap::new();
        let mut bindings = Vec::new();
        for item in items {
            let Some(mut fields) = self.notes.mapping(item, &path) else { continue };
            let binding = self.binding(&mut fields);
            self.notes.skip_rest(fields);
            let Some(binding) = binding else { continue };
            let scope = (binding.org_name.clone(), binding.project_name.clone());
            let shown = Quoted::of(binding.project_name.as_ref().unwrap_or(&binding.org_name));
            if self.notes.once(&mut scopes, scope, binding.line, || (path.clone(), shown)) {
                bindings.push(binding);
            }
        }
        bindings
    }

    fn binding(&mut self, fields: &mut Fields) -> Option<BootstrapBinding> {
        let line = fields.line;
        let role = self.role(fields);
        let notes = &mut self.notes;
        if !fields.has("project_name") && !fields.has("org_name") {
            notes.add(line, fields.path.clone(), Cause::NoScope);
        }
        let project = fields.optional_name("project_name", notes);
        let org = fields.optional_name("org_name", notes);
        if let Some(org) = org.as_ref().filter(|org| !self.orgs.contains_key(&org.value)) {
            let cause = Cause::UnknownOrg { name: Quoted::of(&org.value) };
            notes.add(org.line, fields.path_of("org_name"), cause);
            return None;
        }
        let (org_name, project_name) = match (project, org) {
            (None, None) => return None,
            (None, Some(org)) => (org.value, None),
            (Some(project), org) => {
                if !self.projects.contains_key(&project.value) {
                    let cause = Cause::UnknownProject { name: Quoted::of(&project.value) };
                    notes.add(project.line, fields.path_of("project_name"), cause);
                    return None;
                }
                let project_org = self.project_orgs.get(&project.value)?;
                if let Some(org) = org.filter(|org| org.value != *project_org) {
                    let cause = Cause::OtherOrg { org: Quoted::of(project_org) };
                    notes.add(org.line, fields.path_of("org_name"), cause);
                    return None;
                }
                (project_org.clone(), Some(project.value))
            }
        };
        Some(BootstrapBinding { role: role?, org_name, project_name, line })
    }

    fn role(&mut self, fields: &mut Fields) -> Option<Role> {
        let number = fields.number("role", &mut self.notes)?;
        let cause = match number.value.as_str() {
            "1" => return Some(Role::Guest),
            "2" => return Some(Role::User),
            "3" => return Some(Role::Admin),
            "4" => Cause::Superadmin,
            other => Cause::UnknownRole { found: Quoted::of(other) },
        };
        self.notes.add(number.line, fields.path_of("role"), cause);
        None
    }
}

#[cfg(test)]
mod tests;
