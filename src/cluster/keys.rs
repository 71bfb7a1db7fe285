//! Whether this node and a peer hand out the same keys: each by sequences of its own, which nothing else keeps apart.

use tokio_postgres::Client;

use crate::catalog::relation::{Catalog, Relation};
use crate::cluster::sequences::{FedColumn, Sequence, read, read_positions};
use crate::config::{Peer, TableName, TableRule};
use crate::sql::Name;

/// A column of a key that this node's sequence makes.
pub(super) struct Fed {
    table: TableName,
    column: String,
    rule: TableRule,
    sequence: Sequence,
}

impl Fed {
    /// Children by inheritance travel by their ancestor's rule under their own name.
    fn name_on(&self, peer: &Peer) -> &TableName {
        let named = self.rule.name.matches(&self.table.schema, &self.table.table);
        self.rule.rename.get(&peer.name).filter(|_| named).unwrap_or(&self.table)
    }
}

/// What two nodes hand out for one column.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nothing that both would make.
    None,
    /// Always different ones.
    Apart,
    /// Sooner or later the same: where, and by what.
    Same(Vec<String>),
}

/// What this node's sequences make for unique keys of ruled tables.
pub(super) async fn here(client: &Client, catalog: &Catalog) -> Result<Vec<Fed>, tokio_postgres::Error> {
    let mut found = Vec::new();
    for sequence in sequences(client, |column| unique(catalog, column).is_some()).await? {
        for fed in &sequence.columns {
            let rule = unique(catalog, fed).and_then(|r| catalog.rules.get(r.rule?));
            found.extend(rule.map(|rule| Fed {
                table: fed.table.clone(),
                column: fed.column.clone(),
                rule: rule.clone(),
                sequence: sequence.clone(),
            }));
        }
    }
    Ok(found)
}

/// How they get on with what the peer's sequences make.
pub(super) async fn compare(here: &[Fed], peer: &Peer, client: &Client) -> Result<Keys, tokio_postgres::Error> {
    let travel = here.iter().filter(|fed| fed.rule.peers.as_ref().is_none_or(|peers| peers.contains(&peer.name)));
    let pairs: Vec<(&Fed, &TableName)> = travel.map(|fed| (fed, fed.name_on(peer))).collect();
    if pairs.is_empty() {
        return Ok(Keys::None);
    }
    let is = |c: &FedColumn, (fed, table): &(&Fed, &TableName)| c.table == **table && c.column == fed.column;
    let there = sequences(client, |column| pairs.iter().any(|pair| is(column, pair))).await?;
    let mut same = Vec::new();
    let mut met = false;
    for pair in &pairs {
        for other in there.iter().filter(|s| s.columns.iter().any(|c| is(c, pair))) {
            met = true;
            let (fed, table) = pair;
            if !fed.sequence.never_meets(other) {
                let called = if *table == &fed.table { String::new() } else { format!(" ({table} there)") };
                same.push(format!(
                    "{}.{}{called}: {} here, {} there",
                    fed.table,
                    fed.column,
                    fed.sequence.described(),
                    other.described()
                ));
            }
        }
    }
    Ok(match (met, same.is_empty()) {
        (false, _) => Keys::None,
        (true, true) => Keys::Apart,
        (true, false) => Keys::Same(same),
    })
}

/// The sequences of the columns that are asked for, and where they stand.
async fn sequences(
    client: &Client,
    wanted: impl Fn(&FedColumn) -> bool,
) -> Result<Vec<Sequence>, tokio_postgres::Error> {
    client.batch_execute("SET search_path = pg_catalog").await?;
    let mut all = read(client).await?;
    all.retain(|s| s.columns.iter().any(&wanted));
    read_positions(client, &mut all).await?;
    Ok(all)
}

/// The ruled table of a column that is part of something unique in it, and travels.
fn unique<'a>(catalog: &'a Catalog, fed: &FedColumn) -> Option<&'a Relation> {
    let oids = catalog.by_name.get(&Name::from(fed.table.table.as_str()))?;
    let relation = oids.iter().filter_map(|oid| catalog.relations.get(oid)).find(|r| r.name == fed.table)?;
    let rule = catalog.rules.get(relation.rule?)?;
    let column = relation.column(&Name::from(fed.column.as_str()))?;
    let travels = rule.columns.as_ref().is_none_or(|names| names.contains(&fed.column))
        || relation.key.as_ref().is_some_and(|key| key.contains(&column));
    // A partition's rows are those of its root.
    let unique = relation.root.is_none() && relation.uniques.iter().any(|unique| unique.columns.contains(&column));
    (unique && travels).then_some(relation)
}
