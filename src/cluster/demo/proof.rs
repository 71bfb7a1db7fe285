//! The demo's proof: when everything has arrived, all nodes hold the same, the books balance, and every transaction that a
//! client was told of is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::load::Report;
use super::nodes::Node;
use super::view::View;
use super::{ARRIVAL, DemoError};

const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

const LOOK: Duration = Duration::from_millis(100);

/// The first tick that covers the whole journal, and how many transactions it has; nothing while a row is in no tick.
const LAST: &str = "\
WITH newest AS (SELECT max(xid) AS xid FROM pgcanon.journal), \
covering AS (SELECT id, snapshot FROM pgcanon.tick AS t, newest \
    WHERE pg_snapshot_xmax(snapshot) > newest.xid AND NOT EXISTS (SELECT FROM pgcanon.journal AS j \
        WHERE j.xid >= pg_snapshot_xmin(t.snapshot) AND NOT pg_visible_in_snapshot(j.xid, t.snapshot)) \
    ORDER BY id LIMIT 1), \
before AS (SELECT t.snapshot FROM pgcanon.tick AS t, covering WHERE t.id < covering.id ORDER BY t.id DESC LIMIT 1) \
SELECT covering.id, (SELECT count(DISTINCT j.xid) FROM pgcanon.journal AS j \
    WHERE NOT EXISTS (SELECT FROM before WHERE pg_visible_in_snapshot(j.xid, before.snapshot))) FROM covering";

/// Waits until every node says that all of its peers are live and lack nothing.
pub(super) async fn all_live(nodes: &[Node], limit: Duration) -> Result<(), DemoError> {
    let all = nodes.iter().map(|node| async move {
        let mut seen = node.seen.subscribe();
        // What was said before now, or is being said, does not count.
        let said = seen.borrow().reports;
        let _ = seen.wait_for(|seen| seen.reports > said.saturating_add(1) && is_well(&seen.status, nodes)).await;
    });
    let all = join_all(all);
    timeout(limit, all).await.map(drop).map_err(|_| {
        let stands = |node: &Node| format!("\n{}: {}", node.name, node.seen.borrow().status);
        let mut log: String = nodes.iter().map(stands).collect();
        log.extend(nodes.iter().map(|node| node.end_of_log("pgcanon.log")));
        DemoError::Late { what: "not all peers have become live and have everything".to_owned(), limit, log }
    })
}

fn is_well(status: &Value, nodes: &[Node]) -> bool {
    let Some(peers) = status.get("peers").and_then(Value::as_array) else { return false };
    let zero = |peer: &Value, key: &str| peer.get(key).and_then(Value::as_i64) == Some(0);
    let well = |peer: &Value| {
        peer.get("state").and_then(Value::as_str) == Some("live") && zero(peer, "lag_ticks") && zero(peer, "queue_rows")
    };
    peers.len().checked_add(1) == Some(nodes.len()) && peers.iter().all(well)
}

