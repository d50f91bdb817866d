//! Grants: what may be written in one, by what it stands on.
//!
//! A grant that could be misread is refused: one that names nobody, one that asks for a scope which its record does not
//! have, one that opens an org's records to strangers without saying why.

use super::Reader;
use crate::{
    model::{Grant, Home, Level, Role, Verb},
    options,
    problem::Place,
};
use prost_reflect::FieldDescriptor;

/// What grants stand on: a record, one of its fields, or a method.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) on: On,
    /// Declared in a package `sys.*`.
    pub(super) in_sys: bool,
    /// The record that they are judged on; a method may have none.
    pub(super) scope: Option<&'a Scope>,
    /// Whoever gets in reaches records at home in an org, be it through the module's own rights.
    pub(super) in_org: bool,
}

/// Where grants are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Record,
    Field,
    Method,
}

/// Where a record lives and which fields place it.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) record: String,
    pub(super) home: Home,
    /// As written: a name that no field has is refused once, not again by each grant that asks for it.
    pub(super) names: options::Scope,
    pub(super) org: Option<FieldDescriptor>,
    pub(super) project: Option<FieldDescriptor>,
    pub(super) owner: Option<FieldDescriptor>,
}

/// Reads the grants of one place, each with its own.
pub(super) fn read(
    reader: &mut Reader,
    ground: &Ground<'_>,
    grants: &[options::Grant],
    place: impl Fn(&Reader, i32) -> Place,
) -> Vec<Grant> {
    let numbered = (0_i32..).zip(grants);
    numbered
        .map(|(index, grant)| {
            let place = place(reader, index);
            Reading { reader, ground, grant, place }.read()
        })
        .collect()
}

struct Reading<'a> {
    reader: &'a mut Reader,
    ground: &'a Ground<'a>,
    grant: &'a options::Grant,
    place: Place,
}

