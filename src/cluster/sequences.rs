//! The sequences that keys come from: what they hand out, and whether two of them can hand out the same.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::config::TableName;
use crate::sql::quote;

/// A sequence, and whose keys it makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) name: TableName,
    pub(super) owner: String,
    pub(super) increment: i64,
    pub(super) start: i64,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) cycle: bool,
    /// None where the role may not read it, or [`read_positions`] was not asked to.
    pub(super) position: Option<Position>,
    /// Columns that own it, or whose default names it; never none.
    pub(super) columns: Vec<FedColumn>,
    readable: bool,
}

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) last: i64,
    /// Whether that one is taken.
    pub(super) called: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FedColumn {
    pub(super) table: TableName,
    pub(super) column: String,
    /// Of a type whose greatest value says something.
    pub(super) integer: bool,
    /// Its rows are also those of the partitioned table.
    pub(super) partition: bool,
}

/// Every tie between a sequence and a column. A name that a default computes at run time is not among them.
const TIES: &str = "\
WITH tie AS (
    SELECT d.objid AS seq, d.refobjid AS rel, d.refobjsubid AS col FROM pg_catalog.pg_depend AS d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum FROM pg_catalog.pg_attrdef AS f JOIN pg_catalog.pg_depend AS d ON d.objid = f.oid
    WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid = 0
)
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
    q.seqincrement, q.seqstart, q.seqmin, q.seqmax, q.seqcycle,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
    tn.nspname::text, t.relname::text, a.attname::text,
    CASE y.typbasetype WHEN 0 THEN y.oid ELSE y.typbasetype END IN (20, 21, 23), t.relispartition
FROM tie JOIN pg_catalog.pg_sequence AS q ON q.seqrelid = tie.seq
    JOIN pg_catalog.pg_class AS c ON c.oid = q.seqrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class AS t ON t.oid = tie.rel JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = tie.col
    JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid
WHERE t.relkind IN ('r', 'p') AND t.relpersistence <> 't' AND c.relpersistence <> 't' AND tn.nspname <> 'pgcanon'
ORDER BY 1, 2, 10, 11, 12";

/// The sequences of all tables but pgcanon's own, in the order of their names; the connection's `search_path` has to be
/// `pg_catalog`.
pub(super) async fn read(client: &Client) -> Result<Vec<Sequence>, tokio_postgres::Error> {
    let mut found: BTreeMap<TableName, Sequence> = BTreeMap::new();
    for row in client.query(TIES, &[]).await? {
        let name = TableName { schema: row.try_get(0)?, table: row.try_get(1)? };
        let column = FedColumn {
            table: TableName { schema: row.try_get(9)?, table: row.try_get(10)? },
            column: row.try_get(11)?,
            integer: row.try_get(12)?,
            partition: row.try_get(13)?,
        };
        if let Some(known) = found.get_mut(&name) {
            known.columns.push(column);
            continue;
        }
        let sequence = Sequence {
            name: name.clone(),
            owner: row.try_get(2)?,
            increment: row.try_get(3)?,
            start: row.try_get(4)?,
            min: row.try_get(5)?,
            max: row.try_get(6)?,
            cycle: row.try_get(7)?,
            position: None,
            columns: vec![column],
            readable: row.try_get(8)?,
        };
        found.insert(name, sequence);
    }
    Ok(found.into_values().collect())
}

/// Finds out where these stand, as far as the role may see it.
pub(super) async fn read_positions(client: &Client, all: &mut [Sequence]) -> Result<(), tokio_postgres::Error> {
    let mut readable: Vec<&mut Sequence> = all.iter_mut().filter(|s| s.readable).collect();
    if readable.is_empty() {
        return Ok(());
    }
    let each: Vec<String> =
        readable.iter().map(|s| format!("SELECT last_value, is_called FROM {}", s.sql_name())).collect();
    for (sequence, row) in readable.iter_mut().zip(client.query(&each.join("\nUNION ALL\n"), &[]).await?) {
        sequence.position = Some(Position { last: row.try_get(0)?, called: row.try_get(1)? });
    }
    Ok(())
}

