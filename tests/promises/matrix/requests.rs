//! What each method is asked in the matrix: a request that is good for whoever may call, and what it leaves behind.

use super::setting::{Place, Setting, Who};
use serde_json::{Value, json};
use sys_tests::PASSWORD;

/// One call.
pub(super) struct Case {
    pub(super) body: Value,
    pub(super) traces: Traces,
    /// Of a list: the field with the records, and the id of the one that is looked for in it. Of a count, the field that is 1
    /// if it is there.
    pub(super) looks_for: Option<(&'static str, String)>,
}

/// What is not as it was after a call that went well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Traces {
    /// Nothing that the outcome of another call hangs on.
    None,
    /// Something about the caller, or something that he alone asks for.
    ForTheCaller,
    /// Something that others ask for, too.
    ForOthers,
}

/// The methods that are not called on anything in an org.
const NOWHERE: [&str; 22] = [
    "sys.core.v1.DescriptorService/GetDescriptors",
    "sys.account.v1.AuthService/Register",
    "sys.account.v1.AuthService/VerifyEmail",
    "sys.account.v1.AuthService/Login",
    "sys.account.v1.AuthService/Refresh",
    "sys.account.v1.AuthService/Logout",
    "sys.account.v1.AuthService/ForgotPassword",
    "sys.account.v1.AuthService/ResetPassword",
    "sys.account.v1.AuthService/Setup",
    "sys.account.v1.AuthService/StepUp",
    "sys.account.v1.AuthService/ChangePassword",
    "sys.account.v1.AuthService/WhoAmI",
    "sys.account.v1.SessionService/ListSessions",
    "sys.account.v1.SessionService/RevokeSession",
    "sys.account.v1.SessionService/RevokeAllSessions",
    "sys.account.v1.AuditService/ListSystemAudit",
    "sys.account.v1.AuditService/GetSystemAuditHead",
    "sys.account.v1.AuditService/GetSystemAuditInclusion",
    "sys.account.v1.AuditService/GetSystemAuditConsistency",
    "sys.account.v1.AuditService/ReadSystemAuditLeaves",
    "sys.account.v1.OrgService/CreateOrg",
    "sys.account.v1.MembershipService/ListMyInvitations",
];

/// Whether a method is called on something in an org: then it is called on the own and on the other.
pub(super) fn names_a_place(path: &str) -> bool {
    !NOWHERE.contains(&path)
}

/// The request of a method; `None` for one that nobody has thought of.
pub(super) fn request_for(path: &str, place: &Place, who: &Who, setting: &Setting) -> Option<Case> {
    let (service, method) = path.split_once('/')?;
    match service {
        "sys.core.v1.DescriptorService" => (method == "GetDescriptors").then(|| reads(json!({}))),
        "sys.account.v1.AuditService" => audit(method, place),
        "sys.account.v1.AuthService" => auth(method, who, setting),
        "sys.account.v1.SessionService" => session(method, who),
        "sys.account.v1.AccountService" => account(method, place, who, setting),
        "sys.account.v1.OrgService" => org(method, place, who, setting),
        "sys.account.v1.ProjectService" => project(method, place, setting),
        "sys.account.v1.MembershipService" => membership(method, place, who, setting),
        "notes.v1.NoteService" => note(method, place),
        _ => None,
    }
}

fn audit(method: &str, place: &Place) -> Option<Case> {
    let (kind, mut body) = match method.split_once("System") {
        Some((verb, noun)) => (format!("{verb}{noun}"), json!({})),
        None => (method.to_owned(), json!({"orgId": place.org})),
    };
    match kind.as_str() {
        "ListAudit" | "GetAuditHead" | "ReadAuditLeaves" => {}
        "GetAuditInclusion" => body["treeSize"] = json!(1),
        "GetAuditConsistency" => body["secondSize"] = json!(1),
        _ => return None,
    }
    // They leave an entry each, which no other answer hangs on.
    Some(reads(body))
}

fn auth(method: &str, who: &Who, setting: &Setting) -> Option<Case> {
    let somebody = || format!("{}@example.org", setting.fresh());
    Some(match method {
        "Register" => reads(json!({"email": somebody(), "password": PASSWORD, "displayName": "Somebody"})),
        "VerifyEmail" => ends(json!({"token": setting.verify_token, "password": PASSWORD})),
        "Login" => reads(json!({"email": "stranger@example.org", "password": PASSWORD})),
        "Refresh" => changes_caller(json!({"refreshToken": who.refresh_token})),
        "Logout" => changes_caller(json!({})),
        "ForgotPassword" => reads(json!({"email": somebody()})),
        "ResetPassword" => ends(json!({"token": setting.reset_token, "newPassword": "another long passphrase"})),
        // There is a superadmin, so that no token is good any more.
        "Setup" => reads(json!({"token": "A".repeat(43), "email": somebody(), "password": PASSWORD})),
        "StepUp" => changes_caller(json!({"password": PASSWORD})),
        // With the other sessions of the account, of which some call, too.
        "ChangePassword" => ends(json!({"password": PASSWORD, "newPassword": "another long passphrase"})),
        "WhoAmI" => reads(json!({})),
        _ => return None,
    })
}

