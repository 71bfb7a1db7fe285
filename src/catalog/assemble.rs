//! From rows to the picture: each relation with its columns, its keys and what happens when it is written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::graph::{Graph, ways};
use crate::catalog::load::Named;
use crate::catalog::relation::{Catalog, Column, Identity, Oid, Relation, RelationKind, Unique};
use crate::catalog::routines::{self, Targets};
use crate::catalog::rows::{ColumnRow, ForeignKeyRow, IndexRow, Rows, TriggerRow};
use crate::catalog::types::Types;
use crate::config::{TableName, TableRule};
use crate::sql::Name;

pub(super) fn assemble(rows: Rows, rules: &[TableRule], named: &Named) -> Catalog {
    let types = Types::new(rows.types, &rows.unsteady);
    let graph = Graph::new(&rows.relations, &rows.keys, &rows.heirs, &rows.rewrites);
    let ways = ways(&rows.relations, rules, &graph);
    let columns = by(&rows.columns, |c| c.relation);
    let indexes = by(&rows.indexes, |i| i.relation);
    let triggers = by(&rows.triggers, |t| t.relation);
    let keys = by(&rows.keys, |k| k.from);
    let referenced = by(&rows.keys, |k| k.to);
    let mut relations: HashMap<Oid, Relation> = HashMap::new();
    for row in &rows.relations {
        let own =
            |oid: Oid| Own { triggers: of(&triggers, oid), keys: of(&keys, oid), referenced: of(&referenced, oid) };
        let tree = graph.tree(row.oid);
        let way = ways.get(&row.oid).copied().unwrap_or_default();
        let mut relation = Relation {
            oid: row.oid,
            name: TableName { schema: row.schema.clone(), table: row.name.clone() },
            kind: kind(row.kind),
            rule: way.rule,
            root: way.root,
            columns: of(&columns, row.oid).iter().map(|c| column(c, &types)).collect(),
            key: None,
            uniques: Vec::new(),
            before_row_trigger: tree.iter().any(|oid| own(*oid).before_row_trigger()),
            user_trigger: tree.iter().any(|oid| !own(*oid).triggers.is_empty()),
            rewrite_rule: row.rewrite_rule,
            row_security: row.row_security,
            late: tree.iter().any(|oid| own(*oid).late()),
            deferrable: row.deferrable || tree.iter().any(|oid| own(*oid).deferrable()),
            cascades_into: Vec::new(),
            covers: Vec::new(),
            trigger_writes: None,
            truncates: graph.truncates(row.oid),
            shape: [0; 8],
        };
        for (_, number) in rows.unchecked.iter().filter(|(oid, _)| *oid == row.oid) {
            let at = of(&columns, row.oid).iter().position(|c| c.number == *number);
            if let Some(column) = at.and_then(|at| relation.columns.get_mut(at)) {
                column.not_null = false;
            }
        }
        let indexed = Indexed { rows: of(&columns, row.oid), loose: &rows.loose, heirs: graph.has_heirs(row.oid) };
        find_keys(&mut relation, of(&indexes, row.oid), &indexed);
        if way.rule.is_none() {
            (relation.covers, relation.cascades_into) = graph.reached(row.oid, &ways);
        }
        relation.shape = shape(&relation);
        relations.insert(row.oid, relation);
    }
    add_uniques_of_parts(&mut relations, &graph);

    let targets = Targets::new(relations.values());
    let (mut functions, found) = routines::writing(&rows.functions, &rows.routines, &rows.uses, &targets, named);
    let steady = rows.immutable.iter().filter(|name| !routines::looks_elsewhere(name));
    functions.immutable = steady.map(|name| Name::from(name.as_str())).collect();
    for trigger in &rows.triggers {
        if let Some(why) = found.get(&trigger.function) {
            let relation = relations.entry(trigger.relation).or_insert_with(|| bare(trigger));
            relation.trigger_writes.get_or_insert_with(|| why.clone());
        }
    }
    let ruled: HashSet<Oid> = relations.values().filter(|r| r.rule.is_some()).map(|r| r.oid).collect();
    relations.retain(|_, r| {
        let empties = r.truncates.iter().any(|oid| ruled.contains(oid));
        let leads = !r.covers.is_empty() || !r.cascades_into.is_empty() || r.trigger_writes.is_some();
        r.rule.is_some() || leads || empties
    });
    let mut by_name: HashMap<Name, Vec<Oid>> = HashMap::new();
    for relation in relations.values() {
        by_name.entry(Name::from(relation.name.table.as_str())).or_default().push(relation.oid);
    }
    by_name.values_mut().for_each(|oids| oids.sort_unstable());
    Catalog {
        version: 0,
        server: rows.server,
        rules: rules.into(),
        relations: relations.into_iter().map(|(oid, r)| (oid, Arc::new(r))).collect(),
        by_name,
        functions,
        user_operators: rows.operators.iter().map(|n| Name::from(n.as_str())).collect(),
    }
}

