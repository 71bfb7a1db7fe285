//! What the console's commands answer: tables of text and numbers.

use pgwire::api::Type;
use pgwire::error::ErrorInfo;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;

use crate::admin::console::command::{Command, View};
use crate::admin::console::{Console, refusal};
use crate::catalog::ControlError;
use crate::config::{Choice, Conflict, Delivery, Resolve, ResolveBy, TableRule};

/// The newest ticks are what one asks for; the journal has them all.
const TICKS: &str = "\
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(id, timeline, created::pg_catalog.text, \
       snapshot::pg_catalog.text, deps::pg_catalog.text) ORDER BY id DESC)::pg_catalog.text \
FROM (SELECT id, timeline, created, snapshot, deps FROM pgcanon.tick ORDER BY id DESC LIMIT 100) AS newest";

pub(super) enum Cell {
    Text(String),
    Number(i64),
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

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The columns of what a command answers; none for one that answers its tag alone.
pub(super) fn columns(command: Command) -> &'static [(&'static str, Type)] {
    match command {
        Command::Show(View::Lanes) => {
            &[("statement", Type::TEXT), ("lane", Type::TEXT), ("reason", Type::TEXT), ("count", Type::INT8)]
        }
        Command::Show(View::Rules) => &[
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
        Command::Show(View::Sessions) => &[("open", Type::INT8), ("limit", Type::INT8)],
        Command::Show(View::Ticks) => &[
            ("tick", Type::INT8),
            ("timeline", Type::INT8),
            ("created", Type::TEXT),
            ("snapshot", Type::TEXT),
            ("deps", Type::TEXT),
        ],
        Command::Show(View::Version) => &[("version", Type::TEXT)],
        Command::Reload => &[("key", Type::TEXT), ("in_force", Type::TEXT)],
        Command::Begin(_) | Command::End(_) | Command::Set => &[],
    }
}

/// The rows of what a command answers, as many cells in each as it has columns.
pub(super) async fn rows(command: Command, console: &Console) -> Result<Rows, Failure> {
    Ok(match command {
        Command::Show(View::Lanes) => lanes(console),
        Command::Show(View::Rules) => {
            (1..).zip(&console.config.borrow().tables).map(|(number, rule)| rule_row(number, rule)).collect()
        }
        Command::Show(View::Sessions) => {
            let limit = console.config.borrow().node.max_connections;
            let limit = limit.map(|n| i64::try_from(n.get()).unwrap_or(i64::MAX));
            vec![vec![console.sessions.open_sessions().into(), limit.into()]]
        }
        Command::Show(View::Ticks) => ticks(console).await?,
        Command::Show(View::Version) => vec![vec![concat!("pgcanon ", env!("CARGO_PKG_VERSION")).into()]],
        Command::Reload => reload(console).await?,
        Command::Begin(_) | Command::End(_) | Command::Set => Vec::new(),
    })
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
    let delivery = match delivery {
        Delivery::Async => "async".to_owned(),
        Delivery::Ack(time) => format!("ack within {time:?}"),
        Delivery::Atomic(time) => format!("atomic within {time:?}"),
    };
    vec![
        number.into(),
        name.to_string().into(),
        peers.into(),
        Some(rename.join(", ")).filter(|text| !text.is_empty()).into(),
        columns.as_ref().map(|names| names.join(", ")).into(),
        filter.clone().into(),
        delivery.into(),
        on_error.word().into(),
        triggers.map(Choice::word).into(),
        conflict.as_ref().map(conflict_text).into(),
        unreplicable.word().into(),
        ddl.word().into(),
    ]
}

fn conflict_text(conflict: &Conflict) -> String {
    let mut text = conflict.resolve.word().to_owned();
    if matches!(conflict.resolve, Resolve::Last | Resolve::First) {
        text.push_str(match &conflict.by {
            ResolveBy::CommitTime => " by commit time",
            ResolveBy::StatementTime => " by statement time",
            ResolveBy::Column(_) => " by column ",
        });
        if let ResolveBy::Column(column) = &conflict.by {
            text.push_str(column);
        }
    }
    if let Some(node) = &conflict.prefer {
        text.push_str(&format!(", prefer {node}"));
    }
    text
}

async fn ticks(console: &Console) -> Result<Rows, Failure> {
    let Some(control) = &console.control else {
        let hint = "Set control in the [node] section of the configuration: the ticks are in the node's database.";
        return Err(refusal("55000", "the proxy has no connection of its own", Some(hint.into())));
    };
    let json = control.text(TICKS).await.map_err(|e| no_ticks(&e))?;
    let unreadable = |e: serde_json::Error| refusal("XX000", &format!("the ticks cannot be read: {e}"), None);
    type Tick = (i64, i64, String, String, Option<String>);
    let ticks: Vec<Tick> = json.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text)).map_err(unreadable)?;
    let row = |(id, timeline, created, snapshot, deps): Tick| {
        vec![id.into(), timeline.into(), created.into(), snapshot.into(), deps.into()]
    };
    Ok(ticks.into_iter().map(row).collect())
}

fn no_ticks(error: &ControlError) -> Failure {
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
