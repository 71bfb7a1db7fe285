//! What types and defaults mean for capture; whatever is not known here counts as the worst.

use std::collections::HashMap;

use crate::catalog::relation::{Moments, Oid, Travels, TypeSort, Volatility};
use crate::catalog::rows::TypeRow;
use crate::sql::quote::quoted;

/// OIDs below this are the server's own, the same in every database of a version, and never reused.
pub(super) const FIRST_USER_OID: u32 = 16384;

/// Domains over domains over arrays …: deeper than this is not looked into.
const DEPTH: u8 = 16;

/// All types of the picture, by OID.
#[derive(Debug, Default)]
pub(super) struct Types {
    rows: HashMap<Oid, TypeRow>,
    /// The server's own functions that are not immutable.
    unsteady: HashMap<Oid, Volatility>,
}

impl Types {
    pub(super) fn new(rows: Vec<TypeRow>, unsteady: &[(Oid, char)]) -> Self {
        let sort = |c: char| if c == 's' { Volatility::Stable } else { Volatility::Volatile };
        Self {
            rows: rows.into_iter().map(|row| (row.oid, row)).collect(),
            unsteady: unsteady.iter().map(|(oid, c)| (*oid, sort(*c))).collect(),
        }
    }

    /// How values of a type travel, and what the statement lane may do with them.
    pub(super) fn classify(&self, oid: Oid) -> (Travels, TypeSort) {
        self.classify_within(oid, DEPTH)
    }

    fn classify_within(&self, oid: Oid, depth: u8) -> (Travels, TypeSort) {
        const WORST: (Travels, TypeSort) = (Travels::Text, TypeSort::Session);
        let (Some(row), Some(deeper)) = (self.rows.get(&oid), depth.checked_sub(1)) else {
            return WORST;
        };
        match row.kind {
            'd' => {
                let (travels, sort) = self.classify_within(row.base, deeper);
                // A check may call anything.
                (travels, if row.has_check { TypeSort::Session } else { sort })
            }
            // Its binary form is its label.
            'e' => (Travels::Binary, TypeSort::Plain),
            'r' | 'm' if row.is_built_in() => (Travels::Binary, range_sort(&row.name)),
            // The server cannot read the binary form that it sends of an empty one.
            'b' if row.is_built_in() && matches!(row.name.as_str(), "int2vector" | "oidvector") => {
                (Travels::Text, base_sort(&row.name))
            }
            'b' if row.is_array() => {
                let (travels, sort) = self.classify_within(row.element, deeper);
                // The binary form of an array holds its elements' OID.
                let steady = self.rows.get(&row.element).is_some_and(TypeRow::is_built_in);
                let travels = if steady { travels } else { Travels::Text };
                let sort = if sort == TypeSort::Plain { TypeSort::Constant } else { sort };
                (travels, sort)
            }
            'b' if row.is_built_in() => {
                let named = row.name.starts_with("reg") || !row.has_send;
                (if named { Travels::Text } else { Travels::Binary }, base_sort(&row.name))
            }
            _ => WORST,
        }
    }

    /// Whether the text of a type's values may hold words for a moment.
    pub(super) fn moments(&self, oid: Oid) -> Moments {
        let mut at = oid;
        for _ in 0..DEPTH {
            let Some(row) = self.rows.get(&at) else { break };
            return match row.kind {
                'd' => {
                    at = row.base;
                    continue;
                }
                'e' => Moments::No,
                'r' | 'm' if row.is_built_in() => match range_sort(&row.name) {
                    TypeSort::Time => Moments::Within,
                    _ => Moments::No,
                },
                'b' if row.is_array() => match self.moments_within(row.element) {
                    Moments::Plain => Moments::Within,
                    other => other,
                },
                // The category of all dates and times, the user's own ones included; intervals have another.
                'b' if row.category == 'D' => Moments::Plain,
                'b' => Moments::No,
                _ => Moments::Unknown,
            };
        }
        Moments::Unknown
    }

