//! An organisation brought in from a file: its orgs, projects, accounts and who does what in them.
//!
//! [`file`] reads the file, [`prepare`] does the dear work, and [`import`] writes all of it in one transaction of the server
//! itself, or nothing. Accounts come in verified, managed by the org of their first role, with what they hold accepted; whoever
//! made an org or project is no account by that, and is invited as its admin. Importing again makes nothing twice, and nothing
//! anew that people have taken away since: what was imported once is remembered, whatever became of it.

pub mod accounts;
pub mod file;
pub mod orgs;

use crate::{
    mail, module,
    wire::{Account, Org, Project},
};
use file::{BootstrapBinding, BootstrapFile, BootstrapUser, Located};
use std::{collections::BTreeMap, fmt};
use sys_contract::{
    id::{AccountId, OrgId, ProjectId},
    model::Role,
};
use sys_core::Entropy;
use sys_core::{
    identity::{Email, Identity, Importer, Scope},
    outbox::Effect,
    password::{Password, StoredPassword},
    refusal::Refusal,
};
use zeroize::Zeroizing;

/// Letters of a password that is drawn: 20 of 32 different ones, 100 bits.
const DRAWN_CHARS: usize = 20;
/// Crockford's base32 alphabet in lower case: no letter that is easily taken for another.
const DRAWN_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A file that is ready to be imported: its passwords are hashed, and those that it lacks are drawn.
pub struct Prepared {
    file: BootstrapFile,
    /// INVARIANT: one for each user of the file, in its order.
    passwords: Vec<PreparedPassword>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("users", &self.passwords.len()).finish_non_exhaustive()
    }
}

struct PreparedPassword {
    stored: StoredPassword,
    /// In clear, where it was drawn.
    drawn: Option<Zeroizing<String>>,
}

/// What an import came to.
#[derive(Default)]
pub struct Imported {
    /// Orgs that were made.
    pub orgs: usize,
    /// Projects that were made.
    pub projects: usize,
    /// Accounts that were made.
    pub accounts: usize,
    /// Roles that were given.
    pub bindings: usize,
    /// Invitations that were sent.
    pub invitations: usize,
    /// What had been imported before.
    pub already_there: usize,
    /// What the file says and nobody took, in sentences.
    pub skipped: Vec<String>,
    /// Projects of which another part of the file names another org, in sentences.
    pub mismatches: Vec<String>,
    /// The passwords that were drawn for accounts that were made: address and password. For a file that only the operator
    /// reads.
    pub drawn_passwords: Vec<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported")
            .field("orgs", &self.orgs)
            .field("projects", &self.projects)
            .field("accounts", &self.accounts)
            .field("bindings", &self.bindings)
            .field("invitations", &self.invitations)
            .field("already_there", &self.already_there)
            .finish_non_exhaustive()
    }
}

/// Hashes the passwords of a file, and draws those that it lacks. Takes a while, so that it comes before the transaction;
/// `hashed` is called after each.
pub async fn prepare(
    file: BootstrapFile,
    identity: &Identity,
    entropy: &dyn Entropy,
    hashed: impl Fn(),
) -> Result<Prepared, Refusal> {
    let mut passwords = Vec::with_capacity(file.users.len());
    for user in &file.users {
        let (password, drawn) = match &user.password {
            Some(Located { value, .. }) => (value.clone(), None),
            None => {
                let drawn = draw_password(entropy);
                (Password::to_check(drawn.to_string()), Some(drawn))
            }
        };
        passwords.push(PreparedPassword { stored: identity.danger_hash(password).await?, drawn });
        hashed();
    }
    Ok(Prepared { file, passwords })
}

