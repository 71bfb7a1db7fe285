//! What the console's commands answer: tables of text and numbers.

use std::time::SystemTime;

use pgwire::api::Type;
use pgwire::error::ErrorInfo;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;

use crate::admin::console::access::Guest;
use crate::admin::console::args::Value;
use crate::admin::console::command::{Command, Function, View};
use crate::admin::console::moment::Moment;
use crate::admin::console::{Console, peer, queue, refusal};
use crate::admin::peers::Seen;
use crate::catalog::ControlError;
use crate::config::{Choice, Conflict, TableRule};
use crate::forward::Wish;

/// The newest ticks are what one asks for; the journal has them all.
const TICKS: &str = "\
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(id, timeline, created::pg_catalog.text, \
       snapshot::pg_catalog.text, deps::pg_catalog.text) ORDER BY id DESC)::pg_catalog.text \
FROM (SELECT id, timeline, created, snapshot, deps FROM pgcanon.tick ORDER BY id DESC LIMIT 100) AS newest";

/// The newest decisions about conflicts, those of operators among them.
const CONFLICTS: &str = "\
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(id, pg_catalog.json_build_array(decided::pg_catalog.text, origin, \
       pg_catalog.concat(nsp_name, '.', table_name), kind, decision, stored::pg_catalog.text, incoming::pg_catalog.text, \
       stored_origin, stored_time::pg_catalog.text, incoming_time::pg_catalog.text)) \
       ORDER BY id DESC)::pg_catalog.text \
FROM (SELECT * FROM pgcanon.conflict ORDER BY id DESC LIMIT 100) AS newest";

pub(super) enum Cell {
    Text(String),
    Number(i64),
    Float(f64),
    Bool(bool),
    Moment(Moment),
    Null,
}

pub(super) type Rows = Vec<Vec<Cell>>;

type Failure = Box<ErrorInfo>;

// === impl Cell ===

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<SystemTime> for Cell {
    fn from(time: SystemTime) -> Self {
        Self::Moment(Moment(time))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The columns of what a command answers; none for one that answers its tag alone.
pub(super) fn columns(command: &Command) -> &'static [(&'static str, Type)] {
    match command {
        Command::Show(view) => shown(*view),
        Command::Reload => &[("key", Type::TEXT), ("in_force", Type::TEXT)],
        Command::Call(Function::Deal, _) => &[("deal_sync_err_rec", Type::INT8)],
        Command::Call(Function::Try, _) => &[("try_sync_err_rec", Type::INT8)],
        Command::Call(Function::Skip, _) => &[("skip_sync_err_rec", Type::BOOL)],
        Command::Call(Function::Edit, _) => &[("edit_sync_err_rec", Type::BOOL)],
        // The node tells.
        Command::Call(Function::Export, _) | Command::Select(_) => &[],
        Command::Pause(_) | Command::Resume(_) | Command::Begin(_) | Command::End(_) | Command::Nothing(_) => &[],
    }
}

fn shown(view: View) -> &'static [(&'static str, Type)] {
    match view {
        View::Config => &[("key", Type::TEXT), ("value", Type::TEXT), ("after_restart", Type::TEXT)],
        View::Conflicts => &[
            ("id", Type::INT8),
            ("decided", Type::TEXT),
            ("origin", Type::TEXT),
            ("table", Type::TEXT),
            ("kind", Type::TEXT),
            ("decision", Type::TEXT),
            ("stored", Type::TEXT),
            ("incoming", Type::TEXT),
            ("stored_origin", Type::TEXT),
            ("stored_time", Type::TEXT),
            ("incoming_time", Type::TEXT),
        ],
        View::Lanes => {
            &[("statement", Type::TEXT), ("lane", Type::TEXT), ("reason", Type::TEXT), ("count", Type::INT8)]
        }
        View::Peers => &[
            ("peer", Type::TEXT),
            ("state", Type::TEXT),
            ("since", Type::TIMESTAMPTZ),
            ("applied_tick", Type::INT8),
            ("applied_ord", Type::INT8),
            ("lag_ticks", Type::INT8),
            ("lag_seconds", Type::FLOAT8),
            ("queue_rows", Type::INT8),
            ("queue_bytes", Type::INT8),
            ("queue_seconds", Type::FLOAT8),
            ("transactions", Type::INT8),
            ("retries", Type::INT8),
            ("trouble", Type::TEXT),
        ],
        View::Queue => {
            &[("peer", Type::TEXT), ("rows", Type::INT8), ("bytes", Type::INT8), ("oldest", Type::TIMESTAMPTZ)]
        }
        View::Rules => &[
            ("rule", Type::INT8),
            ("table", Type::TEXT),
            ("peers", Type::TEXT),
            ("rename", Type::TEXT),
            ("columns", Type::TEXT),
            ("where", Type::TEXT),
            ("delivery", Type::TEXT),
            ("on_error", Type::TEXT),
            ("triggers", Type::TEXT),
            ("conflict", Type::TEXT),
            ("unreplicable", Type::TEXT),
            ("ddl", Type::TEXT),
        ],
        View::Sessions => &[("open", Type::INT8), ("limit", Type::INT8)],
        View::Status => &[
            ("node", Type::TEXT),
            ("version", Type::TEXT),
            ("capturing", Type::BOOL),
            ("tick", Type::INT8),
            ("sessions", Type::INT8),
        ],
        View::Ticks => &[
            ("tick", Type::INT8),
            ("timeline", Type::INT8),
            ("created", Type::TEXT),
            ("snapshot", Type::TEXT),
            ("deps", Type::TEXT),
        ],
        View::Version => &[("version", Type::TEXT)],
    }
}

