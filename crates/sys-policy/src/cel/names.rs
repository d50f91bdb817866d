//! What a name means: a variable and a path of fields, or an enum's value.

use super::{
    Profile, Scope,
    error::{CelError, unsupported},
    ir::{CallerField, Literal, Path, Root, Step, Type},
};
use cel::common::ast::Expr;
use prost_reflect::{EnumDescriptor, MessageDescriptor};
use sys_contract::encoded::FieldKind;
use sys_contract::names::nearest;

/// Names that are listed where none is near: more than that is no help.
const MAX_LISTED: usize = 8;

/// What a chain of names stands for.
pub(super) enum Name {
    Path(Path),
    Now,
    Enum { literal: Literal, of: EnumDescriptor },
}

/// The names of `a.b.c`; none for any other expression.
pub(super) fn chain(expr: &Expr) -> Option<Vec<&str>> {
    match expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) if !select.test => {
            let mut names = chain(&select.operand.expr)?;
            names.push(&select.field);
            Some(names)
        }
        _ => None,
    }
}

/// Looks a chain of names up.
pub(super) fn resolve(names: &[&str], scope: Scope<'_>) -> Result<Name, CelError> {
    let Some((first, rest)) = names.split_first() else {
        return Err(CelError::Syntax { what: "a name is missing".to_owned() });
    };
    match scope.profile {
        Profile::Filter { record } => match *first {
            first if record.get_field_by_name(first).is_some() => {
                path(Root::This, record, names, names).map(Name::Path)
            }
            "now" if rest.is_empty() => Ok(Name::Now),
            _ => enum_value(names, scope).ok_or_else(|| no_field(names, record, scope)),
        },
        Profile::Rule { this, next, request } => match (*first, this, request) {
            ("this", Some(record), _) => path(Root::This, record, rest, names).map(Name::Path),
            ("next", Some(record), _) if next => path(Root::Next, record, rest, names).map(Name::Path),
            ("request", _, Some(message)) => path(Root::Request, message, rest, names).map(Name::Path),
            ("caller", ..) => caller(rest).map(Name::Path),
            ("now", ..) if rest.is_empty() => Ok(Name::Now),
            _ => enum_value(names, scope).ok_or_else(|| no_variable(names, first, scope)),
        },
    }
}

/// A path of fields from a message.
fn path(root: Root, from: &MessageDescriptor, fields: &[&str], names: &[&str]) -> Result<Path, CelError> {
    let text = names.join(".");
    let mut ty = Type::Message(from.clone());
    let mut steps = Vec::with_capacity(fields.len());
    for name in fields {
        let Type::Message(message) = &ty else {
            return Err(unsupported(format!("`.{name}` on {ty}"), "compare the value itself"));
        };
        if message.full_name().starts_with("google.protobuf.") {
            let what = format!("`.{name}` on {}", message.full_name());
            return Err(unsupported(what, "test it with `has()`, or use a plain field"));
        }
        let Some(field) = message.get_field_by_name(name) else { return Err(unknown_field(name, message)) };
        ty = Type::of_field(&field).ok_or_else(|| unsupported("a map", "use a repeated field or a message"))?;
        let presence = field.supports_presence() && !field.is_list();
        steps.push(Step { kind: FieldKind::of(&field), field, presence });
    }
    Ok(Path { root, steps, ty, text })
}

fn caller(fields: &[&str]) -> Result<Path, CelError> {
    let known = || CallerField::ALL.into_iter().map(|(name, _)| name);
    let field = match fields {
        [name] => CallerField::ALL.into_iter().find(|(known, _)| known == name).map(|(_, field)| field),
        _ => None,
    };
    let Some(field) = field else {
        let name = fields.join(".");
        return Err(CelError::Unknown { instead: suggest("caller.", &name, known()), name, of: "caller".to_owned() });
    };
    let text = format!("caller.{}", fields.join("."));
    Ok(Path { root: Root::Caller(field), steps: Vec::new(), ty: field.ty(), text })
}

