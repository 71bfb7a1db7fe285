//! Proves the statement lane (§4.2): the result hangs on nothing but constants and the row that the statement itself locks.

use crate::catalog::relation::{Column, TypeSort, Volatility};
use crate::config::OnError;
use crate::sql::Name;
use crate::sql::statement::{Assign, ConflictAction, Delete, Expr, Insert, Kind, Overriding, Source, Type, Update};

use super::Surroundings;
use super::target::Ours;
use super::types::{self, Ty};

/// That the text may travel, and what has to hold when it is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    /// Rows that must have been changed.
    pub(super) expect: u64,
    /// Fewer rows than expected, but some, are possible: images have to be at hand.
    pub(super) some: bool,
    /// Parameters that must be NULL or bound in binary.
    pub(super) binary_params: Vec<u16>,
}

/// Why a statement's text may not travel, in a few words.
pub(super) type Unproved = &'static str;

/// Proves one write of a table, or says what stands against it.
pub(super) fn prove(kind: &Kind, ours: &Ours<'_>, s: &Surroundings<'_>) -> Result<Proof, Unproved> {
    if !ours.is_root() {
        return Err("the partition is not the table that the rule names");
    }
    if ours.relation.before_row_trigger {
        return Err("a trigger may change the row");
    }
    if ours.rule.filter.is_some() {
        return Err("the rule filters rows");
    }
    if ours.rule.conflict.is_some() {
        return Err("conflicts are settled by whole rows");
    }
    if ours.rule.on_error == OnError::Park {
        return Err("what a peer rejects is parked by its rows");
    }
    let mut prover = Prover { ours, s, binary_params: Vec::new(), context: Context::Values };
    let (expect, some) = match kind {
        Kind::Insert(insert) => (prover.insert(insert)?, false),
        Kind::Update(update) => prover.update(update)?,
        Kind::Delete(delete) => prover.delete(delete)?,
        _ => return Err("not of a kind that travels as text"),
    };
    prover.binary_params.sort_unstable();
    prover.binary_params.dedup();
    Ok(Proof { expect, some, binary_params: prover.binary_params })
}

/// Whether a statement can change at most one row, whatever else it does: one row of VALUES, or a key named in full.
pub(super) fn at_most_one(kind: &Kind, ours: &Ours<'_>, s: &Surroundings<'_>) -> bool {
    let filter = match kind {
        Kind::Insert(insert) => return rows_of(insert) == Some(1),
        Kind::Update(update) => &update.filter,
        Kind::Delete(delete) => &delete.filter,
        _ => return false,
    };
    let prover = Prover { ours, s, binary_params: Vec::new(), context: Context::Row };
    let Some(filter) = filter else { return false };
    prover.pins(filter).is_some_and(|(_, some)| !some)
}

fn rows_of(insert: &Insert) -> Option<usize> {
    match &insert.source {
        Source::Values(rows) => Some(rows.len()),
        Source::DefaultValues => Some(1),
        Source::Query => None,
    }
}

/// Where an expression stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    /// In VALUES: there is no row.
    Values,
    /// In WHERE and SET: the row's own columns.
    Row,
    /// In ON CONFLICT DO UPDATE: also the row that was to be inserted.
    Conflict,
}

struct Prover<'a> {
    ours: &'a Ours<'a>,
    s: &'a Surroundings<'a>,
    binary_params: Vec<u16>,
    context: Context,
}

// === statements ===

impl<'a> Prover<'a> {
    fn insert(&mut self, insert: &Insert) -> Result<u64, Unproved> {
        if insert.opaque_columns {
            return Err("a part of a column is assigned");
        }
        let rows: &[Vec<Option<Expr>>] = match &insert.source {
            Source::Values(rows) => rows,
            Source::DefaultValues => &[Vec::new()],
            Source::Query => return Err("the rows come out of a query"),
        };
        if insert.on_conflict.is_some() && rows.len() != 1 {
            return Err("ON CONFLICT with several rows");
        }
        let columns = self.named(insert)?;
        let user = insert.overriding == Some(Overriding::User);
        if user && self.ours.relation.columns.iter().any(|c| c.identity.is_some()) {
            return Err("an identity column's value comes out of its sequence");
        }
        for row in rows {
            // Only without a column list may a row be shorter; otherwise the server objects.
            let given = columns.iter().take(row.len());
            let left_out = self.ours.relation.columns.iter().filter(|c| !given.clone().any(|g| g.name == c.name));
            for column in left_out {
                defaults(column)?;
            }
            for (column, value) in given.zip(row) {
                self.assigned(column, value.as_ref())?;
            }
        }
        if let Some(conflict) = &insert.on_conflict {
            self.conflict(&conflict.action)?;
        }
        u64::try_from(rows.len()).map_err(|_| "too many rows")
    }