/// Writes what a file brings. The transaction of `importer` is still to be committed by whoever began it.
pub async fn import(mut importer: Importer<'_>, prepared: &Prepared, server: &str) -> Result<Imported, Refusal> {
    let mut import = Import {
        importer: &mut importer,
        server,
        done: Imported::default(),
        orgs: BTreeMap::new(),
        projects: BTreeMap::new(),
    };
    import.orgs(&prepared.file).await?;
    import.projects(&prepared.file).await?;
    for (user, password) in prepared.file.users.iter().zip(&prepared.passwords) {
        import.user(user, password).await?;
    }
    let mut done = import.done;
    done.skipped.extend(prepared.file.skipped.iter().map(|skipped| {
        format!("{} ({}, first in line {}): {}", skipped.what, skipped.count, skipped.first_line, skipped.why)
    }));
    importer.finish().await?;
    Ok(done)
}

/// Somebody of a file, and a project that he may write into today.
#[derive(Debug)]
pub struct Somebody<'f> {
    /// As the file has him.
    pub user: &'f BootstrapUser,
    /// The project's org.
    pub org: OrgId,
    /// The project.
    pub project: ProjectId,
}

/// The first of the file's accounts that holds USER or more in one of its projects, for whoever tries the server out.
pub async fn somebody<'f>(
    importer: &mut Importer<'_>,
    file: &'f BootstrapFile,
) -> Result<Option<Somebody<'f>>, Refusal> {
    for user in &file.users {
        for binding in &user.bindings {
            let Some(project) = &binding.project_name else { continue };
            let org = importer.imported(&org_key(&binding.org_name)).await?.map(OrgId::from_record);
            let project = importer.imported(&project_key(project)).await?.map(ProjectId::from_record);
            let (Some(org), Some(project)) = (org, project) else { continue };
            let Some((account, _)) = importer.account_of(&Email::from(&user.email.value), org).await? else { continue };
            let held = importer.held(account, Scope::Project(org, project)).await?;
            if held.is_some_and(|held| held.role >= Role::User && !held.suspended) {
                return Ok(Some(Somebody { user, org, project }));
            }
        }
    }
    Ok(None)
}

/// An import that runs. Orgs and projects are known by their names in the file; one that is closed or deleted since an
/// earlier import is known as none.
struct Import<'a, 'b> {
    importer: &'a mut Importer<'b>,
    server: &'a str,
    done: Imported,
    orgs: BTreeMap<String, Option<OrgId>>,
    projects: BTreeMap<String, Option<(OrgId, ProjectId)>>,
}

impl Import<'_, '_> {
    async fn orgs(&mut self, file: &BootstrapFile) -> Result<(), Refusal> {
        for org in &file.orgs {
            let name = &org.name.value;
            let key = org_key(name);
            let id = match self.importer.imported(&key).await? {
                Some(id) => {
                    self.done.already_there += 1;
                    let stored = self.importer.record::<Org>(id).await?;
                    stored.filter(|org| org.closed_at.is_none()).map(|_| OrgId::from_record(id))
                }
                None => {
                    let id = self.importer.new_org_id().await?;
                    let record = Org {
                        name: name.clone(),
                        contact: org.contact.value.as_str().to_owned(),
                        logo: org.logo.as_ref().map(|logo| logo.value.bytes().to_vec()).unwrap_or_default(),
                        created_at: Some(crate::request::timestamp(self.importer.now_unix_s())),
                        ..Org::default()
                    };
                    self.importer.create(id.record(), &record).await?;
                    self.importer.remember(&key, id.record()).await?;
                    self.done.orgs += 1;
                    Some(id)
                }
            };
            self.orgs.insert(name.clone(), id);
            match id {
                Some(id) => self.invite(&Email::from(&org.creator.value), Scope::Org(id), name, None).await?,
                None => {
                    self.done.skipped.push(format!("the org `{name}` (line {}): it was closed since", org.name.line))
                }
            }
        }
        Ok(())
    }

