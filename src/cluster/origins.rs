//! Whether a server has room for the replication origins by which nodes are told apart (§8).

use tokio_postgres::Client;

use crate::apply::Route;
use crate::config::Config;

/// What it takes, and where it is too little.
pub(super) struct Room {
    pub(super) setting: String,
    pub(super) has: i64,
    /// Of this cluster's nodes; what others have made is in it.
    pub(super) needs: i64,
    nodes: i64,
}

/// An origin takes room from its first use on. At a node there is one for each other node, and for all that each of these can
/// bring of others, of this one too: n(n-1) for n nodes. None where that is fine, or no rule goes by them.
///
/// # Errors
/// The server cannot be asked.
pub(super) async fn too_little_room(client: &Client, config: &Config) -> Result<Option<Room>, tokio_postgres::Error> {
    let goes_by_time = |peer| Route::new(&config.tables, peer).goes_by_time().is_some();
    if !config.peers.iter().any(|peer| goes_by_time(&peer.name)) {
        return Ok(None);
    }
    let nodes = i64::try_from(config.peers.len()).unwrap_or(i64::MAX).saturating_add(1);
    let sql = "SELECT s.name::pg_catalog.text, s.setting::pg_catalog.int8, (SELECT pg_catalog.count(*) \
            FROM pg_catalog.pg_replication_origin AS o, pg_catalog.pg_database AS d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
            AND NOT pg_catalog.starts_with(o.roname, pg_catalog.format('pgcanon:%s:', d.oid))) \
        FROM pg_catalog.pg_settings AS s WHERE s.name IN ('max_active_replication_origins', 'max_replication_slots') \
        ORDER BY 1 LIMIT 1";
    let row = client.query_one(sql, &[]).await?;
    let (setting, has, others): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let needs = nodes.saturating_mul(nodes.saturating_sub(1)).saturating_add(others);
    Ok((has < needs).then_some(Room { setting, has, needs, nodes }))
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setting, has, needs, nodes } = self;
        write!(
            f,
            "{setting} is {has}, and {nodes} nodes that settle conflicts need {needs} (with those that others have made \
             there), or changes will wait for room: ALTER SYSTEM SET {setting} = {needs}, and restart that server"
        )
    }
}