fn session(method: &str, who: &Who) -> Option<Case> {
    Some(match method {
        "ListSessions" => reads(json!({})),
        "RevokeSession" => changes_caller(json!({"id": who.session_id})),
        "RevokeAllSessions" => ends(json!({})),
        _ => return None,
    })
}

fn account(method: &str, place: &Place, who: &Who, setting: &Setting) -> Option<Case> {
    let one = json!({"id": place.account});
    Some(match method {
        "CreateAccount" => {
            let email = format!("{}@example.org", setting.fresh());
            // A superadmin makes accounts that belong to their person.
            let org = if who.name == "superadmin" { "" } else { &place.org };
            reads(json!({"email": email, "displayName": "Somebody", "managedByOrgId": org}))
        }
        "GetAccount" => reads(one),
        "ListAccounts" => lists(json!({}), "accounts", &place.account),
        "SearchAccounts" => lists(json!({"query": "Managed"}), "accounts", &place.account),
        "UpdateAccount" => {
            let next = json!({"id": place.account, "displayName": "Managed by somebody"});
            reads(json!({"account": next, "updateMask": "displayName"}))
        }
        "DeleteAccount" | "DisableAccount" => ends(one),
        "EnableAccount" => reads(one),
        _ => return None,
    })
}

fn org(method: &str, place: &Place, who: &Who, setting: &Setting) -> Option<Case> {
    let one = json!({"id": place.org});
    Some(match method {
        "CreateOrg" => {
            // Only a superadmin invites somebody else as the first admin.
            let email = if who.name == "superadmin" { "first.admin@example.org" } else { "" };
            reads(json!({"name": setting.fresh(), "adminEmail": email}))
        }
        "GetOrg" => reads(one),
        "ListOrgs" | "ListOtherOrgs" => lists(json!({}), "orgs", &place.org),
        "UpdateOrg" => reads(json!({"org": {"id": place.org, "description": "new"}, "updateMask": "description"})),
        "DeleteOrg" => ends(one),
        _ => return None,
    })
}

fn project(method: &str, place: &Place, setting: &Setting) -> Option<Case> {
    let one = json!({"id": place.project});
    Some(match method {
        "CreateProject" => reads(json!({"orgId": place.org, "name": setting.fresh()})),
        "GetProject" => reads(one),
        "ListProjects" => lists(json!({"orgId": place.org}), "projects", &place.project),
        "UpdateProject" => {
            reads(json!({"project": {"id": place.project, "description": "new"}, "updateMask": "description"}))
        }
        "DeleteProject" => ends(one),
        "JoinProject" => changes_caller(json!({"id": place.open_project})),
        _ => return None,
    })
}

fn membership(method: &str, place: &Place, who: &Who, setting: &Setting) -> Option<Case> {
    let (org, project, member) = (&place.org, &place.project, &place.account);
    let (invitation, token) = place.invitations.get(who.name)?;
    Some(match method {
        "Invite" => {
            let email = format!("{}@example.org", setting.fresh());
            reads(json!({"orgId": org, "projectId": project, "email": email, "role": "GUEST"}))
        }
        "AcceptInvitation" | "DeclineInvitation" => changes_caller(json!({"token": token})),
        "WithdrawInvitation" => changes_caller(json!({"orgId": org, "id": invitation})),
        "ListInvitations" | "ListMemberships" => reads(json!({"orgId": org, "projectId": project})),
        "ListMyInvitations" => reads(json!({})),
        "SuspendMembership" | "RemoveMembership" => ends(json!({"orgId": org, "accountId": member})),
        "ResumeMembership" | "ListRoles" => reads(json!({"orgId": org, "accountId": member})),
        // The role that he has.
        "AssignRole" => reads(json!({"orgId": org, "projectId": project, "accountId": member, "role": "USER"})),
        "RevokeRole" => ends(json!({"orgId": org, "projectId": project, "accountId": member})),
        _ => return None,
    })
}

fn note(method: &str, place: &Place) -> Option<Case> {
    let one = json!({"id": place.note});
    Some(match method {
        "CreateNote" => reads(json!({"note": {"orgId": place.org, "projectId": place.project, "title": "another"}})),
        "GetNote" => reads(one),
        "ListNotes" => lists(json!({"orgId": place.org, "pageSize": 100}), "notes", &place.note),
        "CountNotes" => {
            let only = format!("id == \"{}\"", place.note);
            lists(json!({"orgId": place.org, "filter": only}), "count", &place.note)
        }
        "UpdateNote" => reads(json!({"note": {"id": place.note, "title": "a better plan"}, "updateMask": "title"})),
        "DeleteNote" => ends(one),
        _ => return None,
    })
}

/// A call that leaves everything as it was, as far as anybody else can tell by an outcome.
fn reads(body: Value) -> Case {
    Case { body, traces: Traces::None, looks_for: None }
}

fn lists(body: Value, items: &'static str, id: &str) -> Case {
    Case { looks_for: Some((items, id.to_owned())), ..reads(body) }
}

fn changes_caller(body: Value) -> Case {
    Case { traces: Traces::ForTheCaller, ..reads(body) }
}

/// A call after which what it names is no longer as it was.
fn ends(body: Value) -> Case {
    Case { traces: Traces::ForOthers, ..reads(body) }
}