    /// [`Types::moments`] of an array's element, which is no array but may be a domain over one.
    fn moments_within(&self, element: Oid) -> Moments {
        let over = |oid: Oid| self.rows.get(&oid).filter(|row| row.kind == 'd').map(|row| row.base);
        let base = std::iter::successors(Some(element), |oid| over(*oid)).take(usize::from(DEPTH)).last();
        match base.and_then(|oid| self.rows.get(&oid)) {
            Some(row) if row.is_array() => Moments::Unknown,
            _ => self.moments(element),
        }
    }

    /// A type's name, with its modifier and, outside `pg_catalog`, its schema; `shown` is what `format_type` made of it, in
    /// whatever session.
    pub(super) fn spell(&self, oid: Oid, shown: &str) -> String {
        let Some(row) = self.rows.get(&oid) else {
            return shown.to_owned();
        };
        let (named, suffix) = match self.rows.get(&row.element) {
            Some(element) if row.is_array() => (element, "[]"),
            _ => (row, ""),
        };
        if named.is_built_in() {
            if named.name == "char" {
                return format!("\"char\"{suffix}");
            }
            // Quoted by quote_all_identifiers, shadowed by search_path.
            let plain = shown.replace('"', "");
            return plain.strip_prefix("pg_catalog.").unwrap_or(&plain).to_owned();
        }
        let modifier = shown.strip_prefix(named.shown.as_str()).and_then(|rest| rest.strip_suffix(suffix));
        format!("{}.{}{}{suffix}", quoted(&named.schema), quoted(&named.name), modifier.unwrap_or_default())
    }

    /// How a column's default comes about, that of its type where it has none of its own.
    pub(super) fn default(&self, own: Option<&str>, oid: Oid) -> Volatility {
        if let Some(tree) = own {
            return match tree {
                "i" => Volatility::Immutable,
                "v" => Volatility::Volatile,
                tree => self.volatility(tree),
            };
        }
        let mut at = oid;
        for _ in 0..DEPTH {
            let Some(row) = self.rows.get(&at) else {
                break;
            };
            match &row.default {
                Some(tree) => return self.volatility(tree),
                None if row.kind == 'd' => at = row.base,
                None => return Volatility::Immutable,
            }
        }
        Volatility::Volatile
    }

    /// The worst that any node of a `pg_node_tree` can do.
    fn volatility(&self, tree: &str) -> Volatility {
        let mut worst = if nodes(tree).next().is_some() { Volatility::Immutable } else { Volatility::Volatile };
        for node in nodes(tree) {
            worst = worst.max(match node.name {
                "CONST" | "RELABELTYPE" | "COLLATEEXPR" | "ARRAYEXPR" | "ARRAYCOERCEEXPR" | "COALESCEEXPR"
                | "CASEEXPR" | "CASEWHEN" | "CASETESTEXPR" | "BOOLEXPR" | "NULLTEST" | "BOOLEANTEST" => {
                    Volatility::Immutable
                }
                "FUNCEXPR" => self.function(node.number(":funcid ")),
                "OPEXPR" | "DISTINCTEXPR" | "NULLIFEXPR" | "SCALARARRAYOPEXPR" => {
                    self.function(node.number(":opfuncid "))
                }
                // A clock or a name; input and output functions; the checks of a domain.
                "SQLVALUEFUNCTION" | "COERCEVIAIO" | "COERCETODOMAIN" => Volatility::Stable,
                _ => Volatility::Volatile,
            });
        }
        worst
    }

    fn function(&self, oid: Option<u32>) -> Volatility {
        match oid {
            Some(oid) if oid > 0 && oid < FIRST_USER_OID => {
                self.unsteady.get(&Oid(oid)).copied().unwrap_or(Volatility::Immutable)
            }
            _ => Volatility::Volatile,
        }
    }
}

impl TypeRow {
    fn is_built_in(&self) -> bool {
        self.schema == "pg_catalog" && self.oid.0 < FIRST_USER_OID
    }

    fn is_array(&self) -> bool {
        self.category == 'A' && self.element != Oid(0)
    }
}

