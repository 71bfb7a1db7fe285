//! Equal: as many rows, the same sum of their hashes, and nothing that waits; if not, which rows.

use std::collections::HashMap;

use crate::mesh::Mesh;

impl Mesh {
    /// Asserts that these tables (node, name as in SQL) hold the same, once nothing waits.
    pub(crate) fn assert_equal(&self, tables: &[(&str, &str)]) {
        let tables: Vec<(&str, String)> =
            tables.iter().map(|(node, table)| (*node, format!("table {table}"))).collect();
        self.assert_same(&tables);
    }

    /// Asserts that these queries (node, SQL) give the same rows, once nothing waits.
    pub(crate) fn assert_same(&self, queries: &[(&str, String)]) {
        self.settle();
        let digest = |query: &str| format!("select count(*), coalesce(sum(hashtext(t.*::text)), 0) from ({query}) t");
        let ((first, query), others) = queries.split_first().expect("something to compare");
        let expected = self.node(first).sql(&digest(query));
        for (node, other) in others {
            let found = self.node(node).sql(&digest(other));
            assert!(
                expected == found,
                "not equal: {first} has {expected}, {node} has {found}\n{}\n{}",
                self.state(),
                self.difference((first, query), (node, other))
            );
        }
    }

    /// The same table on all nodes.
    pub(crate) fn assert_all_equal(&self, table: &str) {
        let all: Vec<(&str, &str)> = self.names().map(|name| (name, table)).collect();
        self.assert_equal(&all);
    }

    /// How far everybody is.
    fn state(&self) -> String {
        let one = |name: &str| {
            let sql = "select (select count(*) from pgcanon.journal), (select max(id) from pgcanon.tick), \
                 (select string_agg(format('%s of %s', (tick, ord), origin), ', ') from pgcanon.progress)";
            format!("  {name}: journal rows, last tick, progress: {}\n", self.node(name).sql(sql))
        };
        self.names().map(one).collect()
    }

    fn difference(&self, one: (&str, &str), other: (&str, &str)) -> String {
        let rows = |(node, query): (&str, &str)| -> Vec<String> {
            let rows = self.node(node).direct().ok(&format!("select t::text from ({query}) t order by 1")).rows();
            rows.into_iter().map(|row| row[0].clone().unwrap_or_default()).collect()
        };
        let (here, there) = (rows(one), rows(other));
        format!("  only on {}:\n{}  only on {}:\n{}", one.0, only(&here, &there), other.0, only(&there, &here))
    }
}

/// The first of those that `b` has not, or not as often.
fn only(a: &[String], b: &[String]) -> String {
    let mut left: HashMap<&str, usize> = HashMap::new();
    b.iter().for_each(|row| *left.entry(row).or_default() += 1);
    let mut found: Vec<&String> = a.iter().collect();
    found.retain(|row| match left.get_mut(row.as_str()) {
        Some(n) if *n > 0 => {
            *n -= 1;
            false
        }
        _ => true,
    });
    let more = found.len().saturating_sub(10);
    let mut text: String =
        found.iter().take(10).map(|row| format!("    {}\n", row.chars().take(200).collect::<String>())).collect();
    if more > 0 {
        text.push_str(&format!("    … and {more} more\n"));
    }
    text
}