fn by<T>(rows: &[T], key: impl Fn(&T) -> Oid) -> HashMap<Oid, Vec<&T>> {
    let mut map: HashMap<Oid, Vec<&T>> = HashMap::new();
    for row in rows {
        map.entry(key(row)).or_default().push(row);
    }
    map
}

fn of<'a, 'b, T>(map: &'a HashMap<Oid, Vec<&'b T>>, oid: Oid) -> &'a [&'b T] {
    map.get(&oid).map(Vec::as_slice).unwrap_or_default()
}

// === one relation ===

fn kind(relkind: char) -> RelationKind {
    match relkind {
        'p' => RelationKind::Partitioned,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::Foreign,
        _ => RelationKind::Table,
    }
}

fn column(row: &ColumnRow, types: &Types) -> Column {
    let generated = !row.generated.is_empty();
    let identity = match row.identity.as_str() {
        "a" => Some(Identity::Always),
        "d" => Some(Identity::ByDefault),
        _ => None,
    };
    let (travels, sort) = types.classify(row.type_oid);
    let default = match identity {
        Some(_) => Some("v"),
        None if generated => Some("i"),
        None => row.default.as_deref(),
    };
    Column {
        name: Name::from(row.name.as_str()),
        type_name: types.spell(row.type_oid, &row.type_name),
        not_null: row.not_null,
        generated,
        identity,
        default: types.default(default, row.type_oid),
        travels,
        sort,
        moments: types.moments(row.type_oid),
    }
}

/// What hangs on one table.
struct Own<'a> {
    triggers: &'a [&'a TriggerRow],
    keys: &'a [&'a ForeignKeyRow],
    referenced: &'a [&'a ForeignKeyRow],
}

impl Own<'_> {
    // Bits of pg_trigger.tgtype.
    const ROW: u32 = 1;
    const BEFORE: u32 = 2;
    const INSTEAD: u32 = 64;

    fn before_row_trigger(&self) -> bool {
        let early = Self::BEFORE | Self::INSTEAD;
        self.triggers.iter().any(|t| t.bits & Self::ROW != 0 && t.bits & early != 0)
    }

    fn late(&self) -> bool {
        let early = Self::BEFORE | Self::INSTEAD;
        !self.keys.is_empty() || !self.referenced.is_empty() || self.triggers.iter().any(|t| t.bits & early == 0)
    }

    fn deferrable(&self) -> bool {
        self.triggers.iter().any(|t| t.deferrable) || self.keys.iter().chain(self.referenced).any(|k| k.deferrable)
    }
}

/// What is indexed.
struct Indexed<'a> {
    rows: &'a [&'a ColumnRow],
    loose: &'a [Oid],
    /// Whether other tables hold rows of this one.
    heirs: bool,
}

impl Indexed<'_> {
    /// Whether the index takes some strings for different that a look-up in the table takes for equal.
    fn is_loose(&self, index: &IndexRow) -> bool {
        index.columns.iter().zip(&index.collations).any(|(number, by)| {
            let column = self.rows.iter().find(|c| c.number == *number);
            column.is_some_and(|c| c.collation != *by && self.loose.contains(&c.collation))
        })
    }
}