    async fn projects(&mut self, file: &BootstrapFile) -> Result<(), Refusal> {
        for project in &file.projects {
            let (name, org_name) = (&project.name.value, &project.org_name.value);
            if let Some(other) = &project.org_ref_mismatch {
                self.done.mismatches.push(format!(
                    "the project `{name}` (line {}) belongs to `{org_name}`; its details name `{}` (line {})",
                    project.name.line, other.value, other.line
                ));
            }
            let Some(org) = self.orgs.get(org_name).copied().flatten() else {
                self.projects.insert(name.clone(), None);
                self.done.skipped.push(format!("the project `{name}` (line {}): its org is closed", project.name.line));
                continue;
            };
            let key = project_key(name);
            let id = match self.importer.imported(&key).await? {
                Some(id) => {
                    self.done.already_there += 1;
                    let stored = self.importer.record::<Project>(id).await?;
                    // A file that has moved it to another org since does not move its people.
                    stored.filter(|stored| stored.org_id == org.to_string()).map(|_| ProjectId::from_record(id))
                }
                None => {
                    let id = ProjectId::from_record(self.importer.new_id());
                    let record = Project {
                        org_id: org.to_string(),
                        name: name.clone(),
                        logo: project.logo.as_ref().map(|logo| logo.value.bytes().to_vec()).unwrap_or_default(),
                        created_at: Some(crate::request::timestamp(self.importer.now_unix_s())),
                        ..Project::default()
                    };
                    self.importer.create(id.record(), &record).await?;
                    self.importer.remember(&key, id.record()).await?;
                    self.done.projects += 1;
                    Some(id)
                }
            };
            self.projects.insert(name.clone(), id.map(|id| (org, id)));
            match id {
                Some(id) => {
                    let creator = Email::from(&project.creator.value);
                    self.invite(&creator, Scope::Project(org, id), org_name, Some(name)).await?;
                }
                None => self
                    .done
                    .skipped
                    .push(format!("the project `{name}` (line {}): it was deleted since", project.name.line)),
            }
        }
        Ok(())
    }

    async fn user(&mut self, user: &BootstrapUser, password: &PreparedPassword) -> Result<(), Refusal> {
        let scopes: Vec<(&BootstrapBinding, Scope)> =
            user.bindings.iter().filter_map(|binding| Some((binding, self.scope_of(binding)?))).collect();
        let email = Email::from(&user.email.value);
        let Some((_, first)) = scopes.first() else {
            self.done
                .skipped
                .push(format!("an account (line {}): the orgs and projects of its roles are gone", user.email.line));
            return Ok(());
        };
        let account = self.account(user, &email, first.org(), password).await?;
        for (binding, scope) in scopes {
            match account {
                Some(account) => self.bind(account, &email, scope, binding.role).await?,
                // What was given once is not offered again: the account was deleted since.
                None if self.importer.imported(&binding_key(&email, scope)).await?.is_some() => {
                    self.done.already_there += 1
                }
                // An account of somebody's own: its owner decides.
                None => {
                    let project = binding.project_name.as_deref();
                    self.invite_as(&email, scope, binding.role, &binding.org_name, project).await?;
                }
            }
        }
        Ok(())
    }

    /// The account of a user, if the org manages it; `None` stands for one that belongs to its person.
    async fn account(
        &mut self,
        user: &BootstrapUser,
        email: &Email,
        org: OrgId,
        password: &PreparedPassword,
    ) -> Result<Option<AccountId>, Refusal> {
        let key = format!("account/{}", email.as_str());
        if self.importer.imported(&key).await?.is_some() {
            self.done.already_there += 1;
            // Its person or its org may have deleted it; then nobody of this address is known.
            return Ok(self.importer.account_of(email, org).await?.filter(|(_, managed)| *managed).map(|(id, _)| id));
        }
        if let Some((account, managed)) = self.importer.account_of(email, org).await? {
            self.done.already_there += 1;
            return Ok(Some(account).filter(|_| managed));
        }
        let account = self.importer.add_account(email, org, &password.stored, password.drawn.is_none()).await?;
        let record = Account {
            email: email.as_str().to_owned(),
            display_name: display_name(user, email),
            avatar: user.avatar.as_ref().map(|avatar| avatar.value.bytes().to_vec()).unwrap_or_default(),
            managed_by_org_id: org.to_string(),
            verified: true,
            created_at: Some(crate::request::timestamp(self.importer.now_unix_s())),
            ..Account::default()
        };
        self.importer.create(account.record(), &record).await?;
        self.importer.remember(&key, account.record()).await?;
        self.done.accounts += 1;
        if let Some(drawn) = &password.drawn {
            self.done.drawn_passwords.push((email.as_str().to_owned(), drawn.clone()));
        }
        Ok(Some(account))
    }

