//! What hangs together: partitions and children, views and what is under them, foreign keys; and the rules along them.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::catalog::relation::Oid;
use crate::catalog::rows::{ForeignKeyRow, RelationRow};
use crate::config::TableRule;

/// By which rule a relation travels, and as which.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) rule: Option<usize>,
    pub(super) root: Option<Oid>,
}

pub(super) fn ways(rows: &[RelationRow], rules: &[TableRule], graph: &Graph<'_>) -> HashMap<Oid, Way> {
    let mut ways = HashMap::new();
    for row in rows {
        way(row.oid, rules, graph, &mut ways);
    }
    ways
}

/// A partition travels as its root unless an earlier rule names it; a child by inheritance by the earlier of both rules.
fn way(oid: Oid, rules: &[TableRule], graph: &Graph<'_>, ways: &mut HashMap<Oid, Way>) -> Way {
    if let Some(way) = ways.get(&oid) {
        return *way;
    }
    // Stands in for the answer, should the catalog go in a circle.
    ways.insert(oid, Way::default());
    let Some(row) = graph.rows.get(&oid) else {
        return Way::default();
    };
    let own = matches!(row.kind, 'r' | 'p' | 'f')
        .then(|| rules.iter().position(|rule| rule.name.matches(&row.schema, &row.name)))
        .flatten();
    let mut found = Way { rule: own, root: None };
    for parent in graph.parents(oid) {
        let above = way(*parent, rules, graph, ways);
        let is_part = graph.rows.get(parent).is_some_and(|p| p.kind == 'p');
        match above.rule {
            Some(rule) if is_part && own.is_none_or(|own| own >= rule) => {
                found = Way { rule: Some(rule), root: Some(above.root.unwrap_or(*parent)) };
            }
            Some(rule) if !is_part => found.rule = Some(found.rule.map_or(rule, |own| own.min(rule))),
            _ => {}
        }
    }
    ways.insert(oid, found);
    found
}

// === what hangs together ===

#[derive(Debug)]
pub(super) struct Graph<'a> {
    rows: HashMap<Oid, &'a RelationRow>,
    children: HashMap<Oid, Vec<Oid>>,
    parents: HashMap<Oid, Vec<Oid>>,
    /// From a view (or a table with rules) to what its rules name.
    under: HashMap<Oid, Vec<Oid>>,
    /// From a table to those that reference it, and whether its changes go on there.
    referenced_by: HashMap<Oid, Vec<(Oid, bool)>>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(
        rows: &'a [RelationRow],
        keys: &[ForeignKeyRow],
        heirs: &[(Oid, Oid)],
        rewrites: &[(Oid, Oid)],
    ) -> Self {
        let edges = |pairs: &mut dyn Iterator<Item = (Oid, Oid)>| {
            let mut map: HashMap<Oid, Vec<Oid>> = HashMap::new();
            pairs.for_each(|(from, to)| map.entry(from).or_default().push(to));
            map
        };
        let mut referenced_by: HashMap<Oid, Vec<(Oid, bool)>> = HashMap::new();
        for key in keys {
            let changes = |action: char| matches!(action, 'c' | 'n' | 'd');
            let goes_on = changes(key.on_delete) || changes(key.on_update);
            referenced_by.entry(key.to).or_default().push((key.from, goes_on));
        }
        Self {
            rows: rows.iter().map(|row| (row.oid, row)).collect(),
            children: edges(&mut heirs.iter().copied()),
            parents: edges(&mut heirs.iter().map(|(parent, child)| (*child, *parent))),
            under: edges(&mut rewrites.iter().map(|(base, view)| (*view, *base))),
            referenced_by,
        }
    }

    fn parents(&self, oid: Oid) -> &[Oid] {
        self.parents.get(&oid).map(Vec::as_slice).unwrap_or_default()
    }

    fn children(&self, oid: Oid) -> &[Oid] {
        self.children.get(&oid).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether it has children by inheritance.
    pub(super) fn has_heirs(&self, oid: Oid) -> bool {
        self.rows.get(&oid).is_some_and(|row| row.kind != 'p') && !self.children(oid).is_empty()
    }

    /// It, its partitions and children at any depth.
    pub(super) fn tree(&self, oid: Oid) -> BTreeSet<Oid> {
        let mut found = BTreeSet::new();
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            if found.insert(oid) {
                open.extend(self.children(oid));
            }
        }
        found
    }

    /// What TRUNCATE … CASCADE empties besides it; no partition whose table is there.
    pub(super) fn truncates(&self, oid: Oid) -> Vec<Oid> {
        let own = self.tree(oid);
        let mut found = own.clone();
        let mut open: Vec<Oid> = own.iter().copied().collect();
        while let Some(oid) = open.pop() {
            for (from, _) in self.referenced_by.get(&oid).into_iter().flatten() {
                open.extend(self.tree(*from).into_iter().filter(|oid| found.insert(*oid)));
            }
        }
        let part_of_found = |oid: &Oid| self.parents(*oid).iter().any(|parent| found.contains(parent));
        found.iter().filter(|oid| !own.contains(oid) && !part_of_found(oid)).copied().collect()
    }

    /// The ruled tables that a write to an unruled relation writes: itself, and by cascades.
    pub(super) fn reached(&self, start: Oid, ways: &HashMap<Oid, Way>) -> (Vec<Oid>, Vec<Oid>) {
        let mut seen = HashSet::new();
        let mut open = vec![(start, false)];
        let (mut direct, mut cascaded) = (BTreeSet::new(), BTreeSet::new());
        while let Some((oid, by_cascade)) = open.pop() {
            if !seen.insert((oid, by_cascade)) {
                continue;
            }
            if let Some(way) = ways.get(&oid).filter(|way| way.rule.is_some()) {
                let to = if by_cascade { &mut cascaded } else { &mut direct };
                to.insert(way.root.unwrap_or(oid));
            }
            let under = self.under.get(&oid).into_iter().flatten().chain(self.children(oid));
            open.extend(under.map(|next| (*next, by_cascade)));
            let keys = self.referenced_by.get(&oid).into_iter().flatten();
            open.extend(keys.filter(|(_, goes_on)| *goes_on).map(|(next, _)| (*next, true)));
        }
        (direct.into_iter().collect(), cascaded.into_iter().collect())
    }
}