fn base_sort(name: &str) -> TypeSort {
    match name {
        "bool" | "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "text" | "varchar" | "bpchar"
        | "bytea" | "uuid" | "jsonb" | "bit" | "varbit" => TypeSort::Plain,
        "date" | "time" | "timetz" | "timestamp" | "timestamptz" | "interval" => TypeSort::Time,
        "name" | "char" | "json" | "jsonpath" | "inet" | "cidr" | "macaddr" | "macaddr8" | "point" | "lseg"
        | "path" | "box" | "polygon" | "line" | "circle" | "tsvector" | "tsquery" | "pg_lsn" | "oid" | "xid"
        | "xid8" | "cid" | "tid" | "int2vector" | "oidvector" | "refcursor" | "txid_snapshot" | "pg_snapshot" => {
            TypeSort::Constant
        }
        _ => TypeSort::Session,
    }
}

fn range_sort(name: &str) -> TypeSort {
    match name {
        "int4range" | "int8range" | "numrange" | "int4multirange" | "int8multirange" | "nummultirange" => {
            TypeSort::Constant
        }
        _ => TypeSort::Time,
    }
}

/// One node of a tree: `{NAME :field value …`.
struct Node<'a> {
    name: &'a str,
    fields: &'a str,
}

impl Node<'_> {
    /// The number of a field of its own, which stands before any node below it.
    fn number(&self, field: &str) -> Option<u32> {
        self.fields.split(field).nth(1)?.split(' ').next()?.parse().ok()
    }
}

/// Every node, up to where the next one begins. A brace within a name or a string has a backslash before it.
fn nodes(tree: &str) -> impl Iterator<Item = Node<'_>> {
    let mut escaped = false;
    let starts = tree.match_indices(['{', '\\']).filter_map(move |(at, sign)| {
        let was = std::mem::take(&mut escaped);
        let adjacent = was && tree.as_bytes().get(at.wrapping_sub(1)) == Some(&b'\\');
        match sign {
            "\\" => {
                escaped = !adjacent;
                None
            }
            _ if adjacent => None,
            _ => Some(at),
        }
    });
    starts.filter_map(move |at| {
        let inner = tree.get(at.checked_add(1)?..)?;
        let inner = inner.split('{').next()?;
        let (name, fields) = inner.split_once(' ').unwrap_or((inner, ""));
        Some(Node { name: name.trim_end_matches('}'), fields })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Types {
        Types::new(Vec::new(), &[(Oid(1299), 's'), (Oid(1598), 'v')])
    }

    #[test]
    fn a_tree_is_as_bad_as_its_worst_node() {
        let of = |tree: &str| types().volatility(tree);
        assert_eq!(of("{CONST :consttype 23 :constvalue 4 [ 1 0 0 0 ]}"), Volatility::Immutable);
        assert_eq!(of("{FUNCEXPR :funcid 870 :args ({CONST :consttype 25})}"), Volatility::Immutable);
        assert_eq!(of("{FUNCEXPR :funcid 870 :args ({FUNCEXPR :funcid 1299 :args <>})}"), Volatility::Stable);
        assert_eq!(of("{OPEXPR :opno 1 :opfuncid 1598 :args <>}"), Volatility::Volatile);
        assert_eq!(of("{OPEXPR :opno 1 :opfuncid 0 :args <>}"), Volatility::Volatile);
        assert_eq!(of("{FUNCEXPR :funcid 20001 :args <>}"), Volatility::Volatile);
        assert_eq!(of("{SQLVALUEFUNCTION :op 0 :type 1082}"), Volatility::Stable);
        assert_eq!(of("{NEXTVALUEEXPR :seqid 1}"), Volatility::Volatile);
        assert_eq!(of("{SOMETHINGNEW}"), Volatility::Volatile);
        assert_eq!(of("no tree"), Volatility::Volatile);
    }

    #[test]
    fn a_brace_in_a_name_is_no_node() {
        let names = |tree| nodes(tree).map(|n| n.name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(r"{XMLEXPR :name a\{B :args ({CONST })}"), ["XMLEXPR", "CONST"]);
        assert_eq!(names(r"{XMLEXPR :name a\\{CONST }"), ["XMLEXPR", "CONST"]);
    }
}