    /// Gives an account a role, once: what an admin has changed or taken since stays as he left it.
    async fn bind(&mut self, account: AccountId, email: &Email, scope: Scope, role: Role) -> Result<(), Refusal> {
        let key = binding_key(email, scope);
        if self.importer.imported(&key).await?.is_some() || self.importer.held(account, scope).await?.is_some() {
            self.done.already_there += 1;
            return Ok(());
        }
        self.importer.bind(account, scope, role).await?;
        self.importer.remember(&key, account.record()).await?;
        self.done.bindings += 1;
        Ok(())
    }

    async fn invite(&mut self, email: &Email, scope: Scope, org: &str, project: Option<&str>) -> Result<(), Refusal> {
        self.invite_as(email, scope, Role::Admin, org, project).await
    }

    /// Invites the owner of an address, once.
    async fn invite_as(
        &mut self,
        email: &Email,
        scope: Scope,
        role: Role,
        org: &str,
        project: Option<&str>,
    ) -> Result<(), Refusal> {
        let key = format!("invitation/{}/{}", email.as_str(), scope_key(scope));
        if self.importer.imported(&key).await?.is_some() {
            self.done.already_there += 1;
            return Ok(());
        }
        let Some(invited) = self.importer.invite(email, scope, role).await? else {
            self.done.already_there += 1;
            return Ok(());
        };
        self.importer.remember(&key, invited.open.id.record()).await?;
        let role = sys_core::identity::role_number(role).as_str_name();
        let Effect::Mail(mail) = mail::invitation(email, self.server, org, project, role, &invited.token);
        self.importer.mail(mail);
        self.done.invitations += 1;
        Ok(())
    }

    fn scope_of(&self, binding: &BootstrapBinding) -> Option<Scope> {
        match &binding.project_name {
            None => self.orgs.get(&binding.org_name).copied().flatten().map(Scope::Org),
            Some(project) => {
                self.projects.get(project).copied().flatten().map(|(org, project)| Scope::Project(org, project))
            }
        }
    }
}

/// The module whose tables an import writes to.
pub const RECORDS_OF: &str = module::NAME;

/// What an import remembers an org by.
fn org_key(name: &str) -> String {
    format!("org/{name}")
}

/// What an import remembers a project by.
fn project_key(name: &str) -> String {
    format!("project/{name}")
}

fn scope_key(scope: Scope) -> String {
    scope.project().map_or_else(|| scope.org().to_string(), |project| project.to_string())
}

/// What an import remembers a given role by.
fn binding_key(email: &Email, scope: Scope) -> String {
    format!("binding/{}/{}", email.as_str(), scope_key(scope))
}

/// What others see: the name that the file gives, or what stands before the @.
fn display_name(user: &BootstrapUser, email: &Email) -> String {
    let before_at = || email.as_str().split('@').next().unwrap_or_default().to_owned();
    user.name.as_ref().map_or_else(before_at, |name| name.value.clone())
}

fn draw_password(entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut random = Zeroizing::new([0_u8; DRAWN_CHARS]);
    entropy.fill(random.as_mut());
    // 32 letters divide 256 evenly, so that each is as likely as the others.
    let letter = |byte: &u8| DRAWN_ALPHABET.get(usize::from(byte % 32)).copied().map(char::from);
    Zeroizing::new(random.iter().filter_map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys_core::SystemEntropy;

    #[test]
    fn drawn_passwords_are_long_and_different() {
        let entropy = SystemEntropy::default();
        let (one, other) = (draw_password(&entropy), draw_password(&entropy));
        assert_eq!((one.len(), other.len()), (DRAWN_CHARS, DRAWN_CHARS));
        assert_ne!(*one, *other);
    }
}
