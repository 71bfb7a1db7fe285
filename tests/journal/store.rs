//! A database with a journal, and clients that write it as a proxy's sessions do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pgcanon::catalog::ControlSettings;
use pgcanon::config::ConnInfo;
use pgcanon::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Lane, Op};
use pgcanon::journal::migrate::{MIGRATIONS, Migration};
use pgcanon::journal::{
    Appender, Author, Entry, Item, Key, Passed, Reader, TickId, Ticker, TickerOptions, TrimOptions, encode_entry,
};
use pgcanon::wire::stream::Liveness;
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls};

use crate::common::{Cluster, PATIENCE};

/// What `pgcanon init` makes, as far as the journal is concerned.
fn schema() -> String {
    let steps = MIGRATIONS.iter().flat_map(Migration::statements).collect::<Vec<_>>().join(";\n");
    format!(
        "CREATE ROLE owner LOGIN; CREATE SCHEMA pgcanon AUTHORIZATION owner; SET ROLE owner;\n{steps};\nRESET ROLE;\n\
         CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app"
    )
}

pub(crate) const KEY: [u8; 32] = [42; 32];

/// A node's journal.
pub(crate) struct Store {
    pub(crate) cluster: Arc<Cluster>,
    author: Arc<Author>,
}

/// A session that writes the journal.
pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) appender: Appender,
}

/// Runs a test's async part.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime").block_on(work)
}

/// Waits for something that another task or session brings about.
pub(crate) async fn until<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let work = async {
        loop {
            if let Some(value) = done().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("gave up waiting: {what}"))
}

// === impl Store ===

impl Store {
    pub(crate) fn new(cluster: Cluster) -> Self {
        cluster.psql(&schema());
        Self { cluster: Arc::new(cluster), author: Arc::new(Author::new().expect("random bytes")) }
    }

    pub(crate) async fn connect(&self, user: &str) -> Client {
        let port = self.cluster.port();
        let config = format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connect");
        tokio::spawn(connection);
        client
    }

    /// A session of the application's, as a proxy has it.
    pub(crate) async fn writer(&self) -> Writer {
        let client = self.connect("app").await;
        let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.expect("ask for the pid").get(0);
        let appender = Appender::new(Key::new(KEY), Arc::clone(&self.author), pid.cast_unsigned());
        Writer { client, appender }
    }

    pub(crate) async fn reader(&self) -> Reader {
        Reader::new(self.connect("owner").await, Key::new(KEY))
    }

    fn settings(&self) -> Arc<ControlSettings> {
        let text = format!("host=127.0.0.1 port={} user=owner dbname=postgres sslmode=disable", self.cluster.port());
        let info = ConnInfo::parse(&text).expect("a connection string");
        let keepalive = Duration::from_secs(60);
        let liveness = Liveness {
            keepalive_idle: keepalive,
            keepalive_interval: keepalive,
            keepalive_count: 3,
            user_timeout: None,
        };
        Arc::new(ControlSettings::load(&info, PATIENCE, liveness).expect("settings"))
    }

    pub(crate) fn ticker(&self) -> Ticker {
        self.ticker_with(TrimOptions::new(Duration::from_secs(3600)), Passed::All)
    }

    pub(crate) fn ticker_with(&self, trim: TrimOptions, passed: Passed) -> Ticker {
        // Their senders are gone: they do not change.
        self.ticker_passing(trim, watch::channel(passed).1)
    }

    pub(crate) fn ticker_passing(&self, trim: TrimOptions, passed: watch::Receiver<Passed>) -> Ticker {
        let options = TickerOptions { trim, passed };
        Ticker::start(watch::channel(self.settings()).1, options)
    }

    /// All that is in ticks, and nothing may be outside of them.
    pub(crate) async fn all(&self) -> Vec<Transaction> {
        let mut reader = self.reader().await;
        let mut all = Vec::new();
        if let Some((first, last)) = reader.range().await.expect("the range of ticks") {
            for id in first.0..=last.0 {
                all.extend(tick(&mut reader, TickId(id)).await);
            }
        }
        assert_eq!(reader.forged(), 0, "forged rows");
        all
    }

    /// Waits until every committed row is in a tick.
    pub(crate) async fn ticked(&self) {
        let mut reader = self.reader().await;
        until("everything to be in a tick", async || {
            reader.open_pending().await.expect("read what is pending");
            reader.next().await.expect("read what is pending").is_none().then_some(())
        })
        .await;
    }
}

// === impl Writer ===

impl Writer {
    pub(crate) async fn batch(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect(sql);
    }

    /// Puts one entry about table `t` into the journal, as a session does before COMMIT.
    pub(crate) async fn append(&self, slot: i16, body: &[u8]) {
        self.try_append(slot, body).await.expect("append to the journal");
    }

    pub(crate) async fn try_append(&self, slot: i16, body: &[u8]) -> Result<(), tokio_postgres::Error> {
        let mut data = Vec::new();
        encode_entry(&mut data, &head(), body).expect("encode");
        self.insert(slot, &self.appender.own(&data), &data).await
    }

    pub(crate) async fn insert(&self, slot: i16, meta: &[u8], data: &[u8]) -> Result<(), tokio_postgres::Error> {
        let sql = "INSERT INTO pgcanon.journal (slot, meta, data) VALUES ($1, $2, $3)";
        self.client.execute(sql, &[&slot, &meta, &data]).await.map(drop)
    }
}

pub(crate) fn head() -> Head {
    let role = ColumnRole::KeyValue;
    Head {
        lane: Lane::Row,
        op: Op::Upsert,
        schema: "public".into(),
        table: "t".into(),
        rule: "public.*".into(),
        encoding: "UTF8".into(),
        shape: [1; 8],
        columns: vec![ImageColumn { name: "id".into(), type_name: "integer".into(), role, text: false }],
        extra: Extra::None,
        text: None,
        rows: None,
    }
}

/// A transaction as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Transaction {
    pub(crate) tick: i64,
    pub(crate) ord: i32,
    pub(crate) xid: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Transaction {
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.entries.iter().map(|e| String::from_utf8_lossy(&e.body).into_owned()).collect()
    }
}

/// Reads one tick.
pub(crate) async fn tick(reader: &mut Reader, id: TickId) -> Vec<Transaction> {
    reader.open(id, 0).await.expect("open a tick");
    rest(reader, id).await
}

/// Reads the rest of the open tick.
pub(crate) async fn rest(reader: &mut Reader, id: TickId) -> Vec<Transaction> {
    let (mut all, mut open) = (Vec::new(), None);
    while let Some(item) = reader.next().await.expect("read a tick") {
        match item {
            Item::TxBegin { ord, xid, .. } => {
                let begun = Transaction { tick: id.0, ord, xid: xid.0, entries: Vec::new() };
                assert!(open.replace(begun).is_none(), "a transaction within another");
            }
            Item::Entry(entry) => open.as_mut().expect("an entry within a transaction").entries.push(*entry),
            Item::TxEnd => all.extend(open.take()),
            Item::Forged { .. } => assert!(open.is_some(), "a forged row is part of a transaction"),
        }
    }
    assert!(open.is_none(), "a transaction without end");
    all
}