    /// The columns that VALUES gives, in its order.
    fn named(&self, insert: &Insert) -> Result<Vec<&'a Column>, Unproved> {
        let all = &self.ours.relation.columns;
        let named: Option<Vec<_>> = match &insert.columns {
            None if matches!(insert.source, Source::DefaultValues) => Some(Vec::new()),
            None => Some(all.iter().collect()),
            Some(names) => names.iter().map(|n| all.iter().find(|c| c.name == *n)).collect(),
        };
        let named = named.ok_or("a column that is not known")?;
        match named.iter().all(|c| self.ours.travels(&c.name)) {
            true => Ok(named),
            false => Err("a column that does not travel"),
        }
    }

    fn conflict(&mut self, action: &ConflictAction) -> Result<(), Unproved> {
        match (self.ours.relation.uniques.as_slice(), &self.ours.relation.key) {
            ([only], Some(key)) if !only.special && !only.deferrable && same_set(&only.columns, key) => {}
            _ => return Err("ON CONFLICT where the table has not one unique key"),
        }
        self.context = Context::Conflict;
        match action {
            ConflictAction::Nothing => Ok(()),
            ConflictAction::Update { set, filter } => {
                self.set(set)?;
                filter.as_ref().map_or(Ok(()), |f| self.condition(f))
            }
        }
    }

    fn update(&mut self, update: &Update) -> Result<(u64, bool), Unproved> {
        if update.from || update.current_of {
            return Err("the rows are found through another table or a cursor");
        }
        let pins = self.found(update.filter.as_ref())?;
        self.set(&update.set)?;
        // A list may find fewer rows than it names; then rows have to travel, and those cannot tell the key they had.
        if pins.1 && changes_key(&update.set, self.ours) {
            return Err("keys change in several rows");
        }
        Ok(pins)
    }

    fn delete(&mut self, delete: &Delete) -> Result<(u64, bool), Unproved> {
        if delete.using || delete.current_of {
            return Err("the rows are found through another table or a cursor");
        }
        self.found(delete.filter.as_ref())
    }

    fn found(&mut self, filter: Option<&Expr>) -> Result<(u64, bool), Unproved> {
        const UNPINNED: Unproved = "WHERE does not name the row by its key";
        self.context = Context::Row;
        let filter = filter.ok_or(UNPINNED)?;
        let pins = self.pins(filter).ok_or(UNPINNED)?;
        self.condition(filter)?;
        Ok(pins)
    }

    fn set(&mut self, set: &[Assign]) -> Result<(), Unproved> {
        for assign in set {
            if assign.part {
                return Err("a part of a column is assigned");
            }
            let column = self.own_column(&assign.column).ok_or("a column that is not known")?;
            self.assigned(column, assign.value.as_ref())?;
        }
        Ok(())
    }
}

// === keys ===

