//! What the fields of a handler's request mean, and where their values come from.
//!
//! The contract says what a served method's fields are for, and which one names the target. The rest is known by the field's
//! name, and where one name means two things, by the noun at the end of the method's name (AIP-190). A field that is not known
//! here fails the test for every method that has it; there is no list of methods to leave out.

use super::{
    fillings::obeys,
    ground::Ground,
    places::{Axes, OrgAxis, OwnerAxis, ProjectAxis, Spot},
    stage::{Person, Side, Stage, waiting, write_row},
};
use data_encoding::BASE64;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};
use serde_json::json;
use sys_contract::model::{Method, Record};
use sys_tests::PASSWORD;

/// A password that nobody has yet.
const NEW_PASSWORD: &str = "another long enough passphrase";
/// How long what is made for a request is good.
const LIFE_S: i64 = 3_600;

/// What a field of a request stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An org, a project, an account: where the call is about.
    Org,
    Project,
    Account,
    /// The session of that account.
    Session,
    /// An invitation for the caller, by its id or the token that was mailed.
    Invitation,
    InvitationToken,
    /// Tokens from mails, for somebody who waits for his.
    VerifyToken,
    ResetToken,
    SetupToken,
    /// The one that gives the caller a new address.
    EmailToken,
    RefreshToken,
    /// The password of whoever the request is about; everybody in this world has the same.
    Password,
    NewPassword,
    /// An address that nobody has.
    FreshEmail,
    /// The address of a member.
    MembersEmail,
    /// A name that nothing has.
    FreshName,
    /// The type of a record in a zone, and the data of one.
    ZoneType,
    ZoneData,
    /// The record that is looked for, as a filter or by its address.
    Filter,
    Query,
    /// The size of an audit log that has an entry.
    LogSize,
    /// A value that may stay as it is when nothing is said: numbers, flags, times, pictures, values of an enum that a
    /// condition looks at are tried one by one.
    Nothing,
}

/// The meaning of a field. Fails for one that nobody knows.
pub(crate) fn meaning(method: &Method, field: &FieldDescriptor) -> Meaning {
    known(method, field).unwrap_or_else(|| {
        panic!(
            "{}: nobody knows what to write into `{}`: give its meaning in tests/matrix/meanings.rs, by its name",
            method.path,
            field.full_name()
        )
    })
}

/// The meaning of a field; none is known of a text, or of a message, that is not mentioned here.
fn known(method: &Method, field: &FieldDescriptor) -> Option<Meaning> {
    let noun = noun(method);
    let is_text = matches!(field.kind(), Kind::String);
    let known = match field.name() {
        name if is_text && (name == "org_id" || name.ends_with("_org_id")) => Meaning::Org,
        "project_id" => Meaning::Project,
        "account_id" => Meaning::Account,
        "id" if noun == "Session" => Meaning::Session,
        "id" if noun == "Invitation" => Meaning::Invitation,
        "token" if noun == "Invitation" => Meaning::InvitationToken,
        "token" if method.path.ends_with("/VerifyEmail") => Meaning::VerifyToken,
        "token" if method.path.ends_with("/ResetPassword") => Meaning::ResetToken,
        "token" if method.path.ends_with("/Setup") => Meaning::SetupToken,
        "token" if method.path.ends_with("/ConfirmEmail") => Meaning::EmailToken,
        "refresh_token" => Meaning::RefreshToken,
        "password" => Meaning::Password,
        "new_password" => Meaning::NewPassword,
        "email" if method.path.ends_with("/Login") => Meaning::MembersEmail,
        "email" | "new_email" | "contact" => Meaning::FreshEmail,
        "name" | "display_name" => Meaning::FreshName,
        "type" if method.path.contains(".DnsService/") => Meaning::ZoneType,
        "data" if method.path.contains(".DnsService/") => Meaning::ZoneData,
        // A server without a domain has none to name.
        "domain" => Meaning::Nothing,
        "filter" => Meaning::Filter,
        "query" => Meaning::Query,
        "tree_size" | "second_size" => Meaning::LogSize,
        // Texts by which nobody is let in or kept out.
        "description" | "device_name" | "method" | "reason" | "etag" | "order_by" | "page_token" | "domains" => {
            Meaning::Nothing
        }
        // A superadmin invites the org's contact where he names nobody; others may not name anybody.
        "admin_email" => Meaning::Nothing,
        _ => match field.kind() {
            Kind::String => return None,
            Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => return None,
            _ => Meaning::Nothing,
        },
    };
    Some(known)
}

/// Whether a field says which of many records is looked for.
pub(crate) fn looks_for(field: &FieldDescriptor) -> bool {
    matches!(field.name(), "filter" | "query")
}

/// Adds the axes that a request has by this field.
pub(crate) fn widen(meaning: Meaning, axes: &mut Axes) {
    let both = || vec![OwnerAxis::Caller, OwnerAxis::Another];
    let all = || vec![ProjectAxis::Own, ProjectAxis::Other, ProjectAxis::None];
    match meaning {
        Meaning::Org if axes.org.len() == 1 => axes.org = vec![OrgAxis::Own, OrgAxis::Other],
        Meaning::Project => axes.project = all(),
        Meaning::Account | Meaning::Session => axes.owner = both(),
        Meaning::Invitation => {
            axes.project = all();
            if axes.org.len() == 1 {
                axes.org = vec![OrgAxis::Own, OrgAxis::Other];
            }
        }
        _ => {}
    }
}

/// What a method's name ends with: the message of its package that it is about.
fn noun(method: &Method) -> String {
    let name = method.descriptor.name();
    let package = method.descriptor.parent_service().package_name().to_owned();
    let pool = method.descriptor.parent_pool();
    let messages = pool.all_messages().filter(|message| message.package_name() == package);
    let ends = messages.map(|message| message.name().to_owned()).filter(|message| name.ends_with(message.as_str()));
    ends.max_by_key(String::len).unwrap_or_default()
}

