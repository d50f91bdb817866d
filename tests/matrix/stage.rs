//! A small world for one caller: two orgs with two projects each, people in both, and the records that are asked for in it.
//!
//! What a call changes, it changes in its own stage, which is then thrown away: no case sees what another one did.

use super::{
    callers::{Kind, State},
    fillings::{Named, fill_hidden, filled, is_placing},
    ground::{Ground, Row},
    places::{OrgAxis, OwnerAxis, ProjectAxis, Spot},
};
use prost_reflect::{DynamicMessage, Value};
use serde_json::json;
use std::collections::HashMap;
use sys_contract::{
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    model::{Home, Level, Record, Role},
};
use sys_core::token::TokenSecret;

const ORG: &str = "sys.account.v1.Org";
const PROJECT: &str = "sys.account.v1.Project";
const ACCOUNT: &str = "sys.account.v1.Account";
const PRINCIPAL: &str = "sys.core.v1.Principal";
const SESSION: &str = "sys.core.v1.Session";
const BINDING: &str = "sys.core.v1.Binding";
/// How long ago a password was shown that no longer counts.
const LONG_AGO_S: i64 = 3_600;
/// How long a session is to last.
const SESSION_S: i64 = 86_400;

/// Somebody with an account.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) email: String,
    pub(crate) session: SessionId,
    pub(crate) refresh_secret: TokenSecret,
}

/// An org, and who is in it.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub(crate) org: OrgId,
    pub(crate) projects: [ProjectId; 2],
    /// Stays an admin of it whatever the caller does.
    pub(crate) admin: Person,
    /// USER of its first project.
    pub(crate) member: Person,
}

pub(crate) struct Stage {
    pub(crate) kind: Kind,
    /// The org that manages the caller's account.
    pub(crate) managed: OrgAxis,
    /// Nobody is anonymous.
    pub(crate) caller: Option<Person>,
    pub(crate) token: Option<String>,
    pub(crate) own: Side,
    pub(crate) other: Side,
    records: HashMap<(String, Spot), RecordId>,
}

/// How an account is when it is made.
struct Standing {
    verified: bool,
    disabled: bool,
    proven_ago_s: i64,
    has_session: bool,
}

const IN_ORDER: Standing = Standing { verified: true, disabled: false, proven_ago_s: 0, has_session: true };

impl Stage {
    /// Lays out the world of a caller.
    pub(crate) async fn build(ground: &Ground, kind: Kind, managed: OrgAxis) -> Self {
        let mut rows = Vec::new();
        let own = side(ground, &mut rows);
        let other = side(ground, &mut rows);
        let managed_by = match managed {
            OrgAxis::Own => own.org.to_string(),
            OrgAxis::Other => other.org.to_string(),
            OrgAxis::None => String::new(),
        };
        let standing = Standing {
            verified: kind.state != State::Unverified,
            disabled: kind.state == State::Disabled,
            proven_ago_s: if kind.state == State::Unproven { LONG_AGO_S } else { 0 },
            has_session: kind.state != State::Revoked,
        };
        let caller =
            (kind.state != State::Anonymous).then(|| person(ground, &mut rows, "caller", &managed_by, &standing));
        let token = caller.as_ref().map(|caller| match kind.state {
            State::Expired => ground.expired_token(caller.account, caller.session),
            State::Foreign => ground.foreign_token(caller.account, caller.session),
            _ => ground.access_token(caller.account, caller.session, 0),
        });
        if let (Some(caller), Some((role, level))) = (&caller, kind.held) {
            let (org, project) = match level {
                Level::System => (String::new(), String::new()),
                Level::Org => (own.org.to_string(), String::new()),
                Level::Project => (own.org.to_string(), own.projects[0].to_string()),
            };
            rows.push(binding(ground, caller, role, &org, &project, kind.state));
        }
        ground.write(&rows).await;
        Self { kind, managed, caller, token, own, other, records: HashMap::new() }
    }

    /// The side of an org; none for no org.
    pub(crate) fn side(&self, org: OrgAxis) -> Option<&Side> {
        match org {
            OrgAxis::Own => Some(&self.own),
            OrgAxis::Other => Some(&self.other),
            OrgAxis::None => None,
        }
    }

    /// The text of an org's id; empty for none.
    pub(crate) fn org(&self, spot: Spot) -> String {
        self.side(spot.org).map(|side| side.org.to_string()).unwrap_or_default()
    }

