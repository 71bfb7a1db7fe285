//! `pgcanon demo`.

use std::process::ExitCode;

use crate::cli::{FAILED, USAGE};
use crate::cluster::demo::{DemoError, Options, demo};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon demo
  pgcanon demo --seconds 30 --bindir /usr/lib/postgresql/17/bin")]
pub(super) struct Args {
    /// How long each load runs
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Where initdb, postgres, psql and pgbench are [default: found on this machine]
    #[arg(long, value_name = "DIR")]
    bindir: Option<std::path::PathBuf>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    match demo(&Options { seconds: args.seconds.max(1), bindir: args.bindir }) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e @ (DemoError::NoPostgres | DemoError::NoUser)) => {
            eprintln!("pgcanon: {e}");
            Err(USAGE)
        }
        Err(e) => {
            eprintln!("pgcanon: {e}");
            Err(FAILED)
        }
    }
}
