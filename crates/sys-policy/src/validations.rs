//! Validation rules in CEL, bounded: the texts before the validation library's parser sees them, and their loops.
//!
//! They run in the gate on what a caller sent, and CEL has no limit on cost: so a loop goes over a list that says how long it
//! may be, and stands in no other loop. Must never happen here: a rule that passes without having been parsed.

use crate::cel::{
    MAX_DEPTH,
    error::{CelError, type_error},
    parse_validation,
};
use cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, operators};
use prost_reflect::FieldDescriptor;
use sys_contract::{
    load::most_items,
    model::{Contract, Validated},
    problem::Problem,
};

/// Nodes of a parsed rule. A loop alone has about ten.
const MAX_NODES: usize = 128;
/// Items of a list that a loop goes over: at some microseconds each, a call spends milliseconds.
const MAX_ITEMS: u64 = 1000;

/// Adds what is wrong with a contract's validation rules.
pub(crate) fn check(contract: &Contract, problems: &mut Vec<Problem>) {
    for validation in &contract.validations {
        let checked = parse_validation(&validation.expression)
            .and_then(|expr| Walk { this: &validation.this, nodes: 0 }.expression(&expr, 1, false));
        if let Err(error) = checked {
            problems.push(Problem {
                place: validation.place.clone(),
                what: format!("this validation rule is refused: {error}"),
                instead: instead(&error),
            });
        }
    }
}

fn instead(error: &CelError) -> String {
    match error {
        CelError::TooLong { .. } | CelError::TooDeep { .. } | CelError::TooLarge { .. } => {
            "say it in several rules".to_owned()
        }
        CelError::Syntax { .. } => "write something like `this.first <= this.last`".to_owned(),
        other => other.instead(),
    }
}

struct Walk<'a> {
    this: &'a Validated,
    nodes: usize,
}

impl Walk<'_> {
    fn expression(&mut self, expr: &IdedExpr, depth: usize, in_loop: bool) -> Result<(), CelError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(CelError::TooLarge { max: MAX_NODES });
        }
        if depth > MAX_DEPTH {
            return Err(CelError::TooDeep { max: MAX_DEPTH });
        }
        let mut inside = |expr: &IdedExpr| self.expression(expr, depth + 1, in_loop);
        match &expr.expr {
            Expr::Call(call) => {
                call.target.iter().map(|target| &**target).chain(&call.args).try_for_each(inside)?;
                // To look for a value is a loop, too, though a fast one.
                match call.args.as_slice() {
                    [_, range] if in_loop && call.func_name == operators::IN => self.bounded(range),
                    _ => Ok(()),
                }
            }
            Expr::List(list) => list.elements.iter().try_for_each(inside),
            Expr::Select(select) => inside(&select.operand),
            Expr::Comprehension(_) if in_loop => {
                Err(type_error("a loop stands inside another", "say it beside the fields of the inner message"))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            // The scanner lets no map and no message through.
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr, depth: usize) -> Result<(), CelError> {
        let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = comprehension;
        self.expression(iter_range, depth, false)?;
        self.bounded(iter_range)?;
        [accu_init, loop_cond, loop_step, result].into_iter().try_for_each(|expr| self.expression(expr, depth, true))
    }

    /// Passes what holds a bounded number of items.
    fn bounded(&self, range: &IdedExpr) -> Result<(), CelError> {
        match (&range.expr, self.this) {
            // What a loop makes of a bounded list is no longer than that.
            (Expr::List(_) | Expr::Comprehension(_), _) => return Ok(()),
            (Expr::Ident(name), Validated::Items(field)) if name == "this" => return of_a_bounded_list(field),
            _ => {}
        }
        self.field(range).map_or_else(
            || {
                let what = "a loop goes over what is no list of this message";
                Err(type_error(what, "loop over a field, such as `this.items.all(item, ...)`"))
            },
            |field| of_a_bounded_list(&field),
        )
    }

    /// The field that a path such as `this.a.b` names.
    fn field(&self, expr: &IdedExpr) -> Option<FieldDescriptor> {
        let Expr::Select(select) = &expr.expr else { return None };
        if select.test {
            return None;
        }
        let of = match &select.operand.expr {
            Expr::Ident(name) if name == "this" => match self.this {
                Validated::Message(message) => message.clone(),
                Validated::Items(_) | Validated::Scalar => return None,
            },
            _ => {
                let outer = self.field(&select.operand)?;
                if outer.is_list() || outer.is_map() {
                    return None;
                }
                outer.kind().as_message()?.clone()
            }
        };
        of.get_field_by_name(&select.field)
    }
}

fn of_a_bounded_list(field: &FieldDescriptor) -> Result<(), CelError> {
    if most_items(field).is_some_and(|most| most <= MAX_ITEMS) {
        return Ok(());
    }
    let what = format!("a loop goes over `{}`, which may hold more than {MAX_ITEMS} items", field.name());
    let rule = if field.is_map() { "map.max_pairs" } else { "repeated.max_items" };
    Err(type_error(what, format!("add `(buf.validate.field).{rule} = {MAX_ITEMS}`, or less, to `{}`", field.name())))
}

#[cfg(test)]
mod tests;