impl Prover<'_> {
    /// How many rows a condition can be met by, at most, and whether a list says so: every column of some unique key has to
    /// equal a constant, or one of them to stand in a list of constants.
    fn pins(&self, filter: &Expr) -> Option<(u64, bool)> {
        let mut pinned = Vec::new();
        conjuncts(filter, &mut |conjunct| self.pin(conjunct, &mut pinned));
        let relation = self.ours.relation;
        let sound = |columns: &[usize]| {
            let not_null = |at: &usize| relation.columns.get(*at).is_some_and(|c| c.not_null);
            !columns.is_empty() && columns.iter().all(not_null)
        };
        // Without a key there is none among them, or rows of inheriting tables are in reach, which they do not hold for.
        let key = relation.key.as_ref()?;
        let uniques = relation.uniques.iter().filter(|u| !u.deferrable && !u.special).map(|u| u.columns.as_slice());
        let keys = std::iter::once(key.as_slice()).chain(uniques).filter(|columns| sound(columns));
        keys.filter_map(|columns| rows_by(columns, &pinned)).min()
    }

    /// Notes which columns one condition of several pins, each with the number of values it allows.
    fn pin(&self, condition: &Expr, pinned: &mut Vec<(usize, Option<u64>)>) {
        match condition {
            Expr::Operator { name, operands } if name.as_bytes() == b"=" => {
                if let [left, right] = operands.as_slice() {
                    self.pin_pair(left, right, pinned);
                }
            }
            Expr::In { of, list, negated: false } if list.iter().all(constant) => {
                let at = self.column_at(of);
                let len = u64::try_from(list.len()).ok();
                pinned.extend(at.zip(len).map(|(at, len)| (at, (len > 1).then_some(len))));
            }
            _ => {}
        }
    }

    fn pin_pair(&self, left: &Expr, right: &Expr, pinned: &mut Vec<(usize, Option<u64>)>) {
        match (left, right) {
            (Expr::Row(left), Expr::Row(right)) if left.len() == right.len() => {
                for (left, right) in left.iter().zip(right) {
                    self.pin_pair(left, right, pinned);
                }
            }
            (side, value) | (value, side) if constant(value) => {
                pinned.extend(self.column_at(side).map(|at| (at, None)));
            }
            _ => {}
        }
    }

    fn column_at(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Column { qualifier, name } if self.is_own(qualifier.as_ref()) => self.ours.relation.column(name),
            _ => None,
        }
    }

    /// Whether a qualifier means the written table.
    fn is_own(&self, qualifier: Option<&Name>) -> bool {
        let target = self.ours.target;
        qualifier.is_none_or(|q| *q == target.alias.unwrap_or(target.relation.name))
    }
}

/// How many rows of a unique key's columns the pins allow: all but one must equal a constant.
fn rows_by(columns: &[usize], pinned: &[(usize, Option<u64>)]) -> Option<(u64, bool)> {
    let mut lists = Vec::new();
    for column in columns {
        let here = || pinned.iter().filter(|(at, _)| at == column);
        match here().find(|(_, list)| list.is_none()).or_else(|| here().next())? {
            (_, None) => {}
            (_, Some(len)) => lists.push(*len),
        }
    }
    match lists.as_slice() {
        [] => Some((1, false)),
        [len] => Some((*len, true)),
        _ => None,
    }
}

/// The conditions that all have to be met.
fn conjuncts<'e>(expr: &'e Expr, each: &mut impl FnMut(&'e Expr)) {
    match expr {
        Expr::And(parts) => parts.iter().for_each(|part| conjuncts(part, each)),
        other => each(other),
    }
}

/// A value that one statement has one of.
fn constant(expr: &Expr) -> bool {
    match expr {
        Expr::Param(_) | Expr::Bool(_) | Expr::Number | Expr::String | Expr::BitString => true,
        Expr::Cast { of, .. } => constant(of),
        Expr::Operator { name, operands } => {
            // A sign in front of a number.
            matches!(name.as_bytes(), b"-" | b"+") && matches!(operands.as_slice(), [Expr::Number | Expr::Param(_)])
        }
        _ => false,
    }
}

/// Whether an UPDATE may give a row another key.
pub(super) fn changes_key(set: &[Assign], ours: &Ours<'_>) -> bool {
    let Some(key) = ours.key() else { return false };
    let to_itself = |assign: &Assign| {
        let target = ours.target;
        let own = |q: &Option<Name>| q.is_none_or(|q| q == target.alias.unwrap_or(target.relation.name));
        match &assign.value {
            Some(Expr::Column { qualifier, name }) => !assign.part && *name == assign.column && own(qualifier),
            _ => false,
        }
    };
    let generated = |name: &Name| ours.root.columns.iter().any(|c| c.name == *name && c.generated);
    // A name in another encoding than the catalog's may be any.
    let unknown = |name: &Name| ours.relation.column(name).is_none() && !name.as_bytes().is_ascii();
    key.iter().any(generated) || set.iter().any(|a| (key.contains(&a.column) || unknown(&a.column)) && !to_itself(a))
}

fn same_set(a: &[usize], b: &[usize]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.contains(x))
}

// === values ===

impl<'a> Prover<'a> {
    fn own_column(&self, name: &Name) -> Option<&'a Column> {
        let column = self.ours.relation.columns.iter().find(|c| c.name == *name)?;
        self.ours.travels(name).then_some(column)
    }

    /// Whether a column gets the same value in every session.
    fn assigned(&mut self, column: &'a Column, value: Option<&Expr>) -> Result<(), Unproved> {
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
    fn column(&self, expr: &Expr) -> Option<&'a Column> {
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

    fn condition(&mut self, filter: &Expr) -> Result<(), Unproved> {
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
fn defaults(column: &Column) -> Result<(), Unproved> {
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
