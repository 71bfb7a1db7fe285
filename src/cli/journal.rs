//! `pgcanon journal`: what stands in this node's journal.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use crate::catalog::{ControlError, ControlSettings};
use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::config::Config;
use crate::journal::dump::{DumpError, Json, Range, Sql, dump};
use crate::journal::key::KeyError;
use crate::journal::{AccessError, Key, Reader, Renderer, TickId, access};
use crate::session::liveness;
use crate::wire::tls::TlsError;

/// Characters of a constant that are shown without `--full`.
const SHOWN: usize = 200;

const DUMP_HELP: &str = "\
The SQL is for people: constants are cut at 200 characters (…), of a longer COPY only the first lines are shown. With --full \
it can be run by psql, with the tables as they were before. Statements that travel as text are shown with the tables' full names and \
with their parameters in place; rows as the INSERT, UPDATE or DELETE that makes them.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print what was captured, tick by tick, in the order in which it is to be applied: as SQL, or as JSON for tools
    #[command(after_help = DUMP_HELP)]
    Dump(Dump),
}

#[derive(Debug, clap::Args)]
struct Dump {
    #[command(flatten)]
    file: ConfigFile,
    /// Begin with this tick [default: the oldest in the journal]
    #[arg(long, value_name = "TICK", value_parser = clap::value_parser!(i64).range(1..))]
    from: Option<i64>,
    /// End with this tick [default: the newest]
    #[arg(long, value_name = "TICK", value_parser = clap::value_parser!(i64).range(1..))]
    to: Option<i64>,
    /// Print what is committed and in no tick yet, too: its order is not settled
    #[arg(long, conflicts_with = "to")]
    pending: bool,
    /// Print one JSON object per entry and line
    #[arg(long)]
    json: bool,
    /// Print long constants and all data of COPY, too, so that the SQL can be run
    #[arg(long, conflicts_with = "json")]
    full: bool,
}

/// Why the journal cannot be read.
#[derive(Debug, thiserror::Error)]
enum JournalError {
    #[error("`control` is missing in [node] of the configuration: the journal is read over that connection")]
    NoControl,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Dump(#[from] DumpError),
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let Command::Dump(args) = args.command;
    let config = load(&args.file.config)?;
    match block_on(print(&config, &args))? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever reads has seen enough.
        Err(JournalError::Dump(DumpError::Write(e))) if e.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("pgcanon: {e}");
            Err(if matches!(e, JournalError::Dump(_)) { FAILED } else { USAGE })
        }
    }
}

async fn print(config: &Config, args: &Dump) -> Result<(), JournalError> {
    let conninfo = config.node.control.as_ref().ok_or(JournalError::NoControl)?;
    let settings = ControlSettings::load(conninfo, config.node.connect_timeout, liveness(&config.node))?;
    let of_file = config.node.cluster_key_file.as_deref().map(Key::load).transpose()?;
    let client = settings.connect().await?;
    let key = access::key(&client, of_file.as_ref()).await?;
    let mut reader = Reader::new(client, key);
    let range = Range { from: args.from.map(TickId), to: args.to.map(TickId), pending: args.pending };
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        dump(&mut reader, range, &mut Json::new(&mut out)).await?;
    } else {
        // The reader's connection is busy with its snapshot.
        let limit = if args.full { None } else { Some(SHOWN) };
        let renderer = Renderer::new(settings.connect().await?, limit);
        dump(&mut reader, range, &mut Sql::new(&mut out, renderer)).await?;
    }
    out.flush().map_err(DumpError::from)?;
    Ok(())
}