/// The rows of what a command answers, as many cells in each as it has columns.
pub(super) async fn rows(
    command: &Command,
    values: &[Value],
    guest: &Guest,
    console: &Console,
) -> Result<Rows, Failure> {
    Ok(match command {
        Command::Show(view) => show(*view, console).await?,
        Command::Reload => reload(console).await?,
        Command::Pause(name) => {
            peer::pause(console, name, true, guest).await?;
            Vec::new()
        }
        Command::Resume(name) => {
            peer::pause(console, name, false, guest).await?;
            Vec::new()
        }
        Command::Call(function, _) => vec![vec![call(*function, values, guest, console).await?]],
        Command::Select(_) | Command::Begin(_) | Command::End(_) | Command::Nothing(_) => Vec::new(),
    })
}

async fn call(function: Function, values: &[Value], guest: &Guest, console: &Console) -> Result<Cell, Failure> {
    Ok(match (function, values) {
        (Function::Deal, [Value::Number(most)]) if *most > 0 => {
            queue::deal(console, *most, Wish::Deal, guest).await?.into()
        }
        (Function::Try, [Value::Number(most)]) if *most > 0 => {
            queue::deal(console, *most, Wish::Try, guest).await?.into()
        }
        (Function::Deal | Function::Try, [Value::Number(_)]) => {
            return Err(refusal("22023", "the number of rows to apply must be greater than zero", None));
        }
        (Function::Skip, [Value::Number(id)]) => queue::skip(console, *id, guest).await?.into(),
        (Function::Edit, [Value::Number(id), Value::Text(sql)]) => queue::edit(console, *id, sql, guest).await?.into(),
        // Null, of which nothing comes.
        _ => Cell::Null,
    })
}

async fn show(view: View, console: &Console) -> Result<Rows, Failure> {
    Ok(match view {
        View::Config => config(console),
        View::Conflicts => conflicts(console).await?,
        View::Lanes => lanes(console),
        View::Peers => console.peers.look().await.into_iter().map(peer_row).collect(),
        View::Queue => queues(console).await?,
        View::Rules => {
            (1..).zip(&console.config.borrow().tables).map(|(number, rule)| rule_row(number, rule)).collect()
        }
        View::Sessions => {
            let limit = console.config.borrow().node.max_connections;
            let limit = limit.map(|n| i64::try_from(n.get()).unwrap_or(i64::MAX));
            vec![vec![console.sessions.open_sessions().into(), limit.into()]]
        }
        View::Status => vec![vec![
            console.config.borrow().node.name.to_string().into(),
            env!("CARGO_PKG_VERSION").into(),
            console.peers.is_capturing().into(),
            console.peers.latest().into(),
            console.sessions.open_sessions().into(),
        ]],
        View::Ticks => ticks(console).await?,
        View::Version => vec![vec![concat!("pgcanon ", env!("CARGO_PKG_VERSION")).into()]],
    })
}

fn peer_row(seen: Seen) -> Vec<Cell> {
    // Milliseconds are enough to read.
    let seconds = |s: Option<f64>| s.map(|s| (s * 1000.0).round() / 1000.0);
    vec![
        seen.peer.to_string().into(),
        seen.phase.word().into(),
        seen.since.into(),
        seen.applied.map(|applied| applied.tick.0).into(),
        seen.applied.map(|applied| i64::from(applied.ord)).into(),
        seen.lag.into(),
        seconds(seen.lag_seconds).into(),
        seen.queued.map(|queued| queued.rows).into(),
        seen.queued.map(|queued| queued.bytes).into(),
        seconds(seen.queue_age).into(),
        seen.transactions.into(),
        seen.retries.into(),
        seen.trouble.into(),
    ]
}