impl Reading<'_> {
    /// A grant that is refused is read all the same, so that nothing that it opens seems to be closed.
    fn read(mut self) -> Grant {
        self.check_verbs();
        self.check_who();
        self.check_scope();
        self.check_strangers();
        let verbs = self.grant.verbs.iter().filter_map(|verb| record_verb(*verb)).collect();
        let role = self.role();
        let grant = self.grant.clone();
        Grant {
            verbs,
            role,
            member: grant.member,
            owner: grant.owner,
            signed_in: grant.signed_in,
            public: grant.public,
            permission: Some(grant.permission).filter(|text| !text.is_empty()),
            when: Some(grant.when).filter(|text| !text.is_empty()),
            reveals: Some(grant.reveals).filter(|text| !text.is_empty()),
            place: self.place,
        }
    }

    fn refuse(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        self.reader.refuse(&self.place, what, instead);
    }

    fn check_verbs(&mut self) {
        let on_record = self.ground.on == On::Record;
        if on_record && self.grant.verbs.is_empty() {
            self.refuse("this grant opens no verb", "write `verbs: [GET]`, or what it is to open");
        }
        if !on_record && !self.grant.verbs.is_empty() {
            let instead = "leave them out: it opens the method or field that it stands on";
            self.refuse("only grants on a record have verbs", instead);
        }
        for verb in self.grant.verbs.clone() {
            match options::Verb::try_from(verb) {
                Ok(options::Verb::List) => {
                    self.refuse("this grant names LIST", "write GET: a list shows what GET allows")
                }
                Ok(options::Verb::Count) => {
                    self.refuse("this grant names COUNT", "write GET: a count says what GET allows")
                }
                Ok(options::Verb::Watch) => {
                    self.refuse("this grant names WATCH", "write GET: a watch shows what GET allows")
                }
                Ok(options::Verb::Unspecified) | Err(_) => {
                    self.refuse("this grant names a verb that does not exist", "write GET, CREATE, UPDATE or DELETE");
                }
                Ok(_) => {}
            }
        }
    }

    /// `when` narrows a grant and names nobody, so that it cannot stand alone.
    fn check_who(&mut self) {
        let grant = self.grant;
        let role = grant.role != 0 || grant.at != 0;
        let named =
            role || grant.member || grant.owner || grant.signed_in || grant.public || !grant.permission.is_empty();
        if !named {
            let instead = "name who: `role` and `at`, `member`, `owner`, `signed_in`, `public` or `permission`";
            self.refuse("this grant grants nothing: it names nobody", instead);
        }
    }

    fn role(&mut self) -> Option<(Role, Level)> {
        let role = match options::Role::try_from(self.grant.role) {
            Ok(options::Role::Unspecified) => None,
            Ok(options::Role::Guest) => Some(Role::Guest),
            Ok(options::Role::User) => Some(Role::User),
            Ok(options::Role::Admin) => Some(Role::Admin),
            Ok(options::Role::Superadmin) => Some(Role::Superadmin),
            Err(_) => {
                self.refuse("this role does not exist", "write GUEST, USER, ADMIN or SUPERADMIN");
                return None;
            }
        };
        let level = match options::Level::try_from(self.grant.at) {
            Ok(options::Level::Unspecified) => None,
            Ok(options::Level::System) => Some(Level::System),
            Ok(options::Level::Org) => Some(Level::Org),
            Ok(options::Level::Project) => Some(Level::Project),
            Ok(options::Level::Owner) => {
                self.refuse("no role is held at OWNER", "write `owner: true` for the account in `scope.owner`");
                return None;
            }
            Err(_) => {
                self.refuse("this level does not exist", "write SYSTEM, ORG or PROJECT");
                return None;
            }
        };
        match (role, level) {
            (None, None) => None,
            (Some(role), Some(level)) => self.pair(role, level),
            (Some(_), None) => {
                self.refuse(
                    "this grant names a role without `at`",
                    "write where it must be held: `at: PROJECT`, `at: ORG`",
                );
                None
            }
            (None, Some(_)) => {
                self.refuse("this grant has `at` without a role", "write which role must be held there: `role: USER`");
                None
            }
        }
    }

    fn pair(&mut self, role: Role, level: Level) -> Option<(Role, Level)> {
        if role == Role::Superadmin && !self.ground.in_sys {
            let instead = "name a role of the org: ADMIN at ORG, and who holds it decides";
            self.refuse("SUPERADMIN is granted only in packages `sys.*`", instead);
            return None;
        }
        match (role, level) {
            (Role::Superadmin, Level::System) => {
                let home = self.ground.scope.map(|scope| scope.home);
                if home == Some(Home::Org) {
                    let instead = "grant a role of the org; break-glass gives it to an operator for a while";
                    self.refuse("SUPERADMIN opens no record at home in an org", instead);
                    return None;
                }
                Some((role, level))
            }
            (Role::Superadmin, _) => {
                self.refuse(
                    "SUPERADMIN is held at SYSTEM only",
                    "write `role: SUPERADMIN at: SYSTEM`, or `role: ADMIN`",
                );
                None
            }
            (_, Level::System) => {
                self.refuse("only SUPERADMIN is held at SYSTEM", "write `at: ORG` or `at: PROJECT`");
                None
            }
            (_, _) => Some((role, level)),
        }
    }

    fn check_scope(&mut self) {
        let grant = self.grant;
        let at = options::Level::try_from(grant.at).unwrap_or_default();
        let scope = self.ground.scope;
        let has = |name: fn(&options::Scope) -> &str| scope.is_some_and(|scope| !name(&scope.names).is_empty());
        let needs = [
            (at == options::Level::Project && !has(|names| &names.project), "at: PROJECT", "project"),
            (at == options::Level::Org && !has(|names| &names.org), "at: ORG", "org"),
            (grant.member && !has(|names| &names.org), "member", "org"),
            (grant.owner && !has(|names| &names.owner), "owner", "owner"),
            (!grant.permission.is_empty() && !has(|names| &names.org), "permission", "org"),
        ];
        for (_, condition, part) in needs.into_iter().filter(|(missing, ..)| *missing) {
            match scope {
                Some(scope) => {
                    let what = format!("`{condition}` asks for `scope.{part}`, which `{}` does not have", scope.record);
                    self.refuse(what, format!("name the field in `scope: {{ {part}: \"…\" }}` of the record"));
                }
                None => {
                    let what = format!("`{condition}` asks for the scope of a record, and this method has no target");
                    self.refuse(
                        what,
                        "name the record that calls are judged on: `target: { record: \"…\" id: \"…\" }`",
                    );
                }
            }
        }
    }

    /// Within a record that strangers may read, a field needs no second reason.
    fn check_strangers(&mut self) {
        let grant = self.grant;
        let opens = (grant.signed_in || grant.public) && self.ground.on != On::Field && self.ground.in_org;
        // Beside a role or ownership, `signed_in` opens nothing to strangers.
        let narrowed = grant.role != 0 || grant.member || grant.owner || !grant.permission.is_empty();
        if opens && !narrowed && grant.reveals.trim().is_empty() {
            let instead = "say why strangers may see an org's records: `reveals: \"…\"`";
            self.refuse("`signed_in` and `public` open an org's records to strangers", instead);
        }
    }
}

/// A verb that a grant, `reach` or `elevate` may name; the wrong ones are refused where they stand.
fn record_verb(verb: i32) -> Option<Verb> {
    match options::Verb::try_from(verb).ok()? {
        options::Verb::Get => Some(Verb::Get),
        options::Verb::Create => Some(Verb::Create),
        options::Verb::Update => Some(Verb::Update),
        options::Verb::Delete => Some(Verb::Delete),
        options::Verb::Unspecified | options::Verb::List | options::Verb::Count | options::Verb::Watch => None,
    }
}