    /// The text of a project's id; empty for none.
    pub(crate) fn project(&self, spot: Spot) -> String {
        let side = self.side(spot.org);
        let project = side.and_then(|side| match spot.project {
            ProjectAxis::Own => Some(side.projects[0]),
            ProjectAxis::Other => Some(side.projects[1]),
            ProjectAxis::None => None,
        });
        project.map(|project| project.to_string()).unwrap_or_default()
    }

    /// The owner of what lies there: the caller, or the member of the org.
    pub(crate) fn owner(&self, spot: Spot) -> &Person {
        match (spot.owner, &self.caller) {
            (OwnerAxis::Caller, Some(caller)) => caller,
            _ => &self.side(spot.org).unwrap_or(&self.own).member,
        }
    }

    /// Whom fillings name.
    pub(crate) fn named(&self) -> Named {
        let caller = self.caller.as_ref().map(|caller| caller.account.to_string()).unwrap_or_default();
        Named { caller, another: self.own.member.account.to_string() }
    }

    /// The record of a type that lies at a place, made if there is none yet.
    pub(crate) async fn record(&mut self, ground: &Ground, record: &Record, spot: Spot) -> RecordId {
        let key = (record.message.full_name().to_owned(), spot);
        if let Some(id) = self.records.get(&key) {
            return *id;
        }
        let table = ground.table_of(record);
        let mut message = filled(ground, record, spot.filling, &self.named());
        let id = match self.place_itself(ground, record, spot).await {
            Some(id) => {
                let mut stored = ground.stored(table, id).await.expect("a part of the stage");
                for field in record.fields.iter().map(|field| &field.descriptor) {
                    if message.has_field(field) && !is_placing(record, field) {
                        stored.set_field(field, message.get_field(field).into_owned());
                    }
                }
                message = stored;
                // It is one record, whatever it is filled with.
                self.records.retain(|(name, _), _| *name != key.0);
                id
            }
            None => {
                self.set_place(record, spot, &mut message);
                ground.new_id(self.home(record, spot))
            }
        };
        fill_hidden(record, &mut message);
        ground.write(&[Row { table: table.clone(), id, message }]).await;
        self.records.insert(key, id);
        id
    }

    /// Forgets the records of a type, after a call that changed one: they are laid out anew where they are needed.
    pub(crate) fn forget(&mut self, record: &Record) {
        self.records.retain(|(name, _), _| name != record.message.full_name());
    }

    /// The id of no record that would lie at a place.
    pub(crate) fn absent(&self, ground: &Ground, record: &Record, spot: Spot) -> RecordId {
        ground.new_id(self.home(record, spot))
    }

    /// Writes into a record's scope fields where it lies. An owner is the server's to say, so that it is left out where
    /// nobody is.
    pub(crate) fn set_place(&self, record: &Record, spot: Spot, message: &mut DynamicMessage) {
        let owner = self.owner(spot).account.to_string();
        let scope = [(&record.org, self.org(spot)), (&record.project, self.project(spot)), (&record.owner, owner)];
        for (field, text) in scope {
            if let Some(field) = field.as_ref().filter(|field| **field != record.id) {
                message.set_field(field, Value::String(text));
            }
        }
    }

    fn home(&self, record: &Record, spot: Spot) -> OrgTag {
        match record.home {
            Home::Global => OrgTag::GLOBAL,
            Home::Org => self.side(spot.org).expect("a record at home in an org").org.tag(),
        }
    }

    /// The id of a record that is its own place: an org, a project, an account.
    async fn place_itself(&mut self, ground: &Ground, record: &Record, spot: Spot) -> Option<RecordId> {
        let is_own = |field: &Option<_>| field.as_ref() == Some(&record.id);
        if is_own(&record.project) {
            return Some(self.project(spot).parse::<ProjectId>().expect("a project").record());
        }
        if is_own(&record.org) {
            return Some(self.org(spot).parse::<OrgId>().expect("an org").record());
        }
        if !is_own(&record.owner) {
            return None;
        }
        if let (OwnerAxis::Caller, Some(caller)) = (spot.owner, &self.caller) {
            assert!(self.managed == spot.org, "the caller's account is managed by {}", self.managed);
            return Some(caller.account.record());
        }
        // Somebody whom this org manages, and who works there.
        let mut rows = Vec::new();
        let managed = person(ground, &mut rows, "managed", &self.org(spot), &IN_ORDER);
        if let Some(side) = self.side(spot.org) {
            let (org, project) = (side.org.to_string(), side.projects[0].to_string());
            rows.push(binding(ground, &managed, Role::User, &org, &project, State::Verified));
        }
        ground.write(&rows).await;
        Some(managed.account.record())
    }
}

