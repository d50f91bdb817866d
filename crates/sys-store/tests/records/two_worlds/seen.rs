//! What the observer sees of a paper, read from its contract by hand: nothing of the rules' own code is used.

use super::program::Observer;
use crate::harness::*;
use prost_reflect::{DynamicMessage, Value};
use sys_contract::model::Role;
use sys_policy::Standing;

/// The observer's rights at an org and one of its projects.
struct Rights {
    /// He has some binding in the org.
    member: bool,
    at_org: Option<Role>,
    at_project: Option<Role>,
}

impl Rights {
    fn of(world: &World, observer: &Observer, paper: &DynamicMessage) -> Self {
        let counts = observer.standing == Some(Standing::Verified);
        let org = world.orgs.iter().position(|org| org.to_string() == field_text(paper, "org_id")).unwrap();
        let held = |at: &dyn Fn(usize) -> bool| {
            observer.bindings.iter().filter(|(_, place)| counts && at(*place)).map(|(role, _)| *role).max()
        };
        let in_project = |place: usize| place >= 2 && world.project_text(place - 2) == field_text(paper, "project_id");
        let in_org = |place: usize| place == org || (place >= 2 && world.projects[place - 2].0 == world.orgs[org]);
        Self {
            member: held(&in_org).is_some(),
            at_org: held(&|place| place == org),
            at_project: held(&|place| place == org || in_project(place)),
        }
    }
}

/// The paper as the observer sees it, without etag; none if it is hidden from him.
pub(super) fn seen(world: &World, observer: &Observer, paper: &DynamicMessage) -> Option<DynamicMessage> {
    let rights = Rights::of(world, observer, paper);
    let flag = |name| field(paper, name) == Value::Bool(true);
    let owns = rights.member && field_text(paper, "owner_id") == account(1).to_string();
    let sees = owns
        || (rights.at_project >= Some(Role::Guest) && flag("shared"))
        || (rights.member && flag("published"))
        || rights.at_org >= Some(Role::Admin)
        || (rights.at_org >= Some(Role::User) && field_text(paper, "remark") == "open");
    if !sees {
        return None;
    }
    let graded = matches!(field(paper, "grade"), Value::I32(grade) if grade > 1);
    let hidden = [
        ("secret", !owns),
        ("remark", rights.at_project < Some(Role::Admin)),
        ("note", !(rights.at_project >= Some(Role::Guest) && graded)),
        ("hidden_text", !owns),
        ("etag", true),
    ];
    let mut view = paper.clone();
    hidden.iter().filter(|(_, hidden)| *hidden).for_each(|(name, _)| view.clear_field_by_name(name));
    Some(view)
}
