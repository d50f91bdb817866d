//! From the parsed expression to typed conditions: each name resolved, each type checked, negation brought to the leaves.

use super::{
    MAX_DEPTH, MAX_NODES, Profile, Scope,
    error::{CelError, type_error, unsupported},
    ir::{Comparison, Ir, Leaf, Literal, Operand, Path, TextTest, Type},
    names::{self, Name},
    operands::{function, literal, no_macros, operand},
};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

/// What stands before the argument of `has` where the parser reads a filter.
pub(super) const THIS_DOT: &str = "this.";

/// Counts nodes and depth; refuses what exceeds its bounds.
pub(super) fn measure(expr: &IdedExpr, depth: usize, nodes: &mut usize) -> Result<(), CelError> {
    *nodes += 1;
    if *nodes > MAX_NODES {
        return Err(CelError::TooLarge { max: MAX_NODES });
    }
    if depth > MAX_DEPTH {
        return Err(CelError::TooDeep { max: MAX_DEPTH });
    }
    let mut inside = |expr: &IdedExpr| measure(expr, depth + 1, nodes);
    match &expr.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).try_for_each(inside),
        Expr::List(list) => list.elements.iter().try_for_each(inside),
        Expr::Select(select) => inside(&select.operand),
        Expr::Comprehension(_) => Err(no_macros()),
        // The scanner lets no map and no message through.
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Ok(()),
    }
}

/// Lowers a whole expression.
pub(super) fn condition(expr: &IdedExpr, scope: Scope<'_>) -> Result<Ir, CelError> {
    Lowering { scope, proven: Vec::new() }.condition(expr)
}

struct Lowering<'a> {
    scope: Scope<'a>,
    /// Paths that are set wherever the expression in hand is evaluated; a stack.
    proven: Vec<String>,
}

impl Lowering<'_> {
    fn condition(&mut self, expr: &IdedExpr) -> Result<Ir, CelError> {
        match &expr.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Ok(Ir::Const(*value.inner())),
            Expr::Select(select) if select.test => {
                let path = self.tested(&select.operand.expr, &select.field)?;
                self.prove(&path);
                Ok(Ir::leaf(Leaf::Has(path)))
            }
            Expr::Ident(_) | Expr::Select(_) => self.flag(expr),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(_) => Err(no_macros()),
            Expr::List(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                Err(type_error("a value stands where a condition is needed", "compare it, such as `this.count > 5`"))
            }
        }
    }

    fn call(&mut self, call: &CallExpr) -> Result<Ir, CelError> {
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (operators::LOGICAL_NOT, None, [inner]) => Ok(self.alone(inner)?.negate()),
            // What is proven on the left holds on the right.
            (operators::LOGICAL_AND, None, [a, b]) => Ok(Ir::all(self.condition(a)?, self.condition(b)?)),
            (operators::LOGICAL_OR, None, [a, b]) => Ok(Ir::any(self.alone(a)?, self.alone(b)?)),
            (operators::IN, None, [needle, list]) => self.membership(needle, list).map(Ir::leaf),
            (name, None, [a, b]) => match comparison(name) {
                Some(by) => self.compare(by, a, b).map(Ir::leaf),
                None => Err(function(name)),
            },
            (name, Some(target), [argument]) => match TextTest::ALL.into_iter().find(|test| test.name() == name) {
                Some(test) => self.text(test, target, argument).map(Ir::leaf),
                None => Err(function(name)),
            },
            ("timestamp" | "duration", ..) => {
                Err(type_error("a value stands where a condition is needed", "compare it, such as `now < this.ends`"))
            }
            (name, ..) => Err(function(name)),
        }
    }

    /// Lowers a part that proves nothing to what stands beside it.
    fn alone(&mut self, expr: &IdedExpr) -> Result<Ir, CelError> {
        let proven = self.proven.len();
        let ir = self.condition(expr);
        self.proven.truncate(proven);
        ir
    }

    fn prove(&mut self, path: &Path) {
        let steps: Vec<_> = path.text.match_indices('.').map(|(at, _)| at).chain([path.text.len()]).collect();
        self.proven.extend(steps.into_iter().filter_map(|end| path.text.get(..end)).map(str::to_owned));
    }

    /// In rules, each step with presence must be proven.
    fn guarded(&self, path: &Path) -> Result<(), CelError> {
        if matches!(self.scope.profile, Profile::Filter { .. }) {
            return Ok(());
        }
        let mut text = path.text.split('.').next().unwrap_or_default().to_owned();
        for step in &path.steps {
            text.push('.');
            text.push_str(step.field.name());
            if step.presence && !self.proven.contains(&text) {
                return Err(CelError::Unguarded { path: text });
            }
        }
        Ok(())
    }

    /// The path in `has(path)`.
    fn tested(&self, operand: &Expr, field: &str) -> Result<Path, CelError> {
        let mut names = names::chain(operand).ok_or_else(no_field_in_has)?;
        names.push(field);
        let names = match (self.scope.profile, names.as_slice()) {
            (Profile::Rule { .. }, names) => names,
            (Profile::Filter { .. }, ["this", names @ ..]) => names,
            (Profile::Filter { .. }, _) => return Err(no_field_in_has()),
        };
        match names::resolve(names, self.scope)? {
            Name::Path(path) => Ok(path),
            Name::Now | Name::Enum { .. } => Err(no_field_in_has()),
        }
    }

    /// A field of type bool.
    fn flag(&self, expr: &IdedExpr) -> Result<Ir, CelError> {
        match operand(expr, self.scope)? {
            (Operand::Path(path), Type::Bool) => {
                self.guarded(&path)?;
                Ok(Ir::leaf(Leaf::Bool(path)))
            }
            (value, ty) => {
                Err(type_error(format!("`{value}` is {ty}, not a condition"), "compare it with something of its type"))
            }
        }
    }

    fn compare(&self, by: Comparison, a: &IdedExpr, b: &IdedExpr) -> Result<Leaf, CelError> {
        let (a, a_type) = self.operand(a)?;
        let (b, b_type) = self.operand(b)?;
        if a_type != b_type {
            return Err(mismatch(&a, &a_type, &b, &b_type));
        }
        let equality = matches!(by, Comparison::Equal | Comparison::NotEqual);
        if equality && !a_type.has_equality() {
            return Err(no_equality(&a, &a_type));
        }
        if !equality && !a_type.has_order() {
            return Err(type_error(format!("{a_type} has no order"), "use `==`, `!=` or `in`"));
        }
        varying(&a, &b)?;
        Ok(Leaf::Compare(by, a, b))
    }

    fn membership(&self, needle: &IdedExpr, list: &IdedExpr) -> Result<Leaf, CelError> {
        let (needle, needle_type) = self.operand(needle)?;
        if !needle_type.has_equality() {
            return Err(no_equality(&needle, &needle_type));
        }
        if let Expr::List(list) = &list.expr {
            let mut literals: Vec<Literal> = Vec::with_capacity(list.elements.len());
            for element in &list.elements {
                let (element, ty) = literal(element, self.scope)?;
                if ty != needle_type {
                    return Err(mismatch(&needle, &needle_type, &Operand::Literal(element), &ty));
                }
                literals.push(element);
            }
            varying(&needle, &needle)?;
            return Ok(Leaf::InLiterals(needle, literals));
        }
        match self.operand(list)? {
            (Operand::Path(path), Type::List(of)) if *of == needle_type => Ok(Leaf::InList(needle, path)),
            (list, Type::List(of)) => Err(type_error(
                format!("`{list}` holds other values than {needle_type}: {of}"),
                "compare the same types",
            )),
            (list, _) => {
                Err(type_error(format!("`{list}` is no list"), "write `x in [\"a\", \"b\"]` or a repeated field"))
            }
        }
    }

    fn text(&self, by: TextTest, subject: &IdedExpr, argument: &IdedExpr) -> Result<Leaf, CelError> {
        let (subject, subject_type) = self.operand(subject)?;
        let (argument, argument_type) = self.operand(argument)?;
        for (value, ty) in [(&subject, &subject_type), (&argument, &argument_type)] {
            if *ty != Type::Str {
                let what = format!("`{value}` is {ty}, and `{}` is of strings", by.name());
                return Err(type_error(what, "use a comparison that fits its type"));
            }
        }
        varying(&subject, &argument)?;
        Ok(Leaf::Text(by, subject, argument))
    }

    /// A value, read where it is certain to be set.
    fn operand(&self, expr: &IdedExpr) -> Result<(Operand, Type), CelError> {
        let (operand, ty) = operand(expr, self.scope)?;
        if let Some(path) = operand.path() {
            self.guarded(path)?;
        }
        Ok((operand, ty))
    }
}

