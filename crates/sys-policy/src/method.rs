//! The rules of a method: the gate's first and, where a handler serves it, only question.

use crate::{
    caller::Caller,
    cel::{eval::Env, time::Now},
    grant::{CompiledGrant, Condition, GrantNo, Subject, compile_all, on_request},
    placement::Placement,
    rules::RecordRules,
};
use prost_reflect::DynamicMessage;
use std::sync::Arc;
use sys_contract::{
    model::{Contract, Method, Verb},
    problem::Problem,
};

/// The rules of one method.
#[derive(Debug)]
pub struct MethodRules {
    served: Option<(Arc<RecordRules>, Verb)>,
    target: Option<Arc<RecordRules>>,
    grants: Vec<CompiledGrant>,
    step_up: StepUp,
}

/// Which calls need a password that was shown lately.
#[derive(Debug)]
pub(crate) enum StepUp {
    None,
    All,
    /// All but those for which this holds. What cannot be decided does not hold, so that the password is asked for.
    Unless(Box<Condition>),
}

impl MethodRules {
    pub(crate) fn compile(
        contract: &Contract,
        method: &Method,
        records: &[Arc<RecordRules>],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let request = method.descriptor.input();
        let target = method.target.as_ref().map(|target| target.record);
        let subject = Subject {
            contract,
            package: method.descriptor.parent_service().package_name(),
            record: target.and_then(|target| contract.records.get(target)),
            request: Some(&request),
        };
        let grants = compile_all(&method.allow, subject, problems);
        let served = method.serve.as_ref();
        let step_up = match &method.step_up {
            None => StepUp::None,
            Some(sys_contract::model::StepUp { unless: None, .. }) => StepUp::All,
            Some(sys_contract::model::StepUp { unless: Some(text), place }) => {
                // Without its condition it asks more, and the contract does not load.
                on_request(text, place, subject).map_or_else(
                    |problem| {
                        problems.push(problem);
                        StepUp::All
                    },
                    |condition| StepUp::Unless(Box::new(condition)),
                )
            }
        };
        Self {
            served: served.and_then(|serve| Some((records.get(serve.record)?.clone(), serve.verb))),
            target: target.and_then(|target| records.get(target).cloned()),
            grants,
            step_up,
        }
    }

    /// What a served method does, and the record that judges it.
    pub fn served(&self) -> Option<(&Arc<RecordRules>, Verb)> {
        self.served.as_ref().map(|(record, verb)| (record, *verb))
    }

    /// The record that a handler's method is judged on.
    pub fn target(&self) -> Option<&Arc<RecordRules>> {
        self.target.as_ref()
    }

    /// Whether a call might be allowed, before its body is decoded or a record read.
    pub fn could(&self, caller: &Caller, now: &Now) -> bool {
        match &self.served {
            Some((record, verb)) => record.could(caller, *verb, now),
            None => {
                let home = self.target.as_ref().map(|target| target.home());
                self.grants.iter().any(|grant| grant.who.could(caller, home, now))
            }
        }
    }

    /// The first grant of a handler's method that allows the call. A served method has none of its own: its record's rules
    /// decide, and the answer here is none.
    pub fn allows(
        &self,
        caller: &Caller,
        target: Option<(&DynamicMessage, &Placement)>,
        request: &DynamicMessage,
        now: &Now,
    ) -> Option<GrantNo> {
        let env = Env {
            this: target.map(|(record, _)| record.into()),
            next: None,
            request: Some(request),
            caller: Some(caller),
            now: *now,
            hidden: None,
        };
        let placement = target.map(|(_, placement)| placement);
        self.grants.iter().find(|grant| grant.holds(caller, placement, &env)).map(|grant| grant.no)
    }

    /// Whether a call lacks a password that was shown lately. Before its request is known, only if that does not matter.
    pub fn lacks_step_up(&self, caller: &Caller, request: Option<&DynamicMessage>, now: &Now) -> bool {
        let asked = match (&self.step_up, request) {
            (StepUp::None, _) | (StepUp::Unless(_), None) => false,
            (StepUp::All, _) => true,
            (StepUp::Unless(condition), request) => {
                let env = Env { this: None, next: None, request, caller: Some(caller), now: *now, hidden: None };
                !condition.holds(&env)
            }
        };
        asked && !caller.is_freshly_proven(now)
    }

    pub(crate) fn step_up(&self) -> &StepUp {
        &self.step_up
    }

    pub(crate) fn grants(&self) -> &[CompiledGrant] {
        &self.grants
    }
}