fn side(ground: &Ground, rows: &mut Vec<Row>) -> Side {
    let org = OrgId::from_record(ground.new_id(OrgTag::GLOBAL));
    rows.push(ground.row(ORG, org.record(), json!({"name": format!("org {}", ground.serial())})));
    let projects = ["first", "second"].map(|name| {
        let project = ProjectId::from_record(ground.new_id(OrgTag::GLOBAL));
        rows.push(ground.row(PROJECT, project.record(), json!({"orgId": org.to_string(), "name": name})));
        project
    });
    let admin = person(ground, rows, "admin", "", &IN_ORDER);
    let member = person(ground, rows, "member", "", &IN_ORDER);
    let (at, project) = (org.to_string(), projects[0].to_string());
    rows.push(binding(ground, &admin, Role::Admin, &at, "", State::Verified));
    rows.push(binding(ground, &member, Role::User, &at, &project, State::Verified));
    Side { org, projects, admin, member }
}

/// An account with all its rows.
fn person(ground: &Ground, rows: &mut Vec<Row>, name: &str, managed_by: &str, standing: &Standing) -> Person {
    let (id, now) = (ground.new_id(OrgTag::GLOBAL), ground.now().unix_s);
    let account = AccountId::from_record(id);
    let email = format!("{name}.{}@example.org", ground.serial());
    let Standing { verified, disabled, proven_ago_s, has_session } = *standing;
    rows.push(ground.row(
        PRINCIPAL,
        id,
        json!({
            "email": email, "passwordPhc": ground.password_phc(), "verified": verified, "disabled": disabled,
            "managedByOrgId": managed_by, "createdUnixS": now,
        }),
    ));
    rows.push(ground.row(
        ACCOUNT,
        id,
        json!({
            "email": email, "displayName": name, "managedByOrgId": managed_by, "verified": verified, "disabled": disabled,
        }),
    ));
    let (session, refresh_secret) = (SessionId::from_record(ground.new_id(OrgTag::GLOBAL)), ground.secret());
    if has_session {
        rows.push(ground.row(
            SESSION,
            session.record(),
            json!({
                "accountId": account.to_string(), "refreshCounter": 1,
                "refreshHash": data_encoding::BASE64.encode(&refresh_secret.hash()), "deviceName": "a device",
                "createdUnixS": now, "lastUsedUnixS": now, "expiresUnixS": now + SESSION_S,
                "provenUnixS": now - proven_ago_s,
            }),
        ));
    }
    Person { account, email, session, refresh_secret }
}

/// A role that somebody holds: at the server, at an org, or at a project of it.
fn binding(ground: &Ground, person: &Person, role: Role, org: &str, project: &str, state: State) -> Row {
    let role_name = match role {
        Role::Guest => "GUEST",
        Role::User => "USER",
        Role::Admin => "ADMIN",
        Role::Superadmin => "SUPERADMIN",
    };
    // By this the server finds who heads a place.
    let heads = match role {
        Role::Superadmin => "system",
        Role::Admin if project.is_empty() => org,
        _ => "",
    };
    let now = ground.now().unix_s;
    let fields = json!({
        "accountId": person.account.to_string(), "role": role_name, "orgId": org, "projectId": project, "heads": heads,
        "suspended": state == State::Suspended, "expiresUnixS": if state == State::Lapsed { now } else { 0 },
        "createdUnixS": now,
    });
    ground.row(BINDING, ground.new_id(OrgTag::GLOBAL), fields)
}

/// A row of Identity that a request needs: an invitation, a token.
pub(crate) async fn write_row(ground: &Ground, table: &str, fields: serde_json::Value) -> RecordId {
    let id = ground.new_id(OrgTag::GLOBAL);
    ground.write(&[ground.row(table, id, fields)]).await;
    id
}

/// Somebody who has registered and waits for the mail that proves his address.
pub(crate) async fn waiting(ground: &Ground) -> Person {
    let mut rows = Vec::new();
    let standing = Standing { verified: false, has_session: false, ..IN_ORDER };
    let person = person(ground, &mut rows, "waiting", "", &standing);
    ground.write(&rows).await;
    person
}
