//! Values and conditions of a statement that is to travel as text: which hang on nothing but constants and the row itself.

use super::{Context, Prover, Unproved};
use crate::capture::decide::types::{self, Ty};
use crate::catalog::relation::{Column, TypeSort, Volatility};
use crate::sql::Name;
use crate::sql::statement::{Expr, Type};

impl<'a> Prover<'a> {
    pub(super) fn own_column(&self, name: &Name) -> Option<&'a Column> {
        let column = self.ours.relation.columns.iter().find(|c| c.name == *name)?;
        self.ours.travels(name).then_some(column)
    }

    /// Whether a column gets the same value in every session.
    pub(super) fn assigned(&mut self, column: &'a Column, value: Option<&Expr>) -> Result<(), Unproved> {
        const UNPROVED: Unproved = "a value that is not proved to be the same everywhere";
        let Some(value) = value else {
            return defaults(column);
        };
        let bare = || types::bare(&column.type_name);
        match (column.sort, value) {
            (_, Expr::Null) => return Ok(()),
            (TypeSort::Session, _) => return Err("a type whose values hang on the session"),
            (_, Expr::Param(number)) => return self.param_for(*number, column),
            (TypeSort::Constant, Expr::String) => return self.string(),
            (TypeSort::Constant, Expr::Array(items)) if items.iter().all(constant_item) => {
                return if items.contains(&Expr::String) { self.string() } else { Ok(()) };
            }
            (TypeSort::Constant, Expr::Cast { to, of }) if built_in(to) && to.name.as_bytes() == bare().as_bytes() => {
                return match **of {
                    Expr::String => self.string(),
                    Expr::Param(number) => self.param_for(number, column),
                    _ => Err(UNPROVED),
                };
            }
            (TypeSort::Time, Expr::Cast { to, of }) if built_in(to) && time_name(to) == Some(bare().as_str()) => {
                return match **of {
                    Expr::Param(number) => self.param_for(number, column),
                    _ => Err(UNPROVED),
                };
            }
            (_, Expr::Column { .. }) => {
                // The same type, of whatever sort, is copied as it is.
                let from = self.column(value).ok_or(UNPROVED)?;
                if types::bare(&from.type_name) == bare() {
                    return Ok(());
                }
            }
            _ => {}
        }
        match (types::column(column), self.ty(value)) {
            (Some(to), Some(from)) if types::assigns(from, to) => Ok(()),
            _ => Err(UNPROVED),
        }
    }

    fn string(&self) -> Result<(), Unproved> {
        match self.s.standard_conforming_strings {
            true => Ok(()),
            false => Err("standard_conforming_strings is off"),
        }
    }

    /// A parameter that is given to a column, or compared with one.
    fn param_for(&mut self, number: u16, column: &Column) -> Result<(), Unproved> {
        const OTHER: Unproved = "a parameter of another type than its column's";
        let told = self.told(number);
        let same = told == 0 || types::told(told).is_some_and(|name| name == types::bare(&column.type_name));
        match column.sort {
            TypeSort::Session => Err("a type whose values hang on the session"),
            TypeSort::Plain => {
                let fits = types::column(column)
                    .zip(types::told_class(told))
                    .is_some_and(|(to, from)| types::assigns(from, to));
                if same || fits { Ok(()) } else { Err(OTHER) }
            }
            TypeSort::Constant if same => Ok(()),
            TypeSort::Time if same => {
                self.binary_params.push(number);
                Ok(())
            }
            TypeSort::Constant | TypeSort::Time => Err(OTHER),
        }
    }

    /// The type told for `$number`, 0 where none was.
    fn told(&self, number: u16) -> u32 {
        let told = usize::from(number).checked_sub(1).and_then(|at| self.s.params.get(at)).copied().unwrap_or(0);
        if told == 705 { 0 } else { told } // `unknown` is as good as untold
    }

    /// A column of the row at hand, of whatever sort.
    pub(super) fn column(&self, expr: &Expr) -> Option<&'a Column> {
        let Expr::Column { qualifier, name } = expr else { return None };
        let in_reach = match self.context {
            Context::Values => false,
            Context::Row => self.is_own(qualifier.as_ref()),
            // Unqualified, a column would be ambiguous there, and the server objects.
            Context::Conflict => {
                qualifier.is_some_and(|q| q == Name::from("excluded")) || self.is_own(qualifier.as_ref())
            }
        };
        if in_reach { self.own_column(name) } else { None }
    }

    pub(super) fn condition(&mut self, filter: &Expr) -> Result<(), Unproved> {
        match self.ty(filter) {
            Some(Ty::Bool | Ty::Unknown) => Ok(()),
            _ => Err("a condition that is not proved to be the same everywhere"),
        }
    }

    /// The class of an expression that gives the same in every session; none where that is not proved.
    fn ty(&mut self, expr: &Expr) -> Option<Ty<'a>> {
        match expr {
            Expr::Param(number) => match self.told(*number) {
                0 => Some(Ty::Unknown),
                told => types::told_class(told),
            },
            Expr::Null => Some(Ty::Unknown),
            Expr::Bool(_) => Some(Ty::Bool),
            Expr::Number => Some(Ty::Number),
            Expr::String => self.string().ok().map(|()| Ty::Unknown),
            Expr::BitString => Some(Ty::Bits),
            Expr::Column { .. } => types::column(self.column(expr)?),
            Expr::Operator { name, operands } => self.operator(name, operands),
            Expr::And(parts) | Expr::Or(parts) => self.all_bool(parts),
            Expr::Not(of) => self.all_bool(std::slice::from_ref(of)),
            Expr::Is(of) => {
                // IS NULL looks at no value.
                if self.column(of).is_none() {
                    self.ty(of)?;
                }
                Some(Ty::Bool)
            }
            Expr::Distinct(left, right) => self.compared(left, right),
            Expr::In { of, list, .. } => {
                for item in list {
                    self.compared(of, item)?;
                }
                Some(Ty::Bool)
            }
            Expr::Between(parts) => {
                let [first, rest @ ..] = parts.as_slice() else { return None };
                for part in rest {
                    self.compared(first, part)?;
                }
                Some(Ty::Bool)
            }
            Expr::Any { of, operator, array } => self.any(of, operator, array),
            Expr::Pure(parts) => self.merged(parts),
            Expr::Call { schema, name, args } => self.call(schema.as_ref(), name, args),
            Expr::Cast { to, of } => {
                let to = types::cast(to.name.as_bytes()).filter(|_| built_in(to))?;
                let from = self.ty(of)?;
                types::casts(from, to).then_some(to)
            }
            Expr::Row(_) | Expr::Array(_) | Expr::Opaque => None,
        }
    }

    fn all_bool(&mut self, parts: &[impl std::borrow::Borrow<Expr>]) -> Option<Ty<'a>> {
        for part in parts {
            if !matches!(self.ty(part.borrow())?, Ty::Bool | Ty::Unknown) {
                return None;
            }
        }
        Some(Ty::Bool)
    }

    fn operator(&mut self, name: &Name, operands: &[Expr]) -> Option<Ty<'a>> {
        if self.s.catalog.user_operators.contains(name) {
            return None;
        }
        if let (b"=" | b"<>" | b"!=" | b"<" | b">" | b"<=" | b">=", [left, right]) = (name.as_bytes(), operands) {
            return match (name.as_bytes(), left, right) {
                (b"=", Expr::Row(left), Expr::Row(right)) if left.len() == right.len() => {
                    for (left, right) in left.iter().zip(right) {
                        self.compared(left, right)?;
                    }
                    Some(Ty::Bool)
                }
                (b"=" | b"<>" | b"!=", ..) => self.compared(left, right),
                _ => self.ordered(left, right),
            };
        }
        let types = operands.iter().map(|o| self.ty(o)).collect::<Option<Vec<_>>>()?;
        types::operator(name.as_bytes(), &types)
    }

    /// Two values compared for equality; constants of more types can be than can be ordered.
    fn compared(&mut self, left: &Expr, right: &Expr) -> Option<Ty<'a>> {
        for (column, value) in [(left, right), (right, left)] {
            let Some(column) = self.column(column).filter(|c| c.sort == TypeSort::Constant) else { continue };
            return match value {
                Expr::String => self.string().ok(),
                Expr::Null => Some(()),
                Expr::Param(number) => self.param_for(*number, column).ok(),
                _ => None,
            }
            .map(|()| Ty::Bool);
        }
        self.ordered(left, right)
    }

    fn ordered(&mut self, left: &Expr, right: &Expr) -> Option<Ty<'a>> {
        for (column, value) in [(left, right), (right, left)] {
            let Some(column) = self.column(column).filter(|c| c.sort == TypeSort::Time) else { continue };
            return match value {
                Expr::Param(number) => self.param_for(*number, column).ok(),
                Expr::Null => Some(()),
                other => self.column(other).filter(|c| c.type_name == column.type_name).map(|_| ()),
            }
            .map(|()| Ty::Bool);
        }
        let types = [self.ty(left)?, self.ty(right)?];
        types::operator(b"=", &types)
    }

    fn any(&mut self, of: &Expr, operator: &Name, array: &Expr) -> Option<Ty<'a>> {
        if self.s.catalog.user_operators.contains(operator) {
            return None;
        }
        let of = self.ty(of)?;
        let items = match array {
            Expr::Array(items) => items.iter().map(|i| self.ty(i)).collect::<Option<Vec<_>>>()?,
            Expr::Param(number) if self.told(*number) == 0 => Vec::new(),
            _ => return None,
        };
        for item in items.into_iter().chain([Ty::Unknown]) {
            types::operator(operator.as_bytes(), &[of, item]).filter(|t| *t == Ty::Bool)?;
        }
        Some(Ty::Bool)
    }

    /// What `coalesce`, `CASE` and their kin give. The conditions of a CASE stand among its results.
    fn merged(&mut self, parts: &[Expr]) -> Option<Ty<'a>> {
        let mut types = parts.iter().map(|p| self.ty(p)).collect::<Option<Vec<_>>>()?;
        if types.iter().any(|t| !matches!(t, Ty::Bool | Ty::Unknown)) {
            types.retain(|t| *t != Ty::Bool);
        }
        types.into_iter().try_fold(Ty::Unknown, types::unify)
    }

    fn call(&mut self, schema: Option<&Name>, name: &Name, args: &[Expr]) -> Option<Ty<'a>> {
        let functions = &self.s.catalog.functions;
        let built_in = match schema {
            None => !functions.user.contains(name),
            Some(schema) => *schema == Name::from("pg_catalog"),
        };
        if !built_in || !functions.immutable.contains(name) {
            return None;
        }
        let types = args.iter().map(|a| self.ty(a)).collect::<Option<Vec<_>>>()?;
        types::call(name.as_bytes(), &types)
    }
}

/// Whether a column that is given no value gets the same one in every session.
pub(super) fn defaults(column: &Column) -> Result<(), Unproved> {
    let steady = column.default == Volatility::Immutable && column.identity.is_none();
    if column.generated || steady { Ok(()) } else { Err("a default that is not the same everywhere") }
}

fn built_in(to: &Type) -> bool {
    !to.array && to.schema.is_none_or(|s| s == Name::from("pg_catalog"))
}

fn constant_item(expr: &Expr) -> bool {
    matches!(expr, Expr::Null | Expr::Bool(_) | Expr::Number | Expr::String)
}

/// `format_type`'s name for a date or time type as the grammar spells it.
fn time_name(to: &Type) -> Option<&'static str> {
    Some(match to.name.as_bytes() {
        b"date" => "date",
        b"time" => "time without time zone",
        b"timetz" => "time with time zone",
        b"timestamp" => "timestamp without time zone",
        b"timestamptz" => "timestamp with time zone",
        b"interval" => "interval",
        _ => return None,
    })
}
