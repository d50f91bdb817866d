//! Contracts: what anybody may upload as a module.

use crate::{
    condition::{NOW_UNIX_S, Sample},
    input::{self, Bytes, parts},
    things::{THINGS, shown},
};
use prost_protovalidate::Validator;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage};
use sys_contract::{
    Origin, SourceFile, breaking_changes,
    id::{AccountId, OrgTag, RecordId, SessionId},
    load,
    model::{Contract, Role, Validated, Validation, Verb},
    problem::Problems,
};
use sys_policy::{Binding, BindingScope, Caller, Now, Placement, Rules, Standing};

const PATHS: [&str; 3] = ["a/v1/a.proto", "a/v1/b.proto", "notes/v1/notes.proto"];

/// One to three files. They are refused with a place and a remedy for each fault, or load in one way, describe themselves
/// whole, break nothing of themselves, and have rules and validation rules that run.
pub(crate) fn file(bytes: &[u8]) {
    let texts: [&[u8]; 3] = parts(bytes);
    let written = PATHS.iter().zip(texts).filter(|(_, text)| !text.is_empty());
    let files =
        written.map(|(path, text)| Some(SourceFile { path: (*path).to_owned(), text: input::text(text)?.to_owned() }));
    let Some(files) = files.collect::<Option<Vec<_>>>() else { return };
    let contract = match load("mod-a", Origin::Uploaded, &files) {
        Ok(contract) => contract,
        Err(problems) => return are_told(&problems, &files),
    };
    let set = contract.file_descriptor_set();
    let again = load("mod-a", Origin::Uploaded, &files).expect("it has loaded before");
    assert!(again.file_descriptor_set() == set, "a contract loads in one way");
    let pool = DescriptorPool::decode(set.as_slice()).expect("what we wrote can be read");
    assert!(pool.encode_to_vec() == set, "a contract is written as it was read");
    assert_eq!(breaking_changes(&contract, &again), [], "a contract breaks itself");
    let methods = contract.services.iter().map(|service| service.methods.len()).sum::<usize>();
    assert_eq!(contract.select(|_| true).is_some(), methods > 0);
    match Rules::compile(&contract) {
        Ok(rules) => {
            let matrix = sys_policy::matrix(&[(&contract, &rules)]);
            for method in contract.services.iter().flat_map(|service| &service.methods) {
                assert!(matrix.contains(&method.path), "{} is not in the matrix", method.path);
                validates(&DynamicMessage::new(method.descriptor.input()));
            }
        }
        Err(problems) => are_told(&problems, &files),
    }
}

fn are_told(problems: &Problems, files: &[SourceFile]) {
    assert!(!problems.0.is_empty(), "a refusal says nothing");
    assert!(problems.0.is_sorted() || problems.0.len() > 1000, "{problems}");
    for problem in &problems.0 {
        assert!(!problem.what.is_empty() && !problem.instead.is_empty(), "{problem:?}");
        assert!(!problem.what.contains("broke down"), "a compiler of others panics: {problem}");
        let file = files.iter().find(|file| *file.path == *problem.place.file);
        let lines = file.map_or(0, |file| file.text.split('\n').count());
        assert!(
            usize::try_from(problem.place.line).is_ok_and(|line| line <= lines),
            "{problem} is outside of its file"
        );
    }
}

/// Whether it is valid is no matter: it is said within our stack.
fn validates(message: &DynamicMessage) {
    let _ = Validator::new().validate(message);
}

/// A `when` and the bytes of records. What is read holds in one way, and never together with its negation.
pub(crate) fn rule(bytes: &[u8]) {
    let [when, samples] = parts(bytes);
    let Some(when) = input::text(when) else { return };
    let Some(rules) = with_rule(when) else { return };
    let negated = with_rule(&format!("!({when})"));
    let record = RecordId::new(OrgTag::GLOBAL, 1_700_000_000_000, [1; 10]);
    let org = OrgTag::of_org(record);
    let (account, session) = (AccountId::from_record(record), SessionId::from_record(record));
    let member = Binding { role: Role::User, scope: BindingScope::Org(org), expires_unix_s: None };
    let caller = Caller::new(account, session, Standing::Verified, vec![member]);
    let placement = Placement { home: org, org: Some(org), project: None, owner: None };
    let now = Now { unix_s: NOW_UNIX_S, nanos: 0 };
    let mut samples = Bytes::new(samples);
    for _ in 0..4 {
        let (record, _) = Sample::new(&mut samples).view();
        let holds = |rules: &Rules| rules.record(0).allows(Verb::Get, &caller, &record, &placement, &now).is_some();
        assert!(
            !holds(&rules) || negated.as_ref().is_none_or(|negated| !holds(negated)),
            "`{when}` of {}",
            shown(&record)
        );
        let stranger = Caller::anonymous();
        assert!(rules.record(0).allows(Verb::Get, &stranger, &record, &placement, &now).is_none(), "`{when}`");
    }
}

/// The rules where members may read under a condition.
pub(crate) fn with_rule(when: &str) -> Option<Rules> {
    let mut contract: Contract = THINGS.contract.clone();
    let grant = contract.records.first_mut()?.allow.first_mut()?;
    grant.when = Some(when.to_owned());
    match Rules::compile(&contract) {
        Ok(rules) => Some(rules),
        Err(problems) => {
            assert!(problems.0.iter().all(|problem| !problem.instead.is_empty()), "{problems}");
            None
        }
    }
}

/// A validation rule. What our bounds let through, the library's parser reads and runs without breaking down.
pub(crate) fn validation_rule(bytes: &[u8]) {
    let [expression, samples] = parts(bytes);
    let Some(expression) = input::text(expression) else { return };
    let mut contract = THINGS.contract.clone();
    let place = contract.records.first().expect("a record").place.clone();
    let this = Validated::Message(THINGS.message("Thing"));
    contract.validations = vec![Validation { expression: expression.to_owned(), this, place }];
    if let Err(problems) = Rules::compile(&contract) {
        assert!(problems.0.iter().all(|problem| !problem.instead.is_empty()), "{problems}");
        return;
    }
    assert!(expression.len() <= 1024, "a rule of {} bytes", expression.len());
    let text = include_str!("../contracts/things.proto");
    let option = format!("message Thing {{\n  option (buf.validate.message).cel_expression = {};", quoted(expression));
    let text = text.replacen("message Thing {", &option, 1);
    let file = SourceFile { path: "things/v1/things.proto".to_owned(), text };
    let contract = load("mod-things", Origin::Uploaded, &[file]).expect("only an expression is new");
    Rules::compile(&contract).expect("the same expression");
    let (view, _) = Sample::new(&mut Bytes::new(samples)).view();
    let mut thing = DynamicMessage::new(contract.pool.get_message_by_name("things.v1.Thing").expect("the record"));
    for (field, value) in view.fields() {
        // Inner messages are of the other contract's pool.
        if value.as_message().is_none() {
            thing.set_field_by_number(field.number(), value.clone());
        }
    }
    assert_eq!(thing.descriptor().full_name(), "things.v1.Thing");
    validates(&thing);
}

/// A string of the contract's language.
fn quoted(text: &str) -> String {
    let escaped: String = text.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("\"{escaped}\"")
}
