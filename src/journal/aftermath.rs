//! What settled conflicts leave behind (§8): versions that have won go out again, to those who may not know them any more, and
//! what has been remembered for long enough is forgotten.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::codec::put_entry;
use super::key::Key;
use super::meta::{Appender, Author};
use super::ticker::Waker;
use crate::catalog::{ControlError, ControlSettings, Wanted, server_words};
use crate::config::TableRule;

/// One proxy of a node does it: the advisory lock ("pgca" and 3) among the database's own.
const LOCK: &str = "1885823841, 3";
/// How often is looked for versions that have won.
const LOOK: Duration = Duration::from_millis(50);
/// Versions that go out together.
const MANY: i64 = 200;
/// How often is looked for what can be forgotten.
const CARE: Duration = Duration::from_secs(5);
/// Decisions are kept for so long, and not more of them; and versions that were sent.
const RECORDS: &str = "7 days";
const MOST: i64 = 1_000_000;
const SENT: &str = "10 minutes";
/// Deletions of one key in so much time, past which those that are beaten are looked for.
const OFTEN: &str = "1 minute";
const FEW: i64 = 8;
const RETRY: Duration = Duration::from_secs(1);

/// What it takes.
#[derive(Clone)]
pub struct AftermathOptions {
    pub settings: watch::Receiver<Arc<ControlSettings>>,
    /// Nothing is done until some rule settles conflicts.
    pub wanted: watch::Receiver<Arc<Wanted>>,
    pub key: Key,
    pub author: Arc<Author>,
    pub slot: watch::Receiver<i16>,
    pub ticker: Waker,
    /// `node.retain`
    pub retain: Duration,
    /// Who may still send changes that are older than a deletion.
    pub peers: Vec<String>,
}

/// It ends with this handle.
#[derive(Debug)]
pub struct Aftermath(JoinHandle<()>);