pub(super) fn no_field_in_has() -> CelError {
    unsupported("`has()` of anything but a field", "write `has(this.field)`")
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// Two values of different types: nothing is coerced, so the writer must.
fn mismatch(a: &Operand, a_type: &Type, b: &Operand, b_type: &Type) -> CelError {
    let what = format!("`{a}` is {a_type}, `{b}` is {b_type}");
    let (wanted, literal) = match (a, b) {
        (_, Operand::Literal(literal)) => (a_type, Some(literal)),
        (Operand::Literal(literal), _) => (b_type, Some(literal)),
        _ => (a_type, None),
    };
    let instead = match (wanted, literal) {
        (Type::Bool, Some(_)) => "write the field alone, or `!` and the field".to_owned(),
        (Type::Uint, Some(Literal::Int(number))) if *number >= 0 => format!("write `{number}u`"),
        (Type::Int, Some(Literal::Uint(number))) => format!("write `{number}`"),
        (Type::Double, Some(Literal::Int(number))) => format!("write `{number}.0`"),
        (Type::Timestamp, Some(_)) => "write `timestamp(\"2026-11-22T14:00:00Z\")`".to_owned(),
        (Type::Duration, Some(_)) => "write `duration(\"1h30m\")`".to_owned(),
        (Type::Bytes, Some(Literal::Str(_))) => "write `b\"...\"`".to_owned(),
        (Type::Enum(of), Some(_)) => {
            let name = of.full_name().strip_prefix(of.package_name()).unwrap_or(of.full_name());
            let value = of.values().last().map(|value| value.name().to_owned()).unwrap_or_default();
            format!("write its name, such as `{}.{value}`", name.trim_start_matches('.'))
        }
        _ => "compare values of one type".to_owned(),
    };
    type_error(what, instead)
}

fn no_equality(value: &Operand, ty: &Type) -> CelError {
    let instead = match ty {
        Type::Double => "use `<`, `<=`, `>` or `>=`",
        Type::Message(_) => "test it with `has()`, or compare its fields",
        _ => "write `value in list`",
    };
    type_error(format!("`{value}` is {ty}, which has no `==`"), instead)
}

/// Refuses a comparison that always answers the same.
fn varying(a: &Operand, b: &Operand) -> Result<(), CelError> {
    match (a, b) {
        (Operand::Literal(_), Operand::Literal(_)) => {
            Err(type_error("both sides of the comparison are fixed", "compare a field"))
        }
        _ => Ok(()),
    }
}
