//! The way of a subcommand to the running node's console, and how its answers are printed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, Row};

use crate::catalog::server_words;
use crate::config::{Config, Listen, May};

/// A node on this machine answers at once, or hangs.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the console cannot be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsoleError {
    #[error("`admin` is missing in [node] of the configuration: it says where the console is")]
    NoAddress,
    #[error("cannot reach the console of node {node} at {place}: {}; does `pgcanon run` run there?", words(.source))]
    Unreachable { node: String, place: String, source: tokio_postgres::Error },
    #[error("{}", told(.0))]
    Said(tokio_postgres::Error),
}

fn words(error: &tokio_postgres::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) if error.as_db_error().is_none() => source.to_string(),
        _ => server_words(error),
    }
}

/// The console's own words, with what it advises.
fn told(error: &tokio_postgres::Error) -> String {
    let mut text = words(error);
    if let Some(db) = error.as_db_error() {
        db.detail().into_iter().chain(db.hint()).for_each(|more| text.push_str(&format!("\n  {more}")));
    }
    text
}

/// Connects as one who may do that: by the Unix socket where that is open to this user, or else with a password of the
/// configuration.
pub(super) async fn connect(config: &Config, may: May) -> Result<Client, ConsoleError> {
    let address = config.node.admin.ok_or(ConsoleError::NoAddress)?;
    let fitting = config.console_users.iter().find(|user| user.may >= may).or(config.console_users.first());
    let mut settings = tokio_postgres::Config::new();
    settings.application_name("pgcanon").dbname("pgcanon").connect_timeout(CONNECT);
    settings.user(fitting.map_or("pgcanon", |user| user.name.as_str()));
    if let Some(user) = fitting {
        settings.password(user.password.expose());
    }
    let mut by_socket = settings.clone();
    if let Some(dir) = socket_dir(config, address) {
        by_socket.host_path(dir).port(address.port());
        if let Ok(client) = open(&by_socket).await {
            return Ok(client);
        }
    }
    settings.host(address.ip().to_string()).port(address.port());
    open(&settings).await.map_err(|source| ConsoleError::Unreachable {
        node: config.node.name.to_string(),
        place: address.to_string(),
        source,
    })
}

/// Where the console's Unix socket is, if it is there.
fn socket_dir(config: &Config, address: SocketAddr) -> Option<PathBuf> {
    let dir = config.node.listen.iter().find_map(|listen| match listen {
        Listen::Unix { dir, .. } => Some(dir.clone()),
        Listen::Tcp { .. } => None,
    })?;
    dir.join(format!(".s.PGSQL.{}", address.port())).exists().then_some(dir)
}

async fn open(settings: &tokio_postgres::Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = settings.connect(NoTls).await?;
    // When it breaks, the next question says so.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// An answer of the console.
pub(super) struct Answer {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

pub(super) async fn ask(client: &Client, sql: &str) -> Result<Answer, ConsoleError> {
    let statement = client.prepare(sql).await.map_err(ConsoleError::Said)?;
    let rows = client.query(&statement, &[]).await.map_err(ConsoleError::Said)?;
    let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let rows = rows.iter().map(values).collect::<Result<_, _>>().map_err(ConsoleError::Said)?;
    Ok(Answer { columns, rows })
}

fn values(row: &Row) -> Result<Vec<Value>, tokio_postgres::Error> {
    let value = |at: usize, kind: &Type| {
        Ok(match *kind {
            Type::BOOL => row.try_get::<_, Option<bool>>(at)?.map(Value::from),
            Type::INT4 => row.try_get::<_, Option<i32>>(at)?.map(Value::from),
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(Value::from),
            Type::FLOAT8 => row.try_get::<_, Option<f64>>(at)?.map(Value::from),
            Type::TIMESTAMPTZ => {
                let time = row.try_get::<_, Option<std::time::SystemTime>>(at)?;
                time.map(|time| Value::from(crate::admin::console::moment(time)))
            }
            _ => row.try_get::<_, Option<String>>(at)?.map(Value::from),
        }
        .unwrap_or(Value::Null))
    };
    row.columns().iter().enumerate().map(|(at, column)| value(at, column.type_())).collect()
}

// === impl Answer ===

impl Answer {
    /// One object for each row, in the order of its columns.
    pub(super) fn objects(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| Value::Object(self.columns.iter().cloned().zip(row.iter().cloned()).collect());
        self.rows.iter().map(object).collect()
    }

    pub(super) fn get(&self, row: usize, column: &str) -> &Value {
        let at = self.columns.iter().position(|name| name == column);
        at.and_then(|at| self.rows.get(row)?.get(at)).unwrap_or(&Value::Null)
    }
}

/// A value as people read it.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Rows below their heads, every column as wide as it has to be; numbers stand to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(heads.get(at).map(|head| head.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let numeric: Vec<bool> = (0..heads.len())
        .map(|at| {
            let mut cells = rows.iter().filter_map(|row| row.get(at)).filter(|cell| !cell.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(widths.iter().zip(&numeric))
            .map(|(cell, (width, right))| if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(line(&mut heads.iter().copied())).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_has_to_be() {
        let rows = [
            vec!["bé".to_owned(), "7".to_owned(), String::new()],
            vec!["c".to_owned(), "120".to_owned(), "x y".to_owned()],
        ];
        assert_eq!(table(&["peer", "lag", "trouble"], &rows), ["peer  lag  trouble", "bé      7", "c     120  x y"]);
    }
}