impl Drop for Aftermath {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error("{}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("a version that has won is longer than the journal can hold")]
    TooLong,
}

impl Aftermath {
    /// Starts it on the current runtime; it connects, and connects again, until the handle is dropped.
    pub fn start(options: AftermathOptions) -> Self {
        Self(tokio::spawn(async move {
            let settles = |wanted: &Arc<Wanted>| wanted.rules.iter().any(|rule| rule.settles().is_some());
            if options.wanted.clone().wait_for(settles).await.is_err() {
                return;
            }
            let mut told = String::new();
            loop {
                let Err(trouble) = session(&options).await;
                let words = trouble.to_string();
                if words != told {
                    tracing::warn!(error = words, "what conflicts have left behind is not looked after");
                    told = words;
                }
                sleep(RETRY).await;
            }
        }))
    }
}

async fn session(o: &AftermathOptions) -> Result<std::convert::Infallible, Trouble> {
    let settings = o.settings.borrow().clone();
    let client = settings.connect().await?;
    // What goes out is needed no sooner than it is there.
    client.batch_execute("SET search_path = ''; SET synchronous_commit = off; SET statement_timeout = 0").await?;
    let lock = format!("SELECT pg_catalog.pg_try_advisory_lock({LOCK})");
    while !client.query_one(&lock, &[]).await?.try_get::<_, bool>(0)? {
        sleep(RETRY).await;
    }
    let pid: i32 = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await?.try_get(0)?;
    let appender = Appender::new(o.key.clone(), o.author.clone(), pid.cast_unsigned());
    let times = client.query_one("SELECT pg_catalog.current_setting('track_commit_timestamp') = 'on'", &[]).await?;
    let keeps_times: bool = times.try_get(0)?;
    let mut care = Instant::now();
    loop {
        if keeps_times && o.wanted.borrow().rules.iter().any(TableRule::goes_by_statements) {
            complete(&client).await?;
        }
        if care <= Instant::now() {
            forget(&client, o, keeps_times).await?;
            care = Instant::now() + CARE;
        }
        if send(&client, &appender, o).await? < MANY {
            sleep(LOOK).await;
        }
    }
}

/// Says of statements whose times count when their transactions were committed.
async fn complete(client: &Client) -> Result<(), Trouble> {
    let sql = "UPDATE pgcanon.statement_time SET committed = pg_catalog.pg_xact_commit_timestamp(xid) \
        WHERE committed IS NULL AND pg_catalog.pg_xact_commit_timestamp(xid) IS NOT NULL";
    client.batch_execute(sql).await.map_err(Trouble::from)
}

/// Journals versions that have won, each in a transaction of its own, as it has a time of its own. How many there were.
async fn send(client: &Client, appender: &Appender, o: &AftermathOptions) -> Result<i64, Trouble> {
    let sql = "SELECT id, head, image FROM pgcanon.echo WHERE sent IS NULL ORDER BY id LIMIT $1";
    let rows = client.query(sql, &[&MANY]).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let slot = *o.slot.borrow();
    let sql = format!(
        "WITH sent AS (UPDATE pgcanon.echo SET sent = pg_catalog.pg_current_xact_id() WHERE id = $1 AND sent IS NULL RETURNING 1) \
         INSERT INTO pgcanon.journal_{slot} (meta, data) SELECT $2, $3 FROM sent"
    );
    let statement = client.prepare(&sql).await?;
    let mut made = Vec::new();
    for row in &rows {
        let mut data = Vec::new();
        put_entry(&mut data, row.try_get(1)?, row.try_get(2)?).map_err(|_| Trouble::TooLong)?;
        made.push((row.try_get::<_, i64>(0)?, appender.own(&data), data));
    }
    try_join_all(made.iter().map(async |(id, meta, data)| client.execute(&statement, &[id, meta, data]).await)).await?;
    o.ticker.wake();
    Ok(i64::try_from(rows.len()).unwrap_or(MANY))
}

/// Forgets decisions that are old, and deletions and times that nobody can overlook any more: old, while all peers are there to
/// send what is older; or, of deletions, beaten by another one of their key.
async fn forget(client: &Client, o: &AftermathOptions, keeps_times: bool) -> Result<(), Trouble> {
    let sql = format!(
        "DELETE FROM pgcanon.conflict WHERE decided < pg_catalog.now() - '{RECORDS}'::interval; \
         DELETE FROM pgcanon.conflict WHERE id IN (SELECT id FROM pgcanon.conflict \
            WHERE id <= (SELECT pg_catalog.max(id) FROM pgcanon.conflict) - {MOST} ORDER BY id LIMIT 100000); \
         DELETE FROM pgcanon.echo WHERE sent IS NOT NULL AND made < pg_catalog.now() - '{SENT}'::interval"
    );
    client.batch_execute(&sql).await?;
    // What has not been sent yet is told as of then, whenever that may be.
    let sent = "AND NOT EXISTS (SELECT FROM pgcanon.error_queue AS q WHERE q.xid::text::xid8::xid = t.xid) \
        AND (pgcanon.whole(t.xid) >= (SELECT pg_catalog.min(j.xid) FROM pgcanon.journal AS j)) IS NOT TRUE";
    for (table, since, sent) in [("tombstone", "deleted", ""), ("statement_time", "at", sent)] {
        let sql = format!(
            "DELETE FROM pgcanon.{table} AS t WHERE t.{since} < pg_catalog.now() - pg_catalog.make_interval(secs => $1) {sent} \
             AND NOT EXISTS (SELECT FROM pg_catalog.unnest($2::text[]) AS p(name) WHERE NOT EXISTS ( \
                SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.datname = pg_catalog.current_database() \
                AND a.application_name = 'pgcanon:' || p.name \
                AND a.backend_start < pg_catalog.now() - pg_catalog.make_interval(secs => $1 / 2)))"
        );
        client.execute(&sql, &[&o.retain.as_secs_f64(), &o.peers]).await?;
    }
    forget_beaten(client, keeps_times).await
}

/// Every change of a row looks at all deletions of its key. Of those that one node made of it, the last one is as strong as all,
/// or, where a column tells versions apart, that of the highest number.
async fn forget_beaten(client: &Client, keeps_times: bool) -> Result<(), Trouble> {
    let version = if keeps_times { "pgcanon.version(d.xmin, '')" } else { "(SELECT d.deleted, '')" };
    // Few keys are deleted again and again; an applier that is at one of them is not waited for.
    let sql = format!(
        "WITH often AS ( \
            SELECT nsp_name, table_name, key FROM pgcanon.tombstone WHERE deleted > pg_catalog.now() - '{OFTEN}'::interval \
            GROUP BY nsp_name, table_name, key HAVING pg_catalog.count(*) > {FEW}), \
         ranked AS ( \
            SELECT d.ctid, pg_catalog.row_number() OVER (writer ORDER BY v.at DESC, d.ctid) AS by_time, \
                pg_catalog.row_number() OVER (writer ORDER BY d.number DESC NULLS LAST, v.at DESC, d.ctid) AS by_number \
            FROM often AS o JOIN pgcanon.tombstone AS d USING (nsp_name, table_name, key), {version} AS v(at, origin) \
            WINDOW writer AS (PARTITION BY nsp_name, table_name, key, v.origin)), \
         free AS (SELECT ctid FROM pgcanon.tombstone WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM ranked WHERE by_time > 1 AND by_number > 1)) FOR UPDATE SKIP LOCKED) \
         DELETE FROM pgcanon.tombstone WHERE ctid = ANY (ARRAY(SELECT ctid FROM free))"
    );
    client.batch_execute(&sql).await.map_err(Trouble::from)
}