// === impl Sequence ===

impl Sequence {
    /// Its name as SQL.
    pub(super) fn sql_name(&self) -> String {
        quote::table(&self.name, "UTF8")
    }

    /// Whether the two never hand out the same number, however long they go on.
    pub(super) fn never_meets(&self, other: &Sequence) -> bool {
        if self.max < other.min || other.max < self.min {
            return true;
        }
        // All that either hands out is alike modulo what their steps have in common, and nothing else keeps them apart.
        let common = i128::from(gcd(self.increment.unsigned_abs(), other.increment.unsigned_abs()));
        let residue = |n: i64| i128::from(n).rem_euclid(common.max(1));
        let theirs = other.waypoints();
        !self.waypoints().iter().any(|mine| theirs.iter().any(|their| residue(*mine) == residue(*their)))
    }

    /// A number of each run that it hands out: where it stands, and where it begins again.
    fn waypoints(&self) -> Vec<i64> {
        let again = if self.increment > 0 { self.min } else { self.max };
        let stands = self.position.map_or(self.start, |p| p.last);
        std::iter::once(stands).chain(self.cycle.then_some(again)).collect()
    }

    /// Its name, and what it goes by.
    pub(super) fn described(&self) -> String {
        let at = match self.position {
            Some(position) => format!("at {}", position.last),
            None => format!("START {}", self.start),
        };
        format!("{} (INCREMENT {}, {at})", self.name, self.increment)
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(increment: i64, last: i64) -> Sequence {
        let name = |table: &str| TableName { schema: "public".into(), table: table.into() };
        Sequence {
            name: name("s"),
            owner: "o".into(),
            increment,
            start: 1,
            min: 1,
            max: i64::MAX,
            cycle: false,
            position: Some(Position { last, called: true }),
            columns: vec![FedColumn { table: name("t"), column: "id".into(), integer: true, partition: false }],
            readable: true,
        }
    }

    #[test]
    fn two_meet_unless_the_common_part_of_their_steps_or_their_ranges_keep_them_apart() {
        for (one, other, never) in [
            ((1, 1), (1, 1_000_000), false),
            ((2, 1), (2, 4), true),
            ((2, 1), (2, 7), false),
            ((2, 1), (3, 2), false),
            ((2, 1), (4, 2), true),
            ((4, 1), (6, 2), true),
            ((4, 1), (6, 3), false),
            ((-2, 9), (2, 4), true),
            ((-2, 9), (2, 5), false),
            ((3, -1), (3, 2), false),
            ((3, -1), (3, 1), true),
            ((i64::MIN, i64::MAX), (2, i64::MIN), true),
        ] {
            let (a, b) = (sequence(one.0, one.1), sequence(other.0, other.1));
            assert_eq!((a.never_meets(&b), b.never_meets(&a)), (never, never), "{one:?} {other:?}");
        }
        let (low, mut high) = (Sequence { max: 999, ..sequence(1, 5) }, Sequence { min: 1000, ..sequence(1, 1000) });
        assert!(low.never_meets(&high));
        high.min = 999;
        assert!(!low.never_meets(&high));
    }

    #[test]
    fn one_that_begins_again_counts_twice_and_one_that_cannot_be_read_by_its_start() {
        let cycle = Sequence { cycle: true, ..sequence(2, 2) };
        assert!(!cycle.never_meets(&sequence(2, 3)), "it begins again with 1");
        assert!(Sequence { min: 2, ..cycle }.never_meets(&sequence(2, 3)));
        let unread = Sequence { position: None, start: 2, ..sequence(2, 1) };
        assert!(unread.never_meets(&sequence(2, 3)) && !unread.never_meets(&sequence(2, 4)));
        assert_eq!(unread.described(), "public.s (INCREMENT 2, START 2)");
    }
}
