//! Proves the statement lane (§4.2): the result hangs on nothing but constants and the row that the statement itself locks.

use crate::catalog::relation::Column;
use crate::config::OnError;
use crate::sql::Name;
use crate::sql::statement::{Assign, ConflictAction, Delete, Expr, Insert, Kind, Overriding, Source, Update};

use super::Surroundings;
use super::target::Ours;

use values::defaults;

mod values;

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
    if ours.rule.settles().is_some() {
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

/// Whether a condition is met by one row at most, by the very key that it has on every node, and says so whenever it is asked.
pub(super) fn names_one(filter: &Expr, ours: &Ours<'_>, s: &Surroundings<'_>) -> bool {
    let mut prover = Prover { ours, s, binary_params: Vec::new(), context: Context::Row };
    let pinned = prover.pinned(filter);
    let column = |name: &Name| ours.relation.column(name).is_some_and(|at| pinned.contains(&(at, None)));
    ours.key().is_some_and(|key| key.iter().all(column)) && prover.condition(filter).is_ok()
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
        let pinned = self.pinned(filter);
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

    /// Which columns a condition pins, each with the number of values that a list allows.
    fn pinned(&self, filter: &Expr) -> Vec<(usize, Option<u64>)> {
        let mut pinned = Vec::new();
        conjuncts(filter, &mut |conjunct| self.pin(conjunct, &mut pinned));
        pinned
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