/// `State.OPEN`, looked up in the package, then in those around it, as CEL resolves names in a container.
fn enum_value(names: &[&str], scope: Scope<'_>) -> Option<Name> {
    let (value, name) = names.split_last()?;
    if name.is_empty() {
        return None;
    }
    let name = name.join(".");
    let mut package = scope.package;
    loop {
        let full_name = if package.is_empty() { name.clone() } else { format!("{package}.{name}") };
        if let Some(of) = scope.pool.get_enum_by_name(&full_name) {
            let number = of.get_value_by_name(value)?.number();
            let literal = Literal::Enum { number, name: names.join(".") };
            return Some(Name::Enum { literal, of });
        }
        if package.is_empty() {
            return None;
        }
        package = package.rsplit_once('.').map_or("", |(outer, _)| outer);
    }
}

fn unknown_field(name: &str, message: &MessageDescriptor) -> CelError {
    let fields: Vec<_> = message.fields().collect();
    let instead = suggest("", name, fields.iter().map(|field| field.name()));
    CelError::Unknown { name: name.to_owned(), of: message.name().to_owned(), instead }
}

/// A filter's first name that means nothing.
fn no_field(names: &[&str], record: &MessageDescriptor, scope: Scope<'_>) -> CelError {
    match names {
        ["this", rest @ ..] => {
            unsupported("`this` in a filter", format!("write the field alone: `{}`", rest.join(".")))
        }
        ["caller", ..] => unsupported("`caller` in a filter", "write the value itself, such as the account's id"),
        [first, ..] => unknown_enum_value(names, scope).unwrap_or_else(|| unknown_field(first, record)),
        [] => CelError::Syntax { what: "a name is missing".to_owned() },
    }
}

/// A chain whose enum is there while the value is not.
fn unknown_enum_value(names: &[&str], scope: Scope<'_>) -> Option<CelError> {
    let (value, name) = names.split_last()?;
    let name = name.join(".");
    let of = scope.pool.get_enum_by_name(&format!("{}.{name}", scope.package))?;
    let values: Vec<_> = of.values().collect();
    let instead = suggest(&format!("{name}."), value, values.iter().map(|value| value.name()));
    Some(CelError::Unknown { name: (*value).to_owned(), of: name, instead })
}

/// A rule's first name that means nothing.
fn no_variable(names: &[&str], first: &str, scope: Scope<'_>) -> CelError {
    if let Some(error) = unknown_enum_value(names, scope) {
        return error;
    }
    let Profile::Rule { this, next, request } = scope.profile else {
        return CelError::Unknown { name: first.to_owned(), of: "a filter".to_owned(), instead: String::new() };
    };
    let instead = match first {
        "next" => "only a grant of UPDATE alone may name the result of a change".to_owned(),
        "request" => "only grants of a method may name its request".to_owned(),
        "this" => "name a `target` to judge the method on a record, or use `request`".to_owned(),
        _ if this.is_some_and(|record| record.get_field_by_name(first).is_some()) => format!("write `this.{first}`"),
        _ => {
            let variables = [
                Some("caller"),
                Some("now"),
                this.map(|_| "this"),
                this.filter(|_| next).map(|_| "next"),
                request.map(|_| "request"),
            ];
            suggest("", first, variables.into_iter().flatten())
        }
    };
    CelError::Unknown { name: first.to_owned(), of: "this condition".to_owned(), instead }
}

/// The nearest of the names, or all of them.
fn suggest<'a>(before: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("write `{before}{near}`"),
        None => {
            let mut listed: Vec<_> = known.clone().take(MAX_LISTED).map(|name| format!("`{before}{name}`")).collect();
            if known.count() > MAX_LISTED {
                listed.push("...".to_owned());
            }
            format!("there are {}", listed.join(", "))
        }
    }
}