/// The unique indexes, and the one among them that tells rows apart everywhere: the primary key, or else the shortest.
fn find_keys(relation: &mut Relation, indexes: &[&IndexRow], indexed: &Indexed<'_>) {
    let mut best: Option<(bool, usize, Vec<usize>)> = None;
    for index in indexes {
        let columns: Option<Vec<usize>> =
            index.columns.iter().map(|n| indexed.rows.iter().position(|c| c.number == *n)).collect();
        let special = index.special || indexed.heirs || columns.is_none() || indexed.is_loose(index);
        let columns = columns.unwrap_or_default();
        let travels = |at: &usize| relation.columns.get(*at).is_some_and(|c| c.not_null && !c.generated);
        if !special && !index.deferrable && columns.iter().all(travels) {
            let rank = (!index.primary, columns.len());
            if best.as_ref().is_none_or(|(other, len, _)| rank < (*other, *len)) {
                best = Some((rank.0, rank.1, columns.clone()));
            }
        }
        relation.uniques.push(Unique { columns, deferrable: index.deferrable, special });
    }
    relation.key = best.map(|(_, _, columns)| columns);
}

/// A partition may be unique in more ways than its root.
fn add_uniques_of_parts(relations: &mut HashMap<Oid, Relation>, graph: &Graph<'_>) {
    let names = |r: &Relation, u: &Unique| -> BTreeSet<Name> {
        u.columns.iter().filter_map(|at| r.columns.get(*at)).map(|c| c.name).collect()
    };
    let mut more: Vec<(Oid, Unique)> = Vec::new();
    for root in relations.values().filter(|r| r.kind == RelationKind::Partitioned) {
        let own: Vec<_> = root.uniques.iter().filter(|u| !u.special).map(|u| names(root, u)).collect();
        for part in graph.tree(root.oid).iter().filter(|oid| **oid != root.oid).filter_map(|oid| relations.get(oid)) {
            for unique in part.uniques.iter().filter(|u| u.special || !own.contains(&names(part, u))) {
                let columns = names(part, unique);
                let columns = columns.iter().filter_map(|name| root.column(name)).collect();
                let unique = Unique { columns, deferrable: unique.deferrable, special: true };
                if !root.uniques.contains(&unique) && !more.contains(&(root.oid, unique.clone())) {
                    more.push((root.oid, unique));
                }
            }
        }
    }
    for (oid, unique) in more {
        if let Some(root) = relations.get_mut(&oid) {
            root.uniques.push(unique);
        }
    }
}

/// The digest does not hang on the order of columns: values travel by name.
fn shape(relation: &Relation) -> [u8; 8] {
    let mut columns: Vec<_> =
        relation.columns.iter().filter(|c| !c.generated).map(|c| (c.name, c.type_name.as_str())).collect();
    columns.sort_unstable();
    let key = relation.key.iter().flatten().filter_map(|at| relation.columns.get(*at)).map(|c| (c.name, "key"));
    let mut hasher = blake3::Hasher::new();
    for (name, what) in columns.into_iter().chain(key) {
        for part in [name.as_bytes(), what.as_bytes()] {
            hasher.update(part);
            hasher.update(&[0]);
        }
    }
    let mut shape = [0; 8];
    hasher.finalize_xof().fill(&mut shape);
    shape
}

/// A table of which nothing matters but that a trigger on it writes elsewhere.
fn bare(trigger: &TriggerRow) -> Relation {
    Relation {
        oid: trigger.relation,
        name: TableName { schema: trigger.schema.clone(), table: trigger.name.clone() },
        kind: kind(trigger.kind),
        rule: None,
        root: None,
        columns: Vec::new(),
        key: None,
        uniques: Vec::new(),
        before_row_trigger: false,
        user_trigger: true,
        rewrite_rule: false,
        row_security: false,
        late: false,
        deferrable: false,
        cascades_into: Vec::new(),
        covers: Vec::new(),
        trigger_writes: None,
        truncates: Vec::new(),
        shape: [0; 8],
    }
}
