//! The subcommands: each reads its arguments, calls, and prints.

mod check;
mod console;
mod demo;
mod init;
mod journal;
mod queue;
mod run;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// It did not hold: a check failed, nodes differ.
const FAILED: u8 = 1;
/// The command line, the configuration or the environment has to be mended first.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "pgcanon",
    version,
    about = "A PostgreSQL proxy that lets every node's changes be followed by its peers, in order and exactly once",
    after_help = "Exit codes: 0 done; 1 it did not hold (a failed check, a peer that is not live); 2 usage, configuration or environment."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy in front of this node
    Run(run::Args),
    /// Check the configuration, its files and the server, without serving anybody
    Check(check::Args),
    /// Make schema pgcanon in the node's database, bring it up to date, or remove it
    Init(init::Args),
    /// Look into this node's journal
    Journal(journal::Args),
    /// Show how the running node and its peers stand
    Status(status::Args),
    /// See and steer what waits for peers that cannot take it
    Queue(queue::Args),
    /// Start three nodes from nothing, run pgbench on all, kill one and bring it back, prove that all are equal, and clean up
    Demo(demo::Args),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The node's configuration file
    #[arg(short, long, value_name = "FILE", default_value = "config/pgcanon.toml", env = "PGCANON_CONFIG")]
    config: PathBuf,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Init(args) => init::run(args),
        Command::Journal(args) => journal::run(args),
        Command::Status(args) => status::run(args),
        Command::Queue(args) => queue::run(args),
        Command::Demo(args) => demo::run(args),
    };
    done.unwrap_or_else(ExitCode::from)
}

/// Loads a configuration or says, line by line, what is wrong with it.
fn load(path: &Path) -> Result<Config, u8> {
    Config::load(path).map_err(|errors| {
        eprintln!("{errors}");
        USAGE
    })
}

/// Runs async work on this thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, u8> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(e) => {
            eprintln!("pgcanon: cannot start: {e}");
            Err(USAGE)
        }
    }
}
