//! One decision of the rules against Cedar on an equivalent policy, in one process and thread.

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression};
use prost_reflect::{DynamicMessage, Value};
use std::{collections::{HashMap, HashSet}, hint::black_box, str::FromStr, sync::Arc};
use sys_bench::{machine, nanos, notes_contract};
use sys_contract::{
    id::{AccountId, OrgId, OrgTag, ProjectId, RecordId, SessionId},
    model::{Role, Verb},
};
use sys_policy::{Binding, BindingScope, Caller, Now, RecordRules, Rules, Standing};

const ROUNDS: usize = 15;
const NOW: Now = Now { unix_s: 1_800_000_000, nanos: 0 };

fn id(n: u64) -> RecordId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000 + n, random)
}

fn caller(bindings: Vec<Binding>) -> Caller {
    Caller::new(AccountId::from_record(id(1)), SessionId::from_record(id(2)), Standing::Verified, bindings)
}

fn bound(role: Role, org: OrgId, project: ProjectId) -> Binding {
    Binding { role, scope: BindingScope::Project(org.tag(), project), expires_unix_s: None }
}

fn note(rules: &RecordRules, message: DynamicMessage, org: OrgId, project: ProjectId, published: bool) -> (DynamicMessage, sys_policy::Placement) {
    let mut note = message;
    note.set_field_by_name("org_id", Value::String(org.to_string()));
    note.set_field_by_name("project_id", Value::String(project.to_string()));
    note.set_field_by_name("author_id", Value::String(AccountId::from_record(id(99)).to_string()));
    note.set_field_by_name("published", Value::Bool(published));
    let placement = rules.placement(&note).expect("a placed note");
    (note, placement)
}

/// Cedar: the same grants on the same note; a caller's projects are his groups.
struct CedarCase {
    policies: PolicySet,
    entities: Entities,
    request: Request,
}

impl CedarCase {
    fn new(condition: bool, bindings: usize) -> Self {
        let grant = if condition {
            "permit(principal, action == Action::\"get\", resource) when { resource.published && principal in resource.org };"
        } else {
            "permit(principal, action == Action::\"get\", resource) when { principal in resource.project };"
        };
        let uid = |text: &str| EntityUid::from_str(text).expect("an id");
        let groups: HashSet<EntityUid> = (0..bindings).map(|n| uid(&format!("Project::\"p{n}\""))).collect();
        let org = uid("Org::\"o\"");
        let projects = groups.iter().map(|group| {
            Entity::new(group.clone(), HashMap::new(), HashSet::from([org.clone()])).expect("an entity")
        });
        let user = Entity::new(uid("User::\"u\""), HashMap::new(), groups.clone()).expect("an entity");
        let attributes = HashMap::from([
            ("published".to_owned(), RestrictedExpression::new_bool(true)),
            ("project".to_owned(), RestrictedExpression::new_entity_uid(uid("Project::\"p0\""))),
            ("org".to_owned(), RestrictedExpression::new_entity_uid(org.clone())),
        ]);
        let note = Entity::new(uid("Note::\"n\""), attributes, HashSet::new()).expect("an entity");
        let all = projects.chain([user, note]).collect::<Vec<_>>();
        Self {
            policies: PolicySet::from_str(grant).expect("a policy"),
            entities: Entities::from_entities(all, None).expect("entities"),
            request: Request::new(uid("User::\"u\""), uid("Action::\"get\""), uid("Note::\"n\""), Context::empty(), None).expect("a request"),
        }
    }

    fn measure(&self) -> sys_bench::Spread {
        let authorizer = Authorizer::new();
        let decide = || authorizer.is_authorized(&self.request, &self.policies, &self.entities).decision();
        assert_eq!(decide(), cedar_policy::Decision::Allow);
        nanos(ROUNDS, 2_000, |_| {
            black_box(decide());
        })
    }
}

fn main() {
    let contract = notes_contract();
    let rules = Rules::compile(&contract).expect("the rules compile");
    let rules: Arc<RecordRules> = rules.record(0).clone();
    let empty = DynamicMessage::new(contract.records[0].message.clone());
    let org = OrgId::from_record(id(10));
    let project = |n: u64| ProjectId::from_record(id(1_000 + n));
    let cases = [
        ("role rule, 1 binding", caller(vec![bound(Role::User, org, project(0))]), false, 1, "50"),
        ("role rule, 1,000 bindings", caller((0..1_000).map(|n| bound(Role::User, org, project(n))).collect()), false, 1_000, "100"),
        ("membership and a condition", caller(vec![bound(Role::Guest, org, project(7))]), true, 1, "200"),
    ];
    println!("Nanoseconds a decision, median (min–max) of {ROUNDS} rounds, one thread, {}. Peer: Cedar 4.14.\n", machine());
    println!("| decision | sys-policy | Cedar | ratio | goal |\n|---|---|---|---|---|");
    for (name, caller, condition, bindings, goal) in cases {
        let (note, placement) = note(&rules, empty.clone(), org, project(0), condition);
        let decide = || rules.allows(Verb::Get, black_box(&caller), black_box(&note), &placement, &NOW);
        assert!(decide().is_some(), "{name}");
        let ours = nanos(ROUNDS, 200_000, |_| {
            black_box(decide());
        });
        let theirs = CedarCase::new(condition, bindings).measure();
        println!("| {name} | {} | {} | {:.0} × | {goal} ns |", ours.show(0), theirs.show(0), theirs.median / ours.median);
    }
}
