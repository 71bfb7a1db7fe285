//! `pgcanon demo`.

use std::process::ExitCode;

use crate::cli::{FAILED, USAGE, block_on};
use crate::cluster::demo::{DemoError, Options, demo};

/// As shells say it of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon demo
  pgcanon demo --keep                     # the nodes stay until Ctrl-C; it says how to reach them
  pgcanon demo --seconds 60 --bindir /usr/lib/postgresql/17/bin

Everything it starts listens on 127.0.0.1 and lives in a temporary directory; both are gone when it ends. Exit code 1 where
the nodes are not equal.")]
pub(super) struct Args {
    /// How long the load runs; a node is down for the second third of it
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(6..=3600))]
    seconds: u64,
    /// Clients of each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
    clients: u32,
    /// pgbench's scale: so many times 100 000 accounts, and so many branches that all clients contend for
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale: u32,
    /// Where initdb, postgres and pgbench are [default: found on this machine]
    #[arg(long, value_name = "DIR")]
    bindir: Option<std::path::PathBuf>,
    /// Keep the nodes running afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let Args { seconds, clients, scale, bindir, keep } = args;
    let options = Options { seconds, clients, scale, bindir, keep };
    match block_on(demo(&options))? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // It has been said.
        Err(DemoError::Unequal(_)) => Err(FAILED),
        Err(e) => {
            eprintln!("pgcanon: {e}");
            Err(match e {
                DemoError::NoPostgres | DemoError::NoUser => USAGE,
                DemoError::Interrupted => INTERRUPTED,
                _ => FAILED,
            })
        }
    }
}
