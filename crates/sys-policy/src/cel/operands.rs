//! Values inside leaves: paths, literals, `now` and what is reckoned from it.

use super::{
    Scope,
    error::{CelError, type_error, unsupported},
    ir::{Literal, Operand, Type},
    names::{self, Name},
    time::{parse_duration, parse_timestamp},
};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

/// A value and its type.
pub(super) fn operand(expr: &IdedExpr, scope: Scope<'_>) -> Result<(Operand, Type), CelError> {
    if let Some(names) = names::chain(&expr.expr) {
        return Ok(match names::resolve(&names, scope)? {
            Name::Path(path) => {
                let ty = path.ty.clone();
                (Operand::Path(path), ty)
            }
            Name::Now => (Operand::Now, Type::Timestamp),
            Name::Enum { literal, of } => (Operand::Literal(literal), Type::Enum(of)),
        });
    }
    match &expr.expr {
        Expr::Call(call) if matches!(call.func_name.as_str(), operators::ADD | operators::SUBSTRACT) => {
            from_now(call, scope)
        }
        _ => literal(expr, scope).map(|(literal, ty)| (Operand::Literal(literal), ty)),
    }
}

/// A literal and its type.
pub(super) fn literal(expr: &IdedExpr, scope: Scope<'_>) -> Result<(Literal, Type), CelError> {
    if let Some(names) = names::chain(&expr.expr) {
        return match names::resolve(&names, scope)? {
            Name::Enum { literal, of } => Ok((literal, Type::Enum(of))),
            Name::Path(_) | Name::Now => {
                Err(unsupported(format!("`{}` in a list", names.join(".")), "list literals, or join tests with `||`"))
            }
        };
    }
    match &expr.expr {
        Expr::Literal(value) => plain(value),
        Expr::Call(call) => called(call),
        Expr::List(_) => Err(unsupported("a list here", "lists stand to the right of `in`")),
        Expr::Comprehension(_) => Err(no_macros()),
        Expr::Select(_) => Err(unsupported("a test or field here", "compare plain fields; join tests with `&&`")),
        Expr::Ident(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
            Err(unsupported("this expression", "compare a field with a literal"))
        }
    }
}

pub(super) fn no_macros() -> CelError {
    unsupported("a loop over a list (`all`, `exists`, `map`, `filter`)", "write `value in this.list`")
}

fn plain(value: &LiteralValue) -> Result<(Literal, Type), CelError> {
    Ok(match value {
        LiteralValue::Boolean(value) => (Literal::Bool(*value.inner()), Type::Bool),
        LiteralValue::Int(value) => (Literal::Int(*value.inner()), Type::Int),
        LiteralValue::UInt(value) => (Literal::Uint(*value.inner()), Type::Uint),
        LiteralValue::Double(value) => (Literal::Double(*value.inner()), Type::Double),
        LiteralValue::String(value) => (Literal::Str(value.inner().to_owned()), Type::Str),
        LiteralValue::Bytes(value) => (Literal::Bytes(value.inner().to_vec()), Type::Bytes),
        LiteralValue::Null => return Err(unsupported("`null`", "write `has(x)` or `!has(x)`")),
    })
}

fn called(call: &CallExpr) -> Result<(Literal, Type), CelError> {
    let text = match (&call.target, call.args.as_slice()) {
        (None, [IdedExpr { expr: Expr::Literal(LiteralValue::String(text)), .. }]) => Some(text.inner().to_owned()),
        _ => None,
    };
    match (call.func_name.as_str(), text) {
        ("timestamp", Some(text)) => match parse_timestamp(&text) {
            Some(value) => Ok((Literal::Timestamp { value, text }, Type::Timestamp)),
            None => Err(type_error("the text is no timestamp", "write `timestamp(\"2026-11-22T14:00:00Z\")`")),
        },
        ("duration", Some(text)) => match parse_duration(&text) {
            Some(nanos) => Ok((Literal::Duration { nanos, text }, Type::Duration)),
            None => Err(type_error("the text is no duration", "write `duration(\"1h30m\")`, with h, m, s, ms, us, ns")),
        },
        ("timestamp" | "duration", None) => {
            Err(unsupported(format!("`{}` of anything but a text", call.func_name), "write its text in quotes"))
        }
        (name, _) => Err(function(name)),
    }
}

/// A function or operator that the subset does not have, in the place of a value.
pub(super) fn function(name: &str) -> CelError {
    match name {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
            type_error("a condition stands where a value is compared", "join conditions with `&&`, `||` and `!` alone")
        }
        operators::INDEX => unsupported("`[]`", "write `value in this.list`"),
        operators::NEGATE => unsupported("a minus before anything but a number", "compare with a negative literal"),
        operators::ADD | operators::SUBSTRACT => {
            unsupported("arithmetic", "only `now` plus or minus a duration is reckoned")
        }
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::IN => type_error("a comparison stands where a value is compared", "join comparisons with `&&`"),
        "all" | "exists" | "exists_one" | "existsOne" | "map" | "filter" => no_macros(),
        name => {
            let known = ["startsWith", "endsWith", "contains", "timestamp", "duration", "has"];
            let near = sys_contract::names::nearest(name, known).map(|near| format!("write `{near}`"));
            unsupported(format!("`{name}()`"), near.unwrap_or_else(|| format!("there are {}", known.join(", "))))
        }
    }
}

/// `now + d` and `now - d`.
fn from_now(call: &CallExpr, scope: Scope<'_>) -> Result<(Operand, Type), CelError> {
    let wrong = || function(&call.func_name);
    let [now, by] = call.args.as_slice() else { return Err(wrong()) };
    let (Operand::Now, _) = operand(now, scope).map_err(|_| wrong())? else { return Err(wrong()) };
    match operand(by, scope)? {
        (by @ (Operand::Path(_) | Operand::Literal(_)), Type::Duration) => {
            let by = Box::new(by);
            let sum = if call.func_name == operators::ADD { Operand::NowPlus(by) } else { Operand::NowMinus(by) };
            Ok((sum, Type::Timestamp))
        }
        (_, ty) => Err(type_error(format!("`now` goes with a duration, not with {ty}"), "write `duration(\"1h\")`")),
    }
}
