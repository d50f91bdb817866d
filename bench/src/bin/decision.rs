//! One decision of the rules against Cedar, casbin and regorus on equivalent policies, in one process and thread.
//!
//! Each peer has its policies compiled and its data loaded before, and is asked in the way that its documents call fast.

use casbin::{CoreApi as _, DefaultModel, Enforcer, MemoryAdapter, MgmtApi as _, Model as _};
use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, PolicySet, Request, RestrictedExpression};
use prost_reflect::{DynamicMessage, Value};
use regorus::{Engine, Rc, languages::rego::compiler::Compiler, rvm::vm::RegoVM};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet},
    hint::black_box,
    str::FromStr,
    sync::Arc,
};
use sys_bench::{Spread, machine, nanos, notes_contract};
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

fn note(
    rules: &RecordRules,
    message: DynamicMessage,
    org: OrgId,
    project: ProjectId,
    published: bool,
) -> (DynamicMessage, sys_policy::Placement) {
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
        let projects = groups
            .iter()
            .map(|group| Entity::new(group.clone(), HashMap::new(), HashSet::from([org.clone()])).expect("an entity"));
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
            request: Request::new(
                uid("User::\"u\""),
                uid("Action::\"get\""),
                uid("Note::\"n\""),
                Context::empty(),
                None,
            )
            .expect("a request"),
        }
    }

    fn measure(&self) -> Spread {
        let authorizer = Authorizer::new();
        let decide = || authorizer.is_authorized(&self.request, &self.policies, &self.entities).decision();
        assert_eq!(decide(), cedar_policy::Decision::Allow);
        nanos(ROUNDS, 2_000, |_| {
            black_box(decide());
        })
    }
}

/// What casbin is told of a note.
#[derive(Clone, Serialize, Hash)]
struct CasbinNote {
    kind: &'static str,
    published: bool,
}

/// casbin: roles with domains. A caller has his roles in projects, or in the org where the condition asks for membership;
/// the condition stands in the matcher, over the note that comes with the request.
struct CasbinCase {
    enforcer: Enforcer,
    domain: &'static str,
}

impl CasbinCase {
    async fn new(condition: bool, bindings: usize) -> casbin::Result<Self> {
        let mut model = DefaultModel::default();
        model.add_def("r", "r", "sub, dom, obj, act");
        model.add_def("p", "p", "role, obj, act");
        model.add_def("g", "g", "_, _, _");
        model.add_def("e", "e", "some(where (p.eft == allow))");
        let role = "g(r.sub, p.role, r.dom) && r.obj.kind == p.obj && r.act == p.act";
        let matcher = if condition { format!("r.obj.published && {role}") } else { role.to_owned() };
        model.add_def("m", "m", &matcher);
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await?;
        let (role, domain) = if condition { ("guest", "o") } else { ("user", "p0") };
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        enforcer.add_policy(owned(&[role, "note", "get"])).await?;
        let held = (0..bindings).map(|n| match condition {
            true => owned(&["u", role, "o"]),
            false => owned(&["u", role, &format!("p{n}")]),
        });
        enforcer.add_grouping_policies(held.collect()).await?;
        Ok(Self { enforcer, domain })
    }

    fn measure(&self) -> Spread {
        let decide = |account| {
            let note = CasbinNote { kind: "note", published: true };
            self.enforcer.enforce((account, self.domain, note, "get")).expect("a decision")
        };
        assert!(decide("u") && !decide("stranger"));
        nanos(ROUNDS, 2_000, |_| {
            black_box(decide(black_box("u")));
        })
    }
}

/// regorus: Rego on its virtual machine, which is kept, as is the data; each decision gets its input.
struct RegoCase {
    machine: RegoVM,
    input: regorus::Value,
    stranger: regorus::Value,
}