/// What is at hand when a request is written.
pub(crate) struct Desk<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) stage: &'a mut Stage,
    pub(crate) spot: Spot,
    /// What is looked for: its id, and its type.
    pub(crate) wanted: Option<(String, &'a Record)>,
    /// The invitation of this request, made once.
    pub(crate) invitation: Option<(String, String)>,
}

impl Desk<'_> {
    /// What stands in a field; `None` for nothing.
    pub(crate) async fn value(&mut self, field: &FieldDescriptor, meaning: Meaning) -> Option<Value> {
        let text = match meaning {
            Meaning::Nothing => return None,
            Meaning::LogSize => {
                self.fill_log().await;
                return Some(Value::U64(1));
            }
            Meaning::ZoneData => return Some(Value::List(vec![Value::String("192.0.2.1".to_owned())])),
            Meaning::ZoneType => "A".to_owned(),
            Meaning::Org => self.stage.org(self.spot),
            Meaning::Project => self.stage.project(self.spot),
            Meaning::Account => self.stage.owner(self.spot).account.to_string(),
            Meaning::Session => self.stage.owner(self.spot).session.to_string(),
            Meaning::Invitation => self.invitation().await.0,
            Meaning::InvitationToken => self.invitation().await.1,
            Meaning::VerifyToken => self.one_time("PURPOSE_VERIFY").await,
            Meaning::ResetToken => self.one_time("PURPOSE_RESET").await,
            Meaning::SetupToken => self.one_time("PURPOSE_SETUP").await,
            Meaning::EmailToken => self.one_time("PURPOSE_CHANGE_EMAIL").await,
            Meaning::RefreshToken => {
                let person = self.stage.caller.as_ref().unwrap_or(&self.stage.own.member);
                self.ground.refresh_token(person.session, person.refresh_secret.clone())
            }
            // What need not be given is not: an account without a password gets a mail.
            Meaning::Password if obeys(&DynamicMessage::new(field.parent_message().clone()), field) => return None,
            Meaning::Password => PASSWORD.to_owned(),
            Meaning::NewPassword => NEW_PASSWORD.to_owned(),
            Meaning::FreshEmail => format!("fresh.{}@example.org", self.ground.serial()),
            Meaning::MembersEmail => self.side().member.email.clone(),
            Meaning::FreshName => format!("fresh {}", self.ground.serial()),
            Meaning::Filter => self.wanted.as_ref().map(|(id, _)| format!("id == {id:?}")).unwrap_or_default(),
            Meaning::Query => self.address_of_wanted().await,
        };
        Some(Value::String(text)).filter(|text| text.as_str() != Some(""))
    }

    fn side(&self) -> &Side {
        self.stage.side(self.spot.org).unwrap_or(&self.stage.own)
    }

    /// Has something happen in the org, so that its audit log has an entry.
    async fn fill_log(&mut self) {
        let (org, admin) = (self.side().org, &self.side().admin);
        let token = self.ground.access_token(admin.account, admin.session, 0);
        let client = sys_tests::Client::anonymous(self.ground.addr).with_token(&token);
        let body = json!({"orgId": org.to_string()});
        client.call("sys.account.v1.AuditService/GetAuditHead", body).await.ok();
    }

    /// An invitation of the caller into the org or project, by id and token.
    async fn invitation(&mut self) -> (String, String) {
        if let Some(made) = &self.invitation {
            return made.clone();
        }
        let invited: &Person = self.stage.caller.as_ref().unwrap_or(&self.stage.own.member);
        let (secret, now) = (self.ground.secret(), self.ground.now().unix_s);
        let fields = json!({
            "email": invited.email, "orgId": self.side().org.to_string(), "projectId": self.stage.project(self.spot),
            "role": "GUEST", "invitedBy": self.side().admin.account.to_string(),
            "tokenHash": BASE64.encode(&secret.hash()), "createdUnixS": now, "expiresUnixS": now + LIFE_S,
        });
        let id = write_row(self.ground, "sys.core.v1.Invitation", fields).await;
        let made = (id.text("invitation"), secret.text().to_string());
        self.invitation = Some(made.clone());
        made
    }

    /// A token from a mail to somebody who has registered; that of the setup is nobody's.
    async fn one_time(&mut self, purpose: &str) -> String {
        let secret = self.ground.secret();
        let account = match purpose {
            "PURPOSE_SETUP" => String::new(),
            "PURPOSE_CHANGE_EMAIL" => {
                let caller = self.stage.caller.as_ref().unwrap_or(&self.stage.own.member);
                caller.account.to_string()
            }
            _ => waiting(self.ground).await.account.to_string(),
        };
        let fields = json!({
            "tokenHash": BASE64.encode(&secret.hash()), "purpose": purpose, "accountId": account,
            "passwordPhc": self.ground.password_phc(), "expiresUnixS": self.ground.now().unix_s + LIFE_S,
            "newEmail": format!("fresh.{}@example.org", self.ground.serial()),
        });
        write_row(self.ground, "sys.core.v1.OneTimeToken", fields).await;
        secret.text().to_string()
    }

    /// The address by which the record that is looked for is found.
    async fn address_of_wanted(&self) -> String {
        let Some((id, record)) = &self.wanted else { return String::new() };
        let table = self.ground.table_of(record);
        let id = table.parse_id(id).expect("an id of this type");
        let stored = self.ground.stored(table, id).await.expect("it was made");
        let email = stored.get_field_by_name("email").and_then(|email| email.as_str().map(str::to_owned));
        email.unwrap_or_else(|| panic!("{} has no address to be found by", record.message.full_name()))
    }
}
