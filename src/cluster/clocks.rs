//! Clocks of servers, by which conflicts may be settled (§8).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

/// Clocks that are further apart decide conflicts otherwise than people would.
const APART: f64 = 1.0;

/// By how much a server's clock is ahead of this machine's, and how far that may be wrong; none where that is little.
///
/// # Errors
/// The server cannot be asked.
pub(super) async fn clock_ahead(client: &Client) -> Result<Option<f64>, tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())";
    let (before, began) = (SystemTime::now(), Instant::now());
    let there: f64 = client.query_one(sql, &[]).await?.try_get(0)?;
    let half = began.elapsed() / 2;
    let here = before.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO) + half;
    let ahead = there - here.as_secs_f64();
    Ok((ahead.abs() > APART + half.as_secs_f64()).then_some(ahead))
}