async fn queues(console: &Console) -> Result<Rows, Failure> {
    let mut waiting = queue::waiting(console).await?;
    for peer in &console.config.borrow().peers {
        if !waiting.iter().any(|one| one.peer == peer.name.as_str()) {
            waiting.push(queue::Waiting { peer: peer.name.to_string(), rows: 0, bytes: 0, oldest: None });
        }
    }
    waiting.sort_by(|a, b| a.peer.cmp(&b.peer));
    let row = |one: queue::Waiting| vec![one.peer.into(), one.rows.into(), one.bytes.into(), one.oldest.into()];
    Ok(waiting.into_iter().map(row).collect())
}

fn config(console: &Console) -> Rows {
    let (started, now) = (&console.started, console.config.borrow().clone());
    let restart = started.changes(&now).restart;
    let mut before = started.shown().into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let row = |(key, new): (String, String)| {
        let old = before.remove(&key);
        if restart.contains(&key) {
            let after = if new.is_empty() { "(left out)".to_owned() } else { new };
            return vec![key.into(), old.into(), after.into()];
        }
        vec![key.into(), Some(new).filter(|value| !value.is_empty()).into(), Cell::Null]
    };
    now.shown().into_iter().map(row).collect()
}

fn lanes(console: &Console) -> Rows {
    let line = |line: crate::capture::lanes::LaneCount| {
        let reason = match line.shape {
            Some(_) => line.reason.into(),
            None => "statements that were not seen for long".into(),
        };
        vec![line.shape.into(), line.fate.word().into(), reason, line.count.into()]
    };
    console.lanes.list().into_iter().map(line).collect()
}

fn rule_row(number: i64, rule: &TableRule) -> Vec<Cell> {
    let TableRule { name, peers, rename, columns, filter, delivery, on_error, triggers, conflict, unreplicable, ddl } =
        rule;
    let peers = peers.as_ref().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let rename: Vec<String> = rename.iter().map(|(peer, name)| format!("{peer} = {name}")).collect();
    vec![
        number.into(),
        name.to_string().into(),
        peers.into(),
        Some(rename.join(", ")).filter(|text| !text.is_empty()).into(),
        columns.as_ref().map(|names| names.join(", ")).into(),
        filter.clone().into(),
        delivery.shown().into(),
        on_error.word().into(),
        triggers.map(Choice::word).into(),
        conflict.as_ref().map(Conflict::shown).into(),
        unreplicable.word().into(),
        ddl.word().into(),
    ]
}

async fn ticks(console: &Console) -> Result<Rows, Failure> {
    type Tick = (i64, i64, String, String, Option<String>);
    let row = |(id, timeline, created, snapshot, deps): Tick| {
        vec![id.into(), timeline.into(), created.into(), snapshot.into(), deps.into()]
    };
    Ok(newest(console, TICKS).await?.into_iter().map(row).collect())
}

async fn conflicts(console: &Console) -> Result<Rows, Failure> {
    let row = |(id, texts): (i64, Vec<Option<String>>)| {
        [Cell::from(id)].into_iter().chain(texts.into_iter().map(Cell::from)).collect()
    };
    Ok(newest(console, CONFLICTS).await?.into_iter().map(row).collect())
}

/// What a query says in one JSON array.
async fn newest<T: serde::de::DeserializeOwned>(console: &Console, sql: &'static str) -> Result<Vec<T>, Failure> {
    let Some(control) = &console.control else {
        let hint = "Set control in the [node] section of the configuration: this is in the node's database.";
        return Err(refusal("55000", "the proxy has no connection of its own", Some(hint.into())));
    };
    let json = control.text(sql).await.map_err(|e| no_answer(&e))?;
    let unreadable = |e: serde_json::Error| refusal("XX000", &format!("the answer cannot be read: {e}"), None);
    json.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text)).map_err(unreadable)
}

fn no_answer(error: &ControlError) -> Failure {
    let code = match error {
        ControlError::Query(e) => e.code(),
        _ => None,
    };
    let hint = match code {
        Some(code) if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code) => {
            Some("Run `pgcanon init`: it makes the journal and its ticks.".to_owned())
        }
        _ => None,
    };
    refusal(code.map_or("58000", SqlState::code), &error.to_string(), hint)
}

async fn reload(console: &Console) -> Result<Rows, Failure> {
    let gone = || refusal("57P01", "the proxy is shutting down", None);
    let (sender, answer) = oneshot::channel();
    console.reload.send(sender).await.map_err(|_| gone())?;
    let changes = answer.await.map_err(|_| gone())?.map_err(|why| {
        let hint = "Everything stays as it was.".to_owned();
        refusal("F0000", &why, Some(hint))
    })?;
    let live = changes.live.into_iter().map(|key| vec![key.into(), "now, for new sessions".into()]);
    let restart = changes.restart.into_iter().map(|key| vec![key.into(), "after a restart".into()]);
    Ok(live.chain(restart).collect())
}
