//! `pgcanon queue`: what waits for peers that cannot take it, and what is to become of it (§6.1).

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;

use futures_util::TryStreamExt;
use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::cli::console::{ConsoleError, ask, connect, plain, table};
use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::config::{May, NodeName};

/// Longer SQL is cut where people read it.
const SHOWN: usize = 60;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon queue list --peer b --config /etc/pgcanon/a.toml       # what waits, oldest first
  pgcanon queue deal 1000 --config /etc/pgcanon/a.toml           # apply that many rows now, all or nothing for each peer
  pgcanon queue deal 1000 --dry-run --config /etc/pgcanon/a.toml # whether the peers would take them; nothing of it stays
  pgcanon queue skip 17 18 --config /etc/pgcanon/a.toml          # leave these rows out; pgcanon.conflict keeps a record
  pgcanon queue edit 17 --sql \"update public.t set v = 'x' where id = 1\" --config /etc/pgcanon/a.toml
  pgcanon queue export b --config /etc/pgcanon/a.toml > b.sql    # a script for psql, one block per source transaction

It asks the console of the running node (node.admin). A queue drains by itself as soon as its peer takes what is in it; what stands
in the way is tried again every few seconds. Exit code 1 where the console refused, or a row was not there.")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what waits, in order
    List(List),
    /// Apply so many rows, in order
    Deal(Deal),
    /// Take rows out of the queue
    Skip(Skip),
    /// Run another SQL text on the peer in a row's place
    Edit(Edit),
    /// Print what waits for a peer as a script
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// Of this peer only
    #[arg(long, value_name = "NAME", value_parser = peer)]
    peer: Option<NodeName>,
    /// No more rows than that
    #[arg(long, value_name = "ROWS", default_value = "50")]
    limit: u32,
    /// One JSON object a line, with the whole SQL
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Deal {
    #[command(flatten)]
    file: ConfigFile,
    /// How many, over all peers in the order of their names
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    rows: i64,
    /// Have the peers execute them and roll it back
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Skip {
    #[command(flatten)]
    file: ConfigFile,
    /// Their numbers, as `list` shows them
    #[arg(required = true)]
    ids: Vec<i64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(id = "text", required = true, multiple = false, args = ["sql", "from"])]
struct Edit {
    #[command(flatten)]
    file: ConfigFile,
    /// Its number, as `list` shows it
    id: i64,
    /// One statement, with full names (schema.table)
    #[arg(long, value_name = "SQL")]
    sql: Option<String>,
    /// The statement is in this file (- is standard input)
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    file: ConfigFile,
    /// Whose queue
    #[arg(value_parser = peer)]
    peer: NodeName,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

fn peer(name: &str) -> Result<NodeName, String> {
    NodeName::new(name).ok_or_else(|| "no node can have this name".to_owned())
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let (file, may) = match &args.command {
        Command::List(args) => (&args.file, May::Look),
        Command::Export(args) => (&args.file, May::Look),
        Command::Deal(args) => (&args.file, May::Act),
        Command::Skip(args) => (&args.file, May::Act),
        Command::Edit(args) => (&args.file, May::Act),
    };
    let config = load(&file.config)?;
    let done = block_on(async {
        let client = connect(&config, may).await?;
        match &args.command {
            Command::List(args) => list(&client, args).await,
            Command::Deal(args) => deal(&client, args).await,
            Command::Skip(args) => skip(&client, args).await,
            Command::Edit(args) => edit(&client, args).await,
            Command::Export(args) => export(&client, args).await,
        }
    })?;
    match done {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Err(FAILED),
        // Whoever reads has seen enough.
        Err(QueueError::Write(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("pgcanon: {e}");
            Err(if matches!(e, QueueError::Console(ConsoleError::Said(_))) { FAILED } else { USAGE })
        }
    }
}

async fn list(client: &Client, args: &List) -> Result<bool, QueueError> {
    let of = args.peer.as_ref().map(|peer| format!(" where dst_server = '{peer}'")).unwrap_or_default();
    let sql = format!("select * from sync_err_rec{of} order by id limit {}", args.limit);
    let answer = ask(client, &sql).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        answer.objects().iter().try_for_each(|object| writeln!(out, "{object}"))?;
        return Ok(out.flush().map(|()| true)?);
    }
    let row = |row: usize| {
        let of = |column: &str| plain(answer.get(row, column));
        let table = format!("{}.{}", of("nsp_name"), of("table_name"));
        let trouble = [of("sqlstate"), of("message")].join(" ").trim().to_owned();
        vec![of("id"), of("dst_server"), table, one_line(&of("dst_query")), of("attempts"), trouble]
    };
    let rows: Vec<Vec<String>> = (0..answer.rows.len()).map(row).collect();
    for line in table(&["id", "peer", "table", "query", "attempts", "trouble"], &rows) {
        writeln!(out, "{line}")?;
    }
    let all = ask(client, &format!("select count(*) from sync_err_rec{of}")).await?;
    writeln!(out, "{} of {} rows", rows.len(), plain(all.get(0, "count")))?;
    Ok(out.flush().map(|()| true)?)
}

fn one_line(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

async fn deal(client: &Client, args: &Deal) -> Result<bool, QueueError> {
    let function = if args.dry_run { "try_sync_err_rec" } else { "deal_sync_err_rec" };
    let answer = ask(client, &format!("select {function}({})", args.rows)).await?;
    let rows = answer.get(0, function);
    match (args.json, args.dry_run) {
        (true, false) => println!("{}", json!({ "applied": rows })),
        (true, true) => println!("{}", json!({ "applicable": rows })),
        (false, false) => println!("{rows} rows applied"),
        (false, true) => println!("{rows} rows can be applied"),
    }
    Ok(true)
}

async fn skip(client: &Client, args: &Skip) -> Result<bool, QueueError> {
    let mut all = true;
    for id in &args.ids {
        let answer = ask(client, &format!("select skip_sync_err_rec({id})")).await?;
        all &= told(*id, *answer.get(0, "skip_sync_err_rec") == true, "skipped", args.json);
    }
    Ok(all)
}

async fn edit(client: &Client, args: &Edit) -> Result<bool, QueueError> {
    let sql = match (&args.sql, &args.from) {
        (Some(sql), _) => sql.clone(),
        (None, from) => {
            let path = from.as_deref().unwrap_or(Path::new("-"));
            let text =
                if path == Path::new("-") { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(path) };
            text.map_err(|source| QueueError::Read { path: path.to_owned(), source })?
        }
    };
    let rows = client.query("select edit_sync_err_rec($1, $2)", &[&args.id, &sql]).await.map_err(ConsoleError::Said)?;
    let there = rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
    Ok(told(args.id, there, "edited", args.json))
}

fn told(id: i64, there: bool, done: &str, json: bool) -> bool {
    if json {
        println!("{}", json!({ "id": id, done: there }));
    } else if there {
        println!("{id} {done}");
    } else {
        eprintln!("pgcanon: there is no row {id} in the queue");
    }
    there
}

async fn export(client: &Client, args: &Export) -> Result<bool, QueueError> {
    // The simple protocol hands rows on as they come, however many there are.
    let sql = format!("select * from export_sync_err_rec('{}')", args.peer);
    let mut rows = pin!(client.simple_query_raw(&sql).await.map_err(ConsoleError::Said)?);
    let mut out = BufWriter::new(io::stdout().lock());
    while let Some(message) = rows.try_next().await.map_err(ConsoleError::Said)? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let text = row.get(0).unwrap_or_default();
        if args.json {
            writeln!(out, "{}", json!({ "sql": text }))?;
        } else {
            writeln!(out, "{text}")?;
        }
    }
    Ok(out.flush().map(|()| true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sql_is_one_short_line() {
        assert_eq!(one_line("select 1\n  from  t;"), "select 1 from t;");
        let long = one_line(&"ä".repeat(100));
        assert!(long.chars().count() == SHOWN + 1 && long.ends_with("ä…"), "{long}");
    }
}
