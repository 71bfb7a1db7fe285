//! `pgcanon status`: how a running node and its peers stand, for people and for scripts.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::console::{Answer, ConsoleError, ask, connect, plain, table};
use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::config::{Config, May};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon status --config /etc/pgcanon/a.toml
  pgcanon status --config /etc/pgcanon/a.toml --watch          # again every second, until Ctrl-C
  pgcanon status --config /etc/pgcanon/a.toml --json | jq '.peers[] | select(.state != \"live\")'

It asks the console of the running node (node.admin). Exit code 1 where a peer is not live, 2 where the node cannot be asked.
Colours are for terminals; NO_COLOR turns them off.")]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Again and again, with so many seconds in between
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
}

/// What the console says.
struct Status {
    node: Answer,
    peers: Answer,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let config = load(&args.file.config)?;
    block_on(async {
        match args.watch {
            None => {
                let status = Status::ask(&config).await.map_err(|e| {
                    eprintln!("pgcanon: {e}");
                    USAGE
                })?;
                print(&status.shown(args.json, colours()));
                if status.is_well() { Ok(ExitCode::SUCCESS) } else { Err(FAILED) }
            }
            Some(seconds) => loop {
                let shown = match Status::ask(&config).await {
                    Ok(status) => status.shown(args.json, colours()),
                    Err(e) if args.json => json!({ "error": e.to_string() }).to_string(),
                    Err(e) => format!("pgcanon: {e}"),
                };
                // A terminal is wiped, a file or a pipe gets one after the other.
                let wipe = if std::io::stdout().is_terminal() && !args.json { "\x1b[H\x1b[2J" } else { "" };
                if !print(&format!("{wipe}{shown}")) {
                    return Ok(ExitCode::SUCCESS);
                }
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            },
        }
    })?
}

fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// False where nobody reads any more.
fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

// === impl Status ===

impl Status {
    async fn ask(config: &Config) -> Result<Self, ConsoleError> {
        let client = connect(config, May::Look).await?;
        Ok(Self { node: ask(&client, "show status").await?, peers: ask(&client, "show peers").await? })
    }

    fn is_well(&self) -> bool {
        (0..self.peers.rows.len()).all(|row| self.peers.get(row, "state") == "live")
    }

    fn shown(&self, json: bool, colours: bool) -> String {
        if !json {
            return self.text(colours);
        }
        let mut object = self.node.objects().into_iter().next().unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut object {
            fields.insert("peers".to_owned(), self.peers.objects().into());
        }
        object.to_string()
    }

    fn text(&self, colours: bool) -> String {
        let of = |column: &str| plain(self.node.get(0, column));
        let tick = match self.node.get(0, "tick") {
            Value::Null if self.node.get(0, "capturing") == &Value::Bool(true) => "no tick yet".to_owned(),
            Value::Null => "nothing is captured: there is no [[table]] rule".to_owned(),
            tick => format!("tick {tick}"),
        };
        let head = format!("node {}, pgcanon {}, {tick}, {} sessions", of("node"), of("version"), of("sessions"));
        if self.peers.rows.is_empty() {
            return format!("{head}\nno peers");
        }
        let row = |row: usize| {
            let of = |column: &str| plain(self.peers.get(row, column));
            let lag = match (self.peers.get(row, "lag_ticks"), self.peers.get(row, "lag_seconds").as_f64()) {
                (Value::Null, None) => "?".to_owned(),
                (ticks, seconds) => {
                    let seconds = seconds.map(span).unwrap_or_default();
                    if ticks.is_null() { format!("> {seconds}") } else { format!("{ticks} ticks, {seconds}") }
                }
            };
            let queue = match self.peers.get(row, "queue_rows").as_i64() {
                None => "?".to_owned(),
                Some(0) => "-".to_owned(),
                Some(rows) => {
                    let bytes = self.peers.get(row, "queue_bytes").as_f64().unwrap_or(0.0);
                    let age = self.peers.get(row, "queue_seconds").as_f64().map(span).unwrap_or_default();
                    format!("{rows} rows, {}, {age}", size(bytes))
                }
            };
            vec![of("peer"), of("state"), lag, queue, of("transactions"), of("retries"), of("trouble")]
        };
        let rows: Vec<Vec<String>> = (0..self.peers.rows.len()).map(row).collect();
        let heads = ["peer", "state", "lag", "queue", "transactions", "retries", "trouble"];
        let mut lines = table(&heads, &rows).into_iter();
        let mut text = format!("{head}\n\n{}", lines.next().unwrap_or_default());
        for (line, row) in lines.zip(&rows) {
            let state = row.get(1).map(String::as_str).unwrap_or_default();
            text.push('\n');
            text.push_str(&if colours { painted(&line, state) } else { line });
        }
        text
    }
}

/// A row with its state in a colour: what is well, what will be, and what needs somebody.
fn painted(line: &str, state: &str) -> String {
    let colour = match state {
        "live" => 32,
        "connecting" | "draining" | "paused" | "parked" | "elsewhere" => 33,
        _ => 31,
    };
    line.replacen(&format!(" {state}"), &format!(" \x1b[{colour}m{state}\x1b[0m"), 1)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

fn size(bytes: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(unit, word)| format!("{:.1} {word}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, lag: Value, queue: (i64, i64, f64)) -> Status {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let node = Answer {
            columns: names(&["node", "version", "capturing", "tick", "sessions"]),
            rows: vec![vec!["a".into(), "1.0".into(), true.into(), 41.into(), 3.into()]],
        };
        let columns = names(&[
            "peer",
            "state",
            "lag_ticks",
            "lag_seconds",
            "queue_rows",
            "queue_bytes",
            "queue_seconds",
            "transactions",
            "retries",
            "trouble",
        ]);
        let trouble = if state == "live" { Value::Null } else { "away".into() };
        let (rows, bytes, age) = queue;
        let peer = ["b".into(), state.into(), lag, 150.0.into(), rows.into(), bytes.into(), age.into()];
        let peer = peer.into_iter().chain([7.into(), 0.into(), trouble]).collect();
        Status { node, peers: Answer { columns, rows: vec![peer] } }
    }

    #[test]
    fn people_read_a_table() {
        let away = status("spilling", 12.into(), (3, 4500, 61.0));
        assert!(!away.is_well() && status("live", 0.into(), (0, 0, 0.0)).is_well());
        assert_eq!(
            away.shown(false, false),
            "node a, pgcanon 1.0, tick 41, 3 sessions\n\n\
             peer  state     lag              queue                 transactions  retries  trouble\n\
             b     spilling  12 ticks, 2 min  3 rows, 4.5 kB, 61 s             7        0  away"
        );
        assert!(away.shown(false, true).contains("b     \x1b[31mspilling\x1b[0m  12"));
        assert!(status("spilling", Value::Null, (3, 4500, 61.0)).shown(false, false).contains("> 2 min"));
    }

    #[test]
    fn scripts_read_one_object() {
        let object: Value =
            serde_json::from_str(&status("live", 0.into(), (0, 0, 0.0)).shown(true, true)).unwrap_or_default();
        assert_eq!(
            (&object["node"], &object["tick"], &object["peers"][0]["state"]),
            (&"a".into(), &41.into(), &"live".into())
        );
    }
}