impl RegoCase {
    fn new(condition: bool, bindings: usize) -> Self {
        let grant = if condition {
            "input.note.published\n    data.orgs[input.account][input.note.org]"
        } else {
            "data.roles[input.account][input.note.project] >= 2"
        };
        let policy = format!("package notes\n\ndefault allow := false\n\nallow if {{\n    {grant}\n}}\n");
        let mut engine = Engine::new();
        engine.add_policy("notes.rego".to_owned(), policy).expect("a policy");
        let entry: Rc<str> = "data.notes.allow".into();
        let compiled = engine.compile_with_entrypoint(&entry).expect("a policy");
        let program = Compiler::compile_from_policy(&compiled, &[&entry]).expect("a program");
        let roles: serde_json::Map<_, _> = (0..bindings).map(|n| (format!("p{n}"), 2.into())).collect();
        let data = serde_json::json!({"roles": {"u": roles}, "orgs": {"u": {"o": true}}});
        let mut machine = RegoVM::new();
        machine.load_program(program);
        machine.set_data(data.into()).expect("data");
        let note = serde_json::json!({"project": "p0", "org": "o", "published": true});
        let asks = |account| serde_json::json!({"account": account, "note": note}).into();
        Self { machine, input: asks("u"), stranger: asks("stranger") }
    }

    fn measure(mut self) -> Spread {
        let mut decide = |input: &regorus::Value| {
            self.machine.set_input(input.clone());
            self.machine.execute().expect("a decision")
        };
        assert_eq!(decide(&self.stranger), regorus::Value::from(false));
        assert_eq!(decide(&self.input), regorus::Value::from(true));
        nanos(ROUNDS, 2_000, |_| {
            black_box(decide(black_box(&self.input)));
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> casbin::Result<()> {
    let contract = notes_contract();
    let rules = Rules::compile(&contract).expect("the rules compile");
    let rules: Arc<RecordRules> = rules.record(0).clone();
    let empty = DynamicMessage::new(contract.records[0].message.clone());
    let org = OrgId::from_record(id(10));
    let project = |n: u64| ProjectId::from_record(id(1_000 + n));
    let cases = [
        ("role rule, 1 binding", caller(vec![bound(Role::User, org, project(0))]), false, 1, "50"),
        (
            "role rule, 1,000 bindings",
            caller((0..1_000).map(|n| bound(Role::User, org, project(n))).collect()),
            false,
            1_000,
            "100",
        ),
        ("membership and a condition", caller(vec![bound(Role::Guest, org, project(7))]), true, 1, "200"),
    ];
    println!(
        "Nanoseconds a decision, median (min–max) of {ROUNDS} rounds, one thread, {}. Peers: Cedar 4.14, casbin 2.20, \
         regorus 0.14 on its virtual machine; behind each how many times ours it takes.\n",
        machine()
    );
    println!("| decision | sys-policy | Cedar | casbin | regorus | goal |\n|---|---|---|---|---|---|");
    for (name, caller, condition, bindings, goal) in cases {
        let (note, placement) = note(&rules, empty.clone(), org, project(0), condition);
        let decide = || rules.allows(Verb::Get, black_box(&caller), black_box(&note), &placement, &NOW);
        assert!(decide().is_some(), "{name}");
        let ours = nanos(ROUNDS, 200_000, |_| {
            black_box(decide());
        });
        let peers = [
            CedarCase::new(condition, bindings).measure(),
            CasbinCase::new(condition, bindings).await?.measure(),
            RegoCase::new(condition, bindings).measure(),
        ];
        let [cedar, casbin, rego] = peers.map(|peer| format!("{}, {:.0} ×", peer.show(0), peer.median / ours.median));
        println!("| {name} | {} | {cedar} | {casbin} | {rego} | {goal} ns |", ours.show(0));
    }
    println!(
        "\nEach peer decides by the one grant that lets the caller in; sys-policy by the grants of the record in turn. A peer's answer \
         is a yes or no; ours names the grant."
    );
    Ok(())
}
