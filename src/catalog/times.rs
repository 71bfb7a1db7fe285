//! Whether a server can tell the versions of rows apart, as rules that settle conflicts ask it to (§8).

use tokio_postgres::Client;

use crate::config::TableRule;

/// What such rules need and the server does not do.
#[derive(Debug, thiserror::Error)]
#[error(
    "the conflicts of {rule} are settled by time, and the server keeps no times of commits: ALTER SYSTEM SET \
     track_commit_timestamp = on, and restart it"
)]
pub struct NoTimes {
    rule: String,
}

/// Whether the server keeps the times of commits, where a rule goes by them.
///
/// # Errors
/// The server cannot be asked.
pub async fn keeps_times(client: &Client, rules: &[TableRule]) -> Result<Result<(), NoTimes>, tokio_postgres::Error> {
    let timed = |rule: &&TableRule| rule.settles().is_some_and(|conflict| conflict.by.column().is_none());
    let Some(rule) = rules.iter().find(timed) else { return Ok(Ok(())) };
    let sql = "SELECT pg_catalog.current_setting('track_commit_timestamp')::pg_catalog.bool";
    let keeps = client.query_one(sql, &[]).await?.try_get(0)?;
    Ok(if keeps { Ok(()) } else { Err(NoTimes { rule: rule.name.to_string() }) })
}