/// Waits until every peer of every node has the last transaction of its journal, and the nodes say so themselves.
pub(super) async fn arrived(nodes: &[Node], limit: Duration) -> Result<(), DemoError> {
    let until = Instant::now() + limit;
    for origin in nodes {
        let here = origin.direct().await?;
        let last = loop {
            if let Some(row) = here.query_opt(LAST, &[]).await? {
                break (row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?);
            }
            late(until, limit, || format!("the journal of node {} is not in ticks", origin.name))?;
            sleep(LOOK).await;
        };
        for peer in nodes.iter().filter(|peer| peer.name != origin.name) {
            let there = peer.direct().await?;
            let sql = "SELECT tick, ord::int8 FROM pgcanon.progress WHERE origin = $1::text";
            loop {
                let row = there.query_opt(sql, &[&origin.name]).await?;
                let reached = row.map(|row| Ok::<_, DemoError>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
                if reached.is_some_and(|reached: (i64, i64)| reached >= last) {
                    break;
                }
                let (from, to) = (origin.name, peer.name);
                late(until, limit, || {
                    let log = origin.end_of_log("pgcanon.log");
                    format!("node {to} has {reached:?} of {last:?} (tick, transaction) of node {from}{log}")
                })?;
                sleep(LOOK).await;
            }
        }
    }
    all_live(nodes, ARRIVAL).await
}

fn late(until: Instant, limit: Duration, what: impl FnOnce() -> String) -> Result<(), DemoError> {
    if Instant::now() < until {
        return Ok(());
    }
    Err(DemoError::Late { what: what(), limit, log: String::new() })
}

/// Compares the nodes, and says what it compares.
pub(super) async fn prove(view: &mut View, nodes: &[Node], reports: &[Report]) -> Result<(), DemoError> {
    let mut wrong = Vec::new();
    view.say("Proof, asked of each PostgreSQL itself:")?;
    let names = nodes.iter().map(|node| node.name).collect::<Vec<_>>().join(" = ");
    view.say(&format!("  {:<17} {:>8}  {:>16}", "table", "rows", "sum(hashtext(…))"))?;
    for table in TABLES {
        let sql = format!("SELECT count(*), coalesce(sum(hashtext(t.*::text)), 0)::int8 FROM {table} AS t");
        let found = on_each(nodes, &sql).await?;
        match &found[..] {
            [(_, [rows, hash]), others @ ..] if others.iter().all(|(_, other)| *other == [*rows, *hash]) => {
                view.say(&format!("  {table:<17} {rows:>8}  {hash:>16}  {names}"))?;
            }
            _ => {
                for (node, [rows, hash]) in &found {
                    view.say(&format!("  {table:<17} {rows:>8}  {hash:>16}  on {node}"))?;
                }
                wrong.push(format!("{table} differs"));
            }
        }
    }
    books(view, nodes, &mut wrong).await?;
    once(view, nodes, reports, &mut wrong).await?;
    if wrong.is_empty() { Ok(()) } else { Err(DemoError::Unequal(wrong.join("; "))) }
}

/// What TPC-B deposits is in four places.
async fn books(view: &mut View, nodes: &[Node], wrong: &mut Vec<String>) -> Result<(), DemoError> {
    let sums = "SELECT (SELECT sum(abalance)::int8 FROM pgbench_accounts), (SELECT sum(tbalance)::int8 FROM pgbench_tellers), \
        (SELECT sum(bbalance)::int8 FROM pgbench_branches), (SELECT coalesce(sum(delta), 0)::int8 FROM pgbench_history)";
    let found: Vec<(_, [i64; 4])> = on_each(nodes, sums).await?;
    let first = found.first().map_or(0, |(_, sums)| sums[0]);
    if found.iter().all(|(_, sums)| *sums == [first; 4]) {
        view.say(&format!("  accounts, tellers, branches and history sum to the same on every node: {first}"))?;
    } else {
        for (node, sums) in &found {
            view.say(&format!("  accounts, tellers, branches and history of node {node} sum to {sums:?}"))?;
        }
        wrong.push("the books do not balance".to_owned());
    }
    Ok(())
}

/// Each confirmed transaction left one row in the history. Clients that lose their server in the middle of COMMIT may not
/// have heard of one more each.
async fn once(view: &mut View, nodes: &[Node], reports: &[Report], wrong: &mut Vec<String>) -> Result<(), DemoError> {
    let found: Vec<(_, [i64; 1])> = on_each(nodes, "SELECT count(*) FROM pgbench_history").await?;
    let confirmed: u64 = reports.iter().map(|report| report.confirmed).sum();
    let unsure: u64 = reports.iter().filter(|r| !r.is_whole()).map(|r| u64::from(r.clients)).sum();
    let mut by_node: BTreeMap<&str, u64> = BTreeMap::new();
    reports.iter().for_each(|r| *by_node.entry(r.node).or_default() += r.confirmed);
    let parts: Vec<String> = by_node.iter().map(|(node, n)| format!("{n} on {node}")).collect();
    view.say(&format!("  clients had {confirmed} commits confirmed ({})", parts.join(", ")))?;
    let mut unheard = None;
    for (node, [rows]) in found {
        match u64::try_from(rows).unwrap_or(0).checked_sub(confirmed) {
            Some(0) => {}
            Some(more) if more <= unsure => unheard = Some(more),
            _ => wrong.push(format!("node {node} has {rows} transactions, {confirmed} were confirmed")),
        }
    }
    if let Some(more) = unheard {
        view.say(&format!("  {more} more had committed before the node fell, and its clients could not hear of it"))?;
    }
    Ok(())
}

/// The same query on all nodes at once; its row of numbers.
async fn on_each<const N: usize>(nodes: &[Node], sql: &str) -> Result<Vec<(&'static str, [i64; N])>, DemoError> {
    let ask = async |node: &Node| {
        let row = node.direct().await?.query_one(sql, &[]).await?;
        let mut numbers = [0; N];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = row.try_get(at)?;
        }
        Ok::<_, DemoError>((node.name, numbers))
    };
    try_join_all(nodes.iter().map(ask)).await
}
